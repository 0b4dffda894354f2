//! An engine that waits for its workers, by its own lines: calls that nobody answers, a queue that does not move.
//!
//! Lines alone prove no hang, and whom the others wait for they don't tell: samples do, and where there are some
//! [`super::silence`] decides.

use std::collections::{BTreeMap, BTreeSet};

use super::super::View;
use super::super::trouble::{Notice, Told};
use crate::model::speakers::Speaker;
use crate::parse::Nanos;
use crate::parse::vllm::FaultKind;
use crate::rules::comms::line_ref;
use crate::rules::scene::{
    Class, Confidence, Evidence, Finding, LineRef, ProcessView, Severity, Stage,
};

/// Statistics lines in a row with requests running and not one token made.
pub(super) const IDLE_STATS: u32 = 3;
const SEC: Nanos = 1_000_000_000;

/// A line by which something failed by itself, and not because it waited.
fn is_failure(n: &Notice<'_>) -> bool {
    n.is_root()
        || matches!(n.told, Told::Torch(_))
        || n.fault().is_some_and(|f| {
            matches!(
                f.kind,
                FaultKind::WorkerDied { .. } | FaultKind::WorkerStart | FaultKind::RayDied
            )
        })
}

/// Both findings, per workload.
pub(super) fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    // Logs name GPUs, too.
    if view.scene.gpus.iter().any(|g| g.at.is_some()) {
        return;
    }
    let of: BTreeMap<usize, Vec<&Speaker>> = by_workload(view);
    let unanswered = |n: &Notice<'_>| {
        n.fault()
            .is_some_and(|f| matches!(f.kind, FaultKind::RpcTimeout { .. }))
    };
    let waits = |s: &&Speaker| s.shm_waits.is_some();
    for (at, w) in view.scene.workloads.iter().enumerate() {
        let speakers = of.get(&at).map_or(&[][..], Vec::as_slice);
        let mine = |n: &&Notice<'_>| view.workload_of(n.unit) == at;
        let told = speakers.iter().any(waits) || notices.iter().filter(mine).any(unanswered);
        if !told || notices.iter().filter(mine).any(is_failure) {
            continue;
        }
        let ranks: Vec<&ProcessView> = w
            .processes
            .iter()
            .filter_map(|u| view.process(*u))
            .filter(|p| p.global_rank.is_some())
            .collect();
        let found = no_answer(notices.iter().filter(mine), speakers)
            .or_else(|| no_token(speakers))
            .and_then(|told| told.finding(view, &ranks));
        out.extend(found.or_else(|| stopped_load(view, &w.processes, speakers)));
    }
}

/// Who speaks for which workload.
fn by_workload<'a>(view: &View<'a>) -> BTreeMap<usize, Vec<&'a Speaker>> {
    let mut out: BTreeMap<usize, Vec<&Speaker>> = BTreeMap::new();
    for (i, s) in (0u32..).zip(&view.model.speakers.list) {
        if let Some(unit) = view.speaker.get(&i) {
            out.entry(view.workload_of(*unit)).or_default().push(s);
        }
    }
    out
}

/// What says that a server makes no tokens.
struct Mute<'a> {
    /// The method that timed out, and where.
    call: Option<(String, LineRef)>,
    /// Who prints statistics in which nothing is made.
    idle: Option<&'a Speaker>,
    /// The newest wait for the queue.
    wait: Option<LineRef>,
}

/// Statistics that show requests and no token, and the wait of the engine among them.
fn idle<'a>(speakers: &[&'a Speaker]) -> Option<&'a Speaker> {
    let mut all = speakers.iter().copied();
    all.find(|s| s.idle_stats >= IDLE_STATS && s.idle_since.is_some())
}

fn waited(speakers: &[&Speaker], source: u32, after: u64) -> Option<LineRef> {
    speakers
        .iter()
        .filter(|s| s.source.0 == source)
        .filter_map(|s| Some(line_ref(s.source, &s.shm_waits.as_ref()?.2)))
        .find(|l| l.number > after)
}

/// A call to the workers timed out, and no token came after it.
fn no_answer<'n, 'a: 'n>(
    notices: impl Iterator<Item = &'n Notice<'a>>,
    speakers: &[&'a Speaker],
) -> Option<Mute<'a>> {
    let goes_on = |line: &LineRef| {
        speakers.iter().any(|s| {
            let made = s
                .stats
                .as_ref()
                .is_some_and(|(stats, q)| stats.generation_tps > 0.0 && q.line > line.number);
            s.source.0 == line.source && made
        })
    };
    let (method, line) = notices
        .filter_map(|n| match &n.fault()?.kind {
            FaultKind::RpcTimeout { method } => Some((method.clone(), n.line.clone())),
            _ => None,
        })
        .find(|(_, line)| !goes_on(line))?;
    let idle = idle(speakers).filter(|s| s.source.0 == line.source);
    let after = idle.and_then(|s| Some(s.idle_since.as_ref()?.line));
    Some(Mute {
        wait: waited(speakers, line.source, after.unwrap_or(0)),
        idle,
        call: Some((method, line)),
    })
}

