//! Connection lines of one process, gathered into runs.
//!
//! A run is an unbroken piece of one thread's connection lines: everything in it belongs to one
//! communicator (nccl-logs.md 4.7). Which one is known at once inside an open init window, and is worked
//! out by the rules otherwise, when all of the process's communicators are known.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::parse::At;
use crate::parse::fact::{Channel, CollNet, Connected, Dir, P2pKind, Tree, Via};

/// A place in a source with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Physical line.
    pub line: u64,
    /// Stamp.
    pub at: Option<At>,
    /// Cleaned text.
    pub text: Arc<str>,
}

/// A set of channel numbers: bits below 128, a list beyond.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channels {
    bits: u128,
    more: Vec<u16>,
}

impl Channels {
    /// Adds one.
    pub fn insert(&mut self, channel: u16) {
        if channel < 128 {
            self.bits |= 1 << channel;
        } else if let Err(at) = self.more.binary_search(&channel) {
            self.more.insert(at, channel);
        }
    }

    /// Sorted numbers.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let mut bits = self.bits;
        let low = std::iter::from_fn(move || {
            (bits != 0).then(|| {
                let n = bits.trailing_zeros();
                bits &= bits - 1;
                u16::try_from(n).unwrap_or(0)
            })
        });
        low.chain(self.more.iter().copied())
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bits.count_ones() as usize + self.more.len()
    }

    /// None at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits == 0 && self.more.is_empty()
    }
}

/// What makes two connection lines the same connection apart from the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeKey {
    /// Sender; `None` for CollNet's receive side.
    pub from: Option<u32>,
    /// Receiver; `None` for CollNet's send side.
    pub to: Option<u32>,
    /// Direction printed.
    pub dir: Dir,
    /// Connection index printed.
    pub index: Option<u8>,
    /// Transport; for CollNet the NET form of its plugin.
    pub via: Via,
    /// A CollNet line.
    pub collnet: bool,
}

impl EdgeKey {
    /// The key of a connection line.
    #[must_use]
    pub fn of(c: &Channel) -> Self {
        Self {
            from: Some(c.from),
            to: Some(c.to),
            dir: c.dir,
            index: c.index,
            via: c.via,
            collnet: false,
        }
    }
}

/// Two numbers: keys are hashed for every connection line.
impl Hash for EdgeKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ends = |n: Option<u32>| u64::from(n.unwrap_or(u32::MAX));
        let via = match self.via {
            Via::P2p { kind, read, ce } => {
                let kind = match kind {
                    P2pKind::Ipc => 0,
                    P2pKind::Cumem => 1,
                    P2pKind::Mnnvl => 2,
                    P2pKind::Direct => 3,
                    P2pKind::CommonDevice => 4,
                    P2pKind::Indirect(rank) => 5 + u64::from(rank),
                };
                kind << 8 | u64::from(read) << 1 | u64::from(ce)
            }
            Via::Shm(_) => 0x40,
            Via::Net { dev, gdr, .. } => u64::from(dev) << 8 | 0x80 | u64::from(gdr),
            Via::Other(_) => 0xc0,
        };
        let index = u64::from(self.index.map_or(0xff, |i| i)) << 40;
        state.write_u64(ends(self.from) << 32 | ends(self.to));
        state.write_u64(via << 8 ^ index | self.dir as u64 | u64::from(self.collnet) << 2);
    }
}

/// Lines of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeLines {
    /// Channels seen.
    pub channels: Channels,
    /// First line.
    pub first: Quote,
    /// Physical number of the last one.
    pub last: u64,
}

/// A ring order line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingLine {
    /// Ring.
    pub channel: u16,
    /// Order.
    pub order: Box<[u32]>,
    /// Cut by NCCL.
    pub cut: bool,
}

/// Multiply-rotate hasher for small integer keys; deterministic, not for hostile keys that matter
/// (a run's keys are bounded by ranks and devices).
#[derive(Default, Clone, Copy)]
pub struct Quick(u64);

