//! Lines inside lines: cleaned, decoded from a shipper's JSON, or joined from the partial records of CRI.

use super::{Partial, Place, Walk, has_controls, offset32};
use crate::parse::envelope::{self, Peeled};
use crate::parse::{json, text};

/// Most bytes of a line that CRI cut into partial records.
const JOINED: usize = 1024 * 1024;

impl Walk<'_> {
    /// A line with escape codes, carriage returns or NULs in it.
    pub(super) fn dirty(&mut self, bytes: &[u8], place: Place, hits: u32) {
        let place = Place {
            base: None,
            ..place
        };
        let mut copy = std::mem::take(&mut self.scratch);
        let last = bytes
            .rsplit(|b| *b == b'\r')
            .position(|piece| !piece.trim_ascii().is_empty())
            .unwrap_or(0);
        let pieces = bytes.split(|b| *b == b'\r').count();
        // Stamp and process prefix stand in front of the first piece and hold for what is written over it.
        let mut prefix: Vec<u8> = Vec::new();
        let mut stamp = place.at;
        if pieces > 1 {
            copy.clear();
            text::strip(
                bytes.split(|b| *b == b'\r').next().unwrap_or_default(),
                &mut copy,
            );
            let p = envelope::peel(&copy, &mut self.clock);
            if p.cri.is_none_or(|(_, more)| !more) {
                stamp = stamp.or(p.at);
                let len = copy.len().saturating_sub(p.rest.len());
                prefix.extend_from_slice(copy.get(..len).unwrap_or_default());
            }
        }
        for (n, piece) in bytes.split(|b| *b == b'\r').enumerate() {
            // A progress bar rewrites itself: what stands last is what the reader saw.
            let shown = n + 1 + last == pieces;
            if piece.is_empty() || (!shown && (hits == 0 || self.hits(piece) == 0)) {
                continue;
            }
            copy.clear();
            if n > 0 && hits == 0 && !prefix.is_empty() {
                let own = envelope::peel(piece, &mut self.clock);
                if own.at.is_none() && own.rest.len() == piece.len() {
                    copy.extend_from_slice(&prefix);
                }
            }
            text::strip(piece, &mut copy);
            let place = Place {
                at: if n > 0 { stamp } else { place.at },
                ..place
            };
            let hits = if hits == 0 { 0 } else { self.hits(&copy) };
            self.line(&copy, place, hits);
        }
        self.scratch = copy;
    }

    /// The text of a shipper's record, which may hold several lines.
    pub(super) fn unwrapped(&mut self, wrapped: &json::Wrapped<'_>, p: &Peeled<'_>, place: Place) {
        let stamp = self.clock.date_time(&wrapped.stamp).map(|(at, _)| at);
        let at = place.at.or(p.at.filter(|at| at.exact)).or(stamp).or(p.at);
        let inner = Place {
            base: None,
            at,
            depth: place.depth + 1,
            ..place
        };
        // The pod that the shipper names stands in front of each line, as kubectl puts it there.
        let mut named = Vec::new();
        wrapped.place.prefix(&mut named);
        let prefix = named.len();
        for line in wrapped.line.split(|b| *b == b'\n') {
            if prefix == 0 {
                self.copy(line, inner);
                continue;
            }
            named.truncate(prefix);
            named.extend_from_slice(line);
            self.copy(&named, inner);
        }
    }

    /// Reads a decoded or joined copy of a line.
    pub(super) fn copy(&mut self, line: &[u8], place: Place) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let hits = self.hits(line);
        if has_controls(line) {
            self.dirty(line, place, hits);
        } else {
            self.line(line, place, hits);
        }
    }

    /// Keeps a partial record of CRI, or completes the line with its last one.
    pub(super) fn join(&mut self, p: &Peeled<'_>, place: Place, err: bool, more: bool) {
        self.note(p.at);
        let Some(slot) = self.partial.get_mut(usize::from(err)) else {
            return;
        };
        let partial = slot.get_or_insert_with(|| Partial {
            start: place.start,
            at: p.at,
            bytes: Vec::new(),
        });
        let room = JOINED.saturating_sub(partial.bytes.len());
        partial
            .bytes
            .extend_from_slice(p.rest.get(..room).unwrap_or(p.rest));
        if !more && let Some(partial) = slot.take() {
            self.joined(&partial, place);
        }
    }

    pub(super) fn joined(&mut self, partial: &Partial, place: Place) {
        let place = Place {
            start: partial.start,
            base: None,
            at: partial.at,
            depth: place.depth + 1,
            ..place
        };
        self.copy(&partial.bytes, place);
    }

    /// Partial records whose end is not in this block.
    pub(super) fn leftovers(&mut self) {
        let line = self.out.lines.saturating_sub(1);
        let end = offset32(self.text.len());
        for slot in 0..self.partial.len() {
            if let Some(partial) = self.partial.get_mut(slot).and_then(Option::take) {
                self.joined(
                    &partial,
                    Place {
                        line,
                        start: partial.start,
                        end,
                        base: None,
                        at: None,
                        depth: 0,
                    },
                );
            }
        }
    }
}
