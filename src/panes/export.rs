//! A drawn screen as something to keep: text for mails, ANSI for `less -R`, SVG for pages and tickets.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

use crate::theme::sgr::{self, PLAIN};
use crate::theme::{Rgb, Theme};

/// Size of a cell in pixels, and of the letters in it.
const CELL: (u32, u32) = (9, 18);
const LETTERS: u32 = 15;

/// How a screen is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Characters alone.
    Text,
    /// Characters with colours and attributes as terminals take them.
    Ansi,
    /// A picture.
    Svg,
}

impl Format {
    /// The one that the ending of a file's name asks for; text where it asks for none of the others.
    #[must_use]
    pub fn of(extension: Option<&str>) -> Self {
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Self::Svg,
            Some("ans" | "ansi") => Self::Ansi,
            _ => Self::Text,
        }
    }

    /// The buffer in this format.
    #[must_use]
    pub fn write(self, buf: &Buffer, theme: &Theme) -> String {
        match self {
            Self::Text => text(buf),
            Self::Ansi => ansi(buf),
            Self::Svg => svg(buf, theme),
        }
    }
}

/// Rows of a buffer without the right halves of wide characters.
fn rows(buf: &Buffer) -> impl Iterator<Item = Vec<&Cell>> {
    let width = usize::from(buf.area.width.max(1));
    buf.content.chunks(width).map(|row| {
        let mut covered = 0;
        let cells = row.iter().enumerate().filter(|(x, cell)| {
            let whole = *x >= covered;
            if whole {
                covered = x + usize::from(columns(cell));
            }
            whole
        });
        cells.map(|(_, cell)| cell).collect()
    })
}

