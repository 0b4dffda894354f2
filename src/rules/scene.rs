//! The scene: everything derived from a model, in the words of the report contract.
//!
//! Panes draw it, the report serialises it; neither concludes anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::variables::Values;
pub use crate::model::speakers::Stage;
use crate::parse::fact::{Life, Via};
use crate::parse::{At, Nanos};

/// Verdict over a workload or all of them; ordered from best to worst as the contract ranks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verdict {
    /// Every expected rank serves, or every communicator is complete.
    Healthy,
    /// Something expected has not been reached yet.
    Starting,
    /// Nothing seen that would allow a verdict.
    #[default]
    Unknown,
    /// Works or starts, with a finding of severity error or warning.
    Degraded,
    /// Can't go on without someone acting.
    Failed,
}

/// A line that proves something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineRef {
    /// Index into [`Scene::sources`].
    pub source: u32,
    /// 1-based physical line.
    pub number: u64,
    /// Its stamp.
    pub at: Option<At>,
    /// Its text, cleaned; empty where only the place is kept.
    pub text: Arc<str>,
}

/// A source as the report lists it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceView {
    /// Unique name.
    pub name: String,
    /// `namespace/pod` if it is a container's.
    pub pod: Option<String>,
    /// Container name.
    pub container: Option<String>,
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// Physical lines.
    pub lines: u64,
    /// NCCL lines.
    pub nccl_lines: u64,
    /// vLLM lines.
    pub vllm_lines: u64,
    /// Lines known to be lost before they reached us.
    pub dropped_lines: u64,
    /// The log starts in mid-life; `None` when that can't be told.
    pub head_missing: Option<bool>,
    /// Stamp of the last line.
    pub last_stamp: Option<At>,
    /// `reconnecting in 3 s: …`, when the stream is not simply flowing or ended.
    pub trouble: Option<String>,
}

/// NCCL's four steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NcclStep {
    /// Library, bootstrap, network, START, rendezvous.
    Initialization,
    /// Peers exchanged, rings and trees computed.
    Topology,
    /// Connections made.
    Transport,
    /// Init COMPLETE.
    Completion,
}

/// Progress inside a stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// `shards`, `graphs`.
    pub unit: &'static str,
    /// Units per second, over the whole bar.
    pub rate: Option<f64>,
    /// Seconds that are left of this bar now; unknown where nothing has been done yet or it stands still.
    pub left_s: Option<u64>,
}

/// A process that has shown no sign of getting on for longer than its stage allows. A suspicion: lines may be
/// held back, and what a process does in silence no line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Still {
    /// Its last sign.
    pub since: At,
    /// What the stage allows, seconds.
    pub limit_s: u32,
    /// Another rank is further behind: this one may only be waiting for it.
    pub waits: bool,
}

