//! What every finding, check, variable and piece of advice means: read offline.

use std::fmt::Write as _;

use super::{advice, checks, probes, variables};
use crate::parse::nearest;

/// The text about one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// Id.
    pub id: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What proves it, and what does not.
    pub proof: &'static str,
    /// What to do first.
    pub fix: &'static str,
}

const fn of(
    id: &'static str,
    means: &'static str,
    proof: &'static str,
    fix: &'static str,
) -> Explained {
    Explained {
        id,
        means,
        proof,
        fix,
    }
}

/// Every finding, sorted by id.
pub const FINDINGS: &[Explained] = &[
    of(
        "gpu.count-mismatch",
        "A pod sees another number of GPUs than it asked for or than its ranks need.",
        "The GPUs that the container lists, against the request and the tensor parallel size.",
        "Compare `nvidia-smi -L` in the pod with resources.limits; remove CUDA_VISIBLE_DEVICES from the pod.",
    ),
    of(
        "gpu.foreign-memory",
        "GPU memory is taken by something other than this job.",
        "vLLM's own measurement at start, or samples that exceed what the job's processes hold. From inside a container at most likely: other containers' processes can't be seen.",
        "Find the process on the node with nvidia-smi, or lower --gpu-memory-utilization.",
    ),
    of(
        "gpu.memory-imbalance",
        "A GPU holds more than 5 % more or less than the others of its tensor parallel group and pipeline stage.",
        "Samples at rest. Different pipeline stages may differ.",
        "Look for a second process on that GPU, or a rank that loaded other weights.",
    ),
    of(
        "gpu.xid",
        "The driver reported an Xid, or memory or NVLink had an uncorrectable error.",
        "An NVRM line, a node event, or the driver's text in an exception. A failed kernel alone is no proof of broken hardware.",
        "Drain the node and reset or replace the GPU; look the Xid up in the vendor's catalogue.",
    ),
    of(
        "log.rotated-away",
        "The log begins in mid-life: the start of NCCL can't be seen.",
        "Connections or calls of communicators whose start the log lacks, or a first line younger than the container. Nothing is concluded from what is missing.",
        "Raise containerLogMaxSize, or write NCCL_DEBUG_FILE to a volume.",
    ),
    of(
        "nccl.collective-mismatch",
        "Ranks disagree on operation, size, type or order of a collective.",
        "NCCL received another number of bytes than the call expects.",
        "Make NCCL_ALGO, NCCL_PROTO and library equal everywhere; then look for the rank that takes another path.",
    ),
    of(
        "nccl.connect-timeout",
        "A rank could not connect to a peer, beyond all retries.",
        "A WARN that gives up. INFO lines that say `retrying` prove nothing.",
        "Refused: look at the peer's process first. Timed out: NetworkPolicy, firewall, or NCCL_SOCKET_IFNAME.",
    ),
    of(
        "nccl.cuda-failure",
        "A CUDA call failed inside NCCL.",
        "The WARN with the driver's text. Non-fatal INFO lines are left out.",
        "Read the text: 802 is the fabric manager, `out of memory` is vLLM's share, a launch failure is an earlier kernel.",
    ),
    of(
        "nccl.debug-absent",
        "NCCL runs but NCCL_DEBUG is unset, so transports can't be seen.",
        "vLLM says that it loaded NCCL, and the pod's specification does not set the variable. Never a log that merely lacks lines.",
        "Set NCCL_DEBUG=INFO and NCCL_DEBUG_SUBSYS=INIT,BOOTSTRAP,ENV,NET,GRAPH.",
    ),
    of(
        "nccl.debug-flood",
        "Every collective call is logged, which slows inference and rotates the start away.",
        "The rate of call lines.",
        "Leave COLL and ALL out of NCCL_DEBUG_SUBSYS; NCCL_DEBUG=WARN once all is well.",
    ),
    of(
        "nccl.duplicate-gpu",
        "Two ranks use one GPU.",
        "NCCL's own WARN. With NCCL_MULTI_RANK_GPU_ENABLE=1 or on MIG it is allowed.",
        "Check CUDA_VISIBLE_DEVICES, local ranks, and the number of ranks per pod.",
    ),
    of(
        "nccl.ib-completion-error",
        "An RDMA operation completed with an error, or a port reports errors again and again.",
        "The WARN with its verbs status; events of the port alone are a warning. Status 5 (flushed) follows from another one and is left out where one is there.",
        "12 or 13: link, GID index, PFC, or a dead peer. 4 or 10: GPUDirect RDMA, ACS, memory registration.",
    ),
    of(
        "nccl.ib-without-gdr",
        "RDMA goes through host memory although other ranks have GPUDirect RDMA.",
        "Connection lines without GDRDMA beside others with it, or on one side alone. Information where a printed distance is beyond the limit, or nobody has it.",
        "Load nvidia_peermem or use DMA-BUF on the nodes that lack it.",
    ),
    of(
        "nccl.library-not-loaded",
        "libnccl could not be loaded.",
        "vLLM's ERROR that names the file.",
        "Remove or correct VLLM_NCCL_SO_PATH; check the image.",
    ),
    of(
        "nccl.memlock",
        "Pinned memory or a verbs object was refused.",
        "A verbs call that failed with `Cannot allocate memory`.",
        "Add the capability IPC_LOCK, or raise the memlock limit of the container runtime.",
    ),
    of(
        "nccl.missing-ranks",
        "Ranks never came to a communicator.",
        "Members that printed START while the logs of the others are there and silent. A log that is not here proves nothing. Information for the first 90 s.",
        "Look at the processes of the missing ranks: not started, crashed, or unable to reach the others.",
    ),
    of(
        "nccl.mnnvl-imex",
        "Multi-node NVLink is there but does not work.",
        "NCCL's WARN about MNNVL.",
        "Give the pods an IMEX channel (ComputeDomain), or set NCCL_MNNVL_ENABLE=0.",
    ),
    of(
        "nccl.no-interface",
        "NCCL found no network interface, or not the one that was named.",
        "A WARN. Another subnet than NCCL_COMM_ID's is normal among pods.",
        "Correct NCCL_SOCKET_IFNAME: prefix, `=exact`, `^exclude`.",
    ),
    of(
        "nccl.nvls-failed",
        "NVLink SHARP could not be set up.",
        "The failed binding of multicast memory. Absence of NVLS is no failure.",
        "Restart the fabric manager, or set NCCL_NVLS_ENABLE=0.",
    ),
    of(
        "nccl.p2p-refused",
        "Peer access between connected GPUs is refused.",
        "NCCL says that P2P is disabled between GPUs. Not where NCCL_P2P_DISABLE=1 asks for it.",
        "NVLink: hardware or fabric manager. PCIe: ACS or IOMMU on the host.",
    ),
    of(
        "nccl.peer-mapping-exhausted",
        "The driver has no peer mappings left.",
        "The driver's message.",
        "Set NCCL_P2P_LEVEL=NVL, or NCCL_P2P_DISABLE=1.",
    ),
    of(
        "nccl.rank-stuck",
        "A rank is behind the others in init or in collectives.",
        "Counts of calls further apart than a 4 KiB buffer of output explains, or standing still while others advance for 30 s. Graph replays print nothing; at most likely.",
        "py-spy dump of that process; NCCL_DEBUG_FILE=/dev/stdout against late lines.",
    ),
    of(
        "nccl.same-host-net",
        "Ranks of one host talk over the network.",
        "NET connections inside a host, NCCL_HOSTID respected. RDMA inside a host can be NCCL's own choice and is information then.",
        "One pod per node with a Memory volume at /dev/shm; unset NCCL_P2P_DISABLE and NCCL_SHM_DISABLE.",
    ),
    of(
        "nccl.same-node-pods",
        "Several pods of one engine share a node: to NCCL they are different hosts.",
        "The pods' nodes.",
        "Make one pod per node that holds all its GPUs.",
    ),
    of(
        "nccl.shm-despite-p2p",
        "Shared memory is used between GPUs that can reach each other.",
        "The same GPUs connected directly in another communicator, or NCCL's word that NVLink stands between them. Or NCCL_P2P_DISABLE=1 on one host while others of the communicator use P2P. Not where P2P is switched off for all on purpose.",
        "NCCL_DEBUG_SUBSYS=INIT,P2P,SHM,GRAPH says why P2P was passed over.",
    ),
    of(
        "nccl.shm-too-small",
        "/dev/shm is full or too small.",
        "A segment could not be created or extended. `attaching … No such file` is something else: the segment lies in another container.",
        "Mount an emptyDir of medium Memory at /dev/shm.",
    ),
    of(
        "nccl.socket-despite-rdma",
        "TCP carries traffic between hosts that own RDMA devices.",
        "NET/Socket between hosts whose processes list usable devices. Information where NCCL_IB_DISABLE=1, NCCL_NET=Socket or no device in the container explains it.",
        "NCCL_DEBUG_SUBSYS=INIT,NET says why NET/IB was passed over; check NCCL_IB_HCA.",
    ),
    of(
        "nccl.version-mismatch",
        "Ranks of one communicator load different NCCL versions.",
        "Versions told by the ranks, or NCCL's own WARN. Two versions in different communicators are information.",
        "Run one image digest everywhere; make VLLM_NCCL_SO_PATH equal.",
    ),
    of(
        "nccl.watchdog-timeout",
        "torch's watchdog ended a collective that never finished.",
        "Its time-out lines. Who reports has waited: the culprit is the rank that reports nothing or completed least.",
        "py-spy dump of the suspect; TORCH_NCCL_TRACE_BUFFER_SIZE=2000 names the call sites next time.",
    ),
    of(
        "nccl.wrong-interface",
        "NCCL meets over loopback or docker0, or ranks use differently named interfaces.",
        "The bootstrap lines of one communicator's ranks. Neighbouring pod subnets on one interface name are normal.",
        "Set NCCL_SOCKET_IFNAME to one name in every pod.",
    ),
    of(
        "pod.crashloop",
        "A container ends again and again.",
        "Its restarts, with the first error of the previous container.",
        "kubectl logs --previous.",
    ),
    of(
        "pod.env-skew",
        "Variables that must be equal over the pods differ.",
        "The pods' specifications and what the logs prove. Variables that must differ are left out.",
        "Make the templates equal and recreate the pods.",
    ),
    of(
        "pod.evicted",
        "A pod was preempted, evicted, or lost its node.",
        "The pod's status or its DisruptionTarget condition.",
        "Requests and limits, priority class, or the node's health.",
    ),
    of(
        "pod.image",
        "The image can't be pulled.",
        "The container's waiting reason and the event with the runtime's text. A long ContainerCreating while a large image is pulled is normal.",
        "Correct name, pull secret, or the node's way to the registry.",
    ),
    of(
        "pod.image-skew",
        "Pods of one revision run different images.",
        "Their digests. Pods of different revisions may differ during a roll-out.",
        "Name the image by digest and recreate the odd pod.",
    ),
    of(
        "pod.network-policy",
        "A policy blocks ports between the pods of the workload.",
        "The policies evaluated against the pods; an error where a probe fails too.",
        "Allow all TCP between the pods: NCCL's ports are ephemeral.",
    ),
    of(
        "pod.oom-killed",
        "The memory limit ended a container.",
        "OOMKilled in its state, the one before included.",
        "Raise the memory limit; /dev/shm of medium Memory counts.",
    ),
    of(
        "pod.pending",
        "A pod has no node, or can't start on it.",
        "The scheduler's message, a gate, or a failed mount. Information for the first 15 s.",
        "The message names it: GPUs, taint, volume, quota, gate.",
    ),
    of(
        "pod.probe-kill",
        "A probe killed a container.",
        "The kubelet's Killing event. Failing startup probes before that are normal while a model loads.",
        "Give the startupProbe a failureThreshold that covers the load time.",
    ),
    of(
        "vllm.cuda-oom-loading",
        "A GPU ran out of memory while weights load.",
        "The exception in the loading stage; elsewhere it is another matter. Without a known stage only possible.",
        "More tensor or pipeline parallel ranks, quantisation, or a free GPU.",
    ),
    of(
        "vllm.device-mismatch",
        "Tensor and communicator are on different devices.",
        "The assertion's text.",
        "Set the CUDA device of each worker before its first collective.",
    ),
    of(
        "vllm.gloo-mesh",
        "gloo could not connect all pairs of ranks.",
        "connectFullMesh failed. A closed connection later is an echo.",
        "Set GLOO_SOCKET_IFNAME; let the pod's name resolve to its address; open all ports between pods.",
    ),
    of(
        "vllm.graph-crash",
        "A crash in the capture or replay of CUDA graphs.",
        "The exception in that stage. An illegal access while serving is likely one, not certain.",
        "--enforce-eager; then --disable-custom-all-reduce.",
    ),
    of(
        "vllm.hub-access",
        "A download is tried where the hub can't be reached.",
        "The failed request or the missing cache entry. Not where loading went on afterwards.",
        "Give local directories for model, tokenizer and adapters; HF_HUB_OFFLINE=1.",
    ),
    of(
        "vllm.hung",
        "No rank advances, nothing loads, GPU and CPU near idle.",
        "Samples of a running job. From logs alone at most possible: a call to the workers that timed out; statistics with requests and no token beside the engine's word that it waits, which is a warning.",
        "py-spy dump of every rank; compare where they stand.",
    ),
    of(
        "vllm.kv-cache-too-small",
        "No memory is left for the KV cache, or one request of full length does not fit.",
        "vLLM's own computation.",
        "--max-model-len at what fits, or a higher --gpu-memory-utilization.",
    ),
    of(
        "vllm.loading-slow",
        "Weights still load and advance: not a hang.",
        "The progress bar moves.",
        "Wait, or use faster storage.",
    ),
    of(
        "vllm.loading-stalled",
        "Weights stopped to advance, GPU and CPU near idle.",
        "Samples beside a bar that stands still; from logs alone at most possible, where the engine says that it waits.",
        "Look at the storage: mount, server, throttling.",
    ),
    of(
        "vllm.model-incomplete",
        "Configuration or shards are absent, truncated, or don't match the index.",
        "The loader's exception, or files and index compared.",
        "Copy the model again into every pod and compare checksums.",
    ),
    of(
        "vllm.permission-denied",
        "Files can't be read or written by the container's user.",
        "The exception with its path. Warnings about optional files are left out.",
        "fsGroup and runAsUser; HOME, HF_HOME and VLLM_CACHE_ROOT on a writable volume.",
    ),
    of(
        "vllm.port-variable",
        "VLLM_PORT holds a Service's address.",
        "vLLM's exception.",
        "enableServiceLinks: false, or rename the Service.",
    ),
    of(
        "vllm.rank-config",
        "Pods disagree about ranks, sizes or addresses, or two pods hold one rank.",
        "The engine's or NCCL's refusal; two pods that say the same rank at the same time.",
        "Compare the flags and VLLM_DP_* of all pods.",
    ),
    of(
        "vllm.rendezvous-timeout",
        "Ranks did not come to the rendezvous in time.",
        "torch's store or the handshake timed out: how many came, how many were awaited; or the head's name never had an address. Retries prove nothing.",
        "Look at the pods that did not come.",
    ),
    of(
        "vllm.tokenizer-missing",
        "Tokenizer files are absent.",
        "The exception that names the directory.",
        "Copy the tokenizer files of the same revision.",
    ),
    of(
        "vllm.tp-over-network",
        "A tensor parallel group spans hosts without RDMA or NVLink.",
        "TCP connections of that group's communicator between hosts.",
        "Tensor parallel inside a node, pipeline parallel between nodes.",
    ),
    of(
        "vllm.worker-died",
        "A worker process or a container ended.",
        "Its crash, its executor's word, or its container's state; the first failure, not the complaints of the others.",
        "Read the first failure and the previous container's log.",
    ),
    of(
        "vllm.world-size",
        "World size, parallel sizes or node count don't fit the GPUs or the model.",
        "vLLM's exception.",
        "Tensor × pipeline × data parallel size must equal all GPUs; tensor parallel size must divide the heads.",
    ),
    of(
        "vllm.wrong-host-ip",
        "The address that a pod announces is loopback, foreign, or shared.",
        "distributed_init_method or VLLM_HOST_IP against the pod's address, in a job of several pods.",
        "VLLM_HOST_IP from fieldRef status.podIP.",
    ),
];

