//! The prefixes that kubelets, viewers, launchers, vLLM and Ray put in front of a line (nccl-logs.md 1.4).

use super::bytes::{Cur, hash, near, text};
use super::fact::At;
use super::stamp::{self, Clock};
use super::{Outer, head};

/// Longest prefix of one kind.
const REACH: usize = 192;
/// More prefixes than this are no prefixes.
const DEEP: usize = 16;

/// [`Outer`] before it is interned: nothing is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Prefix<'a> {
    label: Option<&'a [u8]>,
    pid: Option<u64>,
    ip: Option<&'a [u8]>,
    rank: Option<u32>,
    pod: Option<(&'a [u8], &'a [u8])>,
    file: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    pub(super) depth: u8,
    relay: Option<u64>,
    pub(super) repeated: u32,
}

/// A line without its prefixes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peeled<'a> {
    pub(super) prefix: Prefix<'a>,
    pub(super) at: Option<At>,
    /// What is left.
    pub(super) rest: &'a [u8],
    /// CRI: written to standard error, and whether more of the line follows in a later record.
    pub(super) cri: Option<(bool, bool)>,
}

impl Prefix<'_> {
    pub(super) fn hash(&self) -> u64 {
        let number = u64::from(self.rank.map_or(u32::MAX, |r| r))
            ^ (self.pid.unwrap_or(0) << 8)
            ^ (self.relay.unwrap_or(0) << 16)
            ^ (u64::from(self.repeated) << 40);
        let mut h = hash(number, self.label.unwrap_or_default());
        h = hash(h, self.ip.unwrap_or_default());
        if let Some((pod, container)) = self.pod {
            h = hash(hash(h, pod), container);
        }
        h = hash(h, self.from.unwrap_or_default());
        hash(h ^ u64::from(self.depth), self.file.unwrap_or_default())
    }

    pub(super) fn of(outer: &Outer) -> Prefix<'_> {
        Prefix {
            label: outer.label.as_deref().map(str::as_bytes),
            pid: outer.pid,
            ip: outer.ip.as_deref().map(str::as_bytes),
            rank: outer.rank,
            pod: outer.pod.as_deref().map(|p| {
                p.split_once('/')
                    .map_or((p.as_bytes(), &b""[..]), |(p, c)| {
                        (p.as_bytes(), c.as_bytes())
                    })
            }),
            file: outer.file.as_deref().map(str::as_bytes),
            from: outer.from.as_deref().map(str::as_bytes),
            depth: outer.depth,
            relay: outer.relay,
            repeated: outer.repeated,
        }
    }

    pub(super) fn to_outer(self) -> Outer {
        Outer {
            label: self.label.map(text),
            pid: self.pid,
            ip: self.ip.map(text),
            rank: self.rank,
            pod: self.pod.map(|(p, c)| {
                if c.is_empty() {
                    text(p)
                } else {
                    format!("{}/{}", text(p), text(c))
                }
            }),
            file: self.file.map(text),
            from: self.from.map(text),
            depth: self.depth,
            relay: self.relay,
            repeated: self.repeated,
        }
    }

    /// The label is one of vLLM's API servers, which print no NCCL line of their own.
    pub(super) fn is_api_server(&self) -> bool {
        self.label
            .is_some_and(|l| l.starts_with(b"APIServer") || l.starts_with(b"ApiServer"))
    }
}

/// Takes every prefix off `line`, which holds no escape codes any more.
pub(super) fn peel<'a>(line: &'a [u8], clock: &mut Clock) -> Peeled<'a> {
    let mut p = Peeled {
        rest: line,
        ..Peeled::default()
    };
    for _ in 0..DEEP {
        let before = p.rest.len();
        match p.rest.first() {
            Some(b'0'..=b'9') => number(&mut p, clock),
            Some(b'(') => process(&mut p),
            Some(b'[') => bracket(&mut p, clock),
            Some(b' ' | b'\t') => indented(&mut p, clock),
            Some(b'|') => column(&mut p),
            Some(b'>') => quote(&mut p),
            Some(b'E' | b'^' | b'\\' | 0xe2) if spelled_escape(p.rest).is_some() => escape(&mut p),
            Some(b'.' | b'/' | b'_' | b'A'..=b'Z' | b'a'..=b'z') => word(&mut p),
            _ => {}
        }
        if p.rest.len() == before {
            break;
        }
    }
    if p.prefix.depth > 0 {
        repeated(&mut p);
    }
    p
}

