//! The parallel layout over nodes and GPUs, and what carries each of its groups.

use std::collections::{BTreeMap, BTreeSet};

use ratatui::layout::Rect;

use super::seats;
use crate::model::screen::{Counts, PaneId};
use crate::panes::matrix::sign;
use crate::panes::parts::{self, Pen};
use crate::panes::table::{self, Column};
use crate::panes::{Page, View};
use crate::rules::matrix::glyph;
use crate::rules::routes::bytes;
use crate::rules::scene::{
    CommState, Communicator, Glyph, GroupView, ProcessView, Rating, RouteView, Scene,
};
use crate::theme::Role;

/// Groups that are alike: of one kind and size, carried by the same transports, on the same routes.
pub struct Row<'a> {
    /// In order.
    groups: Vec<&'a GroupView>,
    comm: Option<&'a Communicator>,
    /// Hosts of one group; none where no member has spoken.
    hosts: usize,
    /// Ranks of one group that have completed their communicator.
    complete: usize,
    /// Transport, connections, worse than its place allows; worst first.
    carried: Vec<(Glyph, usize, bool)>,
}

/// Processes by global rank; empty where ranks repeat, because then a rank names no process.
pub(super) fn by_rank(scene: &Scene) -> BTreeMap<u32, (u32, &ProcessView)> {
    let mut out = BTreeMap::new();
    for (i, p) in (0u32..).zip(&scene.processes) {
        if let Some(rank) = p.global_rank
            && out.insert(rank, (i, p)).is_some()
        {
            return BTreeMap::new();
        }
    }
    out
}

impl Row<'_> {
    /// A tensor-parallel group that leaves its host over plain TCP.
    fn slow(&self) -> bool {
        self.kind() == "tp" && self.hosts > 1 && self.carried.iter().any(|(g, ..)| *g == Glyph::Tcp)
    }

    fn kind(&self) -> &'static str {
        self.groups.first().map_or("", |g| g.kind)
    }

    fn size(&self) -> usize {
        self.groups.first().map_or(0, |g| g.global_ranks.len())
    }

    fn bad(&self) -> bool {
        self.slow()
            || self.carried.iter().any(|(.., down)| *down)
            || self.comm.is_some_and(|c| c.state >= CommState::Revoked)
    }

    /// `tp:0`, `pp:0-3`.
    fn name(&self) -> String {
        let numbers: Vec<u32> = self
            .groups
            .iter()
            .filter_map(|g| g.name.rsplit_once(':')?.1.parse().ok())
            .collect();
        format!("{}:{}", self.kind(), parts::ranges(&numbers))
    }

    fn ranks(&self) -> String {
        match self.groups.as_slice() {
            [one] => parts::ranges(&one.global_ranks),
            many => format!("{} × {}", many.len(), self.size()),
        }
    }

    fn alike(&self, other: &Self) -> bool {
        let state = |r: &Self| r.comm.map(|c| (c.state, c.nccl_version.clone()));
        let route = |r: &Self| {
            r.groups
                .first()
                .map(|g| (g.kind, g.routes.clone(), g.routes_open.clone()))
        };
        let key = |r: &Self| (r.size(), r.hosts, r.complete);
        key(self) == key(other)
            && self.carried == other.carried
            && state(self) == state(other)
            && route(self) == route(other)
    }
}

