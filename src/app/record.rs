//! `--record`: what comes in, written to a file by a thread of its own.
//!
//! The loop never waits for the disk: what can't be handed over is counted, written down as lost, and shown. Verbs
//! without a screen wait instead, since nobody's key is late there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use super::veil;
use crate::model::event::{Event, Recording, Stamped};
use crate::parse::Nanos;
use crate::report::redact::{Redactor, Taken};
use crate::sources::recording::{Header, Lost, Writer};

/// Events that may wait for the disk.
const QUEUE: usize = 8_192;
/// Bytes of log text among them.
const QUEUED_BYTES: usize = 32 << 20;
/// How long what was seen may be missing in the file.
const FLUSH: Duration = Duration::from_secs(1);
/// How long the end waits for a disk that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept, and how.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Kept")]
pub struct KeepArgs {
    /// Record what is seen to a new file, for `replay`, `open` and `report`; secrets are taken out, one that is named
    /// late from there on
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Leave secrets in what is saved, copied, recorded and reported
    #[arg(long)]
    pub no_redact: bool,
}

impl KeepArgs {
    /// The redactor that these arguments ask for. It knows the secrets of this process from the start.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        if self.no_redact {
            return Redactor::off();
        }
        let mut redactor = Redactor::new();
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                redactor.learn(name, value);
            }
        }
        redactor
    }

    /// What listens to all that comes in, and records it where that is asked for.
    ///
    /// # Errors
    /// The file exists or can't be made.
    pub fn keeper(&self, verb: &str) -> anyhow::Result<Keeper> {
        Ok(Keeper {
            recorder: self.recorder(verb)?,
            redactor: self.redactor(),
        })
    }

    /// Opens the recording, if one is asked for.
    ///
    /// # Errors
    /// The file exists or can't be made.
    pub fn recorder(&self, verb: &str) -> anyhow::Result<Option<Recorder>> {
        let Some(path) = &self.record else {
            return Ok(None);
        };
        let file = create(path)?;
        let header = Header::new(verb, now(), !self.no_redact);
        let recorder = Recorder::start(file, &header, self.redactor())
            .with_context(|| path.display().to_string())?;
        Ok(Some(recorder))
    }
}

/// Says what a recording came to, or why it did not.
///
/// # Errors
/// What the file said.
pub fn tell(args: &KeepArgs, kept: io::Result<Summary>) -> anyhow::Result<()> {
    let Some(path) = &args.record else {
        return Ok(());
    };
    let name = path.display();
    let summary = kept.with_context(|| format!("{name}: the recording broke off"))?;
    let mut said = vec![format!("recorded {} bytes to {name}", summary.bytes)];
    if summary.lost > 0 {
        said.push(format!(
            "{} events came too fast and are missing",
            summary.lost
        ));
    }
    let taken: u64 = summary.taken.iter().map(|t| t.times).sum();
    match taken {
        0 => {}
        1 => said.push("1 secret was taken out".to_owned()),
        n => said.push(format!("{n} secrets were taken out")),
    }
    let _ = writeln!(io::stderr(), "ncclscope: {}", said.join("; "));
    Ok(())
}

/// A new file for its owner alone; what is there, a link too, is left as it is.
///
/// # Errors
/// One sentence with the name.
pub fn create(path: &Path) -> anyhow::Result<File> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    let name = path.display();
    made.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => anyhow!("{name} exists; nothing was written"),
        _ => anyhow!("{name} can't be written: {e}"),
    })
}

/// What is kept of all that comes in: the recording, where one is made, and the values that must not go out.
#[derive(Debug, Default)]
pub struct Keeper {
    /// To a file.
    pub recorder: Option<Recorder>,
    /// Knows every secret that was named so far.
    pub redactor: Redactor,
}

impl Keeper {
    /// Listens to an event, and records it where that is asked for; waits for the disk, as verbs without a screen may.
    pub fn keep(&mut self, stamped: &Stamped) {
        veil::hear(&stamped.event, &mut self.redactor);
        if let Some(recorder) = &mut self.recorder {
            recorder.keep_all(stamped);
        }
    }

