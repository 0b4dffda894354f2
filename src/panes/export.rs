//! A drawn screen as a picture: SVG with the cells' text, colours and attributes, for pages and tickets.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use crate::theme::{Rgb, Theme};

/// Size of a cell in pixels, and of the letters in it.
const CELL: (u32, u32) = (9, 18);
const LETTERS: u32 = 15;

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

/// Runs of cells that look alike become one element each.
fn row(buf: &Buffer, y: u16, theme: &Theme, out: &mut String) {
    let mut x = buf.area.left();
    while let Some(first) = buf.cell((x, y)).filter(|_| x < buf.area.right()) {
        let look = looks(first, theme);
        let start = x;
        let mut text = String::new();
        while let Some(cell) = buf
            .cell((x, y))
            .filter(|c| x < buf.area.right() && looks(c, theme) == look)
        {
            text.push_str(cell.symbol());
            x += 1;
        }
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
