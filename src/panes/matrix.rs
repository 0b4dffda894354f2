//! Rank by rank, the transport that NCCL chose. All communicators merged first, then one at a time; cell by cell
//! while that can be read, node by node beyond, and two nodes looked into from there.

mod detail;
mod grid;
mod words;

use std::sync::Arc;

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{Page, Pane, View};
use crate::model::screen::{Counts, PaneId, Ranks};
use crate::rules::scene::{Glyph, Matrix, Scene};
use crate::theme::Role;

pub use grid::Grid;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Matrix,
    title: "the transport that NCCL chose, rank by rank",
    min: (32, 6),
    draw,
    counts,
    drill: detail::drill,
    explain: words::explain,
    badge,
};

/// Ranks beyond which the matrix opens node by node.
const CELL_BY_CELL: usize = 64;

/// Every sign of the matrix: what is drawn, in which role, what it means.
pub const SIGNS: [(&str, Role, &str); 15] = [
    (
        "P",
        Role::P2p,
        "P2P inside a host (CUMEM, IPC, direct pointer)",
    ),
    ("M", Role::P2p, "P2P over multi-node NVLink"),
    ("p", Role::P2pWeak, "P2P indirect, or by copy engine"),
    ("S", Role::Shm, "shared host memory"),
    (
        "R",
        Role::NetGdr,
        "network with GPUDirect RDMA on both sides",
    ),
    ("I", Role::Net, "RDMA network, staged through host memory"),
    ("T", Role::Tcp, "TCP sockets"),
    ("C", Role::CollNet, "CollNet"),
    (
        "·",
        Role::Missing,
        "same communicator, no connection needed or seen",
    ),
    (
        "?",
        Role::Doubt,
        "not known yet, or could belong to another communicator",
    ),
    ("/", Role::Rule, "a rank and itself"),
    ("!", Role::Tcp, "after a sign: worse than its place allows"),
    (
        "≠",
        Role::Warn,
        "after a sign: sender and receiver disagree",
    ),
    (
        "?",
        Role::Doubt,
        "after a sign: more lines that could belong here",
    ),
    (
        "~",
        Role::Quiet,
        "before a number: by order of appearance, no global rank is known",
    ),
];

/// Sign and role of a transport.
#[must_use]
pub const fn sign(glyph: Glyph) -> (char, Role) {
    match glyph {
        Glyph::Mnnvl => ('M', Role::P2p),
        Glyph::P2p => ('P', Role::P2p),
        Glyph::P2pWeak => ('p', Role::P2pWeak),
        Glyph::CollNet => ('C', Role::CollNet),
        Glyph::NetGdr => ('R', Role::NetGdr),
        Glyph::Shm => ('S', Role::Shm),
        Glyph::Net => ('I', Role::Net),
        Glyph::Tcp => ('T', Role::Tcp),
        Glyph::Doubt => ('?', Role::Doubt),
        Glyph::Missing => ('·', Role::Missing),
    }
}

/// Ranks that the merged matrix shows.
#[must_use]
pub fn ranks_of(scene: &Scene) -> u32 {
    scene
        .matrices
        .first()
        .map_or(0, |m| u32::try_from(m.slots.len()).unwrap_or(u32::MAX))
}

/// The matrix that is open.
fn open<'a>(view: &View<'a>) -> Option<&'a Matrix> {
    let all = &view.scene.matrices;
    let at = view.screen.matrix.tab.min(all.len().saturating_sub(1));
    all.get(at).map(|m| &**m)
}

/// What the matrices are called, the merged one first.
pub(super) fn labels(scene: &Scene) -> Vec<String> {
    scene.matrices.iter().map(|m| m.label.clone()).collect()
}

/// Ranks of the open matrix and of the merged one.
pub(super) fn ranks(view: &View<'_>) -> (Ranks, Ranks) {
    let ranks = |m: &Matrix| Ranks {
        label: m.label.clone(),
        numbers: m.slots.iter().map(|s| s.number).collect(),
        nodes: match by_node(view, m) {
            true => Grid::hosts(m).1,
            false => Vec::new(),
        },
    };
    let merged = view.scene.matrices.first();
    (
        open(view).map(ranks).unwrap_or_default(),
        merged.map(|m| ranks(m)).unwrap_or_default(),
    )
}

