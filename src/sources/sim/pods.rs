//! The pods as the API server would show them at every moment, and the events that tell about them.

use std::collections::BTreeMap;

use crate::model::event::{
    Condition, ContainerState, ContainerView, Event, KubeEvent, PodEvent, PodKey, PodView,
    WorkloadView,
};
use crate::parse::Nanos;

use super::plan::{Exit, Plan, Pod, secs};
use super::scenario::{Kind, Phase, SEC, Scenario};

/// The event stream of all pods, unsorted: the first list, changes, Kubernetes events.
#[must_use]
pub fn write(s: &Scenario, plan: &Plan) -> Vec<(Nanos, Event)> {
    let first = plan.watch;
    let mut out = vec![
        (first, Event::Workloads(vec![workload(s, plan)])),
        (first, Event::Pod(PodEvent::Resync)),
    ];
    for pod in &plan.pods {
        out.push((first, upsert(s, plan, pod, first)));
    }
    out.push((first, Event::Pod(PodEvent::Synced)));
    for pod in &plan.pods {
        let mut moments = changes(plan, pod);
        moments.retain(|t| *t > first && *t <= plan.end);
        moments.sort_unstable();
        moments.dedup();
        for at in moments {
            out.push((at, upsert(s, plan, pod, at)));
        }
        told(s, plan, pod, &mut out);
    }
    out
}

/// Kind as kubectl users say it.
#[must_use]
pub fn kind(s: &Scenario) -> &'static str {
    match s.workload.kind {
        Kind::Lws => "lws",
        Kind::Sts => "sts",
    }
}

fn workload(s: &Scenario, plan: &Plan) -> WorkloadView {
    let w = &s.workload;
    let (rule, selector) = match w.kind {
        Kind::Lws => (
            "label leaderworkerset.sigs.k8s.io/name".to_owned(),
            format!("leaderworkerset.sigs.k8s.io/name={}", w.name),
        ),
        Kind::Sts => (
            format!("owned by StatefulSet {}", w.name),
            format!("app={}", w.name),
        ),
    };
    WorkloadView {
        namespace: w.namespace.clone(),
        kind: kind(s).into(),
        name: w.name.clone(),
        rule,
        selector,
        expected: u32::try_from(w.pods).ok(),
        pods: plan
            .pods
            .iter()
            .map(|p| (u32::try_from(p.index).ok(), p.name.clone()))
            .collect(),
        gpus: u32::try_from(s.world()).unwrap_or(0),
    }
}

/// Incarnations of a pod's container: start and, unless it goes on, end.
///
/// A container that fails by itself fails again alike; one that failed together with others comes up again and
/// waits for them.
fn lives(plan: &Plan, pod: &Pod) -> Vec<(Nanos, Option<Exit>)> {
    let Some(started) = pod.started else {
        return Vec::new();
    };
    let Some(exit) = pod.exit.clone() else {
        return vec![(started, None)];
    };
    let alone = alone(plan, &exit);
    let (length, restarts) = (
        exit.at - started,
        if alone {
            exit.restarts
        } else {
            exit.restarts.min(1)
        },
    );
    let mut out = vec![(started, Some(exit.clone()))];
    let mut end = exit.at;
    for n in 0..restarts {
        let start = end + wait(n);
        end = start + length;
        if start > plan.end {
            break;
        }
        out.push((
            start,
            alone.then(|| Exit {
                at: end,
                ..exit.clone()
            }),
        ));
    }
    out
}

/// A container ended before anybody depended on it.
fn alone(plan: &Plan, exit: &Exit) -> bool {
    plan.begins(Phase::Rendezvous).is_none_or(|t| exit.at < t)
}

/// The kubelet's back-off: the first restart comes at once, then 10 s, doubled each time up to 5 min.
fn wait(n: u32) -> Nanos {
    if n == 0 {
        SEC
    } else {
        (10 * SEC) << (n - 1).min(5)
    }
    .min(300 * SEC)
}

