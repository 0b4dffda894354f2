//! Where every process is, on composed logs of each era, cut off at any line; who stands still, and for how long
//! the rest will take.

#[path = "stages/eras.rs"]
pub mod eras;
#[path = "stages/folded.rs"]
mod folded;

use std::collections::BTreeMap;
use std::sync::Arc;

use ncclscope::model::event::{
    Event, Feed, LogBlock, Session, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{NcclStep, ProcessView, Scene, Stage};
use ncclscope::sources::sim;

/// 2026-03-02T03:10:00Z.
const START: i64 = 1_772_421_000;

/// The stamp of a second after the start, as the kubelet writes it.
fn stamp(second: usize) -> String {
    jiff::Timestamp::from_second(START + i64::try_from(second).unwrap())
        .unwrap()
        .strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
        .to_string()
}

/// The model after lines with their seconds, and after a look at the clock at `now` seconds.
fn model(lines: &[(usize, &str)], now: Option<usize>) -> Model {
    let mut model = Model::default();
    let mut send = |at, event| {
        update(&mut model, Stamped { seq: 0, at, event });
    };
    let id = SourceId(0);
    let info = SourceInfo {
        name: "prod/llm-0/vllm".into(),
        container: None,
        previous: false,
        started: None,
    };
    if now.is_some() {
        let session = Session {
            feed: Feed::Cluster,
            ..Session::default()
        };
        send(0, Event::Session(session));
    }
    send(0, Event::Source(SourceEvent::Opened(id, info)));
    let text: String = lines
        .iter()
        .map(|(at, l)| format!("{} {l}\n", stamp(*at)))
        .collect();
    let block = Arc::new(Block::new(1, text.into_bytes()));
    send(0, Event::Log(LogBlock { source: id, block }));
    if let Some(now) = now {
        let at = (START + i64::try_from(now).unwrap()) * 1_000_000_000;
        send(at, Event::Tick);
    }
    model
}

fn scene(lines: &[(usize, &str)], now: Option<usize>) -> Scene {
    Scene::of(&model(lines, now))
}

fn process(s: &Scene, pid: u64) -> &ProcessView {
    let mut all = s.processes.iter().filter(|p| p.pid == Some(pid));
    let one = all.next().unwrap_or_else(|| panic!("no process {pid}"));
    assert!(all.next().is_none(), "process {pid} is there twice");
    one
}

/// What a line proves: pid of the process (0: the main process, which prints no pid), stage. `ALL`: of everybody.
type Proof = (u64, Stage);
const ALL: u64 = u64::MAX;

/// One era: its lines with what each of them proves beyond what was proven before.
pub type Era = (&'static str, &'static [(&'static str, &'static [Proof])]);

use Stage::{Download, Serving, Weights};
use eras::ERAS;

/// Both are phase P7: a load is announced before it is known that files must be fetched first.
fn phase(stage: Stage) -> Stage {
    if stage == Download { Weights } else { stage }
}

/// Whatever the era and wherever its log is cut: every process stands exactly where its lines put it, and no
/// process ever goes back.
#[test]
fn the_stage_is_what_the_lines_so_far_prove() {
    for (era, lines) in ERAS {
        let mut want: BTreeMap<u64, Stage> = BTreeMap::new();
        let mut shown: BTreeMap<u64, Stage> = BTreeMap::new();
        let text: Vec<(usize, &str)> = lines.iter().enumerate().map(|(i, l)| (i, l.0)).collect();
        for (n, (line, proofs)) in lines.iter().enumerate() {
            for (pid, stage) in *proofs {
                match *pid {
                    ALL => want.values_mut().for_each(|s| *s = *stage),
                    pid => drop(want.insert(pid, *stage)),
                }
            }
            let s = scene(text.get(..=n).unwrap(), None);
            for (pid, stage) in &want {
                // A front end that is no rank may lag behind what the whole has reached.
                let own = s
                    .processes
                    .iter()
                    .find(|p| p.pid.unwrap_or(0) == *pid)
                    .unwrap_or_else(|| panic!("{era}: no process {pid} after {line}"));
                let front = own
                    .vllm_label
                    .as_deref()
                    .is_some_and(|l| !l.contains("Worker"))
                    || (*pid == 0 && own.nccl_step.is_none());
                if !(front && *stage == Serving) {
                    assert_eq!(own.stage, Some(*stage), "{era}: process {pid} after {line}");
                }
            }
            for p in &s.processes {
                let (Some(now), pid) = (p.stage, p.pid.unwrap_or(0)) else {
                    continue;
                };
                let before = shown.insert(pid, now);
                assert!(
                    before.is_none_or(|b| phase(b) <= phase(now)),
                    "{era}: process {pid} went back to {now:?} at {line}"
                );
            }
        }
    }
}

/// Every prefix of every line is as good as no line or as the whole line: nothing is ever invented.
#[test]
fn half_a_line_proves_no_more_than_the_whole() {
    for (era, lines) in ERAS {
        let text: Vec<(usize, &str)> = lines.iter().enumerate().map(|(i, l)| (i, l.0)).collect();
        for n in 0..lines.len() {
            let furthest = |lines: &[(usize, &str)]| {
                let s = scene(lines, None);
                s.processes.iter().filter_map(|p| p.stage).max()
            };
            let whole = furthest(text.get(..=n).unwrap());
            let (at, line) = text.get(n).copied().unwrap();
            let cuts = (1..line.len()).filter(|i| line.is_char_boundary(*i));
            for cut in cuts.step_by(7) {
                let mut lines = text.get(..n).unwrap().to_vec();
                lines.push((at, line.get(..cut).unwrap()));
                let half = furthest(&lines);
                assert!(
                    half.map(phase) <= whole.map(phase),
                    "{era}: {half:?} from half of {line}"
                );
            }
        }
    }
}

/// NCCL's four steps, then the all-reduce that warms the communicator up.
#[test]
fn nccl_goes_through_four_steps_and_a_warm_up() {
    let version =
        "(APIServer pid=1) INFO 08-28 10:00:00 [api_server.py:1805] vLLM API server version 0.11.0";
    let init = |s: &str| format!("llm-0:411:411 [1] NCCL INFO {s}");
    let comm = "ncclCommInitRank comm 0x55e0 rank 1 nranks 2 cudaDev 1 nvmlDev 1 busId 43000 commId 0x7c1e - Init ";
    let lines = [
        version.to_owned(),
        "(Worker pid=411) INFO 11-20 08:00:08 [pynccl.py:111] vLLM is using nccl==2.27.3".into(),
        init(&format!("{comm}START")),
        init("comm 0x55e0 rank 1 nRanks 2 nNodes 1 localRanks 2 localRank 1 MNNVL 0"),
        init("Channel 00/0 : 1[1] -> 0[0] via P2P/CUMEM"),
        init(&format!("{comm}COMPLETE")),
        "(Worker pid=411) INFO 11-20 08:00:12 [parallel_state.py:1394] rank 1 in world size 2 is assigned as DP rank 0, PP rank 0, TP rank 1, EP rank 1".into(),
    ];
    let lines: Vec<(usize, &str)> = lines
        .iter()
        .enumerate()
        .map(|(i, l)| (i, l.as_str()))
        .collect();
    let told = |n: usize| {
        let s = scene(lines.get(..n).unwrap(), None);
        let p = process(&s, 411);
        (p.nccl_open.or(p.nccl_step), p.warmed_up)
    };
    assert_eq!(told(3), (Some(NcclStep::Initialization), None));
    assert_eq!(told(4), (Some(NcclStep::Topology), None));
    assert_eq!(told(5), (Some(NcclStep::Transport), None));
    // In this version every rank prints its assignment next: until then the all-reduce has not come back.
    assert_eq!(told(6), (Some(NcclStep::Completion), Some(false)));
    assert_eq!(told(7), (Some(NcclStep::Completion), Some(true)));
}

const RANK0: &str = "(Worker pid=410) INFO 11-20 08:00:09 [parallel_state.py:1208] world_size=2 rank=0 local_rank=0 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl";
const RANK1: &str = "(Worker pid=411) INFO 11-20 08:00:09 [parallel_state.py:1208] world_size=2 rank=1 local_rank=1 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl";
const V0111: &str =
    "(APIServer pid=1) INFO 11-20 08:00:00 [api_server.py:1977] vLLM API server version 0.11.1";
const V0110: &str =
    "(APIServer pid=1) INFO 11-20 08:00:00 [api_server.py:1977] vLLM API server version 0.11.0";

/// A rendezvous may be silent for a minute, and no longer; the suspicion ends with the next line.
#[test]
fn a_rendezvous_without_a_word_is_suspicious_after_a_minute() {
    let lines = [(0, V0111), (1, RANK0)];
    let still = |now| process(&scene(&lines, Some(now)), 410).still;
    assert_eq!(still(60), None);
    let s = still(62).unwrap();
    assert_eq!((s.limit_s, s.waits), (60, false));
    assert_eq!(s.since.ns, (START + 1) * 1_000_000_000);
    let moved = [
        (0, V0111),
        (1, RANK0),
        (
            61,
            "(Worker pid=410) INFO 11-20 08:01:09 [pynccl.py:111] vLLM is using nccl==2.27.5",
        ),
    ];
    assert_eq!(process(&scene(&moved, Some(62)), 410).still, None);
}

/// Who is further than another waits for it, and is no suspect.
#[test]
fn who_waits_for_another_is_no_suspect() {
    let lines = [
        (0, V0110),
        (1, RANK0),
        (1, RANK1),
        (
            2,
            "(Worker pid=410) INFO 11-20 08:00:10 [pynccl.py:111] vLLM is using nccl==2.27.5",
        ),
    ];
    let s = scene(&lines, Some(200));
    assert!(
        !process(&s, 411).still.unwrap().waits,
        "it never came to NCCL"
    );
    assert!(process(&s, 410).still.unwrap().waits);
}

const LOADING: &[(usize, &str)] = &[
    (0, V0110),
    (1, RANK0),
    (1, RANK1),
    (
        5,
        "(Worker_TP0 pid=410) INFO 11-20 08:00:13 [gpu_model_runner.py:3259] Starting to load model /models/q...",
    ),
    (
        5,
        "(Worker_TP1 pid=411) INFO 11-20 08:00:13 [gpu_model_runner.py:3259] Starting to load model /models/q...",
    ),
    (
        305,
        "(Worker_TP0 pid=410) \rLoading safetensors checkpoint shards:  50% Completed | 30/60 [05:00<05:00, 10.00s/it]",
    ),
];

/// A start of which only the first rank tells more than where it meets; `assigned`: the other one says its place, too.
fn first_rank_only(version: &str, assigned: bool) -> Vec<(usize, String)> {
    let one = |at: usize, text: &str| (at, text.to_owned());
    let place = |pid: u32, rank: u32| {
        format!(
            "(Worker pid={pid}) INFO 11-20 08:00:12 [parallel_state.py:1394] rank {rank} in world size 2 is assigned as DP rank 0, PP rank 0, TP rank {rank}, EP rank N/A"
        )
    };
    let mut lines = vec![
        (
            0,
            format!(
                "(APIServer pid=1) INFO 11-20 08:00:00 [api_server.py:1977] vLLM API server version {version}"
            ),
        ),
        one(1, RANK0),
        one(1, RANK1),
        one(
            2,
            "(Worker pid=410) INFO 11-20 08:00:10 [pynccl.py:111] vLLM is using nccl==2.27.5",
        ),
        (3, place(410, 0)),
    ];
    if assigned {
        lines.push((3, place(411, 1)));
    }
    lines.extend([
        one(
            5,
            "(Worker_TP0 pid=410) INFO 11-20 08:00:13 [gpu_model_runner.py:3259] Starting to load model /models/q...",
        ),
        one(
            100,
            "(Worker_TP0 pid=410) INFO 11-20 08:01:50 [backends.py:647] Dynamo bytecode transform time: 6.10 s",
        ),
    ]);
    lines
}

/// What only the first rank of a node prints makes no other rank look dead (`vllm.md` 1.6), and what every rank of
/// a version prints is missed.
#[test]
fn whom_the_version_keeps_silent_is_no_suspect() {
    // Version, whether the second rank says its place, whether its silence means something.
    for (version, assigned, suspect) in [
        ("0.11.0", true, true),
        ("0.11.1", true, false),
        ("0.11.1", false, true),
        ("0.14.0", true, false),
        ("0.18.0", false, true),
        ("0.19.0", false, false),
        ("0.22.0", false, false),
        // Nobody knows what a build of one's own prints.
        ("dev", false, false),
    ] {
        let lines = first_rank_only(version, assigned);
        let lines: Vec<(usize, &str)> = lines.iter().map(|(at, l)| (*at, l.as_str())).collect();
        let s = scene(&lines, Some(250));
        let (first, second) = (process(&s, 410), process(&s, 411));
        let case = format!("{version}, assigned {assigned}");
        // Who makes communicators proves that all have met.
        assert_eq!(second.stage, Some(Stage::NcclInit), "{case}");
        assert_eq!(second.still.is_some(), suspect, "{case}: {second:?}");
        assert_eq!(second.quiet, !suspect, "{case}");
        assert_eq!(first.still, None, "{case}: a cold compile takes its time");
        let shot = crate::stage::photograph(&s, &crate::stage::model(200, 50));
        assert_eq!(
            shot.contains("silent by their version until they serve"),
            !suspect,
            "{case}: {shot}"
        );
        assert_eq!(shot.contains("no sign for"), suspect, "{case}: {shot}");
    }
}

/// NCCL's init hangs in a version that lets only the first rank speak: nobody is behind anybody.
#[test]
fn a_hang_in_nccl_accuses_no_silent_rank() {
    let lines = first_rank_only("0.19.0", false);
    let lines: Vec<(usize, &str)> = lines.iter().map(|(at, l)| (*at, l.as_str())).collect();
    let s = scene(lines.get(..4).unwrap(), Some(200));
    for pid in [410, 411] {
        let p = process(&s, pid);
        assert_eq!(p.stage, Some(Stage::NcclInit));
        assert!(!p.still.unwrap().waits, "{pid} waits for nobody");
    }
    // The line of an earlier life proves nothing of this one.
    let again = [(0, lines[0].1), (1, RANK0), (2, lines[3].1), (50, RANK1)];
    let s = scene(&again, Some(60));
    assert_eq!(process(&s, 411).stage, Some(Stage::DistributedInit));
}

/// Only the first rank draws the bar: as long as it advances, the silent ones are not suspected.
#[test]
fn a_silent_rank_loads_as_long_as_the_bar_advances() {
    let s = scene(LOADING, Some(400));
    assert_eq!(process(&s, 410).still, None);
    assert_eq!(
        process(&s, 411).still,
        None,
        "it prints no bar in any version"
    );
    let s = scene(LOADING, Some(430));
    assert!(process(&s, 410).still.is_some() && process(&s, 411).still.is_some());
}

/// The first rank is through and the other one says nothing: now it is late, measured from there.
#[test]
fn a_rank_that_never_finishes_loading_is_suspected_once_another_has() {
    let mut lines = LOADING.to_vec();
    lines.push((640, "(Worker_TP0 pid=410) INFO 11-20 08:10:48 [backends.py:647] Dynamo bytecode transform time: 6.10 s"));
    let s = scene(&lines, Some(700));
    assert_eq!(process(&s, 411).still, None);
    let s = scene(&lines, Some(770));
    assert!(!process(&s, 411).still.unwrap().waits);
    assert_eq!(
        process(&s, 410).still,
        None,
        "a cold compile takes its time"
    );
}

/// What is left comes from the bar, shrinks with the clock, and is unknown once nothing moves.
#[test]
fn time_left_is_said_where_it_is_known() {
    let left = |now| {
        let s = scene(LOADING, Some(now));
        let bar = process(&s, 410).progress.clone().unwrap();
        (bar.done, bar.total, bar.left_s)
    };
    assert_eq!(left(305), (30, 60, Some(300)));
    assert_eq!(left(335), (30, 60, Some(270)));
    assert_eq!(left(500), (30, 60, None), "it stands still");
}

/// Several files are fetched at once: all of them count, and what is left of one says nothing of the whole.
#[test]
fn a_download_is_told_apart_and_summed_over_its_files() {
    let lines = [
        (0, V0111),
        (1, RANK0),
        (
            5,
            "(Worker_TP0 pid=410) INFO 11-20 08:00:13 [gpu_model_runner.py:3259] Starting to load model org/q...",
        ),
        (
            9,
            "(Worker_TP0 pid=410) \rmodel-00001-of-00002.safetensors:  20%|██        | 1.00G/5.00G [00:04<00:16, 250MB/s]",
        ),
        (
            9,
            "(Worker_TP0 pid=410) \rmodel-00002-of-00002.safetensors:  40%|████      | 2.00G/5.00G [00:04<00:06, 500MB/s]",
        ),
    ];
    let s = scene(&lines, Some(10));
    let p = process(&s, 410);
    assert_eq!(p.stage, Some(Download));
    let bar = p.progress.as_ref().unwrap();
    assert_eq!(
        (bar.done, bar.total, bar.unit),
        (3_000_000_000, 10_000_000_000, "bytes")
    );
}

/// Files: now is the last stamp; a log without stamps suspects nobody.
#[test]
fn without_stamps_nobody_stands_still() {
    let text = format!("{V0111}\n{RANK0}\nsomething else\n");
    let mut model = Model::default();
    let id = SourceId(0);
    let block = Arc::new(Block::new(1, text.into_bytes()));
    update(
        &mut model,
        Stamped {
            seq: 0,
            at: 0,
            event: Event::Log(LogBlock { source: id, block }),
        },
    );
    let s = Scene::of(&model);
    assert!(s.processes.iter().all(|p| p.still.is_none()));
}

/// A limit of the configuration holds: in the rule, and in the words on screen.
#[test]
fn a_stage_may_be_silent_for_as_long_as_somebody_says() {
    let s = sim::load("loading-stalled").unwrap();
    let at = |limits: &str| {
        let mut model = Model::default();
        let limits = Event::Limits(limits.parse().unwrap());
        for (seq, (at, event)) in (1..).zip(std::iter::once((0, limits)).chain(sim::events(&s))) {
            update(&mut model, Stamped { seq, at, event });
        }
        Scene::of(&model)
    };
    let suspected = |scene: &Scene| scene.processes.iter().filter(|p| p.still.is_some()).count();
    let usual = at("");
    assert!(suspected(&usual) > 0);
    let still = usual.processes.iter().find_map(|p| p.still).unwrap();
    assert_eq!(still.limit_s, 120, "the reference's");
    let patient = at("weights=3600");
    assert_eq!(suspected(&patient), 0);
    assert!(
        patient
            .processes
            .iter()
            .any(|p| p.silence.is_some_and(|s| s.limit_s == 3600))
    );
    assert!(
        !patient
            .findings
            .iter()
            .any(|f| f.id == "vllm.loading-stalled")
    );
    let said = crate::stage::photograph(&patient, &crate::stage::model(200, 50));
    assert!(said.contains("of 1h 00m allowed"), "{said}");
    let said = crate::stage::photograph(&usual, &crate::stage::model(200, 50));
    assert!(said.contains(", 2m 00s allowed"), "{said}");
    for wrong in [
        "weights",
        "wieghts=3",
        "weights=0",
        "weights=a",
        "weights=99999999",
    ] {
        assert!(
            wrong.parse::<ncclscope::model::limits::Limits>().is_err(),
            "{wrong}"
        );
    }
}
