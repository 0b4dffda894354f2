//! What stands behind a cell: under the grid in a few lines, on its own page in full.

use std::cmp::Reverse;

use ratatui::layout::Rect;

use super::grid::{Entry, Grid, worst};
use super::{open, page_of, shown, sign};
use crate::model::screen::Counts;
use crate::panes::parts::{self, Pen};
use crate::panes::{Line, Page, View, logs};
use crate::rules::matrix::glyph;
use crate::rules::scene::{
    Attribution, Cell, Communicator, Edge, EdgeKind, Glyph, LineRef, Rating, Scene, Side,
};
use crate::theme::Role;

/// An edge with the communicator it belongs to.
pub(super) type Found<'a> = (&'a Communicator, &'a Edge);

pub(super) fn edges_of<'a>(scene: &'a Scene, cells: &[&Cell]) -> Vec<Found<'a>> {
    let mut all: Vec<Found<'a>> = cells
        .iter()
        .flat_map(|c| &c.edges)
        .filter_map(|(c, e)| {
            let comm = scene.communicators.get(*c as usize)?;
            Some((&**comm, comm.edges.get(*e as usize)?))
        })
        .collect();
    // What is wrong first, then what the cell's sign stands for; the order of the scene otherwise.
    all.sort_by_key(|(_, e)| (e.rating != Rating::Downgraded, Reverse(glyph(e))));
    all
}

/// What a person calls a communicator.
fn label(comm: &Communicator) -> &str {
    comm.group.as_deref().unwrap_or(&comm.key)
}

fn kind(edge: &Edge) -> &'static str {
    match edge.kind {
        Some(EdgeKind::Coll) => "rings and trees",
        Some(EdgeKind::SendRecv) => "send/receive",
        Some(EdgeKind::CollNet) => "CollNet",
        None => "kind not printed",
    }
}

/// Whether both ends were seen and say the same.
fn agreement(edge: &Edge) -> (&'static str, Role) {
    if edge.paths.is_empty() {
        return ("", Role::Quiet);
    }
    let one_sided = edge
        .paths
        .iter()
        .any(|p| p.send.is_none() || p.receive.is_none());
    let differ = edge
        .paths
        .iter()
        .any(|p| p.send.zip(p.receive).is_some_and(|(s, r)| s.gdr != r.gdr));
    if differ {
        ("the ends disagree on GDR", Role::Warn)
    } else if one_sided {
        ("one end seen", Role::Unknown)
    } else {
        ("both ends agree", Role::Quiet)
    }
}

fn place(scene: &Scene, line: &LineRef) -> String {
    let (file, number) = scene.place(line);
    format!("line {number} of {file}")
}

/// What `c` copies: the first line behind the cell.
pub(super) fn copy(view: &View<'_>, grid: &Grid<'_>, at: (u32, u32)) -> Option<String> {
    let cells = grid.cells(grid.entry(at.0)?, grid.entry(at.1)?);
    let edges = edges_of(view.scene, &cells);
    let line = edges.first().map(|(_, e)| &e.line)?;
    (!line.text.is_empty()).then(|| line.text.to_string())
}

