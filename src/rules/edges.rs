//! Gives every run of connection lines its communicator (nccl-logs.md 4.7) and merges what both ends printed.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::comms::{Joined, line_ref};
use super::scene::{
    Attribution, Edge, EdgeKind, Family, LineRef, Path, Rating, Ring, Side, TreeView, Unattributed,
};
use crate::model::edges::{EdgeKey, EdgeLines, Run};
use crate::model::procs::{Process, Procs};
use crate::parse::fact::{Connected, Dir, NetName, P2pKind, ShmForm, Via};

/// Lines kept per edge for the drill-down.
const LINES_PER_EDGE: usize = 8;

/// What the runs of all processes say about one communicator.
#[derive(Debug, Default)]
pub struct Wiring {
    edges: BTreeMap<Id, Acc>,
    rings: BTreeMap<u16, (Vec<u32>, bool)>,
    neighbours: BTreeMap<u16, BTreeMap<u32, u32>>,
    trees: BTreeMap<(u16, u32), TreeView>,
    /// `coll, nvls, p2p, p2p per peer`.
    pub counts: Option<(u32, Option<u32>, u32, u32)>,
    /// Bytes.
    pub chunk: Option<u64>,
}

/// Identity of an edge, as the contract defines it per family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    from: Option<u32>,
    to: Option<u32>,
    kind: Option<EdgeKind>,
    family: Family,
    name: Name,
}

