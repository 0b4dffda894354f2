//! Which lines are one record: a logged traceback, a dump or the banner comes as many lines, and other processes'
//! lines stand between them (`reference/vllm.md` 1.4).
//!
//! vLLM writes a copy of the header in front of every line of a record: lines of one process with one header are one
//! record. What Python prints by itself has no header: a traceback goes on until its exception, and on to the next
//! one where it says so.

use memchr::memmem;

use super::query::stamp;
use crate::parse::vllm::{Style, header};

/// Processes of one source whose last record is remembered.
const OPEN: usize = 64;
/// Longest process prefix.
const PREFIX: usize = 192;

/// What the last record of a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Lines behind a header; the header by its bytes.
    Header(u64),
    /// A traceback whose exception has not come yet.
    Traceback,
    /// One whose exception has.
    Raised,
    /// A line of its own.
    Line,
}

/// The last record of a process.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// The process, by the bytes of its prefixes.
    who: u64,
    kind: Kind,
    /// Number of its first line.
    first: u64,
}

/// The records of one source.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    /// Whoever spoke last stands last.
    open: Vec<Open>,
}

impl Records {
    /// The first line of the record that a line belongs to; its own number where it begins one.
    pub(super) fn of(&mut self, number: u64, text: &str) -> u64 {
        let text = match stamp(text) {
            Some(_) => text.split_once(' ').map_or("", |(_, rest)| rest),
            None => text,
        };
        let (prefix, rest) = prefixes(text);
        // NCCL's lines pass everybody's by.
        if memmem::find(rest.as_bytes(), b" NCCL ").is_some() {
            return number;
        }
        let who = hash(prefix);
        let at = self.open.iter().rposition(|o| o.who == who);
        let last = at.map(|i| self.open.remove(i));
        let (kind, part) = kind(last.map(|o| o.kind), rest);
        let first = last.filter(|_| part).map_or(number, |o| o.first);
        if self.open.len() >= OPEN {
            self.open.remove(0);
        }
        self.open.push(Open { who, kind, first });
        first
    }
}

/// What a line is after the last one of its process, and whether it belongs to it.
fn kind(last: Option<Kind>, rest: &str) -> (Kind, bool) {
    if let Some(head) = header(rest.as_bytes()).filter(|h| h.front.is_empty()) {
        let id = hash(
            rest.get(..rest.len().saturating_sub(head.msg.len()))
                .unwrap_or(rest),
        );
        // uvicorn's headers carry nothing that would tell one from another.
        let same = head.style != Style::Uvicorn && last == Some(Kind::Header(id));
        return (Kind::Header(id), same);
    }
    let begins = rest.starts_with("Traceback (most recent call last)");
    let child = rest.starts_with("Process ") && rest.ends_with(':');
    match last {
        Some(Kind::Traceback) if rest.is_empty() || rest.starts_with([' ', '\t']) || begins => {
            (Kind::Traceback, true)
        }
        // Its exception; where the next one is announced, it goes on.
        Some(Kind::Traceback) => (Kind::Raised, true),
        Some(Kind::Raised) if goes_on(rest) => (Kind::Traceback, true),
        _ if begins || child => (Kind::Traceback, false),
        Some(Kind::Raised) if rest.is_empty() || hangs_on(rest) => (Kind::Raised, true),
        Some(known) if !rest.trim().is_empty() && hangs_on(rest) => (known, true),
        _ => (Kind::Line, false),
    }
}

/// One exception led to the next.
fn goes_on(rest: &str) -> bool {
    const WORDS: [&str; 2] = [
        "During handling of the above exception",
        "The above exception was the direct cause",
    ];
    WORDS.iter().any(|w| rest.starts_with(w))
}

/// What can't stand alone: text that is indented, the frames of a C++ error, the advice that torch adds.
fn hangs_on(rest: &str) -> bool {
    const WORDS: [&str; 6] = [
        "frame #",
        "Exception raised from ",
        "CUDA kernel errors might ",
        "For debugging consider passing ",
        "Compile with `TORCH_USE_CUDA_DSA`",
        "Search for `cuda",
    ];
    rest.starts_with([' ', '\t']) || WORDS.iter().any(|w| rest.starts_with(w))
}

/// The process prefixes in front of a line, and what follows them.
fn prefixes(text: &str) -> (&str, &str) {
    let mut rest = text;
    loop {
        let near = rest.get(..PREFIX).unwrap_or(rest);
        let end = match near.bytes().next() {
            Some(b'(') => near
                .find(") ")
                .filter(|end| near.get(..*end).is_some_and(|label| label.contains("pid="))),
            // torch's rank in front of what Python prints.
            Some(b'[') if near.starts_with("[rank") => near.find("]: ").map(|end| end + 1),
            _ => None,
        };
        // A line that is nothing but its prefix ends with it.
        let after = end.and_then(|end| rest.get(end + 2..)).or_else(|| {
            let bare = near.starts_with('(') && near.ends_with(')') && near.contains("pid=");
            bare.then_some("")
        });
        let Some(after) = after else {
            let front = text.len() - rest.len();
            return text.split_at_checked(front).unwrap_or(("", text));
        };
        rest = after;
        if rest.is_empty() {
            return (text.trim_end(), rest);
        }
    }
}

/// FNV-1a: the same everywhere and for ever.
fn hash(text: &str) -> u64 {
    text.trim_end().bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}
