//! The start-up ladder: where each rank is, alike ranks on one line, the one that holds the others up on top.

use ratatui::layout::Rect;

use super::rungs::Rung;
use crate::panes::View;
use crate::panes::parts::{self, Pen};
use crate::panes::reach;
use crate::parse::At;
use crate::rules::scene::{Folded, Former, ProcessView, Scene, Stage};
use crate::theme::Role;

/// One second in nanoseconds.
const SEC: i64 = 1_000_000_000;

/// The ladder in one sentence: who holds the others up, or where all of them are.
#[must_use]
pub fn sentence(rungs: &[Rung], now: Option<At>) -> (String, Role) {
    // Who says nothing holds nobody up, as far as can be told.
    let heard = rungs.iter().position(|r| r.quiet).unwrap_or(rungs.len());
    let rungs = match rungs.get(..heard) {
        Some(speaking) if heard > 0 => speaking,
        _ => rungs,
    };
    let name = |r: &Rung| parts::ranks(&r.ranks);
    match rungs {
        [] => ("no rank has said where it is".into(), Role::Unknown),
        [first, ..] if let (false, Some(why)) = (first.ended, first.named()) => {
            let sign = if first.held.is_some() { ":" } else { "" };
            let them = if first.ranks.len() > 1 { "them" } else { "it" };
            (
                format!("{}{sign} {why}: the others wait for {them}", name(first)),
                Role::Fail,
            )
        }
        [first, rest @ ..] if !first.ended && first.still.is_some() => {
            let quiet = first
                .silent(now)
                .map_or_else(String::new, |ns| format!(" for {}", parts::duration(ns)));
            let waits = if rest.iter().any(|r| r.at > first.at) {
                "; the others wait for it"
            } else {
                ""
            };
            let at = first
                .step
                .filter(|s| *s != "complete")
                .unwrap_or(first.word);
            (
                format!(
                    "{}: no sign of getting on in {at}{quiet}{waits}",
                    name(first)
                ),
                Role::Warn,
            )
        }
        [only] if only.ended => (format!("{} ended in {}", name(only), only.word), Role::Fail),
        [only] if only.at == only.of => {
            (format!("{}: all {}", name(only), only.word), Role::Strong)
        }
        [only] => {
            let all = if only.ranks.len() > 1 {
                "are all in"
            } else {
                "in"
            };
            let amount = only.amount().map_or_else(String::new, |a| format!(": {a}"));
            let left = only.left.map_or_else(String::new, |s| {
                let ns = i64::try_from(s)
                    .unwrap_or(i64::MAX / SEC)
                    .saturating_mul(SEC);
                format!("   about {} left", parts::duration(ns))
            });
            (
                format!("{} {all} {}{amount}{left}", name(only), only.word),
                Role::Strong,
            )
        }
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
    // A name that lacks its beginning says so.
    let name = |place: &String| {
        let at = all.binary_search(&place.as_str()).ok();
        match at.and_then(|i| short.get(i)) {
            Some(name) if name.len() < place.len() => format!("…{name}"),
            Some(name) => (*name).to_owned(),
            None => "?".to_owned(),
        }
    };
    rungs
        .iter()
        .map(|r| match r.places.as_slice() {
            [one] => name(one),
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
    let ranks: Vec<String> = rungs.iter().map(|r| parts::ranks(&r.ranks)).collect();
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
    // Time left, flush right, where any of them knows it.
    let left: u16 = match rungs.iter().any(|r| r.left.is_some()) {
        true if width >= 60 => 8,
        _ => 0,
    };
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
        end.saturating_sub(at_progress + left),
        "progress",
        Role::Label,
    );
    if left > 0 {
        pen.right(end - left, area.y, left, "left", Role::Label);
    }
    if rungs.is_empty() {
        let text = match reach::unreached(view) {
            Some(_) => "no line was read: where the ranks are comes from their logs",
            None => {
                "no rank has said where it is: neither vLLM stages nor NCCL steps in these lines"
            }
        };
        pen.text(x, area.y + 1, width, text, Role::Quiet);
        return 2;
    }
    let counted = counted(view.scene);
    let rows = area.height - 1;
    let below = u16::try_from(counted.len()).unwrap_or(0).min(rows / 3);
    let lines = usize::from(rows - below);
    let hidden = rungs.len() > lines;
    let lines = if hidden { lines - 1 } else { lines };
    let waits = rungs
        .iter()
        .any(|r| !r.quiet && r.at != rungs.first().map_or(0, |f| f.at));
    let mut y = area.y + 1;
    for (i, ((rung, ranks), where_)) in rungs.iter().zip(&ranks).zip(places).take(lines).enumerate()
    {
        let slowest = i == 0 && waits;
        let role = rung.role(slowest);
        pen.text(
            x,
            y,
            who,
            ranks,
            if slowest || rung.ended || rung.accused.is_some() || rung.still.is_some() {
                Role::Strong
            } else {
                Role::Text
            },
        );
        pen.text(at_place, y, place, &parts::tail(where_, place), Role::Quiet);
        pen.text(at_word, y, word, rung.word, role);
        if bar > 0 && !rung.absent && (!rung.quiet || rung.held.is_some()) {
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
        match (rung.ended, rung.killed) {
            (true, true) => said.push("ended with its container".to_owned()),
            (true, false) => said.push("ended".to_owned()),
            (false, _) => {}
        }
        if let Some(step) = rung.step.filter(|s| *s != "complete") {
            said.push(step.to_owned());
        }
        said.extend(rung.amount());
        said.extend(rung.quiet(view.scene.now));
        match rung.named() {
            Some(why) => said.push(why),
            None => said.extend(rung.unheard()),
        }
        if slowest && !rung.ended {
            said.push("the others wait for it".into());
        }
        let said = said.join("   ");
        // What would be cut begins where it leaves columns empty.
        let free = match (rung.since.is_none(), rung.quiet || rung.absent) {
            _ if parts::columns(&said) <= end.saturating_sub(at_progress + left) => at_progress,
            (true, true) if rung.held.is_none() => at_bar,
            (true, _) => at_time,
            (false, _) => at_progress,
        };
        let room = end.saturating_sub(free + left);
        if let Some(s) = rung.left.filter(|_| left > 0) {
            let ns = i64::try_from(s)
                .unwrap_or(i64::MAX / SEC)
                .saturating_mul(SEC);
            pen.right(end - left, y, left, &parts::duration(ns), Role::Text);
        }
        pen.text(
            free,
            y,
            room,
            &said,
            if slowest || rung.accused.is_some() || rung.still.is_some() {
                role
            } else {
                Role::Text
            },
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
    for text in counted.iter().take(usize::from(below)) {
        pen.text(x, y, width, text, Role::Quiet);
        y += 1;
    }
    y - area.y
}

/// What Ray counted of workers that no line names, until everybody serves; and the run before this one, where its
/// logs hold one.
pub fn counted(scene: &Scene) -> Vec<String> {
    let starts = |p: &ProcessView| p.stage.is_some() && p.stage < Some(Stage::Serving);
    let starting = scene.processes.iter().any(starts);
    let all = scene.folded.iter().filter(|_| starting);
    let former = scene.former.iter().take(1).map(Former::sentence);
    all.map(Folded::sentence).chain(former).collect()
}
