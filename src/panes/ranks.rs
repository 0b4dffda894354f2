//! Every rank: where it runs, how far its start-up is, what it is in the parallel layout.

use ratatui::layout::Rect;

use super::overview;
use super::parts::{self, Pen};
use super::table::{self, Column};
use super::{Line, Page, Pane, View};
use crate::model::screen::{Counts, PaneId};
use crate::rules::scene::{NcclStep, ProcessView, Scene};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Ranks,
    title: "start-up and place of every rank: pod, node, GPU, TP × PP × DP × EP",
    min: (36, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge,
};

/// A process with its number and its index.
#[derive(Clone, Copy)]
struct Row<'a> {
    number: Option<u32>,
    index: u32,
    process: &'a ProcessView,
}

fn columns<'a>() -> [Column<Row<'a>>; 12] {
    [
        Column {
            head: "RANK",
            right: true,
            gives: 0,
            most: 6,
            value: |r, _| (table::number(r.number), Role::Strong),
        },
        Column {
            head: "WHERE",
            right: false,
            gives: 0,
            most: 28,
            value: |r, _| (whose(r.process), Role::Text),
        },
        Column {
            head: "NODE",
            right: false,
            gives: 8,
            most: 20,
            value: |r, _| (table::or_dash(r.process.node.as_deref()), Role::Quiet),
        },
        Column {
            head: "GPU",
            right: true,
            gives: 4,
            most: 4,
            value: |r, v| (table::number(gpu(v.scene, r.index)), Role::Text),
        },
        Column {
            head: "TP",
            right: true,
            gives: 5,
            most: 4,
            value: |r, _| (table::number(r.process.tp), Role::Text),
        },
        Column {
            head: "PP",
            right: true,
            gives: 5,
            most: 4,
            value: |r, _| (table::number(r.process.pp), Role::Text),
        },
        Column {
            head: "DP",
            right: true,
            gives: 6,
            most: 4,
            value: |r, _| (table::number(r.process.dp), Role::Text),
        },
        Column {
            head: "EP",
            right: true,
            gives: 6,
            most: 4,
            value: |r, _| (table::number(r.process.ep), Role::Text),
        },
        Column {
            head: "STAGE",
            right: false,
            gives: 0,
            most: 18,
            value: |r, _| stage(r.process),
        },
        Column {
            head: "IN STAGE",
            right: true,
            gives: 2,
            most: 9,
            value: |r, v| (in_stage(r.process, v.scene), Role::Text),
        },
        Column {
            head: "NCCL",
            right: false,
            gives: 3,
            most: 15,
            value: |r, _| step(r.process),
        },
        Column {
            head: "PROGRESS",
            right: false,
            gives: 1,
            most: 0,
            value: |r, _| progress(r.process),
        },
    ]
}

fn stage(p: &ProcessView) -> (String, Role) {
    match (p.alive, p.stage) {
        (Some(false), s) => (
            format!(
                "ended{}",
                s.map_or(String::new(), |s| format!(" in {}", parts::stage(s).0))
            ),
            Role::Fail,
        ),
        (_, None) => ("-".into(), Role::Unknown),
        (_, Some(s)) => {
            let (word, at) = parts::stage(s);
            (word.into(), if at == 10 { Role::Ok } else { Role::Waiting })
        }
    }
}

fn step(p: &ProcessView) -> (String, Role) {
    match p.nccl_step {
        None => ("-".into(), Role::Unknown),
        Some(NcclStep::Initialization) => ("initialization".into(), Role::Waiting),
        Some(NcclStep::Topology) => ("topology".into(), Role::Waiting),
        Some(NcclStep::Transport) => ("transport".into(), Role::Waiting),
        Some(NcclStep::Completion) => ("complete".into(), Role::Ok),
    }
}

fn progress(p: &ProcessView) -> (String, Role) {
    if let Some(error) = &p.first_error {
        return (error.text.to_string(), Role::Fail);
    }
    let text = p.progress.as_ref().map_or(String::new(), |g| {
        format!("{}/{} {}", g.done, g.total, g.unit)
    });
    (text, Role::Text)
}

fn in_stage(p: &ProcessView, scene: &Scene) -> String {
    let ns = p
        .stage_since
        .zip(scene.now)
        .map(|(since, now)| now.ns.saturating_sub(since.ns));
    table::or_dash(ns.map(parts::duration).as_deref())
}

fn gpu(scene: &Scene, process: u32) -> Option<u32> {
    let all = scene.communicators.iter().flat_map(|c| &c.ranks);
    all.filter(|m| m.process == process)
        .find_map(|m| m.nvml_dev.or(m.cuda_dev))
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let ended = scene
        .processes
        .iter()
        .filter(|p| p.alive == Some(false))
        .count();
    (ended > 0).then_some((ended, Role::Fail))
}

