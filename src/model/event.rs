//! What happens: observations from the world and commands from the user, in one stream.

mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use source::{LogBlock, LogFile, SourceEvent, SourceId, SourceInfo};

use crate::parse::Nanos;

/// One entry of the stream that is folded, recorded and replayed.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// Given in one place, the loop.
    pub seq: u64,
    /// When it was applied, nanoseconds since the Unix epoch. For files: 0 (time comes from the lines).
    pub at: Nanos,
    /// What happened.
    pub event: Event,
}

/// An event.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// What this run of the program is about.
    Session(Session),
    /// How long each stage of a start-up may be silent, where somebody has said so.
    Limits(super::limits::Limits),
    /// A stream of log lines: opened, cut, healed, ended.
    Source(SourceEvent),
    /// Lines of one source.
    Log(LogBlock),
    /// Pods of the workload.
    Pod(PodEvent),
    /// A Kubernetes Event object.
    KubeEvent(KubeEvent),
    /// The workload on screen, found or with another size.
    Workloads(Vec<WorkloadView>),
    /// Workloads that discovery found; somebody must choose one.
    Choice(Vec<WorkloadView>),
    /// The all-reduce test.
    Test(super::testrun::TestEvent),
    /// Something was asked of the inside of a pod, of a service or of this node; raw.
    Probe(ProbeEvent),
    /// Lines of a sampler; raw.
    Sample(SampleEvent),
    /// A node of the cluster.
    Node(Box<NodeView>),
    /// What all nodes of the cluster can give, ours or not.
    GpuNodes(GpuNodes),
    /// Something more than looking waits for a yes.
    Ask(Question),
    /// The question of this number needs no answer any more.
    Unask(u64),
    /// An event of a recording with the time it was applied with.
    At(Nanos, Box<Event>),
    /// A recording starts over: what was seen of it is forgotten.
    Rewind,
    /// Where a recording stands.
    Position(Position),
    /// Another workload from here on, or the choice of one: what was seen of the one before is put away.
    Afresh,
    /// State of a connection to the cluster, named by what it watches (`pods`, `events`, `logs`).
    Edge(EdgeEvent),
    /// What the user meant.
    Do(Command),
    /// An answer of the shell to an effect, or a sentence of a source, for the footer.
    Note {
        /// The sentence.
        text: String,
        /// Something went wrong.
        bad: bool,
    },
    /// A key was pressed while others look on; what it means comes as a command of its own.
    Pressed(super::keys::Key),
    /// The terminal has this size now.
    Resize {
        /// Columns.
        w: u16,
        /// Rows.
        h: u16,
    },
    /// Time passes.
    Tick,
}

/// Access level, shown in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// get, list, watch, log.
    #[default]
    Observe,
    /// exec that only reads, proxy GETs.
    Probe,
    /// creating and deleting objects.
    Act,
}

/// What feeds the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// Log files, folders, standard input.
    #[default]
    Files,
    /// A Kubernetes cluster.
    Cluster,
    /// The embedded cluster.
    Demo,
    /// A recording.
    Replay,
    /// This node.
    Local,
}

/// What this run is about; the header shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// What feeds it.
    pub feed: Feed,
    /// Cluster context, scenario name, or nothing.
    pub context: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// `lws/mixtral-0`, a selector, or the paths that were opened.
    pub workload: Option<String>,
    /// Level of access in force.
    pub level: Level,
    /// `--read-only`: the level can't be raised.
    pub locked: bool,
    /// Address of the API server. What is written down of a run does not hold it.
    #[serde(skip)]
    pub server: Option<String>,
    /// Files of the kubeconfig that names it; nothing inside a cluster.
    #[serde(skip)]
    pub kubeconfig: Option<String>,
    /// When an all-reduce test begins that nobody has to ask for: some scenarios of the embedded cluster have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_at: Option<Nanos>,
}

/// Namespace and name of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerKey {
    /// Pod.
    pub pod: PodKey,
    /// Container name.
    pub container: String,
}

/// Changes of the watched pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PodEvent {
    /// A list starts: what is not seen again before `Synced` is gone.
    Resync,
    /// A pod as it is now.
    Upsert(Box<PodView>),
    /// The list is complete.
    Synced,
    /// A pod was deleted.
    Gone(PodKey),
}

/// What we know of a pod: a plain copy of what the API server says, nothing concluded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API (core/v1 Pod)"
)]
pub struct PodView {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub created: Option<Nanos>,
    pub deletion: Option<Nanos>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Controller owner: kind, name.
    pub owner: Option<(String, String)>,
    pub node: Option<String>,
    pub phase: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub pod_ip: Option<String>,
    pub host_ip: Option<String>,
    pub host_network: bool,
    pub subdomain: Option<String>,
    pub hostname: Option<String>,
    pub service_account: Option<String>,
    pub scheduling_gates: Vec<String>,
    pub readiness_gates: Vec<String>,
    pub conditions: Vec<Condition>,
    pub init_containers: Vec<ContainerView>,
    pub containers: Vec<ContainerView>,
    /// The object as YAML, managed fields removed, for the drill-down and the test job's plan.
    pub yaml: Option<Arc<str>>,
}