    /// Ends the recording and says what it came to; gives what knows the secrets.
    ///
    /// # Errors
    /// What the file said.
    pub fn close(self, args: &KeepArgs) -> anyhow::Result<Redactor> {
        if let Some(recorder) = self.recorder {
            tell(args, recorder.close())?;
        }
        Ok(self.redactor)
    }
}

/// The time of the system, nanoseconds since the Unix epoch.
#[must_use]
pub fn now() -> Nanos {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX)
}

#[derive(Debug)]
enum Job {
    Event(Box<Stamped>, Nanos),
    Lost(Lost, Nanos),
    End(Nanos),
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of log text under way.
    queued: AtomicUsize,
    /// Bytes in the file.
    written: AtomicU64,
    /// Why nothing is written any more.
    broken: Mutex<Option<String>>,
}

/// The file, its bytes counted.
struct Counted(File, Arc<Shared>);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.0.write(bytes)?;
        self.1.written.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A recording in the making.
#[derive(Debug)]
pub struct Recorder {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
    hand: JoinHandle<io::Result<Redactor>>,
    started: Nanos,
    begun: Instant,
    /// Not written down yet.
    losing: Lost,
    /// In all.
    lost: u64,
}

/// What a recording came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Bytes in the file.
    pub bytes: u64,
    /// Events that could not be written in time.
    pub lost: u64,
    /// What was taken out.
    pub taken: Vec<Taken>,
    /// What took it out, with every value it knows.
    pub redactor: Redactor,
}

