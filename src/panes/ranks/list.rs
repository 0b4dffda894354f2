//! The list: slowest and stopped on top, alike ranks on one row.

use std::collections::BTreeSet;

use ratatui::layout::Rect;

use crate::model::screen::{Counts, PaneId};
use crate::panes::View;
use crate::panes::logs::body;
use crate::panes::overview::{
    self,
    rungs::{self, Rung},
};
use crate::panes::parts::{self, Pen};
use crate::panes::table::{self, Column};
use crate::rules::layout::Sizes;
use crate::rules::scene::{NcclStep, ProcessView, Scene};
use crate::theme::Role;

/// Members of a row.
fn members<'a>(row: &'a Rung, scene: &'a Scene) -> impl Iterator<Item = &'a ProcessView> {
    row.processes
        .iter()
        .filter_map(|i| scene.processes.get(*i as usize))
}

/// Numbers of all members: `0-3`.
fn span(row: &Rung, scene: &Scene, number: fn(&ProcessView) -> Option<u32>) -> (String, Role) {
    let mut all: Vec<u32> = members(row, scene).filter_map(number).collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        ("-".into(), Role::Text)
    } else {
        (parts::ranges(&all), Role::Text)
    }
}

fn columns() -> [Column<Rung>; 15] {
    [
        Column {
            head: "RANK",
            right: true,
            gives: 0,
            most: 16,
            value: |r, _| {
                let text = match r.ranks.as_slice() {
                    [] => "-".into(),
                    many => parts::ranges(many),
                };
                (text, Role::Strong)
            },
        },
        Column {
            head: "WHERE",
            right: false,
            gives: 0,
            most: 28,
            value: |r, v| (whose(r, v.scene), Role::Text),
        },
        Column {
            head: "NODE",
            right: false,
            gives: 9,
            most: 20,
            value: |r, v| (nodes(r, v.scene), Role::Quiet),
        },
        Column {
            head: "GPU",
            right: true,
            gives: 5,
            most: 6,
            value: |r, v| (gpus(v.scene, &r.processes), Role::Text),
        },
        Column {
            head: "TP",
            right: true,
            gives: 6,
            most: 6,
            value: |r, v| span(r, v.scene, |p| p.tp),
        },
        Column {
            head: "PP",
            right: true,
            gives: 6,
            most: 6,
            value: |r, v| span(r, v.scene, |p| p.pp),
        },
        Column {
            head: "DP",
            right: true,
            gives: 7,
            most: 6,
            value: |r, v| span(r, v.scene, |p| p.dp),
        },
        Column {
            head: "EP",
            right: true,
            gives: 7,
            most: 6,
            value: |r, v| span(r, v.scene, |p| p.ep),
        },
        Column {
            head: "PCP",
            right: true,
            gives: 7,
            most: 6,
            value: |r, v| span(r, v.scene, |p| p.pcp),
        },
        Column {
            head: "DCP",
            right: true,
            gives: 7,
            most: 6,
            value: |r, v| span(r, v.scene, |p| p.dcp),
        },
        Column {
            head: "STAGE",
            right: false,
            gives: 0,
            most: 18,
            value: |r, v| {
                members(r, v.scene)
                    .next()
                    .map_or(("-".into(), Role::Unknown), |p| {
                        let (text, role) = stage(p);
                        match (r.accused, r.still) {
                            (Some(_), _) => (text, Role::Fail),
                            (None, Some(_)) => (text, Role::Warn),
                            (None, None) => (text, role),
                        }
                    })
            },
        },
        Column {
            head: "IN STAGE",
            right: true,
            gives: 2,
            most: 9,
            value: |r, v| {
                let ns = r
                    .since
                    .filter(|_| r.part.is_none())
                    .zip(v.scene.now)
                    .map(|(since, now)| now.ns.saturating_sub(since.ns));
                (
                    table::or_dash(ns.map(parts::duration).as_deref()),
                    Role::Text,
                )
            },
        },
        Column {
            head: "NCCL",
            right: false,
            gives: 4,
            most: 18,
            value: |r, v| {
                members(r, v.scene)
                    .next()
                    .map_or(("-".into(), Role::Unknown), step)
            },
        },
        Column {
            head: "LEFT",
            right: true,
            gives: 3,
            most: 8,
            value: |r, _| {
                let left = r.left.map(|s| {
                    parts::duration(i64::try_from(s).unwrap_or(0).saturating_mul(1_000_000_000))
                });
                (table::or_dash(left.as_deref()), Role::Text)
            },
        },
        Column {
            head: "PROGRESS",
            right: false,
            gives: 1,
            most: 0,
            value: progress,
        },
    ]
}