/// Whether there is something to draw: ranks, and a communicator among them or a line that may be one's.
pub(super) fn tells(scene: &Scene, matrix: &Matrix) -> bool {
    let speaks = !scene.communicators.is_empty() || !matrix.cells.is_empty();
    speaks && !matrix.slots.is_empty()
}

/// What is drawn now: rank by rank, node by node, or two nodes rank by rank.
fn shown<'a>(view: &View<'a>) -> Option<Grid<'a>> {
    let matrix = open(view).filter(|m| tells(view.scene, m))?;
    let filter = view.screen.filter();
    let marked = |grid: Grid<'a>| {
        let mark = view.screen.pointed_cell(grid.folded());
        grid.with_mark(mark)
    };
    if let Some((a, b)) = view.screen.matrix.zoom {
        return Some(marked(Grid::of_nodes(matrix, a, b, filter)));
    }
    Some(marked(if by_node(view, matrix) {
        Grid::by_node(matrix, filter)
    } else {
        Grid::by_rank(matrix, filter)
    }))
}

/// Whether a matrix opens node by node: large ones do, unless somebody wants it otherwise.
fn by_node(view: &View<'_>, matrix: &Matrix) -> bool {
    let many = matrix.slots.len() > CELL_BY_CELL && Grid::nodes_in(matrix) > 1;
    many != view.screen.is_on("nodes")
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let mut counts = Counts {
        tabs: labels(view.scene),
        ..Counts::default()
    };
    let Some(grid) = shown(view) else {
        return counts;
    };
    counts.axis = grid.axis();
    counts.folded = grid.folded();
    counts.bad_cells = grid.problems();
    counts.rows = counts.axis.len();
    counts.page = usize::from(body.height.saturating_sub(8)).max(1);
    counts.copy = view
        .screen
        .matrix
        .at(&counts)
        .and_then(|at| detail::copy(view, &grid, at));
    counts
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let bad = scene
        .matrices
        .first()?
        .cells
        .iter()
        .filter(|c| c.downgraded || c.disagree)
        .count();
    (bad > 0).then_some((bad, Role::Warn))
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (Some(matrix), Some(grid)) = (open(view), shown(view)) else {
        words::why_empty(view, area, pen);
        return;
    };
    let bad = grid.problems();
    let counts = Counts {
        axis: grid.axis(),
        folded: grid.folded(),
        bad_cells: bad,
        ..Counts::default()
    };
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    // The sentence, then what is shown of what.
    let loud = if counts.bad_cells.is_empty() {
        Role::Strong
    } else {
        Role::Warn
    };
    pen.text(x, area.y, width, &matrix.headline, loud);
    tabs(
        view,
        &grid,
        Rect {
            x,
            y: area.y + 1,
            width,
            height: 1,
        },
        pen,
    );
    if counts.axis.is_empty() {
        let nothing = format!("no rank or host matches {}", view.screen.filter());
        pen.text(x, area.y + 3, width, &nothing, Role::Quiet);
        return;
    }
    let cursor = view.screen.matrix.at(&counts);
    // From below: legend, what the cursor stands on; the grid has the rest.
    let orders = view.screen.is_on("rings") || view.screen.is_on("trees");
    let (below, legend, air) = match area.height {
        0..=9 => (0, 0, 0),
        10..=13 => (1, 0, 0),
        14..=17 => (3, 0, 0),
        18..=23 => (3, 1, 0),
        h if orders => (h / 4, 1, 1),
        _ => (3, 1, 1),
    };
    let room = Rect {
        x,
        y: area.y + 2 + air,
        width,
        height: area.height.saturating_sub(2 + 2 * air + below + legend),
    };
    let used = grid.draw(room, cursor, true, pen);
    if below > 0 {
        // Right under a small grid, so that the eye does not have to travel.
        let air = u16::from(room.height > used);
        let y = room.y + used + air;
        let height = (area.y + area.height - legend).saturating_sub(y);
        detail::under_cursor(
            view,
            &grid,
            cursor,
            Rect {
                x,
                y,
                width,
                height,
            },
            pen,
        );
    }
    if legend > 0 {
        draw_legend(
            matrix,
            Rect {
                x,
                y: area.y + area.height - 1,
                width,
                height: 1,
            },
            pen,
        );
    }
}

