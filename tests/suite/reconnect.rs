//! What a session over a cluster does when things come back, or don't: nobody is stormed, nothing is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ncclscope::model::event::{EdgeEvent, EdgeState, Event, Feed, Stamped};
use ncclscope::model::kiosk::{Kiosk, Plan};
use ncclscope::model::update;
use ncclscope::rules::scene::Scene;
use ncclscope::sources::cluster::{ClusterOptions, Found, connect, find};
use ncclscope::theme::Theme;
use serde_json::json;

use crate::cluster::{Heard, Turns, list, pod};
use crate::fakeapi::{Answer, Asked, FakeApi};
use crate::stage;

const PODS: &str = "/api/v1/namespaces/prod/pods";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_what_it_has_just_listed_is_not_stormed() {
    let server = FakeApi::start(|a| match a.path.as_str() {
        PODS if a.is_watch() => Answer::status(410, "Expired", "too old resource version"),
        PODS => list("PodList", 5, &[pod("a", 3)]),
        _ => Turns::default().next(),
    })
    .await;
    let mut heard = Heard::start(&server).await;
    heard
        .until("three lists", |h| {
            h.pods.iter().filter(|p| *p == "synced").count() >= 3
        })
        .await;
    let asked = server.asked();
    let lists = asked.iter().filter(|a| a.path == PODS && !a.is_watch());
    assert!(lists.count() <= 4, "a pause between them");
    let waits = heard
        .edges
        .iter()
        .any(|(edge, state)| edge == "pods" && matches!(state, EdgeState::Retrying { .. }));
    assert!(waits, "{:?}", heard.edges);
}

/// What is found of a workload by its name.
async fn named(rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Result<String, String> {
    let server = FakeApi::start(rule).await;
    let options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        workload: Some("llm".into()),
        namespace: Some("prod".into()),
        ..ClusterOptions::default()
    };
    let link = connect(&options).await.unwrap();
    match find(&link, &options).await {
        Ok(Found::One(w)) => Ok(format!("{}/{}", w.kind, w.name)),
        Ok(Found::Choice(..)) => Err("a choice".into()),
        Err(e) => Err(e.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_api_hides_no_workload_of_another() {
    let broken = |a: &Asked| match a.path.as_str() {
        "/apis/leaderworkerset.x-k8s.io/v1/namespaces/prod/leaderworkersets/llm" => {
            Answer::status(500, "InternalError", "conversion webhook failed")
        }
        "/apis/apps/v1/namespaces/prod/deployments/llm" => Answer::Json(
            200,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llm", "namespace": "prod"},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "llm"}}}}),
        ),
        _ => Answer::status(404, "NotFound", "not found"),
    };
    assert_eq!(named(broken).await.as_deref(), Ok("deploy/llm"));
    // Without it nobody knows whether there is one.
    let alone = move |a: &Asked| match broken(a) {
        Answer::Json(200, _) => Answer::status(404, "NotFound", "not found"),
        other => other,
    };
    let why = named(alone).await.unwrap_err();
    assert!(why.contains("conversion webhook failed"), "{why}");
}

/// A workload that was named before it was made is on screen soon after it is; until then the screen says that it
/// waits, and what else there is is not listed with every look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_is_not_there_yet_is_waited_for() {
    const IT: &str = "/apis/apps/v1/namespaces/prod/deployments/llm";
    let made = Arc::new(AtomicBool::new(false));
    let there = made.clone();
    let server = FakeApi::start(move |a| match a.path.as_str() {
        IT if there.load(Ordering::SeqCst) => Answer::Json(
            200,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llm", "namespace": "prod"},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "llm"}}}}),
        ),
        PODS if !a.is_watch() => list("PodList", 5, &[]),
        _ => Answer::status(404, "NotFound", "not found"),
    })
    .await;
    let options = ClusterOptions {
        kubeconfig: Some(server.kubeconfig("{token: t}")),
        workload: Some("deploy/llm".into()),
        namespace: Some("prod".into()),
        ..ClusterOptions::default()
    };
    let mut heard = Heard::of(connect(&options).await.unwrap(), options);
    let state = |h: &Heard| {
        let mut all = h.edges.iter().rev();
        all.find(|(edge, _)| edge == "discovery")
            .map(|(edge, s)| s.awaited(edge))
    };
    heard
        .until("that it waits", |h| state(h).is_some_and(|s| s.is_some()))
        .await;
    let sentence = "there is no deploy/llm in namespace prod, nor any other; waiting for it";
    assert_eq!(state(&heard).flatten().as_deref(), Some(sentence));
    made.store(true, Ordering::SeqCst);
    heard.until("it", |h| state(h) == Some(None)).await;
    heard
        .until("its pods", |h| h.pods.iter().any(|p| p == "synced"))
        .await;
    let asked = server.asked();
    let lists = asked.iter().filter(|a| a.path.ends_with("/statefulsets"));
    assert_eq!(lists.count(), 2, "for the sentence, and for the choice");
}

/// How it is said, and where: of a wall that began before its workload too.
#[test]
fn a_screen_says_what_it_waits_for() {
    for kiosk in [false, true] {
        let mut model = stage::model(120, 40);
        model.session.feed = Feed::Cluster;
        model.screen.kiosk = kiosk.then(|| Kiosk::new(Plan::default()));
        let edge = EdgeEvent {
            edge: "discovery".into(),
            state: EdgeState::Down {
                why: "there is no sts/llm in namespace prod".into(),
            },
        };
        for (at, event) in [(1, Event::Edge(edge)), (12, Event::Tick)] {
            let at = at * 1_000_000_000;
            update(&mut model, Stamped { seq: 1, at, event });
        }
        let scene = Scene::of(&model);
        let text = stage::text(&stage::draw(&scene, &model, &Theme::probe(false))).join("\n");
        let said = "here is no sts/llm in namespace prod; waiting for it";
        assert!(text.contains(said), "{text}");
        assert!(
            !text.contains("no discovery") && !text.contains("can be read"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_not_said_to_be_absent() {
    let refused = |a: &Asked| {
        if a.path.ends_with("/llm") {
            return Answer::status(404, "NotFound", "not found");
        }
        if a.path == PODS {
            return list("PodList", 5, &[]);
        }
        Answer::status(403, "Forbidden", "cannot list resource")
    };
    let why = named(refused).await.unwrap_err();
    assert!(
        why.starts_with("there is no workload \"llm\" in namespace prod"),
        "{why}"
    );
    assert!(!why.contains("nor any other"), "{why}");
}
