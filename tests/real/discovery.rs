//! Workloads found, by whom, and at what cost.

use std::collections::{BTreeMap, BTreeSet};

use kube::Api;
use kube::api::{DeleteParams, ListParams};
use ncclscope::model::event::EdgeState;
use ncclscope::sources::cluster::{ClusterOptions, Found, find};
use serde_json::{Value, json};
use std::time::Duration;

use crate::heard::Heard;
use crate::plane::{Plane, eventually, pod};

/// One workload of each kind, as its controller would make it where the control plane has none.
async fn kinds(p: &Plane, ns: &str) {
    let template = |labels: Value| {
        json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "vllm", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
        ]}})
    };
    let bare = template(json!({}));
    let meta = |name: &str| json!({"name": name, "namespace": ns});
    let owned = |kind: &str,
                 version: &str,
                 owner: &kube::api::DynamicObject,
                 name: &str,
                 labels: Value| {
        let mut pod = pod(ns, name, labels, json!({}));
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind, "controller": true,
            "name": owner.metadata.name, "uid": owner.metadata.uid}]);
        pod
    };
    let create = async |v: Value| p.create(v).await;
    let mut pods = Vec::new();

    let lws = create(json!({"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": meta("mix"),
        "spec": {"replicas": 2, "leaderWorkerTemplate": {"size": 2, "workerTemplate": bare}}})).await;
    for (name, group, index) in [
        ("mix-0", "0", "0"),
        ("mix-0-1", "0", "1"),
        ("mix-1", "1", "0"),
    ] {
        pods.push(owned("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1", &lws, name, json!({
            "leaderworkerset.sigs.k8s.io/name": "mix", "leaderworkerset.sigs.k8s.io/group-index": group,
            "leaderworkerset.sigs.k8s.io/worker-index": index})));
    }
    // run:ai's distributed inference is a LeaderWorkerSet of its own; `--workers 3` are four pods.
    let runai = json!([{"apiVersion": "run.ai/v1alpha1", "kind": "DistributedInferenceWorkload", "controller": true,
        "name": "rai", "uid": "8f6dbd5a-3a8e-4c0e-9a4b-0d6f6b6a1c11"}]);
    let lws = create(
        json!({"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
        "metadata": {"name": "rai", "namespace": ns, "ownerReferences": runai},
        "spec": {"replicas": 1, "leaderWorkerTemplate": {"size": 4, "workerTemplate": bare}}}),
    )
    .await;
    for (name, index) in [("rai-0", "0"), ("rai-0-2", "2")] {
        let labels = json!({"leaderworkerset.sigs.k8s.io/name": "rai", "leaderworkerset.sigs.k8s.io/group-index": "0",
            "leaderworkerset.sigs.k8s.io/worker-index": index, "run.ai/workload-name": "rai"});
        pods.push(owned(
            "LeaderWorkerSet",
            "leaderworkerset.x-k8s.io/v1",
            &lws,
            name,
            labels,
        ));
    }
    let ray = create(json!({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": meta("rayc"),
        "spec": {"headGroupSpec": {"template": bare},
                 "workerGroupSpecs": [{"groupName": "w", "replicas": 2, "numOfHosts": 2, "template": bare}]}})).await;
    pods.push(owned(
        "RayCluster",
        "ray.io/v1",
        &ray,
        "rayc-head",
        json!({"ray.io/cluster": "rayc", "ray.io/node-type": "head"}),
    ));
    create(json!({"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": meta("js"),
        "spec": {"replicatedJobs": [{"name": "w", "replicas": 2, "template": {"spec": {"parallelism": 3, "template": bare}}}]}})).await;
    let torch = create(json!({"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": meta("torch"),
        "spec": {"pytorchReplicaSpecs": {"Master": {"replicas": 1, "template": bare}, "Worker": {"replicas": 3, "template": bare}}}})).await;
    pods.push(owned("PyTorchJob", "kubeflow.org/v1", &torch, "torch-master-0", json!({
        "training.kubeflow.org/job-name": "torch", "training.kubeflow.org/operator-name": "pytorchjob-controller",
        "training.kubeflow.org/replica-type": "master", "training.kubeflow.org/replica-index": "0"})));
    // A kind that is not known by name: its pods say whose they are.
    let train = create(json!({"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": meta("tj"), "spec": {}})).await;
    for i in 0..2 {
        let labels = json!({"step": "trainer"});
        pods.push(owned(
            "TrainJob",
            "trainer.kubeflow.org/v1alpha1",
            &train,
            &format!("tj-{i}"),
            labels,
        ));
    }
    // These three have real controllers here.
    create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("indexed"), "spec": {
        "completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "template": {"spec": {"restartPolicy": "Never", "containers": bare["spec"]["containers"]}}}})).await;
    create(
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("set"), "spec": {
        "replicas": 2, "serviceName": "set", "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": "set"}}, "template": template(json!({"app": "set"}))}}),
    )
    .await;
    create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("web"), "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template(json!({"app": "web"}))}})).await;
    pods.push(pod(ns, "lonely", json!({}), json!({})));
    p.pods(pods).await;
}

