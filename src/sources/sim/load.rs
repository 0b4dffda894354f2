//! Finding, reading and checking scenario files; every refusal is one sentence.

use std::fmt;
use std::path::{Path, PathBuf};

use super::scenario::{Fault, Layout, Rdma, Scenario};
use super::shipped::SHIPPED;
use super::version::Version;
use crate::parse::nearest;

/// Why a scenario can't be played: one sentence each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScenarioError {
    /// No such name and no such file.
    Unknown {
        /// What was asked.
        asked: String,
    },
    /// The file can't be read.
    Unreadable {
        /// Path.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// The YAML is wrong, with line and column.
    Yaml {
        /// Name or path.
        file: String,
        /// Where, 1-based.
        at: Option<(u64, u64)>,
        /// What.
        why: String,
    },
    /// The YAML is well formed and can't be true.
    Impossible {
        /// Name or path.
        file: String,
        /// What.
        why: String,
    },
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { asked } => {
                write!(f, "there is no scenario {asked:?} and no such file; ")?;
                if let Some(near) = nearest(asked, SHIPPED.iter().map(|(name, _)| *name)) {
                    write!(f, "the nearest is {near}; ")?;
                }
                write!(f, "`ncclscope demo --list` names all")
            }
            Self::Unreadable { path, why } => {
                write!(f, "can't read the scenario {}: {why}", path.display())
            }
            Self::Yaml {
                file,
                at: Some((line, column)),
                why,
            } => {
                write!(f, "{file}: line {line}, column {column}: {why}")
            }
            Self::Yaml {
                file,
                at: None,
                why,
            } => write!(f, "{file}: {why}"),
            Self::Impossible { file, why } => write!(f, "{file}: {why}"),
        }
    }
}

impl std::error::Error for ScenarioError {}

/// Names and titles of the scenarios in the program, by name.
#[must_use]
pub fn list() -> Vec<(String, String)> {
    SHIPPED
        .iter()
        .map(|(name, text)| {
            let title = match parse(name, text) {
                Ok(s) => s.title,
                Err(e) => e.to_string(),
            };
            ((*name).to_owned(), title)
        })
        .collect()
}

/// A scenario of the program by name, or a file of the user's by path.
///
/// # Errors
/// A name that is neither, a file that can't be read, YAML that is wrong or can't be true.
pub fn load(name_or_path: &str) -> Result<Scenario, ScenarioError> {
    if let Some((name, text)) = SHIPPED.iter().find(|(name, _)| *name == name_or_path) {
        return parse(name, text);
    }
    let path = Path::new(name_or_path);
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mut scenario = parse(name_or_path, &text)?;
            if let Some(stem) = path.file_stem() {
                scenario.name = stem.to_string_lossy().into_owned();
            }
            Ok(scenario)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ScenarioError::Unknown {
            asked: name_or_path.to_owned(),
        }),
        Err(e) => Err(ScenarioError::Unreadable {
            path: path.to_owned(),
            why: e.to_string(),
        }),
    }
}

/// Reads and checks the text of a scenario; `file` stands in the errors.
///
/// # Errors
/// YAML that is wrong or can't be true.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let options = serde_yaml::options! { with_snippet: false };
    let mut scenario: Scenario = serde_yaml::from_str_with_options(text, options).map_err(|e| {
        let at = e.location().map(|l| (l.line(), l.column()));
        // The reader of YAML says where as well, at the end.
        let mut why = e.to_string();
        if at.is_some()
            && let Some(cut) = why.rfind(" at line ")
        {
            why.truncate(cut);
        }
        ScenarioError::Yaml {
            file: file.to_owned(),
            at,
            why,
        }
    })?;
    scenario.name = file.to_owned();
    scenario.check().map_err(|why| ScenarioError::Impossible {
        file: file.to_owned(),
        why,
    })?;
    Ok(scenario)
}

impl Scenario {
    fn check(&self) -> Result<(), String> {
        let Layout { tp, pp, dp } = self.layout;
        let world = self.world();
        if !(1..=1024).contains(&self.workload.pods)
            || !(1..=16).contains(&self.nodes.gpus)
            || world > 8192
        {
            return Err("1 to 1024 pods of 1 to 16 GPUs, at most 8192 ranks, can be played".into());
        }
        if tp.saturating_mul(pp).saturating_mul(dp) != world {
            return Err(format!(
                "layout tp {tp} × pp {pp} × dp {dp} does not fit {} pods of {} GPUs",
                self.workload.pods, self.nodes.gpus
            ));
        }
        if self.start.parse::<jiff::Timestamp>().is_err() {
            return Err(format!("start {:?} is no RFC 3339 time", self.start));
        }
        if self.versions.vllm < Version(0, 11, 1) {
            return Err("versions.vllm must be 0.11.1 or newer".into());
        }
        if self.versions.nccl < Version(2, 18, 3) {
            return Err("versions.nccl must be 2.18.3 or newer".into());
        }
        if self.nodes.rdma != Rdma::None && !(1..=16).contains(&self.nodes.nics) {
            return Err("nodes.nics must be 1 to 16 where nodes.rdma is set".into());
        }
        if !(1..=32).contains(&self.nodes.channels) || !(1..=32).contains(&self.nodes.net_channels)
        {
            return Err("nodes.channels and nodes.net-channels must be 1 to 32".into());
        }
        if !(self.lasts > 0.0 && self.lasts <= 86_400.0) {
            return Err("lasts must be more than 0 and at most 86400 seconds".into());
        }
        if !(0.0..self.lasts).contains(&self.watch_from) {
            return Err("watch-from must be less than lasts".into());
        }
        let p = &self.phases;
        let all = [
            p.schedule,
            p.pull,
            p.config,
            p.rendezvous,
            p.nccl,
            p.weights,
            p.compile,
            p.profile,
            p.graphs,
        ];
        if all.iter().any(|s| !(0.0..=86_400.0).contains(s)) {
            return Err("phases must be 0 to 86400 seconds each".into());
        }
        if self.model.shards == 0 || self.model.shards > 10_000 {
            return Err("model.shards must be 1 to 10000".into());
        }
        for fault in &self.faults {
            let (pods, ranks) = fault.reach();
            if let Some(p) = pods.iter().find(|p| **p >= self.workload.pods) {
                return Err(format!(
                    "a fault names pod {p}, there are {}",
                    self.workload.pods
                ));
            }
            if let Some(r) = ranks.iter().find(|r| **r >= world) {
                return Err(format!("a fault names rank {r}, there are {world}"));
            }
            if let Fault::Versions { nccl: Some(v), .. } = fault
                && *v < Version(2, 18, 3)
            {
                return Err("a fault's nccl must be 2.18.3 or newer".into());
            }
            if let Fault::Rank { after, .. }
            | Fault::Pod { after, .. }
            | Fault::Rotated { before: after, .. } = fault
                && !(0.0..=86_400.0).contains(after)
            {
                return Err("a fault's seconds must be 0 to 86400".into());
            }
        }
        Ok(())
    }
}
