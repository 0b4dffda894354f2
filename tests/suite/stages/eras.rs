//! The start of a job in the words of each era, line by line, with what each line proves.

use super::Stage::{
    Compile, Config, DistributedInit, Download, Graphs, NcclInit, Profile, Serving, Started,
    Weights,
};
use super::{ALL, Era};

pub const ERAS: &[Era] = &[
    (
        "v0.5.4, V0, two GPUs: rank 0 is the main process and prints no prefix",
        &[
            (
                "INFO 08-10 10:00:00 api_server.py:339] vLLM API server version 0.5.4",
                &[(0, Config)],
            ),
            (
                "INFO 08-10 10:00:02 llm_engine.py:174] Initializing an LLM engine (v0.5.4) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorkerProcess pid=77)\u{1b}[0;0m INFO 08-10 10:00:06 multiproc_worker_utils.py:215] Worker ready; awaiting tasks",
                &[(77, DistributedInit)],
            ),
            (
                "INFO 08-10 10:00:07 utils.py:841] Found nccl from library libnccl.so.2",
                &[(0, NcclInit)],
            ),
            (
                "\u{1b}[1;36m(VllmWorkerProcess pid=77)\u{1b}[0;0m INFO 08-10 10:00:07 pynccl.py:63] vLLM is using nccl==2.20.5",
                &[(77, NcclInit)],
            ),
            (
                "INFO 08-10 10:00:09 custom_all_reduce_utils.py:206] reading GPU P2P access cache from /root/.cache/vllm/gpu_p2p_access_cache_for_0,1.json",
                &[],
            ),
            (
                "INFO 08-10 10:00:12 model_runner.py:720] Starting to load model /models/q...",
                &[(0, Weights)],
            ),
            (
                "\u{1b}[1;36m(VllmWorkerProcess pid=77)\u{1b}[0;0m INFO 08-10 10:00:12 model_runner.py:720] Starting to load model /models/q...",
                &[(77, Weights)],
            ),
            (
                "\rLoading safetensors checkpoint shards:   0% Completed | 0/4 [00:00<?, ?it/s]",
                &[],
            ),
            (
                "\rLoading safetensors checkpoint shards:  50% Completed | 2/4 [00:04<00:04,  2.00s/it]",
                &[],
            ),
            (
                "INFO 08-10 10:00:22 model_runner.py:732] Loading model weights took 7.4820 GB",
                &[],
            ),
            (
                "INFO 08-10 10:00:30 distributed_gpu_executor.py:56] # GPU blocks: 18523, # CPU blocks: 2048",
                &[(0, Profile)],
            ),
            (
                "INFO 08-10 10:00:31 model_runner.py:1024] Capturing the model for CUDA graphs. This may lead to unexpected consequences",
                &[(0, Graphs)],
            ),
            (
                "INFO 08-10 10:00:45 model_runner.py:1225] Graph capturing finished in 14 secs.",
                &[],
            ),
            ("INFO:     Application startup complete.", &[(ALL, Serving)]),
        ],
    ),
    (
        "v0.8.5, V1: the old label numbers the ranks, every rank prints every line",
        &[
            (
                "INFO 04-20 10:00:00 [api_server.py:1043] vLLM API server version 0.8.5",
                &[(0, Config)],
            ),
            (
                "INFO 04-20 10:00:04 [core.py:58] Initializing a V1 LLM engine (v0.8.5) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=1",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:00:08 [shm_broadcast.py:266] vLLM message queue communication handle: Handle(local_reader_ranks=[0], buffer_handle=(1, 10485760, 10, 'psm_4e1b77c2'))",
                &[(419, DistributedInit)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:00:09 [pynccl.py:69] vLLM is using nccl==2.21.5",
                &[(419, NcclInit)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=1 pid=420)\u{1b}[0;0m INFO 04-20 10:00:09 [pynccl.py:69] vLLM is using nccl==2.21.5",
                &[(420, NcclInit)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:00:11 [parallel_state.py:1004] rank 0 in world size 2 is assigned as DP rank 0, PP rank 0, TP rank 0",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:00:12 [gpu_model_runner.py:1329] Starting to load model /models/q...",
                &[(419, Weights)],
            ),
            (
                "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:04<00:04,  2.00s/it]",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:00:22 [loader.py:458] Loading weights took 8.10 seconds",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=1 pid=420)\u{1b}[0;0m INFO 04-20 10:00:22 [gpu_model_runner.py:1347] Model loading took 7.1000 GiB and 9.0 seconds",
                &[(420, Weights)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:00:30 [backends.py:420] Using cache directory: /root/.cache/vllm/torch_compile_cache/9fa1/rank_0_0 for vLLM's torch.compile",
                &[(419, Compile)],
            ),
            (
                "INFO 04-20 10:01:02 [kv_cache_utils.py:634] GPU KV cache size: 310,112 tokens",
                &[(0, Profile)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker rank=0 pid=419)\u{1b}[0;0m INFO 04-20 10:01:20 [gpu_model_runner.py:1686] Graph capturing finished in 18 secs, took 0.84 GiB",
                &[(419, Graphs)],
            ),
            (
                "INFO 04-20 10:01:21 [core.py:159] init engine (profile, create kv cache, warmup model) took 57.20 seconds",
                &[(ALL, Serving)],
            ),
        ],
    ),
    (
        "v0.10.1: front end and engine have prefixes, workers say TP",
        &[
            (
                "\u{1b}[1;36m(APIServer pid=1)\u{1b}[0;0m INFO 08-28 10:00:00 [api_server.py:1805] vLLM API server version 0.10.1",
                &[(1, Config)],
            ),
            (
                "\u{1b}[1;36m(EngineCore_0 pid=99)\u{1b}[0;0m INFO 08-28 10:00:04 [core.py:74] Initializing a V1 LLM engine (v0.10.1) with config: model='org/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=1",
                &[(99, Started)],
            ),
            (
                "\u{1b}[1;36m(EngineCore_0 pid=99)\u{1b}[0;0m \u{1b}[1;36m(VllmWorker pid=140)\u{1b}[0;0m INFO 08-28 10:00:09 [pynccl.py:70] vLLM is using nccl==2.26.2",
                &[(140, NcclInit)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m INFO 08-28 10:00:12 [gpu_model_runner.py:1953] Starting to load model org/q...",
                &[(140, Weights)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m \rmodel-00001-of-00002.safetensors:  12%|█▏        | 587M/4.98G [00:13<01:38, 44.6MB/s]",
                &[(140, Download)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m INFO 08-28 10:09:03 [weight_utils.py:312] Time spent downloading weights for org/q: 412.331000 seconds",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m \rLoading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]",
                &[(140, Weights)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m INFO 08-28 10:09:22 [gpu_model_runner.py:1970] Model loading took 7.1000 GiB and 19.0 seconds",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m INFO 08-28 10:09:50 [monitor.py:34] torch.compile takes 22.10 s in total",
                &[(140, Compile)],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m INFO 08-28 10:09:52 [gpu_worker.py:276] Available KV cache memory: 47.31 GiB",
                &[],
            ),
            (
                "\u{1b}[1;36m(VllmWorker TP0 pid=140)\u{1b}[0;0m Capturing CUDA graph shapes:   9%|▉         | 3/35 [00:01<00:19,  1.67it/s]\rCapturing CUDA graph shapes:  91%|█████████▏| 32/35 [00:19<00:01,  1.67it/s]",
                &[(140, Graphs)],
            ),
            (
                "\u{1b}[1;36m(EngineCore_0 pid=99)\u{1b}[0;0m INFO 08-28 10:10:21 [core.py:214] init engine (profile, create kv cache, warmup model) took 57.20 seconds",
                &[(ALL, Serving)],
            ),
        ],
    ),
    (
        "v0.11.2 with NCCL_DEBUG=INFO: NCCL's lines carry no prefix, most lines come from the first rank alone",
        &[
            (
                "\u{1b}[1;36m(APIServer pid=1)\u{1b}[0;0m INFO 11-20 08:00:00 [api_server.py:1977] vLLM API server version 0.11.2",
                &[(1, Config)],
            ),
            (
                "\u{1b}[1;36m(EngineCore_DP0 pid=271)\u{1b}[0;0m INFO 11-20 08:00:05 [core.py:93] Initializing a V1 LLM engine (v0.11.2) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=1",
                &[(271, Started)],
            ),
            (
                "\u{1b}[1;36m(Worker pid=410)\u{1b}[0;0m INFO 11-20 08:00:09 [parallel_state.py:1208] world_size=2 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:51234 backend=nccl",
                &[(410, DistributedInit)],
            ),
            (
                "\u{1b}[1;36m(Worker pid=411)\u{1b}[0;0m INFO 11-20 08:00:09 [parallel_state.py:1208] world_size=2 rank=1 local_rank=1 distributed_init_method=tcp://127.0.0.1:51234 backend=nccl",
                &[(411, DistributedInit)],
            ),
            (
                "llm-0:410:410 [0] NCCL INFO ncclCommInitRank comm 0x55d0 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1b000 commId 0x7c1e - Init START",
                &[(410, NcclInit)],
            ),
            (
                "llm-0:411:411 [1] NCCL INFO ncclCommInitRank comm 0x55e0 rank 1 nranks 2 cudaDev 1 nvmlDev 1 busId 43000 commId 0x7c1e - Init START",
                &[(411, NcclInit)],
            ),
            (
                "llm-0:410:410 [0] NCCL INFO ncclCommInitRank comm 0x55d0 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1b000 commId 0x7c1e - Init COMPLETE",
                &[],
            ),
            (
                "llm-0:411:411 [1] NCCL INFO ncclCommInitRank comm 0x55e0 rank 1 nranks 2 cudaDev 1 nvmlDev 1 busId 43000 commId 0x7c1e - Init COMPLETE",
                &[],
            ),
            (
                "\u{1b}[1;36m(Worker pid=410)\u{1b}[0;0m INFO 11-20 08:00:12 [parallel_state.py:1394] rank 0 in world size 2 is assigned as DP rank 0, PP rank 0, TP rank 0, EP rank 0",
                &[],
            ),
            (
                "\u{1b}[1;36m(Worker_TP0 pid=410)\u{1b}[0;0m INFO 11-20 08:00:13 [gpu_model_runner.py:3259] Starting to load model /models/q...",
                &[(410, Weights)],
            ),
            (
                "\u{1b}[1;36m(Worker_TP0 pid=410)\u{1b}[0;0m \rLoading safetensors checkpoint shards:  50% Completed | 2/4 [00:04<00:04,  2.00s/it]",
                &[],
            ),
            (
                "\u{1b}[1;36m(Worker_TP0 pid=410)\u{1b}[0;0m INFO 11-20 08:01:30 [backends.py:647] Dynamo bytecode transform time: 6.10 s",
                &[(410, Compile)],
            ),
            (
                "\u{1b}[1;36m(EngineCore_DP0 pid=271)\u{1b}[0;0m INFO 11-20 08:01:40 [kv_cache_utils.py:1229] GPU KV cache size: 310,112 tokens",
                &[(271, Profile)],
            ),
            (
                "\u{1b}[1;36m(Worker_TP0 pid=410)\u{1b}[0;0m INFO 11-20 08:01:59 [gpu_model_runner.py:3480] Graph capturing finished in 19 secs, took 0.84 GiB",
                &[(410, Graphs)],
            ),
            (
                "\u{1b}[1;36m(APIServer pid=1)\u{1b}[0;0m INFO:     Application startup complete.",
                &[(ALL, Serving)],
            ),
        ],
    ),
    (
        "v0.14 on Ray: nested prefixes, ranks by S20 alone",
        &[
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m INFO 01-30 08:00:05 [core.py:93] Initializing a V1 LLM engine (v0.14.0) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=1",
                &[(271, Started)],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m INFO 01-30 08:00:15 [ray_utils.py:214] Waiting for creating a placement group of specs for 10 seconds. specs=[{'node:10.42.3.7': 0.001, 'GPU': 1.0}, {'GPU': 1.0}]. Check `ray status`",
                &[],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m \u{1b}[36m(RayWorkerWrapper pid=381)\u{1b}[0m INFO 01-30 08:00:29 [parallel_state.py:1208] world_size=2 rank=0 local_rank=0 distributed_init_method=tcp://10.42.3.7:41234 backend=nccl",
                &[(381, DistributedInit)],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m \u{1b}[36m(RayWorkerWrapper pid=902, ip=10.42.3.9)\u{1b}[0m INFO 01-30 08:00:29 [parallel_state.py:1208] world_size=2 rank=1 local_rank=0 distributed_init_method=tcp://10.42.3.7:41234 backend=nccl",
                &[(902, DistributedInit)],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m \u{1b}[36m(RayWorkerWrapper pid=381)\u{1b}[0m INFO 01-30 08:00:31 [pynccl.py:111] vLLM is using nccl==2.27.5",
                &[(381, NcclInit), (902, NcclInit)],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m \u{1b}[36m(RayWorkerWrapper pid=902, ip=10.42.3.9)\u{1b}[0m WARNING 01-30 08:00:32 [custom_all_reduce.py:92] Custom allreduce is disabled because this process group spans across nodes. To silence",
                &[],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m \u{1b}[36m(RayWorkerWrapper pid=381)\u{1b}[0m INFO 01-30 08:00:40 [gpu_model_runner.py:3259] Starting to load model /models/q...",
                &[(381, Weights)],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m \u{1b}[36m(RayWorkerWrapper pid=902, ip=10.42.3.9)\u{1b}[0m INFO 01-30 08:02:40 [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and 71.402188 seconds",
                &[(902, Weights)],
            ),
            (
                "\u{1b}[0;36m(EngineCore_DP0 pid=271)\u{1b}[0m INFO 01-30 08:03:00 [core.py:259] init engine (profile, create kv cache, warmup model) took 57.20 seconds",
                &[(ALL, Serving)],
            ),
        ],
    ),
    (
        "v0.20: no colours, EngineCore without a number, logo instead of the version line",
        &[
            (
                "(APIServer pid=1) INFO 05-02 10:00:00 [api_utils.py:345] vLLM server version 0.20.0, serving model /models/q",
                &[(1, Config)],
            ),
            (
                "(EngineCore pid=150) INFO 05-02 10:00:20 [core.py:115] Initializing a V1 LLM engine (v0.20.0) with config: model='/models/q', tensor_parallel_size=2, pipeline_parallel_size=1, data_parallel_size=1",
                &[(150, Started)],
            ),
            (
                "(Worker pid=402) INFO 05-02 10:00:27 [parallel_state.py:1400] world_size=2 rank=0 local_rank=0 distributed_init_method=tcp://127.0.0.1:51234 backend=nccl",
                &[(402, DistributedInit)],
            ),
            (
                "(Worker pid=403) INFO 05-02 10:00:27 [parallel_state.py:1400] world_size=2 rank=1 local_rank=1 distributed_init_method=tcp://127.0.0.1:51234 backend=nccl",
                &[(403, DistributedInit)],
            ),
            (
                "(Worker pid=402) INFO 05-02 10:00:30 [pynccl.py:111] vLLM is using nccl==2.28.9",
                // The ranks have met, and from here on this version lets only the first of them speak.
                &[(402, NcclInit), (403, NcclInit)],
            ),
            (
                "(Worker pid=402) INFO 05-02 10:00:33 [parallel_state.py:1713] rank 0 in world size 2 is assigned as DP rank 0, PP rank 0, PCP rank 0, TP rank 0, EP rank N/A, EPLB rank N/A",
                &[],
            ),
            (
                "(Worker_TP0 pid=402) INFO 05-02 10:00:35 [gpu_model_runner.py:4100] Starting to load model /models/q...",
                &[(402, Weights)],
            ),
            (
                "(Worker_TP0 pid=402) INFO 05-02 10:00:36 [weight_utils.py:868] Filesystem type for checkpoints: NFS4. Checkpoint size: 640.12 GiB. Available RAM: 480.00 GiB.",
                &[],
            ),
            (
                "(Worker_TP0 pid=402) INFO 05-02 10:01:03 [weight_utils.py:801] Prefetching checkpoint files: 40% (8/20)",
                &[],
            ),
            (
                "(Worker_TP0 pid=402) INFO 05-02 10:02:00 [monitor.py:76] Initial profiling/warmup run took 3.20 s",
                &[(402, Profile)],
            ),
            (
                "(Worker_TP0 pid=402) INFO 05-02 10:02:01 [gpu_model_runner.py:6589] Estimated CUDA graph memory: 1.31 GiB total",
                &[],
            ),
            (
                "(Worker_TP0 pid=402) INFO 05-02 10:02:03 [gpu_worker.py:359] Available KV cache memory: 47.31 GiB",
                &[],
            ),
            (
                "(Worker_TP0 pid=402) \rCapturing CUDA graphs (mixed prefill-decode, PIECEWISE):  36%|███▌      | 24/67 [00:03<00:05,  7.91it/s]",
                &[(402, Graphs)],
            ),
            (
                "(APIServer pid=1) INFO:     Application startup complete.",
                &[(ALL, Serving)],
            ),
        ],
    ),
];