/// The few lines under the grid.
pub(super) fn under_cursor(
    view: &View<'_>,
    grid: &Grid<'_>,
    cursor: Option<(u32, u32)>,
    area: Rect,
    pen: &mut Pen<'_>,
) {
    let Some((from, to)) = cursor.and_then(|(a, b)| grid.entry(a).zip(grid.entry(b))) else {
        return;
    };
    if area.height == 0 {
        return;
    }
    let cells = grid.cells(from, to);
    let edges = edges_of(view.scene, &cells);
    let mut y = area.y;
    let bottom = area.y + area.height;
    let name = format!("{} → {}", grid.name(from), grid.name(to));
    let indent = parts::columns(&name) + 3;
    let mut spans: Vec<(String, Role)> = vec![(name, Role::Strong), ("   ".into(), Role::Text)];
    if let Some(absent) = absent(view, grid) {
        let text = format!("there is no rank {absent} here, this is the nearest   ");
        spans.push((text, Role::Warn));
    }
    if let [(_, edge), more @ ..] = edges.as_slice() {
        let glyph = worst(&cells).unwrap_or(Glyph::Missing);
        spans.push((edge.transport.clone(), sign(glyph).1));
        if grid.folded() {
            let bad = edges
                .iter()
                .filter(|(_, e)| e.rating == Rating::Downgraded)
                .count();
            spans.push((
                format!(
                    "   {}",
                    parts::count(edges.len() as u64, "connection", "connections")
                ),
                Role::Quiet,
            ));
            if bad > 0 {
                spans.push((
                    format!(
                        "   {} worse than their place allows",
                        parts::grouped(bad as u64)
                    ),
                    Role::Warn,
                ));
            }
        } else {
            spans.push((
                format!(
                    "   {}",
                    parts::count(edge.channels.len() as u64, "channel", "channels")
                ),
                Role::Quiet,
            ));
            let (word, role) = agreement(edge);
            if !word.is_empty() {
                spans.push((format!("   {word}"), role));
            }
            if edge.rating == Rating::Downgraded {
                spans.push(("   worse than its place allows".into(), Role::Warn));
            }
            if !more.is_empty() {
                spans.push((format!("   and {} more", more.len()), Role::Quiet));
            }
        }
        write_spans(&spans, area.x, y, area.width, pen);
        y += 1;
        if y < bottom {
            let at = place(view.scene, &edge.line);
            let n = pen.text(
                area.x + indent,
                y,
                area.width.saturating_sub(indent),
                &format!("{at}: "),
                Role::Quiet,
            );
            let x = area.x + indent + n;
            pen.text(
                x,
                y,
                (area.x + area.width).saturating_sub(x),
                &logs::body(&edge.line.text, false),
                Role::Text,
            );
            y += 1;
        }
    } else {
        let open: u64 = cells
            .iter()
            .flat_map(|c| &c.open)
            .filter_map(|i| view.scene.unattributed.get(*i as usize))
            .map(|u| u.lines)
            .sum();
        let text = if open > 0 {
            format!(
                "{} that could belong to several communicators",
                parts::count(open, "line", "lines")
            )
        } else if from.number == to.number && !grid.folded() {
            whereabouts(view.scene, grid, from)
        } else if undecided(view, from, to) {
            "not known: their communicator has not come up, so no connection can be told from none"
                .into()
        } else if share(view, from, to) {
            "same communicator, no connection seen: none was needed, or none was made yet".into()
        } else {
            "no communicator in common".into()
        };
        spans.push((text, if open > 0 { Role::Doubt } else { Role::Quiet }));
        write_spans(&spans, area.x, y, area.width, pen);
        y += 1;
    }
    if y < bottom {
        y += orders(
            view,
            grid,
            &edges,
            from,
            Rect {
                y,
                height: bottom - y,
                ..area
            },
            pen,
        );
    }
    if let (true, Some((_, first))) = (y < bottom, edges.first()) {
        let text = format!("{}, {}", communicators(&edges), kind(first));
        pen.text(
            area.x + indent,
            y,
            area.width.saturating_sub(indent),
            &text,
            Role::Quiet,
        );
    }
}

/// The rank that somebody asked for and that is not on the axis.
fn absent(view: &View<'_>, grid: &Grid<'_>) -> Option<u32> {
    let (from, to) = view.screen.matrix.cell.filter(|_| !grid.folded())?;
    [from, to].into_iter().find(|n| grid.entry(*n).is_none())
}

