//! Failure signatures (F01–FA5) and the last line of a Python traceback.

mod around;
mod table;

use super::scan::{Cur, has, text};
use super::{Header, Hit, Outer, Severity, VllmFact};

pub(super) use table::ANCHORS;

/// A failure that a line reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// Exception class, where the line is the end of a traceback.
    pub class: Option<String>,
    /// Level of the record, where it has a header: some faults are harmless as warnings.
    pub level: Option<Severity>,
    /// Global rank of the process, from `[rankN]:`.
    pub rank: Option<u32>,
    /// The message, bounded.
    pub text: String,
}

impl Fault {
    /// Whether the line only repeats or follows from a failure elsewhere (`reference/vllm.md` 9.3).
    #[must_use]
    pub fn is_echo(&self) -> bool {
        match &self.kind {
            FaultKind::GlooPeer { .. }
            | FaultKind::UniqueId { .. }
            | FaultKind::WorkerStart
            | FaultKind::EngineStart { .. }
            | FaultKind::ReadyTimeout
            | FaultKind::EngineDead
            | FaultKind::RpcTimeout { .. }
            | FaultKind::RayGaveUp { .. }
            | FaultKind::RayMethod { .. } => true,
            FaultKind::NcclResult { name } => name == "ncclRemoteError",
            FaultKind::TorchNccl { error, .. } => has(error.as_bytes(), "remote process exited"),
            _ => false,
        }
    }
}

