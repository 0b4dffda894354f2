//! Who says how the job is cut, and which ranks belong into which pod.

use serde::Serialize;

use crate::rules::layout::{Engine, Seat, Told};

/// One engine: the pods of one group.
#[derive(Debug, Serialize)]
pub struct EngineEntry<'a> {
    /// Name or number of the group, where there is more than one.
    pub group: Option<&'a str>,
    /// What holds for all its pods.
    pub values: Vec<ToldEntry<'a>>,
    /// Why the sizes are not known although a command line is.
    pub open: Option<&'a str>,
    /// Its pods in rank order.
    pub pods: Vec<SeatEntry<'a>>,
}

/// A value and where it comes from.
#[derive(Debug, Serialize)]
pub struct ToldEntry<'a> {
    /// `TP`, `nodes`, `master` …
    pub name: &'static str,
    /// As it is written.
    pub value: &'a str,
    /// `log`, `command-line`, `env`.
    pub from: &'static str,
    /// `llm-0: --tensor-parallel-size=8`.
    pub by: &'a str,
    /// Other voices that say the same.
    pub also: Vec<&'static str>,
    /// Who says otherwise, in their words.
    pub against: &'a [String],
}

/// A pod and the ranks that belong into it.
#[derive(Debug, Serialize)]
pub struct SeatEntry<'a> {
    /// Pod.
    pub pod: &'a str,
    /// Node.
    pub node: Option<&'a str>,
    /// Global ranks; empty where that is not decided.
    pub global_ranks: &'a [u32],
    /// Why there are none.
    pub open: Option<&'a str>,
    /// What it is told for itself.
    pub values: Vec<ToldEntry<'a>>,
}

fn told(t: &Told) -> ToldEntry<'_> {
    ToldEntry {
        name: t.name,
        value: &t.value,
        from: t.voice.word(),
        by: &t.by,
        also: t.also.iter().map(|v| v.word()).collect(),
        against: &t.against,
    }
}

fn seat(s: &Seat) -> SeatEntry<'_> {
    SeatEntry {
        pod: &s.pod,
        node: s.node.as_deref(),
        global_ranks: &s.ranks,
        open: s.open.as_deref(),
        values: s.told.iter().map(told).collect(),
    }
}

pub(super) fn of(e: &Engine) -> EngineEntry<'_> {
    EngineEntry {
        group: e.group.as_deref(),
        values: e.values.iter().map(told).collect(),
        open: e.open.as_deref(),
        pods: e.seats.iter().map(seat).collect(),
    }
}
