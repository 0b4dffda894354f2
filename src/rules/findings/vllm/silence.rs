//! Ranks that stand still, told apart by what GPUs and processors do meanwhile: a load that stopped, a hang.
//!
//! Lines alone prove neither: a rank may work in silence. Both findings need samples.

use std::collections::{BTreeMap, BTreeSet};

use super::super::View;
use super::super::fix::sh;
use super::super::ranges;
use super::waits::IDLE_STATS;
use crate::model::event::{ContainerKey, PodKey};
use crate::parse::{At, Nanos};
use crate::rules::comms::line_ref;
use crate::rules::scene::{
    Class, Confidence, Evidence, Finding, GpuView, ProcessView, Severity, Stage,
};
use crate::rules::still;

const SEC: Nanos = 1_000_000_000;
/// Memory must have stood still for so long.
const FLAT: Nanos = 30 * SEC;
/// Over which the use of processors and the reading of files are looked at.
const WINDOW: Nanos = 30 * SEC;
/// Processors per rank below which nothing is computed or decompressed, cores.
const IDLE_CORES: f64 = 0.3;
/// Reading below which nothing is loaded, bytes per second.
const IDLE_READ: f64 = 1e6;

/// What a GPU does while nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// No kernel runs.
    Idle,
    /// A kernel runs that moves no memory and takes little power: it waits inside a collective.
    Spins,
    /// It may be at work.
    Works,
}

fn doing(g: &GpuView) -> Option<Doing> {
    let busy = g.busy?;
    if busy <= 5 {
        return Some(Doing::Idle);
    }
    // A kernel that waits for a peer keeps the GPU at 100 % and its power near rest.
    let cool = matches!((g.watts, g.watts_limit), (Some(w), Some(most)) if w < most * 0.35);
    Some(if g.memory_busy? <= 2 && cool {
        Doing::Spins
    } else {
        Doing::Works
    })
}

/// A rank with its GPU.
struct Seen<'a> {
    unit: u32,
    process: &'a ProcessView,
    gpu: &'a GpuView,
    doing: Doing,
}

