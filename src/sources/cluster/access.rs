//! What works inside pods beside watching them goes through here: leave is asked, waited for and accounted.
//!
//! One [`Desk`] a context owns the [`Gate`] and the questions that wait for an answer; each workload on screen has
//! its own [`Access`], which ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::exec::{self, ExecSpec, Shells, Sink};
use super::trouble::{Kind, Trouble};
use crate::model::event::{
    ContainerKey, Event, Level, PodKey, PodView, ProbeEvent, ProbeOutcome, Question, SourceId,
    WorkloadView,
};
use crate::model::probes::Probes;
use crate::parse::Nanos;
use crate::sources::gate::{Action, Decision, Gate, Permit, Refusal, Setup};
use crate::sources::podlogs::SourceIds;

/// Commands that run and are waited for at one time. What lasts, like a sampler, does not count.
const AT_ONCE: usize = 8;

/// What is watched at the moment, for those who work on it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The workload, once it is known.
    pub workload: Option<WorkloadView>,
    /// Its pods.
    pub pods: BTreeMap<PodKey, Arc<PodView>>,
    /// The first list of pods is whole.
    pub synced: bool,
    /// What was read of the files that command lines name with `--config`.
    pub files: Probes,
    /// Named by the list that is under way.
    pub(super) listed: Option<BTreeSet<PodKey>>,
}

/// Leave to do one thing; what came of it is written down when it is given back.
#[derive(Debug)]
pub struct Leave {
    permit: Permit,
    desk: Arc<Desk>,
    outcome: Option<String>,
}

impl Leave {
    /// What may be done.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Says what came of it.
    pub fn done(mut self, outcome: impl Into<String>) {
        self.outcome = Some(outcome.into());
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| "ended".into());
        self.desk.gate().done(&self.permit, &outcome);
        if self.permit.action().level() == Level::Act {
            self.desk.acting.send_modify(|n| *n = n.saturating_sub(1));
        }
    }
}

/// The gate of a context and what was asked there.
#[derive(Debug)]
pub(super) struct Desk {
    link: Connection,
    gate: Mutex<Gate>,
    waiting: Mutex<Waiting>,
    /// Counts answers: whoever waits for somebody else's question looks again.
    answered: watch::Sender<u64>,
    /// Acts under way.
    acting: watch::Sender<u32>,
    shells: Shells,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Who waits for the answer to which question.
    asked: BTreeMap<u64, oneshot::Sender<Result<Permit, Refusal>>>,
    /// The question about probes: asked once, however many want to run.
    probes: Option<u64>,
}

fn now() -> Nanos {
    Nanos::try_from(Timestamp::now().as_nanosecond()).unwrap_or(Nanos::MAX)
}

impl Desk {
    pub(super) fn new(link: Connection, setup: Setup) -> Self {
        Self {
            link,
            gate: Mutex::new(Gate::new(setup)),
            waiting: Mutex::default(),
            answered: watch::Sender::new(0),
            acting: watch::Sender::new(0),
            shells: Shells::default(),
            room: Semaphore::new(AT_ONCE),
        }
    }

    // A panic while one of these was held leaves nothing half done that matters.
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The level in force: what is being done counts more than what may be.
    pub(super) fn level(&self) -> Level {
        if *self.acting.borrow() > 0 {
            return Level::Act;
        }
        self.gate().level()
    }

    pub(super) fn locked(&self) -> bool {
        self.gate().locked()
    }

    /// Wakes when the level may have changed.
    pub(super) fn changes(&self) -> (watch::Receiver<u64>, watch::Receiver<u32>) {
        (self.answered.subscribe(), self.acting.subscribe())
    }

    /// An answer from the screen.
    pub(super) fn answer(&self, number: u64, yes: bool) {
        let mut waiting = self.waiting();
        if waiting.probes == Some(number) {
            waiting.probes = None;
        }
        let outcome = self.gate().answer(number, yes, now());
        if let Some(back) = waiting.asked.remove(&number) {
            // Whoever asked may have gone; then nothing is done.
            let _ = back.send(outcome);
        }
        drop(waiting);
        self.answered.send_modify(|n| *n += 1);
    }

    /// Who asks for a check again is asked again, if probes were declined.
    pub(super) fn reconsider(&self) {
        self.gate().reconsider();
    }

    /// Drops what was asked and not answered; gives the numbers of the questions.
    pub(super) fn forget(&self) -> Vec<u64> {
        let mut waiting = self.waiting();
        waiting.probes = None;
        let numbers: Vec<u64> = std::mem::take(&mut waiting.asked).into_keys().collect();
        drop(waiting);
        let mut gate = self.gate();
        for number in &numbers {
            gate.withdraw(*number);
        }
        numbers
    }
}

