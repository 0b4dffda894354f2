//! What a sampler in each pod would print: `nvidia-smi`'s lines and the sampler script's own, second by second,
//! in agreement with the log of the same pod.

use std::fmt::Write as _;

use crate::model::event::{ContainerKey, Event, ProbeEvent, ProbeOutcome, SampleEvent};
use crate::parse::Nanos;
use crate::sources::simlog;

use super::plan::{Plan, Pod, Rank, secs};
use super::rng::Rng;
use super::scenario::{Fault, Phase, SEC, Scenario};
use super::{pods, version::Version};

/// Megabytes that the driver keeps for itself.
const RESERVED: f64 = 553.0;
/// CUDA's context and torch, MiB.
const CONTEXT: f64 = 524.0;
/// NCCL's buffers and the custom all-reduce, MiB.
const NCCL: f64 = 1_180.0;

/// Samples of every pod from its container's start, or from when somebody watches, to its end.
pub(super) fn write(s: &Scenario, plan: &Plan, out: &mut Vec<(Nanos, Event)>) {
    // A thousand GPUs are sampled as seldom as their budget allows.
    let every = match s.world() {
        0..=64 => SEC,
        65..=512 => 5 * SEC,
        _ => 15 * SEC,
    };
    for pod in &plan.pods {
        let Some(started) = pod.started else { continue };
        let end = pod.exit.as_ref().map_or(plan.end, |e| e.at).min(plan.end);
        let mut meter = Meter::new(s, plan, pod);
        let from = started.max(plan.watch) + SEC / 2;
        let mut at = from;
        while at < end {
            if at == from && s.model.name.starts_with('/') {
                let text = format!("model bytes={}\n", model_bytes(s));
                out.push((at, meter.event("cgroup", text)));
            }
            out.push((at, meter.event("nvidia-smi", meter.gpus(at))));
            let text = meter.cgroup(at, every);
            out.push((at + SEC / 20, meter.event("cgroup", text)));
            at += every;
        }
        // Lives that follow get as far as asking who else is there.
        for (start, length) in pods::restarts(s, plan, pod) {
            let last = start.saturating_add(length.min(secs(s.phases.config)));
            let mut at = start + SEC / 2;
            while at < last.min(plan.end) {
                out.push((at, meter.event("nvidia-smi", meter.gpus(started))));
                at += every;
            }
        }
    }
}

/// What the first pod's server answers, once it listens.
pub(super) fn endpoints(s: &Scenario, plan: &Plan, out: &mut Vec<(Nanos, Event)>) {
    let (Some(pod), Some(serving)) = (plan.pods.first(), plan.begins(Phase::Serving)) else {
        return;
    };
    let end = pod.exit.as_ref().map_or(plan.end, |e| e.at).min(plan.end);
    let container = ContainerKey {
        pod: pods::key(s, pod),
        container: s.workload.container.clone(),
    };
    let mut tell = |at: Nanos, probe: &str, path: &str, body: String| {
        let event = ProbeEvent {
            probe: probe.into(),
            container: Some(container.clone()),
            ran: format!("GET :8000{path}"),
            outcome: ProbeOutcome::Answered {
                code: 200,
                out: body,
                err: String::new(),
                cut: false,
                ms: 12,
            },
        };
        out.push((at, Event::Probe(event)));
    };
    let ready = (serving + secs(3.8)).max(plan.watch);
    let (mut at, mut round) = (ready, 0u64);
    while at < end {
        tell(at, "health", "/health", String::new());
        if round == 0 {
            let version = format!("{{\"version\":\"{}\"}}", s.versions.vllm);
            tell(at + SEC / 10, "version", "/version", version);
            let body = format!(
                "{{\"object\":\"list\",\"data\":[{{\"id\":\"{0}\",\"object\":\"model\",\"root\":\"{0}\",\"parent\":null,\"max_model_len\":32768}}]}}",
                s.model.name
            );
            tell(at + SEC / 5, "models", "/v1/models", body);
        }
        let labels = format!("engine=\"0\",model_name=\"{}\"", s.model.name);
        // The older name until v0.11, the newer one since v0.9.2.
        let old = if s.versions.vllm < Version(0, 12, 0) {
            format!(
                "vllm:gpu_cache_usage_perc{{{labels}}} 0.0{}\n",
                1 + round % 5
            )
        } else {
            String::new()
        };
        let body = format!(
            "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{{{labels}}} {}\nvllm:num_requests_waiting{{{labels}}} 0.0\n{old}vllm:kv_cache_usage_perc{{{labels}}} 0.0{}\nvllm:prompt_tokens_total{{{labels}}} {}\nvllm:generation_tokens_total{{{labels}}} {}\n",
            4 + round % 9,
            1 + round % 5,
            15_600 * (round + 1),
            4_400 * (round + 1),
        );
        tell(at + SEC / 3, "metrics", "/metrics", body);
        at += 20 * SEC;
        round += 1;
    }
}

