//! The all-reduce test: how far it is, what it measured beside what is expected, its transports beside the
//! workload's. Before there is one: what would run, and how.

mod page;
mod table;

use std::cmp::Ordering;

use ratatui::layout::Rect;

use super::matrix::{Grid, sign};
use super::parts::{self, Pen};
use super::{Pane, View};
use crate::model::event::Feed;
use crate::model::screen::{Counts, PaneId};
use crate::model::testrun::Phase;
use crate::rules::busbw::Grade;
use crate::rules::scene::{Glyph, Matrix, Scene};
use crate::rules::testing::{Compared, PhaseView, TestView, state};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Test,
    title: "the all-reduce test: phases, rows, grade, its transports beside the workload's",
    min: (36, 5),
    draw,
    counts,
    drill: page::drill,
    explain: page::explain,
    badge,
};

/// Columns from which the matrices stand beside the rows.
const WIDE: u16 = 150;
/// Ranks up to which a matrix is drawn rank by rank.
const CELL_BY_CELL: usize = 16;

/// Role of a grade.
pub(super) const fn role(grade: Option<Grade>) -> Role {
    match grade {
        None => Role::Waiting,
        Some(Grade::Good) => Role::Ok,
        Some(Grade::Warn) => Role::Warn,
        Some(Grade::Below | Grade::Wrong | Grade::Failed) => Role::Fail,
        Some(Grade::Undecided) => Role::Unknown,
    }
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let test = scene.test.as_deref()?;
    let bad = test.failures.iter().filter(|f| !f.echo).count();
    let role = role(state(test).1);
    match role {
        Role::Fail | Role::Warn => Some((bad.max(1), role)),
        _ => (bad > 0).then_some((bad, Role::Fail)),
    }
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let Some(test) = view.scene.test.as_deref() else {
        return Counts::default();
    };
    let sizes = table::listed(view, test);
    let row = view.screen.list(PaneId::Test).cursor.row(0, sizes.len());
    let bad = |bytes: &u64| test.wrong(*bytes).is_some_and(|w| w > 0);
    Counts {
        // The plan can be opened before there is a row.
        rows: sizes.len().max(1),
        page: usize::from(body.height.saturating_sub(8)).max(1),
        problems: (0..)
            .zip(&sizes)
            .filter(|(_, b)| bad(b))
            .map(|(i, _)| i)
            .collect(),
        copy: row
            .and_then(|r| sizes.get(r))
            .map(|bytes| table::line(test, *bytes))
            .or_else(|| Some(test.sentence.clone())),
        tabs: if test.compared.is_empty() && test.pairs.is_empty() {
            Vec::new()
        } else {
            vec!["rows".into(), "matrices".into()]
        },
        testing: test.running,
        ..Counts::default()
    }
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let Some(test) = view.scene.test.as_deref() else {
        before(view, area, pen);
        return;
    };
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let end = area.y + area.height;
    let (word, grade) = state(test);
    let mut y = area.y;
    // The grade stands in front as a word; its sentence may take a second line.
    let head = x + pen.text(x, y, width, word, role(grade)) + 2;
    let room = (x + width).saturating_sub(head);
    y += pen
        .wrapped(
            head,
            y,
            room,
            if area.height < 14 { 1 } else { 3 },
            &test.sentence,
            Role::Strong,
        )
        .max(1);
    if let Some(next) = test.next().filter(|_| area.height >= 9) {
        y += pen.wrapped(
            x,
            y,
            width,
            2.min(end.saturating_sub(y)),
            next,
            Role::Notice,
        );
    }
    if y < end && area.height >= 9 {
        pen.text(x, y, width, &whose(test), Role::Quiet);
        y += 1;
    }
    if y < end {
        y += ribbon(test, x, y, width, if area.height < 14 { 1 } else { 3 }, pen);
    }
    let most = usize::from(area.height / 6);
    for failure in test.failures.iter().take(most) {
        if y + 2 >= end {
            break;
        }
        let (mark, role) = if failure.echo {
            ("after it: ", Role::Quiet)
        } else {
            ("", Role::Fail)
        };
        pen.text(x, y, width, &format!("{mark}{failure}"), role);
        y += 1;
    }
    if test.failures.len() > most && y + 2 < end {
        let more = format!("and {} more: enter", test.failures.len() - most);
        pen.text(x, y, width, &more, Role::Quiet);
        y += 1;
    }
    for c in &test.compared {
        if y + 3 >= end {
            break;
        }
        compared(c, x, y, width, pen);
        y += 1;
    }
    if area.height >= 14 {
        y += 1;
    }
    let rest = Rect {
        y,
        height: end.saturating_sub(y),
        ..area
    };
    let drawn = test.matrix().is_some() || !test.pairs.is_empty();
    if drawn && view.screen.is_on("matrices") {
        matrices(view, test, rest, pen);
    } else if drawn && area.width >= WIDE {
        let left = Rect {
            width: area.width / 2,
            ..rest
        };
        table::draw(view, test, left, pen);
        let right = Rect {
            x: left.x + left.width + 1,
            width: area.width - left.width - 1,
            ..rest
        };
        matrices(view, test, right, pen);
    } else {
        table::draw(view, test, rest, pen);
    }
}

