//! Every rank: where it runs, how far its start-up is, what it is in the parallel layout.

mod detail;
mod grid;
mod list;
mod seats;

use ratatui::layout::Rect;

use super::overview;
use super::parts::Pen;
use super::{Page, Pane, View};
use crate::model::screen::{Counts, PaneId};
use crate::rules::scene::{ProcessView, Scene};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Ranks,
    title: "start-up and place of every rank: pod, node, GPU, TP × PP × DP × EP",
    min: (36, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge,
};

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    // Each rank once, however many lives it had; API servers and engines are none.
    let numbers = overview::numbers(scene);
    let count = |bad: fn(&ProcessView) -> bool| {
        let all = scene.processes.iter().zip(&numbers);
        let mut ranks: Vec<u32> = all
            .filter(|(p, _)| bad(p))
            .filter_map(|(_, n)| *n)
            .collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks.len()
    };
    let ended = count(|p| p.alive == Some(false));
    let still = count(|p| p.absent || p.accused.is_some() || p.still.is_some_and(|s| !s.waits));
    match (ended, still) {
        (0, 0) => None,
        (0, n) => Some((n, Role::Warn)),
        (n, _) => Some((n, Role::Fail)),
    }
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    if view.screen.is_on("grid") {
        return grid::counts(view, body);
    }
    list::counts(view, body)
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let grid = view.screen.is_on("grid");
    let told = !view.scene.layout.engines.is_empty();
    if view.scene.processes.is_empty() && !(grid && told) {
        pen.text(x, area.y, width, "No process has spoken yet.", Role::Strong);
        let why = if told {
            "v shows how the job is cut by its command lines, and which rank belongs into which pod."
        } else {
            "Ranks come from the lines of vLLM's workers and from NCCL's (NCCL_DEBUG=INFO)."
        };
        pen.wrapped(
            x,
            area.y + 1,
            width,
            area.height.saturating_sub(1),
            why,
            Role::Quiet,
        );
        return;
    }
    if grid {
        grid::draw(view, area, pen);
        return;
    }
    let (sentence, role) = overview::where_they_are(view);
    pen.text(x, area.y, width, &sentence, role);
    let mut y = area.y + 1;
    for text in overview::counted(view.scene).iter().take(2) {
        if area.bottom() > y + 4 {
            pen.text(x, y, width, text, Role::Quiet);
            y += 1;
        }
    }
    let table = Rect {
        y,
        height: area.bottom().saturating_sub(y),
        ..area
    };
    list::draw(view, table, pen);
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    if view.screen.is_on("grid") {
        return grid::page(view, width);
    }
    let rows = list::rows(view);
    let row = rows.get(view.screen.list(PaneId::Ranks).cursor.row(0, rows.len())?)?;
    Some(detail::page(view, row, width))
}
