//! How far each rank's start-up came, from what the vLLM processes print and what NCCL proves beside it.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::comms::{Unit, line_ref};
use super::layout::Sizes;
use super::probes::{Member, Members};
use super::scene::{NcclStep, ProcessView, Progress, Scene, Stage};
use crate::model::Model;
use crate::model::edges::Quote;
use crate::model::event::SourceId;
use crate::model::pods::command;
use crate::model::speakers::Speaker;
use crate::parse::At;
use crate::parse::vllm::{self, ProcKind, VllmFact, host_of, release};

/// Fills what the speakers of a unit say about their process.
pub fn fill(view: &mut ProcessView, model: &Model, unit: &Unit) {
    let speakers = || {
        unit.speakers
            .iter()
            .filter_map(|s| model.speakers.list.get(*s as usize))
    };
    let Some(first) = speakers().next() else {
        return;
    };
    view.source = first.source.0;
    view.sources = speakers()
        .map(|s| s.source.0)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    view.first_line = first.first.line;
    view.incarnation = first.incarnation;
    view.pid = first.pid;
    for s in speakers() {
        rank(view, s);
        view.ip = view.ip.take().or_else(|| address(model, s));
        view.vllm_version = view.vllm_version.take().or_else(|| s.version.clone());
        view.last_at = view.last_at.max(s.last_at);
        if let Some((stage, quote)) = &s.stage
            && view.stage.is_none_or(|have| have < *stage)
        {
            view.stage = Some(*stage);
            view.stage_since = quote.at;
            view.progress = s.progress.as_ref().map(|(p, q)| progress(s, p, q));
        }
        if let Some((_, quote)) = s.faults.iter().find(|(f, _)| !f.is_echo())
            && view.first_error.is_none()
        {
            view.first_error = Some(line_ref(s.source, quote));
        }
        if s.shutdown.is_some() || s.ended.is_some() {
            view.alive = Some(false);
        }
        for (name, (value, _)) in &s.env {
            if !view.env.iter().any(|(have, _)| have == name) {
                view.env.push((name.clone(), value.clone()));
            }
        }
    }
}

/// Where Ray runs a worker: the address in front of its lines. One beside the driver has none: the ranks meet at
/// the driver's address, which is all that names that node where no pod does.
fn address(model: &Model, s: &Speaker) -> Option<String> {
    let meeting = || {
        let of_pod = model.sources.get(s.source)?.info.container.is_some();
        let actor = s.label.as_ref()?.0.starts_with("RayWorker") && !of_pod;
        let host = host_of(&s.rank_start.as_ref()?.0.init)?;
        let number = host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback());
        (actor && number).then(|| host.to_owned())
    };
    s.ip.clone().or_else(meeting)
}

/// A bar with what it says about the time: by its own clock, else by the stamps of its lines.
fn progress(s: &Speaker, p: &vllm::Progress, q: &Quote) -> Progress {
    let stamped = || {
        let (began, now) = (s.stages.get(&s.stage.as_ref()?.0)?.at?, q.at?);
        (began.exact == now.exact && now.ns > began.ns).then(|| (now.ns - began.ns) as f64 / 1e9)
    };
    let spent = p
        .elapsed_s
        .filter(|e| *e > 0)
        .map(f64::from)
        .or_else(stamped);
    let rate = spent
        .filter(|_| p.done > 0)
        .map(|s| p.done as f64 / s)
        .or(p.rate);
    let left = p.total.saturating_sub(p.done) as f64;
    // Casting saturates.
    let left_s = rate.filter(|r| *r > 0.0).map(|r| (left / r).ceil() as u64);
    Progress {
        done: p.done,
        total: p.total,
        unit: p.counted.unit(),
        rate,
        left_s,
    }
}

