//! What is read around the words by which a failure is known.

use super::super::scan::{Cur, after, has, some_text, text};
use super::super::{Hit, VllmFact};
use super::{FaultKind, fault};

/// A quoted text right here: `'…'` or `"…"`.
pub(super) fn quoted(c: &mut Cur<'_>) -> Option<String> {
    if c.eat("'") {
        some_text(c.seek("'")?)
    } else {
        c.skip("\"")?;
        some_text(c.seek("\"")?)
    }
}

/// `512.00 MiB` in bytes.
pub(super) fn size(c: &mut Cur<'_>) -> Option<u64> {
    let v = c.float()?;
    c.skip(" ")?;
    let unit = if c.eat("KiB") {
        1024.0
    } else if c.eat("MiB") {
        1024.0 * 1024.0
    } else if c.eat("GiB") {
        1024.0 * 1024.0 * 1024.0
    } else if c.eat("bytes") {
        1.0
    } else {
        return None;
    };
    (v >= 0.0).then_some((v * unit) as u64)
}

pub(super) fn connect_error(h: &Hit<'_>) -> Option<VllmFact> {
    let hub = [
        "resolve",
        "connect",
        "Temporary failure",
        "Network is unreachable",
        "timed out",
    ]
    .iter()
    .any(|w| has(h.after, w));
    // A better anchor further on names the host.
    if !hub || has(h.after, "HTTPSConnectionPool(host='") {
        return None;
    }
    fault(h, FaultKind::HubUnreachable { host: None })
}

pub(super) fn tokenizer(h: &Hit<'_>) -> Option<VllmFact> {
    fault(h, FaultKind::TokenizerMissing { path: None })
}

pub(super) fn weights_mismatch(h: &Hit<'_>) -> Option<VllmFact> {
    fault(h, FaultKind::WeightsMismatch)
}

pub(super) fn permission(h: &Hit<'_>, read_only: bool) -> Option<VllmFact> {
    let mut c = h.cur();
    let path = c.skip(": ").and_then(|()| quoted(&mut c));
    fault(h, FaultKind::Permission { path, read_only })
}

pub(super) fn hardware(h: &Hit<'_>) -> Option<VllmFact> {
    fault(h, FaultKind::Hardware { xid: None })
}

pub(super) fn name_resolution(h: &Hit<'_>) -> Option<VllmFact> {
    fault(h, FaultKind::NameResolution { name: None })
}

pub(super) fn shm(h: &Hit<'_>) -> Option<VllmFact> {
    fault(h, FaultKind::Shm { attaching: false })
}

/// `unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5`.
pub(super) fn torch_nccl(h: &Hit<'_>, mut c: Cur<'_>) -> Option<VllmFact> {
    let error = text(c.while_(|b| b != b',' && b != b'('));
    let error = error
        .strip_suffix(" - please report this issue to the NCCL developers")
        .unwrap_or(&error)
        .trim()
        .to_owned();
    let version = after(c.rest, "NCCL version ")
        .map(|mut c| c.while_(|b| b.is_ascii_digit() || b == b'.'))
        .map(|v| v.strip_suffix(b".").unwrap_or(v))
        .and_then(some_text);
    if error.is_empty() {
        return None;
    }
    fault(h, FaultKind::TorchNccl { error, version })
}

pub(super) fn nccl_result(h: &Hit<'_>) -> Option<VllmFact> {
    let mut c = Cur::new(h.msg.get(h.at..)?);
    let name = text(c.name()?);
    fault(h, FaultKind::NcclResult { name })
}

pub(super) fn dp_message(h: &Hit<'_>) -> Option<VllmFact> {
    (h.before().ends_with(b"HELLO") || h.before().ends_with(b"READY"))
        .then(|| fault(h, FaultKind::DpRoles))?
}

/// `[vllm-0.vllm]:29501`, `[::ffff:10.42.3.7]:42643`, `(10.42.3.7, 29501)` as `host:port`.
pub(super) fn address(c: &mut Cur<'_>) -> Option<String> {
    if c.eat("(") {
        let host = text(c.while_(|b| b != b',' && b != b')'));
        let port: Option<u32> = c.skip(", ").and_then(|()| c.uint());
        return Some(match port {
            Some(p) => format!("{host}:{p}"),
            None => host,
        });
    }
    c.skip("[")?;
    let host = text(c.seek("]")?);
    let host = host.strip_prefix("::ffff:").unwrap_or(&host).to_owned();
    let port: Option<u32> = c.skip(":").and_then(|()| c.uint());
    Some(match port {
        Some(p) if host.contains(':') => format!("[{host}]:{p}"),
        Some(p) => format!("{host}:{p}"),
        None => host,
    })
}
