//! Which names are those of secrets, and which values behind them tell nothing.

use super::{NAME, SEARCHER, Sign, part_of_token, sign};
use crate::report::redact::MARK;

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

/// Whether a whole name is a secret's.
pub fn smells(name: &[u8]) -> bool {
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
pub(super) fn is_word(text: &[u8], start: usize, end: usize) -> bool {
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
pub fn is_variable(name: &[u8]) -> bool {
    name.len() > 2
        && name.len() <= NAME
        && name
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
}

/// Whether a value behind this name is worth being looked for elsewhere: a word such as `key` alone is too weak.
pub fn strong(name: &[u8]) -> bool {
    is_variable(name)
        || name.starts_with(b"-")
        || name.iter().any(|b| matches!(b, b'_' | b'-'))
        || name.windows(4).any(|w| w.eq_ignore_ascii_case(b"pass"))
        || name.windows(6).any(|w| w.eq_ignore_ascii_case(b"secret"))
        || name.windows(5).any(|w| w.eq_ignore_ascii_case(b"apike"))
}

/// Whether a value behind a secret's name tells nothing: unset, a reference to elsewhere, a small number.
pub fn harmless(name: &[u8], value: &[u8]) -> bool {
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
