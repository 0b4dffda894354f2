//! What one process says, line by line: its library, its networks, its communicators, its trouble.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Again, Process, Spot, Warning};
use crate::model::edges::{EdgeKey, Quote, Recent, RingLine, RunSort};
use crate::model::event::SourceId;
use crate::parse::fact::{Channel, CollOp, Dir, Fact, WarnKind};
use crate::parse::{At, Block, Level, Rec};

/// Warnings kept per process: the first ones tell the cause.
const WARNINGS_KEPT: usize = 64;

impl Process {
    pub(super) fn new(
        source: SourceId,
        host: Option<Arc<str>>,
        pid: Option<u64>,
        incarnation: u32,
        block: &Block,
        spot: &Spot,
    ) -> Self {
        Self {
            source,
            host,
            pid,
            incarnation,
            outer: block
                .outers
                .get(spot.outer as usize)
                .cloned()
                .unwrap_or_default(),
            first_line: block.first_line + u64::from(spot.line),
            first_at: spot.at,
            last_at: spot.at,
            last_line: 0,
            heard_at: Some(spot.line),
            versions: Vec::new(),
            cuda: None,
            driver: None,
            network: None,
            bootstrap: None,
            rdma: None,
            no_rdma: None,
            env: BTreeMap::new(),
            comms: Vec::new(),
            runs: Vec::new(),
            runs_dropped: 0,
            warnings: Vec::new(),
            warnings_dropped: 0,
            gdr_off: None,
            nvls: None,
            call_lines: None,
            rev: 0,
            retrying: None,
            by_ptr: Recent::default(),
            threads: Recent::default(),
            sealed: BTreeMap::new(),
            again: Recent::default(),
            last_coll: None,
            splits: BTreeMap::new(),
            last_fact_version: false,
            turn: 0,
            spare: None,
            sorting: RunSort::default(),
            untold: Vec::new(),
        }
    }

