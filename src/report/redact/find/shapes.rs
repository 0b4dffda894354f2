//! Secrets by their shape: tokens of services, key ids, credentials in addresses and headers, private keys.

use super::{Reader, part_of_token};
use crate::report::redact::{KEY_LINES, MARK, Rule, Span};

fn push(spans: &mut Vec<Span>, start: usize, end: usize, rule: Rule) {
    if start < end {
        spans.push(Span {
            start,
            end,
            rule,
            name: String::new(),
        });
    }
}

/// The character in front is no part of the same word.
fn bounded(text: &[u8], start: usize) -> bool {
    start
        .checked_sub(1)
        .and_then(|i| text.get(i))
        .is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_')
}

pub(super) fn token(text: &[u8], start: usize, end: usize, least: usize, spans: &mut Vec<Span>) {
    // Prefixes are lower case in the world, but for Google's.
    let prefix = text.get(start..end).unwrap_or_default();
    let google = prefix.eq_ignore_ascii_case(b"aiza");
    if google && prefix != b"AIza"
        || !google && prefix.iter().any(u8::is_ascii_uppercase)
        || !bounded(text, start)
    {
        return;
    }
    let rest = text.get(end..).unwrap_or_default();
    let n = rest.iter().take_while(|b| part_of_token(**b)).count();
    let body = rest.get(..n).unwrap_or_default();
    // `hf_transfer_enabled`, `sk-learn-something`: words, not tokens.
    let words = body
        .iter()
        .all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
        && body.iter().any(|b| matches!(b, b'_' | b'-'));
    // Cut off by the edge of a screen.
    let cut = rest.get(n..).is_some_and(|r| r.starts_with("…".as_bytes())) && n >= 4;
    let lower = body.iter().all(u8::is_ascii_lowercase) && n < 20;
    if (n >= least || cut) && !words && !lower {
        push(spans, start, end + n, Rule::Token);
    }
}

pub(super) fn aws(text: &[u8], start: usize, end: usize, spans: &mut Vec<Span>) {
    let rest = text.get(end..).unwrap_or_default();
    let n = rest
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        .count();
    let upper = text
        .get(start..end)
        .is_some_and(|p| p.iter().all(u8::is_ascii_uppercase));
    if upper && n >= 12 && bounded(text, start) {
        push(spans, start, end + n, Rule::Aws);
    }
}

pub(super) fn jwt(text: &[u8], start: usize, spans: &mut Vec<Span>) {
    let rest = text.get(start..).unwrap_or_default();
    if !rest.starts_with(b"eyJ") || !bounded(text, start) {
        return;
    }
    let n = rest
        .iter()
        .take_while(|b| part_of_token(**b) || matches!(b, b'.' | b'+' | b'/' | b'='))
        .count();
    let body = rest.get(..n).unwrap_or_default();
    let parts: Vec<usize> = body.split(|b| *b == b'.').map(<[u8]>::len).collect();
    let cut = rest.get(n..).is_some_and(|r| r.starts_with("…".as_bytes())) && n >= 8;
    let token = parts.len() >= 2 && parts.iter().take(2).all(|n| *n >= 8);
    if token || cut || body.starts_with(b"eyJhdXRocyI") {
        push(spans, start, start + n, Rule::Jwt);
    }
}

pub(super) fn scheme(text: &[u8], start: usize, end: usize, spans: &mut Vec<Span>) {
    if !bounded(text, start) {
        return;
    }
    let mut r = Reader { text, at: end };
    if r.skip(|b| matches!(b, b' ' | b'\t' | b'+' | b':')) == 0 {
        return;
    }
    let from = r.at;
    let n = r.skip(|b| part_of_token(b) || matches!(b, b'.' | b'~' | b'+' | b'/' | b'='));
    let body = text.get(from..from + n).unwrap_or_default();
    if body.starts_with(MARK.as_bytes()) {
        return;
    }
    let basic = text
        .get(start..end)
        .is_some_and(|w| w.eq_ignore_ascii_case(b"basic"));
    // "basic settings", "bearer tokens" are prose.
    let word = body
        .iter()
        .all(|b| b.is_ascii_lowercase() || *b == b'.' || *b == b',');
    let user =
        || crate::report::redact::views::base64(body).is_some_and(|plain| plain.contains(&b':'));
    if n >= 6 && if basic { user() } else { !word } {
        push(spans, from, from + n, Rule::Bearer);
    }
}

