//! The result file of nccl-tests, which holds the whole environment of who ran it.

use std::fmt::Write as _;

use super::{Half, Row, may_show};

/// The result file of nccl-tests (`-J`).
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Version of nccl-tests.
    pub version: Option<String>,
    /// Rows.
    pub rows: Vec<Row>,
    /// Its environment dump: values of communication settings alone. It may hold tokens, so the rest is counted.
    pub env: Vec<(String, String)>,
    /// Variables that are not shown.
    pub hidden: usize,
    /// Wrong elements in all.
    pub wrong: Option<u64>,
    /// Errors in its own words.
    pub errors: Vec<String>,
}

impl File {
    /// What it says, as nccl-tests print it: a line for each thing, and no value that is not shown.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let version = self.version.as_deref().unwrap_or("unknown");
        let _ = writeln!(out, "# nccl-tests version {version}");
        for (name, value) in &self.env {
            let _ = writeln!(out, "# {name}={value}");
        }
        let _ = writeln!(out, "# {} other variables are not shown", self.hidden);
        let half = |h: Option<Half>| {
            h.map_or_else(String::new, |h| {
                let wrong = h.wrong.map_or("N/A".to_owned(), |w| w.to_string());
                format!("{:.2} {:.2} {:.2} {wrong}", h.us, h.algbw, h.busbw)
            })
        };
        for row in &self.rows {
            let _ = writeln!(
                out,
                "{:>12} {:>12} {:>9} sum -1 {} {}",
                row.bytes,
                row.count,
                row.kind,
                half(row.out_of_place),
                half(row.in_place)
            );
        }
        if let Some(wrong) = self.wrong {
            let word = if wrong == 0 { "OK" } else { "FAILED" };
            let _ = writeln!(out, "# Out of bounds values : {wrong} {word}");
        }
        for error in &self.errors {
            let _ = writeln!(out, "# error: {error}");
        }
        out
    }
}

/// Whether this could be the beginning of such a file.
#[must_use]
pub fn is_file(first: &[u8]) -> bool {
    let has = |key: &str| memchr::memmem::find(first, key.as_bytes()).is_some();
    first.trim_ascii_start().starts_with(b"{")
        && ["\"version\"", "\"start_time\"", "\"args\""]
            .into_iter()
            .all(has)
}

/// Reads the result file of nccl-tests; `None` if it is something else.
#[must_use]
pub fn file(json: &[u8]) -> Option<File> {
    use serde_json::Value;
    let value: Value = serde_json::from_slice(json).ok()?;
    let results = value.get("results")?.as_array()?;
    // Booleans and numbers that are not numbers come as strings.
    let number = |v: &Value| {
        v.as_f64()
            .or_else(|| v.as_str()?.parse().ok())
            .filter(|x| x.is_finite())
    };
    let half = |v: &Value| {
        Some(Half {
            us: number(v.get("time").or_else(|| v.get("cpu_time"))?)?,
            algbw: number(v.get("alg_bw")?)?,
            busbw: number(v.get("bus_bw")?)?,
            wrong: v
                .get("nwrong")
                .and_then(|w| w.as_u64().or_else(|| w.as_str()?.parse().ok())),
        })
    };
    let mut rows = Vec::new();
    for r in results {
        let row = Row {
            run: None,
            by: "nccl-tests".into(),
            bytes: r.get("size")?.as_u64()?,
            count: r.get("count")?.as_u64()?,
            kind: r.get("type")?.as_str()?.to_owned(),
            world: None,
            out_of_place: r.get("out_of_place").and_then(half),
            in_place: r.get("in_place").and_then(half),
            spread: None,
        };
        if row.best().is_some() {
            rows.push(row);
        }
    }
    let mut env = Vec::new();
    let mut hidden = 0;
    for entry in value
        .get("env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        match entry.as_str().and_then(|e| e.split_once('=')) {
            Some((name, v)) if may_show(name) => env.push((name.to_owned(), v.to_owned())),
            _ => hidden += 1,
        }
    }
    env.sort();
    let texts = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    Some(File {
        version: value.get("version").and_then(texts),
        rows,
        env,
        hidden,
        wrong: value
            .get("out_of_bounds")
            .and_then(|o| o.get("count")?.as_u64()),
        errors: value
            .get("errors")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(texts)
            .collect(),
    })
}
