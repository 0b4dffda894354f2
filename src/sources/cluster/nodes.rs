//! The nodes, where they may be read. Nothing needs them.
//!
//! One list and one watch of the kind, whatever the number of nodes: the API server's selectors can't name several.
//! Of the nodes that carry our pods everything is told; of the others only how many GPUs they can give is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::client::{Connection, PATIENCE};
use super::observe;
use super::watch::{Change, Edge, Selection, watch};
use crate::model::event::{Event, GpuNodes, NodeView};

/// Nodes looked up at one time.
const AT_ONCE: usize = 4;

/// The watch of nodes.
pub(super) struct Nodes {
    link: Connection,
    tx: mpsc::Sender<Event>,
    sink: mpsc::Sender<Change<Node>>,
    changes: mpsc::Receiver<Change<Node>>,
    watching: Option<AbortOnDropHandle<()>>,
    /// Nodes that carry our pods.
    ours: BTreeSet<String>,
    /// Those of them that were told.
    told: BTreeSet<String>,
    /// What each node of the cluster can allocate of GPUs.
    gpus: BTreeMap<String, BTreeMap<String, u32>>,
    counted: GpuNodes,
    /// Named by the list that is under way.
    listed: Option<BTreeSet<String>>,
    /// A list was whole: a node that a pod of ours comes to later went by in it.
    whole: bool,
    lookups: JoinSet<Option<Node>>,
    room: Arc<Semaphore>,
    ready: VecDeque<Event>,
}

impl Nodes {
    pub(super) fn new(link: Connection, tx: mpsc::Sender<Event>) -> Self {
        let (sink, changes) = mpsc::channel(16);
        Self {
            link,
            tx,
            sink,
            changes,
            watching: None,
            ours: BTreeSet::new(),
            told: BTreeSet::new(),
            gpus: BTreeMap::new(),
            counted: GpuNodes::default(),
            listed: None,
            whole: false,
            lookups: JoinSet::new(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            ready: VecDeque::new(),
        }
    }

    /// Watches from now on. Later than the first pods are known: then the list says all about their nodes.
    pub(super) fn begin(&mut self) {
        if self.watching.is_none() {
            self.watching = Some(AbortOnDropHandle::new(tokio::spawn(watch::<Node, _>(
                self.link.clone(),
                Api::all,
                Selection::default(),
                "list and watch nodes".into(),
                Edge::new("nodes", self.tx.clone()),
                self.sink.clone(),
            ))));
        }
    }

    /// A pod of ours is on this node.
    pub(super) fn want(&mut self, name: &str) {
        if !self.ours.insert(name.into()) || !self.whole {
            return;
        }
        let (link, room, name) = (self.link.clone(), self.room.clone(), name.to_owned());
        self.lookups.spawn(async move {
            let _turn = room.acquire().await.ok()?;
            let nodes: Api<Node> = Api::all(link.client());
            // Where one may list and not get, the node comes with its next change, in minutes.
            let node = timeout(PATIENCE, nodes.get_opt(&name)).await.ok()?;
            node.ok().flatten()
        });
    }

    /// The next change, as an event.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            tokio::select! {
                // Never closed: we hold a sender ourselves.
                Some(change) = self.changes.recv() => self.change(change),
                Some(found) = self.lookups.join_next() => {
                    if let Ok(Some(node)) = found {
                        self.put(&node);
                    }
                }
                else => std::future::pending::<()>().await,
            }
        }
    }

    fn change(&mut self, change: Change<Node>) {
        match change {
            Change::Restart => self.listed = Some(BTreeSet::new()),
            Change::Put(node) => self.put(&node),
            Change::Gone(node) => {
                let name = node.metadata.name.unwrap_or_default();
                self.gone(&name);
                self.count();
            }
            Change::Listed => {
                if let Some(listed) = self.listed.take() {
                    self.gpus.retain(|name, _| listed.contains(name));
                    for name in &self.told.clone() - &listed {
                        self.gone(&name);
                    }
                }
                self.whole = true;
                self.count();
            }
        }
    }

    fn put(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.clone() else {
            return;
        };
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let gpus = gpus(node);
        if self.gpus.get(&name) != Some(&gpus) {
            self.gpus.insert(name.clone(), gpus);
            self.count();
        }
        if self.ours.contains(&name) {
            self.told.insert(name);
            self.ready
                .push_back(Event::Node(Box::new(observe::node(node))));
        }
    }

    fn gone(&mut self, name: &str) {
        self.gpus.remove(name);
        if self.told.remove(name) {
            let view = NodeView {
                name: name.into(),
                gone: true,
                ..NodeView::default()
            };
            self.ready.push_back(Event::Node(Box::new(view)));
        }
    }

    /// Tells how many nodes can give how many GPUs, where that changed. Half a list is no count.
    fn count(&mut self) {
        if !self.whole || self.listed.is_some() {
            return;
        }
        let mut counted = GpuNodes {
            nodes: u32::try_from(self.gpus.len()).unwrap_or(u32::MAX),
            ..GpuNodes::default()
        };
        for (resource, amount) in self.gpus.values().flatten() {
            let sizes = counted.sizes.entry(resource.clone()).or_default();
            *sizes.entry(*amount).or_default() += 1;
        }
        if counted != self.counted {
            self.counted = counted.clone();
            self.ready.push_back(Event::GpuNodes(counted));
        }
    }
}

/// What a node can allocate of GPUs, by resource.
fn gpus(node: &Node) -> BTreeMap<String, u32> {
    let all = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    all.into_iter()
        .flatten()
        .filter(|(name, _)| observe::is_gpu(name))
        .filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?)))
        .collect()
}
