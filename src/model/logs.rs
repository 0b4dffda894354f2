//! The kept tail of every source: a ring of lines each, bounded in all, and what was trimmed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::event::SourceId;
use crate::parse::{self, At, Block};

/// Lines kept per source.
pub const LINES_PER_SOURCE: usize = 2_000;
/// Bytes of text kept over all sources.
pub const BYTES_IN_ALL: usize = 64 << 20;

/// A line as the logs pane shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLine {
    /// Arrival order over all sources.
    pub seq: u64,
    /// Physical line number.
    pub number: u64,
    /// Stamp, when the line has one.
    pub at: Option<At>,
    /// Text without control bytes.
    pub text: Arc<str>,
}

/// The ring of one source.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// Kept lines, oldest first.
    pub lines: VecDeque<KeptLine>,
    /// Lines that were here and are not any more.
    pub trimmed: u64,
    bytes: usize,
}

/// All rings.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    rings: BTreeMap<SourceId, Ring>,
    seq: u64,
    bytes: usize,
}

impl Logs {
    /// The ring of a source.
    #[must_use]
    pub fn ring(&self, id: SourceId) -> Option<&Ring> {
        self.rings.get(&id)
    }

    /// All rings by source.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Ring)> {
        self.rings.iter().map(|(id, r)| (*id, r))
    }

    /// Keeps the tail of a block.
    pub fn keep(&mut self, source: SourceId, block: &Block) {
        let ring = self.rings.entry(source).or_default();
        let total = block.lines as usize;
        let skip = total.saturating_sub(LINES_PER_SOURCE);
        ring.trimmed += skip as u64;
        let mut rest: &[u8] = &block.text;
        // Only the tail is kept, so it is found from the end.
        if skip > 0 {
            let end = rest.len() - usize::from(rest.last() == Some(&b'\n'));
            let body = rest.get(..end).unwrap_or(rest);
            if let Some(cut) = memchr::memrchr_iter(b'\n', body).nth(LINES_PER_SOURCE - 1) {
                rest = rest.get(cut + 1..).unwrap_or_default();
            }
        }
        let mut number = block.first_line + skip as u64;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            let (line, tail) = rest.split_at(end);
            rest = tail;
            let text: Arc<str> = parse::clean(line).into();
            self.bytes += text.len();
            ring.bytes += text.len();
            ring.lines.push_back(KeptLine {
                seq: self.seq,
                number,
                at: None,
                text,
            });
            self.seq += 1;
            number += 1;
            if ring.lines.len() > LINES_PER_SOURCE {
                self.bytes -= ring.trim();
            }
        }
        while self.bytes > BYTES_IN_ALL {
            let Some(fattest) = self.rings.values_mut().max_by_key(|r| r.bytes) else {
                break;
            };
            let freed = fattest.trim();
            self.bytes -= freed;
            if freed == 0 && fattest.lines.is_empty() {
                break;
            }
        }
    }
}

impl Ring {
    fn trim(&mut self) -> usize {
        let Some(old) = self.lines.pop_front() else {
            return 0;
        };
        self.trimmed += 1;
        self.bytes -= old.text.len();
        old.text.len()
    }
}
