//! Processes and containers that ended: one finding per place, with the failure that came first there.

use std::collections::{BTreeMap, BTreeSet};

use super::trouble::{Case, Notice, Told, order};
use super::vllm::short;
use super::{View, pods};
use crate::parse::At;
use crate::parse::fact::WarnKind;
use crate::parse::vllm::{FaultKind, Torch};
use crate::rules::scene::{Class, Evidence, Finding, Severity};

/// A failure this long before an end may be its cause, nanoseconds.
const BEFORE: i64 = 120_000_000_000;

/// A worker says that it ends, or somebody says that one did.
fn death(n: &Notice<'_>) -> bool {
    match &n.told {
        Told::Torch(Torch::Killed { .. }) => true,
        Told::Fault(_) => n.fault().is_some_and(|f| match &f.kind {
            FaultKind::Crash { what } => !what.starts_with("RDMA"),
            FaultKind::WorkerDied { .. } | FaultKind::WorkerStart | FaultKind::RayDied => true,
            _ => false,
        }),
        _ => false,
    }
}

/// An end that says nothing about workers: worth a finding only where nothing else explains it.
fn collapse(n: &Notice<'_>) -> bool {
    n.fault().is_some_and(|f| {
        matches!(
            f.kind,
            FaultKind::EngineStart { .. } | FaultKind::EngineDead
        )
    })
}

/// `vllm.worker-died`; `out` holds what else was found.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let mut by: BTreeMap<(usize, String), Vec<&Notice<'_>>> = BTreeMap::new();
    let key = |n: &Notice<'_>| (view.workload_of(n.unit), view.place(n.unit));
    for n in notices.iter().filter(|n| death(n)) {
        by.entry(key(n)).or_default().push(n);
    }
    let explained = |place: &str, source: u32, found: &[Finding]| {
        found.iter().any(|f| {
            f.severity == Severity::Error
                && (f.hosts.iter().chain(&f.pods).any(|h| h == place)
                    || f.evidence()
                        .iter()
                        .any(|e| matches!(e, Evidence::Line(l) if l.source == source)))
        })
    };
    for n in notices.iter().filter(|n| collapse(n)) {
        let k = key(n);
        if !by.contains_key(&k) && !explained(&k.1, n.line.source, out) {
            by.entry(k).or_default().push(n);
        }
    }
    let mut found = Vec::new();
    for ((_, place), deaths) in by {
        found.extend(one(view, notices, &place, deaths));
    }
    // Containers whose end no line tells.
    for (k, pod) in view.model.pods.iter() {
        let Some((text, when)) = pods::dead(pod) else {
            continue;
        };
        let object = Evidence::Object(text);
        if let Some(f) = found
            .iter_mut()
            .find(|f: &&mut Finding| f.pods.contains(&k.name))
        {
            f.prove(object);
            continue;
        }
        let units: BTreeSet<u32> = (0u32..)
            .zip(&view.scene.processes)
            .filter(|(_, p)| p.pod.as_ref() == Some(&k.name))
            .filter(|(_, p)| p.global_rank.is_some() || p.nccl_step.is_some())
            .map(|(u, _)| u)
            .collect();
        if units.is_empty() || explained(&k.name, u32::MAX, out) {
            continue;
        }
        let mut f = Finding::new(
            "vllm.worker-died",
            &k.name,
            Severity::Error,
            Class::Application,
            object,
        );
        let who = view.who(&units);
        (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
        f.since = when.map(|ns| At { ns, exact: true });
        f.title = format!("the container of {} ended", k.name);
        f.cause =
            "Its log ends without a word about it: killed by a signal, or from outside.".into();
        let target = &view.target;
        f.fix = vec![target.log(&k.name), target.describe(&k.name)];
        found.push(f);
    }
    out.extend(found);
}

