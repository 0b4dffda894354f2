//! Every command of the README that needs no cluster is run as it stands there, in a folder that has what it names.
//! Those that do need one are run by `tests/real/readme.rs`.

use std::path::Path;
use std::process::Command;

use super::{PROGRAM, Term, local, shell_quoted};

/// Lines of shell in the README that call the program.
#[path = "../suite/calls.rs"]
mod calls;

/// What is seen of a command, the keys that end it, its exit code.
type Seen = (&'static str, &'static str, &'static str, u8);

/// By what the command begins with.
const LOCAL: &[Seen] = &[
    ("ncclscope open logs/", "overview", ":q\r", 0),
    ("ncclscope open ticket.tar.zst", "overview", ":q\r", 0),
    ("ncclscope local run.log", "64.4", ":q\r", 0),
    (
        "kubectl logs -f llm-0 | ncclscope open -",
        "overview",
        ":q\r",
        0,
    ),
    ("ncclscope report logs/", "ncclscope.report/v1", "", 3),
    ("ncclscope report run.rec", "</html>", "", 3),
    ("ncclscope replay run.rec", "overview", ":q\r", 0),
    ("ncclscope explain", "nccl.same-host-net", "", 0),
    ("ncclscope doctor", "doctor.nvml", "", 1),
    ("ncclscope rbac", "jane", "", 0),
    ("ncclscope config path", "config.yaml", "", 0),
    ("ncclscope demo allreduce-slow-link", "overview", ":q\r", 0),
    ("ncclscope demo healthy sockets", "facts", "q", 0),
    ("cargo run --release -- demo", "overview", ":q\r", 0),
];

/// What the README's commands name.
fn prepare(folder: &Path, node: &Path) {
    let logs = folder.join("logs");
    let bin = folder.join("bin");
    for new in [&logs, &bin] {
        std::fs::create_dir_all(new).expect("a folder");
    }
    let line = "llm-0:100:100 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>\n";
    for name in ["logs/llm-0.log", "run.log"] {
        std::fs::write(folder.join(name), line.repeat(20)).expect("a log");
    }
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, all).expect("a script that runs");
    };
    let program = shell_quoted(Path::new(PROGRAM));
    script("ncclscope", &format!("exec {program} \"$@\""));
    script(
        "kubectl",
        &format!("cat {}", folder.join("run.log").display()),
    );
    // What cargo would run, without building it once more: `run --release --` go.
    script("cargo", &format!("shift 3; exec {program} \"$@\""));
    for args in [
        ["report", "logs", "--record", "run.rec"].as_slice(),
        &["bundle", "ticket.tar.zst", "logs"],
    ] {
        let made = Command::new(PROGRAM)
            .args(args)
            .current_dir(folder)
            .env("LD_LIBRARY_PATH", node)
            .output()
            .expect("runs");
        assert!(made.status.code() < Some(4), "{made:?}");
    }
    for name in ["run.rec", "ticket.tar.zst"] {
        assert!(folder.join(name).exists(), "no {name}");
    }
}

#[test]
fn every_command_of_the_readme_that_needs_no_cluster_runs() {
    let node = local::node();
    let folder = tempfile::tempdir().expect("a folder");
    prepare(folder.path(), node.path());
    let mut used = vec![false; LOCAL.len()];
    for call in calls::all() {
        let found = LOCAL.iter().position(|(begin, ..)| call.starts_with(begin));
        let Some(i) = found else {
            assert!(
                calls::needs_a_cluster(&call),
                "nobody runs `{call}` of the README"
            );
            continue;
        };
        used[i] = true;
        let (_, see, keys, code) = LOCAL[i];
        let line = format!(
            "cd '{folder}'; export PATH='{folder}/bin':\"$PATH\" LD_LIBRARY_PATH='{node}' KUBECONFIG=/nowhere HOME='{folder}'; \
             trap : TERM HUP INT; {call}; echo code $?; stty -a; echo that was all",
            folder = folder.path().display(),
            node = node.path().display(),
        );
        let mut term = Term::sh(&line, 160, 60);
        println!("{call}");
        if keys.is_empty() {
            term.restored(code);
            let raw = String::from_utf8_lossy(&term.shown.0.lock().unwrap().raw).into_owned();
            assert!(raw.contains(see), "no {see} after {call}:\n{raw}");
        } else {
            term.wait_for(see);
            term.press(keys);
            term.restored(code);
        }
    }
    for ((begin, ..), used) in LOCAL.iter().zip(used) {
        assert!(used, "the README no longer has `{begin}`");
    }
}
