//! The wall, for a week.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Term;

/// How many times faster than the world.
const SPEED: u32 = 7_560;
/// A week at that speed.
const WEEK: Duration = Duration::from_secs(7 * 86_400 / SPEED as u64);

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn mean(curve: &[u64]) -> u64 {
    curve.iter().sum::<u64>() / curve.len().max(1) as u64
}

#[test]
fn a_week_in_flat_memory() {
    let args = format!(
        "demo healthy sockets-inside-host crashloop --kiosk --kiosk-panes overview,ranks,matrix,findings --speed {SPEED} \
         --kiosk-each 600 --kiosk-hold 1800 --kiosk-blind 86400"
    );
    let mut term = Term::program(&args, 120, 40);
    term.wait_for("facts");
    let pid = term.pid().expect("it runs");
    let (start, mut curve) = (Instant::now(), Vec::new());
    let (mut turns, mut words) = (BTreeSet::new(), BTreeSet::new());
    let mut next = start;
    while start.elapsed() < WEEK {
        let text = term.text();
        for n in 1..=3 {
            if text.contains(&format!("{n} of 3")) {
                turns.insert(n);
            }
        }
        for word in ["what is wrong", "IN STAGE", "START-UP", "row sends"] {
            if text.contains(word) {
                words.insert(word);
            }
        }
        if Instant::now() >= next {
            curve.push(resident(pid).expect("it still runs"));
            next += Duration::from_secs(2);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let mebibytes: Vec<String> = curve
        .iter()
        .map(|k| format!("{:.1}", *k as f64 / 1024.0))
        .collect();
    println!(
        "a week on the wall in {} s, {} bytes to the terminal; MiB resident every 2 s: {}",
        start.elapsed().as_secs(),
        term.bytes(),
        mebibytes.join(" ")
    );
    assert_eq!(turns.len(), 3, "each workload has its turn: {turns:?}");
    assert_eq!(words.len(), 4, "news and panes were seen: {words:?}");
    // The first quarter may settle; after that nothing grows.
    let quarter = curve.len() / 4;
    let (early, late) = (
        mean(&curve[quarter..2 * quarter]),
        mean(&curve[3 * quarter..]),
    );
    assert!(late <= early + early / 10, "{early} KiB grew to {late} KiB");
    term.press("j?:8 ");
    term.press("q");
    term.restored(0);
}
