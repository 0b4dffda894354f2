//! Secrets in plain text: names with their values, and shapes.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::{MARK, Rule, Span};

/// Longest name that is read.
const NAME: usize = 96;

/// What a literal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A word that makes a name a secret's.
    Word,
    /// A token that begins so, and needs as many letters and digits after it.
    Token(usize),
    /// An AWS key id.
    Aws,
    /// A JSON web token or what else is base64 of `{"`.
    Jwt,
    /// `Bearer`, `Basic`.
    Scheme,
    /// `://`.
    Url,
    /// `-----BEGIN`.
    Key,
}

/// Every literal, lower case where case doesn't matter; those of shapes are compared again with case.
const SIGNS: &[(&str, Sign)] = &[
    ("key", Sign::Word),
    ("token", Sign::Word),
    ("secret", Sign::Word),
    ("pass", Sign::Word),
    ("password", Sign::Word),
    ("passwords", Sign::Word),
    ("passwd", Sign::Word),
    ("passphrase", Sign::Word),
    ("passcode", Sign::Word),
    ("auth", Sign::Word),
    ("authorization", Sign::Word),
    ("authtoken", Sign::Word),
    ("apikey", Sign::Word),
    ("apikeys", Sign::Word),
    ("api_keys", Sign::Word),
    ("api-keys", Sign::Word),
    ("accesskey", Sign::Word),
    ("accesstoken", Sign::Word),
    ("secretkey", Sign::Word),
    ("secrets", Sign::Word),
    ("privatekey", Sign::Word),
    ("credential", Sign::Word),
    ("credentials", Sign::Word),
    ("cookie", Sign::Word),
    ("hf_", Sign::Token(8)),
    ("api_org_", Sign::Token(8)),
    ("sk-", Sign::Token(12)),
    ("rk_live_", Sign::Token(8)),
    ("sk_live_", Sign::Token(8)),
    ("ghp_", Sign::Token(12)),
    ("gho_", Sign::Token(12)),
    ("ghs_", Sign::Token(12)),
    ("ghu_", Sign::Token(12)),
    ("ghr_", Sign::Token(12)),
    ("github_pat_", Sign::Token(12)),
    ("glpat-", Sign::Token(12)),
    ("xoxb-", Sign::Token(8)),
    ("xoxp-", Sign::Token(8)),
    ("xoxa-", Sign::Token(8)),
    ("nvapi-", Sign::Token(12)),
    ("aiza", Sign::Token(24)),
    ("ya29.", Sign::Token(12)),
    ("akia", Sign::Aws),
    ("asia", Sign::Aws),
    ("aroa", Sign::Aws),
    ("aida", Sign::Aws),
    ("eyj", Sign::Jwt),
    ("bearer", Sign::Scheme),
    ("basic", Sign::Scheme),
    ("://", Sign::Url),
    ("-----begin", Sign::Key),
];

static SEARCHER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(SIGNS.iter().map(|(text, _)| text))
        .ok()
});

/// Names of fields of Kubernetes and of tokenizers that hold no secret though a word of theirs says so.
const NO_SECRET: &[&str] = &[
    "secretname",
    "secretkeyref",
    "configmapkeyref",
    "topologykey",
    "keypath",
    "tokenpath",
    "tokenexpirationseconds",
    "automountserviceaccounttoken",
    "serviceaccounttoken",
];

/// Tokens that models are made of.
const MODEL_TOKENS: &[&str] = &[
    "bos", "eos", "pad", "unk", "cls", "sep", "mask", "stop", "start", "end", "special", "image",
    "video", "audio", "prefix", "suffix", "first", "next", "per", "last", "new", "num", "max",
    "min", "output", "input", "prompt", "time",
];

fn part_of_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')
}

fn part_of_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// Whether a whole name is a secret's.
pub(super) fn smells(name: &[u8]) -> bool {
    let Some(searcher) = SEARCHER.as_ref() else {
        return true;
    };
    name.len() <= NAME
        && searcher.find_overlapping_iter(name).any(|m| {
            matches!(sign(m.pattern().as_usize()), Some(Sign::Word))
                && is_word(name, m.start(), m.end())
        })
        && !exempt(name)
}

