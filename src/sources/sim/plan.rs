//! Who is where and when: pods, ranks, communicators, and the moments at which phases begin and processes stop.
//!
//! The plan is computed before a line is written. Phases are barriers: a phase begins when every rank has
//! finished the one before, so a process that hangs or ends holds all the others, as it does in life.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::parse::Nanos;

use super::rng::Rng;
use super::scenario::{Fault, Phase, Rdma, SEC, Scenario, Then};
use super::version::Version;

/// PCI bus ids of the GPUs of a node, as NCCL prints them.
const BUS: [u64; 16] = [
    0x1b000, 0x43000, 0x52000, 0x61000, 0x9d000, 0xc3000, 0xd1000, 0xdf000, 0x1c000, 0x44000,
    0x53000, 0x62000, 0x9e000, 0xc4000, 0xd2000, 0xe0000,
];

/// Order of the phases behind their barriers.
pub const PHASES: [Phase; 7] = [
    Phase::Rendezvous,
    Phase::Nccl,
    Phase::Weights,
    Phase::Compile,
    Phase::Profile,
    Phase::Graphs,
    Phase::Serving,
];

/// How a process or container ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When.
    pub at: Nanos,
    /// Exit code.
    pub code: i32,
    /// `Error`, `OOMKilled`, `Completed`.
    pub reason: String,
    /// Killed: no last words.
    pub killed: bool,
    /// How often it is started again.
    pub restarts: u32,
    /// Message of the pod when it is evicted.
    pub evicted: Option<String>,
    /// Somebody else's end brought this one.
    pub echo: bool,
}

/// One pod.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Index in the workload.
    pub index: usize,
    /// Name; NCCL's host as well.
    pub name: String,
    /// Node.
    pub node: String,
    /// Address.
    pub ip: String,
    /// Address of the node.
    pub host_ip: String,
    /// Literal environment.
    pub env: BTreeMap<String, String>,
    /// Its NCCL.
    pub nccl: Version,
    /// Image.
    pub image: String,
    /// What `Using network` names.
    pub network: String,
    /// RDMA devices listed.
    pub rdma: Rdma,
    /// GPUDirect RDMA.
    pub gdr: bool,
    /// Assigned to the node.
    pub scheduled: Option<Nanos>,
    /// What the scheduler says while it is not.
    pub pending: Option<String>,
    /// Image there.
    pub pulled: Option<Nanos>,
    /// What the runtime says when it never is.
    pub pull_error: Option<String>,
    /// Container started.
    pub started: Option<Nanos>,
    /// Container ended.
    pub exit: Option<Exit>,
    /// Log lines before this moment are gone.
    pub rotated: Option<Nanos>,
    /// `NCCL_DEBUG` prints INFO.
    pub debug: bool,
}

/// One rank of the job: a worker process.
#[derive(Debug, Clone)]
pub struct Rank {
    /// Number in torch's world.
    pub global: usize,
    /// Pod index.
    pub pod: usize,
    /// Number in its pod: CUDA ordinal and NVML index.
    pub local: usize,
    /// Data parallel rank.
    pub dp: usize,
    /// Pipeline parallel rank.
    pub pp: usize,
    /// Tensor parallel rank.
    pub tp: usize,
    /// Expert parallel rank.
    pub ep: usize,
    /// Process id in the container.
    pub pid: u64,
    /// PCI bus id.
    pub bus: u64,
    /// It prints nothing of its own after this moment.
    pub stop: Option<Nanos>,
}

/// One member's part in a communicator.
#[derive(Debug, Clone)]
pub struct Member {
    /// Global rank.
    pub global: usize,
    /// `comm 0x…`.
    pub pointer: u64,
    /// Enters `ncclCommInitRank`.
    pub start: Option<Nanos>,
    /// Leaves it.
    pub complete: Option<Nanos>,
}

/// One NCCL communicator.
#[derive(Debug, Clone)]
pub struct Comm {
    /// `tp`, `pp`, `dp`, `ep`, or `logits` for torch's own of the last stage.
    pub kind: &'static str,
    /// Function that makes it.
    pub func: &'static str,
    /// `commId`.
    pub id: u64,
    /// In rank order.
    pub members: Vec<Member>,
    /// Every member came.
    pub whole: bool,
}

/// Everything that is known before the first line is written.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pods are created.
    pub start: Nanos,
    /// Somebody begins to watch.
    pub watch: Nanos,
    /// Last moment.
    pub end: Nanos,
    /// By index.
    pub pods: Vec<Pod>,
    /// By global rank.
    pub ranks: Vec<Rank>,
    /// In order of creation.
    pub comms: Vec<Comm>,
    /// When each phase begins for all; a phase that is never reached is absent.
    pub begin: IndexMap<&'static str, Nanos>,
}

