//! GPU memory that is not there: for weights, for the KV cache, taken by others.

use super::super::View;
use super::super::trouble::{Case, Notice, Words};
use crate::parse::vllm::FaultKind;
use crate::rules::scene::{Class, Confidence, Finding, Severity, Stage};

pub(super) fn kv_cache(c: &Case<'_, '_>) -> Words {
    let told = c.of(|k| match k {
        FaultKind::KvTooSmall {
            len,
            fits,
            need,
            have,
        } => Some((*len, *fits, *need, *have)),
        _ => None,
    });
    let (title, cause, fit) = match told {
        Some((len, fits, need, have)) => {
            let len = len.map_or_else(|| "its length".into(), |l| l.to_string());
            let gib = match (need, have) {
                (Some(n), Some(h)) => format!(": {n} GiB needed, {h} GiB left"),
                _ => String::new(),
            };
            (
                format!("one request of max_model_len {len} does not fit the KV cache{gib}"),
                fits.map_or_else(
                    || "What weights and activations leave of the GPU memory can't hold one request of full length.".into(),
                    |f| format!("What weights and activations leave of the GPU memory holds about {f} tokens."),
                ),
                fits,
            )
        }
        None => (
            "no GPU memory is left for the KV cache".into(),
            "Weights and activations take all of gpu_memory_utilization × GPU memory.".into(),
            None,
        ),
    };
    let mut fix = Vec::new();
    if let Some(fit) = fit {
        // Rounded down to whole blocks of 16 tokens.
        fix.push(c.target.arg(&format!("--max-model-len={}", fit / 16 * 16)));
    }
    fix.push(c.target.arg("--gpu-memory-utilization=0.95"));
    fix.push(c.target.arg("--kv-cache-dtype=fp8"));
    fix.push("spread the weights over more GPUs: a larger --tensor-parallel-size or --pipeline-parallel-size".into());
    (title, cause, fix)
}

/// CUDA ran out of memory while weights load.
pub(super) fn cuda_memory(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list = notices
        .iter()
        .filter(|n| {
            n.fault().is_some_and(|f| match f.kind {
                FaultKind::LoadOom => true,
                FaultKind::CudaOom { .. } => n.stage.is_none_or(|s| s <= Stage::Weights),
                _ => false,
            })
        })
        .collect();
    for c in Case::split(view, list) {
        let told = c.of(|k| match k {
            FaultKind::CudaOom {
                gpu,
                total,
                free,
                wanted,
            } => Some((*gpu, *total, *free, *wanted)),
            _ => None,
        });
        let gib = |b: u64| format!("{:.1} GiB", b as f64 / f64::from(1 << 30));
        let (gpu, detail) = match told {
            Some((gpu, Some(total), Some(free), wanted)) => (
                gpu,
                format!(
                    " It has {}, {} were free{}.",
                    gib(total),
                    gib(free),
                    wanted.map_or_else(String::new, |w| format!(", {} were asked for", gib(w)))
                ),
            ),
            Some((gpu, ..)) => (gpu, String::new()),
            None => (None, String::new()),
        };
        let gpu = gpu.map_or_else(|| "a GPU".into(), |g| format!("GPU {g}"));
        let proven = c.list.iter().any(|n| {
            n.stage == Some(Stage::Weights)
                || n.fault().is_some_and(|f| f.kind == FaultKind::LoadOom)
        });
        let words = (
            format!("{gpu} of {} ran out of memory while weights load", c.place),
            format!("The weights of this rank don't fit beside what is already on the GPU.{detail}"),
            vec![
                c.target.kubectl(&format!("exec {} -- nvidia-smi --query-compute-apps=pid,used_memory --format=csv", c.target.pod(&c.pod()))),
                "spread the weights over more GPUs: a larger --tensor-parallel-size or --pipeline-parallel-size".into(),
                c.target.arg("--quantization=fp8"),
            ],
        );
        if let Some(mut f) = c.raise(
            "vllm.cuda-oom-loading",
            Severity::Error,
            Class::Resources,
            words,
        ) {
            f.confidence = if proven {
                Confidence::Certain
            } else if c.list.iter().any(|n| n.stage.is_some()) {
                Confidence::Likely
            } else {
                Confidence::Possible
            };
            out.push(f);
        }
    }
}

/// vLLM measured that memory was taken before it began.
pub(super) fn foreign_memory(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list = notices
        .iter()
        .filter(|n| {
            n.fault()
                .is_some_and(|f| matches!(f.kind, FaultKind::NotEnoughFree { .. }))
        })
        .collect();
    for c in Case::split(view, list) {
        let Some((device, free, total, share)) = c.of(|k| match k {
            FaultKind::NotEnoughFree {
                device,
                free,
                total,
                utilization,
            } => Some((device.clone(), *free, *total, *utilization)),
            _ => None,
        }) else {
            continue;
        };
        let gpu = device.unwrap_or_else(|| "a GPU".into());
        let words = (
            format!("{gpu} of {} had only {free} of {total} GiB free at start", c.place),
            format!("vLLM wants {:.0} % of the GPU's memory, and {:.1} GiB were taken before it allocated any: another process, or a previous one that has not gone.", share * 100.0, total - free),
            vec![
                c.target.kubectl(&format!("exec {} -- nvidia-smi --query-compute-apps=pid,process_name,used_memory --format=csv", c.target.pod(&c.pod()))),
                c.target.arg(&format!("--gpu-memory-utilization={:.2}", (free / total * 0.97).max(0.1))),
            ],
        );
        if let Some(mut f) = c.raise(
            "gpu.foreign-memory",
            Severity::Warning,
            Class::Resources,
            words,
        ) {
            f.confidence = if view.live() {
                Confidence::Likely
            } else {
                Confidence::Possible
            };
            out.push(f);
        }
    }
}
