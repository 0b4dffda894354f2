//! What the shell tells the screen of the data that the keys act on.

use crate::model::event::WorkloadView;
use crate::model::kiosk::Bad;

/// What the keys act on, as the last scene has it; filled by the panes for the mode the screen is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Absolute number of the first row there is (greater than 0 where old rows were forgotten).
    pub first: usize,
    /// Rows in the list that has the keys: the pane's after its filter, or those of what lies on top.
    pub rows: usize,
    /// Rows that fit on the screen at once.
    pub page: usize,
    /// Absolute numbers of the rows that are problems, ascending.
    pub problems: Vec<usize>,
    /// Labels of what tab leads through: in the matrix pane the matrices, the merged one first.
    pub tabs: Vec<String>,
    /// Labels of the matrices whatever pane is open, the merged one first: `:tab` goes to one from anywhere.
    pub matrices: Vec<String>,
    /// Ranks of the matrix that is open, whatever is drawn of them.
    pub open: Ranks,
    /// Ranks of all communicators merged.
    pub merged: Ranks,
    /// Numbers along the axes of the matrix as it is drawn, ascending: ranks, or nodes when `folded`.
    pub axis: Vec<u32>,
    /// The matrix is drawn node by node.
    pub folded: bool,
    /// Problem cells of that matrix by (row, column) number, ascending.
    pub bad_cells: Vec<(u32, u32)>,
    /// Findings there are.
    pub findings: usize,
    /// How many of them stand for themselves; they are the first, and the others follow from one of them.
    pub causes: usize,
    /// A test runs: it can be cancelled, and no other begun.
    pub testing: bool,
    /// Id of the selected check.
    pub check: Option<String>,
    /// What `c` copies: the text of what is selected.
    pub copy: Option<String>,
    /// What is bad, for the wall.
    pub bad: Option<Bad>,
    /// The selected row stands for many: enter filters for this.
    pub zoom: Option<String>,
    /// The workload that enter chooses.
    pub watch: Option<Box<WorkloadView>>,
}

/// What a matrix calls its ranks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranks {
    /// What the matrix is called.
    pub label: String,
    /// Their numbers, ascending.
    pub numbers: Vec<u32>,
    /// Where the matrix is drawn node by node, the node of each.
    pub nodes: Vec<u32>,
}

impl Ranks {
    /// Whether there is one with this number.
    #[must_use]
    pub fn has(&self, number: u32) -> bool {
        self.numbers.binary_search(&number).is_ok()
    }

    /// Its node, where nodes are drawn.
    #[must_use]
    pub fn node(&self, number: u32) -> Option<u32> {
        let at = self.numbers.binary_search(&number).ok()?;
        self.nodes.get(at).copied()
    }
}
