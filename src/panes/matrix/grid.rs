//! The grid itself: an axis of ranks or nodes, the cells behind it, and how they are laid out in a rectangle.
//!
//! Cells are sparse: a row of the screen looks up its own run of them, so a frame costs what is visible and never
//! the square of the ranks.

mod plan;

use std::collections::BTreeMap;

use ratatui::layout::Rect;

use plan::Plan;

use crate::panes::parts::{self, Pen};
use crate::rules::scene::{Cell, Glyph, Matrix};

/// A row and column of the grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number said aloud: the rank, or the number of the node.
    pub number: u32,
    /// The number is proven (always for nodes).
    pub proven: bool,
    /// Slots behind it.
    pub slots: Vec<u32>,
    /// Index into the hosts.
    pub host: u32,
}

/// What a position shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Transport; nothing where the two share no communicator.
    pub glyph: Option<Glyph>,
    /// Worse than its place allows.
    pub downgraded: bool,
    /// The two ends disagree.
    pub disagree: bool,
    /// Lines in doubt stand behind it too.
    pub open: bool,
}

/// What is drawn of a matrix.
pub struct Grid<'a> {
    matrix: &'a Matrix,
    entries: Vec<Entry>,
    hosts: Vec<&'a str>,
    /// The hosts' names, in full and shortened to what tells them apart.
    names: [Vec<&'a str>; 3],
    /// Columns of the longest of each.
    longest: [u16; 3],
    /// Columns of the widest number.
    widest: u16,
    /// Columns of the widest list of ranks behind a node; 0 rank by rank.
    widest_ranks: u16,
    folded: bool,
    /// Entry of each slot, `u32::MAX` where it is not drawn.
    entry_of: Vec<u32>,
    /// Groups of each slot.
    groups_of: Vec<Vec<u32>>,
    /// Indices into the matrix's lists of slots whose communicator has not come up, by slot.
    open_of: Vec<Vec<u32>>,
    /// What is pointed at, by numbers.
    mark: Option<(u32, u32)>,
}

impl<'a> Grid<'a> {
    /// Hosts of each slot, numbered by first appearance.
    pub(super) fn hosts(matrix: &'a Matrix) -> (Vec<&'a str>, Vec<u32>) {
        let mut hosts: Vec<&str> = Vec::new();
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        let mut last: Option<(&str, u32)> = None;
        let of = matrix
            .slots
            .iter()
            .map(|slot| {
                // Ranks of one host stand together nearly always.
                let name = slot.host.as_str();
                let number = match last {
                    Some((host, number)) if host == name => number,
                    _ => *known.entry(name).or_insert_with(|| {
                        hosts.push(name);
                        u32::try_from(hosts.len() - 1).unwrap_or(u32::MAX)
                    }),
                };
                last = Some((name, number));
                number
            })
            .collect();
        (hosts, of)
    }

    /// How many hosts a matrix spans.
    #[must_use]
    pub fn nodes_in(matrix: &Matrix) -> usize {
        Grid::hosts(matrix).0.len()
    }

    /// Every rank whose host or number matches the filter.
    #[must_use]
    pub fn by_rank(matrix: &'a Matrix, filter: &str) -> Self {
        let (hosts, of) = Self::hosts(matrix);
        let keep = |i: usize| matches(matrix, i, filter);
        Self::single(matrix, hosts, &of, keep)
    }

    /// The ranks of two nodes.
    #[must_use]
    pub fn of_nodes(matrix: &'a Matrix, a: u32, b: u32, filter: &str) -> Self {
        let (hosts, of) = Self::hosts(matrix);
        let of_too = of.clone();
        let keep = move |i: usize| {
            of_too.get(i).is_some_and(|h| *h == a || *h == b) && matches(matrix, i, filter)
        };
        Self::single(matrix, hosts, &of, keep)
    }

    fn single(
        matrix: &'a Matrix,
        hosts: Vec<&'a str>,
        of: &[u32],
        keep: impl Fn(usize) -> bool,
    ) -> Self {
        let entries = matrix
            .slots
            .iter()
            .zip(of)
            .enumerate()
            .filter(|(i, _)| keep(*i))
            .map(|(i, (slot, host))| Entry {
                number: slot.number,
                proven: slot.proven,
                slots: vec![u32::try_from(i).unwrap_or(u32::MAX)],
                host: *host,
            });
        Self::finish(matrix, entries.collect(), hosts, false)
    }

    /// One entry a node.
    #[must_use]
    pub fn by_node(matrix: &'a Matrix, filter: &str) -> Self {
        let (hosts, of) = Self::hosts(matrix);
        let mut entries: Vec<Entry> = (0..u32::try_from(hosts.len()).unwrap_or(u32::MAX))
            .map(|h| Entry {
                number: h,
                proven: true,
                slots: Vec::new(),
                host: h,
            })
            .collect();
        for (i, host) in of.iter().enumerate() {
            if let Some(e) = entries.get_mut(*host as usize) {
                e.slots.push(u32::try_from(i).unwrap_or(u32::MAX));
            }
        }
        entries.retain(|e| {
            filter.is_empty() || e.slots.iter().any(|s| matches(matrix, *s as usize, filter))
        });
        Self::finish(matrix, entries, hosts, true)
    }

