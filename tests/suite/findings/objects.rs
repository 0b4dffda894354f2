//! Findings that objects, events and probes prove, each in three shapes.

use ncclscope::model::event::{Condition, ContainerState, Event, KubeEvent, PodView, WorkloadView};

use super::cluster::{terminated, waiting};
use crate::probed::{ARGS, Cluster, SMI, pod, policy, text};

/// An id, a cluster that raises it, and what its evidence says.
pub type Shape = (&'static str, Cluster, &'static str);

fn three() -> [PodView; 3] {
    [0, 1, 2].map(|i| pod(i, &[], "/models/q --tensor-parallel-size=4"))
}

/// Three pods, the second of them changed.
fn changed(change: impl FnOnce(&mut PodView)) -> Cluster {
    let mut pods = three();
    change(&mut pods[1]);
    Cluster::new(&pods)
}

fn told(mut c: Cluster, object: &str, reason: &str, message: &str) -> Cluster {
    c.send(Event::KubeEvent(KubeEvent {
        uid: format!("{reason}-{object}"),
        namespace: "prod".into(),
        kind: if object == "llm" {
            "LeaderWorkerSet"
        } else {
            "Pod"
        }
        .into(),
        object: object.into(),
        reason: reason.into(),
        message: message.into(),
        count: 2,
        ..KubeEvent::default()
    }));
    c
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
    Condition {
        kind: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        since: None,
    }
}

fn unscheduled(message: &str, gates: &[&str]) -> Cluster {
    changed(|p| {
        p.phase = "Pending".into();
        p.node = None;
        p.containers[0].state = ContainerState::None;
        p.scheduling_gates = gates.iter().map(|g| (*g).to_owned()).collect();
        let reason = if gates.is_empty() {
            "Unschedulable"
        } else {
            "SchedulingGated"
        };
        p.conditions = vec![condition("PodScheduled", "False", reason, message)];
    })
}

fn image(reason: &str, message: &str) -> Cluster {
    changed(|p| {
        p.phase = "Pending".into();
        p.containers[0].state = waiting(reason, message);
    })
}

fn second(env: &[(&str, &str)]) -> Cluster {
    Cluster::new(&[pod(0, &[], ARGS), pod(1, env, ARGS)])
}

fn closed(spec: &str) -> Cluster {
    let mut c = second(&[]);
    c.answer("network-policies", None, &policy(spec));
    c
}

fn visible(out: &str) -> Cluster {
    let mut c = second(&[]);
    c.answer("gpus", Some("llm-1"), out);
    c
}

fn images(of: [(&str, Option<&str>); 3]) -> Cluster {
    let mut pods = three();
    for (p, (name, digest)) in pods.iter_mut().zip(of) {
        p.containers[0].image = name.into();
        p.containers[0].image_id = digest.map(|d| format!("vllm@sha256:{}", d.repeat(64)));
    }
    Cluster::new(&pods)
}

fn on_nodes(nodes: [&str; 3]) -> Cluster {
    let mut pods = three();
    for (p, n) in pods.iter_mut().zip(nodes) {
        p.node = Some(n.into());
    }
    Cluster::new(&pods)
}

/// One pod of two could be created.
fn refused() -> Cluster {
    let mut c = Cluster::new(&three()[..1]);
    c.send(Event::Workloads(vec![WorkloadView {
        namespace: "prod".into(),
        kind: "lws".into(),
        name: "llm".into(),
        expected: Some(2),
        ..WorkloadView::default()
    }]));
    c
}

fn killed(message: &str) -> Cluster {
    told(changed(|_| ()), "llm-1", "Killing", message)
}

