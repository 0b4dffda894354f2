//! The report: a [`Scene`] in the words of the contract, for programs and for people.
//!
//! [`Report`] is the schema `ncclscope.report/v1`: field names are fixed, unknown is `null`, every list is
//! sorted where the scene sorts it, and nothing here concludes anything. The writers are one per format:
//! [`json`] prints the report, [`text`] what a person wants to read first. Another format is another file that
//! takes the same two arguments.

pub mod html;
pub mod json;
pub mod junit;
mod layout;
pub mod markdown;
mod matrix;
mod parts;
pub mod redact;
pub mod tar;
mod tests;
pub mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::parse::{At, Nanos};
use crate::rules::findings;
use crate::rules::scene::{self, Evidence, Scene, Severity, Verdict};

pub use layout::{EngineEntry, SeatEntry, ToldEntry};
use parts::group;
pub use parts::{
    CommunicatorEntry, EdgeEntry, FoldedEntry, FormerEntry, GroupEntry, LineEntry, ProcessEntry,
};
pub use tests::{TestEntry, TestRow};

/// Name and version of the schema.
pub const SCHEMA: &str = "ncclscope.report/v1";

/// What `--fail-on` takes: from where on a degraded workload is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FailOn {
    /// Degraded by a finding of severity warning or error.
    #[default]
    Warning,
    /// Degraded by a finding of severity error.
    Error,
    /// Verdict failed alone.
    Failed,
}

/// The exit code of `report`: 0, 1 (failed, or degraded as far as `fail_on` asks) or 3 (unknown).
#[must_use]
pub fn exit_code(scene: &Scene, fail_on: FailOn) -> u8 {
    let found = |least: Severity| scene.findings.iter().any(|f| f.severity >= least);
    let counts = match fail_on {
        FailOn::Warning => found(Severity::Warning),
        FailOn::Error => found(Severity::Error),
        FailOn::Failed => false,
    };
    match scene.verdict {
        Verdict::Failed => 1,
        Verdict::Degraded if counts => 1,
        Verdict::Unknown => 3,
        Verdict::Degraded | Verdict::Starting | Verdict::Healthy => 0,
    }
}

/// The whole report.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct Report<'a> {
    pub schema: &'static str,
    pub program_version: &'static str,
    /// When a live report looked; null for files, which hold their own times.
    pub observed_at: Option<String>,
    pub verdict: &'static str,
    pub summary: &'a str,
    pub sources: Vec<SourceEntry<'a>>,
    pub workloads: Vec<WorkloadEntry<'a>>,
    /// Those of the present run, by whose place workloads name them; behind them those of runs that are over.
    pub processes: Vec<ProcessEntry<'a>>,
    /// Runs that ended inside logs that go on with another one, the newest first; absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerEntry<'a>>,
    /// What Ray's driver counted of workers that no line names; absent where nothing was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<FoldedEntry<'a>>,
    pub communicators: Vec<CommunicatorEntry<'a>>,
    pub unattributed: Vec<UnattributedEntry<'a>>,
    pub groups: Vec<GroupEntry<'a>>,
    /// Who says how the job is cut, an engine an entry.
    pub layout: Vec<EngineEntry<'a>>,
    pub pods: Vec<PodEntry<'a>>,
    pub gpus: Vec<GpuEntry<'a>>,
    pub checks: Vec<CheckEntry<'a>>,
    /// The all-reduce test, where one ran.
    pub tests: Vec<TestEntry<'a>>,
    pub findings: Vec<FindingEntry<'a>>,
}

/// A source.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct SourceEntry<'a> {
    pub name: &'a str,
    /// The log that this file is a rotated part of, or its newest; null where it is a whole one.
    pub log: Option<&'a str>,
    pub pod: Option<&'a str>,
    pub bytes: u64,
    pub lines: u64,
    pub nccl_lines: u64,
    pub vllm_lines: u64,
    pub dropped_lines: u64,
    pub head_missing: Option<bool>,
    pub last_stamp: Option<String>,
}

