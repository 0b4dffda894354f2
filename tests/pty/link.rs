//! Over a long thin line: 300 ms there and back, 20 kB a second.

use std::time::{Duration, Instant};

use super::pace::frames;
use super::{FLOOD, Term, helps};

/// One way.
const HALF: Duration = Duration::from_millis(150);

/// 200 bytes in 10 ms.
const LINE: (usize, u64) = (200, 10);

/// Presses a key at the far end and says how long it takes until its effect is seen there.
fn round(
    term: &mut Term,
    keys: &str,
    what: &str,
    want: impl Fn(&vt100::Screen) -> bool,
) -> Duration {
    let start = Instant::now();
    term.press_late(keys, HALF);
    term.wait(what, want);
    start.elapsed()
}

#[test]
fn a_line_of_300_ms_and_20_kb_is_enough() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let args = format!(
        "demo sockets-inside-host --speed 10 --log info --log-file {}",
        log.display()
    );
    let mut term = Term::program(&args, 120, 34);
    term.eat(LINE.0, LINE.1);
    term.delay(HALF);
    term.started();
    term.wait_for("DEGRADED");
    let first = term.bytes();
    let mut took = Vec::new();
    // The tab that is open is the only one with its title beneath; words that only this pane has.
    let panes = [
        ("1", "RESTARTS"),
        ("2", "IN STAGE"),
        ("3", "row sends"),
        ("6", "SEVERITY"),
        ("8", "logs by time"),
        ("0", "START-UP"),
    ];
    for _ in 0..3 {
        for (key, word) in panes {
            let time = round(&mut term, key, word, |s| s.contents().contains(word));
            took.push((time, key));
        }
    }
    took.sort_unstable();
    let (usual, slowest) = (took[took.len() / 2].0, took[took.len() - 1].0);
    let bytes = (term.bytes() - first) / took.len();
    println!(
        "over 300 ms and 20 kB/s: key to paint usually {} ms, at worst {} ms; {bytes} bytes a change of pane",
        usual.as_millis(),
        slowest.as_millis()
    );
    // The line itself takes 300 ms and a whole pane of 6 kB another 300.
    assert!(usual < Duration::from_millis(1_500), "{usual:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    {
        let state = term.shown.0.lock().unwrap();
        let raw = String::from_utf8_lossy(&state.raw);
        // Once when the terminal is taken, once with the first frame; never again.
        assert_eq!(raw.matches("\x1b[2J").count(), 2, "the screen was cleared");
        assert!(!raw.contains("\x1b[3J") && !raw.contains("\x1b[J"));
        let (begun, ended) = (
            raw.matches("\x1b[?2026h").count(),
            raw.matches("\x1b[?2026l").count(),
        );
        assert!(
            begun > 10 && begun - ended <= 1,
            "{begun} frames begun, {ended} ended"
        );
    }
    term.delay(Duration::ZERO);
    term.eat(0, 0);
    let (first, largest) = frames(&mut term, &log);
    println!("first frame {first} bytes, largest later one {largest}");
}

#[test]
fn frames_are_dropped_and_input_never() {
    let mut term = Term::sh(FLOOD, 120, 34);
    term.eat(LINE.0, LINE.1);
    term.delay(HALF);
    term.started();
    term.press_late("8", HALF);
    term.wait_for("following");
    // A sentence typed at once into a screen that has no time to show it letter by letter.
    let typed = "the quick brown fox jumps over the lazy dog 0123456789";
    let start = Instant::now();
    term.press_late(":", HALF);
    for c in typed.chars() {
        term.press(&c.to_string());
    }
    term.wait(typed, |s| s.contents().contains(typed));
    println!(
        "{} keys typed into a flood are all there after {} ms",
        typed.len() + 1,
        start.elapsed().as_millis()
    );
    term.press_late("\x1b", HALF);
    term.wait("the pane", |s| !s.contents().contains(typed));
    let time = round(&mut term, "?", "the help", helps);
    println!(
        "the help over the same line, logs still flooding: {} ms",
        time.as_millis()
    );
    assert!(time < Duration::from_secs(5), "{time:?}");
    // At most one frame is under way and one waits: the screen is never further behind than the line itself.
    term.press("\x03");
    term.restored(0);
}
