//! What is asked of the inside of pods, as the program does it by itself: the endpoints of the served model through
//! the API server's proxy, and the probes of the checks.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use ncclscope::model::event::{Errand, Event, ProbeOutcome, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::{CheckVerdict, Scene};
use ncclscope::sources::cluster::{ClusterOptions, Connection, Director, Helper, checks, connect};
use ncclscope::sources::gate::{Policy, Setup};
use ncclscope::sources::{endpoints, sampler};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, eventually, pod};

/// A session with one helper, folded as the screen does it.
struct Session {
    events: mpsc::Receiver<Event>,
    /// Nobody asks for anything; closed, it would end the session.
    _errands: mpsc::UnboundedSender<Errand>,
    model: Model,
    /// How often each probe began and ended, by its name.
    outcomes: BTreeMap<String, Vec<ProbeOutcome>>,
    seq: u64,
}

impl Session {
    fn begin(link: Connection, options: ClusterOptions, setup: Setup, helper: Helper) -> Self {
        let (tx, events) = mpsc::channel(1024);
        let (errands, orders) = mpsc::unbounded_channel();
        let director = Director::new(link, options, setup, vec![helper], tx);
        tokio::spawn(director.run(orders, CancellationToken::new()));
        Self {
            events,
            _errands: errands,
            model: Model::default(),
            outcomes: BTreeMap::new(),
            seq: 0,
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Probe(e) = &event
            && e.outcome != ProbeOutcome::Began
        {
            let all = self.outcomes.entry(e.probe.clone()).or_default();
            all.push(e.outcome.clone());
        }
        self.seq += 1;
        let at = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
        let seq = self.seq;
        update(&mut self.model, Stamped { seq, at, event });
    }

    /// Listens until the scene is so.
    async fn until(&mut self, what: &str, so: impl Fn(&Self, &Scene) -> bool) -> Scene {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let scene = Scene::of(&self.model);
            if so(self, &scene) {
                return scene;
            }
            match timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("the session ended before: {what}"),
                Err(_) => panic!("never: {what}; {:?}", self.outcomes),
            }
            while let Ok(event) = self.events.try_recv() {
                self.take(event);
            }
        }
    }

    /// Listens for a while.
    async fn listen(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await {
            self.take(event);
        }
    }
}

fn allowed() -> Setup {
    Setup {
        probes: Policy::Always,
        ..Setup::default()
    }
}

/// Answers GETs of these paths, and remembers what was asked.
async fn server(pages: Vec<(&'static str, String)>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, pages) = (seen.clone(), pages.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    let mut part = [0; 4096];
                    match stream.read(&mut part).await {
                        Ok(n @ 1..) => head.extend_from_slice(&part[..n]),
                        _ => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let first = head.lines().next().unwrap_or_default();
                let asked = first.trim_end_matches(" HTTP/1.1").to_owned();
                let page = pages
                    .iter()
                    .find(|(path, _)| asked == format!("GET {path}"));
                let (code, body) = match page {
                    Some((_, body)) => ("200 OK", body.as_str()),
                    None => ("404 Not Found", "no such page"),
                };
                let answer = format!(
                    "HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                seen.lock().unwrap().push(asked);
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (port, asked)
}

/// The four answers of a vLLM server.
fn vllm() -> Vec<(&'static str, String)> {
    let model = json!({"id": "mixtral", "object": "model", "max_model_len": 32768});
    let metrics = "# TYPE vllm:num_requests_running gauge\n\
        vllm:num_requests_running{engine=\"0\",model_name=\"mixtral\"} 3.0\n\
        # TYPE vllm:num_requests_waiting gauge\n\
        vllm:num_requests_waiting{engine=\"0\",model_name=\"mixtral\"} 2.0\n";
    vec![
        ("/health", String::new()),
        ("/version", json!({"version": "0.11.0"}).to_string()),
        (
            "/v1/models",
            json!({"object": "list", "data": [model]}).to_string(),
        ),
        ("/metrics", metrics.to_owned()),
    ]
}

async fn running(p: &Plane, ns: &str, count: usize) {
    eventually("the pods run", async || {
        let pods = p.api(ns).list(&Default::default()).await.unwrap();
        let phase = |p: &k8s_openapi::api::core::v1::Pod| p.status.as_ref()?.phase.clone();
        pods.items.len() == count
            && pods
                .items
                .iter()
                .all(|p| phase(p).as_deref() == Some("Running"))
    })
    .await;
}

/// Rights in one namespace for the user `observer`.
async fn grant(p: &Plane, ns: &str, rules: Value) {
    p.create(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "look", "namespace": ns}, "rules": rules}),
    )
    .await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "look", "namespace": ns},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "observer"}]}))
        .await;
}

