//! Which pod is slow, or which link between two: the judge over pairwise all-reduces.
//!
//! The script measures every pair, then the slow ones again alone beside a good one (`assets/allreduce.py`, `pairs`).
//! What is slow in both turns is guilty; a pod all of whose pairs are guilty is the cause, else the link is.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::testrun::PairRate;

/// Of the reference; below it a pair is slow. As in the script.
const SLOW: f64 = 0.6;

/// Rates by pods, the smaller number first.
pub type Pairs = BTreeMap<(u32, u32), PairRate>;

/// What the pairs prove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// Pods all of whose pairs are guilty.
    pub pods: Vec<u32>,
    /// Guilty pairs that no such pod explains.
    pub links: Vec<(u32, u32)>,
    /// Every guilty pair.
    pub guilty: BTreeSet<(u32, u32)>,
    /// Slow when measured among others, not measured alone yet.
    pub suspected: BTreeSet<(u32, u32)>,
    /// Pods that were measured.
    pub count: usize,
}

impl Judged {
    /// Somebody is guilty.
    #[must_use]
    pub fn convicts(&self) -> bool {
        !self.guilty.is_empty()
    }
}

/// What the reference is: the median of those pairs that stay good when any one pod is bad.
fn reference(pairs: &Pairs, pods: usize) -> f64 {
    let mut rates: Vec<f64> = pairs.values().map(|p| p.first).collect();
    rates.sort_by(|a, b| b.total_cmp(a));
    let good = pods.saturating_sub(1) * pods.saturating_sub(2) / 2;
    let at = good.saturating_sub(1) / 2;
    rates.get(at).copied().unwrap_or(0.0)
}

/// Judges.
#[must_use]
pub fn judge(pairs: &Pairs) -> Judged {
    let pods: BTreeSet<u32> = pairs.keys().flat_map(|(a, b)| [*a, *b]).collect();
    let mut out = Judged {
        count: pods.len(),
        ..Judged::default()
    };
    // One pair alone has nothing to be compared with; wrong elements need no comparison.
    let first = if pods.len() < 3 {
        0.0
    } else {
        reference(pairs, pods.len())
    };
    // Alone on the network the good ones may be faster; the slow ones are held to the lower of the two.
    let control = pairs
        .values()
        .filter_map(|p| p.again)
        .max_by(f64::total_cmp);
    let again = control.map_or(first, |c| c.min(first));
    for (pair, rate) in pairs {
        let slow = rate.first < SLOW * first;
        match rate.again {
            _ if rate.wrong > 0 => drop(out.guilty.insert(*pair)),
            Some(alone) if slow && alone < SLOW * again => drop(out.guilty.insert(*pair)),
            None if slow => drop(out.suspected.insert(*pair)),
            _ => {}
        }
    }
    let of = |pod: u32, pair: &(u32, u32)| pair.0 == pod || pair.1 == pod;
    for pod in &pods {
        let mut own = pairs.keys().filter(|p| of(*pod, p)).peekable();
        let several = pods.len() > 2 && own.peek().is_some();
        if several && own.all(|p| out.guilty.contains(p)) {
            out.pods.push(*pod);
        }
    }
    out.links = out
        .guilty
        .iter()
        .filter(|pair| !out.pods.iter().any(|pod| of(*pod, pair)))
        .copied()
        .collect();
    out
}

/// The judgement as a sentence, with the names of the pods' nodes.
#[must_use]
pub fn sentence(judged: &Judged, name: &dyn Fn(u32) -> String) -> String {
    let mut parts = Vec::new();
    for pod in &judged.pods {
        let pairs = judged.count.saturating_sub(1);
        parts.push(format!(
            "{}, each of its {pairs} pairs is slow or wrong",
            name(*pod)
        ));
    }
    for (a, b) in &judged.links {
        let link = format!("the link between {} and {}", name(*a), name(*b));
        parts.push(match judged.count {
            2 => format!("{link} or one of the two, results are wrong"),
            _ => format!("{link}, both are well with every other"),
        });
    }
    if parts.is_empty() {
        return match (judged.count, judged.suspected.len()) {
            (0, _) => String::new(),
            (2, _) => "Two pods are one pair: there is none to compare it with.".into(),
            (_, 0) => "No pair stands out.".into(),
            (_, n) => format!("{n} pairs are suspected and measured again alone."),
        };
    }
    format!("Guilty: {}.", parts.join("; "))
}
