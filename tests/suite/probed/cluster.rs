//! A cluster of the tests' own: pods, answers to probes, logs, and what follows from them.

use ncclscope::model::event::{
    ContainerKey, ContainerState, ContainerView, Event, Feed, LogBlock, PodEvent, PodKey, PodView,
    ProbeEvent, ProbeOutcome, Session, SourceEvent, SourceId, SourceInfo, Stamped, WorkloadView,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{CheckVerdict, Evidence, Finding, Scene};

pub const SECOND: i64 = 1_000_000_000;

pub struct Cluster {
    pub model: Model,
    at: i64,
    seq: u64,
    pub kind: &'static str,
}

impl Cluster {
    /// A log of a pod's container, whole.
    pub fn log(&mut self, pod: &str, text: &str) {
        let source = SourceId(0);
        let info = SourceInfo {
            name: format!("prod/{pod}/vllm"),
            container: Some(key(pod)),
            previous: false,
            started: None,
        };
        self.send(Event::Source(SourceEvent::Opened(source, info)));
        let block = Block::new(1, text.as_bytes().to_vec()).into();
        self.send(Event::Log(LogBlock { source, block }));
    }

    pub fn new(pods: &[PodView]) -> Self {
        Self::of("lws", pods)
    }

    pub fn of(kind: &'static str, pods: &[PodView]) -> Self {
        let mut c = Self {
            model: Model::default(),
            at: 1_000 * SECOND,
            seq: 0,
            kind,
        };
        c.send(Event::Session(Session {
            feed: Feed::Cluster,
            namespace: Some("prod".into()),
            workload: Some(format!("{kind}/llm")),
            ..Session::default()
        }));
        c.send(Event::Workloads(vec![WorkloadView {
            namespace: "prod".into(),
            kind: kind.into(),
            name: "llm".into(),
            expected: u32::try_from(pods.len()).ok(),
            ..WorkloadView::default()
        }]));
        c.send(Event::Pod(PodEvent::Resync));
        for p in pods {
            c.send(Event::Pod(PodEvent::Upsert(Box::new(p.clone()))));
        }
        c.send(Event::Pod(PodEvent::Synced));
        c
    }

    pub fn send(&mut self, event: Event) {
        self.seq += 1;
        self.at += SECOND;
        update(
            &mut self.model,
            Stamped {
                seq: self.seq,
                at: self.at,
                event,
            },
        );
    }

    pub fn tell(&mut self, probe: &str, pod: Option<&str>, outcome: ProbeOutcome) {
        self.send(Event::Probe(ProbeEvent {
            probe: probe.into(),
            container: pod.map(key),
            ran: format!("ran {probe}"),
            outcome,
        }));
    }

    pub fn answer(&mut self, probe: &str, pod: Option<&str>, out: &str) {
        let code = if pod.is_some() { 0 } else { 200 };
        let outcome = ProbeOutcome::Answered {
            code,
            out: out.replace(" | ", "\t"),
            err: String::new(),
            cut: false,
            ms: 20,
        };
        self.tell(probe, pod, outcome);
    }

    pub fn scene(&self) -> Scene {
        Scene::of(&self.model)
    }

    pub fn finding(&self, id: &str) -> Option<Finding> {
        self.scene().findings.into_iter().find(|f| f.id == id)
    }

    pub fn verdict(&self, id: &str) -> CheckVerdict {
        let checks = self.scene().checks;
        checks.iter().find(|c| c.id == id).unwrap().verdict
    }
}

pub fn key(pod: &str) -> ContainerKey {
    ContainerKey {
        pod: PodKey {
            namespace: "prod".into(),
            name: pod.into(),
        },
        container: "vllm".into(),
    }
}

pub fn pod(index: u32, env: &[(&str, &str)], args: &str) -> PodView {
    let name = format!("llm-{index}");
    PodView {
        namespace: "prod".into(),
        name: name.clone(),
        uid: name.clone(),
        node: Some(format!("node-{index}")),
        phase: "Running".into(),
        pod_ip: Some(format!("10.42.0.{}", 10 + index)),
        labels: [
            (
                "leaderworkerset.sigs.k8s.io/name".to_owned(),
                "llm".to_owned(),
            ),
            (
                "leaderworkerset.sigs.k8s.io/worker-index".to_owned(),
                index.to_string(),
            ),
            ("app".to_owned(), "llm".to_owned()),
        ]
        .into(),
        containers: vec![ContainerView {
            name: "vllm".into(),
            gpus: 4,
            command: vec!["vllm".into(), "serve".into()],
            args: args.split_whitespace().map(str::to_owned).collect(),
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned())))
                .collect(),
            ready: true,
            state: ContainerState::Running {
                since: Some(900 * SECOND),
            },
            ..ContainerView::default()
        }],
        ..PodView::default()
    }
}

pub const ARGS: &str = "/models/q --tensor-parallel-size=4 --pipeline-parallel-size=2 --nnodes=2";

pub fn two(a: &[(&str, &str)], b: &[(&str, &str)]) -> Cluster {
    Cluster::new(&[pod(0, a, ARGS), pod(1, b, ARGS)])
}

pub fn text(f: &Finding) -> String {
    f.evidence()
        .iter()
        .map(|e| match e {
            Evidence::Line(l) => l.text.to_string(),
            Evidence::Object(t) | Evidence::Sample(t) | Evidence::Check(t) => t.clone(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}
