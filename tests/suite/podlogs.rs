//! The end of a log remembered: what comes back after a cut is told from what is new.

use ncclscope::sources::podlogs::{Tail, stamp};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;

fn line(at: i64, text: &str) -> String {
    let t = jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap();
    format!("{t:.9} {text}")
}

#[test]
fn stamps_of_every_runtime_are_read() {
    let at = |s: &str| {
        stamp(s.as_bytes()).map(|(n, rest)| (n, String::from_utf8_lossy(rest).into_owned()))
    };
    let zero = at("2026-01-01T00:00:00.000000001Z a b").unwrap();
    assert_eq!(zero, (1_767_225_600 * SECOND + 1, "a b".into()));
    // containerd on a node with its own zone.
    assert_eq!(at("2026-01-01T02:00:00.000000001+02:00 a b"), Some(zero));
    assert_eq!(
        at("2026-01-01T00:00:00.000000001Z "),
        Some((1_767_225_600 * SECOND + 1, String::new()))
    );
    for broken in [
        "",
        "no stamp",
        "2026-01-01",
        "unable to retrieve container logs for x",
    ] {
        assert_eq!(at(broken), None, "{broken:?}");
    }
}

/// What the kubelet answers: its file from a whole second on.
fn serve(file: &[(i64, String)], since: Option<i64>) -> impl Iterator<Item = &String> {
    file.iter()
        .filter(move |(at, _)| since.is_none_or(|s| *at >= s))
        .map(|(_, l)| l)
}

proptest! {
    /// However a log is cut, and however its lines repeat and swap places, each line is read once.
    #[test]
    fn every_line_is_read_once_whatever_the_cuts(
        steps in prop::collection::vec((-200_000_000i64..900_000_000, 0u8..4), 1..120),
        cuts in prop::collection::vec(0usize..40, 0..6),
    ) {
        let mut at = 1_767_225_600 * SECOND;
        let file: Vec<(i64, String)> = steps.iter().map(|(step, text)| {
            // Two streams into one file: a little out of order, and often equal.
            at = (at + step).max(1_767_225_600 * SECOND);
            (at, line(at, &format!("line {text}")))
        }).collect();
        let mut tail = Tail::default();
        let mut read: Vec<String> = Vec::new();
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let since = tail.since();
            // The file may grow while nobody reads: what exists is always all of it here.
            let mut resume = tail.resume();
            let new: Vec<String> = serve(&file, since).filter(|l| resume.is_new(l.as_bytes())).take(cut).cloned().collect();
            prop_assert!(resume.joined() || new.is_empty() || tail.newest().is_none());
            let text: String = new.iter().map(|l| format!("{l}\n")).collect();
            tail.read(text.as_bytes());
            read.extend(new);
        }
        let want: Vec<String> = file.into_iter().map(|(_, l)| l).collect();
        prop_assert_eq!(read, want);
    }
}
