//! The logs of every container, followed: each line once, or a counted gap.
//!
//! One task a container. It opens the log when the pod watch says that the container runs, goes on after any
//! cut from the last line's second, completes a run that ended, and begins anew with the next one.

pub mod debugfile;
mod follow;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use tail::{Resume, Tail, stamp};

use super::cluster::Connection;
use crate::model::event::{
    ContainerKey, ContainerState, ContainerView, EdgeEvent, EdgeState, Event, PodKey, PodView,
    SourceEvent, SourceId, SourceInfo,
};
use crate::model::pods::Place;
use crate::parse::Nanos;
use follow::Follower;

/// How much of the logs is read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a log that exist already when it is opened; beyond them only its end is read.
    pub head: u64,
    /// Logs being caught up with at one time.
    pub opening: usize,
    /// Pods whose logs are followed.
    pub pods: usize,
}

/// Numbers for sources: whoever opens one in a run takes its number here.
#[derive(Debug, Clone, Default)]
pub struct SourceIds(Arc<std::sync::atomic::AtomicU32>);

impl SourceIds {
    /// The next number.
    #[must_use]
    pub fn next(&self) -> SourceId {
        SourceId(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 << 20,
            opening: 16,
            pods: 512,
        }
    }
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Doing {
    /// Nothing yet, or between two runs.
    #[default]
    Waits,
    Runs,
    Ended,
}

/// One run of a container.
#[derive(Debug, Clone, Eq, Default)]
pub(crate) struct Run {
    pub pod: String,
    pub restarts: u32,
    pub container: Option<String>,
}

impl PartialEq for Run {
    /// Between two runs the kubelet may or may not name the container.
    fn eq(&self, other: &Self) -> bool {
        let named = self.container.is_some() && other.container.is_some();
        self.pod == other.pod
            && self.restarts == other.restarts
            && (!named || self.container == other.container)
    }
}

/// What the pod watch says of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Now {
    pub run: Run,
    pub doing: Doing,
    pub started: Option<Nanos>,
    /// There was a run before this one, and the kubelet may still have its log.
    pub previous: bool,
    /// It will not run again.
    pub over: bool,
    /// The pod is gone.
    pub gone: bool,
}

impl Now {
    fn of(pod: &PodView, c: &ContainerView, policy: &str, init: bool) -> Self {
        let before = match &c.last_state {
            ContainerState::Terminated { started, .. } => Some(*started),
            _ => None,
        };
        let (doing, started, exit) = match (&c.state, before) {
            (ContainerState::Running { since }, _) => (Doing::Runs, *since, None),
            (
                ContainerState::Terminated {
                    started, exit_code, ..
                },
                _,
            ) => (Doing::Ended, *started, Some(*exit_code)),
            // In the back-off of a crash loop the log is still that of the run that crashed.
            (_, Some(started)) => (Doing::Ended, started, None),
            _ => (Doing::Waits, None, None),
        };
        let waits = !matches!(
            c.state,
            ContainerState::Running { .. } | ContainerState::Terminated { .. }
        );
        let stays = match (policy, exit) {
            _ if c.sidecar => false,
            (_, None) => false,
            ("Never", _) => true,
            ("OnFailure", Some(code)) => code == 0,
            (_, Some(code)) => init && code == 0,
        };
        Self {
            run: Run {
                pod: pod.uid.clone(),
                restarts: c.restarts,
                container: c.container_id.clone(),
            },
            doing,
            started,
            previous: before.is_some() && !waits,
            over: stays || matches!(pod.phase.as_str(), "Succeeded" | "Failed"),
            gone: false,
        }
    }
}

/// What all followers share.
pub(crate) struct Shared {
    pub link: Connection,
    pub tx: mpsc::Sender<Event>,
    pub head: u64,
    pub opening: Arc<Semaphore>,
    /// GPU containers that have not been opened yet; the others let them go first.
    pub first: watch::Sender<usize>,
    /// State of the `logs` edge: said once, not once a container.
    pub edge: Mutex<Option<EdgeState>>,
    pub ids: SourceIds,
}

impl Shared {
    pub async fn edge(&self, state: EdgeState) {
        let mut last = self.edge.lock().await;
        if last.as_ref() != Some(&state) {
            *last = Some(state.clone());
            let _ = self
                .tx
                .send(Event::Edge(EdgeEvent {
                    edge: "logs".into(),
                    state,
                }))
                .await;
        }
    }

    pub async fn source(&self, event: SourceEvent) -> bool {
        self.tx.send(Event::Source(event)).await.is_ok()
    }

    pub fn id(&self) -> SourceId {
        self.ids.next()
    }
}

struct Container {
    id: SourceId,
    /// Number of the next line.
    lines: Arc<AtomicU64>,
    now: watch::Sender<Now>,
    gpus: u32,
    place: Place,
    task: Option<AbortOnDropHandle<()>>,
    /// The run that was read to its end.
    whole: Arc<OnceRead>,
}

/// The run of a container whose log was read to its end: never again, whatever is still said of its pod.
#[derive(Debug, Default)]
pub(crate) struct OnceRead(std::sync::Mutex<Option<Run>>);

impl OnceRead {
    pub fn set(&self, run: Run) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(run);
    }

    fn is(&self, run: &Run) -> bool {
        let read = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        read.as_ref() == Some(run)
    }
}

/// The followers of a workload.
pub struct Fleet {
    shared: Arc<Shared>,
    containers: BTreeMap<ContainerKey, Container>,
    /// Those that exist.
    pods: BTreeSet<PodKey>,
    /// Those of them whose logs are followed.
    read: BTreeSet<PodKey>,
    limit: usize,
    /// How many were said to be left out.
    told: usize,
    /// Before the first list is whole nothing is opened: the order matters.
    synced: bool,
    listed: Option<BTreeSet<PodKey>>,
}

