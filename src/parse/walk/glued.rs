//! Lines in which NCCL's word does not stand where it should: several heads, a damaged one, text in front,
//! a message that goes on in the next line.

use super::{Piece, Place, Walk};
use crate::parse::bytes::{find, offset};
use crate::parse::envelope::{self, Peeled};
use crate::parse::fact::{At, Fact};
use crate::parse::head::{self, Tail};
use crate::parse::{cleaned, nccl, stamp};

/// Words that may stand before a damaged head.
const LOOSE_WORDS: usize = 3;

impl Walk<'_> {
    /// A message that a terminal or a write-up wrapped in mid-sentence: read again with the next line, if
    /// that makes sense of it.
    pub(super) fn wrapped(
        &self,
        tail: &Tail<'_>,
        msg: &[u8],
        place: Place,
        alone: Option<Fact>,
    ) -> (Option<Fact>, Option<u32>) {
        let from = usize::try_from(place.end).unwrap_or(usize::MAX);
        let Some(next) = place
            .base
            .and_then(|_| self.text.get(from..))
            .and_then(|rest| rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")))
        else {
            return (alone, None);
        };
        let near = next.get(..1024.min(next.len())).unwrap_or_default();
        let next = near
            .get(..memchr::memchr(b'\n', near).unwrap_or(near.len()))
            .unwrap_or_default();
        let trimmed = next.trim_ascii();
        if trimmed.is_empty()
            || self.finder.find(trimmed).is_some()
            || trimmed.get(4) == Some(&b'-')
        {
            return (alone, None);
        }
        let mut joined = msg.to_vec();
        if trimmed.len() < next.len() && next.first().is_some_and(|b| *b <= b' ') {
            joined.push(b' ');
        }
        joined.extend_from_slice(trimmed);
        match nccl::fact(tail, &joined) {
            Some(fact) => (Some(fact), u32::try_from(from + 1 + next.len()).ok()),
            None => (alone, None),
        }
    }

    /// The lines without a head that follow the WARN about NVLink SHARP (nccl-logs.md 7.6): adds them to its
    /// text and says where the last one ends.
    pub(super) fn goes_on(&self, msg: &[u8], place: Place, text: &mut String) -> Option<u32> {
        const LINES: [&[u8]; 3] = [
            b"This is usually caused by ",
            b"Do not force-enable NVLS",
            b"Disable NVLS",
        ];
        if !msg.starts_with(b"Failed to bind NVLink SHARP") || place.base.is_none() {
            return None;
        }
        let mut end = None;
        let mut from = usize::try_from(place.end).ok()?;
        loop {
            let rest = self.text.get(from..).unwrap_or_default();
            let gap = match rest {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => return end,
            };
            let rest = rest.get(gap..).unwrap_or_default();
            let line = rest
                .get(..memchr::memchr(b'\n', rest).unwrap_or(rest.len()))
                .unwrap_or_default();
            // Prefixes of viewers and kubelets stand before these lines too.
            let Some(words) = LINES.iter().find_map(|words| find(line, words)) else {
                return end;
            };
            text.push(' ');
            text.push_str(&cleaned(line.get(words..).unwrap_or_default()));
            from += gap + line.trim_ascii_end().len();
            end = u32::try_from(from).ok();
        }
    }

    /// A line in which NCCL's word does not stand where it should.
    pub(super) fn glued(&mut self, s: &[u8], p: &Peeled<'_>, place: Place) {
        let floor = offset(s, p.rest);
        if p.rest.starts_with(b"{") || is_record(p.rest) {
            // JSON bodies and records of the application quote what they like.
            self.foreign(s, p, place);
            return;
        }
        let outer = self.outer(&p.prefix);
        let mut open: Option<Piece<'_>> = None;
        let mut from = floor;
        let mut any = self.bare_version(p, place);
        while let Some(hit) = self.next_hit(s, from) {
            from = hit + 4;
            // The finder knows `CCL `; the word begins a byte before.
            let Some(hit) = hit
                .checked_sub(1)
                .filter(|at| *at >= floor && s.get(*at) == Some(&b'N'))
            else {
                continue;
            };
            let bottom = open.map_or(floor, |piece| piece.msg);
            let Some(back) = head::back(s, bottom, hit) else {
                continue;
            };
            let mut start = back.start;
            let before = s.get(bottom..start).unwrap_or_default();
            if open.is_none() && !any && is_quoted(before, back.who.is_none(), p) {
                break;
            }
            let who = back.who.map(|(host, pid)| {
                let clean = start == floor;
                let host = if clean { host } else { self.known(host) };
                start = if s.get(start) == Some(&b':') {
                    start
                } else {
                    self.start_of(s, start, host)
                };
                (self.head(host, pid, outer, clean), back.tail.tid)
            });
            let (at, start) = match self.own_stamp(s, bottom, start) {
                Some((at, start)) => (place.at.or(p.at).filter(|at| at.exact).or(Some(at)), start),
                None => (place.at.or(p.at), start),
            };
            if let Some(piece) = open.take() {
                self.message(s, &piece, start, place, false);
            }
            open = Some(Piece {
                who,
                tail: back.tail,
                at,
                outer,
                start: if any || start > floor { start } else { 0 },
                msg: offset(s, back.tail.msg),
            });
            if !any {
                // The prefixes belong to the first piece.
                open = open.map(|piece| Piece { start: 0, ..piece });
            }
            any = true;
            from = from.max(offset(s, back.tail.msg));
        }
        if let Some(piece) = open {
            self.message(s, &piece, s.len(), place, p.prefix.repeated > 0);
        }
        if any {
            self.count_nccl(place.line);
        } else {
            self.foreign(s, p, place);
        }
    }

    /// The known host that `host` ends in, if something was glued to its front (nccl-logs.md 1.3).
    pub(super) fn known<'a>(&self, host: &'a [u8]) -> &'a [u8] {
        let mut best: &[u8] = &[];
        for head in self
            .out
            .heads
            .iter()
            .filter(|h| h.clean && !h.host.is_empty())
        {
            let name = head.host.as_bytes();
            if name == host {
                return host;
            }
            if name.len() > best.len() && host.ends_with(name) {
                best = host.get(host.len() - name.len()..).unwrap_or(host);
            }
        }
        if best.is_empty() { host } else { best }
    }

    /// Where `host`, a tail of what stands at `start`, begins.
    pub(super) fn start_of(&self, s: &[u8], start: usize, host: &[u8]) -> usize {
        let run = s
            .get(start..)
            .and_then(|t| t.iter().position(|b| matches!(b, b':' | b' ')))
            .unwrap_or(host.len());
        start + run.saturating_sub(host.len())
    }

    /// `[2025-03-04 05:06:07] ` right before a head that is not the first of its line.
    pub(super) fn own_stamp(
        &mut self,
        s: &[u8],
        bottom: usize,
        start: usize,
    ) -> Option<(At, usize)> {
        let before = s.get(bottom..start)?.strip_suffix(b"] ")?;
        let open = before.iter().rposition(|b| *b == b'[')?;
        let (at, rest) = self.clock.date_time(before.get(open + 1..)?)?;
        rest.is_empty().then_some((at, bottom + open))
    }

    /// The lines that waited.
    pub(super) fn glued_lines(&mut self) {
        let text = self.text;
        let waiting = std::mem::take(&mut self.waiting);
        for place in &waiting {
            let (start, end) = (place.start as usize, place.end as usize);
            let s = text.get(start..end).unwrap_or_default();
            let p = envelope::peel(s, &mut self.clock);
            self.glued(s, &p, *place);
        }
        if !waiting.is_empty() {
            self.out.recs.sort_by_key(|rec| rec.line);
        }
    }
}

/// A record of the application: `INFO 11-20 08:04:55 […`, `INFO:     …`, `2025-09-03 10:00:04,412 …`.
fn is_record(s: &[u8]) -> bool {
    if s.get(19) == Some(&b',') && s.get(4) == Some(&b'-') {
        return true;
    }
    envelope::header(s).is_some_and(|rest| {
        rest.starts_with(b": ") || rest.strip_prefix(b" ").and_then(stamp::month_day).is_some()
    })
}

/// Whether the text before the first head says that somebody quotes it.
fn is_quoted(before: &[u8], loose: bool, p: &Peeled<'_>) -> bool {
    let trimmed = before.trim_ascii();
    let quote = |b: &u8| matches!(b, b'"' | b'\'' | b'`' | b'\\');
    if before.last().is_some_and(quote) || (p.prefix.is_api_server() && !trimmed.is_empty()) {
        return true;
    }
    loose && (trimmed.iter().any(quote) || trimmed.split(|b| *b == b' ').count() > LOOSE_WORDS)
}
