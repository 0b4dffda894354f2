//! Ranks that stand at the same place of their start-up, for the ladder and for the ranks pane.

use std::collections::BTreeSet;

use crate::panes::parts;
use crate::parse::{At, Nanos};
use crate::rules::scene::{NcclStep, ProcessView, Progress, Scene, Silence, Stage};
use crate::theme::Role;

/// One second.
const SEC: Nanos = 1_000_000_000;
/// A silence that is shorter is none.
const WORTH: Nanos = 10 * SEC;

/// Ranks that stand at the same place.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// Indices into the scene's processes.
    pub processes: Vec<u32>,
    /// Their numbers, sorted.
    pub ranks: Vec<u32>,
    /// Pods or hosts, sorted.
    pub places: Vec<String>,
    /// The stage, or NCCL's step where no vLLM line was seen.
    pub word: &'static str,
    /// What they are, where they are no ranks.
    pub part: Option<&'static str>,
    /// NCCL's step inside a stage, where it says more.
    pub step: Option<&'static str>,
    /// Steps done.
    pub at: u64,
    /// Of how many.
    pub of: u64,
    /// They ended here.
    pub ended: bool,
    /// They ended with their container.
    pub killed: bool,
    /// They never came to the rendezvous at which the others wait.
    pub absent: bool,
    /// They say nothing from here on, whatever they do.
    pub quiet: bool,
    /// What Ray counted others to have done, who may be these: what, how many.
    pub counted: Option<(&'static str, u32)>,
    /// The finding that singles them out as those whom the others wait for.
    pub accused: Option<&'static str>,
    /// What the fullest of their GPUs holds and what its group's do, where that singles them out.
    pub held: Option<(u64, u64)>,
    /// No sign of getting on since then, and nobody is further behind.
    pub still: Option<At>,
    /// The longest silence among them, and how long it may be.
    pub silence: Option<Silence>,
    /// Since when the first of them is here.
    pub since: Option<At>,
    /// Least and most done, of how many, of what.
    pub progress: Option<(u64, u64, u64, &'static str)>,
    /// Units per second of the slowest.
    pub rate: Option<f64>,
    /// Seconds that are left for the slowest.
    pub left: Option<u64>,
}

/// Place on the ladder of a process: the vLLM stage, or NCCL's step where no vLLM line was seen.
pub fn place(p: &ProcessView) -> Option<(&'static str, u64, u64)> {
    if p.absent {
        let (_, at) = parts::stage(Stage::DistributedInit);
        return Some(("absent", at, 10));
    }
    // Whose memory proves that it still loads says nothing and is in no other stage.
    let stage = p.stage.map(|s| s.max(p.held.map_or(s, |_| Stage::Weights)));
    if let Some(stage) = stage {
        let (word, at) = parts::stage(stage);
        let silent = p.quiet && p.held.is_none();
        return Some((if silent { "after NCCL" } else { word }, at, 10));
    }
    let (word, at) = match p.nccl_step? {
        NcclStep::Initialization => ("initialization", 1),
        NcclStep::Topology => ("topology", 2),
        NcclStep::Transport => ("transport", 3),
        NcclStep::Completion => ("complete", 4),
    };
    Some((word, at, 4))
}

/// What NCCL does inside `nccl-init`: the step of the communicator that is being made, or the warm-up behind it.
pub fn step(p: &ProcessView) -> Option<&'static str> {
    if p.stage != Some(Stage::NcclInit) || p.quiet || p.absent {
        return None;
    }
    if p.nccl_failed {
        return Some("failed");
    }
    match (p.nccl_open.or(p.nccl_step)?, p.warmed_up) {
        (NcclStep::Initialization, _) => Some("initialization"),
        (NcclStep::Topology, _) => Some("topology"),
        (NcclStep::Transport, _) => Some("transport"),
        (NcclStep::Completion, Some(false)) => Some("warm-up all-reduce"),
        (NcclStep::Completion, _) => Some("complete"),
    }
}

