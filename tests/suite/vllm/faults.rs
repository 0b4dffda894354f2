//! What goes wrong, in the words of every era.

use super::*;

#[test]
fn faults_of_files_and_permissions() {
    faults! {
        r#"requests.exceptions.ConnectionError: (MaxRetryError("HTTPSConnectionPool(host='hub.example', port=443): Max retries exceeded with url: /org/model/resolve/main/config.json"))"# =>
            FaultKind::HubUnreachable { host: Some(h) } if h == "hub.example",
        "httpx.ConnectError: [Errno -3] Temporary failure in name resolution" => FaultKind::HubUnreachable { host: None },
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing traffic has been disabled." => FaultKind::NotCached,
        "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://hub.example/api/models/org/model: offline mode is enabled. To disable it, …" =>
            FaultKind::OfflineHit { url: Some(u) } if u == "https://hub.example/api/models/org/model",
        "ERROR 05-01 10:00:04 [repo_utils.py:68] Error retrieving file list: (MaxRetryError(…)), retrying 1 of 2" => FaultKind::HubRetry { tries: (1, 2) },
        "ValueError: Invalid repository ID or local directory specified: '/models/q'." => FaultKind::NoConfig,
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/q'." =>
            FaultKind::BadRepoId { id: Some(p) } if p == "/models/q",
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo for url https://hub.example/org/model." => FaultKind::Unauthorised,
        "RuntimeError: Cannot find any model weights with `/models/q`" => FaultKind::NoWeights { path } if path == "/models/q",
        "FileNotFoundError: Weight files referenced in index but missing: ['/models/q/model-00007-of-00030.safetensors']" => FaultKind::ShardsMissing { .. },
        "ValueError: Following weights were not initialized from checkpoint: {'model.layers.41.mlp.down_proj.weight'}" => FaultKind::WeightsMissing,
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer" => FaultKind::ShardCorrupt { .. },
        "OSError: Can't load tokenizer for '/models/q'. If you were trying to load it from …" => FaultKind::TokenizerMissing { path: Some(p) } if p == "/models/q",
        "ValueError: As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template" => FaultKind::ChatTemplate,
        "ValueError: Loading /models/q requires you to execute the configuration file; set the option trust_remote_code=True" => FaultKind::RemoteCode,
        "ValueError: Model architectures ['NewForCausalLM'] are not supported for now. Supported architectures: …" => FaultKind::Architecture,
        "KeyError: 'layers.0.self_attn.qkv_proj.weight_scale'" => FaultKind::WeightsMismatch,
        "KeyError: 'getpwuid(): uid not found: 1000910000'" => FaultKind::NoPasswd { uid: 1_000_910_000 },
        "PermissionError: [Errno 13] Permission denied: '/.cache'" => FaultKind::Permission { path: Some(p), read_only: false } if p == "/.cache",
        "OSError: [Errno 30] Read-only file system: '/models/.locks'" => FaultKind::Permission { read_only: true, .. },
        "OSError: [Errno 28] No space left on device: '/data/x'" => FaultKind::DiskFull { .. },
        "OSError: [Errno 28] No space left on device: '/dev/shm/psm_4b1c22d0'" => FaultKind::Shm { attaching: false },
    }
}

