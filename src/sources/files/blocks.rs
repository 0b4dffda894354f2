//! Bytes into blocks of whole lines.

use std::io::{self, Read};

use memchr::{memchr, memrchr};

/// Size of a block: small enough to be mostly in a core's cache still when it is parsed, large enough that what is
/// found and looked up once a block (heads, voices, processes) costs next to nothing a line.
pub const BLOCK_BYTES: usize = 2 << 20;

/// Longest line that is kept; what exceeds it is dropped and the line counted as cut. Bounds memory for
/// input without line ends.
pub const LINE_BYTES: usize = 8 << 20;

/// How a [`Lines::fill`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    /// Lines in this block that lost their rest.
    pub cut: u64,
    /// Nothing more comes.
    pub end: bool,
}

/// When a block is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// When it is full: boundaries depend on the content alone, so a pipe gives the same blocks as a file.
    Full,
    /// As soon as a whole line is there, for a screen.
    Eager,
}

/// Cuts a stream into blocks of whole lines.
pub(super) struct Lines<R> {
    inner: R,
    /// Start of the line that the next block begins with.
    tail: Vec<u8>,
    /// Inside a line that was cut: everything up to its end is dropped.
    skipping: bool,
    pace: Pace,
    /// Keep an unfinished last line for later instead of handing it over at the end of the data.
    hold: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(inner: R, pace: Pace, hold: bool) -> Self {
        Self {
            inner,
            tail: Vec::new(),
            skipping: false,
            pace,
            hold,
        }
    }

    /// Starts with what another reader of the same stream had left over.
    pub(super) fn resume(inner: R, rest: Rest, pace: Pace, hold: bool) -> Self {
        Self {
            inner,
            tail: rest.tail,
            skipping: rest.skipping,
            pace,
            hold,
        }
    }

    /// What a later reader of the same stream needs.
    pub(super) fn rest(self) -> Rest {
        Rest {
            tail: self.tail,
            skipping: self.skipping,
        }
    }

    /// Replaces `buf` by the next whole lines; empty when there are none (yet).
    ///
    /// `buf` may hold anything: its bytes are overwritten, not cleared, so that a buffer used again costs
    /// no zeroing.
    pub(super) fn fill(&mut self, buf: &mut Vec<u8>) -> io::Result<Fill> {
        let mut have = self.tail.len();
        buf.resize(BLOCK_BYTES.max(have), 0);
        if let Some(front) = buf.get_mut(..have) {
            front.copy_from_slice(&self.tail);
        }
        self.tail.clear();
        // No line end below this.
        let mut searched = have;
        loop {
            if have == buf.len() {
                if let Some(end) = last_line_end(buf, searched, have) {
                    return Ok(self.hand_over(buf, have, end));
                }
                searched = have;
                if have >= LINE_BYTES {
                    buf.truncate(LINE_BYTES - 1);
                    buf.push(b'\n');
                    self.skipping = true;
                    return Ok(Fill { cut: 1, end: false });
                }
                buf.resize((have * 2).min(LINE_BYTES), 0);
            }
            let read = match self.inner.read(buf.get_mut(have..).unwrap_or_default()) {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    self.keep(buf, have);
                    return Err(e);
                }
            };
            if read == 0 {
                if self.hold {
                    let end = last_line_end(buf, searched, have).unwrap_or(0);
                    return Ok(Fill {
                        end: true,
                        ..self.hand_over(buf, have, end)
                    });
                }
                buf.truncate(have);
                return Ok(Fill { cut: 0, end: true });
            }
            let fresh = have;
            have += read;
            if self.skipping {
                // `have` was 0 here: nothing stands before the rest of a line that is being dropped.
                match memchr(b'\n', buf.get(fresh..have).unwrap_or_default()) {
                    Some(at) => {
                        buf.copy_within(fresh + at + 1..have, 0);
                        have -= fresh + at + 1;
                        searched = 0;
                        self.skipping = false;
                    }
                    None => {
                        have = 0;
                        continue;
                    }
                }
            }
            if self.pace == Pace::Eager
                && let Some(end) = last_line_end(buf, searched, have)
            {
                return Ok(self.hand_over(buf, have, end));
            }
        }
    }

    fn hand_over(&mut self, buf: &mut Vec<u8>, have: usize, end: usize) -> Fill {
        self.tail
            .extend_from_slice(buf.get(end..have).unwrap_or_default());
        buf.truncate(end);
        Fill { cut: 0, end: false }
    }

    /// After an error: the lines so far are handed over by the next call, which meets the error again or
    /// goes on.
    fn keep(&mut self, buf: &mut Vec<u8>, have: usize) {
        self.tail
            .extend_from_slice(buf.get(..have).unwrap_or_default());
        buf.clear();
    }

    /// The lines that stood before an error.
    pub(super) fn salvage(&mut self, buf: &mut Vec<u8>) {
        buf.clear();
        buf.append(&mut self.tail);
    }
}

/// Left over where a reader stopped.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    tail: Vec<u8>,
    skipping: bool,
}

/// One past the last line end in `buf[from..to]`.
fn last_line_end(buf: &[u8], from: usize, to: usize) -> Option<usize> {
    memrchr(b'\n', buf.get(from..to)?).map(|at| from + at + 1)
}
