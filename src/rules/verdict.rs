//! The verdict over each workload and over all, and the sentence that goes with it.

use std::collections::BTreeSet;

use super::findings::ranges;
use super::scene::{
    CommState, Evidence, Finding, ProcessView, Scene, Severity, Stage, Verdict, Workload,
};
use crate::model::Model;
use crate::model::event::Feed;
use crate::model::sources::{Flow, Source};
use crate::model::speakers::Speaker;
use crate::parse::vllm::{Edge, Phase, ProcKind};

/// Errors after which nothing goes on without someone acting.
const FATAL: &[&str] = &[
    "nccl.library-not-loaded",
    "nccl.watchdog-timeout",
    "pod.crashloop",
    "pod.evicted",
    "pod.image",
    "pod.oom-killed",
    "pod.pending",
    "pod.probe-kill",
    "vllm.cuda-oom-loading",
    "vllm.device-mismatch",
    "vllm.gloo-mesh",
    "vllm.graph-crash",
    "vllm.hub-access",
    "vllm.hung",
    "vllm.kv-cache-too-small",
    "vllm.model-incomplete",
    "vllm.permission-denied",
    "vllm.port-variable",
    "vllm.rendezvous-timeout",
    "vllm.tokenizer-missing",
    "vllm.worker-died",
    "vllm.world-size",
];

/// Judges every workload, then the whole.
pub fn judge(scene: &mut Scene, model: &Model) {
    let judged: Vec<(Verdict, String)> = scene
        .workloads
        .iter()
        .map(|w| one(scene, model, w))
        .collect();
    for (w, (verdict, summary)) in scene.workloads.iter_mut().zip(judged) {
        w.verdict = verdict;
        w.summary = summary;
    }
    let worst = scene.workloads.iter().max_by_key(|w| severity(w.verdict));
    (scene.verdict, scene.summary) = match worst {
        Some(w) => (w.verdict, w.summary.clone()),
        // Pods without a line yet: what Kubernetes says of them is all there is.
        None => match scene
            .findings
            .iter()
            .find(|f| f.severity >= Severity::Warning)
        {
            Some(f) if FATAL.contains(&f.id) && f.severity == Severity::Error => {
                (Verdict::Failed, f.title.clone())
            }
            Some(f) => (Verdict::Degraded, f.title.clone()),
            None => (Verdict::Unknown, nothing(scene, model)),
        },
    };
}

/// Why no line was read: none has come yet, or what was given holds none.
fn unread(model: &Model) -> String {
    if model.session.feed != Feed::Files {
        return "nothing read yet".into();
    }
    let sources = || model.sources.iter().map(|(_, s)| s);
    let open = |s: &Source| !matches!(s.flow, Flow::Ended(_));
    if sources().next().is_none() || sources().any(open) {
        return "waiting for the first line".into();
    }
    let mut names = sources().map(|s| s.info.name.as_str());
    match (names.next(), names.next()) {
        (Some("-"), None) => "the input ended: nothing was in it".into(),
        (Some(one), None) => format!("{one} is empty"),
        _ => format!("all {} files are empty", sources().count()),
    }
}

/// failed > degraded > unknown > starting > healthy.
fn severity(v: Verdict) -> u8 {
    match v {
        Verdict::Healthy => 0,
        Verdict::Starting => 1,
        Verdict::Unknown => 2,
        Verdict::Degraded => 3,
        Verdict::Failed => 4,
    }
}

fn nothing(scene: &Scene, model: &Model) -> String {
    let lines: u64 = scene.sources.iter().map(|s| s.lines).sum();
    let gpus = scene.gpus.len();
    if lines == 0 && gpus > 0 {
        let s = if gpus == 1 { "" } else { "s" };
        return format!("{gpus} GPU{s} seen, and no log that says what runs on them");
    }
    if lines == 0 {
        return unread(model);
    }
    let s = if lines == 1 { "" } else { "s" };
    format!(
        "no NCCL line in {lines} line{s}: set NCCL_DEBUG=INFO in the pods to see which transports NCCL chooses"
    )
}

/// Ranks that have printed the last line of their start-up, in logs without the engine or the server that alone
/// says what follows: a pod that joins another one's engine (vllm.md 1.6 and P12).
fn through(model: &Model, sources: &BTreeSet<u32>) -> bool {
    let here = || {
        let list = model.speakers.list.iter();
        list.filter(|s| sources.contains(&s.source.0))
    };
    // Without a label: the server of an older version, unless it says that it joins a head.
    let tells = |s: &Speaker| match s.kind() {
        Some(kind) => matches!(kind, ProcKind::ApiServer | ProcKind::EngineCore),
        None => !s.is_rank() && s.head.is_none(),
    };
    let graphs = |s: &Speaker| {
        let stage = s.stage.as_ref()?.0;
        (stage >= Stage::Download).then_some(matches!(s.moved, Some((Phase::Graphs, Edge::End, _))))
    };
    let mut ends = here().filter(|s| s.is_rank()).filter_map(graphs).peekable();
    ends.peek().is_some() && ends.all(|end| end) && !here().any(tells)
}

