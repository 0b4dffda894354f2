//! What the person in front of the screen did to it: pane, selection, filters, what is typed, what lies on top.
//!
//! [`Screen::apply`] is the only thing that changes it. It knows nothing of the data on screen except [`Counts`],
//! which the shell takes from the panes after each new scene and before each key (`screen.counts = …`): so a key
//! always moves in the rows that the person sees, and selection is clamped where it is read, never where rows come
//! and go. A selected row is an absolute number: panes that forget old rows raise [`Counts::first`] and the
//! selection stays on its row. [`LAST`] is the last row, whatever comes: that is how logs are followed.

mod asked;
mod cell;
mod counts;
mod cursor;
mod line;
mod pane;
mod present;
mod typed;

pub use cell::MatrixState;
pub use counts::{Counts, Ranks};
pub use cursor::Cursor;
pub use pane::PaneId;
pub use present::Mark;
pub use typed::Typed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::event::{Command, Effect, Errand, Position, Question, Recording};
use super::kiosk::Kiosk;
use crate::parse::Nanos;

/// Selects the last row, also when more come.
pub const LAST: usize = usize::MAX;

/// The command that runs the all-reduce test.
pub const ALLREDUCE: &str = "allreduce";
/// Runs the selected check again.
pub const RECHECK: &str = "recheck .";
/// Toggle of the findings pane: what follows from another finding is listed, too.
pub const ECHOES: &str = "echoes";
/// What is selected, as a word of a command.
const THIS: &str = ".";
/// The command that ends it before its time.
pub const CANCEL: &str = "allreduce cancel";

/// How many ticks (seconds) a message stays: long enough to be read aloud.
const NOTE_FOR: u8 = 6;

/// How many of them the first words stay.
const WELCOME_FOR: u8 = 60;

/// Command lines remembered.
const HISTORY: usize = 100;

/// What a yes would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Leave the program.
    Quit,
    /// Do what [`Screen::question`] says.
    Errand,
}

/// What the keys talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The pane.
    Normal,
    /// A filter is typed.
    Filter,
    /// A command is typed.
    CommandLine,
    /// The word that says yes to [`Screen::question`] is typed.
    Word,
    /// The help lies on top.
    Help,
    /// A question waits.
    Confirm(Ask),
    /// The explanation of what is selected lies on top.
    Explain,
    /// The details of what is selected.
    Drill,
}

/// A list's state: one per pane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaneState {
    /// Where one is.
    pub cursor: Cursor,
    /// What is filtered for; empty: nothing.
    pub filter: String,
}

/// A message in the footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub text: String,
    /// Something went wrong.
    pub bad: bool,
    left: u8,
    /// The next key takes it away.
    goes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    mode: Mode,
    cursor: Cursor,
    /// The filter as it was before it was typed at.
    undo: String,
    mark: Option<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Completion {
    lines: Vec<String>,
    at: usize,
}

/// State of the screen; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Screen {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// The pane on screen.
    pub pane: PaneId,
    /// State of the matrix.
    pub matrix: MatrixState,
    /// What is typed in a filter or a command.
    pub typed: Typed,
    /// The message in the footer.
    pub note: Option<Note>,
    /// Theme in use.
    pub theme: String,
    /// Themes there are, for completion.
    pub themes: Vec<String>,
    /// What the keys act on.
    pub counts: Counts,
    /// Where the recording on screen stands, if it is one.
    pub replay: Option<Position>,
    /// The recording that is being made, if one is.
    pub recording: Option<Recording>,
    /// The wall, where nobody sits in front of it.
    pub kiosk: Option<Kiosk>,
    panes: BTreeMap<PaneId, PaneState>,
    toggles: BTreeSet<String>,
    trail: Vec<PaneId>,
    layers: Vec<Layer>,
    history: Vec<String>,
    recalled: Option<usize>,
    completion: Option<Completion>,
    questions: VecDeque<Question>,
    marks: BTreeMap<PaneId, Mark>,
    pressed: VecDeque<(String, u8)>,
}

