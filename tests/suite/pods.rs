//! Pods: the columns of `kubectl get pods` for every state, resync, order, failures, census.

use std::collections::BTreeMap;

use ncclscope::model::event::{
    Condition, ContainerState, ContainerView, KubeEvent, PodEvent, PodKey, PodView, WorkloadView,
};
use ncclscope::model::pods::kubectl::{Columns, age, duration};
use ncclscope::model::pods::{Pods, why};
use ncclscope::rules::pods::rows;

const SECOND: i64 = 1_000_000_000;
/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600 * SECOND;

fn running() -> ContainerState {
    ContainerState::Running { since: Some(NOW) }
}

fn waiting(reason: &str) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.into(),
        message: None,
    }
}

fn ended(exit_code: i32, reason: &str) -> ContainerState {
    ContainerState::Terminated {
        exit_code,
        signal: None,
        reason: (!reason.is_empty()).then(|| reason.into()),
        message: None,
        started: Some(NOW - 600 * SECOND),
        finished: Some(NOW - 300 * SECOND),
    }
}

fn killed(signal: i32) -> ContainerState {
    let ContainerState::Terminated {
        started,
        finished,
        message,
        reason,
        ..
    } = ended(137, "")
    else {
        unreachable!()
    };
    ContainerState::Terminated {
        exit_code: 137,
        signal: Some(signal),
        reason,
        message,
        started,
        finished,
    }
}

/// A container in a state; ready when it runs.
fn c(name: &str, state: ContainerState) -> ContainerView {
    let ready = matches!(state, ContainerState::Running { .. });
    ContainerView {
        name: name.into(),
        ready,
        state,
        ..ContainerView::default()
    }
}

fn with(mut c: ContainerView, f: impl FnOnce(&mut ContainerView)) -> ContainerView {
    f(&mut c);
    c
}

fn sidecar(state: ContainerState, started: bool, ready: bool) -> ContainerView {
    with(c("proxy", state), |c| {
        c.sidecar = true;
        c.started = Some(started);
        c.ready = ready;
    })
}

fn condition(kind: &str, status: &str, reason: &str) -> Condition {
    Condition {
        kind: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        ..Condition::default()
    }
}

fn pod(phase: &str, containers: Vec<ContainerView>) -> PodView {
    PodView {
        namespace: "prod".into(),
        name: "llm-0".into(),
        uid: "u".into(),
        phase: phase.into(),
        node: Some("node-a".into()),
        created: Some(NOW - 3600 * SECOND),
        containers,
        ..PodView::default()
    }
}

fn init(phase: &str, init: Vec<ContainerView>, containers: Vec<ContainerView>) -> PodView {
    PodView {
        init_containers: init,
        ..pod(phase, containers)
    }
}

