//! Who is which rank and where: sizes, ranks, addresses, the rendezvous, groups over nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::fix::sh;
use super::super::trouble::{Case, Notice, Told, Words};
use super::super::{View, by_lines, earlier, first_lines, ranges};
use super::short;
use crate::model::speakers::Speaker;
use crate::parse::vllm::{Fault, FaultKind, host_of};
use crate::rules::comms::line_ref;
use crate::rules::rating::is_socket;
use crate::rules::scene::{Class, Evidence, Finding, LineRef, Severity};

pub(super) fn world_size(c: &Case<'_, '_>) -> Words {
    let told = c.of(|k| {
        Some(match k {
            FaultKind::Heads { heads, tp } => (
                format!("{heads} attention heads can't be divided by tensor parallel size {tp}"),
                // Every rank keeps a place: what is taken from the tensor size goes to the pipeline's.
                (2..*tp)
                    .rev()
                    .find(|n| heads % n == 0 && tp % n == 0)
                    .map(|n| (n, tp / n)),
            ),
            FaultKind::WorldSize { ranks, gpus } => (
                format!("{ranks} ranks are wanted where {gpus} GPUs are"),
                None,
            ),
            _ => return None,
        })
    });
    let (title, tp) = told.unwrap_or_else(|| {
        let text = c
            .list
            .iter()
            .find_map(|n| n.fault())
            .map_or("", |f| f.text.as_str());
        (
            format!("the parallel sizes don't fit: {}", short(text)),
            None,
        )
    });
    let mut fix = Vec::new();
    if let Some((tp, by)) = tp {
        let at = c.list.first().map_or(0, |n| c.view.workload_of(n.unit));
        let before = c.view.scene.workloads.get(at).and_then(|w| w.sizes[1]);
        let pp = before.unwrap_or(1).saturating_mul(by);
        fix.push(c.target.arg(&format!(
            "--tensor-parallel-size={tp} --pipeline-parallel-size={pp}"
        )));
    }
    if let Some((ranks, gpus)) = c.of(|k| match k {
        FaultKind::WorldSize { ranks, gpus } => Some((*ranks, *gpus)),
        _ => None,
    }) {
        if gpus > 0 && ranks % gpus == 0 {
            fix.push(c.target.arg(&format!(
                "--nnodes={} --node-rank=<index of the pod> --master-addr=<first pod>",
                ranks / gpus
            )));
        }
        fix.push(c.target.yaml(&format!(
            "resources: {{limits: {{nvidia.com/gpu: {ranks}}}}}"
        )));
    }
    let heads = c.of(|k| match k {
        FaultKind::Heads { heads, .. } => Some(format!("{heads} ")),
        _ => None,
    });
    fix.push(format!("tensor × pipeline × data parallel size must equal the GPUs of all pods together; the tensor parallel size must divide the {}attention heads, and the key-value heads or be a multiple of them", heads.unwrap_or_default()));
    (title, "World size, tensor, pipeline or node count contradict the model or the GPUs that the pod sees.".into(), fix)
}

pub(super) fn rank_config(c: &Case<'_, '_>) -> Words {
    let twice = c
        .list
        .iter()
        .any(|n| n.line.text.contains("already checked in"));
    let title = if twice {
        "two processes claim one rank".to_owned()
    } else {
        "pods disagree about ranks or sizes".to_owned()
    };
    let text = c.list.first().map_or_else(String::new, |n| n.said());
    (
        title,
        format!("{} says: {}. VLLM_DP_*, node rank, start rank or sizes differ between the pods, two pods were given the same rank, or a pod of an older run still lives.", c.place, short(&text)),
        vec![
            c.target.pods(),
            "compare --data-parallel-size, --data-parallel-start-rank, --node-rank, --nnodes and --master-addr of all pods: sizes and address must be equal, ranks must differ".into(),
        ],
    )
}

