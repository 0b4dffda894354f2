//! Reading on all cores, folding in order.
//!
//! Every worker does both halves of the work on one block: it takes a stream that nobody else holds,
//! fills a buffer from it, gives the stream back and parses what it just read, while the bytes are still
//! in its core's cache. The calling thread takes the parsed blocks in the order of the input and hands
//! them to the sink. A stream may run ahead of the sink by a fixed number of blocks and then waits, so memory
//! is bounded whatever the input's size; buffers go round.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::blocks::{Fill, Lines, Pace, Rest};
use super::content::{self, Patience, Refused, Text};
use super::find::{Input, Inputs, Place, Turn};
use super::identity::{Identity, identity_of};
use super::{Progress, SourceError, Totals, reason};
use crate::model::event::{Event, LogBlock, LogFile, SourceEvent, SourceId};
use crate::parse::{Block, Parser};

/// Streams behind the one being folded that are read ahead: decompression is sequential within a stream,
/// so several of them have to run at once to use all cores.
const AHEAD_STREAMS: usize = 8;

/// Blocks that such a stream may have waiting.
const AHEAD_BLOCKS: usize = 2;

/// More threads than this only wait for memory.
const MOST_THREADS: usize = 32;

/// What goes where: the sink says whether to go on.
pub type Sink<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// Reads every input to its end and hands events to `sink` in an order given by the content alone:
/// `Opened` for all sources, then each source's blocks and its `Ended`.
///
/// `threads` = 0 means one per core. Stops early, without an error, when the sink says so.
///
/// # Errors
/// An input named by the user that turns out unreadable or no text at its very beginning.
pub fn read_all(
    inputs: &Inputs,
    threads: usize,
    progress: &Arc<Progress>,
    sink: &mut Sink<'_>,
) -> Result<Totals, SourceError> {
    if announce(inputs, sink).is_break() {
        return Ok(Totals::default());
    }
    read(
        inputs,
        &inputs.reading_order(),
        Purpose::Report,
        threads,
        progress,
        sink,
    )
    .map(|(totals, _)| totals)
}

/// What the reading is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything once; an input that can't be read at all is an error.
    Report,
    /// Everything once; trouble is an event.
    Screen,
    /// Files grow: an unfinished last line is kept for whoever reads on, and `Ended` is not sent.
    Follow,
}

impl Purpose {
    /// More may come of this input: it is the newest part of its log.
    fn goes_on(self, turn: Turn, input: &Input) -> bool {
        self == Self::Follow && !turn.more && matches!(input.place, Place::File(_))
    }
}

/// Where reading of one input stopped.
#[derive(Debug, Default, Clone)]
pub(super) struct Stop {
    pub(super) rest: Rest,
    /// Bytes taken from the file.
    pub(super) raw: u64,
    /// The file, whatever it is called by now.
    pub(super) file: Option<Identity>,
    /// Ended because of trouble.
    pub(super) troubled: bool,
    /// Physical lines of its log in front of it.
    pub(super) before: u64,
    /// Physical lines handed over, those in front of it among them.
    pub(super) lines: u64,
}

/// Tells everyone which sources there are.
pub(super) fn announce(inputs: &Inputs, sink: &mut Sink<'_>) -> ControlFlow<()> {
    for (id, log) in (0..).map(SourceId).zip(&inputs.logs) {
        sink(Event::Source(SourceEvent::Opened(id, log.info.clone())))?;
    }
    ControlFlow::Continue(())
}