/// A stamp, or the rank label of `srun -l`: `3: `.
fn number(p: &mut Peeled<'_>, clock: &mut Clock) {
    if let Some((at, rest)) = clock.date_time(p.rest) {
        match rest {
            // Ray's driver writes `10:00:04,412\tINFO …`: a header of its own, left to whoever reads those.
            _ if p.rest.get(19) == Some(&b',') => {
                p.at = p.at.or(Some(at));
                return;
            }
            [b' ' | b'\t', after @ ..] => p.rest = after,
            [b'[', ..] | [] => p.rest = rest,
            _ => return,
        }
        if p.at.is_none_or(|old| at.exact && !old.exact) {
            p.at = Some(at);
        }
        cri(p);
        return;
    }
    let mut c = Cur(p.rest);
    if let Some(rank) = c.int::<u32>()
        && c.eat(b": ")
        && rank < 1_000_000
    {
        p.prefix.rank = Some(rank);
        let digits = p.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        p.prefix.from = p.rest.get(..digits);
        p.rest = c.0;
    }
}

/// `stdout F ` after a stamp.
fn cri(p: &mut Peeled<'_>) {
    let (err, rest) = match p.rest {
        [b's', b't', b'd', b'o', b'u', b't', b' ', rest @ ..] => (false, rest),
        [b's', b't', b'd', b'e', b'r', b'r', b' ', rest @ ..] => (true, rest),
        _ => return,
    };
    match rest {
        [tag @ (b'F' | b'P'), b' ', rest @ ..] => {
            p.cri = Some((err, *tag == b'P'));
            p.rest = rest;
        }
        [tag @ (b'F' | b'P')] => {
            p.cri = Some((err, *tag == b'P'));
            p.rest = &[];
        }
        _ => {}
    }
}

/// `(NAME pid=N{, ip=A}) ` of vLLM and Ray, and Ray's names without pid.
fn process(p: &mut Peeled<'_>) {
    let Some(end) = p.rest.iter().take(REACH).position(|b| *b == b')') else {
        return;
    };
    let Some(inside) = p.rest.get(1..end) else {
        return;
    };
    let mut name = inside;
    let (mut pid, mut ip) = (None, None);
    if let Some(at) = inside.windows(4).position(|w| w == b"pid=") {
        let mut c = Cur(inside.get(at + 4..).unwrap_or_default());
        let Some(number) = c.num() else { return };
        pid = Some(number);
        if c.eat(b", ip=") {
            ip = Some(std::mem::take(&mut c.0));
        }
        name = inside.get(..at).unwrap_or_default().trim_ascii_end();
        name = name.strip_suffix(b",").unwrap_or(name);
        let plain = name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_ =-:.,/+".contains(b));
        if !c.0.is_empty() || !plain {
            return;
        }
    } else {
        if let Some(at) = inside.windows(5).position(|w| w == b", ip=") {
            (name, ip) = (inside.get(..at).unwrap_or_default(), inside.get(at + 5..));
        }
        if !(name == b"raylet" || name == b"gcs_server" || name.starts_with(b"autoscaler ")) {
            return;
        }
    }
    if ip.is_some_and(|ip| {
        !ip.iter()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'))
    }) {
        return;
    }
    // Ray's executor of v0.20+ prefixes an actor twice, by two names, and says only once where it runs.
    if ip.is_none() && pid.is_some() && pid == p.prefix.pid {
        ip = p.prefix.ip;
    }
    if p.prefix.pid.is_some() && pid != p.prefix.pid {
        p.prefix.relay = p.prefix.pid;
    }
    p.prefix.label = (!name.is_empty()).then_some(name);
    p.prefix.pid = pid;
    p.prefix.ip = ip;
    p.prefix.depth = p.prefix.depth.saturating_add(1);
    let rest = p.rest.get(end + 1..).unwrap_or_default();
    p.rest = rest.strip_prefix(b" ").unwrap_or(rest);
}

