//! The scenario file: one YAML that says what cluster, what job, what goes wrong, and what must be found.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::parse::Nanos;

use super::version::Version;

/// One second in nanoseconds.
pub const SEC: Nanos = 1_000_000_000;

/// When a scenario begins unless it says otherwise: a Monday night, so that every run shows the same stamps.
const START: &str = "2026-03-02T03:10:00Z";

/// A scenario, as its file says it. Times are seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// File name without its ending.
    #[serde(skip)]
    pub name: String,
    /// One line for `demo --list`.
    pub title: String,
    /// What happens and what to look at, for people.
    #[serde(default)]
    pub about: String,
    /// Chance: jitter, identifiers.
    #[serde(default)]
    pub seed: u64,
    /// RFC 3339 time of the first event.
    #[serde(default = "default_start")]
    pub start: String,
    /// How long it lasts.
    pub lasts: f64,
    /// When somebody begins to watch; what was before is known as far as a cluster still tells it.
    #[serde(default)]
    pub watch_from: f64,
    /// The workload.
    pub workload: Workload,
    /// The nodes it runs on, one per pod unless `shared`.
    pub nodes: Nodes,
    /// Parallel layout.
    #[serde(default)]
    pub layout: Layout,
    /// What the image contains.
    pub versions: Versions,
    /// The model.
    pub model: Model,
    /// How long each phase takes when nothing is wrong.
    #[serde(default)]
    pub phases: Phases,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What an all-reduce test meets, and whether one begins by itself.
    #[serde(default)]
    pub test: Test,
    /// What probes answer that the plan does not tell.
    #[serde(default)]
    pub probes: Vec<ProbeSays>,
    /// What the program must conclude at the end.
    pub expect: Expect,
}

/// What an all-reduce test meets that the workload's own lines don't tell.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Test {
    /// Seconds from the beginning at which one begins by itself.
    pub at: Option<f64>,
    /// A pod whose link gives but a share of what it should.
    pub slow: Option<Slow>,
    /// A rank that gets wrong elements.
    pub wrong: Option<Wrong>,
}

/// A slow link.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Which pod's.
    pub pod: usize,
    /// What it gives of what it should: 0 to 1.
    pub share: f64,
}

/// Wrong elements.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrong {
    /// Rank that sees them.
    pub rank: usize,
    /// Sizes from here on, bytes.
    pub from: u64,
    /// How many in each.
    pub elements: u64,
}

/// What a probe answers in place of, or beside, what the plan tells. Fields are parted by ` | `.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProbeSays {
    /// Name in the catalogue, or `network-policies`.
    pub probe: String,
    /// Which pods; none: all.
    pub pods: Vec<usize>,
    /// Seconds from the beginning.
    pub from: f64,
    /// The whole answer.
    pub out: Option<String>,
    /// Pieces that are replaced in the usual answer.
    pub edit: Vec<(String, String)>,
    /// Lines beside it.
    pub add: Vec<String>,
    /// No answer: why.
    pub fail: Option<String>,
    /// Refused: the rule that would allow it.
    pub forbidden: Option<String>,
}

/// What stands in place of an answer.
pub(super) enum Answered<'a> {
    Usual,
    Text(&'a str),
    Fails(&'a str),
    Forbidden(&'a str),
}

impl ProbeSays {
    pub(super) fn says(&self) -> Answered<'_> {
        if let Some(why) = &self.fail {
            Answered::Fails(why)
        } else if let Some(rule) = &self.forbidden {
            Answered::Forbidden(rule)
        } else if let Some(text) = &self.out {
            Answered::Text(text)
        } else {
            Answered::Usual
        }
    }
}

/// A condition of a node that is not well.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSays {
    /// The node of this pod.
    pub pod: usize,
    /// Type of the condition.
    pub kind: String,
    /// Reason.
    pub reason: String,
    /// Message.
    pub message: String,
}

