//! Is it well? If not: why, where, since when, what to do.

mod events;
mod ladder;
pub(super) mod rungs;
mod serving;

pub(super) use ladder::counted;

use ratatui::layout::Rect;

use super::matrix::{self, Grid};
use super::parts::{self, Pen};
use super::{Pane, View, checks, findings, present, reach, vram};
use crate::model::screen::PaneId;
use crate::rules::scene::{CheckView, Finding, Scene, Severity, Verdict};
use crate::rules::testing::state;
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Overview,
    title: "is it well, and if not: why, where, since when, what to do",
    min: (36, 5),
    draw,
    counts: findings::counts,
    drill: findings::drill,
    explain: findings::drill,
    badge: |_| None,
};

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let inner = Rect {
        x: area.x + 1,
        width: area.width.saturating_sub(2),
        ..area
    };
    let bottom = area.y + area.height;
    let rungs = rungs::rungs(view.scene);
    let place = |y: u16, height: u16| Rect { y, height, ..inner };
    let mut y = area.y;
    y += sentence(view, place(y, bottom - y), pen);
    let kept = Kept::of(view, &rungs, place(y, bottom - y));
    let most = most(view, area.height).min((bottom - y).saturating_sub(kept.all()));
    y += problems(view, place(y, most), pen);
    y += checked(view, place(y, bottom - y), pen);
    y += tested(view, place(y, bottom - y), pen);
    let air = |y: u16| u16::from(area.height >= AIRY && y > area.y);
    if y + air(y) + 2 <= bottom {
        y += air(y);
        // The ladder may take half of what is left, as far as the others don't need it.
        let half = ((bottom - y) / 2).max(4);
        let free = (bottom - y).saturating_sub(kept.after_ladder()).max(2);
        y += ladder::draw(view, &rungs, place(y, half.min(free).min(bottom - y)), pen);
    }
    if !view.scene.serving.is_empty() && y + air(y) < bottom {
        let free = (bottom - y - air(y)).saturating_sub(kept.memory + kept.below);
        let room = place(y + air(y), free.clamp(1, 3));
        y = room.y + serving::draw(view, room, pen);
    }
    // Memory beside it: a third where matrix and events keep room enough; where a GPU needs eyes what they can do
    // without; else its head alone, unless all of it fits above a matrix.
    let rest = bottom.saturating_sub(y + air(y));
    let (least, all) = vram::strip_rows(view.scene, inner.width);
    let troubled = vram::troubled(view.scene);
    let most = match rest {
        9.. => ((bottom - y) / 3).clamp(3, 8),
        _ if troubled => rest.saturating_sub(kept.below).clamp(least, least.max(8)),
        _ if all + air(y) + MATRIX <= rest => all,
        _ => kept.memory.min(least),
    };
    if most > 0 && most <= rest {
        let lines = vram::strip(view, place(y + air(y), most), pen);
        if lines > 0 {
            y += air(y) + lines;
        }
    }
    if y + air(y) + BELOW <= bottom {
        y += air(y);
        below(view, place(y, bottom - y), pen);
    }
}

/// Height of a body from which on sections have air between them.
const AIRY: u16 = 14;
/// Rows of the findings without which they say nothing: title, why, what to do, how many more.
const FINDINGS: u16 = 4;
/// Rows without which the events say nothing: their head and the latest two.
const BELOW: u16 = 3;
/// Rows without which the small matrix does.
const MATRIX: u16 = 4;

/// Rows kept for the sections behind the findings, the air above each included, so that a long finding takes none of
/// them off the screen.
#[derive(Default)]
struct Kept {
    /// The worst check and the test, a line each.
    told: u16,
    ladder: u16,
    serving: u16,
    memory: u16,
    below: u16,
}

impl Kept {
    fn of(view: &View<'_>, rungs: &[rungs::Rung], area: Rect) -> Self {
        let mut kept = Self::default();
        // Lower terminals are for who asks what is wrong.
        if area.height < AIRY {
            return kept;
        }
        let mut free = area.height;
        let mut keep = |rows: u16, air: u16| {
            let rows = Some(rows + air).filter(|n| rows > 0 && *n <= free);
            free -= rows.unwrap_or(0);
            rows.unwrap_or(0)
        };
        let scene = view.scene;
        kept.told = keep(u16::from(check(scene).is_some()), 0);
        kept.told += keep(u16::from(scene.test.is_some()), 0);
        let listed = findings::listed(view);
        keep(
            FINDINGS.min(u16::try_from(listed.len() * 4).unwrap_or(FINDINGS)),
            0,
        );
        kept.ladder = keep(if rungs.len() > 1 { 3 } else { 2 }, 1);
        kept.serving = keep(u16::from(!scene.serving.is_empty()), 1);
        let (memory, _) = vram::strip_rows(scene, area.width);
        if vram::troubled(scene) {
            kept.memory = keep(memory, 1);
            kept.below = keep(BELOW, 1);
        } else {
            kept.below = keep(BELOW, 1);
            kept.memory = keep(memory, 1);
        }
        kept
    }

