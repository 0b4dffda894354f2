//! Runs that ended inside a log that goes on with another one: a shell loop, a supervisor, `>>`, `docker logs`.
//!
//! A container's lives come as a source each; here one source holds several. Where a new one is noticed, what the
//! processes before it said is put here as it is, and the rest of the model is about the present alone.

use std::collections::BTreeMap;

use super::edges::Quote;
use super::event::SourceId;
use super::procs::Procs;
use super::speakers::Speakers;
use crate::parse::At;

/// Lives kept per source: the newest ones. Who restarts all night tells nothing new each time.
const KEPT: usize = 3;

/// Where a new life begins in a source.
#[derive(Debug, Clone)]
pub struct Birth {
    /// Source.
    pub source: SourceId,
    /// Its first line.
    pub first: Quote,
    /// The line that proves it: what stands before it was folded when the life was not known yet.
    pub known_at: u64,
}

/// What was said in a source before a new life began there.
#[derive(Debug, Clone)]
pub struct Life {
    /// 1 for the first life of its source.
    pub number: u32,
    /// The first line of the life after it.
    pub next: Quote,
    /// Its last stamp.
    pub last_at: Option<At>,
    /// NCCL processes.
    pub procs: Procs,
    /// vLLM processes.
    pub speakers: Speakers,
}

#[derive(Debug, Clone, Default)]
struct Past {
    /// How many there were, those included that are not kept.
    count: u32,
    /// The newest ones, oldest first.
    kept: Vec<Life>,
}

/// The former lives of all sources.
#[derive(Debug, Clone, Default)]
pub struct Lives {
    by_source: BTreeMap<SourceId, Past>,
    /// Raised by every change.
    pub rev: u64,
}

impl Lives {
    /// How many lives of a source are over.
    #[must_use]
    pub fn before(&self, source: SourceId) -> u32 {
        self.by_source.get(&source).map_or(0, |past| past.count)
    }

    /// The lives that are kept: source, how many lives ago it was, the life; the last one of a source is 1 life ago.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, u32, &Life)> {
        self.by_source.iter().flat_map(|(source, past)| {
            let ago = |life: &Life| (past.count + 1).saturating_sub(life.number);
            past.kept.iter().map(move |life| (*source, ago(life), life))
        })
    }

    /// What the vLLM processes of a source had said when a new life began.
    pub(super) fn end(&mut self, birth: Birth, speakers: Speakers) {
        let past = self.by_source.entry(birth.source).or_default();
        past.count += 1;
        past.kept.push(Life {
            number: past.count,
            next: birth.first,
            last_at: speakers.list.iter().filter_map(|s| s.last_at).max(),
            procs: Procs::default(),
            speakers,
        });
        if past.kept.len() > KEPT {
            past.kept.remove(0);
        }
        self.rev += 1;
    }

    /// What NCCL processes of a source had said. Those of the last life come after what its vLLM said; where nobody
    /// speaks but NCCL, processes are replaced one after the other, and those that began before the last new life
    /// did were of the same run.
    pub(super) fn end_nccl(&mut self, birth: Birth, procs: Procs) {
        let began = procs.list.iter().map(|p| p.first_line).min().unwrap_or(0);
        let past = self.by_source.entry(birth.source).or_default();
        let of_birth = |life: &&mut Life| life.next.line == birth.first.line;
        let known = match past.kept.iter_mut().find(of_birth) {
            None => past.kept.last_mut().filter(|life| began < life.next.line),
            found => found,
        };
        let last_at = procs.list.iter().filter_map(|p| p.last_at).max();
        match known {
            Some(life) => {
                life.last_at = life.last_at.max(last_at);
                life.procs.absorb(procs);
            }
            None => {
                past.count += 1;
                past.kept.push(Life {
                    number: past.count,
                    next: birth.first,
                    last_at,
                    procs,
                    speakers: Speakers::default(),
                });
                if past.kept.len() > KEPT {
                    past.kept.remove(0);
                }
            }
        }
        self.rev += 1;
    }
}

/// The new index of what stays; says whether it does.
pub(super) fn moved(ix: &mut u32, to: &BTreeMap<u32, u32>) -> bool {
    match to.get(ix) {
        Some(new) => {
            *ix = *new;
            true
        }
        None => false,
    }
}
