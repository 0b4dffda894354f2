//! Where commands in the pod are forbidden: DCGM's exporter on its node, by GETs through the API server's proxy.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::time::{sleep, timeout};

use super::{Target, tell};
use crate::model::event::{ContainerKey, PodKey, ProbeOutcome};
use crate::sources::cluster::{Access, Get, Trouble, TroubleKind, jitter};

/// How its pods are labelled: by its own chart, and by the GPU operator.
const LABELS: [&str; 2] = [
    "app.kubernetes.io/name=dcgm-exporter",
    "app=nvidia-dcgm-exporter",
];
/// Where it usually lives, for those who may not look everywhere.
const NAMESPACES: [&str; 5] = [
    "gpu-operator",
    "nvidia-gpu-operator",
    "dcgm-exporter",
    "monitoring",
    "kube-system",
];
/// Its port.
const PORT: u16 = 9400;
/// It collects twice a minute itself.
const EVERY: Duration = Duration::from_secs(15);
/// Bytes of a page at most: a node of 16 GPUs prints a quarter of it.
const CAP: usize = 1 << 20;
/// Name of the probe whose answers are read as samples.
pub const PROBE: &str = "dcgm";

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Answers that fail to come before the exporter is looked for anew: its pod has another name after each change.
const LOST: u32 = 3;
/// First and longest wait before one that was not found is looked for again.
const WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// Asks the exporter of a pod's node again and again; says so where there is none.
pub(super) async fn keep(access: &Access, target: &Target) {
    let Some(node) = &target.node else { return };
    let ran = format!("GET :{PORT}/metrics of the DCGM exporter on {node}");
    let mut wait = WAIT.0;
    loop {
        match find(access, node).await {
            Ok(exporter) => {
                let mut lost = 0;
                while lost < LOST {
                    match access.get(PROBE, exporter.clone(), page()).await {
                        ProbeOutcome::Refused { .. } => return,
                        ProbeOutcome::Answered { code: 200, .. } => {
                            lost = 0;
                            wait = WAIT.0;
                        }
                        _ => lost += 1,
                    }
                    sleep(jitter(EVERY)).await;
                }
            }
            Err(why) => {
                let outcome = ProbeOutcome::Failed { why };
                if !tell(access, target, ran.clone(), outcome).await {
                    return;
                }
            }
        }
        sleep(jitter(wait)).await;
        wait = (wait * 2).min(WAIT.1);
    }
}

fn page() -> Get {
    Get {
        port: PORT,
        path: "/metrics".into(),
        cap: CAP,
        limit: LIMIT,
    }
}

/// The exporter's pod on a node, or a sentence why there is none to be seen.
async fn find(access: &Access, node: &str) -> Result<ContainerKey, String> {
    let client = access.link().client();
    let mut apis: Vec<Api<Pod>> = vec![Api::all(client.clone())];
    apis.extend(
        NAMESPACES
            .iter()
            .map(|n| Api::namespaced(client.clone(), n)),
    );
    let forbidden = "commands in the pod are forbidden, and";
    let mut refused = false;
    for api in &apis {
        for labels in LABELS {
            let list = ListParams::default()
                .labels(labels)
                .fields(&format!("spec.nodeName={node}"));
            let trouble = match timeout(LIMIT, api.list_metadata(&list)).await {
                Ok(Ok(found)) => {
                    for pod in found.items {
                        if let (Some(name), Some(namespace)) =
                            (pod.metadata.name, pod.metadata.namespace)
                        {
                            return Ok(ContainerKey {
                                pod: PodKey { namespace, name },
                                container: "dcgm-exporter".into(),
                            });
                        }
                    }
                    continue;
                }
                Ok(Err(e)) => Trouble::of(&e),
                Err(_) => Trouble::timeout(LIMIT),
            };
            if trouble.kind != TroubleKind::Forbidden {
                return Err(format!(
                    "{forbidden} the DCGM exporter on {node} can't be looked for: {}",
                    trouble.text
                ));
            }
            refused = true;
        }
        // Whoever may look everywhere has looked everywhere.
        if !refused {
            return Err(format!("{forbidden} no DCGM exporter runs on {node}"));
        }
    }
    Err(format!(
        "{forbidden} no DCGM exporter on {node} is to be seen: list pods in its namespace"
    ))
}
