//! Removing what we created, and only that.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Preconditions};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::{MANAGED_BY, MANAGED_LABEL, RUN_LABEL, api, ask, find};
use crate::sources::cluster::{Connection, Trouble, TroubleKind};

/// How long the end of the pods is waited for: their grace period and what the kubelet needs.
const WAIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// A test that is still in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOver {
    /// Namespace.
    pub namespace: String,
    /// Name of its Job.
    pub name: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// It still runs, or waits to.
    pub active: bool,
}

/// Removes the objects of one run by their name and waits until its pods are gone. Answers what is left.
pub async fn run(link: &Connection, namespace: &str, name: &str) -> Vec<String> {
    let mut left = Vec::new();
    let jobs: Api<Job> = api(link, namespace);
    let until = Instant::now() + WAIT;
    while let Err(t) = remove(&jobs, name).await {
        // A cut line comes back; a rule that is missing does not.
        if t.kind == TroubleKind::Forbidden || Instant::now() > until {
            return vec![format!("job/{namespace}/{name}: {}", t.text)];
        }
        sleep(LOOK).await;
    }
    // They go with the Job; without the right to delete them that takes a little longer.
    let services: Api<Service> = api(link, namespace);
    let maps: Api<ConfigMap> = api(link, namespace);
    let _ = remove(&services, name).await;
    let _ = remove(&maps, name).await;
    let pods: Api<Pod> = api(link, namespace);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let until = Instant::now() + WAIT;
    loop {
        left.clear();
        left.extend(still(&jobs, "job", namespace, name).await);
        left.extend(still(&services, "service", namespace, name).await);
        left.extend(still(&maps, "configmap", namespace, name).await);
        match ask(pods.list_metadata(&of_job)).await {
            Ok(pods) => {
                let names = pods.items.into_iter().filter_map(|p| p.metadata.name);
                left.extend(names.map(|n| format!("pod/{namespace}/{n}")));
            }
            Err(t) => left.push(format!("whether pods are left is not known: {}", t.text)),
        }
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        sleep(LOOK).await;
    }
}

/// The object where it is still there, or can't be asked for; one that may not be read goes with the Job.
async fn still<K>(objects: &Api<K>, kind: &str, namespace: &str, name: &str) -> Option<String>
where
    K: Clone + DeserializeOwned + Debug,
{
    match own(objects, name).await {
        Ok(None) => None,
        Ok(Some(_)) => Some(format!("{kind}/{namespace}/{name}")),
        Err(t) if t.kind == TroubleKind::Forbidden => None,
        Err(t) => Some(format!("{kind}/{namespace}/{name}: {}", t.text)),
    }
}

/// UID of the object of this name, where we made it.
async fn own<K>(objects: &Api<K>, name: &str) -> Result<Option<String>, Trouble>
where
    K: Clone + DeserializeOwned + Debug,
{
    let meta = find(objects.get_metadata(name)).await?.map(|o| o.metadata);
    Ok(meta.filter(ours).and_then(|m| m.uid))
}

/// It carries our labels: what has only the same name is somebody else's.
fn ours(meta: &ObjectMeta) -> bool {
    let label = |key: &str| meta.labels.as_ref()?.get(key);
    label(MANAGED_LABEL).is_some_and(|v| v == MANAGED_BY) && label(RUN_LABEL).is_some()
}

/// Deletes the object of this name, where we made it; this very one, whoever makes another meanwhile.
async fn remove<K>(objects: &Api<K>, name: &str) -> Result<(), Trouble>
where
    K: Clone + DeserializeOwned + Debug,
{
    let Some(uid) = own(objects, name).await? else {
        return Ok(());
    };
    let how = DeleteParams::background().preconditions(Preconditions {
        uid: Some(uid),
        resource_version: None,
    });
    find(objects.delete(name, &how)).await.map(drop)
}

/// Tests that are still there in a namespace, by our labels.
pub async fn left_overs(link: &Connection, namespace: &str) -> Result<Vec<LeftOver>, Trouble> {
    let ours = ListParams::default().labels(&format!("{MANAGED_LABEL}={MANAGED_BY},{RUN_LABEL}"));
    let jobs: Api<Job> = api(link, namespace);
    let mut found: Vec<LeftOver> = Vec::new();
    for job in ask(jobs.list(&ours)).await?.items {
        let ended = job.status.as_ref().is_some_and(|s| {
            s.conditions
                .iter()
                .flatten()
                .any(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")
        });
        found.push(LeftOver {
            namespace: job.metadata.namespace.unwrap_or_default(),
            name: job.metadata.name.unwrap_or_default(),
            created: job.metadata.creation_timestamp.map(|t| t.0),
            active: !ended,
        });
    }
    // What lost its Job before it was owned.
    let services: Api<Service> = api(link, namespace);
    let maps: Api<ConfigMap> = api(link, namespace);
    let mut metas = Vec::new();
    match ask(services.list_metadata(&ours)).await {
        Ok(list) => metas.extend(list.items.into_iter().map(|o| o.metadata)),
        Err(t) if t.kind == TroubleKind::Forbidden => {}
        Err(t) => return Err(t),
    }
    match ask(maps.list_metadata(&ours)).await {
        Ok(list) => metas.extend(list.items.into_iter().map(|o| o.metadata)),
        Err(t) if t.kind == TroubleKind::Forbidden => {}
        Err(t) => return Err(t),
    }
    for meta in metas {
        let namespace = meta.namespace.unwrap_or_default();
        let name = meta.name.unwrap_or_default();
        if !found
            .iter()
            .any(|f| f.namespace == namespace && f.name == name)
        {
            found.push(LeftOver {
                namespace,
                name,
                created: meta.creation_timestamp.map(|t| t.0),
                active: false,
            });
        }
    }
    Ok(found)
}
