//! One GPU: its memory over time, its health, what its container does to disk and host memory.

use ratatui::layout::Rect;

use super::{bar, gb, lines, place, rate, rows};
use crate::model::screen::PaneId;
use crate::panes::parts::{self, Pen};
use crate::panes::{self, Page, View};
use crate::parse::{At, Nanos};
use crate::rules::scene::{GpuView, UsageView};
use crate::theme::Role;

/// A curve is never drawn up to less than this part of the card.
const FLOOR: u64 = 8;

/// What stands below the rows: the curve of the selected GPU or node and a line about its container.
pub(super) fn below(
    view: &View<'_>,
    node: Option<&str>,
    gpus: &[&GpuView],
    area: Rect,
    pen: &mut Pen<'_>,
) {
    let Some(g) = gpus.first().filter(|_| area.height >= 3) else {
        return;
    };
    let title = match (node, g.global_rank) {
        (Some(node), _) => format!("memory of {node}, its first GPU"),
        (None, Some(r)) => format!("memory of the GPU of rank {r}, {}", place(g)),
        (None, None) => format!("memory of GPU {}", g.bus_id.as_deref().unwrap_or("?")),
    };
    let n = pen.text(area.x, area.y, area.width, &title, Role::Label);
    let points = points(view, g);
    // The whole card would press a load into its lowest line; a scale that grows with each point would redraw all, and
    // one without a floor would draw the first half GB as a card that is full.
    let most = points.iter().map(|(_, used)| *used).max().unwrap_or(0);
    let goal = match (g.loading, g.before_weights, g.expected_weights) {
        (true, Some(before), Some(weights)) => before.saturating_add(weights),
        _ => 0,
    };
    let mut top = g.total.unwrap_or(0).max(most).max(1);
    let least = most.max(goal).max(top / FLOOR);
    while top / 2 >= least.max(1) {
        top = top.div_ceil(2);
    }
    let room = match g.total {
        Some(total) if top < total => format!(" of {} GB, drawn up to {}", gb(total), gb(top)),
        Some(total) => format!(" of {} GB", gb(total)),
        None => String::new(),
    };
    let caption = match (points.first(), points.last()) {
        (Some((from, low)), Some((_, high))) => format!(
            "   since {}: {} to {} GB{}{}",
            parts::clock(At {
                ns: *from,
                exact: true
            }),
            gb(*low),
            gb(*high),
            room,
            g.rate
                .map_or(String::new(), |r| format!(", now {}", rate(r)))
        ),
        _ => String::new(),
    };
    pen.text(
        area.x + n,
        area.y,
        area.width.saturating_sub(n),
        &caption,
        Role::Quiet,
    );
    let host = usage(view, g).map(container).filter(|_| area.height >= 5);
    let tall = area.height - 1 - u16::from(host.is_some());
    let curve = Rect {
        y: area.y + 1,
        height: tall,
        ..area
    };
    bar::curve(points, top, curve, pen);
    if let Some(text) = host {
        pen.text(area.x, area.y + 1 + tall, area.width, &text, Role::Text);
    }
}

fn points<'a>(view: &View<'a>, g: &GpuView) -> &'a [(Nanos, u64)] {
    g.key
        .as_deref()
        .and_then(|k| view.model.gpus.get(k))
        .map_or(&[], |gpu| gpu.curve.points())
}

fn usage<'a>(view: &View<'a>, g: &GpuView) -> Option<&'a UsageView> {
    view.scene.usage.iter().find(|u| u.pod == g.pod)
}

/// `container: 18.2 of 549.8 GB, 61.0 GB of page cache, 3.2 CPUs, reads 1.4 GB/s`.
fn container(u: &UsageView) -> String {
    let mut said = Vec::new();
    if let Some(working) = u.working.or(u.memory) {
        let limit = u.limit.map_or(String::new(), |l| format!(" of {}", gb(l)));
        said.push(format!("{}{limit} GB", gb(working)));
    }
    if let Some(cache) = u.cache {
        said.push(format!("{} GB of page cache", gb(cache)));
    }
    if let Some(cpus) = u.cpus {
        said.push(format!("{cpus:.1} CPUs"));
    }
    if let Some(read) = u.read {
        said.push(format!("reads {}", rate(read)));
    }
    if let Some(swap) = u.host_swap.filter(|s| *s > 0) {
        said.push(format!("host swaps {} GB", gb(swap)));
    }
    if let Some(n) = u.oom_kills.filter(|n| *n > 0) {
        said.push(parts::count(
            n,
            "process killed for memory",
            "processes killed for memory",
        ));
    }
    format!("container: {}", said.join(", "))
}

