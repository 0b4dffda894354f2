//! GPUs: whose each one is, what it should hold, how fast it fills, and which one differs.
//!
//! A GPU is joined to its rank by bus id and by where it is, never by an index: `CUDA_VISIBLE_DEVICES` and the
//! container's own numbering make every index a different number.

mod expect;

use std::collections::{BTreeMap, BTreeSet};

use super::layout::Sizes;
use super::probes::Members;
use super::scene::{GpuView, GroupView, ProcessView, Scene, Stage, UsageView};
use crate::model::Model;
use crate::model::event::{ContainerKey, Feed};
use crate::model::gpus::Gpu;
use crate::parse::gpu::bus_id;
use crate::parse::{At, Nanos};

use expect::Plan;

const SECOND: Nanos = 1_000_000_000;
/// Over how long a fill rate is taken (vllm.md 8.5: the slope of the last 10–20 s).
const WINDOW: Nanos = 15 * SECOND;
/// Slower than this nothing is being loaded, bytes per second.
const CRAWL: f64 = (1 << 20) as f64;
/// At rest: used memory stands still for so long.
const REST: Nanos = 10 * SECOND;
/// How much a GPU may differ from its group at rest (report contract, `gpu.memory-imbalance`).
const OFF_AT_REST: f64 = 0.05;
/// How much it may differ while the group still loads, of the whole memory.
const OFF_LOADING: f64 = 0.10;
/// A driver's context and the like, which is nobody's, bytes.
const SMALL: u64 = 1 << 30;

/// Fills `scene.gpus` and `scene.usage`.
pub fn fill(scene: &mut Scene, model: &Model, sizes: Option<Sizes>, members: &Members<'_>) {
    let now = scene.now.map_or(0, |a| a.ns);
    let seats = Seats::of(scene, model);
    let furthest = scene.processes.iter().filter_map(|p| p.stage).max();
    let plan = Plan::of(model, sizes, furthest, members);
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    let mut gpus: Vec<GpuView> = Vec::new();
    for (key, gpu) in model.gpus.iter().filter(|(_, g)| ours(g, model)) {
        let mut view = sampled(key, gpu);
        view.ended = !gpu.containers.is_empty()
            && gpu.containers.iter().all(|c| {
                let pod = model.pods.get(&c.pod);
                pod.is_some_and(|pod| pod.has_ended(&c.container))
            });
        view.process = seats.find(scene, gpu, model);
        taken.extend(view.process);
        if let Some(p) = view.process.and_then(|i| scene.processes.get(i as usize)) {
            view.global_rank = p.global_rank;
            view.node = view.node.take().or_else(|| p.node.clone());
            plan.lay(&mut view, gpu, p, now);
        } else if let Some(p) = seats.anyone(scene, gpu) {
            // Which of them sits there no line tells; what all of them should hold is known.
            plan.lay(&mut view, gpu, p, now);
        }
        gpus.push(view);
    }
    // Those that only the log names: whose they are is known, how full they are is not.
    for (process, bus) in &seats.all {
        if taken.contains(process) {
            continue;
        }
        let Some(p) = scene.processes.get(*process as usize) else {
            continue;
        };
        gpus.push(GpuView {
            bus_id: Some(format!("{bus:x}")),
            node: p.node.clone(),
            namespace: p.namespace.clone(),
            pod: p.pod.clone(),
            container: p.container.clone(),
            process: Some(*process),
            global_rank: p.global_rank,
            expected_weights: plan.of_rank(p).map(|(bytes, _)| bytes),
            expected_from: plan.of_rank(p).map(|(_, from)| from),
            ..GpuView::default()
        });
    }
    gpus.sort_by_cached_key(|g| {
        let bus = g.bus_id.as_deref().and_then(bus_id);
        (
            g.global_rank.is_none(),
            g.global_rank,
            g.node.clone(),
            g.pod.clone(),
            bus,
            g.uuid.clone(),
        )
    });
    compare(&mut gpus, &scene.groups, now);
    scene.gpus = gpus;
    scene.usage = model
        .gpus
        .usage()
        .map(|(container, u)| {
            let r = &u.reading;
            UsageView {
                pod: container.map(|c| c.pod.name.clone()),
                working: r.anon.map(|a| a + r.shmem.unwrap_or(0)),
                memory: r.memory,
                cache: r.file,
                limit: r.memory_max,
                cpus: u.cpu.per_second(WINDOW).map(|us| (us / 1e6).max(0.0)),
                read: u.read.per_second(WINDOW).map(|b| b.max(0.0)),
                swap: r.swap,
                host_swap: r
                    .host_swap
                    .zip(r.host_swap_free)
                    .map(|(all, free)| all.saturating_sub(free)),
                host_available: r.host_available,
                oom_kills: r.oom_kills,
                at: stamp(u.at),
            }
        })
        .collect();
}