/// `in tp:0`, `in 2 communicators: dp:0, tp:0`.
fn communicators(edges: &[Found<'_>]) -> String {
    let mut labels: Vec<&str> = edges.iter().map(|(c, _)| label(c)).collect();
    labels.sort_unstable();
    labels.dedup();
    match labels.as_slice() {
        [one] => format!("in {one}"),
        many => format!("in {} communicators: {}", many.len(), many.join(", ")),
    }
}

fn write_spans(spans: &[(String, Role)], x: u16, y: u16, width: u16, pen: &mut Pen<'_>) {
    let spans: Vec<(&str, Role)> = spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
    pen.spans(x, y, width, &spans);
}

/// Whether two entries have a communicator in common.
fn share(view: &View<'_>, a: &Entry, b: &Entry) -> bool {
    let Some(matrix) = open(view) else {
        return false;
    };
    let has = |g: &[u32], e: &Entry| e.slots.iter().any(|s| g.contains(s));
    matrix.groups.is_empty() || matrix.groups.iter().any(|g| has(g, a) && has(g, b))
}

/// Their communicator has not come up, so that no line tells nothing.
pub(super) fn undecided(view: &View<'_>, a: &Entry, b: &Entry) -> bool {
    open(view).is_some_and(|matrix| {
        let mut pairs = a
            .slots
            .iter()
            .flat_map(|x| b.slots.iter().map(move |y| (x, y)));
        pairs.any(|(x, y)| matrix.is_undecided(*x, *y))
    })
}

/// Where a rank runs: `mixtral-0-1 pid 211, GPU 0 (bus 3b000)`.
fn whereabouts(scene: &Scene, grid: &Grid<'_>, entry: &Entry) -> String {
    let Some(process) = grid.process(entry) else {
        return format!("{}, none of its lines are here", grid.host(entry));
    };
    let Some(p) = scene.processes.get(process as usize) else {
        return grid.host(entry).to_owned();
    };
    let mut out = p.place();
    if let Some(pid) = p.pid {
        out.push_str(&format!(" pid {pid}"));
    }
    let member = scene
        .communicators
        .iter()
        .flat_map(|c| &c.ranks)
        .find(|m| m.process == process);
    if let Some(m) = member {
        if let Some(gpu) = m.nvml_dev.or(m.cuda_dev) {
            out.push_str(&format!(", GPU {gpu}"));
        }
        if let Some(bus) = &m.bus_id {
            out.push_str(&format!(" (bus {bus})"));
        }
    }
    if let Some(stage) = p.stage {
        out.push_str(&format!(", {}", parts::stage(stage).0));
    }
    out
}

/// Rings or trees of the communicator at the cursor, while they are asked for; says how many rows it took.
fn orders(
    view: &View<'_>,
    grid: &Grid<'_>,
    edges: &[Found<'_>],
    from: &Entry,
    area: Rect,
    pen: &mut Pen<'_>,
) -> u16 {
    let (rings, trees) = (view.screen.is_on("rings"), view.screen.is_on("trees"));
    if !rings && !trees {
        return 0;
    }
    let comm = edges.first().map(|(c, _)| *c).or_else(|| {
        let process = grid.process(from)?;
        view.scene
            .communicators
            .iter()
            .find(|c| c.ranks.iter().any(|m| m.process == process))
            .map(|c| &**c)
    });
    let Some(comm) = comm else { return 0 };
    let mut page = Page::default();
    order_lines(comm, rings, trees, None, &mut page);
    let mut row = 0;
    for line in page.lines.iter().take(usize::from(area.height)) {
        write_spans(&line.spans, area.x, area.y + row, area.width, pen);
        row += 1;
    }
    row
}

/// A rank's place in a tree: rank, parent, children, and the channels where it is so.
type Branch<'a> = (u32, Option<u32>, &'a [u32], Vec<u32>);

/// Rings and trees of a communicator, alike channels on one line; trees of one rank or of all.
fn order_lines(comm: &Communicator, rings: bool, trees: bool, rank: Option<u32>, page: &mut Page) {
    if rings {
        let mut seen: Vec<(&[u32], bool, Vec<u32>)> = Vec::new();
        for ring in &comm.rings {
            match seen.iter_mut().find(|(o, ..)| *o == ring.order.as_slice()) {
                Some((_, _, channels)) => channels.push(u32::from(ring.channel)),
                None => seen.push((&ring.order, ring.complete, vec![u32::from(ring.channel)])),
            }
        }
        for (order, complete, channels) in &seen {
            let order: Vec<String> = order.iter().map(ToString::to_string).collect();
            page.line(&[
                (
                    &format!("{} ring {:<10} ", label(comm), parts::ranges(channels)),
                    Role::Label,
                ),
                (&order.join(" → "), Role::Text),
                (if *complete { "" } else { "  incomplete" }, Role::Warn),
            ]);
        }
        if seen.is_empty() {
            page.line(&[
                (&format!("{}: no ring lines; ", label(comm)), Role::Quiet),
                ("NCCL_DEBUG_SUBSYS=INIT,GRAPH", Role::Code),
                (" prints them", Role::Quiet),
            ]);
        }
    }
    if trees {
        let mut seen: Vec<Branch<'_>> = Vec::new();
        for t in comm
            .trees
            .iter()
            .filter(|t| rank.is_none_or(|r| r == t.rank))
        {
            match seen
                .iter_mut()
                .find(|(r, up, down, _)| *r == t.rank && *up == t.up && *down == t.down.as_slice())
            {
                Some((.., channels)) => channels.push(u32::from(t.channel)),
                None => seen.push((t.rank, t.up, &t.down, vec![u32::from(t.channel)])),
            }
        }
        for (rank, up, down, channels) in &seen {
            let down: Vec<String> = down.iter().map(ToString::to_string).collect();
            let up = up.map_or("root".to_owned(), |u| format!("up {u}"));
            page.line(&[
                (
                    &format!("{} tree {:<10} ", label(comm), parts::ranges(channels)),
                    Role::Label,
                ),
                (
                    &format!(
                        "rank {rank}  {up}  down {}",
                        if down.is_empty() {
                            "none".into()
                        } else {
                            down.join(" ")
                        }
                    ),
                    Role::Text,
                ),
            ]);
        }
        if seen.is_empty() {
            page.line(&[
                (&format!("{}: no tree lines; ", label(comm)), Role::Quiet),
                ("NCCL_DEBUG_SUBSYS=INIT,GRAPH", Role::Code),
                (" prints them", Role::Quiet),
            ]);
        }
    }
}

/// The position that the cursor is on, with what is drawn.
pub(super) fn selected<'a>(view: &View<'a>) -> Option<(Grid<'a>, u32, u32)> {
    let grid = shown(view)?;
    let counts = Counts {
        axis: grid.axis(),
        folded: grid.folded(),
        bad_cells: grid.problems(),
        ..Counts::default()
    };
    let (from, to) = view.screen.matrix.at(&counts)?;
    Some((grid, from, to))
}