/// A process: one life of one pid on one host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessView {
    /// Source that has most of its lines.
    pub source: u32,
    /// Every source that has lines of it.
    pub sources: Vec<u32>,
    /// First line in `source`.
    pub first_line: u64,
    /// 1 for the first life under this identity.
    pub incarnation: u32,
    /// Pod name.
    pub pod: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Container.
    pub container: Option<String>,
    /// Node.
    pub node: Option<String>,
    /// Pod IP.
    pub ip: Option<String>,
    /// Host as NCCL prints it.
    pub host: Option<String>,
    /// Process id in its namespace.
    pub pid: Option<u64>,
    /// False once its end is proven.
    pub alive: Option<bool>,
    /// Versions of the libraries it loaded.
    pub nccl_versions: Vec<String>,
    /// CUDA version of the NCCL build.
    pub cuda_version: Option<String>,
    /// CUDA version that the driver supports.
    pub cuda_driver: Option<String>,
    /// `Using network X`.
    pub network: Option<String>,
    /// Bootstrap interface.
    pub bootstrap_interface: Option<String>,
    /// Bootstrap address without port.
    pub bootstrap_address: Option<String>,
    /// RDMA devices listed (`mlx5_0:1`), empty when none or not known.
    pub rdma_devices: Vec<String>,
    /// What the log proves of the environment, sorted.
    pub env: Vec<(String, String)>,
    /// What it is where it is no rank: `API server`, `engine core` …
    pub part: Option<&'static str>,
    /// Innermost vLLM label.
    pub vllm_label: Option<String>,
    /// vLLM version.
    pub vllm_version: Option<String>,
    /// vLLM's or torch's global rank.
    pub global_rank: Option<u32>,
    /// Local rank.
    pub local_rank: Option<u32>,
    /// Data-parallel rank.
    pub dp: Option<u32>,
    /// Pipeline stage.
    pub pp: Option<u32>,
    /// Tensor-parallel rank.
    pub tp: Option<u32>,
    /// Expert-parallel rank.
    pub ep: Option<u32>,
    /// Prefill-context rank (v0.12+).
    pub pcp: Option<u32>,
    /// Decode-context rank.
    pub dcp: Option<u32>,
    /// Furthest of NCCL's four steps over its communicators.
    pub nccl_step: Option<NcclStep>,
    /// Start-up stage.
    pub stage: Option<Stage>,
    /// Since when.
    pub stage_since: Option<At>,
    /// Progress inside the stage.
    pub progress: Option<Progress>,
    /// Its vLLM version lets only the first rank of a node speak past NCCL: that it says nothing more
    /// proves nothing.
    pub quiet: bool,
    /// NCCL's step in a communicator that it has begun and not finished.
    pub nccl_open: Option<NcclStep>,
    /// It stands still for longer than its stage allows.
    pub still: Option<Still>,
    /// vLLM's 1-element all-reduce over a communicator that NCCL has completed: whether it came back; `None`
    /// where that can't be told.
    pub warmed_up: Option<bool>,
    /// Time of its last line.
    pub last_at: Option<At>,
    /// First trouble it reported.
    pub first_error: Option<LineRef>,
}

impl ProcessView {
    /// What a person calls it: pod or host, with pid.
    #[must_use]
    pub fn place(&self) -> String {
        self.pod
            .clone()
            .or_else(|| self.host.clone())
            .unwrap_or_else(|| "?".into())
    }
}

/// State of a communicator or of one rank in it; ordered so that the worst is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum CommState {
    /// Init started.
    #[default]
    Starting,
    /// Init complete.
    Complete,
    /// Destroyed in order.
    Destroyed,
    /// Revoked (2.28.7+).
    Revoked,
    /// Aborted.
    Aborted,
    /// An error ended it.
    Failed,
}

impl From<Life> for CommState {
    fn from(l: Life) -> Self {
        match l {
            Life::InitStart => Self::Starting,
            Life::InitComplete => Self::Complete,
            Life::Destroyed => Self::Destroyed,
            Life::AbortStart | Life::Aborted => Self::Aborted,
            Life::RevokeStart | Life::Revoked => Self::Revoked,
        }
    }
}

/// One rank of a communicator.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Rank inside the communicator.
    pub rank: u32,
    /// Index into [`Scene::processes`].
    pub process: u32,
    /// CUDA ordinal.
    pub cuda_dev: Option<u32>,
    /// NVML index.
    pub nvml_dev: Option<u32>,
    /// PCI bus id as NCCL prints it.
    pub bus_id: Option<String>,
    /// State.
    pub state: CommState,
    /// NCCL step this rank reached in this communicator.
    pub step: NcclStep,
    /// First Init line.
    pub line: LineRef,
}

/// Kind of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EdgeKind {
    /// Rings, trees, PAT, NVLS tree.
    Coll,
    /// Send/recv.
    SendRecv,
    /// CollNet.
    CollNet,
}

/// How sure we are of the communicator an edge belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribution {
    /// Inside an open init window, or named by pointer.
    Exact,
    /// The only communicator that fits.
    Inferred,
}

/// Family of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// P2P.
    P2p,
    /// Shared memory.
    Shm,
    /// A network.
    Net,
    /// CollNet.
    CollNet,
    /// A transport that is not known here; its word is kept.
    Unknown,
}

