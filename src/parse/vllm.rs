//! vLLM, torch, Ray and launcher lines: everything a start-up says apart from NCCL.
//!
//! [`line`] takes one physical line, or one piece of it between carriage returns, from which outer prefixes
//! and colours were removed. Most lines leave at a literal search without an allocation.
//!
//! Lines are recognised by their words, not by the file and line number in their header: those move in every
//! release, the words seldom. Where the words alone are not enough, the file decides (attention back ends).
//!
//! # Who prints what
//!
//! From v0.11.1 on many lines come from the first rank of a node only; a rank without such a line is not
//! behind. [`VllmFact::printer`] says who prints a line, as far as the version decides it; only
//! [`Printer::EveryRank`] allows a conclusion from absence.
//!
//! # Adding a line
//!
//! Put its rarest literal into the table of the room it belongs to, with the function that reads what stands
//! around it; add a row to the test table with a composed example.

mod command;
mod fact;
mod fault;
mod header;
mod layout;
mod memo;
mod places;
mod progress;
mod route;
mod scan;
mod settings;
mod start;
mod torch;

use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, Input, MatchKind};

pub use command::{Command, Ray, Torchrun, is_known};
pub use fact::{Edge, Phase, Printer, Stats, VllmFact, release};
pub use fault::{Fault, FaultKind};
pub use header::{Header, Severity, Stamp, Style, header, header_stamp};
pub use layout::{Label, Leader, ProcKind, RankStart, Ranks, host_of};
pub(in crate::parse) use memo::{Memo, Shape};
pub use progress::{Counted, Progress};
pub use route::Route;
pub use settings::Settings;
pub use torch::{Notice, PgTag, Position, Torch, Work};

use super::Outer;

/// Longest part of a line that is looked at, in bytes.
const LOOK: usize = 64 * 1024;
/// Anchors tried on one line before it is given up.
const TRIES: usize = 24;

/// A line with the place where an anchor was found in it.
pub(in crate::parse) struct Hit<'a> {
    /// The message, header removed.
    msg: &'a [u8],
    /// Where the anchor starts in it.
    at: usize,
    /// What follows the anchor.
    after: &'a [u8],
    /// The header, if it has one.
    head: Front<'a>,
    /// Outer prefixes.
    outer: &'a Outer,
    /// What the last bar of such a line counts, and its words, if one is remembered.
    bar: Option<&'a (Counted, Arc<str>)>,
}

/// A header, read or not.
#[derive(Debug, Clone, Copy)]
enum Front<'a> {
    Read(Option<&'a Header<'a>>),
    /// That of this line; an empty one has none. Few ask for it.
    Of(&'a [u8]),
}

impl<'a> Hit<'a> {
    fn head(&self) -> Option<Header<'a>> {
        match self.head {
            Front::Read(head) => head.copied(),
            Front::Of(line) => header(line),
        }
    }

    fn cur(&self) -> scan::Cur<'a> {
        scan::Cur::new(self.after)
    }

    fn before(&self) -> &'a [u8] {
        self.msg.get(..self.at).unwrap_or_default()
    }
}

/// Reads what stands around an anchor, or says that the line is something else.
pub(in crate::parse) type Read = fn(&Hit<'_>) -> Option<VllmFact>;

/// All anchors in one automaton. The longest of several that start at one place wins.
struct Anchors {
    any: Option<AhoCorasick>,
    table: Vec<(&'static str, Read)>,
}

impl Anchors {
    fn new() -> Self {
        let mut table = Self::table();
        table.sort_by_key(|(a, _)| *a);
        Self {
            any: searcher(table.iter().map(|(a, _)| *a)),
            table,
        }
    }

    /// Those of all rooms.
    fn table() -> Vec<(&'static str, Read)> {
        [
            start::ANCHORS,
            route::ANCHORS,
            torch::ANCHORS,
            fault::ANCHORS,
        ]
        .concat()
    }

    fn reader(&self, anchor: &[u8]) -> Option<Read> {
        let ix = self
            .table
            .binary_search_by(|(a, _)| a.as_bytes().cmp(anchor))
            .ok()?;
        self.table.get(ix).map(|(_, read)| *read)
    }
}

/// An automaton that finds the first of some words, the longest of those that start there. It is ready a
/// hundred times sooner than a regular expression of as many words, which every start would wait for.
fn searcher(words: impl Iterator<Item = impl AsRef<[u8]>>) -> Option<AhoCorasick> {
    let longest = MatchKind::LeftmostLongest;
    let mut builder = AhoCorasick::builder();
    builder.match_kind(longest).build(words).ok()
}

static ANCHORS: LazyLock<Anchors> = LazyLock::new(Anchors::new);

/// What a line says; `None` when it says nothing that is followed here.
#[must_use]
pub fn line(msg: &[u8], outer: &Outer) -> Option<VllmFact> {
    let msg = msg.get(..LOOK).unwrap_or(msg).trim_ascii_end();
    if msg.len() < 8 {
        return None;
    }
    let head = header(msg);
    let body = head.map_or(msg, |h| h.msg);
    if is_noise(body, head.as_ref()) {
        return None;
    }
    said(body, head.as_ref(), outer).or_else(|| {
        let front = head?.front;
        (!front.is_empty()).then(|| said(front, None, outer))?
    })
}

/// What a message says.
fn said(body: &[u8], head: Option<&Header<'_>>, outer: &Outer) -> Option<VllmFact> {
    let anchors = &*ANCHORS;
    let mut from = 0;
    for _ in 0..TRIES {
        let rest = Input::new(body).range(from.min(body.len())..);
        let Some(m) = anchors.any.as_ref()?.find(rest) else {
            break;
        };
        let hit = Hit {
            msg: body,
            at: m.start(),
            after: body.get(m.end()..).unwrap_or_default(),
            head: Front::Read(head),
            outer,
            bar: None,
        };
        let fact = body
            .get(m.range())
            .and_then(|anchor| anchors.reader(anchor))
            .and_then(|read| read(&hit));
        if fact.is_some() {
            return fact;
        }
        from = m.start() + 1;
    }
    fault::exception_line(body, head, outer)
}

/// Lines that come by the thousand and hold text of users: requests and access logs.
fn is_noise(body: &[u8], head: Option<&Header<'_>>) -> bool {
    match body.first() {
        Some(b'R') => body.starts_with(b"Received request"),
        Some(b'A') => body.starts_with(b"Added request"),
        Some(b'F') => body.starts_with(b"Finished request"),
        // `10.42.0.1:51230 - "GET /health HTTP/1.1" 200 OK`
        Some(b'0'..=b'9' | b'[' | b':' | b'a'..=b'f') => {
            head.is_some_and(|h| h.style == Style::Uvicorn) && scan::has(body, " - \"")
        }
        _ => false,
    }
}