fn sign(pattern: usize) -> Option<Sign> {
    SIGNS.get(pattern).map(|(_, sign)| *sign)
}

fn exempt(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let last = lower.rsplit(|b| *b == b'.').next().unwrap_or(&lower);
    if NO_SECRET.iter().any(|n| n.as_bytes() == last) {
        return true;
    }
    // An exception is no value.
    if lower.ends_with(b"error") || lower.ends_with(b"exception") {
        return true;
    }
    let mut words = last
        .split(|b| matches!(b, b'_' | b'-'))
        .filter(|w| !w.is_empty());
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    // `bos_token`, `eos_token_id`, but not `API_TOKEN`; a variable in capitals is never a model's.
    second == Some(b"token")
        && name.iter().any(u8::is_ascii_lowercase)
        && MODEL_TOKENS.iter().any(|m| m.as_bytes() == first)
}

/// Whether `text[start..end]` is a word of the name around it: bounded by what is no letter, or by a change of case.
fn is_word(text: &[u8], start: usize, end: usize) -> bool {
    let at = |i: usize| text.get(i).copied().unwrap_or(b' ');
    let (first, second, last) = (at(start), at(start + 1), at(end.saturating_sub(1)));
    let before = start.checked_sub(1).map_or(b' ', at);
    let after = at(end);
    let left = !before.is_ascii_alphabetic()
        || before.is_ascii_lowercase() && first.is_ascii_uppercase()
        || first.is_ascii_uppercase() && second.is_ascii_lowercase();
    let right =
        !after.is_ascii_alphabetic() || last.is_ascii_lowercase() && after.is_ascii_uppercase();
    left && right
}

/// `HF_TOKEN`: as variables are written.
pub(super) fn is_variable(name: &[u8]) -> bool {
    name.len() > 2
        && name.len() <= NAME
        && name
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
}

/// Whether a value behind this name is worth being looked for elsewhere: a word such as `key` alone is too weak.
pub(super) fn strong(name: &[u8]) -> bool {
    is_variable(name)
        || name.starts_with(b"-")
        || name.iter().any(|b| matches!(b, b'_' | b'-'))
        || name.windows(4).any(|w| w.eq_ignore_ascii_case(b"pass"))
        || name.windows(6).any(|w| w.eq_ignore_ascii_case(b"secret"))
        || name.windows(5).any(|w| w.eq_ignore_ascii_case(b"apike"))
}

/// Whether a value behind a secret's name tells nothing: unset, a reference to elsewhere, a small number.
pub(super) fn harmless(name: &[u8], value: &[u8]) -> bool {
    let v = value.trim_ascii();
    const SAYS_NOTHING: &[&str] = &[
        "", "none", "null", "nil", "true", "false", "unset", "<unset>", "<set>", "set", "not set",
        "~", "...", "{}", "[]", "()", "|", ">", "yes", "no", "\"\"", "''", "%s", "%r", "{", "[",
        "(", "\u{2026}",
    ];
    if SAYS_NOTHING
        .iter()
        .any(|s| v.eq_ignore_ascii_case(s.as_bytes()))
        || v.starts_with(MARK.as_bytes())
        || v.iter().all(|b| *b == b'*')
        || v.starts_with(b"${")
        || v.starts_with(b"$(")
        || v.starts_with(b"<class ")
    {
        return true;
    }
    if v.first() == Some(&b'$')
        && v.len() > 1
        && v.iter()
            .skip(1)
            .all(|b| b.is_ascii_uppercase() || *b == b'_')
    {
        return true;
    }
    // `key: nvidia.com/gpu` of a toleration, `key: config.json` of a volume: names of things.
    if name.eq_ignore_ascii_case(b"key") && !long_and_mixed(v) {
        return true;
    }
    // Sizes and counts of tokens and keys; a password may well be a number.
    let pass = name.windows(4).any(|w| w.eq_ignore_ascii_case(b"pass"))
        || name.windows(6).any(|w| w.eq_ignore_ascii_case(b"secret"));
    let most = if pass { 2 } else { 9 };
    v.len() <= most && v.iter().all(|b| b.is_ascii_digit() || *b == b'.')
}

