//! Cells to bytes: the shortest sequences that turn what the terminal shows into the next frame.

mod scroll;

use std::io::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use crate::theme::sgr::{self, Look, PLAIN};

/// The terminal shows nothing of a frame until its end, where it knows how (DEC private mode 2026).
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";

/// Blank cells at the end of a row from which erasing is shorter than printing them.
const ERASE_FROM: usize = 5;

/// Remembers what the terminal shows.
#[derive(Debug, Default)]
pub struct Encoder {
    shown: Option<Buffer>,
    /// `None`: not known.
    look: Option<Look>,
}

impl Encoder {
    /// Nothing is known of the terminal any more.
    pub fn forget(&mut self) {
        self.shown = None;
        self.look = None;
    }

    /// Appends what turns the terminal into `next` (nothing, if it shows that already) and gives the old frame back.
    pub fn frame(&mut self, next: Buffer, out: &mut Vec<u8>) -> Option<Buffer> {
        let start = out.len();
        out.extend_from_slice(BEGIN);
        let body = out.len();
        let mut old = match self.shown.take().filter(|old| old.area == next.area) {
            Some(old) => old,
            None => {
                out.extend_from_slice(b"\x1b[0m\x1b[2J");
                self.look = Some(PLAIN);
                Buffer::empty(next.area)
            }
        };
        if let Some(shift) = scroll::find(&old, &next) {
            self.shift(shift, out);
            shift.apply(&mut old);
        }
        self.difference(&old, &next, out);
        if out.len() == body {
            out.truncate(start);
        } else {
            out.extend_from_slice(END);
        }
        self.shown = Some(next);
        Some(old)
    }

    /// Lines inserted or deleted at the top of a region push the rest of it: every terminal since the VT102 does that.
    fn shift(&mut self, shift: scroll::Shift, out: &mut Vec<u8>) {
        // What comes in has the ground in force.
        self.look(PLAIN, out);
        let scroll::Shift {
            top, bottom, by, ..
        } = shift;
        let how = if shift.down { 'L' } else { 'M' };
        let top = top + 1;
        put(
            out,
            format_args!("\x1b[{top};{bottom}r\x1b[{top}H\x1b[{by}{how}\x1b[r"),
        );
    }

    /// Row by row; a column counts as changed also where half of a wide character was or will be, because
    /// terminals disagree about what is left of the other half.
    fn difference(&mut self, old: &Buffer, next: &Buffer, out: &mut Vec<u8>) {
        let width = usize::from(next.area.width.max(1));
        let mut at: Option<(usize, usize)> = None;
        for (y, (old, row)) in old
            .content
            .chunks(width)
            .zip(next.content.chunks(width))
            .enumerate()
        {
            let blank = row
                .iter()
                .rposition(|c| !is_blank(c))
                .map_or(0, |last| last + 1);
            let (mut x, mut stale) = (0, 0);
            while let (Some(was), Some(cell)) = (old.get(x), row.get(x)) {
                let here = x;
                let wide = columns(cell.symbol());
                x += wide;
                if looks_like(was, cell) && here >= stale {
                    continue;
                }
                let covered = (here..x).filter_map(|c| Some(c + columns(old.get(c)?.symbol())));
                stale = covered.max().unwrap_or(x).max(stale);
                self.go(&mut at, (here, y), row, out);
                if here >= blank && width - here >= ERASE_FROM {
                    self.look(PLAIN, out);
                    out.extend_from_slice(b"\x1b[K");
                    break;
                }
                self.look(self.wanted(cell), out);
                out.extend_from_slice(printable(cell.symbol(), width - here).as_bytes());
                // Terminals disagree about the width of clusters, and about where the cursor is after the last column.
                let sure = x < width && cell.symbol().chars().nth(1).is_none();
                at = sure.then_some((x, y));
            }
        }
    }

    fn go(
        &self,
        at: &mut Option<(usize, usize)>,
        to: (usize, usize),
        row: &[Cell],
        out: &mut Vec<u8>,
    ) {
        let (x, y) = to;
        match *at {
            Some(here) if here == to => {}
            Some((from, line)) if line == y && from < x => {
                // Unchanged cells between two changed ones: printing them again may be shorter than jumping.
                let between = row.get(from..x).unwrap_or_default();
                let same = |c: &Cell| {
                    Some(self.wanted(c)) == self.look
                        && matches!(c.symbol().as_bytes(), [0x20..0x7f])
                };
                if between.len() <= 4 && between.iter().all(same) {
                    between
                        .iter()
                        .for_each(|c| out.extend_from_slice(c.symbol().as_bytes()));
                } else {
                    put(out, format_args!("\x1b[{}C", x - from));
                }
            }
            _ => put(out, format_args!("\x1b[{};{}H", y + 1, x + 1)),
        }
        *at = Some(to);
    }

    /// The look to print a cell in: where nothing is printed, the colour and weight of text in force will do.
    fn wanted(&self, cell: &Cell) -> Look {
        let (fg, bg, modifier) = (cell.fg, cell.bg, cell.modifier);
        match self.look {
            _ if cell.symbol() != " " || modifier.intersects(ON_BLANK) => (fg, bg, modifier),
            Some(now @ (_, b, m)) if b == bg && !m.intersects(ON_BLANK) => now,
            _ => (Color::Reset, bg, Modifier::empty()),
        }
    }

    fn look(&mut self, want: Look, out: &mut Vec<u8>) {
        if self.look == Some(want) {
            return;
        }
        let (_, _, modifier) = want;
        let mut codes = String::new();
        let mut have = self.look;
        if want == PLAIN || have.is_none_or(|(_, _, m)| !modifier.contains(m)) {
            codes.push('0');
            have = Some(PLAIN);
        }
        sgr::change(have.unwrap_or(PLAIN), want, &mut codes);
        put(out, format_args!("\x1b[{codes}m"));
        self.look = Some(want);
    }
}

/// Columns that a symbol takes.
fn columns(symbol: &str) -> usize {
    if symbol.len() == 1 {
        1
    } else {
        symbol.width().max(1)
    }
}

/// Last line of defence: whatever a log contains, no control character gets out here, and nothing over the edge.
fn printable(symbol: &str, room: usize) -> &str {
    if symbol.chars().any(char::is_control) {
        "?"
    } else if columns(symbol) > room {
        " "
    } else {
        symbol
    }
}

/// What is seen of a modifier where nothing is printed. Reversed blanks show the colour of text, so they are no blanks.
const ON_BLANK: Modifier = Modifier::UNDERLINED
    .union(Modifier::REVERSED)
    .union(Modifier::SLOW_BLINK)
    .union(Modifier::RAPID_BLINK)
    .union(Modifier::CROSSED_OUT);

/// Nobody sees a difference.
fn looks_like(a: &Cell, b: &Cell) -> bool {
    let shown = ON_BLANK & (a.modifier | b.modifier);
    a == b || (a.symbol() == " " && b.symbol() == " " && a.bg == b.bg && shown.is_empty())
}

/// Looks like an erased cell.
fn is_blank(cell: &Cell) -> bool {
    cell.symbol() == " " && cell.bg == Color::Reset && !cell.modifier.intersects(ON_BLANK)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into memory can't fail.
    let _ = out.write_fmt(text);
}
