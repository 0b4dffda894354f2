//! The vocabulary: what one log line can say.
//!
//! Glossary, one word per thing: *rank* (number of a process inside one communicator), *global rank*
//! (vLLM's or torch's number over the whole job), *communicator*, *channel*, *ring*, *tree*, *transport*
//! (P2P, SHM, NET, CollNet), *host* (what NCCL prints: the pod's name, or the node's with host network).
//!
//! Facts are owned and small: those that come by the million (`Channel`, `Coll`) hold only numbers.

/// A time in nanoseconds since the Unix epoch.
pub type Nanos = i64;

/// When a line was written, as far as the line itself proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Nanoseconds since the Unix epoch; for stamps without zone or year a best reading (see `exact`).
    pub ns: Nanos,
    /// True when the stamp carried date and zone (kubelet, CRI); false for local or yearless stamps,
    /// which order lines of one process but are never printed as RFC 3339.
    pub exact: bool,
}

/// Severity word of an NCCL line (`src/debug.cc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `NCCL INFO`
    Info,
    /// `NCCL WARN`
    Warn,
    /// `NCCL TRACE`
    Trace,
    /// `NCCL CALL`
    Call,
    /// The bare `NCCL version …` line, without any head.
    Bare,
}

/// How a P2P edge moves data (`src/transport/p2p.cc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum P2pKind {
    /// Legacy CUDA IPC handles.
    Ipc,
    /// The cuMem API.
    Cumem,
    /// Multi-node NVLink; a label of the whole communicator, printed inside nodes too.
    Mnnvl,
    /// Both ranks in one process.
    Direct,
    /// Relay through a third GPU's rank.
    Indirect(u32),
    /// Two ranks on one GPU (up to 2.7.8).
    CommonDevice,
}

/// Name of a network plugin as NCCL prints it, at most 30 bytes, cut beyond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetName {
    len: u8,
    bytes: [u8; 30],
}

impl NetName {
    /// Keeps the first 30 bytes.
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; 30];
        let len = name.len().min(30);
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), name.get(..len)) {
            to.copy_from_slice(from);
        }
        Self {
            len: u8::try_from(len).unwrap_or(30),
            bytes,
        }
    }

    /// The name as text; bytes that are not UTF-8 end it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let b = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        match std::str::from_utf8(b) {
            Ok(s) => s,
            Err(e) => b
                .get(..e.valid_up_to())
                .and_then(|b| std::str::from_utf8(b).ok())
                .unwrap_or(""),
        }
    }
}

impl std::fmt::Debug for NetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// The text after `via` of a connection line, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// GPU to GPU inside a host (or over multi-node NVLink).
    P2p {
        /// Mechanism.
        kind: P2pKind,
        /// `/read`: the receiver pulls.
        read: bool,
        /// `/CE`: copy engine.
        ce: bool,
    },
    /// Shared host memory.
    Shm(ShmForm),
    /// A network plugin.
    Net {
        /// Plugin name: `IB`, `Socket`, `AWS Libfabric`, …
        name: NetName,
        /// Plugin device index (virtual devices may exceed the listed ones).
        dev: u16,
        /// PXN: the rank that owns the NIC proxy (send side only).
        pxn: Option<u32>,
        /// `/GDRDMA` on this side.
        gdr: bool,
        /// `/GDRDMA(PCI)`.
        pci: bool,
        /// `/Shared` buffers.
        shared: bool,
    },
    /// A transport that no version read for this parser has: its word, kept as it is.
    Other(NetName),
}

/// Spelling of the SHM transport, which is part of what the report prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShmForm {
    /// `direct shared memory` (up to 2.12.12).
    Legacy,
    /// `SHM/direct` (2.30.7).
    Direct,
    /// `SHM/a/b` with `true` for `CE`: (send side, receive side).
    Sides(bool, bool),
}

/// Which end of a connection printed the line; P2P and SHM lines name no direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dir {
    /// No direction printed: the sender speaks.
    None,
    /// `[send]`
    Send,
    /// `[receive]`
    Receive,
}

/// The bracketed identity of a GPU in a connection line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuId {
    /// The digits read as hexadecimal; meaningless when `digits` is 0.
    pub hex: u64,
    /// How many digits were printed; 0 when no bracket was there.
    pub digits: u8,
    /// Whether all digits were decimal ones.
    pub decimal: bool,
}

impl GpuId {
    /// No bracket printed.
    pub const NONE: Self = Self {
        hex: 0,
        digits: 0,
        decimal: false,
    };

    /// The NVML index, if the text is short and decimal (2.18.3+; trap 2 of the log grammar).
    #[must_use]
    pub fn nvml(self) -> Option<u32> {
        if self.digits == 0 || self.digits > 2 || !self.decimal {
            return None;
        }
        u32::try_from((self.hex >> 4) * 10 + (self.hex & 0xf)).ok()
    }
}

