//! What is written in another way: text behind escapes, and values behind encodings.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;

use super::find;
use super::{MARK, Rule, Span};

/// Encodings inside encodings that are followed.
const DEPTH: u8 = 3;
/// Shortest run that is decoded as base64 or hexadecimal.
const RUN: usize = 16;
/// Shortest stretch of readable text that is looked at in what was decoded.
const STRETCH: usize = 6;
/// Least letters of a value that a screen cut off.
const CUT: usize = 4;

/// What is looked for besides names and shapes.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) searcher: Option<&'k AhoCorasick>,
    pub(super) values: &'k BTreeSet<Vec<u8>>,
}

/// Every secret in `text`, whichever way it is written.
pub(super) fn look(text: &[u8], known: Known<'_>, spans: &mut Vec<Span>) {
    look_at(text, known, DEPTH, spans);
}

fn look_at(text: &[u8], known: Known<'_>, depth: u8, spans: &mut Vec<Span>) {
    find::find(text, spans);
    for m in known.searcher.iter().flat_map(|s| s.find_iter(text)) {
        spans.push(Span {
            start: m.start(),
            end: m.end(),
            rule: Rule::Known,
            name: String::new(),
        });
    }
    if !known.values.is_empty() {
        cut_off(text, known.values, spans);
    }
    if depth == 0 {
        return;
    }
    escaped(text, known, depth, spans);
    runs(text, known, depth, spans);
}

/// The beginning of a known value in front of an ellipsis.
fn cut_off(text: &[u8], values: &BTreeSet<Vec<u8>>, spans: &mut Vec<Span>) {
    for at in memchr::memmem::find_iter(text, "…".as_bytes()) {
        let before = text.get(..at).unwrap_or_default();
        let longest = values
            .iter()
            .filter_map(|v| {
                (CUT..v.len())
                    .rev()
                    .find(|n| v.get(..*n).is_some_and(|head| before.ends_with(head)))
            })
            .max();
        if let Some(n) = longest {
            spans.push(Span {
                start: at - n,
                end: at,
                rule: Rule::Known,
                name: String::new(),
            });
        }
    }
}

/// Lines with escapes, read without them.
fn escaped(text: &[u8], known: Known<'_>, depth: u8, spans: &mut Vec<Span>) {
    let mut done = 0;
    for at in memchr::memchr3_iter(b'%', b'\\', b'&', text) {
        if at < done || !begins_escape(text.get(at..).unwrap_or_default()) {
            continue;
        }
        let from = memchr::memrchr(b'\n', text.get(..at).unwrap_or_default()).map_or(0, |n| n + 1);
        let to = memchr::memchr(b'\n', text.get(at..).unwrap_or_default())
            .map_or(text.len(), |n| at + n);
        done = to;
        let (plain, places) = unescape(text.get(from..to).unwrap_or_default());
        let mut inside = Vec::new();
        look_at(&plain, known, depth - 1, &mut inside);
        let place = |i: usize| from + places.get(i).copied().unwrap_or(to - from);
        spans.extend(inside.into_iter().map(|span| Span {
            start: place(span.start),
            end: place(span.end),
            ..span
        }));
    }
}

fn hex(b: Option<&u8>) -> Option<u8> {
    char::from(*b?)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

fn begins_escape(s: &[u8]) -> bool {
    match s.first() {
        Some(b'%') => hex(s.get(1)).is_some() && hex(s.get(2)).is_some(),
        Some(b'\\') => s.get(1).is_some_and(|b| {
            matches!(
                b,
                b'u' | b'U' | b'x' | b'n' | b't' | b'r' | b'"' | b'\'' | b'/' | b'\\' | b'0'..=b'7'
            )
        }),
        Some(b'&') => s
            .get(1)
            .is_some_and(|b| matches!(b, b'#' | b'a' | b'q' | b'l' | b'g')),
        _ => false,
    }
}

/// Text with its percent, backslash and HTML escapes undone, and where each byte of it stood.
fn unescape(s: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut plain = Vec::with_capacity(s.len());
    let mut places = Vec::with_capacity(s.len() + 1);
    let mut at = 0;
    while let Some(&b) = s.get(at) {
        let rest = s.get(at..).unwrap_or_default();
        let (code, length) = match b {
            b'%' => percent(rest),
            b'\\' => backslash(rest),
            b'&' => entity(rest),
            _ => None,
        }
        .unwrap_or((u32::from(b), 1));
        if length == 1 || code < 0x100 && b == b'%' {
            plain.push(u8::try_from(code & 0xff).unwrap_or(b));
            places.push(at);
        } else {
            let mut buffer = [0; 4];
            let c = char::from_u32(code).unwrap_or('\u{fffd}');
            for byte in c.encode_utf8(&mut buffer).bytes() {
                plain.push(byte);
                places.push(at);
            }
        }
        at += length;
    }
    places.push(at);
    (plain, places)
}

fn percent(s: &[u8]) -> Option<(u32, usize)> {
    let byte = hex(s.get(1))? << 4 | hex(s.get(2))?;
    Some((u32::from(byte), 3))
}

fn number(digits: &[u8], base: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |n, b| {
        n.checked_mul(base)?
            .checked_add(char::from(*b).to_digit(base)?)
    })
}

