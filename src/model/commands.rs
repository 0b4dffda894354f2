//! The command line: what can be typed after `:`, read and completed from one table.

use std::path::PathBuf;

use super::event::{Command, Errand};
use super::screen::PaneId;

/// What a command line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The same as a key.
    Do(Command),
    /// Cell of the matrix by the numbers on its axes, sender first.
    Cell(u32, u32),
    /// Row of the matrix by its number.
    Rank(u32),
    /// Row of the list that has the keys by its number, from 1.
    Row(usize),
    /// Finding by its number, from 1.
    Finding(usize),
    /// Filter of the pane; empty clears it.
    Filter(String),
    /// Matrix by number (from 0, the merged one) or by label.
    Tab(String),
    /// Write the screen to a file; without a name, to a new one.
    Save(Option<PathBuf>),
    /// Something for whoever feeds the screen.
    Errand(Errand),
}

/// A command and how it is used.
#[derive(Debug)]
pub struct Verb {
    /// Names, the first one is shown.
    pub names: &'static [&'static str],
    /// Arguments as the help shows them.
    pub args: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every command but the names of the panes, which are commands too.
pub static VERBS: &[Verb] = &[
    Verb {
        names: &["q", "quit", "q!"],
        args: "",
        doc: "quit",
    },
    Verb {
        names: &["pane"],
        args: "NAME",
        doc: "go to a pane; its name alone does the same",
    },
    Verb {
        names: &["finding"],
        args: "N",
        doc: "open finding N",
    },
    Verb {
        names: &["cell"],
        args: "FROM TO",
        doc: "go to a cell of the matrix",
    },
    Verb {
        names: &["rank"],
        args: "N",
        doc: "go to a rank's row of the matrix",
    },
    Verb {
        names: &["row"],
        args: "N",
        doc: "select row N of what is on screen",
    },
    Verb {
        names: &["tab"],
        args: "N|LABEL",
        doc: "show one communicator; 0 is all of them",
    },
    Verb {
        names: &["filter"],
        args: "[TEXT]",
        doc: "filter this pane; without text: show everything",
    },
    Verb {
        names: &["theme"],
        args: "NAME",
        doc: "use another theme",
    },
    Verb {
        names: &["present"],
        args: "",
        doc: "for others to see: fewer facts, more space, rows numbered, keys shown; again ends it",
    },
    Verb {
        names: &["save"],
        args: "[FILE]",
        doc: "write the screen to a new file: as text, with colours if it ends in .ans, as a picture if in .svg",
    },
    Verb {
        names: &["workloads"],
        args: "",
        doc: "choose another workload",
    },
    Verb {
        names: &["allreduce"],
        args: "[OPTION…]|cancel",
        doc: "run the all-reduce test, with the options of the command line; or end it",
    },
    Verb {
        names: &["generate"],
        args: "",
        doc: "ask the served model for one token, after asking you: ready is not yet working",
    },
    Verb {
        names: &["bundle"],
        args: "FILE",
        doc: "put everything known into one archive for a ticket",
    },
    Verb {
        names: &["pause"],
        args: "",
        doc: "let a recording stand still, or go on",
    },
    Verb {
        names: &["speed"],
        args: "FACTOR",
        doc: "pace of a recording",
    },
    Verb {
        names: &["step"],
        args: "[N]",
        doc: "go N events on in a recording; back if N is negative",
    },
    Verb {
        names: &["seek"],
        args: "1:30|+10s|-10s|50%",
        doc: "go to a moment of a recording",
    },
    Verb {
        names: &["next-finding"],
        args: "",
        doc: "go on in a recording until a finding joins",
    },
    Verb {
        names: &["recheck"],
        args: "[CHECK]",
        doc: "run a check again; without a name: all of them",
    },
    Verb {
        names: &["redraw"],
        args: "",
        doc: "repaint the screen",
    },
    Verb {
        names: &["help"],
        args: "",
        doc: "keys and commands",
    },
];