/// torch's store says for good that it can't be reached: its last word is an exception, and what it warned of
/// before, a name without an address, belongs to it. Warnings alone are tries that may yet succeed.
pub(super) fn gave_up(view: &View<'_>, n: &Notice<'_>) -> bool {
    let last = |f: &Fault| {
        matches!(
            f.kind,
            FaultKind::HeadUnreachable { .. } | FaultKind::NameResolution { .. }
        ) && f
            .class
            .as_ref()
            .is_some_and(|c| c.ends_with("DistNetworkError"))
    };
    let Told::Fault(f) = &n.told else {
        return false;
    };
    let speakers = &view.model.speakers.list;
    let here = || speakers.iter().filter(|s| s.source.0 == n.line.source);
    last(f)
        || matches!(f.kind, FaultKind::NameResolution { name: Some(_) })
            && here().any(|s| s.faults.iter().any(|(f, _)| last(f)))
}

/// A name that has no address.
fn unresolved(c: &Case<'_, '_>, name: &str) -> Words {
    let (_, service) = name.split_once('.').unwrap_or(("", name));
    let service = service.split('.').next().unwrap_or(service);
    (
        format!("{} can't resolve the name {name}", c.place),
        "The name has no address. Pods of one job find each other by the names that a headless Service gives them: it is missing, is called otherwise, does not select these pods, or names only pods that are ready, which these become after they have met.".into(),
        vec![
            c.target.kubectl(&format!("get service {} -o yaml", sh(service)))
                + "   # spec: {clusterIP: None, publishNotReadyAddresses: true}",
            c.target.kubectl(&format!(
                "exec {} -- getent hosts {}",
                c.target.pod(&c.pod()),
                sh(name)
            )),
            c.target.pods(),
        ],
    )
}

pub(super) fn rendezvous(c: &Case<'_, '_>) -> Words {
    let name = c.list.iter().find_map(|n| match &n.told {
        Told::Fault(f) => match &f.kind {
            FaultKind::NameResolution { name } => name.clone(),
            _ => None,
        },
        _ => None,
    });
    if let Some(name) = name {
        return unresolved(c, &name);
    }
    let have = c.of(|k| match k {
        FaultKind::NotAllJoined {
            have,
            want,
            seconds,
        } => Some((*have, *want, *seconds)),
        _ => None,
    });
    let head = c.of(|k| match k {
        FaultKind::HeadUnreachable { to, .. } => Some(to.clone()),
        _ => None,
    });
    let (title, cause) = match (have, &head) {
        (Some((have, want, seconds)), _) => (
            format!("{have} of {want} ranks came to the rendezvous within {seconds} s"),
            format!("{} rank{} never reached the store: not started, crashed before, or unable to reach the head's port.", want.saturating_sub(have), if want.saturating_sub(have) == 1 { "" } else { "s" }),
        ),
        (None, Some(to)) => (
            format!("{} can't reach the head at {to}", c.place),
            "The head is not up, its address is wrong, or the port is blocked between the pods.".into(),
        ),
        _ => (
            format!("{} waited in vain for the other ranks", c.place),
            "A value that another rank should have stored, or an answer of the head, never came: that rank is late, dead or elsewhere.".into(),
        ),
    };
    let mut fix = vec![c.target.pods()];
    if let Some(to) = &head {
        let (host, port) = to.rsplit_once(':').unwrap_or((to, "29501"));
        fix.push(c.target.kubectl(&format!(
            "exec {} -- timeout 5 bash -c '</dev/tcp/\"$0\"/\"$1\"' {} {}",
            c.target.pod(&c.pod()),
            sh(host),
            sh(port)
        )));
    }
    fix.push("read the log of the ranks that did not come, and where their pod restarted that of the container before (kubectl logs --previous)".into());
    (title, cause, fix)
}

pub(super) fn host_ip_fix(c: &Case<'_, '_>) -> Vec<String> {
    vec![
        c.target
            .yaml("- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"),
    ]
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.starts_with("127.") || host == "::1" || host == "0.0.0.0"
}