/// The way into the pods of one workload. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    desk: Arc<Desk>,
    events: mpsc::Sender<Event>,
    seen: watch::Receiver<Seen>,
    ids: SourceIds,
    until: CancellationToken,
}

/// What is shown beside a question about an act.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// What is to be done, whole: commands, a manifest.
    pub body: String,
    /// What must be typed to say yes.
    pub word: Option<String>,
}

impl Access {
    pub(super) fn new(
        desk: Arc<Desk>,
        events: mpsc::Sender<Event>,
        seen: watch::Receiver<Seen>,
        ids: SourceIds,
        until: CancellationToken,
    ) -> Self {
        Self {
            desk,
            events,
            seen,
            ids,
            until,
        }
    }

    /// The connection.
    #[must_use]
    pub fn link(&self) -> &Connection {
        &self.desk.link
    }

    /// The workload and its pods, kept up to date.
    #[must_use]
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Ends when another workload is on screen, or none.
    #[must_use]
    pub fn until(&self) -> &CancellationToken {
        &self.until
    }

    /// A number for a source of its own.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.ids.next()
    }

    /// Sends an event; false when nobody listens any more.
    pub async fn tell(&self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// Asks for leave and waits: for a person's answer, and where the budget of a pod is spent, until there is room.
    pub async fn ask(&self, action: Action, shown: Shown) -> Result<Leave, Refusal> {
        loop {
            let step = self.step(&action, &shown);
            let answer = match step {
                Step::Go(permit) => return Ok(self.leave(permit)),
                Step::No(Refusal::Budget { in_seconds, .. }) => {
                    let wait = Duration::from_secs(u64::from(in_seconds));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => continue,
                        () = self.until.cancelled() => return Err(Refusal::Withdrawn),
                    }
                }
                Step::No(refusal) => return Err(refusal),
                Step::Join(mut answered) => tokio::select! {
                    _ = answered.changed() => continue,
                    () = self.until.cancelled() => return Err(Refusal::Withdrawn),
                },
                Step::Wait(question, answer) => {
                    if !self.tell(Event::Ask(question)).await {
                        return Err(Refusal::Withdrawn);
                    }
                    answer
                }
            };
            return tokio::select! {
                answer = answer => answer.unwrap_or(Err(Refusal::Withdrawn)).map(|p| self.leave(p)),
                () = self.until.cancelled() => Err(Refusal::Withdrawn),
            };
        }
    }

    fn step(&self, action: &Action, shown: &Shown) -> Step {
        let mut waiting = self.desk.waiting();
        if action.level() == Level::Probe && waiting.probes.is_some() {
            return Step::Join(self.desk.answered.subscribe());
        }
        let mut gate = self.desk.gate();
        match gate.ask(action.clone(), now()) {
            Decision::Go(permit) => Step::Go(permit),
            Decision::No(refusal) => Step::No(refusal),
            Decision::Ask(q) if self.until.is_cancelled() => {
                // What is asked now would never be shown, and whoever wants the same would wait for it for ever.
                gate.withdraw(q.number);
                Step::No(Refusal::Withdrawn)
            }
            Decision::Ask(q) => {
                let (back, answer) = oneshot::channel();
                waiting.asked.insert(q.number, back);
                if q.level == Level::Probe {
                    waiting.probes = Some(q.number);
                }
                let question = Question {
                    number: q.number,
                    level: q.level,
                    text: q.text,
                    body: shown.body.clone(),
                    word: shown.word.clone(),
                };
                Step::Wait(question, answer)
            }
        }
    }

    fn leave(&self, permit: Permit) -> Leave {
        if permit.action().level() == Level::Act {
            self.desk.acting.send_modify(|n| *n += 1);
        }
        Leave {
            permit,
            desk: self.desk.clone(),
            outcome: None,
        }
    }

    /// Runs a command that only reads, once it may, and tells what came of it. Also gives it back.
    pub async fn probe(&self, name: &str, spec: ExecSpec) -> ProbeOutcome {
        let (at, ran) = (spec.at.clone(), spec.ran.clone());
        let action = spec.action();
        self.told(name, at, ran, action, Shown::default(), async |leave| {
            let Ok(_room) = self.desk.room.acquire().await else {
                return closed();
            };
            exec::run(&self.desk.link, &self.desk.shells, leave, &spec, Sink::Keep).await
        })
        .await
    }

    /// Runs a command that only reads and hands on its lines as they come. Ends when it does, when nobody takes
    /// the lines, or with the workload; gives what came of it, without the lines.
    pub async fn follow(&self, spec: ExecSpec, lines: mpsc::Sender<Vec<u8>>) -> ProbeOutcome {
        let leave = match self.ask(spec.action(), Shown::default()).await {
            Ok(leave) => leave,
            Err(refusal) => return refused(&refusal),
        };
        let sink = Sink::Lines(lines);
        let running = exec::run(&self.desk.link, &self.desk.shells, &leave, &spec, sink);
        let outcome = tokio::select! {
            outcome = running => outcome,
            () = self.until.cancelled() => closed(),
        };
        leave.done(brief(&outcome));
        outcome
    }

    /// A GET of a pod's port through the API server's proxy, once it may; tells what came of it and gives it back.
    pub async fn get(&self, name: &str, at: ContainerKey, get: Get) -> ProbeOutcome {
        let ran = format!("GET :{}{}", get.port, get.path);
        let action = Action::ProxyGet {
            pod: at.pod.clone(),
            path: format!(":{}{}", get.port, get.path),
        };
        let pod = at.pod.clone();
        self.told(name, at, ran, action, Shown::default(), async |_| {
            let Ok(_room) = self.desk.room.acquire().await else {
                return closed();
            };
            super::proxyget::get(&self.desk.link, &pod, &get, None).await
        })
        .await
    }

    /// A POST to a pod's port through the API server's proxy: asked each time; tells what came of it.
    pub async fn post(&self, name: &str, at: ContainerKey, to: Get, body: String) -> ProbeOutcome {
        let path = format!(":{}{}", to.port, to.path);
        let ran = format!("POST {path} {body}");
        let pod = at.pod.clone();
        let action = Action::Post {
            pod: pod.clone(),
            path,
        };
        let shown = Shown {
            body: ran.clone(),
            word: None,
        };
        self.told(name, at, ran, action, shown, async |_| {
            super::proxyget::get(&self.desk.link, &pod, &to, Some(&body)).await
        })
        .await
    }

    /// Does something once it may, and tells what came of it.
    async fn told(
        &self,
        name: &str,
        at: ContainerKey,
        ran: String,
        action: Action,
        shown: Shown,
        work: impl AsyncFnOnce(&Leave) -> ProbeOutcome,
    ) -> ProbeOutcome {
        let tell = |outcome: ProbeOutcome| {
            Event::Probe(ProbeEvent {
                probe: name.into(),
                container: Some(at.clone()),
                ran: ran.clone(),
                outcome,
            })
        };
        let outcome = match self.ask(action, shown).await {
            Err(refusal) => refused(&refusal),
            Ok(leave) => {
                self.tell(tell(ProbeOutcome::Began)).await;
                let outcome = tokio::select! {
                    outcome = work(&leave) => outcome,
                    () = self.until.cancelled() => closed(),
                };
                leave.done(brief(&outcome));
                outcome
            }
        };
        self.tell(tell(outcome.clone())).await;
        outcome
    }
}

