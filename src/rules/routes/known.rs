//! What is known of the conditions: from lines, from pod specs, from labels of nodes.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::{Conditions, Release};
use crate::model::Model;
use crate::model::event::{NodeView, PodKey};
use crate::model::speakers::Speaker;
use crate::parse::vllm::{Route, release};
use crate::rules::comms::Unit;
use crate::rules::scene::{Communicator, GroupView, ProcessView, Scene};

/// A member of a group, and what it says.
type Member<'a> = (&'a ProcessView, &'a [&'a Speaker]);

/// Everything that is asked for every group, looked up once.
pub struct Roster<'a> {
    scene: &'a Scene,
    model: &'a Model,
    /// What each process says.
    said: Vec<Vec<&'a Speaker>>,
    /// Processes by global rank.
    by_rank: BTreeMap<u32, Vec<usize>>,
    /// Communicators by key.
    communicators: BTreeMap<&'a str, &'a Communicator>,
    /// What holds for everybody, by whoever says it first.
    version: Option<Release>,
    nnodes: Option<u64>,
    custom_disabled: Option<bool>,
    dtype: Option<&'a str>,
    /// See [`Roster::products`].
    products: OnceCell<Products<'a>>,
}

/// By namespace and pod: the place of its first GPU among all, and that one's compute capability.
type Products<'a> = BTreeMap<(&'a str, &'a str), (usize, (u32, u32))>;

impl<'a> Roster<'a> {
    /// Of everybody who is known.
    pub fn of(scene: &'a Scene, model: &'a Model, units: &[Unit]) -> Self {
        let said = |unit: &Unit| {
            let list = unit.speakers.iter();
            list.filter_map(|s| model.speakers.list.get(*s as usize))
                .collect()
        };
        let mut by_rank: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (i, p) in scene.processes.iter().enumerate().take(units.len()) {
            if let Some(rank) = p.global_rank {
                by_rank.entry(rank).or_default().push(i);
            }
        }
        let comms = scene.communicators.iter();
        let everybody = &model.speakers.list;
        Self {
            scene,
            model,
            said: units.iter().map(said).collect(),
            by_rank,
            communicators: comms.map(|c| (c.key.as_str(), &**c)).collect(),
            version: everybody
                .iter()
                .find_map(|s| release(s.version.as_deref()?)),
            nnodes: nodes_of_engine(model),
            custom_disabled: everybody
                .iter()
                .find_map(|s| s.settings.flag("disable_custom_all_reduce")),
            dtype: everybody.iter().find_map(|s| s.settings.get("dtype")),
            products: OnceCell::new(),
        }
    }

    /// Compute capability of the first GPU that is known in each pod, with its place among all GPUs.
    fn products(&self) -> &Products<'a> {
        self.products.get_or_init(|| {
            let mut out = BTreeMap::new();
            // Nodes have GPUs of one product, mostly: what was just looked up.
            let mut known: Option<(&str, Option<(u32, u32)>)> = None;
            for (i, (_, g)) in self.model.gpus.iter().enumerate() {
                let Some(name) = g.reading.name.as_deref() else {
                    continue;
                };
                let product = match known {
                    Some((same, product)) if same == name => product,
                    _ => by_product(name),
                };
                known = Some((name, product));
                for c in &g.containers {
                    if let Some(product) = product {
                        let pod = (c.pod.namespace.as_str(), c.pod.name.as_str());
                        out.entry(pod).or_insert((i, product));
                    }
                }
            }
            out
        })
    }

    /// Members of a group in the order of their processes; empty where ranks name no process.
    fn members(&self, g: &GroupView) -> Vec<Member<'_>> {
        let ranks = g.global_ranks.iter();
        let mut list: Vec<usize> = ranks
            .filter_map(|r| self.by_rank.get(r))
            .flatten()
            .copied()
            .collect();
        list.sort_unstable();
        list.dedup();
        let one = |i: usize| Some((self.scene.processes.get(i)?, self.said.get(i)?.as_slice()));
        list.into_iter().filter_map(one).collect()
    }

    /// The communicator of a group.
    pub fn communicator(&self, g: &GroupView) -> Option<&'a Communicator> {
        self.communicators.get(g.communicator.as_deref()?).copied()
    }
}

