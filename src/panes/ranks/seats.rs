//! The hosts of the layout: who runs where, who belongs there, and who says so.

use std::collections::{BTreeMap, BTreeSet};

use ratatui::layout::Rect;

use super::grid::by_rank;
use crate::panes::parts::{self, Pen};
use crate::panes::{Page, View};
use crate::rules::layout::{At, Engine, Told};
use crate::rules::scene::{ProcessView, Scene};
use crate::theme::Role;

/// A rank on its host.
struct Cell {
    rank: u32,
    /// `d1p0t3`.
    at: String,
    /// In a tensor-parallel group that leaves its host over TCP.
    slow: bool,
    /// A line of it was seen; else it belongs here by what its pod is told.
    seen: bool,
}

/// One line: a host with its ranks in the order of their GPUs.
struct Host {
    name: String,
    node: Option<String>,
    cells: Vec<Cell>,
    /// Why nothing is known of its ranks.
    open: Option<String>,
}

/// Coordinates in the dimensions that the job is cut along.
fn coordinates(scene: &Scene, at: Place) -> String {
    let sizes = scene.layout.sizes;
    let part = |letter: char, size: Option<u32>, at: Option<u32>| {
        at.filter(|_| size.is_none_or(|n| n > 1))
            .map(|at| format!("{letter}{at}"))
    };
    [
        part('d', sizes.map(|s| s.dp), at.dp),
        part('p', sizes.map(|s| s.pp), at.pp),
        part('c', sizes.map(|s| s.pcp), at.pcp),
        part('t', sizes.map(|s| s.tp), at.tp),
        part('k', sizes.map(|s| s.dcp), at.dcp),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Place in every dimension, as far as it is known.
#[derive(Default)]
struct Place {
    dp: Option<u32>,
    pp: Option<u32>,
    pcp: Option<u32>,
    tp: Option<u32>,
    dcp: Option<u32>,
}

impl From<&ProcessView> for Place {
    fn from(p: &ProcessView) -> Self {
        Self {
            dp: p.dp,
            pp: p.pp,
            pcp: p.pcp,
            tp: p.tp,
            dcp: p.dcp,
        }
    }
}

impl From<At> for Place {
    fn from(at: At) -> Self {
        Self {
            dp: Some(at.dp),
            pp: Some(at.pp),
            pcp: Some(at.pcp),
            tp: Some(at.tp),
            dcp: Some(at.dcp),
        }
    }
}

/// What the letters of the coordinates stand for, those in use.
fn legend(scene: &Scene) -> String {
    let Some(s) = scene.layout.sizes else {
        return String::new();
    };
    let all = [
        ('d', "DP", s.dp),
        ('p', "PP", s.pp),
        ('c', "PCP", s.pcp),
        ('t', "TP", s.tp),
        ('k', "DCP", s.dcp),
    ];
    let used = all.iter().filter(|(.., n)| *n > 1);
    let words: Vec<String> = used
        .map(|(letter, name, _)| format!("{letter} {name}"))
        .collect();
    if words.is_empty() {
        return String::new();
    }
    format!(": {}", words.join(", "))
}

/// The hosts, those with the lowest ranks first; pods whose ranks are not decided last.
fn hosts(scene: &Scene, slow: &BTreeSet<u32>) -> Vec<Host> {
    let seen = by_rank(scene);
    let mut hosts: Vec<Host> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    let mut at = |hosts: &mut Vec<Host>, name: &str| {
        *index.entry(name.to_owned()).or_insert_with(|| {
            hosts.push(Host {
                name: name.to_owned(),
                node: None,
                cells: Vec::new(),
                open: None,
            });
            hosts.len() - 1
        })
    };
    for (rank, (_, p)) in &seen {
        let i = at(&mut hosts, &p.place());
        if let Some(host) = hosts.get_mut(i) {
            host.node = host.node.take().or_else(|| p.node.clone());
            host.cells.push(Cell {
                rank: *rank,
                at: coordinates(scene, Place::from(*p)),
                slow: slow.contains(rank),
                seen: true,
            });
        }
    }
    for seat in scene.layout.engines.iter().flat_map(|e| &e.seats) {
        let i = at(&mut hosts, &seat.pod);
        let Some(host) = hosts.get_mut(i) else {
            continue;
        };
        host.node = host.node.take().or_else(|| seat.node.clone());
        for rank in seat.ranks.iter().filter(|r| !seen.contains_key(r)) {
            let place = scene.layout.sizes.map(|s| Place::from(s.place(*rank)));
            host.cells.push(Cell {
                rank: *rank,
                at: coordinates(scene, place.unwrap_or_default()),
                slow: false,
                seen: false,
            });
        }
        host.cells.sort_by_key(|c| c.rank);
        if host.cells.is_empty() {
            host.open.clone_from(&seat.open);
        }
    }
    hosts.sort_by_key(|h| h.cells.first().map_or(u32::MAX, |c| c.rank));
    hosts
}

/// Draws one line a host. Says how many rows it took.
pub fn draw(view: &View<'_>, slow: &BTreeSet<u32>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let scene = view.scene;
    let hosts = hosts(scene, slow);
    if hosts.is_empty() || area.height < 2 {
        return 0;
    }
    let widest =
        |names: &mut dyn Iterator<Item = &str>| names.map(parts::columns).max().unwrap_or(0);
    let name = widest(&mut hosts.iter().map(|h| h.name.as_str())).min(area.width / 4);
    let node = widest(&mut hosts.iter().filter_map(|h| h.node.as_deref()));
    let node = if area.width >= 100 { node.min(16) } else { 0 };
    let all = || hosts.iter().flat_map(|h| &h.cells);
    let number = |c: &Cell| match (c.seen, c.slow) {
        (false, _) => format!("({})", c.rank),
        (true, true) => format!("{}!", c.rank),
        (true, false) => format!("{} ", c.rank),
    };
    let digits = all().map(|c| parts::columns(&number(c))).max().unwrap_or(1);
    let cut = all().map(|c| parts::columns(&c.at)).max().unwrap_or(0);
    let cell = digits + 1 + cut + 2;
    let start = area.x + name + 2 + if node > 0 { node + 2 } else { 0 };
    let end = area.x + area.width;
    let room = end.saturating_sub(start);
    let fit = usize::from(room / cell.max(1)).max(1);
    let widest = hosts.iter().map(|h| h.cells.len()).max().unwrap_or(0);
    pen.text(area.x, area.y, name, "WHERE", Role::Label);
    if node > 0 {
        pen.text(area.x + name + 2, area.y, node, "NODE", Role::Label);
    }
    let mut head = format!(
        "RANKS by GPU, with their place in the layout{}",
        legend(scene)
    );
    if !slow.is_empty() {
        head.push_str("; ! in a group that leaves its host over TCP");
    }
    if all().any(|c| !c.seen) {
        head.push_str("; ( ) belongs there, no line of it yet");
    }
    pen.text(start, area.y, room, &head, Role::Label);
    let mut y = area.y + 1;
    let bottom = area.y + area.height;
    let lines = u16::try_from(widest.div_ceil(fit)).unwrap_or(1).max(1);
    for (i, host) in hosts.iter().enumerate() {
        let more = hosts.len() - i;
        if y + lines > bottom || (y + lines == bottom && more > 1) {
            let text = format!("… {}", parts::count(more as u64, "more host", "more hosts"));
            pen.text(area.x, y.min(bottom - 1), area.width, &text, Role::Quiet);
            return bottom - area.y;
        }
        pen.text(area.x, y, name, &parts::tail(&host.name, name), Role::Text);
        if let Some(n) = host.node.as_deref().filter(|_| node > 0) {
            let text = parts::tail(n, node);
            pen.text(area.x + name + 2, y, node, &text, Role::Quiet);
        }
        if let Some(open) = &host.open {
            pen.text(start, y, room, open, Role::Unknown);
        }
        for (k, c) in host.cells.iter().enumerate() {
            let at = start + u16::try_from(k % fit).unwrap_or(0) * cell;
            let line = y + u16::try_from(k / fit).unwrap_or(0);
            let role = match (c.seen, c.slow) {
                (false, _) => Role::Waiting,
                (true, true) => Role::Fail,
                (true, false) => Role::Strong,
            };
            pen.right(at, line, digits, &number(c), role);
            pen.text(at + digits + 1, line, cut, &c.at, Role::Quiet);
        }
        y += lines;
    }
    y - area.y
}

/// Every value of the layout with who says it, for the drill-down.
pub fn page(page: &mut Page, scene: &Scene) {
    let many = scene.layout.engines.len() > 1;
    for Engine {
        group,
        values,
        seats,
        ..
    } in &scene.layout.engines
    {
        let own: Vec<&Told> = seats.iter().flat_map(|s| &s.told).collect();
        if values.is_empty() && own.is_empty() {
            continue;
        }
        let head = match group {
            Some(name) if many => format!("WHO SAYS SO, GROUP {name}"),
            _ => "WHO SAYS SO".to_owned(),
        };
        page.head(&head);
        for t in values.iter().chain(own) {
            let also: Vec<&str> = t.also.iter().map(|v| v.place()).collect();
            let also = if also.is_empty() {
                String::new()
            } else {
                format!("; so does the {}", also.join(" and the "))
            };
            page.line(&[
                (&format!("  {:<15} ", t.name), Role::Label),
                (&format!("{:<12} ", t.value), Role::Strong),
                (&format!("{}: ", t.voice.place()), Role::Quiet),
                (&t.by, Role::Text),
                (&also, Role::Quiet),
            ]);
            for other in &t.against {
                page.line(&[("    but ", Role::Warn), (other, Role::Warn)]);
            }
        }
    }
}
