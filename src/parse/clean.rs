//! Lines as they are shown: no escape code, no control byte, no line longer than a screenful.

/// Longest line that is shown, in bytes.
const SHOWN: usize = 4096;
/// Longest operating-system command (title, hyperlink) that is taken for one.
const OSC: usize = 512;

/// The line as shown on screen and in evidence: prefixes kept, escape codes and control characters removed,
/// what is not UTF-8 replaced, at most 4 KiB with `…` for the rest.
#[must_use]
pub fn clean(raw: &[u8]) -> String {
    let end = raw.trim_ascii_end();
    let mut bytes = Vec::with_capacity(end.len().min(SHOWN) + 8);
    // Twice as much as is shown, because escape codes vanish.
    strip(end.get(..SHOWN * 2).unwrap_or(end), &mut bytes);
    let mut cut = end.len() > SHOWN * 2;
    let lossy = String::from_utf8_lossy(&bytes);
    let mut shown = String::with_capacity(lossy.len().min(SHOWN));
    for c in lossy.chars() {
        // C1 controls and marks that turn the direction of text are as dangerous as escape codes.
        if c.is_control() && c != '\t'
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            continue;
        }
        if shown.len() + c.len_utf8() > SHOWN {
            cut = true;
            break;
        }
        shown.push(if c == '\t' { ' ' } else { c });
    }
    if cut {
        shown.push('…');
    }
    shown
}

/// Appends `s` to `out` without escape sequences and control bytes; line ends become blanks.
pub(super) fn strip(s: &[u8], out: &mut Vec<u8>) {
    let mut rest = s;
    while let Some(at) = rest
        .iter()
        .position(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
    {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        let control = rest.get(at).copied();
        rest = rest.get(at + 1..).unwrap_or_default();
        match control {
            Some(0x1b) => rest = sequence(rest),
            Some(b'\n') => out.push(b' '),
            _ => {}
        }
    }
    out.extend_from_slice(rest);
}

/// What follows an escape sequence whose ESC was just read.
fn sequence(s: &[u8]) -> &[u8] {
    match s.split_first() {
        Some((b'[', body)) => {
            let end = body
                .iter()
                .position(|b| !(0x20..=0x3f).contains(b))
                .unwrap_or(body.len());
            let end = if body.get(end).is_some_and(|b| (0x40..=0x7e).contains(b)) {
                end + 1
            } else {
                end
            };
            body.get(end..).unwrap_or_default()
        }
        Some((b']' | b'P' | b'_' | b'^' | b'X', body)) => {
            let near = body.get(..OSC).unwrap_or(body);
            match near.iter().position(|b| matches!(b, 0x07 | 0x1b)) {
                Some(end) if near.get(end) == Some(&0x07) => {
                    body.get(end + 1..).unwrap_or_default()
                }
                // `ESC \` ends it.
                Some(end) if near.get(end + 1) == Some(&b'\\') => {
                    body.get(end + 2..).unwrap_or_default()
                }
                _ => body,
            }
        }
        Some((0x20..=0x2f, body)) => body.get(1..).unwrap_or_default(),
        Some((0x30..=0x7e, body)) => body,
        _ => s,
    }
}