/// What carries the device group's collectives: as the ranks print it, or NCCL because it made a communicator.
pub fn backend(all: &Roster<'_>, g: &GroupView) -> Option<String> {
    carried(&all.members(g), g)
}

fn carried(members: &[Member<'_>], g: &GroupView) -> Option<String> {
    let said = members
        .iter()
        .flat_map(|(_, s)| s.iter())
        .find_map(|s| Some(s.rank_start.as_ref()?.0.backend.clone()));
    // Several back ends are written as one: `cpu:gloo,cuda:nccl`.
    let device = said.map(|b| match b.split_once("cuda:") {
        Some((_, device)) => device.split(',').next().unwrap_or("nccl").to_owned(),
        None => b,
    });
    device.or_else(|| g.communicator.as_ref().map(|_| "nccl".to_owned()))
}

/// Everything that decides the way of a tensor-parallel group's all-reduce.
pub fn conditions(all: &Roster<'_>, g: &GroupView) -> Conditions {
    let (scene, model) = (all.scene, all.model);
    let members = all.members(g);
    let said = || members.iter().flat_map(|(_, s)| s.iter().copied());
    let routes = || said().flat_map(|s| s.routes.iter().map(|(r, _)| r));
    let processes: Vec<&ProcessView> = members.iter().map(|(p, _)| *p).collect();
    Conditions {
        size: g.global_ranks.len(),
        version: said()
            .find_map(|s| release(s.version.as_deref()?))
            .or(all.version),
        backend: carried(&members, g),
        spans_hosts: spans_hosts(&members, g.global_ranks.len(), routes().any(crosses)),
        nnodes: all.nnodes,
        active: routes().find_map(|r| match r {
            // Every process has one tensor-parallel group, and calls it `tp:0`.
            Route::Active { backends, group } if group.starts_with("tp:") => Some(backends.clone()),
            _ => None,
        }),
        custom_disabled: all.custom_disabled,
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
        capability: capability(all, &processes, routes()),
        dtype: all.dtype.map(str::to_owned),
    }
}

/// The log of a speaker has its beginning and no gap: what it does not say was not said.
fn whole(scene: &Scene, s: &Speaker) -> bool {
    let source = scene.sources.get(s.source.0 as usize);
    let stream = source.and_then(|v| scene.sources.get(v.within? as usize));
    let mut all = source.into_iter().chain(stream);
    source.is_some()
        && all.all(|v| v.head_missing != Some(true) && v.dropped_lines == 0 && v.trouble.is_none())
}

fn crosses(r: &Route) -> bool {
    matches!(r, Route::CustomOff { why } if why.contains("spans across nodes"))
        || matches!(r, Route::MultiNodeOff)
}

/// Whether the members are on several hosts. Two pods on one node are two hosts to vLLM.
fn spans_hosts(members: &[Member<'_>], size: usize, said: bool) -> Option<bool> {
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
    all: &Roster<'_>,
    members: &[&ProcessView],
    mut routes: impl Iterator<Item = &'a Route>,
) -> Option<(u32, u32)> {
    let said = routes.find_map(|r| match r {
        Route::SymmMemOff { why } => dotted(why.split_once("capability ")?.1),
        _ => None,
    });
    let node = || members.iter().find_map(|p| p.node.as_ref());
    said.or_else(|| by_labels(all.model.nodes.get(node()?)?))
        .or_else(|| {
            // A GPU that was sampled in the members' containers says its product.
            let pods = members
                .iter()
                .filter_map(|p| Some((p.namespace.as_deref()?, p.pod.as_deref()?)));
            let first = pods.filter_map(|pod| all.products().get(&pod)).min();
            first.map(|(_, product)| *product)
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
