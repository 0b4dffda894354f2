//! Lines that come by the million: recognised by their bytes, kept as [`Often`].

use super::{Place, Walk, offset32};
use crate::parse::bytes::{Cur, Hash, glance, offset};
use crate::parse::fact::{At, Fact};
use crate::parse::head::Tail;
use crate::parse::often::{Often, Usual, Voice};
use crate::parse::{nccl, net};

/// Voices that are found at once; a power of two.
const VOICES: usize = 1024;

/// Bytes of the text that were read, and what they say: the index of a connection, the pointer of a
/// communicator.
#[derive(Debug, Clone, Copy, Default)]
struct Told<T> {
    start: u32,
    end: u32,
    what: T,
}

/// The last of each hash that were read; a power of two many.
#[derive(Debug)]
pub(super) struct Tolds<T, const N: usize>(Vec<Told<T>>);

impl<T, const N: usize> Default for Tolds<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Default, const N: usize> Tolds<T, N> {
    #[inline]
    fn slot(bytes: &[u8]) -> usize {
        usize::try_from(glance(bytes)).unwrap_or(0) & (N - 1)
    }

    /// What `bytes` say, if they stand in `text` where they were read.
    #[inline]
    pub(super) fn get(&self, text: &[u8], bytes: &[u8]) -> Option<T> {
        let told = self.0.get(Self::slot(bytes))?;
        let same = text.get(told.start as usize..told.end as usize) == Some(bytes);
        (same && told.end > 0).then_some(told.what)
    }

    /// Remembers what `bytes`, which stand `from` in the text, say.
    pub(super) fn enter(&mut self, bytes: &[u8], from: usize, what: T) {
        if self.0.is_empty() {
            self.0.resize(N, Told::default());
        }
        if let Some(told) = self.0.get_mut(Self::slot(bytes)) {
            *told = Told {
                start: offset32(from),
                end: offset32(from + bytes.len()),
                what,
            };
        }
    }
}

/// The same, found by their first words in a text whose end is not known: `FROM` is where the words that tell
/// most begin.
#[derive(Debug)]
pub(super) struct Aheads<T, const N: usize, const FROM: usize>(Vec<Told<T>>);

impl<T, const N: usize, const FROM: usize> Default for Aheads<T, N, FROM> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + Default, const N: usize, const FROM: usize> Aheads<T, N, FROM> {
    #[inline]
    fn slot(bytes: &[u8]) -> Option<usize> {
        let (near, _) = bytes.get(FROM..)?.split_first_chunk::<24>()?;
        let mut hash = Hash::new(0, 0);
        for word in near.as_chunks::<8>().0 {
            hash.add(u64::from_le_bytes(*word));
        }
        Some(usize::try_from(hash.end()).unwrap_or(0) & (N - 1))
    }

    /// What `bytes` begin with, if it is all up to the end of a line; and what follows it, from that end on.
    #[inline]
    fn get<'a>(&self, text: &[u8], bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
        let slot = Self::slot(bytes)?;
        // Two places: some differ behind their first words only.
        [slot, slot ^ 1].into_iter().find_map(|slot| {
            let told = self.0.get(slot).filter(|told| told.end > 0)?;
            let known = text.get(told.start as usize..told.end as usize)?;
            let rest = bytes.strip_prefix(known)?;
            (rest.first() == Some(&b'\n')).then_some((told.what, rest))
        })
    }

    /// Remembers what `bytes`, which stand `from` in the text and end their line, say.
    fn enter(&mut self, bytes: &[u8], from: usize, what: T) {
        let Some(slot) = Self::slot(bytes) else {
            return;
        };
        if self.0.is_empty() {
            self.0.resize(N, Told::default());
        }
        let old = self.0.get(slot).copied().unwrap_or_default();
        if let Some(other) = self.0.get_mut(slot ^ 1) {
            *other = old;
        }
        if let Some(told) = self.0.get_mut(slot) {
            *told = Told {
                start: offset32(from),
                end: offset32(from + bytes.len()),
                what,
            };
        }
    }
}

