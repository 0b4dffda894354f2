//! What the edge must do on a real API server.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, ObjectList};
use kube::{Api, Resource as _};
use ncclscope::model::event::EdgeState;
use ncclscope::model::pods::kubectl::{Columns, age};
use ncclscope::model::pods::why;
use ncclscope::sources::cluster::{ClusterOptions, Found, find};
use serde_json::{Value, json};

use crate::access::{
    a_command_ends_soon_after_we_vanish, a_refused_command_names_the_rule,
    commands_run_over_both_protocols, what_nccl_writes_to_a_file_is_followed,
};
use crate::allreduce::{
    a_test_from_the_screen_asks_and_cleans_up, a_test_is_removed_however_it_ends,
    a_test_is_what_was_shown_and_leaves_nothing, a_test_needs_leave,
};
use crate::heard::Heard;
use crate::levels::the_roles_that_are_printed_suffice;
use crate::plane::{Plane, eventually, pod};
use crate::sampler::sixteen_pods_are_sampled_and_left_alone;
use crate::screen::Screen;

type Case = fn(&Plane) -> Pin<Box<dyn Future<Output = ()> + '_>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[(&str, Case)] = &[$((stringify!($name), |p| Box::pin($name(p)))),*];
    };
}

cases![
    the_screen_shows_two_pods_and_how_their_ranks_talk,
    every_kind_of_workload_is_discovered,
    the_columns_are_those_of_the_api_servers_own_table,
    why_a_pod_is_pending_comes_by_events,
    a_restricted_user_sees_what_he_may,
    expired_credentials_are_said_and_nothing_hangs,
    watches_survive_restarts_compaction_and_cut_connections,
    every_line_of_64_pods_comes_once_or_is_counted,
    three_thousand_foreign_pods_are_never_listed,
    a_quiet_screen_costs_almost_no_requests,
    five_hundred_pods_are_followed_in_bounded_memory,
    nodes_that_carry_our_pods_are_read_where_they_may_be,
    commands_run_over_both_protocols,
    what_nccl_writes_to_a_file_is_followed,
    a_command_ends_soon_after_we_vanish,
    a_refused_command_names_the_rule,
    sixteen_pods_are_sampled_and_left_alone,
    the_roles_that_are_printed_suffice,
    a_test_is_what_was_shown_and_leaves_nothing,
    a_test_is_removed_however_it_ends,
    a_test_needs_leave,
    a_test_from_the_screen_asks_and_cleans_up,
];

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

