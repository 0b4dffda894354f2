//! Connections that are worse than the hardware allows, and interfaces that others can't reach.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::super::trouble::Notice;
use super::super::{View, first_lines};
use super::start;
use crate::model::event::{ContainerKey, PodKey};
use crate::parse::fact::WarnKind;
use crate::parse::probe::{Answer, Link};
use crate::rules::comms::line_ref;
use crate::rules::rating::is_socket;
use crate::rules::scene::{
    Class, Communicator, Confidence, Edge, Evidence, Family, Finding, LineRef, Member, Severity,
};

/// What is known of the connections of all communicators, looked for once where one of them asks for it.
#[derive(Default)]
pub(super) struct Elsewhere<'a> {
    /// The first RDMA connection with GPUDirect.
    gdr: OnceCell<Option<&'a Edge>>,
    /// Processes whose GPUs reach each other, by a line that shows it.
    direct: OnceCell<BTreeMap<(u32, u32), LineRef>>,
}

fn is_rdma(e: &Edge) -> bool {
    e.family == Family::Net && !is_socket(e)
}

fn process(c: &Communicator, r: Option<u32>) -> Option<u32> {
    let at = c.ranks.binary_search_by_key(&r?, |m| m.rank).ok()?;
    c.ranks.get(at).map(|m| m.process)
}

/// The processes at the ends of a connection, the lower first.
fn pair(c: &Communicator, e: &Edge) -> Option<(u32, u32)> {
    let (a, b) = (process(c, e.from)?, process(c, e.to)?);
    Some((a.min(b), a.max(b)))
}

