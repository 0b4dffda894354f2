//! The head of an NCCL line: `host:pid:tid [dev] … NCCL LEVEL `, `src/debug.cc`.

use super::bytes::Cur;
use super::fact::Level;

/// Longest text that is searched for a head in front of its `NCCL`.
const REACH: usize = 512;

/// A head and its message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    /// Host as printed; empty where it was removed.
    pub(super) host: &'a [u8],
    pub(super) pid: u64,
    pub(super) tail: Tail<'a>,
}

/// What stands between the pid and the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail<'a> {
    pub(super) tid: u64,
    /// −1 when absent.
    pub(super) dev: i32,
    pub(super) level: Level,
    /// `file:line` of a WARN.
    pub(super) src: Option<&'a [u8]>,
    /// Everything behind the level, to the end of what was given.
    pub(super) msg: &'a [u8],
}

/// Bytes that a host name cannot contain (`PREFIX` of the reference).
#[inline]
fn ends_host(b: u8) -> bool {
    b <= b' '
        || matches!(
            b,
            b':' | b'['
                | b']'
                | b'('
                | b')'
                | b'<'
                | b'>'
                | b'|'
                | b'"'
                | b'\''
                | b'\\'
                | b'`'
                | b'{'
        )
}

/// A head that begins right here.
#[inline]
pub(super) fn at(s: &[u8]) -> Option<Found<'_>> {
    let end = s.iter().position(|b| ends_host(*b))?;
    let (host, mut rest) = s.split_at_checked(end)?;
    if let [b' ', b':', ..] = rest {
        rest = rest.get(1..)?;
    }
    let (pid, tail) = ids(rest)?;
    Some(Found { host, pid, tail })
}

/// `:pid:tid [dev] … NCCL LEVEL msg`.
#[inline]
fn ids(s: &[u8]) -> Option<(u64, Tail<'_>)> {
    let mut c = Cur(s);
    c.lit(b":")?;
    let pid = c.num()?;
    c.lit(b":")?;
    let tid = c.num()?;
    c.lit(b" ")?;
    Some((pid, tail(c, tid)?))
}

/// `[dev] 12.345 file:line (func) NCCL LEVEL msg`, each part but the last optional.
#[inline]
fn tail(mut c: Cur<'_>, tid: u64) -> Option<Tail<'_>> {
    let mut dev = -1;
    if c.eat(b"[") {
        dev = i32::try_from(c.signed()?).ok()?;
        c.lit(b"] ")?;
    }
    let mut src = None;
    if !c.0.starts_with(b"NCCL ") {
        src = place(&mut c)?;
    }
    c.lit(b"NCCL ")?;
    let level = level(&mut c)?;
    Some(Tail {
        tid,
        dev,
        level,
        src,
        msg: c.0,
    })
}

/// `1042.118000 ` of TRACE, `file:line ` and `(func) ` of WARN.
fn place<'a>(c: &mut Cur<'a>) -> Option<Option<&'a [u8]>> {
    let mut src = None;
    for _ in 0..3 {
        if c.0.starts_with(b"NCCL ") {
            break;
        }
        if c.peek() == Some(b'(') {
            c.0 =
                c.0.get(..REACH.min(c.0.len()))
                    .and_then(|near| near.iter().position(|b| *b == b')'))
                    .and_then(|at| c.0.get(at + 1..))?;
        } else {
            let near = Cur(c.0.get(..REACH.min(c.0.len()))?).until(b' ')?;
            let number = near.iter().all(|b| b.is_ascii_digit() || *b == b'.');
            if !number && !near.contains(&b':') {
                return None;
            }
            if !number {
                src = Some(near);
            }
            c.0 = c.0.get(near.len()..)?;
        }
        c.lit(b" ")?;
    }
    Some(src)
}

