//! Tables: a sentence, heads, rows; columns that give way in a stated order when the screen is narrow.

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{View, present};
use crate::model::screen::{Counts, Cursor, PaneId};
use crate::theme::Role;

/// Columns so wide hold values and sentences, which are read from their beginning.
pub const WORDS: u16 = 64;

/// A column of a table over rows of one kind.
pub struct Column<R> {
    /// Its head.
    pub head: &'static str,
    /// Numbers stand flush right.
    pub right: bool,
    /// When it gives way: the highest goes first, 0 never goes.
    pub gives: u8,
    /// Most columns of the screen that it takes; 0 takes what is left (one such column, the last). What is too long for
    /// it loses its beginning, because names are told apart by their ends; from [`WORDS`] on it loses its end.
    pub most: u16,
    /// What a row shows in it.
    pub value: fn(&R, &View<'_>) -> (String, Role),
}

/// Draws heads and the rows around the selected one.
pub fn draw<R>(
    view: &View<'_>,
    columns: &[&Column<R>],
    rows: &[R],
    cursor: Cursor,
    area: Rect,
    pen: &mut Pen<'_>,
) {
    if area.height == 0 {
        return;
    }
    let lines = usize::from(area.height - 1);
    let top = cursor.top(0, rows.len(), lines);
    // Widths from what is visible and from both ends, so that a long table costs no more than a short one.
    let ends = rows.iter().take(4).chain(rows.iter().rev().take(4));
    let sample: Vec<&R> = rows.iter().skip(top).take(lines).chain(ends).collect();
    // Where a column numbers the rows already, two numbers would be one too many.
    let named = matches!(view.screen.pane, PaneId::Findings | PaneId::Ranks);
    let gutter = if named { 0 } else { present::gutter(view) };
    let (x, room) = (area.x + 1 + gutter, area.width.saturating_sub(2 + gutter));
    let mut plan: Vec<(&Column<R>, u16)> = columns
        .iter()
        .map(|c| {
            let widest = sample
                .iter()
                .map(|r| parts::columns(&(c.value)(r, view).0))
                .max()
                .unwrap_or(0);
            let most = if c.most == 0 { 24 } else { c.most };
            (*c, widest.min(most).max(parts::columns(c.head)))
        })
        .collect();
    let width = |plan: &[(&Column<R>, u16)]| {
        plan.iter()
            .map(|(_, w)| w + 2)
            .sum::<u16>()
            .saturating_sub(2)
    };
    while width(&plan) > room {
        let Some(goes) = plan.iter().map(|(c, _)| c.gives).max().filter(|g| *g > 0) else {
            break;
        };
        plan.retain(|(c, _)| c.gives != goes);
    }
    let over = width(&plan).saturating_sub(room);
    if over > 0 {
        // What is left never goes; the widest of it shrinks.
        if let Some((_, w)) = plan.iter_mut().max_by_key(|(_, w)| *w) {
            *w = w.saturating_sub(over).max(4);
        }
    }
    let left = room.saturating_sub(width(&plan));
    if let Some((_, w)) = plan.last_mut().filter(|(c, _)| c.most == 0) {
        *w += left;
    }
    let end = x + room;
    let mut at = x;
    for (c, w) in &plan {
        let w = (*w).min(end.saturating_sub(at));
        if c.right {
            pen.right(at, area.y, w, c.head, Role::Label);
        } else {
            pen.text(at, area.y, w, c.head, Role::Label);
        }
        at += w + 2;
    }
    for (i, row) in rows.iter().enumerate().skip(top).take(lines) {
        let y = area.y + 1 + u16::try_from(i - top).unwrap_or(0);
        let mut at = x;
        for (c, w) in &plan {
            let w = (*w).min(end.saturating_sub(at));
            let (text, role) = (c.value)(row, view);
            if c.right {
                pen.right(at, y, w, &text, role);
            } else if c.most == 0 || c.most >= WORDS {
                pen.text(at, y, w, &text, role);
            } else {
                pen.text(at, y, w, &parts::tail(&text, w), role);
            }
            at += w + 2;
        }
        if cursor.row(0, rows.len()) == Some(i) {
            pen.overlay(area.x, y, area.width, Role::Selected);
        }
        if gutter > 0 {
            present::number(view, area.x + 1, y, i, pen);
        }
        let line = Rect {
            y,
            height: 1,
            ..area
        };
        present::pointer(view, line, i, pen);
    }
}

/// A dash where nothing is known.
#[must_use]
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or("-").to_owned()
}

/// A number, or a dash.
#[must_use]
pub fn number<N: ToString>(n: Option<N>) -> String {
    n.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// The row under the cursor of a pane's list.
#[must_use]
pub fn selected<'r, R>(view: &View<'_>, pane: PaneId, rows: &'r [R]) -> Option<&'r R> {
    rows.get(view.screen.list(pane).cursor.row(0, rows.len())?)
}

/// What keys act on in a list: its rows, those that are problems, and what is copied of the selected one.
pub fn counts<R>(
    view: &View<'_>,
    pane: PaneId,
    rows: &[R],
    body: Rect,
    copy: impl Fn(&R) -> String,
    problem: impl Fn(&R) -> bool,
) -> Counts {
    Counts {
        rows: rows.len(),
        page: usize::from(body.height.saturating_sub(2)),
        problems: rows
            .iter()
            .enumerate()
            .filter(|(_, r)| problem(r))
            .map(|(i, _)| i)
            .collect(),
        copy: selected(view, pane, rows).map(copy),
        ..Counts::default()
    }
}

/// A sentence, and beneath it the table of a pane's list.
pub fn headed<R>(
    view: &View<'_>,
    pane: PaneId,
    (sentence, role): (&str, Role),
    columns: &[&Column<R>],
    rows: &[R],
    area: Rect,
    pen: &mut Pen<'_>,
) {
    pen.text(
        area.x + 1,
        area.y,
        area.width.saturating_sub(2),
        sentence,
        role,
    );
    let table = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    draw(
        view,
        columns,
        rows,
        view.screen.list(pane).cursor,
        table,
        pen,
    );
}