/// `Channel CC{/K} : SRC[ID] -> DST[ID]{ [send]| [receive]} via …`; about 72 bytes, no heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// Channel number.
    pub channel: u16,
    /// Connection index: 0 collectives, 1 send/recv; absent for SHM and old versions.
    pub index: Option<u8>,
    /// Sending rank inside the communicator.
    pub from: u32,
    /// Its GPU.
    pub from_gpu: GpuId,
    /// Receiving rank inside the communicator.
    pub to: u32,
    /// Its GPU.
    pub to_gpu: GpuId,
    /// Who printed it.
    pub dir: Dir,
    /// Transport.
    pub via: Via,
    /// Communicator pointer at the end of the line (RCCL prints it).
    pub comm: Option<u64>,
}

/// `CollNet CC/K : R [send|receive] via COLLNET/name/dev…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollNet {
    /// Channel number.
    pub channel: u16,
    /// Connection index.
    pub index: Option<u8>,
    /// The rank that speaks.
    pub rank: u32,
    /// Its direction.
    pub dir: Dir,
    /// Plugin name.
    pub name: NetName,
    /// Plugin device.
    pub dev: u16,
    /// `/GDRDMA`.
    pub gdr: bool,
    /// Communicator pointer at the end of the line (RCCL).
    pub comm: Option<u64>,
}

/// Neighbours of one rank in one tree; `None` is printed as `-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Channel number.
    pub channel: u16,
    /// Parent; `None` marks the root.
    pub up: Option<u32>,
    /// Children, at most three.
    pub down: Vec<u32>,
}

/// What a line about a communicator's life reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// `Init START`
    InitStart,
    /// `Init COMPLETE`
    InitComplete,
    /// `Destroy COMPLETE`
    Destroyed,
    /// `Abort START`
    AbortStart,
    /// `Abort COMPLETE`
    Aborted,
    /// `Revoke START`, `CommRevokeAsync START`
    RevokeStart,
    /// `Revoke COMPLETE`, `CommRevokeAsync END`
    Revoked,
}

/// Function that made a communicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InitFunc {
    /// None printed (up to 2.20.5).
    Unnamed,
    /// `ncclCommInitRank`, `…Config`, `…Scalable`, `ncclCommInitAll` and RCCL's `_impl` forms.
    Init,
    /// `ncclCommSplit`
    Split,
    /// `ncclCommShrink`
    Shrink,
    /// `ncclCommGrow`
    Grow,
}

/// Parentage of a split, shrunk or grown communicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Pointer of the parent in the same process; `None` for `(nil)`.
    pub comm: Option<u64>,
    /// `splitCount` (2.24.3–2.28.9) or `childCount` (2.29.2+); absent before.
    pub count: Option<u32>,
    /// Colour.
    pub color: i64,
    /// Key.
    pub key: i64,
}

/// `comm %p rank %d nranks %d cudaDev %d … - WHAT`, every form of `src/init.cc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitLine {
    /// What happened.
    pub life: Life,
    /// Who made it.
    pub func: InitFunc,
    /// Pointer; `None` where a write-up shortened it to `0x...`.
    pub comm: Option<u64>,
    /// Rank inside the communicator.
    pub rank: u32,
    /// Size; 0 where the line names neither rank nor size (`CommRevokeAsync END`).
    pub nranks: u32,
    /// CUDA ordinal.
    pub cuda_dev: Option<u32>,
    /// NVML index (2.18.3+).
    pub nvml_dev: Option<u32>,
    /// PCI bus id as NCCL prints it (lower hex, no separators).
    pub bus_id: Option<u64>,
    /// Hash of the unique id (2.16.2+).
    pub comm_id: Option<u64>,
    /// Set for splits, shrinks, grows.
    pub parent: Option<Parent>,
    /// Result code (`Revoke COMPLETE, result %d`).
    pub result: Option<i32>,
}

/// Which milestone a `Connected …` line reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connected {
    /// `Connected all rings`
    Rings,
    /// `Connected all trees`
    Trees,
    /// `Connected binomial trees` (PAT)
    Binomial,
    /// `Connected NVLS tree`
    Nvls,
    /// CollNet milestones
    CollNet,
}

/// A network device listed by `NET/IB : Using …` or `NET/Socket : Using …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// Index in brackets.
    pub index: u16,
    /// `mlx5_0:1`, `eth0:10.42.0.17<0>`.
    pub name: String,
    /// `IB`, `RoCE`; empty for sockets.
    pub link: String,
}

