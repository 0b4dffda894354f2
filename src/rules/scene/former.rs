//! A run that is over.

use std::sync::Arc;

use super::{Communicator, Finding, LineRef, ProcessView, Stage, Verdict};
use crate::parse::At;

/// A run that ended inside logs that go on with another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Former {
    /// How many runs ago: 1 is the one before the present one.
    pub ago: u32,
    /// Its logs, as a sentence names them.
    pub names: String,
    /// File and line where the next one begins.
    pub before: String,
    /// What it came to.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// The first line of the run after it.
    pub next: LineRef,
    /// Its last stamp.
    pub last_at: Option<At>,
    /// The furthest stage of its ranks.
    pub stage: Option<Stage>,
    /// Its processes.
    pub processes: Vec<ProcessView>,
    /// Its communicators; their members are among its own processes.
    pub communicators: Vec<Arc<Communicator>>,
    /// Why it ended, unless it was asked to: one of the scene's findings.
    pub end: Option<Finding>,
}

impl Former {
    /// One line about it.
    #[must_use]
    pub fn sentence(&self) -> String {
        let when = match self.ago {
            1 => "the run before this one".to_owned(),
            n => format!("{n} runs ago"),
        };
        format!("{when}, before {}: {}", self.before, self.summary)
    }
}
