//! What pods and events prove.

use ncclscope::model::Model;
use ncclscope::model::event::{
    Condition, ContainerState, ContainerView, Event, Feed, KubeEvent, PodEvent, PodView, Session,
};
use ncclscope::rules::scene::{Scene, Severity};

use super::{find, ids, send};

fn pod(name: &str) -> PodView {
    PodView {
        namespace: "prod".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        phase: "Running".into(),
        node: Some(format!("node-{name}")),
        containers: vec![ContainerView {
            name: "vllm".into(),
            image: "vllm/vllm-openai:v0.11.2".into(),
            image_id: Some(format!("vllm/vllm-openai@sha256:{}", "a".repeat(64))),
            gpus: 8,
            ready: true,
            state: ContainerState::Running { since: Some(1) },
            ..ContainerView::default()
        }],
        ..PodView::default()
    }
}

fn cluster(pods: Vec<PodView>, events: Vec<KubeEvent>) -> Scene {
    let (mut model, mut seq) = (Model::default(), 0);
    let session = Session {
        feed: Feed::Cluster,
        ..Session::default()
    };
    send(&mut model, &mut seq, Event::Session(session));
    for p in pods {
        send(
            &mut model,
            &mut seq,
            Event::Pod(PodEvent::Upsert(Box::new(p))),
        );
    }
    for e in events {
        send(&mut model, &mut seq, Event::KubeEvent(e));
    }
    Scene::of(&model)
}

pub fn terminated(code: i32, reason: &str) -> ContainerState {
    ContainerState::Terminated {
        exit_code: code,
        signal: None,
        reason: Some(reason.into()),
        message: None,
        started: Some(1),
        finished: Some(2),
    }
}

pub fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.into(),
        message: Some(message.into()),
    }
}

#[test]
fn pods_tell_why_they_do_not_run() {
    let mut pending = pod("llm-0");
    pending.phase = "Pending".into();
    pending.node = None;
    pending.conditions = vec![Condition {
        kind: "PodScheduled".into(),
        status: "False".into(),
        reason: Some("Unschedulable".into()),
        message: Some("0/9 nodes are available: 1 node(s) had untolerated taint(s), 8 Insufficient nvidia.com/gpu. preemption: 0/9 nodes are available: 9 No preemption victims found for incoming pod.".into()),
        since: None,
    }];
    let mut image = pod("llm-1");
    image.phase = "Pending".into();
    image.containers[0].state = waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"x\": unauthorized: access denied",
    );
    let mut loops = pod("llm-2");
    loops.containers[0].state = waiting("CrashLoopBackOff", "back-off 40s");
    loops.containers[0].last_state = terminated(1, "Error");
    loops.containers[0].restarts = 3;
    let mut oom = pod("llm-3");
    oom.containers[0].last_state = terminated(137, "OOMKilled");
    oom.containers[0].restarts = 1;
    oom.containers[0]
        .resources
        .insert("limits.memory".into(), "64Gi".into());
    let mut evicted = pod("llm-4");
    evicted.phase = "Failed".into();
    evicted.reason = Some("Evicted".into());
    evicted.message = Some("The node was low on resource: ephemeral-storage.".into());
    let mut skewed = pod("llm-5");
    skewed.containers[0].image_id = Some(format!("vllm/vllm-openai@sha256:{}", "b".repeat(64)));
    let probed = pod("llm-6");
    let killing = KubeEvent {
        uid: "e1".into(),
        namespace: "prod".into(),
        kind: "Pod".into(),
        object: "llm-6".into(),
        reason: "Killing".into(),
        message: "Container vllm failed liveness probe, will be restarted".into(),
        count: 1,
        ..KubeEvent::default()
    };
    for (id, p, events, words) in [
        (
            "pod.pending",
            pending,
            vec![],
            "8 Insufficient nvidia.com/gpu",
        ),
        ("pod.image", image, vec![], "pull secret"),
        (
            "pod.crashloop",
            loops,
            vec![],
            "3 restarts with exit code 1",
        ),
        ("pod.oom-killed", oom, vec![], "64Gi"),
        ("pod.evicted", evicted, vec![], "Evicted"),
        ("pod.image-skew", skewed, vec![], "another image"),
        ("pod.probe-kill", probed, vec![killing], "liveness probe"),
    ] {
        let name = p.name.clone();
        let s = cluster(vec![p, pod("llm-8"), pod("llm-9")], events);
        let loud: Vec<_> = s
            .findings
            .iter()
            .filter(|f| f.severity > Severity::Info)
            .map(|f| f.id)
            .collect();
        assert_eq!(loud, [id]);
        let f = find(&s, id);
        assert!(f.title.contains(words), "{id}: {}", f.title);
        assert_eq!(f.pods, [name]);
        assert!(
            f.fix
                .iter()
                .any(|x| x.contains("prod") || x.contains("spec")),
            "{:?}",
            f.fix
        );
    }
}

#[test]
fn pods_of_one_node_are_told_not_blamed() {
    let (mut a, mut b) = (pod("llm-0"), pod("llm-1"));
    a.node = Some("n1".into());
    b.node = Some("n1".into());
    let s = cluster(vec![a, b], vec![]);
    assert_eq!(ids(&s), [("nccl.same-node-pods", Severity::Info)]);
}
