//! Numbers as people say them.

/// `0-3, 7` from sorted numbers: how ranks, channels and their like are named wherever there are several.
#[must_use]
pub fn ranges(numbers: &[u32]) -> String {
    let mut out = String::new();
    let mut it = numbers.iter().copied().peekable();
    while let Some(first) = it.next() {
        let mut last = first;
        while let Some(next) = it.next_if(|n| *n == last || Some(*n) == last.checked_add(1)) {
            last = next;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&first.to_string());
        if last > first {
            out.push('-');
            out.push_str(&last.to_string());
        }
    }
    out
}
