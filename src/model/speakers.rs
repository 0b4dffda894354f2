//! vLLM's processes by what they print: API servers, engine cores, workers; how far each of them came.
//!
//! A speaker is told by the pid of its prefix inside one source; lines without a prefix belong to the
//! source's own main process. Which NCCL process it is, the rules say.

mod lives;
mod said;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crowd::{Crowds, Engine, Once};
use super::edges::Quote;
use super::event::SourceId;
use super::lives::Birth;
use super::procs::quote;
use super::sources::Tellers;
use crate::parse::fact::Fact;
use crate::parse::vllm::{
    Counted, Edge, Fault, FaultKind, Label, Leader, Phase, ProcKind, Progress, RankStart, Ranks,
    Route, Settings, Stats, Torch, VllmFact,
};
use crate::parse::{At, Block, Outer};
use lives::Claim;
pub use lives::{Herald, Prelude};
pub use stage::{Stage, stage_of};

/// Failures kept per speaker: the first ones tell the cause.
const FAULTS_KEPT: usize = 64;
/// Bars of files that are fetched at once; a checkpoint has a few hundred files at most.
const FETCHES_KEPT: usize = 1024;
/// Speakers kept per source.
const SPEAKERS_KEPT: usize = 4096;

/// One vLLM process.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// Source.
    pub source: SourceId,
    /// Pid of its prefix; none for the main process of its source.
    pub pid: Option<u64>,
    /// Address in a Ray prefix.
    pub ip: Option<String>,
    /// Pid of the process whose prefix stands in front of its own: its engine core, for a worker of Ray.
    pub relay: Option<u64>,
    /// 1 for the first life; raised when the main process of a source begins anew.
    pub incarnation: u32,
    /// Longest label seen: `Worker` becomes `Worker_TP1` once the groups exist.
    pub label: Option<(String, Label)>,
    /// First line.
    pub first: Quote,
    /// Last stamp.
    pub last_at: Option<At>,
    /// Last line.
    pub last_line: u64,
    /// By which words it began, where it said any, and in which line.
    pub herald: Option<(Herald, u64)>,
    /// It said that it makes an engine.
    pub engine: bool,
    /// Where it last named the platform it runs on: the first of all words of a Python process.
    pub prelude: Option<Prelude>,
    /// Version.
    pub version: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Command-line arguments and engine configuration.
    pub settings: Settings,
    /// `world_size=… rank=…`.
    pub rank_start: Option<(RankStart, Quote)>,
    /// `rank N in world size … is assigned as …`.
    pub ranks: Option<(Ranks, Quote)>,
    /// Furthest stage with the first line that proves it.
    pub stage: Option<(Stage, Quote)>,
    /// First line of every stage reached.
    pub stages: BTreeMap<Stage, Quote>,
    /// Newest progress of the present stage.
    pub progress: Option<(Progress, Quote)>,
    /// Files that are being fetched, by the bar's own words: done, of how many.
    pub fetching: BTreeMap<Arc<str>, (u64, u64)>,
    /// Weights are read, as more than the announcement of their load proves.
    pub reading: bool,
    /// Newest sign that it gets on: which part of which phase, and its stamp.
    pub moved: Option<(Phase, Edge, Option<At>)>,
    /// pynccl's version.
    pub nccl: Option<String>,
    /// All-reduce back ends.
    pub routes: Vec<(Route, Quote)>,
    /// Size of the checkpoint, GiB, as the loader saw it (v0.20+).
    pub checkpoint_gib: Option<f64>,
    /// Device memory that the model took, GiB.
    pub model_gib: Option<f64>,
    /// KV cache memory, GiB.
    pub kv_gib: Option<f64>,
    /// The engine finished its start.
    pub engine_ready: Option<Quote>,
    /// The HTTP server answers.
    pub http_up: Option<Quote>,
    /// Orderly or forced end.
    pub shutdown: Option<(String, Quote)>,
    /// Proof that it ended: its own crash, its watchdog's last word, or its engine that says so.
    pub ended: Option<Quote>,
    /// Head of a multi-node engine, as the head prints it.
    pub leader: Option<(Leader, Quote)>,
    /// Address of the head that a pod without HTTP server joins.
    pub head: Option<(String, Quote)>,
    /// gloo took the loopback address: fatal once there is a second node.
    pub gloo_loopback: Option<Quote>,
    /// Waiting for Ray's placement group: seconds, bundles, the line.
    pub ray_wait: Option<(u64, u32, Quote)>,
    /// Statistics lines in a row with requests running and not one token made.
    pub idle_stats: u32,
    /// The first of them.
    pub idle_since: Option<Quote>,
    /// First failures.
    pub faults: Vec<(Fault, Quote)>,
    /// Failures beyond those kept.
    pub faults_dropped: u64,
    /// torch's watchdog and its kin.
    pub torch: Vec<(Torch, Quote)>,
    /// Last statistics.
    pub stats: Option<(Stats, Quote)>,
    /// Waits for the shared-memory queue: how many, the last.
    pub shm_waits: Option<(u32, u64, Quote)>,
    /// Environment that lines prove.
    pub env: BTreeMap<String, (String, Quote)>,
    /// The newest of `progress` and `stats`, where they stand in the block that is being folded.
    latest: Latest,
    told: Told,
}

