//! Heads and prefixes are kept once; finding a known one allocates nothing.

use super::known::{Bytes, SHORTEST};
use super::{Walk, offset32};
use crate::parse::bytes::{has, hash, text};
use crate::parse::envelope::{self, Prefix};
use crate::parse::quiet::is_quiet;
use crate::parse::{Head, HeadIx, Outer, OuterIx};

/// A process prefix that was read, and what it is in a block.
#[derive(Debug, Clone, Default)]
#[repr(C, align(64))]
pub(super) struct Prefixed {
    pub(super) block: u64,
    pub(super) front: Front,
    pub(super) bytes: Bytes,
    outer: Outer,
}

/// What stands in front of a line, apart from its stamp.
#[derive(Debug, Clone, Copy)]
pub(super) struct Front {
    pub(super) outer: OuterIx,
    /// No word in it names a secret.
    pub(super) quiet: bool,
    /// Tells it from others in all blocks; [`Front::UNKNOWN`] where it is not remembered.
    pub(super) id: u64,
}

/// One that is not remembered.
impl Default for Front {
    fn default() -> Self {
        Self {
            outer: 0,
            quiet: false,
            id: Self::UNKNOWN,
        }
    }
}

impl Front {
    /// Nothing.
    pub(super) const NONE: Self = Self {
        outer: 0,
        quiet: true,
        id: 0,
    };
    /// None that is remembered has this number.
    const UNKNOWN: u64 = u64::MAX;

    /// Its number, if it is remembered.
    pub(super) fn known(self) -> Option<u64> {
        (self.id != Self::UNKNOWN).then_some(self.id)
    }
}

impl Walk<'_> {
    /// A process prefix that was seen in these very bytes.
    #[inline(always)]
    pub(super) fn known_prefix(&mut self, prefix: &[u8]) -> Option<Front> {
        let known = self.known.as_ref()?;
        let read = known.prefix(prefix)?;
        if read.block == known.block {
            return Some(read.front);
        }
        self.prefix_in_block(prefix)
    }

    /// A process prefix that was read in another block.
    #[cold]
    fn prefix_in_block(&mut self, prefix: &[u8]) -> Option<Front> {
        let outer = self.known.as_ref()?.prefix(prefix)?.outer.clone();
        let outer = self.outer(&Prefix::of(&outer));
        self.known.as_mut()?.set_prefix(prefix, outer)
    }

    /// A process prefix; none where more than one stands in these bytes, or something else.
    pub(super) fn seen(&mut self, prefix: &[u8]) -> Option<Front> {
        if let Some(known) = self.known_prefix(prefix) {
            return Some(known);
        }
        let p = envelope::peel(prefix, &mut self.clock);
        if !p.rest.is_empty() || p.prefix.depth != 1 {
            return None;
        }
        let mut front = Front {
            outer: self.outer(&p.prefix),
            ..Front::default()
        };
        // A short one, or one with a control or NCCL's word in it, stays unknown: its lines are looked at closely
        // each time.
        if let Some(known) = self.known.as_mut()
            && prefix.len() >= SHORTEST
            && let Some(bytes) = Bytes::of(prefix)
            && prefix.iter().all(|b| *b >= b' ')
            && !has(prefix, b"CCL ")
        {
            known.ids += 1;
            let (id, block) = (known.ids, known.block);
            front.quiet = is_quiet(prefix);
            front.id = id;
            let read = Prefixed {
                block,
                front,
                bytes,
                outer: p.prefix.to_outer(),
            };
            known.enter(prefix, read);
        }
        Some(front)
    }

    /// The index of a head, entered if it is new.
    #[inline]
    pub(super) fn head(&mut self, host: &[u8], pid: u64, outer: OuterIx, clean: bool) -> HeadIx {
        let same = |heads: &[Head], ix: u32| {
            heads
                .get(ix as usize)
                .is_some_and(|h| h.pid == Some(pid) && h.host.as_bytes() == host)
        };
        let ix = if same(&self.out.heads, self.last_head) {
            self.last_head
        } else {
            let key = hash(pid, host);
            let heads = &self.out.heads;
            match self.heads.find(key, |ix| same(heads, ix)) {
                Some(ix) => ix,
                None => {
                    let ix = offset32(self.out.heads.len());
                    self.out.heads.push(Head {
                        host: text(host),
                        pid: Some(pid),
                        clean,
                        outer,
                    });
                    let heads = &self.out.heads;
                    self.heads.enter(key, ix, |ix| {
                        heads
                            .get(ix as usize)
                            .map_or(0, |h| hash(h.pid.unwrap_or(0), h.host.as_bytes()))
                    });
                    ix
                }
            }
        };
        self.last_head = ix;
        if clean && let Some(head) = self.out.heads.get_mut(ix as usize) {
            head.clean = true;
        }
        ix
    }

    /// The index of a chain of prefixes, entered if it is new.
    #[inline]
    pub(super) fn outer(&mut self, prefix: &Prefix<'_>) -> OuterIx {
        if *prefix == Prefix::default() {
            return 0;
        }
        let same = |outers: &[Outer], ix: u32| {
            outers
                .get(ix as usize)
                .is_some_and(|o| Prefix::of(o) == *prefix)
        };
        if same(&self.out.outers, self.last_outer) {
            return self.last_outer;
        }
        let key = prefix.hash();
        let outers = &self.out.outers;
        let ix = match self.outers.find(key, |ix| same(outers, ix)) {
            Some(ix) => ix,
            None => {
                let ix = offset32(self.out.outers.len());
                self.out.outers.push(prefix.to_outer());
                let outers = &self.out.outers;
                self.outers.enter(key, ix, |ix| {
                    outers.get(ix as usize).map_or(0, |o| Prefix::of(o).hash())
                });
                ix
            }
        };
        self.last_outer = ix;
        ix
    }
}
