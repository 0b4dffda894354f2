//! Lines of an all-reduce test: of our own script and of nccl-tests.
//!
//! The script prints a line of JSON behind [`PREFIX`] for each step and row; nccl-tests prints its table. Both are
//! read whatever launcher or log tool stands before them. Bandwidths are in 10⁹ bytes a second, times in microseconds.

mod file;

pub use file::{File, file, is_file};

use serde::Deserialize;

use super::text;

/// Before each line of JSON of the script.
pub const PREFIX: &str = "#ncclscope ";
/// Longest line that is read.
const LONGEST: usize = 64 * 1024;

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A step of our script.
    Step(Box<Step>),
    /// A row of measurement.
    Row(Box<Row>),
    /// Two pods alone.
    Pair(Pair),
    /// A table line or remark of nccl-tests.
    Tests(Tests),
}

/// What happened in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It began.
    Start,
    /// It ended well.
    Ok,
    /// It failed.
    Fail,
    /// Another rank failed or is gone.
    Peer,
    /// It waits for something.
    Wait,
    /// It was left out, with the reason.
    Skip,
    /// An element was wrong.
    Wrong,
    /// A row.
    Row,
    /// Two pods alone.
    Pair,
}

/// An all-reduce over two pods alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Pair {
    /// Which run.
    #[serde(default)]
    pub run: String,
    /// 1: among other pairs; 2: a suspect, alone.
    pub turn: u32,
    /// The pod with the smaller number.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// `nccl` or `gloo`.
    pub by: String,
    /// Size, bytes.
    pub bytes: u64,
    /// Bus bandwidth, 10⁹ B/s.
    pub busbw: f64,
    /// Wrong elements.
    #[serde(default)]
    pub wrong: u64,
}

/// A step of our script, as one rank tells it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Step {
    /// When, nanoseconds since the Unix epoch, by the clock of that pod.
    pub t: Option<i64>,
    /// Which run: a line of another one is none of ours.
    #[serde(default)]
    pub run: String,
    /// Global rank.
    pub rank: Option<u32>,
    /// `env`, `dns`, `rendezvous`, `import`, `gpus`, `gloo`, `nccl`, `sweep`, `pynccl`, `graph`, `end`, `process`.
    pub step: String,
    /// What happened.
    pub status: Status,
    /// Milliseconds that it took.
    pub ms: Option<u64>,
    /// The error in one line.
    pub error: Option<String>,
    /// Why it was left out.
    pub why: Option<String>,
    /// Where in the step: `1048576 B float32`.
    pub at: Option<String>,
    /// No progress: the watchdog ended it.
    #[serde(default)]
    pub hang: bool,
    /// The rank that is gone.
    pub peer: Option<u32>,
    /// The rank whose end explains this one.
    pub after_rank: Option<u32>,
    /// Signal that killed the process.
    pub signal: Option<i32>,
    /// Ranks that did not come yet.
    #[serde(default)]
    pub missing: Vec<u32>,
    /// Elements that were wrong in this step, over all ranks.
    pub wrong: Option<serde_json::Value>,
    /// Host name of the pod.
    pub host: Option<String>,
    /// Node, where the pod was told.
    pub node: Option<String>,
    /// Process id.
    pub pid: Option<u64>,
    /// Ranks in all.
    pub world: Option<u32>,
    /// Name of the GPU.
    pub name: Option<String>,
    /// Free memory of the GPU, bytes.
    pub free: Option<u64>,
    /// NCCL version that torch has.
    pub nccl: Option<String>,
    /// torch version.
    pub torch: Option<String>,
    /// RDMA ports that are up, with their rate as the kernel writes it: `400 Gb/sec (4X NDR)`.
    #[serde(default)]
    pub ib: std::collections::BTreeMap<String, String>,
    /// Network interfaces.
    #[serde(default)]
    pub net: std::collections::BTreeMap<String, Interface>,
}

impl Step {
    /// Elements that were wrong, over all ranks.
    #[must_use]
    pub fn wrong_elements(&self) -> Option<u64> {
        self.wrong.as_ref()?.as_u64()
    }
}

/// A network interface of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Largest packet, bytes.
    pub mtu: Option<u32>,
    /// Speed, 10⁶ bits a second; virtual ones do not know it.
    pub mbps: Option<u32>,
}

