//! The configuration file: YAML in the XDG folder, with settings for single contexts.
//!
//! A setting of the file is the default of the flag of its name, so that clap itself keeps the order: flag before
//! variable before file before default. What the file says wrong is an error with its place: a setting that is
//! misspelt must not be one that is silently not there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml::Spanned;

use crate::model::kiosk::Plan;
use crate::model::limits::Limits;
use crate::model::screen::PaneId;
use crate::theme::yaml::{self, Entries, Node, place};

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    Bool,
    OneOf(&'static [&'static str]),
    Pane,
    /// A list.
    Panes,
    /// A list.
    Texts,
    /// Whole seconds, so many at least.
    Seconds(u32),
    /// Seconds that a stage may be silent; all of them together are one flag.
    Stall,
}

impl Takes {
    fn is_list(self) -> bool {
        matches!(self, Self::Panes | Self::Texts)
    }

    /// What would be right, where this value is not.
    fn instead(self, value: &str) -> Option<String> {
        let right = match self {
            Self::Text | Self::Texts => true,
            Self::Bool => matches!(value, "true" | "false"),
            Self::OneOf(all) => all.contains(&value),
            Self::Pane | Self::Panes => PaneId::named(value).is_some(),
            Self::Seconds(least) => value.parse::<u32>().is_ok_and(|s| s >= least),
            Self::Stall => Limits::check(value).is_ok(),
        };
        (!right).then(|| match self {
            Self::Text | Self::Texts => "text".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::OneOf(all) => all.join(", "),
            Self::Pane => PaneId::names().join(", "),
            Self::Panes => format!("a list of {}", PaneId::names().join(", ")),
            Self::Seconds(0) => "a number of seconds".to_owned(),
            Self::Seconds(least) => format!("a number of seconds, {least} at least"),
            Self::Stall => Limits::check(value).err().unwrap_or_default(),
        })
    }
}

/// A setting.
#[derive(Debug)]
struct Setting {
    /// As the file spells it; behind its group and a dot where it is in one.
    name: &'static str,
    /// Id of the argument whose default it is.
    arg: &'static str,
    /// Variable that goes before it; nothing where there is none.
    variable: &'static str,
    takes: Takes,
    /// In force where nobody says anything.
    default: &'static str,
    about: &'static str,
}

