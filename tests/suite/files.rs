//! Files in: whatever form a log comes in, its lines arrive once, in order, and in bounded memory.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ncclscope::model::event::{Event, SourceEvent};
use ncclscope::parse::perf;
use ncclscope::sources::files::{
    BLOCK_BYTES, Inputs, LINE_BYTES, Progress, Totals, follow, read_all,
};
use tempfile::TempDir;

use crate::generator::Stream;

/// What the sink saw, reduced to what can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Opened(u32, String),
    Block(u32, u64, Vec<u8>),
    Lost(u32, Option<u64>),
    Ended(u32, Option<String>),
    Other(String),
}

fn seen(event: Event) -> Seen {
    match event {
        Event::Log(log) => Seen::Block(log.source.0, log.block.first_line, log.block.text.clone()),
        Event::Source(SourceEvent::Opened(id, info)) => Seen::Opened(id.0, info.name),
        Event::Source(SourceEvent::Lost { id, lines, .. }) => Seen::Lost(id.0, lines),
        Event::Source(SourceEvent::Ended { id, why }) => Seen::Ended(id.0, why),
        other => Seen::Other(format!("{other:?}")),
    }
}

fn read(paths: &[PathBuf], threads: usize) -> (Vec<Seen>, Totals) {
    let inputs = Inputs::find(paths).unwrap();
    let mut all = Vec::new();
    let totals = read_all(
        &inputs,
        threads,
        &Arc::new(Progress::default()),
        &mut |event| {
            all.push(seen(event));
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    (all, totals)
}

fn blocks(all: &[Seen]) -> Vec<(u64, Vec<u8>)> {
    all.iter()
        .filter_map(|s| match s {
            Seen::Block(_, first, text) => Some((*first, text.clone())),
            _ => None,
        })
        .collect()
}

fn text(all: &[Seen]) -> Vec<u8> {
    blocks(all).into_iter().flat_map(|(_, text)| text).collect()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn job(bytes: u64) -> Vec<u8> {
    let mut log = Vec::new();
    Stream::new(bytes).read_to_end(&mut log).unwrap();
    log
}

fn refusal(path: &Path) -> String {
    Inputs::find(&[path.to_owned()]).unwrap_err().to_string()
}

#[test]
fn packed_or_not_the_blocks_are_the_same() {
    let dir = folder();
    let log = job(3 * BLOCK_BYTES as u64);
    let (front, back) = log.split_at(log.len() / 3);
    let two_members = [gz(front), gz(back)].concat();
    let two_frames = [
        zstd::encode_all(front, 1).unwrap(),
        zstd::encode_all(back, 1).unwrap(),
    ]
    .concat();
    let (plain, _) = read(&[put(dir.path(), "plain", &log)], 2);
    assert_eq!(text(&plain), log);
    assert!(blocks(&plain).len() > 2);
    for (name, bytes) in [
        // The content tells, not the name.
        ("a.gz", &two_members),
        ("no-suffix", &two_members),
        ("b.zst", &two_frames),
        ("b.gz", &two_frames),
        ("c.gz", &log),
    ] {
        let (got, totals) = read(&[put(dir.path(), name, bytes)], 2);
        assert!(
            blocks(&got) == blocks(&plain),
            "{name} gives other blocks than the plain file"
        );
        assert_eq!(totals.bytes, log.len() as u64);
    }
}

#[test]
fn number_of_threads_changes_nothing() {
    let dir = folder();
    let mut paths = Vec::new();
    for (i, size) in [5_000_000, 10, 2_500_000, 0, 1_200_000]
        .into_iter()
        .enumerate()
    {
        paths.push(put(dir.path(), &format!("{i}.log"), &job(size)));
        paths.push(put(dir.path(), &format!("{i}.log.gz"), &gz(&job(size / 2))));
    }
    let one = read(&paths, 1);
    for threads in [2, 3, 16] {
        assert!(
            read(&paths, threads) == one,
            "{threads} threads give another order"
        );
    }
    paths.reverse();
    assert!(read(&paths, 2) == one, "the order of the arguments matters");
}

#[test]
fn line_numbers_go_on_over_blocks_and_only_newlines_count() {
    let dir = folder();
    let line = b"progress 10%\rprogress 20%\r\xff\xfe\0 done\r\n";
    let count = 2 * BLOCK_BYTES / line.len() + 7;
    let log = [line.repeat(count), b"last line without end".to_vec()].concat();
    let (got, totals) = read(&[put(dir.path(), "cr.log", &log)], 2);
    assert_eq!(text(&got), log);
    assert_eq!(totals.lines, count as u64 + 1);
    let mut next = 1;
    for (first, text) in blocks(&got) {
        assert_eq!(first, next);
        next += text.iter().filter(|&&b| b == b'\n').count() as u64;
    }
}

#[test]
fn a_line_without_end_is_cut_and_counted() {
    let dir = folder();
    let mut log = b"before\n".to_vec();
    log.extend(std::iter::repeat_n(b'x', 2 * LINE_BYTES + 12345));
    log.extend_from_slice(b"\nafter\n");
    let (got, totals) = read(&[put(dir.path(), "long.log", &log)], 2);
    let text = text(&got);
    assert!(text.starts_with(b"before\nxxxx"));
    assert!(text.ends_with(b"xxxx\nafter\n"));
    assert_eq!(
        text.len(),
        b"before\n".len() + LINE_BYTES + b"after\n".len()
    );
    assert_eq!((totals.lines, totals.cut), (3, 1));
    assert!(got.contains(&Seen::Lost(0, Some(1))));
    // Almost as long: whole.
    let mut log = vec![b'y'; LINE_BYTES - 1];
    log.push(b'\n');
    let (got, totals) = read(&[put(dir.path(), "fits.log", &log)], 2);
    assert!(self::text(&got) == log);
    assert_eq!(totals.cut, 0);
}

#[test]
fn folders_are_read_whole_sorted_and_without_what_is_no_log() {
    let dir = folder();
    let d = dir.path();
    put(d, "z/deep/er/llm-1.log", b"one\n");
    put(d, "a.log", b"a\n");
    put(d, "empty.log", b"");
    put(d, ".hidden.log", b"no\n");
    put(d, "libnccl.so", b"\x7fELF\x02\x01\x01");
    put(
        d,
        "weights.bin",
        &(0..=255u8).cycle().take(9000).collect::<Vec<_>>(),
    );
    std::os::unix::fs::symlink(d, d.join("z/loop")).unwrap();
    std::os::unix::fs::symlink(d.join("a.log"), d.join("z/again.log")).unwrap();
    let inputs = Inputs::find(&[d.to_owned(), d.join("a.log")]).unwrap();
    let names: Vec<_> = inputs
        .list
        .iter()
        .map(|i| i.name.strip_prefix(d.to_str().unwrap()).unwrap())
        .collect();
    assert_eq!(names, ["/a.log", "/empty.log", "/z/deep/er/llm-1.log"]);
    let skipped = inputs.skipped.join("\n");
    assert!(
        skipped.contains("libnccl.so: an ELF program or library"),
        "{skipped}"
    );
    assert!(skipped.contains("weights.bin: binary data"), "{skipped}");
    assert!(skipped.contains(".hidden.log: hidden"), "{skipped}");
    assert_eq!(inputs.skipped.len(), 3);
    let (_, totals) = read(&[d.to_owned()], 2);
    assert_eq!(
        totals.notes,
        [format!("{}: is empty", d.join("empty.log").display())]
    );
}

#[test]
fn rotated_parts_are_read_from_the_oldest_to_the_newest() {
    let dir = folder();
    let d = dir.path();
    for name in [
        "0.log",
        "0.log.20260203-030000.gz",
        "0.log.20260203-020000.gz",
        "w.log",
        "w.log.1",
        "w.log.10",
    ] {
        let line = format!("{name}\n");
        let bytes = if name.ends_with("gz") {
            gz(line.as_bytes())
        } else {
            line.into_bytes()
        };
        put(d, name, &bytes);
    }
    let (got, _) = read(&[d.to_owned()], 2);
    let order = String::from_utf8(text(&got)).unwrap();
    assert_eq!(
        order.lines().collect::<Vec<_>>(),
        [
            "0.log.20260203-020000.gz",
            "0.log.20260203-030000.gz",
            "0.log",
            "w.log.10",
            "w.log.1",
            "w.log"
        ]
    );
    let opened: Vec<_> = got
        .iter()
        .filter_map(|s| {
            if let Seen::Opened(id, _) = s {
                Some(*id)
            } else {
                None
            }
        })
        .collect();
    // The first three are one log. Those called `w` are none: from 2 to 9 nothing is there.
    assert_eq!(opened, [0, 1, 2, 3]);
}

#[test]
fn what_cannot_be_read_is_said_in_one_sentence() {
    let dir = folder();
    let d = dir.path();
    assert_eq!(
        refusal(&d.join("nope.log")),
        format!("{}/nope.log: no such file or folder", d.display())
    );
    let elf = put(d, "prog", b"\x7fELF\x02\x01\x01\0\0\0");
    assert_eq!(
        refusal(&elf),
        format!(
            "{}: not a log: it looks like an ELF program or library",
            elf.display()
        )
    );
    let noise = put(
        d,
        "noise.gz",
        &gz(&(0..=255u8).cycle().take(9000).collect::<Vec<_>>()),
    );
    assert_eq!(
        refusal(&noise),
        format!("{}: not a log: it looks like binary data", noise.display())
    );
    let broken = put(d, "broken.gz", b"\x1f\x8b\x08\0\0");
    assert_eq!(
        refusal(&broken),
        format!(
            "{}: can't be read: it ends in the middle of its compressed data",
            broken.display()
        )
    );
    let only = d.join("only");
    put(&only, "x.png", b"\x89PNG\r\n");
    assert_eq!(
        refusal(&only),
        format!(
            "{0}: there is no log file in this folder (1 file skipped, the first: {0}/x.png: a picture)",
            only.display()
        )
    );
    let none = d.join("none");
    fs::create_dir(&none).unwrap();
    assert_eq!(
        refusal(&none),
        format!("{}: there is no log file in this folder", none.display())
    );
}

#[test]
fn odd_bytes_do_not_make_a_log_binary() {
    let dir = folder();
    // Truncated under its writer: a hole, then text.
    let hole = [vec![0; 5000], b"llm-0:1:1 [0] NCCL INFO x\n".to_vec()].concat();
    let ansi = b"\x1b[36m(Worker pid=1)\x1b[0m caf\xe9 \x07\r\n".repeat(50);
    for (name, log) in [("hole.log", hole), ("ansi.log", ansi)] {
        let (got, _) = read(&[put(dir.path(), name, &log)], 1);
        assert_eq!(text(&got), log, "{name}");
    }
}

#[test]
fn utf_16_and_byte_order_marks_are_understood() {
    let dir = folder();
    let words = "Größe 😀 ok\r\nzwei\r\n";
    let little: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(words.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let big: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(words.encode_utf16())
        .flat_map(u16::to_be_bytes)
        .collect();
    let marked = [b"\xef\xbb\xbf", words.as_bytes()].concat();
    for (name, bytes) in [("le", little), ("be", big), ("bom", marked)] {
        let (got, totals) = read(&[put(dir.path(), name, &bytes)], 1);
        assert_eq!(String::from_utf8(text(&got)).unwrap(), words, "{name}");
        assert_eq!(totals.lines, 2);
    }
}

#[test]
fn a_torn_archive_gives_what_it_holds_and_says_where_it_ends() {
    let dir = folder();
    let log = job(3_000_000);
    let whole = gz(&log);
    let torn = whole.get(..whole.len() / 2).unwrap();
    let path = put(dir.path(), "torn.gz", torn);
    let (got, totals) = read(std::slice::from_ref(&path), 2);
    let text = text(&got);
    assert!(text.len() > 100_000 && log.starts_with(&text));
    let why = "it ends in the middle of its compressed data";
    assert_eq!(got.last(), Some(&Seen::Ended(0, Some(why.to_owned()))));
    assert_eq!(
        totals.notes,
        [format!(
            "{}: read up to line {}: {why}",
            path.display(),
            totals.lines
        )]
    );
}

#[test]
fn a_sink_that_has_enough_ends_the_reading() {
    let dir = folder();
    let inputs = Inputs::find(&[put(dir.path(), "big.log", &job(20_000_000))]).unwrap();
    let mut blocks = 0;
    read_all(&inputs, 4, &Arc::new(Progress::default()), &mut |event| {
        blocks += usize::from(matches!(event, Event::Log(_)));
        if blocks == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert_eq!(blocks, 2);
}

/// Bytes piped through the program; `NCCLSCOPE_PIPE_BYTES=10737418240` shows the same for 10 GiB.
const PIPED: u64 = 96 << 20;

/// More than the program needs, much less than it is given.
const PEAK_KIB: u64 = 64 << 10;

#[test]
fn a_long_pipe_is_read_in_bounded_memory() {
    let asked = std::env::var("NCCLSCOPE_PIPE_BYTES")
        .ok()
        .and_then(|n| n.parse().ok());
    let bytes = asked.unwrap_or(PIPED);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ncclscope"))
        .args(["report", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = std::io::copy(&mut Stream::new(bytes), &mut stdin).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["sources"][0]["name"], "-");
    assert_eq!(report["sources"][0]["bytes"], sent);
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(
        peak < PEAK_KIB,
        "{} MiB of memory for {} MiB of input",
        peak >> 10,
        sent >> 20
    );
}

/// Receives until the text of a source is `want`, or fails after ten seconds.
fn await_text(rx: &mut tokio::sync::mpsc::Receiver<Event>, all: &mut Vec<Seen>, want: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        while text(all) != want {
            let event = tokio::time::timeout(Duration::from_secs(10), rx.recv()).await;
            match event {
                Ok(Some(event)) => all.push(seen(event)),
                _ => panic!(
                    "got {:?}, waited for {:?}",
                    String::from_utf8_lossy(&text(all)),
                    String::from_utf8_lossy(want)
                ),
            }
        }
    });
}

#[test]
fn a_followed_file_may_grow_rotate_and_be_truncated() {
    let dir = folder();
    let path = put(dir.path(), "w.log", b"one\ntw");
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let follower = follow(Inputs::find(&[dir.path().to_owned()]).unwrap(), true, tx).unwrap();
    let mut all = Vec::new();
    // The unfinished line waits for its end.
    await_text(&mut rx, &mut all, b"one\n");
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"o\nthree\nfo")
        .unwrap();
    await_text(&mut rx, &mut all, b"one\ntwo\nthree\n");
    // Renamed: the old file is read to its end, unfinished line included, then the new one.
    fs::rename(&path, dir.path().join("w.log.1")).unwrap();
    put(
        dir.path(),
        "w.log",
        b"five, which is longer than the rest together\n",
    );
    await_text(
        &mut rx,
        &mut all,
        b"one\ntwo\nthree\nfofive, which is longer than the rest together\n",
    );
    // Truncated in place: starts again and says so.
    let mut file = File::create(&path).unwrap();
    file.write_all(b"six\n").unwrap();
    await_text(
        &mut rx,
        &mut all,
        b"one\ntwo\nthree\nfofive, which is longer than the rest together\nsix\n",
    );
    assert!(all.contains(&Seen::Lost(0, None)));
    // A file that appears in the folder is a source of its own.
    put(dir.path(), "x.log", b"seven\n");
    await_text(
        &mut rx,
        &mut all,
        b"one\ntwo\nthree\nfofive, which is longer than the rest together\nsix\nseven\n",
    );
    assert!(all.contains(&Seen::Opened(
        1,
        dir.path().join("x.log").display().to_string()
    )));
    let numbers: Vec<u64> = blocks(&all).iter().map(|(first, _)| *first).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6, 1]);
    assert!(!all.iter().any(|s| matches!(s, Seen::Ended(..))));
    drop(follower);
}

#[test]
fn a_slow_pipe_shows_every_line_at_once() {
    let dir = folder();
    let fifo = dir.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let _follower = follow(
        Inputs::find(std::slice::from_ref(&fifo)).unwrap(),
        false,
        tx,
    )
    .unwrap();
    let mut pipe = OpenOptions::new().write(true).open(&fifo).unwrap();
    let mut all = Vec::new();
    pipe.write_all(b"first\nsec").unwrap();
    await_text(&mut rx, &mut all, b"first\n");
    pipe.write_all(b"ond\n").unwrap();
    await_text(&mut rx, &mut all, b"first\nsecond\n");
    drop(pipe);
    while let Some(event) = rx.blocking_recv() {
        all.push(seen(event));
    }
    assert_eq!(all.last(), Some(&Seen::Ended(0, None)));
}

/// What nccl-tests write with `-J`.
const RESULTS: &[u8] =
    br#"{"version": "2.19.6", "start_time": "x", "args": ["all_reduce_perf", "-J", "r.json"],
    "env": ["HF_TOKEN=hf_abc", "NCCL_DEBUG=INFO", "AWS_SESSION=quiet"],
    "results": [{"size": 1048576, "count": 262144, "type": "float", "redop": "sum", "root": -1,
        "out_of_place": {"time": 37.1, "alg_bw": 28.26, "bus_bw": 28.26, "nwrong": "0"},
        "in_place": {"time": 36.9, "alg_bw": 28.42, "bus_bw": 28.42, "nwrong": 0}}],
    "out_of_bounds": {"count": 0, "okay": "true"}, "errors": []}"#;

/// One that is written while its folder is followed is told as one that was there, once it is whole; none of its
/// bytes are.
#[test]
fn a_result_file_that_is_followed_is_told_when_it_is_whole() {
    let dir = folder();
    put(dir.path(), "w.log", b"one\n");
    let told = text(&read(&[put(folder().path(), "r.json", RESULTS)], 1).0);
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let _follower = follow(Inputs::find(&[dir.path().to_owned()]).unwrap(), true, tx).unwrap();
    let mut all = Vec::new();
    await_text(&mut rx, &mut all, b"one\n");
    // Line by line as a log, whatever it holds; that which only begins like a result file after a while, too.
    put(dir.path(), "x.log", b"{\"version\": 3}\n");
    let mut want = b"one\n{\"version\": 3}\n".to_vec();
    await_text(&mut rx, &mut all, &want);
    let mut file = File::create(dir.path().join("r.json")).unwrap();
    for part in [&RESULTS[..4], &RESULTS[4..200], &RESULTS[200..]] {
        file.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(600));
    }
    want.extend_from_slice(&told);
    await_text(&mut rx, &mut all, &want);
    assert!(!String::from_utf8(text(&all)).unwrap().contains("hf_abc"));
    // Written anew by another run: told again, and only that.
    let again = String::from_utf8(RESULTS.to_vec()).unwrap();
    let again = again.replace("28.42", "29.42").into_bytes();
    put(dir.path(), "r.json", &again);
    want.extend_from_slice(&text(&read(&[put(folder().path(), "r.json", &again)], 1).0));
    await_text(&mut rx, &mut all, &want);
}

