//! What is at hand of a process while its lines come by the million.
//!
//! In a job of many processes nearly every line is another's than the one before it, and a process is large. The
//! little that most lines ask and change is held apart for the block that is being folded, and put back before
//! anything else is asked of the process.

use std::slice::Iter;

use super::{Again, Calls, Known, Process, Procs, Spot};
use crate::model::sources::Tellers;
use crate::parse::fact::CollOp;
use crate::parse::{Block, Moment, Often, Usual, Voice};

/// What is held of one process.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// Who speaks for it; nothing is held where nobody does, but `calls`.
    voice: Option<u16>,
    /// The last line heard.
    line: u32,
    /// Its stamp, or one before it.
    at: Moment,
    /// The run of that voice's thread that is being filled.
    run: Option<u32>,
    /// `run` is a finished one that gets more of its only connection.
    resumed: bool,
    /// The first line about a call is known.
    quoted: bool,
    /// The record last called.
    last_coll: Option<u32>,
    /// The communicator last looked for, and its record.
    called: Option<(u16, Option<u32>)>,
    /// Lines about calls, and what raises [`Process::rev`].
    lines: u64,
    revs: u64,
    /// [`Process::turn`].
    turn: u64,
    /// The connection that was named last and where its lines go, with those that did not yet go there.
    form: Option<(u32, Again)>,
    more: More,
    /// Where the thread of that voice is kept, once there is one.
    thread: Option<usize>,
    /// Calls of a record that were not yet counted.
    counted: Option<u32>,
    calls: Calls,
}

/// Lines of one connection.
#[derive(Debug, Default)]
struct More {
    /// Channels below 128.
    channels: u128,
    /// The last line.
    line: u32,
}

impl Hand {
    /// Takes out what the lines of a voice ask for, of which this is one.
    fn take(&mut self, process: &Process, voice: &Voice, line: &Often) {
        let thread = process.threads.index(&voice.tid);
        let known = thread.and_then(|at| process.threads.at(at));
        (self.run, self.resumed) = known.map_or((None, false), |t| (t.run, t.resumed));
        self.thread = thread;
        self.voice = Some(line.voice);
        (self.line, self.at) = (line.line, line.at);
        self.quoted = process.call_lines.is_some();
        (self.turn, self.last_coll) = (process.turn, process.last_coll);
        (self.called, self.form) = (None, None);
    }

    /// Gives it back, but for the calls of its communicator.
    pub(super) fn put_back(&mut self, process: &mut Process, first_line: u64) {
        if self.voice.take().is_none() {
            return;
        }
        self.connect(process, first_line);
        if let Some(thread) = self.thread.and_then(|at| process.threads.at_mut(at)) {
            (thread.run, thread.resumed) = (self.run, self.resumed);
        }
        process.last_coll = self.last_coll;
        process.rev += std::mem::take(&mut self.revs);
        if let Some((lines, _)) = &mut process.call_lines {
            *lines += std::mem::take(&mut self.lines);
        }
        process.heard(self.line, self.at.at());
    }

    /// Gives the lines of a connection to their run.
    fn connect(&mut self, process: &mut Process, first_line: u64) {
        if let Some((_, again)) = &self.form
            && self.more.channels != 0
            && let Some(run) = process.runs.get_mut(again.run as usize)
        {
            let line = first_line + u64::from(self.more.line);
            run.again(again.edge, std::mem::take(&mut self.more.channels), line);
        }
    }

    /// Gives the calls to their communicator.
    pub(super) fn count(&mut self, process: &mut Process) {
        if let Some(c) = (self.counted.take()).and_then(|ix| process.comms.get_mut(ix as usize)) {
            c.calls.add(&std::mem::take(&mut self.calls));
        }
    }

    /// A collective call.
    fn call(
        &mut self,
        process: &mut Process,
        block: &Block,
        (op, op_count, comm): (CollOp, u32, u16),
    ) {
        let record = match self.called {
            Some((called, record)) if called == comm => record,
            _ => {
                let pointer = block.comms.get(usize::from(comm));
                let record = pointer.and_then(|pointer| process.by_ptr.get(pointer).copied());
                self.called = Some((comm, record));
                if record.is_some() && record != self.counted {
                    self.count(process);
                    self.counted = record;
                }
                record
            }
        };
        if record.is_some() {
            self.last_coll = record;
            self.calls.count(op, u64::from(op_count));
        }
    }

