//! Headers of records: vLLM's own in every era, torch's C++, glog, Ray's driver, uvicorn, Dynamo.

use super::scan::Cur;
use crate::parse::At;

/// Who formats a record that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Style {
    /// `INFO 11-20 08:04:55 [core.py:93] …`, before v0.8 without the opening bracket.
    Vllm,
    /// `[E118 07:41:30.120394556 ProcessGroupNCCL.cpp:685] …`: torch's C++.
    Torch,
    /// `W0305 08:14:20.112233 1399 torch/distributed/run.py:766] …`: glog, torchrun.
    Glog,
    /// `2025-09-03 10:00:04,412 INFO worker.py:1821 -- …`: Ray's driver.
    Ray,
    /// `INFO:     …`: uvicorn.
    Uvicorn,
    /// `ERROR core.run_engine_core: …` behind an RFC 3339 stamp: vLLM under NVIDIA Dynamo.
    Dynamo,
}

/// How grave the record says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the words are those of Python's logging")]
pub enum Severity {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// A date and time as a header prints it: local, mostly without a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Year, where one is printed.
    pub year: Option<u16>,
    /// 1–12.
    pub month: u8,
    /// 1–31.
    pub day: u8,
    /// 0–23.
    pub hour: u8,
    /// 0–59.
    pub minute: u8,
    /// 0–60.
    pub second: u8,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

impl Stamp {
    /// A time that orders records of one process. Without a printed year it takes `year`, or 1972,
    /// a leap year early enough that nobody takes it for a date that the line proved.
    #[must_use]
    pub fn at(&self, year: Option<u16>) -> At {
        let days = days_from_civil(
            i64::from(self.year.or(year).unwrap_or(1972)),
            i64::from(self.month),
            i64::from(self.day),
        );
        let secs = days * 86_400
            + i64::from(self.hour) * 3_600
            + i64::from(self.minute) * 60
            + i64::from(self.second);
        At {
            ns: secs * 1_000_000_000 + i64::from(self.nanos),
            exact: false,
        }
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// A record's header, and what it is the header of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Shape.
    pub style: Style,
    /// Level.
    pub level: Severity,
    /// When.
    pub stamp: Option<Stamp>,
    /// Source file as printed, path included; Dynamo's module; empty for uvicorn.
    pub file: &'a [u8],
    /// Line in that file; 0 where none is printed.
    pub line: u32,
    /// Rank of a `[rankN]:` in front of a torch header, if it was left there.
    pub rank: Option<u32>,
    /// What stood before it: `VLLM_LOGGING_PREFIX`, or the piece of another process's progress bar.
    pub front: &'a [u8],
    /// The message.
    pub msg: &'a [u8],
}

impl<'a> Header<'a> {
    /// File name without its path.
    #[must_use]
    pub fn file_name(&self) -> &'a [u8] {
        match memchr::memrchr(b'/', self.file) {
            Some(at) => self.file.get(at + 1..).unwrap_or_default(),
            None => self.file,
        }
    }
}

/// Reads the header of a line from which outer prefixes and colours were removed.
#[must_use]
pub fn header(line: &[u8]) -> Option<Header<'_>> {
    let line = line.trim_ascii_start();
    match line.first()? {
        b'[' => return torch(line),
        b'0'..=b'9' => return ray(line),
        _ => {}
    }
    level_first(line)
        .or_else(|| glog(line))
        .or_else(|| prefixed(line))
}

/// The stamp of a line's header as a time that orders lines of one process; never exact.
#[must_use]
pub fn header_stamp(line: &[u8]) -> Option<At> {
    Some(header(line)?.stamp?.at(None))
}

fn level(c: &mut Cur<'_>) -> Option<Severity> {
    let word = c.while_(|b| b.is_ascii_uppercase());
    Some(match word {
        b"INFO" => Severity::Info,
        b"WARNING" | b"WARN" => Severity::Warning,
        b"ERROR" => Severity::Error,
        b"DEBUG" => Severity::Debug,
        b"CRITICAL" => Severity::Critical,
        b"TRACE" => Severity::Trace,
        _ => return None,
    })
}

