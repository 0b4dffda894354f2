//! The one door to everything that is more than looking.
//!
//! Three levels: *observe* (get, list, watch, log) needs no door. *Probe* (an exec that only reads, a GET through
//! the API server's proxy) is asked once per context and budgeted per pod and minute. *Act* (creating or deleting
//! an object, a POST to the served model, GPU work in a workload's pod) is asked each time. Where nobody can
//! answer, asking means no. A lock (`--read-only`) can't be undone.
//!
//! Decisions are pure: the clock comes with the question. What does the work takes a [`Permit`], which only the
//! gate can make, so nothing gets past it by accident.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::{Level, PodKey};
use crate::parse::Nanos;

const MINUTE: Nanos = 60 * 1_000_000_000;
/// Entries of the record kept.
const RECORD: usize = 10_000;

/// What the configuration says of probes: `probes: never|ask|always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(clap::ValueEnum)]
pub enum Policy {
    /// No probe, no question.
    Never,
    /// Asked once per context.
    #[default]
    Ask,
    /// Allowed without a question.
    Always,
}

/// How the gate is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Probes.
    pub probes: Policy,
    /// Somebody sits at a terminal and can answer.
    pub attended: bool,
    /// `--read-only`.
    pub locked: bool,
    /// Probes a pod and minute; one that stays, like a sampler, counts once.
    pub per_minute: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            probes: Policy::Ask,
            attended: true,
            locked: false,
            per_minute: 12,
        }
    }
}

/// Something that is more than looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A command that only reads, run in a container.
    Exec {
        /// Where.
        pod: PodKey,
        /// Container.
        container: String,
        /// The command, as a person would type it.
        command: String,
    },
    /// A GET through the API server's proxy.
    ProxyGet {
        /// Where.
        pod: PodKey,
        /// Port and path.
        path: String,
    },
    /// GPU work or anything else that is felt, run in a workload's pod.
    Work {
        /// Where.
        pod: PodKey,
        /// The command.
        command: String,
    },
    /// A request to the served model.
    Post {
        /// Where.
        pod: PodKey,
        /// Port and path.
        path: String,
    },
    /// Creating objects: shown whole before it is asked.
    Create {
        /// `job/prod/ncclscope-x`, one per object.
        objects: Vec<String>,
    },
    /// Deleting an object that we did not create.
    Delete {
        /// `job/prod/x`.
        object: String,
    },
    /// Deleting what we created. Always goes: we clean up behind us, whatever happens.
    CleanUp {
        /// `job/prod/ncclscope-x`.
        object: String,
    },
}

impl Action {
    /// The level it needs.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Exec { .. } | Self::ProxyGet { .. } => Level::Probe,
            Self::Work { .. } | Self::Post { .. } | Self::Create { .. } | Self::Delete { .. } => {
                Level::Act
            }
            Self::CleanUp { .. } => Level::Observe,
        }
    }

    /// The pod it touches.
    #[must_use]
    pub fn pod(&self) -> Option<&PodKey> {
        match self {
            Self::Exec { pod, .. }
            | Self::ProxyGet { pod, .. }
            | Self::Work { pod, .. }
            | Self::Post { pod, .. } => Some(pod),
            Self::Create { .. } | Self::Delete { .. } | Self::CleanUp { .. } => None,
        }
    }

    /// What it does, in words for the question and the record.
    #[must_use]
    pub fn text(&self) -> String {
        let at = |p: &PodKey| format!("{}/{}", p.namespace, p.name);
        match self {
            Self::Exec {
                pod,
                container,
                command,
            } => format!("run `{command}` in {}/{container}", at(pod)),
            Self::ProxyGet { pod, path } => format!("GET {path} of {}", at(pod)),
            Self::Work { pod, command } => format!("run `{command}` on the GPUs of {}", at(pod)),
            Self::Post { pod, path } => format!("POST {path} to {}", at(pod)),
            Self::Create { objects } => format!("create {}", objects.join(", ")),
            Self::Delete { object } | Self::CleanUp { object } => format!("delete {object}"),
        }
    }
}

