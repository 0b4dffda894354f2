//! The redactor before what is shown: it listens to all that comes in, so that a value that was named once is known
//! wherever it stands, and paints over secrets on a drawn screen, so that everything else stays in its place.

use ratatui::buffer::Buffer;
use unicode_width::UnicodeWidthStr;

use crate::model::event::{Event, PodEvent, PodView, ProbeOutcome};
use crate::model::testrun::TestEvent;
use crate::report::redact::Redactor;

/// Remembers the values that an event names: what is shown, copied or written later may hold them without a name.
pub fn hear(event: &Event, redactor: &mut Redactor) {
    match event {
        Event::At(_, event) => hear(event, redactor),
        Event::Log(log) => {
            // Most lines come by the million, and the parser knows their words.
            let silent = log.block.silent.iter();
            let silent = silent.map(|(start, end)| (*start as usize, *end as usize));
            redactor.hear_but(log.source.0, &log.block.text, silent);
        }
        Event::Test(TestEvent::Log { source, block }) => {
            redactor.hear(OF_TESTS | source.0, &block.text);
        }
        Event::Pod(PodEvent::Upsert(pod)) => learn(pod, redactor),
        Event::KubeEvent(event) => redactor.hear(OF_OBJECTS, event.message.as_bytes()),
        Event::Probe(probe) => {
            redactor.hear(OF_PROBES, probe.ran.as_bytes());
            match &probe.outcome {
                ProbeOutcome::Answered { out, err, .. } => {
                    redactor.hear(OF_PROBES, out.as_bytes());
                    redactor.hear(OF_PROBES, err.as_bytes());
                }
                ProbeOutcome::Refused { why, .. } | ProbeOutcome::Failed { why } => {
                    redactor.hear(OF_PROBES, why.as_bytes());
                }
                ProbeOutcome::Began => {}
            }
        }
        _ => {}
    }
}

/// Streams of a test have numbers of their own.
const OF_TESTS: u32 = 1 << 31;
/// What is no stream.
const OF_OBJECTS: u32 = u32::MAX;
/// What was asked, and what came back.
const OF_PROBES: u32 = OF_OBJECTS - 1;

/// What a pod's specification names.
fn learn(pod: &PodView, redactor: &mut Redactor) {
    for container in pod.containers.iter().chain(&pod.init_containers) {
        for (name, value) in &container.env {
            redactor.learn(name, value.as_deref().unwrap_or_default());
        }
        let command: Vec<&str> = container
            .command
            .iter()
            .chain(&container.args)
            .map(String::as_str)
            .collect();
        redactor.hear(OF_OBJECTS, command.join(" ").as_bytes());
    }
}

/// Paints over every secret in a frame, also over one that was wrapped from a row to the next.
pub fn draw(frame: &mut Buffer, redactor: &mut Redactor) {
    if !redactor.is_on() {
        return;
    }
    let width = usize::from(frame.area.width.max(1));
    let mut hidden: Vec<usize> = Vec::new();
    // All rows without their margins, for values that reach over an edge.
    let (mut whole, mut places) = (String::new(), Vec::new());
    for (y, row) in frame.content.chunks(width).enumerate() {
        let (mut line, mut cells) = (String::new(), Vec::new());
        let mut covered = 0;
        for (x, cell) in row.iter().enumerate() {
            if x >= covered {
                covered = x + UnicodeWidthStr::width(cell.symbol()).max(1);
                line.push_str(cell.symbol());
                cells.resize(line.len(), y * width + x);
            }
        }
        for (from, to) in redactor.places(&line) {
            hidden.extend(cells.get(from..to).unwrap_or_default());
        }
        let start = line.len() - line.trim_start().len();
        let end = line.trim_end().len();
        whole.push_str(line.get(start..end).unwrap_or_default());
        places.extend_from_slice(cells.get(start..end).unwrap_or_default());
    }
    for (from, to) in redactor.known_places(&whole) {
        hidden.extend(places.get(from..to).unwrap_or_default());
    }
    for at in hidden {
        if let Some(cell) = frame.content.get_mut(at) {
            cell.set_symbol("*");
        }
    }
}
