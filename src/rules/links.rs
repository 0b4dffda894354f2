//! Communicators over all processes: their members, what connects them, what is missing, their names.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::comms::{Group, Joined, Unit};
use super::edges::{Wiring, wire};
use super::layout::{self, Sizes};
use super::rating;
use super::scene::{CommState, Communicator, GroupView, Member, ProcessView, Unattributed};
use crate::model::Model;
use crate::model::event::{Feed, SourceId};
use crate::model::sources::Source;

/// Unseen ranks listed at most.
const UNSEEN_LISTED: usize = 4096;

/// What connects the processes.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Communicators, sorted by key.
    pub communicators: Vec<Arc<Communicator>>,
    /// Group index by position of the communicator.
    pub order: Arc<Vec<u32>>,
    /// Connection lines in doubt.
    pub unattributed: Arc<Vec<Unattributed>>,
    /// vLLM's groups, with the communicators that are theirs.
    pub groups: Vec<GroupView>,
}

impl Links {
    /// Works out all of it.
    #[must_use]
    pub fn of(
        processes: &[ProcessView],
        model: &Model,
        joined: &Joined,
        sizes: Option<Sizes>,
    ) -> Self {
        let (wirings, mut unattributed) = wire(&model.procs, joined);
        let (mut list, order) = communicators(processes, model, joined, &wirings);
        for u in &mut unattributed {
            u.candidates.sort();
        }
        unattributed.sort_by(|a, b| {
            (a.source, a.from, a.to, &a.transport, a.sample.number).cmp(&(
                b.source,
                b.from,
                b.to,
                &b.transport,
                b.sample.number,
            ))
        });
        let groups = sizes.map_or_else(Vec::new, |s| layout::name(&mut list, processes, s));
        rating::rate(&mut list, processes);
        Self {
            communicators: list.into_iter().map(Arc::new).collect(),
            order: Arc::new(order),
            unattributed: Arc::new(unattributed),
            groups,
        }
    }
}

/// The communicators, sorted by key, and the group index of each.
fn communicators(
    processes: &[ProcessView],
    model: &Model,
    joined: &Joined,
    wirings: &[Wiring],
) -> (Vec<Communicator>, Vec<u32>) {
    let mut list = Vec::new();
    let mut order: Vec<u32> = (0..u32::try_from(joined.groups.len()).unwrap_or(0)).collect();
    order.sort_by(|a, b| {
        let key = |i: &u32| joined.groups.get(*i as usize).map(|g| &g.key);
        key(a).cmp(&key(b))
    });
    let bare: BTreeMap<u32, String> = model
        .procs
        .bare_versions
        .iter()
        .filter_map(|(s, list)| Some((s.0, list.first()?.0.clone())))
        .collect();
    for g in &order {
        let (Some(group), Some(wiring)) =
            (joined.groups.get(*g as usize), wirings.get(*g as usize))
        else {
            continue;
        };
        let members: Vec<Member> = group
            .members
            .values()
            .filter_map(|(u, r)| joined.member(&model.procs, *u, *r))
            .collect();
        let hosts: BTreeMap<u32, String> = members
            .iter()
            .filter_map(|m| {
                let p = processes.get(m.process as usize)?;
                let id = host_id(p).map(|v| format!("hostid {v}"));
                Some((m.rank, id.or_else(|| p.host.clone())?))
            })
            .collect();
        let (unseen_ranks, unseen_count) = unseen(group.nranks, &members);
        let complete = members
            .iter()
            .any(|m| m.state == CommState::Complete || m.state == CommState::Destroyed);
        let incomplete_ranks = if complete {
            members
                .iter()
                .filter(|m| matches!(m.state, CommState::Starting | CommState::Failed))
                .map(|m| m.rank)
                .collect()
        } else {
            Vec::new()
        };
        let recs = || {
            group.members.values().flat_map(|(u, r)| {
                joined
                    .tellings(&model.procs, *u, *r)
                    .map(|(_, p, c)| (p, c))
            })
        };
        let version = recs()
            .find_map(|(p, c)| {
                c.version
                    .clone()
                    .or_else(|| p.versions.first().map(|(v, _)| v.clone()))
            })
            .or_else(|| {
                members.iter().find_map(|m| {
                    bare.get(&processes.get(m.process as usize)?.source)
                        .cloned()
                })
            });
        list.push(Communicator {
            key: group.key.clone(),
            comm_id: group.comm_id.map(|id| format!("{id:x}")),
            parent: group
                .parent
                .and_then(|p| joined.groups.get(p as usize))
                .map(|p| p.key.clone()),
            nranks: group.nranks,
            nccl_version: version,
            group: None,
            state: state(&members),
            unseen_ranks,
            unseen_count,
            missing_ranks: None,
            incomplete_ranks,
            edges: wiring.edges(&|rank| hosts.get(&rank).map(String::as_str)),
            rings: wiring.rings(group.nranks),
            trees: wiring.trees(),
            channel_counts: wiring.counts,
            p2p_chunk_bytes: wiring.chunk,
            init_seconds: recs().filter_map(|(_, c)| c.init_seconds).reduce(f64::max),
            since: recs()
                .filter_map(|(_, c)| c.first().and_then(|q| q.at))
                .min_by_key(|a| a.ns),
            ranks: members,
        });
    }
    let silence = LazyCell::new(|| Silence::of(processes, model, joined));
    for (c, g) in list.iter_mut().zip(&order) {
        let group = joined.groups.get(*g as usize);
        c.missing_ranks = group.and_then(|g| missing(c, g, processes, model, joined, &silence));
    }
    (list, order)
}

