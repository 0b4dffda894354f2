//! What is typed, and what a line means once it is run.

use super::{Ask, Completion, ECHOES, HISTORY, Mode, PaneId, Ranks, Screen, THIS, Typed};
use crate::model::commands::{self, Order};
use crate::model::event::{Command, Effect, Errand};
use crate::model::numbers::ranges;

/// Communicators that are named to whom asks for one that is not there.
const TABS: usize = 8;

impl Screen {
    pub(super) fn edit_filter(&mut self, command: &Command) -> bool {
        if *command == Command::Up && self.typed == Typed::default() && !self.filter().is_empty() {
            let old = self.filter().to_owned();
            self.typed.set(&old);
            return true;
        }
        let edited = self.typed.edit(command);
        if edited {
            self.set_filter(self.typed.text());
        }
        edited
    }

    pub(super) fn edit_command(&mut self, command: &Command) -> bool {
        match command {
            Command::NextTab | Command::PrevTab => {
                self.complete(matches!(command, Command::NextTab))
            }
            Command::Up | Command::Down => self.recall(matches!(command, Command::Up)),
            // Erasing at the start of an empty line leaves it, as in vi.
            Command::Erase if self.typed == Typed::default() => drop(self.layers.pop()),
            _ => {
                if !self.typed.edit(command) {
                    return false;
                }
                self.completion = None;
                self.recalled = None;
            }
        }
        true
    }

    fn complete(&mut self, forward: bool) {
        let len = match &mut self.completion {
            Some(c) if !c.lines.is_empty() => {
                let step = if forward { 1 } else { c.lines.len() - 1 };
                c.at = (c.at + step) % c.lines.len();
                c.lines.len()
            }
            _ => {
                let lines =
                    commands::complete(&self.typed.before, &self.themes, &self.counts.matrices);
                let len = lines.len();
                self.completion = Some(Completion { lines, at: 0 });
                len
            }
        };
        if let Some(line) = self
            .completion
            .as_ref()
            .and_then(|c| c.lines.get(c.at))
            .cloned()
        {
            self.typed.set(&line);
        }
        if len <= 1 {
            self.completion = None;
        }
    }

    fn recall(&mut self, older: bool) {
        let last = self.history.len().checked_sub(1);
        self.recalled = match (self.recalled, older) {
            (None, true) => last,
            (Some(i), true) => Some(i.saturating_sub(1)),
            (Some(i), false) if Some(i) < last => Some(i + 1),
            (_, false) => None,
        };
        let line = self
            .recalled
            .and_then(|i| self.history.get(i))
            .cloned()
            .unwrap_or_default();
        self.typed.set(&line);
        self.completion = None;
    }

