//! The workload's pods in rank order, each state exactly as kubectl says it.

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{Page, Pane, View};
use crate::model::event::Feed;
use crate::model::screen::{Counts, PaneId};
use crate::rules::scene::{PodRow, Scene};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Pods,
    title: "the workload's pods in rank order, as kubectl prints them",
    min: (32, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge,
};

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let bad = scene.pods.iter().filter(|p| p.bad).count();
    (bad > 0).then_some((bad, Role::Fail))
}

/// Rows after the filter, with their place among all.
fn rows<'a>(view: &View<'a>) -> Vec<&'a PodRow> {
    let filter = view.screen.filter().to_lowercase();
    let has = |t: &str| t.to_lowercase().contains(&filter);
    view.scene
        .pods
        .iter()
        .filter(|p| {
            filter.is_empty()
                || has(&p.name)
                || has(&p.status)
                || p.node.as_deref().is_some_and(has)
                || p.why.as_deref().is_some_and(has)
        })
        .collect()
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = rows(view);
    let selected = view
        .screen
        .cursor()
        .row(0, rows.len())
        .and_then(|r| rows.get(r));
    Counts {
        rows: rows.len(),
        page: usize::from(body.height.saturating_sub(2)),
        problems: rows
            .iter()
            .enumerate()
            .filter(|(_, p)| p.bad)
            .map(|(i, _)| i)
            .collect(),
        copy: selected.map(|p| p.name.clone()),
        ..Counts::default()
    }
}

