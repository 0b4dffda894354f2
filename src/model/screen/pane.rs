//! The panes by name and number.

/// A pane. The numbers of the keys are those of the design, so that they stay when panes join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PaneId {
    /// Is it well?
    #[default]
    Overview,
    /// Pods of the workload.
    Pods,
    /// Every rank and where it is.
    Ranks,
    /// Rank by rank.
    Matrix,
    /// Memory and health of every GPU.
    Vram,
    /// The checklist.
    Checks,
    /// What is wrong, with its proof.
    Findings,
    /// The all-reduce test.
    Test,
    /// All containers.
    Logs,
    /// Variables that matter, differences first.
    Env,
    /// The choice of a workload; not among the tabs.
    Workloads,
}

impl PaneId {
    /// Every pane, in the order of the tabs.
    pub const ALL: &'static [Self] = &[
        Self::Overview,
        Self::Pods,
        Self::Ranks,
        Self::Matrix,
        Self::Vram,
        Self::Checks,
        Self::Findings,
        Self::Test,
        Self::Logs,
        Self::Env,
    ];

    /// Name, as typed and shown.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Pods => "pods",
            Self::Ranks => "ranks",
            Self::Matrix => "matrix",
            Self::Vram => "vram",
            Self::Checks => "checks",
            Self::Findings => "findings",
            Self::Test => "test",
            Self::Logs => "logs",
            Self::Env => "env",
            Self::Workloads => "workloads",
        }
    }

    /// The digit that opens it; a blank where none does.
    #[must_use]
    pub fn digit(self) -> char {
        match self {
            Self::Overview => '0',
            Self::Pods => '1',
            Self::Ranks => '2',
            Self::Matrix => '3',
            Self::Vram => '4',
            Self::Checks => '5',
            Self::Findings => '6',
            Self::Test => '7',
            Self::Logs => '8',
            Self::Env => '9',
            Self::Workloads => ' ',
        }
    }

    /// The pane of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|p| p.id() == name)
    }

    /// All names.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|p| p.id()).collect()
    }

    pub(super) fn beside(self, step: isize) -> Self {
        let here = Self::ALL.iter().position(|p| *p == self).unwrap_or(0);
        let len = Self::ALL.len().cast_signed();
        let there = (here.cast_signed() + step).rem_euclid(len).cast_unsigned();
        Self::ALL.get(there).copied().unwrap_or_default()
    }
}
