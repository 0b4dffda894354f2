//! A file that grows: read on through growth, rotation and truncation.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{POLL, Task};
use crate::model::event::{Event, LogBlock, SourceEvent, SourceId};
use crate::parse::Block;
use crate::sources::files::blocks::{Lines, Pace, Rest};
use crate::sources::files::identity::{Identity, identity, identity_of};
use crate::sources::files::parts::{self, Parts};
use crate::sources::files::pipeline::Stop;
use crate::sources::files::reason;
use crate::sources::files::results::{Form, Look};

/// A file that grows.
pub(super) struct Watched {
    pub(super) id: SourceId,
    pub(super) path: PathBuf,
    file: Arc<File>,
    identity: Identity,
    /// What the path led to before, until a listing shows its new name.
    pub(super) past: BTreeSet<Identity>,
    /// The files that hold its lines.
    pub(super) parts: Parts,
    /// It is told to be of a life before the present one.
    pub(super) previous: bool,
    /// What was appended before it was rotated away is lost, and nobody was told yet.
    lost: bool,
    lines: Lines<Arc<File>>,
    /// Number of the next line.
    pub(super) next: u64,
    /// The path leads nowhere at present.
    gone: bool,
    /// What it is; of one that is no log the bytes are not handed on.
    form: Form,
}

impl Watched {
    /// Goes on where reading stopped; `None` for a compressed file.
    pub(super) fn resume(
        id: SourceId,
        path: &Path,
        stop: Stop,
        parts: Parts,
    ) -> io::Result<Option<Self>> {
        let mut stop = stop;
        let mut lost = false;
        let now = File::open(path);
        let is =
            |read: Identity| matches!(now.as_ref().map(identity_of), Ok(Ok(now)) if now == read);
        let file = match stop.file.filter(|read| !is(*read)) {
            // Rotated while it was read: its rest has another name.
            Some(read) => match parts::open(path, read) {
                Some(renamed) => renamed,
                None => {
                    (stop.raw, lost) = (0, true);
                    now?
                }
            },
            None => now?,
        };
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
            previous: false,
            lost,
            lines,
            next: stop.lines + 1,
            gone: false,
            form,
        };
        watched.identity = identity_of(&watched.file)?;
        Ok(Some(watched))
    }

    pub(super) fn poll(&mut self, task: &Task) -> ControlFlow<()> {
        if std::mem::take(&mut self.lost) {
            self.last_line(task)?;
            let why = "the file was rotated away while it was read".to_owned();
            task.source(SourceEvent::Lost {
                id: self.id,
                lines: None,
                why,
            })?;
            self.moved(task)?;
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
                // Rotated more than once since the last look.
                for missed in parts::since(&self.path, self.identity) {
                    if self.go_on_in(&missed).is_ok() {
                        self.moved(task)?;
                        self.drain(task, true)?;
                        self.last_line(task)?;
                    }
                }
                if let Err(e) = self.go_on_in(&self.path.clone()) {
                    return self.lost_sight(task, &e);
                }
                task.source(SourceEvent::Up(self.id))?;
                self.moved(task)?;
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
                self.parts.truncated(&self.path, self.next);
                task.source(self.parts.told(self.id))?;
                self.form = Form::Open(0);
                ControlFlow::Continue((&*self.file).seek(SeekFrom::Start(0)).map(drop))
            }
            Err(e) => ControlFlow::Continue(Err(e)),
        }
    }

    /// Hands on what there is; `last`: nothing more will come.
    pub(super) fn drain(&mut self, task: &Task, last: bool) -> ControlFlow<()> {
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
    pub(super) fn last_line(&mut self, task: &Task) -> ControlFlow<()> {
        let mut text = Vec::new();
        self.lines.salvage(&mut text);
        self.lines = Lines::resume(Arc::clone(&self.file), Rest::default(), Pace::Full, true);
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.tell(text, task)
    }

    pub(super) fn has_read(&self, identity: Identity) -> bool {
        self.identity == identity || self.past.contains(&identity)
    }

    /// Says in which files its lines stand by now.
    fn moved(&mut self, task: &Task) -> ControlFlow<()> {
        self.parts.rotated(&self.path, self.next, self.identity);
        task.source(self.parts.told(self.id))
    }

    fn go_on_in(&mut self, path: &Path) -> io::Result<()> {
        let file = Arc::new(File::open(path)?);
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
