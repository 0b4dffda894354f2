//! The screen as it is shown to others: fewer facts with more space, nothing dim, rows numbered, keys shown.
//!
//! A pane draws what it always draws, on a smaller screen than there is: it leaves out what matters least, as it does
//! on any small screen, and what is left gets the room.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{Regions, View, chrome};
use crate::model::screen::{Mark, Mode};
use crate::theme::Role;

/// Widest body: wider lines lose the eye.
const WIDEST: u16 = 120;

/// Rows from which on every other one stays empty.
const TALL: u16 = 30;

/// Columns in front of a list for the numbers of its rows.
pub const NUMBERS: u16 = 5;

/// Splits the screen.
#[must_use]
pub fn regions(area: Rect) -> Regions {
    let side = match area.width {
        0..60 => 0,
        60..100 => 1,
        _ => 3,
    };
    let (edge, gap) = match area.height {
        0..20 => (0, 0),
        20..30 => (0, 1),
        _ => (1, 1),
    };
    let width = area.width.saturating_sub(2 * side);
    let row = |y: u16, height: u16| Rect {
        x: area.x + side,
        y: area.y + y,
        width,
        height,
    };
    let top = edge + 2 + 2 * gap;
    let body = area.height.saturating_sub(top + 1 + edge + gap);
    Regions {
        header: row(edge, 1),
        tabs: row(edge + 1 + gap, 1),
        rule: row(edge + 2 + gap, gap),
        body: Rect {
            width: width.min(WIDEST),
            ..row(top, body)
        },
        footer: row(area.height.saturating_sub(1 + edge), 1),
    }
}

/// What the pane is told to fill: half the rows where the other half can stay empty.
#[must_use]
pub fn shrunk(body: Rect) -> Rect {
    if body.height < TALL {
        return body;
    }
    Rect {
        height: body.height.div_ceil(2),
        ..body
    }
}

/// Copies what was drawn on the smaller screen, with an empty row after each; upright lines go through.
pub fn spread(small: &Buffer, body: Rect, buf: &mut Buffer) {
    let from = small.area;
    for y in 0..from.height {
        for x in 0..from.width {
            let Some(cell) = small.cell((from.x + x, from.y + y)) else {
                continue;
            };
            let at = body.y + 2 * y;
            if at < body.bottom()
                && let Some(target) = buf.cell_mut((body.x + x, at))
            {
                target.clone_from(cell);
            }
            let through = matches!(cell.symbol(), "│" | "┼" | "|");
            if through
                && at + 1 < body.bottom()
                && y + 1 < from.height
                && let Some(target) = buf.cell_mut((body.x + x, at + 1))
            {
                target.clone_from(cell);
                target.set_symbol(if cell.symbol() == "|" { "|" } else { "│" });
            }
        }
    }
}

/// The verdict, what it is about, how old.
pub fn header(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (word, role) = parts::verdict(view.scene.verdict);
    let age = chrome::freshness(view).map_or_else(String::new, |(age, _)| age);
    let right = parts::columns(&age);
    let what = chrome::subject(view.session);
    let n = pen.text(area.x + 1, area.y, area.width, word, role) + 4;
    let room = area.width.saturating_sub(n + right + 4);
    pen.text(
        area.x + n,
        area.y,
        room,
        &parts::tail(&what, room),
        Role::Strong,
    );
    pen.right(
        area.x,
        area.y,
        area.width.saturating_sub(1),
        &age,
        Role::Text,
    );
}

/// Which pane this is, and what question it answers.
pub fn title(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let Some(pane) = super::pane(view.screen.pane) else {
        return;
    };
    let name = format!("{} {}", pane.id.digit(), pane.id.id());
    let spans = [
        (name.as_str(), Role::Tab),
        ("    ", Role::Text),
        (pane.title, Role::Text),
    ];
    pen.spans(area.x + 1, area.y, area.width.saturating_sub(2), &spans);
}

/// What is pointed at and the keys just pressed; while something is typed, that.
pub fn footer(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let keys: Vec<&str> = view.screen.pressed().collect();
    let shown = keys.join("   ");
    let wide = match shown.as_str() {
        "" => 0,
        some => (parts::columns(some) + 8).min(area.width / 2),
    };
    let left = Rect {
        width: area.width - wide,
        ..area
    };
    let pointed = view.screen.pointed().filter(|_| {
        view.screen.note.is_none() && matches!(view.screen.mode(), Mode::Normal | Mode::Drill)
    });
    match pointed {
        Some(mark) => {
            let what = match mark {
                Mark::Row(row) => format!("row {}", row + 1),
                Mark::Cell { from, to, folded } => {
                    let kind = if folded { "nodes" } else { "cell" };
                    format!("{kind} {from} {to}")
                }
            };
            let spans = [("▶ ", Role::Strong), (what.as_str(), Role::Strong)];
            pen.spans(area.x + 1, area.y, left.width.saturating_sub(2), &spans);
        }
        None => chrome::footer(view, left, pen),
    }
    if wide > 0 {
        let x = area.x + area.width - wide;
        pen.text(x, area.y, 7, "pressed", Role::Text);
        pen.right(x + 8, area.y, wide - 8, &shown, Role::Key);
    }
}

/// Columns that the numbers of rows take here.
#[must_use]
pub fn gutter(view: &View<'_>) -> u16 {
    if view.screen.presenting() { NUMBERS } else { 0 }
}

/// The number of a row, in the columns that [`gutter`] left for it.
pub fn number(view: &View<'_>, x: u16, y: u16, row: usize, pen: &mut Pen<'_>) {
    if view.screen.presenting() {
        pen.right(x, y, NUMBERS - 2, &(row + 1).to_string(), Role::Strong);
    }
}

/// The pointer on a row that is pointed at.
pub fn pointer(view: &View<'_>, area: Rect, row: usize, pen: &mut Pen<'_>) {
    if view.screen.pointed_row() == Some(row) && area.height > 0 {
        for y in area.top()..area.bottom() {
            pen.overlay(area.x, y, area.width, Role::Pointer);
        }
        pen.fill(area.x, area.y, 1, '▶', Role::Strong);
        pen.overlay(area.x, area.y, 1, Role::Pointer);
    }
}
