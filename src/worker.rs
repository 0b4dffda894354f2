//! `ncclscope worker`: an all-reduce over all GPUs of one pod, for images without torch. Runs inside the pod, prints
//! the lines of the script (`assets/allreduce.py`), needs libcuda and libnccl at run time and nothing else.

mod gpu;
pub mod library;

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::parse::perf::PREFIX;

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
/// After so many elements the pattern begins anew.
const PERIOD: usize = 3;
/// Could not run.
const FAILED: u8 = 2;
/// A result was wrong; as the script's exit code.
const WRONG: u8 = 19;

/// Arguments of `worker`.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerArgs {
    /// Largest size, bytes; 0: the smaller of 1 GiB and 30 % of the free memory
    #[arg(
        long,
        env = "NCCLSCOPE_MAX_BYTES",
        default_value_t = 0,
        value_name = "BYTES"
    )]
    pub max_bytes: u64,
    /// Name of the run, which every line carries
    #[arg(long, env = "NCCLSCOPE_RUN", default_value = "", value_name = "NAME")]
    pub run: String,
}

/// The GPUs of a pod, joined in one communicator. The real ones are those of CUDA and NCCL; tests have others.
pub trait Gpus {
    /// Name and free memory in bytes of each.
    fn devices(&self) -> Vec<(String, u64)>;
    /// Makes room for so many float32 on each.
    fn reserve(&mut self, count: usize) -> Result<(), String>;
    /// Writes elements of one rank from `at` on.
    fn write(&mut self, rank: usize, at: usize, values: &[f32]) -> Result<(), String>;
    /// Reads elements of one rank from `at` on.
    fn read(&mut self, rank: usize, at: usize, values: &mut [f32]) -> Result<(), String>;
    /// Sums the first `count` elements over all ranks in place, so many times; seconds that each rank took in all.
    fn reduce(&mut self, count: usize, times: u32) -> Result<Vec<f64>, String>;
}

/// Runs it: exit code 0, 19 for a wrong result, 2 where it could not run.
#[must_use]
pub fn run(args: &WorkerArgs) -> u8 {
    if let Err(why) = library::ready() {
        let _ = writeln!(io::stderr(), "ncclscope worker: {why}");
        return FAILED;
    }
    let mut say = Lines::new(&args.run, io::stdout());
    say.step(None, "nccl", "start", json!({}));
    let outcome = gpu::Real::join().and_then(|mut gpus| sweep(&mut gpus, args.max_bytes, &mut say));
    let code = match outcome {
        Ok(0) => 0,
        Ok(_) => WRONG,
        Err(why) => {
            say.step(Some(0), "worker", "fail", json!({"error": why}));
            FAILED
        }
    };
    // Destructors of communicators may wait for what never comes.
    std::process::exit(i32::from(code));
}

/// Lines of JSON behind the script's prefix.
pub struct Lines<'a, W> {
    run: &'a str,
    out: W,
}

impl<'a, W: Write> Lines<'a, W> {
    /// Lines of this run.
    pub fn new(run: &'a str, out: W) -> Self {
        Self { run, out }
    }

    fn step(&mut self, rank: Option<usize>, step: &str, status: &str, more: Value) {
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
        // Nobody reads it: then there is nobody to fail for.
        let _ = writeln!(self.out, "{PREFIX}{line}");
        let _ = self.out.flush();
    }
}

/// Element `i` that a rank brings.
fn brings(rank: usize, i: usize) -> f32 {
    f32::from(u8::try_from((rank + i) % PERIOD).unwrap_or(0)) + 1.0
}

