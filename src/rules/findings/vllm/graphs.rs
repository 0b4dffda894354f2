//! Crashes in the capture or replay of CUDA graphs.

use super::super::View;
use super::super::trouble::{Case, Notice};
use crate::parse::vllm::FaultKind;
use crate::rules::scene::{Class, Confidence, Finding, Severity, Stage};

/// Crashes in the capture or replay of CUDA graphs.
pub(super) fn graph_crash(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let sure = |n: &Notice<'_>| {
        n.fault().is_some_and(|f| match &f.kind {
            FaultKind::Capture | FaultKind::CustomAllReduce { .. } => true,
            FaultKind::IllegalAccess | FaultKind::CudaOom { .. } => n.stage == Some(Stage::Graphs),
            _ => false,
        })
    };
    // While serving, nearly every step replays a graph.
    let near = |n: &Notice<'_>| {
        n.fault().is_some_and(|f| match f.kind {
            FaultKind::IllegalAccess => n.stage.is_none_or(|s| s >= Stage::Compile),
            FaultKind::Crash { .. } => n.stage == Some(Stage::Graphs),
            _ => false,
        })
    };
    let eager = |n: &Notice<'_>| {
        let speakers = view.joined.units.iter().flat_map(|u| &u.speakers);
        speakers
            .filter_map(|s| view.model.speakers.list.get(*s as usize))
            .any(|s| s.source.0 == n.line.source && s.settings.flag("enforce_eager") == Some(true))
    };
    let list = notices
        .iter()
        .filter(|n| (sure(n) || near(n)) && !eager(n))
        .collect();
    for c in Case::split(view, list) {
        let custom = c.of(|k| matches!(k, FaultKind::CustomAllReduce { .. }).then_some(()));
        let mut fix = vec![c.target.arg("--enforce-eager")];
        fix.push(c.target.arg("--disable-custom-all-reduce"));
        if custom.is_some() {
            fix.push("remove expandable_segments:True from PYTORCH_CUDA_ALLOC_CONF".into());
        }
        fix.push(c.target.env("CUDA_LAUNCH_BLOCKING", Some("1")));
        let certain = c.list.iter().any(|n| sure(n));
        let staged = c.list.iter().any(|n| n.stage.is_some());
        let when = match c.list.iter().filter_map(|n| n.stage).max() {
            Some(Stage::Serving) => "while serving, where steps replay CUDA graphs",
            _ => "while CUDA graphs are captured",
        };
        let words = (
            format!("{} crashed {when}", c.place),
            "A kernel or a collective failed inside a CUDA graph. Run eagerly first: if that works, the graph, custom or fused all-reduce is at fault; CUDA_LAUNCH_BLOCKING=1 names the kernel.".into(),
            fix,
        );
        if let Some(mut f) = c.raise(
            "vllm.graph-crash",
            Severity::Error,
            Class::Application,
            words,
        ) {
            f.confidence = match (certain, staged) {
                (true, _) => Confidence::Certain,
                (false, true) => Confidence::Likely,
                (false, false) => Confidence::Possible,
            };
            out.push(f);
        }
    }
}