pub async fn every_kind_of_workload_is_discovered(p: &Plane) {
    p.namespace("kinds").await;
    kinds(p, "kinds").await;
    eventually("the controllers' pods", async || {
        p.api("kinds")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len()
            >= 15
    })
    .await;
    let options = p.options("admin", "kinds");
    let link = p.link(&options).await;
    let Found::Choice(all, refused) = find(&link, &options).await.unwrap() else {
        panic!("one of many")
    };
    assert!(refused.is_empty());
    let seen: BTreeMap<_, _> = all
        .iter()
        .map(|w| {
            (
                format!("{}/{}", w.kind, w.name),
                (w.expected, w.gpus, w.pods.len()),
            )
        })
        .collect();
    let want: BTreeMap<_, _> = [
        ("lws/mix", (Some(4), 8, 3)),
        ("lws/rai", (Some(4), 8, 2)),
        ("raycluster/rayc", (Some(5), 10, 1)),
        ("jobset/js", (Some(6), 12, 0)),
        ("pytorchjob/torch", (Some(4), 8, 1)),
        ("job/indexed", (Some(2), 4, 2)),
        ("sts/set", (Some(2), 4, 2)),
        ("deploy/web", (Some(1), 2, 1)),
        ("trainjob/tj", (None, 0, 2)),
        ("pod/lonely", (Some(1), 0, 1)),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_string(), v))
    .collect();
    assert_eq!(seen, want);
    assert!(all.iter().all(|w| !w.rule.is_empty()), "every one says why");
    let tj = all.iter().find(|w| w.name == "tj").unwrap();
    assert_eq!(tj.rule, "owners: TrainJob tj");
    assert_eq!(tj.selector, "step=trainer", "what only its pods have");
    let rai = all.iter().find(|w| w.name == "rai").unwrap();
    assert_eq!(
        rai.rule,
        "label leaderworkerset.sigs.k8s.io/name=rai, written by the LeaderWorkerSet controller; made for run:ai's DistributedInferenceWorkload rai"
    );
    let lws = all.iter().find(|w| w.kind == "lws").unwrap();
    assert_eq!(
        lws.pods,
        [
            (Some(0), "mix-0".into()),
            (Some(1), "mix-0-1".into()),
            (Some(0), "mix-1".into())
        ]
    );

    // Each by its name, with and without its kind; and what is watched then is it and nothing else.
    for (name, pods) in [
        ("mix", 3),
        ("rai", 2),
        ("sts/set", 2),
        ("statefulset/set", 2),
        ("job/indexed", 2),
        ("deploy/web", 1),
        ("tj", 2),
        ("lonely", 1),
        ("raycluster/rayc", 1),
    ] {
        let options = ClusterOptions {
            workload: Some(name.into()),
            ..options.clone()
        };
        let mut heard = Heard::of(link.clone(), options);
        heard.until("its pods", |h| h.pods.synced()).await;
        assert_eq!(heard.names().len(), pods, "{name}: {:?}", heard.names());
        assert_eq!(heard.workloads.len(), 1, "{name}");
        if name == "rai" {
            let census = heard.pods.census();
            assert_eq!((census.expected, census.created), (Some(4), 2));
            assert_eq!(census.missing, [(0, 1), (0, 3)], "group and index");
        }
    }
    let missing = ClusterOptions {
        workload: Some("nothing".into()),
        ..options.clone()
    };
    let said = find(&link, &missing).await.unwrap_err().to_string();
    assert!(
        said.starts_with(
            "there is no workload \"nothing\" in namespace kinds; there is jobset/js, raycluster/rayc,"
        ),
        "{said}"
    );

    // A workload that is scaled has another size, and says so by itself.
    let mut heard = Heard::of(
        link.clone(),
        ClusterOptions {
            workload: Some("sts/set".into()),
            ..options.clone()
        },
    );
    heard
        .until("two of two", |h| h.pods.census().created == 2)
        .await;
    let sets: Api<k8s_openapi::api::apps::v1::StatefulSet> =
        Api::namespaced(p.admin.clone(), "kinds");
    let three = kube::api::Patch::Merge(json!({"spec": {"replicas": 3}}));
    sets.patch("set", &kube::api::PatchParams::default(), &three)
        .await
        .unwrap();
    heard
        .until("three of three", |h| {
            h.pods.census().expected == Some(3) && h.pods.census().created == 3
        })
        .await;
    assert!(heard.pods.census().missing.is_empty());
}

