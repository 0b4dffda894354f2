//! What the specs of the pods prove about ranks and addresses before any of them says a word.

use std::collections::{BTreeMap, BTreeSet};

use super::super::View;
use crate::rules::probes::Member;
use crate::rules::scene::{Class, Evidence, Finding, Severity};
use crate::rules::variables::{FLAGS_DIFFER, FLAGS_EQUAL, flag};

/// `pod/llm-1: spec.containers[vllm].env VLLM_HOST_IP=10.42.3.17`.
fn object(m: &Member<'_>, what: &str) -> Evidence {
    Evidence::Object(format!(
        "pod/{}: spec.containers[{}] {what}",
        m.pod.name, m.container.name
    ))
}

/// `VLLM_HOST_IP` as a literal that is not the pod's own address.
pub(super) fn host_ip(view: &View<'_>, out: &mut Vec<Finding>) {
    if out.iter().any(|f| f.id == "vllm.wrong-host-ip") {
        return;
    }
    let all = &view.members.list;
    // One pod reaches itself by whatever name.
    if all.len() < 2 {
        return;
    }
    let wrong: Vec<_> = all
        .iter()
        .filter_map(|m| {
            let value = m.literal("VLLM_HOST_IP")?;
            let ip = m.pod.pod_ip.as_deref()?;
            (value != ip).then_some((m, value, ip))
        })
        .collect();
    let told = |(m, value, ip): &(&Member<'_>, &str, &str)| {
        object(
            m,
            &format!("env VLLM_HOST_IP={value}; status.podIP is {ip}"),
        )
    };
    let Some(first) = wrong.first() else {
        return;
    };
    let (lead, value, _) = first;
    let mut f = Finding::new(
        "vllm.wrong-host-ip",
        &lead.pod.name,
        Severity::Error,
        Class::Configuration,
        told(first),
    );
    for w in wrong.iter().skip(1).take(7) {
        f.prove(told(w));
    }
    f.pods = wrong.iter().map(|(m, ..)| m.pod.name.clone()).collect();
    let owner = all
        .iter()
        .find(|m| m.pod.pod_ip.as_deref() == Some(*value))
        .map_or_else(String::new, |m| {
            format!(", which is the address of {}", m.pod.name)
        });
    f.title = format!("{} announces VLLM_HOST_IP={value}{owner}", lead.pod.name);
    f.cause = "Every rank meets at this address, and gloo and the message queues use it. A literal in a template gives all pods one address; each must announce its own.".into();
    f.fix = vec![
        view.target
            .yaml("- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"),
    ];
    out.push(f);
}

/// Node ranks that two pods of an engine share, and sizes or addresses that differ between its pods.
pub(super) fn rank_config(view: &View<'_>, out: &mut Vec<Finding>) {
    if out.iter().any(|f| f.id == "vllm.rank-config") {
        return;
    }
    let all = &view.members.list;
    let groups: BTreeSet<_> = all.iter().map(|m| &m.place.group).collect();
    for group in groups {
        let engine: Vec<_> = all.iter().filter(|m| m.place.group == *group).collect();
        if let Some(f) = inconsistent(view, &engine) {
            out.push(f);
            return;
        }
    }
}

/// What is wrong with the command lines of the pods of one engine.
fn inconsistent(view: &View<'_>, engine: &[&Member<'_>]) -> Option<Finding> {
    let flags = FLAGS_DIFFER.iter().map(|n| (*n, true));
    for (name, own) in flags.chain(FLAGS_EQUAL.iter().map(|n| (*n, false))) {
        let mut by: BTreeMap<&str, Vec<&Member<'_>>> = BTreeMap::new();
        for m in engine {
            // What a shell or Kubernetes fills in later is no value yet.
            if let Some(v) = m.command.settings.get(name).filter(|v| !v.contains('$')) {
                by.entry(v).or_default().push(m);
            }
        }
        // Of what must differ, two pods with one value; of what must be equal, the value that fewer have.
        let odd = if own {
            by.iter().find(|(_, pods)| pods.len() > 1)
        } else if by.len() > 1 {
            by.iter().min_by_key(|(_, pods)| pods.len())
        } else {
            None
        };
        let Some((v, who)) = odd else { continue };
        let Some(first) = who.first() else {
            continue;
        };
        let told = |m: &Member<'_>, v: &str| object(m, &format!("args {}={v}", flag(name)));
        let mut f = Finding::new(
            "vllm.rank-config",
            &first.pod.name,
            Severity::Error,
            Class::Configuration,
            told(first, v),
        );
        let others = by
            .iter()
            .filter(|(x, _)| *x != v)
            .flat_map(|(x, l)| l.iter().take(1).map(move |m| (*m, *x)));
        let more = who.iter().skip(1).take(4).map(|m| (*m, *v));
        for (m, v) in more.chain(others.take(2).filter(|_| !own)) {
            f.prove(told(m, v));
        }
        f.pods = who.iter().map(|m| m.pod.name.clone()).collect();
        f.title = if own {
            format!("{} pods have {}={v}", who.len(), flag(name))
        } else {
            format!(
                "{} has {}={v}, other pods have another value",
                first.pod.name,
                flag(name)
            )
        };
        f.cause = "Sizes and the master's address must be equal in every pod of an engine, ranks must differ: as they are, two pods claim the same ranks or wait for ranks that nobody has.".into();
        f.fix = vec![if own {
            view.target
                .arg(&format!("{}=<index of the pod>", flag(name)))
        } else {
            format!("give every pod the same {}", flag(name))
        }];
        return Some(f);
    }
    None
}
