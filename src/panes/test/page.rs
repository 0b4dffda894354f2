//! Pages of the test: what would run, everything known of one that did, what the numbers mean.

use super::super::parts;
use super::super::{Page, View};
use super::{can_launch, role, table};
use crate::model::event::{Feed, PodKey};
use crate::model::screen::{CANCEL, PaneId};
use crate::parse::At;
use crate::rules::busbw::size;
use crate::rules::scene::PodRow;
use crate::rules::testing::{TestView, state};
use crate::theme::Role;

/// What a test is for, what would run where, how it is begun.
pub(super) fn before(view: &View<'_>, width: u16) -> Page {
    let mut page = Page::about("all-reduce test");
    page.line(&[("No test has run.", Role::Strong)]);
    let own = view
        .session
        .test_at
        .filter(|_| view.session.feed == Feed::Demo);
    let foretold = own.is_some();
    if let Some(ns) = own {
        let at = parts::clock(At { ns, exact: true });
        let text = format!(
            "One begins by itself at {at}: this scenario has a test of its own, and nobody is asked. :{CANCEL} takes it back."
        );
        page.prose(&text, width, 0, Role::Notice);
    }
    page.prose(
        "When the logs don't say whether hardware, network or configuration is at fault, a small job that runs as the \
         workload runs is the proof: same image, network and nodes, and nothing of it touched.",
        width,
        0,
        Role::Quiet,
    );
    page.gap();
    let pods: Vec<_> = view.scene.pods.iter().filter(|p| p.gpus > 0).collect();
    if let (Ok(()), Some(first)) = (can_launch(view), pods.first()) {
        let nodes: Vec<&str> = pods.iter().filter_map(|p| p.node.as_deref()).collect();
        let like = view.session.workload.clone().unwrap_or_default();
        let per = pods.iter().map(|p| p.gpus).min().unwrap_or(0);
        let n = u64::from(per) * pods.len() as u64;
        let facts = [
            ("like", like),
            (
                "ranks",
                format!(
                    "{n}: {} with {} each",
                    parts::count(pods.len() as u64, "pod", "pods"),
                    parts::count(u64::from(per), "GPU", "GPUs")
                ),
            ),
            ("nodes", if nodes.is_empty() { "any that suits".into() } else { nodes.join(", ") }),
            ("image", image(view, first)),
            (
                "runs",
                "gloo on CPU, then NCCL from 8 B to 1 GiB (or 30 % of the free memory), each element checked, then \
                 vLLM's own communicator"
                    .into(),
            ),
            (
                "creates",
                "a Job, a Service and a ConfigMap of its own; removed however it ends, at most 15 minutes".into(),
            ),
            (
                "needs",
                format!("{n} free GPUs on these nodes: a workload that runs holds its own. --gpus 0 tests the network alone"),
            ),
        ];
        for (name, text) in facts {
            let room = width.saturating_sub(9).max(10);
            for (i, line) in parts::wrap(&text, room).iter().enumerate() {
                let head = if i == 0 { name } else { "" };
                page.line(&[(&format!("{head:<9}"), Role::Label), (line, Role::Text)]);
            }
        }
        page.gap();
        if foretold {
            return page;
        }
        page.line(&[
            ("a", Role::Key),
            (" or ", Role::Text),
            (":allreduce", Role::Key),
            (
                " shows the manifest and asks before anything is created",
                Role::Text,
            ),
        ]);
        return page;
    }
    match can_launch(view) {
        Err(why) => page.prose(why, width, 0, Role::Text),
        Ok(()) => page.prose(
            "No pod with a GPU is on screen yet: a test is planned from the workload's own pods. With :allreduce --gpus 0 \
             the network alone can be tested.",
            width,
            0,
            Role::Text,
        ),
    }
    page
}

/// The image of the container with the GPUs by its name; where the pod is not known, its digest.
fn image(view: &View<'_>, row: &PodRow) -> String {
    let key = PodKey {
        namespace: row.namespace.clone(),
        name: row.name.clone(),
    };
    let pod = view.model.pods.get(&key);
    let container = pod.and_then(|p| p.containers.iter().max_by_key(|c| c.gpus));
    let named = container.map(|c| c.image.clone()).filter(|i| !i.is_empty());
    let named = named.or_else(|| row.image.clone());
    named.unwrap_or_else(|| "the workload's".into())
}

