//! Lines of trouble over all processes, and the finding that is made of alike ones.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::fix::Target;
use super::{View, earlier};
use crate::model::event::{ContainerState, Feed, PodKey};
use crate::parse::fact::WarnKind;
use crate::parse::vllm::{Fault, FaultKind, Severity as Level, Torch};
use crate::rules::comms::line_ref;
use crate::rules::scene::{Class, Evidence, Finding, LineRef, ProcessView, Severity, Stage};

/// Evidence lines kept per finding.
const LINES: usize = 8;

/// What a line tells.
pub enum Told<'a> {
    /// NCCL, and whether as a WARN.
    Warn(Cow<'a, WarnKind>, bool),
    /// vLLM, torch, Ray.
    Fault(&'a Fault),
    /// torch's watchdog.
    Torch(&'a Torch),
}

/// A line of trouble.
pub struct Notice<'a> {
    /// What it tells.
    pub told: Told<'a>,
    /// Process, an index into the scene's.
    pub unit: u32,
    /// Communicator, an index into the scene's.
    pub comm: Option<u32>,
    /// Where it stands.
    pub line: LineRef,
    /// How far its source had come.
    pub stage: Option<Stage>,
}

/// Sorts by time where it is proven, then by place.
pub fn order(line: &LineRef) -> (i64, u32, u64) {
    let at = line.at.filter(|a| a.exact).map_or(i64::MAX, |a| a.ns);
    (at, line.source, line.number)
}

impl Notice<'_> {
    /// What an NCCL line is about, if it is a WARN or says as much as one.
    pub fn warn(&self) -> Option<&WarnKind> {
        match &self.told {
            Told::Warn(kind, true) => Some(kind),
            _ => None,
        }
    }

    /// NCCL, whatever the level.
    pub fn nccl(&self) -> Option<&WarnKind> {
        match &self.told {
            Told::Warn(kind, _) => Some(kind),
            _ => None,
        }
    }

    /// vLLM's failure; what is only warned of is none.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.told {
            Told::Fault(f) if f.level.is_none_or(|l| l >= Level::Error) => Some(f),
            _ => None,
        }
    }

    /// The message of its line, without the stamps and heads that stand before it.
    pub fn said(&self) -> String {
        if let Told::Fault(f) = &self.told {
            return f.text.clone();
        }
        let text = &*self.line.text;
        if let Some((_, message)) = text.split_once("NCCL WARN ") {
            return message.to_owned();
        }
        let stamped = crate::model::logs::stamp(text).and_then(|_| text.split_once(' '));
        stamped.map_or(text, |(_, rest)| rest).to_owned()
    }

    /// The line begins a failure of its own rather than following from another one.
    pub fn is_root(&self) -> bool {
        match &self.told {
            Told::Warn(kind, warn) => {
                *warn
                    && !matches!(&**kind, WarnKind::PeerClosed { .. } | WarnKind::Other)
                    && !matches!(&**kind, WarnKind::IbCompletion { status: 5, .. })
            }
            Told::Fault(f) => {
                f.level.is_none_or(|l| l >= Level::Error)
                    && !f.is_echo()
                    && !matches!(
                        f.kind,
                        FaultKind::WorkerDied { .. }
                            | FaultKind::TorchNccl { .. }
                            | FaultKind::NcclResult { .. }
                            | FaultKind::HubRetry { .. }
                    )
            }
            Told::Torch(_) => false,
        }
    }
}

/// Every line of trouble, in order.
pub fn gather<'a>(view: &View<'a>) -> Vec<Notice<'a>> {
    let model = view.model;
    let mut out: Vec<Notice<'a>> = Vec::new();
    let position: BTreeMap<u32, u32> = (0..).zip(view.order).map(|(i, g)| (*g, i)).collect();
    // The furthest stage of a source by line: what fails later failed in it or beyond.
    let mut stages: BTreeMap<u32, BTreeMap<Stage, u64>> = BTreeMap::new();
    for s in &model.speakers.list {
        for (stage, q) in &s.stages {
            let first = stages
                .entry(s.source.0)
                .or_default()
                .entry(*stage)
                .or_insert(q.line);
            *first = (*first).min(q.line);
        }
    }
    let stage_at = |source: u32, line: u64| {
        let of = stages.get(&source)?;
        of.iter().rev().find(|(_, l)| **l <= line).map(|(s, _)| *s)
    };
    for (i, p) in (0u32..).zip(&model.procs.list) {
        let unit = view.joined.unit_of.get(i as usize).copied().unwrap_or(0);
        for w in &p.warnings {
            let comm = w
                .comm
                .and_then(|rec| view.joined.place.get(&(i, rec)))
                .and_then(|(u, r)| view.joined.units.get(*u as usize)?.recs.get(*r as usize))
                .and_then(|r| position.get(&r.group))
                .copied();
            let line = line_ref(p.source, &w.quote);
            out.push(Notice {
                told: Told::Warn(Cow::Borrowed(&w.kind), w.warn),
                unit,
                comm,
                stage: stage_at(line.source, line.number),
                line,
            });
        }
    }
    for (u, unit) in (0u32..).zip(&view.joined.units) {
        let speakers = unit.speakers.iter();
        for s in speakers.filter_map(|s| model.speakers.list.get(*s as usize)) {
            for (fault, q) in &s.faults {
                let line = line_ref(s.source, q);
                let told = match &fault.kind {
                    // torch repeats the last WARN of this process's NCCL.
                    FaultKind::LastError { what: Some(what) } => {
                        match crate::parse::kind_of(what) {
                            WarnKind::Other => Told::Fault(fault),
                            kind => Told::Warn(Cow::Owned(kind), true),
                        }
                    }
                    _ => Told::Fault(fault),
                };
                let stage = stage_at(line.source, line.number);
                out.push(Notice {
                    told,
                    unit: u,
                    comm: None,
                    line,
                    stage,
                });
            }
            for (t, q) in &s.torch {
                let line = line_ref(s.source, q);
                let stage = stage_at(line.source, line.number);
                out.push(Notice {
                    told: Told::Torch(t),
                    unit: u,
                    comm: None,
                    line,
                    stage,
                });
            }
        }
    }
    out.sort_by_key(|n| order(&n.line));
    out
}

