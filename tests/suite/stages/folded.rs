//! Lines that Ray's driver dropped because others were alike: it says how many, not whose (`vllm.md` A9).

use ncclscope::model::event::Command;
use ncclscope::rules::scene::{ProcessView, Scene, Stage};

use super::{process, scene};
use crate::stage;

/// What a worker says, as the driver relays it; `n` alike lines stand for this one.
fn says(pid: u64, what: &str, n: u32) -> String {
    let ip = match pid {
        381 | 382 => "",
        _ => ", ip=10.42.3.9",
    };
    let folded = match n {
        0 => String::new(),
        n => format!(" [repeated {n}x across cluster]"),
    };
    format!(
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid={pid}{ip}) INFO 11-20 08:00:05 {what}{folded}"
    )
}

fn place(rank: u32, world: u32) -> String {
    format!(
        "[parallel_state.py:1208] rank {rank} in world size {world} is assigned as DP rank 0, PP rank 0, TP rank {rank}"
    )
}

const BEGINS: &str = "[gpu_model_runner.py:2100] Starting to load model /models/q...";
const READ: &str = "[default_loader.py:262] Loading weights took 41.20 seconds";
const LOADED: &str =
    "[gpu_model_runner.py:2338] Model loading took 17.0400 GiB and 42.402188 seconds";
const KV: &str = "[gpu_worker.py:276] Available KV cache memory: 47.31 GiB";

/// Four workers of an engine; each of them has said its place.
fn start() -> Vec<(usize, String)> {
    let mut lines = vec![
        (0, "(APIServer pid=1) INFO 11-20 08:00:00 [api_server.py:1977] vLLM API server version 0.10.2".to_owned()),
        (1, "(EngineCore_DP0 pid=271) INFO 11-20 08:00:01 [core.py:93] Initializing a V1 LLM engine (v0.10.2) with config: model='/models/q', speculative_config=None, tensor_parallel_size=4, pipeline_parallel_size=1, data_parallel_size=1".to_owned()),
    ];
    lines.extend((0..4).map(|r| (5, says(381 + u64::from(r), &place(r, 4), 0))));
    lines
}

fn at(lines: &[(usize, String)], now: usize) -> Scene {
    let lines: Vec<(usize, &str)> = lines.iter().map(|(at, l)| (*at, l.as_str())).collect();
    scene(&lines, Some(now))
}

/// Where each of the four is, and whether its silence means nothing.
fn stands(s: &Scene) -> Vec<(Option<Stage>, bool)> {
    let of = |p: &ProcessView| (p.stage, p.unheard());
    (381..385).map(|pid| of(process(s, pid))).collect()
}

/// All that an engine has are counted: a fact of each. Fewer: nobody knows of whom.
#[test]
fn who_is_counted_without_a_name_is_not_behind() {
    use Stage::{NcclInit, Profile, Weights};
    let mut lines = start();
    let steps = [
        // (second, who, what, alike lines, what is known then)
        (
            10,
            381,
            BEGINS,
            0,
            vec![
                (Weights, false),
                (NcclInit, false),
                (NcclInit, false),
                (NcclInit, false),
            ],
        ),
        // Two of the other three, one of them by name.
        (
            15,
            384,
            BEGINS,
            2,
            vec![
                (Weights, false),
                (NcclInit, true),
                (NcclInit, true),
                (Weights, false),
            ],
        ),
        // The last one was shown by itself: nobody is left who could be meant.
        (
            16,
            382,
            BEGINS,
            0,
            vec![
                (Weights, false),
                (Weights, false),
                (Weights, false),
                (Weights, false),
            ],
        ),
        (50, 383, READ, 0, vec![(Weights, false); 4]),
        (55, 381, READ, 3, vec![(Weights, false); 4]),
        (56, 383, LOADED, 0, vec![(Weights, false); 4]),
        (
            61,
            384,
            LOADED,
            2,
            vec![
                (Weights, true),
                (Weights, true),
                (Weights, false),
                (Weights, false),
            ],
        ),
        (
            90,
            381,
            KV,
            0,
            vec![
                (Profile, false),
                (Weights, true),
                (Weights, false),
                (Weights, false),
            ],
        ),
        (95, 382, KV, 3, vec![(Profile, false); 4]),
    ];
    for (second, pid, what, n, want) in steps {
        lines.push((second, says(pid, what, n)));
        let s = at(&lines, second + 1);
        let want: Vec<_> = want.into_iter().map(|(st, u)| (Some(st), u)).collect();
        assert_eq!(stands(&s), want, "after {}", lines.last().unwrap().1);
    }
    let s = at(&lines, 96);
    let told = s.folded.first().unwrap();
    assert_eq!((told.said, told.unnamed, told.of), (4, 2, Some(4)));
    assert_eq!(told.line.number, lines.len() as u64);
    assert_eq!(
        told.sentence(),
        "4 of 4 workers have sized the KV cache: 2 by name, 2 counted by Ray without one"
    );
    let profile = process(&s, 383).stage_since.unwrap();
    assert_eq!(
        profile,
        told.line.at.unwrap(),
        "since the line that counts it"
    );
}