fn level_first(line: &[u8]) -> Option<Header<'_>> {
    let mut c = Cur::new(line);
    let level = level(&mut c)?;
    if c.eat(":") {
        let blanks = c.while_(|b| b == b' ').len();
        return (2..=5).contains(&blanks).then_some(Header {
            style: Style::Uvicorn,
            level,
            stamp: None,
            file: b"",
            line: 0,
            rank: None,
            front: b"",
            msg: c.rest,
        });
    }
    c.skip(" ")?;
    c.blanks();
    if c.rest.first()?.is_ascii_digit() {
        return vllm_rest(level, c);
    }
    let module = c.while_(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':'));
    let module = module.strip_suffix(b":")?;
    if !module.contains(&b'.') {
        return None;
    }
    c.skip(" ")?;
    Some(Header {
        style: Style::Dynamo,
        level,
        stamp: None,
        file: module,
        line: 0,
        rank: None,
        front: b"",
        msg: c.rest.trim_ascii_end(),
    })
}

/// What follows the level in vLLM's own header.
fn vllm_rest(level: Severity, mut c: Cur<'_>) -> Option<Header<'_>> {
    let month = two(&mut c)?;
    c.skip("-")?;
    let day = two(&mut c)?;
    c.skip(" ")?;
    let stamp = clock(&mut c, None, month, day)?;
    c.skip(" ")?;
    c.eat("[");
    let (file, line) = source(&mut c)?;
    c.skip("]")?;
    c.eat(" ");
    Some(Header {
        style: Style::Vllm,
        level,
        stamp: Some(stamp),
        file,
        line,
        rank: None,
        front: b"",
        msg: c.rest,
    })
}

/// A vLLM header behind the free text of `VLLM_LOGGING_PREFIX`, or behind a progress bar of another process.
fn prefixed(line: &[u8]) -> Option<Header<'_>> {
    let near = line.get(..160).unwrap_or(line);
    for dash in memchr::memchr_iter(b'-', near) {
        // `LEVEL MM-DD HH:MM:SS `: the dash has two digits before it and a blank before those.
        let Some(start) = dash.checked_sub(3) else {
            continue;
        };
        if line.get(start) != Some(&b' ') {
            continue;
        }
        let Some(word_end) = line.get(..start) else {
            continue;
        };
        let word = word_end
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_uppercase())
            .count();
        let Some(from) = start.checked_sub(word) else {
            continue;
        };
        let Some(h) = line.get(from..).and_then(level_first) else {
            continue;
        };
        if h.style == Style::Vllm {
            let front = line.get(..from).unwrap_or_default();
            return Some(Header { front, ..h });
        }
    }
    None
}

fn torch(line: &[u8]) -> Option<Header<'_>> {
    let mut c = Cur::new(line);
    let mut rank = None;
    if c.eat("[rank") {
        rank = Some(c.uint::<u32>()?);
        c.eat("[");
        c.skip("]:")?;
        c.eat(" ");
    }
    c.skip("[")?;
    let level = letter(&mut c)?;
    let stamp = {
        let mut t = c;
        month_day(&mut t).and_then(|(month, day)| {
            t.skip(" ")?;
            let s = clock(&mut t, None, month, day)?;
            c = t;
            Some(s)
        })
    };
    c.blanks();
    let (file, line) = source(&mut c)?;
    if !(file.ends_with(b".cpp") || file.ends_with(b".hpp") || file.ends_with(b".cu")) {
        return None;
    }
    c.skip("]")?;
    c.eat(" ");
    Some(Header {
        style: Style::Torch,
        level,
        stamp,
        file,
        line,
        rank,
        front: b"",
        msg: c.rest,
    })
}

fn glog(line: &[u8]) -> Option<Header<'_>> {
    let mut c = Cur::new(line);
    let level = letter(&mut c)?;
    let (month, day) = month_day(&mut c)?;
    c.skip(" ")?;
    let stamp = clock(&mut c, None, month, day)?;
    c.blanks();
    c.uint::<u64>()?;
    c.skip(" ")?;
    c.blanks();
    let (file, line) = source(&mut c)?;
    c.skip("]")?;
    c.eat(" ");
    Some(Header {
        style: Style::Glog,
        level,
        stamp: Some(stamp),
        file,
        line,
        rank: None,
        front: b"",
        msg: c.rest,
    })
}