/// Reads the inputs in `order`; the stops belong to the same positions as `order`.
pub(super) fn read(
    inputs: &Inputs,
    order: &[Turn],
    purpose: Purpose,
    threads: usize,
    progress: &Arc<Progress>,
    sink: &mut Sink<'_>,
) -> Result<(Totals, Vec<Stop>), SourceError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = if threads == 0 { cores } else { threads }.clamp(1, MOST_THREADS);
    let mut stops = vec![Stop::default(); order.len()];
    let shared = Shared {
        lanes: order.iter().map(|_| Lane::default()).collect(),
        window: workers * 2 + 2,
        ..Shared::default()
    };
    let desk = Desk {
        shared: Mutex::new(shared),
        work: Condvar::new(),
        ready: Condvar::new(),
    };
    let totals = thread::scope(|scope| {
        let mut hands = Vec::new();
        let leave = Leave(&desk);
        for n in 0..workers {
            let desk = &desk;
            let work = move || {
                Worker {
                    desk,
                    inputs,
                    order,
                    purpose,
                    progress,
                }
                .run()
            };
            match thread::Builder::new()
                .name(format!("parse-{n}"))
                .spawn_scoped(scope, work)
            {
                Ok(hand) => hands.push(hand),
                // One worker suffices; none does not.
                Err(_) if n > 0 => break,
                Err(e) => {
                    return Err(SourceError::Io {
                        path: "input".to_owned(),
                        why: reason(&e),
                    });
                }
            }
        }
        let totals = fold(&desk, inputs, order, purpose, &mut stops, sink);
        drop(leave);
        for hand in hands {
            // A panic was reported by `broken`; joining keeps the scope from raising it again.
            let _ = hand.join();
        }
        totals
    })?;
    Ok((totals, stops))
}

/// State of one input while it is read.
#[derive(Default)]
struct Lane {
    /// Not opened yet, idle, or out with a worker.
    stream: Stream,
    /// Blocks read so far: number of the next one.
    read: u64,
    /// Blocks read and not folded yet.
    waiting: usize,
    /// Bytes taken from the file.
    raw: Arc<Progress>,
    /// The file.
    file: Option<Identity>,
    /// Why it ended, when not in the ordinary way.
    trouble: Option<Trouble>,
}

#[derive(Default)]
enum Stream {
    #[default]
    Unopened,
    Idle(Box<Lines<Text>>),
    Busy,
    Ended(Rest),
}

/// Why a stream ended before its end.
enum Trouble {
    Refused(&'static str),
    Io(io::Error),
}

/// A parsed block on its way to the sink.
struct Parcel {
    block: Block,
    cut: u64,
}

#[derive(Default)]
struct Shared {
    lanes: Vec<Lane>,
    /// The lane whose blocks are being folded.
    current: usize,
    /// Blocks that the current lane may have waiting.
    window: usize,
    /// Parsed, by (lane, number).
    parsed: BTreeMap<(usize, u64), Parcel>,
    /// Blocks to be used again.
    spare: Vec<Block>,
    /// Nobody needs more.
    over: bool,
    /// A worker panicked.
    broken: bool,
}

struct Desk {
    shared: Mutex<Shared>,
    /// Something can be read.
    work: Condvar,
    /// Something can be folded.
    ready: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the workers home, also when the sink panics.
struct Leave<'a>(&'a Desk);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.work.notify_all();
    }
}

struct Worker<'a> {
    desk: &'a Desk,
    inputs: &'a Inputs,
    order: &'a [Turn],
    purpose: Purpose,
    progress: &'a Arc<Progress>,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.desk.lock().broken = true;
            self.desk.ready.notify_all();
        }
    }
}

