//! What probes, objects and samples prove: environment, policies, GPUs, the model's files.

use std::collections::{BTreeMap, BTreeSet};

use super::View;
use super::fix::{Target, sh};
use super::trouble::{Case, Notice};
use crate::model::event::{ContainerKey, PodKey};
use crate::parse::probe::{Answer, Reached};
use crate::parse::vllm::FaultKind;
use crate::parse::{At, Nanos};
use crate::rules::modelfiles::{self, Topic, Weight};
use crate::rules::probes::{Member, Members, members};
use crate::rules::scene::{Class, Confidence, Evidence, Finding, GpuView, Severity, Stage};
use crate::rules::variables::{self, Over};
use crate::rules::{devices, policy};

/// Every rule of this room.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    xid(view, notices, out);
    imbalance(view, out);
    if view.model.pods.is_empty() {
        return;
    }
    let all = members(&view.model.pods);
    env_skew(view, out);
    network_policy(view, &all, out);
    for m in &all.list {
        gpus(view, m, out);
        foreign(view, m, out);
        model_files(view, m, out);
    }
}

fn place(m: &Member<'_>) -> ContainerKey {
    ContainerKey {
        pod: PodKey {
            namespace: m.pod.namespace.clone(),
            name: m.pod.name.clone(),
        },
        container: m.container.name.clone(),
    }
}

/// What the newest answer of a probe in this container says, and when it came. An earlier life's says nothing.
fn answer<'a>(view: &View<'a>, m: &Member<'_>, probe: &str) -> Option<(&'a Answer, Option<At>)> {
    let since = m.running()?;
    let probed = view.model.probes.at(probe, Some(&place(m)))?;
    if probed.at > 0 && probed.at < since {
        return None;
    }
    Some((probed.answer.as_deref()?, at(probed.at)))
}

fn at(ns: Nanos) -> Option<At> {
    (ns > 0).then_some(At { ns, exact: true })
}

/// A finding about one pod.
fn about(
    view: &View<'_>,
    id: &'static str,
    m: &Member<'_>,
    severity: Severity,
    class: Class,
    proof: Evidence,
) -> Finding {
    let subject = format!("{}/{}", m.pod.namespace, m.pod.name);
    let mut f = Finding::new(id, &subject, severity, class, proof);
    f.pods = vec![m.pod.name.clone()];
    f.hosts.clone_from(&f.pods);
    f.ranks = ranks(view, &m.pod.name);
    f
}

fn ranks(view: &View<'_>, pod: &str) -> Vec<u32> {
    let here = |p: &&crate::rules::scene::ProcessView| p.pod.as_deref() == Some(pod);
    let list: BTreeSet<u32> = view
        .scene
        .processes
        .iter()
        .filter(here)
        .filter_map(|p| p.global_rank)
        .collect();
    list.into_iter().collect()
}

/// Variables of the must-equal list that differ. Addresses and ranks that must differ are the matter of
/// `vllm.wrong-host-ip` and `vllm.rank-config`.
fn env_skew(view: &View<'_>, out: &mut Vec<Finding>) {
    for (name, v) in variables::skewed(&view.scene.variables) {
        if variables::over(name) != Over::Equal {
            continue;
        }
        let mut sides: Vec<(Option<&String>, &Vec<String>)> =
            v.by.iter()
                .map(|(value, pods)| (Some(value), pods))
                .collect();
        if !v.unset.is_empty() {
            sides.push((None, &v.unset));
        }
        // The odd ones first; the value of most is what the others should have.
        sides.sort_by_key(|(value, pods)| (pods.len(), value.is_none(), *value));
        let tell = |(value, pods): &(Option<&String>, &Vec<String>)| {
            let pod = pods.first().map_or("?", String::as_str);
            Evidence::Object(match value {
                Some(value) => format!("pod/{pod}: {name}={value}"),
                None => format!("pod/{pod}: {name} is not set"),
            })
        };
        let Some((odd, rest)) = sides.split_first() else {
            continue;
        };
        let mut f = Finding::new(
            "pod.env-skew",
            name,
            Severity::Warning,
            Class::Configuration,
            tell(odd),
        );
        for side in rest.iter().take(7) {
            f.prove(tell(side));
        }
        f.pods.clone_from(odd.1);
        f.hosts.clone_from(&f.pods);
        f.ranks = f.pods.iter().flat_map(|p| ranks(view, p)).collect();
        f.ranks.sort_unstable();
        f.title = format!(
            "{name} differs over the pods: {}",
            sides
                .iter()
                .map(|(value, pods)| {
                    format!(
                        "{} in {}",
                        value.map_or("not set", String::as_str),
                        some(pods)
                    )
                })
                .collect::<Vec<_>>()
                .join(", ")
        );
        f.cause = variables::get(name).map_or_else(
            || format!("{name} must be equal in every pod of one job."),
            |d| format!("{} It must be equal in every pod of one job.", d.means),
        );
        let target = Target::of(view.model);
        let most = sides.last().and_then(|(value, _)| *value);
        f.fix = vec![target.env(name, most.map(String::as_str)), target.pods()];
        out.push(f);
    }
}

