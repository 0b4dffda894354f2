//! The measurement: every size from 8 B on, every element of every rank compared.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::watch::{Progress, Stage};
use super::{Device, Fault, Gpus, Kind, Lines, library};

/// Largest size unless another is asked for, bytes.
const LARGEST: u64 = 1 << 30;
/// Calls before the clock runs.
const WARM_UP: u32 = 5;
/// Calls that are timed, at most.
const ITERS: u32 = 20;
/// About how long a size may take.
const PER_SIZE: Duration = Duration::from_secs(2);
/// Elements compared at a time: a multiple of [`PERIOD`].
const CHUNK: usize = 3 << 20;
/// After so many elements the pattern begins anew. Its sum over the GPUs of any pod is exact in either type.
const PERIOD: usize = 3;
/// Elements of the first call of all.
const FIRST: usize = 128;
/// The first NCCL that has bfloat16.
const BFLOAT16: u32 = 21_000;

/// Joins the GPUs and measures; gives the number of wrong elements.
pub fn sweep<W: Write>(
    gpus: &mut dyn Gpus,
    max_bytes: u64,
    say: &mut Lines<'_, W>,
    here: &Progress,
) -> Result<u64, Fault> {
    let devices = gpus.devices()?;
    introduce(&devices, say);
    here.begin(Stage::Nccl, "ncclCommInitAll");
    say.step(Some(0), "nccl", "start", json!({}));
    let version = gpus.join()?;
    let bytes = largest(max_bytes, &gpus.devices()?);
    let room = usize::try_from(bytes).unwrap_or(usize::MAX);
    here.reached(&format!("memory for {bytes} B"));
    gpus.reserve(room.max(FIRST * Kind::Float32.size()))?;
    let mut bench = Bench {
        gpus,
        world: devices.len(),
        say,
        here,
        kind: Kind::Float32,
    };
    here.reached("the first call");
    if bench.check("nccl", FIRST, "ones", &|_, _| 1.0)? > 0 {
        let error = "the sum of ones is not the number of ranks";
        return Err(Fault {
            rank: None,
            error: error.into(),
        });
    }
    let known = json!({"library": library::loaded(), "nccl": dotted(version)});
    bench.say.step(Some(0), "nccl", "ok", known);
    here.begin(Stage::Worker, "");
    bench.say.step(Some(0), "worker", "start", json!({}));
    let mut wrong = bench.all(room)?;
    if version < BFLOAT16 {
        let why = format!("NCCL {} has no bfloat16", dotted(version));
        let step = "worker over bfloat16";
        bench.say.step(Some(0), step, "skip", json!({"why": why}));
    } else {
        bench.kind = Kind::Bfloat16;
        wrong += bench.all(room)?;
    }
    here.end();
    let sum = json!({"largest": bytes, "wrong": wrong});
    bench.say.step(Some(0), "worker", "ok", sum);
    let verdict = if wrong == 0 { "OK" } else { "FAILED" };
    bench
        .say
        .text(&format!("# Out of bounds values : {wrong} {verdict}"));
    Ok(wrong)
}

/// Where each rank is, and on what.
fn introduce<W: Write>(devices: &[Device], say: &mut Lines<'_, W>) {
    let (host, node) = (library::host(), std::env::var("NCCLSCOPE_NODE").ok());
    let world = devices.len();
    for (rank, device) in devices.iter().enumerate() {
        let facts = json!({"host": host, "node": node, "pid": std::process::id(), "world": world});
        say.step(Some(rank), "env", "ok", facts);
        let facts = json!({
            "gpus": world, "name": device.name, "free": device.free, "total": device.total,
        });
        say.step(Some(rank), "gpus", "ok", facts);
    }
}

/// The largest size, a power of two as those before it: what was asked for, if a third of what is free gives room.
fn largest(max_bytes: u64, devices: &[Device]) -> u64 {
    let free = devices.iter().map(|d| d.free / 10 * 3).min().unwrap_or(0);
    let room = 1u64 << (63 - free.max(8).leading_zeros());
    let wanted = if max_bytes == 0 { LARGEST } else { max_bytes };
    wanted.min(room).max(8)
}

/// `2.22.3` of 22203; until 2.8 it was 2804.
fn dotted(version: u32) -> String {
    let major = if version < 10_000 { 1_000 } else { 10_000 };
    let (first, rest) = (version / major, version % major);
    format!("{first}.{}.{}", rest / 100, rest % 100)
}

