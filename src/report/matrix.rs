//! The matrix in the formats that print it: the letters, marks and words, the same as on screen, and the grid of those
//! that print text.

use std::collections::BTreeSet;

use crate::rules::scene::{Glyph, Mark, Matrix};

/// The letter of a transport.
pub(super) fn letter(g: Glyph) -> char {
    match g {
        Glyph::Mnnvl => 'M',
        Glyph::P2p => 'P',
        Glyph::P2pWeak => 'p',
        Glyph::CollNet => 'C',
        Glyph::NetGdr => 'R',
        Glyph::Shm => 'S',
        Glyph::Net => 'I',
        Glyph::Tcp => 'T',
        Glyph::Doubt => '?',
        Glyph::Missing => '·',
    }
}

/// The sign behind a letter.
pub(super) fn mark(m: Mark) -> char {
    match m {
        Mark::Downgraded => '!',
        Mark::Disagree => '≠',
        Mark::Open => '?',
    }
}

/// What it stands for.
pub(super) fn mark_meaning(m: Mark) -> &'static str {
    match m {
        Mark::Downgraded => "worse than its place allows",
        Mark::Disagree => "sender and receiver disagree",
        Mark::Open => "more lines that could belong here",
    }
}

/// Pairs of slots by number, row by row.
fn pairs(m: &Matrix) -> impl Iterator<Item = (u32, u32)> {
    let n = u32::try_from(m.slots.len()).unwrap_or(u32::MAX);
    (0..n).flat_map(move |i| (0..n).map(move |j| (i, j)))
}

/// Letters and marks that a matrix shows, each once.
pub(super) fn signs(m: &Matrix) -> (BTreeSet<Glyph>, BTreeSet<Mark>) {
    let glyphs = pairs(m).filter_map(|(i, j)| m.shown(i, j)).collect();
    let marks = m.cells.iter().filter_map(|cell| cell.mark()).collect();
    (glyphs, marks)
}

/// What the signs of a matrix stand for, on one line.
pub(super) fn legend(m: &Matrix) -> String {
    let (glyphs, marks) = signs(m);
    let letters = glyphs
        .into_iter()
        .map(|g| format!("{} {}", letter(g), g.words()));
    let marks = marks
        .into_iter()
        .map(|m| format!("{} behind it: {}", mark(m), mark_meaning(m)));
    letters.chain(marks).collect::<Vec<_>>().join(" · ")
}

/// The grid, a line a row, numbers along both axes.
pub(super) fn grid(m: &Matrix) -> Vec<String> {
    let wide = m
        .slots
        .iter()
        .map(|s| s.number.to_string().len())
        .max()
        .unwrap_or(1)
        .max(2);
    let mut head = " ".repeat(wide);
    for to in &m.slots {
        head.push_str(&format!("{:>wide$} ", to.number));
    }
    let mut lines = vec![head.trim_end().to_owned()];
    for (i, from) in (0_u32..).zip(&m.slots) {
        let mut line = format!("{:>wide$}", from.number);
        for (j, _) in (0_u32..).zip(&m.slots) {
            let sign = match m.shown(i, j) {
                Some(glyph) => letter(glyph),
                None if i == j => '/',
                None => ' ',
            };
            let mark = m.cell(i, j).and_then(|c| c.mark()).map_or(' ', mark);
            line.push_str(&format!("{sign:>wide$}{mark}"));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}
