//! The front of a collective call: `AllReduce: opCount 1f sendbuff 0x7f3a2c0434eb recvbuff 0x7f3a2c0434eb count 4096`.
//! Such lines come by the million, and which operation comes next cannot be foretold, so that nothing here branches
//! on its name.

use crate::parse::bytes::{Cur, first_of, no_blanks};
use crate::parse::fact::CollOp;

/// An operation and its name as a number, the first byte lowest; 0 where a slot is free.
type Slot = (u128, CollOp);

/// The operations (`src/enqueue.cc`), each in the slot of its name.
const OPS: [Slot; SLOTS] = {
    let names: [(&[u8], CollOp); 14] = [
        (b"AllReduce", CollOp::AllReduce),
        (b"AllGather", CollOp::AllGather),
        (b"ReduceScatter", CollOp::ReduceScatter),
        (b"Reduce", CollOp::Reduce),
        (b"Broadcast", CollOp::Broadcast),
        (b"Send", CollOp::Send),
        (b"Recv", CollOp::Recv),
        (b"AlltoAll", CollOp::AlltoAll),
        (b"AllToAll", CollOp::AlltoAll),
        (b"Gather", CollOp::Gather),
        (b"Scatter", CollOp::Scatter),
        (b"PutSignal", CollOp::PutSignal),
        (b"Signal", CollOp::Signal),
        (b"WaitSignal", CollOp::WaitSignal),
    ];
    let mut slots = [(0, CollOp::AllReduce); SLOTS];
    let mut n = 0;
    while n < names.len() {
        let (bytes, op) = names[n];
        let (mut name, mut at) = (0, bytes.len());
        while at > 0 {
            at -= 1;
            name = name << 8 | bytes[at] as u128;
        }
        assert!(slots[slot(name)].0 == 0, "two names in one slot");
        slots[slot(name)] = (name, op);
        n += 1;
    }
    slots
};

/// Places for them; a power of two.
const SLOTS: usize = 16;

/// Searched for, so that no two of them stand in one place.
const FACTOR: u64 = 0x6c66_ff23_90c6_9cc3;

/// Where a name stands.
#[inline]
const fn slot(name: u128) -> usize {
    let both = name as u64 ^ (name >> 64) as u64;
    (both.wrapping_mul(FACTOR) >> (u64::BITS - SLOTS.ilog2())) as usize
}

/// The operation and its count, and the line from ` count ` on without that word.
#[inline]
pub(in crate::parse) fn call(msg: &[u8]) -> Option<(CollOp, u64, Cur<'_>)> {
    let front = u128::from_le_bytes(*msg.first_chunk()?);
    let len = first_of(b':', front)?;
    let name = front & !(u128::MAX << (len * 8));
    let (known, op) = *OPS.get(slot(name))?;
    if known != name || name == 0 {
        return None;
    }
    let mut c = Cur(msg.get(len..)?);
    c.lit(b": opCount ")?;
    let op_count = c.hex()?;
    buffers(&mut c)?;
    Some((op, op_count, c))
}

/// Goes past ` sendbuff %p recvbuff %p count `.
#[inline]
fn buffers(c: &mut Cur<'_>) -> Option<()> {
    // Mostly both are pointers in an address space of 47 bits: `0x7f3a2c0434eb`.
    if let Some((both, rest)) = c.0.split_first_chunk::<55>()
        && let (b" sendbuff ", both) = both.split_first_chunk()?
        && let (send, both) = both.split_first_chunk::<14>()?
        && let (b" recvbuff ", both) = both.split_first_chunk()?
        && let (recv, b" count ") = both.split_first_chunk::<14>()?
        && no_blanks(send)
        && no_blanks(recv)
    {
        c.0 = rest;
        return Some(());
    }
    c.lit(b" sendbuff ")?;
    c.skip_word();
    c.lit(b" recvbuff ")?;
    c.skip_word();
    c.lit(b" count ")
}
