//! NCCL's messages: the dispatch on the first word, and the lives of communicators (nccl-logs.md 4 to 6).

mod call;
mod life;

use super::bytes::{Cur, after, has, text};
use super::fact::{Connected, Fact, InitFunc, Level, WarnKind};
use super::head::Tail;
use super::{graph, net, warn};
pub(super) use call::call;
use life::{function, life, revoke_async};

/// Reads the message behind a head.
#[inline]
pub(super) fn fact(tail: &Tail<'_>, msg: &[u8]) -> Option<Fact> {
    match tail.level {
        Level::Info => info(msg),
        Level::Warn => Some(warn::warn(tail.src, msg)),
        Level::Trace | Level::Call | Level::Bare => None,
    }
}

/// Reads an INFO message.
#[inline]
fn info(msg: &[u8]) -> Option<Fact> {
    let c = Cur(msg);
    match msg.first()? {
        b'C' => capital_c(c),
        b'A' | b'B' | b'R' | b'S' | b'G' | b'P' | b'W' => collective(c).or_else(|| other(msg)),
        _ => other(msg),
    }
}

#[inline]
fn capital_c(c: Cur<'_>) -> Option<Fact> {
    let mut rest = c;
    if rest.eat(b"Channel ") {
        return net::channel(rest).or_else(|| graph::ring(rest));
    }
    if rest.eat(b"CollNet ") || rest.eat(b"Coll ") {
        return net::collnet(rest);
    }
    other(c.0)
}

/// `OP: opCount %lx sendbuff %p recvbuff %p count %zu datatype %d op %d root %d comm %p [nranks=%d] stream %p`
#[inline]
fn collective(c: Cur<'_>) -> Option<Fact> {
    let (op, op_count, mut c) = call(c.0)?;
    let count = c.num()?;
    c.lit(b" datatype ")?;
    let datatype = c.int()?;
    c.lit(b" op ")?;
    // User-defined reductions have numbers of any size.
    let redop = u8::try_from(c.num()?).unwrap_or(u8::MAX);
    c.lit(b" root ")?;
    let root = i32::try_from(c.signed()?).ok()?;
    c.lit(b" comm ")?;
    let comm = c.pointer()?;
    c.lit(b" [nranks=")?;
    let nranks = c.int()?;
    c.lit(b"]")?;
    Some(Fact::Coll {
        op,
        op_count,
        count,
        datatype,
        redop,
        root,
        comm,
        nranks,
    })
}

/// A message by its first words; what follows them is handed on.
type Message = (&'static [u8], fn(Cur<'_>) -> Option<Fact>);

/// The messages that come once or a few times per process and communicator, the more frequent ones first.
const MESSAGES: &[Message] = &[
    (b"Trees ", graph::trees),
    (b"Tree ", graph::tree_line),
    (b"Ring ", |c| {
        graph::neighbours(c).or_else(|| net::channel(c))
    }),
    (b"comm ", |c| life(c, InitFunc::Unnamed)),
    (b"[Rank ", |mut c| {
        c.seek(b"] ")?;
        function(c)
    }),
    (b"P2P Chunksize set to ", |mut c| {
        c.num().map(Fact::P2pChunk)
    }),
    (b"P2P is disabled between ", p2p_disabled),
    (b"Could not enable P2P between dev ", p2p_devices),
    (b"peer query failed between dev ", p2p_devices),
    (b"threadThresholds ", |_| Some(Fact::Tuned)),
    (b"Threads per block", |_| Some(Fact::Tuned)),
    (b"Connected ", |c| connected(c.0)),
    (b"rank ", |mut c| {
        c.num()?;
        c.lit(b" Connected CollNet")?;
        Some(milestone(Connected::CollNet, c.0))
    }),
    (b"Rank ", |mut c| {
        let rank = c.int()?;
        c.lit(b" has color with NCCL_SPLIT_NOCOLOR")?;
        Some(Fact::SplitNoColor { rank })
    }),
    (b"Init timings", |c| init_timings(c.0)),
    (b"Bootstrap timings total ", |c| {
        seconds(c.0).map(|total| Fact::BootstrapTimings { total })
    }),
    (b"Bootstrap: Using ", net::bootstrap),
    (b"Bootstrap : Using ", net::bootstrap),
    (b"cudaDriverVersion ", |mut c| c.int().map(Fact::CudaDriver)),
    (b"Call to connect returned ", |c| {
        let error = text(before(c.0, b", retrying")?);
        Some(Fact::ConnectRetry { peer: None, error })
    }),
    (b"CommRevokeAsync ", revoke_async),
    (b"NVLS multicast support is ", |c| {
        Some(Fact::Nvls {
            available: c.0.starts_with(b"available"),
        })
    }),
    (b"NVLS comm ", |_| Some(Fact::Nvls { available: true })),
    (b"Count not open ", |_| Some(Fact::NoIbDevice)),
    (b"Failed to open libibverbs", |_| Some(Fact::NoIbDevice)),
];