/// Everything about the selected GPU.
pub(super) fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let (w, h) = view.screen.size;
    let parts = panes::split(view.screen, Rect::new(0, 0, w, h));
    let (rows, _) = rows(view, lines(panes::canvas(view.screen, &parts)));
    let cursor = view.screen.list(PaneId::Vram).cursor;
    let row = rows.get(cursor.row(0, rows.len())?)?;
    let g = row.gpus.first()?;
    let mut page = Page::about(match g.global_rank {
        Some(r) => format!("GPU of rank {r}   {}", place(g)),
        None => format!("GPU   {}", place(g)),
    });
    let text = |t: Option<&str>| t.unwrap_or("-").to_owned();
    let size = |b: Option<u64>| b.map_or("-".into(), |b| format!("{} GB", gb(b)));
    let now = view.scene.now.map_or(0, |a| a.ns);
    let ago = |ns: Nanos| format!("{} ago", parts::duration(now - ns));
    let fields: Vec<(&str, String)> = vec![
        ("product", text(g.name.as_deref())),
        ("uuid", text(g.uuid.as_deref())),
        ("bus id", text(g.bus_id.as_deref())),
        ("pod", text(g.pod.as_deref())),
        ("node", text(g.node.as_deref())),
        ("driver", text(g.driver.as_deref())),
        (
            "measured",
            match (&g.tool, g.at) {
                (Some(tool), Some(at)) => {
                    let old = if g.ended {
                        "; its container has ended since"
                    } else {
                        ""
                    };
                    format!("by {tool}, {}{old}", ago(at.ns))
                }
                _ => "not measured".into(),
            },
        ),
    ];
    let put = |page: &mut Page, fields: &[(&str, String)]| {
        for (name, value) in fields {
            page.line(&[(&format!("{name:<16} "), Role::Label), (value, Role::Text)]);
        }
    };
    put(&mut page, &fields);
    page.head("MEMORY");
    let limit = g.utilization.map_or(String::new(), |(u, set)| {
        let how = if set { "set" } else { "default" };
        format!(", gpu_memory_utilization {u} ({how})")
    });
    let memory: Vec<(&str, String)> = vec![
        ("used", format!("{} of {}", size(g.used), size(g.total))),
        ("kept by driver", size(g.reserved)),
        (
            "weights",
            format!(
                "{} of {}{}",
                size(g.filled),
                size(g.expected_weights),
                g.expected_from
                    .as_deref()
                    .map_or(String::new(), |f| format!(" ({f})"))
            ),
        ),
        ("before weights", size(g.before_weights)),
        ("vLLM stops at", format!("{}{limit}", size(g.limit))),
        ("of others", size(g.other)),
        ("fill rate", g.rate.map_or("-".into(), rate)),
        ("left", g.left.map_or("-".into(), super::left)),
        (
            "stands still for",
            g.still_since
                .map_or("-".into(), |s| parts::duration(now - s)),
        ),
        (
            "against group",
            match &g.odd {
                Some(odd) => odd.clone(),
                None if g.used.is_some() => "alike".into(),
                None => "-".into(),
            },
        ),
    ];
    put(&mut page, &memory);
    page.head("HEALTH");
    // Not every tool tells: then nothing is known, and not nothing wrong.
    let reading = g.key.as_deref().and_then(|k| view.model.gpus.get(k));
    let throttle = reading.and_then(|gpu| gpu.reading.throttle);
    let percent = |p: Option<u32>| p.map_or("-".into(), |p| format!("{p} %"));
    let xids: Vec<String> = g
        .xids
        .iter()
        .map(|(at, code)| {
            format!(
                "{code} at {}",
                parts::clock(At {
                    ns: *at,
                    exact: true
                })
            )
        })
        .collect();
    let health: Vec<(&str, String)> = vec![
        (
            "busy",
            format!("{}, memory {}", percent(g.busy), percent(g.memory_busy)),
        ),
        (
            "temperature",
            g.celsius.map_or("-".into(), |c| format!("{c} \u{b0}C")),
        ),
        (
            "power",
            format!(
                "{} of {}",
                g.watts.map_or("-".into(), |w| format!("{w:.0} W")),
                g.watts_limit.map_or("-".into(), |w| format!("{w:.0} W"))
            ),
        ),
        (
            "clock",
            g.clock.map_or("-".into(), |(now, most)| {
                format!(
                    "{now} of {} MHz",
                    most.map_or("-".into(), |m| m.to_string())
                )
            }),
        ),
        (
            "held down by",
            match throttle {
                None => "-".into(),
                Some(_) if g.throttle.is_empty() => "nothing".into(),
                Some(_) => g.throttle.join(", "),
            },
        ),
        (
            "ECC errors",
            format!(
                "{} uncorrectable, {} corrected",
                g.ecc_uncorrected.map_or("-".into(), |n| n.to_string()),
                g.ecc_corrected.map_or("-".into(), |n| n.to_string())
            ),
        ),
        (
            "Xid",
            match g.uuid.as_deref().and_then(|u| view.model.gpus.unwatched(u)) {
                _ if !xids.is_empty() => xids.join(", "),
                None => "none seen".into(),
                Some(why) => format!("-, nobody is told of them: {why}"),
            },
        ),
        (
            "MIG",
            match g.mig {
                Some(true) => "on".into(),
                Some(false) => "off".into(),
                None => "-".into(),
            },
        ),
        (
            "PCIe",
            g.pcie.map_or("-".into(), |(gen_, lanes)| {
                format!("generation {gen_}, {lanes} lanes")
            }),
        ),
    ];
    put(&mut page, &health);
    links(view, g, &mut page);
    if let Some(u) = usage(view, g) {
        page.head("CONTAINER");
        page.prose(&container(u), width, 0, Role::Text);
    }
    if !g.shared.is_empty() {
        page.head("SEEN BY SEVERAL PODS");
        page.prose(&g.shared.join(", "), width, 0, Role::Warn);
    }
    Some(page)
}