/// A row: one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Run of our script; `None` for nccl-tests.
    pub run: Option<String>,
    /// `gloo`, `sweep`, `pynccl` of our script, `nccl-tests`, or `worker`.
    pub by: String,
    /// Bytes.
    pub bytes: u64,
    /// Elements.
    pub count: u64,
    /// `float32`, `bfloat16`, `float` …
    pub kind: String,
    /// Ranks, where the row says.
    pub world: Option<u32>,
    /// Sent from one buffer, received in another.
    pub out_of_place: Option<Half>,
    /// The same buffer for both.
    pub in_place: Option<Half>,
    /// Slowest rank and how much longer it took than the fastest, as a ratio.
    pub spread: Option<(u32, f64)>,
}

impl Row {
    /// The better of the two halves by bus bandwidth.
    #[must_use]
    pub fn best(&self) -> Option<Half> {
        match (self.out_of_place, self.in_place) {
            (Some(a), Some(b)) => Some(if b.busbw > a.busbw { b } else { a }),
            (a, b) => b.or(a),
        }
    }

    /// Wrong elements of both halves; `None` where nothing was checked.
    #[must_use]
    pub fn wrong(&self) -> Option<u64> {
        let of = |h: &Option<Half>| h.and_then(|h| h.wrong);
        match (of(&self.out_of_place), of(&self.in_place)) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        }
    }
}

/// Half of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Half {
    /// Microseconds.
    pub us: f64,
    /// Bytes by time, 10⁹ B/s.
    pub algbw: f64,
    /// What the slowest link carried, 10⁹ B/s.
    pub busbw: f64,
    /// Wrong elements; `None` where not checked.
    pub wrong: Option<u64>,
}

/// Lines of nccl-tests beside its rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Tests {
    /// `# nccl-tests version …`
    Version {
        /// Of nccl-tests.
        version: String,
        /// NCCL that is loaded, as a number: 22304 is 2.23.4.
        library: Option<u32>,
    },
    /// `# Collective test starting: …`
    Starting(String),
    /// `# nThread …`
    Params {
        /// Smallest size, bytes.
        min_bytes: u64,
        /// Largest size, bytes.
        max_bytes: u64,
        /// Iterations that are measured.
        iters: u32,
        /// Results are checked.
        validation: bool,
    },
    /// `#  Rank …`
    Device {
        /// Rank.
        rank: u32,
        /// Process id.
        pid: u64,
        /// Host.
        host: String,
        /// CUDA device.
        device: u32,
        /// Bus id as printed.
        bus: String,
        /// Name of the GPU.
        name: String,
    },
    /// `# Reducing maxBytes to …`: the sweep ends earlier than asked.
    Reduced(String),
    /// `# Out of bounds values : …`
    OutOfBounds {
        /// Wrong elements.
        wrong: u64,
        /// OK.
        ok: bool,
    },
    /// `# Avg bus bandwidth : …` over all sizes.
    Average {
        /// 10⁹ B/s.
        busbw: f64,
        /// Against `NCCL_TESTS_MIN_BW`, where that was set.
        ok: Option<bool>,
    },
    /// `# Collective test concluded: …`
    Concluded(String),
    /// A failure, in its own words.
    Failure {
        /// Host that says so, where it does.
        host: Option<String>,
        /// What it says.
        text: String,
    },
}

/// Reads one line; `None` for all others.
#[must_use]
pub fn line(raw: &[u8]) -> Option<Said> {
    if raw.len() > LONGEST {
        return None;
    }
    if let Some(at) = memchr::memmem::find(raw, PREFIX.as_bytes()) {
        return ours(raw.get(at + PREFIX.len()..)?);
    }
    // Most lines of a log are neither a row nor a remark.
    let mut clean = Vec::with_capacity(raw.len());
    text::strip(raw, &mut clean);
    let said = std::str::from_utf8(&clean).ok()?;
    let said = bare(said);
    if let Some(remark) = said.strip_prefix('#') {
        return tests(remark.trim()).map(Said::Tests);
    }
    if said.starts_with(|c: char| c.is_ascii_digit()) {
        return row(said).map(|r| Said::Row(Box::new(r)));
    }
    failure(said).map(Said::Tests)
}

/// Without what the API server, Open MPI, Slurm, kubectl and stern put before a line.
fn bare(line: &str) -> &str {
    let mut s = unstamped(line.trim());
    for _ in 0..4 {
        let Some(rest) = tag(s) else { break };
        s = rest.trim_start();
    }
    s
}

/// Without the stamp that the API server puts before each line of a log.
fn unstamped(line: &str) -> &str {
    let Some((stamp, rest)) = line.split_once(' ') else {
        return line;
    };
    let dated = stamp.len() >= 20 && stamp.as_bytes().get(10) == Some(&b'T');
    let digits = stamp.bytes().take(4).all(|b| b.is_ascii_digit());
    if dated && digits {
        rest.trim_start()
    } else {
        line
    }
}

