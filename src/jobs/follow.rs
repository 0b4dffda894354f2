//! A test that runs: its phases, its lines, its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::{api, find};
use crate::model::event::{
    ContainerState, EdgeState, Event, PodEvent, PodView, SourceEvent, SourceId, WorkloadView,
};
use crate::model::pods::why::why;
use crate::model::testrun::{Ending, Phase, TestEvent};
use crate::sources::cluster::{self, ClusterOptions, Connection};

/// How often the Job is asked for its end. One small object, for minutes.
const ASK: Duration = Duration::from_secs(1);
/// How long the last lines of ended pods are waited for.
const LAST_LINES: Duration = Duration::from_secs(10);

/// Sends what happens to the test until it has ended, for whatever reason, and says how.
pub async fn follow(
    link: &Connection,
    plan: &Plan,
    tx: &mpsc::Sender<TestEvent>,
    cancel: &CancellationToken,
) -> Ending {
    let stop = cancel.child_token();
    let _stop = stop.clone().drop_guard();
    let (events_tx, mut events) = mpsc::channel(256);
    let options = ClusterOptions {
        chosen: Some(WorkloadView {
            namespace: plan.namespace.clone(),
            kind: "selector".into(),
            name: plan.name().into(),
            selector: plan.selector(),
            ..WorkloadView::default()
        }),
        ..ClusterOptions::default()
    };
    let watching = cluster::run(link.clone(), options, events_tx, stop);
    let watching = tokio::spawn(watching);
    let _watching = tokio_util::task::AbortOnDropHandle::new(watching);
    let jobs: Api<Job> = api(link, &plan.namespace);
    let mut seen = Seen {
        pods: BTreeMap::new(),
        expected: usize::try_from(plan.pods).unwrap_or(usize::MAX),
        open: BTreeSet::new(),
        told: None,
    };
    let mut clock = interval(ASK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending: Option<Ending> = None;
    let mut last = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ending::Cancelled,
            event = events.recv() => {
                let Some(event) = event else {
                    return ending.unwrap_or_else(|| Ending::Failed("the cluster can't be watched any more".into()));
                };
                for out in seen.event(event) {
                    if tx.send(out).await.is_err() {
                        return Ending::Cancelled;
                    }
                }
            }
            _ = clock.tick() => if ending.is_none() {
                match find(jobs.get(plan.name())).await {
                    Ok(Some(job)) => ending = end_of(&job),
                    Ok(None) => ending = Some(Ending::Failed("somebody deleted the Job".into())),
                    // The watches say what they wait for; the Job's own deadline holds meanwhile.
                    Err(t) => tracing::warn!("the Job can't be read: {}", t.text),
                }
                if ending.is_some() {
                    last = Instant::now();
                }
            }
        }
        if let Some(ended) = &ending
            && ((seen.open.is_empty() && last.elapsed() > ASK) || last.elapsed() >= LAST_LINES)
        {
            return seen.explain(ended.clone());
        }
    }
}

/// The end of a Job, from its conditions.
fn end_of(job: &Job) -> Option<Ending> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let met = |kind: &str| {
        conditions
            .iter()
            .find(|c| c.type_ == kind && c.status == "True")
    };
    if let Some(c) = met("Failed").or(met("FailureTarget")) {
        let reason = c.reason.clone().unwrap_or_default();
        let text = match reason.as_str() {
            "DeadlineExceeded" => "the deadline passed before every rank had ended".to_owned(),
            "PodFailurePolicy" | "BackoffLimitExceeded" => c.message.clone().unwrap_or(reason),
            _ => format!("{reason}: {}", c.message.clone().unwrap_or_default()),
        };
        return Some(Ending::Failed(text.trim_end_matches('.').to_owned()));
    }
    met("Complete")
        .or(met("SuccessCriteriaMet"))
        .map(|_| Ending::Complete)
}

struct Seen {
    pods: BTreeMap<String, PodView>,
    expected: usize,
    /// Logs that may say more.
    open: BTreeSet<SourceId>,
    told: Option<(Phase, Option<String>)>,
}

impl Seen {
    fn event(&mut self, event: Event) -> Vec<TestEvent> {
        match event {
            Event::Pod(PodEvent::Upsert(pod)) => {
                self.pods.insert(pod.name.clone(), *pod);
                self.phase(None).into_iter().collect()
            }
            Event::Pod(PodEvent::Gone(key)) => {
                self.pods.remove(&key.name);
                Vec::new()
            }
            Event::KubeEvent(e) if e.kind == "Pod" && e.reason == "Pulling" => {
                self.phase(Some(e.message)).into_iter().collect()
            }
            // What keeps pods from being made at all: quota, admission.
            Event::KubeEvent(e) if e.kind == "Job" && !e.normal => {
                vec![TestEvent::Phase(Phase::Created, Some(e.message))]
            }
            Event::Source(event) => {
                match &event {
                    SourceEvent::Opened(id, _) => drop(self.open.insert(*id)),
                    SourceEvent::Ended { id, .. } => drop(self.open.remove(id)),
                    _ => {}
                }
                vec![TestEvent::Source(event)]
            }
            Event::Log(log) => vec![TestEvent::Log {
                source: log.source,
                block: log.block,
            }],
            Event::Edge(e) => match e.state {
                EdgeState::Forbidden { rule } if e.edge != "events" => {
                    vec![TestEvent::Phase(
                        self.told.as_ref().map_or(Phase::Created, |t| t.0),
                        Some(format!("refused: {rule}")),
                    )]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// How far the pods are: as far as the last of them.
    fn phase(&mut self, pulling: Option<String>) -> Option<TestEvent> {
        // Pods that go say why they go, not what they waited for.
        if self.pods.values().any(|p| p.deletion.is_some()) {
            return None;
        }
        let placed = self.pods.values().filter(|p| p.node.is_some()).count();
        let running = |p: &&PodView| {
            p.containers.iter().any(|c| {
                !matches!(
                    c.state,
                    ContainerState::None | ContainerState::Waiting { .. }
                )
            })
        };
        let started = self.pods.values().filter(running).count();
        let reason = self.pods.values().filter(|p| !running(p)).find_map(why);
        let of = |n: usize| format!("{n} of {}", self.expected);
        let (phase, note) = if self.pods.is_empty() {
            (Phase::Created, None)
        } else if placed < self.expected {
            let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
            (
                Phase::Queued,
                Some(format!("{} pods have a node{reason}", of(placed))),
            )
        } else if started < self.expected {
            match pulling {
                Some(p) => (Phase::Pulling, Some(p)),
                None => {
                    let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
                    (
                        Phase::Scheduled,
                        Some(format!("{} pods run{reason}", of(started))),
                    )
                }
            }
        } else {
            (Phase::Starting, None)
        };
        let said = (phase, note);
        if self.told.as_ref() == Some(&said) {
            return None;
        }
        self.told = Some(said.clone());
        Some(TestEvent::Phase(said.0, said.1))
    }

    /// A pod that never got to run explains a failure better than the Job does.
    fn explain(&self, ending: Ending) -> Ending {
        let Ending::Failed(text) = ending else {
            return ending;
        };
        match &self.told {
            Some((Phase::Queued | Phase::Scheduled | Phase::Pulling, Some(note))) => {
                Ending::Failed(format!("{text}; {note}"))
            }
            _ => Ending::Failed(text),
        }
    }
}
