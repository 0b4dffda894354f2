//! Records of many lines: tracebacks, dumps and the banner of each era stay one, whoever speaks in between.

use ncclscope::model::event::{Command, SourceId};
use ncclscope::model::logs::Logs;
use ncclscope::parse::Block;

/// Lines with the number of the line that begins their record.
type Lines = &'static [(&'static str, usize)];

/// V0 without a prefix on rank 0, a worker's prefix, a child's heading, NCCL between all of them.
const V0: Lines = &[
    (
        "INFO 08-10 10:00:00 api_server.py:219] vLLM API server version 0.5.5",
        1,
    ),
    (
        "\u{1b}[1;36m(VllmWorkerProcess pid=118)\u{1b}[0;0m ERROR 08-10 10:00:41 multiproc_worker_utils.py:226] Exception in worker VllmWorkerProcess while processing method init_device: CUDA error, Traceback (most recent call last):",
        2,
    ),
    (
        "llm-0:118:977 [1] NCCL INFO comm 0x55d0 rank 1 nranks 2 cudaDev 1 busId 5d000 commId 0x7c1e - Init COMPLETE",
        3,
    ),
    (
        "\u{1b}[1;36m(VllmWorkerProcess pid=118)\u{1b}[0;0m ERROR 08-10 10:00:41 multiproc_worker_utils.py:226]   File \"/app/worker.py\", line 12, in init_device",
        2,
    ),
    ("Traceback (most recent call last):", 5),
    (
        "\u{1b}[1;36m(VllmWorkerProcess pid=118)\u{1b}[0;0m ERROR 08-10 10:00:41 multiproc_worker_utils.py:226] RuntimeError: CUDA error: out of memory",
        2,
    ),
    ("  File \"/app/engine.py\", line 3, in <module>", 5),
    ("    raise", 5),
    ("RuntimeError: Engine loop has died", 5),
    ("", 5),
    (
        "During handling of the above exception, another exception occurred:",
        5,
    ),
    ("", 5),
    ("Traceback (most recent call last):", 5),
    ("  File \"/app/api.py\", line 9, in <module>", 5),
    ("RuntimeError: the server stops", 5),
    ("INFO 08-10 10:00:42 launcher.py:50] Shutting down", 16),
];

/// V1 up to v0.10: workers by rank; a core whose uncaught traceback has a heading.
const V1_EARLY: Lines = &[
    (
        "\u{1b}[1;36m(VllmWorker rank=0 pid=118)\u{1b}[0;0m ERROR 06-10 10:01:01 [multiproc_executor.py:488] WorkerProc hit an exception.",
        1,
    ),
    (
        "\u{1b}[1;36m(VllmWorker rank=1 pid=119)\u{1b}[0;0m ERROR 06-10 10:01:01 [multiproc_executor.py:488] WorkerProc hit an exception.",
        2,
    ),
    (
        "\u{1b}[1;36m(VllmWorker rank=0 pid=118)\u{1b}[0;0m ERROR 06-10 10:01:01 [multiproc_executor.py:488] Traceback (most recent call last):",
        1,
    ),
    (
        "\u{1b}[1;36m(VllmWorker rank=1 pid=119)\u{1b}[0;0m ERROR 06-10 10:01:01 [multiproc_executor.py:488] Traceback (most recent call last):",
        2,
    ),
    ("Process EngineCore_0:", 5),
    (
        "\u{1b}[1;36m(VllmWorker rank=0 pid=118)\u{1b}[0;0m ERROR 06-10 10:01:01 [multiproc_executor.py:488] RuntimeError: CUDA error",
        1,
    ),
    ("Traceback (most recent call last):", 5),
    (
        "  File \"/usr/lib/python3.12/multiprocessing/process.py\", line 314, in _bootstrap",
        5,
    ),
    ("RuntimeError: Engine core initialization failed", 5),
    (
        "\u{1b}[1;36m(VllmWorker rank=1 pid=119)\u{1b}[0;0m ERROR 06-10 10:01:02 [multiproc_executor.py:488] RuntimeError: CUDA error",
        10,
    ),
];

