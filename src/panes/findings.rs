//! What is wrong: root causes first, what follows from them beneath; each with its proof, cause and fix.

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::table::{self, Column};
use super::{Line, Page, Pane, View};
use crate::model::screen::{self, Counts, PaneId};
use crate::rules::findings::{followers, whom};
use crate::rules::scene::{Confidence, Evidence, Finding, Scene, Severity};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Findings,
    title: "what is wrong, root causes first, with proof and fix",
    min: (36, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge,
};

/// A finding and its index: what people call it by, less one.
type Numbered<'a> = (usize, &'a Finding);

fn columns<'a>() -> [Column<Numbered<'a>>; 7] {
    [
        Column {
            head: "#",
            right: true,
            gives: 0,
            most: 4,
            value: |(i, _), _| ((i + 1).to_string(), Role::Label),
        },
        Column {
            head: "SEVERITY",
            right: false,
            gives: 0,
            most: 8,
            value: |(_, f), _| {
                let (word, role) = parts::severity(f.severity);
                (word.to_owned(), role)
            },
        },
        Column {
            head: "SURE",
            right: false,
            gives: 3,
            most: 8,
            value: |(_, f), _| (confidence(f).to_owned(), Role::Quiet),
        },
        Column {
            head: "SINCE",
            right: false,
            gives: 1,
            most: 8,
            value: |(_, f), _| {
                (
                    table::or_dash(f.since.map(parts::clock).as_deref()),
                    Role::Quiet,
                )
            },
        },
        Column {
            head: "ID",
            right: false,
            gives: 2,
            most: 28,
            value: |(_, f), _| (f.id.to_owned(), Role::Quiet),
        },
        Column {
            head: "FOLLOW",
            right: true,
            gives: 4,
            most: 6,
            value: |(_, f), view| match followers(view.scene, f).count() {
                0 => (String::new(), Role::Quiet),
                n => (n.to_string(), Role::Quiet),
            },
        },
        Column {
            head: "WHAT",
            right: false,
            gives: 0,
            most: 0,
            value: |(_, f), view| {
                let echo = follows(view.scene, f).map_or(String::new(), |why| format!("{why}: "));
                let role = if f.severity == Severity::Info {
                    Role::Text
                } else {
                    Role::Strong
                };
                (format!("{echo}{}{}", f.title, whose(view.scene, f)), role)
            },
        },
    ]
}

/// `follows 1`: what a finding that has a cause among the others is introduced with.
pub(super) fn follows(scene: &Scene, finding: &Finding) -> Option<String> {
    let cause = finding.consequence_of.as_ref()?;
    let by = scene.findings.iter().position(|f| f.key == *cause);
    Some(by.map_or_else(|| "follows".to_owned(), |i| format!("follows {}", i + 1)))
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let worst = scene
        .findings
        .iter()
        .map(|f| f.severity)
        .max()
        .filter(|s| *s > Severity::Info)?;
    Some((causes(scene).max(1), parts::severity(worst).1))
}

/// How many things there are to mend: what follows from one of them goes with it.
pub(super) fn causes(scene: &Scene) -> usize {
    let loud = |f: &&Finding| f.severity > Severity::Info && f.consequence_of.is_none();
    scene.findings.iter().filter(loud).count()
}

/// Findings that a filter keeps. What follows from another one is folded under it, unless a filter looks for it or
/// each is asked for: causes stand first, so that rows and numbers agree either way. The overview lists what changes the verdict, and notes only while there is nothing else.
pub(super) fn listed<'a>(view: &View<'a>) -> Vec<Numbered<'a>> {
    let filter = view.screen.filter().to_lowercase();
    let all = &view.scene.findings;
    let loud =
        view.screen.pane == PaneId::Overview && all.iter().any(|f| f.severity > Severity::Info);
    let unfolded = view.screen.pane == PaneId::Findings && view.screen.is_on(screen::ECHOES);
    let each = unfolded || !filter.is_empty();
    all.iter()
        .enumerate()
        .filter(|(_, f)| each || f.consequence_of.is_none())
        .filter(|(_, f)| !loud || f.severity > Severity::Info)
        .filter(|(_, f)| {
            filter.is_empty() || f.title.to_lowercase().contains(&filter) || f.key.contains(&filter)
        })
        .collect()
}

