//! Secrets in plain text: names with their values, and shapes.

mod heard;
mod names;
mod shapes;

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::{MARK, Rule, Span};
pub(super) use heard::{first_lines, next_named, open_end};
use names::is_word;
pub(super) use names::{harmless, is_variable, smells, strong};
use shapes::{aws, jwt, private_key, scheme, token, url};
pub(super) use shapes::{key_stays_open, rest_of_key};

/// Judges a value by its own looks, where its name says nothing.
type Pure<'a> = dyn Fn((usize, usize), &mut Vec<Span>) + 'a;

/// Longest name that is read.
const NAME: usize = 96;

/// What a literal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A word that makes a name a secret's.
    Word,
    /// A token that begins so, and needs as many letters and digits after it.
    Token(usize),
    /// An AWS key id.
    Aws,
    /// A JSON web token or what else is base64 of `{"`.
    Jwt,
    /// `Bearer`, `Basic`.
    Scheme,
    /// `://`.
    Url,
    /// `-----BEGIN`.
    Key,
}

/// Every literal, lower case where case doesn't matter; those of shapes are compared again with case.
const SIGNS: &[(&str, Sign)] = &[
    ("key", Sign::Word),
    ("token", Sign::Word),
    ("secret", Sign::Word),
    ("pass", Sign::Word),
    ("password", Sign::Word),
    ("passwords", Sign::Word),
    ("passwd", Sign::Word),
    ("passphrase", Sign::Word),
    ("passcode", Sign::Word),
    ("auth", Sign::Word),
    ("authorization", Sign::Word),
    ("authtoken", Sign::Word),
    ("apikey", Sign::Word),
    ("apikeys", Sign::Word),
    ("api_keys", Sign::Word),
    ("api-keys", Sign::Word),
    ("accesskey", Sign::Word),
    ("accesstoken", Sign::Word),
    ("secretkey", Sign::Word),
    ("secrets", Sign::Word),
    ("privatekey", Sign::Word),
    ("credential", Sign::Word),
    ("credentials", Sign::Word),
    ("cookie", Sign::Word),
    ("hf_", Sign::Token(8)),
    ("api_org_", Sign::Token(8)),
    ("sk-", Sign::Token(12)),
    ("rk_live_", Sign::Token(8)),
    ("sk_live_", Sign::Token(8)),
    ("ghp_", Sign::Token(12)),
    ("gho_", Sign::Token(12)),
    ("ghs_", Sign::Token(12)),
    ("ghu_", Sign::Token(12)),
    ("ghr_", Sign::Token(12)),
    ("github_pat_", Sign::Token(12)),
    ("glpat-", Sign::Token(12)),
    ("xoxb-", Sign::Token(8)),
    ("xoxp-", Sign::Token(8)),
    ("xoxa-", Sign::Token(8)),
    ("nvapi-", Sign::Token(12)),
    ("aiza", Sign::Token(24)),
    ("ya29.", Sign::Token(12)),
    ("akia", Sign::Aws),
    ("asia", Sign::Aws),
    ("aroa", Sign::Aws),
    ("aida", Sign::Aws),
    ("eyj", Sign::Jwt),
    ("bearer", Sign::Scheme),
    ("basic", Sign::Scheme),
    ("://", Sign::Url),
    ("-----begin", Sign::Key),
];

static SEARCHER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(SIGNS.iter().map(|(text, _)| text))
        .ok()
});

fn part_of_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

fn part_of_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

fn sign(pattern: usize) -> Option<Sign> {
    SIGNS.get(pattern).map(|(_, sign)| *sign)
}

/// Everything in plain text.
pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let Some(searcher) = SEARCHER.as_ref() else {
        return;
    };
    // A name with two such words is read once.
    let mut read_to = 0;
    for m in searcher.find_overlapping_iter(text) {
        let (start, end) = (m.start(), m.end());
        match sign(m.pattern().as_usize()) {
            Some(Sign::Word) => {
                if is_word(text, start, end)
                    && let Some(name) = name_around(text, start, end)
                    && (name.1 > read_to)
                {
                    read_to = name.1;
                    named(text, name, spans);
                }
            }
            Some(Sign::Token(least)) => token(text, start, end, least, spans),
            Some(Sign::Aws) => aws(text, start, end, spans),
            Some(Sign::Jwt) => jwt(text, start, spans),
            Some(Sign::Scheme) => scheme(text, start, end, spans),
            Some(Sign::Url) => url(text, end, spans),
            Some(Sign::Key) => private_key(text, start, spans),
            None => {}
        }
    }
}