/// Leave to do one thing. Only the gate makes it, and it is used up by doing.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    number: u64,
    action: Action,
}

impl Permit {
    /// What may be done.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `--read-only`.
    #[error("locked: --read-only allows looking and nothing else")]
    Locked,
    /// `probes: never`.
    #[error("probes are switched off (probes: never)")]
    Never,
    /// Nobody can answer.
    #[error("nobody can be asked here: set probes: always to allow probes")]
    Unattended,
    /// Acts are never done unasked.
    #[error("nobody can be asked here, and this is never done unasked")]
    UnattendedAct,
    /// Somebody said no.
    #[error("declined")]
    Declined,
    /// The question was taken back.
    #[error("not asked any more: something else is on screen")]
    Withdrawn,
    /// Over the budget.
    #[error("{per_minute} probes a minute in one pod are the limit: again in {in_seconds} s")]
    Budget {
        /// The limit.
        per_minute: u32,
        /// When there is room again.
        in_seconds: u32,
    },
}

/// What the gate says.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Go(Permit),
    /// Ask; the answer goes to [`Gate::answer`].
    Ask(Question),
    /// Do not.
    No(Refusal),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Names it in the answer.
    pub number: u64,
    /// The level that is asked for.
    pub level: Level,
    /// A sentence that ends with a question mark.
    pub text: String,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Waits for an answer.
    Asked,
    /// Refused.
    Refused(Refusal),
    /// Allowed; not finished.
    Allowed,
    /// Finished, with what came of it.
    Done(String),
}

/// One line of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, rising.
    pub number: u64,
    /// When it was asked for, nanoseconds since the Unix epoch.
    pub at: Nanos,
    /// What.
    pub action: Action,
    /// What became of it.
    pub outcome: Outcome,
}

/// The gate of one context. Another context has another one: leave is not carried over.
#[derive(Debug, Default)]
pub struct Gate {
    setup: Setup,
    /// The answer about probes, once given.
    probes: Option<bool>,
    next: u64,
    /// Starts of probes in the last minute, per pod.
    spent: BTreeMap<PodKey, VecDeque<Nanos>>,
    record: VecDeque<Entry>,
}