/// `user:password@` behind `://`, at `start`.
pub(super) fn url(text: &[u8], start: usize, spans: &mut Vec<Span>) {
    let rest = text.get(start..).unwrap_or_default();
    let n = rest
        .iter()
        .take(1024)
        .take_while(|b| {
            !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\')
        })
        .count();
    let body = rest.get(..n).unwrap_or_default();
    let path = body
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(body.len());
    let authority = body.get(..path).unwrap_or_default();
    let query = body
        .iter()
        .position(|b| matches!(b, b'?' | b'#'))
        .unwrap_or(body.len());
    let password = memchr::memchr(b'@', authority)
        .is_some_and(|at| memchr::memchr(b':', authority).is_some_and(|colon| colon < at));
    let authority_end = if password { query } else { path };
    let at = memchr::memrchr(b'@', body.get(..authority_end).unwrap_or_default()).or_else(|| {
        // A password with a slash in it, as no standard allows; digits behind the colon are a port.
        let colon = memchr::memchr(b':', authority)?;
        let port = authority
            .get(colon + 1..)
            .unwrap_or_default()
            .iter()
            .all(u8::is_ascii_digit);
        (!port).then(|| memchr::memrchr(b'@', body)).flatten()
    });
    let cut = body.ends_with("…".as_bytes())
        && memchr::memchr(b':', authority).is_some_and(|c| {
            authority
                .get(c + 1)
                .is_some_and(|b| !b.is_ascii_digit() && *b < 0x80)
        });
    let end = match at {
        Some(at) => at,
        None if cut => n,
        None => return,
    };
    let user = body.get(..end).unwrap_or_default();
    if !user.is_empty() && user != MARK.as_bytes() {
        push(spans, start, start + end, Rule::Url);
    }
}

const BEGIN: &[u8] = b"-----BEGIN";
const END: &[u8] = b"-----END";

fn is_private(text: &[u8], start: usize) -> bool {
    text.get(start..)
        .and_then(|rest| rest.get(..rest.len().min(64)))
        .is_some_and(|head| memchr::memmem::find(head, b"PRIVATE KEY").is_some())
}

/// From the key's first line to its last, or to the end of what is there.
pub(super) fn private_key(text: &[u8], start: usize, spans: &mut Vec<Span>) {
    let rest = text.get(start..).unwrap_or_default();
    if !rest.starts_with(BEGIN) || !is_private(text, start) {
        return;
    }
    let end = match memchr::memmem::find(rest, END) {
        Some(n) => {
            let tail = rest.get(n + END.len()..).unwrap_or_default();
            let dashes =
                memchr::memmem::find(tail.get(..tail.len().min(64)).unwrap_or_default(), b"-----");
            n + END.len() + dashes.map_or(0, |d| d + 5)
        }
        None => {
            let ends = memchr::memchr_iter(b'\n', rest).nth(KEY_LINES as usize);
            ends.unwrap_or(rest.strip_suffix(b"\n").map_or(rest.len(), <[u8]>::len))
        }
    };
    // A span a line: what is put in its place leaves the lines where they are.
    let mut at = start;
    for line in rest
        .get(..end)
        .unwrap_or_default()
        .split_inclusive(|b| *b == b'\n')
    {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        push(spans, at, at + body.len(), Rule::PrivateKey);
        at += line.len();
    }
}

/// How much of `text` belongs to a private key that may go on for `open` lines, and how many lines it still may have.
pub fn rest_of_key(text: &[u8], open: u32) -> (usize, u32) {
    if open == 0 {
        return (0, 0);
    }
    let (mut at, mut left) = (0, open);
    for line in text.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        left -= 1;
        if left == 0 || memchr::memmem::find(line, END).is_some() {
            return (at, 0);
        }
    }
    (at, left)
}

/// Whether a private key begins here that doesn't end here.
pub fn key_stays_open(text: &[u8]) -> bool {
    memchr::memmem::rfind(text, BEGIN).is_some_and(|at| {
        is_private(text, at)
            && text
                .get(at..)
                .is_some_and(|rest| memchr::memmem::find(rest, END).is_none())
    })
}