/// The workload and its pods.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// LeaderWorkerSet or StatefulSet.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Number of pods.
    pub pods: usize,
    /// Container name.
    #[serde(default = "default_container")]
    pub container: String,
    /// Image; by default the released one of the vLLM version.
    #[serde(default)]
    pub image: Option<String>,
    /// Literal environment of every pod.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Memory limit of a pod, as a quantity.
    #[serde(default = "default_memory")]
    pub memory: String,
}

/// Kind of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// LeaderWorkerSet with one group.
    Lws,
    /// StatefulSet.
    Sts,
}

/// What a node is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Nodes {
    /// GPUs a pod gets.
    pub gpus: usize,
    /// GPU product.
    #[serde(default = "default_gpu")]
    pub gpu: String,
    /// Memory of one GPU, GiB.
    #[serde(default = "default_gpu_memory")]
    pub gpu_memory: f64,
    /// NVLink between the GPUs of a node.
    #[serde(default = "yes")]
    pub nvlink: bool,
    /// RDMA link layer, if there is any.
    #[serde(default)]
    pub rdma: Rdma,
    /// RDMA devices in each pod.
    #[serde(default)]
    pub nics: usize,
    /// GPUDirect RDMA works.
    #[serde(default = "yes")]
    pub gdr: bool,
    /// Conditions of nodes that are not well.
    #[serde(default)]
    pub conditions: Vec<NodeSays>,
    /// Channels NCCL builds inside a node.
    #[serde(default = "default_channels")]
    pub channels: usize,
    /// Channels NCCL builds between nodes.
    #[serde(default = "default_net_channels")]
    pub net_channels: usize,
}

/// RDMA link layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Rdma {
    /// Only sockets.
    #[default]
    #[serde(rename = "none")]
    None,
    /// InfiniBand.
    #[serde(rename = "IB")]
    Ib,
    /// RDMA over Ethernet.
    #[serde(rename = "RoCE")]
    Roce,
}

/// Sizes of the parallel groups; their product is the number of GPUs.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Tensor parallel.
    #[serde(default = "one")]
    pub tp: usize,
    /// Pipeline parallel.
    #[serde(default = "one")]
    pub pp: usize,
    /// Data parallel.
    #[serde(default = "one")]
    pub dp: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            tp: 1,
            pp: 1,
            dp: 1,
        }
    }
}

/// What the image contains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// vLLM, 0.11.1 or newer: the first with a multi-node executor of its own.
    pub vllm: Version,
    /// NCCL, 2.18.3 or newer.
    pub nccl: Version,
    /// CUDA of the NCCL build.
    #[serde(default = "default_cuda")]
    pub cuda: String,
}

/// The model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Directory or hub name.
    pub name: String,
    /// Architecture class.
    pub architecture: String,
    /// Safetensors files.
    pub shards: u32,
    /// Size of all of them, GiB.
    pub gib: f64,
    /// Mixture of experts.
    #[serde(default)]
    pub moe: bool,
}

/// Seconds each phase takes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Phases {
    /// Created to scheduled.
    pub schedule: f64,
    /// Image pull; the image is on the node already when 0.
    pub pull: f64,
    /// Container start to workers up: imports, arguments, engine.
    pub config: f64,
    /// torch.distributed and gloo.
    pub rendezvous: f64,
    /// NCCL communicators.
    pub nccl: f64,
    /// Model load.
    pub weights: f64,
    /// torch.compile.
    pub compile: f64,
    /// Memory profile and KV cache.
    pub profile: f64,
    /// CUDA graphs.
    pub graphs: f64,
}

impl Default for Phases {
    fn default() -> Self {
        Self {
            schedule: 0.8,
            pull: 4.0,
            config: 7.0,
            rendezvous: 2.5,
            nccl: 6.0,
            weights: 18.0,
            compile: 8.0,
            profile: 2.5,
            graphs: 7.0,
        }
    }
}

/// A phase of a process's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Imports, arguments, engine start.
    Config,
    /// torch.distributed and gloo.
    Rendezvous,
    /// NCCL communicators.
    Nccl,
    /// Model load.
    Weights,
    /// torch.compile.
    Compile,
    /// Memory profile and KV cache.
    Profile,
    /// CUDA graphs.
    Graphs,
    /// Serving.
    Serving,
}

