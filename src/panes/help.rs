//! The help: keys that work where it was called from, every sign on screen, every command, every pane.

use super::{PANES, Page, View, matrix};
use crate::model::commands::VERBS;
use crate::model::keys;
use crate::theme::Role;

/// Signs that are not the matrix' own: what is drawn, in which role, what it means.
pub const SIGNS: &[(&str, Role, &str)] = &[
    (
        "█",
        Role::BarDone,
        "of a bar: done, or filled; of a curve: at the top",
    ),
    ("░", Role::BarRest, "of a bar: still to come, or free"),
    (
        "▓",
        Role::BarDone,
        "of a bar: taken by what is not counted apart",
    ),
    ("┊", Role::BarReserve, "of a bar: kept for the KV cache"),
    ("▒", Role::BarOther, "of a bar: taken by something else"),
    ("▏", Role::Rule, "of a bar: where a part begins"),
    (
        "▁ ▂ ▃ ▄ ▅ ▆ ▇",
        Role::BarDone,
        "of a curve over time or size: from low to high",
    ),
    (
        "×",
        Role::Notice,
        "after a line of a log: so many alike, folded; elsewhere: times",
    ),
    (
        "→",
        Role::Text,
        "from the sender to the receiver, from before to after",
    ),
    ("≥ ≤", Role::Text, "at least, at most"),
    ("°", Role::Text, "degrees Celsius"),
    ("µ", Role::Text, "a millionth"),
    ("·", Role::Quiet, "between facts on one line"),
    ("›", Role::Text, "context, then namespace, then workload"),
    ("…", Role::Quiet, "there is more than fits here"),
    (
        "-",
        Role::Quiet,
        "alone in its place: not known, or nothing to say here",
    ),
    (
        "▶",
        Role::Strong,
        "somebody points here: p sets it and takes it away",
    ),
    (
        "─ │ ┼",
        Role::Rule,
        "rules; in the matrix: where another host begins",
    ),
    ("▀ ▄ █", Role::Strong, "the big letters of the wall"),
    (
        "7",
        Role::Warn,
        "a number beside a tab: how many problems there are in its pane",
    ),
];

/// The page.
#[must_use]
pub fn page(view: &View<'_>, width: u16) -> Page {
    let mut page = Page::about("keys, signs and commands");
    let row = |page: &mut Page, what: &str, role: Role, means: &str| {
        page.line(&[(&format!("  {what:<22} "), role), (means, Role::Text)]);
    };
    let mut context = None;
    for line in keys::help(view.screen) {
        if context != Some(line.context) {
            page.head(line.context.title());
            context = Some(line.context);
        }
        row(&mut page, &line.keys, Role::Key, line.doc);
    }
    page.head("Signs in the matrix");
    for (sign, role, means) in matrix::SIGNS {
        row(&mut page, sign, role, means);
    }
    page.head("Other signs");
    for (sign, role, means) in SIGNS {
        row(&mut page, sign, *role, means);
    }
    page.head("Commands, after :");
    for verb in VERBS {
        let name = verb.names.first().copied().unwrap_or_default();
        row(
            &mut page,
            &format!("{name} {}", verb.args),
            Role::Key,
            verb.doc,
        );
    }
    page.head("Panes");
    for pane in PANES {
        let call = format!("{} {}", pane.id.digit(), pane.id.id());
        row(&mut page, &call, Role::Key, pane.title);
    }
    page.gap();
    for text in [
        "observe reads pods, events and logs; probe also runs commands that only read; act creates and deletes, and \
         asks each time. Files and recordings touch no cluster.",
        "On a small terminal, in this order: the context and facts of the header go, columns and names grow shorter, \
         the matrix folds into nodes, the rule goes (below 16 rows), then the tabs (below 12); below 40x8 only the \
         verdict is left.",
    ] {
        page.prose(text, width.saturating_sub(2), 2, Role::Quiet);
    }
    page
}