/// What went wrong; the variants carry what the line says about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FaultKind {
    // -- model files, hub --------------------------------------------------------------------------
    /// The hub can't be reached (F01).
    HubUnreachable {
        /// Host.
        host: Option<String>,
    },
    /// Offline and not in the cache (F02).
    NotCached,
    /// Offline, yet something asks the hub (F03).
    OfflineHit {
        /// What it asked for.
        url: Option<String>,
    },
    /// A try that will be repeated (F04).
    HubRetry {
        /// This try and how many there are.
        tries: (u32, u32),
    },
    /// No configuration file where the model should be (F05).
    NoConfig,
    /// A path that does not exist was taken for a hub id (F06).
    BadRepoId {
        /// The path.
        id: Option<String>,
    },
    /// The hub refuses (F07).
    Unauthorised,
    /// No weights in the directory (F08).
    NoWeights {
        /// Directory.
        path: String,
    },
    /// Shards of the index are absent (F09).
    ShardsMissing {
        /// Files as printed.
        files: String,
    },
    /// Weights were left uninitialised (F10): shards are absent.
    WeightsMissing,
    /// A shard is truncated or corrupt (F11).
    ShardCorrupt {
        /// `MetadataIncompleteBuffer`, …
        why: String,
    },
    /// Tokenizer or processor files absent (F12).
    TokenizerMissing {
        /// Path or id.
        path: Option<String>,
    },
    /// No chat template (F13).
    ChatTemplate,
    /// The model needs its own code (F14).
    RemoteCode,
    /// Architecture unknown to this image (F15).
    Architecture,
    /// Names or shapes of weights do not fit (F16).
    WeightsMismatch,
    // -- permissions, disk -------------------------------------------------------------------------
    /// The user has no entry in the password file (F20).
    NoPasswd {
        /// User id.
        uid: u64,
    },
    /// Not readable or writable (F21, F22).
    Permission {
        /// Path.
        path: Option<String>,
        /// The file system is read-only.
        read_only: bool,
    },
    /// No space left (F23).
    DiskFull {
        /// Path.
        path: Option<String>,
    },
    // -- GPU, driver -------------------------------------------------------------------------------
    /// No GPU seen (F30).
    NoGpu,
    /// NVML is absent (F31).
    NvmlMissing,
    /// The driver is older than the image needs (F32).
    DriverOld,
    /// No kernel for this GPU (F33).
    NoKernel,
    /// The data type is not supported here (F34).
    Dtype,
    /// No attention back end fits (F35).
    AttentionBackend,
    /// Hardware trouble (F36).
    Hardware {
        /// Xid, where printed.
        xid: Option<u32>,
    },
    /// Fabric manager is not running (F37).
    FabricManager,
    /// A GPU-sharing interposer failed (F38).
    Interposer,
    // -- memory ------------------------------------------------------------------------------------
    /// Memory taken before start (F40), GiB.
    NotEnoughFree {
        /// `cuda:1`, where printed.
        device: Option<String>,
        /// Free.
        free: f64,
        /// In all.
        total: f64,
        /// Utilisation wanted.
        utilization: f64,
    },
    /// CUDA ran out of memory (F41); the phase decides what to do.
    CudaOom {
        /// Bytes asked for.
        wanted: Option<u64>,
        /// CUDA ordinal.
        gpu: Option<u32>,
        /// Capacity in bytes.
        total: Option<u64>,
        /// Free bytes.
        free: Option<u64>,
    },
    /// Out of memory while weights load (F42).
    LoadOom,
    /// Nothing left for KV cache (F43).
    NoKvBlocks,
    /// One request of full length does not fit (F44, F45).
    KvTooSmall {
        /// `max_model_len`.
        len: Option<u64>,
        /// Tokens that fit, or the estimate of the length that would.
        fits: Option<u64>,
        /// GiB needed.
        need: Option<f64>,
        /// GiB there.
        have: Option<f64>,
    },
    /// Memory changed under the profile run (F46).
    ProfileDisturbed,
    // -- parallel configuration --------------------------------------------------------------------
    /// Heads do not divide by TP (F50).
    Heads {
        /// Attention heads.
        heads: u32,
        /// TP.
        tp: u32,
    },
    /// Another size does not divide (F51).
    Sharding,
    /// More ranks than GPUs (F53).
    WorldSize {
        /// Ranks.
        ranks: u32,
        /// GPUs.
        gpus: u32,
    },
    /// A local rank has no device (F54).
    LocalRank,
    /// Sizes of the layout contradict each other (F55).
    Layout,
    /// Offline data parallel for a dense model (F56).
    OfflineDp,
    /// Tensor and communicator are on different devices.
    DeviceMismatch,
    // -- rendezvous --------------------------------------------------------------------------------
    /// gloo could not connect all pairs (F52).
    GlooMesh {
        /// The tail of the message.
        why: String,
    },
    /// A gloo operation lost its peer (F57).
    GlooPeer {
        /// Peer, where printed.
        peer: Option<String>,
    },
    /// The head can't be reached (F58).
    HeadUnreachable {
        /// Address as printed.
        to: String,
        /// It timed out; else it failed and may be tried again.
        timed_out: bool,
    },
    /// Not all ranks came (F59).
    NotAllJoined {
        /// Came.
        have: u32,
        /// Awaited.
        want: u32,
        /// Seconds waited.
        seconds: u64,
    },
    /// A key of the store never came (F5A).
    StoreWait {
        /// Milliseconds.
        ms: u64,
        /// Key.
        key: String,
    },
    /// A name does not resolve (F5B).
    NameResolution {
        /// Name, where printed.
        name: Option<String>,
    },
    /// The own address is unknown (F5D).
    IpUnknown,
    /// `HOST_IP` is set but ignored (F5E).
    HostIpIgnored,
    /// Several nodes claim one address (F5F).
    HostIpShared {
        /// Addresses as printed.
        ips: Option<String>,
    },
    /// NCCL's unique id did not arrive (F5G).
    UniqueId {
        /// The rank that waited.
        rank: u32,
        /// The rank that should have sent it.
        root: u32,
    },
    // -- NCCL through torch and pynccl -------------------------------------------------------------
    /// Shared memory too small or not there (F60).
    Shm {
        /// The file exists elsewhere: not a matter of size.
        attaching: bool,
    },
    /// pynccl or torch report an NCCL error (F61, F62).
    TorchNccl {
        /// `unhandled system error`, …
        error: String,
        /// NCCL version, where printed.
        version: Option<String>,
    },
    /// NCCL's result with its sentence (F63).
    NcclResult {
        /// `ncclSystemError`, …
        name: String,
    },
    /// `Last error:`; the text may stand on the next line.
    LastError {
        /// Last warning of this process's NCCL.
        what: Option<String>,
    },
    /// libnccl could not be loaded (F69).
    NcclLibrary {
        /// File.
        file: String,
    },
    /// A native crash (F6G).
    Crash {
        /// Signal name or number, or Python's words.
        what: String,
    },
    // -- graphs, kernels ---------------------------------------------------------------------------
    /// Custom all-reduce failed (F70).
    CustomAllReduce {
        /// CUDA's words.
        error: String,
    },
    /// Illegal memory access (F71).
    IllegalAccess,
    /// Capture failed (F73).
    Capture,
    /// Compiler or JIT failed (F75).
    Compiler,
    // -- executor, engine, ports -------------------------------------------------------------------
    /// A worker process died (F80).
    WorkerDied {
        /// `VllmWorker-3`.
        name: String,
        /// Its global rank, where the name says.
        rank: Option<u32>,
        /// Its pid, where printed.
        pid: Option<u64>,
        /// Exit code; negative is a signal.
        code: Option<i32>,
    },
    /// A worker failed to start (F81).
    WorkerStart,
    /// The engine failed to start (F82).
    EngineStart {
        /// Processes with exit codes, as printed.
        failed: Option<String>,
    },
    /// Engines were not ready in time (F83).
    ReadyTimeout,
    /// No answer from the head of a data-parallel deployment (F84).
    DpHandshake {
        /// Minutes waited.
        minutes: u32,
    },
    /// Data-parallel roles contradict each other (F85).
    DpRoles,
    /// A port is taken (F86).
    PortInUse,
    /// `VLLM_PORT` holds a URI (F87).
    PortVariable {
        /// Value.
        value: String,
    },
    /// A call to the workers timed out (S81).
    RpcTimeout {
        /// Method.
        method: String,
    },
    /// The engine is dead (S82, S83).
    EngineDead,
    // -- Ray ---------------------------------------------------------------------------------------
    /// No placement group in time (F90).
    RayGaveUp {
        /// GPUs wanted.
        gpus: Option<u32>,
    },
    /// The driver's node has no GPU (F91).
    RayDriverNoGpu,
    /// A Ray worker or actor died (F92).
    RayDied,
    /// Versions of Ray or Python differ (F93).
    RayVersions,
    /// A method failed in a worker (F94).
    RayMethod {
        /// Method.
        method: Option<String>,
    },
    // -- KV transfer -------------------------------------------------------------------------------
    /// KV transfer between prefill and decode failed (FA0–FA5).
    KvTransfer,
    // -- anything else -----------------------------------------------------------------------------
    /// The last line of a traceback that fits nothing above (A10).
    Exception,
}

