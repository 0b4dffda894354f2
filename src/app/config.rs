//! The configuration file: YAML in the XDG folder, with settings for single contexts.
//!
//! A setting of the file is the default of the flag of its name, so that clap itself keeps the order: flag before
//! variable before file before default. What the file says wrong is an error with its place: a setting that is
//! misspelt must not be one that is silently not there.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::theme::yaml::{self, Entries, Node, place};
use settings::{SETTINGS, Takes, mistake};

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

/// Whether nobody has to mind that a configuration can't be read: none is there, or none can be seen, as in a container
/// that runs as another user than the one whose home it has.
#[must_use]
pub fn is_absent(path: &Path, error: &io::Error) -> bool {
    let hidden = |e: &io::Error| e.kind() == ErrorKind::PermissionDenied;
    let unseen = || std::fs::symlink_metadata(path).is_err_and(|e| hidden(&e));
    let asked_for = std::env::var_os("NCCLSCOPE_CONFIG").is_some_and(|v| !v.is_empty());
    error.kind() == ErrorKind::NotFound || hidden(error) && !asked_for && unseen()
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
            Err(e) if is_absent(&path, &e) => Ok(Self {
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
        self.settings = settings::read(rest, true, mistakes);
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
                        let own = settings::read(entries, false, mistakes);
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

    /// What the file says of a setting, in general and for single contexts.
    pub fn every<'a>(&'a self, setting: &'a str) -> impl Iterator<Item = &'a str> {
        let all = std::iter::once(&self.settings).chain(self.contexts.values());
        all.filter_map(|s| s.get(setting)).map(String::as_str)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::screen::PaneId;

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
