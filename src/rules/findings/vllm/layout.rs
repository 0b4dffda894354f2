//! Who is which rank and where: sizes, ranks, addresses, the rendezvous, groups over nodes.

use std::collections::BTreeSet;

use super::super::fix::sh;
use super::super::trouble::{Case, Words};
use super::super::{View, by_lines, earlier, first_lines};
use super::short;
use crate::model::speakers::Speaker;
use crate::parse::vllm::{FaultKind, host_of};
use crate::rules::comms::line_ref;
use crate::rules::rating::is_socket;
use crate::rules::scene::{Class, Evidence, Finding, LineRef, Severity};

pub(super) fn world_size(c: &Case<'_, '_>) -> Words {
    let told = c.of(|k| {
        Some(match k {
            FaultKind::Heads { heads, tp } => (
                format!("{heads} attention heads can't be divided by tensor parallel size {tp}"),
                (2..*tp).rev().find(|n| heads % n == 0),
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
    if let Some(tp) = tp {
        fix.push(c.target.arg(&format!("--tensor-parallel-size={tp}")));
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
    fix.push("tensor × pipeline × data parallel size must equal the GPUs of all pods together; the tensor parallel size must divide the attention heads".into());
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

pub(super) fn rendezvous(c: &Case<'_, '_>) -> Words {
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
    // A node holds at most 16 GPUs of one job.
    sources.len() > 1 || world.is_some_and(|w| w > 16) || s.leader.is_some() || s.head.is_some()
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