/// Facts of the block that is being folded, of which the last alone is kept: indices into [`Block::recs`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Latest {
    progress: Option<u32>,
    stats: Option<u32>,
}

/// What was written down of a speaker outside of it, and need not be again at the same [`Speakers::turn`].
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// Its rank.
    rank: Option<(u64, u32)>,
    /// Who relays its lines, and what it said once in its life, as bits.
    once: Option<(u64, Option<u64>)>,
    said: u16,
}

/// Source, pid and address of a prefix.
type Key = (SourceId, Option<u64>, Option<String>);

/// All speakers.
#[derive(Debug, Clone, Default)]
pub struct Speakers {
    /// In order of their first line.
    pub list: Vec<Speaker>,
    /// What lines say that stand for several of them.
    pub crowds: Crowds,
    by_key: BTreeMap<Key, u32>,
    by_rank: BTreeMap<(SourceId, u32), u32>,
    /// Ranks that share a pid, each on a node of its own, in one stream that does not name them.
    twins: BTreeMap<Key, Vec<u32>>,
    /// Lines that name nothing but such a pid, by source: they are given to none of them.
    pub unclear: BTreeMap<SourceId, u64>,
    per_source: BTreeMap<SourceId, usize>,
    /// First words that may be those of a new life, by source.
    claims: BTreeMap<SourceId, Claim>,
    /// Raised where another speaker comes to stand for a prefix or a rank.
    turn: u64,
}

impl Speakers {
    /// Folds the vLLM facts of a block. Where a new life begins in a source, it hands out what was said in there
    /// before.
    pub fn fold(&mut self, tellers: &Tellers, block: &Block) -> Vec<(Birth, Self)> {
        let mut births = Vec::new();
        // A bar redraws itself after carriage returns without repeating the prefix of its line.
        let mut spoke: Option<(u32, u32)> = None;
        // Whose prefixes they are: a pid tells it alone, unless a process says its first words again.
        let mut known: Vec<Option<u32>> = vec![None; block.outers.len()];
        let mut brief = Vec::new();
        let mut recs = block.said.iter().filter_map(|number| {
            let rec = block.recs.get(*number as usize)?;
            Some((*number, rec, rec.line))
        });
        let mut ahead = recs.next();
        while let Some((number, rec, line)) = ahead {
            // Looked at before it is its turn: it lies anywhere in memory.
            ahead = recs.next();
            let Fact::Vllm(fact) = &rec.fact else {
                continue;
            };
            let who = match spoke {
                Some((before, outer)) if before == line && rec.outer == 0 => outer,
                _ => rec.outer,
            };
            spoke = Some((line, who));
            let source = tellers.of(who);
            let outer = block.outers.get(who as usize);
            let at = || quote(block, rec);
            let names_rank = matches!(fact, VllmFact::RankStart(_));
            let plain = !opens(fact)
                && !names_rank
                && self.claims.is_empty()
                && self.twins.is_empty()
                && outer.is_some_and(|o| o.pid.is_some());
            let slot = known.get_mut(who as usize);
            let have = slot.as_ref().and_then(|slot| **slot).filter(|_| plain);
            let found = have.or_else(|| self.find(source, outer, fact, &at));
            let Some(ix) = found else { continue };
            if let Some(slot) = slot
                && outer.is_some_and(|o| o.pid.is_some())
            {
                *slot = Some(ix);
            }
            let quiet = self.list.get(ix as usize).map(|s| s.latest);
            self.tell(source, ix, outer, fact, rec.at, (&at, Some(number)));
            let line = block.first_line + u64::from(line);
            if let Some(s) = self.list.get_mut(ix as usize) {
                s.last_line = line;
                if quiet == Some(Latest::default()) && s.latest != Latest::default() {
                    brief.push(ix);
                }
            }
            if opens(fact)
                && !tellers.are_container()
                && let Some(birth) = self.begins(ix, fact, line)
            {
                self.spell(block, &mut brief);
                known.fill(None);
                let gone = self.part(source, birth.first.line);
                births.push((birth, gone));
            }
        }
        self.spell(block, &mut brief);
        births
    }