/// Transport text for P2P and SHM, network name for NET, nothing for CollNet.
#[derive(Debug, Clone)]
enum Name {
    None,
    Text(Cow<'static, str>),
    Net(NetName),
}

impl Name {
    fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Text(text) => text,
            Self::Net(name) => name.as_str(),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

#[derive(Debug)]
struct Acc {
    send: BTreeMap<u16, Side>,
    receive: BTreeMap<u16, Side>,
    channels: BTreeSet<u16>,
    gdr: bool,
    sure: bool,
    /// (sender's line, line, connection): the sender's first line names the transport.
    spoken: Option<(bool, LineRef, EdgeKey)>,
    lines: Vec<LineRef>,
}

/// Edges that each record of a process already has: from, to, connection index.
type Had = BTreeMap<u32, BTreeSet<(Option<u32>, Option<u32>, Option<u8>)>>;

/// Where a run belongs.
enum Home {
    Record(u32, Attribution),
    Open(Vec<u32>),
}

/// Distributes all runs over the groups of the join.
#[must_use]
pub fn wire(procs: &Procs, joined: &Joined) -> (Vec<Wiring>, Vec<Unattributed>) {
    let mut wirings: Vec<Wiring> = joined.groups.iter().map(|_| Wiring::default()).collect();
    let mut open: BTreeMap<(u32, EdgeKey), Unattributed> = BTreeMap::new();
    for (p, process) in procs.list.iter().enumerate() {
        let p = u32::try_from(p).unwrap_or(u32::MAX);
        // Edges each record already has, in the order of the lines: "the latest without the edge".
        let mut have: Had = BTreeMap::new();
        for run in &process.runs {
            match home(process, run, &have) {
                Home::Record(rec, attribution) => {
                    let set = have.entry(rec).or_default();
                    set.extend(run.edges.keys().map(|k| (k.from, k.to, k.index)));
                    let group = joined
                        .place
                        .get(&(p, rec))
                        .and_then(|(u, r)| joined.units.get(*u as usize)?.recs.get(*r as usize))
                        .map(|r| r.group);
                    if let Some(w) = group.and_then(|g| wirings.get_mut(g as usize)) {
                        w.take(process, run, attribution);
                    }
                }
                Home::Open(candidates) => {
                    let keys = candidates.iter().filter_map(|rec| {
                        let (u, r) = joined.place.get(&(p, *rec))?;
                        let g = joined.units.get(*u as usize)?.recs.get(*r as usize)?.group;
                        joined.groups.get(g as usize).map(|g| g.key.clone())
                    });
                    let keys: BTreeSet<String> = keys.collect();
                    for (key, lines) in &run.edges {
                        let sample = line_ref(process.source, &lines.first);
                        let id = EdgeKey {
                            dir: Dir::None,
                            index: None,
                            ..*key
                        };
                        let entry = open.entry((p, id)).or_insert_with(|| Unattributed {
                            source: process.source.0,
                            process: joined.unit_of.get(p as usize).copied(),
                            from: key.from,
                            to: key.to,
                            transport: transport(key, &lines.first.text).into_owned(),
                            candidates: keys.iter().cloned().collect(),
                            lines: 0,
                            sample: sample.clone(),
                        });
                        entry.lines += lines.channels.len() as u64;
                        if sample.number < entry.sample.number {
                            entry.sample = sample;
                        }
                    }
                }
            }
        }
    }
    (wirings, open.into_values().collect())
}

/// Tiered: named by a window or pointer; the only record that fits; the one that was being called; the
/// latest that lacks the edge; else open.
fn home(process: &Process, run: &Run, have: &Had) -> Home {
    if let Some(rec) = run.comm {
        return Home::Record(rec, Attribution::Exact);
    }
    let fits = |rec: &u32| {
        let Some(c) = process.comms.get(*rec as usize) else {
            return false;
        };
        run.local_rank.is_none_or(|r| r == c.rank)
            && run.max_rank < c.nranks
            && !matches!((run.local_nvml, c.nvml_dev), (Some(a), Some(b)) if a != b)
            && c.end.as_ref().is_none_or(|(_, q)| q.line > run.first_line)
    };
    let all: Vec<u32> = (0..run.known).filter(fits).collect();
    let ready: Vec<u32> = all
        .iter()
        .copied()
        .filter(|r| {
            process
                .comms
                .get(*r as usize)
                .is_some_and(|c| c.complete.as_ref().is_some_and(|q| q.line < run.first_line))
        })
        .collect();
    let fitting = if ready.is_empty() { all } else { ready };
    match fitting.as_slice() {
        [] => Home::Open(Vec::new()),
        [one] => Home::Record(*one, Attribution::Inferred),
        many => {
            if let Some(hint) = run.hint.filter(|h| many.contains(h)) {
                return Home::Record(hint, Attribution::Inferred);
            }
            let lacks = |rec: &&u32| {
                let set = have.get(rec);
                run.edges
                    .keys()
                    .all(|k| set.is_none_or(|s| !s.contains(&(k.from, k.to, k.index))))
            };
            match many.iter().rev().find(lacks) {
                Some(rec) => Home::Record(*rec, Attribution::Inferred),
                None => Home::Open(fitting),
            }
        }
    }
}

/// Text after `via`, without PXN and trailing noise.
fn transport(key: &EdgeKey, line: &str) -> Cow<'static, str> {
    match key.via {
        Via::P2p { kind, read, ce } => {
            let forms = match kind {
                P2pKind::Ipc => ["P2P/IPC", "P2P/IPC/read", "P2P/IPC/CE", "P2P/IPC/read/CE"],
                P2pKind::Cumem => [
                    "P2P/CUMEM",
                    "P2P/CUMEM/read",
                    "P2P/CUMEM/CE",
                    "P2P/CUMEM/read/CE",
                ],
                P2pKind::Mnnvl => [
                    "P2P/MNNVL",
                    "P2P/MNNVL/read",
                    "P2P/MNNVL/CE",
                    "P2P/MNNVL/read/CE",
                ],
                P2pKind::Direct => [
                    "P2P/direct pointer",
                    "P2P/direct pointer/read",
                    "P2P/direct pointer/CE",
                    "P2P/direct pointer/read/CE",
                ],
                P2pKind::CommonDevice => [
                    "P2P/common device",
                    "P2P/common device/read",
                    "P2P/common device/CE",
                    "P2P/common device/read/CE",
                ],
                P2pKind::Indirect(relay) => {
                    // The relay's bracket is printed text that no number keeps.
                    let bracket = line
                        .split_once("P2P/indirect/")
                        .and_then(|(_, rest)| rest.split_once('['))
                        .and_then(|(_, rest)| rest.split_once(']'))
                        .map_or_else(String::new, |(id, _)| format!("[{id}]"));
                    let read = if read { "/read" } else { "" };
                    let ce = if ce { "/CE" } else { "" };
                    return format!("P2P/indirect/{relay}{bracket}{read}{ce}").into();
                }
            };
            let [plain, reading, copying, both] = forms;
            Cow::Borrowed(match (read, ce) {
                (false, false) => plain,
                (true, false) => reading,
                (false, true) => copying,
                (true, true) => both,
            })
        }
        Via::Other(name) => name.as_str().to_owned().into(),
        Via::Shm(ShmForm::Legacy) => "direct shared memory".into(),
        Via::Shm(ShmForm::Direct) => "SHM/direct".into(),
        Via::Shm(ShmForm::Sides(a, b)) => Cow::Borrowed(match (a, b) {
            (false, false) => "SHM/direct/direct",
            (false, true) => "SHM/direct/CE",
            (true, false) => "SHM/CE/direct",
            (true, true) => "SHM/CE/CE",
        }),
        Via::Net {
            name,
            dev,
            gdr,
            pci,
            shared,
            ..
        } => {
            let head = if key.collnet { "COLLNET" } else { "NET" };
            let gdr = if pci {
                "/GDRDMA(PCI)"
            } else if gdr {
                "/GDRDMA"
            } else {
                ""
            };
            let shared = if shared { "/Shared" } else { "" };
            format!("{head}/{}/{dev}{gdr}{shared}", name.as_str()).into()
        }
    }
}

impl Wiring {
    fn take(&mut self, process: &Process, run: &Run, attribution: Attribution) {
        for (key, lines) in &run.edges {
            self.edge(process, run, key, lines, attribution);
        }
        for r in &run.rings {
            let entry = self
                .rings
                .entry(r.channel)
                .or_insert_with(|| (r.order.to_vec(), r.cut));
            if entry.1 && !r.cut {
                *entry = (r.order.to_vec(), false);
            }
        }
        for (channel, _, rank, next) in &run.neighbours {
            self.neighbours
                .entry(*channel)
                .or_default()
                .insert(*rank, *next);
        }
        for (rank, t) in &run.trees {
            let view = TreeView {
                channel: t.channel,
                rank: *rank,
                up: t.up,
                down: t.down.clone(),
            };
            self.trees.entry((t.channel, *rank)).or_insert(view);
        }
        self.counts = self.counts.or(run.counts);
        self.chunk = self.chunk.or(run.chunk);
    }