/// What one line says. Numbers only where lines come by the million; text is owned and rare.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    // -- connections ----------------------------------------------------------------------------
    /// A connection line.
    Channel(Channel),
    /// A CollNet connection line.
    CollNet(CollNet),
    /// Ring order, printed by rank 0 (`src/graph/rings.cc`).
    Ring {
        /// Ring number.
        channel: u16,
        /// Number of rings, absent in the oldest form.
        of: Option<u16>,
        /// Ranks in order (those that were printed).
        order: Box<[u32]>,
        /// Cut by NCCL's line limit (`...`, or 20 ranks up to 2.22.3).
        cut: bool,
        /// RCCL's trailing pointer.
        comm: Option<u64>,
    },
    /// `Trees [c] d0/d1/d2->rank->up …`, or one `Tree c : …` line of GRAPH.
    Trees {
        /// The rank that prints.
        rank: u32,
        /// Its neighbours per channel.
        trees: Box<[Tree]>,
        /// RCCL's trailing pointer.
        comm: Option<u64>,
    },
    /// `Ring c : prev -> rank -> next` (GRAPH).
    RingNeighbours {
        /// Ring number.
        channel: u16,
        /// Previous rank.
        prev: u32,
        /// The rank that prints.
        rank: u32,
        /// Next rank.
        next: u32,
    },
    /// A `Connected …` milestone.
    Connected {
        /// Which.
        what: Connected,
        /// `GDR n` of 2.24.3+.
        gdr: Option<bool>,
        /// RCCL's trailing pointer.
        comm: Option<u64>,
    },
    /// `N coll channels, …`.
    ChannelCounts {
        /// Collective channels.
        coll: u32,
        /// NVLS channels (2.17.1+).
        nvls: Option<u32>,
        /// Send/recv channels.
        p2p: u32,
        /// Send/recv channels per peer.
        p2p_per_peer: u32,
    },
    /// `P2P Chunksize set to N`, bytes.
    P2pChunk(u64),
    /// `threadThresholds …`, `Threads per block …`: tuning done.
    Tuned,
    // -- communicators --------------------------------------------------------------------------
    /// A communicator's life.
    Init(Box<InitLine>),
    /// `comm … rank … nRanks … nNodes … localRanks … localRank … MNNVL …` (2.20.3+).
    Placement {
        /// Pointer.
        comm: u64,
        /// Rank.
        rank: u32,
        /// Size.
        nranks: u32,
        /// Number of nodes.
        nodes: u32,
        /// Ranks on this node.
        local_ranks: u32,
        /// Index on this node.
        local_rank: u32,
        /// Multi-node NVLink.
        mnnvl: bool,
    },
    /// `Init timings …` total in seconds.
    InitTimings {
        /// Rank.
        rank: u32,
        /// Size.
        nranks: u32,
        /// Total seconds.
        total: f64,
    },
    /// `Bootstrap timings total …` in seconds: the rendezvous is done (2.23.4+).
    BootstrapTimings {
        /// Total seconds.
        total: f64,
    },
    /// `Rank %d has color with NCCL_SPLIT_NOCOLOR …`: this rank takes part in a split and gets nothing.
    SplitNoColor {
        /// Rank in the parent.
        rank: u32,
    },
    // -- process-wide ---------------------------------------------------------------------------
    /// `NCCL version …` with head, or bare; also RCCL's.
    Version {
        /// `2.27.7`.
        nccl: String,
        /// `12.8` of `+cuda12.8`.
        cuda: Option<String>,
        /// RCCL rather than NCCL.
        rccl: bool,
    },
    /// `cudaDriverVersion 12080`.
    CudaDriver(u32),
    /// `Bootstrap: Using eth0:10.42.0.17<0>`.
    Bootstrap {
        /// Interface, or the NET device of an out-of-band bootstrap.
        interface: String,
        /// Address without port; empty for out-of-band.
        address: String,
    },
    /// `NET/… : Using [0]…`: devices of a network, `plugin` = `IB`, `Socket`.
    NetDevices {
        /// `IB` or `Socket`.
        plugin: String,
        /// Devices listed.
        devices: Vec<NetDevice>,
    },
    /// `NET/IB : No device found.`
    NoIbDevice,
    /// `NET/IB : Made virtual device [n] name=…`.
    VirtualDevice {
        /// Index.
        index: u16,
        /// Name.
        name: String,
    },
    /// `Using network X`: the authoritative choice, per rank and communicator.
    UsingNetwork(String),
    /// A plugin line that says something was loaded, chosen or refused.
    Plugin(String),
    /// `NCCL_X set by environment to V`.
    Env {
        /// Variable.
        name: String,
        /// Value without the trailing dot of numbers.
        value: String,
    },
    /// GPUDirect RDMA enabled or disabled for a HCA or a GPU/HCA pair.
    Gdr {
        /// Enabled or disabled.
        enabled: bool,
        /// Distance of the pair, when printed.
        distance: Option<u32>,
        /// Limit of the pair, when printed.
        limit: Option<u32>,
    },
    /// `P2P is disabled between (NVLINK) connected GPUs a and b`.
    P2pDisabled {
        /// Rank or device a.
        a: u32,
        /// Rank or device b.
        b: u32,
        /// NVLink stands between them.
        nvlink: bool,
    },
    /// NVLS multicast availability or use.
    Nvls {
        /// Usable.
        available: bool,
    },
    // -- work -----------------------------------------------------------------------------------
    /// A collective call (COLL).
    Coll {
        /// Operation.
        op: CollOp,
        /// `opCount`, hexadecimal in the log.
        op_count: u64,
        /// Elements.
        count: u64,
        /// NCCL datatype number.
        datatype: u8,
        /// NCCL reduction number.
        redop: u8,
        /// Root, or the peer of Send/Recv.
        root: i32,
        /// Communicator pointer.
        comm: u64,
        /// Size of the communicator.
        nranks: u32,
    },
    // -- trouble --------------------------------------------------------------------------------
    /// A WARN, or an INFO that reports trouble; `text` is the message.
    Warn {
        /// What it is about, when known.
        kind: WarnKind,
        /// Source file and line as printed.
        file: Option<String>,
        /// The message, cleaned.
        text: String,
    },
    /// A connect attempt that is being retried (INFO); trouble only when it never ends.
    ConnectRetry {
        /// Peer as printed, when named.
        peer: Option<String>,
        /// The errno text.
        error: String,
    },
    /// A line of an error back-trace: `file:line -> code`.
    Backtrace {
        /// NCCL result code.
        code: i32,
    },
    /// A vLLM, torch, Ray or launcher line (`parse::vllm`).
    Vllm(super::vllm::VllmFact),
}