#[test]
fn columns_are_kubectls() {
    let none = || c("vllm", ContainerState::None);
    let idle = || c("vllm", waiting("PodInitializing"));
    let sick = |c: ContainerView, restarts, last| {
        with(c, |c| {
            c.restarts = restarts;
            c.last_state = last;
        })
    };
    let edit = |mut p: PodView, f: fn(&mut PodView)| {
        f(&mut p);
        p
    };
    let ready = |p: &mut PodView| p.conditions.push(condition("Ready", "True", ""));
    let initialized = |p: &mut PodView| p.conditions.push(condition("Initialized", "True", ""));
    // (what it is, pod, STATUS, READY, RESTARTS)
    let table: Vec<(&str, PodView, &str, &str, &str)> = vec![
        (
            "unscheduled",
            pod("Pending", vec![none()]),
            "Pending",
            "0/1",
            "0",
        ),
        (
            "creating",
            pod("Pending", vec![c("vllm", waiting("ContainerCreating"))]),
            "ContainerCreating",
            "0/1",
            "0",
        ),
        (
            "image",
            pod("Pending", vec![c("vllm", waiting("ImagePullBackOff"))]),
            "ImagePullBackOff",
            "0/1",
            "0",
        ),
        (
            "running",
            pod("Running", vec![c("vllm", running())]),
            "Running",
            "1/1",
            "0",
        ),
        (
            "running, not ready",
            pod(
                "Running",
                vec![with(c("vllm", running()), |c| c.ready = false)],
            ),
            "Running",
            "0/1",
            "0",
        ),
        (
            "two",
            pod("Running", vec![c("a", running()), c("b", running())]),
            "Running",
            "2/2",
            "0",
        ),
        (
            "crash loop",
            pod(
                "Running",
                vec![sick(
                    c("vllm", waiting("CrashLoopBackOff")),
                    4,
                    ended(1, "Error"),
                )],
            ),
            "CrashLoopBackOff",
            "0/1",
            "4 (5m ago)",
        ),
        (
            "restarted, end not known",
            pod(
                "Running",
                vec![sick(c("vllm", running()), 1, ContainerState::None)],
            ),
            "Running",
            "1/1",
            "1",
        ),
        (
            "error",
            pod("Failed", vec![c("vllm", ended(1, "Error"))]),
            "Error",
            "0/1",
            "0",
        ),
        (
            "oom",
            pod("Failed", vec![c("vllm", ended(137, "OOMKilled"))]),
            "OOMKilled",
            "0/1",
            "0",
        ),
        (
            "signal",
            pod("Failed", vec![c("vllm", killed(9))]),
            "Signal:9",
            "0/1",
            "0",
        ),
        (
            "exit code",
            pod("Failed", vec![c("vllm", ended(3, ""))]),
            "ExitCode:3",
            "0/1",
            "0",
        ),
        (
            "status unknown",
            pod(
                "Failed",
                vec![c("vllm", ended(137, "ContainerStatusUnknown"))],
            ),
            "ContainerStatusUnknown",
            "0/1",
            "0",
        ),
        (
            "completed",
            pod("Succeeded", vec![c("vllm", ended(0, "Completed"))]),
            "Completed",
            "0/1",
            "0",
        ),
        (
            "one completed, one runs and is ready",
            edit(
                pod(
                    "Running",
                    vec![c("a", ended(0, "Completed")), c("b", running())],
                ),
                ready,
            ),
            "Running",
            "1/2",
            "0",
        ),
        (
            "one completed, one runs",
            pod(
                "Running",
                vec![c("a", ended(0, "Completed")), c("b", running())],
            ),
            "NotReady",
            "1/2",
            "0",
        ),
        (
            "one completed, one failed",
            pod(
                "Failed",
                vec![c("a", ended(0, "Completed")), c("b", ended(1, "Error"))],
            ),
            "Error",
            "0/2",
            "0",
        ),
        (
            "the first container has the last word",
            pod(
                "Running",
                vec![
                    c("a", waiting("ErrImagePull")),
                    c("b", waiting("CrashLoopBackOff")),
                ],
            ),
            "ErrImagePull",
            "0/2",
            "0",
        ),
        (
            "evicted",
            edit(pod("Failed", vec![none()]), |p| {
                p.reason = Some("Evicted".into())
            }),
            "Evicted",
            "0/1",
            "0",
        ),
        (
            "admission",
            edit(pod("Failed", vec![none()]), |p| {
                p.reason = Some("OutOfnvidia.com/gpu".into())
            }),
            "OutOfnvidia.com/gpu",
            "0/1",
            "0",
        ),
        (
            "gated",
            edit(pod("Pending", vec![none()]), |p| {
                p.conditions
                    .push(condition("PodScheduled", "False", "SchedulingGated"));
            }),
            "SchedulingGated",
            "0/1",
            "0",
        ),
        (
            "terminating",
            edit(pod("Running", vec![c("vllm", running())]), |p| {
                p.deletion = Some(NOW)
            }),
            "Terminating",
            "1/1",
            "0",
        ),
        (
            "done while terminating",
            edit(
                pod("Succeeded", vec![c("vllm", ended(0, "Completed"))]),
                |p| p.deletion = Some(NOW),
            ),
            "Completed",
            "0/1",
            "0",
        ),
        (
            "node lost",
            edit(pod("Running", vec![c("vllm", running())]), |p| {
                p.deletion = Some(NOW);
                p.reason = Some("NodeLost".into());
            }),
            "Unknown",
            "1/1",
            "0",
        ),
        (
            "phase unknown",
            pod("Unknown", vec![none()]),
            "Unknown",
            "0/1",
            "0",
        ),
        (
            "init runs",
            init(
                "Pending",
                vec![c("i", running()), c("j", idle().state)],
                vec![idle()],
            ),
            "Init:0/2",
            "0/1",
            "0",
        ),
        (
            "second init runs",
            init(
                "Pending",
                vec![c("i", ended(0, "Completed")), c("j", running())],
                vec![idle()],
            ),
            "Init:1/2",
            "0/1",
            "0",
        ),
        (
            "init crash loop",
            init(
                "Pending",
                vec![sick(
                    c("i", waiting("CrashLoopBackOff")),
                    3,
                    ended(1, "Error"),
                )],
                vec![idle()],
            ),
            "Init:CrashLoopBackOff",
            "0/1",
            "3 (5m ago)",
        ),
        (
            "init error",
            init("Pending", vec![c("i", ended(1, "Error"))], vec![idle()]),
            "Init:Error",
            "0/1",
            "0",
        ),
        (
            "init signal",
            init("Pending", vec![c("i", killed(9))], vec![idle()]),
            "Init:Signal:9",
            "0/1",
            "0",
        ),
        (
            "init exit code",
            init("Pending", vec![c("i", ended(2, ""))], vec![idle()]),
            "Init:ExitCode:2",
            "0/1",
            "0",
        ),
        (
            "init image",
            init(
                "Pending",
                vec![c("i", waiting("ErrImagePull"))],
                vec![idle()],
            ),
            "Init:ErrImagePull",
            "0/1",
            "0",
        ),
        (
            "init waits",
            init(
                "Pending",
                vec![c("i", waiting("PodInitializing"))],
                vec![idle()],
            ),
            "Init:0/1",
            "0/1",
            "0",
        ),
        (
            "init without a status yet",
            init("Pending", vec![c("i", ContainerState::None)], vec![none()]),
            "Pending",
            "0/1",
            "0",
        ),
        (
            "initialised",
            init("Pending", vec![c("i", ended(0, "Completed"))], vec![idle()]),
            "PodInitializing",
            "0/1",
            "0",
        ),
        (
            "sidecar not started",
            init(
                "Pending",
                vec![sidecar(running(), false, false), c("i", idle().state)],
                vec![idle()],
            ),
            "Init:0/2",
            "0/2",
            "0",
        ),
        (
            "sidecar and main run",
            init(
                "Running",
                vec![sidecar(running(), true, true)],
                vec![c("vllm", running())],
            ),
            "Running",
            "2/2",
            "0",
        ),
        (
            "sidecar runs, init after it waits",
            init(
                "Pending",
                vec![sidecar(running(), true, true), c("i", running())],
                vec![idle()],
            ),
            "Init:1/2",
            "1/2",
            "0",
        ),
        (
            "init restarts do not count once it is over, a sidecar's do",
            init(
                "Running",
                vec![
                    sick(c("i", ended(0, "Completed")), 5, ended(1, "Error")),
                    sick(sidecar(running(), true, true), 2, ended(1, "Error")),
                ],
                vec![c("vllm", running())],
            ),
            "Running",
            "2/2",
            "2 (5m ago)",
        ),
        (
            "sidecar failed later, the condition says that the pod was initialised",
            edit(
                init(
                    "Running",
                    vec![sidecar(ended(1, "Error"), false, false)],
                    vec![c("vllm", running())],
                ),
                initialized,
            ),
            "Init:Error",
            "1/2",
            "0",
        ),
        (
            "run container",
            pod("Pending", vec![c("vllm", waiting("RunContainerError"))]),
            "RunContainerError",
            "0/1",
            "0",
        ),
        (
            "config",
            pod(
                "Pending",
                vec![c("vllm", waiting("CreateContainerConfigError"))],
            ),
            "CreateContainerConfigError",
            "0/1",
            "0",
        ),
    ];
    for (what, pod, status, ready, restarts) in &table {
        let got = Columns::of(pod);
        let got = (
            got.status.as_str(),
            got.ready_text(),
            got.restarts_text(Some(NOW)),
        );
        assert_eq!(
            got,
            (*status, ready.to_string(), restarts.to_string()),
            "{what}"
        );
    }
    assert!(table.len() >= 40, "{}", table.len());
}

