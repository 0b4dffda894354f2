//! Memory of every GPU against what it should hold: bars, rate, time left, the one that differs.
//!
//! Where GPUs outgrow the screen a row is a node; enter filters for its GPUs.

mod bar;
mod detail;
mod strip;

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::parts::{self, Pen};
use super::{Pane, View};
use crate::model::event::ProbeOutcome;
use crate::model::screen::{Counts, PaneId};
use crate::parse::Nanos;
use crate::rules::scene::{GpuView, Scene};
use crate::theme::Role;

pub use strip::{rows as strip_rows, strip};

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Vram,
    title: "memory of every GPU: weights, KV reserve, others; rate, curve, health",
    min: (36, 4),
    draw,
    counts,
    drill: detail::drill,
    explain: detail::drill,
    badge,
};

/// Loading that adds nothing for so long is said to stand still.
const STILL: Nanos = 30_000_000_000;
/// A reading that is older says nothing of the present: samplers and exporters look four times a minute at least.
const OLD: Nanos = 60_000_000_000;

/// A row: one GPU, or those of one node.
struct Row<'a> {
    /// Node or pod, where the row stands for several.
    name: Option<String>,
    gpus: Vec<&'a GpuView>,
}

/// `58.6`: bytes in units of 10⁹, as capacities are sold.
fn gb(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let gb = bytes as f64 / 1e9;
    format!("{gb:.1}")
}

/// `2.1 GB/s`, `840 MB/s`.
fn rate(per_second: f64) -> String {
    if per_second >= 1e9 {
        format!("{:.1} GB/s", per_second / 1e9)
    } else {
        format!("{:.0} MB/s", per_second / 1e6)
    }
}

/// `0:38`, `12:05`, `3h 07m`.
fn left(ns: Nanos) -> String {
    let s = ns.max(0) / 1_000_000_000;
    if s >= 3_600 {
        parts::duration(ns)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}

/// Where a GPU is, as people say it: node, else pod, else this machine.
fn place(g: &GpuView) -> &str {
    g.node
        .as_deref()
        .or(g.pod.as_deref())
        .unwrap_or("this node")
}

/// It needs eyes: trouble of its own, or it differs from its group.
fn bad(g: &GpuView) -> Option<Role> {
    if g.state.is_some() || !g.xids.is_empty() || g.ecc_uncorrected.is_some_and(|n| n > 0) {
        return Some(Role::Fail);
    }
    let other = g.other.is_some_and(|o| o > 0);
    let throttled = g.throttled_badly && !g.ended;
    (g.odd.is_some() || other || throttled || stalled(g).is_some()).then_some(Role::Warn)
}

/// How long a load had added nothing when it was last looked at: what nobody has seen since proves no stall.
fn stalled(g: &GpuView) -> Option<Nanos> {
    let still = g.at?.ns - g.still_since?;
    (g.loading && !g.ended && !g.waits && !complete(g) && still >= STILL).then_some(still)
}

/// Its weights are there, as far as an index can tell: buffers and rounding make a GPU hold a little less or more.
fn complete(g: &GpuView) -> bool {
    let most = |expected: u64| expected - expected / 32;
    g.filled
        .zip(g.expected_weights)
        .is_some_and(|(f, e)| f >= most(e))
}

/// One thing to say of a GPU: the worst first.
fn word(g: &GpuView, now: Nanos) -> (String, Role) {
    if let Some(state) = &g.state {
        return (state.clone(), Role::Fail);
    }
    if let Some((_, code)) = g.xids.last() {
        return (format!("Xid {code}"), Role::Fail);
    }
    if let Some(n) = g.ecc_uncorrected.filter(|n| *n > 0) {
        return (format!("{n} uncorrectable ECC"), Role::Fail);
    }
    if let Some(still) = stalled(g) {
        return (format!("stalled {}", parts::duration(still)), Role::Warn);
    }
    if let Some(o) = g.other.filter(|o| *o > 0) {
        return (format!("{} GB of others", gb(o)), Role::Warn);
    }
    if let (true, Some(at)) = (g.ended, g.at) {
        let age = parts::duration(now.saturating_sub(at.ns));
        return (format!("ended; {age} old"), Role::Quiet);
    }
    if let Some(odd) = &g.odd {
        return (odd.clone(), Role::Warn);
    }
    if let Some(age) = g.at.map(|at| now - at.ns).filter(|age| *age >= OLD) {
        return (format!("no sample {}", parts::duration(age)), Role::Unknown);
    }
    if g.throttled_badly {
        return (g.throttle.join(", "), Role::Warn);
    }
    if let Some(ns) = g.left.filter(|_| g.loading) {
        return (left(ns), Role::Text);
    }
    match (g.loading, g.used) {
        (true, _) if g.waits => ("waits".into(), Role::Waiting),
        (true, _) if complete(g) => ("loaded".into(), Role::Ok),
        (true, _) => ("loading".into(), Role::Waiting),
        (_, None) => ("not measured".into(), Role::Unknown),
        _ => (g.throttle.join(", "), Role::Quiet),
    }
}

/// Whether a GPU needs eyes.
pub(super) fn troubled(scene: &Scene) -> bool {
    scene.gpus.iter().any(|g| bad(g).is_some())
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let roles: Vec<Role> = scene.gpus.iter().filter_map(bad).collect();
    let worst = if roles.contains(&Role::Fail) {
        Role::Fail
    } else {
        Role::Warn
    };
    (!roles.is_empty()).then_some((roles.len(), worst))
}

/// GPUs that the filter keeps: by node, pod, rank, UUID or bus id.
fn kept<'a>(view: &View<'a>) -> Vec<&'a GpuView> {
    let filter = view.screen.filter().to_lowercase();
    let has = |text: Option<&str>| text.is_some_and(|t| t.to_lowercase().contains(&filter));
    // A node's whole name means that node and not those whose names begin alike.
    let one = view.scene.gpus.iter().any(|g| place(g) == filter);
    view.scene
        .gpus
        .iter()
        .filter(|g| {
            if one {
                return place(g) == filter;
            }
            filter.is_empty()
                || has(g.node.as_deref())
                || has(g.pod.as_deref())
                || has(g.uuid.as_deref())
                || has(g.bus_id.as_deref())
                || g.global_rank.is_some_and(|r| r.to_string() == filter)
        })
        .collect()
}

