//! Figures from inside the pods: one sampler per container with GPUs, held for as long as it is on screen.
//!
//! What runs there is `assets/sampler.sh`, a constant; its values are positional arguments. It measures once per
//! container however many people watch, and ends with the lease that every command of ours runs under. Where
//! commands are forbidden, DCGM's exporter on the pod's node is asked instead.

pub mod dcgm;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Access, ExecSpec, Helper, Seen, jitter, part};
use crate::model::event::{
    ContainerKey, ContainerState, Event, PodView, ProbeEvent, ProbeOutcome, SampleEvent,
};
use crate::model::pods::command;
use crate::parse::gpu::{CORE, MORE};

/// The script, as it is kept; see [`script`].
const SCRIPT: &str = include_str!("../../assets/sampler.sh");
/// Seconds between two looks at the container.
const EVERY: &str = "2";
/// Milliseconds between two rounds of `nvidia-smi`.
const ROUND: &str = "1000";
/// Samplers at most: as many pods as logs are followed of.
const MOST: usize = 512;
/// First and longest wait before one is begun anew.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Beyond this many they are not begun at once, each a connection to the API server, but one in so long.
const BEGIN: (usize, Duration) = (16, Duration::from_millis(30));
/// A sampler that ran this long was well: the next wait is short again.
const WELL: Duration = Duration::from_secs(60);
/// Silence after which one is taken for dead.
const QUIET: Duration = Duration::from_secs(45);
/// Lines of one round come together: so long they are waited for.
const TOGETHER: Duration = Duration::from_millis(25);
/// Lines in one event at most.
const LINES: usize = 256;
/// Name of the probe that says how samplers fare.
pub const PROBE: &str = "sampler";

/// The script without comments and indentation: it travels in a URL.
#[must_use]
pub fn script() -> String {
    let mut short = String::with_capacity(SCRIPT.len());
    for line in SCRIPT.lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            short.push_str(line);
            short.push('\n');
        }
    }
    short
}

/// A container with GPUs that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub at: ContainerKey,
    /// Its present life.
    pub life: String,
    /// Node.
    pub node: Option<String>,
    /// Folder of the model, where its command names one.
    pub model: Option<String>,
}

impl Target {
    /// The container of a pod that has its GPUs, if it runs.
    #[must_use]
    pub fn of(pod: &PodView) -> Option<Self> {
        let c = pod.containers.iter().find(|c| c.gpus > 0)?;
        if !matches!(c.state, ContainerState::Running { .. }) || pod.deletion.is_some() {
            return None;
        }
        let settings = command::settings(pod, c);
        Some(Self {
            at: ContainerKey {
                pod: crate::model::event::PodKey {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                },
                container: c.name.clone(),
            },
            life: c.container_id.clone().unwrap_or_default(),
            node: pod.node.clone(),
            model: settings
                .get("model")
                .filter(|m| m.starts_with('/'))
                .map(str::to_owned),
        })
    }

    /// What is run in it. Places of cgroup, proc and lock are those of every container.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let model = self.model.as_deref().unwrap_or_default();
        let values = [EVERY, ROUND, CORE, MORE, model, "/sys/fs/cgroup", "/proc"];
        let mut argv = vec![
            "sh".to_owned(),
            "-c".into(),
            script(),
            "ncclscope-sampler".into(),
        ];
        argv.extend(values.into_iter().map(str::to_owned));
        argv.push("/dev/shm /tmp".into());
        // Pods that share their host's memory share its folder, too.
        argv.push(format!(
            "{}.{}.{}",
            self.at.pod.namespace, self.at.pod.name, self.at.container
        ));
        argv
    }

    fn spec(&self) -> ExecSpec {
        ExecSpec {
            at: self.at.clone(),
            argv: self.command(),
            ran: format!(
                "nvidia-smi --query-gpu=… --loop-ms={ROUND} and cgroup figures every {EVERY} s"
            ),
            cap: 64 << 10,
            limit: None,
            quiet: Some(QUIET),
        }
    }
}

/// The helper that keeps samplers running while a workload is on screen.
#[must_use]
pub fn helper() -> Helper {
    Box::new(|access, _| Box::pin(keep(access)))
}

