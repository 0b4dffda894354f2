//! The end of a log as far as it was read: what makes a cut stream go on without loss or doubles.
//!
//! A log can be asked for from a whole second on. So the lines of the last seconds are remembered by stamp and
//! text; when the stream is opened again from there, what is remembered is dropped, and if nothing of it comes
//! back, the kubelet has rotated the file and something may be lost.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;

use crate::parse::Nanos;

const SECOND: Nanos = 1_000_000_000;
/// Lines remembered at most; a container that writes more than this in two seconds may show doubles after a cut
/// within one stamp, never a loss.
const REMEMBERED: usize = 1 << 17;

/// The stamp in front of a line and the rest of it; `None` where there is none.
#[must_use]
pub fn stamp(line: &[u8]) -> Option<(Nanos, &[u8])> {
    let space = memchr::memchr(b' ', line.get(..line.len().min(40))?)?;
    let text = std::str::from_utf8(line.get(..space)?).ok()?;
    // Runtimes write the node's own offset; it counts.
    let at: Timestamp = text.parse().ok()?;
    Some((
        Nanos::try_from(at.as_nanosecond()).ok()?,
        line.get(space + 1..)?,
    ))
}

fn digest(line: &[u8]) -> u64 {
    let mut h = DefaultHasher::new();
    line.hash(&mut h);
    h.finish()
}

/// What was read last.
#[derive(Debug, Default)]
pub struct Tail {
    /// Stamp and digest of the lines of the last one to two seconds.
    lines: VecDeque<(Nanos, u64)>,
    newest: Option<Nanos>,
    /// Lines with this stamp and older ones were read but are not remembered any more.
    forgotten: Option<Nanos>,
}

impl Tail {
    /// The newest stamp read.
    #[must_use]
    pub fn newest(&self) -> Option<Nanos> {
        self.newest
    }

    /// The second from which to ask again: the one before the newest line's, since lines of two streams may be
    /// a little out of order.
    #[must_use]
    pub fn since(&self) -> Option<Nanos> {
        self.newest.map(|n| n.div_euclid(SECOND) * SECOND - SECOND)
    }

    /// Another run of the container begins: its log is another file.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Remembers the end of a run of whole lines.
    pub fn read(&mut self, text: &[u8]) {
        let mut new = Vec::new();
        let mut newest = self.newest;
        let mut rest = text;
        // From the end: everything older than the last seconds needs no look.
        while !rest.is_empty() {
            let body = rest.strip_suffix(b"\n").unwrap_or(rest);
            let begin = memchr::memrchr(b'\n', body).map_or(0, |i| i + 1);
            let line = body.get(begin..).unwrap_or_default();
            rest = rest.get(..begin).unwrap_or_default();
            let Some((at, _)) = stamp(line) else { continue };
            if newest.is_none_or(|n| at > n) {
                newest = Some(at);
            }
            // A second more than is asked for, since the order is not strict.
            if newest.is_some_and(|n| at < n - 3 * SECOND) {
                break;
            }
            new.push((at, digest(line)));
        }
        self.newest = newest;
        self.lines.extend(new.into_iter().rev());
        let since = self.since().unwrap_or(Nanos::MIN);
        // Out of order by a little: look through, not just at the front.
        if self.lines.front().is_some_and(|(at, _)| *at < since) {
            self.lines.retain(|(at, _)| *at >= since);
        }
        while self.lines.len() > REMEMBERED {
            if let Some((at, _)) = self.lines.pop_front() {
                self.forgotten = self.forgotten.max(Some(at));
            }
        }
    }

    /// A filter for a stream that was opened again.
    #[must_use]
    pub fn resume(&self) -> Resume {
        let mut left = BTreeMap::new();
        for l in &self.lines {
            *left.entry(*l).or_insert(0u32) += 1;
        }
        Resume {
            overlap: self.lines.is_empty(),
            left,
            since: self.since().unwrap_or(Nanos::MIN),
            newest: self.newest.unwrap_or(Nanos::MIN),
            forgotten: self.forgotten,
            done: self.newest.is_none(),
        }
    }
}

/// Tells lines that were read before the cut from new ones.
#[derive(Debug)]
pub struct Resume {
    left: BTreeMap<(Nanos, u64), u32>,
    since: Nanos,
    newest: Nanos,
    forgotten: Option<Nanos>,
    overlap: bool,
    done: bool,
}

impl Resume {
    /// Nothing can be a double any more.
    #[must_use]
    pub fn done(&self) -> bool {
        self.done
    }

    /// Something came back that was read before: the two readings join without a gap.
    #[must_use]
    pub fn joined(&self) -> bool {
        self.overlap
    }

    /// Whether a line is new.
    pub fn is_new(&mut self, line: &[u8]) -> bool {
        if self.done {
            return true;
        }
        let Some((at, _)) = stamp(line) else {
            return true;
        };
        if at > self.newest + SECOND {
            self.done = true;
            return true;
        }
        if let Some(n) = self.left.get_mut(&(at, digest(line)))
            && *n > 0
        {
            *n -= 1;
            self.overlap = true;
            return false;
        }
        if self.forgotten.is_some_and(|f| at <= f) {
            self.overlap = true;
            return false;
        }
        // Read with a tail rather than from a second on: what lies before is known.
        at >= self.since
    }
}
