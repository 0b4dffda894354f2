//! What the system under NCCL refused: CUDA, shared memory, verbs.

use super::super::View;
use super::super::trouble::{Case, Notice, Told, Words};
use super::super::vllm::short;
use crate::parse::fact::WarnKind;
use crate::parse::vllm::FaultKind;
use crate::rules::scene::{Class, Confidence, Finding, Severity};

pub(super) fn cuda(c: &Case<'_, '_>) -> Words {
    let text = c.warned(|k| match k {
        WarnKind::Cuda { text } => Some(text.clone()),
        _ => None,
    });
    let text = text.unwrap_or_default();
    let has = |w: &str| text.contains(w);
    let (cause, fix) = if has("not yet initialized") || has("802") {
        (
            "The driver waits for the NVSwitch fabric: the fabric manager is not running on the node, or of another version than the driver.",
            "on the node: systemctl restart nvidia-fabricmanager; its version must equal the driver's".to_owned(),
        )
    } else if has("out of memory") || has("alloc") {
        (
            "NCCL needs GPU memory of its own for buffers, and vLLM or another process has left none.",
            c.target.arg("--gpu-memory-utilization=0.85"),
        )
    } else if has("illegal memory access") || has("unspecified launch failure") || has("misaligned")
    {
        (
            "A kernel that ran before failed; NCCL is where it showed.",
            c.target.env("CUDA_LAUNCH_BLOCKING", Some("1")),
        )
    } else if has("invalid device ordinal") {
        (
            "The process asks for a GPU that it does not see.",
            c.target
                .kubectl(&format!("exec {} -- nvidia-smi -L", c.target.pod(&c.pod()))),
        )
    } else {
        (
            "The CUDA driver refused a call that NCCL made.",
            c.target
                .kubectl(&format!("exec {} -- nvidia-smi -q", c.target.pod(&c.pod()))),
        )
    };
    (
        format!("CUDA fails in NCCL on {}: {}", c.place, short(&text)),
        cause.into(),
        vec![fix, "on the node: dmesg | grep -i xid".into()],
    )
}

/// Shared memory that could not be had because there is no room.
pub(super) fn shm(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    // Up to 2.21.5 the line has no error text: creating and extending fail for want of room.
    let sure = |n: &Notice<'_>| match &n.told {
        Told::Warn(kind, true) => matches!(**kind, WarnKind::Shm { no_space: true }),
        Told::Fault(f) => {
            matches!(f.kind, FaultKind::Shm { attaching: false })
                && (n.line.text.contains("No space left")
                    || n.line.text.contains("Insufficient space"))
        }
        _ => false,
    };
    let near = |n: &Notice<'_>| match &n.told {
        Told::Warn(kind, true) => {
            let t = &n.line.text;
            matches!(**kind, WarnKind::Shm { no_space: false })
                && !t.contains("error:")
                && (t.contains("creating shared memory")
                    || t.contains("failed to extend")
                    || t.contains("posix_fallocate"))
        }
        Told::Fault(_) => n.fault().is_some_and(|f| {
            matches!(f.kind, FaultKind::Shm { attaching: false })
                && !n.line.text.contains("attaching")
        }),
        _ => false,
    };
    let list = notices.iter().filter(|n| sure(n) || near(n)).collect();
    for c in Case::split(view, list) {
        let words = (
            format!("/dev/shm of {} is too small", c.place),
            "A shared-memory segment could not be created or extended. Containers get 64 MiB unless a volume is mounted there; files of crashed processes can fill it as well.".into(),
            vec![
                c.target.yaml("volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 16Gi}}]"),
                c.target.yaml("containers[*].volumeMounts: [{name: shm, mountPath: /dev/shm}]"),
                c.target.kubectl(&format!("exec {} -- df -h /dev/shm", c.target.pod(&c.pod()))),
            ],
        );
        if let Some(mut f) = c.raise(
            "nccl.shm-too-small",
            Severity::Error,
            Class::Platform,
            words,
        ) {
            if !c.list.iter().any(|n| sure(n)) {
                f.confidence = Confidence::Likely;
            }
            out.push(f);
        }
    }
}

/// Name and meaning of a verbs completion status.
fn status(code: u32) -> (&'static str, &'static str) {
    match code {
        1 => (
            "local length error",
            "a message was longer than the buffer of this side: the ranks disagree on sizes",
        ),
        2 => (
            "local QP operation error",
            "the queue pair was used wrongly: a fault of driver or library",
        ),
        4 => (
            "local protection error",
            "the NIC may not access the buffer: memory registration, ACS or GPUDirect RDMA is at fault",
        ),
        5 => (
            "work request flushed",
            "the queue pair was already in error: a consequence of an earlier failure",
        ),
        9 => (
            "remote invalid request",
            "the other side refused the request: sizes don't match",
        ),
        10 => (
            "remote access error",
            "the other side's NIC may not access its buffer: a stale key, ACS or GPUDirect RDMA",
        ),
        11 => (
            "remote operation error",
            "the other side failed to carry it out",
        ),
        12 => (
            "transport retry exceeded",
            "no answer came: the peer is dead, the link is down, GID index, VLAN or PFC are wrong, or no path leads from rail to rail",
        ),
        13 => (
            "receiver-not-ready retry exceeded",
            "the other side never posted a receive: it is stuck or dead",
        ),
        _ => ("error", "see the verbs documentation"),
    }
}

