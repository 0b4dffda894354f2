//! The checklist: declared in `assets/checks.yaml`, looked at here.
//!
//! To add a check: an entry in the YAML, and a probe in [`PROBES`] if none fits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use super::findings::ranges;
use super::scene::{CheckVerdict, CheckView, PodRow, Scene};
use crate::model::Model;
use crate::model::event::Feed;

/// A check as it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Stable, dotted.
    pub id: String,
    /// What the list shows.
    pub title: String,
    /// Name in [`PROBES`].
    pub probe: String,
    /// What to do when it does not pass.
    pub fix: String,
}

/// What a probe saw.
struct Seen {
    verdict: CheckVerdict,
    subject: String,
    ran: &'static str,
    output: String,
}

type Probe = fn(&Scene, &Model) -> Seen;

/// Probe names and how each looks.
const PROBES: &[(&str, Probe)] = &[("env", env), ("nccl_lines", nccl_lines), ("pods", pods)];

static CHECKS: LazyLock<Vec<Check>> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("../../assets/checks.yaml")).unwrap_or_default()
});

/// Every check that is declared.
#[must_use]
pub fn declared() -> &'static [Check] {
    &CHECKS
}

/// Whether a probe of this name exists.
#[must_use]
pub fn has_probe(name: &str) -> bool {
    PROBES.iter().any(|(n, _)| *n == name)
}

/// Runs the checklist over what is known.
#[must_use]
pub fn run(scene: &Scene, model: &Model) -> Vec<CheckView> {
    if model.sources.iter().next().is_none() && model.pods.is_empty() {
        return Vec::new();
    }
    let one = |check: &'static Check| {
        let (_, probe) = PROBES.iter().find(|(n, _)| *n == check.probe)?;
        let seen = probe(scene, model);
        let bad = matches!(
            seen.verdict,
            CheckVerdict::Fail | CheckVerdict::Warn | CheckVerdict::Unknown
        );
        Some(CheckView {
            id: &check.id,
            title: check.title.clone(),
            verdict: seen.verdict,
            subject: seen.subject,
            ran: seen.ran.to_owned(),
            output: seen.output,
            fix: if bad {
                vec![check.fix.clone()]
            } else {
                Vec::new()
            },
            at: scene.now,
        })
    };
    declared().iter().filter_map(one).collect()
}

/// All pods of the workload Running and Ready, none missing by index.
fn pods(scene: &Scene, model: &Model) -> Seen {
    let ran = "the pods of the workload, by watch";
    let subject = model.session.workload.clone().unwrap_or_default();
    if model.session.feed == Feed::Files
        || (model.pods.is_empty() && model.session.feed != Feed::Cluster)
    {
        let output = "these are files, not pods".to_owned();
        return Seen {
            verdict: CheckVerdict::NotApplicable,
            subject,
            ran,
            output,
        };
    }
    if !model.pods.synced() {
        return Seen {
            verdict: CheckVerdict::Waiting,
            subject,
            ran,
            output: "the list of pods has not arrived yet".into(),
        };
    }
    let census = model.pods.census();
    let ready =
        |r: &&PodRow| r.status == "Running" && r.ready.split_once('/').is_some_and(|(a, b)| a == b);
    let well = scene.pods.iter().filter(ready).count();
    let want = census.expected.map_or(scene.pods.len(), |n| n as usize);
    let mut said = vec![format!("{well} of {want} Running and Ready")];
    for row in scene.pods.iter().filter(|r| !ready(r)).take(8) {
        let why = row
            .why
            .as_deref()
            .map_or_else(String::new, |w| format!(": {w}"));
        said.push(format!("{} is {} {}{why}", row.name, row.status, row.ready));
    }
    let places = |list: &[(u32, u32)]| ranges(&list.iter().map(|(_, i)| *i).collect::<Vec<_>>());
    if !census.missing.is_empty() {
        said.push(format!("no pod at index {}", places(&census.missing)));
    }
    if !census.duplicate.is_empty() {
        said.push(format!("two pods at index {}", places(&census.duplicate)));
    }
    let verdict = if scene.pods.iter().any(|r| r.bad) || !census.duplicate.is_empty() {
        CheckVerdict::Fail
    } else if well >= want && census.missing.is_empty() && want > 0 {
        CheckVerdict::Pass
    } else {
        CheckVerdict::Waiting
    };
    Seen {
        verdict,
        subject,
        ran,
        output: said.join("\n"),
    }
}

