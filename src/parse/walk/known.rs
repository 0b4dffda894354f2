//! What a parser learnt from the lines that it read, for those that come later.
//!
//! All of it holds for every line with the same bytes, in whichever block it stands. Indices hold for one block
//! alone: with each stands the number of the block that it was given in, and in another one it is given anew.

use super::intern::{Front, Prefixed};
use super::offset32;
use crate::parse::OuterIx;
use crate::parse::bytes::{Hash, alike, glance};
use crate::parse::fact::{Channel, Fact};
use crate::parse::vllm::Memo;

/// Most bytes that are remembered of a line at one place.
const MOST: usize = 96;

/// Bytes that lines are compared with.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Bytes {
    len: usize,
    bytes: [u8; MOST],
}

impl Default for Bytes {
    fn default() -> Self {
        Self {
            len: 0,
            bytes: [0; MOST],
        }
    }
}

impl Bytes {
    /// None for those that are too few or too many.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut kept = Self {
            len: bytes.len(),
            ..Self::default()
        };
        kept.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (bytes.len() >= 8).then_some(kept)
    }

    /// What follows these bytes in `s`, if it begins with them. Nothing begins with none.
    #[inline]
    pub(super) fn begin<'a>(&self, s: &'a [u8]) -> Option<&'a [u8]> {
        let (theirs, rest) = s.split_at_checked(self.len)?;
        alike(self.bytes.get(..self.len)?, theirs).then_some(rest)
    }

    /// Whether these are they.
    #[inline]
    pub(super) fn are(&self, s: &[u8]) -> bool {
        self.bytes.get(..self.len).is_some_and(|own| alike(own, s))
    }
}

/// Places of what has one hash; a power of two.
const WAYS: usize = 4;

/// Places in a table, where what has one hash does not drive each other out: most is found at the first.
#[inline]
pub(super) fn places(slot: usize) -> impl Iterator<Item = usize> {
    (0..WAYS).map(move |way| slot ^ way)
}

/// Which of the places of a slot is given away: a free one, or each in its turn.
pub(super) fn place(slot: usize, turn: &mut usize, free: impl Fn(usize) -> bool) -> usize {
    places(slot).find(|at| free(*at)).unwrap_or_else(|| {
        *turn = (*turn + 1) % WAYS;
        slot ^ *turn
    })
}

/// What was read, found by its first words in a text whose end is not known: `FROM` is where the words that tell
/// most begin. A power of two many.
#[derive(Debug)]
pub(super) struct Aheads<T, const N: usize, const FROM: usize> {
    slots: Vec<Ahead<T>>,
    turn: usize,
}

/// In this order all that is looked at lies together, as few of a table's bytes as can be.
#[derive(Debug)]
#[repr(C, align(64))]
struct Ahead<T> {
    what: Option<T>,
    bytes: Bytes,
}

impl<T, const N: usize, const FROM: usize> Default for Aheads<T, N, FROM> {
    fn default() -> Self {
        Self {
            slots: (0..N)
                .map(|_| Ahead {
                    what: None,
                    bytes: Bytes::default(),
                })
                .collect(),
            turn: 0,
        }
    }
}

impl<T, const N: usize, const FROM: usize> Aheads<T, N, FROM> {
    #[inline]
    fn slot(bytes: &[u8]) -> Option<usize> {
        let (near, _) = bytes.get(FROM..)?.split_first_chunk::<24>()?;
        let mut hash = Hash::new(0, 0);
        for word in near.as_chunks::<8>().0 {
            hash.add(u64::from_le_bytes(*word));
        }
        Some(hash.upper(N.ilog2()))
    }

    /// What `bytes` begin with, if it is known, and what follows that.
    #[inline(always)]
    pub(super) fn get<'a>(&mut self, bytes: &'a [u8]) -> Option<(&mut T, &'a [u8])> {
        let slot = Self::slot(bytes)?;
        let (at, rest) =
            places(slot).find_map(|at| Some((at, self.slots.get(at)?.bytes.begin(bytes)?)))?;
        Some((self.slots.get_mut(at)?.what.as_mut()?, rest))
    }

    /// Remembers what `bytes`, which end their line, say. Says whether they can be found again.
    pub(super) fn enter(&mut self, bytes: &[u8], what: T) -> bool {
        let (Some(slot), Some(known)) = (Self::slot(bytes), Bytes::of(bytes)) else {
            return false;
        };
        let free = |at| matches!(self.slots.get(at), Some(Ahead { what: None, .. }));
        let at = place(slot, &mut self.turn, free);
        if let Some(place) = self.slots.get_mut(at) {
            *place = Ahead {
                what: Some(what),
                bytes: known,
            };
        }
        true
    }
}

/// A connection, and its index in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) channel: Channel,
    pub(super) block: u64,
    pub(super) index: u32,
}

impl Form {
    /// Its index in a block, entered where it has none there.
    #[inline]
    pub(super) fn in_block(&mut self, block: u64, forms: &mut Vec<Channel>) -> u32 {
        if self.block != block {
            self.block = block;
            self.index = offset32(forms.len());
            forms.push(self.channel);
        }
        self.index
    }
}

/// A communicator that is called, and its index in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called {
    comm: u64,
    block: u64,
    index: u16,
}

impl Called {
    /// One that was not met before.
    pub(super) fn new(comm: u64) -> Self {
        Self {
            comm,
            block: 0,
            index: 0,
        }
    }