/// INFO messages that report trouble, kept word for word.
const TROUBLE: &[(&[u8], WarnKind)] = &[
    (b"Failed to bind NVLink SHARP", WarnKind::NvlsFailed),
    (b"Legacy IPC not supported", WarnKind::P2pDisabled),
    (b"HINT: ", WarnKind::Other),
];

/// The messages that are rare.
fn other(whole: &[u8]) -> Option<Fact> {
    // 2.30.7 puts `file:line (func) ` in front of many messages.
    let msg = without_place(whole);
    if let Some(code) = msg.strip_prefix(b"-> ") {
        return Cur(code).int().map(|code| Fact::Backtrace { code });
    }
    if msg.len() < whole.len() {
        return info(msg);
    }
    let c = Cur(msg);
    if msg.first()?.is_ascii_digit() {
        return channel_counts(c);
    }
    for (words, read) in MESSAGES {
        if words.first() == msg.first()
            && let Some(rest) = msg.strip_prefix(*words)
            && let Some(fact) = read(Cur(rest))
        {
            return Some(fact);
        }
    }
    if let Some((_, kind)) = TROUBLE.iter().find(|(words, _)| msg.starts_with(words)) {
        return Some(Fact::Warn {
            kind: kind.clone(),
            file: None,
            text: text(msg),
        });
    }
    if msg.starts_with(b"nccl")
        && let Some(fact) = function(c)
    {
        return Some(fact);
    }
    version(msg)
        .or_else(|| echo(msg))
        .or_else(|| retry(msg))
        .or_else(|| net::info(msg))
        .or_else(|| backtrace(msg))
}

/// Strips `\S+:\d+ \(\w+\) `.
fn without_place(msg: &[u8]) -> &[u8] {
    let Some(gap) = msg.iter().take(200).position(|b| *b == b' ') else {
        return msg;
    };
    let Some((place, rest)) = msg.split_at_checked(gap) else {
        return msg;
    };
    let line = place
        .iter()
        .rposition(|b| *b == b':')
        .and_then(|at| place.get(at + 1..))
        .unwrap_or_default();
    if line.is_empty() || !line.iter().all(u8::is_ascii_digit) {
        return msg;
    }
    let Some(rest) = rest.strip_prefix(b" (") else {
        return msg;
    };
    let Some(end) = rest.iter().take(200).position(|b| *b == b')') else {
        return msg;
    };
    match rest.get(end..) {
        Some([b')', b' ', inner @ ..]) if inner.first().is_some_and(|b| *b > b' ') => inner,
        _ => msg,
    }
}

/// `misc/socket.cc:64 -> 6`, `init.cc:1722 -> 2 [Async thread]`
fn backtrace(msg: &[u8]) -> Option<Fact> {
    let mut c = Cur(msg);
    let place = c.word();
    let line = place.get(place.iter().rposition(|b| *b == b':')? + 1..)?;
    if line.is_empty() || !line.iter().all(u8::is_ascii_digit) {
        return None;
    }
    c.lit(b" -> ")?;
    c.int().map(|code| Fact::Backtrace { code })
}

/// What follows `Connected `.
fn connected(rest: &[u8]) -> Option<Fact> {
    const WHAT: [(&[u8], Connected); 5] = [
        (b"all rings", Connected::Rings),
        (b"all trees", Connected::Trees),
        (b"binomial trees", Connected::Binomial),
        (b"NVLS tree", Connected::Nvls),
        (b"collnet + chain", Connected::CollNet),
    ];
    WHAT.iter()
        .find(|(words, _)| rest.starts_with(words))
        .map(|(_, what)| milestone(*what, rest))
}

fn milestone(what: Connected, rest: &[u8]) -> Fact {
    let gdr = after(rest, b" GDR ").and_then(|s| match s.first() {
        Some(b'0') => Some(false),
        Some(b'1') => Some(true),
        _ => None,
    });
    Fact::Connected {
        what,
        gdr,
        comm: trailing_comm(rest),
    }
}

/// RCCL ends many lines in ` comm 0x… nRanks 08`.
pub(super) fn trailing_comm(rest: &[u8]) -> Option<u64> {
    let mut c = Cur(after(rest, b" comm ")?);
    c.pointer().filter(|p| *p != 0)
}

