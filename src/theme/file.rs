//! Reads a theme file so that one bad entry costs that entry alone.

use std::collections::BTreeMap;
use std::fmt;

use ratatui::style::Modifier;
use serde_yaml::Spanned;

use super::Look;
use super::color::{Rgb, Tint};
use super::role::Role;
use super::yaml::{self, Entries, Node, place};

/// Something in a theme file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// 1-based line; 0 when the file says nothing of it.
    pub line: u64,
    /// 1-based column.
    pub column: u64,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

/// What one file says, before its parents are asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sheet {
    /// Name of the parent and where it stands.
    pub inherits: Option<(String, u64, u64)>,
    /// Background that the theme is made for.
    pub background: Option<Rgb>,
    /// Text colour that the theme is made for.
    pub foreground: Option<Rgb>,
    /// Looks by role.
    pub roles: BTreeMap<Role, Look>,
}

/// Collects warnings while a file is read.
#[derive(Default)]
struct Reader {
    palette: Vec<(String, Tint)>,
    warnings: Vec<Warning>,
}

impl Sheet {
    /// Reads a file; nothing in it makes this fail.
    pub fn read(text: &str) -> (Self, Vec<Warning>) {
        let mut sheet = Self::default();
        let mut reader = Reader::default();
        let top = match yaml::read(text) {
            Ok(node) => reader.map(node, "a theme is a mapping of inherits, palette and roles"),
            Err((at, message)) => {
                let (line, column) = at.unwrap_or((0, 0));
                reader.warnings.push(Warning {
                    line,
                    column,
                    message,
                });
                Vec::new()
            }
        };
        // The palette may stand below the roles that use it.
        let (palette, rest): (Entries, Entries) =
            top.into_iter().partition(|(k, _)| k.value == "palette");
        for (_, node) in palette {
            for (name, value) in reader.map(node, "palette is a mapping of names to colours") {
                if let Some(tint) = reader.tint(&value) {
                    reader.palette.push((name.value, tint));
                }
            }
        }
        for (key, node) in rest {
            match key.value.as_str() {
                "inherits" => match &node.value {
                    Node::Text(parent) => {
                        let (line, column) = place(&node);
                        sheet.inherits = Some((parent.clone(), line, column));
                    }
                    Node::Null => {}
                    _ => reader.warn(&node, "inherits takes the name of a theme".into()),
                },
                "background" => sheet.background = reader.rgb(&node),
                "foreground" => sheet.foreground = reader.rgb(&node),
                "about" => {}
                "roles" => reader.roles(node, &mut sheet.roles),
                other => {
                    let message = format!(
                        "unknown key {other}; there are about, background, foreground, inherits, palette, roles"
                    );
                    reader.warn(&key, message);
                }
            }
        }
        (sheet, reader.warnings)
    }
}

impl Reader {
    fn warn<T>(&mut self, at: &Spanned<T>, message: String) {
        let (line, column) = place(at);
        self.warnings.push(Warning {
            line,
            column,
            message,
        });
    }

    fn map(&mut self, node: Spanned<Node>, otherwise: &str) -> Entries {
        match node.value {
            Node::Map(entries) => entries,
            Node::Null => Vec::new(),
            _ => {
                self.warn(&node, otherwise.to_owned());
                Vec::new()
            }
        }
    }

    fn tint(&mut self, node: &Spanned<Node>) -> Option<Tint> {
        if let Node::Text(text) = &node.value {
            if let Some((_, tint)) = self.palette.iter().find(|(n, _)| n == text) {
                return Some(*tint);
            }
            if let Some(tint) = Tint::parse(text) {
                return Some(tint);
            }
            self.warn(
                node,
                format!(
                    "no colour {text}: #rrggbb, #rrggbb/green, green, default, or a palette name"
                ),
            );
        } else {
            self.warn(
                node,
                "a colour is written #rrggbb, #rrggbb/green, green, default, or by palette name"
                    .into(),
            );
        }
        None
    }

    fn rgb(&mut self, node: &Spanned<Node>) -> Option<Rgb> {
        match self.tint(node) {
            Some(Tint::Rgb(rgb, _) | Tint::Swapped(rgb)) => Some(rgb),
            Some(Tint::Ansi(i)) => Some(Rgb::of_index(i)),
            Some(Tint::Default) | None => None,
        }
    }

    fn roles(&mut self, node: Spanned<Node>, into: &mut BTreeMap<Role, Look>) {
        for (name, value) in self.map(node, "roles is a mapping of roles to looks") {
            let Some(role) = Role::named(&name.value) else {
                let message = format!(
                    "no role {}; see themes/dark.yaml for all of them",
                    name.value
                );
                self.warn(&name, message);
                continue;
            };
            let mut look = Look::default();
            for (key, v) in self.map(value, "a look is written { fg: …, bg: …, bold: true }") {
                let attribute = match key.value.as_str() {
                    "fg" => {
                        look.fg = self.tint(&v);
                        continue;
                    }
                    "bg" => {
                        look.bg = self.tint(&v);
                        continue;
                    }
                    "bold" => Modifier::BOLD,
                    "dim" => Modifier::DIM,
                    "italic" => Modifier::ITALIC,
                    "underline" => Modifier::UNDERLINED,
                    "reverse" => Modifier::REVERSED,
                    other => {
                        let message = format!(
                            "unknown key {other} in a look; there are fg, bg, bold, dim, italic, underline, reverse"
                        );
                        self.warn(&key, message);
                        continue;
                    }
                };
                match v.value {
                    Node::Bool(on) => look.attributes.set(attribute, on),
                    _ => self.warn(&v, format!("{} is true or false", key.value)),
                }
            }
            into.insert(role, look);
        }
    }
}
