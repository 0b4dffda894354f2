//! The workload's pods in rank order, each state exactly as kubectl says it.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::logs::body;
use super::parts::{self, Pen};
use super::table::{self, Column};
use super::{Page, Pane, View};
use crate::model::event::{
    Condition, ContainerState, ContainerView, EdgeState, Feed, KubeEvent, PodKey,
};
use crate::model::screen::{Counts, PaneId};
use crate::parse::Nanos;
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
    table::counts(
        view,
        PaneId::Pods,
        &rows(view),
        body,
        |p| p.name.clone(),
        |p| p.bad,
    )
}

fn columns<'a>() -> [Column<&'a PodRow>; 11] {
    [
        Column {
            head: "#",
            right: true,
            gives: 3,
            most: 5,
            value: |p, _| (table::number(p.index), Role::Label),
        },
        Column {
            head: "NAME",
            right: false,
            gives: 0,
            most: 48,
            value: |p, _| (p.name.clone(), Role::Text),
        },
        Column {
            head: "READY",
            right: false,
            gives: 0,
            most: 8,
            value: |p, _| (p.ready.clone(), Role::Text),
        },
        Column {
            head: "STATUS",
            right: false,
            gives: 0,
            most: 28,
            value: |p, _| (p.status.clone(), if p.bad { Role::Fail } else { Role::Ok }),
        },
        Column {
            head: "RESTARTS",
            right: false,
            gives: 2,
            most: 16,
            value: |p, _| {
                (
                    p.restarts.clone(),
                    if p.restart_count > 0 {
                        Role::Warn
                    } else {
                        Role::Text
                    },
                )
            },
        },
        Column {
            head: "AGE",
            right: true,
            gives: 4,
            most: 8,
            value: |p, v| (age(p, v.scene), Role::Quiet),
        },
        Column {
            head: "GPUS",
            right: true,
            gives: 5,
            most: 5,
            value: |p, _| (p.gpus.to_string(), Role::Text),
        },
        Column {
            head: "RANKS",
            right: false,
            gives: 6,
            most: 16,
            value: |p, _| (ranks(p), Role::Text),
        },
        Column {
            head: "NODE",
            right: false,
            gives: 7,
            most: 28,
            value: |p, _| (table::or_dash(p.node.as_deref()), Role::Text),
        },
        Column {
            head: "IMAGE",
            right: false,
            gives: 9,
            most: 28,
            value: |p, _| (table::or_dash(p.image.as_deref()), Role::Quiet),
        },
        Column {
            head: "WHY",
            right: false,
            gives: 8,
            most: 0,
            value: |p, _| {
                (
                    p.why.clone().unwrap_or_default(),
                    if p.bad { Role::Fail } else { Role::Quiet },
                )
            },
        },
    ]
}

fn age(pod: &PodRow, scene: &Scene) -> String {
    let age = pod
        .created
        .zip(scene.now)
        .map(|(c, now)| parts::age(now.ns.saturating_sub(c)));
    table::or_dash(age.as_deref())
}

