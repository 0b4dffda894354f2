//! How a grid is laid out in a rectangle, and drawn there.

use ratatui::layout::Rect;

use super::{Entry, Grid, Look, changes, number};
use crate::panes::matrix::sign;
use crate::panes::parts::{self, Pen};
use crate::rules::scene::Glyph;
use crate::theme::Role;

/// Where everything goes.
pub(super) struct Plan {
    /// Columns of the names of hosts, and which of their lengths.
    names: u16,
    length: usize,
    /// Columns of the ranks behind a node.
    ranks: u16,
    /// Columns of the numbers in front of the rows.
    numbers: u16,
    /// Columns of a cell.
    pub(super) cell: u16,
    /// Columns between hosts (0: no borders), the border in the middle.
    border: u16,
    /// A row between hosts.
    ruled: bool,
    /// Rows of column heads: names of hosts, then numbers.
    head_names: u16,
    head_numbers: u16,
    /// First and number of visible columns and rows.
    columns: (usize, usize),
    rows: (usize, usize),
    /// Something does not fit; a line says what.
    cut: bool,
}

impl Plan {
    pub(super) fn of(grid: &Grid<'_>, area: Rect, focus: Option<(usize, usize)>) -> Option<Self> {
        let n = grid.entries.len();
        if n == 0 || area.width < 8 || area.height < 3 {
            return None;
        }
        let (widest, ranks) = (grid.widest, grid.widest_ranks);
        let longest = |length: usize| grid.longest.get(length).copied().unwrap_or(1);
        let numbers = widest + 1;
        let borders = if grid.folded { 0 } else { changes(grid) };
        let room = u32::from(area.width.saturating_sub(ranks + 1 + numbers));
        let columns = u32::try_from(n).unwrap_or(u32::MAX);
        let wide = |cell: u16, border: u16| {
            columns.saturating_mul(u32::from(cell)) + borders * u32::from(border)
        };
        let roomy = (widest + 1).max(2);
        // Roomy cells and whole names first; names give way before cells do, and borders in between.
        let cells = [(roomy, 3), (2, 3), (2, 2), (2, 1), (1, 1)];
        let tries = cells
            .into_iter()
            .flat_map(|(c, b)| (0..3).map(move |length| (c, b, length)));
        let fitting = tries
            .into_iter()
            .find(|(c, b, length)| wide(*c, *b) + u32::from(longest(*length).min(28)) <= room);
        // Nothing fits: a window of readable cells.
        let (cell, border, length) = fitting.unwrap_or((2, 2, 1));
        let names = match fitting {
            Some(_) => longest(length).min(28),
            None => longest(length).min(28).min(area.width / 3),
        };
        let left = names + ranks + 1 + numbers;
        let border = if grid.folded { 0 } else { border };
        let upright = cell < widest + 1 && widest > 1;
        let head_numbers = if upright { widest } else { 1 };
        let head_names = u16::from(!grid.folded && borders > 0 && area.height > head_numbers + 4);
        let head = head_names + head_numbers;
        let lines = usize::from(area.height.saturating_sub(head));
        let ruled =
            !grid.folded && borders > 0 && fitting.is_some() && n + borders as usize <= lines;
        let room = usize::from(area.width.saturating_sub(left)) / usize::from(cell.max(1));
        // One line says what is left out.
        let cut = fitting.is_none() || n > lines;
        let down = n.min(lines.saturating_sub(usize::from(cut)).max(1));
        let mut across = n;
        if fitting.is_none() {
            // Borders inside the window take room too; a bound is enough.
            across = room
                .saturating_sub(usize::from(border) * (room / 8 + 1) / usize::from(cell))
                .clamp(1, n);
        }
        let (row, column) = focus.unwrap_or((0, 0));
        let window = |at: usize, size: usize| (parts::page(at, n, size), size);
        Some(Self {
            names,
            length,
            ranks,
            numbers,
            cell,
            border,
            ruled,
            head_names,
            head_numbers,
            columns: window(column, across),
            rows: window(row, down),
            cut,
        })
    }

    /// Column of the screen where a visible column starts.
    pub(super) fn xs(&self, grid: &Grid<'_>, area: Rect) -> Vec<u16> {
        let (first, count) = self.columns;
        let mut x = area.x + self.names + self.ranks + 1 + self.numbers;
        let mut last = None;
        grid.entries
            .iter()
            .skip(first)
            .take(count)
            .map(|e| {
                if last.is_some_and(|h| h != e.host) {
                    x += self.border;
                }
                last = Some(e.host);
                let here = x;
                x += self.cell;
                here
            })
            .collect()
    }

