//! Bytes of a log line as text that a screen may show.

use std::borrow::Cow;

/// Longest text shown of one line, bytes; the rest becomes `…`.
const SHOWN: usize = 4096;
/// Longest operating-system command (title, hyperlink) that is taken for one, bytes; a longer one is text
/// that lost its end.
const COMMAND: usize = 512;

/// The line as it is shown and quoted: line end, escape sequences and control characters removed, bytes that
/// are not UTF-8 replaced, cut at 4 KiB. Prefixes stay: they say who spoke.
///
/// ```
/// assert_eq!(ncclscope::parse::clean(b"\x1b[36m(Worker pid=1)\x1b[0m a\tb\r\n"), "(Worker pid=1) a b");
/// ```
#[must_use]
pub fn clean(raw: &[u8]) -> String {
    cleaned(raw).into_owned()
}

/// The same, borrowed where there is nothing to clean, which is nearly always.
#[must_use]
pub fn cleaned(raw: &[u8]) -> Cow<'_, str> {
    let raw = raw.trim_ascii_end();
    if raw.len() <= SHOWN
        && is_plain(raw)
        && let Ok(text) = std::str::from_utf8(raw)
    {
        return Cow::Borrowed(text);
    }
    Cow::Owned(scrub(raw))
}

/// Nothing but printable ASCII. In pieces, because a loop that may stop at any byte is not vectorised.
fn is_plain(raw: &[u8]) -> bool {
    raw.chunks(64).all(|piece| {
        piece
            .iter()
            .fold(true, |plain, b| plain & (b' '..=b'~').contains(b))
    })
}

fn scrub(raw: &[u8]) -> String {
    let mut cut = raw.len() > SHOWN * 2;
    let mut bytes = Vec::with_capacity(raw.len().min(SHOWN * 2));
    strip(raw.get(..SHOWN * 2).unwrap_or(raw), &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let mut out = String::with_capacity(text.len().min(SHOWN));
    for c in text.chars() {
        if out.len() + c.len_utf8() > SHOWN {
            cut = true;
            break;
        }
        match c {
            '\t' => out.push(' '),
            c if is_unseen(c) => {}
            c => out.push(c),
        }
    }
    if cut {
        out.push('…');
    }
    out
}

/// Characters that move a terminal, or reorder or hide text: controls, bidirectional ones too, zero-width marks, the
/// byte-order mark.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Appends `s` to `out` without escape sequences and control bytes; line ends within become blanks.
pub(super) fn strip(s: &[u8], out: &mut Vec<u8>) {
    // 0xc2 begins the two bytes of C1 controls, of which 0x9b is CSI in one.
    let special = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f || *b == 0xc2;
    let mut rest = s;
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = match rest.get(at..).unwrap_or_default() {
            [0x1b, tail @ ..] => sequence(tail),
            [0xc2, 0x9b, tail @ ..] => csi(tail),
            [b'\n', tail @ ..] => {
                out.push(b' ');
                tail
            }
            [0xc2, tail @ ..] => {
                out.push(0xc2);
                tail
            }
            [_, tail @ ..] => tail,
            [] => &[],
        };
    }
    out.extend_from_slice(rest);
}

/// What follows an escape sequence whose ESC was just read.
fn sequence(s: &[u8]) -> &[u8] {
    match s {
        [b'[', body @ ..] => csi(body),
        // OSC, DCS, SOS, PM, APC: text up to BEL or ST.
        [b']' | b'P' | b'X' | b'^' | b'_', body @ ..] => {
            let near = body.get(..COMMAND).unwrap_or(body);
            let Some(end) = near.iter().position(|b| matches!(b, 0x07 | 0x1b)) else {
                return body;
            };
            match body.get(end..).unwrap_or_default() {
                [0x07, tail @ ..] | [0x1b, b'\\', tail @ ..] => tail,
                tail => tail,
            }
        }
        [0x20..=0x2f, _, body @ ..] | [0x30..=0x7e, body @ ..] => body,
        _ => s,
    }
}

/// What follows a control sequence whose introducer was just read.
fn csi(s: &[u8]) -> &[u8] {
    let end = s
        .iter()
        .position(|b| !(0x20..=0x3f).contains(b))
        .unwrap_or(s.len());
    let last = usize::from(s.get(end).is_some_and(|b| (0x40..=0x7e).contains(b)));
    s.get(end + last..).unwrap_or_default()
}