/// The groups, alike ones together, what is wrong first.
pub fn rows<'a>(view: &View<'a>) -> Vec<Row<'a>> {
    let scene = view.scene;
    let filter = view.screen.filter().to_lowercase();
    let ranks = by_rank(scene);
    let comms: BTreeMap<&str, &Communicator> = scene
        .communicators
        .iter()
        .map(|c| (c.key.as_str(), &**c))
        .collect();
    let mut rows: Vec<Row<'a>> = Vec::new();
    for g in scene.groups.iter().filter(|g| g.kind != "world") {
        let named =
            g.name.contains(&filter) || g.global_ranks.iter().any(|r| r.to_string() == filter);
        if !filter.is_empty() && !named {
            continue;
        }
        let comm = g
            .communicator
            .as_ref()
            .and_then(|key| comms.get(key.as_str()).copied());
        let hosts: BTreeSet<String> = g
            .global_ranks
            .iter()
            .filter_map(|r| Some(ranks.get(r)?.1.place()))
            .collect();
        let mut carried: BTreeMap<(Glyph, bool), usize> = BTreeMap::new();
        for e in comm.map(|c| c.edges.as_slice()).unwrap_or_default() {
            *carried
                .entry((glyph(e), e.rating == Rating::Downgraded))
                .or_default() += 1;
        }
        let row = Row {
            groups: vec![g],
            comm,
            hosts: hosts.len(),
            complete: comm.map_or(0, |c| {
                c.ranks
                    .iter()
                    .filter(|m| m.state >= CommState::Complete)
                    .count()
            }),
            carried: carried
                .into_iter()
                .rev()
                .map(|((g, down), n)| (g, n, down))
                .collect(),
        };
        match rows.iter_mut().find(|r| r.alike(&row)) {
            Some(have) => have.groups.push(g),
            None => rows.push(row),
        }
    }
    // Stable: what is wrong first, else in vLLM's order of creation.
    rows.sort_by_key(|r| (!r.slow(), !r.bad()));
    rows
}

/// `custom below 8 MiB, symm-multimem up to 32 MiB, then nccl`.
fn routes(g: &GroupView) -> (String, Role) {
    if let Some(open) = &g.routes_open {
        return (format!("not known: {open}"), Role::Unknown);
    }
    let one = |r: &RouteView| match (r.path, r.max_bytes) {
        ("custom", Some(n)) => format!("custom below {}", bytes(n)),
        (path, Some(n)) => format!("{path} up to {}", bytes(n)),
        (path, None) if g.routes.len() == 1 => format!("{path} at every size"),
        (path, None) => format!("then {path}"),
    };
    let text = g.routes.iter().map(one).collect::<Vec<_>>().join(", ");
    (table::or_dash(Some(&text)), Role::Text)
}

fn carried(r: &Row<'_>) -> (String, Role) {
    let text = r
        .carried
        .iter()
        .map(|(g, n, down)| format!("{}{} {n}", sign(*g).0, if *down { "!" } else { "" }))
        .collect::<Vec<_>>()
        .join("  ");
    let role = match r.carried.first() {
        None => Role::Unknown,
        Some(_) if r.bad() => Role::Warn,
        Some((g, ..)) => sign(*g).1,
    };
    (table::or_dash(Some(&text)), role)
}

fn nccl(r: &Row<'_>) -> (String, Role) {
    let Some(c) = r.comm else {
        return ("none seen".into(), Role::Unknown);
    };
    let (word, role) = parts::comm_state(c.state);
    let all = c.nranks as usize;
    if r.complete < all && c.state <= CommState::Complete {
        return (format!("{} of {all} complete", r.complete), Role::Waiting);
    }
    (word.into(), role)
}

fn over(r: &Row<'_>) -> (String, Role) {
    match r.hosts {
        0 => ("-".into(), Role::Unknown),
        1 => ("1 host".into(), Role::Text),
        n if r.slow() => (format!("{n} hosts!"), Role::Fail),
        n => (format!("{n} hosts"), Role::Text),
    }
}

