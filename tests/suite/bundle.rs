//! A bundle: everything in one archive, clean, and opened again as it was.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use ncclscope::report::tar;
use ncclscope::sources::recording::is_recording;
use serde_json::Value;

fn ncclscope(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(args)
        .env("NCCLSCOPE_CONFIG", "/nonexistent")
        .output()
        .expect("runs")
}

fn member(bundle: &Path, name: &str) -> String {
    String::from_utf8(bytes(bundle, name)).unwrap()
}

fn bytes(bundle: &Path, name: &str) -> Vec<u8> {
    let archive = zstd::decode_all(std::fs::File::open(bundle).unwrap()).unwrap();
    let mut out = Vec::new();
    tar::find(&archive[..], &format!("ncclscope-bundle/{name}"))
        .unwrap()
        .read_to_end(&mut out)
        .unwrap();
    out
}

#[test]
fn a_bundle_holds_everything_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.tar.zst");
    let out = ncclscope(&[
        "bundle",
        path.to_str().unwrap(),
        "--demo",
        "sockets-inside-host",
    ]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(is_recording(&path), "it is read as its recording is");
    let manifest: Value = serde_json::from_str(&member(&path, "manifest.json")).unwrap();
    let files: Vec<&str> = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    for wanted in [
        "report.json",
        "report.txt",
        "report.md",
        "report.html",
        "recording.jsonl.zst",
        "logs/prod/mixtral-0/vllm.log",
        "pods/prod/mixtral-0.yaml",
        "env.txt",
        "events.jsonl",
        "probes.jsonl",
        "samples.jsonl",
    ] {
        assert!(files.contains(&wanted), "{wanted} in {files:?}");
    }
    assert!(member(&path, "logs/prod/mixtral-0/vllm.log").contains("NCCL INFO"));
    let inside = member(&path, "report.json");
    let again = ncclscope(&["report", path.to_str().unwrap(), "--format", "json"]);
    assert_eq!(
        String::from_utf8_lossy(&again.stdout),
        inside,
        "the same report"
    );
    // tar itself agrees.
    let listed = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "zstd -dc {0} 2>/dev/null | tar -tf - 2>/dev/null || true",
            path.display()
        ))
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).lines().count();
    assert!(
        listed == 0 || listed == files.len() + 1,
        "{listed} of {}",
        files.len() + 1
    );
    let twice = ncclscope(&["bundle", path.to_str().unwrap(), "--demo", "healthy"]);
    assert_eq!(twice.status.code(), Some(2), "what exists is left alone");
    assert!(is_recording(&path));
}

#[test]
fn what_a_bundle_was_unpacked_to_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.tar.zst");
    let demo = [
        "bundle",
        path.to_str().unwrap(),
        "--demo",
        "sockets-inside-host",
    ];
    assert!(ncclscope(&demo).status.success());
    let manifest = member(&path, "manifest.json");
    let listed: Value = serde_json::from_str(&manifest).unwrap();
    let ticket = dir.path().join("ticket");
    let folder = ticket.join("ncclscope-bundle");
    for name in listed["files"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let to = folder.join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes(&path, name)).unwrap();
    }
    std::fs::write(folder.join("manifest.json"), manifest).unwrap();
    // Its folder is the bundle.
    assert!(is_recording(&folder));
    let out = ncclscope(&["report", folder.to_str().unwrap(), "--format", "json"]);
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        member(&path, "report.json")
    );
    // In a folder of logs its logs are what is read, and what it says of them is not read as one more.
    let out = ncclscope(&["report", ticket.to_str().unwrap(), "--format", "json"]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let sources = report["sources"].as_array().unwrap().len();
    let ranks = report["processes"].as_array().unwrap().iter();
    let ranks = ranks.filter(|p| !p["global_rank"].is_null()).count();
    assert_eq!((sources, ranks), (2, 8));
    // A recording beside logs is no log either.
    std::fs::create_dir(ticket.join("more")).unwrap();
    let inner = folder.join("recording.jsonl.zst");
    std::fs::rename(inner, ticket.join("more/run.rec")).unwrap();
    let more = ticket.join("more");
    let out = ncclscope(&["report", more.to_str().unwrap()]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(said.contains("a recording: open it by itself"), "{said}");
}

#[test]
fn a_secret_that_is_named_at_the_end_is_gone_from_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let secret = "q7Wm2Lx9Tz4Rb";
    let log = format!(
        "llm-0:1:1 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>\nlogin with {secret} failed\n\
         again cTdXbTJMeDlUejRSYg== and %71%37%57%6D%32%4C%78%39%54%7A%34%52%62\nHF_TOKEN={secret}\n"
    );
    std::fs::write(logs.join("llm-0.log"), log).unwrap();
    let path = dir.path().join("b");
    let out = ncclscope(&["bundle", path.to_str().unwrap(), logs.to_str().unwrap()]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let archive = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
    let mut texts = vec![archive.clone()];
    let mut inner = Vec::new();
    tar::find(&archive[..], "ncclscope-bundle/recording.jsonl.zst")
        .unwrap()
        .read_to_end(&mut inner)
        .unwrap();
    texts.push(zstd::decode_all(&inner[..]).unwrap());
    for text in texts {
        for gone in [secret, "cTdXbTJMeDlUejRSYg", "%71%37%57"] {
            assert!(
                memchr::memmem::find(&text, gone.as_bytes()).is_none(),
                "{gone} survived"
            );
        }
    }
    let manifest: Value = serde_json::from_str(&member(&path, "manifest.json")).unwrap();
    let taken = manifest["taken"].as_array().unwrap();
    assert!(taken.iter().any(|t| t["name"] == "HF_TOKEN"), "{taken:?}");
    let open = ncclscope(&[
        "bundle",
        dir.path().join("c").to_str().unwrap(),
        logs.to_str().unwrap(),
        "--no-redact",
    ]);
    assert!(open.status.success());
    assert!(member(&dir.path().join("c"), "report.json").contains("ncclscope.report/v1"));
}

#[test]
fn half_a_bundle_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b");
    let out = ncclscope(&["bundle", path.to_str().unwrap(), "/nonexistent/log"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(!path.exists());
}
