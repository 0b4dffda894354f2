//! What a test says while it runs: rows to standard output, the rest to standard error.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Format, complain};
use crate::jobs::plan::Plan;
use crate::model::testrun::TestRun;
use crate::parse::perf::Row;
use crate::rules::busbw::{Verdict, size};

/// Prints each thing once.
pub(super) struct Printer {
    format: Format,
    rows: usize,
    failures: usize,
    phases: usize,
    note: Option<String>,
    skipped: usize,
    header: bool,
}

impl Printer {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            rows: 0,
            failures: 0,
            phases: 0,
            note: None,
            skipped: 0,
            header: false,
        }
    }

    /// Prints what is new. False when nobody reads the rows any more.
    pub(super) fn news(&mut self, run: &TestRun) -> bool {
        for (phase, _, note) in run.phases.iter().skip(self.phases) {
            // The last one's note is said below, with those that come later.
            self.note = None;
            if note.is_none() {
                complain(&format!("-- {}", phase.word()));
            }
            if self.format == Format::Json
                && !self.line(&json!({"type": "phase", "phase": phase, "note": note}))
            {
                return false;
            }
        }
        self.phases = run.phases.len();
        if let Some((phase, _, Some(note))) = run.phases.last()
            && self.note.as_ref() != Some(note)
        {
            complain(&format!("-- {}: {note}", phase.word()));
            self.note = Some(note.clone());
        }
        for failure in run.failures.iter().skip(self.failures) {
            let mark = if failure.echo { "  after it" } else { "FAILED" };
            complain(&format!("{mark}: {failure}"));
            if self.format == Format::Json {
                let line = json!({"type": "failure", "rank": failure.rank, "step": failure.step, "error": failure.error, "echo": failure.echo});
                if !self.line(&line) {
                    return false;
                }
            }
        }
        self.failures = run.failures.len();
        for (step, why) in run.skipped.iter().skip(self.skipped) {
            complain(&format!("-- {step} left out: {why}"));
        }
        self.skipped = run.skipped.len();
        for row in run.rows.iter().skip(self.rows) {
            let told = match self.format {
                Format::Text => self.text(row),
                Format::Json => self.line(&of_row(row)),
            };
            if !told {
                return false;
            }
        }
        self.rows = run.rows.len();
        true
    }

    fn text(&mut self, row: &Row) -> bool {
        let mut out = io::stdout().lock();
        if !self.header {
            self.header = true;
            let head = writeln!(
                out,
                "{:<10} {:<9} {:>9} {:>12} {:>10} {:>10} {:>6}",
                "by", "type", "size", "time us", "algbw GB/s", "busbw GB/s", "wrong"
            );
            if head.is_err() {
                return false;
            }
        }
        let Some(half) = row.best() else { return true };
        let wrong = row.wrong().map_or("-".to_owned(), |w| w.to_string());
        writeln!(
            out,
            "{:<10} {:<9} {:>9} {:>12.2} {:>10.2} {:>10.2} {wrong:>6}",
            row.by,
            row.kind,
            size(row.bytes),
            half.us,
            half.algbw,
            half.busbw
        )
        .and_then(|()| out.flush())
        .is_ok()
    }

    fn line(&self, value: &Value) -> bool {
        let mut out = io::stdout().lock();
        writeln!(out, "{value}").and_then(|()| out.flush()).is_ok()
    }

    /// What is left in the cluster.
    pub(super) fn cleaned(&self, plan: &Plan, left: &[String]) {
        if left.is_empty() {
            complain(&format!("removed {}", plan.objects().join(", ")));
        } else {
            complain(&format!(
                "STILL THERE: {}; `ncclscope allreduce --clean -n {}` removes it",
                left.join(", "),
                plan.namespace
            ));
        }
    }

    /// The verdict: last line.
    pub(super) fn verdict(&self, plan: &Plan, run: &TestRun, verdict: &Verdict) {
        match self.format {
            Format::Text => {
                let transports = run.transports();
                if !transports.is_empty() {
                    complain(&format!("NCCL used {transports}"));
                }
                if let Some(source) = &verdict.source {
                    complain(&format!("expected after: {source}"));
                }
                let mut out = io::stdout().lock();
                let _ = writeln!(out, "{}: {}", verdict.grade.word(), verdict.sentence);
            }
            Format::Json => {
                let mut value = serde_json::to_value(verdict).unwrap_or(Value::Null);
                if let Value::Object(map) = &mut value {
                    map.insert("type".into(), "verdict".into());
                    map.insert("job".into(), plan.name().into());
                    map.insert("namespace".into(), plan.namespace.as_str().into());
                    map.insert("ranks".into(), plan.world().into());
                    map.insert("left".into(), json!(run.left));
                }
                let _ = self.line(&value);
            }
        }
    }
}

fn of_row(row: &Row) -> Value {
    let half = |h: Option<crate::parse::perf::Half>| {
        h.map(|h| json!({"us": h.us, "algbw": h.algbw, "busbw": h.busbw, "wrong": h.wrong}))
    };
    json!({
        "type": "row", "by": row.by, "bytes": row.bytes, "count": row.count, "dtype": row.kind,
        "ranks": row.world, "out_of_place": half(row.out_of_place), "in_place": half(row.in_place),
        "slowest": row.spread.map(|(rank, _)| rank), "spread": row.spread.map(|(_, s)| s),
    })
}
