//! What a screen over a cluster is made of: the watch of one workload, whoever works on it, and the questions
//! between them and the person. Another workload begins all of it anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::access::{Access, Desk, Seen};
use super::{ClusterOptions, Connection, run};
use crate::model::event::{Errand, Event, PodEvent, PodKey, ProbeOutcome};
use crate::rules::checks::probes_of;
use crate::rules::probes::{FILE, FILE_MAP};
use crate::sources::gate::Setup;
use crate::sources::podlogs::SourceIds;

/// What is asked of whoever feeds the screen, beside what the director does itself.
pub type Errands = broadcast::Receiver<Errand>;
/// Works on a workload beside watching it; begun anew with each one, dropped with it. It listens before it begins:
/// nothing that was asked early is lost.
pub type Helper = Box<dyn Fn(Access, Errands) -> BoxFuture<'static, ()> + Send + Sync>;

/// Events under way inside: the bus behind it bounds memory.
const UNDER_WAY: usize = 8;
/// Errands that a helper may be behind with.
const ERRANDS: usize = 64;

/// Directs a session until nobody listens or it is cancelled.
pub struct Director {
    link: Connection,
    options: ClusterOptions,
    desk: Arc<Desk>,
    helpers: Vec<Helper>,
    tx: mpsc::Sender<Event>,
}

impl std::fmt::Debug for Director {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Director")
            .field("options", &self.options)
            .field("helpers", &self.helpers.len())
            .finish_non_exhaustive()
    }
}

/// Why a run ended.
enum Next {
    /// For good.
    Leave,
    /// Another workload, or the choice of one.
    Again,
}

impl Director {
    /// A director; `helpers` are those who work on the workload.
    #[must_use]
    pub fn new(
        link: Connection,
        options: ClusterOptions,
        setup: Setup,
        helpers: Vec<Helper>,
        tx: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            desk: Arc::new(Desk::new(link.clone(), setup)),
            link,
            options,
            helpers,
            tx,
        }
    }

    /// Runs; `errands` is what the person asks for.
    pub async fn run(
        mut self,
        mut errands: mpsc::UnboundedReceiver<Errand>,
        cancel: CancellationToken,
    ) {
        let tx = self.tx.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tx.closed() => {}
            () = async { while matches!(self.one(&mut errands).await, Next::Again) {} } => {}
        }
    }

    /// The session as the header shows it now.
    async fn introduce(&self) -> bool {
        let session = self
            .options
            .session(&self.link, self.desk.level(), self.desk.locked());
        self.tx.send(Event::Session(session)).await.is_ok()
    }

    /// One workload, or the choice of one.
    async fn one(&mut self, errands: &mut mpsc::UnboundedReceiver<Errand>) -> Next {
        self.options.ids = SourceIds::default();
        let until = CancellationToken::new();
        let _ended = until.clone().drop_guard();
        let (events_tx, mut events) = mpsc::channel(UNDER_WAY);
        let (seen, seen_rx) = watch::channel(Seen::default());
        let (orders, _) = broadcast::channel(ERRANDS);
        let access = Access::new(
            self.desk.clone(),
            events_tx.clone(),
            seen_rx,
            self.options.ids.clone(),
            until.clone(),
        );
        let mut tasks: Vec<_> = self
            .helpers
            .iter()
            .map(|helper| {
                AbortOnDropHandle::new(tokio::spawn(helper(access.clone(), orders.subscribe())))
            })
            .collect();
        tasks.push(AbortOnDropHandle::new(tokio::spawn(run(
            self.link.clone(),
            self.options.clone(),
            events_tx,
            until.clone(),
        ))));
        let (mut answered, mut acting) = self.desk.changes();
        if !self.introduce().await {
            return Next::Leave;
        }
        let mut open = true;
        loop {
            let sent = tokio::select! {
                Some(event) = events.recv() => {
                    note(&seen, &event);
                    self.tx.send(event).await.is_ok()
                }
                errand = errands.recv(), if open => match errand {
                    // Nobody asks for anything any more; what is on screen goes on.
                    None => { open = false; true }
                    Some(Errand::Answer { number, yes }) => { self.desk.answer(number, yes); true }
                    Some(errand @ (Errand::Watch(_) | Errand::Choose)) => {
                        // Before what was asked is forgotten: nobody asks anything behind its back.
                        until.cancel();
                        return self.turn(errand).await;
                    }
                    Some(other) => {
                        if let Errand::Recheck(what) = &other
                            && what.as_deref().is_none_or(|w| !probes_of(w).is_empty())
                        {
                            self.desk.reconsider();
                        }
                        let _ = orders.send(other);
                        true
                    }
                },
                Ok(()) = answered.changed() => self.introduce().await,
                Ok(()) = acting.changed() => self.introduce().await,
            };
            if !sent {
                return Next::Leave;
            }
        }
    }

    /// To another workload, or to the choice.
    async fn turn(&mut self, errand: Errand) -> Next {
        match errand {
            Errand::Watch(workload) => {
                self.options.chosen = Some(*workload);
                self.options.pick = false;
            }
            _ => {
                self.options.chosen = None;
                self.options.pick = true;
            }
        }
        for number in self.desk.forget() {
            if self.tx.send(Event::Unask(number)).await.is_err() {
                return Next::Leave;
            }
        }
        match self.tx.send(Event::Afresh).await {
            Ok(()) => Next::Again,
            Err(_) => Next::Leave,
        }
    }
}

/// Keeps what helpers need to know.
fn note(seen: &watch::Sender<Seen>, event: &Event) {
    match event {
        Event::Workloads(list) => {
            if let [one] = list.as_slice() {
                seen.send_modify(|s| s.workload = Some(one.clone()));
            }
        }
        Event::Pod(PodEvent::Resync) => {
            seen.send_modify(|s| s.listed = Some(BTreeSet::new()));
        }
        Event::Pod(PodEvent::Upsert(pod)) => {
            let key = PodKey {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
            };
            let pod = Arc::new((**pod).clone());
            seen.send_modify(|s| {
                if let Some(listed) = &mut s.listed {
                    listed.insert(key.clone());
                }
                s.pods.insert(key, pod);
            });
        }
        Event::Pod(PodEvent::Gone(key)) => seen.send_modify(|s| drop(s.pods.remove(key))),
        Event::Pod(PodEvent::Synced) => seen.send_modify(|s| {
            if let Some(listed) = s.listed.take() {
                s.pods.retain(|key, _| listed.contains(key));
            }
            s.synced = true;
        }),
        // Only what came of it: that it runs is no news for anybody.
        Event::Probe(p)
            if [FILE, FILE_MAP].contains(&p.probe.as_str()) && p.outcome != ProbeOutcome::Began =>
        {
            seen.send_modify(|s| s.files.apply(p.clone(), 0));
        }
        _ => {}
    }
}