/// A workload.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct WorkloadEntry<'a> {
    pub name: Option<&'a str>,
    pub verdict: &'static str,
    pub summary: &'a str,
    pub processes: &'a [u32],
    pub communicators: Vec<&'a str>,
    pub expected_ranks: Option<u32>,
    pub model: Option<&'a str>,
    pub sizes: Sizes,
}

/// Sizes of a vLLM job.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct Sizes {
    pub tp: Option<u32>,
    pub pp: Option<u32>,
    pub dp: Option<u32>,
    pub ep: Option<u32>,
    pub pcp: Option<u32>,
    pub dcp: Option<u32>,
}

/// Connection lines that fit several communicators, or none.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct UnattributedEntry<'a> {
    pub source: &'a str,
    pub from: Option<u32>,
    pub to: Option<u32>,
    pub transport: &'a str,
    pub candidates: &'a [String],
    pub lines: u64,
    pub sample: LineEntry<'a>,
}

/// A pod.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct PodEntry<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub index: Option<u32>,
    pub node: Option<&'a str>,
    pub ip: Option<&'a str>,
    pub status: &'a str,
    pub ready: &'a str,
    pub restarts: u32,
    pub gpus_requested: u32,
    /// Null where only a tag is known.
    pub image_digest: Option<&'a str>,
    pub reason: Option<&'a str>,
}

/// A GPU.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct GpuEntry<'a> {
    pub uuid: Option<&'a str>,
    pub bus_id: Option<&'a str>,
    pub node: Option<&'a str>,
    pub pod: Option<&'a str>,
    pub global_rank: Option<u32>,
    pub used_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
    pub expected_weight_bytes: Option<u64>,
    pub utilization_percent: Option<u32>,
    pub at: Option<String>,
}

/// A check.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct CheckEntry<'a> {
    pub id: &'static str,
    pub title: &'a str,
    pub verdict: &'static str,
    pub subject: &'a str,
    pub ran: &'a str,
    pub output: &'a str,
    pub fix: &'a [String],
    pub at: Option<String>,
}

/// A finding.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct FindingEntry<'a> {
    pub key: &'a str,
    pub id: &'static str,
    pub severity: &'static str,
    pub class: &'static str,
    pub confidence: &'static str,
    pub title: &'a str,
    pub since: Option<String>,
    pub ranks: &'a [u32],
    /// Their global numbers, where all of them are known.
    pub global_ranks: Option<Vec<u32>>,
    pub hosts: &'a [String],
    pub pods: &'a [String],
    pub gpus: &'a [String],
    pub communicator: Option<&'a str>,
    pub evidence: Vec<EvidenceEntry<'a>>,
    pub cause: &'a str,
    pub fix: &'a [String],
    pub consequence_of: Option<&'a str>,
}

/// What a finding stands on.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub enum EvidenceEntry<'a> {
    Line {
        source: &'a str,
        line: u64,
        at: Option<String>,
        text: &'a str,
    },
    Object {
        object: &'a str,
    },
    Sample {
        sample: &'a str,
    },
    Check {
        check: &'a str,
    },
}

