//! torch's NCCL watchdog and flight recorder, and what stands in front of their lines.

use super::scan::{Cur, after, has, some_text, text};
use super::{Hit, Read, VllmFact};

/// The collective that a watchdog line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Sequence number.
    pub seq: u64,
    /// `ALLREDUCE`, `BROADCAST`, …
    pub op: String,
    /// Elements in and out, where printed.
    pub numel: Option<(u64, u64)>,
    /// Limit, milliseconds.
    pub timeout_ms: Option<u64>,
}

/// The bracket in front of a watchdog line: `[Rank 5]`, `[PG 1 Rank 5]`, `[PG ID 0 PG GUID 0(default_pg) Rank 5]`.
/// The rank inside can be a rank of the group or stale: the outer `[rankN]:` or the pid identify the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PgTag {
    /// Process group.
    pub pg: Option<u64>,
    /// Its id over all ranks, name included.
    pub guid: Option<String>,
    /// Rank inside the bracket.
    pub rank: Option<u32>,
}

/// How far a process group's queue has come; −1 is nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Last work handed to NCCL.
    pub enqueued: i64,
    /// Last work that completed.
    pub completed: i64,
}

/// Who noticed a time-out first (torch 2.5+).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// This rank's own time-out: it waited longest, which makes it a victim, not the culprit.
    ThisRank,
    /// Told by another rank: an echo.
    Rank(u32),
    /// First group of this process to signal.
    FirstGroup,
    /// Seen in the store: an echo.
    Store,
}

/// What torch's NCCL back end says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Torch {
    /// A collective timed out (F6A).
    Timeout {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
        /// Bracket.
        tag: Box<PgTag>,
        /// Which collective.
        work: Box<Work>,
        /// How long it ran, milliseconds.
        ran_ms: Option<u64>,
    },
    /// Position of a group's queue (F6B).
    Position {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
        /// Bracket.
        tag: Box<PgTag>,
        /// How far.
        position: Position,
    },
    /// Who noticed first (F6D).
    Dump {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
        /// Bracket.
        tag: Box<PgTag>,
        /// Who.
        notice: Notice,
        /// How far, where the same line says.
        position: Option<Position>,
    },
    /// A remote failure reached this rank (F6F).
    Async {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
        /// Bracket.
        tag: Box<PgTag>,
        /// Which collective.
        work: Box<Work>,
        /// What arrived.
        why: String,
    },
    /// The watchdog ends the process (F6C).
    Killed {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
        /// Seconds for which a watchdog itself was stuck, where printed.
        stuck_s: Option<u64>,
    },
    /// The call site of the collective follows (F6E).
    CallSite {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
    },
    /// The store's owner is gone (F5C): an echo of its end.
    StoreGone {
        /// Global rank of the process, from `[rankN]:`.
        rank: Option<u32>,
        /// Address of the owner.
        remote: Option<String>,
    },
}

impl Torch {
    /// Global rank of the process that speaks, from `[rankN]:`.
    #[must_use]
    pub fn rank(&self) -> Option<u32> {
        match self {
            Self::Timeout { rank, .. }
            | Self::Position { rank, .. }
            | Self::Dump { rank, .. }
            | Self::Async { rank, .. }
            | Self::Killed { rank, .. }
            | Self::CallSite { rank }
            | Self::StoreGone { rank, .. } => *rank,
        }
    }

    /// Whether the line only repeats what happened elsewhere.
    #[must_use]
    pub fn is_echo(&self) -> bool {
        match self {
            Self::Dump { notice, .. } => matches!(notice, Notice::Rank(_) | Notice::Store),
            Self::Async { .. } | Self::StoreGone { .. } => true,
            _ => false,
        }
    }
}

