//! Where commands in the pod are forbidden: DCGM's exporter on its node, by GETs through the API server's proxy.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::time::sleep;

use super::{Target, tell};
use crate::model::event::{ContainerKey, PodKey, ProbeOutcome};
use crate::sources::cluster::{Access, Get};

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

/// Asks the exporter of a pod's node again and again; says so where there is none.
pub(super) async fn keep(access: &Access, target: &Target) {
    let Some(node) = &target.node else { return };
    let ran = format!("GET :{PORT}/metrics of the DCGM exporter on {node}");
    let exporter = match find(access, node).await {
        Ok(at) => at,
        Err(why) => {
            tell(access, target, ran, ProbeOutcome::Failed { why }).await;
            return;
        }
    };
    loop {
        let get = Get {
            port: PORT,
            path: "/metrics".into(),
            cap: CAP,
            limit: Duration::from_secs(10),
        };
        let outcome = access.get(PROBE, exporter.clone(), get).await;
        if matches!(outcome, ProbeOutcome::Refused { .. }) {
            return;
        }
        sleep(EVERY).await;
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
    let mut forbidden = 0usize;
    for api in &apis {
        for labels in LABELS {
            let list = ListParams::default()
                .labels(labels)
                .fields(&format!("spec.nodeName={node}"));
            match api.list_metadata(&list).await {
                Ok(found) => {
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
                }
                Err(_) => forbidden += 1,
            }
        }
        // Whoever may look everywhere has looked everywhere.
        if forbidden == 0 {
            break;
        }
    }
    Err(if forbidden == apis.len() * LABELS.len() {
        format!(
            "commands in the pod are forbidden, and the DCGM exporter on {node} can't be looked for: list pods in its namespace"
        )
    } else {
        format!("commands in the pod are forbidden, and no DCGM exporter runs on {node}")
    })
}
