//! The word that was meant by one that nobody knows.

/// The known word that is nearest to a misspelt one; none where nothing is near, which is a letter in three.
///
/// ```
/// use ncclscope::parse::nearest;
/// assert_eq!(nearest("healty", ["big", "healthy"]), Some("healthy"));
/// assert_eq!(nearest("foo", ["big", "healthy"]), None);
/// ```
#[must_use]
pub fn nearest<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let word = word.to_lowercase();
    let far = |known: &str| distance(&word, &known.to_lowercase());
    let (away, near) = known
        .into_iter()
        .map(|k| (far(k), k))
        .min_by_key(|(away, _)| *away)?;
    (away <= word.chars().count().div_ceil(3)).then_some(near)
}

/// Letters to change, insert or leave out until one word is the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut before = i;
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let left = next.last().copied().unwrap_or(usize::MAX);
            next.push((before + usize::from(x != *y)).min(above + 1).min(left + 1));
            before = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