/// The text about a finding.
#[must_use]
pub fn explain(id: &str) -> Option<&'static Explained> {
    FINDINGS.iter().find(|e| e.id == id)
}

/// The page about any id: a finding, a check, a variable, a piece of advice.
#[must_use]
pub fn text(id: &str) -> Option<String> {
    if let Some(e) = explain(id) {
        return Some(page(e));
    }
    let known = checks::declared().iter().find(|c| c.id == id);
    if let Some(c) = known {
        return Some(check(c));
    }
    if let Some(v) = variables::get(id) {
        return Some(variable(v));
    }
    let advice = advice::declared().iter().find(|a| a.id == id);
    advice.map(advise)
}

/// One finding as a page of text.
#[must_use]
pub fn page(e: &Explained) -> String {
    format!(
        "{}\n\n  {}\n\n  Proof   {}\n  Fix     {}\n",
        e.id, e.means, e.proof, e.fix
    )
}

fn check(c: &checks::Check) -> String {
    let level = match c.level {
        checks::Needs::Observe => "observe: reads what is known",
        checks::Needs::Probe => {
            "probe: commands in the containers that only read, asked once per context"
        }
    };
    let mut out = format!(
        "{}   {}\n\n  {}\n\n  Level   {level}\n",
        c.id, c.title, c.means
    );
    for name in &c.probes {
        if let Some(p) = probes::get(name) {
            let _ = writeln!(
                out,
                "  Runs    {}   (probe {}; at most {} s, {} KiB; again after {} s)",
                p.says,
                p.name,
                p.seconds,
                p.cap >> 10,
                p.every
            );
        }
    }
    for fix in &c.fix {
        let text = match fix {
            checks::Fix::Do(t) | checks::Fix::Yaml(t) | checks::Fix::Arg(t) => t.clone(),
            checks::Fix::Kubectl(t) => format!("kubectl {t}"),
            checks::Fix::Env(list) => list
                .iter()
                .map(|(k, v)| match v {
                    Some(v) => format!("{k}={v}"),
                    None => format!("unset {k}"),
                })
                .collect::<Vec<_>>()
                .join(" "),
        };
        let _ = writeln!(out, "  Fix     {text}");
    }
    out
}

