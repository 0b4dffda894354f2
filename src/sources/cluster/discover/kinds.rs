//! The workload kinds that are known by name: where they are read, how their pods are told, how big they are.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::model::pods::place;

/// A kind of workload.
pub(super) struct Kind {
    /// Short name, as in `lws/mixtral`.
    pub word: &'static str,
    /// Other words for it.
    pub also: &'static [&'static str],
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    /// Label that holds the workload's name on its pods.
    pub label: Option<&'static str>,
    /// Pods and GPUs that it should have.
    size: fn(&Value) -> (Option<u32>, u32),
}

/// Most specific first: an object that an earlier kind owns is not a workload of its own.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        word: "lws",
        also: &["leaderworkerset", "leaderworkersets"],
        group: "leaderworkerset.x-k8s.io",
        version: "v1",
        kind: "LeaderWorkerSet",
        plural: "leaderworkersets",
        label: Some(place::LWS),
        size: lws,
    },
    Kind {
        word: "jobset",
        also: &["jobsets", "js"],
        group: "jobset.x-k8s.io",
        version: "v1alpha2",
        kind: "JobSet",
        plural: "jobsets",
        label: Some(place::JOBSET),
        size: jobset,
    },
    Kind {
        word: "raycluster",
        also: &["rayclusters", "ray"],
        group: "ray.io",
        version: "v1",
        kind: "RayCluster",
        plural: "rayclusters",
        label: Some(place::RAY),
        size: ray,
    },
    Kind {
        word: "pytorchjob",
        also: &["pytorchjobs"],
        group: "kubeflow.org",
        version: "v1",
        kind: "PyTorchJob",
        plural: "pytorchjobs",
        label: Some(place::KUBEFLOW),
        size: |o| replicas(o.pointer("/spec/pytorchReplicaSpecs")),
    },
    Kind {
        word: "mpijob",
        also: &["mpijobs"],
        group: "kubeflow.org",
        version: "v2beta1",
        kind: "MPIJob",
        plural: "mpijobs",
        label: Some(place::KUBEFLOW),
        size: |o| replicas(o.pointer("/spec/mpiReplicaSpecs")),
    },
    Kind {
        word: "vcjob",
        also: &["vcjobs", "volcanojob"],
        group: "batch.volcano.sh",
        version: "v1alpha1",
        kind: "Job",
        plural: "jobs",
        label: Some("volcano.sh/job-name"),
        size: volcano,
    },
    Kind {
        word: "job",
        also: &["jobs"],
        group: "batch",
        version: "v1",
        kind: "Job",
        plural: "jobs",
        label: Some(place::JOB),
        size: job,
    },
    Kind {
        word: "sts",
        also: &["statefulset", "statefulsets"],
        group: "apps",
        version: "v1",
        kind: "StatefulSet",
        plural: "statefulsets",
        label: None,
        size: simple,
    },
    Kind {
        word: "deploy",
        also: &["deployment", "deployments"],
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        label: None,
        size: simple,
    },
];

impl Kind {
    /// The kind that a word means.
    pub fn of(word: &str) -> Option<&'static Self> {
        let word = word.to_ascii_lowercase();
        KINDS
            .iter()
            .find(|k| k.word == word || k.also.contains(&word.as_str()))
    }

    pub fn resource(&self) -> ApiResource {
        ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(self.group, self.version, self.kind),
            self.plural,
        )
    }

    /// Whether an owner reference names this kind.
    pub fn owns(&self, api_version: &str, kind: &str) -> bool {
        self.kind == kind && api_version.split('/').next() == Some(self.group)
    }

    /// Pods and GPUs that an object of it should have.
    pub fn size(&self, object: &Value) -> (Option<u32>, u32) {
        (self.size)(object)
    }
}

fn number(o: Option<&Value>) -> Option<u32> {
    o?.as_u64().and_then(|n| u32::try_from(n).ok())
}

