//! Matrices: the merged view over all processes first, then one per communicator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rating::is_socket;
use super::scene::{
    Attribution, Cell, CommState, Communicator, Edge, Family, Glyph, Matrix, NcclStep, ProcessView,
    Rating, Scene, Slot,
};
use crate::parse::fact::{P2pKind, Via};

/// The glyph of an edge (screens.md).
#[must_use]
pub fn glyph(edge: &Edge) -> Glyph {
    match (edge.family, edge.via) {
        (
            Family::P2p,
            Some(Via::P2p {
                kind: P2pKind::Mnnvl,
                ..
            }),
        ) => Glyph::Mnnvl,
        (
            Family::P2p,
            Some(
                Via::P2p {
                    kind: P2pKind::Indirect(_),
                    ..
                }
                | Via::P2p { ce: true, .. },
            ),
        ) => Glyph::P2pWeak,
        (Family::P2p, _) => Glyph::P2p,
        (Family::Shm, _) => Glyph::Shm,
        (Family::CollNet, _) => Glyph::CollNet,
        (Family::Unknown, _) => Glyph::Doubt,
        (Family::Net, _) if is_socket(edge) => Glyph::Tcp,
        (Family::Net, _) => {
            // GDR on both sides is proven only by both sides' lines; one side seen is not against it.
            if edge.gdr == Some(true) {
                Glyph::NetGdr
            } else {
                Glyph::Net
            }
        }
    }
}

fn disagree(edge: &Edge) -> bool {
    edge.paths
        .iter()
        .any(|p| matches!((&p.send, &p.receive), (Some(a), Some(b)) if a.gdr != b.gdr))
}

/// All matrices of a scene.
#[must_use]
pub fn all(scene: &Scene) -> Vec<Arc<Matrix>> {
    let mut list = vec![Arc::new(merged(scene))];
    // Tabs in the order in which people name groups: tp, pp, dp, ep, then what has no name.
    let mut order: Vec<(usize, &Arc<Communicator>)> =
        scene.communicators.iter().enumerate().collect();
    order.sort_by_key(|(_, c)| group_order(c));
    list.extend(
        order
            .into_iter()
            .map(|(i, c)| Arc::new(one(scene, u32::try_from(i).unwrap_or(0), c))),
    );
    list
}

fn group_order(c: &Communicator) -> (usize, u32, &str) {
    let (kind, index) = c
        .group
        .as_deref()
        .and_then(|g| g.split_once(':'))
        .unwrap_or(("", ""));
    let at = ["tp", "pp", "dp", "ep"]
        .iter()
        .position(|k| *k == kind)
        .unwrap_or(4);
    (at, index.parse().unwrap_or(0), &c.key)
}

struct Cells(BTreeMap<(u32, u32), Cell>);

impl Cells {
    fn add(&mut self, from: u32, to: u32, edge: &Edge, place: (u32, u32)) {
        let g = glyph(edge);
        let cell = self
            .0
            .entry((from, to))
            .or_insert_with(|| Cell::blank(from, to, g));
        cell.glyph = if cell.edges.is_empty() {
            g
        } else {
            cell.glyph.max(g)
        };
        cell.downgraded |= edge.rating == Rating::Downgraded;
        cell.disagree |= disagree(edge);
        cell.inferred |= edge.attribution == Attribution::Inferred;
        cell.edges.push(place);
    }

    fn open(&mut self, from: u32, to: u32, at: u32) {
        let cell = self
            .0
            .entry((from, to))
            .or_insert_with(|| Cell::blank(from, to, Glyph::Doubt));
        cell.open.push(at);
    }
}

/// Ranks of a communicator between which edges are not known: it has not come up, and they are not through. Where
/// one rank of a pair is through, its lines tell of its edges.
fn undecided(c: &Communicator) -> Vec<u32> {
    if matches!(c.state, CommState::Complete | CommState::Destroyed) {
        return Vec::new();
    }
    let through = |rank: u32| {
        c.ranks
            .binary_search_by_key(&rank, |m| m.rank)
            .ok()
            .and_then(|i| c.ranks.get(i))
            .is_some_and(|m| m.step == NcclStep::Completion)
    };
    (0..c.nranks.min(16_384)).filter(|r| !through(*r)).collect()
}

