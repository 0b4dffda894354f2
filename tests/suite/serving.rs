//! Endpoints of the served model: read by the names of every version, folded, judged, shown.

use ncclscope::model::event::{
    Command, ContainerKey, ContainerState, ContainerView, Event, PodKey, PodView, ProbeEvent,
    ProbeOutcome, Stamped,
};
use ncclscope::model::probes::Probes;
use ncclscope::model::screen::PaneId;
use ncclscope::model::{Model, update};
use ncclscope::parse::serving::{completion, metrics, models, version};
use ncclscope::rules::scene::Scene;
use ncclscope::sources::endpoints::Server;

use crate::stage;

const SECOND: i64 = 1_000_000_000;

#[test]
fn the_names_of_every_version_are_read() {
    // V0, V1 with both names, v0.12 and later.
    for (page, kv) in [
        ("vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.25\n", 0.25),
        (
            "vllm:gpu_cache_usage_perc{engine=\"0\"} 0.3\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.4\n",
            0.4,
        ),
        (
            "vllm:kv_cache_usage_perc{engine=\"0\"} 0.1\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.7\n",
            0.7,
        ),
    ] {
        assert_eq!(metrics(page.as_bytes()).kv_usage, Some(kv), "{page}");
    }
    let two = "vllm:num_requests_running{engine=\"0\"} 3.0\nvllm:num_requests_running{engine=\"1\"} 4.0\nvllm:num_requests_waiting{engine=\"0\"} 2\nvllm:prompt_tokens_total{engine=\"0\"} 1e3\nvllm:generation_tokens_total{engine=\"0\"} 10\nvllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9\n";
    let m = metrics(two.as_bytes());
    assert_eq!(
        (m.running, m.waiting, m.tokens, m.kv_usage),
        (Some(7.0), Some(2.0), Some(1010.0), None)
    );
    assert_eq!(
        metrics(b"not a page"),
        ncclscope::parse::serving::Metrics::default()
    );
}

#[test]
fn bodies_are_read_and_rubbish_is_not() {
    let list = models(
        r#"{"data":[{"id":"llm","max_model_len":4096,"parent":null},{"id":"ad\u001b[31mapter","parent":"llm"},{"noid":1}]}"#,
    );
    assert_eq!(list.len(), 2);
    assert_eq!((list[0].id.as_str(), list[0].max_len), ("llm", Some(4096)));
    assert!(!list[1].id.contains('\u{1b}'));
    assert_eq!(
        version(r#"{"version":"0.11.2"}"#).as_deref(),
        Some("0.11.2")
    );
    assert_eq!(
        completion(r#"{"choices":[{"text":" there"}],"usage":{"completion_tokens":1}}"#),
        Some((1, " there".into()))
    );
    for rubbish in ["", "<html>", "[]", "{\"data\":7}", "null"] {
        assert!(
            models(rubbish).is_empty()
                && version(rubbish).is_none()
                && completion(rubbish).is_none()
        );
    }
}

fn answer(model: &mut Model, at: i64, probe: &str, outcome: ProbeOutcome) {
    let container = ContainerKey {
        pod: PodKey {
            namespace: "prod".into(),
            name: "llm-0".into(),
        },
        container: "vllm".into(),
    };
    let event = Event::Probe(ProbeEvent {
        probe: probe.into(),
        container: Some(container),
        ran: "GET :8000/x".into(),
        outcome,
    });
    update(
        model,
        Stamped {
            seq: 0,
            at: at * SECOND,
            event,
        },
    );
}

fn ok(code: i32, out: &str) -> ProbeOutcome {
    ProbeOutcome::Answered {
        code,
        out: out.into(),
        err: String::new(),
        cut: false,
        ms: 84,
    }
}

/// Ready is one thing, at work another: requests that run without a token for half a minute are said.
#[test]
fn ready_is_told_from_working() {
    let mut model = stage::model(120, 40);
    let failed = |why: &str| ProbeOutcome::Failed { why: why.into() };
    answer(&mut model, 1, "health", failed("connection refused"));
    let s = Scene::of(&model).serving.remove(0);
    assert_eq!(
        (s.ready, s.why.as_deref()),
        (None, Some("connection refused"))
    );
    answer(&mut model, 2, "health", ok(503, ""));
    assert_eq!(Scene::of(&model).serving[0].ready, Some(false));
    answer(&mut model, 3, "health", ok(200, ""));
    let page = |tokens: u32, running: u32| {
        ok(
            200,
            &format!(
                "vllm:num_requests_running 1{running}\nvllm:num_requests_waiting 0\nvllm:generation_tokens_total {tokens}\n"
            ),
        )
    };
    answer(&mut model, 10, "metrics", page(5, 1));
    answer(&mut model, 30, "metrics", page(9, 1));
    assert_eq!(Scene::of(&model).serving[0].stuck_since, None);
    for second in [50, 70] {
        answer(&mut model, second, "metrics", page(9, 1));
    }
    let scene = Scene::of(&model);
    assert_eq!(scene.serving[0].ready, Some(true));
    assert_eq!(
        scene.serving[0].stuck_since.map(|a| a.ns),
        Some(30 * SECOND)
    );
    stage::act(
        &scene,
        &mut model,
        &[Command::Pane(PaneId::Overview.id().into())],
    );
    let shot = stage::photograph(&scene, &model);
    assert!(shot.contains("ready, and no token for 40 s"), "{shot}");
    answer(&mut model, 75, "metrics", page(10, 1));
    answer(
        &mut model,
        76,
        "generate",
        ok(
            200,
            r#"{"choices":[{"text":"x"}],"usage":{"completion_tokens":1}}"#,
        ),
    );
    let scene = Scene::of(&model);
    assert_eq!(scene.serving[0].stuck_since, None);
    assert_eq!(scene.serving[0].generated.as_ref().unwrap().1, Ok((1, 84)));
    let shot = stage::photograph(&scene, &model);
    assert!(shot.contains("made 1 token in 84 ms"), "{shot}");
}

fn server(pod: &PodView) -> Option<Server> {
    Server::of(pod, &Probes::default())
}

#[test]
fn servers_are_looked_for_where_they_are() {
    let pod = |name: &str, args: &[&str]| PodView {
        namespace: "prod".into(),
        name: name.into(),
        containers: vec![ContainerView {
            name: "vllm".into(),
            gpus: 8,
            state: ContainerState::Running { since: None },
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            ..ContainerView::default()
        }],
        ..PodView::default()
    };
    assert_eq!(server(&pod("llm", &["serve", "m"])).unwrap().port, 8000);
    assert_eq!(
        server(&pod("llm", &["serve", "m", "--port", "9001"]))
            .unwrap()
            .port,
        9001
    );
    assert_eq!(
        server(&pod(
            "llm",
            &["vllm serve m --port=9002 --tensor-parallel-size 8"]
        ))
        .unwrap()
        .port,
        9002
    );
    assert_eq!(server(&pod("llm", &["serve", "m", "--headless"])), None);
    // Workers of a Ray cluster have GPUs and no server, whoever started them.
    let joins = pod("llm-1", &["ray start --address=llm-0:6379 --block"]);
    assert_eq!(server(&joins), None);
    let mut kube = pod("llm-worker", &["$KUBERAY_GEN_RAY_START_CMD"]);
    kube.labels.insert("ray.io/cluster".into(), "llm".into());
    kube.labels
        .insert("ray.io/node-type".into(), "worker".into());
    assert_eq!(server(&kube), None);
    kube.labels.insert("ray.io/node-type".into(), "head".into());
    assert_eq!(server(&kube).unwrap().port, 8000);
}
