//! Runs what is due of the catalogue of probes in the pods of a workload, and reads its network policies.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::ListParams;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use super::access::{Access, Seen};
use super::exec::ExecSpec;
use super::trouble::{Kind, Trouble};
use crate::model::event::{Errand, Event, PodEvent, ProbeEvent, ProbeOutcome};
use crate::model::pods::Pods;
use crate::model::probes::Probes;
use crate::parse::Nanos;
use crate::rules::checks::probes_of;
use crate::rules::probes::{Ask, FILE, PROBES, Schedule};

/// How often it is looked for what is due.
const BEAT: Duration = Duration::from_secs(2);
/// Probes of checks under way at one time.
const AT_ONCE: usize = 32;
/// Policies change seldom.
const POLICIES: Duration = Duration::from_secs(300);
/// Most policies that are read.
const MOST: u32 = 500;
/// The name under which the list of policies is told.
const NAME: &str = "network-policies";

/// The helper of [`super::Director`].
#[must_use]
pub fn helper() -> super::Helper {
    Box::new(|access, errands| -> BoxFuture<'static, ()> { Box::pin(run(access, errands)) })
}

fn now() -> Nanos {
    Nanos::try_from(Timestamp::now().as_nanosecond()).unwrap_or(Nanos::MAX)
}

async fn run(access: Access, mut errands: super::Errands) {
    let mut seen = access.seen();
    let mut schedule = Schedule::default();
    // What was answered, as the schedule needs to know it; the answers themselves go to the model.
    let probes = Arc::new(Mutex::new(Probes::default()));
    let mut under_way: JoinSet<()> = JoinSet::new();
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut policies = tokio::time::interval(POLICIES);
    let mut known = Pods::default();
    loop {
        tokio::select! {
            () = access.until().cancelled() => return,
            _ = beat.tick() => {}
            _ = policies.tick(), if namespace(&seen.borrow()).is_some() => {
                read_policies(&access, &mut under_way);
            }
            Some(_) = under_way.join_next() => {}
            errand = errands.recv() => match errand {
                Ok(Errand::Recheck(what)) => {
                    recheck(what.as_deref(), &mut schedule, &pods(&seen.borrow()));
                    policies.reset_immediately();
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
        let room = AT_ONCE.saturating_sub(under_way.len());
        // Copied where something of them is new, and not with every beat and every answer.
        if seen.has_changed().unwrap_or(false) {
            known = pods(&seen.borrow_and_update());
        }
        if !seen.borrow().synced {
            continue;
        }
        let due = {
            let probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
            schedule.due(&known, &probes, now(), room)
        };
        for ask in due {
            note(&probes, &ask, ProbeOutcome::Began);
            let (access, probes) = (access.clone(), probes.clone());
            under_way.spawn(async move {
                let spec = ExecSpec {
                    at: ask.container.clone(),
                    argv: ask.argv.clone(),
                    ran: ask.ran.clone(),
                    cap: ask.cap,
                    limit: Some(Duration::from_secs(u64::from(ask.seconds) + 5)),
                    quiet: None,
                };
                let outcome = access.probe(ask.probe, spec).await;
                note(&probes, &ask, outcome);
            });
        }
    }
}

/// Where the workload is. A selector names no workload: then its pods tell.
fn namespace(seen: &Seen) -> Option<String> {
    let named = seen.workload.as_ref().map(|w| w.namespace.clone());
    named.or_else(|| seen.pods.keys().next().map(|p| p.namespace.clone()))
}

fn pods(seen: &Seen) -> Pods {
    let mut pods = Pods::default();
    for pod in seen.pods.values() {
        pods.apply(&PodEvent::Upsert(Box::new((**pod).clone())));
    }
    pods
}

fn note(probes: &Mutex<Probes>, ask: &Ask, outcome: ProbeOutcome) {
    // Its text is of no use here, unless it names the model that another probe looks at.
    let outcome = match outcome {
        ProbeOutcome::Answered { code, ms, .. } if ask.probe != FILE => ProbeOutcome::Answered {
            code,
            out: String::new(),
            err: String::new(),
            cut: false,
            ms,
        },
        other => other,
    };
    let event = ProbeEvent {
        probe: ask.probe.into(),
        container: Some(ask.container.clone()),
        ran: String::new(),
        outcome,
    };
    let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
    probes.apply(event, now());
}

/// A check by its id, a probe by its name; nothing: all of them.
fn recheck(what: Option<&str>, schedule: &mut Schedule, pods: &Pods) {
    let names: Vec<&str> = match what {
        Some(name) => probes_of(name),
        None => PROBES.iter().map(|p| p.name).collect(),
    };
    schedule.want(&names, pods);
}

/// Reads the policies of the workload's namespace: a list, at level observe.
fn read_policies(access: &Access, under_way: &mut JoinSet<()>) {
    let Some(namespace) = namespace(&access.seen().borrow()) else {
        return;
    };
    let access = access.clone();
    under_way.spawn(async move {
        let rule = format!("list networkpolicies in namespace {namespace}");
        let begun = std::time::Instant::now();
        let api: Api<NetworkPolicy> = Api::namespaced(access.link().client(), &namespace);
        let outcome = match api.list(&ListParams::default().limit(MOST)).await {
            Ok(list) => match serde_json::to_string(&list) {
                Ok(out) => ProbeOutcome::Answered {
                    code: 200,
                    out,
                    err: String::new(),
                    cut: list.metadata.continue_.is_some_and(|c| !c.is_empty()),
                    ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                },
                Err(e) => ProbeOutcome::Failed { why: e.to_string() },
            },
            Err(e) => {
                let trouble = Trouble::of(&e);
                match trouble.kind {
                    Kind::Forbidden => ProbeOutcome::Refused {
                        why: trouble.text,
                        rule: Some(rule.clone()),
                    },
                    _ => ProbeOutcome::Failed { why: trouble.text },
                }
            }
        };
        access
            .tell(Event::Probe(ProbeEvent {
                probe: NAME.into(),
                container: None,
                ran: rule,
                outcome,
            }))
            .await;
    });
}
