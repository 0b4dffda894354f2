//! vLLM's lines, worded and attributed as its version words and attributes them: who prints what changes
//! from release to release.

mod end;
mod start;

use std::fmt::Write as _;

use crate::parse::Nanos;
use crate::sources::sim::plan::{Plan, Pod, Rank};
use crate::sources::sim::scenario::Scenario;
use crate::sources::sim::version::Version;

use super::Pen;

const MS: Nanos = 1_000_000;

/// Formats a time of the containers' clocks, which run in UTC.
#[must_use]
pub fn strftime(at: Nanos, format: &str) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at))
        .map_or_else(|_| String::new(), |t| t.strftime(format).to_string())
}

/// A record: `LEVEL [file.py:N] message` behind its prefix becomes a line with the date of the moment.
#[must_use]
pub fn record(prefix: &str, at: Nanos, text: &str) -> String {
    let (level, rest) = text.split_once(' ').unwrap_or(("INFO", text));
    format!("{prefix}{level} {} {rest}", strftime(at, "%m-%d %H:%M:%S"))
}

/// A process prefix with the colours of its time.
fn prefix(s: &Scenario, name: &str, pid: u64) -> String {
    let v = s.versions.vllm;
    if v < Version(0, 12, 0) {
        format!("\x1b[1;36m({name} pid={pid})\x1b[0;0m ")
    } else if v < Version(0, 18, 0) {
        format!("\x1b[0;36m({name} pid={pid})\x1b[0m ")
    } else {
        format!("({name} pid={pid}) ")
    }
}

/// Prefix of the API server.
#[must_use]
pub fn api(s: &Scenario) -> String {
    prefix(s, "APIServer", 1)
}

/// Prefix of an engine core.
#[must_use]
pub fn engine(s: &Scenario, dp: usize) -> String {
    let name = if s.versions.vllm >= Version(0, 18, 0) && s.layout.dp == 1 {
        "EngineCore".to_owned()
    } else {
        format!("EngineCore_DP{dp}")
    };
    prefix(s, &name, 271 + 3 * dp as u64)
}

/// Prefix of a worker, before or after it knows its place.
#[must_use]
pub fn worker(s: &Scenario, rank: &Rank, placed: bool) -> String {
    let mut name = String::from("Worker");
    if placed {
        if s.layout.dp > 1 {
            let _ = write!(name, "_DP{}", rank.dp);
        }
        if s.layout.pp > 1 {
            let _ = write!(name, "_PP{}", rank.pp);
        }
        if s.layout.tp > 1 {
            let _ = write!(name, "_TP{}", rank.tp);
        }
        if s.model.moe && s.layout.dp > 1 {
            let _ = write!(name, "_EP{}", rank.ep);
        }
    }
    prefix(s, &name, rank.pid)
}

/// Address that everybody meets at: the first pod's name in the headless service.
#[must_use]
pub fn master(s: &Scenario) -> String {
    format!(
        "{}-0.{}.{}",
        s.workload.name, s.workload.name, s.workload.namespace
    )
}

/// Writes the log of every process of every pod.
pub fn write(s: &Scenario, plan: &Plan, pens: &mut [Pen]) {
    for pod in &plan.pods {
        if let Some(pen) = pens.get_mut(pod.index) {
            Book { s, plan, pod, pen }.pod();
        }
    }
}

struct Book<'a> {
    s: &'a Scenario,
    plan: &'a Plan,
    pod: &'a Pod,
    pen: &'a mut Pen,
}
