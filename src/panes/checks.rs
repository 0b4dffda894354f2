//! The checklist: each check with what was run, what came back, and the fix.

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::table::{self, Column};
use super::{Page, Pane, View};
use crate::model::event::Feed;
use crate::model::screen::{Counts, PaneId};
use crate::rules::scene::{CheckVerdict, CheckView, Scene};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Checks,
    title: "the checklist: what was run, what came back, the fix",
    min: (36, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge,
};

type Numbered<'a> = (usize, &'a CheckView);

const WHOM: &str = "WHOM";

fn columns<'a>() -> [Column<Numbered<'a>>; 5] {
    [
        Column {
            head: "#",
            right: true,
            gives: 0,
            most: 4,
            value: |(i, _), _| ((i + 1).to_string(), Role::Label),
        },
        Column {
            head: "VERDICT",
            right: false,
            gives: 0,
            most: 8,
            value: |(_, c), _| {
                let (word, role) = parts::outcome(c.verdict);
                (word.to_owned(), role)
            },
        },
        Column {
            head: "CHECK",
            right: false,
            gives: 0,
            most: 28,
            value: |(_, c), _| (c.title.clone(), Role::Text),
        },
        Column {
            head: WHOM,
            right: false,
            gives: 2,
            most: 24,
            value: |(_, c), _| (c.subject.clone(), Role::Quiet),
        },
        Column {
            head: "WHAT CAME BACK",
            right: false,
            gives: 1,
            most: 0,
            value: |(_, c), _| {
                let first = c.output.lines().next().unwrap_or_default();
                let fix = c
                    .fix
                    .first()
                    .filter(|_| bad(c))
                    .map_or(String::new(), |f| format!("   fix: {f}"));
                (format!("{first}{fix}"), Role::Text)
            },
        },
    ]
}

fn bad(check: &CheckView) -> bool {
    matches!(check.verdict, CheckVerdict::Warn | CheckVerdict::Fail)
}

/// The check that went worst, with its number.
pub(super) fn worst(scene: &Scene) -> Option<(usize, &CheckView)> {
    let all = scene.checks.iter().enumerate().filter(|(_, c)| bad(c));
    let worst = all.min_by_key(|(i, c)| (std::cmp::Reverse(c.verdict), *i));
    worst.map(|(i, c)| (i + 1, c))
}

/// How many went wrong.
pub(super) fn failed(scene: &Scene) -> usize {
    scene.checks.iter().filter(|c| bad(c)).count()
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let (_, worst) = worst(scene)?;
    Some((failed(scene), parts::outcome(worst.verdict).1))
}

fn listed<'a>(view: &View<'a>) -> Vec<Numbered<'a>> {
    let filter = view.screen.filter().to_lowercase();
    let has = |t: &str| t.to_lowercase().contains(&filter);
    let all = view.scene.checks.iter().enumerate();
    all.filter(|(_, c)| {
        filter.is_empty() || has(&c.title) || has(c.id) || has(parts::outcome(c.verdict).0)
    })
    .collect()
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = listed(view);
    let copy = |(_, c): &Numbered<'_>| c.fix.first().cloned().unwrap_or_else(|| c.output.clone());
    Counts {
        check: table::selected(view, PaneId::Checks, &rows).map(|(_, c)| c.id.to_owned()),
        ..table::counts(view, PaneId::Checks, &rows, body, copy, |(_, c)| bad(c))
    }
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = listed(view);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let checks = &view.scene.checks;
    if checks.is_empty() {
        let why = match view.session.feed {
            Feed::Files | Feed::Replay => {
                "There is nothing to look at. What lines prove is among the findings (6)."
            }
            _ => "They run by themselves as soon as there is something to look at.",
        };
        pen.text(x, area.y, width, "No check has run.", Role::Strong);
        pen.wrapped(
            x,
            area.y + 1,
            width,
            area.height.saturating_sub(1),
            why,
            Role::Quiet,
        );
        return;
    }
    let of = |v: CheckVerdict| checks.iter().filter(|c| c.verdict == v).count();
    let (fail, warn) = (of(CheckVerdict::Fail), of(CheckVerdict::Warn));
    let (sentence, role) = match checks
        .iter()
        .find(|c| c.verdict == CheckVerdict::Fail)
        .or_else(|| checks.iter().find(|c| bad(c)))
    {
        Some(first) => {
            let more = if fail + warn > 1 {
                format!(", and {} more", fail + warn - 1)
            } else {
                String::new()
            };
            (
                format!(
                    "{}: {}{more}",
                    first.title,
                    first.output.lines().next().unwrap_or_default()
                ),
                parts::outcome(first.verdict).1,
            )
        }
        None => {
            let (pass, all) = (of(CheckVerdict::Pass), checks.len());
            (
                format!(
                    "{pass} of {} pass, none fails",
                    parts::count(all as u64, "check", "checks")
                ),
                Role::Strong,
            )
        }
    };
    let head = (sentence.as_str(), role);
    let columns = columns();
    // Whom it is about stands in the answer, too: where that has little room it goes first.
    let wide = |c: &&Column<Numbered<'_>>| width >= 100 || c.head != WHOM;
    let columns: Vec<&Column<Numbered<'_>>> = columns.iter().filter(wide).collect();
    table::headed(view, PaneId::Checks, head, &columns, &rows, area, pen);
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = listed(view);
    let (index, check) = table::selected(view, PaneId::Checks, &rows)?;
    let mut page = Page::about(format!("check {}   {}", index + 1, check.title));
    let (word, role) = parts::outcome(check.verdict);
    page.line(&[
        (word, role),
        (&format!("   {}", check.subject), Role::Quiet),
    ]);
    page.line(&[("id   ", Role::Label), (check.id, Role::Text)]);
    if let Some(at) = check.at {
        page.line(&[("at   ", Role::Label), (&parts::clock(at), Role::Text)]);
    }
    if !check.ran.is_empty() {
        page.head("WHAT WAS RUN");
        page.code(&check.ran);
    }
    page.head("WHAT CAME BACK");
    for line in check.output.lines() {
        page.prose(line, width.saturating_sub(4), 2, Role::Text);
    }
    if !check.fix.is_empty() {
        page.head("FIX");
        for fix in &check.fix {
            page.code(fix);
        }
    }
    Some(page)
}
