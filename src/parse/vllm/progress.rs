//! Progress bars: tqdm in all the shapes that vLLM and the hub client print.

use std::sync::Arc;

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

/// Reads a bar in which `%` stands at `percent`; the mark after it is `|` or ` Completed | `.
/// `known` may be what another bar of such a line counts, and its words.
pub(super) fn bar(
    line: &[u8],
    percent: usize,
    known: Option<&(Counted, Arc<str>)>,
) -> Option<Progress> {
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
    let (done, bytes) = amount(&mut c)?;
    c.skip("/")?;
    let (total, total_bytes) = amount(&mut c)?;
    c.blanks();
    let (mut elapsed_s, mut remaining_s, mut rate, mut rate_bytes) = (None, None, None, false);
    if c.eat("[") {
        elapsed_s = span(&mut c);
        if c.eat("<") {
            remaining_s = span(&mut c);
        }
        if c.eat(",") {
            c.blanks();
            (rate, rate_bytes) = speed(&mut c);
        }
    }
    let (counted, what) = match known {
        // The words say it alone, unless they name a file.
        Some((counted, what)) if *counted != Counted::Bytes && what.as_bytes() == head => {
            (*counted, Arc::clone(what))
        }
        _ => {
            let (counted, what) = counted(head, bytes || total_bytes || rate_bytes)?;
            match known {
                Some((_, words)) if words.as_bytes() == what => (counted, Arc::clone(words)),
                _ => (counted, text(what).into()),
            }
        }
    };
    Some(Progress {
        counted,
        what,
        done,
        total,
        elapsed_s,
        remaining_s,
        rate,
    })
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

/// `6`, `587M`, `4.98G`: tqdm scales by thousands.
fn amount(c: &mut Cur<'_>) -> Option<(u64, bool)> {
    let v = c.float()?;
    let scale = match c.rest.first() {
        Some(b'k') => 1e3,
        Some(b'M') => 1e6,
        Some(b'G') => 1e9,
        Some(b'T') => 1e12,
        _ => 1.0,
    };
    let scaled = scale > 1.0;
    if scaled {
        c.rest = c.rest.get(1..)?;
    }
    let bytes = c.eat("B");
    let v = v * scale;
    // Casting saturates, and a bar is never negative.
    (v >= 0.0).then_some((v as u64, scaled || bytes))
}

/// `MM:SS`, `H:MM:SS`; `?` is unknown.
fn span(c: &mut Cur<'_>) -> Option<u32> {
    let mut s: u32 = c.uint()?;
    while c.eat(":") {
        s = s.checked_mul(60)?.checked_add(c.uint()?)?;
    }
    Some(s)
}

/// `1.71s/it` and `7.91it/s`, `45.2MB/s`; per second whichever way it is told.
fn speed(c: &mut Cur<'_>) -> (Option<f64>, bool) {
    let Some(v) = c.float() else {
        return (None, false);
    };
    if c.eat("s/it") || c.eat("s/") {
        return ((v > 0.0).then(|| 1.0 / v), false);
    }
    let scale = match c.rest.first() {
        Some(b'k') => 1e3,
        Some(b'M') => 1e6,
        Some(b'G') => 1e9,
        _ => 1.0,
    };
    if scale > 1.0 {
        c.rest = c.rest.get(1..).unwrap_or_default();
    }
    (Some(v * scale), c.eat("B/s"))
}