/// `a, b and 5 more`.
fn some(names: &[String]) -> String {
    crate::rules::checks::some(names)
}

/// Policies that keep pods of the workload apart.
fn network_policy(view: &View<'_>, all: &Members<'_>, out: &mut Vec<Finding>) {
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
        let pods: BTreeSet<String> = all
            .list
            .iter()
            .filter(|m| m.place.group.number == 0 || pairs.iter().any(|b| b.from == m.pod.name))
            .map(|m| m.pod.name.clone())
            .collect();
        f.pods = pods.into_iter().collect();
        f.title = format!(
            "network policy {} keeps the pods from talking to each other",
            names.join(", ")
        );
        f.cause = format!(
            "{} to {}: {}. NCCL and gloo connect either way on ephemeral ports: a policy must allow all TCP ports between the pods.",
            first.from, first.to, first.why
        );
        let target = Target::of(view.model);
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
        .map(|(k, v)| format!("{}: {}", super::fix::yaml(k), super::fix::yaml(v)))
        .take(3)
        .collect();
    format!("{{{}}}", shared.join(", "))
}

/// GPUs that are not as many as asked for.
fn gpus(view: &View<'_>, m: &Member<'_>, out: &mut Vec<Finding>) {
    let Some((Answer::Gpus(g), since)) = answer(view, m, "gpus") else {
        return;
    };
    let target = Target::of(view.model);
    if let Some(bad) = devices::count(m, g) {
        let proof = Evidence::Check(format!("check.gpus in {}: {}", m.pod.name, bad.proof));
        let mut f = about(
            view,
            "gpu.count-mismatch",
            m,
            Severity::Error,
            Class::Platform,
            proof,
        );
        f.prove(Evidence::Object(format!(
            "pod/{}: resources.limits of {}: {} GPUs",
            m.pod.name, m.container.name, m.container.gpus
        )));
        f.since = since;
        f.gpus = bad.gpus;
        f.title = format!("{}: {}", m.pod.name, bad.text);
        f.cause = "A GPU has fallen off the bus, a variable hides it, or the size of the tensor parallel group does not fit the pod.".into();
        f.fix = vec![
            target.kubectl(&format!(
                "exec {} -c {} -- nvidia-smi -L",
                sh(&m.pod.name),
                sh(&m.container.name)
            )),
            target.env("CUDA_VISIBLE_DEVICES", None),
        ];
        if let Some(node) = &m.pod.node {
            f.fix.push(format!(
                "kubectl describe node {}   # allocatable nvidia.com/gpu",
                sh(node)
            ));
        }
        out.push(f);
    }
    for bad in devices::ecc(g) {
        let proof = Evidence::Check(format!("check.ecc in {}: {}", m.pod.name, bad.proof));
        let mut f = about(view, "gpu.xid", m, Severity::Error, Class::Hardware, proof);
        f.since = since;
        f.gpus = bad.gpus;
        f.title = format!("{}: {}", m.pod.name, bad.text);
        f.cause = "The GPU's memory had errors that it could not correct.".into();
        f.fix = drain(m.pod.node.as_deref());
        out.push(f);
    }
}

fn drain(node: Option<&str>) -> Vec<String> {
    let node = sh(node.unwrap_or("NODE"));
    vec![
        format!("kubectl cordon {node}"),
        format!(
            "kubectl drain {node} --ignore-daemonsets --delete-emptydir-data   # then reset or replace the GPU"
        ),
    ]
}