#[test]
fn faults_of_gpu_and_memory() {
    faults! {
        "RuntimeError: Failed to infer device type, please set the environment variable …" => FaultKind::NoGpu,
        "DEBUG 08-29 04:29:54 [__init__.py:82] Exception happens when checking CUDA platform: NVML Shared Library Not Found" => FaultKind::NvmlMissing,
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update …" => FaultKind::DriverOld,
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device" => FaultKind::NoKernel,
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5." => FaultKind::Dtype,
        "torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected during the execution" => FaultKind::Hardware { .. },
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized" => FaultKind::FabricManager,
        "[HAMI-core ERROR (pid:412 thread=139900112 multiprocess_memory_limit.c:831)]: Illegal device id: 812345001" => FaultKind::Interposer,
        "ValueError: Free memory on device cuda:1 (19.77/79.10 GiB) on startup is less than desired GPU memory utilization (0.9, 71.19 GiB). Decrease …" =>
            FaultKind::NotEnoughFree { device: Some(d), free, utilization, .. } if d == "cuda:1" && *free == 19.77 && *utilization == 0.9,
        "ValueError: Free memory on device (19.77/79.10 GiB) on startup is less than desired GPU memory utilization (0.9, 71.19 GiB)." =>
            FaultKind::NotEnoughFree { device: None, .. },
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB. GPU 3 has a total capacity of 79.10 GiB of which 211.25 MiB is free. Including non-PyTorch memory …" =>
            FaultKind::CudaOom { wanted: Some(536_870_912), gpu: Some(3), total: Some(_), free: Some(_) },
        "ERROR 03-01 10:00:00 [gpu_model_runner.py:5241] Failed to load model - not enough GPU memory. Try lowering …" => FaultKind::LoadOom,
        "ValueError: No available memory for the cache blocks. Try increasing …" => FaultKind::NoKvBlocks,
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (62800). Try …" =>
            FaultKind::KvTooSmall { len: Some(131_072), fits: Some(62_800), need: None, have: None },
        "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.41 GiB). Based on the available memory, the estimated maximum model length is 77088. Try …" =>
            FaultKind::KvTooSmall { fits: Some(77_088), need: Some(n), have: Some(h), .. } if *n == 16.0 && *h == 9.41,
        "AssertionError: Error in memory profiling. Initial free memory 70.11 GiB, current free memory 71.90 GiB. This happens …" => FaultKind::ProfileDisturbed,
    }
}

#[test]
fn faults_of_layout_and_rendezvous() {
    faults! {
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8)." => FaultKind::Heads { heads: 28, tp: 8 },
        "AssertionError: 152064 is not divisible by 7" => FaultKind::Sharding,
        "ValueError: World size (16) is larger than the number of available GPUs (8) in this node. If this is intentional …" => FaultKind::WorldSize { ranks: 16, gpus: 8 },
        "ValueError: Tensor parallel size (16) cannot be larger than the number of available GPUs (8)." => FaultKind::WorldSize { ranks: 16, gpus: 8 },
        "AssertionError: DP adjusted local rank 8 is out of bounds for 8 devices." => FaultKind::LocalRank,
        "AssertionError: world_size=12 must be divisible by nnodes=5." => FaultKind::Layout,
        "AssertionError: this nccl communicator is created to work on cuda:0, but the input tensor is on cuda:1" => FaultKind::DeviceMismatch,
        "RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error" => FaultKind::GlooMesh { .. },
        "RuntimeError: [../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv operation to complete" => FaultKind::GlooPeer { peer: None },
        "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to (10.42.3.7, 29501)." =>
            FaultKind::HeadUnreachable { to, timed_out: true } if to == "10.42.3.7:29501",
        "[W socket.cpp:697] [c10d] The client socket has failed to connect to [vllm-0.vllm]:29501 (errno: 111 - Connection refused)." =>
            FaultKind::HeadUnreachable { to, timed_out: false } if to == "vllm-0.vllm:29501",
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 8/16 clients joined." => FaultKind::NotAllJoined { have: 8, want: 16, seconds: 601 },
        "torch.distributed.DistStoreError: wait timeout after 600000ms, keys: /default_pg/0//cuda//nccl/0" =>
            FaultKind::StoreWait { ms: 600_000, key } if key == "/default_pg/0//cuda//nccl/0",
        "[W TCPStore.cpp:131] [c10d] The IPv6 network addresses of (vllm-0.vllm, 29501) cannot be retrieved (gai error: -2 - Name or service not known)." =>
            FaultKind::NameResolution { name: Some(n) } if n == "vllm-0.vllm",
        "WARNING 01-01 10:00:00 [network_utils.py:36] The environment variable HOST_IP is deprecated and ignored, as it is …" => FaultKind::HostIpIgnored,
        "RuntimeError: Every node should have a unique IP address. Got 2 nodes with node ids ['8a…', '41…'] and 1 unique IP addresses {'10.42.3.7'}. Please …" =>
            FaultKind::HostIpShared { ips: Some(i) } if i == "'10.42.3.7'",
        "torch.distributed.DistBackendError: [4] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by key '0', but store->get('0') got error: Socket Timeout" =>
            FaultKind::UniqueId { rank: 4, root: 0 },
        "ValueError: VLLM_PORT 'tcp://10.96.4.4:8000' appears to be a URI. This may be caused by a Kubernetes service discovery issue,…" =>
            FaultKind::PortVariable { value } if value == "tcp://10.96.4.4:8000",
        "RuntimeError: Did not receive response from front-end process within 5 minutes" => FaultKind::DpHandshake { minutes: 5 },
        "RuntimeError: Message from engine with unexpected data parallel rank: 3" => FaultKind::DpRoles,
        "OSError: [Errno 98] Address already in use" => FaultKind::PortInUse,
    }
}

