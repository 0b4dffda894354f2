//! Rows of a test by size, each way of measuring a column, the bus bandwidth as a bar: the curve, lying down.

use ratatui::layout::Rect;

use super::super::View;
use super::super::parts::Pen;
use crate::model::screen::PaneId;
use crate::rules::busbw::size;
use crate::rules::testing::TestView;
use crate::theme::Role;

/// Columns of a number.
const NUMBER: u16 = 10;
/// Columns of the time with its type in the head.
const TIME: u16 = 13;

/// Sizes in the list, smallest first; the filter takes a part of how they are written.
pub(super) fn listed(view: &View<'_>, test: &TestView) -> Vec<u64> {
    let filter = view.screen.list(PaneId::Test).filter.to_lowercase();
    let mut all = test.sizes();
    all.retain(|b| filter.is_empty() || size(*b).to_lowercase().contains(&filter));
    all
}

/// A size as one line to copy.
pub(super) fn line(test: &TestView, bytes: u64) -> String {
    let mut out = size(bytes);
    for s in &test.series {
        if let Some((half, wrong)) = s.points.get(&bytes) {
            let wrong = wrong.map_or(String::new(), |w| format!(", {w} wrong"));
            out.push_str(&format!(
                "; {} {}: {:.2} us, algbw {:.2}, busbw {:.2} GB/s{wrong}",
                s.by, s.kind, half.us, half.algbw, half.busbw
            ));
        }
    }
    out
}

/// A bandwidth with the digits that matter.
pub(super) fn rate(busbw: f64) -> String {
    match busbw {
        b if b >= 100.0 => format!("{b:.0}"),
        b if b >= 10.0 => format!("{b:.1}"),
        b if b >= 0.01 => format!("{b:.2}"),
        _ => "0.00".into(),
    }
}

/// Draws heads and the sizes around the selected one.
pub(super) fn draw(view: &View<'_>, test: &TestView, area: Rect, pen: &mut Pen<'_>) {
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let sizes = listed(view, test);
    if area.height < 2 {
        return;
    }
    if sizes.is_empty() {
        let why = if test.sizes().is_empty() {
            "No row yet. Bandwidths come size by size, in GB/s on the bus."
        } else {
            "No size matches the filter."
        };
        pen.text(x, area.y, width, why, Role::Quiet);
        return;
    }
    // The ways of measuring that fit beside size, time and wrong elements; the bar takes what is left.
    let fixed = 9 + TIME + 7;
    let room = usize::from(width.saturating_sub(fixed + 8) / NUMBER);
    let series: Vec<_> = test.series.iter().take(room.max(1)).collect();
    let shown = u16::try_from(series.len()).unwrap_or(1);
    let at = |column: u16| x + 9 + TIME + NUMBER * column;
    pen.right(x, area.y, 9, "SIZE", Role::Label);
    // The time is that of the type which is graded, and no other's.
    let timed = test.graded();
    let head = timed.map_or_else(String::new, |s| format!("{} us", s.label));
    pen.right(x + 9, area.y, TIME, &head, Role::Label);
    for (i, s) in (0..).zip(&series) {
        pen.right(at(i), area.y, NUMBER, &s.label, Role::Label);
    }
    pen.right(at(shown), area.y, 7, "WRONG", Role::Label);
    let bar = at(shown) + 9;
    let bar_width = (x + width).saturating_sub(bar);
    let highest = sizes
        .iter()
        .filter_map(|b| test.busbw(*b))
        .fold(0.0, f64::max);
    let scale = test.expected.unwrap_or(0.0).max(highest);
    let column = |rate: f64| columns(rate, scale, bar_width);
    let mark = test.expected.filter(|_| bar_width > 8).map(column);
    match test.expected {
        Some(e) if bar_width > 8 => {
            let head = format!("GB/s, {} expected |", rate(e));
            let end = mark.map_or(bar_width, |m| m.max(1));
            pen.right(
                bar,
                area.y,
                end.max(head.len().try_into().unwrap_or(end)).min(bar_width),
                &head,
                Role::Label,
            );
        }
        _ => drop(pen.text(bar, area.y, bar_width, "GB/s on the bus", Role::Label)),
    }
    let lines = usize::from(area.height - 1);
    let cursor = view.screen.list(PaneId::Test).cursor;
    let top = cursor.top(0, sizes.len(), lines);
    for (i, bytes) in sizes.iter().enumerate().skip(top).take(lines) {
        let y = area.y + 1 + u16::try_from(i - top).unwrap_or(0);
        let wrong = test.wrong(*bytes);
        pen.right(x, y, 9, &size(*bytes), Role::Text);
        let time = timed.and_then(|s| s.points.get(bytes));
        let time = time.map_or_else(|| "-".into(), |(half, _)| format!("{:.1}", half.us));
        pen.right(x + 9, y, TIME, &time, Role::Quiet);
        for (column, s) in (0..).zip(&series) {
            let (text, role) = match s.points.get(bytes) {
                Some((half, _)) => (
                    rate(half.busbw),
                    if s.on_gpus() {
                        Role::Strong
                    } else {
                        Role::Text
                    },
                ),
                None => ("-".into(), Role::Missing),
            };
            pen.right(at(column), y, NUMBER, &text, role);
        }
        let (text, role) = match wrong {
            None => ("-".into(), Role::Unknown),
            Some(0) => ("0".to_owned(), Role::Quiet),
            Some(n) => (n.to_string(), Role::Fail),
        };
        pen.right(at(shown), y, 7, &text, role);
        if let Some(busbw) = test.busbw(*bytes) {
            pen.fill(
                bar,
                y,
                column(busbw).max(1).min(bar_width),
                '█',
                Role::BarDone,
            );
        }
        if let Some(m) = mark.filter(|m| *m > 0) {
            pen.fill(bar + m - 1, y, 1, '│', Role::Rule);
        }
        if cursor.row(0, sizes.len()) == Some(i) {
            pen.overlay(area.x, y, x + width - area.x, Role::Selected);
        }
    }
}

/// Columns of a bar.
fn columns(rate: f64, scale: f64, width: u16) -> u16 {
    if scale <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the width"
    )]
    let n = (rate / scale * f64::from(width)).clamp(0.0, f64::from(width)) as u16;
    n
}
