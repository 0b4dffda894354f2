//! Joins communicators over processes and hosts (nccl-logs.md 4.6) and says how far each of them came.

mod timed;

use std::collections::{BTreeMap, BTreeSet};

use super::scene::{CommState, LineRef, Member, NcclStep};
use crate::model::edges::Quote;
use crate::model::event::SourceId;
use crate::model::procs::{CommRec, Process, Procs};
use crate::model::speakers::{Speaker, Speakers};
use crate::parse::fact::Life;

/// A process over all sources that carry its lines.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Indices into [`Procs::list`]; the first has the process's own stream, if one is known.
    pub procs: Vec<u32>,
    /// Its communicator records.
    pub recs: Vec<UnitRec>,
    /// Indices into [`Speakers::list`]: what it says as a vLLM process.
    pub speakers: Vec<u32>,
}

/// A communicator record of a unit: the same one may be told by several sources.
#[derive(Debug, Clone)]
pub struct UnitRec {
    /// (process, record) that tell it.
    pub told: Vec<(u32, u32)>,
    /// Index into [`Joined::groups`].
    pub group: u32,
}

/// A communicator over all processes.
#[derive(Debug, Clone)]
pub struct Group {
    /// Key of the contract.
    pub key: String,
    /// `commId` as printed.
    pub comm_id: Option<u64>,
    /// Index of the parent group.
    pub parent: Option<u32>,
    /// Size.
    pub nranks: u32,
    /// (unit, record) by rank.
    pub members: BTreeMap<u32, (u32, u32)>,
}

/// The join.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// Processes over sources, sorted by (source, first line).
    pub units: Vec<Unit>,
    /// Communicators in order of discovery.
    pub groups: Vec<Group>,
    /// (process, record) to (unit, record).
    pub place: BTreeMap<(u32, u32), (u32, u32)>,
    /// Process to unit.
    pub unit_of: Vec<u32>,
}

impl Joined {
    /// Joins everything the processes said.
    #[must_use]
    pub fn of(procs: &Procs, speakers: &Speakers, name: &dyn Fn(SourceId) -> String) -> Self {
        let mut joined = Self::default();
        joined.unite(procs);
        joined.hear(procs, speakers);
        joined.sort(procs, speakers);
        joined.group(procs, name);
        joined
    }

    fn unite(&mut self, procs: &Procs) {
        let mut order: Vec<u32> = (0..u32::try_from(procs.list.len()).unwrap_or(0)).collect();
        order.sort_by_key(|i| {
            procs
                .list
                .get(*i as usize)
                .map(|p| (p.source, p.first_line, p.incarnation))
        });
        self.unit_of = vec![0; procs.list.len()];
        let mut by_host: BTreeMap<(&str, u64), Vec<u32>> = BTreeMap::new();
        for ix in order {
            let Some(p) = procs.list.get(ix as usize) else {
                continue;
            };
            let twin = match (&p.host, p.pid) {
                (Some(h), Some(pid)) => by_host
                    .get(&(&**h, pid))
                    .and_then(|us| us.iter().copied().find(|u| self.same_process(procs, *u, p))),
                _ => None,
            };
            let unit = twin.unwrap_or_else(|| {
                let u = u32::try_from(self.units.len()).unwrap_or(u32::MAX);
                self.units.push(Unit {
                    procs: Vec::new(),
                    recs: Vec::new(),
                    speakers: Vec::new(),
                });
                if let (Some(h), Some(pid)) = (&p.host, p.pid) {
                    by_host.entry((h, pid)).or_default().push(u);
                }
                u
            });
            if let Some(slot) = self.unit_of.get_mut(ix as usize) {
                *slot = unit;
            }
            self.adopt(procs, unit, ix, p);
        }
        for unit in &mut self.units {
            // The process's own stream first: the one that nobody relayed.
            unit.procs.sort_by_key(|i| {
                procs
                    .list
                    .get(*i as usize)
                    .map(|p| (p.outer.depth > 0, p.source, p.first_line))
            });
        }
    }

