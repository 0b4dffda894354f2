//! Where commands in pods are forbidden: DCGM's exporter by proxy, and the endpoints of the served model.

use std::time::Duration;

use ncclscope::model::event::{Errand, Event, Level, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::cluster::{ClusterOptions, Connection, Director, configfile, connect};
use ncclscope::sources::gate::{Policy, Setup};
use ncclscope::sources::{endpoints, sampler};
use ncclscope::theme::Theme;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fakeapi::{Answer, Asked, FakeApi};
use crate::stage;

const PAGE: &str = r#"DCGM_FI_DEV_FB_USED{gpu="3",UUID="GPU-a",pci_bus_id="00000000:9B:00.0",Hostname="gpu-07",container="vllm",namespace="prod",pod="llm-0"} 62011
DCGM_FI_DEV_FB_FREE{gpu="3",UUID="GPU-a"} 18997
DCGM_FI_DEV_FB_USED{gpu="4",UUID="GPU-b",pci_bus_id="00000000:AB:00.0",Hostname="gpu-07",container="x",namespace="other",pod="tenant"} 9
"#;

fn cluster(asked: &Asked) -> Answer {
    let list = |kind: &str, items: serde_json::Value| {
        Answer::Json(
            200,
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    };
    if asked.is_watch() {
        let (tx, answer) = Answer::stream();
        // Open and silent for as long as the test runs.
        std::mem::forget(tx);
        return answer;
    }
    match asked.path.as_str() {
        "/api/v1/namespaces/prod/pods" => list(
            "PodList",
            json!([{
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "llm-0", "namespace": "prod", "uid": "u", "labels": {"app": "llm"}},
                "spec": {"nodeName": "gpu-07", "containers": [{"name": "vllm", "image": "vllm:1",
                    "args": ["serve", "/models/m"], "resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "vllm", "image": "vllm:1",
                    "imageID": "", "ready": true, "restartCount": 0, "containerID": "containerd://one",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]},
            }]),
        ),
        "/api/v1/pods" if asked.param("labelSelector").is_some_and(|l| l.contains("name=dcgm")) => {
            assert_eq!(asked.param("fieldSelector").as_deref(), Some("spec.nodeName=gpu-07"));
            Answer::Json(
                200,
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
                    "items": [{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                        "metadata": {"name": "dcgm-exporter-x", "namespace": "gpu-operator"}}]}),
            )
        }
        "/api/v1/namespaces/gpu-operator/pods/dcgm-exporter-x:9400/proxy/metrics" => {
            Answer::Text(PAGE.into())
        }
        path if path.ends_with("/exec") => Answer::status(403, "Forbidden", "pods is forbidden"),
        path if path.ends_with("/proxy/health") => Answer::Text(Vec::new()),
        path if path.ends_with("/proxy/version") => Answer::Text(b"{\"version\":\"0.11.2\"}".into()),
        path if path.ends_with("/proxy/v1/models") => {
            Answer::Text(b"{\"data\":[{\"id\":\"m\",\"max_model_len\":4096}]}".into())
        }
        path if path.ends_with("/proxy/metrics") => {
            Answer::Text(b"vllm:num_requests_running 2\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0.5\n".into())
        }
        path if path.ends_with("/proxy/v1/completions") => Answer::Text(
            b"{\"choices\":[{\"text\":\" w\"}],\"usage\":{\"completion_tokens\":1}}".into(),
        ),
        _ => list("List", json!([])),
    }
}

struct Watched {
    api: FakeApi,
    events: mpsc::Receiver<Event>,
    errands: mpsc::UnboundedSender<Errand>,
    model: Model,
    seq: u64,
}

fn setup() -> Setup {
    Setup {
        probes: Policy::Always,
        per_minute: 100,
        ..Setup::default()
    }
}

impl Watched {
    async fn open() -> Self {
        Self::over(FakeApi::start(cluster).await).await
    }