impl<'a> Report<'a> {
    /// The scene in the words of the contract. `observed_at` is when a live report looked, nanoseconds
    /// since the Unix epoch.
    #[must_use]
    pub fn of(scene: &'a Scene, observed_at: Option<Nanos>) -> Self {
        let names = Names(scene);
        Self {
            schema: SCHEMA,
            program_version: env!("CARGO_PKG_VERSION"),
            observed_at: observed_at.and_then(|ns| stamp(Some(At { ns, exact: true }))),
            verdict: verdict(scene.verdict),
            summary: &scene.summary,
            sources: scene.streams().flat_map(sources).collect(),
            workloads: scene.workloads.iter().map(|w| names.workload(w)).collect(),
            processes: scene
                .processes
                .iter()
                .chain(scene.former.iter().flat_map(|former| &former.processes))
                .map(|p| names.process(p))
                .collect(),
            former: scene.former.iter().map(|f| names.former(f)).collect(),
            folded: scene.folded.iter().map(|f| names.folded(f)).collect(),
            communicators: scene
                .communicators
                .iter()
                .map(|c| names.communicator(c))
                .collect(),
            unattributed: scene
                .unattributed
                .iter()
                .map(|u| names.unattributed(u))
                .collect(),
            groups: scene.groups.iter().map(group).collect(),
            layout: scene.layout.engines.iter().map(layout::of).collect(),
            pods: scene.pods.iter().map(pod).collect(),
            gpus: scene.gpus.iter().map(gpu).collect(),
            checks: scene.checks.iter().map(check).collect(),
            tests: scene.test.iter().map(|t| tests::of(t)).collect(),
            findings: scene.findings.iter().map(|f| names.finding(f)).collect(),
        }
    }
}

/// Indices of a scene into the names that the contract uses.
struct Names<'a>(&'a Scene);

impl<'a> Names<'a> {
    /// The file of a line, and its number there.
    fn stands(&self, source: u32, line: u64) -> (&'a str, u64) {
        self.0.stands(source, line)
    }

    fn line(&self, line: &'a scene::LineRef) -> LineEntry<'a> {
        let (source, number) = self.0.place(line);
        LineEntry {
            source,
            number,
            at: stamp(line.at),
        }
    }

    fn workload(&self, w: &'a scene::Workload) -> WorkloadEntry<'a> {
        let key = |&i: &u32| self.0.communicators.get(i as usize).map(|c| c.key.as_str());
        let [tp, pp, dp, ep] = w.sizes;
        let [pcp, dcp] = w.context;
        WorkloadEntry {
            name: w.name.as_deref(),
            verdict: verdict(w.verdict),
            summary: &w.summary,
            processes: &w.processes,
            communicators: w.communicators.iter().filter_map(key).collect(),
            expected_ranks: w.expected_ranks,
            model: w.model.as_deref(),
            sizes: Sizes {
                tp,
                pp,
                dp,
                ep,
                pcp,
                dcp,
            },
        }
    }

    fn unattributed(&self, u: &'a scene::Unattributed) -> UnattributedEntry<'a> {
        UnattributedEntry {
            source: self.0.place(&u.sample).0,
            from: u.from,
            to: u.to,
            transport: &u.transport,
            candidates: &u.candidates,
            lines: u.lines,
            sample: self.line(&u.sample),
        }
    }

    fn finding(&self, f: &'a scene::Finding) -> FindingEntry<'a> {
        let evidence = |e: &'a Evidence| match e {
            Evidence::Line(l) => {
                let (source, line) = self.0.place(l);
                EvidenceEntry::Line {
                    source,
                    line,
                    at: stamp(l.at),
                    text: &l.text,
                }
            }
            Evidence::Object(object) => EvidenceEntry::Object { object },
            Evidence::Sample(sample) => EvidenceEntry::Sample { sample },
            Evidence::Check(check) => EvidenceEntry::Check { check },
        };
        FindingEntry {
            key: &f.key,
            id: f.id,
            severity: severity(f.severity),
            class: class(f.class),
            confidence: confidence(f.confidence),
            title: &f.title,
            since: stamp(f.since),
            ranks: &f.ranks,
            global_ranks: findings::global_ranks(self.0, f),
            hosts: &f.hosts,
            pods: &f.pods,
            gpus: &f.gpus,
            communicator: f.communicator.as_deref(),
            evidence: f.evidence().iter().map(evidence).collect(),
            cause: &f.cause,
            fix: &f.fix,
            consequence_of: f.consequence_of.as_deref(),
        }
    }
}

/// A row a file: the name of each is what lines and evidence cite.
fn sources(s: &scene::SourceView) -> Vec<SourceEntry<'_>> {
    let pod = s.pod.as_deref();
    if s.files.is_empty() {
        return vec![SourceEntry {
            name: &s.name,
            log: None,
            pod,
            bytes: s.bytes,
            lines: s.lines,
            nccl_lines: s.nccl_lines,
            vllm_lines: s.vllm_lines,
            dropped_lines: s.dropped_lines,
            head_missing: s.head_missing,
            last_stamp: stamp(s.last_stamp),
        }];
    }
    let parts = s.files.iter().map(|f| SourceEntry {
        name: &f.name,
        log: Some(&s.name),
        pod,
        bytes: f.bytes,
        lines: f.lines,
        nccl_lines: f.nccl_lines,
        vllm_lines: f.vllm_lines,
        dropped_lines: f.dropped_lines,
        head_missing: f.head_missing,
        last_stamp: stamp(f.last_stamp),
    });
    parts.collect()
}

fn pod(p: &scene::PodRow) -> PodEntry<'_> {
    PodEntry {
        namespace: &p.namespace,
        name: &p.name,
        uid: &p.uid,
        index: p.index,
        node: p.node.as_deref(),
        ip: p.ip.as_deref(),
        status: &p.status,
        ready: &p.ready,
        restarts: p.restart_count,
        gpus_requested: p.gpus,
        image_digest: p
            .image
            .as_deref()
            .filter(|image| image.starts_with("sha256:")),
        reason: p.why.as_deref(),
    }
}

fn gpu(g: &scene::GpuView) -> GpuEntry<'_> {
    GpuEntry {
        uuid: g.uuid.as_deref(),
        bus_id: g.bus_id.as_deref(),
        node: g.node.as_deref(),
        pod: g.pod.as_deref(),
        global_rank: g.global_rank,
        used_bytes: g.used,
        total_bytes: g.total,
        expected_weight_bytes: g.expected_weights,
        utilization_percent: g.busy,
        at: stamp(g.at),
    }
}

