//! Shared pieces. Everything that reaches the buffer goes through [`Pen`], which is therefore the one place
//! where text from outside loses its escape codes, control characters and invisible marks.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthChar;

pub use crate::model::numbers::ranges;
use crate::parse::{At, Nanos};
use crate::rules::scene::{CheckVerdict, CommState, Severity, Stage, Verdict};
use crate::theme::{Role, Theme};

/// Draws text into a buffer.
pub struct Pen<'a> {
    buf: &'a mut Buffer,
    theme: &'a Theme,
}

impl<'a> Pen<'a> {
    /// A pen for this buffer.
    pub fn new(buf: &'a mut Buffer, theme: &'a Theme) -> Self {
        Self { buf, theme }
    }

    /// Writes text into `width` columns from (x, y), ends it with `…` where it does not fit, and says how many
    /// columns it took.
    pub fn text(&mut self, x: u16, y: u16, width: u16, text: &str, role: Role) -> u16 {
        let style = self.theme.style(role);
        let ascii = self.theme.ascii();
        let mut used: u16 = 0;
        for (c, w) in visible(text, ascii) {
            if used + w > width {
                self.end_early(x, y, width, used, role);
                return width;
            }
            if let Some(cell) = self.buf.cell_mut((x.saturating_add(used), y)) {
                cell.reset();
                cell.set_char(c).set_style(style);
            }
            if w == 2 {
                // The right half of a wide character holds nothing of its own.
                if let Some(cell) = self.buf.cell_mut((x.saturating_add(used + 1), y)) {
                    cell.reset();
                    cell.set_style(style);
                }
            }
            used += w;
        }
        // A line under a word does not go on under the gap behind it.
        let gap = text.len() - text.trim_end_matches(' ').len();
        let gap = u16::try_from(gap).unwrap_or(u16::MAX).min(used);
        for column in used - gap..used {
            if let Some(cell) = self.buf.cell_mut((x.saturating_add(column), y)) {
                cell.modifier.remove(Modifier::UNDERLINED);
            }
        }
        used
    }

    fn end_early(&mut self, x: u16, y: u16, width: u16, used: u16, role: Role) {
        let style = self.theme.style(role);
        let mark = if self.theme.ascii() { '~' } else { '…' };
        if width == 0 {
            return;
        }
        let last = x.saturating_add(width - 1);
        // A wide character that would be cut in half gives way whole.
        if let Some(before) = (used == width && width >= 2).then(|| last - 1) {
            let wide = self
                .buf
                .cell((before, y))
                .and_then(|c| c.symbol().chars().next())
                .and_then(UnicodeWidthChar::width);
            if let Some(cell) = self.buf.cell_mut((before, y)).filter(|_| wide == Some(2)) {
                cell.set_char(' ').set_style(style);
            }
        }
        for column in used..width {
            if let Some(cell) = self.buf.cell_mut((x.saturating_add(column), y)) {
                cell.set_char(' ').set_style(style);
            }
        }
        if let Some(cell) = self.buf.cell_mut((last, y)) {
            cell.set_char(mark).set_style(style);
        }
    }

    /// Writes text flush right into `width` columns.
    pub fn right(&mut self, x: u16, y: u16, width: u16, text: &str, role: Role) {
        let w = columns(text).min(width);
        self.text(x.saturating_add(width - w), y, w, text, role);
    }

    /// Writes pieces one after another; says how many columns they took.
    pub fn spans(&mut self, x: u16, y: u16, width: u16, spans: &[(&str, Role)]) -> u16 {
        let mut used = 0;
        for (text, role) in spans {
            if used >= width {
                break;
            }
            used += self.text(x.saturating_add(used), y, width - used, text, *role);
        }
        used
    }

    /// Repeats one character.
    pub fn fill(&mut self, x: u16, y: u16, width: u16, c: char, role: Role) {
        let style = self.theme.style(role);
        let c = if self.theme.ascii() { plain(c) } else { c };
        for column in 0..width {
            if let Some(cell) = self.buf.cell_mut((x.saturating_add(column), y)) {
                cell.reset();
                cell.set_char(c).set_style(style);
            }
        }
    }