/// Every incarnation after the first: its start, and how much of the first one's log it repeats.
#[must_use]
pub fn restarts(s: &Scenario, plan: &Plan, pod: &Pod) -> Vec<(Nanos, Nanos)> {
    let length = match &pod.exit {
        Some(exit) if !alone(plan, exit) => secs(s.phases.config) + SEC,
        _ => Nanos::MAX,
    };
    lives(plan, pod)
        .into_iter()
        .skip(1)
        .map(|(t, _)| (t, length))
        .collect()
}

fn ready_at(plan: &Plan, pod: &Pod) -> Option<Nanos> {
    if pod.index > 0 {
        // Headless pods have no server to probe.
        return pod.started;
    }
    plan.begins(Phase::Serving).map(|t| t + secs(3.5))
}

/// Moments at which the API server's answer changes.
fn changes(plan: &Plan, pod: &Pod) -> Vec<Nanos> {
    let mut out: Vec<Nanos> = [pod.scheduled, pod.pulled, ready_at(plan, pod)]
        .into_iter()
        .flatten()
        .collect();
    if pod.pending.is_some() {
        out.push(plan.start + 300_000_000);
    }
    if pod.pull_error.is_some()
        && let Some(t) = pod.scheduled
    {
        out.extend([t + 8 * SEC, t + 9 * SEC]);
    }
    for (n, (start, exit)) in lives(plan, pod).into_iter().enumerate() {
        out.push(start);
        if let Some(exit) = exit {
            out.push(exit.at);
            if n > 0 || exit.restarts > 0 {
                out.push(exit.at + SEC / 2);
            }
        }
    }
    out
}

fn upsert(s: &Scenario, plan: &Plan, pod: &Pod, now: Nanos) -> Event {
    Event::Pod(PodEvent::Upsert(Box::new(view(s, plan, pod, now))))
}

/// Key of a pod.
#[must_use]
pub fn key(s: &Scenario, pod: &Pod) -> PodKey {
    PodKey {
        namespace: s.workload.namespace.clone(),
        name: pod.name.clone(),
    }
}

fn uid(s: &Scenario, pod: &Pod) -> String {
    let n = s
        .seed
        .wrapping_mul(2_654_435_761)
        .wrapping_add(pod.index as u64)
        & 0xffff_ffff_ffff;
    format!("6f1d2c3b-4a59-4e68-8f77-{n:012x}")
}