/// One side of a network path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// Plugin device.
    pub device: u16,
    /// GPUDirect RDMA.
    pub gdr: bool,
    /// PXN rank (send side only).
    pub pxn_rank: Option<u32>,
    /// Shared buffers.
    pub shared: bool,
}

/// A distinct pair of sides and the channels that use it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Sender's side.
    pub send: Option<Side>,
    /// Receiver's side.
    pub receive: Option<Side>,
    /// Channels, sorted.
    pub channels: Vec<u16>,
}

/// A connection between two ranks of one communicator.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Sender; `None` for the unnamed side of CollNet.
    pub from: Option<u32>,
    /// Receiver.
    pub to: Option<u32>,
    /// Kind; `None` where it can't be told.
    pub kind: Option<EdgeKind>,
    /// Text after `via`, without PXN and trailing noise.
    pub transport: String,
    /// Understood form of the sender's (else the receiver's) first line.
    pub via: Option<Via>,
    /// Family.
    pub family: Family,
    /// Network name for NET and CollNet.
    pub network: Option<String>,
    /// NET and CollNet: every line seen has GDRDMA.
    pub gdr: Option<bool>,
    /// Channels, sorted.
    pub channels: Vec<u16>,
    /// The two ends are on one host; `None` while one is unknown.
    pub same_host: Option<bool>,
    /// Attribution.
    pub attribution: Attribution,
    /// NET and CollNet only.
    pub paths: Vec<Path>,
    /// First line by source order, then number.
    pub line: LineRef,
    /// More lines of this edge, at most a few per side, first ones first.
    pub lines: Vec<LineRef>,
    /// What it is rated as.
    pub rating: Rating,
}

/// How good a transport is for the place it is used in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Rating {
    /// As its place allows, or not known to be worse.
    #[default]
    Fine,
    /// Worse than its place allows: drawn reversed with `!`.
    Downgraded,
}

/// Order of a ring.
#[derive(Debug, Clone, PartialEq)]
pub struct Ring {
    /// Channel.
    pub channel: u16,
    /// Ranks.
    pub order: Vec<u32>,
    /// All ranks are there.
    pub complete: bool,
}

/// One rank's place in a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeView {
    /// Channel.
    pub channel: u16,
    /// Rank.
    pub rank: u32,
    /// Parent.
    pub up: Option<u32>,
    /// Children.
    pub down: Vec<u32>,
}

/// A communicator over all processes.
#[derive(Debug, Clone, PartialEq)]
pub struct Communicator {
    /// Key of the contract.
    pub key: String,
    /// As NCCL prints it.
    pub comm_id: Option<String>,
    /// Key of the parent.
    pub parent: Option<String>,
    /// Size.
    pub nranks: u32,
    /// Version of the library that made it, when one is known.
    pub nccl_version: Option<String>,
    /// vLLM group.
    pub group: Option<String>,
    /// State.
    pub state: CommState,
    /// Ranks without any line among the sources, at most 4,096.
    pub unseen_ranks: Vec<u32>,
    /// How many there are.
    pub unseen_count: u32,
    /// Ranks proven absent; `None` where it can't be told.
    pub missing_ranks: Option<Vec<u32>>,
    /// Started, not complete, while others are.
    pub incomplete_ranks: Vec<u32>,
    /// Members seen, by rank.
    pub ranks: Vec<Member>,
    /// Edges, sorted by (from, to, kind, transport).
    pub edges: Vec<Edge>,
    /// Rings.
    pub rings: Vec<Ring>,
    /// Trees.
    pub trees: Vec<TreeView>,
    /// coll, nvls, p2p, p2p per peer.
    pub channel_counts: Option<(u32, Option<u32>, u32, u32)>,
    /// Bytes.
    pub p2p_chunk_bytes: Option<u64>,
    /// Slowest rank's init, seconds.
    pub init_seconds: Option<f64>,
    /// First stamp of an Init line.
    pub since: Option<At>,
}