fn one(
    view: &View<'_>,
    notices: &[Notice<'_>],
    place: &str,
    deaths: Vec<&Notice<'_>>,
) -> Option<Finding> {
    let end = deaths.first()?;
    let near = |n: &Notice<'_>| match (n.line.at, end.line.at) {
        (Some(a), Some(b)) if a.exact == b.exact => {
            a.ns <= b.ns + 2_000_000_000 && b.ns - a.ns < BEFORE
        }
        _ => n.line.source == end.line.source && n.line.number < end.line.number + 50,
    };
    let workload = view.workload_of(end.unit);
    // An engine has no name but that of its log: the ranks that speak in there are its own.
    let nameless = view
        .process(end.unit)
        .is_some_and(|p| p.pod.is_none() && p.host.is_none());
    let here = |n: &&Notice<'_>| {
        let own = nameless && n.line.source == end.line.source;
        view.workload_of(n.unit) == workload && (own || view.place(n.unit) == place)
    };
    // Where nothing failed by itself, the call that nobody answered is what ended the engine.
    let unanswered = |n: &Notice<'_>| {
        n.fault()
            .is_some_and(|f| matches!(f.kind, FaultKind::RpcTimeout { .. }))
    };
    let mut told = notices.iter().filter(here).filter(|n| near(n));
    let first = (told.clone().find(|n| n.is_root())).or_else(|| told.find(|n| unanswered(n)));
    let mut list: Vec<&Notice<'_>> = first.into_iter().chain(deaths.iter().copied()).collect();
    list.sort_by_key(|n| order(&n.line));
    list.dedup_by(|a, b| a.line.source == b.line.source && a.line.number == b.line.number);
    let case = Case::new(view, list);
    let code = case.of(|k| match k {
        FaultKind::WorkerDied { code, .. } => *code,
        _ => None,
    });
    let signal = case.of(|k| match k {
        FaultKind::Crash { what } => Some(what.clone()),
        _ => None,
    });
    let rank = case.of(|k| match k {
        FaultKind::WorkerDied { rank, .. } => *rank,
        _ => None,
    });
    let how = match (&signal, code) {
        (Some(s), _) => format!(": {}", short(s)),
        (None, Some(c)) => format!(": exit code {c}{}", meaning(c)),
        (None, None) => first.map_or_else(String::new, |n| format!(": {}", short(&n.said()))),
    };
    let who = rank.map_or_else(
        || format!("a worker of {place}"),
        |r| format!("rank {r} on {place}"),
    );
    let mut f = case.finding("vllm.worker-died", Severity::Error, Class::Application)?;
    f.key = format!("vllm.worker-died@{place}");
    f.communicator = None;
    f.ranks = view.who(&case.list.iter().map(|n| n.unit).collect()).ranks;
    if let Some(r) = rank.filter(|r| !f.ranks.contains(r)) {
        f.ranks.push(r);
        f.ranks.sort_unstable();
    }
    if end.fault().is_some_and(|f| {
        matches!(
            f.kind,
            FaultKind::EngineStart { .. } | FaultKind::EngineDead
        )
    }) {
        f.title = format!("the engine on {place} ended{how}");
    } else {
        f.title = format!("{who} died{how}");
    }
    let after = |n: &Notice<'_>| match (n.line.at, end.line.at) {
        (Some(a), Some(b)) if a.exact == b.exact => a.ns >= b.ns,
        _ if n.line.source == end.line.source => n.line.number >= end.line.number,
        // Lines of two sources that can't be compared: nobody's connection closes before the end.
        _ => true,
    };
    let echoes = notices
        .iter()
        .filter(|n| matches!(n.nccl(), Some(WarnKind::PeerClosed { .. })) && after(n))
        .filter(|n| view.workload_of(n.unit) == workload)
        .map(|n| n.unit)
        .collect::<BTreeSet<_>>()
        .len();
    let rest = match echoes {
        0 => String::new(),
        1 => " One other process then saw its connection close.".into(),
        n => format!(" {n} other processes then saw their connections close."),
    };
    f.cause = match first {
        Some(n) => format!(
            "The first failure there: {}.{rest}",
            short(&n.said()).trim_end_matches('.')
        ),
        None => format!("Its log tells of no failure before.{rest}"),
    };
    let pod = f.pods.first().cloned().unwrap_or_else(|| place.to_owned());
    f.fix = vec![case.target.log(&pod), case.target.describe(&pod)];
    match code {
        Some(-9 | 137) => f.fix.push(
            case.target.yaml("resources: {limits: {memory: 256Gi}}")
                + "   # signal 9: most often the memory limit",
        ),
        Some(-7 | 135) => f.fix.push(
            case.target
                .yaml("volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 16Gi}}]")
                + "   # signal 7: most often a full /dev/shm",
        ),
        _ => {}
    }
    Some(f)
}

fn meaning(code: i32) -> &'static str {
    match code {
        -9 | 137 => ", killed (SIGKILL)",
        -11 | 139 => ", segmentation fault",
        -6 | 134 => ", aborted",
        -7 | 135 => ", bus error",
        -15 | 143 => ", terminated (SIGTERM)",
        _ => "",
    }
}