/// Seconds as nanoseconds.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    reason = "scenario files are checked to a day at most"
)]
pub fn secs(s: f64) -> Nanos {
    (s * 1e9) as Nanos
}

/// Key of a phase in [`Plan::begin`].
#[must_use]
pub fn key(phase: Phase) -> &'static str {
    match phase {
        Phase::Config => "config",
        Phase::Rendezvous => "rendezvous",
        Phase::Nccl => "nccl",
        Phase::Weights => "weights",
        Phase::Compile => "compile",
        Phase::Profile => "profile",
        Phase::Graphs => "graphs",
        Phase::Serving => "serving",
    }
}

impl Plan {
    /// Works out the plan of a scenario.
    #[must_use]
    pub fn new(s: &Scenario) -> Self {
        let start = s.origin_ns();
        let mut plan = Self {
            start,
            watch: s.start_ns(),
            end: start + secs(s.lasts),
            pods: pods(s, start),
            ranks: ranks(s),
            comms: Vec::new(),
            begin: IndexMap::new(),
        };
        plan.schedule(s);
        plan
    }

    /// When a phase begins for all ranks, if ever.
    #[must_use]
    pub fn begins(&self, phase: Phase) -> Option<Nanos> {
        self.begin.get(key(phase)).copied()
    }

    /// When a phase begins in one pod.
    #[must_use]
    pub fn begins_in(&self, pod: &Pod, s: &Scenario, phase: Phase) -> Option<Nanos> {
        match phase {
            Phase::Config => pod.started,
            Phase::Rendezvous => pod.started.map(|t| t + secs(s.phases.config)),
            _ => self.begins(phase),
        }
    }

    /// Ranks of a pod.
    pub fn ranks_of(&self, pod: usize) -> impl Iterator<Item = &Rank> {
        self.ranks.iter().filter(move |r| r.pod == pod)
    }

    /// Whether a rank still speaks at a moment.
    #[must_use]
    pub fn speaks(&self, rank: usize, at: Nanos) -> bool {
        self.ranks
            .get(rank)
            .is_some_and(|r| r.stop.is_none_or(|t| at < t))
    }

    fn schedule(&mut self, s: &Scenario) {
        let p = &s.phases;
        let lengths = [
            p.rendezvous,
            p.nccl,
            p.weights,
            p.compile,
            p.profile,
            p.graphs,
            0.0,
        ];
        // The workers meet when the last pod is up; a pod that never comes holds everybody.
        let config = secs(p.config);
        self.stop(s, Phase::Config);
        self.stop(s, Phase::Rendezvous);
        let ready: Option<Vec<Nanos>> = self
            .pods
            .iter()
            .map(|p| p.started.map(|t| t + config))
            .collect();
        let mut at = ready.and_then(|all| all.into_iter().max());
        for (phase, length) in PHASES.into_iter().zip(lengths) {
            let Some(begin) = at else { break };
            // Somebody who has stopped before never comes to this barrier.
            if self
                .ranks
                .iter()
                .any(|r| r.stop.is_some_and(|t| t <= begin))
            {
                break;
            }
            self.begin.insert(key(phase), begin);
            self.stop(s, phase);
            at = if phase == Phase::Nccl {
                self.communicators(s, begin, secs(length))
            } else {
                Some(begin + secs(length))
            };
            if phase == Phase::Profile {
                self.gather(s, begin);
            }
        }
        self.echoes(s);
    }

    /// Applies what the faults of one phase do to processes and containers.
    fn stop(&mut self, s: &Scenario, phase: Phase) {
        for fault in &s.faults {
            match fault {
                Fault::Rank {
                    ranks,
                    phase: at,
                    after,
                    then,
                    ..
                } if *at == phase => {
                    for r in pick(ranks, self.ranks.len()) {
                        let Some(pod) = self.ranks.get(r).map(|r| r.pod) else {
                            continue;
                        };
                        let Some(moment) = self.moment(s, pod, phase, *after) else {
                            continue;
                        };
                        self.end(then, r..r + 1, pod, moment);
                    }
                }
                Fault::Pod {
                    pods,
                    phase: at,
                    after,
                    then,
                    ..
                } if *at == phase => {
                    for pod in pick(pods, self.pods.len()) {
                        let Some(moment) = self.moment(s, pod, phase, *after) else {
                            continue;
                        };
                        let gpus = s.nodes.gpus;
                        self.end(then, pod * gpus..(pod + 1) * gpus, pod, moment);
                    }
                }
                _ => {}
            }
        }
    }