/// Six digits, as the script rounds.
fn six(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

/// Microseconds with three digits behind the point.
fn micro(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

/// Element `i` that a rank brings.
fn brings(rank: usize, i: usize) -> f32 {
    f32::from(u8::try_from((rank + i) % PERIOD).unwrap_or(0)) + 1.0
}

/// Measures one type.
struct Bench<'a, 'l, W> {
    gpus: &'a mut dyn Gpus,
    world: usize,
    say: &'a mut Lines<'l, W>,
    here: &'a Progress,
    kind: Kind,
}

impl<W: Write> Bench<'_, '_, W> {
    /// Every size; gives the number of wrong elements.
    fn all(&mut self, room: usize) -> Result<u64, Fault> {
        let (name, size) = (self.kind.name(), self.kind.size());
        let heads = [
            format!("# worker over {} ranks, {name}, in place", self.world),
            format!(
                "#{:>11}  {:>12}  {:>9}  {:>6}  {:>6}  {:>35}  {:>8}  {:>7}  {:>7}  {:>7}",
                "size", "count", "type", "redop", "root", "", "time", "algbw", "busbw", "#wrong"
            ),
            format!(
                "#{:>11}  {:>12}  {:>9}  {:>6}  {:>6}  {:>35}  {:>8}  {:>7}  {:>7}",
                "(B)", "(elements)", "", "", "", "", "(us)", "(GB/s)", "(GB/s)"
            ),
        ];
        for head in heads {
            self.say.text(&head);
        }
        // The first large call sets up connections and registers buffers.
        self.here.reached(&format!("first call, {room} B {name}"));
        self.gpus.zero(room)?;
        self.gpus.reduce(self.kind, room / size, 1)?;
        let (mut bytes, mut wrong) = (8, 0);
        while bytes <= room {
            self.here.reached(&format!("{bytes} B {name}"));
            wrong += self.one(bytes / size)?;
            bytes *= 2;
        }
        Ok(wrong)
    }

    /// One size.
    fn one(&mut self, count: usize) -> Result<u64, Fault> {
        let wrong = self.check("worker", count, "ones", &|_, _| 1.0)?
            + self.check("worker", count, "pattern", &brings)?;
        let bytes = count * self.kind.size();
        self.gpus.zero(bytes)?;
        let warm = self.gpus.reduce(self.kind, count, WARM_UP)?;
        let slowest = warm.iter().copied().fold(1e-7, f64::max) / f64::from(WARM_UP);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, then it is clamped"
        )]
        let iters = ((PER_SIZE.as_secs_f64() / slowest) as u32).clamp(2, ITERS);
        self.here.moved();
        let took: Vec<f64> = self
            .gpus
            .reduce(self.kind, count, iters)?
            .into_iter()
            .map(|s| s / f64::from(iters) * 1e6)
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (n, size) = (self.world as f64, bytes as f64);
        let us = took.iter().sum::<f64>() / n.max(1.0);
        let (slowest, us_max) = took
            .iter()
            .copied()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((0, us));
        let us_min = took.iter().copied().fold(us_max, f64::min);
        let algbw = size / us.max(1e-3) / 1e3;
        let busbw = algbw * 2.0 * (n - 1.0) / n.max(1.0);
        let name = self.kind.name();
        self.say.step(
            Some(0),
            "worker",
            "row",
            json!({
                "dtype": name, "bytes": bytes, "count": count, "world": self.world, "iters": iters,
                "us": micro(us), "us_min": micro(us_min), "us_max": micro(us_max), "slowest": slowest,
                "algbw": six(algbw), "busbw": six(busbw), "wrong": wrong,
            }),
        );
        self.say.text(&format!(
            "{bytes:>12}  {count:>12}  {name:>9}  {:>6}  {:>6}  {:>35}  {us:>8.2}  {algbw:>7.2}  {busbw:>7.2}  {wrong:>7}",
            "sum", -1, ""
        ));
        Ok(wrong)
    }

    /// So many elements of a pattern that begins anew with its period.
    fn elements(&self, count: usize, value: impl Fn(usize) -> f32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count * self.kind.size());
        for i in 0..count {
            self.kind.push(&mut bytes, value(i % PERIOD));
        }
        bytes
    }

    /// Sums once and compares every element of every rank; how many are not what they must be.
    fn check(
        &mut self,
        step: &str,
        count: usize,
        test: &str,
        value: &dyn Fn(usize, usize) -> f32,
    ) -> Result<u64, Fault> {
        let (kind, size, world) = (self.kind, self.kind.size(), self.world);
        let chunk = CHUNK.min(count.next_multiple_of(PERIOD));
        // Where each part begins, and its length, in elements.
        let parts = || {
            (0..count)
                .step_by(chunk)
                .map(move |at| (at, chunk.min(count - at)))
        };
        for rank in 0..world {
            let own = self.elements(chunk, |i| value(rank, i));
            for (at, long) in parts() {
                let part = own.get(..long * size).unwrap_or_default();
                self.gpus.write(rank, at * size, part)?;
                self.here.moved();
            }
        }
        self.gpus.reduce(kind, count, 1)?;
        let want = self.elements(chunk, |i| (0..world).map(|rank| value(rank, i)).sum());
        let mut got = vec![0u8; chunk * size];
        let mut wrong = 0u64;
        for rank in 0..world {
            let mut told = false;
            for (at, long) in parts() {
                let Some(part) = got.get_mut(..long * size) else {
                    continue;
                };
                self.gpus.read(rank, at * size, part)?;
                self.here.moved();
                if want.starts_with(part) {
                    continue;
                }
                let both = part.chunks_exact(size).zip(want.chunks_exact(size));
                for (i, (got, want)) in both.enumerate().filter(|(_, (got, want))| got != want) {
                    wrong += 1;
                    if !std::mem::replace(&mut told, true) {
                        let place = json!({
                            "dtype": kind.name(), "bytes": count * size, "test": test, "index": at + i,
                            "got": kind.value(got).to_string(), "want": kind.value(want),
                        });
                        self.say.step(Some(rank), step, "wrong", place);
                    }
                }
            }
        }
        Ok(wrong)
    }
}
