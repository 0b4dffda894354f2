//! Who a process is and how the job is cut: labels, rank assignment, addresses.

use super::scan::{Cur, after, text};

/// What a process of a vLLM deployment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProcKind {
    /// HTTP front end (`APIServer`, `ApiServer_1`, `RustFrontend`).
    ApiServer,
    /// Scheduler of one data-parallel engine (`EngineCore`, `EngineCore_DP1`).
    EngineCore,
    /// One GPU (`Worker_TP0`, `VllmWorker rank=0`, `RayWorkerWrapper`, …).
    Worker,
    /// Coordinator of data-parallel engines.
    Coordinator,
    /// Ray's own processes and actors that are not vLLM workers.
    Ray,
}

/// A process label in front of lines, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Kind of process.
    pub kind: ProcKind,
    /// Number of an API server, or global rank of `VllmWorker rank=N`.
    pub index: Option<u32>,
    /// Data-parallel rank.
    pub dp: Option<u32>,
    /// Pipeline stage.
    pub pp: Option<u32>,
    /// Prefill-context rank.
    pub pcp: Option<u32>,
    /// Tensor-parallel rank.
    pub tp: Option<u32>,
    /// Decode-context rank.
    pub dcp: Option<u32>,
    /// Expert-parallel rank.
    pub ep: Option<u32>,
}

impl Label {
    fn of(kind: ProcKind) -> Self {
        Self {
            kind,
            index: None,
            dp: None,
            pp: None,
            pcp: None,
            tp: None,
            dcp: None,
            ep: None,
        }
    }

    /// Reads a label of any era: `Worker_DP0_PP1_TP3_EP3`, `VllmWorker rank=2`, `VllmWorker TP0`,
    /// `EngineCore_0`, `ApiServer_1`, `VLLM::Worker_TP0`, …
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        let label = label.strip_prefix("VLLM::").unwrap_or(label);
        // Longest first: `VllmWorkerProcess` is no `VllmWorker`.
        const NAMES: [(&str, ProcKind); 16] = [
            ("VllmWorkerProcess", ProcKind::Worker),
            ("VllmWorker", ProcKind::Worker),
            ("RayWorkerWrapper", ProcKind::Worker),
            ("RayWorkerVllm", ProcKind::Worker),
            ("RayWorkerProc", ProcKind::Worker),
            ("RayWorker", ProcKind::Worker),
            ("Worker", ProcKind::Worker),
            ("EngineCore", ProcKind::EngineCore),
            ("APIServer", ProcKind::ApiServer),
            ("ApiServer", ProcKind::ApiServer),
            ("RustFrontend", ProcKind::ApiServer),
            ("DPCoordinator", ProcKind::Coordinator),
            ("VLLM_DP_Coordinator", ProcKind::Coordinator),
            ("raylet", ProcKind::Ray),
            ("autoscaler", ProcKind::Ray),
            ("gcs_server", ProcKind::Ray),
        ];
        let (rest, kind) = NAMES
            .iter()
            .find_map(|(n, k)| label.strip_prefix(n).map(|r| (r, *k)))
            .or_else(|| {
                label
                    .strip_prefix("ServeReplica:")
                    .map(|_| ("", ProcKind::Ray))
            })?;
        let mut out = Self::of(kind);
        if !(rest.is_empty() || rest.starts_with(['_', ' ', '-'])) {
            return (kind == ProcKind::Ray).then_some(out);
        }
        for part in rest.split(['_', ' ', '-']).filter(|p| !p.is_empty()) {
            if let Some(n) = part.strip_prefix("rank=") {
                out.index = n.parse().ok();
                continue;
            }
            let digits = part.trim_start_matches(|c: char| !c.is_ascii_digit());
            let Ok(n) = digits.parse::<u32>() else {
                continue;
            };
            match part.strip_suffix(digits) {
                Some("DP") => out.dp = Some(n),
                Some("PP") => out.pp = Some(n),
                Some("PCP") => out.pcp = Some(n),
                Some("TP") => out.tp = Some(n),
                Some("DCP") => out.dcp = Some(n),
                Some("EP") => out.ep = Some(n),
                // `EngineCore_1` counts data-parallel engines, `ApiServer_1` servers.
                Some("") if kind == ProcKind::EngineCore => out.dp = Some(n),
                Some("") => out.index = Some(n),
                _ => {}
            }
        }
        Some(out)
    }
}

