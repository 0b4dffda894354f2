//! The grade of an all-reduce test: measured beside what such hardware gives elsewhere.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::pairs;
use super::scene::Glyph;
use crate::model::testrun::{Ending, TestRun};
use crate::parse::perf::Row;

const BUNDLED: &str = include_str!("../../assets/busbw.yaml");
/// Below this size latency decides, not bandwidth: bytes.
const LARGE: u64 = 256 << 20;
/// From here on it is good.
const GOOD: f64 = 0.9;
/// From here on it is bearable.
const BEARABLE: f64 = 0.7;
/// Below this another transport than expected is at work.
const OTHER_TRANSPORT: f64 = 0.3;

/// Expected bandwidths.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    hosts: Vec<Host>,
    rdma: Vec<Net>,
    tcp: Vec<Net>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    all: Vec<String>,
    #[serde(default)]
    none: Vec<String>,
    ranks: BTreeMap<u32, f64>,
    needs: Option<String>,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Net {
    rate: f64,
    expect: f64,
    source: String,
}

impl Table {
    /// Ours. Without a row if it can't be read, which a test forbids.
    #[must_use]
    pub fn bundled() -> Self {
        Self::read(BUNDLED).unwrap_or(Self {
            hosts: Vec::new(),
            rdma: Vec::new(),
            tcp: Vec::new(),
        })
    }

    /// Ours, read once.
    #[must_use]
    pub fn shared() -> &'static Self {
        static TABLE: LazyLock<Table> = LazyLock::new(Table::bundled);
        &TABLE
    }

    /// Reads one; the error says where.
    pub fn read(yaml: &str) -> Result<Self, String> {
        serde_yaml::from_str(yaml).map_err(|e| e.to_string())
    }

    fn host(&self, gpu: &str, ranks: u32) -> Option<(f64, &Host)> {
        let row = self.hosts.iter().find(|h| {
            h.all.iter().all(|w| gpu.contains(w.as_str()))
                && !h.none.iter().any(|w| gpu.contains(w.as_str()))
        })?;
        let (_, expect) = row.ranks.range(..=ranks).next_back()?;
        Some((*expect, row))
    }
}

fn nearest(rows: &[Net], rate: f64) -> Option<&Net> {
    let off = |n: &&Net| (n.rate / rate - 1.0).abs();
    let best = rows.iter().min_by(|a, b| off(a).total_cmp(&off(b)))?;
    (off(&best) <= 0.2).then_some(best)
}

/// How good it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// 0.9 of what is expected and more, and correct.
    Good,
    /// 0.7 and more.
    Warn,
    /// Less.
    Below,
    /// An element was wrong.
    Wrong,
    /// It did not get as far as a measurement.
    Failed,
    /// Nothing to compare with, or the sweep is incomplete.
    Undecided,
}

impl Grade {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Below => "below",
            Self::Wrong => "wrong result",
            Self::Failed => "could not run",
            Self::Undecided => "not decided",
        }
    }

    /// The exit code of `ncclscope allreduce`.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Good | Self::Warn => 0,
            Self::Below | Self::Wrong => 1,
            Self::Failed => 2,
            Self::Undecided => 3,
        }
    }
}

/// The verdict on a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Grade.
    pub grade: Grade,
    /// One sentence for a person.
    pub sentence: String,
    /// Bus bandwidth of the largest row, GB/s.
    pub measured: Option<f64>,
    /// Its size, bytes.
    pub bytes: Option<u64>,
    /// Its type.
    pub kind: Option<String>,
    /// Expected bus bandwidth, GB/s.
    pub expected: Option<f64>,
    /// Where that number comes from.
    pub source: Option<String>,
    /// What the transports that the workload itself chose between its hosts can give at best, GB/s.
    pub workload: Option<f64>,
}

/// What is expected, from what the ranks told of GPUs and networks.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    busbw: f64,
    limit: String,
    source: String,
}