fn looking() -> Value {
    json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]})
}

pub async fn what_is_served_is_asked_through_the_proxy(p: &Plane) {
    let ns = "served";
    let (port, asked) = server(vllm()).await;
    p.namespace(ns).await;
    let ports = json!({"cplane.test/ports": format!("8000={port}")});
    p.pods(vec![
        pod(ns, "api", json!({"app": "api"}), ports),
        pod(ns, "mute", json!({"app": "mute"}), json!({})),
    ])
    .await;
    running(p, ns, 2).await;
    let of = |user: &str, app: &str| ClusterOptions {
        selector: Some(format!("app={app}")),
        ..p.options(user, ns)
    };
    let (_, from) = p.audit(0);
    let options = of("admin", "api");
    let link = connect(&options).await.unwrap();
    let mut session = Session::begin(link, options, allowed(), endpoints::helper());
    let scene = session
        .until("everything that it answers", |_, scene| {
            let is = |s: &ncclscope::rules::scene::ServingView| s.running.is_some();
            scene.serving.first().is_some_and(is)
        })
        .await;
    let view = &scene.serving[0];
    assert_eq!((view.pod.as_str(), view.ready), ("api", Some(true)));
    assert_eq!(view.asked, "GET :8000/health");
    assert_eq!(view.version.as_deref(), Some("0.11.0"));
    assert_eq!(view.models, ["mixtral"]);
    assert_eq!((view.running, view.waiting), (Some(3.0), Some(2.0)));
    drop(session);
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "GET /health",
            "GET /version",
            "GET /v1/models",
            "GET /metrics"
        ],
        "each once, and nothing else"
    );
    let (requests, _) = p.audit(from);
    let proxied: std::collections::BTreeSet<_> = requests
        .iter()
        .filter(|r| r.subresource == "proxy")
        .map(|r| (&r.id, &r.verb, &r.uri))
        .collect();
    assert_eq!(proxied.len(), 4, "{proxied:?}");
    for (_, verb, uri) in proxied {
        assert_eq!(verb, "get");
        assert!(
            uri.starts_with("/api/v1/namespaces/served/pods/api:8000/proxy/"),
            "{uri}"
        );
    }

    // Where nothing listens the API server's own words are told, and that is no answer of the pod.
    let options = of("admin", "mute");
    let link = connect(&options).await.unwrap();
    let mut session = Session::begin(link, options, allowed(), endpoints::helper());
    session
        .until("a failure", |s, _| s.outcomes.contains_key("health"))
        .await;
    match &session.outcomes["health"][0] {
        ProbeOutcome::Failed { why } => assert!(why.contains("dial"), "{why}"),
        other => panic!("{other:?}"),
    }

    // Whoever may only look is told the rule, and is not asked again.
    grant(p, ns, json!([looking()])).await;
    let options = of("observer", "api");
    let link = connect(&options).await.unwrap();
    let mut session = Session::begin(link, options, allowed(), endpoints::helper());
    session
        .until("a refusal", |s, _| s.outcomes.contains_key("health"))
        .await;
    match &session.outcomes["health"][0] {
        ProbeOutcome::Refused { rule, .. } => {
            assert_eq!(rule.as_deref(), Some("get pods/proxy in namespace served"));
        }
        other => panic!("{other:?}"),
    }
    let scene = Scene::of(&session.model);
    assert!(scene.serving.iter().all(|s| s.ready.is_none()));
}

