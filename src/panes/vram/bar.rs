//! A bar of memory: weights that came and that are to come, what else is in use, what is kept for the KV cache,
//! what others hold. Glyphs before colours: each part has its own.

use ratatui::layout::Rect;

use crate::panes::parts::{self, Pen};
use crate::parse::Nanos;
use crate::rules::scene::GpuView;
use crate::theme::Role;

/// Parts of a bar in bytes, from left to right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Weights that are there, or all of the used memory where they can't be told apart.
    came: u64,
    /// Weights to come.
    to_come: u64,
    /// Used beyond the weights: context, NCCL, activations, KV cache.
    work: u64,
    /// Kept for the KV cache and not yet taken.
    reserve: u64,
    /// Somebody else's.
    other: u64,
    /// All of it.
    total: u64,
    /// Nobody measured it.
    unknown: bool,
}

impl Parts {
    /// Of several GPUs together.
    pub(super) fn of(gpus: &[&GpuView]) -> Self {
        let mut sum = Self {
            unknown: gpus.iter().all(|g| g.used.is_none()),
            ..Self::default()
        };
        for g in gpus {
            let one = Self::one(g);
            sum.came += one.came;
            sum.to_come += one.to_come;
            sum.work += one.work;
            sum.reserve += one.reserve;
            sum.other += one.other;
            sum.total += one.total;
        }
        sum
    }

    fn one(g: &GpuView) -> Self {
        let (Some(used), Some(total)) = (g.used, g.total) else {
            return Self::default();
        };
        let other = g.other.unwrap_or(0).min(used);
        let own = used - other;
        // Without an expectation nothing tells weights from the rest.
        let came = g.filled.map_or(own, |f| f.min(own));
        let to_come = g
            .expected_weights
            // Whoever has ended waits for nothing.
            .filter(|_| g.filled.is_some() && !g.ended)
            .map_or(0, |e| e.saturating_sub(came));
        let work = own - came;
        let kept = g.limit.filter(|_| !g.ended).unwrap_or(0).min(total);
        // What others hold can't be kept.
        let free = total.saturating_sub(other + came + to_come + work);
        let reserve = kept.saturating_sub(came + to_come + work).min(free);
        Self {
            came,
            to_come,
            work,
            reserve,
            other,
            total,
            unknown: false,
        }
    }

    /// Draws the bar.
    pub(super) fn draw(&self, x: u16, y: u16, width: u16, pen: &mut Pen<'_>) {
        if self.unknown || self.total == 0 {
            pen.fill(x, y, width, ' ', Role::Unknown);
            pen.text(x, y, width, "?", Role::Unknown);
            return;
        }
        let parts = [
            (self.came, '█', Role::BarDone),
            (self.to_come, '░', Role::BarRest),
            (self.work, '▓', Role::BarDone),
            (self.reserve, '┊', Role::BarReserve),
            (self.other, '▒', Role::BarOther),
        ];
        let column = |bytes: u64| {
            let c = u128::from(bytes) * u128::from(width) / u128::from(self.total);
            u16::try_from(c).unwrap_or(width).min(width)
        };
        let (mut sum, mut at) = (0u64, 0u16);
        pen.fill(x, y, width, ' ', Role::Text);
        for (bytes, glyph, role) in parts {
            sum = sum.saturating_add(bytes);
            let mut to = column(sum);
            // What somebody else holds is never rounded away.
            if glyph == '▒' && bytes > 0 && to == at && at < width {
                to += 1;
            }
            pen.fill(x + at, y, to.saturating_sub(at), glyph, role);
            at = to.max(at);
        }
    }
}

/// What the glyphs mean, as far as there is room.
pub(super) fn legend(x: u16, y: u16, width: u16, pen: &mut Pen<'_>) {
    let parts = [
        ("█", Role::BarDone, " weights "),
        ("░", Role::BarRest, " to come "),
        ("▓", Role::BarDone, " in use "),
        ("┊", Role::BarReserve, " KV reserve "),
        ("▒", Role::BarOther, " others "),
    ];
    let mut at = 0;
    for (glyph, role, word) in parts {
        if at + 1 + parts::columns(word) > width {
            break;
        }
        at += pen.text(x + at, y, 1, glyph, role);
        at += pen.text(x + at, y, width - at, word, Role::Label);
    }
}

/// A curve of memory over time, filled from below. A column is one second wide, or two, four …, counted from the
/// first point: so a new point changes the last column alone, and the whole only when the curve outgrows its room.
pub(super) fn curve(points: &[(Nanos, u64)], most: u64, area: Rect, pen: &mut Pen<'_>) {
    const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some((from, _)), Some((to, _))) = (points.first(), points.last()) else {
        return;
    };
    if area.width == 0 || area.height == 0 || most == 0 {
        return;
    }
    let mut wide = 1_000_000_000;
    while (to - from) / wide >= i64::from(area.width) {
        wide *= 2;
    }
    let mut next = 0;
    let mut value = 0;
    for column in 0..area.width {
        if next >= points.len() {
            break;
        }
        let end = from + wide * i64::from(column + 1);
        let mut high = None;
        while let Some((_, v)) = points.get(next).filter(|(at, _)| *at < end) {
            high = high.max(Some(*v));
            next += 1;
        }
        value = high.unwrap_or(value);
        let eighths = u128::from(value.min(most)) * u128::from(area.height) * 8 / u128::from(most);
        let mut rest = usize::try_from(eighths).unwrap_or(0);
        if rest == 0 && value > 0 {
            rest = 1;
        }
        for line in (0..area.height).rev() {
            let here = rest.min(8);
            rest -= here;
            let Some(glyph) = here.checked_sub(1).and_then(|i| EIGHTHS.get(i)) else {
                break;
            };
            pen.fill(area.x + column, area.y + line, 1, *glyph, Role::BarDone);
        }
    }
}
