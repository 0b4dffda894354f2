//! Heads and prefixes are kept once; finding a known one allocates nothing.

use super::Walk;
use super::offset32;
use crate::parse::bytes::{glance, hash, offset, text};
use crate::parse::envelope::{self, Prefix};
use crate::parse::fact::Level;
use crate::parse::head::{self, Tail};
use crate::parse::{Head, HeadIx, Outer, OuterIx};

/// The head of an INFO line as it was read when it stood there first: where it stands, what it says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Face {
    start: u32,
    end: u32,
    head: HeadIx,
    dev: i32,
    tid: u64,
}

/// Heads that are recognised by their bytes; a power of two.
const FACES: usize = 512;
/// `CCL INFO `
const WORD: usize = 9;

impl Walk<'_> {
    /// The head of `rest`, the end of `s`, by its bytes up to the level behind `word`, with the message. `s`
    /// stands in the text at `base`.
    #[inline]
    pub(super) fn face<'a>(
        &mut self,
        (s, base): (&[u8], u32),
        rest: &'a [u8],
        word: usize,
        outer: OuterIx,
    ) -> Option<(HeadIx, Tail<'a>)> {
        let before = offset(s, rest);
        let end = (word + WORD).checked_sub(before)?;
        let (bytes, msg) = rest.split_at_checked(end)?;
        let slot = usize::try_from(glance(bytes)).unwrap_or(0) & (FACES - 1);
        // Two places, so that two heads don't drive each other out.
        for at in [slot, slot ^ 1] {
            if let Some(face) = self.faces.get(at)
                && self.text.get(face.start as usize..face.end as usize) == Some(bytes)
            {
                let tail = Tail {
                    tid: face.tid,
                    dev: face.dev,
                    level: Level::Info,
                    src: None,
                    msg,
                };
                return Some((face.head, tail));
            }
        }
        let found = head::at(rest)?;
        let usual = found.tail.level == Level::Info
            && found.tail.src.is_none()
            && found.tail.msg.len() == msg.len();
        if !usual {
            return None;
        }
        let head = self.head(found.host, found.pid, outer, true);
        if self.faces.is_empty() {
            self.faces.resize(FACES, Face::default());
        }
        let free = self.faces.get(slot).is_none_or(|face| face.end == 0);
        let face = self.faces.get_mut(if free { slot } else { slot ^ 1 })?;
        let start = base + offset32(before);
        *face = Face {
            start,
            end: start + offset32(end),
            head,
            dev: found.tail.dev,
            tid: found.tail.tid,
        };
        Some((head, found.tail))
    }

    /// The index of a process prefix that was seen in these very bytes.
    #[inline]
    pub(super) fn seen(&mut self, prefix: &[u8]) -> Option<OuterIx> {
        let slot = usize::try_from(hash(0, prefix) & 0xff).unwrap_or(0);
        if let Some((bytes, outer)) = self.prefixes.get(slot)
            && **bytes == *prefix
        {
            return Some(*outer);
        }
        let p = envelope::peel(prefix, &mut self.clock);
        if !p.rest.is_empty() || p.prefix.depth != 1 {
            return None;
        }
        let outer = self.outer(&p.prefix);
        if self.prefixes.is_empty() {
            self.prefixes.resize_with(256, Default::default);
        }
        *self.prefixes.get_mut(slot)? = (prefix.into(), outer);
        Some(outer)
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
