//! Lines of which everything but numbers was read before.
//!
//! Most of a long log is such lines. What stands in front of them, and what they say, is compared with what
//! was read and kept as the same; nothing is searched in them. A head in the middle, an escape code or a
//! carriage return would be a difference, so that a line told here is told alike the long way: what the
//! tables recognise went it once.

use super::intern::Front;
use super::known::{Bytes, FACES, Face, place, places};
use super::usual::often;
use super::{Place, Walk, offset32};
use crate::parse::bytes::{Hash, offset};
use crate::parse::envelope;
use crate::parse::fact::{At, Fact, Level};
use crate::parse::head::{Found, Tail};
use crate::parse::often::Voice;
use crate::parse::quiet::is_quiet;
use crate::parse::{HeadIx, Rec};

/// Every head ends so.
const END: &[u8; 10] = b"NCCL INFO ";
/// The last word of a head that tells it from others begins so far from its end: `4 [0] NCCL INFO `.
const MARK: usize = 18;

/// Whether a record of Python's logging may begin here, and hardly a head: most begin so. Which of them it is can't
/// be foretold, so that no branch asks.
#[inline]
fn may_be_record(s: &[u8]) -> bool {
    s.first_chunk::<4>().is_some_and(|word| {
        let is = |level: &[u8; 4]| word == level;
        is(b"INFO") | is(b"DEBU") | is(b"WARN") | is(b"ERRO")
    })
}

