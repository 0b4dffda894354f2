//! The all-reduce test: what is created, how far it is, what it measured, who failed.
//!
//! Its lines come as they were written and are read here; a better parser improves an old recording.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{Event, LogBlock, SourceEvent, SourceId, Stamped};
use super::{Model, update};
use crate::parse::fact::{NetName, Via};
use crate::parse::perf::{self, Pair, Row, Said, Status, Step, Tests};
use crate::parse::{Block, Fact, Nanos};

/// Rows and failures kept.
const KEPT: usize = 4_096;
/// Pairs kept: 128 pods have 8,128.
const PAIRS: usize = 8_192;

/// What happens to a test.
#[derive(Debug, Clone)]
pub enum TestEvent {
    /// It is planned: shown, not created.
    Planned(Arc<Planned>),
    /// It has come so far.
    Phase(Phase, Option<String>),
    /// A stream of lines of one of its pods: opened, cut, ended.
    Source(SourceEvent),
    /// Lines of one of its pods.
    Log {
        /// Which source.
        source: SourceId,
        /// Lines.
        block: Arc<Block>,
    },
    /// It is over.
    Ended(Ending),
    /// What was created is gone, or what is left of it, in words.
    Cleaned(Vec<String>),
}

/// What will be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Planned {
    /// Name of the run.
    pub run: String,
    /// Namespace.
    pub namespace: String,
    /// The workload it is like.
    pub workload: String,
    /// Image that it runs in.
    pub image: String,
    /// Largest size, bytes; 0 leaves it to the script.
    pub max_bytes: u64,
    /// A table of expected bandwidths in place of ours, as its file says it.
    pub table: Option<Arc<str>>,
    /// Name of the Job.
    pub job: String,
    /// Pods.
    pub pods: u32,
    /// GPUs of each.
    pub gpus: u32,
    /// Nodes it is bound to.
    pub nodes: Vec<String>,
    /// The manifest.
    pub manifest: String,
    /// What is not as in the workload, or could hurt somebody.
    pub warnings: Vec<String>,
}

impl Planned {
    /// Its ranks.
    #[must_use]
    pub fn world(&self) -> u32 {
        self.pods.saturating_mul(self.gpus.max(1))
    }
}

/// How far it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the words say it")]
pub enum Phase {
    Planned,
    Created,
    Queued,
    Scheduled,
    Pulling,
    Starting,
    Rendezvous,
    Gloo,
    Nccl,
    Sizes,
    Pairs,
    Vllm,
    Done,
    Cleaning,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Created => "created",
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Pulling => "pulling the image",
            Self::Starting => "starting",
            Self::Rendezvous => "rendezvous",
            Self::Gloo => "gloo on CPU",
            Self::Nccl => "NCCL init",
            Self::Sizes => "sizes",
            Self::Pairs => "pairs",
            Self::Vllm => "vLLM's communicator",
            Self::Done => "done",
            Self::Cleaning => "cleaning up",
        }
    }

    fn of_step(step: &str) -> Option<Self> {
        Some(match step {
            "env" | "dns" => Self::Starting,
            "rendezvous" | "import" | "gpus" => Self::Rendezvous,
            "gloo" => Self::Gloo,
            "nccl" => Self::Nccl,
            "sweep" | "worker" => Self::Sizes,
            "pairs" => Self::Pairs,
            "pynccl" | "graph" => Self::Vllm,
            "end" => Self::Done,
            _ => return None,
        })
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Ending {
    /// Every rank came to its end.
    Complete,
    /// It did not; why, without a full stop.
    Failed(String),
    /// By us.
    Cancelled,
}

/// A rank's last word.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RankState {
    /// Step.
    pub step: String,
    /// What happened in it.
    pub status: Option<Status>,
    /// Host name of its pod.
    pub host: Option<String>,
    /// Node.
    pub node: Option<String>,
    /// Name of its GPU.
    pub gpu: Option<String>,
}

/// A rank that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Global rank.
    pub rank: Option<u32>,
    /// Step.
    pub step: String,
    /// In its own words.
    pub error: String,
    /// Another rank's end explains it.
    pub echo: bool,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rank {
            Some(rank) => write!(f, "rank {rank} failed in {}: {}", self.step, self.error),
            None => write!(f, "{}: {}", self.step, self.error),
        }
    }
}