/// Bytes of the model's tensors.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a model's size"
)]
pub(super) fn model_bytes(s: &Scenario) -> u64 {
    (s.model.gib * f64::from(1u32 << 30)) as u64
}

/// What one GPU does at one moment.
struct Load {
    /// Memory, MiB.
    mib: f64,
    busy: u64,
    memory_busy: u64,
    watts: f64,
    /// Clock of the multiprocessors, MHz.
    clock: u64,
}

/// One pod's figures.
struct Meter<'a> {
    s: &'a Scenario,
    plan: &'a Plan,
    pod: &'a Pod,
    key: ContainerKey,
    /// Microseconds of processor time so far.
    cpu: f64,
    /// Bytes read so far.
    read: f64,
}

impl<'a> Meter<'a> {
    fn new(s: &'a Scenario, plan: &'a Plan, pod: &'a Pod) -> Self {
        Self {
            s,
            plan,
            pod,
            key: ContainerKey {
                pod: pods::key(s, pod),
                container: s.workload.container.clone(),
            },
            cpu: 2e6,
            read: 3e8,
        }
    }

    fn event(&self, tool: &str, text: String) -> Event {
        Event::Sample(SampleEvent {
            container: Some(self.key.clone()),
            node: Some(self.pod.node.clone()),
            tool: tool.into(),
            text,
        })
    }

    /// The phase that a rank is in, since when, and whether it stands still there for ever.
    fn phase(&self, rank: &Rank, at: Nanos) -> (Phase, Nanos, bool) {
        let stop = rank.stop.unwrap_or(Nanos::MAX);
        let still = at >= stop;
        let at = at.min(stop);
        let mut now = (Phase::Config, self.pod.started.unwrap_or(0));
        for phase in super::plan::PHASES {
            if let Some(begin) = self
                .plan
                .begins_in(self.pod, self.s, phase)
                .filter(|b| *b <= at)
            {
                now = (phase, begin);
            }
        }
        (now.0, now.1, still)
    }

    /// How much of its weights a rank holds, 0 to 1.
    fn filled(&self, rank: &Rank, at: Nanos) -> f64 {
        let Some(begin) = self.plan.begins(Phase::Weights) else {
            return 0.0;
        };
        let at = at.min(rank.stop.unwrap_or(Nanos::MAX));
        let own = simlog::loads(rank, secs(self.s.phases.weights)) - 8 * SEC / 10;
        let passed = at - begin - 4 * SEC / 10;
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = passed as f64 / own.max(1) as f64;
        share.clamp(0.0, 1.0)
    }

