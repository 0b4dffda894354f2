//! Log sources: what was read from where, and what is known to be lost.

use super::event::{SourceEvent, SourceId, SourceInfo};
use crate::parse::{At, Block};

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
    /// Bytes read.
    pub bytes: u64,
    /// Physical lines read.
    pub lines: u64,
    /// NCCL lines among them.
    pub nccl_lines: u64,
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

/// All sources, by id.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    list: Vec<Option<Source>>,
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
                    let fresh = Source {
                        info: info.clone(),
                        bytes: 0,
                        lines: 0,
                        nccl_lines: 0,
                        vllm_lines: 0,
                        lost: 0,
                        lost_uncounted: None,
                        first_at: None,
                        last_at: None,
                        flow: Flow::Opening,
                    };
                    slot.get_or_insert(fresh).info = info;
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
                        Some(n) => s.lost += n,
                        None => s.lost_uncounted = Some(why),
                    }
                }
            }
            SourceEvent::Ended { id, why } => {
                if let Some(s) = self.slot(id) {
                    s.flow = Flow::Ended(why);
                }
            }
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
