//! A job that begins anew inside one log: when that is sure, and what was said before it.
//!
//! The first words of a main process may be another server's, another pod's or said twice. They alone prove
//! nothing: a new life is sure where the processes before it have said no more since, where the clock of the log has
//! not gone back, where both would have listened on one port, and where the one before is known to have ended or
//! one that can be there only once (an engine, a rank) is there again.

use std::collections::BTreeMap;

use super::{Key, Speaker, Speakers, Stage, stage_of};
use crate::model::edges::Quote;
use crate::model::event::SourceId;
use crate::model::lives::{Birth, moved};
use crate::parse::At;
use crate::parse::vllm::{FaultKind, ProcKind, VllmFact};

/// Stamps in the headers of lines are cut to the second, and whoever writes them may write them late.
const SLACK: i64 = 2_000_000_000;

/// First words of a main process that nothing proves yet to be those of a new life.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// Who said them.
    by: u32,
    /// The line.
    first: Quote,
}

/// Where a process named its platform, and how it stood before it did.
#[derive(Debug, Clone)]
pub struct Prelude {
    /// The line.
    pub line: Quote,
    /// The last line before it.
    last_line: u64,
    /// The last stamp before it.
    last_at: Option<At>,
}

impl Prelude {
    pub(super) fn of(s: &Speaker, line: Quote) -> Self {
        Self {
            line,
            last_line: s.last_line,
            last_at: s.last_at,
        }
    }
}

/// By which words a process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Herald {
    /// A server: its version.
    Server,
    /// A node without a server.
    Node,
    /// An engine.
    Engine,
}

impl Herald {
    pub(super) fn of(fact: &VllmFact) -> Option<Self> {
        match fact {
            VllmFact::Version { .. } => Some(Self::Server),
            VllmFact::Headless { .. } => Some(Self::Node),
            VllmFact::Engine { .. } => Some(Self::Engine),
            _ => None,
        }
    }
}

impl Speaker {
    /// Proof that its job came to an end, whoever's doing that was.
    fn is_over(&self) -> bool {
        let fatal = |kind: &FaultKind| {
            !matches!(kind, FaultKind::HubRetry { .. } | FaultKind::ChatTemplate)
        };
        self.ended.is_some()
            || self.shutdown.is_some()
            || self.faults.iter().any(|(fault, _)| fatal(&fault.kind))
    }

    /// By which words it began.
    fn words(&self) -> Option<Herald> {
        self.herald.map(|(words, _)| words)
    }

    /// What it said of its platform at `from` or behind it was another process's of the same prefix: takes it back.
    pub(super) fn unsaid(&mut self, from: u64) -> Option<Prelude> {
        let prelude = self.prelude.take_if(|p| p.line.line >= from)?;
        (self.last_line, self.last_at) = (prelude.last_line, prelude.last_at);
        Some(prelude)
    }

    /// Says that instead.
    pub(super) fn say(&mut self, prelude: Prelude) {
        let (at, line) = (prelude.line.at, prelude.line.line);
        let said = || prelude.line.clone();
        let fact = VllmFact::Platform(Some(String::new()));
        self.apply(&fact, None, at, (&said, None));
        self.last_line = line;
    }

    /// Whether both would be the same part of a job.
    fn is_like(&self, other: &Self) -> bool {
        let part = |s: &Self| {
            s.label
                .as_ref()
                .map(|(_, l)| (l.kind, l.index, l.dp.unwrap_or(0)))
        };
        part(self) == part(other)
    }
}

impl Speakers {
    /// Whether these first words are said by a process that the known one of the same prefix can't be: it had gone
    /// on, or others had spoken since.
    pub(super) fn starts_over(&self, known: &Speaker, fact: &VllmFact) -> bool {
        let far = || {
            known
                .stage
                .as_ref()
                .is_some_and(|(st, _)| *st >= Stage::DistributedInit)
        };
        match Herald::of(fact) {
            None => false,
            Some(Herald::Engine) => far(),
            // A process prints them once, whatever others of its stream print.
            Some(herald) => {
                let others = || {
                    let mut there = self.list.iter().filter(|s| s.source == known.source);
                    there.any(|s| s.first.line > known.first.line)
                };
                known.words() == Some(herald) && (far() || known.is_over() || others())
            }
        }
    }