impl Recorder {
    /// Starts writing to a file.
    ///
    /// # Errors
    /// The header can't be written, or no thread can be had.
    pub fn start(file: File, header: &Header, redactor: Redactor) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(Counted(file, Arc::clone(&shared)), header, redactor)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let work = {
            let shared = Arc::clone(&shared);
            move || write(writer, &queue, &shared)
        };
        let hand = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(work)?;
        Ok(Self {
            jobs,
            shared,
            hand,
            started: header.started,
            begun: Instant::now(),
            losing: Lost::default(),
            lost: 0,
        })
    }

    fn clock(&self) -> Nanos {
        let passed = Nanos::try_from(self.begun.elapsed().as_nanos()).unwrap_or(Nanos::MAX);
        self.started.saturating_add(passed)
    }

    /// Takes an event without waiting; what has no room is lost and counted.
    pub fn keep(&mut self, stamped: &Stamped) {
        if !is_observation(&stamped.event) {
            return;
        }
        let (size, lines) = weight(&stamped.event);
        let clock = self.clock();
        let room = self.shared.queued.load(Ordering::Relaxed) + size <= QUEUED_BYTES;
        if room && self.losing.events > 0 {
            match self.jobs.try_send(Job::Lost(self.losing, clock)) {
                Ok(()) => self.losing = Lost::default(),
                Err(_) => return self.lose(lines),
            }
        }
        if !room {
            return self.lose(lines);
        }
        self.shared.queued.fetch_add(size, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self
            .jobs
            .try_send(Job::Event(Box::new(stamped.clone()), clock))
        {
            self.shared.queued.fetch_sub(size, Ordering::Relaxed);
            self.lose(lines);
        }
    }

    fn lose(&mut self, lines: u64) {
        self.losing.events += 1;
        self.losing.lines += lines;
        self.lost += 1;
    }

    /// Takes an event, and waits where the disk is slower than the reading.
    pub fn keep_all(&mut self, stamped: &Stamped) {
        if !is_observation(&stamped.event) {
            return;
        }
        let (size, _) = weight(&stamped.event);
        let full = || self.shared.queued.load(Ordering::Relaxed) > QUEUED_BYTES;
        while full() && !self.hand.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.queued.fetch_add(size, Ordering::Relaxed);
        // The thread ends with this; an error of the file is kept for the end.
        let _ = self
            .jobs
            .send(Job::Event(Box::new(stamped.clone()), self.clock()));
    }

    /// What it has come to.
    #[must_use]
    pub fn status(&self) -> Recording {
        Recording {
            bytes: self.shared.written.load(Ordering::Relaxed),
            lost: self.lost,
            broken: self
                .shared
                .broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Hands over what must not be lost: waits for room, and not for ever.
    fn insist(&self, mut job: Job) -> io::Result<()> {
        let since = Instant::now();
        loop {
            job = match self.jobs.try_send(job) {
                // What ended the thread is told by it.
                Ok(()) | Err(TrySendError::Disconnected(_)) => return Ok(()),
                Err(TrySendError::Full(_)) if since.elapsed() > PATIENCE => return Err(too_slow()),
                Err(TrySendError::Full(job)) => job,
            };
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Writes what is under way and ends the recording.
    ///
    /// # Errors
    /// What the file said at any time.
    pub fn close(self) -> io::Result<Summary> {
        let clock = self.clock();
        if self.losing.events > 0 {
            self.insist(Job::Lost(self.losing, clock))?;
        }
        self.insist(Job::End(clock))?;
        let far = || {
            let shared = &self.shared;
            (
                shared.queued.load(Ordering::Relaxed),
                shared.written.load(Ordering::Relaxed),
            )
        };
        let (mut seen, mut since) = (far(), Instant::now());
        while !self.hand.is_finished() {
            if far() != seen {
                (seen, since) = (far(), Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return Err(too_slow());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let redactor = self
            .hand
            .join()
            .map_err(|_| io::Error::other("a defect in this program ended it"))??;
        Ok(Summary {
            bytes: self.shared.written.load(Ordering::Relaxed),
            lost: self.lost,
            taken: redactor.taken(),
            redactor,
        })
    }
}

/// A disk that hangs keeps nobody from leaving.
fn too_slow() -> io::Error {
    io::Error::other("the disk does not take what was recorded")
}

/// What a recording is made of; not what the person did or what the shell said.
fn is_observation(event: &Event) -> bool {
    !matches!(
        event,
        Event::Do(_)
            | Event::Note { .. }
            | Event::Resize { .. }
            | Event::Choice(_)
            | Event::Pressed(_)
            | Event::Ask(_)
            | Event::Unask(_)
            | Event::Position(_)
            | Event::Rewind
    )
}

/// Bytes and lines of log text.
fn weight(event: &Event) -> (usize, u64) {
    match event {
        Event::Log(log) => (log.block.text.len(), u64::from(log.block.lines)),
        Event::Sample(sample) => (sample.text.len(), 0),
        Event::At(_, event) => weight(event),
        _ => (0, 0),
    }
}

fn write(
    mut writer: Writer<Counted>,
    queue: &Receiver<Job>,
    shared: &Shared,
) -> io::Result<Redactor> {
    let mut flushed = Instant::now();
    let mut fresh = false;
    let mut failed: Option<io::Error> = None;
    loop {
        let job = queue.recv_timeout(FLUSH);
        let done = match job {
            // After an error everything is drained, so that nobody waits.
            Ok(Job::Event(stamped, _)) if failed.is_some() => {
                shared
                    .queued
                    .fetch_sub(weight(&stamped.event).0, Ordering::Relaxed);
                Ok(())
            }
            Ok(Job::Event(stamped, clock)) => {
                fresh = true;
                let done = writer.event(&stamped, clock);
                shared
                    .queued
                    .fetch_sub(weight(&stamped.event).0, Ordering::Relaxed);
                done
            }
            Ok(Job::Lost(lost, clock)) if failed.is_none() => writer.lost(lost, clock),
            Ok(Job::Lost(..)) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Job::End(clock)) => {
                return match failed {
                    Some(e) => Err(e),
                    None => writer.finish(clock).map(|(_, redactor)| redactor),
                };
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(Redactor::new()),
        };
        let done = done.and_then(|()| {
            if fresh && flushed.elapsed() >= FLUSH && failed.is_none() {
                (fresh, flushed) = (false, Instant::now());
                return writer.flush();
            }
            Ok(())
        });
        if let Err(e) = done {
            let why = e.to_string();
            tracing::error!(%why, "the recording broke off");
            *shared.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            failed = Some(e);
        }
    }
}