/// The pod at one moment.
#[must_use]
pub fn view(s: &Scenario, plan: &Plan, pod: &Pod, now: Nanos) -> PodView {
    let w = &s.workload;
    let past = |t: Option<Nanos>| t.filter(|t| *t <= now);
    let mut labels = BTreeMap::from([("app".to_owned(), w.name.clone())]);
    let mut annotations = BTreeMap::new();
    let index = pod.index.to_string();
    let owner = match w.kind {
        Kind::Lws => {
            let l = |k: &str| format!("leaderworkerset.sigs.k8s.io/{k}");
            labels.insert(l("name"), w.name.clone());
            labels.insert(l("group-index"), "0".into());
            labels.insert(l("worker-index"), index);
            annotations.insert(l("size"), w.pods.to_string());
            let name = if pod.index == 0 {
                w.name.clone()
            } else {
                format!("{}-0", w.name)
            };
            ("StatefulSet".to_owned(), name)
        }
        Kind::Sts => {
            labels.insert("apps.kubernetes.io/pod-index".into(), index);
            labels.insert(
                "statefulset.kubernetes.io/pod-name".into(),
                pod.name.clone(),
            );
            ("StatefulSet".to_owned(), w.name.clone())
        }
    };
    let scheduled = past(pod.scheduled);
    let life = lives(plan, pod)
        .into_iter()
        .enumerate()
        .rfind(|(_, (t, _))| *t <= now);
    let gone = life
        .as_ref()
        .and_then(|(_, (_, e))| e.clone())
        .filter(|e| e.at <= now);
    let evicted = gone.as_ref().and_then(|e| e.evicted.clone());
    let running = life.is_some() && gone.is_none();
    let ready = running && past(ready_at(plan, pod)).is_some();
    let yes = |kind: &str, on: bool, since: Option<Nanos>| Condition {
        kind: kind.into(),
        status: if on { "True" } else { "False" }.into(),
        since,
        ..Condition::default()
    };
    let mut conditions = vec![match (&pod.pending, scheduled) {
        (Some(why), _) if now > plan.start => Condition {
            kind: "PodScheduled".into(),
            status: "False".into(),
            reason: Some("Unschedulable".into()),
            message: Some(why.clone()),
            since: Some(plan.start + 300_000_000),
        },
        (_, t) => yes("PodScheduled", t.is_some(), t.or(Some(plan.start))),
    }];
    if let Some(t) = scheduled {
        conditions.insert(0, yes("Initialized", true, Some(t)));
        let why = (!ready).then(|| "ContainersNotReady".to_owned());
        let since = if ready { ready_at(plan, pod) } else { Some(t) };
        for kind in ["Ready", "ContainersReady"] {
            conditions.push(Condition {
                reason: why.clone(),
                ..yes(kind, ready, since)
            });
        }
    }
    PodView {
        namespace: w.namespace.clone(),
        name: pod.name.clone(),
        uid: uid(s, pod),
        created: Some(plan.start),
        labels,
        annotations,
        owner: Some(owner),
        node: scheduled.map(|_| pod.node.clone()),
        phase: if evicted.is_some() {
            "Failed".into()
        } else if life.is_some() {
            "Running".into()
        } else {
            "Pending".into()
        },
        reason: evicted.as_ref().map(|_| "Evicted".into()),
        message: evicted,
        pod_ip: past(pod.started.map(|t| t - SEC)).map(|_| pod.ip.clone()),
        host_ip: scheduled.map(|_| pod.host_ip.clone()),
        subdomain: Some(w.name.clone()),
        hostname: Some(pod.name.clone()),
        service_account: Some("default".into()),
        conditions,
        containers: vec![container(s, pod, now, life, ready)],
        ..PodView::default()
    }
}

