//! A recording: raw observations as lines of JSON behind a header, compressed with zstd.
//!
//! Only what the world said is written: log text with its place, objects, answers, samples. What follows from it is
//! derived anew when it is read, so that a better parser improves an old recording. A reader skips what it does not
//! know and what is damaged, and counts both; a recording that was cut off is read to where it ends.
//!
//! ```text
//! {"schema":"ncclscope.recording/v1","program_version":"0.1.0","verb":"demo healthy","started":…,"redacted":true}
//! {"t":1763694000000000000,"kind":"log","body":{"source":0,"first_line":1,"text":"…"}}
//! ```
//!
//! `t` is the time axis, nanoseconds since the Unix epoch; `at` stands beside it where an event carried no time.

mod read;
mod tape;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::event::{
    EdgeEvent, Event, GpuNodes, KubeEvent, LogBlock, NodeView, PodEvent, ProbeEvent, SampleEvent,
    Session, SourceEvent, SourceId, WorkloadView,
};
use crate::model::limits::Limits;
use crate::model::testrun::{Ending, Phase, Planned, TestEvent};
use crate::parse::{Block, Nanos};

pub use read::{Entry, Loss, Reader, RecordingError, is_recording};
pub use tape::play;
pub use write::{Writer, encode};

/// Name and version of the schema.
pub const SCHEMA: &str = "ncclscope.recording/v1";

/// What every schema of recordings begins with.
pub(super) const FAMILY: &str = "ncclscope.recording/";

/// Folder that everything in a bundle lies in.
pub const BUNDLE: &str = "ncclscope-bundle";
/// The recording in it.
pub const BUNDLED_RECORDING: &str = "recording.jsonl.zst";
/// What lists its contents.
pub const BUNDLED_MANIFEST: &str = "manifest.json";
/// Where the logs in it are.
pub const BUNDLED_LOGS: &str = "logs";

/// The first line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program that wrote it.
    pub program_version: String,
    /// What was running: `demo healthy`, `report`.
    pub verb: String,
    /// When it began, nanoseconds since the Unix epoch.
    pub started: Nanos,
    /// Secrets were taken out.
    pub redacted: bool,
}

impl Header {
    /// A header of this version of the program.
    #[must_use]
    pub fn new(verb: impl Into<String>, started: Nanos, redacted: bool) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            verb: verb.into(),
            started,
            redacted,
        }
    }
}

/// Lines of a source, as they are written.
#[derive(Debug, Serialize, Deserialize)]
struct Lines {
    source: SourceId,
    first_line: u64,
    /// Where the lines are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Where they are not: a byte a letter, as in Latin 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latin: Option<String>,
}

impl Lines {
    fn new(source: SourceId, first_line: u64, bytes: Vec<u8>) -> Self {
        let (text, latin) = match String::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(e) => {
                let bytes = e.into_bytes();
                (None, Some(bytes.into_iter().map(char::from).collect()))
            }
        };
        Self {
            source,
            first_line,
            text,
            latin,
        }
    }

    fn block(self) -> (SourceId, Arc<Block>) {
        let bytes = match (self.text, self.latin) {
            (Some(text), _) => text.into_bytes(),
            (None, latin) => latin
                .unwrap_or_default()
                .chars()
                .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
                .collect(),
        };
        let block = Block::new(self.first_line.max(1), bytes);
        (self.source, Arc::new(block))
    }
}

/// Something that could not be written in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// Events.
    pub events: u64,
    /// Log lines among them.
    pub lines: u64,
}

/// An event of the all-reduce test, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Tested {
    Planned(Box<Planned>),
    Phase(Phase, Option<String>),
    Source(SourceEvent),
    Log(Lines),
    Ended(Ending),
    Cleaned(Vec<String>),
}

/// What stands in `body`, by `kind`. A kind of a newer version is skipped by older ones.
#[derive(Debug)]
enum Body {
    Session(Session),
    Limits(Limits),
    Source(SourceEvent),
    Log(Lines),
    Pod(PodEvent),
    KubeEvent(KubeEvent),
    Workloads(Vec<WorkloadView>),
    Test(Tested),
    Probe(ProbeEvent),
    Sample(SampleEvent),
    Node(Box<NodeView>),
    GpuNodes(GpuNodes),
    Edge(EdgeEvent),
    Tick,
    Afresh,
    Lost(Lost),
    End,
}

impl Body {
    fn event(self) -> Option<Event> {
        Some(match self {
            Self::Session(s) => Event::Session(s),
            Self::Limits(l) => Event::Limits(l),
            Self::Source(s) => Event::Source(s),
            Self::Log(lines) => {
                let (source, block) = lines.block();
                Event::Log(LogBlock { source, block })
            }
            Self::Pod(p) => Event::Pod(p),
            Self::KubeEvent(e) => Event::KubeEvent(e),
            Self::Workloads(w) => Event::Workloads(w),
            Self::Test(t) => Event::Test(match t {
                Tested::Planned(p) => TestEvent::Planned(Arc::from(p)),
                Tested::Phase(p, why) => TestEvent::Phase(p, why),
                Tested::Source(s) => TestEvent::Source(s),
                Tested::Log(lines) => {
                    let (source, block) = lines.block();
                    TestEvent::Log { source, block }
                }
                Tested::Ended(e) => TestEvent::Ended(e),
                Tested::Cleaned(left) => TestEvent::Cleaned(left),
            }),
            Self::Probe(p) => Event::Probe(p),
            Self::Sample(s) => Event::Sample(s),
            Self::Node(n) => Event::Node(n),
            Self::GpuNodes(n) => Event::GpuNodes(n),
            Self::Edge(e) => Event::Edge(e),
            Self::Tick => Event::Tick,
            Self::Afresh => Event::Afresh,
            Self::Lost(_) | Self::End => return None,
        })
    }
}
