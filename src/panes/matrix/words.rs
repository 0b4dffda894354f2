//! What is said where a picture does not speak for itself: what a sign means, and why there is nothing to draw.

use ratatui::layout::Rect;

use super::detail::{edges_of, selected, undecided};
use super::grid::worst;
use crate::panes::parts::{self, Pen};
use crate::panes::{Page, View};
use crate::rules::scene::{Finding, Glyph, ProcessView, Scene, SourceView, Stage};
use crate::theme::Role;

/// What the sign in a cell means, and which findings speak of it.
pub(super) fn explain(view: &View<'_>, width: u16) -> Option<Page> {
    let (grid, a, b) = selected(view)?;
    let (from, to) = grid.entry(a).zip(grid.entry(b))?;
    let cells = grid.cells(from, to);
    let glyph = worst(&cells);
    let mut page = Page::about(format!(
        "what {} → {} means",
        grid.name(from),
        grid.name(to)
    ));
    let text = |g: Glyph| match g {
        Glyph::P2p => {
            "P2P: the sender's GPU writes into (or the receiver's reads from) the other's memory, inside one host. NCCL does not say whether NVLink or PCIe carries it; nvidia-smi topo -m does."
        }
        Glyph::Mnnvl => {
            "P2P over multi-node NVLink: the GPUs share an NVLink domain across hosts. The label is the whole communicator's and is printed inside nodes too."
        }
        Glyph::P2pWeak => {
            "P2P through a third GPU, or moved by the copy engine: it works, slower than a direct path."
        }
        Glyph::CollNet => "CollNet: the network itself reduces (SHARP).",
        Glyph::NetGdr => {
            "A network with GPUDirect RDMA on both sides: the NIC reads and writes GPU memory. The best there is between hosts without multi-node NVLink."
        }
        Glyph::Shm => {
            "Shared host memory: each byte is copied to host memory and back. Used where P2P is not possible or was refused."
        }
        Glyph::Net => {
            "An RDMA network staged through host memory: at least one side has no GPUDirect RDMA. Each byte crosses the host's memory."
        }
        Glyph::Tcp => {
            "TCP sockets: kernel copies on both sides, a small fraction of what GPUs need. Right only where there is neither P2P nor RDMA."
        }
        Glyph::Doubt => {
            "Lines that could belong to more than one communicator: who they are between is not proven."
        }
        Glyph::Missing => {
            "The two ranks share a communicator and have no connection: neither ring nor tree nor send needed one so far."
        }
    };
    page.gap();
    match glyph {
        Some(g) => page.prose(text(g), width.saturating_sub(4), 0, Role::Text),
        None if undecided(view, from, to) => page.prose("Their communicator failed, was aborted or is not through its connections yet: which of them it would have made, or will still make, no line tells.", width.saturating_sub(4), 0, Role::Text),
        None => page.prose(text(Glyph::Missing), width.saturating_sub(4), 0, Role::Text),
    }
    if cells.iter().any(|c| c.downgraded) {
        page.gap();
        page.prose("It is worse than this place allows: the same ranks could use a better transport, as the lines of this job itself show.", width.saturating_sub(4), 0, Role::Warn);
    }
    if cells.iter().any(|c| c.disagree) {
        page.gap();
        page.prose("Sender and receiver do not say the same: one end has GPUDirect RDMA or another network, the other has not.", width.saturating_sub(4), 0, Role::Warn);
    }
    let edges = edges_of(view.scene, &cells);
    let speaks = |f: &&Finding| {
        edges.iter().any(|(c, e)| {
            f.communicator.as_deref() == Some(c.key.as_str())
                && (f.ranks.is_empty()
                    || [e.from, e.to]
                        .into_iter()
                        .flatten()
                        .any(|r| f.ranks.contains(&r)))
        })
    };
    for (i, finding) in view
        .scene
        .findings
        .iter()
        .enumerate()
        .filter(|(_, f)| speaks(f))
    {
        page.head(&format!("FINDING {}", i + 1));
        page.prose(
            &finding.title,
            width.saturating_sub(4),
            0,
            parts::severity(finding.severity).1,
        );
        page.prose(&finding.cause, width.saturating_sub(4), 0, Role::Text);
        for fix in &finding.fix {
            page.code(fix);
        }
    }
    Some(page)
}

