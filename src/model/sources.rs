//! Log sources: what was read from where, and what is known to be lost.

mod files;

use std::collections::BTreeMap;

pub use files::{File, index_of};

use super::event::{SourceEvent, SourceId, SourceInfo};
use crate::parse::{At, Block, Outer, OuterIx};

/// Parts that one stream may have by the prefixes of its lines; what names more is its own.
const PARTS_KEPT: usize = 512;

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Flow {
    /// Announced, nothing read yet.
    #[default]
    Opening,
    /// Lines may come.
    Up,
    /// Cut; why.
    Retrying(String),
    /// Ended; why, when it is not the ordinary end.
    Ended(Option<String>),
}

/// One source.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it is.
    pub info: SourceInfo,
    /// The files that hold its lines, oldest first; empty where it is one.
    pub files: Vec<File>,
    /// The stream that it is a part of.
    pub within: Option<SourceId>,
    /// Whose lines a part holds, by the prefix in front of them: a pod, a service, a host, a task.
    pub teller: Option<Teller>,
    /// How many parts it has.
    pub parts: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Physical lines read.
    pub lines: u64,
    /// NCCL lines among them.
    pub nccl_lines: u64,
    /// Those of NCCL's lines that runs said which are over.
    pub nccl_past: u64,
    /// vLLM lines among them.
    pub vllm_lines: u64,
    /// Lines known to be lost before they reached us.
    pub lost: u64,
    /// Something was lost that can't be counted; why.
    pub lost_uncounted: Option<String>,
    /// First stamp.
    pub first_at: Option<At>,
    /// Last stamp.
    pub last_at: Option<At>,
    /// State of the stream.
    pub flow: Flow,
}

impl Source {
    fn new(info: SourceInfo) -> Self {
        Self {
            info,
            files: Vec::new(),
            within: None,
            teller: None,
            parts: 0,
            bytes: 0,
            lines: 0,
            nccl_lines: 0,
            nccl_past: 0,
            vllm_lines: 0,
            lost: 0,
            lost_uncounted: None,
            first_at: None,
            last_at: None,
            flow: Flow::Opening,
        }
    }
}

/// Whose lines a part of a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teller {
    /// Its name: of the pod, service, host, task or file.
    pub name: String,
    /// Container, where it is a pod's and named.
    pub container: Option<String>,
    /// The prefix is one that names pods.
    pub pod: bool,
}

impl Teller {
    /// Whose lines carry this prefix, if it names anybody.
    #[must_use]
    pub fn of(outer: &Outer) -> Option<Self> {
        let name = outer.teller()?;
        let (name, container) = match name.split_once('/').filter(|_| outer.pod.is_some()) {
            Some((pod, container)) => (pod, Some(container.to_owned())),
            None => (name, None),
        };
        let container = container.filter(|c| !c.is_empty());
        Some(Self {
            name: name.to_owned(),
            container,
            pod: outer.pod.is_some(),
        })
    }

    /// As the prefix says it.
    #[must_use]
    pub fn said(&self) -> String {
        match &self.container {
            Some(container) => format!("{}/{container}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Whose lines those of a block are: its stream's own, or those of the part that their prefix names.
#[derive(Debug, Clone)]
pub struct Tellers {
    stream: SourceId,
    /// A container's own log: Kubernetes says when a new life of it begins.
    container: bool,
    /// By prefix; empty where the stream has no parts.
    of: Vec<SourceId>,
}

impl Tellers {
    /// Of the stream itself.
    #[must_use]
    pub fn stream(&self) -> SourceId {
        self.stream
    }

    /// Whether it is a container's own log: Kubernetes says when a new life of it begins, and no line needs to.
    #[must_use]
    pub fn are_container(&self) -> bool {
        self.container
    }

    /// Of the lines with this prefix.
    #[must_use]
    pub fn of(&self, outer: OuterIx) -> SourceId {
        let part = self.of.get(outer as usize);
        part.copied().unwrap_or(self.stream)
    }
}

impl From<SourceId> for Tellers {
    fn from(stream: SourceId) -> Self {
        Self {
            stream,
            container: false,
            of: Vec::new(),
        }
    }
}

/// All sources, by id.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    list: Vec<Option<Source>>,
    /// Parts of streams by the prefix that names them.
    parts: BTreeMap<(SourceId, String), SourceId>,
    /// Streams that were opened under an id which a part had taken: theirs, and what stands for it here.
    moved: BTreeMap<SourceId, SourceId>,
}

impl Sources {
    /// The source with this id, if it was opened.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.list.get(id.0 as usize).and_then(Option::as_ref)
    }

    /// All opened sources in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.list
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((SourceId(u32::try_from(i).ok()?), s.as_ref()?)))
    }

