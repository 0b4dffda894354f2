//! Findings: what is wrong, why, proven by what, and what to change.
//!
//! A rule looks at the scene (and at the model for the lines behind it) and pushes findings. Ids are the
//! contract's; one finding per id and smallest common subject; no finding without evidence.

mod died;
mod echo;
pub mod fix;
mod nccl;
mod network;
mod pods;
mod probed;
mod start;
mod trouble;
mod vllm;

use std::collections::BTreeMap;

use super::comms::Joined;
use super::kept::Kept;
use super::probes::{ByPod, Members, by_pod, informed};
use super::scene::{Class, Communicator, Evidence, Finding, LineRef, Scene, Severity};
use crate::model::Model;
pub use crate::model::numbers::ranges;
use crate::parse::At;

/// Ids that some rule can raise.
pub const KNOWN: &[&str] = &[
    "gpu.count-mismatch",
    "gpu.foreign-memory",
    "gpu.memory-imbalance",
    "gpu.xid",
    "log.rotated-away",
    "nccl.collective-mismatch",
    "nccl.connect-timeout",
    "nccl.cuda-failure",
    "nccl.debug-absent",
    "nccl.debug-flood",
    "nccl.duplicate-gpu",
    "nccl.ib-completion-error",
    "nccl.ib-without-gdr",
    "nccl.library-not-loaded",
    "nccl.memlock",
    "nccl.missing-ranks",
    "nccl.mnnvl-imex",
    "nccl.no-interface",
    "nccl.nvls-failed",
    "nccl.p2p-refused",
    "nccl.peer-mapping-exhausted",
    "nccl.rank-stuck",
    "nccl.same-host-net",
    "nccl.same-node-pods",
    "nccl.shm-despite-p2p",
    "nccl.shm-too-small",
    "nccl.socket-despite-rdma",
    "nccl.version-mismatch",
    "nccl.watchdog-timeout",
    "nccl.wrong-interface",
    "pod.crashloop",
    "pod.env-skew",
    "pod.evicted",
    "pod.image",
    "pod.image-skew",
    "pod.network-policy",
    "pod.oom-killed",
    "pod.pending",
    "pod.probe-kill",
    "vllm.cuda-oom-loading",
    "vllm.device-mismatch",
    "vllm.gloo-mesh",
    "vllm.graph-crash",
    "vllm.hub-access",
    "vllm.hung",
    "vllm.kv-cache-too-small",
    "vllm.loading-slow",
    "vllm.loading-stalled",
    "vllm.model-incomplete",
    "vllm.permission-denied",
    "vllm.port-variable",
    "vllm.rank-config",
    "vllm.rendezvous-timeout",
    "vllm.tokenizer-missing",
    "vllm.tp-over-network",
    "vllm.worker-died",
    "vllm.world-size",
    "vllm.wrong-host-ip",
];

/// Evidence lines kept per finding.
const LINES: usize = 8;

/// What a rule may look at.
pub(super) struct View<'a> {
    pub scene: &'a Scene,
    pub model: &'a Model,
    pub joined: &'a Joined,
    /// Group index by position of the communicator in the scene.
    pub order: &'a [u32],
    /// What fixes are about.
    pub target: fix::Target,
    /// Pods of the workload.
    pub members: &'a Members<'a>,
    /// Index of the workload by process.
    pub workload: Vec<usize>,
    /// Processes of each pod, by its name.
    pub by_pod: ByPod<'a>,
    /// Process by vLLM speaker.
    pub speaker: BTreeMap<u32, u32>,
}

impl View<'_> {
    /// The process that a vLLM speaker is.
    pub(super) fn unit_of_speaker(&self, s: &crate::model::speakers::Speaker) -> Option<u32> {
        let list = &self.model.speakers.list;
        let at = list.iter().position(|x| std::ptr::eq(x, s))?;
        self.speaker.get(&u32::try_from(at).ok()?).copied()
    }

    /// What people call ranks of a communicator.
    pub(super) fn called(&self, c: &Communicator, ranks: &[u32]) -> String {
        called(self.scene, c, ranks)
    }
}

