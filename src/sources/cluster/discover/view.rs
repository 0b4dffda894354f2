//! A workload as it is shown: from the object that makes it, from a label that its pods share, from their owner.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use kube::core::ObjectMeta;
use serde_json::Value;

use super::controller;
use super::kinds::{KINDS, Kind};
use crate::model::event::{PodView, WorkloadView};
use crate::model::pods::Place;
use crate::sources::cluster::observe;

/// Label with the name of a run:ai workload, on the pods of what it made.
const RUNAI: &str = "run.ai/workload-name";

pub(super) fn of_object(kind: &Kind, namespace: &str, object: &DynamicObject) -> WorkloadView {
    let name = object.metadata.name.clone().unwrap_or_default();
    let (expected, gpus) = kind.size(&object.data);
    let own = match_labels(&object.data);
    let (selector, rule) = match (kind.label, own) {
        (Some(l), _) => (
            format!("{l}={name}"),
            format!("label {l}={name}, written by the {} controller", kind.kind),
        ),
        (None, Some(s)) => (
            s.clone(),
            format!("the selector of {} {name}: {s}", kind.kind),
        ),
        (None, None) => (String::new(), format!("owner {} {name}", kind.kind)),
    };
    let above = controller(&object.metadata).map_or_else(String::new, |o| {
        let whose = if o.api_version.starts_with("run.ai/") {
            "run:ai's "
        } else {
            ""
        };
        format!("; made for {whose}{} {}", o.kind, o.name)
    });
    WorkloadView {
        namespace: namespace.into(),
        kind: kind.word.into(),
        name,
        rule: rule + &above,
        selector,
        expected,
        gpus,
        pods: Vec::new(),
    }
}

/// `spec.selector.matchLabels` as a selector.
fn match_labels(object: &Value) -> Option<String> {
    let map = object.pointer("/spec/selector/matchLabels")?.as_object()?;
    let parts: Vec<_> = map
        .iter()
        .filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

pub(super) fn of_label(
    kind: &Kind,
    namespace: &str,
    name: &str,
    pods: &[ObjectMeta],
) -> WorkloadView {
    let label = kind.label.unwrap_or_default();
    // run:ai writes its own name on what it makes.
    let above = pods.first().and_then(|m| m.labels.as_ref()?.get(RUNAI));
    let above = above.map_or_else(String::new, |w| format!("; made for run:ai's workload {w}"));
    WorkloadView {
        namespace: namespace.into(),
        kind: kind.word.into(),
        name: name.into(),
        rule: format!("label {label}={name}{above}"),
        selector: format!("{label}={name}"),
        expected: expected(pods),
        gpus: 0,
        pods: indexed(pods),
    }
}

/// What the pods themselves say of the size: groups seen, times the size of one.
fn expected(pods: &[ObjectMeta]) -> Option<u32> {
    let views: Vec<_> = pods.iter().map(view).collect();
    let size = views
        .iter()
        .find_map(crate::model::pods::place::group_size)?;
    let groups: BTreeSet<_> = views.iter().map(|v| Place::of(v).group).collect();
    u32::try_from(groups.len())
        .ok()
        .map(|g| g.saturating_mul(size))
}

/// Pods of one owner without a label of its own: what they have in common and no other pod has.
pub(super) fn of_owner<'a>(
    namespace: &str,
    owner: &OwnerReference,
    rule: &str,
    ours: &[ObjectMeta],
    others: impl IntoIterator<Item = &'a ObjectMeta>,
) -> WorkloadView {
    let kind = KINDS
        .iter()
        .find(|k| k.owns(&owner.api_version, &owner.kind));
    WorkloadView {
        namespace: namespace.into(),
        kind: kind.map_or_else(|| owner.kind.to_ascii_lowercase(), |k| k.word.into()),
        name: owner.name.clone(),
        rule: rule.into(),
        selector: common(ours, others).unwrap_or_default(),
        expected: None,
        gpus: 0,
        pods: indexed(ours),
    }
}

/// Labels that say which pod of a group, or which revision: no part of what makes it a group.
const OWN: &[&str] = &[
    "statefulset.kubernetes.io/pod-name",
    "controller-revision-hash",
    "pod-template-hash",
    "pod-template-generation",
    "controller-uid",
];

/// Where a pod runs is written on it once it has a node (from 1.35, by the API server): a pod that waits has it not.
fn is_own(label: &str) -> bool {
    OWN.contains(&label)
        || label.starts_with("topology.kubernetes.io/")
        || label.ends_with("-index")
}

/// The labels that all of `ours` share; `None` where they would select others too.
fn common<'a>(
    ours: &[ObjectMeta],
    others: impl IntoIterator<Item = &'a ObjectMeta>,
) -> Option<String> {
    let mut shared = ours.first()?.labels.clone()?;
    shared.retain(|k, _| !is_own(k));
    for meta in ours {
        shared.retain(|k, v| meta.labels.as_ref().and_then(|l| l.get(k)) == Some(v));
    }
    let matches = |m: &ObjectMeta| {
        shared
            .iter()
            .all(|(k, v)| m.labels.as_ref().and_then(|l| l.get(k)) == Some(v))
    };
    if shared.is_empty() || others.into_iter().any(matches) {
        return None;
    }
    Some(
        shared
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(","),
    )
}

pub(super) fn alone(namespace: &str, meta: &ObjectMeta) -> WorkloadView {
    WorkloadView {
        namespace: namespace.into(),
        kind: "pod".into(),
        name: meta.name.clone().unwrap_or_default(),
        rule: "a pod by its name".into(),
        expected: Some(1),
        pods: indexed(std::slice::from_ref(meta)),
        ..WorkloadView::default()
    }
}

/// Just enough of a pod to know its place.
fn view(meta: &ObjectMeta) -> PodView {
    PodView {
        name: meta.name.clone().unwrap_or_default(),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
        owner: observe::owner(meta),
        ..PodView::default()
    }
}

/// Pods in rank order.
pub(super) fn indexed(pods: &[ObjectMeta]) -> Vec<(Option<u32>, String)> {
    let mut all: Vec<_> = pods
        .iter()
        .map(|m| {
            let v = view(m);
            (Place::of(&v), v.name)
        })
        .collect();
    all.sort();
    all.into_iter().map(|(p, name)| (p.index, name)).collect()
}
