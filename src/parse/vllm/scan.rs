//! A cursor over bytes: every step either fits or says no, nothing panics, nothing is copied.

use crate::parse::bytes;

/// Longest text that a fact keeps, in bytes.
const KEEP: usize = 400;

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cur<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cur<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn advance(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }

    /// Goes past `lit` if it stands here.
    pub(super) fn skip(&mut self, lit: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(lit.as_bytes())?;
        Some(())
    }

    /// Goes past `lit` if it stands here; says whether it did.
    pub(super) fn eat(&mut self, lit: &str) -> bool {
        self.skip(lit).is_some()
    }

    /// Goes past the next `lit` and gives what stood before it.
    pub(super) fn seek(&mut self, lit: &str) -> Option<&'a [u8]> {
        let at = bytes::find(self.rest, lit.as_bytes())?;
        let before = self.rest.get(..at)?;
        self.advance(at + lit.len());
        Some(before)
    }

    pub(super) fn blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Bytes as long as they please; may be empty.
    pub(super) fn while_(&mut self, ok: impl Fn(u8) -> bool) -> &'a [u8] {
        let n = self
            .rest
            .iter()
            .position(|b| !ok(*b))
            .unwrap_or(self.rest.len());
        let (a, b) = self.rest.split_at_checked(n).unwrap_or_default();
        self.rest = b;
        a
    }

    /// Up to the next blank; empty is no word.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        let w = self.while_(|b| !b.is_ascii_whitespace());
        (!w.is_empty()).then_some(w)
    }

    /// Letters, digits, `_`; empty is no name.
    pub(super) fn name(&mut self) -> Option<&'a [u8]> {
        let w = self.while_(|b| b.is_ascii_alphanumeric() || b == b'_');
        (!w.is_empty()).then_some(w)
    }

    pub(super) fn uint<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number(false)?).ok()
    }

    /// Digits with thousands commas.
    pub(super) fn grouped(&mut self) -> Option<u64> {
        self.number(true)
    }

    fn number(&mut self, commas: bool) -> Option<u64> {
        if let Some(next) = self.rest.first_chunk()
            && let (n, digits @ 1..8) = bytes::small(*next)
            && !(commas && self.rest.get(digits) == Some(&b','))
        {
            self.advance(digits);
            return Some(n);
        }
        let mut n: u64 = 0;
        let mut used = 0;
        let mut digits = 0;
        for (i, b) in self.rest.iter().enumerate() {
            match b {
                b'0'..=b'9' => {
                    n = n.checked_mul(10)?.checked_add(u64::from(b - b'0'))?;
                    digits += 1;
                    used = i + 1;
                }
                b',' if commas && self.rest.get(i + 1).is_some_and(u8::is_ascii_digit) => {}
                _ => break,
            }
        }
        if digits == 0 {
            return None;
        }
        self.advance(used);
        Some(n)
    }

    pub(super) fn int(&mut self) -> Option<i64> {
        let mut at = *self;
        let minus = at.eat("-");
        let n: i64 = at.uint()?;
        *self = at;
        Some(if minus { -n } else { n })
    }

    /// `MM:SS`, `H:MM:SS` in seconds; `?` is unknown.
    pub(super) fn span(&mut self) -> Option<u32> {
        let mut s: u32 = self.uint()?;
        while self.eat(":") {
            s = s.checked_mul(60)?.checked_add(self.uint()?)?;
        }
        Some(s)
    }

    /// `12`, `12.5`, `-0.3`; a dot that ends a sentence is left alone.
    pub(super) fn float(&mut self) -> Option<f64> {
        if let Some((v, len)) = self.short() {
            self.advance(len);
            return Some(v);
        }
        self.long()
    }

    /// A number with at most seven digits on each side of its dot, and how long it is.
    #[inline]
    fn short(&self) -> Option<(f64, usize)> {
        let (whole, len) = bytes::small(*self.rest.first_chunk()?);
        if !(1..8).contains(&len) {
            return None;
        }
        // All of these are whole and exact, so that the quotient is the nearest number to what is printed.
        let Some((b'.', behind)) = self.rest.get(len..)?.split_first() else {
            return Some((whole as f64, len));
        };
        let (part, decimals) = bytes::small(*behind.first_chunk()?);
        match decimals {
            0 => Some((whole as f64, len)),
            1..8 => {
                let ten = TENS.get(decimals)?;
                Some(((whole as f64 * ten + part as f64) / ten, len + 1 + decimals))
            }
            _ => None,
        }
    }

    /// [`Self::float`] digit by digit.
    fn long(&mut self) -> Option<f64> {
        let s = self.rest;
        let minus = s.first() == Some(&b'-');
        let first = usize::from(minus);
        let (mut end, mut value) = (first, 0_u64);
        let mut digits = |from: usize| {
            let run = s.get(from..).unwrap_or_default();
            let run = run.iter().take_while(|b| b.is_ascii_digit());
            run.fold(0, |n, b| {
                value = value.wrapping_mul(10).wrapping_add(u64::from(b - b'0'));
                n + 1
            })
        };
        let whole = digits(end);
        if whole == 0 {
            return None;
        }
        end += whole;
        let mut decimals = 0;
        if s.get(end) == Some(&b'.') {
            decimals = digits(end + 1);
            if decimals > 0 {
                end += 1 + decimals;
            }
        }
        let v = match TENS.get(decimals) {
            // Both numbers are whole and exact, so that their quotient is the nearest one to what is printed.
            Some(ten) if whole + decimals <= 15 => {
                let v = value as f64 / ten;
                if minus { -v } else { v }
            }
            _ => std::str::from_utf8(s.get(..end)?).ok()?.parse().ok()?,
        };
        self.advance(end);
        Some(v)
    }
}

/// Powers of ten that a number with fifteen digits may be divided by.
pub(super) const TENS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// The first place of `lit`.
pub(super) fn find(s: &[u8], lit: &str) -> Option<usize> {
    bytes::find(s, lit.as_bytes())
}

/// Whether `lit` is in there.
pub(super) fn has(s: &[u8], lit: &str) -> bool {
    find(s, lit).is_some()
}

/// What stands after the first `lit`.
pub(super) fn after<'a>(s: &'a [u8], lit: &str) -> Option<Cur<'a>> {
    let mut c = Cur::new(s);
    c.seek(lit)?;
    Some(c)
}

/// Text to keep: valid, trimmed, without control characters, bounded.
pub(super) fn text(s: &[u8]) -> String {
    let s = s.trim_ascii();
    let s = s.get(..KEEP).unwrap_or(s);
    if s.iter().all(|b| matches!(b, b' '..=b'~')) {
        return bytes::text(s);
    }
    let mut t: String = String::from_utf8_lossy(s)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    // A character cut in the middle became a replacement mark; do not show our own cut.
    if s.len() == KEEP {
        while t.ends_with('\u{fffd}') {
            t.pop();
        }
    }
    t
}

/// As [`text`], or nothing when empty.
pub(super) fn some_text(s: &[u8]) -> Option<String> {
    let t = text(s);
    (!t.is_empty()).then_some(t)
}
