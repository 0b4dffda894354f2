//! How far each vLLM process has come, what it said about itself, and what stopped it.
//!
//! A process is what prints under one `(NAME pid=N)` prefix in one source (with Ray, also one `ip=`); lines
//! without a prefix belong to the one process that has none. Joining these with NCCL's processes is the rules'
//! work: by source and pid, else by global rank.

use std::collections::BTreeMap;

use super::edges::Quote;
use super::event::SourceId;
use super::procs::quote;
use crate::parse::fact::Fact;
use crate::parse::vllm::{
    Counted, Edge, Fault, FaultKind, Label, Leader, Phase, ProcKind, Progress, RankStart, Ranks,
    Route, Settings, Stats, Torch, VllmFact,
};
use crate::parse::{At, Block, Outer};

/// Failures kept per process: the first ones tell the cause.
const FAULTS_KEPT: usize = 32;
/// Remarks on all-reduce back ends kept per process.
const ROUTES_KEPT: usize = 32;
/// Processes kept; hostile input could invent pids without end.
const KEPT: usize = 65_536;

/// Start-up stage, in the contract's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// P1, and P2: the process exists, waits for others or for Ray.
    Started,
    /// P0
    Config,
    /// P3
    DistributedInit,
    /// P4–P6
    NcclInit,
    /// Download of model files.
    Download,
    /// P7
    Weights,
    /// P9
    Profile,
    /// P8
    Compile,
    /// P10
    Graphs,
    /// P11–P13
    Serving,
}

impl Stage {
    /// The stage that a line proves.
    #[must_use]
    pub fn of(fact: &VllmFact) -> Option<Self> {
        let (phase, _) = fact.phase()?;
        Some(match phase {
            Phase::Engine | Phase::Ray => Self::Started,
            Phase::Config => Self::Config,
            Phase::Rendezvous => Self::DistributedInit,
            Phase::Nccl | Phase::Routes | Phase::Assigned => Self::NcclInit,
            Phase::Load => match fact {
                VllmFact::Downloaded { .. } => Self::Download,
                VllmFact::Progress(p) if matches!(p.counted, Counted::Files | Counted::Bytes) => {
                    Self::Download
                }
                _ => Self::Weights,
            },
            Phase::Profile => Self::Profile,
            Phase::Compile => Self::Compile,
            Phase::Graphs => Self::Graphs,
            Phase::Ready | Phase::Http | Phase::Serving => Self::Serving,
            Phase::Hang | Phase::Shutdown => return None,
        })
    }
}

/// When a stage began.
#[derive(Debug, Clone, PartialEq)]
pub struct Entered {
    /// Which.
    pub stage: Stage,
    /// First stamp known in it; a line without a stamp may have come before.
    pub at: Option<At>,
    /// The line that proves it.
    pub quote: Quote,
    /// Its end was said: weights loaded, graphs captured, server up.
    pub done: bool,
}

/// What is known of memory and sizes, as printed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sizes {
    /// Device memory of this rank's weights, GiB.
    pub weights_gib: Option<f64>,
    /// Seconds that the load took.
    pub weights_seconds: Option<f64>,
    /// Checkpoint on disk, GiB.
    pub checkpoint_gib: Option<f64>,
    /// Memory for KV cache, GiB.
    pub kv_gib: Option<f64>,
    /// Tokens that fit into it.
    pub kv_tokens: Option<u64>,
    /// Request length and how many such requests fit.
    pub concurrency: Option<(u64, f64)>,
    /// CUDA graphs, GiB.
    pub graphs_gib: Option<f64>,
    /// Seconds of torch.compile.
    pub compile_seconds: Option<f64>,
    /// Seconds from profile to warm-up.
    pub engine_seconds: Option<f64>,
}