/// What people call ranks of a communicator: by their global numbers where these differ from its own, as
/// `rank 6 (2 of tp:1)`, and never by a number that another rank is known by.
fn called(scene: &Scene, c: &Communicator, ranks: &[u32]) -> String {
    let word = if let [_] = ranks { "rank" } else { "ranks" };
    let own = ranges(ranks);
    let whose = c.group.as_deref().unwrap_or(&c.key);
    match global(scene, c, ranks) {
        Some(all) if all == ranks => format!("{word} {own}"),
        Some(mut all) => {
            all.sort_unstable();
            format!("{word} {} ({own} of {whose})", ranges(&all))
        }
        // The widest communicator numbers its ranks as everybody does.
        None if scene.communicators.iter().all(|x| x.nranks <= c.nranks) => {
            format!("{word} {own}")
        }
        None => format!("{word} {own} of {whose}"),
    }
}

/// The global numbers of a communicator's ranks, in their order, where all are known.
fn global(scene: &Scene, c: &Communicator, ranks: &[u32]) -> Option<Vec<u32>> {
    let of = |rank: &u32| {
        let at = c.ranks.binary_search_by_key(rank, |m| m.rank).ok()?;
        let process = scene.processes.get(c.ranks.get(at)?.process as usize)?;
        process.global_rank
    };
    ranks.iter().map(of).collect()
}

fn communicator<'a>(scene: &'a Scene, finding: &Finding) -> Option<&'a Communicator> {
    let key = finding.communicator.as_ref()?;
    let mut all = scene.communicators.iter();
    all.find(|c| c.key == *key).map(|c| &**c)
}

/// The global numbers of the ranks that a finding is about, where all are known.
#[must_use]
pub fn global_ranks(scene: &Scene, finding: &Finding) -> Option<Vec<u32>> {
    match communicator(scene, finding) {
        Some(c) => global(scene, c, &finding.ranks),
        None if finding.communicator.is_some() => None,
        None => Some(finding.ranks.clone()),
    }
}

/// The ranks that a finding is about, as people call them; those of its communicator where it names one.
#[must_use]
pub fn whom(scene: &Scene, finding: &Finding) -> Option<String> {
    let ranks = finding.ranks.as_slice();
    if ranks.is_empty() {
        return None;
    }
    Some(match (communicator(scene, finding), ranks) {
        (Some(c), _) => called(scene, c, ranks),
        (None, [one]) => format!("rank {one}"),
        (None, many) => format!("ranks {}", ranges(many)),
    })
}

/// What follows from a finding, with the number that each is called by, less one.
pub fn followers<'a>(
    scene: &'a Scene,
    cause: &'a Finding,
) -> impl Iterator<Item = (usize, &'a Finding)> {
    let of = move |f: &Finding| f.consequence_of.as_deref() == Some(cause.key.as_str());
    scene
        .findings
        .iter()
        .enumerate()
        .filter(move |(_, f)| of(f))
}