impl PodView {
    /// Whether nothing runs in this container any more: it is terminated, or waits to be started anew.
    #[must_use]
    pub fn has_ended(&self, container: &str) -> bool {
        let ended = |s: &ContainerState| matches!(s, ContainerState::Terminated { .. });
        let here = self.containers.iter().find(|c| c.name == container);
        here.is_some_and(|c| match &c.state {
            ContainerState::Waiting { .. } => ended(&c.last_state),
            state => ended(state),
        })
    }

    /// Whether a process that began at that time was of a life of a container that is over: a later one runs.
    #[must_use]
    pub fn has_outlived(&self, container: &str, began: Nanos) -> bool {
        let here = self.containers.iter().find(|c| c.name == container);
        let since = here.and_then(|c| match c.state {
            ContainerState::Running { since } => since,
            _ => None,
        });
        since.is_some_and(|since| began < since)
    }
}

/// A pod or node condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes names")]
pub struct Condition {
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub since: Option<Nanos>,
}

/// A container of a pod: spec and status together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "Kubernetes names")]
pub struct ContainerView {
    pub name: String,
    pub image: String,
    pub image_id: Option<String>,
    pub container_id: Option<String>,
    /// Restartable init container (`restartPolicy: Always`).
    pub sidecar: bool,
    /// `nvidia.com/gpu`, `amd.com/gpu` … summed.
    pub gpus: u32,
    /// Resource requests and limits as written, name to quantity.
    pub resources: BTreeMap<String, String>,
    pub command: Vec<String>,
    pub args: Vec<String>,
    /// Literal values; `None` for what comes from elsewhere (secret, config map, field).
    pub env: Vec<(String, Option<String>)>,
    pub ready: bool,
    pub started: Option<bool>,
    pub restarts: u32,
    pub state: ContainerState,
    pub last_state: ContainerState,
    /// `startup`, `readiness`, `liveness` with a one-line description.
    pub probes: Vec<(String, String)>,
    /// Where volumes are mounted; kept where the command line names a file of settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

/// A volume of a container, and which of its files come from ConfigMaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where it is mounted.
    pub path: String,
    /// The one file or folder of the volume that is mounted there.
    pub sub_path: Option<String>,
    /// Name of a ConfigMap, its keys and the file each is; no key named: each is a file of its own name.
    pub config_maps: Vec<(String, Vec<(String, String)>)>,
}

/// State of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes names")]
pub enum ContainerState {
    #[default]
    None,
    Waiting {
        reason: String,
        message: Option<String>,
    },
    Running {
        since: Option<Nanos>,
    },
    Terminated {
        exit_code: i32,
        signal: Option<i32>,
        reason: Option<String>,
        message: Option<String>,
        started: Option<Nanos>,
        finished: Option<Nanos>,
    },
}

/// A Kubernetes Event about something of ours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "Kubernetes names")]
pub struct KubeEvent {
    pub uid: String,
    pub namespace: String,
    /// `Pod`, `LeaderWorkerSet`, …
    pub kind: String,
    pub object: String,
    pub normal: bool,
    pub reason: String,
    pub message: String,
    pub count: u32,
    pub first: Option<Nanos>,
    pub last: Option<Nanos>,
    pub reporter: String,
}

/// A probe: what was asked, where, and what came back. The text is kept as it came; rules judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeEvent {
    /// Its name in the catalogue of probes: `gpus`, `model-files`, `health` …
    pub probe: String,
    /// The container; nothing for the workload or this node as a whole.
    pub container: Option<ContainerKey>,
    /// What ran, as a person would type it: `nvidia-smi -L`, `GET :8000/health`.
    pub ran: String,
    /// What came of it.
    pub outcome: ProbeOutcome,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeOutcome {
    /// It runs.
    Began,
    /// It ended.
    Answered {
        /// Exit code, or the HTTP status of a GET.
        code: i32,
        /// Standard output or body, cut at a cap.
        out: String,
        /// Standard error.
        err: String,
        /// Something was cut off.
        cut: bool,
        /// How long it took, milliseconds.
        ms: u64,
    },
    /// It was not allowed: by RBAC (then with the rule that would allow it), by the gate, by a person.
    Refused {
        /// A sentence.
        why: String,
        /// `create pods/exec in namespace prod`.
        rule: Option<String>,
    },
    /// It was tried and gave no answer: timed out, tool absent, container gone.
    Failed {
        /// A sentence.
        why: String,
    },
}

/// Raw lines of something that measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleEvent {
    /// The container it ran in; nothing on this node itself.
    pub container: Option<ContainerKey>,
    /// The node, where known.
    pub node: Option<String>,
    /// `nvidia-smi`, `cgroup`, `dcgm`, `nvml`: says how to read the text.
    pub tool: String,
    /// Whole lines.
    pub text: String,
}