impl<'a> Elsewhere<'a> {
    fn gdr(&self, view: &View<'a>) -> Option<&'a Edge> {
        *self.gdr.get_or_init(|| {
            let mut all = view.scene.communicators.iter().flat_map(|c| &c.edges);
            all.find(|e| is_rdma(e) && e.gdr == Some(true))
        })
    }

    fn direct(&self, view: &View<'a>) -> &BTreeMap<(u32, u32), LineRef> {
        self.direct.get_or_init(|| {
            let mut direct = BTreeMap::new();
            for other in &view.scene.communicators {
                for e in other.edges.iter().filter(|e| e.family == Family::P2p) {
                    if let Some(p) = pair(other, e) {
                        direct.entry(p).or_insert_with(|| e.line.clone());
                    }
                }
            }
            direct
        })
    }
}

fn ends(f: &mut Finding, view: &View<'_>, c: &Communicator, edges: &[&Edge]) {
    let ranks: BTreeSet<u32> = edges
        .iter()
        .flat_map(|e| [e.from, e.to])
        .flatten()
        .collect();
    let units = c
        .ranks
        .iter()
        .filter(|m| ranks.contains(&m.rank))
        .map(|m| m.process)
        .collect();
    let who = view.who(&units);
    (f.hosts, f.pods) = (who.hosts, who.pods);
    f.ranks = ranks.into_iter().collect();
}

/// RDMA staged through host memory.
pub(super) fn without_gdr<'a>(
    view: &View<'a>,
    elsewhere: &Elsewhere<'a>,
    c: &Communicator,
    out: &mut Vec<Finding>,
) {
    let staged: Vec<&Edge> = c
        .edges
        .iter()
        .filter(|e| is_rdma(e) && e.gdr == Some(false))
        .collect();
    if staged.is_empty() {
        return;
    }
    let one_sided = |e: &Edge| {
        e.paths
            .iter()
            .any(|p| matches!((&p.send, &p.receive), (Some(a), Some(b)) if a.gdr != b.gdr))
    };
    let elsewhere = elsewhere.gdr(view);
    let uneven = staged.iter().copied().find(|e| one_sided(e));
    let ranks: BTreeSet<u32> = staged
        .iter()
        .flat_map(|e| [e.from, e.to])
        .flatten()
        .collect();
    // The line that says why, of a process at one of these ends.
    let mut why: Option<(Option<u32>, Option<u32>, LineRef)> = None;
    for m in c.ranks.iter().filter(|m| ranks.contains(&m.rank)) {
        let Some(unit) = view.joined.units.get(m.process as usize) else {
            continue;
        };
        for p in unit
            .procs
            .iter()
            .filter_map(|p| view.model.procs.list.get(*p as usize))
        {
            if let Some((d, l, q)) = &p.gdr_off {
                why.get_or_insert((*d, *l, line_ref(p.source, q)));
            }
        }
    }
    let far = why
        .as_ref()
        .is_some_and(|(d, l, _)| matches!((d, l), (Some(d), Some(l)) if d > l));
    let severity = if !far && (elsewhere.is_some() || uneven.is_some()) {
        Severity::Warning
    } else {
        Severity::Info
    };
    let mut lines: Vec<LineRef> = uneven.iter().map(|e| e.line.clone()).collect();
    lines.extend(staged.iter().map(|e| e.line.clone()));
    let Some(mut f) = start(c, "nccl.ib-without-gdr", severity, Class::Platform, &lines) else {
        return;
    };
    if let Some((.., l)) = &why {
        f.prove(Evidence::Line(l.clone()));
    }
    if let Some(e) = elsewhere {
        f.prove(Evidence::Line(e.line.clone()));
    }
    ends(&mut f, view, c, &staged);
    f.title = match staged.len() {
        1 => "one RDMA connection goes through host memory, without GPUDirect".into(),
        n => format!("{n} RDMA connections go through host memory, without GPUDirect"),
    };
    f.cause = match (&why, far) {
        (Some((Some(d), Some(l), _)), true) => format!("GPU and NIC are too far apart: distance {d}, limit {l}."),
        (Some(_), _) => "NCCL says that GPUDirect RDMA is disabled for the NIC: no nvidia-peermem module and no DMA-BUF on that node.".into(),
        (None, _) if uneven.is_some() => "One side of a connection has GPUDirect RDMA and the other has not: the nodes differ.".into(),
        (None, _) if elsewhere.is_some() => "Other connections of the same job have GPUDirect RDMA: these nodes differ from the others.".into(),
        _ => "No connection of this job has GPUDirect RDMA.".into(),
    };
    f.fix = vec![
        "on the nodes: modprobe nvidia_peermem, or an open kernel driver with DMA-BUF".into(),
        view.target.env("NCCL_DEBUG_SUBSYS", Some("INIT,NET,GRAPH")) + "   # says why it is off",
    ];
    if far {
        f.fix.push(
            view.target.env("NCCL_NET_GDR_LEVEL", Some("SYS"))
                + "   # only if measurement says that it helps",
        );
    }
    out.push(f);
}