/// A column: its head, its width over these rows, whether it is a number, and how soon it gives way (0 never does).
struct Column {
    head: &'static str,
    width: u16,
    right: bool,
    gives: u8,
    value: fn(&PodRow, &View<'_>) -> (String, Role),
}

fn columns(rows: &[&PodRow], view: &View<'_>, room: u16) -> Vec<Column> {
    type Value = fn(&PodRow, &View<'_>) -> (String, Role);
    let table: [(&'static str, bool, u8, Value); 10] = [
        ("#", true, 3, |p, _| {
            (p.index.map_or("-".into(), |i| i.to_string()), Role::Label)
        }),
        ("NAME", false, 0, |p, _| (p.name.clone(), Role::Text)),
        ("READY", false, 0, |p, _| (p.ready.clone(), Role::Text)),
        ("STATUS", false, 0, |p, _| {
            (p.status.clone(), if p.bad { Role::Fail } else { Role::Ok })
        }),
        ("RESTARTS", false, 2, |p, _| {
            (
                p.restarts.clone(),
                if p.restart_count > 0 {
                    Role::Warn
                } else {
                    Role::Text
                },
            )
        }),
        ("AGE", true, 4, |p, v| {
            let age = p
                .created
                .zip(v.scene.now)
                .map(|(c, now)| parts::age(now.ns.saturating_sub(c)));
            (age.unwrap_or_else(|| "-".into()), Role::Quiet)
        }),
        ("GPUS", true, 5, |p, _| (p.gpus.to_string(), Role::Text)),
        ("RANKS", false, 6, |p, _| {
            (
                if p.ranks.is_empty() {
                    "-".into()
                } else {
                    parts::ranges(&p.ranks)
                },
                Role::Text,
            )
        }),
        ("NODE", false, 7, |p, _| {
            (p.node.clone().unwrap_or_else(|| "-".into()), Role::Text)
        }),
        ("IMAGE", false, 9, |p, _| {
            (p.image.clone().unwrap_or_else(|| "-".into()), Role::Quiet)
        }),
    ];
    let mut all: Vec<Column> = table
        .into_iter()
        .map(|(head, right, gives, value)| {
            let widest = rows
                .iter()
                .map(|p| parts::columns(&value(p, view).0))
                .max()
                .unwrap_or(0);
            let cap = if head == "IMAGE" || head == "NODE" {
                28
            } else {
                48
            };
            Column {
                head,
                width: widest.min(cap).max(parts::columns(head)),
                right,
                gives,
                value,
            }
        })
        .collect();
    let width = |all: &[Column]| all.iter().map(|c| c.width + 2).sum::<u16>();
    while width(&all) > room {
        let Some(goes) = all.iter().map(|c| c.gives).max().filter(|g| *g > 0) else {
            break;
        };
        all.retain(|c| c.gives != goes);
    }
    if let Some(over) = width(&all).checked_sub(room) {
        if let Some(name) = all.iter_mut().find(|c| c.head == "NAME") {
            name.width = name.width.saturating_sub(over).max(8);
        }
    }
    all
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = rows(view);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    if rows.is_empty() {
        empty(view, Rect { x, width, ..area }, pen);
        return;
    }
    let bad = rows.iter().filter(|p| p.bad).count();
    let ready = rows.len() - bad;
    let sentence = match rows.iter().find(|p| p.bad) {
        None => format!(
            "{} as they should be",
            parts::count(ready as u64, "pod", "pods")
        ),
        Some(first) => {
            let why = first.why.clone().unwrap_or_else(|| first.status.clone());
            let others = if bad > 1 {
                format!(", and {} more", bad - 1)
            } else {
                String::new()
            };
            format!("{}: {why}{others}", first.name)
        }
    };
    pen.text(
        x,
        area.y,
        width,
        &sentence,
        if bad > 0 { Role::Fail } else { Role::Strong },
    );
    let columns = columns(&rows, view, width);
    let mut at = x;
    for c in &columns {
        if c.right {
            pen.right(at, area.y + 1, c.width, c.head, Role::Label);
        } else {
            pen.text(at, area.y + 1, c.width, c.head, Role::Label);
        }
        at += c.width + 2;
    }
    let table = at;
    let end = x + width;
    if end.saturating_sub(table) >= 12 && rows.iter().any(|p| p.why.is_some()) {
        pen.text(table, area.y + 1, end - table, "WHY", Role::Label);
    }
    let cursor = view.screen.cursor();
    let lines = usize::from(area.height.saturating_sub(2));
    let top = cursor.top(0, rows.len(), lines);
    for (i, pod) in rows.iter().enumerate().skip(top).take(lines) {
        let y = area.y + 2 + u16::try_from(i - top).unwrap_or(0);
        let mut at = x;
        for c in &columns {
            let (text, role) = (c.value)(pod, view);
            let w = c.width.min(end.saturating_sub(at));
            if c.right {
                pen.right(at, y, w, &text, role);
            } else {
                pen.text(at, y, w, &parts::tail(&text, w), role);
            }
            at += c.width + 2;
        }
        if let Some(why) = pod
            .why
            .as_deref()
            .filter(|_| end.saturating_sub(table) >= 12)
        {
            pen.text(
                table,
                y,
                end - table,
                why,
                if pod.bad { Role::Fail } else { Role::Quiet },
            );
        }
        if cursor.row(0, rows.len()) == Some(i) {
            pen.overlay(area.x, y, area.width, Role::Selected);
        }
    }
}

fn empty(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (said, why) = match (view.session.feed, view.screen.filter()) {
        (_, filter) if !view.scene.pods.is_empty() => (
            format!("No pod matches {filter}."),
            "esc clears the filter.",
        ),
        (Feed::Files | Feed::Replay, _) => (
            "These are files: no cluster is asked, so there are no pods.".into(),
            "Ranks, the matrix and the findings come from the lines alone. With a cluster: ncclscope -n NAMESPACE WORKLOAD.",
        ),
        (Feed::Local, _) => (
            "This node alone is watched; there are no pods.".into(),
            "With a cluster: ncclscope -n NAMESPACE WORKLOAD.",
        ),
        _ => (
            "No pod has been seen yet.".into(),
            "Pods appear as soon as the API server lists them.",
        ),
    };
    pen.wrapped(area.x, area.y, area.width, 2, &said, Role::Strong);
    pen.wrapped(
        area.x,
        area.y + 2,
        area.width,
        area.height.saturating_sub(2),
        why,
        Role::Quiet,
    );
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = rows(view);
    let row = view.screen.list(PaneId::Pods).cursor.row(0, rows.len())?;
    let pod = rows.get(row)?;
    let mut page = Page::about(format!("pod {}/{}", pod.namespace, pod.name));
    if let Some(why) = &pod.why {
        page.prose(
            why,
            width.saturating_sub(2),
            0,
            if pod.bad { Role::Fail } else { Role::Text },
        );
        page.gap();
    }
    let none = || "-".to_owned();
    let age = pod
        .created
        .zip(view.scene.now)
        .map(|(c, n)| parts::age(n.ns.saturating_sub(c)));
    let fields = [
        ("status", pod.status.clone()),
        ("ready", pod.ready.clone()),
        ("restarts", pod.restarts.clone()),
        ("age", age.unwrap_or_else(none)),
        ("index", pod.index.map_or_else(none, |i| i.to_string())),
        (
            "ranks",
            if pod.ranks.is_empty() {
                none()
            } else {
                parts::ranges(&pod.ranks)
            },
        ),
        ("GPUs", pod.gpus.to_string()),
        ("node", pod.node.clone().unwrap_or_else(none)),
        ("IP", pod.ip.clone().unwrap_or_else(none)),
        ("image", pod.image.clone().unwrap_or_else(none)),
        (
            "probes",
            if pod.probes.is_empty() {
                none()
            } else {
                pod.probes.clone()
            },
        ),
        ("UID", pod.uid.clone()),
    ];
    for (name, value) in &fields {
        page.line(&[(&format!("{name:<10}"), Role::Label), (value, Role::Text)]);
    }
    let here = format!("{}/{}", pod.namespace, pod.name);
    let processes = view
        .scene
        .processes
        .iter()
        .filter(|p| p.pod.as_deref() == Some(pod.name.as_str()));
    let mut first = true;
    for p in processes {
        if std::mem::take(&mut first) {
            page.head("PROCESSES");
        }
        let rank = p.global_rank.map_or("-".into(), |r| r.to_string());
        let stage = p.stage.map_or("-", |s| parts::stage(s).0);
        let gone = if p.alive == Some(false) {
            "  ended"
        } else {
            ""
        };
        page.line(&[
            (
                &format!(
                    "rank {rank:<5} pid {:<7} ",
                    p.pid.map_or("-".into(), |n| n.to_string())
                ),
                Role::Label,
            ),
            (stage, Role::Text),
            (gone, Role::Fail),
        ]);
        if let Some(error) = &p.first_error {
            page.line(&[("  first error  ", Role::Label), (&error.text, Role::Fail)]);
        }
    }
    let sources: Vec<_> = view
        .scene
        .sources
        .iter()
        .filter(|s| s.pod.as_deref() == Some(here.as_str()))
        .collect();
    if !sources.is_empty() {
        page.head("LOGS");
        for s in sources {
            let lost = if s.dropped_lines > 0 {
                format!("   lost {}", parts::grouped(s.dropped_lines))
            } else {
                String::new()
            };
            page.line(&[
                (&s.name, Role::Text),
                (
                    &format!(
                        "   {}   {} of NCCL",
                        parts::count(s.lines, "line", "lines"),
                        parts::grouped(s.nccl_lines)
                    ),
                    Role::Quiet,
                ),
                (&lost, Role::Warn),
                (
                    &s.trouble
                        .as_ref()
                        .map_or(String::new(), |t| format!("   {t}")),
                    Role::Warn,
                ),
            ]);
        }
    }
    Some(page)
}
