//! One table: key × context → command, with the sentence that describes it.
//!
//! Dispatch ([`command`]), the footer ([`hints`]), the help screen ([`help`]) and the README ([`markdown`]) are
//! all read from [`BINDINGS`], so they can't disagree. To add a key, add a line there.

use std::fmt;

use super::event::Command;
use super::screen::{ALLREDUCE, CANCEL, ECHOES, Mode, PaneId, RECHECK, Screen};

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

const fn bind(
    keys: &'static [Key],
    context: Context,
    make: fn() -> Command,
    doc: &'static str,
    hint: &'static str,
) -> Binding {
    Binding {
        keys,
        context,
        make,
        doc,
        hint,
    }
}

/// The table. The order is that of the help and of the footer.
pub static BINDINGS: &[Binding] = {
    use Code::{
        BackTab, Backspace, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up,
    };
    use Command as C;
    use Context::{
        Always, Anywhere, CommandLine, Confirm, Details, Filter, Help, In, Replay, Typing, Word,
    };
    const fn k(code: Code) -> Key {
        Key::plain(code)
    }
    const fn c(ch: char) -> Key {
        Key::char(ch)
    }
    const fn ctrl(ch: char) -> Key {
        Key::ctrl(ch)
    }
    &[
        // One pane.
        bind(
            &[k(Enter)],
            In(PaneId::Overview),
            || C::Enter,
            "open the finding",
            "open",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Workloads),
            || C::Enter,
            "watch this workload",
            "watch",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Pods),
            || C::Enter,
            "containers, conditions and events of the pod",
            "open",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Ranks),
            || C::Enter,
            "the rank's process, communicators and environment",
            "open",
        ),
        bind(
            &[c('u')],
            In(PaneId::Ranks),
            || C::Toggle("each".into()),
            "fold alike ranks, or show each",
            "each",
        ),
        bind(
            &[c('v')],
            In(PaneId::Ranks),
            || C::Toggle("grid".into()),
            "the layout over nodes and GPUs, and what carries each group; or the list",
            "groups",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Vram),
            || C::Enter,
            "the GPU's curve and health, or the GPUs of the node",
            "open",
        ),
        bind(
            &[c('N')],
            In(PaneId::Vram),
            || C::Toggle("nodes".into()),
            "node by node, or GPU by GPU",
            "nodes",
        ),
        bind(
            &[c('B')],
            In(PaneId::Vram),
            || C::Toggle("big".into()),
            "big bars, to be read across a room",
            "big",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Checks),
            || C::Enter,
            "what was run, what came back, the fix",
            "open",
        ),
        bind(
            &[c('r')],
            In(PaneId::Checks),
            || C::Line(RECHECK.into()),
            "run this check again",
            "again",
        ),
        bind(
            &[c('R')],
            In(PaneId::Checks),
            || C::Line("recheck".into()),
            "run all checks again",
            "all again",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Findings),
            || C::Enter,
            "the finding with its proof",
            "open",
        ),
        bind(
            &[c('u')],
            In(PaneId::Findings),
            || C::Toggle(ECHOES.into()),
            "fold what follows from a finding under it, or show each",
            "each",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Env),
            || C::Enter,
            "which ranks have which value",
            "open",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Logs),
            || C::Enter,
            "the whole line and what was understood of it",
            "open",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Matrix),
            || C::Enter,
            "channels, paths and the lines behind the cell",
            "lines",
        ),
        bind(
            &[k(Tab)],
            In(PaneId::Matrix),
            || C::NextTab,
            "next communicator",
            "communicator",
        ),
        bind(
            &[k(BackTab)],
            In(PaneId::Matrix),
            || C::PrevTab,
            "previous communicator",
            "",
        ),
        bind(
            &[c('N')],
            In(PaneId::Matrix),
            || C::Toggle("nodes".into()),
            "node by node, or rank by rank",
            "nodes",
        ),
        bind(
            &[c('T')],
            In(PaneId::Matrix),
            || C::Toggle("trees".into()),
            "trees",
            "trees",
        ),
        bind(
            &[c('R')],
            In(PaneId::Matrix),
            || C::Toggle("rings".into()),
            "rings",
            "rings",
        ),
        bind(
            &[c('w')],
            In(PaneId::Logs),
            || C::Toggle("wrap".into()),
            "wrap long lines",
            "wrap",
        ),
        bind(
            &[c('u')],
            In(PaneId::Logs),
            || C::Toggle("unfold".into()),
            "fold repeats, or show each",
            "repeats",
        ),
        bind(
            &[c('r')],
            In(PaneId::Logs),
            || C::Toggle("raw".into()),
            "lines as they were written, or without stamps and heads",
            "raw",
        ),
        bind(
            &[c('f'), k(Tab)],
            In(PaneId::Logs),
            || C::End,
            "follow the newest line",
            "follow",
        ),
        bind(
            &[k(Enter)],
            In(PaneId::Test),
            || C::Enter,
            "plan, phases, ranks, failures and the manifest",
            "open",
        ),
        bind(
            &[c('a')],
            In(PaneId::Test),
            || C::Line(ALLREDUCE.into()),
            "run the all-reduce test; asks first",
            "run",
        ),
        bind(
            &[c('x')],
            In(PaneId::Test),
            || C::Line(CANCEL.into()),
            "end the test before its time; asks first",
            "cancel",
        ),
        bind(
            &[c('m')],
            In(PaneId::Test),
            || C::Toggle("matrices".into()),
            "the transports of the test beside those of the workload",
            "matrices",
        ),
        // A recording.
        bind(
            &[c('P')],
            Replay,
            || C::Line("pause".into()),
            "stand still, or go on",
            "pause",
        ),
        bind(
            &[c('.')],
            Replay,
            || C::Line("step".into()),
            "one event, then stand still",
            "step",
        ),
        bind(
            &[c(',')],
            Replay,
            || C::Line("step -1".into()),
            "one event back",
            "",
        ),
        bind(
            &[c('>')],
            Replay,
            || C::Line("speed +".into()),
            "faster",
            "faster",
        ),
        bind(
            &[c('<')],
            Replay,
            || C::Line("speed -".into()),
            "slower",
            "",
        ),
        bind(
            &[c(')')],
            Replay,
            || C::Line("seek +10s".into()),
            "ten seconds on",
            "seek",
        ),
        bind(
            &[c('(')],
            Replay,
            || C::Line("seek -10s".into()),
            "ten seconds back",
            "",
        ),
        bind(
            &[c('F')],
            Replay,
            || C::Line("next-finding".into()),
            "to where the next finding joins",
            "next finding",
        ),
        // What lies above a pane.
        bind(
            &[k(Esc), c('q'), k(Backspace)],
            Details,
            || C::Back,
            "back",
            "back",
        ),
        bind(
            &[k(Esc), c('q'), c('?'), k(Enter), k(Backspace)],
            Help,
            || C::Back,
            "back",
            "back",
        ),
        bind(
            &[c('y'), c('Y')],
            Confirm,
            || C::Confirm(true),
            "yes",
            "yes",
        ),
        bind(
            &[c('n'), c('N'), c('q'), k(Esc)],
            Confirm,
            || C::Confirm(false),
            "no",
            "no",
        ),
        bind(
            &[k(Up), c('k')],
            Confirm,
            || C::Up,
            "up, where there is more to read",
            "",
        ),
        bind(
            &[k(Down), c('j'), c(' ')],
            Confirm,
            || C::Down,
            "down, where there is more to read",
            "",
        ),
        bind(&[k(PageUp)], Confirm, || C::PageUp, "a page up", ""),
        bind(&[k(PageDown)], Confirm, || C::PageDown, "a page down", ""),
        bind(
            &[k(Enter)],
            Word,
            || C::Submit,
            "yes, if it is the word",
            "yes",
        ),
        bind(&[k(Esc)], Word, || C::Back, "no", "no"),
        // Every pane.
        bind(
            &[c('d')],
            Anywhere,
            || C::Explain,
            "explain what is selected",
            "explain",
        ),
        bind(
            &[c('c')],
            Anywhere,
            || C::Copy,
            "copy what is selected (OSC 52)",
            "copy",
        ),
        bind(
            &[c('e')],
            Anywhere,
            || C::NextProblem,
            "next problem",
            "problem",
        ),
        bind(
            &[c('E')],
            Anywhere,
            || C::PrevProblem,
            "previous problem",
            "",
        ),
        bind(
            &[c('p')],
            Anywhere,
            || C::Point,
            "point at what is selected; again: no more",
            "",
        ),
        bind(&[c('/')], Anywhere, || C::StartFilter, "filter", "filter"),
        bind(
            &[c(':')],
            Anywhere,
            || C::StartCommand,
            "command line",
            "command",
        ),
        bind(
            &[c('?')],
            Anywhere,
            || C::Help,
            "keys that work here",
            "keys",
        ),
        bind(
            &[k(Esc), k(Backspace)],
            Anywhere,
            || C::Back,
            "back; never quits",
            "",
        ),
        bind(
            &[c('q')],
            Anywhere,
            || C::AskQuit,
            "back, and asks to quit at the top",
            "",
        ),
        bind(&[k(Up), c('k')], Anywhere, || C::Up, "up", ""),
        bind(&[k(Down), c('j')], Anywhere, || C::Down, "down", ""),
        bind(&[k(Left), c('h')], Anywhere, || C::Left, "left", ""),
        bind(&[k(Right), c('l')], Anywhere, || C::Right, "right", ""),
        bind(
            &[k(PageUp), ctrl('b'), ctrl('u')],
            Anywhere,
            || C::PageUp,
            "a page up",
            "",
        ),
        bind(
            &[k(PageDown), ctrl('f'), ctrl('d'), c(' ')],
            Anywhere,
            || C::PageDown,
            "a page down",
            "",
        ),
        bind(&[k(Home), c('g')], Anywhere, || C::Home, "to the first", ""),
        bind(
            &[k(End), c('G')],
            Anywhere,
            || C::End,
            "to the last, and stay there",
            "",
        ),
        bind(
            &[c('0')],
            Anywhere,
            || C::Pane("overview".into()),
            "overview",
            "",
        ),
        bind(&[c('1')], Anywhere, || C::Pane("pods".into()), "pods", ""),
        bind(&[c('2')], Anywhere, || C::Pane("ranks".into()), "ranks", ""),
        bind(
            &[c('3')],
            Anywhere,
            || C::Pane("matrix".into()),
            "matrix",
            "",
        ),
        bind(&[c('4')], Anywhere, || C::Pane("vram".into()), "vram", ""),
        bind(
            &[c('5')],
            Anywhere,
            || C::Pane("checks".into()),
            "checks",
            "",
        ),
        bind(
            &[c('6')],
            Anywhere,
            || C::Pane("findings".into()),
            "findings",
            "",
        ),
        bind(&[c('7')], Anywhere, || C::Pane("test".into()), "test", ""),
        bind(&[c('8')], Anywhere, || C::Pane("logs".into()), "logs", ""),
        bind(&[c('9')], Anywhere, || C::Pane("env".into()), "env", ""),
        bind(&[c(']')], Anywhere, || C::NextPane, "next pane", ""),
        bind(&[c('[')], Anywhere, || C::PrevPane, "previous pane", ""),
        // Typing.
        bind(&[k(Enter)], Filter, || C::Submit, "keep the filter", "keep"),
        bind(&[k(Esc)], Filter, || C::Back, "as it was before", "drop"),
        bind(&[k(Enter)], CommandLine, || C::Submit, "run it", "run"),
        bind(&[k(Esc)], CommandLine, || C::Back, "leave", "leave"),
        bind(
            &[k(Tab)],
            CommandLine,
            || C::NextTab,
            "complete; again for the next",
            "complete",
        ),
        bind(
            &[k(BackTab)],
            CommandLine,
            || C::PrevTab,
            "the completion before",
            "",
        ),
        bind(
            &[k(Up), ctrl('p')],
            CommandLine,
            || C::Up,
            "the command before",
            "",
        ),
        bind(
            &[k(Down), ctrl('n')],
            CommandLine,
            || C::Down,
            "the command after",
            "",
        ),
        bind(
            &[k(Backspace), ctrl('h')],
            Typing,
            || C::Erase,
            "erase a character",
            "",
        ),
        bind(&[ctrl('w')], Typing, || C::EraseWord, "erase a word", ""),
        bind(&[k(Left), ctrl('b')], Typing, || C::Left, "left", ""),
        bind(&[k(Right), ctrl('f')], Typing, || C::Right, "right", ""),
        bind(
            &[k(Home), ctrl('a')],
            Typing,
            || C::Home,
            "to the start",
            "",
        ),
        bind(&[k(End), ctrl('e')], Typing, || C::End, "to the end", ""),
        bind(&[c('q'), ctrl('c')], Context::Wall, || C::Quit, "quit", ""),
        // Always.
        bind(&[ctrl('c')], Always, || C::Quit, "quit", ""),
        bind(&[ctrl('z')], Always, || C::Suspend, "suspend", ""),
        bind(
            &[ctrl('s')],
            Always,
            || C::Save,
            "write the screen to a new file, as text",
            "",
        ),
        bind(&[ctrl('l')], Always, || C::Redraw, "repaint the screen", ""),
    ]
};

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