    pub(super) fn draw(
        &self,
        grid: &Grid<'_>,
        area: Rect,
        cursor: Option<(usize, usize)>,
        pen: &mut Pen<'_>,
    ) -> u16 {
        let xs = self.xs(grid, area);
        let (first, count) = self.columns;
        let end = area.x + area.width;
        self.heads(grid, area, &xs, cursor, pen);
        let mut y = area.y + self.head_names + self.head_numbers;
        let bottom = area.y + area.height;
        let mut looks = Vec::new();
        let mut last = None;
        let mark = grid
            .mark
            .and_then(|(a, b)| Some((grid.index(a)?, grid.index(b)?)));
        let (top, rows) = self.rows;
        for (i, entry) in grid.entries.iter().enumerate().skip(top).take(rows) {
            let new_host = last != Some(entry.host);
            if last.is_some() && new_host && self.ruled && y < bottom {
                self.rule(grid, area, &xs, y, pen);
                y += 1;
            }
            last = Some(entry.host);
            if y >= bottom {
                break;
            }
            let on_row = cursor.is_some_and(|(r, _)| r == i);
            if new_host || on_row || grid.folded {
                self.name(grid, entry, area.x, y, pen);
            }
            let label = number(entry);
            let at = area.x + self.names + self.ranks + 1;
            pen.right(
                at,
                y,
                self.numbers - 1,
                &label,
                if on_row { Role::Strong } else { Role::Label },
            );
            if on_row {
                pen.overlay(at, y, self.numbers - 1, Role::Selected);
            }
            let pointed = mark.is_some_and(|(r, _)| r == i);
            if pointed {
                pen.overlay(at, y, self.numbers - 1, Role::Pointer);
                pen.fill(at.saturating_sub(1), y, 1, '▶', Role::Strong);
            }
            grid.row(entry, &mut looks);
            let mut before = None;
            for (x, (j, look)) in xs
                .iter()
                .zip(looks.iter().enumerate().skip(first).take(count))
            {
                if *x >= end {
                    break;
                }
                let host = grid.entries.get(j).map(|e| e.host);
                if before.is_some() && before != host {
                    self.border(*x, y, pen);
                }
                before = host;
                let here = cursor == Some((i, j));
                self.cell(*x, y, look, i == j && !grid.folded, here, pen);
                if mark == Some((i, j)) && !here {
                    pen.overlay(*x, y, self.cell.min(2), Role::Pointer);
                }
            }
            y += 1;
        }
        if self.cut && y < bottom {
            pen.text(area.x, y, area.width, &self.what_is_cut(grid), Role::Quiet);
            y += 1;
        }
        y - area.y
    }

    fn name(&self, grid: &Grid<'_>, entry: &Entry, x: u16, y: u16, pen: &mut Pen<'_>) {
        let host = parts::tail(grid.named(entry, self.length), self.names);
        pen.text(x, y, self.names, &host, Role::Text);
        if self.ranks > 0 {
            pen.right(
                x + self.names + 1,
                y,
                self.ranks - 1,
                &grid.ranks(entry),
                Role::Quiet,
            );
        }
    }

    fn heads(
        &self,
        grid: &Grid<'_>,
        area: Rect,
        xs: &[u16],
        cursor: Option<(usize, usize)>,
        pen: &mut Pen<'_>,
    ) {
        let (first, count) = self.columns;
        let end = area.x + area.width;
        let visible: Vec<(usize, &Entry)> = grid
            .entries
            .iter()
            .enumerate()
            .skip(first)
            .take(count)
            .collect();
        if self.head_names > 0 {
            // Runs of columns of one host: where each starts, how much room its name has.
            let mut runs: Vec<(&Entry, u16, u16)> = Vec::new();
            let mut start = 0;
            while let Some((_, entry)) = visible.get(start) {
                let run = visible
                    .iter()
                    .skip(start)
                    .take_while(|(_, e)| e.host == entry.host)
                    .count();
                let next = xs.get(start + run).map_or(end, |x| x.saturating_sub(1));
                if let Some(x) = xs.get(start) {
                    runs.push((*entry, *x, next.min(end).saturating_sub(*x)));
                }
                start += run;
            }
            // One length for all of them, so that they read alike.
            let fits = |length: usize| {
                runs.iter()
                    .all(|(e, _, room)| parts::columns(grid.named(e, length)) <= *room)
            };
            let length = (0..3).find(|l| fits(*l)).unwrap_or(2);
            for (entry, x, room) in &runs {
                pen.text(
                    *x,
                    area.y,
                    *room,
                    &parts::tail(grid.named(entry, length), *room),
                    Role::Text,
                );
            }
            if let Some(x) = xs.last().filter(|_| first + count < grid.entries.len()) {
                pen.text(
                    x + self.cell,
                    area.y,
                    end.saturating_sub(x + self.cell),
                    "…",
                    Role::Quiet,
                );
            }
        }
        let y = area.y + self.head_names;
        for ((j, entry), x) in visible.iter().zip(xs) {
            if *x >= end {
                break;
            }
            let label = number(entry);
            let on = cursor.is_some_and(|(_, c)| c == *j);
            let pointed = grid.mark.is_some_and(|(_, to)| to == entry.number);
            let role = if on { Role::Strong } else { Role::Label };
            if self.head_numbers == 1 {
                let n = pen.text(*x, y, self.cell.min(end - x), &label, role);
                if on {
                    pen.overlay(*x, y, n, Role::Selected);
                }
                if pointed {
                    pen.overlay(*x, y, n, Role::Pointer);
                }
                continue;
            }
            // Upright: the last digit stands next to the cells.
            let pad = usize::from(self.head_numbers).saturating_sub(label.chars().count());
            for (k, c) in label.chars().enumerate() {
                let row = y + u16::try_from(pad + k).unwrap_or(0);
                pen.text(*x, row, 1, c.encode_utf8(&mut [0; 4]), role);
                if on {
                    pen.overlay(*x, row, 1, Role::Selected);
                }
                if pointed {
                    pen.overlay(*x, row, 1, Role::Pointer);
                }
            }
        }
    }