fn merged(scene: &Scene) -> Matrix {
    // Global ranks where vLLM told them; otherwise processes in order of place, which is said on screen.
    let members: BTreeSet<u32> = scene
        .communicators
        .iter()
        .flat_map(|c| c.ranks.iter().map(|m| m.process))
        .collect();
    let on_axis = |(i, p): &(u32, &ProcessView)| members.contains(i) || p.global_rank.is_some();
    // A rank that lives again stands where its new life does.
    let seat = |p: &ProcessView| match p.global_rank {
        Some(rank) => (Some(rank), String::new()),
        None => (None, p.place()),
    };
    let present = || (0u32..).zip(&scene.processes).filter(on_axis);
    let again: BTreeSet<(Option<u32>, String)> = match scene.processes.iter().any(|p| p.replaced) {
        true => present()
            .filter(|(_, p)| !p.replaced)
            .map(|(_, p)| seat(p))
            .collect(),
        false => BTreeSet::new(),
    };
    let mut axis: Vec<(Option<u32>, u32)> = present()
        .filter(|(_, p)| !p.replaced || !again.contains(&seat(p)))
        .map(|(i, p)| (p.global_rank, i))
        .collect();
    let ranked = axis.iter().all(|(r, _)| r.is_some());
    let world = if ranked {
        None
    } else {
        widest(scene, axis.len())
    };
    let mut number: BTreeMap<u32, u32> = BTreeMap::new();
    if let Some(c) = world {
        number.extend(c.ranks.iter().map(|m| (m.process, m.rank)));
    }
    axis.sort_by_key(|(r, i)| {
        (
            if ranked { *r } else { number.get(i).copied() }.unwrap_or(u32::MAX),
            *i,
        )
    });
    let slots: Vec<Slot> = axis
        .iter()
        .enumerate()
        .map(|(at, (rank, process))| {
            let p = scene.processes.get(*process as usize);
            Slot {
                number: if ranked {
                    rank.unwrap_or(0)
                } else {
                    u32::try_from(at).unwrap_or(0)
                },
                proven: ranked,
                process: Some(*process),
                host: p.map(ProcessView::place).unwrap_or_default(),
            }
        })
        .collect();
    let slot_of: BTreeMap<u32, u32> = slots
        .iter()
        .enumerate()
        .filter_map(|(at, s)| Some((s.process?, u32::try_from(at).ok()?)))
        .collect();
    let mut cells = Cells(BTreeMap::new());
    let mut groups = Vec::new();
    let mut open = Vec::new();
    for (ci, c) in scene.communicators.iter().enumerate() {
        let ci = u32::try_from(ci).unwrap_or(0);
        let slot = |rank: Option<u32>| slot_of.get(&process_of(c, rank?)?).copied();
        for (ei, e) in c.edges.iter().enumerate() {
            if let (Some(a), Some(b)) = (slot(e.from), slot(e.to)) {
                cells.add(a, b, e, (ci, u32::try_from(ei).unwrap_or(0)));
            }
        }
        let mut group: Vec<u32> = c
            .ranks
            .iter()
            .filter_map(|m| slot_of.get(&m.process).copied())
            .collect();
        group.sort_unstable();
        group.dedup();
        if group.len() > 1 && !groups.contains(&group) {
            groups.push(group);
        }
        let mut list: Vec<u32> = self::undecided(c)
            .into_iter()
            .filter_map(|r| slot(Some(r)))
            .collect();
        list.sort_unstable();
        list.dedup();
        if list.len() > 1 && !open.contains(&list) {
            open.push(list);
        }
    }
    for (ui, u) in scene.unattributed.iter().enumerate() {
        // Every communicator that fits names the same two processes, or the cell can't be told.
        let pairs: Vec<(u32, u32)> = u
            .candidates
            .iter()
            .filter_map(|key| scene.communicators.iter().find(|c| &c.key == key))
            .filter_map(|c| {
                Some((
                    *slot_of.get(&process_of(c, u.from?)?)?,
                    *slot_of.get(&process_of(c, u.to?)?)?,
                ))
            })
            .collect();
        for (a, b) in &pairs {
            cells.open(*a, *b, u32::try_from(ui).unwrap_or(0));
        }
    }
    if groups.is_empty() {
        // No list would mean that all share one.
        groups.push(Vec::new());
    }
    let axes = Axes {
        slots,
        groups,
        undecided: open,
    };
    finish(scene, "all".into(), "all".into(), axes, cells)
}

/// A communicator that holds every process of the axis gives the order.
fn widest(scene: &Scene, size: usize) -> Option<&Arc<Communicator>> {
    scene
        .communicators
        .iter()
        .filter(|c| c.ranks.len() == size && c.nranks as usize == size)
        .min_by_key(|c| c.since.map(|a| a.ns))
}

fn process_of(c: &Communicator, rank: u32) -> Option<u32> {
    c.ranks
        .binary_search_by_key(&rank, |m| m.rank)
        .ok()
        .and_then(|i| c.ranks.get(i))
        .map(|m| m.process)
}

fn one(scene: &Scene, ci: u32, c: &Communicator) -> Matrix {
    let slots: Vec<Slot> = (0..c.nranks.min(16_384))
        .map(|rank| {
            let process = process_of(c, rank);
            let host = process
                .and_then(|p| scene.processes.get(p as usize))
                .map(super::scene::ProcessView::place);
            Slot {
                number: rank,
                proven: true,
                process,
                host: host.unwrap_or_else(|| "?".into()),
            }
        })
        .collect();
    let mut cells = Cells(BTreeMap::new());
    for (ei, e) in c.edges.iter().enumerate() {
        if let (Some(a), Some(b)) = (e.from, e.to) {
            cells.add(a, b, e, (ci, u32::try_from(ei).unwrap_or(0)));
        }
    }
    for (ui, u) in scene.unattributed.iter().enumerate() {
        if let (Some(a), Some(b), true) = (u.from, u.to, u.candidates.contains(&c.key)) {
            cells.open(a, b, u32::try_from(ui).unwrap_or(0));
        }
    }
    let label = c.group.clone().unwrap_or_else(|| short(&c.key));
    let axes = Axes {
        slots,
        groups: Vec::new(),
        undecided: Some(undecided(c))
            .filter(|l| l.len() > 1)
            .into_iter()
            .collect(),
    };
    finish(scene, c.key.clone(), label, axes, cells)
}

