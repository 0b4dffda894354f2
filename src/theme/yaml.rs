//! YAML that remembers its places: a closed type would give up on the whole file at the first odd value, where every
//! mistake is to be said with its line and column.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;

/// Any YAML.
#[derive(Debug, Clone)]
pub enum Node {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// Text, and numbers as they read.
    Text(String),
    /// A list.
    List(Vec<Spanned<Node>>),
    /// A mapping, in its order.
    Map(Entries),
}

/// Entries of a mapping.
pub type Entries = Vec<(Spanned<String>, Spanned<Node>)>;

/// Where something stands: line and column, 1-based.
pub fn place<T>(node: &Spanned<T>) -> (u64, u64) {
    (node.referenced.line(), node.referenced.column())
}

/// Line and column, where they are known, and what is wrong there.
pub type Fault = (Option<(u64, u64)>, String);

/// Reads a text.
///
/// # Errors
/// Where it is no YAML, and why; no place where none is known.
pub fn read(text: &str) -> Result<Spanned<Node>, Fault> {
    serde_yaml::from_str::<Spanned<Node>>(text).map_err(|e| {
        let said = e.to_string();
        let message = said.lines().next().unwrap_or("not YAML").to_owned();
        (e.location().map(|l| (l.line(), l.column())), message)
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Bool(v))
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Text(v.to_string()))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Text(v.to_string()))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Node, E> {
        Ok(Node::Text(v.to_string()))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Text(v.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = seq.next_element()? {
            all.push(entry);
        }
        Ok(Node::List(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = map.next_entry()? {
            all.push(entry);
        }
        Ok(Node::Map(all))
    }
}