    fn slot(&mut self, id: SourceId) -> Option<&mut Source> {
        self.list.get_mut(id.0 as usize).and_then(Option::as_mut)
    }

    /// Applies what happened to a source.
    pub fn apply(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Opened(id, info) => {
                let at = id.0 as usize;
                if at > 1 << 20 {
                    return;
                }
                if self.list.len() <= at {
                    self.list.resize_with(at + 1, || None);
                }
                if let Some(slot) = self.list.get_mut(at) {
                    slot.get_or_insert_with(|| Source::new(info.clone())).info = info.clone();
                }
            }
            SourceEvent::Up(id) => {
                if let Some(s) = self.slot(id) {
                    s.flow = Flow::Up;
                }
            }
            SourceEvent::Retrying { id, why, .. } => {
                if let Some(s) = self.slot(id) {
                    s.flow = Flow::Retrying(why);
                }
            }
            SourceEvent::Lost { id, lines, why } => {
                if let Some(s) = self.slot(id) {
                    match lines {
                        Some(n) => s.lose(n),
                        None => s.lost_uncounted = Some(why),
                    }
                }
            }
            SourceEvent::Files { id, files } => {
                if let Some(s) = self.slot(id) {
                    s.lies_in(files);
                }
            }
            SourceEvent::Ended { id, why } => {
                if let Some(s) = self.slot(id) {
                    s.flow = Flow::Ended(why);
                }
            }
        }
    }

    /// The id under which a stream is known here.
    #[must_use]
    pub fn known_as(&self, id: SourceId) -> SourceId {
        self.moved.get(&id).copied().unwrap_or(id)
    }

    /// Makes room for a stream that opens: parts take the ids behind those of the streams there are.
    pub fn make_room(&mut self, id: SourceId) -> SourceId {
        let known = self.known_as(id);
        if self.get(known).is_none_or(|s| s.within.is_none()) {
            return known;
        }
        let free = u32::try_from(self.list.len()).map_or(known, SourceId);
        self.moved.insert(id, free);
        free
    }

    /// Whose lines those of a block are. A stream of several pods has a part for each of them, as far as the
    /// prefixes of its lines name them; a container's own log has none, whatever its lines begin with.
    pub fn tellers(&mut self, stream: SourceId, block: &Block) -> Tellers {
        let of_container = |s: &Source| s.info.container.is_some();
        let plain = Tellers {
            container: self.get(stream).is_some_and(of_container),
            ..Tellers::from(stream)
        };
        if self.get(stream).is_none_or(of_container)
            || block.outers.iter().all(|o| o.teller().is_none())
        {
            return plain;
        }
        // A prefix that no fact follows may be anything.
        let mut said = vec![None::<(Option<At>, Option<At>)>; block.outers.len()];
        let recs = block.recs.iter().map(|r| (r.outer, r.at));
        let often = block.often.iter().filter_map(|line| {
            let voice = block.voices.get(line.voice as usize)?;
            Some((voice.outer, line.at.at()))
        });
        for (outer, at) in recs.chain(often) {
            if let Some(slot) = said.get_mut(outer as usize) {
                let (first, last) = slot.get_or_insert((at, at));
                *first = first.or(at);
                *last = at.or(*last);
            }
        }
        let of = block.outers.iter().zip(said).map(|(outer, said)| {
            let part = said.and_then(|span| self.part(stream, Teller::of(outer)?, span));
            part.unwrap_or(stream)
        });
        let of = of.collect();
        Tellers { of, ..plain }
    }

    /// The part of a stream that a prefix names, made where it is new.
    fn part(
        &mut self,
        stream: SourceId,
        teller: Teller,
        (first, last): (Option<At>, Option<At>),
    ) -> Option<SourceId> {
        let key = (stream, teller.said());
        let id = match self.parts.get(&key) {
            Some(id) => *id,
            None => {
                let whole = self.slot(stream).filter(|s| s.parts < PARTS_KEPT)?;
                whole.parts += 1;
                let name = format!("{}[{}]", whole.info.name, key.1);
                let info = SourceInfo {
                    name,
                    container: None,
                    previous: whole.info.previous,
                    started: None,
                };
                let id = SourceId(u32::try_from(self.list.len()).ok()?);
                self.list.push(Some(Source {
                    within: Some(stream),
                    teller: Some(teller),
                    flow: Flow::Up,
                    ..Source::new(info)
                }));
                self.parts.insert(key, id);
                id
            }
        };
        let part = self.slot(id)?;
        part.first_at = part.first_at.or(first);
        part.last_at = part.last_at.max(last);
        Some(id)
    }

    /// A new life began in a source, at a line of this block or before it: what NCCL had said was said before.
    pub(super) fn begins(&mut self, id: SourceId, line: u64, block: &Block) {
        let Some(s) = self.slot(id) else { return };
        let skip = usize::try_from(line.saturating_sub(block.first_line)).unwrap_or(usize::MAX);
        let start = match skip {
            0 => 0,
            n => memchr::memchr_iter(b'\n', &block.text)
                .nth(n - 1)
                .map_or(block.text.len(), |at| at + 1),
        };
        let rest = block.text.get(start..).unwrap_or_default();
        let now = rest.split(|b| *b == b'\n');
        let now = now
            .filter(|l| memchr::memmem::find(l, b"CCL ").is_some())
            .count();
        s.nccl_past = s.nccl_lines.saturating_sub(now as u64);
    }

    /// All of them, as they stood when a run was over: those that tell of it by its last stamp, the others unread.
    #[must_use]
    pub fn as_of(&self, ends: &BTreeMap<SourceId, Option<At>>) -> Self {
        let past = |(id, s): (SourceId, &Option<Source>)| {
            let s = s.as_ref()?;
            Some(match ends.get(&id) {
                Some(end) => Source {
                    last_at: *end,
                    nccl_past: 0,
                    flow: Flow::Ended(None),
                    ..s.clone()
                },
                None => Source {
                    within: s.within,
                    teller: s.teller.clone(),
                    ..Source::new(s.info.clone())
                },
            })
        };
        let ids = (0..).map(SourceId);
        Self {
            list: ids.zip(&self.list).map(past).collect(),
            ..Self::default()
        }
    }

    /// Counts a block of lines.
    pub fn count(&mut self, id: SourceId, block: &Block) {
        if let Some(s) = self.slot(id) {
            s.bytes += block.text.len() as u64;
            s.lines = s
                .lines
                .max(block.first_line.saturating_sub(1) + u64::from(block.lines));
            s.nccl_lines += u64::from(block.nccl_lines);
            s.vllm_lines += u64::from(block.vllm_lines);
            if let Some(file) = s.files.last_mut() {
                file.count(block);
            }
            s.first_at = s.first_at.or(block.first_at);
            s.last_at = match (s.last_at, block.last_at) {
                (Some(a), Some(b)) if a.exact == b.exact && a.ns > b.ns => Some(a),
                (a, b) => b.or(a),
            };
            if s.flow == Flow::Opening {
                s.flow = Flow::Up;
            }
        }
    }
}