async fn every_kind_of_workload_is_discovered(p: &Plane) {
    p.namespace("kinds").await;
    kinds(p, "kinds").await;
    eventually("the controllers' pods", async || {
        p.api("kinds")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len()
            >= 11
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
        ("raycluster/rayc", (Some(5), 10, 1)),
        ("jobset/js", (Some(6), 12, 0)),
        ("pytorchjob/torch", (Some(4), 8, 1)),
        ("job/indexed", (Some(2), 4, 2)),
        ("sts/set", (Some(2), 4, 2)),
        ("deploy/web", (Some(1), 2, 1)),
        ("pod/lonely", (Some(1), 0, 1)),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_string(), v))
    .collect();
    assert_eq!(seen, want);
    assert!(all.iter().all(|w| !w.rule.is_empty()), "every one says why");
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
        ("sts/set", 2),
        ("statefulset/set", 2),
        ("job/indexed", 2),
        ("deploy/web", 1),
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

const PHASES: &[&str] = &[
    "running",
    "not-ready",
    "unready-all",
    "restarted",
    "creating",
    "image-pull",
    "image-pull-backoff",
    "bad-image",
    "never-pulled",
    "config-error",
    "create-error",
    "run-error",
    "crash-loop",
    "oom-loop",
    "complete",
    "error",
    "oom",
    "start-error",
    "cannot-run",
    "exit-code",
    "signal",
    "lost-container",
    "one-complete",
    "one-failed",
    "last-failed",
    "complete-and-error",
    "init-wait",
    "init-crash-loop",
    "init-error",
    "init-exit-code",
    "init-signal",
    "init-oom",
    "init-image-pull",
    "init-initializing",
    "sidecar-waiting",
    "evicted",
    "out-of-gpu",
    "unexpected-admission",
    "topology-error",
    "node-lost",
    "node-shutdown",
    "preempting",
    "deadline",
    "unknown",
    "no-status",
    "stuck-terminating",
];

async fn the_columns_are_those_of_the_api_servers_own_table(p: &Plane) {
    p.namespace("states").await;
    let mut pods = Vec::new();
    for phase in PHASES {
        for (count, policy) in [(1, "Always"), (2, "Never")] {
            let note = json!({"cplane.test/phase": phase});
            let mut one = pod(
                "states",
                &format!("{phase}-{count}"),
                json!({"app": "states"}),
                note,
            );
            one["spec"]["restartPolicy"] = json!(policy);
            one["spec"]["terminationGracePeriodSeconds"] = json!(60);
            if count == 2 {
                let more = json!({"name": "second", "image": "x:1"});
                one["spec"]["containers"].as_array_mut().unwrap().push(more);
            }
            if phase.starts_with("init-") || *phase == "sidecar-waiting" {
                let mut init = vec![
                    json!({"name": "first", "image": "x:1"}),
                    json!({"name": "last", "image": "x:1"}),
                ];
                if *phase == "sidecar-waiting" {
                    init[1]["restartPolicy"] = json!("Always");
                }
                one["spec"]["initContainers"] = json!(init);
            }
            pods.push(one);
        }
    }
    let mut gated = pod("states", "gated", json!({"app": "states"}), json!({}));
    gated["spec"]["schedulingGates"] = json!([{"name": "kueue.x-k8s.io/admission"}]);
    pods.push(gated);
    let mut pending = pod("states", "too-big", json!({"app": "states"}), json!({}));
    pending["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "64"}});
    pods.push(pending);
    let count = pods.len();
    p.pods(pods).await;
    eventually("a pod that won't end runs", async || {
        let pod = p.api("states").get("stuck-terminating-1").await.unwrap();
        pod.status.and_then(|s| s.phase).as_deref() == Some("Running")
    })
    .await;
    p.api("states")
        .delete("stuck-terminating-1", &DeleteParams::default())
        .await
        .unwrap();
    let options = ClusterOptions {
        selector: Some("app=states".into()),
        ..p.options("admin", "states")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard.until("all pods", |h| h.pods.len() == count).await;
    // Until both have settled on the same; then every row must be equal.
    let mut last = Vec::new();
    for _ in 0..30 {
        heard.listen(Duration::from_secs(1)).await;
        let table = table(p, "states").await;
        let now = jiff::Timestamp::now().as_nanosecond() as i64;
        let ours: BTreeMap<_, _> = heard
            .pods
            .iter()
            .map(|(k, v)| (k.name.clone(), v))
            .collect();
        last = table
            .iter()
            .filter(|row| {
                let Some(pod) = ours.get(&row[0]) else {
                    return true;
                };
                let c = Columns::of(pod);
                // The table's clock is read a moment before ours.
                let close = |f: &dyn Fn(i64) -> String, cell: &str| {
                    (-2..=1).any(|s| f(now + s * 1_000_000_000) == cell)
                };
                let equal = c.ready_text() == row[1]
                    && c.status == row[2]
                    && close(&|n| c.restarts_text(Some(n)), &row[3])
                    && close(&|n| age(pod.created, Some(n)), &row[4]);
                !equal
            })
            .map(|row| {
                let c = ours.get(&row[0]).map(|p| Columns::of(p));
                format!("{row:?} {c:?}")
            })
            .collect();
        let settled = table
            .iter()
            .filter(|r| r[2] == "Pending" || r[2] == "ContainerCreating")
            .count()
            <= 8;
        if last.is_empty() && settled && table.len() == count {
            let states: BTreeSet<_> = table.iter().map(|r| r[2].clone()).collect();
            println!(
                "  {} pods in {} states read as the API server's table does",
                table.len(),
                states.len()
            );
            assert!(table.len() >= 40 && states.len() >= 30, "{states:?}");
            return;
        }
    }
    panic!("rows differ:\n{}", last.join("\n"));
}

/// NAME, READY, STATUS, RESTARTS, AGE as the API server prints them.
async fn table(p: &Plane, namespace: &str) -> Vec<[String; 5]> {
    let request = http::Request::get(format!("/api/v1/namespaces/{namespace}/pods"))
        .header(
            "accept",
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        )
        .body(Vec::new())
        .unwrap();
    let table: Value = p.admin.request(request).await.unwrap();
    let cell = |r: &Value, i: usize| {
        r["cells"][i]
            .as_str()
            .map_or_else(|| r["cells"][i].to_string(), String::from)
    };
    let rows = table["rows"].as_array().unwrap().iter();
    rows.map(|r| [cell(r, 0), cell(r, 1), cell(r, 2), cell(r, 3), cell(r, 4)])
        .collect()
}

async fn why_a_pod_is_pending_comes_by_events(p: &Plane) {
    p.namespace("pending").await;
    let mut big = pod("pending", "big", json!({"app": "big"}), json!({}));
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "9"}});
    p.pods(vec![
        big,
        pod(
            "pending",
            "other",
            json!({}),
            json!({"cplane.test/phase": "image-pull"}),
        ),
    ])
    .await;
    let options = ClusterOptions {
        selector: Some("app=big".into()),
        ..p.options("admin", "pending")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("the scheduler's event", |h| {
            h.pods.events().any(|e| e.reason == "FailedScheduling")
        })
        .await;
    heard
        .until("the condition", |h| {
            h.pods
                .iter()
                .any(|(_, p)| why::why(p).is_some_and(|w| w.starts_with("0/")))
        })
        .await;
    let (_, pod) = heard.pods.iter().next().unwrap();
    assert_eq!(
        why::why(pod).unwrap(),
        "0/4 nodes: 4 Insufficient nvidia.com/gpu"
    );
    assert!(
        heard.pods.events().all(|e| e.object == "big"),
        "foreign events stay away"
    );

    // An owner that can't make its first pod has no pod to show: its own events tell.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "pending"},
        "spec": {"hard": {"count/pods": "2"}}});
    p.create(quota).await;
    eventually("the quota", async || {
        let quotas: Api<k8s_openapi::api::core::v1::ResourceQuota> =
            Api::namespaced(p.admin.clone(), "pending");
        quotas
            .get("none")
            .await
            .unwrap()
            .status
            .and_then(|s| s.used)
            .is_some_and(|u| !u.is_empty())
    })
    .await;
    p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "late", "namespace": "pending"},
        "spec": {"replicas": 2, "serviceName": "late", "selector": {"matchLabels": {"app": "late"}}, "template":
            {"metadata": {"labels": {"app": "late"}}, "spec": {"containers": [{"name": "vllm", "image": "x:1"}]}}}}))
        .await;
    let options = ClusterOptions {
        workload: Some("sts/late".into()),
        ..p.options("admin", "pending")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("the quota's refusal", |h| {
            h.pods
                .events()
                .any(|e| e.reason == "FailedCreate" && e.message.contains("quota"))
        })
        .await;
    assert_eq!(heard.pods.census().expected, Some(2));
    assert_eq!(heard.pods.len(), 0);
}