/// One life of one vLLM process.
#[derive(Debug, Clone)]
pub struct Startup {
    /// Source that has its lines.
    pub source: SourceId,
    /// Which life under this prefix, from 1.
    pub incarnation: u32,
    /// Label as printed, the most telling one: `Worker` becomes `Worker_TP0` once the groups exist.
    pub label: Option<String>,
    /// Its pid.
    pub pid: Option<u64>,
    /// Address of its node, where Ray relays it.
    pub ip: Option<String>,
    /// First line.
    pub first: Quote,
    /// Stamp of the last line with a fact; silence is measured from the source's own last line.
    pub last_at: Option<At>,
    /// Furthest stage first entered last; stages that nothing proves are absent.
    pub entered: Vec<Entered>,
    /// Progress inside the furthest stage.
    pub progress: Option<Progress>,
    /// Stamp of it.
    pub progress_at: Option<At>,
    /// vLLM version.
    pub version: Option<String>,
    /// Engine generation, 0 or 1.
    pub generation: Option<u8>,
    /// Model path or id.
    pub model: Option<String>,
    /// Arguments and configuration, the later over the earlier.
    pub settings: Settings,
    /// Entry into torch.distributed.
    pub rank_start: Option<(RankStart, Quote)>,
    /// Rank assignment.
    pub ranks: Option<(Ranks, Quote)>,
    /// Expert-parallel rank and size, where a line of its own says so.
    pub experts: Option<(u32, u32)>,
    /// Head of a multi-node engine.
    pub leader: Option<(Leader, Quote)>,
    /// Address of the head that a pod without HTTP server joins.
    pub head: Option<(String, Quote)>,
    /// pynccl's version.
    pub pynccl: Option<(String, Quote)>,
    /// What it said about all-reduce back ends.
    pub routes: Vec<(Route, Quote)>,
    /// Attention back end.
    pub attention: Option<String>,
    /// Environment that lines prove.
    pub env: BTreeMap<String, (String, Quote)>,
    /// Sizes.
    pub sizes: Sizes,
    /// The server answers.
    pub http_up: Option<Quote>,
    /// Last statistics and when.
    pub stats: Option<(Stats, Option<At>)>,
    /// Statistics lines in a row with running requests and no token made.
    pub idle_stats: u32,
    /// Waits for the shared-memory queue since anything else came: how often, and the first line.
    pub shm_waits: Option<(u32, Quote)>,
    /// gloo took the loopback address.
    pub gloo_loopback: Option<Quote>,
    /// Waiting for Ray's placement group: seconds, bundles, the line.
    pub ray_wait: Option<(u64, u32, Quote)>,
    /// Failures in order, echoes included.
    pub faults: Vec<(Fault, Quote)>,
    /// Lines of torch's watchdog in order.
    pub torch: Vec<(Torch, Quote)>,
    /// Proof that it ended.
    pub ended: Option<Quote>,
    /// Faults and watchdog lines beyond those kept.
    pub dropped: u64,
    engine_line: bool,
}

impl Startup {
    fn new(source: SourceId, incarnation: u32, outer: &Outer, first: Quote) -> Self {
        Self {
            source,
            incarnation,
            label: outer.label.clone(),
            pid: outer.pid,
            ip: outer.ip.clone(),
            last_at: first.at,
            first,
            entered: Vec::new(),
            progress: None,
            progress_at: None,
            version: None,
            generation: None,
            model: None,
            settings: Settings::default(),
            rank_start: None,
            ranks: None,
            experts: None,
            leader: None,
            head: None,
            pynccl: None,
            routes: Vec::new(),
            attention: None,
            env: BTreeMap::new(),
            sizes: Sizes::default(),
            http_up: None,
            stats: None,
            idle_stats: 0,
            shm_waits: None,
            gloo_loopback: None,
            ray_wait: None,
            faults: Vec::new(),
            torch: Vec::new(),
            ended: None,
            dropped: 0,
            engine_line: false,
        }
    }

    /// Furthest stage that the lines prove.
    #[must_use]
    pub fn stage(&self) -> Option<&Entered> {
        self.entered.last()
    }

    /// What the label says of kind and ranks.
    #[must_use]
    pub fn role(&self) -> Option<Label> {
        Label::parse(self.label.as_deref()?)
    }

    /// Global rank: as printed, or as an old label numbers workers.
    #[must_use]
    pub fn global_rank(&self) -> Option<u32> {
        self.ranks
            .as_ref()
            .map(|(r, _)| r.rank)
            .or_else(|| self.rank_start.as_ref()?.0.rank)
            .or_else(|| self.role().filter(|l| l.kind == ProcKind::Worker)?.index)
    }

