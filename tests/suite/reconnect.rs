//! What a session over a cluster does when things come back, or don't: nobody is stormed, nothing is given up.

use ncclscope::model::event::EdgeState;
use ncclscope::sources::cluster::{ClusterOptions, Found, connect, find};
use serde_json::json;

use crate::cluster::{Heard, Turns, list, pod};
use crate::fakeapi::{Answer, Asked, FakeApi};

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
