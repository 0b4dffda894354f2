//! Lines that come by the million, kept small: connection lines and collective calls.
//!
//! A job that connects and calls prints little else, and mostly the same over and over. Such a line is kept
//! as who said it (a [`Voice`]), which connection it names or which communicator it calls, and where it
//! stands; the connections themselves are kept once a block.

use super::fact::{At, CollOp};
use super::{HeadIx, OuterIx};

/// Who speaks: a head with its thread and device, behind its prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    /// NCCL process.
    pub head: HeadIx,
    /// Outer prefixes.
    pub outer: OuterIx,
    /// Thread id of the head.
    pub tid: u64,
    /// `[dev]` of the head; −1 when absent.
    pub dev: i32,
}

/// One such line; a level INFO and one head are all it has beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Often {
    /// Physical line, counted from the block's first line (0-based).
    pub line: u32,
    /// Its start in [`super::Block::text`].
    pub start: u32,
    /// Its end.
    pub end: u32,
    /// Index into [`super::Block::voices`].
    pub voice: u32,
    /// When it was written, if the line says.
    pub at: Option<At>,
    /// What it says.
    pub what: Usual,
}

/// What such a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usual {
    /// A connection.
    Channel {
        /// Index into [`super::Block::forms`], which holds the connection with some channel's number.
        form: u32,
        /// Channel number.
        channel: u16,
    },
    /// A collective call, as far as a model needs it.
    Call {
        /// Operation.
        op: CollOp,
        /// `opCount`.
        op_count: u64,
        /// Communicator pointer.
        comm: u64,
    },
}
