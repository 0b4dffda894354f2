//! The walk over a block: lines, prefixes, heads, facts.
//!
//! An ordinary line costs one search for its end, a comparison of its stamp, its prefix and its head, and its
//! message; nothing is allocated. Lines that are not what they seem (several heads, a damaged one, text before
//! the head) wait until all host names of the block are known.

use memchr::memmem::Finder;

use super::bytes::{Table, hash, offset};
use super::envelope::{self, Peeled, Prefix};
use super::fact::{At, Fact, Level};
use super::head::{self, Found, Tail};
use super::stamp::{self, Clock};
use super::text;
use super::{Block, Head, HeadIx, Outer, OuterIx, Rec, json, nccl, vllm};

/// Longest part of a line without NCCL's word that is read: vLLM's longest records are its configurations.
const READ: usize = 16 * 1024;
/// Most bytes of a line that CRI cut into partial records.
const JOINED: usize = 1024 * 1024;
/// Words that may stand before a damaged head.
const LOOSE_WORDS: usize = 3;
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
    /// Process prefixes by their bytes.
    prefixes: Vec<(Box<[u8]>, OuterIx)>,
    exact: bool,
}

impl<'t> Walk<'t> {
    /// Walks over `text`; the lists of `used`, an earlier block, are emptied and filled anew.
    pub(super) fn new(text: &'t [u8], used: Block) -> Self {
        let Block {
            mut heads,
            mut outers,
            mut recs,
            ..
        } = used;
        heads.clear();
        outers.clear();
        outers.push(Outer::default());
        recs.clear();
        Self {
            text,
            out: Block {
                heads,
                outers,
                recs,
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
            prefixes: Vec::new(),
            exact: false,
        }
    }

    /// Everything in the block, without its text.
    pub(super) fn run(mut self) -> Block {
        let text = self.text;
        let mut controls = memchr::memchr3_iter(0x1b, b'\r', 0, text);
        let mut control = controls.next();
        let mut hit = self.next_hit(text, 0);
        let mut start = 0;
        let mut line = 0_u32;
        while start < text.len() {
            let end = text
                .get(start..)
                .and_then(|rest| memchr::memchr(b'\n', rest))
                .map_or(text.len(), |n| start + n);
            let mut hits = 0;
            while let Some(at) = hit.filter(|at| *at < end) {
                hits += u32::from(hits == 0 || is_level(text, at));
                hit = self.next_hit(text, at + 4);
            }
            let mut stop = end;
            let mut dirty = false;
            while let Some(at) = control.filter(|at| *at < end) {
                if at + 1 == end && text.get(at) == Some(&b'\r') {
                    stop = at;
                } else {
                    dirty = true;
                }
                control = controls.next();
            }
            let base = u32::try_from(start).ok();
            let place = Place {
                line,
                start: base.unwrap_or(u32::MAX),
                end: u32::try_from(stop).unwrap_or(u32::MAX),
                base,
                at: None,
                depth: 0,
            };
            let bytes = text.get(start..stop).unwrap_or_default();
            if dirty {
                self.dirty(bytes, place, hits);
            } else {
                self.line(bytes, place, hits, true);
            }
            line = line.saturating_add(1);
            start = end + 1;
        }
        self.out.lines = line;
        self.leftovers();
        self.glued_lines();
        self.out
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

    /// A line with escape codes, carriage returns or NULs in it.
    fn dirty(&mut self, bytes: &[u8], place: Place, hits: u32) {
        let place = Place {
            base: None,
            ..place
        };
        let mut copy = std::mem::take(&mut self.scratch);
        let last = bytes
            .rsplit(|b| *b == b'\r')
            .position(|piece| !piece.trim_ascii().is_empty())
            .unwrap_or(0);
        let pieces = bytes.split(|b| *b == b'\r').count();
        for (n, piece) in bytes.split(|b| *b == b'\r').enumerate() {
            // A progress bar rewrites itself: what stands last is what the reader saw.
            let shown = n + 1 + last == pieces;
            if piece.is_empty() || (!shown && (hits == 0 || self.hits(piece) == 0)) {
                continue;
            }
            copy.clear();
            text::strip(piece, &mut copy);
            let hits = if hits == 0 { 0 } else { self.hits(&copy) };
            self.line(&copy, place, hits, false);
        }
        self.scratch = copy;
    }

    /// A line without controls. `wait` says that it may be read again when all hosts are known.
    fn line(&mut self, s: &[u8], place: Place, hits: u32, wait: bool) {
        if hits <= 1 && self.plainest(s, place, hits) {
            return;
        }
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

    /// The lines that come by the million: at most a stamp and one process prefix that was seen before, then
    /// a head or a record of Python. Says whether this was one.
    #[inline]
    fn plainest(&mut self, s: &[u8], place: Place, hits: u32) -> bool {
        let (at, mut rest) = match s.first() {
            Some(b'0'..=b'9') => match self.clock.date_time(s) {
                Some((at, [b' ', rest @ ..])) => (Some(at), rest),
                _ => (None, s),
            },
            _ => (None, s),
        };
        let at = place.at.or(at);
        let mut outer = 0;
        if let Some((prefix, tail)) = envelope::process_and_rest(rest) {
            let Some(known) = self.seen(prefix) else {
                return false;
            };
            (outer, rest) = (known, tail);
        }
        if hits == 0 {
            if outer == 0 || envelope::header(rest).is_none() {
                return false;
            }
            self.note(at);
            self.record(s, rest, outer, at, true, place);
            return true;
        }
        let Some(found) = head::at(rest) else {
            return false;
        };
        self.note(at);
        self.ordinary(s, &found, at, outer, place, false);
        true
    }

    /// The index of a process prefix that was seen in these very bytes.
    #[inline]
    fn seen(&mut self, prefix: &[u8]) -> Option<OuterIx> {
        let slot = usize::try_from(hash(0, prefix) & 0xff).unwrap_or(0);
        if let Some((bytes, outer)) = self.prefixes.get(slot)
            && **bytes == *prefix
        {
            return Some(*outer);
        }
        let p = envelope::peel(prefix, &mut self.clock);
        if !p.rest.is_empty() || p.prefix.depth != 1 {
            return None;
        }
        let outer = self.outer(&p.prefix);
        if self.prefixes.is_empty() {
            self.prefixes.resize_with(256, Default::default);
        }
        *self.prefixes.get_mut(slot)? = (prefix.into(), outer);
        Some(outer)
    }

    /// Prefixes, then a head, then a message; or a bare version line.
    fn plain(&mut self, s: &[u8], p: &Peeled<'_>, place: Place) -> bool {
        let Some(found) = head::at(p.rest) else {
            return self.bare_version(p, place);
        };
        let outer = self.outer(&p.prefix);
        self.ordinary(
            s,
            &found,
            place.at.or(p.at),
            outer,
            place,
            p.prefix.repeated,
        );
        true
    }

    /// A line with one head, which stands where it should.
    #[inline]
    fn ordinary(
        &mut self,
        s: &[u8],
        found: &Found<'_>,
        at: Option<At>,
        outer: OuterIx,
        place: Place,
        repeated: bool,
    ) {
        let head = self.head(found.host, found.pid, outer, true);
        self.out.nccl_lines += 1;
        let tail = found.tail;
        let piece = Piece {
            who: Some((head, tail.tid)),
            tail,
            at,
            outer,
            start: 0,
            msg: offset(s, tail.msg),
        };
        self.message(s, &piece, s.len(), place, repeated);
    }

    /// `NCCL version …` without a head.
    fn bare_version(&mut self, p: &Peeled<'_>, place: Place) -> bool {
        let Some(fact) = nccl::version(p.rest) else {
            return false;
        };
        self.out.nccl_lines += 1;
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

    /// A message that a terminal or a write-up wrapped in mid-sentence: read again with the next line, if
    /// that makes sense of it.
    fn wrapped(
        &self,
        tail: &Tail<'_>,
        msg: &[u8],
        place: Place,
        alone: Option<Fact>,
    ) -> (Option<Fact>, Option<u32>) {
        let from = usize::try_from(place.end).unwrap_or(usize::MAX);
        let Some(next) = place
            .base
            .and_then(|_| self.text.get(from..))
            .and_then(|rest| rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")))
        else {
            return (alone, None);
        };
        let near = next.get(..1024.min(next.len())).unwrap_or_default();
        let next = near
            .get(..memchr::memchr(b'\n', near).unwrap_or(near.len()))
            .unwrap_or_default();
        let trimmed = next.trim_ascii();
        if trimmed.is_empty()
            || self.finder.find(trimmed).is_some()
            || trimmed.get(4) == Some(&b'-')
        {
            return (alone, None);
        }
        let mut joined = msg.to_vec();
        if trimmed.len() < next.len() && next.first().is_some_and(|b| *b <= b' ') {
            joined.push(b' ');
        }
        joined.extend_from_slice(trimmed);
        match nccl::fact(tail, &joined) {
            Some(fact) => (Some(fact), u32::try_from(from + 1 + next.len()).ok()),
            None => (alone, None),
        }
    }

    /// A line in which NCCL's word does not stand where it should.
    fn glued(&mut self, s: &[u8], p: &Peeled<'_>, place: Place) {
        let floor = offset(s, p.rest);
        if p.rest.starts_with(b"{") || is_record(p.rest) {
            // JSON bodies and records of the application quote what they like.
            self.foreign(s, p, place);
            return;
        }
        let outer = self.outer(&p.prefix);
        let mut open: Option<Piece<'_>> = None;
        let mut from = floor;
        let mut any = self.bare_version_first(p, place);
        while let Some(hit) = self.next_hit(s, from) {
            from = hit + 4;
            // The finder knows `CCL `; the word begins a byte before.
            let Some(hit) = hit
                .checked_sub(1)
                .filter(|at| *at >= floor && s.get(*at) == Some(&b'N'))
            else {
                continue;
            };
            let bottom = open.map_or(floor, |piece| piece.msg);
            let Some(back) = head::back(s, bottom, hit) else {
                continue;
            };
            let mut start = back.start;
            let before = s.get(bottom..start).unwrap_or_default();
            if open.is_none() && !any && is_quoted(before, back.who.is_none(), p) {
                break;
            }
            let who = back.who.map(|(host, pid)| {
                let clean = start == floor;
                let host = if clean { host } else { self.known(host) };
                start = if s.get(start) == Some(&b':') {
                    start
                } else {
                    self.start_of(s, start, host)
                };
                (self.head(host, pid, outer, clean), back.tail.tid)
            });
            let (at, start) = match self.own_stamp(s, bottom, start) {
                Some((at, start)) => (place.at.or(p.at).filter(|at| at.exact).or(Some(at)), start),
                None => (place.at.or(p.at), start),
            };
            if let Some(piece) = open.take() {
                self.message(s, &piece, start, place, false);
            }
            open = Some(Piece {
                who,
                tail: back.tail,
                at,
                outer,
                start: if any || start > floor { start } else { 0 },
                msg: offset(s, back.tail.msg),
            });
            if !any {
                // The prefixes belong to the first piece.
                open = open.map(|piece| Piece { start: 0, ..piece });
            }
            any = true;
            from = from.max(offset(s, back.tail.msg));
        }
        if let Some(piece) = open {
            self.message(s, &piece, s.len(), place, p.prefix.repeated);
        }
        if any {
            self.out.nccl_lines += 1;
        } else {
            self.foreign(s, p, place);
        }
    }

    /// A bare version line to which a head was glued.
    fn bare_version_first(&mut self, p: &Peeled<'_>, place: Place) -> bool {
        let found = self.bare_version(p, place);
        // Counted by the caller.
        self.out.nccl_lines -= u32::from(found);
        found
    }

    /// The known host that `host` ends in, if something was glued to its front (nccl-logs.md 1.3).
    fn known<'a>(&self, host: &'a [u8]) -> &'a [u8] {
        let mut best: &[u8] = &[];
        for head in self
            .out
            .heads
            .iter()
            .filter(|h| h.clean && !h.host.is_empty())
        {
            let name = head.host.as_bytes();
            if name == host {
                return host;
            }
            if name.len() > best.len() && host.ends_with(name) {
                best = host.get(host.len() - name.len()..).unwrap_or(host);
            }
        }
        if best.is_empty() { host } else { best }
    }

    /// Where `host`, a tail of what stands at `start`, begins.
    fn start_of(&self, s: &[u8], start: usize, host: &[u8]) -> usize {
        let run = s
            .get(start..)
            .and_then(|t| t.iter().position(|b| matches!(b, b':' | b' ')))
            .unwrap_or(host.len());
        start + run.saturating_sub(host.len())
    }

    /// `[2025-03-04 05:06:07] ` right before a head that is not the first of its line.
    fn own_stamp(&mut self, s: &[u8], bottom: usize, start: usize) -> Option<(At, usize)> {
        let before = s.get(bottom..start)?.strip_suffix(b"] ")?;
        let open = before.iter().rposition(|b| *b == b'[')?;
        let (at, rest) = self.clock.date_time(before.get(open + 1..)?)?;
        rest.is_empty().then_some((at, bottom + open))
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
        self.record(
            s,
            p.rest,
            outer,
            place.at.or(p.at),
            p.prefix.depth > 0,
            place,
        );
    }

    /// What vLLM, torch, Ray or a launcher said in `msg`; `ours`: a process prefix stood before it.
    #[inline]
    fn record(
        &mut self,
        s: &[u8],
        msg: &[u8],
        outer: OuterIx,
        at: Option<At>,
        ours: bool,
        place: Place,
    ) {
        let header = envelope::header(msg);
        let mut at = at;
        if at.is_none()
            && let Some(rest) = header
        {
            at = rest.strip_prefix(b" ").and_then(stamp::month_day);
            self.note(at);
        }
        let mut fact = None;
        if !msg.is_empty() && !header.is_some_and(is_access) {
            let msg = msg.get(..READ).unwrap_or(msg);
            fact = self
                .out
                .outers
                .get(outer as usize)
                .and_then(|outer| vllm::line(msg, outer));
        }
        self.out.vllm_lines += u32::from(ours || header.is_some() || fact.is_some());
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
            fact: Fact::Vllm(Box::new(fact)),
        });
    }

    /// The text of a shipper's record, which may hold several lines.
    fn unwrapped(&mut self, wrapped: &json::Wrapped, p: &Peeled<'_>, place: Place) {
        let stamp = self.clock.date_time(&wrapped.stamp).map(|(at, _)| at);
        let at = place.at.or(p.at.filter(|at| at.exact)).or(stamp).or(p.at);
        let inner = Place {
            base: None,
            at,
            depth: place.depth + 1,
            ..place
        };
        for line in wrapped.line.split(|b| *b == b'\n') {
            self.copy(line, inner);
        }
    }

    /// Reads a decoded or joined copy of a line.
    fn copy(&mut self, line: &[u8], place: Place) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let hits = self.hits(line);
        if memchr::memchr3(0x1b, b'\r', 0, line).is_some() {
            self.dirty(line, place, hits);
        } else {
            self.line(line, place, hits, false);
        }
    }