/// `[pod/llm-0/vllm] `, `[rank3]:`, `[default3]:`, `[node-a:0]:`, `[1,0]<stdout>:`, `[12] `, NCCL's own stamp,
/// and colour codes that lost their ESC.
fn bracket(p: &mut Peeled<'_>, clock: &mut Clock) {
    if spelled_escape(p.rest).is_some() {
        escape(p);
        return;
    }
    let Some(end) = p.rest.iter().take(REACH).position(|b| *b == b']') else {
        return;
    };
    let (Some(inside), Some(rest)) = (p.rest.get(1..end), p.rest.get(end + 1..)) else {
        return;
    };
    if let Some(pod) = inside.strip_prefix(b"pod/") {
        let mut c = Cur(pod);
        let name = c.until(b'/').unwrap_or(pod);
        p.prefix.pod = Some((name, c.0.strip_prefix(b"/").unwrap_or_default()));
        p.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        return;
    }
    if let Some((at, left)) = clock.date_time(inside)
        && left.trim_ascii().is_empty()
    {
        if p.at.is_none() {
            p.at = Some(at);
        }
        p.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        return;
    }
    let colon = rest.strip_prefix(b":");
    let mut c = Cur(inside);
    if let Some(after) = colon {
        c.0 = inside
            .strip_prefix(b"rank")
            .or_else(|| inside.strip_prefix(b"default"))
            .unwrap_or(inside);
        if c.0.len() == inside.len() {
            // `[node-a:0]:` of torchx; the host's own colon is the last one.
            let Some(at) = inside.iter().rposition(|b| *b == b':') else {
                return;
            };
            c.0 = inside.get(at + 1..).unwrap_or_default();
        }
        // torch prints `[rank5[]: ` too.
        if let Some(rank) = c.int()
            && matches!(c.0, b"" | b"[")
        {
            p.prefix.rank = Some(rank);
            p.rest = after.strip_prefix(b" ").unwrap_or(after);
        }
        return;
    }
    if let Some(after) = rest
        .strip_prefix(b"<stdout>:")
        .or_else(|| rest.strip_prefix(b"<stderr>:"))
    {
        if c.num().is_some()
            && c.eat(b",")
            && let Some(rank) = c.int()
        {
            p.prefix.rank = Some(rank);
            p.rest = after.strip_prefix(b" ").unwrap_or(after);
        }
        return;
    }
    if let Some(rank) = c.int::<u32>()
        && c.0.is_empty()
        && let Some(after) = rest.strip_prefix(b" ")
        && begins(after)
        && (!after.starts_with(b"NCCL ") || after.starts_with(b"NCCL version"))
    {
        // `[3] NCCL INFO` is the device of a head that lost its host.
        p.prefix.rank = Some(rank);
        p.rest = after;
    }
}

/// Blanks in front of another prefix or of a head; elsewhere they mean something to the reader.
fn indented<'a>(p: &mut Peeled<'a>, clock: &mut Clock) {
    let trimmed = p.rest.trim_ascii_start();
    let mut inner = Peeled {
        rest: trimmed,
        ..*p
    };
    match trimmed.first() {
        Some(b'0'..=b'9') => number(&mut inner, clock),
        Some(b'|') => column(&mut inner),
        Some(b'(') => process(&mut inner),
        Some(b'[') => bracket(&mut inner, clock),
        _ => {}
    }
    if inner.rest.len() < trimmed.len() || begins_nccl(trimmed) {
        *p = inner;
    }
}

/// The second column of a viewer: `| stamp | `.
fn column(p: &mut Peeled<'_>) {
    let rest = p.rest.get(1..).unwrap_or_default();
    p.rest = rest.strip_prefix(b" ").unwrap_or(rest);
}

/// `> `, the mark of quoted mail and chat.
fn quote(p: &mut Peeled<'_>) {
    if let Some(rest) = p.rest.strip_prefix(b"> ") {
        p.rest = rest;
    }
}

fn escape(p: &mut Peeled<'_>) {
    if let Some(rest) = spelled_escape(p.rest) {
        p.rest = rest;
    }
}

/// How an ESC is spelled out.
const LEADS: [&[u8]; 5] = [b"ESC", "\u{2190}".as_bytes(), b"^[", b"\\x1b", b"\\u001b"];

/// `[36m`, `ESC[36m`, `←[36m`, `^[[36m`: what copying makes of a colour code.
fn spelled_escape(s: &[u8]) -> Option<&[u8]> {
    let body = LEADS
        .iter()
        .find_map(|lead| s.strip_prefix(*lead))
        .unwrap_or(s);
    let mut c = Cur(body.strip_prefix(b"[")?);
    let codes = c.run(|b| b.is_ascii_digit() || b == b';');
    (codes.len() <= 11 && c.eat(b"m") && (!codes.is_empty() || body.len() < s.len())).then_some(c.0)
}

