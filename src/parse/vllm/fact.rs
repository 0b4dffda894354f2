//! What a vLLM line can say, which phase it belongs to, and who prints it.

use super::{Counted, Fault, Leader, Progress, RankStart, Ranks, Route, Settings, Torch};

/// Start-up phases in the order in which they are numbered (`reference/vllm.md` section 2); what a phase
/// prints may come interleaved with the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// P0: arguments and configuration.
    Config,
    /// P1: engine process start and handshake.
    Engine,
    /// P2: Ray cluster and placement group.
    Ray,
    /// P3: torch.distributed rendezvous and gloo.
    Rendezvous,
    /// P4: NCCL communicators.
    Nccl,
    /// P5: all-reduce back ends.
    Routes,
    /// P6: rank assignment.
    Assigned,
    /// P7: model load, download included.
    Load,
    /// P8: torch.compile.
    Compile,
    /// P9: memory profiling and KV cache.
    Profile,
    /// P10: warm-up and CUDA graph capture.
    Graphs,
    /// P11: engine ready.
    Ready,
    /// P12: HTTP server up.
    Http,
    /// P13: serving statistics.
    Serving,
    /// P14: signs of a hang.
    Hang,
    /// P15: shutdown.
    Shutdown,
}

/// Which part of a phase a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// It begins.
    Begin,
    /// It goes on.
    Progress,
    /// It is over.
    End,
}

/// Who prints a line (`reference/vllm.md` 1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Printer {
    /// Every rank: one that lacks it has not come that far.
    EveryRank,
    /// The first rank of each node.
    FirstOfNode,
    /// Only global rank 0.
    GlobalFirst,
    /// One rank of each pipeline stage or engine, which one depends on the version.
    OneOfGroup,
    /// The engine core.
    Engine,
    /// The API server.
    Server,
    /// Whoever it happens to.
    Anyone,
}