/// Bus bandwidth between two pods, GB/s.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PairRate {
    /// Among other pairs.
    pub first: f64,
    /// Alone, where it was suspected, or is what suspects are compared with.
    pub again: Option<f64>,
    /// Wrong elements.
    pub wrong: u64,
}

/// A test.
#[derive(Debug, Clone, Default)]
pub struct TestRun {
    /// The plan.
    pub planned: Option<Arc<Planned>>,
    /// Phases with the time at which they began, the newest last.
    pub phases: Vec<(Phase, Nanos, Option<String>)>,
    /// Rows in order of arrival.
    pub rows: Vec<Row>,
    /// Ranks.
    pub ranks: BTreeMap<u32, RankState>,
    /// Failures, causes before echoes as they came.
    pub failures: Vec<Failure>,
    /// What was left out, with the reason.
    pub skipped: BTreeMap<String, String>,
    /// What NCCL's own lines in the test's pods say: its matrix, apart from the workload's.
    pub world: Box<Model>,
    /// Rates between every two pods, by their numbers, the smaller first.
    pub pairs: BTreeMap<(u32, u32), PairRate>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// What is left in the cluster; `None` while nothing was cleaned up.
    pub left: Option<Vec<String>>,
    /// When that was known: from then on nothing goes on.
    pub cleaned: Option<Nanos>,
    /// The script spoke: its rows are read from its JSON alone.
    scripted: bool,
    wrong: u64,
    first_wrong: Option<String>,
    /// Rates of RDMA ports by host, GB/s.
    rdma: BTreeMap<String, Vec<f64>>,
    /// Rate of the fastest plain interface by host, GB/s.
    tcp: BTreeMap<String, f64>,
    transports: BTreeSet<String>,
}

impl TestRun {
    /// Applies what happened at `now`.
    pub fn apply(&mut self, event: TestEvent, now: Nanos) {
        match event {
            TestEvent::Planned(planned) => {
                *self = Self {
                    planned: Some(planned),
                    ..Self::default()
                };
                self.phase(Phase::Planned, now, None);
            }
            TestEvent::Phase(phase, note) => self.phase(phase, now, note),
            TestEvent::Source(event) => self.tell(Event::Source(event), now),
            TestEvent::Log { source, block } => self.log(source, &block, now),
            TestEvent::Ended(ending) => self.ending = Some(ending),
            TestEvent::Cleaned(left) => {
                self.left = Some(left);
                self.cleaned = self.cleaned.or(Some(now));
            }
        }
    }

    /// How far it is.
    #[must_use]
    pub fn at(&self) -> Option<Phase> {
        self.phases.last().map(|(p, ..)| *p)
    }

    /// Wrong elements in all.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    /// The first wrong element, in words.
    #[must_use]
    pub fn first_wrong(&self) -> Option<&str> {
        self.first_wrong.as_deref()
    }

    /// The failure that explains the others.
    #[must_use]
    pub fn cause(&self) -> Option<&Failure> {
        let own = |f: &&Failure| !f.echo;
        self.failures.iter().find(own).or(self.failures.first())
    }

    /// The GPU of the ranks, where all have the same; else the first.
    #[must_use]
    pub fn gpu(&self) -> Option<&str> {
        self.ranks.values().find_map(|r| r.gpu.as_deref())
    }

