//! Looks as terminals take them: the codes of "select graphic rendition" (ECMA-48).

use ratatui::style::{Color, Modifier};

/// Colour of the text, colour behind it, attributes.
pub type Look = (Color, Color, Modifier);

/// How a terminal writes when nothing was said.
pub const PLAIN: Look = (Color::Reset, Color::Reset, Modifier::empty());

const MODIFIERS: &[(Modifier, u8)] = &[
    (Modifier::BOLD, 1),
    (Modifier::DIM, 2),
    (Modifier::ITALIC, 3),
    (Modifier::UNDERLINED, 4),
    (Modifier::SLOW_BLINK, 5),
    (Modifier::RAPID_BLINK, 6),
    (Modifier::REVERSED, 7),
    (Modifier::HIDDEN, 8),
    (Modifier::CROSSED_OUT, 9),
];

/// Appends the codes that lead from one look to another that has every attribute of it.
pub fn change(from: Look, to: Look, codes: &mut String) {
    for (flag, code) in MODIFIERS {
        if to.2.contains(*flag) && !from.2.contains(*flag) {
            push(codes, format_args!("{code}"));
        }
    }
    if to.0 != from.0 {
        colour(codes, to.0, 30);
    }
    if to.1 != from.1 {
        colour(codes, to.1, 40);
    }
}

fn push(codes: &mut String, code: std::fmt::Arguments<'_>) {
    if !codes.is_empty() {
        codes.push(';');
    }
    codes.push_str(&code.to_string());
}

/// `base` is 30 for text, 40 for the ground behind it.
fn colour(codes: &mut String, colour: Color, base: u8) {
    let (ansi, bright) = match colour {
        Color::Reset => (9, false),
        Color::Black => (0, false),
        Color::Red => (1, false),
        Color::Green => (2, false),
        Color::Yellow => (3, false),
        Color::Blue => (4, false),
        Color::Magenta => (5, false),
        Color::Cyan => (6, false),
        Color::Gray => (7, false),
        Color::DarkGray => (0, true),
        Color::LightRed => (1, true),
        Color::LightGreen => (2, true),
        Color::LightYellow => (3, true),
        Color::LightBlue => (4, true),
        Color::LightMagenta => (5, true),
        Color::LightCyan => (6, true),
        Color::White => (7, true),
        Color::Indexed(n) => return push(codes, format_args!("{};5;{n}", base + 8)),
        Color::Rgb(r, g, b) => return push(codes, format_args!("{};2;{r};{g};{b}", base + 8)),
    };
    push(
        codes,
        format_args!("{}", base + ansi + if bright { 60 } else { 0 }),
    );
}