fn rank(view: &mut ProcessView, s: &Speaker) {
    if let Some((label, l)) = &s.label {
        view.vllm_label.get_or_insert_with(|| label.clone());
        if l.kind == ProcKind::Worker {
            view.dp = view.dp.or(l.dp);
            view.pp = view.pp.or(l.pp);
            view.tp = view.tp.or(l.tp);
            view.ep = view.ep.or(l.ep);
            view.pcp = view.pcp.or(l.pcp);
            view.dcp = view.dcp.or(l.dcp);
            view.global_rank = view.global_rank.or(l.index);
        }
    }
    if let Some((start, _)) = &s.rank_start {
        view.global_rank = start.rank.or(view.global_rank);
        view.local_rank = start.local_rank;
    }
    if let Some((r, _)) = &s.ranks {
        view.global_rank = Some(r.rank);
        (view.dp, view.pp, view.tp) = (Some(r.dp), Some(r.pp), Some(r.tp));
        view.ep = r.ep.or(view.ep);
        view.pcp = r.pcp.or(view.pcp);
    }
}

/// Sizes of the torch world: the engine's configuration, checked against the world that the ranks print; where no
/// line says them, the command lines of the pods.
#[must_use]
pub fn sizes(model: &Model, members: &Members<'_>) -> Option<Sizes> {
    let list = &model.speakers.list;
    let whole = |n: u64| u32::try_from(n).ok().filter(|n| *n > 0);
    // Few of many print any.
    let settled: Vec<&Speaker> = list
        .iter()
        .filter(|s| !s.settings.pairs.is_empty())
        .collect();
    let logged = |name: &str| {
        settled
            .iter()
            .filter_map(|s| s.settings.num(name))
            .max()
            .and_then(whole)
    };
    let told = |name: &str| {
        members
            .list
            .iter()
            .filter_map(|m| m.command.settings.num(name))
            .max()
            .and_then(whole)
    };
    let setting = |name: &str| logged(name).or_else(|| told(name));
    let assigned = |part: fn(&crate::parse::vllm::Ranks) -> u32| {
        list.iter()
            .filter_map(|s| s.ranks.as_ref())
            .map(|(r, _)| part(r).saturating_add(1))
            .max()
    };
    let world = world(model);
    let tp = setting("tensor_parallel_size").or_else(|| assigned(|r| r.tp));
    let pp = setting("pipeline_parallel_size").or_else(|| assigned(|r| r.pp));
    let pcp = setting("prefill_context_parallel_size").unwrap_or(1);
    let dp = setting("data_parallel_size")
        .or_else(|| assigned(|r| r.dp))
        .or_else(|| members.list.iter().find_map(dp_by_env))
        .unwrap_or(1);
    let ep = list.iter().any(|s| {
        s.ranks.as_ref().is_some_and(|(r, _)| r.ep.is_some())
            || s.settings.flag("enable_expert_parallel") == Some(true)
    }) || members
        .list
        .iter()
        .any(|m| m.command.settings.flag("enable_expert_parallel") == Some(true));
    // A command line that is whole has the defaults for what it does not name.
    let defaults = members
        .list
        .iter()
        .any(|m| m.command.vllm && left_open(m).is_none());
    let known = tp.is_some() || pp.is_some() || world.is_some() || defaults;
    // What a file or a shell may say has no default, until a line tells what was made of it.
    let open = members
        .list
        .iter()
        .any(|m| m.command.vllm && left_open(m).is_some());
    let spoken = world.is_some() || logged("tensor_parallel_size").is_some();
    if !known || (open && !spoken) {
        return None;
    }
    let times = |n: u32| n.saturating_mul(pcp).saturating_mul(dp).max(1);
    let (tp, pp) = match (tp, pp, world) {
        (Some(tp), Some(pp), _) => (tp, pp),
        // What is not said has its default, 1, unless the world says otherwise.
        (Some(tp), None, Some(w)) if w.is_multiple_of(times(tp)) => (tp, (w / times(tp)).max(1)),
        (None, Some(pp), Some(w)) if w.is_multiple_of(times(pp)) => ((w / times(pp)).max(1), pp),
        (tp, pp, _) => (tp.unwrap_or(1), pp.unwrap_or(1)),
    };
    // It cuts tensor-parallel groups and has no ranks of its own.
    let dcp = setting("decode_context_parallel_size")
        .filter(|n| tp.is_multiple_of(*n))
        .unwrap_or(1);
    let joint = Sizes {
        tp,
        pcp,
        pp,
        dp,
        dcp,
        ep,
    };
    // Dense models from v0.14 run a world of their own per data-parallel rank.
    let alone = Sizes { dp: 1, ..joint };
    match world {
        Some(w) if w == joint.world() => Some(joint),
        Some(w) if w == alone.world() => Some(alone),
        Some(_) => None,
        None => Some(joint),
    }
}