/// Connection lines whose communicator stays open.
#[derive(Debug, Clone, PartialEq)]
pub struct Unattributed {
    /// Source of the first one.
    pub source: u32,
    /// Process that printed them.
    pub process: Option<u32>,
    /// Sender.
    pub from: Option<u32>,
    /// Receiver.
    pub to: Option<u32>,
    /// Text after `via`.
    pub transport: String,
    /// Keys of the communicators that fit; empty: came before any init.
    pub candidates: Vec<String>,
    /// How many lines.
    pub lines: u64,
    /// The first one.
    pub sample: LineRef,
}

/// A component of processes that belong together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workload {
    /// Name, when live.
    pub name: Option<String>,
    /// Verdict.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// Indices into [`Scene::processes`].
    pub processes: Vec<u32>,
    /// Indices into [`Scene::communicators`].
    pub communicators: Vec<u32>,
    /// World size, when known.
    pub expected_ranks: Option<u32>,
    /// Model name.
    pub model: Option<String>,
    /// TP, PP, DP, EP.
    pub sizes: [Option<u32>; 4],
    /// PCP, DCP; from v0.12 on, 1 where nobody asks for them.
    pub context: [Option<u32>; 2],
}

impl Workload {
    /// How it is cut, as a person reads it: `TP 4`, `PP 2`; context parallelism where there is any.
    #[must_use]
    pub fn cut(&self) -> Vec<String> {
        let names = ["TP", "PP", "DP", "EP", "PCP", "DCP"];
        let sizes = self.sizes.iter().chain(&self.context);
        let shown = names.into_iter().zip(sizes).filter_map(|(name, n)| {
            let n = (*n)?;
            (n > 1 || !name.contains('C')).then(|| format!("{name} {n}"))
        });
        shown.collect()
    }
}

/// A vLLM group and what carries its collectives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupView {
    /// `tp:0`.
    pub name: String,
    /// `tp`, `dcp`, `pcp`, `pp`, `dp`, `ep`, `world`.
    pub kind: &'static str,
    /// Members in the order of their ranks inside the group.
    pub global_ranks: Vec<u32>,
    /// Key of its NCCL communicator.
    pub communicator: Option<String>,
    /// Path of an all-reduce by size, smallest first.
    pub routes: Vec<RouteView>,
    /// Why `routes` is empty: the condition that is not known.
    pub routes_open: Option<String>,
}

/// The path an all-reduce takes up to a size.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteView {
    /// Largest message on this path, bytes; `None`: everything above.
    pub max_bytes: Option<u64>,
    /// `custom`, `symm-multimem`, `symm-two-shot`, `nccl`, `gloo`.
    pub path: &'static str,
    /// The condition that decided.
    pub because: String,
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; never changes the verdict.
    Info,
    /// Degrades.
    Warning,
    /// Breaks.
    Error,
}

/// Confidence of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Suspicion.
    Possible,
    /// Strong, not proven.
    Likely,
    /// Proven by its evidence.
    Certain,
}

/// What kind of cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "words of the contract")]
pub enum Class {
    Hardware,
    Network,
    Platform,
    Configuration,
    Application,
    Resources,
}

/// What a finding stands on.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// A log line.
    Line(LineRef),
    /// A Kubernetes object: `pod/llm-0: status.containerStatuses[0].state.waiting.reason=ImagePullBackOff`.
    Object(String),
    /// A measured sample.
    Sample(String),
    /// A check by id and what it returned.
    Check(String),
}

/// A conclusion with its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// `id@subject`, unique and stable.
    pub key: String,
    /// Id of the contract.
    pub id: &'static str,
    /// Severity.
    pub severity: Severity,
    /// Class.
    pub class: Class,
    /// Confidence.
    pub confidence: Confidence,
    /// Title about this job.
    pub title: String,
    /// Since when.
    pub since: Option<At>,
    /// Ranks: of `communicator` if set, else global.
    pub ranks: Vec<u32>,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Pods.
    pub pods: Vec<String>,
    /// GPUs.
    pub gpus: Vec<String>,
    /// Communicator key.
    pub communicator: Option<String>,
    /// Never empty: see [`Finding::new`].
    evidence: Vec<Evidence>,
    /// Why it happens.
    pub cause: String,
    /// What to change, ready to paste.
    pub fix: Vec<String>,
    /// Key of the finding that explains this one.
    pub consequence_of: Option<String>,
}