/// Grades a test that has ended.
#[must_use]
pub fn grade(run: &TestRun, table: &Table) -> Verdict {
    let largest = largest(run);
    let best = largest.and_then(Row::best);
    let mut verdict = Verdict {
        grade: Grade::Undecided,
        sentence: String::new(),
        measured: best.map(|h| h.busbw),
        bytes: largest.map(|r| r.bytes),
        kind: largest.map(|r| r.kind.clone()),
        expected: None,
        source: None,
        workload: None,
    };
    let expected = expected(run, table);
    if let Ok(e) = &expected {
        verdict.expected = Some(e.busbw);
        verdict.source = Some(e.source.clone());
    }
    let wrong = run.wrong();
    if wrong > 0 {
        verdict.grade = Grade::Wrong;
        verdict.sentence = format!(
            "{wrong} elements were wrong{}: no number counts before that is mended.",
            run.first_wrong()
                .map(|w| format!(", first {w}"))
                .unwrap_or_default()
        );
        return verdict;
    }
    if let Some(cause) = run.cause() {
        let measured = run.rows.iter().any(|r| r.by != "gloo");
        let gloo = run.rows.iter().any(|r| r.by == "gloo");
        verdict.grade = if measured || gloo {
            Grade::Undecided
        } else {
            Grade::Failed
        };
        let stands = match largest.zip(best) {
            _ if gloo && !measured => {
                " Over gloo on CPU the same ranks reach each other: names, TCP and torch work."
                    .to_owned()
            }
            Some((row, half)) => format!(
                " Before that {:.2} GB/s at {} were measured over NCCL, correct.",
                half.busbw,
                self::size(row.bytes)
            ),
            None => String::new(),
        };
        verdict.sentence = format!("{cause}.{stands}");
        return verdict;
    }
    let judged = pairs::judge(&run.pairs);
    let of_pairs = pairs::sentence(&judged, &|pod| run.pod_name(pod));
    if judged.convicts() {
        verdict.grade = Grade::Below;
        verdict.sentence = of_pairs;
        return verdict;
    }
    if run.ending != Some(Ending::Complete) {
        verdict.grade = if run.rows.is_empty() {
            Grade::Failed
        } else {
            Grade::Undecided
        };
        verdict.sentence = match &run.ending {
            Some(Ending::Failed(why)) => format!("{why}."),
            Some(Ending::Cancelled) => "Cancelled.".into(),
            _ => "The sweep is incomplete.".into(),
        };
        return verdict;
    }
    let Some((row, half)) = largest.zip(best) else {
        verdict.sentence =
            format!("Only gloo on CPU was measured: correct, and no word about NCCL. {of_pairs}")
                .trim_end()
                .to_owned();
        return verdict;
    };
    let size = size(row.bytes);
    if row.world == Some(1) {
        verdict.sentence = "One rank moves nothing: there is no bus to measure.".into();
        return verdict;
    }
    if row.bytes < LARGE {
        verdict.sentence = format!(
            "{:.2} GB/s at {size}, correct; below {} latency decides, so there is no grade.",
            half.busbw,
            self::size(LARGE)
        );
        return verdict;
    }
    let e = match expected {
        Ok(e) => e,
        Err(why) => {
            verdict.sentence = format!("{:.2} GB/s at {size}, correct; {why}.", half.busbw);
            return verdict;
        }
    };
    let ratio = half.busbw / e.busbw;
    // What the transports that NCCL chose can give at best, where that is less than the hardware could.
    let limit = own_limit(run, table).filter(|_| ratio < GOOD);
    verdict.grade = if ratio >= GOOD {
        Grade::Good
    } else if ratio >= BEARABLE {
        Grade::Warn
    } else {
        Grade::Below
    };
    let hint = match run.transports().as_str() {
        _ if limit.is_some() => limit.map(|l| format!(" {l}")).unwrap_or_default(),
        "" if ratio < OTHER_TRANSPORT => {
            " So little means another transport than these have.".to_owned()
        }
        "" => String::new(),
        seen => format!(" NCCL used {seen}."),
    };
    let slow = match row.spread {
        Some((rank, spread)) if spread > 1.2 => {
            format!(" Rank {rank} took {spread:.1} times as long as the fastest.")
        }
        _ => String::new(),
    };
    let more = if of_pairs.is_empty() {
        String::new()
    } else {
        format!(" {of_pairs}")
    };
    verdict.sentence = format!(
        "{:.1} GB/s at {size} of {}, {:.0} % of the {:.1} GB/s that {} gives.{hint}{slow}{more}",
        half.busbw,
        row.kind,
        ratio * 100.0,
        e.busbw,
        e.limit
    );
    verdict
}

