//! Variables over pods or ranks, differences and mistakes first, each explained; and what to set to see more.

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use super::overview;
use super::parts::{self, Pen};
use super::table::{self, Column, WORDS};
use super::{Page, Pane, View};
use crate::model::screen::{Counts, PaneId};
use crate::rules::advice::{self, Advice, Forms};
use crate::rules::scene::Scene;
use crate::rules::variables::{self, Over};
use crate::theme::Role;

/// The pane.
pub static PANE: Pane = Pane {
    id: PaneId::Env,
    title: "variables over pods and ranks, differences first; what to set to see more",
    min: (36, 4),
    draw,
    counts,
    drill,
    explain: drill,
    badge,
};

/// A variable with its values and who has each.
struct Variable {
    name: String,
    /// Value and who has it, the odd one first.
    values: Vec<(String, String)>,
    /// Who is known not to set it.
    without: Option<String>,
    state: State,
}

/// What stands out, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Must be equal and is not, or the other way round.
    Wrong,
    /// A value that is a mistake or for debugging alone.
    Mistake,
    /// Differs, and may.
    Differs,
    /// Set, and not shown: it smells of a secret.
    Secret,
    /// Alike.
    Same,
}

impl State {
    fn word(self) -> (&'static str, Role) {
        match self {
            Self::Wrong => ("differs", Role::Fail),
            Self::Mistake => ("beware", Role::Warn),
            Self::Differs => ("varies", Role::Text),
            Self::Secret => ("secret", Role::Quiet),
            Self::Same => ("same", Role::Ok),
        }
    }
}

/// A row: a variable, or a piece of advice beneath them.
enum Row {
    Variable(Variable),
    Advice(&'static Advice),
}

static COLUMNS: [Column<Row>; 4] = [
    Column {
        // As wide as most names: what stands beneath must not be painted anew when the first long one comes.
        head: "VARIABLE               ",
        right: false,
        gives: 0,
        most: 36,
        value: |r, _| match r {
            Row::Variable(v) => (v.name.clone(), Role::Text),
            Row::Advice(a) => (a.id.clone(), Role::Quiet),
        },
    },
    Column {
        head: "STATE",
        right: false,
        gives: 0,
        most: 9,
        value: |r, _| match r {
            Row::Variable(v) => {
                let (word, role) = v.state.word();
                (word.into(), role)
            }
            Row::Advice(a) => (a.when.word().into(), Role::Quiet),
        },
    },
    Column {
        head: "VALUE",
        right: false,
        gives: 0,
        most: WORDS,
        value: |r, _| match r {
            Row::Variable(v) => (v.told(), Role::Text),
            Row::Advice(a) => (a.short(), Role::Text),
        },
    },
    Column {
        head: "WHAT IT IS",
        right: false,
        gives: 1,
        most: 0,
        value: |r, _| match r {
            Row::Variable(v) => {
                let why = v
                    .values
                    .iter()
                    .find_map(|(value, _)| variables::mistake(&v.name, value));
                let means = variables::get(&v.name).map_or("", |d| d.means.as_str());
                match why {
                    Some(why) => (why.to_owned(), Role::Warn),
                    None => (means.to_owned(), Role::Quiet),
                }
            }
            Row::Advice(a) => (a.title.clone(), Role::Quiet),
        },
    },
];

impl Variable {
    fn new(name: &str, mut values: Vec<(String, usize, String)>, without: Option<String>) -> Self {
        values.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let differs = values.len() > 1 || (!values.is_empty() && without.is_some());
        let shared = values.iter().any(|(_, n, _)| *n > 1);
        let state = match variables::over(name) {
            Over::Equal if differs => State::Wrong,
            Over::Differ if shared && values.iter().map(|v| v.1).sum::<usize>() > 1 => State::Wrong,
            _ if values
                .iter()
                .any(|(v, ..)| variables::mistake(name, v).is_some()) =>
            {
                State::Mistake
            }
            _ if values.is_empty() => State::Secret,
            _ if differs => State::Differs,
            _ => State::Same,
        };
        Self {
            name: name.to_owned(),
            values: values.into_iter().map(|(v, _, who)| (v, who)).collect(),
            without,
            state,
        }
    }