/// The buffer as text, without the blanks at the ends of its lines.
#[must_use]
pub fn text(buf: &Buffer) -> String {
    let mut out = String::new();
    for row in rows(buf) {
        let line: String = row.iter().map(|c| c.symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The buffer as text with escape sequences; every line stands for itself, so that pagers can begin anywhere.
#[must_use]
pub fn ansi(buf: &Buffer) -> String {
    let mut out = String::new();
    for row in rows(buf) {
        let blank = |c: &&Cell| {
            c.symbol() == " " && c.bg == Color::Reset && !c.modifier.contains(Modifier::REVERSED)
        };
        let end = row
            .iter()
            .rposition(|c| !blank(c))
            .map_or(0, |last| last + 1);
        let mut look = PLAIN;
        for cell in row.iter().take(end) {
            let want = (cell.fg, cell.bg, cell.modifier);
            if want != look {
                let mut codes = String::from("0");
                sgr::change(PLAIN, want, &mut codes);
                let _ = write!(out, "\x1b[{codes}m");
                look = want;
            }
            out.push_str(cell.symbol());
        }
        if look != PLAIN {
            out.push_str("\x1b[0m");
        }
        out.push('\n');
    }
    out
}

/// The buffer as an SVG document.
#[must_use]
pub fn svg(buf: &Buffer, theme: &Theme) -> String {
    let (w, h) = (
        u32::from(buf.area.width) * CELL.0,
        u32::from(buf.area.height) * CELL.1,
    );
    let back = theme.background();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"{LETTERS}\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"{}\"/>\n",
        hex(back)
    );
    for y in buf.area.top()..buf.area.bottom() {
        row(buf, y, theme, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

/// Runs of cells that look alike become one element each. Wide characters are runs of their own: what they are
/// stretched to fill is another width than that of letters.
fn row(buf: &Buffer, y: u16, theme: &Theme, out: &mut String) {
    let mut x = buf.area.left();
    while let Some(first) = buf.cell((x, y)).filter(|_| x < buf.area.right()) {
        let look = looks(first, theme);
        let start = x;
        let mut text = String::new();
        let (shape, wide) = (drawn(first), columns(first));
        while let Some(cell) = buf.cell((x, y)).filter(|c| {
            let alike = looks(c, theme) == look && drawn(c) == shape && columns(c) == wide;
            x < buf.area.right() && alike
        }) {
            text.push_str(cell.symbol());
            // The right half of a wide one holds a blank that is not drawn.
            x = x.saturating_add(wide);
        }
        let x = x.min(buf.area.right());
        let (fg, bg, bold, italic, under) = look;
        let (left, top) = (
            u32::from(start - buf.area.left()) * CELL.0,
            u32::from(y - buf.area.top()) * CELL.1,
        );
        let width = u32::from(x - start) * CELL.0;
        if bg != theme.background() {
            let _ = writeln!(
                out,
                "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{}\" fill=\"{}\"/>",
                CELL.1,
                hex(bg)
            );
        }
        if text.trim().is_empty() {
            continue;
        }
        if !shape.is_empty() {
            // Letters of a font leave gaps between rows; what is drawn doesn't. What spans a cell spans the run.
            for part in shape {
                let whole = part.2 == CELL.0;
                let step = if whole { x - start } else { 1 };
                for column in (0..x - start).step_by(usize::from(step)) {
                    let left = left + u32::from(column) * CELL.0;
                    let wide = if whole { width } else { part.2 };
                    rectangle(left + part.0, top + part.1, wide, part, fg, out);
                }
            }
            continue;
        }
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\" textLength=\"{width}\" fill=\"{}\"{}{}{} xml:space=\"preserve\">{}</text>",
            top + 14,
            hex(fg),
            if bold { " font-weight=\"bold\"" } else { "" },
            if italic { " font-style=\"italic\"" } else { "" },
            if under {
                " text-decoration=\"underline\""
            } else {
                ""
            },
            escape(&text)
        );
    }
}

/// Columns that the character of a cell covers.
fn columns(cell: &Cell) -> u16 {
    u16::try_from(UnicodeWidthStr::width(cell.symbol()).max(1)).unwrap_or(u16::MAX)
}

fn rectangle(x: u32, y: u32, width: u32, part: &Part, fill: Rgb, out: &mut String) {
    let (height, opacity) = (part.3, part.4);
    let _ = write!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{}\"",
        hex(fill)
    );
    if opacity < 100 {
        let _ = write!(out, " fill-opacity=\"0.{opacity}\"");
    }
    out.push_str("/>\n");
}

/// A rectangle inside a cell: left, top, width, height in pixels, opacity in percent.
type Part = (u32, u32, u32, u32, u8);

/// Blocks and rules as rectangles; nothing for what is text.
fn drawn(cell: &Cell) -> &'static [Part] {
    match cell.symbol() {
        "█" => &[(0, 0, 9, 18, 100)],
        "▀" => &[(0, 0, 9, 9, 100)],
        "▄" => &[(0, 9, 9, 9, 100)],
        "▌" => &[(0, 0, 4, 18, 100)],
        "▁" => &[(0, 16, 9, 2, 100)],
        "▂" => &[(0, 14, 9, 4, 100)],
        "▃" => &[(0, 11, 9, 7, 100)],
        "▅" => &[(0, 7, 9, 11, 100)],
        "▆" => &[(0, 5, 9, 13, 100)],
        "▇" => &[(0, 2, 9, 16, 100)],
        "░" => &[(0, 0, 9, 18, 25)],
        "▒" => &[(0, 0, 9, 18, 50)],
        "▓" => &[(0, 0, 9, 18, 75)],
        "─" => &[(0, 9, 9, 1, 100)],
        "│" => &[(4, 0, 1, 18, 100)],
        "┼" => &[(0, 9, 9, 1, 100), (4, 0, 1, 18, 100)],
        _ => &[],
    }
}

type Looks = (Rgb, Rgb, bool, bool, bool);

fn looks(cell: &Cell, theme: &Theme) -> Looks {
    let (mut fg, mut bg) = (
        rgb(cell.fg, theme.foreground()),
        rgb(cell.bg, theme.background()),
    );
    let m = cell.modifier;
    if m.contains(Modifier::REVERSED) {
        std::mem::swap(&mut fg, &mut bg);
    }
    (
        fg,
        bg,
        m.contains(Modifier::BOLD),
        m.contains(Modifier::ITALIC),
        m.contains(Modifier::UNDERLINED),
    )
}

fn rgb(color: Color, default: Rgb) -> Rgb {
    let index = match color {
        Color::Rgb(r, g, b) => return Rgb(r, g, b),
        Color::Indexed(i) => i,
        Color::Reset => return default,
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 8,
        Color::LightRed => 9,
        Color::LightGreen => 10,
        Color::LightYellow => 11,
        Color::LightBlue => 12,
        Color::LightMagenta => 13,
        Color::LightCyan => 14,
        Color::White => 15,
    };
    Rgb::of_index(index)
}

fn hex(Rgb(r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
