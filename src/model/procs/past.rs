//! NCCL processes of a job that began anew inside one log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Known, ProcIx, Process, Procs};
use crate::model::edges::Quote;
use crate::model::event::SourceId;
use crate::model::lives::{Birth, moved};
use crate::parse::Block;

/// A place in a job that one process has at a time: its source, its host, rank, size and device.
pub(super) type Slot = (SourceId, Arc<str>, u32, u32, Option<u32>);

impl Process {
    /// Its last line, `block` being the one that is folded.
    fn last_line(&self, block: &Block) -> u64 {
        match self.heard_at {
            Some(line) => block.first_line + u64::from(line),
            None => self.last_line,
        }
    }

    /// The block ends.
    pub(super) fn rest(&mut self, block: &Block) {
        self.quote(block);
        self.last_line = self.last_line(block);
        self.heard_at = None;
    }

    fn ids(&self) -> impl Iterator<Item = (u64, u32)> {
        self.comms
            .iter()
            .filter_map(|c| Some((c.comm_id?, c.nranks)))
    }
}

impl Procs {
    /// Where one process after the other takes the place of a silent one of the run before, in a log in which
    /// nobody but NCCL speaks: takes out the one before it with those that it was connected with.
    pub(super) fn replaced(
        &mut self,
        ix: ProcIx,
        block: &Block,
        known: &mut Known,
        first: impl FnOnce() -> Quote,
    ) -> Option<(Birth, Self)> {
        self.put_back(block, known);
        let new = self.list.get(ix as usize)?;
        let [comm] = new.comms.as_slice() else {
            return None;
        };
        let (source, from, nranks) = (new.source, new.first_line, comm.nranks);
        let slot = (
            source,
            Arc::clone(new.host.as_ref()?),
            comm.rank,
            nranks,
            comm.cuda_dev,
        );
        let old = self.slots.insert(slot, ix).filter(|old| *old != ix)?;
        let old = self
            .list
            .get(old as usize)
            .filter(|old| old.source == source)?;
        let was = old.comms.first()?;
        let same_gpu = |a: Option<u64>, b: Option<u64>| a.is_none() || b.is_none() || a == b;
        if nranks < 2
            || !same_gpu(was.bus_id, comm.bus_id)
            || (was.comm_id.is_some() && was.comm_id == comm.comm_id)
        {
            return None;
        }
        // Those of one run hang together by their communicators; without ids all of the host do.
        let present = comm.comm_id.map(|id| (id, nranks));
        let mut ids: BTreeSet<(u64, u32)> = old.ids().collect();
        let here = || {
            (0_u32..)
                .zip(&self.list)
                .filter(|(_, p)| p.source == source)
        };
        let mut run: BTreeSet<ProcIx> = BTreeSet::new();
        loop {
            let belongs = |p: &Process| match p.ids().next() {
                Some(_) => p.ids().any(|id| ids.contains(&id)),
                None => ids.is_empty() && !p.comms.is_empty() && p.host == old.host,
            };
            let more: Vec<ProcIx> = here()
                .filter(|(i, p)| *i != ix && !run.contains(i) && belongs(p))
                .map(|(i, _)| i)
                .collect();
            if more.is_empty() {
                break;
            }
            for i in more {
                ids.extend(self.list.get(i as usize).iter().flat_map(|p| p.ids()));
                run.insert(i);
            }
        }
        if present.is_some_and(|id| ids.contains(&id)) {
            return None;
        }
        let end = (run.iter())
            .filter_map(|i| Some(self.list.get(*i as usize)?.last_line(block)))
            .max()?;
        if end >= from {
            return None;
        }
        // Who began beside them and came to no communicator was one of them.
        let idle = here().filter(|(_, p)| p.comms.is_empty() && p.host == old.host);
        run.extend(idle.filter(|(_, p)| p.first_line <= end).map(|(i, _)| i));
        let birth = Birth {
            source,
            first: first(),
            known_at: from,
        };
        Some((birth, self.part(block, known, |i, _| run.contains(&i))))
    }

    /// Takes out the processes that began in a source before a line.
    pub(super) fn part_at(
        &mut self,
        source: SourceId,
        line: u64,
        block: &Block,
        known: &mut Known,
    ) -> Self {
        let mut gone = self.part(block, known, |_, p| {
            p.source == source && p.first_line < line
        });
        if let Some(list) = self.bare_versions.get_mut(&source) {
            let (old, new) = list.drain(..).partition(|(_, q)| q.line < line);
            *list = new;
            gone.bare_versions.insert(source, old);
        }
        self.bare_versions.retain(|_, list| !list.is_empty());
        gone
    }

    fn part(
        &mut self,
        block: &Block,
        known: &mut Known,
        goes: impl Fn(ProcIx, &Process) -> bool,
    ) -> Self {
        self.rest(block, known);
        known.procs.fill(None);
        known.voices.fill(None);
        known.again.fill(None);
        let mut gone = Self::default();
        let mut to = BTreeMap::new();
        for (old, p) in (0_u32..).zip(std::mem::take(&mut self.list)) {
            if goes(old, &p) {
                gone.list.push(p);
            } else {
                to.insert(old, u32::try_from(self.list.len()).unwrap_or(u32::MAX));
                self.list.push(p);
            }
        }
        self.by_key.retain(|_, ix| moved(ix, &to));
        self.slots.retain(|_, ix| moved(ix, &to));
        gone
    }

    /// Takes over the processes of others, to be looked at and told no more.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.list.extend(other.list);
        for (source, list) in other.bare_versions {
            self.bare_versions.entry(source).or_default().extend(list);
        }
    }
}