#[inline]
fn level(c: &mut Cur<'_>) -> Option<Level> {
    let (word, level): (&[u8], _) = match c.peek()? {
        b'I' => (b"INFO", Level::Info),
        b'W' => (b"WARN", Level::Warn),
        b'T' => (b"TRACE", Level::Trace),
        b'C' => (b"CALL", Level::Call),
        _ => return None,
    };
    c.words(word)?;
    (c.eat(b" ") || c.0.is_empty()).then_some(level)
}

impl Default for Tail<'_> {
    fn default() -> Self {
        Self {
            tid: 0,
            dev: -1,
            level: Level::Bare,
            src: None,
            msg: &[],
        }
    }
}

/// A head whose `NCCL ` stands at `hit`, found backwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back<'a> {
    /// Where the head begins (its host, or what is left of it).
    pub(super) start: usize,
    /// Host and pid, unless the head is damaged.
    pub(super) who: Option<(&'a [u8], u64)>,
    pub(super) tail: Tail<'a>,
}

/// Looks in `s[floor..]` for the head that owns the `NCCL ` at `hit`.
pub(super) fn back(s: &[u8], floor: usize, hit: usize) -> Option<Back<'_>> {
    let from = floor.max(hit.saturating_sub(REACH));
    let near = s.get(from..hit)?;
    // The head nearest to the word wins: what is left of it belongs to somebody else's line.
    for colon in memchr::memrchr_iter(b':', near) {
        let Some((pid, tail)) = near
            .get(colon + 1..)
            .filter(|t| t.first().is_some_and(u8::is_ascii_digit))
            .and_then(|_| ids(s.get(from + colon..)?))
        else {
            continue;
        };
        // Not the `:tid` of a head that was cut, and not beyond our word.
        if s.len() - tail.msg.len() > hit + 11 || s.len() - tail.msg.len() < hit + 9 {
            continue;
        }
        let before = near.get(..colon)?;
        // `node-a :7:9` – a blank in between is allowed after a host, not after anything.
        let trimmed = before.strip_suffix(b" ").unwrap_or(before);
        let begin = trimmed
            .iter()
            .rposition(|b| ends_host(*b))
            .map_or(0, |i| i + 1);
        let host = trimmed.get(begin..)?;
        let (host, start) = if host.is_empty() {
            (host, from + colon)
        } else {
            (host, from + begin)
        };
        return Some(Back {
            start,
            who: Some((host, pid)),
            tail,
        });
    }
    loose(s, from, hit)
}

/// A damaged head: `{[dev] }{file:line }{(func) }NCCL LEVEL msg`.
fn loose(s: &[u8], from: usize, hit: usize) -> Option<Back<'_>> {
    let mut c = Cur(s.get(hit..)?);
    c.lit(b"NCCL ")?;
    let level = level(&mut c)?;
    let mut tail = Tail {
        tid: 0,
        dev: -1,
        level,
        src: None,
        msg: c.0,
    };
    let mut before = s.get(from..hit)?;
    if let Some(b) = before.strip_suffix(b") ") {
        before = b.get(..b.iter().rposition(|b| *b == b'(')?)?;
    }
    // `file:line ` with any text before it, `[dev] ` before that, and the rest of a token: `node-a `.
    let end = before.strip_suffix(b" ").unwrap_or(before);
    let word = last_word(end);
    if !word.ends_with(b"]")
        && word.contains(&b':')
        && word
            .last()
            .is_some_and(|b| b.is_ascii_digit() || *b == b')')
    {
        tail.src = Some(word);
        before = end.get(..end.len() - word.len())?;
    }
    let end = before.strip_suffix(b" ").unwrap_or(before);
    let word = last_word(end);
    let mut dev = Cur(word);
    if dev.eat(b"[")
        && let Some(number) = dev.signed()
        && dev.0 == b"]"
    {
        tail.dev = i32::try_from(number).unwrap_or(-1);
        before = end.get(..end.len() - word.len())?;
    }
    Some(Back {
        start: from + before.len(),
        who: None,
        tail,
    })
}

fn last_word(s: &[u8]) -> &[u8] {
    s.get(s.iter().rposition(|b| *b == b' ').map_or(0, |i| i + 1)..)
        .unwrap_or_default()
}