/// Stage of a process, and how loud it is.
pub fn stage(p: &ProcessView) -> (String, Role) {
    if p.part.is_some() && p.global_rank.is_none() && p.alive != Some(false) {
        return ("not a rank".into(), Role::Quiet);
    }
    match (p.alive, p.stage) {
        (Some(false), s) => (
            format!(
                "ended{}",
                s.map_or(String::new(), |s| format!(" in {}", parts::stage(s).0))
            ),
            Role::Fail,
        ),
        (_, None) => ("-".into(), Role::Unknown),
        (_, Some(_)) if p.absent => ("absent".into(), Role::Fail),
        (_, Some(_)) if p.held.is_some() => ("weights".into(), Role::Waiting),
        (_, Some(_)) if p.quiet => ("after NCCL".into(), Role::Waiting),
        (_, Some(s)) => {
            let (word, at) = parts::stage(s);
            (word.into(), if at == 10 { Role::Ok } else { Role::Waiting })
        }
    }
}

/// NCCL's step in the communicator that is being made, else the furthest.
pub fn step(p: &ProcessView) -> (String, Role) {
    if p.nccl_failed {
        return ("failed".into(), Role::Fail);
    }
    match p.nccl_open.or(p.nccl_step) {
        None => ("-".into(), Role::Unknown),
        Some(NcclStep::Initialization) => ("initialization".into(), Role::Waiting),
        Some(NcclStep::Topology) => ("topology".into(), Role::Waiting),
        Some(NcclStep::Transport) => ("transport".into(), Role::Waiting),
        Some(NcclStep::Completion) if p.warmed_up == Some(false) => {
            ("warm-up".into(), Role::Waiting)
        }
        Some(NcclStep::Completion) => ("complete".into(), Role::Ok),
    }
}

/// What a process says of itself beyond its stage: its first error, its progress.
pub fn said(p: &ProcessView) -> (String, Role) {
    if let Some(error) = &p.first_error {
        return (body(&error.text, false), Role::Fail);
    }
    (rungs::progress(p).unwrap_or_default(), Role::Text)
}

fn progress(r: &Rung, v: &View<'_>) -> (String, Role) {
    if let Some(error) = members(r, v.scene).find_map(|p| p.first_error.as_ref()) {
        return (body(&error.text, false), Role::Fail);
    }
    let mut said: Vec<String> = r.amount().into_iter().collect();
    said.extend(r.counted.and_then(|_| r.unheard()));
    said.extend(r.quiet(v.scene.now).filter(|_| r.part.is_none()));
    if let Some(why) = r.named() {
        said.insert(0, why);
        return (said.join("   "), Role::Fail);
    }
    let role = if r.still.is_some() {
        Role::Warn
    } else {
        Role::Text
    };
    (said.join("   "), role)
}

/// How long a process has been in its stage.
pub fn in_stage(p: &ProcessView, scene: &Scene) -> String {
    let ns = p
        .stage_since
        .filter(|_| p.alive != Some(false))
        .zip(scene.now)
        .map(|(since, now)| now.ns.saturating_sub(since.ns));
    table::or_dash(ns.map(parts::duration).as_deref())
}

/// GPUs of processes: NVML's numbers, else CUDA's. One pass over the members, however many processes.
pub fn gpus(scene: &Scene, processes: &[u32]) -> String {
    let wanted: BTreeSet<u32> = processes.iter().copied().collect();
    let all: BTreeSet<u32> = scene
        .communicators
        .iter()
        .flat_map(|c| &c.ranks)
        .filter(|m| wanted.contains(&m.process))
        .filter_map(|m| m.nvml_dev.or(m.cuda_dev))
        .collect();
    match all.into_iter().collect::<Vec<_>>().as_slice() {
        [] => "-".into(),
        some => parts::ranges(some),
    }
}