/// Keeps one sampler per container with GPUs that runs.
async fn keep(access: Access) {
    let mut seen = access.seen();
    let mut running: BTreeMap<ContainerKey, (Target, AbortOnDropHandle<()>)> = BTreeMap::new();
    let nodes = Nodes::default();
    loop {
        let (wanted, whole) = {
            let seen = seen.borrow_and_update();
            (targets(&seen), seen.synced)
        };
        // How many there are is known when the first list is whole.
        if !whole {
            if seen.changed().await.is_err() {
                return;
            }
            continue;
        }
        running.retain(|at, (target, _)| wanted.get(at) == Some(target));
        let spread = match u32::try_from(wanted.len()) {
            Ok(many) if wanted.len() > BEGIN.0 => BEGIN.1 * many,
            _ => Duration::ZERO,
        };
        for (at, target) in wanted {
            running.entry(at).or_insert_with(|| {
                let work = one(access.clone(), target.clone(), nodes.clone(), spread);
                (target, AbortOnDropHandle::new(tokio::spawn(work)))
            });
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

/// Whose turn it is to ask a node's exporter; when that one goes, the next one does.
#[derive(Clone, Default)]
struct Nodes(Arc<Mutex<BTreeMap<String, Turn>>>);

type Turn = Arc<tokio::sync::Mutex<()>>;

impl Nodes {
    fn of(&self, node: &str) -> Turn {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(node.to_owned()).or_default().clone()
    }
}

fn targets(seen: &Seen) -> BTreeMap<ContainerKey, Target> {
    let of = seen.pods.values().filter_map(|pod| Target::of(pod));
    of.take(MOST).map(|t| (t.at.clone(), t)).collect()
}

/// What comes after a sampler that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is begun anew after so long.
    Anew(Duration),
    /// It can't run there: the exporter of the node is asked instead.
    Exporter,
    /// Nobody wants it.
    Over,
}

/// How one sampler has fared, and when it is begun anew.
#[derive(Debug)]
pub struct Keeper {
    wait: Duration,
    failed: u32,
}

impl Default for Keeper {
    fn default() -> Self {
        Self {
            wait: WAIT.0,
            failed: 0,
        }
    }
}

impl Keeper {
    /// Whether the last one measured no GPU.
    #[must_use]
    pub fn ailing(&self) -> bool {
        self.failed > 0
    }

    /// One ended in this way, after having run so long; `measured`: it told of a GPU.
    pub fn ended(&mut self, outcome: &ProbeOutcome, ran: Duration, measured: bool) -> Next {
        match outcome {
            ProbeOutcome::Refused { rule: Some(_), .. } => return Next::Exporter,
            // What the image lacks it will lack the next time, too.
            ProbeOutcome::Failed { why } if why.contains("no shell") => return Next::Exporter,
            ProbeOutcome::Refused { .. } => return Next::Over,
            _ => {}
        }
        self.failed = if measured { 0 } else { self.failed + 1 };
        if ran >= WELL {
            self.wait = WAIT.0;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(WAIT.1);
        Next::Anew(wait)
    }
}

/// Samples one container until it is gone, with back-off between attempts; `spread` is what all of them begin within.
async fn one(access: Access, target: Target, nodes: Nodes, spread: Duration) {
    let mut keeper = Keeper::default();
    loop {
        sleep(part(spread)).await;
        let begun = Instant::now();
        let (lines, mut heard) = mpsc::channel(LINES);
        let (outcome, measured) = tokio::join!(
            access.follow(target.spec(), lines),
            hand_on(&access, &target, &mut heard, keeper.ailing())
        );
        let ran = target.spec().ran;
        let next = keeper.ended(&outcome, begun.elapsed(), measured);
        let outcome = match outcome {
            ProbeOutcome::Answered { code, err, .. } => {
                let said = err.lines().last().unwrap_or_default();
                let why = format!("the sampler ended with {code}, begun anew: {said}");
                ProbeOutcome::Failed {
                    why: why.trim_end_matches([':', ' ']).into(),
                }
            }
            other => other,
        };
        if !tell(&access, &target, ran, outcome).await {
            return;
        }
        match next {
            Next::Anew(wait) => sleep(jitter(wait)).await,
            Next::Exporter => {
                // One exporter tells of all GPUs of its node: one of those who would ask it does, for all of them.
                let turn = nodes.of(target.node.as_deref().unwrap_or_default());
                let _turn = turn.lock().await;
                return dcgm::keep(&access, &target).await;
            }
            Next::Over => return,
        }
    }
}

async fn tell(access: &Access, target: &Target, ran: String, outcome: ProbeOutcome) -> bool {
    let event = ProbeEvent {
        probe: PROBE.into(),
        container: Some(target.at.clone()),
        ran,
        outcome,
    };
    access.tell(Event::Probe(event)).await
}

/// Which tool's reading a line is.
fn tool(line: &[u8]) -> &'static str {
    let own: [&[u8]; 3] = [b"cgroup ", b"model ", b"trouble "];
    if own.iter().any(|head| line.starts_with(head)) {
        "cgroup"
    } else {
        "nvidia-smi"
    }
}

/// Makes events of the lines that come together; whether a GPU was measured.
async fn hand_on(
    access: &Access,
    target: &Target,
    heard: &mut mpsc::Receiver<Vec<u8>>,
    ailing: bool,
) -> bool {
    let mut measured = false;
    while let Some(first) = heard.recv().await {
        let mut round: Vec<(&'static str, String)> = Vec::new();
        put(&mut round, &first);
        let end = Instant::now() + TOGETHER;
        for _ in 1..LINES {
            match timeout(end - Instant::now(), heard.recv()).await {
                Ok(Some(line)) => put(&mut round, &line),
                Ok(None) | Err(_) => break,
            }
        }
        for (tool, text) in round {
            if tool == "nvidia-smi" && !measured {
                measured = true;
                if ailing {
                    // It is over: what was said of it no longer holds.
                    let well = ProbeOutcome::Answered {
                        code: 0,
                        out: String::new(),
                        err: String::new(),
                        cut: false,
                        ms: 0,
                    };
                    tell(access, target, target.spec().ran, well).await;
                }
            }
            let event = SampleEvent {
                container: Some(target.at.clone()),
                node: target.node.clone(),
                tool: tool.into(),
                text,
            };
            if !access.tell(Event::Sample(event)).await {
                return measured;
            }
        }
    }
    measured
}

/// Adds a line to the last event if it is of the same tool.
fn put(round: &mut Vec<(&'static str, String)>, line: &[u8]) {
    let tool = tool(line);
    let text = String::from_utf8_lossy(line);
    match round.last_mut() {
        Some((last, so_far)) if *last == tool => {
            so_far.push_str(&text);
            so_far.push('\n');
        }
        _ => round.push((tool, format!("{text}\n"))),
    }
}