/// Everything in plain text.
pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let Some(searcher) = SEARCHER.as_ref() else {
        return;
    };
    // A name with two such words is read once.
    let mut read_to = 0;
    for m in searcher.find_overlapping_iter(text) {
        let (start, end) = (m.start(), m.end());
        match sign(m.pattern().as_usize()) {
            Some(Sign::Word) => {
                if is_word(text, start, end)
                    && let Some(name) = name_around(text, start, end)
                    && (name.1 > read_to)
                {
                    read_to = name.1;
                    named(text, name, spans);
                }
            }
            Some(Sign::Token(least)) => token(text, start, end, least, spans),
            Some(Sign::Aws) => aws(text, start, end, spans),
            Some(Sign::Jwt) => jwt(text, start, spans),
            Some(Sign::Scheme) => scheme(text, start, end, spans),
            Some(Sign::Url) => url(text, end, spans),
            Some(Sign::Key) => private_key(text, start, spans),
            None => {}
        }
    }
}

fn push(spans: &mut Vec<Span>, start: usize, end: usize, rule: Rule) {
    if start < end {
        spans.push(Span {
            start,
            end,
            rule,
            name: String::new(),
        });
    }
}

/// The name that a word belongs to.
fn name_around(text: &[u8], start: usize, end: usize) -> Option<(usize, usize)> {
    let left = text
        .get(start.saturating_sub(NAME)..start)?
        .iter()
        .rev()
        .take_while(|b| part_of_name(**b))
        .count();
    let right = text
        .get(end..)?
        .iter()
        .take(NAME)
        .take_while(|b| part_of_name(**b))
        .count();
    let (mut from, mut to) = (start - left, end + right);
    // A full stop behind a name ends a sentence.
    while to > end && text.get(to - 1) == Some(&b'.') {
        to -= 1;
    }
    // A list in YAML: `- name`; dashes in front belong to a flag only where a letter follows.
    while from < start && text.get(from) == Some(&b'.') {
        from += 1;
    }
    Some((from, to))
}

/// Text as a cursor reads it.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let n = self.rest().iter().take_while(|b| wanted(**b)).count();
        self.at += n;
        n
    }

    /// A quotation mark, however it is escaped; gives its bytes.
    fn quote(&mut self) -> Option<(usize, u8)> {
        let slashes = self
            .rest()
            .iter()
            .take(8)
            .take_while(|b| **b == b'\\')
            .count();
        let mark = *self.text.get(self.at + slashes)?;
        if !matches!(mark, b'"' | b'\'' | b'`') {
            return None;
        }
        self.at += slashes + 1;
        Some((slashes, mark))
    }
}

