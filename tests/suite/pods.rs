//! Pods: the columns of `kubectl get pods` for every state, resync, order, failures, census.

#[path = "pods/columns.rs"]
mod columns;

use std::collections::BTreeMap;

use ncclscope::model::event::{
    Condition, ContainerState, ContainerView, KubeEvent, PodEvent, PodKey, PodView, WorkloadView,
};
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