/// What a process says it takes for its host, if it says so.
#[must_use]
pub fn host_id(p: &ProcessView) -> Option<&str> {
    let said = p.env.iter().find(|(k, _)| k == "NCCL_HOSTID");
    said.map(|(_, v)| v.as_str())
}

fn unseen(nranks: u32, members: &[Member]) -> (Vec<u32>, u32) {
    let seen: BTreeSet<u32> = members.iter().map(|m| m.rank).collect();
    let count = u32::try_from(seen.len()).map_or(0, |n| nranks.saturating_sub(n));
    let list = (0..nranks)
        .filter(|r| !seen.contains(r))
        .take(UNSEEN_LISTED)
        .collect();
    (list, count)
}

/// Failed or aborted if any member is; destroyed if all seen are; complete if any completed; else starting.
fn state(members: &[Member]) -> CommState {
    let worst = members.iter().map(|m| m.state).max().unwrap_or_default();
    if worst >= CommState::Revoked {
        return worst;
    }
    if !members.is_empty() && members.iter().all(|m| m.state == CommState::Destroyed) {
        return CommState::Destroyed;
    }
    if members
        .iter()
        .any(|m| matches!(m.state, CommState::Complete | CommState::Destroyed))
    {
        return CommState::Complete;
    }
    CommState::Starting
}

/// 2.18.3–2.22.3 print START after the rendezvous, 2.23.4 and later before it.
fn start_before_rendezvous(version: &str) -> Option<bool> {
    let mut parts = version.split('.').map(|p| p.parse::<u32>().ok());
    let v = (parts.next()??, parts.next()??);
    if v >= (2, 23) {
        Some(true)
    } else if v >= (2, 18) {
        Some(false)
    } else {
        None
    }
}

/// A vLLM process that said which rank it is.
fn works(model: &Model, unit: &Unit) -> bool {
    unit.speakers
        .iter()
        .filter_map(|i| model.speakers.list.get(*i as usize))
        .any(|s| s.rank_start.is_some() || s.ranks.is_some())
}

/// Whether vLLM speaks in a source that is not told apart into those of several pods.
pub(super) fn is_voiced(s: &Source) -> bool {
    s.within.is_some() || (s.lines > 0 && s.vllm_lines > 0 && s.parts == 0)
}

/// Whether a source is that of a node which holds ranks of an engine and no server: it says so when it begins.
pub(super) fn headless(model: &Model, id: SourceId) -> bool {
    let mut there = model.speakers.list.iter().filter(|s| s.source == id);
    there.any(|s| s.head.is_some())
}