fn columns<'a>() -> [Column<Row<'a>>; 6] {
    [
        Column {
            head: "GROUP",
            right: false,
            gives: 0,
            most: 14,
            value: |r, _| (r.name(), Role::Strong),
        },
        Column {
            head: "RANKS",
            right: false,
            gives: 3,
            most: 16,
            value: |r, _| (r.ranks(), Role::Text),
        },
        Column {
            head: "OVER",
            right: false,
            gives: 0,
            most: 10,
            value: |r, _| over(r),
        },
        Column {
            head: "NCCL",
            right: false,
            gives: 2,
            most: 18,
            value: |r, _| nccl(r),
        },
        Column {
            head: "CARRIED BY",
            right: false,
            gives: 0,
            most: 18,
            value: |r, _| carried(r),
        },
        Column {
            head: "ALL-REDUCE",
            right: false,
            gives: 1,
            most: 0,
            value: |r, _| {
                r.groups
                    .first()
                    .map_or(("-".into(), Role::Unknown), |g| routes(g))
            },
        },
    ]
}

/// The pane in one sentence: a tensor-parallel group that leaves its host, else the layout.
fn sentence(scene: &Scene, rows: &[Row<'_>]) -> (String, Role) {
    if let Some(r) = rows.iter().find(|r| r.slow()) {
        return (
            format!(
                "{} spans {} hosts over TCP: every layer of every token crosses it",
                r.name(),
                r.hosts
            ),
            Role::Fail,
        );
    }
    if let Some(r) = rows.iter().find(|r| r.kind() == "tp" && r.hosts > 1) {
        return (
            format!("{} spans {} hosts", r.name(), r.hosts),
            Role::Strong,
        );
    }
    let Some(w) = scene.workloads.iter().find(|w| w.sizes[0].is_some()) else {
        if let Some(open) = scene.layout.engines.iter().find_map(|e| e.open.as_ref()) {
            return (
                format!("how the job is cut is not known: {open}"),
                Role::Unknown,
            );
        }
        return (
            "how the job is cut is said nowhere yet: not in a line, not on a command line".into(),
            Role::Unknown,
        );
    };
    let sizes = w.cut();
    if scene.processes.is_empty() {
        let ranks = w.expected_ranks.map_or_else(String::new, |n| {
            format!(
                ": {} expected, none has spoken yet",
                parts::count(u64::from(n), "rank", "ranks")
            )
        });
        return (format!("{}{ranks}", sizes.join(" × ")), Role::Strong);
    }
    let spread = if rows.iter().any(|r| r.kind() == "tp") {
        ": every tensor-parallel group is inside one host"
    } else {
        ""
    };
    (format!("{}{spread}", sizes.join(" × ")), Role::Strong)
}

/// Draws the sentence, the hosts and the groups.
pub fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = rows(view);
    let inner = Rect {
        x: area.x + 1,
        width: area.width.saturating_sub(2),
        ..area
    };
    let (text, role) = sentence(view.scene, &rows);
    pen.text(inner.x, area.y, inner.width, &text, role);
    let slow: BTreeSet<u32> = rows
        .iter()
        .filter(|r| r.slow())
        .flat_map(|r| &r.groups)
        .flat_map(|g| g.global_ranks.iter().copied())
        .collect();
    let mut top = area.y + 1;
    for t in view.scene.layout.disputed().take(2) {
        if area.height >= 6 {
            pen.text(inner.x, top, inner.width, &t.dispute(), Role::Warn);
            top += 1;
        }
    }
    if let Some(text) = view.scene.layout.origins().filter(|_| area.height >= 8) {
        pen.text(inner.x, top, inner.width, &text, Role::Quiet);
        top += 1;
    }
    let left = (area.y + area.height).saturating_sub(top);
    // The groups have their rows, the hosts what is left, at least a third.
    let wanted = u16::try_from(rows.len()).unwrap_or(left).saturating_add(2);
    let most = left.saturating_sub(wanted).max(left / 3);
    let took = seats::draw(
        view,
        &slow,
        Rect {
            y: top,
            height: most,
            ..inner
        },
        pen,
    );
    let gap = u16::from(took > 0 && left > took + 3);
    let y = top + took + gap;
    if rows.is_empty() {
        let why = "Groups come from vLLM's arguments and from the ranks that its workers print.";
        if view.scene.layout.sizes.is_none() {
            pen.text(inner.x, y, inner.width, why, Role::Quiet);
        }
        return;
    }
    let table = Rect {
        y,
        height: (area.y + area.height).saturating_sub(y),
        ..area
    };
    let columns = columns();
    let columns: Vec<&Column<Row<'_>>> = columns.iter().collect();
    let cursor = view.screen.list(PaneId::Ranks).cursor;
    table::draw(view, &columns, &rows, cursor, table, pen);
}

