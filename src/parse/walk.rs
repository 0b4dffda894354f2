//! The walk over a block: lines, prefixes, heads, facts.
//!
//! An ordinary line costs one search for its end, a comparison of its stamp, its prefix and its head, and its
//! message; nothing is allocated. Lines that are not what they seem (several heads, a damaged one, text before
//! the head) wait until all host names of the block are known.

mod express;
mod glued;
mod inner;
mod intern;
mod known;
mod usual;

use memchr::memmem::Finder;

use super::bytes::{Table, offset};
use super::envelope::{self, Peeled};
use super::fact::{At, Fact, Level};
use super::head::{self, Tail};
use super::stamp::{self, Clock};
use super::vllm::Shape;
use intern::Front;
pub(super) use known::Known;

use super::{Block, HeadIx, Outer, OuterIx, Rec, Voice, json, nccl, vllm};

/// Longest part of a line without NCCL's word that is read: vLLM's longest records are its configurations.
const READ: usize = 16 * 1024;
/// Envelopes within envelopes.
const NESTED: u8 = 3;

/// Where a line stands and what is known of it from outside.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: u32,
    start: u32,
    end: u32,
    /// Offset of the bytes in the block; `None` for a cleaned or decoded copy.
    base: Option<u32>,
    /// Stamp of the envelope.
    at: Option<At>,
    depth: u8,
}

/// A line that CRI cut into pieces: those seen so far.
#[derive(Debug)]
struct Partial {
    start: u32,
    at: Option<At>,
    bytes: Vec<u8>,
}

/// One head with its message inside a line.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    who: Option<(HeadIx, u64)>,
    tail: Tail<'a>,
    at: Option<At>,
    outer: OuterIx,
    start: usize,
    msg: usize,
}

/// State of the walk.
pub(super) struct Walk<'t> {
    text: &'t [u8],
    /// What was learnt from earlier lines, where somebody keeps it.
    known: Option<&'t mut Known>,
    out: Block,
    clock: Clock,
    finder: Finder<'static>,
    heads: Table,
    outers: Table,
    last_head: HeadIx,
    last_outer: OuterIx,
    waiting: Vec<Place>,
    partial: [Option<Partial>; 2],
    scratch: Vec<u8>,
    /// Voices by what they are.
    voices: Vec<u32>,
    exact: bool,
    /// Lines last counted as NCCL's and as vLLM's.
    nccl_line: Option<u32>,
    vllm_line: Option<u32>,
}

impl<'t> Walk<'t> {
    /// Counts a line of NCCL's once, however many heads it holds.
    #[inline]
    pub(super) fn count_nccl(&mut self, line: u32) {
        if self.nccl_line.replace(line) != Some(line) {
            self.out.nccl_lines += 1;
        }
    }

    /// Counts a line of vLLM's once: carriage returns may cut it in pieces.
    #[inline]
    fn count_vllm(&mut self, line: u32) {
        if self.vllm_line.replace(line) != Some(line) {
            self.out.vllm_lines += 1;
        }
    }

    /// Walks over `text`; the lists of `used`, an earlier block, are emptied and filled anew.
    pub(super) fn new(text: &'t [u8], used: Block, mut known: Option<&'t mut Known>) -> Self {
        if let Some(known) = &mut known {
            known.begin();
        }
        let Block {
            mut heads,
            mut outers,
            mut recs,
            mut said,
            mut often,
            mut voices,
            mut forms,
            mut comms,
            mut silent,
            ..
        } = used;
        heads.clear();
        outers.clear();
        outers.push(Outer::default());
        recs.clear();
        said.clear();
        often.clear();
        voices.clear();
        forms.clear();
        comms.clear();
        silent.clear();
        Self {
            text,
            known,
            out: Block {
                heads,
                outers,
                recs,
                said,
                often,
                voices,
                forms,
                comms,
                silent,
                ..Block::default()
            },
            clock: Clock::default(),
            finder: Finder::new(b"CCL "),
            heads: Table::default(),
            outers: Table::default(),
            last_head: 0,
            last_outer: 0,
            waiting: Vec::new(),
            partial: [None, None],
            scratch: Vec::new(),
            voices: Vec::new(),
            exact: false,
            nccl_line: None,
            vllm_line: None,
        }
    }

