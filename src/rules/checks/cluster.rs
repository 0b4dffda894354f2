//! What the API server shows: pods, nodes, images, probes that kill, policies.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Look, Seen, Tally, some};
use crate::model::event::{EdgeState, ProbeOutcome};
use crate::parse::probe::Answer;
use crate::rules::findings::ranges;
use crate::rules::policy;
use crate::rules::scene::{CheckVerdict, PodRow};

/// All pods of the workload Running and Ready, none missing by index.
pub(super) fn pods(look: &Look<'_>) -> Seen {
    let (scene, model) = (look.scene, look.model);
    let ran = "the pods of the workload, by watch";
    let whom = model.session.workload.clone();
    if let Some(mut seen) = look.unfit(ran) {
        seen.whom = whom;
        return seen;
    }
    let census = model.pods.census();
    let ready =
        |r: &&PodRow| r.status == "Running" && r.ready.split_once('/').is_some_and(|(a, b)| a == b);
    let well = scene.pods.iter().filter(ready).count();
    let want = census.expected.map_or(scene.pods.len(), |n| n as usize);
    let mut said = vec![format!("{well} of {want} Running and Ready")];
    for row in scene.pods.iter().filter(|r| !ready(r)).take(8) {
        let why = row
            .why
            .as_deref()
            .map_or_else(String::new, |w| format!(": {w}"));
        said.push(format!("{} is {} {}{why}", row.name, row.status, row.ready));
    }
    let places = |list: &[(u32, u32)]| ranges(&list.iter().map(|(_, i)| *i).collect::<Vec<_>>());
    if !census.missing.is_empty() {
        said.push(format!("no pod at index {}", places(&census.missing)));
    }
    if !census.duplicate.is_empty() {
        said.push(format!("two pods at index {}", places(&census.duplicate)));
    }
    let verdict = if scene.pods.iter().any(|r| r.bad) || !census.duplicate.is_empty() {
        CheckVerdict::Fail
    } else if well >= want && census.missing.is_empty() && want > 0 {
        CheckVerdict::Pass
    } else {
        CheckVerdict::Waiting
    };
    let mut seen = Seen::new(verdict, ran, said.join("\n"));
    seen.pods = scene
        .pods
        .iter()
        .filter(|r| r.bad)
        .map(|r| r.name.clone())
        .collect();
    if seen.pods.is_empty() {
        seen.whom = whom;
    }
    seen
}

/// Conditions, taints and cordons of the nodes that the pods run on.
pub(super) fn nodes(look: &Look<'_>) -> Seen {
    let ran = "the nodes of the pods, by watch";
    if let Some(seen) = look.unfit(ran) {
        return seen;
    }
    let names: BTreeSet<&str> = look
        .members
        .list
        .iter()
        .filter_map(|m| m.pod.node.as_deref())
        .collect();
    if look.model.nodes.is_empty() {
        return match look.model.edges.get("nodes") {
            Some(EdgeState::Forbidden { rule }) => {
                Seen::new(CheckVerdict::Forbidden, ran, format!("needs: {rule}"))
            }
            Some(EdgeState::Retrying { why, .. } | EdgeState::Down { why }) => {
                Seen::new(CheckVerdict::Unknown, ran, why.clone())
            }
            _ => Seen::new(CheckVerdict::Waiting, ran, "waits for the list of nodes"),
        };
    }
    let mut tally = Tally::default();
    for name in &names {
        let Some(node) = look.model.nodes.get(*name) else {
            tally.unknown(name, "this node is not in the list");
            continue;
        };
        for c in &node.conditions {
            let said = || {
                let text = c.message.as_deref().or(c.reason.as_deref());
                text.map_or_else(|| c.kind.clone(), |m| format!("{}: {m}", c.kind))
            };
            match (c.kind.as_str(), c.status.as_str()) {
                ("Ready", "True") | (_, "False") => {}
                ("Ready", _) => tally.fail(name, format!("not ready: {}", said())),
                (
                    "MemoryPressure" | "DiskPressure" | "PIDPressure" | "NetworkUnavailable",
                    "True",
                ) => {
                    tally.fail(name, said());
                }
                // Whatever a problem detector adds is True when something is wrong.
                (_, "True") => tally.warn(name, said()),
                _ => {}
            }
        }
        if node.unschedulable {
            tally.warn(
                name,
                "cordoned: a pod that is made anew will not come back here",
            );
        }
        for (key, value, effect) in &node.taints {
            let trouble =
                key.starts_with("node.kubernetes.io/") && key != "node.kubernetes.io/unschedulable";
            let health = [
                "health",
                "unhealthy",
                "gpu-error",
                "xid",
                "maintenance",
                "repair",
            ]
            .iter()
            .any(|w| key.contains(w) || value.contains(w));
            if trouble || health {
                tally.warn(name, format!("taint {key}={value}:{effect}"));
            }
        }
    }
    let mut seen = tally.seen(
        ran,
        format!("{} nodes, ready, without pressure", names.len()),
    );
    seen.nodes = std::mem::take(&mut seen.pods);
    seen
}