/// Something that goes wrong. Pods and ranks are numbered from 0; an empty list means all.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Environment that only some pods have.
    Env {
        /// Which pods.
        pods: Vec<usize>,
        /// Literal values.
        set: BTreeMap<String, String>,
    },
    /// Other software in some pods.
    Versions {
        /// Which pods.
        pods: Vec<usize>,
        /// Their NCCL.
        nccl: Option<Version>,
        /// Their image.
        image: Option<String>,
    },
    /// RDMA devices are not in the container, or NCCL prefers another network than the best.
    Network {
        /// Which pods.
        pods: Vec<usize>,
        /// Name after `Using network`.
        using: String,
        /// The devices are listed all the same.
        #[serde(default = "yes")]
        listed: bool,
    },
    /// Nothing gets through between these pods and the others once NCCL begins.
    Unreachable {
        /// Which pods.
        pods: Vec<usize>,
    },
    /// Somebody else holds memory of the GPUs of these ranks.
    Leftover {
        /// Which ranks.
        ranks: Vec<usize>,
        /// How much, GiB.
        gib: f64,
        /// Since when, seconds from the beginning.
        #[serde(default)]
        from: f64,
    },
    /// The GPUs of these ranks are not in their containers.
    Gone {
        /// Which ranks.
        ranks: Vec<usize>,
    },
    /// GPUDirect RDMA refused in some pods.
    NoGdr {
        /// Which pods.
        pods: Vec<usize>,
    },
    /// Inside a host these groups are connected through shared memory, though the GPUs can reach each other.
    SharedMemory {
        /// `tp`, `pp`, `dp`, `ep`.
        groups: Vec<String>,
    },
    /// Never scheduled.
    Pending {
        /// Which pods.
        pods: Vec<usize>,
        /// What the scheduler says.
        message: String,
    },
    /// The image can't be pulled.
    ImagePull {
        /// Which pods.
        pods: Vec<usize>,
        /// What the runtime says.
        message: String,
    },
    /// Some pods share a node.
    SameNode {
        /// Which pods.
        pods: Vec<usize>,
    },
    /// The start of the log was rotated away before somebody watched.
    Rotated {
        /// Which pods.
        pods: Vec<usize>,
        /// Seconds from the beginning; lines before are gone.
        before: f64,
    },
    /// A step that some ranks take and others wait for: lines, then perhaps the end.
    Rank {
        /// Which ranks (global).
        ranks: Vec<usize>,
        /// In which phase.
        phase: Phase,
        /// Seconds after the phase began.
        #[serde(default)]
        after: f64,
        /// What they print.
        #[serde(default)]
        say: Vec<Say>,
        /// What becomes of them.
        #[serde(default)]
        then: Then,
    },
    /// The same for a whole pod: its main process.
    Pod {
        /// Which pods.
        pods: Vec<usize>,
        /// In which phase.
        phase: Phase,
        /// Seconds after the phase began.
        #[serde(default)]
        after: f64,
        /// What its main process prints.
        #[serde(default)]
        say: Vec<Say>,
        /// What becomes of it.
        #[serde(default)]
        then: Then,
        /// Events the kubelet or a controller writes at that moment.
        #[serde(default)]
        events: Vec<Told>,
    },
}

/// An event about a pod: `Reason: message`, a warning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// `Evicted`, `Unhealthy`, …
    pub reason: String,
    /// Text.
    pub message: String,
    /// How often it was seen.
    #[serde(default = "one_u32")]
    pub count: u32,
}

