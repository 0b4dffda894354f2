//! The kept tail of every source: a ring of lines each, bounded in all, and what was trimmed.
//!
//! What the logs pane shows of it (filtered, repeats folded, all sources merged by time) is kept up to date line by
//! line, so that a frame asks for the rows it draws and for nothing else. Rows are numbered from the first line
//! that was ever shown through this lens: a row keeps its number when older ones are trimmed.

mod query;
mod records;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::event::SourceId;
use crate::parse::{self, At, Block, Nanos};
pub use query::{Bad, Query, stamp};
use records::Records;

/// Lines kept per source.
pub const LINES_PER_SOURCE: usize = 2_000;
/// Bytes of text kept over all sources.
pub const BYTES_IN_ALL: usize = 64 << 20;
/// Troubles among which one of the same record is looked for: as many processes may speak in between.
const NEAR: usize = 16;
/// Rows from the end that are found by walking back; further up they are found by bisection.
const NEAR_THE_END: usize = 2_048;

/// A line as the logs pane shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLine {
    /// Arrival order over all sources.
    pub seq: u64,
    /// Physical line number.
    pub number: u64,
    /// Number of the first line of its record: its own, unless it goes on with what its process said before.
    pub record: u64,
    /// Stamp, when the line has one.
    pub at: Option<At>,
    /// Text without control bytes.
    pub text: Arc<str>,
    /// Its own stamp or that of the line before it: what sources are merged by.
    order: Nanos,
    /// Whether it tells of trouble.
    pub bad: Option<Bad>,
    /// The line before it in the source says the same, numbers aside.
    same: bool,
}

impl KeptLine {
    /// Place in the merged order.
    const fn key(&self) -> Key {
        (self.order, self.seq)
    }
}

type Key = (Nanos, u64);

/// The ring of one source.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// Kept lines, oldest first.
    pub lines: VecDeque<KeptLine>,
    /// Lines that were here and are not any more.
    pub trimmed: u64,
    bytes: usize,
    /// How many lines left the ring: the local number of its first one.
    base: u64,
    /// Local numbers of the lines that the lens shows.
    shown: VecDeque<u64>,
    /// Those of them that tell of trouble.
    bad: VecDeque<u64>,
    records: Records,
    /// The source's name passes the lens.
    open: bool,
}

/// A row of the logs pane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Its number.
    pub number: usize,
    /// Where it comes from.
    pub source: SourceId,
    /// The line.
    pub line: &'a KeptLine,
    /// How many alike lines it stands for, itself included.
    pub times: usize,
}

