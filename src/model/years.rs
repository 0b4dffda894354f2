//! Stamps without a year on one scale. The parser puts each of them in one and the same year, so that a log which
//! goes on past New Year would fall back by all of it; here the order of its own lines decides, and no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::SourceId;
use crate::parse::{At, Block, Moment, Nanos, Often, YEARLESS};

/// Two stamps in a row further apart than this are in different years: of the two ways around the calendar it is the
/// shorter one.
const HALF: Nanos = YEARLESS.1 / 2;
/// Around New Year a block may hold stamps of both years whatever its first and its last say.
const NEAR: Nanos = 86_400 * 1_000_000_000;
/// Years that a log may go on for, or lie before the first one read.
const MOST: Nanos = 100;

/// How far the stamps without a year have come, log by log.
#[derive(Debug, Clone, Default)]
pub struct Years {
    last: BTreeMap<SourceId, Nanos>,
    /// That of the log which was read last: where one begins is judged by it.
    newest: Option<Nanos>,
}

/// A stamp without a year, placed where it is nearest to the one before it.
fn place(ns: Nanos, before: Nanos) -> Nanos {
    let mut years = 0;
    while ns + years * YEARLESS.1 - before > HALF && years > -1 {
        years -= 1;
    }
    while before - (ns + years * YEARLESS.1) > HALF && years < MOST {
        years += 1;
    }
    ns + years * YEARLESS.1
}

/// Around New Year.
fn near(at: At) -> bool {
    let into = (at.ns - YEARLESS.0).rem_euclid(YEARLESS.1);
    into < NEAR || YEARLESS.1 - into <= NEAR
}

impl Years {
    /// Puts the stamps of a block behind those of its log. Once a year goes by, that costs a look at each of its
    /// facts; before, nothing a line.
    pub fn settle(&mut self, source: SourceId, block: &mut Arc<Block>) {
        let (Some(first), Some(last)) = (block.first_at, block.last_at) else {
            return;
        };
        if first.exact || last.exact {
            return;
        }
        let before = self.last.get(&source).copied().or(self.newest);
        let begins = place(first.ns, before.unwrap_or(first.ns));
        let apart = (last.ns - first.ns).abs() > HALF;
        let end = if begins == first.ns && !apart && !near(first) && !near(last) {
            last.ns
        } else {
            behind(Arc::make_mut(block), begins)
        };
        self.last.insert(source, end);
        self.newest = Some(end);
    }
}

/// Places every stamp of a block in the order of its lines; gives the last one.
fn behind(block: &mut Block, begins: Nanos) -> Nanos {
    let mut here = begins;
    let mut settle = |at: &mut Option<At>| {
        if let Some(at) = at.as_mut().filter(|at| !at.exact) {
            at.ns = place(at.ns, here);
            here = at.ns;
        }
    };
    settle(&mut block.first_at);
    let settle_often = |settle: &mut dyn FnMut(&mut Option<At>), line: &mut Often| {
        let mut at = line.at.at();
        settle(&mut at);
        line.at = Moment::of(at).unwrap_or(line.at);
    };
    let mut often = block.often.iter_mut().peekable();
    for rec in &mut block.recs {
        while let Some(line) = often.next_if(|o| o.line < rec.line) {
            settle_often(&mut settle, line);
        }
        settle(&mut rec.at);
    }
    for line in often {
        settle_often(&mut settle, line);
    }
    settle(&mut block.last_at);
    here
}
