//! Rows that only moved up or down: the terminal moves them itself, for the price of a few bytes.

use std::hash::{DefaultHasher, Hash, Hasher};

use ratatui::buffer::{Buffer, Cell};

use super::{is_blank, looks_like};

/// Printed cells that must be spared for it to pay: the order costs some twenty bytes.
const WORTH: usize = 40;

/// Rows between two, moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    /// First row of the region, from 0.
    pub top: usize,
    /// Behind its last row.
    pub bottom: usize,
    /// How many rows.
    pub by: usize,
    /// Down; else up.
    pub down: bool,
}

impl Shift {
    /// Does to a frame what the terminal does: what comes in is blank.
    pub fn apply(self, frame: &mut Buffer) {
        let width = usize::from(frame.area.width);
        let region = frame.content.get_mut(self.top * width..self.bottom * width);
        let (Some(rows), gap) = (region, self.by * width) else {
            return;
        };
        let gap = gap.min(rows.len());
        let fresh = if self.down {
            rows.rotate_right(gap);
            rows.get_mut(..gap)
        } else {
            rows.rotate_left(gap);
            let from = rows.len() - gap;
            rows.get_mut(from..)
        };
        for cell in fresh.into_iter().flatten() {
            *cell = Cell::EMPTY;
        }
    }
}

/// A row in short: what it looks like, and how many cells of it must be printed.
fn short(row: &[Cell]) -> (u64, usize) {
    let mut hash = DefaultHasher::new();
    let printed = row.iter().filter(|c| !is_blank(c)).count();
    if printed > 0 {
        for cell in row {
            (cell.symbol(), cell.fg, cell.bg, cell.modifier.bits()).hash(&mut hash);
        }
    }
    (hash.finish(), printed)
}

/// The one move that spares most, if any does. A wrong guess costs bytes and no truth: what differs afterwards is
/// painted as always.
pub(super) fn find(old: &Buffer, next: &Buffer) -> Option<Shift> {
    let width = usize::from(next.area.width.max(1));
    let rows = || old.content.chunks(width).zip(next.content.chunks(width));
    let same: Vec<bool> = rows()
        .map(|(a, b)| a.iter().zip(b).all(|(a, b)| looks_like(a, b)))
        .collect();
    let first = same.iter().position(|same| !same)?;
    let end = same.iter().rposition(|same| !same)? + 1;
    if end - first < 3 {
        return None;
    }
    let inside = || rows().take(end).skip(first);
    let was: Vec<(u64, usize)> = inside().map(|(old, _)| short(old)).collect();
    let will: Vec<(u64, usize)> = inside().map(|(_, next)| short(next)).collect();
    let same = same.get(first..end)?;
    let height = was.len();
    let mut best: Option<(usize, Shift)> = None;
    for by in 1..height {
        for down in [false, true] {
            let mut consider = |from: usize, to: usize| {
                // The rows that go, and those that come in between, are lost even where they were right.
                let (top, bottom) = if down {
                    (from - by, to)
                } else {
                    (from, to + by)
                };
                let count = |i: usize, moved: bool| match (same.get(i), will.get(i)) {
                    (Some(same), Some((_, printed))) if *same != moved => *printed,
                    _ => 0,
                };
                let spared: usize = (from..to).map(|i| count(i, true)).sum();
                let lost: usize = (top..bottom)
                    .filter(|i| !(from..to).contains(i))
                    .map(|i| count(i, false))
                    .sum();
                let worth = spared.saturating_sub(lost);
                if worth >= WORTH && best.is_none_or(|(most, _)| worth > most) {
                    let shift = Shift {
                        top: first + top,
                        bottom: first + bottom,
                        by,
                        down,
                    };
                    best = Some((worth, shift));
                }
            };
            // Longest runs of rows that are found `by` rows away.
            let mut from = None;
            for i in 0..=height {
                let away = if down {
                    i.checked_sub(by)
                } else {
                    Some(i + by)
                };
                let here = will.get(i).map(|row| row.0);
                let there = away.and_then(|j| was.get(j)).map(|row| row.0);
                match (here.is_some() && here == there, from) {
                    (true, None) => from = Some(i),
                    (false, Some(start)) => {
                        consider(start, i);
                        from = None;
                    }
                    _ => {}
                }
            }
        }
    }
    best.map(|(_, shift)| shift)
}