#[test]
fn faults_of_nccl_graphs_and_executor() {
    faults! {
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)" =>
            FaultKind::TorchNccl { error, version: None } if error == "unhandled system error",
        "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5" =>
            FaultKind::TorchNccl { error, version: Some(v) } if error == "unhandled cuda error" && v == "2.27.5",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely." =>
            FaultKind::NcclResult { name } if name == "ncclRemoteError",
        "Last error:" => FaultKind::LastError { what: None },
        "ERROR 09-03 02:21:36 pynccl_wrapper.py:196] Failed to load NCCL library from libnccl.so.2 .It is expected if …" =>
            FaultKind::NcclLibrary { file } if file == "libnccl.so.2",
        "[vllm-1:733 :0:733] Caught signal 11 (Segmentation fault: address not mapped to object at address 0x8)" =>
            FaultKind::Crash { what } if what == "Segmentation fault",
        "*** SIGSEGV received at time=1700000000 on cpu 3 ***" => FaultKind::Crash { what } if what == "SIGSEGV",
        "Failed: Cuda error /build/csrc/custom_all_reduce.cuh:455 'invalid argument'" =>
            FaultKind::CustomAllReduce { error } if error == "invalid argument",
        "torch.AcceleratorError: CUDA error: an illegal memory access was encountered" => FaultKind::IllegalAccess,
        "torch.AcceleratorError: CUDA error: operation failed due to a previous error during capture" => FaultKind::Capture,
        "torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please specify via CC …" => FaultKind::Compiler,
        "ERROR 08-10 09:37:41 [multiproc_executor.py:314] Worker proc VllmWorker-3 died unexpectedly (exit code: -9), shutting down executor." =>
            FaultKind::WorkerDied { rank: Some(3), code: Some(-9), .. },
        "ERROR 11-10 09:37:41 [multiproc_executor.py:230] Worker proc VllmWorker-1 died unexpectedly, shutting down executor." =>
            FaultKind::WorkerDied { rank: Some(1), code: None, .. },
        "ERROR 07-15 12:34:40 multiproc_worker_utils.py:120] Worker VllmWorkerProcess pid 912 died, exit code: -6" =>
            FaultKind::WorkerDied { pid: Some(912), code: Some(-6), .. },
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}" =>
            FaultKind::EngineStart { failed: Some(f) } if f == "{'EngineCore_DP0': 1}",
        "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight loading …" => FaultKind::ReadyTimeout,
        "ERROR 01-02 10:05:00 [core.py:875] TimeoutError: RPC call to sample_tokens timed out." => FaultKind::RpcTimeout { method } if method == "sample_tokens",
        "ERROR 01-02 10:05:01 [async_llm.py:480] EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause." => FaultKind::EngineDead,
        "ValueError: Cannot provide a placement group requiring 16 GPUs (placement_group_specs=[{'GPU': 1.0}]) within 1800 seconds." => FaultKind::RayGaveUp { gpus: Some(16) },
        "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task." => FaultKind::RayDied,
        "ERROR 08-02 08:50:03 worker_base.py:382] Error executing method init_device. This might cause deadlock in distributed execution." =>
            FaultKind::RayMethod { method: Some(m) } if m == "init_device",
        "ERROR 08-02 19:43:44 [worker.py:767] NIXL transfer failure: handshake_failed | Context: {'request_id': 'c-1'}" => FaultKind::KvTransfer,
        "some.module.StrangeError: it broke" => FaultKind::Exception,
    }
    let f = fault(
        "ERROR 11-02 10:01:01 [core.py:844] RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    );
    assert_eq!(f.class.as_deref(), Some("RuntimeError"));
    assert_eq!(f.level, Some(Severity::Error));
    // The engine's account of a worker's end is an echo; the worker's own is not.
    assert!(
        fault("ERROR 11-20 08:06:00 [multiproc_executor.py:703] WorkerProc failed to start.")
            .is_echo()
    );
    assert!(!fault("ERROR 08-10 09:37:41 [m.py:314] Worker proc VllmWorker-3 died unexpectedly (exit code: -9)").is_echo());
}