/// Addresses that can't be right for a job of several pods.
pub(super) fn host_ip(view: &View<'_>, out: &mut Vec<Finding>) {
    let speakers = &view.model.speakers.list;
    let mut loops: Vec<(LineRef, &Speaker, String)> = Vec::new();
    let mut stray: Vec<(LineRef, &Speaker, String)> = Vec::new();
    let own = |s: &Speaker| {
        let c = view.model.sources.get(s.source)?.info.container.clone()?;
        view.model.pods.get(&c.pod)?.pod_ip.clone()
    };
    for s in speakers {
        if let Some((start, q)) = &s.rank_start
            && let Some(host) = host_of(&start.init)
            && loopback(host)
            && spans(view, s, start.world)
        {
            loops.push((
                line_ref(s.source, q),
                s,
                format!("distributed_init_method={}", start.init),
            ));
        }
        if let Some((value, q)) = s.env.get("VLLM_HOST_IP") {
            let told = format!("VLLM_HOST_IP={value}");
            if loopback(value) && spans(view, s, None) {
                loops.push((line_ref(s.source, q), s, told));
            } else if own(s).is_some_and(|ip| &ip != value) {
                stray.push((line_ref(s.source, q), s, told));
            }
        }
    }
    for (list, why) in [
        (loops, "a loopback address: other pods can't reach it"),
        (stray, "not the address of its pod"),
    ] {
        let Some((first, s, told)) = list.first() else {
            continue;
        };
        let unit = view.unit_of_speaker(s);
        let place = unit.map_or_else(|| "job".into(), |u| view.place(u));
        let mut f = Finding::new(
            "vllm.wrong-host-ip",
            &place,
            Severity::Error,
            Class::Configuration,
            Evidence::Line(first.clone()),
        );
        let units: BTreeSet<u32> = list
            .iter()
            .filter_map(|(_, s, _)| view.unit_of_speaker(s))
            .collect();
        let who = view.who(&units);
        (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
        for l in first_lines(list.iter().map(|(l, ..)| l.clone()).collect()) {
            f.since = earlier(f.since, l.at);
            f.prove(Evidence::Line(l));
        }
        f.title = format!("{told} is {why}");
        f.cause = "Every rank meets at this address, and gloo and the message queues use it. Each pod must announce its own address.".into();
        let target = &view.target;
        f.fix = vec![
            target.yaml("- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"),
        ];
        out.push(f);
    }
}

/// The speaker's job has ranks outside its own pod: two hosts or sources take part, or more ranks than this
/// source can hold.
fn spans(view: &View<'_>, s: &Speaker, world: Option<u32>) -> bool {
    let Some(unit) = view.unit_of_speaker(s) else {
        return false;
    };
    let w = view.workload_of(unit);
    let peers = (0u32..)
        .zip(&view.scene.processes)
        .filter(|(u, _)| view.workload_of(*u) == w);
    let sources: BTreeSet<u32> = peers
        .filter(|(_, p)| p.global_rank.is_some())
        .map(|(_, p)| p.source)
        .collect();
    // A pod that joins a head says so in a process of its own.
    let joins = |s: &Speaker| s.leader.is_some() || s.head.is_some();
    let mut here = view.model.speakers.list.iter();
    // A node holds at most 16 GPUs of one job.
    sources.len() > 1
        || world.is_some_and(|w| w > 16)
        || here.any(|other| other.source == s.source && joins(other))
}

/// A rank with its world and engine, and where it meets the others.
type Seat<'a> = (usize, u32, Option<u32>, Option<u32>, &'a str);