/// The settings that cut a job.
const CUT: [&str; 3] = [
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
];

/// The file that a command line leaves what it does not say to, unless it says all that cuts the job.
fn file(settings: &vllm::Settings) -> Option<&str> {
    let whole = CUT.into_iter().all(|name| settings.num(name).is_some());
    settings.get("config").filter(|_| !whole)
}

/// Why the sizes can't be told from a command line: what stands in a file or is left to a shell is not known here,
/// and has no default that could be taken for it.
#[must_use]
pub fn left_open(m: &Member<'_>) -> Option<String> {
    let pod = &m.pod.name;
    if command::is_silent(m.container) {
        return Some(format!(
            "{pod}: the whole command line is in its image, {}, which nothing here has read",
            m.container.image
        ));
    }
    if let Some(file) = file(&m.command.settings).filter(|_| m.command.vllm) {
        match &m.file {
            None => {
                return Some(format!(
                    "{pod}: the sizes are in {file}, which --config names and nothing here has read"
                ));
            }
            Some(read) => {
                if let Some(why) = &read.open {
                    return Some(format!(
                        "{pod}: the sizes are in {file}, which --config names: {why}"
                    ));
                }
            }
        }
    }
    let left = |name: &&str| {
        m.command
            .settings
            .get(name)
            .is_some_and(|v| !vllm::is_known(v))
    };
    let name = CUT.into_iter().find(|name| left(name))?;
    Some(format!(
        "{pod}: --{}={} is left to a shell",
        name.replace('_', "-"),
        m.command.settings.get(name)?
    ))
}

/// Data parallelism of a script that starts its ranks by environment.
fn dp_by_env(m: &Member<'_>) -> Option<u32> {
    let value = command::variable(m.pod, m.container, "VLLM_DP_SIZE")?;
    value.parse().ok().filter(|n| *n > 0)
}

/// World size that ranks print (the largest, should they disagree).
#[must_use]
pub fn world(model: &Model) -> Option<u32> {
    let start = model
        .speakers
        .list
        .iter()
        .filter_map(|s| s.rank_start.as_ref())
        .filter_map(|(r, _)| r.world);
    let assigned = model
        .speakers
        .list
        .iter()
        .filter_map(|s| s.ranks.as_ref())
        .map(|(r, _)| r.world);
    start.chain(assigned).max()
}

/// Processes that belong to one engine by what they print: those of one source that speak as vLLM, and
/// ranks that meet at one address.
pub fn bonds(model: &Model, units: &[Unit], join: &mut dyn FnMut(usize, usize)) {
    let mut by_source: BTreeMap<u32, usize> = BTreeMap::new();
    let mut by_meeting: BTreeMap<&str, usize> = BTreeMap::new();
    for (u, unit) in units.iter().enumerate() {
        for s in unit
            .speakers
            .iter()
            .filter_map(|s| model.speakers.list.get(*s as usize))
        {
            join(*by_source.entry(s.source.0).or_insert(u), u);
            // A node without a server names the address where its ranks will meet the others.
            if let Some((head, _)) = &s.head
                && !is_loopback(head)
            {
                join(*by_meeting.entry(met_at(head)).or_insert(u), u);
            }
            if let Some((start, _)) = &s.rank_start
                && !is_loopback(&start.init)
            {
                join(*by_meeting.entry(met_at(&start.init)).or_insert(u), u);
            }
        }
    }
}

/// The address alone.
fn met_at(init: &str) -> &str {
    init.strip_prefix("tcp://").unwrap_or(init)
}

/// Whether ranks that meet there are all in one container, or the place is no address.
fn is_loopback(init: &str) -> bool {
    host_of(init).is_none_or(|h| h.starts_with("127.") || matches!(h, "localhost" | "::1"))
}

/// What the vLLM processes of a unit are.
fn speakers<'a>(model: &'a Model, unit: &Unit) -> Vec<&'a Speaker> {
    let list = unit.speakers.iter();
    list.filter_map(|s| model.speakers.list.get(*s as usize))
        .collect()
}