    /// The first failure that is no echo of another one; failing that, the first echo.
    #[must_use]
    pub fn trouble(&self) -> Option<&(Fault, Quote)> {
        self.faults
            .iter()
            .find(|(f, _)| !f.is_echo())
            .or_else(|| self.faults.first())
    }

    /// Whether a line can only come from a new life under the same prefix.
    fn reborn(&self, fact: &VllmFact) -> bool {
        let Some(stage) = self.stage().map(|e| e.stage) else {
            return false;
        };
        match fact {
            VllmFact::Version { .. } => stage > Stage::Config && self.version.is_some(),
            VllmFact::Engine { .. } => stage > Stage::Config && self.engine_line,
            VllmFact::RankStart(_) => stage > Stage::NcclInit && self.rank_start.is_some(),
            _ => false,
        }
    }

    /// Folds one line of this process.
    pub fn apply(&mut self, fact: &VllmFact, outer: &Outer, quote: &Quote) {
        self.last_at = quote.at.or(self.last_at);
        self.relabel(outer);
        if let Some(stage) = Stage::of(fact) {
            let done = matches!(fact.phase(), Some((_, Edge::End)));
            self.enter(stage, done, quote);
        }
        if !matches!(fact, VllmFact::ShmWait { .. }) {
            self.shm_waits = None;
        }
        match fact {
            VllmFact::Version { version, model } => {
                self.version = Some(version.clone());
                self.model = model.clone().or(self.model.take());
            }
            VllmFact::Model(m) => self.model = Some(m.clone()),
            VllmFact::Args(s) => self.settle(s),
            VllmFact::Engine {
                generation,
                version,
                config,
            } => {
                self.engine_line = true;
                self.generation = generation.or(self.generation);
                self.version = Some(version.clone());
                self.settle(config);
            }
            VllmFact::Env { name, value } => {
                self.env
                    .insert(name.clone(), (value.clone(), quote.clone()));
            }
            VllmFact::Headless { version, head, .. } => {
                self.version = version.clone().or(self.version.take());
                self.head = Some((head.clone(), quote.clone()));
            }
            VllmFact::Leader(l) => self.leader = Some((l.clone(), quote.clone())),
            VllmFact::RayWaiting {
                seconds, bundles, ..
            } => self.ray_wait = Some((*seconds, *bundles, quote.clone())),
            VllmFact::RankStart(r) => {
                self.ray_wait = None;
                self.rank_start = Some((r.clone(), quote.clone()));
            }
            VllmFact::GlooLoopback => {
                self.gloo_loopback.get_or_insert_with(|| quote.clone());
            }
            VllmFact::Pynccl { version } => {
                self.pynccl
                    .get_or_insert_with(|| (version.clone(), quote.clone()));
            }
            VllmFact::Route(r) => {
                if self.routes.len() < ROUTES_KEPT && !self.routes.iter().any(|(old, _)| old == r) {
                    self.routes.push((r.clone(), quote.clone()));
                }
            }
            VllmFact::Assigned(r) => self.ranks = Some((*r, quote.clone())),
            VllmFact::Experts { ep, .. } => self.experts = ep.or(self.experts),
            VllmFact::LoadBegin { model: Some(m) } => {
                self.model.get_or_insert_with(|| m.clone());
            }
            VllmFact::Attention { backend } => self.attention = Some(backend.clone()),
            VllmFact::Progress(p) => self.advance(fact, p, quote.at),
            VllmFact::Stats(s) => {
                let idle = s.running > 0 && s.prompt_tps == 0.0 && s.generation_tps == 0.0;
                self.idle_stats = if idle {
                    self.idle_stats.saturating_add(1)
                } else {
                    0
                };
                self.stats = Some((*s, quote.at));
            }
            VllmFact::HttpUp => self.http_up = Some(quote.clone()),
            VllmFact::ShmWait { .. } => match &mut self.shm_waits {
                Some((n, _)) => *n = n.saturating_add(1),
                None => self.shm_waits = Some((1, quote.clone())),
            },
            VllmFact::Shutdown { .. } => {
                self.ended.get_or_insert_with(|| quote.clone());
            }
            VllmFact::Torch(t) => self.watchdog(t, quote),
            VllmFact::Fault(f) => self.fail(f, quote),
            _ => self.measure(fact),
        }
    }