/// What we know of a node: a plain copy, nothing concluded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the fields carry the names of the Kubernetes API (core/v1 Node)"
)]
pub struct NodeView {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub unschedulable: bool,
    /// key, value, effect.
    pub taints: Vec<(String, String, String)>,
    pub conditions: Vec<Condition>,
    /// Quantities as written.
    pub allocatable: BTreeMap<String, String>,
    pub capacity: BTreeMap<String, String>,
    /// Kubelet, kernel, container runtime.
    pub versions: [String; 3],
    /// It was deleted.
    pub gone: bool,
}

/// How many GPUs the nodes of the cluster can give, counted: thousands of nodes are a handful of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuNodes {
    /// Nodes in all, those without GPUs too; 0: nobody could count them.
    pub nodes: u32,
    /// Resource (`nvidia.com/gpu`), then what a node can allocate of it, then the nodes that can allocate so many.
    pub sizes: BTreeMap<String, BTreeMap<u32, u32>>,
}

/// Something more than looking, shown before it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Names it in the answer.
    pub number: u64,
    /// Level that it needs.
    pub level: Level,
    /// A sentence that ends with a question mark.
    pub text: String,
    /// What is to be done, whole: commands, a manifest. Empty where the sentence says it all.
    pub body: String,
    /// What must be typed to say yes; nothing: `y` does.
    pub word: Option<String>,
}

/// Where a recording stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Milliseconds from its start.
    pub at_ms: u64,
    /// Its length, milliseconds.
    pub of_ms: u64,
    /// Hundredths of the pace it was recorded at.
    pub speed_percent: u32,
    /// It stands still.
    pub paused: bool,
    /// Nothing more comes.
    pub over: bool,
    /// Entries that are lost, damaged, or of a newer version.
    pub missing: u64,
}

/// What a recording in the making has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Bytes in the file.
    pub bytes: u64,
    /// Events that could not be written in time.
    pub lost: u64,
    /// Why nothing is written any more.
    pub broken: Option<String>,
}

/// What is asked of whoever feeds the screen. Each source does what it can, and says so where it can't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Errand {
    /// Watch this workload from now on.
    Watch(Box<WorkloadView>),
    /// Back to the choice of workloads.
    Choose,
    /// A question was answered.
    Answer {
        /// Its number.
        number: u64,
        /// Yes.
        yes: bool,
    },
    /// Run this check again; nothing: all of them.
    Recheck(Option<String>),
    /// Anything else that is typed after `:`: verb and arguments (`allreduce`, `bundle`, `speed` …).
    Line(String),
}

/// A workload that discovery found, or the one on screen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Namespace.
    pub namespace: String,
    /// `lws`, `sts`, `job`, `raycluster`, `jobset`, `pytorchjob`, `deploy`, `pods`, `selector`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Which rule matched, in words.
    pub rule: String,
    /// Label selector of its pods.
    pub selector: String,
    /// Pods it should have.
    pub expected: Option<u32>,
    /// Pods by index, where the kind numbers them.
    pub pods: Vec<(Option<u32>, String)>,
    /// GPUs requested in all.
    pub gpus: u32,
}

/// State of one connection to the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeEvent {
    /// `pods`, `events`, `nodes`, `logs`, `discovery`.
    pub edge: String,
    /// What it is like.
    pub state: EdgeState,
}

/// How a connection fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EdgeState {
    /// Answers.
    Up,
    /// Cut, will try again.
    Retrying {
        /// Why.
        why: String,
        /// Milliseconds.
        in_ms: u64,
    },
    /// RBAC refuses: the rule that would allow it.
    Forbidden {
        /// `list pods in namespace prod`.
        rule: String,
    },
    /// Will not be tried again. Of `discovery`: what was named is not there, and is waited for.
    Down {
        /// Why.
        why: String,
    },
}

impl EdgeState {
    /// A sentence where what was named on the command line is not there yet.
    #[must_use]
    pub fn awaited(&self, edge: &str) -> Option<String> {
        match self {
            Self::Down { why } if edge == "discovery" => Some(format!("{why}; waiting for it")),
            _ => None,
        }
    }
}

/// User intent, whichever key or text said it. Plumbing never goes in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is described in the key table")]
pub enum Command {
    Quit,
    AskQuit,
    Back,
    Pane(String),
    NextPane,
    PrevPane,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    NextTab,
    PrevTab,
    StartFilter,
    StartCommand,
    Insert(char),
    Paste(String),
    Erase,
    EraseWord,
    Submit,
    Help,
    Explain,
    Copy,
    Point,
    NextProblem,
    PrevProblem,
    Toggle(String),
    /// A command line typed after `:`.
    Line(String),
    Confirm(bool),
    Theme(String),
    Redraw,
    Save,
    Suspend,
}

/// What the shell must do; returned by `update`, executed outside.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// Leave.
    Quit,
    /// Put text on the clipboard (OSC 52).
    Copy(String),
    /// Write text to a file.
    Save(PathBuf, String),
    /// Write what is on screen to a file, in the format of its ending; without a name, under one that is free.
    SaveScreen(Option<PathBuf>),
    /// Use another theme.
    Theme(String),
    /// Something for whoever feeds the screen.
    Errand(Errand),
    /// Repaint everything.
    Redraw,
    /// Stop the process, job-control style.
    Suspend,
}