impl Screen {
    /// A screen of that size; logs are followed.
    #[must_use]
    pub fn new(w: u16, h: u16) -> Self {
        let mut screen = Self {
            size: (w, h),
            ..Self::default()
        };
        for follows in [PaneId::Logs, PaneId::Test] {
            screen.panes.entry(follows).or_default().cursor.selected = LAST;
        }
        screen
    }

    /// What the keys talk to.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.layers.last().map_or(Mode::Normal, |l| l.mode)
    }

    /// Everything that lies on the pane, lowest first.
    pub fn modes(&self) -> impl Iterator<Item = Mode> + '_ {
        self.layers.iter().map(|l| l.mode)
    }

    /// State of a pane.
    #[must_use]
    pub fn list(&self, pane: PaneId) -> PaneState {
        self.panes.get(&pane).cloned().unwrap_or_default()
    }

    /// Where one is in the list that has the keys: that of the pane, or of the details, explanation or help above it.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.layers
            .iter()
            .rev()
            .find(|l| l.scrolls())
            .map_or_else(|| self.list(self.pane).cursor, |l| l.cursor)
    }

    /// What this pane is filtered for.
    #[must_use]
    pub fn filter(&self) -> &str {
        self.panes.get(&self.pane).map_or("", |p| p.filter.as_str())
    }

    /// Whether something that can be toggled is: `nodes`, `rings`, `trees`, `wrap`.
    #[must_use]
    pub fn is_on(&self, toggle: &str) -> bool {
        self.toggles.contains(toggle)
    }

    /// Lines that the command being typed could become, and which of them is in place.
    #[must_use]
    pub fn completions(&self) -> (&[String], usize) {
        self.completion
            .as_ref()
            .map_or((&[], 0), |c| (c.lines.as_slice(), c.at))
    }

    /// Whether a command would do something now; the footer shows only those.
    #[must_use]
    pub fn can(&self, command: &Command) -> bool {
        let c = &self.counts;
        let something = if self.pane == PaneId::Matrix {
            !c.axis.is_empty()
        } else {
            c.rows > 0
        };
        match command {
            Command::Enter | Command::Point => something,
            Command::Explain => something && self.mode() != Mode::Explain,
            Command::Copy => c.copy.is_some(),
            Command::NextProblem | Command::PrevProblem => {
                !c.problems.is_empty() || !c.bad_cells.is_empty()
            }
            Command::NextTab | Command::PrevTab => {
                self.mode() == Mode::CommandLine || c.tabs.len() > 1
            }
            Command::StartFilter => self.mode() == Mode::Normal,
            Command::Help => self.mode() != Mode::Help,
            Command::Toggle(_) if self.pane == PaneId::Matrix => something,
            Command::Toggle(_) if self.pane == PaneId::Test => !c.tabs.is_empty(),
            Command::Toggle(what) if what == ECHOES => c.findings > c.causes,
            Command::Line(line) if line == ALLREDUCE => !c.testing,
            Command::Line(line) if line == CANCEL => c.testing,
            Command::Line(line) if line == RECHECK => c.check.is_some(),
            _ => true,
        }
    }

    /// The screen as it is beneath the help.
    #[must_use]
    pub fn below_help(&self) -> Self {
        let mut below = self.clone();
        below.layers.retain(|l| l.mode != Mode::Help);
        below
    }

    /// Another workload is on screen: nothing of the one before is selected, filtered or open.
    pub fn afresh(&mut self) {
        self.layers
            .retain(|l| matches!(l.mode, Mode::Confirm(_) | Mode::Word));
        self.panes.clear();
        self.panes.entry(PaneId::Logs).or_default().cursor.selected = LAST;
        self.chosen();
        self.trail.clear();
    }

    /// Somebody must choose a workload.
    pub fn choose(&mut self) {
        self.layers
            .retain(|l| matches!(l.mode, Mode::Confirm(_) | Mode::Word));
        self.trail.clear();
        if self.pane != PaneId::Workloads {
            self.trail.push(self.pane);
            self.pane = PaneId::Workloads;
        }
    }

    /// A workload is on screen: the pane from before the choice comes back.
    pub fn chosen(&mut self) {
        if self.pane == PaneId::Workloads {
            self.pane = self.trail.pop().unwrap_or_default();
        }
    }

    /// Says what somebody who sits here for the first time must know.
    pub fn welcome(&mut self) {
        self.note = Some(Note {
            text: "first time here: ? keys and signs   : commands   0-9 panes   q back".into(),
            bad: false,
            left: WELCOME_FOR,
            goes: true,
        });
    }

    /// Shows a message.
    pub fn say(&mut self, text: impl Into<String>, bad: bool) {
        self.note = Some(Note {
            text: text.into(),
            bad,
            left: NOTE_FOR,
            goes: false,
        });
    }

    /// The terminal has another size.
    pub fn resize(&mut self, w: u16, h: u16) {
        self.size = (w, h);
    }

    /// A second passed. True when that changed the screen. Seconds are counted rather than read from a clock, so that
    /// a recording shows a message for as long as the live screen did.
    pub fn tick(&mut self) -> bool {
        let faded = self.fade();
        let Some(note) = &mut self.note else {
            return faded;
        };
        note.left = note.left.saturating_sub(1);
        let over = note.left == 0;
        if over {
            self.note = None;
        }
        over || faded
    }

    /// A second passed on the wall, if this is one: another pane's turn, another workload's.
    pub fn rotate(&mut self, at: Nanos) -> Vec<Effect> {
        let Some(kiosk) = &mut self.kiosk else {
            return Vec::new();
        };
        let effects = kiosk.tick(at, self.counts.bad.as_ref());
        self.pane = kiosk.pane();
        effects
    }

    /// Does what the person meant.
    pub fn apply(&mut self, command: &Command) -> Vec<Effect> {
        self.note.take_if(|note| note.goes);
        let effects = self.obey(command);
        self.put();
        effects
    }

    fn obey(&mut self, command: &Command) -> Vec<Effect> {
        match self.mode() {
            Mode::Word if self.typed.edit(command) => return Vec::new(),
            // Leaving the word is a no; it is the question that was asked.
            Mode::Word if *command == Command::Back => {
                self.layers.pop();
                return self.confirm(false);
            }
            Mode::Filter if self.edit_filter(command) => return Vec::new(),
            Mode::CommandLine if self.edit_command(command) => return Vec::new(),
            Mode::Help if opens(command) => self.layers.retain(|l| l.mode != Mode::Help),
            _ => {}
        }
        match command {
            Command::Quit => return vec![Effect::Quit],
            Command::AskQuit => {
                if !self.back() {
                    self.open(Mode::Confirm(Ask::Quit));
                }
            }
            Command::Confirm(yes) => return self.confirm(*yes),
            Command::Back => {
                self.back();
            }
            Command::Pane(name) => match PaneId::named(name) {
                Some(pane) => self.visit(pane),
                None => self.say(format!("no pane `{name}`"), true),
            },
            Command::NextPane => self.visit(self.pane.beside(1)),
            Command::PrevPane => self.visit(self.pane.beside(-1)),
            Command::Up => self.step(-1, 0),
            Command::Down => self.step(1, 0),
            Command::Left => self.step(0, -1),
            Command::Right => self.step(0, 1),
            Command::PageUp => self.step(-self.page(), 0),
            Command::PageDown => self.step(self.page(), 0),
            Command::Home => self.step(isize::MIN, 0),
            Command::End => self.step(isize::MAX, 0),
            Command::Enter => return self.enter(),
            Command::NextTab => self.turn(1),
            Command::PrevTab => self.turn(-1),
            Command::StartFilter if self.mode() == Mode::Normal => {
                // The old one stays until something is typed, and comes back with the key for older lines.
                self.typed = Typed::default();
                self.open(Mode::Filter);
            }
            Command::StartCommand => {
                self.typed = Typed::default();
                self.recalled = None;
                self.completion = None;
                self.open(Mode::CommandLine);
            }
            Command::Submit => return self.submit(),
            Command::Help => self.open(Mode::Help),
            Command::Explain if self.can(command) => self.open(Mode::Explain),
            Command::Copy => return self.copy(),
            Command::NextProblem => self.problem(true),
            Command::PrevProblem => self.problem(false),
            Command::Toggle(what) => self.toggle(what),
            Command::Line(line) => return self.run(line),
            Command::Theme(name) => return vec![Effect::Theme(name.clone())],
            Command::Point => self.point(),
            Command::Redraw => return vec![Effect::Redraw],
            Command::Save => return vec![Effect::SaveScreen(None)],
            Command::Suspend => return vec![Effect::Suspend],
            Command::StartFilter
            | Command::Explain
            | Command::Insert(_)
            | Command::Paste(_)
            | Command::Erase
            | Command::EraseWord => {}
        }
        Vec::new()
    }

    fn open(&mut self, mode: Mode) {
        if self.mode() != mode {
            let undo = self.filter().to_owned();
            self.layers.push(Layer {
                mode,
                cursor: Cursor::default(),
                undo,
                mark: None,
            });
        }
    }

    /// One step back; false when there is nowhere to go.
    fn back(&mut self) -> bool {
        if let Some(top) = self.layers.pop() {
            if top.mode == Mode::Filter {
                self.set_filter(top.undo);
            }
            return true;
        }
        if !self.filter().is_empty() {
            self.set_filter(String::new());
            return true;
        }
        if self.pane == PaneId::Matrix && self.matrix.zoom.take().is_some() {
            return true;
        }
        // Nothing lies behind the choice.
        if self.pane == PaneId::Workloads {
            return false;
        }
        if let Some(pane) = self.trail.pop() {
            self.pane = pane;
            return true;
        }
        let moved = self.pane != PaneId::Overview;
        self.pane = PaneId::Overview;
        moved
    }

    fn visit(&mut self, pane: PaneId) {
        self.trail.clear();
        self.layers.clear();
        self.pane = pane;
    }

    /// Goes to a pane from which `back` returns here.
    fn jump(&mut self, pane: PaneId) {
        self.layers.clear();
        if self.pane != pane {
            self.trail.push(self.pane);
            self.pane = pane;
        }
    }

    fn page(&self) -> isize {
        self.counts.page.saturating_sub(1).max(1).cast_signed()
    }

    fn step(&mut self, rows: isize, columns: isize) {
        let follows = matches!(self.pane, PaneId::Logs | PaneId::Test);
        let sticky = follows && self.layers.is_empty();
        if self.pane == PaneId::Matrix && self.layers.is_empty() {
            self.matrix.step(&self.counts, rows, columns);
            return;
        }
        let cursor = match self.layers.iter_mut().rev().find(|l| l.scrolls()) {
            Some(layer) => &mut layer.cursor,
            None => &mut self.panes.entry(self.pane).or_default().cursor,
        };
        if columns != 0 {
            // Wide rows move by a third of what people read at once, not by a cell.
            cursor.x = cursor.x.saturating_add_signed(columns.saturating_mul(8));
        }
        if rows == isize::MAX {
            cursor.selected = LAST;
            cursor.keep_visible(&self.counts);
        } else if rows != 0 {
            cursor.step(&self.counts, rows, sticky);
        }
    }

    fn enter(&mut self) -> Vec<Effect> {
        if self.mode() != Mode::Normal || !self.can(&Command::Enter) {
            return Vec::new();
        }
        if self.pane == PaneId::Workloads {
            let chosen = self.counts.watch.take();
            return chosen
                .map(|w| Effect::Errand(Errand::Watch(w)))
                .into_iter()
                .collect();
        }
        if self.pane == PaneId::Matrix && self.counts.folded {
            self.matrix.zoom = self.matrix.at(&self.counts);
            self.matrix.cell = None;
            return Vec::new();
        }
        if let Some(node) = self.counts.zoom.clone() {
            self.set_filter(node);
            return Vec::new();
        }
        self.open(Mode::Drill);
        Vec::new()
    }

    fn turn(&mut self, by: isize) {
        let tabs = self.counts.tabs.len();
        if self.pane != PaneId::Matrix || tabs == 0 {
            return;
        }
        let here = self.matrix.tab.min(tabs - 1).cast_signed();
        self.show_tab((here + by).rem_euclid(tabs.cast_signed()).cast_unsigned());
    }

    fn show_tab(&mut self, tab: usize) {
        if tab != self.matrix.tab {
            self.matrix = MatrixState {
                tab,
                ..MatrixState::default()
            };
        }
        // The details of a cell of another matrix would be those of a stranger.
        self.layers
            .retain(|l| !matches!(l.mode, Mode::Drill | Mode::Explain));
    }

    fn toggle(&mut self, what: &str) {
        let now = !self.toggles.remove(what);
        if now {
            self.toggles.insert(what.to_owned());
        }
        match what {
            "rings" => drop(self.toggles.remove("trees")),
            "trees" => drop(self.toggles.remove("rings")),
            "nodes" => self.matrix.zoom = None,
            _ => {}
        }
    }

    fn copy(&mut self) -> Vec<Effect> {
        match self.counts.copy.clone() {
            Some(text) => {
                let shown: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
                self.say(format!("copied: {shown}"), false);
                vec![Effect::Copy(text)]
            }
            None => {
                self.say("nothing to copy here", false);
                Vec::new()
            }
        }
    }

    fn problem(&mut self, forward: bool) {
        if self.pane == PaneId::Matrix && self.layers.is_empty() {
            let here = self.matrix.at(&self.counts);
            let started = if self.counts.folded {
                self.matrix.node
            } else {
                self.matrix.cell
            }
            .is_some();
            // Before the first move the cursor already stands on the first problem.
            match next_in(&self.counts.bad_cells, here.filter(|_| started), forward) {
                Some(cell) => self.matrix.set(&self.counts.clone(), cell),
                None => self.say("no problem in this matrix", false),
            }
            return;
        }
        let here = self.cursor().row(self.counts.first, self.counts.rows);
        let Some(row) = next_in(&self.counts.problems, here, forward) else {
            self.say("no problem here", false);
            return;
        };
        let cursor = match self.layers.iter_mut().rev().find(|l| l.scrolls()) {
            Some(layer) => &mut layer.cursor,
            None => &mut self.panes.entry(self.pane).or_default().cursor,
        };
        cursor.selected = row;
        cursor.keep_visible(&self.counts);
    }

    fn set_filter(&mut self, filter: String) {
        let state = self.panes.entry(self.pane).or_default();
        if state.filter != filter {
            state.filter = filter;
            // Row numbers of another list mean nothing; the newest line of a followed log stays the newest.
            if state.cursor.selected != LAST {
                state.cursor = Cursor::default();
            }
        }
    }
}

impl Layer {
    fn scrolls(&self) -> bool {
        matches!(
            self.mode,
            Mode::Help | Mode::Explain | Mode::Drill | Mode::Confirm(Ask::Errand)
        )
    }
}

/// Commands that open something else than the help.
fn opens(command: &Command) -> bool {
    matches!(
        command,
        Command::Explain | Command::StartFilter | Command::NextProblem | Command::PrevProblem
    )
}

/// The next (or the one before) in an ascending list, around the end.
fn next_in<T: Copy + Ord>(sorted: &[T], here: Option<T>, forward: bool) -> Option<T> {
    let around = if forward {
        sorted.first()
    } else {
        sorted.last()
    };
    let Some(here) = here else {
        return around.copied();
    };
    let found = if forward {
        sorted.get(sorted.partition_point(|x| *x <= here))
    } else {
        sorted
            .partition_point(|x| *x < here)
            .checked_sub(1)
            .and_then(|i| sorted.get(i))
    };
    found.or(around).copied()
}