fn container(
    s: &Scenario,
    pod: &Pod,
    now: Nanos,
    life: Option<(usize, (Nanos, Option<Exit>))>,
    ready: bool,
) -> ContainerView {
    let w = &s.workload;
    let ended = |start: Nanos, exit: &Exit| ContainerState::Terminated {
        exit_code: exit.code,
        signal: None,
        reason: Some(exit.reason.clone()),
        message: None,
        started: Some(start),
        finished: Some(exit.at),
    };
    let waiting = |reason: &str, message: Option<String>| ContainerState::Waiting {
        reason: reason.into(),
        message,
    };
    // The kubelet keeps image and container ids of what has ended.
    let begun = life.is_some();
    let (mut restarts, mut last) = (0, ContainerState::None);
    let state = match life {
        None => match (&pod.pull_error, pod.scheduled) {
            _ if pod.pending.is_some() || pod.scheduled.is_none_or(|t| t > now) => {
                ContainerState::None
            }
            (Some(why), Some(t)) if now >= t + 9 * SEC => waiting(
                "ImagePullBackOff",
                Some(format!("Back-off pulling image \"{}\": {why}", pod.image)),
            ),
            (Some(why), Some(t)) if now >= t + 8 * SEC => {
                waiting("ErrImagePull", Some(why.clone()))
            }
            _ => waiting("ContainerCreating", None),
        },
        Some((n, (start, exit))) => {
            restarts = u32::try_from(n).unwrap_or(0);
            if let (1.., Some(e)) = (n, &exit) {
                // Every incarnation of a scenario ends alike.
                let length = e.at - start;
                let end = start - wait(restarts - 1);
                last = ended(
                    end - length,
                    &Exit {
                        at: end,
                        ..e.clone()
                    },
                );
            }
            match exit {
                Some(e) if e.at <= now => {
                    if restarts > 0 && now >= e.at + SEC / 2 && e.evicted.is_none() {
                        last = ended(start, &e);
                        waiting(
                            "CrashLoopBackOff",
                            Some(format!(
                                "back-off {}s restarting failed container={} pod={}_{}",
                                wait(restarts) / SEC,
                                w.container,
                                pod.name,
                                w.namespace
                            )),
                        )
                    } else {
                        ended(start, &e)
                    }
                }
                _ => ContainerState::Running { since: Some(start) },
            }
        }
    };
    let started = matches!(state, ContainerState::Running { .. });
    let mut resources = BTreeMap::from([
        ("limits.nvidia.com/gpu".to_owned(), s.nodes.gpus.to_string()),
        ("limits.memory".to_owned(), w.memory.clone()),
    ]);
    if s.nodes.nics > 0 {
        resources.insert("limits.rdma/hca".into(), s.nodes.nics.to_string());
    }
    let digest = pod.image.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    ContainerView {
        name: w.container.clone(),
        image: pod.image.clone(),
        image_id: begun.then(|| {
            let repository = pod.image.split(':').next().unwrap_or_default();
            format!("{repository}@sha256:{digest:016x}{digest:016x}{digest:016x}{digest:016x}")
        }),
        container_id: begun.then(|| {
            format!(
                "containerd://{:016x}{restarts:048x}",
                digest ^ pod.index as u64
            )
        }),
        gpus: u32::try_from(s.nodes.gpus).unwrap_or(0),
        resources,
        command: vec!["vllm".into(), "serve".into()],
        args: args(s, pod),
        env: env(s, pod),
        ready,
        started: Some(started),
        restarts,
        state,
        last_state: last,
        probes: if pod.index == 0 {
            vec![
                (
                    "startup".into(),
                    "http-get :8000/health every 10s, 360 failures".into(),
                ),
                (
                    "readiness".into(),
                    "http-get :8000/health every 10s, 3 failures".into(),
                ),
            ]
        } else {
            Vec::new()
        },
        ..ContainerView::default()
    }
}

fn args(s: &Scenario, pod: &Pod) -> Vec<String> {
    let mut out = vec![s.model.name.clone()];
    for (flag, n) in [
        ("--tensor-parallel-size", s.layout.tp),
        ("--pipeline-parallel-size", s.layout.pp),
        ("--data-parallel-size", s.layout.dp),
        ("--nnodes", s.workload.pods),
    ] {
        if n > 1 {
            out.push(format!("{flag}={n}"));
        }
    }
    if s.workload.pods > 1 {
        out.push(format!("--node-rank={}", pod.index));
        out.push(format!(
            "--master-addr={}",
            crate::sources::simlog::vllm::master(s)
        ));
    }
    if pod.index > 0 {
        out.push("--headless".into());
    }
    out
}

fn env(s: &Scenario, pod: &Pod) -> Vec<(String, Option<String>)> {
    let mut out: Vec<(String, Option<String>)> = pod
        .env
        .iter()
        .map(|(k, v)| (k.clone(), Some(v.clone())))
        .collect();
    if !pod.env.contains_key("VLLM_HOST_IP") {
        out.push(("VLLM_HOST_IP".into(), None));
    }
    if s.workload.kind == Kind::Lws {
        let leader = crate::sources::simlog::vllm::master(s);
        out.push(("LWS_LEADER_ADDRESS".into(), Some(leader)));
        out.push(("LWS_GROUP_SIZE".into(), Some(s.workload.pods.to_string())));
        out.push(("LWS_WORKER_INDEX".into(), Some(pod.index.to_string())));
    }
    out
}