impl Finding {
    /// A finding can't exist without a first piece of evidence.
    #[must_use]
    pub fn new(
        id: &'static str,
        subject: &str,
        severity: Severity,
        class: Class,
        first: Evidence,
    ) -> Self {
        Self {
            key: format!("{id}@{subject}"),
            id,
            severity,
            class,
            confidence: Confidence::Certain,
            title: String::new(),
            since: None,
            ranks: Vec::new(),
            hosts: Vec::new(),
            pods: Vec::new(),
            gpus: Vec::new(),
            communicator: None,
            evidence: vec![first],
            cause: String::new(),
            fix: Vec::new(),
            consequence_of: None,
        }
    }

    /// Adds proof.
    pub fn prove(&mut self, more: Evidence) {
        if !self.evidence.contains(&more) {
            self.evidence.push(more);
        }
    }

    /// The proof.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }
}

/// What a cell of the matrix shows: the worst of the edges behind it. Order: best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Glyph {
    /// `M` P2P over multi-node NVLink.
    Mnnvl,
    /// `P` P2P.
    P2p,
    /// `p` P2P indirect or copy engine.
    P2pWeak,
    /// `C` CollNet.
    CollNet,
    /// `R` network with GPUDirect RDMA on both sides.
    NetGdr,
    /// `S` shared memory.
    Shm,
    /// `I` RDMA network staged through host memory.
    Net,
    /// `T` TCP sockets.
    Tcp,
    /// `?` not known yet.
    Doubt,
    /// `·` same communicator, no edge.
    Missing,
}

/// A cell of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Row: sending slot.
    pub from: u32,
    /// Column: receiving slot.
    pub to: u32,
    /// Worst transport.
    pub glyph: Glyph,
    /// Worse than its place allows.
    pub downgraded: bool,
    /// Sender and receiver disagree (GDR on one side alone, other network).
    pub disagree: bool,
    /// Attribution is inferred for some edge.
    pub inferred: bool,
    /// (communicator, edge) indices behind it.
    pub edges: Vec<(u32, u32)>,
    /// (index into [`Scene::unattributed`]) behind it.
    pub open: Vec<u32>,
}

/// One row and column of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Number drawn and said aloud: global rank in the merged view, rank in a communicator.
    pub number: u32,
    /// Whether `number` is proven; the merged view numbers processes in order where no global rank is known.
    pub proven: bool,
    /// Process, if its lines are there.
    pub process: Option<u32>,
    /// Group for borders: the host (two pods on one node are two hosts to NCCL).
    pub host: String,
}

/// A rank-by-rank matrix, sparse.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    /// `all` or the communicator's key.
    pub name: String,
    /// What a person calls it: `all`, `tp:0`, `c0ffee…/8`.
    pub label: String,
    /// Axis, sorted by number.
    pub slots: Vec<Slot>,
    /// Cells with something to show, sorted by (from, to).
    pub cells: Vec<Cell>,
    /// Pairs of slots that share a communicator but have no edge are `·`; others stay blank. Empty = all share.
    pub groups: Vec<Vec<u32>>,
    /// A sentence that says what stands out.
    pub headline: String,
}

impl Matrix {
    /// The cell at (from, to), slots by index.
    #[must_use]
    pub fn cell(&self, from: u32, to: u32) -> Option<&Cell> {
        self.cells
            .binary_search_by(|c| (c.from, c.to).cmp(&(from, to)))
            .ok()
            .and_then(|i| self.cells.get(i))
    }
}

