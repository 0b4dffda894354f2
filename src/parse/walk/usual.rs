//! Lines that come by the million: recognised by their bytes, kept as [`Often`].

use super::known::{Called, Form};
use super::{Place, Walk, offset32};
use crate::parse::bytes::{Cur, Hash};
use crate::parse::fact::{At, Fact};
use crate::parse::head::Tail;
use crate::parse::often::{Moment, Often, Usual, Voice};
use crate::parse::{nccl, net};

/// Voices that are found at once; a power of two.
const VOICES: usize = 1024;

impl Walk<'_> {
    /// What `msg` says, which goes on behind its line, if all but its numbers was read before; and what follows
    /// it, from the end of the line on.
    #[inline]
    pub(super) fn ahead<'a>(&mut self, msg: &'a [u8]) -> Option<(Usual, &'a [u8])> {
        let known = self.known.as_mut()?;
        let mut c = Cur(msg);
        if c.eat(b"Channel ") {
            let channel = number(&mut c)?;
            let (form, rest) = known.forms.get(c.0)?;
            return rest.starts_with(b"\n").then(|| {
                let form = form.in_block(known.block, &mut self.out.forms);
                (Usual::Channel { form, channel }, rest)
            });
        }
        let (op, op_count, mut c) = nccl::call(msg)?;
        c.num()?;
        let (called, rest) = known.calls.get(c.0)?;
        if !rest.starts_with(b"\n") {
            return None;
        }
        let comm = called.in_block(known.block, &mut self.out.comms)?;
        let op_count = u32::try_from(op_count).ok()?;
        Some((Usual::Call { op, comm, op_count }, rest))
    }

    /// Keeps the line at `place`, which holds one head with this tail and nothing else, small, if its message is
    /// one of those that come by the million. Says whether it was.
    pub(super) fn usual(
        &mut self,
        voice: u32,
        tail: &Tail<'_>,
        at: Option<At>,
        place: Place,
    ) -> bool {
        // Offsets are those of the text: copies of lines have none.
        let Some(base) = place.base else {
            return false;
        };
        let msg = tail.msg.trim_ascii_end();
        let what = if msg.starts_with(b"Channel ") {
            self.form(msg)
        } else {
            self.call(msg, tail)
        };
        let Some(what) = what else { return false };
        let Some(often) = often(place.line, (base, place.end), voice, at, what) else {
            return false;
        };
        self.hush(base, place.end);
        self.out.often.push(often);
        true
    }

    /// The connection that `msg` names; read once for all its lines.
    fn form(&mut self, msg: &[u8]) -> Option<Usual> {
        let known = self.known.as_mut()?;
        let forms = &mut self.out.forms;
        let mut c = Cur(msg);
        c.lit(b"Channel ")?;
        let all = c;
        let channel = number(&mut c)?;
        if let Some((form, [])) = known.forms.get(c.0) {
            let form = form.in_block(known.block, forms);
            return Some(Usual::Channel { form, channel });
        }
        let Some(Fact::Channel(read)) = net::channel(all) else {
            return None;
        };
        let form = offset32(forms.len());
        let entered = Form {
            channel: read,
            block: known.block,
            index: form,
        };
        if !known.forms.enter(c.0, entered) {
            return None;
        }
        forms.push(read);
        Some(Usual::Channel { form, channel })
    }

    /// The collective call of `msg`: all behind its numbers is the same each time.
    fn call(&mut self, msg: &[u8], tail: &Tail<'_>) -> Option<Usual> {
        let known = self.known.as_mut()?;
        let (op, op_count, mut c) = nccl::call(msg)?;
        c.num()?;
        let (block, comms) = (known.block, &mut self.out.comms);
        let comm = match known.calls.get(c.0) {
            Some((called, [])) => called.in_block(block, comms)?,
            _ => {
                let Some(Fact::Coll { comm, .. }) = nccl::fact(tail, msg) else {
                    return None;
                };
                let mut called = Called::new(comm);
                let index = called.in_block(block, comms)?;
                known.calls.enter(c.0, called);
                index
            }
        };
        let op_count = u32::try_from(op_count).ok()?;
        Some(Usual::Call { op, comm, op_count })
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

/// A line from where to where and whose it is, if all of that fits.
#[inline(always)]
pub(super) fn often(
    line: u32,
    (start, end): (u32, u32),
    voice: u32,
    at: Option<At>,
    what: Usual,
) -> Option<Often> {
    Some(Often {
        at: Moment::of(at)?,
        what,
        line,
        start,
        len: u16::try_from(end.checked_sub(start)?).ok()?,
        voice: u16::try_from(voice).ok()?,
    })
}

/// A channel's number, which has two digits at least and seldom more.
#[inline(always)]
fn number(c: &mut Cur<'_>) -> Option<u16> {
    if let Some(([a @ b'0'..=b'9', b @ b'0'..=b'9'], rest @ [b'/' | b' ', ..])) =
        c.0.split_first_chunk()
    {
        c.0 = rest;
        return Some(u16::from((a - b'0') * 10 + (b - b'0')));
    }
    c.int()
}