/// Channels, paths, neighbours and the very lines of a cell.
pub(super) fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let (grid, a, b) = selected(view)?;
    let (from, to) = grid.entry(a).zip(grid.entry(b))?;
    let mut page = page_of(&grid.name(from), &grid.name(to));
    let scene = view.scene;
    page.line(&[
        ("from  ", Role::Label),
        (&whereabouts(scene, &grid, from), Role::Text),
    ]);
    page.line(&[
        ("to    ", Role::Label),
        (&whereabouts(scene, &grid, to), Role::Text),
    ]);
    let cells = grid.cells(from, to);
    let edges = edges_of(scene, &cells);
    if edges.is_empty() {
        page.gap();
        page.prose("No connection from one to the other was seen. Neighbours in a ring or a tree have one, others get one at their first send.", width.saturating_sub(4), 0, Role::Quiet);
    }
    for (comm, edge) in &edges {
        edge_lines(scene, comm, edge, &mut page);
    }
    let open: Vec<_> = cells
        .iter()
        .flat_map(|c| &c.open)
        .filter_map(|i| scene.unattributed.get(*i as usize))
        .collect();
    if !open.is_empty() {
        page.head("LINES THAT COULD BELONG TO SEVERAL COMMUNICATORS");
        for u in open {
            let whose = if u.candidates.is_empty() {
                "came before any init".into()
            } else {
                u.candidates.join(" or ")
            };
            page.line(&[
                (&u.transport, Role::Doubt),
                (
                    &format!("   {}   {whose}", parts::count(u.lines, "line", "lines")),
                    Role::Quiet,
                ),
            ]);
            quote(scene, &u.sample, &mut page);
        }
    }
    let back = edges_of(scene, &grid.cells(to, from));
    page.head("THE OTHER WAY");
    match back.first() {
        Some((_, edge)) => page.line(&[
            (
                &format!("{} → {}   ", grid.name(to), grid.name(from)),
                Role::Text,
            ),
            (&edge.transport, Role::Strong),
            (
                &format!(
                    "   {}",
                    parts::count(edge.channels.len() as u64, "channel", "channels")
                ),
                Role::Quiet,
            ),
        ]),
        None => page.line(&[("no connection seen", Role::Quiet)]),
    }
    let mut comms: Vec<&Communicator> = edges.iter().map(|(c, _)| *c).collect();
    comms.dedup_by_key(|c| &c.key);
    for comm in comms {
        page.head(&format!("NEIGHBOURS IN {}", label(comm)));
        let rank = edges
            .iter()
            .find(|(c, _)| c.key == comm.key)
            .and_then(|(_, e)| e.from);
        order_lines(comm, true, true, rank, &mut page);
    }
    Some(page)
}

