//! What the workload's own logs say of its transports: read once, beside the test, so that the test can be held
//! against them.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::headless::is_news;
use crate::app::record::{self, Keeper};
use crate::model::event::{Event, Stamped};
use crate::model::{Model, update};
use crate::rules::scene::Scene;
use crate::sources::cluster::{self, ClusterOptions, Connection};

/// What is there is read, then nothing new may come for so long.
const QUIET: Duration = Duration::from_secs(2);
/// A workload that never stops speaking is heard for so long.
const LONGEST: Duration = Duration::from_secs(20);
/// Events under way.
const BUS: usize = 32;

/// The workload beside the test.
pub(super) struct Workload {
    model: Model,
    seq: u64,
    begun: Instant,
    /// When the last news came.
    last: Instant,
    reading: Option<Reading>,
}

/// Pods and logs are being read; what reads them ends with this.
struct Reading {
    events: mpsc::Receiver<Event>,
    _stop: DropGuard,
}

impl Workload {
    /// Nothing is read: a test without GPUs says nothing of NCCL's transports.
    pub(super) fn unread() -> Self {
        let now = Instant::now();
        Self {
            model: Model::default(),
            seq: 0,
            begun: now,
            last: now,
            reading: None,
        }
    }

    /// Begins to read the workload that the options choose.
    pub(super) fn begin(link: &Connection, options: ClusterOptions) -> Self {
        let (tx, events) = mpsc::channel(BUS);
        let stop = CancellationToken::new();
        tokio::spawn(cluster::run(link.clone(), options, tx, stop.clone()));
        let reading = Some(Reading {
            events,
            _stop: stop.drop_guard(),
        });
        Self {
            reading,
            ..Self::unread()
        }
    }

    /// What it says next; `None` when all was read, and for ever nothing after that.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let Some(reading) = &mut self.reading else {
            return pending().await;
        };
        let longest = self.begun + LONGEST;
        let until = if self.model.pods.synced() {
            longest.min(self.last + QUIET)
        } else {
            longest
        };
        let next = timeout_at(until, reading.events.recv()).await;
        let event = next.ok().flatten();
        if event.is_none() {
            self.reading = None;
        }
        event
    }

    /// Takes what it said.
    pub(super) fn take(&mut self, event: Event, keeper: &mut Keeper) {
        if is_news(&event) {
            self.last = Instant::now();
        }
        self.seq += 1;
        let stamped = Stamped {
            seq: self.seq,
            at: record::now(),
            event,
        };
        keeper.keep(&stamped);
        update(&mut self.model, stamped);
    }

    /// Reads what is left of it; at most until [`LONGEST`] after it began.
    pub(super) async fn finish(&mut self, keeper: &mut Keeper) {
        while self.reading.is_some() {
            if let Some(event) = self.next().await {
                self.take(event, keeper);
            }
        }
    }

    /// What is known of it.
    pub(super) fn scene(&self) -> Scene {
        Scene::of(&self.model)
    }
}