    /// Whether a line is another process's than that which had its prefix before somebody began anew: it goes back
    /// to where processes begin.
    pub(super) fn goes_back(&self, known: &Speaker, fact: &VllmFact) -> bool {
        let Some(claim) = self.claims.get(&known.source) else {
            return false;
        };
        let early = stage_of(fact).filter(|stage| *stage <= Stage::NcclInit);
        known.first.line < claim.first.line
            && early.is_some_and(|stage| {
                known.is_over() || known.stage.as_ref().is_some_and(|(have, _)| stage <= *have)
            })
    }

    /// Looks at what one that has just spoken said: the new life that is sure from this line on.
    pub(super) fn begins(&mut self, ix: u32, fact: &VllmFact, line: u64) -> Option<Birth> {
        let s = self.list.get(ix as usize)?;
        let source = s.source;
        // An engine core's are those of a new life only where no server is heard: there it would have spoken first.
        let main = |s: &Speaker| matches!(s.words(), Some(Herald::Server | Herald::Node));
        let headless = || !self.list.iter().any(|s| s.source == source && main(s));
        let core = || s.kind() == Some(ProcKind::EngineCore) && headless();
        if s.herald.is_some_and(|(_, at)| at == line) && (main(s) || core()) {
            let from = s.first.line;
            let before = |s: &Speaker| s.source == source && s.first.line < from;
            if self.list.iter().any(before) {
                self.claim(ix);
            }
        }
        let claim = self.claims.get(&source)?;
        if !matches!(
            fact,
            VllmFact::Args(_)
                | VllmFact::Engine { .. }
                | VllmFact::Headless { .. }
                | VllmFact::RankStart(_)
        ) {
            return None;
        }
        let s = self.list.get(ix as usize)?;
        let main = self.list.get(claim.by as usize)?;
        let from = claim.first.line;
        let here = || self.list.iter().filter(|s| s.source == source);
        let older = || here().filter(|s| s.first.line < from);
        if s.first.line < from {
            return None;
        }
        let late = || {
            let last = older().filter_map(|s| s.last_at).filter(|at| {
                let began = claim.first.at.or(main.last_at);
                began.is_some_and(|began| began.exact == at.exact && at.ns > began.ns + SLACK)
            });
            last.count() > 0
        };
        let was = older().rfind(|s| s.words() == main.words() && s.is_like(main));
        // Two servers that live side by side listen on two ports.
        let elsewhere =
            was.is_some_and(|was| was.settings.get("port") != main.settings.get("port"));
        if older().any(|s| s.last_line >= from) || late() || elsewhere {
            self.claims.remove(&source);
            return None;
        }
        let twice = || match fact {
            VllmFact::Engine { .. } if claim.by != ix || s.pid.is_none() => {
                let engine = |s: &Speaker| s.engine;
                let mut engines = older().filter(|o| engine(o)).peekable();
                // One that died before it made any is known by its own first words.
                (was.is_some() && engines.peek().is_none()) || engines.any(|o| o.is_like(s))
            }
            VllmFact::RankStart(start) => older().any(|o| {
                let had = o.rank_start.as_ref().map(|(had, _)| (had.rank, had.world));
                start.rank.is_some() && had == Some((start.rank, start.world))
            }),
            _ => false,
        };
        let sure = (was.is_some() && older().any(Speaker::is_over)) || twice();
        if !sure {
            return None;
        }
        // Python says what it runs on before a server says its name.
        let spoke = older().filter(|s| s.pid.is_some() || s.prelude.is_none());
        let last = spoke.map(|s| s.last_line).max().unwrap_or(0);
        let before = older().filter_map(|s| Some(&s.prelude.as_ref()?.line));
        let before = before.filter(|q| q.line > last).min_by_key(|q| q.line);
        let first = before.unwrap_or(&claim.first).clone();
        self.claims.remove(&source);
        Some(Birth {
            source,
            first,
            known_at: line,
        })
    }

