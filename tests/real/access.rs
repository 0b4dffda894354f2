//! Commands in containers, over the real protocol.

use std::process::{Command, Stdio};
use std::time::Duration;

use ncclscope::model::event::{ContainerKey, Errand, Event, PodKey, ProbeOutcome, SourceEvent};
use ncclscope::sources::cluster::{
    Access, ClusterOptions, Connection, Director, Errands, ExecSpec, Helper, connect,
};
use ncclscope::sources::gate::{Policy, Setup};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, eventually, pod};

/// The way into pods, leave given beforehand. Ends with the receiver of events.
pub async fn access(link: Connection, options: ClusterOptions) -> (Access, mpsc::Receiver<Event>) {
    let (hand, mut given) = mpsc::unbounded_channel();
    let helper = Box::new(move |access: Access, _: Errands| {
        let hand = hand.clone();
        Box::pin(async move {
            let _ = hand.send(access);
        }) as futures::future::BoxFuture<'static, ()>
    });
    let rx = directed(link, options, helper);
    (given.recv().await.unwrap(), rx)
}

/// Events of a session whose probes are allowed, with somebody who works on the workload.
fn directed(link: Connection, options: ClusterOptions, helper: Helper) -> mpsc::Receiver<Event> {
    let (tx, rx) = mpsc::channel(1024);
    let setup = Setup {
        probes: Policy::Always,
        per_minute: 100,
        ..Setup::default()
    };
    let director = Director::new(link, options, setup, vec![helper], tx);
    let (_, errands) = mpsc::unbounded_channel::<Errand>();
    tokio::spawn(director.run(errands, CancellationToken::new()));
    rx
}

pub fn spec(namespace: &str, pod: &str, argv: &[&str]) -> ExecSpec {
    ExecSpec {
        at: ContainerKey {
            pod: PodKey {
                namespace: namespace.into(),
                name: pod.into(),
            },
            container: "vllm".into(),
        },
        argv: argv.iter().map(|a| (*a).to_string()).collect(),
        ran: argv.join(" "),
        cap: 64 << 10,
        limit: Some(Duration::from_secs(20)),
        quiet: None,
    }
}

fn answered(outcome: ProbeOutcome) -> (i32, String, String, bool) {
    match outcome {
        ProbeOutcome::Answered {
            code,
            out,
            err,
            cut,
            ..
        } => (code, out, err, cut),
        other => panic!("{other:?}"),
    }
}

fn failed(outcome: ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Failed { why } => why,
        other => panic!("{other:?}"),
    }
}

/// Two pods with a stub of `nvidia-smi`: `shell`, and `bare`, which has nothing else.
pub async fn stubs(p: &Plane, ns: &str, dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let tool = dir.join("nvidia-smi");
    std::fs::write(
        &tool,
        "#!/bin/sh\necho \"GPU 0 of $CPLANE_POD: $*\"\necho careful >&2\n[ \"$1\" = bad ] && exit 9\nexit 0\n",
    )
    .unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    p.namespace(ns).await;
    let with = |only: &str| json!({"cplane.test/exec-dir": dir.to_str().unwrap(), "cplane.test/exec-only": only});
    p.pods(vec![
        pod(ns, "shell", json!({}), with("false")),
        pod(ns, "bare", json!({}), with("true")),
        pod(
            ns,
            "ended",
            json!({}),
            json!({"cplane.test/phase": "complete"}),
        ),
    ])
    .await;
    eventually("the pods", async || {
        let pods = p.api(ns).list(&Default::default()).await.unwrap();
        let phase = |p: &k8s_openapi::api::core::v1::Pod| p.status.as_ref()?.phase.clone();
        pods.items
            .iter()
            .all(|p| matches!(phase(p).as_deref(), Some("Running" | "Succeeded")))
    })
    .await;
}