/// Memory that somebody else holds.
fn foreign(view: &View<'_>, m: &Member<'_>, out: &mut Vec<Finding>) {
    // vLLM's own word on it is better evidence.
    let known = out
        .iter()
        .any(|f| f.id == "gpu.foreign-memory" && f.pods.contains(&m.pod.name));
    if known {
        return;
    }
    let mut bad = Vec::new();
    let mut since = None;
    if let Some((Answer::GpuMemory(g), when)) = answer(view, m, "gpu-memory") {
        bad = devices::foreign(view.scene, m, g);
        since = when;
    }
    let sampled = |g: &&GpuView| {
        g.pod.as_deref() == Some(m.pod.name.as_str()) && g.other.is_some_and(|b| b > OTHERS)
    };
    let sample = view.scene.gpus.iter().find(sampled);
    let proof = match (bad.first(), sample) {
        (Some(b), _) => Evidence::Check(format!("check.gpu-memory in {}: {}", m.pod.name, b.proof)),
        (None, Some(g)) => Evidence::Sample(format!(
            "{}: {} MiB were taken before the rank came",
            name(g),
            g.other.unwrap_or(0) >> 20
        )),
        (None, None) => return,
    };
    let mut f = about(
        view,
        "gpu.foreign-memory",
        m,
        Severity::Warning,
        Class::Resources,
        proof,
    );
    f.confidence = Confidence::Likely;
    f.since = since.or(sample.and_then(|g| g.at));
    f.gpus = bad.iter().flat_map(|b| b.gpus.clone()).collect();
    if f.gpus.is_empty() {
        f.gpus.extend(sample.map(name));
    }
    let text = bad.first().map_or_else(
        || format!("{} is held in part by somebody else", f.gpus.join(", ")),
        |b| b.text.clone(),
    );
    f.title = format!("{}: {text}", m.pod.name);
    f.cause = "Another process holds memory of this GPU: a neighbour that shares it, or a container that has not gone. From inside a container it can't be seen whose it is.".into();
    f.fix = vec![
        format!(
            "on node {}: nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv",
            m.pod.node.as_deref().unwrap_or("?")
        ),
        Target::of(view.model).arg("--gpu-memory-utilization=0.80"),
    ];
    out.push(f);
}

/// Less than this is a driver's and contexts', bytes.
const OTHERS: u64 = 2 << 30;

fn name(g: &GpuView) -> String {
    g.uuid
        .clone()
        .or_else(|| g.bus_id.clone())
        .unwrap_or_else(|| "a GPU".into())
}

/// GPUs that differ from those of their group, at rest: every rank serves, and none has ended.
fn imbalance(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut told = view.scene.processes.iter().filter(|p| p.stage.is_some());
    let first = told.next();
    let serves = |p: &crate::rules::scene::ProcessView| {
        p.alive != Some(false) && (p.stage == Some(Stage::Serving) || p.quiet)
    };
    let dead = view.scene.processes.iter().any(|p| p.alive == Some(false));
    if dead || !first.is_some_and(serves) || !told.all(serves) {
        return;
    }
    for g in view.scene.gpus.iter().filter(|g| !g.loading) {
        let (Some(odd), Some(used)) = (&g.odd, g.used) else {
            continue;
        };
        let who = name(g);
        let mut f = Finding::new(
            "gpu.memory-imbalance",
            &who,
            Severity::Warning,
            Class::Resources,
            Evidence::Sample(format!("{who}: {} MiB used: {odd}", used >> 20)),
        );
        f.confidence = Confidence::Likely;
        f.since = g.at;
        f.gpus = vec![who.clone()];
        f.pods.extend(g.pod.clone());
        f.hosts.clone_from(&f.pods);
        f.ranks.extend(g.global_rank);
        let place = g.pod.clone().or_else(|| g.node.clone()).unwrap_or_default();
        let rank = g
            .global_rank
            .map_or_else(|| who.clone(), |r| format!("the GPU of rank {r}"));
        f.title = format!("{rank} on {place} differs from those of its group: {odd}");
        f.cause = "Ranks of one tensor parallel group and pipeline stage hold equal shares of the model: a second process is on that GPU, or the rank has loaded something else.".into();
        let target = Target::of(view.model);
        f.fix = vec![target.kubectl(&format!(
            "exec {} -- nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv",
            sh(g.pod.as_deref().unwrap_or("POD"))
        ))];
        out.push(f);
    }
}

