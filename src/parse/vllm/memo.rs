//! Lines that differ in nothing but the digits of their numbers, read once.
//!
//! vLLM prints few sentences, and most of them over and over with other numbers. What no anchor is in is
//! remembered under its *shape*, the bytes with every digit turned into a `1`; so is the first anchor of what
//! has one. Only what holds for every line of a shape is remembered, so that reading with a memory finds what
//! reading without one finds, in whatever order lines come.

use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;

use super::header::in_calendar;
use super::places::Places;
use super::{
    ANCHORS, Anchors, Counted, Front, Hit, Outer, Read, Style, VllmFact, fault, header, is_noise,
    line, searcher,
};
use crate::parse::bytes::{Hash, has};
use crate::parse::quiet::is_quiet;

/// Shortest and longest line that is remembered.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;
/// Shapes remembered at a time; a power of two.
const SLOTS: usize = 2048;
/// Places that a shape may have; a power of two.
const WAYS: usize = 4;
/// Words of a line that its tag is made of.
const SAMPLES: usize = 6;

/// What is known of a shape.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// No line of it says anything.
    Nothing,
    /// The first anchor: where the message begins, where in it the anchor starts and ends, who reads it.
    Anchor {
        body: u16,
        /// Where the date of vLLM's own header stands: such a header is one if the date is.
        date: Option<u16>,
        start: u16,
        end: u16,
        read: Read,
    },
}

#[derive(Debug, Clone)]
struct Slot {
    /// The hash of the samples: most shapes that are not this one differ in it.
    tag: u64,
    /// The [`kind`] of each byte.
    shape: Box<[u8]>,
    known: Known,
    traits: Traits,
    /// What the bar last read counts, and its words.
    bar: Option<(Counted, Arc<str>)>,
    /// Where its numbers stand, if it is of a kind that comes often; looked for in the first line that is read.
    places: Option<Box<Places>>,
    sought: bool,
}

/// What was learnt from the lines so far.
#[derive(Debug, Clone)]
pub(in crate::parse) struct Memo {
    slots: Vec<Option<Slot>>,
    /// Which of the places of a tag is given away next, where none is free.
    turn: usize,
}

/// What holds for every line of a shape.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::parse) struct Traits {
    /// None says anything.
    pub(in crate::parse) nothing: bool,
    /// None names a secret.
    pub(in crate::parse) quiet: bool,
    /// All end as a line that Ray repeats.
    pub(in crate::parse) repeats: bool,
}

/// Where a shape is remembered.
#[derive(Debug, Clone, Copy)]
pub(in crate::parse) struct Shape(usize);

impl Memo {
    pub(in crate::parse) fn new() -> Self {
        Self {
            slots: vec![None; SLOTS],
            turn: 0,
        }
    }

    /// The shape of a message, if it is remembered. It has some places, so that shapes of one tag don't drive
    /// each other out.
    #[inline]
    pub(in crate::parse) fn find(&self, msg: &[u8]) -> Option<Shape> {
        let tag = tag(msg)?;
        places(tag).find_map(|at| {
            let slot = self.slots.get(at)?.as_ref()?;
            (slot.tag == tag.sum() && fits(msg, &slot.shape)).then_some(Shape(at))
        })
    }

    /// What holds for every line of a shape.
    #[inline]
    pub(in crate::parse) fn traits(&self, Shape(at): Shape) -> Traits {
        let slot = self.slots.get(at).and_then(Option::as_ref);
        slot.map_or_else(Traits::default, |slot| slot.traits)
    }

