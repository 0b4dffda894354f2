//! Parallel layout: which global ranks form which vLLM group, and which communicator is which group's.
//!
//! Global ranks are numbered row-major over (DP, PP, PCP, TP), TP fastest (vLLM,
//! `distributed/parallel_state.py`, `initialize_model_parallel`).

pub mod seats;
pub mod told;

use std::collections::{BTreeMap, BTreeSet};

pub use seats::Seat;
pub use told::{Engine, Layout, Told, Voice};

use super::scene::{Communicator, GroupView, ProcessView};

/// Sizes of the parallel dimensions of one torch world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Tensor parallel.
    pub tp: u32,
    /// Prefill-context parallel.
    pub pcp: u32,
    /// Pipeline parallel.
    pub pp: u32,
    /// Data parallel inside one world.
    pub dp: u32,
    /// Decode-context parallel: parts of a tensor-parallel group, no ranks of its own.
    pub dcp: u32,
    /// Expert parallelism is on.
    pub ep: bool,
}

/// Place of a rank in every dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// Data-parallel rank.
    pub dp: u32,
    /// Pipeline stage.
    pub pp: u32,
    /// Prefill-context rank.
    pub pcp: u32,
    /// Tensor-parallel rank.
    pub tp: u32,
    /// Decode-context rank.
    pub dcp: u32,
}

impl Sizes {
    /// Ranks of the world.
    #[must_use]
    pub fn world(self) -> u32 {
        self.tp
            .saturating_mul(self.pcp)
            .saturating_mul(self.pp)
            .saturating_mul(self.dp)
    }

    /// Where a global rank stands: rank = ((d·PP + p)·PCP + c)·TP + t.
    #[must_use]
    pub fn place(self, rank: u32) -> At {
        let split = |n: u32, size: u32| {
            let size = size.max(1);
            (n % size, n / size)
        };
        let (tp, rest) = split(rank, self.tp);
        let (pcp, rest) = split(rest, self.pcp);
        let (pp, rest) = split(rest, self.pp);
        let (dp, _) = split(rest, self.dp);
        let (dcp, _) = split(tp, self.dcp);
        At {
            dp,
            pp,
            pcp,
            tp,
            dcp,
        }
    }

    /// Ranks of an expert-parallel group, where there is one.
    #[must_use]
    pub fn experts(self) -> Option<u32> {
        self.ep
            .then(|| self.dp.saturating_mul(self.pcp).saturating_mul(self.tp))
    }

    /// Every group of more than one rank, world first, then in vLLM's order of creation.
    #[must_use]
    pub fn groups(self) -> Vec<GroupView> {
        let world = self.world();
        if !(2..=1 << 16).contains(&world) {
            return Vec::new();
        }
        let mut list = vec![group("world", 0, (0..world).collect())];
        // In the order in which vLLM makes them; what a group holds fixed.
        type Fixed = fn(At) -> [u32; 4];
        let kinds: [(&'static str, u32, Fixed); 6] = [
            ("tp", self.tp, |a| [a.dp, a.pp, a.pcp, 0]),
            ("dcp", self.dcp, |a| [a.dp, a.pp, a.pcp, a.tp - a.dcp]),
            ("pcp", self.pcp, |a| [a.dp, a.pp, a.tp, 0]),
            ("pp", self.pp, |a| [a.dp, a.pcp, a.tp, 0]),
            ("dp", self.dp, |a| [a.pp, a.pcp, a.tp, 0]),
            ("ep", self.experts().unwrap_or(1), |a| [a.pp, 0, 0, 0]),
        ];
        for (kind, size, fixed) in kinds {
            if size < 2 {
                continue;
            }
            let mut by: BTreeMap<[u32; 4], Vec<u32>> = BTreeMap::new();
            for r in 0..world {
                by.entry(fixed(self.place(r))).or_default().push(r);
            }
            let mut groups: Vec<Vec<u32>> = by.into_values().collect();
            groups.sort();
            list.extend(
                groups
                    .into_iter()
                    .enumerate()
                    .map(|(i, ranks)| group(kind, i, ranks)),
            );
        }
        list
    }
}

fn group(kind: &'static str, index: usize, global_ranks: Vec<u32>) -> GroupView {
    GroupView {
        name: format!("{kind}:{index}"),
        kind,
        global_ranks,
        communicator: None,
        routes: Vec::new(),
        routes_open: None,
    }
}

/// Fills the places of ranks that print none: their number decides, where one world holds them all.
pub fn places(processes: &mut [ProcessView], sizes: Sizes) {
    for p in processes {
        let Some(rank) = p.global_rank.filter(|r| *r < sizes.world()) else {
            continue;
        };
        let at = sizes.place(rank);
        p.pp.get_or_insert(at.pp);
        p.tp.get_or_insert(at.tp);
        if sizes.pcp > 1 {
            p.pcp.get_or_insert(at.pcp);
        }
        if sizes.dcp > 1 {
            p.dcp = p.tp.map(|tp| tp % sizes.dcp);
        }
        // Engines with worlds of their own print their number nowhere but in labels.
        if sizes.dp > 1 {
            p.dp.get_or_insert(at.dp);
        }
    }
}

/// Names communicators after vLLM's groups where members, size and order leave no choice; returns the groups.
pub fn name(
    communicators: &mut [Communicator],
    processes: &[ProcessView],
    sizes: Sizes,
) -> Vec<GroupView> {
    let mut groups = sizes.groups();
    let ranks: Vec<Option<u32>> = processes.iter().map(|p| p.global_rank).collect();
    // Two engines with worlds of their own repeat their ranks: then a rank names no process.
    let known: Vec<u32> = ranks.iter().flatten().copied().collect();
    if known.iter().collect::<BTreeSet<_>>().len() != known.len() {
        return groups;
    }
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    // In order of creation, so that of two groups with equal members the earlier takes the earlier communicator.
    let mut order: Vec<usize> = (0..communicators.len()).collect();
    order.sort_by_key(|i| {
        communicators
            .get(*i)
            .map(|c| (c.since.map_or(i64::MAX, |a| a.ns), first_line(c)))
    });
    for i in order {
        let Some(c) = communicators.get(i) else {
            continue;
        };
        let fits = |g: &GroupView| {
            g.kind != "world"
                && g.global_ranks.len() == c.nranks as usize
                && !c.ranks.is_empty()
                && c.ranks.iter().all(|m| {
                    let global = ranks.get(m.process as usize).copied().flatten();
                    global.is_some() && g.global_ranks.get(m.rank as usize).copied() == global
                })
        };
        let found = groups
            .iter()
            .enumerate()
            .position(|(at, g)| !taken.contains(&at) && fits(g));
        if let Some(at) = found {
            taken.insert(at);
            let key = c.key.clone();
            if let Some(g) = groups.get_mut(at) {
                g.communicator = Some(key);
                let name = g.name.clone();
                if let Some(c) = communicators.get_mut(i) {
                    c.group = Some(name);
                }
            }
        }
    }
    groups
}

fn first_line(c: &Communicator) -> u64 {
    c.ranks
        .iter()
        .map(|m| m.line.number)
        .min()
        .unwrap_or(u64::MAX)
}
