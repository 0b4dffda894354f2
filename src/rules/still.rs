//! Who gets on and who stands still: the stall rules (`reference/vllm.md` section 2), the warm-up behind NCCL's
//! init, and the time that is left.
//!
//! A process that stands still is a suspicion and no finding: lines may be held back, and from v0.11.1 on most
//! ranks print nothing between NCCL and serving. What is proven beside it (samples) makes the findings.

use std::collections::{BTreeMap, BTreeSet};

use super::comms::Unit;
use super::scene::{
    CommState, Finding, NcclStep, ProcessView, Scene, Severity, Silence, Stage, Still,
};
use crate::model::Model;
use crate::model::event::Feed;
use crate::model::limits::Limits;
use crate::model::speakers::Speaker;
use crate::parse::vllm::{Edge, Phase, VllmFact, release};
use crate::parse::{At, Nanos};

const SEC: Nanos = 1_000_000_000;

/// What a process waits for, by the name that its limit has; nothing for a stage that may be silent for ever.
#[must_use]
pub fn wait(stage: Stage, last: Option<(Phase, Edge)>) -> Option<&'static str> {
    Some(match (stage, last) {
        (Stage::Serving, _) => return None,
        (Stage::Started, Some((Phase::Ray, _))) => "ray",
        (Stage::Started, _) => "started",
        (Stage::Config, _) => "config",
        (Stage::DistributedInit, _) => "distributed-init",
        (Stage::NcclInit, _) => "nccl-init",
        (Stage::Download, _) => "download",
        (Stage::Weights, _) => "weights",
        (Stage::Compile, Some((Phase::Compile, e))) if e != Edge::End => "compile",
        // A compile that is over is followed by the profile.
        (Stage::Profile | Stage::Compile, _) => "profile",
        (Stage::Graphs, _) => "graphs",
    })
}

/// Where a rank stands, for comparison with others: what is less is behind.
fn place(p: &ProcessView) -> (Option<Stage>, Option<NcclStep>) {
    let step = match p.stage {
        None | Some(Stage::NcclInit) => p.nccl_open.or(p.nccl_step),
        _ => None,
    };
    (p.stage, step)
}

/// Whose stand matters: ranks that are alive, not yet there, and would speak if they got on.
fn heard(p: &ProcessView) -> bool {
    let is_rank = p.global_rank.is_some() || p.nccl_step.is_some();
    is_rank && !p.unheard() && p.alive != Some(false)
}

/// Findings that single out whom the others wait for.
const ACCUSE: &[&str] = &["nccl.rank-stuck", "nccl.watchdog-timeout", "vllm.hung"];

/// The finding whose proof is the memory of one GPU beside its group's: without that it singles nobody out.
const STALLED: &str = "vllm.loading-stalled";

/// Marks the processes that a finding proves to hold the others up. The others of their workload stand still
/// because they wait for these, whatever their own last sign is.
pub fn accuse(scene: &mut Scene) {
    let mut accused: BTreeMap<u32, &'static str> = BTreeMap::new();
    let proves =
        |f: &&Finding| f.id == STALLED || f.severity == Severity::Error && ACCUSE.contains(&f.id);
    let behind: BTreeMap<u32, (u64, u64)> = scene
        .gpus
        .iter()
        .filter_map(|g| Some((g.process?, g.behind()?)))
        .collect();
    for f in scene.findings.iter().filter(proves) {
        let comm = f.communicator.as_ref();
        let comm = comm.and_then(|key| scene.communicators.iter().find(|c| &c.key == key));
        let (mut named, of): (Vec<u32>, usize) = match comm {
            Some(c) => {
                let members = c.ranks.iter().filter(|m| f.ranks.contains(&m.rank));
                (members.map(|m| m.process).collect(), c.ranks.len())
            }
            None => {
                let ranks = || {
                    (0u32..)
                        .zip(&scene.processes)
                        .filter_map(|(i, p)| Some((i, p.global_rank?)))
                };
                let named = ranks().filter(|(_, r)| f.ranks.contains(r)).map(|(i, _)| i);
                (named.collect(), ranks().count())
            }
        };
        if f.id == STALLED {
            named.retain(|process| behind.contains_key(process));
        }
        // Who names most of them singles nobody out.
        if named.len() * 2 <= of {
            for process in named {
                accused.entry(process).or_insert(f.id);
            }
        }
    }
    for w in &scene.workloads {
        if !w.processes.iter().any(|i| accused.contains_key(i)) {
            continue;
        }
        for i in &w.processes {
            let Some(p) = scene.processes.get_mut(*i as usize) else {
                continue;
            };
            p.accused = accused.get(i).copied();
            p.held = behind
                .get(i)
                .copied()
                .filter(|_| p.accused == Some(STALLED));
            if let (None, Some(still)) = (p.accused, p.still.as_mut()) {
                still.waits = true;
            }
        }
        let stalled = |i: &u32| accused.get(i) == Some(&STALLED);
        if w.processes.iter().any(stalled) {
            for g in &mut scene.gpus {
                let here = g.process.filter(|i| w.processes.contains(i));
                g.waits = here.is_some_and(|i| !stalled(&i));
            }
        }
    }
}