    /// Remembers what holds for every line of the shape of `msg`, if anything does. `silent`: whatever stands
    /// in such a line, nobody reads it.
    pub(in crate::parse) fn learn(&mut self, msg: &[u8], silent: bool) -> Option<Shape> {
        let tag = tag(msg)?;
        let shape: Vec<u8> = msg.iter().map(|b| without_digit(*b)).collect();
        // NCCL's word may have come together when a line was cleaned; no other line with it is read as vLLM's.
        if has(&shape, b"CCL ") {
            return None;
        }
        let known = if silent {
            Known::Nothing
        } else {
            learnt(&shape, msg)?
        };
        let free = |at: &usize| self.slots.get(*at).is_some_and(Option::is_none);
        let turn = self.turn % WAYS;
        let at = places(tag).find(free).or(places(tag).nth(turn))?;
        self.turn = turn + 1;
        *self.slots.get_mut(at)? = Some(Slot {
            tag: tag.sum(),
            shape: msg.iter().map(|b| kind(*b)).collect(),
            known,
            traits: Traits {
                nothing: matches!(known, Known::Nothing),
                quiet: is_quiet(msg),
                repeats: msg.ends_with(b"cluster]"),
            },
            bar: None,
            places: None,
            sought: false,
        });
        Some(Shape(at))
    }

    /// What `msg` says, if it is known where the numbers of its shape stand; as [`Self::said`] does.
    #[inline]
    pub(in crate::parse) fn told(&self, Shape(at): Shape, msg: &[u8]) -> Option<VllmFact> {
        let slot = self.slots.get(at)?.as_ref()?;
        let places = slot.places.as_ref()?;
        let Known::Anchor { date, .. } = slot.known else {
            return None;
        };
        // A month 99 makes no header.
        let dated = |at: u16| msg.get(usize::from(at)..).is_some_and(in_calendar);
        date.is_none_or(dated)
            .then(|| places.read(msg, slot.bar.as_ref()))?
    }

    /// What `msg` says, whose shape is remembered; as [`line`] does.
    #[inline]
    pub(in crate::parse) fn said(
        &mut self,
        Shape(at): Shape,
        msg: &[u8],
        outer: &Outer,
    ) -> Option<VllmFact> {
        let slot = self.slots.get_mut(at)?.as_mut()?;
        let Known::Anchor {
            body: begin,
            date,
            start,
            end,
            read,
        } = slot.known
        else {
            return None;
        };
        let trimmed = msg.trim_ascii_end();
        let date = date.and_then(|at| trimmed.get(usize::from(at)..));
        let body = if date.is_some_and(in_calendar) {
            trimmed.get(usize::from(begin)..).unwrap_or_default()
        } else {
            // Where the shape has no header, no line of it has.
            let head = if begin > 0 { header(trimmed) } else { None };
            head.map_or(trimmed, |h| h.msg)
        };
        // A month 99 makes no header.
        if trimmed.len() - body.len() != usize::from(begin) {
            return line(msg, outer);
        }
        let hit = Hit {
            msg: body,
            at: usize::from(start),
            after: body.get(usize::from(end)..).unwrap_or_default(),
            head: Front::Of(if begin > 0 { trimmed } else { b"" }),
            outer,
            bar: slot.bar.as_ref(),
        };
        let fact = read(&hit);
        if !slot.sought && (begin == 0 || date.is_some()) {
            slot.sought = true;
            slot.places = fact
                .as_ref()
                .and_then(|fact| Places::of(trimmed, &hit, fact))
                .map(Box::new);
        }
        if let Some(VllmFact::Progress(bar)) = &fact
            && !(slot.bar.as_ref()).is_some_and(|(_, words)| Arc::ptr_eq(words, &bar.what))
        {
            slot.bar = Some((bar.counted, Arc::clone(&bar.what)));
        }
        fact.or_else(|| line(msg, outer))
    }
}

/// Where a shape with this tag may be.
#[inline]
fn places(tag: Hash) -> impl Iterator<Item = usize> {
    let at = tag.upper(SLOTS.ilog2());
    (0..WAYS).map(move |way| at ^ way)
}

/// A hash of the length of a message and of some of its words, of which no digit tells: those of a shape have
/// the same one. None for messages that are too short or too long.
#[inline]
fn tag(msg: &[u8]) -> Option<Hash> {
    /// What the digits have in common.
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let len = msg.len();
    if !LENGTHS.contains(&len) {
        return None;
    }
    let step = (len - 8) / (SAMPLES - 1);
    let half = |n: usize| {
        let word = msg.get(n * step..n * step + 8)?.first_chunk()?;
        Some(u64::from_le_bytes(*word) & HIGH)
    };
    let mut hash = Hash::new(0, len);
    for n in (0..SAMPLES).step_by(2) {
        hash.add(half(n)? | half(n + 1)? >> 4);
    }
    Some(hash)
}