/// What an Xid means and what to do, in a few words (`kubernetes.md` 6.4).
fn meaning(xid: u32) -> (&'static str, &'static str) {
    match xid {
        13 | 31 => (
            "a kernel's exception or a bad address: an application's bug first",
            "restart the pod; if it comes again on this GPU alone, replace it",
        ),
        43 | 45 => (
            "a channel was stopped: follows another error or a killed process",
            "look for the first error",
        ),
        48 | 63 | 64 | 92 | 94 | 95 => (
            "memory errors",
            "63: drain when idle; 94: restart the job; 48, 64, 95: reset or replace the GPU",
        ),
        62 | 109 | 119 | 120 => (
            "the GPU's own processors hang",
            "reset the GPU or reboot the node",
        ),
        74 | 136 | 137 | 144..=150 => (
            "NVLink error",
            "fabric manager, switch, cables; reset the GPU",
        ),
        79 => (
            "the GPU has fallen off the bus",
            "reboot the node; replace the GPU if it comes again",
        ),
        46 | 110 | 121 | 140 | 143 | 155 | 156 | 158 => ("the GPU needs a reset", "reset the GPU"),
        154 => (
            "the driver names what to do in the line's text",
            "do what the text says",
        ),
        _ => (
            "see the vendor's catalogue",
            "drain the node and have the GPU looked at",
        ),
    }
}

/// `Xid 79`, `Xid (PCI:0000:9b:00): 79`, `XID: 79`: the number behind the word, wherever one stands behind it.
fn number(text: &str) -> Option<u32> {
    let mut words = ["Xid", "XID", "xid"]
        .iter()
        .flat_map(|w| text.match_indices(w));
    words.find_map(|(at, w)| {
        let mut rest = text.get(at + w.len()..)?.trim_start();
        if rest.starts_with('(') {
            rest = rest.split_once("): ")?.1;
        }
        let rest = rest.trim_start_matches([' ', ':', '=', '#']);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|n| (1..1000).contains(n))
    })
}

/// What tells of one Xid, and since when.
type Told = (Vec<Evidence>, Option<At>);

/// What the driver reported: in logs, events, conditions of nodes, samples.
fn xid(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let hardware = notices
        .iter()
        .filter(|n| {
            // A kernel that failed proves no broken hardware.
            n.fault().is_some_and(|f| match f.kind {
                FaultKind::Hardware { xid } => {
                    xid.is_some() || n.line.text.contains("uncorrectable")
                }
                _ => false,
            })
        })
        .collect();
    for c in Case::split(view, hardware) {
        let n = c.of(|k| match k {
            FaultKind::Hardware { xid } => *xid,
            _ => None,
        });
        let words = words(&c.place, n, None);
        out.extend(c.raise("gpu.xid", Severity::Error, Class::Hardware, words));
    }
    let mut told: BTreeMap<(String, Option<u32>), Told> = BTreeMap::new();
    let mut tell = |who: &str, n: Option<u32>, proof: Evidence, when: Option<At>| {
        let entry = told
            .entry((who.to_owned(), n))
            .or_insert((Vec::new(), when));
        entry.0.push(proof);
        entry.1 = super::earlier(entry.1, when);
    };
    for node in view.model.nodes.values() {
        for c in node.conditions.iter().filter(|c| c.status == "True") {
            let text = [
                Some(c.kind.as_str()),
                c.reason.as_deref(),
                c.message.as_deref(),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": ");
            if text.to_ascii_lowercase().contains("xid") {
                let proof =
                    Evidence::Object(format!("node/{}: {}", node.name, super::vllm::short(&text)));
                tell(&node.name, number(&text), proof, c.since.and_then(at));
            }
        }
    }
    for e in view.model.pods.events().filter(|e| !e.normal) {
        let text = format!("{}: {}", e.reason, e.message);
        if text.contains("Xid") || text.contains("XID") {
            let who = match view.model.pods.get(&PodKey {
                namespace: e.namespace.clone(),
                name: e.object.clone(),
            }) {
                Some(pod) => pod.node.clone().unwrap_or_else(|| e.object.clone()),
                None => e.object.clone(),
            };
            let proof = Evidence::Object(format!(
                "event {}/{}: {}",
                e.kind.to_lowercase(),
                e.object,
                super::vllm::short(&text)
            ));
            tell(&who, number(&text), proof, e.first.and_then(at));
        }
    }
    for g in &view.scene.gpus {
        let node = g.node.clone().or_else(|| g.pod.clone()).unwrap_or_default();
        for (when, n) in &g.xids {
            let proof = Evidence::Sample(format!("{}: Xid {n}", name(g)));
            tell(&node, Some(*n), proof, at(*when));
        }
    }
    for ((who, n), (proofs, since)) in told {
        let mut proofs = proofs.into_iter();
        let Some(first) = proofs.next() else { continue };
        let subject = n.map_or_else(|| who.clone(), |n| format!("{who}/{n}"));
        let mut f = Finding::new("gpu.xid", &subject, Severity::Error, Class::Hardware, first);
        for p in proofs.take(7) {
            f.prove(p);
        }
        f.since = since;
        f.pods = view
            .model
            .pods
            .iter()
            .filter(|(k, p)| p.node.as_deref() == Some(&who) || k.name == who)
            .map(|(k, _)| k.name.clone())
            .collect();
        // The same told by a log of that node is not told twice.
        let known = out.iter().any(|o| {
            o.id == "gpu.xid"
                && o.pods.iter().any(|p| f.pods.contains(p))
                && o.title.contains(&format!("Xid {}", n.unwrap_or(0)))
        });
        if known {
            continue;
        }
        f.hosts.clone_from(&f.pods);
        f.ranks = f.pods.iter().flat_map(|p| ranks(view, p)).collect();
        (f.title, f.cause, f.fix) = words(&who, n, Some(&who));
        out.push(f);
    }
}

