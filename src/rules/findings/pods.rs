//! What Kubernetes itself says: pods, their containers, and the events about them.

mod alike;
mod ended;

pub use self::ended::dead;
use super::View;
use super::fix::sh;
use super::trouble::Notice;
use super::vllm::short;
use crate::model::event::{ContainerState, KubeEvent, PodKey, PodView};
use crate::model::pods::why;
use crate::parse::{At, Nanos};
use crate::rules::scene::{Class, Evidence, Finding, Severity};

/// A pod may wait this long for a node before that is an error, nanoseconds.
const PATIENCE: Nanos = 15_000_000_000;

/// Every rule of this room.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    for (key, pod) in view.model.pods.iter() {
        pending(view, key, pod, out);
        image(view, key, pod, out);
        ended::ended(view, key, pod, notices, out);
    }
    refused(view, out);
    alike::skew(view, out);
    alike::same_node(view, out);
}

fn at(ns: Option<Nanos>) -> Option<At> {
    ns.map(|ns| At { ns, exact: true })
}

/// A finding about one pod.
fn about(
    view: &View<'_>,
    id: &'static str,
    key: &PodKey,
    severity: Severity,
    class: Class,
    proof: Evidence,
) -> Finding {
    let mut f = Finding::new(
        id,
        &format!("{}/{}", key.namespace, key.name),
        severity,
        class,
        proof,
    );
    f.pods = vec![key.name.clone()];
    f.hosts = vec![key.name.clone()];
    f.ranks = view
        .scene
        .processes
        .iter()
        .filter(|p| p.pod.as_ref() == Some(&key.name))
        .filter_map(|p| p.global_rank)
        .collect();
    f.ranks.sort_unstable();
    f.ranks.dedup();
    f
}

fn event_proof(e: &KubeEvent) -> Evidence {
    let count = if e.count > 1 {
        format!(" (×{})", e.count)
    } else {
        String::new()
    };
    Evidence::Object(format!(
        "event {}/{}: {}{count}: {}",
        e.kind.to_lowercase(),
        e.object,
        e.reason,
        short(&e.message)
    ))
}

fn pending(view: &View<'_>, key: &PodKey, pod: &PodView, out: &mut Vec<Finding>) {
    if pod.phase != "Pending" || pod.deletion.is_some() {
        return;
    }
    let target = &view.target;
    let now = view.scene.now.map(|a| a.ns);
    let condition = pod
        .conditions
        .iter()
        .find(|c| c.kind == "PodScheduled" && c.status == "False");
    let mount = view.model.pods.events_of(key).rfind(|e| {
        matches!(
            e.reason.as_str(),
            "FailedMount"
                | "FailedAttachVolume"
                | "FailedMapVolume"
                | "FailedCreatePodSandBox"
                | "FailedPrepareDynamicResources"
        )
    });
    let (text, proof, since) = if let Some(c) = condition {
        let said = c
            .message
            .as_deref()
            .or(c.reason.as_deref())
            .unwrap_or("not scheduled");
        let gates = pod.scheduling_gates.join(", ");
        let text = if gates.is_empty() {
            why::scheduler(said)
        } else {
            format!("held by gate {gates}")
        };
        (
            text,
            Evidence::Object(format!(
                "pod/{}: PodScheduled=False: {}",
                key.name,
                short(said)
            )),
            c.since,
        )
    } else if let (Some(e), true) = (mount, pod.node.is_some()) {
        (short(&e.message), event_proof(e), e.first)
    } else {
        return;
    };
    let young = matches!((now, since.or(pod.created)), (Some(n), Some(s)) if n - s < PATIENCE);
    let severity = if young {
        Severity::Info
    } else {
        Severity::Error
    };
    let mut f = about(view, "pod.pending", key, severity, Class::Platform, proof);
    f.since = at(since);
    if let Some(e) = view
        .model
        .pods
        .events_of(key)
        .rfind(|e| e.reason == "FailedScheduling")
    {
        f.prove(event_proof(e));
    }
    f.title = format!("{} waits for a node: {text}", key.name);
    if condition.is_none() {
        f.title = format!(
            "{} can't start on {}: {text}",
            key.name,
            pod.node.as_deref().unwrap_or("its node")
        );
    }
    let gpus: u32 = pod.containers.iter().map(|c| c.gpus).sum();
    let (cause, fix) = if text.contains("Insufficient") {
        (
            match crate::rules::room::room(view.model, pod) {
                Some(room) => format!("No node has free what the pod asks for: it {room}."),
                None => format!(
                    "No node has the resources free that the pod asks for ({gpus} GPUs among them)."
                ),
            },
            target.kubectl("get pods -A -o wide --field-selector=status.phase=Running")
                + "   # who holds the GPUs",
        )
    } else if text.contains("taint") {
        (
            "The nodes carry taints that the pod does not tolerate.".into(),
            target
                .yaml("tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]"),
        )
    } else if text.contains("olume")
        || text.contains("PersistentVolume")
        || mount.is_some() && condition.is_none()
    {
        (
            "A volume or another part of the pod's environment can't be set up.".into(),
            target.kubectl("get pvc,pv"),
        )
    } else if text.contains("gate") {
        ("A scheduling gate holds the pod back until a controller (a queue, for instance) removes it.".into(), target.kubectl(&format!("get pod {} -o jsonpath='{{.spec.schedulingGates}}'", sh(&key.name))))
    } else if text.contains("affinity") || text.contains("selector") || text.contains("spread") {
        (
            "Placement rules of the pod fit no node.".into(),
            target.kubectl("get nodes --show-labels"),
        )
    } else {
        (
            "The scheduler found no node.".into(),
            target.kubectl("get nodes -o wide"),
        )
    };
    f.cause = cause;
    f.fix = vec![fix, target.describe(&key.name)];
    out.push(f);
}

