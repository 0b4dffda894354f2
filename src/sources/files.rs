//! Log files, folders and standard input.
//!
//! [`Inputs::find`] turns the arguments into a sorted list of things to read and says what it skipped. The rotated
//! parts of one log are one source, read from the oldest to the newest.
//! [`read_all`] reads them to their end: blocks of whole lines, parsed on all cores, handed over in
//! an order that depends on nothing but the content. [`follow()`] does the same for a screen, then goes on
//! with what is appended.
//!
//! Memory is bounded by the number of blocks under way, never by the size of the input.

mod blocks;
mod content;
mod find;
mod follow;
mod identity;
mod kubelet;
mod parts;
mod pipeline;
mod results;
mod rotate;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

pub use blocks::{BLOCK_BYTES, LINE_BYTES};
pub use find::{Input, Inputs, Place};
pub use follow::{Follower, follow};
pub use pipeline::read_all;

/// Why the arguments can't be read: one sentence that names the path and the reason.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("{0}: no such file or folder")]
    Missing(String),
    /// The system refuses.
    #[error("{path}: can't be read: {why}")]
    Io {
        /// As given.
        path: String,
        /// The system's words, without an error number.
        why: String,
    },
    /// Not text.
    #[error("{path}: not a log: it looks like {what}")]
    Binary {
        /// As given.
        path: String,
        /// What it looks like: `an ELF file`, `binary data`.
        what: &'static str,
    },
    /// A folder without a single log.
    #[error("{path}: there is no log file in this folder{skipped}")]
    Nothing {
        /// As given.
        path: String,
        /// `` or ` (3 files skipped, the first: …)`.
        skipped: String,
    },
    /// A worker thread ended early.
    #[error("{0}: reading stopped because of a defect in this program; please report it")]
    Broken(String),
}

impl SourceError {
    fn io(path: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            _ => Self::Io {
                path: path.to_owned(),
                why: reason(error),
            },
        }
    }
}

/// The words of an I/O error without the number that the standard library appends.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::UnexpectedEof => "it ends in the middle of its compressed data".to_owned(),
        _ => {
            let text = error.to_string();
            let short = text
                .split_once(" (os error")
                .map_or(text.as_str(), |(words, _)| words);
            short.to_owned()
        }
    }
}

/// The text of a file, unpacked; refused where it is none.
///
/// # Errors
/// What it looks like, or what the system says.
pub(super) fn text_of(
    raw: impl io::Read + Send + 'static,
) -> Result<Box<dyn io::Read + Send>, io::Error> {
    content::open(raw, content::Patience::Enough).map_err(|refused| match refused {
        content::Refused::Binary(what) => io::Error::other(what),
        content::Refused::Io(e) => e,
    })
}

/// How far reading has come; read by a progress line while [`read_all`] works.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes taken from files and pipes, before decompression.
    raw: AtomicU64,
}

impl Progress {
    /// Bytes taken so far, before decompression; to be compared with [`Inputs::raw_bytes`].
    #[must_use]
    pub fn raw(&self) -> u64 {
        self.raw.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.raw.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Bytes after decompression.
    pub bytes: u64,
    /// Physical lines.
    pub lines: u64,
    /// Lines that were longer than [`LINE_BYTES`] and lost their rest.
    pub cut: u64,
    /// What a person should know: sources that are empty or ended in the middle of their data.
    pub notes: Vec<String>,
}
