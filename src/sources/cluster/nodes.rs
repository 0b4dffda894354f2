//! The nodes that carry our pods, where they may be read. Nothing needs them.
//!
//! One watch a node, by its name, so that a cluster of thousands costs no more than the workload. The first node
//! tells whether they may be read at all: only then are the others asked for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::client::Connection;
use super::observe;
use super::watch::{Change, Edge, Selection, watch};
use crate::model::event::{Event, NodeView};

/// Nodes that are watched at most; each is a connection.
const MOST: usize = 64;

/// Watches of nodes.
pub(super) struct Nodes {
    link: Connection,
    tx: mpsc::Sender<Event>,
    sink: mpsc::Sender<Change<Node>>,
    changes: mpsc::Receiver<Change<Node>>,
    /// By name; `None` waits for the first to answer.
    watched: BTreeMap<String, Option<AbortOnDropHandle<()>>>,
    /// The first answered.
    allowed: bool,
}

impl Nodes {
    pub(super) fn new(link: Connection, tx: mpsc::Sender<Event>) -> Self {
        let (sink, changes) = mpsc::channel(16);
        Self {
            link,
            tx,
            sink,
            changes,
            watched: BTreeMap::new(),
            allowed: false,
        }
    }

    /// A pod of ours is on this node.
    pub(super) fn want(&mut self, name: &str) {
        if self.watched.contains_key(name) || self.watched.len() >= MOST {
            return;
        }
        let first = self.watched.is_empty();
        let task = (first || self.allowed).then(|| self.start(name, first));
        self.watched.insert(name.into(), task);
    }

    fn start(&self, name: &str, first: bool) -> AbortOnDropHandle<()> {
        let selection = Selection {
            labels: None,
            fields: Some(format!("metadata.name={name}")),
        };
        // One of them speaks for all.
        let edge = if first {
            Edge::new("nodes", self.tx.clone())
        } else {
            Edge::silent()
        };
        AbortOnDropHandle::new(tokio::spawn(watch::<Node, _>(
            self.link.clone(),
            Api::all,
            selection,
            "list and watch nodes".into(),
            edge,
            self.sink.clone(),
        )))
    }

    /// The next change, as an event.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            // Never closed: we hold a sender ourselves.
            let Some(change) = self.changes.recv().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let (node, gone) = match change {
                Change::Put(node) => (node, false),
                Change::Gone(node) => (node, true),
                Change::Restart => continue,
                Change::Listed => {
                    self.allow();
                    continue;
                }
            };
            let view = NodeView {
                gone,
                ..observe::node(&node)
            };
            return Event::Node(Box::new(view));
        }
    }

    fn allow(&mut self) {
        if std::mem::replace(&mut self.allowed, true) {
            return;
        }
        let waiting: Vec<String> = self
            .watched
            .iter()
            .filter(|(_, task)| task.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            let task = self.start(&name, false);
            self.watched.insert(name, Some(task));
        }
    }
}
