//! Lines of which everything but numbers was read before.
//!
//! Most of a long log is such lines. What stands in front of them, and what they say, is compared with what
//! was read and kept as the same; nothing is searched in them. A head in the middle, an escape code or a
//! carriage return would be a difference, so that a line told here is told alike the long way: what the
//! tables recognise went it once.

use super::{Place, Walk};
use crate::parse::bytes::glance;
use crate::parse::envelope;
use crate::parse::fact::{At, Fact, Level};
use crate::parse::head::{Found, Tail};
use crate::parse::often::Voice;
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
/// Longest text in front of the `[` of a head.
const REACH: usize = 192;
/// The `[0] ` of a head, which its hash holds too: the threads of one process may differ in nothing else.
const MARK: usize = 4;

impl Walk<'_> {
    /// Keeps the line `s`, which stands at `place`, if it was seen before with other numbers. Says whether it
    /// was.
    #[inline]
    pub(super) fn express(&mut self, s: &[u8], place: Place) -> bool {
        if self.memo.is_none() {
            return false;
        }
        let (at, rest) = self.stamped(s);
        let Some((outer, rest)) = self.prefixed(rest) else {
            return false;
        };
        let is_record = envelope::is_header(rest);
        if !is_record && let Some((voice, msg)) = self.face(rest, outer) {
            let known = self.usual(voice, msg, at, place, None)
                || self.word_for_word(voice, msg, at, place);
            if known {
                self.note(at);
                self.count_nccl(place.line);
            }
            return known;
        }
        let Some(shape) = self.memo.as_ref().and_then(|memo| memo.find(rest)) else {
            return false;
        };
        self.note(at);
        self.record(s, rest, outer, at, outer != 0, place, Some(shape));
        true
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

    /// What follows a process prefix, and which one it is: 0 where none stands; `None` for one that was never
    /// seen.
    #[inline]
    fn prefixed<'a>(&self, s: &'a [u8]) -> Option<(OuterIx, &'a [u8])> {
        if s.first() != Some(&b'(') {
            return Some((0, s));
        }
        let (prefix, rest) = envelope::process_and_rest(s)?;
        Some((self.known_prefix(prefix)?, rest))
    }

    /// Where a head that begins `s` is remembered.
    #[inline]
    fn face_slot(s: &[u8]) -> Option<usize> {
        let mark = memchr::memchr(b'[', s.get(..REACH.min(s.len()))?)?;
        let near = s.get(..mark + MARK)?;
        Some(usize::try_from(glance(near)).unwrap_or(0) & (FACES - 1))
    }

    /// Whose head begins `s`, and the message behind it.
    #[inline]
    fn face<'a>(&self, s: &'a [u8], outer: OuterIx) -> Option<(u32, &'a [u8])> {
        let slot = Self::face_slot(s)?;
        // Two places, so that two heads don't drive each other out.
        [slot, slot ^ 1].into_iter().find_map(|at| {
            let face = self.faces.get(at)?;
            let head = self.text.get(face.start as usize..face.end as usize)?;
            let msg = s.strip_prefix(head)?;
            (face.outer == outer && face.end > 0).then_some((face.voice, msg))
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
        let Some(bytes) = s
            .strip_suffix(msg)
            .filter(|bytes| bytes.ends_with(b"INFO "))
        else {
            return;
        };
        let slot = Self::face_slot(bytes).filter(|_| level == Level::Info && src.is_none());
        let Some(slot) = slot else { return };
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