/// Everything known of the test.
pub(super) fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let test = view.scene.test.as_deref()?;
    let (word, grade) = state(test);
    let mut page = Page::about("all-reduce test");
    page.line(&[(word, role(grade))]);
    page.prose(&test.sentence, width.saturating_sub(2), 2, Role::Text);
    if let Some(next) = test.next() {
        page.prose(next, width.saturating_sub(2), 2, Role::Notice);
    }
    if let Some(source) = test.verdict.as_ref().and_then(|v| v.source.as_ref()) {
        page.prose(
            &format!("expectation: {source}"),
            width.saturating_sub(2),
            2,
            Role::Quiet,
        );
    }
    let sizes = table::listed(view, test);
    let row = view.screen.list(PaneId::Test).cursor.row(0, sizes.len());
    if let Some(bytes) = row.and_then(|r| sizes.get(r)) {
        page.head(&format!("ROWS OF {}", size(*bytes)));
        for s in &test.series {
            if let Some((h, wrong)) = s.points.get(bytes) {
                let wrong = wrong.map_or_else(|| "not checked".into(), |w| format!("{w} wrong"));
                page.line(&[
                    (&format!("  {:<10} {:<10} ", s.by, s.kind), Role::Label),
                    (
                        &format!(
                            "{:>12.2} us   algbw {:>8.3}   busbw {:>8.3} GB/s   ",
                            h.us, h.algbw, h.busbw
                        ),
                        Role::Text,
                    ),
                    (&wrong, Role::Text),
                ]);
            }
        }
    }
    failures(test, &mut page, width);
    page.head("PHASES");
    for v in &test.phases {
        let note = v.note.as_deref().unwrap_or_default();
        page.line(&[
            (
                &format!("  {:<22} {:>8}   ", super::word(v), parts::duration(v.took)),
                Role::Text,
            ),
            (note, Role::Quiet),
        ]);
    }
    for (step, why) in &test.skipped {
        page.line(&[
            (&format!("  {step:<22} left out   "), Role::Quiet),
            (why, Role::Quiet),
        ]);
    }
    if let Some(p) = &test.planned {
        page.head("PLAN");
        page.line(&[("  like      ", Role::Label), (&p.workload, Role::Text)]);
        page.line(&[("  image     ", Role::Label), (&p.image, Role::Text)]);
        for warning in &p.warnings {
            page.prose(
                &format!("warning: {warning}"),
                width.saturating_sub(2),
                2,
                Role::Warn,
            );
        }
        page.head("MANIFEST");
        for line in p.manifest.lines() {
            let mut line = super::super::Line::of(&[("  ", Role::Text), (line, Role::Code)]);
            line.copy = Some(p.manifest.clone());
            page.lines.push(line);
        }
    }
    Some(page)
}

fn failures(test: &TestView, page: &mut Page, width: u16) {
    if test.failures.is_empty() {
        return;
    }
    page.head("FAILURES");
    for f in &test.failures {
        let (mark, role) = if f.echo {
            ("after it: ", Role::Quiet)
        } else {
            ("", Role::Fail)
        };
        let from = page.lines.len();
        page.prose(&format!("{mark}{f}"), width.saturating_sub(2), 2, role);
        if let Some(line) = page.lines.get_mut(from).filter(|_| !f.echo) {
            line.problem = true;
        }
    }
}

/// What the numbers mean.
pub(super) fn explain(view: &View<'_>, width: u16) -> Option<Page> {
    view.scene.test.as_deref()?;
    let mut page = Page::about("what the test says");
    let width = width.saturating_sub(2);
    let mut say = |head: &str, text: &str| {
        page.head(head);
        page.prose(text, width, 2, Role::Text);
    };
    say(
        "BANDWIDTHS",
        "algbw is the size by the time. busbw is algbw times 2 (n - 1) / n over n ranks, as nccl-tests define it: what the \
         slowest link carries, comparable over any number of ranks. GB are 10^9 bytes.",
    );
    say(
        "THE GRADE",
        "The largest size over NCCL against what such GPUs and networks reach elsewhere; the mark in the bars is that value. \
         good from 0.9 of it, warn from 0.7, below under that. A wrong element outweighs every number. Not decided where \
         nothing is there to compare with, or the sweep is incomplete. Below 256 MiB latency decides, and nothing is graded.",
    );
    say(
        "GLOO FIRST",
        "The same ranks over TCP on the CPU, before NCCL is touched: names, routes and torch work if it does, whatever NCCL \
         says afterwards.",
    );
    say(
        "TRANSPORTS",
        "The test's NCCL log is read as the workload's is, apart from it. Where the test does better, the hardware can and the \
         workload's settings are at fault; where both are alike and slow, it is the hardware or the network.",
    );
    Some(page)
}