    /// All values in one line.
    fn told(&self) -> String {
        let all: Vec<String> = match self.values.as_slice() {
            [] => vec!["set, not shown".into()],
            [(one, _)] if self.without.is_none() => vec![one.clone()],
            many => many
                .iter()
                .map(|(value, who)| format!("{value} ({who})"))
                .collect(),
        };
        let without = self
            .without
            .as_ref()
            .map_or(String::new(), |who| format!("   not set: {who}"));
        format!("{}{without}", all.join("   "))
    }
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    match names.len().saturating_sub(3) {
        0 => shown.join(", "),
        n => format!("{} and {n} more", shown.join(", ")),
    }
}

/// What the pods' processes and specifications say, else what the logs prove.
fn known(scene: &Scene) -> Vec<Variable> {
    if !scene.variables.is_empty() {
        let list = scene.variables.iter().map(|(name, v)| {
            let values =
                v.by.iter()
                    .map(|(value, pods)| (value.clone(), pods.len(), some(pods)))
                    .collect();
            let equal = variables::over(name) == Over::Equal;
            let without =
                (!v.unset.is_empty() && (equal || !v.by.is_empty())).then(|| some(&v.unset));
            Variable::new(name, values, without)
        });
        return list.collect();
    }
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
    all.into_iter()
        .map(|(name, values)| {
            let values: Vec<(&str, Vec<u32>)> = values
                .into_iter()
                .map(|(value, mut ranks)| {
                    ranks.sort_unstable();
                    ranks.dedup();
                    (value, ranks)
                })
                .collect();
            let has = |n: &u32| values.iter().any(|(_, r)| r.binary_search(n).is_ok());
            let without: Vec<u32> = speak.iter().copied().filter(|n| !has(n)).collect();
            if variables::secret(name) {
                return Variable::new(name, Vec::new(), None);
            }
            let told = values
                .iter()
                .map(|(v, r)| ((*v).to_owned(), r.len(), parts::ranks(r)));
            Variable::new(
                name,
                told.collect(),
                (!without.is_empty()).then(|| parts::ranks(&without)),
            )
        })
        .collect()
}

fn rows(scene: &Scene, filter: &str) -> Vec<Row> {
    let filter = filter.to_lowercase();
    let has = |t: &str| filter.is_empty() || t.to_lowercase().contains(&filter);
    let mut list: Vec<Variable> = known(scene).into_iter().filter(|v| has(&v.name)).collect();
    list.sort_by(|a, b| (a.state, &a.name).cmp(&(b.state, &b.name)));
    let advice = advice::declared()
        .iter()
        .filter(|a| a.fits(scene) && (has(&a.id) || has(&a.title) || has(&a.short())));
    list.into_iter()
        .map(Row::Variable)
        .chain(advice.map(Row::Advice))
        .collect()
}

fn badge(scene: &Scene) -> Option<(usize, Role)> {
    let wrong = variables::skewed(&scene.variables).len();
    (wrong > 0).then_some((wrong, Role::Fail))
}

fn counts(view: &View<'_>, body: Rect) -> Counts {
    let rows = rows(view.scene, view.screen.filter());
    let copy = |r: &Row| match r {
        Row::Variable(v) => v.values.first().map_or_else(
            || v.name.clone(),
            |(value, _)| format!("{}={value}", v.name),
        ),
        Row::Advice(a) => yaml(&a.forms()),
    };
    table::counts(
        view,
        PaneId::Env,
        &rows,
        body,
        copy,
        |r| matches!(r, Row::Variable(v) if v.state <= State::Mistake),
    )
}

/// The lines for YAML: the form that most jobs are written in.
fn yaml(forms: &Forms) -> String {
    let lines = forms.iter().find(|(whom, _)| *whom == "YAML");
    lines.map_or_else(String::new, |(_, l)| l.join("\n"))
}

fn draw(view: &View<'_>, area: Rect, pen: &mut Pen<'_>) {
    let rows = rows(view.scene, view.screen.filter());
    let count = |s: State| {
        rows.iter()
            .filter(|r| matches!(r, Row::Variable(v) if v.state == s))
            .count()
    };
    let variables = rows
        .iter()
        .filter(|r| matches!(r, Row::Variable(_)))
        .count();
    let (wrong, beware) = (count(State::Wrong), count(State::Mistake));
    let (sentence, role) = match (variables, wrong, beware) {
        (0, ..) if !view.screen.filter().is_empty() => ("No variable matches.".to_owned(), Role::Strong),
        (0, ..) => (
            "No log here prints its environment: NCCL does with NCCL_DEBUG=INFO and ENV among its subsystems.".to_owned(),
            Role::Strong,
        ),
        (n, 0, 0) => (
            format!("{}, as they must be", parts::count(n as u64, "variable", "variables")),
            Role::Strong,
        ),
        (_, 0, n) => (
            format!("{} to beware of", parts::count(n as u64, "value", "values")),
            Role::Warn,
        ),
        (_, 1, _) => ("1 variable differs and must not".to_owned(), Role::Fail),
        (_, n, _) => (format!("{n} variables differ and must not"), Role::Fail),
    };
    table::headed(
        view,
        PaneId::Env,
        (&sentence, role),
        &COLUMNS.each_ref(),
        &rows,
        area,
        pen,
    );
}

fn drill(view: &View<'_>, width: u16) -> Option<Page> {
    let rows = rows(view.scene, view.screen.filter());
    let room = width.saturating_sub(4);
    let row = table::selected(view, PaneId::Env, &rows)?;
    let variable = match row {
        Row::Variable(v) => v,
        Row::Advice(a) => {
            let mut page = Page::about(format!("{}   {}", a.id, a.title));
            page.prose(&a.means, room, 2, Role::Text);
            page.head("WHAT IT COSTS");
            page.prose(&a.costs, room, 2, Role::Text);
            pasted(&mut page, &a.forms());
            return Some(page);
        }
    };
    let mut page = Page::about(variable.name.clone());
    let declared = variables::get(&variable.name);
    if let Some(d) = declared {
        page.prose(&d.means, room, 2, Role::Text);
        page.line(&[("default  ", Role::Label), (&d.default, Role::Text)]);
    }
    let over = match variables::over(&variable.name) {
        Over::Equal => "must be equal",
        Over::Differ => "must differ",
        Over::Ignored => "as each likes",
    };
    page.line(&[("over pods  ", Role::Label), (over, Role::Text)]);
    for (value, who) in &variable.values {
        page.head(&who.to_uppercase());
        page.prose(value, room, 2, Role::Text);
        if let Some(why) = variables::mistake(&variable.name, value) {
            page.prose(why, room, 2, Role::Warn);
        }
    }
    if variable.values.is_empty() {
        page.prose(
            "It is set. Its name smells of a secret: nothing more is read.",
            room,
            2,
            Role::Quiet,
        );
    }
    if let Some(without) = &variable.without {
        page.head("NOT SET");
        page.prose(without, room, 2, Role::Text);
    }
    if let Some(d) = declared
        && !variable.values.is_empty()
    {
        let production = d.production.as_deref();
        if let Some(p) = production {
            page.head("IN PRODUCTION");
            page.prose(p, room, 2, Role::Text);
        }
        let value = match production {
            Some("unset") => None,
            Some(p) => Some(p),
            None => variable.values.last().map(|(v, _)| v.as_str()),
        };
        pasted(&mut page, &advice::set(&variable.name, value));
    }
    Some(page)
}

fn pasted(page: &mut Page, forms: &Forms) {
    for (whom, lines) in forms.iter().filter(|(_, l)| !l.is_empty()) {
        page.head(&format!("FOR {}", whom.to_uppercase()));
        for line in lines {
            page.code(line);
        }
    }
}