/// The rows: each process with the numbers of the merged matrix; alike ranks together unless `u` says otherwise.
pub fn rows(view: &View<'_>) -> Vec<Rung> {
    let filter = view.screen.filter().to_lowercase();
    let numbers = overview::numbers(view.scene);
    let (ranks, others): (Vec<Rung>, Vec<Rung>) = (0u32..)
        .zip(&view.scene.processes)
        .zip(numbers)
        .filter(|((_, p), number)| passes(p, *number, &filter))
        .map(|((index, p), number)| Rung::of(index, number, p))
        .partition(|r| !r.ranks.is_empty());
    // Who reports trouble is not like those who don't.
    let wrong = |r: &Rung| members(r, view.scene).any(|p| p.first_error.is_some());
    let mut rows = if view.screen.is_on("each") {
        let mut ranks = ranks;
        ranks.sort_by(|a, b| rungs::order(a).cmp(&rungs::order(b)));
        ranks
    } else {
        let (bad, good): (Vec<Rung>, Vec<Rung>) = ranks.into_iter().partition(wrong);
        let mut ranks = rungs::fold(bad);
        ranks.extend(rungs::fold(good));
        ranks.sort_by(|a, b| rungs::order(a).cmp(&rungs::order(b)));
        ranks
    };
    // Those without a number (API servers, engines) come last.
    if view.screen.is_on("each") {
        rows.extend(others);
    } else {
        let (bad, good): (Vec<Rung>, Vec<Rung>) = others.into_iter().partition(wrong);
        rows.extend(rungs::fold(bad));
        rows.extend(rungs::fold(good));
    }
    rows
}

fn passes(p: &ProcessView, number: Option<u32>, filter: &str) -> bool {
    filter.is_empty()
        || p.place().to_lowercase().contains(filter)
        || p.node
            .as_deref()
            .is_some_and(|n| n.to_lowercase().contains(filter))
        || p.stage.is_some_and(|s| parts::stage(s).0.contains(filter))
        || number.is_some_and(|n| n.to_string() == filter)
}

/// What the shell must know of the list.
pub fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = rows(view);
    let bad = |r: &Rung| {
        r.ended
            || r.accused.is_some()
            || r.still.is_some()
            || members(r, view.scene).any(|p| p.first_error.is_some())
    };
    let copy = |r: &Rung| r.places.join(", ");
    table::counts(view, PaneId::Ranks, &rows, body, copy, bad)
}

/// Draws heads and rows.
pub fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = rows(view);
    let all = || rows.iter().flat_map(|r| members(r, view.scene));
    let sizes = view.scene.layout.sizes;
    let cut = |size: fn(Sizes) -> u32| sizes.is_none_or(|s| size(s) < 2);
    // Columns that no rank fills say nothing.
    let silent = |head: &str| match head {
        "NODE" => all().all(|p| p.node.is_none()),
        "TP" => all().all(|p| p.tp.is_none()),
        "PP" => all().all(|p| p.pp.is_none()),
        "DP" => all().all(|p| p.dp.is_none()),
        "EP" => all().all(|p| p.ep.is_none()),
        "PCP" => cut(|s| s.pcp),
        "DCP" => cut(|s| s.dcp),
        "STAGE" | "IN STAGE" => all().all(|p| p.stage.is_none() && p.alive != Some(false)),
        "LEFT" => rows.iter().all(|r| r.left.is_none()),
        _ => false,
    };
    let columns = columns();
    let columns: Vec<&Column<Rung>> = columns.iter().filter(|c| !silent(c.head)).collect();
    let cursor = view.screen.list(PaneId::Ranks).cursor;
    table::draw(view, &columns, &rows, cursor, area, pen);
}

/// Where they run; a process that is no rank also says what it is.
fn whose(r: &Rung, scene: &Scene) -> String {
    if let Some(part) = r.part {
        return match r.places.as_slice() {
            [one] => format!("{one}: {part}"),
            many => format!(
                "{}: {part}",
                parts::count(many.len() as u64, "host", "hosts")
            ),
        };
    }
    match (r.places.as_slice(), members(r, scene).next()) {
        ([one], Some(p)) => match (&p.vllm_label, p.global_rank) {
            (Some(label), None) => format!("{one} {label}"),
            _ => one.clone(),
        },
        ([a, b], _) => {
            let short = parts::endings(&[a.as_str(), b.as_str()], 2);
            short.join(", ")
        }
        (many, _) => parts::count(many.len() as u64, "host", "hosts"),
    }
}

fn nodes(r: &Rung, scene: &Scene) -> String {
    let mut all: Vec<&str> = members(r, scene)
        .filter_map(|p| p.node.as_deref())
        .collect();
    all.sort_unstable();
    all.dedup();
    match all.as_slice() {
        [] => "-".into(),
        [one] => (*one).to_owned(),
        many => parts::count(many.len() as u64, "node", "nodes"),
    }
}