    /// Gives every vLLM process its NCCL process: the same pid in the same source. NCCL's own lines carry no
    /// vLLM prefix under the multiprocessing executor, and carry the relaying engine's under Ray.
    fn hear(&mut self, procs: &Procs, speakers: &Speakers) {
        let number = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
        // Units by the source and pid of each of their processes, in order.
        let mut by_pid: BTreeMap<(SourceId, Option<u64>), Vec<Voice>> = BTreeMap::new();
        let mut by_source: BTreeMap<SourceId, Vec<u32>> = BTreeMap::new();
        for (u, unit) in self.units.iter().enumerate() {
            for p in &unit.procs {
                let Some(process) = procs.list.get(*p as usize) else {
                    continue;
                };
                by_pid
                    .entry((process.source, process.pid))
                    .or_default()
                    .push((number(u), *p));
                by_source.entry(process.source).or_default().push(number(u));
            }
        }
        let mut heard: BTreeMap<u32, u32> = BTreeMap::new();
        let mut spoken: BTreeSet<u32> = BTreeSet::new();
        for (s, speaker) in speakers
            .list
            .iter()
            .enumerate()
            .filter(|(_, s)| s.pid.is_some())
        {
            let there = by_pid
                .get(&(speaker.source, speaker.pid))
                .map(Vec::as_slice)
                .unwrap_or_default();
            if let Some(u) = voice(procs, speaker, there) {
                heard.insert(number(s), u);
                spoken.insert(u);
            }
        }
        // A main process prints without a prefix: it is the one process of its source that nobody else is.
        for (s, speaker) in speakers
            .list
            .iter()
            .enumerate()
            .filter(|(_, s)| s.pid.is_none() && s.is_rank())
        {
            let there = by_source
                .get(&speaker.source)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let mut free = there.iter().copied().filter(|u| !spoken.contains(u));
            if let (Some(u), None) = (free.next(), free.next()) {
                heard.insert(number(s), u);
                spoken.insert(u);
            }
        }
        for s in (0..speakers.list.len()).map(number) {
            match heard.get(&s).and_then(|u| self.units.get_mut(*u as usize)) {
                Some(unit) => unit.speakers.push(s),
                None => self.units.push(Unit {
                    procs: Vec::new(),
                    recs: Vec::new(),
                    speakers: vec![s],
                }),
            }
        }
    }

    /// Units in order of their place, whoever told it first.
    fn sort(&mut self, procs: &Procs, speakers: &Speakers) {
        let place = |u: &Unit| {
            let told = u
                .procs
                .first()
                .and_then(|p| procs.list.get(*p as usize))
                .map(|p| (p.source, p.first_line));
            let said = u
                .speakers
                .first()
                .and_then(|s| speakers.list.get(*s as usize))
                .map(|s| (s.source, s.first.line));
            match (told, said) {
                (Some(a), Some(b)) if a.0 == b.0 => a.min(b),
                (a, b) => a.or(b).unwrap_or((SourceId(u32::MAX), u64::MAX)),
            }
        };
        self.units.sort_by_key(place);
        self.place.clear();
        for (u, unit) in self.units.iter().enumerate() {
            let u = u32::try_from(u).unwrap_or(u32::MAX);
            for p in &unit.procs {
                if let Some(slot) = self.unit_of.get_mut(*p as usize) {
                    *slot = u;
                }
            }
            for (r, rec) in unit.recs.iter().enumerate() {
                let r = u32::try_from(r).unwrap_or(u32::MAX);
                self.place.extend(rec.told.iter().map(|t| (*t, (u, r))));
            }
        }
    }

    /// Two sources tell one process when they agree on a communicator by pointer.
    fn same_process(&self, procs: &Procs, unit: u32, p: &Process) -> bool {
        let Some(u) = self.units.get(unit as usize) else {
            return false;
        };
        u.procs
            .iter()
            .filter_map(|i| procs.list.get(*i as usize))
            .all(|q| q.source != p.source)
            && u.recs
                .iter()
                .filter_map(|r| r.rec(procs))
                .any(|a| p.comms.iter().any(|b| same_rec(a, b) && a.ptr.is_some()))
    }

