//! Transports that are worse than their place allows.

use std::collections::{BTreeMap, BTreeSet};

use super::{View, earlier, first_lines};
use crate::rules::comms::line_ref;
use crate::rules::rating::is_socket;
use crate::rules::scene::{
    Class, Communicator, Edge, Evidence, Family, Finding, LineRef, ProcessView, Severity,
};

fn process<'a>(
    view: &View<'a>,
    c: &Communicator,
    rank: Option<u32>,
) -> Option<(u32, &'a ProcessView)> {
    let rank = rank?;
    let at = c.ranks.binary_search_by_key(&rank, |m| m.rank).ok()?;
    let m = c.ranks.get(at)?;
    Some((m.process, view.scene.processes.get(m.process as usize)?))
}

/// The line that proves an environment variable of a process, when its value is one of `values`.
fn env_line(view: &View<'_>, process: u32, name: &str, values: &[&str]) -> Option<LineRef> {
    let unit = view.joined.units.get(process as usize)?;
    unit.procs.iter().find_map(|p| {
        let p = view.model.procs.list.get(*p as usize)?;
        let (value, quote) = p.env.get(name)?;
        values
            .iter()
            .any(|v| v.eq_ignore_ascii_case(value))
            .then(|| line_ref(p.source, quote))
    })
}

fn ranks_of(edges: &[&Edge]) -> Vec<u32> {
    let mut ranks: Vec<u32> = edges
        .iter()
        .flat_map(|e| [e.from, e.to])
        .flatten()
        .collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

/// NET between two ranks of one host: one finding per communicator and host.
pub fn same_host_net(view: &View<'_>, out: &mut Vec<Finding>) {
    for c in &view.scene.communicators {
        let mut by_host: BTreeMap<String, Vec<&Edge>> = BTreeMap::new();
        for e in c
            .edges
            .iter()
            .filter(|e| e.family == Family::Net && e.same_host == Some(true))
        {
            if let Some((_, p)) = process(view, c, e.from) {
                by_host
                    .entry(p.host.clone().unwrap_or_default())
                    .or_default()
                    .push(e);
            }
        }
        for (host, edges) in by_host {
            let sockets = edges.iter().any(|e| is_socket(e));
            let here: BTreeSet<u32> = edges
                .iter()
                .flat_map(|e| [e.from, e.to])
                .filter_map(|rank| process(view, c, rank))
                .map(|(p, _)| p)
                .collect();
            let set = |name: &'static str, values: &[&str]| {
                let line = here.iter().find_map(|p| env_line(view, *p, name, values))?;
                Some((name, line))
            };
            let p2p: Vec<(&str, LineRef)> = [
                set("NCCL_P2P_DISABLE", &["1"]),
                set("NCCL_P2P_LEVEL", &["LOC", "0"]),
            ]
            .into_iter()
            .flatten()
            .collect();
            let shm = set("NCCL_SHM_DISABLE", &["1"]);
            let refused = !p2p.is_empty() && shm.is_some();
            let severity = if sockets || refused {
                Severity::Error
            } else {
                Severity::Info
            };
            let lines = first_lines(edges.iter().map(|e| e.line.clone()).collect());
            let Some(proof) = lines.first() else { continue };
            let subject = format!("{}:{host}", c.key);
            let class = if refused {
                Class::Configuration
            } else {
                Class::Platform
            };
            let mut f = Finding::new(
                "nccl.same-host-net",
                &subject,
                severity,
                class,
                Evidence::Line(proof.clone()),
            );
            f.since = edges.iter().fold(None, |at, e| earlier(at, e.line.at));
            for l in lines
                .into_iter()
                .skip(1)
                .chain(p2p.iter().chain(&shm).map(|(_, l)| l.clone()))
            {
                f.prove(Evidence::Line(l));
            }
            let net = if sockets { "TCP" } else { "the network" };
            f.title = format!("GPUs of {host} talk to each other over {net}");
            f.ranks = ranks_of(&edges);
            f.hosts = vec![host.clone()];
            f.communicator = Some(c.key.clone());
            let count = format!(
                "{} connections between ranks of {host} use {}",
                edges.len(),
                edges.first().map_or("NET", |e| &e.transport)
            );
            f.cause = match (p2p.first(), &shm) {
                (Some(_), Some(_)) => format!(
                    "{count}: P2P and shared memory are both switched off in this host's environment."
                ),
                (Some(_), None) => format!(
                    "{count}: P2P is switched off in the environment and shared memory was not used either."
                ),
                (None, Some(_)) => format!(
                    "{count}: shared memory is switched off in the environment and P2P was not used either."
                ),
                (None, None) if sockets => format!(
                    "{count}: P2P and shared memory were both refused. Ranks in containers without a common IPC namespace or /dev/shm, or differing NCCL_HOSTID, cause that."
                ),
                (None, None) => format!(
                    "{count}: the topology search preferred the NIC, which can be right on this machine."
                ),
            };
            let target = &view.target;
            let switches = p2p.iter().chain(&shm);
            f.fix
                .extend(switches.map(|(name, _)| target.env(name, None)));
            if f.fix.is_empty() && sockets {
                f.fix.push("run the ranks of one node in one pod, with an emptyDir of medium Memory mounted at /dev/shm".into());
                f.fix.push("NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,P2P,SHM,GRAPH shows which of them was refused, and why".into());
            }
            out.push(f);
        }
    }
}