/// A key that fits a tab: the first eight digits of the id.
fn short(key: &str) -> String {
    match key.split_once('/') {
        Some((id, rest)) if id.len() > 10 && !id.starts_with('@') => {
            format!("{}…/{rest}", id.chars().take(8).collect::<String>())
        }
        _ if key.chars().count() > 28 => format!(
            "…{}",
            key.chars()
                .rev()
                .take(27)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<String>()
        ),
        _ => key.to_owned(),
    }
}

/// What stands along the edges of a matrix.
struct Axes {
    slots: Vec<Slot>,
    groups: Vec<Vec<u32>>,
    undecided: Vec<Vec<u32>>,
}

fn finish(scene: &Scene, name: String, label: String, axes: Axes, cells: Cells) -> Matrix {
    let Axes {
        slots,
        groups,
        undecided,
    } = axes;
    let cells: Vec<Cell> = cells.0.into_values().collect();
    let host = |i: u32| slots.get(i as usize).map_or("?", |s| s.host.as_str());
    let mut inside: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut between, mut sockets) = (0usize, 0usize);
    for c in cells.iter().filter(|c| c.downgraded) {
        if host(c.from) == host(c.to) {
            *inside.entry(host(c.from)).or_default() += 1;
        } else {
            between += 1;
        }
        sockets += usize::from(c.glyph == Glyph::Tcp);
    }
    let doubtful = cells
        .iter()
        .filter(|c| c.glyph == Glyph::Doubt || !c.open.is_empty())
        .count();
    let unknown = unknown(&undecided, &cells);
    let seen = match cells.len() {
        1 => "1 connection seen".to_owned(),
        n => format!("{n} connections seen"),
    };
    let headline = if cells.is_empty() {
        if scene.communicators.is_empty() {
            "no communicator seen yet".to_owned()
        } else {
            "communicators seen, no connection line yet".to_owned()
        }
    } else if let Some((worst, n)) = inside.iter().max_by_key(|(_, n)| **n) {
        let others = if inside.len() > 1 {
            format!(" and in {} more", inside.len() - 1)
        } else {
            String::new()
        };
        match *n {
            1 => format!("1 connection inside {worst}{others} is worse than the hardware allows"),
            n => {
                format!("{n} connections inside {worst}{others} are worse than the hardware allows")
            }
        }
    } else if between > 0 && sockets > 0 {
        match between {
            1 => "1 connection between hosts uses TCP although RDMA devices are there".into(),
            n => format!("{n} connections between hosts use TCP although RDMA devices are there"),
        }
    } else if between > 0 {
        match between {
            1 => "1 connection between hosts goes through host memory although GPUDirect RDMA is there".into(),
            n => format!("{n} connections between hosts go through host memory although GPUDirect RDMA is there"),
        }
    } else if doubtful > 0 {
        format!("{doubtful} cells in doubt: their lines fit several communicators")
    } else if unknown == 0 {
        format!("{seen}, none worse than its place allows")
    } else {
        // What is seen may be fine; whether it is all, nobody can say yet.
        seen
    };
    let headline = match unknown {
        0 => headline,
        n => format!("{headline}; {n} not known: their communicators have not come up"),
    };
    Matrix {
        name,
        label,
        slots,
        cells,
        groups,
        undecided,
        headline,
    }
}

/// Cells without anything behind them whose two slots stand in one of the lists: `?`. What one direction is tells
/// nothing of the other, so each counts.
fn unknown(lists: &[Vec<u32>], cells: &[Cell]) -> usize {
    let mut of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, list) in lists.iter().enumerate() {
        for slot in list {
            of.entry(*slot).or_default().push(at);
        }
    }
    // Slots that stand in the same lists meet the same others: thousands of them are few kinds.
    let mut kinds: BTreeMap<&[usize], usize> = BTreeMap::new();
    for among in of.values() {
        *kinds.entry(among).or_default() += 1;
    }
    let meets = |among: &[usize]| {
        let all = among.iter().filter_map(|at| lists.get(*at)).flatten();
        all.collect::<BTreeSet<_>>().len().saturating_sub(1)
    };
    let all: usize = kinds.iter().map(|(among, n)| n * meets(among)).sum();
    let together = |c: &&Cell| {
        let (a, b) = (of.get(&c.from), of.get(&c.to));
        c.from != c.to
            && a.zip(b)
                .is_some_and(|(a, b)| a.iter().any(|at| b.contains(at)))
    };
    all.saturating_sub(cells.iter().filter(together).count())
}