/// An exporter tells of every GPU of its node: those that other pods hold are none of ours.
fn ours(gpu: &Gpu, model: &Model) -> bool {
    gpu.tool != "dcgm"
        || gpu.containers.is_empty()
        || gpu
            .containers
            .iter()
            .any(|c| model.pods.get(&c.pod).is_some() || model.pods.is_empty())
}

fn stamp(at: Nanos) -> Option<At> {
    (at > 0).then_some(At {
        ns: at,
        exact: true,
    })
}

/// What was measured.
fn sampled(key: &str, gpu: &Gpu) -> GpuView {
    let r = &gpu.reading;
    let first = gpu.containers.first();
    let (throttle, throttled_badly) = r.throttle.map(reasons).unwrap_or_default();
    GpuView {
        key: Some(key.to_owned()),
        uuid: r.uuid.clone(),
        bus_id: r.bus.map(|b| format!("{b:x}")),
        index: r.index,
        name: r.name.clone(),
        driver: r.driver.clone(),
        node: gpu.node.clone(),
        namespace: first.map(|c| c.pod.namespace.clone()),
        pod: first.map(|c| c.pod.name.clone()),
        container: first.map(|c| c.container.clone()).filter(|c| !c.is_empty()),
        shared: if gpu.containers.len() > 1 {
            let pods: BTreeSet<&str> = gpu.containers.iter().map(|c| c.pod.name.as_str()).collect();
            pods.into_iter().map(str::to_owned).collect()
        } else {
            Vec::new()
        },
        total: r.total,
        used: r.used,
        reserved: r.reserved,
        still_since: gpu.still_since,
        busy: r.busy,
        memory_busy: r.memory_busy,
        celsius: r.celsius,
        watts: r.watts,
        watts_limit: r.watts_limit,
        clock: r.clock.map(|c| (c, r.clock_max)),
        throttle,
        throttled_badly,
        ecc_uncorrected: r.ecc_uncorrected,
        ecc_corrected: r.ecc_corrected,
        xids: gpu.xids.clone(),
        mig: r.mig,
        pcie: r.pcie,
        state: r.state.clone(),
        tool: Some(gpu.tool.clone()),
        at: stamp(gpu.at),
        ..GpuView::default()
    }
}

/// NVML's mask of throttle reasons in words, and whether one of them is trouble.
#[must_use]
pub fn reasons(mask: u64) -> (Vec<&'static str>, bool) {
    const REASONS: [(u64, &str, bool); 8] = [
        (0x2, "set clocks", false),
        (0x4, "power cap", false),
        (0x8, "hardware slowdown", true),
        (0x10, "sync boost", false),
        (0x20, "software thermal", true),
        (0x40, "hardware thermal", true),
        (0x80, "power brake", true),
        (0x100, "display clocks", false),
    ];
    let on = REASONS.iter().filter(|(bit, ..)| mask & bit != 0);
    (
        on.clone().map(|(_, word, _)| *word).collect(),
        on.clone().any(|(.., bad)| *bad),
    )
}

/// Which process sits on which GPU, as NCCL's lines say.
struct Seats {
    /// Process and bus id.
    all: BTreeMap<u32, u64>,
    /// By namespace and pod, or by host where no pod is known; the process of the newest life.
    by_place: BTreeMap<(String, u64), u32>,
}

impl Seats {
    fn of(scene: &Scene, model: &Model) -> Self {
        let mut all = BTreeMap::new();
        for m in scene.communicators.iter().flat_map(|c| &c.ranks) {
            if let Some(bus) = m.bus_id.as_deref().and_then(bus_id) {
                all.insert(m.process, bus);
            }
        }
        let mut by_place = BTreeMap::new();
        for (process, bus) in &all {
            let Some(p) = scene.processes.get(*process as usize) else {
                continue;
            };
            for place in places(p, model) {
                // A later life of the same rank is the one that sits there now.
                let seat = by_place.entry((place, *bus)).or_insert(*process);
                let life = |i: u32| {
                    scene
                        .processes
                        .get(i as usize)
                        .map(|p| (p.alive != Some(false), p.incarnation, p.last_at))
                };
                if life(*process) > life(*seat) {
                    *seat = *process;
                }
            }
        }
        Self { all, by_place }
    }