/// A pod as the pods pane shows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Index in the workload.
    pub index: Option<u32>,
    /// STATUS as kubectl prints it.
    pub status: String,
    /// READY as kubectl prints it.
    pub ready: String,
    /// RESTARTS as kubectl prints it.
    pub restarts: String,
    /// Number of restarts.
    pub restart_count: u32,
    /// Created.
    pub created: Option<Nanos>,
    /// Node.
    pub node: Option<String>,
    /// Pod IP.
    pub ip: Option<String>,
    /// GPUs requested.
    pub gpus: u32,
    /// Short image digest or tag.
    pub image: Option<String>,
    /// Why it is pending, why it restarted: one line.
    pub why: Option<String>,
    /// Something is wrong with it.
    pub bad: bool,
    /// `startup ✓ readiness ✗`-like summary in words.
    pub probes: String,
    /// Ranks that run in it.
    pub ranks: Vec<u32>,
}

/// Verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "words of the contract")]
pub enum CheckVerdict {
    Pass,
    Warn,
    Fail,
    Waiting,
    Unknown,
    NotApplicable,
    Forbidden,
}

/// A check with its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckView {
    /// `check.pods`.
    pub id: &'static str,
    /// Title.
    pub title: String,
    /// Outcome.
    pub verdict: CheckVerdict,
    /// About what.
    pub subject: String,
    /// What was run.
    pub ran: String,
    /// What came back, or why nothing did.
    pub output: String,
    /// Fix.
    pub fix: Vec<String>,
    /// When.
    pub at: Option<At>,
}

/// A GPU: what it holds, what it should hold, and whose it is. Bytes, percent, watts, Celsius.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuView {
    /// Key in the model, where it was sampled: the curve is there.
    pub key: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// PCI bus id as NCCL prints it.
    pub bus_id: Option<String>,
    /// Index where the sampler ran; for people, never to join by.
    pub index: Option<u32>,
    /// Product.
    pub name: Option<String>,
    /// Driver.
    pub driver: Option<String>,
    /// Node.
    pub node: Option<String>,
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Pod that has it.
    pub pod: Option<String>,
    /// Container that has it.
    pub container: Option<String>,
    /// Pods that see it, if there is more than one: shared, or leaked.
    pub shared: Vec<String>,
    /// Index into [`Scene::processes`] of the rank that runs on it.
    pub process: Option<u32>,
    /// Its number in torch's world.
    pub global_rank: Option<u32>,
    /// Memory there is.
    pub total: Option<u64>,
    /// Memory taken by whomever.
    pub used: Option<u64>,
    /// Memory the driver keeps.
    pub reserved: Option<u64>,
    /// What the weights should take here.
    pub expected_weights: Option<u64>,
    /// What says so: `index: 93.4 GB by TP 4, PP 2`.
    pub expected_from: Option<String>,
    /// What was taken when the weights began to come.
    pub before_weights: Option<u64>,
    /// Of the expected weights, what has come; at most all of them.
    pub filled: Option<u64>,
    /// Where vLLM stops: its utilization setting times the total.
    pub limit: Option<u64>,
    /// That setting, and whether somebody set it.
    pub utilization: Option<(f64, bool)>,
    /// Memory that was taken before the rank came: somebody else's, as far as can be told from here.
    pub other: Option<u64>,
    /// Growth while loading, bytes per second.
    pub rate: Option<f64>,
    /// Time until the weights are there, nanoseconds.
    pub left: Option<Nanos>,
    /// Used memory stands still since then.
    pub still_since: Option<Nanos>,
    /// The rank on it loads weights.
    pub loading: bool,
    /// How it differs from the others of its tensor-parallel group and pipeline stage; nothing where it doesn't.
    pub odd: Option<String>,
    /// Used minus what the middle one of that group uses.
    pub off_by: Option<i64>,
    /// Share of time in which any kernel ran.
    pub busy: Option<u32>,
    /// Share of time in which memory was read or written.
    pub memory_busy: Option<u32>,
    /// Temperature.
    pub celsius: Option<u32>,
    /// Power drawn.
    pub watts: Option<f64>,
    /// Power limit.
    pub watts_limit: Option<f64>,
    /// Clock and highest clock of the multiprocessors, MHz.
    pub clock: Option<(u32, Option<u32>)>,
    /// Why clocks are held down, in words; idle is no reason.
    pub throttle: Vec<&'static str>,
    /// One of those reasons is trouble with power or heat.
    pub throttled_badly: bool,
    /// Uncorrectable ECC errors since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Corrected ECC errors since then.
    pub ecc_corrected: Option<u64>,
    /// Xids seen: when, number.
    pub xids: Vec<(Nanos, u32)>,
    /// MIG is on.
    pub mig: Option<bool>,
    /// PCIe generation and width.
    pub pcie: Option<(u32, u32)>,
    /// What the tool says in place of a number: `GPU is lost`.
    pub state: Option<String>,
    /// Tool that measured.
    pub tool: Option<String>,
    /// When it was measured.
    pub at: Option<At>,
}