    /// Writes down the newest of what is told over and over, at the end of the block that it stands in.
    fn spell(&mut self, block: &Block, brief: &mut Vec<u32>) {
        for ix in brief.drain(..) {
            if let Some(speaker) = self.list.get_mut(ix as usize) {
                speaker.spell(block);
            }
        }
    }

    /// Folds one line; `at` quotes it.
    pub fn apply(
        &mut self,
        source: SourceId,
        outer: Option<&Outer>,
        fact: &VllmFact,
        stamp: Option<At>,
        at: &dyn Fn() -> Quote,
    ) {
        if let Some(ix) = self.find(source, outer, fact, at) {
            self.tell(source, ix, outer, fact, stamp, (at, None));
        }
    }

    /// Applies one fact; quotes its line. `number`: where it stands in the block that is being folded.
    fn tell(
        &mut self,
        source: SourceId,
        ix: u32,
        outer: Option<&Outer>,
        fact: &VllmFact,
        stamp: Option<At>,
        (at, number): (&dyn Fn() -> Quote, Option<u32>),
    ) {
        let Some(s) = self.list.get_mut(ix as usize) else {
            return;
        };
        s.apply(fact, outer, stamp, (at, number));
        if let (Some(outer), Some(what)) = (outer.filter(|o| o.pid.is_some()), Once::of(fact)) {
            let (now, bit) = ((self.turn, outer.relay), 1 << what as u16);
            if s.told.once != Some(now) {
                (s.told.once, s.told.said) = (Some(now), 0);
            }
            if outer.repeated > 0 || s.told.said & bit == 0 {
                s.told.said |= bit;
                let engine = self.engine(source, outer.relay);
                (self.crowds).tell(engine, what, ix, (outer.repeated, at));
            }
        }
        let Some(s) = self.list.get_mut(ix as usize) else {
            return;
        };
        if s.pid.is_some()
            && let Some(rank) = s.global_rank()
            && s.told.rank != Some((self.turn, rank))
        {
            if self.by_rank.insert((source, rank), ix) != Some(ix) {
                self.turn += 1;
            }
            s.told.rank = Some((self.turn, rank));
        }
        if let VllmFact::Fault(f) = fact
            && let FaultKind::WorkerDied { rank, pid, .. } = &f.kind
        {
            self.bury(source, *rank, *pid, at);
        }
    }

    /// The engine whose workers are relayed by a process, in its present life.
    fn engine(&self, source: SourceId, relay: Option<u64>) -> Engine {
        let driver = self.by_key.get(&(source, relay, None));
        let driver = driver.and_then(|ix| self.list.get(*ix as usize));
        (source, relay, driver.map_or(1, |s| s.incarnation))
    }

