//! Matrices: who talks to whom, and over what.

use std::collections::{BTreeMap, BTreeSet};

/// What a cell of the matrix shows: the worst of the edges behind it. Order: best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Glyph {
    /// `M` P2P over multi-node NVLink.
    Mnnvl,
    /// `P` P2P.
    P2p,
    /// `p` P2P indirect or copy engine.
    P2pWeak,
    /// `C` CollNet.
    CollNet,
    /// `R` network with GPUDirect RDMA on both sides.
    NetGdr,
    /// `S` shared memory.
    Shm,
    /// `I` RDMA network staged through host memory.
    Net,
    /// `T` TCP sockets.
    Tcp,
    /// `?` not known yet.
    Doubt,
    /// `·` same communicator, no edge.
    Missing,
}

impl Glyph {
    /// The transport in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Mnnvl => "P2P over multi-node NVLink",
            Self::P2p => "P2P",
            Self::P2pWeak => "P2P, indirect or by copy engine",
            Self::CollNet => "CollNet",
            Self::NetGdr => "network with GPUDirect RDMA",
            Self::Shm => "shared memory",
            Self::Net => "network through host memory",
            Self::Tcp => "TCP sockets",
            Self::Doubt => "not known: the communicator has not come up, or lines fit several",
            Self::Missing => "no connection needed or seen",
        }
    }

    /// The one to show of two at one place: a transport before a doubt, a doubt before nothing, then the worse
    /// transport.
    #[must_use]
    pub fn or_worse(shown: Option<Self>, other: Self) -> Self {
        let weight = |g: Self| match g {
            Self::Missing => (0, g),
            Self::Doubt => (1, g),
            g => (2, g),
        };
        match shown {
            Some(shown) if weight(shown) >= weight(other) => shown,
            _ => other,
        }
    }
}

/// A cell of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Row: sending slot.
    pub from: u32,
    /// Column: receiving slot.
    pub to: u32,
    /// Worst transport.
    pub glyph: Glyph,
    /// Worse than its place allows.
    pub downgraded: bool,
    /// Sender and receiver disagree (GDR on one side alone, other network).
    pub disagree: bool,
    /// Attribution is inferred for some edge.
    pub inferred: bool,
    /// (communicator, edge) indices behind it.
    pub edges: Vec<(u32, u32)>,
    /// (index into [`super::Scene::unattributed`]) behind it.
    pub open: Vec<u32>,
}

impl Cell {
    /// A cell with nothing behind it yet.
    #[must_use]
    pub fn blank(from: u32, to: u32, glyph: Glyph) -> Self {
        Self {
            from,
            to,
            glyph,
            downgraded: false,
            disagree: false,
            inferred: false,
            edges: Vec::new(),
            open: Vec::new(),
        }
    }

    /// The sign after the letter of the transport, the gravest of those that hold.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        if self.downgraded {
            Some(Mark::Downgraded)
        } else if self.disagree {
            Some(Mark::Disagree)
        } else if !self.open.is_empty() && self.glyph != Glyph::Doubt {
            Some(Mark::Open)
        } else {
            None
        }
    }
}

/// What stands after the letter of a transport. Order: gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// `!` worse than its place allows.
    Downgraded,
    /// `≠` sender and receiver disagree.
    Disagree,
    /// `?` more lines that could belong here.
    Open,
}

/// One row and column of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Number drawn and said aloud: global rank in the merged view, rank in a communicator.
    pub number: u32,
    /// Whether `number` is proven; the merged view numbers processes in order where no global rank is known.
    pub proven: bool,
    /// Process, if its lines are there.
    pub process: Option<u32>,
    /// Group for borders: the host (two pods on one node are two hosts to NCCL).
    pub host: String,
}

/// A rank-by-rank matrix, sparse.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matrix {
    /// `all` or the communicator's key.
    pub name: String,
    /// What a person calls it: `all`, `tp:0`, `c0ffee…/8`.
    pub label: String,
    /// Axis, sorted by number.
    pub slots: Vec<Slot>,
    /// Cells with something to show, sorted by (from, to).
    pub cells: Vec<Cell>,
    /// Pairs of slots that share a communicator but have no edge are `·`; others stay blank. Empty = all share.
    pub groups: Vec<Vec<u32>>,
    /// Slots of communicators that have not come up: an edge between two of one list that no cell shows is not
    /// known, `?`; it failed, or can still come.
    pub undecided: Vec<Vec<u32>>,
    /// A sentence that says what stands out.
    pub headline: String,
}

