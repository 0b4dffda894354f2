//! Why GPUs that a pod asks for are free on no node: what nodes can allocate, less what pods ask for already.
//!
//! Pods of others are not read, which would take rights over the whole cluster: what is ours is subtracted, and the
//! scheduler's own word says that the rest does not suffice.

use std::collections::BTreeMap;

use crate::model::Model;
use crate::model::event::{ContainerView, PodKey, PodView};
use crate::rules::scene::PodRow;

/// How far away a fit is, as the end of a sentence: `asks for 9 nvidia.com/gpu, no node can give more than 8`.
/// Nothing where the scheduler names no lack of GPUs, or where nodes can't be read.
#[must_use]
pub fn room(model: &Model, pod: &PodView) -> Option<String> {
    let said = pod
        .conditions
        .iter()
        .find(|c| c.kind == "PodScheduled" && c.status == "False")?
        .message
        .as_deref()?;
    let all = Some(&model.gpu_nodes).filter(|n| n.nodes > 0)?;
    let lacking = lacking(said);
    let resource = lacking
        .iter()
        .find(|r| r.contains("gpu") || r.contains("/mig-"))?;
    let asks = asked(pod, resource);
    if asks == 0 {
        return None;
    }
    let none = BTreeMap::new();
    let sizes = all.sizes.get(*resource).unwrap_or(&none);
    let Some((largest, _)) = sizes.iter().next_back().filter(|(size, _)| **size > 0) else {
        return Some(format!(
            "asks for {asks} {resource}, no node of {} has any to give",
            all.nodes
        ));
    };
    if asks > *largest {
        return Some(format!(
            "asks for {asks} {resource}, no node can give more than {largest}"
        ));
    }
    let fit: u32 = sizes.range(asks..).map(|(_, nodes)| *nodes).sum();
    let ours = filled(model, resource, asks);
    let (ours, rest) = (ours.min(fit), fit.saturating_sub(ours));
    let large = format!(
        "asks for {asks} {resource}, which {fit} of {} nodes can give",
        all.nodes
    );
    Some(match (ours, rest) {
        (0, _) => format!(
            "{large}: none carries this workload, others hold them or the pod may not run there"
        ),
        (_, 0) => format!("{large}: this workload's own pods fill every one of them"),
        (ours, rest) => format!(
            "{large}: this workload's own pods fill {ours}, others hold {rest} or the pod may not run there"
        ),
    })
}

/// Adds to a row what the scheduler leaves out.
pub fn explain(model: &Model, row: &mut PodRow) {
    let key = PodKey {
        namespace: row.namespace.clone(),
        name: row.name.clone(),
    };
    let room = model.pods.get(&key).and_then(|pod| room(model, pod));
    if let (Some(why), Some(room)) = (&mut row.why, room) {
        why.push_str("; ");
        why.push_str(&room);
    }
}

/// Nodes that could give so many and whose GPUs our own pods already take.
fn filled(model: &Model, resource: &str, asks: u32) -> u32 {
    let mut taken: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, pod) in model.pods.iter() {
        if let Some(node) = pod.node.as_deref()
            && !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
        {
            let sum = taken.entry(node).or_default();
            *sum = sum.saturating_add(asked(pod, resource));
        }
    }
    let full = taken.into_iter().filter(|(name, taken)| {
        let node = model.nodes.get(*name);
        let size = node.and_then(|n| n.allocatable.get(resource)?.parse::<u32>().ok());
        size.is_some_and(|size| size >= asks && size.saturating_sub(*taken) < asks)
    });
    u32::try_from(full.count()).unwrap_or(u32::MAX)
}

/// What a pod asks of a resource, as the scheduler counts it: init containers run one after the other, beside those
/// sidecars that began before them.
fn asked(pod: &PodView, resource: &str) -> u32 {
    let mut sidecars = 0_u32;
    let mut peak = 0_u32;
    for c in &pod.init_containers {
        let wants = of(c, resource);
        if c.sidecar {
            sidecars = sidecars.saturating_add(wants);
        } else {
            peak = peak.max(sidecars.saturating_add(wants));
        }
    }
    let main = pod.containers.iter().map(|c| of(c, resource));
    main.fold(sidecars, u32::saturating_add).max(peak)
}

/// Of extended resources limits and requests are equal; either may be written alone.
fn of(c: &ContainerView, resource: &str) -> u32 {
    ["requests", "limits"]
        .iter()
        .filter_map(|word| c.resources.get(&format!("{word}.{resource}"))?.parse().ok())
        .max()
        .unwrap_or(0)
}

/// The resources that the scheduler calls insufficient. Their names hold dots: they end at a comma or a blank.
fn lacking(message: &str) -> Vec<&str> {
    // What preemption says of them comes after, and is about other pods.
    let main = message.split("preemption:").next().unwrap_or(message);
    main.split("Insufficient ")
        .skip(1)
        .filter_map(|rest| rest.split([',', ' ']).next())
        .map(|name| name.trim_end_matches('.'))
        .collect()
}
