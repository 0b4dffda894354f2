//! Communicators of NCCL up to 2.15.5, whose lines print no id (nccl-logs.md 4.6).
//!
//! All members complete within moments of each other. Records of one size whose COMPLETE lines stand that close
//! are one communicator, unless a rank is there twice: then several came up at once, and which member belongs
//! to which, nothing tells.

use std::collections::{BTreeMap, BTreeSet};

use super::Joined;
use crate::model::procs::Procs;
use crate::parse::Nanos;

/// COMPLETE lines of one communicator lie closer than this.
const GAP: Nanos = 5_000_000_000;

/// A record: unit, index in it.
type Place = (u32, u32);

/// For each record that is joined by time, the one whose key it takes: the lowest rank's.
pub(super) fn namesakes(joined: &Joined, procs: &Procs) -> BTreeMap<Place, Place> {
    let mut by_size: BTreeMap<u32, Vec<(Nanos, u32, Place)>> = BTreeMap::new();
    for (unit, u) in joined.units.iter().zip(0_u32..) {
        for r in (0_u32..).take(unit.recs.len()) {
            let Some(rec) = joined.rec(procs, u, r) else {
                continue;
            };
            let complete = rec.complete.as_ref().and_then(|q| q.at);
            if let Some(at) = complete.filter(|at| at.exact)
                && rec.comm_id.is_none()
                && rec.parent.is_none()
            {
                let list = by_size.entry(rec.nranks).or_default();
                list.push((at.ns, rec.rank, (u, r)));
            }
        }
    }
    let mut names = BTreeMap::new();
    for mut list in by_size.into_values() {
        list.sort_unstable();
        for crowd in list.chunk_by(|a, b| b.0 - a.0 <= GAP) {
            let ranks: BTreeSet<u32> = crowd.iter().map(|(_, rank, _)| *rank).collect();
            let units: BTreeSet<u32> = crowd.iter().map(|(.., place)| place.0).collect();
            let single = ranks.len() == crowd.len() && units.len() == crowd.len();
            let first = crowd.iter().min_by_key(|(_, rank, _)| *rank);
            if let Some((.., first)) = first.filter(|_| single && crowd.len() > 1) {
                names.extend(crowd.iter().map(|(.., place)| (*place, *first)));
            }
        }
    }
    names
}