    fn finish(matrix: &'a Matrix, entries: Vec<Entry>, hosts: Vec<&'a str>, folded: bool) -> Self {
        let mut entry_of = vec![u32::MAX; matrix.slots.len()];
        for (i, entry) in entries.iter().enumerate() {
            for slot in &entry.slots {
                if let Some(e) = entry_of.get_mut(*slot as usize) {
                    *e = u32::try_from(i).unwrap_or(u32::MAX);
                }
            }
        }
        let by_slot = |lists: &[Vec<u32>]| {
            let mut by = vec![Vec::new(); matrix.slots.len()];
            for (i, list) in lists.iter().enumerate() {
                for slot in list {
                    if let Some(of) = by.get_mut(*slot as usize) {
                        of.push(u32::try_from(i).unwrap_or(u32::MAX));
                    }
                }
            }
            by
        };
        let (groups_of, open_of) = (by_slot(&matrix.groups), by_slot(&matrix.undecided));
        let names = [
            hosts.clone(),
            parts::endings(&hosts, 2),
            parts::endings(&hosts, 1),
        ];
        let longest = [0, 1, 2].map(|i: usize| {
            names
                .get(i)
                .and_then(|n| n.iter().map(|h| parts::columns(h)).max())
                .unwrap_or(1)
        });
        let widest = entries
            .iter()
            .map(|e| digits(e.number) + u16::from(!e.proven))
            .max()
            .unwrap_or(1);
        let mut grid = Self {
            matrix,
            entries,
            hosts,
            names,
            longest,
            widest,
            widest_ranks: 0,
            folded,
            entry_of,
            groups_of,
            open_of,
            mark: None,
        };
        if folded {
            let ranks = grid
                .entries
                .iter()
                .map(|e| parts::columns(&grid.ranks(e)).min(12) + 1);
            grid.widest_ranks = ranks.max().unwrap_or(0);
        }
        grid
    }

    /// The same, with a pointer on a cell.
    #[must_use]
    pub fn with_mark(self, mark: Option<(u32, u32)>) -> Self {
        Self { mark, ..self }
    }

    /// Numbers along the axes, ascending.
    #[must_use]
    pub fn axis(&self) -> Vec<u32> {
        self.entries.iter().map(|e| e.number).collect()
    }

    /// Node by node.
    #[must_use]
    pub fn folded(&self) -> bool {
        self.folded
    }

    /// The entry with this number.
    #[must_use]
    pub fn entry(&self, number: u32) -> Option<&Entry> {
        self.index(number).and_then(|i| self.entries.get(i))
    }

    fn index(&self, number: u32) -> Option<usize> {
        self.entries
            .binary_search_by_key(&number, |e| e.number)
            .ok()
    }