/// What a line that is not NCCL's says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum VllmFact {
    // -- P0 ----------------------------------------------------------------------------------------
    /// Version of the server, and the model where the line names it (S01, S02).
    Version {
        /// `0.11.2`.
        version: String,
        /// Model path or id.
        model: Option<String>,
    },
    /// The model, from the banner (S02).
    Model(String),
    /// Command-line arguments: all of them up to v0.8, those that differ from defaults later (S03).
    Args(Settings),
    /// Platform detected; `None`: none (S04).
    Platform(Option<String>),
    /// `Using max model len N`.
    MaxModelLen(u64),
    /// `Resolved architecture: X`.
    Architecture(String),
    /// `Defaulting to use mp for distributed inference`.
    Executor(String),
    /// An environment variable that a line proves.
    Env {
        /// Name.
        name: String,
        /// Value.
        value: String,
    },
    // -- P1 ----------------------------------------------------------------------------------------
    /// `Initializing a V1 LLM engine (v…) with config: …` (S05).
    Engine {
        /// Engine generation, where printed: 0 or 1.
        generation: Option<u8>,
        /// `0.11.2`.
        version: String,
        /// Configuration.
        config: Settings,
    },
    /// The V0 front end started its engine process (S06).
    EngineProcess {
        /// Its pid.
        pid: u64,
    },
    /// A pod without HTTP server joins a head (S07, S08).
    Headless {
        /// Version, where printed.
        version: Option<String>,
        /// Data-parallel engines launched here; `None` for a multi-node executor.
        engines: Option<u32>,
        /// Address of the head.
        head: String,
    },
    /// The head of a multi-node engine (S09, v0.17+).
    Leader(Leader),
    /// Waiting for engine processes (S10).
    Handshake {
        /// Local engines still awaited.
        local: Option<u32>,
        /// Remote engines still awaited.
        remote: Option<u32>,
    },
    /// Coordinator of data-parallel engines (S11).
    Coordinator {
        /// Its pid; `None` for the line that says that all engines subscribed.
        pid: Option<u64>,
    },
    // -- P2 ----------------------------------------------------------------------------------------
    /// A placement group is looked for or taken: Ray is in play.
    RayCluster,
    /// Waiting for a placement group (S12).
    RayWaiting {
        /// Seconds so far.
        seconds: u64,
        /// GPUs wanted: the bundles.
        bundles: u32,
        /// Addresses to which bundles are pinned.
        nodes: Vec<String>,
    },
    /// Fewer devices than wanted (S13), or a stage wider than a node (S15).
    RayShortage {
        /// Wanted.
        want: Option<u32>,
        /// There.
        have: Option<u32>,
    },
    /// The autoscaler knows no node for a request (S14).
    RayUnfulfillable {
        /// The request as printed.
        request: String,
    },
    // -- P3 ----------------------------------------------------------------------------------------
    /// A rank enters torch.distributed (S20).
    RankStart(RankStart),
    /// Nodes counted (S21).
    Nodes(u32),
    /// gloo took the loopback address (S22): harmless on one node, fatal on several.
    GlooLoopback,
    /// A V0 worker process is up (S2A).
    WorkerReady,
    /// A shared-memory message queue was made (S2B).
    Queue,
    // -- P4–P6 -------------------------------------------------------------------------------------
    /// Which libnccl is loaded (S23).
    NcclFound {
        /// Path or name.
        path: String,
    },
    /// pynccl's version, printed just before `ncclCommInitRank` (S24).
    Pynccl {
        /// `2.27.5`.
        version: String,
    },
    /// All-reduce back ends (S30–S37).
    Route(Route),
    /// Rank assignment (S28).
    Assigned(Ranks),
    // -- P7 ----------------------------------------------------------------------------------------
    /// Model load begins (S40).
    LoadBegin {
        /// Path or id, where printed.
        model: Option<String>,
    },
    /// Loading of a draft model begins: the shard bar runs again from 0.
    DrafterBegin,
    /// Attention back end (S41).
    Attention {
        /// `FLASH_ATTN`.
        backend: String,
    },
    /// Where the checkpoint lies (S42, v0.20+).
    Checkpoint {
        /// File system type.
        fs: String,
        /// Size.
        gib: f64,
        /// Host memory available.
        ram_gib: f64,
    },
    /// Files are read ahead (S43): begin and end; progress comes as [`VllmFact::Progress`].
    Prefetch {
        /// It finished.
        finished: bool,
    },
    /// Read-ahead is off for this file system.
    PrefetchOff {
        /// File system type.
        fs: String,
    },
    /// A progress bar or counter.
    Progress(Progress),
    /// Download finished (S44).
    Downloaded {
        /// Model.
        model: String,
        /// Seconds.
        seconds: f64,
    },
    /// Experts held by this rank.
    Experts {
        /// Rank and size of the expert-parallel group, where printed.
        ep: Option<(u32, u32)>,
        /// Experts here and in all.
        local: Option<(u32, u32)>,
    },
    /// Weights read (S45).
    WeightsDone {
        /// Seconds.
        seconds: f64,
    },
    /// Model in device memory (S46).
    ModelDone {
        /// Device memory that this rank's part took.
        gib: f64,
        /// Seconds, where printed.
        seconds: Option<f64>,
    },
    // -- P8 ----------------------------------------------------------------------------------------
    /// A step of torch.compile (S50).
    CompileStep {
        /// Seconds, where printed.
        seconds: Option<f64>,
        /// It came from a cache.
        cached: bool,
    },
    /// torch.compile is done (S51).
    CompileDone {
        /// Seconds.
        seconds: f64,
    },
    /// First pass after compiling (S52, v0.18+).
    FirstPass {
        /// Seconds.
        seconds: f64,
    },
    // -- P9 ----------------------------------------------------------------------------------------
    /// V0 profile run done (S53).
    ProfileDone {
        /// Seconds.
        seconds: f64,
    },
    /// V0 memory split (S54), GiB.
    MemorySplit {
        /// Weights.
        weights: f64,
        /// Outside torch.
        non_torch: f64,
        /// Activation peak.
        activation: f64,
        /// Left for KV cache; negative when nothing is left.
        kv: f64,
    },
    /// Memory for KV cache (S55).
    KvMemory {
        /// GiB.
        gib: f64,
    },
    /// KV cache size (S56, S57).
    KvSize {
        /// Tokens.
        tokens: Option<u64>,
        /// Request length and how many of them fit.
        concurrency: Option<(u64, f64)>,
    },
    /// KV blocks (S58, V0).
    KvBlocks {
        /// On the GPU.
        gpu: u64,
        /// On the host.
        cpu: Option<u64>,
    },
    // -- P10–P12 -----------------------------------------------------------------------------------
    /// Graph capture begins (S60, V0).
    GraphsBegin,
    /// Memory that graphs will take (S61).
    GraphsEstimate {
        /// GiB, where printed.
        gib: Option<f64>,
    },
    /// Custom all-reduce registered its buffers: capture is ending.
    GraphsRegistered {
        /// Addresses.
        addresses: u64,
    },
    /// Graph capture done (S62).
    GraphsDone {
        /// Seconds.
        seconds: u64,
        /// Memory taken.
        gib: Option<f64>,
    },
    /// Engine ready (S65).
    EngineReady {
        /// Seconds from profile to warm-up.
        seconds: f64,
    },
    /// The server is about to listen (S70).
    Listening {
        /// `http://0.0.0.0:8000`.
        url: String,
    },
    /// A route is announced (S71); `None` for the heading.
    HttpRoute(Option<String>),
    /// uvicorn's own process started or waits for the application.
    HttpStarting,
    /// The server answers (S72).
    HttpUp,
    // -- P13–P15 -----------------------------------------------------------------------------------
    /// Serving statistics (S73, S74).
    Stats(Stats),
    /// A reader waited this long for a block of the shared-memory queue (S80).
    ShmWait {
        /// Seconds.
        seconds: u64,
    },
    /// State before death is dumped (S84); no cause.
    StateDump,
    /// Orderly or forced end (S90, S91, uvicorn).
    Shutdown {
        /// What the line says.
        what: String,
    },
    // -- trouble -----------------------------------------------------------------------------------
    /// torch's watchdog and flight recorder.
    Torch(Torch),
    /// A Python traceback begins.
    Traceback,
    /// A known failure, or the last line of a traceback.
    Fault(Box<Fault>),
}