fn listed<'a>(view: &View<'a>) -> Vec<Row<'a>> {
    let filter = view.screen.filter().to_lowercase();
    let numbers = overview::numbers(view.scene);
    let mut rows: Vec<Row<'a>> = view
        .scene
        .processes
        .iter()
        .zip(numbers)
        .zip(0..)
        .map(|((process, number), index)| Row {
            number,
            index,
            process,
        })
        .filter(|r| {
            filter.is_empty()
                || r.process.place().to_lowercase().contains(&filter)
                || r.process
                    .node
                    .as_deref()
                    .is_some_and(|n| n.to_lowercase().contains(&filter))
                || r.process
                    .stage
                    .is_some_and(|s| parts::stage(s).0.contains(&filter))
                || r.number.is_some_and(|n| n.to_string() == filter)
        })
        .collect();
    // Those without a number (API servers, engines) come last.
    rows.sort_by_key(|r| (r.number.is_none(), r.number, r.index));
    rows
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = listed(view);
    let selected = view
        .screen
        .list(PaneId::Ranks)
        .cursor
        .row(0, rows.len())
        .and_then(|r| rows.get(r));
    let bad = |r: &Row<'_>| r.process.alive == Some(false) || r.process.first_error.is_some();
    Counts {
        rows: rows.len(),
        page: usize::from(body.height.saturating_sub(2)),
        problems: rows
            .iter()
            .enumerate()
            .filter(|(_, r)| bad(r))
            .map(|(i, _)| i)
            .collect(),
        copy: selected.map(|r| r.process.place()),
        ..Counts::default()
    }
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = listed(view);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    if view.scene.processes.is_empty() {
        pen.text(x, area.y, width, "No process has spoken yet.", Role::Strong);
        let why = "Ranks come from the lines of vLLM's workers and from NCCL's (NCCL_DEBUG=INFO).";
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
    let (sentence, role) = overview::where_they_are(view.scene);
    pen.text(x, area.y, width, &sentence, role);
    // Columns that no rank fills say nothing.
    let silent = |head: &str| match head {
        "NODE" => rows.iter().all(|r| r.process.node.is_none()),
        "TP" => rows.iter().all(|r| r.process.tp.is_none()),
        "PP" => rows.iter().all(|r| r.process.pp.is_none()),
        "DP" => rows.iter().all(|r| r.process.dp.is_none()),
        "EP" => rows.iter().all(|r| r.process.ep.is_none()),
        "STAGE" | "IN STAGE" => rows
            .iter()
            .all(|r| r.process.stage.is_none() && r.process.alive != Some(false)),
        _ => false,
    };
    let columns = columns();
    let columns: Vec<&Column<Row<'_>>> = columns.iter().filter(|c| !silent(c.head)).collect();
    let table = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    table::draw(
        view,
        &columns,
        &rows,
        view.screen.list(PaneId::Ranks).cursor,
        table,
        pen,
    );
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = listed(view);
    let row = rows.get(view.screen.list(PaneId::Ranks).cursor.row(0, rows.len())?)?;
    let (p, scene) = (row.process, view.scene);
    let mut page = Page::about(format!(
        "rank {}   {}",
        table::number(row.number),
        p.place()
    ));
    let list = |l: &[String]| table::or_dash(Some(l.join(", ").as_str()));
    let fields = [
        ("label", table::or_dash(p.vllm_label.as_deref())),
        (
            "host, pid",
            format!(
                "{}, {}",
                table::or_dash(p.host.as_deref()),
                table::number(p.pid)
            ),
        ),
        ("node", table::or_dash(p.node.as_deref())),
        (
            "address",
            table::or_dash(p.bootstrap_address.as_deref().or(p.ip.as_deref())),
        ),
        (
            "interface",
            table::or_dash(p.bootstrap_interface.as_deref()),
        ),
        ("network", table::or_dash(p.network.as_deref())),
        ("RDMA", list(&p.rdma_devices)),
        ("NCCL", list(&p.nccl_versions)),
        (
            "CUDA",
            format!(
                "{}, driver {}",
                table::or_dash(p.cuda_version.as_deref()),
                table::or_dash(p.cuda_driver.as_deref())
            ),
        ),
        ("vLLM", table::or_dash(p.vllm_version.as_deref())),
        (
            "stage",
            format!("{}   {} in it", stage(p).0, in_stage(p, scene)),
        ),
        ("progress", table::or_dash(Some(progress(p).0.as_str()))),
    ];
    for (name, value) in &fields {
        page.line(&[(&format!("{name:<10} "), Role::Label), (value, Role::Text)]);
    }
    if let Some(error) = &p.first_error {
        page.head("FIRST ERROR");
        page.prose(&error.text, width.saturating_sub(4), 2, Role::Fail);
        if let Some(last) = page.lines.last_mut() {
            *last = Line {
                copy: Some(error.text.to_string()),
                problem: true,
                ..last.clone()
            };
        }
    }
    page.head("COMMUNICATORS");
    let mut none = true;
    for c in &scene.communicators {
        for m in c.ranks.iter().filter(|m| m.process == row.index) {
            none = false;
            let (word, role) = parts::comm_state(m.state);
            let name = c.group.as_deref().unwrap_or(&c.key);
            page.line(&[
                (&format!("  {name:<24} "), Role::Text),
                (
                    &format!("rank {:>4} of {:<5} ", m.rank, c.nranks),
                    Role::Label,
                ),
                (word, role),
            ]);
        }
    }
    if none {
        page.line(&[("  none seen", Role::Quiet)]);
    }
    if !p.env.is_empty() {
        page.head("ENVIRONMENT THAT THE LOG PROVES");
        for (name, value) in &p.env {
            page.line(&[(&format!("  {name}="), Role::Label), (value, Role::Text)]);
        }
    }
    page.head("LOGS");
    for source in p
        .sources
        .iter()
        .filter_map(|s| scene.sources.get(*s as usize))
    {
        page.line(&[("  ", Role::Text), (&source.name, Role::Text)]);
    }
    Some(page)
}

/// Where it runs; a process that is no rank also says what it is.
fn whose(p: &ProcessView) -> String {
    match (&p.vllm_label, p.global_rank) {
        (Some(label), None) => format!("{} {label}", p.place()),
        _ => p.place(),
    }
}