    /// Whether any of them speaks in a source.
    #[must_use]
    pub fn are_in(&self, source: SourceId) -> bool {
        self.per_source.get(&source).is_some_and(|n| *n > 0)
    }

    /// Somebody's first words, after others had spoken: they may be those of a new life.
    fn claim(&mut self, ix: u32) {
        let Some(s) = self.list.get(ix as usize) else {
            return;
        };
        let (source, first) = (s.source, s.first.clone());
        let spoken = |claim: &Claim| {
            let mut here = self.list.iter().filter(|s| s.source == source);
            here.any(|o| o.first.line < claim.first.line && o.last_line > claim.first.line)
        };
        let again = |claim: &Claim| {
            let by = self.list.get(claim.by as usize);
            by.is_none_or(|by| by.is_like(s) && by.words() == s.words())
        };
        // Several servers of one job begin one after the other: the first of them counts.
        let goes_on = self
            .claims
            .get(&source)
            .is_some_and(|c| !again(c) && !spoken(c));
        if !goes_on {
            self.claims.insert(source, Claim { by: ix, first });
        }
    }

    /// Takes out who spoke in a source before a line.
    pub(super) fn part(&mut self, source: SourceId, line: u64) -> Self {
        let mut gone = Self::default();
        let mut kept = Vec::new();
        let (mut to_gone, mut to_kept) = (BTreeMap::new(), BTreeMap::new());
        for (old, mut s) in (0_u32..).zip(std::mem::take(&mut self.list)) {
            let number = |list: &Vec<Speaker>| u32::try_from(list.len()).unwrap_or(u32::MAX);
            if s.source == source && s.first.line < line {
                to_gone.insert(old, number(&gone.list));
                gone.list.push(s);
            } else {
                to_kept.insert(old, number(&kept));
                if s.source == source {
                    s.incarnation = 1;
                }
                kept.push(s);
            }
        }
        self.list = kept;
        self.turn += 1;
        // What a process without a name has said since, it said in this life.
        let none: Key = (source, None, None);
        let unnamed = self
            .by_key
            .get(&none)
            .and_then(|ix| to_gone.get(ix))
            .copied();
        gone.crowds = self.crowds.part(source, &to_gone, &to_kept);
        self.by_key.retain(|_, ix| moved(ix, &to_kept));
        self.by_rank.retain(|_, ix| moved(ix, &to_kept));
        self.twins.retain(|_, list| {
            list.retain_mut(|ix| moved(ix, &to_kept));
            list.len() > 1
        });
        for claim in self.claims.values_mut() {
            moved(&mut claim.by, &to_kept);
        }
        if let Some(lines) = self.unclear.remove(&source) {
            gone.unclear.insert(source, lines);
        }
        let unnamed = unnamed.and_then(|ix| gone.list.get_mut(ix as usize));
        if let Some(prelude) = unnamed.and_then(|s| s.unsaid(line)) {
            let ix = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
            let mut s = Speaker::new(source, None, None, 1, prelude.line.clone());
            s.say(prelude);
            self.list.push(s);
            self.by_key.insert(none, ix);
        }
        let left = self.list.iter().filter(|s| s.source == source).count();
        self.per_source.insert(source, left);
        gone
    }

    /// Takes over another's, who spoke in other sources.
    pub(crate) fn absorb(&mut self, other: &Self) {
        let from = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.extend(other.list.iter().cloned());
        self.crowds.absorb(&other.crowds, from);
        for (source, lines) in &other.unclear {
            *self.unclear.entry(*source).or_default() += lines;
        }
    }
}