/// Reads a command line; the error is a sentence for the person who typed it.
pub fn parse(line: &str) -> Result<Order, String> {
    let mut words = line.split_whitespace();
    let Some(name) = words.next() else {
        return Err("nothing to run".into());
    };
    let rest: Vec<&str> = words.collect();
    if let (Some(pane), true) = (PaneId::named(name), rest.is_empty()) {
        return Ok(Order::Do(Command::Pane(pane.id().into())));
    }
    let Some(verb) = VERBS.iter().find(|v| v.names.contains(&name)) else {
        return Err(format!("no command `{name}`; `:help` lists them"));
    };
    let usage = || {
        format!(
            "usage: :{} {}",
            verb.names.first().unwrap_or(&name),
            verb.args
        )
    };
    let one = || match rest.as_slice() {
        [only] => Ok((*only).to_owned()),
        _ => Err(usage()),
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| usage());
    match (verb.names.first().copied(), rest.as_slice()) {
        (Some("q"), []) => Ok(Order::Do(Command::Quit)),
        (Some("redraw"), []) => Ok(Order::Do(Command::Redraw)),
        (Some("help"), []) => Ok(Order::Do(Command::Help)),
        (Some("workloads"), []) => Ok(Order::Errand(Errand::Choose)),
        (Some("allreduce"), _) => Ok(Order::Errand(Errand::Line(line.trim().to_owned()))),
        (Some("generate"), []) => Ok(Order::Errand(Errand::Line("generate".into()))),
        (Some("pause" | "next-finding"), [])
        | (Some("step"), [] | [_])
        | (Some("speed" | "seek" | "bundle"), [_]) => {
            Ok(Order::Errand(Errand::Line(line.trim().to_owned())))
        }
        (Some("recheck"), []) => Ok(Order::Errand(Errand::Recheck(None))),
        (Some("recheck"), _) => Ok(Order::Errand(Errand::Recheck(Some(one()?)))),
        (Some("pane"), _) => {
            let name = one()?;
            let pane = PaneId::named(&name)
                .ok_or_else(|| format!("no pane `{name}`: {}", PaneId::names().join(", ")))?;
            Ok(Order::Do(Command::Pane(pane.id().into())))
        }
        (Some("finding"), [n]) => match number(n)? {
            0 => Err("findings are numbered from 1".into()),
            n => Ok(Order::Finding(n as usize)),
        },
        (Some("row"), [n]) => match number(n)? {
            0 => Err("rows are numbered from 1".into()),
            n => Ok(Order::Row(n as usize)),
        },
        (Some("present"), []) => Ok(Order::Do(Command::Toggle("present".into()))),
        (Some("cell"), [from, to]) => Ok(Order::Cell(number(from)?, number(to)?)),
        (Some("rank"), [n]) => Ok(Order::Rank(number(n)?)),
        (Some("tab"), _) => Ok(Order::Tab(one()?)),
        (Some("filter"), _) => Ok(Order::Filter(rest.join(" "))),
        (Some("theme"), _) => Ok(Order::Do(Command::Theme(one()?))),
        (Some("save"), []) => Ok(Order::Save(None)),
        (Some("save"), _) => Ok(Order::Save(Some(PathBuf::from(one()?)))),
        _ => Err(usage()),
    }
}

/// Lines that `typed` could become, sorted as the tables are.
#[must_use]
pub fn complete(typed: &str, themes: &[String], tabs: &[String]) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let (head, word, choices) = match typed.split_once(' ') {
        None => {
            let mut names = owned(&PaneId::names());
            names.extend(
                VERBS
                    .iter()
                    .filter_map(|v| v.names.iter().find(|n| n.len() > 1))
                    .map(|n| (*n).to_owned()),
            );
            (String::new(), typed, names)
        }
        Some(("pane", word)) => ("pane ".to_owned(), word, owned(&PaneId::names())),
        Some(("theme", word)) => ("theme ".to_owned(), word, themes.to_vec()),
        Some(("tab", word)) => ("tab ".to_owned(), word, tabs.to_vec()),
        Some(_) => return Vec::new(),
    };
    choices
        .into_iter()
        .filter(|c| c.starts_with(word))
        .map(|c| format!("{head}{c}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_say() {
        assert_eq!(parse(" cell 3  11 "), Ok(Order::Cell(3, 11)));
        assert_eq!(
            parse("matrix"),
            Ok(Order::Do(Command::Pane("matrix".into())))
        );
        assert_eq!(
            parse("pane logs"),
            Ok(Order::Do(Command::Pane("logs".into())))
        );
        assert_eq!(parse("q"), Ok(Order::Do(Command::Quit)));
        assert_eq!(parse("quit"), Ok(Order::Do(Command::Quit)));
        assert_eq!(parse("finding 2"), Ok(Order::Finding(2)));
        assert_eq!(
            parse("theme light"),
            Ok(Order::Do(Command::Theme("light".into())))
        );
        assert_eq!(parse("filter a b"), Ok(Order::Filter("a b".into())));
        assert_eq!(parse("filter"), Ok(Order::Filter(String::new())));
    }

    #[test]
    fn mistakes_are_answered_with_what_would_be_right() {
        assert_eq!(parse("cell 3"), Err("usage: :cell FROM TO".into()));
        assert_eq!(parse("cell a b"), Err("usage: :cell FROM TO".into()));
        assert!(parse("finding 0").is_err());
        assert!(parse("pane nowhere").is_err_and(|e| e.contains("matrix")));
        assert!(parse("xyz").is_err_and(|e| e.contains(":help")));
        assert!(parse("").is_err());
        assert!(parse("q now").is_err());
    }

    #[test]
    fn completion_knows_names_and_arguments() {
        assert_eq!(complete("ma", &[], &[]), ["matrix"]);
        assert_eq!(
            complete("theme l", &["dark".into(), "light".into()], &[]),
            ["theme light"]
        );
        assert_eq!(complete("pane lo", &[], &[]), ["pane logs"]);
        assert_eq!(
            complete("tab t", &[], &["all".into(), "tp:0".into()]),
            ["tab tp:0"]
        );
        assert!(complete("cell 3", &[], &[]).is_empty());
        assert!(
            complete("", &[], &[]).len() > VERBS.len(),
            "panes and commands"
        );
    }
}