/// A limit of a stage.
const fn stall(name: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting {
        name,
        arg: "stall",
        variable: "",
        takes: Takes::Stall,
        default,
        about,
    }
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "context",
        arg: "context",
        variable: "NCCLSCOPE_CONTEXT",
        takes: Takes::Text,
        default: "",
        about: "context of the kubeconfig; nothing: the current one",
    },
    Setting {
        name: "namespace",
        arg: "namespace",
        variable: "NCCLSCOPE_NAMESPACE",
        takes: Takes::Text,
        default: "",
        about: "namespace; nothing: the context's",
    },
    Setting {
        name: "probes",
        arg: "probes",
        variable: "NCCLSCOPE_PROBES",
        takes: Takes::OneOf(&["never", "ask", "always"]),
        default: "ask",
        about: "commands that only read inside the pods: never, ask, always",
    },
    Setting {
        name: "readOnly",
        arg: "read_only",
        variable: "NCCLSCOPE_READ_ONLY",
        takes: Takes::Bool,
        default: "false",
        about: "look and never touch, whatever is answered later",
    },
    Setting {
        name: "theme",
        arg: "theme",
        variable: "NCCLSCOPE_THEME",
        takes: Takes::Text,
        default: crate::theme::DEFAULT,
        about: "theme by name; your own lie in themes/ beside this file",
    },
    Setting {
        name: "color",
        arg: "color",
        variable: "NCCLSCOPE_COLOR",
        takes: Takes::OneOf(&["auto", "16", "256", "truecolor", "never"]),
        default: "auto",
        about: "colours: auto, 16, 256, truecolor, never",
    },
    Setting {
        name: "ascii",
        arg: "ascii",
        variable: "NCCLSCOPE_ASCII",
        takes: Takes::Bool,
        default: "false",
        about: "draw with ASCII alone",
    },
    Setting {
        name: "pane",
        arg: "pane",
        variable: "NCCLSCOPE_PANE",
        takes: Takes::Pane,
        default: "overview",
        about: "pane to start with",
    },
    Setting {
        name: "kiosk.panes",
        arg: "kiosk_panes",
        variable: "",
        takes: Takes::Panes,
        default: Plan::USUAL_PANES,
        about: "panes that rotate on a wall",
    },
    Setting {
        name: "kiosk.each",
        arg: "kiosk_each",
        variable: "",
        takes: Takes::Seconds(1),
        default: Plan::USUAL_EACH,
        about: "seconds that each stays",
    },
    Setting {
        name: "kiosk.hold",
        arg: "kiosk_hold",
        variable: "",
        takes: Takes::Seconds(0),
        default: Plan::USUAL_HOLD,
        about: "seconds that bad news stays before the rotation goes on",
    },
    Setting {
        name: "kiosk.blind",
        arg: "kiosk_blind",
        variable: "",
        takes: Takes::Seconds(10),
        default: Plan::USUAL_BLIND,
        about: "facts older than so many seconds are no view of anything",
    },
    Setting {
        name: "kiosk.namespaces",
        arg: "kiosk_namespaces",
        variable: "",
        takes: Takes::Texts,
        default: "",
        about: "namespaces whose workloads go in turn; nothing: the one namespace",
    },
    Setting {
        name: "kiosk.workloads",
        arg: "kiosk_workloads",
        variable: "",
        takes: Takes::Texts,
        default: "",
        about: "workloads that go in turn, as [NAMESPACE/][KIND/]NAME; nothing: all there are",
    },
    stall("stall.started", "600", "silence of an engine that starts"),
    stall(
        "stall.ray",
        "1300",
        "silence of one that waits for its Ray cluster",
    ),
    stall("stall.config", "120", "silence while arguments are read"),
    stall(
        "stall.distributed-init",
        "60",
        "silence of torch's rendezvous",
    ),
    stall(
        "stall.nccl-init",
        "90",
        "silence while NCCL makes a communicator",
    ),
    stall("stall.download", "120", "silence of a download"),
    stall("stall.weights", "120", "silence while weights load"),
    stall("stall.profile", "120", "silence of the memory profile"),
    stall("stall.compile", "300", "silence of a compile"),
    stall("stall.graphs", "120", "silence while graphs are captured"),
    stall(
        "stall.missing-ranks",
        "90",
        "time in which all ranks must have begun NCCL's init",
    ),
];

/// Settings that stand together under one key.
const GROUPS: &[&str] = &["kiosk", "stall"];

/// Something wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// 1-based.
    pub line: u64,
    /// 1-based.
    pub column: u64,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where it is, or would be.
    pub path: Option<PathBuf>,
    /// It is there.
    pub found: bool,
    /// Settings by name.
    settings: BTreeMap<String, String>,
    /// Settings of single contexts.
    contexts: BTreeMap<String, BTreeMap<String, String>>,
}

/// The folder for settings that the XDG rules name.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// The folder for what outlives a run and matters little, by the same rules.
#[must_use]
pub fn state_folder() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

fn xdg(variable: &str, otherwise: &str) -> Option<PathBuf> {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    // A relative path in this variable counts as none: so the rules say.
    var(variable)
        .filter(|p| p.is_absolute())
        .or_else(|| Some(var("HOME")?.join(otherwise)))
        .map(|c| c.join("ncclscope"))
}

/// `$NCCLSCOPE_CONFIG`, else `config.yaml` in the folder.
#[must_use]
pub fn path() -> Option<PathBuf> {
    std::env::var_os("NCCLSCOPE_CONFIG")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(folder()?.join("config.yaml")))
}

impl Config {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// A sentence for each mistake.
    pub fn load() -> Result<Self, Vec<String>> {
        let Some(path) = path() else {
            return Ok(Self::default());
        };
        match std::fs::read(&path) {
            Ok(bytes) => Self::at(&path, &bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self {
                path: Some(path),
                ..Self::default()
            }),
            Err(e) => Err(vec![format!("{}: {e}", path.display())]),
        }
    }