    /// One of the ranks of a GPU's container, where NCCL has seated none of them yet and all share one pipeline stage.
    fn anyone<'a>(&self, scene: &'a Scene, gpu: &Gpu) -> Option<&'a ProcessView> {
        let [only] = gpu.containers.as_slice() else {
            return None;
        };
        let here = |p: &&ProcessView| {
            p.global_rank.is_some()
                && p.pod.as_deref() == Some(only.pod.name.as_str())
                && p.namespace.as_deref() == Some(only.pod.namespace.as_str())
        };
        let mut ranks = (0u32..).zip(&scene.processes).filter(|(_, p)| here(p));
        let first = ranks.next().filter(|(i, _)| !self.all.contains_key(i))?.1;
        ranks
            .all(|(i, p)| p.pp == first.pp && !self.all.contains_key(&i))
            .then_some(first)
    }

    fn find(&self, scene: &Scene, gpu: &Gpu, model: &Model) -> Option<u32> {
        let of_pod = |c: &ContainerKey| format!("{}/{}", c.pod.namespace, c.pod.name);
        if let Some(bus) = gpu.reading.bus {
            let pods = gpu.containers.iter().map(of_pod);
            let node = gpu.node.iter().map(|n| format!("@{n}"));
            for place in pods.chain(node) {
                if let Some(process) = self.by_place.get(&(place, bus)) {
                    return Some(*process);
                }
            }
            if gpu.containers.is_empty() && model.session.feed == Feed::Local {
                // Log files of this node: one process on that bus id is the one.
                let mut on = self.all.iter().filter(|(_, b)| **b == bus);
                if let (Some((process, _)), None) = (on.next(), on.next()) {
                    return Some(*process);
                }
            }
        }
        // NCCL says nothing: one GPU and one rank in a pod leave no choice.
        let [only] = gpu.containers.as_slice() else {
            return None;
        };
        let alone = model
            .gpus
            .iter()
            .filter(|(_, g)| g.containers.contains(only))
            .count()
            == 1;
        let mut ranks = scene.processes.iter().zip(0..).filter(|(p, _)| {
            p.global_rank.is_some()
                && p.alive != Some(false)
                && p.pod.as_deref() == Some(only.pod.name.as_str())
                && p.namespace.as_deref() == Some(only.pod.namespace.as_str())
        });
        match (alone, ranks.next(), ranks.next()) {
            (true, Some((_, process)), None) => Some(process),
            _ => None,
        }
    }
}

/// Under which names a process is looked for: its pod, else its host and node.
fn places(p: &ProcessView, model: &Model) -> Vec<String> {
    let mut out = Vec::new();
    if let (Some(namespace), Some(pod)) = (&p.namespace, &p.pod) {
        out.push(format!("{namespace}/{pod}"));
    }
    if model.session.feed == Feed::Local || p.pod.is_none() {
        out.extend(p.host.iter().map(|h| format!("@{h}")));
    }
    out.extend(p.node.iter().map(|n| format!("@{n}")));
    out
}

/// Marks the GPU that differs from those of its tensor-parallel group; without one, from those of the other
/// data-parallel replicas.
fn compare(gpus: &mut [GpuView], layout: &[GroupView], now: Nanos) {
    let mut group_of: BTreeMap<u32, usize> = BTreeMap::new();
    for kind in ["dp", "tp"] {
        for (i, g) in layout.iter().enumerate().filter(|(_, g)| g.kind == kind) {
            group_of.extend(g.global_ranks.iter().map(|r| (*r, i)));
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, g) in gpus
        .iter()
        .enumerate()
        .filter(|(_, g)| g.used.is_some() && !g.ended)
    {
        if let Some(group) = g.global_rank.and_then(|r| group_of.get(&r)) {
            groups.entry(*group).or_default().push(i);
        }
    }
    for members in groups.into_values().filter(|m| m.len() > 2) {
        let mut used: Vec<u64> = members
            .iter()
            .filter_map(|i| gpus.get(*i).and_then(|g| g.used))
            .collect();
        used.sort_unstable();
        let Some(middle) = used.get(used.len() / 2).copied() else {
            continue;
        };
        let rest = members.iter().all(|i| {
            // Loading pauses now and then; one that stands still for longer has stopped.
            gpus.get(*i).is_some_and(|g| {
                let enough = if g.loading { 3 * REST } else { REST };
                g.still_since.is_some_and(|since| now - since >= enough)
            })
        });
        for i in members {
            let Some(g) = gpus.get_mut(i) else { continue };
            let (Some(used), Some(total)) = (g.used, g.total) else {
                continue;
            };
            let off =
                i64::try_from(used).unwrap_or(i64::MAX) - i64::try_from(middle).unwrap_or(i64::MAX);
            g.off_by = Some(off);
            #[expect(clippy::cast_precision_loss, reason = "a comparison of parts")]
            let most = if rest {
                middle as f64 * OFF_AT_REST
            } else {
                total as f64 * OFF_LOADING
            };
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let gb = off.unsigned_abs() as f64 / 1e9;
            if off.unsigned_abs() > SMALL && gb * 1e9 > most {
                let word = if off < 0 { "less" } else { "more" };
                g.odd = Some(format!("{gb:.1} GB {word} than its group"));
            }
        }
    }
}

/// A rank that loads: by its own word, or, where its version keeps it silent, by that of those who speak: no
/// rank goes on before all have loaded.
fn loads(p: &ProcessView, furthest: Option<Stage>) -> bool {
    let stage = if p.unheard() { furthest } else { p.stage };
    p.alive != Some(false) && matches!(stage, Some(Stage::Weights | Stage::Download))
}

/// Its weights are there: by the same words.
fn loaded(p: &ProcessView, furthest: Option<Stage>) -> bool {
    let stage = if p.unheard() { furthest } else { p.stage };
    p.alive != Some(false) && stage > Some(Stage::Weights)
}