    fn adopt(&mut self, procs: &Procs, unit: u32, ix: u32, p: &Process) {
        let Some(u) = self.units.get_mut(unit as usize) else {
            return;
        };
        u.procs.push(ix);
        let mut taken = vec![false; u.recs.len()];
        for (r, rec) in p.comms.iter().enumerate() {
            let r = u32::try_from(r).unwrap_or(u32::MAX);
            let twin = u.recs.iter().enumerate().find(|(i, have)| {
                !taken.get(*i).copied().unwrap_or(true)
                    && have.rec(procs).is_some_and(|a| same_rec(a, rec))
            });
            let at = match twin.map(|(i, _)| i) {
                Some(i) => {
                    if let Some(t) = taken.get_mut(i) {
                        *t = true;
                    }
                    i
                }
                None => {
                    u.recs.push(UnitRec {
                        told: Vec::new(),
                        group: u32::MAX,
                    });
                    u.recs.len() - 1
                }
            };
            if let Some(have) = u.recs.get_mut(at) {
                have.told.push((ix, r));
                self.place
                    .insert((ix, r), (unit, u32::try_from(at).unwrap_or(u32::MAX)));
            }
        }
    }

    fn group(&mut self, procs: &Procs, name: &dyn Fn(SourceId) -> String) {
        // Parents before children: a record's parent has a smaller index in the same process, so going by
        // depth resolves every key in one pass per depth.
        let mut todo: Vec<(u32, u32, u32)> = Vec::new();
        for (u, unit) in self.units.iter().enumerate() {
            for r in 0..unit.recs.len() {
                let (u, r) = (u32::try_from(u).unwrap_or(0), u32::try_from(r).unwrap_or(0));
                todo.push((self.depth(procs, u, r), u, r));
            }
        }
        let deepest = todo.iter().map(|t| t.0).max().unwrap_or(0);
        let mut by_key: BTreeMap<String, u32> = BTreeMap::new();
        let namesakes = timed::namesakes(self, procs);
        for depth in 0..=deepest {
            // Same key and same rank twice: a further generation, in order of time, else of place.
            let mut claims: BTreeMap<(String, u32), Vec<(u32, u32)>> = BTreeMap::new();
            for (_, u, r) in todo.iter().filter(|t| t.0 == depth) {
                let Some(rec) = self.rec(procs, *u, *r) else {
                    continue;
                };
                let named = *namesakes.get(&(*u, *r)).unwrap_or(&(*u, *r));
                let first = self.rec(procs, named.0, named.1).unwrap_or(rec);
                claims
                    .entry((self.base_key(procs, named, first, name), rec.rank))
                    .or_default()
                    .push((*u, *r));
            }
            for ((base, rank), mut list) in claims {
                if list.len() > 1 {
                    list.sort_by(|a, b| self.earlier(procs, *a, *b));
                }
                for (n, (u, r)) in list.into_iter().enumerate() {
                    let key = if n == 0 {
                        base.clone()
                    } else {
                        format!("{base}#{}", n + 1)
                    };
                    let g = *by_key
                        .entry(key.clone())
                        .or_insert_with(|| u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
                    if g as usize == self.groups.len() {
                        let rec = self.rec(procs, u, r);
                        self.groups.push(Group {
                            key,
                            comm_id: rec
                                .and_then(|c| if keyed_by_id(c) { c.comm_id } else { None }),
                            parent: self.parent_group(procs, u, r),
                            nranks: rec.map_or(0, |c| c.nranks),
                            members: BTreeMap::new(),
                        });
                    }
                    if let Some(group) = self.groups.get_mut(g as usize) {
                        group.members.insert(rank, (u, r));
                    }
                    if let Some(slot) = self
                        .units
                        .get_mut(u as usize)
                        .and_then(|x| x.recs.get_mut(r as usize))
                    {
                        slot.group = g;
                    }
                }
            }
        }
    }

    fn earlier(&self, procs: &Procs, a: (u32, u32), b: (u32, u32)) -> std::cmp::Ordering {
        if a.0 == b.0 {
            return a.1.cmp(&b.1);
        }
        let at = |x: (u32, u32)| {
            let t = self
                .rec(procs, x.0, x.1)
                .and_then(|c| c.first())
                .and_then(|q| q.at)
                .filter(|t| t.exact);
            t.map(|t| t.ns)
        };
        match (at(a), at(b)) {
            (Some(x), Some(y)) if x != y => x.cmp(&y),
            _ => a.cmp(&b),
        }
    }

    fn parent_of(&self, procs: &Procs, u: u32, r: u32) -> Option<(u32, u32)> {
        let told = &self.units.get(u as usize)?.recs.get(r as usize)?.told;
        told.iter().find_map(|(p, c)| {
            let parent = procs
                .list
                .get(*p as usize)?
                .comms
                .get(*c as usize)?
                .parent?
                .record?;
            self.place.get(&(*p, parent)).copied()
        })
    }

    fn parent_group(&self, procs: &Procs, u: u32, r: u32) -> Option<u32> {
        let (pu, pr) = self.parent_of(procs, u, r)?;
        Some(self.units.get(pu as usize)?.recs.get(pr as usize)?.group).filter(|g| *g != u32::MAX)
    }

    fn depth(&self, procs: &Procs, u: u32, r: u32) -> u32 {
        let (mut at, mut n) = ((u, r), 0);
        while n < 64 {
            match self.parent_of(procs, at.0, at.1) {
                Some(up) if up != at => {
                    at = up;
                    n += 1;
                }
                _ => break,
            }
        }
        n
    }

    fn base_key(
        &self,
        procs: &Procs,
        (u, r): (u32, u32),
        rec: &CommRec,
        name: &dyn Fn(SourceId) -> String,
    ) -> String {
        if keyed_by_id(rec)
            && let Some(id) = rec.comm_id
        {
            return format!("{id:x}/{}", rec.nranks);
        }
        if let Some(parent) = &rec.parent
            && let Some(g) = self
                .parent_group(procs, u, r)
                .and_then(|g| self.groups.get(g as usize))
        {
            return format!(
                "{}/s{}.{}/{}",
                g.key, parent.count, parent.color, rec.nranks
            );
        }
        let told = self
            .units
            .get(u as usize)
            .and_then(|x| x.recs.get(r as usize))
            .and_then(|x| x.told.first());
        let process = told.and_then(|(p, _)| procs.list.get(*p as usize));
        let source = process.map_or_else(String::new, |p| name(p.source));
        let pid = process
            .and_then(|p| p.pid)
            .map_or_else(|| "?".into(), |p| p.to_string());
        let ptr = rec.ptr.map_or_else(|| "?".into(), |p| format!("{p:x}"));
        format!("@{source}:{pid}:{ptr}/{}", rec.nranks)
    }

    /// The first telling of a record.
    #[must_use]
    pub fn rec<'a>(&self, procs: &'a Procs, u: u32, r: u32) -> Option<&'a CommRec> {
        self.units.get(u as usize)?.recs.get(r as usize)?.rec(procs)
    }

    /// Every telling of a record.
    pub fn tellings<'a>(
        &'a self,
        procs: &'a Procs,
        u: u32,
        r: u32,
    ) -> impl Iterator<Item = (u32, &'a Process, &'a CommRec)> {
        let told = self
            .units
            .get(u as usize)
            .and_then(|x| x.recs.get(r as usize))
            .map(|x| x.told.as_slice());
        told.unwrap_or_default().iter().filter_map(|(p, c)| {
            let process = procs.list.get(*p as usize)?;
            Some((*p, process, process.comms.get(*c as usize)?))
        })
    }

    /// The member as the report lists it.
    #[must_use]
    pub fn member(&self, procs: &Procs, u: u32, r: u32) -> Option<Member> {
        let first = self.rec(procs, u, r)?;
        let mut state = CommState::Starting;
        let mut step = NcclStep::Initialization;
        let mut line: Option<LineRef> = None;
        let mut dev = (first.cuda_dev, first.nvml_dev, first.bus_id);
        for (p, process, c) in self.tellings(procs, u, r) {
            state = state.max(state_of(c));
            step = step.max(step_of(process, c, self.record_index(p, u, r)));
            dev = (
                dev.0.or(c.cuda_dev),
                dev.1.or(c.nvml_dev),
                dev.2.or(c.bus_id),
            );
            if let Some(q) = c.first() {
                let l = line_ref(process.source, q);
                if line
                    .as_ref()
                    .is_none_or(|have| (l.source, l.number) < (have.source, have.number))
                {
                    line = Some(l);
                }
            }
        }
        Some(Member {
            rank: first.rank,
            process: u,
            cuda_dev: dev.0,
            nvml_dev: dev.1,
            bus_id: dev.2.map(|b| format!("{b:x}")),
            state,
            step,
            line: line?,
        })
    }

    /// How far a record came; none where no line is about its life.
    #[must_use]
    pub fn step(&self, procs: &Procs, u: u32, r: u32) -> Option<NcclStep> {
        let told = || self.tellings(procs, u, r);
        told().find_map(|(_, _, c)| c.first())?;
        let steps = told().map(|(p, process, c)| step_of(process, c, self.record_index(p, u, r)));
        steps.max()
    }

    fn record_index(&self, process: u32, u: u32, r: u32) -> u32 {
        let told = self
            .units
            .get(u as usize)
            .and_then(|x| x.recs.get(r as usize))
            .map(|x| x.told.as_slice());
        told.unwrap_or_default()
            .iter()
            .find(|(p, _)| *p == process)
            .map_or(u32::MAX, |(_, c)| *c)
    }
}

