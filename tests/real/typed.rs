//! The one question that is answered with a word: the test inside the workload's own pods.

use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use serde_json::json;

use crate::plane::Plane;
use crate::screen::Screen;

/// A stateful set of one pod that does not serve, in which these tools stand.
async fn workload(p: &Plane, ns: &str, tools: &std::path::Path) {
    p.namespace(ns).await;
    let notes = json!({
        "cplane.test/exec-dir": tools.to_str().unwrap(),
        "cplane.test/plan": json!({"ready": false}).to_string(),
    });
    let container = json!({
        "name": "vllm", "image": "vllm:1",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
    });
    let template = json!({
        "metadata": {"labels": {"app": "llm"}, "annotations": notes},
        "spec": {"nodeName": "gpu-1", "terminationGracePeriodSeconds": 0, "containers": [container]},
    });
    p.create(json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "llm", "namespace": ns},
        "spec": {"replicas": 1, "serviceName": "llm", "selector": {"matchLabels": {"app": "llm"}}, "template": template},
    }))
    .await;
}

/// Refused where a GPU has no room; asked for with the workload's name, which leaving or another word is not; then it
/// runs in the pod with small buffers, and nothing is created.
pub async fn a_test_inside_the_pods_wants_the_name_typed(p: &Plane) {
    let ns = "allreduce-inside";
    let dir = tempfile::tempdir().unwrap();
    let tool = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool(
        "nvidia-smi",
        "#!/bin/sh\ncase \"$*\" in *memory.free*) cat \"$0.free\";; *) exit 9;; esac\n",
    );
    tool(
        "python3",
        "#!/bin/sh\n[ \"$NCCLSCOPE_RUN\" ] || exit 1\nenv | grep -e ^NCCLSCOPE -e ^NCCL_ >\"$0.ran\"\n",
    );
    let free = dir.path().join("nvidia-smi.free");
    let ran = dir.path().join("python3.ran");
    std::fs::write(&free, "1000\n").unwrap();
    workload(p, ns, dir.path()).await;
    let kubeconfig = p.kubeconfig("admin");
    let mut screen = Screen::start(&[
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--probes",
        "always",
        "-n",
        ns,
        "llm",
    ]);
    screen.has_one_pod().await;
    screen.key("1");
    screen
        .until("it runs", |s| {
            s.lines()
                .any(|l| l.contains("llm-0") && l.contains("Running"))
        })
        .await;
    screen.key(":allreduce --inside\r");
    screen
        .until("the refusal", |s| s.contains("1000 MiB are free"))
        .await;
    std::fs::write(&free, "60000\n").unwrap();
    // In the footer, where it is typed.
    let typing = |s: &str| {
        s.lines()
            .last()
            .is_some_and(|l| l.trim_start().starts_with('>'))
    };
    for word in ["lln", "llm"] {
        screen.key(":allreduce --inside\r");
        screen
            .until("the question", |s| s.contains("then type llm to go on"))
            .await;
        screen.key("y");
        screen.until("the word is typed", typing).await;
        if word == "llm" {
            break;
        }
        screen.key(&format!("{word}\r"));
        screen
            .until("another word is no yes", |s| s.contains("or press esc"))
            .await;
        screen.key("\x1b");
        screen
            .until("leaving it is a no", |s| {
                s.contains("declined") && !s.contains("then type")
            })
            .await;
        assert!(!ran.exists(), "it ran all the same");
    }
    screen.key("llm\r");
    screen.key("7");
    screen.until("it is over", |s| s.contains("done")).await;
    let env = std::fs::read_to_string(&ran).unwrap();
    for set in [
        "NCCLSCOPE_MAX_BYTES=16777216",
        "NCCLSCOPE_NEED_GPUS=1",
        "NCCL_DEBUG=INFO",
    ] {
        assert!(env.lines().any(|l| l == set), "{set} is not in {env}");
    }
    let jobs: Api<Job> = Api::namespaced(p.admin.clone(), ns);
    assert!(
        jobs.list(&Default::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    screen.key(":q\r");
    screen.ended().await;

    // The same on the command line, where no `--yes` stands for the name.
    std::fs::remove_file(&ran).unwrap();
    let asked = [
        "allreduce",
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "-n",
        ns,
        "llm",
        "--inside",
        "--yes",
    ];
    let unattended = std::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(asked)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&unattended.stderr);
    assert_eq!(unattended.status.code(), Some(2), "{said}");
    assert!(said.contains("typed at a terminal"), "{said}");
    for word in ["lln", "llm"] {
        let mut screen = Screen::start(&asked);
        screen
            .until("the question", |s| s.contains("Type llm to go on"))
            .await;
        screen.key(&format!("{word}\r"));
        let code = screen.code(60).await;
        assert_eq!(ran.exists(), word == "llm", "{word}");
        // What ran said nothing that could be graded.
        assert_eq!(code, if word == "llm" { 3 } else { 2 }, "{word}");
    }
}