/// Marks the ranks that a communicator waits for and no line of NCCL tells of: they stand nowhere, and the others of
/// their workload wait for them.
pub fn miss(scene: &mut Scene) {
    let proves = |f: &&Finding| f.id == "nccl.missing-ranks" && f.severity == Severity::Error;
    let mut absent: BTreeSet<u32> = BTreeSet::new();
    for f in scene.findings.iter().filter(proves) {
        let comm = scene.communicators.iter();
        let mut comm = comm.filter(|c| Some(&c.key) == f.communicator.as_ref());
        // Its own numbers must be those that everybody uses.
        let global = comm.next().is_some_and(|c| {
            c.ranks.iter().all(|m| {
                let p = scene.processes.get(m.process as usize);
                p.is_some_and(|p| p.global_rank == Some(m.rank))
            })
        });
        let silent = (0u32..).zip(&scene.processes).filter(|(_, p)| {
            p.nccl_step.is_none() && p.global_rank.is_some_and(|r| f.ranks.contains(&r))
        });
        absent.extend(silent.filter(|_| global).map(|(i, _)| i));
    }
    for w in &scene.workloads {
        if !w.processes.iter().any(|i| absent.contains(i)) {
            continue;
        }
        for i in &w.processes {
            if let Some(p) = scene.processes.get_mut(*i as usize) {
                p.absent = absent.contains(i) && p.alive != Some(false);
                if let Some(still) = p.still.as_mut().filter(|_| !p.absent) {
                    still.waits = true;
                }
            }
        }
    }
}

/// Seconds for which a cluster may be behind with every fact before its silence is taken for that of the job.
const BEHIND: Nanos = 120 * SEC;

/// Until when the sources are known. The clock goes on while a feed is behind or cut, and what passes so is nobody's
/// silence: GPUs that are sampled would have been sampled. Where nobody samples, silence is all there is.
pub fn known(scene: &Scene, feed: Feed) -> Option<At> {
    let now = scene.now?;
    let sampled = scene
        .gpus
        .iter()
        .filter_map(|g| g.at)
        .max_by_key(|a| key(*a));
    let Some(sampled) = sampled.filter(|_| feed != Feed::Files) else {
        return Some(now);
    };
    let logs = scene.sources.iter().filter_map(|s| s.last_stamp);
    let servers = scene.serving.iter().filter_map(|s| s.at);
    let newest = logs
        .chain(servers)
        .filter(|a| a.exact)
        .fold(sampled, |a, b| if key(b) > key(a) { b } else { a });
    // A cluster whose samples have ended for good says no more than its logs do.
    let ended = now.ns.saturating_sub(newest.ns) > BEHIND;
    let scripted = matches!(feed, Feed::Demo | Feed::Replay);
    Some(if newest.ns > now.ns || ended && !scripted {
        now
    } else {
        newest
    })
}

