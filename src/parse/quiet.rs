//! Words that names of secrets are made of: who keeps lines apart by their shape says at once which shapes hold none.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// What every word of a secret's name begins with, as names are spelt, three spellings each; and the letters with
/// which such a word goes on, if it does: `password`, `authorization`.
pub const STEMS: &[([&str; 3], &[u8])] = &[
    (["key", "Key", "KEY"], b"s"),
    (["token", "Token", "TOKEN"], b""),
    (["secret", "Secret", "SECRET"], b"sk"),
    (["pass", "Pass", "PASS"], b"wpc"),
    (["auth", "Auth", "AUTH"], b"ot"),
    (["credential", "Credential", "CREDENTIAL"], b"s"),
    (["cookie", "Cookie", "COOKIE"], b""),
];

/// Whether a stem that ends here may be a word of a secret's name, by the letter behind it: `tokens` is none.
/// `on`: the letters with which the word goes on.
#[must_use]
pub fn may_be_word(text: &[u8], end: usize, on: &[u8]) -> bool {
    let Some(next) = text.get(end).filter(|b| b.is_ascii_alphabetic()) else {
        return true;
    };
    let before = end.checked_sub(1).and_then(|at| text.get(at));
    let lower = before.is_some_and(u8::is_ascii_lowercase);
    lower && next.is_ascii_uppercase() || on.contains(&next.to_ascii_lowercase())
}

static SEARCH: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::new(STEMS.iter().flat_map(|(spelt, _)| spelt)).ok());

/// Whether no word of a secret's name is in a text. Digits don't matter: what holds for a line holds for all that
/// differ from it in nothing else.
#[must_use]
pub fn is_quiet(text: &[u8]) -> bool {
    SEARCH.as_ref().is_some_and(|search| {
        search.find_overlapping_iter(text).all(|m| {
            let on = STEMS.get(m.pattern().as_usize() / 3);
            !may_be_word(text, m.end(), on.map_or(&b""[..], |(_, on)| on))
        })
    })
}