/// The value behind a name, if that is what stands there.
fn named(text: &[u8], (from, to): (usize, usize), spans: &mut Vec<Span>) {
    let Some(name) = text.get(from..to) else {
        return;
    };
    if !smells(name) {
        return;
    }
    let before = text.get(..from).unwrap_or_default();
    let line = memchr::memrchr(b'\n', before).map_or(0, |n| n + 1);
    let lead = text.get(line..from).unwrap_or_default();
    let mut r = Reader { text, at: to };
    let quoted = r.quote();
    let bracket = r.peek() == Some(b']');
    r.at += usize::from(bracket);
    let blanks = r.skip(|b| matches!(b, b' ' | b'\t'));
    let pure = |value: (usize, usize), spans: &mut Vec<Span>| {
        let (start, end) = value;
        let Some(bytes) = text.get(start..end) else {
            return;
        };
        if start < end && !harmless(name, bytes) {
            spans.push(Span {
                start,
                end,
                rule: Rule::Name,
                name: String::from_utf8_lossy(name).into_owned(),
            });
        }
    };
    match r.peek() {
        Some(b'=') => {
            r.skip(|b| matches!(b, b'=' | b'>' | b'~'));
            r.skip(|b| matches!(b, b' ' | b'\t'));
            // `env` prints one variable a line: the value is what is left of it.
            let whole = blanks == 0 && quoted.is_none() && is_variable(name) && leads_nothing(lead);
            value(
                &mut r,
                if whole { Until::Line } else { Until::Word },
                name,
                &pure,
                spans,
            );
        }
        Some(b':') if r.text.get(r.at + 1) != Some(&b':') => {
            r.at += 1;
            if r.peek() == Some(b'=') {
                r.at += 1;
            }
            let tight = r.skip(|b| matches!(b, b' ' | b'\t')) == 0;
            let whole = quoted.is_none() && leads_nothing(lead);
            if whole && !tight && block_scalar(r.rest()) {
                block(text, &mut r, lead, &pure, spans);
                return;
            }
            value(
                &mut r,
                if whole { Until::Line } else { Until::Word },
                name,
                &pure,
                spans,
            );
        }
        // The next in a list of name and value; or the value of the `name` that this was.
        _ if quoted.is_some() || name.starts_with(b"-") || leads_name(lead) => {
            let here = r.at;
            r.skip(|b| matches!(b, b',' | b' ' | b'\t' | b'\n' | b'\r'));
            if r.at == here && blanks == 0 {
                return;
            }
            if r.peek() == Some(b'-') && matches!(r.text.get(r.at + 1), Some(b' ')) {
                r.at += 1;
                r.skip(|b| b == b' ');
            }
            let mark = r.at;
            let opened = r.quote();
            if r.rest().starts_with(b"value") {
                r.at += 5;
                r.quote();
                r.skip(|b| b == b' ');
                if r.peek() == Some(b':') {
                    r.at += 1;
                    r.skip(|b| b == b' ');
                    let whole = opened.is_none();
                    value(
                        &mut r,
                        if whole { Until::Line } else { Until::Word },
                        name,
                        &pure,
                        spans,
                    );
                }
                return;
            }
            let flag = name.starts_with(b"-");
            let pair = quoted.is_some() && opened.is_some() && is_variable(name);
            r.at = mark;
            if flag && r.peek() != Some(b'-') || pair {
                value(&mut r, Until::Word, name, &pure, spans);
            }
        }
        _ => {}
    }
}

/// How far an unquoted value reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Word,
    Line,
}

fn value(
    r: &mut Reader<'_>,
    until: Until,
    name: &[u8],
    pure: &dyn Fn((usize, usize), &mut Vec<Span>),
    spans: &mut Vec<Span>,
) {
    // `b'…'`, `SecretStr('…')`.
    let call = r
        .rest()
        .iter()
        .take(24)
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
        .count();
    match (r.text.get(r.at + call), r.text.get(r.at + call + 1)) {
        (Some(b'\'' | b'"'), _) if call <= 2 => r.at += call,
        (Some(b'('), Some(b'\'' | b'"')) if call > 0 => r.at += call + 1,
        _ => {}
    }
    if let Some((slashes, mark)) = r.quote() {
        let start = r.at;
        let end = closing(r.text, start, slashes, mark);
        pure((start, end), spans);
        return;
    }
    if r.rest().starts_with(MARK.as_bytes()) {
        return;
    }
    if r.peek() == Some(b'[') {
        let opened = r.at;
        r.at += 1;
        loop {
            r.skip(|b| matches!(b, b' ' | b',' | b'\n' | b'\t'));
            let Some((slashes, mark)) = r.quote() else {
                break;
            };
            let start = r.at;
            let end = closing(r.text, start, slashes, mark);
            pure((start, end), spans);
            r.at = end + slashes + 1;
        }
        if r.text.get(r.at) == Some(&b']') || r.at >= r.text.len() {
            return;
        }
        // A list without quotation marks, as YAML has it: all of it.
        let rest = r.rest();
        let line = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..line).unwrap_or_default();
        let end = memchr::memchr(b']', line).unwrap_or(line.len());
        pure((opened + 1, r.at + end), spans);
        return;
    }
    let start = r.at;
    let rest = r.rest();
    let line = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    let rest = rest.get(..line).unwrap_or_default();
    let word = rest
        .iter()
        .position(|b| matches!(b, b' ' | b'\t' | b'"' | b'\'' | b'&' | b'<' | b'>' | b'`'))
        .unwrap_or(rest.len());
    // `Authorization: Digest username=…`: what follows the scheme is the secret.
    let header = [&b"auth"[..], b"cookie"]
        .iter()
        .any(|w| name.windows(w.len()).any(|n| n.eq_ignore_ascii_case(w)));
    let length = match until {
        Until::Line => rest.len(),
        Until::Word if header && word < rest.len() && rest.get(..word).is_some_and(is_scheme) => {
            rest.iter()
                .position(|b| matches!(b, b'"' | b'\'' | b'`'))
                .unwrap_or(rest.len())
        }
        Until::Word => word,
    };
    let bytes = rest.get(..length).unwrap_or_default();
    let mut end = start + bytes.trim_ascii_end().len();
    if until == Until::Word {
        while end > start && matches!(r.text.get(end - 1), Some(b',' | b';' | b')' | b']' | b'}')) {
            end -= 1;
        }
    }
    pure((start, end), spans);
}