impl Walk<'_> {
    /// Keeps the line that begins `s`, the text from `start` on, if it was seen before with other numbers. Gives its
    /// end, which is not searched for where it is known what the line must end with.
    #[inline]
    pub(super) fn express(&mut self, s: &[u8], start: usize, line: u32) -> Option<usize> {
        let text = self.text;
        self.known.as_ref()?;
        let (at, rest) = self.stamped(s);
        let (front, rest) = self.prefixed(rest)?;
        let outer = front.outer;
        let face = if may_be_record(rest) {
            None
        } else {
            self.face(rest, front)
        };
        if let Some((voice, quiet, msg)) = face {
            if let Some((what, rest)) = self.ahead(msg) {
                let end = offset(text, rest);
                let (start, end32) = (offset32(start), offset32(end));
                let often = often(line, (start, end32), voice, at, what)?;
                self.note(at);
                self.count_nccl(line);
                self.hush(start, end32);
                self.out.often.push(often);
                return Some(end);
            }
            let (msg, place) = Self::bounded(text, start, msg, line);
            let silent = self.word_for_word(voice, msg, at, place)?;
            if silent && quiet && front.quiet {
                self.hush(place.start, place.end);
            }
            self.note(at);
            self.count_nccl(line);
            return Some(place.end as usize);
        }
        let (rest, place) = Self::bounded(text, start, rest, line);
        let memo = &self.known.as_ref()?.memo;
        let shape = memo.find(rest)?;
        let traits = memo.traits(shape);
        // What Ray repeats is told by the end of its line.
        if outer != 0 && traits.repeats {
            return None;
        }
        if front.quiet && traits.quiet {
            self.hush(place.start, place.end);
        }
        self.note(at);
        if traits.nothing && at.is_some() {
            if outer != 0 || envelope::is_header(rest) {
                self.count_vllm(line);
            }
        } else if at.is_some()
            && let Some(fact) = self.known.as_ref()?.memo.told(shape, rest)
        {
            self.count_vllm(line);
            self.out.recs.push(Rec {
                line,
                start: place.start,
                end: place.end,
                at,
                head: None,
                outer,
                tid: 0,
                dev: -1,
                level: Level::Bare,
                fact: Fact::Vllm(fact),
            });
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

    /// Keeps a line whose message was read before in these very bytes. Says whether it was, and if so whether it
    /// names no secret.
    fn word_for_word(
        &mut self,
        voice: u32,
        msg: &[u8],
        at: Option<At>,
        place: Place,
    ) -> Option<bool> {
        let (fact, quiet) = self.known.as_ref()?.plain(msg)?;
        let voice = self.out.voices.get(voice as usize)?;
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
            fact: fact.clone(),
        };
        self.out.recs.push(rec);
        Some(quiet)
    }

    /// Remembers that the message of the line at `place` says what was read last. Only what needs no memory of
    /// its own: it comes often.
    pub(super) fn remember(&mut self, tail: Tail<'_>, place: Place) {
        let (Some(known), Some(rec)) = (&mut self.known, self.out.recs.last()) else {
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
            known.learn(tail.msg, rec.fact.clone(), is_quiet(tail.msg));
        }
    }

    /// The stamp in front of a line, and what follows its blank.
    #[inline(always)]
    pub(super) fn stamped<'a>(&mut self, s: &'a [u8]) -> (Option<At>, &'a [u8]) {
        match self.clock.same_second(s) {
            Some((at, rest)) => (Some(at), rest),
            None => self.other_stamp(s),
        }
    }

    #[inline(never)]
    fn other_stamp<'a>(&mut self, s: &'a [u8]) -> (Option<At>, &'a [u8]) {
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
    fn prefixed<'a>(&mut self, s: &'a [u8]) -> Option<(Front, &'a [u8])> {
        if s.first() != Some(&b'(') {
            return Some((Front::NONE, s));
        }
        let (prefix, rest) = envelope::long_prefix(s)?;
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
        Some(hash.upper(FACES.ilog2()))
    }

    /// Whose head begins `s`, whether it names no secret, and the message behind it.
    #[inline]
    fn face<'a>(&mut self, s: &'a [u8], front: Front) -> Option<(u32, bool, &'a [u8])> {
        let known = self.known.as_ref()?;
        let (at, face, msg) = known.lengths.iter().find_map(|len| {
            let len = usize::from(*len);
            if !s.get(..len)?.ends_with(END) {
                return None;
            }
            let slot = Self::face_slot(s, len)?;
            places(slot).find_map(|at| {
                let face = known.faces.get(at)?.as_ref()?;
                let msg = face.bytes.begin(s)?;
                (face.prefix == front.id).then_some((at, face, msg))
            })
        })?;
        if face.block == known.block {
            return Some((face.voice, face.quiet, msg));
        }
        let (face, block) = (*face, known.block);
        let head = self.head(s.get(..face.host)?, face.pid, front.outer, true);
        let voice = self.voice(Voice {
            head,
            outer: front.outer,
            tid: face.tid,
            dev: face.dev,
        });
        let known = self.known.as_mut()?;
        if let Some(Some(face)) = known.faces.get_mut(at) {
            (face.block, face.voice) = (block, voice);
        }
        Some((voice, face.quiet, msg))
    }

    /// Remembers the head that begins `s`.
    pub(super) fn meet(&mut self, s: &[u8], found: &Found<'_>, head: HeadIx, front: Front) {
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
        let voice = self.voice(Voice {
            head,
            outer: front.outer,
            tid,
            dev,
        });
        let (Some(known), Some(prefix), Some(kept)) =
            (&mut self.known, front.known(), Bytes::of(bytes))
        else {
            return;
        };
        if !known.lengths.contains(&length) {
            known.lengths.rotate_right(1);
            known.lengths[0] = length;
        }
        // A second one would take the place of another.
        let is_it = |face: &Face| face.prefix == prefix && face.bytes.are(bytes);
        let there = |at: usize| matches!(known.faces.get(at), Some(Some(face)) if is_it(face));
        if places(slot).any(there) {
            return;
        }
        let free = |at: usize| matches!(known.faces.get(at), Some(None));
        let at = place(slot, &mut known.turn, free);
        if let Some(place) = known.faces.get_mut(at) {
            *place = Some(Face {
                bytes: kept,
                prefix,
                host: found.host.len(),
                pid: found.pid,
                tid,
                dev,
                quiet: is_quiet(bytes),
                block: known.block,
                voice,
            });
        }
    }
}
