//! What Ray's driver says of workers that it does not name.
//!
//! It shows the first of many lines that differ in nothing but their numbers, drops those that follow, and then
//! shows the newest of them with `[repeated Nx across cluster]`: N workers said so, one of them by name. What a
//! worker says once in its life is counted here, so that who is not named is not taken for silent.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::Quote;
use super::event::SourceId;
use super::speakers::Stage;
use crate::parse::vllm::VllmFact;

/// Engines kept.
const KEPT: usize = 4096;

/// What a worker says once in its life, in the order in which it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Once {
    /// It enters torch.distributed.
    Entered,
    /// It knows its place in the layout.
    Assigned,
    /// It begins to load.
    LoadBegun,
    /// It has read its weights.
    WeightsRead,
    /// Its model is in device memory.
    ModelLoaded,
    /// It has compiled.
    Compiled,
    /// It has sized its KV cache.
    KvSized,
    /// It has captured its graphs.
    GraphsCaptured,
}

impl Once {
    /// What a fact is, if it comes once in a worker's life.
    #[must_use]
    pub fn of(fact: &VllmFact) -> Option<Self> {
        Some(match fact {
            VllmFact::RankStart(_) => Self::Entered,
            VllmFact::Assigned(_) => Self::Assigned,
            VllmFact::LoadBegin { .. } => Self::LoadBegun,
            VllmFact::WeightsDone { .. } => Self::WeightsRead,
            VllmFact::ModelDone { .. } => Self::ModelLoaded,
            VllmFact::CompileDone { .. } => Self::Compiled,
            VllmFact::KvMemory { .. } => Self::KvSized,
            VllmFact::GraphsDone { .. } => Self::GraphsCaptured,
            _ => return None,
        })
    }

    /// The stage that it proves.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Entered => Stage::DistributedInit,
            Self::Assigned => Stage::NcclInit,
            Self::LoadBegun | Self::WeightsRead | Self::ModelLoaded => Stage::Weights,
            Self::Compiled => Stage::Compile,
            Self::KvSized => Stage::Profile,
            Self::GraphsCaptured => Stage::Graphs,
        }
    }

    /// What those who said it have done: `loaded the model`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Entered => "entered torch.distributed",
            Self::Assigned => "been assigned their place",
            Self::LoadBegun => "begun to load",
            Self::WeightsRead => "read their weights",
            Self::ModelLoaded => "loaded the model",
            Self::Compiled => "compiled",
            Self::KvSized => "sized the KV cache",
            Self::GraphsCaptured => "captured their graphs",
        }
    }
}

/// Whose workers they are: the source, the process that relays their lines and its life.
pub type Engine = (SourceId, Option<u64>, u32);

/// Who of an engine's workers said one thing, as far as they are named.
#[derive(Debug, Clone, Default)]
pub struct Crowd {
    /// Those who said it in a line of their own; indices of speakers.
    pub named: BTreeSet<u32>,
    /// Lines that stand for several: who is named in it, how many it stands for, that one among them, the line.
    pub folded: BTreeMap<u32, (u32, Quote)>,
}

impl Crowd {
    /// How many said it.
    #[must_use]
    pub fn said(&self) -> u32 {
        let alone = |who: &&u32| !self.folded.contains_key(*who);
        let alone = u32::try_from(self.named.iter().filter(alone).count()).unwrap_or(u32::MAX);
        let folded = self.folded.values().map(|(n, _)| *n);
        folded.fold(alone, u32::saturating_add)
    }

    /// Those of them who have a new index.
    fn of(&self, to: &BTreeMap<u32, u32>) -> Self {
        let folded = self.folded.iter();
        Self {
            named: self
                .named
                .iter()
                .filter_map(|ix| to.get(ix))
                .copied()
                .collect(),
            folded: folded
                .filter_map(|(ix, told)| Some((*to.get(ix)?, told.clone())))
                .collect(),
        }
    }

    /// How many of them have no name.
    #[must_use]
    pub fn unnamed(&self) -> u32 {
        let others = self.folded.values().map(|(n, _)| n.saturating_sub(1));
        others.fold(0, u32::saturating_add)
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Crowds {
    by_engine: BTreeMap<Engine, BTreeMap<Once, Crowd>>,
}

impl Crowds {
    /// The engines with lines that stand for several, and what was said in each.
    pub fn folded(&self) -> impl Iterator<Item = (&Engine, &BTreeMap<Once, Crowd>)> {
        let some = |said: &BTreeMap<Once, Crowd>| said.values().any(|c| !c.folded.is_empty());
        self.by_engine.iter().filter(move |(_, said)| some(said))
    }

    /// `who` said `what`; the line stands for `many` where that is not 0.
    pub(super) fn tell(
        &mut self,
        engine: Engine,
        what: Once,
        who: u32,
        (many, at): (u32, &dyn Fn() -> Quote),
    ) {
        if self.by_engine.len() >= KEPT && !self.by_engine.contains_key(&engine) {
            return;
        }
        let crowd = self.by_engine.entry(engine).or_default();
        let crowd = crowd.entry(what).or_default();
        crowd.named.insert(who);
        // Ray shows a worker's line through every actor around it: the same count once more is no more.
        if many > 0 {
            crowd.folded.entry(who).or_insert_with(|| (many, at()));
        }
    }

    /// Takes out what those said who go: by their old and their new index. The others get the new ones of theirs;
    /// in this source theirs is the first life from now on.
    pub(super) fn part(
        &mut self,
        source: SourceId,
        gone: &BTreeMap<u32, u32>,
        kept: &BTreeMap<u32, u32>,
    ) -> Self {
        let take = |to: &BTreeMap<u32, u32>, of: &Self| Self {
            by_engine: (of.by_engine.iter())
                .map(|(engine, said)| {
                    let said = said.iter().map(|(what, crowd)| (*what, crowd.of(to)));
                    let said: BTreeMap<_, _> = said.filter(|(_, c)| !c.named.is_empty()).collect();
                    (*engine, said)
                })
                .filter(|(_, said)| !said.is_empty())
                .collect(),
        };
        let out = take(gone, self);
        let rest = take(kept, self).by_engine.into_iter();
        self.by_engine = rest
            .map(|((of, relay, life), said)| {
                let life = if of == source { 1 } else { life };
                ((of, relay, life), said)
            })
            .collect();
        out
    }

    /// Takes over what others said, whose indices begin at `from` here.
    pub(super) fn absorb(&mut self, other: &Self, from: u32) {
        for (engine, said) in &other.by_engine {
            let here = self.by_engine.entry(*engine).or_default();
            for (what, crowd) in said {
                let all = here.entry(*what).or_default();
                all.named.extend(crowd.named.iter().map(|ix| ix + from));
                let folded = crowd.folded.iter();
                all.folded
                    .extend(folded.map(|(ix, told)| (ix + from, told.clone())));
            }
        }
    }
}
