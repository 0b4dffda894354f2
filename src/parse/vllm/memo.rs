//! Lines that differ in nothing but the digits of their numbers, read once.
//!
//! vLLM prints few sentences, and most of them over and over with other numbers. What no anchor is in is
//! remembered under its *shape*, the bytes with every digit turned into a `1`; so is the first anchor of what
//! has one. Only what holds for every line of a shape is remembered, so that reading with a memory finds what
//! reading without one finds, in whatever order lines come.

use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;

use super::{
    ANCHORS, Anchors, Hit, Outer, Read, VllmFact, fault, header, is_noise, line, searcher,
};
use crate::parse::bytes::{Hash, has, no_digits};

/// Shortest and longest line that is remembered.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=512;
/// Shapes remembered at a time; a power of two.
const SLOTS: usize = 2048;
/// Words of a line that its place is made of.
const SAMPLES: usize = 7;

/// What is known of a shape.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// No line of it says anything.
    Nothing,
    /// The first anchor: where the message begins, where in it the anchor starts and ends, who reads it.
    Anchor {
        body: u16,
        start: u16,
        end: u16,
        read: Read,
    },
}

#[derive(Debug, Clone)]
struct Slot {
    /// The hash of the samples: most shapes that are not this one differ in it.
    tag: u64,
    shape: Box<[u8]>,
    known: Known,
    /// Words of the bar last read.
    words: Option<Arc<str>>,
}

/// What was learnt from the lines so far.
#[derive(Debug, Clone)]
pub(in crate::parse) struct Memo {
    slots: Vec<Option<Slot>>,
}

/// Where a shape is remembered.
#[derive(Debug, Clone, Copy)]
pub(in crate::parse) struct Shape(usize);

impl Memo {
    pub(in crate::parse) fn new() -> Self {
        Self {
            slots: vec![None; SLOTS],
        }
    }

    /// The shape of a message, if it is remembered. It has two places, so that two shapes don't drive each
    /// other out.
    #[inline]
    pub(in crate::parse) fn find(&self, msg: &[u8]) -> Option<Shape> {
        let tag = tag(msg)?;
        places(tag).into_iter().find_map(|at| {
            let slot = self.slots.get(at)?.as_ref()?;
            (slot.tag == tag && has_shape(msg, &slot.shape)).then_some(Shape(at))
        })
    }

    /// Remembers what holds for every line of the shape of `msg`, if anything does.
    pub(in crate::parse) fn learn(&mut self, msg: &[u8]) -> Option<Shape> {
        let tag = tag(msg)?;
        let shape: Box<[u8]> = msg.iter().map(|b| without_digit(*b)).collect();
        let known = learnt(&shape, msg)?;
        let [first, other] = places(tag);
        let taken = |at: usize| self.slots.get(at).is_some_and(Option::is_some);
        let at = if taken(first) && (!taken(other) || msg.len() % 2 == 1) {
            other
        } else {
            first
        };
        *self.slots.get_mut(at)? = Some(Slot {
            tag,
            shape,
            known,
            words: None,
        });
        Some(Shape(at))
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
            start,
            end,
            read,
        } = slot.known
        else {
            return None;
        };
        let trimmed = msg.trim_ascii_end();
        let head = header(trimmed);
        let body = head.map_or(trimmed, |h| h.msg);
        // A month 99 makes no header.
        if trimmed.len() - body.len() != usize::from(begin) {
            return line(msg, outer);
        }
        let fact = read(&Hit {
            msg: body,
            at: usize::from(start),
            after: body.get(usize::from(end)..).unwrap_or_default(),
            head: head.as_ref(),
            outer,
            words: slot.words.as_ref(),
        });
        if let Some(VllmFact::Progress(bar)) = &fact
            && slot.words.as_ref() != Some(&bar.what)
        {
            slot.words = Some(Arc::clone(&bar.what));
        }
        fact.or_else(|| line(msg, outer))
    }
}

/// Where a shape with this tag may be.
#[inline]
fn places(tag: u64) -> [usize; 2] {
    let at = usize::try_from(tag & (SLOTS as u64 - 1)).unwrap_or(0);
    [at, at ^ 1]
}

/// A hash of some words of a shape, those of its ends among them; none for messages that are too short or too
/// long.
#[inline]
fn tag(msg: &[u8]) -> Option<u64> {
    let len = msg.len();
    if !LENGTHS.contains(&len) {
        return None;
    }
    let mut hash = Hash::new(0, len);
    let step = (len - 8) / (SAMPLES - 1);
    for n in 0..SAMPLES - 1 {
        hash.add(without_digits(*msg.get(n * step..)?.first_chunk::<8>()?));
    }
    hash.add(without_digits(*msg.last_chunk::<8>()?));
    Some(hash.end())
}

/// Whether every byte of `msg` is that of `shape`, or a digit where it has one. Sixteen at a time, which the
/// compiler makes one instruction each of.
#[inline]
fn has_shape(msg: &[u8], shape: &[u8]) -> bool {
    if msg.len() != shape.len() {
        return false;
    }
    let mut odd = [0_u8; 16];
    let mut look = |msg: &[u8; 16], shape: &[u8; 16]| {
        for ((odd, byte), want) in odd.iter_mut().zip(msg).zip(shape) {
            *odd |= without_digit(*byte) ^ want;
        }
    };
    let (chunks, _) = msg.as_chunks::<16>();
    let (shapes, _) = shape.as_chunks::<16>();
    for (msg, shape) in chunks.iter().zip(shapes) {
        look(msg, shape);
    }
    // The last sixteen again: no byte is looked at alone.
    if let (Some(msg), Some(shape)) = (msg.last_chunk(), shape.last_chunk()) {
        look(msg, shape);
    }
    odd == [0; 16]
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
    // NCCL's word may have come together when a line was cleaned; no other line with it is read as vLLM's.
    if trimmed.len() < 8 || has(shape, TOO_MANY) || has(shape, b"CCL ") {
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
    let place = |at: usize| u16::try_from(at.checked_sub(begin)?).ok();
    Some(Known::Anchor {
        body: u16::try_from(begin).ok()?,
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

/// [`without_digit`] for eight of them.
#[inline]
fn without_digits(bytes: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    let digit = ((no_digits(word) ^ (ONES * 0x80)) >> 7) * 0xff;
    (word & !digit) | ((ONES * 0x31) & digit)
}
