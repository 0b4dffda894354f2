//! Events in, state out. Deterministic: no clock, no hash order, no I/O.
//!
//! [`update`] only routes; the work is done by a reducer per topic.

pub mod commands;
pub mod crowd;
pub mod edges;
pub mod event;
pub mod gpus;
pub mod keys;
pub mod kiosk;
pub mod limits;
pub mod lives;
pub mod logs;
pub mod numbers;
pub mod pods;
pub mod probes;
pub mod procs;
pub mod screen;
pub mod serving;
pub mod sources;
pub mod speakers;
pub mod testrun;
pub mod years;

use std::collections::BTreeMap;

use event::{EdgeState, Effect, Event, Session, Stamped, WorkloadView};

use crate::parse::{Block, Nanos};

/// Everything known.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// Raised by every change that can alter the scene.
    pub rev: u64,
    /// Raised where what was seen is forgotten: what counts from there on counts anew.
    pub epoch: u64,
    /// Newest time that entered with an event; 0 when events carry none (files).
    pub now: Nanos,
    /// What this run is about.
    pub session: Session,
    /// How long each stage may be silent.
    pub limits: limits::Limits,
    /// Log sources.
    pub sources: sources::Sources,
    /// Where their stamps without a year stand.
    pub years: years::Years,
    /// Kept lines for the logs pane; off for reports.
    pub logs: Option<logs::Logs>,
    /// NCCL processes.
    pub procs: procs::Procs,
    /// vLLM processes.
    pub speakers: speakers::Speakers,
    /// What was said in logs before a job began anew in them.
    pub lives: lives::Lives,
    /// Pods of the workload and the events about them.
    pub pods: pods::Pods,
    /// What was asked of the inside of pods, and what came back.
    pub probes: probes::Probes,
    /// What the served model's endpoints answered.
    pub serving: serving::Serving,
    /// GPUs and containers as samplers see them.
    pub gpus: gpus::Gpus,
    /// Nodes of the cluster, by name; empty where they can't be read.
    pub nodes: BTreeMap<String, event::NodeView>,
    /// What all nodes of the cluster can give.
    pub gpu_nodes: event::GpuNodes,
    /// State of each connection to the cluster.
    pub edges: BTreeMap<String, EdgeState>,
    /// Workloads that discovery found.
    pub workloads: Vec<WorkloadView>,
    /// One of them must be chosen.
    pub choosing: bool,
    /// The all-reduce test, once there is one.
    pub test: Option<testrun::TestRun>,
    /// What the person in front of the screen did to it.
    pub screen: screen::Screen,
}

impl Model {
    /// A model for a screen: keeps the tail of every log.
    #[must_use]
    pub fn for_screen() -> Self {
        Self {
            logs: Some(logs::Logs::default()),
            ..Self::default()
        }
    }
}

impl Model {
    /// Folds what was said. What stands before the beginning of a new life is the past of its source.
    fn fold(&mut self, tellers: &sources::Tellers, block: &Block) {
        let mut births = Vec::new();
        for (birth, gone) in self.speakers.fold(tellers, block) {
            self.sources.begins(birth.source, birth.first.line, block);
            births.push(birth.clone());
            self.lives.end(birth, gone);
        }
        let speakers = &self.speakers;
        let voiced = |source| speakers.are_in(source);
        for (birth, gone) in self.procs.fold(tellers, block, &births, &voiced) {
            self.lives.end_nccl(birth, gone);
        }
    }

    /// Forgets what was seen of a workload; the session, the nodes and the person's settings stay.
    fn afresh(&mut self) {
        let old = std::mem::take(self);
        *self = Self {
            rev: old.rev,
            epoch: old.epoch + 1,
            now: old.now,
            session: old.session,
            limits: old.limits,
            nodes: old.nodes,
            gpu_nodes: old.gpu_nodes,
            logs: old.logs.map(|_| logs::Logs::default()),
            screen: old.screen,
            ..Self::default()
        };
        self.screen.afresh();
    }

    /// Forgets everything but the person's settings and place.
    fn rewind(&mut self) {
        let old = std::mem::take(self);
        *self = Self {
            rev: old.rev,
            epoch: old.epoch + 1,
            session: old.session,
            limits: old.limits,
            logs: old.logs.map(|_| logs::Logs::default()),
            screen: old.screen,
            ..Self::default()
        };
        if let Some(logs) = &mut self.logs {
            let filter = self.screen.list(screen::PaneId::Logs).filter;
            logs.look(&filter, self.screen.is_on("unfold"));
        }
    }
}