async fn a_restricted_user_sees_what_he_may(p: &Plane) {
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

async fn expired_credentials_are_said_and_nothing_hangs(p: &Plane) {
    let options = ClusterOptions {
        selector: Some("a=b".into()),
        ..p.options("expired", "default")
    };
    let link = p.link(&options).await;
    let said = link.check().await.unwrap_err().to_string();
    assert!(
        said.ends_with(
            "does not accept our credentials (401): the token may have expired, log in again"
        ),
        "{said}"
    );
    let mut heard = Heard::of(link, options);
    heard
        .until("a sentence", |h| h.state("pods").is_some())
        .await;
    assert!(
        matches!(heard.state("pods"), Some(EdgeState::Retrying { why, .. }) if why.contains("401"))
    );
    let options = p.options("expired-cert", "default");
    let said = p
        .link(&options)
        .await
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("(401)") || said.contains("certificate"),
        "{said}"
    );

    // A token that ends while we look: the plug-in is asked again, silently, and the watch goes on.
    p.namespace("tokens").await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "v", "namespace": "tokens"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "tokens"}]}))
        .await;
    let dir = tempfile::tempdir().unwrap();
    let token = |ttl: &str| {
        let t = p.tell(
            &json!({"cmd": "token", "namespace": "tokens", "account": "default", "ttl": ttl}),
        );
        std::fs::write(dir.path().join("token"), t["token"].as_str().unwrap()).unwrap();
        t["kubeconfig"].as_str().unwrap().to_string()
    };
    let file = token("3s");
    let given: Value = {
        let text = std::fs::read_to_string(&file).unwrap();
        serde_json::to_value(kube::config::Kubeconfig::from_yaml(&text).unwrap()).unwrap()
    };
    let mut config = given;
    let script = format!(
        "echo run >> {0}/runs; printf '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"%s\"}}}}' \"$(cat {0}/token)\"",
        dir.path().display()
    );
    config["users"][0]["user"] = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "IfAvailable", "command": "sh", "args": ["-c", script]}});
    let path = dir.path().join("config");
    std::fs::write(&path, config.to_string()).unwrap();
    let options = ClusterOptions {
        kubeconfig: Some(path),
        namespace: Some("tokens".into()),
        selector: Some("app=t".into()),
        ..ClusterOptions::default()
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard.until("a first list", |h| h.pods.synced()).await;
    token("1h");
    // The API server remembers a good token for ten seconds; then cut what is open.
    heard.listen(Duration::from_secs(15)).await;
    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    p.pods(vec![pod("tokens", "new", json!({"app": "t"}), json!({}))])
        .await;
    heard.until("the new pod", |h| h.names() == ["new"]).await;
    let runs = std::fs::read_to_string(dir.path().join("runs"))
        .unwrap()
        .lines()
        .count();
    assert!((2..=4).contains(&runs), "the plug-in ran {runs} times");
    assert_eq!(heard.lists, 1, "the watch went on from its place");
}

