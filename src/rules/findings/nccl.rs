//! What NCCL's own lines, and torch's watchdog over it, prove.

use std::collections::{BTreeMap, BTreeSet};

use super::fix::{Target, sh};
use super::trouble::{Case, Notice, Told, Words, order};
use super::vllm::short;
use super::{View, earlier, first_lines, ranges};
use crate::parse::fact::{CollOp, WarnKind};
use crate::parse::vllm::{FaultKind, Torch};
use crate::rules::comms::line_ref;
use crate::rules::rating::is_socket;
use crate::rules::scene::{
    Class, CommState, Communicator, Confidence, Edge, Evidence, Family, Finding, LineRef, Severity,
    Stage,
};

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
                    c.target.kubectl(&format!("exec {} -- sh -c 'ulimit -l'", sh(&c.pod()))) + "   # should say unlimited",
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
                    c.target.kubectl(&format!("exec {} -- nvidia-smi -L", sh(&c.pod()))),
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
                    c.target.kubectl(&format!("exec {} -- ls /sys/class/net", sh(&c.pod()))),
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
                    c.target.kubectl(&format!("exec {} -- nvidia-smi topo -m", sh(&c.pod()))),
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
                    c.target.kubectl(&format!("exec {} -- ls -l /dev/nvidia-caps-imex-channels", sh(&c.pod()))),
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
        words: cuda,
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
    shm(view, notices, out);
    completion(view, notices, out);
    watchdog(view, notices, out);
    for c in &view.scene.communicators {
        without_gdr(view, c, out);
        shm_despite_p2p(view, c, notices, out);
        interfaces(view, c, out);
        behind(view, c, out);
        stuck_init(view, c, out);
    }
    debug(view, out);
}

fn cuda(c: &Case<'_, '_>) -> Words {
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
                .kubectl(&format!("exec {} -- nvidia-smi -L", sh(&c.pod()))),
        )
    } else {
        (
            "The CUDA driver refused a call that NCCL made.",
            c.target
                .kubectl(&format!("exec {} -- nvidia-smi -q", sh(&c.pod()))),
        )
    };
    (
        format!("CUDA fails in NCCL on {}: {}", c.place, short(&text)),
        cause.into(),
        vec![fix, "on the node: dmesg | grep -i xid".into()],
    )
}