#[test]
fn ages_are_kubectls() {
    let table = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ];
    for (seconds, text) in table {
        assert_eq!(duration(seconds * SECOND), text, "{seconds}");
    }
    assert_eq!(age(None, Some(NOW)), "<unknown>");
}

fn named(name: &str, labels: &[(&str, &str)]) -> PodView {
    let labels: BTreeMap<_, _> = labels
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    PodView {
        name: name.into(),
        uid: format!("uid-{name}"),
        labels,
        ..pod("Running", vec![c("vllm", running())])
    }
}

fn upsert(p: PodView) -> PodEvent {
    PodEvent::Upsert(Box::new(p))
}

fn names(pods: &Pods) -> Vec<String> {
    rows(pods, Some(NOW)).into_iter().map(|r| r.name).collect()
}

#[test]
fn what_a_new_list_does_not_name_is_gone_and_not_before() {
    let mut pods = Pods::default();
    for e in [
        PodEvent::Resync,
        upsert(named("a", &[])),
        upsert(named("b", &[])),
        PodEvent::Synced,
    ] {
        pods.apply(&e);
    }
    assert!(pods.synced());
    pods.apply(&PodEvent::Resync);
    pods.apply(&upsert(named("b", &[])));
    assert_eq!(
        names(&pods),
        ["a", "b"],
        "nothing vanishes while the list is under way"
    );
    // A list that broke off begins again.
    pods.apply(&PodEvent::Resync);
    pods.apply(&upsert(named("c", &[])));
    pods.apply(&PodEvent::Synced);
    assert_eq!(names(&pods), ["c"]);
    pods.apply(&PodEvent::Gone(PodKey {
        namespace: "prod".into(),
        name: "c".into(),
    }));
    assert!(pods.is_empty());
}