/// First stamp of what NCCL printed in a process.
fn began(model: &Model, unit: &Unit) -> Option<At> {
    unit.procs
        .iter()
        .filter_map(|p| model.procs.list.get(*p as usize)?.first_at)
        .min_by_key(|a| a.ns)
}

/// What a process of vLLM is that is no rank: by its label, else by having none.
fn part(model: &Model, unit: &Unit) -> Option<&'static str> {
    let mut speakers = unit
        .speakers
        .iter()
        .filter_map(|s| model.speakers.list.get(*s as usize))
        .peekable();
    speakers.peek()?;
    Some(match speakers.find_map(Speaker::kind) {
        Some(ProcKind::ApiServer) => "API server",
        Some(ProcKind::EngineCore) => "engine core",
        Some(ProcKind::Coordinator) => "DP coordinator",
        Some(ProcKind::Ray) => "Ray",
        Some(ProcKind::Worker) => return None,
        // Older versions label only the workers: who starts them speaks without a prefix.
        None => "parent process",
    })
}

/// Worlds whose ranks have met: gloo's mesh comes before the first communicator and takes every rank, so that one
/// who makes communicators proves that all of its world have left the rendezvous, whoever of them may print it.
#[derive(Default)]
struct Met<'a> {
    /// The newest proof by world.
    by_time: BTreeMap<(&'a str, u32), At>,
    /// The last line of a proof by world and source: for logs without stamps.
    by_line: BTreeMap<(&'a str, u32, SourceId), (u64, Option<At>)>,
}

impl<'a> Met<'a> {
    fn of(processes: &[ProcessView], units: &[Unit], model: &'a Model) -> Self {
        let mut out = Self::default();
        for (p, unit) in processes.iter().zip(units) {
            if p.alive == Some(false) {
                continue;
            }
            for s in speakers(model, unit) {
                let proof = s.stages.range(Stage::NcclInit..).next();
                let (Some(world), Some((_, q))) = (world_of(s), proof) else {
                    continue;
                };
                if let Some(at) = q.at.filter(|_| !is_loopback(world.0)) {
                    let newest = out.by_time.entry(world).or_insert(at);
                    if (newest.exact, newest.ns) < (at.exact, at.ns) {
                        *newest = at;
                    }
                }
                let last = out
                    .by_line
                    .entry((world.0, world.1, s.source))
                    .or_insert((q.line, q.at));
                if last.0 < q.line {
                    *last = (q.line, q.at);
                }
            }
        }
        out
    }

    /// Since when a rank is known to be past the rendezvous of its world.
    fn since(&self, s: &'a Speaker) -> Option<Option<At>> {
        let (name, size) = world_of(s)?;
        let (_, began) = s.rank_start.as_ref()?;
        if let Some((line, at)) = self.by_line.get(&(name, size, s.source))
            && *line > began.line
        {
            return Some(*at);
        }
        let (proof, began) = (self.by_time.get(&(name, size))?, began.at?);
        // What came before it began is of an earlier life of the world.
        (proof.exact == began.exact && proof.ns >= began.ns).then_some(Some(*proof))
    }
}

/// The world that a rank entered: where it meets and how many it is; nothing where the place names no one world.
fn world_of(s: &Speaker) -> Option<(&str, u32)> {
    let (start, _) = s.rank_start.as_ref()?;
    host_of(&start.init)?;
    Some((start.init.as_str(), start.world?))
}

/// What proves that engines are ready. What a container said before it was started again proves nothing of what is
/// there now.
struct Ready<'a> {
    /// An HTTP server that answers: every engine behind it is ready.
    http: Option<&'a Quote>,
    /// Engines that say it.
    engines: Vec<(&'a Speaker, &'a Quote)>,
    /// As many as there are.
    all: bool,
}

