//! Where the numbers of a line stand.
//!
//! Lines of one shape have their numbers at the same places: where one of them was read with cursors, the next is
//! read without looking for anything. Both ways go through the same table of a sentence's numbers, which holds
//! cursors first and places afterwards.

use std::sync::Arc;

use super::progress::{BarAt, bar_at};
use super::scan::{Cur, TENS, after};
use super::{Counted, Hit, Stats, VllmFact};
use crate::parse::bytes::eight_digits;

/// A number of a line.
pub(super) trait Number: Copy {
    /// A whole one.
    fn whole(self, line: &[u8]) -> Option<u64>;
    /// One that may have decimals.
    fn decimal(self, line: &[u8]) -> Option<f64>;
    /// `MM:SS` in seconds.
    fn duration(self, line: &[u8]) -> Option<u32>;
    /// What is left of one that may have decimals where only whole things count.
    #[inline]
    fn floor(self, line: &[u8]) -> Option<u64> {
        let v = self.decimal(line)?;
        // Casting saturates.
        (v >= 0.0).then_some(v as u64)
    }
}

impl Number for Cur<'_> {
    fn whole(mut self, _: &[u8]) -> Option<u64> {
        self.uint()
    }

    fn decimal(mut self, _: &[u8]) -> Option<f64> {
        self.float()
    }

    fn duration(mut self, _: &[u8]) -> Option<u32> {
        self.span()
    }
}

/// Up to eight digits in the lines of a shape.
#[derive(Debug, Clone, Copy, Default)]
struct Digits {
    /// Where the eight bytes begin that end with them.
    from: u16,
    /// How many bits of those stand before them.
    before: u8,
}

impl Digits {
    /// Those that begin at `at`, and how many they are: not more than seven.
    fn of(line: &[u8], at: usize) -> Option<(Self, usize)> {
        let run = line.get(at..)?.iter().take_while(|b| b.is_ascii_digit());
        let digits = run.count();
        (1..8)
            .contains(&digits)
            .then(|| Some((Self::ending(at + digits, digits)?, digits)))?
    }

    /// So many that end at `end`.
    fn ending(end: usize, digits: usize) -> Option<Self> {
        Some(Self {
            from: u16::try_from(end.checked_sub(8)?).ok()?,
            before: u8::try_from(8_usize.checked_sub(digits)? * 8).ok()?,
        })
    }

    #[inline]
    fn read(self, line: &[u8]) -> Option<u64> {
        let from = usize::from(self.from);
        let word = u64::from_le_bytes(*line.get(from..from + 8)?.first_chunk()?);
        Some(eight_digits(word & (u64::MAX << (self.before & 63))))
    }
}

/// A number in the lines of a shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    whole: Digits,
    /// What stands behind its dot.
    part: Digits,
    decimals: u8,
}

impl Spot {
    /// The place of a number that begins at `c`, at the end of `line`.
    pub(super) fn of(line: &[u8], c: Cur<'_>) -> Option<Self> {
        let at = line.len().checked_sub(c.rest.len())?;
        let (whole, digits) = Digits::of(line, at)?;
        let behind = at + digits + 1;
        let has_part =
            line.get(behind - 1) == Some(&b'.') && line.get(behind).is_some_and(u8::is_ascii_digit);
        let (part, decimals) = if has_part {
            Digits::of(line, behind)?
        } else {
            (Digits::default(), 0)
        };
        Some(Self {
            whole,
            part,
            decimals: u8::try_from(decimals).ok()?,
        })
    }

    /// That of minutes and two digits of seconds, read at once with the colon between them.
    pub(super) fn of_span(line: &[u8], c: Cur<'_>) -> Option<Self> {
        let at = line.len().checked_sub(c.rest.len())?;
        let (_, minutes) = Digits::of(line, at)?;
        let end = at + minutes + 3;
        let (_, 2) = Digits::of(line, end - 2)? else {
            return None;
        };
        let colon = |at: usize| line.get(at) == Some(&b':');
        (colon(end - 3) && !colon(end)).then(|| {
            Some(Self {
                whole: Digits::ending(end, minutes + 3)?,
                part: Digits::default(),
                decimals: 0,
            })
        })?
    }
}

