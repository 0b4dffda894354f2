//! What a cluster or a node shows beside its logs: pods, GPUs, servers, what containers use.

use crate::parse::{At, Nanos};

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

/// A GPU: what it holds, what it should hold, and whose it is. Bytes, percent, watts, Celsius.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuView {
    /// The container that held it has ended: what was measured is old, and says nothing of now.
    pub ended: bool,
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
    /// Index into [`super::Scene::processes`] of the rank that runs on it.
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
    /// It was not asked: nobody may, or it is one too many.
    pub refused: bool,
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
    /// Its container has ended: what it answered before is no longer so.
    pub ended: bool,
    /// When `/health` was asked; nothing where it was not.
    pub at: Option<At>,
}
