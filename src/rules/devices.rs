//! What answers of probes say about GPUs; checks show it, findings conclude from it.

use super::probes::Member;
use super::scene::{ProcessView, Stage};
use crate::parse::probe::{GpuMemory, Gpus};

/// Something wrong with a GPU, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Pod.
    pub pod: String,
    /// GPUs: UUID, else index.
    pub gpus: Vec<String>,
    /// A sentence.
    pub text: String,
    /// What the tool said.
    pub proof: String,
}

/// MiB that the driver and contexts take without anybody's fault.
const SMALL: u64 = 1024;

/// Another number of GPUs than the pod asks for, or than its tensor parallel group needs.
#[must_use]
pub fn count(m: &Member<'_>, gpus: &Gpus) -> Option<Bad> {
    let n = gpus.count()?;
    let want = m.container.gpus;
    let pod = m.pod.name.clone();
    let proof = format!("nvidia-smi -L: {n} GPUs");
    let bad = |text: String| {
        Some(Bad {
            pod: pod.clone(),
            gpus: gpus.list.iter().map(|g| g.uuid.clone()).collect(),
            text,
            proof: proof.clone(),
        })
    };
    if want > 0 && n != want {
        return bad(format!("{n} GPUs are visible, {want} are asked for"));
    }
    // One pod alone must hold its whole tensor parallel group.
    let alone = m.command.settings.num("nnodes").is_none_or(|n| n <= 1);
    let ray = m.command.settings.get("distributed_executor_backend") == Some("ray");
    let tp = m.command.settings.num("tensor_parallel_size").unwrap_or(1);
    let pp = m
        .command
        .settings
        .num("pipeline_parallel_size")
        .unwrap_or(1);
    let need = tp.saturating_mul(pp);
    if alone && !ray && need > u64::from(n) {
        return bad(format!(
            "{n} GPUs are visible, {need} are needed for TP {tp} × PP {pp}"
        ));
    }
    None
}

/// Errors that the memory could not correct.
#[must_use]
pub fn ecc(gpus: &Gpus) -> Vec<Bad> {
    let mut out = Vec::new();
    let mut add = |gpu: &str, text: String, proof: String| {
        out.push(Bad {
            pod: String::new(),
            gpus: vec![gpu.to_owned()],
            text,
            proof,
        });
    };
    for e in &gpus.ecc {
        if let Some(n) = e.uncorrected.filter(|n| *n > 0) {
            add(
                &e.bus,
                format!(
                    "GPU {} ({}): {n} uncorrectable memory errors",
                    e.index, e.bus
                ),
                format!("ecc.errors.uncorrected.volatile.total of {} = {n}", e.bus),
            );
        }
    }
    for r in &gpus.remap {
        if r.failure {
            add(
                &r.bus,
                format!("GPU {}: remapping a bad row failed: replace it", r.bus),
                format!("remapped_rows.failure of {}", r.bus),
            );
        } else if r.pending {
            add(
                &r.bus,
                format!("GPU {}: a bad row waits to be remapped: reset it", r.bus),
                format!("remapped_rows.pending of {}", r.bus),
            );
        }
    }
    out
}

/// Memory held by something else: a process that is not of this container, or memory without any process of ours.
/// `here` are the processes of its pod.
#[must_use]
pub fn foreign(here: &[&ProcessView], m: &Member<'_>, memory: &GpuMemory) -> Vec<Bad> {
    let mut out = Vec::new();
    let mine = m.pod.name.as_str();
    // While nothing of ours has begun to use it, what is taken is somebody else's. Where no line tells how far
    // the container has come, nothing is.
    let before = here.iter().any(|p| p.stage.is_some())
        && here
            .iter()
            .all(|p| p.stage.is_none_or(|s| s < Stage::NcclInit) && p.nccl_step.is_none());
    for gpu in &memory.gpus {
        let apps: Vec<_> = memory.apps.iter().filter(|a| a.gpu == gpu.uuid).collect();
        let used = gpu.used_mib.unwrap_or(0);
        let ours = |name: &str| {
            let name = name.to_ascii_lowercase();
            ["vllm", "python", "ray", "[not found]", "[n/a]", "-"]
                .iter()
                .any(|w| name.contains(w))
                || name.is_empty()
        };
        let strange: Vec<_> = apps
            .iter()
            .filter(|a| !ours(&a.name) && a.used_mib.unwrap_or(0) > SMALL)
            .collect();
        let shown = |text: String, proof: String| Bad {
            pod: mine.to_owned(),
            gpus: vec![gpu.uuid.clone()],
            text,
            proof,
        };
        if let Some(a) = strange.first() {
            let mib = a.used_mib.unwrap_or(0);
            out.push(shown(
                format!("GPU {}: {} holds {mib} MiB", gpu.index, a.name),
                format!(
                    "query-compute-apps: {}, {}, {mib}, {}",
                    a.gpu,
                    a.pid.unwrap_or(0),
                    a.name
                ),
            ));
        } else if before && used > SMALL {
            out.push(shown(
                format!(
                    "GPU {}: {used} MiB are taken before this container has begun to use it",
                    gpu.index
                ),
                format!("query-gpu: {}, {used} MiB used", gpu.uuid),
            ));
        }
    }
    out
}
