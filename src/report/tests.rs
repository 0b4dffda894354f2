//! The all-reduce test in the words of the contract.

use serde::Serialize;

use crate::rules::busbw::Grade;
use crate::rules::testing::TestView;

/// A test.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct TestEntry<'a> {
    pub id: &'a str,
    pub phase: Option<&'static str>,
    pub verdict: &'static str,
    pub ranks: usize,
    /// What the verdict says; beyond the contract.
    pub summary: &'a str,
    pub rows: Vec<TestRow<'a>>,
}

/// One size by one way in one type; bandwidths in 10⁹ bytes a second.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are the contract's")]
pub struct TestRow<'a> {
    pub backend: &'static str,
    pub dtype: &'a str,
    pub bytes: u64,
    pub time_us: f64,
    pub algbw: f64,
    pub busbw: f64,
    /// Null where nothing was checked.
    pub wrong: Option<u64>,
}

/// Name of the test's Job.
pub(super) fn id(test: &TestView) -> &str {
    test.planned.as_ref().map_or("", |p| p.job.as_str())
}

/// The entry of a test.
pub(super) fn of(test: &TestView) -> TestEntry<'_> {
    let rows = test.series.iter().flat_map(|s| {
        s.points.iter().map(|(bytes, (half, wrong))| TestRow {
            backend: match s.by.as_str() {
                "gloo" => "gloo",
                "pynccl" => "pynccl",
                _ => "nccl",
            },
            dtype: &s.kind,
            bytes: *bytes,
            time_us: half.us,
            algbw: half.algbw,
            busbw: half.busbw,
            wrong: *wrong,
        })
    });
    TestEntry {
        id: id(test),
        phase: test.phase(),
        verdict: match test.verdict.as_ref().map(|v| v.grade) {
            Some(Grade::Good) => "good",
            Some(Grade::Warn) => "warn",
            Some(Grade::Below) => "bad",
            Some(Grade::Wrong) => "wrong",
            Some(Grade::Failed | Grade::Undecided) | None => "undecided",
        },
        ranks: test.ranks,
        summary: &test.sentence,
        rows: rows.collect(),
    }
}
