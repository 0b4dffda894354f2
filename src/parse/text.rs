//! Bytes of a log line as text that a screen may show.

/// Longest text shown of one line, bytes; the rest becomes `…`.
const SHOWN: usize = 4096;

/// The line as it is shown and quoted: line end, escape sequences and control characters removed, bytes that
/// are not UTF-8 replaced, cut at 4 KiB. Prefixes stay: they say who spoke.
///
/// ```
/// assert_eq!(ncclscope::parse::clean(b"\x1b[36m(Worker pid=1)\x1b[0m a\tb\r\n"), "(Worker pid=1) a b");
/// ```
#[must_use]
pub fn clean(raw: &[u8]) -> String {
    let cut = raw.len() > SHOWN * 2;
    let head = raw.get(..SHOWN * 2).unwrap_or(raw);
    let text = String::from_utf8_lossy(head);
    let mut out = String::with_capacity(text.len().min(SHOWN));
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if out.len() >= SHOWN {
            out.push('…');
            return out;
        }
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_csi(&mut rest),
            '\t' => out.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    if cut {
        out.push('…');
    }
    out
}

/// Characters that reorder or hide text: bidirectional controls, zero-width marks, the byte-order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_csi(rest);
        }
        // OSC, DCS, SOS, PM, APC: text up to BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            rest.next();
            while let Some(c) = rest.next() {
                if c == '\u{7}' {
                    return;
                }
                if c == '\u{1b}' {
                    if rest.peek() == Some(&'\\') {
                        rest.next();
                    }
                    return;
                }
            }
        }
        Some(_) => {
            rest.next();
        }
        None => {}
    }
}

fn skip_csi(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = rest.peek().copied() {
        if !matches!(c, ' '..='?') {
            if matches!(c, '@'..='~') {
                rest.next();
            }
            return;
        }
        rest.next();
    }
}