/// One that its writer has not finished when it is first read is no news; it is told once it is whole, and complained
/// of where it stays torn.
#[test]
fn a_result_file_that_is_torn_at_the_start_is_waited_for() {
    let dir = folder();
    put(dir.path(), "r.json", &RESULTS[..200]);
    put(dir.path(), "stays.json", &RESULTS[..200]);
    let mut want = b"one\n".to_vec();
    put(dir.path(), "w.log", &want);
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let _follower = follow(Inputs::find(&[dir.path().to_owned()]).unwrap(), true, tx).unwrap();
    let mut all = Vec::new();
    await_text(&mut rx, &mut all, &want);
    std::thread::sleep(Duration::from_millis(600));
    let mut file = OpenOptions::new()
        .append(true)
        .open(dir.path().join("r.json"))
        .unwrap();
    file.write_all(&RESULTS[200..]).unwrap();
    want.extend_from_slice(&text(
        &read(&[put(folder().path(), "r.json", RESULTS)], 1).0,
    ));
    await_text(&mut rx, &mut all, &want);
    let complains = |s: &Seen| matches!(s, Seen::Other(what) if what.contains("not whole yet"));
    assert!(!all.iter().any(complains), "{all:?}");
    loop {
        let next = seen(rx.blocking_recv().unwrap());
        if complains(&next) {
            assert_eq!(
                next,
                seen(Event::Source(SourceEvent::Retrying {
                    id: ncclscope::model::event::SourceId(1),
                    why: "this result file of nccl-tests is not whole yet".into(),
                    in_ms: 250,
                }))
            );
            break;
        }
        assert!(!matches!(next, Seen::Block(..)), "{next:?}");
    }
}