impl Worker<'_> {
    fn run(&self) {
        let mut parser = Parser::default();
        while let Some((lane, number, stream, spare)) = self.take() {
            let mut block = spare;
            let opened = match stream {
                Stream::Idle(lines) => Ok(lines),
                _ => self.open(lane),
            };
            let (next, fill, trouble) = match opened {
                Ok(mut lines) => match lines.fill(&mut block.text) {
                    Ok(fill) if fill.end => (Stream::Ended(lines.rest()), fill, None),
                    Ok(fill) => (Stream::Idle(lines), fill, None),
                    Err(e) => {
                        lines.salvage(&mut block.text);
                        let fill = Fill { cut: 0, end: true };
                        (Stream::Ended(Rest::default()), fill, Some(Trouble::Io(e)))
                    }
                },
                Err(refused) => {
                    block.text.clear();
                    let trouble = match refused {
                        Refused::Binary(what) => Trouble::Refused(what),
                        Refused::Io(e) => Trouble::Io(e),
                    };
                    (
                        Stream::Ended(Rest::default()),
                        Fill { cut: 0, end: true },
                        Some(trouble),
                    )
                }
            };
            let empty = block.text.is_empty();
            {
                let mut shared = self.desk.lock();
                if let Some(l) = shared.lanes.get_mut(lane) {
                    l.stream = next;
                    l.trouble = trouble;
                    if empty {
                        l.waiting -= 1;
                    } else {
                        l.read += 1;
                    }
                }
                if empty {
                    shared.spare.push(std::mem::take(&mut block));
                }
            }
            // The stream is free again, or its end is known.
            self.desk.work.notify_one();
            if empty {
                self.desk.ready.notify_one();
                continue;
            }
            parser.parse(&mut block);
            self.desk.lock().parsed.insert(
                (lane, number),
                Parcel {
                    block,
                    cut: fill.cut,
                },
            );
            self.desk.ready.notify_one();
        }
    }

    /// The first stream, in order, that is free and not too far ahead.
    fn take(&self) -> Option<(usize, u64, Stream, Block)> {
        let mut shared = self.desk.lock();
        loop {
            if shared.over {
                return None;
            }
            let (current, window) = (shared.current, shared.window);
            let last = shared.lanes.len().min(current + AHEAD_STREAMS);
            let free = (current..last).find(|&lane| {
                shared.lanes.get(lane).is_some_and(|l| {
                    let limit = if lane == current {
                        window
                    } else {
                        AHEAD_BLOCKS
                    };
                    l.waiting < limit && matches!(l.stream, Stream::Unopened | Stream::Idle(_))
                })
            });
            if let Some(lane) = free {
                let spare = shared.spare.pop().unwrap_or_default();
                let l = shared.lanes.get_mut(lane)?;
                l.waiting += 1;
                return Some((
                    lane,
                    l.read,
                    std::mem::replace(&mut l.stream, Stream::Busy),
                    spare,
                ));
            }
            shared = self
                .desk
                .work
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self, lane: usize) -> Result<Box<Lines<Text>>, Refused> {
        let turn = self.order.get(lane);
        let input = turn.and_then(|turn| Some((*turn, self.inputs.list.get(turn.input)?)));
        let (turn, input) = input.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mine = self
            .desk
            .lock()
            .lanes
            .get(lane)
            .map(|l| Arc::clone(&l.raw))
            .unwrap_or_default();
        let follows = self.purpose.goes_on(turn, input);
        let patience = if follows {
            Patience::Followed
        } else {
            Patience::Enough
        };
        let counters = [Arc::clone(self.progress), mine];
        let (file, text) = open(input, patience, counters)?;
        if let Some(lane) = self.desk.lock().lanes.get_mut(lane) {
            lane.file = file;
        }
        Ok(Box::new(Lines::new(text, Pace::Full, follows)))
    }
}

/// Opens an input, counts what is taken from it, and says which file it is.
pub(super) fn open(
    input: &Input,
    patience: Patience,
    counters: [Arc<Progress>; 2],
) -> Result<(Option<Identity>, Text), Refused> {
    let (file, text) = match &input.place {
        Place::Stdin => {
            let inner = io::stdin();
            (None, content::open(Counted { inner, counters }, patience)?)
        }
        Place::File(path) | Place::Stream(path) => {
            let inner = File::open(path)?;
            let file = identity_of(&inner).ok();
            (file, content::open(Counted { inner, counters }, patience)?)
        }
    };
    Ok((file, text))
}

struct Counted<R> {
    inner: R,
    counters: [Arc<Progress>; 2],
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        for counter in &self.counters {
            counter.add(read);
        }
        Ok(read)
    }
}

