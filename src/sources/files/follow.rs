//! Files for a screen: read once, then followed through growth, rotation and truncation.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::blocks::{Lines, Pace, Rest};
use super::content::{Patience, Refused};
use super::find::{Input, Inputs, Log, Place, Turn};
use super::parts::{self, Parts};
use super::pipeline::{self, Purpose, Stop};
use super::results::{Form, Look};
use super::{Progress, reason};
use crate::model::event::{Event, LogBlock, SourceEvent, SourceId};
use crate::parse::Block;

/// How often a followed file is looked at. A quarter of a second is what a person calls at once, and a
/// thousand `stat` calls a second for 256 files is nothing.
const POLL: Duration = Duration::from_millis(250);

/// A folder is searched for new files every so many polls.
const RESCAN: u32 = 8;

/// Reading in the background; ends when dropped, when everything was read and nothing is followed, or
/// when nobody receives any more.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
    /// How far reading has come.
    pub progress: Arc<Progress>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends everything in `inputs` through `tx`, waiting whenever it is full, then, with `go_on`, what is
/// appended to the files and what appears in the folders.
///
/// Compressed files are read once. A log that is rotated by renaming is read to its end before the new
/// file is begun; one that is truncated starts again, with a `Lost` that says so. Line numbers go on.
///
/// # Errors
/// No thread could be started.
pub fn follow(inputs: Inputs, go_on: bool, tx: Sender<Event>) -> io::Result<Follower> {
    let follower = Follower {
        stop: Arc::default(),
        progress: Arc::default(),
    };
    let task = Task {
        tx,
        stop: Arc::clone(&follower.stop),
        progress: Arc::clone(&follower.progress),
    };
    thread::Builder::new()
        .name("files".to_owned())
        .spawn(move || {
            // A receiver that is gone is the ordinary end.
            let _ = task.run(&inputs, go_on);
        })?;
    Ok(follower)
}

#[derive(Clone)]
struct Task {
    tx: Sender<Event>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

impl Task {
    fn send(&self, event: Event) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) || self.tx.blocking_send(event).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn source(&self, event: SourceEvent) -> ControlFlow<()> {
        self.send(Event::Source(event))
    }

    fn run(&self, inputs: &Inputs, go_on: bool) -> ControlFlow<()> {
        pipeline::announce(inputs, &mut |event| self.send(event))?;
        let is_file = |turn: &Turn| {
            let input = inputs.list.get(turn.input);
            input.is_some_and(|input| matches!(input.place, Place::File(_)))
        };
        let (files, streams): (Vec<Turn>, Vec<Turn>) =
            inputs.reading_order().into_iter().partition(is_file);
        for Turn { input, id, .. } in streams {
            let (task, input) = (self.clone(), inputs.list.get(input).cloned());
            let Some(input) = input else { continue };
            let spawned = thread::Builder::new()
                .name("pipe".to_owned())
                .spawn(move || {
                    let counters = [Arc::clone(&task.progress), Arc::default()];
                    let why = match pipeline::open(&input, Patience::FirstBytes, counters) {
                        Ok((_, text)) => {
                            match task.pipe(id, Lines::new(text, Pace::Eager, false)) {
                                Ok(ControlFlow::Break(())) => return,
                                Ok(ControlFlow::Continue(())) => None,
                                Err(e) => Some(reason(&e)),
                            }
                        }
                        Err(Refused::Binary(what)) => Some(format!("it looks like {what}")),
                        Err(Refused::Io(e)) => Some(reason(&e)),
                    };
                    let _ = task.source(SourceEvent::Ended { id, why });
                });
            if let Err(e) = spawned {
                self.source(SourceEvent::Ended {
                    id,
                    why: Some(reason(&e)),
                })?;
            }
        }
        let purpose = if go_on {
            Purpose::Follow
        } else {
            Purpose::Screen
        };
        let read = pipeline::read(inputs, &files, purpose, 0, &self.progress, &mut |event| {
            self.send(event)
        });
        let stops = match read {
            Ok((_, stops)) => stops,
            Err(broken) => {
                for turn in files.iter().filter(|turn| !turn.more) {
                    self.source(SourceEvent::Ended {
                        id: turn.id,
                        why: Some(broken.to_string()),
                    })?;
                }
                return ControlFlow::Break(());
            }
        };
        if go_on {
            return self.watch(inputs, &files, stops);
        }
        ControlFlow::Continue(())
    }

