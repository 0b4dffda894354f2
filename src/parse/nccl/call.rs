//! The front of a collective call: `AllReduce: opCount 1f sendbuff 0x7f3a2c0434eb recvbuff 0x7f3a2c0434eb count 4096`.
//! Such lines come by the million, and which operation comes next cannot be foretold, so that nothing here branches
//! on its name.

use crate::parse::bytes::{Cur, no_blanks};
use crate::parse::fact::CollOp;

/// How the line of an operation begins: `AllReduce: opCount `.
#[derive(Clone, Copy)]
struct Front {
    /// Its bytes in words, the first one lowest, and 0 behind them.
    words: [u64; 3],
    /// Which bits of a line's words are looked at.
    mask: [u64; 3],
    len: usize,
    op: CollOp,
}

/// The operations (`src/enqueue.cc`), each in the slot of its first word.
const FRONTS: [Front; SLOTS] = {
    let names: [(&[u8], CollOp); 14] = [
        (b"AllReduce: opCount ", CollOp::AllReduce),
        (b"AllGather: opCount ", CollOp::AllGather),
        (b"ReduceScatter: opCount ", CollOp::ReduceScatter),
        (b"Reduce: opCount ", CollOp::Reduce),
        (b"Broadcast: opCount ", CollOp::Broadcast),
        (b"Send: opCount ", CollOp::Send),
        (b"Recv: opCount ", CollOp::Recv),
        (b"AlltoAll: opCount ", CollOp::AlltoAll),
        (b"AllToAll: opCount ", CollOp::AlltoAll),
        (b"Gather: opCount ", CollOp::Gather),
        (b"Scatter: opCount ", CollOp::Scatter),
        (b"PutSignal: opCount ", CollOp::PutSignal),
        (b"Signal: opCount ", CollOp::Signal),
        (b"WaitSignal: opCount ", CollOp::WaitSignal),
    ];
    // Nothing begins as a free one does.
    let free = Front {
        words: [1; 3],
        mask: [0; 3],
        len: 0,
        op: CollOp::AllReduce,
    };
    let mut fronts = [free; SLOTS];
    let mut n = 0;
    while n < names.len() {
        let (bytes, op) = names[n];
        let (mut words, mut mask, mut at) = ([0; 3], [0; 3], 0);
        while at < bytes.len() {
            words[at / 8] |= (bytes[at] as u64) << (at % 8 * 8);
            mask[at / 8] |= 0xff << (at % 8 * 8);
            at += 1;
        }
        assert!(fronts[slot(words[0])].len == 0, "two in one slot");
        let len = bytes.len();
        fronts[slot(words[0])] = Front {
            words,
            mask,
            len,
            op,
        };
        n += 1;
    }
    fronts
};

/// Places for them; a power of two.
const SLOTS: usize = 16;

/// Searched for, so that no two of them stand in one place.
const FACTOR: u64 = 0xb87e_4e2b_537d_9129;

/// Where a line that begins with this word stands.
#[inline]
const fn slot(word: u64) -> usize {
    (word.wrapping_mul(FACTOR) >> (u64::BITS - SLOTS.ilog2())) as usize
}

/// The operation and its count, and the line from ` count ` on without that word.
#[inline]
pub(in crate::parse) fn call(msg: &[u8]) -> Option<(CollOp, u64, Cur<'_>)> {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(msg.first_chunk::<24>()?.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let front = FRONTS.get(slot(words[0]))?;
    let differ = |n: usize| (words[n] & front.mask[n]) ^ front.words[n];
    if differ(0) | differ(1) | differ(2) != 0 {
        return None;
    }
    let mut c = Cur(msg.get(front.len..)?);
    let op_count = c.hex()?;
    buffers(&mut c)?;
    Some((front.op, op_count, c))
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
