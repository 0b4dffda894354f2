//! Kubernetes objects as plain views. Pure; nothing is concluded here.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use std::collections::BTreeMap;

use crate::model::event::{
    Condition, ContainerState, ContainerView, KubeEvent, Mount, NodeView, PodView,
};
use crate::parse::Nanos;

/// Nanoseconds since the epoch.
#[must_use]
pub fn nanos(t: Timestamp) -> Option<Nanos> {
    Nanos::try_from(t.as_nanosecond()).ok()
}

fn time(t: &Option<Time>) -> Option<Nanos> {
    t.as_ref().and_then(|t| nanos(t.0))
}

fn micro(t: &Option<MicroTime>) -> Option<Nanos> {
    t.as_ref().and_then(|t| nanos(t.0))
}

/// The controller that owns an object: kind and name.
#[must_use]
pub fn owner(meta: &ObjectMeta) -> Option<(String, String)> {
    let refs = meta.owner_references.as_ref()?;
    refs.iter()
        .find(|o| o.controller == Some(true))
        .map(|o| (o.kind.clone(), o.name.clone()))
}

/// A pod.
#[must_use]
pub fn pod(pod: &core::Pod) -> PodView {
    let meta = &pod.metadata;
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let names = |gates: &[String]| gates.to_vec();
    let volumes = spec.volumes.clone().unwrap_or_default();
    PodView {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        created: time(&meta.creation_timestamp),
        deletion: time(&meta.deletion_timestamp),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: annotations(meta),
        owner: owner(meta),
        node: spec.node_name.clone().filter(|n| !n.is_empty()),
        phase: status.phase.clone().unwrap_or_default(),
        reason: status.reason.clone().filter(|r| !r.is_empty()),
        message: status.message.clone().filter(|m| !m.is_empty()),
        pod_ip: first_ip(&status),
        host_ip: status.host_ip.clone().filter(|i| !i.is_empty()),
        host_network: spec.host_network.unwrap_or(false),
        subdomain: spec.subdomain.clone(),
        hostname: spec.hostname.clone(),
        service_account: spec.service_account_name.clone(),
        scheduling_gates: names(
            &spec
                .scheduling_gates
                .iter()
                .flatten()
                .map(|g| g.name.clone())
                .collect::<Vec<_>>(),
        ),
        readiness_gates: spec
            .readiness_gates
            .iter()
            .flatten()
            .map(|g| g.condition_type.clone())
            .collect(),
        conditions: status.conditions.iter().flatten().map(condition).collect(),
        init_containers: containers(
            spec.init_containers.as_deref().unwrap_or_default(),
            &volumes,
            status
                .init_container_statuses
                .as_deref()
                .unwrap_or_default(),
        ),
        containers: containers(
            &spec.containers,
            &volumes,
            status.container_statuses.as_deref().unwrap_or_default(),
        ),
        yaml: yaml(pod),
    }
}

/// A node.
#[must_use]
pub fn node(node: &core::Node) -> NodeView {
    let meta = &node.metadata;
    let spec = node.spec.clone().unwrap_or_default();
    let status = node.status.clone().unwrap_or_default();
    let info = status.node_info.unwrap_or_default();
    let amounts = |q: Option<BTreeMap<String, Quantity>>| {
        let all = q.into_iter().flatten();
        all.map(|(name, q)| (name, q.0)).collect()
    };
    NodeView {
        name: meta.name.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: annotations(meta),
        unschedulable: spec.unschedulable.unwrap_or(false),
        taints: spec
            .taints
            .into_iter()
            .flatten()
            .map(|t| (t.key, t.value.unwrap_or_default(), t.effect))
            .collect(),
        conditions: status
            .conditions
            .into_iter()
            .flatten()
            .map(|c| Condition {
                since: time(&c.last_transition_time),
                kind: c.type_,
                status: c.status,
                reason: c.reason.filter(|r| !r.is_empty()),
                message: c.message.filter(|m| !m.is_empty()),
            })
            .collect(),
        allocatable: amounts(status.allocatable),
        capacity: amounts(status.capacity),
        versions: [
            info.kubelet_version,
            info.kernel_version,
            info.container_runtime_version,
        ],
        gone: false,
    }
}

fn first_ip(status: &core::PodStatus) -> Option<String> {
    let first = status.pod_ips.iter().flatten().next().map(|p| p.ip.clone());
    first
        .or_else(|| status.pod_ip.clone())
        .filter(|i| !i.is_empty())
}

/// Annotations without the copy of the whole object that `kubectl apply` leaves.
fn annotations(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let mut a = meta.annotations.clone().unwrap_or_default();
    a.remove("kubectl.kubernetes.io/last-applied-configuration");
    a
}

