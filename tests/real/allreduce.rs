//! The all-reduce test on a real API server: created as shown, streamed, removed in each way of ending.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::plane::{Plane, Request, eventually, pod};
use crate::screen::nccl_lines;

/// The program with its output in files.
struct Program {
    child: Child,
    folder: tempfile::TempDir,
}

impl Program {
    fn start(p: &Plane, user: &str, ns: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
            .args(["allreduce", "-n", ns, "-l", "app=llm"])
            .arg("--kubeconfig")
            .arg(p.kubeconfig(user))
            .args(args)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn text(&self, name: &str) -> String {
        let path: PathBuf = Path::new(self.folder.path()).join(name);
        std::fs::read_to_string(path).unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    async fn says(&self, what: &str) {
        eventually(what, async || self.text("err").contains(what)).await;
    }

    async fn ends(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("the program ends", async || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        })
        .await;
        code.and_then(|c| c.code())
    }
}

/// Pods of a workload, one on each node, whatever the scheduler thinks of it.
pub async fn workload(p: &Plane, ns: &str, nodes: &[&str], gpus: u32) {
    p.namespace(ns).await;
    let pods = nodes.iter().enumerate().map(|(i, node)| {
        let mut pod = pod(ns, &format!("llm-{i}"), json!({"app": "llm"}), json!({}));
        pod["spec"]["nodeName"] = json!(node);
        pod["spec"]["containers"][0]["resources"] =
            json!({"limits": {"nvidia.com/gpu": gpus.to_string()}});
        pod
    });
    p.pods(pods.collect()).await;
}

fn ours() -> ListParams {
    ListParams::default().labels("ncclscope/run")
}

/// What is left of any test in the namespace.
pub async fn left(p: &Plane, ns: &str) -> usize {
    let jobs: Api<Job> = Api::namespaced(p.admin.clone(), ns);
    let services: Api<Service> = Api::namespaced(p.admin.clone(), ns);
    let maps: Api<ConfigMap> = Api::namespaced(p.admin.clone(), ns);
    jobs.list(&ours()).await.unwrap().items.len()
        + services.list(&ours()).await.unwrap().items.len()
        + maps.list(&ours()).await.unwrap().items.len()
        + p.api(ns).list(&ours()).await.unwrap().items.len()
}

pub async fn workload_is_untouched(p: &Plane, ns: &str, pods: usize) {
    let own = ListParams::default().labels("app=llm");
    assert_eq!(p.api(ns).list(&own).await.unwrap().items.len(), pods);
}

/// Everything in `part` is in `whole`, lists in their order.
fn within(part: &Value, whole: &Value, at: &str) {
    match (part, whole) {
        (Value::Object(a), Value::Object(b)) => {
            for (k, v) in a {
                let inner = format!("{at}.{k}");
                within(
                    v,
                    b.get(k)
                        .unwrap_or_else(|| panic!("{inner} was not created")),
                    &inner,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                within(a, b, &format!("{at}[{i}]"));
            }
        }
        _ => assert_eq!(part, whole, "{at}"),
    }
}

/// The objects are those that were shown; rows come out; a finished test leaves nothing.
pub async fn a_test_is_what_was_shown_and_leaves_nothing(p: &Plane) {
    let ns = "allreduce-whole";
    workload(p, ns, &["gpu-1", "gpu-2"], 1).await;
    let kept = tempfile::tempdir().unwrap();
    let recording = kept.path().join("test.rec");
    let record = ["--yes", "--record", recording.to_str().unwrap()];
    let mut program = Program::start(p, "admin", ns, &record);
    let pods = p.api(ns);
    let mut running: Vec<String> = Vec::new();
    eventually("both pods of the test run", async || {
        let list = pods.list(&ours()).await.unwrap().items;
        let runs = |p: &&Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        running = list
            .iter()
            .filter(runs)
            .map(|p| p.metadata.name.clone().unwrap())
            .collect();
        running.len() == 2
    })
    .await;
    let jobs: Api<Job> = Api::namespaced(p.admin.clone(), ns);
    let job = jobs.list(&ours()).await.unwrap().items.remove(0);
    let name = job.metadata.name.clone().unwrap();
    let service: Service = Api::namespaced(p.admin.clone(), ns)
        .get(&name)
        .await
        .unwrap();
    let map: ConfigMap = Api::namespaced(p.admin.clone(), ns)
        .get(&name)
        .await
        .unwrap();
    for owners in [
        &service.metadata.owner_references,
        &map.metadata.owner_references,
    ] {
        let owner = &owners.as_ref().expect("an owner")[0];
        assert_eq!(
            (&owner.kind, Some(&owner.uid)),
            (&"Job".to_owned(), job.metadata.uid.as_ref())
        );
    }
    let shown = program.text("err");
    let (shown, _) = shown.split_once("\n-- planned").expect("a phase");
    let mut documents = shown.split("\n---\n");
    let mut next =
        || -> Value { serde_yaml::from_str(documents.next().expect("a document")).unwrap() };
    within(&next(), &serde_json::to_value(&job).unwrap(), "job");
    within(&next(), &serde_json::to_value(&service).unwrap(), "service");
    assert!(map.data.unwrap()["allreduce.py"].starts_with("#!/usr/bin/env python3"));
    // Placed on the workload's nodes.
    let list = pods.list(&ours()).await.unwrap().items;
    let mut nodes: Vec<_> = list
        .iter()
        .filter_map(|p| p.spec.as_ref()?.node_name.clone())
        .collect();
    nodes.sort();
    assert_eq!(nodes, ["gpu-1", "gpu-2"]);
    // What runs there is played: a row, then the end.
    let run = name.rsplit('-').next().unwrap();
    let row = json!({"v": 1, "t": 1, "run": run, "rank": 0, "step": "sweep", "status": "row", "dtype": "float32",
        "bytes": 1 << 20, "count": 1 << 18, "world": 2, "iters": 20, "us": 10.0, "us_min": 9.0, "us_max": 11.0,
        "slowest": 1, "algbw": 12.5, "busbw": 12.5, "wrong": 0});
    let token = "hf_abcdefghijklmnopqrstuvwxyz0123456789";
    let why = json!({"why": format!("HF_TOKEN={token} was refused \u{1b}]0;x\u{7}")});
    let lines = [
        said(run, 0, "pynccl", "skip", &why),
        format!("#ncclscope {row}"),
    ];
    p.tell(&json!({"cmd": "log-append", "namespace": ns, "pod": running[0], "lines": lines}));
    eventually("the row is printed", async || {
        program.text("out").contains("1 MiB")
    })
    .await;
    for pod in &running {
        p.tell(&json!({"cmd": "container-exit", "namespace": ns, "pod": pod, "exit": 0}));
    }
    assert_eq!(program.ends().await, Some(3), "{}", program.text("err"));
    // What was seen of it can be seen again.
    let report = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["report", "--format", "json"])
        .arg(&recording)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let test = &report["tests"][0];
    assert_eq!(test["rows"][0]["bytes"], 1 << 20, "{test}");
    assert_eq!(test["rows"][0]["busbw"], 12.5, "{test}");
    // What pods say goes out without secrets, and without what a terminal would obey.
    let err = program.text("err");
    assert!(err.contains("-- pynccl left out: HF_TOKEN="), "{err}");
    assert!(!err.contains(token) && !err.contains('\u{1b}'), "{err}");
    // The workload's logs are empty: that is said, and nothing is made of it.
    let unknown = "the workload's own transports are not known";
    assert!(
        program.text("err").contains(unknown),
        "{}",
        program.text("err")
    );
    let out = program.text("out");
    assert_eq!(
        out.matches("1 MiB").count(),
        2,
        "a row and the verdict: {out}"
    );
    assert_eq!(left(p, ns).await, 0);
    workload_is_untouched(p, ns, 2).await;
}

/// Waits until so many pods of a test run; their names in order.
pub async fn running(p: &Plane, ns: &str, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    eventually("the pods of the test run", async || {
        let runs = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let list = p.api(ns).list(&ours()).await.unwrap().items;
        names = list
            .into_iter()
            .filter(runs)
            .filter_map(|p| p.metadata.name)
            .collect();
        names.len() == count
    })
    .await;
    names.sort();
    names
}

/// A line of the script in the pods of a run.
fn said(run: &str, rank: u32, step: &str, status: &str, more: &Value) -> String {
    let mut line =
        json!({"v": 1, "t": 1, "run": run, "rank": rank, "step": step, "status": status});
    let fields = line.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    format!("#ncclscope {line}")
}

/// The exit code is the grade: 0 good, 1 below and 1 for a wrong result; beside it stands what the workload's own
/// transports can give, read from its logs. Settings that come from a ConfigMap are the test's, too.
pub async fn a_test_is_graded_beside_the_workload(p: &Plane) {
    let ns = "allreduce-graded";
    p.namespace(ns).await;
    let logs = tempfile::tempdir().unwrap();
    let data = json!({"NCCL_IB_TC": "106", "HF_TOKEN": "hf_x"});
    p.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tuning", "namespace": ns}, "data": data}))
        .await;
    let pods = (0..2).map(|rank| {
        let name = format!("llm-{rank}");
        let file = logs.path().join(&name);
        std::fs::write(&file, nccl_lines(rank)).unwrap();
        let notes = json!({"cplane.test/log-file": file.to_str().unwrap()});
        let mut pod = pod(ns, &name, json!({"app": "llm"}), notes);
        pod["spec"]["nodeName"] = json!(format!("gpu-{}", rank + 1));
        let container = &mut pod["spec"]["containers"][0];
        container["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
        container["envFrom"] = json!([{"configMapRef": {"name": "tuning"}}]);
        pod
    });
    p.pods(pods.collect()).await;
    for (busbw, wrong, exit, code, says) in [
        (1.05, 0, 0, 0, "good: "),
        (0.4, 0, 0, 1, "below: "),
        (1.05, 7, 19, 1, "\"grade\":\"wrong\""),
    ] {
        let args: &[&str] = match wrong {
            0 => &["--yes"],
            _ => &["--yes", "--format", "json"],
        };
        let mut program = Program::start(p, "admin", ns, args);
        let names = running(p, ns, 2).await;
        let job = names[0]
            .rsplit_once('-')
            .and_then(|(n, _)| n.rsplit_once('-'));
        let (job, _) = job.unwrap();
        let run = job.rsplit('-').next().unwrap();
        let mut lines = Vec::new();
        for rank in 0..2 {
            let net = json!({"eth0": {"mtu": 1500, "mbps": 10_000}});
            let facts = json!({"node": format!("gpu-{}", rank + 1), "ib": {}, "net": net});
            lines.push(said(run, rank, "env", "ok", &facts));
            let gpu = json!({"name": "NVIDIA H100 80GB HBM3"});
            lines.push(said(run, rank, "gpus", "ok", &gpu));
        }
        lines.push(said(run, 0, "sweep", "row", &json!({
            "dtype": "float32", "bytes": 1 << 30, "count": 1 << 28, "world": 2, "iters": 20, "us": 1e6, "us_min": 9e5,
            "us_max": 1e6, "slowest": 1, "algbw": busbw, "busbw": busbw, "wrong": wrong})));
        lines.push(said(run, 0, "pairs", "pair", &json!({
            "turn": 1, "a": 0, "b": 1, "by": "nccl", "bytes": 1 << 26, "busbw": busbw, "wrong": wrong})));
        let append = |pod: &str, lines: &[String]| {
            p.tell(&json!({"cmd": "log-append", "namespace": ns, "pod": pod, "lines": lines}));
        };
        append(&names[0], &lines);
        for (rank, name) in (0..).zip(&names) {
            let words = nccl_lines(rank).replace("llm-", "test-");
            let words: Vec<String> = words.lines().map(str::to_owned).collect();
            append(name, &words);
        }
        if busbw > 1.0 && wrong == 0 {
            let job = Api::<Job>::namespaced(p.admin.clone(), ns).get(job).await;
            let env = serde_json::to_value(job.unwrap()).unwrap();
            let env = &env["spec"]["template"]["spec"]["containers"][0]["env"];
            let from = json!({"configMapKeyRef": {"name": "tuning", "key": "NCCL_IB_TC"}});
            let taken = json!({"name": "NCCL_IB_TC", "valueFrom": from});
            assert!(env.as_array().unwrap().contains(&taken), "{env}");
            assert!(!env.to_string().contains("HF_TOKEN"), "{env}");
        }
        eventually("the row is printed", async || {
            let out = program.text("out");
            out.contains("1 GiB") || out.contains("1073741824")
        })
        .await;
        for pod in &names {
            p.tell(&json!({"cmd": "container-exit", "namespace": ns, "pod": pod, "exit": exit}));
        }
        assert_eq!(program.ends().await, Some(code), "{}", program.text("err"));
        let (out, err) = (program.text("out"), program.text("err"));
        assert!(out.contains(says), "{out}");
        if wrong == 0 {
            assert!(out.contains("pair       gpu-1 to gpu-2: "), "{out}");
            let same = "between hosts: the workload uses TCP sockets (2), the test TCP sockets (2): the same";
            assert!(err.contains(same), "{err}");
            let beside = " The workload goes the same way.\n";
            assert!(out.contains(beside), "{out}");
        } else {
            let verdict: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
            assert_eq!(verdict["workload"], 1.1, "{verdict}");
            let places = &verdict["transports"];
            assert_eq!(places[0]["workload"]["TCP sockets"], 2, "{places}");
        }
        assert_eq!(left(p, ns).await, 0);
    }
    workload_is_untouched(p, ns, 2).await;
}

/// A dry run prints what would be created, warns, and creates nothing, even where everything is locked.
pub async fn a_dry_run_prints_and_creates_nothing(p: &Plane) {
    let ns = "allreduce-dry";
    workload(p, ns, &["gpu-1"], 1).await;
    for (args, warns) in [
        (
            ["--priority-class", "system-node-critical"],
            Some("can push other pods"),
        ),
        (
            ["--priority-class", "of-nobody"],
            Some("has no priority class of-nobody"),
        ),
        (["--deadline", "60"], None),
    ] {
        let (_, from) = p.audit(0);
        let all = [&["--dry-run", "--read-only"], args.as_slice()].concat();
        let mut program = Program::start(p, "admin", ns, &all);
        assert_eq!(program.ends().await, Some(0), "{}", program.text("err"));
        let err = program.text("err");
        match warns {
            Some(words) => assert!(err.contains(words), "{err}"),
            None => assert!(!err.contains("priority class"), "{err}"),
        }
        let shown = program.text("out");
        let kinds: Vec<Value> = shown
            .split("\n---\n")
            .map(|d| serde_yaml::from_str::<Value>(d).unwrap()["kind"].clone())
            .collect();
        assert_eq!(kinds, ["Job", "Service", "ConfigMap"]);
        let (requests, _) = p.audit(from);
        let changes = |r: &&Request| !matches!(r.verb.as_str(), "get" | "list" | "watch");
        assert_eq!(requests.iter().find(changes), None);
        assert_eq!(left(p, ns).await, 0);
    }
}

/// A queue holds the Job back: who, is said, and when it lets go the test goes on.
pub async fn a_queue_that_holds_a_test_is_named(p: &Plane) {
    let ns = "allreduce-queue";
    p.namespace(ns).await;
    let labels = json!({"app": "llm", "kueue.x-k8s.io/queue-name": "gpus"});
    let mut one = pod(ns, "llm-0", labels, json!({}));
    one["spec"]["nodeName"] = json!("gpu-2");
    p.pods(vec![one]).await;
    let mut program = Program::start(p, "admin", ns, &["--yes", "--gpus", "0"]);
    program
        .says("-- queued: the Job is suspended until Kueue queue gpus admits it")
        .await;
    // What Kueue does when there is room.
    let jobs: Api<Job> = Api::namespaced(p.admin.clone(), ns);
    let job = jobs.list(&ours()).await.unwrap().items.remove(0);
    let admit = Patch::Merge(json!({"spec": {"suspend": false}}));
    jobs.patch(&job.metadata.name.unwrap(), &PatchParams::default(), &admit)
        .await
        .unwrap();
    program.says("-- starting").await;
    program.signal("-INT");
    assert_eq!(program.ends().await, Some(130));
    assert_eq!(left(p, ns).await, 0);
}

/// Images without torch: this very program comes into the waiting pod over exec, whole, and the pod's last words say
/// why it could not run.
pub async fn the_worker_is_handed_into_the_waiting_pod(p: &Plane) {
    let ns = "allreduce-worker";
    workload(p, ns, &["gpu-2"], 1).await;
    // The pretend node has no file system of its own: the pod's folder is one of this machine.
    let folder = Path::new("/tmp/ncclscope-worker");
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir(folder).unwrap();
    let mut program = Program::start(p, "admin", ns, &["--yes", "--worker"]);
    let names = running(p, ns, 1).await;
    let handed = folder.join("ncclscope");
    eventually("the worker is there", async || handed.exists()).await;
    let own = std::fs::read(env!("CARGO_BIN_EXE_ncclscope")).unwrap();
    assert!(std::fs::read(&handed).unwrap() == own, "not the same bytes");
    let mode = std::fs::metadata(&handed).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
    std::fs::remove_dir_all(folder).unwrap();
    let words = "ncclscope worker: libnccl is not here: the image brings no NCCL";
    p.tell(&json!({"cmd": "container-exit", "namespace": ns, "pod": names[0], "exit": 2, "message": words}));
    assert_eq!(program.ends().await, Some(2), "{}", program.text("err"));
    let out = program.text("out");
    assert!(
        out.starts_with("could not run: ") && out.contains(words),
        "{out}"
    );
    assert_eq!(left(p, ns).await, 0);
}

/// It waits, says why, and is removed by SIGINT, by SIGTERM, and by `--clean` after a SIGKILL; so is one that fails.
pub async fn a_test_is_removed_however_it_ends(p: &Plane) {
    let ns = "allreduce-ends";
    workload(p, ns, &["gpu-3"], 8).await;
    let killed = killed_and_forgotten(p).await;
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mut program = Program::start(p, "admin", ns, &["--yes"]);
        program.says("Insufficient nvidia.com/gpu").await;
        assert!(
            program
                .text("err")
                .contains("room: gpu-3 has 0 of 8 GPUs free")
        );
        program.signal(signal);
        assert_eq!(program.ends().await, Some(code));
        assert_eq!(left(p, ns).await, 0, "after {signal}");
    }
    let mut program = Program::start(p, "admin", ns, &["--yes"]);
    program.says("Insufficient nvidia.com/gpu").await;
    program.signal("-KILL");
    program.ends().await;
    assert!(left(p, ns).await > 0);
    let mut clean = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["allreduce", "--clean", "--yes", "-n", ns, "--kubeconfig"])
        .arg(p.kubeconfig("admin"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(clean.wait().unwrap().success());
    assert_eq!(left(p, ns).await, 0, "after --clean");
    // A rank that fails ends the Job.
    let mut program = Program::start(p, "admin", ns, &["--yes", "--gpus", "0"]);
    let mut running = None;
    eventually("the pod runs", async || {
        let list = p.api(ns).list(&ours()).await.unwrap().items;
        running = list
            .into_iter()
            .find(|p| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"));
        running.is_some()
    })
    .await;
    let name = running.and_then(|p| p.metadata.name).unwrap();
    p.tell(&json!({"cmd": "container-exit", "namespace": ns, "pod": name, "exit": 11}));
    assert_eq!(program.ends().await, Some(2), "{}", program.text("err"));
    assert_eq!(left(p, ns).await, 0, "after a failure");
    workload_is_untouched(p, ns, 1).await;
    vanishes_by_itself(p, &killed).await;
}

/// A test whose program was killed, and nobody cleans up; its namespace.
async fn killed_and_forgotten(p: &Plane) -> String {
    let ns = "allreduce-killed";
    workload(p, ns, &["gpu-2"], 1).await;
    let args = ["--yes", "--gpus", "0", "--deadline", "30"];
    let mut program = Program::start(p, "admin", ns, &args);
    running(p, ns, 1).await;
    program.signal("-KILL");
    program.ends().await;
    assert_eq!(left(p, ns).await, 4, "Job, Service, ConfigMap, pod");
    ns.into()
}

/// The deadline ends the Job and its pods; after its time the Job goes, and what it owns goes with it.
async fn vanishes_by_itself(p: &Plane, ns: &str) {
    let jobs: Api<Job> = Api::namespaced(p.admin.clone(), ns);
    let mut name = String::new();
    eventually("the deadline passes", async || {
        let job = jobs.list(&ours()).await.unwrap().items.remove(0);
        name = job.metadata.name.unwrap();
        let status = job.status.unwrap_or_default();
        let over = status.conditions.unwrap_or_default();
        over.iter()
            .any(|c| c.type_ == "Failed" && c.reason.as_deref() == Some("DeadlineExceeded"))
    })
    .await;
    assert!(p.api(ns).list(&ours()).await.unwrap().items.is_empty());
    // Ten minutes in one second.
    let soon = Patch::Merge(json!({"spec": {"ttlSecondsAfterFinished": 1}}));
    jobs.patch(&name, &PatchParams::default(), &soon)
        .await
        .unwrap();
    eventually("nothing is left", async || left(p, ns).await == 0).await;
    workload_is_untouched(p, ns, 1).await;
}

/// Who may not create a Job is told which rule is missing, before anything is created; nobody is asked without a
/// terminal, and a lock holds.
pub async fn a_test_needs_leave(p: &Plane) {
    let ns = "allreduce-leave";
    workload(p, ns, &["gpu-0"], 1).await;
    let meta = json!({"name": "look", "namespace": ns});
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [
        {"apiGroups": [""], "resources": ["pods", "pods/log", "events"], "verbs": ["get", "list", "watch"]},
    ]}))
    .await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "observer"}]}))
    .await;
    for (user, args, says) in [
        ("observer", ["--yes"].as_slice(), "create jobs.batch"),
        (
            "admin",
            &[],
            "--yes is the answer where there is no terminal",
        ),
        ("admin", &["--yes", "--read-only"], "locked"),
    ] {
        let mut program = Program::start(p, user, ns, args);
        assert_eq!(program.ends().await, Some(2));
        assert!(
            program.text("err").contains(says),
            "{}",
            program.text("err")
        );
        assert_eq!(left(p, ns).await, 0);
    }
}