#[test]
fn watchdog_lines_name_the_process_by_the_outer_rank() {
    let timeout = "[rank5]:[E118 07:41:30.120394556 ProcessGroupNCCL.cpp:685] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, NumelIn=16032, NumelOut=0, Timeout(ms)=600000) ran for 600089 milliseconds before timing out.";
    says! {
        timeout => VllmFact::Torch(Torch::Timeout { rank: Some(5), tag, work, ran_ms: Some(600_089) })
            if tag.rank == Some(1) && work.seq == 88 && work.op == "GATHER"
                && work.numel == Some((16_032, 0)) && work.timeout_ms == Some(600_000),
        "[rank5]:[E118 07:41:30.121 ProcessGroupNCCL.cpp:2168] [PG ID 2 PG GUID 3(tp) Rank 5] Exception (either an error or timeout) detected by watchdog at work: 88, last enqueued NCCL work: 89, last completed NCCL work: 87." =>
            VllmFact::Torch(Torch::Position { tag, position, .. })
            if tag.pg == Some(2) && tag.guid.as_deref() == Some("3(tp)") && position.enqueued == 89 && position.completed == 87,
        "[rank2]:[E912 04:10:07.110022334 ProcessGroupNCCL.cpp:1746] [PG ID 0 PG GUID 0(default_pg) Rank 2] Received a dump signal due to a collective timeout from  rank 6 and we will try our best to dump the debug info. Last enqueued NCCL work: 4, last completed NCCL work: 3." =>
            VllmFact::Torch(Torch::Dump { rank: Some(2), notice: Notice::Rank(6), position: Some(p), .. }) if p.completed == 3,
        "[rank1]:[E403 02:22:41.500600700 ProcessGroupNCCL.cpp:1890] [PG ID 0 PG GUID 0(default_pg) Rank 1] Received a dump signal due to a collective timeout from this local rank and we will try our best to dump the debug info." =>
            VllmFact::Torch(Torch::Dump { notice: Notice::ThisRank, .. }),
        "[rank5]:[E118 07:41:31.001 ProcessGroupNCCL.cpp:699] [Rank 5] To avoid data inconsistency, we are taking the entire process down." =>
            VllmFact::Torch(Torch::Killed { rank: Some(5), .. }),
        "[rank1]:[E1202 14:03:25.480090010 ProcessGroupNCCL.cpp:542] [Rank 12] Collective WorkNCCL(SeqNum=1, OpType=BROADCAST, NumelIn=77856, NumelOut=77856, Timeout(ms)=1800000) raised the following async exception: NCCL error: remote process exited or there was a network error, NCCL version 2.21.5" =>
            VllmFact::Torch(Torch::Async { work, why, .. }) if work.seq == 1 && why.starts_with("NCCL error: remote"),
        "[W111 00:54:10.905768298 TCPStore.cpp:125] [c10d] recvValue failed on SocketImpl(fd=99, addr=[::ffff:10.42.3.9]:38760, remote=[::ffff:10.42.3.7]:42643): Failed to recv, got 0 bytes. Connection was likely closed." =>
            VllmFact::Torch(Torch::StoreGone { remote: Some(r), .. }) if r == "[::ffff:10.42.3.7]:42643",
    }
    // The launcher's label was peeled off before: it arrives beside the line.
    let outer = Outer {
        rank: Some(7),
        ..Outer::default()
    };
    let got = line(timeout.strip_prefix("[rank5]:").unwrap().as_bytes(), &outer);
    assert!(
        matches!(
            got,
            Some(VllmFact::Torch(Torch::Timeout { rank: Some(7), .. }))
        ),
        "{got:?}"
    );
}
