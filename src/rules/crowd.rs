//! What Ray's driver counted of workers without naming them, turned into what may be said of each.
//!
//! A count is no name: who stands where Ray counted more workers than it named may be one of them, so that its
//! silence proves nothing. Only where the count holds every worker of the engine is it a fact of each.

use super::comms::{Unit, line_ref};
use super::layout::Sizes;
use super::scene::{Counted, Folded, ProcessView, Scene, Stage};
use crate::model::Model;
use crate::model::crowd::{Crowd, Engine, Once};
use crate::model::speakers::Speaker;

/// Fills `scene.folded`, and what it means for the workers that no line names.
pub fn count(scene: &mut Scene, model: &Model, units: &[Unit], sizes: Option<Sizes>) {
    let speakers = &model.speakers;
    for (engine, said) in speakers.crowds.folded() {
        let (source, relay, life) = *engine;
        let newer =
            |(other, _): (&Engine, _)| (other.0, other.1) == (source, relay) && other.2 > life;
        if speakers.crowds.folded().any(newer) {
            continue;
        }
        let driver = speakers.list.iter().rfind(|s| {
            s.source == source && s.pid == relay && s.incarnation == life && !s.is_rank()
        });
        // Who spoke before the driver began anew was of its earlier life.
        let since = driver.filter(|_| life > 1).map_or(0, |s| s.first.line);
        let here = |s: &Speaker| {
            s.source == source && s.relay == relay && s.is_rank() && s.first.line >= since
        };
        // Weights are read twice where a draft model is loaded behind the first one.
        let drafts = speakers.list.iter().any(|s| {
            let draft = s.settings.get("speculative_config");
            draft.is_some_and(|v| !matches!(v, "None" | "null" | ""))
        });
        let of = size(sizes, relay);
        for (what, crowd) in said.iter().filter(|(_, c)| !c.folded.is_empty()) {
            let all = of == Some(crowd.said()) && !(drafts && *what == Once::WeightsRead);
            for (p, unit) in scene.processes.iter_mut().zip(units) {
                let mut own = unit.speakers.iter();
                let worker = own.any(|s| speakers.list.get(*s as usize).is_some_and(here));
                let named = unit.speakers.iter().any(|s| crowd.named.contains(s));
                if worker && !named && p.alive != Some(false) {
                    mark(p, *what, crowd, all);
                }
            }
        }
        let furthest = said.iter().rfind(|(_, c)| c.unnamed() > 0);
        if let Some((what, crowd)) = furthest
            && let Some((_, line)) = newest(crowd)
        {
            scene.folded.push(Folded {
                stage: what.stage(),
                done: what.words(),
                said: crowd.said(),
                unnamed: crowd.unnamed(),
                of,
                line: line_ref(source, line),
            });
        }
    }
}

/// Workers of the engine whose lines a process relays; without such a process the driver has them all.
fn size(sizes: Option<Sizes>, relay: Option<u64>) -> Option<u32> {
    let sizes = sizes?;
    Some(match relay {
        Some(_) => Sizes { dp: 1, ..sizes }.world(),
        None => sizes.world(),
    })
}

/// The newest line that stands for several.
fn newest(crowd: &Crowd) -> Option<&(u32, crate::model::edges::Quote)> {
    crowd.folded.values().max_by_key(|(_, q)| q.line)
}

/// A worker that is not named among those who said `what`.
fn mark(p: &mut ProcessView, what: Once, crowd: &Crowd, all: bool) {
    let stage = what.stage();
    let behind = p.stage.is_none_or(|have| have <= stage);
    let Some((_, line)) = newest(crowd).filter(|_| behind) else {
        return;
    };
    let counted = Counted {
        done: what.words(),
        unnamed: crowd.unnamed(),
        at: line.at,
        sure: all,
    };
    if !all {
        // A line that stands for nobody but the one it names leaves nobody to be counted.
        if counted.unnamed > 0 {
            p.counted = Some(counted);
        }
        return;
    }
    p.counted = Some(counted);
    if p.stage.is_none_or(|have| have < stage) {
        p.stage = Some(stage);
        p.stage_since = line.at;
        p.progress = None;
        p.quiet &= stage <= Stage::NcclInit;
    }
}
