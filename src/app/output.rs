//! The writer: a thread that owns the way to the terminal, so that nobody else ever waits for it.
//!
//! The loop leaves whole frames here and goes on. At most one frame is waiting; a newer one takes its place, and
//! whatever is sent is the difference to what the terminal really shows. A slow terminal thus sees fewer frames,
//! never older ones.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::encode::Encoder;

/// Bytes per write: small, so that a terminal that stopped reading is noticed between two of them.
const CHUNK: usize = 1024;

/// What went to the terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that reached it; those without a difference don't count.
    pub frames: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of the first frame.
    pub first: u64,
    /// Bytes of the largest later frame.
    pub largest: u64,
    /// Frames that a newer one replaced before they were sent.
    pub dropped: u64,
}

#[derive(Default)]
struct State {
    frame: Option<Buffer>,
    spare: Vec<Buffer>,
    /// Sequences that are no frame: the clipboard.
    raw: Vec<u8>,
    repaint: bool,
    busy: bool,
    /// Give up what is being written.
    hurry: bool,
    closing: bool,
    failed: Option<io::Error>,
    stats: Stats,
}

impl State {
    fn owes(&self) -> bool {
        self.busy || self.frame.is_some() || !self.raw.is_empty()
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of the other thread leaves plain values behind: there is nothing half done in them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's end of the writer.
pub struct Output {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Output {
    /// Starts the writer.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("terminal".into())
            .spawn(move || serve(&theirs, to))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// An empty buffer to draw in.
    #[must_use]
    pub fn canvas(&self, area: Rect) -> Buffer {
        let mut buffer = self.shared.lock().spare.pop().unwrap_or_default();
        buffer.resize(area);
        buffer.reset();
        buffer
    }

    /// Leaves a frame. Never waits.
    pub fn post(&self, frame: Buffer) {
        let mut state = self.shared.lock();
        if let Some(old) = state.frame.replace(frame) {
            state.stats.dropped += 1;
            state.spare.push(old);
        }
        self.shared.work.notify_one();
    }

    /// Leaves bytes that are no frame. Never waits.
    pub fn send(&self, bytes: &[u8]) {
        self.shared.lock().raw.extend_from_slice(bytes);
        self.shared.work.notify_one();
    }

    /// The next frame is painted on a screen of which nothing is known.
    pub fn repaint(&self) {
        self.shared.lock().repaint = true;
    }

    /// Whether everything left here was sent: the time to draw the next frame.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let state = self.shared.lock();
        state.frame.is_none() && !state.busy
    }

    /// Why the terminal can't be written to any more.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.shared.lock().failed.as_ref().map(ToString::to_string)
    }

    /// What was sent.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats
    }

    /// Waits until the writer holds its breath, giving up the frame on its way after `patience`. False when the
    /// terminal did not take a byte even then.
    pub fn settle(&self, patience: Duration) -> bool {
        let mut state = self.wait(self.shared.lock(), patience);
        if state.owes() {
            state.frame = None;
            state.raw.clear();
            state.hurry = state.busy;
            state = self.wait(state, patience);
        }
        !state.busy
    }

    fn wait<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        patience: Duration,
    ) -> MutexGuard<'s, State> {
        let until = Instant::now() + patience;
        while state.owes() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self
                .shared
                .idle
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state
    }

    /// Ends the writer; what is still here after `patience` is not sent.
    pub fn close(mut self, patience: Duration) -> Stats {
        let settled = self.settle(patience);
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        if let (true, Some(thread)) = (settled, self.thread.take()) {
            // Its panic was already reported by the hook.
            let _ = thread.join();
        }
        self.stats()
    }
}

fn serve(shared: &Shared, mut to: impl Write) {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    loop {
        let frame = {
            let mut state = shared.lock();
            state.busy = false;
            state.hurry = false;
            shared.idle.notify_all();
            while state.frame.is_none() && state.raw.is_empty() && !state.closing {
                state = shared
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                return;
            }
            state.busy = true;
            if std::mem::take(&mut state.repaint) {
                encoder.forget();
            }
            bytes.clear();
            bytes.append(&mut state.raw);
            state.frame.take()
        };
        let sequences = bytes.len();
        let old = frame.and_then(|frame| encoder.frame(frame, &mut bytes));
        let sent = write(shared, &mut to, &bytes);
        let mut state = shared.lock();
        state.spare.extend(old);
        state.spare.truncate(2);
        match sent {
            Ok(true) => {
                let painted = (bytes.len() - sequences) as u64;
                let stats = &mut state.stats;
                stats.bytes += bytes.len() as u64;
                match (painted, stats.frames) {
                    (0, _) => {}
                    (n, 0) => stats.first = n,
                    (n, _) => stats.largest = stats.largest.max(n),
                }
                stats.frames += u64::from(painted > 0);
            }
            // Nobody knows how much of it the terminal has seen.
            Ok(false) => encoder.forget(),
            Err(error) => {
                encoder.forget();
                state.failed = Some(error);
            }
        }
    }
}

/// False when it was given up half-way.
fn write(shared: &Shared, to: &mut impl Write, bytes: &[u8]) -> io::Result<bool> {
    for chunk in bytes.chunks(CHUNK) {
        if shared.lock().hurry {
            return Ok(false);
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares the terminal made it non-blocking.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                Err(e) => return Err(e),
            }
            if !rest.is_empty() && shared.lock().hurry {
                return Ok(false);
            }
        }
    }
    to.flush()?;
    Ok(true)
}