    fn all(&self) -> u16 {
        self.told + self.ladder + self.after_ladder()
    }

    fn after_ladder(&self) -> u16 {
        self.serving + self.memory + self.below
    }
}

/// Rows that the findings may take: half of them; where that is few, all but those of a ladder of two lines, and where
/// no ladder would fit, all.
fn most(view: &View<'_>, height: u16) -> u16 {
    let ladder = if rungs::rungs(view.scene).is_empty() {
        0
    } else {
        3
    };
    match height {
        14.. => height / 2,
        6..=13 => height - ladder,
        _ => height,
    }
}

/// The sentence, unless the first finding says the same.
fn sentence(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let scene = view.scene;
    if scene
        .findings
        .first()
        .is_some_and(|f| f.title == scene.summary)
        || area.height == 0
    {
        return 0;
    }
    let (_, role) = parts::verdict(scene.verdict);
    let role = if scene.verdict == Verdict::Healthy {
        Role::Strong
    } else {
        role
    };
    let unreached = reach::unreached(view);
    let text = match (&unreached, scene.summary.as_str()) {
        (Some(why), _) => why.as_str(),
        (None, "") => "Nothing has been seen yet that allows a verdict.",
        (None, said) => said,
    };
    let role = if unreached.is_some() {
        Role::Fail
    } else {
        role
    };
    pen.wrapped(area.x, area.y, area.width, 2.min(area.height), text, role)
}

/// The check that went worst, where no finding speaks for it.
fn check(scene: &Scene) -> Option<(usize, &CheckView)> {
    let loud = |f: &Finding| f.severity > Severity::Info;
    let silent = !scene.findings.iter().any(loud);
    checks::worst(scene).filter(|_| silent)
}

/// That check in words: no finding may follow from it, and a number in the tabs says too little.
fn checked(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let Some((number, check)) = check(view.scene).filter(|_| area.height > 0) else {
        return 0;
    };
    let (word, role) = parts::outcome(check.verdict);
    let where_ = match checks::failed(view.scene) {
        1 => "5 shows it".to_owned(),
        n => format!("5 shows {n}"),
    };
    let said = check.output.lines().next().unwrap_or_default();
    let whose = Some(check.subject.as_str())
        .filter(|s| !s.is_empty() && !said.contains(s))
        .map_or(String::new(), |s| format!("{s}: "));
    let head = format!("CHECK {number}  ");
    let room = area.width.saturating_sub(parts::columns(&where_) + 2);
    pen.spans(
        area.x,
        area.y,
        room,
        &[
            (&head, Role::Label),
            (word, role),
            (&format!("  {}: {whose}{said}", check.title), Role::Text),
        ],
    );
    pen.right(area.x, area.y, area.width, &where_, Role::Quiet);
    1
}

/// The all-reduce test in a line: the workload's verdict is its own, and a bad test must not be silent beside it.
fn tested(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let Some(test) = view.scene.test.as_deref().filter(|_| area.height > 0) else {
        return 0;
    };
    let (word, grade) = state(test);
    let where_ = "7 shows it";
    let right = parts::columns(where_) + 2;
    let n = pen.text(area.x, area.y, area.width, "ALL-REDUCE TEST  ", Role::Label);
    let at = area.x + n;
    let n =
        n + pen.text(
            at,
            area.y,
            area.width.saturating_sub(n),
            word,
            super::test::role(grade),
        ) + 2;
    let room = area.width.saturating_sub(n + right);
    pen.text(area.x + n, area.y, room, &test.sentence, Role::Text);
    pen.right(area.x, area.y, area.width, where_, Role::Quiet);
    1
}

