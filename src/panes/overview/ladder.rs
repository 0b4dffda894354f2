//! The start-up ladder: where each rank is, alike ranks on one line, the one that holds the others up on top.

use ratatui::layout::Rect;

use super::numbers;
use crate::panes::View;
use crate::panes::parts::{self, Pen};
use crate::parse::At;
use crate::rules::scene::{NcclStep, ProcessView, Scene};
use crate::theme::Role;

/// Ranks that stand at the same place.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    ranks: Vec<u32>,
    places: Vec<String>,
    word: &'static str,
    /// Steps done, of how many.
    at: u64,
    of: u64,
    ended: bool,
    /// They say nothing from here on, whatever they do.
    quiet: bool,
    /// Since when the first of them is here.
    since: Option<At>,
    /// Least and most done, of how many, of what.
    progress: Option<(u64, u64, u64, &'static str)>,
}

/// Place on the ladder of a process: the vLLM stage, or NCCL's step where no vLLM line was seen.
fn place(p: &ProcessView) -> Option<(&'static str, u64, u64)> {
    if let Some(stage) = p.stage {
        let (word, at) = parts::stage(stage);
        return Some((word, at, 10));
    }
    let (word, at) = match p.nccl_step? {
        NcclStep::Initialization => ("initialization", 1),
        NcclStep::Topology => ("topology", 2),
        NcclStep::Transport => ("transport", 3),
        NcclStep::Completion => ("complete", 4),
    };
    Some((word, at, 4))
}