impl Quick {
    fn mix(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut n = [0u8; 8];
            for (to, from) in n.iter_mut().zip(part) {
                *to = *from;
            }
            self.mix(u64::from_le_bytes(n));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.mix(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }
    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
}

/// Map in insertion order with a quick hasher.
pub type QuickMap<K, V> = IndexMap<K, V, BuildHasherDefault<Quick>>;

/// A [`QuickMap`] that looks first where it found something last: lines of one kind come in rows.
#[derive(Clone)]
pub struct Recent<K, V> {
    map: QuickMap<K, V>,
    last: usize,
}

/// Where it looks first is no part of what it holds.
impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            map: QuickMap::default(),
            last: 0,
        }
    }
}

impl<K: Hash + Eq, V> Recent<K, V> {
    fn place(&self, key: &K) -> Option<usize> {
        let last = self.map.get_index(self.last);
        if last.is_some_and(|(k, _)| k == key) {
            return Some(self.last);
        }
        self.map.get_index_of(key)
    }

    /// What is kept under a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.place(key)
            .and_then(|at| self.map.get_index(at))
            .map(|(_, v)| v)
    }

    /// The same, to be changed; the next search begins there.
    pub fn find(&mut self, key: &K) -> Option<&mut V> {
        self.last = self.place(key)?;
        self.map.get_index_mut(self.last).map(|(_, v)| v)
    }

    /// Where something is kept under a key, as long as nothing is forgotten.
    #[must_use]
    pub fn index(&self, key: &K) -> Option<usize> {
        self.place(key)
    }

    /// What is kept there.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&V> {
        self.map.get_index(index).map(|(_, v)| v)
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, index: usize) -> Option<&mut V> {
        self.map.get_index_mut(index).map(|(_, v)| v)
    }

    /// What is kept under a key; made where nothing is.
    pub fn made(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.last = match self.place(&key) {
            Some(at) => at,
            None => self.map.insert_full(key, V::default()).0,
        };
        &mut self.map[self.last]
    }

    /// Keeps something under a key.
    pub fn insert(&mut self, key: K, value: V) {
        self.map.insert(key, value);
    }

    /// Everything, in the order in which the keys came.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.map.values()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.map.clear();
    }
}

/// An unbroken piece of one thread's connection lines.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Thread.
    pub tid: u64,
    /// Index of the communicator record, when the init window or a pointer names it.
    pub comm: Option<u32>,
    /// `comm` was named by an init window rather than by a pointer at the end of a line.
    pub window: bool,
    /// Communicator records of the process that existed when the run began: candidates of a deferred run.
    pub known: u32,
    /// Record named by the latest collective line of the process before the run.
    pub hint: Option<u32>,
    /// Number of the first line.
    pub first_line: u64,
    /// Edges.
    pub edges: QuickMap<EdgeKey, EdgeLines>,
    /// NVML index of the local side, once a line printed one.
    pub local_nvml: Option<u32>,
    /// The rank that prints.
    pub local_rank: Option<u32>,
    /// Highest rank named.
    pub max_rank: u32,
    /// Ring orders.
    pub rings: Vec<RingLine>,
    /// Per-rank neighbours: (channel, prev, rank, next).
    pub neighbours: Vec<(u16, u32, u32, u32)>,
    /// Trees per rank.
    pub trees: Vec<(u32, Tree)>,
    /// The milestone at its end.
    pub closing: Option<Connected>,
    /// `coll, nvls, p2p, p2p per peer`.
    pub counts: Option<(u32, Option<u32>, u32, u32)>,
    /// Bytes.
    pub chunk: Option<u64>,
    /// `threadThresholds` seen.
    pub tuned: bool,
    /// Where in `edges` the latest line was.
    pub(super) latest: usize,
}

impl Run {
    /// Whether a line of this shape continues the run, or must begin another.
    #[must_use]
    pub fn takes(&self, local: u32, index: Option<u8>) -> bool {
        if self.local_rank.is_some_and(|r| r != local) {
            return false;
        }
        // A change between collective and send/recv connections is a boundary unless a window holds both.
        self.comm.is_some()
            || self
                .edges
                .last()
                .is_none_or(|(k, _)| k.index == index || k.index.is_none() || index.is_none())
    }

