//! A source whose lines stand in several files: what a rotation made of one log.

use super::Source;
use crate::model::event::LogFile;
use crate::parse::{At, Block};

/// One of the files of a source, with what was read of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct File {
    /// Its path as it would be given.
    pub name: String,
    /// Number, in the source, of its first line.
    pub first_line: u64,
    /// Bytes read.
    pub bytes: u64,
    /// NCCL lines.
    pub nccl_lines: u64,
    /// vLLM lines.
    pub vllm_lines: u64,
    /// Lines known to be lost before they reached us.
    pub lost: u64,
    /// Last stamp.
    pub last_at: Option<At>,
}

impl File {
    pub(super) fn count(&mut self, block: &Block) {
        self.bytes += block.text.len() as u64;
        self.nccl_lines += u64::from(block.nccl_lines);
        self.vllm_lines += u64::from(block.vllm_lines);
        self.last_at = block.last_at.or(self.last_at);
    }

    /// Takes over what was read of another one.
    fn take(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.nccl_lines += other.nccl_lines;
        self.vllm_lines += other.vllm_lines;
        self.lost += other.lost;
        self.last_at = other.last_at.or(self.last_at);
    }
}

impl Source {
    pub(super) fn lose(&mut self, lines: u64) {
        self.lost += lines;
        if let Some(file) = self.files.last_mut() {
            file.lost += lines;
        }
    }

    /// Its lines stand in these files from now on; what was read stays counted where its lines stand.
    pub(super) fn lies_in(&mut self, mut now: Vec<LogFile>) {
        now.sort_by_key(|f| f.first_line);
        let before = std::mem::take(&mut self.files);
        self.files = now
            .into_iter()
            .map(|f| File {
                name: f.name,
                first_line: f.first_line,
                ..File::default()
            })
            .collect();
        // Until now it was one.
        let whole = File {
            name: String::new(),
            first_line: 1,
            bytes: self.bytes,
            nccl_lines: self.nccl_lines,
            vllm_lines: self.vllm_lines,
            lost: self.lost,
            last_at: self.last_at,
        };
        let before = if before.is_empty() {
            vec![whole]
        } else {
            before
        };
        for old in &before {
            if let Some(file) = self.slot_of(old.first_line) {
                file.take(old);
            }
        }
    }

    fn slot_of(&mut self, line: u64) -> Option<&mut File> {
        let at = index_of(self.files.iter().map(|f| f.first_line), line)?;
        self.files.get_mut(at)
    }
}

/// Which of several files, by their first lines, holds a line: the last that begins before it. A file without lines
/// begins where the next one does, and holds none.
pub fn index_of(first_lines: impl Iterator<Item = u64>, line: u64) -> Option<usize> {
    let begun = first_lines.take_while(|first| *first <= line).count();
    begun.checked_sub(1)
}
