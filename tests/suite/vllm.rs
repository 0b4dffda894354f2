//! vLLM, torch, Ray and launcher lines of every era. Lines are composed from `reference/vllm.md`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails that way")]

use ncclscope::parse::Outer;
use ncclscope::parse::vllm::{
    Counted, Fault, FaultKind, Label, Notice, ProcKind, Route, Settings, Severity, Style, Torch,
    VllmFact, header, header_stamp, host_of, line, release,
};
use proptest::prelude::*;

fn read(text: &str) -> Option<VllmFact> {
    line(text.as_bytes(), &Outer::default())
}

fn fault(text: &str) -> Fault {
    match read(text) {
        Some(VllmFact::Fault(f)) => *f,
        other => panic!("{text}\n  gave {other:?}"),
    }
}

macro_rules! says {
    ($($text:expr => $pat:pat $(if $guard:expr)?,)+) => {$({
        let text = $text;
        let got = read(text);
        assert!(
            matches!(&got, Some($pat) $(if $guard)?),
            "{text}\n  gave {got:?}\n  want {}",
            stringify!($pat $(if $guard)?)
        );
    })+};
}

macro_rules! faults {
    ($($text:expr => $pat:pat $(if $guard:expr)?,)+) => {$({
        let text = $text;
        let got = fault(text);
        assert!(
            matches!(&got.kind, $pat $(if $guard)?),
            "{text}\n  gave {got:?}\n  want {}",
            stringify!($pat $(if $guard)?)
        );
    })+};
}

#[path = "vllm/faults.rs"]
mod faults;
#[path = "vllm/phases.rs"]
mod phases;
#[path = "vllm/who.rs"]
mod who;