    /// Host of an entry.
    #[must_use]
    pub fn host(&self, entry: &Entry) -> &'a str {
        self.hosts.get(entry.host as usize).copied().unwrap_or("?")
    }

    /// Process of a single rank, if its lines are there.
    #[must_use]
    pub fn process(&self, entry: &Entry) -> Option<u32> {
        match entry.slots.as_slice() {
            [slot] => self.matrix.slots.get(*slot as usize)?.process,
            _ => None,
        }
    }

    /// How an entry is said aloud: `8`, `~8`, `node 1 (ranks 8-15)`.
    #[must_use]
    pub fn name(&self, entry: &Entry) -> String {
        if self.folded {
            format!("node {}", entry.number)
        } else {
            format!("{}{}", if entry.proven { "" } else { "~" }, entry.number)
        }
    }

    /// The ranks behind an entry.
    #[must_use]
    pub fn ranks(&self, entry: &Entry) -> String {
        parts::ranges(&self.numbers(entry))
    }

    fn numbers(&self, entry: &Entry) -> Vec<u32> {
        entry
            .slots
            .iter()
            .filter_map(|s| self.matrix.slots.get(*s as usize))
            .map(|s| s.number)
            .collect()
    }

    /// The cells that a slot sends on.
    fn cells_from(&self, slot: u32) -> &'a [Cell] {
        let cells = &self.matrix.cells;
        let start = cells.partition_point(|c| c.from < slot);
        let rest = cells.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|c| c.from == slot))
            .unwrap_or_default()
    }

    /// The cells behind a position.
    pub fn cells(&self, from: &Entry, to: &Entry) -> Vec<&'a Cell> {
        let to = self.index(to.number).and_then(|i| u32::try_from(i).ok());
        let entry = |slot: u32| self.entry_of.get(slot as usize).copied();
        from.slots
            .iter()
            .flat_map(|s| self.cells_from(*s))
            .filter(|c| to.is_some() && entry(c.to) == to)
            .collect()
    }

    /// Positions (by number) that are worse than they should be, ascending.
    #[must_use]
    pub fn problems(&self) -> Vec<(u32, u32)> {
        let number = |slot: u32| {
            let entry = self.entry_of.get(slot as usize)?;
            self.entries.get(*entry as usize).map(|e| e.number)
        };
        let bad = self
            .matrix
            .cells
            .iter()
            .filter(|c| c.downgraded || c.disagree);
        let mut out: Vec<(u32, u32)> = bad
            .filter_map(|c| Some((number(c.from)?, number(c.to)?)))
            .collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// What a whole row shows.
    fn row(&self, entry: &Entry, looks: &mut Vec<Look>) {
        let blank = Look {
            glyph: None,
            downgraded: false,
            disagree: false,
            open: false,
        };
        looks.clear();
        let share = if self.matrix.groups.is_empty() {
            Some(Glyph::Missing)
        } else {
            None
        };
        looks.resize(
            self.entries.len(),
            Look {
                glyph: share,
                ..blank
            },
        );
        let at = |slot: u32| {
            self.entry_of
                .get(slot as usize)
                .map_or(usize::MAX, |e| *e as usize)
        };
        for slot in &entry.slots {
            let groups = self
                .groups_of
                .get(*slot as usize)
                .map(Vec::as_slice)
                .unwrap_or_default();
            for member in groups
                .iter()
                .filter_map(|g| self.matrix.groups.get(*g as usize))
                .flatten()
            {
                if let Some(look) = looks.get_mut(at(*member)) {
                    look.glyph = look.glyph.or(Some(Glyph::Missing));
                }
            }
            let open = self.open_of.get(*slot as usize);
            for member in open
                .into_iter()
                .flatten()
                .filter_map(|l| self.matrix.undecided.get(*l as usize))
                .flatten()
                .filter(|member| *member != slot)
            {
                if let Some(look) = looks.get_mut(at(*member)) {
                    look.glyph = Some(Glyph::or_worse(look.glyph, Glyph::Doubt));
                }
            }
            for cell in self.cells_from(*slot) {
                let Some(look) = looks.get_mut(at(cell.to)) else {
                    continue;
                };
                look.glyph = Some(Glyph::or_worse(look.glyph, cell.glyph));
                look.downgraded |= cell.downgraded;
                look.disagree |= cell.disagree;
                look.open |= !cell.open.is_empty() && cell.glyph != Glyph::Doubt;
            }
        }
    }

    /// Columns that it takes when nothing is in its way.
    #[must_use]
    pub fn width(&self) -> u16 {
        let whole = Rect::new(0, 0, 400, 400);
        Plan::of(self, whole, None)
            .and_then(|p| p.xs(self, whole).last().map(|x| x.saturating_add(p.cell)))
            .unwrap_or(0)
    }

    /// Draws the part around `focus` into a rectangle, with a cursor there if it is one; says how many rows it took.
    pub fn draw(
        &self,
        area: Rect,
        focus: Option<(u32, u32)>,
        cursor: bool,
        pen: &mut Pen<'_>,
    ) -> u16 {
        let focus = focus.and_then(|(a, b)| Some((self.index(a)?, self.index(b)?)));
        let Some(plan) = Plan::of(self, area, focus) else {
            return 0;
        };
        plan.draw(self, area, focus.filter(|_| cursor), pen)
    }

    /// Name of an entry's host at one of the three lengths.
    fn named(&self, entry: &Entry, length: usize) -> &'a str {
        self.names
            .get(length)
            .and_then(|n| n.get(entry.host as usize))
            .copied()
            .unwrap_or("?")
    }
}

/// The one sign of several cells.
#[must_use]
pub fn worst(cells: &[&Cell]) -> Option<Glyph> {
    cells
        .iter()
        .fold(None, |shown, c| Some(Glyph::or_worse(shown, c.glyph)))
}

fn matches(matrix: &Matrix, slot: usize, filter: &str) -> bool {
    filter.is_empty()
        || matrix.slots.get(slot).is_some_and(|s| {
            s.host.to_lowercase().contains(&filter.to_lowercase()) || s.number.to_string() == filter
        })
}

/// How many times the host changes along the axis.
fn changes(grid: &Grid<'_>) -> u32 {
    let hosts = grid.entries.iter().map(|e| e.host);
    let next = hosts.clone().skip(1);
    u32::try_from(hosts.zip(next).filter(|(a, b)| a != b).count()).unwrap_or(u32::MAX)
}

fn number(entry: &Entry) -> String {
    format!("{}{}", if entry.proven { "" } else { "~" }, entry.number)
}

/// Columns of a number.
fn digits(n: u32) -> u16 {
    u16::try_from(n.checked_ilog10().unwrap_or(0)).unwrap_or(0) + 1
}
