//! One container's log from its first run to its last.

mod read;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::tail::Tail;
use super::{Doing, Now, OnceRead, Run, Shared};
use crate::model::event::{EdgeState, SourceEvent, SourceId, SourceInfo};
use crate::sources::cluster::{Backoff, Trouble, TroubleKind, jitter};

/// A log that has not answered for so long is one without lines: others may open meanwhile.
const SLOW: Duration = Duration::from_secs(2);
/// After a refusal rights may have changed.
const FORBIDDEN: Duration = Duration::from_secs(60);

/// Follows one container.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    id: SourceId,
    info: SourceInfo,
    lines: Arc<AtomicU64>,
    now: watch::Receiver<Now>,
    tail: Tail,
    backoff: Backoff,
    /// Lets the containers without GPUs wait until this one is open.
    turn: Option<Turn>,
    gpu: bool,
    whole: Arc<OnceRead>,
    /// The next opening may not join the last one, and that is no loss.
    loose: bool,
    /// The next opening reads only the end.
    only_end: bool,
    /// The last reading joined the one before.
    joined: bool,
    up: bool,
}

/// A GPU container that has not been opened yet.
struct Turn(Arc<Shared>);

impl Turn {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.first.send_modify(|n| *n += 1);
        Self(shared.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.first.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// Which part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// What is there and what will come.
    Follow,
    /// What is left of the run that ended.
    Rest,
    /// What is left of the run before the present one.
    Previous,
    /// The same, but only if it joins what was read: else it was not this run that ended.
    Join,
}

impl Part {
    fn is_previous(self) -> bool {
        matches!(self, Self::Previous | Self::Join)
    }
}

/// How reading ended.
enum End {
    /// The stream ended in order.
    Eof,
    Failed(Trouble),
    /// The lines are another run's.
    Other,
    /// More is there than is read of a head.
    TooLong,
    /// Nobody listens.
    Closed,
}

impl Follower {
    pub fn new(
        shared: Arc<Shared>,
        id: SourceId,
        info: SourceInfo,
        lines: Arc<AtomicU64>,
        now: watch::Receiver<Now>,
        gpu: bool,
        whole: Arc<OnceRead>,
    ) -> Self {
        let turn = gpu.then(|| Turn::new(&shared));
        Self {
            shared,
            id,
            info,
            lines,
            now,
            tail: Tail::default(),
            backoff: Backoff::default(),
            turn,
            gpu,
            whole,
            loose: false,
            only_end: false,
            joined: false,
            up: false,
        }
    }

    /// Runs until the container ended for good.
    pub async fn run(mut self, fresh: bool) {
        if fresh
            && !self
                .shared
                .source(SourceEvent::Opened(self.id, self.info.clone()))
                .await
        {
            return;
        }
        if !self.gpu {
            // Not for ever: a GPU container may hang in its opening.
            let mut first = self.shared.first.subscribe();
            let _ = timeout(Duration::from_secs(10), first.wait_for(|n| *n == 0)).await;
        }
        let mut current: Option<Run> = None;
        let mut complete = false;
        loop {
            let now = self.now.borrow_and_update().clone();
            if now.gone && (complete || current.is_none()) {
                self.end(None).await;
                return;
            }
            if now.gone {
                // The log goes with the pod; what came to the end of it in order is whole.
                self.end(Some("the pod is gone".into())).await;
                return;
            }
            if current.as_ref().is_some_and(|r| *r != now.run)
                && !complete
                && now.doing != Doing::Waits
            {
                complete = self.finish(current.as_ref(), &now).await;
            }
            if now.doing == Doing::Waits || (complete && current.as_ref() == Some(&now.run)) {
                self.turn = None;
                if now.over {
                    if let Some(run) = current.filter(|_| complete) {
                        self.whole.set(run);
                    }
                    self.end(None).await;
                    return;
                }
                if self.now.changed().await.is_err() {
                    return;
                }
                continue;
            }
            if current.as_ref() != Some(&now.run) {
                if current.is_none() && now.previous && !self.previous_run().await {
                    return;
                }
                self.begin(&now);
                current = Some(now.run.clone());
                complete = false;
            }
            let part = if now.doing == Doing::Runs {
                Part::Follow
            } else {
                Part::Rest
            };
            match self.read(part).await {
                End::Eof if part == Part::Rest => {
                    // Complete unless the run changed meanwhile; then the next turn finds out.
                    complete = true;
                }
                End::Eof => {
                    self.up = false;
                    // Ended or cut politely: the two look alike until the pod watch speaks.
                    let still = |n: &Now| n.run != now.run || n.doing != Doing::Runs || n.gone;
                    if timeout(SLOW, self.now.wait_for(still)).await.is_err() {
                        let why = "the log stream ended while the container runs".into();
                        self.retry(Trouble {
                            kind: TroubleKind::Network,
                            text: why,
                        })
                        .await;
                    }
                }
                End::Other => {}
                End::TooLong => {
                    let mib = self.shared.head >> 20;
                    let why = format!("the log is longer than {mib} MiB: its middle was not read");
                    self.lost(None, why).await;
                    self.only_end = true;
                    self.loose = true;
                }
                End::Failed(t) => self.retry(t).await,
                End::Closed => return,
            }
        }
    }