    /// Keeps a partial record of CRI, or completes the line with its last one.
    fn join(&mut self, p: &Peeled<'_>, place: Place, err: bool, more: bool) {
        self.note(p.at);
        let Some(slot) = self.partial.get_mut(usize::from(err)) else {
            return;
        };
        let partial = slot.get_or_insert_with(|| Partial {
            start: place.start,
            at: p.at,
            bytes: Vec::new(),
        });
        let room = JOINED.saturating_sub(partial.bytes.len());
        partial
            .bytes
            .extend_from_slice(p.rest.get(..room).unwrap_or(p.rest));
        if !more && let Some(partial) = slot.take() {
            self.joined(&partial, place);
        }
    }

    fn joined(&mut self, partial: &Partial, place: Place) {
        let place = Place {
            start: partial.start,
            base: None,
            at: partial.at,
            depth: place.depth + 1,
            ..place
        };
        self.copy(&partial.bytes, place);
    }

    /// Partial records whose end is not in this block.
    fn leftovers(&mut self) {
        let line = self.out.lines.saturating_sub(1);
        let end = offset32(self.text.len());
        for slot in 0..self.partial.len() {
            if let Some(partial) = self.partial.get_mut(slot).and_then(Option::take) {
                self.joined(
                    &partial,
                    Place {
                        line,
                        start: partial.start,
                        end,
                        base: None,
                        at: None,
                        depth: 0,
                    },
                );
            }
        }
    }