fn condition(c: &core::PodCondition) -> Condition {
    Condition {
        kind: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone().filter(|r| !r.is_empty()),
        message: c.message.clone().filter(|m| !m.is_empty()),
        since: time(&c.last_transition_time),
    }
}

/// Spec and status joined: in the order of the statuses, which decides what STATUS reads, those without one last.
fn containers(
    specs: &[core::Container],
    volumes: &[core::Volume],
    statuses: &[core::ContainerStatus],
) -> Vec<ContainerView> {
    let reported = statuses
        .iter()
        .map(|s| (specs.iter().find(|c| c.name == s.name), Some(s)));
    let silent = specs
        .iter()
        .filter(|c| !statuses.iter().any(|s| s.name == c.name))
        .map(|c| (Some(c), None));
    reported
        .chain(silent)
        .map(|(spec, status)| container(spec, volumes, status))
        .collect()
}

fn container(
    spec: Option<&core::Container>,
    volumes: &[core::Volume],
    status: Option<&core::ContainerStatus>,
) -> ContainerView {
    let mut v = ContainerView::default();
    if let Some(c) = spec {
        v.name.clone_from(&c.name);
        v.image = c.image.clone().unwrap_or_default();
        v.sidecar = c.restart_policy.as_deref() == Some("Always");
        v.command = c.command.clone().unwrap_or_default();
        v.args = c.args.clone().unwrap_or_default();
        v.env = c.env.iter().flatten().map(env).collect();
        if let Some(r) = &c.resources {
            v.gpus = gpus(r);
            v.resources = resources(r);
        }
        let probes = [
            ("startup", &c.startup_probe),
            ("readiness", &c.readiness_probe),
            ("liveness", &c.liveness_probe),
        ];
        v.probes = probes
            .into_iter()
            .filter_map(|(k, p)| Some((k.into(), probe(p.as_ref()?))))
            .collect();
        let words = || v.command.iter().chain(&v.args);
        if words().any(|w| w.contains("--config")) {
            let mounts = c.volume_mounts.iter().flatten();
            v.mounts = mounts.map(|m| mount(m, volumes)).collect();
        }
    }
    if let Some(s) = status {
        v.name.clone_from(&s.name);
        if v.image.is_empty() {
            v.image.clone_from(&s.image);
        }
        v.image_id = Some(s.image_id.clone()).filter(|i| !i.is_empty());
        v.container_id = s.container_id.clone().filter(|i| !i.is_empty());
        v.ready = s.ready;
        v.started = s.started;
        v.restarts = u32::try_from(s.restart_count).unwrap_or(0);
        // A reported container without a state reads as waiting, as the API defines it.
        v.state = match state(s.state.as_ref()) {
            ContainerState::None => ContainerState::Waiting {
                reason: String::new(),
                message: None,
            },
            known => known,
        };
        v.last_state = state(s.last_state.as_ref());
    }
    v
}

/// A volume where it is mounted, with the ConfigMaps that it shows.
fn mount(m: &core::VolumeMount, volumes: &[core::Volume]) -> Mount {
    let volume = volumes.iter().find(|v| v.name == m.name);
    let files = |items: &Option<Vec<core::KeyToPath>>| {
        let items = items.iter().flatten();
        items.map(|i| (i.key.clone(), i.path.clone())).collect()
    };
    let mut config_maps = Vec::new();
    if let Some(map) = volume.and_then(|v| v.config_map.as_ref()) {
        config_maps.push((map.name.clone(), files(&map.items)));
    }
    let projected = volume.and_then(|v| v.projected.as_ref()?.sources.as_ref());
    for map in projected
        .into_iter()
        .flatten()
        .filter_map(|s| s.config_map.as_ref())
    {
        config_maps.push((map.name.clone(), files(&map.items)));
    }
    // What a variable still decides is not known here: then nothing of the volume is.
    if m.sub_path_expr.is_some() {
        config_maps.clear();
    }
    Mount {
        path: m.mount_path.clone(),
        sub_path: m.sub_path.clone().filter(|p| !p.is_empty()),
        config_maps,
    }
}

fn env(e: &core::EnvVar) -> (String, Option<String>) {
    let value = if e.value_from.is_some() {
        None
    } else {
        Some(e.value.clone().unwrap_or_default())
    };
    (e.name.clone(), value)
}

