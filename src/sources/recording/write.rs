//! Writing: event by event, redacted before it is text, flushed so that a cut leaves what came before.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use super::{Header, Lines, Lost};
use crate::model::event::{Event, Stamped};
use crate::model::testrun::TestEvent;
use crate::parse::Nanos;
use crate::report::redact::Redactor;

/// Level of compression: log text shrinks to a twentieth at a tenth of a core's time.
const LEVEL: i32 = 3;

/// A recording being written.
pub struct Writer<W: Write> {
    out: zstd::stream::write::Encoder<'static, W>,
    redactor: Redactor,
    line: Vec<u8>,
    /// Bytes of JSON so far.
    bytes: u64,
    events: u64,
    /// Where the time axis stands, once an event brought a time of its own: the clock of whoever writes is another
    /// one where a scenario or a recording is what is recorded.
    axis: Option<Nanos>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording with its header.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(out: W, header: &Header, redactor: Redactor) -> io::Result<Self> {
        let mut this = Self {
            out: zstd::stream::write::Encoder::new(out, LEVEL)?,
            redactor,
            line: Vec::new(),
            bytes: 0,
            events: 0,
            axis: None,
        };
        serde_json::to_writer(&mut this.line, header)?;
        this.put()?;
        this.out.flush()?;
        Ok(this)
    }

    fn put(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.bytes += self.line.len() as u64;
        self.out.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }

    /// Writes an event; `clock` is the time axis where the event carries none.
    ///
    /// # Errors
    /// What the file says.
    pub fn event(&mut self, stamped: &Stamped, clock: Nanos) -> io::Result<()> {
        let clock = self.axis.unwrap_or(clock);
        let own = match &stamped.event {
            Event::At(at, _) => *at,
            _ => stamped.at,
        };
        self.axis = Some(own).filter(|at| *at > 0).or(self.axis);
        if encode(stamped, clock, &mut self.redactor, &mut self.line)? {
            self.events += 1;
            self.put()?;
        }
        Ok(())
    }

    /// Says that something is missing here.
    ///
    /// # Errors
    /// What the file says.
    pub fn lost(&mut self, lost: Lost, clock: Nanos) -> io::Result<()> {
        let clock = self.axis.unwrap_or(clock);
        line(clock, clock, "lost", &lost, &mut self.line)?;
        self.put()
    }

    /// Hands everything so far to the file.
    ///
    /// # Errors
    /// What the file says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Ends the recording; gives the file back, and the redactor with what it took out.
    ///
    /// # Errors
    /// What the file says.
    pub fn finish(mut self, clock: Nanos) -> io::Result<(W, Redactor)> {
        let clock = self.axis.unwrap_or(clock);
        line(clock, clock, "end", &self.events, &mut self.line)?;
        self.put()?;
        Ok((self.out.finish()?, self.redactor))
    }

    /// What was written to, bytes of JSON so far, and what was taken out.
    pub fn so_far(&self) -> (&W, u64, &Redactor) {
        (self.out.get_ref(), self.bytes, &self.redactor)
    }
}

/// One event as a line without its end; false for what is no observation: keys, questions, messages.
///
/// # Errors
/// None that a vector could give; types that can't be JSON.
pub fn encode(
    stamped: &Stamped,
    clock: Nanos,
    redactor: &mut Redactor,
    out: &mut Vec<u8>,
) -> io::Result<bool> {
    let at = stamped.at;
    let t = if at > 0 { at } else { clock };
    let mut say = |kind: &str, body: &dyn erased::Body, redactor: &mut Redactor| {
        let mut body = body.value()?;
        redactor.tree(&mut body);
        line(t, at, kind, &body, out)
    };
    let lines = |source, block: &crate::parse::Block, redactor: &mut Redactor| {
        let text = redactor.lines(source_number(source), &block.text);
        Lines::new(source, block.first_line, text.into_owned())
    };
    match &stamped.event {
        Event::Session(s) => say("session", s, redactor)?,
        Event::Limits(l) => say("limits", l, redactor)?,
        Event::Source(s) => say("source", s, redactor)?,
        Event::Log(log) => {
            let lines = lines(log.source, &log.block, redactor);
            line(t, at, "log", &lines, out)?;
        }
        Event::Pod(p) => say("pod", p, redactor)?,
        Event::KubeEvent(e) => say("kube-event", e, redactor)?,
        Event::Workloads(w) => say("workloads", w, redactor)?,
        Event::Test(TestEvent::Planned(p)) => {
            say("test", &serde_json::json!({ "planned": &**p }), redactor)?
        }
        Event::Test(TestEvent::Phase(p, why)) => {
            say("test", &serde_json::json!({ "phase": [p, why] }), redactor)?;
        }
        Event::Test(TestEvent::Log { source, block }) => {
            let lines = lines(*source, block, redactor);
            line(t, at, "test", &serde_json::json!({ "log": lines }), out)?;
        }
        Event::Test(TestEvent::Source(s)) => {
            say("test", &serde_json::json!({ "source": s }), redactor)?
        }
        Event::Test(TestEvent::Ended(e)) => {
            say("test", &serde_json::json!({ "ended": e }), redactor)?
        }
        Event::Test(TestEvent::Cleaned(c)) => {
            say("test", &serde_json::json!({ "cleaned": c }), redactor)?;
        }
        Event::Probe(p) => say("probe", p, redactor)?,
        Event::Sample(s) => say("sample", s, redactor)?,
        Event::Node(n) => say("node", n, redactor)?,
        Event::GpuNodes(n) => say("gpu-nodes", n, redactor)?,
        Event::Edge(e) => say("edge", e, redactor)?,
        Event::Tick => line(t, at, "tick", &(), out)?,
        Event::Afresh => line(t, at, "afresh", &(), out)?,
        Event::At(at, event) => {
            let inner = Stamped {
                seq: stamped.seq,
                at: *at,
                event: (**event).clone(),
            };
            return encode(&inner, clock, redactor, out);
        }
        Event::Do(_)
        | Event::Note { .. }
        | Event::Resize { .. }
        | Event::Choice(_)
        | Event::Pressed(_)
        | Event::Ask(_)
        | Event::Unask(_)
        | Event::Position(_)
        | Event::Rewind => return Ok(false),
    }
    Ok(true)
}

/// Streams of a test have numbers of their own; a private key in one is not continued in the other.
fn source_number(source: crate::model::event::SourceId) -> u32 {
    source.0
}

fn line(
    t: Nanos,
    at: Nanos,
    kind: &str,
    body: &impl Serialize,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    write!(out, "{{\"t\":{t},")?;
    if at != t {
        write!(out, "\"at\":{at},")?;
    }
    write!(out, "\"kind\":\"{kind}\",\"body\":")?;
    serde_json::to_writer(&mut *out, body)?;
    out.push(b'}');
    Ok(())
}

/// Bodies of many types behind one.
mod erased {
    use super::{Serialize, Value, io};

    pub(super) trait Body {
        fn value(&self) -> io::Result<Value>;
    }

    impl<T: Serialize> Body for T {
        fn value(&self) -> io::Result<Value> {
            Ok(serde_json::to_value(self)?)
        }
    }
}
