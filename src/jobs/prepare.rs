//! What is asked before a test is created: whose pods, may we, and is there room.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::plan::{Plan, Runner, gpus_requested};
use super::{api, ask};
use crate::model::event::{PodKey, WorkloadView};
use crate::sources::cluster::{ClusterError, ClusterOptions, Connection, Found, Trouble, find};

/// Nodes whose GPUs are counted before a test.
const COUNTED: usize = 64;
/// Requests under way at one time.
const AT_ONCE: usize = 8;
/// What a test needs: API group, resource, subresource, verb.
const NEEDS: [(&str, &str, &str, &str); 9] = [
    ("batch", "jobs", "", "create"),
    ("batch", "jobs", "", "get"),
    ("batch", "jobs", "", "delete"),
    ("", "services", "", "create"),
    ("", "configmaps", "", "create"),
    ("", "pods", "", "list"),
    ("", "pods", "", "watch"),
    ("", "pods", "log", "get"),
    ("", "events", "", "list"),
];

/// A name for a run: six letters and digits that nobody else has.
#[must_use]
pub fn run_name() -> String {
    const LETTERS: &[u8] = b"bcdfghjkmnpqrstvwxz23456789";
    let mut n = RandomState::new().build_hasher().finish();
    let mut out = String::new();
    for _ in 0..6 {
        let len = LETTERS.len() as u64;
        let at = usize::try_from(n % len).unwrap_or(0);
        out.extend(LETTERS.get(at).map(|b| char::from(*b)));
        n /= len;
    }
    out
}

/// The workload that is meant, and its pods that have not ended.
pub async fn workload(
    link: &Connection,
    options: &ClusterOptions,
) -> Result<(WorkloadView, Vec<Pod>), ClusterError> {
    let workload = match find(link, options).await? {
        Found::One(w) => w,
        Found::Choice(all, _) if all.is_empty() => {
            return Err(ClusterError(format!(
                "no workload with pods was found in namespace {}",
                link.namespace()
            )));
        }
        Found::Choice(all, _) => {
            let names: Vec<String> = all
                .iter()
                .take(20)
                .map(|w| format!("{}/{}", w.kind, w.name))
                .collect();
            return Err(ClusterError(format!(
                "which workload: {}?",
                names.join(", ")
            )));
        }
    };
    let pods: Api<Pod> = api(link, &workload.namespace);
    let listed = ask(pods.list(&ListParams::default().labels(&workload.selector)))
        .await
        .map_err(|t| ClusterError(t.text))?;
    // Where the pods are named, the selector may find others, too.
    let named = |p: &Pod| {
        workload.pods.is_empty()
            || workload
                .pods
                .iter()
                .any(|(_, n)| p.metadata.name.as_deref() == Some(n))
    };
    let ours = |p: &Pod| {
        let labels = p.metadata.labels.as_ref();
        labels.is_some_and(|l| l.contains_key(super::RUN_LABEL))
    };
    let pods = listed
        .items
        .into_iter()
        .filter(|p| named(p) && !ended(p) && !ours(p))
        .collect();
    Ok((workload, pods))
}

/// Pods by name as they are now, without those that have ended.
pub async fn pods(link: &Connection, keys: &[PodKey]) -> Result<Vec<Pod>, Trouble> {
    let one = |key: &PodKey| {
        let (pods, name): (Api<Pod>, _) = (api(link, &key.namespace), key.name.clone());
        async move { super::find(pods.get(&name)).await }.boxed()
    };
    let each: Vec<_> = keys.iter().map(one).collect();
    let all: Vec<Option<Pod>> = futures::stream::iter(each)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(all.into_iter().flatten().filter(|p| !ended(p)).collect())
}

fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The rules that are missing, as `create jobs.batch`; empty where all is allowed or nobody can tell.
pub async fn missing_rules(link: &Connection, plan: &Plan) -> Result<Vec<String>, Trouble> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(link.client());
    let mut missing = Vec::new();
    let namespace = plan.namespace.as_str();
    let handed = plan.runner == Runner::WorkerOverExec;
    let exec = handed.then_some(("", "pods", "exec", "create"));
    for (group, resource, sub, verb) in NEEDS.into_iter().chain(exec) {
        let some = |s: &str| (!s.is_empty()).then(|| s.to_owned());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: some(group),
                    resource: Some(resource.into()),
                    subresource: some(sub),
                    verb: Some(verb.into()),
                    namespace: Some(namespace.into()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = ask(reviews.create(&PostParams::default(), &review)).await?;
        if answer.status.is_some_and(|s| s.allowed) {
            continue;
        }
        // Events tell why it waits; a test runs without them.
        if resource == "events" {
            continue;
        }
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if sub.is_empty() { "" } else { "/" };
        missing.push(format!("{verb} {resource}{slash}{sub}{dot}{group}"));
    }
    Ok(missing)
}

/// What can be done where the workload holds the GPUs. Scaling it down is the user's business.
pub const OFFERS: &str = "Then the test waits for room until its deadline. Fewer ranks: --gpus N or --pods N. Other nodes: --other-nodes. The network alone: --gpus 0. From the dashboard, inside the workload's own pods with small buffers: --inside.";

/// Room for the test on the nodes it is bound to, in words; empty where there is enough.
pub async fn room(link: &Connection, plan: &Plan) -> Vec<String> {
    if plan.gpus == 0 || plan.nodes.is_empty() {
        return Vec::new();
    }
    let per_node = plan
        .pods
        .div_ceil(u32::try_from(plan.nodes.len()).unwrap_or(1))
        * plan.gpus;
    let mut out = Vec::new();
    for name in plan.nodes.iter().take(COUNTED) {
        match free(link, name).await {
            Ok((total, holders)) => {
                let held: u32 = holders.values().sum();
                let left = total.saturating_sub(held);
                if left < per_node {
                    let who: Vec<String> = holders
                        .iter()
                        .take(4)
                        .map(|(pod, n)| format!("{pod} holds {n}"))
                        .collect();
                    out.push(format!(
                        "{name} has {left} of {total} GPUs free and the test asks for {per_node} ({})",
                        who.join(", ")
                    ));
                }
            }
            Err(why) => {
                out.push(format!("whether GPUs are free is not known: {}", why.text));
                break;
            }
        }
    }
    out
}

/// GPUs of a node, and who holds how many.
async fn free(link: &Connection, name: &str) -> Result<(u32, BTreeMap<String, u32>), Trouble> {
    let nodes: Api<Node> = Api::all(link.client());
    let node = ask(nodes.get(name)).await?;
    let allocatable = node.status.and_then(|s| s.allocatable).unwrap_or_default();
    let total = super::plan::gpus_in(&allocatable);
    let pods: Api<Pod> = Api::all(link.client());
    let on = ListParams::default().fields(&format!(
        "spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
    ));
    let mut holders = BTreeMap::new();
    for pod in ask(pods.list(&on)).await?.items {
        let gpus = gpus_requested(&pod);
        if gpus > 0 {
            let meta = &pod.metadata;
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let pod = meta.name.as_deref().unwrap_or_default();
            holders.insert(format!("{namespace}/{pod}"), gpus);
        }
    }
    Ok((total, holders))
}
