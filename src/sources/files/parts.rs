//! In which files the lines of a followed log stand by now: a rotation renames what was read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::identity::{Identity, identity};
use super::rotate;
use crate::model::event::{LogFile, SourceEvent, SourceId};

/// Parts that are kept apart. A log that is followed for weeks has had more, and the oldest are long gone.
const KEPT: usize = 64;

/// One of them.
#[derive(Debug, Clone)]
struct Part {
    /// Number, in the source, of its first line.
    first_line: u64,
    name: String,
    /// The file itself, whatever it is called now; nothing where it is gone.
    file: Option<Identity>,
}

impl Part {
    fn gone(&mut self, why: &str) {
        if self.file.take().is_some() {
            self.name = format!("{} ({why})", self.name);
        }
    }

    /// The kubelet packs what it renamed, under the same name.
    fn packed_or_gone(&mut self) {
        let mut packed = rotate::PACKED
            .iter()
            .map(|end| format!("{}{end}", self.name));
        match packed.find(|name| self.file.is_some() && Path::new(name).is_file()) {
            Some(name) => self.name = name,
            None => self.gone("rotated away"),
        }
    }
}

/// The parts of a log, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    list: Vec<Part>,
}

impl Parts {
    /// From this line on it is that file.
    pub(super) fn push(&mut self, first_line: u64, name: &str, file: Option<Identity>) {
        // Of one that held nothing, nothing is told.
        let empty = |p: &Part| p.first_line == first_line;
        if self.list.last().is_some_and(empty) {
            self.list.pop();
        }
        if self.list.len() >= KEPT {
            self.list.remove(1);
            if let Some(oldest) = self.list.first_mut() {
                oldest.gone("rotated away");
            }
        }
        self.list.push(Part {
            first_line,
            name: name.to_owned(),
            file,
        });
    }

    /// The path was given to a new file: those before are looked for under their new names.
    pub(super) fn rotated(&mut self, path: &Path, first_line: u64, new: Identity) {
        let Some(name) = self.list.last().map(|p| p.name.clone()) else {
            return;
        };
        rename(&mut self.list, path, &name);
        self.push(first_line, &name, Some(new));
    }

    /// The file was emptied under its writer, after a copy was made; the copies before it were renamed.
    pub(super) fn truncated(&mut self, path: &Path, first_line: u64) {
        let Some((last, older)) = self.list.split_last_mut() else {
            return;
        };
        let (name, file) = (last.name.clone(), last.file);
        rename(older, path, &name);
        last.gone("before it was truncated");
        self.push(first_line, &name, file);
    }

    /// What a screen must know of it.
    pub(super) fn told(&self, id: SourceId) -> SourceEvent {
        let files = self.list.iter().map(|p| LogFile {
            first_line: p.first_line,
            name: p.name.clone(),
        });
        SourceEvent::Files {
            id,
            files: files.collect(),
        }
    }
}

/// Gives parts of the log at this path, which is called so, the names that they have by now.
fn rename(parts: &mut [Part], path: &Path, log: &str) {
    if parts.is_empty() {
        return;
    }
    let beside = beside(path);
    for part in parts {
        match part.file.and_then(|file| beside.get(&file)) {
            Some(now) => part.name = with_name(log, now),
            None => part.packed_or_gone(),
        }
    }
}

/// Opens a file that was at this path once.
pub(super) fn open(path: &Path, file: Identity) -> Option<File> {
    let name = beside(path).remove(&file)?;
    File::open(path.with_file_name(name)).ok()
}

/// The parts of a log, as their names tell it, that are newer than this file; the log itself is none of them.
pub(super) fn since(path: &Path, file: Identity) -> Vec<PathBuf> {
    let beside: Vec<(Identity, PathBuf)> = beside(path)
        .into_iter()
        .map(|(file, name)| (file, path.with_file_name(name)))
        .collect();
    let paths = beside.iter().map(|(_, p)| Some(p.as_path()));
    let paths: Vec<Option<&Path>> = paths.chain([Some(path)]).collect();
    let logs = rotate::logs(&paths);
    let own = logs.iter().find(|log| log.last() == Some(&beside.len()));
    let parts = own.into_iter().flatten().filter_map(|i| beside.get(*i));
    parts
        .skip_while(|(is, _)| *is != file)
        .skip(1)
        .map(|(_, path)| path.clone())
        .collect()
}

/// The files beside a log whose names begin as its own does, by what they are.
fn beside(path: &Path) -> BTreeMap<Identity, String> {
    let stem = path.file_stem().and_then(|n| n.to_str());
    let own = path.file_name();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter();
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let alike = name.to_str()?.starts_with(stem?) && Some(name.as_os_str()) != own;
        let file = fs::metadata(path.with_file_name(&name)).ok()?;
        alike.then(|| Some((identity(&file), name.into_string().ok()?)))?
    });
    names.collect()
}

/// The name of a file in the folder of another one.
fn with_name(name: &str, now: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{now}"),
        None => now.to_owned(),
    }
}
