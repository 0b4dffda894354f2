//! Arguments into a list of things to read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::content::{self, Patience, Refused};
use super::kubelet::Told;
use super::{SourceError, reason, rotate};
use crate::model::event::{SourceId, SourceInfo};
use crate::sources::recording::{BUNDLED_LOGS, BUNDLED_MANIFEST, BUNDLED_RECORDING, FAMILY};

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Standard input.
    Stdin,
    /// A regular file: can be opened again.
    File(PathBuf),
    /// A pipe or device: opened once.
    Stream(PathBuf),
}

/// One thing to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Unique: the path as given, with what a folder adds; `-` for standard input.
    pub name: String,
    /// Where.
    pub place: Place,
    /// Size on disk, before decompression; 0 for streams.
    pub size: u64,
    /// Found in a folder, so that trouble with it is a note and not an error.
    pub in_folder: bool,
}

/// What is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The inputs, sorted by name.
    pub list: Vec<Input>,
    /// The logs that they make up: the index is the source's id.
    pub(super) logs: Vec<Log>,
    /// What was passed over, in words.
    pub skipped: Vec<String>,
    /// The paths that were given, for finding what appears later in a followed folder.
    pub(super) roots: Vec<PathBuf>,
}

/// A log: one file, or the rotated parts of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    /// The source that it is.
    pub(super) info: SourceInfo,
    /// Indices of its inputs, oldest first.
    pub(super) files: Vec<usize>,
}

/// An input in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Index of the input.
    pub(super) input: usize,
    /// The source that its lines are of.
    pub(super) id: SourceId,
    /// It is a part of its log.
    pub(super) part: bool,
    /// The log goes on in the next input.
    pub(super) more: bool,
}

impl Inputs {
    /// Looks at every path: files, folders with all below them, pipes, `-` for standard input.
    ///
    /// In folders, hidden entries, what is no text, and what is plainly something else than a log are passed over
    /// with a word. The same file named
    /// twice is read once.
    ///
    /// # Errors
    /// The first path that can't be read, that is no text, or that is a folder without any log.
    pub fn find(paths: &[PathBuf]) -> Result<Self, SourceError> {
        let mut walk = Walk::default();
        for path in paths {
            if path.as_os_str() == "-" {
                walk.add("-".to_owned(), Place::Stdin, 0, false);
                continue;
            }
            let name = path.to_string_lossy().into_owned();
            let meta = fs::metadata(path).map_err(|e| SourceError::io(&name, &e))?;
            if meta.is_dir() {
                let (before, skipped) = (walk.found.len() + walk.doubles, walk.skipped.len());
                let entries = fs::read_dir(path).map_err(|e| SourceError::io(&name, &e))?;
                walk.visited.extend(fs::canonicalize(path).ok());
                walk.folder(entries);
                if walk.found.len() + walk.doubles == before {
                    let passed = walk.skipped.get(skipped..).unwrap_or_default();
                    let skipped = passed.first().map_or_else(String::new, |first| {
                        let s = if passed.len() == 1 { "" } else { "s" };
                        format!(" ({} file{s} skipped, the first: {first})", passed.len())
                    });
                    return Err(SourceError::Nothing {
                        path: name,
                        skipped,
                    });
                }
            } else if meta.is_file() {
                look(path).map_err(|refused| match refused {
                    Refused::Binary(what) => SourceError::Binary {
                        path: name.clone(),
                        what,
                    },
                    Refused::Io(e) => SourceError::io(&name, &e),
                })?;
                walk.file(name, path.clone(), meta.len(), false);
            } else {
                walk.add(name, Place::Stream(path.clone()), 0, false);
            }
        }
        let mut list = walk.found;
        list.sort_by(|a, b| a.name.cmp(&b.name));
        let mut names = BTreeSet::new();
        for input in &mut list {
            // Two names that differ only in bytes that are no UTF-8 look alike.
            let mut copy = 2;
            let plain = input.name.clone();
            while !names.insert(input.name.clone()) {
                input.name = format!("{plain}#{copy}");
                copy += 1;
            }
        }
        walk.skipped.sort();
        Ok(Self {
            logs: logs(&list),
            list,
            skipped: walk.skipped,
            roots: paths.to_vec(),
        })
    }

