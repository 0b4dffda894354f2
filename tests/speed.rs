//! How fast logs become a report, next to ripgrep on the same file in the same run.
//!
//! `cargo bench` uses 64 MiB; `cargo bench -- --full` the 1 GiB of the budget; `NCCLSCOPE_BENCH_BYTES`
//! any size. Prints minimum and median over alternating runs, the processor time of each (which other work on
//! the machine disturbs less than the clock), the peak memory of the program, and what a
//! full frame of each pane costs at 8, 64 and 1,024 ranks, and what deriving all of it does at 1,024: from nothing,
//! and after a sample or a line, with all rules and all checks on lines of their own.

#[path = "suite/frames.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod frames;
#[path = "generator.rs"]
mod generator;
#[path = "suite/stage.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests use the rest; the scenes are made up here, nothing comes from outside"
)]
mod stage;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ncclscope::model::event::{Event, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::kept::Kept;
use ncclscope::rules::scene::Scene;
use ncclscope::rules::{checks, findings};
use ncclscope::sources::sim;

/// What `rg -c` searches for, the first of them is what the program must beat.
const SEARCHES: [(&str, &[&str]); 3] = [
    // A connection line from its first word to its end, as the reference of NCCL's lines reads it.
    (
        "the channel regex",
        &[
            r"Channel (?P<ch>\d{2,})(?:/(?P<k>\d+))? : (?P<a>\d+)\[(?P<ai>[0-9a-f]+)\] -> (?P<b>\d+)\[(?P<bi>[0-9a-f]+)\](?: \[(?P<dir>send|receive)\])? via (?P<via>.+)$",
        ],
    ),
    // What is enough to tell such a line, without its transport.
    (
        "half of it",
        &[r"Channel [0-9]{2,}(/[0-9]+)? : [0-9]+\[[0-9a-f]+\] -> [0-9]+\[[0-9a-f]+\]"],
    ),
    ("a literal", &["-F", "Channel "]),
];
const SMALL: u64 = 64 << 20;
const FULL: u64 = 1 << 30;
const RUNS: usize = 7;
const FRAMES: u32 = 51;

fn main() -> io::Result<()> {
    let full = std::env::args().any(|arg| arg == "--full");
    let asked = std::env::var("NCCLSCOPE_BENCH_BYTES")
        .ok()
        .and_then(|n| n.parse().ok());
    let bytes = asked.unwrap_or(if full { FULL } else { SMALL });
    let log = log_of(bytes)?;
    let size = fs::metadata(&log)?.len();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{} MiB, {} processes, {cores} cores",
        size >> 20,
        generator::PROCESSES
    );

    let rg = Command::new("rg").arg("--version").output().is_ok();
    let (mut ours, mut theirs, mut peak) = (Vec::new(), SEARCHES.map(|_| Vec::new()), 0);
    for _ in 0..RUNS {
        let mut report = Command::new(env!("CARGO_BIN_EXE_ncclscope"));
        report.args(["report", "--format", "json"]).arg(&log);
        let (cost, memory) = measure(&mut report)?;
        ours.push(cost);
        peak = peak.max(memory);
        for ((_, words), costs) in SEARCHES.iter().zip(&mut theirs).filter(|_| rg) {
            let mut search = Command::new("rg");
            search.arg("-c").args(*words).arg(&log);
            costs.push(measure(&mut search)?.0);
        }
    }
    show("ncclscope report", size, &mut ours);
    if rg {
        let ratio = |a: &[Cost], b: &[Cost], i: usize| match (a.get(i), b.get(i)) {
            (Some(a), Some(b)) => b.took.as_secs_f64() / a.took.as_secs_f64(),
            _ => 0.0,
        };
        for ((what, _), theirs) in SEARCHES.iter().zip(&mut theirs) {
            show(&format!("rg -c with {what}"), size, theirs);
            println!(
                "ncclscope is {:.2} times as fast (medians), {:.2} times (minima)",
                ratio(&ours, theirs, RUNS / 2),
                ratio(&ours, theirs, 0)
            );
        }
    } else {
        println!("rg is not installed: nothing to compare with");
    }
    println!("peak memory {} MiB", peak >> 10);
    println!("full frames at 200x50, medians of {FRAMES}:");
    frames::print(FRAMES);
    judge();
    Ok(())
}

