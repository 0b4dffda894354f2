//! Reading: what is known becomes events, what is not is counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{BUNDLE, BUNDLED_RECORDING, Body, FAMILY, Header, Lost, SCHEMA};
use crate::model::event::Event;
use crate::parse::Nanos;
use crate::report::tar;
use crate::sources::files::text_of;

/// Longest line that is read; a block of log text is a megabyte.
const LINE: u64 = 96 << 20;

/// Why a file can't be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system refuses.
    #[error("{path}: can't be read: {why}")]
    Io {
        /// As given.
        path: String,
        /// The system's words.
        why: String,
    },
    /// Something else.
    #[error("{0}: not a recording of ncclscope")]
    Other(String),
    /// Of a version that this one can't read.
    #[error("{path}: a recording of schema {schema}; this version reads {SCHEMA}")]
    Schema {
        /// As given.
        path: String,
        /// What it says of itself.
        schema: String,
    },
}

/// What a recording lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loss {
    /// Entries of kinds that this version does not know.
    pub unknown: u64,
    /// Entries that are no JSON, or not of their kind.
    pub damaged: u64,
    /// It ends in the middle: the program that wrote it was cut off.
    pub torn: bool,
    /// What the recorder could not write in time.
    pub lost: Lost,
}

impl Loss {
    /// In words; nothing where nothing is missing.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let mut parts = Vec::new();
        let word = |n: u64, one: &'static str, many: &'static str| if n == 1 { one } else { many };
        let entries = |n| word(n, "entry", "entries");
        if self.unknown > 0 {
            let (n, entries) = (self.unknown, entries(self.unknown));
            parts.push(format!("{n} {entries} of a newer version skipped"));
        }
        if self.damaged > 0 {
            let (n, entries) = (self.damaged, entries(self.damaged));
            parts.push(format!("{n} damaged {entries} skipped"));
        }
        if self.lost.events > 0 {
            let Lost { events, lines } = self.lost;
            parts.push(format!(
                "{events} {} with {lines} log {} not recorded",
                word(events, "event", "events"),
                word(lines, "line", "lines"),
            ));
        }
        if self.torn {
            parts.push("it breaks off".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// One event of a recording.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Place on the time axis, nanoseconds since the Unix epoch.
    pub t: Nanos,
    /// Time that the event was applied with; 0 where time came from the lines.
    pub at: Nanos,
    /// What happened.
    pub event: Event,
}

/// A recording being read.
pub struct Reader {
    lines: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    header: Header,
    loss: Loss,
    ended: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    t: Nanos,
    at: Option<Nanos>,
    kind: &'a str,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// The file: in the folder that a bundle was unpacked to, the recording that it holds.
fn file_of(path: &Path) -> PathBuf {
    let inner = path.join(BUNDLED_RECORDING);
    if inner.is_file() {
        inner
    } else {
        path.to_owned()
    }
}

/// Whether a file is a recording: told by its content.
#[must_use]
pub fn is_recording(path: &Path) -> bool {
    file_of(path).is_file() && Reader::open(path).is_ok_and(|_| true)
        || matches!(Reader::open(path), Err(RecordingError::Schema { .. }))
}

impl Reader {
    /// Opens a recording, compressed or not, and reads its header.
    ///
    /// # Errors
    /// What can't be read, is something else, or of another version.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let path = &file_of(path);
        let name = path.display().to_string();
        let fail = |e: &io::Error| RecordingError::Io {
            path: name.clone(),
            why: e.to_string(),
        };
        let file = File::open(path).map_err(|e| fail(&e))?;
        let text = match bundled(path) {
            Some(inner) => text_of(inner),
            None => text_of(file),
        };
        Self::new(
            text.map_err(|_| RecordingError::Other(name.clone()))?,
            &name,
        )
    }

    /// Reads the header of a recording's text.
    ///
    /// # Errors
    /// What is something else, or of another version.
    pub fn new(text: Box<dyn Read + Send>, name: &str) -> Result<Self, RecordingError> {
        let mut this = Self {
            lines: BufReader::with_capacity(256 << 10, text),
            line: Vec::new(),
            header: Header::default(),
            loss: Loss::default(),
            ended: false,
        };
        // A log may begin with a line of any length: look before reading on.
        let first = this.lines.fill_buf().unwrap_or_default();
        let head = first.get(..first.len().min(64)).unwrap_or_default();
        if memchr::memmem::find(head, FAMILY.as_bytes()).is_none() || !this.advance() {
            return Err(RecordingError::Other(name.to_owned()));
        }
        let header: Header = serde_json::from_slice(&this.line)
            .map_err(|_| RecordingError::Other(name.to_owned()))?;
        if header.schema != SCHEMA {
            return Err(RecordingError::Schema {
                path: name.to_owned(),
                schema: crate::parse::clean(header.schema.as_bytes()),
            });
        }
        this.header = header;
        Ok(this)
    }

    /// What it says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is missing, as far as was read.
    #[must_use]
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// The next whole line; false at the end.
    fn advance(&mut self) -> bool {
        loop {
            self.line.clear();
            let read = (&mut self.lines)
                .take(LINE)
                .read_until(b'\n', &mut self.line);
            match read {
                // zstd ends in an error where the file was cut.
                Err(_) => {
                    self.loss.torn = true;
                    return false;
                }
                Ok(0) => {
                    self.loss.torn |= !self.ended;
                    return false;
                }
                Ok(_) if self.line.last() == Some(&b'\n') => return true,
                Ok(n) if (n as u64) < LINE => {
                    self.loss.torn = true;
                    return false;
                }
                Ok(_) => {
                    self.loss.damaged += 1;
                    if !self.skip_line() {
                        return false;
                    }
                }
            }
        }
    }

    fn skip_line(&mut self) -> bool {
        loop {
            let Ok(buffer) = self.lines.fill_buf() else {
                self.loss.torn = true;
                return false;
            };
            if buffer.is_empty() {
                return false;
            }
            let (used, done) = match memchr::memchr(b'\n', buffer) {
                Some(n) => (n + 1, true),
                None => (buffer.len(), false),
            };
            self.lines.consume(used);
            if done {
                return true;
            }
        }
    }

    /// The place of the last entry on the time axis, and what is missing: reads to the end without building events.
    pub fn end(mut self) -> (Option<(Nanos, Nanos)>, Loss) {
        let mut ends: Option<(Nanos, Nanos)> = None;
        while self.advance() {
            let t = self
                .line
                .strip_prefix(b"{\"t\":")
                .and_then(|rest| rest.get(..memchr::memchr(b',', rest)?))
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<Nanos>().ok());
            if let Some(t) = t {
                ends = Some(ends.map_or((t, t), |(first, last)| (first, last.max(t))));
            }
            self.ended |= self
                .line
                .get(..self.line.len().min(64))
                .is_some_and(|head| memchr::memmem::find(head, b"\"kind\":\"end\"").is_some());
        }
        (ends, self.loss)
    }

    fn read(&mut self) -> Option<Entry> {
        while self.advance() {
            let Ok(line) = serde_json::from_slice::<Line<'_>>(&self.line) else {
                self.loss.damaged += 1;
                continue;
            };
            let (t, at) = (line.t, line.at.unwrap_or(line.t));
            match body(line.kind, line.body) {
                Ok(Some(Body::Lost(lost))) => {
                    self.loss.lost.events += lost.events;
                    self.loss.lost.lines += lost.lines;
                }
                Ok(Some(Body::End)) => self.ended = true,
                Ok(Some(body)) => {
                    if let Some(event) = body.event() {
                        return Some(Entry { t, at, event });
                    }
                }
                Ok(None) => self.loss.unknown += 1,
                Err(_) => self.loss.damaged += 1,
            }
        }
        None
    }
}