    /// Size of all regular files on disk; streams add nothing.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.list.iter().map(|input| input.size).sum()
    }

    /// Whether every input has a known size.
    #[must_use]
    pub fn sized(&self) -> bool {
        self.list
            .iter()
            .all(|input| matches!(input.place, Place::File(_)))
    }

    /// Whether a log is told to be of a life before the present one of its container.
    pub(super) fn is_previous(&self, id: SourceId) -> bool {
        let log = self.logs.get(id.0 as usize);
        log.is_some_and(|log| log.info.previous)
    }

    /// Order of reading: logs by name, but those with a number from the highest to the one without, and each log
    /// from its oldest part to its newest.
    pub(super) fn reading_order(&self) -> Vec<Turn> {
        let mut order: Vec<(usize, &Log)> = self.logs.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| age(&a.info.name).cmp(&age(&b.info.name)));
        let turns = order.into_iter().flat_map(|(id, log)| {
            let last = log.files.len().saturating_sub(1);
            let files = log.files.iter().enumerate();
            files.map(move |(i, input)| Turn {
                input: *input,
                id: SourceId(u32::try_from(id).unwrap_or(u32::MAX)),
                part: last > 0,
                more: i < last,
            })
        });
        turns.collect()
    }
}

/// The logs that inputs make up.
fn logs(list: &[Input]) -> Vec<Log> {
    let path = |input: &Input| match &input.place {
        Place::File(path) => Some(path.clone()),
        Place::Stdin | Place::Stream(_) => None,
    };
    let paths: Vec<Option<PathBuf>> = list.iter().map(path).collect();
    let known: Vec<Option<&Path>> = paths.iter().map(Option::as_deref).collect();
    let made = rotate::logs(&known);
    let path_of = |files: &[usize]| files.last().and_then(|i| known.get(*i).copied().flatten());
    let told: Vec<Option<Told>> = made
        .iter()
        .map(|files| path_of(files).and_then(Told::by))
        .collect();
    // The newest life of each container, by its folder.
    let mut lives: BTreeMap<Option<&Path>, u32> = BTreeMap::new();
    for (files, told) in made.iter().zip(&told) {
        if let Some(restart) = told.as_ref().and_then(|t| t.restart) {
            let newest = lives
                .entry(path_of(files).and_then(Path::parent))
                .or_default();
            *newest = restart.max(*newest);
        }
    }
    let logs = made.iter().zip(told).filter_map(|(files, told)| {
        let input = list.get(*files.last()?)?;
        let newest = lives.get(&path_of(files).and_then(Path::parent));
        let before = |t: &Told| {
            t.restart
                .zip(newest)
                .is_some_and(|(mine, last)| mine < *last)
        };
        let info = SourceInfo {
            name: input.name.clone(),
            previous: told.as_ref().is_some_and(before),
            container: told.map(|t| t.container),
            started: None,
        };
        Some(Log {
            info,
            files: files.clone(),
        })
    });
    logs.collect()
}

/// Opens a regular file just to see whether it is a log.
fn look(path: &Path) -> Result<(), Refused> {
    let text = content::open(File::open(path)?, Patience::Enough)?;
    let mut head = Vec::new();
    text.take(64).read_to_end(&mut head)?;
    // The lines of many logs stand in it, and would all be one's.
    if memchr::memmem::find(&head, FAMILY.as_bytes()).is_some() {
        return Err(Refused::Binary("a recording: open it by itself"));
    }
    Ok(())
}

/// What names are never those of logs: how they end, and what they are.
const NO_LOGS: [(&[&str], &str); 4] = [
    (
        &[
            "py", "pyi", "ipynb", "rs", "go", "c", "h", "cc", "cpp", "hpp", "cu", "cuh", "js",
            "mjs", "ts", "css", "java", "lua", "sh", "bash", "zsh",
        ],
        "source code",
    ),
    (&["html", "htm", "xhtml", "svg", "xml"], "a page, no log"),
    (&["md", "markdown", "rst", "adoc"], "a document, no log"),
    (&["yaml", "yml", "toml", "ini", "lock"], "settings, no log"),
];

/// How much of a text tells that it is none.
const HEAD_BYTES: u64 = 512;

/// Passes over what somebody keeps beside logs, and what this program saved there: a report quotes the lines of
/// logs, which would be read as new ones. Only in folders: a file that is named is read.
fn log_for_all_we_know(path: &Path) -> Result<(), Refused> {
    let ends = path.extension().and_then(|e| e.to_str());
    let ends = ends.map(str::to_ascii_lowercase).unwrap_or_default();
    let named = NO_LOGS.iter().find(|(all, _)| all.contains(&ends.as_str()));
    if let Some((_, what)) = named {
        return Err(Refused::Binary(what));
    }
    let mut head = Vec::new();
    content::open(File::open(path)?, Patience::Enough)?
        .take(HEAD_BYTES)
        .read_to_end(&mut head)?;
    saved(&head).map_or(Ok(()), |what| Err(Refused::Binary(what)))
}

