//! GPUs: as many as asked for, healthy, well connected, their memory ours.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Asked, Look, Seen, Tally, some};
use crate::parse::probe::{Answer, Gpus, Link, Topology, Versions};
use crate::rules::devices as judge;
use crate::rules::scene::{CheckVerdict, GpuView};

pub(super) fn gpu_answers<'l, 'a>(look: &'l Look<'a>) -> Asked<'l, 'a, Gpus> {
    look.asked("gpus", |a| match a {
        Answer::Gpus(g) => Some(g),
        _ => None,
    })
}

fn topologies<'l, 'a>(look: &'l Look<'a>) -> Asked<'l, 'a, Topology> {
    look.asked("topo", |a| match a {
        Answer::Topology(t) => Some(t),
        _ => None,
    })
}

/// GPUs visible per worker equal the request.
pub(super) fn count(look: &Look<'_>) -> Seen {
    let asked = gpu_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut counts = BTreeSet::new();
    let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for g in &asked.got {
        let pod = g.pod();
        match judge::count(g.member, g.answer) {
            Some(bad) => tally.fail(&pod, bad.text),
            None => match g.answer.count() {
                Some(n) => drop(counts.insert(n)),
                None => {
                    let why = g
                        .answer
                        .trouble
                        .first()
                        .map_or("no answer", |t| t.why.as_str());
                    tally.unknown(&pod, format!("GPUs can't be counted: {why}"));
                }
            },
        }
        for gpu in g.answer.list.iter().filter(|g| !g.uuid.is_empty()) {
            owners.entry(&gpu.uuid).or_default().push(pod.clone());
        }
    }
    for (uuid, pods) in owners.iter().filter(|(_, p)| p.len() > 1) {
        let first = pods.first().map_or("", String::as_str);
        tally.warn(
            first,
            format!(
                "{uuid} is seen by {}: shared in time, or a privileged pod",
                some(pods)
            ),
        );
    }
    let list: Vec<String> = counts.iter().map(u32::to_string).collect();
    asked.conclude(
        tally,
        format!(
            "{} GPUs in every container, as asked for",
            list.join(" or ")
        ),
    )
}

/// Memory of the GPUs: pressure, processes that are not ours.
pub(super) fn memory(look: &Look<'_>) -> Seen {
    let asked = look.asked("gpu-memory", |a| match a {
        Answer::GpuMemory(m) => Some(m),
        _ => None,
    });
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let (mut fullest, mut seen_gpus) = (0, 0usize);
    for g in &asked.got {
        let pod = g.pod();
        seen_gpus += g.answer.gpus.len();
        if g.answer.gpus.is_empty() {
            let why = g
                .answer
                .trouble
                .first()
                .map_or("no GPU is listed", |t| t.why.as_str());
            tally.unknown(&pod, why);
        }
        for f in judge::foreign(look.processes(g.member), g.member, g.answer) {
            tally.warn(&pod, f.text);
        }
        for gpu in &g.answer.gpus {
            let percent = percent(gpu.used_mib, gpu.total_mib).unwrap_or(0);
            fullest = fullest.max(percent);
            if percent >= 98 {
                tally.warn(&pod, format!("GPU {} is {percent} % full", gpu.index));
            }
        }
    }
    // Less than the group is no pressure, and what a dead rank leaves; it counts where the whole job is at rest.
    let at_rest = look
        .scene
        .findings
        .iter()
        .any(|f| f.id == "gpu.memory-imbalance");
    let unlike = |g: &&GpuView| !g.loading && g.off_by.is_some_and(|off| off > 0 || at_rest);
    for g in look.scene.gpus.iter().filter(unlike) {
        if let (Some(odd), Some(pod)) = (&g.odd, &g.pod) {
            let which = g.index.map_or_else(String::new, |i| format!("GPU {i}: "));
            tally.warn(pod, format!("{which}{odd}"));
        }
    }
    asked.conclude(
        tally,
        format!("{seen_gpus} GPUs, the fullest {fullest} %; no process of anybody else is seen"),
    )
}

