//! Processes and what each of them said about its communicators, in the order it said it.
//!
//! Only what one process proves is kept here; which communicators of different processes are the same,
//! and whose a deferred connection is, the rules work out from the whole.

mod hand;
mod lives;
mod past;
mod runs;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::edges::{EdgeKey, QuickMap, Quote, Recent, Run, RunSort};
use super::event::SourceId;
use super::lives::Birth;
use super::sources::Tellers;
use crate::parse::fact::{CollOp, Fact, InitFunc, Life, NetDevice, WarnKind};
use crate::parse::{self, At, Block, Head, HeadIx, Often, Outer, OuterIx, Rec, Voice};
use hand::Hand;

/// Runs kept per process; beyond them deferred lines are only counted.
const RUNS_KEPT: usize = 4096;

/// Index of a process in [`Procs::list`].
pub type ProcIx = u32;

/// A communicator as one process sees it.
#[derive(Debug, Clone)]
pub struct CommRec {
    /// Pointer.
    pub ptr: Option<u64>,
    /// Rank inside it.
    pub rank: u32,
    /// Size.
    pub nranks: u32,
    /// CUDA ordinal.
    pub cuda_dev: Option<u32>,
    /// NVML index.
    pub nvml_dev: Option<u32>,
    /// PCI bus id.
    pub bus_id: Option<u64>,
    /// Hash of the unique id.
    pub comm_id: Option<u64>,
    /// How it was made.
    pub func: InitFunc,
    /// Parent record in the same process and what distinguishes the child.
    pub parent: Option<ParentRec>,
    /// `Init START`.
    pub start: Option<Quote>,
    /// `Init COMPLETE`.
    pub complete: Option<Quote>,
    /// How it ended.
    pub end: Option<(Life, Quote)>,
    /// The line that shows an error ended its init.
    pub failed: Option<Quote>,
    /// `comm … nNodes …` seen: peers exchanged.
    pub placed: bool,
    /// `Bootstrap timings` seen: the rendezvous is done.
    pub met: bool,
    /// Channels, connections or milestones seen in its window.
    pub connecting: bool,
    /// Seconds.
    pub init_seconds: Option<f64>,
    /// Network chosen for it.
    pub network: Option<String>,
    /// Version of the library that printed it.
    pub version: Option<String>,
    /// Calls by operation: how many lines, last opCount.
    pub calls: Calls,
}

/// Calls of each operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls([(u64, u64); CollOp::ALL.len()]);

impl Calls {
    /// Counts a line and remembers its `opCount`.
    pub fn count(&mut self, op: CollOp, op_count: u64) {
        if let Some((lines, last)) = self.0.get_mut(op as usize) {
            (*lines, *last) = (*lines + 1, op_count);
        }
    }

    /// Counts lines that follow.
    pub(super) fn add(&mut self, more: &Self) {
        for (mine, (lines, last)) in self.0.iter_mut().zip(&more.0) {
            if *lines > 0 {
                *mine = (mine.0 + lines, *last);
            }
        }
    }

    /// Operations that were called: how many lines, last `opCount`.
    pub fn iter(&self) -> impl Iterator<Item = (CollOp, (u64, u64))> {
        let all = CollOp::ALL.into_iter().zip(self.0);
        all.filter(|(_, (lines, _))| *lines > 0)
    }
}

/// Parentage inside one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentRec {
    /// Record of the parent, if its pointer was known.
    pub record: Option<u32>,
    /// `splitCount`/`childCount`, or the order of appearance where none is printed.
    pub count: u32,
    /// Colour.
    pub color: i64,
}

impl CommRec {
    /// First line about it.
    #[must_use]
    pub fn first(&self) -> Option<&Quote> {
        self.start
            .as_ref()
            .or(self.complete.as_ref())
            .or(self.end.as_ref().map(|(_, q)| q))
    }

    fn open(&self) -> bool {
        self.complete.is_none() && self.end.is_none()
    }
}

/// A warning, or an INFO that reports trouble.
#[derive(Debug, Clone)]
pub struct Warning {
    /// Kind.
    pub kind: WarnKind,
    /// WARN rather than INFO.
    pub warn: bool,
    /// Thread.
    pub tid: u64,
    /// Record whose init window was open on that thread, or the only open one.
    pub comm: Option<u32>,
    /// Where it stands.
    pub quote: Quote,
}