/// Numbers of a statistics line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Data-parallel engine, where printed.
    pub engine: Option<u32>,
    /// Prompt tokens per second.
    pub prompt_tps: f64,
    /// Generated tokens per second.
    pub generation_tps: f64,
    /// Requests running.
    pub running: u64,
    /// Requests waiting.
    pub waiting: u64,
    /// KV cache usage, percent.
    pub kv_percent: Option<f64>,
}

/// `major.minor.patch` of a vLLM version, whatever follows; `None` for builds that carry none (`dev`).
#[must_use]
pub fn release(version: &str) -> Option<(u16, u16, u16)> {
    let mut parts = version.trim_start_matches('v').split(['.', '+', '-']);
    let mut num = || -> Option<u16> {
        let p = parts.next()?;
        let end = p.find(|c: char| !c.is_ascii_digit()).unwrap_or(p.len());
        p.get(..end)?.parse().ok()
    };
    let (major, minor) = (num()?, num()?);
    Some((major, minor, num().unwrap_or(0)))
}

impl VllmFact {
    /// The phase that the line belongs to, and which part of it; nothing for failures and remarks.
    #[must_use]
    pub fn phase(&self) -> Option<(Phase, Edge)> {
        use Edge::{Begin, End, Progress as Go};
        Some(match self {
            Self::Version { .. } | Self::Model(_) | Self::Args(_) | Self::Platform(Some(_)) => {
                (Phase::Config, Begin)
            }
            Self::MaxModelLen(_) | Self::Architecture(_) | Self::Executor(_) => (Phase::Config, Go),
            Self::Engine { .. }
            | Self::EngineProcess { .. }
            | Self::Headless { .. }
            | Self::Leader(_) => (Phase::Engine, Begin),
            Self::Handshake { .. } | Self::Coordinator { .. } => (Phase::Engine, Go),
            Self::RayCluster => (Phase::Ray, Begin),
            Self::RayWaiting { .. } | Self::RayShortage { .. } | Self::RayUnfulfillable { .. } => {
                (Phase::Ray, Go)
            }
            Self::RankStart(_) => (Phase::Rendezvous, Begin),
            Self::Nodes(_) | Self::GlooLoopback | Self::WorkerReady | Self::Queue => {
                (Phase::Rendezvous, Go)
            }
            Self::NcclFound { .. } | Self::Pynccl { .. } => (Phase::Nccl, Begin),
            Self::Route(_) => (Phase::Routes, Go),
            Self::Assigned(_) => (Phase::Assigned, End),
            Self::LoadBegin { .. } => (Phase::Load, Begin),
            Self::Progress(p) => match p.counted {
                Counted::Graphs | Counted::Warmup => (Phase::Graphs, Go),
                _ => (Phase::Load, Go),
            },
            Self::DrafterBegin
            | Self::Attention { .. }
            | Self::Checkpoint { .. }
            | Self::Prefetch { .. }
            | Self::PrefetchOff { .. }
            | Self::Downloaded { .. }
            | Self::Experts { .. }
            | Self::WeightsDone { .. } => (Phase::Load, Go),
            Self::ModelDone { .. } => (Phase::Load, End),
            // Its cache is named before anything is compiled.
            Self::CompileStep {
                seconds: None,
                cached: false,
            } => (Phase::Compile, Begin),
            Self::CompileStep { .. } => (Phase::Compile, Go),
            Self::CompileDone { .. } => (Phase::Compile, End),
            Self::FirstPass { .. } | Self::ProfileDone { .. } | Self::MemorySplit { .. } => {
                (Phase::Profile, Go)
            }
            Self::KvMemory { .. } | Self::KvSize { .. } | Self::KvBlocks { .. } => {
                (Phase::Profile, End)
            }
            Self::GraphsBegin => (Phase::Graphs, Begin),
            // Estimated during the profile run, before capture (v0.18+).
            Self::GraphsEstimate { .. } => (Phase::Profile, Go),
            Self::GraphsRegistered { .. } => (Phase::Graphs, Go),
            Self::GraphsDone { .. } => (Phase::Graphs, End),
            Self::EngineReady { .. } => (Phase::Ready, End),
            Self::Listening { .. } | Self::HttpStarting => (Phase::Http, Begin),
            Self::HttpRoute(_) => (Phase::Http, Go),
            Self::HttpUp => (Phase::Http, End),
            Self::Stats(_) => (Phase::Serving, Go),
            Self::ShmWait { .. } => (Phase::Hang, Go),
            Self::Shutdown { .. } => (Phase::Shutdown, Begin),
            Self::Platform(None)
            | Self::Env { .. }
            | Self::StateDump
            | Self::Torch(_)
            | Self::Traceback
            | Self::Fault(_) => return None,
        })
    }

