//! How far a vLLM process has come, folded from its lines.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails that way")]

use ncclscope::model::edges::Quote;
use ncclscope::model::event::SourceId;
use ncclscope::model::speakers::{Speaker, Speakers, Stage};
use ncclscope::parse::Outer;
use ncclscope::parse::vllm::{header_stamp, line};

/// Folds `(label, pid, line)`, a stamp wherever the header has one.
fn fold(lines: &[(&str, u64, &str)]) -> Speakers {
    let mut all = Speakers::default();
    for (n, (label, pid, text)) in lines.iter().enumerate() {
        let outer = Outer {
            label: (!label.is_empty()).then(|| (*label).to_owned()),
            pid: (*pid != 0).then_some(*pid),
            ..Outer::default()
        };
        let Some(fact) = line(text.as_bytes(), &outer) else {
            panic!("says nothing: {text}");
        };
        let quote = Quote {
            line: n as u64 + 1,
            at: header_stamp(text.as_bytes()),
            text: (*text).into(),
        };
        all.apply(SourceId(0), Some(&outer), &fact, quote.at, &|| {
            quote.clone()
        });
    }
    all
}

fn stage(s: &Speaker) -> Option<Stage> {
    s.stage.as_ref().map(|(stage, _)| *stage)
}

const WORKER: &[(&str, u64, &str)] = &[
    (
        "Worker",
        884,
        "INFO 11-20 08:05:02 [parallel_state.py:1400] world_size=16 rank=9 local_rank=1 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl",
    ),
    (
        "Worker",
        884,
        "INFO 11-20 08:05:04 [pynccl.py:111] vLLM is using nccl==2.27.5",
    ),
    (
        "Worker",
        884,
        "WARNING 11-20 08:05:05 [custom_all_reduce.py:92] Custom allreduce is disabled because this process group spans across nodes.",
    ),
    (
        "Worker",
        884,
        "INFO 11-20 08:05:06 [parallel_state.py:1713] rank 9 in world size 16 is assigned as DP rank 0, PP rank 0, PCP rank 0, TP rank 9, EP rank 9",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "INFO 11-20 08:05:12 [gpu_model_runner.py:3259] Starting to load model /models/q...",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "Loading safetensors checkpoint shards:  10% Completed | 6/59 [00:12<01:30,  1.71s/it]",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "INFO 11-20 08:09:40 [default_loader.py:314] Loading weights took 262.91 seconds",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "INFO 11-20 08:09:48 [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and 271.402188 seconds",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "INFO 11-20 08:11:02 [monitor.py:34] torch.compile takes 42.10 s in total",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "INFO 11-20 08:11:10 [gpu_worker.py:359] Available KV cache memory: 47.31 GiB",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "Capturing CUDA graphs (decode, FULL):  36%|███▌      | 24/67 [00:03<00:05,  7.91it/s]",
    ),
    (
        "Worker_TP9_EP9",
        884,
        "INFO 11-20 08:11:31 [gpu_model_runner.py:4244] Graph capturing finished in 19 secs, took 0.84 GiB",
    ),
];

#[test]
fn the_stage_is_right_wherever_the_log_is_cut() {
    use Stage::*;
    let want = [
        DistributedInit,
        NcclInit,
        NcclInit,
        NcclInit,
        Weights,
        Weights,
        Weights,
        Weights,
        Compile,
        // A KV line after compile stays compile.
        Compile,
        Graphs,
        Graphs,
    ];
    for (n, want) in want.iter().enumerate() {
        let all = fold(WORKER.get(..=n).unwrap());
        assert_eq!(all.list.len(), 1, "after line {}", n + 1);
        assert_eq!(stage(&all.list[0]), Some(*want), "after line {}", n + 1);
    }
}

#[test]
fn a_worker_tells_who_it_is_and_what_it_took() {
    let all = fold(WORKER);
    let w = &all.list[0];
    assert_eq!(
        w.label.as_ref().map(|(l, _)| l.as_str()),
        Some("Worker_TP9_EP9")
    );
    assert_eq!(w.global_rank(), Some(9));
    assert_eq!(w.nccl.as_deref(), Some("2.27.5"));
    assert_eq!(w.routes.len(), 1);
    assert_eq!(w.model_gib, Some(17.04));
    assert_eq!(w.kv_gib, Some(47.31));
    assert_eq!(w.model.as_deref(), Some("/models/q"));
    assert!(w.ended.is_none());
}

#[test]
fn progress_belongs_to_the_furthest_stage() {
    let mid = fold(WORKER.get(..6).unwrap());
    let (p, _) = mid.list[0].progress.as_ref().unwrap();
    assert_eq!((p.done, p.total, p.counted.unit()), (6, 59, "shards"));
    let later = fold(WORKER.get(..9).unwrap());
    assert_eq!(
        later.list[0].progress, None,
        "shards do not outlive their stage"
    );
}

#[test]
fn a_second_start_under_one_prefix_is_another_life() {
    let all = fold(&[
        (
            "APIServer",
            1,
            "INFO 11-20 08:00:00 [api_server.py:1043] vLLM API server version 0.11.2",
        ),
        (
            "APIServer",
            1,
            "INFO 11-20 08:09:00 [api_server.py:1970] Starting vLLM API server 0 on http://0.0.0.0:8000",
        ),
        ("APIServer", 1, "INFO:     Application startup complete."),
        (
            "APIServer",
            1,
            "INFO 11-20 09:00:00 [api_server.py:1043] vLLM API server version 0.12.0",
        ),
    ]);
    let lives: Vec<_> = all
        .list
        .iter()
        .map(|s| (s.incarnation, s.version.as_deref(), stage(s)))
        .collect();
    assert_eq!(
        lives,
        [
            (1, Some("0.11.2"), Some(Stage::Serving)),
            (2, Some("0.12.0"), Some(Stage::Config)),
        ]
    );
}

#[test]
fn an_engine_buries_its_worker_and_torch_lines_find_their_process() {
    let rank3 = "INFO 11-20 08:05:02 [parallel_state.py:1400] world_size=4 rank=3 local_rank=3 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl";
    let all = fold(&[
        ("Worker", 887, rank3),
        (
            "",
            0,
            "[rank3]:[E1120 08:41:31.001 ProcessGroupNCCL.cpp:685] [Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, NumelIn=1, NumelOut=0, Timeout(ms)=600000) ran for 600089 milliseconds before timing out.",
        ),
        (
            "EngineCore_DP0",
            271,
            "ERROR 11-20 08:41:41 [multiproc_executor.py:314] Worker proc VllmWorker-3 died unexpectedly (exit code: -6), shutting down executor.",
        ),
    ]);
    let w = &all.list[0];
    assert_eq!(
        w.torch.len(),
        1,
        "the watchdog's line belongs to the worker of rank 3"
    );
    assert_eq!(w.ended.as_ref().unwrap().line, 3);
    assert!(all.list[1].ended.is_none(), "the engine only reports");
}

#[test]
fn a_stalled_server_shows_in_its_statistics() {
    let idle = "INFO 11-20 09:00:05 [loggers.py:248] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 0.0 tokens/s, Running: 12 reqs, Waiting: 3 reqs, GPU KV cache usage: 8.3%";
    let busy = "INFO 11-20 09:00:05 [loggers.py:248] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 4.0 tokens/s, Running: 12 reqs, Waiting: 3 reqs, GPU KV cache usage: 8.3%";
    let of = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|l| ("APIServer", 1, *l)).collect();
        fold(&lines).list[0].idle_stats
    };
    assert_eq!(of(&[idle, idle, idle]), 3);
    assert_eq!(of(&[idle, busy, idle]), 1);
}
