//! A Kubernetes cluster: its pods, their events and logs as a stream of [`Event`]s.
//!
//! Everything is watched, nothing polled: one watch a kind, restricted by selectors, so that a namespace of
//! 50,000 foreign pods costs nothing. What RBAC refuses is said with the rule that would allow it; the rest works.

mod access;
mod backoff;
pub mod checks;
mod client;
pub mod configfile;
mod director;
mod discover;
mod exec;
mod login;
pub mod needs;
mod nodes;
pub mod observe;
mod proxy;
mod proxyget;
mod trouble;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::DynamicObject;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use access::{Access, Get, Leave, Seen, Shown};
pub(crate) use backoff::{Backoff, jitter, part};
pub use client::{Connection, connect};
pub use director::{Director, Errands, Helper};
pub use discover::{Found, find, missing};
pub use exec::ExecSpec;
use nodes::Nodes;
pub use proxy::Environment as ProxyEnvironment;
pub(crate) use trouble::one_line;
pub use trouble::{ClusterError, Kind as TroubleKind, Trouble};
use watch::{Change, Edge, Selection, watch};

use super::podlogs::{Fleet, Limits, SourceIds};
use crate::model::event::{
    EdgeState, Event, Feed, KubeEvent, Level, PodEvent, PodKey, Session, WorkloadView,
};

/// What to look at and as whom; flags as kubectl has them.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `-n`.
    pub namespace: Option<String>,
    /// `-A`.
    pub all_namespaces: bool,
    /// Namespaces that are looked at one by one in place of the one: those of a wall.
    pub namespaces: Vec<String>,
    /// Workloads that may be chosen, as `[NAMESPACE/][KIND/]NAME`; nothing: all.
    pub only: Vec<String>,
    /// `-l`.
    pub selector: Option<String>,
    /// `--workload [KIND/]NAME`.
    pub workload: Option<String>,
    /// What the picker chose; goes before `workload` and `selector`.
    pub chosen: Option<WorkloadView>,
    /// Somebody wants to choose: the list is shown even where one workload stands out.
    pub pick: bool,
    /// `--as`.
    pub impersonate: Option<String>,
    /// `--as-group`.
    pub impersonate_groups: Vec<String>,
    /// How much of the logs is read.
    pub limits: Limits,
    /// Numbers of the sources of a run.
    pub ids: SourceIds,
}

impl ClusterOptions {
    /// What the header says of a session over this connection.
    #[must_use]
    pub fn session(&self, link: &Connection, level: Level, locked: bool) -> Session {
        let workload = match (&self.chosen, &self.workload, &self.selector) {
            (Some(w), ..) => Some(format!("{}/{}", w.kind, w.name)),
            (None, Some(w), _) => Some(w.clone()),
            (None, None, s) => s.clone(),
        };
        Session {
            feed: Feed::Cluster,
            context: link.context().map(String::from),
            server: Some(link.server().to_owned()).filter(|s| !s.is_empty()),
            kubeconfig: link.kubeconfig().map(String::from),
            namespace: match &self.chosen {
                Some(w) if !w.namespace.is_empty() => Some(w.namespace.clone()),
                _ if self.all_namespaces => None,
                _ if !self.namespaces.is_empty() => Some(self.namespaces.join(",")),
                _ => Some(link.namespace().into()),
            },
            workload,
            level,
            locked,
            test_at: None,
        }
    }
}

/// While somebody chooses a workload, the list is read anew so often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How soon a workload that was named and is not there yet is looked for again: first, and at last.
const AWAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// Events of objects that nobody asked about yet: a pod's first events may come before the pod.
const EARLY_EVENTS: usize = 1_024;

/// Sends what happens in the cluster until cancelled or nobody listens.
pub async fn run(
    link: Connection,
    options: ClusterOptions,
    tx: mpsc::Sender<Event>,
    cancel: CancellationToken,
) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = tx.closed() => {}
        () = observe_all(link, options, tx.clone()) => {}
    }
}

