//! Findings: what is wrong, why, proven by what, and what to change.
//!
//! A rule looks at the scene (and at the model for the lines behind it) and pushes findings. Ids are the
//! contract's; one finding per id and smallest common subject; no finding without evidence.

mod network;
mod start;

use super::comms::Joined;
use super::scene::{Finding, LineRef, Scene, Severity};
use crate::model::Model;
use crate::parse::At;

/// Ids that some rule can raise.
pub const KNOWN: &[&str] = &[
    "log.rotated-away",
    "nccl.connect-timeout",
    "nccl.missing-ranks",
    "nccl.same-host-net",
    "nccl.socket-despite-rdma",
    "nccl.version-mismatch",
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
}

/// Runs every rule; sorts root causes first by severity, age and key.
pub fn find(scene: &mut Scene, model: &Model, joined: &Joined, order: &[u32]) {
    let view = View {
        scene,
        model,
        joined,
        order,
    };
    let mut found = Vec::new();
    network::same_host_net(&view, &mut found);
    network::socket_despite_rdma(&view, &mut found);
    start::missing_ranks(&view, &mut found);
    start::version_mismatch(&view, &mut found);
    start::connect_timeout(&view, &mut found);
    start::rotated_away(&view, &mut found);
    found.sort_by(|a, b| rank(a).cmp(&rank(b)));
    scene.findings = found;
}

type Order<'a> = (bool, std::cmp::Reverse<Severity>, i64, &'a str);

fn rank(f: &Finding) -> Order<'_> {
    (
        f.consequence_of.is_some(),
        std::cmp::Reverse(f.severity),
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

/// `0-3, 7`.
#[must_use]
pub fn ranges(numbers: &[u32]) -> String {
    let mut out = String::new();
    let mut it = numbers.iter().copied().peekable();
    while let Some(first) = it.next() {
        let mut last = first;
        while it.peek() == Some(&(last + 1)) {
            last += 1;
            it.next();
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&first.to_string());
        if last > first {
            out.push('-');
            out.push_str(&last.to_string());
        }
    }
    out
}