fn is_scheme(word: &[u8]) -> bool {
    word.len() <= 12 && word.len() >= 3 && word.iter().all(u8::is_ascii_alphabetic)
}

/// Where the quotation ends; where it never does, at the end of the line.
fn closing(text: &[u8], start: usize, slashes: usize, mark: u8) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let mut at = 0;
    while let Some(n) = rest.get(at..).and_then(|r| memchr::memchr2(mark, b'\n', r)) {
        let here = at + n;
        if rest.get(here) == Some(&b'\n') {
            return start + here;
        }
        let before = rest
            .get(..here)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|b| **b == b'\\')
            .count();
        // As many backslashes as opened it; more of them are a quotation mark inside.
        if before == slashes || slashes == 0 && before % 2 == 0 {
            return start + here - slashes;
        }
        at = here + 1;
    }
    text.len()
}

/// Nothing but what may stand in front of a key or a variable on a line of its own.
fn leads_nothing(lead: &[u8]) -> bool {
    let lead = lead.trim_ascii();
    matches!(
        lead,
        b"" | b"-" | b"export" | b"declare -x" | b"set" | b">" | b"<" | b"*" | b"+" | b"|" | b"ENV"
    )
}

/// `name: ` or `"name":"` stands in front.
fn leads_name(lead: &[u8]) -> bool {
    lead.trim_ascii_end().ends_with(b"name:")
}

fn long_and_mixed(value: &[u8]) -> bool {
    let word = value
        .iter()
        .skip_while(|b| matches!(b, b'"' | b'\''))
        .take_while(|b| part_of_token(**b) || matches!(b, b'+' | b'='));
    let (mut n, mut digits, mut letters) = (0, 0, 0);
    for b in word {
        n += 1;
        digits += usize::from(b.is_ascii_digit());
        letters += usize::from(b.is_ascii_alphabetic());
    }
    n >= 20 && digits > 1 && letters > 1
}

/// `|`, `>-` and the like: the value stands on the lines that follow.
fn block_scalar(rest: &[u8]) -> bool {
    let line = rest
        .split(|b| *b == b'\n')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    matches!(line, b"|" | b">" | b"|-" | b">-" | b"|+" | b">+")
}

/// The lines of a block scalar: those indented more than their key.
fn block(
    text: &[u8],
    r: &mut Reader<'_>,
    lead: &[u8],
    pure: &dyn Fn((usize, usize), &mut Vec<Span>),
    spans: &mut Vec<Span>,
) {
    let depth = lead.len();
    r.skip(|b| b != b'\n');
    while r.peek() == Some(b'\n') {
        r.at += 1;
        let indent = r.skip(|b| b == b' ');
        let start = r.at;
        r.skip(|b| b != b'\n');
        let blank = text
            .get(start..r.at)
            .unwrap_or_default()
            .trim_ascii()
            .is_empty();
        if indent <= depth && !blank {
            return;
        }
        pure((start, r.at), spans);
    }
}

