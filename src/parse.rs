//! Text in, facts out. No clock, no I/O, no state.
//!
//! Bytes come as whole lines in a [`Block`]; [`Block::new`] peels the outer prefixes of every line,
//! splits glued heads, and turns what is worth knowing into [`Fact`]s. Most lines leave at a literal
//! prefilter without an allocation.

mod bytes;
mod envelope;
pub mod fact;
pub mod gpu;
mod graph;
mod head;
mod json;
mod nccl;
mod near;
mod net;
pub mod often;
pub mod perf;
pub mod probe;
pub mod prom;
pub mod quiet;
pub mod serving;
mod stamp;
mod text;
pub mod vllm;
mod walk;
mod warn;

pub use fact::{At, Fact, Level, Nanos};
pub use near::nearest;
pub use often::{Moment, Often, Usual, Voice};
pub use stamp::YEARLESS;
pub use text::{clean, cleaned, is_unseen};
pub use warn::kind_of;

/// Index into [`Block::heads`].
pub type HeadIx = u32;
/// Index into [`Block::outers`].
pub type OuterIx = u32;

/// The process that an NCCL head names: `host:pid:tid [dev]`, without tid and dev.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// Host, cut at the first dot by NCCL; empty when the head was damaged.
    pub host: String,
    /// Process id; 0 in write-ups, `None` when the head was damaged.
    pub pid: Option<u64>,
    /// The host stood at the start of a line (after outer prefixes) at least once in this block, which
    /// proves that nothing was glued to its front (known-host rule, nccl-logs.md 1.3).
    pub clean: bool,
    /// Outer prefix chain of the first line that carried it.
    pub outer: OuterIx,
}

/// The chain of prefixes in front of a line, reduced to what identifies who printed it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outer {
    /// Innermost label: `Worker_TP0`, `EngineCore_DP0`, `RayWorkerWrapper`, `APIServer`, …
    pub label: Option<String>,
    /// Innermost pid of a `(NAME pid=N)` prefix.
    pub pid: Option<u64>,
    /// Innermost `ip=` of a Ray prefix.
    pub ip: Option<String>,
    /// Rank label of a launcher: `[rank3]:`, `[default3]:`, `[1,0]<stdout>:`, `3: `.
    pub rank: Option<u32>,
    /// Pod (and container) named by a kubectl or stern prefix.
    pub pod: Option<String>,
    /// File named by `grep` over many files.
    pub file: Option<String>,
    /// Who the line is from by the label that docker compose, pdsh or `srun -l` puts in front of it: a service, a
    /// host, the number of a task.
    pub from: Option<String>,
    /// Number of `(NAME pid=…)` prefixes; 2 and more mean that another process relayed the line.
    pub depth: u8,
    /// Pid of the innermost prefix of another process: the engine core in front of its Ray workers.
    pub relay: Option<u64>,
    /// N of `[repeated Nx across cluster]` at the line's end: so many alike lines, this one among them, stand for
    /// this one alone (Ray's driver drops the others). 0 where nothing was dropped.
    pub repeated: u32,
}

impl Outer {
    /// Whose lines these are by the prefix of who put several logs into one stream: a pod, a service, a host, a
    /// task, a file.
    #[must_use]
    pub fn teller(&self) -> Option<&str> {
        let names = [&self.pod, &self.from, &self.file];
        names.into_iter().flatten().next().map(String::as_str)
    }
}

/// The chain of prefixes in front of a line without escape codes.
#[must_use]
pub fn outer(line: &str) -> Outer {
    let peeled = envelope::peel(line.as_bytes(), &mut stamp::Clock::default());
    peeled.prefix.to_outer()
}

/// One fact with where it stood. Offsets point into [`Block::text`].
#[derive(Debug, Clone, PartialEq)]
pub struct Rec {
    /// Physical line, counted from the block's first line (0-based).
    pub line: u32,
    /// Start of the piece of the line that holds the fact: a glued line holds several.
    pub start: u32,
    /// End of that piece.
    pub end: u32,
    /// When it was written, if the line says.
    pub at: Option<At>,
    /// NCCL process, if the line has a head.
    pub head: Option<HeadIx>,
    /// Outer prefixes.
    pub outer: OuterIx,
    /// Thread id of the head.
    pub tid: u64,
    /// `[dev]` of the head; −1 when absent.
    pub dev: i32,
    /// Level.
    pub level: Level,
    /// What it says.
    pub fact: Fact,
}

/// A run of whole lines of one source with everything the parser found in them.
///
/// Only `first_line` and `text` are observations; the rest is derived by [`Block::new`] and rebuilt when a
/// recording is read.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Physical number of the first line, 1-based, after decompression.
    pub first_line: u64,
    /// The bytes, line ends included.
    pub text: Vec<u8>,
    /// Number of physical lines.
    pub lines: u32,
    /// Lines with an NCCL head or a bare version line.
    pub nccl_lines: u32,
    /// Lines that vLLM or its process prefixes mark as its own.
    pub vllm_lines: u32,
    /// Distinct NCCL heads, in order of appearance.
    pub heads: Vec<Head>,
    /// Distinct outer prefix chains; index 0 is the empty one.
    pub outers: Vec<Outer>,
    /// Facts in line order.
    pub recs: Vec<Rec>,
    /// Lines that come by the million, in line order: what a [`Parser`] keeps small. Without one they are
    /// among `recs`. A line has facts in one of the lists only.
    pub often: Vec<Often>,
    /// Who said them.
    pub voices: Vec<Voice>,
    /// The connections that they name.
    pub forms: Vec<fact::Channel>,
    /// The pointers of the communicators that they call.
    pub comms: Vec<u64>,
    /// Which of them are vLLM's: a log full of calls has few.
    pub said: Vec<u32>,
    /// From where to where lines stand that no name of a secret is in, in line order: those that a [`Parser`]
    /// knows by their shape. Neighbours are one.
    pub silent: Vec<(u32, u32)>,
    /// First stamp in the block.
    pub first_at: Option<At>,
    /// Last stamp in the block.
    pub last_at: Option<At>,
}

impl Block {
    /// Parses `text`, whole lines (a last one without newline counts), the first of which is number
    /// `first_line`.
    #[must_use]
    pub fn new(first_line: u64, text: Vec<u8>) -> Self {
        let mut block = Self {
            first_line,
            text,
            ..Self::default()
        };
        block.parse();
        block
    }

    /// Finds everything in `text`, replacing what was found in an earlier text: a block used again keeps
    /// its memory. Nothing found depends on `first_line`, which may be set later.
    pub fn parse(&mut self) {
        self.read(None);
    }

    fn read(&mut self, known: Option<&mut walk::Known>) {
        let text = std::mem::take(&mut self.text);
        let first_line = self.first_line;
        *self = walk::Walk::new(&text, std::mem::take(self), known).run();
        (self.first_line, self.text) = (first_line, text);
    }
}

/// Parses one block after the other, remembers the shapes of lines and keeps small what comes by the million:
/// quicker on much text, and a model learns the same from it.
#[derive(Debug, Default)]
pub struct Parser {
    known: walk::Known,
}

impl Parser {
    /// As [`Block::parse`].
    pub fn parse(&mut self, block: &mut Block) {
        block.read(Some(&mut self.known));
    }
}