    /// Lays an overlay over what is there.
    pub fn overlay(&mut self, x: u16, y: u16, width: u16, role: Role) {
        let style = self.theme.style(role);
        for column in 0..width {
            if let Some(cell) = self.buf.cell_mut((x.saturating_add(column), y)) {
                if matches!(role, Role::Cursor | Role::Pointer) {
                    // On a reversed cell a reversed cursor would be nothing to see.
                    cell.modifier.remove(Modifier::REVERSED);
                }
                cell.set_style(style);
            }
        }
    }

    /// Empties a rectangle.
    pub fn clear(&mut self, area: Rect) {
        for y in area.top()..area.bottom() {
            self.fill(area.x, y, area.width, ' ', Role::Text);
        }
    }

    /// A bar of `width` columns, `done` of `total` full.
    pub fn bar(&mut self, x: u16, y: u16, width: u16, done: u64, total: u64) {
        let full = (u64::from(width) * done.min(total))
            .checked_div(total)
            .unwrap_or(0);
        let full = u16::try_from(full).unwrap_or(width);
        self.fill(x, y, full, '█', Role::BarDone);
        self.fill(x.saturating_add(full), y, width - full, '░', Role::BarRest);
    }

    /// Writes wrapped text from row `y` on, at most `rows` rows; says how many rows it took.
    pub fn wrapped(
        &mut self,
        x: u16,
        y: u16,
        width: u16,
        rows: u16,
        text: &str,
        role: Role,
    ) -> u16 {
        let lines = wrap(text, width);
        let total = lines.len();
        let mut row = 0;
        for (i, line) in lines.iter().enumerate() {
            if row >= rows {
                break;
            }
            let more = row + 1 == rows && i + 1 < total;
            let used = self.text(x, y + row, width, line, role);
            if more {
                self.end_early(x, y + row, (used + 1).min(width), used.min(width), role);
            }
            row += 1;
        }
        row
    }
}

/// The characters of a text that may reach a screen, with their widths: no control characters, no escape
/// sequences, nothing without width (joiners, marks that reorder text).
pub fn visible(text: &str, ascii: bool) -> impl Iterator<Item = (char, u16)> + '_ {
    let mut chars = text.chars().peekable();
    let mut second_half = false;
    std::iter::from_fn(move || {
        if std::mem::take(&mut second_half) {
            return Some(('?', 1));
        }
        loop {
            let c = chars.next()?;
            match c {
                '\u{20}'..='\u{7e}' => return Some((c, 1)),
                '\t' | '\n' => return Some((' ', 1)),
                '\u{1b}' => match chars.next() {
                    // CSI: parameters, then one final character.
                    Some('[') => {
                        while chars
                            .next()
                            .is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c))
                        {
                        }
                    }
                    // OSC and its kin: up to BEL or ST.
                    Some(']' | 'P' | '_' | '^' | 'X') => {
                        while let Some(c) = chars.next() {
                            if c == '\u{7}' || c == '\u{9c}' {
                                break;
                            }
                            if c == '\u{1b}' {
                                if chars.peek() == Some(&'\\') {
                                    chars.next();
                                }
                                break;
                            }
                        }
                    }
                    _ => {}
                },
                _ => match c.width() {
                    None | Some(0) => {}
                    Some(w) if ascii => {
                        // As many columns as the character had, so that what follows stays in line.
                        second_half = w >= 2;
                        return Some((plain(c), 1));
                    }
                    Some(w) => return Some((c, if w >= 2 { 2 } else { 1 })),
                },
            }
        }
    })
}

/// Columns that a text takes.
#[must_use]
pub fn columns(text: &str) -> u16 {
    let n: usize = visible(text, false).map(|(_, w)| usize::from(w)).sum();
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// What is left of a text after `skip` columns, and how many columns are still to be skipped after it.
#[must_use]
pub fn drop_columns(text: &str, skip: usize) -> (&str, usize) {
    let mut left = skip;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return (text.get(at..).unwrap_or_default(), 0);
        }
        let w = UnicodeWidthChar::width(c).unwrap_or(0);
        left = left.saturating_sub(w);
    }
    ("", left)
}

