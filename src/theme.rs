//! Roles and what they look like. Panes ask for a [`Role`]; only this file and `themes/` know colours.
//!
//! A theme is one YAML file: what it inherits, a palette, and a style for the roles it cares about. What it
//! leaves out comes from its parent, then from [`Role::fallback`]. A bad entry is a [`Warning`] with its
//! place, and the rest of the theme still loads. Colour depth, `NO_COLOR` and the ASCII glyph set are folded
//! in once, when the theme is loaded, so that drawing asks no questions.

mod color;
mod file;
mod role;
pub mod sgr;
pub mod yaml;

pub use color::{Depth, Rgb, Tint, contrast};
pub use file::Warning;
pub use role::Role;

use ratatui::style::{Color, Modifier, Style};

/// Themes that travel in the binary: name, text. A test compares this list with the directory.
pub const BUNDLED: &[(&str, &str)] = &[
    ("dark", include_str!("../themes/dark.yaml")),
    ("deuteranopia", include_str!("../themes/deuteranopia.yaml")),
    (
        "high-contrast",
        include_str!("../themes/high-contrast.yaml"),
    ),
    ("light", include_str!("../themes/light.yaml")),
    ("mono", include_str!("../themes/mono.yaml")),
    ("terminal", include_str!("../themes/terminal.yaml")),
    ("tritanopia", include_str!("../themes/tritanopia.yaml")),
];

/// The theme that is used when none is asked for.
pub const DEFAULT: &str = "dark";

/// What the terminal can show; found out once by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminal {
    /// Colours.
    pub depth: Depth,
    /// Draw with ASCII alone.
    pub ascii: bool,
}

/// A loaded theme, ready to draw with.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    name: String,
    styles: [Style; Role::COUNT],
    background: Rgb,
    foreground: Rgb,
    ascii: bool,
}

impl Theme {
    /// A bundled theme by name.
    #[must_use]
    pub fn bundled(name: &str, terminal: Terminal) -> Option<Self> {
        let (name, text) = BUNDLED.iter().find(|(n, _)| *n == name)?;
        Some(Self::load(name, text, terminal).0)
    }

    /// The theme that is used when none is asked for.
    #[must_use]
    pub fn standard(terminal: Terminal) -> Self {
        Self::bundled(DEFAULT, terminal).unwrap_or_else(|| Self::plain(terminal))
    }

    /// A theme from its text, with everything in it that could not be used.
    ///
    /// Without colours (`NO_COLOR`, a dumb terminal) every theme looks like `mono`, whose attributes were
    /// chosen to carry the meaning alone.
    #[must_use]
    pub fn load(name: &str, text: &str, terminal: Terminal) -> (Self, Vec<Warning>) {
        let (sheet, mut warnings) = file::Sheet::read(text);
        let mut chain = vec![sheet];
        let mut seen = vec![name.to_owned()];
        while let Some((parent, line, column)) = chain.last().and_then(|s| s.inherits.clone()) {
            let known = BUNDLED.iter().find(|(n, _)| *n == parent);
            match known {
                _ if seen.contains(&parent) => {
                    warnings.push(Warning {
                        line,
                        column,
                        message: format!("{parent} inherits itself"),
                    });
                    break;
                }
                Some((n, text)) => {
                    seen.push((*n).to_owned());
                    chain.push(file::Sheet::read(text).0);
                }
                None => {
                    let message =
                        format!("no theme {parent} to inherit from; there are {}", names());
                    warnings.push(Warning {
                        line,
                        column,
                        message,
                    });
                    break;
                }
            }
        }
        let mono = BUNDLED.iter().find(|(n, _)| *n == "mono" && *n != name);
        if let (Depth::None, Some((_, mono))) = (terminal.depth, mono) {
            chain = vec![file::Sheet::read(mono).0];
        }
        let mut theme = Self::plain(terminal);
        theme.name = name.to_owned();
        if let Some(bg) = chain.iter().find_map(|s| s.background) {
            theme.background = bg;
        }
        if let Some(fg) = chain.iter().find_map(|s| s.foreground) {
            theme.foreground = fg;
        }
        for role in Role::ALL {
            // Own entry, the parents' entries, then the same for the role it falls back to.
            let mut at = Some(role);
            let found = std::iter::from_fn(|| {
                let now = at?;
                at = now.fallback();
                Some(now)
            })
            .find_map(|r| chain.iter().find_map(|s| s.roles.get(&r).copied()));
            if let (Some(slot), Some(look)) = (theme.styles.get_mut(role as usize), found) {
                *slot = look.style(terminal.depth);
            }
        }
        (theme, warnings)
    }