/// Shared memory that could not be had because there is no room.
fn shm(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
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
                c.target.kubectl(&format!("exec {} -- df -h /dev/shm", sh(&c.pod()))),
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

fn completion(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
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

/// torch's watchdog: the ranks that did not complain are the suspects.
fn watchdog(view: &View<'_>, notices: &[Notice<'_>], out: &mut Vec<Finding>) {
    let list = notices
        .iter()
        .filter(|n| {
            matches!(
                &n.told,
                Told::Torch(Torch::Timeout { .. } | Torch::Position { .. } | Torch::Dump { .. })
            )
        })
        .collect();
    for all in Case::split(view, list) {
        let timeout = |n: &&&Notice<'_>| matches!(&n.told, Told::Torch(Torch::Timeout { .. }));
        let fired: Vec<&Notice<'_>> = all.list.iter().filter(timeout).copied().collect();
        let Some(Told::Torch(Torch::Timeout { work, ran_ms, .. })) = fired.first().map(|n| &n.told)
        else {
            continue;
        };
        let c = Case::new(view, fired.clone());
        let who = |n: &Notice<'_>| match &n.told {
            Told::Torch(t) => t.rank().or_else(|| view.process(n.unit)?.global_rank),
            _ => None,
        };
        let complained: BTreeSet<u32> = fired
            .iter()
            .filter(|n| matches!(&n.told, Told::Torch(Torch::Timeout { work: w, .. }) if w.seq == work.seq))
            .filter_map(|n| who(n))
            .collect();
        // How far each rank's queue came, by its own word.
        let mut done: BTreeMap<u32, i64> = BTreeMap::new();
        for n in &all.list {
            let at = match &n.told {
                Told::Torch(
                    Torch::Position { position, .. }
                    | Torch::Dump {
                        position: Some(position),
                        ..
                    },
                ) => position.completed,
                _ => continue,
            };
            if let Some(r) = who(n) {
                let slot = done.entry(r).or_insert(at);
                *slot = (*slot).min(at);
            }
        }
        let group = members(view, &all, &complained);
        let silent: Vec<u32> = group
            .iter()
            .copied()
            .filter(|r| !complained.contains(r))
            .collect();
        let least = done.values().min().copied();
        let late: Vec<u32> = done
            .iter()
            .filter(|(_, d)| Some(**d) == least && done.values().any(|x| x > d))
            .map(|(r, _)| *r)
            .collect();
        let ran = ran_ms.map_or_else(String::new, |ms| format!(" after {} s", ms / 1000));
        let op = &work.op;
        let (title, cause) = if !silent.is_empty() && silent.len() <= group.len() / 2 {
            (
                format!(
                    "rank {} did not come to {op} {}: the others timed out{ran}",
                    ranges(&silent),
                    work.seq
                ),
                format!(
                    "Ranks {} report the time-out of {op} (SeqNum {}); of the same group, {} said nothing. Who reports has waited; who is silent is stuck, died, or is in another call.",
                    ranges(&complained.iter().copied().collect::<Vec<_>>()),
                    work.seq,
                    ranges(&silent)
                ),
            )
        } else if !late.is_empty() {
            (
                format!(
                    "rank {} is behind the others at {op} {}: the watchdog fired{ran}",
                    ranges(&late),
                    work.seq
                ),
                format!(
                    "Its last completed work is {}, the lowest of all ranks that tell theirs.",
                    least.unwrap_or(-1)
                ),
            )
        } else {
            (
                format!("{op} {} timed out{ran} on {}", work.seq, c.place),
                "These logs don't show which rank failed to join: look for the one that reports no time-out, or whose last completed work is lowest.".into(),
            )
        };
        let suspects = if !silent.is_empty() && silent.len() <= group.len() / 2 {
            silent
        } else {
            late
        };
        let suspect = suspects.first().and_then(|r| {
            view.scene
                .processes
                .iter()
                .find(|p| p.global_rank == Some(*r))
        });
        let mut fix = Vec::new();
        if let Some(p) = suspect {
            let pid = p.pid.map_or_else(|| "<pid>".into(), |p| p.to_string());
            fix.push(c.target.kubectl(&format!(
                "exec {} -- py-spy dump --pid {pid}",
                sh(&p.place())
            )));
        }
        fix.push(
            c.target.env("TORCH_NCCL_TRACE_BUFFER_SIZE", Some("2000"))
                + "   # the next time-out names the call site of every rank",
        );
        fix.push("give slow steps more time: --distributed-timeout-seconds=1800".into());
        if let Some(mut f) = c.raise(
            "nccl.watchdog-timeout",
            Severity::Error,
            Class::Application,
            (title, cause, fix),
        ) {
            if suspects.is_empty() {
                f.confidence = Confidence::Likely;
            } else {
                f.ranks = suspects;
                f.communicator = None;
            }
            out.push(f);
        }
    }
}

/// Global ranks of the smallest vLLM group that holds all who complained, else of the workload.
fn members(view: &View<'_>, c: &Case<'_, '_>, complained: &BTreeSet<u32>) -> BTreeSet<u32> {
    let holds = |ranks: &[u32]| complained.iter().all(|r| ranks.contains(r));
    let group = view
        .scene
        .groups
        .iter()
        .filter(|g| g.global_ranks.len() > complained.len() && holds(&g.global_ranks))
        .min_by_key(|g| g.global_ranks.len());
    if let Some(g) = group {
        return g.global_ranks.iter().copied().collect();
    }
    let at = c.list.first().map_or(0, |n| view.workload_of(n.unit));
    (0u32..)
        .zip(&view.scene.processes)
        .filter(|(u, _)| view.workload_of(*u) == at)
        .filter_map(|(_, p)| p.global_rank)
        .collect()
}