/// Fills what time makes of the processes: stalls, warm-ups, time left.
pub fn judge(scene: &mut Scene, model: &Model, units: &[Unit]) {
    open_steps(scene);
    for (p, unit) in scene.processes.iter_mut().zip(units) {
        p.warmed_up = warmed_up(p, model, unit);
    }
    let (Some(now), Some(known)) = (scene.now, known(scene, model.session.feed)) else {
        return;
    };
    let signs: Vec<Sign> = scene
        .processes
        .iter()
        .zip(units)
        .map(|(p, unit)| Sign::of(p, model, unit))
        .collect();
    let marks: Vec<(usize, Quiet)> = scene
        .workloads
        .iter()
        .flat_map(|w| workload(&scene.processes, &signs, &w.processes, known, &model.limits))
        .collect();
    for (i, (silence, still)) in marks {
        let Some(p) = scene.processes.get_mut(i) else {
            continue;
        };
        (p.silence, p.still) = (silence, still);
        let Some(bar) = &mut p.progress else {
            continue;
        };
        let age = signs
            .get(i)
            .and_then(|s| s.life)
            .filter(|a| a.exact == now.exact)
            .map(|a| u64::try_from((now.ns - a.ns) / SEC).unwrap_or(0));
        // What stands still has no end in sight.
        bar.left_s = bar
            .left_s
            .filter(|_| still.is_none())
            .map(|left| left.saturating_sub(age.unwrap_or(0)));
    }
}

/// The newest communicator that a process has begun and not finished: how far that one is; and whether the newest
/// of all failed before it was complete.
fn open_steps(scene: &mut Scene) {
    let mut open: BTreeMap<u32, (u64, NcclStep)> = BTreeMap::new();
    for m in scene.communicators.iter().flat_map(|c| &c.ranks) {
        if m.state == CommState::Starting {
            let slot = open.entry(m.process).or_insert((m.line.number, m.step));
            *slot = (*slot).max((m.line.number, m.step));
        }
    }
    let mut newest: BTreeMap<u32, (u64, bool)> = BTreeMap::new();
    for m in scene.communicators.iter().flat_map(|c| &c.ranks) {
        let failed = m.state >= CommState::Revoked && m.step < NcclStep::Completion;
        let slot = newest.entry(m.process).or_insert((m.line.number, failed));
        *slot = (*slot).max((m.line.number, failed));
    }
    for (p, (_, step)) in open {
        if let Some(p) = scene.processes.get_mut(p as usize) {
            p.nccl_open = Some(step);
        }
    }
    for (p, (_, failed)) in newest {
        if let Some(p) = scene.processes.get_mut(p as usize) {
            p.nccl_failed = failed;
        }
    }
}

fn speakers<'a>(model: &'a Model, unit: &'a Unit) -> impl Iterator<Item = &'a Speaker> {
    unit.speakers
        .iter()
        .filter_map(|s| model.speakers.list.get(*s as usize))
}

/// pynccl calls a 1-element all-reduce at once after `ncclCommInitRank`; what the process prints next shows
/// that it came back.
fn warmed_up(p: &ProcessView, model: &Model, unit: &Unit) -> Option<bool> {
    if p.nccl_step != Some(NcclStep::Completion) || p.stage? < Stage::NcclInit {
        return None;
    }
    if p.stage > Some(Stage::NcclInit) {
        return Some(true);
    }
    let tellers = || {
        unit.procs
            .iter()
            .filter_map(|i| model.procs.list.get(*i as usize))
    };
    let done = |c: &crate::model::procs::CommRec| c.complete.as_ref().map(|q| q.line);
    let complete = tellers().flat_map(|t| &t.comms).filter_map(done).max()?;
    // The next communicator is begun after it, and the routes and the assignment are printed.
    let next = tellers()
        .flat_map(|t| &t.comms)
        .filter_map(|c| c.start.as_ref())
        .any(|q| q.line > complete);
    let said = speakers(model, unit).any(|s| {
        let routes = s.routes.iter().map(|(_, q)| q.line);
        let assigned = s.ranks.as_ref().map(|(_, q)| q.line);
        routes.chain(assigned).any(|line| line > complete)
    });
    if next || said {
        return Some(true);
    }
    // Silence speaks only where every rank would print its assignment next.
    let version = speakers(model, unit)
        .chain(&model.speakers.list)
        .find_map(|s| release(s.version.as_deref()?));
    VllmFact::all_say_their_place(version).then_some(false)
}