pub(super) const ANCHORS: &[(&str, Read)] = &[
    (
        "Watchdog caught collective operation timeout: WorkNCCL(",
        |h| {
            let mut c = h.cur();
            let work = work(&mut c)?;
            let ran_ms = after(c.rest, "ran for ").and_then(|mut c| c.uint());
            fact(Torch::Timeout {
                rank: rank(h),
                tag: Box::new(tag(h.before())),
                work: Box::new(work),
                ran_ms,
            })
        },
    ),
    ("Collective WorkNCCL(", |h| {
        let mut c = h.cur();
        let work = work(&mut c)?;
        c.seek("raised the following async exception")?;
        c.eat(": ");
        fact(Torch::Async {
            rank: rank(h),
            tag: Box::new(tag(h.before())),
            work: Box::new(work),
            why: text(c.rest),
        })
    }),
    ("Received a dump signal ", |h| {
        let c = h.cur();
        let notice = match after(c.rest, "due to a collective timeout from") {
            Some(mut who) => {
                who.blanks();
                if who.eat("this local rank") {
                    Notice::ThisRank
                } else {
                    who.skip("rank ")?;
                    Notice::Rank(who.uint()?)
                }
            }
            None => return None,
        };
        dump(h, notice)
    }),
    ("First PG on this rank to signal dumping", |h| {
        dump(h, Notice::FirstGroup)
    }),
    (
        "Observed flight recorder dump signal from another rank",
        |h| dump(h, Notice::Store),
    ),
    ("ast enqueued ", |h| {
        let position = position(h.after)?;
        fact(Torch::Position {
            rank: rank(h),
            tag: Box::new(tag(h.before())),
            position,
        })
    }),
    ("taking the entire process down", killed),
    ("watchdog thread terminated with exception", killed),
    ("Heartbeat monitor timed out", killed),
    ("watchdog got stuck for ", killed),
    (
        "Terminating the process after attempting to dump debug info",
        killed,
    ),
    ("Some NCCL operations have failed or timed out", killed),
    ("Stack trace of the failed collective", |h| {
        fact(Torch::CallSite { rank: rank(h) })
    }),
    (" failed on SocketImpl(", |h| {
        let remote = after(h.after, "remote=[").and_then(|mut c| {
            let host = c.seek("]")?;
            let port = c.while_(|b| b == b':' || b.is_ascii_digit());
            some_text(&[b"[", host, b"]", port].concat())
        });
        fact(Torch::StoreGone {
            rank: rank(h),
            remote,
        })
    }),
    (
        "Failed to check the \"should dump\" flag on TCPStore",
        |h| {
            fact(Torch::StoreGone {
                rank: rank(h),
                remote: None,
            })
        },
    ),
];

#[allow(
    clippy::unnecessary_wraps,
    reason = "a row of the table ends with it, and rows give options"
)]
fn fact(t: Torch) -> Option<VllmFact> {
    Some(VllmFact::Torch(t))
}

/// Global rank: the launcher's label, or one that was left in front of the header.
pub(super) fn rank(h: &Hit<'_>) -> Option<u32> {
    h.outer.rank.or(h.head().and_then(|x| x.rank))
}

fn killed(h: &Hit<'_>) -> Option<VllmFact> {
    let stuck_s = after(h.msg, "got stuck for ").and_then(|mut c| c.uint());
    fact(Torch::Killed {
        rank: rank(h),
        stuck_s,
    })
}

fn dump(h: &Hit<'_>, notice: Notice) -> Option<VllmFact> {
    fact(Torch::Dump {
        rank: rank(h),
        tag: Box::new(tag(h.before())),
        notice,
        position: after(h.after, "ast enqueued ").and_then(|c| position(c.rest)),
    })
}

/// `SeqNum=88, OpType=ALLREDUCE, NumelIn=…, NumelOut=…, Timeout(ms)=600000)`.
fn work(c: &mut Cur<'_>) -> Option<Work> {
    c.skip("SeqNum=")?;
    let seq = c.uint()?;
    c.skip(", OpType=")?;
    let op = text(c.name()?);
    let inside = c.rest;
    let num = |name: &str| after(inside, name)?.uint::<u64>();
    Some(Work {
        seq,
        op,
        numel: num("NumelIn=").zip(num("NumelOut=")),
        timeout_ms: num("Timeout(ms)="),
    })
}

/// What stands behind `last enqueued `.
fn position(s: &[u8]) -> Option<Position> {
    let mut c = Cur::new(s);
    c.eat("NCCL ");
    c.skip("work: ")?;
    let enqueued = c.int()?;
    c.skip(", last completed ")?;
    c.eat("NCCL ");
    c.skip("work: ")?;
    Some(Position {
        enqueued,
        completed: c.int()?,
    })
}

/// The last bracket that names a rank.
fn tag(before: &[u8]) -> PgTag {
    let mut out = PgTag::default();
    for piece in before.split(|b| *b == b'[').rev() {
        let Some(inside) = piece.split(|b| *b == b']').next() else {
            continue;
        };
        if inside.len() > 200 || !has(inside, "Rank ") {
            continue;
        }
        out.rank = after(inside, "Rank ").and_then(|mut c| c.uint());
        out.pg = after(inside, "PG ID ")
            .or_else(|| after(inside, "PG "))
            .and_then(|mut c| c.uint());
        out.guid = after(inside, "PG GUID ")
            .and_then(|mut c| c.word())
            .and_then(some_text);
        break;
    }
    out
}
