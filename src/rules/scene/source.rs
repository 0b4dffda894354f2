//! What was read, and in which file a line of it stands.

use super::{LineRef, Scene};
use crate::model::sources::index_of;
use crate::parse::At;

/// A source as the report lists it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceView {
    /// Unique name of the stream; a part of one has its stream's.
    pub name: String,
    /// The files that hold its lines, oldest first, where a rotation made several of it; else empty.
    pub files: Vec<FileView>,
    /// The stream that it is a part of: the lines of one pod among those of several.
    pub within: Option<u32>,
    /// Who tells it, as the prefix in front of the lines of a part says.
    pub teller: Option<String>,
    /// `namespace/pod` if it is a container's.
    pub pod: Option<String>,
    /// Container name.
    pub container: Option<String>,
    /// Of a life of the container before the present one.
    pub previous: bool,
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// Physical lines.
    pub lines: u64,
    /// NCCL lines.
    pub nccl_lines: u64,
    /// Those of them that runs said which are over.
    pub nccl_past: u64,
    /// vLLM lines.
    pub vllm_lines: u64,
    /// Lines known to be lost before they reached us.
    pub dropped_lines: u64,
    /// The log starts in mid-life; `None` when that can't be told.
    pub head_missing: Option<bool>,
    /// Stamp of the last line.
    pub last_stamp: Option<At>,
    /// Lines of vLLM that name nothing but a pid which several of its ranks have: given to none of them.
    pub unclear_lines: u64,
    /// `reconnecting in 3 s: …`, when the stream is not simply flowing or ended.
    pub trouble: Option<String>,
}

/// One of the files of a source that a rotation made several of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileView {
    /// Its path as it would be given.
    pub name: String,
    /// Number, in the source, of its first line.
    pub first_line: u64,
    /// Physical lines.
    pub lines: u64,
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// NCCL lines.
    pub nccl_lines: u64,
    /// vLLM lines.
    pub vllm_lines: u64,
    /// Lines known to be lost before they reached us.
    pub dropped_lines: u64,
    /// The log starts in mid-life with it: never so where an older file holds its beginning.
    pub head_missing: Option<bool>,
    /// Stamp of the last line.
    pub last_stamp: Option<At>,
}

impl SourceView {
    /// NCCL lines of the present run.
    #[must_use]
    pub fn nccl_now(&self) -> u64 {
        self.nccl_lines.saturating_sub(self.nccl_past)
    }

    /// What it is made of, file by file as it would be listed: itself where its lines stand in one.
    #[must_use]
    pub fn by_file(&self) -> Vec<Self> {
        let Some(last) = self.files.len().checked_sub(1) else {
            return vec![self.clone()];
        };
        let views = self.files.iter().enumerate().map(|(i, f)| Self {
            name: f.name.clone(),
            files: Vec::new(),
            bytes: f.bytes,
            lines: f.lines,
            nccl_lines: f.nccl_lines,
            vllm_lines: f.vllm_lines,
            dropped_lines: f.dropped_lines,
            head_missing: f.head_missing,
            last_stamp: f.last_stamp,
            unclear_lines: if i == last { self.unclear_lines } else { 0 },
            trouble: self.trouble.clone().filter(|_| i == last),
            ..self.clone()
        });
        views.collect()
    }
}

impl Scene {
    /// What was read: sources that are no part of another one.
    pub fn streams(&self) -> impl Iterator<Item = &SourceView> {
        self.sources.iter().filter(|s| s.within.is_none())
    }

    /// The file that holds a line of a source, and the line's number in that file.
    #[must_use]
    pub fn stands(&self, source: u32, line: u64) -> (&str, u64) {
        let at = |i: u32| self.sources.get(i as usize);
        let Some(view) = at(source) else {
            return ("?", line);
        };
        // Lines are counted in the stream.
        let stream = view.within.and_then(at).unwrap_or(view);
        let file = index_of(stream.files.iter().map(|f| f.first_line), line);
        match file.and_then(|i| stream.files.get(i)) {
            Some(f) => (&f.name, line - f.first_line + 1),
            None => (&view.name, line),
        }
    }

    /// The same, of a line that proves something.
    #[must_use]
    pub fn place(&self, line: &LineRef) -> (&str, u64) {
        self.stands(line.source, line.number)
    }

    /// The files that hold the lines of a source, oldest first.
    pub fn files(&self, source: u32) -> impl Iterator<Item = &str> {
        let at = |i: u32| self.sources.get(i as usize);
        let view = at(source);
        let stream = view.and_then(|v| v.within).and_then(at).or(view);
        let files = stream.map_or(&[][..], |s| &s.files);
        let whole = view.filter(|_| files.is_empty());
        let names = files.iter().map(|f| f.name.as_str());
        names.chain(whole.map(|s| s.name.as_str()))
    }
}