/// Processes, NVLinks and near GPUs, where NVML told them.
fn links(view: &View<'_>, g: &GpuView, page: &mut Page) {
    let Some(gpu) = g.key.as_deref().and_then(|k| view.model.gpus.get(k)) else {
        return;
    };
    if let Some(list) = &gpu.processes {
        page.head("PROCESSES");
        if list.is_empty() {
            page.line(&[("  none", Role::Quiet)]);
        }
        for p in list {
            let used = p.used.map_or("-".into(), |u| format!("{} GB", gb(u)));
            page.line(&[
                (&format!("{:>9}  {used:>9}  ", p.pid), Role::Label),
                (p.name.as_deref().unwrap_or("-"), Role::Text),
            ]);
        }
    }
    if !gpu.links.is_empty() {
        let up = gpu.links.iter().filter(|l| l.up == Some(true)).count();
        page.head("NVLINK");
        let role = if up == gpu.links.len() {
            Role::Text
        } else {
            Role::Warn
        };
        let text = format!("{up} of {} links up", gpu.links.len());
        page.line(&[("  ", Role::Text), (&text, role)]);
        for l in gpu.links.iter().filter(|l| l.up != Some(true)) {
            page.line(&[(&format!("  link {} is down", l.number), Role::Warn)]);
        }
    }
    let near: Vec<_> = view
        .model
        .gpus
        .pairs()
        .iter()
        .filter(|p| g.uuid.as_deref().is_some_and(|u| p.a == u || p.b == u))
        .collect();
    if !near.is_empty() {
        page.head("PCIE TOPOLOGY");
        for p in near {
            let other = if g.uuid.as_deref() == Some(p.a.as_str()) {
                &p.b
            } else {
                &p.a
            };
            let peer = match p.p2p {
                Some(true) => "peer to peer",
                Some(false) => "no peer to peer",
                None => "",
            };
            page.line(&[
                (&format!("  {:<6} ", p.path), Role::Label),
                (other, Role::Text),
                ("  ", Role::Text),
                (peer, Role::Quiet),
            ]);
        }
    }
}
