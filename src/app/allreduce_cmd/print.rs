//! What a test says while it runs: rows to standard output, the rest to standard error.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Format, complain};
use crate::jobs::plan::Plan;
use crate::model::testrun::{Planned, TestRun};
use crate::parse::clean;
use crate::parse::perf::Row;
use crate::report::redact::Redactor;
use crate::rules::busbw::{Verdict, size};
use crate::rules::scene::Glyph;
use crate::rules::testing::Compared;

/// The ways out: nothing that is secret passes, and nothing that a terminal would obey.
pub(super) struct Say<'r>(pub(super) &'r mut Redactor);

impl Say<'_> {
    /// A line of JSON to standard output.
    fn line(&mut self, mut value: Value) -> bool {
        self.0.tree(&mut value);
        let mut out = io::stdout().lock();
        writeln!(out, "{value}").and_then(|()| out.flush()).is_ok()
    }

    /// A line to standard output, without what pods could have hidden in it. False when nobody reads it any more.
    fn out(&mut self, line: &str) -> bool {
        let line = clean(line.as_bytes());
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.0.text(&line))
            .and_then(|()| out.flush())
            .is_ok()
    }

    /// A line to standard error.
    fn note(&mut self, line: &str) {
        complain(&self.0.text(line));
    }
}

/// Prints each thing once.
pub(super) struct Printer {
    format: Format,
    rows: usize,
    failures: usize,
    phases: usize,
    note: Option<String>,
    skipped: usize,
    header: bool,
    /// Rates between two pods that were told: the first, and whether the second turn's was.
    pairs: BTreeMap<(u32, u32), bool>,
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
            pairs: BTreeMap::new(),
        }
    }

    /// Prints what is new. False when nobody reads the rows any more.
    pub(super) fn news(&mut self, run: &TestRun, say: &mut Say<'_>) -> bool {
        for (phase, _, note) in run.phases.iter().skip(self.phases) {
            // The last one's note is said below, with those that come later.
            self.note = None;
            if note.is_none() {
                say.note(&format!("-- {}", phase.word()));
            }
            if self.format == Format::Json
                && !say.line(json!({"type": "phase", "phase": phase, "note": note}))
            {
                return false;
            }
        }
        self.phases = run.phases.len();
        if let Some((phase, _, Some(note))) = run.phases.last()
            && self.note.as_ref() != Some(note)
        {
            say.note(&format!("-- {}: {note}", phase.word()));
            self.note = Some(note.clone());
        }
        for failure in run.failures.iter().skip(self.failures) {
            let mark = if failure.echo { "  after it" } else { "FAILED" };
            say.note(&format!("{mark}: {failure}"));
            if self.format == Format::Json {
                let line = json!({"type": "failure", "rank": failure.rank, "step": failure.step, "error": failure.error, "echo": failure.echo});
                if !say.line(line) {
                    return false;
                }
            }
        }
        self.failures = run.failures.len();
        for (step, why) in run.skipped.iter().skip(self.skipped) {
            say.note(&format!("-- {step} left out: {why}"));
        }
        self.skipped = run.skipped.len();
        for row in run.rows.iter().skip(self.rows) {
            let told = match self.format {
                Format::Text => self.text(row, say),
                Format::Json => say.line(of_row(row)),
            };
            if !told {
                return false;
            }
        }
        self.rows = run.rows.len();
        self.pairs(run, say)
    }

    /// Rates between two pods, each turn once.
    fn pairs(&mut self, run: &TestRun, say: &mut Say<'_>) -> bool {
        for (&(a, b), rate) in &run.pairs {
            let told = self.pairs.get(&(a, b)).copied();
            let again = rate.again.is_some();
            if told.is_some_and(|t| t || !again) {
                continue;
            }
            self.pairs.insert((a, b), again);
            let (first, second) = (run.pod_name(a), run.pod_name(b));
            let busbw = rate.again.unwrap_or(rate.first);
            let told = match self.format {
                Format::Json => say.line(json!({
                    "type": "pair", "a": first, "b": second, "busbw": busbw, "alone": again, "wrong": rate.wrong,
                })),
                Format::Text => {
                    let turn = if again { "alone" } else { "among others" };
                    say.out(&format!(
                        "{:<10} {first} to {second}: {busbw:.2} GB/s {turn}, {} wrong",
                        "pair", rate.wrong
                    ))
                }
            };
            if !told {
                return false;
            }
        }
        true
    }

    fn text(&mut self, row: &Row, say: &mut Say<'_>) -> bool {
        if !self.header {
            self.header = true;
            let head = format!(
                "{:<10} {:<9} {:>9} {:>12} {:>10} {:>10} {:>6}",
                "by", "type", "size", "time us", "algbw GB/s", "busbw GB/s", "wrong"
            );
            if !say.out(&head) {
                return false;
            }
        }
        let Some(half) = row.best() else { return true };
        let wrong = row.wrong().map_or("-".to_owned(), |w| w.to_string());
        say.out(&format!(
            "{:<10} {:<9} {:>9} {:>12.2} {:>10.2} {:>10.2} {wrong:>6}",
            row.by,
            row.kind,
            size(row.bytes),
            half.us,
            half.algbw,
            half.busbw
        ))
    }

    /// What is left in the cluster.
    pub(super) fn cleaned(&self, plan: &Plan, left: &[String], say: &mut Say<'_>) {
        if left.is_empty() {
            say.note(&format!("removed {}", plan.objects().join(", ")));
        } else {
            say.note(&format!(
                "STILL THERE: {}; `ncclscope allreduce --clean -n {}` removes it",
                left.join(", "),
                plan.namespace
            ));
        }
    }

    /// The verdict: last line.
    pub(super) fn verdict(
        &self,
        planned: &Planned,
        run: &TestRun,
        verdict: &Verdict,
        compared: &[Compared],
        say: &mut Say<'_>,
    ) {
        match self.format {
            Format::Text => {
                let transports = run.transports();
                if !transports.is_empty() {
                    say.note(&format!("NCCL used {transports}"));
                }
                for place in compared {
                    say.note(&place.sentence());
                }
                if let Some(source) = &verdict.source {
                    say.note(&format!("expectation: {source}"));
                }
                let _ = say.out(&format!("{}: {}", verdict.grade.word(), verdict.sentence));
            }
            Format::Json => {
                let mut value = serde_json::to_value(verdict).unwrap_or(Value::Null);
                if let Value::Object(map) = &mut value {
                    map.insert("type".into(), "verdict".into());
                    map.insert("job".into(), planned.job.as_str().into());
                    map.insert("namespace".into(), planned.namespace.as_str().into());
                    map.insert("ranks".into(), planned.world().into());
                    map.insert("left".into(), json!(run.left));
                    let places: Vec<Value> = compared.iter().map(of_place).collect();
                    map.insert("transports".into(), places.into());
                }
                let _ = say.line(value);
            }
        }
    }
}

fn of_place(place: &Compared) -> Value {
    let side = |all: &[(Glyph, usize)]| -> BTreeMap<&str, usize> {
        all.iter().map(|(g, n)| (g.words(), *n)).collect()
    };
    json!({
        "place": place.place, "workload": side(&place.workload), "test": side(&place.test), "outcome": place.outcome(),
    })
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
