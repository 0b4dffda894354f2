//! Lines that name a secret, found at the speed of a search for a few words: who only wants to know values need not
//! look at every line for all that could be one.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;

use super::names::{is_word, smells};
use super::{SEARCHER, Sign, name_around, sign};
use crate::parse::quiet::{STEMS, may_be_word};

/// Bytes around a stem in which its word stands: `passphrase`, `apikeys`.
const AROUND: (usize, usize) = (8, 16);
/// Lines after a name on which its value may stand.
const LINES: usize = 3;
/// Most of them that is read.
const BYTES: usize = 4 << 10;
/// A name with no more than this behind it has its value on the next lines: `",`, `: >-`.
const BARE: usize = 6;

static SEARCH: LazyLock<Option<Searcher>> =
    LazyLock::new(|| Searcher::new(STEMS.iter().flat_map(|(spelt, _)| spelt)));

/// A line that names a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::report::redact) struct Named {
    /// Where it begins, and where the next one does.
    pub(in crate::report::redact) line: (usize, usize),
    /// The value may stand on the lines that follow.
    open: bool,
}

impl Named {
    /// The line, with those that its value may stand on.
    pub(in crate::report::redact) fn with_value(self, text: &[u8]) -> (usize, usize) {
        let (start, end) = self.line;
        if !self.open {
            return (start, end);
        }
        let rest = text.get(end..).unwrap_or_default();
        (start, end + first_lines(rest).len())
    }
}

/// The first line at `from` or behind it that names a secret; `from` is where a line begins.
pub(in crate::report::redact) fn next_named(text: &[u8], from: usize) -> Option<Named> {
    let mut at = from;
    while let Some(stem) = next_stem(text, at) {
        let Some(to) = name_at(text, stem) else {
            at = stem + 1;
            continue;
        };
        let start = memchr::memrchr(b'\n', text.get(..stem)?).map_or(0, |n| n + 1);
        let end = memchr::memchr(b'\n', text.get(to..)?).map_or(text.len(), |n| to + n + 1);
        let behind = text.get(to..end)?.trim_ascii();
        return Some(Named {
            line: (start.max(from), end),
            open: behind.len() <= BARE,
        });
    }
    None
}

fn next_stem(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    match SEARCH.as_ref() {
        Some(search) => search
            .find_iter(rest)
            .find(|m| {
                let on = STEMS.get(m.pattern().as_usize() / 3);
                may_be_word(rest, m.end(), on.map_or(&b""[..], |(_, on)| on))
            })
            .map(|m| from + m.start()),
        // A processor that the fast one does not know.
        None => SEARCHER
            .as_ref()?
            .find_overlapping_iter(rest)
            .find(|m| sign(m.pattern().as_usize()) == Some(Sign::Word))
            .map(|m| from + m.start()),
    }
}

/// The end of the secret's name that a stem belongs to.
fn name_at(text: &[u8], stem: usize) -> Option<usize> {
    let first = stem.saturating_sub(AROUND.0);
    let around = text.get(first..text.len().min(stem + AROUND.1))?;
    let mut words = SEARCHER
        .as_ref()?
        .find_overlapping_iter(around)
        .filter(|m| sign(m.pattern().as_usize()) == Some(Sign::Word))
        .map(|m| (first + m.start(), first + m.end()))
        // A word of the line before is that line's: whoever is past it would come back to it for ever.
        .filter(|(start, end)| *end > stem && is_word(text, *start, *end));
    let (start, end) = words.next()?;
    let (from, to) = name_around(text, start, end)?;
    smells(text.get(from..to)?).then_some(to)
}

/// The lines at the beginning on which the value of a name before them may stand.
pub(in crate::report::redact) fn first_lines(text: &[u8]) -> &[u8] {
    let end = memchr::memchr_iter(b'\n', text).nth(LINES - 1);
    let lines = text.get(..end.map_or(text.len(), |n| n + 1));
    let lines = lines.unwrap_or(text);
    match lines.get(..BYTES) {
        // Half a value would be remembered as one.
        Some(most) => {
            let whole = memchr::memrchr(b'\n', most).map_or(0, |n| n + 1);
            lines.get(..whole).unwrap_or_default()
        }
        None => lines,
    }
}

/// The lines at the end whose value may be on its way: from the one that names it.
pub(in crate::report::redact) fn open_end(text: &[u8]) -> Option<&[u8]> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let start = memchr::memrchr_iter(b'\n', body).nth(LINES - 1);
    let mut from = start.map_or(0, |n| n + 1);
    // What is longer than that is no name on a line of its own.
    from = from.max(text.len().saturating_sub(BYTES));
    while let Some(named) = next_named(text, from) {
        if named.open {
            return text.get(named.line.0..);
        }
        from = named.line.1;
    }
    None
}
