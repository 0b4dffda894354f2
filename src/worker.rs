//! `ncclscope worker`: an all-reduce over all GPUs of one pod, for images without torch. Runs inside the pod, prints
//! the lines of the script (`assets/allreduce.py`), needs libcuda and libnccl at run time and nothing else.

mod gpu;
pub mod library;
mod lines;
mod sweep;
mod watch;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;

pub use lines::Lines;
pub use sweep::sweep;
pub use watch::{Progress, Stage};

/// Could not run at all.
const ABSENT: u8 = 2;
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
    /// Seconds without progress after which it gives up; 0: 90 for the GPUs, 180 for NCCL's start, 120 for a size
    #[arg(
        long,
        env = "NCCLSCOPE_STALL",
        default_value_t = 0,
        value_name = "SECONDS"
    )]
    pub stall: u64,
}

/// Types whose elements are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 32 bits.
    Float32,
    /// The upper half of them: whole numbers up to 256 are exact.
    Bfloat16,
}

impl Kind {
    /// Its name, as torch has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// Bytes of an element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Bfloat16 => 2,
        }
    }

    /// Puts a small whole number behind others.
    fn push(self, bytes: &mut Vec<u8>, value: f32) {
        let all = value.to_ne_bytes();
        match self {
            Self::Float32 => bytes.extend(all),
            // What is cut off is zero.
            Self::Bfloat16 => bytes.extend(upper(value.to_bits()).to_ne_bytes()),
        }
    }

    /// The number that an element is.
    fn value(self, element: &[u8]) -> f32 {
        match (self, element) {
            (Self::Float32, &[a, b, c, d]) => f32::from_ne_bytes([a, b, c, d]),
            (Self::Bfloat16, &[a, b]) => {
                f32::from_bits(u32::from(u16::from_ne_bytes([a, b])) << 16)
            }
            _ => f32::NAN,
        }
    }
}

fn upper(bits: u32) -> u16 {
    u16::try_from(bits >> 16).unwrap_or(0)
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Product.
    pub name: String,
    /// Memory that can be had, bytes.
    pub free: u64,
    /// Memory there is, bytes.
    pub total: u64,
}

/// What went wrong, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The rank, where one is to blame.
    pub rank: Option<usize>,
    /// In the words of CUDA or NCCL.
    pub error: String,
}

impl Fault {
    /// Of one rank.
    #[must_use]
    pub fn of(rank: usize, error: String) -> Self {
        Self {
            rank: Some(rank),
            error,
        }
    }
}

/// The GPUs of a pod. The real ones are those of CUDA and NCCL; tests have others.
pub trait Gpus {
    /// What each is, and what it has free now.
    fn devices(&self) -> Result<Vec<Device>, Fault>;
    /// Joins them in one communicator; the version of NCCL as it tells it (22203 is 2.22.3).
    fn join(&mut self) -> Result<u32, Fault>;
    /// Makes room for so many bytes on each.
    fn reserve(&mut self, bytes: usize) -> Result<(), Fault>;
    /// Writes bytes of one rank from `at` on.
    fn write(&mut self, rank: usize, at: usize, bytes: &[u8]) -> Result<(), Fault>;
    /// Reads bytes of one rank from `at` on.
    fn read(&mut self, rank: usize, at: usize, bytes: &mut [u8]) -> Result<(), Fault>;
    /// Makes the first so many bytes zero on each.
    fn zero(&mut self, bytes: usize) -> Result<(), Fault>;
    /// Sums the first `count` elements over all ranks in place, so many times; seconds that each rank took in all.
    fn reduce(&mut self, kind: Kind, count: usize, times: u32) -> Result<Vec<f64>, Fault>;
}

/// Runs it, and ends the process with its exit code: 0, 19 for a wrong result, 2 where it could not run, else that of
/// the step that failed, as the script has them.
#[must_use]
pub fn run(args: &WorkerArgs) -> u8 {
    if let Err(why) = library::ready() {
        eprintln!("ncclscope worker: {why}");
        return ABSENT;
    }
    let here = Progress::new(args.stall);
    watch::over(&here, &args.run);
    let mut say = Lines::new(&args.run, io::stdout()).after(watch::flush);
    // What binds the libraries knows one answer to a symbol that is not there, which is to panic.
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut gpus = gpu::Real::open(&here)?;
        let outcome = sweep(&mut gpus, args.max_bytes, &mut say, &here);
        // What takes communicators down may wait for what never comes.
        std::mem::forget(gpus);
        outcome
    }));
    std::panic::set_hook(quiet);
    let outcome = outcome.unwrap_or_else(|panic| {
        let error = panic.downcast_ref::<String>().cloned();
        Err(Fault {
            rank: None,
            error: error.unwrap_or_else(|| "a defect of this program".into()),
        })
    });
    let code = match outcome {
        Ok(0) => 0,
        Ok(_) => WRONG,
        Err(fault) => {
            let (stage, at) = here.end();
            let more = json!({"error": fault.error, "at": at});
            say.step(fault.rank, stage.name(), "fail", more);
            stage.code()
        }
    };
    watch::leave(code)
}
