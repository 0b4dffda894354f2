//! The sixteen phases in the words of both engines: how each begins, goes on and ends. What prints no end of its own
//! ends where the next one begins.

use std::collections::{BTreeMap, BTreeSet};

use super::read;
use Edge::{Begin, End, Progress as Go};
use ncclscope::parse::vllm::{Edge, Phase, VllmFact};

/// Lines of the V0 engine in the order of a start, with what they tell.
const V0: &[(Phase, Edge, &str)] = &[
    (
        Phase::Config,
        Begin,
        "INFO 08-10 10:00:00 api_server.py:339] vLLM API server version 0.5.4",
    ),
    (
        Phase::Config,
        Begin,
        "INFO 08-10 10:00:00 api_server.py:340] args: Namespace(host=None, model='/models/q', tensor_parallel_size=2)",
    ),
    (
        Phase::Config,
        Go,
        "INFO 08-10 10:00:01 config.py:729] Defaulting to use mp for distributed inference",
    ),
    (
        Phase::Engine,
        Begin,
        "INFO 01-10 08:00:00 api_server.py:228] Started engine process with PID 77",
    ),
    (
        Phase::Engine,
        Begin,
        "INFO 08-10 10:00:02 llm_engine.py:174] Initializing an LLM engine (v0.5.4) with config: model='/models/q', tensor_parallel_size=2",
    ),
    (
        Phase::Ray,
        Go,
        "INFO 02-14 09:00:30 ray_utils.py:214] Waiting for creating a placement group of specs for 30 seconds. specs=[{'node:10.42.3.7': 0.001, 'GPU': 1.0}, {'GPU': 1.0}]. Check …",
    ),
    (
        Phase::Rendezvous,
        Go,
        "INFO 08-10 10:00:06 multiproc_worker_utils.py:215] Worker ready; awaiting tasks",
    ),
    (
        Phase::Nccl,
        Begin,
        "INFO 08-10 10:00:07 utils.py:841] Found nccl from library libnccl.so.2",
    ),
    (
        Phase::Nccl,
        Begin,
        "INFO 08-10 10:00:07 pynccl.py:63] vLLM is using nccl==2.20.5",
    ),
    (
        Phase::Routes,
        Go,
        "INFO 08-10 10:00:09 custom_all_reduce_utils.py:206] generating GPU P2P access cache in /root/.cache/vllm/gpu_p2p_access_cache_for_0,1.json",
    ),
    (
        Phase::Load,
        Begin,
        "INFO 08-10 10:00:12 model_runner.py:720] Starting to load model /models/q...",
    ),
    (
        Phase::Load,
        Go,
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:04<00:04,  2.00s/it]",
    ),
    (
        Phase::Load,
        End,
        "INFO 08-10 10:00:22 model_runner.py:732] Loading model weights took 7.4820 GB",
    ),
    (
        Phase::Profile,
        Go,
        "INFO 01-10 08:03:00 worker.py:241] Memory profiling takes 4.71 seconds",
    ),
    (
        Phase::Profile,
        Go,
        "INFO 01-10 08:03:00 worker.py:241] model weights take 14.99GiB; non_torch_memory takes 0.21GiB; PyTorch activation peak memory takes 1.42GiB; the rest of the memory reserved for KV Cache is 54.60GiB.",
    ),
    (
        Phase::Profile,
        End,
        "INFO 08-10 10:00:30 distributed_gpu_executor.py:56] # GPU blocks: 18523, # CPU blocks: 2048",
    ),
    (
        Phase::Graphs,
        Begin,
        "INFO 08-10 10:00:31 model_runner.py:1024] Capturing the model for CUDA graphs. This may lead to unexpected consequences",
    ),
    (
        Phase::Graphs,
        Go,
        "Capturing CUDA graph shapes:  91%|█████████▏| 32/35 [00:19<00:01,  1.67it/s]",
    ),
    (
        Phase::Graphs,
        End,
        "INFO 08-10 10:00:45 model_runner.py:1225] Graph capturing finished in 14 secs.",
    ),
    (
        Phase::Ready,
        End,
        "INFO 01-10 08:03:25 llm_engine.py:431] init engine (profile, create kv cache, warmup model) took 24.71 seconds",
    ),
    (Phase::Http, Begin, "INFO:     Started server process [77]"),
    (
        Phase::Http,
        Go,
        "INFO 01-10 08:03:26 launcher.py:19] Available routes are:",
    ),
    (
        Phase::Http,
        Go,
        "INFO 01-10 08:03:26 launcher.py:27] Route: /health, Methods: GET",
    ),
    (Phase::Http, End, "INFO:     Application startup complete."),
    (
        Phase::Serving,
        Go,
        "INFO 08-10 10:05:00 metrics.py:406] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 31.2 tokens/s, Running: 1 reqs, Swapped: 0 reqs, Pending: 0 reqs, GPU KV cache usage: 0.3%, CPU KV cache usage: 0.0%.",
    ),
    (
        Phase::Hang,
        Go,
        "WARNING 08-10 10:06:00 shm_broadcast.py:400] No available block found in 60 second. ",
    ),
    (
        Phase::Shutdown,
        Begin,
        "INFO 08-10 11:00:00 multiproc_worker_utils.py:137] Killing local vLLM worker processes",
    ),
];