    /// A new run begins.
    fn begin(&mut self, now: &Now) {
        // Lines that are younger than the run's start are its own, read before the pod watch told us of it.
        let own = match (self.tail.newest(), now.started) {
            (Some(newest), Some(started)) => newest >= started,
            _ => false,
        };
        if own {
            self.loose = true;
        } else {
            self.tail.restart();
            self.loose = false;
        }
        self.only_end = false;
    }

    /// Reads what is left of a run that ended while we were not looking. True: it is done with.
    async fn finish(&mut self, old: Option<&Run>, now: &Now) -> bool {
        let next = old.is_some_and(|o| {
            o.pod == now.run.pod && o.restarts.saturating_add(1) == now.run.restarts
        });
        if self
            .tail
            .newest()
            .is_some_and(|n| now.started.is_some_and(|s| n >= s))
        {
            return true;
        }
        let gap = if next && now.previous {
            match self.read(Part::Previous).await {
                End::Eof => None,
                End::Failed(t) => Some(format!(
                    "the end of the run before can't be read: {}",
                    t.text
                )),
                _ => Some("the end of the run before can't be read".into()),
            }
        } else if old.is_some_and(|o| o.pod != now.run.pod) {
            Some("the pod was replaced before the end of its log was read".to_string())
        } else {
            Some("a run of the container ended before it could be read".into())
        };
        if let Some(why) = gap {
            self.lost(None, why).await;
        }
        true
    }

    /// Reads the run before the first one that we see, as a source of its own. False when nobody listens.
    async fn previous_run(&mut self) -> bool {
        let id = self.shared.id();
        let info = SourceInfo {
            name: format!("{}@previous", self.info.name),
            previous: true,
            started: None,
            ..self.info.clone()
        };
        if !self
            .shared
            .source(SourceEvent::Opened(id, info.clone()))
            .await
        {
            return false;
        }
        let mut other = Self {
            shared: self.shared.clone(),
            id,
            info,
            lines: Arc::new(AtomicU64::new(1)),
            now: self.now.clone(),
            tail: Tail::default(),
            backoff: Backoff::default(),
            turn: None,
            gpu: self.gpu,
            whole: Arc::default(),
            loose: true,
            only_end: false,
            joined: false,
            up: false,
        };
        // Tried a few times: it is read only once, and it often holds the reason.
        let mut why = None;
        for _ in 0..4 {
            why = match other.read(Part::Previous).await {
                End::Eof | End::Other => None,
                End::TooLong => {
                    let mib = self.shared.head >> 20;
                    other
                        .lost(
                            None,
                            format!("the log is longer than {mib} MiB: its end was not read"),
                        )
                        .await;
                    None
                }
                End::Closed => return false,
                End::Failed(t)
                    if matches!(
                        t.kind,
                        TroubleKind::Network | TroubleKind::Busy | TroubleKind::Other
                    ) =>
                {
                    let text = t.text.clone();
                    other.retry(t).await;
                    Some(text)
                }
                End::Failed(t) => {
                    why = Some(t.text);
                    break;
                }
            };
            if why.is_none() {
                break;
            }
        }
        self.shared.source(SourceEvent::Ended { id, why }).await
    }

    async fn end(&mut self, why: Option<String>) {
        self.turn = None;
        self.shared
            .source(SourceEvent::Ended { id: self.id, why })
            .await;
    }

    async fn lost(&mut self, lines: Option<u64>, why: String) {
        self.shared
            .source(SourceEvent::Lost {
                id: self.id,
                lines,
                why,
            })
            .await;
    }

    /// Says why and waits, as long as it takes or until the container changes.
    async fn retry(&mut self, t: Trouble) {
        self.turn = None;
        self.up = false;
        if t.kind == TroubleKind::Forbidden {
            let ns = self
                .info
                .container
                .as_ref()
                .map_or("", |c| c.pod.namespace.as_str());
            self.shared
                .edge(EdgeState::Forbidden {
                    rule: format!("get pods/log in namespace {ns}"),
                })
                .await;
        }
        if matches!(t.kind, TroubleKind::Unauthorized | TroubleKind::Login)
            && let Err(e) = self.shared.link.renew().await
        {
            tracing::debug!("renewal: {e}");
        }
        let wait = if t.kind == TroubleKind::Forbidden {
            jitter(FORBIDDEN)
        } else {
            self.backoff.failed()
        };
        let in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.shared
            .source(SourceEvent::Retrying {
                id: self.id,
                why: t.text,
                in_ms,
            })
            .await;
        let seen = self.now.borrow().clone();
        // A restart or the pod's end is news worth an earlier look, but not a storm of them.
        let changed = async { self.now.wait_for(|n| *n != seen).await.is_ok() };
        tokio::select! {
            () = sleep(wait) => {}
            _ = changed => sleep(jitter(Duration::from_millis(200))).await,
        }
    }

    async fn is_up(&mut self) {
        if !self.up {
            self.up = true;
            self.shared.source(SourceEvent::Up(self.id)).await;
            self.shared.edge(EdgeState::Up).await;
        }
    }
}
