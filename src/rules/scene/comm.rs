//! Communicators: their ranks, and what connects them.

use super::{LineRef, NcclStep};
use crate::parse::At;
use crate::parse::fact::{Life, Via};

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
    /// Index into [`super::Scene::processes`].
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