/// Holds what was measured against the transports that the workload chose between its hosts: `workload` and `test` are
/// the worst of either. Nothing where one of them, or the rate of the network, is not known.
pub fn beside(verdict: &mut Verdict, run: &TestRun, table: &Table, workload: Glyph, test: Glyph) {
    let (_, per_host) = run.shape();
    let own = network(workload, run, per_host);
    let Some((what, rate, rows)) = own.and_then(|(what, rate)| {
        let rows = if what == "TCP" {
            &table.tcp
        } else {
            &table.rdma
        };
        Some((what, rate?, rows))
    }) else {
        return;
    };
    let Some(row) = nearest(rows, rate) else {
        return;
    };
    verdict.workload = Some(row.expect);
    // Where a pod or a link is guilty, that is the sentence.
    if pairs::judge(&run.pairs).convicts() {
        return;
    }
    let Some(measured) = verdict
        .measured
        .filter(|m| *m > 0.0 && verdict.grade <= Grade::Below)
    else {
        return;
    };
    let gives = format!("{what} between nodes at {:.0} Gb/s", rate * 8.0);
    let most = row.expect;
    let percent = measured / most * 100.0;
    let sentence = match network(test, run, per_host) {
        Some((other, _)) if other != what && what == "TCP" => format!(
            " The workload itself goes over {gives}: {most:.1} GB/s is all it can give; the test went over {other}."
        ),
        Some((other, _)) if other != what => format!(
            " The workload itself goes over {gives}, which gives {most:.1} GB/s; the test went over {other} and says nothing of that."
        ),
        // The grade has just said what that can give.
        Some(_) if verdict.expected == Some(most) => " The workload goes the same way.".to_owned(),
        Some(_) => format!(
            " The workload goes the same way, {gives}: {percent:.0} % of the {most:.1} GB/s that it can give."
        ),
        None => return,
    };
    verdict.sentence.push_str(&sentence);
}

/// The network that a transport between hosts uses, and its rate for so many GPUs, GB/s, where known.
fn network(glyph: Glyph, run: &TestRun, per_host: u32) -> Option<(&'static str, Option<f64>)> {
    match glyph {
        Glyph::Tcp => Some(("TCP", run.tcp())),
        Glyph::Net | Glyph::NetGdr => Some(("RDMA", run.rdma(per_host))),
        _ => None,
    }
}

/// Sockets between hosts that have something better: what they can give at all.
fn own_limit(run: &TestRun, table: &Table) -> Option<String> {
    let sockets = run
        .transports()
        .split(", ")
        .any(|t| t.starts_with("NET/Socket"));
    let (hosts, per_host) = run.shape();
    let better = run.rdma(per_host).is_some();
    if !sockets || hosts < 2 {
        return None;
    }
    let why = if better {
        " The RDMA ports are there and NCCL did not take them."
    } else {
        ""
    };
    let rate = run.tcp()?;
    let row = nearest(&table.tcp, rate)?;
    Some(format!(
        "NCCL used TCP between nodes at {:.0} Gb/s: {:.1} GB/s is all it can give.{why}",
        rate * 8.0,
        row.expect
    ))
}

/// The largest size that torch over NCCL (or nccl-tests, or the worker) measured; the fastest type of it.
fn largest(run: &TestRun) -> Option<&Row> {
    let rows = run
        .rows
        .iter()
        .filter(|r| r.by != "gloo" && r.by != "pynccl");
    let busbw = |r: &Row| r.best().map_or(0.0, |h| h.busbw);
    rows.max_by(|a, b| {
        a.bytes
            .cmp(&b.bytes)
            .then_with(|| busbw(a).total_cmp(&busbw(b)))
    })
}

fn expected(run: &TestRun, table: &Table) -> Result<Expected, String> {
    let Some(gpu) = run.gpu() else {
        return Err("no rank said which GPU it has".into());
    };
    let (hosts, per_host) = run.shape();
    let inside = if per_host > 1 {
        table.host(gpu, per_host).map(|(busbw, row)| Expected {
            busbw,
            limit: match &row.needs {
                Some(needs) => format!("{per_host} x {gpu} in a host with {needs}"),
                None => format!("{per_host} x {gpu} in a host"),
            },
            source: row.source.clone(),
        })
    } else {
        None
    };
    if hosts < 2 {
        return inside
            .ok_or_else(|| format!("the table has no row for {per_host} x {gpu} in a host"));
    }
    let (rows, rate, what) = match (run.rdma(per_host), run.tcp()) {
        (Some(rate), _) => (&table.rdma, rate, "RDMA"),
        (None, Some(rate)) => (&table.tcp, rate, "TCP"),
        (None, None) => {
            return Err("the rate of the network between the hosts is not known".into());
        }
    };
    let Some(row) = nearest(rows, rate) else {
        return Err(format!(
            "the table has no row for {what} at {rate:.1} GB/s a host"
        ));
    };
    let between = Expected {
        busbw: row.expect,
        limit: format!("{what} between nodes at {:.0} Gb/s", rate * 8.0),
        source: row.source.clone(),
    };
    Ok(match inside {
        Some(inside) if inside.busbw < between.busbw => inside,
        _ => between,
    })
}

/// `1 GiB`, `64 KiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}
