//! Weights on their way: slow, or standing still.

use std::collections::{BTreeMap, BTreeSet};

use super::super::View;
use crate::model::speakers::Speaker;
use crate::rules::comms::line_ref;
use crate::rules::scene::{Class, Evidence, Finding, Severity, Stage};

/// Weights that still advance are no hang.
pub(super) fn loading_slow(view: &View<'_>, out: &mut Vec<Finding>) {
    let Some(now) = view.scene.now else { return };
    let mut by: BTreeMap<usize, (u32, &Speaker, f64, u64, u64)> = BTreeMap::new();
    for s in &view.model.speakers.list {
        let Some((Stage::Weights, began)) = &s.stage else {
            continue;
        };
        let Some((p, q)) = &s.progress else { continue };
        let (Some(a), Some(b), Some(unit)) = (began.at, q.at, view.unit_of_speaker(s)) else {
            continue;
        };
        let (age, quiet) = ((now.ns - a.ns) as f64 / 1e9, (now.ns - b.ns) as f64 / 1e9);
        let spent = (b.ns - a.ns) as f64 / 1e9;
        // Two minutes without a step is no longer an advance.
        let advancing = a.exact == now.exact && b.exact == now.exact && quiet < 120.0;
        if !advancing || age < 60.0 || p.done == 0 || p.done >= p.total || spent <= 0.0 {
            continue;
        }
        let eta = spent / p.done as f64 * (p.total - p.done) as f64;
        let slot = by
            .entry(view.workload_of(unit))
            .or_insert((unit, s, eta, p.done, p.total));
        if eta > slot.2 {
            *slot = (unit, s, eta, p.done, p.total);
        }
    }
    for (unit, s, eta, done, total) in by.into_values() {
        let (Some((_, began)), Some((p, q))) = (&s.stage, &s.progress) else {
            continue;
        };
        let place = view.place(unit);
        let mut f = Finding::new(
            "vllm.loading-slow",
            &place,
            Severity::Info,
            Class::Resources,
            Evidence::Line(line_ref(s.source, q)),
        );
        f.prove(Evidence::Line(line_ref(s.source, began)));
        let who = view.who(&BTreeSet::from([unit]));
        (f.hosts, f.pods, f.ranks) = (who.hosts, who.pods, who.ranks);
        f.since = began.at;
        f.title = format!(
            "weights still load: {done} of {total} {}, {:.1} s each, about {eta:.0} s to go",
            p.counted.unit(),
            eta / (total - done).max(1) as f64
        );
        f.cause = "NCCL is done and the weights advance: this is slow storage, not a hang.".into();
        f.fix = vec![
            "wait, or put the model on faster storage (local NVMe, a read-many volume with more throughput, a warm page cache)".into(),
            view.target.arg("--load-format=runai_streamer"),
        ];
        out.push(f);
    }
}
