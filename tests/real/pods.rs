//! Pods, their events and their nodes as the API server has them, and what watching them costs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Api;
use kube::api::DeleteParams;
use ncclscope::model::Model;
use ncclscope::model::pods::kubectl::{Columns, age};
use ncclscope::model::pods::why;
use ncclscope::rules::room::room;
use ncclscope::sources::cluster::ClusterOptions;
use serde_json::{Value, json};

use crate::heard::Heard;
use crate::plane::{Plane, eventually, pod};

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

pub async fn the_columns_are_those_of_the_api_servers_own_table(p: &Plane) {
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

pub async fn why_a_pod_is_pending_comes_by_events(p: &Plane) {
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
    // What the scheduler leaves out, from what nodes can allocate.
    heard
        .until("the nodes are counted", |h| h.gpu_nodes.nodes == 4)
        .await;
    let model = Model {
        pods: std::mem::take(&mut heard.pods),
        gpu_nodes: heard.gpu_nodes.clone(),
        ..Model::default()
    };
    let (_, big) = model.pods.iter().next().unwrap();
    assert_eq!(
        room(&model, big).as_deref(),
        Some("asks for 9 nvidia.com/gpu, no node can give more than 8")
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

/// The API server tells of the last end only; what began it was seen when it was the last.
pub async fn the_first_failure_outlives_restarts(p: &Plane) {
    p.namespace("failing").await;
    let plan = json!({"backoff": "1s"}).to_string();
    p.pods(vec![pod(
        "failing",
        "llm-0",
        json!({"app": "llm"}),
        json!({"cplane.test/plan": plan}),
    )])
    .await;
    let options = ClusterOptions {
        selector: Some("app=llm".into()),
        ..p.options("admin", "failing")
    };
    let mut heard = Heard::of(p.link(&options).await, options);
    let ends = [
        json!({"exit": 1, "message": "torch.OutOfMemoryError: CUDA out of memory"}),
        json!({"exit": 134, "signal": 6}),
        json!({"exit": 143}),
    ];
    for (i, end) in (1..).zip(ends) {
        let runs = |h: &Heard| {
            let mut pods = h.pods.iter();
            pods.next()
                .is_some_and(|(_, p)| Columns::of(p).status == "Running")
        };
        heard.until("it runs", runs).await;
        let mut command = json!({"cmd": "container-exit", "namespace": "failing", "pod": "llm-0"});
        for (key, value) in end.as_object().unwrap() {
            command[key] = value.clone();
        }
        p.tell(&command);
        heard
            .until("the restart", |h| {
                let mut pods = h.pods.iter();
                pods.next()
                    .is_some_and(|(_, p)| Columns::of(p).restarts == i)
            })
            .await;
    }
    let (_, pod) = heard.pods.iter().next().unwrap();
    let first = heard.pods.first_failure(pod).unwrap();
    assert_eq!(
        first.text(),
        "vllm: exit code 1 (Error): torch.OutOfMemoryError: CUDA out of memory"
    );
    let now = why::why(pod).unwrap();
    assert!(now.contains("143"), "the API server knows only {now}");
}

pub async fn nodes_that_carry_our_pods_are_read_where_they_may_be(p: &Plane) {
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
    let (_, from) = p.audit(0);
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
    // All nodes by one watch, and of those that are not ours only their GPUs.
    heard
        .until("the nodes are counted", |h| h.gpu_nodes.nodes == 4)
        .await;
    assert_eq!(
        heard.gpu_nodes.sizes,
        [("nvidia.com/gpu".to_string(), [(8, 4)].into())].into()
    );
    let requests = |from: u64| -> Vec<String> {
        let ids: BTreeSet<_> = p
            .audit(from)
            .0
            .into_iter()
            .filter(|r| r.resource == "nodes")
            .map(|r| (r.verb, r.id))
            .collect();
        ids.into_iter().map(|(verb, _)| verb).collect()
    };
    eventually("one list and one watch", async || {
        requests(from) == ["list", "watch"]
    })
    .await;
    // A pod that comes to another node later: that one is looked up, once.
    let (_, from) = p.audit(0);
    let mut late = pod("nodes", "n-2", json!({"app": "n"}), json!({}));
    late["spec"]["nodeName"] = json!("gpu-0");
    p.pods(vec![late]).await;
    heard
        .until("the third node", |h| h.nodes.contains_key("gpu-0"))
        .await;
    // What changes on a node of ours comes by the watch.
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(p.admin.clone());
    let cordon = async |yes: bool| {
        let patch = kube::api::Patch::Merge(json!({"spec": {"unschedulable": yes}}));
        nodes
            .patch("gpu-1", &kube::api::PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    cordon(true).await;
    heard
        .until("the cordon", |h| h.nodes["gpu-1"].unschedulable)
        .await;
    cordon(false).await;
    assert_eq!(requests(from), ["get"]);
    // Where they may not be read everything else goes on, and the rule is named.
    let mut heard = Heard::of(p.link(&of("observer")).await, of("observer"));
    heard
        .until("the pods and the refusal", |h| {
            h.names().len() == 3 && h.forbidden("nodes").is_some()
        })
        .await;
    assert_eq!(heard.forbidden("nodes"), Some("list and watch nodes"));
    assert!(heard.nodes.is_empty());
}

pub async fn a_quiet_screen_costs_almost_no_requests(p: &Plane) {
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
    let (mut minute, _) = p.audit(from);
    // That one of the first ended is no request.
    let known: BTreeSet<_> = start.iter().map(|r| &r.id).collect();
    minute.retain(|r| !known.contains(&r.id));
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
    let sum = |all: &BTreeMap<String, usize>| all.values().sum::<usize>();
    println!("  64 pods: {} requests to begin: {start:?}", sum(&start));
    println!(
        "  64 pods: {} requests a minute then: {minute:?}",
        sum(&minute)
    );
    // Pods, their events, their nodes and their owner: listed once, watched once.
    for kind in ["pods", "events", "nodes", "statefulsets"] {
        for verb in ["list", "watch"] {
            let asked = start.get(&format!("{verb} {kind}"));
            assert_eq!(asked, Some(&1), "{verb} {kind}: {start:?}");
        }
    }
    let watched = start.keys().filter(|k| k.starts_with("watch "));
    assert_eq!(watched.count(), 4, "and nothing else: {start:?}");
    assert_eq!(start.get("get pods/log"), Some(&64), "one request a log");
    assert!(
        !minute.keys().any(|k| k.starts_with("list ")),
        "nothing is listed again"
    );
    assert!(
        minute
            .iter()
            .all(|(what, times)| what.starts_with("watch ") && *times <= 1),
        "one watch a kind, renewed now and then: {minute:?}"
    );
}