/// v0.11 and later: the logo, a dump, an uncaught traceback behind a prefix, a C++ error past all prefixes.
const V1: Lines = &[
    ("(APIServer pid=1) INFO 01-20 08:00:00 [utils.py:325] ", 1),
    (
        "(APIServer pid=1) INFO 01-20 08:00:00 [utils.py:325]        █     █     █▄   ▄█",
        1,
    ),
    (
        "(APIServer pid=1) INFO 01-20 08:00:00 [utils.py:325]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.15.0",
        1,
    ),
    (
        "(APIServer pid=1) INFO 01-20 08:00:00 [utils.py:325]   █▄█▀ █     █     █     █  model   /models/q",
        1,
    ),
    (
        "(APIServer pid=1) INFO 01-20 08:00:00 [utils.py:325]    ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀",
        1,
    ),
    (
        "(APIServer pid=1) INFO 01-20 08:00:00 [utils.py:261] non-default args: {'model': '/models/q', 'tensor_parallel_size': 2}",
        6,
    ),
    ("(Worker_TP0 pid=884) Traceback (most recent call last):", 7),
    (
        "(EngineCore_DP0 pid=271) ERROR 01-20 08:01:00 [dump_input.py:72] Dumping input data for V1 LLM engine (v0.15.0) with config:",
        8,
    ),
    (
        "(Worker_TP0 pid=884)   File \"/app/worker.py\", line 4, in run",
        7,
    ),
    (
        "(EngineCore_DP0 pid=271) ERROR 01-20 08:01:00 [dump_input.py:72] model='/models/q', tensor_parallel_size=2",
        8,
    ),
    (
        "[rank1]:[E120 08:01:01.120394556 ProcessGroupNCCL.cpp:685] [Rank 1] Process group watchdog thread terminated with exception: CUDA error: an illegal memory access was encountered",
        11,
    ),
    (
        "(Worker_TP0 pid=884) torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        7,
    ),
    (
        "(Worker_TP0 pid=884) CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.",
        7,
    ),
    (
        "(Worker_TP0 pid=884) Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        7,
    ),
    (
        "Exception raised from c10_cuda_check_implementation at /pytorch/c10/cuda/CUDAException.cpp:44 (most recent call first):",
        11,
    ),
    (
        "frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x98 (0x7f in libc10.so)",
        11,
    ),
    (
        "(Worker_TP0 pid=884) INFO 01-20 08:01:02 [gpu_worker.py:10] ready",
        17,
    ),
    ("INFO:     Waiting for application startup.", 18),
    ("INFO:     Application startup complete.", 19),
];

/// Ray: the same under two prefixes, and twice at once.
const RAY: Lines = &[
    (
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=512, ip=10.42.1.9) ERROR 03-02 10:01:01 [worker_base.py:620] Error executing method 'load_model'. This might cause deadlock in distributed execution.",
        1,
    ),
    (
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=513, ip=10.42.1.9) ERROR 03-02 10:01:01 [worker_base.py:620] Error executing method 'load_model'. This might cause deadlock in distributed execution.",
        2,
    ),
    (
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=512, ip=10.42.1.9) ERROR 03-02 10:01:01 [worker_base.py:620] Traceback (most recent call last):",
        1,
    ),
    (
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=513, ip=10.42.1.9) ERROR 03-02 10:01:01 [worker_base.py:620] FileNotFoundError: [Errno 2] No such file or directory: '/models/q'",
        2,
    ),
    (
        "(EngineCore_DP0 pid=271) INFO 03-02 10:01:01 [core.py:1] waits",
        5,
    ),
    (
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=512, ip=10.42.1.9) ERROR 03-02 10:01:01 [worker_base.py:620] FileNotFoundError: [Errno 2] No such file or directory: '/models/q'",
        1,
    ),
];

const ERAS: [(&str, Lines); 4] = [("V0", V0), ("early V1", V1_EARLY), ("V1", V1), ("Ray", RAY)];