/// The same of the V1 engine.
const V1: &[(Phase, Edge, &str)] = &[
    (
        Phase::Config,
        Begin,
        "INFO 03-02 09:59:55 [__init__.py:239] Automatically detected platform cuda.",
    ),
    (
        Phase::Config,
        Begin,
        "INFO 06-02 10:00:00 [api_utils.py:345]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.22.0",
    ),
    (
        Phase::Config,
        Begin,
        "INFO 06-02 10:00:00 [api_utils.py:273] non-default args: {'model_tag': '/models/q', 'tensor_parallel_size': 8}",
    ),
    (
        Phase::Config,
        Go,
        "INFO 06-02 10:00:08 [model.py:547] Resolved architecture: LlamaForCausalLM",
    ),
    (
        Phase::Config,
        Go,
        "INFO 06-02 10:00:08 [model.py:1510] Using max model len 32768",
    ),
    (
        Phase::Engine,
        Begin,
        "INFO 06-02 10:00:20 [core.py:115] Initializing a V1 LLM engine (v0.22.0) with config: model='/models/q', tensor_parallel_size=8",
    ),
    (
        Phase::Engine,
        Begin,
        "INFO 01-21 10:00:02 [serve.py:212] Launching vLLM (v0.14.0) headless multiproc executor, with head node address 10.42.3.7:29501 for torch.distributed process group.",
    ),
    (
        Phase::Engine,
        Go,
        "DEBUG 08-30 10:00:30 [v1/engine/utils.py:1257] Waiting for 0 local, 1 remote core engine proc(s) to connect.",
    ),
    (
        Phase::Engine,
        Go,
        "INFO 08-30 10:00:31 [utils.py:1127] All engine subscriptions received by DP coordinator",
    ),
    (
        Phase::Ray,
        Begin,
        "INFO 02-14 09:00:20 [ray_utils.py:214] No current placement group found. Creating a new placement group.",
    ),
    (
        Phase::Ray,
        Go,
        "INFO 02-14 09:00:30 [ray_utils.py:214] Waiting for creating a placement group of specs for 10 seconds. specs=[{'node:10.42.3.7': 0.001, 'GPU': 1.0}]. Check …",
    ),
    (
        Phase::Rendezvous,
        Begin,
        "INFO 05-03 11:20:07 [parallel_state.py:1400] world_size=16 rank=9 local_rank=1 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl",
    ),
    (
        Phase::Rendezvous,
        Go,
        "DEBUG 05-03 11:20:09 [distributed/parallel_state.py:1689] Detected 2 nodes in the distributed environment",
    ),
    (
        Phase::Nccl,
        Begin,
        "INFO 05-03 11:20:12 [pynccl.py:111] vLLM is using nccl==2.27.5",
    ),
    (
        Phase::Routes,
        Go,
        "WARNING 05-03 11:20:14 [custom_all_reduce.py:92] Custom allreduce is disabled because this process group spans across nodes.",
    ),
    (
        Phase::Assigned,
        End,
        "INFO 05-03 11:20:15 [parallel_state.py:1713] rank 9 in world size 16 is assigned as DP rank 0, PP rank 1, PCP rank 0, TP rank 1, EP rank N/A, EPLB rank N/A",
    ),
    (
        Phase::Load,
        Begin,
        "INFO 11-20 08:05:12 [gpu_model_runner.py:3259] Starting to load model /models/q-72b...",
    ),
    (
        Phase::Load,
        Go,
        "INFO 05-01 10:00:03 [weight_utils.py:868] Filesystem type for checkpoints: NFS4. Checkpoint size: 640.12 GiB. Available RAM: 480.00 GiB.",
    ),
    (
        Phase::Load,
        Go,
        "INFO 05-01 10:09:03 [weight_utils.py:531] Time spent downloading weights for org/model: 412.331000 seconds",
    ),
    (
        Phase::Load,
        Go,
        "INFO 11-20 08:09:40 [default_loader.py:314] Loading weights took 262.91 seconds",
    ),
    (
        Phase::Load,
        End,
        "INFO 11-20 08:09:48 [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and 271.402188 seconds",
    ),
    (
        Phase::Compile,
        Begin,
        "INFO 11-20 08:10:20 [backends.py:631] Using cache directory: /root/.cache/vllm/torch_compile_cache/9fa1/rank_0_0/backbone for vLLM's torch.compile",
    ),
    (
        Phase::Compile,
        Go,
        "INFO 11-20 08:10:30 [backends.py:647] Dynamo bytecode transform time: 9.71 s",
    ),
    (
        Phase::Compile,
        Go,
        "INFO 11-20 08:11:00 [backends.py:200] Compiling a graph for dynamic shape takes 31.20 s",
    ),
    (
        Phase::Compile,
        End,
        "INFO 11-20 08:11:02 [monitor.py:34] torch.compile takes 42.10 s in total",
    ),
    (
        Phase::Profile,
        Go,
        "INFO 04-20 08:11:05 [monitor.py:76] Initial profiling/warmup run took 3.20 s",
    ),
    (
        Phase::Profile,
        End,
        "INFO 11-20 08:11:10 [gpu_worker.py:359] Available KV cache memory: 47.31 GiB",
    ),
    (
        Phase::Profile,
        End,
        "INFO 11-20 08:11:11 [kv_cache_utils.py:1229] GPU KV cache size: 310,112 tokens",
    ),
    (
        Phase::Graphs,
        Go,
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  36%|███▌      | 24/67 [00:03<00:05,  7.91it/s]",
    ),
    (
        Phase::Graphs,
        End,
        "INFO 11-20 08:11:31 [gpu_model_runner.py:4244] Graph capturing finished in 19 secs, took 0.84 GiB",
    ),
    (
        Phase::Ready,
        End,
        "INFO 11-20 08:11:33 [core.py:210] init engine (profile, create kv cache, warmup model) took 104.71 seconds",
    ),
    (
        Phase::Http,
        Begin,
        "INFO 11-20 08:11:35 [api_server.py:1970] Starting vLLM API server 0 on http://0.0.0.0:8000",
    ),
    (
        Phase::Http,
        Go,
        "INFO 11-20 08:11:35 [launcher.py:46] Route: /health, Methods: GET",
    ),
    (
        Phase::Http,
        End,
        "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)",
    ),
    (
        Phase::Serving,
        Go,
        "INFO 11-20 09:00:05 [loggers.py:248] Engine 000: Avg prompt throughput: 812.4 tokens/s, Avg generation throughput: 240.1 tokens/s, Running: 12 reqs, Waiting: 0 reqs, GPU KV cache usage: 8.3%, Prefix cache hit rate: 41.0%",
    ),
    (
        Phase::Hang,
        Go,
        "INFO 05-28 14:44:28 [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds. This typically happens when …",
    ),
    (
        Phase::Shutdown,
        Begin,
        "INFO 06-01 12:00:00 [core.py:1212] [shutdown] EngineCore: trigger received signal=SIGTERM",
    ),
];

