//! For people who look on: the keys that were just pressed, and what is pointed at.

use super::{Mode, PaneId, Screen};
use crate::model::keys::{Code, Key};

/// How many ticks (seconds) a pressed key is shown.
const PRESSED_FOR: u8 = 5;

/// Most keys that are shown.
const PRESSED: usize = 8;

/// What is pointed at. It stays when the selection moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Row of a list, by its absolute number.
    Row(usize),
    /// Cell of the matrix by the numbers on its axes.
    Cell {
        /// Row.
        from: u32,
        /// Column.
        to: u32,
        /// They are numbers of nodes.
        folded: bool,
    },
}

impl Screen {
    /// The screen is shown to others: fewer facts with more space, everything numbered, keys shown.
    #[must_use]
    pub fn presenting(&self) -> bool {
        self.is_on("present")
    }

    /// A key was pressed, and is to be seen for a while. What is typed into a line is seen there.
    pub fn press(&mut self, key: Key) {
        let typed = matches!(key.code, Code::Char(_)) && !key.ctrl && !key.alt;
        let typing = matches!(self.mode(), Mode::Filter | Mode::CommandLine | Mode::Word);
        if self.presenting() && !(typed && typing) {
            self.pressed.push_back((key.to_string(), PRESSED_FOR));
            let over = self.pressed.len().saturating_sub(PRESSED);
            self.pressed.drain(..over);
        }
    }

    /// Keys just pressed, oldest first.
    pub fn pressed(&self) -> impl Iterator<Item = &str> {
        self.pressed.iter().map(|(key, _)| key.as_str())
    }

    /// A second passed. True when a key faded.
    pub(super) fn fade(&mut self) -> bool {
        let before = self.pressed.len();
        for (_, left) in &mut self.pressed {
            *left = left.saturating_sub(1);
        }
        self.pressed.retain(|(_, left)| *left > 0);
        self.pressed.len() != before
    }

    /// What is pointed at in the list that has the keys.
    #[must_use]
    pub fn pointed(&self) -> Option<Mark> {
        match self.layers.iter().rev().find(|l| l.scrolls()) {
            Some(layer) => layer.mark,
            None => self.marks.get(&self.pane).copied(),
        }
    }

    /// The row that is pointed at in the list that has the keys.
    #[must_use]
    pub fn pointed_row(&self) -> Option<usize> {
        match self.pointed() {
            Some(Mark::Row(row)) => Some(row),
            _ => None,
        }
    }

    /// The cell that is pointed at, by the numbers on axes of this kind.
    #[must_use]
    pub fn pointed_cell(&self, nodes: bool) -> Option<(u32, u32)> {
        match self.marks.get(&PaneId::Matrix) {
            Some(Mark::Cell { from, to, folded }) if *folded == nodes => Some((*from, *to)),
            _ => None,
        }
    }

    /// Points at what is selected; pointing at it again takes the mark away.
    pub(super) fn point(&mut self) {
        let counts = &self.counts;
        let on_page = self.layers.iter().any(super::Layer::scrolls);
        let here = if self.pane == PaneId::Matrix && !on_page {
            let folded = counts.folded;
            let at = self.matrix.at(counts);
            at.map(|(from, to)| Mark::Cell { from, to, folded })
        } else {
            let row = self.cursor().row(counts.first, counts.rows);
            row.map(Mark::Row)
        };
        let here = here.filter(|mark| self.pointed() != Some(*mark));
        match self.layers.iter_mut().rev().find(|l| l.scrolls()) {
            Some(layer) => layer.mark = here,
            None => {
                self.marks.remove(&self.pane);
                self.marks.extend(here.map(|mark| (self.pane, mark)));
            }
        }
    }

    /// Selects a row by the number that is said aloud, from 1.
    pub(super) fn go_to_row(&mut self, number: usize) {
        let row = number.saturating_sub(1);
        let on_page = self.layers.iter().any(super::Layer::scrolls);
        if self.pane == PaneId::Matrix && !on_page {
            self.say(
                "the matrix has ranks and cells: `:rank 9`, `:cell 3 11`",
                true,
            );
            return;
        }
        let last = self.counts.first.saturating_add(self.counts.rows);
        if row < self.counts.first || row >= last {
            let text = match self.counts.rows {
                0 => "there are no rows here".to_owned(),
                _ => format!(
                    "no row {number}: there are {} to {last}",
                    self.counts.first + 1
                ),
            };
            self.say(text, true);
            return;
        }
        let counts = self.counts.clone();
        let cursor = match self.layers.iter_mut().rev().find(|l| l.scrolls()) {
            Some(layer) => &mut layer.cursor,
            None => &mut self.panes.entry(self.pane).or_default().cursor,
        };
        cursor.selected = row;
        cursor.keep_visible(&counts);
    }
}
