//! What the worker prints: lines of JSON behind the script's prefix, and rows for people beside them.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::parse::perf::PREFIX;

/// Lines of one run.
pub struct Lines<'a, W> {
    run: &'a str,
    out: W,
    before: fn(),
}

impl<'a, W: Write> Lines<'a, W> {
    /// Lines of this run.
    pub fn new(run: &'a str, out: W) -> Self {
        Self {
            run,
            out,
            before: || {},
        }
    }

    /// Before each line this is done.
    #[must_use]
    pub(super) fn after(self, before: fn()) -> Self {
        Self { before, ..self }
    }

    /// What happened in a step.
    pub(super) fn step(&mut self, rank: Option<usize>, step: &str, status: &str, more: Value) {
        let t = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let t = i64::try_from(t.as_nanos()).unwrap_or(i64::MAX);
        let mut line = json!({
            "v": 1, "t": t, "run": self.run, "rank": rank, "step": step, "status": status,
        });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        self.text(&format!("{PREFIX}{line}"));
    }

    /// A line for people.
    pub(super) fn text(&mut self, line: &str) {
        (self.before)();
        // Nobody reads it: then there is nobody to fail for.
        let _ = self.out.write_all(format!("{line}\n").as_bytes());
        let _ = self.out.flush();
    }
}