impl Gate {
    /// A gate.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            ..Self::default()
        }
    }

    /// Locks it. There is no way back.
    pub fn lock(&mut self) {
        self.setup.locked = true;
    }

    /// It is locked.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.setup.locked
    }

    /// The level in force, for the header. Acting is never in force: each act is asked.
    #[must_use]
    pub fn level(&self) -> Level {
        let probes = match self.setup.probes {
            Policy::Always => true,
            Policy::Ask => self.probes == Some(true),
            Policy::Never => false,
        };
        if probes && !self.setup.locked {
            Level::Probe
        } else {
            Level::Observe
        }
    }

    /// Takes back a no to probes: the next one is asked again.
    pub fn reconsider(&mut self) {
        self.probes = self.probes.filter(|yes| *yes);
    }

    /// May this be done now?
    pub fn ask(&mut self, action: Action, now: Nanos) -> Decision {
        let number = self.next;
        self.next += 1;
        let verdict = self.judge(&action, now);
        let outcome = match &verdict {
            Verdict::Go => Outcome::Allowed,
            Verdict::Ask => Outcome::Asked,
            Verdict::No(r) => Outcome::Refused(r.clone()),
        };
        if self.record.len() >= RECORD {
            self.record.pop_front();
        }
        self.record.push_back(Entry {
            number,
            at: now,
            action: action.clone(),
            outcome,
        });
        match verdict {
            Verdict::Go => {
                self.spend(&action, now);
                Decision::Go(Permit { number, action })
            }
            Verdict::Ask => {
                let text = match action.level() {
                    Level::Probe => format!(
                        "Allow probes in this context, starting with: {}? They only read.",
                        action.text()
                    ),
                    Level::Observe | Level::Act => format!("{}?", capital(&action.text())),
                };
                Decision::Ask(Question {
                    number,
                    level: action.level(),
                    text,
                })
            }
            Verdict::No(r) => Decision::No(r),
        }
    }

    /// Takes the answer to a question; gives leave if it is yes and nothing forbids it by now.
    pub fn answer(&mut self, number: u64, yes: bool, now: Nanos) -> Result<Permit, Refusal> {
        let asked = self
            .record
            .iter()
            .find(|e| e.number == number && e.outcome == Outcome::Asked);
        let Some(action) = asked.map(|e| e.action.clone()) else {
            return Err(Refusal::Declined);
        };
        if action.level() == Level::Probe {
            self.probes = Some(yes);
        }
        let refusal = match (yes, self.judge(&action, now)) {
            _ if self.setup.locked => Some(Refusal::Locked),
            (false, _) => Some(Refusal::Declined),
            (true, Verdict::No(r)) => Some(r),
            (true, Verdict::Go | Verdict::Ask) => None,
        };
        if let Some(r) = refusal {
            self.note(number, Outcome::Refused(r.clone()));
            return Err(r);
        }
        self.spend(&action, now);
        self.note(number, Outcome::Allowed);
        Ok(Permit { number, action })
    }

    /// Takes a question back; an answer to it gives no leave any more.
    pub fn withdraw(&mut self, number: u64) {
        self.note(number, Outcome::Refused(Refusal::Withdrawn));
    }

    /// Writes down what came of it.
    pub fn done(&mut self, permit: &Permit, outcome: &str) {
        self.note(permit.number, Outcome::Done(outcome.into()));
    }

    /// What was asked for and what became of it, oldest first.
    pub fn record(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.record.iter()
    }

    fn note(&mut self, number: u64, outcome: Outcome) {
        if let Some(e) = self.record.iter_mut().rev().find(|e| e.number == number) {
            e.outcome = outcome;
        }
    }

    fn judge(&self, action: &Action, now: Nanos) -> Verdict {
        let level = action.level();
        if level == Level::Observe {
            return Verdict::Go;
        }
        if self.setup.locked {
            return Verdict::No(Refusal::Locked);
        }
        if level == Level::Act {
            return if self.setup.attended {
                Verdict::Ask
            } else {
                Verdict::No(Refusal::UnattendedAct)
            };
        }
        let allowed = match (self.setup.probes, self.probes) {
            (Policy::Never, _) => return Verdict::No(Refusal::Never),
            (Policy::Always, _) | (Policy::Ask, Some(true)) => true,
            (Policy::Ask, Some(false)) => return Verdict::No(Refusal::Declined),
            (Policy::Ask, None) if !self.setup.attended => return Verdict::No(Refusal::Unattended),
            (Policy::Ask, None) => false,
        };
        if let Some(r) = self.over_budget(action, now) {
            return Verdict::No(r);
        }
        if allowed { Verdict::Go } else { Verdict::Ask }
    }

    fn over_budget(&self, action: &Action, now: Nanos) -> Option<Refusal> {
        let starts = self.spent.get(action.pod()?)?;
        let recent: Vec<_> = starts.iter().filter(|t| now - **t < MINUTE).collect();
        let per_minute = self.setup.per_minute;
        if recent.len() < usize::try_from(per_minute).unwrap_or(usize::MAX) {
            return None;
        }
        let oldest = recent.first().map_or(now, |t| **t);
        let left = (oldest + MINUTE - now).max(0);
        let in_seconds = u32::try_from(left.div_euclid(1_000_000_000) + 1).unwrap_or(60);
        Some(Refusal::Budget {
            per_minute,
            in_seconds,
        })
    }

    fn spend(&mut self, action: &Action, now: Nanos) {
        if action.level() != Level::Probe {
            return;
        }
        if let Some(pod) = action.pod() {
            let starts = self.spent.entry(pod.clone()).or_default();
            starts.retain(|t| now - *t < MINUTE);
            starts.push_back(now);
        }
    }
}

enum Verdict {
    Go,
    Ask,
    No(Refusal),
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