#[derive(Debug, Clone, Default)]
struct Thread {
    /// Record opened by START and not yet complete.
    window: Option<u32>,
    /// Record last completed here: `Init timings` follow it.
    last: Option<u32>,
    /// Run that is being filled.
    run: Option<u32>,
    /// `run` is a finished one that gets more of its only connection.
    resumed: bool,
    /// First run since the last boundary of a window: what a COMPLETE without START claims.
    unclaimed: u32,
    /// `Using network` before START.
    network: Option<String>,
    met: bool,
}

/// One life of one pid on one host.
#[derive(Debug, Clone)]
pub struct Process {
    /// Source.
    pub source: SourceId,
    /// Host as NCCL prints it; unknown for vLLM-only processes.
    pub host: Option<Arc<str>>,
    /// Process id.
    pub pid: Option<u64>,
    /// 1, 2, … under the same identity.
    pub incarnation: u32,
    /// Outer prefix of its first line.
    pub outer: Outer,
    /// First line.
    pub first_line: u64,
    /// First stamp.
    pub first_at: Option<At>,
    /// Last stamp.
    pub last_at: Option<At>,
    /// Last line, that of the block being folded excepted.
    last_line: u64,
    /// Last line in the block that is being folded.
    heard_at: Option<u32>,
    /// Library versions in order of appearance.
    pub versions: Vec<(String, Quote)>,
    /// CUDA of the build.
    pub cuda: Option<String>,
    /// `cudaDriverVersion`.
    pub driver: Option<u32>,
    /// Last `Using network`.
    pub network: Option<(String, Quote)>,
    /// Bootstrap interface and address.
    pub bootstrap: Option<(String, String, Quote)>,
    /// RDMA devices listed by `NET/IB : Using`.
    pub rdma: Option<(Vec<NetDevice>, Quote)>,
    /// `NET/IB : No device found.`
    pub no_rdma: Option<Quote>,
    /// Environment the log proves.
    pub env: BTreeMap<String, (String, Quote)>,
    /// Communicators in order of their first line.
    pub comms: Vec<CommRec>,
    /// Runs of connection lines in order of their first line.
    pub runs: Vec<Run>,
    /// Lines not gathered because there were too many runs.
    pub runs_dropped: u64,
    /// First warnings.
    pub warnings: Vec<Warning>,
    /// Warnings beyond those kept.
    pub warnings_dropped: u64,
    /// GPUDirect RDMA lines: (enabled, distance, limit) of the first of each kind.
    pub gdr_off: Option<(Option<u32>, Option<u32>, Quote)>,
    /// NVLS usable.
    pub nvls: Option<bool>,
    /// Lines about collective calls, those of unknown communicators included: how many, the first.
    pub call_lines: Option<(u64, Quote)>,
    /// Raised by every line that may change what the process proves of its communicators and their connections:
    /// not by the calls of collectives that come by the million.
    pub rev: u64,
    /// A connect that is retried: last seen.
    pub retrying: Option<(Option<String>, String, Quote)>,
    by_ptr: Recent<u64, u32>,
    threads: Recent<u64, Thread>,
    /// The first finished run of each sort since the last line about a communicator's life.
    sealed: BTreeMap<RunSort, u32>,
    /// Those of a single connection, by thread, connection and record called: run, records known.
    again: Recent<(u64, EdgeKey, Option<u32>), (u32, u32)>,
    last_coll: Option<u32>,
    splits: BTreeMap<u32, u32>,
    last_fact_version: bool,
    /// Raised by all that may give the next line of a connection to another run than the last one.
    turn: u64,
    /// The memory of a run that another one took over.
    spare: Option<Run>,
    /// That of the sort of a run.
    sorting: RunSort,
    /// Edges of runs whose first line has no text yet: it gets one when its block is read, if the run is still there.
    untold: Vec<(u32, u32, Spot)>,
}

/// All processes.
#[derive(Debug, Clone, Default)]
pub struct Procs {
    /// In order of their first line.
    pub list: Vec<Process>,
    /// Bare version lines, which name no process: version and place, per source.
    pub bare_versions: BTreeMap<SourceId, Vec<(String, Quote)>>,
    /// Lines with damaged heads: per source, how many told something that no process could be given.
    pub orphans: BTreeMap<SourceId, u64>,
    /// By pid, device where that is 0, source and host: what tells most apart is compared first.
    by_key: BTreeMap<(u64, i32, SourceId, Arc<str>), ProcIx>,
    /// Who was the last to begin in a place of a job.
    slots: BTreeMap<past::Slot, ProcIx>,
    hosts: BTreeMap<SourceId, BTreeSet<Arc<str>>>,
}

