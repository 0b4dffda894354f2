//! What probes would answer in the embedded cluster: text as the scripts print it, derived from the plan, with what
//! the scenario says instead. Nobody is asked for leave: nothing is run.

use std::fmt::Write as _;

use crate::model::event::{
    Condition, ContainerKey, Event, NodeView, PodEvent, ProbeEvent, ProbeOutcome,
};
use crate::model::pods::Pods;
use crate::parse::Nanos;
use crate::rules::probes::{Member, Members, PROBES, Probe, members};

use super::plan::{Plan, Pod, secs};
use super::scenario::{Answered, Phase, Rdma, SEC, Scenario};
use super::{pods, samples};

/// Containers are asked so long after the last of them has started.
const FIRST: Nanos = 6 * SEC;
/// What changes is asked again so often.
const AGAIN: Nanos = 60 * SEC;
/// Probes whose answers change while a job starts.
const LIVELY: &[&str] = &["gpu-memory", "limits", "reach"];
/// Name of the list of policies: a read at level observe.
const POLICIES: &str = "network-policies";

/// Nodes, policies, and the answers of all probes over the whole scenario, unsorted.
pub(super) fn write(s: &Scenario, plan: &Plan) -> Vec<(Nanos, Event)> {
    let mut out: Vec<(Nanos, Event)> = nodes(s, plan)
        .into_iter()
        .map(|n| (plan.watch, Event::Node(Box::new(n))))
        .collect();
    out.push((
        plan.watch + SEC / 2,
        policies(s, plan, plan.watch + SEC / 2),
    ));
    let Some(last) = plan.pods.iter().filter_map(|p| p.started).max() else {
        return out;
    };
    let first = (last + FIRST).max(plan.watch + SEC);
    out.extend(round(s, plan, first, |_| true));
    let lively = |p: &Probe| LIVELY.contains(&p.name);
    let mut at = first + AGAIN;
    while at < plan.end {
        out.extend(round(s, plan, at, lively));
        at += AGAIN;
    }
    // What is at rest once it serves.
    if let Some(served) = plan.begins(Phase::Serving).map(|t| t + 4 * SEC) {
        out.extend(round(s, plan, served.max(first + SEC), lively));
    }
    out
}

/// All wanted probes in every container that runs at a moment.
pub(super) fn round(
    s: &Scenario,
    plan: &Plan,
    at: Nanos,
    wanted: impl Fn(&Probe) -> bool,
) -> Vec<(Nanos, Event)> {
    let mut known = Pods::default();
    for pod in &plan.pods {
        known.apply(&PodEvent::Upsert(Box::new(pods::view(s, plan, pod, at))));
    }
    let all = members(&known);
    let mut out = Vec::new();
    for probe in PROBES.iter().filter(|p| wanted(p)) {
        for (place, m) in (0i64..).zip(&all.list) {
            let Some(pod) = plan.pods.iter().find(|p| p.name == m.pod.name) else {
                continue;
            };
            let Some(args) = probe.arguments(m, &all) else {
                continue;
            };
            if m.running().is_none() {
                continue;
            }
            let container = ContainerKey {
                pod: pods::key(s, pod),
                container: m.container.name.clone(),
            };
            let tell = |outcome: ProbeOutcome| {
                Event::Probe(ProbeEvent {
                    probe: probe.name.into(),
                    container: Some(container.clone()),
                    ran: probe.ran(&args),
                    outcome,
                })
            };
            // A little apart, as they come back from a cluster.
            let began = at + place % 50 * 2_000_000;
            let ended = began + 200_000_000;
            out.push((began, tell(ProbeOutcome::Began)));
            let text = answer(s, plan, pod, m, &all, probe.name, ended);
            out.push((
                ended,
                tell(outcome(s, plan, pod.index, probe.name, ended, text)),
            ));
        }
    }
    out
}

/// The list of policies.
pub(super) fn policies(s: &Scenario, plan: &Plan, at: Nanos) -> Event {
    let outcome = match outcome(s, plan, usize::MAX, POLICIES, at, "items: []".into()) {
        ProbeOutcome::Answered {
            out, err, cut, ms, ..
        } => ProbeOutcome::Answered {
            code: 200,
            out,
            err,
            cut,
            ms,
        },
        other => other,
    };
    Event::Probe(ProbeEvent {
        probe: POLICIES.into(),
        container: None,
        ran: format!("list networkpolicies in namespace {}", s.workload.namespace),
        outcome,
    })
}