fn check(c: &scene::CheckView) -> CheckEntry<'_> {
    use scene::CheckVerdict as V;
    CheckEntry {
        id: c.id,
        title: &c.title,
        verdict: match c.verdict {
            V::Pass => "pass",
            V::Warn => "warn",
            V::Fail => "fail",
            V::Waiting => "waiting",
            V::Unknown => "unknown",
            V::NotApplicable => "not-applicable",
            V::Forbidden => "forbidden",
        },
        subject: &c.subject,
        ran: &c.ran,
        output: &c.output,
        fix: &c.fix,
        at: stamp(c.at),
    }
}

/// RFC 3339, and only for stamps that carried date and zone: a guess must not look like a fact.
fn stamp(at: Option<At>) -> Option<String> {
    let at = at.filter(|at| at.exact)?;
    jiff::Timestamp::from_nanosecond(i128::from(at.ns))
        .ok()
        .map(|t| t.to_string())
}

/// The contract's word.
#[must_use]
pub fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Healthy => "healthy",
        Verdict::Starting => "starting",
        Verdict::Unknown => "unknown",
        Verdict::Degraded => "degraded",
        Verdict::Failed => "failed",
    }
}

fn severity(s: Severity) -> &'static str {
    match s {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn class(c: scene::Class) -> &'static str {
    use scene::Class as C;
    match c {
        C::Hardware => "hardware",
        C::Network => "network",
        C::Platform => "platform",
        C::Configuration => "configuration",
        C::Application => "application",
        C::Resources => "resources",
    }
}

fn confidence(c: scene::Confidence) -> &'static str {
    use scene::Confidence as C;
    match c {
        C::Possible => "possible",
        C::Likely => "likely",
        C::Certain => "certain",
    }
}

/// Environment variables as an object, in the order of their names.
type Env<'a> = BTreeMap<&'a str, &'a str>;
