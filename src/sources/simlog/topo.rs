//! Rings, trees and transports of one communicator, as NCCL's search would choose them on such nodes.

use std::collections::BTreeSet;

use crate::sources::sim::plan::{Comm, Plan, Pod, Rank};
use crate::sources::sim::scenario::{Fault, Rdma, Scenario};
use crate::sources::sim::version::Version;

/// Which end prints a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The sender.
    Send,
    /// The receiver.
    Receive,
}

/// Neighbours in one tree.
#[derive(Debug, Clone, Default)]
pub struct Branch {
    /// Parent.
    pub up: Option<usize>,
    /// Children, at most three.
    pub down: Vec<usize>,
}

/// Rings and trees, in ranks of the communicator.
#[derive(Debug)]
pub struct Topo<'a> {
    s: &'a Scenario,
    plan: &'a Plan,
    /// Inside a host shared memory is taken, though P2P could be.
    shared: bool,
    /// Rank and pod of each member.
    pub at: Vec<(&'a Rank, &'a Pod)>,
    /// Members by host, hosts in order of first appearance.
    pub hosts: Vec<Vec<usize>>,
    /// Number of channels.
    pub channels: usize,
    /// One order per channel, beginning with rank 0.
    pub rings: Vec<Vec<usize>>,
    /// One branch per channel and rank.
    pub trees: Vec<Vec<Branch>>,
}

impl<'a> Topo<'a> {
    /// Lays a communicator out.
    #[must_use]
    pub fn new(s: &'a Scenario, plan: &'a Plan, comm: &Comm) -> Self {
        let at: Vec<(&Rank, &Pod)> = comm
            .members
            .iter()
            .filter_map(|m| plan.ranks.get(m.global))
            .filter_map(|r| Some((r, plan.pods.get(r.pod)?)))
            .collect();
        let mut hosts: Vec<Vec<usize>> = Vec::new();
        let mut pods: Vec<usize> = Vec::new();
        for (i, (_, pod)) in at.iter().enumerate() {
            match pods.iter().position(|p| *p == pod.index) {
                Some(h) => hosts.get_mut(h).into_iter().for_each(|h| h.push(i)),
                None => {
                    pods.push(pod.index);
                    hosts.push(vec![i]);
                }
            }
        }
        let over_net = hosts.len() > 1 || at.iter().any(|(_, p)| !p2p(p) && !shm(p));
        let channels = if over_net {
            s.nodes.net_channels
        } else if at.len() < 2 {
            1
        } else if s.nodes.nvlink {
            s.nodes.channels
        } else {
            s.nodes.channels.min(4)
        };
        let shared = s.faults.iter().any(
            |f| matches!(f, Fault::SharedMemory { groups } if groups.iter().any(|g| g == comm.kind)),
        );
        let mut topo = Self {
            s,
            plan,
            shared,
            at,
            hosts,
            channels,
            rings: Vec::new(),
            trees: Vec::new(),
        };
        for c in 0..channels {
            topo.rings.push(topo.ring(c));
            topo.trees.push(topo.tree(c));
        }
        topo
    }

    /// Order inside a host: beside the network card of the channel first.
    fn chain(&self, host: usize, c: usize) -> Vec<usize> {
        let Some(members) = self.hosts.get(host) else {
            return Vec::new();
        };
        let mut order = members.clone();
        if self.hosts.len() > 1 && self.s.nodes.nics > 0 && !order.is_empty() {
            let shift = c % self.s.nodes.nics * order.len() / self.s.nodes.nics.max(1);
            let n = order.len();
            order.rotate_left(shift % n);
        }
        order
    }