    /// A first-of-life line of the same library after communicators were made: the pid lives again.
    pub(super) fn reborn(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Version { nccl, .. } => {
                !self.last_fact_version
                    && !self.comms.is_empty()
                    && self.versions.iter().any(|(v, _)| v == nccl)
            }
            _ => false,
        }
    }

    pub(super) fn heard(&mut self, line: u32, at: Option<At>) {
        self.last_at = at.or(self.last_at);
        self.heard_at = Some(line);
        self.last_fact_version = false;
    }

    /// A connection line: whose channel's number stands beside it. Says where the next one goes.
    pub(super) fn channel(
        &mut self,
        block: &Block,
        spot: &Spot,
        (c, channel): (&Channel, u16),
    ) -> Option<Again> {
        let key = EdgeKey::of(c);
        let line = block.first_line + u64::from(spot.line);
        let local = if c.dir == Dir::Receive { c.to } else { c.from };
        self.rev += 1;
        let idle = self.threads.get(&spot.tid).is_none_or(|t| t.run.is_none());
        let (at, run) = self.run(spot.tid, (local, c.index, Some(key)), c.comm, line)?;
        let before = run.edges.len();
        // Most runs are taken over by one that was there before: none gets its text before that is known.
        run.channel(c, (key, channel), line, || Quote {
            line,
            at: spot.at,
            text: Arc::default(),
        });
        let edge = run.latest;
        if run.edges.len() > before {
            self.turn += 1;
            if let Ok(edge) = u32::try_from(edge) {
                self.untold.push((at, edge, *spot));
            }
        }
        let thread = self.threads.find(&spot.tid)?;
        Some(Again {
            turn: self.turn,
            after: (idle && thread.resumed).then_some(self.last_coll),
            run: at,
            edge,
        })
    }

    /// Gives the first lines of edges their texts, at the end of the block that they stand in.
    pub(super) fn quote(&mut self, block: &Block) {
        for (run, edge, spot) in self.untold.drain(..) {
            let run = self.runs.get_mut(run as usize);
            if let Some((_, lines)) = run.and_then(|run| run.edges.get_index_mut(edge as usize)) {
                lines.first = spot.quote(block);
            }
        }
    }

    /// A collective call: the operation, how often it was called, the communicator.
    fn call(&mut self, tid: u64, (op, op_count, comm): (CollOp, u64, u64)) {
        // A call is a boundary between runs and tells which communicator is being used.
        if let Some(thread) = self.threads.find(&tid)
            && let Some(run) = thread.run.take()
            && !thread.resumed
        {
            self.rev += 1;
            self.seal(run);
        }
        if let Some(ix) = self.by_ptr.find(&comm).copied() {
            self.last_coll = Some(ix);
            if let Some(c) = self.comms.get_mut(ix as usize) {
                c.calls.count(op, op_count);
            }
        }
    }

    pub(super) fn apply(&mut self, block: &Block, rec: &Rec, spot: &Spot) {
        self.heard(spot.line, spot.at);
        self.last_fact_version = matches!(rec.fact, Fact::Version { .. });
        // These two count for themselves, as they also come without having been made whole.
        self.rev += u64::from(!matches!(rec.fact, Fact::Channel(_) | Fact::Coll { .. }));
        let line = block.first_line + u64::from(rec.line);
        let q = || spot.quote(block);
        match &rec.fact {
            Fact::Channel(c) => {
                self.channel(block, spot, (c, c.channel));
            }
            Fact::CollNet(c) => {
                if let Some((_, run)) = self.run(rec.tid, (c.rank, None, None), c.comm, line) {
                    run.collnet(c, line, q);
                    self.turn += 1;
                }
            }
            Fact::Coll {
                op, op_count, comm, ..
            } => {
                match &mut self.call_lines {
                    Some((n, _)) => *n += 1,
                    None => self.call_lines = Some((1, q())),
                }
                self.call(rec.tid, (*op, *op_count, *comm));
            }
            Fact::Ring {
                channel,
                order,
                cut,
                comm,
                ..
            } => {
                if let Some((_, run)) = self.run(rec.tid, (0, None, None), *comm, line) {
                    run.max_rank = run.max_rank.max(order.iter().copied().max().unwrap_or(0));
                    if !run.rings.iter().any(|r| r.channel == *channel) {
                        run.rings.push(RingLine {
                            channel: *channel,
                            order: order.clone(),
                            cut: *cut,
                        });
                    }
                }
            }
            Fact::RingNeighbours {
                channel,
                prev,
                rank,
                next,
            } => {
                if let Some((_, run)) = self.run(rec.tid, (*rank, None, None), None, line) {
                    let row = (*channel, *prev, *rank, *next);
                    if !run.neighbours.contains(&row) {
                        run.neighbours.push(row);
                    }
                }
            }
            Fact::Trees { rank, trees, comm } => {
                if let Some((_, run)) = self.run(rec.tid, (*rank, None, None), *comm, line) {
                    for tree in trees {
                        if !run
                            .trees
                            .iter()
                            .any(|(r, t)| r == rank && t.channel == tree.channel)
                        {
                            run.trees.push((*rank, tree.clone()));
                        }
                    }
                }
            }
            Fact::Connected { what, comm, .. } => {
                let named = comm.and_then(|p| self.by_ptr.get(&p).copied());
                if let Some(ix) = named.or(self.window(rec.tid))
                    && let Some(c) = self.comms.get_mut(ix as usize)
                {
                    c.connecting = true;
                }
                if let Some(t) = self.threads.find(&rec.tid)
                    && let Some(run) = t.run.take().and_then(|r| self.runs.get_mut(r as usize))
                {
                    run.closing = run.closing.or(Some(*what));
                }
            }
            Fact::ChannelCounts {
                coll,
                nvls,
                p2p,
                p2p_per_peer,
            } => {
                let counts = (*coll, *nvls, *p2p, *p2p_per_peer);
                if let Some(run) = self.side_run(rec.tid, line) {
                    run.counts.get_or_insert(counts);
                }
            }
            Fact::P2pChunk(bytes) => {
                if let Some(run) = self.side_run(rec.tid, line) {
                    run.chunk.get_or_insert(*bytes);
                }
            }
            Fact::Tuned => {
                if let Some(run) = self.side_run(rec.tid, line) {
                    run.tuned = true;
                }
            }
            Fact::Init(init) => self.init(init, rec, q()),
            Fact::Placement { comm, .. } => {
                if let Some(ix) = self.by_ptr.get(comm).copied()
                    && let Some(c) = self.comms.get_mut(ix as usize)
                {
                    c.placed = true;
                }
            }
            Fact::InitTimings {
                rank,
                nranks,
                total,
            } => {
                let ix = self.threads.get(&rec.tid).and_then(|t| t.last.or(t.window));
                if let Some(c) = ix.and_then(|i| self.comms.get_mut(i as usize))
                    && c.rank == *rank
                    && c.nranks == *nranks
                {
                    c.init_seconds = Some(*total);
                }
            }
            Fact::BootstrapTimings { .. } => {
                let thread = self.threads.made(rec.tid);
                match thread.window.and_then(|i| self.comms.get_mut(i as usize)) {
                    Some(c) => c.met = true,
                    None => thread.met = true,
                }
            }
            Fact::SplitNoColor { .. } => {
                // The parent is not named; a rank left out still consumes a split number where none is printed.
                if let Some(parent) = self.last_parent() {
                    *self.splits.entry(parent).or_default() += 1;
                }
            }
            Fact::Version { nccl, cuda, .. } => {
                if !self.versions.iter().any(|(v, _)| v == nccl) {
                    self.versions.push((nccl.clone(), q()));
                }
                if self.cuda.is_none() {
                    self.cuda.clone_from(cuda);
                }
            }
            Fact::CudaDriver(v) => self.driver = self.driver.or(Some(*v)),
            Fact::Bootstrap { interface, address } => {
                if self.bootstrap.is_none() {
                    self.bootstrap = Some((interface.clone(), address.clone(), q()));
                }
            }
            Fact::NetDevices { plugin, devices } => {
                if plugin != "Socket" && self.rdma.as_ref().is_none_or(|(d, _)| d.is_empty()) {
                    self.rdma = Some((devices.clone(), q()));
                }
            }
            Fact::NoIbDevice => {
                if self.no_rdma.is_none() {
                    self.no_rdma = Some(q());
                }
            }
            Fact::UsingNetwork(name) => {
                if self.network.is_none() {
                    self.network = Some((name.clone(), q()));
                }
                let thread = self.threads.made(rec.tid);
                match thread.window.and_then(|i| self.comms.get_mut(i as usize)) {
                    Some(c) => c.network = Some(name.clone()),
                    None => thread.network = Some(name.clone()),
                }
            }
            Fact::Env { name, value } => {
                if !self.env.contains_key(name) && self.env.len() < 512 {
                    self.env.insert(name.clone(), (value.clone(), q()));
                }
            }
            Fact::Gdr {
                enabled,
                distance,
                limit,
            } => {
                if !enabled && self.gdr_off.is_none() {
                    self.gdr_off = Some((*distance, *limit, q()));
                }
            }
            Fact::Nvls { available } => self.nvls = self.nvls.or(Some(*available)),
            Fact::Warn { kind, .. } => self.warn(kind.clone(), rec, q()),
            Fact::P2pDisabled { .. } => self.warn(WarnKind::P2pDisabled, rec, q()),
            Fact::ConnectRetry { peer, error } => {
                self.retrying = Some((peer.clone(), error.clone(), q()))
            }
            Fact::Backtrace { code } => {
                if *code != 0 && *code != 7 {
                    self.fail(rec.tid, &q);
                }
            }
            Fact::VirtualDevice { .. } | Fact::Plugin(_) | Fact::Vllm(_) => {}
        }
    }

    fn warn(&mut self, kind: WarnKind, rec: &Rec, quote: Quote) {
        if self.warnings.iter().any(|w| w.quote.text == quote.text) {
            return;
        }
        if self.warnings.len() >= WARNINGS_KEPT {
            self.warnings_dropped += 1;
            return;
        }
        let comm = self.window(rec.tid).or_else(|| self.only_open());
        self.warnings.push(Warning {
            kind,
            warn: rec.level == Level::Warn,
            tid: rec.tid,
            comm,
            quote,
        });
    }

    /// An error ends the init whose window is open on this thread (or the only open one).
    fn fail(&mut self, tid: u64, q: &impl Fn() -> Quote) {
        let ix = self.window(tid).or_else(|| self.only_open());
        if let Some(c) = ix.and_then(|i| self.comms.get_mut(i as usize))
            && c.open()
            && c.failed.is_none()
        {
            c.failed = Some(q());
        }
    }

    fn only_open(&self) -> Option<u32> {
        let mut open = self.comms.iter().enumerate().filter(|(_, c)| c.open());
        let first = open.next()?.0;
        if open.next().is_some() {
            None
        } else {
            u32::try_from(first).ok()
        }
    }

    pub(super) fn window(&self, tid: u64) -> Option<u32> {
        self.threads.get(&tid).and_then(|t| t.window)
    }

    fn last_parent(&self) -> Option<u32> {
        self.comms
            .iter()
            .rev()
            .find_map(|c| c.parent.and_then(|p| p.record))
            .or_else(|| {
                self.comms
                    .iter()
                    .position(|c| c.parent.is_none())
                    .and_then(|i| u32::try_from(i).ok())
            })
    }
}
