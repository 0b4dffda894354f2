//! Hands this very program into the test's waiting pod, for images without torch.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, ListParams};
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::plan::{Plan, WORKER_FOLDER};
use super::{api, ask};
use crate::sources::cluster::Connection;

/// Takes so many bytes from standard input, whole or not at all: the pod waits for the last name.
const TAKE: &str = r#"head -c "$1" >"$2.part" && chmod 755 "$2.part" && mv "$2.part" "$2""#;
/// Between two looks at the pod.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until the pod runs, then copies the program; the error is a sentence.
pub(super) async fn upload(link: &Connection, plan: &Plan) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| format!("this program is not found: {e}"))?;
    let bytes = tokio::fs::read(&program).await;
    let bytes = bytes.map_err(|e| format!("{}: {e}", program.display()))?;
    let pods: Api<Pod> = api(link, &plan.namespace);
    let own = ListParams::default().labels(&plan.selector());
    let name = loop {
        let listed = ask(pods.list(&own)).await.map_err(|t| t.text)?;
        let runs = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        if let Some(name) = listed
            .items
            .into_iter()
            .find(runs)
            .and_then(|p| p.metadata.name)
        {
            break name;
        }
        sleep(LOOK).await;
    };
    let how = AttachParams::default()
        .container("allreduce")
        .stdin(true)
        .stdout(false)
        .stderr(false);
    let size = bytes.len().to_string();
    let place = format!("{WORKER_FOLDER}/ncclscope");
    let command = ["/bin/sh", "-c", TAKE, "sh", &size, &place];
    let said = |e: &dyn std::fmt::Display| format!("the worker was not handed into {name}: {e}");
    let mut attached = pods
        .exec(&name, command, &how)
        .await
        .map_err(|e| said(&e))?;
    let status = attached.take_status();
    if let Some(mut stdin) = attached.stdin() {
        stdin.write_all(&bytes).await.map_err(|e| said(&e))?;
        stdin.flush().await.map_err(|e| said(&e))?;
    }
    let ended = match status {
        Some(status) => status.await,
        None => None,
    };
    match ended.and_then(|s| s.status).as_deref() {
        Some("Success") => Ok(()),
        _ => Err(said(&"head, chmod or mv failed there")),
    }
}