/// What stands for a character in the ASCII glyph set; always one column.
#[must_use]
pub const fn plain(c: char) -> char {
    match c {
        '\u{20}'..='\u{7e}' => c,
        '─' | '–' | '—' | '░' | '┄' => '-',
        '│' | '▏' | '┊' => '|',
        '┼' | '├' | '┤' | '┬' | '┴' => '+',
        '█' | '▌' | '▀' | '▇' | '▆' => '#',
        '▓' | '▅' | '▄' => '=',
        '▃' | '▂' => '_',
        '▁' => '.',
        '▒' | '≠' => '%',
        '°' => '\'',
        '·' => '.',
        '…' => '~',
        '→' | '›' | '▸' | '▶' => '>',
        '←' | '‹' => '<',
        '↑' | '▲' => '^',
        '↓' | '▼' => 'v',
        '×' => 'x',
        'µ' => 'u',
        '≥' => '>',
        '≤' => '<',
        '“' | '”' => '"',
        '’' => '\'',
        '\u{a0}' => ' ',
        _ => '?',
    }
}

/// Breaks a text at spaces and line ends into lines of at most `width` columns; longer words are cut.
#[must_use]
pub fn wrap(text: &str, width: u16) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0u16;
    if width == 0 {
        return lines;
    }
    for word in text.split([' ', '\n']) {
        let w = columns(word);
        if used > 0 && used.saturating_add(1).saturating_add(w) > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        } else if used > 0 || !line.is_empty() {
            line.push(' ');
            used += 1;
        }
        for (c, cw) in visible(word, false) {
            if used + cw > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += cw;
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Shortens from the left, because the end of a pod's or host's name tells it from its brothers.
#[must_use]
pub fn tail(text: &str, width: u16) -> String {
    let total = columns(text);
    if total <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut skip = total - width + 1;
    let mut out = String::from("…");
    for (c, w) in visible(text, false) {
        if skip > 0 {
            skip = skip.saturating_sub(w);
        } else {
            out.push(c);
        }
    }
    out
}

/// What tells names apart: the shared beginning is left out, but for the last `keep - 1` of its words.
/// `mixtral-0-0`, `mixtral-0-1` become `0-0`, `0-1` (2) or `0`, `1` (1).
#[must_use]
pub fn endings<'a>(names: &[&'a str], keep: usize) -> Vec<&'a str> {
    let Some((first, rest)) = names.split_first().filter(|(_, r)| !r.is_empty()) else {
        return names.to_vec();
    };
    let shared = rest.iter().fold(first.len(), |n, name| {
        first
            .bytes()
            .zip(name.bytes())
            .take(n)
            .take_while(|(a, b)| a == b)
            .count()
    });
    let mut cuts = first
        .bytes()
        .take(shared)
        .enumerate()
        .filter(|(_, b)| matches!(b, b'-' | b'.' | b'_'))
        .map(|(i, _)| i + 1)
        .rev();
    let Some(cut) = cuts.nth(keep.saturating_sub(1)) else {
        return names.to_vec();
    };
    names.iter().map(|n| n.get(cut..).unwrap_or(n)).collect()
}

/// `rank 4`, `ranks 0-3, 7`.
#[must_use]
pub fn ranks(numbers: &[u32]) -> String {
    let word = if numbers.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}", ranges(numbers))
}