/// Alike lines of one workload.
pub struct Case<'v, 'a> {
    /// What may be looked at.
    pub view: &'v View<'a>,
    /// The lines in order; never empty.
    pub list: Vec<&'v Notice<'a>>,
    /// Who they come from: `llm-1 and 2 more`.
    pub place: String,
    /// What fixes are about.
    pub target: &'v Target,
}

/// What a finding says about its case: title, cause, fixes.
pub type Words = (String, String, Vec<String>);

impl<'v, 'a> Case<'v, 'a> {
    /// Splits lines by workload; one case each.
    pub fn split(view: &'v View<'a>, list: Vec<&'v Notice<'a>>) -> Vec<Self> {
        let mut by: BTreeMap<usize, Vec<&'v Notice<'a>>> = BTreeMap::new();
        for n in list {
            by.entry(view.workload_of(n.unit)).or_default().push(n);
        }
        by.into_values().map(|list| Self::new(view, list)).collect()
    }

    /// A case of some lines.
    pub fn new(view: &'v View<'a>, list: Vec<&'v Notice<'a>>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for n in &list {
            let name = view.place(n.unit);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let place = match names.as_slice() {
            [] => "a process".to_owned(),
            [one] => one.clone(),
            [one, two] => format!("{one} and {two}"),
            [one, rest @ ..] => format!("{one} and {} more", rest.len()),
        };
        Self {
            view,
            list,
            place,
            target: &view.target,
        }
    }

    /// The first value that `pick` takes out of the faults.
    pub fn of<T>(&self, pick: impl Fn(&FaultKind) -> Option<T>) -> Option<T> {
        self.list
            .iter()
            .filter_map(|n| n.fault())
            .find_map(|f| pick(&f.kind))
    }

    /// The same for NCCL's warnings.
    pub fn warned<T>(&self, pick: impl Fn(&WarnKind) -> Option<T>) -> Option<T> {
        self.list.iter().filter_map(|n| n.nccl()).find_map(pick)
    }

    /// Pod of the first line, else its place.
    pub fn pod(&self) -> String {
        self.list
            .first()
            .map_or_else(String::new, |n| self.view.place(n.unit))
    }

    /// The finding, with who, where and since when.
    pub fn finding(&self, id: &'static str, severity: Severity, class: Class) -> Option<Finding> {
        let first = self.list.first()?;
        let units: BTreeSet<u32> = self.list.iter().map(|n| n.unit).collect();
        let comms: BTreeSet<Option<u32>> = self.list.iter().map(|n| n.comm).collect();
        let comm = match comms.iter().copied().collect::<Vec<_>>().as_slice() {
            [Some(c)] => self.view.scene.communicators.get(*c as usize),
            _ => None,
        };
        let who = self.view.who(&units);
        let subject = match (comm, who.places.as_slice()) {
            (Some(c), _) => c.key.clone(),
            (None, [one]) => one.clone(),
            _ => self.view.workload_name(first.unit),
        };
        let mut f = Finding::new(
            id,
            &subject,
            severity,
            class,
            Evidence::Line(first.line.clone()),
        );
        // The first line of each process before the second of any.
        let mut seen = BTreeSet::new();
        let (firsts, rest): (Vec<&Notice<'_>>, Vec<&Notice<'_>>) =
            self.list.iter().copied().partition(|n| seen.insert(n.unit));
        for n in firsts.into_iter().chain(rest).take(LINES) {
            f.prove(Evidence::Line(n.line.clone()));
        }
        f.since = self.list.iter().fold(None, |at, n| earlier(at, n.line.at));
        f.hosts = who.hosts;
        f.pods = who.pods;
        f.ranks = match comm {
            Some(c) => c
                .ranks
                .iter()
                .filter(|m| units.contains(&m.process))
                .map(|m| m.rank)
                .collect(),
            None => who.ranks,
        };
        f.communicator = comm.map(|c| c.key.clone());
        Some(f)
    }

    /// The finding with its words.
    pub fn raise(
        &self,
        id: &'static str,
        severity: Severity,
        class: Class,
        words: Words,
    ) -> Option<Finding> {
        let mut f = self.finding(id, severity, class)?;
        (f.title, f.cause, f.fix) = words;
        Some(f)
    }
}

/// Who processes are.
#[derive(Default)]
pub struct Who {
    /// Pods, else hosts, else files.
    pub places: Vec<String>,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Pods.
    pub pods: Vec<String>,
    /// Global ranks.
    pub ranks: Vec<u32>,
}

impl<'a> View<'a> {
    /// A process.
    pub fn process(&self, unit: u32) -> Option<&'a ProcessView> {
        self.scene.processes.get(unit as usize)
    }

