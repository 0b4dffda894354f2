//! What a GPU should hold: weights by the model's size and the layout, the limit by vLLM's setting.

use std::collections::BTreeMap;

use super::{CRAWL, SECOND, SMALL, WINDOW, loaded, loads};
use crate::model::Model;
use crate::model::gpus::Gpu;
use crate::model::speakers::Speaker;
use crate::parse::Nanos;
use crate::parse::probe::Answer;
use crate::parse::vllm::{Settings, release};
use crate::rules::layout::Sizes;
use crate::rules::modelsize::{self, Basis};
use crate::rules::probes::Members;
use crate::rules::scene::{GpuView, ProcessView, Stage};

const GIB: f64 = (1u64 << 30) as f64;
/// Memory that a rank takes before the weights where nobody saw it: CUDA, torch, NCCL (vllm.md 8.5).
const USUAL_BEFORE: u64 = 3 << 29;
/// What is known of the model and of vLLM's settings.
pub(super) struct Plan<'a> {
    /// Bytes per GPU and what says so.
    share: Option<(u64, String)>,
    /// What ranks measured after they had loaded, by pipeline stage.
    measured: Vec<(Option<u32>, u64)>,
    /// When ranks began to load, as they said; sorted.
    loads: Vec<Nanos>,
    /// `gpu_memory_utilization`, and whether somebody set it.
    utilization: Option<(f64, bool)>,
    /// How far those who speak are.
    furthest: Option<Stage>,
    /// vLLM's processes by the source of their lines: every GPU asks for those of its rank.
    speakers: BTreeMap<u32, Vec<&'a Speaker>>,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of models in GiB"
)]
fn bytes(gib: f64) -> u64 {
    (gib.max(0.0) * GIB) as u64
}

impl<'a> Plan<'a> {
    pub(super) fn of(
        model: &'a Model,
        sizes: Option<Sizes>,
        furthest: Option<Stage>,
        members: &Members<'_>,
    ) -> Self {
        let speakers = &model.speakers.list;
        let logged = speakers.iter().find_map(|s| s.checkpoint_gib).map(bytes);
        let index = model.gpus.model_bytes().map(|b| (Basis::Index, b));
        let looked = index.or_else(|| probed(model));
        // What the loader measured goes before what numbers of a configuration come to.
        let whole = match (looked, logged) {
            (Some((Basis::Config, _)) | None, Some(b)) => Some((b, "the loader")),
            (looked, _) => looked.map(|(basis, b)| (b, basis.words())),
        };
        let share = whole.zip(sizes).and_then(|((whole, from), s)| {
            // Experts are spread over data-parallel ranks, the rest is not: the split is not known from outside.
            if s.dp > 1 && s.ep {
                return None;
            }
            let parts = u64::from(s.tp) * u64::from(s.pp);
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let gb = whole as f64 / 1e9;
            let from = format!("{from}: {gb:.1} GB by TP {} × PP {}", s.tp, s.pp);
            Some((whole.checked_div(parts)?, from))
        });
        let mut by_source: BTreeMap<u32, Vec<&Speaker>> = BTreeMap::new();
        for s in speakers {
            by_source.entry(s.source.0).or_default().push(s);
        }
        let measured = speakers
            .iter()
            .filter_map(|s| Some((stage_of(s), bytes(s.model_gib?))))
            .collect();
        let mut loads: Vec<Nanos> = speakers
            .iter()
            .flat_map(|s| LOAD.iter().filter_map(|stage| s.stages.get(stage)?.at))
            .filter(|at| at.exact)
            .map(|at| at.ns)
            .collect();
        loads.sort_unstable();
        loads.dedup();
        Self {
            share,
            measured,
            loads,
            utilization: utilization(model, members),
            furthest,
            speakers: by_source,
        }
    }

    /// Bytes of weights that a rank should take, and what says so.
    pub(super) fn of_rank(&self, p: &ProcessView) -> Option<(u64, String)> {
        let measured = self
            .measured
            .iter()
            .find(|(pp, _)| p.pp.is_some() && *pp == p.pp)
            .map(|(_, b)| (*b, "measured by a rank of its stage".to_owned()));
        measured.or_else(|| self.share.clone())
    }