/// Nobody whom the count may hold is accused of standing still; the count alone is told.
#[test]
fn who_may_be_counted_is_no_suspect() {
    let mut lines = start();
    lines.extend([
        (10, says(381, BEGINS, 0)),
        (15, says(382, BEGINS, 3)),
        (50, says(381, LOADED, 0)),
        (55, says(382, LOADED, 2)),
    ]);
    let s = at(&lines, 400);
    for pid in [383, 384] {
        let p = process(&s, pid);
        assert_eq!((p.still, p.unheard()), (None, true), "{pid}");
        assert_eq!(
            p.stage,
            Some(Stage::Weights),
            "that it began to load is sure"
        );
    }
    let shot = stage::photograph(&s, &stage::model(200, 50));
    let told = "3 of 4 workers have loaded the model: 2 by name, 1 counted by Ray without one";
    assert!(shot.contains(told), "{shot}");
    let may = "or further: Ray counts 1 more, unnamed";
    assert!(shot.contains(may), "{shot}");
    let behind = shot.lines().find(|l| l.contains(may)).unwrap();
    assert!(
        !behind.contains("no sign") && !shot.contains("the others wait"),
        "{shot}"
    );
    let mut model = stage::model(120, 30);
    stage::act(&s, &mut model, &[Command::Pane("ranks".into())]);
    let pane = stage::photograph(&s, &model);
    assert!(pane.contains(told) && pane.contains(may), "{pane}");
    stage::act(&s, &mut model, &[Command::Down, Command::Enter]);
    let page = stage::photograph(&s, &model);
    assert!(page.contains("COUNTED BY RAY"), "{page}");
    // The same lines without the count: the two stand where they began to load, and nothing was heard since.
    let bare: Vec<(usize, String)> = lines
        .iter()
        .map(|(at, l)| match l.contains(LOADED) {
            true => (*at, l.replace(" [repeated 2x across cluster]", "")),
            false => (*at, l.clone()),
        })
        .collect();
    assert!(process(&at(&bare, 400), 383).still.is_some());
}

/// What every worker is counted for lets its clock begin anew.
#[test]
fn a_count_of_everyone_is_a_sign_of_life() {
    let mut lines = start();
    lines.extend([(10, says(381, BEGINS, 0)), (15, says(382, BEGINS, 3))]);
    lines.extend([(200, says(381, READ, 0)), (205, says(382, READ, 3))]);
    let s = at(&lines, 300);
    for pid in 381..385 {
        assert_eq!(
            process(&s, pid).still,
            None,
            "{pid}: 95 s after it was counted"
        );
    }
    assert!(process(&at(&lines, 400), 384).still.is_some());
}

/// More lines than workers, or two loads each: the count is no proof of anybody.
#[test]
fn a_count_that_does_not_add_up_names_nobody() {
    for (n, config, sure) in [
        (3, "None", true),
        (7, "None", false),
        (3, "SpeculativeConfig(method='eagle'", false),
    ] {
        let mut lines = start();
        if let Some(engine) = lines.get_mut(1) {
            engine.1 = engine.1.replace(
                "speculative_config=None",
                &format!("speculative_config={config}"),
            );
        }
        lines.push((10, says(381, READ, 0)));
        lines.push((15, says(382, READ, n)));
        let s = at(&lines, 16);
        let want = if sure {
            Stage::Weights
        } else {
            Stage::NcclInit
        };
        assert_eq!(process(&s, 384).stage, Some(want), "{n} {config}");
        assert_eq!(process(&s, 384).unheard(), !sure, "{n} {config}");
    }
}

/// Two engines behind one log: each core's workers are counted for themselves.
#[test]
fn each_engine_has_its_own_count() {
    let core = |d: u32| {
        format!(
            "(EngineCore_DP{d} pid={}) INFO 11-20 08:00:01 [core.py:93] Initializing a V1 LLM engine (v0.10.2) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=2",
            271 + d
        )
    };
    let worker = |d: u32, pid: u32, what: &str| {
        format!(
            "(EngineCore_DP{d} pid={}) (RayWorkerWrapper pid={pid}) INFO 11-20 08:00:05 {what}",
            271 + d
        )
    };
    let rank = |d: u32, t: u32| {
        format!(
            "[parallel_state.py:1208] rank {} in world size 4 is assigned as DP rank {d}, PP rank 0, TP rank {t}",
            2 * d + t
        )
    };
    let mut lines = vec![(0, core(0)), (0, core(1))];
    for d in 0..2 {
        for t in 0..2 {
            lines.push((2, worker(d, 380 + 2 * d + t, &rank(d, t))));
        }
    }
    lines.push((9, worker(1, 382, LOADED) + " [repeated 2x across cluster]"));
    let s = at(&lines, 10);
    let stages: Vec<_> = (380..384).map(|pid| process(&s, pid).stage).collect();
    let (near, far) = (Some(Stage::NcclInit), Some(Stage::Weights));
    assert_eq!(stages, [near, near, far, far]);
    assert!(
        !process(&s, 380).unheard(),
        "the other engine's count says nothing of it"
    );
    assert_eq!(s.folded.first().and_then(|f| f.of), Some(2));
}

/// The report tells the count beside what it knows by name.
#[test]
fn the_report_carries_the_count() {
    let mut lines = start();
    lines.extend([(50, says(381, LOADED, 0)), (55, says(382, LOADED, 2))]);
    let s = at(&lines, 60);
    let report = ncclscope::report::Report::of(&s, None);
    let json = serde_json::to_value(&report).unwrap();
    let told = &json["folded"][0];
    assert_eq!(told["stage"], "weights");
    assert_eq!(
        (&told["said"], &told["unnamed"], &told["of"]),
        (&3.into(), &1.into(), &4.into())
    );
    assert_eq!(told["line"]["number"], lines.len());
}