    fn ring(&self, c: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hosts.len())
            .flat_map(|h| self.chain(h, c))
            .collect();
        if let Some(zero) = order.iter().position(|r| *r == 0) {
            order.rotate_left(zero);
        }
        order
    }

    /// Chains inside the hosts, hung into a binary tree of hosts; the second half of the channels mirrors it.
    fn tree(&self, c: usize) -> Vec<Branch> {
        let mut out = vec![Branch::default(); self.at.len()];
        let n = self.hosts.len();
        let mirror = |h: usize| if c * 2 < self.channels { h } else { n - 1 - h };
        let head = |h: usize| self.chain(mirror(h), c).first().copied();
        for h in 0..n {
            let chain = self.chain(h, c);
            for pair in chain.windows(2) {
                if let [a, b] = *pair {
                    out.get_mut(a).into_iter().for_each(|x| x.down.push(b));
                    out.get_mut(b).into_iter().for_each(|x| x.up = Some(a));
                }
            }
        }
        for h in 1..n {
            let bit = h & h.wrapping_neg();
            let mut up = (h ^ bit) | (bit << 1);
            if up >= n {
                up = h ^ bit;
            }
            if let (Some(child), Some(parent)) = (head(h), head(up)) {
                out.get_mut(child)
                    .into_iter()
                    .for_each(|x| x.up = Some(parent));
                out.get_mut(parent)
                    .into_iter()
                    .for_each(|x| x.down.push(child));
            }
        }
        out
    }

    /// Edges that ring connections need, in the order in which a rank makes them: (channel, from, to, side).
    #[must_use]
    pub fn ring_edges(&self, rank: usize) -> Vec<(usize, usize, usize, Side)> {
        let (mut receive, mut send) = (Vec::new(), Vec::new());
        for (c, ring) in self.rings.iter().enumerate() {
            let n = ring.len();
            let Some(i) = ring.iter().position(|r| *r == rank) else {
                continue;
            };
            if n < 2 {
                continue;
            }
            if let (Some(prev), Some(next)) = (ring.get((i + n - 1) % n), ring.get((i + 1) % n)) {
                receive.push((c, *prev, rank, Side::Receive));
                send.push((c, rank, *next, Side::Send));
            }
        }
        receive.extend(send);
        receive
    }

    /// Edges that trees need beyond the rings'.
    #[must_use]
    pub fn tree_edges(&self, rank: usize) -> Vec<(usize, usize, usize, Side)> {
        let made: BTreeSet<(usize, usize, usize)> = self
            .ring_edges(rank)
            .into_iter()
            .map(|(c, a, b, _)| (c, a, b))
            .collect();
        let (mut receive, mut send) = (Vec::new(), Vec::new());
        for (c, tree) in self.trees.iter().enumerate() {
            let Some(branch) = tree.get(rank) else {
                continue;
            };
            for peer in branch.up.iter().chain(&branch.down) {
                receive.push((c, *peer, rank, Side::Receive));
                send.push((c, rank, *peer, Side::Send));
            }
        }
        receive.extend(send);
        receive.retain(|(c, a, b, _)| !made.contains(&(*c, *a, *b)));
        receive
    }

    /// Two members share a host.
    #[must_use]
    pub fn same_host(&self, a: usize, b: usize) -> bool {
        match (self.at.get(a), self.at.get(b)) {
            (Some((_, p)), Some((_, q))) => p.index == q.index,
            _ => false,
        }
    }

    /// The connection between two members goes over the network.
    #[must_use]
    pub fn over_net(&self, a: usize, b: usize) -> bool {
        !self.same_host(a, b) || self.at.get(a).is_some_and(|(_, p)| !p2p(p) && !shm(p))
    }

    /// The connection line between two members as one side prints it, if that side prints one.
    #[must_use]
    pub fn line(&self, c: usize, index: u8, from: usize, to: usize, side: Side) -> Option<String> {
        let ((a, pa), (b, pb)) = (self.at.get(from)?, self.at.get(to)?);
        let me = if side == Side::Send { pa } else { pb };
        let ids = format!("{from}[{}] -> {to}[{}]", a.local, b.local);
        if !self.over_net(from, to) {
            if side == Side::Receive {
                return None;
            }
            if self.shared || !p2p(pa) || (!self.s.nodes.nvlink && a.local / 4 != b.local / 4) {
                let how = if me.nccl >= Version(2, 30, 7) {
                    "SHM/direct"
                } else {
                    "SHM/direct/direct"
                };
                return Some(format!("Channel {c:02} : {ids} via {how}"));
            }
            let cumem = me.nccl >= Version(2, 19, 1)
                && me.env.get("NCCL_CUMEM_ENABLE").is_none_or(|v| v != "0");
            let how = if cumem { "P2P/CUMEM" } else { "P2P/IPC" };
            let read = if self.s.nodes.gpu.contains("A100") {
                "/read"
            } else {
                ""
            };
            return Some(format!("Channel {c:02}/{index} : {ids} via {how}{read}"));
        }
        let (dir, gpu) = if side == Side::Send {
            ("send", a)
        } else {
            ("receive", b)
        };
        let (dev, proxy) = self.card(c, gpu, me);
        let proxy = match proxy {
            Some(local) if side == Side::Send => {
                // The rank of the communicator that sits beside the card.
                let owner = self
                    .at
                    .iter()
                    .position(|(r, p)| p.index == me.index && r.local == local)?;
                format!("({owner})")
            }
            _ => String::new(),
        };
        let gdr = if me.network != "Socket" && me.gdr {
            "/GDRDMA"
        } else {
            ""
        };
        let shared = if index == 1 { "/Shared" } else { "" };
        Some(format!(
            "Channel {c:02}/{index} : {ids} [{dir}] via NET/{}/{dev}{proxy}{gdr}{shared}",
            me.network
        ))
    }

    /// Card of a channel and, where another GPU sits beside it, that GPU.
    fn card(&self, c: usize, gpu: &Rank, pod: &Pod) -> (usize, Option<usize>) {
        let (nics, gpus) = (self.s.nodes.nics, self.s.nodes.gpus);
        if pod.network == "Socket" || pod.rdma == Rdma::None || nics == 0 {
            return (0, None);
        }
        let here: Vec<usize> = self
            .at
            .iter()
            .filter(|(_, p)| p.index == pod.index)
            .map(|(r, _)| r.local)
            .collect();
        if here.len() < 2 {
            return (gpu.local * nics / gpus.max(1), None);
        }
        let dev = c % nics;
        let beside = dev * gpus / nics;
        let pxn = self.s.nodes.nvlink && beside != gpu.local && here.contains(&beside);
        (dev, pxn.then_some(beside))
    }

    /// Whether any send goes through another GPU's proxy.
    #[must_use]
    pub fn pxn(&self) -> bool {
        self.rings.iter().enumerate().any(|(c, ring)| {
            let pairs = ring.iter().zip(ring.iter().cycle().skip(1));
            pairs
                .filter(|(a, b)| self.over_net(**a, **b))
                .any(|(a, _)| {
                    self.at
                        .get(*a)
                        .is_some_and(|(r, p)| self.card(c, r, p).1.is_some())
                })
        })
    }

    /// Whether the ring uses GPUDirect RDMA wherever it crosses the network.
    #[must_use]
    pub fn gdr(&self) -> bool {
        self.at.iter().all(|(_, p)| p.gdr && p.network != "Socket") && self.plan.pods.len() > 1
    }
}

fn off(pod: &Pod, name: &str) -> bool {
    pod.env.get(name).is_some_and(|v| v == "1")
}

/// P2P is allowed in a pod.
#[must_use]
pub fn p2p(pod: &Pod) -> bool {
    !off(pod, "NCCL_P2P_DISABLE")
}

/// Shared memory is allowed in a pod.
#[must_use]
pub fn shm(pod: &Pod) -> bool {
    !off(pod, "NCCL_SHM_DISABLE")
}