/// Measures every size from 8 B on; gives the number of wrong elements.
pub fn sweep<W: Write>(
    gpus: &mut dyn Gpus,
    max_bytes: u64,
    say: &mut Lines<'_, W>,
) -> Result<u64, String> {
    let devices = gpus.devices();
    let world = devices.len();
    let host = library::host();
    for (rank, (name, free)) in devices.iter().enumerate() {
        let facts = json!({"host": host, "pid": std::process::id(), "world": world});
        say.step(Some(rank), "env", "ok", facts);
        say.step(
            Some(rank),
            "gpus",
            "ok",
            json!({"gpus": world, "name": name, "free": free}),
        );
    }
    say.step(Some(0), "nccl", "ok", json!({}));
    let free = devices
        .iter()
        .map(|(_, free)| free / 10 * 3)
        .min()
        .unwrap_or(0);
    // A power of two, as the sizes before it.
    let room = 1u64 << (63 - free.max(8).leading_zeros());
    let wanted = if max_bytes == 0 { LARGEST } else { max_bytes };
    let largest = wanted.min(room).max(8);
    let elements = |bytes: u64| usize::try_from(bytes / 4).unwrap_or(usize::MAX);
    gpus.reserve(elements(largest))?;
    say.step(Some(0), "worker", "start", json!({}));
    // The first large call sets up connections and registers buffers.
    gpus.reduce(elements(largest), 1)?;
    let (mut bytes, mut wrong) = (8u64, 0u64);
    while bytes <= largest {
        wrong += one(gpus, world, elements(bytes), say)?;
        bytes *= 2;
    }
    say.step(
        Some(0),
        "worker",
        "ok",
        json!({"largest": largest, "wrong": wrong}),
    );
    Ok(wrong)
}

fn one<W: Write>(
    gpus: &mut dyn Gpus,
    world: usize,
    count: usize,
    say: &mut Lines<'_, W>,
) -> Result<u64, String> {
    let ones = check(gpus, world, count, say, &|_, _| 1.0)?;
    let wrong = ones + check(gpus, world, count, say, &brings)?;
    let warm = gpus.reduce(count, WARM_UP)?;
    let slowest = warm.iter().copied().fold(1e-7, f64::max) / f64::from(WARM_UP);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, then it is clamped"
    )]
    let iters = ((PER_SIZE.as_secs_f64() / slowest) as u32).clamp(2, ITERS);
    let took: Vec<f64> = gpus
        .reduce(count, iters)?
        .into_iter()
        .map(|s| s / f64::from(iters) * 1e6)
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (n, bytes) = (world as f64, (count * 4) as f64);
    let us = took.iter().sum::<f64>() / n.max(1.0);
    let (slowest, us_max) = took
        .iter()
        .copied()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, us));
    let us_min = took.iter().copied().fold(us_max, f64::min);
    let algbw = bytes / us.max(1e-3) / 1e3;
    let busbw = algbw * 2.0 * (n - 1.0) / n.max(1.0);
    say.step(
        Some(0),
        "worker",
        "row",
        json!({
            "dtype": "float32", "bytes": count * 4, "count": count, "world": world, "iters": iters, "us": us,
            "us_min": us_min, "us_max": us_max, "slowest": slowest, "algbw": algbw, "busbw": busbw, "wrong": wrong,
        }),
    );
    Ok(wrong)
}

/// Sums once and compares every element of every rank.
fn check<W: Write>(
    gpus: &mut dyn Gpus,
    world: usize,
    count: usize,
    say: &mut Lines<'_, W>,
    value: &dyn Fn(usize, usize) -> f32,
) -> Result<u64, String> {
    let chunk = CHUNK.min(count.next_multiple_of(PERIOD));
    for rank in 0..world {
        let values: Vec<f32> = (0..chunk).map(|i| value(rank, i)).collect();
        for at in (0..count).step_by(chunk) {
            let part = values.get(..chunk.min(count - at)).unwrap_or_default();
            gpus.write(rank, at, part)?;
        }
    }
    gpus.reduce(count, 1)?;
    let want: Vec<f32> = (0..PERIOD)
        .map(|i| (0..world).map(|rank| value(rank, i)).sum())
        .collect();
    let mut got = vec![0.0f32; chunk];
    let mut wrong = 0u64;
    for rank in 0..world {
        let mut told = false;
        for at in (0..count).step_by(chunk) {
            let Some(part) = got.get_mut(..chunk.min(count - at)) else {
                continue;
            };
            gpus.read(rank, at, part)?;
            for (i, (got, want)) in part.iter().zip(want.iter().cycle()).enumerate() {
                #[expect(clippy::float_cmp, reason = "small whole numbers are exact")]
                let bad = got != want;
                if bad && !std::mem::replace(&mut told, true) {
                    let place = json!({
                        "dtype": "float32", "bytes": count * 4, "index": at + i, "got": got.to_string(), "want": want,
                    });
                    say.step(Some(rank), "worker", "wrong", place);
                }
                wrong += u64::from(bad);
            }
        }
    }
    Ok(wrong)
}