/// Reasons with which the kubelet says that it has no image.
const IMAGE: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

fn image(view: &View<'_>, key: &PodKey, pod: &PodView, out: &mut Vec<Finding>) {
    let waiting = pod
        .init_containers
        .iter()
        .chain(&pod.containers)
        .find_map(|c| match &c.state {
            ContainerState::Waiting { reason, message } if IMAGE.contains(&reason.as_str()) => {
                Some((c, reason, message))
            }
            _ => None,
        });
    let Some((c, reason, message)) = waiting else {
        return;
    };
    let proof = Evidence::Object(format!(
        "pod/{}: {}: waiting: {reason}: {}",
        key.name,
        c.name,
        short(message.as_deref().unwrap_or_default())
    ));
    let mut f = about(
        view,
        "pod.image",
        key,
        Severity::Error,
        Class::Platform,
        proof,
    );
    let failed = view
        .model
        .pods
        .events_of(key)
        .rfind(|e| e.reason == "Failed" && e.message.contains("pull"));
    let text = failed.map_or_else(
        || message.clone().unwrap_or_default(),
        |e| e.message.clone(),
    );
    if let Some(e) = failed {
        f.since = at(e.first);
        f.prove(event_proof(e));
    }
    let has = |w: &str| text.contains(w);
    let (why, fix) = if has("unauthorized") || has("denied") || has("403") {
        (
            "the registry refuses: the pull secret is missing or wrong",
            "imagePullSecrets: [{name: <secret>}]",
        )
    } else if has("no such host") || has("timeout") || has("refused") {
        (
            "the registry can't be reached from the node",
            "image: <a registry that the nodes reach>",
        )
    } else if has("x509") {
        (
            "the node does not trust the registry's certificate",
            "image: <a registry with a trusted certificate>",
        )
    } else if has("toomanyrequests") {
        (
            "the registry limits the rate of pulls",
            "imagePullSecrets: [{name: <secret>}]",
        )
    } else if has("no match for platform") {
        (
            "the image is not built for this node's architecture",
            "image: <an image for this architecture>",
        )
    } else if has("no space left") {
        ("the node's disk is full", "imagePullPolicy: IfNotPresent")
    } else if has("not found") || has("manifest unknown") {
        (
            "the image or its tag does not exist",
            "image: <an existing tag or digest>",
        )
    } else {
        (
            "the image can't be pulled",
            "image: <an existing tag or digest>",
        )
    };
    let target = &view.target;
    f.title = format!("{} has no image: {why}", key.name);
    f.cause = format!(
        "{} of container {} can't be pulled: {}",
        c.image,
        c.name,
        short(&text)
    );
    f.fix = vec![target.yaml(fix), target.describe(&key.name)];
    out.push(f);
}

/// Pods that a controller may not create: quota, webhook, admission.
fn refused(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(e) = view
        .model
        .pods
        .events()
        .rfind(|e| e.reason == "FailedCreate" && !e.normal)
    else {
        return;
    };
    let census = view.model.pods.census();
    if census.expected.is_some_and(|n| census.created >= n) {
        return;
    }
    let mut f = Finding::new(
        "pod.pending",
        &format!("{}/{}", e.namespace, e.object),
        Severity::Error,
        Class::Platform,
        event_proof(e),
    );
    f.since = at(e.first);
    f.title = format!(
        "{} {} may not create its pods: {}",
        e.kind,
        e.object,
        short(&e.message)
    );
    f.cause = "A quota, an admission webhook or a security policy refuses them; the pods do not exist at all.".into();
    let target = &view.target;
    f.fix = vec![
        target.kubectl("describe resourcequota"),
        target.kubectl(&format!(
            "describe {} {}",
            sh(&e.kind.to_lowercase()),
            sh(&e.object)
        )),
    ];
    out.push(f);
}