impl Number for Spot {
    #[inline]
    fn whole(self, line: &[u8]) -> Option<u64> {
        self.whole.read(line)
    }

    #[inline]
    fn decimal(self, line: &[u8]) -> Option<f64> {
        let whole = self.whole.read(line)? as f64;
        if self.decimals == 0 {
            return Some(whole);
        }
        // All of these are whole and exact, so that the quotient is the nearest number to what is printed.
        let ten = TENS.get(usize::from(self.decimals))?;
        Some((whole * ten + self.part.read(line)? as f64) / ten)
    }

    #[inline]
    fn floor(self, line: &[u8]) -> Option<u64> {
        self.whole.read(line)
    }

    #[inline]
    fn duration(self, line: &[u8]) -> Option<u32> {
        // A colon counts as a ten where a digit of hundreds would be.
        let v = self.whole.read(line)?;
        u32::try_from((v / 1000).checked_sub(1)? * 60 + v % 1000).ok()
    }
}

/// What [`Spot::of`] or [`Spot::of_span`] says of a number that may lack: that it lacks, and does in every line of
/// the shape, is said with a `None` inside.
pub(super) fn maybe<'a>(
    c: Option<Cur<'a>>,
    of: impl Fn(Cur<'a>) -> Option<Spot>,
) -> Option<Option<Spot>> {
    match c.map(|c| (c, c.rest.first())) {
        Some((_, Some(b'-'))) => None,
        Some((c, Some(b'0'..=b'9'))) => Some(Some(of(c)?)),
        _ => Some(None),
    }
}

/// The numbers of serving statistics.
#[derive(Debug, Clone, Copy)]
struct StatsAt<T> {
    engine: Option<T>,
    prompt: T,
    generation: T,
    running: T,
    waiting: T,
    usage: Option<T>,
}

impl<T: Number> StatsAt<T> {
    #[inline]
    fn read(&self, line: &[u8]) -> Option<Stats> {
        let engine = self.engine.and_then(|n| n.whole(line));
        Some(Stats {
            engine: engine.and_then(|n| u32::try_from(n).ok()),
            prompt_tps: self.prompt.decimal(line)?,
            generation_tps: self.generation.decimal(line)?,
            running: self.running.whole(line)?,
            waiting: self.waiting.whole(line)?,
            kv_percent: self.usage.and_then(|n| n.decimal(line)),
        })
    }
}

fn stats_at<'a>(h: &Hit<'a>) -> Option<StatsAt<Cur<'a>>> {
    let mut engine = Cur::new(h.msg);
    let engine = engine.eat("Engine ").then_some(engine);
    let prompt = h.cur();
    let mut c = prompt;
    c.float()?;
    // What stands there as a rule, then wherever it stands.
    if !c.eat(" tokens/s, Avg generation throughput: ") {
        c.seek("Avg generation t")?;
        c.seek(": ")?;
    }
    let generation = c;
    c.float()?;
    if !c.eat(" tokens/s, Running: ") {
        c.seek("Running: ")?;
    }
    let running = c;
    c.uint::<u64>()?;
    let waiting = if c.eat(" reqs, Waiting: ") {
        c
    } else {
        after(c.rest, "Waiting: ").or_else(|| after(c.rest, "Pending: "))?
    };
    c = waiting;
    c.uint::<u64>()?;
    let usage = if c.eat(" reqs, GPU KV cache usage: ") {
        Some(c)
    } else {
        after(c.rest, "KV cache usage: ")
    };
    Some(StatsAt {
        engine,
        prompt,
        generation,
        running,
        waiting,
        usage,
    })
}

