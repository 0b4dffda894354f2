//! The lives of communicators inside one process: START, COMPLETE, splits, ends.

use super::{Calls, CommRec, ParentRec, Process};
use crate::model::edges::Quote;
use crate::parse::Rec;
use crate::parse::fact::{InitLine, Life};

impl Process {
    pub(super) fn init(&mut self, line: &InitLine, rec: &Rec, quote: Quote) {
        self.turn += 1;
        self.sealed.clear();
        self.again.clear();
        match line.life {
            Life::InitStart => self.start(line, rec, quote),
            Life::InitComplete => self.complete(line, rec, quote),
            life => {
                let ix = line
                    .comm
                    .and_then(|p| self.by_ptr.get(&p).copied())
                    .unwrap_or_else(|| self.record(line));
                if let Some(c) = self.comms.get_mut(ix as usize)
                    && c.end.as_ref().is_none_or(|(old, _)| *old < life)
                {
                    c.end = Some((life, quote));
                }
                let thread = self.threads.made(rec.tid);
                thread.run = None;
                if thread.window == Some(ix) {
                    thread.window = None;
                }
            }
        }
    }

    fn start(&mut self, line: &InitLine, rec: &Rec, quote: Quote) {
        // The same START again while its window is open is a repeat, not another life.
        if let Some(ix) = line.comm.and_then(|p| self.by_ptr.get(&p).copied())
            && let Some(c) = self.comms.get(ix as usize)
            && c.open()
            && c.start.is_some()
            && c.rank == line.rank
            && c.nranks == line.nranks
            && c.comm_id == line.comm_id
        {
            return;
        }
        let ix = self.record(line);
        let thread = self.threads.made(rec.tid);
        thread.window = Some(ix);
        thread.run = None;
        let network = thread.network.take();
        let met = std::mem::take(&mut thread.met);
        if let Some(c) = self.comms.get_mut(ix as usize) {
            c.start = Some(quote);
            c.network = network;
            c.met = met;
        }
    }

    fn complete(&mut self, line: &InitLine, rec: &Rec, quote: Quote) {
        let known = match line.comm {
            Some(p) => self.by_ptr.get(&p).copied(),
            None => self.window(rec.tid),
        };
        let same = known.filter(|ix| {
            self.comms
                .get(*ix as usize)
                .is_some_and(|c| c.rank == line.rank && c.nranks == line.nranks && c.end.is_none())
        });
        let repeat = same.is_some_and(|ix| {
            self.comms
                .get(ix as usize)
                .is_some_and(|c| c.complete.is_some() && c.comm_id == line.comm_id.or(c.comm_id))
        });
        if repeat {
            return;
        }
        let ix = same.unwrap_or_else(|| self.record(line));
        let thread = self.threads.made(rec.tid);
        let mut claims = false;
        if let Some(c) = self.comms.get_mut(ix as usize) {
            claims = c.start.is_none();
            c.complete = Some(quote);
            if c.parent.is_none() {
                c.comm_id = c.comm_id.or(line.comm_id);
            }
            c.bus_id = c.bus_id.or(line.bus_id);
            c.nvml_dev = c.nvml_dev.or(line.nvml_dev);
            c.cuda_dev = c.cuda_dev.or(line.cuda_dev);
            if claims {
                c.network = c.network.take().or(thread.network.take());
            }
        }
        if claims && !self.comms.iter().any(|c| c.start.is_some()) {
            // Up to 2.18.1 no START is printed: what this thread said since the last boundary was this init.
            // Where the process does print START, a missing one was lost, and nothing can be claimed.
            let from = thread.unclaimed as usize;
            for run in self
                .runs
                .iter_mut()
                .skip(from)
                .filter(|r| r.tid == rec.tid && r.comm.is_none())
            {
                if run.local_rank.is_none_or(|r| r == line.rank) && run.max_rank < line.nranks {
                    run.comm = Some(ix);
                    run.window = true;
                }
            }
        }
        thread.window = None;
        thread.run = None;
        thread.last = Some(ix);
        thread.unclaimed = u32::try_from(self.runs.len()).unwrap_or(u32::MAX);
    }

    fn record(&mut self, line: &InitLine) -> u32 {
        let ix = u32::try_from(self.comms.len()).unwrap_or(u32::MAX);
        let parent = line.parent.map(|p| {
            let record = p.comm.and_then(|ptr| self.by_ptr.get(&ptr).copied());
            let count = p.count.unwrap_or_else(|| {
                let seen = record.map_or(0, |r| {
                    let n = self.splits.entry(r).or_default();
                    *n += 1;
                    *n
                });
                seen.saturating_sub(1)
            });
            ParentRec {
                record,
                count,
                color: p.color,
            }
        });
        if let Some(ptr) = line.comm {
            self.by_ptr.insert(ptr, ix);
        }
        self.comms.push(CommRec {
            ptr: line.comm,
            rank: line.rank,
            nranks: line.nranks,
            cuda_dev: line.cuda_dev,
            nvml_dev: line.nvml_dev,
            bus_id: line.bus_id,
            comm_id: line.comm_id,
            func: line.func,
            parent,
            start: None,
            complete: None,
            end: None,
            failed: None,
            placed: false,
            met: false,
            connecting: false,
            init_seconds: None,
            network: None,
            version: self.versions.last().map(|(v, _)| v.clone()),
            calls: Calls::default(),
        });
        ix
    }
}
