//! Where one is in a list.

use super::{Counts, LAST};

/// Where one is in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Absolute number of the selected row, or [`LAST`]. Read it through [`Cursor::row`].
    pub selected: usize,
    /// Absolute number of the first visible row. Read it through [`Cursor::top`].
    pub scroll: usize,
    /// Columns scrolled to the right.
    pub x: usize,
}

impl Cursor {
    /// The selected row among `rows` rows from `first` on; `None` when there are none.
    #[must_use]
    pub fn row(&self, first: usize, rows: usize) -> Option<usize> {
        (rows > 0).then(|| self.selected.clamp(first, first.saturating_add(rows - 1)))
    }

    /// The first row to draw so that the selected one is among `height` visible ones.
    #[must_use]
    pub fn top(&self, first: usize, rows: usize, height: usize) -> usize {
        let Some(row) = self.row(first, rows) else {
            return first;
        };
        let last_top = first.saturating_add(rows.saturating_sub(height));
        let top = self.scroll.clamp(first, last_top);
        top.min(row).max((row + 1).saturating_sub(height.max(1)))
    }

    pub(super) fn step(&mut self, counts: &Counts, by: isize, sticky: bool) {
        let Some(row) = self.row(counts.first, counts.rows) else {
            return;
        };
        let last = counts.first + counts.rows - 1;
        let to = row.saturating_add_signed(by).clamp(counts.first, last);
        self.selected = if sticky && by > 0 && to == last {
            LAST
        } else {
            to
        };
        self.keep_visible(counts);
    }

    pub(super) fn keep_visible(&mut self, counts: &Counts) {
        self.scroll = self.top(counts.first, counts.rows, counts.page.max(1));
    }
}