    /// Everything in the block, without its text.
    pub(super) fn run(mut self) -> Block {
        let text = self.text;
        let (mut start, mut line) = (0, 0_u32);
        while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
            if let Some(end) = self.express(rest, start, line) {
                line = line.saturating_add(1);
                start = end + 1;
                continue;
            }
            let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let bytes = rest.get(..len).unwrap_or_default();
            let base = u32::try_from(start).ok();
            let place = Place {
                line,
                start: base.unwrap_or(u32::MAX),
                end: u32::try_from(start + len).unwrap_or(u32::MAX),
                base,
                at: None,
                depth: 0,
            };
            self.closely(bytes, place);
            line = line.saturating_add(1);
            start += len + 1;
        }
        self.out.lines = line;
        self.leftovers();
        self.glued_lines();
        let (said, recs) = (&mut self.out.said, &self.out.recs);
        let vllm = recs.iter().zip(0_u32..);
        said.extend(vllm.filter_map(|(rec, at)| matches!(rec.fact, Fact::Vllm(_)).then_some(at)));
        self.out
    }

    /// A line of the text that is looked at closely.
    fn closely(&mut self, s: &[u8], place: Place) {
        let hits = self.hits(s);
        let s = s.strip_suffix(b"\r").unwrap_or(s);
        let place = Place {
            end: place.start.saturating_add(offset32(s.len())),
            ..place
        };
        if has_controls(s) {
            self.dirty(s, place, hits);
        } else if hits > 1 || !self.plainest(s, place, hits) {
            self.other(s, place, hits, true);
        }
    }

    fn next_hit(&self, text: &[u8], from: usize) -> Option<usize> {
        text.get(from..)
            .and_then(|rest| self.finder.find(rest))
            .map(|n| from + n)
    }

    fn hits(&self, s: &[u8]) -> u32 {
        let mut hits = 0;
        for at in self.finder.find_iter(s).take(1000) {
            hits += u32::from(hits == 0 || is_level(s, at));
        }
        hits
    }

    /// A copy of a line, without controls.
    fn line(&mut self, s: &[u8], place: Place, hits: u32) {
        if hits > 1 || !self.plainest(s, place, hits) {
            self.other(s, place, hits, false);
        }
    }

    /// A line whose prefixes are many or rare. `wait` says that it may be read again when all hosts are known.
    fn other(&mut self, s: &[u8], place: Place, hits: u32, wait: bool) {
        let p = envelope::peel(s, &mut self.clock);
        if let Some((err, more)) = p.cri
            && (more
                || self
                    .partial
                    .get(usize::from(err))
                    .is_some_and(Option::is_some))
        {
            self.join(&p, place, err, more);
            return;
        }
        self.note(place.at.or(p.at));
        if hits == 0 {
            self.foreign(s, &p, place);
            return;
        }
        if hits == 1 && self.plain(s, &p, place) {
            return;
        }
        if wait && place.base.is_some() {
            self.waiting.push(place);
        } else {
            self.glued(s, &p, place);
        }
    }

    /// The most ordinary lines: at most a stamp and one process prefix, then a head or a record of Python. Says
    /// whether this was one.
    fn plainest(&mut self, s: &[u8], place: Place, hits: u32) -> bool {
        let (at, mut rest) = self.stamped(s);
        let at = place.at.or(at);
        let mut front = Front::NONE;
        if let Some((prefix, tail)) = envelope::process_and_rest(rest) {
            let Some(known) = self.seen(prefix) else {
                return false;
            };
            (front, rest) = (known, tail);
        }
        let outer = front.outer;
        if hits == 0 {
            return self.no_nccl(s, at, outer, rest, place);
        }
        let Some(found) = head::at(rest) else {
            return false;
        };
        let head = self.head(found.host, found.pid, outer, true);
        if place.base.is_some() {
            self.meet(rest, &found, head, front);
        }
        self.note(at);
        self.ordinary(s, head, found.tail, at, outer, place, false);
        true
    }

    /// A line without NCCL's word, if its shape is known or its front is nothing but a process prefix.
    #[inline]
    fn no_nccl(
        &mut self,
        s: &[u8],
        at: Option<At>,
        outer: OuterIx,
        rest: &[u8],
        place: Place,
    ) -> bool {
        let header = envelope::header(rest);
        let Some(known) = self.known.as_ref().filter(|_| !begins_prefix(rest)) else {
            let plain = outer != 0 && header.is_some();
            if plain {
                self.note(at);
                self.record(s, rest, outer, at, true, place, None);
            }
            return plain;
        };
        let mut shape = known.memo.find(rest);
        if shape.is_none() {
            if outer == 0 || header.is_none() {
                let p = envelope::peel(s, &mut self.clock);
                // Other prefixes than those that were taken off here.
                if p.rest.len() != rest.len()
                    || p.cri.is_some()
                    || p.prefix.repeated > 0
                    || place.at.or(p.at) != at
                    || self.outer(&p.prefix) != outer
                {
                    return false;
                }
            }
            let silent = header.is_some_and(is_access);
            let known = self.known.as_mut();
            shape = known.and_then(|known| known.memo.learn(rest, silent));
        }
        self.note(at);
        self.record(s, rest, outer, at, outer != 0, place, shape);
        true
    }

    /// Prefixes, then a head, then a message; or a bare version line.
    fn plain(&mut self, s: &[u8], p: &Peeled<'_>, place: Place) -> bool {
        let Some(found) = head::at(p.rest) else {
            return self.bare_version(p, place);
        };
        let outer = self.outer(&p.prefix);
        let head = self.head(found.host, found.pid, outer, true);
        let at = place.at.or(p.at);
        self.ordinary(s, head, found.tail, at, outer, place, p.prefix.repeated > 0);
        true
    }

    /// A line with one head, which stands where it should.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "what the callers know differs")]
    fn ordinary(
        &mut self,
        s: &[u8],
        head: HeadIx,
        tail: Tail<'_>,
        at: Option<At>,
        outer: OuterIx,
        place: Place,
        repeated: bool,
    ) {
        self.count_nccl(place.line);
        if !repeated && tail.level == Level::Info && self.known.is_some() && place.base.is_some() {
            let voice = self.voice(Voice {
                head,
                outer,
                tid: tail.tid,
                dev: tail.dev,
            });
            if self.usual(voice, &tail, at, place) {
                return;
            }
        }
        let piece = Piece {
            who: Some((head, tail.tid)),
            tail,
            at,
            outer,
            start: 0,
            msg: offset(s, tail.msg),
        };
        let before = self.out.recs.len();
        self.message(s, &piece, s.len(), place, repeated);
        if !repeated && self.out.recs.len() > before {
            self.remember(tail, place);
        }
    }

    /// `NCCL version …` without a head.
    fn bare_version(&mut self, p: &Peeled<'_>, place: Place) -> bool {
        let Some(fact) = nccl::version(p.rest) else {
            return false;
        };
        self.count_nccl(place.line);
        let outer = self.outer(&p.prefix);
        self.out.recs.push(Rec {
            line: place.line,
            start: place.start,
            end: place.end,
            at: place.at.or(p.at),
            head: None,
            outer,
            tid: 0,
            dev: -1,
            level: Level::Bare,
            fact,
        });
        true
    }

    /// Reads the message of `piece`, which ends at `end`.
    #[inline]
    fn message(&mut self, s: &[u8], piece: &Piece<'_>, end: usize, place: Place, repeated: bool) {
        let mut msg = s.get(piece.msg..end).unwrap_or_default();
        if msg.last().is_some_and(|b| *b <= b' ') {
            msg = msg.trim_ascii_end();
        }
        if repeated {
            msg = envelope::before_repeat(msg);
        }
        let (mut fact, mut stop) = (nccl::fact(&piece.tail, msg), None);
        if end == s.len() && wants_more(piece.tail.level, msg, fact.is_none()) {
            (fact, stop) = self.wrapped(&piece.tail, msg, place, fact);
        }
        if let Some(Fact::Warn { text, .. }) = &mut fact {
            stop = self.goes_on(msg, place, text).or(stop);
        }
        let Some(fact) = fact else { return };
        let (start, end) = match place.base {
            // The first piece keeps the prefixes, which belong to the evidence.
            Some(base) => (
                if piece.start == 0 {
                    place.start
                } else {
                    base + offset32(piece.start)
                },
                base + offset32(end),
            ),
            None => (place.start, place.end),
        };
        self.out.recs.push(Rec {
            line: place.line,
            start,
            end: stop.unwrap_or(end),
            at: piece.at,
            head: piece.who.map(|(head, _)| head),
            outer: piece.outer,
            tid: piece.who.map_or(0, |(_, tid)| tid),
            dev: piece.tail.dev,
            level: piece.tail.level,
            fact,
        });
    }

    /// A line that is not NCCL's.
    fn foreign(&mut self, s: &[u8], p: &Peeled<'_>, place: Place) {
        if p.rest.starts_with(b"{")
            && place.depth < NESTED
            && let Some(wrapped) = json::unwrap(p.rest)
        {
            self.unwrapped(&wrapped, p, place);
            return;
        }
        let outer = self.outer(&p.prefix);
        let msg = match p.prefix.repeated {
            0 => p.rest,
            _ => envelope::before_repeat(p.rest),
        };
        self.record(
            s,
            msg,
            outer,
            place.at.or(p.at),
            p.prefix.depth > 0,
            place,
            None,
        );
    }

    /// What vLLM, torch, Ray or a launcher said in `msg`; `ours`: a process prefix stood before it; `shape`:
    /// what is known of its like.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "what the three callers know differs"
    )]
    fn record(
        &mut self,
        s: &[u8],
        msg: &[u8],
        outer: OuterIx,
        at: Option<At>,
        ours: bool,
        place: Place,
        shape: Option<Shape>,
    ) {
        let header = envelope::header(msg);
        let mut at = at;
        if at.is_none() {
            at = match header {
                Some(rest) => rest.strip_prefix(b" ").and_then(stamp::month_day),
                None => stamp::glog(msg),
            };
            self.note(at);
        }
        let mut fact = None;
        if !msg.is_empty() && !header.is_some_and(is_access) {
            let msg = msg.get(..READ).unwrap_or(msg);
            let outer = self.out.outers.get(outer as usize);
            fact = outer.and_then(|outer| match (shape, &mut self.known) {
                (Some(shape), Some(known)) => known.memo.said(shape, msg, outer),
                _ => vllm::line(msg, outer),
            });
        }
        let theirs = ours || header.is_some() || fact.is_some();
        if theirs {
            self.count_vllm(place.line);
        }
        let Some(fact) = fact else { return };
        self.out.recs.push(Rec {
            line: place.line,
            start: place.base.unwrap_or(place.start),
            end: place
                .base
                .map_or(place.end, |base| base + offset32(s.len())),
            at,
            head: None,
            outer,
            tid: 0,
            dev: -1,
            level: Level::Bare,
            fact: Fact::Vllm(fact),
        });
    }

    /// Remembers the first and the last stamp; exact ones count before others.
    #[inline]
    fn note(&mut self, at: Option<At>) {
        let Some(at) = at else { return };
        if at.exact && self.exact {
            self.out.last_at = Some(at);
            return;
        }
        if at.exact {
            self.exact = true;
            self.out.first_at = Some(at);
        }
        if at.exact == self.exact {
            self.out.first_at.get_or_insert(at);
            self.out.last_at = Some(at);
        }
    }
}