fn state(s: Option<&core::ContainerState>) -> ContainerState {
    let some = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    match s {
        Some(core::ContainerState {
            terminated: Some(t),
            ..
        }) => ContainerState::Terminated {
            exit_code: t.exit_code,
            signal: t.signal.filter(|s| *s != 0),
            reason: some(&t.reason),
            message: some(&t.message),
            started: time(&t.started_at),
            finished: time(&t.finished_at),
        },
        Some(core::ContainerState {
            running: Some(r), ..
        }) => ContainerState::Running {
            since: time(&r.started_at),
        },
        Some(core::ContainerState {
            waiting: Some(w), ..
        }) => ContainerState::Waiting {
            reason: w.reason.clone().unwrap_or_default(),
            message: some(&w.message),
        },
        _ => ContainerState::None,
    }
}

/// Whether a resource counts GPUs.
pub(super) fn is_gpu(name: &str) -> bool {
    let tail = name.rsplit('/').next().unwrap_or_default();
    tail == "gpu" || tail == "gpu.shared" || tail == "gaudi" || name.starts_with("nvidia.com/mig-")
}

fn gpus(r: &core::ResourceRequirements) -> u32 {
    let sum = |m: &Option<BTreeMap<String, Quantity>>| -> u32 {
        let own = m.iter().flatten().filter(|(k, _)| is_gpu(k));
        own.filter_map(|(_, q)| q.0.parse::<u32>().ok())
            .fold(0, u32::saturating_add)
    };
    sum(&r.requests).max(sum(&r.limits))
}

/// `limits.nvidia.com/gpu: 8`, `requests.cpu: 4`.
fn resources(r: &core::ResourceRequirements) -> BTreeMap<String, String> {
    let part = |prefix: &'static str, m: &Option<BTreeMap<String, Quantity>>| {
        m.iter()
            .flatten()
            .map(|(k, q)| (format!("{prefix}.{k}"), q.0.clone()))
            .collect::<Vec<_>>()
    };
    part("requests", &r.requests)
        .into_iter()
        .chain(part("limits", &r.limits))
        .collect()
}

/// A probe in one line, in the manner of `kubectl describe`.
fn probe(p: &core::Probe) -> String {
    let port = |p: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString| match p {
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(i) => i.to_string(),
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(s) => s.clone(),
    };
    let how = if let Some(h) = &p.http_get {
        let scheme = h.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
        format!(
            "{scheme}-get :{}{}",
            port(&h.port),
            h.path.as_deref().unwrap_or("/")
        )
    } else if let Some(t) = &p.tcp_socket {
        format!("tcp-socket :{}", port(&t.port))
    } else if let Some(e) = &p.exec {
        format!(
            "exec {}",
            e.command
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        )
    } else if let Some(g) = &p.grpc {
        format!("grpc :{}", g.port)
    } else {
        "unknown".into()
    };
    format!(
        "{how} delay={}s timeout={}s period={}s failure={}",
        p.initial_delay_seconds.unwrap_or(0),
        p.timeout_seconds.unwrap_or(1),
        p.period_seconds.unwrap_or(10),
        p.failure_threshold.unwrap_or(3),
    )
}

fn yaml(pod: &core::Pod) -> Option<Arc<str>> {
    let mut p = pod.clone();
    p.metadata.managed_fields = None;
    if let Some(a) = &mut p.metadata.annotations {
        a.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    serde_yaml::to_string(&p).ok().map(Into::into)
}

/// A Kubernetes Event.
#[must_use]
pub fn event(e: &core::Event) -> KubeEvent {
    let series = e.series.as_ref();
    let last = series
        .and_then(|s| micro(&s.last_observed_time))
        .or_else(|| time(&e.last_timestamp))
        .or_else(|| time(&e.first_timestamp))
        .or_else(|| micro(&e.event_time));
    let count = series.and_then(|s| s.count).or(e.count).unwrap_or(1);
    let source = e.source.as_ref().and_then(|s| s.component.clone());
    KubeEvent {
        uid: e.metadata.uid.clone().unwrap_or_default(),
        namespace: e
            .involved_object
            .namespace
            .clone()
            .or_else(|| e.metadata.namespace.clone())
            .unwrap_or_default(),
        kind: e.involved_object.kind.clone().unwrap_or_default(),
        object: e.involved_object.name.clone().unwrap_or_default(),
        normal: e.type_.as_deref() == Some("Normal"),
        reason: e.reason.clone().unwrap_or_default(),
        message: e.message.clone().unwrap_or_default(),
        count: u32::try_from(count).unwrap_or(1),
        first: time(&e.first_timestamp)
            .or_else(|| micro(&e.event_time))
            .or(last),
        last,
        reporter: e
            .reporting_component
            .clone()
            .filter(|r| !r.is_empty())
            .or(source)
            .unwrap_or_default(),
    }
}