/// `12 431`: digits in groups of three.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// `1 rank`, `8 ranks`.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A span of time for people: `0.4 s`, `12 s`, `2m 03s`, `3h 07m`, `5d 02h`.
#[must_use]
pub fn duration(ns: Nanos) -> String {
    let ns = ns.max(0);
    let s = ns / 1_000_000_000;
    match s {
        0..=9 => format!("{}.{} s", s, ns / 100_000_000 % 10),
        10..=59 => format!("{s} s"),
        60..=3_599 => format!("{}m {:02}s", s / 60, s % 60),
        3_600..=86_399 => format!("{}h {:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// An age as kubectl prints it.
#[must_use]
pub fn age(ns: Nanos) -> String {
    let s = ns / 1_000_000_000;
    let (m, h, d) = (s / 60, s / 3_600, s / 86_400);
    let with = |big: i64, b: char, small: i64, l: char| {
        if small == 0 {
            format!("{big}{b}")
        } else {
            format!("{big}{b}{small}{l}")
        }
    };
    match s {
        i64::MIN..=-2 => "<invalid>".into(),
        -1..=119 => format!("{}s", s.max(0)),
        120..=599 => with(m, 'm', s % 60, 's'),
        600..=10_799 => format!("{m}m"),
        10_800..=28_799 => with(h, 'h', m % 60, 'm'),
        28_800..=172_799 => format!("{h}h"),
        172_800..=691_199 => with(d, 'd', h % 24, 'h'),
        691_200..=63_071_999 => format!("{d}d"),
        63_072_000..=252_287_999 => with(d / 365, 'y', d % 365, 'd'),
        _ => format!("{}y", d / 365),
    }
}

/// `03:14:07`, as the line says it.
#[must_use]
pub fn clock(at: At) -> String {
    let s = at.ns.div_euclid(1_000_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// Word and role of a verdict.
#[must_use]
pub const fn verdict(v: Verdict) -> (&'static str, Role) {
    match v {
        Verdict::Healthy => ("HEALTHY", Role::Ok),
        Verdict::Starting => ("STARTING", Role::Waiting),
        Verdict::Unknown => ("UNKNOWN", Role::Unknown),
        Verdict::Degraded => ("DEGRADED", Role::Warn),
        Verdict::Failed => ("FAILED", Role::Fail),
    }
}

/// Word and role of a severity.
#[must_use]
pub const fn severity(s: Severity) -> (&'static str, Role) {
    match s {
        Severity::Error => ("error", Role::Fail),
        Severity::Warning => ("warning", Role::Warn),
        Severity::Info => ("info", Role::Info),
    }
}

/// Word and role of a check's outcome.
#[must_use]
pub const fn outcome(v: CheckVerdict) -> (&'static str, Role) {
    match v {
        CheckVerdict::Pass => ("pass", Role::Ok),
        CheckVerdict::Warn => ("warn", Role::Warn),
        CheckVerdict::Fail => ("fail", Role::Fail),
        CheckVerdict::Waiting => ("waiting", Role::Waiting),
        CheckVerdict::Unknown => ("unknown", Role::Unknown),
        CheckVerdict::NotApplicable => ("n/a", Role::Quiet),
        CheckVerdict::Forbidden => ("forbid", Role::Forbidden),
    }
}

/// Word and role of a communicator's state.
#[must_use]
pub const fn comm_state(s: CommState) -> (&'static str, Role) {
    match s {
        CommState::Starting => ("starting", Role::Waiting),
        CommState::Complete => ("complete", Role::Ok),
        CommState::Destroyed => ("destroyed", Role::Quiet),
        CommState::Revoked => ("revoked", Role::Warn),
        CommState::Aborted => ("aborted", Role::Fail),
        CommState::Failed => ("failed", Role::Fail),
    }
}

/// Word of the contract for a start-up stage, and its place among them.
#[must_use]
pub const fn stage(s: Stage) -> (&'static str, u64) {
    match s {
        Stage::Started => ("started", 1),
        Stage::Config => ("config", 2),
        Stage::DistributedInit => ("distributed-init", 3),
        Stage::NcclInit => ("nccl-init", 4),
        Stage::Download => ("download", 5),
        Stage::Weights => ("weights", 6),
        Stage::Profile => ("profile", 7),
        Stage::Compile => ("compile", 8),
        Stage::Graphs => ("graphs", 9),
        Stage::Serving => ("serving", 10),
    }
}

/// The window of `rows` lines over `total` that keeps `selected` in sight: its first line.
/// Pages rather than scrolls, so that it is a function of these three alone.
#[must_use]
pub const fn page(selected: usize, total: usize, rows: usize) -> usize {
    if rows == 0 || total <= rows {
        return 0;
    }
    let first = selected / rows * rows;
    if first + rows > total {
        total - rows
    } else {
        first
    }
}