/// What the shell must know of the groups.
pub fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = rows(view);
    table::counts(view, PaneId::Ranks, &rows, body, Row::name, Row::bad)
}

/// A group in full: its members, what carries it, the way of an all-reduce with the condition that decided.
pub fn page(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = rows(view);
    let at = view.screen.list(PaneId::Ranks).cursor.row(0, rows.len())?;
    let row = rows.get(at)?;
    let g = row.groups.first()?;
    let mut page = Page::about(format!("{}   {}", row.name(), over(row).0));
    if row.groups.len() > 1 {
        let text = format!("{} groups alike; the first of them:", row.groups.len());
        page.line(&[(&text, Role::Quiet)]);
    }
    page.head("ALL-REDUCE BY SIZE");
    match (&g.routes_open, g.routes.is_empty()) {
        (Some(open), _) => page.prose(
            &format!("not known: {open}"),
            width.saturating_sub(4),
            2,
            Role::Unknown,
        ),
        (None, true) => page.line(&[("  nothing is known of it", Role::Quiet)]),
        (None, false) => {
            for r in &g.routes {
                let size = match (r.path, r.max_bytes) {
                    ("custom", Some(n)) => format!("< {}", bytes(n)),
                    (_, Some(n)) => format!("≤ {}", bytes(n)),
                    (_, None) => "above".into(),
                };
                page.line(&[
                    (&format!("  {size:>9}  "), Role::Text),
                    (&format!("{:<14} ", r.path), Role::Strong),
                ]);
                page.prose(&r.because, width.saturating_sub(13), 13, Role::Quiet);
            }
        }
    }
    page.head("NCCL COMMUNICATOR");
    match row.comm {
        None => page.line(&[("  none seen", Role::Quiet)]),
        Some(c) => {
            let version = table::or_dash(c.nccl_version.as_deref());
            let (word, role) = nccl(row);
            page.line(&[
                (&format!("  {}   NCCL {version}   ", c.key), Role::Text),
                (&word, role),
            ]);
            for (glyph, n, down) in &row.carried {
                let (c, role) = sign(*glyph);
                let mark = if *down { "!" } else { " " };
                page.line(&[
                    (&format!("  {c}{mark} "), role),
                    (
                        &parts::count(*n as u64, "connection", "connections"),
                        Role::Text,
                    ),
                ]);
            }
        }
    }
    page.head("MEMBERS");
    let ranks = by_rank(view.scene);
    for (inside, global) in g.global_ranks.iter().enumerate() {
        let Some((index, p)) = ranks.get(global) else {
            let seats = view.scene.layout.engines.iter().flat_map(|e| &e.seats);
            let seat = seats.into_iter().find(|s| s.ranks.contains(global));
            let belongs = seat.map_or_else(String::new, |s| format!("; belongs to {}", s.pod));
            page.line(&[
                (&format!("  rank {global:>5}  "), Role::Strong),
                ("no line of it", Role::Unknown),
                (&belongs, Role::Quiet),
            ]);
            continue;
        };
        let gpu = super::list::gpus(view.scene, &[*index]);
        page.line(&[
            (&format!("  rank {global:>5}  "), Role::Strong),
            (&format!("{inside:>4} in the group  "), Role::Label),
            (&format!("{:<24} GPU {gpu}", p.place()), Role::Text),
        ]);
    }
    seats::page(&mut page, view.scene);
    Some(page)
}
