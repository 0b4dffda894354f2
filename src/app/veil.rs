//! The redactor over a drawn screen: secrets are painted over, so that everything else stays in its place.

use ratatui::buffer::Buffer;
use unicode_width::UnicodeWidthStr;

use crate::model::Model;
use crate::report::redact::Redactor;

/// Most text of the kept lines that is read for values that were named once.
const LEARNED: usize = 8 << 20;

/// Remembers what the model knows by its name: a screen may show the value of a variable without the name.
pub fn learn(model: &Model, redactor: &mut Redactor) {
    let containers = model
        .pods
        .iter()
        .flat_map(|(_, p)| p.containers.iter().chain(&p.init_containers));
    for container in containers {
        for (name, value) in &container.env {
            redactor.learn(name, value.as_deref().unwrap_or_default());
        }
        let command: Vec<&str> = container
            .command
            .iter()
            .chain(&container.args)
            .map(String::as_str)
            .collect();
        redactor.text(&command.join(" "));
    }
    let mut read = 0;
    for (_, ring) in model.logs.iter().flat_map(|logs| logs.iter()) {
        for line in ring.lines.iter().rev() {
            read += line.text.len();
            if read > LEARNED {
                return;
            }
            redactor.text(&line.text);
        }
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