pub async fn commands_run_over_both_protocols(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    stubs(p, "execs", dir.path()).await;
    // The second server lets nothing newer than v4 through.
    let older = dir.path().join("older");
    let (server, token) = (
        p.ready["v4"].as_str().unwrap(),
        p.ready["tokens"]["admin"].as_str().unwrap(),
    );
    std::fs::write(
        &older,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{token: \"{token}\"}}}}]\n"
        ),
    )
    .unwrap();
    let newer = p.options("admin", "execs");
    let older = ClusterOptions {
        kubeconfig: Some(older),
        ..newer.clone()
    };
    for options in [newer, older] {
        let link = connect(&options).await.unwrap();
        let (access, _events) = access(link, options).await;
        let run = async |s: ExecSpec| access.probe("t", s).await;
        let (code, out, err, cut) =
            answered(run(spec("execs", "shell", &["nvidia-smi", "-L"])).await);
        assert_eq!(
            (code, out.as_str(), err.as_str(), cut),
            (0, "GPU 0 of shell: -L\n", "careful\n", false)
        );
        let (code, out, ..) = answered(run(spec("execs", "shell", &["nvidia-smi", "bad"])).await);
        assert_eq!((code, out.as_str()), (9, "GPU 0 of shell: bad\n"));
        // What is not there is 127 and said, with a shell and without.
        for pod in ["shell", "bare"] {
            let (code, out, err, _) = answered(run(spec("execs", pod, &["ibstat"])).await);
            assert_eq!((code, out.as_str()), (127, ""), "{pod}");
            assert!(err.contains("ibstat"), "{pod}: {err}");
        }
        // No shell: what ends by itself runs, what lasts does not.
        let bare = spec("execs", "bare", &["nvidia-smi", "-L"]);
        let (code, out, ..) = answered(run(bare.clone()).await);
        assert_eq!((code, out.as_str()), (0, "GPU 0 of bare: -L\n"));
        let said = failed(
            run(ExecSpec {
                limit: None,
                ..bare
            })
            .await,
        );
        assert!(said.contains("no shell"), "{said}");
        // Arguments are arguments, whatever is in them.
        let hostile = "'; touch /tmp/x; $(id) `id` \" \\";
        let (_, out, ..) = answered(run(spec("execs", "shell", &["printf", "%s", hostile])).await);
        assert_eq!(out, hostile);
        // Much output is read to its end and cut where it was asked to be; the exit code is that of the command.
        let many = spec("execs", "shell", &["sh", "-c", "seq 1 400000; exit 3"]);
        let (code, out, _, cut) = answered(
            run(ExecSpec {
                cap: 4 << 20,
                ..many.clone()
            })
            .await,
        );
        assert_eq!((code, cut, out.lines().count()), (3, false, 400_000));
        let (code, out, _, cut) = answered(run(many).await);
        assert_eq!((code, cut, out.len()), (3, true, 64 << 10));
        // Output without a line end is whole, too.
        let (_, out, ..) = answered(run(spec("execs", "shell", &["printf", "a\\nb"])).await);
        assert_eq!(out, "a\nb");
        // What does not end is ended, and what is not there is said.
        let long = spec("execs", "shell", &["sleep", "600"]);
        let said = failed(
            run(ExecSpec {
                limit: Some(Duration::from_secs(2)),
                ..long
            })
            .await,
        );
        assert!(said.contains("2 s"), "{said}");
        let said = failed(run(spec("execs", "ended", &["nvidia-smi"])).await);
        assert!(
            said.contains("ended") || said.contains("completed") || said.contains("does not run"),
            "{said}"
        );
        let said = failed(run(spec("execs", "nobody", &["nvidia-smi"])).await);
        assert!(said.contains("not found"), "{said}");
        // Lines come as they are written.
        let (lines, mut heard) = mpsc::channel(8);
        let script = "for i in 1 2 3; do echo $i; sleep 0.3; done; printf end";
        let follow = ExecSpec {
            limit: None,
            ..spec("execs", "shell", &["sh", "-c", script])
        };
        let following = tokio::spawn({
            let access = access.clone();
            async move { access.follow(follow, lines).await }
        });
        let mut got = Vec::new();
        while let Some(line) = heard.recv().await {
            got.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(got, ["1", "2", "3", "end"]);
        assert_eq!(answered(following.await.unwrap()).0, 0);
    }
    eventually("nothing is left of them", async || running(p, "execs") == 0).await;
}

fn running(p: &Plane, ns: &str) -> usize {
    let now = p.tell(&json!({"cmd": "execs"}));
    let ours = |e: &&Value| e["namespace"] == ns;
    now["running"]
        .as_array()
        .unwrap()
        .iter()
        .filter(ours)
        .count()
}

pub async fn a_command_ends_soon_after_we_vanish(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    stubs(p, "vanish", dir.path()).await;
    // Killed without a chance to say good-bye.
    let config = p.kubeconfig("admin");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--follow-for-ever",
            config.to_str().unwrap(),
            "vanish",
            "shell",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("its command", async || running(p, "vanish") == 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    eventually("its command's end", async || running(p, "vanish") == 0).await;
    println!(
        "  killed: the command ended {:.1} s later",
        begun.elapsed().as_secs_f32()
    );
    // A connection that stands but carries nothing, as when a laptop is closed.
    let options = p.options("admin", "vanish");
    let (access, _events) = access(connect(&options).await.unwrap(), options).await;
    let (lines, mut heard) = mpsc::channel(8);
    let endless = ExecSpec {
        limit: None,
        ..spec("vanish", "shell", &["sh", "-c", "echo on; exec sleep 600"])
    };
    let following = tokio::spawn(async move { access.follow(endless, lines).await });
    assert_eq!(heard.recv().await.unwrap(), b"on");
    p.tell(&json!({"cmd": "proxy", "action": "stall", "for": "70s"}));
    let begun = Instant::now();
    eventually("the end of what nobody renews", async || {
        running(p, "vanish") == 0
    })
    .await;
    println!(
        "  stalled: the command ended {:.1} s later",
        begun.elapsed().as_secs_f32()
    );
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    following.abort();
}

/// What the killed one does: follows a command until somebody ends it.
pub async fn follow_for_ever(args: &[String]) {
    let [config, ns, pod] = args else {
        panic!("kubeconfig, namespace, pod")
    };
    let options = ClusterOptions {
        kubeconfig: Some(config.into()),
        namespace: Some(ns.clone()),
        ..ClusterOptions::default()
    };
    let (access, mut events) = access(connect(&options).await.unwrap(), options).await;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let (lines, mut heard) = mpsc::channel(8);
    let endless = ExecSpec {
        limit: None,
        ..spec(ns, pod, &["sleep", "600"])
    };
    tokio::spawn(async move { while heard.recv().await.is_some() {} });
    access.follow(endless, lines).await;
}

pub async fn a_refused_command_names_the_rule(p: &Plane) {
    let dir = tempfile::tempdir().unwrap();
    stubs(p, "noexec", dir.path()).await;
    let role = |name: &str, rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": "noexec"}, "rules": rules});
    let looks =
        json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]});
    let gets = json!({"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]});
    p.create(role("look", json!([looks, gets]))).await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "look", "namespace": "noexec"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "observer"}]})).await;
    let options = p.options("observer", "noexec");
    let (access, mut events) = access(connect(&options).await.unwrap(), options).await;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    match access
        .probe("gpus", spec("noexec", "shell", &["nvidia-smi", "-L"]))
        .await
    {
        ProbeOutcome::Refused { why, rule } => {
            assert!(why.contains("RBAC"), "{why}");
            assert_eq!(
                rule.as_deref(),
                Some("get and create pods/exec in namespace noexec")
            );
        }
        other => panic!("{other:?}"),
    }
}