async fn observe_all(link: Connection, options: ClusterOptions, tx: mpsc::Sender<Event>) {
    let _fresh = AbortOnDropHandle::new(tokio::spawn(link.clone().keep_fresh()));
    let Some(workload) = choose(&link, &options, &tx).await else {
        return;
    };
    let known = workload.kind == "selector";
    if !known
        && tx
            .send(Event::Workloads(vec![workload.clone()]))
            .await
            .is_err()
    {
        return;
    }
    let target = Target::of(
        &workload,
        options.all_namespaces && options.chosen.is_none(),
    );
    let size = discover::owner(&workload).map(|(resource, plural)| {
        let rule = format!(
            "list and watch {plural} in namespace {}",
            workload.namespace
        );
        AbortOnDropHandle::new(tokio::spawn(watch_size(
            link.clone(),
            workload.clone(),
            resource,
            rule,
            tx.clone(),
        )))
    });
    follow(link, target, workload, options.limits, options.ids, tx).await;
    drop(size);
}

/// Finds the workload. Where somebody must choose, or nothing can be read yet, says so and looks again now and then;
/// whoever chooses begins a new run.
async fn choose(
    link: &Connection,
    options: &ClusterOptions,
    tx: &mpsc::Sender<Event>,
) -> Option<WorkloadView> {
    let mut edge = Edge::new("discovery", tx.clone());
    let mut backoff = Backoff::default();
    let mut last = None;
    let mut pause = AWAIT.0;
    let anything = ClusterOptions {
        pick: true,
        ..options.clone()
    };
    loop {
        let mut missing = None;
        let mut found = discover::look(link, options).await;
        if let Err(t) = &found
            && matches!(t.kind, TroubleKind::NotFound | TroubleKind::Invalid)
        {
            // It may be made yet; meanwhile there is what else there is.
            missing = Some(t.text.clone());
            let why = t.text.clone();
            edge.set(EdgeState::Down { why }).await;
            found = discover::look(link, &anything).await;
        }
        let named = missing.is_some();
        let wait = match found {
            Ok(Found::One(w)) => {
                edge.set(EdgeState::Up).await;
                return Some(w);
            }
            Ok(Found::Choice(list, refused)) => {
                let state = if refused.is_empty() {
                    EdgeState::Up
                } else {
                    EdgeState::Forbidden {
                        rule: refused.join("; "),
                    }
                };
                // What was named and is missing has been said.
                if missing.is_none() {
                    edge.set(state).await;
                }
                if last.as_ref() != Some(&list) {
                    tx.send(Event::Choice(list.clone())).await.ok()?;
                    last = Some(list);
                }
                LOOK_AGAIN
            }
            Err(t) => {
                if matches!(t.kind, TroubleKind::Unauthorized | TroubleKind::Login)
                    && let Err(e) = link.renew().await
                {
                    tracing::debug!("renewal: {e}");
                }
                let wait = backoff.failed();
                let in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                edge.set(EdgeState::Retrying { why: t.text, in_ms }).await;
                wait
            }
        };
        if !named {
            tokio::time::sleep(wait).await;
        } else if let Some(w) = awaited(link, options, wait, &mut pause).await {
            edge.set(EdgeState::Up).await;
            return Some(w);
        }
    }
}

/// Looks for a workload that was named and is not there yet, less and less often, for so long.
async fn awaited(
    link: &Connection,
    options: &ClusterOptions,
    limit: Duration,
    pause: &mut Duration,
) -> Option<WorkloadView> {
    let end = tokio::time::Instant::now() + limit;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(jitter(*pause)).await;
        *pause = (*pause * 3 / 2).min(AWAIT.1);
        match discover::come(link, options).await {
            Ok(None) => {}
            Ok(found) => return found,
            // Why it can't be known is told by who looks for everything.
            Err(_) => return None,
        }
    }
    None
}