    fn edge(
        &mut self,
        process: &Process,
        run: &Run,
        key: &EdgeKey,
        lines: &EdgeLines,
        attribution: Attribution,
    ) {
        let deferred_ring = matches!(run.closing, Some(Connected::Rings | Connected::Trees));
        let kind = match key.index {
            _ if key.collnet => Some(EdgeKind::CollNet),
            Some(0) => Some(EdgeKind::Coll),
            Some(_) => Some(EdgeKind::SendRecv),
            None if run.window || deferred_ring => Some(EdgeKind::Coll),
            None => None,
        };
        let text = || Name::Text(transport(key, &lines.first.text));
        let (family, name, side) = match key.via {
            Via::P2p { .. } => (Family::P2p, text(), None),
            Via::Shm(_) => (Family::Shm, text(), None),
            Via::Other(_) => (Family::Unknown, text(), None),
            Via::Net {
                name,
                dev,
                pxn,
                gdr,
                shared,
                ..
            } => {
                let side = Side {
                    device: dev,
                    gdr,
                    pxn_rank: pxn,
                    shared,
                };
                if key.collnet {
                    (Family::CollNet, Name::None, Some(side))
                } else {
                    (Family::Net, Name::Net(name), Some(side))
                }
            }
        };
        let acc = self
            .edges
            .entry(Id {
                from: key.from,
                to: key.to,
                kind,
                family,
                name,
            })
            .or_insert_with(|| Acc {
                send: BTreeMap::new(),
                receive: BTreeMap::new(),
                channels: BTreeSet::new(),
                gdr: true,
                sure: true,
                spoken: None,
                lines: Vec::new(),
            });
        acc.channels.extend(lines.channels.iter());
        acc.sure &= attribution == Attribution::Exact;
        let sender = key.dir != Dir::Receive;
        if let Some(side) = side {
            acc.gdr &= side.gdr;
            let sides = if sender {
                &mut acc.send
            } else {
                &mut acc.receive
            };
            for channel in lines.channels.iter() {
                sides.entry(channel).or_insert(side);
            }
        }
        let line = line_ref(process.source, &lines.first);
        let place = |l: &LineRef| (l.source, l.number);
        let better = acc
            .spoken
            .as_ref()
            .is_none_or(|(s, l, _)| (!sender, place(&line)) < (!*s, place(l)));
        if better {
            acc.spoken = Some((sender, line.clone(), *key));
        }
        if let Err(at) = acc.lines.binary_search_by_key(&place(&line), place) {
            acc.lines.insert(at, line);
            acc.lines.truncate(LINES_PER_EDGE);
        }
    }