impl Rung {
    /// The rung of one process alone.
    pub fn of(index: u32, number: Option<u32>, p: &ProcessView) -> Self {
        let (word, at, of) = place(p).unwrap_or(("-", 0, 10));
        let pace = pace(p);
        Self {
            processes: vec![index],
            ranks: number.into_iter().collect(),
            places: vec![p.place()],
            word,
            part: p.part.filter(|_| number.is_none()),
            step: step(p),
            at,
            of,
            ended: p.alive == Some(false),
            killed: p.killed,
            absent: p.absent,
            quiet: p.unheard(),
            counted: p.counted.filter(|c| !c.sure).map(|c| (c.done, c.unnamed)),
            accused: p.accused,
            held: p.held,
            still: p.still.filter(|s| !s.waits).map(|s| s.since),
            silence: p.silence.filter(|_| p.alive != Some(false) && !p.absent),
            // Who has ended is in no stage any more.
            // Nor is it known since when it loads, where only its memory tells that it does.
            since: p
                .stage_since
                .filter(|_| p.alive != Some(false) && p.held.is_none() && !p.absent),
            progress: p
                .progress
                .as_ref()
                .map(|g| (g.done, g.done, g.total, g.unit)),
            rate: pace.and_then(|g| g.rate),
            left: pace.and_then(|g| g.left_s),
        }
    }

    /// Whether a process stands where these do. More than a tenth apart in one stage is not alike.
    fn like(&self, other: &Self) -> bool {
        let near = match (self.progress, other.progress) {
            (Some((low, high, total, unit)), Some((done, _, t, u))) => {
                total == t && unit == u && done.max(high) - done.min(low) <= total / 10
            }
            (None, None) => true,
            _ => false,
        };
        let key = |r: &Self| {
            let still = r.still.is_some();
            let end = (r.ended, r.killed, r.absent);
            (r.word, r.step, r.of, end, r.accused, still, r.counted)
        };
        match (self.part, other.part) {
            // Their stage is not one of the start-up that people wait for.
            (Some(a), Some(b)) => a == b && self.ended == other.ended,
            (None, None) => key(self) == key(other) && near,
            _ => false,
        }
    }

    fn join(&mut self, one: Self) {
        self.processes.extend(one.processes);
        self.ranks.extend(one.ranks);
        // Ranks of one place follow one another: a name is kept once a place, not once a rank.
        for here in one.places {
            if self.places.last() != Some(&here) {
                self.places.push(here);
            }
        }
        let first = |a: Option<At>, b: Option<At>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.since = first(self.since, one.since);
        self.still = first(self.still, one.still);
        self.held = self.held.max(one.held);
        self.silence = match (self.silence, one.silence) {
            (Some(a), Some(b)) => Some(if b.since < a.since { b } else { a }),
            (a, b) => a.or(b),
        };
        if let (Some((low, high, ..)), Some((done, ..))) = (self.progress.as_mut(), one.progress) {
            if done < *low {
                self.rate = one.rate;
            }
            *low = done.min(*low);
            *high = done.max(*high);
        }
        self.left = match (self.left, one.left) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }

    /// `6/59 shards`, `6-9/59 shards   0.6/s`, `3.2/14.0 GB   45 MB/s`.
    pub fn amount(&self) -> Option<String> {
        let (low, high, total, unit) = self.progress?;
        // The rate of what stands still is history.
        let rate = self.rate.filter(|_| self.still.is_none());
        Some(amount(low, high, total, unit, rate))
    }

    /// `quiet 40 s of 2m 00s allowed`, `no sign for 4m 10s, 2m 00s allowed`: their silence, where it is worth a word.
    pub fn quiet(&self, now: Option<At>) -> Option<String> {
        let (s, now) = (self.silence?, now?);
        let quiet = now.ns.saturating_sub(s.since.ns);
        let allowed = parts::duration(Nanos::from(s.limit_s).saturating_mul(SEC));
        if let Some(ns) = self.silent(Some(now)) {
            return Some(format!(
                "no sign for {}, {allowed} allowed",
                parts::duration(ns)
            ));
        }
        (quiet >= WORTH && quiet <= Nanos::from(s.limit_s).saturating_mul(SEC))
            .then(|| format!("quiet {} of {allowed} allowed", parts::duration(quiet)))
    }

    /// Why they are those whom the others wait for.
    pub fn named(&self) -> Option<String> {
        if self.absent {
            let have = if self.ranks.len() > 1 { "have" } else { "has" };
            return Some(format!("{have} not come to the rendezvous"));
        }
        let id = self.accused?;
        Some(self.held.map_or_else(
            || format!("named by {id}"),
            |(used, group)| {
                let gb = |n: u64| format!("{:.1}", n as f64 / 1e9);
                format!("GPU holds {} of {} GB", gb(used), gb(group))
            },
        ))
    }