impl<'a> Ready<'a> {
    /// Of those that were replaced, or of the others.
    fn of(scene: &Scene, model: &'a Model, units: &[Unit], replaced: bool) -> Self {
        let those = scene.processes.iter().zip(units);
        let those = those.filter(|(p, _)| p.replaced == replaced);
        let all = those.flat_map(|(_, unit)| &unit.speakers);
        // In the order in which they were first heard.
        let all: BTreeSet<u32> = all.copied().collect();
        let all = || {
            let speaker = |s: &u32| model.speakers.list.get(*s as usize);
            all.iter().filter_map(speaker)
        };
        let engines: Vec<_> = all()
            .filter_map(|s| Some((s, s.engine_ready.as_ref()?)))
            .collect();
        let wanted = all()
            .filter_map(|s| s.settings.num("data_parallel_size"))
            .max()
            .map_or(1, |n| usize::try_from(n).unwrap_or(1));
        Self {
            http: all().find_map(|s| s.http_up.as_ref()),
            all: engines.len() >= wanted,
            engines,
        }
    }

    /// The line that proves it of the engine of a rank.
    fn proof(&self, p: &ProcessView) -> Option<&'a Quote> {
        let same_engine = |s: &Speaker| {
            s.source.0 == p.source
                && (s.label.as_ref())
                    .and_then(|(_, l)| l.dp)
                    .is_none_or(|d| p.dp.is_none_or(|mine| mine == d))
        };
        let mut engines = self.engines.iter();
        self.http.or_else(|| {
            let one = engines.find(|(s, _)| self.all || same_engine(s));
            one.map(|(_, q)| *q)
        })
    }
}

/// After the communicators are known: what NCCL and the engines prove about ranks that print nothing themselves.
pub fn finish(scene: &mut Scene, model: &Model, units: &[Unit]) {
    let present = Ready::of(scene, model, units, false);
    let past = Ready::of(scene, model, units, true);
    // Up to v0.11.0 every rank prints its stages; later, and where the version is not known, a rank that
    // prints none is not behind (vllm.md 1.6).
    let version = model
        .speakers
        .list
        .iter()
        .filter_map(|s| release(s.version.as_deref()?))
        .max();
    let every_rank_speaks = version.is_some_and(|v| v <= (0, 11, 0));
    // Ray's driver shows one of many lines that differ only in their numbers.
    let by_ray = |s: &Speaker| {
        let label = s.label.as_ref().map(|(text, _)| text.as_str());
        s.ip.is_some() || label.is_some_and(|l| l.starts_with("RayWorker"))
    };
    let all_say_their_place =
        VllmFact::all_say_their_place(version) && !model.speakers.list.iter().any(by_ray);
    let furthest = scene.processes.iter().filter_map(|p| p.stage).max();
    let met = Met::of(&scene.processes, units, model);
    for (p, unit) in scene.processes.iter_mut().zip(units) {
        let own = speakers(model, unit);
        let speaks = own.iter().any(|s| s.is_rank());
        let is_rank = speaks
            || (p.stage.is_none() && p.nccl_step.is_some() && !model.speakers.list.is_empty());
        if !is_rank {
            p.part = part(model, unit);
            continue;
        }
        if p.nccl_step.is_some() && p.stage.is_none_or(|s| s < Stage::NcclInit) {
            p.stage = Some(Stage::NcclInit);
            p.stage_since = began(model, unit);
        }
        // Where every rank says when it begins NCCL, one that has not said it has not.
        if !every_rank_speaks
            && p.stage.is_some_and(|s| s < Stage::NcclInit)
            && let Some(since) = own.iter().find_map(|s| met.since(s))
        {
            p.stage = Some(Stage::NcclInit);
            p.stage_since = since;
        }
        let ready = if p.replaced { &past } else { &present };
        let proof = ready.proof(p);
        if let Some(q) = proof
            && p.stage != Some(Stage::Serving)
        {
            p.stage = Some(Stage::Serving);
            // The server's own line has no stamp; its engine was ready a moment before.
            p.stage_since =
                q.at.or_else(|| ready.engines.iter().find_map(|(_, q)| q.at));
            p.progress = None;
        }
        let silent = own
            .iter()
            .any(|s| s.rank_start.is_some() && s.ranks.is_none());
        // That a rank has not said where it stands means something where all of its version do.
        let overdue = all_say_their_place && silent;
        p.quiet = !(every_rank_speaks || overdue)
            && p.stage == Some(Stage::NcclInit)
            && p.nccl_step.is_none_or(|s| s == NcclStep::Completion)
            && furthest > Some(Stage::NcclInit);
    }
}