impl Matrix {
    /// The cell at (from, to), slots by index.
    #[must_use]
    pub fn cell(&self, from: u32, to: u32) -> Option<&Cell> {
        self.cells
            .binary_search_by(|c| (c.from, c.to).cmp(&(from, to)))
            .ok()
            .and_then(|i| self.cells.get(i))
    }

    /// Whether nothing is known of (from, to): no cell, and their communicator has not come up.
    #[must_use]
    pub fn is_undecided(&self, from: u32, to: u32) -> bool {
        from != to && self.cell(from, to).is_none() && stand_together(&self.undecided, from, to)
    }

    /// What stands at (from, to): a transport, a doubt, [`Glyph::Missing`] within one communicator; nothing between
    /// ranks that share none, and between a rank and itself.
    #[must_use]
    pub fn shown(&self, from: u32, to: u32) -> Option<Glyph> {
        if let Some(cell) = self.cell(from, to) {
            return Some(cell.glyph);
        }
        if from == to {
            return None;
        }
        if stand_together(&self.undecided, from, to) {
            return Some(Glyph::Doubt);
        }
        let share = self.groups.is_empty() || stand_together(&self.groups, from, to);
        share.then_some(Glyph::Missing)
    }

    /// The same host by host: one slot each, between two of them what is worst of all pairs of theirs; the diagonal
    /// is what runs inside a host.
    #[must_use]
    pub fn by_host(&self) -> Self {
        let mut hosts: Vec<&str> = Vec::new();
        let mut of_slot: Vec<u32> = Vec::new();
        for slot in &self.slots {
            let at = hosts
                .iter()
                .position(|host| *host == slot.host)
                .unwrap_or_else(|| {
                    hosts.push(&slot.host);
                    hosts.len() - 1
                });
            of_slot.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let host = |slot: &u32| of_slot.get(*slot as usize).copied();
        let mut cells: BTreeMap<(u32, u32), Cell> = BTreeMap::new();
        for cell in &self.cells {
            let (Some(from), Some(to)) = (host(&cell.from), host(&cell.to)) else {
                continue;
            };
            let folded = cells
                .entry((from, to))
                .or_insert_with(|| Cell::blank(from, to, cell.glyph));
            folded.glyph = Glyph::or_worse(Some(folded.glyph), cell.glyph);
            folded.downgraded |= cell.downgraded;
            folded.disagree |= cell.disagree;
            folded.inferred |= cell.inferred;
            folded.edges.extend(&cell.edges);
            folded.open.extend(&cell.open);
        }
        // Hosts of each list, and those with two slots of it or more.
        let lists = |of: &[Vec<u32>]| -> Vec<(Vec<u32>, BTreeSet<u32>)> {
            of.iter()
                .map(|list| {
                    let mut all: Vec<u32> = list.iter().filter_map(host).collect();
                    all.sort_unstable();
                    let twice = all.windows(2).filter(|w| w.first() == w.last());
                    let inside = twice.filter_map(|w| w.first().copied()).collect();
                    all.dedup();
                    (all, inside)
                })
                .collect()
        };
        let undecided = lists(&self.undecided);
        // Inside a host there is no pair of two slots any more: what is not known there is a cell of its own.
        for at in undecided.iter().flat_map(|(_, inside)| inside) {
            let doubt = || Cell::blank(*at, *at, Glyph::Doubt);
            cells.entry((*at, *at)).or_insert_with(doubt);
        }
        let groups: Vec<Vec<u32>> = lists(&self.groups)
            .into_iter()
            .map(|(all, _)| all)
            .collect();
        let slots = (0_u32..).zip(&hosts).map(|(number, host)| Slot {
            number,
            proven: true,
            process: None,
            host: (*host).to_owned(),
        });
        Self {
            name: self.name.clone(),
            label: self.label.clone(),
            slots: slots.collect(),
            cells: cells.into_values().collect(),
            groups,
            undecided: undecided.into_iter().map(|(all, _)| all).collect(),
            headline: self.headline.clone(),
        }
    }
}

/// Whether two slots are in one of the lists.
fn stand_together(lists: &[Vec<u32>], a: u32, b: u32) -> bool {
    lists
        .iter()
        .any(|list| list.contains(&a) && list.contains(&b))
}
