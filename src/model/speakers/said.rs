//! What one vLLM process says, line by line.

use super::lives::{Herald, Prelude};
use super::stage::{reads_weights, stage_in};
use super::{FAULTS_KEPT, FETCHES_KEPT, Speaker, Stage};
use crate::model::edges::Quote;
use crate::model::procs::quote;
use crate::parse::fact::Fact;
use crate::parse::vllm::{Counted, FaultKind, Label, Phase, Progress, Settings, Torch, VllmFact};
use crate::parse::{At, Block, Outer, Rec};

impl Speaker {
    pub(super) fn apply(
        &mut self,
        fact: &VllmFact,
        outer: Option<&Outer>,
        at: Option<At>,
        (q, number): (&dyn Fn() -> Quote, Option<u32>),
    ) {
        if let VllmFact::Platform(Some(_)) = fact {
            self.prelude = Some(Prelude::of(self, q()));
        }
        self.last_at = at.or(self.last_at);
        self.herald = (self.herald).or_else(|| Some((Herald::of(fact)?, q().line)));
        self.engine |= matches!(fact, VllmFact::Engine { .. });
        self.relay = self.relay.or(outer.and_then(|o| o.relay));
        if let Some(text) = outer.and_then(|o| o.label.as_deref())
            && self
                .label
                .as_ref()
                .is_none_or(|(have, _)| text.len() > have.len())
            && let Some(label) = Label::parse(text)
        {
            self.label = Some((text.to_owned(), label));
        }
        let phase = fact.phase();
        if let Some((phase, edge)) = phase
            && phase < Phase::Hang
        {
            self.moved = Some((phase, edge, at));
        }
        let stage = stage_in(fact, phase.map(|(phase, _)| phase));
        if let Some(stage) = stage {
            // Where it stands it came before.
            if self.stage.as_ref().is_none_or(|(have, _)| *have != stage) {
                self.stages.entry(stage).or_insert_with(q);
            }
            self.reading |= reads_weights(fact);
            // The load is announced before it is known whether files must be fetched first.
            let fetches = stage == Stage::Download
                && !self.reading
                && matches!(self.stage, Some((Stage::Weights, _)));
            if fetches || self.stage.as_ref().is_none_or(|(have, _)| *have < stage) {
                self.stage = Some((stage, q()));
                (self.progress, self.latest.progress) = (None, None);
            }
        }
        match fact {
            VllmFact::Version { version, model } => {
                self.version.get_or_insert_with(|| version.clone());
                self.model = self.model.take().or_else(|| model.clone());
            }
            VllmFact::Model(model) | VllmFact::LoadBegin { model: Some(model) } => {
                self.model.get_or_insert_with(|| model.clone());
            }
            VllmFact::Args(settings) => self.settle(settings),
            VllmFact::Engine {
                version, config, ..
            } => {
                self.version.get_or_insert_with(|| version.clone());
                self.settle(config);
            }
            VllmFact::Headless { version, head, .. } => {
                self.version = self.version.take().or_else(|| version.clone());
                self.head.get_or_insert_with(|| (head.clone(), q()));
            }
            VllmFact::Leader(leader) => {
                self.leader.get_or_insert_with(|| (leader.clone(), q()));
            }
            VllmFact::GlooLoopback => {
                self.gloo_loopback.get_or_insert_with(q);
            }
            VllmFact::RayWaiting {
                seconds, bundles, ..
            } => self.ray_wait = Some((*seconds, *bundles, q())),
            VllmFact::RankStart(start) if self.rank_start.is_none() => {
                self.rank_start = Some((start.clone(), q()));
            }
            VllmFact::Assigned(ranks) if self.ranks.is_none() => {
                self.ranks = Some((*ranks, q()));
            }
            VllmFact::Pynccl { version } => {
                self.nccl.get_or_insert_with(|| version.clone());
            }
            VllmFact::Route(route)
                if self.routes.len() < 32 && !self.routes.iter().any(|(r, _)| r == route) =>
            {
                self.routes.push((route.clone(), q()));
            }
            VllmFact::Progress(p) if stage == self.stage.as_ref().map(|(s, _)| *s) => {
                self.fetch(p);
                self.latest.progress = number;
                if number.is_none() {
                    self.progress = Some((self.fetched(p), q()));
                }
            }
            VllmFact::Checkpoint { gib, .. } => self.checkpoint_gib = Some(*gib),
            VllmFact::ModelDone { gib, .. } => self.model_gib = Some(*gib),
            VllmFact::KvMemory { gib } => self.kv_gib = Some(*gib),
            VllmFact::EngineReady { .. } => {
                self.engine_ready.get_or_insert_with(q);
            }
            VllmFact::HttpUp => {
                self.http_up.get_or_insert_with(q);
            }
            VllmFact::Shutdown { what } if self.shutdown.is_none() => {
                self.shutdown = Some((what.clone(), q()));
            }
            VllmFact::Stats(stats) => {
                let still =
                    stats.running > 0 && stats.prompt_tps == 0.0 && stats.generation_tps == 0.0;
                if still {
                    self.idle_stats = self.idle_stats.saturating_add(1);
                    self.idle_since.get_or_insert_with(q);
                } else {
                    (self.idle_stats, self.idle_since) = (0, None);
                }
                self.latest.stats = number;
                if number.is_none() {
                    self.stats = Some((*stats, q()));
                }
            }
            VllmFact::ShmWait { seconds } => {
                let n = self.shm_waits.as_ref().map_or(0, |(n, _, _)| *n);
                self.shm_waits = Some((n + 1, *seconds, q()));
            }
            VllmFact::Env { name, value } if self.env.len() < 256 => {
                self.env
                    .entry(name.clone())
                    .or_insert_with(|| (value.clone(), q()));
            }
            VllmFact::Fault(fault) => {
                // Its own crash or refusal to start is its end; what it says of others is not.
                if matches!(
                    fault.kind,
                    FaultKind::Crash { .. }
                        | FaultKind::WorkerStart
                        | FaultKind::EngineStart { failed: None }
                ) {
                    self.ended.get_or_insert_with(q);
                }
                if self.faults.len() < FAULTS_KEPT {
                    if !self.faults.iter().any(|(f, _)| f == &**fault) {
                        self.faults.push(((**fault).clone(), q()));
                    }
                } else {
                    self.faults_dropped += 1;
                }
            }
            VllmFact::Torch(t) => {
                if matches!(t, Torch::Killed { .. }) {
                    self.ended.get_or_insert_with(q);
                }
                if self.torch.len() < FAULTS_KEPT && !self.torch.iter().any(|(have, _)| have == t) {
                    self.torch.push((t.clone(), q()));
                }
            }
            _ => {}
        }
    }