/// One image digest over the pods of one revision.
pub(super) fn image(look: &Look<'_>) -> Seen {
    let ran = "containerStatuses[].imageID of the pods";
    if let Some(seen) = look.unfit(ran) {
        return seen;
    }
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for m in &look.members.list {
        let id = m.container.image_id.as_deref();
        match id.and_then(|i| i.rsplit_once("sha256:")) {
            Some((_, d)) => digests
                .entry(d.chars().take(12).collect())
                .or_default()
                .push(m.pod.name.clone()),
            None => waiting.push(m.pod.name.clone()),
        }
    }
    if digests.is_empty() {
        let text = "waits for the first container: no image digest is known yet";
        return Seen::new(CheckVerdict::Waiting, ran, text);
    }
    let odd = look
        .scene
        .findings
        .iter()
        .find(|f| f.id == "pod.image-skew");
    let mut lines: Vec<String> = digests
        .iter()
        .map(|(d, pods)| format!("sha256:{d}… in {}", some(pods)))
        .collect();
    let verdict = if odd.is_some() {
        CheckVerdict::Fail
    } else if digests.len() > 1 {
        lines.push("they belong to different revisions".into());
        CheckVerdict::Warn
    } else if waiting.is_empty() {
        CheckVerdict::Pass
    } else {
        lines.push(format!("waits for {}", some(&waiting)));
        CheckVerdict::Waiting
    };
    let mut seen = Seen::new(verdict, ran, lines.join("\n"));
    seen.pods = odd.map(|f| f.pods.clone()).unwrap_or_default();
    seen
}

/// `period=10s failure=360 delay=5s` as seconds until the kubelet kills.
fn patience(text: &str) -> Option<u64> {
    let number = |name: &str| {
        let at = text.split_whitespace().find_map(|w| w.strip_prefix(name))?;
        at.trim_end_matches('s').parse::<u64>().ok()
    };
    Some(number("delay=").unwrap_or(0) + number("period=")? * number("failure=")?)
}

/// A loader needs minutes: a shorter patience kills it before it serves.
const SHORT: u64 = 600;

/// No probe of Kubernetes would kill a slow loader.
pub(super) fn startup_probe(look: &Look<'_>) -> Seen {
    let ran = "startupProbe and livenessProbe of the containers";
    if let Some(seen) = look.unfit(ran) {
        return seen;
    }
    let mut tally = Tally::default();
    let killed = look
        .scene
        .findings
        .iter()
        .find(|f| f.id == "pod.probe-kill");
    for pod in killed.iter().flat_map(|f| &f.pods) {
        tally.fail(pod, "a probe killed it");
    }
    let mut longest = None;
    for m in &look.members.list {
        let of = |kind: &str| {
            let text = m.container.probes.iter().find(|(k, _)| k == kind);
            text.and_then(|(_, t)| patience(t))
        };
        let (startup, liveness) = (of("startup"), of("liveness"));
        // A liveness probe waits for the startup probe, where there is one.
        let Some(seconds) = startup.or(liveness) else {
            continue;
        };
        longest = longest.max(Some(seconds));
        let serves = m.container.ready && m.container.restarts == 0;
        if seconds < SHORT && !serves && killed.is_none() {
            let kind = if startup.is_some() {
                "startup"
            } else {
                "liveness"
            };
            tally.warn(
                &m.pod.name,
                format!("the {kind} probe kills after {seconds} s; large models load longer"),
            );
        }
    }
    let good = match longest {
        None => "no probe that could kill a loading container".to_owned(),
        Some(s) => format!("they wait {s} s before they kill"),
    };
    tally.seen(ran, good)
}

/// Policies evaluated against the pods: may every pair open connections on all ports?
pub(super) fn network_policy(look: &Look<'_>) -> Seen {
    let ran = "list networkpolicies; evaluated against the pods (all TCP ports, both directions)";
    if let Some(seen) = look.unfit(ran) {
        return seen;
    }
    let probed = look.model.probes.of("network-policies").next();
    let policies = match probed.map(|(_, p)| (p, &p.outcome, p.answer.as_deref())) {
        Some((_, _, Some(Answer::Policies(policies)))) => policies,
        Some((_, Some(ProbeOutcome::Refused { why, rule }), _)) => {
            let rule = rule.as_deref().unwrap_or("list networkpolicies");
            return Seen::new(
                CheckVerdict::Forbidden,
                ran,
                format!("{why}; needs: {rule}"),
            );
        }
        Some((_, Some(ProbeOutcome::Failed { why }), _)) => {
            return Seen::new(CheckVerdict::Unknown, ran, why.clone());
        }
        Some((_, Some(ProbeOutcome::Answered { code, .. }), _)) => {
            let text = format!("the list can't be read (status {code})");
            return Seen::new(CheckVerdict::Unknown, ran, text);
        }
        _ => return Seen::new(CheckVerdict::Waiting, ran, "waits for the list of policies"),
    };
    let judged = policy::judge(look.members, policies);
    let mut tally = Tally::default();
    for b in judged.blocked.iter().take(24) {
        let text = format!("{} to {}: {}", b.from, b.to, b.why);
        if b.certain {
            tally.fail(&b.from, text);
        } else {
            tally.warn(&b.from, format!("perhaps {text}"));
        }
    }
    let good = if policies.items.is_empty() {
        "no policy in this namespace".to_owned()
    } else {
        format!(
            "{} policies, {} of them about these pods: every pair may talk on every port",
            policies.items.len(),
            judged.selecting.len()
        )
    };
    tally.seen(ran, good)
}
