//! Dates and times as logs write them, turned into nanoseconds by hand: no allocation, no time zone database.

use super::bytes::{Cur, eight_digits, no_digits};
use super::fact::{At, Nanos};

/// Stamps without a zone are placed in this year, whether they print one or not: NCCL dates its warnings in full
/// and vLLM its records by month and day, side by side in one log, and only on one scale can they be compared.
/// A leap year, so early that nobody takes it for a date that a line proved.
const NO_YEAR: i64 = 1972;

/// Where the year in which stamps without a zone are placed begins, and how long it is, in nanoseconds.
pub const YEARLESS: (Nanos, Nanos) = (730 * DAY, 366 * DAY);

/// A day.
const DAY: Nanos = 86_400 * 1_000_000_000;

/// Reads stamps; remembers the last minute, because consecutive lines share it.
#[derive(Debug)]
pub(super) struct Clock {
    minute: [u8; 16],
    base: i64,
    /// The same minute without its year.
    local: i64,
    /// `YYYY-MM-DDTHH:MM:SS.` of the kubelet's last stamp.
    second: [u8; 20],
    second_ns: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            minute: [0; 16],
            base: 0,
            local: 0,
            second: *b"1970-01-01T00:00:00.",
            second_ns: 0,
        }
    }
}

impl Clock {
    /// The kubelet's stamp with its blank, if it is of the same second as its last one, and what follows.
    #[inline(always)]
    pub(super) fn same_second<'a>(&self, s: &'a [u8]) -> Option<(At, &'a [u8])> {
        let (stamp, rest) = s.split_first_chunk::<31>()?;
        let (second, more) = stamp.split_first_chunk::<20>()?;
        let (eight, [ninth, b'Z', b' ']) = more.split_first_chunk::<8>()? else {
            return None;
        };
        if *second != self.second {
            return None;
        }
        let ns = self.second_ns + nine(*eight, *ninth)?;
        Some((At { ns, exact: true }, rest))
    }

    /// `YYYY-MM-DD{T| }HH:MM{:SS{.frac}}{zone}`, also with slashes; gives the stamp and what follows it.
    /// With a zone it is exact.
    pub(super) fn date_time<'a>(&mut self, s: &'a [u8]) -> Option<(At, &'a [u8])> {
        let read = self.read(s)?;
        if let Some((second, [_, _, _, _, _, _, _, _, _, b'Z', ..])) = s.split_first_chunk::<20>()
            && second.last() == Some(&b'.')
            && read.0.exact
        {
            self.second = *second;
            self.second_ns = read.0.ns - read.0.ns.rem_euclid(1_000_000_000);
        }
        Some(read)
    }

    fn read<'a>(&mut self, s: &'a [u8]) -> Option<(At, &'a [u8])> {
        let (minute, rest) = s.split_first_chunk::<16>()?;
        if *minute != self.minute || self.base == 0 {
            (self.base, self.local) = minute_of(minute)?;
            self.minute = *minute;
        }
        let mut ns = 0;
        let mut c = Cur(rest);
        if let [b':', a @ b'0'..=b'6', b @ b'0'..=b'9', rest @ ..] = c.0 {
            ns += i64::from((a - b'0') * 10 + (b - b'0')) * 1_000_000_000;
            c.0 = rest;
            if let [b'.' | b',', digits @ ..] = c.0
                && let Some((nanos, rest)) = fraction(digits)
            {
                ns += nanos;
                c.0 = rest;
            }
        }
        match zone(c.0) {
            Some((offset, rest)) => Some((
                At {
                    ns: self.base + ns - offset,
                    exact: true,
                },
                rest,
            )),
            None => Some((
                At {
                    ns: self.local + ns,
                    exact: false,
                },
                c.0,
            )),
        }
    }
}

/// The digits of a fraction of a second in nanoseconds, and what follows them.
#[inline]
fn fraction(s: &[u8]) -> Option<(i64, &[u8])> {
    // The kubelet writes nine digits: eight of them are read in one word.
    if let Some((eight, [ninth @ b'0'..=b'9', rest @ ..])) = s.split_first_chunk::<8>()
        && let Some(value) = nine(*eight, *ninth)
    {
        return Some((value, past_digits(rest)));
    }
    let (mut nanos, mut scale) = (0, 100_000_000);
    for byte in s.iter().take_while(|b| b.is_ascii_digit()) {
        nanos += i64::from(byte - b'0') * scale;
        scale /= 10;
    }
    let rest = past_digits(s);
    (rest.len() < s.len()).then_some((nanos, rest))
}

/// Nine digits as nanoseconds.
#[inline(always)]
fn nine(eight: [u8; 8], ninth: u8) -> Option<i64> {
    let word = u64::from_le_bytes(eight);
    if no_digits(word) != 0 || !ninth.is_ascii_digit() {
        return None;
    }
    Some(eight_digits(word).cast_signed() * 10 + i64::from(ninth - b'0'))
}

fn past_digits(s: &[u8]) -> &[u8] {
    let end = s
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(s.len());
    s.get(end..).unwrap_or_default()
}