/// Follows the owner's replicas: a workload that is scaled has another size.
async fn watch_size(
    link: Connection,
    mut workload: WorkloadView,
    resource: kube::core::ApiResource,
    rule: String,
    tx: mpsc::Sender<Event>,
) {
    let (sink, mut changes) = mpsc::channel(16);
    let fields = Some(format!("metadata.name={}", workload.name));
    let namespace = workload.namespace.clone();
    let watching = watch::<DynamicObject, _>(
        link,
        move |c| Api::namespaced_with(c, &namespace, &resource),
        Selection {
            labels: None,
            fields,
        },
        rule,
        Edge::new("workload", tx.clone()),
        sink,
    );
    let telling = async {
        while let Some(change) = changes.recv().await {
            let Change::Put(object) = change else {
                continue;
            };
            let new = discover::resized(&workload, &object);
            if new != workload {
                workload = new;
                if tx
                    .send(Event::Workloads(vec![workload.clone()]))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    };
    tokio::join!(watching, telling);
}

/// Which pods.
#[derive(Debug, Clone, Default)]
struct Target {
    /// `None` is all namespaces.
    namespace: Option<String>,
    selection: Selection,
    /// Where no label tells the workload's pods from others: its direct owners and its pods by name.
    only: Option<(String, BTreeSet<String>)>,
}

impl Target {
    fn of(w: &WorkloadView, everywhere: bool) -> Self {
        let labels = Some(w.selector.clone()).filter(|s| !s.is_empty());
        let alone = w.kind == "pod" && labels.is_none();
        let fields = alone.then(|| format!("metadata.name={}", w.name));
        let only = (labels.is_none() && !alone && w.kind != "selector").then(|| {
            (
                w.name.clone(),
                w.pods.iter().map(|(_, n)| n.clone()).collect(),
            )
        });
        Self {
            namespace: if everywhere {
                None
            } else {
                Some(w.namespace.clone())
            },
            selection: Selection { labels, fields },
            only,
        }
    }

    fn has(&self, pod: &core::Pod) -> bool {
        let Some((owner, names)) = &self.only else {
            return true;
        };
        let owned = pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|o| o.name == *owner);
        owned
            || pod
                .metadata
                .name
                .as_ref()
                .is_some_and(|n| names.contains(n))
    }

    /// The rule that allows watching `what`, in words.
    fn rule(&self, what: &str) -> String {
        match &self.namespace {
            Some(n) => format!("list and watch {what} in namespace {n}"),
            None => format!("list and watch {what} in all namespaces"),
        }
    }
}

/// Watches pods and events and follows logs.
async fn follow(
    link: Connection,
    target: Target,
    workload: WorkloadView,
    limits: Limits,
    ids: SourceIds,
    tx: mpsc::Sender<Event>,
) {
    let (pods_tx, mut pods) = mpsc::channel(256);
    let scope = target.namespace.clone();
    let _pods = AbortOnDropHandle::new(tokio::spawn(watch::<core::Pod, _>(
        link.clone(),
        move |c| scoped(c, scope.as_deref()),
        target.selection.clone(),
        target.rule("pods"),
        Edge::new("pods", tx.clone()),
        pods_tx,
    )));
    let mut fleet = Fleet::new(link.clone(), tx.clone(), limits, ids);
    let mut nodes = Nodes::new(link.clone(), tx.clone());
    let mut ours = Ours::of(&workload);
    let (events_tx, mut events) = mpsc::channel(256);
    let mut events_tx = Some(events_tx);
    let mut events_task = None;
    let (mut listed, mut any) = (false, false);
    loop {
        let sent = tokio::select! {
            change = pods.recv() => {
                let Some(change) = change else { return };
                if let Change::Put(pod) | Change::Gone(pod) = &change
                    && !target.has(pod)
                {
                    continue;
                }
                // The events of our pods make sense once the pods are known.
                if matches!(change, Change::Listed) && let Some(sink) = events_tx.take() {
                    let scope = target.namespace.clone();
                    events_task = Some(AbortOnDropHandle::new(tokio::spawn(watch::<core::Event, _>(
                        link.clone(),
                        move |c| scoped(c, scope.as_deref()),
                        // What says nothing new is left on the server.
                        Selection {
                            labels: None,
                            fields: Some("reason!=Scheduled,reason!=Created,reason!=Started".into()),
                        },
                        target.rule("events"),
                        Edge::new("events", tx.clone()),
                        sink,
                    ))));
                }
                if let Change::Put(pod) = &change {
                    if let Some(name) = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) {
                        nodes.want(name);
                    }
                    any = true;
                }
                listed |= matches!(change, Change::Listed);
                // Without a pod no node is of interest.
                if listed && any {
                    nodes.begin();
                }
                pod_change(change, &mut fleet, &mut ours, &tx).await
            }
            event = nodes.next() => tx.send(event).await.is_ok(),
            Some(change) = events.recv() => match change {
                Change::Put(e) => match ours.event(observe::event(&e)) {
                    Some(e) => tx.send(Event::KubeEvent(e)).await.is_ok(),
                    None => true,
                },
                // The server forgets events after an hour, we do not.
                Change::Gone(_) | Change::Restart | Change::Listed => true,
            },
        };
        if !sent {
            drop(events_task);
            return;
        }
    }
}

