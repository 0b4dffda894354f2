//! Whether a model's folder is whole and readable: what the listing of a container says.

use crate::parse::probe::{Access, Model};

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth saying.
    Note,
    /// May break something.
    Doubtful,
    /// Loading fails.
    Broken,
}

/// Which finding it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// `vllm.model-incomplete`.
    Incomplete,
    /// `vllm.tokenizer-missing`.
    Tokenizer,
    /// `vllm.permission-denied`.
    Denied,
}

/// Something about the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub weight: Weight,
    /// Which finding it belongs to.
    pub topic: Topic,
    /// A sentence.
    pub text: String,
}

/// Files of which one family is enough for a tokenizer.
const TOKENIZERS: &[&[&str]] = &[
    &["tokenizer.json"],
    &["tokenizer.model"],
    &["vocab.json", "merges.txt"],
    &["vocab.txt"],
    &["tekken.json"],
    &["spiece.model"],
    &["sentencepiece.bpe.model"],
];

/// Names of at most four things.
fn few(names: &[&str]) -> String {
    let more = names.len().saturating_sub(4);
    let shown = names.iter().take(4).copied().collect::<Vec<_>>().join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}

/// What is wrong with a model's files; empty where they are whole.
#[must_use]
pub fn problems(m: &Model) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut add = |weight, topic, text: String| {
        out.push(Problem {
            weight,
            topic,
            text,
        })
    };
    use Topic::{Denied, Incomplete, Tokenizer};
    use Weight::{Broken, Doubtful, Note};
    if let Some((at, why)) = &m.absent {
        add(Broken, Incomplete, format!("{at} is not there: {why}"));
        return out;
    }
    if !m.denied.is_empty() {
        let names: Vec<&str> = m.denied.iter().map(|(n, _)| n.as_str()).collect();
        add(Broken, Denied, format!("not readable: {}", few(&names)));
    }
    if !m.incomplete.is_empty() {
        let names: Vec<&str> = m.incomplete.iter().map(String::as_str).collect();
        add(
            Doubtful,
            Incomplete,
            format!("downloads that did not end: {}", few(&names)),
        );
    }
    let has = |n: &str| m.files.contains_key(n);
    // One file alone (GGUF) brings all with it; a folder that can't be read says nothing of its files.
    let single = m.files.len() == 1 && m.files.keys().any(|n| n.ends_with(".gguf"));
    if single || m.files.is_empty() {
        if m.files.is_empty() && m.denied.is_empty() && m.at.is_some() {
            add(Broken, Incomplete, "the folder is empty".into());
        }
        return out;
    }
    if !has("config.json") && !has("params.json") {
        add(Broken, Incomplete, "config.json is missing".into());
    }
    let tokenizer = TOKENIZERS.iter().any(|f| f.iter().all(|n| has(n)))
        || m.files.keys().any(|n| {
            n.ends_with(".tiktoken")
                || n.starts_with("tokenization_")
                || n.starts_with("tokenizer.model")
        });
    if !tokenizer {
        add(
            Broken,
            Tokenizer,
            "no tokenizer: none of tokenizer.json, tokenizer.model, vocab.json with merges.txt, vocab.txt, tekken.json".into(),
        );
    }
    let absent: Vec<&str> = [
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ]
    .into_iter()
    .filter(|n| !(has(n) || *n == "tokenizer_config.json" && has("tekken.json")))
    .collect();
    if !absent.is_empty() {
        add(
            Note,
            Tokenizer,
            format!("without {} (many models do without)", absent.join(", ")),
        );
    }
    let missing: Vec<&str> = m
        .shards
        .iter()
        .filter(|s| !has(s))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() && m.more == 0 {
        add(
            Broken,
            Incomplete,
            format!(
                "{} of {} shards that the index names are missing: {}",
                missing.len(),
                m.shards.len(),
                few(&missing)
            ),
        );
    }
    let weights = m.files.keys().any(|n| {
        [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".npz"]
            .iter()
            .any(|e| n.ends_with(e))
    });
    if !weights && m.shards.is_empty() {
        add(
            Broken,
            Incomplete,
            "no weights: no .safetensors, .bin, .pt or .gguf file".into(),
        );
    }
    let empty: Vec<&str> = m
        .files
        .iter()
        .filter(|(n, size)| {
            **size == 0
                && (n.ends_with(".safetensors") || n.ends_with(".json") || m.shards.contains(*n))
        })
        .map(|(n, _)| n.as_str())
        .collect();
    if !empty.is_empty() {
        add(Broken, Incomplete, format!("empty: {}", few(&empty)));
    }
    for (what, names) in [
        ("links that lead nowhere", &m.broken),
        ("pointers of git-lfs in place of files", &m.pointers),
    ] {
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            add(Broken, Incomplete, format!("{what}: {}", few(&names)));
        }
    }
    for (name, why) in &m.bad_json {
        add(Broken, Incomplete, format!("{name} can't be read: {why}"));
    }
    let mut cut = Vec::new();
    for (name, h) in &m.heads {
        let Some(size) = m.files.get(name).copied().filter(|s| *s > 0) else {
            continue;
        };
        let body = h.length.saturating_add(8);
        let want = h.end.map(|e| body.saturating_add(e));
        if h.bad || h.length > 100_000_000 || body > size {
            cut.push(format!("{name} has no readable head"));
        } else if let Some(want) = want.filter(|w| *w != size) {
            cut.push(format!("{name} has {size} bytes, its head tells of {want}"));
        }
    }
    if !cut.is_empty() {
        let names: Vec<&str> = cut.iter().map(String::as_str).collect();
        add(Broken, Incomplete, few(&names));
    }
    out
}

/// What the container's user may not do.
#[must_use]
pub fn access(a: &Access) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut add = |weight, text: String| {
        out.push(Problem {
            weight,
            topic: Topic::Denied,
            text,
        });
    };
    let who = a.id.as_ref().map_or_else(
        || "the container's user".to_owned(),
        |[uid, gid, ..]| format!("uid {uid}, gid {gid}"),
    );
    for s in &a.steps {
        // A folder needs x to be passed; the model itself r as well.
        let own = a.steps.first().is_some_and(|f| f.path == s.path);
        if !s.may.contains('x') && !(own && s.may.contains('r')) || own && !s.may.contains('r') {
            add(
                Weight::Broken,
                format!("{} ({}) is closed to {who}", s.path, s.mode),
            );
        }
    }
    if !a.denied.is_empty() {
        let names: Vec<&str> = a.denied.iter().map(|(n, _)| n.as_str()).collect();
        let mode = a.denied.first().map_or("", |(_, m)| m.as_str());
        add(
            Weight::Broken,
            format!("not readable for {who}: {} ({mode})", few(&names)),
        );
    }
    for c in &a.caches {
        match c.writable {
            Some(false) => add(
                Weight::Doubtful,
                format!("{} ({}) can't be written", c.name, c.path),
            ),
            None if c.name == "HOME" => add(Weight::Doubtful, "HOME is not set".into()),
            _ => {}
        }
    }
    if let Some([uid, _, _, name]) = &a.id
        && name == "?"
    {
        add(
            Weight::Note,
            format!("uid {uid} has no entry in /etc/passwd"),
        );
    }
    out
}
