//! What is known of the conditions: from lines, from pod specs, from labels of nodes.

use super::Conditions;
use crate::model::Model;
use crate::model::event::{NodeView, PodKey};
use crate::model::speakers::Speaker;
use crate::parse::vllm::{Route, release};
use crate::rules::comms::Unit;
use crate::rules::scene::{GroupView, ProcessView, Scene};

/// Members of a group with what they say; empty where ranks name no process.
fn members<'a>(
    scene: &'a Scene,
    model: &'a Model,
    units: &'a [Unit],
    g: &'a GroupView,
) -> Vec<(&'a ProcessView, Vec<&'a Speaker>)> {
    scene
        .processes
        .iter()
        .zip(units)
        .filter(|(p, _)| p.global_rank.is_some_and(|r| g.global_ranks.contains(&r)))
        .map(|(p, unit)| {
            let list = unit.speakers.iter();
            let said = list.filter_map(|s| model.speakers.list.get(*s as usize));
            (p, said.collect())
        })
        .collect()
}

/// What carries the device group's collectives: as the ranks print it, or NCCL because it made a communicator.
pub fn backend(scene: &Scene, model: &Model, units: &[Unit], g: &GroupView) -> Option<String> {
    let said = members(scene, model, units, g)
        .into_iter()
        .flat_map(|(_, s)| s)
        .find_map(|s| Some(s.rank_start.as_ref()?.0.backend.clone()));
    // Several back ends are written as one: `cpu:gloo,cuda:nccl`.
    let device = said.map(|b| match b.split_once("cuda:") {
        Some((_, device)) => device.split(',').next().unwrap_or("nccl").to_owned(),
        None => b,
    });
    device.or_else(|| g.communicator.as_ref().map(|_| "nccl".to_owned()))
}

/// Everything that decides the way of a tensor-parallel group's all-reduce.
pub fn conditions(scene: &Scene, model: &Model, units: &[Unit], g: &GroupView) -> Conditions {
    let members = members(scene, model, units, g);
    let said = || members.iter().flat_map(|(_, s)| s.iter().copied());
    let routes = || said().flat_map(|s| s.routes.iter().map(|(r, _)| r));
    let everybody = &model.speakers.list;
    let setting = |name: &str| everybody.iter().find_map(|s| s.settings.get(name));
    let processes: Vec<&ProcessView> = members.iter().map(|(p, _)| *p).collect();
    Conditions {
        size: g.global_ranks.len(),
        version: said()
            .chain(everybody)
            .find_map(|s| release(s.version.as_deref()?)),
        backend: backend(scene, model, units, g),
        spans_hosts: spans_hosts(&members, g.global_ranks.len(), routes().any(crosses)),
        nnodes: nodes_of_engine(model),
        active: routes().find_map(|r| match r {
            // Every process has one tensor-parallel group, and calls it `tp:0`.
            Route::Active { backends, group } if group.starts_with("tp:") => Some(backends.clone()),
            _ => None,
        }),
        custom_disabled: everybody
            .iter()
            .find_map(|s| s.settings.flag("disable_custom_all_reduce")),
        custom_off: routes().find_map(|r| match r {
            Route::CustomOff { why } => Some(why.clone()),
            Route::MultiNodeOff => {
                Some("because this multi-node group does not support MNNVL multicast".to_owned())
            }
            _ => None,
        }),
        symm_off: routes().find_map(|r| match r {
            Route::SymmMemOff { why } => Some(why.clone()),
            _ => None,
        }),
        would_have_said: said().any(|s| s.ranks.is_some() && whole(scene, s)),
        symm_env: env(model, &processes, "VLLM_ALLREDUCE_USE_SYMM_MEM"),
        capability: capability(model, &processes, routes()),
        dtype: setting("dtype").map(str::to_owned),
    }
}

/// The log of a speaker has its beginning and no gap: what it does not say was not said.
fn whole(scene: &Scene, s: &Speaker) -> bool {
    scene.sources.get(s.source.0 as usize).is_some_and(|v| {
        v.head_missing != Some(true) && v.dropped_lines == 0 && v.trouble.is_none()
    })
}

fn crosses(r: &Route) -> bool {
    matches!(r, Route::CustomOff { why } if why.contains("spans across nodes"))
        || matches!(r, Route::MultiNodeOff)
}