/// GPUs that one pod of a template asks for.
fn gpus(template: Option<&Value>) -> u32 {
    let containers = template
        .and_then(|t| t.pointer("/spec/containers"))
        .and_then(Value::as_array);
    let of = |c: &Value| -> u32 {
        let part = |path: &str| -> u32 {
            let map = c.pointer(path).and_then(Value::as_object);
            let own = map
                .into_iter()
                .flatten()
                .filter(|(k, _)| super::super::observe::is_gpu(k));
            let quantity = |v: &Value| {
                v.as_str()
                    .and_then(|s| s.parse().ok())
                    .or_else(|| number(Some(v)))
                    .unwrap_or(0)
            };
            own.map(|(_, v)| quantity(v)).fold(0, u32::saturating_add)
        };
        part("/resources/limits").max(part("/resources/requests"))
    };
    containers
        .into_iter()
        .flatten()
        .map(of)
        .fold(0, u32::saturating_add)
}

fn simple(o: &Value) -> (Option<u32>, u32) {
    let n = number(o.pointer("/spec/replicas")).unwrap_or(1);
    (Some(n), n.saturating_mul(gpus(o.pointer("/spec/template"))))
}

fn job(o: &Value) -> (Option<u32>, u32) {
    let n = running(o.get("spec"));
    (Some(n), n.saturating_mul(gpus(o.pointer("/spec/template"))))
}

/// Pods of a Job at one time.
fn running(spec: Option<&Value>) -> u32 {
    let parallelism = number(spec.and_then(|s| s.get("parallelism"))).unwrap_or(1);
    let completions = number(spec.and_then(|s| s.get("completions")));
    completions.map_or(parallelism, |c| c.min(parallelism))
}

fn lws(o: &Value) -> (Option<u32>, u32) {
    let groups = number(o.pointer("/spec/replicas")).unwrap_or(1);
    let template = o.pointer("/spec/leaderWorkerTemplate");
    let size = number(template.and_then(|t| t.get("size"))).unwrap_or(1);
    let worker = gpus(template.and_then(|t| t.get("workerTemplate")));
    let leader = template
        .and_then(|t| t.get("leaderTemplate"))
        .map_or(worker, |t| gpus(Some(t)));
    let group = leader.saturating_add(worker.saturating_mul(size.saturating_sub(1)));
    (
        Some(groups.saturating_mul(size)),
        groups.saturating_mul(group),
    )
}

fn jobset(o: &Value) -> (Option<u32>, u32) {
    let jobs = o.pointer("/spec/replicatedJobs").and_then(Value::as_array);
    sum(jobs.into_iter().flatten().map(|j| {
        let pods = number(j.get("replicas"))
            .unwrap_or(1)
            .saturating_mul(running(j.pointer("/template/spec")));
        (pods, gpus(j.pointer("/template/spec/template")))
    }))
}

fn ray(o: &Value) -> (Option<u32>, u32) {
    let head = (1, gpus(o.pointer("/spec/headGroupSpec/template")));
    let groups = o
        .pointer("/spec/workerGroupSpecs")
        .and_then(Value::as_array);
    let workers = groups.into_iter().flatten().map(|g| {
        let hosts = number(g.get("numOfHosts")).unwrap_or(1);
        (
            number(g.get("replicas")).unwrap_or(0).saturating_mul(hosts),
            gpus(g.get("template")),
        )
    });
    sum(std::iter::once(head).chain(workers))
}

fn volcano(o: &Value) -> (Option<u32>, u32) {
    let tasks = o.pointer("/spec/tasks").and_then(Value::as_array);
    sum(tasks.into_iter().flatten().map(|t| {
        (
            number(t.get("replicas")).unwrap_or(1),
            gpus(t.get("template")),
        )
    }))
}

/// A map of role to replicas and template, as the training operators have it.
fn replicas(specs: Option<&Value>) -> (Option<u32>, u32) {
    let roles = specs.and_then(Value::as_object);
    sum(roles.into_iter().flatten().map(|(_, r)| {
        (
            number(r.get("replicas")).unwrap_or(1),
            gpus(r.get("template")),
        )
    }))
}

/// Pods, and GPUs of each, summed.
fn sum(parts: impl Iterator<Item = (u32, u32)>) -> (Option<u32>, u32) {
    let add = |(pods, all): (u32, u32), (n, each): (u32, u32)| {
        (
            pods.saturating_add(n),
            all.saturating_add(n.saturating_mul(each)),
        )
    };
    let (pods, gpus) = parts.fold((0, 0), add);
    (Some(pods), gpus)
}