/// A unit and the process in it that has the pid.
type Voice = (u32, u32);

/// The unit that a vLLM process is, among those with its pid in its source.
fn voice(procs: &Procs, speaker: &Speaker, there: &[Voice]) -> Option<u32> {
    // Pids repeat over nodes: who has no address in front runs beside the driver, like the lines that have none.
    let by_ip = |p: &Process| {
        let known = p
            .bootstrap
            .as_ref()
            .map(|b| &b.1)
            .filter(|_| speaker.ip.is_some());
        p.outer.ip == speaker.ip || (known.is_some() && known == speaker.ip.as_ref())
    };
    for strict in [true, false] {
        let found = || {
            there
                .iter()
                .filter_map(|(u, p)| Some((*u, procs.list.get(*p as usize)?)))
                .filter(|(_, p)| !strict || by_ip(p))
        };
        // Lives of one pid follow each other; the youngest is the one that still speaks.
        let hosts: BTreeSet<_> = found().filter_map(|(_, p)| p.host.as_deref()).collect();
        if hosts.len() == 1 {
            return found().next_back().map(|(u, _)| u);
        }
    }
    // One stream of several nodes: the process that has its rank in a communicator of the whole world.
    let start = speaker.rank_start.as_ref().map(|(r, _)| (r.rank, r.world));
    let (rank, world) = match &speaker.ranks {
        Some((r, _)) => (r.rank, r.world),
        None => start.and_then(|(rank, world)| rank.zip(world))?,
    };
    let is = |p: &Process| (p.comms.iter()).any(|c| c.rank == rank && c.nranks == world);
    let mut fit = there
        .iter()
        .filter(|(_, p)| procs.list.get(*p as usize).is_some_and(is));
    match (fit.next(), fit.next()) {
        (Some((u, _)), None) => Some(*u),
        _ => None,
    }
}