#[test]
fn every_phase_of_both_engines() {
    for (engine, lines) in [("V0", V0), ("V1", V1)] {
        let mut told: BTreeMap<Phase, BTreeSet<Edge>> = BTreeMap::new();
        for (phase, edge, line) in lines {
            let got = read(line).and_then(|f| f.phase());
            assert_eq!(got, Some((*phase, *edge)), "{engine}: {line}");
            told.entry(*phase).or_default().insert(*edge);
        }
        for at in told.keys() {
            // No phase is known by its end alone, but for those that are a moment.
            let moment = matches!(at, Phase::Ready | Phase::Assigned);
            let seen = told
                .get(at)
                .is_some_and(|e| e.contains(&Begin) || e.contains(&Go));
            assert!(seen || moment, "{engine}: {at:?}");
        }
        // V0 compiles nothing and assigned no ranks in its lines before v0.8.
        let missing = if engine == "V0" { 2 } else { 0 };
        assert_eq!(told.len(), 16 - missing, "{engine}: {told:?}");
    }
}

fn phases(cases: &[(&str, Phase, Edge)]) {
    for (text, phase, edge) in cases {
        let got = read(text).and_then(|f| f.phase());
        assert_eq!(got, Some((*phase, *edge)), "{text}");
    }
}

#[test]
fn phases_of_v0() {
    use {Edge::*, Phase::*};
    phases(&[
        (
            "INFO 01-10 08:00:00 api_server.py:228] Started engine process with PID 77",
            Engine,
            Begin,
        ),
        (
            "INFO 09-12 10:11:12 multiproc_worker_utils.py:215] Worker ready; awaiting tasks",
            Rendezvous,
            Edge::Progress,
        ),
        (
            "INFO 06-10 21:32:17 utils.py:977] Found nccl from library libnccl.so.2",
            Nccl,
            Begin,
        ),
        (
            "INFO 06-10 21:32:17 pynccl.py:63] vLLM is using nccl==2.20.5",
            Nccl,
            Begin,
        ),
        (
            "INFO 08-10 10:00:20 model_runner.py:720] Starting to load model /models/q...",
            Load,
            Begin,
        ),
        (
            "INFO 08-10 10:00:48 model_runner.py:732] Loading model weights took 14.9595 GB",
            Load,
            End,
        ),
        (
            "INFO 01-10 08:03:00 worker.py:241] Memory profiling takes 4.71 seconds",
            Profile,
            Edge::Progress,
        ),
        (
            "INFO 08-10 10:00:59 distributed_gpu_executor.py:56] # GPU blocks: 18523, # CPU blocks: 2048",
            Profile,
            End,
        ),
        (
            "INFO 01-10 08:03:05 model_runner.py:1402] Capturing cudagraphs for decoding. This may lead to …",
            Graphs,
            Begin,
        ),
        (
            "Capturing CUDA graph shapes:  91%|█████████▏| 32/35 [00:19<00:01,  1.67it/s]",
            Graphs,
            Edge::Progress,
        ),
        (
            "INFO 01-10 08:03:25 model_runner.py:1530] Graph capturing finished in 20 secs, took 0.26 GiB",
            Graphs,
            End,
        ),
        (
            "INFO 01-10 08:03:25 llm_engine.py:431] init engine (profile, create kv cache, warmup model) took 24.71 seconds",
            Ready,
            End,
        ),
        ("INFO:     Application startup complete.", Http, End),
        (
            "INFO 08-10 10:05:00 metrics.py:406] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 31.2 tokens/s, Running: 1 reqs, Swapped: 0 reqs, Pending: 2 reqs, GPU KV cache usage: 0.3%, CPU KV cache usage: 0.0%.",
            Serving,
            Edge::Progress,
        ),
    ]);
    says! {
        "INFO 01-10 08:03:00 worker.py:241] model weights take 14.99GiB; non_torch_memory takes 0.21GiB; PyTorch activation peak memory takes 1.42GiB; the rest of the memory reserved for KV Cache is -2.60GiB." =>
            VllmFact::MemorySplit { kv, weights, .. } if *kv == -2.6 && *weights == 14.99,
        "INFO 08-10 10:00:59 distributed_gpu_executor.py:56] # GPU blocks: 18523, # CPU blocks: 2048" =>
            VllmFact::KvBlocks { gpu: 18523, cpu: Some(2048) },
    }
}