/// A line as the formatter writes it: it ends in CR LF inside a record.
fn text(lines: Lines, stamped: bool) -> String {
    let one = |(i, (line, _)): (usize, &(&str, usize))| match stamped {
        true => format!("2026-03-02T03:10:{i:02}.000000000Z {line}\r\n"),
        false => format!("{line}\n"),
    };
    lines.iter().enumerate().map(one).collect()
}

/// In one block, in blocks of a line each, with the kubelet's stamps and without.
#[test]
fn lines_belong_to_their_record_in_every_era() {
    for (era, lines) in ERAS {
        for stamped in [false, true] {
            let text = text(lines, stamped);
            for step in [1, 3, lines.len()] {
                let all: Vec<&str> = text.split_inclusive('\n').collect();
                let mut logs = Logs::default();
                let id = SourceId(0);
                logs.name(id, "llm-0");
                for (n, part) in all.chunks(step).enumerate() {
                    let first = (n * step) as u64 + 1;
                    logs.keep(id, &Block::new(first, part.concat().into_bytes()));
                }
                for (line, (said, want)) in logs.ring(id).unwrap().lines.iter().zip(lines) {
                    assert_eq!(line.record, *want as u64, "{era}, {step} a block: {said}");
                }
            }
        }
    }
}

/// Whoever looks for the next problem comes to each record once, and sees the whole of it there.
#[test]
fn a_record_is_one_problem_and_is_shown_whole() {
    let mut logs = Logs::default();
    let id = SourceId(0);
    logs.name(id, "llm-0");
    logs.keep(id, &Block::new(1, text(V1_EARLY, true).into_bytes()));
    logs.look("", true);
    let mut found = Vec::new();
    let mut row = logs.trouble(0, true);
    while let Some(at) = row {
        found.push(logs.window(at, 1)[0].line.number);
        row = logs.trouble(at, true);
    }
    assert_eq!(found, [2, 7, 10], "the first is where we stand");
    let row = &logs.window(5, 1)[0];
    let whole: Vec<u64> = logs.record(row).iter().map(|l| l.number).collect();
    assert_eq!(whole, [1, 3, 6]);
    // Through a filter that lets only its end through, it is found by that.
    logs.look("Engine core initialization", false);
    assert_eq!(logs.rows(), 1);
    logs.look("RuntimeError", false);
    assert_eq!(logs.trouble(0, true), Some(1));

    let mut model = crate::stage::model(120, 40);
    model.logs = Some(logs);
    let scene = ncclscope::rules::scene::Scene::of(&model);
    let keys = [Command::Pane("logs".into()), Command::Home, Command::Enter];
    crate::stage::act(&scene, &mut model, &keys);
    let page = crate::stage::photograph(&scene, &model);
    for line in [
        "ITS RECORD",
        "WorkerProc hit an exception.",
        "Traceback (most recent call last):",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

/// The logo is a record of five lines that tells version and model, and is nobody's trouble.
#[test]
fn the_banner_raises_nothing() {
    use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceInfo, Stamped};
    let banner = V1.get(..5).unwrap();
    let mut model = ncclscope::model::Model::default();
    let mut send = |event| {
        ncclscope::model::update(
            &mut model,
            Stamped {
                seq: 0,
                at: 0,
                event,
            },
        );
    };
    let (id, text) = (SourceId(0), text(banner, false));
    let info = SourceInfo {
        name: "llm-0.log".into(),
        container: None,
        previous: false,
        started: None,
    };
    send(Event::Source(SourceEvent::Opened(id, info)));
    let block = std::sync::Arc::new(Block::new(1, text.into_bytes()));
    send(Event::Log(LogBlock { source: id, block }));
    let scene = ncclscope::rules::scene::Scene::of(&model);
    assert!(scene.findings.is_empty(), "{:?}", scene.findings);
    let server = &scene.processes[0];
    assert_eq!(server.vllm_version.as_deref(), Some("0.15.0"));
    assert_eq!(model.speakers.list[0].model.as_deref(), Some("/models/q"));
    assert_eq!(server.first_error, None);
}