    /// What the GPU of a rank does.
    fn load(&self, rank: &Rank, at: Nanos) -> Load {
        let s = self.s;
        let (phase, since, still) = self.phase(rank, at);
        #[expect(clippy::cast_precision_loss, reason = "sizes")]
        let weights = s.model.gib * 1024.0 * 1.02 / (s.layout.tp * s.layout.pp) as f64
            * self.filled(rank, at);
        let utilization = if s.versions.vllm >= Version(0, 20, 0) {
            0.92
        } else {
            0.90
        };
        let full = (s.nodes.gpu_memory * 1024.0 * utilization).max(weights);
        let mut rng = Rng::new(
            s.seed ^ u64::try_from(at / SEC).unwrap_or(0),
            u64::try_from(rank.global).unwrap_or(0) + 100,
        );
        let jitter = |rng: &mut Rng, n: u64| rng.below(n);
        let mut load = Load {
            mib: 4.0,
            busy: 0,
            memory_busy: 0,
            watts: 69.0 + rng.unit() * 4.0,
            clock: 345,
        };
        let idle = |l: &mut Load, mib: f64| {
            l.mib = mib;
            l.clock = 1_980;
            l.watts += 45.0;
        };
        let gone = still && self.rank_ended(rank);
        match phase {
            _ if gone => {}
            Phase::Config => {}
            Phase::Rendezvous => idle(&mut load, CONTEXT),
            Phase::Nccl => {
                let up = at - since > SEC;
                idle(&mut load, CONTEXT + if up { NCCL } else { 0.0 });
            }
            Phase::Weights => {
                idle(&mut load, CONTEXT + NCCL + weights);
                if !still && weights > 0.0 && self.filled(rank, at) < 1.0 {
                    load.busy = 2 + jitter(&mut rng, 9);
                    load.memory_busy = 1 + jitter(&mut rng, 3);
                    load.watts += 8.0;
                }
            }
            Phase::Compile => {
                idle(&mut load, CONTEXT + NCCL + weights + 1_300.0);
                load.busy = 5 + jitter(&mut rng, 30);
            }
            Phase::Profile => {
                let done = at - since >= secs(s.phases.profile) * 7 / 10 && !still;
                idle(
                    &mut load,
                    if done {
                        full
                    } else {
                        CONTEXT + NCCL + weights + 4_200.0
                    },
                );
                load.busy = 100;
                load.watts = 330.0 + rng.unit() * 60.0;
            }
            Phase::Graphs | Phase::Serving => {
                let graphs = if phase == Phase::Serving {
                    860.0
                } else {
                    410.0
                };
                idle(&mut load, full + graphs);
                load.busy = 55 + jitter(&mut rng, 40);
                load.memory_busy = 20 + jitter(&mut rng, 20);
                load.watts = 360.0 + rng.unit() * 90.0;
            }
        }
        if !gone && matches!(phase, Phase::Profile | Phase::Graphs | Phase::Serving) {
            // Whoever stands still computes nothing; whoever waits for it spins in the collective.
            if still {
                load.busy = 0;
                load.memory_busy = 0;
                load.watts = 116.0;
            } else if self.waits(at) {
                load.busy = 100;
                load.memory_busy = 0;
                load.watts = 131.0 + rng.unit() * 4.0;
            }
        }
        load.mib += leftover(s, rank, at);
        load
    }

    /// Some rank stands still, so that the others wait.
    fn waits(&self, at: Nanos) -> bool {
        self.plan
            .ranks
            .iter()
            .any(|r| r.stop.is_some_and(|t| t <= at))
    }

    /// The process of a rank that stopped has ended rather than hangs.
    fn rank_ended(&self, rank: &Rank) -> bool {
        let ends = |f: &Fault| match f {
            Fault::Rank { ranks, then, .. } => {
                (ranks.is_empty() || ranks.contains(&rank.global)) && then.ends()
            }
            Fault::Pod { pods, then, .. } => {
                (pods.is_empty() || pods.contains(&rank.pod)) && then.ends()
            }
            _ => false,
        };
        self.s.faults.iter().any(ends)
    }