    /// Hosts, and ranks of each.
    #[must_use]
    pub fn shape(&self) -> (u32, u32) {
        let hosts: BTreeSet<_> = self
            .ranks
            .values()
            .filter_map(|r| r.node.as_ref().or(r.host.as_ref()))
            .collect();
        let (hosts, ranks) = (hosts.len().max(1), self.ranks.len());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count(hosts), count(ranks / hosts))
    }

    /// What a person calls the pod of this number: its node, else its host name.
    #[must_use]
    pub fn pod_name(&self, pod: u32) -> String {
        let per_pod = self.planned.as_ref().map_or(1, |p| p.gpus.max(1));
        let first = self.ranks.get(&pod.saturating_mul(per_pod));
        let name = first.and_then(|r| r.node.clone().or_else(|| r.host.clone()));
        name.unwrap_or_else(|| format!("pod {pod}"))
    }

    /// What the RDMA ports of the weakest host give to so many GPUs, GB/s: a GPU uses one port.
    #[must_use]
    pub fn rdma(&self, per_host: u32) -> Option<f64> {
        let per_host = usize::try_from(per_host).unwrap_or(1).max(1);
        let rates = self.rdma.values().map(|ports| {
            let mut ports = ports.clone();
            ports.sort_by(|a, b| b.total_cmp(a));
            ports.iter().take(per_host).sum::<f64>()
        });
        rates.min_by(f64::total_cmp).filter(|r| *r > 0.0)
    }

    /// Rate of the fastest plain interface of the weakest host, GB/s.
    #[must_use]
    pub fn tcp(&self) -> Option<f64> {
        self.tcp.values().copied().min_by(f64::total_cmp)
    }

    /// Transports that NCCL named: `NET/IB with GDR, P2P`.
    #[must_use]
    pub fn transports(&self) -> String {
        let all: Vec<&str> = self.transports.iter().map(String::as_str).collect();
        all.join(", ")
    }

    fn phase(&mut self, phase: Phase, now: Nanos, note: Option<String>) {
        match self.phases.last_mut() {
            Some((at, _, said)) if *at == phase => {
                if note.is_some() {
                    *said = note;
                }
            }
            // Ranks come to a step one after the other; the test does not go back for it.
            Some((at, ..)) if *at > phase => {}
            _ => self.phases.push((phase, now, note)),
        }
    }

    /// The test's pods have a model of their own: what they say is no news of the workload.
    fn tell(&mut self, event: Event, at: Nanos) {
        let seq = self.world.rev + 1;
        update(&mut self.world, Stamped { seq, at, event });
    }

    fn log(&mut self, source: SourceId, block: &Arc<Block>, now: Nanos) {
        let lines = LogBlock {
            source,
            block: Arc::clone(block),
        };
        self.tell(Event::Log(lines), now);
        for rec in &block.recs {
            if let Fact::Channel(c) = &rec.fact {
                self.transports.insert(match &c.via {
                    Via::P2p { .. } => "P2P".into(),
                    Via::Shm(_) => "SHM".into(),
                    Via::Other(name) => name.as_str().to_owned(),
                    Via::Net { name, gdr, .. } => net(name, *gdr),
                });
            }
        }
        for line in block.text.split(|b| *b == b'\n') {
            match perf::line(line) {
                Some(Said::Step(step)) => self.step(*step, now),
                Some(Said::Row(row)) => self.row(*row, now),
                Some(Said::Pair(pair)) => self.pair(&pair),
                Some(Said::Tests(tests)) => self.tests(tests, now),
                None => {}
            }
        }
    }

    /// A line of another run in the same log is none of ours.
    fn foreign(&self, run: &str) -> bool {
        self.planned.as_ref().is_some_and(|p| p.run != run)
    }

    fn row(&mut self, row: Row, now: Nanos) {
        match &row.run {
            Some(run) if self.foreign(run) => return,
            Some(_) => self.scripted = true,
            // The same row again, for people.
            None if self.scripted => return,
            // nccl-tests name no steps.
            None => self.phase(Phase::Sizes, now, None),
        }
        // A size is measured once; a log that had to be opened again may bring its row again.
        let again = |r: &Row| {
            r.run.is_some() && (&r.by, &r.kind, r.bytes) == (&row.by, &row.kind, row.bytes)
        };
        if row.run.is_some() && self.rows.iter().any(again) {
            return;
        }
        let wrong = row.wrong().unwrap_or(0);
        self.wrong = self.wrong.saturating_add(wrong);
        if self.rows.len() < KEPT {
            self.rows.push(row);
        }
    }

    fn pair(&mut self, pair: &Pair) {
        let known = self.pairs.contains_key(&(pair.a, pair.b));
        if self.foreign(&pair.run) || (!known && self.pairs.len() >= PAIRS) {
            return;
        }
        let rate = self.pairs.entry((pair.a, pair.b)).or_default();
        if pair.turn < 2 {
            rate.first = pair.busbw;
        } else {
            rate.again = Some(pair.busbw);
        }
        rate.wrong = rate.wrong.max(pair.wrong);
    }

    fn step(&mut self, step: Step, now: Nanos) {
        if self.foreign(&step.run) {
            return;
        }
        self.scripted = true;
        if let Some(phase) = Phase::of_step(&step.step) {
            // Done is when the Job says so.
            if step.status == Status::Start && phase != Phase::Done {
                self.phase(phase, now, None);
            }
        }
        let Some(rank) = step.rank else {
            // Nobody alone is to blame.
            if step.status == Status::Fail {
                self.failed(&step);
            }
            return;
        };
        if self.ranks.len() >= KEPT && !self.ranks.contains_key(&rank) {
            return;
        }
        let state = self.ranks.entry(rank).or_default();
        if step.status != Status::Wrong {
            state.step.clone_from(&step.step);
            state.status = Some(step.status);
        }
        if step.step == "env" && step.status == Status::Ok {
            state.host.clone_from(&step.host);
            state.node.clone_from(&step.node);
            let host = step.node.clone().or(step.host.clone()).unwrap_or_default();
            self.networks(host, &step);
        } else if step.step == "gpus" && step.name.is_some() {
            state.gpu.clone_from(&step.name);
        }
        match step.status {
            Status::Fail | Status::Peer => self.failed(&step),
            Status::Skip => {
                self.skipped.insert(step.step, step.why.unwrap_or_default());
            }
            Status::Wrong if self.first_wrong.is_none() => {
                self.first_wrong = Some(format!("seen by rank {rank} in {}", step.step));
            }
            Status::Ok if step.step == "graph" => {
                self.wrong = self
                    .wrong
                    .saturating_add(step.wrong_elements().unwrap_or(0));
            }
            _ => {}
        }
    }

    fn failed(&mut self, step: &Step) {
        let said = |f: &Failure| f.rank == step.rank && f.step == step.step;
        if self.failures.len() >= KEPT || self.failures.iter().any(said) {
            return;
        }
        let at = step.at.as_ref().map(|a| format!(" (at {a})"));
        let error = step.error.as_deref().unwrap_or("no reason given");
        self.failures.push(Failure {
            rank: step.rank,
            step: step.step.clone(),
            error: format!("{error}{}", at.unwrap_or_default()),
            echo: step.status == Status::Peer || step.after_rank.is_some(),
        });
    }

    fn networks(&mut self, host: String, step: &Step) {
        let rates = step.ib.values().filter_map(|r| {
            // `400 Gb/sec (4X NDR)`
            r.split_ascii_whitespace().next()?.parse::<f64>().ok()
        });
        let rates: Vec<f64> = rates.map(|gbit| gbit / 8.0).collect();
        if !rates.is_empty() {
            self.rdma.insert(host.clone(), rates);
        }
        let fastest = step.net.values().filter_map(|i| i.mbps).max();
        if let Some(mbps) = fastest {
            self.tcp.insert(host, f64::from(mbps) / 8_000.0);
        }
    }

    /// What nccl-tests say beside their rows; our script's own footer tells nothing new.
    fn tests(&mut self, said: Tests, now: Nanos) {
        if self.scripted {
            return;
        }
        match said {
            Tests::Starting(_) | Tests::Params { .. } => self.phase(Phase::Nccl, now, None),
            Tests::Device {
                rank, host, name, ..
            } => {
                self.phase(Phase::Nccl, now, None);
                if self.ranks.len() >= KEPT && !self.ranks.contains_key(&rank) {
                    return;
                }
                let state = self.ranks.entry(rank).or_default();
                state.host = Some(host);
                state.gpu = Some(name);
            }
            Tests::Failure { host, text } if self.failures.len() < KEPT => {
                let echo = !self.failures.is_empty();
                self.failures.push(Failure {
                    rank: None,
                    step: host.unwrap_or_else(|| "nccl-tests".into()),
                    error: text,
                    echo,
                });
            }
            // The sum over all rows, where some of them could not be read.
            Tests::OutOfBounds { wrong, ok: false } => self.wrong = self.wrong.max(wrong),
            Tests::Reduced(text) => {
                self.skipped.insert("the largest sizes".into(), text);
            }
            _ => {}
        }
    }
}

fn net(name: &NetName, gdr: bool) -> String {
    let gdr = if gdr { " with GDR" } else { "" };
    format!("NET/{}{gdr}", name.as_str())
}