    fn moment(&self, s: &Scenario, pod: usize, phase: Phase, after: f64) -> Option<Nanos> {
        let pod = self.pods.get(pod)?;
        self.begins_in(pod, s, phase).map(|t| t + secs(after))
    }

    fn end(&mut self, then: &Then, ranks: std::ops::Range<usize>, pod: usize, at: Nanos) {
        if matches!(then, Then::GoOn) {
            return;
        }
        for r in ranks {
            if let Some(rank) = self.ranks.get_mut(r) {
                rank.stop = Some(rank.stop.map_or(at, |t| t.min(at)));
            }
        }
        if let Then::Exit {
            code,
            reason,
            killed,
            restarts,
            evicted,
        } = then
            && let Some(pod) = self.pods.get_mut(pod)
            && pod.exit.as_ref().is_none_or(|e| e.at > at)
        {
            // The engine needs a moment to notice that a worker is gone; a killed container does not.
            let at = if *killed { at } else { at + 2 * SEC };
            pod.exit = Some(Exit {
                at,
                code: *code,
                reason: reason.clone().unwrap_or_else(|| "Error".into()),
                killed: *killed,
                restarts: *restarts,
                evicted: evicted.clone(),
                echo: false,
            });
        }
    }

    /// A container that ends takes the others with it some seconds later, with the words of a lost peer.
    fn echoes(&mut self, s: &Scenario) {
        let Some(first) = self
            .pods
            .iter()
            .filter_map(|p| p.exit.as_ref())
            .min_by_key(|e| e.at)
            .cloned()
        else {
            return;
        };
        // Before the rendezvous nobody depends on anybody.
        if self.begins(Phase::Rendezvous).is_none_or(|t| first.at < t) {
            return;
        }
        let gpus = s.nodes.gpus;
        for (i, pod) in self.pods.iter_mut().enumerate() {
            if pod.exit.is_some() || pod.started.is_none() {
                continue;
            }
            let at = first.at + 4 * SEC;
            pod.exit = Some(Exit {
                at: at + 3 * SEC,
                code: 1,
                reason: "Error".into(),
                killed: false,
                restarts: 0,
                evicted: None,
                echo: true,
            });
            for rank in self.ranks.iter_mut().skip(i * gpus).take(gpus) {
                rank.stop = Some(rank.stop.map_or(at, |t| t.min(at)));
            }
        }
        let Some(last) = self
            .pods
            .iter()
            .filter_map(|p| p.exit.as_ref())
            .map(|e| e.at)
            .min()
        else {
            return;
        };
        self.begin.retain(|_, t| *t <= last);
    }

    /// The eager communicators in order of creation; returns when the last rank is through, if all are.
    fn communicators(&mut self, s: &Scenario, begin: Nanos, length: Nanos) -> Option<Nanos> {
        let groups = groups(s, &self.ranks);
        let mut kinds: Vec<&str> = groups.iter().map(|g| g.0).collect();
        kinds.dedup();
        let step = length / Nanos::try_from(kinds.len().max(1)).unwrap_or(1);
        let mut rng = Rng::new(s.seed, 3);
        let mut cursor: Vec<Option<Nanos>> = self
            .ranks
            .iter()
            .map(|_| Some(begin + 20_000_000 + Nanos::try_from(rng.below(60_000_000)).unwrap_or(0)))
            .collect();
        for (kind, members) in groups {
            let mut comm = Comm {
                kind,
                func: "ncclCommInitRank",
                id: rng.bits() | 1 << 63,
                members: Vec::with_capacity(members.len()),
                whole: false,
            };
            for &g in &members {
                let start = cursor
                    .get(g)
                    .copied()
                    .flatten()
                    .filter(|t| self.speaks(g, *t));
                comm.members.push(Member {
                    global: g,
                    pointer: 0x5500_0000_0000 | (rng.bits() & 0xff_ffff_fff0),
                    start,
                    complete: None,
                });
            }
            let all: Option<Vec<Nanos>> = comm.members.iter().map(|m| m.start).collect();
            let through = all.and_then(|all| all.into_iter().max());
            let mixed = members
                .iter()
                .filter_map(|g| self.ranks.get(*g))
                .filter_map(|r| self.pods.get(r.pod))
                .map(|p| p.nccl)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
                > 1;
            comm.whole = through.is_some() && self.reachable(s, &members);
            let through = through.filter(|_| comm.whole);
            for m in &mut comm.members {
                let jitter = Nanos::try_from(rng.below(40_000_000)).unwrap_or(0);
                m.complete = through
                    .filter(|_| !mixed)
                    .map(|t| t + step * 3 / 5 + jitter)
                    .filter(|t| {
                        self.ranks
                            .get(m.global)
                            .is_some_and(|r| r.stop.is_none_or(|s| *t < s))
                    });
                if let Some(c) = cursor.get_mut(m.global) {
                    *c = m.complete.map(|t| t + step / 4);
                }
            }
            // One member that dies inside holds the rest inside.
            if comm.members.iter().any(|m| m.complete.is_none()) {
                for m in &mut comm.members {
                    m.complete = None;
                    if let Some(c) = cursor.get_mut(m.global) {
                        *c = None;
                    }
                }
            }
            self.comms.push(comm);
        }
        let all: Option<Vec<Nanos>> = cursor.into_iter().collect();
        all.and_then(|all| all.into_iter().max())
            .map(|t| t.max(begin + length))
    }