/// When a process last showed that it gets on.
struct Sign {
    /// Its newest line that is no complaint about waiting.
    life: Option<At>,
    /// What that line told.
    last: Option<(Phase, Edge)>,
    /// When it left the load of weights behind.
    loaded: Option<At>,
}

impl Sign {
    fn of(p: &ProcessView, model: &Model, unit: &Unit) -> Self {
        let mut sign = Self {
            // What Ray counted of everyone it has said, too.
            life: newer(
                p.counted.filter(|c| c.sure).and_then(|c| c.at),
                p.stage_since,
            ),
            last: None,
            loaded: None,
        };
        for s in speakers(model, unit) {
            if let Some((phase, edge, at)) = s.moved {
                sign.last = Some((phase, edge));
                sign.life = newer(at, sign.life);
            }
            let after = s.stages.range(Stage::Profile..).filter_map(|(_, q)| q.at);
            sign.loaded = sign.loaded.or(after.min_by_key(|a| key(*a)));
        }
        for t in &unit.procs {
            let last = model.procs.list.get(*t as usize).and_then(|t| t.last_at);
            sign.life = newer(last, sign.life);
        }
        sign
    }
}

/// Stamps with a zone outrank those without.
fn key(at: At) -> (bool, Nanos) {
    (at.exact, at.ns)
}

/// How long a process has been silent, and whether that is too long.
type Quiet = (Option<Silence>, Option<Still>);

/// The stalls of one workload, by process.
fn workload(
    processes: &[ProcessView],
    signs: &[Sign],
    members: &[u32],
    now: At,
    limits: &Limits,
) -> Vec<(usize, Quiet)> {
    let ranks = || {
        members.iter().filter_map(|i| {
            let i = *i as usize;
            let p = processes.get(i).filter(|p| heard(p))?;
            Some((i, p, signs.get(i)?))
        })
    };
    // Only one rank draws the bar of the weights: as long as it advances, nobody is suspected, and once it is
    // through, the others are measured from there.
    let load = ranks()
        .filter_map(|(_, p, s)| match p.stage? {
            Stage::Download | Stage::Weights => s.life,
            stage if stage > Stage::Weights => s.loaded,
            _ => None,
        })
        .max_by_key(|a| key(*a));
    let behind = ranks().map(|(_, p, _)| place(p)).min();
    ranks()
        .map(|(i, p, sign)| {
            let loading = matches!(p.stage, Some(Stage::Download | Stage::Weights));
            let life = if loading {
                newer(sign.life, load)
            } else {
                sign.life
            };
            let wait = match p.stage {
                Some(stage) => wait(stage, sign.last),
                // Without a line of vLLM only an init that is not over can stall.
                None => (p.nccl_step < Some(NcclStep::Completion)).then_some("nccl-init"),
            };
            let silence = life
                .filter(|since| since.exact == now.exact)
                .zip(wait.map(|w| limits.seconds(w)))
                .map(|(since, limit_s)| Silence { since, limit_s });
            let still = silence.and_then(|s| {
                let quiet = now.ns.saturating_sub(s.since.ns);
                (quiet > Nanos::from(s.limit_s) * SEC).then(|| Still {
                    since: s.since,
                    limit_s: s.limit_s,
                    waits: behind.is_some_and(|b| b < place(p)),
                })
            });
            (i, (silence, still))
        })
        .collect()
}

/// The newer of two stamps, either of which may be absent.
fn newer(a: Option<At>, b: Option<At>) -> Option<At> {
    if a.map(key) >= b.map(key) { a } else { b }
}
