//! Processes and communicators of the report.

use serde::Serialize;

use super::{Env, Names, stamp, verdict};
use crate::rules::scene::{self, CommState, NcclStep, Stage};

/// A process.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct ProcessEntry<'a> {
    pub source: &'a str,
    pub sources: Vec<&'a str>,
    pub first_line: u64,
    pub incarnation: u32,
    pub pod: Option<&'a str>,
    pub namespace: Option<&'a str>,
    pub container: Option<&'a str>,
    pub node: Option<&'a str>,
    pub ip: Option<&'a str>,
    pub host: Option<&'a str>,
    pub pid: Option<u64>,
    pub alive: Option<bool>,
    pub nccl_versions: &'a [String],
    pub cuda_version: Option<&'a str>,
    pub cuda_driver: Option<&'a str>,
    pub network: Option<&'a str>,
    pub bootstrap_interface: Option<&'a str>,
    pub bootstrap_address: Option<&'a str>,
    pub env: Env<'a>,
    pub vllm_label: Option<&'a str>,
    pub vllm_version: Option<&'a str>,
    pub global_rank: Option<u32>,
    pub local_rank: Option<u32>,
    pub dp: Option<u32>,
    pub pp: Option<u32>,
    pub tp: Option<u32>,
    pub ep: Option<u32>,
    pub pcp: Option<u32>,
    pub dcp: Option<u32>,
    pub nccl_step: Option<&'static str>,
    pub stage: Option<&'static str>,
    pub stage_since: Option<String>,
    pub stage_progress: Option<ProgressEntry>,
}

/// What Ray counted of workers without naming them.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "said, of them without a name, of so many workers"
)]
pub struct FoldedEntry<'a> {
    pub stage: &'static str,
    pub done: &'static str,
    pub said: u32,
    pub unnamed: u32,
    pub of: Option<u32>,
    pub line: LineEntry<'a>,
}

/// A run that is over.
#[derive(Debug, Serialize)]
#[allow(
    missing_docs,
    reason = "how many runs ago, what it came to, where the next one begins"
)]
pub struct FormerEntry<'a> {
    pub runs_ago: u32,
    pub verdict: &'static str,
    pub summary: &'a str,
    pub stage: Option<&'static str>,
    pub last_stamp: Option<String>,
    pub processes: usize,
    pub communicators: usize,
    pub next: LineEntry<'a>,
}

/// Progress inside a stage.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct ProgressEntry {
    pub done: u64,
    pub total: u64,
    pub unit: &'static str,
}

/// A communicator.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct CommunicatorEntry<'a> {
    pub key: &'a str,
    pub comm_id: Option<&'a str>,
    pub parent: Option<&'a str>,
    pub nranks: u32,
    pub nccl_version: Option<&'a str>,
    pub group: Option<&'a str>,
    pub state: &'static str,
    pub unseen_ranks: &'a [u32],
    pub unseen_count: u32,
    pub missing_ranks: Option<&'a [u32]>,
    pub incomplete_ranks: &'a [u32],
    pub ranks: Vec<RankEntry<'a>>,
    pub edges: Vec<EdgeEntry<'a>>,
    pub rings: Vec<RingEntry<'a>>,
    pub trees: Vec<TreeEntry<'a>>,
    pub channel_counts: Option<ChannelCounts>,
    pub p2p_chunk_bytes: Option<u64>,
    /// Seconds, to the millisecond.
    pub init_seconds: Option<f64>,
}

/// A rank of a communicator.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct RankEntry<'a> {
    pub rank: u32,
    pub source: &'a str,
    pub host: Option<&'a str>,
    pub pid: Option<u64>,
    pub cuda_dev: Option<u32>,
    pub nvml_dev: Option<u32>,
    pub bus_id: Option<&'a str>,
    pub state: &'static str,
}

/// A connection.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct EdgeEntry<'a> {
    pub from: Option<u32>,
    pub to: Option<u32>,
    pub kind: Option<&'static str>,
    pub transport: &'a str,
    pub family: Option<&'static str>,
    pub network: Option<&'a str>,
    pub gdr: Option<bool>,
    pub channels: &'a [u16],
    pub same_host: Option<bool>,
    pub attribution: &'static str,
    pub paths: Vec<PathEntry<'a>>,
    pub line: LineEntry<'a>,
}

/// A pair of network sides.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct PathEntry<'a> {
    pub channels: &'a [u16],
    pub send: Option<SendSide>,
    pub receive: Option<ReceiveSide>,
}

/// The sender's side.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct SendSide {
    pub device: u16,
    pub gdr: bool,
    pub pxn_rank: Option<u32>,
    pub shared: bool,
}

