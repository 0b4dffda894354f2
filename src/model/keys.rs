//! One table: key × context → command, with the sentence that describes it.
//!
//! Dispatch ([`command`]), the footer ([`hints`]), the help screen ([`help`]) and the README ([`markdown`]) are
//! all read from [`BINDINGS`], so they can't disagree. To add a key, add a line there.

mod table;

use std::fmt;

use super::event::Command;
use super::screen::{Mode, PaneId, Screen};
pub use table::BINDINGS;

/// A key without its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// A character, shift already applied.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Tab.
    Tab,
    /// Shift-tab.
    BackTab,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
}

/// A key as pressed; the shell converts its terminal library's keys into this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Which.
    pub code: Code,
    /// With control.
    pub ctrl: bool,
    /// With alt.
    pub alt: bool,
}

impl Key {
    /// A key without modifiers.
    #[must_use]
    pub const fn plain(code: Code) -> Self {
        Self {
            code,
            ctrl: false,
            alt: false,
        }
    }

    /// A character.
    #[must_use]
    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    /// Control and a character.
    #[must_use]
    pub const fn ctrl(c: char) -> Self {
        Self {
            code: Code::Char(c),
            ctrl: true,
            alt: false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("ctrl-")?;
        }
        if self.alt {
            f.write_str("alt-")?;
        }
        match self.code {
            Code::Char(' ') => f.write_str("space"),
            Code::Char(c) => write!(f, "{c}"),
            Code::Enter => f.write_str("enter"),
            Code::Esc => f.write_str("esc"),
            Code::Backspace => f.write_str("backspace"),
            Code::Delete => f.write_str("delete"),
            Code::Tab => f.write_str("tab"),
            Code::BackTab => f.write_str("shift-tab"),
            Code::Up => f.write_str("up"),
            Code::Down => f.write_str("down"),
            Code::Left => f.write_str("left"),
            Code::Right => f.write_str("right"),
            Code::PageUp => f.write_str("pgup"),
            Code::PageDown => f.write_str("pgdn"),
            Code::Home => f.write_str("home"),
            Code::End => f.write_str("end"),
        }
    }
}

/// Where a binding holds. Several hold at once; [`contexts`] gives them in the order they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// On the wall, where nothing else holds.
    Wall,
    /// Everywhere, also while typing.
    Always,
    /// In every pane, and in what lies above it unless that says otherwise.
    Anywhere,
    /// In one pane.
    In(PaneId),
    /// While a recording plays.
    Replay,
    /// In the details of something, in an explanation.
    Details,
    /// In the help.
    Help,
    /// Where a question waits for yes or no.
    Confirm,
    /// Where a yes must be typed.
    Word,
    /// While a filter or a command is typed.
    Typing,
    /// While a filter is typed.
    Filter,
    /// While a command is typed.
    CommandLine,
}

impl Context {
    /// Heading in the help and the README.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Wall => "With --kiosk, alone",
            Self::Always => "Always",
            Self::Anywhere => "In every pane",
            Self::In(p) => p.id(),
            Self::Replay => "In a recording",
            Self::Details => "In details",
            Self::Help => "In the help",
            Self::Confirm => "When asked",
            Self::Word => "Where a yes is typed",
            Self::Typing => "While typing",
            Self::Filter => "In a filter",
            Self::CommandLine => "In the command line",
        }
    }
}

/// A line of the table.
#[derive(Debug)]
pub struct Binding {
    /// Keys that do the same.
    pub keys: &'static [Key],
    /// Where.
    pub context: Context,
    /// What it means.
    pub make: fn() -> Command,
    /// Describes it in the help and the README.
    pub doc: &'static str,
    /// Word in the footer; empty where the footer stays silent about it.
    pub hint: &'static str,
}

/// The contexts that hold now, most particular first.
#[must_use]
pub fn contexts(screen: &Screen) -> Vec<Context> {
    use Context::{
        Always, Anywhere, CommandLine, Confirm, Details, Filter, Help, In, Replay, Typing, Word,
    };
    if screen.kiosk.is_some() {
        return vec![Context::Wall];
    }
    let mut all = match screen.mode() {
        Mode::Normal => vec![In(screen.pane), Anywhere, Always],
        Mode::Drill | Mode::Explain => vec![Details, Anywhere, Always],
        Mode::Help => vec![Help, Anywhere, Always],
        Mode::Confirm(_) => vec![Confirm, Always],
        Mode::Word => vec![Word, Typing, Always],
        Mode::Filter => vec![Filter, Typing, Always],
        Mode::CommandLine => vec![CommandLine, Typing, Always],
    };
    if screen.replay.is_some()
        && let Some(at) = all.iter().position(|c| *c == Anywhere)
    {
        all.insert(at, Replay);
    }
    all
}

/// What a key means now.
#[must_use]
pub fn command(screen: &Screen, key: Key) -> Option<Command> {
    let contexts = contexts(screen);
    for context in &contexts {
        if let Some(b) = BINDINGS
            .iter()
            .find(|b| b.context == *context && b.keys.contains(&key))
        {
            return Some((b.make)());
        }
    }
    match key.code {
        Code::Char(c) if contexts.contains(&Context::Typing) && !key.ctrl && !key.alt => {
            Some(Command::Insert(c))
        }
        _ => None,
    }
}

/// Bindings that hold now, each with the keys that no more particular context took, most particular first.
fn live(screen: &Screen) -> Vec<(&'static Binding, Vec<Key>)> {
    let mut taken: Vec<Key> = Vec::new();
    let mut out = Vec::new();
    for context in contexts(screen) {
        let mut here: Vec<Key> = Vec::new();
        for b in BINDINGS.iter().filter(|b| b.context == context) {
            let keys: Vec<Key> = b
                .keys
                .iter()
                .copied()
                .filter(|k| !taken.contains(k))
                .collect();
            here.extend_from_slice(&keys);
            if !keys.is_empty() {
                out.push((b, keys));
            }
        }
        taken.extend(here);
    }
    out
}

/// For the footer: keys that do something now, and a word for each.
#[must_use]
pub fn hints(screen: &Screen) -> Vec<(String, &'static str)> {
    live(screen)
        .into_iter()
        .filter(|(b, _)| !b.hint.is_empty() && screen.can(&(b.make)()))
        .filter_map(|(b, keys)| keys.first().map(|k| (k.to_string(), b.hint)))
        .collect()
}

/// One line of the help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelpLine {
    /// Where the binding holds.
    pub context: Context,
    /// Keys, separated by spaces.
    pub keys: String,
    /// What it does.
    pub doc: &'static str,
}

/// For the help: every key that works where the help was called from.
#[must_use]
pub fn help(screen: &Screen) -> Vec<HelpLine> {
    let below = screen.below_help();
    live(&below)
        .into_iter()
        .map(|(b, keys)| HelpLine {
            context: b.context,
            keys: names(&keys),
            doc: b.doc,
        })
        .collect()
}

fn names(keys: &[Key]) -> String {
    keys.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// For the README: the whole table.
#[must_use]
pub fn markdown() -> String {
    let mut contexts: Vec<Context> = Vec::new();
    for b in BINDINGS {
        if !contexts.contains(&b.context) {
            contexts.push(b.context);
        }
    }
    let mut out = String::from("| where | keys | what |\n|---|---|---|\n");
    for context in contexts {
        for b in BINDINGS.iter().filter(|b| b.context == context) {
            let keys: Vec<String> = b.keys.iter().map(|k| format!("`{k}`")).collect();
            out.push_str(&format!(
                "| {} | {} | {} |\n",
                context.title(),
                keys.join(" "),
                b.doc
            ));
        }
    }
    out
}