/// What the containers of some ranks do: cores per rank and bytes read per second, where sampled.
fn load(view: &View<'_>, ranks: &[Seen<'_>]) -> (Option<f64>, Option<f64>) {
    let mut per: BTreeMap<ContainerKey, u32> = BTreeMap::new();
    for r in ranks {
        let p = r.process;
        if let (Some(namespace), Some(name), Some(container)) = (&p.namespace, &p.pod, &p.container)
        {
            let pod = PodKey {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            *per.entry(ContainerKey {
                pod,
                container: container.clone(),
            })
            .or_default() += 1;
        }
    }
    let (mut cores, mut read): (Option<f64>, Option<f64>) = (None, None);
    for (container, n) in per {
        let Some(usage) = view.model.gpus.usage_of(&container) else {
            continue;
        };
        // The busiest container decides.
        let most = |have: Option<f64>, v: Option<f64>| match (have, v) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let cpu = usage.cpu.per_second(WINDOW);
        cores = most(cores, cpu.map(|us| us / 1e6 / f64::from(n)));
        read = most(read, usage.read.per_second(WINDOW));
    }
    (cores, read)
}

/// Both findings, per workload.
pub(super) fn find(view: &View<'_>, out: &mut Vec<Finding>) {
    let known = still::known(view.scene, view.model.session.feed);
    let Some(now) = known.filter(|a| a.exact) else {
        return;
    };
    let mut on: BTreeMap<u32, &GpuView> = BTreeMap::new();
    for g in &view.scene.gpus {
        if let Some(unit) = g.process {
            on.entry(unit).or_insert(g);
        }
    }
    for w in &view.scene.workloads {
        let ranks = || {
            w.processes.iter().filter_map(|u| {
                let p = view.scene.processes.get(*u as usize)?;
                let is_rank = p.global_rank.is_some() || p.nccl_step.is_some();
                (is_rank && p.alive != Some(false)).then_some((*u, p))
            })
        };
        let seen: Vec<Seen<'_>> = ranks()
            .filter_map(|(unit, process)| {
                let gpu = *on.get(&unit)?;
                Some(Seen {
                    unit,
                    process,
                    gpu,
                    doing: doing(gpu)?,
                })
            })
            .collect();
        let flat = |g: &GpuView| g.still_since.is_some_and(|t| now.ns - t >= FLAT);
        // A rank whose GPU nobody looks at may be at work.
        let all = ranks().count();
        if seen.is_empty()
            || seen.len() < all
            || seen.iter().any(|s| s.doing == Doing::Works || !flat(s.gpu))
        {
            continue;
        }
        let (cores, read) = load(view, &seen);
        if cores.is_some_and(|c| c > IDLE_CORES) || read.is_some_and(|r| r > IDLE_READ) {
            continue;
        }
        let silent = || ranks().filter(|(_, p)| p.still.is_some());
        let moves = ranks().any(|(_, p)| {
            !p.unheard() && p.still.is_none() && p.stage.is_some_and(|s| s < Stage::Serving)
        });
        let loading = silent().any(|(_, p)| {
            matches!(p.stage, Some(Stage::Download | Stage::Weights))
                && p.still.is_some_and(|s| !s.waits)
        });
        let figures = Figures { cores, read };
        if loading && !moves {
            out.extend(stalled(view, &seen, figures));
        } else if silent().next().is_some() && !moves {
            out.extend(hung(view, &seen, figures));
        } else if ranks().all(|(_, p)| p.stage == Some(Stage::Serving)) {
            out.extend(dead_service(view, &seen, figures, now));
        }
    }
}

/// What the containers do.
#[derive(Clone, Copy)]
struct Figures {
    cores: Option<f64>,
    read: Option<f64>,
}

impl Figures {
    fn say(self) -> String {
        let cores = self.cores.map_or_else(
            || "not sampled".to_owned(),
            |c| format!("{c:.2} cores per rank"),
        );
        let read = self.read.map_or_else(
            || "not sampled".to_owned(),
            |r| format!("{:.1} MB/s", r / 1e6),
        );
        format!("processors: {cores}; reading: {read}")
    }

    /// Everything that the conclusion needs was measured.
    fn whole(self) -> bool {
        self.cores.is_some()
    }
}

/// The first silent rank's newest line that showed progress, then the samples.
fn raise(
    view: &View<'_>,
    id: &'static str,
    severity: Severity,
    class: Class,
    seen: &[Seen<'_>],
    figures: Figures,
) -> Option<Finding> {
    let suspect = seen
        .iter()
        .filter(|s| s.process.still.is_some_and(|x| !x.waits))
        .min_by_key(|s| s.process.still.map(|x| x.since.ns))?;
    // Whose GPU holds less than its group stopped first: its memory beside theirs is the proof, and lines of those
    // who only wait for it prove nothing.
    let (behind, rest): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) =
        seen.iter().partition(|s| s.gpu.behind().is_some());
    let speaker = view
        .joined
        .units
        .get(suspect.unit as usize)?
        .speakers
        .iter();
    let line = speaker
        .filter_map(|s| view.model.speakers.list.get(*s as usize))
        .find_map(|s| {
            let progress = s.progress.as_ref().map(|(_, q)| q);
            let q = progress.or(s.stage.as_ref().map(|(_, q)| q))?;
            Some(line_ref(s.source, q))
        });
    let first = match (behind.first(), line) {
        (Some(s), _) => Evidence::Sample(sample(s)),
        (None, Some(line)) => Evidence::Line(line),
        (None, None) => Evidence::Sample(figures.say()),
    };
    let mut f = Finding::new(id, &suspect.process.place(), severity, class, first);
    for s in behind.iter().chain(&rest).take(8) {
        f.prove(Evidence::Sample(sample(s)));
    }
    f.prove(Evidence::Sample(figures.say()));
    f.since = seen
        .iter()
        .filter_map(|s| s.process.still.map(|x| x.since))
        .min_by_key(|a| a.ns);
    f.confidence = if figures.whole() {
        Confidence::Likely
    } else {
        Confidence::Possible
    };
    Some(f)
}

fn sample(s: &Seen<'_>) -> String {
    let rank = s
        .process
        .global_rank
        .map_or_else(|| "a rank".to_owned(), |r| format!("rank {r}"));
    let busy = s.gpu.busy.unwrap_or(0);
    let watts = s
        .gpu
        .watts
        .map_or_else(String::new, |w| format!(", {w:.0} W"));
    let what = match s.doing {
        Doing::Idle => "does nothing",
        Doing::Spins => "waits inside a kernel",
        Doing::Works => "works",
    };
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let held = match (s.gpu.behind(), s.gpu.used) {
        (Some((used, group)), _) => {
            format!("{} used where its group has {}, ", gb(used), gb(group))
        }
        (None, Some(used)) => format!("{} used, ", gb(used)),
        (None, None) => String::new(),
    };
    format!("GPU of {rank}: {held}memory flat, {busy} % busy{watts}: it {what}")
}

fn numbers(list: &[&Seen<'_>]) -> Vec<u32> {
    let mut out: Vec<u32> = list.iter().filter_map(|s| s.process.global_rank).collect();
    out.sort_unstable();
    out
}

fn place(f: &mut Finding, view: &View<'_>, list: &[&Seen<'_>]) {
    let units: BTreeSet<u32> = list.iter().map(|s| s.unit).collect();
    let who = view.who(&units);
    (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, numbers(list));
    f.gpus = list.iter().filter_map(|s| s.gpu.uuid.clone()).collect();
}

/// Weights no longer come, and nobody does anything about it.
fn stalled(view: &View<'_>, seen: &[Seen<'_>], figures: Figures) -> Option<Finding> {
    let mut f = raise(
        view,
        "vllm.loading-stalled",
        Severity::Warning,
        Class::Resources,
        seen,
        figures,
    )?;
    // Whose GPU holds less than its group stopped first; those who speak only wait for it.
    let behind: Vec<&Seen<'_>> = seen.iter().filter(|s| s.gpu.behind().is_some()).collect();
    let stuck: Vec<&Seen<'_>> = if behind.is_empty() {
        seen.iter()
            .filter(|s| s.process.still.is_some_and(|x| !x.waits))
            .collect()
    } else {
        behind.clone()
    };
    place(&mut f, view, &stuck);
    if let Some(first) = behind.first() {
        f.key = format!("{}@{}", f.id, first.process.place());
    }
    // A rank that counted all its shards stands for another one, whose count is not printed.
    let mut counted = stuck.iter().filter_map(|s| s.process.progress.as_ref());
    let at = counted.find(|g| g.done < g.total);
    let at = at.map_or_else(String::new, |g| {
        format!(" at {} of {} {}", g.done, g.total, g.unit)
    });
    let who = match behind.as_slice() {
        [] => String::new(),
        [one] => format!(
            " on rank {}, whose GPU holds {}",
            ranges(&numbers(&[*one])),
            one.gpu.odd.as_deref().unwrap_or("less than its group")
        ),
        many => format!(
            " on ranks {}, whose GPUs hold less than their group",
            ranges(&numbers(many))
        ),
    };
    f.title = format!(
        "the load of the weights stopped{at}{who}: nothing is read, GPUs and processors rest"
    );
    f.cause = "The storage under the model no longer answers (a hung network file system, a throttled volume, a dead download), or the loading process waits for something that never comes.".into();
    let target = &view.target;
    let first = stuck.first()?.process;
    let pod = first.place();
    let pid = first.pid.map_or_else(|| "<pid>".into(), |p| p.to_string());
    f.fix = vec![
        target.kubectl(&format!(
            "exec {} -- sh -c 'grep -H . /proc/{pid}/stack /proc/{pid}/wchan 2>/dev/null; mount | grep -i nfs'",
            sh(&pod)
        )),
        view.stack(first),
        "on the node: dmesg | grep -iE 'nfs|ceph|lustre|not responding'".into(),
    ];
    Some(f)
}

