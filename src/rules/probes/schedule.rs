//! Which probe is due where. Pure: pods, answers and the time come in, what to ask comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Member, PROBES, Probe, informed, members};
use crate::model::event::{ContainerKey, PodKey, ProbeOutcome};
use crate::model::pods::Pods;
use crate::model::probes::Probes;
use crate::parse::Nanos;

const SECOND: Nanos = 1_000_000_000;
/// Probes that checks begin in one pod a minute: less than the gate allows, so that a sampler and a person fit in.
const PER_MINUTE: usize = 8;
/// A container is asked this long after it has started.
const GRACE: Nanos = 5 * SECOND;
/// What gave no answer is tried again after so long, however rarely it is due.
const AGAIN: Nanos = 120 * SECOND;

/// The members of a workload.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    /// In rank order.
    pub list: Vec<Member<'a>>,
}

/// A question for one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Name of the probe.
    pub probe: &'static str,
    /// Where.
    pub container: ContainerKey,
    /// What is run.
    pub argv: Vec<String>,
    /// The same for people.
    pub ran: String,
    /// It is given up after so many seconds.
    pub seconds: u32,
    /// Most bytes of its answer.
    pub cap: usize,
}

/// What was asked when; what a person wants asked again.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    /// Begun in the last minute, by pod.
    spent: BTreeMap<PodKey, VecDeque<Nanos>>,
    /// Asked again whatever their age, by probe and container; taken away as they are asked.
    wanted: BTreeSet<(&'static str, ContainerKey)>,
}

impl Schedule {
    /// A person wants these probes again, everywhere.
    pub fn want(&mut self, probes: &[&str], pods: &Pods) {
        for m in members(pods).list {
            for p in PROBES.iter().filter(|p| probes.contains(&p.name)) {
                self.wanted.insert((p.name, m.key.clone()));
            }
        }
    }

    /// What is due now, at most `most`, and counts it as begun.
    pub fn due(&mut self, pods: &Pods, probes: &Probes, now: Nanos, most: usize) -> Vec<Ask> {
        self.spent.retain(|_, times| {
            times.retain(|t| now - *t < 60 * SECOND);
            !times.is_empty()
        });
        let all = informed(pods, probes);
        let mut out = Vec::new();
        // The same probe everywhere before the next one anywhere: comparisons come early.
        for probe in PROBES {
            for m in &all.list {
                if out.len() >= most {
                    return out;
                }
                let container = m.key.clone();
                let wanted = (probe.name, container.clone());
                let asked = self.wanted.contains(&wanted);
                if !is_due(probe, m, &container, probes, now, asked) {
                    continue;
                }
                let spent = self.spent.entry(container.pod.clone()).or_default();
                if spent.len() >= PER_MINUTE {
                    continue;
                }
                let Some(args) = (probe.args)(m, &all) else {
                    self.wanted.remove(&wanted);
                    continue;
                };
                spent.push_back(now);
                self.wanted.remove(&wanted);
                out.push(Ask {
                    probe: probe.name,
                    container,
                    argv: probe.argv(&args),
                    ran: probe.ran(&args),
                    seconds: probe.seconds,
                    cap: probe.cap,
                });
            }
        }
        out
    }
}

fn is_due(
    probe: &Probe,
    m: &Member<'_>,
    container: &ContainerKey,
    probes: &Probes,
    now: Nanos,
    wanted: bool,
) -> bool {
    let Some(since) = m.running() else {
        return false;
    };
    let Some(last) = probes.at(probe.name, Some(container)) else {
        return wanted || now >= since + GRACE;
    };
    if last
        .since
        .is_some_and(|t| now - t < Nanos::from(probe.seconds) * 2 * SECOND)
    {
        return false;
    }
    let age = now - last.at;
    wanted
        || match &last.outcome {
            None => true,
            // Nobody asks twice what was refused, unless a person wants it.
            Some(ProbeOutcome::Refused { .. }) => false,
            Some(ProbeOutcome::Failed { .. }) => {
                age >= AGAIN.min(Nanos::from(probe.every) * SECOND)
            }
            // What was answered by an earlier life of the container says nothing of this one.
            Some(_) => last.at < since || age >= Nanos::from(probe.every) * SECOND,
        }
}