#[test]
fn phases_of_v1() {
    use {Edge::*, Phase::*};
    phases(&[
        (
            "INFO 03-02 09:59:55 [__init__.py:239] Automatically detected platform cuda.",
            Config,
            Begin,
        ),
        (
            "DEBUG 08-30 10:00:30 [v1/engine/utils.py:1257] Waiting for 0 local, 1 remote core engine proc(s) to connect.",
            Engine,
            Edge::Progress,
        ),
        (
            "INFO 04-30 10:00:30 [core_client.py:425] Waiting for 1 core engine proc(s) to start: {0}",
            Engine,
            Edge::Progress,
        ),
        (
            "INFO 08-30 10:00:05 [utils.py:1127] Started DP Coordinator process (PID: 140)",
            Engine,
            Edge::Progress,
        ),
        (
            "INFO 02-14 09:00:30 [ray_utils.py:214] No current placement group found. Creating a new placement group.",
            Ray,
            Begin,
        ),
        (
            "INFO 11-20 08:05:12 [gpu_model_runner.py:3259] Starting to load model /models/q-72b...",
            Load,
            Begin,
        ),
        (
            "INFO 11-20 08:09:40 [default_loader.py:314] Loading weights took 262.91 seconds",
            Load,
            Edge::Progress,
        ),
        (
            "INFO 11-20 08:09:48 [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and 271.402188 seconds",
            Load,
            End,
        ),
        (
            "INFO 11-20 08:10:20 [backends.py:631] Using cache directory: /root/.cache/vllm/torch_compile_cache/9fa1/rank_0_0/backbone for vLLM's torch.compile",
            Compile,
            Begin,
        ),
        (
            "INFO 11-20 08:10:30 [backends.py:647] Dynamo bytecode transform time: 9.71 s",
            Compile,
            Edge::Progress,
        ),
        (
            "INFO 11-20 08:11:00 [backends.py:200] Compiling a graph for dynamic shape takes 31.20 s",
            Compile,
            Edge::Progress,
        ),
        (
            "INFO 11-20 08:11:00 [backends.py:200] Directly load the compiled graph(s) for dynamic shape from the cache",
            Compile,
            Edge::Progress,
        ),
        (
            "INFO 11-20 08:11:02 [monitor.py:34] torch.compile takes 42.10 s in total",
            Compile,
            End,
        ),
        (
            "INFO 04-20 08:11:05 [monitor.py:76] Initial profiling/warmup run took 3.20 s",
            Profile,
            Edge::Progress,
        ),
        (
            "INFO 11-20 08:11:10 [gpu_worker.py:359] Available KV cache memory: 47.31 GiB",
            Profile,
            End,
        ),
        (
            "INFO 06-01 08:11:07 [gpu_model_runner.py:6589] Estimated CUDA graph memory: 1.31 GiB total",
            Profile,
            Edge::Progress,
        ),
        (
            "INFO 11-20 08:11:31 [gpu_model_runner.py:4244] Graph capturing finished in 19 secs, took 0.84 GiB",
            Graphs,
            End,
        ),
        (
            "INFO 11-20 08:11:33 [core.py:210] init engine (profile, create kv cache, warmup model) took 104.71 seconds",
            Ready,
            End,
        ),
        (
            "INFO 11-20 08:11:35 [api_server.py:1970] Starting vLLM API server 0 on http://0.0.0.0:8000",
            Http,
            Begin,
        ),
        (
            "INFO 11-20 08:11:35 [launcher.py:46] Route: /health, Methods: GET",
            Http,
            Edge::Progress,
        ),
        (
            "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)",
            Http,
            End,
        ),
        (
            "INFO 05-28 14:44:28 [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds. This typically happens when …",
            Hang,
            Edge::Progress,
        ),
        (
            "DEBUG 05-28 14:44:28 shm_broadcast.py:400] No available block found in 60 second. ",
            Hang,
            Edge::Progress,
        ),
        (
            "WARNING 11-20 12:00:01 [multiproc_executor.py:711] WorkerProc was terminated",
            Shutdown,
            Begin,
        ),
        (
            "INFO 06-01 12:00:00 [core.py:1212] [shutdown] EngineCore: trigger received signal=SIGTERM",
            Shutdown,
            Begin,
        ),
    ]);
    says! {
        "INFO 08-20 08:11:11 [kv_cache_utils.py:1864] GPU KV cache size: 310,112 tokens, Maximum concurrency for 32,768 tokens per request: 9.46x" =>
            VllmFact::KvSize { tokens: Some(310_112), concurrency: Some((32_768, x)) } if *x == 9.46,
        "INFO 11-20 08:11:11 [kv_cache_utils.py:1229] GPU KV cache size: 310,112 tokens" =>
            VllmFact::KvSize { tokens: Some(310_112), concurrency: None },
        "INFO 11-20 08:09:48 [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and 271.402188 seconds" =>
            VllmFact::ModelDone { gib, seconds: Some(s) } if *gib == 17.04 && *s == 271.402188,
        "INFO 11-20 09:00:05 [loggers.py:248] Engine 003: Avg prompt throughput: 812.4 tokens/s, Avg generation throughput: 240.1 tokens/s, Running: 12 reqs, Waiting: 3 reqs, GPU KV cache usage: 8.3%, Prefix cache hit rate: 41.0%" =>
            VllmFact::Stats(s) if s.engine == Some(3) && s.running == 12 && s.waiting == 3 && s.kv_percent == Some(8.3),
        "INFO 06-30 09:00:05 [cmd/src/main.rs:248] Avg prompt tput: 1.5 toks/s, Avg generation tput: 2.5 toks/s, Reqs Running: 1, Waiting: 0" =>
            VllmFact::Stats(s) if s.generation_tps == 2.5 && s.running == 1,
        "INFO 02-14 09:00:30 [ray_utils.py:214] Waiting for creating a placement group of specs for 30 seconds. specs=[{'node:10.42.3.7': 0.001, 'GPU': 1.0}, {'GPU': 1.0}]. Check …" =>
            VllmFact::RayWaiting { seconds: 30, bundles: 2, nodes } if nodes == &["10.42.3.7"],
        "WARNING 03-30 14:11:45 [ray_utils.py:352] Tensor parallel size (16) exceeds available GPUs (8). This may result in …" =>
            VllmFact::RayShortage { want: Some(16), have: Some(8) },
        "WARNING 02-14 09:00:41 [ray_utils.py:180] tensor_parallel_size=16 is bigger than a reserved number of GPUs (8 GPUs) in a node 3f2a…" =>
            VllmFact::RayShortage { want: Some(16), have: Some(8) },
        "Error: No available node types can fulfill resource request {'node:10.42.3.7': 0.001, 'GPU': 1.0}. Add suitable node types" =>
            VllmFact::RayUnfulfillable { request } if request == "{'node:10.42.3.7': 0.001, 'GPU': 1.0}",
        "INFO 05-01 10:00:03 [weight_utils.py:868] Filesystem type for checkpoints: NFS4. Checkpoint size: 640.12 GiB. Available RAM: 480.00 GiB." =>
            VllmFact::Checkpoint { fs, gib, ram_gib } if fs == "NFS4" && *gib == 640.12 && *ram_gib == 480.0,
        "INFO 05-01 10:09:03 [weight_utils.py:531] Time spent downloading weights for org/model: 412.331000 seconds" =>
            VllmFact::Downloaded { model, seconds } if model == "org/model" && *seconds == 412.331,
    }
}