/// One that was there from the start is told once, however long it is followed.
#[test]
fn a_result_file_that_was_there_is_told_once() {
    let dir = folder();
    put(dir.path(), "a.json", RESULTS);
    put(dir.path(), "b.log", b"one\n");
    let mut want = text(&read(&[dir.path().join("a.json")], 1).0);
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let _follower = follow(Inputs::find(&[dir.path().to_owned()]).unwrap(), true, tx).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    put(dir.path(), "c.log", b"two\n");
    want.extend_from_slice(b"one\ntwo\n");
    await_text(&mut rx, &mut Vec::new(), &want);
}

/// The result file of nccl-tests holds the environment of who ran it: its rows come in, its secrets don't.
#[test]
fn a_result_file_of_nccl_tests_gives_rows_and_no_secret() {
    let dir = folder();
    let whole = RESULTS;
    let text_in = |name: &str, bytes: &[u8]| {
        let (all, _) = read(&[put(dir.path(), name, bytes)], 1);
        String::from_utf8(text(&all)).unwrap()
    };
    let said = text_in("r.json", whole);
    let rows: Vec<_> = said
        .lines()
        .filter_map(|l| perf::line(l.as_bytes()))
        .collect();
    let row = rows.iter().find_map(|s| match s {
        perf::Said::Row(row) => row.best(),
        _ => None,
    });
    assert_eq!(row.map(|h| (h.busbw, h.wrong)), Some((28.42, Some(0))));
    assert!(said.contains("NCCL_DEBUG=INFO") && said.contains("# 2 other variables are not shown"));
    // One that was cut off says so; of its environment nothing is let through either.
    let torn = text_in("torn.json", &whole[..200]);
    for text in [&said, &torn] {
        assert!(
            !text.contains("hf_abc") && !text.contains("quiet"),
            "{text}"
        );
    }
    assert!(torn.contains("is torn"), "{torn}");
}