/// Shared memory between GPUs that are proven to reach each other.
pub(super) fn shm_despite_p2p<'a>(
    view: &View<'a>,
    elsewhere: &Elsewhere<'a>,
    c: &Communicator,
    notices: &[Notice<'_>],
    out: &mut Vec<Finding>,
) {
    let shm: Vec<&Edge> = c
        .edges
        .iter()
        .filter(|e| e.family == Family::Shm && e.same_host == Some(true))
        .collect();
    if shm.is_empty() {
        return;
    }
    let direct = elsewhere.direct(view);
    // NCCL itself says that NVLink stands between two GPUs whose peer access is refused.
    let refused = |e: &Edge| {
        notices.iter().find(|n| {
            n.nccl() == Some(&WarnKind::P2pDisabled)
                && n.line.text.contains("NVLINK")
                && [e.from, e.to]
                    .into_iter()
                    .any(|r| process(c, r) == Some(n.unit))
        })
    };
    let on_purpose = |e: &Edge| {
        [e.from, e.to]
            .into_iter()
            .filter_map(|r| process(c, r))
            .any(|u| {
                view.env(u, "NCCL_P2P_DISABLE")
                    .is_some_and(|(v, _)| v == "1")
                    || view.env(u, "NCCL_P2P_LEVEL").is_some()
            })
    };
    // The second source: `nvidia-smi topo -m` in the container that has both GPUs.
    let linked = |e: &Edge| -> Option<String> {
        let end = |r: Option<u32>| c.ranks.iter().find(|m| Some(m.rank) == r);
        let (a, b) = (end(e.from)?, end(e.to)?);
        let of = |m: &Member| view.scene.processes.get(m.process as usize);
        let (p, q) = (of(a)?, of(b)?);
        if p.pod.is_none() || p.pod != q.pod {
            return None;
        }
        let place = ContainerKey {
            pod: PodKey {
                namespace: p.namespace.clone()?,
                name: p.pod.clone()?,
            },
            container: p.container.clone()?,
        };
        let probed = view.model.probes.at("topo", Some(&place))?;
        let Some(Answer::Topology(t)) = probed.answer.as_deref() else {
            return None;
        };
        let (x, y) = (a.nvml_dev?, b.nvml_dev?);
        match t.link(x, y)? {
            Link::Nvlink(n) => Some(format!(
                "check.topology in {}: GPU{x} and GPU{y}: NV{n}",
                place.pod.name
            )),
            _ => None,
        }
    };
    let mut proof: Vec<LineRef> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut bad: Vec<&Edge> = Vec::new();
    switched_off(view, c, &shm, out);
    for e in shm.into_iter().filter(|e| !on_purpose(e)) {
        let line = pair(c, e)
            .and_then(|p| direct.get(&p))
            .or_else(|| refused(e).map(|n| &n.line));
        if let Some(line) = line {
            bad.push(e);
            proof.push(line.clone());
        } else if let Some(text) = linked(e) {
            bad.push(e);
            seen.push(text);
        }
    }
    let lines: Vec<LineRef> = bad.iter().map(|e| e.line.clone()).collect();
    let Some(mut f) = start(
        c,
        "nccl.shm-despite-p2p",
        Severity::Warning,
        Class::Platform,
        &lines,
    ) else {
        return;
    };
    for l in first_lines(proof) {
        f.prove(Evidence::Line(l));
    }
    seen.dedup();
    for text in seen.into_iter().take(4) {
        f.prove(Evidence::Check(text));
    }
    f.confidence = Confidence::Likely;
    ends(&mut f, view, c, &bad);
    f.title = format!(
        "{} connections inside {} use shared memory although the GPUs can reach each other",
        bad.len(),
        f.hosts.join(" and inside ")
    );
    f.cause = "The same GPUs are connected directly elsewhere, or NCCL says that NVLink stands between them. Containers without a common IPC namespace, or with another set of visible GPUs, fall back like this.".into();
    f.fix = vec![
        "run the ranks of one node in one pod, each seeing all GPUs of the pod".into(),
        view.target
            .env("NCCL_DEBUG_SUBSYS", Some("INIT,P2P,SHM,GRAPH"))
            + "   # says why P2P was passed over",
    ];
    out.push(f);
}

/// P2P switched off on some hosts of a communicator while the ranks of another host use it: one template differs.
/// Switched off for everybody it is somebody's will.
fn switched_off(view: &View<'_>, c: &Communicator, shm: &[&Edge], out: &mut Vec<Finding>) {
    let off = |e: &Edge| {
        let ends = [e.from, e.to].into_iter().filter_map(|r| process(c, r));
        ends.filter_map(|u| view.env(u, "NCCL_P2P_DISABLE"))
            .find_map(|(value, line)| (value == "1").then_some(line))
    };
    let mut local = c.edges.iter().filter(|e| e.same_host == Some(true));
    let Some(direct) = local.find(|e| e.family == Family::P2p) else {
        return;
    };
    let (bad, set): (Vec<&Edge>, Vec<LineRef>) =
        shm.iter().filter_map(|e| Some((*e, off(e)?))).unzip();
    let lines: Vec<LineRef> = bad.iter().map(|e| e.line.clone()).collect();
    let Some(mut f) = start(
        c,
        "nccl.shm-despite-p2p",
        Severity::Warning,
        Class::Configuration,
        &lines,
    ) else {
        return;
    };
    for l in first_lines(set).into_iter().take(2) {
        f.prove(Evidence::Line(l));
    }
    f.prove(Evidence::Line(direct.line.clone()));
    ends(&mut f, view, c, &bad);
    f.title = format!(
        "NCCL_P2P_DISABLE=1 on {} alone: its GPUs use shared memory, others P2P",
        f.hosts.join(", ")
    );
    f.cause = "The variable is set in the environment of these pods and not in that of the others, whose GPUs talk to each other directly. The slowest host sets the pace of every collective.".into();
    f.fix = vec![
        view.target.env("NCCL_P2P_DISABLE", None),
        "the pods of one job should come from one template: compare their environment".into(),
    ];
    out.push(f);
}