/// The signal by which somebody asked these processes to end, as one of their own lines says.
fn asked<'a>(
    model: &Model,
    processes: impl Iterator<Item = &'a ProcessView>,
) -> Option<&'static str> {
    let sources: BTreeSet<u32> = processes.flat_map(|p| p.sources.iter().copied()).collect();
    let list = model.speakers.list.iter();
    let here = list.filter(|s| sources.contains(&s.source.0));
    here.filter_map(|s| s.shutdown.as_ref())
        .find_map(|(what, _)| {
            let signals = ["SIGTERM", "SIGINT"];
            signals.into_iter().find(|signal| what.contains(signal))
        })
}

/// A job that ended because it was asked to: in order, if it had served. Where a cluster still wants it, or where
/// it was ended on its way up, it has failed all the same.
fn ended_by<'a>(
    signal: &str,
    model: &Model,
    processes: impl Iterator<Item = &'a ProcessView>,
) -> (Verdict, String) {
    let served = processes.filter(|p| p.stage == Some(Stage::Serving));
    let ranks = served
        .filter(|p| p.global_rank.is_some() || p.nccl_step.is_some())
        .count();
    if ranks == 0 {
        return (
            Verdict::Failed,
            format!("ended by {signal} before it served: somebody, or a probe, asked it to"),
        );
    }
    if model.session.feed != Feed::Files {
        return (
            Verdict::Failed,
            format!("ended by {signal}: somebody asked it to"),
        );
    }
    (
        Verdict::Healthy,
        format!("ended in order by {signal}, after all {ranks} ranks had served"),
    )
}