/// What tells a finding from another one with the same title: its communicator.
pub(super) fn whose(scene: &Scene, finding: &Finding) -> String {
    let alike = scene
        .findings
        .iter()
        .filter(|f| f.title == finding.title)
        .count()
        > 1;
    let comm = finding.communicator.as_deref().filter(|_| alike);
    let comm = comm.and_then(|key| scene.communicators.iter().find(|c| c.key == key));
    comm.map_or(String::new(), |c| {
        format!("   in {}", c.group.as_deref().unwrap_or(&c.key))
    })
}

/// What keys act on in a list of findings.
pub(super) fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = listed(view);
    let selected = view
        .screen
        .list(view.screen.pane)
        .cursor
        .row(0, rows.len())
        .and_then(|r| rows.get(r));
    Counts {
        rows: rows.len(),
        page: usize::from(body.height / 3).max(1),
        problems: rows
            .iter()
            .enumerate()
            .filter(|(_, (_, f))| f.severity > Severity::Info)
            .map(|(i, _)| i)
            .collect(),
        copy: selected.map(|(_, f)| handed(f)),
        ..Counts::default()
    }
}

/// What is copied of a finding: what to do, else what is wrong.
fn handed(finding: &Finding) -> String {
    let fix = finding.fix.first();
    fix.unwrap_or(&finding.title).clone()
}

/// The page of the selected finding.
pub(super) fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = listed(view);
    let row = view
        .screen
        .list(view.screen.pane)
        .cursor
        .row(0, rows.len())?;
    page(view.scene, rows.get(row)?.0, width)
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = listed(view);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let (sentence, role) = match (view.scene.findings.len(), causes(view.scene)) {
        (0, _) => (
            "Nothing found that is wrong, in what was seen so far.".to_owned(),
            Role::Strong,
        ),
        (n, 0) => (
            format!(
                "{}, none of which changes the verdict",
                parts::count(n as u64, "note", "notes")
            ),
            Role::Strong,
        ),
        (_, 1) => ("One cause to mend.".to_owned(), Role::Warn),
        (_, n) => (format!("{n} causes to mend, the worst first."), Role::Warn),
    };
    let n = pen.text(x, area.y, width, &sentence, role);
    let echoes = view.scene.findings.iter();
    let echoes = echoes.filter(|f| f.consequence_of.is_some()).count();
    if echoes > 0 && !view.screen.is_on(screen::ECHOES) {
        let text = match echoes {
            1 => "   1 more follows from what is listed: u shows it".to_owned(),
            n => format!("   {n} more follow from what is listed: u shows each"),
        };
        pen.text(x + n, area.y, width.saturating_sub(n), &text, Role::Quiet);
    }
    if rows.is_empty() {
        return;
    }
    let cursor = view.screen.list(PaneId::Findings).cursor;
    // The selected one is shown in full beneath, where there is room.
    let most = usize::from(area.height.saturating_sub(2));
    let lines = if area.height >= 14 {
        rows.len().min(most / 2).max(3)
    } else {
        most
    };
    let table = Rect {
        y: area.y + 1,
        height: u16::try_from(lines + 1)
            .unwrap_or(u16::MAX)
            .min(area.height - 1),
        ..area
    };
    let columns = columns();
    let told = columns.iter().filter(|c| echoes > 0 || c.head != "FOLLOW");
    table::draw(view, &told.collect::<Vec<_>>(), &rows, cursor, table, pen);
    let y = table.y + table.height + 1;
    let bottom = area.y + area.height;
    let chosen = cursor.row(0, rows.len()).and_then(|r| rows.get(r));
    if let (true, Some(page)) = (
        y + 2 < bottom,
        chosen.and_then(|(i, _)| page(view.scene, *i, area.width)),
    ) {
        for (line, y) in page.lines.iter().zip(y..bottom) {
            let spans: Vec<(&str, Role)> =
                line.spans.iter().map(|(t, r)| (t.as_str(), *r)).collect();
            pen.spans(x, y, width, &spans);
        }
    }
}

