//! Root causes first: who explains whom (the earliest-error algorithm of the vLLM reference).
//!
//! Findings stand at levels, from what Kubernetes or hardware does to a pod, over failures that name their own
//! cause, to ranks that merely wait. One may follow from another of a lower level that began no later. What
//! names its own cause never follows from anything: of two faults at once neither hides the other.

use std::collections::BTreeMap;

use super::View;
use crate::rules::scene::{Confidence, Evidence, Finding, Severity};

/// An effect may be written this much before its cause, nanoseconds: logs of pods run apart.
const SLACK: i64 = 5_000_000_000;

/// Where an id stands; `None`: it neither explains nor is explained.
fn level(id: &str) -> Option<u8> {
    Some(match id {
        "pod.pending" | "pod.image" | "pod.evicted" | "pod.oom-killed" | "pod.probe-kill"
        | "pod.network-policy" | "gpu.xid" => 0,
        "vllm.hub-access"
        | "vllm.tokenizer-missing"
        | "vllm.model-incomplete"
        | "vllm.permission-denied"
        | "vllm.cuda-oom-loading"
        | "vllm.kv-cache-too-small"
        | "vllm.world-size"
        | "vllm.rank-config"
        | "vllm.device-mismatch"
        | "vllm.graph-crash"
        | "vllm.wrong-host-ip"
        | "vllm.port-variable"
        | "nccl.shm-too-small"
        | "nccl.memlock"
        | "nccl.duplicate-gpu"
        | "nccl.no-interface"
        | "nccl.nvls-failed"
        | "nccl.mnnvl-imex"
        | "nccl.cuda-failure"
        | "nccl.library-not-loaded"
        | "nccl.peer-mapping-exhausted"
        | "nccl.version-mismatch"
        | "nccl.collective-mismatch"
        | "nccl.wrong-interface"
        | "gpu.foreign-memory" => 1,
        "nccl.connect-timeout" | "nccl.ib-completion-error" | "vllm.gloo-mesh" => 2,
        "vllm.worker-died" => 3,
        "vllm.rendezvous-timeout"
        | "nccl.missing-ranks"
        | "nccl.rank-stuck"
        | "nccl.watchdog-timeout"
        | "vllm.hung" => 4,
        "pod.crashloop" => 5,
        _ => return None,
    })
}

/// Fixed pairs: the first explains the second where both are about the same place.
const PAIRS: &[(&str, &str)] = &[
    ("nccl.p2p-refused", "nccl.shm-despite-p2p"),
    ("nccl.p2p-refused", "nccl.same-host-net"),
    ("nccl.shm-too-small", "nccl.same-host-net"),
    ("nccl.socket-despite-rdma", "vllm.tp-over-network"),
    ("nccl.version-mismatch", "nccl.collective-mismatch"),
    ("gpu.xid", "nccl.cuda-failure"),
    ("gpu.xid", "vllm.graph-crash"),
    ("vllm.wrong-host-ip", "vllm.gloo-mesh"),
    ("nccl.debug-flood", "log.rotated-away"),
    ("pod.network-policy", "nccl.connect-timeout"),
    ("pod.network-policy", "vllm.gloo-mesh"),
];

fn shares(a: &Finding, b: &Finding) -> bool {
    let places = |f: &Finding| f.hosts.iter().chain(&f.pods).cloned().collect::<Vec<_>>();
    let (x, y) = (places(a), places(b));
    if x.is_empty() || y.is_empty() {
        return sources(a).iter().any(|s| sources(b).contains(s)) || (x.is_empty() && y.is_empty());
    }
    x.iter().any(|p| y.contains(p))
}

fn sources(f: &Finding) -> Vec<u32> {
    f.evidence()
        .iter()
        .filter_map(|e| match e {
            Evidence::Line(l) => Some(l.source),
            _ => None,
        })
        .collect()
}

fn first_line(f: &Finding) -> Option<(u32, u64)> {
    f.evidence().iter().find_map(|e| match e {
        Evidence::Line(l) => Some((l.source, l.number)),
        _ => None,
    })
}

/// A line that proves `cause` names the variable that `skew` is about.
fn proves(cause: &Finding, skew: &Finding) -> bool {
    let name = skew.key.split_once('@').map_or("", |(_, name)| name);
    let family = ["NCCL_P2P_", "NCCL_SHM_"];
    family.iter().any(|f| name.starts_with(f))
        && cause
            .evidence()
            .iter()
            .any(|e| matches!(e, Evidence::Line(l) if l.text.contains(name)))
}

/// Whether `a` began no later than `b`, as far as that can be told.
fn no_later(a: &Finding, b: &Finding, slack: i64) -> bool {
    match (a.since, b.since) {
        (Some(x), Some(y)) if x.exact == y.exact => x.ns <= y.ns.saturating_add(slack),
        _ => match (first_line(a), first_line(b)) {
            // A worker says that it failed and then why: the lines stand close together.
            (Some((s, x)), Some((t, y))) if s == t => x <= y + 50,
            // Objects and lines without stamps can't be compared.
            _ => true,
        },
    }
}

