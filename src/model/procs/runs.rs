//! Runs of connection lines: where one begins, goes on, ends.

use super::{CommRec, Process, RUNS_KEPT};
use crate::model::edges::{EdgeKey, Run, RunSort};

impl Process {
    /// The run that takes a line of this thread, local rank, index and connection; begins one where a
    /// boundary lies.
    pub(super) fn run(
        &mut self,
        tid: u64,
        (local, index, edge): (u32, Option<u8>, Option<EdgeKey>),
        ptr: Option<u64>,
        line: u64,
    ) -> Option<(u32, &mut Run)> {
        let named = ptr.and_then(|p| self.by_ptr.get(&p).copied());
        let thread = self.threads.made(tid);
        let comm = named.or(thread.window);
        let current = thread
            .run
            .and_then(|r| self.runs.get(r as usize))
            .is_some_and(|r| {
                let stranger = || edge.is_none_or(|edge| !r.has(&edge));
                r.comm == comm && r.takes(local, index) && !(thread.resumed && stranger())
            });
        let mut run = thread.run.filter(|_| current);
        if !current {
            // A run that was not ended by a call is left.
            self.turn += u64::from(thread.run.is_some());
            let known = u32::try_from(self.comms.len()).unwrap_or(u32::MAX);
            // The same connection after the same call: what was concluded then holds again.
            let again = edge
                .filter(|_| comm.is_none() && thread.run.is_none())
                .and_then(|edge| self.again.find(&(tid, edge, self.last_coll)))
                .filter(|(at, k)| *k == known && *at >= thread.unclaimed)
                .map(|(at, _)| *at)
                .filter(|at| {
                    let run = self.runs.get(*at as usize);
                    run.is_some_and(|r| r.comm.is_none() && r.takes(local, index))
                });
            thread.resumed = again.is_some();
            thread.run = again;
            run = again;
        }
        if run.is_none() {
            run = self.begin(tid, comm, named.is_none() && comm.is_some(), line);
        }
        let run = run?;
        Some((run, self.runs.get_mut(run as usize)?))
    }

    /// Begins a run of a thread; none where too many are kept. `window`: an init window names its communicator.
    fn begin(&mut self, tid: u64, comm: Option<u32>, window: bool, line: u64) -> Option<u32> {
        if self.runs.len() >= RUNS_KEPT {
            self.runs_dropped += 1;
            return None;
        }
        let run = u32::try_from(self.runs.len()).ok();
        self.turn += 1;
        let thread = self.threads.made(tid);
        thread.run = run;
        thread.resumed = false;
        self.runs.push(Run {
            tid,
            comm,
            window,
            known: u32::try_from(self.comms.len()).unwrap_or(u32::MAX),
            hint: self.last_coll,
            first_line: line,
            ..self.spare.take().unwrap_or_default()
        });
        run
    }

    /// Ends a run at a collective call. Connections printed again between calls would otherwise make a new
    /// run each time, and a long log as many as there are calls.
    pub(super) fn seal(&mut self, at: u32) {
        self.turn += 1;
        let mut sort = std::mem::take(&mut self.sorting);
        self.seal_as(at, &mut sort);
        self.sorting = sort;
    }

    fn seal_as(&mut self, at: u32, sort: &mut RunSort) {
        let newest = self.runs.len().checked_sub(1) == Some(at as usize);
        let Some(run) = self.runs.get(at as usize).filter(|_| newest) else {
            return;
        };
        if !run.sort(sort) {
            return;
        }
        // Where several communicators fit and none was being called, which one a run gets depends on the runs
        // before it.
        let fits =
            |c: &&CommRec| run.local_rank.is_none_or(|r| r == c.rank) && run.max_rank < c.nranks;
        let hint = run.hint.and_then(|h| self.comms.get(h as usize));
        let decided = hint.as_ref().is_some_and(fits) || self.comms.iter().filter(fits).count() < 2;
        let unclaimed = self.threads.get(&run.tid).map_or(0, |t| t.unclaimed);
        let edge = run.edges.keys().next().copied();
        let edge = edge.filter(|_| decided && run.edges.len() == 1);
        let (tid, known, hint) = (run.tid, run.known, run.hint);
        let first = self.sealed.get(sort).copied();
        let first = first.filter(|&first| decided && first >= unclaimed);
        if let Some(edge) = edge {
            self.again
                .insert((tid, edge, hint), (first.unwrap_or(at), known));
        }
        let Some(first) = first else {
            self.sealed.insert(sort.clone(), at);
            return;
        };
        // A boundary that another thread set behind this run would lie one too far.
        let len = at + 1;
        if self.threads.values().any(|t| t.unclaimed >= len) {
            return;
        }
        if let Some(later) = self.runs.pop() {
            if let Some(run) = self.runs.get_mut(first as usize) {
                run.absorb(&later);
            }
            self.untold.retain(|(run, ..)| *run != at);
            self.spare = Some(later.emptied());
        }
    }

    /// The run for lines that name no rank: the thread's present one, or a new one.
    pub(super) fn side_run(&mut self, tid: u64, line: u64) -> Option<&mut Run> {
        let thread = self.threads.made(tid);
        let comm = thread.window;
        let present = thread
            .run
            .filter(|r| self.runs.get(*r as usize).is_some_and(|r| r.comm == comm));
        let latest = present.or_else(|| {
            // After a milestone the numbers still belong to the window's last run.
            let at = self
                .runs
                .iter()
                .rposition(|r| r.tid == tid && r.comm == comm)?;
            (at >= thread.unclaimed as usize).then(|| u32::try_from(at).ok())?
        });
        if let Some(at) = latest {
            return self.runs.get_mut(at as usize);
        }
        let run = self.begin(tid, comm, comm.is_some(), line)?;
        self.runs.get_mut(run as usize)
    }
}