fn tag(s: &str) -> Option<&str> {
    if let Some(rest) = s.strip_prefix('[') {
        // `[1,0]<stdout>:` and `[pod/name/container] `; a row never starts with a bracket.
        let (_, rest) = rest.split_once(']')?;
        return Some(match rest.strip_prefix("<std") {
            Some(r) => r.split_once(':')?.1,
            None => rest,
        });
    }
    let (head, rest) = s.split_once(": ")?;
    // Slurm's `3: `.
    (!head.is_empty() && head.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
}

#[derive(Deserialize)]
struct Numbers {
    #[serde(default)]
    run: String,
    step: String,
    dtype: String,
    bytes: u64,
    count: u64,
    world: Option<u32>,
    us: f64,
    us_min: Option<f64>,
    us_max: Option<f64>,
    slowest: Option<u32>,
    algbw: f64,
    busbw: f64,
    wrong: Option<u64>,
}

fn ours(json: &[u8]) -> Option<Said> {
    // Whatever glued itself behind the object is not part of it.
    let mut values = serde_json::Deserializer::from_slice(json).into_iter::<serde_json::Value>();
    let value = values.next()?.ok()?;
    if value.get("v")?.as_u64()? != 1 {
        return None;
    }
    if value.get("status")?.as_str()? == "row" {
        let n: Numbers = serde_json::from_value(value).ok()?;
        let finite = [n.us, n.algbw, n.busbw]
            .iter()
            .all(|x| x.is_finite() && *x >= 0.0);
        let spread = match (n.slowest, n.us_min, n.us_max) {
            (Some(rank), Some(min), Some(max)) if min > 0.0 => Some((rank, max / min)),
            _ => None,
        };
        return finite.then(|| {
            Said::Row(Box::new(Row {
                run: Some(n.run),
                by: n.step,
                bytes: n.bytes,
                count: n.count,
                kind: n.dtype,
                world: n.world,
                out_of_place: None,
                in_place: Some(Half {
                    us: n.us,
                    algbw: n.algbw,
                    busbw: n.busbw,
                    wrong: n.wrong,
                }),
                spread,
            }))
        });
    }
    if value.get("status")?.as_str()? == "pair" {
        let pair: Pair = serde_json::from_value(value).ok()?;
        let sane = pair.busbw.is_finite() && pair.busbw >= 0.0 && pair.a < pair.b;
        return sane.then_some(Said::Pair(pair));
    }
    let step: Step = serde_json::from_value(value).ok()?;
    Some(Said::Step(Box::new(step)))
}

/// A row of nccl-tests: 13 fields; 9 where the first half is blank; 8 more with `-I`, 2 more with `-S`.
fn row(s: &str) -> Option<Row> {
    let fields: Vec<&str> = s.split_ascii_whitespace().collect();
    let wide = match fields.len() {
        9 | 11 | 13 | 15 => 4,
        21 | 23 => 8,
        _ => return None,
    };
    let field = |i: usize| fields.get(i).copied();
    let (bytes, count) = (field(0)?.parse().ok()?, field(1)?.parse().ok()?);
    let kind = field(2).filter(|k| k.starts_with(|c: char| c.is_ascii_alphabetic()))?;
    field(4)?.parse::<i64>().ok()?;
    let half = |from: usize| {
        let number = |i: usize| {
            field(from + i)?
                .parse::<f64>()
                .ok()
                .filter(|x| *x >= 0.0 && x.is_finite())
        };
        Some(Half {
            us: number(0)?,
            algbw: number(1)?,
            busbw: number(2)?,
            wrong: match field(from + 3)? {
                "N/A" => None,
                n => Some(n.parse().ok()?),
            },
        })
    };
    let blank = matches!(fields.len(), 9 | 11);
    let (out_of_place, in_place) = if blank {
        (None, half(5)?)
    } else {
        (Some(half(5)?), half(5 + wide)?)
    };
    Some(Row {
        run: None,
        by: "nccl-tests".into(),
        bytes,
        count,
        kind: kind.into(),
        world: None,
        out_of_place,
        in_place: Some(in_place),
        spread: None,
    })
}

fn tests(s: &str) -> Option<Tests> {
    let after = |word: &str| s.strip_prefix(word).map(str::trim);
    if let Some(rest) = after("nccl-tests version") {
        let mut words = rest.split_ascii_whitespace();
        let version = words.next()?.to_owned();
        let library = words.find_map(|w| w.strip_prefix("nccl-library=")?.parse().ok());
        return Some(Tests::Version { version, library });
    }
    if let Some(name) = after("Collective test starting:") {
        return Some(Tests::Starting(name.into()));
    }
    if let Some(name) = after("Collective test concluded:") {
        return Some(Tests::Concluded(name.into()));
    }
    if s.starts_with("nThread ") {
        let number = |name: &str| -> Option<u64> {
            let (_, rest) = s.split_once(name)?;
            let rest = rest.trim_start();
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest.get(..end)?.parse().ok()
        };
        return Some(Tests::Params {
            min_bytes: number(" minBytes ")?,
            max_bytes: number(" maxBytes ")?,
            // `warmup iters:` comes before it.
            iters: number(" iters: ").and_then(|first| {
                let measured = s.split_once("warmup iters: ").and_then(|(_, rest)| {
                    let (_, rest) = rest.split_once(" iters: ")?;
                    rest.split_ascii_whitespace().next()?.parse().ok()
                });
                measured.or_else(|| u32::try_from(first).ok())
            })?,
            validation: number(" validation: ").unwrap_or(0) > 0,
        });
    }
    if s.starts_with("Rank ") {
        return device(s);
    }
    if let Some(rest) = after("Out of bounds values") {
        let mut words = rest.trim_start_matches(':').split_ascii_whitespace();
        let wrong = words.next()?.parse().ok()?;
        return Some(Tests::OutOfBounds {
            wrong,
            ok: words.next()? == "OK",
        });
    }
    if let Some(rest) = after("Avg bus bandwidth") {
        let mut words = rest.trim_start_matches([' ', ':']).split_ascii_whitespace();
        let busbw = words.next()?.parse().ok().filter(|x: &f64| x.is_finite())?;
        return Some(Tests::Average {
            busbw,
            ok: words.next().map(|w| w == "OK"),
        });
    }
    if s.starts_with("Reducing maxBytes") {
        return Some(Tests::Reduced(s.into()));
    }
    after("error:").map(|text| Tests::Failure {
        host: None,
        text: text.into(),
    })
}

/// `Rank  0 Group  0 Pid 77 on llm-0 device  0 [0000:3b:00] NVIDIA H100`; older ones have no group.
fn device(s: &str) -> Option<Tests> {
    let (front, back) = s.split_once('[')?;
    let (bus, name) = back.split_once(']')?;
    let words: Vec<&str> = front.split_ascii_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|w| *w == word)?;
        words.get(at + 1).copied()
    };
    Some(Tests::Device {
        rank: after("Rank")?.parse().ok()?,
        pid: after("Pid")?.parse().ok()?,
        host: after("on")?.into(),
        device: after("device")?.parse().ok()?,
        bus: bus.into(),
        name: name.trim().into(),
    })
}

