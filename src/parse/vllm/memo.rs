//! Lines that differ in nothing but the digits of their numbers, read once.
//!
//! vLLM prints few sentences, and most of them over and over with other numbers. What no anchor is in is
//! remembered under its *shape*, the bytes with every digit turned into a `1`; so is the first anchor of what
//! has one. Only what holds for every line of a shape is remembered, so that reading with a memory finds what
//! reading without one finds, in whatever order lines come.

use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;

use super::header::is_date;
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
    shape: Words,
    known: Known,
    /// No word in it names a secret.
    quiet: bool,
    /// What the bar last read counts, and its words.
    bar: Option<(Counted, Arc<str>)>,
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
            (slot.tag == tag && slot.shape.fit(msg)).then_some(Shape(at))
        })
    }

    /// What holds for every line of a shape.
    #[inline]
    pub(in crate::parse) fn traits(&self, Shape(at): Shape) -> Traits {
        let slot = self.slots.get(at).and_then(Option::as_ref);
        slot.map_or_else(Traits::default, |slot| Traits {
            nothing: matches!(slot.known, Known::Nothing),
            quiet: slot.quiet,
        })
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
            tag,
            shape: Words::of(&shape),
            known,
            quiet: is_quiet(msg),
            bar: None,
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
        let body = if date.is_some_and(is_date) {
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
        let fact = read(&Hit {
            msg: body,
            at: usize::from(start),
            after: body.get(usize::from(end)..).unwrap_or_default(),
            head: Front::Of(if begin > 0 { trimmed } else { b"" }),
            outer,
            bar: slot.bar.as_ref(),
        });
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
fn places(tag: u64) -> impl Iterator<Item = usize> {
    let at = usize::try_from(tag).unwrap_or(0) & (SLOTS - 1);
    (0..WAYS).map(move |way| at ^ way)
}

/// A hash of the length of a message and of some of its words, of which no digit tells: those of a shape have
/// the same one. None for messages that are too short or too long.
#[inline]
fn tag(msg: &[u8]) -> Option<u64> {
    /// What the digits have in common.
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let len = msg.len();
    if !LENGTHS.contains(&len) {
        return None;
    }
    let mut hash = Hash::new(0, len);
    let step = (len - 8) / (SAMPLES - 1);
    for n in 0..SAMPLES {
        let word = msg.get(n * step..)?.first_chunk::<8>()?;
        hash.add(u64::from_le_bytes(*word) & HIGH);
    }
    Some(hash.end())
}

/// A shape as it is compared: in pieces, the last one from the end, so that no byte is looked at alone.
#[derive(Debug, Clone)]
struct Words {
    len: usize,
    pieces: Box<[Piece]>,
}

/// A piece of a shape.
#[derive(Debug, Clone)]
struct Piece {
    /// The bytes, every digit a `0`.
    bytes: [u64; LANES],
    /// Which bits must be alike: all but the lower ones of digits.
    alike: [u64; LANES],
}

/// Words of a piece.
const LANES: usize = 4;
/// Bytes of a piece.
const PIECE: usize = LANES * 8;

/// The words of a message that a piece is compared with.
#[inline]
fn lanes(bytes: &[u8; PIECE]) -> [u64; LANES] {
    let mut lanes = [0; LANES];
    for (lane, bytes) in lanes.iter_mut().zip(bytes.as_chunks().0) {
        *lane = u64::from_le_bytes(*bytes);
    }
    lanes
}

/// A message shorter than a piece: its beginning and its end.
#[inline]
fn ends(msg: &[u8]) -> Option<[u8; PIECE]> {
    const HALF: usize = PIECE / 2;
    let (first, last) = (msg.first_chunk::<HALF>()?, msg.last_chunk::<HALF>()?);
    let mut both = [0; PIECE];
    let (a, b) = both.split_first_chunk_mut::<HALF>()?;
    *a = *first;
    b.copy_from_slice(last);
    Some(both)
}

impl Words {
    fn of(shape: &[u8]) -> Self {
        let piece = |bytes: &[u8; PIECE]| Piece {
            bytes: lanes(&bytes.map(|b| if b.is_ascii_digit() { b'0' } else { b })),
            alike: lanes(&bytes.map(|b| if b.is_ascii_digit() { 0xf0 } else { 0xff })),
        };
        let pieces = match shape.last_chunk() {
            Some(last) => {
                let (pieces, _) = shape.as_chunks();
                pieces.iter().chain([last]).map(piece).collect()
            }
            None => ends(shape).iter().map(piece).collect(),
        };
        Self {
            len: shape.len(),
            pieces,
        }
    }

    /// Whether every byte of `msg` is that of the shape, or a digit where it has one.
    #[inline]
    fn fit(&self, msg: &[u8]) -> bool {
        /// A digit's value and six more stay below sixteen; bytes that are alike give six.
        const SIX: u64 = 0x0606_0606_0606_0606;
        const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
        if msg.len() != self.len {
            return false;
        }
        let mut odds = [0; LANES];
        let mut compare = |bytes: &[u8; PIECE], piece: &Piece| {
            let words = lanes(bytes);
            for lane in 0..LANES {
                let differs = words[lane] ^ piece.bytes[lane];
                // A sum that is carried into its neighbour comes from bits that had to be alike.
                odds[lane] |= (differs & piece.alike[lane]) | (differs.wrapping_add(SIX) & HIGH);
            }
        };
        let Some(end) = self.pieces.last() else {
            return false;
        };
        match (msg.last_chunk(), ends(msg)) {
            (Some(last), _) => {
                let (pieces, _) = msg.as_chunks();
                for (bytes, piece) in pieces.iter().zip(&self.pieces) {
                    compare(bytes, piece);
                }
                compare(last, end);
            }
            (None, Some(both)) => compare(&both, end),
            (None, None) => return false,
        }
        odds == [0; LANES]
    }
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
