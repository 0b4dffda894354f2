//! NetworkPolicies evaluated against pods: who may open a connection to whom (`kubernetes.md` 6.3).
//!
//! Answers are three-valued: labels of foreign namespaces and address blocks can't be decided from here.

use std::collections::{BTreeMap, BTreeSet};

use super::probes::{Member, Members};
use crate::parse::probe::Policies;
use crate::parse::probe::policy::{Peer, Policy, PortRange, Rule, Selector};

/// A pair that may not talk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The pod that opens the connection.
    pub from: String,
    /// The pod that it opens it to.
    pub to: String,
    /// Which policies select them and allow nothing of it.
    pub why: String,
    /// Names of these policies.
    pub policies: Vec<String>,
    /// Nothing about it is in doubt.
    pub certain: bool,
    /// Some ports are open: a connection that comes about proves nothing.
    pub partly: bool,
}

/// What the policies do to a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Pairs that may not talk on every port.
    pub blocked: Vec<Blocked>,
    /// Policies that select one of the pods.
    pub selecting: BTreeSet<String>,
}

/// True, false, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tri {
    No,
    Maybe,
    Yes,
}

impl Tri {
    fn of(b: bool) -> Self {
        if b { Self::Yes } else { Self::No }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Evaluates all pairs of a workload's pods of one group.
#[must_use]
pub fn judge(members: &Members<'_>, policies: &Policies) -> Judged {
    let mut out = Judged::default();
    for p in &policies.items {
        if members.list.iter().any(|m| selects(p, m)) {
            out.selecting.insert(p.metadata.name.clone());
        }
    }
    if out.selecting.is_empty() {
        return out;
    }
    // Labels that no policy asks about make no difference: pods of a set differ in their index alone.
    let asked: BTreeSet<&str> = policies.items.iter().flat_map(|p| keys(p)).collect();
    let class = |m: &Member<'_>| {
        let labels: Vec<(String, String)> = m
            .pod
            .labels
            .iter()
            .filter(|(k, _)| asked.contains(k.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        (
            m.pod.namespace.clone(),
            m.pod.host_network,
            labels,
            m.place.group.number,
        )
    };
    let mut classes: BTreeMap<_, Vec<&Member<'_>>> = BTreeMap::new();
    for m in &members.list {
        classes.entry(class(m)).or_default().push(m);
    }
    let groups: Vec<_> = classes.values().collect();
    for (i, from) in groups.iter().enumerate() {
        for (j, to) in groups.iter().enumerate() {
            let (Some(a), Some(b)) = (from.first(), if i == j { to.get(1) } else { to.first() })
            else {
                continue;
            };
            if a.place.group != b.place.group {
                continue;
            }
            if let Some(blocked) = pair(a, b, policies) {
                out.blocked.push(blocked);
            }
        }
    }
    out
}

/// Label keys that a policy asks about.
fn keys(p: &Policy) -> impl Iterator<Item = &str> {
    let rules = p.spec.ingress.iter().chain(&p.spec.egress).flatten();
    let peers = rules.flat_map(|r| r.from.iter().chain(&r.to));
    std::iter::once(&p.spec.pod_selector)
        .chain(peers.filter_map(|p| p.pod_selector.as_ref()))
        .flat_map(|s| {
            let labels = s.match_labels.keys().map(String::as_str);
            labels.chain(s.match_expressions.iter().map(|e| e.key.as_str()))
        })
}

fn pair(from: &Member<'_>, to: &Member<'_>, policies: &Policies) -> Option<Blocked> {
    // Traffic of pods in the host's network is traffic of the node: usually not isolated.
    if from.pod.host_network || to.pod.host_network {
        return None;
    }
    let (out, by_out) = allowed(Way::Out, from, to, policies);
    let (inn, by_in) = allowed(Way::In, to, from, policies);
    let worst = out.min(inn);
    if worst == Tri::Yes {
        return None;
    }
    let mut why = Vec::new();
    let mut names = Vec::new();
    for (answer, list, side) in [
        (out, by_out, format!("egress of {}", from.pod.name)),
        (inn, by_in, format!("ingress of {}", to.pod.name)),
    ] {
        if answer != Tri::Yes {
            let doubt = if answer == Tri::Maybe {
                " (as far as it can be told)"
            } else {
                ""
            };
            why.push(format!(
                "{} allows not all ports in the {side}{doubt}",
                list.join(", ")
            ));
            names.extend(list);
        }
    }
    Some(Blocked {
        from: from.pod.name.clone(),
        to: to.pod.name.clone(),
        why: why.join("; "),
        policies: names,
        certain: worst == Tri::No,
        partly: partly(Way::Out, from, to, policies) && partly(Way::In, to, from, policies),
    })
}

/// Whether the policies of `pod` let it talk with `peer` in one direction, on every TCP port; and which select it.
fn allowed(
    way: Way,
    pod: &Member<'_>,
    peer: &Member<'_>,
    policies: &Policies,
) -> (Tri, Vec<String>) {
    let mut best = Tri::No;
    let mut by = Vec::new();
    for p in policies
        .items
        .iter()
        .filter(|p| selects(p, pod) && isolates(p, way))
    {
        by.push(p.metadata.name.clone());
        let rules = match way {
            Way::In => &p.spec.ingress,
            Way::Out => &p.spec.egress,
        };
        for rule in rules.iter().flatten() {
            best = best.max(lets(rule, way, p, pod, peer));
        }
    }
    if by.is_empty() {
        (Tri::Yes, by)
    } else {
        (best, by)
    }
}

/// Some port is open in one direction.
fn partly(way: Way, pod: &Member<'_>, peer: &Member<'_>, policies: &Policies) -> bool {
    let mut by = policies
        .items
        .iter()
        .filter(|p| selects(p, pod) && isolates(p, way))
        .peekable();
    by.peek().is_none()
        || by.any(|p| {
            let (rules, peers): (_, fn(&Rule) -> &Vec<Peer>) = match way {
                Way::In => (&p.spec.ingress, |r| &r.from),
                Way::Out => (&p.spec.egress, |r| &r.to),
            };
            rules.iter().flatten().any(|r| {
                let list = peers(r);
                list.is_empty() || list.iter().any(|x| is(x, p, pod, peer) != Tri::No)
            })
        })
}

fn selects(p: &Policy, m: &Member<'_>) -> bool {
    let same = p
        .metadata
        .namespace
        .as_ref()
        .is_none_or(|n| *n == m.pod.namespace);
    same && matches(&p.spec.pod_selector, &m.pod.labels) == Tri::Yes
}

fn isolates(p: &Policy, way: Way) -> bool {
    match (&p.spec.policy_types, way) {
        (Some(types), Way::In) => types.iter().any(|t| t == "Ingress"),
        (Some(types), Way::Out) => types.iter().any(|t| t == "Egress"),
        (None, Way::In) => true,
        (None, Way::Out) => p.spec.egress.is_some(),
    }
}

/// What one rule lets through: the peer, and all ports.
fn lets(rule: &Rule, way: Way, p: &Policy, pod: &Member<'_>, peer: &Member<'_>) -> Tri {
    let peers = match way {
        Way::In => &rule.from,
        Way::Out => &rule.to,
    };
    let who = if peers.is_empty() {
        Tri::Yes
    } else {
        peers
            .iter()
            .map(|x| is(x, p, pod, peer))
            .max()
            .unwrap_or(Tri::No)
    };
    who.min(Tri::of(every_port(&rule.ports)))
}

/// NCCL and gloo meet on ephemeral ports: a rule that opens some ports opens not enough.
fn every_port(ports: &[PortRange]) -> bool {
    use crate::parse::probe::policy::NumberOrName::Number;
    ports.is_empty()
        || ports.iter().any(|r| {
            let tcp = r.protocol.as_deref().is_none_or(|p| p == "TCP");
            // The usual range of ephemeral ports begins at 32768; the ranks meet below.
            let wide = match (&r.port, r.end_port) {
                (None, _) => true,
                (Some(Number(from)), Some(to)) => *from <= 29_000 && to >= 60_999,
                _ => false,
            };
            tcp && wide
        })
}

/// Whether a peer of a rule is this pod.
fn is(x: &Peer, p: &Policy, pod: &Member<'_>, peer: &Member<'_>) -> Tri {
    if let Some(block) = &x.ip_block {
        // Meant for what is outside; whether it holds for addresses of pods is the network's own matter.
        return match block.cidr.as_str() {
            "0.0.0.0/0" | "::/0" if block.except.is_empty() => Tri::Yes,
            _ => Tri::Maybe,
        };
    }
    let namespace = match &x.namespace_selector {
        None => {
            let own = p.metadata.namespace.as_ref().unwrap_or(&pod.pod.namespace);
            Tri::of(*own == peer.pod.namespace)
        }
        Some(s) => {
            let known = BTreeMap::from([(
                "kubernetes.io/metadata.name".to_owned(),
                peer.pod.namespace.clone(),
            )]);
            namespace_matches(s, &known)
        }
    };
    let labels = match &x.pod_selector {
        None => Tri::Yes,
        Some(s) => matches(s, &peer.pod.labels),
    };
    namespace.min(labels)
}

/// Of a namespace only the label that every one has is known: other labels leave it open.
fn namespace_matches(s: &Selector, known: &BTreeMap<String, String>) -> Tri {
    let name = "kubernetes.io/metadata.name";
    let open = s.match_labels.keys().any(|k| k != name)
        || s.match_expressions.iter().any(|e| e.key != name);
    let mut mine = s.clone();
    mine.match_labels.retain(|k, _| k == name);
    mine.match_expressions.retain(|e| e.key == name);
    match matches(&mine, known) {
        Tri::Yes if open => Tri::Maybe,
        answer => answer,
    }
}

fn matches(s: &Selector, labels: &BTreeMap<String, String>) -> Tri {
    let equal = s.match_labels.iter().all(|(k, v)| labels.get(k) == Some(v));
    let mut all = Tri::of(equal);
    for e in &s.match_expressions {
        let value = labels.get(&e.key);
        all = all.min(match e.operator.as_str() {
            "In" => Tri::of(value.is_some_and(|v| e.values.contains(v))),
            "NotIn" => Tri::of(value.is_none_or(|v| !e.values.contains(v))),
            "Exists" => Tri::of(value.is_some()),
            "DoesNotExist" => Tri::of(value.is_none()),
            _ => Tri::Maybe,
        });
    }
    all
}

/// The policy that lets nothing out of the cluster: it isolates egress, and no rule names what is outside.
#[must_use]
pub fn closed(members: &Members<'_>, policies: &Policies) -> Option<String> {
    let m = members.list.first()?;
    let mut by = policies
        .items
        .iter()
        .filter(|p| selects(p, m) && isolates(p, Way::Out))
        .peekable();
    let first = by.peek()?.metadata.name.clone();
    let out = |r: &Rule| r.to.is_empty() || r.to.iter().any(|p| p.ip_block.is_some());
    let open = by.any(|p| p.spec.egress.iter().flatten().any(out));
    (!open).then_some(first)
}
