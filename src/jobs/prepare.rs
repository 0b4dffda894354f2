//! What is asked before a test is created: whose pods, with which settings, may we, and whom could it push away.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, Container, EnvVar, EnvVarSource, Pod,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::plan::{self, Plan, Runner};
use super::{api, ask};
use crate::model::event::{PodKey, WorkloadView};
use crate::parse::perf;
use crate::sources::cluster::{ClusterError, ClusterOptions, Connection, Found, Trouble, find};

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
    Ok((workload, with_maps(link, pods).await))
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
    let pods = all.into_iter().flatten().filter(|p| !ended(p)).collect();
    Ok(with_maps(link, pods).await)
}

/// Settings that a container takes whole from a ConfigMap, by name: of them a test takes those of communication and no
/// others. What can't be read stays as it is, and the plan warns of it.
async fn with_maps(link: &Connection, mut pods: Vec<Pod>) -> Vec<Pod> {
    fn containers(pods: &mut [Pod]) -> impl Iterator<Item = (String, &mut Container)> {
        pods.iter_mut().flat_map(|p| {
            let namespace = p.metadata.namespace.clone().unwrap_or_default();
            let all = p.spec.iter_mut().flat_map(|s| &mut s.containers);
            all.map(move |c| (namespace.clone(), c))
        })
    }
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    for (namespace, container) in containers(&mut pods) {
        for from in container.env_from.iter().flatten() {
            if let Some(map) = &from.config_map_ref {
                wanted.insert((namespace.clone(), map.name.clone()));
            }
        }
    }
    let mut keys: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (namespace, name) in wanted {
        let maps: Api<ConfigMap> = api(link, &namespace);
        if let Ok(Some(map)) = super::find(maps.get(&name)).await {
            let names = map.data.into_iter().flatten().map(|(key, _)| key);
            keys.insert((namespace, name), names.collect());
        }
    }
    for (namespace, container) in containers(&mut pods) {
        unfold(container, |map| {
            keys.get(&(namespace.clone(), map.to_owned()))
        });
    }
    pods
}

