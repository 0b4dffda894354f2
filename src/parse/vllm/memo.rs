//! Lines that differ in nothing but the digits of their numbers, read once.
//!
//! vLLM prints few sentences, and most of them over and over with other numbers. What no anchor is in is
//! remembered under its *shape*, the bytes with every digit turned into a `1`; so is the first anchor of what
//! has one. Only what holds for every line of a shape is remembered, so that reading with a memory finds what
//! reading without one finds, in whatever order lines come.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::{
    ANCHORS, Anchors, Hit, Outer, Read, VllmFact, fault, header, is_noise, line, searcher,
};
use crate::parse::bytes::{Hash, has, no_digits};

/// Longest line that is remembered.
const LONGEST: usize = 512;
/// Shapes remembered at a time; a power of two.
const SLOTS: usize = 2048;

/// What is known of a shape.
#[derive(Debug, Clone, Copy)]
pub(in crate::parse) enum Known {
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

#[derive(Debug, Clone, Default)]
struct Slot {
    shape: Vec<u8>,
    known: Option<Known>,
}

/// What was learnt from the lines so far.
#[derive(Debug, Clone)]
pub(in crate::parse) struct Memo {
    slots: Vec<Slot>,
    shape: [u8; LONGEST],
}

/// Where a shape is, or would be, remembered.
#[derive(Debug, Clone, Copy)]
pub(in crate::parse) struct Shape {
    slot: usize,
    len: usize,
}

impl Memo {
    pub(in crate::parse) fn new() -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS],
            shape: [0; LONGEST],
        }
    }

    /// The shape of a message; none for those that are too short or too long.
    #[inline]
    pub(in crate::parse) fn shape(&mut self, msg: &[u8]) -> Option<Shape> {
        let len = msg.len();
        if len < 8 {
            return None;
        }
        let shape = self.shape.get_mut(..len)?;
        let mut hash = Hash::new(0, len);
        let (words, _) = msg.as_chunks::<8>();
        let (to, _) = shape.as_chunks_mut::<8>();
        for (to, from) in to.iter_mut().zip(words) {
            let word = without_digits(*from);
            hash.add(word);
            *to = word.to_le_bytes();
        }
        // The last eight bytes again: no byte is looked at alone.
        if let (Some(to), Some(from)) = (shape.last_chunk_mut::<8>(), msg.last_chunk::<8>()) {
            let word = without_digits(*from);
            hash.add(word);
            *to = word.to_le_bytes();
        }
        let slot = usize::try_from(hash.end()).unwrap_or(0) & (SLOTS - 1);
        Some(Shape { slot, len })
    }

    /// What is known of the shape last made: it has two places, so that two shapes don't drive each other out.
    #[inline]
    pub(in crate::parse) fn known(&self, shape: Shape) -> Option<Known> {
        let bytes = self.shape.get(..shape.len)?;
        [shape.slot, shape.slot ^ 1].into_iter().find_map(|at| {
            let slot = self.slots.get(at)?;
            (slot.shape == bytes).then_some(slot.known)?
        })
    }

    /// Remembers what holds for every line of the shape last made, that of `msg`, if anything does.
    pub(in crate::parse) fn learn(&mut self, shape: Shape, msg: &[u8]) -> Option<Known> {
        let bytes = self.shape.get(..shape.len)?;
        let known = learnt(bytes, msg)?;
        let taken = |at: usize| self.slots.get(at).is_some_and(|s| s.known.is_some());
        let other = shape.slot ^ 1;
        let at = if taken(shape.slot) && (!taken(other) || shape.len % 2 == 1) {
            other
        } else {
            shape.slot
        };
        let slot = self.slots.get_mut(at)?;
        slot.known = Some(known);
        slot.shape.clear();
        slot.shape.extend_from_slice(bytes);
        Some(known)
    }
}

/// What `msg` says, of whose shape `known` is known; as [`line`] does.
#[inline]
pub(in crate::parse) fn said(known: Known, msg: &[u8], outer: &Outer) -> Option<VllmFact> {
    let Known::Anchor {
        body: begin,
        start,
        end,
        read,
    } = known
    else {
        return None;
    };
    let trimmed = msg.trim_ascii_end();
    let head = header(trimmed);
    let body = head.map_or(trimmed, |h| h.msg);
    // A month 99 makes no header.
    let fact = (trimmed.len() - body.len() == usize::from(begin)).then(|| {
        read(&Hit {
            msg: body,
            at: usize::from(start),
            after: body.get(usize::from(end)..).unwrap_or_default(),
            head: head.as_ref(),
            outer,
        })
    });
    fact.flatten().or_else(|| line(msg, outer))
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
fn without_digits(bytes: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    let digit = ((no_digits(word) ^ (ONES * 0x80)) >> 7) * 0xff;
    (word & !digit) | ((ONES * 0x31) & digit)
}