    /// A pipe to its end: every whole line at once, however slowly they come.
    fn pipe<R: io::Read>(&self, id: SourceId, mut lines: Lines<R>) -> io::Result<ControlFlow<()>> {
        let mut next = 1;
        loop {
            let (flow, end) = self.step(id, &mut lines, &mut next)?;
            if flow.is_break() || end {
                return Ok(flow);
            }
        }
    }

    /// One block; says whether the data ended.
    fn step<R: io::Read>(
        &self,
        id: SourceId,
        lines: &mut Lines<R>,
        next: &mut u64,
    ) -> io::Result<(ControlFlow<()>, bool)> {
        let mut text = Vec::new();
        let fill = lines.fill(&mut text)?;
        let mut flow = ControlFlow::Continue(());
        if !text.is_empty() {
            // A trickle would keep a whole buffer alive per line.
            text.shrink_to_fit();
            let block = Block::new(*next, text);
            *next += u64::from(block.lines);
            flow = self.send(Event::Log(LogBlock {
                source: id,
                block: Arc::new(block),
            }));
        }
        if fill.cut > 0 && flow.is_continue() {
            let why = format!("a line longer than {} MiB was cut", super::LINE_BYTES >> 20);
            flow = self.source(SourceEvent::Lost {
                id,
                lines: Some(fill.cut),
                why,
            });
        }
        Ok((flow, fill.end))
    }

    fn watch(&self, inputs: &Inputs, files: &[Turn], stops: Vec<Stop>) -> ControlFlow<()> {
        let mut known = Known::default();
        let mut watched: Vec<Watched> = Vec::new();
        let mut parts = Parts::default();
        for (turn, stop) in files.iter().zip(stops) {
            let Some(input) = inputs.list.get(turn.input) else {
                continue;
            };
            let Place::File(path) = &input.place else {
                continue;
            };
            let now = fs::metadata(path).map(|meta| identity(&meta)).ok();
            known.paths.insert(path.clone());
            known.files.extend(stop.file.or(now));
            parts.push(stop.before + 1, &input.name, stop.file.or(now));
            // Nothing is appended to a part that was rotated away.
            if turn.more {
                continue;
            }
            let parts = std::mem::take(&mut parts);
            if stop.troubled {
                continue;
            }
            match Watched::resume(turn.id, path, stop, parts) {
                Ok(Some(file)) => watched.push(file),
                // Compressed: finished, and nothing will be appended.
                Ok(None) => self.source(SourceEvent::Ended {
                    id: turn.id,
                    why: None,
                })?,
                Err(e) => {
                    self.source(SourceEvent::Ended {
                        id: turn.id,
                        why: Some(reason(&e)),
                    })?;
                }
            }
        }
        let mut sources = u32::try_from(inputs.logs.len()).unwrap_or(u32::MAX);
        let mut round = 0u32;
        let folders = inputs.roots.iter().any(|root| root.is_dir());
        loop {
            for file in &mut watched {
                file.poll(self)?;
            }
            round = round.wrapping_add(1);
            if folders && round.is_multiple_of(RESCAN) {
                self.rescan(inputs, &mut known, &mut watched, &mut sources)?;
            }
            if self.stop.load(Ordering::Relaxed) || self.tx.is_closed() {
                return ControlFlow::Break(());
            }
            thread::sleep(POLL);
        }
    }

    /// Files that appeared in a followed folder.
    fn rescan(
        &self,
        inputs: &Inputs,
        known: &mut Known,
        watched: &mut Vec<Watched>,
        sources: &mut u32,
    ) -> ControlFlow<()> {
        let roots: Vec<PathBuf> = inputs
            .roots
            .iter()
            .filter(|root| root.is_dir())
            .cloned()
            .collect();
        let Ok(now) = Inputs::find(&roots) else {
            return ControlFlow::Continue(());
        };
        let before = std::mem::take(&mut known.files);
        for log in &now.logs {
            let mut found = Vec::new();
            let mut newest = false;
            for input in log.files.iter().filter_map(|i| now.list.get(*i)) {
                let Place::File(path) = &input.place else {
                    continue;
                };
                let Ok(file) = fs::metadata(path).map(|meta| identity(&meta)) else {
                    continue;
                };
                known.files.insert(file);
                // Renamed by a rotation: its lines were read under the old name.
                let read = before.contains(&file) || watched.iter().any(|w| w.has_read(file));
                newest = known.paths.insert(path.clone()) && !read;
                if newest {
                    found.push((path, input, file));
                }
            }
            // What appears beside a log that is followed was copied from it by a rotation.
            if newest {
                self.begin(log, &found, watched, sources)?;
            }
        }
        for file in watched {
            // From here on `known.files` knows them.
            file.past.clear();
        }
        ControlFlow::Continue(())
    }