#[test]
fn headers_of_every_era() {
    for (text, style, level, file, number, msg) in [
        (
            "INFO 06-10 21:32:17 pynccl.py:63] hello",
            Style::Vllm,
            Severity::Info,
            "pynccl.py",
            63,
            "hello",
        ),
        (
            "WARNING 11-20 08:04:55 [core.py:93] hello",
            Style::Vllm,
            Severity::Warning,
            "core.py",
            93,
            "hello",
        ),
        (
            "INFO 11-20 08:04:55.123 [core.py:93] hello",
            Style::Vllm,
            Severity::Info,
            "core.py",
            93,
            "hello",
        ),
        (
            "DEBUG 01-22 10:00:01 [v1/worker/gpu_worker.py:301] hello",
            Style::Vllm,
            Severity::Debug,
            "v1/worker/gpu_worker.py",
            301,
            "hello",
        ),
        (
            "TRACE 06-30 12:00:00 [cmd/src/main.rs:41] hello",
            Style::Vllm,
            Severity::Trace,
            "cmd/src/main.rs",
            41,
            "hello",
        ),
        (
            "llm-a INFO 11-20 08:04:55 [core.py:93] hello",
            Style::Vllm,
            Severity::Info,
            "core.py",
            93,
            "hello",
        ),
        (
            "[E118 07:41:30.120394556 ProcessGroupNCCL.cpp:685] hello",
            Style::Torch,
            Severity::Error,
            "ProcessGroupNCCL.cpp",
            685,
            "hello",
        ),
        (
            "[W socket.cpp:697] hello",
            Style::Torch,
            Severity::Warning,
            "socket.cpp",
            697,
            "hello",
        ),
        (
            "[rank5]:[E1202 07:41:30.1 ProcessGroupNCCL.cpp:685] hello",
            Style::Torch,
            Severity::Error,
            "ProcessGroupNCCL.cpp",
            685,
            "hello",
        ),
        (
            "W0305 08:14:20.112233 139900112233440 torch/distributed/run.py:766] hello",
            Style::Glog,
            Severity::Warning,
            "torch/distributed/run.py",
            766,
            "hello",
        ),
        (
            "2025-09-03 10:00:04,412\tINFO worker.py:1821 -- hello",
            Style::Ray,
            Severity::Info,
            "worker.py",
            1821,
            "hello",
        ),
        (
            "INFO:     hello",
            Style::Uvicorn,
            Severity::Info,
            "",
            0,
            "hello",
        ),
        (
            "ERROR core.run_engine_core: hello",
            Style::Dynamo,
            Severity::Error,
            "core.run_engine_core",
            0,
            "hello",
        ),
    ] {
        let h = header(text.as_bytes()).unwrap_or_else(|| panic!("no header: {text}"));
        assert_eq!(
            (h.style, h.level, h.file, h.line, h.msg),
            (style, level, file.as_bytes(), number, msg.as_bytes()),
            "{text}"
        );
    }
    for text in [
        "INFO this is prose",
        "ERROR 404 not found",
        "INFO 13-40 99:00:00 [core.py:1] x",
        "[rank3]: Traceback (most recent call last):",
        "[EP Rank 2/8] Expert parallelism is enabled.",
        "nothing at all",
    ] {
        assert_eq!(header(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn stamps_order_lines_and_are_never_exact() {
    let at = |t: &str| header_stamp(t.as_bytes()).unwrap();
    let a = at("INFO 02-28 23:59:59 [core.py:93] x");
    let b = at("INFO 02-29 00:00:00 [core.py:93] x");
    let c = at("[E301 00:00:00.000000001 ProcessGroupNCCL.cpp:685] x");
    assert_eq!(b.ns - a.ns, 1_000_000_000);
    assert_eq!(c.ns - b.ns, 86_400_000_000_001);
    assert!(!a.exact && !b.exact && !c.exact);
    let dated = at("2026-03-01 00:00:00,500 INFO worker.py:1 -- x");
    assert_eq!(dated.ns, 1_772_323_200_500_000_000);
}

#[test]
fn labels_of_every_era() {
    let of = |t: &str| Label::parse(t).unwrap_or_else(|| panic!("no label: {t}"));
    let w = of("Worker_DP0_PP1_PCP2_TP3_DCP1_EP7");
    assert_eq!(w.kind, ProcKind::Worker);
    assert_eq!(
        (w.dp, w.pp, w.pcp, w.tp, w.dcp, w.ep),
        (Some(0), Some(1), Some(2), Some(3), Some(1), Some(7))
    );
    assert_eq!(of("VllmWorker TP2").tp, Some(2));
    assert_eq!(of("VllmWorker PP1_TP2").pp, Some(1));
    assert_eq!(of("VllmWorker rank=5").index, Some(5));
    assert_eq!(of("VllmWorkerProcess").kind, ProcKind::Worker);
    assert_eq!(of("RayWorkerWrapper").kind, ProcKind::Worker);
    assert_eq!(of("EngineCore_DP3").dp, Some(3));
    assert_eq!(of("EngineCore_3").dp, Some(3));
    assert_eq!(of("EngineCore").dp, None);
    assert_eq!(
        (of("ApiServer_2").kind, of("ApiServer_2").index),
        (ProcKind::ApiServer, Some(2))
    );
    assert_eq!(of("VLLM::Worker_TP0").tp, Some(0));
    assert_eq!(of("ServeReplica:llm:LLMServer:q-4.5").kind, ProcKind::Ray);
    assert_eq!(Label::parse("WorkerPool"), None);
    assert_eq!(Label::parse("trainer"), None);
}

#[test]
fn versions_and_models() {
    says! {
        "INFO 03-02 10:00:00 [api_server.py:1043] vLLM API server version 0.8.5" =>
            VllmFact::Version { version, model: None } if version == "0.8.5",
        "INFO 06-02 10:00:00 [api_utils.py:345] vLLM server version 0.22.0, serving model /models/q" =>
            VllmFact::Version { version, model: Some(m) } if version == "0.22.0" && m == "/models/q",
        "INFO 06-02 10:00:00 [api_utils.py:345]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.22.0" =>
            VllmFact::Version { version, .. } if version == "0.22.0",
        "INFO 06-02 10:00:00 [api_utils.py:345]   █▄█▀ █     █     █     █  model   /models/q" =>
            VllmFact::Model(m) if m == "/models/q",
        "INFO 11-20 08:04:55 [core.py:93] Initializing a V1 LLM engine (v0.11.2) with config: model='/models/q', speculative_config=None, tokenizer='/models/q', max_seq_len=32768, tensor_parallel_size=8, pipeline_parallel_size=2, data_parallel_size=1, disable_custom_all_reduce=False, quantization=None, compilation_config={'mode': 3, 'dtype': 'nope'}" =>
            VllmFact::Engine { generation: Some(1), version, config } if version == "0.11.2"
                && config.get("model") == Some("/models/q")
                && config.num("tensor_parallel_size") == Some(8)
                && config.num("max_model_len") == Some(32768)
                && config.flag("disable_custom_all_reduce") == Some(false)
                && config.get("quantization").is_none()
                && config.get("dtype").is_none(),
        "INFO 08-10 10:00:10 llm_engine.py:174] Initializing an LLM engine (v0.5.4) with config: model='/models/q', tensor_parallel_size=2" =>
            VllmFact::Engine { generation: None, version, .. } if version == "0.5.4",
        "INFO 01-21 10:00:02 [serve.py:212] Launching vLLM (v0.14.0) headless multiproc executor, with head node address 10.42.3.7:29501 for torch.distributed process group." =>
            VllmFact::Headless { version: Some(v), engines: None, head } if v == "0.14.0" && head == "10.42.3.7:29501",
        "INFO 08-30 10:00:02 [serve.py:227] Launching 1 data parallel engine(s) in headless mode, with head node address tcp://10.42.3.7:29550." =>
            VllmFact::Headless { version: None, engines: Some(1), head } if head == "tcp://10.42.3.7:29550",
    }
    assert_eq!(release("0.11.2"), Some((0, 11, 2)));
    assert_eq!(release("v0.11.2rc1.dev3+gabc"), Some((0, 11, 2)));
    assert_eq!(release("0.20"), Some((0, 20, 0)));
    assert_eq!(release("dev"), None);
}

#[test]
fn settings_from_print_and_from_a_command_line() {
    let printed = "INFO 06-02 10:00:00 [api_utils.py:273] non-default args: {'model_tag': '/models/q', 'tensor_parallel_size': 8, 'nnodes': 2, 'master_addr': 'vllm-0.vllm', 'gpu_memory_utilization': 0.85, 'api_key': ['hidden'], 'override': {'tensor_parallel_size': 99}}";
    let Some(VllmFact::Args(s)) = read(printed) else {
        panic!("no arguments");
    };
    assert_eq!(s.get("model"), Some("/models/q"));
    assert_eq!(s.num("tensor_parallel_size"), Some(8));
    assert_eq!(s.num("nnodes"), Some(2));
    assert_eq!(s.get("master_addr"), Some("vllm-0.vllm"));
    assert_eq!(s.get("gpu_memory_utilization"), Some("0.85"));
    assert!(!format!("{s:?}").contains("hidden"));

    let Some(VllmFact::Args(s)) = read(
        "INFO 03-02 10:00:00 [api_server.py:1044] args: Namespace(host=None, port=8000, model='/models/q', enforce_eager=True, tensor_parallel_size=4)",
    ) else {
        panic!("no arguments");
    };
    assert_eq!(s.get("host"), None);
    assert_eq!(
        (
            s.num("port"),
            s.num("tensor_parallel_size"),
            s.flag("enforce_eager")
        ),
        (Some(8000), Some(4), Some(true))
    );

    let s = Settings::from_argv([
        "vllm",
        "serve",
        "/models/q",
        "-tp=4",
        "-pp",
        "2",
        "--nnodes",
        "2",
        "--node-rank",
        "1",
        "--master_addr=vllm-0.vllm",
        "--headless",
        "--enforce-eager",
        "--max-model-len",
        "4096",
    ]);
    assert_eq!(s.get("model"), Some("/models/q"));
    assert_eq!(s.num("tensor_parallel_size"), Some(4));
    assert_eq!(s.num("pipeline_parallel_size"), Some(2));
    assert_eq!(s.num("node_rank"), Some(1));
    assert_eq!(s.get("master_addr"), Some("vllm-0.vllm"));
    assert_eq!(s.flag("headless"), Some(true));
    assert_eq!(s.flag("enforce_eager"), Some(true));
    assert_eq!(s.num("max_model_len"), Some(4096));

    let s = Settings::from_argv([
        "sh",
        "-c",
        "set -e; exec vllm serve '/models/q 1' --tensor-parallel-size 8 \\\n --node-rank $LWS_WORKER_INDEX; sleep 1",
    ]);
    assert_eq!(s.get("model"), Some("/models/q 1"));
    assert_eq!(s.num("tensor_parallel_size"), Some(8));
    assert_eq!(s.get("node_rank"), Some("$LWS_WORKER_INDEX"));

    let s = Settings::from_argv([
        "python3",
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        "/m",
        "-dp",
        "4",
        "-dpr",
        "2",
    ]);
    assert_eq!(
        (
            s.get("model"),
            s.num("data_parallel_size"),
            s.num("data_parallel_start_rank")
        ),
        (Some("/m"), Some(4), Some(2))
    );
}

#[test]
fn rank_assignment_of_every_era() {
    says! {
        "INFO 04-20 10:00:07 [parallel_state.py:1004] rank 0 in world size 8 is assigned as DP rank 0, PP rank 0, TP rank 0" =>
            VllmFact::Assigned(r) if (r.rank, r.world, r.dp, r.pp, r.tp, r.ep) == (0, 8, 0, 0, 0, None),
        "INFO 05-20 10:00:07 [parallel_state.py:1065] rank 3 in world size 8 is assigned as DP rank 0, PP rank 1, TP rank 1, EP rank 1" =>
            VllmFact::Assigned(r) if (r.pp, r.tp, r.ep, r.pcp) == (1, 1, Some(1), None),
        "INFO 04-20 10:00:07 [parallel_state.py:1713] rank 8 in world size 16 is assigned as DP rank 1, PP rank 0, PCP rank 0, TP rank 0, EP rank 8, EPLB rank N/A" =>
            VllmFact::Assigned(r) if (r.rank, r.world, r.dp, r.pcp, r.ep, r.eplb) == (8, 16, 1, Some(0), Some(8), None),
        "INFO 04-20 10:00:07 [parallel_state.py:1713] rank 1 in world size 2 is assigned as DP rank 0, PP rank 0, PCP rank 0, TP rank 1, EP rank N/A" =>
            VllmFact::Assigned(r) if (r.tp, r.ep) == (1, None),
        "INFO 05-03 11:20:07 [parallel_state.py:1400] world_size=16 rank=9 local_rank=1 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl" =>
            VllmFact::RankStart(r) if r.world == Some(16) && r.rank == Some(9) && r.local_rank == Some(1)
                && r.init == "tcp://10.42.3.7:29501" && r.backend == "nccl",
        "DEBUG 05-03 11:20:07 [distributed/parallel_state.py:1400] world_size=-1 rank=-1 local_rank=0 distributed_init_method=env:// backend=nccl" =>
            VllmFact::RankStart(r) if r.world.is_none() && r.rank.is_none() && r.local_rank == Some(0),
        "INFO 06-02 10:00:21 [multiproc_executor.py:140] DP group leader: node_rank=0, node_rank_within_dp=0, master_addr=vllm-0.vllm, mq_connect_ip=10.42.3.7 (local), world_size=16, local_world_size=8" =>
            VllmFact::Leader(l) if l.connect_ip == "10.42.3.7" && l.world == 16 && l.local_world == 8 && l.master_addr == "vllm-0.vllm",
        "INFO 08-02 10:00:00 [layer.py:1] [EP Rank 2/8] Expert parallelism is enabled. Expert placement strategy: linear. Local/global number of experts: 32/256." =>
            VllmFact::Experts { ep: Some((2, 8)), local: Some((32, 256)) },
    }
    assert_eq!(host_of("tcp://10.42.3.7:29501"), Some("10.42.3.7"));
    assert_eq!(host_of("tcp://[fd00::1]:29501"), Some("fd00::1"));
    assert_eq!(host_of("vllm-0.vllm:29501"), Some("vllm-0.vllm"));
    assert_eq!(host_of("env://"), None);
}

#[test]
fn progress_bars() {
    says! {
        "Loading safetensors checkpoint shards:  10% Completed | 6/59 [00:12<01:30,  1.71s/it]" =>
            VllmFact::Progress(p) if p.counted == Counted::Shards && (p.done, p.total) == (6, 59)
                && p.elapsed_s == Some(12) && p.remaining_s == Some(90) && p.rate == Some(1.0 / 1.71),
        "Loading safetensors checkpoint shards (eager):   0% Completed | 0/59 [00:00<?, ?it/s]" =>
            VllmFact::Progress(p) if (p.done, p.total, p.remaining_s, p.rate) == (0, 59, None, None),
        "Multi-thread loading shards: 100% Completed | 30/30 [1:00:12<00:00,  7.90it/s]" =>
            VllmFact::Progress(p) if p.counted == Counted::Shards && p.elapsed_s == Some(3612),
        "Loading safetensors using Runai Model Streamer:  50% Completed | 200/400 [00:01<00:01, 200.00it/s]" =>
            VllmFact::Progress(p) if p.counted == Counted::Tensors,
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  36%|███▌      | 24/67 [00:03<00:05,  7.91it/s]" =>
            VllmFact::Progress(p) if p.counted == Counted::Graphs && (p.done, p.total) == (24, 67) && p.rate == Some(7.91),
        "INFO 05-01 10:01:03 [weight_utils.py:801] Prefetching checkpoint files: 40% (8/20)" =>
            VllmFact::Progress(p) if p.counted == Counted::Prefetch && (p.done, p.total) == (8, 20),
        "model-00001-of-00030.safetensors:  12%|█▏        | 587M/4.98G [00:12<01:30, 45.2MB/s]" =>
            VllmFact::Progress(p) if p.counted == Counted::Bytes && p.done == 587_000_000 && p.total == 4_980_000_000
                && p.rate == Some(45_200_000.0),
        "Fetching 30 files:  10%|█         | 3/30 [00:12<01:30,  4.00s/it]" =>
            VllmFact::Progress(p) if p.counted == Counted::Files && p.done == 3,
        // A fragment of a bar in front of another process's record: the bar is still read.
        "Loading safetensors checkpoint shards:  10% Completed | 6/59 [00:12<01:30,  1.71s/it]INFO 11-20 08:05:12 [x.py:1] y" =>
            VllmFact::Progress(p) if p.done == 6,
    }
    // Bars of requests are nobody's start-up.
    assert_eq!(
        read("Processed prompts:  50%|█████     | 5/10 [00:01<00:01,  5.00it/s]"),
        None
    );
    assert_eq!(read("50%|"), None);
}

#[test]
fn attention_is_not_moe() {
    says! {
        "INFO 02-01 10:00:02 [cuda.py:352] Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN']" =>
            VllmFact::Attention { backend } if backend == "FLASH_ATTN",
        "INFO 04-01 10:00:02 [cuda.py:221] Using Flash Attention backend on V1 engine." =>
            VllmFact::Attention { backend } if backend == "Flash Attention",
        "INFO 08-10 10:00:02 selector.py:120] Using XFormers backend." =>
            VllmFact::Attention { backend } if backend == "XFormers",
    }
    for text in [
        "INFO 02-01 10:00:02 [unquantized.py:291] Using TRITON Unquantized MoE backend out of potential backends: ['TRITON']",
        "INFO 02-01 10:00:02 [mxfp4.py:131] Using Triton backend",
        "INFO 02-01 10:00:02 [cuda.py:352] Using backend FLASH_ATTN for vit attention",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn all_reduce_routes() {
    says! {
        "WARNING 05-03 11:20:14 [custom_all_reduce.py:92] Custom allreduce is disabled because this process group spans across nodes." =>
            VllmFact::Route(Route::CustomOff { why }) if why == "because this process group spans across nodes",
        "WARNING 08-10 10:00:02 [custom_all_reduce.py:240] Custom collectives are disabled because this multi-node group does not support MNNVL multicast." =>
            VllmFact::Route(Route::MultiNodeOff),
        "INFO 04-01 10:00:03 [custom_all_reduce_utils.py:206] generating GPU P2P access cache in /root/.cache/vllm/gpu_p2p_access_cache_for_0,1,2,3.json" =>
            VllmFact::Route(Route::P2pCache { generating: true, path }) if path.ends_with("0,1,2,3.json"),
        "WARNING 11-01 10:00:00 [symm_mem.py:58] SymmMemCommunicator: Device capability 8.0 not supported, communicator is not available." =>
            VllmFact::Route(Route::SymmMemOff { why }) if why == "Device capability 8.0 not supported",
        "INFO 05-30 10:00:55 [flashinfer_all_reduce.py:111] Auto-selected flashinfer allreduce backend: mnnvl" =>
            VllmFact::Route(Route::FlashInfer { on: true, detail }) if detail == "mnnvl",
        "INFO 06-30 10:00:15 [cuda_communicator.py:240] Using ['CUSTOM', 'SYMM_MEM', 'PYNCCL'] all-reduce backends (in dispatch order) for group 'tp:0' out of potential backends: …" =>
            VllmFact::Route(Route::Active { backends, group }) if backends == &["CUSTOM", "SYMM_MEM", "PYNCCL"] && group == "tp:0",
        "INFO 12-10 10:00:00 [cuda_communicator.py:124] Using AgRsAll2AllManager all2all manager." =>
            VllmFact::Route(Route::AllToAll { manager }) if manager == "AgRsAll2AllManager",
        "WARNING 09-01 10:00:00 [quick_all_reduce.py:133] Custom quick allreduce is disabled due to an unsupported world size: 6. Supported world sizes: [2, 4, 8]." =>
            VllmFact::Route(Route::QuickReduceOff { .. }),
    }
}

#[test]
fn noise_says_nothing() {
    for text in [
        r#"INFO:     10.42.0.1:51230 - "GET /health HTTP/1.1" 200 OK"#,
        r#"INFO:     10.42.0.1:51230 - "GET /?q=CUDA%20out%20of%20memory HTTP/1.1" 404 Not Found"#,
        "INFO 11-20 09:00:05 [logger.py:40] Received request chatcmpl-1: prompt: 'CUDA out of memory. Traceback (most recent call last): Application startup complete'",
        "INFO 11-20 09:00:05 [async_llm.py:270] Added request chatcmpl-1.",
        "the error is not here",
        "[default0]: ok",
        "",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn tracebacks() {
    says! {
        "Traceback (most recent call last):" => VllmFact::Traceback,
        "ERROR 11-02 10:01:01 [core.py:844] Traceback (most recent call last):" => VllmFact::Traceback,
    }
    // Prose that ends in Error is no exception.
    assert_eq!(read("MyError"), None);
    assert_eq!(read("An Error: something"), None);
}

/// A line of every shape, for cutting.
const SAMPLES: &[&str] = &[
    "INFO 04-20 10:00:07 [parallel_state.py:1713] rank 8 in world size 16 is assigned as DP rank 1, PP rank 0, PCP rank 0, TP rank 0, EP rank 8, EPLB rank N/A",
    "[rank2]:[E912 04:10:07.110022334 ProcessGroupNCCL.cpp:1746] [PG ID 0 PG GUID 0(default_pg) Rank 2] Received a dump signal due to a collective timeout from  rank 6 and. Last enqueued NCCL work: 4, last completed NCCL work: 3.",
    "Loading safetensors checkpoint shards:  10% Completed | 6/59 [00:12<01:30,  1.71s/it]",
    "INFO 06-02 10:00:00 [api_utils.py:273] non-default args: {'model_tag': '/models/q', 'tensor_parallel_size': 8}",
    "ValueError: Free memory on device cuda:1 (19.77/79.10 GiB) on startup is less than desired GPU memory utilization (0.9, 71.19 GiB).",
    "INFO 06-30 10:00:15 [cuda_communicator.py:240] Using ['CUSTOM', 'PYNCCL'] all-reduce backends (in dispatch order) for group 'tp:0' out of",
];

#[test]
fn a_line_cut_anywhere_is_read_or_left() {
    for text in SAMPLES {
        for n in 0..text.len() {
            let _ = line(text.as_bytes().get(..n).unwrap(), &Outer::default());
            let _ = line(text.as_bytes().get(n..).unwrap(), &Outer::default());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = line(&bytes, &Outer::default());
        let _ = header_stamp(&bytes);
        let _ = Settings::from_python(&bytes);
    }

    #[test]
    fn mutated_lines_are_survived(ix in 0..SAMPLES.len(), at in 0usize..200, byte in any::<u8>(), twice in any::<bool>()) {
        let mut bytes = SAMPLES.get(ix).copied().unwrap_or_default().as_bytes().to_vec();
        if let Some(b) = bytes.get_mut(at) {
            *b = byte;
        }
        if twice {
            bytes.extend_from_within(..);
        }
        let _ = line(&bytes, &Outer::default());
    }

    #[test]
    fn any_text_is_a_command_line(words in proptest::collection::vec(".{0,40}", 0..12)) {
        let _ = Settings::from_argv(words.iter().map(String::as_str));
    }
}
