//! Rates each edge: is the transport worse than its place allows?

use std::collections::BTreeSet;

use super::scene::{Communicator, Edge, Family, ProcessView, Rating};

/// The network moves data through the kernel's TCP.
#[must_use]
pub fn is_socket(edge: &Edge) -> bool {
    edge.family == Family::Net && edge.network.as_deref() == Some("Socket")
}

/// Marks downgrades: sockets inside a host, sockets between hosts that own RDMA devices, RDMA without
/// GPUDirect where others of the same communicator have it or where one side alone lacks it.
pub fn rate(communicators: &mut [Communicator], processes: &[ProcessView]) {
    let rdma: BTreeSet<u32> = processes
        .iter()
        .enumerate()
        .filter(|(_, p)| !p.rdma_devices.is_empty())
        .filter_map(|(i, _)| u32::try_from(i).ok())
        .collect();
    for c in communicators {
        let process = |rank: Option<u32>| {
            let rank = rank?;
            c.ranks
                .binary_search_by_key(&rank, |m| m.rank)
                .ok()
                .and_then(|i| c.ranks.get(i))
                .map(|m| m.process)
        };
        let owns = |rank| process(rank).is_some_and(|p| rdma.contains(&p));
        let gdr_somewhere = c
            .edges
            .iter()
            .any(|e| e.gdr == Some(true) && e.family == Family::Net);
        for e in &mut c.edges {
            let one_sided = e
                .paths
                .iter()
                .any(|p| matches!((&p.send, &p.receive), (Some(a), Some(b)) if a.gdr != b.gdr));
            let worse = match e.family {
                Family::Net if is_socket(e) => {
                    e.same_host == Some(true)
                        || (e.same_host == Some(false) && owns(e.from) && owns(e.to))
                }
                Family::Net => e.gdr == Some(false) && (gdr_somewhere || one_sided),
                _ => false,
            };
            if worse {
                e.rating = Rating::Downgraded;
            }
        }
    }
}
