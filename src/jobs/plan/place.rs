//! Where the test runs: on the workload's nodes and no others, in its queue.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, PodAntiAffinity, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::container::Like;
use super::{RUN_LABEL, Wish, nodes};

/// Label by which Kueue takes a Job into a queue.
const KUEUE: &str = "kueue.x-k8s.io/queue-name";
/// Labels that schedulers read; every other label is the workload's own.
const QUEUES: [&str; 4] = [
    KUEUE,
    "runai/queue",
    "kai.scheduler/queue",
    "volcano.sh/queue-name",
];
/// Annotations that decide about networks, devices and queues; a slash at the end means all below it.
const ANNOTATIONS: [&str; 8] = [
    "k8s.v1.cni.cncf.io/networks",
    "v1.multus-cni.io/default-network",
    "kubernetes.io/ingress-bandwidth",
    "kubernetes.io/egress-bandwidth",
    "networking.gke.io/",
    "devices.gke.io/",
    "scheduling.volcano.sh/queue-name",
    "volcano.sh/queue-name",
];
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Where and in which queue.
pub(super) struct Place {
    pub nodes: Vec<String>,
    pub affinity: Option<Affinity>,
    pub node_selector: Option<BTreeMap<String, String>>,
    pub tolerations: Option<Vec<Toleration>>,
    pub spread: Option<Vec<TopologySpreadConstraint>>,
    pub queue_labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub suspend: bool,
}

/// Decides it.
pub(super) fn place(like: &Like<'_>, wish: &Wish, count: u32, warnings: &mut Vec<String>) -> Place {
    let spec = like.pod.spec.clone().unwrap_or_default();
    let mut on = if wish.other_nodes {
        Vec::new()
    } else {
        nodes(&like.all)
    };
    let one_each = wish.other_nodes || on.len() == like.pods;
    if one_each {
        on.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }
    if on.is_empty() && !wish.other_nodes {
        warnings.push(
            "the workload's pods have no node yet: the test may run on any that suits".into(),
        );
    }
    let own = || LabelSelector {
        match_labels: Some(BTreeMap::from([(RUN_LABEL.to_owned(), wish.run.clone())])),
        match_expressions: None,
    };
    let node_affinity = if on.is_empty() {
        spec.affinity.as_ref().and_then(|a| a.node_affinity.clone())
    } else {
        Some(exactly(&on))
    };
    let anti = one_each.then(|| PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
            label_selector: Some(own()),
            topology_key: HOSTNAME.into(),
            ..PodAffinityTerm::default()
        }]),
        ..PodAntiAffinity::default()
    });
    let spread = (!one_each && !on.is_empty()).then(|| {
        vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: HOSTNAME.into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            label_selector: Some(own()),
            ..TopologySpreadConstraint::default()
        }]
    });
    let affinity = (node_affinity.is_some() || anti.is_some()).then_some(Affinity {
        node_affinity,
        pod_affinity: None,
        pod_anti_affinity: anti,
    });
    let meta = &like.pod.metadata;
    let queue_labels: BTreeMap<String, String> = meta
        .labels
        .iter()
        .flatten()
        .filter(|(k, _)| QUEUES.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let kept = |k: &str| {
        ANNOTATIONS
            .iter()
            .any(|a| k == *a || (a.ends_with('/') && k.starts_with(a)))
    };
    let mut annotations: BTreeMap<String, String> = meta
        .annotations
        .iter()
        .flatten()
        .filter(|(k, _)| kept(k))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    annotations.insert("sidecar.istio.io/inject".into(), "false".into());
    annotations.insert("linkerd.io/inject".into(), "disabled".into());
    Place {
        // A node chosen by name needs no other word about nodes.
        node_selector: spec
            .node_selector
            .filter(|s| on.is_empty() && !s.is_empty()),
        tolerations: tolerations(spec.tolerations),
        affinity,
        spread,
        suspend: queue_labels.contains_key(KUEUE),
        queue_labels,
        annotations,
        nodes: on,
    }
}

/// A term for each node: `metadata.name` takes one value, and terms are alternatives.
fn exactly(nodes: &[String]) -> NodeAffinity {
    let terms = nodes.iter().map(|node| NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".into(),
            operator: "In".into(),
            values: Some(vec![node.clone()]),
        }]),
        match_expressions: None,
    });
    NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: terms.collect(),
        }),
        preferred_during_scheduling_ignored_during_execution: None,
    }
}

/// Without those that the API server adds to every pod by itself.
fn tolerations(all: Option<Vec<Toleration>>) -> Option<Vec<Toleration>> {
    let added = |t: &Toleration| {
        t.toleration_seconds == Some(300)
            && matches!(
                t.key.as_deref(),
                Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable")
            )
    };
    let kept: Vec<_> = all?.into_iter().filter(|t| !added(t)).collect();
    (!kept.is_empty()).then_some(kept)
}