/// Bytes compared at a time.
const PIECE: usize = 32;

/// The same for all digits, and another for every other byte.
#[inline]
fn kind(byte: u8) -> u8 {
    (byte ^ b'0').saturating_sub(9)
}

/// In what a piece of a message differs from its shape, beside other odds.
#[inline]
fn odds<const N: usize>(mut odds: [u8; N], bytes: &[u8; N], shape: &[u8; N]) -> [u8; N] {
    for n in 0..N {
        odds[n] |= kind(bytes[n]) ^ shape[n];
    }
    odds
}

/// Whether every byte of `msg` is that of the shape, or a digit where it has one: compared in pieces, the last one
/// from the end, so that no byte is looked at alone.
#[inline]
fn fits(msg: &[u8], shape: &[u8]) -> bool {
    if msg.len() != shape.len() {
        return false;
    }
    if let (Some(last), Some(end)) = (msg.last_chunk(), shape.last_chunk()) {
        let pieces = msg.as_chunks().0.iter().zip(shape.as_chunks().0);
        let whole = pieces.fold([0; PIECE], |all, (bytes, piece)| odds(all, bytes, piece));
        return odds(whole, last, end) == [0; PIECE];
    }
    let alike = |bytes: Option<&_>, piece: Option<&_>| {
        let both = bytes.zip(piece);
        both.is_some_and(|(bytes, piece)| odds([0; PIECE / 2], bytes, piece) == [0; PIECE / 2])
    };
    alike(msg.first_chunk(), shape.first_chunk()) && alike(msg.last_chunk(), shape.last_chunk())
}

/// The anchors by their shapes: whatever stands in a line stands, by its shape, in the line's shape.
static SHAPES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let shapes = Anchors::table()
        .into_iter()
        .map(|(anchor, _)| anchor.replace(|c: char| c.is_ascii_digit(), "1"));
    searcher(shapes)
});

/// Digits in a row that may be more than a number holds.
const TOO_MANY: &[u8] = b"1111111111";

fn learnt(shape: &[u8], msg: &[u8]) -> Option<Known> {
    let any = SHAPES.as_ref()?;
    let trimmed = msg.trim_ascii_end();
    let shape = shape.get(..trimmed.len())?;
    if trimmed.len() < 8 || has(shape, TOO_MANY) {
        return None;
    }
    let head = header(trimmed);
    // Every line of the shape must have its header where this one has it, or none; a front is a second text
    // in which something may stand.
    if head.is_some() != header(shape).is_some() || head.is_some_and(|h| !h.front.is_empty()) {
        return None;
    }
    let body = head.map_or(trimmed, |h| h.msg);
    let noise = is_noise(body, head.as_ref());
    if noise || fault::ends_traceback(body) || fault::ends_traceback(trimmed) {
        return None;
    }
    let Some(first) = any.find(shape) else {
        return Some(Known::Nothing);
    };
    // With a digit in it, it may be another anchor's shape, or nobody's.
    let anchor = shape.get(first.range())?;
    if anchor.contains(&b'1') {
        return None;
    }
    let begin = trimmed.len() - body.len();
    let date = head
        .filter(|head| head.style == Style::Vllm)
        .and_then(|_| trimmed.iter().position(u8::is_ascii_digit));
    let place = |at: usize| u16::try_from(at.checked_sub(begin)?).ok();
    Some(Known::Anchor {
        body: u16::try_from(begin).ok()?,
        date: date.and_then(|at| u16::try_from(at).ok()),
        start: place(first.start())?,
        end: place(first.end())?,
        read: ANCHORS.reader(anchor)?,
    })
}

/// Every digit a `1`: such a date is a date, such a number a number.
#[inline]
fn without_digit(byte: u8) -> u8 {
    if byte.is_ascii_digit() { b'1' } else { byte }
}
