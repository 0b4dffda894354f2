//! What a line was understood as, in names and values: facts have many shapes, and each says itself what it holds.

use crate::panes::Page;
use crate::panes::parts;
use crate::parse::Rec;
use crate::theme::Role;

/// Columns of a name.
const NAME: usize = 20;

/// A value as it describes itself.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    /// A number, a text, a word.
    Word(String),
    /// Several of a kind.
    List(Vec<Said>),
    /// A thing of a kind with what it holds, by name where that has one.
    Made(String, Vec<(String, Said)>),
}

/// Adds what a record was understood as.
pub(super) fn tell(rec: &Rec, page: &mut Page) {
    let told = format!("{:?}", rec.fact);
    let mut said = Reader { rest: &told }.value().plain();
    // A kind that holds one thing is called by its own name, and has what that one has.
    let kind = match &said {
        Said::Made(kind, _) | Said::Word(kind) => words(kind),
        Said::List(_) => String::new(),
    };
    while let Said::Made(_, fields) = &mut said
        && let [(name, Said::Made(..))] = fields.as_slice()
        && name.is_empty()
        && let Some((_, inner)) = fields.pop()
    {
        said = inner;
    }
    page.line(&[("  ", Role::Text), (&kind, Role::Strong)]);
    rows(&said, 2, page);
}

/// A row for each thing that is known; what it holds itself stands deeper in.
fn rows(said: &Said, indent: usize, page: &mut Page) {
    let Said::Made(_, fields) = said else {
        return;
    };
    let pad = " ".repeat(indent);
    for (name, value) in fields {
        if value.is_nothing() {
            continue;
        }
        let name = words(name);
        let gap = NAME
            .saturating_sub(usize::from(parts::columns(&name)))
            .max(2);
        let head = format!("{name}{}", " ".repeat(gap));
        let nested =
            matches!(value, Said::Made(_, inner) if inner.iter().any(|(n, _)| !n.is_empty()));
        let text = match value {
            Said::Made(kind, _) if nested => words(kind),
            value => value.inline(),
        };
        page.line(&[
            (&pad, Role::Text),
            (&head, Role::Label),
            (&text, Role::Text),
        ]);
        if nested {
            rows(value, indent + 2, page);
        }
    }
}

impl Said {
    /// Without the wrappers that only say that there is something.
    fn plain(self) -> Self {
        match self {
            Self::Made(kind, mut fields) if kind == "Some" && fields.len() == 1 => fields
                .pop()
                .map_or(Self::List(Vec::new()), |(_, inner)| inner.plain()),
            Self::Made(kind, fields) => {
                let fields = fields.into_iter().map(|(n, v)| (n, v.plain()));
                Self::Made(kind, fields.collect())
            }
            Self::List(all) => Self::List(all.into_iter().map(Self::plain).collect()),
            Self::Word(word) if word == "None" => Self::List(Vec::new()),
            word @ Self::Word(_) => word,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::List(all) if all.is_empty())
            || matches!(self, Self::Word(word) if word.is_empty())
    }

    /// On one line.
    fn inline(&self) -> String {
        match self {
            Self::Word(word) => match word.as_str() {
                "true" => "yes".into(),
                "false" => "no".into(),
                word => words(word),
            },
            Self::List(all) => {
                let all: Vec<String> = all.iter().map(Self::inline).collect();
                all.join(", ")
            }
            Self::Made(kind, fields) => {
                let told = fields.iter().filter(|(_, v)| !v.is_nothing());
                let told: Vec<String> = told
                    .map(|(name, value)| format!("{} {}", words(name), value.inline()))
                    .map(|text| text.trim().to_owned())
                    .collect();
                format!("{} {}", words(kind), told.join(", "))
                    .trim()
                    .to_owned()
            }
        }
    }
}

/// `InitStart` and `comm_id` as people write them; what is no such name stays as it is.
fn words(name: &str) -> String {
    let camel = name.chars().next().is_some_and(|c| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && name.chars().any(|c| c.is_ascii_lowercase());
    let snake = name.contains('_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if snake {
        return name.replace('_', " ");
    }
    if !camel {
        return name.to_owned();
    }
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Reads a value's own description.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Takes this text if it comes next.
    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn value(&mut self) -> Said {
        if self.take("\"") {
            return Said::Word(self.text());
        }
        if self.take("[") {
            return Said::List(self.fields("]").into_iter().map(|(_, v)| v).collect());
        }
        if self.take("(") {
            return Said::List(self.fields(")").into_iter().map(|(_, v)| v).collect());
        }
        if self.take("{") {
            return Said::Made(String::new(), self.fields("}"));
        }
        let word = self.word();
        if self.take("(") {
            return Said::Made(word, self.fields(")"));
        }
        if self.take(" { ") {
            return Said::Made(word, self.fields("}"));
        }
        Said::Word(word)
    }

    /// What stands between brackets, with the names of what has one.
    fn fields(&mut self, end: &str) -> Vec<(String, Said)> {
        let mut out = Vec::new();
        loop {
            while self.take(" ") || self.take(",") {}
            if self.rest.is_empty() || self.take(end) {
                return out;
            }
            let before = self.rest.len();
            let value = self.value();
            match value {
                Said::Word(name) if self.take(": ") => out.push((name, self.value())),
                value => out.push((String::new(), value)),
            }
            // What is not understood ends it: no description goes on for ever.
            if self.rest.len() == before {
                return out;
            }
        }
    }

    /// Up to the quote that ends it.
    fn text(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => break,
                '\\' => match self.next() {
                    Some('n' | 't' | 'r') => out.push(' '),
                    Some(c) => out.push(c),
                    None => break,
                },
                c => out.push(c),
            }
        }
        out
    }

    fn word(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.rest.chars().next() {
            let ends = matches!(c, ',' | '(' | ')' | '[' | ']' | '{' | '}')
                || self.rest.starts_with(": ")
                || self.rest.starts_with(" {")
                || (c == ' ' && self.rest.trim_start().starts_with('}'));
            if ends {
                break;
            }
            out.push(c);
            self.next();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_becomes_names_and_values() {
        let told = "Channel(Net { from: 3, peer_rank: Some(4), via: Some(\"NET/IB \\\"x\\\"\"), gdr: true, none: None, way: SendRecv, at: [1, 2], ip: fe80::1 })";
        let said = Reader { rest: told }.value().plain();
        let Said::Made(kind, fields) = &said else {
            panic!("{said:?}");
        };
        assert_eq!(kind, "Channel");
        assert_eq!(
            fields[0].1.inline(),
            "net from 3, peer rank 4, via NET/IB \"x\", gdr yes, way send recv, at 1, 2, ip fe80::1"
        );
    }

    #[test]
    fn what_is_cut_short_ends() {
        for told in ["A { b: Some(", "A(", "[1, [2", "\"x", "} ]", "A { : }"] {
            let _ = Reader { rest: told }.value().plain().inline();
        }
    }
}
