//! Pods as the pods pane shows them.

use crate::model::event::{ContainerState, ContainerView, PodView};
use crate::model::pods::kubectl::Columns;
use crate::model::pods::{Pods, why};
use crate::parse::Nanos;
use crate::rules::scene::PodRow;

/// Rows in rank order. `ranks` is left empty: which ranks run where is known from the logs.
#[must_use]
pub fn rows(pods: &Pods, now: Option<Nanos>) -> Vec<PodRow> {
    pods.ranked()
        .into_iter()
        .map(|(_, pod, place)| row(pods, pod, place.index, now))
        .collect()
}

fn row(pods: &Pods, pod: &PodView, index: Option<u32>, now: Option<Nanos>) -> PodRow {
    let columns = Columns::of(pod);
    let reason = why::why(pod).or_else(|| {
        pods.first_failure(pod)
            .map(|f| format!("earlier: {}", f.text()))
    });
    let (ready, total) = columns.ready;
    let settled = matches!(
        columns.status.as_str(),
        "Running" | "Completed" | "Succeeded"
    );
    PodRow {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        index,
        ready: columns.ready_text(),
        restarts: columns.restarts_text(now),
        restart_count: columns.restarts,
        bad: bad(pod, &columns.status) || columns.restarts > 0 || (settled && failing(pod)),
        status: columns.status,
        created: pod.created,
        node: pod.node.clone(),
        ip: pod.pod_ip.clone(),
        gpus: pod.containers.iter().map(|c| c.gpus).sum(),
        image: main(pod).and_then(image),
        why: reason,
        probes: probes(pod, ready, total),
        ranks: Vec::new(),
    }
}

/// The container that a person means: the one with GPUs, else the first.
fn main(pod: &PodView) -> Option<&ContainerView> {
    pod.containers
        .iter()
        .find(|c| c.gpus > 0)
        .or_else(|| pod.containers.first())
}

/// Short digest where the kubelet reported one, else the tag.
fn image(c: &ContainerView) -> Option<String> {
    let digest = c
        .image_id
        .as_deref()
        .and_then(|id| id.rsplit_once("sha256:"))
        .map(|(_, d)| d);
    if let Some(short) = digest.and_then(|d| d.get(..12)) {
        return Some(short.into());
    }
    let name = c.image.rsplit('/').next().unwrap_or_default();
    let tag = name.split_once(':').map_or(name, |(_, t)| t);
    (!tag.is_empty()).then(|| tag.into())
}

/// A status that needs someone.
fn bad(pod: &PodView, status: &str) -> bool {
    let word = status.strip_prefix("Init:").unwrap_or(status);
    let waiting = matches!(
        word,
        "Pending" | "ContainerCreating" | "PodInitializing" | "Running"
    ) || word
        .split_once('/')
        .is_some_and(|(a, _)| a.bytes().all(|b| b.is_ascii_digit()));
    let over = matches!(
        word,
        "Completed" | "Succeeded" | "Terminating" | "SchedulingGated"
    );
    !(waiting || over) || unschedulable(pod)
}

fn unschedulable(pod: &PodView) -> bool {
    pod.conditions.iter().any(|c| {
        c.kind == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    })
}

/// A container ended badly although the pod as a whole reads as running.
fn failing(pod: &PodView) -> bool {
    let ended = |c: &ContainerView| matches!(c.state, ContainerState::Terminated { exit_code, .. } if exit_code != 0);
    pod.containers.iter().any(ended)
}

/// What the probes say: `startup waits`, `not ready`, `ready`; nothing where there are none.
fn probes(pod: &PodView, ready: u32, total: u32) -> String {
    let has = |kind: &str| {
        pod.containers
            .iter()
            .any(|c| c.probes.iter().any(|(k, _)| k == kind))
    };
    let running = |c: &&ContainerView| matches!(c.state, ContainerState::Running { .. });
    let unstarted = pod
        .containers
        .iter()
        .filter(running)
        .any(|c| c.started == Some(false));
    if has("startup") && unstarted {
        return "startup waits".into();
    }
    if !has("readiness") {
        return String::new();
    }
    if ready == total {
        "ready".into()
    } else {
        "not ready".into()
    }
}
