//! What NCCL's own lines, and torch's watchdog over it, prove.

mod debug;
mod paths;
mod stuck;
mod system;
mod watchdog;

use super::trouble::{Case, Notice, Words};
use super::{View, by_lines, first_lines};
use crate::parse::fact::WarnKind;
use crate::rules::scene::{Class, Communicator, Finding, LineRef, Severity};

/// An id whose lines speak for themselves.
struct Rule {
    id: &'static str,
    severity: Severity,
    class: Class,
    proves: fn(&View<'_>, &Notice<'_>) -> bool,
    words: fn(&Case<'_, '_>) -> Words,
}

const RULES: &[Rule] = &[
    Rule {
        id: "nccl.collective-mismatch",
        severity: Severity::Error,
        class: Class::Application,
        proves: |_, n| n.warn() == Some(&WarnKind::CollectiveMismatch),
        words: |c| {
            (
                "ranks call collectives of different sizes or order".into(),
                "NCCL received another number of bytes than the call on this rank expects: the ranks disagree on operation, count, datatype or order, or NCCL_ALGO and NCCL_PROTO differ between them.".into(),
                vec![
                    "make NCCL_ALGO, NCCL_PROTO and the NCCL library equal in every pod".into(),
                    c.target.env("NCCL_DEBUG_SUBSYS", Some("INIT,COLL")) + "   # for one short run: shows each rank's calls",
                    c.target.arg("--enforce-eager"),
                ],
            )
        },
    },
    Rule {
        id: "nccl.peer-mapping-exhausted",
        severity: Severity::Error,
        class: Class::Hardware,
        proves: |_, n| n.warn() == Some(&WarnKind::PeerMapping),
        words: |c| {
            (
                format!("the driver has no peer mappings left on {}", c.place),
                "A GPU can map only so many peers over PCIe (eight on most), and NCCL asked for more.".into(),
                vec![
                    c.target.env("NCCL_P2P_LEVEL", Some("NVL")),
                    c.target.env("NCCL_P2P_DISABLE", Some("1")),
                ],
            )
        },
    },
    Rule {
        id: "nccl.memlock",
        severity: Severity::Error,
        class: Class::Platform,
        proves: |_, n| n.warn() == Some(&WarnKind::Memlock),
        words: |c| {
            (
                format!("{} may not pin memory for RDMA", c.place),
                "The verbs library was refused memory: the container's memlock limit is too low, and it lacks the capability IPC_LOCK.".into(),
                vec![
                    c.target.yaml("securityContext: {capabilities: {add: [IPC_LOCK]}}"),
                    c.target.kubectl(&format!("exec {} -- sh -c 'ulimit -l'", c.target.pod(&c.pod()))) + "   # should say unlimited",
                    "on the nodes: LimitMEMLOCK=infinity for the container runtime's service".into(),
                ],
            )
        },
    },
    Rule {
        id: "nccl.duplicate-gpu",
        severity: Severity::Error,
        class: Class::Configuration,
        proves: |v, n| {
            n.warn() == Some(&WarnKind::DuplicateGpu)
                && v.env(n.unit, "NCCL_MULTI_RANK_GPU_ENABLE")
                    .is_none_or(|(x, _)| x != "1")
                && !n.line.text.contains("MIG")
        },
        words: |c| {
            (
                format!("two ranks of {} use one GPU", c.place),
                "Two processes were given the same device: CUDA_VISIBLE_DEVICES or the local rank is wrong, more ranks than GPUs run on the node, or two containers share a host identity.".into(),
                vec![
                    c.target.env("CUDA_VISIBLE_DEVICES", None),
                    c.target.kubectl(&format!("exec {} -- nvidia-smi -L", c.target.pod(&c.pod()))),
                    "start one rank per GPU, with local ranks from 0 to the number of GPUs of the pod minus 1".into(),
                ],
            )
        },
    },
    Rule {
        id: "nccl.no-interface",
        severity: Severity::Error,
        class: Class::Configuration,
        proves: |_, n| {
            // Another subnet than NCCL_COMM_ID's is normal among pods.
            n.warn() == Some(&WarnKind::NoInterface) && !n.line.text.contains("same subnet")
        },
        words: |c| {
            let unit = c.list.first().map_or(0, |n| n.unit);
            let named = c
                .view
                .env(unit, "NCCL_SOCKET_IFNAME")
                .map(|(v, _)| v.to_owned());
            let title = match &named {
                Some(v) => format!(
                    "{} has no interface that fits NCCL_SOCKET_IFNAME={v}",
                    c.place
                ),
                None => format!("NCCL finds no network interface in {}", c.place),
            };
            (
                title,
                "No interface of the pod matches: the name is a prefix, `=name` an exact name, `^name` excludes.".into(),
                vec![
                    c.target.env("NCCL_SOCKET_IFNAME", Some("eth0")),
                    c.target.kubectl(&format!("exec {} -- ls /sys/class/net", c.target.pod(&c.pod()))),
                ],
            )
        },
    },
    Rule {
        id: "nccl.p2p-refused",
        severity: Severity::Warning,
        class: Class::Hardware,
        proves: |v, n| {
            n.nccl() == Some(&WarnKind::P2pDisabled)
                && v.env(n.unit, "NCCL_P2P_DISABLE")
                    .is_none_or(|(x, _)| x != "1")
        },
        words: |c| {
            let nvlink = c.list.iter().any(|n| n.line.text.contains("NVLINK"));
            let what = if nvlink {
                "that NVLink connects"
            } else {
                "that are connected"
            };
            let cause = if nvlink {
                "NVLink is there but the driver refuses peer access: a hardware fault, or the fabric manager is not well."
            } else {
                "The driver refuses peer access over PCIe: ACS or the IOMMU is on (host or virtual machine), or the container may not use IPC."
            };
            (
                format!("P2P is refused between GPUs of {} {what}", c.place),
                cause.into(),
                vec![
                    c.target.kubectl(&format!("exec {} -- nvidia-smi topo -m", c.target.pod(&c.pod()))),
                    "on the node: nvidia-smi nvlink --status; systemctl status nvidia-fabricmanager; lspci -vvv | grep ACSCtl".into(),
                ],
            )
        },
    },
    Rule {
        id: "nccl.nvls-failed",
        severity: Severity::Warning,
        class: Class::Platform,
        proves: |_, n| n.nccl() == Some(&WarnKind::NvlsFailed),
        words: |c| {
            (
                format!("NVLink SHARP can't be set up on {}", c.place),
                "Binding multicast memory was refused: the fabric manager or an NVSwitch is misconfigured or unwell.".into(),
                vec![
                    c.target.env("NCCL_NVLS_ENABLE", Some("0")),
                    "on the node: systemctl restart nvidia-fabricmanager, then nvidia-smi -q | grep -A2 Fabric".into(),
                ],
            )
        },
    },
    Rule {
        id: "nccl.mnnvl-imex",
        severity: Severity::Error,
        class: Class::Platform,
        proves: |_, n| n.warn() == Some(&WarnKind::Mnnvl),
        words: |c| {
            (
                format!("multi-node NVLink does not work on {}", c.place),
                "The GPUs offer an NVLink domain over nodes, but no IMEX channel is in the pod or its daemon does not answer.".into(),
                vec![
                    c.target.env("NCCL_MNNVL_ENABLE", Some("0")),
                    c.target.kubectl(&format!("exec {} -- ls -l /dev/nvidia-caps-imex-channels", c.target.pod(&c.pod()))),
                    "give the pods a ComputeDomain claim; on the node: nvidia-imex-ctl -N".into(),
                ],
            )
        },
    },
    Rule {
        id: "nccl.cuda-failure",
        severity: Severity::Error,
        class: Class::Hardware,
        proves: |_, n| matches!(n.warn(), Some(WarnKind::Cuda { .. })),
        words: system::cuda,
    },
];

/// Every rule of this room.
pub fn find(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    for rule in RULES {
        let list = notices.iter().filter(|n| (rule.proves)(view, n)).collect();
        for case in Case::split(view, list) {
            let words = (rule.words)(&case);
            out.extend(case.raise(rule.id, rule.severity, rule.class, words));
        }
    }
    system::shm(view, notices, out);
    system::completion(view, notices, out);
    system::ports(view, notices, out);
    watchdog::watchdog(view, notices, out);
    let elsewhere = paths::Elsewhere::default();
    for (at, c) in view.scene.communicators.iter().enumerate() {
        paths::without_gdr(view, &elsewhere, c, out);
        paths::shm_despite_p2p(view, &elsewhere, c, notices, out);
        paths::interfaces(view, c, out);
        stuck::behind(view, at, c, out);
        stuck::stuck_init(view, c, out);
    }
    debug::debug(view, out);
}

fn start(
    c: &Communicator,
    id: &'static str,
    severity: Severity,
    class: Class,
    lines: &[LineRef],
) -> Option<Finding> {
    let mut f = by_lines(id, &c.key, severity, class, first_lines(lines.to_vec()))?;
    f.communicator = Some(c.key.clone());
    Some(f)
}