/// The name that a word belongs to.
fn name_around(text: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let left = text
        .get(start.saturating_sub(NAME)..start)?
        .iter()
        .rev()
        .take_while(|b| part_of_name(**b))
        .count();
    let right = text
        .get(end..)?
        .iter()
        .take(NAME)
        .take_while(|b| part_of_name(**b))
        .count();
    let (mut from, mut to) = (start - left, end + right);
    // A full stop behind a name ends a sentence.
    while to > end && text.get(to - 1) == Some(&b'.') {
        to -= 1;
    }
    // A list in YAML: `- name`; dashes in front belong to a flag only where a letter follows.
    while from < start && text.get(from) == Some(&b'.') {
        from += 1;
    }
    Some((from, to))
}

/// Text as a cursor reads it.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let n = self.rest().iter().take_while(|b| wanted(**b)).count();
        self.at += n;
        n
    }

    /// A quotation mark, however it is escaped; gives its bytes.
    fn quote(&mut self) -> Option<(usize, u8)> {
        let slashes = self
            .rest()
            .iter()
            .take(8)
            .take_while(|b| **b == b'\\')
            .count();
        let mark = *self.text.get(self.at + slashes)?;
        if !matches!(mark, b'"' | b'\'' | b'`') {
            return None;
        }
        self.at += slashes + 1;
        Some((slashes, mark))
    }
}

/// The value behind a name, if that is what stands there.
fn named(text: &[u8], (from, to): (usize, usize), spans: &mut Vec<Span>) {
    let Some(name) = text.get(from..to) else {
        return;
    };
    if !smells(name) {
        return;
    }
    let before = text.get(..from).unwrap_or_default();
    let line = memchr::memrchr(b'\n', before).map_or(0, |n| n + 1);
    let lead = text.get(line..from).unwrap_or_default();
    let mut r = Reader { text, at: to };
    let quoted = r.quote();
    let bracket = r.peek() == Some(b']');
    r.at += usize::from(bracket);
    let blanks = r.skip(|b| matches!(b, b' ' | b'\t'));
    let pure = |value: (usize, usize), spans: &mut Vec<Span>| {
        let (start, end) = value;
        let Some(bytes) = text.get(start..end) else {
            return;
        };
        if start < end && !harmless(name, bytes) {
            spans.push(Span {
                start,
                end,
                rule: Rule::Name,
                name: String::from_utf8_lossy(name).into_owned(),
            });
        }
    };
    match r.peek() {
        Some(b'=') => {
            r.skip(|b| matches!(b, b'=' | b'>' | b'~'));
            r.skip(|b| matches!(b, b' ' | b'\t'));
            // `env` prints one variable a line: the value is what is left of it.
            let whole = blanks == 0 && quoted.is_none() && is_variable(name) && leads_nothing(lead);
            value(&mut r, Until::of(whole), name, &pure, spans);
        }
        Some(b':') if r.text.get(r.at + 1) != Some(&b':') => {
            r.at += 1;
            if r.peek() == Some(b'=') {
                r.at += 1;
            }
            let tight = r.skip(|b| matches!(b, b' ' | b'\t')) == 0;
            let whole = quoted.is_none() && leads_nothing(lead);
            if whole && !tight && block_scalar(r.rest()) {
                block(text, &mut r, lead, &pure, spans);
                return;
            }
            value(&mut r, Until::of(whole), name, &pure, spans);
        }
        // The next in a list of name and value; or the value of the `name` that this was.
        _ if quoted.is_some() || name.starts_with(b"-") || leads_name(lead) => {
            let here = r.at;
            r.skip(|b| matches!(b, b',' | b' ' | b'\t' | b'\n' | b'\r'));
            if r.at == here && blanks == 0 {
                return;
            }
            if r.peek() == Some(b'-') && matches!(r.text.get(r.at + 1), Some(b' ')) {
                r.at += 1;
                r.skip(|b| b == b' ');
            }
            let mark = r.at;
            let opened = r.quote();
            if r.rest().starts_with(b"value") {
                r.at += 5;
                r.quote();
                r.skip(|b| b == b' ');
                if r.peek() == Some(b':') {
                    r.at += 1;
                    r.skip(|b| b == b' ');
                    let whole = opened.is_none();
                    value(&mut r, Until::of(whole), name, &pure, spans);
                }
                return;
            }
            let flag = name.starts_with(b"-");
            let pair = quoted.is_some() && opened.is_some() && is_variable(name);
            r.at = mark;
            if flag && r.peek() != Some(b'-') || pair {
                value(&mut r, Until::Word, name, &pure, spans);
            }
        }
        _ => {}
    }
}

/// How far an unquoted value reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Word,
    Line,
}

impl Until {
    /// Where the whole line is the value's.
    fn of(whole: bool) -> Self {
        if whole { Self::Line } else { Self::Word }
    }
}