/// `16 coll channels, {16 collnet channels, }{16 nvls channels, }16 p2p channels, 16 p2p channels per peer`
fn channel_counts(mut c: Cur<'_>) -> Option<Fact> {
    let coll = c.int()?;
    c.lit(b" coll channels, ")?;
    let mut nvls = None;
    loop {
        let n = c.int()?;
        if c.eat(b" collnet channels, ") {
            continue;
        }
        if c.eat(b" nvls channels, ") {
            nvls = Some(n);
            continue;
        }
        c.lit(b" p2p channels, ")?;
        let p2p_per_peer = c.int()?;
        return c
            .0
            .starts_with(b" p2p channels per peer")
            .then_some(Fact::ChannelCounts {
                coll,
                nvls,
                p2p: n,
                p2p_per_peer,
            });
    }
}

/// What follows `Init timings`: `: rank …` (2.22.3) or ` - FUNC: rank …`.
fn init_timings(rest: &[u8]) -> Option<Fact> {
    let mut c = Cur(after(rest, b": rank ")?);
    let rank = c.int()?;
    c.lit(b" nranks ")?;
    let nranks = c.int()?;
    c.lit(b" total ")?;
    Some(Fact::InitTimings {
        rank,
        nranks,
        total: seconds(c.0)?,
    })
}

/// A decimal fraction at the start of `s`.
fn seconds(s: &[u8]) -> Option<f64> {
    let number = Cur(s).run(|b| b.is_ascii_digit() || b == b'.');
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// `NCCL version 2.27.7+cuda12.8`, `RCCL version : 2.27.7-main:1a2b3c4`, `RCCL version 2.18.3+hip6.0 HEAD:…`,
/// with or without a head.
pub(super) fn version(msg: &[u8]) -> Option<Fact> {
    let rccl = msg.starts_with(b"RCCL version");
    let mut c = Cur(msg);
    if rccl {
        c.lit(b"RCCL version")?;
        c.blanks();
        c.eat(b":");
        c.blanks();
    } else {
        c.lit(b"NCCL version ")?;
    }
    let start = c.0;
    for dot in [true, true, false] {
        c.num()?;
        if dot {
            c.lit(b".")?;
        }
    }
    let nccl = text(start.get(..start.len() - c.0.len())?);
    let cuda = c
        .eat(b"+cuda")
        .then(|| c.run(|b| b.is_ascii_digit() || b == b'.'))
        .filter(|v| v.first().is_some_and(u8::is_ascii_digit));
    Some(Fact::Version {
        nccl,
        cuda: cuda.map(text),
        rccl,
    })
}

/// `NCCL_X set by environment to V.`, with the trailing dot of numbers; also `NCCL_X set to V`.
fn echo(msg: &[u8]) -> Option<Fact> {
    let mut c = Cur(msg);
    let name = c.run(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !(name.starts_with(b"NCCL_") || name.starts_with(b"RCCL_")) {
        return None;
    }
    // An empty value leaves nothing behind the `to`.
    if !c.eat(b" set by environment to") {
        c.lit(b" set to")?;
    }
    let value = c.0.trim_ascii();
    let number = value.strip_suffix(b".").filter(|v| {
        let digits = v.strip_prefix(b"-").unwrap_or(v);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    });
    Some(Fact::Env {
        name: text(name),
        value: text(number.unwrap_or(value)),
    })
}

/// A connect that is tried again: `socketStartConnect: connect{ to PEER} returned ERROR, retrying (3/34) …`
fn retry(msg: &[u8]) -> Option<Fact> {
    let returned = after(msg, b": connect ")?;
    let (peer, error) = match returned.strip_prefix(b"to ") {
        Some(rest) => {
            let mut c = Cur(rest);
            let peer = c.seek(b" returned ")?;
            (Some(text(peer)), c.0)
        }
        None => (None, returned.strip_prefix(b"returned ")?),
    };
    Some(Fact::ConnectRetry {
        peer,
        error: text(before(error, b", retrying")?),
    })
}

/// `P2P is disabled between {NVLINK }connected GPUs 0 and 1. …`
fn p2p_disabled(mut c: Cur<'_>) -> Option<Fact> {
    let nvlink = c.eat(b"NVLINK ");
    c.lit(b"connected GPUs ")?;
    let a = c.int()?;
    c.lit(b" and ")?;
    Some(Fact::P2pDisabled {
        a,
        b: c.int()?,
        nvlink,
    })
}

/// `0(=3b000) and dev 1(=5e000)`
fn p2p_devices(mut c: Cur<'_>) -> Option<Fact> {
    let a = c.int()?;
    c.seek(b") and dev ")?;
    Some(Fact::P2pDisabled {
        a,
        b: c.int()?,
        nvlink: false,
    })
}

fn before<'a>(s: &'a [u8], stop: &[u8]) -> Option<&'a [u8]> {
    s.get(..memchr::memmem::find(s, stop)?)
}

/// Whether the message is one of the normal probes of plugins that are not there (trap 24).
pub(super) fn is_probe(msg: &[u8]) -> bool {
    has(msg, b"Failed to find ") || has(msg, b"symbols v4 and lower")
}