/// `Avg prompt throughput: …` (S73, S74).
pub(super) fn stats(h: &Hit<'_>) -> Option<VllmFact> {
    Some(VllmFact::Stats(stats_at(h)?.read(h.msg)?))
}

/// The numbers of a model that is loaded.
#[derive(Debug, Clone, Copy)]
struct LoadedAt<T> {
    gib: T,
    seconds: Option<T>,
}

impl<T: Number> LoadedAt<T> {
    #[inline]
    fn read(&self, line: &[u8]) -> Option<VllmFact> {
        Some(VllmFact::ModelDone {
            gib: self.gib.decimal(line)?,
            seconds: self.seconds.and_then(|n| n.decimal(line)),
        })
    }
}

fn loaded_at<'a>(h: &Hit<'a>) -> Option<LoadedAt<Cur<'a>>> {
    let gib = h.cur();
    let mut c = gib;
    c.float()?;
    c.skip(" GiB")?;
    let seconds = after(c.rest, " and ");
    Some(LoadedAt { gib, seconds })
}

/// `Model loading took …` (S46).
pub(super) fn loaded(h: &Hit<'_>) -> Option<VllmFact> {
    loaded_at(h)?.read(h.msg)
}

/// Where the numbers stand that the lines of a shape are read for.
#[derive(Debug, Clone)]
pub(super) enum Places {
    Stats(StatsPlaces),
    Loaded(LoadedPlaces),
    Bar(BarAt<Spot>),
}

/// Those of [`VllmFact::Stats`].
#[derive(Debug, Clone)]
pub(super) struct StatsPlaces(StatsAt<Spot>);

/// Those of [`VllmFact::ModelDone`].
#[derive(Debug, Clone)]
pub(super) struct LoadedPlaces(LoadedAt<Spot>);

impl Places {
    /// Those of a `line` at whose end the message of `h` stands, which was read and says `fact`. None where it is
    /// nothing of the kind, or a number is longer than others.
    pub(super) fn of(line: &[u8], h: &Hit<'_>, fact: &VllmFact) -> Option<Self> {
        let spot = |c| Spot::of(line, c);
        let places = match fact {
            VllmFact::Stats(_) => {
                let at = stats_at(h)?;
                Self::Stats(StatsPlaces(StatsAt {
                    engine: maybe(at.engine, spot)?,
                    prompt: spot(at.prompt)?,
                    generation: spot(at.generation)?,
                    running: spot(at.running)?,
                    waiting: spot(at.waiting)?,
                    usage: maybe(at.usage, spot)?,
                }))
            }
            VllmFact::ModelDone { .. } => {
                let at = loaded_at(h)?;
                Self::Loaded(LoadedPlaces(LoadedAt {
                    gib: spot(at.gib)?,
                    seconds: maybe(at.seconds, spot)?,
                }))
            }
            VllmFact::Progress(_) => {
                let (at, words) = bar_at(h.msg, h.at)?;
                // Words with a number in them are other ones in the next line.
                let same = !words.iter().any(u8::is_ascii_digit);
                Self::Bar(same.then(|| at.places(line))??)
            }
            _ => return None,
        };
        let bar = match fact {
            VllmFact::Progress(bar) => Some((bar.counted, Arc::clone(&bar.what))),
            _ => None,
        };
        (places.read(line, bar.as_ref()).as_ref() == Some(fact)).then_some(places)
    }

    /// What a line says; `bar` is what the bars of its shape count, and their words.
    #[inline]
    pub(super) fn read(&self, line: &[u8], bar: Option<&(Counted, Arc<str>)>) -> Option<VllmFact> {
        match self {
            Self::Stats(at) => Some(VllmFact::Stats(at.0.read(line)?)),
            Self::Loaded(at) => at.0.read(line),
            Self::Bar(at) => {
                let (counted, what) = bar?;
                Some(VllmFact::Progress(at.read(line, *counted, what)?))
            }
        }
    }
}
