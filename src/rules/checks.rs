//! The checklist: declared in `assets/checks.yaml`, judged here.
//!
//! To add a check: an entry in the YAML, and a judge in [`JUDGES`] if none fits. A judge looks at what is known –
//! logs, pods, nodes, answers of probes – and says what follows; it asks nobody. What a probe asks is in
//! [`super::probes`].

mod cluster;
mod env;
mod gpus;
mod host;
mod logs;
mod look;
mod model;
mod network;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::findings::fix::{Target, sh};
use super::probes::{Members, informed};
use super::scene::{CheckVerdict, CheckView, Scene};
use crate::model::Model;
pub(in crate::rules) use look::some;
use look::{Look, Seen};

/// What a check needs to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// What is known anyway: objects and logs.
    Observe,
    /// Commands inside the containers that only read.
    Probe,
}

/// A fix as it is written down; names of this workload are filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fix {
    /// A sentence.
    Do(String),
    /// Variables to set; one without a value is to be removed.
    Env(BTreeMap<String, Option<String>>),
    /// A piece of the pod template.
    Yaml(String),
    /// Words after `kubectl -n NAMESPACE`.
    Kubectl(String),
    /// An argument of `vllm serve`.
    Arg(String),
}

/// A check as it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Stable, dotted.
    pub id: String,
    /// What the list shows.
    pub title: String,
    /// What it needs.
    pub level: Needs,
    /// Probes that feed it: names of the catalogue.
    #[serde(default)]
    pub probes: Vec<String>,
    /// Name in [`JUDGES`].
    pub judge: String,
    /// What it asks, and what passes.
    pub means: String,
    /// What to do when it does not pass.
    pub fix: Vec<Fix>,
}

type Judge = fn(&Look<'_>) -> Seen;

/// Names of judges.
const JUDGES: &[(&str, Judge)] = &[
    ("access", model::access),
    ("acs", gpus::acs),
    ("clock", network::clock),
    ("dns", network::dns),
    ("driver", gpus::driver),
    ("ecc", gpus::ecc),
    ("env", env::env),
    ("files", model::files),
    ("gid", network::gid),
    ("gpu-memory", gpus::memory),
    ("gpus", gpus::count),
    ("host-ip", env::host_ip),
    ("image", cluster::image),
    ("interfaces", network::interfaces),
    ("memlock", host::memlock),
    ("memory", host::memory),
    ("mtu", network::mtu),
    ("nccl-lines", logs::nccl_lines),
    ("network-policy", cluster::network_policy),
    ("nodes", cluster::nodes),
    ("offline", env::offline),
    ("pods", cluster::pods),
    ("ranks", env::ranks),
    ("rdma", network::rdma),
    ("rdma-ports", network::rdma_ports),
    ("reach", network::reach),
    ("shm", host::shm),
    ("startup-probe", cluster::startup_probe),
    ("topology", gpus::topology),
    ("versions", host::versions),
    ("xid", gpus::xid),
];

static CHECKS: LazyLock<Vec<Check>> = LazyLock::new(|| {
    serde_yaml::from_str(include_str!("../../assets/checks.yaml")).unwrap_or_default()
});

/// Every check that is declared.
#[must_use]
pub fn declared() -> &'static [Check] {
    &CHECKS
}

/// Whether a judge of this name exists.
#[must_use]
pub fn has_judge(name: &str) -> bool {
    JUDGES.iter().any(|(n, _)| *n == name)
}

/// Whether there is a check or a probe of that name.
#[must_use]
pub fn known(name: &str) -> bool {
    let full = format!("check.{name}");
    let named = |c: &Check| c.id == name || c.id == full;
    declared().iter().any(named) || super::probes::get(name).is_some()
}

/// Names of the probes that feed a check, by its id, its id without `check.`, or the name of a probe itself.
#[must_use]
pub fn probes_of(name: &str) -> Vec<&'static str> {
    let full = format!("check.{name}");
    if let Some(c) = declared().iter().find(|c| c.id == name || c.id == full) {
        return c.probes.iter().map(String::as_str).collect();
    }
    super::probes::get(name)
        .map(|p| p.name)
        .into_iter()
        .collect()
}

/// Runs the checklist over what is known.
#[must_use]
pub fn run(scene: &Scene, model: &Model) -> Vec<CheckView> {
    over(scene, model, &informed(&model.pods, &model.probes))
}

/// The same, where the members are known already.
pub(super) fn over(scene: &Scene, model: &Model, members: &Members<'_>) -> Vec<CheckView> {
    let look = Look::of(scene, model, members);
    // Over a cluster there is a checklist before there is an answer.
    if model.sources.iter().next().is_none() && !look.live() {
        return Vec::new();
    }
    let one = |check: &'static Check| {
        let (_, judge) = JUDGES.iter().find(|(n, _)| *n == check.judge)?;
        let seen = judge(&look);
        let bad = matches!(
            seen.verdict,
            CheckVerdict::Fail | CheckVerdict::Warn | CheckVerdict::Unknown
        );
        let mut fix = Vec::new();
        if bad {
            fix.extend(seen.fix.iter().cloned());
            fix.extend(check.fix.iter().flat_map(|f| paste(f, &look.target, &seen)));
        }
        Some(CheckView {
            id: &check.id,
            title: check.title.clone(),
            verdict: seen.verdict,
            subject: seen.subject(),
            ran: seen.ran,
            output: seen.output,
            fix,
            at: seen.at.or(scene.now),
        })
    };
    declared().iter().filter_map(one).collect()
}

/// A fix with this workload's names in it, quoted for the shell.
fn paste(fix: &Fix, target: &Target, seen: &Seen) -> Vec<String> {
    let fill = |text: &str| {
        let first =
            |list: &[String], name: &str| list.first().map_or_else(|| name.to_owned(), |p| sh(p));
        let node = first(&seen.nodes, "NODE");
        // A name is never looked into for what stands for another.
        let parts = text
            .split("{pod}")
            .map(|part| part.replace("{node}", &node));
        parts.collect::<Vec<_>>().join(&first(&seen.pods, "POD"))
    };
    match fix {
        Fix::Do(text) => vec![fill(text)],
        Fix::Env(list) => list
            .iter()
            .map(|(name, value)| target.env(name, value.as_deref()))
            .collect(),
        Fix::Yaml(text) => vec![target.yaml(text)],
        Fix::Kubectl(text) => vec![target.kubectl(&fill(text))],
        Fix::Arg(text) => vec![target.arg(text)],
    }
}
