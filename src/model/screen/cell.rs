//! Where one is in the matrix.

use super::Counts;

/// State of the matrix pane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatrixState {
    /// Which matrix, as an index into the scene's; clamp it where it is read.
    pub tab: usize,
    /// (row, column) numbers of the cursor rank by rank; nothing until it was moved: the pane starts at what matters.
    pub cell: Option<(u32, u32)>,
    /// The same node by node.
    pub node: Option<(u32, u32)>,
    /// Pair of nodes that is looked into, rank by rank.
    pub zoom: Option<(u32, u32)>,
}

impl MatrixState {
    /// The cursor's numbers on this axis: the cell it was left at, else the first problem, else the first cell.
    #[must_use]
    pub fn at(&self, counts: &Counts) -> Option<(u32, u32)> {
        let near = |n: u32| {
            let i = counts
                .axis
                .partition_point(|a| *a < n)
                .min(counts.axis.len().saturating_sub(1));
            counts.axis.get(i).copied()
        };
        let left = if counts.folded { self.node } else { self.cell };
        match left {
            Some((from, to)) => near(from).zip(near(to)),
            None => counts.bad_cells.first().copied().or_else(|| {
                let first = counts.axis.first().copied()?;
                Some((first, counts.axis.get(1).copied().unwrap_or(first)))
            }),
        }
    }

    pub(super) fn set(&mut self, counts: &Counts, to: (u32, u32)) {
        if counts.folded {
            self.node = Some(to);
        } else {
            self.cell = Some(to);
        }
    }

    pub(super) fn step(&mut self, counts: &Counts, rows: isize, columns: isize) {
        let Some((from, to)) = self.at(counts) else {
            return;
        };
        let beside = |n: u32, by: isize| {
            let i = counts.axis.binary_search(&n).unwrap_or_else(|i| i);
            let i = i
                .saturating_add_signed(by)
                .min(counts.axis.len().saturating_sub(1));
            counts.axis.get(i).copied().unwrap_or(n)
        };
        self.set(counts, (beside(from, rows), beside(to, columns)));
    }
}