fn backslash(s: &[u8]) -> Option<(u32, usize)> {
    let digits = |n: usize| number(s.get(2..2 + n)?, 16);
    Some(match s.get(1)? {
        b'u' => (digits(4)?, 6),
        b'U' => (digits(8)?, 10),
        b'x' => (digits(2)?, 4),
        b'n' => (u32::from(b'\n'), 2),
        b't' => (u32::from(b'\t'), 2),
        b'r' => (u32::from(b'\r'), 2),
        b @ (b'"' | b'\'' | b'/' | b'\\') => (u32::from(*b), 2),
        b'0'..=b'7' => (number(s.get(1..4)?, 8)?, 4),
        _ => return None,
    })
}

fn entity(s: &[u8]) -> Option<(u32, usize)> {
    let end = memchr::memchr(b';', s.get(..s.len().min(12))?)?;
    let code = match s.get(1..end)? {
        b"amp" => u32::from(b'&'),
        b"lt" => u32::from(b'<'),
        b"gt" => u32::from(b'>'),
        b"quot" => u32::from(b'"'),
        b"apos" => u32::from(b'\''),
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16)?,
        [b'#', digits @ ..] => number(digits, 10)?,
        _ => return None,
    };
    Some((code, end + 1))
}

/// Letter of an alphabet of base64, of either kind.
fn digit64(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// Runs of letters that may be base64 or hexadecimal: taken out whole where a secret is in them.
fn runs(text: &[u8], known: Known<'_>, depth: u8, spans: &mut Vec<Span>) {
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let n = rest.iter().take_while(|b| digit64(**b).is_some()).count();
        if n < RUN {
            at += n + 1;
            continue;
        }
        let run = rest.get(..n).unwrap_or_default();
        let pad = rest
            .iter()
            .skip(n)
            .take(2)
            .take_while(|b| **b == b'=')
            .count();
        if hides(run, known, depth) {
            spans.push(Span {
                start: at,
                end: at + n + pad,
                rule: Rule::Known,
                name: String::new(),
            });
        }
        at += n + 1;
    }
}

fn hides(run: &[u8], known: Known<'_>, depth: u8) -> bool {
    let secret = |plain: &[u8]| {
        stretches(plain).any(|readable| {
            let mut inside = Vec::new();
            look_at(readable, known, depth - 1, &mut inside);
            !inside.is_empty()
        })
    };
    let shifted = |by: usize| run.get(by..).unwrap_or_default();
    if (0..4).any(|by| secret(&decode64(shifted(by)))) {
        return true;
    }
    run.iter().all(u8::is_ascii_hexdigit)
        && (0..2).any(|by| {
            let bytes: Vec<u8> = shifted(by)
                .chunks_exact(2)
                .filter_map(|c| Some(hex(c.first())? << 4 | hex(c.get(1))?))
                .collect();
            secret(&bytes)
        })
}

/// Pieces that could be text.
fn stretches(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|b| !matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t'))
        .filter(|s| s.len() >= STRETCH)
}

/// Base64 without its padding, as far as it goes.
fn decode64(run: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(run.len() / 4 * 3 + 2);
    for chunk in run.chunks(4) {
        let word = chunk
            .iter()
            .filter_map(|b| digit64(*b))
            .fold(0_u32, |w, d| w << 6 | u32::from(d))
            << (6 * (4 - chunk.len()));
        let bytes = word.to_be_bytes();
        out.extend(bytes.iter().skip(1).take(chunk.len() - 1));
    }
    out
}

/// A whole text in base64, decoded.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|b| *b != b'=')? + 1;
    let run = text.get(..end)?;
    (run.len() >= 4 && run.len() % 4 != 1 && run.iter().all(|b| digit64(*b).is_some()))
        .then(|| decode64(run))
}

/// Text rather than noise.
pub(super) fn printable(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| matches!(b, b' '..=b'~'))
}

/// Whether a value is peculiar enough to be looked for everywhere: a password `admin` would blind every log.
pub(super) fn worth_knowing(value: &[u8]) -> bool {
    let class = |is: fn(&u8) -> bool| usize::from(value.iter().any(is));
    let classes = class(u8::is_ascii_lowercase)
        + class(u8::is_ascii_uppercase)
        + class(u8::is_ascii_digit)
        + class(|b| b.is_ascii_punctuation() || *b >= 0x80);
    let path = value.starts_with(b"/") || value.starts_with(b"./") || value.starts_with(b"http");
    let plain = value.iter().all(|b| *b >= b' ' && *b != 0x7f);
    !path
        && plain
        && value.len() <= 4_096
        && (value.len() >= 6 && classes >= 2 || value.len() >= 12)
        && memchr::memmem::find(value, MARK.as_bytes()).is_none()
}