fn edge_lines(scene: &Scene, comm: &Communicator, edge: &Edge, page: &mut Page) {
    page.head(&format!("COMMUNICATOR {}", label(comm)));
    let mut spans: Vec<(String, Role)> = vec![
        (
            edge.transport.clone(),
            if edge.rating == Rating::Downgraded {
                Role::Warn
            } else {
                Role::Strong
            },
        ),
        (format!("   {}", kind(edge)), Role::Quiet),
        (
            match edge.attribution {
                Attribution::Exact => String::new(),
                Attribution::Inferred => "   inferred: the only communicator that fits".into(),
            },
            Role::Quiet,
        ),
    ];
    if edge.rating == Rating::Downgraded {
        spans.push(("   worse than its place allows".into(), Role::Warn));
    }
    let line = Line {
        spans,
        copy: None,
        problem: edge.rating == Rating::Downgraded,
    };
    page.lines.push(line);
    let rank = |r: Option<u32>| r.map_or("?".into(), |r| r.to_string());
    let channels: Vec<u32> = edge.channels.iter().map(|c| u32::from(*c)).collect();
    page.line(&[
        ("rank ", Role::Label),
        (
            &format!("{} → {}", rank(edge.from), rank(edge.to)),
            Role::Text,
        ),
        ("   channels ", Role::Label),
        (&parts::ranges(&channels), Role::Text),
        (&format!("   {} in all", channels.len()), Role::Quiet),
    ]);
    for path in &edge.paths {
        let channels: Vec<u32> = path.channels.iter().map(|c| u32::from(*c)).collect();
        let role = match (path.send, path.receive) {
            (Some(s), Some(r)) if s.gdr != r.gdr => Role::Warn,
            (Some(_), Some(_)) => Role::Text,
            _ => Role::Unknown,
        };
        page.line(&[
            (
                &format!("  channels {:<12} ", parts::ranges(&channels)),
                Role::Label,
            ),
            (
                &format!("send {}   receive {}", side(path.send), side(path.receive)),
                role,
            ),
        ]);
    }
    quote(scene, &edge.line, page);
    for line in edge.lines.iter().filter(|l| **l != edge.line) {
        quote(scene, line, page);
    }
}

fn side(side: Option<Side>) -> String {
    let Some(s) = side else {
        return "not seen".into();
    };
    let mut out = format!("NIC {}", s.device);
    out.push_str(if s.gdr { ", GDR" } else { ", no GDR" });
    if let Some(pxn) = s.pxn_rank {
        out.push_str(&format!(", PXN through rank {pxn}"));
    }
    if s.shared {
        out.push_str(", shared buffers");
    }
    out
}

/// A line of evidence: where it stands, then what it says.
fn quote(scene: &Scene, line: &LineRef, page: &mut Page) {
    let at = line
        .at
        .map_or(String::new(), |a| format!("{} ", parts::clock(a)));
    let text = Line::of(&[
        (&format!("  {at}{}  ", place(scene, line)), Role::Quiet),
        (&line.text, Role::Text),
    ]);
    page.lines.push(Line {
        copy: (!line.text.is_empty()).then(|| line.text.to_string()),
        ..text
    });
}
