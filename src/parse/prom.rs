//! Prometheus' text exposition format, as far as its readers here need it: one sample a line.

use super::bytes::Cur;
use super::text::clean;

/// Samples read from one page at most: an exporter of a large node prints a few thousand.
const MOST: usize = 50_000;

/// One sample: name, labels, value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Metric.
    pub name: String,
    /// Labels in the order of the page.
    pub labels: Vec<(String, String)>,
    /// Value; a sample without a number is not one.
    pub value: f64,
}

impl Sample {
    /// The label of that name, unless it is empty.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(n, v)| n == name && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }
}

/// Samples of a page whose metric `wanted` takes. Comments, histograms' buckets that nobody wants and lines
/// that are damaged are passed over.
pub fn samples<'a>(
    text: &'a [u8],
    wanted: impl Fn(&[u8]) -> bool + 'a,
) -> impl Iterator<Item = Sample> + 'a {
    text.split(|b| *b == b'\n')
        .filter_map(move |line| sample(line, &wanted))
        .take(MOST)
}

fn sample(line: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<Sample> {
    let mut c = Cur(line.trim_ascii());
    if c.peek() == Some(b'#') {
        return None;
    }
    let name = c.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    if name.is_empty() || !wanted(name) {
        return None;
    }
    let mut labels = Vec::new();
    if c.eat(b"{") {
        loop {
            c.blanks();
            if c.eat(b"}") {
                break;
            }
            let label = c.run(|b| b.is_ascii_alphanumeric() || b == b'_');
            c.lit(b"=\"")?;
            labels.push((clean(label), quoted(&mut c)?));
            c.eat(b",");
        }
    }
    c.blanks();
    let value = std::str::from_utf8(c.word()).ok()?.parse::<f64>().ok()?;
    value.is_finite().then(|| Sample {
        name: clean(name),
        labels,
        value,
    })
}

/// The rest of a label's value, with its three escapes undone; goes past the closing quote.
fn quoted(c: &mut Cur<'_>) -> Option<String> {
    let mut raw = Vec::new();
    loop {
        let (byte, rest) = c.0.split_first()?;
        c.0 = rest;
        match byte {
            b'"' => return Some(clean(&raw)),
            b'\\' => {
                let (escaped, rest) = c.0.split_first()?;
                c.0 = rest;
                raw.push(if *escaped == b'n' { b'\n' } else { *escaped });
            }
            b => raw.push(*b),
        }
    }
}
