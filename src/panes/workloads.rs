//! The workloads that discovery found, where somebody must choose one; opens by itself.

use std::collections::BTreeSet;

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::table::{self, Column};
use super::{Page, Pane, View};
use crate::model::event::{EdgeState, WorkloadView};
use crate::model::screen::{Counts, PaneId};
use crate::theme::Role;

/// The pane. It has no tab: it is what there is before a workload has panes.
pub static PANE: Pane = Pane {
    id: PaneId::Workloads,
    title: "the workloads there are, to choose one",
    min: (32, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge: |_| None,
};

fn rows<'a>(view: &View<'a>) -> Vec<&'a WorkloadView> {
    let filter = view.screen.filter().to_lowercase();
    let has = |t: &str| t.to_lowercase().contains(&filter);
    view.model
        .workloads
        .iter()
        .filter(|w| filter.is_empty() || has(&called(w)) || has(&w.namespace) || has(&w.rule))
        .collect()
}

/// As it is typed: `lws/mixtral`.
fn called(w: &WorkloadView) -> String {
    format!("{}/{}", w.kind, w.name)
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = rows(view);
    let row = view
        .screen
        .list(PaneId::Workloads)
        .cursor
        .row(0, rows.len());
    let selected = row.and_then(|r| rows.get(r));
    Counts {
        rows: rows.len(),
        page: usize::from(body.height.saturating_sub(2)),
        copy: selected.map(|w| called(w)),
        watch: selected.map(|w| Box::new((*w).clone())),
        ..Counts::default()
    }
}

fn columns<'a>() -> [Column<&'a WorkloadView>; 5] {
    [
        Column {
            head: "NAMESPACE",
            right: false,
            gives: 2,
            most: 24,
            value: |w, _| (w.namespace.clone(), Role::Quiet),
        },
        Column {
            head: "WORKLOAD",
            right: false,
            gives: 0,
            most: 48,
            value: |w, _| (called(w), Role::Strong),
        },
        Column {
            head: "PODS",
            right: true,
            gives: 0,
            most: 9,
            value: |w, _| (pods(w), if short(w) { Role::Warn } else { Role::Text }),
        },
        Column {
            head: "GPUS",
            right: true,
            gives: 1,
            most: 6,
            value: |w, _| (table::number(Some(w.gpus).filter(|n| *n > 0)), Role::Text),
        },
        Column {
            head: "WHY THESE PODS ARE ONE",
            right: false,
            gives: 3,
            most: 0,
            value: |w, _| (w.rule.clone(), Role::Quiet),
        },
    ]
}

/// `3/4`: created and expected.
fn pods(w: &WorkloadView) -> String {
    let there = w.pods.len();
    w.expected
        .map_or_else(|| there.to_string(), |e| format!("{there}/{e}"))
}

fn short(w: &WorkloadView) -> bool {
    w.expected.is_some_and(|e| w.pods.len() < e as usize)
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = rows(view);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    if rows.is_empty() {
        let (said, why) = nothing(view);
        pen.wrapped(x, area.y, width, 2, &said, Role::Strong);
        let rest = area.height.saturating_sub(2);
        pen.wrapped(x, area.y + 2, width, rest, &why, Role::Quiet);
        return;
    }
    let namespaces: BTreeSet<&str> = rows.iter().map(|w| w.namespace.as_str()).collect();
    let place = match namespaces.first() {
        Some(one) if namespaces.len() == 1 => format!("namespace {one}"),
        _ => parts::count(namespaces.len() as u64, "namespace", "namespaces"),
    };
    let sentence = format!(
        "{} in {place}: which one?",
        parts::count(rows.len() as u64, "workload", "workloads")
    );
    pen.text(x, area.y, width, &sentence, Role::Strong);
    let columns = columns();
    let columns: Vec<_> = columns
        .iter()
        .filter(|c| namespaces.len() > 1 || c.head != "NAMESPACE")
        .collect();
    let body = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    let cursor = view.screen.list(PaneId::Workloads).cursor;
    table::draw(view, &columns, &rows, cursor, body, pen);
}

/// Why the list is empty.
fn nothing(view: &View<'_>) -> (String, String) {
    let filter = view.screen.filter();
    if !view.model.workloads.is_empty() {
        return (
            format!("No workload matches {filter}."),
            "esc clears the filter.".into(),
        );
    }
    let place = match &view.session.namespace {
        Some(n) => format!("in namespace {n}"),
        None => "in any namespace".into(),
    };
    match view.model.edges.get("discovery") {
        Some(EdgeState::Forbidden { rule }) => (
            format!("No workload can be seen {place}."),
            format!("Not allowed to {rule}. A selector needs no more than pods: ncclscope -l SELECTOR."),
        ),
        _ => (
            format!("There is no workload {place}."),
            "Looked at again every minute. Another namespace: ncclscope -n NAMESPACE; all of them: -A.".into(),
        ),
    }
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = rows(view);
    let row = view
        .screen
        .list(PaneId::Workloads)
        .cursor
        .row(0, rows.len())?;
    let w = rows.get(row)?;
    let mut page = Page::about(format!("{} in namespace {}", called(w), w.namespace));
    page.prose(
        &format!("Why these pods are one: {}.", w.rule),
        width.saturating_sub(2),
        0,
        Role::Text,
    );
    page.gap();
    let dash = |text: String| table::or_dash(Some(text.as_str()));
    for (name, value) in [
        ("selector", dash(w.selector.clone())),
        ("expected", table::number(w.expected)),
        ("created", w.pods.len().to_string()),
        ("GPUs", table::number(Some(w.gpus).filter(|n| *n > 0))),
    ] {
        page.line(&[(&format!("{name:<10}"), Role::Label), (&value, Role::Text)]);
    }
    if !w.pods.is_empty() {
        page.head("PODS");
    }
    for (index, name) in &w.pods {
        let index = format!("{:>5}  ", table::number(*index));
        page.line(&[(&index, Role::Label), (name, Role::Text)]);
    }
    Some(page)
}
