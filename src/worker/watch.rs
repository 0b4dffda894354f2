//! Nothing waits for ever: a thread that ends the process where a step makes no progress, and the way out.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Lines;

/// How often it is looked.
const BEAT: Duration = Duration::from_millis(250);
/// What the last words may take on their way out.
const LAST: Duration = Duration::from_secs(3);

/// The steps of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// The driver starts, and tells of its GPUs.
    #[default]
    Gpus,
    /// NCCL joins them.
    Nccl,
    /// It measures.
    Worker,
}

impl Stage {
    /// As its lines name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpus => "gpus",
            Self::Nccl => "nccl",
            Self::Worker => "worker",
        }
    }

    /// Exit code of who fails in it; those of the script.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Gpus => 12,
            Self::Nccl => 16,
            Self::Worker => 17,
        }
    }

    /// How long it may stand still.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Gpus => 90,
            Self::Nccl => 180,
            Self::Worker => 120,
        })
    }
}

/// In which step the worker is, and when it last moved.
#[derive(Debug, Clone)]
pub struct Progress {
    now: Arc<Mutex<Now>>,
    /// In place of the limits of the steps.
    limit: Option<Duration>,
}

#[derive(Debug)]
struct Now {
    stage: Stage,
    at: String,
    /// Ranks that are waited for.
    waiting: Vec<usize>,
    moved: Instant,
    ended: bool,
}

impl Progress {
    /// With a limit in seconds for every step, or with each step's own where it is 0.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            now: Arc::new(Mutex::new(Now {
                stage: Stage::default(),
                at: String::new(),
                waiting: Vec::new(),
                moved: Instant::now(),
                ended: false,
            })),
            limit: (limit > 0).then(|| Duration::from_secs(limit)),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Now) -> T) -> T {
        f(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A step begins.
    pub fn begin(&self, stage: Stage, at: &str) {
        self.with(|now| now.stage = stage);
        self.reached(at);
    }

    /// It has come to this.
    pub fn reached(&self, at: &str) {
        self.with(|now| {
            at.clone_into(&mut now.at);
            now.waiting.clear();
            now.moved = Instant::now();
        });
    }

    /// It goes on at the same place.
    pub fn moved(&self) {
        self.with(|now| {
            now.waiting.clear();
            now.moved = Instant::now();
        });
    }

    /// Nothing has moved but for these ranks, which are not done.
    pub fn waits_for(&self, ranks: Vec<usize>) {
        self.with(|now| now.waiting = ranks);
    }

    /// It is over; where it was.
    pub fn end(&self) -> (Stage, Option<String>) {
        self.with(|now| {
            now.ended = true;
            (now.stage, Some(now.at.clone()).filter(|at| !at.is_empty()))
        })
    }

    /// It stands still for longer than it may: in which step, since how many seconds, where, and for whom it waits.
    fn stalled(&self) -> Option<(Stage, u64, String, Vec<usize>)> {
        self.with(|now| {
            let limit = self.limit.unwrap_or_else(|| now.stage.limit());
            let still = now.moved.elapsed();
            (!now.ended && still >= limit).then(|| {
                let waiting = now.waiting.clone();
                (now.stage, still.as_secs(), now.at.clone(), waiting)
            })
        })
    }
}

/// Ends the process where a step stands still, and says which.
pub(super) fn over(here: &Progress, run: &str) {
    let (here, run) = (here.clone(), run.to_owned());
    thread::spawn(move || {
        loop {
            thread::sleep(BEAT);
            let Some((stage, still, at, waiting)) = here.stalled() else {
                continue;
            };
            // One that lets the others wait is named; where all wait, nobody is to blame.
            let blamed = match waiting.as_slice() {
                [one] => Some(*one),
                _ => None,
            };
            let mut error = format!("no progress for {still} s");
            if !at.is_empty() {
                error += &format!(" at {at}");
            }
            if !waiting.is_empty() {
                let ranks: Vec<String> = waiting.iter().map(usize::to_string).collect();
                let plural = if ranks.len() == 1 { "" } else { "s" };
                error += &format!(", not done: rank{plural} {}", ranks.join(", "));
            }
            // Who stands still may hold what is needed to speak.
            soon(move || {
                let mut say = Lines::new(&run, io::stdout()).after(flush);
                let more = json!({"error": error, "hang": true});
                say.step(blamed, stage.name(), "fail", more);
            });
            leave(stage.code());
        }
    });
}

/// Does it in a thread of its own, and does not wait for it for ever.
fn soon(what: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    let _ = is_done.recv_timeout(LAST);
}

/// NCCL writes its log to C's own buffer of standard output: out with it, so that its lines stay whole and in order.
#[expect(unsafe_code, reason = "C's own buffers are flushed by C")]
pub(super) fn flush() {
    // SAFETY: a null pointer stands for all streams that are open.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Ends the process. What libraries have registered for that moment may wait for what never comes, and is left out.
#[expect(unsafe_code, reason = "there is no other way out")]
pub(super) fn leave(code: u8) -> ! {
    soon(flush);
    // SAFETY: it does not come back.
    unsafe { libc::_exit(i32::from(code)) }
}