/// What it takes to derive everything, all rules and checks over a live job of 1,024 ranks.
fn judge() {
    let Ok(scenario) = sim::load("big") else {
        return;
    };
    let mut model = Model::default();
    let events = sim::events(&scenario);
    for (seq, (at, event)) in (1..).zip(&events) {
        let (at, event) = (*at, event.clone());
        update(&mut model, Stamped { seq, at, event });
    }
    // What comes while a job serves: a sample here, a line there.
    let last = |wanted: fn(&Event) -> bool| {
        let all = events.iter().rev().map(|(_, event)| event);
        all.filter(move |event| wanted(event)).take(8).cloned()
    };
    let samples = last(|event| matches!(event, Event::Sample(_)));
    let lines = last(|event| matches!(event, Event::Log(_)));
    let news: Vec<Event> = samples.zip(lines).flat_map(|(a, b)| [a, b]).collect();
    let mut kept = Kept::default();
    let mut scene = Scene::again(&model, &mut kept);
    let [mut anew, mut again, mut rules, mut checklist] = [const { Vec::new() }; 4];
    for (_, event) in (0..FRAMES).zip(news.iter().cycle()) {
        time(&mut anew, || Scene::of(&model));
        let (seq, at) = (0, model.now + 1_000_000_000);
        update(
            &mut model,
            Stamped {
                seq,
                at,
                event: event.clone(),
            },
        );
        // The last one is thrown away where the screen does it, too.
        time(&mut again, || scene = Scene::again(&model, &mut kept));
        time(&mut rules, || findings::run(&mut scene, &model, &mut kept));
        time(&mut checklist, || checks::run(&scene, &model));
    }
    println!("{} ranks, medians of {FRAMES}:", scenario.world());
    for (what, times) in [
        ("everything derived from nothing", &mut anew),
        ("everything after a sample or a line", &mut again),
        ("of which all rules", &mut rules),
        ("of which all checks", &mut checklist),
    ] {
        times.sort_unstable();
        let ms = |i: usize| times.get(i).map_or(0.0, |t| t.as_secs_f64() * 1e3);
        println!(
            "  {what:<36} {:.1} ms (best {:.1})",
            ms(times.len() / 2),
            ms(0)
        );
    }
}

fn time<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) {
    let start = Instant::now();
    let made = work();
    times.push(start.elapsed());
    drop(made);
}

/// The generated log; made once per size.
fn log_of(bytes: u64) -> io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("job-{bytes}.log"));
    if fs::metadata(&path).is_ok_and(|meta| meta.len() >= bytes) {
        return Ok(path);
    }
    let mut out = BufWriter::new(File::create(&path)?);
    io::copy(&mut generator::Stream::new(bytes), &mut out)?;
    out.flush()?;
    Ok(path)
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// By the clock.
    took: Duration,
    /// Of all processors together, the kernel's work for it included.
    cpu: Duration,
}

/// Wall and processor time, and the peak of resident memory in KiB as the kernel last told before the end.
fn measure(command: &mut Command) -> io::Result<(Cost, u64)> {
    let before = children()?;
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let watcher = thread::spawn(move || {
        let mut peak = 0;
        while let Some(now) = fs::read_to_string(&status)
            .ok()
            .and_then(|text| high_water(&text))
        {
            peak = now;
            thread::sleep(Duration::from_millis(4));
        }
        peak
    });
    child.wait()?;
    let took = start.elapsed();
    let cpu = children()?.saturating_sub(before);
    Ok((Cost { took, cpu }, watcher.join().unwrap_or(0)))
}

/// Processor time of the children that ended (proc_pid_stat(5): `cutime` and `cstime`, in hundredths).
fn children() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in brackets, may hold anything.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let ticks = behind.split_ascii_whitespace().skip(13).take(2);
    let ticks: u64 = ticks.filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

fn high_water(status: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))?
        .trim()
        .strip_suffix(" kB")?
        .trim()
        .parse()
        .ok()
}

fn show(what: &str, bytes: u64, runs: &mut [Cost]) {
    let gib = bytes as f64 / f64::from(1u32 << 30);
    let per = |cost: Option<&Cost>| cost.map_or(0.0, |cost| cost.cpu.as_secs_f64() / gib);
    runs.sort_unstable_by_key(|cost| cost.cpu);
    let (cpu, least) = (per(runs.get(runs.len() / 2)), per(runs.first()));
    runs.sort_unstable_by_key(|cost| cost.took);
    let rate = |cost: Option<&Cost>| cost.map_or(0.0, |cost| gib / cost.took.as_secs_f64());
    println!(
        "{what:<30} {:.2} GiB/s (best {:.2}), {cpu:.2} s of CPU a GiB (best {least:.2})",
        rate(runs.get(runs.len() / 2)),
        rate(runs.first())
    );
}