    /// A log that appeared, part by part; the newest is followed from here on.
    fn begin(
        &self,
        log: &Log,
        found: &[(&PathBuf, &Input, Identity)],
        watched: &mut Vec<Watched>,
        sources: &mut u32,
    ) -> ControlFlow<()> {
        let id = SourceId(*sources);
        let (mut parts, mut lines) = (Parts::default(), 0);
        for (n, (path, input, file)) in found.iter().enumerate() {
            let stop = Stop {
                before: lines,
                lines,
                ..Stop::default()
            };
            let mut upto = parts.clone();
            upto.push(lines + 1, &input.name, Some(*file));
            // Packed by a rotation: it was read under another name.
            let Ok(Some(mut file)) = Watched::resume(id, path, stop, upto) else {
                continue;
            };
            if id.0 == *sources {
                *sources += 1;
                self.source(SourceEvent::Opened(id, log.info.clone()))?;
            }
            if found.len() > 1 {
                self.source(file.parts.told(id))?;
            }
            if n + 1 == found.len() {
                file.poll(self)?;
                watched.push(file);
                break;
            }
            file.drain(self, true)?;
            file.last_line(self)?;
            (parts, lines) = (file.parts, file.next - 1);
        }
        ControlFlow::Continue(())
    }
}

/// What a followed folder held when it was last listed.
#[derive(Default)]
struct Known {
    /// Every path there ever was.
    paths: BTreeSet<PathBuf>,
    /// The files behind them, whatever they are called now.
    files: BTreeSet<Identity>,
}

/// A file that grows.
struct Watched {
    id: SourceId,
    path: PathBuf,
    file: Arc<File>,
    identity: Identity,
    /// What the path led to before, until a listing shows its new name.
    past: BTreeSet<Identity>,
    /// The files that hold its lines.
    parts: Parts,
    /// What was appended before it was rotated away is lost, and nobody was told yet.
    lost: bool,
    lines: Lines<Arc<File>>,
    /// Number of the next line.
    next: u64,
    /// The path leads nowhere at present.
    gone: bool,
    /// What it is; of one that is no log the bytes are not handed on.
    form: Form,
}

