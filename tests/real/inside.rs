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
use ncclscope::sources::endpoints;
use ncclscope::sources::gate::{Policy, Setup};
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

/// The four answers of a vLLM server, and whoever asked for what.
async fn server() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
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
                let (code, body) = match asked.as_str() {
                    "GET /health" => ("200 OK", String::new()),
                    "GET /version" => ("200 OK", json!({"version": "0.11.0"}).to_string()),
                    "GET /v1/models" => (
                        "200 OK",
                        json!({"object": "list", "data": [{"id": "mixtral", "object": "model", "max_model_len": 32768}]}).to_string(),
                    ),
                    "GET /metrics" => (
                        "200 OK",
                        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"mixtral\"} 3.0\n\
                         # TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\",model_name=\"mixtral\"} 2.0\n"
                            .to_owned(),
                    ),
                    _ => ("404 Not Found", "no such page".to_owned()),
                };
                seen.lock().unwrap().push(asked);
                let answer = format!(
                    "HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (port, asked)
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
    let (port, asked) = server().await;
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