fn percent(used: Option<u64>, total: Option<u64>) -> Option<u64> {
    let (used, total) = (used?, total.filter(|t| *t > 0)?);
    Some(used.saturating_mul(100) / total)
}

/// Errors that the memory of the GPUs could not correct.
pub(super) fn ecc(look: &Look<'_>) -> Seen {
    let asked = gpu_answers(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut told = 0;
    for g in &asked.got {
        let pod = g.pod();
        for bad in judge::ecc(g.answer) {
            tally.fail(&pod, bad.text);
        }
        told += g
            .answer
            .ecc
            .iter()
            .filter(|e| e.uncorrected.is_some())
            .count();
        if g.answer.ecc.iter().all(|e| e.uncorrected.is_none()) && g.answer.remap.is_empty() {
            let why = g.answer.trouble.iter().find(|t| t.what == "ecc");
            tally.unknown(
                &pod,
                why.map_or("ECC is off or not reported", |t| t.why.as_str()),
            );
        }
    }
    asked.conclude(
        tally,
        format!("{told} GPUs report no uncorrectable error, no row waits for a reset"),
    )
}

/// Xids that the driver reported: in events, conditions of nodes, and logs.
pub(super) fn xid(look: &Look<'_>) -> Seen {
    let ran = "events, conditions of the nodes, and NVRM lines in the logs";
    let found: Vec<_> = look
        .scene
        .findings
        .iter()
        .filter(|f| f.id == "gpu.xid")
        .collect();
    let mut tally = Tally::default();
    for f in &found {
        let pod = f
            .pods
            .first()
            .or(f.hosts.first())
            .map_or("", String::as_str);
        tally.fail(pod, f.title.clone());
    }
    if found.is_empty() {
        if let Some(seen) = look.unfit(ran) {
            return seen;
        }
        // A detector on the node that would tell, and tells of nothing.
        let watched = look.model.nodes.values().any(|n| {
            n.conditions.iter().any(|c| {
                let kind = c.kind.to_ascii_lowercase();
                kind.contains("gpu") || kind.contains("xid") || kind.contains("nvidia")
            })
        });
        if !watched {
            let text = "none seen; but nothing on these nodes reports Xids to Kubernetes, and the kernel's log is closed to pods";
            return Seen::new(CheckVerdict::Unknown, ran, text);
        }
    }
    tally.seen(ran, "none; the nodes have a detector that would tell")
}

/// One driver over the group, new enough for the image.
pub(super) fn driver(look: &Look<'_>) -> Seen {
    let asked = look.asked("versions", |a| match a {
        Answer::Versions(v) => Some(v),
        _ => None,
    });
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut by: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut tally = Tally::default();
    for g in &asked.got {
        match g.answer.driver.as_deref() {
            Some(d) => by.entry(d).or_default().push(g.pod()),
            None => tally.unknown(&g.pod(), "the driver's version is not known"),
        }
    }
    if by.len() > 1 {
        let sides: Vec<String> = by
            .iter()
            .map(|(d, p)| format!("{d} in {}", some(p)))
            .collect();
        let major = |d: &str| d.split('.').next().unwrap_or_default().to_owned();
        let majors: BTreeSet<String> = by.keys().map(|d| major(d)).collect();
        let odd = by.values().min_by_key(|p| p.len()).and_then(|p| p.first());
        let (odd, text) = (odd.map_or("", String::as_str), sides.join("; "));
        if majors.len() > 1 {
            tally.fail(odd, format!("drivers of different branches: {text}"));
        } else {
            tally.warn(odd, format!("drivers differ: {text}"));
        }
    }
    for g in &asked.got {
        let cuda = cuda_of(g.answer);
        let branch = g.answer.driver.as_deref().and_then(|d| d.split('.').next());
        let branch = branch.and_then(|b| b.parse::<u32>().ok());
        if let (Some(cuda), Some(branch)) = (cuda, branch)
            && let Some((_, least)) = OLDEST.iter().find(|(c, _)| *c == cuda)
            && branch < *least
        {
            tally.warn(
                &g.pod(),
                format!("driver branch {branch} is older than CUDA {cuda} of this image takes ({least}), unless the image brings its compatibility libraries"),
            );
        }
    }
    let names: Vec<String> = by.keys().map(|d| (*d).to_owned()).collect();
    asked.conclude(tally, format!("driver {} everywhere", some(&names)))
}

/// The oldest driver branch that takes each major version of CUDA (release notes of CUDA, minor version compatibility).
const OLDEST: &[(u32, u32)] = &[(11, 450), (12, 525), (13, 580)];

/// Major version of the CUDA of a container's Python packages: torch `2.9.0+cu128`, or its runtime beside it.
fn cuda_of(v: &Versions) -> Option<u32> {
    let first = |text: &str, most: usize| {
        let digits: String = text
            .chars()
            .take_while(char::is_ascii_digit)
            .take(most)
            .collect();
        digits.parse::<u32>().ok()
    };
    let package = |name: &str| v.packages.get(name).map(String::as_str);
    let torch = package("torch")
        .and_then(|t| t.split_once("+cu"))
        .and_then(|(_, cuda)| first(cuda, 2));
    let runtime = || package("nvidia-cuda-runtime").and_then(|version| first(version, 2));
    torch
        .or_else(|| package("nvidia-cuda-runtime-cu12").map(|_| 12))
        .or_else(runtime)
}

/// GPUs of a pod connected alike, all links up.
pub(super) fn topology(look: &Look<'_>) -> Seen {
    let asked = topologies(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut kinds: BTreeMap<Link, usize> = BTreeMap::new();
    let counted = gpu_answers(look).got;
    let counts: BTreeMap<String, Option<u32>> = counted
        .iter()
        .map(|o| (o.pod(), o.answer.count()))
        .collect();
    for g in &asked.got {
        let pod = g.pod();
        let gpus = counts.get(&pod).copied().flatten();
        if g.answer.links.is_empty() && gpus != Some(1) {
            let why = g.answer.trouble.iter().find(|t| t.what == "topo");
            tally.unknown(
                &pod,
                why.map_or("no pair of GPUs is listed", |t| t.why.as_str()),
            );
        }
        for line in &g.answer.inactive {
            tally.fail(&pod, format!("NVLink down: {line}"));
        }
        for (a, b, l) in &g.answer.links {
            *kinds.entry(*l).or_default() += 1;
            let others = g.answer.links.iter().filter(|(.., o)| o < l).count();
            if matches!(l, Link::Sys | Link::Host) && others * 2 > g.answer.links.len() {
                tally.warn(
                    &pod,
                    format!("GPU {a} and GPU {b} are connected over {}", word(*l)),
                );
            }
        }
    }
    let list: Vec<String> = kinds
        .iter()
        .map(|(l, n)| format!("{n} pairs over {}", word(*l)))
        .collect();
    asked.conclude(tally, list.join(", "))
}

fn word(link: Link) -> String {
    match link {
        Link::Nvlink(n) => format!("NVLink ({n} links)"),
        Link::Pcie => "PCIe bridges (PIX, PXB)".into(),
        Link::Host => "the host bridge (PHB, NODE)".into(),
        Link::Sys => "the processors' interconnect (SYS)".into(),
    }
}

/// PCIe bridges do not detour the traffic between GPUs and network cards.
pub(super) fn acs(look: &Look<'_>) -> Seen {
    let asked = topologies(look);
    if let Some(seen) = asked.nothing(look) {
        return seen;
    }
    let mut tally = Tally::default();
    let mut bridges = 0;
    for g in &asked.got {
        match g.answer.acs {
            Some((0, all)) => bridges += all,
            Some((on, all)) => tally.warn(
                &g.pod(),
                format!("ACS is on in {on} of {all} bridges: on bare metal it detours P2P and GPUDirect RDMA"),
            ),
            None => {
                let why = g.answer.trouble.iter().find(|t| t.what == "acs");
                tally.unknown(
                    &g.pod(),
                    why.map_or("lspci says nothing of it", |t| t.why.as_str()),
                );
            }
        }
    }
    asked.conclude(tally, format!("ACS is off in {bridges} bridges"))
}