/// What scheduler, kubelet and controllers write about a pod.
fn told(s: &Scenario, plan: &Plan, pod: &Pod, out: &mut Vec<(Nanos, Event)>) {
    let mut n = 0u32;
    let mut tell =
        |at: Nanos, normal: bool, reason: &str, message: String, count: u32, by: &str| {
            n += 1;
            if at > plan.end {
                return;
            }
            out.push((
                at.max(plan.watch),
                Event::KubeEvent(KubeEvent {
                    uid: format!("{}-{n}", uid(s, pod)),
                    namespace: s.workload.namespace.clone(),
                    kind: "Pod".into(),
                    object: pod.name.clone(),
                    normal,
                    reason: reason.into(),
                    message,
                    count,
                    first: Some(at),
                    last: Some(at),
                    reporter: by.into(),
                }),
            ));
        };
    if let Some(why) = &pod.pending {
        tell(
            plan.start + 300_000_000,
            false,
            "FailedScheduling",
            why.clone(),
            1,
            "default-scheduler",
        );
    }
    if let Some(t) = pod.scheduled {
        let message = format!(
            "Successfully assigned {}/{} to {}",
            s.workload.namespace, pod.name, pod.node
        );
        tell(t, true, "Scheduled", message, 1, "default-scheduler");
        if s.phases.pull > 0.0 || pod.pull_error.is_some() {
            tell(
                t + 900_000_000,
                true,
                "Pulling",
                format!("Pulling image \"{}\"", pod.image),
                1,
                "kubelet",
            );
        }
        if let Some(why) = &pod.pull_error {
            let text = format!("Failed to pull image \"{}\": {why}", pod.image);
            tell(t + 8 * SEC, false, "Failed", text, 1, "kubelet");
            tell(
                t + 8 * SEC,
                false,
                "Failed",
                "Error: ErrImagePull".into(),
                1,
                "kubelet",
            );
            let text = format!("Back-off pulling image \"{}\"", pod.image);
            tell(t + 9 * SEC, true, "BackOff", text, 1, "kubelet");
        }
    }
    if let (Some(t), Some(from)) = (pod.pulled, pod.scheduled) {
        let message = if s.phases.pull > 0.0 {
            format!(
                "Successfully pulled image \"{}\" in {}.{:03}s. Image size: 10467981924 bytes.",
                pod.image,
                (t - from) / SEC,
                (t - from) / 1_000_000 % 1000
            )
        } else {
            format!(
                "Container image \"{}\" already present on machine",
                pod.image
            )
        };
        tell(t, true, "Pulled", message, 1, "kubelet");
    }
    for (k, (start, exit)) in lives(plan, pod).into_iter().enumerate() {
        let name = &s.workload.container;
        tell(
            start - 300_000_000,
            true,
            "Created",
            format!("Created container: {name}"),
            1,
            "kubelet",
        );
        tell(
            start,
            true,
            "Started",
            format!("Started container {name}"),
            1,
            "kubelet",
        );
        if let Some(e) = exit
            && e.evicted.is_none()
            && (k > 0 || e.restarts > 0)
        {
            let text = format!(
                "Back-off restarting failed container {name} in pod {}_{}({})",
                pod.name,
                s.workload.namespace,
                uid(s, pod)
            );
            tell(
                e.at + SEC,
                false,
                "BackOff",
                text,
                u32::try_from(k + 1).unwrap_or(1),
                "kubelet",
            );
        }
    }
    for fault in &s.faults {
        if let super::scenario::Fault::Pod {
            pods,
            phase,
            after,
            events,
            ..
        } = fault
            && (pods.is_empty() || pods.contains(&pod.index))
            && let Some(begin) = plan.begins_in(pod, s, *phase)
        {
            for e in events {
                tell(
                    begin + secs(*after),
                    false,
                    &e.reason,
                    e.message.clone(),
                    e.count,
                    "kubelet",
                );
            }
        }
    }
}
