//! torch's watchdog over NCCL: the ranks that did not complain are the suspects.

use std::collections::{BTreeMap, BTreeSet};

use super::super::trouble::{Case, Notice, Told};
use super::super::{View, ranges};
use crate::parse::vllm::Torch;
use crate::rules::scene::{Class, Confidence, Finding, Severity};

/// torch's watchdog: the ranks that did not complain are the suspects.
pub(super) fn watchdog(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list = notices
        .iter()
        .filter(|n| {
            matches!(
                &n.told,
                Told::Torch(Torch::Timeout { .. } | Torch::Position { .. } | Torch::Dump { .. })
            )
        })
        .collect();
    for all in Case::split(view, list) {
        let timeout = |n: &&&Notice<'_>| matches!(&n.told, Told::Torch(Torch::Timeout { .. }));
        let fired: Vec<&Notice<'_>> = all.list.iter().filter(timeout).copied().collect();
        let Some(Told::Torch(Torch::Timeout { work, ran_ms, .. })) = fired.first().map(|n| &n.told)
        else {
            continue;
        };
        let c = Case::new(view, fired.clone());
        let who = |n: &Notice<'_>| match &n.told {
            Told::Torch(t) => t.rank().or_else(|| view.process(n.unit)?.global_rank),
            _ => None,
        };
        let complained: BTreeSet<u32> = fired
            .iter()
            .filter(|n| matches!(&n.told, Told::Torch(Torch::Timeout { work: w, .. }) if w.seq == work.seq))
            .filter_map(|n| who(n))
            .collect();
        // How far each rank's queue came, by its own word.
        let mut done: BTreeMap<u32, i64> = BTreeMap::new();
        for n in &all.list {
            let at = match &n.told {
                Told::Torch(
                    Torch::Position { position, .. }
                    | Torch::Dump {
                        position: Some(position),
                        ..
                    },
                ) => position.completed,
                _ => continue,
            };
            if let Some(r) = who(n) {
                let slot = done.entry(r).or_insert(at);
                *slot = (*slot).min(at);
            }
        }
        let group = members(view, &all, &complained);
        let silent: Vec<u32> = group
            .iter()
            .copied()
            .filter(|r| !complained.contains(r))
            .collect();
        let least = done.values().min().copied();
        let late: Vec<u32> = done
            .iter()
            .filter(|(_, d)| Some(**d) == least && done.values().any(|x| x > d))
            .map(|(r, _)| *r)
            .collect();
        let ran = ran_ms.map_or_else(String::new, |ms| format!(" after {} s", ms / 1000));
        let op = &work.op;
        let (title, cause) = if !silent.is_empty() && silent.len() <= group.len() / 2 {
            (
                format!(
                    "rank {} did not come to {op} {}: the others timed out{ran}",
                    ranges(&silent),
                    work.seq
                ),
                format!(
                    "Ranks {} report the time-out of {op} (SeqNum {}); of the same group, {} said nothing. Who reports has waited; who is silent is stuck, died, or is in another call.",
                    ranges(&complained.iter().copied().collect::<Vec<_>>()),
                    work.seq,
                    ranges(&silent)
                ),
            )
        } else if !late.is_empty() {
            (
                format!(
                    "rank {} is behind the others at {op} {}: the watchdog fired{ran}",
                    ranges(&late),
                    work.seq
                ),
                format!(
                    "Its last completed work is {}, the lowest of all ranks that tell theirs.",
                    least.unwrap_or(-1)
                ),
            )
        } else {
            (
                format!("{op} {} timed out{ran} on {}", work.seq, c.place),
                "These logs don't show which rank failed to join: look for the one that reports no time-out, or whose last completed work is lowest.".into(),
            )
        };
        let suspects = if !silent.is_empty() && silent.len() <= group.len() / 2 {
            silent
        } else {
            late
        };
        let suspect = suspects.first().and_then(|r| {
            view.scene
                .processes
                .iter()
                .find(|p| p.global_rank == Some(*r))
        });
        let mut fix = Vec::new();
        fix.extend(suspect.map(|p| view.stack(p)));
        fix.push(
            c.target.env("TORCH_NCCL_TRACE_BUFFER_SIZE", Some("2000"))
                + "   # the next time-out names the call site of every rank",
        );
        fix.push("give slow steps more time: --distributed-timeout-seconds=1800".into());
        if let Some(mut f) = c.raise(
            "nccl.watchdog-timeout",
            Severity::Error,
            Class::Application,
            (title, cause, fix),
        ) {
            if suspects.is_empty() {
                f.confidence = Confidence::Likely;
            } else {
                f.ranks = suspects;
                f.communicator = None;
            }
            out.push(f);
        }
    }
}

/// Global ranks of the smallest vLLM group that holds all who complained, else of the workload.
fn members(view: &View<'_>, c: &Case<'_, '_>, complained: &BTreeSet<u32>) -> BTreeSet<u32> {
    let holds = |ranks: &[u32]| complained.iter().all(|r| ranks.contains(r));
    let group = view
        .scene
        .groups
        .iter()
        .filter(|g| g.global_ranks.len() > complained.len() && holds(&g.global_ranks))
        .min_by_key(|g| g.global_ranks.len());
    if let Some(g) = group {
        return g.global_ranks.iter().copied().collect();
    }
    let at = c.list.first().map_or(0, |n| view.workload_of(n.unit));
    (0u32..)
        .zip(&view.scene.processes)
        .filter(|(u, _)| view.workload_of(*u) == at)
        .filter_map(|(_, p)| p.global_rank)
        .collect()
}
