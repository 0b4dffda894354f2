//! What a person asks of the embedded cluster, and what is asked back before anything is created there: the same
//! questions as on a real one, from the same gate.

use std::collections::VecDeque;

use super::plan::Plan;
use super::scenario::Scenario;
use super::{probes, session, test};
use crate::jobs::helper::ENDS;
use crate::model::event::{Errand, Event, Question, Session};
use crate::model::screen::{ALLREDUCE, CANCEL};
use crate::model::testrun::TestEvent;
use crate::parse::Nanos;
use crate::sources::gate::{Action, Decision, Gate};

/// What is still to happen, in order of time.
type Queue = VecDeque<(Nanos, Event)>;

/// What waits for an answer.
#[derive(Debug)]
enum Pending {
    /// This test would begin.
    Begin(Box<test::Wanted>),
    /// The test that runs would end.
    End,
}

/// Where it is asked and answered.
#[derive(Debug, Default)]
pub(super) struct Desk {
    gate: Gate,
    pending: Option<(u64, Pending)>,
}

fn is_test((_, event): &(Nanos, Event)) -> bool {
    matches!(event, Event::Test(_))
}

/// When a test begins that is still to come.
fn begins(queue: &Queue) -> Option<Nanos> {
    let planned = |e: &Event| matches!(e, Event::Test(TestEvent::Planned(_)));
    queue.iter().find(|(_, e)| planned(e)).map(|(at, _)| *at)
}

/// Stable: what happens at one moment keeps its order.
fn add(queue: &mut Queue, more: Vec<(Nanos, Event)>) {
    queue.extend(more);
    queue.make_contiguous().sort_by_key(|(at, _)| *at);
}

impl Desk {
    /// Does what the person asked, or gives what is to be said at once; the error is a sentence.
    pub(super) fn obey(
        &mut self,
        s: &Scenario,
        queue: &mut Queue,
        now: Nanos,
        errand: &Errand,
    ) -> Result<Option<Event>, String> {
        match errand {
            Errand::Line(line) => self.line(s, queue, now, line),
            Errand::Answer { number, yes } => self.answer(s, queue, now, (*number, *yes)),
            Errand::Recheck(what) => {
                let plan = Plan::new(s);
                let names = what.as_deref().map(crate::rules::checks::probes_of);
                let again = probes::round(s, &plan, now, |p| {
                    names.as_ref().is_none_or(|n| n.contains(&p.name))
                });
                add(queue, again);
                Ok(None)
            }
            _ => Err("the demo can't do that".into()),
        }
    }

    fn line(
        &mut self,
        s: &Scenario,
        queue: &mut Queue,
        now: Nanos,
        line: &str,
    ) -> Result<Option<Event>, String> {
        let Some(rest) = line.strip_prefix(ALLREDUCE) else {
            let verb = line.split(' ').next().unwrap_or_default();
            return Err(format!("the demo can't do that: {verb}"));
        };
        let own = begins(queue);
        if line == CANCEL {
            if own.is_some() {
                // Nothing exists of it yet: nothing has to be asked.
                queue.retain(|e| !is_test(e));
                for (_, event) in queue.iter_mut() {
                    if let Event::Session(session) = event {
                        session.test_at = None;
                    }
                }
                return Ok(Some(Event::Session(Session {
                    test_at: None,
                    ..session(s)
                })));
            }
            if !queue.iter().any(is_test) {
                return Err("no test runs".into());
            }
            let action = Action::Delete {
                object: "the test".into(),
            };
            return self.ask(now, action, ENDS.into(), Pending::End);
        }
        if own.is_some() {
            return Err(format!(
                "this scenario begins a test by itself; :{CANCEL} takes it back"
            ));
        }
        if queue.iter().any(is_test) {
            return Err(format!("a test runs already; :{CANCEL} ends it"));
        }
        let wanted = test::want(s, now, rest)?;
        let (action, body) = (wanted.action(), wanted.body(s));
        self.ask(now, action, body, Pending::Begin(Box::new(wanted)))
    }

    fn ask(
        &mut self,
        now: Nanos,
        action: Action,
        body: String,
        then: Pending,
    ) -> Result<Option<Event>, String> {
        if self.pending.is_some() {
            return Err("a question about the test waits for its answer already".into());
        }
        match self.gate.ask(action, now) {
            Decision::Ask(q) => {
                self.pending = Some((q.number, then));
                Ok(Some(Event::Ask(Question {
                    number: q.number,
                    level: q.level,
                    text: q.text,
                    body,
                    word: None,
                })))
            }
            Decision::No(refusal) => Err(format!("no test: {refusal}")),
            Decision::Go(_) => Err("no test: it was not asked".into()),
        }
    }

    fn answer(
        &mut self,
        s: &Scenario,
        queue: &mut Queue,
        now: Nanos,
        (number, yes): (u64, bool),
    ) -> Result<Option<Event>, String> {
        let Some((_, pending)) = self.pending.take_if(|(n, _)| *n == number) else {
            return Ok(None);
        };
        match (self.gate.answer(number, yes, now), pending) {
            (Ok(permit), Pending::Begin(wanted)) => {
                self.gate.done(&permit, "played");
                add(queue, test::play(s, now, *wanted));
                Ok(None)
            }
            (Ok(permit), Pending::End) => {
                self.gate.done(&permit, "cancelled");
                queue.retain(|e| !is_test(e));
                add(queue, test::cancel(now));
                Ok(None)
            }
            (Err(refusal), Pending::Begin(_)) => Err(format!("no test: {refusal}")),
            // It goes on.
            (Err(_), Pending::End) => Ok(None),
        }
    }

    /// The question that needs no answer any more, if there is one: the test that it would end is over.
    pub(super) fn moot(&mut self, queue: &Queue) -> Option<u64> {
        let over =
            |(_, p): &mut (u64, Pending)| matches!(p, Pending::End) && !queue.iter().any(is_test);
        let (number, _) = self.pending.take_if(over)?;
        self.gate.withdraw(number);
        Some(number)
    }
}
