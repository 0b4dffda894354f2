//! One rank, or the ranks of a folded row, in full.

use super::list;
use crate::panes::overview::rungs::{self, Rung};
use crate::panes::parts;
use crate::panes::{Line, Page, View, table};
use crate::parse::At;
use crate::rules::scene::{CommState, NcclStep, ProcessView, Scene};
use crate::rules::variables;
use crate::theme::Role;

/// A process, or the processes of a folded row.
pub fn page(view: &View<'_>, row: &Rung, width: u16) -> Page {
    match row.processes.as_slice() {
        [one] => process(view, row, *one, width),
        _ => folded(view, row, width),
    }
}

/// The members of a folded row, one a line.
fn folded(view: &View<'_>, row: &Rung, width: u16) -> Page {
    let scene = view.scene;
    let mut page = Page::about(format!("{}   {}", parts::ranks(&row.ranks), row.word));
    if let Some(silent) = row.silent(scene.now) {
        let text = format!(
            "no sign of getting on for {}: a suspicion, until samples of GPU and CPU confirm it",
            parts::duration(silent)
        );
        page.line(&[(&text, Role::Warn)]);
    }
    let hint = page.lines.len();
    page.line(&[(
        "u shows every rank by itself; a filter names one",
        Role::Quiet,
    )]);
    page.head("RANKS");
    let from = page.lines.len();
    let mut members: Vec<(Option<u32>, u32, &ProcessView)> = row
        .processes
        .iter()
        .filter_map(|i| {
            let p = scene.processes.get(*i as usize)?;
            Some((p.global_rank, *i, p))
        })
        .collect();
    members.sort_by_key(|(rank, i, _)| (rank.is_none(), *rank, *i));
    let first = members.first().map(|(_, _, p)| *p);
    for (rank, i, p) in members {
        let gpu = list::gpus(scene, &[i]);
        let said = list::said(p).0;
        page.line(&[
            (
                &format!("  rank {:>5}  ", table::number(rank)),
                Role::Strong,
            ),
            (&format!("{:<24} ", p.place()), Role::Text),
            (
                &format!("{:<14} GPU {gpu:>2}  ", table::or_dash(p.node.as_deref())),
                Role::Quiet,
            ),
            (&format!("{:>8}  ", list::in_stage(p, scene)), Role::Text),
            (&said, Role::Text),
        ]);
    }
    // A hint is nothing to hand on: from the top of the page the list is.
    let all: Vec<String> = page.lines.iter().skip(from).map(Line::text).collect();
    for line in page.lines.iter_mut().take(from).skip(hint) {
        line.copy = Some(all.join("\n"));
    }
    if let Some(p) = first {
        counted(&mut page, scene, p, width);
    }
    page
}

fn process(view: &View<'_>, row: &Rung, index: u32, width: u16) -> Page {
    let scene = view.scene;
    let none = ProcessView::default();
    let p = scene.processes.get(index as usize).unwrap_or(&none);
    let mut page = Page::about(format!(
        "rank {}   {}",
        table::number(row.ranks.first()),
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
            format!("{}   {} in it", list::stage(p).0, list::in_stage(p, scene)),
        ),
        ("NCCL step", nccl(p)),
        ("progress", progress(p)),
        ("last sign", last_sign(p, scene)),
    ];
    for (name, value) in &fields {
        page.line(&[(&format!("{name:<10} "), Role::Label), (value, Role::Text)]);
    }
    counted(&mut page, scene, p, width);
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
        for m in c.ranks.iter().filter(|m| m.process == index) {
            none = false;
            let (word, role) = parts::comm_state(m.state);
            let word = match (m.state, m.step) {
                (CommState::Starting, NcclStep::Initialization) => "1 of 4: initialization",
                (CommState::Starting, NcclStep::Topology) => "2 of 4: topology",
                (CommState::Starting, NcclStep::Transport) => "3 of 4: transport",
                _ => word,
            };
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
            let value = if variables::secret(name) {
                "set, not shown"
            } else {
                value.as_str()
            };
            page.line(&[(&format!("  {name}="), Role::Label), (value, Role::Text)]);
        }
    }
    page.head("LOGS");
    for file in p.sources.iter().flat_map(|s| scene.files(*s)) {
        page.line(&[("  ", Role::Text), (file, Role::Text)]);
    }
    page
}

/// NCCL's four steps, and the all-reduce that warms a communicator up behind them.
fn nccl(p: &ProcessView) -> String {
    let step = list::step(p).0;
    if p.nccl_failed {
        return "the newest communicator failed before it was complete".into();
    }
    match (p.nccl_step, p.warmed_up) {
        (Some(NcclStep::Completion), Some(true)) => format!("{step}, warm-up all-reduce done"),
        (Some(NcclStep::Completion), Some(false)) => {
            "complete, the warm-up all-reduce has not come back".into()
        }
        _ => step,
    }
}

fn progress(p: &ProcessView) -> String {
    let Some(done) = rungs::progress(p) else {
        return "-".into();
    };
    let left = rungs::pace(p).and_then(|g| g.left_s);
    let left = left.map_or_else(String::new, |s| {
        let ns = i64::try_from(s)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
        format!("   about {} left", parts::duration(ns))
    });
    format!("{done}{left}")
}

/// What Ray's driver told of it without its name, with the line.
fn counted(page: &mut Page, scene: &Scene, p: &ProcessView, width: u16) {
    let told = scene.folded.iter().filter(|f| f.line.source == p.source);
    for f in told.filter(|_| p.counted.is_some()) {
        page.head("COUNTED BY RAY");
        page.prose(&f.sentence(), width.saturating_sub(4), 2, Role::Text);
        page.prose(&f.line.text, width.saturating_sub(4), 2, Role::Quiet);
    }
}

/// When it last showed that it gets on, and what its stage allows.
fn last_sign(p: &ProcessView, scene: &Scene) -> String {
    let ago = |at: At| {
        scene
            .now
            .map(|now| parts::duration(now.ns.saturating_sub(at.ns)))
            .unwrap_or_default()
    };
    let allowed = |s: u32| parts::duration(i64::from(s).saturating_mul(1_000_000_000));
    if let Some(c) = p.counted.filter(|c| !c.sure && p.still.is_none()) {
        return format!(
            "not known: Ray counts {} more, unnamed, to have {}; this may be one of them",
            c.unnamed, c.done
        );
    }
    match (p.still, p.quiet) {
        (Some(s), _) => format!(
            "{} ago; more than {} is suspicious here{}",
            ago(s.since),
            allowed(s.limit_s),
            if s.waits {
                ", but it may only wait for a rank that is behind"
            } else {
                ""
            }
        ),
        (None, true) => {
            "this version lets only the first rank of a node speak until it serves".into()
        }
        (None, false) => match p.silence {
            Some(s) => format!(
                "{} ago of {} allowed here",
                ago(s.since),
                allowed(s.limit_s)
            ),
            None => table::or_dash(p.last_at.map(|at| format!("{} ago", ago(at))).as_deref()),
        },
    }
}