fn start(
    c: &Communicator,
    id: &'static str,
    severity: Severity,
    class: Class,
    lines: &[LineRef],
) -> Option<Finding> {
    let lines = first_lines(lines.to_vec());
    let mut f = Finding::new(
        id,
        &c.key,
        severity,
        class,
        Evidence::Line(lines.first()?.clone()),
    );
    for l in lines {
        f.since = earlier(f.since, l.at);
        f.prove(Evidence::Line(l));
    }
    f.communicator = Some(c.key.clone());
    Some(f)
}

fn ends(f: &mut Finding, view: &View<'_>, c: &Communicator, edges: &[&Edge]) {
    let ranks: BTreeSet<u32> = edges
        .iter()
        .flat_map(|e| [e.from, e.to])
        .flatten()
        .collect();
    let units = c
        .ranks
        .iter()
        .filter(|m| ranks.contains(&m.rank))
        .map(|m| m.process)
        .collect();
    let who = view.who(&units);
    (f.hosts, f.pods) = (who.hosts, who.pods);
    f.ranks = ranks.into_iter().collect();
}

/// RDMA staged through host memory.
fn without_gdr(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let rdma = |e: &&Edge| e.family == Family::Net && !is_socket(e);
    let staged: Vec<&Edge> = c
        .edges
        .iter()
        .filter(rdma)
        .filter(|e| e.gdr == Some(false))
        .collect();
    if staged.is_empty() {
        return;
    }
    let one_sided = |e: &Edge| {
        e.paths
            .iter()
            .any(|p| matches!((&p.send, &p.receive), (Some(a), Some(b)) if a.gdr != b.gdr))
    };
    let elsewhere = view
        .scene
        .communicators
        .iter()
        .flat_map(|c| &c.edges)
        .filter(rdma)
        .find(|e| e.gdr == Some(true));
    let uneven = staged.iter().copied().find(|e| one_sided(e));
    let ranks: BTreeSet<u32> = staged
        .iter()
        .flat_map(|e| [e.from, e.to])
        .flatten()
        .collect();
    // The line that says why, of a process at one of these ends.
    let mut why: Option<(Option<u32>, Option<u32>, LineRef)> = None;
    for m in c.ranks.iter().filter(|m| ranks.contains(&m.rank)) {
        let Some(unit) = view.joined.units.get(m.process as usize) else {
            continue;
        };
        for p in unit
            .procs
            .iter()
            .filter_map(|p| view.model.procs.list.get(*p as usize))
        {
            if let Some((d, l, q)) = &p.gdr_off {
                why.get_or_insert((*d, *l, line_ref(p.source, q)));
            }
        }
    }
    let far = why
        .as_ref()
        .is_some_and(|(d, l, _)| matches!((d, l), (Some(d), Some(l)) if d > l));
    let severity = if !far && (elsewhere.is_some() || uneven.is_some()) {
        Severity::Warning
    } else {
        Severity::Info
    };
    let mut lines: Vec<LineRef> = uneven.iter().map(|e| e.line.clone()).collect();
    lines.extend(staged.iter().map(|e| e.line.clone()));
    let Some(mut f) = start(c, "nccl.ib-without-gdr", severity, Class::Platform, &lines) else {
        return;
    };
    if let Some((.., l)) = &why {
        f.prove(Evidence::Line(l.clone()));
    }
    if let Some(e) = elsewhere {
        f.prove(Evidence::Line(e.line.clone()));
    }
    ends(&mut f, view, c, &staged);
    f.title = format!(
        "{} RDMA connections go through host memory, without GPUDirect",
        staged.len()
    );
    f.cause = match (&why, far) {
        (Some((Some(d), Some(l), _)), true) => format!("GPU and NIC are too far apart: distance {d}, limit {l}."),
        (Some(_), _) => "NCCL says that GPUDirect RDMA is disabled for the NIC: no nvidia-peermem module and no DMA-BUF on that node.".into(),
        (None, _) if uneven.is_some() => "One side of a connection has GPUDirect RDMA and the other has not: the nodes differ.".into(),
        (None, _) if elsewhere.is_some() => "Other connections of the same job have GPUDirect RDMA: these nodes differ from the others.".into(),
        _ => "No connection of this job has GPUDirect RDMA.".into(),
    };
    f.fix = vec![
        "on the nodes: modprobe nvidia_peermem, or an open kernel driver with DMA-BUF".into(),
        Target::of(view.model).env("NCCL_DEBUG_SUBSYS", Some("INIT,NET,GRAPH"))
            + "   # says why it is off",
    ];
    if far {
        f.fix.push(
            Target::of(view.model).env("NCCL_NET_GDR_LEVEL", Some("SYS"))
                + "   # only if measurement says that it helps",
        );
    }
    out.push(f);
}

