//! Lines of which everything but numbers was read before.
//!
//! Most of a long log is such lines. What stands in front of them, and what they say, is compared with what
//! was read and kept as the same; nothing is searched in them. A head in the middle, an escape code or a
//! carriage return would be a difference, so that a line told here is told alike the long way: what the
//! tables recognise went it once.

use super::{Place, Walk};
use crate::parse::bytes::{Hash, offset};
use crate::parse::envelope;
use crate::parse::fact::{At, Fact, Level};
use crate::parse::head::{Found, Tail};
use crate::parse::often::{Often, Voice};
use crate::parse::{HeadIx, OuterIx, Rec};

use super::offset32;

/// Where in the text the head of an INFO line stood, behind which prefixes, and whose it is: index of a voice.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Face {
    start: u32,
    end: u32,
    outer: OuterIx,
    voice: u32,
}

/// Heads that are recognised by their bytes; a power of two.
const FACES: usize = 512;
/// Lengths that heads have had: those of one job differ by a digit or two.
pub(super) const LENGTHS: usize = 8;
/// Every head ends so.
const END: &[u8; 10] = b"NCCL INFO ";
/// The last word of a head that tells it from others begins so far from its end: `4 [0] NCCL INFO `.
const MARK: usize = 18;

/// A process prefix that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefixed {
    pub(super) outer: OuterIx,
    /// No word in it names a secret.
    pub(super) quiet: bool,
}

