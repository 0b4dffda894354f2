//! Every command of the README that asks a cluster is run as it stands there. The others are run by
//! `tests/pty/readme.rs`.

use ncclscope::sources::cluster::{ClusterOptions, Found, find};
use serde_json::json;

use crate::plane::Plane;
use crate::screen::{Screen, nccl_lines};

#[path = "../suite/calls.rs"]
mod calls;

/// What is waited for and the keys pressed then, one after the other; and the exit codes that are right.
type Seen = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [u32],
);

/// By what the command begins with; the first that fits.
const LIVE: &[Seen] = &[
    ("ncclscope -n prod --kiosk", &[("facts", "q")], &[0]),
    ("ncclscope -A --kiosk", &[("facts", "q")], &[0]),
    (
        "ncclscope -n prod --probes never",
        &[("2 pods", ":q\r")],
        &[0],
    ),
    (
        "ncclscope -n prod",
        &[("They only read", "n"), ("2 pods", ":q\r")],
        &[0],
    ),
    ("ncclscope report -n prod", &[], &[0, 1, 3]),
    ("ncclscope wait", &[("communicator", "\x03")], &[130]),
    ("ncclscope bundle", &[], &[0]),
    (
        "ncclscope allreduce -n prod -l app=llm --yes",
        &[("-- created", "\x03")],
        &[130],
    ),
    ("ncclscope allreduce -n prod --clean", &[], &[0]),
    ("ncclscope allreduce", &[("[y/N]", "n\r")], &[2]),
];

pub async fn every_command_of_the_readme_runs(p: &Plane) {
    p.namespace("prod").await;
    let folder = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    for rank in 0..2 {
        std::fs::write(
            logs.path().join(format!("llm-{rank}.log")),
            nccl_lines(rank),
        )
        .unwrap();
    }
    let note = json!({"cplane.test/log": json!({"file": logs.path().join("{pod}.log"), "rate": 100}).to_string()});
    p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "llm", "namespace": "prod"}, "spec": {
        "replicas": 2, "serviceName": "llm", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "llm"}},
        "template": {"metadata": {"labels": {"app": "llm"}, "annotations": note}, "spec": {"containers": [
            {"name": "vllm", "image": "vllm:1"}]}}}}))
        .await;
    let kubeconfig = p.kubeconfig("admin");
    for call in calls::all() {
        if !calls::needs_a_cluster(&call) {
            continue;
        }
        let (_, steps, codes) = LIVE
            .iter()
            .find(|(begin, ..)| call.starts_with(begin))
            .unwrap_or_else(|| panic!("nobody runs `{call}` of the README"));
        println!("  {call}");
        // Nothing is overwritten: one ticket at a time.
        if call.contains("ticket.tar.zst") {
            let _ = std::fs::remove_file(folder.path().join("ticket.tar.zst"));
        }
        let words: Vec<&str> = call.split_whitespace().skip(1).collect();
        let mut screen = Screen::start_in(&words, folder.path(), &kubeconfig);
        for (see, keys) in *steps {
            screen.until(see, |s| s.contains(see)).await;
            screen.key(keys);
        }
        let code = screen.code(60).await;
        assert!(codes.contains(&code), "{call} ended with {code}");
    }
    for name in ["run.rec", "ticket.tar.zst"] {
        assert!(folder.path().join(name).exists(), "no {name}");
    }
}

/// A wall goes round several namespaces, or the workloads that it was given; what one may not read is said.
pub async fn a_wall_goes_round_namespaces_and_workloads(p: &Plane) {
    for (ns, names) in [("wall-a", ["one", "two"]), ("wall-b", ["three", "four"])] {
        p.namespace(ns).await;
        for name in names {
            p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": ns}, "spec": {
                "replicas": 1, "serviceName": name, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                    {"name": "vllm", "image": "vllm:1"}]}}}}))
                .await;
        }
    }
    let options = ClusterOptions {
        namespaces: vec!["wall-a".into(), "wall-b".into()],
        pick: true,
        ..p.options("admin", "default")
    };
    let link = p.link(&options).await;
    let list = async |only: &[&str]| {
        let options = ClusterOptions {
            only: only.iter().map(|o| (*o).to_owned()).collect(),
            ..options.clone()
        };
        let Found::Choice(all, refused) = find(&link, &options).await.unwrap() else {
            panic!("a choice is asked for");
        };
        assert!(refused.is_empty(), "{refused:?}");
        let mut names: Vec<String> = all
            .iter()
            .map(|w| format!("{}/{}/{}", w.namespace, w.kind, w.name))
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        list(&[]).await,
        [
            "wall-a/sts/one",
            "wall-a/sts/two",
            "wall-b/sts/four",
            "wall-b/sts/three"
        ]
    );
    let some = [
        "two",
        "wall-b/statefulset/four",
        "wall-b/one",
        "deploy/three",
    ];
    assert_eq!(list(&some).await, ["wall-a/sts/two", "wall-b/sts/four"]);
    let folder = tempfile::tempdir().unwrap();
    let args = "--kiosk --kiosk-namespaces wall-a,wall-b --kiosk-workloads one,sts/four --kiosk-panes pods --kiosk-each 2";
    let args: Vec<&str> = args.split_whitespace().collect();
    let mut screen = Screen::start_in(&args, folder.path(), &p.kubeconfig("admin"));
    for (turn, pod) in [
        ("1 of 2", "one-0"),
        ("2 of 2", "four-0"),
        ("1 of 2", "one-0"),
    ] {
        screen
            .until(turn, |s| s.contains(turn) && s.contains(pod))
            .await;
    }
    screen.key("q");
    assert_eq!(screen.code(10).await, 0);
}
