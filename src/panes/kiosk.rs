//! The wall of a lab: the verdict in big letters, bad news first, then one pane after another. No keys.

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{View, chrome, findings, reach};
use crate::model::kiosk::{Bad, Kiosk};
use crate::model::screen::PaneId;
use crate::parse::At;
use crate::rules::scene::{Finding, Scene, Severity, Verdict};
use crate::theme::Role;

/// Rows of the big letters.
const BIG: u16 = 3;

/// Columns of a big letter with the gap after it.
const LETTER: u16 = 6;

/// Lines of a fix that are shown.
const FIX_LINES: usize = 6;

/// Letters of the words that are shown big: five rows of five dots, the highest bit is the leftmost.
const LETTERS: &[(char, [u8; 5])] = &[
    ('A', [0b01110, 0b10001, 0b11111, 0b10001, 0b10001]),
    ('B', [0b11110, 0b10001, 0b11110, 0b10001, 0b11110]),
    ('D', [0b11110, 0b10001, 0b10001, 0b10001, 0b11110]),
    ('E', [0b11111, 0b10000, 0b11110, 0b10000, 0b11111]),
    ('F', [0b11111, 0b10000, 0b11110, 0b10000, 0b10000]),
    ('G', [0b01111, 0b10000, 0b10011, 0b10001, 0b01111]),
    ('H', [0b10001, 0b10001, 0b11111, 0b10001, 0b10001]),
    ('I', [0b01110, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('K', [0b10001, 0b10010, 0b11100, 0b10010, 0b10001]),
    ('L', [0b10000, 0b10000, 0b10000, 0b10000, 0b11111]),
    ('N', [0b10001, 0b11001, 0b10101, 0b10011, 0b10001]),
    ('O', [0b01110, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('R', [0b11110, 0b10001, 0b11110, 0b10010, 0b10001]),
    ('S', [0b01111, 0b10000, 0b01110, 0b00001, 0b11110]),
    ('T', [0b11111, 0b00100, 0b00100, 0b00100, 0b00100]),
    ('U', [0b10001, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('W', [0b10001, 0b10001, 0b10101, 0b10101, 0b01010]),
    ('Y', [0b10001, 0b01010, 0b00100, 0b00100, 0b00100]),
];

/// Where the parts of the wall are.
struct Parts {
    top: Rect,
    big: Rect,
    sentence: Rect,
    banner: Rect,
    title: Rect,
    body: Rect,
}

fn split(area: Rect, banner: bool) -> Parts {
    let side = if area.width >= 100 { 3 } else { 1 };
    let width = area.width.saturating_sub(2 * side);
    let row = |y: u16, height: u16| Rect {
        x: area.x + side,
        y: area.y + y.min(area.height),
        width,
        height: height.min(area.height.saturating_sub(y)),
    };
    let air = u16::from(area.height >= 24);
    let big = if area.height >= 16 && area.width >= 52 {
        BIG
    } else {
        1
    };
    let mut y = air;
    let mut next = |height: u16, gap: u16| {
        let at = row(y, height);
        y += height + gap;
        at
    };
    let top = next(1, air);
    let big = next(big, air);
    let sentence = next(if area.height >= 24 { 2 } else { 1 }, air);
    let banner = next(u16::from(banner), u16::from(banner) * air);
    let title = next(1, air);
    let left = area.height.saturating_sub(y + air);
    let body = row(y, left);
    Parts {
        top,
        big,
        sentence,
        banner,
        title,
        body,
    }
}

/// What the pane of this turn is told to fill.
#[must_use]
pub fn canvas(kiosk: &Kiosk, area: Rect) -> (Rect, Rect) {
    let body = split(area, has_banner(kiosk)).body;
    // The matrix is worth most when it is whole.
    let canvas = match kiosk.pane() {
        PaneId::Matrix => body,
        _ => super::present::shrunk(body),
    };
    (canvas, body)
}

fn has_banner(kiosk: &Kiosk) -> bool {
    (kiosk.troubled() && !kiosk.holds()) || kiosk.elsewhere().next().is_some()
}

/// What is bad now, for the wall to hold: the first finding that changes the verdict, else the verdict itself.
#[must_use]
pub fn news(scene: &Scene) -> Option<Bad> {
    if scene.verdict < Verdict::Degraded {
        return None;
    }
    Some(match worst(scene) {
        Some((_, finding)) => Bad {
            key: finding.key.clone(),
            sentence: finding.title.clone(),
        },
        None => Bad {
            key: parts::verdict(scene.verdict).0.to_owned(),
            sentence: scene.summary.clone(),
        },
    })
}

fn worst(scene: &Scene) -> Option<(usize, &Finding)> {
    let mut all = scene.findings.iter().enumerate();
    all.find(|(_, f)| f.severity > Severity::Info)
}

/// Everything but the pane; true where the pane is to be drawn into the body.
pub fn frame(view: &View<'_>, kiosk: &Kiosk, area: Rect, pen: &mut Pen<'_>) -> bool {
    let parts = split(area, has_banner(kiosk));
    let blind = kiosk.blind();
    let (word, role) = if blind.is_empty() {
        parts::verdict(view.scene.verdict)
    } else {
        ("BLIND", Role::Fail)
    };
    top(view, kiosk, parts.top, pen);
    let used = big(view, word, role, parts.big, pen);
    facts(view, &parts.big, used, pen);
    sentence(view, &blind, parts.sentence, pen);
    banner(view, kiosk, parts.banner, pen);
    title(view, kiosk, parts.title, pen);
    let holds = kiosk.holds();
    if holds {
        held(view, parts.body, pen);
    }
    !holds
}

/// What is watched, what time it is, how old the newest fact is.
fn top(view: &View<'_>, kiosk: &Kiosk, area: Rect, pen: &mut Pen<'_>) {
    let age = match kiosk.age() {
        Some(age) => format!("facts {} old", parts::duration(age)),
        None => "no facts yet".to_owned(),
    };
    let clock = view.scene.now.filter(|_| kiosk.now() > 0).map(|now| {
        let at = At {
            ns: kiosk.now(),
            ..now
        };
        format!("   {}", parts::clock(at))
    });
    let right = format!("{age}{}", clock.unwrap_or_default());
    let taken = parts::columns(&right) + 3;
    let s = view.session;
    let mut path: Vec<String> = Vec::new();
    path.extend(s.context.clone());
    path.extend(s.namespace.clone());
    path.extend(s.workload.clone());
    let mut what = path.join(" › ");
    if let Some((n, of)) = kiosk.turn() {
        what.push_str(&format!("   {n} of {of}"));
    }
    if what.is_empty() {
        what.push_str(&chrome::subject(s));
    }
    let room = area.width.saturating_sub(taken);
    pen.text(
        area.x,
        area.y,
        room,
        &parts::tail(&what, room),
        Role::Strong,
    );
    pen.right(area.x, area.y, area.width, &right, Role::Strong);
}

/// A word three rows high where there is room and blocks to build it of; says how many columns it took.
fn big(view: &View<'_>, word: &str, role: Role, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let letters = u16::try_from(word.len()).unwrap_or(u16::MAX);
    if area.height < BIG || view.theme.ascii() || letters.saturating_mul(LETTER) > area.width {
        let spaced: Vec<String> = word.chars().map(String::from).collect();
        let y = area.y + area.height / 2;
        return pen.text(area.x, y, area.width, &spaced.join(" "), role);
    }
    let mut x = area.x;
    for c in word.chars() {
        let Some((_, rows)) = LETTERS.iter().find(|(l, _)| *l == c) else {
            continue;
        };
        let dot = |row: usize, column: u16| {
            let row = rows.get(row).copied().unwrap_or(0);
            row & (0b10000 >> column) != 0
        };
        for y in 0..BIG {
            for column in 0..5 {
                let row = usize::from(y) * 2;
                let block = match (dot(row, column), dot(row + 1, column)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => continue,
                };
                pen.fill(x + column, area.y + y, 1, block, role);
            }
        }
        x += LETTER;
    }
    x - area.x
}

/// Beside the big word: how many of what, a line each.
fn facts(view: &View<'_>, area: &Rect, used: u16, pen: &mut Pen<'_>) {
    let room = area.width.saturating_sub(used + 4);
    if room < 12 || area.height < BIG {
        return;
    }
    let facts = chrome::size_of_job(view.scene);
    let rows: Vec<String> = facts.chunks(2).map(|pair| pair.join("   ")).collect();
    for (text, y) in rows.iter().zip(0..BIG) {
        pen.text(area.x + used + 4, area.y + y, room, text, Role::Strong);
    }
}

/// The verdict's sentence; where nothing is seen, why, and what was last known.
fn sentence(view: &View<'_>, blind: &[String], area: Rect, pen: &mut Pen<'_>) {
    let said = if let Some(why) = reach::unreached(view) {
        why
    } else if blind.is_empty() {
        view.scene.summary.clone()
    } else {
        let last = parts::verdict(view.scene.verdict).0.to_lowercase();
        format!("{}; last known: {last}", blind.join("; "))
    };
    let text = if said.is_empty() {
        "Nothing has been seen yet that allows a verdict.".to_owned()
    } else {
        said
    };
    pen.wrapped(area.x, area.y, area.width, area.height, &text, Role::Strong);
}

/// What is bad, in one line, until it clears.
fn banner(view: &View<'_>, kiosk: &Kiosk, area: Rect, pen: &mut Pen<'_>) {
    if area.height == 0 {
        return;
    }
    let mut said: Vec<String> = Vec::new();
    if kiosk.troubled()
        && let Some(bad) = news(view.scene)
    {
        let since = worst(view.scene).and_then(|(_, f)| f.since);
        let since = since.map_or(String::new(), |at| format!(" since {}", parts::clock(at)));
        said.push(format!("{}{since}", bad.sentence));
    }
    said.extend(kiosk.elsewhere().map(|(w, what)| format!("{w}: {what}")));
    if said.is_empty() {
        return;
    }
    let role = if view.scene.verdict == Verdict::Failed {
        Role::Fail
    } else {
        Role::Warn
    };
    let text = format!(" !  {}", said.join("   ·   "));
    pen.text(area.x, area.y, area.width, &text, role);
    pen.overlay(area.x, area.y, area.width, Role::Downgrade);
}

/// Which pane this is, or that news is held.
fn title(view: &View<'_>, kiosk: &Kiosk, area: Rect, pen: &mut Pen<'_>) {
    if kiosk.holds() {
        let (n, of) = match worst(view.scene) {
            Some((i, _)) => (i + 1, findings::causes(view.scene)),
            None => (0, 0),
        };
        let text = match of {
            0 | 1 => "what is wrong".to_owned(),
            _ => format!("what is wrong, finding {n} of {of}"),
        };
        pen.text(area.x, area.y, area.width, &text, Role::Tab);
        return;
    }
    let Some(pane) = super::pane(kiosk.pane()) else {
        return;
    };
    let (n, of) = kiosk.place();
    let place = if of > 1 {
        format!("{n} of {of}")
    } else {
        String::new()
    };
    let room = area.width.saturating_sub(parts::columns(&place) + 3);
    let spans = [
        (pane.id.id(), Role::Tab),
        ("   ", Role::Text),
        (pane.title, Role::Text),
    ];
    pen.spans(area.x, area.y, room, &spans);
    pen.right(area.x, area.y, area.width, &place, Role::Text);
}

/// Bad news: what, why, what to do, what proves it.
fn held(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let Some((index, finding)) = worst(view.scene) else {
        pen.wrapped(
            area.x,
            area.y,
            area.width,
            area.height,
            &view.scene.summary,
            Role::Strong,
        );
        return;
    };
    let mut y = area.y;
    let bottom = area.bottom();
    let air = u16::from(area.height >= 12);
    let (word, role) = parts::severity(finding.severity);
    let whose = findings::whose(view.scene, finding);
    let head = format!("{}  {}{whose}", index + 1, finding.title);
    y += pen.wrapped(area.x, y, area.width, 2.min(bottom - y), &head, role);
    let since = finding
        .since
        .map_or(String::new(), |at| format!(" since {}", parts::clock(at)));
    if y < bottom {
        pen.text(
            area.x + 3,
            y,
            area.width.saturating_sub(3),
            &format!("{word}{since}"),
            Role::Text,
        );
        y += 1 + air;
    }
    let width = area.width.saturating_sub(3).min(120);
    // What is to be done has its rows before why: who knows it can act.
    let fix: Vec<&str> = finding.fix.iter().flat_map(|f| f.lines()).collect();
    let fix: Vec<String> = (fix.iter().take(FIX_LINES))
        .flat_map(|line| broken(line, width))
        .collect();
    let left = bottom.saturating_sub(y);
    if left > 0 && !finding.cause.is_empty() {
        let told = u16::try_from(fix.len()).unwrap_or(u16::MAX);
        let most = left.saturating_sub(told.saturating_add(air)).clamp(1, 4);
        y += pen.wrapped(area.x + 3, y, width, most, &finding.cause, Role::Text) + air;
    }
    let left = usize::from(bottom.saturating_sub(y));
    for (i, line) in fix.iter().take(left).enumerate() {
        let cut = i + 1 == left && fix.len() > left;
        let more = if cut { " …" } else { "" };
        let room = area.width.saturating_sub(3);
        pen.text(area.x + 3, y, room, &format!("{line}{more}"), Role::Code);
        y += 1;
    }
    if y >= bottom {
        return;
    }
    let others = findings::causes(view.scene).saturating_sub(1);
    if y + air < bottom && others > 0 {
        let more = format!(
            "and {}",
            parts::count(others as u64, "more finding", "more findings")
        );
        pen.text(area.x + 3, y + air, width, &more, Role::Text);
    }
}

/// A line of a fix in lines of so many columns: what does not fit goes on deeper in, and what is indented stays so.
fn broken(line: &str, width: u16) -> Vec<String> {
    let body = line.trim_start();
    let deep = u16::try_from(line.len() - body.len()).unwrap_or(0);
    let pad = " ".repeat(usize::from(deep.min(width / 2)));
    let room = width.saturating_sub(parts::columns(&pad));
    if parts::columns(body) <= room {
        return vec![format!("{pad}{body}")];
    }
    let lines = parts::wrap(body, room.saturating_sub(2));
    let deeper = |(i, line): (usize, String)| match i {
        0 => format!("{pad}{line}"),
        _ => format!("{pad}  {line}"),
    };
    lines.into_iter().enumerate().map(deeper).collect()
}