    /// `… rows 64-79, columns 49-97 of 128 nodes`
    fn what_is_cut(&self, grid: &Grid<'_>) -> String {
        let n = grid.entries.len();
        let what = if grid.folded {
            parts::count(n as u64, "node", "nodes")
        } else {
            parts::count(n as u64, "rank", "ranks")
        };
        let span = |name: &str, (first, count): (usize, usize)| {
            let ends = grid
                .entries
                .get(first)
                .zip(grid.entries.get((first + count).min(n).saturating_sub(1)));
            ends.filter(|_| count < n)
                .map(|(a, b)| format!("{name} {}-{}", number(a), number(b)))
        };
        let cut: Vec<String> = [span("rows", self.rows), span("columns", self.columns)]
            .into_iter()
            .flatten()
            .collect();
        format!("… {} of {what}", cut.join(", "))
    }

    fn border(&self, x: u16, y: u16, pen: &mut Pen<'_>) {
        let back = match self.border {
            0 => return,
            1 => 1,
            _ => 2,
        };
        pen.fill(x - back, y, 1, '│', Role::Rule);
    }

    fn rule(&self, grid: &Grid<'_>, area: Rect, xs: &[u16], y: u16, pen: &mut Pen<'_>) {
        let (Some(start), Some(last)) = (xs.first(), xs.last()) else {
            return;
        };
        let end = (last + self.cell).min(area.x + area.width);
        pen.fill(*start, y, end.saturating_sub(*start), '─', Role::Rule);
        if self.border == 0 {
            return;
        }
        let hosts = grid.entries.iter().skip(self.columns.0).map(|e| e.host);
        let mut before = None;
        for (x, host) in xs.iter().zip(hosts) {
            if before.is_some_and(|b| b != host) && *x < end {
                pen.fill(
                    x - if self.border == 1 { 1 } else { 2 },
                    y,
                    1,
                    '┼',
                    Role::Rule,
                );
            }
            before = Some(host);
        }
    }

    fn cell(&self, x: u16, y: u16, look: &Look, diagonal: bool, cursor: bool, pen: &mut Pen<'_>) {
        let (mut c, mut role) = look.glyph.map_or((' ', Role::Missing), sign);
        if diagonal && matches!(look.glyph, None | Some(Glyph::Missing)) {
            (c, role) = ('/', Role::Rule);
        }
        pen.fill(x, y, 1, c, role);
        let wide = self.cell >= 2;
        let mark = match look {
            Look {
                downgraded: true, ..
            } => Some(('!', role)),
            Look { disagree: true, .. } => Some(('≠', Role::Warn)),
            Look { open: true, .. } => Some(('?', Role::Doubt)),
            _ => None,
        };
        let mut width = 1;
        if let (Some((m, role)), true) = (mark, wide) {
            pen.fill(x + 1, y, 1, m, role);
            width = 2;
        }
        if look.downgraded {
            pen.overlay(x, y, width, Role::Downgrade);
        }
        if cursor {
            // Two columns wide, so that it is seen on a reversed cell as well.
            pen.overlay(x, y, if wide { 2 } else { 1 }, Role::Cursor);
        }
    }
}