/// Bootstrap over an interface that others can't reach, or over different ones.
pub(super) fn interfaces(view: &View<'_>, c: &Communicator, out: &mut Vec<Finding>) {
    let mut by: BTreeMap<String, Vec<(u32, u32, LineRef)>> = BTreeMap::new();
    let mut hosts: BTreeSet<&str> = BTreeSet::new();
    for m in &c.ranks {
        let Some(unit) = view.joined.units.get(m.process as usize) else {
            continue;
        };
        if let Some(h) = view.process(m.process).and_then(|p| p.host.as_deref()) {
            hosts.insert(h);
        }
        let told = unit
            .procs
            .iter()
            .filter_map(|p| view.model.procs.list.get(*p as usize));
        // Without an address it is a network device of the plugin, and those are many.
        if let Some((name, _, q, s)) = told
            .filter_map(|p| p.bootstrap.as_ref().map(|b| (&b.0, &b.1, &b.2, p.source)))
            .find(|b| !b.1.is_empty())
        {
            by.entry(name.clone())
                .or_default()
                .push((m.rank, m.process, line_ref(s, q)));
        }
    }
    let alone = |name: &str| name == "lo" || name == "docker0";
    let local = by.keys().any(|n| alone(n));
    let wide = hosts.len() > 1 || (c.unseen_count > 0 && hosts.len() == 1);
    if !(local && wide || by.len() > 1) {
        return;
    }
    // The odd ones out: those that nobody else can reach, else the fewest.
    let Some((name, odd)) = by
        .iter()
        .min_by_key(|(n, l)| (!alone(n), l.len(), (*n).clone()))
    else {
        return;
    };
    let mut lines: Vec<LineRef> = odd.iter().map(|(.., l)| l.clone()).collect();
    lines.truncate(4);
    let severity = if local && hosts.len() == 1 {
        Severity::Info
    } else {
        Severity::Warning
    };
    let Some(mut f) = start(
        c,
        "nccl.wrong-interface",
        severity,
        Class::Configuration,
        &lines,
    ) else {
        return;
    };
    for (_, l) in by
        .iter()
        .filter(|(n, _)| *n != name)
        .filter_map(|(n, l)| Some((n, l.first()?)))
    {
        f.prove(Evidence::Line(l.2.clone()));
    }
    let who = view.who(&odd.iter().map(|(_, p, _)| *p).collect());
    (f.hosts, f.pods) = (who.hosts, who.pods);
    f.ranks = odd.iter().map(|(r, ..)| *r).collect();
    let others: Vec<&str> = by
        .keys()
        .filter(|n| *n != name)
        .map(String::as_str)
        .collect();
    f.title = if others.is_empty() {
        format!(
            "NCCL of {} ranks meets over {name}, which other hosts can't reach",
            odd.len()
        )
    } else {
        let meet = if f.ranks.len() == 1 { "meets" } else { "meet" };
        format!(
            "{} {meet} over {name}, the others over {}",
            view.called(c, &f.ranks),
            others.join(", ")
        )
    };
    f.cause = "The ranks of one communicator should use one network; NCCL_SOCKET_IFNAME differs, is unset on some, or names something else there.".into();
    let better = others.iter().find(|n| !alone(n)).copied().unwrap_or("eth0");
    f.fix = vec![view.target.env("NCCL_SOCKET_IFNAME", Some(better))];
    out.push(f);
}
