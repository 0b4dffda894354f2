//! As much of a shell as start scripts use: words, quotes, variables, arithmetic, tests.

/// Longest word that expansion makes; what would be longer stays as it is written.
const LONGEST: usize = 4096;
/// Parentheses inside parentheses.
const DEPTH: usize = 16;

/// Gives the value of a variable.
type Known<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `$(NAME)` as Kubernetes expands it in commands and arguments; `$$` escapes.
pub(super) fn references(word: &str, known: Known<'_>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let name = after
            .strip_prefix('(')
            .and_then(|a| a.split_once(')'))
            .filter(|(name, _)| is_name(name));
        rest = match (after.strip_prefix('$'), name) {
            (Some(escaped), _) if escaped.starts_with('(') => {
                out.push('$');
                escaped
            }
            (None, Some((name, tail))) => {
                match known(name).filter(|v| out.len() + v.len() < LONGEST) {
                    Some(v) => out.push_str(&v),
                    None => {
                        out.push_str("$(");
                        out.push_str(name);
                        out.push(')');
                    }
                }
                tail
            }
            _ => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
    out
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Words of the first command of a script, quotes removed and variables expanded, and what follows it.
pub(super) fn command<'a>(script: &'a str, known: Known<'_>) -> (Vec<String>, &'a str) {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut open = false;
    let mut quoted = false;
    let mut rest = script;
    let mut chars = rest.chars();
    while let Some(ch) = chars.next() {
        let here = rest;
        rest = chars.as_str();
        match ch {
            '\'' if !quoted => {
                let (inside, after) = rest.split_once('\'').unwrap_or((rest, ""));
                word.push_str(inside);
                open = true;
                rest = after;
            }
            '"' => {
                quoted = !quoted;
                open = true;
            }
            '\\' => {
                if let Some(next) = chars.next() {
                    rest = chars.as_str();
                    let plain = quoted && !matches!(next, '"' | '\\' | '$' | '`' | '\n');
                    if plain {
                        word.push('\\');
                    }
                    if next != '\n' {
                        word.push(next);
                    }
                }
            }
            '$' => {
                let (value, after) = dollar(here, known);
                if word.len() + value.len() < LONGEST {
                    word.push_str(&value);
                } else {
                    word.push('$');
                }
                open |= !value.is_empty();
                rest = after;
            }
            '`' => {
                let (inside, after) = rest.split_once('`').unwrap_or((rest, ""));
                word.push('`');
                word.push_str(inside);
                word.push('`');
                rest = after;
            }
            _ if quoted => word.push(ch),
            '#' if word.is_empty() && !open => {
                rest = rest.find('\n').and_then(|at| rest.get(at..)).unwrap_or("");
            }
            ';' | '&' | '|' | '\n' | '(' | ')' => {
                if ch == '&' && (word.ends_with('>') || rest.starts_with('>')) {
                    // `2>&1`, `&>file` are no end of a command.
                    word.push(ch);
                } else {
                    break;
                }
            }
            _ if ch.is_whitespace() => {
                if !word.is_empty() || open {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            _ => word.push(ch),
        }
        chars = rest.chars();
    }
    if !word.is_empty() || open {
        words.push(word);
    }
    (words, rest)
}

/// What a `$` at the start of `text` stands for, and what follows it; as it is written where that is not known.
fn dollar<'a>(text: &'a str, known: Known<'_>) -> (String, &'a str) {
    let after = text.strip_prefix('$').unwrap_or(text);
    let as_written = |rest: &'a str| {
        let n = text.len().saturating_sub(rest.len());
        (text.get(..n).unwrap_or("$").to_owned(), rest)
    };
    if let Some(inner) = after.strip_prefix("((") {
        if let Some((sum, rest)) = inner.split_once("))") {
            return match arithmetic(sum, known) {
                Some(n) => (n.to_string(), rest),
                None => as_written(rest),
            };
        }
        return as_written("");
    }
    if let Some(inner) = after.strip_prefix('(') {
        let mut depth = 1usize;
        for (at, c) in inner.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => continue,
            }
            if depth == 0 {
                let rest = inner.get(at + 1..).unwrap_or("");
                return match inner.get(..at).map(str::trim) {
                    Some("hostname") => match known("HOSTNAME") {
                        Some(v) => (v, rest),
                        None => as_written(rest),
                    },
                    _ => as_written(rest),
                };
            }
        }
        return as_written("");
    }
    if let Some(inner) = after.strip_prefix('{') {
        let Some((inside, rest)) = inner.split_once('}') else {
            return as_written("");
        };
        return match braces(inside, known) {
            Some(v) => (v, rest),
            None => as_written(rest),
        };
    }
    let n = after
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(after.len());
    let (name, rest) = after.split_at_checked(n).unwrap_or((after, ""));
    match known(name).filter(|_| is_name(name)) {
        Some(v) => (v, rest),
        None => as_written(rest),
    }
}

/// `NAME`, `NAME:-default`, `NAME-default`, `NAME##*x`, `NAME%%x*`.
fn braces(inside: &str, known: Known<'_>) -> Option<String> {
    let n = inside
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(inside.len());
    let (name, op) = inside.split_at_checked(n)?;
    let value = known(name).filter(|_| is_name(name));
    if op.is_empty() {
        return value;
    }
    if let Some(other) = op.strip_prefix(":-").or_else(|| op.strip_prefix('-')) {
        // Whether a variable that is not known is set is not known either, unless it has its default.
        return value.or_else(|| (!other.contains('$')).then(|| other.to_owned()));
    }
    let value = value?;
    if let Some(cut) = op.strip_prefix("##*").filter(|c| !c.is_empty()) {
        return Some(value.rsplit(cut).next().unwrap_or(&value).to_owned());
    }
    if let Some(cut) = op.strip_prefix("%%").and_then(|c| c.strip_suffix('*')) {
        return Some(value.split(cut).next().unwrap_or(&value).to_owned());
    }
    None
}