/// Shared memory between GPUs that are proven to reach each other.
fn shm_despite_p2p(
    view: &View<'_>,
    c: &Communicator,
    notices: &[Notice<'_>],
    out: &mut Vec<Finding>,
) {
    let process = |c: &Communicator, r: Option<u32>| {
        let r = r?;
        c.ranks.iter().find(|m| m.rank == r).map(|m| m.process)
    };
    let pair = |c: &Communicator, e: &Edge| {
        let (a, b) = (process(c, e.from)?, process(c, e.to)?);
        Some((a.min(b), a.max(b)))
    };
    let shm: Vec<&Edge> = c
        .edges
        .iter()
        .filter(|e| e.family == Family::Shm && e.same_host == Some(true))
        .collect();
    if shm.is_empty() {
        return;
    }
    let mut direct: BTreeMap<(u32, u32), LineRef> = BTreeMap::new();
    for other in &view.scene.communicators {
        for e in other.edges.iter().filter(|e| e.family == Family::P2p) {
            if let Some(p) = pair(other, e) {
                direct.entry(p).or_insert_with(|| e.line.clone());
            }
        }
    }
    // NCCL itself says that NVLink stands between two GPUs whose peer access is refused.
    let refused = |e: &Edge| {
        notices.iter().find(|n| {
            n.nccl() == Some(&WarnKind::P2pDisabled)
                && n.line.text.contains("NVLINK")
                && [e.from, e.to]
                    .into_iter()
                    .any(|r| process(c, r) == Some(n.unit))
        })
    };
    let on_purpose = |e: &Edge| {
        [e.from, e.to]
            .into_iter()
            .filter_map(|r| process(c, r))
            .any(|u| {
                view.env(u, "NCCL_P2P_DISABLE")
                    .is_some_and(|(v, _)| v == "1")
                    || view.env(u, "NCCL_P2P_LEVEL").is_some()
            })
    };
    let mut proof: Vec<LineRef> = Vec::new();
    let mut bad: Vec<&Edge> = Vec::new();
    for e in shm.into_iter().filter(|e| !on_purpose(e)) {
        let line = pair(c, e)
            .and_then(|p| direct.get(&p))
            .or_else(|| refused(e).map(|n| &n.line));
        if let Some(line) = line {
            bad.push(e);
            proof.push(line.clone());
        }
    }
    let lines: Vec<LineRef> = bad.iter().map(|e| e.line.clone()).collect();
    let Some(mut f) = start(
        c,
        "nccl.shm-despite-p2p",
        Severity::Warning,
        Class::Platform,
        &lines,
    ) else {
        return;
    };
    for l in first_lines(proof) {
        f.prove(Evidence::Line(l));
    }
    f.confidence = Confidence::Likely;
    ends(&mut f, view, c, &bad);
    f.title = format!(
        "{} connections inside a host use shared memory although the GPUs can reach each other",
        bad.len()
    );
    f.cause = "The same GPUs are connected directly elsewhere, or NCCL says that NVLink stands between them. Containers without a common IPC namespace, or with another set of visible GPUs, fall back like this.".into();
    f.fix = vec![
        "run the ranks of one node in one pod, each seeing all GPUs of the pod".into(),
        Target::of(view.model).env("NCCL_DEBUG_SUBSYS", Some("INIT,P2P,SHM,GRAPH"))
            + "   # says why P2P was passed over",
    ];
    out.push(f);
}

/// Bootstrap over an interface that others can't reach, or over different ones.
fn interfaces(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let mut by: BTreeMap<String, Vec<(u32, u32, LineRef)>> = BTreeMap::new();
    let mut hosts: BTreeSet<&str> = BTreeSet::new();
    for m in &c.ranks {
        let Some(unit) = view.joined.units.get(m.process as usize) else {
            continue;
        };
        if let Some(h) = view.process(m.process).and_then(|p| p.host.as_deref()) {
            hosts.insert(h);
        }
        let told = unit
            .procs
            .iter()
            .filter_map(|p| view.model.procs.list.get(*p as usize));
        // Without an address it is a network device of the plugin, and those are many.
        if let Some((name, _, q, s)) = told
            .filter_map(|p| p.bootstrap.as_ref().map(|b| (&b.0, &b.1, &b.2, p.source)))
            .find(|b| !b.1.is_empty())
        {
            by.entry(name.clone())
                .or_default()
                .push((m.rank, m.process, line_ref(s, q)));
        }
    }
    let alone = |name: &str| name == "lo" || name == "docker0";
    let local = by.keys().any(|n| alone(n));
    let wide = hosts.len() > 1 || (c.unseen_count > 0 && hosts.len() == 1);
    if !(local && wide || by.len() > 1) {
        return;
    }
    // The odd ones out: those that nobody else can reach, else the fewest.
    let Some((name, odd)) = by
        .iter()
        .min_by_key(|(n, l)| (!alone(n), l.len(), (*n).clone()))
    else {
        return;
    };
    let mut lines: Vec<LineRef> = odd.iter().map(|(.., l)| l.clone()).collect();
    lines.truncate(4);
    let severity = if local && hosts.len() == 1 {
        Severity::Info
    } else {
        Severity::Warning
    };
    let Some(mut f) = start(
        c,
        "nccl.wrong-interface",
        severity,
        Class::Configuration,
        &lines,
    ) else {
        return;
    };
    for (_, l) in by
        .iter()
        .filter(|(n, _)| *n != name)
        .filter_map(|(n, l)| Some((n, l.first()?)))
    {
        f.prove(Evidence::Line(l.2.clone()));
    }
    let who = view.who(&odd.iter().map(|(_, p, _)| *p).collect());
    (f.hosts, f.pods) = (who.hosts, who.pods);
    f.ranks = odd.iter().map(|(r, ..)| *r).collect();
    let others: Vec<&str> = by
        .keys()
        .filter(|n| *n != name)
        .map(String::as_str)
        .collect();
    f.title = if others.is_empty() {
        format!(
            "NCCL of {} ranks meets over {name}, which other hosts can't reach",
            odd.len()
        )
    } else {
        format!(
            "ranks {} meet over {name}, the others over {}",
            ranges(&f.ranks),
            others.join(", ")
        )
    };
    f.cause = "The ranks of one communicator should use one network; NCCL_SOCKET_IFNAME differs, is unset on some, or names something else there.".into();
    let better = others.iter().find(|n| !alone(n)).copied().unwrap_or("eth0");
    f.fix = vec![Target::of(view.model).env("NCCL_SOCKET_IFNAME", Some(better))];
    out.push(f);
}

/// One 4 KiB buffer of call lines, of which the shortest have some 120 bytes.
const BUFFERED: u64 = 4096 / 120;
/// Standing still this long while others advance, seconds.
const STILL: i64 = 30;

/// Ranks whose collectives are behind those of the others.
fn behind(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let Some(at) = view
        .scene
        .communicators
        .iter()
        .position(|x| std::ptr::eq(x, c))
    else {
        return;
    };
    let Some(group) = view
        .order
        .get(at)
        .and_then(|g| view.joined.groups.get(*g as usize))
    else {
        return;
    };
    if c.state >= CommState::Destroyed || group.members.len() < 2 {
        return;
    }
    // Lines are what counts: `opCount` stands still on a single node from 2.27.3. A log whose start is gone
    // has lost lines, though, and there the counter is all that is left.
    let whole = group.members.values().all(|(u, r)| {
        let mut tellings = view.joined.tellings(&view.model.procs, *u, *r);
        tellings.any(|(_, p, rec)| {
            let source = view.scene.sources.get(p.source.0 as usize);
            rec.first().is_some() && source.is_some_and(|s| s.head_missing != Some(true))
        })
    });
    // rank → (position, process, last stamp of its process, first line).
    let mut seen: Vec<(u32, u64, u32, Option<i64>, LineRef)> = Vec::new();
    for (rank, (u, r)) in &group.members {
        let mut place: Option<u64> = None;
        let mut last = None;
        for (_, p, rec) in view.joined.tellings(&view.model.procs, *u, *r) {
            let calls = || {
                rec.calls
                    .iter()
                    .filter(|(op, _)| !matches!(op, CollOp::Send | CollOp::Recv))
                    .map(|(_, n)| *n)
            };
            let here = if whole {
                Some(calls().map(|(lines, _)| lines).sum()).filter(|n| *n > 0)
            } else {
                calls().map(|(_, op_count)| op_count).max()
            };
            place = place.max(here);
            last = last.max(p.last_at.filter(|a| a.exact).map(|a| a.ns));
        }
        let Some(m) = c.ranks.iter().find(|m| m.rank == *rank) else {
            continue;
        };
        if let Some(n) = place {
            seen.push((*rank, n, *u, last, m.line.clone()));
        }
    }
    let (Some(lead), Some(newest)) = (
        seen.iter().map(|s| s.1).max(),
        seen.iter().map(|s| s.3).max(),
    ) else {
        return;
    };
    let late: Vec<_> = seen
        .iter()
        .filter(|s| {
            let gap = lead - s.1;
            let still = matches!((s.3, newest), (Some(mine), Some(new)) if new - mine >= STILL * 1_000_000_000);
            gap > BUFFERED || (gap > 0 && still)
        })
        .collect();
    if late.is_empty() || late.len() * 2 > seen.len() {
        return;
    }
    let unit = if whole { "call" } else { "opCount" };
    let lines: Vec<LineRef> = late.iter().map(|s| s.4.clone()).collect();
    let Some(mut f) = start(
        c,
        "nccl.rank-stuck",
        Severity::Error,
        Class::Application,
        &lines,
    ) else {
        return;
    };
    for s in &late {
        f.prove(Evidence::Sample(format!(
            "rank {} is at {unit} {}, the furthest rank at {lead}",
            s.0, s.1
        )));
    }
    let unbuffered = late
        .iter()
        .all(|s| view.env(s.2, "NCCL_DEBUG_FILE").is_some());
    f.confidence = if unbuffered {
        Confidence::Likely
    } else {
        Confidence::Possible
    };
    f.ranks = late.iter().map(|s| s.0).collect();
    let who = view.who(&late.iter().map(|s| s.2).collect());
    (f.hosts, f.pods) = (who.hosts, who.pods);
    let least = late.iter().map(|s| s.1).min().unwrap_or(0);
    f.title = format!(
        "rank {} is behind: {unit} {least} of {lead}",
        ranges(&f.ranks)
    );
    f.cause = "The other ranks have called more collectives on this communicator than a buffer of output explains. Replays of CUDA graphs print nothing, so this is no proof.".into();
    let target = Target::of(view.model);
    let suspect = late.first().and_then(|s| view.process(s.2));
    f.fix = vec![target.kubectl(&format!(
        "exec {} -- py-spy dump --pid {}",
        sh(&suspect.map_or_else(|| "?".into(), |p| p.place())),
        suspect.and_then(|p| p.pid).map_or_else(|| "<pid>".into(), |p| p.to_string())
    ))];
    f.fix.push(
        target.env("NCCL_DEBUG_FILE", Some("/dev/stdout"))
            + "   # lines come at once instead of in blocks of 4 KiB",
    );
    out.push(f);
}

/// Others are complete for a while, a rank is not, and its log goes on without it.
fn stuck_init(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let Some(done) = c
        .ranks
        .iter()
        .filter(|m| matches!(m.state, CommState::Complete | CommState::Destroyed))
        .filter_map(|m| view.process(m.process)?.last_at)
        .filter(|a| a.exact)
        .map(|a| a.ns)
        .min()
    else {
        return;
    };
    let Some(now) = view.scene.now.filter(|a| a.exact) else {
        return;
    };
    let late: Vec<_> = c
        .ranks
        .iter()
        .filter(|m| c.incomplete_ranks.contains(&m.rank) && m.state == CommState::Starting)
        .filter(|m| {
            let began = m.line.at.filter(|a| a.exact).map_or(i64::MAX, |a| a.ns);
            let source = view.scene.sources.get(m.line.source as usize);
            // Its log must reach beyond the others' end of init, else it was merely cut earlier.
            let reaches = view.live()
                || source
                    .and_then(|s| s.last_stamp)
                    .is_some_and(|a| a.exact && a.ns > done);
            let further = view
                .process(m.process)
                .is_some_and(|p| p.stage > Some(Stage::NcclInit));
            now.ns.saturating_sub(began.max(done)) > 90 * 1_000_000_000 && reaches && !further
        })
        .collect();
    if late.is_empty()
        || out
            .iter()
            .any(|f| f.id == "nccl.rank-stuck" && f.communicator.as_ref() == Some(&c.key))
    {
        return;
    }
    let mut sorted: Vec<LineRef> = late.iter().map(|m| m.line.clone()).collect();
    sorted.sort_by_key(order);
    let Some(mut f) = start(
        c,
        "nccl.rank-stuck",
        Severity::Error,
        Class::Application,
        &sorted,
    ) else {
        return;
    };
    f.confidence = Confidence::Possible;
    f.ranks = late.iter().map(|m| m.rank).collect();
    let who = view.who(&late.iter().map(|m| m.process).collect());
    (f.hosts, f.pods) = (who.hosts, who.pods);
    f.title = format!(
        "rank {} has not finished the init that others have",
        ranges(&f.ranks)
    );
    f.cause = "Other ranks of this communicator printed Init COMPLETE more than 90 s ago; these printed START and nothing since.".into();
    f.fix = vec![
        Target::of(view.model).env("NCCL_DEBUG_FILE", Some("/dev/stdout"))
            + "   # lines come at once instead of in blocks of 4 KiB",
        "kubectl exec into the pod and run py-spy dump --pid of that rank".into(),
    ];
    out.push(f);
}

/// Too many debug lines, or none although NCCL ran.
fn debug(view: &View<'_>, out: &mut Vec<Finding>) {
    let target = Target::of(view.model);
    for (i, s) in (0u32..).zip(&view.scene.sources) {
        let procs = || view.model.procs.list.iter().filter(|p| p.source.0 == i);
        let calls: u64 = procs()
            .filter_map(|p| p.call_lines.as_ref())
            .map(|(n, _)| n)
            .sum();
        let Some(first) = procs()
            .filter_map(|p| p.call_lines.as_ref())
            .map(|(_, q)| q)
            .min_by_key(|q| q.line)
        else {
            continue;
        };
        let span = procs()
            .filter_map(|p| Some((p.first_at?, p.last_at?)))
            .filter(|(a, b)| a.exact && b.exact)
            .map(|(a, b)| b.ns - a.ns)
            .max();
        let rate = span
            .filter(|ns| *ns > 10_000_000_000)
            .map(|ns| calls as f64 / (ns as f64 / 1e9));
        let flood = calls >= 20_000 || (calls >= 500 && rate.is_some_and(|r| r >= 5.0));
        if !flood {
            continue;
        }
        let told = rate.map_or_else(
            || format!("{calls} lines of collective calls"),
            |r| format!("{r:.0} lines of collective calls per second, {calls} in all"),
        );
        let mut f = Finding::new(
            "nccl.debug-flood",
            &s.name,
            Severity::Info,
            Class::Configuration,
            Evidence::Line(line_ref(crate::model::event::SourceId(i), first)),
        );
        f.since = first.at;
        f.prove(Evidence::Sample(format!("{}: {told}", s.name)));
        let units: BTreeSet<u32> = (0u32..)
            .zip(&view.scene.processes)
            .filter(|(_, p)| p.source == i)
            .map(|(u, _)| u)
            .collect();
        for u in &units {
            if let Some((_, line)) = view.env(*u, "NCCL_DEBUG_SUBSYS") {
                f.prove(Evidence::Line(line));
                break;
            }
        }
        let who = view.who(&units);
        (f.hosts, f.pods) = (who.hosts, who.pods);
        f.title = format!(
            "{} logs every collective: {told}",
            who.places.first().map_or(s.name.as_str(), String::as_str)
        );
        f.cause = "NCCL_DEBUG=INFO with COLL or ALL prints a line per call. That slows inference and rotates the start of the log away.".into();
        f.fix = vec![
            target.env("NCCL_DEBUG_SUBSYS", Some("INIT,BOOTSTRAP,ENV,NET,GRAPH")),
            target.env("NCCL_DEBUG", Some("WARN")),
        ];
        out.push(f);
    }
    // Only the pod's own specification proves that the variable is unset.
    for s in &view.model.speakers.list {
        let Some((_, source)) = view.model.sources.iter().find(|(id, _)| *id == s.source) else {
            continue;
        };
        let (Some(version), Some(container)) = (&s.nccl, &source.info.container) else {
            continue;
        };
        let Some(spec) = view
            .model
            .pods
            .get(&container.pod)
            .and_then(|p| p.containers.iter().find(|c| c.name == container.container))
        else {
            continue;
        };
        let set = spec.env.iter().any(|(k, _)| k == "NCCL_DEBUG");
        if set || source.nccl_lines > 0 || out.iter().any(|f| f.id == "nccl.debug-absent") {
            continue;
        }
        let object = format!(
            "pod/{}: no NCCL_DEBUG in spec.containers[{}].env",
            container.pod.name, container.container
        );
        let mut f = Finding::new(
            "nccl.debug-absent",
            &source.info.name,
            Severity::Info,
            Class::Configuration,
            Evidence::Object(object),
        );
        f.confidence = Confidence::Likely;
        f.pods = vec![container.pod.name.clone()];
        f.title = format!("NCCL {version} runs without NCCL_DEBUG: transports can't be seen");
        f.cause = "vLLM says that it loaded NCCL, the pod's environment does not set NCCL_DEBUG, and NCCL prints nothing without it.".into();
        f.fix = vec![
            target.env("NCCL_DEBUG", Some("INFO")),
            target.env("NCCL_DEBUG_SUBSYS", Some("INIT,BOOTSTRAP,ENV,NET,GRAPH")),
        ];
        out.push(f);
    }
}
