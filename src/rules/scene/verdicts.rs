//! Conclusions with their proof: findings and checks.

use super::LineRef;
use crate::parse::At;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; never changes the verdict.
    Info,
    /// Degrades.
    Warning,
    /// Breaks.
    Error,
}

/// Confidence of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Suspicion.
    Possible,
    /// Strong, not proven.
    Likely,
    /// Proven by its evidence.
    Certain,
}

/// What kind of cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "words of the contract")]
pub enum Class {
    Hardware,
    Network,
    Platform,
    Configuration,
    Application,
    Resources,
}

/// What a finding stands on.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// A log line.
    Line(LineRef),
    /// A Kubernetes object: `pod/llm-0: status.containerStatuses[0].state.waiting.reason=ImagePullBackOff`.
    Object(String),
    /// A measured sample.
    Sample(String),
    /// A check by id and what it returned.
    Check(String),
}

/// A conclusion with its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// `id@subject`, unique and stable.
    pub key: String,
    /// Id of the contract.
    pub id: &'static str,
    /// Severity.
    pub severity: Severity,
    /// Class.
    pub class: Class,
    /// Confidence.
    pub confidence: Confidence,
    /// Title about this job.
    pub title: String,
    /// Since when.
    pub since: Option<At>,
    /// Ranks: of `communicator` if set, else global.
    pub ranks: Vec<u32>,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Pods.
    pub pods: Vec<String>,
    /// GPUs.
    pub gpus: Vec<String>,
    /// Communicator key.
    pub communicator: Option<String>,
    /// Never empty: see [`Finding::new`].
    evidence: Vec<Evidence>,
    /// Why it happens.
    pub cause: String,
    /// What to change, ready to paste.
    pub fix: Vec<String>,
    /// Key of the finding that explains this one.
    pub consequence_of: Option<String>,
}

impl Finding {
    /// A finding can't exist without a first piece of evidence.
    #[must_use]
    pub fn new(
        id: &'static str,
        subject: &str,
        severity: Severity,
        class: Class,
        first: Evidence,
    ) -> Self {
        Self {
            key: format!("{id}@{subject}"),
            id,
            severity,
            class,
            confidence: Confidence::Certain,
            title: String::new(),
            since: None,
            ranks: Vec::new(),
            hosts: Vec::new(),
            pods: Vec::new(),
            gpus: Vec::new(),
            communicator: None,
            evidence: vec![first],
            cause: String::new(),
            fix: Vec::new(),
            consequence_of: None,
        }
    }

    /// Adds proof.
    pub fn prove(&mut self, more: Evidence) {
        if !self.evidence.contains(&more) {
            self.evidence.push(more);
        }
    }

    /// The proof.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }
}

/// Verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "words of the contract")]
pub enum CheckVerdict {
    Pass,
    Warn,
    Fail,
    Waiting,
    Unknown,
    NotApplicable,
    Forbidden,
}

/// A check with its outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckView {
    /// `check.pods`.
    pub id: &'static str,
    /// Title.
    pub title: String,
    /// Outcome.
    pub verdict: CheckVerdict,
    /// About what.
    pub subject: String,
    /// What was run.
    pub ran: String,
    /// What came back, or why nothing did.
    pub output: String,
    /// Fix.
    pub fix: Vec<String>,
    /// When.
    pub at: Option<At>,
}
