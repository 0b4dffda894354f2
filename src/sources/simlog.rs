//! Log text that NCCL and vLLM of given versions would print for a plan: the text, never facts.
//!
//! Each container's lines carry the kubelet's stamp, as a live log does that is read with timestamps.

pub mod nccl;
pub mod topo;
pub mod vllm;

use crate::parse::Nanos;

use super::sim::plan::{Plan, Rank, pick, secs};
use super::sim::scenario::{Fault, Phase, Say, Scenario};

/// Lines of one container in order of time; the order of writing decides between equal stamps.
#[derive(Debug, Default)]
pub struct Pen {
    lines: Vec<(Nanos, String)>,
}

impl Pen {
    /// Writes a line (without its stamp and end).
    pub fn line(&mut self, at: Nanos, text: impl Into<String>) {
        self.lines.push((at, text.into()));
    }

    /// Everything written, sorted, up to a moment (not included).
    #[must_use]
    pub fn finish(mut self, until: Nanos) -> Vec<(Nanos, String)> {
        self.lines.retain(|(at, _)| *at < until);
        self.lines.sort_by_key(|(at, _)| *at);
        self.lines
    }
}

/// How long one rank loads its weights: a little less than the phase.
#[must_use]
pub fn loads(rank: &Rank, length: Nanos) -> Nanos {
    let spread = Nanos::try_from(rank.pod * 7 % 5).unwrap_or(0);
    length - length * spread / 60
}

/// The log of every container, by pod; what is written after a container's end is not there.
#[must_use]
pub fn write(s: &Scenario, plan: &Plan) -> Vec<Vec<(Nanos, String)>> {
    let mut pens: Vec<Pen> = plan.pods.iter().map(|_| Pen::default()).collect();
    vllm::write(s, plan, &mut pens);
    nccl::write(s, plan, &mut pens);
    // A process that has stopped says nothing more, but its last words come at that very moment.
    faults(s, plan, &mut pens);
    pens.into_iter()
        .zip(&plan.pods)
        .map(|(pen, pod)| pen.finish(pod.exit.as_ref().map_or(plan.end, |e| e.at.min(plan.end))))
        .collect()
}

fn faults(s: &Scenario, plan: &Plan, pens: &mut [Pen]) {
    for fault in &s.faults {
        let (stages, phase, after, say): (Vec<(Option<&Rank>, usize)>, _, _, _) = match fault {
            Fault::Rank {
                ranks,
                phase,
                after,
                say,
                ..
            } => {
                let ranks = pick(ranks, plan.ranks.len())
                    .into_iter()
                    .filter_map(|r| plan.ranks.get(r));
                (
                    ranks.map(|r| (Some(r), r.pod)).collect(),
                    *phase,
                    *after,
                    say,
                )
            }
            Fault::Pod {
                pods,
                phase,
                after,
                say,
                ..
            } => {
                let pods = pick(pods, plan.pods.len());
                (
                    pods.into_iter().map(|p| (None, p)).collect(),
                    *phase,
                    *after,
                    say,
                )
            }
            _ => continue,
        };
        for (rank, pod) in stages {
            let begin = plan.pods.get(pod).and_then(|p| plan.begins_in(p, s, phase));
            if let Some(begin) = begin {
                speak(
                    s,
                    plan,
                    pens,
                    Stage {
                        rank,
                        pod,
                        phase,
                        at: begin + secs(after),
                    },
                    say,
                );
            }
        }
    }
}

/// Who speaks, and when.
struct Stage<'a> {
    /// A worker; the first of the pod when nobody is named.
    rank: Option<&'a Rank>,
    pod: usize,
    phase: Phase,
    at: Nanos,
}

/// Writes the lines of a fault; each takes a millisecond.
fn speak(s: &Scenario, plan: &Plan, pens: &mut [Pen], stage: Stage<'_>, lines: &[Say]) {
    let Stage {
        rank,
        pod,
        phase,
        mut at,
    } = stage;
    let Some(rank) = rank.or_else(|| plan.ranks_of(pod).next()) else {
        return;
    };
    // A worker has its long name once its groups exist.
    let placed = phase > Phase::Nccl;
    for line in lines {
        at += 1_000_000;
        let fill = |text: &str| fill(plan, rank, text);
        let (where_, text) = match line {
            Say::Wait(seconds) => {
                at += secs(*seconds);
                continue;
            }
            Say::NcclInfo(t) => (pod, vec![nccl::info(plan, rank, rank.pid, &fill(t))]),
            Say::NcclWarn(t) => (pod, nccl::warn(plan, rank, rank.pid, at, &fill(t))),
            Say::NcclCalls { group, count } => {
                let calls = calls(plan, rank, group, *count);
                (pod, calls)
            }
            Say::Worker(t) => (
                pod,
                vec![vllm::record(&vllm::worker(s, rank, placed), at, &fill(t))],
            ),
            Say::Engine(t) => (
                0,
                vec![vllm::record(&vllm::engine(s, rank.dp), at, &fill(t))],
            ),
            Say::Api(t) => (0, vec![vllm::record(&vllm::api(s), at, &fill(t))]),
            Say::Raw(t) => (pod, fill(t).lines().map(str::to_owned).collect()),
            Say::Print(t) => {
                let prefix = vllm::worker(s, rank, placed);
                (
                    pod,
                    fill(t).lines().map(|l| format!("{prefix}{l}")).collect(),
                )
            }
        };
        if let Some(pen) = pens.get_mut(where_) {
            for text in text {
                pen.line(at, text);
            }
        }
    }
}

/// Lines of collective calls on a rank's communicator of a group.
fn calls(plan: &Plan, rank: &Rank, group: &str, count: u32) -> Vec<String> {
    let found = plan.comms.iter().filter(|c| c.kind == group).find_map(|c| {
        let m = c.members.iter().find(|m| m.global == rank.global)?;
        Some((m.pointer, c.members.len()))
    });
    let Some((pointer, size)) = found else {
        return Vec::new();
    };
    (0..count)
        .map(|n| {
            nccl::info(
                plan,
                rank,
                rank.pid,
                &format!(
                    "AllReduce: opCount {n:x} sendbuff 0x7f1c40000000 recvbuff 0x7f1c40000000 count 8192 datatype 9 op 0 root 0 comm {pointer:#x} [nranks={size}] stream 0x55e0c1d2a0"
                ),
            )
        })
        .collect()
}

/// Fills `{rank}`, `{local}`, `{pid}`, `{bus}`, `{pod}`, `{ip:N}`, `{host:N}`, `{dns:N}` in a line of a fault.
fn fill(plan: &Plan, rank: &Rank, text: &str) -> String {
    let mut out = text
        .replace("{rank}", &rank.global.to_string())
        .replace("{local}", &rank.local.to_string())
        .replace("{pid}", &rank.pid.to_string())
        .replace("{bus}", &format!("{:x}", rank.bus));
    if let Some(pod) = plan.pods.get(rank.pod) {
        out = out.replace("{pod}", &pod.name).replace("{ip}", &pod.ip);
    }
    if out.contains(":") && out.contains("{") {
        for pod in &plan.pods {
            out = out
                .replace(&format!("{{ip:{}}}", pod.index), &pod.ip)
                .replace(&format!("{{host:{}}}", pod.index), &pod.name);
        }
    }
    out
}