    /// Fills in what the GPU of this rank should hold and how far it is.
    pub(super) fn lay(&self, view: &mut GpuView, gpu: &Gpu, p: &ProcessView, now: Nanos) {
        if let Some((expected, from)) = self.of_rank(p) {
            view.expected_weights = Some(expected);
            view.expected_from = Some(from);
        }
        view.utilization = self.utilization;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the memory"
        )]
        {
            view.limit = self
                .utilization
                .zip(view.total)
                .map(|((u, _), total)| (total as f64 * u.clamp(0.0, 1.0)) as u64);
        }
        view.loading = loads(p, self.furthest);
        let moments = Moments::of(&self.speakers, &self.loads, p);
        view.other = other(gpu, &moments);
        let began = moments.weights.and_then(|t| before(gpu, t));
        view.before_weights = began;
        let (Some(used), Some(expected)) = (view.used, view.expected_weights) else {
            return;
        };
        let floor = began.unwrap_or(USUAL_BEFORE + view.other.unwrap_or(0));
        view.filled = if view.loading {
            Some(used.saturating_sub(floor).min(expected))
        } else if loaded(p, self.furthest) {
            Some(expected.min(used))
        } else {
            Some(0)
        };
        if !view.loading {
            return;
        }
        let fresh = now.saturating_sub(gpu.at) < 10 * SECOND;
        view.rate = gpu
            .recent
            .per_second(WINDOW)
            .filter(|r| *r > CRAWL && fresh);
        if let (Some(rate), Some(filled)) = (view.rate, view.filled) {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "a forecast"
            )]
            {
                let left = expected.saturating_sub(filled) as f64 / rate;
                view.left = (left < 1e6).then_some((left * 1e9) as Nanos);
            }
        }
    }
}

/// What a look at the model's files brought back: the most of what pods say, so that a copy that is still on its way
/// to one of them hides nothing.
fn probed(model: &Model) -> Option<(Basis, u64)> {
    let answers = model.probes.of("model-files");
    answers
        .filter_map(|(_, probed)| match probed.answer.as_deref()? {
            Answer::Model(files) => modelsize::weights(files),
            _ => None,
        })
        .max()
}

fn stage_of(s: &Speaker) -> Option<u32> {
    s.ranks
        .as_ref()
        .map(|(r, _)| r.pp)
        .or_else(|| s.label.as_ref().and_then(|(_, l)| l.pp))
        // Without pipeline stages nobody prints one.
        .or(Some(0))
}

/// The setting: what a process printed, else the pod's command line or its file, else the default of the version.
fn utilization(model: &Model, members: &Members<'_>) -> Option<(f64, bool)> {
    let number = |s: &Settings| {
        s.get("gpu_memory_utilization")?
            .parse::<f64>()
            .ok()
            .filter(|u| (0.0..=1.0).contains(u))
    };
    let said = model
        .speakers
        .list
        .iter()
        .find_map(|s| number(&s.settings))
        .or_else(|| {
            let told = members.list.iter();
            told.map(|m| &m.command.settings).find_map(number)
        });
    if let Some(u) = said {
        return Some((u, true));
    }
    // vllm.md section 0: 0.92 from v0.20 on, 0.90 before.
    let version = model
        .speakers
        .list
        .iter()
        .find_map(|s| release(s.version.as_deref()?))?;
    Some((if version >= (0, 20, 0) { 0.92 } else { 0.9 }, false))
}

/// The stages in which weights come.
const LOAD: [Stage; 2] = [Stage::Weights, Stage::Download];

/// When a rank's process began to take memory, and when its weights began to come.
struct Moments {
    began: Option<Nanos>,
    weights: Option<Nanos>,
}

impl Moments {
    fn of(speakers: &BTreeMap<u32, Vec<&Speaker>>, loads: &[Nanos], p: &ProcessView) -> Self {
        let of_rank = || {
            let here = p.sources.iter().filter_map(|s| speakers.get(s)).flatten();
            here.filter(|s| s.incarnation == p.incarnation)
        };
        let first = |stages: &[Stage], same: bool| {
            of_rank()
                .filter(|s| !same || s.global_rank().is_none() || s.global_rank() == p.global_rank)
                .flat_map(|s| stages.iter().filter_map(|st| s.stages.get(st)?.at))
                .filter(|at| at.exact)
                .map(|at| at.ns)
                .min()
        };
        let began = first(&[Stage::DistributedInit, Stage::NcclInit], false);
        // A rank that is silent by its version loads when its neighbours do; and where only the first of all says
        // that it begins, the others speak of their weights when these are there: all begin once they have met.
        let own = first(&LOAD, true).or_else(|| first(&LOAD, false));
        let after = loads.partition_point(|at| began.is_some_and(|began| *at < began));
        let earliest = loads.get(after).copied().filter(|_| began.is_some());
        Self {
            began,
            weights: own.map(|own| earliest.map_or(own, |at| at.min(own))),
        }
    }
}

/// Memory used at the last sample before a moment; nothing where nobody looked by then.
fn before(gpu: &Gpu, moment: Nanos) -> Option<u64> {
    gpu.curve
        .points()
        .iter()
        .take_while(|(at, _)| *at <= moment)
        .last()
        .map(|(_, used)| *used)
}

/// Memory that was taken before the rank came and still is.
fn other(gpu: &Gpu, moments: &Moments) -> Option<u64> {
    let (first_at, first) = gpu.first?;
    if moments.began.is_none_or(|began| first_at > began) {
        return None;
    }
    let least = gpu
        .curve
        .points()
        .iter()
        .map(|(_, used)| *used)
        .fold(first, u64::min);
    Some(if least > SMALL { least } else { 0 })
}
