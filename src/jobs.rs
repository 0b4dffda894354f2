//! The all-reduce test: planned from a workload's own pods, run as a Job, cleaned up whatever happens.

pub mod clean;
pub mod drive;
pub mod follow;
pub mod helper;
pub mod inside;
pub mod options;
pub mod plan;
pub mod prepare;
pub mod room;
pub mod submit;
mod upload;

use std::future::Future;
use std::time::Duration;

use kube::Api;
use kube::core::NamespaceResourceScope;

use crate::sources::cluster::{Connection, Trouble, TroubleKind};

/// The label that names a run; every object of a run carries it.
pub const RUN_LABEL: &str = "ncclscope/run";
/// The label by which what we created is told from everything else.
pub const MANAGED_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGED_BY: &str = "ncclscope";
/// The test's script.
pub const SCRIPT: &str = include_str!("../assets/allreduce.py");

/// Longest wait for one request.
const PATIENCE: Duration = Duration::from_secs(20);

fn api<K>(link: &Connection, namespace: &str) -> Api<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(link.client(), namespace)
}

/// One request, with an end and a reason.
async fn ask<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(Trouble::of(&e)),
        Err(_) => Err(Trouble::timeout(PATIENCE)),
    }
}

/// One request for something that may not be there.
async fn find<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Option<T>, Trouble> {
    match ask(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(t) if t.kind == TroubleKind::NotFound => Ok(None),
        Err(t) => Err(t),
    }
}