/// Unseen ranks whose place is in logs that are here: those of a node stand one after the other, by its devices.
/// How many ranks a node has, a node shows that has no gap. None where the nodes don't say all that.
fn held(c: &Communicator, group: &Group, model: &Model, joined: &Joined) -> Option<(u32, u32)> {
    // Per source: rank less device, and the devices.
    let mut nodes: BTreeMap<SourceId, (u32, BTreeSet<u32>)> = BTreeMap::new();
    for (rank, (u, r)) in &group.members {
        let (_, p, rec) = joined.tellings(&model.procs, *u, *r).next()?;
        let device = rec.cuda_dev?;
        let base = rank.checked_sub(device)?;
        let node = nodes.entry(p.source).or_insert((base, BTreeSet::new()));
        if node.0 != base || !node.1.insert(device) {
            return None;
        }
    }
    let whole = |devices: &BTreeSet<u32>| {
        let n = u32::try_from(devices.len()).ok()?;
        (devices.last()? + 1 == n).then_some(n)
    };
    let n = nodes.values().filter_map(|(_, d)| whole(d)).max()?;
    let bases: BTreeSet<u32> = nodes.values().map(|(base, _)| *base).collect();
    let apart = (bases.iter().zip(bases.iter().skip(1))).all(|(a, b)| b - a >= n);
    let fit = nodes
        .values()
        .all(|(_, d)| d.last().is_some_and(|d| *d < n));
    let listed = c.unseen_count as usize == c.unseen_ranks.len();
    if bases.len() != nodes.len() || !apart || !fit || !listed {
        return None;
    }
    let here = |u: &&u32| {
        let base = bases.range(..=**u).next_back();
        base.is_some_and(|base| **u - base < n)
    };
    let held = c.unseen_ranks.iter().filter(here).count();
    Some((u32::try_from(held).ok()?, n))
}

/// Who speaks and has joined nothing.
struct Silence {
    /// Processes that could be ranks.
    idle: usize,
    /// Sources in which vLLM speaks and no process is known, or only that of a node whose ranks are silent.
    silent: usize,
}

impl Silence {
    fn of(processes: &[ProcessView], model: &Model, joined: &Joined) -> Self {
        let units = joined.units.iter().filter(|u| u.recs.is_empty());
        // A server or an engine core has no rank to bring.
        let idle = units.filter(|u| !u.procs.is_empty() || works(model, u));
        let speaking: BTreeSet<u32> = processes
            .iter()
            .flat_map(|p| p.sources.iter().copied())
            .collect();
        let ranks = |p: &&ProcessView| p.global_rank.is_some() || p.nccl_step.is_some();
        let ranked: BTreeSet<u32> = (processes.iter().filter(ranks))
            .flat_map(|p| p.sources.iter().copied())
            .collect();
        let silent = model.sources.iter().filter(|(id, s)| {
            let unheard = !speaking.contains(&id.0);
            is_voiced(s) && (unheard || (headless(model, *id) && !ranked.contains(&id.0)))
        });
        Self {
            idle: idle.count(),
            silent: silent.count(),
        }
    }
}

/// Ranks proven absent, as the contract defines it.
fn missing(
    c: &Communicator,
    group: &Group,
    processes: &[ProcessView],
    model: &Model,
    joined: &Joined,
    silence: &LazyCell<Silence, impl FnOnce() -> Silence>,
) -> Option<Vec<u32>> {
    if c.unseen_count == 0 {
        return Some(Vec::new());
    }
    let early = c.nccl_version.as_deref().and_then(start_before_rendezvous);
    let recs = || {
        group
            .members
            .values()
            .flat_map(|(u, r)| joined.tellings(&model.procs, *u, *r).map(|(_, _, c)| c))
    };
    let arrived = recs().any(|c| c.complete.is_some() || c.met || c.placed || c.end.is_some());
    let started = recs().any(|c| c.start.is_some());
    if arrived || (early == Some(false) && started) {
        // Everyone was there, whether their logs are here or not.
        return Some(Vec::new());
    }
    if early != Some(true) || !started || c.comm_id.is_none() {
        return None;
    }
    // A rank is proven absent if its own log is here and silent: processes that speak but never joined a
    // communicator, or sources without any NCCL process, when they account for all ranks unseen.
    let Silence { idle, silent } = **silence;
    let mut per_source: BTreeMap<u32, u32> = BTreeMap::new();
    for m in &c.ranks {
        if let Some(p) = processes.get(m.process as usize) {
            *per_source.entry(p.source).or_default() += 1;
        }
    }
    let unseen = c.unseen_count as usize;
    // Live, a rank that is a moment later than its neighbours leaves the same gap.
    let by_place = || {
        let held = held(c, group, model, joined).filter(|_| model.session.feed == Feed::Files);
        held.is_some_and(|(held, n)| unseen == held as usize + silent * n as usize)
    };
    let even = per_source
        .values()
        .next()
        .copied()
        .filter(|n| per_source.values().all(|m| m == n))
        .unwrap_or(0) as usize;
    if unseen == idle
        || (silent > 0 && even > 0 && unseen == silent * even)
        || (silent > 0 && unseen == idle + silent * even)
        || by_place()
    {
        Some(c.unseen_ranks.clone())
    } else {
        None
    }
}