    /// What the bytes of the file at `path` say.
    ///
    /// # Errors
    /// A sentence for each mistake.
    pub fn at(path: &Path, bytes: &[u8]) -> Result<Self, Vec<String>> {
        let text = String::from_utf8_lossy(bytes);
        let read = Self::read(&text).map_err(|mistakes| {
            let place = path.display();
            mistakes
                .iter()
                .map(|m| format!("{place}: {m}"))
                .collect::<Vec<_>>()
        })?;
        Ok(Self {
            path: Some(path.to_owned()),
            found: true,
            ..read
        })
    }

    /// What a text says.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn read(text: &str) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut config = Self::default();
        match yaml::read(text) {
            Ok(node) => match node.value {
                Node::Null => {}
                Node::Map(entries) => config.top(entries, &mut mistakes),
                _ => mistakes.push(mistake(
                    (1, 1),
                    "a configuration is a mapping of settings".into(),
                )),
            },
            // A file of comments alone is empty.
            Err(_)
                if text
                    .lines()
                    .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) => {}
            Err((at, message)) => mistakes.push(mistake(at.unwrap_or((1, 1)), message)),
        }
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(mistakes)
        }
    }

    fn top(&mut self, entries: Entries, mistakes: &mut Vec<Mistake>) {
        let (contexts, rest): (Entries, Entries) = entries
            .into_iter()
            .partition(|(k, _)| k.value == "contexts");
        self.settings = settings(rest, true, mistakes);
        for (_, node) in contexts {
            let place = place(&node);
            let Node::Map(all) = node.value else {
                mistakes.push(mistake(
                    place,
                    "`contexts` is a mapping of context names to settings".into(),
                ));
                continue;
            };
            for (name, node) in all {
                let place = yaml::place(&node);
                match node.value {
                    Node::Map(entries) => {
                        let own = settings(entries, false, mistakes);
                        self.contexts.insert(name.value, own);
                    }
                    Node::Null => {}
                    _ => mistakes.push(mistake(
                        place,
                        format!("`{}` is a mapping of settings", name.value),
                    )),
                }
            }
        }
    }

    /// Whether some context has settings of its own.
    #[must_use]
    pub fn has_contexts(&self) -> bool {
        !self.contexts.is_empty()
    }

    /// The context that the file asks for.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.settings.get("context").map(String::as_str)
    }

    /// Settings in force in a context.
    #[must_use]
    pub fn in_context(&self, context: Option<&str>) -> BTreeMap<&str, &str> {
        let own = context.and_then(|c| self.contexts.get(c));
        let all = self.settings.iter().chain(own.into_iter().flatten());
        all.map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    /// A command whose defaults are what the file says.
    #[must_use]
    pub fn over(&self, command: clap::Command, context: Option<&str>) -> clap::Command {
        let said = self.in_context(context);
        let mut known: BTreeMap<&str, String> = BTreeMap::new();
        for s in SETTINGS {
            let Some(value) = said.get(s.name) else {
                continue;
            };
            let slot = known.entry(s.arg).or_default();
            match (s.takes, s.name.split_once('.')) {
                (Takes::Stall, Some((_, name))) => slot.push_str(&format!("{name}={value},")),
                _ => slot.push_str(value),
            }
        }
        with_defaults(command, &known)
    }

    /// Every setting with where it comes from, for a person.
    #[must_use]
    pub fn print(&self, context: Option<&str>) -> String {
        let said = self.in_context(context);
        let own = context.and_then(|c| self.contexts.get(c));
        let mut out = String::new();
        let mut group = "";
        for s in SETTINGS {
            let variable = std::env::var(s.variable).ok().filter(|v| !v.is_empty());
            let (value, from) = match (variable, said.get(s.name)) {
                (Some(value), _) => (value, s.variable.to_owned()),
                (None, Some(value)) if own.is_some_and(|o| o.contains_key(s.name)) => (
                    (*value).to_owned(),
                    format!("context {}", context.unwrap_or_default()),
                ),
                (None, Some(value)) => ((*value).to_owned(), "file".to_owned()),
                (None, None) => (s.default.to_owned(), "default".to_owned()),
            };
            let value = match value.as_str() {
                "" => "~".to_owned(),
                list if s.takes.is_list() => format!("[{}]", list.replace(',', ", ")),
                _ => value,
            };
            let set = match s.name.split_once('.') {
                Some((of, name)) => {
                    if of != group {
                        out.push_str(&format!("{of}:\n"));
                        group = of;
                    }
                    format!("  {name}: {value}")
                }
                None => format!("{}: {value}", s.name),
            };
            out.push_str(&format!("{set:<28} # {from}: {}\n", s.about));
        }
        out
    }
}

