//! Removing what we created, and only that.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
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
    let how = DeleteParams::background();
    let jobs: Api<Job> = api(link, namespace);
    if let Err(t) = find(jobs.delete(name, &how)).await {
        left.push(format!("job/{namespace}/{name}: {}", t.text));
    }
    // They go with the Job; without the right to delete them that takes a little longer.
    let services: Api<Service> = api(link, namespace);
    let maps: Api<ConfigMap> = api(link, namespace);
    let _ = find(services.delete(name, &how)).await;
    let _ = find(maps.delete(name, &how)).await;
    if !left.is_empty() {
        return left;
    }
    let pods: Api<Pod> = api(link, namespace);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
    let until = Instant::now() + WAIT;
    loop {
        left.clear();
        if let Ok(Some(_)) = find(jobs.get_metadata(name)).await {
            left.push(format!("job/{namespace}/{name}"));
        }
        if let Ok(Some(_)) = find(services.get_metadata(name)).await {
            left.push(format!("service/{namespace}/{name}"));
        }
        if let Ok(Some(_)) = find(maps.get_metadata(name)).await {
            left.push(format!("configmap/{namespace}/{name}"));
        }
        if let Ok(pods) = ask(pods.list_metadata(&of_job)).await {
            let names = pods.items.into_iter().filter_map(|p| p.metadata.name);
            left.extend(names.map(|n| format!("pod/{namespace}/{n}")));
        }
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        sleep(LOOK).await;
    }
}

/// Tests that are still there, by our labels, in one namespace or in all.
pub async fn left_overs(
    link: &Connection,
    namespace: Option<&str>,
) -> Result<Vec<LeftOver>, Trouble> {
    let ours = ListParams::default().labels(&format!("{MANAGED_LABEL}={MANAGED_BY},{RUN_LABEL}"));
    let jobs: Api<Job> = match namespace {
        Some(n) => api(link, n),
        None => Api::all(link.client()),
    };
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
    let services: Api<Service> = match namespace {
        Some(n) => api(link, n),
        None => Api::all(link.client()),
    };
    let maps: Api<ConfigMap> = match namespace {
        Some(n) => api(link, n),
        None => Api::all(link.client()),
    };
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