#[test]
fn pods_stand_in_rank_order_whatever_their_names() {
    let lws = |name: &str, group: &str, index: &str| {
        named(
            name,
            &[
                ("leaderworkerset.sigs.k8s.io/name", "m"),
                ("leaderworkerset.sigs.k8s.io/group-index", group),
                ("leaderworkerset.sigs.k8s.io/worker-index", index),
            ],
        )
    };
    let mut pods = Pods::default();
    for p in [
        lws("m-0-10", "0", "10"),
        lws("m-0-2", "0", "2"),
        lws("m-1", "1", "0"),
        lws("m-0", "0", "0"),
    ] {
        pods.apply(&upsert(p));
    }
    assert_eq!(names(&pods), ["m-0", "m-0-2", "m-0-10", "m-1"]);

    let ray = |name: &str, kind: &str| {
        named(name, &[("ray.io/cluster", "r"), ("ray.io/node-type", kind)])
    };
    let job = |name: &str, i: &str| named(name, &[("batch.kubernetes.io/job-completion-index", i)]);
    let torch = |name: &str, kind: &str, i: &str| {
        named(
            name,
            &[
                ("training.kubeflow.org/job-name", "t"),
                (
                    "training.kubeflow.org/operator-name",
                    "pytorchjob-controller",
                ),
                ("training.kubeflow.org/replica-type", kind),
                ("training.kubeflow.org/replica-index", i),
            ],
        )
    };
    let order = |all: Vec<PodView>| {
        let mut pods = Pods::default();
        all.into_iter().for_each(|p| _ = pods.apply(&upsert(p)));
        rows(&pods, None)
            .into_iter()
            .map(|r| (r.name, r.index))
            .collect::<Vec<_>>()
    };
    let is = |a: &str, i| (a.to_string(), i);
    assert_eq!(
        order(vec![ray("a-worker", "worker"), ray("z-head", "head")]),
        [is("z-head", Some(0)), is("a-worker", None)]
    );
    assert_eq!(
        order(vec![job("j-1-x", "1"), job("j-0-z", "0")]),
        [is("j-0-z", Some(0)), is("j-1-x", Some(1))]
    );
    assert_eq!(
        order(vec![
            torch("t-worker-0", "worker", "0"),
            torch("t-master-0", "master", "0")
        ]),
        [is("t-master-0", Some(0)), is("t-worker-0", Some(1))]
    );
    let set = |name: &str| PodView {
        owner: Some(("StatefulSet".into(), "s".into())),
        ..named(name, &[])
    };
    assert_eq!(
        order(vec![set("s-11"), set("s-9")]),
        [is("s-9", Some(9)), is("s-11", Some(11))]
    );
}