/// The character in front is no part of the same word.
fn bounded(text: &[u8], start: usize) -> bool {
    start
        .checked_sub(1)
        .and_then(|i| text.get(i))
        .is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_')
}

fn token(text: &[u8], start: usize, end: usize, least: usize, spans: &mut Vec<Span>) {
    // Prefixes are lower case in the world, but for Google's.
    let prefix = text.get(start..end).unwrap_or_default();
    let google = prefix.eq_ignore_ascii_case(b"aiza");
    if google && prefix != b"AIza"
        || !google && prefix.iter().any(u8::is_ascii_uppercase)
        || !bounded(text, start)
    {
        return;
    }
    let rest = text.get(end..).unwrap_or_default();
    let n = rest.iter().take_while(|b| part_of_token(**b)).count();
    let body = rest.get(..n).unwrap_or_default();
    // `hf_transfer_enabled`, `sk-learn-something`: words, not tokens.
    let words = body
        .iter()
        .all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-'))
        && body.iter().any(|b| matches!(b, b'_' | b'-'));
    // Cut off by the edge of a screen.
    let cut = rest.get(n..).is_some_and(|r| r.starts_with("…".as_bytes())) && n >= 4;
    let lower = body.iter().all(u8::is_ascii_lowercase) && n < 20;
    if (n >= least || cut) && !words && !lower {
        push(spans, start, end + n, Rule::Token);
    }
}

fn aws(text: &[u8], start: usize, end: usize, spans: &mut Vec<Span>) {
    let rest = text.get(end..).unwrap_or_default();
    let n = rest
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        .count();
    let upper = text
        .get(start..end)
        .is_some_and(|p| p.iter().all(u8::is_ascii_uppercase));
    if upper && n >= 12 && bounded(text, start) {
        push(spans, start, end + n, Rule::Aws);
    }
}

fn jwt(text: &[u8], start: usize, spans: &mut Vec<Span>) {
    let rest = text.get(start..).unwrap_or_default();
    if !rest.starts_with(b"eyJ") || !bounded(text, start) {
        return;
    }
    let n = rest
        .iter()
        .take_while(|b| part_of_token(**b) || matches!(b, b'.' | b'+' | b'/' | b'='))
        .count();
    let body = rest.get(..n).unwrap_or_default();
    let parts: Vec<usize> = body.split(|b| *b == b'.').map(<[u8]>::len).collect();
    let cut = rest.get(n..).is_some_and(|r| r.starts_with("…".as_bytes())) && n >= 8;
    let token = parts.len() >= 2 && parts.iter().take(2).all(|n| *n >= 8);
    if token || cut || body.starts_with(b"eyJhdXRocyI") {
        push(spans, start, start + n, Rule::Jwt);
    }
}

fn scheme(text: &[u8], start: usize, end: usize, spans: &mut Vec<Span>) {
    if !bounded(text, start) {
        return;
    }
    let mut r = Reader { text, at: end };
    if r.skip(|b| matches!(b, b' ' | b'\t' | b'+' | b':')) == 0 {
        return;
    }
    let from = r.at;
    let n = r.skip(|b| part_of_token(b) || matches!(b, b'.' | b'~' | b'+' | b'/' | b'='));
    let body = text.get(from..from + n).unwrap_or_default();
    if body.starts_with(MARK.as_bytes()) {
        return;
    }
    let basic = text
        .get(start..end)
        .is_some_and(|w| w.eq_ignore_ascii_case(b"basic"));
    // "basic settings", "bearer tokens" are prose.
    let word = body
        .iter()
        .all(|b| b.is_ascii_lowercase() || *b == b'.' || *b == b',');
    let user = || super::views::base64(body).is_some_and(|plain| plain.contains(&b':'));
    if basic && n >= 6 && user() || !basic && n >= 6 && !word {
        push(spans, from, from + n, Rule::Bearer);
    }
}

