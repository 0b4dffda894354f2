//! Progress bars: tqdm in all the shapes that vLLM and the hub client print.

use std::sync::Arc;

use super::places::{Number, Spot, maybe};
use super::scan::{Cur, find, text};

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Checkpoint shards of the whole model, whatever the parallel layout (A20).
    Shards,
    /// Tensors streamed (Run:ai streamer and kin).
    Tensors,
    /// Files read ahead into the page cache (S43).
    Prefetch,
    /// CUDA graphs captured (A21).
    Graphs,
    /// Kernels warmed up before capture.
    Warmup,
    /// Files fetched from a hub.
    Files,
    /// Bytes fetched from a hub.
    Bytes,
}

impl Counted {
    /// Unit word, as the report prints it.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Tensors => "tensors",
            Self::Prefetch | Self::Files => "files",
            Self::Graphs => "graphs",
            Self::Warmup => "steps",
            Self::Bytes => "bytes",
        }
    }
}

/// One state of a progress bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is counted.
    pub counted: Counted,
    /// The bar's own words (`Loading safetensors checkpoint shards`, a file name).
    pub what: Arc<str>,
    /// Done.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// Seconds since the bar began.
    pub elapsed_s: Option<u32>,
    /// Seconds that the bar believes are left.
    pub remaining_s: Option<u32>,
    /// Units per second.
    pub rate: Option<f64>,
}

/// The numbers of a bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct BarAt<T> {
    done: Amount<T>,
    total: Amount<T>,
    elapsed: Option<T>,
    remaining: Option<T>,
    rate: Option<Rate<T>>,
    /// One of them says that it counts bytes.
    bytes: bool,
}

/// `6`, `587M`, `4.98G`: tqdm scales by thousands.
#[derive(Debug, Clone, Copy)]
struct Amount<T> {
    number: T,
    /// None for what is counted one by one.
    scale: Option<f64>,
}

/// `1.71s/it` and `7.91it/s`, `45.2MB/s`.
#[derive(Debug, Clone, Copy)]
struct Rate<T> {
    number: T,
    scale: f64,
    /// Seconds for each, not each second so many.
    seconds: bool,
}

impl<T: Number> Amount<T> {
    #[inline]
    fn read(&self, line: &[u8]) -> Option<u64> {
        let Some(scale) = self.scale else {
            return self.number.floor(line);
        };
        let v = self.number.decimal(line)? * scale;
        // Casting saturates, and a bar is never negative.
        (v >= 0.0).then_some(v as u64)
    }
}

impl<T: Number> Rate<T> {
    /// Per second whichever way it is told.
    #[inline]
    fn read(&self, line: &[u8]) -> Option<f64> {
        let v = self.number.decimal(line)?;
        if self.seconds {
            return (v > 0.0).then(|| 1.0 / v);
        }
        Some(v * self.scale)
    }
}

impl<T: Number> BarAt<T> {
    /// What a bar with these words says.
    #[inline]
    pub(super) fn read(&self, line: &[u8], counted: Counted, what: &Arc<str>) -> Option<Progress> {
        Some(Progress {
            counted,
            done: self.done.read(line)?,
            total: self.total.read(line)?,
            elapsed_s: self.elapsed.and_then(|n| n.duration(line)),
            remaining_s: self.remaining.and_then(|n| n.duration(line)),
            rate: self.rate.and_then(|rate| rate.read(line)),
            what: Arc::clone(what),
        })
    }
}

impl BarAt<Cur<'_>> {
    /// Where they stand in all lines like `line`, at whose end the bar stands.
    pub(super) fn places(&self, line: &[u8]) -> Option<BarAt<Spot>> {
        let amount = |Amount { number, scale }| {
            let number = Spot::of(line, number)?;
            Some(Amount { number, scale })
        };
        let number = maybe(self.rate.map(|r| r.number), |c| Spot::of(line, c))?;
        let rate = number.zip(self.rate).map(|(number, rate)| Rate {
            number,
            scale: rate.scale,
            seconds: rate.seconds,
        });
        Some(BarAt {
            done: amount(self.done)?,
            total: amount(self.total)?,
            elapsed: maybe(self.elapsed, |c| Spot::of_span(line, c))?,
            remaining: maybe(self.remaining, |c| Spot::of_span(line, c))?,
            rate,
            bytes: self.bytes,
        })
    }
}

