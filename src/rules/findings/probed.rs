//! What probes, objects and samples prove: environment, policies, GPUs, the model's files.

mod files;
mod memory;
mod policy;
mod xid;

use std::collections::BTreeSet;

use super::View;
use super::fix::{Target, sh};
use super::trouble::Notice;
use crate::parse::probe::Answer;
use crate::parse::{At, Nanos};
use crate::rules::devices;
use crate::rules::probes::Member;
use crate::rules::scene::{Class, Evidence, Finding, GpuView, Severity};
use crate::rules::variables::{self, Over};

/// Every rule of this room.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    xid::xid(view, notices, out);
    memory::imbalance(view, out);
    if view.model.pods.is_empty() {
        return;
    }
    env_skew(view, out);
    policy::network_policy(view, view.members, out);
    let taken = memory::taken(view);
    for m in &view.members.list {
        gpus(view, m, out);
        memory::foreign(view, m, &taken, out);
        files::model_files(view, m, out);
    }
}

/// What the newest answer of a probe in this container says, and when it came. An earlier life's says nothing.
fn answer<'a>(view: &View<'a>, m: &Member<'_>, probe: &str) -> Option<(&'a Answer, Option<At>)> {
    let since = m.running()?;
    let probed = view.model.probes.at(probe, Some(&m.key))?;
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
        let target = &view.target;
        f.fix = align(target, name, &sides);
        f.fix.push(target.pods());
        out.push(f);
    }
}

/// How to make a variable equal everywhere; `sides` with the value of most pods last. A value that somebody meant
/// is set in all of them; a switch that is a mistake wherever it stands goes.
fn align(target: &Target, name: &str, sides: &[(Option<&String>, &Vec<String>)]) -> Vec<String> {
    let unset = sides.iter().any(|(value, _)| value.is_none());
    let Some(value) = sides.iter().rev().find_map(|(value, _)| *value) else {
        return Vec::new();
    };
    let unwanted = name.ends_with("_DISABLE") || variables::mistake(name, value).is_some();
    match (unset, unwanted) {
        (true, true) => vec![target.env(name, None)],
        (true, false) => vec![
            target.env(name, Some(value)) + "   # either this, the same value in every pod,",
            target.env(name, None) + "   # or this, in no pod",
        ],
        (false, _) => vec![target.env(name, Some(value))],
    }
}

/// `a, b and 5 more`.
fn some(names: &[String]) -> String {
    crate::rules::checks::some(names)
}

/// GPUs that are not as many as asked for.
fn gpus(view: &View<'_>, m: &Member<'_>, out: &mut Vec<Finding>) {
    let Some((Answer::Gpus(g), since)) = answer(view, m, "gpus") else {
        return;
    };
    let target = &view.target;
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

fn name(g: &GpuView) -> String {
    g.uuid
        .clone()
        .or_else(|| g.bus_id.clone())
        .unwrap_or_else(|| "a GPU".into())
}
