//! The redactor: what stands before every way out of the program.
//!
//! Two things make a secret: its *name* (a variable, flag, key or header with KEY, TOKEN, SECRET, PASS or AUTH as a
//! word of it) and its *shape* (`hf_…`, `sk-…`, AWS keys, JSON web tokens, bearer tokens, credentials in addresses,
//! private keys). A value found by its name is remembered and from then on found without it, too. All of that is
//! also looked for behind percent, backslash, HTML, hexadecimal and base64 encoding, and behind one inside another.
//!
//! It leaves line ends where they are, so that line numbers stay true, and what it wrote once it leaves alone. It errs
//! on the side of silence: prose that looks like a secret is lost, a secret that looks like one is not kept.
//!
//! A line without any of some forty literals, without an escape and without a long run of letters and digits costs one
//! pass of a literal searcher and one of a table.

mod find;
mod json;
mod views;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::AhoCorasick;
use serde_json::Value;

pub use json::Redacted;

/// What stands where a secret stood.
pub const MARK: &str = "[redacted]";

/// Values remembered; more secrets than this are no job's.
const KNOWN: usize = 1_024;
/// Distinct names and rules that are listed.
const LISTED: usize = 512;
/// Lines that a private key may have before its end: a key that never ends must not swallow a log.
const KEY_LINES: u32 = 256;

/// Why something was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Its name says so.
    Name,
    /// A bearer or basic credential.
    Bearer,
    /// The shape of a service's token: Hugging Face, OpenAI, GitHub, Slack, Google, NVIDIA …
    Token,
    /// An AWS key id.
    Aws,
    /// A JSON web token.
    Jwt,
    /// User and password in an address.
    Url,
    /// A private key.
    PrivateKey,
    /// A value that stood behind a name elsewhere.
    Known,
}

impl Rule {
    /// The word for it in a list.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Bearer => "bearer",
            Self::Token => "token",
            Self::Aws => "aws-key",
            Self::Jwt => "jwt",
            Self::Url => "url-credentials",
            Self::PrivateKey => "private-key",
            Self::Known => "known-value",
        }
    }
}

/// Something to take out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    rule: Rule,
    /// The name, where that was the reason.
    name: String,
}

/// A line of the list of what was taken out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    /// [`Rule::id`].
    pub rule: String,
    /// The variable, flag, key or header, where that was the reason.
    pub name: Option<String>,
    /// How often.
    pub times: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    off: bool,
    known: BTreeSet<Vec<u8>>,
    searcher: Option<AhoCorasick>,
    /// Values joined since the searcher was built.
    stale: bool,
    taken: BTreeMap<(Rule, String), u64>,
    /// Streams in the middle of a private key, with the lines it may still have.
    keys: BTreeMap<u32, u32>,
    /// Streams whose last lines name a secret that may stand on the next one.
    open: BTreeMap<u32, Vec<u8>>,
}

impl Redactor {
    /// A redactor that knows no value yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that lets everything pass: `--no-redact`.
    #[must_use]
    pub fn off() -> Self {
        Self {
            off: true,
            ..Self::default()
        }
    }