fn confidence(finding: &Finding) -> &'static str {
    match finding.confidence {
        Confidence::Certain => "certain",
        Confidence::Likely => "likely",
        Confidence::Possible => "possible",
    }
}

/// The page of one finding.
#[must_use]
pub fn page(scene: &Scene, index: usize, width: u16) -> Option<Page> {
    let finding = scene.findings.get(index)?;
    let room = width.saturating_sub(4);
    let mut page = Page::about(format!("finding {}   {}", index + 1, finding.title));
    let (word, role) = parts::severity(finding.severity);
    page.line(&[
        (word, role),
        (&format!("   {}", standing(finding)), Role::Quiet),
    ]);
    // Copied from the top it is what the list copies: what to do, or what is wrong.
    if let Some(line) = page.lines.last_mut() {
        line.copy = Some(handed(finding));
    }
    page.line(&[("id  ", Role::Label), (&finding.key, Role::Text)]);
    if let Some(ranks) = whom(scene, finding) {
        page.line(&[(&ranks, Role::Text)]);
    }
    for (name, who) in about(finding) {
        page.line(&[(&format!("{name}  "), Role::Label), (&who, Role::Text)]);
    }
    if !finding.cause.is_empty() {
        page.head("WHY");
        page.prose(&finding.cause, room, 2, Role::Text);
    }
    if !finding.fix.is_empty() {
        page.head("WHAT TO DO");
        for fix in &finding.fix {
            page.wrapped_code(fix, room);
        }
    }
    page.head("PROOF");
    for proof in finding.evidence() {
        evidence(scene, proof, &mut page);
    }
    if let Some(cause) = &finding.consequence_of {
        let by = scene.findings.iter().position(|f| f.key == *cause);
        let text = by.map_or_else(|| cause.clone(), |i| format!("finding {}", i + 1));
        page.head("EXPLAINED BY");
        page.line(&[("  ", Role::Text), (&text, Role::Text)]);
    }
    let echoes: Vec<String> = followers(scene, finding)
        .map(|(i, f)| format!("{}  {}{}", i + 1, f.title, whose(scene, f)))
        .collect();
    if !echoes.is_empty() {
        page.head("EXPLAINS");
        for echo in echoes {
            page.line(&[("  ", Role::Text), (&echo, Role::Text)]);
        }
    }
    Some(page)
}

/// `likely   since 03:14:07   network`.
fn standing(finding: &Finding) -> String {
    let confidence = confidence(finding);
    let class = format!("{:?}", finding.class).to_lowercase();
    let since = finding
        .since
        .map_or(String::new(), |at| format!("   since {}", parts::clock(at)));
    format!("{confidence}   {class}{since}")
}

/// What else it is about: hosts, pods, GPUs, communicator.
fn about(finding: &Finding) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for (name, list) in [
        ("hosts", &finding.hosts),
        ("pods", &finding.pods),
        ("GPUs", &finding.gpus),
    ] {
        if !list.is_empty() {
            out.push((name, list.join(", ")));
        }
    }
    out.extend(finding.communicator.clone().map(|c| ("communicator", c)));
    out
}

fn evidence(scene: &Scene, proof: &Evidence, page: &mut Page) {
    match proof {
        Evidence::Line(l) => {
            let (file, number) = scene.place(l);
            let at =
                l.at.map_or(String::new(), |a| format!("{}  ", parts::clock(a)));
            page.line(&[(&format!("  {at}line {number} of {file}"), Role::Quiet)]);
            let text = Line::of(&[("    ", Role::Text), (&l.text, Role::Text)]);
            page.lines.push(Line {
                copy: Some(l.text.to_string()),
                ..text
            });
        }
        Evidence::Object(t) => page.line(&[("  object  ", Role::Label), (t, Role::Text)]),
        Evidence::Sample(t) => page.line(&[("  sample  ", Role::Label), (t, Role::Text)]),
        Evidence::Check(t) => page.line(&[("  check   ", Role::Label), (t, Role::Text)]),
    }
}