/// What a text is that is no log, by how it begins.
fn saved(head: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.contains("\"schema\": \"ncclscope.") || text.contains("\"schema\":\"ncclscope.") {
        return Some("a report of this program");
    }
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let verdict = first.trim_start_matches("# ");
    let rest = ["HEALTHY", "STARTING", "UNKNOWN", "DEGRADED", "FAILED"]
        .iter()
        .find_map(|word| verdict.strip_prefix(word));
    let apart = if first.starts_with("# ") { ": " } else { "  " };
    if rest.is_some_and(|r| r.starts_with(apart)) && lines.next().is_some_and(str::is_empty) {
        return Some("a report of this program");
    }
    let lower = first.to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml", "<svg"]
        .iter()
        .any(|tag| lower.starts_with(tag))
    {
        return Some("a page, no log");
    }
    // One value over several lines; a log of JSON has a whole one on each.
    matches!(first.trim_end(), "{" | "[").then_some("a JSON document, no log")
}

/// Whether this is what a bundle was unpacked to: all that it says of its logs would be read a second time.
fn is_bundle(paths: &[PathBuf]) -> bool {
    let has = |name: &str| {
        paths
            .iter()
            .any(|p| p.file_name().is_some_and(|n| n == name))
    };
    has(BUNDLED_MANIFEST) && has(BUNDLED_RECORDING)
}

#[derive(Default)]
struct Walk {
    found: Vec<Input>,
    skipped: Vec<String>,
    /// Canonical paths, against links that lead back and files named twice.
    visited: BTreeSet<PathBuf>,
    doubles: usize,
}

impl Walk {
    fn folder(&mut self, entries: fs::ReadDir) {
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .collect();
        paths.sort();
        if is_bundle(&paths) {
            let folder = paths.first().and_then(|p| p.parent()).map(Path::display);
            let folder = folder.map(|f| f.to_string()).unwrap_or_default();
            self.skipped
                .push(format!("{folder}: a bundle: only its logs are read here, all of it where it is opened by itself"));
            paths.retain(|p| p.file_name().is_some_and(|n| n == BUNDLED_LOGS));
        }
        for path in paths {
            let name = path.to_string_lossy().into_owned();
            if path
                .file_name()
                .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."))
            {
                self.skipped.push(format!("{name}: hidden"));
                continue;
            }
            let meta = match fs::metadata(&path) {
                Ok(meta) => meta,
                Err(e) => {
                    self.skipped.push(format!("{name}: {}", reason(&e)));
                    continue;
                }
            };
            if meta.is_dir() {
                let new = fs::canonicalize(&path).is_ok_and(|real| self.visited.insert(real));
                match fs::read_dir(&path) {
                    Ok(below) if new => self.folder(below),
                    Ok(_) => {}
                    Err(e) => self.skipped.push(format!("{name}: {}", reason(&e))),
                }
            } else if meta.is_file() {
                match look(&path).and_then(|()| log_for_all_we_know(&path)) {
                    Ok(()) => self.file(name, path, meta.len(), true),
                    Err(Refused::Binary(what)) => self.skipped.push(format!("{name}: {what}")),
                    // It is a log for all we know: listed, with the reason, rather than passed over.
                    Err(Refused::Io(_)) => self.file(name, path, meta.len(), true),
                }
            } else {
                self.skipped
                    .push(format!("{name}: neither file nor folder"));
            }
        }
    }

    fn file(&mut self, name: String, path: PathBuf, size: u64, in_folder: bool) {
        if let Ok(real) = fs::canonicalize(&path)
            && !self.visited.insert(real)
        {
            self.doubles += 1;
            return;
        }
        self.add(name, Place::File(path), size, in_folder);
    }

    fn add(&mut self, name: String, place: Place, size: u64, in_folder: bool) {
        let once = !matches!(place, Place::File(_));
        if once && self.found.iter().any(|input| input.place == place) {
            self.doubles += 1;
            return;
        }
        self.found.push(Input {
            name,
            place,
            size,
            in_folder,
        });
    }
}

/// Sort key that puts `x.3` and `x.2` before `x`: numbered, for all we know by age, though not as rotations are.
fn age(name: &str) -> (&str, bool, std::cmp::Reverse<u64>, &str) {
    use std::cmp::Reverse;
    let bare = rotate::unpacked(name);
    match bare.rsplit_once('.') {
        Some((stem, number)) if number.len() <= 4 && number.bytes().all(|b| b.is_ascii_digit()) => {
            (stem, false, Reverse(number.parse().unwrap_or(0)), name)
        }
        Some((stem, stamp))
            if stamp.len() >= 8
                && stamp
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'T' | b'Z'))
                && stamp.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            (stem, false, Reverse(0), name)
        }
        _ => (bare, true, Reverse(0), name),
    }
}