    /// The engine says that one of its workers died.
    fn bury(
        &mut self,
        source: SourceId,
        rank: Option<u32>,
        pid: Option<u64>,
        at: &dyn Fn() -> Quote,
    ) {
        let ix = rank
            .and_then(|r| self.by_rank.get(&(source, r)))
            .or_else(|| self.by_key.get(&(source, Some(pid?), None)))
            .copied();
        if let Some(s) = ix.and_then(|ix| self.list.get_mut(ix as usize)) {
            s.ended.get_or_insert_with(at);
        }
    }

    fn find(
        &mut self,
        source: SourceId,
        outer: Option<&Outer>,
        fact: &VllmFact,
        at: &dyn Fn() -> Quote,
    ) -> Option<u32> {
        // torch prints past vLLM's prefixes: its `[rankN]:` is all that tells whose line it is.
        if outer.is_none_or(|o| o.pid.is_none())
            && let Some(ix) = said_rank(outer, fact).and_then(|r| self.by_rank.get(&(source, r)))
        {
            return Some(*ix);
        }
        // The bar of the weights may have lost its prefix to the line before; torch's rank 0 alone draws it.
        if outer.is_none_or(|o| o.pid.is_none())
            && matches!(fact, VllmFact::Progress(p) if matches!(p.counted, Counted::Shards | Counted::Tensors))
            && let Some(ix) = self.by_rank.get(&(source, 0))
        {
            return Some(*ix);
        }
        let key = (
            source,
            outer.and_then(|o| o.pid),
            outer.and_then(|o| o.ip.clone()),
        );
        let known = self.by_key.get(&key).copied();
        if let Some(twins) = self.twins.get(&key) {
            let rank = own_rank(fact);
            let is = |ix: &u32| {
                let s = self.list.get(*ix as usize);
                s.is_some_and(|s| match rank {
                    Some(rank) => s.global_rank() == Some(rank),
                    None => s.may_wear(outer),
                })
            };
            let mut fit = twins.iter().copied().filter(is);
            match (fit.next(), fit.next()) {
                (Some(one), None) => return Some(one),
                (None, _) if rank.is_some() => {}
                _ => {
                    *self.unclear.entry(source).or_default() += 1;
                    return None;
                }
            }
        }
        // A process keeps its rank: another one under the same pid is another process, on another node.
        let other = known
            .and_then(|i| self.list.get(i as usize)?.rank_start.as_ref())
            .is_some_and(|(have, _)| match fact {
                VllmFact::RankStart(said) if key.1.is_some() => {
                    said.rank.is_some() && said.rank != have.rank && said.world == have.world
                }
                _ => false,
            });
        // The first words of a main process, after it had gone further: it lives again. So do those after it.
        let again = known
            .and_then(|i| self.list.get(i as usize))
            .is_some_and(|s| {
                (self.starts_over(s, fact) && at().text != s.first.text) || self.goes_back(s, fact)
            });
        if let (Some(i), false) = (known, again || other) {
            return Some(i);
        }
        let count = self.per_source.entry(source).or_default();
        if *count >= SPEAKERS_KEPT {
            return None;
        }
        *count += 1;
        let ix = u32::try_from(self.list.len()).ok()?;
        if other {
            let first = known;
            let twins = self.twins.entry(key.clone()).or_default();
            if twins.is_empty() {
                twins.extend(first);
            }
            twins.push(ix);
        }
        let incarnation = known
            .filter(|_| !other)
            .and_then(|i| self.list.get(i as usize))
            .map_or(1, |s| s.incarnation + 1);
        let prelude = known.filter(|_| again).and_then(|i| {
            let s = self.list.get_mut(i as usize)?;
            s.unsaid(s.last_line)
        });
        let first = prelude.as_ref().map_or_else(at, |p| p.line.clone());
        let mut next = Speaker::new(source, key.1, key.2.clone(), incarnation, first);
        if let Some(prelude) = prelude {
            next.say(prelude);
        }
        self.list.push(next);
        self.by_key.insert(key, ix);
        self.turn += 1;
        Some(ix)
    }
}

