//! Which ranks a pod holds by what it is told, before any of them says a word (`reference/vllm.md` 4.1 and 4.2);
//! where Ray deals them out, by what they say.

use std::collections::{BTreeMap, BTreeSet};

use super::Sizes;
use super::told::{Pod, Told};
use crate::model::pods::place;
use crate::parse::vllm::Ray;
use crate::rules::scene::{ProcessView, Scene};

/// Ranks of a world that are put on seats at most.
const MOST: u32 = 1 << 16;

/// A pod and the ranks that belong into it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seat {
    /// Pod.
    pub pod: String,
    /// Node.
    pub node: Option<String>,
    /// GPUs that it asks for.
    pub gpus: u32,
    /// Global ranks, in the order of their GPUs; empty where that is not decided yet.
    pub ranks: Vec<u32>,
    /// Why there are none.
    pub open: Option<String>,
    /// What it is told for itself.
    pub told: Vec<Told>,
}

/// A value as a number.
fn number(told: &[Told], name: &str) -> Option<u32> {
    told.iter().find(|t| t.name == name)?.value.parse().ok()
}

/// Where ranks turned out to run: by pod, and whether Ray started any of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Spoken {
    by_pod: BTreeMap<(String, String), BTreeSet<u32>>,
    by_ray: bool,
}

impl Spoken {
    /// What the processes have said.
    pub(super) fn of(scene: &Scene) -> Self {
        let mut out = Self::default();
        // Those that have died count where nobody lives.
        for dead in [false, true] {
            let mut here: BTreeMap<(String, String), BTreeSet<u32>> = BTreeMap::new();
            let mine = |p: &&ProcessView| (p.alive == Some(false)) == dead;
            for p in scene.processes.iter().filter(mine) {
                let label = p.vllm_label.as_deref();
                out.by_ray |= label.is_some_and(|l| l.starts_with("RayWorker"));
                if let (Some(namespace), Some(pod), Some(rank)) =
                    (&p.namespace, &p.pod, p.global_rank)
                {
                    let key = (namespace.clone(), pod.clone());
                    if !out.by_pod.contains_key(&key) {
                        here.entry(key).or_default().insert(rank);
                    }
                }
            }
            out.by_pod.extend(here);
        }
        out
    }

    fn ranks(&self, p: &Pod<'_>) -> Vec<u32> {
        let key = (p.member.pod.namespace.clone(), p.member.pod.name.clone());
        let ranks = self.by_pod.get(&key);
        ranks.into_iter().flatten().copied().collect()
    }
}

