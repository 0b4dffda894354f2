//! The verbs that need no screen, as a script runs them.

use std::io::Read as _;
use std::path::Path;
use std::process::Output;

use ncclscope::report::tar;
use serde_json::{Value, json};

use crate::plane::{Plane, eventually, pod};
use crate::screen::two_ranks;

/// Runs the program to its end.
async fn ncclscope(p: &Plane, user: &str, ns: &str, args: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"));
    command
        .args(args)
        .arg("--kubeconfig")
        .arg(p.kubeconfig(user))
        .args(["-n", ns])
        .env("NCCLSCOPE_CONFIG", "/nonexistent")
        .stdin(std::process::Stdio::null());
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub async fn wait_blocks_until_it_is_so(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    two_ranks(p, "waited", dir.path()).await;
    let wait = async |args: &[&str]| {
        let out = ncclscope(p, "admin", "waited", &[&["wait"], args].concat()).await;
        (out.status.code(), text(&out.stderr))
    };
    // From before the first line until the communicator is complete.
    let (code, said) = wait(&["--for", "nccl", "--workload", "llm", "--timeout", "1m"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("reached: "), "{said}");
    // What does not come is not waited for longer than it was said.
    let (code, said) = wait(&["--for", "serving", "--workload", "llm", "--timeout", "2s"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not within the time-out: "), "{said}");
    // What does not exist can't be waited for.
    let (code, said) = wait(&[
        "--for",
        "nccl",
        "--workload",
        "sts/other",
        "--timeout",
        "10s",
    ])
    .await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("there is no sts/other in namespace waited; there is sts/llm"),
        "{said}"
    );
    // A rank that runs out of memory ends it for all.
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join("llm-1.log"))
        .unwrap();
    use std::io::Write as _;
    writeln!(
        file,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.06 GiB is free."
    )
    .unwrap();
    drop(file);
    eventually("the line", async || {
        let told = json!({"cmd": "log-count", "namespace": "waited", "pod": "llm-1"});
        p.tell(&told)["lines"].as_u64().unwrap() >= 9
    })
    .await;
    p.tell(&json!({"cmd": "container-exit", "namespace": "waited", "pod": "llm-1", "exit": 1}));
    let (code, said) = wait(&["--for", "failed", "--workload", "llm", "--timeout", "1m"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = wait(&["--for", "serving", "--workload", "llm", "--timeout", "1m"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("can no longer be reached: "), "{said}");
}

fn member(bundle: &Path, name: &str) -> String {
    let archive = zstd::decode_all(std::fs::File::open(bundle).unwrap()).unwrap();
    let mut out = String::new();
    tar::find(&archive[..], &format!("ncclscope-bundle/{name}"))
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .read_to_string(&mut out)
        .unwrap();
    out
}

pub async fn a_bundle_keeps_what_is_deleted_with_the_pods(p: &Plane) {
    const SECRET: &str = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789";
    let ns = "bundled";
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("before.log");
    std::fs::write(
        &before,
        format!("Loading weights with token {SECRET}\nRuntimeError: the old run's end\n"),
    )
    .unwrap();
    p.namespace(ns).await;
    let plan =
        json!({"restarts": 2, "last": {"exit": 1, "reason": "Error", "ago": "1m", "log": before}})
            .to_string();
    let log = json!({"generate": 5, "prefix": "line of the new run "}).to_string();
    let mut one = pod(
        ns,
        "llm-0",
        json!({"app": "llm"}),
        json!({"cplane.test/plan": plan, "cplane.test/log": log}),
    );
    one["spec"]["containers"][0]["env"] = json!([
        {"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "HF_TOKEN", "value": SECRET}]);
    let mut waits = pod(ns, "llm-1", json!({"app": "llm"}), json!({}));
    waits["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "9"}});
    p.pods(vec![one, waits]).await;
    eventually("the pods", async || {
        let pods = p.api(ns).list(&Default::default()).await.unwrap();
        let settled = |p: &k8s_openapi::api::core::v1::Pod| {
            let status = p.status.as_ref()?;
            let running = status.phase.as_deref() == Some("Running");
            let refused = status
                .conditions
                .iter()
                .flatten()
                .any(|c| c.reason.as_deref() == Some("Unschedulable"));
            (running || refused).then_some(())
        };
        pods.items.iter().filter(|p| settled(p).is_some()).count() == 2
    })
    .await;
    let path = dir.path().join("b.tar.zst");
    let out = ncclscope(
        p,
        "admin",
        ns,
        &["bundle", path.to_str().unwrap(), "-l", "app=llm"],
    )
    .await;
    assert!(out.status.success(), "{}", text(&out.stderr));
    let manifest: Value = serde_json::from_str(&member(&path, "manifest.json")).unwrap();
    let files: Vec<&str> = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    // The run that is, and the one before, which the API server forgets with the pod.
    let logs: Vec<&&str> = files.iter().filter(|f| f.starts_with("logs/")).collect();
    let all: String = logs.iter().map(|f| member(&path, f)).collect();
    for wanted in ["line of the new run 4", "RuntimeError: the old run's end"] {
        assert!(all.contains(wanted), "{wanted}: {files:?}\n{all}");
    }
    assert!(member(&path, "events.jsonl").contains("FailedScheduling"));
    assert!(member(&path, "nodes.jsonl").contains("nvidia.com/gpu"));
    let report = member(&path, "report.json");
    assert!(report.contains("pod.pending"), "{report}");
    for file in &files {
        if !file.ends_with(".zst") {
            assert!(!member(&path, file).contains(SECRET), "{file}");
        }
    }
    // It is looked at afterwards as the cluster was, without one.
    let again = tokio::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["report", path.to_str().unwrap(), "--format", "json"])
        .output()
        .await
        .unwrap();
    assert_eq!(text(&again.stdout), report);
}

pub async fn doctor_says_what_is_missing(p: &Plane) {
    let ns = "doctored";
    p.namespace(ns).await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "look", "namespace": ns},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]}))
        .await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "look", "namespace": ns},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "observer"}]}))
        .await;
    let doctor = async |user: &str| {
        let out = ncclscope(p, user, ns, &["doctor", "--format", "json"]).await;
        let said: Value = serde_json::from_str(&text(&out.stdout)).unwrap();
        (
            out.status.code(),
            said["checks"].as_array().unwrap().clone(),
        )
    };
    let is = |lines: &[Value], id: &str| {
        let line = lines.iter().find(|l| l["id"] == id);
        line.unwrap_or_else(|| panic!("{id}: {lines:?}")).clone()
    };
    let (code, lines) = doctor("admin").await;
    assert_eq!(code, Some(0), "{lines:?}");
    let cluster: Vec<&Value> = lines
        .iter()
        .filter(|l| {
            l["id"].as_str().unwrap().starts_with("doctor.rbac.") || l["id"] == "doctor.reach"
        })
        .collect();
    assert!(cluster.len() > 10);
    assert!(
        cluster.iter().all(|l| l["verdict"] == "pass"),
        "{cluster:?}"
    );
    // Someone with pods in one namespace and nothing else.
    let mut last = Vec::new();
    eventually("the binding", async || {
        last = doctor("observer").await.1;
        is(&last, "doctor.rbac.observe.pods")["verdict"] == "pass"
    })
    .await;
    let log = is(&last, "doctor.rbac.observe.pods-log");
    assert_eq!(log["verdict"], "fail");
    assert_eq!(log["found"], "not allowed to get pods/log in doctored");
    assert_eq!(
        log["fix"],
        "ncclscope rbac observe -n doctored | kubectl apply -f -"
    );
    let nodes = is(&last, "doctor.rbac.observe.nodes");
    assert_eq!(nodes["verdict"], "warn", "something is left without them");
    assert!(nodes["found"].as_str().unwrap().ends_with("in the cluster"));
    // A token that has ended.
    let (code, lines) = doctor("expired").await;
    assert_eq!(code, Some(1));
    let reach = is(&lines, "doctor.reach");
    assert_eq!(reach["verdict"], "fail");
    assert!(reach["found"].as_str().unwrap().contains("401"), "{reach}");
}