fn variable(v: &variables::Variable) -> String {
    let mut out = format!(
        "{}\n\n  {}\n\n  Default     {}\n",
        v.name, v.means, v.default
    );
    let over = match v.over {
        variables::Over::Equal => "equal in every pod",
        variables::Over::Differ => "different in every pod",
        variables::Over::Ignored => "as each pod likes",
    };
    let _ = writeln!(out, "  Over pods   {over}");
    for (value, why) in &v.mistakes {
        let _ = writeln!(out, "  Beware      {}={value}: {why}", v.name);
    }
    if let Some(p) = &v.production {
        let _ = writeln!(out, "  Production  {p}");
    }
    let value = v.production.as_deref().filter(|p| *p != "unset");
    lines(&mut out, &advice::set(&v.name, value.or(Some("VALUE"))));
    out
}

fn advise(a: &advice::Advice) -> String {
    let mut out = format!(
        "{}   {}\n\n  {}\n\n  Costs   {}\n",
        a.id, a.title, a.means, a.costs
    );
    lines(&mut out, &a.forms());
    out
}

fn lines(out: &mut String, forms: &advice::Forms) {
    for (whom, list) in forms.iter().filter(|(_, l)| !l.is_empty()) {
        let _ = writeln!(out, "\n  {whom}");
        for line in list {
            let _ = writeln!(out, "    {line}");
        }
    }
}

/// Every id with its sentence: findings, checks, advice, variables.
fn all() -> Vec<(&'static str, &'static str)> {
    let findings = FINDINGS.iter().map(|e| (e.id, e.means));
    let checks = checks::declared()
        .iter()
        .map(|c| (c.id.as_str(), c.means.as_str()));
    let advice = advice::declared()
        .iter()
        .map(|a| (a.id.as_str(), a.means.as_str()));
    let vars = variables::declared()
        .iter()
        .map(|v| (v.name.as_str(), v.means.as_str()));
    findings.chain(checks).chain(advice).chain(vars).collect()
}

/// The id that a misspelt one is nearest to.
#[must_use]
pub fn meant(id: &str) -> Option<&'static str> {
    nearest(id, all().into_iter().map(|(id, _)| id))
}

/// All of them, a line each.
#[must_use]
pub fn index() -> String {
    let all = all();
    let width = all.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (id, means) in all {
        let _ = writeln!(out, "{id:width$}  {means}");
    }
    out
}