/// The usual answer, or what the scenario says instead.
fn outcome(
    s: &Scenario,
    plan: &Plan,
    pod: usize,
    probe: &str,
    at: Nanos,
    usual: String,
) -> ProbeOutcome {
    let mut out = usual;
    let mine = s.probes.iter().filter(|a| {
        a.probe == probe
            && (a.pods.is_empty() || a.pods.contains(&pod))
            && at >= plan.start + secs(a.from)
    });
    for a in mine {
        match a.says() {
            Answered::Fails(why) => {
                return ProbeOutcome::Failed {
                    why: why.to_owned(),
                };
            }
            Answered::Forbidden(rule) => {
                return ProbeOutcome::Refused {
                    why: "the API server refuses".into(),
                    rule: Some(rule.to_owned()),
                };
            }
            Answered::Text(text) => out = fields(text),
            Answered::Usual => {}
        }
        for (old, new) in &a.edit {
            out = out.replace(&fields(old), &fields(new));
        }
        for line in &a.add {
            let _ = writeln!(out, "{}", fields(line));
        }
    }
    ProbeOutcome::Answered {
        code: 0,
        out,
        err: String::new(),
        cut: false,
        ms: 200,
    }
}

/// Scenarios part fields by ` | `, scripts by tabs.
fn fields(text: &str) -> String {
    text.replace(" | ", "\t")
}

fn nodes(s: &Scenario, plan: &Plan) -> Vec<NodeView> {
    let is = |kind: &str, on: bool| Condition {
        kind: kind.into(),
        status: if on { "True" } else { "False" }.into(),
        since: Some(plan.start - 86_400 * SEC),
        ..Condition::default()
    };
    let mut names: Vec<&str> = plan.pods.iter().map(|p| p.node.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .map(|name| {
            let mut conditions = vec![
                is("MemoryPressure", false),
                is("DiskPressure", false),
                is("PIDPressure", false),
                is("GpuXid", false),
                is("Ready", true),
            ];
            let index = plan.pods.iter().position(|p| p.node == name);
            for c in s.nodes.conditions.iter().filter(|c| Some(c.pod) == index) {
                conditions.retain(|x| x.kind != c.kind);
                conditions.insert(
                    0,
                    Condition {
                        reason: Some(c.reason.clone()),
                        message: Some(c.message.clone()),
                        since: Some(plan.start + 40 * SEC),
                        ..is(&c.kind, true)
                    },
                );
            }
            NodeView {
                name: name.to_owned(),
                labels: [("nvidia.com/gpu.product".to_owned(), s.nodes.gpu.clone())].into(),
                conditions,
                capacity: [("nvidia.com/gpu".to_owned(), s.nodes.gpus.to_string())].into(),
                allocatable: [("nvidia.com/gpu".to_owned(), s.nodes.gpus.to_string())].into(),
                ..NodeView::default()
            }
        })
        .collect()
}

fn uuid(s: &Scenario, pod: &Pod, gpu: usize) -> String {
    format!(
        "GPU-{:08x}-0000-4000-8000-{:04x}{gpu:08x}",
        s.seed, pod.index
    )
}

/// What a probe would print. Pods that NCCL can't reach are reached on the rendezvous port, or nobody would get so far.
fn answer(
    s: &Scenario,
    plan: &Plan,
    pod: &Pod,
    m: &Member<'_>,
    all: &Members<'_>,
    probe: &str,
    at: Nanos,
) -> String {
    let mut out = String::new();
    match probe {
        "gpus" => gpus(s, plan, pod, &mut out),
        "gpu-memory" => gpu_memory(s, plan, pod, at, &mut out),
        "reach" => reach(plan, pod, m, all, at, &mut out),
        "env" => env(s, pod, m, &mut out),
        "shm" => out.push_str("shm\t67108864\t524288\t66584576\tshm\n"),
        "limits" => limits(s, &mut out),
        "model-files" => model_files(s, &mut out),
        "model-access" => model_access(s, &mut out),
        "rdma" => rdma(s, pod, &mut out),
        "interfaces" => {
            let _ = writeln!(
                out,
                "interface\teth0\t8900\tup\t100000\ninterface\tlo\t65536\tunknown\t?\ndefault\teth0\naddress\tlo\t127.0.0.1\naddress\teth0\t{}",
                pod.ip
            );
        }
        "versions" => {
            let _ = writeln!(
                out,
                "package\tvllm\t{}\npackage\ttorch\t2.9.0\npackage\tnvidia-nccl-cu12\t{n}\nlibrary\t/usr/local/lib/python3.12/dist-packages/nvidia/nccl/lib/libnccl.so.2\t{n}+cuda{}\ndriver\t570.124.06",
                s.versions.vllm,
                s.versions.cuda,
                n = pod.nccl,
            );
        }
        "topo" => topo(s, &mut out),
        "clock" => {
            let middle = at - 100_000_000;
            let _ = writeln!(out, "now\t{}.{:09}", middle / SEC, middle % SEC);
        }
        _ => {}
    }
    out
}

fn gpus(s: &Scenario, plan: &Plan, pod: &Pod, out: &mut String) {
    let there = plan.ranks_of(pod.index).filter(|r| !samples::gone(s, r));
    for (gpu, r) in there.enumerate() {
        let name = s.nodes.gpu.replace('-', " ");
        let _ = writeln!(out, "smi\tGPU {gpu}: {name} (UUID: {})", uuid(s, pod, gpu));
        let bus = bus(r.bus);
        let _ = writeln!(out, "ecc\t{gpu}, {bus}, 0\nremap\t{bus}, 0, No, No");
    }
    out.push_str("visible\n");
}

/// A bus id as nvidia-smi prints it.
fn bus(id: u64) -> String {
    format!(
        "00000000:{:02X}:{:02X}.{:X}",
        id >> 12 & 0xff,
        id >> 4 & 0xff,
        id & 0xf
    )
}

fn gpu_memory(s: &Scenario, plan: &Plan, pod: &Pod, at: Nanos, out: &mut String) {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "gigabytes in mebibytes"
    )]
    let mib = |gib: f64| (gib * 1024.0) as u64;
    let total = mib(s.nodes.gpu_memory);
    let share = s.layout.tp.max(1) * s.layout.pp.max(1);
    #[allow(clippy::cast_precision_loss, reason = "few ranks")]
    let weights = s.model.gib / share as f64;
    let past = |phase: Phase| plan.begins(phase).filter(|t| *t <= at);
    let used = if past(Phase::Profile).is_some() {
        total * 9 / 10 + 1_240
    } else if let Some(begun) = past(Phase::Weights) {
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let part = ((at - begun) as f64 / 1e9 / s.phases.weights.max(0.1)).min(1.0);
        1_240 + mib(weights * part)
    } else if past(Phase::Nccl).is_some() {
        1_240
    } else {
        4
    };
    let there = plan.ranks_of(pod.index).filter(|r| !samples::gone(s, r));
    for (gpu, r) in there.enumerate() {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "mebibytes"
        )]
        let taken = (used + samples::leftover(s, r, at) as u64).min(total);
        let _ = writeln!(
            out,
            "gpu\t{gpu}, {}, {}, {taken}, {total}, 0",
            uuid(s, pod, gpu),
            bus(r.bus)
        );
        if used > 4 {
            let _ = writeln!(
                out,
                "app\t{}, {}, {}, VLLM::Worker_TP{}",
                uuid(s, pod, gpu),
                40_000 + r.pid,
                used - 4,
                r.tp
            );
        }
        let _ = writeln!(out, "own\t{}\tVLLM::Worker_TP{}", r.pid, r.tp);
    }
}