fn with_defaults(mut command: clap::Command, known: &BTreeMap<&str, String>) -> clap::Command {
    let args: Vec<String> = command
        .get_arguments()
        .map(|a| a.get_id().to_string())
        .collect();
    for id in args {
        if let Some(value) = known.get(id.as_str()) {
            // clap wants values that live as long as the program; there are few, once.
            let value: &'static str = Box::leak(value.clone().into_boxed_str());
            command = command.mut_arg(id, |arg| arg.default_value(value));
        }
    }
    let subs: Vec<String> = command
        .get_subcommands()
        .map(|c| c.get_name().to_owned())
        .collect();
    for sub in subs {
        command = command.mut_subcommand(sub, |c| with_defaults(c, known));
    }
    command
}

fn mistake((line, column): (u64, u64), message: String) -> Mistake {
    Mistake {
        line,
        column,
        message,
    }
}

fn settings(entries: Entries, top: bool, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (key, node) in entries {
        let Some(group) = GROUPS.iter().find(|g| **g == key.value) else {
            set(None, key, node, top, &mut out, mistakes);
            continue;
        };
        let at = place(&node);
        match node.value {
            Node::Null => {}
            Node::Map(inner) => {
                for (key, node) in inner {
                    set(Some(group), key, node, top, &mut out, mistakes);
                }
            }
            _ => mistakes.push(mistake(at, format!("`{group}` is a mapping of settings"))),
        }
    }
    out
}

/// One setting, on its own or of a group.
fn set(
    group: Option<&str>,
    key: Spanned<String>,
    node: Spanned<Node>,
    top: bool,
    out: &mut BTreeMap<String, String>,
    mistakes: &mut Vec<Mistake>,
) {
    let there = |s: &&Setting| top || s.name != "context";
    let name = match group {
        Some(group) => format!("{group}.{}", key.value),
        None => key.value.clone(),
    };
    let Some(setting) = SETTINGS.iter().filter(there).find(|s| s.name == name) else {
        let short = |s: &'static Setting| match (group, s.name.split_once('.')) {
            (None, None) => Some(s.name),
            (Some(group), Some((of, name))) => (of == group).then_some(name),
            _ => None,
        };
        let outer = GROUPS.iter().copied().chain(top.then_some("contexts"));
        let names = SETTINGS.iter().filter(there).filter_map(short);
        let near = nearest(&key.value, names.chain(outer.filter(|_| group.is_none())));
        let shown = crate::parse::clean(key.value.as_bytes());
        mistakes.push(mistake(
            place(&key),
            format!("there is no setting `{shown}`; the nearest is `{near}`"),
        ));
        return;
    };
    let at = place(&node);
    let list = setting.takes.is_list();
    let values = match node.value {
        Node::Null => return,
        Node::Bool(v) => vec![(at, Some(v.to_string()))],
        Node::Text(text) => vec![(at, Some(text))],
        Node::List(all) if list => all
            .into_iter()
            .map(|item| {
                let at = place(&item);
                let text = match item.value {
                    Node::Text(text) => Some(text),
                    _ => None,
                };
                (at, text)
            })
            .collect(),
        Node::List(_) | Node::Map(_) => vec![(at, None)],
    };
    let mut good = Vec::new();
    for (at, value) in values {
        let Some(value) = value else {
            let takes = if list { "a list of names" } else { "one value" };
            mistakes.push(mistake(at, format!("`{name}` takes {takes}")));
            return;
        };
        if let Some(right) = setting.takes.instead(&value) {
            let shown = crate::parse::clean(value.as_bytes());
            mistakes.push(mistake(at, format!("`{name}` is {right}, not `{shown}`")));
            return;
        }
        good.push(value);
    }
    if good.is_empty() {
        return;
    }
    if out.insert(name.clone(), good.join(",")).is_some() {
        mistakes.push(mistake(at, format!("`{name}` stands here twice")));
    }
}