/// What is read through the API server's proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Port of the pod.
    pub port: u16,
    /// Path, with its slash.
    pub path: String,
    /// Bytes of the answer kept.
    pub cap: usize,
    /// Longest wait.
    pub limit: Duration,
}

enum Step {
    Go(Permit),
    No(Refusal),
    /// Somebody else's question about probes is open: its answer is ours too.
    Join(watch::Receiver<u64>),
    Wait(Question, oneshot::Receiver<Result<Permit, Refusal>>),
}

fn refused(refusal: &Refusal) -> ProbeOutcome {
    ProbeOutcome::Refused {
        why: refusal.to_string(),
        rule: None,
    }
}

fn closed() -> ProbeOutcome {
    ProbeOutcome::Failed {
        why: "not waited for: something else is on screen".into(),
    }
}

/// What an attempt that the API server turned away comes to: `rule` is the right that it takes. Nothing where fresh
/// credentials make another attempt worth while, which is so once.
pub(super) async fn turned_away(
    link: &Connection,
    trouble: Trouble,
    again: &mut bool,
    why: &str,
    rule: impl FnOnce() -> String,
) -> Option<ProbeOutcome> {
    match trouble.kind {
        Kind::Unauthorized if std::mem::take(again) && link.renew().await.is_ok() => None,
        Kind::Forbidden => Some(ProbeOutcome::Refused {
            why: why.into(),
            rule: Some(rule()),
        }),
        _ => Some(ProbeOutcome::Failed { why: trouble.text }),
    }
}

/// An outcome for the record.
fn brief(outcome: &ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Began => "runs".into(),
        ProbeOutcome::Answered { code, ms, .. } => format!("{code} after {ms} ms"),
        ProbeOutcome::Refused { why, .. } | ProbeOutcome::Failed { why } => why.clone(),
    }
}