/// `host: Test NCCL failure file:line 'error / last error'`, ` .. host pid n: Test failure …`, `Test timeout …`.
fn failure(s: &str) -> Option<Tests> {
    let known = [
        "Test NCCL failure ",
        "Test CUDA failure ",
        "Test failure ",
        "Test timeout",
    ];
    let at = known.iter().find_map(|k| s.find(k))?;
    let before = s
        .get(..at)?
        .trim()
        .trim_start_matches(['.', ' '])
        .trim_end_matches([':', ' ']);
    let host = before.split_ascii_whitespace().next().map(str::to_owned);
    // Somebody who quotes it says more before it.
    if before.split_ascii_whitespace().count() > 3 {
        return None;
    }
    Some(Tests::Failure {
        host,
        text: s.get(at..)?.into(),
    })
}

/// Names of variables whose values may be shown.
const SHOWN: [&str; 12] = [
    "NCCL_",
    "GLOO_",
    "UCX_",
    "FI_",
    "CUDA_",
    "TORCH_NCCL_",
    "NVSHMEM_",
    "SHARP_",
    "HCOLL_",
    "MELLANOX_",
    "RCCL_",
    "OMPI_COMM_WORLD_",
];
/// Parts of names that smell of secrets.
const SECRET: [&str; 8] = [
    "TOKEN",
    "SECRET",
    "PASSW",
    "CREDENTIAL",
    "API_KEY",
    "PRIVATE",
    "AUTH",
    "_KEY",
];

/// Whether the value of a variable may be shown: communication settings, and of them none that smells of a secret.
#[must_use]
pub fn may_show(name: &str) -> bool {
    SHOWN.iter().any(|p| name.starts_with(p)) && !SECRET.iter().any(|s| name.contains(s))
}