/// Which objects, how many ranks, what is left of them.
fn whose(test: &TestView) -> String {
    let mut parts = Vec::new();
    if let Some(p) = &test.planned {
        parts.push(format!("{}/{}", p.namespace, p.job));
        let gpus = match p.gpus {
            0 => "no GPU".to_owned(),
            n => parts::count(u64::from(n), "GPU", "GPUs") + " each",
        };
        parts.push(format!(
            "{}, {gpus}",
            parts::count(u64::from(p.pods), "pod", "pods")
        ));
        if !p.nodes.is_empty() {
            parts.push(format!("on {}", p.nodes.join(", ")));
        }
    }
    match &test.left {
        Some(left) if left.is_empty() => parts.push("removed".into()),
        Some(left) => parts.push(format!("STILL THERE: {}", left.join(", "))),
        None => {}
    }
    parts.join(" · ")
}

/// Phases in order.
const COURSE: [Phase; 13] = [
    Phase::Created,
    Phase::Queued,
    Phase::Scheduled,
    Phase::Pulling,
    Phase::Starting,
    Phase::Rendezvous,
    Phase::Gloo,
    Phase::Nccl,
    Phase::Sizes,
    Phase::Pairs,
    Phase::Vllm,
    Phase::Done,
    Phase::Cleaning,
];
/// Phases that are not foretold.
const UNTOLD: [Phase; 3] = [Phase::Pairs, Phase::Done, Phase::Cleaning];

/// The phases in one line, or a few: those that were reached with what they took, the others pale.
fn ribbon(test: &TestView, x: u16, y: u16, width: u16, rows: u16, pen: &mut Pen<'_>) -> u16 {
    let reached = |p: Phase| test.phases.iter().find(|v| v.phase == p);
    let furthest = test.phases.iter().map(|v| v.phase).max();
    let mut pieces: Vec<(String, Role)> = Vec::new();
    for phase in &COURSE {
        match reached(*phase) {
            Some(v) => pieces.push((
                told(v, test.running),
                if v.open { Role::Strong } else { Role::Ok },
            )),
            // What was passed over was too short to be seen, or was left out.
            None if furthest.is_some_and(|f| f > *phase) || UNTOLD.contains(phase) => {}
            None if test.running => pieces.push((phase.word().to_owned(), Role::Missing)),
            None => {}
        }
    }
    let (mut row, mut used) = (0, 0);
    for (text, role) in &pieces {
        let needs = parts::columns(text) + if used > 0 { 3 } else { 0 };
        if used > 0 && used + needs > width {
            row += 1;
            used = 0;
        }
        if row >= rows {
            break;
        }
        if used > 0 {
            used += pen.text(x + used, y + row, width - used, " › ", Role::Rule);
        }
        used += pen.text(x + used, y + row, width.saturating_sub(used), text, *role);
    }
    (row + 1).min(rows)
}

fn told(v: &PhaseView, running: bool) -> String {
    let word = word(v);
    if v.phase == Phase::Done || v.took == 0 || (v.open && !running) {
        return word.to_owned();
    }
    format!("{word} {}", parts::duration(v.took))
}

/// Its word; what is not open any more was cleaned up.
fn word(v: &PhaseView) -> &'static str {
    match v.phase {
        Phase::Cleaning if !v.open => "cleaned up",
        phase => phase.word(),
    }
}

fn compared(c: &Compared, x: u16, y: u16, width: u16, pen: &mut Pen<'_>) {
    let mut spans: Vec<(String, Role)> = vec![(format!("{:<14} ", c.place), Role::Label)];
    let mut side = |name: &str, all: &[(Glyph, usize)]| {
        spans.push((format!("{name} "), Role::Quiet));
        if all.is_empty() {
            spans.push(("none seen".into(), Role::Unknown));
        }
        for (i, (glyph, n)) in all.iter().enumerate() {
            let (c, role) = sign(*glyph);
            let gap = if i > 0 { "  " } else { "" };
            spans.push((format!("{gap}{c}"), role));
            spans.push((format!(" {n}"), Role::Text));
        }
        spans.push(("   ".into(), Role::Text));
    };
    side("workload", &c.workload);
    side("test", &c.test);
    let role = match c.test_is {
        Ordering::Equal if c.workload.is_empty() || c.test.is_empty() => Role::Unknown,
        Ordering::Equal => Role::Ok,
        Ordering::Greater | Ordering::Less => Role::Warn,
    };
    spans.push((c.outcome().into(), role));
    let spans: Vec<(&str, Role)> = spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
    pen.spans(x, y, width, &spans);
}