    /// Adds a connection line: its key, and its channel, which may be another than that of `c`.
    pub fn channel(
        &mut self,
        c: &Channel,
        (key, channel): (EdgeKey, u16),
        line: u64,
        quote: impl FnOnce() -> Quote,
    ) {
        let (local, gpu) = match c.dir {
            Dir::Receive => (c.to, c.to_gpu),
            Dir::None | Dir::Send => (c.from, c.from_gpu),
        };
        self.local_rank.get_or_insert(local);
        if self.local_nvml.is_none() {
            self.local_nvml = gpu.nvml();
        }
        self.max_rank = self.max_rank.max(c.from).max(c.to);
        self.add(key, channel, line, quote);
    }

    /// Adds a CollNet line; `index` 0 is its receive side, 1 its send side.
    pub fn collnet(&mut self, c: &CollNet, line: u64, quote: impl FnOnce() -> Quote) {
        self.local_rank.get_or_insert(c.rank);
        self.max_rank = self.max_rank.max(c.rank);
        let via = Via::Net {
            name: c.name,
            dev: c.dev,
            pxn: None,
            gdr: c.gdr,
            pci: false,
            shared: false,
        };
        let (from, to) = if c.dir == Dir::Receive {
            (None, Some(c.rank))
        } else {
            (Some(c.rank), None)
        };
        self.add(
            EdgeKey {
                from,
                to,
                dir: c.dir,
                index: c.index,
                via,
                collnet: true,
            },
            c.channel,
            line,
            quote,
        );
    }

    /// Whether a connection is among them.
    #[must_use]
    pub fn has(&self, key: &EdgeKey) -> bool {
        let latest = self.edges.get_index(self.latest);
        latest.is_some_and(|(k, _)| k == key) || self.edges.contains_key(key)
    }

    fn add(&mut self, key: EdgeKey, channel: u16, line: u64, quote: impl FnOnce() -> Quote) {
        if let Some((latest, lines)) = self.edges.get_index_mut(self.latest)
            && *latest == key
        {
            lines.channels.insert(channel);
            lines.last = line;
            return;
        }
        self.latest = self.edges.get_index_of(&key).unwrap_or(self.edges.len());
        match self.edges.entry(key) {
            indexmap::map::Entry::Occupied(mut e) => {
                let e = e.get_mut();
                e.channels.insert(channel);
                e.last = line;
            }
            indexmap::map::Entry::Vacant(v) => {
                let mut channels = Channels::default();
                channels.insert(channel);
                v.insert(EdgeLines {
                    channels,
                    first: quote(),
                    last: line,
                });
            }
        }
    }

    /// What the rules attribute the run by, when it holds nothing but connections, written to `sort`: two runs with
    /// the same answer get the same communicator, so that one of them is enough. Says whether there is an answer.
    pub(super) fn sort(&self, sort: &mut RunSort) -> bool {
        let plain = self.rings.is_empty()
            && self.trees.is_empty()
            && self.neighbours.is_empty()
            && self.closing.is_none()
            && self.counts.is_none()
            && self.chunk.is_none()
            && !self.tuned;
        if !plain || self.comm.is_some() || self.edges.is_empty() {
            return false;
        }
        (sort.tid, sort.known, sort.hint) = (self.tid, self.known, self.hint);
        sort.edges.clear();
        sort.edges.extend(self.edges.keys());
        sort.edges.sort_unstable();
        true
    }

    /// Takes over the lines of a later run of the same sort.
    pub(super) fn absorb(&mut self, later: &Run) {
        for (key, lines) in &later.edges {
            if let Some(mine) = self.edges.get_mut(key) {
                lines
                    .channels
                    .iter()
                    .for_each(|channel| mine.channels.insert(channel));
                mine.last = lines.last;
            }
        }
    }

    /// An empty one with the memory of this one.
    pub(super) fn emptied(mut self) -> Self {
        self.edges.clear();
        Self {
            edges: self.edges,
            ..Self::default()
        }
    }

    /// Lines that are like the one that brought the edge `at`, but for their channels; the number of the last one.
    pub(super) fn again(&mut self, at: usize, channels: u128, line: u64) {
        if let Some((_, lines)) = self.edges.get_index_mut(at) {
            lines.channels.bits |= channels;
            lines.last = line;
            self.latest = at;
        }
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
            && self.rings.is_empty()
            && self.trees.is_empty()
            && self.neighbours.is_empty()
    }
}

/// See [`Run::sort`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunSort {
    tid: u64,
    known: u32,
    hint: Option<u32>,
    edges: Vec<EdgeKey>,
}