    /// What a person calls the place of a process: pod, host or the file that tells of it.
    pub fn place(&self, unit: u32) -> String {
        let Some(p) = self.process(unit) else {
            return "?".into();
        };
        p.pod
            .clone()
            .or_else(|| p.host.clone())
            .or_else(|| {
                self.scene
                    .sources
                    .get(p.source as usize)
                    .map(|s| s.name.clone())
            })
            .unwrap_or_else(|| "?".into())
    }

    /// How to see where a process stands: its stack, while it runs. Once it has ended nobody is left to be asked,
    /// and its log is what there is.
    pub fn stack(&self, p: &ProcessView) -> String {
        if self.is_over(p) {
            return self.target.log(&p.place());
        }
        let pid = p.pid.map_or_else(|| "<pid>".into(), |p| p.to_string());
        self.target.kubectl(&format!(
            "exec {} -- py-spy dump --pid {pid}",
            self.target.pod(&p.place())
        ))
    }

    /// It has ended, or its container has begun another life since its last line.
    fn is_over(&self, p: &ProcessView) -> bool {
        let later = || {
            let key = PodKey {
                namespace: p.namespace.clone()?,
                name: p.pod.clone()?,
            };
            let pod = self.model.pods.get(&key)?;
            let name = p.container.as_ref()?;
            let container = pod.containers.iter().find(|c| c.name == *name)?;
            match (&container.state, p.last_at) {
                (ContainerState::Running { since: Some(since) }, Some(last)) if last.exact => {
                    Some(*since > last.ns)
                }
                _ => None,
            }
        };
        p.alive == Some(false) || later() == Some(true)
    }

    /// Index of the workload of a process.
    pub fn workload_of(&self, unit: u32) -> usize {
        self.workload.get(unit as usize).copied().unwrap_or(0)
    }

    /// What the workload is called in keys.
    pub fn workload_name(&self, unit: u32) -> String {
        let at = self.workload_of(unit);
        let name = self.scene.workloads.get(at).and_then(|w| w.name.clone());
        name.unwrap_or_else(|| match at {
            0 => "job".into(),
            n => format!("job{}", n + 1),
        })
    }

    /// Who some processes are; lists are sorted and without repeats.
    pub fn who(&self, units: &BTreeSet<u32>) -> Who {
        let mut who = Who::default();
        for u in units {
            let Some(p) = self.process(*u) else { continue };
            who.places.push(self.place(*u));
            who.hosts.extend(p.host.clone().or_else(|| p.pod.clone()));
            who.pods.extend(p.pod.clone());
            who.ranks.extend(p.global_rank);
        }
        for list in [&mut who.places, &mut who.hosts, &mut who.pods] {
            list.sort();
            list.dedup();
        }
        who.ranks.sort_unstable();
        who.ranks.dedup();
        who
    }

    /// A cluster feeds the model, or an embedded one.
    pub fn live(&self) -> bool {
        self.model.session.feed != Feed::Files
    }

    /// The line that proves a variable of a process, with its value.
    pub fn env(&self, unit: u32, name: &str) -> Option<(&'a str, LineRef)> {
        let u = self.joined.units.get(unit as usize)?;
        let nccl = u.procs.iter().find_map(|p| {
            let p = self.model.procs.list.get(*p as usize)?;
            let (value, q) = p.env.get(name)?;
            Some((value.as_str(), line_ref(p.source, q)))
        });
        nccl.or_else(|| {
            u.speakers.iter().find_map(|s| {
                let s = self.model.speakers.list.get(*s as usize)?;
                let (value, q) = s.env.get(name)?;
                Some((value.as_str(), line_ref(s.source, q)))
            })
        })
    }
}
