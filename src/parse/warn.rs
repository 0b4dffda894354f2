//! What a WARN is about (nccl-logs.md 7). The wording changes with every version, so the texts are known by
//! the words that stayed.

use super::bytes::{Cur, after, has, text};
use super::fact::{Fact, WarnKind};

/// Longest text that is kept, in bytes.
const KEEP: usize = 4096;

/// Reads a WARN.
pub(super) fn warn(src: Option<&[u8]>, msg: &[u8]) -> Fact {
    let kept = msg.get(..KEEP).unwrap_or(msg);
    Fact::Warn {
        kind: kind(kept),
        file: src.map(text),
        text: text(kept.trim_ascii()),
    }
}

/// What a WARN's message is about, for texts that reach a log by another way (torch's `Last error:`).
#[must_use]
pub fn kind_of(message: &str) -> WarnKind {
    let b = message.as_bytes();
    kind(b.get(..KEEP).unwrap_or(b))
}

/// Words that settle it by themselves.
const WORDS: &[(&[u8], WarnKind)] = &[
    (b"peer mapping resources exhausted", WarnKind::PeerMapping),
    (b"Duplicate GPU detected", WarnKind::DuplicateGpu),
    (b"anks detected using the same GPU", WarnKind::DuplicateGpu),
    (b"anks are using the same GPU", WarnKind::DuplicateGpu),
    (b"no socket interface found", WarnKind::NoInterface),
    (b"no interface found", WarnKind::NoInterface),
    (b"No IP interface found", WarnKind::NoInterface),
    (b"No usable listening interface", WarnKind::NoInterface),
    (
        b"No interface found in the same subnet",
        WarnKind::NoInterface,
    ),
    (b"no device found matching", WarnKind::NoInterface),
    (b"no device found after excluding", WarnKind::NoInterface),
    (b"P2P is disabled between", WarnKind::P2pDisabled),
    (b"No transport found", WarnKind::NoTransport),
    (b"Failed to bind NVLink SHARP", WarnKind::NvlsFailed),
    (b"collective mismatch error", WarnKind::CollectiveMismatch),
    (b"Bootstrap Root : mismatch", WarnKind::BootstrapMismatch),
    (b"has already checked in", WarnKind::BootstrapMismatch),
    (
        b"Failed to initialize any NET plugin",
        WarnKind::NetworkNotFound,
    ),
    (b"Failed to find CUDA library", WarnKind::Library),
    (b"PFN functions not found", WarnKind::Library),
    (b"Failed to open libnvidia-ml", WarnKind::Library),
    (b"Failed to open libcuda", WarnKind::Library),
    (b"Got async event", WarnKind::IbAsync),
    (b"Got async error event", WarnKind::IbAsync),
    (b"async fatal event", WarnKind::IbAsync),
    (b"Got non-fatal async event", WarnKind::IbAsync),
    (b"GID table changed", WarnKind::IbAsync),
    (b"communicator encountered a fatal error", WarnKind::IbAsync),
    (b" marked as failed", WarnKind::IbAsync),
    (b"Unable to open device", WarnKind::IbVerbs),
    (b"Unable to query device", WarnKind::IbVerbs),
    (b"Unable to query port", WarnKind::IbVerbs),
    (b"incompatible devices: ", WarnKind::IbVerbs),
    (b"is incompatible with the local", WarnKind::IbVerbs),
];

fn kind(msg: &[u8]) -> WarnKind {
    if let Some((_, kind)) = WORDS.iter().find(|(words, _)| has(msg, words)) {
        return kind.clone();
    }
    completion(msg)
        .or_else(|| version(msg))
        .or_else(|| memory(msg))
        .or_else(|| verbs(msg))
        .or_else(|| cuda(msg))
        .or_else(|| network(msg))
        .or_else(|| closed(msg))
        .or_else(|| connect(msg))
        .unwrap_or(WarnKind::Other)
}

/// `NET/IB: Got completion from peer %s with status=IBV_WC_RETRY_EXC_ERR(12) … hca %s`, every wording since 2.8.
fn completion(msg: &[u8]) -> Option<WarnKind> {
    let mut c = Cur(after(msg, b"Got completion ")?);
    let peer = c.eat(b"from peer ").then(|| text(c.word()));
    c.blanks();
    c.lit(b"with ")?;
    if !c.eat(b"error ") {
        c.lit(b"status=")?;
    }
    let mut name = c;
    if name
        .run(|b| b.is_ascii_alphanumeric() || b == b'_')
        .first()
        .is_some_and(u8::is_ascii_alphabetic)
        && name.eat(b"(")
    {
        c = name;
    }
    let status = c.int()?;
    let hca = after(c.0, b" hca ").map(|s| text(Cur(s).word()));
    Some(WarnKind::IbCompletion { status, peer, hca })
}

/// `Mismatched NCCL version detected : rank 1 version 22706 rank 0 version 22707`
fn version(msg: &[u8]) -> Option<WarnKind> {
    let mut c = Cur(after(msg, b"Mismatched NCCL version detected")?);
    let mut side = || {
        c.seek(b"rank ")?;
        let rank = c.int()?;
        c.lit(b" version ")?;
        Some((rank, c.int()?))
    };
    Some(WarnKind::VersionMismatch {
        a: side()?,
        b: side()?,
    })
}