impl Iterator for Reader {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.read()
    }
}

/// The recording inside a bundle, if the file is one.
fn bundled(path: &Path) -> Option<Box<dyn Read + Send>> {
    let mut archive = zstd::stream::read::Decoder::new(File::open(path).ok()?).ok()?;
    let mut head = [0; 17];
    archive.read_exact(&mut head).ok()?;
    if !BUNDLE.as_bytes().starts_with(head.get(..BUNDLE.len())?) {
        return None;
    }
    let archive = io::Cursor::new(head).chain(archive);
    let inner = tar::find(archive, &format!("{BUNDLE}/{BUNDLED_RECORDING}")).ok()?;
    Some(Box::new(inner))
}

/// The body of an entry; `None` where its kind is not known, or is known and says something new.
fn body(kind: &str, raw: &RawValue) -> Result<Option<Body>, serde_json::Error> {
    fn of<T: DeserializeOwned>(
        raw: &RawValue,
        make: impl FnOnce(T) -> Body,
    ) -> Result<Option<Body>, serde_json::Error> {
        match serde_json::from_str(raw.get()) {
            Ok(body) => Ok(Some(make(body))),
            // A variant that joined later.
            Err(e) if e.to_string().starts_with("unknown variant") => Ok(None),
            Err(e) => Err(e),
        }
    }
    match kind {
        "session" => of(raw, Body::Session),
        "limits" => of(raw, Body::Limits),
        "source" => of(raw, Body::Source),
        "log" => of(raw, Body::Log),
        "pod" => of(raw, Body::Pod),
        "kube-event" => of(raw, Body::KubeEvent),
        "workloads" => of(raw, Body::Workloads),
        "test" => of(raw, Body::Test),
        "probe" => of(raw, Body::Probe),
        "sample" => of(raw, Body::Sample),
        "node" => of(raw, Body::Node),
        "gpu-nodes" => of(raw, Body::GpuNodes),
        "edge" => of(raw, Body::Edge),
        "tick" => Ok(Some(Body::Tick)),
        "afresh" => Ok(Some(Body::Afresh)),
        "lost" => of(raw, Body::Lost),
        "end" => Ok(Some(Body::End)),
        _ => Ok(None),
    }
}