    /// Writes down the newest of what it tells over and over.
    pub(super) fn spell(&mut self, block: &Block) {
        let latest = std::mem::take(&mut self.latest);
        let rec = |number: Option<u32>| block.recs.get(number? as usize);
        if let Some(rec) = rec(latest.progress)
            && let Fact::Vllm(VllmFact::Progress(p)) = &rec.fact
        {
            self.progress = Some((self.fetched(p), quote_line(block, rec)));
        }
        if let Some(rec) = rec(latest.stats)
            && let Fact::Vllm(VllmFact::Stats(stats)) = &rec.fact
        {
            self.stats = Some((*stats, quote_line(block, rec)));
        }
    }

    /// A file is being fetched.
    fn fetch(&mut self, p: &Progress) {
        if p.counted == Counted::Bytes
            && (self.fetching.len() < FETCHES_KEPT || self.fetching.contains_key(&p.what))
        {
            self.fetching.insert(p.what.clone(), (p.done, p.total));
        }
    }

    /// Several files are fetched at once, each with a bar: what counts is all of them together.
    fn fetched(&self, p: &Progress) -> Progress {
        if p.counted != Counted::Bytes {
            return p.clone();
        }
        let sum = |part: fn(&(u64, u64)) -> u64| {
            self.fetching
                .values()
                .map(part)
                .fold(0, u64::saturating_add)
        };
        let alone = self.fetching.len() == 1;
        Progress {
            done: sum(|f| f.0),
            total: sum(|f| f.1),
            elapsed_s: p.elapsed_s.filter(|_| alone),
            remaining_s: p.remaining_s.filter(|_| alone),
            rate: p.rate.filter(|_| alone),
            ..p.clone()
        }
    }

    fn settle(&mut self, settings: &Settings) {
        for (name, value) in &settings.pairs {
            if !self
                .settings
                .pairs
                .iter()
                .any(|p| p.0 == *name && p.1 == *value)
                && self.settings.pairs.len() < 256
            {
                self.settings.pairs.push((name, value.clone()));
            }
        }
        if let Some(model) = settings.get("model") {
            self.model.get_or_insert_with(|| model.to_owned());
        }
    }
}

/// The place of a fact, with the text of the first one in its line: a bar that redraws itself stands there often.
fn quote_line(block: &Block, rec: &Rec) -> Quote {
    let from = block.recs.partition_point(|r| r.line < rec.line);
    let mut there = block.recs.iter().skip(from);
    let first = there.find(|r| r.line == rec.line && matches!(r.fact, Fact::Vllm(_)));
    Quote {
        at: rec.at,
        ..quote(block, first.unwrap_or(rec))
    }
}