pub(super) fn completion(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let code = |n: &Notice<'_>| match n.warn() {
        Some(WarnKind::IbCompletion { status, .. }) => Some(*status),
        _ => None,
    };
    let list = notices
        .iter()
        .filter(|n| code(n).is_some_and(|s| s != 0))
        .collect();
    for mut c in Case::split(view, list) {
        // Flushed requests follow from another error, when there is one.
        if c.list.iter().any(|n| code(n) != Some(5)) {
            let list = c
                .list
                .iter()
                .copied()
                .filter(|n| code(n) != Some(5))
                .collect();
            c = Case::new(view, list);
        }
        let Some((s, peer, hca)) = c.warned(|k| match k {
            WarnKind::IbCompletion { status, peer, hca } => {
                Some((*status, peer.clone(), hca.clone()))
            }
            _ => None,
        }) else {
            continue;
        };
        let (name, meaning) = status(s);
        let to = peer.map_or_else(String::new, |p| format!(" to {p}"));
        let on = hca.map_or_else(String::new, |h| format!(" on {h}"));
        let mut fix = Vec::new();
        match s {
            4 | 10 => {
                fix.push(c.target.env("NCCL_NET_GDR_LEVEL", Some("LOC")) + "   # without GPUDirect RDMA: if it works now, ACS or the peer memory driver is at fault");
                fix.push(
                    "on the nodes: lspci -vvv | grep ACSCtl; lsmod | grep nvidia_peermem".into(),
                );
            }
            12 | 13 => {
                fix.push(
                    c.target.env("NCCL_IB_GID_INDEX", Some("3"))
                        + "   # RoCE v2; compare with show_gids on both nodes",
                );
                fix.push(c.target.env("NCCL_IB_TIMEOUT", Some("22")));
                fix.push("on both nodes: ibstat, and ib_write_bw between the two devices".into());
            }
            _ => fix.push(c.target.env("NCCL_DEBUG_SUBSYS", Some("INIT,NET"))),
        }
        let words = (
            format!("RDMA{to} fails{on}: {name} (status {s})"),
            format!("{}: {meaning}.", c.place),
            fix,
        );
        if let Some(mut f) = c.raise(
            "nccl.ib-completion-error",
            Severity::Error,
            Class::Network,
            words,
        ) {
            if s == 5 {
                f.confidence = Confidence::Likely;
            }
            out.push(f);
        }
    }
}

/// `NET/IB : mlx5_1:1 Got non-fatal async event: port error(10)`: the device and what it reports.
fn event(text: &str) -> Option<(&str, &str)> {
    let (_, said) = text.split_once("NET/IB : ")?;
    let (device, _) = said.split_once(' ')?;
    let (_, event) = said
        .split_once("event: ")
        .or_else(|| said.rsplit_once(": "))?;
    let event = event.split('(').next().unwrap_or(event).trim();
    (!event.is_empty() && device.contains(':')).then_some((device, event))
}

/// A device that reports trouble of its port again and again. Where a transfer failed, that is the finding; one
/// event alone is what a switch does when it restarts.
pub(super) fn ports(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list: Vec<&Notice<'_>> = notices
        .iter()
        .filter(|n| n.warn() == Some(&WarnKind::IbAsync) && event(&n.line.text).is_some())
        .collect();
    for c in Case::split(view, list) {
        let failed = |f: &Finding| {
            f.id == "nccl.ib-completion-error"
                && c.list.iter().any(|n| f.hosts.contains(&view.place(n.unit)))
        };
        let Some((device, what)) = c.list.first().and_then(|n| event(&n.line.text)) else {
            continue;
        };
        let times = c.list.len();
        if times < 2 || out.iter().any(failed) {
            continue;
        }
        let words = (
            format!("{device} on {} reports {what} {times} times", c.place),
            "The link of this RDMA device goes down and comes back: a cable, a transceiver, or the port of the switch. No transfer has failed yet; one that is under way for longer than the retries last will.".into(),
            vec![
                "on the node: ibstat, ethtool -m, and the counters of the switch's port (symbol errors, link downed)".into(),
                c.target.env("NCCL_IB_TIMEOUT", Some("22")) + "   # rides over short gaps",
            ],
        );
        out.extend(c.raise(
            "nccl.ib-completion-error",
            Severity::Warning,
            Class::Network,
            words,
        ));
    }
}