/// The address that a network failure names belongs to one of these hosts, or none is named.
fn reaches(view: &View<'_>, effect: &Finding, cause: &Finding) -> bool {
    let named: Vec<&str> = effect
        .evidence()
        .iter()
        .filter_map(|e| match e {
            Evidence::Line(l) => Some(&*l.text),
            _ => None,
        })
        .collect();
    let addresses =
        |p: &crate::rules::scene::ProcessView| [p.ip.clone(), p.bootstrap_address.clone()];
    let mut known = false;
    for p in &view.scene.processes {
        for a in addresses(p).into_iter().flatten().filter(|a| !a.is_empty()) {
            // `10.42.1.9<41873>`: the whole address, not the beginning of a longer one.
            let hit = named.iter().any(|t| {
                t.match_indices(a.as_str()).any(|(i, _)| {
                    let before = t.get(..i).and_then(|x| x.chars().next_back());
                    let after = t.get(i + a.len()..).and_then(|x| x.chars().next());
                    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == '.');
                    !part(before) && !part(after)
                })
            });
            if hit {
                known = true;
                let place = p.pod.clone().or_else(|| p.host.clone()).unwrap_or_default();
                if cause.hosts.contains(&place)
                    || cause.pods.contains(&place)
                    || p.host.as_ref().is_some_and(|h| cause.hosts.contains(h))
                {
                    return true;
                }
            }
        }
    }
    !known
}

fn explains(view: &View<'_>, cause: &Finding, effect: &Finding) -> bool {
    if cause.key == effect.key
        || cause.severity < Severity::Warning && effect.severity > cause.severity
    {
        return false;
    }
    // A policy of which it is open whether it closes anything hides nothing.
    if cause.id == "pod.network-policy" && cause.confidence == Confidence::Possible {
        return false;
    }
    // The variable that keeps a host's GPUs from talking directly is one mistake, however many pods lack it.
    if (cause.id, effect.id) == ("nccl.same-host-net", "pod.env-skew") {
        return proves(cause, effect);
    }
    if PAIRS.contains(&(cause.id, effect.id)) && shares(cause, effect) {
        return no_later(cause, effect, SLACK);
    }
    let (Some(c), Some(e)) = (level(cause.id), level(effect.id)) else {
        return false;
    };
    let here = shares(cause, effect);
    match (c, e) {
        // What Kubernetes does, and what names its own cause, stands alone.
        (_, 0 | 1) => false,
        (5, _) => false,
        // A peer that failed on another host is why a connection to it fails.
        (0 | 1 | 3, 2) => !here && no_later(cause, effect, SLACK) && reaches(view, effect, cause),
        (2, 2) => false,
        // A death follows from what failed in the same place, else from an earlier failure elsewhere.
        (0..=2, 3) => no_later(cause, effect, SLACK),
        (3, 3) => !here && no_later(cause, effect, 0) && !no_later(effect, cause, 0),
        // The watchdog's or the store's verdict ends processes; one that died before is why they fired.
        (4, 3) => {
            no_later(cause, effect, SLACK)
                && !(cause.id == "nccl.watchdog-timeout" && earlier_by(effect, cause, SLACK))
        }
        (3, 4) => earlier_by(cause, effect, SLACK),
        (_, 4) if c < 3 => no_later(cause, effect, SLACK),
        (4, 4) => false,
        (_, 5) => here,
        _ => false,
    }
}

/// `a` began at least so much before `b`.
fn earlier_by(a: &Finding, b: &Finding, ns: i64) -> bool {
    matches!((a.since, b.since), (Some(x), Some(y)) if x.exact == y.exact && y.ns - x.ns > ns)
}

/// Fills `consequence_of`; a cause that has a cause itself passes its effects on to its own.
pub fn fold(view: &View<'_>, found: &mut [Finding]) {
    let pick = |effect: &Finding| {
        found
            .iter()
            .filter(|cause| explains(view, cause, effect))
            .min_by_key(|c| {
                let since = c.since.map_or(i64::MAX, |a| a.ns);
                // In the same place first; then what is furthest up, then the earliest.
                (!shares(c, effect), level(c.id), since, c.key.clone())
            })
            .map(|c| c.key.clone())
    };
    let mut cause: BTreeMap<String, String> = found
        .iter()
        .filter_map(|f| Some((f.key.clone(), pick(f)?)))
        .collect();
    // Findings of one id about the same hosts with the same severity: the first stands for all.
    for (i, f) in found.iter().enumerate() {
        let twin = |g: &&Finding| {
            g.key != f.key
                && g.id == f.id
                && g.severity == f.severity
                && !f.hosts.is_empty()
                && g.hosts == f.hosts
        };
        let before = |g: &Finding, j: usize| {
            let at = |f: &Finding| f.since.map_or(i64::MAX, |a| a.ns);
            (at(g), j) < (at(f), i)
        };
        let first = found
            .iter()
            .enumerate()
            .filter(|(j, g)| twin(g) && before(g, *j))
            .min_by_key(|(j, g)| (g.since.map_or(i64::MAX, |a| a.ns), *j));
        if let Some((_, g)) = first {
            cause.entry(f.key.clone()).or_insert_with(|| g.key.clone());
        }
    }
    for f in found.iter_mut() {
        let mut at = f.key.clone();
        let mut seen = vec![at.clone()];
        while let Some(up) = cause.get(&at) {
            if seen.contains(up) {
                break;
            }
            at.clone_from(up);
            seen.push(at.clone());
        }
        f.consequence_of = (at != f.key).then_some(at);
    }
}