    /// A line of a connection, by its number in the block. Says whether it is known where it goes.
    fn channel(&mut self, form: u32, channel: u16) -> bool {
        let Some((known, again)) = &self.form else {
            return false;
        };
        let resumes = self.run.is_none() && again.after == Some(self.last_coll);
        if *known != form
            || again.turn != self.turn
            || channel >= 128
            || !(resumes || self.run == Some(again.run))
        {
            return false;
        }
        self.resumed |= resumes;
        self.run = Some(again.run);
        self.revs += 1;
        self.more.channels |= 1 << channel;
        self.more.line = self.line;
        true
    }
}

impl Procs {
    /// Folds the lines that come by the million and stand before a line.
    pub(super) fn before(
        &mut self,
        tellers: &Tellers,
        block: &Block,
        end: u32,
        (often, known): (&mut Iter<'_, Often>, &mut Known),
    ) {
        while let Some(line) = often.as_slice().first().filter(|line| line.line < end) {
            often.next();
            self.often(tellers, block, line, known);
        }
    }

    /// One of them.
    fn often(&mut self, tellers: &Tellers, block: &Block, line: &Often, known: &mut Known) {
        let here = known.voices.get(line.voice as usize).copied().flatten();
        let Some(at) = here.or_else(|| self.of_voice(tellers, block, line, known)) else {
            return;
        };
        let Some((proc, hand)) = known.hands.get_index_mut(at as usize) else {
            return;
        };
        let Some(process) = self.list.get_mut(*proc as usize) else {
            return;
        };
        if hand.voice == Some(line.voice) {
            hand.line = line.line;
            hand.at = line.at.or(hand.at);
        } else if let Some(voice) = block.voices.get(line.voice as usize) {
            hand.put_back(process, block.first_line);
            hand.take(process, voice, line);
        }
        match line.what {
            Usual::Call { op, op_count, comm } => {
                if !hand.quoted {
                    let voice = block.voices.get(line.voice as usize);
                    let first = voice.map(|voice| Spot::of_often(line, voice).quote(block));
                    process.call_lines = first.map(|first| (0, first));
                    hand.quoted = true;
                }
                hand.lines += 1;
                // A call is a boundary between runs and tells which communicator is being used.
                if let Some(run) = hand.run.take()
                    && !hand.resumed
                {
                    hand.connect(process, block.first_line);
                    hand.revs += 1;
                    process.seal(run);
                    hand.turn = process.turn;
                }
                hand.call(process, block, (op, op_count, comm));
            }
            Usual::Channel { form, channel } => {
                if hand.channel(form, channel) {
                    return;
                }
                hand.connect(process, block.first_line);
                let again = known.again.get_mut(form as usize);
                hand.form = again.as_ref().and_then(|known| {
                    let (voice, again) = (**known)?;
                    (voice == line.voice).then_some((form, again))
                });
                if hand.channel(form, channel) {
                    return;
                }
                if let (Some(c), Some(voice)) = (
                    block.forms.get(form as usize),
                    block.voices.get(line.voice as usize),
                ) {
                    hand.put_back(process, block.first_line);
                    let spot = Spot::of_often(line, voice);
                    let found = process.channel(block, &spot, (c, channel));
                    hand.take(process, voice, line);
                    hand.form = found.map(|found| (form, found));
                    if let (Some(slot), Some(found)) = (again, found) {
                        *slot = Some((line.voice, found));
                    }
                }
            }
        }
    }

    /// Where in [`Known::hands`] the process is that says a line.
    fn of_voice(
        &mut self,
        tellers: &Tellers,
        block: &Block,
        line: &Often,
        known: &mut Known,
    ) -> Option<u32> {
        let voice = block.voices.get(line.voice as usize)?;
        let spot = Spot::of_often(line, voice);
        let source = tellers.of(voice.outer);
        let proc = self.proc(source, block, voice.head, &spot, known)?;
        let entry = known.hands.entry(proc);
        let at = u32::try_from(entry.index()).ok();
        entry.or_default();
        if let Some(slot) = known.voices.get_mut(line.voice as usize) {
            *slot = at;
        }
        at
    }

    /// Puts back what is at hand of all processes.
    pub(super) fn put_back(&mut self, block: &Block, known: &mut Known) {
        for (proc, hand) in &mut known.hands {
            if let Some(process) = self.list.get_mut(*proc as usize) {
                hand.put_back(process, block.first_line);
            }
        }
    }

    /// The block ends, for those heard in it.
    pub(super) fn rest(&mut self, block: &Block, known: &mut Known) {
        for (proc, mut hand) in known.hands.drain(..) {
            if let Some(process) = self.list.get_mut(proc as usize) {
                hand.put_back(process, block.first_line);
                hand.count(process);
                process.rest(block);
            }
        }
    }
}