fn fold(
    desk: &Desk,
    inputs: &Inputs,
    order: &[Turn],
    purpose: Purpose,
    stops: &mut [Stop],
    sink: &mut Sink<'_>,
) -> Result<Totals, SourceError> {
    let mut totals = Totals::default();
    // Of the log that is being read.
    let mut files: Vec<LogFile> = Vec::new();
    let mut read = 0;
    for (lane, &turn) in order.iter().enumerate() {
        let (Some(input), Some(stop)) = (inputs.list.get(turn.input), stops.get_mut(lane)) else {
            continue;
        };
        let id = turn.id;
        (stop.before, stop.lines) = (read, read);
        if turn.part {
            files.push(LogFile {
                first_line: read + 1,
                name: input.name.clone(),
            });
            let files = files.clone();
            if sink(Event::Source(SourceEvent::Files { id, files })).is_break() {
                return Ok(totals);
            }
        }
        let (mut number, mut bytes) = (0, 0u64);
        while let Some(Parcel { mut block, cut }) =
            next(desk, lane, number).map_err(|Broken| SourceError::Broken(input.name.clone()))?
        {
            number += 1;
            block.first_line = stop.lines + 1;
            stop.lines += u64::from(block.lines);
            bytes += block.text.len() as u64;
            let block = Arc::new(block);
            let log = LogBlock {
                source: id,
                block: Arc::clone(&block),
            };
            let mut flow = sink(Event::Log(log));
            if cut > 0 {
                totals.cut += cut;
                let why = format!("a line longer than {} MiB was cut", super::LINE_BYTES >> 20);
                let lost = SourceEvent::Lost {
                    id,
                    lines: Some(cut),
                    why,
                };
                flow = if flow.is_break() {
                    flow
                } else {
                    sink(Event::Source(lost))
                };
            }
            if flow.is_break() {
                return Ok(totals);
            }
            // Not kept by the sink: its memory is used again.
            if let Some(block) = Arc::into_inner(block) {
                desk.lock().spare.push(block);
            }
        }
        let lines = stop.lines - stop.before;
        totals.bytes += bytes;
        totals.lines += lines;
        let why = match finish(desk, lane, stop) {
            None => None,
            Some(trouble) if bytes == 0 && !input.in_folder && purpose == Purpose::Report => {
                return Err(match trouble {
                    Trouble::Refused(what) => SourceError::Binary {
                        path: input.name.clone(),
                        what,
                    },
                    Trouble::Io(e) => SourceError::io(&input.name, &e),
                });
            }
            Some(Trouble::Refused(what)) => Some(format!("it looks like {what}")),
            Some(Trouble::Io(e)) => Some(reason(&e)),
        };
        let name = &input.name;
        totals.notes.extend(match &why {
            Some(why) if lines == 0 => Some(format!("{name}: can't be read: {why}")),
            Some(why) => Some(format!("{name}: read up to line {lines}: {why}")),
            None if bytes == 0 => Some(format!("{name}: is empty")),
            None => None,
        });
        stop.troubled = why.is_some();
        let end = match why {
            Some(why) if turn.more => Some(SourceEvent::Lost {
                id,
                lines: None,
                why: format!("{name}: {why}"),
            }),
            why => {
                let over = !turn.more && (stop.troubled || !purpose.goes_on(turn, input));
                over.then_some(SourceEvent::Ended { id, why })
            }
        };
        if end.is_some_and(|end| sink(Event::Source(end)).is_break()) {
            return Ok(totals);
        }
        // A log goes on where its older part stopped.
        read = if turn.more { stop.lines } else { 0 };
        if !turn.more {
            files.clear();
        }
    }
    totals.notes.sort();
    Ok(totals)
}

/// A worker panicked: its block will never come.
struct Broken;

/// Waits for the block `number` of `lane`; `None` at the lane's end.
fn next(desk: &Desk, lane: usize, number: u64) -> Result<Option<Parcel>, Broken> {
    let mut shared = desk.lock();
    if shared.current != lane {
        shared.current = lane;
        desk.work.notify_all();
    }
    loop {
        if let Some(parcel) = shared.parsed.remove(&(lane, number)) {
            if let Some(l) = shared.lanes.get_mut(lane) {
                l.waiting -= 1;
            }
            desk.work.notify_one();
            return Ok(Some(parcel));
        }
        let done = |l: &Lane| l.read == number && matches!(l.stream, Stream::Ended(_));
        if shared.lanes.get(lane).is_none_or(done) {
            return Ok(None);
        }
        if shared.broken {
            return Err(Broken);
        }
        shared = desk
            .ready
            .wait(shared)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn finish(desk: &Desk, lane: usize, stop: &mut Stop) -> Option<Trouble> {
    let mut shared = desk.lock();
    let lane = shared.lanes.get_mut(lane)?;
    if let Stream::Ended(rest) = &mut lane.stream {
        stop.rest = std::mem::take(rest);
    }
    stop.raw = lane.raw.raw();
    stop.file = lane.file;
    lane.trouble.take()
}