/// A line of log. `{ip:N}`, `{host:N}`, `{rank}`, `{local}`, `{bus}`, `{pid}`, `{dns:N}` are filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Say {
    /// `NCCL INFO` of that process.
    NcclInfo(String),
    /// `file.cc:line message`: a `NCCL WARN` of that process.
    NcclWarn(String),
    /// So many calls of `AllReduce` on that process's communicator of a group, as `NCCL_DEBUG_SUBSYS=COLL` prints them.
    NcclCalls {
        /// `tp`, `pp`, `dp`, `ep`.
        group: String,
        /// How many.
        count: u32,
    },
    /// `LEVEL [file.py:line] message` with the worker's prefix.
    Worker(String),
    /// The same from the engine core of the first pod.
    Engine(String),
    /// The same from the API server of the first pod.
    Api(String),
    /// Verbatim text of that container: C++ output, tracebacks.
    Raw(String),
    /// Verbatim text with the worker's prefix.
    Print(String),
    /// Seconds pass.
    Wait(f64),
}

/// What becomes of a process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Then {
    /// Nothing: it goes on.
    #[default]
    GoOn,
    /// It stands still for ever and says nothing.
    Hang,
    /// It ends, and its container with it.
    Exit {
        /// Exit code of the container.
        code: i32,
        /// `Error`, `OOMKilled`, …
        #[serde(default)]
        reason: Option<String>,
        /// The process is killed: it says nothing about its own end.
        #[serde(default)]
        killed: bool,
        /// How often the kubelet starts it again.
        #[serde(default)]
        restarts: u32,
        /// The pod itself is gone (`Evicted`): its phase is `Failed` with this message.
        #[serde(default)]
        evicted: Option<String>,
    },
}

impl Then {
    /// The process ends.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Exit { .. })
    }
}

/// What the program must conclude when the scenario is over.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Verdict of the report.
    pub verdict: String,
    /// Ids of findings of severity warning and error: these and no others.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Ids of findings of severity info that must be among those raised.
    #[serde(default)]
    pub info: Vec<String>,
    /// Word of the grade of the test that begins by itself.
    #[serde(default)]
    pub test: Option<String>,
    /// Checks that do not pass, with their verdict.
    #[serde(default)]
    pub checks: BTreeMap<String, String>,
}

fn default_start() -> String {
    START.into()
}
fn default_container() -> String {
    "vllm".into()
}
fn default_memory() -> String {
    "512Gi".into()
}
fn default_gpu() -> String {
    "NVIDIA-H100-80GB-HBM3".into()
}
fn default_gpu_memory() -> f64 {
    79.1
}
fn default_cuda() -> String {
    "12.8".into()
}
fn default_channels() -> usize {
    16
}
fn default_net_channels() -> usize {
    4
}
fn yes() -> bool {
    true
}
fn one() -> usize {
    1
}
fn one_u32() -> u32 {
    1
}

impl Scenario {
    /// When the pods are created, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn origin_ns(&self) -> Nanos {
        self.start
            .parse::<jiff::Timestamp>()
            .map_or(0, |t| i64::try_from(t.as_nanosecond()).unwrap_or(0))
    }

    /// Time of the first event, nanoseconds since the Unix epoch. A player's clock starts here.
    #[must_use]
    pub fn start_ns(&self) -> Nanos {
        self.origin_ns() + super::plan::secs(self.watch_from)
    }

    /// Number of ranks.
    #[must_use]
    pub fn world(&self) -> usize {
        self.workload.pods * self.nodes.gpus
    }
}

impl Fault {
    /// Pods and ranks that it names.
    pub(super) fn reach(&self) -> (&[usize], &[usize]) {
        match self {
            Self::Env { pods, .. }
            | Self::Versions { pods, .. }
            | Self::Network { pods, .. }
            | Self::Unreachable { pods }
            | Self::NoGdr { pods }
            | Self::Pending { pods, .. }
            | Self::ImagePull { pods, .. }
            | Self::SameNode { pods }
            | Self::Rotated { pods, .. }
            | Self::Pod { pods, .. } => (pods, &[]),
            Self::SharedMemory { .. } => (&[], &[]),
            Self::Rank { ranks, .. } | Self::Leftover { ranks, .. } | Self::Gone { ranks } => {
                (&[], ranks)
            }
        }
    }
}
