//! Whether the nodes of a test have GPUs left: what they can give, less what pods ask for there.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;

use super::plan::{Plan, gpus_in, gpus_requested};
use super::{api, ask};
use crate::sources::cluster::{Connection, Trouble, TroubleKind};

/// Nodes whose GPUs are counted before a test.
const COUNTED: usize = 64;
/// Holders that are named.
const NAMED: usize = 4;

/// What can be done where the workload holds the GPUs. Scaling it down is the user's business.
pub const OFFERS: &str = "Then the test waits for room until its deadline. Fewer ranks: --gpus N or --pods N. Other nodes: --other-nodes. The network alone: --gpus 0. Inside the workload's own pods with small buffers: --inside.";

/// What is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Free {
    /// GPUs that it can give to pods.
    total: u32,
    /// Who asks for how many of them.
    holders: BTreeMap<String, u32>,
    /// Pods of other namespaces may not be listed: there may be more holders.
    partly: Option<String>,
}

impl Free {
    /// Why a test that asks for so many GPUs there may have to wait; nothing where there is room.
    fn full(&self, node: &str, asks: u32) -> Option<String> {
        let held: u32 = self.holders.values().sum();
        let left = self.total.saturating_sub(held);
        if left < asks {
            let mut who: Vec<String> = self
                .holders
                .iter()
                .take(NAMED)
                .map(|(pod, n)| format!("{pod} holds {n}"))
                .collect();
            if self.holders.len() > NAMED {
                who.push(format!("and {} more", self.holders.len() - NAMED));
            }
            let most = if self.partly.is_some() {
                "at most "
            } else {
                ""
            };
            return Some(format!(
                "{node} has {most}{left} of {} GPUs free and the test asks for {asks} ({})",
                self.total,
                who.join(", ")
            ));
        }
        let why = self.partly.as_ref()?;
        Some(format!(
            "{node} has room as far as can be seen: pods of other namespaces are not known: {why}"
        ))
    }
}

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
        match free(link, name, &plan.namespace).await {
            Ok(free) => out.extend(free.full(name, per_node)),
            Err(why) => {
                out.push(format!("whether GPUs are free is not known: {}", why.text));
                return out;
            }
        }
    }
    if plan.nodes.len() > COUNTED {
        out.push(format!(
            "whether GPUs are free on the other {} nodes was not asked",
            plan.nodes.len() - COUNTED
        ));
    }
    out
}

/// GPUs of a node, and who holds how many.
async fn free(link: &Connection, name: &str, namespace: &str) -> Result<Free, Trouble> {
    let nodes: Api<Node> = Api::all(link.client());
    let node = ask(nodes.get(name)).await?;
    let allocatable = node.status.and_then(|s| s.allocatable).unwrap_or_default();
    let on = ListParams::default().fields(&format!(
        "spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
    ));
    let everywhere: Api<Pod> = Api::all(link.client());
    let (pods, partly) = match ask(everywhere.list(&on)).await {
        Ok(list) => (list.items, None),
        Err(t) if t.kind == TroubleKind::Forbidden => {
            let here: Api<Pod> = api(link, namespace);
            (ask(here.list(&on)).await?.items, Some(t.text))
        }
        Err(t) => return Err(t),
    };
    let mut holders = BTreeMap::new();
    for pod in pods {
        let gpus = gpus_requested(&pod);
        if gpus > 0 {
            let meta = &pod.metadata;
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let pod = meta.name.as_deref().unwrap_or_default();
            holders.insert(format!("{namespace}/{pod}"), gpus);
        }
    }
    Ok(Free {
        total: gpus_in(&allocatable),
        holders,
        partly,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_what_the_node_gives_less_what_pods_ask_for() {
        let holders = BTreeMap::from([("prod/llm-0".to_owned(), 6), ("prod/x".to_owned(), 1)]);
        let mut free = Free {
            total: 8,
            holders,
            partly: None,
        };
        assert_eq!(free.full("gpu-1", 1), None);
        assert_eq!(
            free.full("gpu-1", 8).as_deref(),
            Some(
                "gpu-1 has 1 of 8 GPUs free and the test asks for 8 (prod/llm-0 holds 6, prod/x holds 1)"
            )
        );
        free.partly = Some("not allowed to list pods".into());
        let full = free.full("gpu-1", 8).unwrap_or_default();
        assert!(full.starts_with("gpu-1 has at most 1 of 8"), "{full}");
        let perhaps = free.full("gpu-1", 1).unwrap_or_default();
        assert!(perhaps.contains("are not known: not allowed"), "{perhaps}");
    }
}