    /// Why their silence proves nothing, where it does not.
    pub fn unheard(&self) -> Option<String> {
        // Whoever has ended says nothing for that reason.
        if self.ended {
            return None;
        }
        match self.counted {
            Some((_, n)) => Some(format!("or further: Ray counts {n} more, unnamed")),
            None => self
                .quiet
                .then(|| "silent by their version until they serve".into()),
        }
    }

    /// How long nothing was seen of them.
    pub fn silent(&self, now: Option<At>) -> Option<Nanos> {
        let (since, now) = (self.still?, now?);
        Some(now.ns.saturating_sub(since.ns))
    }

    /// What the place means: how loud it is drawn.
    pub fn role(&self, slowest: bool) -> Role {
        match (
            self.ended || self.absent || self.accused.is_some(),
            self.still.is_some() || slowest,
            self.at == self.of,
        ) {
            (true, ..) => Role::Fail,
            (_, true, _) => Role::Warn,
            (_, _, true) => Role::Ok,
            _ => Role::Waiting,
        }
    }
}

/// A progress as a person reads it.
pub fn amount(low: u64, high: u64, total: u64, unit: &str, rate: Option<f64>) -> String {
    let gb = |n: u64| format!("{:.1}", n as f64 / 1e9);
    let span = |f: &dyn Fn(u64) -> String| {
        let (a, b) = (f(low), f(high));
        if a == b { a } else { format!("{a}-{b}") }
    };
    let (text, speed) = if unit == "bytes" {
        let speed = rate.map(|r| format!("{:.0} MB/s", r / 1e6));
        (format!("{}/{} GB", span(&gb), gb(total)), speed)
    } else {
        let speed = rate.map(|r| match r {
            r if r >= 1.0 => format!("{r:.1}/s"),
            r => format!("{:.1} s each", 1.0 / r.max(1e-6)),
        });
        (
            format!("{}/{total} {unit}", span(&|n| n.to_string())),
            speed,
        )
    };
    match speed.filter(|_| low < total) {
        Some(speed) => format!("{text}   {speed}"),
        None => text,
    }
}

/// The progress of a process that gets on: who has ended, or stands still, has no pace, and nothing is left of its time.
pub fn pace(p: &ProcessView) -> Option<&Progress> {
    let moves = p.alive != Some(false) && p.still.is_none();
    p.progress.as_ref().filter(|_| moves)
}

/// A progress as a person reads it.
pub fn progress(p: &ProcessView) -> Option<String> {
    let g = p.progress.as_ref()?;
    let rate = pace(p).and_then(|g| g.rate);
    Some(amount(g.done, g.done, g.total, g.unit, rate))
}

/// Alike processes together, those that hold the others up first.
pub fn fold(one_by_one: impl IntoIterator<Item = Rung>) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = Vec::new();
    for one in one_by_one {
        match rungs.iter_mut().find(|r| r.like(&one)) {
            Some(rung) => rung.join(one),
            None => rungs.push(one),
        }
    }
    for rung in &mut rungs {
        rung.ranks.sort_unstable();
        rung.ranks.dedup();
        rung.places.sort();
        rung.places.dedup();
    }
    rungs.sort_by(|a, b| order(a).cmp(&order(b)));
    rungs
}

/// Ended first, and of these those whose container did: the others follow them; then those that a finding singles out, then by place; of one place those that stand still first; who says nothing comes last.
pub fn order(r: &Rung) -> impl Ord + use<'_> {
    let done = r.progress.map_or(0, |(low, _, total, _)| {
        low.saturating_mul(1000) / total.max(1)
    });
    (
        !r.ended,
        !r.killed,
        r.accused.is_none() && !r.absent,
        r.quiet,
        r.at,
        r.still.is_none(),
        done,
        &r.ranks,
    )
}

/// The ladder, slowest first.
#[must_use]
pub fn rungs(scene: &Scene) -> Vec<Rung> {
    let numbers = super::numbers(scene);
    let alive = |(p, n): (&ProcessView, &Option<u32>)| n.filter(|_| p.alive != Some(false));
    let again: BTreeSet<u32> = scene
        .processes
        .iter()
        .zip(&numbers)
        .filter_map(alive)
        .collect();
    let ranks = (0u32..).zip(&scene.processes).zip(numbers);
    fold(ranks.filter_map(|((index, p), number)| {
        place(p)?;
        // A rank that lives again stands where its new life does.
        if p.replaced && number.is_some_and(|n| again.contains(&n)) {
            return None;
        }
        Some(Rung::of(index, Some(number?), p))
    }))
}
