//! Where a pod stands in its workload: group, index, role; read from the labels that controllers write.

use std::collections::BTreeMap;

use crate::model::event::PodView;

/// Label of a LeaderWorkerSet's name.
pub const LWS: &str = "leaderworkerset.sigs.k8s.io/name";
const LWS_GROUP: &str = "leaderworkerset.sigs.k8s.io/group-index";
const LWS_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";
const LWS_SIZE: &str = "leaderworkerset.sigs.k8s.io/size";
/// Label of a JobSet's name.
pub const JOBSET: &str = "jobset.sigs.k8s.io/jobset-name";
const JOBSET_REPLICATED: &str = "jobset.sigs.k8s.io/replicatedjob-name";
const JOBSET_JOB: &str = "jobset.sigs.k8s.io/job-index";
/// Label of a RayCluster's name.
pub const RAY: &str = "ray.io/cluster";
const RAY_TYPE: &str = "ray.io/node-type";
const RAY_GROUP: &str = "ray.io/group";
const RAY_REPLICA: &str = "ray.io/worker-group-replica-name";
const RAY_HOST: &str = "ray.io/replica-host-index";
/// Label of a Kubeflow training job's name.
pub const KUBEFLOW: &str = "training.kubeflow.org/job-name";
const KUBEFLOW_TYPE: &str = "training.kubeflow.org/replica-type";
const KUBEFLOW_INDEX: &str = "training.kubeflow.org/replica-index";
/// Label of which Kubeflow controller made the pod.
pub const KUBEFLOW_OPERATOR: &str = "training.kubeflow.org/operator-name";
/// Label of a Job's name.
pub const JOB: &str = "batch.kubernetes.io/job-name";
/// The same, as it was called before Kubernetes 1.27.
pub const JOB_OLD: &str = "job-name";
/// Label and annotation of a pod's index in an Indexed Job.
pub const JOB_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Label of a pod's index in a StatefulSet.
pub const STS_INDEX: &str = "apps.kubernetes.io/pod-index";

/// Where a pod stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Group inside the workload: one engine, one NCCL world. Empty where the workload is one group.
    pub group: Group,
    /// Index inside the group, the leader first.
    pub index: Option<u32>,
}

/// A group of pods, ordered by number where it has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Number: group of a LeaderWorkerSet, job of a JobSet; 0 for the head of a Ray cluster.
    pub number: u32,
    /// Name, where groups have names.
    pub name: String,
}

fn get<'a>(map: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    map.get(key).map(String::as_str).filter(|v| !v.is_empty())
}

fn number(map: &BTreeMap<String, String>, key: &str) -> Option<u32> {
    get(map, key)?.parse().ok()
}

/// Digits after the last dash of a name.
fn ordinal(name: &str) -> Option<u32> {
    name.rsplit_once('-').and_then(|(_, n)| n.parse().ok())
}

impl Place {
    /// Reads it from labels, most specific controller first.
    #[must_use]
    pub fn of(pod: &PodView) -> Self {
        let l = &pod.labels;
        let completion = || number(l, JOB_INDEX).or_else(|| number(&pod.annotations, JOB_INDEX));
        let group = |number, name: &str| Group {
            number,
            name: name.into(),
        };
        if get(l, LWS).is_some() {
            return Self {
                group: group(number(l, LWS_GROUP).unwrap_or(0), ""),
                index: number(l, LWS_INDEX),
            };
        }
        if get(l, JOBSET).is_some() {
            let g = group(
                number(l, JOBSET_JOB).unwrap_or(0),
                get(l, JOBSET_REPLICATED).unwrap_or(""),
            );
            return Self {
                group: g,
                index: completion(),
            };
        }
        if get(l, RAY).is_some() {
            if get(l, RAY_TYPE) == Some("head") {
                return Self {
                    group: group(0, ""),
                    index: Some(0),
                };
            }
            let name = get(l, RAY_REPLICA)
                .or_else(|| get(l, RAY_GROUP))
                .unwrap_or("");
            return Self {
                group: group(1, name),
                index: number(l, RAY_HOST),
            };
        }
        if get(l, KUBEFLOW).is_some() {
            let master = matches!(get(l, KUBEFLOW_TYPE), Some("master" | "launcher"));
            let index = number(l, KUBEFLOW_INDEX);
            // A PyTorchJob's workers are ranks 1 and up when there is a master; an MPIJob's start at 0.
            let shift =
                u32::from(!master && get(l, KUBEFLOW_OPERATOR) == Some("pytorchjob-controller"));
            return Self {
                group: group(0, ""),
                index: index.map(|i| i.saturating_add(shift)),
            };
        }
        if let Some(i) = completion() {
            return Self {
                group: Group::default(),
                index: Some(i),
            };
        }
        let of_set = pod
            .owner
            .as_ref()
            .is_some_and(|(kind, _)| kind == "StatefulSet");
        let index = number(l, STS_INDEX).or_else(|| if of_set { ordinal(&pod.name) } else { None });
        Self {
            group: Group::default(),
            index,
        }
    }
}

/// Name under which a pod's history is kept: the same for its successors, where the controller numbers them.
/// A group restart of a LeaderWorkerSet, or a retried index of a Job, gives the place to another pod.
#[must_use]
pub fn slot(pod: &PodView) -> String {
    let l = &pod.labels;
    let named = [LWS, JOBSET, RAY, KUBEFLOW, JOB, JOB_OLD]
        .iter()
        .find_map(|k| get(l, k).map(|v| (*k, v)));
    let place = Place::of(pod);
    match (named, place.index) {
        (Some((key, name)), Some(i)) => {
            format!(
                "{}/{key}={name}/{}{}/{i}",
                pod.namespace, place.group.number, place.group.name
            )
        }
        _ => format!("{}/{}", pod.namespace, pod.name),
    }
}

/// Pods that a group should have, where a pod itself says so.
#[must_use]
pub fn group_size(pod: &PodView) -> Option<u32> {
    number(&pod.annotations, LWS_SIZE).or_else(|| number(&pod.labels, LWS_SIZE))
}