/// Lets the process open as many files as the system allows it: each followed log is a connection, and the usual
/// soft limit of 1,024 is less than 512 pods need.
fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read or write the struct that they are given, which lives here.
    #[expect(
        unsafe_code,
        reason = "the standard library has no way to the limit of open files"
    )]
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0
            && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max.min(65_536);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

impl Fleet {
    /// Followers over a connection.
    #[must_use]
    pub fn new(link: Connection, tx: mpsc::Sender<Event>, limits: Limits, ids: SourceIds) -> Self {
        raise_file_limit();
        let shared = Shared {
            link,
            tx,
            head: limits.head,
            opening: Arc::new(Semaphore::new(limits.opening.max(1))),
            first: watch::Sender::new(0),
            edge: Mutex::new(None),
            ids,
        };
        Self {
            shared: Arc::new(shared),
            containers: BTreeMap::new(),
            pods: BTreeSet::new(),
            read: BTreeSet::new(),
            limit: limits.pods,
            told: 0,
            synced: false,
            listed: None,
        }
    }

    /// A list begins: what it does not name is gone.
    pub fn resync(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// A pod as it is now.
    pub fn pod(&mut self, pod: &PodView, policy: &str) {
        let key = PodKey {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        };
        if let Some(l) = &mut self.listed {
            l.insert(key.clone());
        }
        self.pods.insert(key.clone());
        // Half a list does not say yet whose place has become free.
        if self.synced && self.listed.is_none() && self.read.len() < self.limit {
            self.read.insert(key.clone());
        }
        let reads = self.read.contains(&key);
        let place = Place::of(pod);
        let init = pod.init_containers.iter().map(|c| (c, true));
        for (c, init) in init.chain(pod.containers.iter().map(|c| (c, false))) {
            let now = Now::of(pod, c, policy, init);
            let key = ContainerKey {
                pod: key.clone(),
                container: c.name.clone(),
            };
            let shared = &self.shared;
            let entry = self
                .containers
                .entry(key.clone())
                .or_insert_with(|| Container {
                    id: shared.id(),
                    lines: Arc::new(AtomicU64::new(1)),
                    now: watch::Sender::new(now.clone()),
                    gpus: c.gpus,
                    place: place.clone(),
                    task: None,
                    whole: Arc::default(),
                });
            entry.now.send_if_modified(|old| {
                let changed = *old != now;
                *old = now;
                changed
            });
            if reads {
                start(&self.shared, &key, entry);
            }
        }
    }

    /// A pod was deleted.
    pub fn gone(&mut self, pod: &PodKey) {
        if let Some(l) = &mut self.listed {
            l.remove(pod);
        }
        self.pods.remove(pod);
        let free = self.read.remove(pod);
        for c in self
            .containers
            .iter()
            .filter(|(k, _)| k.pod == *pod)
            .map(|(_, c)| c)
        {
            c.now.send_modify(|n| n.gone = true);
        }
        if free && self.synced && self.listed.is_none() {
            self.fill();
        }
    }

    /// The list is complete. Opens what waits.
    pub fn synced(&mut self) {
        let listed = self.listed.take().unwrap_or_default();
        self.synced = false;
        for pod in &self.pods - &listed {
            self.gone(&pod);
        }
        self.synced = true;
        self.fill();
    }

    /// Opens what there is room for, GPU containers first: over the limit, pods with GPUs and low ranks are the ones
    /// that are read.
    fn fill(&mut self) {
        let mut order: Vec<_> = self
            .containers
            .iter()
            .filter(|(k, _)| self.pods.contains(&k.pod))
            .map(|(k, c)| (c.gpus == 0, c.place.clone(), k.clone()))
            .collect();
        order.sort();
        for (_, _, key) in order {
            if !self.read.contains(&key.pod) {
                if self.read.len() >= self.limit {
                    continue;
                }
                self.read.insert(key.pod.clone());
            }
            if let Some(c) = self.containers.get_mut(&key) {
                start(&self.shared, &key, c);
            }
        }
    }

    /// Where it has changed how many pods are left out: how that stands now.
    pub fn news(&mut self) -> Option<EdgeEvent> {
        let left_out = self.pods.len() - self.read.len();
        if !self.synced
            || self.listed.is_some()
            || std::mem::replace(&mut self.told, left_out) == left_out
        {
            return None;
        }
        let state = match left_out {
            0 => EdgeState::Up,
            n => EdgeState::Down {
                why: format!("there are {n} more than the {} that are read", self.limit),
            },
        };
        Some(EdgeEvent {
            edge: "logs of some pods".into(),
            state,
        })
    }
}

/// Starts a container's follower if it has none.
fn start(shared: &Arc<Shared>, key: &ContainerKey, c: &mut Container) {
    let running = c.task.as_ref().is_some_and(|t| !t.is_finished());
    // A container that waits for its image needs no task yet, and no place in the list of sources.
    if running || c.now.borrow().doing == Doing::Waits || c.now.borrow().gone {
        return;
    }
    // Pods change after their containers have ended: a condition, a finalizer, another container.
    if c.whole.is(&c.now.borrow().run) {
        return;
    }
    let fresh = c.task.is_none();
    let info = SourceInfo {
        name: format!("{}/{}/{}", key.pod.namespace, key.pod.name, key.container),
        container: Some(key.clone()),
        previous: false,
        started: c.now.borrow().started,
    };
    let follower = Follower::new(
        shared.clone(),
        c.id,
        info,
        c.lines.clone(),
        c.now.subscribe(),
        c.gpus > 0,
        c.whole.clone(),
    );
    c.task = Some(AbortOnDropHandle::new(tokio::spawn(follower.run(fresh))));
}
