//! What a container has of its host: shared memory, limits, memory, versions.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Asked, Look, Seen, Tally, some};
use crate::parse::probe::{Answer, Limits, Versions};

const MIB: u64 = 1024;
const GIB: u64 = 1024 * 1024;

/// `/dev/shm` holds what NCCL and vLLM's workers share.
pub(super) fn shm(look: &Look<'_>) -> Seen {
    let asked = look.asked("shm", |a| match a {
        Answer::Shm(s) => Some(s),
        _ => None,
    });
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut least = u64::MAX;
    for g in &asked.got {
        let s = g.answer;
        let gpus = u64::from(g.member.container.gpus);
        least = least.min(s.total);
        if s.total <= 64 * MIB && gpus > 1 {
            tally.fail(
                &g.pod(),
                format!(
                    "/dev/shm has {} MiB: the default of containers",
                    s.total / MIB
                ),
            );
        } else if s.free < 512 * MIB && gpus > 1 {
            tally.warn(
                &g.pod(),
                format!(
                    "{} of {} MiB of /dev/shm are free",
                    s.free / MIB,
                    s.total / MIB
                ),
            );
        } else if s.total < gpus * GIB {
            tally.warn(
                &g.pod(),
                format!(
                    "/dev/shm has {} MiB for {gpus} GPUs; 1 GiB each is usual",
                    s.total / MIB
                ),
            );
        }
    }
    asked.conclude(tally, format!("/dev/shm has {} MiB or more", least / MIB))
}

fn limits<'l, 'a>(look: &'l Look<'a>) -> Asked<'l, 'a, Limits> {
    look.asked("limits", |a| match a {
        Answer::Limits(l) => Some(l),
        _ => None,
    })
}

/// RDMA needs memory that may be locked; NCCL needs many files.
pub(super) fn memlock(look: &Look<'_>) -> Seen {
    let asked = limits(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let rdma: BTreeSet<String> = look
        .asked("rdma", |a| match a {
            Answer::Rdma(r) => Some(r),
            _ => None,
        })
        .got
        .iter()
        .filter(|g| g.answer.usable().next().is_some())
        .map(|g| g.pod())
        .collect();
    let mut tally = Tally::default();
    for g in &asked.got {
        let pod = g.pod();
        match g.answer.soft.get("Max locked memory") {
            Some(None) => {}
            Some(Some(n)) => {
                let allowed = g.answer.ipc_lock() == Some(true);
                let text = format!("{} KiB of memory may be locked", n / 1024);
                if allowed {
                    tally.say(&pod, format!("{text}; IPC_LOCK lifts that"));
                } else if rdma.contains(&pod) {
                    tally.fail(&pod, format!("{text}, and RDMA needs more"));
                } else {
                    tally.say(&pod, format!("{text}; enough without RDMA"));
                }
            }
            None => tally.unknown(&pod, "the limits of the first process can't be read"),
        }
        if let Some(Some(n)) = g.answer.soft.get("Max open files")
            && *n < 65_536
        {
            tally.warn(
                &pod,
                format!("{n} files may be open at a time; 65536 is usual"),
            );
        }
    }
    asked.conclude(tally, "locked memory is not limited where RDMA needs it")
}

/// Memory of the containers against their limits.
pub(super) fn memory(look: &Look<'_>) -> Seen {
    let asked = limits(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut fullest = 0;
    let mut limited = false;
    for g in &asked.got {
        let (pod, l) = (g.pod(), g.answer);
        if let Some(n) = l.oom_kills.filter(|n| *n > 0) {
            tally.fail(&pod, format!("the memory limit has killed {n} processes"));
        }
        // Page cache is dropped when memory is short: what is held counts.
        if let (Some(max), Some(held)) = (
            l.memory_max.filter(|m| *m > 0),
            l.memory_held.or(l.memory_current),
        ) {
            limited = true;
            let percent = held.saturating_mul(100) / max;
            fullest = fullest.max(percent);
            if percent >= 90 {
                tally.warn(
                    &pod,
                    format!("{percent} % of the memory limit are held (/dev/shm counts)"),
                );
            }
        }
        if let Some(p) = l.pressure.filter(|p| *p > 5.0) {
            tally.warn(
                &pod,
                format!("everything waits for memory {p:.0} % of the time"),
            );
        }
        if l.memory_current.is_none() {
            tally.unknown(&pod, "the control group's memory can't be read");
        }
    }
    let good = if limited {
        format!("at most {fullest} % of a limit held, nothing was killed")
    } else {
        "no limit, nothing was killed".to_owned()
    };
    asked.conclude(tally, good)
}

/// Torch, NCCL, CUDA and vLLM are of one version over the pods; torch's NCCL is pynccl's.
pub(super) fn versions(look: &Look<'_>) -> Seen {
    let asked = look.asked("versions", |a| match a {
        Answer::Versions(v) => Some(v),
        _ => None,
    });
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut by: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for g in &asked.got {
        let (pod, v): (String, &Versions) = (g.pod(), g.answer);
        for (name, version) in &v.packages {
            by.entry(name.clone())
                .or_default()
                .entry(version.clone())
                .or_default()
                .push(pod.clone());
        }
        let loaded: BTreeSet<&str> = v.libraries.values().flatten().map(String::as_str).collect();
        if v.libraries.len() > 1 {
            let paths: Vec<String> = v
                .libraries
                .iter()
                .map(|(p, n)| format!("{p} ({})", n.as_deref().unwrap_or("version not told")))
                .collect();
            let text = format!("two NCCL libraries are loaded: {}", some(&paths));
            if loaded.len() > 1 {
                tally.warn(&pod, text);
            } else {
                tally.say(&pod, text);
            }
        }
        for version in loaded {
            by.entry("NCCL loaded".into())
                .or_default()
                .entry(version.to_owned())
                .or_default()
                .push(pod.clone());
        }
        if let Some(path) = &v.chosen {
            tally.say(&pod, format!("VLLM_NCCL_SO_PATH={path}"));
        }
        if v.packages.is_empty() {
            let why = v.trouble.iter().find(|t| t.what == "package");
            tally.unknown(
                &pod,
                why.map_or("no Python package is listed", |t| t.why.as_str()),
            );
        }
    }
    for (name, sides) in by.iter().filter(|(_, s)| s.len() > 1) {
        let pods: BTreeSet<&String> = sides.values().flatten().collect();
        // Two libraries in one pod were told above.
        if sides.values().all(|p| p.len() == pods.len()) {
            continue;
        }
        let told: Vec<String> = sides
            .iter()
            .map(|(v, p)| format!("{v} in {}", some(p)))
            .collect();
        let odd = sides
            .values()
            .min_by_key(|p| p.len())
            .and_then(|p| p.first());
        tally.fail(
            odd.map_or("", String::as_str),
            format!("{name}: {}", told.join("; ")),
        );
    }
    let told: Vec<String> = ["vllm", "torch", "NCCL loaded"]
        .iter()
        .filter_map(|n| Some(format!("{n} {}", by.get(*n)?.keys().next()?)))
        .collect();
    asked.conclude(tally, format!("equal over the pods: {}", told.join(", ")))
}
