//! `local` on a node whose NVML is a stub of two GPUs: the screen, the wall, and what is recorded.

use std::path::PathBuf;
use std::process::Command;

use super::{PROGRAM, Term};

/// A folder with the stub, as the driver would have installed it.
pub fn node() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pty/nvml.c");
    // What links Rust programs is there where Rust is.
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.path().join("libnvidia-ml.so.1"))
        .arg(source)
        .status()
        .expect("a C compiler");
    assert!(built.success());
    std::fs::copy(
        folder.path().join("libnvidia-ml.so.1"),
        folder.path().join("libnvidia-ml.so"),
    )
    .expect("copied");
    folder
}

fn local(node: &tempfile::TempDir, args: &str) -> Term {
    let folder = node.path().display();
    let line = format!(
        "trap : TERM HUP INT; LD_LIBRARY_PATH={folder} \"$0\" local {args}; echo code $?; stty -a; echo that was all"
    );
    Term::sh(&line, 120, 40)
}

#[test]
fn what_local_saw_is_recorded_and_replays() {
    let node = node();
    let file: PathBuf = node.path().join("local.rec");
    let mut term = local(&node, &format!("--record {}", file.display()));
    term.wait_for("64.4");
    term.wait("the recording mark", |s| s.contents().contains("rec "));
    // Two rounds of samples.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    term.press(":q\r");
    let said = term.restored(0);
    assert!(said.contains("recorded"), "{said}");
    let report = Command::new(PROGRAM)
        .args(["report", "--format", "json"])
        .arg(&file)
        .output()
        .expect("runs");
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("a report");
    let gpus = report["gpus"].as_array().expect("GPUs");
    let used: Vec<u64> = gpus
        .iter()
        .filter_map(|g| g["used_bytes"].as_u64())
        .collect();
    assert_eq!(used, [60 << 30, 20 << 30], "{gpus:?}");
    let mut term = Term::program(&format!("replay --pane vram {}", file.display()), 120, 40);
    term.wait_for("64.4");
    term.press(":q\r");
    term.restored(0);
}

#[test]
fn a_node_is_a_wall_without_a_cluster() {
    let node = node();
    let mut term = local(&node, "--kiosk --kiosk-panes vram --kiosk-each 1");
    term.wait_for("64.4");
    term.press("j?:8 ");
    term.press("q");
    term.restored(0);
}
