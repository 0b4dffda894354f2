//! The configuration file: YAML in the XDG folder, with settings for single contexts.
//!
//! A setting of the file is the default of the flag of its name, so that clap itself keeps the order: flag before
//! variable before file before default. What the file says wrong is an error with its place: a setting that is
//! misspelt must not be one that is silently not there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

use crate::model::screen::PaneId;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    Bool,
    OneOf(&'static [&'static str]),
    Pane,
}

/// A setting.
#[derive(Debug)]
struct Setting {
    /// As the file spells it.
    name: &'static str,
    /// Id of the argument whose default it is.
    arg: &'static str,
    /// Variable that goes before it.
    variable: &'static str,
    takes: Takes,
    /// In force where nobody says anything.
    default: &'static str,
    about: &'static str,
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
];

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

/// The folder that the XDG rules name.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let var = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    // A relative path in this variable counts as none: so the rules say.
    var("XDG_CONFIG_HOME")
        .filter(|p| p.is_absolute())
        .or_else(|| Some(var("HOME")?.join(".config")))
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
        match serde_yaml::from_str::<Spanned<Node>>(text) {
            Ok(node) => match node.value {
                Node::Null => {}
                Node::Map(entries) => config.top(entries, &mut mistakes),
                _ => mistakes.push(Mistake {
                    line: 1,
                    column: 1,
                    message: "a configuration is a mapping of settings".into(),
                }),
            },
            // A file of comments alone is empty.
            Err(_)
                if text
                    .lines()
                    .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) => {}
            Err(e) => {
                let (line, column) = e.location().map_or((1, 1), |l| (l.line(), l.column()));
                let message = e
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or("not YAML")
                    .to_owned();
                mistakes.push(Mistake {
                    line,
                    column,
                    message,
                });
            }
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
                let place = self::place(&node);
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
        let known: BTreeMap<&str, String> = SETTINGS
            .iter()
            .filter_map(|s| Some((s.arg, (*said.get(s.name)?).to_owned())))
            .collect();
        with_defaults(command, &known)
    }

    /// Every setting with where it comes from, for a person.
    #[must_use]
    pub fn print(&self, context: Option<&str>) -> String {
        let said = self.in_context(context);
        let own = context.and_then(|c| self.contexts.get(c));
        let mut out = String::new();
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
            let value = if value.is_empty() {
                "~".to_owned()
            } else {
                value
            };
            let set = format!("{}: {value}", s.name);
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
            // clap wants values that live as long as the program; there are eight, once.
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

fn place<T>(node: &Spanned<T>) -> (u64, u64) {
    (node.referenced.line(), node.referenced.column())
}

fn settings(entries: Entries, top: bool, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (key, node) in entries {
        let (name, at) = (key.value.clone(), place(&key));
        let Some(setting) = SETTINGS
            .iter()
            .find(|s| s.name == name && (top || s.name != "context"))
        else {
            let names = SETTINGS
                .iter()
                .map(|s| s.name)
                .chain(top.then_some("contexts"));
            let near = nearest(&name, names);
            let shown = crate::parse::clean(name.as_bytes());
            mistakes.push(mistake(
                at,
                format!("there is no setting `{shown}`; the nearest is `{near}`"),
            ));
            continue;
        };
        let at = place(&node);
        let value = match node.value {
            Node::Null => continue,
            Node::Bool(v) => v.to_string(),
            Node::Text(text) => text,
            Node::List | Node::Map(_) => {
                mistakes.push(mistake(at, format!("`{name}` takes one value")));
                continue;
            }
        };
        let right = match setting.takes {
            Takes::Text => None,
            Takes::Bool => {
                (!matches!(value.as_str(), "true" | "false")).then(|| "true or false".to_owned())
            }
            Takes::OneOf(all) => (!all.contains(&value.as_str())).then(|| all.join(", ")),
            Takes::Pane => PaneId::named(&value)
                .is_none()
                .then(|| PaneId::names().join(", ")),
        };
        if let Some(right) = right {
            let shown = crate::parse::clean(value.as_bytes());
            mistakes.push(mistake(at, format!("`{name}` is {right}, not `{shown}`")));
            continue;
        }
        if out.insert(name.clone(), value).is_some() {
            mistakes.push(mistake(at, format!("`{name}` stands here twice")));
        }
    }
    out
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

/// Any YAML, with places.
#[derive(Debug, Clone)]
enum Node {
    Null,
    Bool(bool),
    Text(String),
    List,
    Map(Entries),
}

type Entries = Vec<(Spanned<String>, Spanned<Node>)>;

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a configuration")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Bool(v))
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Text(v.to_string()))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Text(v.to_string()))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Node, E> {
        Ok(Node::Text(v.to_string()))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Text(v.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        while seq.next_element::<Node>()?.is_some() {}
        Ok(Node::List)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = map.next_entry()? {
            all.push(entry);
        }
        Ok(Node::Map(all))
    }
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