fn ranks(pod: &PodRow) -> String {
    table::or_dash(Some(parts::ranges(&pod.ranks).as_str()))
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = rows(view);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    if rows.is_empty() {
        empty(view, Rect { x, width, ..area }, pen);
        return;
    }
    let bad = rows.iter().filter(|p| p.bad).count();
    let sentence = match rows.iter().find(|p| p.bad) {
        None => format!(
            "{}: {}",
            parts::count(rows.len() as u64, "pod", "pods"),
            statuses(&rows)
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
    let why = rows.iter().any(|p| p.why.is_some());
    let columns = columns();
    let columns: Vec<&Column<&PodRow>> =
        columns.iter().filter(|c| why || c.head != "WHY").collect();
    let table = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    table::draw(view, &columns, &rows, view.screen.cursor(), table, pen);
}

/// `3 Running, 1 Pending`: statuses by how many pods have them.
fn statuses(rows: &[&PodRow]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in rows {
        *counts.entry(&pod.status).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let words: Vec<String> = counts
        .into_iter()
        .map(|(s, n)| format!("{n} {s}"))
        .collect();
    words.join(", ")
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
    let fields = [
        ("status", pod.status.clone()),
        ("ready", pod.ready.clone()),
        ("restarts", pod.restarts.clone()),
        ("age", age(pod, view.scene)),
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
    node(view, pod, width, &mut page);
    objects(view, pod, width, &mut page);
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
            page.line(&[
                ("  first error  ", Role::Label),
                (&body(&error.text, false), Role::Fail),
            ]);
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

/// What is known of the pod's node, what is wrong with it first.
fn node(view: &View<'_>, row: &PodRow, width: u16, page: &mut Page) {
    let Some(name) = &row.node else { return };
    let Some(node) = view.model.nodes.get(name) else {
        if let Some(EdgeState::Forbidden { rule }) = view.model.edges.get("nodes") {
            page.gap();
            let said = format!("nothing more is known of the node: not allowed to {rule}");
            page.prose(&said, width.saturating_sub(2), 0, Role::Quiet);
        }
        return;
    };
    page.head(&format!("NODE {name}"));
    // Ready should be so; every other condition names a trouble.
    let bad = |c: &Condition| (c.status == "True") != (c.kind == "Ready");
    let ready = node.conditions.iter().find(|c| c.kind == "Ready");
    let (state, role) = match ready.map(|c| c.status.as_str()) {
        Some("True") => ("Ready", Role::Ok),
        Some(_) => ("NotReady", Role::Fail),
        None => ("Unknown", Role::Unknown),
    };
    let cordoned = if node.unschedulable {
        ",SchedulingDisabled"
    } else {
        ""
    };
    page.line(&[
        ("  status    ", Role::Label),
        (state, role),
        (cordoned, Role::Warn),
    ]);
    for c in node.conditions.iter().filter(|c| bad(c)) {
        let said = [c.reason.as_deref(), c.message.as_deref()];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        let text = format!("{} {}: {}", c.kind, c.status, said.join(": "));
        page.prose(&text, width.saturating_sub(4), 2, Role::Warn);
    }
    for (key, value, effect) in &node.taints {
        let value = if value.is_empty() {
            String::new()
        } else {
            format!("={value}")
        };
        page.line(&[
            ("  taint     ", Role::Label),
            (&format!("{key}{value}:{effect}"), Role::Text),
        ]);
    }
    let gpus = node
        .capacity
        .iter()
        .filter(|(k, _)| k.contains("/gpu") || k.contains("/mig-"));
    for (resource, capacity) in gpus {
        let usable = node.allocatable.get(resource);
        let role = if usable == Some(capacity) {
            Role::Text
        } else {
            Role::Warn
        };
        let usable = table::or_dash(usable.map(String::as_str));
        page.line(&[
            ("  GPUs      ", Role::Label),
            (&format!("{usable} of {capacity} usable"), role),
            (&format!("   {resource}"), Role::Quiet),
        ]);
    }
    let versions: Vec<&str> = node.versions.iter().map(String::as_str).collect();
    let versions = versions.join("   ");
    if !versions.trim().is_empty() {
        page.line(&[("  versions  ", Role::Label), (&versions, Role::Quiet)]);
    }
}

/// What the API server says of the pod beyond the table: conditions, containers, first failure, events.
fn objects(view: &View<'_>, row: &PodRow, width: u16, page: &mut Page) {
    let key = PodKey {
        namespace: row.namespace.clone(),
        name: row.name.clone(),
    };
    let pods = &view.model.pods;
    let Some(pod) = pods.get(&key) else { return };
    let now = view.scene.now.map_or(view.model.now, |n| n.ns);
    let ago = |at: Option<Nanos>| {
        at.map_or(String::new(), |t| {
            format!("{} ago", parts::age(now.saturating_sub(t)))
        })
    };
    if let Some(failure) = pods.first_failure(pod) {
        page.head("FIRST FAILURE");
        page.prose(&failure.text(), width.saturating_sub(4), 2, Role::Fail);
        if failure.at.is_some() {
            page.line(&[(&format!("  {}", ago(failure.at)), Role::Quiet)]);
        }
    }
    if !pod.conditions.is_empty() {
        page.head("CONDITIONS");
    }
    for c in &pod.conditions {
        let good = c.status == "True";
        let text = [c.reason.as_deref(), c.message.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": ");
        page.line(&[
            (&format!("  {:<28} ", c.kind), Role::Text),
            (
                &format!("{:<7} ", c.status),
                if good { Role::Ok } else { Role::Warn },
            ),
            (&format!("{:<10} ", ago(c.since)), Role::Quiet),
            (&text, Role::Text),
        ]);
    }
    for (title, containers) in [
        ("INIT CONTAINERS", &pod.init_containers),
        ("CONTAINERS", &pod.containers),
    ] {
        if !containers.is_empty() {
            page.head(title);
        }
        for c in containers {
            container(c, &ago, page);
        }
    }
    let events: Vec<&KubeEvent> = pods.events_of(&key).rev().take(20).collect();
    if !events.is_empty() {
        page.head("EVENTS");
    }
    for e in events {
        let times = if e.count > 1 {
            format!("  × {}", e.count)
        } else {
            String::new()
        };
        page.line(&[
            (&format!("  {:<10} ", ago(e.last.or(e.first))), Role::Quiet),
            (
                &format!("{:<18} ", e.reason),
                if e.normal { Role::Text } else { Role::Warn },
            ),
            (&e.message, Role::Text),
            (&times, Role::Notice),
        ]);
    }
}

fn container(c: &ContainerView, ago: &dyn Fn(Option<Nanos>) -> String, page: &mut Page) {
    let state = |s: &ContainerState| match s {
        ContainerState::None => ("-".to_owned(), Role::Unknown),
        ContainerState::Waiting { reason, message } => {
            let said = [Some(reason.as_str()), message.as_deref()];
            let said: Vec<&str> = said
                .into_iter()
                .flatten()
                .filter(|t| !t.is_empty())
                .collect();
            let comma = if said.is_empty() { "" } else { ", " };
            (format!("waiting{comma}{}", said.join(": ")), Role::Waiting)
        }
        ContainerState::Running { since } => (format!("running since {}", ago(*since)), Role::Ok),
        ContainerState::Terminated {
            exit_code,
            reason,
            finished,
            ..
        } => {
            let why = reason.as_ref().map_or(String::new(), |r| format!(" ({r})"));
            let role = if *exit_code == 0 {
                Role::Quiet
            } else {
                Role::Fail
            };
            (
                format!("exit code {exit_code}{why} {}", ago(*finished)),
                role,
            )
        }
    };
    let (now, role) = state(&c.state);
    page.line(&[(&format!("  {:<20} ", c.name), Role::Strong), (&now, role)]);
    if c.last_state != ContainerState::None {
        let (before, role) = state(&c.last_state);
        page.line(&[
            (&format!("  {:<20} before: ", ""), Role::Label),
            (&before, role),
        ]);
    }
    page.line(&[
        (&format!("  {:<20} ", ""), Role::Text),
        (
            &format!(
                "{}   {}, {}",
                c.image,
                parts::count(u64::from(c.gpus), "GPU", "GPUs"),
                parts::count(u64::from(c.restarts), "restart", "restarts")
            ),
            Role::Quiet,
        ),
    ]);
    for (kind, what) in &c.probes {
        page.line(&[
            (&format!("  {:<20} {kind} probe  ", ""), Role::Label),
            (what, Role::Quiet),
        ]);
    }
}