/// Whether the members are on several hosts. Two pods on one node are two hosts to vLLM.
fn spans_hosts(members: &[(&ProcessView, Vec<&Speaker>)], size: usize, said: bool) -> Option<bool> {
    // A Ray head prints for ranks of other nodes, with their address in front.
    let mut places: Vec<String> = members
        .iter()
        .filter_map(|(p, s)| {
            let ip = s.iter().find_map(|s| s.ip.clone());
            ip.or_else(|| (p.pod.is_some() || p.host.is_some()).then(|| p.place()))
        })
        .collect();
    let known = places.len();
    places.sort();
    places.dedup();
    if said || places.len() > 1 {
        Some(true)
    } else if known == size {
        Some(false)
    } else {
        None
    }
}

/// Nodes of one engine: from its arguments, from its head's line, from pods that join a head.
fn nodes_of_engine(model: &Model) -> Option<u64> {
    let list = &model.speakers.list;
    let told = list.iter().find_map(|s| s.settings.num("nnodes"));
    let counted = list.iter().find_map(|s| {
        let (l, _) = s.leader.as_ref()?;
        (l.local_world > 0).then(|| u64::from(l.world / l.local_world))
    });
    let joins = list.iter().any(|s| s.head.is_some()).then_some(2);
    told.or(counted).or(joins)
}

/// The value of a variable in the members' containers; empty where it is not set and its default holds; `None`
/// where neither a line nor a pod's spec says.
fn env(model: &Model, members: &[&ProcessView], name: &str) -> Option<String> {
    if let Some(v) = members
        .iter()
        .flat_map(|p| &p.env)
        .find(|(k, _)| k == name)
        .map(|(_, v)| v.clone())
    {
        return Some(v);
    }
    let first = members.first()?;
    let (pod, container) = (first.pod.as_ref()?, first.container.as_ref()?);
    let pod = model.pods.get(&PodKey {
        namespace: first.namespace.clone()?,
        name: pod.clone(),
    })?;
    let spec = pod.containers.iter().find(|c| c.name == *container)?;
    match spec.env.iter().find(|(k, _)| k == name) {
        Some((_, value)) => value.clone(),
        None => Some(String::new()),
    }
}

/// Compute capability: as vLLM says it, else from the labels that GPU feature discovery gives the members' node.
fn capability<'a>(
    model: &Model,
    members: &[&ProcessView],
    mut routes: impl Iterator<Item = &'a Route>,
) -> Option<(u32, u32)> {
    let said = routes.find_map(|r| match r {
        Route::SymmMemOff { why } => dotted(why.split_once("capability ")?.1),
        _ => None,
    });
    let node = || members.iter().find_map(|p| p.node.as_ref());
    said.or_else(|| by_labels(model.nodes.get(node()?)?))
        .or_else(|| {
            // A GPU that was sampled in the members' containers says its product.
            model.gpus.iter().find_map(|(_, g)| {
                let here = g.containers.iter().any(|c| {
                    members.iter().any(|p| {
                        p.pod.as_ref() == Some(&c.pod.name)
                            && p.namespace.as_ref() == Some(&c.pod.namespace)
                    })
                });
                by_product(g.reading.name.as_deref().filter(|_| here)?)
            })
        })
}

/// Compute capability of a product, by the names that NVIDIA gives them.
fn by_product(name: &str) -> Option<(u32, u32)> {
    const KNOWN: [(&str, (u32, u32)); 20] = [
        ("GH200", (9, 0)),
        ("H100", (9, 0)),
        ("H200", (9, 0)),
        ("H800", (9, 0)),
        ("H20", (9, 0)),
        ("GB300", (10, 3)),
        ("B300", (10, 3)),
        ("GB200", (10, 0)),
        ("B200", (10, 0)),
        ("B100", (10, 0)),
        ("A100", (8, 0)),
        ("A800", (8, 0)),
        ("A30", (8, 0)),
        ("A10G", (8, 6)),
        ("A10", (8, 6)),
        ("A40", (8, 6)),
        ("L40S", (8, 9)),
        ("L40", (8, 9)),
        ("L20", (8, 9)),
        ("L4", (8, 9)),
    ];
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|w| KNOWN.iter().find(|(n, _)| *n == w).map(|(_, c)| *c))
}

fn dotted(text: &str) -> Option<(u32, u32)> {
    let word = text.split(' ').next()?;
    let (major, minor) = word.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn by_labels(node: &NodeView) -> Option<(u32, u32)> {
    let number = |part: &str| {
        let label = node.labels.get(&format!("nvidia.com/gpu.compute.{part}"))?;
        label.parse().ok()
    };
    let told = || Some((number("major")?, number("minor")?));
    told().or_else(|| by_product(node.labels.get("nvidia.com/gpu.product")?))
}
