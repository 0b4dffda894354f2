//! The roles that `rbac` prints suffice, and give no more than they say.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use ncclscope::model::event::{EdgeState, Event, Level, ProbeOutcome};
use ncclscope::sources::cluster::needs::{self, NEEDS, Subject};
use ncclscope::sources::cluster::{self, ClusterOptions, connect};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::access::{access, spec, stubs};
use crate::plane::{Plane, eventually};

const LEVELS: [(Level, &str); 3] = [
    (Level::Observe, "observe"),
    (Level::Probe, "probe"),
    (Level::Act, "act"),
];

/// As `kubectl apply -f -` would.
async fn apply(p: &Plane, yaml: &str) {
    for document in yaml.split("---\n") {
        let object: Value = serde_yaml::from_str(document).unwrap();
        let gvk = GroupVersionKind::gvk(
            "rbac.authorization.k8s.io",
            "v1",
            object["kind"].as_str().unwrap(),
        );
        let resource = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(ns) => Api::namespaced_with(p.admin.clone(), ns, &resource),
            None => Api::all_with(p.admin.clone(), &resource),
        };
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

pub async fn the_roles_that_are_printed_suffice(p: &Plane) {
    for (level, word) in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let ns = format!("rbac-{word}");
        stubs(p, &ns, dir.path()).await;
        let options = p.options("observer", &ns);
        let link = connect(&options).await.unwrap();
        apply(
            p,
            &needs::yaml(level, &ns, &[Subject::User("observer".into())]),
        )
        .await;
        // Authorizers learn of a role a moment after it was made.
        eventually("the role holds", async || {
            needs::allowed(&link, &NEEDS[0], "list", &ns).await.unwrap()
        })
        .await;
        for need in NEEDS {
            for verb in need.verbs {
                // Cluster-wide roles of the levels before hold here, too.
                let given = NEEDS.iter().any(|n| {
                    n.level <= level
                        && (n.group, n.resource) == (need.group, need.resource)
                        && n.verbs.contains(verb)
                });
                let allowed = needs::allowed(&link, need, verb, &ns).await.unwrap();
                assert_eq!(allowed, given, "{word}: {}", need.rule(verb));
            }
        }
        let all = ClusterOptions {
            selector: Some("app!=nothing".into()),
            ..p.options("observer", &ns)
        };
        observes(p, all, &["pods", "events", "nodes"]).await;
        if level == Level::Observe {
            // By its owner, which is found, read and watched, too.
            let labels = json!({"app": "set"});
            p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "set", "namespace": ns},
                "spec": {"replicas": 1, "serviceName": "set", "selector": {"matchLabels": labels}, "template": {
                    "metadata": {"labels": labels}, "spec": {"containers": [{"name": "vllm", "image": "x:1"}]}}}}))
                .await;
            let named = ClusterOptions {
                workload: Some("sts/set".into()),
                ..p.options("observer", &ns)
            };
            observes(
                p,
                named,
                &["discovery", "workload", "pods", "events", "nodes"],
            )
            .await;
        }
        probes(p, &ns, level >= Level::Probe).await;
        acts(link.client(), &ns, level >= Level::Act).await;
    }
}

/// Pods, their events and their logs come, and nothing is refused.
async fn observes(p: &Plane, options: ClusterOptions, edges: &[&str]) {
    let ns = options.namespace.clone().unwrap();
    let link = p.link(&options).await;
    let (tx, mut rx) = mpsc::channel(64);
    let cancel = CancellationToken::new();
    let _end = cancel.clone().drop_guard();
    tokio::spawn(cluster::run(link, options, tx, cancel));
    let (mut pods, mut logs) = (0, 0);
    let mut up = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(5), rx.recv()).await {
        match event {
            Event::Pod(_) => pods += 1,
            Event::Source(_) => logs += 1,
            Event::Edge(edge) => match edge.state {
                EdgeState::Up => up.push(edge.edge),
                EdgeState::Forbidden { rule } => panic!("{ns}: {} refused: {rule}", edge.edge),
                _ => {}
            },
            _ => {}
        }
    }
    assert!(pods > 0 && logs > 0, "{ns}: {pods} pods, {logs} logs");
    for edge in edges {
        assert!(
            up.iter().any(|e| e == edge),
            "{ns}: {edge} never came up: {up:?}"
        );
    }
}

async fn probes(p: &Plane, ns: &str, may: bool) {
    let options = p.options("observer", ns);
    let (access, mut events) = access(connect(&options).await.unwrap(), options).await;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let outcome = access
        .probe("t", spec(ns, "shell", &["nvidia-smi", "-L"]))
        .await;
    match outcome {
        ProbeOutcome::Answered { code, .. } if may => assert_eq!(code, 0),
        ProbeOutcome::Refused { .. } if !may => {}
        other => panic!("{ns}: {other:?}"),
    }
}

/// What the all-reduce test does to the cluster.
async fn acts(client: Client, ns: &str, may: bool) {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "t"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    }))
    .unwrap();
    let service: Service = serde_json::from_value(
        json!({"metadata": {"name": "t"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}}),
    )
    .unwrap();
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "t"}, "data": {"a": "b"}})).unwrap();
    async fn round<K>(client: &Client, ns: &str, object: &K) -> Result<(), kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(client.clone(), ns);
        api.create(&PostParams::default(), object).await?;
        api.get("t").await?;
        api.list(&ListParams::default()).await?;
        api.delete("t", &DeleteParams::background()).await?;
        Ok(())
    }
    let all = [
        round(&client, ns, &job).await,
        round(&client, ns, &service).await,
        round(&client, ns, &map).await,
    ];
    for (what, done) in ["job", "service", "configmap"].iter().zip(all) {
        match done {
            Ok(()) => assert!(may, "{ns}: {what} was created"),
            Err(kube::Error::Api(e)) if e.code == 403 => assert!(!may, "{ns}: {what}: {e}"),
            Err(e) => panic!("{ns}: {what}: {e}"),
        }
    }
}