/// The ladder, slowest first.
#[must_use]
pub fn rungs(scene: &Scene) -> Vec<Rung> {
    let numbers = numbers(scene);
    let mut rungs: Vec<Rung> = Vec::new();
    for (p, number) in scene.processes.iter().zip(numbers) {
        let (Some((word, at, of)), Some(number)) = (place(p), number) else {
            continue;
        };
        let ended = p.alive == Some(false);
        let progress = p.progress.as_ref().map(|g| (g.done, g.total, g.unit));
        // Ranks that are more than a tenth apart in one stage are not alike.
        let near = |r: &Rung| match (r.progress, progress) {
            (Some((low, high, total, unit)), Some((done, t, u))) => {
                total == t && unit == u && done.max(high) - done.min(low) <= total / 10
            }
            (None, None) => true,
            _ => false,
        };
        let word = if p.quiet { "after NCCL" } else { word };
        let same = |r: &&mut Rung| (r.word, r.of, r.ended) == (word, of, ended) && near(r);
        let rung = match rungs.iter_mut().find(same) {
            Some(rung) => rung,
            None => {
                rungs.push(Rung {
                    ranks: Vec::new(),
                    places: Vec::new(),
                    word,
                    at,
                    of,
                    ended,
                    quiet: p.quiet,
                    since: None,
                    progress: progress.map(|(done, total, unit)| (done, done, total, unit)),
                });
                let Some(last) = rungs.last_mut() else {
                    continue;
                };
                last
            }
        };
        rung.ranks.push(number);
        // Ranks of one place follow one another: a name is copied once a place, not once a rank.
        let here = p.pod.as_deref().or(p.host.as_deref()).unwrap_or("?");
        if rung.places.last().is_none_or(|last| last != here) {
            rung.places.push(here.to_owned());
        }
        rung.since = match (rung.since, p.stage_since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let (Some((low, high, ..)), Some((done, ..))) = (rung.progress.as_mut(), progress) {
            *low = done.min(*low);
            *high = done.max(*high);
        }
    }
    for rung in &mut rungs {
        rung.ranks.sort_unstable();
        rung.ranks.dedup();
        rung.places.sort();
        rung.places.dedup();
    }
    rungs.sort_by(|a, b| {
        (!a.ended, a.quiet, a.at, &a.ranks).cmp(&(!b.ended, b.quiet, b.at, &b.ranks))
    });
    rungs
}

/// The ladder in one sentence: who holds the others up, or where all of them are.
#[must_use]
pub fn sentence(rungs: &[Rung]) -> (String, Role) {
    // Who says nothing holds nobody up, as far as can be told.
    let heard = rungs.iter().position(|r| r.quiet).unwrap_or(rungs.len());
    let rungs = match rungs.get(..heard) {
        Some(speaking) if heard > 0 => speaking,
        _ => rungs,
    };
    let name = |r: &Rung| match r.ranks.as_slice() {
        [one] => format!("rank {one}"),
        many => format!("ranks {}", parts::ranges(many)),
    };
    match rungs {
        [] => ("no rank has said where it is".into(), Role::Unknown),
        [only] if only.ended => (format!("{} ended in {}", name(only), only.word), Role::Fail),
        [only] if only.at == only.of => {
            (format!("{}: all {}", name(only), only.word), Role::Strong)
        }
        [only] => (
            format!("{} are all in {}", name(only), only.word),
            Role::Strong,
        ),
        [first, ..] if first.ended => (
            format!("{} ended in {}", name(first), first.word),
            Role::Fail,
        ),
        [first, rest @ ..] if rest.iter().any(|r| r.at > first.at) => (
            format!("{} in {}: the others wait for it", name(first), first.word),
            Role::Warn,
        ),
        [first, ..] => (
            format!("all are in {}, not equally far", first.word),
            Role::Strong,
        ),
    }
}

/// Where the ranks of each rung are: names as short as it takes to fit, or how many there are.
fn places(rungs: &[Rung], keep: usize, most: usize) -> Vec<String> {
    let mut all: Vec<&str> = rungs
        .iter()
        .flat_map(|r| &r.places)
        .map(String::as_str)
        .collect();
    all.sort_unstable();
    all.dedup();
    let short = match keep {
        0 => all.clone(),
        words => parts::endings(&all, words),
    };
    let name = |place: &String| {
        all.binary_search(&place.as_str())
            .ok()
            .and_then(|i| short.get(i))
            .copied()
            .unwrap_or("?")
    };
    rungs
        .iter()
        .map(|r| match r.places.as_slice() {
            [one] => name(one).to_owned(),
            few if few.len() <= most => few.iter().map(name).collect::<Vec<_>>().join(", "),
            many => parts::count(many.len() as u64, "host", "hosts"),
        })
        .collect()
}

/// Draws it; says how many rows it took.
pub fn draw(view: &View<'_>, rungs: &[Rung], area: Rect, pen: &mut Pen<'_>) -> u16 {
    if area.height < 2 {
        return 0;
    }
    let (x, width) = (area.x, area.width);
    let ranks: Vec<String> = rungs
        .iter()
        .map(|r| format!("ranks {}", parts::ranges(&r.ranks)))
        .collect();
    let who = ranks
        .iter()
        .map(|r| parts::columns(r))
        .max()
        .unwrap_or(0)
        .max(8)
        .min(width / 4);
    let widest = |names: &[String]| names.iter().map(|p| parts::columns(p)).max().unwrap_or(0);
    let tries = [(0, 3), (2, 3), (0, 1)].map(|(keep, most)| places(rungs, keep, most));
    let fits = tries
        .iter()
        .position(|t| widest(t) <= width / 5)
        .unwrap_or(tries.len() - 1);
    let places = tries.get(fits).map(Vec::as_slice).unwrap_or_default();
    let place = widest(places).min(width / 5);
    let word = rungs
        .iter()
        .map(|r| parts::columns(r.word))
        .max()
        .unwrap_or(0)
        .max(8);
    let bar: u16 = match width {
        0..=69 => 0,
        70..=109 => 10,
        _ => 20,
    };
    // Columns: who, where, stage, bar, in stage, progress.
    let at_place = x + who + 2;
    let at_word = at_place + if place > 0 { place + 2 } else { 0 };
    let at_bar = at_word + word + 2;
    let at_time = at_bar + if bar > 0 { bar + 2 } else { 0 };
    let at_progress = at_time + 9 + 3;
    let end = x + width;
    pen.text(x, area.y, who, "START-UP", Role::Label);
    pen.text(at_word, area.y, word, "stage", Role::Label);
    pen.right(
        at_time,
        area.y,
        9.min(end.saturating_sub(at_time)),
        "in stage",
        Role::Label,
    );
    pen.text(
        at_progress,
        area.y,
        end.saturating_sub(at_progress),
        "progress",
        Role::Label,
    );
    if rungs.is_empty() {
        let text =
            "no rank has said where it is: neither vLLM stages nor NCCL steps in these lines";
        pen.text(x, area.y + 1, width, text, Role::Quiet);
        return 2;
    }
    let lines = usize::from(area.height - 1);
    let hidden = rungs.len() > lines;
    let lines = if hidden { lines - 1 } else { lines };
    let waits = rungs
        .iter()
        .any(|r| !r.quiet && r.at != rungs.first().map_or(0, |f| f.at));
    let mut y = area.y + 1;
    for (i, ((rung, ranks), where_)) in rungs.iter().zip(&ranks).zip(places).take(lines).enumerate()
    {
        let slowest = i == 0 && waits;
        let role = match (rung.ended, slowest, rung.at == rung.of) {
            (true, ..) => Role::Fail,
            (_, true, _) => Role::Warn,
            (_, _, true) => Role::Ok,
            _ => Role::Waiting,
        };
        pen.text(
            x,
            y,
            who,
            ranks,
            if slowest || rung.ended {
                Role::Strong
            } else {
                Role::Text
            },
        );
        pen.text(at_place, y, place, &parts::tail(where_, place), Role::Quiet);
        pen.text(at_word, y, word, rung.word, role);
        if bar > 0 && !rung.quiet {
            let (done, total) = match rung.progress {
                Some((low, _, total, _)) if total > 0 => {
                    ((rung.at - 1) * total + low.min(total), rung.of * total)
                }
                _ => (rung.at, rung.of),
            };
            pen.bar(at_bar, y, bar, done, total);
        }
        if let Some(ns) = rung
            .since
            .filter(|_| !rung.quiet)
            .zip(view.scene.now)
            .map(|(s, n)| n.ns.saturating_sub(s.ns))
        {
            pen.right(
                at_time,
                y,
                9.min(end.saturating_sub(at_time)),
                &parts::duration(ns),
                Role::Text,
            );
        }
        let mut said = Vec::new();
        if rung.ended {
            said.push("ended".to_owned());
        }
        if let Some((low, high, total, unit)) = rung.progress {
            let done = if low == high {
                low.to_string()
            } else {
                format!("{low}-{high}")
            };
            said.push(format!("{done}/{total} {unit}"));
        }
        if rung.quiet {
            said.push("silent by their version until they serve".into());
        }
        if slowest && !rung.ended {
            said.push("the others wait for it".into());
        }
        let room = end.saturating_sub(at_progress);
        pen.text(
            at_progress,
            y,
            room,
            &said.join("   "),
            if slowest { role } else { Role::Text },
        );
        y += 1;
    }
    if hidden {
        let left = rungs.len().saturating_sub(lines);
        pen.text(
            x,
            y,
            width,
            &format!("… {left} more lines in ranks"),
            Role::Quiet,
        );
        y += 1;
    }
    y - area.y
}