impl Procs {
    /// Folds the NCCL facts of a block; `births`: the lives that vLLM's lines in there prove to begin, in order;
    /// `voiced`: whether vLLM speaks in a source. Says for each birth, and for those that NCCL's lines alone prove,
    /// what was said before it.
    pub fn fold(
        &mut self,
        tellers: &Tellers,
        block: &Block,
        births: &[Birth],
        voiced: &dyn Fn(SourceId) -> bool,
    ) -> Vec<(Birth, Self)> {
        let mut births = births.iter().peekable();
        let mut past = Vec::new();
        let hosts = self.hosts.entry(tellers.stream()).or_default();
        for head in block.heads.iter().filter(|h| h.clean && !h.host.is_empty()) {
            if !hosts.contains(head.host.as_str()) {
                hosts.insert(head.host.as_str().into());
            }
        }
        let names: Vec<Option<Arc<str>>> =
            block.heads.iter().map(|h| known_host(hosts, h)).collect();
        // Processes of this block's heads; pid 0 of write-ups is told apart by the device of the line.
        let mut known = Known {
            names,
            procs: vec![None; block.heads.len()],
            voices: vec![None; block.voices.len()],
            hands: QuickMap::with_capacity_and_hasher(block.heads.len(), Default::default()),
            again: vec![None; block.forms.len()],
        };
        let mut said = block.said.iter().peekable();
        // What vLLM says is of interest here where a life begins.
        let all = births.peek().is_some();
        let mut recs = (0_u32..).zip(&block.recs);
        let mut next = || {
            recs.find_map(|(n, rec)| {
                (said.next_if_eq(&&n).is_none() || all).then_some((rec, rec.line))
            })
        };
        let mut often = block.often.iter();
        let mut ahead = next();
        while let Some((rec, line)) = ahead {
            // Looked at before it is its turn: it lies anywhere in memory.
            ahead = next();
            self.before(tellers, block, line, (&mut often, &mut known));
            match &rec.fact {
                Fact::Vllm(_) => {
                    let line = block.first_line + u64::from(line);
                    while let Some(birth) = births.next_if(|birth| birth.known_at <= line) {
                        let from = birth.first.line;
                        let gone = self.part_at(birth.source, from, block, &mut known);
                        past.push((birth.clone(), gone));
                    }
                }
                fact => {
                    let source = tellers.of(rec.outer);
                    let proc = self.rec(source, block, rec, &mut known);
                    if let (Some(proc), Fact::Init(_)) = (proc, fact)
                        && !tellers.are_container()
                        && !voiced(source)
                    {
                        let first = || quote(block, rec);
                        past.extend(self.replaced(proc, block, &mut known, first));
                    }
                }
            }
        }
        self.before(tellers, block, u32::MAX, (&mut often, &mut known));
        self.rest(block, &mut known);
        past
    }

    fn rec(
        &mut self,
        source: SourceId,
        block: &Block,
        rec: &Rec,
        known: &mut Known,
    ) -> Option<ProcIx> {
        let Some(head) = rec.head else {
            self.headless(source, block, rec);
            return None;
        };
        let spot = Spot::of(rec);
        let mut proc = self.proc(source, block, head, &spot, known)?;
        let process = self.list.get_mut(proc as usize)?;
        let hand = known.hands.entry(proc).or_default();
        hand.put_back(process, block.first_line);
        if matches!(rec.fact, Fact::Coll { .. }) {
            hand.count(process);
        }
        if process.reborn(&rec.fact) {
            let next = Process::new(
                source,
                process.host.clone(),
                process.pid,
                process.incarnation + 1,
                block,
                &spot,
            );
            proc = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
            if let (Some(host), Some(pid)) = (next.host.clone(), next.pid) {
                self.by_key.insert(
                    (pid, if pid == 0 { rec.dev } else { 0 }, source, host),
                    proc,
                );
            }
            if let Some(slot) = known.procs.get_mut(head as usize) {
                *slot = Some((proc, source));
            }
            known.voices.fill(None);
            known.hands.insert(proc, Hand::default());
            self.list.push(next);
        }
        self.list.get_mut(proc as usize)?.apply(block, rec, &spot);
        Some(proc)
    }