    /// No fault stands between the members of a communicator.
    fn reachable(&self, s: &Scenario, members: &[usize]) -> bool {
        s.faults.iter().all(|fault| {
            let Fault::Unreachable { pods } = fault else {
                return true;
            };
            let mut sides = members
                .iter()
                .filter_map(|g| self.ranks.get(*g))
                .map(|r| pods.contains(&r.pod));
            let first = sides.next();
            sides.all(|side| Some(side) == first)
        })
    }

    /// Torch's own communicator for the logits of the last stage, made at the first forward pass.
    fn gather(&mut self, s: &Scenario, begin: Nanos) {
        if s.layout.tp < 2 {
            return;
        }
        let mut rng = Rng::new(s.seed, 4);
        for dp in 0..s.layout.dp {
            let members: Vec<Member> = self
                .ranks
                .iter()
                .filter(|r| r.dp == dp && r.pp + 1 == s.layout.pp)
                .map(|r| {
                    let start =
                        begin + 600_000_000 + Nanos::try_from(rng.below(30_000_000)).unwrap_or(0);
                    let alive = |t: &Nanos| r.stop.is_none_or(|s| *t < s);
                    Member {
                        global: r.global,
                        pointer: 0x7e00_0000_0000 | (rng.bits() & 0xff_ffff_fff0),
                        start: Some(start).filter(alive),
                        complete: Some(begin + 1_100_000_000).filter(alive),
                    }
                })
                .collect();
            let whole = members.iter().all(|m| m.complete.is_some());
            self.comms.push(Comm {
                kind: "logits",
                func: "ncclCommInitRankConfig",
                id: rng.bits() | 1 << 63,
                members,
                whole,
            });
        }
    }
}

/// Members named by a list, or all of `n`.
pub fn pick(named: &[usize], n: usize) -> Vec<usize> {
    if named.is_empty() {
        (0..n).collect()
    } else {
        named.to_vec()
    }
}

fn pods(s: &Scenario, start: Nanos) -> Vec<Pod> {
    let mut rng = Rng::new(s.seed, 1);
    let w = &s.workload;
    (0..w.pods)
        .map(|i| {
            let jitter = secs(rng.unit() * 0.4);
            let scheduled = start + secs(s.phases.schedule) + jitter;
            let pulled = scheduled + secs(s.phases.pull) + jitter;
            let mut pod = Pod {
                index: i,
                name: match w.kind {
                    super::scenario::Kind::Sts => format!("{}-{i}", w.name),
                    super::scenario::Kind::Lws if i == 0 => format!("{}-0", w.name),
                    super::scenario::Kind::Lws => format!("{}-0-{i}", w.name),
                },
                node: format!("gpu-{:02}", i + 1),
                ip: format!("10.42.{}.{}", i / 200 + 3, i % 200 + 17),
                host_ip: format!("10.10.{}.{}", i / 200, i % 200 + 11),
                env: w.env.clone(),
                nccl: s.versions.nccl,
                image: w
                    .image
                    .clone()
                    .unwrap_or_else(|| format!("vllm/vllm-openai:v{}", s.versions.vllm)),
                network: if s.nodes.rdma == Rdma::None {
                    "Socket".into()
                } else {
                    "IB".into()
                },
                rdma: s.nodes.rdma,
                gdr: s.nodes.gdr,
                scheduled: Some(scheduled),
                pending: None,
                pulled: Some(pulled),
                pull_error: None,
                started: Some(pulled + SEC + jitter),
                exit: None,
                rotated: None,
                debug: true,
            };
            for fault in &s.faults {
                change(&mut pod, s, fault);
            }
            apply_env(&mut pod);
            pod
        })
        .collect()
}

