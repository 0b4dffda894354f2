//! What surrounds the panes: header, tabs, footer, help, dialogs, and the screen for terminals that are too small.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{PANES, Page, View, matrix, present};
use crate::model::event::{EdgeState, Feed, Level, Position, Question, Session};
use crate::model::keys;
use crate::model::screen::Mode;
use crate::parse::Nanos;
use crate::rules::scene::Scene;
use crate::theme::Role;

/// Who, where, how well, how old, what we may do.
pub fn header(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    if area.height == 0 {
        return;
    }
    let right = standing(view, area.width);
    let right_width: u16 = right.iter().map(|(t, _)| parts::columns(t)).sum();
    let x = area.x + area.width.saturating_sub(right_width);
    let room = area.width.saturating_sub(right_width + 2);
    let mut used = 0;
    for (text, role, gap) in identity(view, room) {
        used += gap;
        used += pen.text(
            area.x + used,
            area.y,
            room.saturating_sub(used),
            &text,
            role,
        );
    }
    let spans: Vec<(&str, Role)> = right.iter().map(|(t, r)| (t.as_str(), *r)).collect();
    pen.spans(x, area.y, area.width.min(right_width), &spans);
}

/// The left of the header: pieces with the gap before each. What matters least is left out first.
fn identity(view: &View<'_>, room: u16) -> Vec<(String, Role, u16)> {
    let s = view.session;
    let mut path: Vec<&str> = Vec::new();
    path.extend(s.namespace.as_deref());
    path.extend(s.workload.as_deref().or(match s.feed {
        Feed::Files => Some("files"),
        Feed::Demo => Some("demo"),
        Feed::Replay => Some("recording"),
        Feed::Local => Some("this node"),
        Feed::Cluster => None,
    }));
    let mut full = path.clone();
    if let Some(context) = s.context.as_deref() {
        full.insert(0, context);
    }
    let crumbs = |p: &[&str]| p.join(" › ");
    let facts = size_of_job(view.scene);
    let mut facts = facts.as_slice();
    let width = |texts: &[&str], path: &str| {
        let f: u16 = texts.iter().map(|t| parts::columns(t) + 2).sum();
        10 + 3 + parts::columns(path) + 1 + f
    };
    let texts = |facts: &[String]| {
        facts
            .iter()
            .map(String::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut where_ = crumbs(&full);
    let fits = |facts: &[String], where_: &str| {
        let t = texts(facts);
        width(&t.iter().map(String::as_str).collect::<Vec<_>>(), where_) <= room
    };
    if !fits(facts, &where_) {
        where_ = crumbs(&path);
    }
    while !fits(facts, &where_) {
        let Some((_, rest)) = facts.split_last() else {
            break;
        };
        facts = rest;
    }
    let mut out = vec![("ncclscope".to_owned(), Role::Title, 1)];
    if !where_.is_empty() {
        let left = room.saturating_sub(10 + 3);
        out.push((
            parts::tail(&where_, left),
            Role::Text,
            if room >= 60 { 3 } else { 2 },
        ));
    }
    for (i, fact) in facts.iter().enumerate() {
        out.push((fact.clone(), Role::Quiet, if i == 0 { 3 } else { 2 }));
    }
    out
}

/// What this run is about, as people call it.
pub(super) fn subject(s: &Session) -> String {
    let named = s.workload.as_deref().or(s.context.as_deref());
    named.unwrap_or("ncclscope").to_owned()
}

/// `4 pods`, `32 ranks`, `TP 8 × PP 4`, the model; most important first.
pub(super) fn size_of_job(scene: &Scene) -> Vec<String> {
    let mut out = Vec::new();
    let seen = matrix::ranks_of(scene);
    let expected: u32 = scene
        .workloads
        .iter()
        .filter_map(|w| w.expected_ranks)
        .sum();
    if expected > seen {
        out.push(format!("{seen} of {expected} ranks"));
    } else if seen > 0 {
        out.push(parts::count(u64::from(seen), "rank", "ranks"));
    }
    if !scene.pods.is_empty() {
        out.insert(0, parts::count(scene.pods.len() as u64, "pod", "pods"));
    }
    if let [one] = scene.workloads.as_slice() {
        let mut sizes = one.cut();
        sizes.retain(|s| !s.ends_with(" 1"));
        if !sizes.is_empty() {
            out.push(sizes.join(" × "));
        }
        out.extend(one.model.clone());
    }
    out
}

/// The right of the header: verdict, loss, age, level.
fn standing(view: &View<'_>, width: u16) -> Vec<(String, Role)> {
    let scene = view.scene;
    let wide = width >= 100;
    let gap = if wide { "   " } else { "  " };
    let (word, role) = parts::verdict(scene.verdict);
    let mut out = vec![(word.to_owned(), role)];
    let lost: u64 = scene.sources.iter().map(|s| s.dropped_lines).sum();
    if lost > 0 {
        out.push((format!("{gap}lost {}", parts::grouped(lost)), Role::Warn));
    }
    let cut = scene.sources.iter().filter(|s| s.trouble.is_some()).count();
    if cut > 0 {
        out.push((format!("{gap}{cut} cut"), Role::Warn));
    }
    if let Some(kept) = recording(view) {
        out.push((format!("{gap}{}", kept.0), kept.1));
    }
    if let Some((age, role)) = freshness(view) {
        out.push((format!("{gap}{age}"), role));
    }
    if let Some(position) = &view.screen.replay {
        let text = place(position, wide);
        out.push((format!("{gap}{text}"), Role::Notice));
        out.push((" ".to_owned(), Role::Text));
        return out;
    }
    let level = match (view.session.feed, view.session.locked, view.session.level) {
        (Feed::Files, ..) => "files",
        (Feed::Replay, ..) => "replay",
        (_, true, _) => "locked",
        (_, _, Level::Observe) => "observe",
        (_, _, Level::Probe) => "probe",
        (_, _, Level::Act) => "act",
    };
    if width >= 60 {
        let role = if level == "act" {
            Role::Warn
        } else {
            Role::Quiet
        };
        out.push((format!("{gap}{level}"), role));
    }
    out.push((" ".to_owned(), Role::Text));
    out
}

/// `rec 1.2 MB`: what is recorded, and what of it is not.
fn recording(view: &View<'_>) -> Option<(String, Role)> {
    let kept = view.screen.recording.as_ref()?;
    Some(if kept.broken.is_some() {
        ("rec BROKEN".to_owned(), Role::Fail)
    } else if kept.lost > 0 {
        let lost = parts::grouped(kept.lost);
        (format!("rec, {lost} events lost"), Role::Warn)
    } else {
        ("rec".to_owned(), Role::Notice)
    })
}

/// `replay 1:23 of 5:13 x2`: where a recording stands.
fn place(position: &Position, wide: bool) -> String {
    let clock = |ms: u64| {
        let s = ms / 1_000;
        match s / 3_600 {
            0 => format!("{}:{:02}", s / 60, s % 60),
            h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
        }
    };
    let word = if position.over {
        "end of replay"
    } else if position.paused {
        "paused"
    } else {
        "replay"
    };
    let mut text = format!("{word} {}", clock(position.at_ms));
    if wide {
        text.push_str(&format!(" of {}", clock(position.of_ms)));
    }
    if position.speed_percent != 100 {
        let speed = f64::from(position.speed_percent) / 100.0;
        text.push_str(&format!(" x{speed}"));
    }
    if position.missing > 0 {
        text.push_str(&format!(", {} missing", position.missing));
    }
    text
}

/// Facts older than this are no news of what is.
const OLD: Nanos = 10 * 60 * 1_000_000_000;

/// How old the newest fact is, whoever told it; for files, where it ends.
pub(super) fn freshness(view: &View<'_>) -> Option<(String, Role)> {
    let scene = view.scene;
    let logs = scene.sources.iter().filter_map(|s| s.last_stamp);
    let gpus = scene.gpus.iter().filter_map(|g| g.at);
    let servers = scene.serving.iter().filter_map(|s| s.at);
    let feed = view.session.feed;
    if feed == Feed::Files {
        let newest = logs.max().or(scene.now)?;
        return Some((format!("until {}", parts::clock(newest)), Role::Quiet));
    }
    let newest = logs.chain(gpus).chain(servers).max();
    if newest.is_none() && scene.pods.is_empty() && scene.gpus.is_empty() {
        return Some(("no facts yet".into(), Role::Quiet));
    }
    let now = scene.now?;
    let age = now.ns.saturating_sub(newest.unwrap_or(now).ns);
    // A recording is old by nature.
    Some(if age >= OLD && feed != Feed::Replay {
        (format!("facts {} old", parts::age(age)), Role::Warn)
    } else {
        (format!("facts {}", parts::duration(age)), Role::Quiet)
    })
}

/// What keeps the cluster from telling more, in the rule: one sentence, each reason once, with what it holds back.
pub fn connection(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    if area.height == 0 {
        return;
    }
    if let Some(text) = held_back(&view.model.edges) {
        let room = area.width.saturating_sub(4);
        pen.text(area.x + 2, area.y, room, &format!(" {text} "), Role::Warn);
    }
}

/// What was refused comes first: waiting does not mend it.
fn held_back(edges: &BTreeMap<String, EdgeState>) -> Option<String> {
    let mut reasons: Vec<(bool, String, Vec<&str>)> = Vec::new();
    let awaited = edges.iter().find_map(|(edge, state)| state.awaited(edge));
    // Nodes are not needed: what is missing of them is said where they would be.
    let told =
        |(edge, state): &(&String, &EdgeState)| *edge != "nodes" && state.awaited(edge).is_none();
    for (edge, state) in edges.iter().filter(told) {
        let (refused, why) = match state {
            EdgeState::Up => continue,
            EdgeState::Forbidden { rule } => (true, format!("not allowed to {rule}")),
            EdgeState::Down { why } => (true, why.clone()),
            EdgeState::Retrying { why, in_ms } => (
                false,
                format!("{why}; again in {} s", in_ms.div_ceil(1000).max(1)),
            ),
        };
        match reasons.iter_mut().find(|(_, known, _)| *known == why) {
            Some((.., held)) => held.push(edge),
            None => reasons.push((refused, why, vec![edge])),
        }
    }
    reasons.sort_by_key(|(refused, ..)| !refused);
    let reasons = reasons.iter();
    let reasons = reasons.map(|(_, why, held)| format!("no {}: {why}", held.join(", ")));
    let sentences: Vec<String> = awaited.into_iter().chain(reasons).collect();
    (!sentences.is_empty()).then(|| sentences.join(" · "))
}

/// A tab: its text, how many problems of which kind, whether it is open, columns after it.
type Tab = (String, Option<(usize, Role)>, bool, u16);

/// Panes with their digits, and what is wrong in them.
pub fn tabs(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    if area.height == 0 {
        return;
    }
    let names = |cut: usize, gap: u16| -> Vec<Tab> {
        PANES
            .iter()
            .map(|p| {
                let open = p.id == view.screen.pane;
                let name: String = if open {
                    p.id.id().into()
                } else {
                    p.id.id().chars().take(cut).collect()
                };
                (
                    format!("{} {name}", p.id.digit()),
                    (p.badge)(view.scene),
                    open,
                    gap,
                )
            })
            .collect()
    };
    let width = |tabs: &[Tab]| -> u16 {
        tabs.iter()
            .map(|(t, b, _, gap)| {
                parts::columns(t) + gap + b.map_or(0, |(n, _)| 1 + parts::columns(&n.to_string()))
            })
            .sum()
    };
    let filter = view.screen.filter();
    let kept = if filter.is_empty() {
        0
    } else {
        (parts::columns(filter) + 2).min(area.width / 3)
    };
    let room = area.width.saturating_sub(1 + kept);
    let mut all = names(usize::MAX, 3);
    for (cut, gap) in [(usize::MAX, 2), (usize::MAX, 1), (4, 1), (0, 1)] {
        if width(&all) <= room {
            break;
        }
        all = names(cut, gap);
    }
    let mut x = area.x + 1;
    let end = area.x + 1 + room;
    for (text, badge, open, gap) in &all {
        let role = if *open { Role::Tab } else { Role::Quiet };
        x += pen.text(x, area.y, end.saturating_sub(x), text.trim_end(), role);
        if let Some((n, role)) = badge {
            // Without a name between them two numbers would be one list: 3:7 is seven in pane 3.
            if text.ends_with(' ') {
                pen.text(x, area.y, end.saturating_sub(x), ":", Role::Quiet);
            }
            x += 1;
            x += pen.text(x, area.y, end.saturating_sub(x), &n.to_string(), *role);
        }
        x += gap;
    }
    if kept > 0 {
        pen.right(
            area.x + area.width - kept,
            area.y,
            kept.saturating_sub(1),
            &format!("/{filter}"),
            Role::Input,
        );
    }
}

/// Keys that do something here; or what is typed; or what just happened.
pub fn footer(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    if area.height == 0 {
        return;
    }
    let screen = view.screen;
    let typed = match screen.mode() {
        Mode::Filter => Some('/'),
        Mode::CommandLine => Some(':'),
        Mode::Word => Some('>'),
        _ => None,
    };
    let (x, y) = (area.x + 1, area.y);
    let room = area.width.saturating_sub(2);
    if let Some(sign) = typed {
        let head = parts::tail(&screen.typed.before, room.saturating_sub(20).max(10));
        let mut at = x + pen.text(x, y, 1, &sign.to_string(), Role::Key);
        at += pen.text(at, y, room, &head, Role::Input);
        let after = if screen.typed.after.is_empty() {
            " "
        } else {
            screen.typed.after.as_str()
        };
        let wide = pen.text(at, y, (x + room).saturating_sub(at), after, Role::Input);
        pen.overlay(at, y, 1.min(wide), Role::Cursor);
        at += wide + 2;
        // Another word is no yes, and who typed it is told.
        let refused = screen.note.as_ref().filter(|n| n.bad);
        if let (Mode::Word, Some(note)) = (screen.mode(), refused) {
            let left = (x + room).saturating_sub(at);
            at += pen.text(at, y, left, &note.text, Role::Fail) + 3;
        }
        hints(view, at, y, (x + room).saturating_sub(at), pen);
        let (lines, chosen) = screen.completions();
        if lines.len() > 1 && y > 0 {
            completions(lines, chosen, Rect { y: y - 1, ..area }, pen);
        }
        return;
    }
    let mut at = x;
    if let Some(note) = &screen.note {
        let role = if note.bad { Role::Fail } else { Role::Notice };
        at += pen.text(x, y, room, &note.text, role) + 3;
    }
    hints(view, at, y, (x + room).saturating_sub(at), pen);
}

fn hints(view: &View<'_>, x: u16, y: u16, room: u16, pen: &mut Pen<'_>) {
    let all = keys::hints(view.screen);
    let width = |(k, w): &(String, &str)| parts::columns(k) + 1 + parts::columns(w) + 3;
    let total: u16 = all.iter().map(width).sum();
    // The help is the way to everything that does not fit, so it is the last to go.
    let help = all.iter().find(|(k, _)| k == "?").map_or(0, width);
    let short = total > room + 3;
    let limit = if short {
        (room + 3).saturating_sub(help)
    } else {
        room + 3
    };
    let mut used = 0;
    for hint in &all {
        let is_help = hint.0 == "?";
        if short && !is_help && used + width(hint) > limit {
            continue;
        }
        if used + width(hint) > room + 3 {
            break;
        }
        let n = pen.text(x + used, y, room.saturating_sub(used), &hint.0, Role::Key);
        pen.text(
            x + used + n + 1,
            y,
            room.saturating_sub(used + n + 1),
            hint.1,
            Role::Quiet,
        );
        used += width(hint);
    }
}

fn completions(lines: &[String], chosen: usize, area: Rect, pen: &mut Pen<'_>) {
    pen.clear(area);
    let mut x = area.x + 1;
    let end = area.x + area.width;
    // The chosen one stays in sight: start so that it is among those that fit.
    let mut skip = 0;
    while skip < chosen {
        let width: u16 = lines
            .iter()
            .take(chosen + 1)
            .skip(skip)
            .map(|l| parts::columns(l) + 2)
            .sum();
        if width < area.width {
            break;
        }
        skip += 1;
    }
    for (i, line) in lines.iter().enumerate().skip(skip) {
        let n = pen.text(
            x,
            area.y,
            end.saturating_sub(x),
            line,
            if i == chosen { Role::Tab } else { Role::Quiet },
        );
        x = x.saturating_add(n + 2);
        if x >= end {
            break;
        }
    }
}

/// Details, an explanation or the help, over the body.
pub fn page(view: &View<'_>, page: &Page, area: Rect, pen: &mut Pen<'_>) {
    let cursor = view.screen.cursor();
    let rows = usize::from(area.height.saturating_sub(1));
    let top = cursor.top(0, page.lines.len(), rows);
    let n = pen.text(
        area.x + 1,
        area.y,
        area.width.saturating_sub(2),
        &page.title,
        Role::Title,
    );
    if page.lines.len() > rows {
        let place = format!(
            "{}-{} of {}",
            top + 1,
            (top + rows).min(page.lines.len()),
            page.lines.len()
        );
        let w = area.width.saturating_sub(n + 4);
        pen.right(area.x + n + 2, area.y, w, &place, Role::Quiet);
    }
    for (i, line) in page.lines.iter().enumerate().skip(top).take(rows) {
        let y = area.y + 1 + u16::try_from(i - top).unwrap_or(0);
        let mut skip = cursor.x;
        present::number(view, area.x, y, i, pen);
        let mut x = area.x + 1 + present::gutter(view);
        let end = area.x + area.width;
        for (text, role) in &line.spans {
            let (cut, left) = parts::drop_columns(text, skip);
            skip = left;
            x += pen.text(x, y, end.saturating_sub(x), cut, *role);
        }
        if cursor.row(0, page.lines.len()) == Some(i) {
            pen.overlay(area.x, y, area.width, Role::Selected);
        }
        let row = Rect {
            y,
            height: 1,
            ..area
        };
        present::pointer(view, row, i, pen);
    }
}

/// Whether to leave, in the middle of the body.
pub fn dialog(area: Rect, pen: &mut Pen<'_>) {
    let (question, yes, no) = ("Leave ncclscope?", "leave", "stay");
    let width = (parts::columns(question) + 30).min(area.width);
    let rect = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + area.height.saturating_sub(5) / 2,
        width,
        height: 5.min(area.height),
    };
    pen.clear(rect);
    pen.fill(rect.x, rect.y, width, '─', Role::Rule);
    pen.spans(
        rect.x + 2,
        rect.y + 2,
        width.saturating_sub(4),
        &[
            (question, Role::Strong),
            ("   ", Role::Text),
            ("y", Role::Key),
            (" ", Role::Text),
            (yes, Role::Quiet),
            ("   ", Role::Text),
            ("n", Role::Key),
            (" ", Role::Text),
            (no, Role::Quiet),
        ],
    );
    pen.fill(
        rect.x,
        rect.y + rect.height.saturating_sub(1),
        width,
        '─',
        Role::Rule,
    );
}

/// What can be said on a terminal that can't hold a pane: the verdict, and what size would do.
pub fn too_small(view: &View<'_>, area: Rect, least: (u16, u16), pen: &mut Pen<'_>) {
    let (word, role) = parts::verdict(view.scene.verdict);
    let sizes = format!("{}x{} is too small", area.width, area.height);
    let least = format!("needs {}x{}", least.0, least.1);
    let lines: [(&str, Role); 3] = [(word, role), (&sizes, Role::Text), (&least, Role::Text)];
    let top = area.height.saturating_sub(3) / 2;
    for (i, (text, role)) in lines.iter().enumerate() {
        let y = top + u16::try_from(i).unwrap_or(0);
        if y < area.height {
            let w = parts::columns(text).min(area.width);
            pen.text(area.x + (area.width - w) / 2, area.y + y, w, text, *role);
        }
    }
}

/// A page for a key that has nothing to show.
#[must_use]
pub fn nothing(verb: &str) -> Page {
    let mut page = Page::about(format!("nothing to {verb} here"));
    page.line(&[("Select something that is there, or press esc.", Role::Quiet)]);
    page
}

/// What is about to be done, whole, before somebody says yes.
#[must_use]
pub fn question(question: &Question, width: u16) -> Page {
    let level = match question.level {
        Level::Observe => "observe",
        Level::Probe => "probe: only reads",
        Level::Act => "act: changes something",
    };
    let whole = format!("{} · {level}", question.text);
    // What is asked is never cut off.
    let mut page = if parts::columns(&whole) <= width.saturating_sub(2) {
        Page::about(whole)
    } else {
        let mut page = Page::about(level);
        page.prose(&question.text, width.saturating_sub(2), 0, Role::Strong);
        page
    };
    page.gap();
    match &question.word {
        Some(word) => page.line(&[
            ("y", Role::Key),
            (", then type ", Role::Text),
            (word, Role::Strong),
            (" to go on; ", Role::Text),
            ("n", Role::Key),
            (" leaves everything as it is", Role::Text),
        ]),
        None => page.line(&[
            ("y", Role::Key),
            (" yes   ", Role::Text),
            ("n", Role::Key),
            (" no, everything stays as it is", Role::Text),
        ]),
    }
    page.gap();
    let room = width.saturating_sub(2);
    for line in question.body.lines() {
        if parts::columns(line) <= room {
            page.line(&[(line, Role::Text)]);
            continue;
        }
        let text = line.trim_start();
        let indent = parts::columns(line).saturating_sub(parts::columns(text));
        page.prose(text, room, indent, Role::Text);
    }
    page
}