/// The same before the call times out: the engine says that it waits while no token is made.
fn no_token<'a>(speakers: &[&'a Speaker]) -> Option<Mute<'a>> {
    let idle = idle(speakers)?;
    let wait = waited(speakers, idle.source.0, idle.idle_since.as_ref()?.line)?;
    Some(Mute {
        call: None,
        idle: Some(idle),
        wait: Some(wait),
    })
}

impl Mute<'_> {
    fn finding(self, view: &View<'_>, ranks: &[&ProcessView]) -> Option<Finding> {
        let since = self
            .idle
            .and_then(|s| Some(line_ref(s.source, s.idle_since.as_ref()?)));
        let newest = self
            .idle
            .and_then(|s| Some(line_ref(s.source, &s.stats.as_ref()?.1)));
        let called = self.call.as_ref().map(|(_, line)| line.clone());
        let mut lines = since
            .into_iter()
            .chain(newest)
            .chain(self.wait)
            .chain(called);
        let first = lines.next()?;
        let place = view.scene.sources.get(first.source as usize);
        let place = place.map_or_else(|| "job".to_owned(), |s| s.name.clone());
        let severity = if self.call.is_some() {
            Severity::Error
        } else {
            Severity::Warning
        };
        let since = first.at;
        let proof = Evidence::Line(first);
        let mut f = Finding::new("vllm.hung", &place, severity, Class::Application, proof);
        f.since = since;
        for l in lines {
            f.prove(Evidence::Line(l));
        }
        f.confidence = Confidence::Possible;
        let running = self.idle.and_then(|s| Some(s.stats.as_ref()?.0.running));
        let mute = running.map(|n| format!("no token while {n} requests run"));
        f.title = match (&self.call, mute) {
            (Some((method, _)), Some(mute)) => {
                format!("the workers did not answer {method} in time: {mute}")
            }
            (Some((method, _)), None) => format!("the workers did not answer {method} in time"),
            (None, mute) => format!(
                "{}: the engine waits for its workers",
                mute.unwrap_or_default()
            ),
        };
        f.cause = "The engine hands its workers one step after the other and gets nothing back. At least one of them hangs, mostly inside a collective whose counterpart never came; these lines do not tell which.".into();
        let mut places = BTreeSet::new();
        for p in ranks.iter().filter(|p| places.insert(p.place())).take(4) {
            f.fix.push(view.stack(p));
        }
        f.fix.push(
            view.target
                .env("TORCH_NCCL_TRACE_BUFFER_SIZE", Some("2000"))
                + "   # the next hang names the call of every rank",
        );
        f.fix
            .push("restart all pods of the group together once the stacks are saved".into());
        Some(f)
    }
}

/// Shards that stand still for longer than a load may, while the engine says that it waits.
fn stopped_load(view: &View<'_>, units: &[u32], speakers: &[&Speaker]) -> Option<Finding> {
    let ranks = || units.iter().filter_map(|u| Some((*u, view.process(*u)?)));
    let loading = |p: &ProcessView| matches!(p.stage, Some(Stage::Download | Stage::Weights));
    let (unit, p, still) = ranks()
        .filter(|(_, p)| loading(p))
        .find_map(|(u, p)| Some((u, p, p.still.filter(|s| !s.waits)?)))?;
    let wait = speakers.iter().find_map(|s| {
        let (_, _, q) = s.shm_waits.as_ref()?;
        let at = q.at.filter(|a| a.exact == still.since.exact)?;
        let quiet = at.ns - still.since.ns;
        (quiet > Nanos::from(still.limit_s) * SEC).then(|| (line_ref(s.source, q), quiet / SEC))
    });
    let (wait, quiet) = wait?;
    let (bar, line) = speakers
        .iter()
        .filter_map(|s| Some((s, s.progress.as_ref()?)))
        .find(|(s, (bar, _))| bar.done < bar.total && view.unit_of_speaker(s) == Some(unit))
        .map(|(s, (bar, q))| (bar, line_ref(s.source, q)))?;
    let mut f = Finding::new(
        "vllm.loading-stalled",
        &p.place(),
        Severity::Warning,
        Class::Platform,
        Evidence::Line(line),
    );
    f.prove(Evidence::Line(wait));
    f.since = Some(still.since);
    f.confidence = Confidence::Possible;
    let who = view.who(&BTreeSet::from([unit]));
    (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
    f.title = format!(
        "weights stopped at {} of {} {}: nothing more for {} min",
        bar.done,
        bar.total,
        bar.counted.unit(),
        quiet / 60
    );
    f.cause = "The bar stands still and the engine says that its workers don't answer. The storage does not deliver, or a rank hangs; without samples of the GPUs and of what is read, lines can't tell which.".into();
    f.fix = vec![
        view.stack(p),
        "on the node: dmesg | grep -iE 'nfs|ceph|lustre|not responding'".into(),
    ];
    Some(f)
}