/// Shared memory that could not be had.
fn memory(msg: &[u8]) -> Option<WarnKind> {
    let shm = has(msg, b"shared memory segment")
        || has(msg, b"failed to extend ")
        || has(msg, b"Could not map ")
        || has(msg, b"posix_fallocate failed");
    shm.then(|| WarnKind::Shm {
        no_space: has(msg, b"No space left on device") || has(msg, b"(28)"),
    })
}

/// `Call to ibv_%s failed with error %s errno %d`
fn verbs(msg: &[u8]) -> Option<WarnKind> {
    let call = after(msg, b"Call to ibv_")?;
    Some(
        if has(call, b"Cannot allocate memory") || has(call, b"errno 12") {
            WarnKind::Memlock
        } else {
            WarnKind::IbVerbs
        },
    )
}

/// CUDA failures with the driver's text.
fn cuda(msg: &[u8]) -> Option<WarnKind> {
    if let Some(rest) = after(msg, b"Cuda failure ") {
        let quoted = rest
            .iter()
            .position(|b| *b == b'\'')
            .and_then(|at| rest.get(at + 1..));
        let inside = quoted.map_or(rest, |q| {
            q.get(..q.iter().position(|b| *b == b'\'').unwrap_or(q.len()))
                .unwrap_or(q)
        });
        return Some(WarnKind::Cuda {
            text: text(inside.trim_ascii()),
        });
    }
    if let Some(rest) = after(msg, b"cudaIpcGetMemHandle failed") {
        return Some(WarnKind::Cuda {
            text: text(
                rest.trim_ascii_start()
                    .strip_prefix(b":")
                    .unwrap_or(rest)
                    .trim_ascii(),
            ),
        });
    }
    let refused = has(msg, b"Failed to CUDA ") || has(msg, b"failed to peer with device ");
    refused.then(|| WarnKind::Cuda {
        text: text(msg.trim_ascii()),
    })
}

/// A network that is not there, and multi-node NVLink without its daemon.
fn network(msg: &[u8]) -> Option<WarnKind> {
    if has(msg, b"Error: network ") && has(msg, b" not found") {
        return Some(WarnKind::NetworkNotFound);
    }
    if msg.starts_with(b"MNNVL ")
        && (has(msg, b" not supported on this system") || has(msg, b" not working on this system"))
    {
        return Some(WarnKind::Mnnvl);
    }
    if has(msg, b"message truncated : receiving ") {
        return Some(WarnKind::CollectiveMismatch);
    }
    has(msg, b"Message truncated : received ").then_some(WarnKind::BootstrapMismatch)
}

/// A peer that went away: a consequence, seldom a cause.
fn closed(msg: &[u8]) -> Option<WarnKind> {
    if let Some(rest) = after(msg, b"Connection closed by remote peer") {
        return Some(WarnKind::PeerClosed { peer: peer(rest) });
    }
    // `Call to recv from %s failed : %s`, `Call to send to %s failed : %s`
    let mut c = Cur(after(msg, b"Call to ")?);
    let named = c.eat(b"recv from ") || c.eat(b"send to ") || c.eat(b"recv ") || c.eat(b"send ");
    named.then(|| WarnKind::PeerClosed { peer: peer(c.0) })
}

/// A connect that will not be tried again.
fn connect(msg: &[u8]) -> Option<WarnKind> {
    // `Connect to %s failed : %s`, with any function or `Net : ` before it.
    if let Some(rest) = after(msg, b"onnect to ") {
        let mut c = Cur(rest);
        let name = peer(c.0);
        if c.seek(b" failed").is_some() {
            // ` : error`, `: error`, ` with error error`
            let error = after(c.0, b"with error ")
                .unwrap_or_else(|| c.0.trim_ascii_start().strip_prefix(b":").unwrap_or(c.0));
            return Some(WarnKind::Connect {
                peer: name,
                error: text(error.trim_ascii()),
            });
        }
        if let Some(error) = after(c.0, b" returned ") {
            return Some(WarnKind::Connect {
                peer: name,
                error: returned(error),
            });
        }
        return None;
    }
    if let Some(error) = after(msg, b": connect returned ") {
        return Some(WarnKind::Connect {
            peer: None,
            error: returned(error),
        });
    }
    let limits: [&[u8]; 3] = [
        b"exceeded retries",
        b"exceeded timeouts",
        b"socketPollConnect poll() returned",
    ];
    let exceeded = limits.iter().any(|l| has(msg, l))
        && (has(msg, b"StartConnect") || has(msg, b"PollConnect"));
    exceeded.then(|| {
        let words = after(msg, b": ").unwrap_or(msg);
        WarnKind::Connect {
            peer: None,
            error: text(words.trim_ascii()),
        }
    })
}

/// `-1(Success) errno 111(Connection refused)`, `Connection refused, exceeded error retry count after 35 attempts`
fn returned(error: &[u8]) -> String {
    if let Some(errno) = after(error, b"errno ")
        && let Some(words) = super::bytes::between(errno, b"(", b")")
    {
        return text(words);
    }
    let end = memchr::memmem::find(error, b", exceeded").unwrap_or(error.len());
    text(error.get(..end).unwrap_or(error).trim_ascii())
}

/// The word that names a peer.
fn peer(rest: &[u8]) -> Option<String> {
    let mut c = Cur(rest);
    c.blanks();
    let word = c.word();
    let word = word.strip_suffix(b":").unwrap_or(word);
    (!word.is_empty()).then(|| text(word))
}
