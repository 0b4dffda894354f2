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
use crate::parse::{clean, perf};
use crate::sources::cluster::{self, ClusterOptions, Connection};

/// How often the Job is asked for its end. One small object, for minutes.
const ASK: Duration = Duration::from_secs(1);
/// How long the last lines of ended pods are waited for.
const LAST_LINES: Duration = Duration::from_secs(10);

/// Characters of the last line of a container that failed.
const LAST_WORDS: usize = 200;

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
        queue: queue(&plan.job),
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
                    Ok(Some(job)) => {
                        if let Some(out) = seen.suspended(&job)
                            && tx.send(out).await.is_err()
                        {
                            return Ending::Cancelled;
                        }
                        ending = end_of(&job);
                    }
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

/// The queue system that decides when it may run, in words: `Kueue queue gpu`.
fn queue(job: &Job) -> Option<String> {
    const QUEUES: [(&str, &str); 4] = [
        ("kueue.x-k8s.io/queue-name", "Kueue"),
        ("runai/queue", "run:ai"),
        ("kai.scheduler/queue", "KAI"),
        ("volcano.sh/queue-name", "Volcano"),
    ];
    let spec = job.spec.as_ref();
    let meta = spec.and_then(|s| s.template.metadata.as_ref());
    let labels = job.metadata.labels.iter().flatten();
    let of_pods = meta.and_then(|m| m.labels.as_ref()).into_iter().flatten();
    let notes = meta
        .and_then(|m| m.annotations.as_ref())
        .into_iter()
        .flatten();
    let all: BTreeMap<&String, &String> = labels.chain(of_pods).chain(notes).collect();
    let named = QUEUES.iter().find_map(|(key, name)| {
        let queue = all.get(&(*key).to_owned())?;
        Some(format!("{name} queue {queue}"))
    });
    let scheduler = || {
        let pods = spec.and_then(|s| s.template.spec.as_ref())?;
        let name = pods.scheduler_name.as_deref()?;
        let known = [("volcano", "Volcano"), ("runai", "run:ai"), ("kai", "KAI")];
        let (_, said) = known.iter().find(|(part, _)| name.contains(part))?;
        Some(format!("{said} (scheduler {name})"))
    };
    named.or_else(scheduler)
}

struct Seen {
    /// Who decides when it may run, beside the cluster's own scheduler.
    queue: Option<String>,
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

    /// A queue holds the whole Job back: no pod exists that could say why.
    fn suspended(&mut self, job: &Job) -> Option<TestEvent> {
        let held = job.spec.as_ref().and_then(|s| s.suspend) == Some(true);
        if !held || !self.pods.is_empty() {
            return None;
        }
        let who = self.queue.as_deref().unwrap_or("whoever suspended it");
        self.say(
            Phase::Queued,
            Some(format!("the Job is suspended until {who} admits it")),
        )
    }

    fn say(&mut self, phase: Phase, note: Option<String>) -> Option<TestEvent> {
        let said = (phase, note);
        if self.told.as_ref() == Some(&said) {
            return None;
        }
        self.told = Some(said.clone());
        Some(TestEvent::Phase(said.0, said.1))
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
            let queue = self.queue.iter().map(|q| format!(", in {q}"));
            let queue: String = queue.collect();
            (
                Phase::Queued,
                Some(format!("{} pods have a node{queue}{reason}", of(placed))),
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
        self.say(phase, note)
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
            _ => match self.last_words() {
                Some(words) => Ending::Failed(format!("{text}: {words}")),
                None => Ending::Failed(text),
            },
        }
    }

    /// What a container that failed wrote last: where no rank came to speak, that says why.
    fn last_words(&self) -> Option<String> {
        let containers = self.pods.values().flat_map(|p| &p.containers);
        let said = containers.filter_map(|c| match &c.state {
            ContainerState::Terminated {
                exit_code: 1..,
                message: Some(message),
                ..
            } => message.lines().map(str::trim).rfind(|l| !l.is_empty()),
            _ => None,
        });
        // A line of JSON was read where it stands.
        let mut said = said.filter(|l| !l.starts_with(perf::PREFIX));
        said.next()
            .map(|l| clean(l.as_bytes()).chars().take(LAST_WORDS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::ContainerView;

    fn job(text: &str) -> Job {
        serde_yaml::from_str(text).unwrap_or_default()
    }

    #[test]
    fn queue_systems_are_recognised() {
        let of = |labels: &str, pods: &str| {
            queue(&job(&format!(
                "{{ metadata: {{ labels: {{ {labels} }} }}, spec: {{ template: {{ {pods} }} }} }}"
            )))
        };
        let kueue = of("kueue.x-k8s.io/queue-name: gpus", "");
        assert_eq!(kueue.as_deref(), Some("Kueue queue gpus"));
        let volcano = of(
            "",
            "metadata: { annotations: { volcano.sh/queue-name: a } }",
        );
        assert_eq!(volcano.as_deref(), Some("Volcano queue a"));
        let runai = of(
            "",
            "spec: { containers: [], schedulerName: runai-scheduler }",
        );
        assert_eq!(runai.as_deref(), Some("run:ai (scheduler runai-scheduler)"));
        assert_eq!(of("app: llm", ""), None);
    }

    #[test]
    fn where_no_rank_spoke_the_last_line_says_why() {
        let ended = |message: &str| {
            let state = ContainerState::Terminated {
                exit_code: 2,
                signal: None,
                reason: None,
                message: Some(message.into()),
                started: None,
                finished: None,
            };
            let container = ContainerView {
                state,
                ..ContainerView::default()
            };
            let pod = PodView {
                containers: vec![container],
                ..PodView::default()
            };
            let seen = Seen {
                queue: None,
                pods: BTreeMap::from([("p".to_owned(), pod)]),
                expected: 1,
                open: BTreeSet::new(),
                told: Some((Phase::Starting, None)),
            };
            seen.explain(Ending::Failed("exit code 2".into()))
        };
        assert_eq!(
            ended("looking\n\u{1b}[31mno all_reduce_perf in this image\n"),
            Ending::Failed("exit code 2: no all_reduce_perf in this image".into())
        );
        assert_eq!(
            ended("#ncclscope {}\n"),
            Ending::Failed("exit code 2".into())
        );
    }

    #[test]
    fn a_suspended_job_says_who_holds_it_once() {
        let mut seen = Seen {
            queue: Some("Kueue queue gpus".into()),
            pods: BTreeMap::new(),
            expected: 2,
            open: BTreeSet::new(),
            told: None,
        };
        let held = job("{ spec: { suspend: true, template: {} } }");
        let said = seen.suspended(&held);
        let Some(TestEvent::Phase(Phase::Queued, Some(note))) = said else {
            unreachable!("it is queued, and says why");
        };
        assert_eq!(
            note,
            "the Job is suspended until Kueue queue gpus admits it"
        );
        assert!(seen.suspended(&held).is_none(), "said already");
        assert!(seen.suspended(&job("{ spec: { template: {} } }")).is_none());
    }
}