#[test]
fn the_first_failure_is_kept_over_restarts_and_successors() {
    let indexed = |name: &str, state, restarts, last| {
        let mut p = named(
            name,
            &[
                ("batch.kubernetes.io/job-name", "j"),
                ("batch.kubernetes.io/job-completion-index", "1"),
            ],
        );
        p.containers = vec![with(c("vllm", state), |c| {
            c.restarts = restarts;
            c.last_state = last;
        })];
        p
    };
    let mut pods = Pods::default();
    pods.apply(&upsert(indexed(
        "j-1-aaa",
        ended(1, "Error"),
        0,
        ContainerState::None,
    )));
    pods.apply(&PodEvent::Gone(PodKey {
        namespace: "prod".into(),
        name: "j-1-aaa".into(),
    }));
    let later = ContainerState::Terminated {
        exit_code: 137,
        signal: None,
        reason: Some("OOMKilled".into()),
        message: None,
        started: None,
        finished: Some(NOW),
    };
    let successor = indexed("j-1-bbb", running(), 1, later);
    pods.apply(&upsert(successor.clone()));
    let first = pods.first_failure(&successor).unwrap();
    assert_eq!(
        (first.text().as_str(), first.uid.as_str()),
        ("vllm: exit code 1 (Error)", "uid-j-1-aaa")
    );
    let row = &rows(&pods, Some(NOW))[0];
    assert_eq!(
        row.why.as_deref(),
        Some("vllm restarted: OOMKilled (exit code 137)")
    );
    assert!(row.bad, "a pod that restarted deserves a look");
}