    /// `Worker` is what every worker is called before the groups exist; a longer label tells more.
    fn relabel(&mut self, outer: &Outer) {
        if let Some(new) = &outer.label
            && self
                .label
                .as_ref()
                .is_none_or(|old| new.len() > old.len() && new.starts_with(old.as_str()))
        {
            self.label = Some(new.clone());
        }
        if self.ip.is_none() {
            self.ip.clone_from(&outer.ip);
        }
    }

    fn enter(&mut self, stage: Stage, done: bool, quote: &Quote) {
        match self.entered.last_mut() {
            Some(last) if last.stage == stage => {
                last.at = last.at.or(quote.at);
                last.done |= done;
                return;
            }
            Some(last) if last.stage > stage => return,
            _ => {}
        }
        self.progress = None;
        self.progress_at = None;
        self.entered.push(Entered {
            stage,
            at: quote.at,
            quote: quote.clone(),
            done,
        });
    }

    fn settle(&mut self, s: &Settings) {
        for (name, value) in &s.pairs {
            match self.settings.pairs.iter_mut().find(|(n, _)| n == name) {
                Some(pair) => pair.1.clone_from(value),
                None => self.settings.pairs.push((name, value.clone())),
            }
        }
        if let Some(m) = self.settings.get("model") {
            self.model = Some(m.to_owned());
        }
    }

    /// A bar counts only while its stage is the furthest one: bars outlive their stage in shared pipes.
    fn advance(&mut self, fact: &VllmFact, p: &Progress, at: Option<At>) {
        if Stage::of(fact) == self.stage().map(|e| e.stage) {
            self.progress = Some(p.clone());
            self.progress_at = at.or(self.progress_at);
        }
    }

    fn measure(&mut self, fact: &VllmFact) {
        let s = &mut self.sizes;
        match fact {
            VllmFact::ModelDone { gib, seconds } => {
                s.weights_gib = Some(*gib);
                s.weights_seconds = seconds.or(s.weights_seconds);
            }
            VllmFact::WeightsDone { seconds } => s.weights_seconds = Some(*seconds),
            VllmFact::Checkpoint { gib, .. } => s.checkpoint_gib = Some(*gib),
            VllmFact::KvMemory { gib } => s.kv_gib = Some(*gib),
            VllmFact::MemorySplit { kv, weights, .. } => {
                s.kv_gib = Some(*kv);
                s.weights_gib = s.weights_gib.or(Some(*weights));
            }
            VllmFact::KvSize {
                tokens,
                concurrency,
            } => {
                s.kv_tokens = tokens.or(s.kv_tokens);
                s.concurrency = concurrency.or(s.concurrency);
            }
            VllmFact::GraphsDone { gib, .. } => s.graphs_gib = gib.or(s.graphs_gib),
            VllmFact::CompileDone { seconds } => s.compile_seconds = Some(*seconds),
            VllmFact::EngineReady { seconds } => s.engine_seconds = Some(*seconds),
            _ => {}
        }
    }

    fn fail(&mut self, f: &Fault, quote: &Quote) {
        // Its own crash or refusal to start proves its end; what it says about others does not.
        if matches!(
            f.kind,
            FaultKind::Crash { .. } | FaultKind::WorkerStart | FaultKind::EngineStart { .. }
        ) {
            self.ended.get_or_insert_with(|| quote.clone());
        }
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push((f.clone(), quote.clone()));
        } else {
            self.dropped += 1;
        }
    }

    fn watchdog(&mut self, t: &Torch, quote: &Quote) {
        if matches!(t, Torch::Killed { .. }) {
            self.ended.get_or_insert_with(|| quote.clone());
        }
        if self.torch.len() < FAULTS_KEPT {
            self.torch.push((t.clone(), quote.clone()));
        } else {
            self.dropped += 1;
        }
    }
}