    /// One round of `nvidia-smi`.
    fn gpus(&self, at: Nanos) -> String {
        let s = self.s;
        let total = (s.nodes.gpu_memory * 1024.0 + RESERVED).round();
        let product = s.nodes.gpu.replace("NVIDIA-", "NVIDIA ").replace('-', " ");
        let mut text = String::new();
        let there = self.plan.ranks_of(self.pod.index).filter(|r| !gone(s, r));
        for rank in there {
            let load = self.load(rank, at);
            let heat = 30.0 + load.watts / 13.0;
            let _ = writeln!(
                text,
                "{}, {}, {}, {total:.0}, {:.0}, {}, {}, {heat:.0}, {:.2}, 700.00, {}, 1980, {RESERVED:.0}, 0x{:016x}, 0, 0, Disabled, 5, 16, 570.124.06, {product}",
                rank.local,
                uuid(s, rank),
                address(rank.bus),
                load.mib.min(total - RESERVED),
                load.busy,
                load.memory_busy,
                load.watts,
                load.clock,
                u64::from(load.clock < 400),
            );
        }
        text
    }

    /// One line of the script about the container.
    fn cgroup(&mut self, at: Nanos, passed: Nanos) -> String {
        let ranks: Vec<&Rank> = self.plan.ranks_of(self.pod.index).collect();
        let phases: Vec<(Phase, bool)> = ranks
            .iter()
            .map(|r| {
                let (phase, _, still) = self.phase(r, at);
                (phase, still)
            })
            .collect();
        let hung = self.waits(at);
        // Processors at work, by what each rank does.
        let cpus: f64 = phases
            .iter()
            .map(|(phase, still)| match phase {
                _ if *still || hung => 0.02,
                Phase::Config => 0.9,
                Phase::Weights => 0.8,
                Phase::Compile => 3.2,
                _ => 1.05,
            })
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        let seconds = passed as f64 / 1e9;
        self.cpu += cpus * seconds * 1e6;
        // Each rank reads its part of every file: a node reads the whole model once, the page cache does the rest.
        let share: f64 = ranks.iter().map(|r| self.filled(r, at)).fold(0.0, f64::max);
        let model = self.s.model.gib * f64::from(1u32 << 30);
        let read = self.read + model * share;
        #[expect(clippy::cast_precision_loss, reason = "a count of ranks")]
        let anon = 1.1e9 + 3.4e9 * ranks.len() as f64;
        let shmem = 67_108_864.0;
        let file = (model * share).min(3.0e11);
        format!(
            "cgroup version=2 memory={:.0} max={} anon={anon:.0} file={file:.0} shmem={shmem:.0} swap=0 cpu={:.0} block=0 storage={read:.0} calls={:.0} oom=0 available_kb=1504316800 swap_kb=0 swap_free_kb=0\n",
            anon + shmem + file,
            quantity(&self.s.workload.memory).map_or_else(|| "max".into(), |m| m.to_string()),
            self.cpu,
            read * 1.01,
        )
    }
}

/// `512Gi` in bytes.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits)? {
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        _ => 0,
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

/// As `nvidia-smi` prints a PCI address.
fn address(bus: u64) -> String {
    format!(
        "{:08X}:{:02X}:{:02X}.{:X}",
        bus >> 20,
        bus >> 12 & 0xff,
        bus >> 4 & 0x1f,
        bus & 0x7
    )
}

/// A UUID that stays the same for the same scenario.
fn uuid(s: &Scenario, rank: &Rank) -> String {
    let mut rng = Rng::new(s.seed, 7_000 + u64::try_from(rank.global).unwrap_or(0));
    let (a, b) = (rng.bits(), rng.bits());
    format!(
        "GPU-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// Memory that somebody else holds on the GPU of a rank, MiB.
pub(super) fn leftover(s: &Scenario, rank: &Rank, at: Nanos) -> f64 {
    let on = |f: &Fault| match f {
        Fault::Leftover { ranks, gib, from }
            if ranks.contains(&rank.global) && at >= s.origin_ns() + secs(*from) =>
        {
            Some(gib * 1024.0)
        }
        _ => None,
    };
    s.faults.iter().filter_map(on).sum()
}

/// Whether the GPU of a rank is not in its container.
pub(super) fn gone(s: &Scenario, rank: &Rank) -> bool {
    let lacks = |f: &Fault| matches!(f, Fault::Gone { ranks } if ranks.contains(&rank.global));
    s.faults.iter().any(lacks)
}