impl Walk<'_> {
    /// Keeps the line that begins at `start` of the text, if it was seen before with other numbers. Gives its
    /// end, which is not searched for where it is known what the line must end with.
    #[inline]
    pub(super) fn express(&mut self, start: usize, line: u32) -> Option<usize> {
        let text = self.text;
        let s = text.get(start..).filter(|_| self.memo.is_some())?;
        let (at, rest) = self.stamped(s);
        let (prefix, rest) = self.prefixed(rest)?;
        let outer = prefix.outer;
        let is_record = envelope::is_header(rest);
        let face = if is_record {
            None
        } else {
            self.face(rest, outer)
        };
        if let Some((voice, msg)) = face {
            if let Some((what, rest)) = self.ahead(msg) {
                let end = offset(text, rest);
                self.note(at);
                self.count_nccl(line);
                let (start, end32) = (offset32(start), offset32(end));
                self.hush(start, end32);
                self.out.often.push(Often {
                    line,
                    start,
                    end: end32,
                    voice,
                    at,
                    what,
                });
                return Some(end);
            }
            let (msg, place) = Self::bounded(text, start, msg, line);
            let known = self.usual(voice, msg, at, place, None)
                || self.word_for_word(voice, msg, at, place);
            return known.then(|| {
                self.note(at);
                self.count_nccl(line);
                place.end as usize
            });
        }
        let (rest, place) = Self::bounded(text, start, rest, line);
        // What Ray repeats is told by the end of its line.
        if outer != 0 && rest.ends_with(b"cluster]") {
            return None;
        }
        let memo = self.memo.as_ref()?;
        let shape = memo.find(rest)?;
        let traits = memo.traits(shape);
        if prefix.quiet && traits.quiet {
            self.hush(place.start, place.end);
        }
        self.note(at);
        if traits.nothing && at.is_some() {
            if outer != 0 || is_record {
                self.count_vllm(line);
            }
        } else {
            let s = text.get(start..place.end as usize)?;
            self.record(s, rest, outer, at, outer != 0, place, Some(shape));
        }
        Some(place.end as usize)
    }

    /// What is left of a line whose rest begins so, and its place.
    fn bounded<'a>(text: &[u8], start: usize, rest: &'a [u8], line: u32) -> (&'a [u8], Place) {
        let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let place = Place {
            line,
            start: offset32(start),
            end: offset32(offset(text, rest) + len),
            base: Some(offset32(start)),
            at: None,
            depth: 0,
        };
        (rest.get(..len).unwrap_or(rest), place)
    }

    /// Marks a line in which nobody needs to look for the name of a secret.
    #[inline]
    pub(super) fn hush(&mut self, start: u32, end: u32) {
        match self.out.silent.last_mut() {
            Some((_, to)) if to.checked_add(1) == Some(start) => *to = end,
            _ => self.out.silent.push((start, end)),
        }
    }

    /// Keeps a line whose message was read before in these very bytes. Says whether it was.
    fn word_for_word(&mut self, voice: u32, msg: &[u8], at: Option<At>, place: Place) -> bool {
        let read = self.plain.get(self.text, msg);
        let read = read.and_then(|read| self.out.recs.get(read as usize));
        let voice = self.out.voices.get(voice as usize);
        let (Some(read), Some(voice)) = (read, voice) else {
            return false;
        };
        let rec = Rec {
            line: place.line,
            start: place.start,
            end: place.end,
            at,
            head: Some(voice.head),
            outer: voice.outer,
            tid: voice.tid,
            dev: voice.dev,
            level: Level::Info,
            fact: read.fact.clone(),
        };
        self.out.recs.push(rec);
        true
    }

    /// Remembers where the message of the line at `place` stands, and that it says what was read last. Only
    /// what needs no memory of its own: it comes often.
    pub(super) fn remember(&mut self, tail: Tail<'_>, place: Place) {
        let Some(rec) = self.out.recs.last() else {
            return;
        };
        let small = matches!(
            rec.fact,
            Fact::Connected { .. }
                | Fact::ChannelCounts { .. }
                | Fact::P2pChunk(_)
                | Fact::Tuned
                | Fact::Nvls { .. }
                | Fact::NoIbDevice
                | Fact::Gdr { .. }
        );
        // Not where the next line belongs to it.
        if small && place.base.is_some() && rec.end == place.end {
            let from = (place.end as usize).saturating_sub(tail.msg.len());
            let read = offset32(self.out.recs.len() - 1);
            self.plain.enter(tail.msg, from, read);
        }
    }

    /// The stamp in front of a line, and what follows its blank.
    #[inline(always)]
    pub(super) fn stamped<'a>(&mut self, s: &'a [u8]) -> (Option<At>, &'a [u8]) {
        match s.first() {
            Some(b'0'..=b'9') => match self.clock.date_time(s) {
                Some((at, [b' ', rest @ ..])) => (Some(at), rest),
                _ => (None, s),
            },
            _ => (None, s),
        }
    }

    /// What follows a process prefix, and which one it is; `None` for one that was never seen.
    #[inline]
    fn prefixed<'a>(&self, s: &'a [u8]) -> Option<(Prefixed, &'a [u8])> {
        if s.first() != Some(&b'(') {
            let none = Prefixed {
                outer: 0,
                quiet: true,
            };
            return Some((none, s));
        }
        let (prefix, rest) = envelope::process_prefix(s)?;
        Some((self.known_prefix(prefix)?, rest))
    }

    /// Where a head of so many bytes that begins `s` is remembered. Host, thread and device stand at its ends.
    #[inline]
    fn face_slot(s: &[u8], len: usize) -> Option<usize> {
        let word = |at: usize| {
            let rest = s.get(at..)?;
            rest.first_chunk::<8>()
                .map(|word| u64::from_le_bytes(*word))
        };
        let mark = len.checked_sub(MARK)?;
        let mut hash = Hash::new(0, len);
        hash.add(word(0)?);
        hash.add(word(mark)?);
        hash.add(word(mark.saturating_sub(8))?);
        hash.add(word(mark.saturating_sub(16))?);
        Some(usize::try_from(hash.end()).unwrap_or(0) & (FACES - 1))
    }

    /// Whose head begins `s`, and the message behind it.
    #[inline]
    fn face<'a>(&self, s: &'a [u8], outer: OuterIx) -> Option<(u32, &'a [u8])> {
        self.lengths.iter().find_map(|len| {
            let len = usize::from(*len);
            let (head, msg) = s.split_at_checked(len)?;
            if !head.ends_with(END) {
                return None;
            }
            let slot = Self::face_slot(s, len)?;
            // Two places, so that two heads don't drive each other out.
            [slot, slot ^ 1].into_iter().find_map(|at| {
                let face = self.faces.get(at)?;
                let known = self.text.get(face.start as usize..face.end as usize)?;
                (face.outer == outer && known == head).then_some((face.voice, msg))
            })
        })
    }

    /// Remembers the head that begins `s`, which stands `from` in the text.
    pub(super) fn meet(
        &mut self,
        s: &[u8],
        from: u32,
        found: &Found<'_>,
        head: HeadIx,
        outer: OuterIx,
    ) {
        let Tail {
            tid,
            dev,
            level,
            src,
            msg,
        } = found.tail;
        let Some(bytes) = s.strip_suffix(msg).filter(|bytes| bytes.ends_with(END)) else {
            return;
        };
        let slot = Self::face_slot(bytes, bytes.len());
        let slot = slot.filter(|_| level == Level::Info && src.is_none());
        let (Some(slot), Ok(length)) = (slot, u16::try_from(bytes.len())) else {
            return;
        };
        if !self.lengths.contains(&length) {
            self.lengths.rotate_right(1);
            self.lengths[0] = length;
        }
        let voice = self.voice(Voice {
            head,
            outer,
            tid,
            dev,
        });
        if self.faces.is_empty() {
            self.faces.resize(FACES, Face::default());
        }
        let free = self.faces.get(slot).is_none_or(|face| face.end == 0);
        if let Some(face) = self.faces.get_mut(if free { slot } else { slot ^ 1 }) {
            *face = Face {
                start: from,
                end: from + offset32(bytes.len()),
                outer,
                voice,
            };
        }
    }
}