/// Collective and point-to-point operations NCCL logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are NCCL's own")]
pub enum CollOp {
    AllReduce,
    Broadcast,
    Reduce,
    AllGather,
    ReduceScatter,
    Send,
    Recv,
    AlltoAll,
    Gather,
    Scatter,
    PutSignal,
    Signal,
    WaitSignal,
}

impl CollOp {
    /// All of them, in their order.
    pub const ALL: [Self; 13] = [
        Self::AllReduce,
        Self::Broadcast,
        Self::Reduce,
        Self::AllGather,
        Self::ReduceScatter,
        Self::Send,
        Self::Recv,
        Self::AlltoAll,
        Self::Gather,
        Self::Scatter,
        Self::PutSignal,
        Self::Signal,
        Self::WaitSignal,
    ];
}

/// What a warning is about; the table of `reference/nccl-logs.md` section 7.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarnKind {
    /// A connect to a peer that timed out, was refused beyond its retries, or could not be routed.
    Connect {
        /// Peer as printed (`10.42.1.9<41873>`, a name, `ip:port` in write-ups).
        peer: Option<String>,
        /// errno text or the words of the limit that was exceeded.
        error: String,
    },
    /// A peer closed its connection, or a receive or send to it failed: a consequence.
    PeerClosed {
        /// Peer as printed.
        peer: Option<String>,
    },
    /// `Mismatched NCCL version detected : rank a version v rank b version w`.
    VersionMismatch {
        /// Rank and version code of one side, e.g. 22707.
        a: (u32, u32),
        /// Rank and version code of the other.
        b: (u32, u32),
    },
    /// No socket interface found.
    NoInterface,
    /// Shared memory could not be created or extended; `no_space` for errno 28.
    Shm {
        /// No space left on device.
        no_space: bool,
    },
    /// Pinned memory or verbs object refused (`ibv_reg_mr … Cannot allocate memory`).
    Memlock,
    /// Two ranks on one GPU.
    DuplicateGpu,
    /// An RDMA completion with an error status.
    IbCompletion {
        /// Verbs status.
        status: u32,
        /// Peer as printed.
        peer: Option<String>,
        /// HCA, when printed.
        hca: Option<String>,
    },
    /// Asynchronous event of an RDMA device.
    IbAsync,
    /// `ibv_modify_qp` and other verbs calls that failed.
    IbVerbs,
    /// Ranks called different sizes or types.
    CollectiveMismatch,
    /// `peer mapping resources exhausted`.
    PeerMapping,
    /// A CUDA failure with its text.
    Cuda {
        /// The driver's text.
        text: String,
    },
    /// P2P disabled between GPUs that are connected.
    P2pDisabled,
    /// No transport at all between two ranks.
    NoTransport,
    /// NVLink SHARP set-up refused.
    NvlsFailed,
    /// Multi-node NVLink without a working IMEX domain.
    Mnnvl,
    /// Bootstrap root disagreements (world size, rank taken twice).
    BootstrapMismatch,
    /// The network named by `NCCL_NET` is not there, or no plugin came up.
    NetworkNotFound,
    /// libnccl or the CUDA driver library could not be loaded.
    Library,
    /// Anything else.
    Other,
}