    /// The lines that waited.
    fn glued_lines(&mut self) {
        let text = self.text;
        let waiting = std::mem::take(&mut self.waiting);
        for place in &waiting {
            let (start, end) = (place.start as usize, place.end as usize);
            let s = text.get(start..end).unwrap_or_default();
            let p = envelope::peel(s, &mut self.clock);
            self.glued(s, &p, *place);
        }
        if !waiting.is_empty() {
            self.out.recs.sort_by_key(|rec| rec.line);
        }
    }

    /// Remembers the first and the last stamp; exact ones count before others.
    #[inline]
    fn note(&mut self, at: Option<At>) {
        let Some(at) = at else { return };
        if at.exact && !self.exact {
            self.exact = true;
            self.out.first_at = Some(at);
        }
        if at.exact == self.exact {
            self.out.first_at.get_or_insert(at);
            self.out.last_at = Some(at);
        }
    }

    /// The index of a head, entered if it is new.
    #[inline]
    fn head(&mut self, host: &[u8], pid: u64, outer: OuterIx, clean: bool) -> HeadIx {
        let same = |heads: &[Head], ix: u32| {
            heads
                .get(ix as usize)
                .is_some_and(|h| h.pid == Some(pid) && h.host.as_bytes() == host)
        };
        let ix = if same(&self.out.heads, self.last_head) {
            self.last_head
        } else {
            let key = hash(pid, host);
            let heads = &self.out.heads;
            match self.heads.find(key, |ix| same(heads, ix)) {
                Some(ix) => ix,
                None => {
                    let ix = offset32(self.out.heads.len());
                    self.out.heads.push(Head {
                        host: super::bytes::text(host),
                        pid: Some(pid),
                        clean,
                        outer,
                    });
                    let heads = &self.out.heads;
                    self.heads.enter(key, ix, |ix| {
                        heads
                            .get(ix as usize)
                            .map_or(0, |h| hash(h.pid.unwrap_or(0), h.host.as_bytes()))
                    });
                    ix
                }
            }
        };
        self.last_head = ix;
        if clean && let Some(head) = self.out.heads.get_mut(ix as usize) {
            head.clean = true;
        }
        ix
    }