/// What a fault that lasts from the beginning does to a pod.
fn change(pod: &mut Pod, s: &Scenario, fault: &Fault) {
    let hit = |pods: &[usize]| pods.is_empty() || pods.contains(&pod.index);
    match fault {
        Fault::Env { pods, set } if hit(pods) => {
            for (k, v) in set {
                pod.env.insert(k.clone(), v.clone());
            }
        }
        Fault::Versions { pods, nccl, image } if hit(pods) => {
            if let Some(v) = nccl {
                pod.nccl = *v;
            }
            if let Some(image) = image {
                pod.image.clone_from(image);
            }
        }
        Fault::Network {
            pods,
            using,
            listed,
        } if hit(pods) => {
            pod.network.clone_from(using);
            if !listed {
                pod.rdma = Rdma::None;
            }
        }
        Fault::NoGdr { pods } if hit(pods) => pod.gdr = false,
        Fault::Pending { pods, message } if hit(pods) => {
            pod.pending = Some(message.clone());
            pod.scheduled = None;
            pod.pulled = None;
            pod.started = None;
        }
        Fault::ImagePull { pods, message } if hit(pods) => {
            pod.pull_error = Some(message.clone());
            pod.pulled = None;
            pod.started = None;
        }
        Fault::SameNode { pods } if hit(pods) => {
            let first = pods.first().copied().unwrap_or(0);
            pod.node = format!("gpu-{:02}", first + 1);
            pod.host_ip = format!("10.10.{}.{}", first / 200, first % 200 + 11);
        }
        Fault::Rotated { pods, before } if hit(pods) => {
            pod.rotated = Some(s.origin_ns() + secs(*before));
        }
        _ => {}
    }
}

/// What the environment makes of a pod.
fn apply_env(pod: &mut Pod) {
    let set = |name: &str| pod.env.get(name).map(String::as_str);
    let off = |name: &str| set(name).is_some_and(|v| v == "1");
    if off("NCCL_IB_DISABLE") {
        pod.rdma = Rdma::None;
        pod.network = "Socket".into();
    } else if let Some(name) = set("NCCL_NET") {
        pod.network = name.to_owned();
    }
    pod.debug = set("NCCL_DEBUG").is_some_and(|v| v.eq_ignore_ascii_case("INFO"));
}

fn ranks(s: &Scenario) -> Vec<Rank> {
    let mut rng = Rng::new(s.seed, 2);
    let (tp, pp) = (s.layout.tp, s.layout.pp);
    let mut pid = 0;
    (0..s.world())
        .map(|global| {
            let (pod, local) = (global / s.nodes.gpus, global % s.nodes.gpus);
            pid = if local == 0 {
                390 + rng.below(90)
            } else {
                pid + 1 + rng.below(17)
            };
            let (t, d) = (global % tp, global / (tp * pp));
            Rank {
                global,
                pod,
                local,
                dp: d,
                pp: global / tp % pp,
                tp: t,
                ep: d * tp + t,
                pid,
                bus: BUS.get(local).copied().unwrap_or(0xf000),
                stop: None,
            }
        })
        .collect()
}

/// Whether this vLLM gives the expert-parallel group a communicator of its own.
#[must_use]
pub fn has_ep(s: &Scenario) -> bool {
    s.model.moe || s.versions.vllm < Version(0, 14, 0)
}

/// The groups that get a communicator at once, in order of creation: kind and members.
fn groups(s: &Scenario, ranks: &[Rank]) -> Vec<(&'static str, Vec<usize>)> {
    type Of = fn(&Rank) -> (usize, usize);
    let kinds: [(&str, usize, Of, bool); 4] = [
        ("tp", s.layout.tp, |r| (r.dp, r.pp), true),
        ("pp", s.layout.pp, |r| (r.dp, r.tp), true),
        ("dp", s.layout.dp, |r| (r.pp, r.tp), true),
        ("ep", s.layout.dp * s.layout.tp, |r| (r.pp, 0), has_ep(s)),
    ];
    let mut out = Vec::new();
    for (kind, size, of, exists) in kinds {
        if size < 2 || !exists {
            continue;
        }
        let mut sets: IndexMap<(usize, usize), Vec<usize>> = IndexMap::new();
        for r in ranks {
            sets.entry(of(r)).or_default().push(r.global);
        }
        out.extend(sets.into_values().map(|m| (kind, m)));
    }
    out
}