async fn watches_survive_restarts_compaction_and_cut_connections(p: &Plane) {
    p.namespace("storm").await;
    let labels = json!({"app": "storm"});
    p.pods(
        (0..20)
            .map(|i| pod("storm", &format!("p{i}"), labels.clone(), json!({})))
            .collect(),
    )
    .await;
    let options = ClusterOptions {
        selector: Some("app=storm".into()),
        ..p.options("admin", "storm")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard.until("all pods", |h| h.pods.len() == 20).await;
    let api = p.api("storm");
    let change = async |i: u32| {
        api.delete(&format!("p{i}"), &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
        p.pods(vec![pod(
            "storm",
            &format!("new{i}"),
            labels.clone(),
            json!({}),
        )])
        .await;
    };
    let agree = async |heard: &mut Heard, what: &str| {
        let mut want: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..100 {
            let list: ObjectList<Pod> = api
                .list(&ListParams::default().labels("app=storm"))
                .await
                .unwrap();
            want = list
                .items
                .iter()
                .map(|p| {
                    (
                        p.meta().name.clone().unwrap(),
                        p.meta().uid.clone().unwrap(),
                    )
                })
                .collect();
            let have: BTreeMap<_, _> = heard
                .pods
                .iter()
                .map(|(k, v)| (k.name.clone(), v.uid.clone()))
                .collect();
            if want == have {
                return;
            }
            heard.listen(Duration::from_millis(500)).await;
        }
        panic!("{what}: {want:?} against {:?}", heard.names());
    };

    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    change(0).await;
    agree(&mut heard, "a reset").await;
    p.tell(&json!({"cmd": "proxy", "action": "close"}));
    change(1).await;
    agree(&mut heard, "a close").await;
    p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
    change(2).await;
    heard
        .until("reconnecting", |h| {
            matches!(h.state("pods"), Some(EdgeState::Retrying { .. }))
        })
        .await;
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    agree(&mut heard, "a refusal").await;
    heard
        .until("healed", |h| h.state("pods") == Some(&EdgeState::Up))
        .await;
    assert_eq!(heard.lists, 1, "cut connections need no list");

    p.tell(
        &json!({"cmd": "component", "name": "kube-apiserver", "action": "restart", "down": "3s"}),
    );
    change(3).await;
    agree(&mut heard, "an API server restart").await;
    let lists = heard.lists;

    // Forgotten while we could not look: 410, and everything is listed again.
    p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
    change(4).await;
    p.tell(&json!({"cmd": "compact", "restart": true}));
    change(5).await;
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    agree(&mut heard, "compaction").await;
    heard
        .until("healed", |h| h.state("pods") == Some(&EdgeState::Up))
        .await;
    assert_eq!(heard.lists, lists + 1, "one list for one 410");
    assert_eq!(heard.pods.len(), 20);
}

async fn every_line_of_64_pods_comes_once_or_is_counted(p: &Plane) {
    const LINES: u32 = 400;
    p.namespace("lines").await;
    let log =
        json!({"generate": LINES, "rate": 20, "prefix": "{pod} run {restart} ", "maxSize": 8000})
            .to_string();
    let plan = json!({"exits": 1, "exit": 1, "after": "9s", "backoff": "1s"}).to_string();
    let steady =
        json!({"generate": LINES, "rate": 20, "prefix": "{pod} run {restart} "}).to_string();
    let pods = (0..64).map(|i| {
        // A third rotates, a third restarts, a third is steady.
        let notes = match i % 3 {
            0 => json!({"cplane.test/log": log}),
            1 => json!({"cplane.test/log": steady, "cplane.test/plan": plan}),
            _ => json!({"cplane.test/log": steady}),
        };
        pod("lines", &format!("p{i}"), json!({"app": "lines"}), notes)
    });
    p.pods(pods.collect()).await;
    let options = ClusterOptions {
        selector: Some("app=lines".into()),
        ..p.options("admin", "lines")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("64 logs", |h| {
            h.logs.values().filter(|l| !l.is_empty()).count() >= 64
        })
        .await;
    heard.listen(Duration::from_secs(2)).await;
    p.tell(&json!({"cmd": "proxy", "action": "reset"}));
    heard.listen(Duration::from_secs(4)).await;
    p.tell(&json!({"cmd": "component", "name": "kube-apiserver", "action": "restart", "down": "3s", "noWait": true}));
    heard.listen(Duration::from_secs(12)).await;
    p.tell(&json!({"cmd": "proxy", "action": "close"}));
    let is_last = |l: &String| number(l) == Some(LINES - 1);
    heard
        .until("the last line of every pod", |h| {
            (0..64).all(|i| {
                h.logs
                    .get(&format!("lines/p{i}/vllm"))
                    .is_some_and(|l| l.last().is_some_and(is_last))
            })
        })
        .await;
    let mut gaps = 0;
    let mut lines = 0;
    for i in 0..64 {
        let name = format!("lines/p{i}/vllm");
        let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for l in &heard.logs[&name] {
            let (run, _) = l.rsplit_once(' ').unwrap();
            seen.entry(run.to_string())
                .or_default()
                .push(number(l).unwrap());
            lines += 1;
        }
        let lost = heard.lost.iter().filter(|(n, _)| *n == name).count();
        let mut holes = 0;
        for (run, numbers) in &seen {
            assert!(
                numbers.is_sorted() && numbers.windows(2).all(|w| w[0] < w[1]),
                "{name} {run}: doubles or disorder"
            );
            holes += numbers.windows(2).filter(|w| w[0] + 1 != w[1]).count()
                + usize::from(numbers[0] != 0);
        }
        assert!(
            holes <= lost,
            "{name}: {holes} gaps, {lost} of them said; {:?}",
            heard.lost
        );
        gaps += holes;
        // The end of a run that ended while nobody could look is read from the run before.
        if i % 3 == 1 {
            let previous = LogParams {
                previous: true,
                ..LogParams::default()
            };
            let old = p
                .api("lines")
                .logs(&format!("p{i}"), &previous)
                .await
                .unwrap();
            let end = old.lines().last().and_then(number);
            assert_eq!(
                seen[&format!("p{i} run 0")].last().copied(),
                end,
                "{name}: the old run's end"
            );
        }
    }
    println!(
        "  {lines} lines of 64 pods, {} reconnects, {gaps} gaps, each said ({} said)",
        heard.retries,
        heard.lost.len()
    );
}

/// The number at the end of a generated line.
fn number(line: &str) -> Option<u32> {
    line.rsplit(' ').next()?.parse().ok()
}

async fn three_thousand_foreign_pods_are_never_listed(p: &Plane) {
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
    // Away with them, for the tests that follow.
    p.api("crowd")
        .delete_collection(
            &DeleteParams::default().grace_period(0),
            &ListParams::default(),
        )
        .await
        .unwrap();
}

async fn a_quiet_screen_costs_almost_no_requests(p: &Plane) {
    p.namespace("quiet").await;
    let meta = json!({"name": "llm", "namespace": "quiet"});
    let note = json!({"cplane.test/log": json!({"generate": 1_000_000, "rate": 1}).to_string()});
    p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": {
        "replicas": 64, "serviceName": "llm", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "llm"}},
        "template": {"metadata": {"labels": {"app": "llm"}, "annotations": note}, "spec": {"containers": [{"name": "vllm", "image": "x:1"}]}}}}))
        .await;
    let (_, from) = p.audit(0);
    let options = ClusterOptions {
        workload: Some("llm".into()),
        ..p.options("admin", "quiet")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("64 logs", |h| {
            h.logs.values().filter(|l| !l.is_empty()).count() == 64
        })
        .await;
    let (start, from) = p.audit(from);
    heard.listen(Duration::from_secs(60)).await;
    let (minute, _) = p.audit(from);
    let distinct = |all: &[crate::plane::Request]| {
        let ids: BTreeSet<_> = all
            .iter()
            .map(|r| (&r.id, &r.verb, &r.resource, &r.subresource))
            .collect();
        let mut by: BTreeMap<String, usize> = BTreeMap::new();
        for (_, verb, resource, sub) in ids {
            let what = if sub.is_empty() {
                resource.clone()
            } else {
                format!("{resource}/{sub}")
            };
            *by.entry(format!("{verb} {what}")).or_default() += 1;
        }
        by
    };
    let (start, minute) = (distinct(&start), distinct(&minute));
    println!("  requests to begin, 64 pods: {start:?}");
    println!("  requests a minute then: {minute:?}");
    assert_eq!(start.get("list pods"), Some(&1));
    assert_eq!(start.get("get pods/log"), Some(&64), "one request a log");
    assert!(
        !minute.keys().any(|k| k.starts_with("list ")),
        "nothing is listed again"
    );
    assert!(
        minute.values().sum::<usize>() <= 9,
        "a watch a kind and one a node, renewed now and then"
    );
}

