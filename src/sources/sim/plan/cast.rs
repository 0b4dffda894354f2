//! The cast: pods and ranks, with what the faults that last from the beginning make of them.

use crate::parse::Nanos;
use crate::sources::sim::rng::Rng;
use crate::sources::sim::scenario::{Fault, Kind, Rdma, SEC, Scenario};

use super::{Pod, Rank, secs};

/// PCI bus ids of the GPUs of a node, as NCCL prints them.
const BUS: [u64; 16] = [
    0x1b000, 0x43000, 0x52000, 0x61000, 0x9d000, 0xc3000, 0xd1000, 0xdf000, 0x1c000, 0x44000,
    0x53000, 0x62000, 0x9e000, 0xc4000, 0xd2000, 0xe0000,
];

pub(super) fn pods(s: &Scenario, start: Nanos) -> Vec<Pod> {
    let mut rng = Rng::new(s.seed, 1);
    let w = &s.workload;
    (0..w.pods)
        .map(|i| {
            let jitter = secs(rng.unit() * 0.4);
            let scheduled = start + secs(s.phases.schedule) + jitter;
            let pulled = scheduled + secs(s.phases.pull) + jitter;
            let mut pod = Pod {
                index: i,
                name: match w.kind {
                    Kind::Sts => format!("{}-{i}", w.name),
                    Kind::Lws if i == 0 => format!("{}-0", w.name),
                    Kind::Lws => format!("{}-0-{i}", w.name),
                },
                node: format!("gpu-{:02}", i + 1),
                ip: format!("10.42.{}.{}", i / 200 + 3, i % 200 + 17),
                host_ip: format!("10.10.{}.{}", i / 200, i % 200 + 11),
                env: w.env.clone(),
                nccl: s.versions.nccl,
                image: w
                    .image
                    .clone()
                    .unwrap_or_else(|| format!("vllm/vllm-openai:v{}", s.versions.vllm)),
                network: if s.nodes.rdma == Rdma::None {
                    "Socket".into()
                } else {
                    "IB".into()
                },
                rdma: s.nodes.rdma,
                gdr: s.nodes.gdr,
                scheduled: Some(scheduled),
                pending: None,
                pulled: Some(pulled),
                pull_error: None,
                started: Some(pulled + SEC + jitter),
                exit: None,
                rotated: None,
                debug: true,
            };
            for fault in &s.faults {
                change(&mut pod, s, fault);
            }
            apply_env(&mut pod);
            pod
        })
        .collect()
}

/// What a fault that lasts from the beginning does to a pod.
fn change(pod: &mut Pod, s: &Scenario, fault: &Fault) {
    let hit = |pods: &[usize]| pods.is_empty() || pods.contains(&pod.index);
    match fault {
        Fault::Env { pods, set } if hit(pods) => {
            for (k, v) in set {
                pod.env.insert(k.clone(), v.clone());
            }
        }
        Fault::Versions { pods, nccl, image } if hit(pods) => {
            if let Some(v) = nccl {
                pod.nccl = *v;
            }
            if let Some(image) = image {
                pod.image.clone_from(image);
            }
        }
        Fault::Network {
            pods,
            using,
            listed,
        } if hit(pods) => {
            pod.network.clone_from(using);
            if !listed {
                pod.rdma = Rdma::None;
            }
        }
        Fault::NoGdr { pods } if hit(pods) => pod.gdr = false,
        Fault::Pending { pods, message } if hit(pods) => {
            pod.pending = Some(message.clone());
            pod.scheduled = None;
            pod.pulled = None;
            pod.started = None;
        }
        Fault::ImagePull { pods, message } if hit(pods) => {
            pod.pull_error = Some(message.clone());
            pod.pulled = None;
            pod.started = None;
        }
        Fault::SameNode { pods } if hit(pods) => {
            let first = pods.first().copied().unwrap_or(0);
            pod.node = format!("gpu-{:02}", first + 1);
            pod.host_ip = format!("10.10.{}.{}", first / 200, first % 200 + 11);
        }
        Fault::Rotated { pods, before } if hit(pods) => {
            pod.rotated = Some(s.origin_ns() + secs(*before));
        }
        _ => {}
    }
}

/// What the environment makes of a pod.
fn apply_env(pod: &mut Pod) {
    let set = |name: &str| pod.env.get(name).map(String::as_str);
    let off = |name: &str| set(name).is_some_and(|v| v == "1");
    if off("NCCL_IB_DISABLE") {
        pod.rdma = Rdma::None;
        pod.network = "Socket".into();
    } else if let Some(name) = set("NCCL_NET") {
        pod.network = name.to_owned();
    }
    pod.debug = set("NCCL_DEBUG").is_some_and(|v| v.eq_ignore_ascii_case("INFO"));
}

pub(super) fn ranks(s: &Scenario) -> Vec<Rank> {
    let mut rng = Rng::new(s.seed, 2);
    let (tp, pp) = (s.layout.tp, s.layout.pp);
    let mut pid = 0;
    (0..s.world())
        .map(|global| {
            let (pod, local) = (global / s.nodes.gpus, global % s.nodes.gpus);
            pid = if local == 0 {
                390 + rng.below(90)
            } else {
                pid + 1 + rng.below(17)
            };
            let (t, d) = (global % tp, global / (tp * pp));
            Rank {
                global,
                pod,
                local,
                dp: d,
                pp: global / tp % pp,
                tp: t,
                ep: d * tp + t,
                pid,
                bus: BUS.get(local).copied().unwrap_or(0xf000),
                stop: None,
            }
        })
        .collect()
}
