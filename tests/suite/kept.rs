//! The kept tail of the logs, as the logs pane asks for it.

use ncclscope::model::event::SourceId;
use ncclscope::model::logs::{LINES_PER_SOURCE, Logs};
use ncclscope::parse::Block;

fn feed(logs: &mut Logs, source: u32, first: u64, lines: &[String]) {
    logs.keep(
        SourceId(source),
        &Block::new(first, (lines.join("\n") + "\n").into_bytes()),
    );
}

fn stamped(second: u32, text: &str) -> String {
    format!(
        "2026-11-21T03:{:02}:{:02}Z {text}",
        second / 60,
        second % 60
    )
}

/// Two sources whose stamps interleave, the second one given in full before the first.
fn two(n: u32) -> Logs {
    let mut logs = Logs::default();
    logs.name(SourceId(0), "prod/a-0/vllm");
    logs.name(SourceId(1), "prod/a-1/vllm");
    let word = |i: u32| ["alpha", "beta", "gamma"][i as usize % 3];
    let lines = |odd: u32| -> Vec<String> {
        (0..n)
            .map(|i| stamped(2 * i + odd, &format!("{} of source {odd}", word(i))))
            .collect()
    };
    feed(&mut logs, 1, 1, &lines(1));
    feed(&mut logs, 0, 1, &lines(0));
    logs
}

fn texts(logs: &Logs, top: usize, n: usize) -> Vec<String> {
    logs.window(top, n)
        .iter()
        .map(|r| r.line.text.to_string())
        .collect()
}

#[test]
fn sources_are_merged_by_time() {
    let logs = two(1_500);
    assert_eq!(logs.rows(), 3_000);
    let all = texts(&logs, 0, 3_000);
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(all, sorted);
    // Any window is the same piece of it, whichever way it was found.
    for top in [0, 1, 17, 900, 951, 952, 953, 1_499, 2_990] {
        assert_eq!(
            texts(&logs, top, 10),
            all[top..(top + 10).min(3_000)],
            "from row {top}"
        );
        assert_eq!(logs.window(top, 1)[0].number, top);
    }
}

#[test]
fn filters_exclude_and_choose_sources() {
    let mut logs = two(90);
    logs.look("ALPHA", false);
    assert_eq!(logs.rows(), 0, "capitals are meant");
    logs.look("alpha", false);
    assert_eq!(logs.rows(), 60);
    logs.look("!alpha & in:a-1", false);
    assert_eq!(logs.rows(), 60);
    assert!(
        texts(&logs, 0, 99)
            .iter()
            .all(|t| t.contains("source 1") && !t.contains("alpha"))
    );
    logs.look("^.*(beta|gamma) of source 0$", false);
    assert_eq!(logs.rows(), 60);
    logs.look("source (", false);
    assert_eq!(logs.rows(), 0);
    assert!(logs.complaint().unwrap().contains("plain text"));
    // New lines pass through the filter that is set.
    logs.look("needle", false);
    feed(
        &mut logs,
        0,
        91,
        &[stamped(500, "hay"), stamped(501, "a needle")],
    );
    assert_eq!(logs.rows(), 1);
    logs.look("", false);
    assert_eq!(logs.rows(), 182);
}

#[test]
fn repeats_fold_into_one_row_that_counts_them() {
    let mut logs = Logs::default();
    let mut lines = vec![stamped(0, "begin")];
    lines.extend((0..16).map(|c| {
        stamped(
            1,
            &format!("NCCL INFO Channel {c:02}/0 : 0[0] -> 1[1] via P2P/CUMEM"),
        )
    }));
    lines.push(stamped(2, "end"));
    feed(&mut logs, 0, 1, &lines);
    let rows = logs.window(0, 9);
    assert_eq!(rows.iter().map(|r| r.times).collect::<Vec<_>>(), [1, 16, 1]);
    logs.look("", true);
    assert_eq!(logs.rows(), 18);
}

#[test]
fn rows_keep_their_numbers_when_old_ones_go() {
    let mut logs = Logs::default();
    let line = |i: usize| stamped(0, &format!("line {}", "x".repeat(i % 7 + 1)));
    let lines: Vec<String> = (0..LINES_PER_SOURCE).map(line).collect();
    feed(&mut logs, 0, 1, &lines);
    let (number, text) = (1_000, texts(&logs, 1_000, 1));
    feed(&mut logs, 0, 2_001, &lines[..500]);
    assert_eq!(logs.first(), 500);
    assert_eq!(texts(&logs, number, 1), text);
    assert_eq!(logs.held(), (LINES_PER_SOURCE, 500));
    assert_eq!(logs.rows(), LINES_PER_SOURCE);
}

#[test]
fn trouble_is_found_both_ways() {
    let mut logs = two(90);
    feed(
        &mut logs,
        0,
        91,
        &[
            stamped(30, "late, and out of order"),
            stamped(200, "NCCL WARN it broke"),
            stamped(201, "fine again"),
        ],
    );
    feed(
        &mut logs,
        1,
        91,
        &[stamped(190, "RuntimeError: CUDA error: out of memory")],
    );
    let first = logs.trouble(0, true).unwrap();
    let second = logs.trouble(first, true).unwrap();
    assert!(texts(&logs, first, 1)[0].contains("CUDA error"));
    assert!(texts(&logs, second, 1)[0].contains("NCCL WARN"));
    assert_eq!(logs.trouble(second, true), None);
    assert_eq!(logs.trouble(second, false), Some(first));
}
