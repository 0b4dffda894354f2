//! The embedded cluster: a scenario file plays pods, Kubernetes events and log text.
//!
//! It emits what the world would say – objects and lines, never facts – so that a demo takes the very path that
//! a real cluster takes: parser, join, rules. A scenario is fixture, demo and documentation at once; the same
//! file gives the same stream, byte for byte.
//!
//! The clock of a scenario begins at [`Scenario::start_ns`], a fixed date: whoever plays one stamps its events
//! with that clock and not with the wall's.

mod desk;
pub mod forever;
pub mod load;
pub mod plan;
pub mod pods;
mod probes;
pub mod rng;
mod samples;
pub mod scenario;
mod shipped;
mod test;
pub mod version;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::event::{
    ContainerKey, EdgeEvent, EdgeState, Errand, Event, Feed, Level, LogBlock, Session, SourceEvent,
    SourceId, SourceInfo,
};
use crate::parse::{Block, Nanos};

use super::simlog;
use desk::Desk;
pub use load::{ScenarioError, list, load, parse};
use plan::{Plan, Pod};
pub use scenario::{Expect, Scenario};

/// A world that somebody looks at goes on after its scenario is over, so many seconds at a time, and until the whole is
/// as long as this: then it stands still.
const ON: (f64, f64) = (60.0, 1_800.0);
/// Lines that stand closer together than this come in one block, as a reader on a busy stream gets them.
const BATCH: Nanos = 100_000_000;

/// Everything that happens in a scenario, in order of time.
///
/// The last entry is a tick at the scenario's end: rules that wait for time to pass see it.
#[must_use]
pub fn events(s: &Scenario) -> Vec<(Nanos, Event)> {
    told(s, Nanos::MAX)
}

/// What comes when a scenario that is over goes on for so many seconds, as the world would: only that.
#[must_use]
pub fn beyond(s: &Scenario, seconds: f64) -> Vec<(Nanos, Event)> {
    let end = Plan::new(s).end;
    let longer = Scenario {
        lasts: s.lasts + seconds,
        ..s.clone()
    };
    let mut all = told(&longer, end);
    all.retain(|(at, _)| *at > end);
    all
}

/// The same; no block of lines reaches over the moment `cut`.
fn told(s: &Scenario, cut: Nanos) -> Vec<(Nanos, Event)> {
    let plan = Plan::new(s);
    let mut out = vec![(plan.watch, Event::Session(session(s)))];
    for edge in ["pods", "events", "logs", "nodes"] {
        let edge = EdgeEvent {
            edge: edge.into(),
            state: EdgeState::Up,
        };
        out.push((plan.watch, Event::Edge(edge)));
    }
    out.extend(pods::write(s, &plan));
    out.extend(probes::write(s, &plan));
    for (pod, lines) in plan.pods.iter().zip(simlog::write(s, &plan)) {
        source(s, &plan, pod, lines, cut, &mut out);
    }
    samples::write(s, &plan, &mut out);
    samples::endpoints(s, &plan, &mut out);
    if let Some(at) = test_at(s)
        && let Ok(wanted) = test::want(s, at, "")
    {
        out.extend(test::play(s, at, wanted));
    }
    out.retain(|(at, _)| *at <= plan.end);
    // Stable: what happens at one moment keeps the order of writing.
    out.sort_by_key(|(at, _)| *at);
    out.push((plan.end, Event::Tick));
    out
}

/// What the header shows.
#[must_use]
pub fn session(s: &Scenario) -> Session {
    Session {
        feed: Feed::Demo,
        context: Some(format!("demo {}", s.name)),
        namespace: Some(s.workload.namespace.clone()),
        workload: Some(format!("{}/{}", pods::kind(s), s.workload.name)),
        // Its pods may be looked into: nobody is harmed.
        level: Level::Probe,
        test_at: test_at(s),
        ..Session::default()
    }
}

/// When the scenario's own test begins.
fn test_at(s: &Scenario) -> Option<Nanos> {
    Some(s.origin_ns() + plan::secs(s.test.at?))
}