/// The name that a misspelt one is nearest to.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> &'n str {
    let name = name.to_lowercase();
    names
        .min_by_key(|known| distance(&name, &known.to_lowercase()))
        .unwrap_or_default()
}

/// Letters to change, insert or leave out until one word is the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut before = i;
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let left = next.last().copied().unwrap_or(usize::MAX);
            next.push((before + usize::from(x != *y)).min(above + 1).min(left + 1));
            before = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_have_a_place_and_the_nearest_name() {
        let text = "theme: dark\ntehme: light\nprobes: sometimes\ncontexts:\n  prod:\n    readonly: true\n    pane: [a]\n";
        let mistakes = Config::read(text).unwrap_err();
        let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "line 2, column 1: there is no setting `tehme`; the nearest is `theme`",
                "line 3, column 9: `probes` is never, ask, always, not `sometimes`",
                "line 6, column 5: there is no setting `readonly`; the nearest is `readOnly`",
                "line 7, column 11: `pane` takes one value",
            ]
        );
        assert!(
            Config::read("theme: [")
                .unwrap_err()
                .first()
                .is_some_and(|m| m.line >= 1)
        );
        assert!(Config::read("- a").is_err());
        assert_eq!(Config::read("# nothing\n\n").unwrap(), Config::default());
    }

    #[test]
    fn the_wall_is_checked_like_the_rest() {
        let text = "kiosk:\n  panes: [overview, matrx]\n  each: 0\n  hold: 1h\n  eech: 3\n  blind: [1]\n  workloads: [{a: 1}]\ntheme: [a]\n";
        let mistakes = Config::read(text).unwrap_err();
        let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let panes = PaneId::names().join(", ");
        assert_eq!(
            said,
            [
                format!("line 2, column 21: `kiosk.panes` is a list of {panes}, not `matrx`"),
                "line 3, column 9: `kiosk.each` is a number of seconds, 1 at least, not `0`".into(),
                "line 4, column 9: `kiosk.hold` is a number of seconds, not `1h`".into(),
                "line 5, column 3: there is no setting `eech`; the nearest is `each`".into(),
                "line 6, column 10: `kiosk.blind` takes one value".into(),
                "line 7, column 15: `kiosk.workloads` takes a list of names".into(),
                "line 8, column 8: `theme` takes one value".into(),
            ]
        );
        let said = Config::read("kiosk: 7\n").unwrap_err();
        assert_eq!(
            said.first().map(ToString::to_string).as_deref(),
            Some("line 1, column 8: `kiosk` is a mapping of settings")
        );
        let read = Config::read("kiosk:\n  panes: [vram, ranks]\n  hold: 0\n").unwrap();
        let said = read.in_context(None);
        assert_eq!(said.get("kiosk.panes"), Some(&"vram,ranks"));
        assert_eq!(said.get("kiosk.hold"), Some(&"0"));
    }

    #[test]
    fn a_context_goes_before_the_rest() {
        let text = "theme: light\nnamespace: a\ncontexts:\n  prod:\n    readOnly: true\n    namespace: b\n";
        let config = Config::read(text).unwrap();
        assert_eq!(config.in_context(None).get("namespace"), Some(&"a"));
        let prod = config.in_context(Some("prod"));
        assert_eq!(prod.get("namespace"), Some(&"b"));
        assert_eq!(
            (prod.get("readOnly"), prod.get("theme")),
            (Some(&"true"), Some(&"light"))
        );
    }
}