    async fn over(api: FakeApi) -> Self {
        let options = ClusterOptions {
            kubeconfig: Some(api.kubeconfig("{token: t}")),
            namespace: Some("prod".into()),
            selector: Some("app=llm".into()),
            ..ClusterOptions::default()
        };
        let link = connect(&options).await.unwrap();
        let (tx, events) = mpsc::channel(64);
        let (errands, orders) = mpsc::unbounded_channel();
        let helpers = vec![sampler::helper(), endpoints::helper(), configfile::helper()];
        let director = Director::new(link, options, setup(), helpers, tx);
        tokio::spawn(director.run(orders, CancellationToken::new()));
        Self {
            api,
            events,
            errands,
            model: Model::default(),
            seq: 0,
        }
    }

    /// Applies events until the scene is as wanted.
    async fn until(&mut self, what: &str, so: impl Fn(&Scene, &Event) -> bool) -> Scene {
        loop {
            let event = timeout(Duration::from_secs(30), self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
            self.seq += 1;
            let stamped = Stamped {
                seq: self.seq,
                at: i64::try_from(self.seq).unwrap() * 1_000_000,
                event: event.clone(),
            };
            update(&mut self.model, stamped);
            let scene = Scene::of(&self.model);
            if so(&scene, &event) {
                return scene;
            }
        }
    }
}

#[tokio::test]
async fn the_exporter_of_the_node_stands_in() {
    let mut w = Watched::open().await;
    let scene = w.until("a GPU", |s, _| !s.gpus.is_empty()).await;
    // The tenant's GPU on the same node is none of ours.
    assert_eq!(scene.gpus.len(), 1);
    let gpu = scene.gpus.first().unwrap();
    assert_eq!(
        (gpu.used, gpu.bus_id.as_deref(), gpu.pod.as_deref()),
        (Some(62_011 << 20), Some("9b000"), Some("llm-0"))
    );
    assert_eq!(
        (gpu.node.as_deref(), gpu.tool.as_deref()),
        (Some("gpu-07"), Some("dcgm"))
    );
    assert_eq!(w.api.count("/exec"), 1, "forbidden once is forbidden");
}

/// The same with a second pod on the node.
fn two_pods(asked: &Asked) -> Answer {
    match cluster(asked) {
        Answer::Json(code, mut body) if asked.path == "/api/v1/namespaces/prod/pods" => {
            let mut other = body["items"][0].clone();
            other["metadata"]["name"] = "llm-1".into();
            body["items"].as_array_mut().unwrap().push(other);
            Answer::Json(code, body)
        }
        answer => answer,
    }
}

#[tokio::test]
async fn one_question_a_node_serves_all_of_its_pods() {
    let mut w = Watched::over(FakeApi::start(two_pods).await).await;
    w.until("figures", |s, _| s.gpus.iter().any(|g| g.used.is_some()))
        .await;
    while w.api.count("/exec") < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(w.api.count(":9400/proxy/metrics"), 1);
}

type Body = kube::client::Body;
type Handle = tower_test::mock::Handle<http::Request<Body>, http::Response<Body>>;

/// Samplers over a client that is answered by hand, on a clock that stands still while anybody works.
fn by_hand() -> (Handle, mpsc::UnboundedSender<Errand>) {
    let (service, handle) = tower_test::mock::pair();
    let link = Connection::over(kube::Client::new(service, "prod"), "prod");
    let options = ClusterOptions {
        selector: Some("app=llm".into()),
        ..ClusterOptions::default()
    };
    let (tx, mut events) = mpsc::channel(64);
    let (errands, orders) = mpsc::unbounded_channel();
    let director = Director::new(link, options, setup(), vec![sampler::helper()], tx);
    tokio::spawn(director.run(orders, CancellationToken::new()));
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    (handle, errands)
}

/// A request as the rules of [`FakeApi`] see it.
fn asked(uri: &http::Uri) -> Asked {
    Asked {
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        authorization: None,
    }
}

fn response(code: u16, text: String) -> http::Response<Body> {
    let body = Body::from(text.into_bytes());
    http::Response::builder().status(code).body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn samplers_of_a_big_job_are_not_begun_at_once() {
    let (mut handle, _errands) = by_hand();
    let (mut open, mut begun) = (Vec::new(), Vec::new());
    while begun.len() < 200 {
        let next = timeout(Duration::from_secs(60), handle.next_request()).await;
        let (request, send) = next.expect("all are begun").unwrap();
        let asked = asked(request.uri());
        if asked.is_watch() {
            open.push(send);
            continue;
        }
        if asked.path.ends_with("/exec") {
            begun.push(tokio::time::Instant::now());
            // It is being opened for as long as the test runs.
            open.push(send);
            continue;
        }
        let Answer::Json(code, body) = many(&asked, 200, |_, _| {}) else {
            unreachable!()
        };
        send.send_response(response(code, body.to_string()));
    }
    let first = begun[0];
    let soon = begun
        .iter()
        .filter(|at| **at - first < Duration::from_millis(500));
    assert!(soon.count() < 60, "of 200 within half a second");
    assert!(begun[199] - first < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_comes_back_under_another_name_is_found_again() {
    let (mut handle, _errands) = by_hand();
    let (mut open, mut old) = (Vec::new(), 0);
    loop {
        let next = timeout(Duration::from_secs(3_600), handle.next_request()).await;
        let (request, send) = next.expect("it is looked for anew").unwrap();
        let asked = asked(request.uri());
        if asked.is_watch() {
            open.push(send);
            continue;
        }
        if asked.path.contains("dcgm-exporter-y:9400") {
            break;
        }
        let gone = old >= 2;
        old += usize::from(asked.path.contains("dcgm-exporter-x:9400"));
        let (code, body) = match cluster(&asked) {
            Answer::Json(code, body) if gone => (
                code,
                body.to_string()
                    .replace("dcgm-exporter-x", "dcgm-exporter-y"),
            ),
            Answer::Json(code, body) => (code, body.to_string()),
            Answer::Text(_) if gone => match Answer::status(404, "NotFound", "no such pod") {
                Answer::Json(code, body) => (code, body.to_string()),
                _ => unreachable!(),
            },
            Answer::Text(text) => (200, String::from_utf8(text).unwrap()),
            _ => unreachable!(),
        };
        send.send_response(response(code, body));
    }
    assert!(old < 8, "asked {old} times in vain");
}

/// The rule of [`cluster`] with as many pods, each changed by its number.
fn many(asked: &Asked, pods: usize, change: fn(usize, &mut serde_json::Value)) -> Answer {
    match cluster(asked) {
        Answer::Json(code, mut body) if asked.path == "/api/v1/namespaces/prod/pods" => {
            let one = body["items"][0].clone();
            let all = (0..pods).map(|i| {
                let mut pod = one.clone();
                pod["metadata"]["name"] = format!("llm-{i:02}").into();
                change(i, &mut pod);
                pod
            });
            body["items"] = all.collect();
            Answer::Json(code, body)
        }
        other => other,
    }
}

/// Sixteen servers of a workload are asked. The others stand on screen as not asked, each with a word of why, and
/// are no facts.
#[tokio::test]
async fn servers_that_are_not_asked_are_counted() {
    let api = FakeApi::start(|asked| many(asked, 20, |_, _| {})).await;
    let mut w = Watched::over(api).await;
    let scene = w
        .until("all of them", |s, _| {
            let asked = s.serving.iter().filter(|v| v.ready == Some(true));
            s.serving.len() == 20 && asked.count() == 16
        })
        .await;
    let (asked, left): (Vec<_>, Vec<_>) = scene.serving.iter().partition(|v| !v.refused);
    assert!(asked.iter().all(|v| v.at.is_some()));
    let left: Vec<_> = left.iter().map(|v| (v.pod.as_str(), v.at)).collect();
    let named = ["llm-16", "llm-17", "llm-18", "llm-19"];
    assert_eq!(left, named.map(|n| (n, None)));
    let why = scene.serving[19].why.as_deref();
    assert_eq!(
        why,
        Some("not asked: 16 servers of a workload are, no more")
    );
    let asked = w.api.asked();
    assert!(!asked.iter().any(|a| a.path.contains("llm-16:8000")));
    let model = stage::model(120, 40);
    let text = stage::text(&stage::draw(&scene, &model, &Theme::probe(false))).join("\n");
    let counted = "SERVING  20 servers   16 ready   4 not asked";
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("llm-00   ready"), "{text}");
}

/// A port that only the file of `--config` names is where the server is; the command line counts more.
#[tokio::test]
async fn a_server_is_where_its_file_says() {
    let api = FakeApi::start(|asked| {
        if asked.path == "/api/v1/namespaces/prod/configmaps/serve" {
            let data = json!({"c.yaml": "tensor-parallel-size: 8\nport: 9001\n"});
            let map =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data});
            return Answer::Json(200, map);
        }
        many(asked, 2, |i, pod| {
            let spec = &mut pod["spec"];
            spec["volumes"] = json!([{"name": "c", "configMap": {"name": "serve"}}]);
            let container = &mut spec["containers"][0];
            container["volumeMounts"] = json!([{"name": "c", "mountPath": "/etc/vllm"}]);
            container["args"] = match i {
                0 => json!(["vllm", "serve", "/models/m", "--config", "/etc/vllm/c.yaml"]),
                _ => json!([
                    "vllm",
                    "serve",
                    "/models/m",
                    "--config=/etc/vllm/c.yaml",
                    "--port",
                    "9002"
                ]),
            };
        })
    })
    .await;
    let mut w = Watched::over(api).await;
    let ready = |s: &Scene| s.serving.iter().filter(|v| v.ready == Some(true)).count();
    let scene = w.until("both answer", |s, _| ready(s) == 2).await;
    let at: Vec<_> = scene.serving.iter().map(|v| v.asked.as_str()).collect();
    assert_eq!(at, ["GET :9001/health", "GET :9002/health"]);
    let asked = w.api.asked();
    assert!(!asked.iter().any(|a| a.path.contains(":8000")), "{asked:?}");
}

#[tokio::test]
async fn endpoints_are_read_and_a_token_is_made_only_on_request() {
    let mut w = Watched::open().await;
    let scene = w
        .until("figures", |s, _| {
            s.serving.first().is_some_and(|v| v.running.is_some())
        })
        .await;
    let v = scene.serving.first().unwrap();
    assert_eq!(
        (v.ready, v.version.as_deref(), v.kv_usage),
        (Some(true), Some("0.11.2"), Some(0.5))
    );
    assert_eq!(v.models, ["m"]);
    assert_eq!(w.api.count("/completions"), 0);
    w.errands.send(Errand::Line("generate".into())).unwrap();
    let number = std::cell::Cell::new(None);
    w.until("the question", |_, e| match e {
        Event::Ask(q) => {
            assert_eq!(q.level, Level::Act);
            assert!(q.body.contains("POST :8000/v1/completions"), "{}", q.body);
            number.set(Some(q.number));
            true
        }
        _ => false,
    })
    .await;
    assert_eq!(w.api.count("/completions"), 0, "nothing before the answer");
    let number = number.get().unwrap();
    w.errands
        .send(Errand::Answer { number, yes: true })
        .unwrap();
    let scene = w
        .until("a token", |s, _| {
            s.serving.first().is_some_and(|v| v.generated.is_some())
        })
        .await;
    let made = scene.serving.first().unwrap().generated.clone().unwrap().1;
    assert_eq!(made.map(|(tokens, _)| tokens), Ok(1));
    assert_eq!(w.api.count("/completions"), 1);
}
