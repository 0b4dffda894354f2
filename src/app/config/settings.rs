//! Every setting: its name, what it takes, the argument whose default it is; and reading them with their mistakes.

use std::collections::BTreeMap;

use serde_yaml::Spanned;

use super::Mistake;
use crate::model::kiosk::Plan;
use crate::model::limits::Limits;
use crate::model::screen::PaneId;
use crate::parse::nearest;
use crate::theme::yaml::{Entries, Node, place};

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
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
    pub fn is_list(self) -> bool {
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
pub(super) struct Setting {
    /// As the file spells it; behind its group and a dot where it is in one.
    pub name: &'static str,
    /// Id of the argument whose default it is.
    pub arg: &'static str,
    /// Variable that goes before it; nothing where there is none.
    pub variable: &'static str,
    pub takes: Takes,
    /// In force where nobody says anything.
    pub default: &'static str,
    pub about: &'static str,
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

pub(super) const SETTINGS: &[Setting] = &[
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

pub(super) fn mistake((line, column): (u64, u64), message: String) -> Mistake {
    Mistake {
        line,
        column,
        message,
    }
}

/// The settings of a mapping; what is wrong goes to `mistakes`.
pub(super) fn read(
    entries: Entries,
    top: bool,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, String> {
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
        let names = names.chain(outer.filter(|_| group.is_none()));
        let near = nearest(&key.value, names)
            .map_or_else(String::new, |near| format!("; the nearest is `{near}`"));
        let shown = crate::parse::clean(key.value.as_bytes());
        mistakes.push(mistake(
            place(&key),
            format!("there is no setting `{shown}`{near}"),
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
