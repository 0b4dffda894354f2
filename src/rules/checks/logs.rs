//! What the logs alone show.

use super::look::{Look, Seen};
use crate::rules::scene::{CheckVerdict, Communicator};

/// NCCL lines present in every log that vLLM's ranks write, and with which subsystems.
pub(super) fn nccl_lines(look: &Look<'_>) -> Seen {
    let scene = look.scene;
    let with = scene.sources.iter().filter(|s| s.nccl_lines > 0).count();
    let without: Vec<&str> = scene
        .sources
        .iter()
        .filter(|s| s.nccl_lines == 0 && s.vllm_lines > 0)
        .map(|s| s.name.as_str())
        .collect();
    let lines: u64 = scene.sources.iter().map(|s| s.nccl_lines).sum();
    let has = |what: fn(&Communicator) -> bool| scene.communicators.iter().any(what);
    let mut holds = Vec::new();
    if has(|c| !c.ranks.is_empty()) {
        holds.push("INIT");
    }
    if has(|c| !c.edges.is_empty()) {
        holds.push("connections");
    }
    if has(|c| !c.rings.is_empty()) {
        holds.push("GRAPH");
    }
    if scene.processes.iter().any(|p| !p.env.is_empty()) {
        holds.push("ENV");
    }
    if scene.processes.iter().any(|p| p.network.is_some()) {
        holds.push("NET");
    }
    let verdict = match (lines, without.is_empty()) {
        (0, _) if scene.sources.iter().all(|s| s.lines == 0) => CheckVerdict::Waiting,
        // A rank that has not come to NCCL yet is silent as well.
        (0, _) => CheckVerdict::Unknown,
        (_, false) => CheckVerdict::Warn,
        (_, true) => CheckVerdict::Pass,
    };
    let mut output = format!(
        "{lines} NCCL lines in {with} of {} logs",
        scene.sources.len()
    );
    if !holds.is_empty() {
        output.push_str(&format!("; they hold {}", holds.join(", ")));
    }
    let has_info = scene
        .processes
        .iter()
        .any(|p| p.bootstrap_interface.is_some() || p.network.is_some());
    if lines > 0 && !has_info {
        output.push_str("; level WARN or VERSION: nothing tells how ranks are connected");
    }
    if !without.is_empty() {
        output.push_str(&format!("\nnone in {}", without.join(", ")));
    }
    Seen::new(verdict, "the logs, by line", output)
}
