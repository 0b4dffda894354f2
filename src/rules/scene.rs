//! The scene: everything derived from a model, in the words of the report contract.
//!
//! Panes draw it, the report serialises it; neither concludes anything.

mod comm;
mod former;
mod live;
mod matrix;
mod process;
mod source;
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::comm::{
    Attribution, CommState, Communicator, Edge, EdgeKind, Family, Member, Path, Rating, Ring, Side,
    TreeView, Unattributed,
};
pub use self::former::Former;
pub use self::live::{Generated, GpuView, PodRow, ServingView, UsageView};
pub use self::matrix::{Cell, Glyph, Mark, Matrix, Slot};
pub use self::process::{Counted, Folded, NcclStep, ProcessView, Progress, Silence, Still};
pub use self::source::{FileView, SourceView};
pub use self::verdicts::{CheckVerdict, CheckView, Class, Confidence, Evidence, Finding, Severity};
use super::variables::Values;
pub use crate::model::speakers::Stage;
use crate::parse::At;

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
    /// What Ray's driver told of workers without naming them, by engine: the furthest only.
    pub folded: Vec<Folded>,
    /// Communicators, sorted by key.
    pub communicators: Vec<Arc<Communicator>>,
    /// Connection lines in doubt.
    pub unattributed: Arc<Vec<Unattributed>>,
    /// Findings: root causes first by severity, echoes after their cause.
    pub findings: Vec<Finding>,
    /// Merged matrix first, then one per communicator in the order of the tabs.
    pub matrices: Vec<Arc<Matrix>>,
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
    /// Runs that ended inside logs that go on with another one, the newest first.
    pub former: Arc<Vec<Former>>,
}
