//! What a filter of the logs means, and what a line can be told by at a glance.

use memchr::memmem;
use regex::{Regex, RegexBuilder};

use crate::parse::{At, Nanos};

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bad {
    /// A warning.
    Warning,
    /// An error.
    Error,
}

impl Bad {
    /// Reads the level of a line, if it is one to look at.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        const ERRORS: [&str; 8] = [
            "ERROR",
            "Error: ",
            "CRITICAL",
            "FATAL",
            "Traceback (most recent call last)",
            "CUDA error",
            "terminate called",
            "Segmentation fault",
        ];
        let bytes = text.as_bytes();
        if ERRORS
            .iter()
            .any(|e| memmem::find(bytes, e.as_bytes()).is_some())
        {
            return Some(Self::Error);
        }
        // NCCL's WARN is what others call an error: it is printed once, when something failed.
        if memmem::find(bytes, b"NCCL WARN ").is_some() {
            return Some(Self::Error);
        }
        ["WARNING", "Warning: ", " WARN "]
            .iter()
            .any(|w| memmem::find(bytes, w.as_bytes()).is_some())
            .then_some(Self::Warning)
    }
}

#[derive(Debug, Clone)]
enum Term {
    /// `in:text`: the name of the source, in lower case.
    Source(String),
    /// Anything else: a regular expression, or plain text where it is none.
    Text(Regex),
}

/// A filter: terms joined by ` & `, each a regular expression (or plain text where it is none), or `in:NAME` for the
/// source; `!` in front excludes. Case matters only where capitals are typed.
#[derive(Debug, Clone, Default)]
pub struct Query {
    text: String,
    terms: Vec<(bool, Term)>,
    complaint: Option<String>,
}

impl Query {
    /// Reads a filter; every text means something.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut query = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        for part in text.split(" & ").map(str::trim).filter(|p| !p.is_empty()) {
            let (wanted, part) = part
                .strip_prefix('!')
                .map_or((true, part), |p| (false, p.trim_start()));
            if part.is_empty() {
                continue;
            }
            if let Some(name) = part.strip_prefix("in:") {
                query
                    .terms
                    .push((wanted, Term::Source(name.to_lowercase())));
                continue;
            }
            let build = |pattern: &str| {
                RegexBuilder::new(pattern)
                    .case_insensitive(!part.chars().any(char::is_uppercase))
                    .size_limit(1 << 20)
                    .build()
            };
            match build(part) {
                Ok(regex) => query.terms.push((wanted, Term::Text(regex))),
                Err(_) => {
                    query.complaint = Some(format!(
                        "{part} is searched as plain text: it is no regular expression"
                    ));
                    query.terms.extend(
                        build(&regex::escape(part))
                            .ok()
                            .map(|r| (wanted, Term::Text(r))),
                    );
                }
            }
        }
        query
    }

    /// As typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What could not be read as meant.
    #[must_use]
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Whether a source may be shown.
    #[must_use]
    pub fn source(&self, name: &str) -> bool {
        self.terms.iter().all(|(wanted, t)| match t {
            Term::Source(part) => name.to_lowercase().contains(part) == *wanted,
            Term::Text(_) => true,
        })
    }

    /// Whether a line may be shown.
    #[must_use]
    pub fn line(&self, text: &str) -> bool {
        self.terms.iter().all(|(wanted, t)| match t {
            Term::Text(regex) => regex.is_match(text) == *wanted,
            Term::Source(_) => true,
        })
    }

    /// Byte ranges of a text that the filter asked for.
    #[must_use]
    pub fn hits(&self, text: &str) -> Vec<(usize, usize)> {
        let regexes = self.terms.iter().filter_map(|(wanted, t)| match t {
            Term::Text(regex) if *wanted => Some(regex),
            _ => None,
        });
        let mut hits: Vec<(usize, usize)> = regexes
            .flat_map(|r| r.find_iter(text).take(16).map(|m| (m.start(), m.end())))
            .filter(|(a, b)| a < b)
            .collect();
        hits.sort_unstable();
        hits
    }
}

/// The RFC 3339 stamp in front of a line, as kubelets write it.
#[must_use]
pub fn stamp(text: &str) -> Option<At> {
    let bytes = text.as_bytes();
    if bytes.get(4) != Some(&b'-') || bytes.get(10) != Some(&b'T') {
        return None;
    }
    let word = text.split(' ').next()?;
    let stamp: jiff::Timestamp = word.parse().ok()?;
    Some(At {
        ns: Nanos::try_from(stamp.as_nanosecond()).ok()?,
        exact: true,
    })
}

/// Whether two lines say the same, numbers aside: repeats differ in stamps, counters and addresses.
#[must_use]
pub fn alike(a: &str, b: &str) -> bool {
    let mut a = letters(a);
    let mut b = letters(b);
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (x, y) if x != y => return false,
            _ => {}
        }
    }
}

/// A text with every run of digits (hexadecimal ones after `0x` too) replaced by one `0`.
fn letters(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = text.bytes().peekable();
    std::iter::from_fn(move || {
        let b = bytes.next()?;
        if !b.is_ascii_digit() {
            return Some(b);
        }
        let hex = b == b'0' && bytes.next_if_eq(&b'x').is_some();
        while bytes
            .next_if(|b| b.is_ascii_digit() || (hex && b.is_ascii_hexdigit()))
            .is_some()
        {}
        Some(b'0')
    })
}
