//! What Kubernetes itself says: pods, their containers, and the events about them.

use std::collections::BTreeMap;

use super::View;
use super::fix::{Target, sh};
use super::trouble::Notice;
use super::vllm::short;
use crate::model::event::{ContainerState, ContainerView, KubeEvent, PodKey, PodView};
use crate::model::pods::{Place, kubectl, why};
use crate::parse::{At, Nanos};
use crate::rules::scene::{Class, Confidence, Evidence, Finding, Severity, Stage};

/// A pod may wait this long for a node before that is an error, nanoseconds.
const PATIENCE: Nanos = 15_000_000_000;

/// Every rule of this room.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    for (key, pod) in view.model.pods.iter() {
        pending(view, key, pod, out);
        image(view, key, pod, out);
        ended(view, key, pod, notices, out);
    }
    refused(view, out);
    skew(view, out);
    same_node(view, out);
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
    let target = Target::of(view.model);
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
    let target = Target::of(view.model);
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

/// Containers that ended: by the memory limit, a probe, from outside, or again and again.
fn ended(
    view: &View<'_>,
    key: &PodKey,
    pod: &PodView,
    notices: &[Notice<'_>],
    out: &mut Vec<Finding>,
) {
    let target = Target::of(view.model);
    let object = |text: String| Evidence::Object(format!("pod/{}: {text}", key.name));
    // -- from outside
    let disrupted = pod
        .conditions
        .iter()
        .find(|c| c.kind == "DisruptionTarget" && c.status == "True");
    let outside = [
        "Evicted",
        "NodeLost",
        "NodeShutdown",
        "Terminated",
        "Preempting",
        "UnexpectedAdmissionError",
        "TopologyAffinityError",
    ];
    let reason = pod
        .reason
        .as_deref()
        .filter(|r| outside.contains(r) || r.starts_with("OutOf"));
    let evicted = disrupted.is_some() || reason.is_some();
    if evicted {
        let why = disrupted
            .and_then(|c| c.reason.clone())
            .or_else(|| reason.map(str::to_owned))
            .unwrap_or_default();
        let said = pod
            .message
            .clone()
            .or_else(|| disrupted.and_then(|c| c.message.clone()))
            .unwrap_or_default();
        let mut f = about(
            view,
            "pod.evicted",
            key,
            Severity::Error,
            Class::Resources,
            object(format!("{why}: {}", short(&said))),
        );
        f.since = at(disrupted
            .and_then(|c| c.since)
            .or_else(|| why::failures(pod).first().and_then(|x| x.at)));
        f.title = format!("{} was ended from outside: {why}", key.name);
        f.cause = format!("Not the workload's own doing. {}", short(&said));
        f.fix = vec![
            if said.contains("ephemeral") {
                target.yaml("resources: {requests: {ephemeral-storage: 50Gi}, limits: {ephemeral-storage: 100Gi}}")
            } else if why.contains("Preempt") {
                target.yaml("priorityClassName: <a class that is not preempted>")
            } else {
                target.kubectl(&format!(
                    "describe node {}",
                    sh(pod.node.as_deref().unwrap_or("<node>"))
                ))
            },
            target.describe(&key.name),
        ];
        out.push(f);
    }
    // -- a probe
    let killing = view.model.pods.events_of(key).rfind(|e| {
        e.reason == "Killing"
            && (e.message.contains("failed liveness probe")
                || e.message.contains("failed startup probe"))
    });
    if let Some(e) = killing {
        let kind = if e.message.contains("startup") {
            "startup"
        } else {
            "liveness"
        };
        let stage = view
            .scene
            .processes
            .iter()
            .filter(|p| p.pod.as_ref() == Some(&key.name))
            .filter_map(|p| p.stage)
            .max();
        let loading = stage.is_none_or(|s| s < Stage::Serving);
        let mut f = about(
            view,
            "pod.probe-kill",
            key,
            Severity::Error,
            Class::Configuration,
            event_proof(e),
        );
        f.since = at(e.first);
        if let Some(u) = view
            .model
            .pods
            .events_of(key)
            .rfind(|e| e.reason == "Unhealthy")
        {
            f.prove(event_proof(u));
        }
        if !loading {
            f.confidence = Confidence::Likely;
        }
        f.title = format!(
            "a {kind} probe killed {}{}",
            key.name,
            if loading { " while it was loading" } else { "" }
        );
        f.cause = format!(
            "The kubelet ends a container whose {kind} probe fails too often; loading a large model takes longer than the probe allows."
        );
        f.fix = vec![
            target.yaml("startupProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10, failureThreshold: 360}"),
            target.describe(&key.name),
        ];
        out.push(f);
    }
    // -- the memory limit; of a life that is over, the first failure is what is kept
    let earlier = view
        .model
        .pods
        .first_failure(pod)
        .filter(|x| x.uid == pod.uid && x.what.starts_with("OOMKilled"));
    let oom = pod.init_containers.iter().chain(&pod.containers).find(|c| {
        oom_killed(&c.state).or(oom_killed(&c.last_state)).is_some()
            || earlier.is_some_and(|x| x.container == c.name)
    });
    if let Some(c) = oom {
        let limit = c
            .resources
            .get("limits.memory")
            .cloned()
            .unwrap_or_else(|| "its limit".into());
        let mut f = about(
            view,
            "pod.oom-killed",
            key,
            Severity::Error,
            Class::Resources,
            object(format!("{}: terminated: OOMKilled, limit {limit}", c.name)),
        );
        f.since = at([oom_killed(&c.last_state), oom_killed(&c.state)]
            .into_iter()
            .flatten()
            .flatten()
            .chain(earlier.and_then(|x| x.at))
            .min());
        f.title = format!("{} was killed by its memory limit ({limit})", key.name);
        f.cause = "The container used more host memory than its limit: checkpoint pages, pinned buffers, /dev/shm (it counts) and CPU offload together.".into();
        f.fix = vec![
            target.yaml("resources: {requests: {memory: 256Gi}, limits: {memory: 256Gi}}"),
            target.kubectl(&format!("top pod {} --containers", sh(&key.name))),
        ];
        out.push(f);
    }
    crashloop(
        view,
        key,
        pod,
        notices,
        evicted || killing.is_some() || oom.is_some(),
        out,
    );
}

/// Exit code, time, reason of a container that ended badly.
fn terminated(s: &ContainerState) -> Option<(i32, Option<Nanos>, Option<&str>)> {
    match s {
        ContainerState::Terminated {
            exit_code,
            finished,
            reason,
            ..
        } if *exit_code != 0 => Some((*exit_code, *finished, reason.as_deref())),
        _ => None,
    }
}

/// When the memory limit ended a container; `Some(None)` where the time is not told.
fn oom_killed(s: &ContainerState) -> Option<Option<Nanos>> {
    let (_, when, reason) = terminated(s)?;
    (reason == Some("OOMKilled")).then_some(when)
}

fn crashloop(
    view: &View<'_>,
    key: &PodKey,
    pod: &PodView,
    notices: &[Notice<'_>],
    explained: bool,
    out: &mut Vec<Finding>,
) {
    if explained {
        return;
    }
    let loops = |c: &&ContainerView| {
        let backing = matches!(&c.state, ContainerState::Waiting { reason, .. } if reason == "CrashLoopBackOff");
        backing
            || (c.restarts >= 2
                && (terminated(&c.last_state).is_some() || terminated(&c.state).is_some()))
    };
    let Some(c) = pod
        .init_containers
        .iter()
        .chain(&pod.containers)
        .find(loops)
    else {
        return;
    };
    let end = terminated(&c.last_state).or_else(|| terminated(&c.state));
    let code = end.map_or_else(String::new, |(n, ..)| format!(" with exit code {n}"));
    let proof = Evidence::Object(format!(
        "pod/{}: {}: {} restarts, last ended{code}",
        key.name, c.name, c.restarts
    ));
    let mut f = about(
        view,
        "pod.crashloop",
        key,
        Severity::Error,
        Class::Application,
        proof,
    );
    let failure = view.model.pods.first_failure(pod);
    f.since = at(failure.and_then(|x| x.at).or_else(|| end.and_then(|e| e.1)));
    // The first thing that went wrong in this pod, of whichever of its containers' lives is at hand.
    let first = notices.iter().filter(|n| n.is_root()).find(|n| {
        view.process(n.unit)
            .is_some_and(|p| p.pod.as_ref() == Some(&key.name))
    });
    let said = first
        .map(|n| n.line.text.to_string())
        .or_else(|| failure.and_then(|x| x.message.clone()));
    if let Some(n) = first {
        f.prove(Evidence::Line(n.line.clone()));
    }
    if let Some(e) = view
        .model
        .pods
        .events_of(key)
        .rfind(|e| e.reason == "BackOff")
    {
        f.prove(event_proof(e));
    }
    f.title = format!(
        "{} ends again and again: {} restarts{code}",
        key.name, c.restarts
    );
    f.cause = match said {
        Some(s) => format!("Its first error: {}", short(&s)),
        None => {
            "Its log holds no error that is known; read the previous container's last lines.".into()
        }
    };
    let target = Target::of(view.model);
    f.fix = vec![
        target.kubectl(&format!(
            "logs --previous {} -c {}",
            sh(&key.name),
            sh(&c.name)
        )),
        target.describe(&key.name),
    ];
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
    let target = Target::of(view.model);
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

/// The container that a person means: the one with GPUs, else the first.
fn main(pod: &PodView) -> Option<&ContainerView> {
    pod.containers
        .iter()
        .find(|c| c.gpus > 0)
        .or_else(|| pod.containers.first())
}

/// The revision that a pod belongs to: pods of different ones may differ on purpose.
fn revision(pod: &PodView) -> String {
    let label = |k: &str| pod.labels.get(k).cloned();
    label("leaderworkerset.sigs.k8s.io/template-revision-hash")
        .or_else(|| label("pod-template-hash"))
        .or_else(|| label("leaderworkerset.sigs.k8s.io/name"))
        .or_else(|| label("controller-revision-hash"))
        .unwrap_or_default()
}

fn skew(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut by: BTreeMap<String, BTreeMap<String, Vec<&PodKey>>> = BTreeMap::new();
    let mut all: Vec<(&PodKey, &PodView, &str, Option<String>)> = Vec::new();
    for (key, pod) in view.model.pods.iter().filter(|(_, p)| p.deletion.is_none()) {
        let Some(c) = main(pod) else { continue };
        let digest = c
            .image_id
            .as_deref()
            .and_then(|id| id.rsplit_once("sha256:"))
            .map(|(_, d)| d.to_owned());
        all.push((key, pod, c.image.as_str(), digest));
    }
    // Where a digest is not known (yet, or any more) the names as written are what can be compared.
    let known = all.iter().all(|(.., d)| d.is_some());
    for (key, pod, image, digest) in all {
        let name = match digest.filter(|_| known) {
            Some(d) => format!("sha256:{d}"),
            None => image.to_owned(),
        };
        by.entry(revision(pod))
            .or_default()
            .entry(name)
            .or_default()
            .push(key);
    }
    for images in by.into_values().filter(|m| m.len() > 1) {
        let mut sides: Vec<(&String, &Vec<&PodKey>)> = images.iter().collect();
        sides.sort_by_key(|(n, l)| (l.len(), (*n).clone()));
        let Some((odd, pods)) = sides.first() else {
            continue;
        };
        let tell = |n: &str, l: &[&PodKey]| {
            Evidence::Object(format!(
                "pod/{}: image {n}",
                l.first().map_or("?", |k| k.name.as_str())
            ))
        };
        let subject = pods
            .first()
            .map_or_else(String::new, |k| format!("{}/{}", k.namespace, k.name));
        let mut f = Finding::new(
            "pod.image-skew",
            &subject,
            Severity::Warning,
            Class::Configuration,
            tell(odd, pods),
        );
        for (n, l) in sides.iter().skip(1) {
            f.prove(tell(n, l));
        }
        f.pods = pods.iter().map(|k| k.name.clone()).collect();
        f.hosts.clone_from(&f.pods);
        f.title = format!(
            "{} runs another image than the other pods",
            f.pods.join(", ")
        );
        f.cause = "Pods of one revision run different image digests: a tag was moved between pulls, or a template differs. NCCL and vLLM of one job must be of one build.".into();
        f.fix = vec![
            Target::of(view.model).yaml(&match sides.last() {
                Some((n, _)) if n.starts_with("sha256:") => format!("image: <repository>@{n}"),
                Some((n, _)) => format!("image: {n}"),
                None => "image: <one digest for all>".into(),
            }),
            Target::of(view.model).kubectl(&format!(
                "delete pod {}",
                f.pods.iter().map(|p| sh(p)).collect::<Vec<_>>().join(" ")
            )) + "   # let it be made anew",
        ];
        out.push(f);
    }
}

fn same_node(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut by: BTreeMap<(&str, u32), Vec<&PodKey>> = BTreeMap::new();
    for (key, pod) in view.model.pods.iter().filter(|(_, p)| p.deletion.is_none()) {
        let gpus: u32 = pod.containers.iter().map(|c| c.gpus).sum();
        let over = matches!(pod.phase.as_str(), "Succeeded" | "Failed");
        if let (Some(node), true, false) = (pod.node.as_deref(), gpus > 0, over) {
            // Groups of a workload are engines of their own.
            by.entry((node, Place::of(pod).group.number))
                .or_default()
                .push(key);
        }
    }
    for ((node, _), pods) in by.into_iter().filter(|(_, l)| l.len() > 1) {
        let tell = |k: &PodKey| Evidence::Object(format!("pod/{}: spec.nodeName={node}", k.name));
        let Some(first) = pods.first() else { continue };
        let mut f = Finding::new(
            "nccl.same-node-pods",
            &format!("{node}/{}", first.name),
            Severity::Info,
            Class::Configuration,
            tell(first),
        );
        for k in pods.iter().skip(1).take(7) {
            f.prove(tell(k));
        }
        f.pods = pods.iter().map(|k| k.name.clone()).collect();
        f.hosts.clone_from(&f.pods);
        f.title = format!("{} pods of one engine share node {node}", pods.len());
        f.cause = "Two pods on one node are two hosts to NCCL: their GPUs talk over the network although NVLink or shared memory is there.".into();
        f.fix = vec![
            "make one pod per node with all its GPUs, for example nvidia.com/gpu: 8 and half as many pods".into(),
            Target::of(view.model).yaml("affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: <name>}}}]}}"),
        ];
        out.push(f);
    }
}

/// Whether a container's end is one that needs explaining.
pub fn dead(pod: &PodView) -> Option<(String, Option<Nanos>)> {
    let over = kubectl::condition(pod, "Ready");
    pod.containers.iter().find_map(|c| {
        let (code, when, _) =
            terminated(&c.state).or_else(|| terminated(&c.last_state).filter(|_| !over))?;
        Some((
            format!("pod/{}: {}: ended with exit code {code}", pod.name, c.name),
            when,
        ))
    })
}
