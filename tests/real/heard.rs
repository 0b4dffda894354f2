//! What a run said: pods folded, log lines in order, edges, losses.

use std::collections::BTreeMap;
use std::time::Duration;

use ncclscope::model::event::{
    EdgeState, Event, GpuNodes, NodeView, SourceEvent, SourceId, WorkloadView,
};
use ncclscope::model::pods::Pods;
use ncclscope::sources::cluster::{ClusterOptions, Connection, run};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub struct Heard {
    rx: mpsc::Receiver<Event>,
    cancel: CancellationToken,
    names: BTreeMap<SourceId, String>,
    /// Lines by source name, the kubelet's stamp taken off.
    pub logs: BTreeMap<String, Vec<String>>,
    pub pods: Pods,
    /// Times a list was begun.
    pub lists: u32,
    pub edges: Vec<(String, EdgeState)>,
    /// Losses by source name.
    pub lost: Vec<(String, String)>,
    pub retries: u32,
    pub workloads: Vec<WorkloadView>,
    pub ended: Vec<String>,
    pub nodes: BTreeMap<String, NodeView>,
    pub gpu_nodes: GpuNodes,
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Heard {
    pub fn of(link: Connection, options: ClusterOptions) -> Self {
        let (tx, rx) = mpsc::channel(256);
        let cancel = CancellationToken::new();
        tokio::spawn(run(link, options, tx, cancel.clone()));
        Self {
            rx,
            cancel,
            names: BTreeMap::new(),
            logs: BTreeMap::new(),
            pods: Pods::default(),
            lists: 0,
            edges: Vec::new(),
            lost: Vec::new(),
            retries: 0,
            workloads: Vec::new(),
            ended: Vec::new(),
            nodes: BTreeMap::new(),
            gpu_nodes: GpuNodes::default(),
        }
    }

    /// Listens until something is so.
    pub async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !so(self) {
            match timeout_at(deadline, self.rx.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("the run ended before: {what}"),
                Err(_) => {
                    let ends = self.logs.iter().map(|(n, l)| (n, l.last()));
                    let ends = ends
                        .map(|(n, l)| format!("{n}: {l:?}\n"))
                        .collect::<String>();
                    panic!(
                        "never: {what}; {:?} {:?} {:?}\n{ends}",
                        self.names(),
                        self.edges,
                        self.lost
                    )
                }
            }
        }
    }

    /// Listens for a while.
    pub async fn listen(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(Some(event)) = timeout_at(deadline, self.rx.recv()).await {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Pod(p) => {
                self.lists += u32::from(p == ncclscope::model::event::PodEvent::Resync);
                self.pods.apply(&p);
            }
            Event::KubeEvent(e) => self.pods.kube_event(&e),
            Event::Edge(e) => self.edges.push((e.edge, e.state)),
            Event::Workloads(w) => {
                if let [one] = w.as_slice() {
                    self.pods.watch(one.clone());
                }
                self.workloads = w;
            }
            Event::Node(n) if n.gone => drop(self.nodes.remove(&n.name)),
            Event::Node(n) => drop(self.nodes.insert(n.name.clone(), *n)),
            Event::GpuNodes(n) => self.gpu_nodes = n,
            Event::Choice(w) => self.workloads = w,
            Event::Source(SourceEvent::Opened(id, info)) => {
                assert!(
                    !self.logs.contains_key(&info.name),
                    "{} opened twice",
                    info.name
                );
                self.logs.insert(info.name.clone(), Vec::new());
                self.names.insert(id, info.name);
            }
            Event::Source(SourceEvent::Lost { id, why, .. }) => {
                self.lost.push((self.names[&id].clone(), why))
            }
            Event::Source(SourceEvent::Retrying { .. }) => self.retries += 1,
            Event::Source(SourceEvent::Ended { id, .. }) => {
                self.ended.push(self.names[&id].clone())
            }
            Event::Log(l) => {
                let lines = self.logs.get_mut(&self.names[&l.source]).unwrap();
                assert_eq!(
                    l.block.first_line,
                    lines.len() as u64 + 1,
                    "line numbers go on"
                );
                for line in std::str::from_utf8(&l.block.text).unwrap().lines() {
                    lines.push(line.split_once(' ').expect("a stamp").1.to_string());
                }
            }
            _ => {}
        }
    }

    pub fn forbidden(&self, edge: &str) -> Option<&str> {
        self.edges.iter().find_map(|(e, s)| match s {
            EdgeState::Forbidden { rule } if e == edge => Some(rule.as_str()),
            _ => None,
        })
    }

    /// The newest state of an edge.
    pub fn state(&self, edge: &str) -> Option<&EdgeState> {
        self.edges
            .iter()
            .rev()
            .find(|(e, _)| e == edge)
            .map(|(_, s)| s)
    }

    pub fn names(&self) -> Vec<String> {
        self.pods.iter().map(|(k, _)| k.name.clone()).collect()
    }
}