/// Whether an escape code, a carriage return or a NUL is in there.
fn has_controls(s: &[u8]) -> bool {
    memchr::memchr3(0x1b, b'\r', 0, s).is_some()
}

/// Whether a level follows the `CCL ` at `at`: messages that speak of NCCL are no second head.
fn is_level(s: &[u8], at: usize) -> bool {
    matches!(
        s.get(at + 4..at + 8),
        Some(b"INFO" | b"WARN" | b"TRAC" | b"CALL")
    )
}

fn offset32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether a prefix or a stamp may begin here that is not a word: those read their numbers, which a shape
/// doesn't know.
fn begins_prefix(s: &[u8]) -> bool {
    !matches!(
        s.first(),
        Some(b'/' | b'.' | b'_' | b'A'..=b'Z' | b'a'..=b'z')
    ) || stamp::begins_ctime(s)
}

/// What follows the level word of an access log: `:     10.42.0.1:51230 - "GET /health HTTP/1.1" 200 OK`.
fn is_access(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b':', b' ', b' ', b' ', b' ', b' ', b'0'..=b'9' | b'[', ..]
    )
}

/// Whether a message looks as if its end stood on the next line.
fn wants_more(level: Level, msg: &[u8], unread: bool) -> bool {
    const BEGINNINGS: [&[u8]; 4] = [b"Channel ", b"comm ", b"ncclComm", b"[Rank "];
    match level {
        Level::Warn => msg.ends_with(b"Connect to"),
        Level::Info => unread && BEGINNINGS.iter().any(|b| msg.starts_with(b)),
        _ => false,
    }
}
