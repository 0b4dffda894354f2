//! `local` on a node whose NVML is a stand-in of two GPUs that are none: the screen, the wall, what is recorded, and what
//! is left where NVML answers little or nothing. It says nothing of real GPUs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PROGRAM, Term};

/// A folder with the stand-in, as the driver would have installed it.
pub fn node() -> tempfile::TempDir {
    made(&[])
}

/// With `-D` and such for the compiler.
fn made(args: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pty/nvml.c");
    // What links Rust programs is there where Rust is.
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.path().join("libnvidia-ml.so.1"))
        .arg(source)
        .args(args)
        .status()
        .expect("a C compiler");
    assert!(built.success());
    folder
}

fn local(node: &tempfile::TempDir, args: &str) -> Term {
    local_of(node, "", args)
}

/// On a node with this word for the stand-in.
fn local_of(node: &tempfile::TempDir, word: &str, args: &str) -> Term {
    let folder = node.path().display();
    let line = format!(
        "trap : TERM HUP INT; STANDIN_NODE={folder} STANDIN_NVML={word} LD_LIBRARY_PATH={folder} \"$0\" local {args}; echo code $?; stty -a; echo that was all"
    );
    Term::sh(&line, 120, 60)
}

/// All of these are on screen, blanks between words aside.
fn shows(term: &Term, all: &[&str]) {
    for text in all {
        term.wait(&format!("`{text}`"), |s| flat(&s.contents()).contains(text));
    }
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Ends it, and what it wrote down of the GPUs.
fn report(mut term: Term, file: &Path) -> Vec<serde_json::Value> {
    // Two rounds of samples.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    term.press(":q\r");
    let said = term.restored(0);
    assert!(said.contains("recorded"), "{said}");
    let report = Command::new(PROGRAM)
        .args(["report", "--format", "json"])
        .arg(file)
        .output()
        .expect("runs");
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("a report");
    report["gpus"].as_array().expect("GPUs").clone()
}

#[test]
fn what_local_saw_is_recorded_and_replays() {
    let node = node();
    let file: PathBuf = node.path().join("local.rec");
    let term = local(&node, &format!("--record {}", file.display()));
    term.wait_for("64.4");
    term.wait("the recording mark", |s| s.contents().contains("rec "));
    let gpus = report(term, &file);
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

/// Every field of NVML that `local` reads, in the words of the page about a GPU.
#[test]
fn what_nvml_tells_of_a_gpu_is_on_its_page() {
    let node = node();
    let mut term = local(&node, "");
    term.wait_for("64.4");
    term.press("\r");
    shows(
        &term,
        &[
            "product NVIDIA TEST",
            "driver 570.1",
            "busy 93 %, memory 11 %",
            "temperature 41",
            "power 310 W of 700 W",
            "clock 1410 of 1980 MHz",
            "held down by power cap",
            "ECC errors 0 uncorrectable, 7 corrected",
            "Xid none seen",
            "MIG off",
            "PCIe generation 5, 16 lanes",
            "PROCESSES 4100 62.3 GB VLLM::Worker_4100 4101 - VLLM::Worker_4101",
            "NVLINK 3 of 4 links up link 2 is down",
            "PCIE TOPOLOGY NODE GPU-00000000-0000-0000-0000-000000000001 peer to peer",
        ],
    );
    term.press(":q\r");
    term.restored(0);
}

/// What NVML does not support, or not for this user, is unknown: not zero, not off, not none.
#[test]
fn what_nvml_does_not_tell_is_unknown() {
    let node = node();
    let mut term = local_of(&node, "bare", "");
    term.wait_for("64.4");
    term.press("\r");
    shows(
        &term,
        &[
            "busy -, memory -",
            "temperature -",
            "power - of -",
            "clock -",
            "held down by -",
            "ECC errors - uncorrectable, - corrected",
            "Xid -, nobody is told of them: the requested operation is not available on the target device",
            "MIG -",
            "PCIe -",
        ],
    );
    for absent in ["PROCESSES", "NVLINK", "TOPOLOGY"] {
        assert!(!term.text().contains(absent), "{}", term.text());
    }
    term.press(":q\r");
    term.restored(0);
    let mut term = local_of(&node, "denied", "");
    term.wait_for("64.4");
    term.press("\r");
    shows(
        &term,
        &[
            "Xid -, nobody is told of them: the current user does not have permission to perform this operation",
        ],
    );
    assert!(!term.text().contains("PROCESSES"), "{}", term.text());
    // The other GPU may be watched.
    term.press("\x1b");
    term.wait_for("21.5");
    term.press("j");
    term.press("\r");
    shows(&term, &["000000000001", "Xid none seen"]);
    term.press(":q\r");
    term.restored(0);
}

/// A driver of years ago: what it has no name for is unknown, and nothing falls over.
#[test]
fn an_old_library_tells_what_it_can() {
    let node = made(&["-DOLD"]);
    let file = node.path().join("local.rec");
    let mut term = local(&node, &format!("--record {}", file.display()));
    term.wait_for("not measured");
    term.press("\r");
    shows(
        &term,
        &[
            "used - of -",
            "power 310 W of 700 W",
            "MIG -",
            "PCIe generation 5",
        ],
    );
    let gpus = report(term, &file);
    assert_eq!(gpus.len(), 2, "{gpus:?}");
    assert!(
        gpus.iter()
            .all(|g| g["used_bytes"].is_null() && g["total_bytes"].is_null())
    );
}

#[test]
fn the_parts_of_a_gpu_are_gpus() {
    let node = node();
    let file = node.path().join("local.rec");
    let term = local_of(&node, "mig", &format!("--record {}", file.display()));
    term.wait_for("64.4");
    let gpus = report(term, &file);
    let said = |g: &serde_json::Value| {
        (
            g["uuid"]
                .as_str()
                .map(|u| u.chars().take(3).collect::<String>()),
            g["used_bytes"].as_u64(),
        )
    };
    let mut said: Vec<_> = gpus.iter().map(said).collect();
    said.sort();
    let (gpu, mig) = (
        |n: u64| (Some("GPU".to_owned()), Some(n << 30)),
        (Some("MIG".to_owned()), Some(5 << 30)),
    );
    assert_eq!(said, [gpu(20), gpu(60), mig.clone(), mig]);
}

/// A GPU that falls off the bus, with the Xid that says so; one that is not listed any more; then NVML itself.
#[test]
fn what_vanishes_while_somebody_watches_is_said() {
    let node = node();
    let happens =
        |what: &str, text: &str| std::fs::write(node.path().join(what), text).expect("written");
    let mut term = local(&node, "");
    term.wait_for("64.4");
    term.wait_for("21.5");
    happens("lost.0", "");
    happens("xid.0", "79");
    shows(&term, &["GPU is lost"]);
    term.press("\r");
    shows(&term, &["000000000000", "Xid 79 at"]);
    assert!(!term.text().contains("PROCESSES"), "{}", term.text());
    term.press("\x1b");
    // The other one goes on.
    shows(&term, &["21.5"]);
    assert!(!term.text().contains("no sample"), "{}", term.text());
    happens("gone.1", "");
    shows(&term, &["no longer listed"]);
    term.press(":q\r");
    term.restored(0);
}

#[test]
fn an_nvml_that_falls_silent_is_no_news_of_gpus() {
    let node = node();
    let file = node.path().join("local.rec");
    let term = local(&node, &format!("--record {}", file.display()));
    term.wait_for("64.4");
    std::fs::write(node.path().join("mute"), "").expect("written");
    shows(
        &term,
        &["2 GPUs, no tool may tell what they hold", "NVML: another"],
    );
    let gpus = report(term, &file);
    assert!(gpus.len() == 2 && gpus.iter().all(|g| g["used_bytes"].is_null()));
}

/// One sentence and exit code 2, before the terminal is taken.
#[test]
fn an_nvml_that_does_not_start_is_one_sentence() {
    let node = node();
    for (code, said) in [
        (9, "NVML is here, but the NVIDIA driver is not loaded"),
        (
            4,
            "NVML is here, but this user may not talk to the NVIDIA driver",
        ),
        (
            18,
            "NVML and the NVIDIA driver differ in version: the driver was renewed under a running kernel",
        ),
        (
            999,
            "NVML does not start: an internal driver error occurred",
        ),
    ] {
        let out = Command::new(PROGRAM)
            .arg("local")
            .env("LD_LIBRARY_PATH", node.path())
            .env("STANDIN_NVML", format!("init={code}"))
            .output()
            .expect("runs");
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(err, format!("ncclscope: {said}\n"));
        assert_eq!(out.status.code(), Some(2));
    }
}