fn fault(h: &Hit<'_>, kind: FaultKind) -> Option<VllmFact> {
    make(h.msg, h.head().as_ref(), h.outer, kind)
}

fn make(msg: &[u8], head: Option<&Header<'_>>, outer: &Outer, kind: FaultKind) -> Option<VllmFact> {
    let level = head.map(|h| h.level);
    // Records below a warning report no failure, apart from the platform probe of which a GPU-less pod
    // says nothing else.
    if level.is_some_and(|l| l < Severity::Warning) && kind != FaultKind::NvmlMissing {
        return None;
    }
    Some(VllmFact::Fault(Box::new(Fault {
        kind,
        class: exception(msg).map(|(class, _)| text(class)),
        level,
        rank: outer.rank.or(head.and_then(|h| h.rank)),
        text: text(msg),
    })))
}

/// Class and text of the last line of a traceback: `torch.OutOfMemoryError: CUDA out of …`.
fn exception(msg: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut c = Cur::new(msg);
    let class = c.while_(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    if class.len() > 120 || !class.first()?.is_ascii_alphabetic() {
        return None;
    }
    let last = class.rsplit(|b| *b == b'.').next()?;
    let ends = ["Error", "Exception", "Interrupt", "IsEnabled", "NotFound"]
        .iter()
        .any(|e| last.ends_with(e.as_bytes()));
    if !ends {
        return None;
    }
    if c.rest.is_empty() {
        return Some((class, b""));
    }
    c.skip(":")?;
    (c.rest.is_empty() || c.rest.starts_with(b" ")).then_some((class, c.rest.trim_ascii()))
}

/// Whether a line looks like the last one of a traceback.
pub(super) fn ends_traceback(msg: &[u8]) -> bool {
    exception(msg).is_some()
}

/// A traceback's last line that no anchor knows.
pub(super) fn exception_line(
    msg: &[u8],
    head: Option<&Header<'_>>,
    outer: &Outer,
) -> Option<VllmFact> {
    let (class, _) = exception(msg)?;
    // Without a dot, a bare word ending in "Error" and nothing else is prose.
    if class.len() == msg.len() && !matches!(class, b"KeyboardInterrupt" | b"AssertionError") {
        return None;
    }
    make(msg, head, outer, FaultKind::Exception)
}