/// Which communicators there are, the open one marked; on the left what is drawn of it.
fn tabs(view: &View<'_>, grid: &Grid<'_>, area: Rect, pen: &mut Pen<'_>) {
    let Some(matrix) = open(view) else { return };
    let n = matrix.slots.len() as u64;
    let hosts = Grid::nodes_in(matrix) as u64;
    let mut what = format!(
        "{}, {}",
        parts::count(n, "rank", "ranks"),
        parts::count(hosts, "host", "hosts")
    );
    if grid.folded() {
        what.push_str(", node by node");
    }
    if let Some((a, b)) = view.screen.matrix.zoom {
        what = if a == b {
            format!("node {a} rank by rank")
        } else {
            format!("nodes {a} and {b} rank by rank")
        };
    }
    let all = &view.scene.matrices;
    let here = view.screen.matrix.tab.min(all.len().saturating_sub(1));
    let x = area.x + pen.text(area.x, area.y, area.width, &what, Role::Quiet) + 3;
    let end = area.x + area.width;
    if all.len() < 2 {
        return;
    }
    // Start at the open one's neighbourhood when they don't all fit.
    let width = |m: &Arc<Matrix>| parts::columns(&m.label) + 2;
    let room = end.saturating_sub(x + 6);
    let mut skip = 0;
    while skip < here && all.iter().take(here + 2).skip(skip).map(width).sum::<u16>() > room {
        skip += 1;
    }
    let mut x = x + pen.text(
        x,
        area.y,
        end.saturating_sub(x),
        if skip > 0 { "tab … " } else { "tab " },
        Role::Key,
    );
    for (i, m) in all.iter().enumerate().skip(skip) {
        let more = i + 1 < all.len();
        if x + width(m) + if more { 2 } else { 0 } > end {
            pen.text(x, area.y, end.saturating_sub(x), "…", Role::Quiet);
            break;
        }
        x += pen.text(
            x,
            area.y,
            end.saturating_sub(x),
            &m.label,
            if i == here { Role::Tab } else { Role::Quiet },
        ) + 2;
    }
}

/// The signs that this matrix uses, in the fewest words.
fn draw_legend(matrix: &Matrix, area: Rect, pen: &mut Pen<'_>) {
    const SHORT: [(Glyph, &str); 9] = [
        (Glyph::P2p, "P2P"),
        (Glyph::Mnnvl, "P2P multi-node"),
        (Glyph::P2pWeak, "P2P indirect"),
        (Glyph::Shm, "shared memory"),
        (Glyph::NetGdr, "network, GDR"),
        (Glyph::Net, "network, staged"),
        (Glyph::Tcp, "TCP"),
        (Glyph::CollNet, "CollNet"),
        (Glyph::Doubt, "open"),
    ];
    let mut seen = [false; SHORT.len()];
    let (mut worse, mut disagree) = (false, false);
    for cell in &matrix.cells {
        let place = SHORT.iter().position(|(g, _)| *g == cell.glyph);
        if let Some(s) = place.and_then(|i| seen.get_mut(i)) {
            *s = true;
        }
        worse |= cell.downgraded;
        disagree |= cell.disagree;
    }
    if let (false, Some(doubt)) = (matrix.undecided.is_empty(), seen.last_mut()) {
        *doubt = true;
    }
    let mut spans: Vec<(String, Role)> = Vec::new();
    for ((glyph, words), _) in SHORT.iter().zip(seen).filter(|(_, s)| *s) {
        let (c, role) = sign(*glyph);
        spans.push((c.to_string(), role));
        spans.push((format!(" {words}   "), Role::Quiet));
    }
    spans.push(("·".into(), Role::Missing));
    spans.push((" no edge   ".into(), Role::Quiet));
    if worse {
        spans.push(("!".into(), Role::Warn));
        spans.push((
            " reversed: worse than its place allows   ".into(),
            Role::Quiet,
        ));
    }
    if disagree {
        spans.push(("≠".into(), Role::Warn));
        spans.push((" ends disagree   ".into(), Role::Quiet));
    }
    spans.push(("row sends, column receives".into(), Role::Quiet));
    let spans: Vec<(&str, Role)> = spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
    pen.spans(area.x, area.y, area.width, &spans);
}

/// Title of a drill-down into a cell.
fn page_of(from: &str, to: &str) -> Page {
    Page::about(format!("cell {from} to {to}"))
}
