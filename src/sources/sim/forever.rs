//! Scenarios for a wall: each workload lives again and again, and another one's turn comes when it is asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Scenario, events, play};
use crate::model::event::{Errand, Event, WorkloadView};
use crate::parse::Nanos;
use crate::sources::gate::Refusal;

/// How long a scenario that is over goes on before it begins again: this many times its own length.
const REST: f64 = 4.0;

/// Plays scenarios until nobody listens; `errands` is what the wall asks for.
pub async fn play_forever(
    mut scenarios: Vec<Scenario>,
    speed: f64,
    tx: mpsc::Sender<Event>,
    mut errands: mpsc::UnboundedReceiver<Errand>,
) {
    rename(&mut scenarios);
    let origin = scenarios.first().map_or(0, Scenario::start_ns);
    let begun = Instant::now();
    let list: Vec<WorkloadView> = scenarios.iter().filter_map(workload).collect();
    let mut current = 0;
    let mut choosing = list.len() > 1;
    loop {
        if choosing && tx.send(Event::Choice(list.clone())).await.is_err() {
            return;
        }
        let Some(scenario) = scenarios.get(current) else {
            return;
        };
        let mut scenario = shifted(scenario, origin, begun.elapsed(), speed);
        let paced = speed > 0.0 && speed.is_finite();
        if paced {
            scenario.lasts *= 1.0 + REST;
        }
        let (waits, to) = (choosing, tx.clone());
        let lives = async move {
            if waits {
                return std::future::pending().await;
            }
            // What is asked for is heard here.
            let (_, silence) = mpsc::unbounded_channel();
            play(scenario, speed, to, silence).await;
            if !paced {
                // All of it at once: it is over, and stays so.
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(lives);
        loop {
            tokio::select! {
                () = &mut lives => break,
                () = tx.closed() => return,
                errand = errands.recv() => match errand {
                    Some(Errand::Watch(wanted)) => {
                        let place = list.iter().position(|w| same(w, &wanted));
                        current = place.unwrap_or(current);
                        choosing = false;
                        break;
                    }
                    Some(Errand::Choose) => {
                        choosing = list.len() > 1;
                        break;
                    }
                    Some(Errand::Line(_)) => {
                        let text = Refusal::UnattendedAct.to_string();
                        if tx.send(Event::Note { text, bad: true }).await.is_err() {
                            return;
                        }
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
        if tx.send(Event::Afresh).await.is_err() {
            return;
        }
    }
}

fn same(a: &WorkloadView, b: &WorkloadView) -> bool {
    (&a.namespace, &a.kind, &a.name) == (&b.namespace, &b.kind, &b.name)
}

/// Two workloads of one name would be one: then they are called as their scenarios are.
fn rename(scenarios: &mut [Scenario]) {
    let mut taken = BTreeSet::new();
    for s in scenarios {
        if !taken.insert(s.workload.name.clone()) {
            s.workload.name.clone_from(&s.name);
            taken.insert(s.name.clone());
        }
    }
}

/// The workload as discovery would have found it.
fn workload(scenario: &Scenario) -> Option<WorkloadView> {
    let found = events(scenario).into_iter().find_map(|(_, e)| match e {
        Event::Workloads(list) => Some(list),
        _ => None,
    });
    found?.into_iter().next()
}

/// The same scenario, begun so much later.
fn shifted(scenario: &Scenario, origin: Nanos, passed: Duration, speed: f64) -> Scenario {
    let mut scenario = scenario.clone();
    let speed = if speed.is_finite() {
        speed.max(0.0)
    } else {
        0.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, and no wall hangs for centuries"
    )]
    let later = (passed.as_secs_f64() * speed * 1e9) as Nanos;
    // The scenario's clock starts where somebody begins to watch, which may be late in its life.
    let before = scenario.start_ns() - scenario.origin_ns();
    let start = i128::from(origin.saturating_add(later) - before);
    if let Ok(stamp) = jiff::Timestamp::from_nanosecond(start) {
        scenario.start = stamp.to_string();
    }
    scenario
}
