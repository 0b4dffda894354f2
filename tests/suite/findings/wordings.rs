//! The line that proves a finding, in every wording, and lines that only look like trouble.

use ncclscope::rules::KNOWN;
use ncclscope::rules::scene::{Evidence, Severity, Verdict};

use super::{NCCL, ids, scene};

const WORKER: &str = "(Worker_TP1 pid=212) ERROR 11-20 08:06:00 [multiproc_executor.py:703] ";
/// A worker of v0.6.
const OLDER: &str =
    "(VllmWorkerProcess pid=912) ERROR 12-02 08:06:00 multiproc_worker_utils.py:236] ";
const LOADING: &str = "(Worker_TP1 pid=212) INFO 11-20 08:05:00 [gpu_model_runner.py:2602] Starting to load model /models/q...\n";
const GRAPHS: &str = "(Worker_TP1 pid=212) Capturing CUDA graphs (decode, FULL):   3%|▎         | 1/35 [00:00<00:12,  2.71it/s]\n";

/// Id, what stands before, and the line that must be its evidence, in up to three wordings each.
pub fn cases() -> Vec<(&'static str, String, String)> {
    let nccl = |t: &str| format!("{NCCL}{t}");
    let worker = |t: &str| format!("{WORKER}{t}");
    let older = |t: &str| format!("{OLDER}{t}");
    let mut all = Vec::new();
    let mut add = |id, before: &str, list: Vec<String>| {
        for line in list {
            all.push((id, before.to_owned(), line));
        }
    };
    add("vllm.hub-access", "", vec![
        "requests.exceptions.ConnectionError: (MaxRetryError(\"HTTPSConnectionPool(host='hub.example', port=443): Max retries exceeded with url: /org/model/resolve/main/config.json\"))".into(),
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing traffic has been disabled.".into(),
        "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://hub.example/api/models/org/model: offline mode is enabled. To disable it, unset it".into(),
    ]);
    add("vllm.tokenizer-missing", "", vec![
        "OSError: Can't load tokenizer for '/models/q'. If you were trying to load it from a hub, make sure".into(),
        "ValueError: Couldn't instantiate the backend tokenizer from one of:".into(),
        worker("ValueError: Unrecognized image processor in /models/q. Should have a `image_processor_type` key"),
    ]);
    add("vllm.model-incomplete", "", vec![
        "ValueError: Invalid repository ID or local directory specified: '/models/q'.".into(),
        worker("FileNotFoundError: Weight files referenced in index but missing: ['/models/q/model-00007-of-00030.safetensors']"),
        worker("safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer"),
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/q'.".into(),
    ]);
    add(
        "vllm.permission-denied",
        "",
        vec![
            "PermissionError: [Errno 13] Permission denied: '/.cache'".into(),
            "OSError: [Errno 30] Read-only file system: '/models/.locks/models--org--q.lock'"
                .into(),
            "KeyError: 'getpwuid(): uid not found: 1000910000'".into(),
        ],
    );
    add(
        "vllm.cuda-oom-loading",
        LOADING,
        vec![
            worker(
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB. GPU 3 has a total capacity of 79.10 GiB of which 211.25 MiB is free. Including non-PyTorch memory",
            ),
            worker(
                "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization",
            ),
            worker(
                "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 39.39 GiB of which 1.05 GiB is free.",
            ),
        ],
    );
    add("vllm.kv-cache-too-small", "", vec![
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`".into(),
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (62800). Try increasing".into(),
        "(EngineCore_DP0 pid=271) ERROR 11-20 08:06:00 [core.py:844] ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.41 GiB). Based on the available memory, the estimated maximum model length is 77088. Try".into(),
    ]);
    add("vllm.world-size", "", vec![
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).".into(),
        "ValueError: World size (16) is larger than the number of available GPUs (8) in this node. If this is intentional".into(),
        "AssertionError: DP adjusted local rank 8 is out of bounds for 8 devices.".into(),
        "AssertionError: world_size=12 must be divisible by nnodes=5.".into(),
    ]);
    add(
        "vllm.rank-config",
        "",
        vec![
            "RuntimeError: Message from engine with unexpected data parallel rank: 3".into(),
            nccl(
                "bootstrap.cc:327 NCCL WARN Bootstrap Root : mismatch in info from procs, nranks 8 vs 16, nroots 1 vs 1, iroot 0 vs 0",
            ),
            nccl(
                "bootstrap.cc:348 NCCL WARN Bootstrap Root : rank 3 of 8 ranks has already checked in",
            ),
        ],
    );
    add(
        "vllm.device-mismatch",
        "",
        vec![
            worker(
                "AssertionError: this nccl communicator is created to work on cuda:1, but the input tensor is on cuda:0",
            ),
            worker(
                "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cuda:1!",
            ),
            older(
                "AssertionError: this nccl communicator is created to work on cuda:3, but the input tensor is on cuda:0",
            ),
        ],
    );
    add(
        "vllm.graph-crash",
        GRAPHS,
        vec![
            worker("torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
            worker(
                "torch.AcceleratorError: CUDA error: operation failed due to a previous error during capture",
            ),
            "Failed: Cuda error /build/csrc/custom_all_reduce.cuh:455 'invalid argument'".into(),
        ],
    );
    add("vllm.wrong-host-ip", "", vec![
        "RuntimeError: Every node should have a unique IP address. Got 2 nodes with node ids ['8a', '41'] and 1 unique IP addresses {'10.42.3.7'}. Please check".into(),
        "(Worker pid=212) INFO 11-20 08:05:00 [parallel_state.py:1203] world_size=32 rank=1 local_rank=1 distributed_init_method=tcp://127.0.0.1:29501 backend=nccl".into(),
        "(Worker_TP1 pid=212) INFO 05-20 08:05:00 [parallel_state.py:1325] world_size=64 rank=9 local_rank=1 distributed_init_method=tcp://localhost:29500 backend=nccl".into(),
    ]);
    add("vllm.rendezvous-timeout", "", vec![
        worker("torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 8/16 clients joined."),
        "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to (10.42.3.7, 29501).".into(),
        "RuntimeError: Did not receive response from front-end process within 5 minutes".into(),
    ]);
    add("vllm.gloo-mesh", "", vec![
        worker("RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"),
        "RuntimeError: Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:150] timeout".into(),
        "(RayWorkerWrapper pid=733, ip=10.42.0.7) RuntimeError: Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:152] Connection refused".into(),
    ]);
    add("vllm.worker-died", "", vec![
        "(EngineCore pid=150) ERROR 08-10 09:37:41 [multiproc_executor.py:314] Worker proc VllmWorker-3 died unexpectedly (exit code: -9), shutting down executor.".into(),
        "ERROR 07-15 12:34:40 multiproc_worker_utils.py:120] Worker VllmWorkerProcess pid 912 died, exit code: -6".into(),
        "[vllm-1:733 :0:733] Caught signal 11 (Segmentation fault: address not mapped to object at address 0x8)".into(),
        "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.".into(),
    ]);
    add("vllm.port-variable", "", vec![
        "ValueError: VLLM_PORT 'tcp://10.96.4.4:8000' appears to be a URI. This may be caused by a Kubernetes service discovery issue,".into(),
        "ValueError: VLLM_PORT 'tcp://[fd00::4]:8000' appears to be a URI. This may be caused by".into(),
        "(APIServer pid=1) ValueError: VLLM_PORT 'tcp://172.20.11.9:80' must be a valid integer".into(),
    ]);
    add(
        "nccl.shm-too-small",
        "",
        vec![
            nccl(
                "misc/shmutils.cc:87 NCCL WARN Error: failed to extend /dev/shm/nccl-4Xk9aQ to 33030532 bytes, error: No space left on device (28)",
            ),
            nccl(
                "misc/shmutils.cc:72 NCCL WARN Error while creating shared memory segment /dev/shm/nccl-F9ffgB (size 9637888)",
            ),
            nccl(
                "include/shm.h:48 NCCL WARN Call to posix_fallocate failed : No space left on device",
            ),
            "[rank1]: Last error:\n".trim_end().to_owned()
                + " Error while creating shared memory segment /dev/shm/nccl-4Xk9aQ (size 33030528), error: No space left on device (28)",
        ],
    );
    add(
        "nccl.memlock",
        "",
        vec![
            nccl(
                "misc/ibvwrap.cc:164 NCCL WARN Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory",
            ),
            nccl(
                "misc/ibvwrap.cc:217 NCCL WARN Call to ibv_create_cq failed with error Cannot allocate memory errno 12",
            ),
            nccl(
                "misc/ibvwrap.cc:190 NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory",
            ),
        ],
    );
    add(
        "nccl.duplicate-gpu",
        "",
        vec![
            nccl(
                "init.cc:974 NCCL WARN Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000",
            ),
            nccl(
                "init.cc:1012 NCCL WARN Multiple ranks detected using the same GPU on this node. Set NCCL_MULTI_RANK_GPU_ENABLE=1 to allow",
            ),
            nccl(
                "init.cc:1101 NCCL WARN Multiple Ranks are using the same GPU/Partition. Set NCCL_MULTI_RANK_GPU_ENABLE=1 to allow",
            ),
        ],
    );
    add(
        "nccl.no-interface",
        "",
        vec![
            nccl("bootstrap.cc:126 NCCL WARN Bootstrap : no socket interface found"),
            nccl("transport/net_socket.cc:60 NCCL WARN NET/Socket : no interface found"),
            nccl("transport/net_ib.cc:410 NCCL WARN NET/IB : No IP interface found."),
        ],
    );
    add(
        "nccl.ib-completion-error",
        "",
        vec![
            nccl(
                "transport/net_ib.cc:1295 NCCL WARN NET/IB : Got completion from peer 10.42.3.7<38560> with error 12, opcode 0, len 0, vendor err 129",
            ),
            nccl(
                "transport/net_ib.cc:2471 NCCL WARN NET/IB: Got completion from peer 10.42.1.9<48213> with status=12 opcode=0 len=0 vendor err 129 (Recv) localGid ::ffff:192.168.10.4 remoteGids::ffff:192.168.10.9 hca mlx5_0",
            ),
            nccl(
                "transport/net_ib/p2p.cc:860 NCCL WARN NET/IB: Got completion from peer 10.42.1.9<48213> with status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) vendor_err=129  localGid ::ffff:192.168.10.4 remoteGids::ffff:192.168.10.9 hca mlx5_0",
            ),
        ],
    );
    add(
        "nccl.p2p-refused",
        "",
        vec![
            nccl(
                "graph/paths.cc:396 NCCL WARN P2P is disabled between NVLINK connected GPUs 0 and 1. This should not be the case given their connectivity, and is probably due to a hardware issue.",
            ),
            nccl(
                "NCCL INFO P2P is disabled between connected GPUs 0 and 1. You can repress this message with NCCL_IGNORE_DISABLED_P2P=1.",
            ),
            nccl(
                "graph/paths.cc:331 NCCL WARN P2P is disabled between NVLINK connected GPUs 3 and 2. This should not be the case given their connectivity, and is probably due to a hardware issue. If you still want to proceed, you can set NCCL_IGNORE_DISABLED_P2P=1.",
            ),
        ],
    );
    add(
        "nccl.nvls-failed",
        "",
        vec![
            nccl(
                "transport/nvls.cc:158 NCCL WARN Failed to bind NVLink SHARP (NVLS) Multicast memory of size 2097152 : CUDA error 401 'the operation cannot be performed in the present state'.",
            ),
            nccl(
                "NCCL INFO Failed to bind NVLink SHARP (NVLS) Multicast memory of size 2097152 : CUDA error 401 'the operation cannot be performed in the present state'. Proceeding without NVLS support.",
            ),
            nccl(
                "transport/nvls.cc:247 NCCL WARN Failed to bind NVLink SHARP (NVLS) Multicast memory of size 4194304 : CUDA error 1 'invalid argument'.  Usually caused by a system or configuration error in the Fabric Manager or NVSwitches.",
            ),
        ],
    );
    add(
        "nccl.mnnvl-imex",
        "",
        vec![
            nccl("mnnvl.cc:40 NCCL WARN MNNVL is not supported on this system"),
            nccl(
                "mnnvl.cc:46 NCCL WARN MNNVL (cliqueSize 8) is available but not supported on this system. Check the IMEX configuration.",
            ),
            nccl(
                "mnnvl.cc:60 NCCL WARN MNNVL (cliqueSize 8) is available but not working on this system. Check the IMEX channel configuration (/dev/nvidia-caps-imex-channels). Set NCCL_MNNVL_ENABLE=0 to ignore this issue.",
            ),
        ],
    );
    add(
        "nccl.cuda-failure",
        "",
        vec![
            nccl("init.cc:416 NCCL WARN Cuda failure 802 'system not yet initialized'"),
            nccl("include/alloc.h:231 NCCL WARN Cuda failure 2 'out of memory'"),
            nccl("enqueue.cc:80 NCCL WARN Cuda failure 'unspecified launch failure'"),
        ],
    );
    add(
        "nccl.peer-mapping-exhausted",
        "",
        vec![
            nccl(
                "transport/p2p.cc:210 NCCL WARN failed to peer with device 8(=8b000): 711 peer mapping resources exhausted",
            ),
            nccl("transport/p2p.cc:275 NCCL WARN Cuda failure 'peer mapping resources exhausted'"),
            nccl(
                "transport/p2p.cc:346 NCCL WARN Cuda failure 711 'peer mapping resources exhausted'",
            ),
        ],
    );
    add(
        "nccl.collective-mismatch",
        "",
        vec![
            nccl(
                "transport/net_ib.cc:2100 NCCL WARN NET/IB : req 0/1 tag 7 peer 10.42.1.9<48213> collective mismatch error, local size 16384 remote size 32768",
            ),
            nccl(
                "transport/net_socket.cc:480 NCCL WARN NET/Socket : peer 10.42.1.9<48213> message truncated : receiving 1024 bytes instead of 512. If you believe your socket network is in a healthy state",
            ),
            nccl(
                "transport/net_ib/p2p.cc:301 NCCL WARN NET/IB : req 1/4 tag 9 peer 10.42.3.7<52100> collective mismatch error, local size 1048576 remote size 524288",
            ),
        ],
    );
    add("nccl.library-not-loaded", "", vec![
        "ERROR 09-03 02:21:36 pynccl_wrapper.py:196] Failed to load NCCL library from libnccl.so.2 .It is expected if you are not running on NVIDIA GPUs".into(),
        worker("Failed to load NCCL library from /opt/nccl/libnccl.so.2. It is expected if you are not running on NVIDIA/AMD GPUs."),
        older("Failed to load NCCL library from /usr/lib/x86_64-linux-gnu/libnccl.so.2 .It is expected if you are not running on NVIDIA/AMD GPUs.Otherwise, the nccl library might not exist"),
    ]);
    add("nccl.watchdog-timeout", "", vec![
        "[rank5]:[E118 07:41:30.120394556 ProcessGroupNCCL.cpp:685] [Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, NumelIn=16032, NumelOut=0, Timeout(ms)=600000) ran for 600089 milliseconds before timing out.".into(),
        "[rank2]:[E912 04:10:07.110022334 ProcessGroupNCCL.cpp:621] [PG ID 0 PG GUID 0(default_pg) Rank 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600012 milliseconds before timing out.".into(),
        "[rank0]:[E520 11:02:17.330024871 ProcessGroupNCCL.cpp:690] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1201, OpType=_ALLGATHER_BASE, NumelIn=4096, NumelOut=32768, Timeout(ms)=1800000) ran for 1800034 milliseconds before timing out.".into(),
    ]);
    add(
        "gpu.foreign-memory",
        "",
        vec![
            worker(
                "ValueError: Free memory on device cuda:1 (19.77/79.10 GiB) on startup is less than desired GPU memory utilization (0.9, 71.19 GiB). Decrease GPU memory utilization",
            ),
            worker(
                "ValueError: Free memory on device (19.77/79.10 GiB) on startup is less than desired GPU memory utilization (0.9, 71.19 GiB). Decrease GPU memory utilization",
            ),
            "(EngineCore_DP0 pid=271) ERROR 05-20 08:06:00 [core.py:708] ValueError: Free memory on device cuda:0 (2.1/139.8 GiB) on startup is less than desired GPU memory utilization (0.92, 128.6 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.".into(),
        ],
    );
    add("gpu.xid", "", vec![
        "[Mon Mar  2 03:10:11 2026] NVRM: Xid (PCI:0000:9b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.".into(),
        worker("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered"),
        worker("torch.AcceleratorError: CUDA error: uncorrectable NVLink error detected during the execution"),
    ]);
    add(
        "nccl.connect-timeout",
        "",
        vec![
            nccl(
                "misc/socket.cc:561 NCCL WARN socketPollConnect: connect to 10.42.3.7<41873> returned Connection timed out, exceeded error retry count after 35 attempts",
            ),
            nccl(
                "misc/socket.cc:424 NCCL WARN Connect to 10.42.3.7<41873> failed : Connection timed out",
            ),
            nccl(
                "misc/socket.cc:483 NCCL WARN socketStartConnect: Connect to 10.42.3.7<41873> failed : No route to host",
            ),
            nccl(
                "include/socket.h:403 NCCL WARN Net : Connect to 10.42.3.7<41873> failed : Connection refused",
            ),
        ],
    );
    all
}

#[test]
fn every_wording_raises_its_finding_on_its_line() {
    let mut wrong = Vec::new();
    for (id, before, line) in cases() {
        assert!(KNOWN.contains(&id), "{id}");
        let text = format!("{before}{line}\n");
        let s = scene(&[("llm-0.log", &text)]);
        let Some(f) = s.findings.iter().find(|f| f.id == id) else {
            wrong.push(format!(
                "{id} not raised by: {line}\n    found {:?}",
                ids(&s)
            ));
            continue;
        };
        let number = u64::try_from(before.lines().count()).unwrap() + 1;
        let Some(Evidence::Line(l)) = f.evidence().first() else {
            wrong.push(format!("{id}: no line: {:?}", f.evidence()));
            continue;
        };
        if l.number != number {
            wrong.push(format!(
                "{id}: line {} instead of {number}: {line}",
                l.number
            ));
        }
        let others: Vec<_> = s
            .findings
            .iter()
            .filter(|g| g.id != id && g.severity >= Severity::Warning && g.consequence_of.is_none())
            .map(|g| g.id)
            .collect();
        if !others.is_empty() {
            wrong.push(format!("{id}: also {others:?} by: {line}"));
        }
        if f.title.is_empty() || f.cause.is_empty() || f.fix.is_empty() || f.key != f.key.trim() {
            wrong.push(format!("{id}: speechless: {f:?}"));
        }
        if !matches!(s.verdict, Verdict::Failed | Verdict::Degraded) {
            wrong.push(format!("{id}: judged {:?}: {line}", s.verdict));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What only looks like trouble.
#[test]
fn lookalikes_raise_nothing() {
    let harmless = [
        // The peer's segment is elsewhere: not a matter of room.
        format!("{NCCL}misc/shmutils.cc:129 NCCL WARN Error while attaching to shared memory segment /dev/shm/nccl- (size 33030528), error: No such file or directory (2)"),
        format!("{NCCL}misc/socket.cc:50 NCCL WARN socketProgress: Connection closed by remote peer llm-1.llm<38122>"),
        format!("{NCCL}NCCL INFO NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin."),
        format!("{NCCL}NCCL INFO NET/IB : No device found."),
        format!("{NCCL}NCCL INFO Failed to open libibverbs.so[.1]"),
        format!("{NCCL}NCCL INFO cuMem host allocations do not appear to be working; falling back to a /dev/shm/ based implementation. This could be due to the container runtime"),
        format!("{NCCL}NCCL INFO [Service thread] Connection closed by localRank 1"),
        format!("{NCCL}NCCL INFO socketPollConnect: connect to 10.42.1.9<41873> returned Connection refused, retrying (3/34) after sleep for 300 msec"),
        format!("{NCCL}NCCL INFO Call to connect returned Connection refused, retrying"),
        "(APIServer pid=1) INFO 11-20 08:06:00 [logger.py:40] Received request chatcmpl-1: prompt: 'why does NCCL WARN Cuda failure 2 out of memory appear? RuntimeError: NCCL error: unhandled system error'".into(),
        "WARNING 11-20 08:06:00 [usage_lib.py:12] PermissionError: [Errno 13] Permission denied: '/.config/vllm'".into(),
        "[W118 07:41:30.120394556 socket.cpp:697] [c10d] The client socket has failed to connect to [vllm-0.vllm]:29501 (errno: 111 - Connection refused).".into(),
        "(EngineCore pid=271) INFO 05-28 14:44:28 [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are hanging".into(),
    ];
    for line in harmless {
        let s = scene(&[("llm-0.log", &format!("{line}\n"))]);
        let loud: Vec<_> = s
            .findings
            .iter()
            .filter(|f| f.severity > Severity::Info)
            .map(|f| f.id)
            .collect();
        assert!(loud.is_empty(), "{loud:?} by {line}");
    }
}

#[test]
fn allowed_twins_on_one_gpu_are_no_finding() {
    let text = format!(
        "{NCCL}NCCL INFO NCCL_MULTI_RANK_GPU_ENABLE set by environment to 1.\n{NCCL}init.cc:974 NCCL WARN Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000\n"
    );
    assert!(
        !ids(&scene(&[("a.log", &text)]))
            .iter()
            .any(|(id, _)| *id == "nccl.duplicate-gpu")
    );
}
