//! Policies that keep pods of the workload apart.

use std::collections::{BTreeMap, BTreeSet};

use super::answer;
use crate::parse::probe::{Answer, Reached};
use crate::rules::findings::View;
use crate::rules::findings::fix::{self, sh};
use crate::rules::policy;
use crate::rules::probes::Members;
use crate::rules::scene::{Class, Confidence, Evidence, Finding, Severity};

/// Policies that keep pods of the workload apart.
pub fn network_policy(view: &View<'_>, all: &Members<'_>, out: &mut Vec<Finding>) {
    let list = view
        .model
        .probes
        .of("network-policies")
        .next()
        .and_then(|(_, p)| p.answer.as_deref());
    let Some(Answer::Policies(policies)) = list else {
        return;
    };
    let judged = policy::judge(all, policies);
    let mut by: BTreeMap<Vec<String>, Vec<&policy::Blocked>> = BTreeMap::new();
    for b in &judged.blocked {
        by.entry(b.policies.clone()).or_default().push(b);
    }
    for (names, pairs) in by {
        // A connection that came about although the policies allow nothing of it: nobody enforces them.
        let mut dropped = Vec::new();
        let mut passed = false;
        for g in &all.list {
            let Some((Answer::Reach(r), _)) = answer(view, g, "reach") else {
                continue;
            };
            for t in &r.tcp {
                let peer = all
                    .list
                    .iter()
                    .find(|m| m.pod.pod_ip.as_deref() == Some(&t.peer));
                let Some(peer) = peer else { continue };
                match t.what {
                    Reached::Timeout => dropped.push(format!(
                        "check.reach: {} to {} ({}:{}): no answer",
                        g.pod.name, peer.pod.name, t.peer, t.port
                    )),
                    Reached::Open | Reached::Refused => {
                        let named = pairs
                            .iter()
                            .any(|b| !b.partly && b.from == g.pod.name && b.to == peer.pod.name);
                        passed |= named;
                    }
                    Reached::NoRoute | Reached::Error => {}
                }
            }
        }
        if passed && dropped.is_empty() {
            continue;
        }
        let Some(first) = pairs.first() else { continue };
        let severity = if dropped.is_empty() {
            Severity::Warning
        } else {
            Severity::Error
        };
        let mut f = Finding::new(
            "pod.network-policy",
            &names.join(","),
            severity,
            Class::Network,
            Evidence::Object(format!("networkpolicy/{}: {}", names.join(","), first.why)),
        );
        for d in dropped.iter().take(4) {
            f.prove(Evidence::Check(d.clone()));
        }
        f.confidence = match (first.certain, dropped.is_empty()) {
            (true, false) => Confidence::Certain,
            (true, true) => Confidence::Likely,
            (false, _) => Confidence::Possible,
        };
        let pods: BTreeSet<&String> = pairs.iter().flat_map(|b| [&b.from, &b.to]).collect();
        f.pods = pods.into_iter().cloned().collect();
        f.title = format!(
            "network policy {} keeps the pods from talking to each other",
            names.join(", ")
        );
        f.cause = format!(
            "{} to {}: {}. NCCL and gloo connect either way on ephemeral ports: a policy must allow all TCP ports between the pods.",
            first.from, first.to, first.why
        );
        let target = &view.target;
        let labels = common_labels(all);
        f.fix = vec![
            format!(
                "kind: NetworkPolicy, spec: {{podSelector: {{matchLabels: {labels}}}, policyTypes: [Ingress, Egress], \
                 ingress: [{{from: [{{podSelector: {{matchLabels: {labels}}}}}]}}], egress: [{{to: [{{podSelector: {{matchLabels: {labels}}}}}]}}]}}"
            ),
            target.kubectl(&format!(
                "describe networkpolicy {}",
                names.iter().map(|n| sh(n)).collect::<Vec<_>>().join(" ")
            )),
        ];
        out.push(f);
    }
}

/// Labels that all pods share and that name them, as YAML flow.
fn common_labels(all: &Members<'_>) -> String {
    let Some(first) = all.list.first() else {
        return "{}".into();
    };
    let hash = |k: &str| k.contains("hash") || k.contains("revision");
    let shared: Vec<String> = first
        .pod
        .labels
        .iter()
        .filter(|(k, v)| !hash(k) && all.list.iter().all(|m| m.pod.labels.get(*k) == Some(*v)))
        .map(|(k, v)| format!("{}: {}", fix::yaml(k), fix::yaml(v)))
        .take(3)
        .collect();
    format!("{{{}}}", shared.join(", "))
}
