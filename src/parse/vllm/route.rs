//! All-reduce back ends: which ones a group has, and why not the others (S30–S37).

use super::scan::{after, some_text, text};
use super::{Read, VllmFact};

/// What a line says about the ways an all-reduce can take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// Custom all-reduce is off (S30).
    CustomOff {
        /// `because this process group spans across nodes`, …
        why: String,
    },
    /// Multi-node custom collectives are off (S31).
    MultiNodeOff,
    /// The P2P access cache is made or read (S32).
    P2pCache {
        /// Made: probes run, the first start is slow.
        generating: bool,
        /// File.
        path: String,
    },
    /// torch symmetric memory is off (S33).
    SymmMemOff {
        /// `Device capability 8.0 not supported`, …
        why: String,
    },
    /// Quick reduce (ROCm) is off (S34).
    QuickReduceOff {
        /// Reason.
        why: String,
    },
    /// FlashInfer's back end was chosen, made ready, or is off (S35).
    FlashInfer {
        /// It can be used.
        on: bool,
        /// Back end, or the reason against it.
        detail: String,
    },
    /// The list that the group really has, in dispatch order (S36).
    Active {
        /// `CUSTOM`, `SYMM_MEM`, `PYNCCL`, …
        backends: Vec<String>,
        /// `tp:0`.
        group: String,
    },
    /// All-to-all manager (S37).
    AllToAll {
        /// Name.
        manager: String,
    },
}

pub(super) const ANCHORS: &[(&str, Read)] = &[
    ("Custom allreduce is disabled ", |h| {
        let mut c = h.cur();
        let why = text(c.while_(|b| b != b'.'));
        route(Route::CustomOff { why })
    }),
    (
        "Custom collectives are disabled because this multi-node group",
        |_| route(Route::MultiNodeOff),
    ),
    ("generating GPU P2P access cache in ", |h| {
        route(Route::P2pCache {
            generating: true,
            path: text(h.cur().word()?),
        })
    }),
    ("reading GPU P2P access cache from ", |h| {
        route(Route::P2pCache {
            generating: false,
            path: text(h.cur().word()?),
        })
    }),
    ("SymmMemCommunicator: ", |h| {
        let why = match super::scan::find(h.after, ", communicator is not available") {
            Some(end) => h.after.get(..end)?,
            None => h.after.strip_suffix(b".").unwrap_or(h.after),
        };
        route(Route::SymmMemOff {
            why: some_text(why)?,
        })
    }),
    ("Custom quick allreduce", |h| {
        let mut c = h.cur();
        if !(c.eat(" is disabled") || c.eat(" disabled") || c.eat(":")) {
            return None;
        }
        route(Route::QuickReduceOff { why: text(c.rest) })
    }),
    ("Auto-selected flashinfer allreduce backend: ", |h| {
        flashinfer(true, h.cur().name()?)
    }),
    ("FlashInfer All Reduce is disabled because ", |h| {
        flashinfer(false, h.after)
    }),
    ("Failed to initialize FlashInfer All", |h| {
        flashinfer(false, h.msg)
    }),
    ("Initialized FlashInfer All", |h| flashinfer(true, h.msg)),
    ("all-reduce backends (in dispatch order) for group '", |h| {
        let mut list = after(h.before(), "Using [")?;
        let list = list.seek("]")?;
        let backends = list
            .split(|b| *b == b',')
            .map(|w| text(w).trim_matches(['\'', '"']).to_owned())
            .filter(|w| !w.is_empty())
            .collect();
        route(Route::Active {
            backends,
            group: text(h.cur().seek("'")?),
        })
    }),
    (" all2all manager", |h| {
        let manager = after(h.before(), "Using ")?.rest;
        route(Route::AllToAll {
            manager: some_text(manager)?,
        })
    }),
];

#[allow(
    clippy::unnecessary_wraps,
    reason = "a row of the table ends with it, and rows give options"
)]
fn route(r: Route) -> Option<VllmFact> {
    Some(VllmFact::Route(r))
}

fn flashinfer(on: bool, detail: &[u8]) -> Option<VllmFact> {
    route(Route::FlashInfer {
        on,
        detail: text(detail),
    })
}
