//! Runs that ended inside a log that goes on with another one: how far each came, and why it ended.
//!
//! Each is derived as a scene of its own, from what was said up to where the next run begins. The present scene
//! takes from it what it came to, its processes, and the failure that ended it; as what is past it changes no verdict.

use std::collections::BTreeMap;

use super::comms::line_ref;
use super::findings::global_ranks;
use super::kept::Kept;
use super::scene::{
    Class, Evidence, Finding, Former, LineRef, ProcessView, Scene, Severity, Stage, Verdict,
};
use crate::model::Model;
use crate::model::edges::Quote;
use crate::model::event::SourceId;
use crate::model::lives::Life;

/// Names of logs that a sentence lists.
const NAMED: usize = 2;

/// The lives of one run: each in its source.
type Lives<'a> = Vec<(SourceId, &'a Life)>;

/// Tells of the runs before the present one.
pub(super) fn tell(scene: &mut Scene, model: &Model, kept: &mut Kept) {
    for p in &mut scene.processes {
        p.incarnation += model.lives.before(SourceId(p.source));
    }
    scene.former = kept.former(model, || of(model));
    let place = scene
        .findings
        .iter()
        .position(|f| f.consequence_of.is_some());
    let place = place.unwrap_or(scene.findings.len());
    let told = scene.former.iter().filter_map(|former| former.end.clone());
    scene
        .findings
        .splice(place..place, told.collect::<Vec<_>>());
}

/// The runs that are over, the newest first.
fn of(model: &Model) -> Vec<Former> {
    let mut runs: BTreeMap<u32, Lives<'_>> = BTreeMap::new();
    for (source, ago, life) in model.lives.iter() {
        runs.entry(ago).or_default().push((source, life));
    }
    let runs = runs.into_iter();
    runs.filter_map(|(ago, lives)| former(model, ago, &lives))
        .collect()
}

/// What was known when a run ended.
fn past(model: &Model, lives: &Lives<'_>) -> Model {
    let ends = lives.iter().map(|(source, life)| (*source, life.last_at));
    let mut past = Model {
        limits: model.limits.clone(),
        sources: model.sources.as_of(&ends.collect()),
        ..Model::default()
    };
    for (_, life) in lives {
        past.procs.absorb(life.procs.clone());
        past.speakers.absorb(&life.speakers);
    }
    past
}

fn former(model: &Model, ago: u32, lives: &Lives<'_>) -> Option<Former> {
    let past = past(model, lives);
    let mut scene = Scene::of(&past);
    let (source, life) = lives.first()?;
    let next = line_ref(*source, &life.next);
    let numbers: BTreeMap<u32, u32> = lives.iter().map(|(s, l)| (s.0, l.number)).collect();
    let name = |source: &u32| {
        let path = &scene.sources.get(*source as usize)?.name;
        path.rsplit('/').next().map(str::to_owned)
    };
    let mut names: Vec<String> = numbers.keys().filter_map(name).collect();
    names.dedup();
    let shown = match names.len().saturating_sub(NAMED) {
        0 => names.join(" and "),
        more => format!("{} and {more} more", names.get(..NAMED)?.join(", ")),
    };
    let (file, line) = scene.place(&next);
    let before = format!("{file}:{line}");
    let asked = past.speakers.list.iter().any(|s| s.shutdown.is_some());
    let dead = scene.verdict >= Verdict::Degraded;
    let stage = scene.processes.iter().filter_map(|p| p.stage).max();
    let (verdict, summary) = match scene.verdict {
        Verdict::Healthy if asked => (Verdict::Healthy, std::mem::take(&mut scene.summary)),
        _ if dead => (scene.verdict, std::mem::take(&mut scene.summary)),
        _ => (Verdict::Failed, without_a_word(stage)),
    };
    let root = scene
        .findings
        .iter()
        .find(|f| f.consequence_of.is_none() && f.severity > Severity::Info);
    let end = match (verdict, root) {
        (Verdict::Healthy, _) => None,
        (_, Some(root)) => Some(told_by(root, &scene, &before)),
        (_, None) => last_line(lives).map(|last| {
            let mut f = Finding::new(
                "vllm.worker-died",
                &before,
                Severity::Info,
                Class::Application,
                Evidence::Line(last),
            );
            f.title.clone_from(&summary);
            f.cause = "Its log goes on with the next run, and says nothing of its end: it was killed from outside, or its last words went elsewhere.".into();
            f.fix.push(
                "look who ended it: dmesg -T | grep -i 'killed process', or the log of what starts it"
                    .into(),
            );
            f
        }),
    };
    let end = end.map(|mut f| {
        f.title = format!("an earlier run in {shown}: {}", f.title);
        f.prove(Evidence::Line(next.clone()));
        f
    });
    let gone = |mut p: ProcessView| {
        p.incarnation = numbers.get(&p.source).copied().unwrap_or(1);
        p.alive = Some(false);
        p.replaced = true;
        p
    };
    Some(Former {
        ago,
        names: shown,
        before,
        verdict,
        summary,
        next,
        last_at: scene.now,
        stage,
        processes: std::mem::take(&mut scene.processes)
            .into_iter()
            .map(gone)
            .collect(),
        communicators: std::mem::take(&mut scene.communicators),
        end,
    })
}

fn without_a_word(stage: Option<Stage>) -> String {
    match stage {
        Some(Stage::Serving) => "it ended without a word, after it had served".into(),
        Some(stage) => format!("it ended without a word, on its way up: {}", stage.word()),
        None => "it ended without a word".into(),
    }
}

/// The failure that ended a run, as news of the past.
fn told_by(root: &Finding, scene: &Scene, subject: &str) -> Finding {
    let mut f = root.clone();
    f.key = format!("{}@{subject}", root.id);
    f.severity = Severity::Info;
    // Its communicators are not among those of the present.
    f.ranks = global_ranks(scene, root).unwrap_or_default();
    f.communicator = None;
    f
}

/// The last line that says how far a run came.
fn last_line(lives: &Lives<'_>) -> Option<LineRef> {
    let of = |(source, life): &(SourceId, &Life)| {
        let said = life
            .speakers
            .list
            .iter()
            .flat_map(|s| s.stages.values().chain([&s.first]));
        let comms = life.procs.list.iter().flat_map(|p| &p.comms);
        let ran = comms.flat_map(|c| c.start.iter().chain(&c.complete));
        let last: Option<&Quote> = said.chain(ran).max_by_key(|q| q.line);
        last.map(|q| line_ref(*source, q))
    };
    lives.iter().find_map(of)
}
