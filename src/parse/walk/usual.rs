//! Lines that come by the million: recognised by their bytes, kept as [`Often`].

use super::{Place, Walk, offset32};
use crate::parse::bytes::{Cur, Hash, glance, offset};
use crate::parse::fact::{At, Fact, Level};
use crate::parse::head::Tail;
use crate::parse::often::{Often, Usual, Voice};
use crate::parse::{HeadIx, OuterIx, nccl, net};

/// Connections that are recognised by their bytes; a power of two.
const FORMS: usize = 1024;
/// Ends of collective calls that are; a power of two.
const CALLS: usize = 512;
/// Voices that are found at once; a power of two.
const VOICES: usize = 1024;

/// Bytes of the text that were read, and what they say: the index of a connection, the pointer of a
/// communicator.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told<T> {
    start: u32,
    end: u32,
    what: T,
}

impl<T: Copy + Default> Told<T> {
    /// What `bytes` say, if they were the last of their hash that were read. They stand `from` in the text.
    #[inline]
    fn or_read<const N: usize>(
        list: &mut Vec<Self>,
        text: &[u8],
        (bytes, from): (&[u8], usize),
        read: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let slot = usize::try_from(glance(bytes)).unwrap_or(0) & (N - 1);
        if let Some(told) = list.get(slot)
            && text.get(told.start as usize..told.end as usize) == Some(bytes)
            && told.end > 0
        {
            return Some(told.what);
        }
        let what = read()?;
        if list.is_empty() {
            list.resize(N, Self::default());
        }
        if let Some(told) = list.get_mut(slot) {
            *told = Self {
                start: offset32(from),
                end: offset32(from + bytes.len()),
                what,
            };
        }
        Some(what)
    }
}

impl Walk<'_> {
    /// Keeps the line of `tail` small, if it is one of those that come by the million. Says whether it was.
    #[inline]
    pub(super) fn usual(
        &mut self,
        head: HeadIx,
        tail: &Tail<'_>,
        at: Option<At>,
        outer: OuterIx,
        place: Place,
    ) -> bool {
        if tail.level != Level::Info || self.memo.is_none() {
            return false;
        }
        // Offsets are those of the text: copies of lines have none.
        let Some(base) = place.base else {
            return false;
        };
        let mut msg = tail.msg;
        if msg.last().is_some_and(|b| *b <= b' ') {
            msg = msg.trim_ascii_end();
        }
        let from = (place.end as usize).saturating_sub(tail.msg.len());
        let what = if msg.starts_with(b"Channel ") {
            self.form(msg, from)
        } else {
            self.call(tail, msg, from)
        };
        let Some(what) = what else { return false };
        let voice = self.voice(Voice {
            head,
            outer,
            tid: tail.tid,
            dev: tail.dev,
        });
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
    fn form(&mut self, msg: &[u8], from: usize) -> Option<Usual> {
        let mut c = Cur(msg);
        c.lit(b"Channel ")?;
        let all = c;
        let channel = c.int()?;
        let place = (c.0, from + offset(msg, c.0));
        let forms = &mut self.out.forms;
        let form = Told::or_read::<FORMS>(&mut self.forms, self.text, place, || {
            let Some(Fact::Channel(read)) = net::channel(all) else {
                return None;
            };
            forms.push(read);
            Some(offset32(forms.len() - 1))
        })?;
        Some(Usual::Channel { form, channel })
    }

    /// The collective call of `msg`, which stands at `from`: all behind its numbers is the same each time.
    #[inline]
    fn call(&mut self, tail: &Tail<'_>, msg: &[u8], from: usize) -> Option<Usual> {
        let (op, op_count, mut c) = nccl::call(msg)?;
        c.num()?;
        let place = (c.0, from + offset(msg, c.0));
        let comm =
            Told::or_read::<CALLS>(&mut self.calls, self.text, place, || {
                match nccl::fact(tail, msg) {
                    Some(Fact::Coll { comm, .. }) => Some(comm),
                    _ => None,
                }
            })?;
        Some(Usual::Call { op, op_count, comm })
    }

    /// The index of a voice, entered where it was not found at once.
    #[inline]
    fn voice(&mut self, voice: Voice) -> u32 {
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