impl Walk<'_> {
    /// What `msg` says, which goes on behind its line, if all but its numbers was read before; and what follows
    /// it, from the end of the line on.
    #[inline]
    pub(super) fn ahead<'a>(&self, msg: &'a [u8]) -> Option<(Usual, &'a [u8])> {
        let mut c = Cur(msg);
        if c.eat(b"Channel ") {
            let channel = c.int()?;
            let (form, rest) = self.next_forms.get(self.text, c.0)?;
            return Some((Usual::Channel { form, channel }, rest));
        }
        let (op, op_count, mut c) = nccl::call(msg)?;
        c.num()?;
        let (comm, rest) = self.next_calls.get(self.text, c.0)?;
        Some((Usual::Call { op, op_count, comm }, rest))
    }

    /// Keeps the line at `place` small, if its message is one of those that come by the million. Says whether
    /// it was. With `new`, the tail of a head in a line that holds nothing else, the message may be one that
    /// was never read.
    #[inline]
    pub(super) fn usual(
        &mut self,
        voice: u32,
        msg: &[u8],
        at: Option<At>,
        place: Place,
        new: Option<&Tail<'_>>,
    ) -> bool {
        // Offsets are those of the text: copies of lines have none.
        let Some(base) = place.base else {
            return false;
        };
        let from = (place.end as usize).saturating_sub(msg.len());
        let mut msg = msg;
        if msg.last().is_some_and(|b| *b <= b' ') {
            if new.is_none() {
                return false;
            }
            msg = msg.trim_ascii_end();
        }
        let what = if msg.starts_with(b"Channel ") {
            self.form(msg, from, new.is_some())
        } else {
            self.call(msg, from, new)
        };
        let Some(what) = what else { return false };
        self.hush(base, place.end);
        self.out.often.push(Often {
            line: place.line,
            start: base,
            end: place.end,
            voice,
            at,
            what,
        });
        true
    }

    /// The connection that `msg`, which stands at `from`, names; read once for all its lines.
    #[inline]
    fn form(&mut self, msg: &[u8], from: usize, new: bool) -> Option<Usual> {
        let mut c = Cur(msg);
        c.lit(b"Channel ")?;
        let all = c;
        let channel = c.int()?;
        let form = match self.forms.get(self.text, c.0) {
            Some(form) => form,
            None if new => {
                let Some(Fact::Channel(read)) = net::channel(all) else {
                    return None;
                };
                let form = offset32(self.out.forms.len());
                self.out.forms.push(read);
                self.forms.enter(c.0, from + offset(msg, c.0), form);
                form
            }
            None => return None,
        };
        self.next_forms.enter(c.0, from + offset(msg, c.0), form);
        Some(Usual::Channel { form, channel })
    }

    /// The collective call of `msg`, which stands at `from`: all behind its numbers is the same each time.
    #[inline]
    fn call(&mut self, msg: &[u8], from: usize, new: Option<&Tail<'_>>) -> Option<Usual> {
        let (op, op_count, mut c) = nccl::call(msg)?;
        c.num()?;
        let comm = match (self.calls.get(self.text, c.0), new) {
            (Some(comm), _) => comm,
            (None, Some(tail)) => {
                let Some(Fact::Coll { comm, .. }) = nccl::fact(tail, msg) else {
                    return None;
                };
                self.calls.enter(c.0, from + offset(msg, c.0), comm);
                comm
            }
            (None, None) => return None,
        };
        self.next_calls.enter(c.0, from + offset(msg, c.0), comm);
        Some(Usual::Call { op, op_count, comm })
    }

    /// The index of a voice, entered where it was not found at once.
    #[inline]
    pub(super) fn voice(&mut self, voice: Voice) -> u32 {
        let mut mixed = Hash::new(voice.tid, 0);
        mixed.add(u64::from(voice.outer) << 32 | u64::from(voice.head));
        let slot = usize::try_from(mixed.end()).unwrap_or(0) & (VOICES - 1);
        if let Some(at) = self.voices.get(slot).copied()
            && self.out.voices.get(at as usize) == Some(&voice)
        {
            return at;
        }
        let at = offset32(self.out.voices.len());
        self.out.voices.push(voice);
        if self.voices.is_empty() {
            self.voices.resize(VOICES, u32::MAX);
        }
        if let Some(slot) = self.voices.get_mut(slot) {
            *slot = at;
        }
        at
    }
}
