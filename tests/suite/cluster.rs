//! The Kubernetes edge against scripted API servers: watches, refusals, cuts and what is said of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ncclscope::model::event::{EdgeState, Event, PodEvent, SourceEvent, SourceId};
use ncclscope::sources::cluster::{ClusterOptions, Connection, connect, run};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fakeapi::{Answer, Asked, FakeApi, Piece, kubeconfig};

#[path = "cluster/seen.rs"]
mod seen;

const PODS: &str = "/api/v1/namespaces/prod/pods";
const EVENTS: &str = "/api/v1/namespaces/prod/events";

/// A running pod with one container `vllm`, at a resource version.
pub fn pod(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "prod", "uid": format!("uid-{name}"),
            "resourceVersion": version.to_string(), "labels": {"app": "llm"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "nodeName": "node-a",
            "containers": [{"name": "vllm", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "vllm", "image": "vllm:1", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": "containerd://one", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }],
        },
    })
}

pub fn list(kind: &str, version: u32, items: &[Value]) -> Answer {
    let body = json!({
        "apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": version.to_string()}, "items": items,
    });
    Answer::Json(200, body)
}

pub fn change(kind: &str, object: &Value) -> Piece {
    Piece::Bytes(format!("{}\n", json!({"type": kind, "object": object})).into_bytes())
}

/// Answers that are given in turn; afterwards a stream that stays silent.
#[derive(Clone, Default)]
pub struct Turns(
    pub Arc<Mutex<VecDeque<Answer>>>,
    Arc<Mutex<Vec<mpsc::UnboundedSender<Piece>>>>,
);

impl Turns {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(
            Arc::new(Mutex::new(answers.into_iter().collect())),
            Arc::default(),
        )
    }

    pub fn next(&self) -> Answer {
        self.0.lock().unwrap().pop_front().unwrap_or_else(|| {
            let (tx, answer) = Answer::stream();
            self.1.lock().unwrap().push(tx);
            answer
        })
    }
}

/// What a run said, gathered until a condition holds.
pub struct Heard {
    rx: mpsc::Receiver<Event>,
    cancel: CancellationToken,
    names: BTreeMap<SourceId, String>,
    /// Text by source name.
    pub logs: BTreeMap<String, String>,
    pub pods: Vec<String>,
    pub edges: Vec<(String, EdgeState)>,
    pub sources: Vec<SourceEvent>,
    pub events: Vec<String>,
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Heard {
    pub fn of(link: Connection, options: ClusterOptions) -> Self {
        let (tx, rx) = mpsc::channel(1024);
        let cancel = CancellationToken::new();
        tokio::spawn(run(link, options, tx, cancel.clone()));
        let (names, logs) = (BTreeMap::new(), BTreeMap::new());
        Self {
            rx,
            cancel,
            names,
            logs,
            pods: vec![],
            edges: vec![],
            sources: vec![],
            events: vec![],
        }
    }

    pub async fn start(api: &FakeApi) -> Self {
        let options = ClusterOptions {
            kubeconfig: Some(api.kubeconfig("{token: t}")),
            selector: Some("app=llm".into()),
            ..ClusterOptions::default()
        };
        Self::of(connect(&options).await.unwrap(), options)
    }

    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !done(self) {
            let event = tokio::time::timeout_at(deadline, self.rx.recv())
                .await
                .unwrap_or_else(|_| {
                    panic!(
                        "never: {what}; heard {:?} {:?} {:?} {:?}",
                        self.pods, self.edges, self.sources, self.logs
                    )
                });
            match event.expect("the run ended") {
                Event::Pod(p) => self.pods.push(match p {
                    PodEvent::Resync => "resync".into(),
                    PodEvent::Upsert(p) => p.name.clone(),
                    PodEvent::Synced => "synced".into(),
                    PodEvent::Gone(k) => format!("-{}", k.name),
                }),
                Event::Edge(e) => self.edges.push((e.edge, e.state)),
                Event::KubeEvent(e) => self
                    .events
                    .push(format!("{} {} {}", e.object, e.reason, e.message)),
                Event::Source(s) => {
                    if let SourceEvent::Opened(id, info) = &s {
                        self.names.insert(*id, info.name.clone());
                        self.logs.entry(info.name.clone()).or_default();
                    }
                    self.sources.push(s);
                }
                Event::Log(l) => {
                    let name = self
                        .names
                        .get(&l.source)
                        .expect("opened before its lines")
                        .clone();
                    let text = self.logs.entry(name).or_default();
                    let lines = text.lines().count() as u64;
                    assert_eq!(l.block.first_line, lines + 1, "line numbers go on");
                    text.push_str(std::str::from_utf8(&l.block.text).unwrap());
                }
                _ => {}
            }
        }
    }