/// Who prints under which prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// No prefix at all.
    Plain,
    /// `[rankN]:` of torch, for a rank whose pid no line told.
    Rank(u32),
    /// A pid, with the address of its node where Ray relays it.
    Pid(Option<String>, u64),
}

/// All vLLM processes.
#[derive(Debug, Clone, Default)]
pub struct Startups {
    /// Lives in order of appearance.
    pub list: Vec<Startup>,
    /// Facts of processes that did not fit.
    pub dropped: u64,
    current: BTreeMap<(SourceId, Who), u32>,
    by_rank: BTreeMap<(SourceId, u32), u32>,
}

impl Startups {
    /// Folds the vLLM facts of a block.
    pub fn fold(&mut self, source: SourceId, block: &Block) {
        for rec in &block.recs {
            let Fact::Vllm(fact) = &rec.fact else {
                continue;
            };
            let none = Outer::default();
            let outer = block.outers.get(rec.outer as usize).unwrap_or(&none);
            self.apply(source, fact, outer, &quote(block, rec));
        }
    }

    /// Folds one line.
    pub fn apply(&mut self, source: SourceId, fact: &VllmFact, outer: &Outer, quote: &Quote) {
        let who = match (outer.pid, outer.rank.or(said_rank(fact))) {
            (Some(pid), _) => Who::Pid(outer.ip.clone(), pid),
            (None, Some(rank)) => Who::Rank(rank),
            (None, None) => Who::Plain,
        };
        let known = match &who {
            // A rank that a process with a pid claimed is that process.
            Who::Rank(r) => self.by_rank.get(&(source, *r)),
            _ => None,
        }
        .or_else(|| self.current.get(&(source, who.clone())))
        .copied();
        let reborn = known
            .and_then(|ix| self.list.get(ix as usize))
            .filter(|s| s.reborn(fact))
            .map(|s| s.incarnation + 1);
        let ix = match (known, reborn) {
            (Some(ix), None) => ix,
            (_, again) => {
                let Some(ix) = self.add(source, again.unwrap_or(1), outer, quote) else {
                    return;
                };
                if again.is_some()
                    && let Some(old) = known.and_then(|k| self.list.get_mut(k as usize))
                {
                    old.ended.get_or_insert_with(|| quote.clone());
                }
                self.current.insert((source, who), ix);
                ix
            }
        };
        let Some(s) = self.list.get_mut(ix as usize) else {
            return;
        };
        s.apply(fact, outer, quote);
        if s.pid.is_some()
            && let Some(rank) = s.global_rank()
        {
            self.by_rank.insert((source, rank), ix);
        }
        if let VllmFact::Fault(f) = fact
            && let FaultKind::WorkerDied { rank, pid, .. } = &f.kind
        {
            self.bury(source, *rank, *pid, quote);
        }
    }

    fn add(
        &mut self,
        source: SourceId,
        incarnation: u32,
        outer: &Outer,
        quote: &Quote,
    ) -> Option<u32> {
        if self.list.len() >= KEPT {
            self.dropped += 1;
            return None;
        }
        let ix = u32::try_from(self.list.len()).ok()?;
        self.list
            .push(Startup::new(source, incarnation, outer, quote.clone()));
        Some(ix)
    }

    /// The engine says that one of its workers died.
    fn bury(&mut self, source: SourceId, rank: Option<u32>, pid: Option<u64>, quote: &Quote) {
        let ix = rank
            .and_then(|r| self.by_rank.get(&(source, r)))
            .or_else(|| self.current.get(&(source, Who::Pid(None, pid?))))
            .copied();
        if let Some(s) = ix.and_then(|ix| self.list.get_mut(ix as usize)) {
            s.ended.get_or_insert_with(|| quote.clone());
        }
    }
}

/// The global rank that a line carries in place of a prefix.
fn said_rank(fact: &VllmFact) -> Option<u32> {
    match fact {
        VllmFact::Torch(t) => t.rank(),
        VllmFact::Fault(f) => f.rank,
        _ => None,
    }
}
