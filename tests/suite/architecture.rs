//! The directions of the house: who may know whom (`src/lib.rs`).

use std::path::Path;

/// A room (file or folder below `src`, without extension) and the words that its code must not use.
const RULES: &[(&str, &[&str])] = &[
    ("parse", OUTSIDE),
    (
        "parse",
        &[
            "crate::model",
            "crate::rules",
            "crate::theme",
            "crate::panes",
            "std::time",
            "std::fs",
            "std::net",
            "std::env",
        ],
    ),
    ("model", OUTSIDE),
    (
        "model",
        &[
            "crate::rules",
            "crate::theme",
            "crate::panes",
            "std::fs",
            "std::net",
            "std::env",
            "Instant",
            "SystemTime",
        ],
    ),
    ("rules", OUTSIDE),
    (
        "rules",
        &[
            "crate::theme",
            "crate::panes",
            "std::fs",
            "std::net",
            "std::env",
            "Instant",
            "SystemTime",
        ],
    ),
    ("theme", DRAWN),
    ("panes", DRAWN),
    ("report", DRAWN),
    (
        "sources",
        &[
            "ratatui",
            "crossterm",
            "crate::theme",
            "crate::panes",
            "crate::app",
        ],
    ),
    (
        "jobs",
        &[
            "ratatui",
            "crossterm",
            "crate::theme",
            "crate::panes",
            "crate::app",
        ],
    ),
];

/// What layers 1 to 3 know nothing of; hash order would make the same events give another screen.
const OUTSIDE: &[&str] = &[
    "tokio",
    "kube",
    "k8s_openapi",
    "ratatui",
    "crossterm",
    "crate::sources",
    "crate::jobs",
    "crate::worker",
    "crate::report",
    "crate::app",
    "HashMap",
    "HashSet",
];

/// What drawing and reporting know nothing of.
const DRAWN: &[&str] = &[
    "tokio",
    "kube",
    "k8s_openapi",
    "crossterm",
    "crate::sources",
    "crate::jobs",
    "crate::worker",
    "crate::app",
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
];

#[test]
fn layers_know_only_what_lies_below() {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut broken = Vec::new();
    let mut seen = 0;
    for file in files(src) {
        let name = file.strip_prefix(src).unwrap_or(&file).with_extension("");
        let code = std::fs::read_to_string(&file).unwrap_or_default();
        for (room, banned) in RULES.iter().filter(|(room, _)| name.starts_with(room)) {
            seen += 1;
            for (n, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                for word in banned.iter().filter(|word| uses(line, word)) {
                    broken.push(format!(
                        "{}:{}: {room} must not know {word}",
                        file.display(),
                        n + 1
                    ));
                }
            }
        }
    }
    assert!(seen > 10, "the sources were not found");
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Whether `word` stands in `line` as a path or a name of its own, not inside a text.
fn uses(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let quoted = line[..at].matches('"').count() % 2 == 1;
        let crates = word
            .chars()
            .all(|c| c.is_lowercase() || c.is_numeric() || c == '_');
        let after = &line[at + word.len()..];
        let ends = if crates {
            after.starts_with("::")
                || (line.trim_start().starts_with("use ") && after.starts_with(';'))
        } else {
            !after.starts_with(part)
        };
        !quoted && !line[..at].ends_with(part) && ends
    })
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