impl Speaker {
    fn new(
        source: SourceId,
        pid: Option<u64>,
        ip: Option<String>,
        incarnation: u32,
        first: Quote,
    ) -> Self {
        Self {
            source,
            pid,
            ip,
            relay: None,
            incarnation,
            label: None,
            first,
            last_at: None,
            last_line: 0,
            herald: None,
            engine: false,
            prelude: None,
            version: None,
            model: None,
            settings: Settings::default(),
            rank_start: None,
            ranks: None,
            stage: None,
            stages: BTreeMap::new(),
            progress: None,
            fetching: BTreeMap::new(),
            reading: false,
            moved: None,
            nccl: None,
            routes: Vec::new(),
            checkpoint_gib: None,
            model_gib: None,
            kv_gib: None,
            engine_ready: None,
            http_up: None,
            shutdown: None,
            ended: None,
            leader: None,
            head: None,
            gloo_loopback: None,
            ray_wait: None,
            idle_stats: 0,
            idle_since: None,
            faults: Vec::new(),
            faults_dropped: 0,
            torch: Vec::new(),
            stats: None,
            shm_waits: None,
            env: BTreeMap::new(),
            latest: Latest::default(),
            told: Told::default(),
        }
    }

    /// Kind of process by its label, or by what it said: whoever entered torch.distributed is a worker.
    #[must_use]
    pub fn kind(&self) -> Option<ProcKind> {
        self.label.as_ref().map(|(_, l)| l.kind)
    }

    /// Whether it is a rank: it entered torch.distributed, was assigned a rank, or is labelled a worker.
    #[must_use]
    pub fn is_rank(&self) -> bool {
        self.rank_start.is_some() || self.ranks.is_some() || self.kind() == Some(ProcKind::Worker)
    }

    /// Whether a line with this prefix may be its own: the label names nothing that is another's.
    fn may_wear(&self, outer: Option<&Outer>) -> bool {
        let label = outer
            .and_then(|o| o.label.as_deref())
            .and_then(Label::parse);
        let Some(label) = label.filter(|l| l.tp.is_some() || l.pp.is_some() || l.dp.is_some())
        else {
            return true;
        };
        match (&self.ranks, &self.rank_start) {
            (Some((r, _)), _) => {
                let same = |said: Option<u32>, own| said.is_none_or(|n| n == own);
                same(label.tp, r.tp) && same(label.pp, r.pp) && same(label.dp, r.dp)
            }
            // The last of the numbers that make a rank is that of tensor parallelism.
            (None, Some((start, _))) if label.pp.is_none() && label.dp.is_none() => {
                start.rank == label.tp
            }
            _ => true,
        }
    }

    /// Global rank: as printed, or as the old label `VllmWorker rank=N` numbers workers.
    #[must_use]
    pub fn global_rank(&self) -> Option<u32> {
        let label = || {
            self.label
                .as_ref()
                .filter(|(_, l)| l.kind == ProcKind::Worker)
                .and_then(|(_, l)| l.index)
        };
        self.ranks
            .as_ref()
            .map(|(r, _)| r.rank)
            .or_else(|| self.rank_start.as_ref()?.0.rank)
            .or_else(label)
    }
}

/// With what processes begin, or enter their job: where others did before, it may be another life.
fn opens(fact: &VllmFact) -> bool {
    matches!(
        fact,
        VllmFact::Version { .. }
            | VllmFact::Headless { .. }
            | VllmFact::Args(_)
            | VllmFact::Engine { .. }
            | VllmFact::RankStart(_)
    )
}

/// The global rank that a process says is its own.
fn own_rank(fact: &VllmFact) -> Option<u32> {
    match fact {
        VllmFact::RankStart(start) => start.rank,
        VllmFact::Assigned(ranks) => Some(ranks.rank),
        _ => None,
    }
}

/// The global rank that a line carries in place of a prefix.
fn said_rank(outer: Option<&Outer>, fact: &VllmFact) -> Option<u32> {
    outer.and_then(|o| o.rank).or_else(|| match fact {
        VllmFact::Torch(t) => t.rank(),
        VllmFact::Fault(f) => f.rank,
        _ => None,
    })
}
