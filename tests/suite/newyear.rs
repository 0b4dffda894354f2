//! Logs whose stamps name no year go on in time past New Year.

use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{Scene, Stage};

const SECOND: i64 = 1_000_000_000;

/// The log of a worker: its lines with their stamps.
fn worker(rank: u32, stamps: [&str; 4]) -> Vec<String> {
    let [meet, start, loaded, graphs] = stamps;
    let pid = 402 + rank;
    let method = "distributed_init_method=tcp://10.42.0.17:29501 backend=nccl";
    vec![
        format!(
            "(Worker pid={pid}) INFO {meet} [parallel_state.py:1400] world_size=2 rank={rank} local_rank=0 {method}"
        ),
        format!(
            "(Worker_TP{rank} pid={pid}) INFO {start} [gpu_model_runner.py:2338] Starting to load model /models/q..."
        ),
        format!(
            "(Worker_TP{rank} pid={pid}) INFO {loaded} [gpu_model_runner.py:4130] Model loading took 17.2 GiB memory and 25.3 seconds"
        ),
        format!(
            "(Worker_TP{rank} pid={pid}) INFO {graphs} [gpu_model_runner.py:2900] Graph capturing finished in 9 secs, took 0.5 GiB"
        ),
    ]
}

/// The scene of logs, each in blocks of so many lines.
fn scene(logs: &[Vec<String>], lines: usize) -> Scene {
    let mut model = Model::default();
    let mut say = |event| {
        let (seq, at) = (0, 0);
        update(&mut model, Stamped { seq, at, event });
    };
    for (id, log) in (0..).map(SourceId).zip(logs) {
        let info = SourceInfo {
            name: format!("llm-{}.log", id.0),
            container: None,
            previous: false,
            started: None,
        };
        say(Event::Source(SourceEvent::Opened(id, info)));
        let mut first = 1;
        for chunk in log.chunks(lines) {
            let block = Arc::new(Block::new(first, (chunk.join("\n") + "\n").into_bytes()));
            first += chunk.len() as u64;
            say(Event::Log(LogBlock { source: id, block }));
        }
    }
    Scene::of(&model)
}

/// Seconds from the first stamp of each process to its last, and how long ago its stage began.
fn spans(scene: &Scene) -> Vec<(i64, i64)> {
    let now = scene.now.unwrap();
    let of = |p: &ncclscope::rules::scene::ProcessView| {
        assert!(p.stage >= Some(Stage::Profile), "{:?}", p.stage);
        let since = p.stage_since.unwrap();
        let last = p.last_at.unwrap();
        ((now.ns - last.ns) / SECOND, (now.ns - since.ns) / SECOND)
    };
    scene.processes.iter().map(of).collect()
}

const OVER: [&str; 4] = [
    "12-31 23:59:20",
    "12-31 23:59:30",
    "01-01 00:00:10",
    "01-01 00:00:20",
];

#[test]
fn a_log_goes_on_past_new_year() {
    let summer = [
        "06-30 23:59:20",
        "06-30 23:59:30",
        "07-01 00:00:10",
        "07-01 00:00:20",
    ];
    for lines in 1..=4 {
        let usual = scene(&[worker(0, summer)], lines);
        let over = scene(&[worker(0, OVER)], lines);
        assert_eq!(spans(&over), spans(&usual), "{lines} lines a block");
        let stages = |s: &Scene| s.processes.iter().map(|p| p.stage).collect::<Vec<_>>();
        assert_eq!(stages(&over), stages(&usual));
    }
}

/// A line that comes late is of the year it was written in.
#[test]
fn a_late_line_of_the_old_year_stays_in_it() {
    let late = [
        "12-31 23:59:20",
        "01-01 00:00:05",
        "12-31 23:59:58",
        "01-01 00:00:20",
    ];
    for lines in 1..=4 {
        let s = scene(&[worker(0, late)], lines);
        let now = s.now.unwrap();
        let p = &s.processes[0];
        assert_eq!(now.ns, p.last_at.unwrap().ns, "{lines} lines a block");
        assert!(
            (now.ns - p.stage_since.unwrap().ns) / SECOND < 60,
            "{lines}"
        );
    }
}

/// Logs of one job are read one after the other, whichever of them crosses the year.
#[test]
fn logs_of_one_job_are_on_one_scale() {
    let after = [
        "01-01 00:00:01",
        "01-01 00:00:02",
        "01-01 00:00:10",
        "01-01 00:00:20",
    ];
    for logs in [
        [worker(0, OVER), worker(1, after)],
        [worker(0, after), worker(1, OVER)],
    ] {
        for lines in 1..=4 {
            for (last, since) in spans(&scene(&logs, lines)) {
                assert!(
                    (0..60).contains(&last) && (0..60).contains(&since),
                    "{last} {since}, {lines} lines a block"
                );
            }
        }
    }
}
