//! What the specs of the pods prove about ranks and addresses before any of them says a word.

use std::collections::BTreeMap;

use super::super::View;
use super::super::fix::Target;
use crate::model::event::{ContainerView, PodKey, PodView};
use crate::model::pods::command;
use crate::parse::vllm::Settings;
use crate::rules::scene::{Class, Evidence, Finding, Severity};

/// The container of a pod that runs vLLM: the first with GPUs, else the first.
fn engine(pod: &PodView) -> Option<&ContainerView> {
    pod.containers
        .iter()
        .find(|c| c.gpus > 0)
        .or_else(|| pod.containers.first())
}

fn literal<'a>(c: &'a ContainerView, name: &str) -> Option<&'a str> {
    c.env
        .iter()
        .rev()
        .find(|(k, _)| k == name)
        .and_then(|(_, v)| v.as_deref())
}

/// `pod/llm-1: spec.containers[vllm].env VLLM_HOST_IP=10.42.3.17`.
fn object(pod: &PodKey, container: &str, what: &str) -> Evidence {
    Evidence::Object(format!(
        "pod/{}: spec.containers[{container}] {what}",
        pod.name
    ))
}

/// Pods that live, with the container that matters.
fn pods<'a>(view: &View<'a>) -> Vec<(&'a PodKey, &'a PodView, &'a ContainerView)> {
    view.model
        .pods
        .iter()
        .filter(|(_, p)| p.deletion.is_none())
        .filter_map(|(key, p)| Some((key, p, engine(p)?)))
        .collect()
}

/// `VLLM_HOST_IP` as a literal that is not the pod's own address.
pub(super) fn host_ip(view: &View<'_>, out: &mut Vec<Finding>) {
    if out.iter().any(|f| f.id == "vllm.wrong-host-ip") {
        return;
    }
    let all = pods(view);
    // One pod reaches itself by whatever name.
    if all.len() < 2 {
        return;
    }
    let wrong: Vec<_> = all
        .iter()
        .filter_map(|(key, pod, c)| {
            let value = literal(c, "VLLM_HOST_IP")?;
            let ip = pod.pod_ip.as_deref()?;
            (value != ip).then_some((*key, *c, value, ip))
        })
        .collect();
    let Some((first, container, value, ip)) = wrong.first() else {
        return;
    };
    let told = |c: &ContainerView, v: &str| {
        object(
            first,
            &c.name,
            &format!("env VLLM_HOST_IP={v}; status.podIP is {ip}"),
        )
    };
    let mut f = Finding::new(
        "vllm.wrong-host-ip",
        &first.name,
        Severity::Error,
        Class::Configuration,
        told(container, value),
    );
    for (key, c, v, ip) in wrong.iter().skip(1).take(7) {
        f.prove(object(
            key,
            &c.name,
            &format!("env VLLM_HOST_IP={v}; status.podIP is {ip}"),
        ));
    }
    f.pods = wrong.iter().map(|(key, ..)| key.name.clone()).collect();
    let owner = all
        .iter()
        .find(|(_, p, _)| p.pod_ip.as_deref() == Some(*value))
        .map_or_else(String::new, |(key, ..)| {
            format!(", which is the address of {}", key.name)
        });
    f.title = format!("{} announces VLLM_HOST_IP={value}{owner}", first.name);
    f.cause = "Every rank meets at this address, and gloo and the message queues use it. A literal in a template gives all pods one address; each must announce its own.".into();
    f.fix = vec![
        Target::of(view.model)
            .yaml("- {name: VLLM_HOST_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}"),
    ];
    out.push(f);
}

/// Flags whose values must differ from pod to pod.
const OWN: [&str; 2] = ["node_rank", "data_parallel_start_rank"];
/// Flags that must be equal in every pod of an engine.
const SAME: [&str; 6] = [
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "nnodes",
    "master_addr",
    "master_port",
];

fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// Node ranks that two pods share, and sizes or addresses that differ between pods.
pub(super) fn rank_config(view: &View<'_>, out: &mut Vec<Finding>) {
    if out.iter().any(|f| f.id == "vllm.rank-config") {
        return;
    }
    let all: Vec<_> = pods(view)
        .into_iter()
        .map(|(key, pod, c)| (key, c, command::settings(pod, c)))
        .collect();
    // What a shell or Kubernetes fills in later is no value yet.
    let value =
        |s: &Settings, name: &str| s.get(name).filter(|v| !v.contains('$')).map(str::to_owned);
    for (name, own) in OWN
        .map(|n| (n, true))
        .into_iter()
        .chain(SAME.map(|n| (n, false)))
    {
        let mut by: BTreeMap<String, Vec<(&PodKey, &ContainerView)>> = BTreeMap::new();
        for (key, c, s) in &all {
            if let Some(v) = value(s, name) {
                by.entry(v).or_default().push((key, c));
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
        let Some((first, c)) = who.first() else {
            continue;
        };
        let mut f = Finding::new(
            "vllm.rank-config",
            &first.name,
            Severity::Error,
            Class::Configuration,
            object(first, &c.name, &format!("args {}={v}", flag(name))),
        );
        let others = by
            .iter()
            .filter(|(x, _)| *x != v)
            .flat_map(|(x, l)| l.iter().take(1).map(move |(key, c)| (*key, *c, x)));
        let more = who.iter().skip(1).take(4).map(|(key, c)| (*key, *c, v));
        for (key, c, v) in more.chain(others.take(2).filter(|_| !own)) {
            f.prove(object(key, &c.name, &format!("args {}={v}", flag(name))));
        }
        f.pods = who.iter().map(|(key, _)| key.name.clone()).collect();
        f.title = if own {
            format!("{} pods have {}={v}", who.len(), flag(name))
        } else {
            format!(
                "{} has {}={v}, other pods have another value",
                first.name,
                flag(name)
            )
        };
        f.cause = "Sizes and the master's address must be equal in every pod of an engine, ranks must differ: as they are, two pods claim the same ranks or wait for ranks that nobody has.".into();
        f.fix = vec![if own {
            Target::of(view.model).arg(&format!("{}=<index of the pod>", flag(name)))
        } else {
            format!("give every pod the same {}", flag(name))
        }];
        out.push(f);
        return;
    }
}