/// The receiver's side.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct ReceiveSide {
    pub device: u16,
    pub gdr: bool,
    pub shared: bool,
}

/// Where a line stands.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct LineEntry<'a> {
    pub source: &'a str,
    pub number: u64,
    pub at: Option<String>,
}

/// A ring.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct RingEntry<'a> {
    pub channel: u16,
    pub order: &'a [u32],
    pub complete: bool,
}

/// A rank's place in a tree.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct TreeEntry<'a> {
    pub channel: u16,
    pub rank: u32,
    pub up: Option<u32>,
    pub down: &'a [u32],
}

/// Channel counts.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct ChannelCounts {
    pub coll: u32,
    pub nvls: Option<u32>,
    pub p2p: u32,
    pub p2p_per_peer: u32,
}

/// A vLLM group.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct GroupEntry<'a> {
    pub name: &'a str,
    pub kind: &'static str,
    pub global_ranks: &'a [u32],
    pub communicator: Option<&'a str>,
    pub routes: Vec<RouteEntry<'a>>,
    /// Why `routes` is empty: the condition that is not known.
    pub routes_open: Option<&'a str>,
}

/// The way of an all-reduce up to a size.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct RouteEntry<'a> {
    pub max_bytes: Option<u64>,
    pub path: &'static str,
    pub because: &'a str,
}

pub(super) fn group(g: &scene::GroupView) -> GroupEntry<'_> {
    GroupEntry {
        name: &g.name,
        kind: g.kind,
        global_ranks: &g.global_ranks,
        communicator: g.communicator.as_deref(),
        routes: g
            .routes
            .iter()
            .map(|r| RouteEntry {
                max_bytes: r.max_bytes,
                path: r.path,
                because: &r.because,
            })
            .collect(),
        routes_open: g.routes_open.as_deref(),
    }
}

