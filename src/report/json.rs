//! The report as one JSON object: readable for a person too, small where there is much of it.

use std::cell::RefCell;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use super::Report;
use super::redact::{Redacted, Redactor};
use crate::parse::is_unseen;

/// Writes the report and a line end, every text through the redactor.
///
/// # Errors
/// What `out` says.
pub fn write(
    mut out: impl Write,
    report: &Report<'_>,
    redactor: &RefCell<Redactor>,
) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Layout::default());
    Redacted::new(report, redactor)
        .serialize(&mut serializer)
        .map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// Lists of plain values stay on one line, because a hundred channel numbers below each other help nobody.
/// Objects are opened up to the second level; a deeper one, such as an edge, is a line of its own.
#[derive(Default)]
struct Layout {
    /// Objects around what is written now.
    depth: usize,
    /// Objects and lists around it.
    indent: usize,
    /// The last thing written ended a line of its own.
    opened: bool,
    /// The value to come is an element of a list.
    element: bool,
}

/// Levels of objects that are written a key a line.
const OPEN_LEVELS: usize = 2;

impl Layout {
    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        for _ in 0..self.indent {
            out.write_all(b"  ")?;
        }
        Ok(())
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.indent += 1;
        self.opened = false;
        out.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.indent -= 1;
        if std::mem::take(&mut self.opened) {
            self.line(out)?;
        }
        out.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.element = true;
        if first { Ok(()) } else { out.write_all(b",") }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.element = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if std::mem::take(&mut self.element) && self.depth <= OPEN_LEVELS {
            self.line(out)?;
        }
        self.depth += 1;
        self.indent += 1;
        out.write_all(b"{")
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        // What a terminal would obey is written so that a reader gets it and a terminal does not.
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unseen(*c)) {
            let (before, tail) = rest.split_at(at);
            write!(out, "{before}\\u{:04x}", u32::from(c))?;
            rest = tail.get(c.len_utf8()..).unwrap_or_default();
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        match self.depth <= OPEN_LEVELS {
            true => self.line(out),
            false if first => Ok(()),
            false => out.write_all(b" "),
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.element = false;
        out.write_all(b": ")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.indent -= 1;
        if self.depth < OPEN_LEVELS {
            self.line(out)?;
        }
        // A list of objects that stand on lines of their own ends on one, too.
        self.opened = self.depth <= OPEN_LEVELS;
        out.write_all(b"}")
    }
}
