//! Processes: who they are and how far they have come.

use super::{LineRef, Stage};
use crate::parse::At;

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

impl Progress {
    /// `6/19 shards`, `1.4/15.2 GB`.
    #[must_use]
    pub fn told(&self) -> String {
        let gb = |n: u64| format!("{:.1}", n as f64 / 1e9);
        match self.unit {
            "bytes" => format!("{}/{} GB", gb(self.done), gb(self.total)),
            unit => format!("{}/{} {unit}", self.done, self.total),
        }
    }
}

/// How long a process that is not there yet has said nothing, and how long it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Its last sign.
    pub since: At,
    /// What the stage allows, seconds.
    pub limit_s: u32,
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

/// What Ray's driver told in one line for several workers of an engine, most of them without a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// The stage that it proves.
    pub stage: Stage,
    /// What they have done: `loaded the model`.
    pub done: &'static str,
    /// How many said so.
    pub said: u32,
    /// How many of these no line names.
    pub unnamed: u32,
    /// Workers of the engine, where that is known.
    pub of: Option<u32>,
    /// The newest line that stands for several.
    pub line: LineRef,
}

impl Folded {
    /// `8 of 8 workers have loaded the model: 2 by name, 6 counted by Ray without one`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let of = self.of.map_or_else(String::new, |n| format!(" of {n}"));
        let s = if self.of.unwrap_or(self.said) == 1 {
            ""
        } else {
            "s"
        };
        format!(
            "{}{of} worker{s} have {}: {} by name, {} counted by Ray without one",
            self.said,
            self.done,
            self.said.saturating_sub(self.unnamed),
            self.unnamed
        )
    }
}

/// A worker that Ray's count may or must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// What those who are counted have done.
    pub done: &'static str,
    /// How many are counted without a name.
    pub unnamed: u32,
    /// When the count was printed.
    pub at: Option<At>,
    /// Everyone of its engine is counted: it is one of them.
    pub sure: bool,
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
    /// Pod IP; for a worker whose lines Ray's driver relays, the address in front of them.
    pub ip: Option<String>,
    /// Host as NCCL prints it.
    pub host: Option<String>,
    /// Name of its log, without folders, where nothing else says where it runs.
    pub told_in: Option<String>,
    /// Process id in its namespace.
    pub pid: Option<u64>,
    /// False once its end is proven.
    pub alive: Option<bool>,
    /// Its container ended, and it with it, without a word of its own.
    pub killed: bool,
    /// That container runs again, without it.
    pub replaced: bool,
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
    /// Ray's count of workers beyond what this one has said itself.
    pub counted: Option<Counted>,
    /// NCCL's step in a communicator that it has begun and not finished.
    pub nccl_open: Option<NcclStep>,
    /// Its silence so far, where that can be told.
    pub silence: Option<Silence>,
    /// It stands still for longer than its stage allows.
    pub still: Option<Still>,
    /// The finding that singles it out as the one the others wait for.
    pub accused: Option<&'static str>,
    /// Where its GPU is the proof: what that one holds, and what its group's do, bytes.
    pub held: Option<(u64, u64)>,
    /// A finding proves that it never came to the rendezvous of a communicator whose other ranks wait.
    pub absent: bool,
    /// Its newest communicator did not come up: an error or an abort ended its init.
    pub nccl_failed: bool,
    /// vLLM's 1-element all-reduce over a communicator that NCCL has completed: whether it came back; `None`
    /// where that can't be told.
    pub warmed_up: Option<bool>,
    /// Time of its last line.
    pub last_at: Option<At>,
    /// First trouble it reported.
    pub first_error: Option<LineRef>,
}

impl ProcessView {
    /// Whether it may be further than what is known of it: its silence proves nothing.
    #[must_use]
    pub fn unheard(&self) -> bool {
        self.quiet || self.counted.is_some_and(|c| !c.sure)
    }

    /// What a person calls where it runs: pod or host, else the address, else the log that tells of it.
    #[must_use]
    pub fn place(&self) -> String {
        self.known_place().to_owned()
    }

    /// The same, as it is kept here.
    #[must_use]
    pub fn known_place(&self) -> &str {
        let names = [&self.pod, &self.host, &self.ip, &self.told_in];
        names
            .into_iter()
            .flatten()
            .next()
            .map_or("?", String::as_str)
    }
}