/// NCCL lines present in every log that vLLM's ranks write, and with which subsystems.
fn nccl_lines(scene: &Scene, _model: &Model) -> Seen {
    let ran = "the logs, by line";
    let with: Vec<&str> = scene
        .sources
        .iter()
        .filter(|s| s.nccl_lines > 0)
        .map(|s| s.name.as_str())
        .collect();
    let without: Vec<&str> = scene
        .sources
        .iter()
        .filter(|s| s.nccl_lines == 0 && s.vllm_lines > 0)
        .map(|s| s.name.as_str())
        .collect();
    let lines: u64 = scene.sources.iter().map(|s| s.nccl_lines).sum();
    let has = |what: fn(&super::scene::Communicator) -> bool| scene.communicators.iter().any(what);
    let mut holds = Vec::new();
    if has(|c| !c.ranks.is_empty()) {
        holds.push("INIT");
    }
    if has(|c| !c.edges.is_empty()) {
        holds.push("connections");
    }
    if scene.processes.iter().any(|p| !p.env.is_empty()) {
        holds.push("ENV");
    }
    if scene.processes.iter().any(|p| p.network.is_some()) {
        holds.push("NET");
    }
    let verdict = match (lines, without.is_empty()) {
        (0, _) if scene.sources.iter().all(|s| s.lines == 0) => CheckVerdict::Waiting,
        // A rank that has not come to NCCL yet is silent as well.
        (0, _) => CheckVerdict::Unknown,
        (_, false) => CheckVerdict::Warn,
        (_, true) => CheckVerdict::Pass,
    };
    let mut output = format!(
        "{lines} NCCL lines in {} of {} logs",
        with.len(),
        scene.sources.len()
    );
    if !holds.is_empty() {
        output.push_str(&format!("; they hold {}", holds.join(", ")));
    }
    if !without.is_empty() {
        output.push_str(&format!("\nnone in {}", without.join(", ")));
    }
    Seen {
        verdict,
        subject: String::new(),
        ran,
        output,
    }
}

/// Variables that differ by nature: ranks, addresses, devices.
const MUST_DIFFER: &[&str] = &[
    "VLLM_HOST_IP",
    "NCCL_HOSTID",
    "VLLM_DP_RANK",
    "VLLM_DP_RANK_LOCAL",
    "CUDA_VISIBLE_DEVICES",
    "RANK",
    "LOCAL_RANK",
];

/// What the logs prove of the environment is equal over ranks.
fn env(scene: &Scene, _model: &Model) -> Seen {
    let ran = "what the logs prove of the environment";
    let ranks: Vec<_> = scene
        .processes
        .iter()
        .filter(|p| p.nccl_step.is_some() || !p.env.is_empty())
        .collect();
    let mut values: BTreeMap<&str, BTreeMap<Option<&str>, BTreeSet<String>>> = BTreeMap::new();
    let names: BTreeSet<&str> = ranks
        .iter()
        .flat_map(|p| p.env.iter().map(|(k, _)| k.as_str()))
        .collect();
    for name in names.iter().filter(|n| !MUST_DIFFER.contains(n)) {
        for p in &ranks {
            let value = p
                .env
                .iter()
                .find(|(k, _)| k == name)
                .map(|(_, v)| v.as_str());
            values
                .entry(name)
                .or_default()
                .entry(value)
                .or_default()
                .insert(p.place());
        }
    }
    let differing: Vec<String> = values
        .iter()
        .filter(|(_, by)| by.len() > 1)
        .map(|(name, by)| {
            let side = |(value, places): (&Option<&str>, &BTreeSet<String>)| {
                let names: Vec<&str> = places.iter().map(String::as_str).collect();
                format!(
                    "{} in {}",
                    value.map_or_else(|| "not set".to_owned(), str::to_owned),
                    names.join(", ")
                )
            };
            format!(
                "{name}: {}",
                by.iter().map(side).collect::<Vec<_>>().join("; ")
            )
        })
        .collect();
    let (verdict, output) = if ranks.len() < 2 {
        (
            CheckVerdict::NotApplicable,
            "fewer than two NCCL processes to compare".to_owned(),
        )
    } else if names.is_empty() {
        (
            CheckVerdict::Unknown,
            "no variable is echoed in these logs (NCCL_DEBUG_SUBSYS without ENV?)".to_owned(),
        )
    } else if differing.is_empty() {
        (
            CheckVerdict::Pass,
            format!(
                "{} variables, equal in {} processes",
                names.len(),
                ranks.len()
            ),
        )
    } else {
        (CheckVerdict::Warn, differing.join("\n"))
    };
    Seen {
        verdict,
        subject: String::new(),
        ran,
        output,
    }
}