/// NET/Socket between hosts: a warning where RDMA devices are listed, a remark where it is on purpose.
pub fn socket_despite_rdma(view: &View<'_>, out: &mut Vec<Finding>) {
    for c in &view.scene.communicators {
        let edges: Vec<&Edge> = c
            .edges
            .iter()
            .filter(|e| is_socket(e) && e.same_host == Some(false))
            .collect();
        if edges.is_empty() {
            continue;
        }
        let mut ends: Vec<(u32, &ProcessView)> = edges
            .iter()
            .flat_map(|e| [e.from, e.to])
            .filter_map(|r| process(view, c, r))
            .collect();
        ends.sort_by_key(|(i, _)| *i);
        ends.dedup_by_key(|(i, _)| *i);
        let on_purpose = ends.iter().find_map(|(i, _)| {
            env_line(view, *i, "NCCL_IB_DISABLE", &["1"])
                .map(|l| ("NCCL_IB_DISABLE=1", l))
                .or_else(|| {
                    env_line(view, *i, "NCCL_NET", &["Socket"]).map(|l| ("NCCL_NET=Socket", l))
                })
        });
        let listed = |i: u32| {
            let unit = view.joined.units.get(i as usize)?;
            unit.procs.iter().find_map(|p| {
                let p = view.model.procs.list.get(*p as usize)?;
                let (devices, q) = p.rdma.as_ref()?;
                (!devices.is_empty()).then(|| line_ref(p.source, q))
            })
        };
        let absent = |i: u32| {
            let unit = view.joined.units.get(i as usize)?;
            unit.procs.iter().find_map(|p| {
                let p = view.model.procs.list.get(*p as usize)?;
                p.no_rdma.as_ref().map(|q| line_ref(p.source, q))
            })
        };
        let owners: Vec<LineRef> = ends.iter().filter_map(|(i, _)| listed(*i)).collect();
        let lines = first_lines(edges.iter().map(|e| e.line.clone()).collect());
        let Some(proof) = lines.first() else { continue };
        let make = |severity, class| {
            let mut f = Finding::new(
                "nccl.socket-despite-rdma",
                &c.key,
                severity,
                class,
                Evidence::Line(proof.clone()),
            );
            for l in lines.iter().skip(1).take(3) {
                f.prove(Evidence::Line(l.clone()));
            }
            f.since = edges.iter().fold(None, |at, e| earlier(at, e.line.at));
            f.ranks = ranks_of(&edges);
            f.hosts = ends.iter().filter_map(|(_, p)| p.host.clone()).collect();
            f.hosts.sort();
            f.hosts.dedup();
            f.communicator = Some(c.key.clone());
            f
        };
        if let Some((what, line)) = on_purpose {
            let mut f = make(Severity::Info, Class::Configuration);
            f.prove(Evidence::Line(line));
            f.title = format!("TCP between hosts, because {what} is set");
            f.cause = format!("{what} tells NCCL not to use RDMA devices.");
            f.fix.push(format!(
                "unset {} to let NCCL choose the network",
                what.split('=').next().unwrap_or(what)
            ));
            out.push(f);
        } else if !owners.is_empty() && owners.len() == ends.len() {
            let mut f = make(Severity::Warning, Class::Network);
            for l in first_lines(owners) {
                f.prove(Evidence::Line(l));
            }
            f.title = "TCP between hosts although RDMA devices are there".into();
            f.cause = format!(
                "{} connections use NET/Socket while every host involved lists RDMA devices.",
                edges.len()
            );
            f.fix.push(
                "NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET shows why NET/IB was passed over"
                    .into(),
            );
            f.fix.push("unset NCCL_NET and NCCL_NET_PLUGIN, and check that NCCL_IB_HCA names a device of this pod".into());
            out.push(f);
        } else if let Some(line) = ends.iter().find_map(|(i, _)| absent(*i)) {
            let mut f = make(Severity::Info, Class::Configuration);
            f.prove(Evidence::Line(line));
            f.title = "TCP between hosts: no RDMA device in the container".into();
            f.cause =
                "NCCL found no RDMA device in at least one container, so it fell back to sockets."
                    .into();
            f.fix.push("if the nodes own RDMA NICs, request the device plugin's resource (for example rdma/hca: 1) in the pod".into());
            out.push(f);
        }
    }
}
