//! Matrices: who talks to whom, and over what.

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
            Self::Doubt => "in doubt",
            Self::Missing => "no edge",
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
        let both = |list: &Vec<u32>| list.contains(&from) && list.contains(&to);
        from != to && self.cell(from, to).is_none() && self.undecided.iter().any(both)
    }
}