    pub fn log(&self, name: &str) -> &str {
        self.logs.get(name).map_or("", String::as_str)
    }

    pub fn lost(&self) -> Vec<&str> {
        let lost = self.sources.iter().filter_map(|s| match s {
            SourceEvent::Lost { why, .. } => Some(why.as_str()),
            _ => None,
        });
        lost.collect()
    }
}

/// Routes: pods and events by list and watch in turn, logs by a rule.
pub async fn api(
    pods: Turns,
    watches: Turns,
    logs: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> FakeApi {
    let events = Turns::default();
    FakeApi::start(move |a| match a.path.as_str() {
        PODS if a.is_watch() => watches.next(),
        PODS => pods.next(),
        EVENTS if a.is_watch() => events.next(),
        EVENTS => list("EventList", 1, &[]),
        p if p.ends_with("/log") => logs(a),
        _ => Answer::status(404, "NotFound", "no such thing"),
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_come_by_one_list_and_one_watch_with_the_selector() {
    let (watch, answer) = Answer::stream();
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::new([answer]),
        |_| Turns::default().next(),
    )
    .await;
    let mut heard = Heard::start(&server).await;
    watch.send(change("ADDED", &pod("b", 6))).unwrap();
    watch.send(change("DELETED", &pod("a", 7))).unwrap();
    heard
        .until("both pods", |h| h.pods.last().is_some_and(|p| p == "-a"))
        .await;
    assert_eq!(heard.pods, ["resync", "a", "synced", "b", "-a"]);
    let asked = server.asked();
    let pods: Vec<_> = asked.iter().filter(|a| a.path == PODS).collect();
    assert_eq!(pods.len(), 2, "one list, one watch");
    assert!(
        pods.iter()
            .all(|a| a.param("labelSelector").as_deref() == Some("app=llm"))
    );
    assert_eq!(pods[1].param("resourceVersion").as_deref(), Some("5"));
    assert!(pods[0].param("limit").is_some(), "lists come in pages");
    assert!(
        asked
            .iter()
            .all(|a| a.authorization.as_deref() == Some("Bearer t"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_place_lists_again_and_what_is_missing_is_gone() {
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version: 5 (9)"});
    let (watch, first) = Answer::stream();
    watch.send(change("ERROR", &gone)).unwrap();
    // The second time the server refuses before the stream begins.
    let second = Answer::status(410, "Expired", "too old resource version");
    let server = api(
        Turns::new([
            list("PodList", 5, &[pod("a", 3), pod("b", 3)]),
            list("PodList", 9, &[pod("b", 3)]),
            list("PodList", 12, &[pod("b", 3), pod("c", 11)]),
        ]),
        Turns::new([first, second]),
        |_| Turns::default().next(),
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("three lists", |h| {
            h.pods.iter().filter(|p| *p == "synced").count() == 3
        })
        .await;
    assert_eq!(
        heard.pods.join(" "),
        "resync a b synced resync b synced resync b c synced"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_watch_goes_on_from_its_place_without_a_list() {
    let (one, first) = Answer::stream();
    one.send(change("MODIFIED", &pod("a", 8))).unwrap();
    one.send(Piece::Cut).unwrap();
    let (two, second) = Answer::stream();
    two.send(change("ADDED", &pod("b", 9))).unwrap();
    let server = api(
        Turns::new([list("PodList", 5, &[pod("a", 3)])]),
        Turns::new([first, Answer::Nothing, second]),
        |_| Turns::default().next(),
    )
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("the second pod", |h| h.pods.iter().any(|p| p == "b"))
        .await;
    let asked = server.asked();
    let from: Vec<_> = asked
        .iter()
        .filter(|a| a.path == PODS)
        .map(|a| a.param("resourceVersion"))
        .collect();
    assert_eq!(
        from,
        [None, Some("5".into()), Some("8".into()), Some("8".into())]
    );
    let states: Vec<_> = heard
        .edges
        .iter()
        .filter(|(e, _)| e == "pods")
        .map(|(_, s)| s.clone())
        .collect();
    assert!(
        matches!(
            states[..],
            [EdgeState::Up, EdgeState::Retrying { .. }, .., EdgeState::Up]
        ),
        "{states:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forbidden_is_said_and_the_rest_works() {
    let server = FakeApi::start(|a| match a.path.as_str() {
        PODS if a.is_watch() => Turns::default().next(),
        PODS => list("PodList", 5, &[pod("a", 3)]),
        EVENTS => Answer::status(
            403,
            "Forbidden",
            "events is forbidden: User \"u\" cannot list resource \"events\"",
        ),
        p if p.ends_with("/log") => Answer::status(403, "Forbidden", "pods \"a\" is forbidden"),
        _ => Answer::status(404, "NotFound", ""),
    })
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("both refusals", |h| {
            h.edges
                .iter()
                .filter(|(_, s)| matches!(s, EdgeState::Forbidden { .. }))
                .count()
                == 2
        })
        .await;
    let rule = |edge: &str| {
        heard.edges.iter().find_map(|(e, s)| match s {
            EdgeState::Forbidden { rule } if e == edge => Some(rule.as_str()),
            _ => None,
        })
    };
    assert_eq!(
        rule("events"),
        Some("list and watch events in namespace prod")
    );
    assert_eq!(rule("logs"), Some("get pods/log in namespace prod"));
    assert_eq!(heard.pods, ["resync", "a", "synced"]);
    assert!(
        server.count("/events") <= 2,
        "a refusal is not asked again every second"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_our_pods_come_and_foreign_ones_do_not() {
    let event = |object: &str, kind: &str, reason: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{object}.1"), "namespace": "prod", "uid": format!("e-{object}-{reason}"), "resourceVersion": "4"},
            "involvedObject": {"kind": kind, "name": object, "namespace": "prod"},
            "reason": reason, "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "type": "Warning",
            "count": 3, "lastTimestamp": "2026-01-01T00:00:00Z",
        })
    };
    let items = [
        event("a", "Pod", "FailedScheduling"),
        event("other", "Pod", "BackOff"),
    ];
    let server = FakeApi::start(move |a| match a.path.as_str() {
        PODS if a.is_watch() => Turns::default().next(),
        PODS => list("PodList", 5, &[pod("a", 3)]),
        EVENTS if a.is_watch() => Turns::default().next(),
        EVENTS => list("EventList", 5, &items),
        _ => Turns::default().next(),
    })
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("the event", |h| {
            h.edges.iter().any(|(e, _)| e == "events") && !h.events.is_empty()
        })
        .await;
    assert_eq!(
        heard.events,
        ["a FailedScheduling 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."]
    );
}

#[tokio::test]
async fn a_refused_connection_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    std::fs::write(&path, kubeconfig(&format!("http://127.0.0.1:{port}"), "{}")).unwrap();
    let options = ClusterOptions {
        kubeconfig: Some(path),
        ..ClusterOptions::default()
    };
    let link = connect(&options).await.unwrap();
    assert_eq!((link.context(), link.namespace()), (Some("lab"), "prod"));
    let said = link.check().await.unwrap_err().to_string();
    let want = format!(
        "http://127.0.0.1:{port}: the API server refuses the connection: is it running, is the address right"
    );
    assert_eq!(said, want);
}

#[tokio::test]
async fn a_broken_kubeconfig_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let say = async |text: &str, context: Option<&str>| {
        std::fs::write(&path, text).unwrap();
        let context = context.map(String::from);
        let options = ClusterOptions {
            kubeconfig: Some(path.clone()),
            context,
            ..ClusterOptions::default()
        };
        connect(&options)
            .await
            .unwrap_err()
            .to_string()
            .replace(path.to_str().unwrap(), "FILE")
    };
    let good = kubeconfig("http://localhost", "{}");
    let broken = say("clusters: [", None).await;
    assert!(
        broken.starts_with("kubeconfig FILE is not valid YAML: "),
        "{broken}"
    );
    assert!(!broken.contains('\n'));
    assert_eq!(
        say(&good, Some("prod")).await,
        "the kubeconfig has no context \"prod\"; it has: lab"
    );
    let missing = good.replace("cluster: c,", "cluster: other,");
    assert_eq!(
        say(&missing, None).await,
        "the kubeconfig can't be used: failed to load the cluster of context: other"
    );
    let plugin = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-login, installHint: get it}}";
    let said = say(&kubeconfig("http://localhost", plugin), None).await;
    assert!(
        said.starts_with("the login plug-in no-such-login can't be started: ")
            && said.ends_with("(get it)"),
        "{said}"
    );
    std::fs::remove_file(&path).unwrap();
    let options = ClusterOptions {
        kubeconfig: Some(path.clone()),
        ..ClusterOptions::default()
    };
    let said = connect(&options).await.unwrap_err().to_string();
    assert!(
        said.contains("config can't be read: No such file"),
        "{said}"
    );
}

#[tokio::test]
async fn an_expired_token_is_said_and_a_plug_in_is_run_once() {
    let server = FakeApi::start(|a| match a.authorization.as_deref() {
        Some("Bearer good") => Answer::Json(200, json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0",
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""})),
        _ => Answer::status(401, "Unauthorized", "Unauthorized"),
    })
    .await;
    let options = |user: &str| ClusterOptions {
        kubeconfig: Some(server.kubeconfig(user)),
        ..ClusterOptions::default()
    };
    let link = connect(&options("{token: old}")).await.unwrap();
    let said = link.check().await.unwrap_err().to_string();
    assert!(said.ends_with("the API server does not accept our credentials (401): the token may have expired, log in again"), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("runs");
    let script = format!(
        "echo run >> {}; echo '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"good\"}}}}'",
        count.display()
    );
    let user = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [\"-c\", {}]}}}}",
        json!(script)
    );
    let link = connect(&options(&user)).await.unwrap();
    link.check().await.unwrap();
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "run\n");
}

#[tokio::test]
async fn a_mocked_client_serves_too() {
    let (service, mut handle) = tower_test::mock::pair::<
        http::Request<kube::client::Body>,
        http::Response<kube::client::Body>,
    >();
    let mut heard = Heard::of(
        Connection::over(kube::Client::new(service, "prod"), "prod"),
        ClusterOptions {
            selector: Some("app=llm".into()),
            ..ClusterOptions::default()
        },
    );
    // Discovery asks beside the watch; everything is refused alike.
    loop {
        let (request, send) = handle.next_request().await.unwrap();
        let Answer::Json(code, body) = Answer::status(403, "Forbidden", "not for you") else {
            unreachable!()
        };
        let response = http::Response::builder()
            .status(code)
            .body(kube::client::Body::from(body.to_string().into_bytes()));
        send.send_response(response.unwrap());
        if request.uri().path() == PODS {
            break;
        }
    }
    let refused = |h: &Heard| h.edges.iter().any(|(edge, _)| edge == "pods");
    heard.until("the refusal", refused).await;
    let rule = "list and watch pods in namespace prod".to_string();
    let pods = heard.edges.iter().find(|(edge, _)| edge == "pods");
    assert_eq!(
        pods,
        Some(&("pods".to_string(), EdgeState::Forbidden { rule }))
    );
}

#[test]
fn proxies_are_chosen_as_kubectl_chooses_them() {
    use ncclscope::sources::cluster::ProxyEnvironment;
    let proxy = |none: &str, server: &str| {
        let env = ProxyEnvironment {
            https: Some("proxy.corp:3128".into()),
            http: Some("http://plain:80".into()),
            none: Some(none.into()),
        };
        env.proxy(&server.parse().unwrap())
    };
    let through = Some("http://proxy.corp:3128".to_string());
    assert_eq!(proxy("", "https://api.lab:6443"), through);
    assert_eq!(proxy("", "http://api.lab"), Some("http://plain:80".into()));
    assert_eq!(proxy("", "https://localhost:6443"), None);
    assert_eq!(proxy("", "https://127.0.0.1:6443"), None);
    assert_eq!(proxy("", "https://[::1]:6443"), None);
    // (NO_PROXY, server, direct)
    let table = [
        ("*", "https://api.lab", true),
        ("api.lab", "https://api.lab", true),
        ("lab", "https://api.lab", true),
        (".lab", "https://api.lab", true),
        (".api.lab", "https://api.lab", false),
        ("pi.lab", "https://api.lab", false),
        ("API.LAB", "https://api.lab", true),
        ("api.lab:6443", "https://api.lab:6443", true),
        ("api.lab:443", "https://api.lab:6443", false),
        ("10.0.0.0/8", "https://10.1.2.3:6443", true),
        ("10.0.0.0/8", "https://11.1.2.3:6443", false),
        ("10.1.2.3", "https://10.1.2.3:6443", true),
        ("fd00::/8", "https://[fd00::1]:6443", true),
        ("0.0.0.0/0", "https://10.1.2.3", true),
        // What can't be read is passed over, not an error.
        (" ,, 10.0.0.0/99, x/y ,other", "https://api.lab", false),
    ];
    for (none, server, direct) in table {
        assert_eq!(proxy(none, server).is_none(), direct, "{none} {server}");
    }
}
