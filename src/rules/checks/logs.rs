//! What the logs alone show.

use super::look::{Look, Seen};
use crate::model::pods::debug_file;
use crate::rules::scene::{CheckVerdict, Communicator, SourceView};

/// NCCL lines present in every log that vLLM's ranks write, and with which subsystems.
pub(super) fn nccl_lines(look: &Look<'_>) -> Seen {
    let scene = look.scene;
    let files = debug_files(look);
    let with = scene.sources.iter().filter(|s| s.nccl_now() > 0).count();
    let without: Vec<&str> = scene
        .sources
        .iter()
        .filter(|s| s.nccl_now() == 0 && s.vllm_lines > 0)
        .map(|s| s.name.as_str())
        // What NCCL says there goes to a file, and the file is read.
        .filter(|name| !files.iter().any(|f| f.read && f.log == *name))
        .collect();
    let lines: u64 = scene.sources.iter().map(SourceView::nccl_now).sum();
    let has = |what: fn(&Communicator) -> bool| scene.communicators.iter().any(|c| what(c));
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
        scene.streams().count()
    );
    let has_info = scene
        .processes
        .iter()
        .any(|p| p.bootstrap_interface.is_some() || p.network.is_some());
    if has_info {
        output.push_str("; level INFO");
    }
    if !holds.is_empty() {
        output.push_str(&format!("; they hold {}", holds.join(", ")));
    }
    if lines > 0 && !has_info {
        output.push_str("; level WARN or VERSION: nothing tells how ranks are connected");
    }
    if !without.is_empty() {
        output.push_str(&format!("\nnone in {}", without.join(", ")));
    }
    if let Some(first) = files.first() {
        let others = match files.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let unread = files.iter().filter(|f| !f.read).count();
        let read = match unread {
            0 => "they are read".to_owned(),
            n if n == files.len() => {
                "not in the container's log; read where probes are allowed".to_owned()
            }
            n => format!("{n} of them could not be read"),
        };
        output.push_str(&format!(
            "\nNCCL_DEBUG_FILE: NCCL writes to {} in {}{others}: {read}",
            first.path, first.log
        ));
    }
    Seen::new(verdict, "the logs, by line", output)
}

/// A container whose NCCL writes to a file.
struct DebugFile {
    /// Name of the container's log.
    log: String,
    /// As the variable says it.
    path: String,
    /// Something of it was read.
    read: bool,
}

/// By the specifications of the pods, and by what NCCL itself prints of its variables.
fn debug_files(look: &Look<'_>) -> Vec<DebugFile> {
    let scene = look.scene;
    let file = |log: String, path: &str| DebugFile {
        read: scene.sources.iter().any(|s| {
            s.lines > 0
                && s.name
                    .strip_prefix(&log)
                    .is_some_and(|f| f.starts_with(':'))
        }),
        log,
        path: path.to_owned(),
    };
    let mut all: Vec<DebugFile> = Vec::new();
    for (key, pod) in look.model.pods.iter() {
        for c in &pod.containers {
            if let Some(path) = debug_file(c) {
                let log = format!("{}/{}/{}", key.namespace, key.name, c.name);
                all.push(file(log, path));
            }
        }
    }
    for p in &scene.processes {
        let path = p.env.iter().find(|(k, _)| k == "NCCL_DEBUG_FILE");
        let source = scene.sources.get(p.source as usize);
        if let (Some((_, path)), Some(source)) = (path, source)
            && !path.starts_with("/dev/std")
            && !all.iter().any(|f| source.name.starts_with(&f.log))
        {
            all.push(file(source.name.clone(), path));
        }
    }
    all
}