/// `rank N in world size W is assigned as …` (S28). Parts that the era does not print are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranks {
    /// Global rank.
    pub rank: u32,
    /// World size.
    pub world: u32,
    /// Data-parallel rank.
    pub dp: u32,
    /// Pipeline stage.
    pub pp: u32,
    /// Prefill-context rank (v0.12+).
    pub pcp: Option<u32>,
    /// Tensor-parallel rank.
    pub tp: u32,
    /// Expert-parallel rank (v0.9+); `None` where no such group exists (`N/A`) or it is not printed.
    pub ep: Option<u32>,
    /// Rank for expert load balancing (v0.17+).
    pub eplb: Option<u32>,
}

/// What stands before and behind ` in world size `.
pub(super) fn ranks(before: &[u8], mut c: Cur<'_>) -> Option<Ranks> {
    let rank = after(before, "rank ")?.uint()?;
    let world = c.uint()?;
    c.skip(" is assigned as DP rank ")?;
    let dp = c.uint()?;
    c.skip(", PP rank ")?;
    let pp = c.uint()?;
    let mut named = |name: &str| -> Option<u32> {
        let mut t = c;
        t.skip(name)?;
        let n = t.uint();
        if n.is_none() && !t.eat("N/A") {
            return None;
        }
        c = t;
        n
    };
    let pcp = named(", PCP rank ");
    let tp = named(", TP rank ")?;
    let ep = named(", EP rank ");
    let eplb = named(", EPLB rank ");
    Some(Ranks {
        rank,
        world,
        dp,
        pp,
        pcp,
        tp,
        ep,
        eplb,
    })
}

/// One process enters torch.distributed (S20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankStart {
    /// Size of the torch world; `None` when the launcher's environment decides (`-1`).
    pub world: Option<u32>,
    /// Global rank.
    pub rank: Option<u32>,
    /// Rank inside the node.
    pub local_rank: Option<u32>,
    /// `tcp://10.42.3.7:29501`, `env://`, …
    pub init: String,
    /// `nccl`, `gloo`, …
    pub backend: String,
}

/// What stands behind `world_size=`.
pub(super) fn rank_start(mut c: Cur<'_>) -> Option<RankStart> {
    let known = |n: i64| u32::try_from(n).ok();
    let world = known(c.int()?);
    c.skip(" rank=")?;
    let rank = known(c.int()?);
    c.skip(" local_rank=")?;
    let local_rank = known(c.int()?);
    c.skip(" distributed_init_method=")?;
    let init = text(c.word()?);
    c.skip(" backend=")?;
    Some(RankStart {
        world,
        rank,
        local_rank,
        init,
        backend: text(c.name()?),
    })
}

/// Host of `tcp://host:port`, `host:port`, `[::1]:port` or a bare host; none for `env://`.
#[must_use]
pub fn host_of(address: &str) -> Option<&str> {
    let a = match address.split_once("://") {
        Some(("env" | "file" | "ipc", _)) => return None,
        Some((_, a)) => a,
        None => address,
    };
    let a = a.split(['/', ' ']).next().unwrap_or(a);
    let host = if let Some(v6) = a.strip_prefix('[') {
        v6.split(']').next()?
    } else if a.matches(':').count() > 1 {
        a
    } else {
        a.split(':').next()?
    };
    (!host.is_empty()).then_some(host)
}

/// `DP group leader: …` (S09): where the head of a multi-node engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Its node rank.
    pub node_rank: u32,
    /// Address of the master.
    pub master_addr: String,
    /// Address that workers of other nodes connect to.
    pub connect_ip: String,
    /// Ranks of the engine.
    pub world: u32,
    /// Ranks on this node.
    pub local_world: u32,
}

/// What stands behind `DP group leader: `.
pub(super) fn leader(c: Cur<'_>) -> Option<Leader> {
    let num = |name: &str| after(c.rest, name)?.uint::<u32>();
    let word = |name: &str| {
        let mut v = after(c.rest, name)?;
        let w = v.while_(|b| b != b',' && !b.is_ascii_whitespace());
        (!w.is_empty()).then(|| text(w))
    };
    Some(Leader {
        node_rank: num("node_rank=")?,
        master_addr: word("master_addr=")?,
        connect_ip: word("mq_connect_ip=")?,
        // The first `world_size=` may be the tail of `local_world_size=`.
        world: num(" world_size=")?,
        local_world: num("local_world_size=")?,
    })
}