/// What DCGM's exporter says of two GPUs of the node: one of ours, one of somebody else's.
const DCGM: &str = r#"DCGM_FI_DEV_FB_USED{gpu="3",UUID="GPU-a",pci_bus_id="00000000:9B:00.0",Hostname="gpu-1",container="vllm",namespace="exported",pod="llm-0"} 62011
DCGM_FI_DEV_FB_FREE{gpu="3",UUID="GPU-a"} 18997
DCGM_FI_DEV_FB_USED{gpu="4",UUID="GPU-b",pci_bus_id="00000000:AB:00.0",Hostname="gpu-1",container="x",namespace="other",pod="tenant"} 9
"#;

pub async fn gpus_are_read_from_the_exporter_where_commands_are_forbidden(p: &Plane) {
    let (ns, operator) = ("exported", "gpu-operator");
    let (port, asked) = server(vec![("/metrics", DCGM.to_owned())]).await;
    p.namespace(ns).await;
    p.namespace(operator).await;
    let placed = |ns: &str, name: &str, node: &str, labels: Value, notes: Value| {
        let mut one = pod(ns, name, labels, notes);
        one["spec"]["nodeName"] = json!(node);
        one
    };
    let exporter = |node: &str, port: u16| {
        let labels = json!({"app.kubernetes.io/name": "dcgm-exporter"});
        let ports = json!({"cplane.test/ports": format!("9400={port}")});
        placed(operator, &format!("exporter-{node}"), node, labels, ports)
    };
    let mut ours = placed(ns, "llm-0", "gpu-1", json!({"app": "llm"}), json!({}));
    ours["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    // That of another node is none of ours.
    p.pods(vec![ours, exporter("gpu-0", 1), exporter("gpu-1", port)])
        .await;
    running(p, ns, 1).await;
    running(p, operator, 2).await;
    grant(p, ns, json!([looking()])).await;
    let proxied = json!({"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]});
    grant(p, operator, json!([looking(), proxied])).await;
    let options = ClusterOptions {
        selector: Some("app=llm".into()),
        ..p.options("observer", ns)
    };
    let link = connect(&options).await.unwrap();
    let mut session = Session::begin(link, options, allowed(), sampler::helper());
    let scene = session
        .until("a GPU", |_, scene| !scene.gpus.is_empty())
        .await;
    assert_eq!(scene.gpus.len(), 1, "the tenant's is none of ours");
    assert_eq!(scene.gpus[0].uuid.as_deref(), Some("GPU-a"));
    assert_eq!(*asked.lock().unwrap(), ["GET /metrics"]);
}

/// Two GPUs, as `nvidia-smi` answers what the probes ask.
const STUB: &str = r#"#!/bin/sh
for i in 0 1; do
  case "$*" in
    -L) echo "GPU $i: NVIDIA H100 80GB HBM3 (UUID: GPU-5d9b0a52-0000-0000-0000-$CPLANE_POD-$i)";;
    *ecc.errors*) echo "$i, 00000000:${i}B:00.0, 0";;
    *remapped-rows*) echo "00000000:${i}B:00.0, 0, No, No";;
    *query-gpu*) echo "GPU-5d9b0a52-0000-0000-0000-$CPLANE_POD-$i, 00000000:${i}B:00.0, 1024, 81559";;
  esac
done
"#;