impl UnitRec {
    fn rec<'a>(&self, procs: &'a Procs) -> Option<&'a CommRec> {
        let (p, r) = self.told.first()?;
        procs.list.get(*p as usize)?.comms.get(*r as usize)
    }
}

/// Splits of 2.18.1–2.22.3 print an id of their own; later ones are told by their parent.
fn keyed_by_id(c: &CommRec) -> bool {
    c.comm_id.is_some()
}

fn same_rec(a: &CommRec, b: &CommRec) -> bool {
    a.ptr == b.ptr
        && a.rank == b.rank
        && a.nranks == b.nranks
        && (a.comm_id == b.comm_id || a.comm_id.is_none() || b.comm_id.is_none())
}

/// A place in a source as a reference.
#[must_use]
pub fn line_ref(source: SourceId, q: &Quote) -> LineRef {
    LineRef {
        source: source.0,
        number: q.line,
        at: q.at,
        text: std::sync::Arc::clone(&q.text),
    }
}

fn state_of(c: &CommRec) -> CommState {
    match (&c.end, &c.failed, &c.complete) {
        (Some((Life::Destroyed, _)), _, _) => CommState::Destroyed,
        (Some((life, _)), _, _) => CommState::from(*life),
        (None, Some(_), None) => CommState::Failed,
        (None, _, Some(_)) => CommState::Complete,
        (None, None, None) => CommState::Starting,
    }
}

/// NCCL's four steps from the markers of nccl-logs.md 4.1.
fn step_of(process: &Process, c: &CommRec, record: u32) -> NcclStep {
    if c.complete.is_some() {
        return NcclStep::Completion;
    }
    let mut step = if c.placed {
        NcclStep::Topology
    } else {
        NcclStep::Initialization
    };
    if c.connecting {
        step = NcclStep::Transport;
    }
    for run in process
        .runs
        .iter()
        .filter(|r| r.comm == Some(record) && r.window)
    {
        if !run.edges.is_empty() || run.tuned || run.counts.is_some() {
            step = step.max(NcclStep::Transport);
        } else if !run.is_empty() {
            step = step.max(NcclStep::Topology);
        }
    }
    step
}