/// Runs every rule; sorts root causes first by severity, age and key.
pub fn find(
    scene: &mut Scene,
    model: &Model,
    joined: &Joined,
    order: &[u32],
    members: &Members<'_>,
) {
    let mut workload = vec![0; scene.processes.len()];
    for (i, w) in scene.workloads.iter().enumerate() {
        for p in &w.processes {
            if let Some(slot) = workload.get_mut(*p as usize) {
                *slot = i;
            }
        }
    }
    let speaker = (0u32..)
        .zip(&joined.units)
        .flat_map(|(u, unit)| unit.speakers.iter().map(move |s| (*s, u)))
        .collect();
    let view = View {
        scene,
        model,
        joined,
        order,
        target: fix::Target::of(model),
        members,
        by_pod: by_pod(scene),
        workload,
        speaker,
    };
    let notices = trouble::gather(&view);
    let mut found = Vec::new();
    network::same_host_net(&view, &mut found);
    network::socket_despite_rdma(&view, &mut found);
    start::missing_ranks(&view, &mut found);
    start::version_mismatch(&view, &mut found);
    start::connect_timeout(&view, &mut found);
    start::rotated_away(&view, &mut found);
    nccl::find(&view, &notices, &mut found);
    vllm::find(&view, &notices, &mut found);
    pods::find(&view, &notices, &mut found);
    probed::find(&view, &notices, &mut found);
    if !found.iter().any(|f| f.severity == Severity::Error) {
        vllm::unanswered(&view, &notices, &mut found);
    }
    died::find(&view, &notices, &mut found);
    // Where an error explains why nobody gets on, that they don't is no news.
    if !found.iter().any(|f| f.severity == Severity::Error) {
        vllm::silent(&view, &mut found);
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    unique(&mut found);
    echo::fold(&view, &mut found);
    let worst = worst(&found);
    found.sort_by(|a, b| rank(a, &worst).cmp(&rank(b, &worst)));
    scene.findings = found;
}

/// Runs every rule over a scene that is derived already, as [`super::checks::run`] does the checks.
pub fn run(scene: &mut Scene, model: &Model, kept: &mut Kept) {
    let members = informed(&model.pods, &model.probes);
    let joined = kept.joined(model);
    let links = kept.links(&scene.processes, model, &joined, scene.layout.sizes);
    find(scene, model, &joined, &links.order, &members);
}

/// Keys name one finding each: those that share a subject are numbered.
fn unique(found: &mut [Finding]) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for f in found {
        let n = seen.entry(f.key.clone()).or_insert(0);
        *n += 1;
        if *n > 1 {
            f.key = format!("{}#{n}", f.key);
        }
    }
}

type Order<'a> = (bool, std::cmp::Reverse<Severity>, i64, &'a str);

/// The worst severity among a root cause and what follows from it.
fn worst(found: &[Finding]) -> BTreeMap<String, Severity> {
    let mut out = BTreeMap::new();
    for f in found {
        let root = f.consequence_of.as_ref().unwrap_or(&f.key);
        let slot = out.entry(root.clone()).or_insert(f.severity);
        *slot = (*slot).max(f.severity);
    }
    out
}

fn rank<'a>(f: &'a Finding, worst: &BTreeMap<String, Severity>) -> Order<'a> {
    let severity = worst.get(&f.key).copied().unwrap_or(f.severity);
    (
        f.consequence_of.is_some(),
        std::cmp::Reverse(severity),
        f.since.map_or(i64::MAX, |a| a.ns),
        &f.key,
    )
}

/// The earlier of two stamps that can be compared.
pub(super) fn earlier(a: Option<At>, b: Option<At>) -> Option<At> {
    match (a, b) {
        (Some(x), Some(y)) if x.exact == y.exact => Some(if x.ns <= y.ns { x } else { y }),
        (Some(x), Some(y)) => Some(if x.exact { x } else { y }),
        (x, y) => x.or(y),
    }
}

/// Line references sorted by place, at most `LINES`.
pub(super) fn first_lines(mut lines: Vec<LineRef>) -> Vec<LineRef> {
    lines.sort_by_key(|l| (l.source, l.number));
    lines.dedup();
    lines.truncate(LINES);
    lines
}

/// A finding that stands on lines, dated by the earliest of them; none without a line.
pub(super) fn by_lines(
    id: &'static str,
    subject: &str,
    severity: Severity,
    class: Class,
    lines: Vec<LineRef>,
) -> Option<Finding> {
    let proof = Evidence::Line(lines.first()?.clone());
    let mut f = Finding::new(id, subject, severity, class, proof);
    for l in lines {
        f.since = earlier(f.since, l.at);
        f.prove(Evidence::Line(l));
    }
    Some(f)
}