impl Watched {
    /// Goes on where reading stopped; `None` for a compressed file.
    fn resume(id: SourceId, path: &Path, stop: Stop, parts: Parts) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut stop = stop;
        let mut lost = false;
        // Rotated while it was read: its rest has another name.
        if let Some(read) = stop
            .file
            .filter(|read| identity_of(&file).is_ok_and(|now| now != *read))
        {
            match parts::open(path, read) {
                Some(renamed) => file = renamed,
                None => (stop.raw, lost) = (0, true),
            }
        }
        let mut magic = [0; 4];
        let mut have = 0;
        while let Some(rest) = magic.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match io::Read::read(&mut &file, rest)? {
                0 => break,
                read => have += read,
            }
        }
        if matches!(
            magic,
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..]
        ) {
            return Ok(None);
        }
        let form = Form::resume(&file, stop.raw)?;
        (&file).seek(SeekFrom::Start(stop.raw))?;
        let (file, identity) = (Arc::new(file), (0, 0));
        let lines = Lines::resume(Arc::clone(&file), stop.rest, Pace::Full, true);
        let mut watched = Self {
            id,
            path: path.to_owned(),
            file,
            identity,
            past: BTreeSet::new(),
            parts,
            lost,
            lines,
            next: stop.lines + 1,
            gone: false,
            form,
        };
        watched.identity = identity_of(&watched.file)?;
        Ok(Some(watched))
    }

    fn poll(&mut self, task: &Task) -> ControlFlow<()> {
        if std::mem::take(&mut self.lost) {
            self.last_line(task)?;
            let why = "the file was rotated away while it was read".to_owned();
            task.source(SourceEvent::Lost {
                id: self.id,
                lines: None,
                why,
            })?;
            self.parts.rotated(&self.path, self.next, self.identity);
            task.source(self.parts.told(self.id))?;
        }
        if let Err(e) = self.truncated(task)? {
            return self.retrying(reason(&e), task);
        }
        self.drain(task, false)?;
        let here = fs::metadata(&self.path);
        match here {
            Ok(meta) if identity(&meta) != self.identity => {
                // Written between the last look and the rename.
                self.drain(task, true)?;
                self.last_line(task)?;
                if let Err(e) = self.reopen() {
                    return self.lost_sight(task, &e);
                }
                task.source(SourceEvent::Up(self.id))?;
                self.parts.rotated(&self.path, self.next, self.identity);
                task.source(self.parts.told(self.id))?;
                self.drain(task, false)
            }
            Ok(_) if self.gone => {
                self.gone = false;
                task.source(SourceEvent::Up(self.id))
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(e) => self.lost_sight(task, &e),
        }
    }

    fn lost_sight(&mut self, task: &Task, e: &io::Error) -> ControlFlow<()> {
        if std::mem::replace(&mut self.gone, true) {
            return ControlFlow::Continue(());
        }
        self.retrying(reason(e), task)
    }

    /// Starts again when the file is shorter than what was read of it.
    fn truncated(&mut self, task: &Task) -> ControlFlow<(), io::Result<()>> {
        let shorter = || -> io::Result<bool> {
            let at = (&*self.file).stream_position()?;
            Ok(self.file.metadata()?.len() < at)
        };
        match shorter() {
            Ok(false) => ControlFlow::Continue(Ok(())),
            Ok(true) => {
                self.last_line(task)?;
                let why = "the file was truncated while it was followed".to_owned();
                task.source(SourceEvent::Lost {
                    id: self.id,
                    lines: None,
                    why,
                })?;
                self.parts.truncated(self.next);
                task.source(self.parts.told(self.id))?;
                self.form = Form::Open(0);
                ControlFlow::Continue((&*self.file).seek(SeekFrom::Start(0)).map(drop))
            }
            Err(e) => ControlFlow::Continue(Err(e)),
        }
    }

    /// Hands on what there is; `last`: nothing more will come.
    fn drain(&mut self, task: &Task, last: bool) -> ControlFlow<()> {
        let judged = self.form.judge(&self.file, last);
        let looked = match (judged, &mut self.form) {
            (Err(e), _) => Err(e),
            (Ok(()), Form::Open(_)) => return ControlFlow::Continue(()),
            (Ok(()), Form::Log) => return self.drain_lines(task),
            (Ok(()), Form::Results(results)) => results.look(&self.file, last),
        };
        match looked {
            Ok(Look::Same) => ControlFlow::Continue(()),
            Ok(Look::Told(text)) => {
                task.source(SourceEvent::Up(self.id))?;
                self.tell(text.into_bytes(), task)
            }
            Ok(Look::Torn) => {
                let why = "this result file of nccl-tests is not whole yet";
                self.retrying(why.to_owned(), task)
            }
            Ok(Look::Other) => {
                self.form = Form::Open(0);
                ControlFlow::Continue(())
            }
            Err(e) => self.retrying(reason(&e), task),
        }
    }

    fn drain_lines(&mut self, task: &Task) -> ControlFlow<()> {
        loop {
            match task.step(self.id, &mut self.lines, &mut self.next) {
                Ok((ControlFlow::Continue(()), false)) => {}
                Ok((flow, _)) => return flow,
                Err(e) => return self.retrying(reason(&e), task),
            }
        }
    }

    fn retrying(&self, why: String, task: &Task) -> ControlFlow<()> {
        task.source(SourceEvent::Retrying {
            id: self.id,
            why,
            in_ms: millis(POLL),
        })
    }

    fn tell(&mut self, text: Vec<u8>, task: &Task) -> ControlFlow<()> {
        let block = Block::new(self.next, text);
        self.next += u64::from(block.lines);
        task.send(Event::Log(LogBlock {
            source: self.id,
            block: Arc::new(block),
        }))
    }

    /// An unfinished line that will never be finished.
    fn last_line(&mut self, task: &Task) -> ControlFlow<()> {
        let mut text = Vec::new();
        self.lines.salvage(&mut text);
        self.lines = Lines::resume(Arc::clone(&self.file), Rest::default(), Pace::Full, true);
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.tell(text, task)
    }

    fn has_read(&self, identity: Identity) -> bool {
        self.identity == identity || self.past.contains(&identity)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = Arc::new(File::open(&self.path)?);
        self.past.insert(self.identity);
        self.identity = identity_of(&file)?;
        self.lines = Lines::resume(Arc::clone(&file), Rest::default(), Pace::Full, true);
        self.file = file;
        self.form = Form::Open(0);
        self.gone = false;
        Ok(())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// What tells a file from all others, whatever it is called.
pub(super) type Identity = (u64, u64);

pub(super) fn identity_of(file: &File) -> io::Result<Identity> {
    Ok(identity(&file.metadata()?))
}

/// Device and inode: two names with the same one are the same file.
#[cfg(unix)]
pub(super) fn identity(meta: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

/// Elsewhere rotation shows as truncation, and what appears in a folder goes unnoticed.
#[cfg(not(unix))]
pub(super) fn identity(_: &Metadata) -> Identity {
    (0, 0)
}