    /// The process of a head, made where it is new; none for a damaged head, which is counted.
    fn proc(
        &mut self,
        source: SourceId,
        block: &Block,
        head: HeadIx,
        spot: &Spot,
        known: &mut Known,
    ) -> Option<ProcIx> {
        let ix = head as usize;
        // Two pods in their node's network may have one head: the host's name, and a pid of their own.
        if let Some((proc, teller)) = known.procs.get(ix).copied().flatten()
            && teller == source
        {
            return Some(proc);
        }
        let head = block.heads.get(ix)?;
        let (Some(Some(host)), Some(pid)) = (known.names.get(ix), head.pid) else {
            *self.orphans.entry(source).or_default() += 1;
            return None;
        };
        let proc = self.find(source, host, pid, block, spot);
        if pid != 0
            && let Some(slot) = known.procs.get_mut(ix)
        {
            *slot = Some((proc, source));
        }
        Some(proc)
    }

    fn find(
        &mut self,
        source: SourceId,
        host: &Arc<str>,
        pid: u64,
        block: &Block,
        spot: &Spot,
    ) -> ProcIx {
        let key = (
            pid,
            if pid == 0 { spot.dev } else { 0 },
            source,
            Arc::clone(host),
        );
        if let Some(ix) = self.by_key.get(&key) {
            return *ix;
        }
        let ix = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(Process::new(
            source,
            Some(Arc::clone(host)),
            Some(pid),
            1,
            block,
            spot,
        ));
        self.by_key.insert(key, ix);
        ix
    }

    fn headless(&mut self, source: SourceId, block: &Block, rec: &Rec) {
        if let Fact::Version { nccl, .. } = &rec.fact {
            let list = self.bare_versions.entry(source).or_default();
            if list.len() < 16 && !list.iter().any(|(v, _)| v == nccl) {
                list.push((nccl.clone(), quote(block, rec)));
            }
        } else {
            *self.orphans.entry(source).or_default() += 1;
        }
    }
}

/// The known-host rule (nccl-logs.md 1.3): a host that never begins a line and ends in a known name is that name.
fn known_host(hosts: &BTreeSet<Arc<str>>, head: &Head) -> Option<Arc<str>> {
    if head.host.is_empty() {
        return None;
    }
    if let Some(h) = hosts.get(head.host.as_str()) {
        return Some(Arc::clone(h));
    }
    let longest = hosts
        .iter()
        .filter(|h| head.host.ends_with(&***h))
        .max_by_key(|h| h.len());
    Some(longest.map_or_else(|| head.host.as_str().into(), Arc::clone))
}

/// What is known of a block's heads and connections while it is folded.
struct Known {
    /// Hosts of the heads.
    names: Vec<Option<Arc<str>>>,
    /// Processes of the heads, once looked for, and whose lines they were.
    procs: Vec<Option<(ProcIx, SourceId)>>,
    /// Where in `hands` the processes of those who say what comes by the million are, once looked for.
    voices: Vec<Option<u32>>,
    /// The processes heard in the block.
    hands: QuickMap<ProcIx, Hand>,
    /// Where the last line of each connection that comes by the million went, and whose voice that was.
    again: Vec<Option<(u16, Again)>>,
}

/// Where a line of a connection went, and when the next one of the same voice goes there, too.
#[derive(Debug, Clone, Copy)]
struct Again {
    /// [`Process::turn`] at that time.
    turn: u64,
    /// The record last called, if it was found by that: then the next call of it leads there again.
    after: Option<Option<u32>>,
    run: u32,
    /// Index of the edge.
    edge: usize,
}

/// Where a line stands in its block and who said it.
#[derive(Debug, Clone, Copy)]
struct Spot {
    line: u32,
    start: u32,
    end: u32,
    at: Option<At>,
    outer: OuterIx,
    tid: u64,
    dev: i32,
}

impl Spot {
    fn of_often(line: &Often, voice: &Voice) -> Self {
        Self {
            line: line.line,
            start: line.start,
            end: line.end(),
            at: line.at.at(),
            outer: voice.outer,
            tid: voice.tid,
            dev: voice.dev,
        }
    }

    fn of(rec: &Rec) -> Self {
        Self {
            line: rec.line,
            start: rec.start,
            end: rec.end,
            at: rec.at,
            outer: rec.outer,
            tid: rec.tid,
            dev: rec.dev,
        }
    }

    fn quote(&self, block: &Block) -> Quote {
        let raw = block
            .text
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default();
        Quote {
            line: block.first_line + u64::from(self.line),
            at: self.at,
            text: parse::cleaned(raw).into(),
        }
    }
}

/// The place and text of a fact.
#[must_use]
pub fn quote(block: &Block, rec: &Rec) -> Quote {
    Spot::of(rec).quote(block)
}