/// Nobody advances, nothing is loaded, nothing is computed.
fn hung(view: &View<'_>, seen: &[Seen<'_>], figures: Figures) -> Option<Finding> {
    let mut f = raise(
        view,
        "vllm.hung",
        Severity::Error,
        Class::Application,
        seen,
        figures,
    )?;
    blame(view, &mut f, seen);
    Some(f)
}

/// Requests run, and not one token is made.
fn dead_service(view: &View<'_>, seen: &[Seen<'_>], figures: Figures, now: At) -> Option<Finding> {
    let quiet = view
        .model
        .speakers
        .list
        .iter()
        .filter(|s| s.idle_stats >= IDLE_STATS)
        .find_map(|s| Some((s, s.stats.as_ref()?)))?;
    let (speaker, (stats, q)) = quiet;
    let mut f = Finding::new(
        "vllm.hung",
        &seen.first()?.process.place(),
        Severity::Error,
        Class::Application,
        Evidence::Line(line_ref(speaker.source, q)),
    );
    for s in seen.iter().take(8) {
        f.prove(Evidence::Sample(sample(s)));
    }
    f.prove(Evidence::Sample(figures.say()));
    f.prove(Evidence::Sample(format!(
        "{} requests run, no token in {} statistics lines",
        stats.running, speaker.idle_stats
    )));
    f.since = q.at.filter(|a| a.ns <= now.ns);
    f.confidence = Confidence::Likely;
    blame(view, &mut f, seen);
    Some(f)
}

/// Who does nothing while the others wait inside a kernel is the one they wait for.
fn blame(view: &View<'_>, f: &mut Finding, seen: &[Seen<'_>]) {
    let idle: Vec<&Seen<'_>> = seen.iter().filter(|s| s.doing == Doing::Idle).collect();
    let spins = seen.len() - idle.len();
    let culprit = spins > 0 && !idle.is_empty() && idle.len() * 2 <= seen.len();
    let all: Vec<&Seen<'_>> = seen.iter().collect();
    let suspects = if culprit { idle } else { all };
    place(f, view, &suspects);
    let (title, cause) = if culprit {
        (
            format!(
                "rank {} does nothing, the other {spins} wait for it inside a collective",
                ranges(&f.ranks)
            ),
            "Their GPUs are busy without moving memory or taking power: they wait in a collective that this rank never entered. It hangs elsewhere, or its process is stopped.",
        )
    } else if spins > 0 {
        (
            "no rank advances: GPUs wait inside a collective that never ends".into(),
            "Every GPU is busy without moving memory or taking power. A collective has no counterpart, or its transport is blocked.",
        )
    } else {
        (
            "no rank advances: GPUs and processors rest, nothing is loaded".into(),
            "Everybody waits: for a lock, a message of another process, or an answer from the network that never comes.",
        )
    };
    f.title = title;
    f.cause = cause.into();
    let target = &view.target;
    for s in suspects.iter().take(2) {
        f.fix.push(view.stack(s.process));
    }
    f.fix.push(
        target.env("TORCH_NCCL_TRACE_BUFFER_SIZE", Some("2000"))
            + "   # the next hang names the call of every rank",
    );
    f.fix
        .push("restart all pods of the group together once the stacks are saved".into());
}