fn one(scene: &Scene, model: &Model, w: &Workload) -> (Verdict, String) {
    let comms = || {
        w.communicators
            .iter()
            .filter_map(|i| scene.communicators.get(*i as usize))
    };
    let processes = || {
        w.processes
            .iter()
            .filter_map(|i| scene.processes.get(*i as usize))
    };
    let alone = scene.workloads.len() < 2;
    let mine = |f: &&Finding| match &f.communicator {
        _ if alone => true,
        Some(key) => comms().any(|c| &c.key == key),
        None => {
            let named = |name: &Option<String>| {
                name.as_ref()
                    .is_some_and(|n| f.hosts.contains(n) || f.pods.contains(n))
            };
            let told = |p: &ProcessView| {
                f.evidence()
                    .iter()
                    .any(|e| matches!(e, Evidence::Line(l) if p.sources.contains(&l.source)))
            };
            (f.hosts.is_empty()
                && f.pods.is_empty()
                && f.evidence().iter().all(|e| !matches!(e, Evidence::Line(_))))
                || processes().any(|p| named(&p.host) || named(&p.pod) || told(p))
        }
    };
    // Findings are sorted: the first of the worst is a root cause where there is one.
    let worst = scene
        .findings
        .iter()
        .filter(mine)
        .filter(|f| f.severity >= Severity::Warning)
        .min_by_key(|f| (f.consequence_of.is_some(), std::cmp::Reverse(f.severity)));
    // What a workload that serves now has been through is no longer its end.
    let served = processes()
        .filter(|p| p.stage == Some(Stage::Serving) && p.alive != Some(false))
        .filter_map(|p| p.stage_since)
        .map(|a| a.ns)
        .max();
    let fatal = scene
        .findings
        .iter()
        .filter(mine)
        .filter(|f| f.severity == Severity::Error && FATAL.contains(&f.id))
        .filter(|f| !matches!((f.since, served), (Some(a), Some(b)) if a.exact && b > a.ns))
        .min_by_key(|f| f.consequence_of.is_some());
    if let Some(c) = comms()
        .filter(|c| c.state >= CommState::Aborted)
        .max_by_key(|c| c.state)
    {
        let what = if c.state == CommState::Failed {
            "could not come up"
        } else {
            "was aborted"
        };
        let ranks: Vec<u32> = c
            .ranks
            .iter()
            .filter(|m| m.state == c.state)
            .map(|m| m.rank)
            .collect();
        let why = worst.map_or_else(
            || match ranks.as_slice() {
                [one] => format!("rank {one} reports it"),
                many => format!("ranks {} report it", ranges(many)),
            },
            |f| f.title.clone(),
        );
        return (
            Verdict::Failed,
            format!("a communicator of {} ranks {what}: {why}", c.nranks),
        );
    }
    if let Some(f) = fatal {
        // What it follows from is what a person must mend.
        let root = f.consequence_of.as_ref();
        let root = root.and_then(|key| scene.findings.iter().find(|r| &r.key == key));
        return (Verdict::Failed, root.unwrap_or(f).title.clone());
    }
    // Who was replaced is the next life's concern: a finding says why the one before ended.
    if let Some(p) = processes().find(|p| p.alive == Some(false) && !p.replaced) {
        if let (Some(signal), None) = (asked(model, processes()), worst) {
            return ended_by(signal, model, processes());
        }
        return (
            Verdict::Failed,
            format!(
                "process {} on {} has ended",
                p.pid.map_or_else(|| "?".into(), |p| p.to_string()),
                p.place()
            ),
        );
    }
    if let Some(f) = worst {
        return (Verdict::Degraded, f.title.clone());
    }
    if processes().any(|p| p.stage.is_some()) {
        // What a life before the present one came to is nothing that is there now.
        let alone = processes().all(|p| p.replaced);
        let processes = || processes().filter(|p| alone || !p.replaced);
        // An API server or an engine core is no rank: it serves when its ranks do.
        let is_rank =
            |p: &&super::scene::ProcessView| p.global_rank.is_some() || p.nccl_step.is_some();
        let ranks = processes().filter(is_rank).count();
        let serving = processes()
            .filter(is_rank)
            .filter(|p| p.stage == Some(Stage::Serving))
            .count();
        let all = w.expected_ranks.map_or(ranks, |n| n as usize);
        let sources: BTreeSet<u32> = processes()
            .flat_map(|p| p.sources.iter().copied())
            .collect();
        let past: BTreeSet<u32> = (scene.processes.iter())
            .filter(|p| p.replaced && !alone)
            .flat_map(|p| p.sources.iter().copied())
            .filter(|source| !sources.contains(source))
            .collect();
        let speakers = model.speakers.list.iter();
        let mut speakers = speakers.filter(|s| !past.contains(&s.source.0));
        let answers = speakers.any(|s| s.http_up.is_some());
        return if ranks == 0 && answers {
            (Verdict::Healthy, "the server answers".into())
        } else if all > 0 && serving >= all {
            (Verdict::Healthy, format!("all {all} ranks serve"))
        } else if answers && ranks > 0 && serving == ranks {
            // It answers only when every rank is there, those too whose lines nobody gave us.
            let unseen = match all - ranks {
                1 => "the log of 1 rank is".to_owned(),
                n => format!("the logs of {n} ranks are"),
            };
            (
                Verdict::Healthy,
                format!(
                    "the server answers and {ranks} of {all} ranks serve, as far as these logs show: {unseen} not here"
                ),
            )
        } else if ranks == 0 && processes().any(|p| p.stage == Some(Stage::Serving)) {
            // A server serves only when its ranks do; their own lines may have been rotated away.
            (
                Verdict::Healthy,
                "the server serves; the start of its ranks is not in these logs".into(),
            )
        } else if ranks == 0 {
            (
                Verdict::Starting,
                "vLLM starts, no rank has spoken yet".into(),
            )
        } else if serving == 0 && through(model, &sources) {
            // Theirs is done, and what comes next is another log's to tell.
            let unseen = match all.saturating_sub(ranks) {
                0 => "that of their engine is not here".to_owned(),
                1 => "the log of 1 rank is not here".to_owned(),
                n => format!("the logs of {n} ranks are not here"),
            };
            (
                Verdict::Unknown,
                format!(
                    "{ranks} of {all} ranks are through their start-up; whether they serve, these logs do not say: {unseen}"
                ),
            )
        } else {
            (Verdict::Starting, format!("{serving} of {all} ranks serve"))
        };
    }
    let starting: Vec<_> = comms().filter(|c| c.state == CommState::Starting).collect();
    if let Some(c) = starting.first() {
        let seen = c.ranks.len();
        let n = starting.len();
        let s = if n == 1 { "" } else { "s" };
        return (
            Verdict::Starting,
            format!(
                "{n} communicator{s} starting: {seen} of {} ranks of the first have begun",
                c.nranks
            ),
        );
    }
    if let Some(c) = comms().find(|c| !c.incomplete_ranks.is_empty()) {
        let word = match c.incomplete_ranks.as_slice() {
            [one] => format!("rank {one} has"),
            many => format!("ranks {} have", ranges(many)),
        };
        return (
            Verdict::Starting,
            format!(
                "{} of {} ranks of a communicator are complete: {word} begun and not finished",
                c.ranks
                    .iter()
                    .filter(|m| m.state == CommState::Complete)
                    .count(),
                c.nranks
            ),
        );
    }
    let n = comms().count();
    if n > 0 && comms().all(|c| matches!(c.state, CommState::Complete | CommState::Destroyed)) {
        let ranks = processes().count();
        let unseen: u32 = comms().map(|c| c.unseen_count).sum();
        let rest = if unseen > 0 {
            ", as far as these logs show: some ranks' logs are not here"
        } else {
            ""
        };
        let s = if n == 1 { "" } else { "s" };
        let es = if ranks == 1 { "" } else { "es" };
        return (
            Verdict::Healthy,
            format!("{n} communicator{s} over {ranks} process{es} complete{rest}"),
        );
    }
    let told = if w.processes.is_empty() {
        nothing(scene, model)
    } else {
        "NCCL ran, but no communicator can be seen in these lines".into()
    };
    (Verdict::Unknown, told)
}
