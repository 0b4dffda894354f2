//! Answers of probes: what the scripts in `assets/probes` print, as facts. Unknown stays unknown.
//!
//! A script answers in lines of fields parted by tabs, the first of which says what the line is about. `failed`
//! and `absent` tell of tools that did not answer; the judgement is in the rules.

pub mod config;
mod gpus;
mod host;
mod model;
mod net;
pub mod policy;

pub use config::ServeConfig;
pub use gpus::{App, Ecc, Gpu, GpuMemory, Gpus, Link, Remap, Topology};
pub use host::{Environment, Limits, Shm, Versions};
pub use model::{Access, Cache, Head, Model, Step};
pub use net::{Gid, Interfaces, Port, Rdma, Reach, Reached, Tcp};
pub use policy::Policies;

/// What a probe found, understood.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "one per probe of the catalogue, named alike")]
pub enum Answer {
    Reach(Reach),
    Gpus(Gpus),
    GpuMemory(GpuMemory),
    Model(Model),
    Access(Access),
    Environment(Environment),
    Shm(Shm),
    Limits(Limits),
    Rdma(Rdma),
    Topology(Topology),
    Interfaces(Interfaces),
    Versions(Versions),
    /// Nanoseconds since the Unix epoch.
    Clock(i64),
    Policies(Policies),
    ServeConfig(ServeConfig),
}

/// A tool that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it was run for: the word of its lines.
    pub what: String,
    /// Why: `nvidia-smi is not there`, or what it said.
    pub why: String,
}

/// Understands the standard output of the probe of this name; nothing where the name is not known or nothing
/// in the answer is.
#[must_use]
pub fn answer(probe: &str, out: &str) -> Option<Answer> {
    let a = match probe {
        "reach" => Answer::Reach(Reach::read(out)),
        "gpus" => Answer::Gpus(Gpus::read(out)),
        "gpu-memory" => Answer::GpuMemory(GpuMemory::read(out)),
        "model-files" => Answer::Model(Model::read(out)),
        "model-access" => Answer::Access(Access::read(out)),
        "env" => Answer::Environment(Environment::read(out)),
        "shm" => Answer::Shm(Shm::read(out)?),
        "limits" => Answer::Limits(Limits::read(out)),
        "rdma" => Answer::Rdma(Rdma::read(out)),
        "topo" => Answer::Topology(Topology::read(out)),
        "interfaces" => Answer::Interfaces(Interfaces::read(out)),
        "versions" => Answer::Versions(Versions::read(out)),
        "clock" => Answer::Clock(clock(out)?),
        "serve-config" | "serve-config-map" => Answer::ServeConfig(ServeConfig::read(out)?),
        "network-policies" => Answer::Policies(Policies::read(out)?),
        _ => return None,
    };
    Some(a)
}

/// Lines of an answer: the word and its fields, cleaned.
fn rows(out: &str) -> impl Iterator<Item = (String, Row)> + '_ {
    out.lines().map(|l| {
        let mut fields = l
            .split('\t')
            .map(|f| super::clean(f.as_bytes()))
            .collect::<Vec<_>>()
            .into_iter();
        (fields.next().unwrap_or_default(), Row(fields.collect()))
    })
}

/// Fields of a line.
struct Row(Vec<String>);

impl Row {
    fn get(&self, i: usize) -> Option<&str> {
        self.0.get(i).map(|f| f.trim()).filter(|f| !f.is_empty())
    }

    fn text(&self, i: usize) -> String {
        self.get(i).unwrap_or_default().to_owned()
    }

    fn num<N: std::str::FromStr>(&self, i: usize) -> Option<N> {
        self.get(i)?.parse().ok()
    }
}

/// `failed WHAT CODE TEXT` and `absent WHAT TOOL`.
fn trouble(word: &str, row: &Row) -> Option<Trouble> {
    match word {
        "failed" => Some(Trouble {
            what: row.text(0),
            why: row.get(2).unwrap_or("it failed").to_owned(),
        }),
        "absent" => Some(Trouble {
            what: row.text(0),
            why: format!("{} is not there", row.get(1).unwrap_or("the tool")),
        }),
        _ => None,
    }
}

/// `now 1700000000.123456789`.
fn clock(out: &str) -> Option<i64> {
    let (_, row) = rows(out).find(|(w, _)| w == "now")?;
    let text = row.get(0)?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let digits: String = part.chars().chain(std::iter::repeat('0')).take(9).collect();
    whole
        .checked_mul(1_000_000_000)?
        .checked_add(digits.parse().ok()?)
}