#[test]
fn why_a_pod_waits_is_one_line() {
    let unschedulable = |message: &str| {
        let mut p = PodView {
            node: None,
            ..pod("Pending", vec![c("vllm", ContainerState::None)])
        };
        let c = condition("PodScheduled", "False", "Unschedulable");
        p.conditions = vec![Condition {
            message: Some(message.into()),
            ..c
        }];
        p
    };
    let table = [
        (
            unschedulable(
                "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.",
            ),
            "0/3 nodes: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu",
        ),
        (
            unschedulable(
                "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
            ),
            "0/4 nodes: 4 Insufficient nvidia.com/gpu",
        ),
        (
            unschedulable(
                "0/4 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
            ),
            "0/4 nodes: pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            PodView {
                node: None,
                scheduling_gates: vec!["kueue.x-k8s.io/admission".into()],
                ..pod("Pending", vec![])
            },
            "held by gate kueue.x-k8s.io/admission",
        ),
        (
            PodView {
                node: None,
                ..pod("Pending", vec![])
            },
            "no scheduler has looked at it",
        ),
        (
            pod(
                "Pending",
                vec![c(
                    "vllm",
                    ContainerState::Waiting {
                        reason: "ImagePullBackOff".into(),
                        message: Some("Back-off pulling image \"x\": not found".into()),
                    },
                )],
            ),
            "vllm: Back-off pulling image \"x\": not found",
        ),
        (
            pod(
                "Running",
                vec![with(c("vllm", waiting("CrashLoopBackOff")), |c| {
                    c.last_state = ended(134, "Error")
                })],
            ),
            "vllm: last run exit code 134 (Error, SIGABRT)",
        ),
        (
            PodView {
                reason: Some("Evicted".into()),
                message: Some("The node was low on resource: memory.".into()),
                ..pod("Failed", vec![])
            },
            "The node was low on resource: memory.",
        ),
    ];
    for (pod, want) in table {
        assert_eq!(why::why(&pod).as_deref(), Some(want));
    }
    assert_eq!(why::why(&pod("Running", vec![c("vllm", running())])), None);
}

#[test]
fn missing_and_doubled_places_are_counted() {
    let lws = |name: &str, uid: &str, index: &str, deletion: Option<i64>| {
        let mut p = named(
            name,
            &[
                ("leaderworkerset.sigs.k8s.io/name", "m"),
                ("leaderworkerset.sigs.k8s.io/group-index", "0"),
                ("leaderworkerset.sigs.k8s.io/worker-index", index),
            ],
        );
        p.annotations
            .insert("leaderworkerset.sigs.k8s.io/size".into(), "4".into());
        p.conditions.push(condition("Ready", "True", ""));
        PodView {
            uid: uid.into(),
            deletion,
            ..p
        }
    };
    let mut pods = Pods::default();
    pods.watch(WorkloadView {
        expected: Some(4),
        ..WorkloadView::default()
    });
    for p in [
        lws("m-0", "1", "0", None),
        lws("m-0-1", "2", "1", None),
        lws("m-0-1-old", "3", "1", Some(NOW)),
        lws("m-0-3", "4", "3", None),
    ] {
        pods.apply(&upsert(p));
    }
    let c = pods.census();
    assert_eq!(
        (c.expected, c.created, c.scheduled, c.ready),
        (Some(4), 4, 4, 4)
    );
    assert_eq!(c.missing, [(0, 2)]);
    assert!(
        c.duplicate.is_empty(),
        "a predecessor that is being deleted is no double"
    );
    pods.apply(&upsert(lws("m-0-1-twin", "5", "1", None)));
    assert_eq!(pods.census().duplicate, [(0, 1)]);
}

#[test]
fn an_event_that_repeats_is_one_event() {
    let event = |uid: &str, count| KubeEvent {
        uid: uid.into(),
        namespace: "prod".into(),
        kind: "Pod".into(),
        object: "llm-0".into(),
        reason: "BackOff".into(),
        count,
        ..KubeEvent::default()
    };
    let mut pods = Pods::default();
    pods.kube_event(&event("1", 1));
    pods.kube_event(&event("2", 1));
    pods.kube_event(&event("1", 7));
    let key = PodKey {
        namespace: "prod".into(),
        name: "llm-0".into(),
    };
    let counts: Vec<_> = pods
        .events_of(&key)
        .map(|e| (e.uid.as_str(), e.count))
        .collect();
    assert_eq!(counts, [("1", 7), ("2", 1)]);
    for i in 0..2_000 {
        pods.kube_event(&event(&format!("x{i}"), 1));
    }
    assert_eq!(
        (pods.events().count(), pods.dropped_events()),
        (1_000, 1_002)
    );
}