fn words(place: &str, n: Option<u32>, node: Option<&str>) -> (String, String, Vec<String>) {
    let (means, action) = n.map_or(
        (
            "memory or NVLink had errors that could not be corrected",
            "drain the node and reset or replace the GPU",
        ),
        meaning,
    );
    let title = match n {
        Some(n) => format!("the driver of {place} reported Xid {n}: {means}"),
        None => format!("the driver of {place} reported broken hardware: {means}"),
    };
    let mut fix = vec![action.to_owned()];
    fix.extend(drain(node));
    (
        title,
        "The driver itself says so; what ranks say afterwards follows from it.".into(),
        fix,
    )
}

/// Files of the model, as the container lists them: where no log has said it already.
fn model_files(view: &View<'_>, m: &Member<'_>, out: &mut Vec<Finding>) {
    let pod = &m.pod.name;
    // What serves has loaded: whatever the listing lacks was no obstacle.
    let serves = view
        .scene
        .processes
        .iter()
        .any(|p| p.pod.as_ref() == Some(pod) && p.stage == Some(Stage::Serving));
    if serves {
        return;
    }
    let mut problems = Vec::new();
    let mut since = None;
    if let Some((Answer::Model(files), when)) = answer(view, m, "model-files") {
        // A tokenizer of its own is named on the command line.
        let own = m.settings.get("tokenizer").is_some();
        problems.extend(
            modelfiles::problems(files)
                .into_iter()
                .filter(|p| !(own && p.topic == Topic::Tokenizer)),
        );
        since = when;
    }
    if let Some((Answer::Access(a), when)) = answer(view, m, "model-access") {
        problems.extend(modelfiles::access(a));
        since = since.or(when);
    }
    problems.retain(|p| p.weight == Weight::Broken);
    let target = Target::of(view.model);
    let model = m.model().unwrap_or_else(|| "the model".into());
    for (topic, id, check, cause, fix) in [
        (
            Topic::Incomplete,
            "vllm.model-incomplete",
            "check.model-files",
            "The files of the model don't fit its index, or are cut off: loading will fail, or has failed.",
            "copy the model again into the volume, complete and of one revision".to_owned(),
        ),
        (
            Topic::Tokenizer,
            "vllm.tokenizer-missing",
            "check.model-files",
            "Without a tokenizer beside the weights vLLM tries to load one from the hub, or ends.",
            "copy the tokenizer files of the same revision beside the weights".to_owned(),
        ),
        (
            Topic::Denied,
            "vllm.permission-denied",
            "check.model-access",
            "The container's user may not read the files of the model.",
            target.yaml("securityContext: {fsGroup: <the group of the files>}"),
        ),
    ] {
        let mine: Vec<_> = problems.iter().filter(|p| p.topic == topic).collect();
        let Some(first) = mine.first() else { continue };
        let proof = |text: &str| Evidence::Check(format!("{check} in {pod}: {text}"));
        if let Some(known) = out
            .iter_mut()
            .find(|f| f.id == id && (f.pods.is_empty() || f.pods.contains(pod)))
        {
            known.prove(proof(&first.text));
            continue;
        }
        // One volume under all pods: the first of them tells.
        if out
            .iter()
            .any(|f| f.id == id && f.cause == cause && f.title.ends_with(&first.text))
        {
            continue;
        }
        let mut f = about(
            view,
            id,
            m,
            Severity::Error,
            Class::Configuration,
            proof(&first.text),
        );
        for p in mine.iter().skip(1).take(7) {
            f.prove(proof(&p.text));
        }
        f.since = since;
        f.title = format!("{model} in {pod}: {}", first.text);
        f.cause = cause.into();
        f.fix = vec![
            fix,
            target.kubectl(&format!(
                "exec {} -c {} -- ls -laL {}",
                sh(pod),
                sh(&m.container.name),
                sh(&model)
            )),
        ];
        out.push(f);
    }
}
