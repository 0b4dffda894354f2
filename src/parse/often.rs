//! Lines that come by the million, kept small: connection lines and collective calls.
//!
//! A job that connects and calls prints little else, and mostly the same over and over. Such a line is kept
//! as who said it (a [`Voice`]), which connection it names or which communicator it calls, and where it
//! stands; the connections themselves are kept once a block.

use super::fact::{At, CollOp, Nanos};
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

/// One such line; a level INFO and one head are all it has beside what it says. They go from the core that reads
/// to the one that folds, so that each byte of them counts; what does not fit is kept as any other fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Often {
    /// When it was written, if the line says.
    pub at: Moment,
    /// What it says.
    pub what: Usual,
    /// Physical line, counted from the block's first line (0-based).
    pub line: u32,
    /// Its start in [`super::Block::text`].
    pub start: u32,
    /// Its length.
    pub len: u16,
    /// Index into [`super::Block::voices`].
    pub voice: u16,
}

impl Often {
    /// Its end in [`super::Block::text`].
    #[must_use]
    pub fn end(&self) -> u32 {
        self.start.saturating_add(u32::from(self.len))
    }
}

/// A stamp, or none, in one word: its nanoseconds, and in the lowest bit whether it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(Nanos);

impl Moment {
    /// None.
    pub const NEVER: Self = Self(Nanos::MIN);

    /// `None` for a stamp that is further from the epoch than 146 years.
    #[inline]
    #[must_use]
    pub fn of(at: Option<At>) -> Option<Self> {
        let Some(at) = at else {
            return Some(Self::NEVER);
        };
        let twice = at.ns.checked_mul(2).filter(|twice| *twice > Nanos::MIN)?;
        Some(Self(twice | Nanos::from(at.exact)))
    }

    /// The stamp.
    #[inline]
    #[must_use]
    pub fn at(self) -> Option<At> {
        (self != Self::NEVER).then_some(At {
            ns: self.0 >> 1,
            exact: self.0 & 1 == 1,
        })
    }

    /// Itself, or another where it is none.
    #[inline]
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::NEVER { other } else { self }
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self::NEVER
    }
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
        /// Index into [`super::Block::comms`].
        comm: u16,
        /// `opCount`.
        op_count: u32,
    },
}
