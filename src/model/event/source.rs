//! Where lines come from, and what happens to it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ContainerKey;
use crate::parse::{Block, Nanos};

/// Identity of a log source, unique in one run, given by whoever opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u32);

/// Where lines come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Unique name: the path as given, `namespace/pod/container`, that with `@previous`, or `-`.
    pub name: String,
    /// The container it belongs to, if it is one.
    pub container: Option<ContainerKey>,
    /// The container before the present one.
    pub previous: bool,
    /// When the container started, if known: tells a log that was rotated.
    pub started: Option<Nanos>,
}

/// What happens to a log source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceEvent {
    /// It exists from now on.
    Opened(SourceId, SourceInfo),
    /// Lines are flowing (again).
    Up(SourceId),
    /// Cut; the next attempt comes in so many milliseconds.
    Retrying {
        /// Which.
        id: SourceId,
        /// Why.
        why: String,
        /// Delay.
        in_ms: u64,
    },
    /// Lines that are known to be gone: rotated away, refused, over a cap.
    Lost {
        /// Which.
        id: SourceId,
        /// How many lines; `None` when it can't be counted.
        lines: Option<u64>,
        /// Why.
        why: String,
    },
    /// Its lines stand in several files, which a rotation made of one log: all of them so far, oldest first. What
    /// comes from now on is of the last one.
    Files {
        /// Which.
        id: SourceId,
        /// The files.
        files: Vec<LogFile>,
    },
    /// Nothing more will come.
    Ended {
        /// Which.
        id: SourceId,
        /// Why, when it is not the ordinary end.
        why: Option<String>,
    },
}

/// One of the files that hold the lines of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Number, in the source, of its first line.
    pub first_line: u64,
    /// Its path as it would be given.
    pub name: String,
}

impl SourceEvent {
    /// The same of the source that is known by another number.
    #[must_use]
    pub fn of(mut self, known: impl FnOnce(SourceId) -> SourceId) -> Self {
        let (Self::Opened(id, _)
        | Self::Up(id)
        | Self::Retrying { id, .. }
        | Self::Lost { id, .. }
        | Self::Files { id, .. }
        | Self::Ended { id, .. }) = &mut self;
        *id = known(*id);
        self
    }
}

/// Lines of one source. A recording keeps `source`, `first_line` and the text; the facts are parsed anew.
#[derive(Debug, Clone)]
pub struct LogBlock {
    /// Which source.
    pub source: SourceId,
    /// Lines and facts.
    pub block: Arc<Block>,
}