/// Every shape.
pub fn shapes() -> Vec<Shape> {
    let init = |p: &mut PodView, state, last, restarts| {
        let mut c = p.containers[0].clone();
        (c.name, c.state, c.last_state, c.restarts, c.gpus) =
            ("fetch".into(), state, last, restarts, 0);
        p.init_containers = vec![c];
        p.phase = "Pending".into();
    };
    vec![
        (
            "pod.pending",
            unscheduled(
                "0/9 nodes are available: 8 Insufficient nvidia.com/gpu.",
                &[],
            ),
            "Insufficient nvidia.com/gpu",
        ),
        (
            "pod.pending",
            unscheduled(
                "Scheduling is blocked due to non-empty scheduling gates",
                &["kueue.x-k8s.io/admission"],
            ),
            "scheduling gates",
        ),
        (
            "pod.pending",
            told(
                changed(|p| {
                    p.phase = "Pending".into();
                    p.containers[0].state = waiting("ContainerCreating", "");
                }),
                "llm-1",
                "FailedMount",
                "MountVolume.SetUp failed for volume \"models\": rpc error: code = Internal",
            ),
            "MountVolume.SetUp failed",
        ),
        (
            "pod.pending",
            told(
                refused(),
                "llm",
                "FailedCreate",
                "pods \"llm-1\" is forbidden: exceeded quota: gpus",
            ),
            "exceeded quota",
        ),
        (
            "pod.image",
            image(
                "ImagePullBackOff",
                "Back-off pulling image \"x\": unauthorized: access denied",
            ),
            "unauthorized",
        ),
        (
            "pod.image",
            image(
                "ErrImagePull",
                "failed to resolve reference \"x\": manifest unknown",
            ),
            "manifest unknown",
        ),
        (
            "pod.image",
            image("InvalidImageName", "couldn't parse image name \"x:\""),
            "parse image name",
        ),
        (
            "pod.crashloop",
            changed(|p| {
                p.containers[0].state = waiting("CrashLoopBackOff", "back-off 40s");
                p.containers[0].last_state = terminated(1, "Error");
                p.containers[0].restarts = 3;
            }),
            "3 restarts",
        ),
        (
            "pod.crashloop",
            changed(|p| {
                p.containers[0].state = terminated(134, "Error");
                p.containers[0].restarts = 2;
            }),
            "exit code 134",
        ),
        (
            "pod.crashloop",
            changed(|p| {
                init(
                    p,
                    waiting("CrashLoopBackOff", "back-off 10s"),
                    terminated(2, "Error"),
                    1,
                )
            }),
            "fetch: 1 restarts",
        ),
        (
            "pod.oom-killed",
            changed(|p| {
                p.containers[0].last_state = terminated(137, "OOMKilled");
                p.containers[0].restarts = 1;
            }),
            "OOMKilled",
        ),
        (
            "pod.oom-killed",
            changed(|p| p.containers[0].state = terminated(137, "OOMKilled")),
            "vllm: terminated: OOMKilled",
        ),
        (
            "pod.oom-killed",
            changed(|p| init(p, terminated(137, "OOMKilled"), ContainerState::None, 0)),
            "fetch: terminated: OOMKilled",
        ),
        (
            "pod.evicted",
            changed(|p| {
                p.phase = "Failed".into();
                (p.reason, p.message) = (
                    Some("Evicted".into()),
                    Some("The node was low on resource: memory.".into()),
                );
            }),
            "low on resource",
        ),
        (
            "pod.evicted",
            changed(|p| {
                p.conditions = vec![condition(
                    "DisruptionTarget",
                    "True",
                    "PreemptionByScheduler",
                    "preempting to accommodate a higher priority pod",
                )]
            }),
            "PreemptionByScheduler",
        ),
        (
            "pod.evicted",
            changed(|p| {
                p.phase = "Failed".into();
                (p.reason, p.message) = (
                    Some("OutOfnvidia.com/gpu".into()),
                    Some("Pod was rejected: Node didn't have enough resource".into()),
                );
            }),
            "Pod was rejected",
        ),
        (
            "pod.image-skew",
            images([("v:1", Some("a")), ("v:1", Some("b")), ("v:1", Some("a"))]),
            "sha256:b",
        ),
        (
            "pod.image-skew",
            images([("v:1", None), ("v:2", None), ("v:1", None)]),
            "image v:2",
        ),
        (
            "pod.image-skew",
            images([("v:1", Some("a")), ("v:2", None), ("v:1", Some("a"))]),
            "image v:2",
        ),
        (
            "pod.probe-kill",
            killed("Container vllm failed liveness probe, will be restarted"),
            "liveness probe",
        ),
        (
            "pod.probe-kill",
            killed("Container vllm failed startup probe, will be restarted"),
            "startup probe",
        ),
        (
            "pod.probe-kill",
            told(
                killed("Container vllm failed startup probe, will be restarted"),
                "llm-1",
                "Unhealthy",
                "Startup probe failed: HTTP probe failed with statuscode: 503",
            ),
            "statuscode: 503",
        ),
        (
            "pod.env-skew",
            second(&[("NCCL_IB_DISABLE", "1")]),
            "NCCL_IB_DISABLE=1",
        ),
        (
            "pod.env-skew",
            second(&[("GLOO_SOCKET_IFNAME", "eth1")]),
            "GLOO_SOCKET_IFNAME=eth1",
        ),
        (
            "pod.env-skew",
            {
                let mut c = second(&[]);
                c.answer(
                    "env",
                    Some("llm-0"),
                    "process | 1 | vllm\nvar | NCCL_NET | IB\n",
                );
                c.answer(
                    "env",
                    Some("llm-1"),
                    "process | 1 | vllm\nvar | NCCL_NET | Socket\n",
                );
                c
            },
            "NCCL_NET=Socket",
        ),
        (
            "pod.network-policy",
            closed(r#"{"podSelector":{}}"#),
            "networkpolicy/p",
        ),
        (
            "pod.network-policy",
            closed(
                r#"{"podSelector":{"matchLabels":{"app":"llm"}},"ingress":[{"ports":[{"port":29501}]}]}"#,
            ),
            "not all ports",
        ),
        (
            "pod.network-policy",
            closed(
                r#"{"podSelector":{},"policyTypes":["Egress"],"egress":[{"ports":[{"protocol":"UDP","port":53}]}]}"#,
            ),
            "networkpolicy/p",
        ),
        ("gpu.count-mismatch", visible(SMI), "3 GPUs"),
        (
            "gpu.count-mismatch",
            visible(
                "failed | smi | 9 | Failed to initialize NVML\ndevice | /dev/nvidia0\ndevice | /dev/nvidia1\n",
            ),
            "check.gpus",
        ),
        (
            "gpu.count-mismatch",
            visible(&format!(
                "{SMI}smi | GPU 3: H100 (UUID: GPU-d)\nsmi | GPU 4: H100 (UUID: GPU-e)\n"
            )),
            "5 GPUs",
        ),
        (
            "nccl.same-node-pods",
            on_nodes(["n1", "n1", "n2"]),
            "spec.nodeName=n1",
        ),
        (
            "nccl.same-node-pods",
            on_nodes(["n1", "n1", "n1"]),
            "spec.nodeName=n1",
        ),
        (
            "nccl.same-node-pods",
            on_nodes(["n1", "n2", "n2"]),
            "spec.nodeName=n2",
        ),
    ]
}

#[test]
fn every_shape_raises_its_finding_with_its_proof() {
    let mut wrong = Vec::new();
    for (id, c, proof) in shapes() {
        let s = c.scene();
        match s.findings.iter().find(|f| f.id == id) {
            Some(f) if text(f).contains(proof) && !f.fix.is_empty() => {}
            Some(f) => wrong.push(format!("{id}: {proof} is not in {}", text(f))),
            None => {
                let ids: Vec<_> = s.findings.iter().map(|f| f.id).collect();
                wrong.push(format!("{id} ({proof}) is not raised, but {ids:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// No finding rests on one wording alone.
#[test]
fn every_finding_is_raised_in_three_ways() {
    use super::{versions, wordings};
    use ncclscope::rules::KNOWN;
    let shapes = shapes();
    let lines = wordings::cases();
    for id in KNOWN {
        let told = lines.iter().filter(|(x, ..)| x == id).count();
        let shown = shapes.iter().filter(|(x, ..)| x == id).count();
        let played = versions::BY_SCENARIO
            .iter()
            .filter(|(x, ..)| x == id)
            .count();
        let ways = told + shown + played * versions::YEARS.len();
        assert!(ways >= 3, "{id}: {ways}");
    }
}