/// Plays a scenario into a channel at `speed` times its own pace, until it is over and nobody can ask for anything
/// more, or nobody listens. While somebody can, the world goes on where the scenario ends.
///
/// Deadlines are counted from the first event, so a slow receiver delays but never stretches the whole; a speed
/// of 0 or less, or none, means as fast as the receiver takes it.
pub async fn play(
    mut scenario: Scenario,
    speed: f64,
    tx: mpsc::Sender<Event>,
    mut errands: mpsc::UnboundedReceiver<Errand>,
) {
    let start = scenario.start_ns();
    let begun = Instant::now();
    let paced = speed > 0.0 && speed.is_finite();
    let mut queue: VecDeque<(Nanos, Event)> = events(&scenario).into();
    let (mut asked, mut last) = (true, start);
    let mut desk = Desk::default();
    loop {
        if queue.is_empty() && paced && asked && scenario.lasts < ON.1 {
            queue.extend(beyond(&scenario, ON.0));
            scenario.lasts += ON.0;
        }
        let next = queue.front().map(|(at, _)| *at);
        if next.is_none() && !asked {
            return;
        }
        let due = async {
            match next {
                #[allow(clippy::cast_precision_loss, reason = "a day of nanoseconds fits")]
                Some(at) if paced => {
                    let after = ((at - start).max(0) as f64 / 1e9 / speed).min(1e9);
                    tokio::time::sleep_until(begun + Duration::from_secs_f64(after)).await;
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            errand = errands.recv(), if asked => match errand {
                None => asked = false,
                Some(errand) => {
                    #[allow(
                        clippy::cast_possible_truncation,
                        reason = "`as` saturates, and a demo runs for no century"
                    )]
                    let passed = (begun.elapsed().as_secs_f64() * speed * 1e9) as Nanos;
                    // At once, where there is no pace: after all that was told.
                    let now = if paced { start + passed } else { last };
                    let said = match desk.obey(&scenario, &mut queue, now, &errand) {
                        Ok(said) => said,
                        Err(text) => Some(Event::Note { text, bad: true }),
                    };
                    if let Some(event) = said
                        && tx.send(event).await.is_err()
                    {
                        return;
                    }
                }
            },
            () = due => {
                if let Some((at, event)) = queue.pop_front() {
                    last = at;
                    // Without a pace the receiver's clock says nothing: the event brings its time with it.
                    let event = if paced {
                        event
                    } else {
                        Event::At(at, Box::new(event))
                    };
                    if tx.send(event).await.is_err() {
                        return;
                    }
                }
                if let Some(number) = desk.moot(&queue)
                    && tx.send(Event::Unask(number)).await.is_err()
                {
                    return;
                }
            }
        }
    }
}

/// One container's stream: opened when it starts, blocks of lines, ended with it.
fn source(
    s: &Scenario,
    plan: &Plan,
    pod: &Pod,
    lines: Vec<(Nanos, String)>,
    cut: Nanos,
    out: &mut Vec<(Nanos, Event)>,
) {
    let Some(started) = pod.started else { return };
    let id = SourceId(u32::try_from(pod.index).unwrap_or(u32::MAX));
    let key = ContainerKey {
        pod: pods::key(s, pod),
        container: s.workload.container.clone(),
    };
    let mut tell = |at: Nanos, e: SourceEvent| out.push((at, Event::Source(e)));
    let name = format!(
        "{}/{}/{}",
        s.workload.namespace, pod.name, s.workload.container
    );
    let opened = started.max(plan.watch);
    let info = SourceInfo {
        name,
        container: Some(key),
        previous: false,
        started: Some(started),
    };
    tell(opened, SourceEvent::Opened(id, info));
    tell(opened, SourceEvent::Up(id));
    if pod.rotated.is_some() {
        let why = "rotated away by the kubelet before anybody read it".into();
        tell(
            opened,
            SourceEvent::Lost {
                id,
                lines: None,
                why,
            },
        );
    }
    // A container that is started again says the same again; its reader notices and attaches anew.
    let mut all = lines.clone();
    let again = pods::restarts(s, plan, pod);
    for (start, length) in &again {
        let shift = start - started;
        let same = lines.iter().take_while(|(t, _)| *t - started < *length);
        all.extend(same.map(|(t, l)| (t + shift, l.clone())));
        tell(
            start - 1,
            SourceEvent::Retrying {
                id,
                why: "the container was restarted".into(),
                in_ms: 1000,
            },
        );
        tell(*start, SourceEvent::Up(id));
    }
    if let (Some(exit), true) = (&pod.exit, again.is_empty()) {
        tell(exit.at + 1, SourceEvent::Ended { id, why: None });
    }
    // The tail of the first life's log never reaches past the scenario.
    all.retain(|(t, _)| *t <= plan.end && pod.rotated.is_none_or(|from| *t >= from));
    let mut first_line = 1;
    let mut text: Vec<u8> = Vec::new();
    let (mut count, mut last, mut bucket) = (0, started, (false, Nanos::MIN));
    let mut stamps = Stamps::default();
    let mut flush = |text: &mut Vec<u8>, count: &mut u64, last: Nanos| {
        if *count > 0 {
            let block = Arc::new(Block::new(first_line, std::mem::take(text)));
            out.push((
                last.max(plan.watch),
                Event::Log(LogBlock { source: id, block }),
            ));
            first_line += std::mem::take(count);
        }
    };
    for (at, line) in all {
        // What was written before anybody watched comes at once.
        let batch = (at > cut, at.max(plan.watch) / BATCH);
        if batch != bucket {
            flush(&mut text, &mut count, last);
            bucket = batch;
        }
        stamps.write(at, &mut text);
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        count += 1;
        last = at;
    }
    flush(&mut text, &mut count, last);
}

/// The kubelet's stamp: RFC 3339 with nine digits; the second is formatted once.
#[derive(Default)]
struct Stamps {
    second: Option<i64>,
    text: String,
}

impl Stamps {
    fn write(&mut self, at: Nanos, out: &mut Vec<u8>) {
        let second = at.div_euclid(scenario::SEC);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text = simlog::vllm::strftime(second * scenario::SEC, "%Y-%m-%dT%H:%M:%S");
        }
        out.extend_from_slice(self.text.as_bytes());
        // Writing to a vector can't fail.
        let _ = write!(out, ".{:09}Z ", at.rem_euclid(scenario::SEC));
    }
}