    /// Whether it takes anything out at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.off
    }

    /// Remembers a value by its name, if the name says that it is a secret. For what is no text: variables.
    pub fn learn(&mut self, name: &str, value: &str) {
        if find::smells(name.as_bytes()) {
            self.remember(value.as_bytes());
        }
    }

    fn remember(&mut self, value: &[u8]) {
        if self.known.len() < KNOWN
            && views::worth_knowing(value)
            && self.known.insert(value.to_vec())
        {
            self.stale = true;
            // The data of a Secret object is base64.
            if let Some(plain) = views::base64(value).filter(|plain| views::printable(plain)) {
                self.remember(&plain);
            }
        }
    }

    /// Remembers the values that whole lines of a stream name, and takes nothing out: for what is not written as it
    /// comes, so that a value named further down is known by the time that something is. Costs little more than a
    /// search for the words that name secrets; names behind an encoding are not looked for.
    pub fn hear(&mut self, stream: u32, text: &[u8]) {
        self.hear_but(stream, text, std::iter::empty());
    }

    /// The same without lines that name nothing: from where to where they stand, in order.
    pub fn hear_but(
        &mut self,
        stream: u32,
        text: &[u8],
        silent: impl IntoIterator<Item = (usize, usize)>,
    ) {
        if self.off {
            return;
        }
        self.go_on(stream, text);
        let mut from = 0;
        for (start, end) in silent.into_iter().chain([(text.len(), text.len())]) {
            if from < start {
                self.hear_part(text, from, start);
            }
            from = from.max(end + 1);
        }
    }

    fn hear_part(&mut self, text: &[u8], mut from: usize, to: usize) {
        let part = text.get(..to).unwrap_or(text);
        while let Some(named) = find::next_named(part, from) {
            from = named.line.1;
            let (start, end) = named.with_value(text);
            self.note(text.get(start..end).unwrap_or_default());
        }
    }

    /// A name at the end of what came before, its value at the beginning of this.
    fn go_on(&mut self, stream: u32, text: &[u8]) {
        if let Some(mut open) = self.open.remove(&stream) {
            open.extend_from_slice(find::first_lines(text));
            self.note(&open);
        }
        if let Some(open) = find::open_end(text) {
            self.open.insert(stream, open.to_vec());
        }
    }

    /// Remembers the values that a text names.
    fn note(&mut self, text: &[u8]) {
        let nothing = BTreeSet::new();
        let known = views::Known {
            searcher: None,
            values: &nothing,
        };
        let mut spans = Vec::new();
        views::look(text, known, &mut spans);
        self.learn_from(text, &apart(spans));
    }

    fn learn_from(&mut self, text: &[u8], spans: &[Span]) {
        for span in spans {
            if span.rule == Rule::Name
                && find::strong(span.name.as_bytes())
                && let Some(value) = text.get(span.start..span.end)
            {
                self.remember(value);
            }
        }
    }

    /// Looks for the values that another one knows, too.
    pub fn know_what(&mut self, other: &Self) {
        self.known.extend(other.known.iter().cloned());
        self.stale = true;
    }

    /// What was taken out so far, by rule and name.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.taken
            .iter()
            .map(|((rule, name), times)| Taken {
                rule: rule.id().to_owned(),
                name: Some(name.clone()).filter(|n| !n.is_empty()),
                times: *times,
            })
            .collect()
    }

    /// How much was taken out so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.taken.values().sum()
    }

    /// Text without its secrets.
    pub fn text<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // What is taken out begins and ends at ASCII; a stray byte would be a replacement character.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Bytes without their secrets.
    pub fn bytes<'t>(&mut self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let spans = self.spans(text);
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::with_capacity(text.len());
        let mut from = 0;
        for span in spans {
            let gone = text.get(span.start..span.end).unwrap_or_default();
            out.extend_from_slice(text.get(from..span.start).unwrap_or_default());
            out.extend_from_slice(MARK.as_bytes());
            // Lines keep their numbers.
            out.extend(std::iter::repeat_n(
                b'\n',
                memchr::memchr_iter(b'\n', gone).count(),
            ));
            from = span.end;
        }
        out.extend_from_slice(text.get(from..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// Whole lines of a stream that goes on: a private key may begin in one call and end in another.
    pub fn lines<'t>(&mut self, stream: u32, text: &'t [u8]) -> Cow<'t, [u8]> {
        if self.off {
            return Cow::Borrowed(text);
        }
        self.go_on(stream, text);
        let open = self.keys.remove(&stream).unwrap_or(0);
        let (head, left) = find::rest_of_key(text, open);
        if left > 0 {
            self.keys.insert(stream, left);
        } else if find::key_stays_open(text.get(head..).unwrap_or_default()) {
            self.keys.insert(stream, KEY_LINES);
        }
        if head == 0 {
            return self.bytes(text);
        }
        let (gone, rest) = text.split_at(head);
        let mut out = Vec::with_capacity(text.len());
        for line in gone.split_inclusive(|b| *b == b'\n') {
            out.extend_from_slice(MARK.as_bytes());
            out.extend(line.last().filter(|b| **b == b'\n'));
        }
        out.extend_from_slice(&self.bytes(rest));
        Cow::Owned(out)
    }

    /// The places to be taken out, in order, apart from each other.
    fn spans(&mut self, text: &[u8]) -> Vec<Span> {
        if self.off || text.is_empty() {
            return Vec::new();
        }
        let mut spans = self.detect(text);
        // A value that was named here may stand further up without its name.
        if self.stale {
            spans = self.detect(text);
        }
        for span in &spans {
            self.count(span.rule, &span.name);
        }
        spans
    }

    /// What [`Self::spans`] gives, uncounted; remembers values by their names.
    fn detect(&mut self, text: &[u8]) -> Vec<Span> {
        self.renew();
        let mut spans = Vec::new();
        let known = views::Known {
            searcher: self.searcher.as_ref(),
            values: &self.known,
        };
        views::look(text, known, &mut spans);
        let spans = apart(spans);
        self.learn_from(text, &spans);
        spans
    }

    fn count(&mut self, rule: Rule, name: &str) {
        let full = self.taken.len() >= LISTED;
        let key = (rule, name.to_owned());
        if full && !self.taken.contains_key(&key) {
            *self.taken.entry((rule, String::new())).or_default() += 1;
        } else {
            *self.taken.entry(key).or_default() += 1;
        }
    }

    /// Where the secrets of a line are, for those who paint over them instead of cutting them out.
    pub fn places(&mut self, line: &str) -> Vec<(usize, usize)> {
        let spans = self.spans(line.as_bytes());
        spans.into_iter().map(|s| (s.start, s.end)).collect()
    }

    /// Where values that are known stand in a text, whatever is around them.
    pub fn known_places(&mut self, text: &str) -> Vec<(usize, usize)> {
        if self.off {
            return Vec::new();
        }
        self.renew();
        let found = self.searcher.iter().flat_map(|s| s.find_iter(text));
        found.map(|m| (m.start(), m.end())).collect()
    }

    fn renew(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.searcher = AhoCorasick::new(&self.known).ok();
        }
    }

    /// A value behind a name: gone if the name says so, else without its secrets.
    pub fn named<'t>(&mut self, name: &str, value: &'t str) -> Cow<'t, str> {
        if self.off
            || !find::smells(name.as_bytes())
            || find::harmless(name.as_bytes(), value.as_bytes())
        {
            return self.text(value);
        }
        self.remember(value.as_bytes());
        self.count(Rule::Name, name);
        Cow::Borrowed(MARK)
    }

    /// A tree of values without its secrets: names are the keys of objects, the `name` beside a `value`, the first of
    /// two in a list, or the flag in front.
    pub fn tree(&mut self, tree: &mut Value) {
        if !self.off {
            self.branch(None, tree);
        }
    }

    fn branch(&mut self, name: Option<&str>, value: &mut Value) {
        match value {
            Value::String(text) => {
                let clean = match name {
                    Some(name) => self.named(name, text),
                    None => self.text(text),
                };
                if let Cow::Owned(clean) = clean {
                    *text = clean;
                } else if clean.len() != text.len() {
                    *text = MARK.to_owned();
                }
            }
            Value::Array(list) => {
                // What a name in a list says holds for the string after it.
                let mut before: Option<String> = None;
                for (i, item) in list.iter_mut().enumerate() {
                    let said = before.take();
                    if let Value::String(text) = item {
                        let flag = text.starts_with('-') && !text.contains(['=', ' ']);
                        let variable = i == 0 && find::is_variable(text.as_bytes());
                        before = (flag || variable).then(|| text.clone());
                    }
                    self.branch(said.as_deref().or(name), item);
                }
            }
            Value::Object(map) => {
                let beside = ["name", "key", "header"]
                    .iter()
                    .find_map(|k| map.get(*k).and_then(Value::as_str))
                    .filter(|n| find::smells(n.as_bytes()))
                    .map(str::to_owned);
                for (key, item) in map.iter_mut() {
                    match &beside {
                        Some(name) if key == "value" => self.branch(Some(name), item),
                        _ if find::smells(key.as_bytes()) => self.branch(Some(key), item),
                        _ => self.branch(None, item),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Spans in order, those that overlap made one.
fn apart(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|s| (s.start, std::cmp::Reverse(s.end)));
    let mut apart: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match apart.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => apart.push(span),
        }
    }
    apart
}