/// All rings.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    rings: BTreeMap<SourceId, Ring>,
    names: BTreeMap<SourceId, String>,
    seq: u64,
    bytes: usize,
    query: Query,
    unfold: bool,
    /// Rows that were shown through this lens and are trimmed.
    gone: usize,
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

    /// A source and the name that `in:` in a filter asks for.
    pub fn name(&mut self, id: SourceId, name: &str) {
        self.names.insert(id, name.to_owned());
        let open = self.query.source(name);
        let ring = self.rings.entry(id).or_default();
        ring.open = open;
    }

    /// Looks at the lines through a filter; repeats are folded unless `unfold`.
    pub fn look(&mut self, filter: &str, unfold: bool) {
        if self.query.text() == filter && self.unfold == unfold {
            return;
        }
        self.query = Query::of(filter);
        self.unfold = unfold;
        self.gone = 0;
        for (id, ring) in &mut self.rings {
            ring.open = self
                .query
                .source(self.names.get(id).map_or("", String::as_str));
            ring.shown.clear();
            ring.bad.clear();
            for i in 0..ring.lines.len() {
                ring.show(i, &self.query, unfold);
            }
        }
    }

    /// Keeps the tail of a block.
    pub fn keep(&mut self, source: SourceId, block: &Block) {
        let known = self.rings.contains_key(&source);
        let ring = self.rings.entry(source).or_default();
        if !known {
            ring.open = self
                .query
                .source(self.names.get(&source).map_or("", String::as_str));
        }
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
        // Lines without a stamp come when the lines around them do.
        let mut order = ring.lines.back().map_or(Nanos::MIN, |l| l.order);
        order = order.max(block.first_at.map_or(Nanos::MIN, |a| a.ns));
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            let (line, tail) = rest.split_at(end);
            rest = tail;
            let text: Arc<str> = parse::clean(line).into();
            let at = stamp(&text);
            order = order.max(at.map_or(Nanos::MIN, |a| a.ns));
            self.bytes += text.len();
            ring.bytes += text.len();
            let same = ring
                .lines
                .back()
                .is_some_and(|l| query::alike(&l.text, &text));
            let bad = Bad::of(&text);
            let record = ring.records.of(number, &text);
            ring.lines.push_back(KeptLine {
                seq: self.seq,
                number,
                record,
                at,
                text,
                order,
                bad,
                same,
            });
            ring.show(ring.lines.len() - 1, &self.query, self.unfold);
            self.seq += 1;
            number += 1;
            if ring.lines.len() > LINES_PER_SOURCE {
                self.bytes -= ring.trim(&self.query, &mut self.gone);
            }
        }
        while self.bytes > BYTES_IN_ALL {
            let Some(fattest) = self.rings.values_mut().max_by_key(|r| r.bytes) else {
                break;
            };
            let freed = fattest.trim(&self.query, &mut self.gone);
            self.bytes -= freed;
            if freed == 0 && fattest.lines.is_empty() {
                break;
            }
        }
    }

    /// Number of the first row that is still there.
    #[must_use]
    pub fn first(&self) -> usize {
        self.gone
    }

    /// Rows that the lens shows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rings.values().map(|r| r.shown.len()).sum()
    }

    /// Lines kept, and lines that were kept once.
    #[must_use]
    pub fn held(&self) -> (usize, u64) {
        let kept = self.rings.values().map(|r| r.lines.len()).sum();
        (kept, self.rings.values().map(|r| r.trimmed).sum())
    }

    /// What is wrong with the filter, if it can't be read as it was meant.
    #[must_use]
    pub fn complaint(&self) -> Option<&str> {
        self.query.complaint()
    }

    /// At most `n` rows from row `top` on.
    #[must_use]
    pub fn window(&self, top: usize, n: usize) -> Vec<Row<'_>> {
        let total = self.rows();
        let at = top.saturating_sub(self.gone).min(total);
        let n = n.min(total - at);
        let starts = if total - at <= NEAR_THE_END {
            self.back(total - at)
        } else {
            self.bisect(at)
        };
        let mut heap: BinaryHeap<Reverse<(Key, SourceId, usize)>> = BinaryHeap::new();
        for (id, start) in &starts {
            heap.extend(
                self.rings
                    .get(id)
                    .and_then(|r| r.key(*start))
                    .map(|k| Reverse((k, *id, *start))),
            );
        }
        let mut out = Vec::with_capacity(n);
        while let (true, Some(Reverse((_, id, i)))) = (out.len() < n, heap.pop()) {
            let Some(ring) = self.rings.get(&id) else {
                break;
            };
            if let Some(line) = ring.shown_line(i) {
                let times = if self.unfold { 1 } else { ring.times(i) };
                out.push(Row {
                    number: self.gone + at + out.len(),
                    source: id,
                    line,
                    times,
                });
            }
            heap.extend(ring.key(i + 1).map(|k| Reverse((k, id, i + 1))));
        }
        out
    }

    /// For each ring, where its part of the last `n` rows begins.
    fn back(&self, n: usize) -> Vec<(SourceId, usize)> {
        let mut starts: BTreeMap<SourceId, usize> = self
            .rings
            .iter()
            .map(|(id, r)| (*id, r.shown.len()))
            .collect();
        let last = |id: SourceId, end: usize| {
            let i = end.checked_sub(1)?;
            Some((self.rings.get(&id)?.key(i)?, id, i))
        };
        let mut heap: BinaryHeap<(Key, SourceId, usize)> =
            starts.iter().filter_map(|(id, n)| last(*id, *n)).collect();
        for _ in 0..n {
            let Some((_, id, i)) = heap.pop() else { break };
            starts.insert(id, i);
            heap.extend(last(id, i));
        }
        starts.into_iter().collect()
    }

    /// For each ring, where its part of the rows from the `n`-th on begins.
    fn bisect(&self, n: usize) -> Vec<(SourceId, usize)> {
        let before = |key: Key| -> usize { self.rings.values().map(|r| r.before(key)).sum() };
        let ends = self
            .rings
            .values()
            .filter_map(|r| Some((r.key(0)?, r.key(r.shown.len() - 1)?)));
        let (mut low, mut high) = ends.fold(
            ((Nanos::MAX, u64::MAX), (Nanos::MIN, 0)),
            |(l, h), (a, b)| (l.min(a), h.max(b)),
        );
        // The time first, then the arrival among lines of one time: the largest key with at most n rows before it.
        while low.0 < high.0 {
            let middle = low.0 + (high.0.saturating_sub(low.0)) / 2 + 1;
            if before((middle, 0)) <= n {
                low.0 = middle
            } else {
                high.0 = middle - 1
            }
        }
        (low.1, high.1) = (0, self.seq);
        while low.1 < high.1 {
            let middle = low.1 + (high.1 - low.1).div_ceil(2);
            if before((low.0, middle)) <= n {
                low.1 = middle
            } else {
                high.1 = middle - 1
            }
        }
        let key = (low.0, low.1);
        self.rings
            .iter()
            .map(|(id, r)| (*id, r.before(key)))
            .collect()
    }

    /// All kept lines of the record that a row belongs to, the row's own among them.
    #[must_use]
    pub fn record(&self, row: &Row<'_>) -> Vec<&KeptLine> {
        let lines = self.rings.get(&row.source).map(|r| &r.lines);
        let of = |l: &&KeptLine| l.record == row.line.record;
        lines.into_iter().flatten().filter(of).collect()
    }

    /// Row of the next line that tells of trouble after (or before) a row.
    #[must_use]
    pub fn trouble(&self, row: usize, forward: bool) -> Option<usize> {
        let here = self.window(row, 1).first().map(|r| r.line.key())?;
        let found = if forward {
            self.rings.values().filter_map(|r| r.bad_after(here)).min()
        } else {
            self.rings.values().filter_map(|r| r.bad_before(here)).max()
        };
        found.map(|key| self.gone + self.rings.values().map(|r| r.before(key)).sum::<usize>())
    }
}