async fn five_hundred_pods_are_followed_in_bounded_memory(p: &Plane) {
    const PODS: usize = 512;
    const LINES: usize = 60;
    p.namespace("many").await;
    let log = json!({"generate": LINES, "prefix": "{pod} "}).to_string();
    let pods = (0..PODS).map(|i| {
        let notes = json!({"cplane.test/log": log});
        pod("many", &format!("p-{i:03}"), json!({"app": "many"}), notes)
    });
    p.pods(pods.collect()).await;
    let options = ClusterOptions {
        selector: Some("app=many".into()),
        ..p.options("admin", "many")
    };
    let begun = Instant::now();
    let mut heard = Heard::of(p.link(&options).await, options);
    heard
        .until("every line of 512 pods", |h| {
            h.logs.len() == PODS && h.logs.values().all(|l| l.len() >= LINES)
        })
        .await;
    println!(
        "  512 pods: every line after {:.1} s",
        begun.elapsed().as_secs_f32()
    );
    for (name, lines) in &heard.logs {
        let distinct: BTreeSet<_> = lines.iter().collect();
        assert_eq!((lines.len(), distinct.len()), (LINES, LINES), "{name}");
    }
    assert!(heard.lost.is_empty(), "{:?}", heard.lost);
    drop(heard);
    // The program itself, without a screen: what it holds for 512 pods and their connections.
    let config = p.kubeconfig("admin");
    let arguments = [
        "report",
        "--kubeconfig",
        config.to_str().unwrap(),
        "-n",
        "many",
        "-l",
        "app=many",
    ];
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(arguments)
        .args(["--format", "json", "--timeout", "2m"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let memory = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
            peak = kib.unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    let code = child.wait().unwrap().code();
    let peak = memory.join().unwrap() / 1024;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["pods"].as_array().unwrap().len(), PODS);
    let lines: u64 = report["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["lines"].as_u64().unwrap())
        .sum();
    assert_eq!(lines, (PODS * LINES) as u64);
    assert_eq!(code, Some(3), "no line of NCCL or vLLM: unknown");
    assert!(report["observed_at"].is_string());
    println!("  report over 512 pods: {peak} MiB at its peak");
    assert!(peak < 400, "{peak} MiB");
    p.api("many")
        .delete_collection(
            &DeleteParams::default().grace_period(0),
            &ListParams::default(),
        )
        .await
        .unwrap();
}

async fn nodes_that_carry_our_pods_are_read_where_they_may_be(p: &Plane) {
    p.namespace("nodes").await;
    p.create(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "look", "namespace": "nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "observer"}]}))
        .await;
    let mut ours: Vec<Value> = Vec::new();
    for (i, node) in ["gpu-1", "gpu-3"].iter().enumerate() {
        let mut pod = pod("nodes", &format!("n-{i}"), json!({"app": "n"}), json!({}));
        pod["spec"]["nodeName"] = json!(node);
        ours.push(pod);
    }
    p.pods(ours).await;
    let of = |user: &str| ClusterOptions {
        selector: Some("app=n".into()),
        ..p.options(user, "nodes")
    };
    let mut heard = Heard::of(p.link(&of("admin")).await, of("admin"));
    heard.until("both nodes", |h| h.nodes.len() == 2).await;
    let names: Vec<_> = heard.nodes.keys().map(String::as_str).collect();
    assert_eq!(names, ["gpu-1", "gpu-3"], "and no other");
    let node = &heard.nodes["gpu-1"];
    assert_eq!(
        node.allocatable.get("nvidia.com/gpu").map(String::as_str),
        Some("8")
    );
    assert!(
        node.conditions
            .iter()
            .any(|c| c.kind == "Ready" && c.status == "True")
    );
    // Where they may not be read everything else goes on, and the rule is named.
    let mut heard = Heard::of(p.link(&of("observer")).await, of("observer"));
    heard
        .until("the pods and the refusal", |h| {
            h.names().len() == 2 && h.forbidden("nodes").is_some()
        })
        .await;
    assert_eq!(heard.forbidden("nodes"), Some("list and watch nodes"));
    assert!(heard.nodes.is_empty());
}

/// What two ranks on two nodes print until their communicator is complete.
fn nccl_lines(rank: u32) -> String {
    let head = format!("llm-{rank}:100:100 [0] NCCL INFO");
    let init = format!(
        "ncclCommInitRank comm 0x55{rank}0 rank {rank} nranks 2 cudaDev 0 nvmlDev 0 busId 1b000 commId 0xabcdef1234567890"
    );
    let peer = 1 - rank;
    let lines = [
        format!("{head} Bootstrap : Using eth0:10.0.0.{rank}<0>"),
        format!("{head} NCCL version 2.27.3+cuda12.9"),
        format!("{head} NET/Socket : Using [0]eth0:10.0.0.{rank}<0>"),
        format!("{head} Using network Socket"),
        format!("{head} {init} - Init START"),
        format!("{head} Channel 00/0 : {peer}[0] -> {rank}[0] [receive] via NET/Socket/0"),
        format!("{head} Channel 00/0 : {rank}[0] -> {peer}[0] [send] via NET/Socket/0"),
        format!("{head} {init} - Init COMPLETE"),
    ];
    lines.join("\n") + "\n"
}

async fn the_screen_shows_two_pods_and_how_their_ranks_talk(p: &Plane) {
    p.namespace("screen").await;
    let dir = tempfile::tempdir().unwrap();
    for rank in 0..2 {
        std::fs::write(dir.path().join(format!("llm-{rank}.log")), nccl_lines(rank)).unwrap();
    }
    let note = json!({"cplane.test/log": json!({"file": dir.path().join("{pod}.log"), "rate": 4}).to_string()});
    p.create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "llm", "namespace": "screen"}, "spec": {
        "replicas": 2, "serviceName": "llm", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "llm"}},
        "template": {"metadata": {"labels": {"app": "llm"}, "annotations": note}, "spec": {"containers": [
            {"name": "vllm", "image": "vllm:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}}}))
        .await;
    let mut screen = Screen::start(&[
        "--kubeconfig",
        p.kubeconfig("admin").to_str().unwrap(),
        "-n",
        "screen",
        "llm",
    ]);
    // The sampler wants to run; whoever only looks says no.
    screen
        .until("the question about probes", |s| {
            s.contains("They only read")
        })
        .await;
    screen.key("n");
    screen
        .until("the overview", |s| {
            s.contains("2 pods") && s.contains("2 ranks") && s.contains("complete")
        })
        .await;
    screen.key("1");
    let row = |s: &str, pod: &str| {
        s.lines()
            .any(|l| l.contains(pod) && l.contains("1/1") && l.contains("Running"))
    };
    screen
        .until("the pods", |s| row(s, "llm-0") && row(s, "llm-1"))
        .await;
    screen.key("3");
    screen
        .until("the matrix", |s| {
            s.contains("NET/Socket/0") && s.contains("llm-0") && s.contains("llm-1")
        })
        .await;
    // The API server goes away and comes back: the screen says so and heals, and nothing was lost.
    p.tell(&json!({"cmd": "proxy", "action": "refuse"}));
    screen
        .until("reconnecting", |s| s.contains("again in"))
        .await;
    p.tell(&json!({"cmd": "proxy", "action": "resume"}));
    screen.until("healed", |s| !s.contains("again in")).await;
    screen.key(":q\r");
    screen.ended().await;
}
