//! Colours, and what is left of them on a terminal that has fewer.

use ratatui::style::Color;

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// None: attributes only.
    None,
    /// The terminal's own sixteen.
    Ansi,
    /// The 256 of xterm.
    Indexed,
    /// 24 bits.
    #[default]
    True,
}

impl Depth {
    /// As `--color` names it: `None` for a word that is none of them, `Some(None)` to find out.
    #[must_use]
    #[allow(clippy::option_option, reason = "no word, the word auto, a depth")]
    pub fn named(word: &str) -> Option<Option<Self>> {
        match word {
            "auto" => Some(None),
            "never" => Some(Some(Self::None)),
            "16" => Some(Some(Self::Ansi)),
            "256" => Some(Some(Self::Indexed)),
            "truecolor" => Some(Some(Self::True)),
            _ => None,
        }
    }

    /// From the environment, as the shell read it: `NO_COLOR` (set and not empty), `COLORTERM`, `TERM`.
    #[must_use]
    pub fn detect(no_color: Option<&str>, colorterm: Option<&str>, term: Option<&str>) -> Self {
        let term = term.unwrap_or_default();
        if no_color.is_some_and(|v| !v.is_empty()) || term == "dumb" {
            return Self::None;
        }
        if matches!(colorterm, Some("truecolor" | "24bit")) || term.ends_with("-direct") {
            return Self::True;
        }
        if term.contains("256color")
            || ["alacritty", "kitty", "wezterm", "foot", "ghostty"].contains(&term)
        {
            return Self::Indexed;
        }
        Self::Ansi
    }
}

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// Reads `#rrggbb`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix('#')?;
        if hex.len() != 6 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let n = u32::from_str_radix(hex, 16).ok()?;
        let [_, r, g, b] = n.to_be_bytes();
        Some(Self(r, g, b))
    }

    fn distance(self, other: Self) -> u32 {
        // Weighted for the eye: green counts most, blue least.
        let d = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        3 * d(self.0, other.0) + 6 * d(self.1, other.1) + d(self.2, other.2)
    }

    /// Relative luminance, 0 to 1 (WCAG 2).
    fn luminance(self) -> f64 {
        let c = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.040_45 {
                v / 12.92
            } else {
                ((v + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * c(self.0) + 0.7152 * c(self.1) + 0.0722 * c(self.2)
    }

    /// The nearest of xterm's 256; the first sixteen are left out, users repaint them.
    #[must_use]
    pub fn indexed(self) -> u8 {
        (16..=255u8)
            .min_by_key(|i| self.distance(Self::of_index(*i)))
            .unwrap_or(7)
    }

    /// The nearest of the sixteen.
    #[must_use]
    pub fn ansi(self) -> u8 {
        (0..16u8)
            .min_by_key(|i| self.distance(Self::of_index(*i)))
            .unwrap_or(7)
    }

    /// What xterm shows for one of its 256 colours.
    #[must_use]
    pub fn of_index(i: u8) -> Self {
        const BASE: [Rgb; 16] = [
            Rgb(0, 0, 0),
            Rgb(205, 0, 0),
            Rgb(0, 205, 0),
            Rgb(205, 205, 0),
            Rgb(0, 0, 238),
            Rgb(205, 0, 205),
            Rgb(0, 205, 205),
            Rgb(229, 229, 229),
            Rgb(127, 127, 127),
            Rgb(255, 0, 0),
            Rgb(0, 255, 0),
            Rgb(255, 255, 0),
            Rgb(92, 92, 255),
            Rgb(255, 0, 255),
            Rgb(0, 255, 255),
            Rgb(255, 255, 255),
        ];
        if let Some(c) = BASE.get(usize::from(i)) {
            return *c;
        }
        if i >= 232 {
            let v = 8 + 10 * (i - 232);
            return Self(v, v, v);
        }
        let n = i - 16;
        let level = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
        Self(level(n / 36), level(n / 6 % 6), level(n % 6))
    }
}

/// Contrast of two colours, 1 to 21 (WCAG 2).
#[must_use]
pub fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (a.luminance(), b.luminance());
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// A colour as a theme names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// The terminal's own foreground or background.
    Default,
    /// One of the terminal's sixteen.
    Ansi(u8),
    /// 24 bits, with the one of the sixteen that stands in for it where the theme says so.
    Rgb(Rgb, Option<u8>),
    /// 24 bits behind text; a terminal of sixteen colours swaps text and background instead, since nobody knows which of
    /// its colours can be read on which.
    Swapped(Rgb),
}

/// Names of the sixteen, in order.
const ANSI: [&str; 16] = [
    "black",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "white",
    "bright-black",
    "bright-red",
    "bright-green",
    "bright-yellow",
    "bright-blue",
    "bright-magenta",
    "bright-cyan",
    "bright-white",
];

impl Tint {
    /// Reads `#rrggbb`, `#rrggbb/green` (with the stand-in for sixteen colours), `#rrggbb/reverse`, `green`, or `default`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let ansi = |name: &str| {
            ANSI.iter()
                .position(|n| *n == name)
                .and_then(|i| u8::try_from(i).ok())
        };
        if text == "default" {
            return Some(Self::Default);
        }
        if let Some(i) = ansi(text) {
            return Some(Self::Ansi(i));
        }
        match text.split_once('/') {
            Some((rgb, "reverse")) => Some(Self::Swapped(Rgb::parse(rgb)?)),
            Some((rgb, name)) => Some(Self::Rgb(Rgb::parse(rgb)?, Some(ansi(name)?))),
            None => Some(Self::Rgb(Rgb::parse(text)?, None)),
        }
    }

    /// What to send to a terminal of this depth; `None` for no colour.
    #[must_use]
    pub fn at(self, depth: Depth) -> Option<Color> {
        match (self, depth) {
            (_, Depth::None) | (Self::Default, _) | (Self::Swapped(_), Depth::Ansi) => None,
            (Self::Ansi(i), _) => Some(named(i)),
            (Self::Rgb(Rgb(r, g, b), _) | Self::Swapped(Rgb(r, g, b)), Depth::True) => {
                Some(Color::Rgb(r, g, b))
            }
            (Self::Rgb(c, _) | Self::Swapped(c), Depth::Indexed) => {
                Some(Color::Indexed(c.indexed()))
            }
            (Self::Rgb(c, stand_in), Depth::Ansi) => {
                Some(named(stand_in.unwrap_or_else(|| c.ansi())))
            }
        }
    }
}

fn named(i: u8) -> Color {
    const COLORS: [Color; 16] = [
        Color::Black,
        Color::Red,
        Color::Green,
        Color::Yellow,
        Color::Blue,
        Color::Magenta,
        Color::Cyan,
        Color::Gray,
        Color::DarkGray,
        Color::LightRed,
        Color::LightGreen,
        Color::LightYellow,
        Color::LightBlue,
        Color::LightMagenta,
        Color::LightCyan,
        Color::White,
    ];
    COLORS.get(usize::from(i)).copied().unwrap_or(Color::Reset)
}