fn scoped<K>(client: kube::Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(n) => Api::namespaced(client, n),
        None => Api::all(client),
    }
}

/// Passes a change on; false when nobody listens any more.
async fn pod_change(
    change: Change<core::Pod>,
    fleet: &mut Fleet,
    ours: &mut Ours,
    tx: &mpsc::Sender<Event>,
) -> bool {
    let event = match change {
        Change::Restart => {
            fleet.resync();
            PodEvent::Resync
        }
        Change::Put(pod) => {
            let view = observe::pod(&pod);
            let policy = pod
                .spec
                .as_ref()
                .and_then(|s| s.restart_policy.as_deref())
                .unwrap_or("Always");
            fleet.pod(&view, policy);
            let early = ours.add(&pod, &view.namespace);
            if tx
                .send(Event::Pod(PodEvent::Upsert(Box::new(view))))
                .await
                .is_err()
            {
                return false;
            }
            for e in early {
                if tx.send(Event::KubeEvent(e)).await.is_err() {
                    return false;
                }
            }
            return left_out(fleet, tx).await;
        }
        Change::Listed => PodEvent::Synced,
        Change::Gone(pod) => {
            let meta = pod.metadata;
            let key = PodKey {
                namespace: meta.namespace.unwrap_or_default(),
                name: meta.name.unwrap_or_default(),
            };
            fleet.gone(&key);
            PodEvent::Gone(key)
        }
    };
    let listed = event == PodEvent::Synced;
    if tx.send(Event::Pod(event)).await.is_err() {
        return false;
    }
    if listed {
        fleet.synced();
    }
    left_out(fleet, tx).await
}

/// Says how many pods' logs are not read, where that has changed; false when nobody listens any more.
async fn left_out(fleet: &mut Fleet, tx: &mpsc::Sender<Event>) -> bool {
    match fleet.news() {
        Some(news) => tx.send(Event::Edge(news)).await.is_ok(),
        None => true,
    }
}

/// The objects whose events concern us: our pods and what owns them.
#[derive(Default)]
struct Ours {
    /// Namespace and name of the workload: its own events count whatever its kind.
    workload: Option<(String, String)>,
    /// A JobSet's jobs may fail to make a first pod: they are known by their prefix.
    prefix: Option<String>,
    /// Kind, namespace, name.
    objects: BTreeSet<(String, String, String)>,
    early: VecDeque<KubeEvent>,
}

impl Ours {
    fn of(w: &WorkloadView) -> Self {
        let named = w.kind != "selector";
        Self {
            workload: named.then(|| (w.namespace.clone(), w.name.clone())),
            prefix: (w.kind == "jobset").then(|| format!("{}-", w.name)),
            ..Self::default()
        }
    }

    fn has(&self, e: &KubeEvent) -> bool {
        let own = |(ns, name): &(String, String)| {
            let job = e.kind == "Job"
                && self
                    .prefix
                    .as_ref()
                    .is_some_and(|p| e.object.starts_with(p.as_str()));
            *ns == e.namespace && e.kind != "Pod" && (*name == e.object || job)
        };
        self.workload.as_ref().is_some_and(own) || self.objects.contains(&key(e))
    }

    /// A pod is ours; gives the events that came before it.
    fn add(&mut self, pod: &core::Pod, namespace: &str) -> Vec<KubeEvent> {
        let owners = pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .map(|o| (o.kind.clone(), o.name.clone()));
        let own = (
            "Pod".to_string(),
            pod.metadata.name.clone().unwrap_or_default(),
        );
        let mut new = BTreeSet::new();
        for (kind, name) in owners.chain([own]) {
            let key = (kind, namespace.to_string(), name);
            if self.objects.insert(key.clone()) {
                new.insert(key);
            }
        }
        if new.is_empty() {
            return Vec::new();
        }
        let (early, rest): (Vec<_>, Vec<_>) =
            self.early.drain(..).partition(|e| new.contains(&key(e)));
        self.early = rest.into();
        early
    }

    /// The event if it concerns us; else it is kept a while.
    fn event(&mut self, e: KubeEvent) -> Option<KubeEvent> {
        if self.has(&e) {
            return Some(e);
        }
        if self.early.len() >= EARLY_EVENTS {
            self.early.pop_front();
        }
        self.early.push_back(e);
        None
    }
}

fn key(e: &KubeEvent) -> (String, String, String) {
    (e.kind.clone(), e.namespace.clone(), e.object.clone())
}