    pub(super) fn submit(&mut self) -> Vec<Effect> {
        match self.mode() {
            Mode::Filter => {
                self.layers.pop();
                Vec::new()
            }
            Mode::Word => {
                let word = self.questions.front().and_then(|q| q.word.as_deref());
                if word.is_some_and(|w| w == self.typed.text().trim()) {
                    self.layers
                        .retain(|l| !matches!(l.mode, Mode::Confirm(Ask::Errand) | Mode::Word));
                    return self.answer(true);
                }
                let text = format!("type {} to go on, or press esc", word.unwrap_or("it"));
                self.say(text, true);
                Vec::new()
            }
            Mode::CommandLine => {
                self.layers.pop();
                let line = self.typed.text().trim().to_owned();
                if line.is_empty() {
                    return Vec::new();
                }
                if self.history.last() != Some(&line) {
                    self.history.push(line.clone());
                    let over = self.history.len().saturating_sub(HISTORY);
                    self.history.drain(..over);
                }
                self.run(&line)
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn run(&mut self, line: &str) -> Vec<Effect> {
        // What was said of the command before is not said of this one.
        self.note = None;
        match commands::parse(line) {
            Err(why) => self.say(why, true),
            Ok(Order::Do(command)) => return self.apply(&command),
            Ok(Order::Cell(from, to)) => self.go_to_cell(from, to),
            Ok(Order::Row(row)) => self.go_to_row(row),
            Ok(Order::Rank(rank)) => self.go_to_ranks(rank, rank),
            Ok(Order::Finding(n)) if n <= self.counts.findings => {
                self.jump(PaneId::Findings);
                self.set_filter(String::new());
                if n > self.counts.causes {
                    self.toggles.insert(ECHOES.to_owned());
                }
                self.panes
                    .entry(PaneId::Findings)
                    .or_default()
                    .cursor
                    .selected = n - 1;
                self.open(Mode::Drill);
            }
            Ok(Order::Finding(n)) => {
                let text = match self.counts.findings {
                    0 => "there are no findings".to_owned(),
                    1 => format!("no finding {n}: there is one"),
                    many => format!("no finding {n}: there are {many}"),
                };
                self.say(text, true);
            }
            Ok(Order::Filter(text)) => self.set_filter(text),
            Ok(Order::Tab(which)) => {
                let tabs = &self.counts.matrices;
                let found = tabs
                    .iter()
                    .position(|t| *t == which)
                    .or_else(|| which.parse().ok().filter(|n| *n < tabs.len()));
                match found {
                    Some(tab) => {
                        self.jump(PaneId::Matrix);
                        self.show_tab(tab);
                    }
                    None => {
                        let there = match tabs.as_slice() {
                            [] => "none is known yet".to_owned(),
                            // A job of thousands has thousands: what to type shows them.
                            [first, .., last] if tabs.len() > TABS => {
                                format!("there are {}, from {first} to {last}", tabs.len())
                            }
                            few => format!("there are {}", few.join(", ")),
                        };
                        self.say(format!("no communicator `{which}`: {there}"), true);
                    }
                }
            }
            Ok(Order::Save(path)) => return vec![Effect::SaveScreen(path)],
            // The key says which one is meant by pointing at it.
            Ok(Order::Errand(Errand::Recheck(Some(which)))) if which == THIS => {
                let check = self.counts.check.clone();
                return check
                    .map(|id| Effect::Errand(Errand::Recheck(Some(id))))
                    .into_iter()
                    .collect();
            }
            Ok(Order::Errand(errand)) => return vec![Effect::Errand(errand)],
        }
        Vec::new()
    }

    /// By the numbers on the axes: nodes where those are drawn, else ranks.
    fn go_to_cell(&mut self, from: u32, to: u32) {
        let axis = &self.counts.axis;
        let drawn = self.pane == PaneId::Matrix && self.counts.folded;
        if drawn && [from, to].iter().all(|n| axis.contains(n)) {
            self.matrix.node = Some((from, to));
            return;
        }
        self.go_to_ranks(from, to);
        if from == to && self.counts.open.has(from) {
            let there = ranges(&self.counts.open.numbers);
            let text = format!(
                "rank {from} has no connection to itself: this is its row, `:cell {from} N` is one to N of {there}"
            );
            self.say(text, false);
        }
    }

    /// The numbers may be of ranks that are not there (yet): the pane shows the nearest, and what there is is said.
    fn go_to_ranks(&mut self, from: u32, to: u32) {
        let absent = |ranks: &Ranks| [from, to].into_iter().find(|n| !ranks.has(*n));
        let missing = absent(&self.counts.open);
        // Who names a rank that is not in the communicator on screen means it among all of them.
        let among_all = missing.is_some() && absent(&self.counts.merged).is_none();
        let told = missing.map(|n| {
            let Ranks { label, numbers, .. } = &self.counts.open;
            match (numbers.is_empty(), self.matrix.tab) {
                (true, _) => format!("no rank {n}: none is known yet"),
                (false, 0) => format!("no rank {n}: there are {}", ranges(numbers)),
                (false, _) if among_all => format!(
                    "no rank {n} in {label}, which has {}: this is rank {n} of all",
                    ranges(numbers)
                ),
                (false, _) => format!("no rank {n} in {label}: it has {}", ranges(numbers)),
            }
        });
        if among_all {
            self.show_tab(0);
            self.counts.open.clone_from(&self.counts.merged);
        }
        self.jump(PaneId::Matrix);
        let open = &self.counts.open;
        self.matrix.cell = Some((from, to));
        self.matrix.zoom = open.node(from).zip(open.node(to));
        self.toggles.remove("rings");
        self.toggles.remove("trees");
        if let Some(told) = told {
            self.say(told, !among_all);
        }
    }
}