/// Names the settings that come from known ConfigMaps one by one. As the kubelet has it: a variable of the container
/// itself goes first, then the later ConfigMap.
fn unfold<'k>(container: &mut Container, keys: impl Fn(&str) -> Option<&'k Vec<String>>) {
    let mut env = container.env.take().unwrap_or_default();
    let mut kept = Vec::new();
    for from in container
        .env_from
        .take()
        .unwrap_or_default()
        .into_iter()
        .rev()
    {
        let map = from.config_map_ref.as_ref().map(|m| m.name.clone());
        let Some((map, keys)) = map.and_then(|m| keys(&m).map(|k| (m, k))) else {
            kept.push(from);
            continue;
        };
        let before = from.prefix.as_deref().unwrap_or_default();
        for key in keys {
            let name = format!("{before}{key}");
            if !perf::may_show(&name) || env.iter().any(|e| e.name == name) {
                continue;
            }
            let source = EnvVarSource {
                config_map_key_ref: Some(ConfigMapKeySelector {
                    name: map.clone(),
                    key: key.clone(),
                    optional: None,
                }),
                ..EnvVarSource::default()
            };
            env.push(EnvVar {
                name,
                value: None,
                value_from: Some(source),
            });
        }
    }
    kept.reverse();
    container.env = Some(env).filter(|e| !e.is_empty());
    container.env_from = Some(kept).filter(|k| !k.is_empty());
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

/// Says whom the test's priority could push off their nodes: that of the class that was asked for, else that of the
/// class which the cluster gives to all. Where classes may not be read, what the plan says of one stands.
pub async fn preemption(link: &Connection, plan: &mut Plan) {
    let classes: Api<PriorityClass> = Api::all(link.client());
    let Ok(listed) = ask(classes.list(&ListParams::default())).await else {
        return;
    };
    weigh(plan, &listed.items);
}

fn weigh(plan: &mut Plan, classes: &[PriorityClass]) {
    // Without a class a pod has 0.
    let lowest = classes.iter().map(|c| c.value).min().unwrap_or(0).min(0);
    let harmless =
        |c: &PriorityClass| c.preemption_policy.as_deref() == Some("Never") || c.value <= lowest;
    let name = |c: &PriorityClass| c.metadata.name.clone().unwrap_or_default();
    if let Some(asked) = plan.priority_class().map(str::to_owned) {
        match classes.iter().find(|c| name(c) == asked) {
            None => plan.warnings.push(format!(
                "the cluster has no priority class {asked}: it will refuse the test's pods"
            )),
            Some(class) if harmless(class) => {
                let said = plan::preempts(&asked);
                plan.warnings.retain(|w| *w != said);
            }
            Some(_) => {}
        }
    } else if let Some(class) = classes
        .iter()
        .find(|c| c.global_default == Some(true) && !harmless(c))
    {
        plan.warnings.push(format!(
            "the cluster gives every pod the priority class {} ({}) where none is asked for: the test can push pods of a lower one off their nodes",
            name(class),
            class.value
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(text: &str) -> Container {
        serde_yaml::from_str(text).unwrap_or_default()
    }

    #[test]
    fn settings_from_a_config_map_are_named_one_by_one() {
        let mut c = container(
            "{ name: vllm, env: [{ name: NCCL_IB_HCA, value: mlx5 }], envFrom: [{ configMapRef: { name: old } }, \
             { configMapRef: { name: tuning }, prefix: NCCL_ }, { secretRef: { name: s } }, { configMapRef: { name: far } }] }",
        );
        let old = [
            "NCCL_DEBUG_FILE",
            "NCCL_P2P_LEVEL",
            "HF_TOKEN",
            "NCCL_IB_HCA",
        ]
        .map(String::from);
        let tuning = ["P2P_LEVEL", "IB_HCA", "AUTH_TOKEN"].map(String::from);
        let (old, tuning) = (old.to_vec(), tuning.to_vec());
        unfold(&mut c, |map| match map {
            "old" => Some(&old),
            "tuning" => Some(&tuning),
            _ => None,
        });
        let env: Vec<(String, Option<String>)> = c
            .env
            .unwrap_or_default()
            .into_iter()
            .map(|e| {
                let from = e.value_from.and_then(|v| v.config_map_key_ref);
                (e.name, from.map(|f| format!("{}/{}", f.name, f.key)))
            })
            .collect();
        let from = |map: &str| Some(map.to_owned());
        assert_eq!(
            env,
            [
                ("NCCL_IB_HCA".to_owned(), None),
                ("NCCL_P2P_LEVEL".to_owned(), from("tuning/P2P_LEVEL")),
                ("NCCL_DEBUG_FILE".to_owned(), from("old/NCCL_DEBUG_FILE")),
            ]
        );
        let left = c.env_from.unwrap_or_default();
        assert!(left.first().is_some_and(|f| f.secret_ref.is_some()));
        let far = left.get(1).and_then(|f| f.config_map_ref.as_ref());
        assert_eq!((left.len(), far.map(|m| m.name.as_str())), (2, Some("far")));
    }

    fn class(text: &str) -> PriorityClass {
        serde_yaml::from_str(text).unwrap_or_default()
    }

    #[test]
    fn a_priority_is_warned_of_where_it_could_preempt() {
        let pod: Pod = serde_yaml::from_str(
            "{ metadata: { name: llm-0, namespace: prod }, spec: { containers: [{ name: vllm, image: v }] } }",
        )
        .unwrap_or_default();
        let classes = [
            class("{ metadata: { name: high }, value: 1000 }"),
            class("{ metadata: { name: polite }, value: 1000, preemptionPolicy: Never }"),
            class("{ metadata: { name: least }, value: -10 }"),
        ];
        let warned = |asked: Option<&str>, classes: &[PriorityClass]| {
            let wish = plan::Wish {
                priority_class: asked.map(String::from),
                ..plan::Wish::default()
            };
            let mut plan = plan::plan(std::slice::from_ref(&pod), &wish)
                .unwrap_or_else(|e| unreachable!("{e}"));
            weigh(&mut plan, classes);
            let of_priority = |w: &&String| w.contains("priority class");
            plan.warnings
                .iter()
                .filter(of_priority)
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(warned(Some("high"), &classes), [plan::preempts("high")]);
        assert!(warned(Some("polite"), &classes).is_empty());
        assert!(warned(Some("least"), &classes).is_empty());
        assert!(warned(None, &classes).is_empty());
        let missing = warned(Some("none"), &classes);
        assert!(
            missing
                .iter()
                .any(|w| w.contains("has no priority class none")),
            "{missing:?}"
        );
        let default = class("{ metadata: { name: usual }, value: 500, globalDefault: true }");
        let given = warned(None, &[default]);
        assert!(
            given
                .iter()
                .any(|w| w.contains("priority class usual (500)")),
            "{given:?}"
        );
    }
}
