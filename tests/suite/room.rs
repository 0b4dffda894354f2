//! Why GPUs that a pod asks for are free on no node.

use ncclscope::model::Model;
use ncclscope::model::event::{
    Condition, ContainerView, Event, GpuNodes, NodeView, PodEvent, PodView, Stamped,
};
use ncclscope::model::update;
use ncclscope::rules::room::room;
use ncclscope::rules::scene::Scene;

fn gpus(amount: u32) -> ContainerView {
    ContainerView {
        name: "vllm".into(),
        resources: [("limits.nvidia.com/gpu".into(), amount.to_string())].into(),
        gpus: amount,
        ..ContainerView::default()
    }
}

/// A pod that runs on a node, or waits for one.
fn pod(name: &str, node: Option<&str>, amount: u32) -> PodView {
    let message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.";
    PodView {
        namespace: "prod".into(),
        name: name.into(),
        uid: name.into(),
        phase: if node.is_some() { "Running" } else { "Pending" }.into(),
        node: node.map(Into::into),
        conditions: vec![Condition {
            kind: "PodScheduled".into(),
            status: if node.is_some() { "True" } else { "False" }.into(),
            reason: node.is_none().then(|| "Unschedulable".into()),
            message: node.is_none().then(|| message.into()),
            since: None,
        }],
        containers: vec![gpus(amount)],
        ..PodView::default()
    }
}

/// A cluster of three nodes of eight GPUs and one of none.
fn model(pods: Vec<PodView>, counted: bool) -> Model {
    let mut events: Vec<Event> = pods
        .into_iter()
        .map(|p| Event::Pod(PodEvent::Upsert(Box::new(p))))
        .collect();
    if counted {
        let sizes = [("nvidia.com/gpu".into(), [(0, 1), (8, 3)].into())].into();
        events.push(Event::GpuNodes(GpuNodes { nodes: 4, sizes }));
        for name in ["a", "b", "c"] {
            events.push(Event::Node(Box::new(NodeView {
                name: name.into(),
                allocatable: [("nvidia.com/gpu".into(), "8".into())].into(),
                ..NodeView::default()
            })));
        }
    }
    let mut model = Model::default();
    for (seq, event) in (1..).zip(events) {
        update(&mut model, Stamped { seq, at: 1, event });
    }
    model
}

fn said(pods: Vec<PodView>) -> Option<String> {
    let last = pods.last().cloned().unwrap();
    room(&model(pods, true), &last)
}

#[test]
fn a_pod_larger_than_every_node_is_told_so() {
    assert_eq!(
        said(vec![pod("p", None, 9)]).as_deref(),
        Some("asks for 9 nvidia.com/gpu, no node can give more than 8")
    );
}

#[test]
fn nodes_that_our_own_pods_fill_are_told_from_those_of_others() {
    let large = "asks for 8 nvidia.com/gpu, which 3 of 4 nodes can give";
    assert_eq!(
        said(vec![pod("p", None, 8)]).unwrap(),
        format!(
            "{large}: none carries this workload, others hold them or the pod may not run there"
        )
    );
    // One GPU of ours is enough to close a node to a pod that asks for all.
    let mut ours = vec![pod("x", Some("a"), 1), pod("y", Some("b"), 8)];
    let waits = pod("p", None, 8);
    ours.push(waits.clone());
    assert_eq!(
        said(ours.clone()).unwrap(),
        format!(
            "{large}: this workload's own pods fill 2, others hold 1 or the pod may not run there"
        )
    );
    ours.insert(0, pod("z", Some("c"), 4));
    assert_eq!(
        said(ours.clone()).unwrap(),
        format!("{large}: this workload's own pods fill every one of them")
    );
    // What has ended holds nothing.
    ours[0].phase = "Succeeded".into();
    assert!(said(ours).unwrap().contains("fill 2,"));
}

#[test]
fn sidecars_and_init_containers_count_as_the_scheduler_counts_them() {
    let mut waits = pod("p", None, 4);
    let sidecar = ContainerView {
        sidecar: true,
        ..gpus(3)
    };
    // Beside the sidecar that began before it an init container of six makes nine.
    waits.init_containers = vec![sidecar, gpus(6)];
    assert!(
        said(vec![waits.clone()])
            .unwrap()
            .starts_with("asks for 9 ")
    );
    waits.init_containers.reverse();
    assert!(said(vec![waits]).unwrap().starts_with("asks for 7 "));
}

#[test]
fn nothing_is_said_where_nodes_can_t_be_read_or_gpus_are_not_what_lacks() {
    let waits = pod("p", None, 9);
    assert_eq!(room(&model(vec![waits.clone()], false), &waits), None);
    let mut taint = waits.clone();
    taint.conditions[0].message = Some(
        "0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint(s).".into(),
    );
    assert_eq!(said(vec![taint]), None);
    let mut other = waits.clone();
    other.conditions[0].message =
        Some("0/3 nodes are available: 3 Insufficient amd.com/gpu.".into());
    other.containers[0].resources = [("limits.amd.com/gpu".into(), "1".into())].into();
    assert_eq!(
        said(vec![other]).as_deref(),
        Some("asks for 1 amd.com/gpu, no node of 4 has any to give")
    );
    assert_eq!(said(vec![pod("runs", Some("a"), 8)]), None);
}

#[test]
fn the_row_says_it_after_the_scheduler() {
    let rows = Scene::of(&model(vec![pod("p", None, 9)], true)).pods;
    assert_eq!(
        rows[0].why.as_deref(),
        Some(
            "0/3 nodes: 3 Insufficient nvidia.com/gpu; asks for 9 nvidia.com/gpu, no node can give more than 8"
        )
    );
}
