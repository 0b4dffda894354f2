//! The memory strip of the overview: a line a node, or a line a group of alike GPUs.

use ratatui::layout::Rect;

use super::{bad, bar, gb, left, place, sentence, word};
use crate::panes::View;
use crate::panes::parts::{self, Pen};
use crate::rules::scene::{GpuView, Scene};
use crate::theme::Role;

/// Narrowest strip.
const NARROW: u16 = 30;

/// Lines with their names and GPUs, the GPUs that need eyes first; and how many of the lines are theirs.
type Lines<'a> = (Vec<(String, Vec<&'a GpuView>)>, usize);

/// A node a line, with all of its GPUs; above, on its own, the GPU that needs eyes.
fn lines(scene: &Scene) -> Lines<'_> {
    let mut rows: Vec<(String, Vec<&GpuView>)> = Vec::new();
    let mut nodes: Vec<(String, Vec<&GpuView>)> = Vec::new();
    for g in scene.gpus.iter().filter(|g| g.used.is_some()) {
        if bad(g).is_some() {
            let rank = g.global_rank.map(|r| format!("rank {r}"));
            let gpu = || g.index.map(|i| format!("{} GPU {i}", place(g)));
            let name = rank.or_else(gpu).unwrap_or_else(|| place(g).to_owned());
            join(&mut rows, name, g);
        }
        join(&mut nodes, place(g).to_owned(), g);
    }
    let troubled = rows.len();
    // Where all of a node's GPUs stand above, their sum says nothing new.
    nodes.retain(|(_, list)| list.iter().any(|g| bad(g).is_none()));
    rows.extend(nodes);
    (rows, troubled)
}

/// Rows without which the strip would say nothing, and those that say all of it: its head has the sentence, and the GPU
/// that needs eyes is among two lines under it.
pub fn rows(scene: &Scene, width: u16) -> (u16, u16) {
    let (lines, troubled) = lines(scene);
    let all = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    match all {
        0 => (0, 0),
        _ if width < NARROW => (0, 0),
        _ if troubled == 0 => (1, all.saturating_add(1)),
        _ => (1 + all.min(2), all.saturating_add(1)),
    }
}

/// Draws the strip; says how many lines it took.
pub fn strip(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) -> u16 {
    let (rows, troubled) = lines(view.scene);
    if rows.is_empty() || area.height == 0 || area.width < NARROW {
        return 0;
    }
    let now = view.scene.now.map_or(0, |a| a.ns);
    let n = pen.text(area.x, area.y, area.width, "VRAM", Role::Label);
    let (said, role) = sentence(view.scene);
    let role = if role == Role::Strong {
        Role::Quiet
    } else {
        role
    };
    pen.text(
        area.x + n + 2,
        area.y,
        area.width.saturating_sub(n + 2),
        &said,
        role,
    );
    if area.height == 1 {
        return 1;
    }
    let lines = usize::from(area.height - 1);
    let rows = if rows.len() > lines {
        folded(rows, troubled)
    } else {
        rows
    };
    let hidden = rows.len() > lines;
    let lines = if hidden { lines - 1 } else { lines };
    let who = rows
        .iter()
        .take(lines)
        .map(|(k, _)| parts::columns(k))
        .max()
        .unwrap_or(0)
        .min(20);
    let mut y = area.y + 1;
    for (i, (key, list)) in rows.iter().enumerate().take(lines) {
        let worst = list.iter().find(|g| i < troubled && bad(g).is_some());
        let role = worst.and_then(|g| bad(g)).unwrap_or(Role::Text);
        pen.text(area.x, y, who, &parts::tail(key, who), role);
        let used: u64 = list.iter().filter_map(|g| g.used).sum();
        let total: u64 = list.iter().filter_map(|g| g.total).sum();
        let figures = format!("{} / {} GB", gb(used), gb(total));
        let says = match worst {
            Some(g) => word(g, now),
            None => {
                let longest = list.iter().filter_map(|g| g.left).max();
                (longest.map_or(String::new(), left), Role::Text)
            }
        };
        let (wide, tail) = (parts::columns(&figures).max(15), 16.min(area.width / 4));
        let bar = area.width.saturating_sub(who + wide + tail + 5).min(40);
        bar::Parts::of(list).draw(area.x + who + 1, y, bar, pen);
        let at = area.x + who + bar + 2;
        pen.right(at, y, wide, &figures, Role::Text);
        let at = at + wide + 2;
        pen.text(
            at,
            y,
            (area.x + area.width).saturating_sub(at),
            &says.0,
            says.1,
        );
        y += 1;
    }
    if hidden {
        let more = format!("… {} more lines in vram", rows.len() - lines);
        pen.text(area.x, y, area.width, &more, Role::Quiet);
        y += 1;
    }
    y - area.y
}

/// Nodes that are as full as others on one line with them, where there are too many for a line each.
fn folded(mut rows: Vec<(String, Vec<&GpuView>)>, troubled: usize) -> Vec<(String, Vec<&GpuView>)> {
    let nodes = rows.split_off(troubled.min(rows.len()));
    let percent = |list: &[&GpuView]| {
        let sum = |of: fn(&GpuView) -> Option<u64>| list.iter().filter_map(|g| of(g)).sum::<u64>();
        let used = sum(|g| g.used).saturating_mul(100);
        (used.checked_div(sum(|g| g.total)), list.len())
    };
    let mut alike: Vec<(_, usize, String, Vec<&GpuView>)> = Vec::new();
    for (name, list) in nodes {
        let key = percent(&list);
        match alike.iter_mut().find(|(k, ..)| *k == key) {
            Some((_, n, _, all)) => {
                *n += 1;
                all.extend(list);
            }
            None => alike.push((key, 1, name, list)),
        }
    }
    rows.extend(alike.into_iter().map(|(_, n, name, list)| match n {
        1 => (name, list),
        n => (parts::count(n as u64, "node", "nodes"), list),
    }));
    rows
}

/// Puts a GPU under its name, in the order of the first of each.
fn join<'a>(rows: &mut Vec<(String, Vec<&'a GpuView>)>, name: String, g: &'a GpuView) {
    match rows.iter_mut().find(|(have, _)| *have == name) {
        Some((_, list)) => list.push(g),
        None => rows.push((name, vec![g])),
    }
}