/// `user:password@` behind `://`, at `start`.
fn url(text: &[u8], start: usize, spans: &mut Vec<Span>) {
    let rest = text.get(start..).unwrap_or_default();
    let n = rest
        .iter()
        .take(1024)
        .take_while(|b| {
            !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\')
        })
        .count();
    let body = rest.get(..n).unwrap_or_default();
    let path = body
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(body.len());
    let authority = body.get(..path).unwrap_or_default();
    let query = body
        .iter()
        .position(|b| matches!(b, b'?' | b'#'))
        .unwrap_or(body.len());
    let password = memchr::memchr(b'@', authority)
        .is_some_and(|at| memchr::memchr(b':', authority).is_some_and(|colon| colon < at));
    let authority_end = if password { query } else { path };
    let at = memchr::memrchr(b'@', body.get(..authority_end).unwrap_or_default()).or_else(|| {
        // A password with a slash in it, as no standard allows; digits behind the colon are a port.
        let colon = memchr::memchr(b':', authority)?;
        let port = authority
            .get(colon + 1..)
            .unwrap_or_default()
            .iter()
            .all(u8::is_ascii_digit);
        (!port).then(|| memchr::memrchr(b'@', body)).flatten()
    });
    let cut = body.ends_with("…".as_bytes())
        && memchr::memchr(b':', authority).is_some_and(|c| {
            authority
                .get(c + 1)
                .is_some_and(|b| !b.is_ascii_digit() && *b < 0x80)
        });
    let end = match at {
        Some(at) => at,
        None if cut => n,
        None => return,
    };
    let user = body.get(..end).unwrap_or_default();
    if !user.is_empty() && user != MARK.as_bytes() {
        push(spans, start, start + end, Rule::Url);
    }
}

const BEGIN: &[u8] = b"-----BEGIN";
const END: &[u8] = b"-----END";

fn is_private(text: &[u8], start: usize) -> bool {
    text.get(start..)
        .and_then(|rest| rest.get(..rest.len().min(64)))
        .is_some_and(|head| memchr::memmem::find(head, b"PRIVATE KEY").is_some())
}

/// From the key's first line to its last, or to the end of what is there.
fn private_key(text: &[u8], start: usize, spans: &mut Vec<Span>) {
    let rest = text.get(start..).unwrap_or_default();
    if !rest.starts_with(BEGIN) || !is_private(text, start) {
        return;
    }
    let end = match memchr::memmem::find(rest, END) {
        Some(n) => {
            let tail = rest.get(n + END.len()..).unwrap_or_default();
            let dashes =
                memchr::memmem::find(tail.get(..tail.len().min(64)).unwrap_or_default(), b"-----");
            n + END.len() + dashes.map_or(0, |d| d + 5)
        }
        None => {
            let ends = memchr::memchr_iter(b'\n', rest).nth(super::KEY_LINES as usize);
            ends.unwrap_or(rest.strip_suffix(b"\n").map_or(rest.len(), <[u8]>::len))
        }
    };
    // A span a line: what is put in its place leaves the lines where they are.
    let mut at = start;
    for line in rest
        .get(..end)
        .unwrap_or_default()
        .split_inclusive(|b| *b == b'\n')
    {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        push(spans, at, at + body.len(), Rule::PrivateKey);
        at += line.len();
    }
}

/// How much of `text` belongs to a private key that may go on for `open` lines, and how many lines it still may have.
pub(super) fn rest_of_key(text: &[u8], open: u32) -> (usize, u32) {
    if open == 0 {
        return (0, 0);
    }
    let (mut at, mut left) = (0, open);
    for line in text.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        left -= 1;
        if left == 0 || memchr::memmem::find(line, END).is_some() {
            return (at, 0);
        }
    }
    (at, left)
}

/// Whether a private key begins here that doesn't end here.
pub(super) fn key_stays_open(text: &[u8]) -> bool {
    memchr::memmem::rfind(text, BEGIN).is_some_and(|at| {
        is_private(text, at)
            && text
                .get(at..)
                .is_some_and(|rest| memchr::memmem::find(rest, END).is_none())
    })
}
