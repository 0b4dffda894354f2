//! Memory of GPUs: held by somebody else, or unlike that of the others.

use std::collections::BTreeMap;

use super::{about, answer, name};
use crate::parse::probe::Answer;
use crate::rules::devices;
use crate::rules::findings::View;
use crate::rules::findings::fix::sh;
use crate::rules::probes::Member;
use crate::rules::scene::{
    Class, Confidence, Evidence, Finding, GpuView, ProcessView, Severity, Stage,
};

/// The first GPU of each pod on which much memory was taken before a rank came.
pub fn taken<'a>(view: &View<'a>) -> BTreeMap<&'a str, &'a GpuView> {
    let mut by = BTreeMap::new();
    for g in &view.scene.gpus {
        if let (Some(pod), true) = (&g.pod, g.other.is_some_and(|b| b > OTHERS)) {
            by.entry(pod.as_str()).or_insert(g);
        }
    }
    by
}

/// Memory that somebody else holds; `taken` as above.
pub fn foreign(
    view: &View<'_>,
    m: &Member<'_>,
    taken: &BTreeMap<&str, &GpuView>,
    out: &mut Vec<Finding>,
) {
    // vLLM's own word on it is better evidence.
    let known = out
        .iter()
        .any(|f| f.id == "gpu.foreign-memory" && f.pods.contains(&m.pod.name));
    if known {
        return;
    }
    let mut bad = Vec::new();
    let mut since = None;
    if let Some((Answer::GpuMemory(g), when)) = answer(view, m, "gpu-memory") {
        let here = view.by_pod.get(m.pod.name.as_str());
        bad = devices::foreign(here.map_or(&[], Vec::as_slice), m, g);
        since = when;
    }
    let sample = taken.get(m.pod.name.as_str()).copied();
    let proof = match (bad.first(), sample) {
        (Some(b), _) => Evidence::Check(format!("check.gpu-memory in {}: {}", m.pod.name, b.proof)),
        (None, Some(g)) => Evidence::Sample(format!(
            "{}: {} MiB were taken before the rank came",
            name(g),
            g.other.unwrap_or(0) >> 20
        )),
        (None, None) => return,
    };
    let mut f = about(
        view,
        "gpu.foreign-memory",
        m,
        Severity::Warning,
        Class::Resources,
        proof,
    );
    f.confidence = Confidence::Likely;
    f.since = since.or(sample.and_then(|g| g.at));
    f.gpus = bad.iter().flat_map(|b| b.gpus.clone()).collect();
    if f.gpus.is_empty() {
        f.gpus.extend(sample.map(name));
    }
    let text = bad.first().map_or_else(
        || format!("{} is held in part by somebody else", f.gpus.join(", ")),
        |b| b.text.clone(),
    );
    f.title = format!("{}: {text}", m.pod.name);
    f.cause = "Another process holds memory of this GPU: a neighbour that shares it, or a container that has not gone. From inside a container it can't be seen whose it is.".into();
    f.fix = vec![
        format!(
            "on node {}: nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv",
            m.pod.node.as_deref().unwrap_or("?")
        ),
        view.target.arg("--gpu-memory-utilization=0.80"),
    ];
    out.push(f);
}

/// Less than this is a driver's and contexts', bytes.
const OTHERS: u64 = 2 << 30;

/// GPUs that differ from those of their group, at rest: every rank serves, and none has ended.
pub fn imbalance(view: &View<'_>, out: &mut Vec<Finding>) {
    // An engine core serves when its ranks do, and does not say so.
    let rank = |p: &&ProcessView| p.global_rank.is_some() && p.stage.is_some();
    let mut told = view.scene.processes.iter().filter(rank);
    let first = told.next();
    let serves = |p: &ProcessView| {
        p.alive != Some(false) && (p.stage == Some(Stage::Serving) || p.unheard())
    };
    let dead = view.scene.processes.iter().any(|p| p.alive == Some(false));
    if dead || !first.is_some_and(serves) || !told.all(serves) {
        return;
    }
    for g in view.scene.gpus.iter().filter(|g| !g.loading) {
        let (Some(odd), Some(used)) = (&g.odd, g.used) else {
            continue;
        };
        let who = name(g);
        let mut f = Finding::new(
            "gpu.memory-imbalance",
            &who,
            Severity::Warning,
            Class::Resources,
            Evidence::Sample(format!("{who}: {} MiB used: {odd}", used >> 20)),
        );
        f.confidence = Confidence::Likely;
        f.since = g.at;
        f.gpus = vec![who.clone()];
        f.pods.extend(g.pod.clone());
        f.hosts.clone_from(&f.pods);
        f.ranks.extend(g.global_rank);
        let place = g.pod.clone().or_else(|| g.node.clone()).unwrap_or_default();
        let rank = g
            .global_rank
            .map_or_else(|| who.clone(), |r| format!("the GPU of rank {r}"));
        f.title = format!("{rank} on {place} differs from those of its group: {odd}");
        f.cause = "Ranks of one tensor parallel group and pipeline stage hold equal shares of the model: a second process is on that GPU, or the rank has loaded something else.".into();
        let target = &view.target;
        f.fix = vec![target.kubectl(&format!(
            "exec {} -- nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv",
            sh(g.pod.as_deref().unwrap_or("POD"))
        ))];
        out.push(f);
    }
}