fn reach(plan: &Plan, pod: &Pod, m: &Member<'_>, all: &Members<'_>, at: Nanos, out: &mut String) {
    let open = plan.begins(Phase::Rendezvous).is_some_and(|t| t <= at);
    out.push_str("tool\tpython3\n");
    let port = m.port();
    if let Some(name) = m
        .leader()
        .filter(|l| l.parse::<core::net::IpAddr>().is_err())
    {
        let ip = all.list.first().and_then(|l| l.pod.pod_ip.as_deref());
        match ip {
            Some(ip) => {
                let _ = writeln!(out, "dns\t{name}\t{ip}");
            }
            None => {
                let _ = writeln!(out, "nodns\t{name}\t[Errno -2] Name or service not known");
            }
        }
    }
    for (index, peer) in plan.pods.iter().enumerate() {
        if peer.name == pod.name || peer.started.is_none() || all.list.len() > 16 && index > 2 {
            continue;
        }
        let what = if index == 0 && open {
            "open\t0.3"
        } else {
            "refused\t0.2"
        };
        let _ = writeln!(out, "tcp\t{}\t{port}\t{what}\t", peer.ip);
    }
}

fn env(s: &Scenario, pod: &Pod, m: &Member<'_>, out: &mut String) {
    out.push_str("process\t1\t/usr/bin/python3\n");
    let mut have = Vec::new();
    for (name, value) in &m.container.env {
        if let Some(value) = value {
            let _ = writeln!(out, "var\t{name}\t{value}");
            have.push(name.as_str());
        }
    }
    if !have.contains(&"VLLM_HOST_IP") {
        let _ = writeln!(out, "var\tVLLM_HOST_IP\t{}", pod.ip);
    }
    let _ = writeln!(out, "var\tNVIDIA_VISIBLE_DEVICES\t{}", uuid(s, pod, 0));
    out.push_str("var\tHOME\t/root\nsecret\tHF_TOKEN\n");
}