/// Rows for a body of so many lines; whether they are folded.
fn rows<'a>(view: &View<'a>, lines: usize) -> (Vec<Row<'a>>, bool) {
    let gpus = kept(view);
    let mut nodes: BTreeMap<&str, Vec<&GpuView>> = BTreeMap::new();
    for g in &gpus {
        nodes.entry(place(g)).or_default().push(g);
    }
    let wanted = view.screen.is_on("nodes");
    let fold = view.screen.filter().is_empty() && nodes.len() > 1 && (wanted || gpus.len() > lines);
    if !fold {
        let one = |g| Row {
            name: None,
            gpus: vec![g],
        };
        return (gpus.into_iter().map(one).collect(), false);
    }
    let mut rows: Vec<Row<'a>> = nodes
        .into_iter()
        .map(|(name, gpus)| Row {
            name: Some(name.to_owned()),
            gpus,
        })
        .collect();
    // In the order of their ranks, as everywhere.
    rows.sort_by_key(|r| {
        let first = r.gpus.iter().filter_map(|g| g.global_rank).min();
        (first.is_none(), first)
    });
    (rows, true)
}

/// Lines of a body that rows may take: one for the sentence, one for the heads.
fn lines(body: Rect) -> usize {
    usize::from(body.height.saturating_sub(2))
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let (rows, folded) = rows(view, lines(body));
    let cursor = view.screen.list(PaneId::Vram).cursor;
    let selected = cursor.row(0, rows.len()).and_then(|r| rows.get(r));
    Counts {
        rows: rows.len(),
        page: room(view, body, rows.len()).0,
        problems: rows
            .iter()
            .enumerate()
            .filter(|(_, r)| r.gpus.iter().any(|g| bad(g).is_some()))
            .map(|(i, _)| i)
            .collect(),
        copy: selected.and_then(|r| match (&r.name, r.gpus.first()) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(g)) => g.uuid.clone().or_else(|| g.bus_id.clone()),
            _ => None,
        }),
        zoom: selected.filter(|_| folded).and_then(|r| r.name.clone()),
        ..Counts::default()
    }
}

/// Rows on the screen at once, lines that each takes, and lines left for the selected GPU's curve.
fn room(view: &View<'_>, body: Rect, rows: usize) -> (usize, u16, u16) {
    let all = body.height.saturating_sub(2);
    // On a wall nobody sits near enough for thin ones.
    if view.screen.is_on("big") || view.screen.kiosk.is_some() {
        let each = u16::try_from(usize::from(all) / rows.max(1))
            .unwrap_or(1)
            .clamp(1, 5);
        return (usize::from(all / each), each, 0);
    }
    let rows = u16::try_from(rows).unwrap_or(u16::MAX);
    // What the rows don't need shows the curve, from where it can be read.
    match all.saturating_sub(rows) {
        rest @ 7.. => (usize::from(rows), 1, rest.min(14)),
        _ => (usize::from(all), 1, 0),
    }
}