/// Prefixes that begin with a word: compose, grep, pdsh, stern, torchx, `ctime` stamps.
fn word<'a>(p: &mut Peeled<'a>) {
    let s = p.rest;
    if is_header(s) || begins_nccl(s) {
        return;
    }
    if let Some((at, rest)) = stamp::ctime(s) {
        p.at = p.at.or(Some(at));
        p.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        return;
    }
    let near = s.get(..REACH.min(s.len())).unwrap_or_default();
    let Some(end) = near
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/')))
    else {
        return;
    };
    let (Some(token), Some(rest)) = (s.get(..end), s.get(end..)) else {
        return;
    };
    match rest {
        [b':', b' ', after @ ..] if is_host(token) && begins(after) => {
            p.prefix.from = Some(token);
            p.rest = after;
        }
        // `rank_12.log:` or `rank_12.log:417:`
        [b':', after @ ..] if token.contains(&b'.') || token.contains(&b'/') => {
            let mut c = Cur(after);
            let numbered = c.num().is_some() && c.eat(b":");
            let after = if numbered && begins(c.0) { c.0 } else { after };
            if begins(after) && !after.starts_with(b" ") {
                p.prefix.file = Some(token);
                p.rest = after;
            }
        }
        [b' ', ..] => {
            let trimmed = rest.trim_ascii_start();
            if let Some(after) = trimmed.strip_prefix(b"| ") {
                p.prefix.from = Some(token);
                p.rest = after;
            } else if trimmed == b"|" {
                p.rest = &[];
            } else if token.contains(&b'/') && trimmed.starts_with(b"[default") {
                p.rest = trimmed;
            } else if is_kube_name(token) {
                let mut c = Cur(rest.get(1..).unwrap_or_default());
                let container =
                    c.run(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if !container.is_empty() && c.eat(b" ") && begins(c.0) {
                    p.prefix.pod = Some((token, container));
                    p.rest = c.0;
                }
            }
        }
        _ => {}
    }
}

fn is_host(token: &[u8]) -> bool {
    !token.is_empty()
        && token
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !token.ends_with(b"Error")
}

fn is_kube_name(token: &[u8]) -> bool {
    token
        .iter()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

/// ` [repeated 7x across cluster]` at the end of a line that Ray forwarded.
fn repeated(p: &mut Peeled<'_>) {
    if let Some((_, n)) = repeat(p.rest) {
        p.prefix.repeated = n;
    }
}

/// How the lines end that stand for others: in the count, in its colour, or in the advice that Ray gives once.
#[inline]
fn may_repeat(s: &[u8]) -> bool {
    [&b"cluster]"[..], b"options.)", b"[0m", b"[39m"]
        .iter()
        .any(|end| s.ends_with(end))
}

/// What stands before Ray's repeat suffix, and its number.
fn repeat(s: &[u8]) -> Option<(&[u8], u32)> {
    let end = s.trim_ascii_end();
    if !may_repeat(end) {
        return None;
    }
    let at = memchr::memmem::rfind(end, b"[repeated ")?;
    let (before, tail) = end.split_at_checked(at)?;
    let mut c = Cur(tail.strip_prefix(b"[repeated ")?);
    let n = c.int::<u32>()?;
    if !c.eat(b"x across cluster]") {
        return None;
    }
    let mut rest = c.0;
    while let Some(after) = spelled_escape(rest) {
        rest = after;
    }
    if !(rest.is_empty() || rest.starts_with(b" (Ray deduplicates logs")) {
        return None;
    }
    // A colour code that lost its ESC stands in front of the count.
    let before = before.trim_ascii_end();
    let colour = memchr::memrchr(b'[', before)
        .and_then(|at| before.split_at_checked(at))
        .filter(|(_, code)| spelled_escape(code).is_some_and(<[u8]>::is_empty));
    let before = colour.map_or(before, |(text, _)| {
        let lead = LEADS.iter().find_map(|lead| text.strip_suffix(*lead));
        lead.unwrap_or(text).trim_ascii_end()
    });
    Some((before, n))
}

/// What stands before Ray's repeat suffix.
pub(super) fn before_repeat(msg: &[u8]) -> &[u8] {
    repeat(msg).map_or(msg, |(before, _)| before)
}

/// A head, a bare version line, or another prefix or header begins here.
fn begins(s: &[u8]) -> bool {
    match s.first() {
        None => true,
        Some(b'(') => {
            let near = s.get(..REACH.min(s.len())).unwrap_or_default();
            near.windows(4).any(|w| w == b"pid=") || near.starts_with(b"(raylet")
        }
        Some(b'[') => {
            s.starts_with(b"[rank")
                || s.starts_with(b"[default")
                || s.starts_with(b"[20")
                || spelled_escape(s).is_some()
                || head_after_dev(s)
        }
        Some(b'{') => s.starts_with(b"{\""),
        Some(b'0'..=b'9') if is_date(s) => true,
        _ => is_header(s) || begins_nccl(s),
    }
}

fn head_after_dev(s: &[u8]) -> bool {
    matches!(s, [b'[', b'0'..=b'9' | b'-', ..])
        && s.get(..64.min(s.len()))
            .is_some_and(|near| super::bytes::has(near, b"NCCL "))
}

fn is_date(s: &[u8]) -> bool {
    matches!(
        s,
        [
            b'0'..=b'9',
            b'0'..=b'9',
            b'0'..=b'9',
            b'0'..=b'9',
            b'-' | b'/',
            b'0'..=b'9',
            b'0'..=b'9',
            b'-' | b'/',
            ..
        ]
    )
}

/// An NCCL head or a bare version line begins here.
pub(super) fn begins_nccl(s: &[u8]) -> bool {
    head::at(s).is_some() || s.starts_with(b"NCCL ") || s.starts_with(b"RCCL version")
}

/// A record of Python's logging begins here: vLLM's header of any era, or uvicorn's `INFO:     `.
#[inline]
pub(super) fn is_header(s: &[u8]) -> bool {
    header(s).is_some()
}

/// What follows the level word of a Python record.
#[inline]
pub(super) fn header(s: &[u8]) -> Option<&[u8]> {
    // Most lines begin with something else altogether.
    if !matches!(s.first()?, b'I' | b'W' | b'E' | b'D' | b'T' | b'C') {
        return None;
    }
    let rest = match s {
        [b'I', b'N', b'F', b'O', rest @ ..]
        | [b'W', b'A', b'R', b'N', b'I', b'N', b'G', rest @ ..]
        | [b'E', b'R', b'R', b'O', b'R', rest @ ..]
        | [b'D', b'E', b'B', b'U', b'G', rest @ ..]
        | [b'T', b'R', b'A', b'C', b'E', rest @ ..]
        | [b'C', b'R', b'I', b'T', b'I', b'C', b'A', b'L', rest @ ..] => rest,
        _ => return None,
    };
    matches!(rest.first(), Some(b' ' | b':')).then_some(rest)
}

/// Splits a line that begins with one process prefix and goes on with a record: `(Worker_TP0 pid=388) ` and
/// `INFO …`. The bytes of the prefix stand for it in a cache.
#[inline]
pub(super) fn process_and_rest(s: &[u8]) -> Option<(&[u8], &[u8])> {
    if s.first() != Some(&b'(') || may_repeat(s) {
        return None;
    }
    process_prefix(s)
}

/// The same where the end of the line is not known yet: what follows the prefix is the rest of the text.
#[inline]
pub(super) fn process_prefix(s: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = near(b')', s.get(..REACH.min(s.len()))?)? + 2;
    s.split_at_checked(end)
        .filter(|(prefix, _)| prefix.ends_with(b" "))
}

/// The same where only one counts that was read before, which are not short: most end in the second to the fourth
/// of their words.
#[inline]
pub(super) fn long_prefix(s: &[u8]) -> Option<(&[u8], &[u8])> {
    const FROM: usize = 8;
    let next: &[u8; 24] = s.get(FROM..)?.first_chunk()?;
    let words = next.as_chunks::<8>().0.iter().zip(0_usize..);
    let at = words
        .filter_map(|(word, n)| Some(near(b')', word)? + n * 8))
        .next();
    let Some(at) = at else {
        return process_prefix(s);
    };
    s.split_at_checked(FROM + at + 2)
        .filter(|(prefix, _)| prefix.ends_with(b" "))
}