/// Whole numbers, variables, `+ - * / %` and parentheses.
fn arithmetic(text: &str, known: Known<'_>) -> Option<i64> {
    let mut sum = Sum {
        rest: text,
        known,
        depth: 0,
    };
    let n = sum.terms()?;
    sum.rest.trim().is_empty().then_some(n)
}

struct Sum<'a, 'k> {
    rest: &'a str,
    known: Known<'k>,
    depth: usize,
}

impl Sum<'_, '_> {
    fn eat(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn terms(&mut self) -> Option<i64> {
        let mut n = self.factors()?;
        loop {
            n = if self.eat('+') {
                n.checked_add(self.factors()?)?
            } else if self.eat('-') {
                n.checked_sub(self.factors()?)?
            } else {
                return Some(n);
            };
        }
    }

    fn factors(&mut self) -> Option<i64> {
        let mut n = self.atom()?;
        loop {
            n = if self.eat('*') {
                n.checked_mul(self.atom()?)?
            } else if self.eat('/') {
                n.checked_div(self.atom()?)?
            } else if self.eat('%') {
                n.checked_rem(self.atom()?)?
            } else {
                return Some(n);
            };
        }
    }

    fn atom(&mut self) -> Option<i64> {
        if self.eat('(') {
            self.depth += 1;
            if self.depth > DEPTH {
                return None;
            }
            let n = self.terms()?;
            self.depth -= 1;
            return self.eat(')').then_some(n);
        }
        self.rest = self.rest.trim_start();
        if self.rest.starts_with("${") {
            let (value, rest) = dollar(self.rest, self.known);
            self.rest = rest;
            return value.trim().parse().ok();
        }
        self.eat('$');
        let n = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        match word.parse() {
            Ok(n) => Some(n),
            Err(_) => (self.known)(word)?.trim().parse().ok(),
        }
    }
}

/// Where a script is among its `if`, `elif` and `else`.
#[derive(Debug, Default)]
pub(super) struct Branches {
    stack: Vec<Branch>,
}

#[derive(Debug)]
struct Branch {
    /// The condition is being read; how many commands it has had.
    asks: Option<usize>,
    /// This branch is taken.
    here: Option<bool>,
    /// One before it was.
    before: Option<bool>,
}

impl Branches {
    /// Follows one command; gives back what of it is to be run.
    pub(super) fn step(&mut self, mut words: Vec<String>) -> Vec<String> {
        match words.first().map(String::as_str) {
            Some("if") => {
                words.remove(0);
                self.stack.push(Branch {
                    asks: Some(1),
                    here: test(&words),
                    before: Some(false),
                });
                return Vec::new();
            }
            Some("elif") => {
                words.remove(0);
                if let Some(b) = self.stack.last_mut() {
                    b.before = or(b.before, b.here);
                    b.here = and(not(b.before), test(&words));
                    b.asks = Some(1);
                }
                return Vec::new();
            }
            Some("then") => {
                if let Some(b) = self.stack.last_mut() {
                    b.asks = None;
                }
                words.remove(0);
            }
            Some("else") => {
                if let Some(b) = self.stack.last_mut() {
                    b.before = or(b.before, b.here);
                    b.here = not(b.before);
                }
                words.remove(0);
            }
            Some("fi") => {
                self.stack.pop();
                return Vec::new();
            }
            Some("do" | "{") => {
                words.remove(0);
            }
            _ => {}
        }
        // A condition of several commands is not followed.
        if let Some(b) = self.stack.last_mut()
            && let Some(n) = &mut b.asks
        {
            if !words.is_empty() {
                *n += 1;
                b.here = None;
            }
            return Vec::new();
        }
        words
    }

    /// Whether what comes now is run; `None`: not known.
    pub(super) fn taken(&self) -> Option<bool> {
        let mut all = Some(true);
        for b in &self.stack {
            all = and(all, b.here);
        }
        all
    }
}

fn not(a: Option<bool>) -> Option<bool> {
    a.map(|a| !a)
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    not(and(not(a), not(b)))
}

/// `[ a = b ]` and its kin; `None` where a side is not known or the words are others.
fn test(words: &[String]) -> Option<bool> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let inside = match words.as_slice() {
        ["[", inside @ .., "]"] | ["[[", inside @ .., "]]"] | ["test", inside @ ..] => inside,
        _ => return None,
    };
    let known = |w: &str| !w.contains(['$', '`']);
    match inside {
        ["-z", a] if known(a) => Some(a.is_empty()),
        ["-n", a] if known(a) => Some(!a.is_empty()),
        [a, op, b] if known(a) && known(b) => {
            let numbers = || Some((a.parse::<i64>().ok()?, b.parse::<i64>().ok()?));
            match *op {
                "=" | "==" => Some(a == b),
                "!=" => Some(a != b),
                "-eq" => numbers().map(|(a, b)| a == b),
                "-ne" => numbers().map(|(a, b)| a != b),
                "-gt" => numbers().map(|(a, b)| a > b),
                "-ge" => numbers().map(|(a, b)| a >= b),
                "-lt" => numbers().map(|(a, b)| a < b),
                "-le" => numbers().map(|(a, b)| a <= b),
                _ => None,
            }
        }
        _ => None,
    }
}