/// The workload's matrix and the test's: beside each other where there is room, else one above the other.
fn matrices(view: &View<'_>, test: &TestView, area: Rect, pen: &mut Pen<'_>) {
    let workload = view.scene.matrices.first();
    let workload = workload.filter(|m| !m.slots.is_empty());
    let both: Vec<(&str, &Matrix)> = workload
        .map(|m| ("WORKLOAD", &**m))
        .into_iter()
        .chain(test.matrix().map(|m| ("TEST", m)))
        .collect();
    let paired = u16::from(!test.pairs.is_empty());
    let n = u16::try_from(both.len()).unwrap_or(1).max(1 - paired) + paired;
    let beside = area.width >= 76;
    let (w, h) = if beside {
        (area.width / n, area.height)
    } else {
        (area.width, area.height / n)
    };
    for (i, (name, matrix)) in (0..).zip(&both) {
        let (dx, dy) = if beside { (i * w, 0) } else { (0, i * h) };
        let (x, y) = (area.x + 1 + dx, area.y + dy);
        let width = w.saturating_sub(3);
        let ranks = parts::count(matrix.slots.len() as u64, "rank", "ranks");
        pen.spans(
            x,
            y,
            width,
            &[(name, Role::Label), (&format!("  {ranks}"), Role::Quiet)],
        );
        let grid = if matrix.slots.len() > CELL_BY_CELL {
            Grid::by_node(matrix, "")
        } else {
            Grid::by_rank(matrix, "")
        };
        let room = Rect {
            x,
            y: y + 1,
            width,
            height: h.saturating_sub(2),
        };
        grid.draw(room, None, false, pen);
    }
    if paired > 0 {
        let (dx, dy) = if beside {
            ((n - 1) * w, 0)
        } else {
            (0, (n - 1) * h)
        };
        let room = Rect {
            x: area.x + 1 + dx,
            y: area.y + dy,
            width: w.saturating_sub(3),
            height: h,
        };
        pairs(test, room, pen);
    }
}

/// Bus bandwidth of every two pods; the guilty marked.
fn pairs(test: &TestView, area: Rect, pen: &mut Pen<'_>) {
    const CELL: u16 = 7;
    let head = [("PAIRS", Role::Label), ("  GB/s on the bus", Role::Quiet)];
    pen.spans(area.x, area.y, area.width, &head);
    let names: Vec<&str> = test.pods.iter().map(String::as_str).collect();
    let names = parts::endings(&names, 2);
    let widest = names.iter().map(|n| parts::columns(n)).max().unwrap_or(1);
    let left = widest.min(16) + 1;
    let fit = usize::from(area.width.saturating_sub(left) / CELL);
    let rows = usize::from(area.height.saturating_sub(2));
    let at = |column: usize| area.x + left + CELL * u16::try_from(column).unwrap_or(0);
    for (b, name) in names.iter().enumerate().take(fit) {
        let short = parts::tail(name, CELL - 1);
        pen.right(at(b), area.y + 1, CELL, &short, Role::Label);
    }
    for (a, name) in names.iter().enumerate().take(rows) {
        let y = area.y + 2 + u16::try_from(a).unwrap_or(0);
        pen.text(
            area.x,
            y,
            left - 1,
            &parts::tail(name, left - 1),
            Role::Label,
        );
        for b in 0..names.len().min(fit) {
            let number = |n: usize| u32::try_from(n).unwrap_or(0);
            let pair = (number(a.min(b)), number(a.max(b)));
            let (text, role) = match test.pairs.get(&pair) {
                _ if a == b => ("/".to_owned(), Role::Rule),
                None => ("-".into(), Role::Missing),
                Some(rate) => {
                    let text = table::rate(rate.again.unwrap_or(rate.first));
                    if test.judged.guilty.contains(&pair) {
                        (format!("{text}!"), Role::Fail)
                    } else if test.judged.suspected.contains(&pair) {
                        (format!("{text}?"), Role::Warn)
                    } else {
                        (text, Role::Text)
                    }
                }
            };
            pen.right(at(b), y, CELL, &text, role);
        }
    }
    if names.len() > fit || names.len() > rows {
        let more = format!("{} pods: not all fit here", names.len());
        pen.text(
            area.x,
            area.y + area.height.saturating_sub(1),
            area.width,
            &more,
            Role::Quiet,
        );
    }
}

/// What would run, and how; or why nothing can.
fn before(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let page = page::before(view, width);
    let start = usize::from(area.height);
    for (y, line) in (area.y..).zip(page.lines.iter().take(start)) {
        let spans: Vec<(&str, Role)> = line.spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
        pen.spans(x, y, width, &spans);
    }
}

/// Whether something here can launch a test.
fn can_launch(view: &View<'_>) -> Result<(), &'static str> {
    match view.session.feed {
        Feed::Cluster | Feed::Demo if view.session.locked => {
            Err("This session is locked (--read-only): nothing is created.")
        }
        Feed::Cluster | Feed::Demo => Ok(()),
        _ => Err("A test needs a cluster: files and recordings have none."),
    }
}
