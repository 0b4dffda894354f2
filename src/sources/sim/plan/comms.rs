//! The communicators: who is in which, and when each member comes and leaves.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::parse::Nanos;
use crate::sources::sim::rng::Rng;
use crate::sources::sim::scenario::{Fault, Scenario};
use crate::sources::sim::version::Version;

use super::{Comm, Member, Plan, Rank};

impl Plan {
    /// The eager communicators in order of creation; returns when the last rank is through, if all are.
    pub(super) fn communicators(
        &mut self,
        s: &Scenario,
        begin: Nanos,
        length: Nanos,
    ) -> Option<Nanos> {
        let groups = groups(s, &self.ranks);
        let mut kinds: Vec<&str> = groups.iter().map(|g| g.0).collect();
        kinds.dedup();
        let step = length / Nanos::try_from(kinds.len().max(1)).unwrap_or(1);
        let mut rng = Rng::new(s.seed, 3);
        let mut cursor: Vec<Option<Nanos>> = self
            .ranks
            .iter()
            .map(|_| Some(begin + 20_000_000 + Nanos::try_from(rng.below(60_000_000)).unwrap_or(0)))
            .collect();
        for (kind, members) in groups {
            let mut comm = Comm {
                kind,
                func: "ncclCommInitRank",
                id: rng.bits() | 1 << 63,
                members: Vec::with_capacity(members.len()),
                whole: false,
            };
            for &g in &members {
                let start = cursor
                    .get(g)
                    .copied()
                    .flatten()
                    .filter(|t| self.speaks(g, *t));
                comm.members.push(Member {
                    global: g,
                    pointer: 0x5500_0000_0000 | (rng.bits() & 0xff_ffff_fff0),
                    start,
                    complete: None,
                });
            }
            let all: Option<Vec<Nanos>> = comm.members.iter().map(|m| m.start).collect();
            let through = all.and_then(|all| all.into_iter().max());
            let mixed = members
                .iter()
                .filter_map(|g| self.ranks.get(*g))
                .filter_map(|r| self.pods.get(r.pod))
                .map(|p| p.nccl)
                .collect::<BTreeSet<_>>()
                .len()
                > 1;
            comm.whole = through.is_some() && self.reachable(s, &members);
            let through = through.filter(|_| comm.whole);
            for m in &mut comm.members {
                let jitter = Nanos::try_from(rng.below(40_000_000)).unwrap_or(0);
                m.complete = through
                    .filter(|_| !mixed)
                    .map(|t| t + step * 3 / 5 + jitter)
                    .filter(|t| {
                        self.ranks
                            .get(m.global)
                            .is_some_and(|r| r.stop.is_none_or(|s| *t < s))
                    });
                if let Some(c) = cursor.get_mut(m.global) {
                    *c = m.complete.map(|t| t + step / 4);
                }
            }
            // One member that dies inside holds the rest inside.
            if comm.members.iter().any(|m| m.complete.is_none()) {
                for m in &mut comm.members {
                    m.complete = None;
                    if let Some(c) = cursor.get_mut(m.global) {
                        *c = None;
                    }
                }
            }
            self.comms.push(comm);
        }
        let all: Option<Vec<Nanos>> = cursor.into_iter().collect();
        all.and_then(|all| all.into_iter().max())
            .map(|t| t.max(begin + length))
    }

    /// No fault stands between the members of a communicator.
    fn reachable(&self, s: &Scenario, members: &[usize]) -> bool {
        s.faults.iter().all(|fault| {
            let Fault::Unreachable { pods } = fault else {
                return true;
            };
            let mut sides = members
                .iter()
                .filter_map(|g| self.ranks.get(*g))
                .map(|r| pods.contains(&r.pod));
            let first = sides.next();
            sides.all(|side| Some(side) == first)
        })
    }

    /// Torch's own communicator for the logits of the last stage, made at the first forward pass.
    pub(super) fn gather(&mut self, s: &Scenario, begin: Nanos) {
        if s.layout.tp < 2 {
            return;
        }
        let mut rng = Rng::new(s.seed, 4);
        for dp in 0..s.layout.dp {
            let members: Vec<Member> = self
                .ranks
                .iter()
                .filter(|r| r.dp == dp && r.pp + 1 == s.layout.pp)
                .map(|r| {
                    let start =
                        begin + 600_000_000 + Nanos::try_from(rng.below(30_000_000)).unwrap_or(0);
                    let alive = |t: &Nanos| r.stop.is_none_or(|s| *t < s);
                    Member {
                        global: r.global,
                        pointer: 0x7e00_0000_0000 | (rng.bits() & 0xff_ffff_fff0),
                        start: Some(start).filter(alive),
                        complete: Some(begin + 1_100_000_000).filter(alive),
                    }
                })
                .collect();
            let whole = members.iter().all(|m| m.complete.is_some());
            self.comms.push(Comm {
                kind: "logits",
                func: "ncclCommInitRankConfig",
                id: rng.bits() | 1 << 63,
                members,
                whole,
            });
        }
    }
}

/// Whether this vLLM gives the expert-parallel group a communicator of its own.
#[must_use]
pub fn has_ep(s: &Scenario) -> bool {
    s.model.moe || s.versions.vllm < Version(0, 14, 0)
}

/// The groups that get a communicator at once, in order of creation: kind and members.
fn groups(s: &Scenario, ranks: &[Rank]) -> Vec<(&'static str, Vec<usize>)> {
    type Of = fn(&Rank) -> (usize, usize);
    let kinds: [(&str, usize, Of, bool); 4] = [
        ("tp", s.layout.tp, |r| (r.dp, r.pp), true),
        ("pp", s.layout.pp, |r| (r.dp, r.tp), true),
        ("dp", s.layout.dp, |r| (r.pp, r.tp), true),
        ("ep", s.layout.dp * s.layout.tp, |r| (r.pp, 0), has_ep(s)),
    ];
    let mut out = Vec::new();
    for (kind, size, of, exists) in kinds {
        if size < 2 || !exists {
            continue;
        }
        let mut sets: IndexMap<(usize, usize), Vec<usize>> = IndexMap::new();
        for r in ranks {
            sets.entry(of(r)).or_default().push(r.global);
        }
        out.extend(sets.into_values().map(|m| (kind, m)));
    }
    out
}