impl<'a> Names<'a> {
    pub(super) fn former(&self, f: &'a scene::Former) -> FormerEntry<'a> {
        FormerEntry {
            runs_ago: f.ago,
            verdict: verdict(f.verdict),
            summary: &f.summary,
            stage: f.stage.map(stage),
            last_stamp: stamp(f.last_at),
            processes: f.processes.len(),
            communicators: f.communicators.len(),
            next: self.line(&f.next),
        }
    }

    pub(super) fn folded(&self, f: &'a scene::Folded) -> FoldedEntry<'a> {
        FoldedEntry {
            stage: stage(f.stage),
            done: f.done,
            said: f.said,
            unnamed: f.unnamed,
            of: f.of,
            line: self.line(&f.line),
        }
    }

    pub(super) fn process(&self, p: &'a scene::ProcessView) -> ProcessEntry<'a> {
        let (source, first_line) = self.stands(p.source, p.first_line);
        ProcessEntry {
            source,
            sources: p.sources.iter().flat_map(|&s| self.0.files(s)).collect(),
            first_line,
            incarnation: p.incarnation,
            pod: p.pod.as_deref(),
            namespace: p.namespace.as_deref(),
            container: p.container.as_deref(),
            node: p.node.as_deref(),
            ip: p.ip.as_deref(),
            host: p.host.as_deref(),
            pid: p.pid,
            alive: p.alive,
            nccl_versions: &p.nccl_versions,
            cuda_version: p.cuda_version.as_deref(),
            cuda_driver: p.cuda_driver.as_deref(),
            network: p.network.as_deref(),
            bootstrap_interface: p.bootstrap_interface.as_deref(),
            bootstrap_address: p.bootstrap_address.as_deref(),
            env: p
                .env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            vllm_label: p.vllm_label.as_deref(),
            vllm_version: p.vllm_version.as_deref(),
            global_rank: p.global_rank,
            local_rank: p.local_rank,
            dp: p.dp,
            pp: p.pp,
            tp: p.tp,
            ep: p.ep,
            pcp: p.pcp,
            dcp: p.dcp,
            nccl_step: p.nccl_step.map(nccl_step),
            stage: p.stage.map(stage),
            stage_since: stamp(p.stage_since),
            stage_progress: p.progress.as_ref().map(|progress| ProgressEntry {
                done: progress.done,
                total: progress.total,
                unit: progress.unit,
            }),
        }
    }

    pub(super) fn communicator(&self, c: &'a scene::Communicator) -> CommunicatorEntry<'a> {
        CommunicatorEntry {
            key: &c.key,
            comm_id: c.comm_id.as_deref(),
            parent: c.parent.as_deref(),
            nranks: c.nranks,
            nccl_version: c.nccl_version.as_deref(),
            group: c.group.as_deref(),
            state: comm_state(c.state),
            unseen_ranks: &c.unseen_ranks,
            unseen_count: c.unseen_count,
            missing_ranks: c.missing_ranks.as_deref(),
            incomplete_ranks: &c.incomplete_ranks,
            ranks: c.ranks.iter().map(|m| self.rank(m)).collect(),
            edges: c.edges.iter().map(|e| self.edge(e)).collect(),
            rings: c.rings.iter().map(ring).collect(),
            trees: c.trees.iter().map(tree).collect(),
            channel_counts: c
                .channel_counts
                .map(|(coll, nvls, p2p, p2p_per_peer)| ChannelCounts {
                    coll,
                    nvls,
                    p2p,
                    p2p_per_peer,
                }),
            p2p_chunk_bytes: c.p2p_chunk_bytes,
            init_seconds: c
                .init_seconds
                .filter(|s| s.is_finite())
                .map(|s| (s * 1e3).round() / 1e3),
        }
    }

    fn rank(&self, m: &'a scene::Member) -> RankEntry<'a> {
        let process = self.0.processes.get(m.process as usize);
        RankEntry {
            rank: m.rank,
            source: process.map_or("", |p| self.stands(p.source, p.first_line).0),
            host: process.and_then(|p| p.host.as_deref()),
            pid: process.and_then(|p| p.pid),
            cuda_dev: m.cuda_dev,
            nvml_dev: m.nvml_dev,
            bus_id: m.bus_id.as_deref(),
            state: match m.state {
                CommState::Starting => "started",
                CommState::Revoked => "revoked",
                other => comm_state(other),
            },
        }
    }

    fn edge(&self, e: &'a scene::Edge) -> EdgeEntry<'a> {
        EdgeEntry {
            from: e.from,
            to: e.to,
            kind: e.kind.map(kind),
            transport: &e.transport,
            family: family(e.family),
            network: e.network.as_deref(),
            gdr: e.gdr,
            channels: &e.channels,
            same_host: e.same_host,
            attribution: match e.attribution {
                scene::Attribution::Exact => "exact",
                scene::Attribution::Inferred => "inferred",
            },
            paths: e.paths.iter().map(path).collect(),
            line: self.line(&e.line),
        }
    }
}

fn path(p: &scene::Path) -> PathEntry<'_> {
    PathEntry {
        channels: &p.channels,
        send: p.send.map(|s| SendSide {
            device: s.device,
            gdr: s.gdr,
            pxn_rank: s.pxn_rank,
            shared: s.shared,
        }),
        receive: p.receive.map(|s| ReceiveSide {
            device: s.device,
            gdr: s.gdr,
            shared: s.shared,
        }),
    }
}

fn ring(r: &scene::Ring) -> RingEntry<'_> {
    RingEntry {
        channel: r.channel,
        order: &r.order,
        complete: r.complete,
    }
}

fn tree(t: &scene::TreeView) -> TreeEntry<'_> {
    TreeEntry {
        channel: t.channel,
        rank: t.rank,
        up: t.up,
        down: &t.down,
    }
}

fn kind(k: scene::EdgeKind) -> &'static str {
    use scene::EdgeKind as K;
    match k {
        K::Coll => "coll",
        K::SendRecv => "sendrecv",
        K::CollNet => "collnet",
    }
}

/// The contract's word; none for a transport that it doesn't name, which `transport` keeps as printed.
pub(super) fn family(f: scene::Family) -> Option<&'static str> {
    use scene::Family as F;
    match f {
        F::P2p => Some("p2p"),
        F::Shm => Some("shm"),
        F::Net => Some("net"),
        F::CollNet => Some("collnet"),
        F::Unknown => None,
    }
}

/// A revoked communicator can't be used any more: the contract's communicator states call that aborted.
pub(super) fn comm_state(s: CommState) -> &'static str {
    match s {
        CommState::Starting => "starting",
        CommState::Complete => "complete",
        CommState::Destroyed => "destroyed",
        CommState::Revoked | CommState::Aborted => "aborted",
        CommState::Failed => "failed",
    }
}

pub(super) fn nccl_step(s: NcclStep) -> &'static str {
    match s {
        NcclStep::Initialization => "initialization",
        NcclStep::Topology => "topology",
        NcclStep::Transport => "transport",
        NcclStep::Completion => "completion",
    }
}

pub(super) fn stage(s: Stage) -> &'static str {
    match s {
        Stage::Started => "started",
        Stage::Config => "config",
        Stage::DistributedInit => "distributed-init",
        Stage::NcclInit => "nccl-init",
        Stage::Download => "download",
        Stage::Weights => "weights",
        Stage::Profile => "profile",
        Stage::Compile => "compile",
        Stage::Graphs => "graphs",
        Stage::Serving => "serving",
    }
}