    /// The index of a chain of prefixes, entered if it is new.
    #[inline]
    fn outer(&mut self, prefix: &Prefix<'_>) -> OuterIx {
        if *prefix == Prefix::default() {
            return 0;
        }
        let same = |outers: &[Outer], ix: u32| {
            outers
                .get(ix as usize)
                .is_some_and(|o| Prefix::of(o) == *prefix)
        };
        if same(&self.out.outers, self.last_outer) {
            return self.last_outer;
        }
        let key = prefix.hash();
        let outers = &self.out.outers;
        let ix = match self.outers.find(key, |ix| same(outers, ix)) {
            Some(ix) => ix,
            None => {
                let ix = offset32(self.out.outers.len());
                self.out.outers.push(prefix.to_outer());
                let outers = &self.out.outers;
                self.outers.enter(key, ix, |ix| {
                    outers.get(ix as usize).map_or(0, |o| Prefix::of(o).hash())
                });
                ix
            }
        };
        self.last_outer = ix;
        ix
    }
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

/// A record of the application: `INFO 11-20 08:04:55 […`, `INFO:     …`, `2025-09-03 10:00:04,412 …`.
fn is_record(s: &[u8]) -> bool {
    if s.get(19) == Some(&b',') && s.get(4) == Some(&b'-') {
        return true;
    }
    envelope::header(s).is_some_and(|rest| {
        rest.starts_with(b": ") || rest.strip_prefix(b" ").and_then(stamp::month_day).is_some()
    })
}

/// What follows the level word of an access log: `:     10.42.0.1:51230 - "GET /health HTTP/1.1" 200 OK`.
fn is_access(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b':', b' ', b' ', b' ', b' ', b' ', b'0'..=b'9' | b'[', ..]
    )
}

/// Whether the text before the first head says that somebody quotes it.
fn is_quoted(before: &[u8], loose: bool, p: &Peeled<'_>) -> bool {
    let trimmed = before.trim_ascii();
    let quote = |b: &u8| matches!(b, b'"' | b'\'' | b'`' | b'\\');
    if before.last().is_some_and(quote) || (p.prefix.is_api_server() && !trimmed.is_empty()) {
        return true;
    }
    loose && (trimmed.iter().any(quote) || trimmed.split(|b| *b == b' ').count() > LOOSE_WORDS)
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