/// The pods of an engine on their seats.
pub(super) fn of(
    pods: &[Pod<'_>],
    values: &[Told],
    mine: Vec<Vec<Told>>,
    sizes: Result<Sizes, &str>,
    spoken: &Spoken,
) -> Vec<Seat> {
    pods.iter()
        .zip(mine)
        .map(|(p, told)| {
            let (ranks, open) = match sizes {
                Ok(sizes) if by_ray(pods, values, spoken) => {
                    let world: usize = pods.iter().map(|p| spoken.ranks(p).len()).sum();
                    dealt(p, spoken.ranks(p), world >= sizes.world() as usize)
                }
                Ok(sizes) => match held(p, pods, values, &told, sizes) {
                    Ok(ranks) => (ranks, None),
                    Err(why) => (Vec::new(), Some(why)),
                },
                Err(why) => (Vec::new(), Some(why.to_owned())),
            };
            Seat {
                pod: p.member.pod.name.clone(),
                node: p.member.pod.node.clone(),
                gpus: p.member.container.gpus,
                ranks,
                open,
                told,
            }
        })
        .collect()
}

/// Whether Ray deals the ranks out to several pods.
fn by_ray(pods: &[Pod<'_>], values: &[Told], spoken: &Spoken) -> bool {
    let executor = |t: &Told| t.name == "executor" && t.value == "ray";
    let part =
        |p: &Pod<'_>| p.command.ray.is_some() || p.member.pod.labels.contains_key(place::RAY);
    pods.len() > 1 && (spoken.by_ray || values.iter().any(executor) || pods.iter().any(part))
}

/// The ranks that Ray gave to a pod, once they have said so: nobody can tell before (`reference/vllm.md` 4.2).
fn dealt(p: &Pod<'_>, ranks: Vec<u32>, all: bool) -> (Vec<u32>, Option<String>) {
    let gpus = p.member.container.gpus as usize;
    let part = match &p.command.ray {
        Some(Ray::Head { .. }) => "head of the Ray cluster: ",
        Some(Ray::Worker { .. }) => "joins the Ray cluster: ",
        None => "",
    };
    let open = match ranks.len() {
        0 if all => format!("{part}no rank runs here"),
        0 => format!("{part}Ray numbers the ranks when they start"),
        n if all || n >= gpus => return (ranks, None),
        n => format!("{part}{n} of {gpus} have said their rank so far"),
    };
    (ranks, Some(open))
}

/// Ranks of one pod, or why that can't be told.
fn held(
    p: &Pod<'_>,
    pods: &[Pod<'_>],
    values: &[Told],
    told: &[Told],
    sizes: Sizes,
) -> Result<Vec<u32>, String> {
    let world = sizes.world();
    if world > MOST {
        return Err(format!("a world of {world} ranks"));
    }
    let range = |from: u32, n: u32| -> Result<Vec<u32>, String> {
        let to = from.checked_add(n).filter(|to| *to <= world && n > 0);
        let to = to.ok_or_else(|| {
            format!("ranks {from} and {n} on are outside a world of {world}: sizes don't fit")
        })?;
        Ok((from..to).collect())
    };
    let several = pods.len() > 1;
    // Whoever launches the processes says it for each pod.
    if let (Some(_), Some(per), Some(node)) = (
        &p.command.torchrun,
        number(told, "ranks per node"),
        number(told, "node rank"),
    ) {
        return range(node.saturating_mul(per), per);
    }
    let one = sizes.tp.saturating_mul(sizes.pp).saturating_mul(sizes.pcp);
    let total = number(values, "DP").unwrap_or(1).max(1);
    let nodes = values
        .iter()
        .find(|t| t.name == "nodes" && t.voice < super::told::Voice::Env)
        .and_then(|t| t.value.parse().ok())
        .unwrap_or(1u32);
    if nodes > 1 {
        let node = number(told, "node rank").ok_or("its node rank is not known")?;
        if node >= nodes || !world.is_multiple_of(nodes) {
            return Err(format!(
                "node {node} of {nodes} in a world of {world}: sizes don't fit"
            ));
        }
        return range(node * (world / nodes), world / nodes);
    }
    if total > 1 && several {
        if sizes.dp == 1 {
            return Err("every data-parallel rank is a world of its own, numbered from 0".into());
        }
        let local = number(told, "DP local");
        let headless = p.command.settings.flag("headless") == Some(true);
        let start = number(told, "DP start").or_else(|| number(told, "DP rank"));
        let alone = number(told, "DP rank").is_some() && local.is_none();
        let start = start.or_else(|| (!headless).then_some(0));
        let start = start.ok_or("its first data-parallel rank is not known")?;
        let many = u32::try_from(pods.len()).unwrap_or(1);
        let local = match (alone, local) {
            (true, _) => 1,
            (_, Some(n)) => n,
            (_, None) if total.is_multiple_of(many) => total / many,
            _ => return Err("how many data-parallel ranks it holds is not known".into()),
        };
        return range(start.saturating_mul(one), local.saturating_mul(one));
    }
    if !several {
        return range(0, world);
    }
    if let Some(rank) = number(told, "rank") {
        return range(rank, 1);
    }
    Err("nothing says which ranks it holds".into())
}