pub async fn a_restricted_user_sees_what_he_may(p: &Plane) {
    p.namespace("narrow").await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "look", "namespace": "narrow"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]});
    p.create(role).await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "look", "namespace": "narrow"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "look"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "observer"}]}))
        .await;
    let labels = json!({"leaderworkerset.sigs.k8s.io/name": "mix", "leaderworkerset.sigs.k8s.io/worker-index": "0"});
    p.pods(vec![pod(
        "narrow",
        "mix-0",
        labels,
        json!({"cplane.test/log": "{\"generate\":3}"}),
    )])
    .await;
    eventually("the pod", async || {
        p.api("narrow")
            .get("mix-0")
            .await
            .unwrap()
            .status
            .and_then(|s| s.phase)
            .as_deref()
            == Some("Running")
    })
    .await;
    // By its label, since the LeaderWorkerSet itself can't be read.
    let options = ClusterOptions {
        workload: Some("lws/mix".into()),
        ..p.options("observer", "narrow")
    };
    let link = p.link(&options).await;
    eventually("the binding", async || find(&link, &options).await.is_ok()).await;
    let mut heard = Heard::of(link.clone(), options.clone());
    heard
        .until("three refusals", |h| {
            ["events", "logs", "workload"]
                .iter()
                .all(|e| h.forbidden(e).is_some())
        })
        .await;
    assert_eq!(heard.names(), ["mix-0"]);
    assert_eq!(heard.state("pods"), Some(&EdgeState::Up));
    assert_eq!(
        heard.forbidden("events"),
        Some("list and watch events in namespace narrow")
    );
    assert_eq!(
        heard.forbidden("logs"),
        Some("get pods/log in namespace narrow")
    );
    assert_eq!(
        heard.workloads[0].rule,
        "label leaderworkerset.sigs.k8s.io/name=mix; leaderworkersets can't be read"
    );
    // The picker shows what the pods tell.
    let options = ClusterOptions {
        workload: None,
        ..options
    };
    match find(&link, &options).await.unwrap() {
        Found::One(w) => assert_eq!((w.kind.as_str(), w.name.as_str()), ("lws", "mix")),
        other => panic!("{other:?}"),
    }
    // Another namespace is closed, and says so.
    let options = ClusterOptions {
        selector: Some("a=b".into()),
        ..p.options("observer", "default")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("the refusal", |h| h.forbidden("pods").is_some())
        .await;
    assert_eq!(
        heard.forbidden("pods"),
        Some("list and watch pods in namespace default")
    );
}

pub async fn three_thousand_foreign_pods_are_never_listed(p: &Plane) {
    p.namespace("crowd").await;
    let foreign = (0..3_000).map(|i| {
        let mut one = pod(
            "crowd",
            &format!("x{i}"),
            json!({"app": "other"}),
            json!({}),
        );
        // Nobody schedules them: they are there, and that is all.
        one["spec"]["schedulerName"] = json!("nobody");
        one
    });
    p.pods(foreign.collect()).await;
    p.pods(
        (0..4)
            .map(|i| {
                pod(
                    "crowd",
                    &format!("ours{i}"),
                    json!({"app": "llm"}),
                    json!({}),
                )
            })
            .collect(),
    )
    .await;
    let (_, from) = p.audit(0);
    let options = ClusterOptions {
        selector: Some("app=llm".into()),
        ..p.options("admin", "crowd")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("our pods run", |h| h.pods.census().ready == 4)
        .await;
    heard.listen(Duration::from_secs(5)).await;
    assert_eq!(heard.names(), ["ours0", "ours1", "ours2", "ours3"]);
    let (asked, _) = p.audit(from);
    let pods: Vec<_> = asked
        .iter()
        .filter(|r| r.resource == "pods" && r.subresource.is_empty())
        .collect();
    assert!(!pods.is_empty());
    assert!(
        pods.iter()
            .all(|r| r.uri.contains("labelSelector=app%3Dllm")),
        "{pods:?}"
    );
    // The picker looks at one page of them, once.
    let (_, from) = p.audit(0);
    let options = p.options("admin", "crowd");
    let link = p.link(&options).await;
    let found = find(&link, &options).await.unwrap();
    drop(found);
    let (asked, _) = p.audit(from);
    let ids: BTreeSet<_> = asked
        .iter()
        .filter(|r| r.resource == "pods")
        .map(|r| &r.id)
        .collect();
    assert_eq!(ids.len(), 1, "{asked:?}");
    // Away with them, for the tests that follow: some at a time, because the API server ends what takes over a minute.
    let crowd = p.api("crowd");
    let some = ListParams::default().limit(500);
    while !crowd.list_metadata(&some).await.unwrap().items.is_empty() {
        let now = DeleteParams::default().grace_period(0);
        crowd.delete_collection(&now, &some).await.unwrap();
    }
}