fn value(r: &mut Reader<'_>, until: Until, name: &[u8], pure: &Pure<'_>, spans: &mut Vec<Span>) {
    // `b'…'`, `SecretStr('…')`.
    let call = r
        .rest()
        .iter()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
        .count();
    match (r.text.get(r.at + call), r.text.get(r.at + call + 1)) {
        (Some(b'\'' | b'"'), _) if call <= 2 => r.at += call,
        (Some(b'('), Some(b'\'' | b'"')) if call > 0 => r.at += call + 1,
        _ => {}
    }
    if let Some((slashes, mark)) = r.quote() {
        let start = r.at;
        let end = closing(r.text, start, slashes, mark);
        pure((start, end), spans);
        return;
    }
    if r.rest().starts_with(MARK.as_bytes()) {
        return;
    }
    if r.peek() == Some(b'[') {
        let opened = r.at;
        r.at += 1;
        loop {
            r.skip(|b| matches!(b, b' ' | b',' | b'\n' | b'\t'));
            let Some((slashes, mark)) = r.quote() else {
                break;
            };
            let start = r.at;
            let end = closing(r.text, start, slashes, mark);
            pure((start, end), spans);
            r.at = end + slashes + 1;
        }
        if r.text.get(r.at) == Some(&b']') || r.at >= r.text.len() {
            return;
        }
        // A list without quotation marks, as YAML has it: all of it.
        let rest = r.rest();
        let line = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..line).unwrap_or_default();
        let end = memchr::memchr(b']', line).unwrap_or(line.len());
        pure((opened + 1, r.at + end), spans);
        return;
    }
    let start = r.at;
    let rest = r.rest();
    let line = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    let rest = rest.get(..line).unwrap_or_default();
    let word = rest
        .iter()
        .position(|b| matches!(b, b' ' | b'\t' | b'"' | b'\'' | b'&' | b'<' | b'>' | b'`'))
        .unwrap_or(rest.len());
    // `Authorization: Digest username=…`: what follows the scheme is the secret.
    let header = [&b"auth"[..], b"cookie"]
        .iter()
        .any(|w| name.windows(w.len()).any(|n| n.eq_ignore_ascii_case(w)));
    let length = match until {
        Until::Line => rest.len(),
        Until::Word if header && word < rest.len() && rest.get(..word).is_some_and(is_scheme) => {
            rest.iter()
                .position(|b| matches!(b, b'"' | b'\'' | b'`'))
                .unwrap_or(rest.len())
        }
        Until::Word => word,
    };
    let bytes = rest.get(..length).unwrap_or_default();
    let mut end = start + bytes.trim_ascii_end().len();
    if until == Until::Word {
        while end > start && matches!(r.text.get(end - 1), Some(b',' | b';' | b')' | b']' | b'}')) {
            end -= 1;
        }
    }
    pure((start, end), spans);
}

fn is_scheme(word: &[u8]) -> bool {
    word.len() <= 12 && word.len() >= 3 && word.iter().all(u8::is_ascii_alphabetic)
}

/// Where the quotation ends; where it never does, at the end of the line.
fn closing(text: &[u8], start: usize, slashes: usize, mark: u8) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let mut at = 0;
    while let Some(n) = rest.get(at..).and_then(|r| memchr::memchr2(mark, b'\n', r)) {
        let here = at + n;
        if rest.get(here) == Some(&b'\n') {
            return start + here;
        }
        let before = rest
            .get(..here)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|b| **b == b'\\')
            .count();
        // As many backslashes as opened it; more of them are a quotation mark inside.
        if before == slashes || slashes == 0 && before % 2 == 0 {
            return start + here - slashes;
        }
        at = here + 1;
    }
    text.len()
}

/// Nothing but what may stand in front of a key or a variable on a line of its own.
fn leads_nothing(lead: &[u8]) -> bool {
    let lead = lead.trim_ascii();
    matches!(
        lead,
        b"" | b"-" | b"export" | b"declare -x" | b"set" | b">" | b"<" | b"*" | b"+" | b"|" | b"ENV"
    )
}

/// `name: ` or `"name":"` stands in front.
fn leads_name(lead: &[u8]) -> bool {
    lead.trim_ascii_end().ends_with(b"name:")
}

/// `|`, `>-` and the like: the value stands on the lines that follow.
fn block_scalar(rest: &[u8]) -> bool {
    let line = rest
        .split(|b| *b == b'\n')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    matches!(line, b"|" | b">" | b"|-" | b">-" | b"|+" | b">+")
}

/// The lines of a block scalar: those indented more than their key.
fn block(text: &[u8], r: &mut Reader<'_>, lead: &[u8], pure: &Pure<'_>, spans: &mut Vec<Span>) {
    let depth = lead.len();
    r.skip(|b| b != b'\n');
    while r.peek() == Some(b'\n') {
        r.at += 1;
        let indent = r.skip(|b| b == b' ');
        let start = r.at;
        r.skip(|b| b != b'\n');
        let blank = text
            .get(start..r.at)
            .unwrap_or_default()
            .trim_ascii()
            .is_empty();
        if indent <= depth && !blank {
            return;
        }
        pure((start, r.at), spans);
    }
}
