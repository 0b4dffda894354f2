//! Files for a screen: read once, then followed through growth, rotation and truncation.

mod watched;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use self::watched::Watched;
use super::blocks::{Lines, Pace};
use super::content::{Patience, Refused};
use super::find::{Input, Inputs, Log, Place, Turn};
use super::identity::{Identity, identity};
use super::parts::Parts;
use super::pipeline::{self, Purpose, Stop};
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
                Ok(Some(mut file)) => {
                    file.previous = inputs.is_previous(turn.id);
                    watched.push(file);
                }
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
            } else if log.info.previous {
                self.outlived(log, &now.list, watched)?;
            }
        }
        for file in watched {
            // From here on `known.files` knows them.
            file.past.clear();
        }
        ControlFlow::Continue(())
    }

    /// The container lives again, in a log of its own.
    fn outlived(&self, log: &Log, list: &[Input], watched: &mut [Watched]) -> ControlFlow<()> {
        let newest = log.files.last().and_then(|i| list.get(*i));
        let here = |w: &&mut Watched| {
            let path = newest.map(|input| &input.place);
            !w.previous && matches!(path, Some(Place::File(path)) if *path == w.path)
        };
        match watched.iter_mut().find(here) {
            Some(file) => {
                file.previous = true;
                self.source(SourceEvent::Opened(file.id, log.info.clone()))
            }
            None => ControlFlow::Continue(()),
        }
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
                file.previous = log.info.previous;
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