/// `Z`, `+08:00`, `+0800`, ` +08:00`: nanoseconds east of Greenwich and what follows.
fn zone(s: &[u8]) -> Option<(i64, &[u8])> {
    if let [b'Z', rest @ ..] = s {
        return Some((0, rest));
    }
    let s = s.strip_prefix(b" ").unwrap_or(s);
    let (sign, [a, b, rest @ ..]) = (
        match s.first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        },
        s.get(1..)?,
    ) else {
        return None;
    };
    let (c, d, rest) = match rest {
        [b':', c, d, rest @ ..] | [c, d, rest @ ..] => (c, d, rest),
        _ => return None,
    };
    let (hours, minutes) = (two(*a, *b)?, two(*c, *d)?);
    (hours <= 14 && minutes < 60)
        .then_some((sign * (hours * 3600 + minutes * 60) * 1_000_000_000, rest))
}

/// `2025-01-02T03:04` in nanoseconds since the epoch, as if it were UTC: as printed, and without the year.
fn minute_of(s: &[u8; 16]) -> Option<(i64, i64)> {
    let [
        y1,
        y2,
        y3,
        y4,
        d1,
        m1,
        m2,
        d2,
        a1,
        a2,
        b'T' | b't' | b' ' | b'_',
        h1,
        h2,
        b':',
        i1,
        i2,
    ] = *s
    else {
        return None;
    };
    if d1 != d2 || !matches!(d1, b'-' | b'/') {
        return None;
    }
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(a1, a2)?);
    let (hour, minute) = (two(h1, h2)?, two(i1, i2)?);
    let of = |year| moment(year, month, day, hour, minute, 0);
    Some((of(year)?, of(NO_YEAR)?))
}

const DAYS: [&[u8]; 7] = [
    b"Mon ", b"Tue ", b"Wed ", b"Thu ", b"Fri ", b"Sat ", b"Sun ",
];

/// Whether a [`ctime`] may begin here.
pub(super) fn begins_ctime(s: &[u8]) -> bool {
    s.get(..4).is_some_and(|name| DAYS.contains(&name))
}

/// `Mon Aug 14 10:20:30 2023`: the stamp and what follows it.
pub(super) fn ctime(s: &[u8]) -> Option<(At, &[u8])> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan ", b"Feb ", b"Mar ", b"Apr ", b"May ", b"Jun ", b"Jul ", b"Aug ", b"Sep ", b"Oct ",
        b"Nov ", b"Dec ",
    ];
    if !begins_ctime(s) {
        return None;
    }
    let mut c = Cur(s.get(4..)?);
    let name = c.0.get(..4)?;
    let month = 1 + i64::try_from(MONTHS.iter().position(|m| *m == name)?).ok()?;
    c.words(name)?;
    c.blanks();
    let day = c.signed()?;
    c.lit(b" ")?;
    let (hms, rest) = c.0.split_first_chunk::<8>()?;
    let (h, m, sec) = clock_time(hms)?;
    c.0 = rest;
    c.lit(b" ")?;
    let (year, rest) = c.0.split_first_chunk::<4>()?;
    year.iter().all(u8::is_ascii_digit).then_some(())?;
    Some((
        At {
            ns: moment(NO_YEAR, month, day, h, m, sec)?,
            exact: false,
        },
        rest,
    ))
}

/// `11-20 08:04:55`, the stamp of a vLLM header, which has no year.
pub(super) fn month_day(s: &[u8]) -> Option<At> {
    let (md, rest) = s.split_first_chunk::<6>()?;
    let [m1, m2, b'-', d1, d2, b' '] = *md else {
        return None;
    };
    let (h, m, sec) = clock_time(rest.first_chunk::<8>()?)?;
    Some(At {
        ns: moment(NO_YEAR, two(m1, m2)?, two(d1, d2)?, h, m, sec)?,
        exact: false,
    })
}

/// `[E311 02:15:00.120394556 ProcessGroupNCCL.cpp:685] …`, torch's own records: a level, the month and two digits
/// of day.
pub(super) fn glog(s: &[u8]) -> Option<At> {
    let [b'[', b'I' | b'W' | b'E' | b'F', rest @ ..] = s else {
        return None;
    };
    let ((month, day), rest) = match *rest {
        [m, d1, d2, b' ', ref rest @ ..] => ((two(b'0', m)?, two(d1, d2)?), rest),
        [m1, m2, d1, d2, b' ', ref rest @ ..] => ((two(m1, m2)?, two(d1, d2)?), rest),
        _ => return None,
    };
    let (hms, rest) = rest.split_first_chunk::<8>()?;
    let (h, m, sec) = clock_time(hms)?;
    let nanos = rest.strip_prefix(b".").and_then(fraction);
    Some(At {
        ns: moment(NO_YEAR, month, day, h, m, sec)? + nanos.map_or(0, |(ns, _)| ns),
        exact: false,
    })
}

fn clock_time(s: &[u8; 8]) -> Option<(i64, i64, i64)> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *s else {
        return None;
    };
    Some((two(h1, h2)?, two(m1, m2)?, two(s1, s2)?))
}

fn two(a: u8, b: u8) -> Option<i64> {
    (a.is_ascii_digit() && b.is_ascii_digit())
        .then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
}

/// Nanoseconds since the epoch of a date and time taken as UTC; `None` for what no calendar has.
fn moment(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let fits = (1970..=2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    // Days since the epoch: the year begins in March, so that the leap day is its last.
    let y = year - i64::from(month <= 2);
    let era = y / 400;
    let year_of_era = y - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000)
}