/// Applies one event and says what the shell must do.
pub fn update(model: &mut Model, stamped: Stamped) -> Vec<Effect> {
    let seq = stamped.seq;
    let stamped = match stamped.event {
        // A second of the recording is none of the person who reads a message.
        Event::At(at, event) if matches!(*event, Event::Tick) => {
            model.now = model.now.max(at);
            model.rev += u64::from(at > 0);
            return Vec::new();
        }
        Event::At(at, event) => Stamped {
            seq,
            at,
            event: *event,
        },
        _ => stamped,
    };
    model.now = model.now.max(stamped.at);
    // What the person does to the screen leaves the scene as it is.
    match stamped.event {
        Event::Do(_) | Event::Resize { .. } | Event::Pressed(_) | Event::Note { .. } => {}
        // Ages grow, where time doesn't come from the lines.
        Event::Tick => model.rev += u64::from(stamped.at > 0),
        _ => model.rev += 1,
    }
    if let Some(kiosk) = &mut model.screen.kiosk {
        match &stamped.event {
            Event::Do(_)
            | Event::Resize { .. }
            | Event::Pressed(_)
            | Event::Note { .. }
            | Event::Ask(_)
            | Event::Unask(_)
            | Event::Session(_)
            | Event::Limits(_)
            | Event::Tick => {}
            Event::Afresh => kiosk.afresh(),
            Event::Edge(edge) => kiosk.edge(&edge.edge, &edge.state),
            _ => kiosk.hear(stamped.at),
        }
    }
    match stamped.event {
        Event::Session(session) => model.session = session,
        Event::Limits(limits) => model.limits = limits,
        Event::Source(event) => {
            let event = match event {
                event::SourceEvent::Opened(id, info) => {
                    event::SourceEvent::Opened(model.sources.make_room(id), info)
                }
                other => other.of(|id| model.sources.known_as(id)),
            };
            if let (Some(logs), event::SourceEvent::Opened(id, info)) = (&mut model.logs, &event) {
                logs.name(*id, &info.name);
            }
            model.sources.apply(event);
        }
        Event::Log(mut log) => {
            let stream = model.sources.known_as(log.source);
            model.years.settle(stream, &mut log.block);
            model.sources.count(stream, &log.block);
            let tellers = model.sources.tellers(stream, &log.block);
            model.fold(&tellers, &log.block);
            if let Some(logs) = &mut model.logs {
                logs.keep(stream, &log.block);
            }
        }
        Event::Test(event) => {
            let now = model.now;
            model.test.get_or_insert_default().apply(event, now);
        }
        Event::Probe(event) => {
            model.gpus.probed(&event, stamped.at);
            model.serving.apply(&event, stamped.at);
            model.probes.apply(event, stamped.at);
        }
        Event::Sample(event) => model.gpus.apply(&event, stamped.at),
        Event::Node(node) if node.gone => drop(model.nodes.remove(&node.name)),
        Event::Node(node) => drop(model.nodes.insert(node.name.clone(), *node)),
        Event::GpuNodes(counted) => model.gpu_nodes = counted,
        Event::Ask(question) => model.screen.ask(question),
        Event::Unask(number) => model.screen.unask(number),
        Event::Afresh => model.afresh(),
        Event::Rewind => model.rewind(),
        Event::Position(position) => model.screen.replay = Some(position),
        // Unwrapped above; one inside another says nothing more.
        Event::At(..) => {}
        Event::Edge(edge) => {
            model.edges.insert(edge.edge, edge.state);
        }
        Event::Workloads(list) => {
            if let [one] = list.as_slice() {
                model.pods.watch(one.clone());
            }
            if let Some(kiosk) = &mut model.screen.kiosk {
                kiosk.watched(&list);
            }
            model.screen.chosen();
            model.choosing = false;
            model.workloads = list;
        }
        Event::Choice(list) => {
            if let Some(kiosk) = &mut model.screen.kiosk {
                let turn = kiosk.choice(&list);
                model.workloads = list;
                return turn;
            }
            // Once: a list that is read anew must not take away what somebody looks at meanwhile.
            if !std::mem::replace(&mut model.choosing, true) {
                model.screen.choose();
            }
            model.workloads = list;
        }
        Event::Do(command) => {
            let effects = model.screen.apply(&command);
            if let Some(logs) = &mut model.logs {
                let filter = model.screen.list(screen::PaneId::Logs).filter;
                logs.look(&filter, model.screen.is_on("unfold"));
            }
            return effects;
        }
        Event::Pressed(key) => model.screen.press(key),
        Event::Resize { w, h } => model.screen.resize(w, h),
        Event::Note { text, bad } => model.screen.say(text, bad),
        Event::Tick => {
            model.screen.tick();
            return model.screen.rotate(stamped.at);
        }
        Event::Pod(event) => {
            model.pods.apply(&event);
        }
        Event::KubeEvent(event) => model.pods.kube_event(&event),
    }
    Vec::new()
}
