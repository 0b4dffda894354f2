//! Who is where and when: pods, ranks, communicators, and the moments at which phases begin and processes stop.
//!
//! The plan is computed before a line is written. Phases are barriers: a phase begins when every rank has
//! finished the one before, so a process that hangs or ends holds all the others, as it does in life.

mod cast;
mod comms;

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::parse::Nanos;

use super::scenario::{Fault, Phase, Rdma, SEC, Scenario, Then};
use super::version::Version;

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

pub use comms::has_ep;

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
            pods: cast::pods(s, start),
            ranks: cast::ranks(s),
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
}

/// Members named by a list, or all of `n`.
pub fn pick(named: &[usize], n: usize) -> Vec<usize> {
    if named.is_empty() {
        (0..n).collect()
    } else {
        named.to_vec()
    }
}