    /// The edges, sorted; `host` gives the identity of a rank's host.
    #[must_use]
    pub fn edges<'h>(&self, host: &dyn Fn(u32) -> Option<&'h str>) -> Vec<Edge> {
        self.edges
            .iter()
            .filter_map(|(id, acc)| {
                let (_, spoken, key) = acc.spoken.as_ref()?;
                let via = key.via;
                let net = matches!(id.family, Family::Net | Family::CollNet);
                let same_host = match (id.from.and_then(host), id.to.and_then(host)) {
                    (Some(a), Some(b)) => Some(a == b),
                    _ => None,
                };
                Some(Edge {
                    from: id.from,
                    to: id.to,
                    kind: id.kind,
                    transport: transport(key, &spoken.text).into_owned(),
                    via: Some(via),
                    family: id.family,
                    network: match (net, via) {
                        (true, Via::Net { name, .. }) => Some(name.as_str().to_owned()),
                        _ => None,
                    },
                    gdr: net.then_some(acc.gdr),
                    channels: acc.channels.iter().copied().collect(),
                    same_host,
                    attribution: if acc.sure {
                        Attribution::Exact
                    } else {
                        Attribution::Inferred
                    },
                    paths: if net { paths(acc) } else { Vec::new() },
                    line: acc.lines.first()?.clone(),
                    lines: acc.lines.clone(),
                    rating: Rating::Fine,
                })
            })
            .collect()
    }

    /// Rings: the order that rank 0 printed, completed from the neighbours that each rank printed.
    #[must_use]
    pub fn rings(&self, nranks: u32) -> Vec<Ring> {
        let n = nranks as usize;
        let channels: BTreeSet<u16> = self
            .rings
            .keys()
            .chain(self.neighbours.keys())
            .copied()
            .collect();
        let ring = |channel: u16| {
            let printed = self.rings.get(&channel);
            if let Some((order, cut)) = printed
                && !cut
                && order.len() == n
            {
                return Some(Ring {
                    channel,
                    order: order.clone(),
                    complete: true,
                });
            }
            let walked = self.neighbours.get(&channel).and_then(|next| {
                let first = next.keys().next().copied()?;
                let mut order = vec![first];
                while let Some(to) = order.last().and_then(|r| next.get(r)).copied() {
                    if to == first || order.len() >= n {
                        break;
                    }
                    order.push(to);
                }
                (order.len() == n && order.last().and_then(|r| next.get(r)) == Some(&first))
                    .then_some(order)
            });
            match (walked, printed) {
                (Some(order), _) => Some(Ring {
                    channel,
                    order,
                    complete: true,
                }),
                (None, Some((order, _))) => Some(Ring {
                    channel,
                    order: order.clone(),
                    complete: false,
                }),
                (None, None) => None,
            }
        };
        channels.into_iter().filter_map(ring).collect()
    }

    /// Trees by channel and rank.
    #[must_use]
    pub fn trees(&self) -> Vec<TreeView> {
        self.trees.values().cloned().collect()
    }
}

fn paths(acc: &Acc) -> Vec<Path> {
    let mut by_pair: BTreeMap<(Option<Side>, Option<Side>), Vec<u16>> = BTreeMap::new();
    for channel in &acc.channels {
        let pair = (
            acc.send.get(channel).copied(),
            acc.receive.get(channel).copied(),
        );
        by_pair.entry(pair).or_default().push(*channel);
    }
    by_pair
        .into_iter()
        .map(|((send, receive), channels)| Path {
            send,
            receive,
            channels,
        })
        .collect()
}