fn ray(line: &[u8]) -> Option<Header<'_>> {
    let mut c = Cur::new(line);
    let year: u16 = c.uint()?;
    c.skip("-")?;
    let month = two(&mut c)?;
    c.skip("-")?;
    let day = two(&mut c)?;
    c.skip(" ")?;
    let stamp = clock(&mut c, Some(year), month, day)?;
    c.blanks();
    let level = level(&mut c)?;
    c.skip(" ")?;
    c.blanks();
    let (file, line) = source(&mut c)?;
    c.skip(" -- ")?;
    Some(Header {
        style: Style::Ray,
        level,
        stamp: Some(stamp),
        file,
        line,
        rank: None,
        front: b"",
        msg: c.rest,
    })
}

fn letter(c: &mut Cur<'_>) -> Option<Severity> {
    for (l, s) in [
        ("I", Severity::Info),
        ("W", Severity::Warning),
        ("E", Severity::Error),
        ("F", Severity::Critical),
    ] {
        if c.eat(l) {
            return Some(s);
        }
    }
    None
}

/// `118` is 18 January, `1202` is 2 December: torch does not pad the month.
fn month_day(c: &mut Cur<'_>) -> Option<(u8, u8)> {
    let d = c.while_(|b| b.is_ascii_digit());
    if !(3..=4).contains(&d.len()) {
        return None;
    }
    let n: u16 = std::str::from_utf8(d).ok()?.parse().ok()?;
    Some((u8::try_from(n / 100).ok()?, u8::try_from(n % 100).ok()?))
}

fn two(c: &mut Cur<'_>) -> Option<u8> {
    let (a, b) = (*c.rest.first()?, *c.rest.get(1)?);
    if !a.is_ascii_digit() || !b.is_ascii_digit() {
        return None;
    }
    c.rest = c.rest.get(2..)?;
    Some((a - b'0') * 10 + (b - b'0'))
}

fn clock(c: &mut Cur<'_>, year: Option<u16>, month: u8, day: u8) -> Option<Stamp> {
    let hour = two(c)?;
    c.skip(":")?;
    let minute = two(c)?;
    c.skip(":")?;
    let second = two(c)?;
    let mut nanos = 0;
    if c.rest.first().is_some_and(|b| matches!(b, b'.' | b','))
        && c.rest.get(1).is_some_and(u8::is_ascii_digit)
    {
        c.rest = c.rest.get(1..)?;
        let mut unit = 100_000_000;
        for b in c.while_(|b| b.is_ascii_digit()) {
            nanos += u32::from(b - b'0') * unit;
            unit /= 10;
        }
    }
    let ok = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    ok.then_some(Stamp {
        year,
        month,
        day,
        hour,
        minute,
        second,
        nanos,
    })
}

/// Whether the digits at `s`, which stand as in the date and time of vLLM's header, make one that a calendar has:
/// `11-20 08:04:55`.
#[inline]
pub(super) fn in_calendar(s: &[u8]) -> bool {
    /// A bit before every number of two digits, in which no digit has one: it is lost where more is taken away.
    const GUARDS: u64 = 0x8000_0080_0000_8000;
    const LAST_DAY: u64 = u64::from_be_bytes(*b"12-31 23");
    const FIRST_DAY: u64 = u64::from_be_bytes(*b"01-01 00");
    const LAST_SECOND: u64 = u64::from_be_bytes(*b"23:59:60");
    let word = |at: usize| Some(u64::from_be_bytes(*s.get(at..)?.first_chunk()?));
    let (Some(day), Some(time)) = (word(0), word(6)) else {
        return false;
    };
    let from = (day | GUARDS).wrapping_sub(FIRST_DAY);
    let to = (LAST_DAY | GUARDS).wrapping_sub(day);
    from & to & (LAST_SECOND | GUARDS).wrapping_sub(time) & GUARDS == GUARDS
}

/// `core.py:93`, `v1/worker/gpu_worker.py:301`, `cmd/src/main.rs:41`.
fn source<'a>(c: &mut Cur<'a>) -> Option<(&'a [u8], u32)> {
    let file = c.while_(|b| {
        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-' | b'<' | b'>')
    });
    if file.is_empty() {
        return None;
    }
    c.skip(":")?;
    Some((file, c.uint()?))
}