fn limits(s: &Scenario, out: &mut String) {
    let number = s
        .workload
        .memory
        .trim_end_matches("Gi")
        .parse::<u64>()
        .unwrap_or(512)
        << 30;
    let _ = writeln!(
        out,
        "limit\tMax locked memory\tunlimited\tunlimited\nlimit\tMax open files\t1048576\t1048576\ncap\t00000000a80465fb\n\
         memory\tmax\t{number}\nmemory\tcurrent\t{}\nmemory\tanon\t{}\nmemory\tshmem\t536870912\nmemory\toom_kill\t0\nmemory\tpressure\t0.00",
        number / 3,
        number / 12,
    );
}

fn folder(s: &Scenario) -> String {
    if s.model.name.starts_with('/') {
        s.model.name.clone()
    } else {
        let repo = s.model.name.replace('/', "--");
        format!("/root/.cache/huggingface/hub/models--{repo}/snapshots/0a1b2c3d")
    }
}

fn model_files(s: &Scenario, out: &mut String) {
    let _ = writeln!(out, "at\t{}", folder(s));
    let n = s.model.shards.max(1);
    for (name, size) in [
        ("config.json", 720),
        ("generation_config.json", 116),
        ("special_tokens_map.json", 414),
        ("tokenizer.json", 1_795_188),
        ("tokenizer_config.json", 1_466),
        ("model.safetensors.index.json", 92_658),
    ] {
        let _ = writeln!(out, "file\t{size}\t{name}");
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of files"
    )]
    let size = (s.model.gib * f64::from(1 << 30) / f64::from(n)) as u64;
    let head = 24_576;
    for i in 1..=n {
        let name = format!("model-{i:05}-of-{n:05}.safetensors");
        let _ = writeln!(
            out,
            "file\t{size}\t{name}\nhead\t{name}\t{head}\t{}\nshard\t{name}",
            size.saturating_sub(head + 8)
        );
    }
}

fn model_access(s: &Scenario, out: &mut String) {
    out.push_str("id\t0\t0\t0\troot\n");
    let model = folder(s);
    let mut path = model.as_str();
    loop {
        let _ = writeln!(
            out,
            "at\t0 0 755\trx\t{}",
            if path.is_empty() { "/" } else { path }
        );
        let Some((up, _)) = path.rsplit_once('/') else {
            break;
        };
        path = up;
    }
    for (name, at) in [
        ("HOME", "/root"),
        ("HF_HOME", "/root/.cache/huggingface"),
        ("VLLM_CACHE_ROOT", "/root/.cache/vllm"),
        ("TMPDIR", "/tmp"),
        ("/dev/shm", "/dev/shm"),
    ] {
        let _ = writeln!(out, "cache\t{name}\tyes\t{at}");
    }
}

fn rdma(s: &Scenario, pod: &Pod, out: &mut String) {
    if pod.rdma == Rdma::None {
        return;
    }
    let layer = if pod.rdma == Rdma::Ib {
        "InfiniBand"
    } else {
        "Ethernet"
    };
    out.push_str("file\trdma_cm\n");
    for n in 0..s.nodes.nics {
        let _ = writeln!(
            out,
            "file\tuverbs{n}\ndevice\tmlx5_{n}\tuverbs{n}\nport\tmlx5_{n}\t1\t4: ACTIVE\t5: LinkUp\t400 Gb/sec (4X NDR)\t{layer}"
        );
        if pod.rdma == Rdma::Roce {
            let part = |i: usize| {
                let octet = pod.ip.split('.').nth(i).and_then(|o| o.parse::<u32>().ok());
                octet.unwrap_or(0)
            };
            let _ = writeln!(
                out,
                "gid\tmlx5_{n}\t1\t3\t0000:0000:0000:0000:0000:ffff:{:02x}{:02x}:{:02x}{:02x}\tRoCE v2\tnet{n}\nnet\tmlx5_{n}\tnet{n}\t9000",
                part(0),
                part(1),
                part(2),
                part(3)
            );
        }
    }
}

fn topo(s: &Scenario, out: &mut String) {
    let n = s.nodes.gpus;
    let word = if s.nodes.nvlink { "NV18" } else { "PIX" };
    let heads: Vec<String> = (0..n).map(|i| format!("GPU{i}")).collect();
    let _ = writeln!(out, "topo\t?{}?CPU Affinity", heads.join("?"));
    for row in 0..n {
        let cells: Vec<&str> = (0..n)
            .map(|c| if c == row { " X " } else { word })
            .collect();
        let _ = writeln!(out, "topo\tGPU{row}?{}?0-47", cells.join("?"));
    }
    out.push_str("absent\tacs\tlspci\n");
}