pub async fn checks_run_by_themselves_where_they_may(p: &Plane) {
    let ns = "checked";
    let dir = tempfile::tempdir().unwrap();
    let tool = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("nvidia-smi", STUB);
    // The default of containers: 64 MiB for everything that ranks share.
    tool(
        "df",
        "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\necho 'shm 65536 1024 64512 2% /dev/shm'\n",
    );
    p.namespace(ns).await;
    let pods = (0..2).map(|i| {
        let notes = json!({"cplane.test/exec-dir": dir.path().to_str().unwrap()});
        let mut one = pod(ns, &format!("llm-{i}"), json!({"app": "llm"}), notes);
        one["spec"]["nodeName"] = json!(format!("gpu-{i}"));
        one["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "2"}});
        one
    });
    p.pods(pods.collect()).await;
    running(p, ns, 2).await;
    let of = |user: &str| ClusterOptions {
        selector: Some("app=llm".into()),
        ..p.options(user, ns)
    };
    // Nothing is checked before there are pods.
    let verdict = |scene: &Scene, id: &str| {
        let check = scene.checks.iter().find(|c| c.id == id);
        check.map_or((CheckVerdict::Waiting, String::new()), |c| {
            (c.verdict, c.output.clone())
        })
    };
    let (_, from) = p.audit(0);
    let options = of("admin");
    let link = connect(&options).await.unwrap();
    let begun = Instant::now();
    let mut session = Session::begin(link, options, allowed(), checks::helper());
    let both = |s: &Session, name: &str| s.outcomes.get(name).is_some_and(|o| o.len() >= 2);
    let scene = session
        .until("GPUs and shared memory of both pods", |s, scene| {
            both(s, "gpus")
                && both(s, "shm")
                && s.outcomes.contains_key("network-policies")
                && verdict(scene, "check.shm").0 == CheckVerdict::Fail
        })
        .await;
    println!(
        "  first verdicts of probes after {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    for name in ["gpus", "shm", "network-policies"] {
        for outcome in &session.outcomes[name] {
            assert!(
                matches!(outcome, ProbeOutcome::Answered { code: 0 | 200, .. }),
                "{name}: {outcome:?}"
            );
        }
    }
    assert_eq!(verdict(&scene, "check.gpus").0, CheckVerdict::Pass);
    let (_, said) = verdict(&scene, "check.shm");
    assert!(said.contains("/dev/shm has 64 MiB"), "{said}");
    // A pod's budget: what is due beyond it waits.
    session.listen(Duration::from_secs(12)).await;
    let (requests, _) = p.audit(from);
    let mut begun: BTreeMap<&str, std::collections::BTreeSet<&str>> = BTreeMap::new();
    for r in requests.iter().filter(|r| r.subresource == "exec") {
        let pod = r.uri.split('/').nth(6).unwrap();
        begun.entry(pod).or_default().insert(&r.id);
    }
    assert_eq!(begun.len(), 2, "{begun:?}");
    for (pod, execs) in &begun {
        println!("  {pod}: {} commands in its first minute", execs.len());
        assert!(
            (2..=Setup::default().per_minute as usize).contains(&execs.len()),
            "{pod}: {} commands in a minute",
            execs.len()
        );
    }
    // What was run stands in the audit log, whole: only scripts of ours.
    for r in requests.iter().filter(|r| r.subresource == "exec") {
        assert!(r.uri.contains("command=ncclscope"), "{}", r.uri);
    }
    drop(session);

    // Who may look and no more: the checks say which rule is missing, and the pods are left alone.
    grant(p, ns, json!([looking()])).await;
    let options = of("observer");
    let link = connect(&options).await.unwrap();
    let mut session = Session::begin(link, options, allowed(), checks::helper());
    let scene = session
        .until("the refusals", |_, scene| {
            ["check.shm", "check.gpus"]
                .iter()
                .all(|id| verdict(scene, id).0 == CheckVerdict::Forbidden)
        })
        .await;
    let (_, said) = verdict(&scene, "check.shm");
    assert!(
        said.contains("get and create pods/exec in namespace checked"),
        "{said}"
    );
    assert!(session.outcomes.values().flatten().all(|o| matches!(
        o,
        ProbeOutcome::Refused { .. } | ProbeOutcome::Failed { .. }
    )));
    let policies = session.outcomes.get("network-policies");
    for outcome in policies.into_iter().flatten() {
        assert!(
            matches!(outcome, ProbeOutcome::Refused { rule: Some(r), .. } if r == "list networkpolicies in namespace checked"),
            "{outcome:?}"
        );
    }

    // Where nobody allowed it nothing is tried at all. What those before have under way ends first.
    drop(session);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let options = of("admin");
    let link = connect(&options).await.unwrap();
    let never = Setup {
        probes: Policy::Never,
        ..Setup::default()
    };
    let execs = || -> std::collections::BTreeSet<String> {
        let (requests, _) = p.audit(from);
        let execs = requests.into_iter().filter(|r| r.subresource == "exec");
        execs.map(|r| r.id).collect()
    };
    let before = execs();
    let mut session = Session::begin(link, options, never, checks::helper());
    session
        .until("the refusal of the gate", |s, _| {
            s.outcomes.contains_key("shm")
        })
        .await;
    assert_eq!(execs(), before, "nothing was tried");
}