    /// A theme without any style.
    fn plain(terminal: Terminal) -> Self {
        Self {
            name: "plain".into(),
            styles: [Style::new(); Role::COUNT],
            background: Rgb(16, 18, 22),
            foreground: Rgb(214, 218, 224),
            ascii: terminal.ascii,
        }
    }

    /// A theme whose colours are the numbers of the roles: snapshots taken with it record meaning, not looks.
    /// Foreground roles colour the foreground, overlays the background.
    #[must_use]
    pub fn probe(ascii: bool) -> Self {
        let mut theme = Self::plain(Terminal {
            depth: Depth::Indexed,
            ascii,
        });
        theme.name = "probe".into();
        for role in Role::ALL {
            let color = Color::Indexed(role as u8);
            if let Some(slot) = theme.styles.get_mut(role as usize) {
                *slot = if role.is_overlay() {
                    Style::new().bg(color)
                } else {
                    Style::new().fg(color)
                };
            }
        }
        theme
    }

    /// The same with nothing that stands back: for a projector, a shared screen, a wall.
    #[must_use]
    pub fn loud(&self) -> Self {
        let mut loud = self.clone();
        let text = self.style(Role::Text);
        for role in [Role::Quiet, Role::Label, Role::Missing, Role::LogTime] {
            if let Some(slot) = loud.styles.get_mut(role as usize) {
                let kept = slot.add_modifier & (Modifier::UNDERLINED | Modifier::BOLD);
                *slot = text.add_modifier(kept);
            }
        }
        for slot in &mut loud.styles {
            slot.add_modifier.remove(Modifier::DIM);
        }
        loud
    }

    /// The same where nobody selects anything.
    #[must_use]
    pub fn unmanned(mut self) -> Self {
        for role in [Role::Selected, Role::Cursor] {
            if let Some(slot) = self.styles.get_mut(role as usize) {
                *slot = Style::new();
            }
        }
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a role looks like.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(role as usize).copied().unwrap_or_default()
    }

    /// Draw with ASCII alone.
    #[must_use]
    pub fn ascii(&self) -> bool {
        self.ascii
    }

    /// The background that the theme is made for: where a role sets none, the terminal's own shows.
    #[must_use]
    pub fn background(&self) -> Rgb {
        self.background
    }

    /// The text colour that the theme is made for.
    #[must_use]
    pub fn foreground(&self) -> Rgb {
        self.foreground
    }
}

/// Names of the bundled themes, for messages.
#[must_use]
pub fn names() -> String {
    let all: Vec<&str> = BUNDLED.iter().map(|(n, _)| *n).collect();
    all.join(", ")
}

/// What a file says about one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Look {
    fg: Option<Tint>,
    bg: Option<Tint>,
    attributes: Modifier,
}

impl Look {
    fn style(self, depth: Depth) -> Style {
        let mut style = Style::new();
        if let Some(fg) = self.fg.and_then(|t| t.at(depth)) {
            style = style.fg(fg);
        }
        if let Some(bg) = self.bg.and_then(|t| t.at(depth)) {
            style = style.bg(bg);
        }
        if let (Some(Tint::Swapped(_)), Depth::Ansi) = (self.bg, depth) {
            style = style.add_modifier(Modifier::REVERSED);
        }
        style.add_modifier(self.attributes)
    }
}