/// What a tired person needs to know of all GPUs together.
pub(super) fn sentence(scene: &Scene) -> (String, Role) {
    let now = scene.now.map_or(0, |a| a.ns);
    let gpus = &scene.gpus;
    let n = gpus.len() as u64;
    let seen = gpus.iter().filter(|g| g.used.is_some()).count() as u64;
    if n == 0 {
        return ("No GPU is known yet.".into(), Role::Strong);
    }
    if seen == 0 {
        let how = if gpus.iter().any(|g| g.tool.is_some()) {
            "no tool may tell what they hold"
        } else {
            "known by the logs; nobody measures what they hold"
        };
        let text = format!("{}, {how}", parts::count(n, "GPU", "GPUs"));
        return (text, Role::Unknown);
    }
    let name = |g: &GpuView| match (g.global_rank, g.index) {
        (Some(r), _) => format!("the GPU of rank {r}"),
        (None, Some(i)) => format!("GPU {i} of {}", place(g)),
        (None, None) => format!("a GPU of {}", place(g)),
    };
    let whose = |list: &[&GpuView]| match list {
        [one] => name(one),
        many => format!(
            "{} GPUs, {} first",
            many.len(),
            many.first().map_or_else(String::new, |g| name(g))
        ),
    };
    let with = |test: &dyn Fn(&GpuView) -> bool| -> Vec<&GpuView> {
        gpus.iter().filter(|g| test(g)).collect()
    };
    let broken = with(&|g| bad(g) == Some(Role::Fail));
    if let Some(first) = broken.first() {
        return (
            capital(&format!("{}: {}", whose(&broken), word(first, now).0)),
            Role::Fail,
        );
    }
    let still = with(&|g| stalled(g).is_some());
    if let Some(first) = still.first() {
        return (
            capital(&format!(
                "{}: weights {}",
                whose(&still),
                word(first, now).0
            )),
            Role::Warn,
        );
    }
    let foreign = with(&|g| g.other.is_some_and(|o| o > 0));
    if let Some(first) = foreign.first() {
        let held = gb(first.other.unwrap_or(0));
        let text = format!(
            "{}: {held} GB were taken before the rank came",
            whose(&foreign)
        );
        return (capital(&text), Role::Warn);
    }
    let loading = with(&|g| g.loading);
    let odd = with(&|g| g.odd.is_some());
    if let Some(first) = odd.first() {
        let how = first.odd.as_deref().unwrap_or_default();
        return (capital(&format!("{}: {how}", whose(&odd))), Role::Warn);
    }
    if !loading.is_empty() {
        let (filled, expected) = sums(&loading);
        let rates: f64 = loading.iter().filter_map(|g| g.rate).sum();
        let longest = loading.iter().filter_map(|g| g.left).max();
        let mut text = format!("{} of {n} GPUs load weights", loading.len());
        if expected > 0 {
            text.push_str(&format!(
                ": {} of {} GB, {} %",
                gb(filled),
                gb(expected),
                filled.saturating_mul(100) / expected
            ));
        }
        if rates > 0.0 {
            text.push_str(&format!(", {}", rate(rates)));
        }
        if let Some(ns) = longest {
            text.push_str(&format!(", {} left", left(ns)));
        }
        return (text, Role::Strong);
    }
    let least = gpus.iter().filter_map(|g| g.used).min().unwrap_or(0);
    let most = gpus.iter().filter_map(|g| g.used).max().unwrap_or(0);
    let total = gpus.iter().filter_map(|g| g.total).max();
    let of = total.map_or(String::new(), |t| format!(" of {}", gb(t)));
    let used = if most - least < 100_000_000 {
        gb(most)
    } else {
        format!("{}-{}", gb(least), gb(most))
    };
    let every = if seen == n {
        String::new()
    } else {
        format!(" ({seen} measured)")
    };
    let each = if n > 1 { " each" } else { "" };
    (
        format!(
            "{}{every}: {used}{of} GB used{each}",
            parts::count(n, "GPU", "GPUs")
        ),
        Role::Strong,
    )
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// Filled and expected weights of those of which both are known.
fn sums(gpus: &[&GpuView]) -> (u64, u64) {
    gpus.iter()
        .filter_map(|g| g.filled.zip(g.expected_weights))
        .fold((0, 0), |(a, b), (f, e)| {
            (a.saturating_add(f), b.saturating_add(e))
        })
}

/// Why nothing is measured: what the samplers said.
fn reason(view: &View<'_>) -> Option<String> {
    let complaint = view.model.gpus.troubles().next().map(|(tool, c, _, text)| {
        let place = c.map_or("this node".to_owned(), |c| c.pod.name.clone());
        format!("{tool} in {place}: {text}")
    });
    let refused = view.model.probes.of("sampler").find_map(|(c, probed)| {
        let place = c.map_or("this node".to_owned(), |c| c.pod.name.clone());
        match &probed.outcome {
            Some(ProbeOutcome::Refused { why, .. } | ProbeOutcome::Failed { why }) => {
                Some(format!("{place}: {why}"))
            }
            _ => None,
        }
    });
    complaint.or(refused)
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    let (said, role) = sentence(view.scene);
    pen.text(x, area.y, width, &said, role);
    let why = reason(view);
    if view.scene.gpus.is_empty() {
        let text = why.unwrap_or_else(|| {
            "GPUs are measured by a sampler in each pod (level probe), by DCGM's exporter, or by \
             NVML on this node."
                .into()
        });
        pen.wrapped(
            x,
            area.y + 1,
            width,
            area.height.saturating_sub(1),
            &text,
            Role::Quiet,
        );
        return;
    }
    if let Some(why) = why {
        let at = x + parts::columns(&said) + 3;
        pen.text(at, area.y, (x + width).saturating_sub(at), &why, Role::Warn);
    }
    let (rows, folded) = rows(view, lines(area));
    let (page, each, rest) = room(view, area, rows.len());
    let cursor = view.screen.list(PaneId::Vram).cursor;
    let top = cursor.top(0, rows.len(), page);
    let shown: Vec<&Row<'_>> = rows.iter().skip(top).take(page).collect();
    let plan = Plan::of(&rows, folded, width);
    plan.heads(x, area.y + 1, pen);
    let now = view.scene.now.map_or(0, |a| a.ns);
    for (row, i) in shown.iter().zip(0u16..) {
        let y = area.y + 2 + i * each;
        plan.row(row, x, y, each, now, pen);
        if cursor.row(0, rows.len()) == Some(top + usize::from(i)) {
            pen.overlay(area.x, y, area.width, Role::Selected);
        }
    }
    let chosen = cursor.row(0, rows.len()).and_then(|r| rows.get(r));
    if let Some(row) = chosen.filter(|_| rest > 0) {
        let used = u16::try_from(shown.len())
            .unwrap_or(u16::MAX)
            .saturating_mul(each);
        let y = area.y + 2 + used + 1;
        let below = Rect {
            x,
            y,
            width,
            height: (area.y + area.height)
                .saturating_sub(y)
                .min(rest.saturating_sub(1)),
        };
        detail::below(view, row.name.as_deref(), &row.gpus, below, pen);
    }
}

/// Which columns there are and how wide.
struct Plan {
    folded: bool,
    who: u16,
    bus: u16,
    bar: u16,
    health: bool,
    said: u16,
}

impl Plan {
    fn of(rows: &[Row<'_>], folded: bool, width: u16) -> Self {
        let who = if folded {
            rows.iter()
                .filter_map(|r| r.name.as_deref())
                .map(parts::columns)
                .max()
                .unwrap_or(4)
                .clamp(4, 20)
                + 10
        } else {
            11
        };
        let health = width >= 110;
        let bus: u16 = if !folded && width >= 70 { 8 } else { 0 };
        let said: u16 = match width {
            140.. => 30,
            100.. => 18,
            _ => 14,
        };
        // used / total, percent, and the blanks between.
        let fixed = who + bus + 17 + 7 + if health { 16 } else { 0 } + said + 2;
        Self {
            folded,
            who,
            bus,
            bar: width.saturating_sub(fixed).clamp(6, 100),
            health,
            said,
        }
    }

    fn heads(&self, x: u16, y: u16, pen: &mut Pen<'_>) {
        let who = if self.folded { "NODE" } else { "GPU  RANK" };
        pen.text(x, y, self.who, who, Role::Label);
        let mut at = x + self.who;
        if self.bus > 0 {
            pen.text(at, y, self.bus, "BUS", Role::Label);
            at += self.bus;
        }
        bar::legend(at, y, self.bar, pen);
        at += self.bar;
        pen.right(at, y, 17, "USED / TOTAL GB", Role::Label);
        at += 17;
        pen.right(at, y, 7, "BUSY %", Role::Label);
        at += 7;
        if self.health {
            pen.right(at, y, 8, "\u{b0}C", Role::Label);
            pen.right(at + 8, y, 8, "W", Role::Label);
            at += 16;
        }
        pen.text(at + 2, y, self.said, "LEFT", Role::Label);
    }

    fn row(&self, row: &Row<'_>, x: u16, y: u16, each: u16, now: Nanos, pen: &mut Pen<'_>) {
        let sum = |f: fn(&GpuView) -> Option<u64>| -> Option<u64> {
            row.gpus.iter().map(|g| f(g)).sum::<Option<u64>>()
        };
        let worst = row
            .gpus
            .iter()
            .filter_map(|g| bad(g))
            .max_by_key(|r| *r == Role::Fail);
        let role = worst.unwrap_or(Role::Text);
        match (&row.name, row.gpus.first()) {
            (Some(name), _) => {
                let ranks: Vec<u32> = row.gpus.iter().filter_map(|g| g.global_rank).collect();
                let n = pen.text(x, y, self.who - 10, name, role);
                let ranks = parts::ranges(&ranks);
                pen.text(x + n.max(self.who - 10) + 1, y, 9, &ranks, Role::Quiet);
            }
            (None, Some(g)) => {
                let number = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
                pen.right(x, y, 3, &number(g.index), Role::Label);
                pen.right(x + 3, y, 6, &number(g.global_rank), role);
            }
            _ => {}
        }
        let mut at = x + self.who;
        if self.bus > 0 {
            let bus = row.gpus.first().and_then(|g| g.bus_id.as_deref());
            pen.text(
                at,
                y,
                self.bus - 1,
                &bus.map_or("-".into(), short),
                Role::Quiet,
            );
            at += self.bus;
        }
        let parts = bar::Parts::of(&row.gpus);
        // Thick bars leave a line between them.
        let thick = each.saturating_sub(u16::from(each > 2)).max(1);
        for line in 0..thick {
            parts.draw(at, y + line, self.bar, pen);
        }
        at += self.bar;
        let used = sum(|g| g.used).map_or("-".into(), gb);
        let total = sum(|g| g.total).map_or("-".into(), gb);
        pen.right(at, y, 17, &format!("{used} / {total}"), Role::Text);
        at += 17;
        let span = |f: fn(&GpuView) -> Option<u64>| {
            let all: Vec<u64> = row.gpus.iter().filter_map(|g| f(g)).collect();
            match (all.iter().min(), all.iter().max()) {
                (Some(a), Some(b)) if a == b => a.to_string(),
                (Some(a), Some(b)) => format!("{a}-{b}"),
                _ => "-".into(),
            }
        };
        pen.right(at, y, 7, &span(|g| g.busy.map(u64::from)), Role::Text);
        at += 7;
        if self.health {
            pen.right(at, y, 8, &span(|g| g.celsius.map(u64::from)), Role::Quiet);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "watts"
            )]
            let watts = span(|g| g.watts.map(|w| w.max(0.0) as u64));
            pen.right(at + 8, y, 8, &watts, Role::Quiet);
            at += 16;
        }
        let (text, role) = self.says(row, now);
        pen.text(at + 2, y, self.said, &text, role);
    }

    fn says(&self, row: &Row<'_>, now: Nanos) -> (String, Role) {
        if let ([g], false) = (row.gpus.as_slice(), self.folded) {
            return word(g, now);
        }
        let troubled: Vec<&&GpuView> = row.gpus.iter().filter(|g| bad(g).is_some()).collect();
        if let Some(first) = troubled.first() {
            let (text, role) = word(first, now);
            let more = match troubled.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            return (format!("{text}{more}"), role);
        }
        let longest = row.gpus.iter().filter_map(|g| g.left).max();
        match longest {
            Some(ns) => (left(ns), Role::Text),
            None if row.gpus.iter().any(|g| g.loading) => ("loading".into(), Role::Waiting),
            None => (String::new(), Role::Quiet),
        }
    }
}

/// `3b:00` for `3b000`: what people compare with `nvidia-smi`.
fn short(bus: &str) -> String {
    let Some(n) = crate::parse::gpu::bus_id(bus) else {
        return bus.to_owned();
    };
    let domain = n >> 20;
    let address = format!("{:02x}:{:02x}", n >> 12 & 0xff, n >> 4 & 0x1f);
    if domain == 0 {
        address
    } else {
        format!("{domain:x}:{address}")
    }
}