/// What NCCL needs to be told.
const LOUD: &[&str] = &[
    "NCCL_DEBUG=INFO",
    "NCCL_DEBUG_SUBSYS=INIT,BOOTSTRAP,ENV,NET,GRAPH",
];

/// Why there is nothing to draw, which variables would change that, and what works without.
pub(super) fn why_empty(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (said, why, codes) = reason(view.scene);
    let (x, width) = (area.x + 1, area.width.saturating_sub(2).min(88));
    let mut y = area.y;
    let bottom = area.y + area.height;
    y += pen.wrapped(x, y, width, bottom.saturating_sub(y), said, Role::Strong);
    y += pen.wrapped(x, y, width, bottom.saturating_sub(y), why, Role::Text);
    if codes.is_empty() {
        return;
    }
    y += 1;
    for code in codes {
        if y < bottom {
            pen.text(x + 2, y, width.saturating_sub(2), code, Role::Code);
            y += 1;
        }
    }
    y += 1;
    let rest = "Without it pods, logs, start-up stages and findings still work; the matrix, rings and trees do not.";
    if y < bottom {
        pen.wrapped(x, y, width, bottom - y, rest, Role::Quiet);
    }
}

/// What is missing, why, and what to set.
fn reason(scene: &Scene) -> (&'static str, &'static str, &'static [&'static str]) {
    let lines: u64 = scene.sources.iter().map(|s| s.lines).sum();
    let nccl: u64 = scene.sources.iter().map(SourceView::nccl_now).sum();
    let before = |p: &ProcessView| {
        p.nccl_step.is_none() && p.stage.is_none_or(|stage| stage < Stage::NcclInit)
    };
    let early =
        scene.processes.iter().any(|p| p.stage.is_some()) && scene.processes.iter().all(before);
    let loud = |level: &String| matches!(level.as_str(), "INFO" | "TRACE");
    let told = scene
        .variables
        .get("NCCL_DEBUG")
        .is_some_and(|v| v.unset.is_empty() && !v.by.is_empty() && v.by.keys().all(loud));
    match (lines, nccl) {
        (0, _) => (
            "No log line has arrived yet.",
            "The matrix is read from the lines in which NCCL names the transport of each channel.",
            &[],
        ),
        (_, 0) if early && told => (
            "No rank has reached NCCL yet.",
            "NCCL_DEBUG is set: the lines come when the ranks have found each other.",
            &[],
        ),
        (_, 0) if early => (
            "No rank has reached NCCL yet.",
            "NCCL is silent by default: it will say what it chose where this is set before the job starts.",
            LOUD,
        ),
        (_, 0) if told => (
            "No NCCL line in these logs.",
            "NCCL_DEBUG is set, so what it says goes elsewhere. Into the log of its container it comes with:",
            &["NCCL_DEBUG_FILE=/dev/stdout"],
        ),
        (_, 0) => (
            "No NCCL line in these logs.",
            "NCCL is silent by default. Set this in every pod of the job and start it again:",
            LOUD,
        ),
        _ if scene.communicators.is_empty() => (
            "NCCL speaks, but no communicator has started here.",
            "INIT lines name the communicators; if NCCL_DEBUG_SUBSYS is set, it replaces the default and must list INIT:",
            LOUD,
        ),
        _ => (
            "No connection lines yet.",
            "NCCL connects at the first collective, so this may only be a matter of time. If NCCL_DEBUG_SUBSYS is set, it replaces the default and must list INIT:",
            LOUD,
        ),
    }
}