/// The findings: the selected one with its cause and its fix, the others a line each.
fn problems(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let rows = findings::listed(view);
    if area.height == 0 {
        return 0;
    }
    let filter = view.screen.filter();
    let unseen = findings::causes(view.scene).saturating_sub(rows.len());
    let unseen = Some(unseen).filter(|n| *n > 0 && !filter.is_empty());
    if rows.is_empty() {
        // A verdict without its reason would be a riddle.
        return unseen.map_or(0, |n| {
            let what = parts::count(n as u64, "finding", "findings");
            let text = format!("{what} hidden by the filter /{filter}");
            pen.text(area.x, area.y, area.width, &text, Role::Warn);
            1
        });
    }
    let chosen = view.screen.cursor().row(0, rows.len()).unwrap_or(0);
    let told = rows.get(chosen).map(|(_, finding)| {
        let told = Told::of(view, finding, area.width);
        told.fit(rows.len() - 1, area.height)
    });
    let Some((told, lines)) = told else {
        return 0;
    };
    let hidden = rows.len() > lines;
    let lines = if hidden && lines > 1 {
        lines - 1
    } else {
        lines
    };
    let top = view.screen.cursor().top(0, rows.len(), lines);
    let mut y = area.y;
    for (row, (index, finding)) in rows.iter().enumerate().skip(top).take(lines) {
        let height = if row == chosen { told.title } else { 1 };
        title(view, *index, finding, Rect { y, height, ..area }, pen);
        if row == chosen && rows.len() > 1 {
            pen.overlay(area.x - 1, y, area.width + 2, Role::Selected);
        }
        let line = Rect {
            x: area.x - 1,
            y,
            width: area.width + 2,
            height: 1,
        };
        present::pointer(view, line, row, pen);
        y += height;
        if row != chosen {
            continue;
        }
        let x = area.x + 3;
        let width = area.width.saturating_sub(3);
        y += pen.wrapped(x, y, width, told.cause, &finding.cause, Role::Text);
        if told.fix > 0 {
            let n = pen.text(x, y, width, FIX, Role::Label);
            let (x, width) = (x + n, width.saturating_sub(n));
            y += pen.wrapped(x, y, width, told.fix, fix(finding), Role::Code);
        }
    }
    let left = rows.len().saturating_sub(lines);
    let quiet = |f: &&Finding| f.severity == Severity::Info && f.consequence_of.is_none();
    let all = view.scene.findings.iter().filter(quiet).count();
    let notes = all - rows.iter().filter(|(_, f)| quiet(f)).count();
    let notes = Some(notes).filter(|n| *n > 0 && view.screen.filter().is_empty());
    let more = Some(left)
        .filter(|n| *n > 0)
        .map(|n| parts::count(n as u64, "more finding", "more findings"));
    let notes = notes.map(|n| parts::count(n as u64, "note", "notes"));
    let mut said: Vec<String> = more.into_iter().chain(notes).collect();
    let unseen = unseen.map(|n| format!("{n} hidden by the filter"));
    if !(said.is_empty() && unseen.is_none()) && y < area.y + area.height {
        if let Some(last) = said.last_mut() {
            last.push_str(": 6 shows all");
        }
        said.extend(unseen);
        let text = format!("… {}", said.join(", "));
        pen.text(
            area.x + 3,
            y,
            area.width.saturating_sub(3),
            &text,
            Role::Quiet,
        );
        y += 1;
    }
    y - area.y
}

/// Before what is to be done.
const FIX: &str = "fix   ";

/// What is to be done, as it is shown: its first line.
fn fix(finding: &Finding) -> &str {
    let first = finding.fix.first().and_then(|f| f.lines().next());
    first.unwrap_or_default()
}

/// Rows of the selected finding's title, cause and fix.
struct Told {
    title: u16,
    cause: u16,
    fix: u16,
}

impl Told {
    /// As many as they need.
    fn of(view: &View<'_>, finding: &Finding, width: u16) -> Self {
        let rows = |text: &str, width: u16| match text {
            "" => 0,
            text => u16::try_from(parts::wrap(text, width).len()).unwrap_or(u16::MAX),
        };
        let told = width.saturating_sub(3);
        let (text, _, right) = headline(view, finding, width);
        Self {
            title: rows(&text, told.saturating_sub(right + 2)).max(1),
            cause: rows(&finding.cause, told),
            fix: rows(fix(finding), told.saturating_sub(parts::columns(FIX))),
        }
    }

    /// As many as there is room for beside other findings, and the lines that all findings take together: a line of
    /// each first, the fix before the cause, because who knows what to do can act.
    fn fit(&self, others: usize, height: u16) -> (Self, usize) {
        let mut room = height;
        let mut take = |want: u16| {
            let n = want.min(room);
            room -= n;
            n
        };
        let title = take(1);
        let fix = take(self.fix.min(1));
        let cause = take(self.cause.min(1));
        let more = [
            self.title.saturating_sub(title).min(2),
            self.fix.saturating_sub(fix),
            self.cause.saturating_sub(cause),
        ];
        // The others leave it what it needs, and at most half.
        let needed: u16 = more.iter().fold(0, |a, b| a.saturating_add(*b));
        let rest = height.saturating_sub(title + fix + cause);
        let others = u16::try_from(others).unwrap_or(u16::MAX);
        let others = take(others.min(rest.saturating_sub(needed).max(rest - rest / 2)));
        let [more_title, more_fix, more_cause] = more.map(take);
        let told = Self {
            title: title + more_title,
            cause: cause + more_cause,
            fix: fix + more_fix,
        };
        (told, usize::from(others + 1))
    }
}

