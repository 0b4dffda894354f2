//! Pods beside each other: other images, one node.

use std::collections::BTreeMap;

use crate::model::event::{PodKey, PodView};
use crate::model::pods::Place;
use crate::rules::findings::View;
use crate::rules::findings::fix::{sh, yaml};
use crate::rules::probes::main_container;
use crate::rules::scene::{Class, Evidence, Finding, Severity};

/// The revision that a pod belongs to: pods of different ones may differ on purpose.
fn revision(pod: &PodView) -> String {
    let label = |k: &str| pod.labels.get(k).cloned();
    label("leaderworkerset.sigs.k8s.io/template-revision-hash")
        .or_else(|| label("pod-template-hash"))
        .or_else(|| label("leaderworkerset.sigs.k8s.io/name"))
        .or_else(|| label("controller-revision-hash"))
        .unwrap_or_default()
}

pub fn skew(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut by: BTreeMap<String, BTreeMap<String, Vec<&PodKey>>> = BTreeMap::new();
    let mut all: Vec<(&PodKey, &PodView, &str, Option<String>)> = Vec::new();
    for (key, pod) in view.model.pods.iter().filter(|(_, p)| p.deletion.is_none()) {
        let Some(c) = main_container(pod) else {
            continue;
        };
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
            view.target.yaml(&match sides.last() {
                Some((n, _)) if n.starts_with("sha256:") => format!("image: <repository>@{n}"),
                Some((n, _)) => format!("image: {}", yaml(n)),
                None => "image: <one digest for all>".into(),
            }),
            view.target.kubectl(&format!(
                "delete pod {}",
                f.pods.iter().map(|p| sh(p)).collect::<Vec<_>>().join(" ")
            )) + "   # let it be made anew",
        ];
        out.push(f);
    }
}

pub fn same_node(view: &View<'_>, out: &mut Vec<Finding>) {
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
            view.target.yaml("affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: <name>}}}]}}"),
        ];
        out.push(f);
    }
}
