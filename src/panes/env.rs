//! Variables that the logs prove, differences first.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::overview;
use super::parts::{self, Pen};
use super::table::{self, Column};
use super::{Page, Pane, View};
use crate::model::screen::{Counts, PaneId};
use crate::rules::scene::Scene;
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Env,
    title: "variables over ranks, differences first",
    min: (36, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge: |_| None,
};

/// A variable with its values and who has each.
struct Variable {
    name: String,
    values: Vec<(String, Vec<u32>)>,
    /// Ranks whose log shows the environment without it.
    without: Vec<u32>,
}

impl Variable {
    fn differs(&self) -> bool {
        self.values.len() > 1 || !self.without.is_empty()
    }
}

static COLUMNS: [Column<Variable>; 3] = [
    Column {
        head: "VARIABLE",
        right: false,
        gives: 0,
        most: 36,
        value: |v, _| (v.name.clone(), Role::Text),
    },
    Column {
        head: "SAME",
        right: false,
        gives: 1,
        most: 7,
        value: |v, _| {
            if v.differs() {
                ("differs".into(), Role::Warn)
            } else {
                ("same".into(), Role::Ok)
            }
        },
    },
    Column {
        head: "VALUE",
        right: false,
        gives: 0,
        most: 0,
        value: |v, _| {
            let all: Vec<String> = match v.values.as_slice() {
                [(one, _)] if v.without.is_empty() => vec![one.clone()],
                many => many
                    .iter()
                    .map(|(value, ranks)| format!("{value} (ranks {})", parts::ranges(ranks)))
                    .collect(),
            };
            let without = if v.without.is_empty() {
                String::new()
            } else {
                format!("   not set: ranks {}", parts::ranges(&v.without))
            };
            (format!("{}{without}", all.join("   ")), Role::Text)
        },
    },
];

fn variables(scene: &Scene, filter: &str) -> Vec<Variable> {
    let numbers = overview::numbers(scene);
    let mut all: BTreeMap<&str, BTreeMap<&str, Vec<u32>>> = BTreeMap::new();
    let mut speak = Vec::new();
    for (p, number) in scene.processes.iter().zip(&numbers) {
        let Some(number) = number else { continue };
        if !p.env.is_empty() {
            speak.push(*number);
        }
        for (name, value) in &p.env {
            all.entry(name)
                .or_default()
                .entry(value)
                .or_default()
                .push(*number);
        }
    }
    speak.sort_unstable();
    let filter = filter.to_lowercase();
    let mut out: Vec<Variable> = all
        .into_iter()
        .map(|(name, values)| {
            let mut values: Vec<(String, Vec<u32>)> = values
                .into_iter()
                .map(|(value, mut ranks)| {
                    ranks.sort_unstable();
                    ranks.dedup();
                    (value.to_owned(), ranks)
                })
                .collect();
            // The odd one first.
            values.sort_by_key(|(_, ranks)| ranks.len());
            let has = |n: &u32| values.iter().any(|(_, r)| r.binary_search(n).is_ok());
            let without = speak.iter().copied().filter(|n| !has(n)).collect();
            Variable {
                name: name.to_owned(),
                values,
                without,
            }
        })
        .filter(|v| filter.is_empty() || v.name.to_lowercase().contains(&filter))
        .collect();
    out.sort_by_key(|v| !v.differs());
    out
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = variables(view.scene, view.screen.filter());
    let selected = view
        .screen
        .list(PaneId::Env)
        .cursor
        .row(0, rows.len())
        .and_then(|r| rows.get(r));
    Counts {
        rows: rows.len(),
        page: usize::from(body.height.saturating_sub(2)),
        problems: rows
            .iter()
            .enumerate()
            .filter(|(_, v)| v.differs())
            .map(|(i, _)| i)
            .collect(),
        copy: selected.map(|v| {
            v.values.first().map_or_else(
                || v.name.clone(),
                |(value, _)| format!("{}={value}", v.name),
            )
        }),
        ..Counts::default()
    }
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = variables(view.scene, view.screen.filter());
    let (x, width) = (area.x + 1, area.width.saturating_sub(2));
    if rows.is_empty() {
        let said = if view.screen.filter().is_empty() {
            "No log here prints its environment."
        } else {
            "No variable matches."
        };
        pen.text(x, area.y, width, said, Role::Strong);
        let why = "NCCL prints the variables that it reads with NCCL_DEBUG=INFO and NCCL_DEBUG_SUBSYS=INIT,BOOTSTRAP,ENV,NET,GRAPH. \
                   Everything else works without.";
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
    let odd = rows.iter().filter(|v| v.differs()).count();
    let (sentence, role) = match odd {
        0 => (
            format!(
                "{}, the same for every rank",
                parts::count(rows.len() as u64, "variable", "variables")
            ),
            Role::Strong,
        ),
        1 => ("1 variable differs between ranks".to_owned(), Role::Warn),
        n => (format!("{n} variables differ between ranks"), Role::Warn),
    };
    pen.text(x, area.y, width, &sentence, role);
    let table = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    };
    table::draw(
        view,
        &COLUMNS.each_ref(),
        &rows,
        view.screen.list(PaneId::Env).cursor,
        table,
        pen,
    );
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = variables(view.scene, view.screen.filter());
    let variable = rows.get(view.screen.list(PaneId::Env).cursor.row(0, rows.len())?)?;
    let mut page = Page::about(variable.name.clone());
    for (value, ranks) in &variable.values {
        page.head(&format!("RANKS {}", parts::ranges(ranks)));
        page.prose(value, width.saturating_sub(4), 2, Role::Text);
    }
    if !variable.without.is_empty() {
        page.head("NOT SET");
        page.line(&[(
            &format!("  ranks {}", parts::ranges(&variable.without)),
            Role::Text,
        )]);
        page.prose(
            "Their logs print the environment that NCCL reads, and this variable is not in it.",
            width.saturating_sub(4),
            2,
            Role::Quiet,
        );
    }
    Some(page)
}