/// The numbers of a bar in which `%` stands at `percent`, and its words; the mark after it is `|` or
/// ` Completed | `.
pub(super) fn bar_at(line: &[u8], percent: usize) -> Option<(BarAt<Cur<'_>>, &[u8])> {
    let before = line.get(..percent)?;
    let digits = before
        .iter()
        .rev()
        .take_while(|b| b.is_ascii_digit())
        .count();
    if !(1..=3).contains(&digits) {
        return None;
    }
    let head = before
        .get(..percent - digits)?
        .trim_ascii_end()
        .strip_suffix(b":")?;
    let mut c = Cur::new(line.get(percent..)?);
    c.skip("%")?;
    if !c.eat(" Completed | ") {
        c.skip("|")?;
        c.seek("|")?;
        c.blanks();
    }
    let (done, done_bytes) = amount(&mut c)?;
    c.skip("/")?;
    let (total, total_bytes) = amount(&mut c)?;
    c.blanks();
    let mut at = BarAt {
        done,
        total,
        elapsed: None,
        remaining: None,
        rate: None,
        bytes: done_bytes || total_bytes,
    };
    if c.eat("[") {
        at.elapsed = Some(c);
        c.span();
        if c.eat("<") {
            at.remaining = Some(c);
            c.span();
        }
        if c.eat(",") {
            c.blanks();
            let (rate, bytes) = speed(&mut c);
            at.rate = Some(rate);
            at.bytes |= bytes;
        }
    }
    Some((at, head))
}

/// Reads a bar in which `%` stands at `percent`.
/// `known` may be what another bar of such a line counts, and its words.
pub(super) fn bar(
    line: &[u8],
    percent: usize,
    known: Option<&(Counted, Arc<str>)>,
) -> Option<Progress> {
    let (at, head) = bar_at(line, percent)?;
    match known {
        // The words say it alone, unless they name a file.
        Some((counted, what)) if *counted != Counted::Bytes && what.as_bytes() == head => {
            at.read(line, *counted, what)
        }
        _ => {
            let (counted, what) = counted(head, at.bytes)?;
            match known {
                Some((_, words)) if words.as_bytes() == what => at.read(line, counted, words),
                _ => at.read(line, counted, &text(what).into()),
            }
        }
    }
}

/// `Prefetching checkpoint files: 40% (8/20)`: what stands behind the colon.
pub(super) fn prefetch(mut c: Cur<'_>) -> Option<Progress> {
    c.blanks();
    c.uint::<u32>()?;
    c.skip("% (")?;
    let done = c.uint()?;
    c.skip("/")?;
    Some(Progress {
        counted: Counted::Prefetch,
        what: "Prefetching checkpoint files".into(),
        done,
        total: c.uint()?,
        elapsed_s: None,
        remaining_s: None,
        rate: None,
    })
}

/// The bar's description; a line of another process may be glued to its front.
fn counted(head: &[u8], bytes: bool) -> Option<(Counted, &[u8])> {
    const WORDS: [(&str, Counted); 9] = [
        ("Capturing CUDA graph", Counted::Graphs),
        ("Capturing cuda graph", Counted::Graphs),
        ("Multi-thread loading shards", Counted::Shards),
        ("Loading safetensors using", Counted::Tensors),
        ("Loading safetensors ", Counted::Shards),
        ("Loading pt ", Counted::Shards),
        ("Loading np_cache ", Counted::Shards),
        ("DeepGEMM warmup", Counted::Warmup),
        ("Fetching ", Counted::Files),
    ];
    // Most bars begin with one of them, and no other can follow where no capital does.
    if let Some((_, counted)) = WORDS.iter().find(|(w, _)| head.starts_with(w.as_bytes()))
        && !head.iter().skip(1).any(u8::is_ascii_uppercase)
    {
        return Some((*counted, head));
    }
    for (word, counted) in WORDS {
        if let Some(at) = find(head, word) {
            return Some((counted, head.get(at..)?));
        }
    }
    if find(head, "oading ").is_some()
        && (find(head, "loader").is_some() || find(head, "shards").is_some())
    {
        let unit = if find(head, "Downloading").is_some() {
            Counted::Files
        } else if find(head, "loader").is_some() {
            Counted::Tensors
        } else {
            Counted::Shards
        };
        return Some((unit, head));
    }
    // The hub client names the file; anything that moves bytes is a download.
    bytes.then_some((Counted::Bytes, head))
}

fn amount<'a>(c: &mut Cur<'a>) -> Option<(Amount<Cur<'a>>, bool)> {
    let number = *c;
    c.float()?;
    let scale = match c.rest.first() {
        Some(b'k') => Some(1e3),
        Some(b'M') => Some(1e6),
        Some(b'G') => Some(1e9),
        Some(b'T') => Some(1e12),
        _ => None,
    };
    if scale.is_some() {
        c.rest = c.rest.get(1..)?;
    }
    let bytes = c.eat("B");
    Some((Amount { number, scale }, scale.is_some() || bytes))
}

/// How fast it goes, and whether that counts bytes.
fn speed<'a>(c: &mut Cur<'a>) -> (Rate<Cur<'a>>, bool) {
    let mut rate = Rate {
        number: *c,
        scale: 1.0,
        seconds: false,
    };
    if c.float().is_none() {
        return (rate, false);
    }
    if c.eat("s/it") || c.eat("s/") {
        rate.seconds = true;
        return (rate, false);
    }
    rate.scale = match c.rest.first() {
        Some(b'k') => 1e3,
        Some(b'M') => 1e6,
        Some(b'G') => 1e9,
        _ => 1.0,
    };
    if rate.scale > 1.0 {
        c.rest = c.rest.get(1..).unwrap_or_default();
    }
    (rate, c.eat("B/s"))
}