pub async fn what_nccl_writes_to_a_file_is_followed(p: &Plane) {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    p.namespace("debugfile").await;
    let mut with = pod("debugfile", "llm-0", json!({"app": "llm"}), json!({}));
    with["spec"]["containers"][0]["env"] =
        json!([{"name": "NCCL_DEBUG_FILE", "value": format!("{folder}/nccl.%p")}]);
    p.pods(vec![with]).await;
    let write = |pid: u32, lines: &str| {
        let path = dir.path().join(format!("nccl.{pid}"));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    };
    write(
        211,
        "llm-0:211:211 [0] NCCL INFO one\n\nllm-0:211:211 [0] NCCL INFO two\n",
    );
    write(212, "llm-0:212:212 [1] NCCL INFO one\n");
    let options = ClusterOptions {
        selector: Some("app=llm".into()),
        ..p.options("admin", "debugfile")
    };
    let link = connect(&options).await.unwrap();
    let mut events = directed(
        link,
        options,
        ncclscope::sources::podlogs::debugfile::helper(),
    );
    let mut names = std::collections::BTreeMap::new();
    let mut text: std::collections::BTreeMap<String, String> = Default::default();
    let mut until = async |want: &[(u32, &str)]| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let is = |text: &std::collections::BTreeMap<String, String>| {
            want.iter().all(|(pid, lines)| {
                text.get(&format!("debugfile/llm-0/vllm:{folder}/nccl.{pid}"))
                    .is_some_and(|t| t == lines)
            })
        };
        while !is(&text) {
            let event = tokio::time::timeout_at(deadline, events.recv()).await;
            match event
                .unwrap_or_else(|_| panic!("never: {want:?}; {text:?}"))
                .unwrap()
            {
                Event::Source(SourceEvent::Opened(id, info)) => drop(names.insert(id, info.name)),
                Event::Log(l) => {
                    let lines = text.entry(names[&l.source].clone()).or_default();
                    assert_eq!(l.block.first_line, lines.lines().count() as u64 + 1);
                    lines.push_str(std::str::from_utf8(&l.block.text).unwrap());
                }
                _ => {}
            }
        }
    };
    let first = "llm-0:211:211 [0] NCCL INFO one\n\nllm-0:211:211 [0] NCCL INFO two\n".to_string();
    let second = "llm-0:212:212 [1] NCCL INFO one\n";
    until(&[(211, &first), (212, second)]).await;
    // What is written later comes, and after a cut of the connection every line is there once.
    write(211, "llm-0:211:211 [0] NCCL INFO three\n");
    let first = first + "llm-0:211:211 [0] NCCL INFO three\n";
    until(&[(211, &first), (212, second)]).await;
    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    write(211, "llm-0:211:211 [0] NCCL INFO four\n");
    let first = first + "llm-0:211:211 [0] NCCL INFO four\n";
    until(&[(211, &first), (212, second)]).await;
}