/// A container's use of its host, as its cgroup counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UsageView {
    /// Pod; nothing for this node.
    pub pod: Option<String>,
    /// Memory that can't be dropped: all of it without the page cache, bytes.
    pub working: Option<u64>,
    /// Memory charged, bytes.
    pub memory: Option<u64>,
    /// Page cache, bytes.
    pub cache: Option<u64>,
    /// Limit, bytes.
    pub limit: Option<u64>,
    /// Processors in use.
    pub cpus: Option<f64>,
    /// Bytes read from storage per second.
    pub read: Option<f64>,
    /// Swap charged, bytes.
    pub swap: Option<u64>,
    /// Swap used on the host, bytes.
    pub host_swap: Option<u64>,
    /// Memory of the host that can be had, bytes.
    pub host_available: Option<u64>,
    /// Processes killed for memory.
    pub oom_kills: Option<u64>,
    /// When it was measured.
    pub at: Option<At>,
}

/// Tokens and milliseconds of a try to make one, or why there is none.
pub type Generated = Result<(u64, u64), String>;

/// A server of the model: ready is one thing, at work another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServingView {
    /// Pod.
    pub pod: String,
    /// What was asked: `GET :8000/health`.
    pub asked: String,
    /// `/health` answers 200; nothing where it could not be asked.
    pub ready: Option<bool>,
    /// Why it is not ready, or could not be asked.
    pub why: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Names of the models.
    pub models: Vec<String>,
    /// Requests that run.
    pub running: Option<f64>,
    /// Requests that wait.
    pub waiting: Option<f64>,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Requests run and no token comes since then.
    pub stuck_since: Option<At>,
    /// A try to make a token: when, and tokens and milliseconds, or why there is none.
    pub generated: Option<(At, Generated)>,
    /// When `/health` was asked.
    pub at: Option<At>,
}

/// Everything derived from a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scene {
    /// Newest fact: the last stamp seen (files), the clock (live).
    pub now: Option<At>,
    /// Worst of the workloads.
    pub verdict: Verdict,
    /// One sentence that a tired person can act on.
    pub summary: String,
    /// Sources in order of appearance.
    pub sources: Vec<SourceView>,
    /// Workloads.
    pub workloads: Vec<Workload>,
    /// Processes, sorted by (source order, first line).
    pub processes: Vec<ProcessView>,
    /// Communicators, sorted by key.
    pub communicators: Vec<Communicator>,
    /// Connection lines in doubt.
    pub unattributed: Vec<Unattributed>,
    /// Findings: root causes first by severity, echoes after their cause.
    pub findings: Vec<Finding>,
    /// Merged matrix first, then one per communicator in the order of the tabs.
    pub matrices: Vec<Matrix>,
    /// Who says how the job is cut, and which ranks belong where.
    pub layout: super::layout::Layout,
    /// vLLM groups of the layout.
    pub groups: Vec<GroupView>,
    /// Pods in rank order.
    pub pods: Vec<PodRow>,
    /// GPUs by rank, then node and bus id.
    pub gpus: Vec<GpuView>,
    /// Servers of the model, by pod.
    pub serving: Vec<ServingView>,
    /// Containers whose cgroup was read, by pod.
    pub usage: Vec<UsageView>,
    /// Variables over the pods, by name; empty where there are no pods.
    pub variables: BTreeMap<String, Values>,
    /// Checks in the order of the checklist.
    pub checks: Vec<CheckView>,
    /// The all-reduce test, once there is one.
    pub test: Option<Box<super::testing::TestView>>,
}