    /// Its index in a block, entered where it has none there; none where there are too many.
    #[inline]
    pub(super) fn in_block(&mut self, block: u64, comms: &mut Vec<u64>) -> Option<u16> {
        if self.block != block {
            self.index = u16::try_from(comms.len()).ok()?;
            self.block = block;
            comms.push(self.comm);
        }
        Some(self.index)
    }
}

/// The head of an INFO line behind a process prefix, and in a block the index of its voice.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Face {
    /// No word in it names a secret.
    pub(super) quiet: bool,
    pub(super) voice: u32,
    pub(super) block: u64,
    /// The process prefix: [`super::intern::Front::id`].
    pub(super) prefix: u64,
    pub(super) bytes: Bytes,
    /// Length of the host.
    pub(super) host: usize,
    pub(super) pid: u64,
    pub(super) tid: u64,
    pub(super) dev: i32,
}

/// Heads that are recognised by their bytes; a power of two.
pub(super) const FACES: usize = 512;
/// Lengths that heads have had: those of one job differ by a digit or two.
const LENGTHS: usize = 8;
/// Messages that come again word for word; a power of two.
const PLAIN: usize = 256;
/// Shortest process prefix that is remembered: `(Worker pid=12) `.
pub(super) const SHORTEST: usize = 16;
/// Process prefixes; a power of two.
const PREFIXES: usize = 256;

/// See the module.
#[derive(Debug)]
pub(in crate::parse) struct Known {
    pub(in crate::parse) memo: Memo,
    /// Number of the block that is being read.
    pub(super) block: u64,
    /// Process prefixes by their bytes.
    prefixes: Vec<Prefixed>,
    /// How many there were.
    pub(super) ids: u64,
    /// Heads by their bytes.
    pub(super) faces: Vec<Option<Face>>,
    /// Which place is given away next.
    pub(super) turn: usize,
    /// Their lengths.
    pub(super) lengths: [u16; LENGTHS],
    /// Connections, and communicators called, by the bytes at the end of the line.
    pub(super) forms: Aheads<Form, 1024, 0>,
    pub(super) calls: Aheads<Called, 512, 24>,
    /// Messages that come again word for word; whether no word in them names a secret.
    plain: Vec<Option<(Bytes, Fact, bool)>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            memo: Memo::new(),
            block: 0,
            prefixes: vec![Prefixed::default(); PREFIXES],
            ids: 0,
            faces: vec![None; FACES],
            turn: 0,
            lengths: [0; LENGTHS],
            forms: Aheads::default(),
            calls: Aheads::default(),
            plain: vec![None; PLAIN],
        }
    }
}

impl Known {
    /// Another block is read: indices of the last one are none of it.
    pub(super) fn begin(&mut self) {
        self.block += 1;
    }

    /// A process prefix that was read in these very bytes.
    #[inline(always)]
    pub(super) fn prefix(&self, prefix: &[u8]) -> Option<&Prefixed> {
        places(Self::prefix_slot(prefix)?).find_map(|at| {
            let read = self.prefixes.get(at)?;
            read.bytes.are(prefix).then_some(read)
        })
    }

    /// The same, which gets another index in the block that is read.
    pub(super) fn set_prefix(&mut self, prefix: &[u8], outer: OuterIx) -> Option<Front> {
        let block = self.block;
        let slot = Self::prefix_slot(prefix)?;
        let there =
            |at: &usize| matches!(self.prefixes.get(*at), Some(read) if read.bytes.are(prefix));
        let at = places(slot).find(there)?;
        let read = self.prefixes.get_mut(at)?;
        (read.block, read.front.outer) = (block, outer);
        Some(read.front)
    }

    /// Remembers a process prefix.
    pub(super) fn enter(&mut self, prefix: &[u8], read: Prefixed) {
        let Some(slot) = Self::prefix_slot(prefix) else {
            return;
        };
        let free =
            |at: usize| matches!(self.prefixes.get(at), Some(read) if read.front.known().is_none());
        let at = place(slot, &mut self.turn, free);
        if let Some(place) = self.prefixes.get_mut(at) {
            *place = read;
        }
    }

    /// By its last words: `TP0 pid=388) `, `pid=512, ip=10.42.1.9) `.
    #[inline]
    fn prefix_slot(prefix: &[u8]) -> Option<usize> {
        let far = prefix.len().saturating_sub(24);
        let far = prefix.get(far..far + 8)?.first_chunk()?;
        let last = u128::from_le_bytes(*prefix.last_chunk()?);
        let mut hash = Hash::new(0, 0);
        hash.add(u64::from_le_bytes(*far));
        hash.add(last as u64);
        hash.add((last >> 64) as u64);
        Some(hash.upper(PREFIXES.ilog2()))
    }

    /// What a message says that was read in these very bytes, and whether it names no secret.
    #[inline]
    pub(super) fn plain(&self, msg: &[u8]) -> Option<(&Fact, bool)> {
        let slot = usize::try_from(glance(msg)).unwrap_or(0) & (PLAIN - 1);
        let (bytes, fact, quiet) = self.plain.get(slot)?.as_ref()?;
        bytes.are(msg).then_some((fact, *quiet))
    }

    /// Remembers what a message says.
    pub(super) fn learn(&mut self, msg: &[u8], fact: Fact, quiet: bool) {
        let slot = usize::try_from(glance(msg)).unwrap_or(0) & (PLAIN - 1);
        if let (Some(place), Some(bytes)) = (self.plain.get_mut(slot), Bytes::of(msg)) {
            *place = Some((bytes, fact, quiet));
        }
    }
}