/// Ranks that two pods claim at the same time: both come to one rendezvous as the same.
pub(super) fn same_ranks(view: &View<'_>, out: &mut Vec<Finding>) {
    if out.iter().any(|f| f.id == "vllm.rank-config") {
        return;
    }
    let mut seats: BTreeMap<Seat<'_>, Vec<(u32, &Speaker, LineRef)>> = BTreeMap::new();
    for (i, s) in (0u32..).zip(&view.model.speakers.list) {
        // What Ray's driver repeats of its workers stands in their own logs, too.
        let label = s.label.as_ref();
        let relayed = s.ip.is_some() || label.is_some_and(|(l, _)| l.starts_with("RayWorker"));
        if relayed {
            continue;
        }
        if let (Some((start, q)), Some(unit)) = (&s.rank_start, view.speaker.get(&i))
            && let Some(rank) = start.rank
        {
            let dp = label.and_then(|(_, l)| l.dp);
            let seat = (view.workload_of(*unit), rank, start.world, dp, &*start.init);
            let line = line_ref(s.source, q);
            seats.entry(seat).or_default().push((*unit, s, line));
        }
    }
    // Two lives of one pod follow each other; two pods stand side by side.
    let lasts = |s: &Speaker| {
        let source = view.model.sources.get(s.source)?;
        Some((source.first_at?, source.last_at?))
    };
    let together = |a: &Speaker, b: &Speaker| match (lasts(a), lasts(b)) {
        (Some((a0, a1)), Some((b0, b1))) if a0.exact == b0.exact => a0 <= b1 && b0 <= a1,
        _ => false,
    };
    type Claim = (u32, [LineRef; 2], [u32; 2]);
    let mut claims: BTreeMap<(u32, u32), Vec<Claim>> = BTreeMap::new();
    for ((_, rank, ..), held) in &seats {
        if let [(ua, a, la), (ub, b, lb), ..] = held.as_slice()
            && a.source != b.source
            && ua != ub
            && together(a, b)
        {
            claims.entry((a.source.0, b.source.0)).or_default().push((
                *rank,
                [la.clone(), lb.clone()],
                [*ua, *ub],
            ));
        }
    }
    for claims in claims.into_values() {
        // The same lines at the same places of two files are one log given twice.
        let same = |(_, [a, b], _): &Claim| a.text == b.text && a.number == b.number;
        if claims.iter().all(same) {
            continue;
        }
        let lines = claims.iter().flat_map(|(_, l, _)| l.clone()).collect();
        let Some((_, _, [a, b])) = claims.first() else {
            continue;
        };
        let (a, b) = (view.place(*a), view.place(*b));
        let Some(mut f) = by_lines(
            "vllm.rank-config",
            &a,
            Severity::Error,
            Class::Configuration,
            lines,
        ) else {
            continue;
        };
        let who = view.who(&claims.iter().flat_map(|(.., u)| *u).collect());
        (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
        let word = if f.ranks.len() == 1 { "rank" } else { "ranks" };
        f.title = format!(
            "{a} and {b} both say that they are {word} {}",
            ranges(&f.ranks)
        );
        f.cause = "Each pod must be told another place in the job. Two that come to the rendezvous as the same rank wait there for those that are missing.".into();
        f.fix = vec![
            "give each pod its own --node-rank (the index that its controller gives it: apps.kubernetes.io/pod-index, LWS_WORKER_INDEX, JOB_COMPLETION_INDEX); --nnodes and --master-addr stay equal".into(),
            view.target.pods(),
        ];
        out.push(f);
    }
}

/// Tensor parallelism over TCP between hosts.
pub(super) fn tp_over_network(view: &View<'_>, out: &mut Vec<Finding>) {
    for g in view.scene.groups.iter().filter(|g| g.kind == "tp") {
        let Some(c) = view
            .scene
            .communicators
            .iter()
            .find(|c| Some(&c.key) == g.communicator.as_ref())
        else {
            continue;
        };
        let slow: Vec<_> = c
            .edges
            .iter()
            .filter(|e| is_socket(e) && e.same_host == Some(false))
            .collect();
        let lines = first_lines(slow.iter().map(|e| e.line.clone()).collect());
        let Some(mut f) = by_lines(
            "vllm.tp-over-network",
            &c.key,
            Severity::Warning,
            Class::Configuration,
            lines,
        ) else {
            continue;
        };
        let units: BTreeSet<u32> = c.ranks.iter().map(|m| m.process).collect();
        let who = view.who(&units);
        f.hosts = who.hosts;
        f.pods = who.pods;
        f.communicator = Some(c.key.clone());
        f.ranks = c.ranks.iter().map(|m| m.rank).collect();
        f.title = format!(
            "tensor parallel group {} spans {} hosts over TCP",
            g.name,
            f.hosts.len()
        );
        f.cause = format!(
            "{} of its connections leave the host over sockets. Tensor parallelism exchanges activations in every layer of every token; it needs NVLink or RDMA.",
            slow.len()
        );
        let per_host = c.ranks.len() / f.hosts.len().max(1);
        let target = &view.target;
        if per_host > 1 {
            f.fix.push(target.arg(&format!(
                "--tensor-parallel-size={per_host} --pipeline-parallel-size={}",
                f.hosts.len()
            )));
        }
        f.fix
            .push(target.yaml("resources: {limits: {rdma/hca: 1}}"));
        out.push(f);
    }
}