    /// Whether every rank of `version` prints where it stands in the layout (S28).
    #[must_use]
    pub fn all_say_their_place(version: Option<(u16, u16, u16)>) -> bool {
        version.is_some_and(|v| v <= (0, 18, u16::MAX))
    }

    /// Who prints this line in `version`; without a version the reading that accuses nobody.
    #[must_use]
    pub fn printer(&self, version: Option<(u16, u16, u16)>) -> Printer {
        let every_until = |last: (u16, u16, u16), then: Printer| match version {
            Some(v) if v <= last => Printer::EveryRank,
            _ => then,
        };
        match self {
            Self::Version { .. }
            | Self::Model(_)
            | Self::Args(_)
            | Self::Listening { .. }
            | Self::HttpRoute(_)
            | Self::HttpStarting
            | Self::HttpUp
            | Self::Stats(_) => Printer::Server,
            Self::Engine { .. }
            | Self::Leader(_)
            | Self::KvSize { .. }
            | Self::EngineReady { .. } => Printer::Engine,
            // DEBUG, thus mostly absent, up to v0.11.0.
            Self::RankStart(_) => match version {
                Some(v) if v >= (0, 11, 1) => Printer::EveryRank,
                _ => Printer::Anyone,
            },
            Self::Pynccl { .. } => every_until((0, 11, 0), Printer::FirstOfNode),
            Self::Assigned(_) if Self::all_say_their_place(version) => Printer::EveryRank,
            Self::Assigned(_) => Printer::FirstOfNode,
            Self::LoadBegin { .. } => every_until((0, 11, 0), Printer::GlobalFirst),
            Self::WeightsDone { .. }
            | Self::ModelDone { .. }
            | Self::KvMemory { .. }
            | Self::GraphsDone { .. }
            | Self::CompileStep { .. }
            | Self::CompileDone { .. } => every_until((0, 11, 0), Printer::FirstOfNode),
            Self::Progress(p) => match p.counted {
                Counted::Graphs | Counted::Warmup => Printer::OneOfGroup,
                Counted::Shards | Counted::Tensors => Printer::GlobalFirst,
                _ => Printer::Anyone,
            },
            _ => Printer::Anyone,
        }
    }
}