impl Ring {
    /// The line with this local number.
    fn local(&self, n: u64) -> Option<&KeptLine> {
        self.lines
            .get(usize::try_from(n.checked_sub(self.base)?).ok()?)
    }

    fn shown_line(&self, i: usize) -> Option<&KeptLine> {
        self.local(*self.shown.get(i)?)
    }

    fn key(&self, i: usize) -> Option<Key> {
        self.shown_line(i).map(KeptLine::key)
    }

    /// Shown lines in front of a key.
    fn before(&self, key: Key) -> usize {
        self.shown
            .partition_point(|n| self.local(*n).is_some_and(|l| l.key() < key))
    }

    fn bad_after(&self, key: Key) -> Option<Key> {
        let i = self
            .bad
            .partition_point(|n| self.local(*n).is_some_and(|l| l.key() <= key));
        self.bad
            .get(i)
            .and_then(|n| self.local(*n))
            .map(KeptLine::key)
    }

    fn bad_before(&self, key: Key) -> Option<Key> {
        let i = self
            .bad
            .partition_point(|n| self.local(*n).is_some_and(|l| l.key() < key));
        self.bad
            .get(i.checked_sub(1)?)
            .and_then(|n| self.local(*n))
            .map(KeptLine::key)
    }

    /// How many alike lines a shown one stands for.
    fn times(&self, i: usize) -> usize {
        let Some(first) = self.shown.get(i) else {
            return 1;
        };
        let at = usize::try_from(first - self.base).unwrap_or(usize::MAX);
        1 + self
            .lines
            .iter()
            .skip(at.saturating_add(1))
            .take_while(|l| l.same)
            .count()
    }

    /// Shows the line at an index if the lens lets it through.
    fn show(&mut self, i: usize, query: &Query, unfold: bool) {
        let Some(line) = self.lines.get(i) else {
            return;
        };
        if self.open && (unfold || !line.same) && query.line(&line.text) {
            let n = self.base + i as u64;
            self.shown.push_back(n);
            // A traceback is one trouble, however many lines it has and whoever speaks in between.
            let before = self.bad.iter().rev().take(NEAR);
            let told = || {
                let mut records = before.filter_map(|b| self.local(*b)).map(|l| l.record);
                records.any(|record| record == line.record)
            };
            if line.bad.is_some() && !told() {
                self.bad.push_back(n);
            }
        }
    }

    /// Drops the oldest line; gives the bytes that it held.
    fn trim(&mut self, query: &Query, gone: &mut usize) -> usize {
        let Some(old) = self.lines.pop_front() else {
            return 0;
        };
        let n = self.base;
        self.base += 1;
        let was_shown = self.shown.front() == Some(&n);
        if was_shown {
            self.shown.pop_front();
            *gone += 1;
        }
        if self.bad.front() == Some(&n) {
            self.bad.pop_front();
        }
        // The next of a run of repeats stands for the rest of it now.
        if let Some(next) = self.lines.front_mut().filter(|l| l.same) {
            next.same = false;
            let (text, bad) = (next.text.clone(), next.bad.is_some());
            let visible = self.shown.front() == Some(&self.base);
            if self.open && !visible && query.line(&text) {
                self.shown.push_front(self.base);
                *gone = gone.saturating_sub(usize::from(was_shown));
                if bad {
                    self.bad.push_front(self.base);
                }
            }
        }
        self.trimmed += 1;
        self.bytes -= old.text.len();
        old.text.len()
    }
}