/// What a finding is called, of which the first columns say what it follows from; and the columns on its right.
fn headline(view: &View<'_>, finding: &Finding, width: u16) -> (String, u16, u16) {
    let (word, _) = parts::severity(finding.severity);
    let since = since(finding, width);
    let echo =
        findings::follows(view.scene, finding).map_or(String::new(), |why| format!("{why}: "));
    let right = parts::columns(word) + parts::columns(&since);
    (
        format!("{echo}{}", finding.title),
        parts::columns(&echo),
        right,
    )
}

fn since(finding: &Finding, width: u16) -> String {
    match finding.since {
        Some(at) if width >= 60 => format!("   since {}", parts::clock(at)),
        _ => String::new(),
    }
}

/// ` 1  GPUs of … talk over TCP            error   since 03:14:07`
fn title(view: &View<'_>, index: usize, finding: &Finding, area: Rect, pen: &mut Pen<'_>) {
    let (word, role) = parts::severity(finding.severity);
    let (text, echo, right) = headline(view, finding, area.width);
    let (x, y) = (area.x, area.y);
    pen.text(x, y, 3, &format!("{}", index + 1), Role::Label);
    let room = area.width.saturating_sub(3 + right + 2);
    let loud = if finding.severity == Severity::Info {
        Role::Text
    } else {
        Role::Strong
    };
    let whose = findings::whose(view.scene, finding);
    let used = if area.height > 1 {
        pen.wrapped(x + 3, y, room, area.height, &text, loud);
        room
    } else {
        pen.text(x + 3, y, room, &text, loud)
    };
    pen.overlay(x + 3, y, echo.min(room), Role::Quiet);
    if parts::columns(&whose) <= room.saturating_sub(used) {
        pen.text(x + 3 + used, y, room - used, &whose, Role::Quiet);
    }
    let at = x + area.width.saturating_sub(right);
    let n = pen.text(at, y, right, word, role);
    let since = since(finding, area.width);
    pen.text(at + n, y, right.saturating_sub(n), &since, Role::Quiet);
}

/// Small matrix and latest events, side by side.
fn below(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let events = events::of(view.scene, view.model.pods.events().rev());
    let mut x = area.x;
    let first = view.scene.matrices.first();
    let fits = area.height >= MATRIX || events.is_empty();
    if let Some(matrix) = first.filter(|m| fits && matrix::tells(view.scene, m)) {
        let few = matrix.slots.len() <= 16 && usize::from(area.height) > matrix.slots.len() + 2;
        let grid = if few || Grid::nodes_in(matrix) < 2 {
            Grid::by_rank(matrix, "")
        } else {
            Grid::by_node(matrix, "")
        };
        let least = if events.is_empty() { 0 } else { 34 };
        let ranks = parts::count(matrix.slots.len() as u64, "rank", "ranks");
        let how = if grid.folded() {
            format!("  {ranks}, node by node")
        } else {
            format!("  {ranks}")
        };
        let width = grid
            .width()
            .max(6 + parts::columns(&how))
            .min(area.width.saturating_sub(least));
        let n = pen.text(x, area.y, width, "MATRIX", Role::Label);
        pen.text(x + n, area.y, width.saturating_sub(n), &how, Role::Quiet);
        grid.draw(
            Rect {
                x,
                y: area.y + 1,
                width,
                height: area.height - 1,
            },
            grid.problems().first().copied(),
            false,
            pen,
        );
        x += width + 3;
    }
    let room = (area.x + area.width).saturating_sub(x);
    if room >= 24 {
        events::draw(
            &events,
            Rect {
                x,
                width: room,
                ..area
            },
            pen,
        );
    }
}

/// Numbers of the processes in the merged matrix, where a rank is proven.
pub(super) fn numbers(scene: &Scene) -> Vec<Option<u32>> {
    let mut out: Vec<Option<u32>> = scene.processes.iter().map(|p| p.global_rank).collect();
    if let Some(matrix) = scene.matrices.first() {
        for slot in &matrix.slots {
            if let Some(n) = slot.process.and_then(|p| out.get_mut(p as usize)) {
                *n = n.or(Some(slot.number));
            }
        }
    }
    out
}

/// Where the ranks are in one sentence, for the panes that list them.
pub(super) fn where_they_are(view: &View<'_>) -> (String, Role) {
    let rungs = rungs::rungs(view.scene);
    match reach::unreached(view).filter(|_| rungs.is_empty()) {
        Some(why) => (why, Role::Fail),
        None => ladder::sentence(&rungs, view.scene.now),
    }
}
