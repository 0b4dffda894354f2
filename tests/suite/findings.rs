//! Findings: each is raised on the right line whatever the wording, and healthy logs raise none.
//!
//! Every line is composed from the log grammar.

use std::sync::Arc;

use ncclscope::model::event::{
    Condition, ContainerState, ContainerView, Event, Feed, KubeEvent, LogBlock, PodEvent, PodView,
    Session, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::KNOWN;
use ncclscope::rules::findings::fix::sh;
use ncclscope::rules::scene::{Confidence, Evidence, Finding, Scene, Severity, Verdict};

fn send(model: &mut Model, seq: &mut u64, event: Event) {
    *seq += 1;
    update(
        model,
        Stamped {
            seq: *seq,
            at: 0,
            event,
        },
    );
}

fn feed(model: &mut Model, seq: &mut u64, sources: &[(&str, &str)]) {
    for (i, (name, text)) in sources.iter().enumerate() {
        let id = SourceId(u32::try_from(i).unwrap());
        let info = SourceInfo {
            name: (*name).into(),
            container: None,
            previous: false,
            started: None,
        };
        send(model, seq, Event::Source(SourceEvent::Opened(id, info)));
        let block = Arc::new(Block::new(1, text.as_bytes().to_vec()));
        send(model, seq, Event::Log(LogBlock { source: id, block }));
        send(
            model,
            seq,
            Event::Source(SourceEvent::Ended { id, why: None }),
        );
    }
}

fn scene(sources: &[(&str, &str)]) -> Scene {
    let (mut model, mut seq) = (Model::default(), 0);
    feed(&mut model, &mut seq, sources);
    Scene::of(&model)
}

fn find<'a>(s: &'a Scene, id: &str) -> &'a Finding {
    s.findings
        .iter()
        .find(|f| f.id == id)
        .unwrap_or_else(|| panic!("no {id} among {:?}: {}", ids(s), s.summary))
}

fn ids(s: &Scene) -> Vec<(&str, Severity)> {
    s.findings.iter().map(|f| (f.id, f.severity)).collect()
}

fn lines(f: &Finding) -> Vec<String> {
    f.evidence()
        .iter()
        .map(|e| match e {
            Evidence::Line(l) => l.text.to_string(),
            Evidence::Object(t) | Evidence::Sample(t) | Evidence::Check(t) => t.clone(),
        })
        .collect()
}

const NCCL: &str = "llm-0:211:300 [1] ";
const WORKER: &str = "(Worker_TP1 pid=212) ERROR 11-20 08:06:00 [multiproc_executor.py:703] ";
const LOADING: &str = "(Worker_TP1 pid=212) INFO 11-20 08:05:00 [gpu_model_runner.py:2602] Starting to load model /models/q...\n";
const GRAPHS: &str = "(Worker_TP1 pid=212) Capturing CUDA graphs (decode, FULL):   3%|▎         | 1/35 [00:00<00:12,  2.71it/s]\n";

/// Id, what stands before, and the line that must be its evidence, in up to three wordings each.
fn cases() -> Vec<(&'static str, String, String)> {
    let nccl = |t: &str| format!("{NCCL}{t}");
    let worker = |t: &str| format!("{WORKER}{t}");
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
    ]);
    add("vllm.rendezvous-timeout", "", vec![
        worker("torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 8/16 clients joined."),
        "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to (10.42.3.7, 29501).".into(),
        "RuntimeError: Did not receive response from front-end process within 5 minutes".into(),
    ]);
    add("vllm.gloo-mesh", "", vec![
        worker("RuntimeError: Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"),
        "RuntimeError: Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:150] timeout".into(),
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
        ],
    );
    add("nccl.library-not-loaded", "", vec![
        "ERROR 09-03 02:21:36 pynccl_wrapper.py:196] Failed to load NCCL library from libnccl.so.2 .It is expected if you are not running on NVIDIA GPUs".into(),
        worker("Failed to load NCCL library from /opt/nccl/libnccl.so.2. It is expected if you are not running on NVIDIA/AMD GPUs."),
    ]);
    add("nccl.watchdog-timeout", "", vec![
        "[rank5]:[E118 07:41:30.120394556 ProcessGroupNCCL.cpp:685] [Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, NumelIn=16032, NumelOut=0, Timeout(ms)=600000) ran for 600089 milliseconds before timing out.".into(),
        "[rank2]:[E912 04:10:07.110022334 ProcessGroupNCCL.cpp:621] [PG ID 0 PG GUID 0(default_pg) Rank 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600012 milliseconds before timing out.".into(),
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

/// The same failure on the same host once; its fix can be pasted with the number that the log gives.
#[test]
fn fixes_are_filled_and_quoted() {
    let line = "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.41 GiB). Based on the available memory, the estimated maximum model length is 77088. Try";
    let s = scene(&[("a.log", &format!("{line}\n"))]);
    let f = find(&s, "vllm.kv-cache-too-small");
    assert!(
        f.fix.iter().any(|x| x.starts_with("--max-model-len=77088")),
        "{:?}",
        f.fix
    );
    assert_eq!(sh("llm-0"), "llm-0");
    assert_eq!(sh("a b; rm -rf /"), "'a b; rm -rf /'");
    assert_eq!(sh("it's"), r"'it'\''s'");
    assert_eq!(sh("$(reboot)\n`x`"), "'$(reboot)?`x`'");
    assert_eq!(sh(""), "''");
    assert_eq!(sh("--all"), "'--all'");
}

/// A hostile path in the log reaches the pasted line only inside quotes.
#[test]
fn hostile_values_are_quoted_in_fixes() {
    let s = scene(&[(
        "a.log",
        "OSError: Can't load tokenizer for '/models/$(reboot); x'. If you were trying\n",
    )]);
    let f = find(&s, "vllm.tokenizer-missing");
    assert!(
        f.fix
            .iter()
            .any(|x| x.contains("ls -l '/models/$(reboot); x'")),
        "{:?}",
        f.fix
    );
}

fn stamped(second: u32, text: &str) -> String {
    format!(
        "2026-03-02T03:{:02}:{:02}.000000000Z {text}\n",
        10 + second / 60,
        second % 60
    )
}

/// One dead rank makes every other rank complain: one root, the rest beneath it.
#[test]
fn a_dead_rank_is_the_root_of_what_the_others_say() {
    let dead = stamped(
        0,
        "[llm-0:733 :0:733] Caught signal 11 (Segmentation fault: address not mapped to object at address 0x8)",
    ) + &stamped(
        1,
        "(EngineCore pid=150) ERROR 03-02 03:10:01 [multiproc_executor.py:314] Worker proc VllmWorker-3 died unexpectedly (exit code: -11), shutting down executor.",
    );
    let peer = stamped(
        3,
        "llm-1:90:400 [0] misc/socket.cc:50 NCCL WARN socketProgress: Connection closed by remote peer 10.42.3.7<38122>",
    ) + &stamped(
        4,
        "(Worker_TP1 pid=90) ERROR 03-02 03:10:04 [multiproc_executor.py:703] WorkerProc hit an exception.",
    ) + &stamped(
        700,
        "[rank5]:[E302 03:21:40.120394556 ProcessGroupNCCL.cpp:685] [Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, NumelIn=16032, NumelOut=0, Timeout(ms)=600000) ran for 600021 milliseconds before timing out.",
    );
    let (mut model, mut seq) = (Model::default(), 0);
    // One workload, as discovery would say.
    let session = Session {
        feed: Feed::Demo,
        ..Session::default()
    };
    send(&mut model, &mut seq, Event::Session(session));
    feed(
        &mut model,
        &mut seq,
        &[("llm-0.log", &dead), ("llm-1.log", &peer)],
    );
    let s = Scene::of(&model);
    let roots: Vec<_> = s
        .findings
        .iter()
        .filter(|f| f.consequence_of.is_none())
        .map(|f| f.key.as_str())
        .collect();
    assert_eq!(
        roots.len(),
        1,
        "{:?}",
        s.findings
            .iter()
            .map(|f| (&f.key, &f.consequence_of))
            .collect::<Vec<_>>()
    );
    let root = &s.findings[0];
    assert_eq!(root.id, "vllm.worker-died");
    assert!(
        lines(root)[0].contains("Caught signal 11"),
        "{:?}",
        lines(root)
    );
    assert!(
        s.findings
            .iter()
            .skip(1)
            .all(|f| f.consequence_of.as_ref() == Some(&root.key))
    );
    assert_eq!(s.verdict, Verdict::Failed);
}

#[test]
fn two_faults_at_once_are_both_roots() {
    let a = stamped(
        0,
        "OSError: Can't load tokenizer for '/models/q'. If you were trying to load it",
    );
    let b = stamped(
        1,
        &format!(
            "{NCCL}misc/shmutils.cc:87 NCCL WARN Error: failed to extend /dev/shm/nccl-4Xk9aQ to 33030532 bytes, error: No space left on device (28)"
        ),
    );
    let s = scene(&[("a.log", &a), ("b.log", &b)]);
    for id in ["vllm.tokenizer-missing", "nccl.shm-too-small"] {
        assert_eq!(find(&s, id).consequence_of, None, "{id}");
    }
}

/// The rank that says nothing is the suspect, not those that report.
#[test]
fn the_watchdog_names_the_silent_rank() {
    let rank = |r: u32| {
        format!(
            "(Worker_TP{r} pid=2{r}) INFO 11-20 08:05:00 [parallel_state.py:1208] rank {r} in world size 4 is assigned as DP rank 0, PP rank 0, TP rank {r}, EP rank {r}\n"
        )
    };
    let fired = |r: u32| {
        format!(
            "[rank{r}]:[E302 03:21:20.120394556 ProcessGroupNCCL.cpp:685] [Rank {r}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, NumelIn=16032, NumelOut=0, Timeout(ms)=600000) ran for 600021 milliseconds before timing out.\n"
        )
    };
    let text: String = (0..4).map(rank).collect::<String>() + &[0, 1, 3].map(fired).concat();
    let s = scene(&[("llm-0.log", &text)]);
    let f = find(&s, "nccl.watchdog-timeout");
    assert_eq!(f.ranks, [2], "{}", f.title);
    assert!(
        f.title.starts_with("rank 2 did not come to GATHER"),
        "{}",
        f.title
    );
}

/// Three ranks went on, one stands still: named, yet never more than likely; within a buffer nothing is said.
#[test]
fn a_rank_behind_in_collectives_is_suspected() {
    let job = |behind: usize| {
        let mut text = healthy("2.27.7", 4, "");
        for rank in 0..4 {
            let calls = if rank == 2 { 100 - behind } else { 100 };
            for n in 0..calls {
                text.push_str(&format!("llm-0:{0}:{0} [{rank}] NCCL INFO AllReduce: opCount 0 sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count {1} datatype 9 op 0 root 0 comm 0x55aa0010 [nranks=4] stream 0x55cf1e20\n", 200 + rank, 4096 + n));
            }
        }
        scene(&[("a.log", &text)])
    };
    let s = job(60);
    let f = find(&s, "nccl.rank-stuck");
    assert_eq!(f.ranks, [2]);
    assert!(f.confidence <= Confidence::Likely);
    assert!(f.title.contains("call 40 of 100"), "{}", f.title);
    assert!(!ids(&job(20)).iter().any(|(id, _)| *id == "nccl.rank-stuck"));
}

/// Without its stage an exhausted memory is only a suspicion.
#[test]
fn doubt_is_said() {
    let s = scene(&[(
        "a.log",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB. GPU 3 has a total capacity of 79.10 GiB of which 211.25 MiB is free.\n",
    )]);
    assert_eq!(
        find(&s, "vllm.cuda-oom-loading").confidence,
        Confidence::Possible
    );
    let s = scene(&[(
        "a.log",
        &format!(
            "{NCCL}misc/shmutils.cc:72 NCCL WARN Error while creating shared memory segment /dev/shm/nccl-F9ffgB (size 9637888)\n"
        ),
    )]);
    assert_eq!(
        find(&s, "nccl.shm-too-small").confidence,
        Confidence::Likely
    );
}

fn pod(name: &str) -> PodView {
    PodView {
        namespace: "prod".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        phase: "Running".into(),
        node: Some(format!("node-{name}")),
        containers: vec![ContainerView {
            name: "vllm".into(),
            image: "vllm/vllm-openai:v0.11.2".into(),
            image_id: Some(format!("vllm/vllm-openai@sha256:{}", "a".repeat(64))),
            gpus: 8,
            ready: true,
            state: ContainerState::Running { since: Some(1) },
            ..ContainerView::default()
        }],
        ..PodView::default()
    }
}

fn cluster(pods: Vec<PodView>, events: Vec<KubeEvent>) -> Scene {
    let (mut model, mut seq) = (Model::default(), 0);
    let session = Session {
        feed: Feed::Cluster,
        ..Session::default()
    };
    send(&mut model, &mut seq, Event::Session(session));
    for p in pods {
        send(
            &mut model,
            &mut seq,
            Event::Pod(PodEvent::Upsert(Box::new(p))),
        );
    }
    for e in events {
        send(&mut model, &mut seq, Event::KubeEvent(e));
    }
    Scene::of(&model)
}

fn terminated(code: i32, reason: &str) -> ContainerState {
    ContainerState::Terminated {
        exit_code: code,
        signal: None,
        reason: Some(reason.into()),
        message: None,
        started: Some(1),
        finished: Some(2),
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState::Waiting {
        reason: reason.into(),
        message: Some(message.into()),
    }
}

#[test]
fn pods_tell_why_they_do_not_run() {
    let mut pending = pod("llm-0");
    pending.phase = "Pending".into();
    pending.node = None;
    pending.conditions = vec![Condition {
        kind: "PodScheduled".into(),
        status: "False".into(),
        reason: Some("Unschedulable".into()),
        message: Some("0/9 nodes are available: 1 node(s) had untolerated taint(s), 8 Insufficient nvidia.com/gpu. preemption: 0/9 nodes are available: 9 No preemption victims found for incoming pod.".into()),
        since: None,
    }];
    let mut image = pod("llm-1");
    image.phase = "Pending".into();
    image.containers[0].state = waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"x\": unauthorized: access denied",
    );
    let mut loops = pod("llm-2");
    loops.containers[0].state = waiting("CrashLoopBackOff", "back-off 40s");
    loops.containers[0].last_state = terminated(1, "Error");
    loops.containers[0].restarts = 3;
    let mut oom = pod("llm-3");
    oom.containers[0].last_state = terminated(137, "OOMKilled");
    oom.containers[0].restarts = 1;
    oom.containers[0]
        .resources
        .insert("limits.memory".into(), "64Gi".into());
    let mut evicted = pod("llm-4");
    evicted.phase = "Failed".into();
    evicted.reason = Some("Evicted".into());
    evicted.message = Some("The node was low on resource: ephemeral-storage.".into());
    let mut skewed = pod("llm-5");
    skewed.containers[0].image_id = Some(format!("vllm/vllm-openai@sha256:{}", "b".repeat(64)));
    let probed = pod("llm-6");
    let killing = KubeEvent {
        uid: "e1".into(),
        namespace: "prod".into(),
        kind: "Pod".into(),
        object: "llm-6".into(),
        reason: "Killing".into(),
        message: "Container vllm failed liveness probe, will be restarted".into(),
        count: 1,
        ..KubeEvent::default()
    };
    for (id, p, events, words) in [
        (
            "pod.pending",
            pending,
            vec![],
            "8 Insufficient nvidia.com/gpu",
        ),
        ("pod.image", image, vec![], "pull secret"),
        (
            "pod.crashloop",
            loops,
            vec![],
            "3 restarts with exit code 1",
        ),
        ("pod.oom-killed", oom, vec![], "64Gi"),
        ("pod.evicted", evicted, vec![], "Evicted"),
        ("pod.image-skew", skewed, vec![], "another image"),
        ("pod.probe-kill", probed, vec![killing], "liveness probe"),
    ] {
        let name = p.name.clone();
        let s = cluster(vec![p, pod("llm-8"), pod("llm-9")], events);
        let loud: Vec<_> = s
            .findings
            .iter()
            .filter(|f| f.severity > Severity::Info)
            .map(|f| f.id)
            .collect();
        assert_eq!(loud, [id]);
        let f = find(&s, id);
        assert!(f.title.contains(words), "{id}: {}", f.title);
        assert_eq!(f.pods, [name]);
        assert!(
            f.fix
                .iter()
                .any(|x| x.contains("prod") || x.contains("spec")),
            "{:?}",
            f.fix
        );
    }
}

#[test]
fn pods_of_one_node_are_told_not_blamed() {
    let (mut a, mut b) = (pod("llm-0"), pod("llm-1"));
    a.node = Some("n1".into());
    b.node = Some("n1".into());
    let s = cluster(vec![a, b], vec![]);
    assert_eq!(ids(&s), [("nccl.same-node-pods", Severity::Info)]);
}

/// Healthy logs: every version range and prefix, a part of a bigger job, RDMA off on purpose.
#[test]
fn healthy_logs_raise_nothing_above_info() {
    let mut n = 0;
    let mut quiet = |name: &str, sources: &[(&str, &str)]| {
        let s = scene(sources);
        let loud: Vec<_> = s
            .findings
            .iter()
            .filter(|f| f.severity > Severity::Info)
            .map(|f| (f.id, lines(f)))
            .collect();
        assert!(loud.is_empty(), "{name}: {loud:#?}");
        n += 1;
    };
    for version in [
        "2.18.3", "2.19.4", "2.20.5", "2.21.5", "2.22.3", "2.23.4", "2.25.1", "2.26.2", "2.27.7",
        "2.28.9", "2.29.7", "2.30.7",
    ] {
        let text = healthy(version, 4, "");
        quiet(version, &[("a.log", &text)]);
    }
    for prefix in [
        "2026-03-02T03:10:11.000000000Z ",
        "2026-03-02T03:10:11.000000000Z stdout F ",
        "[pod/llm-0/vllm] ",
        "llm-0 vllm ",
        "(EngineCore_DP0 pid=150) (Worker_TP0 pid=211) ",
        "(RayWorkerWrapper pid=211, ip=10.42.0.7) ",
        "[1,0]<stdout>:",
        "[default0]:",
    ] {
        quiet(prefix, &[("a.log", &healthy("2.27.7", 4, prefix))]);
    }
    // One pod's log of a bigger job.
    let part: String = healthy("2.27.7", 8, "")
        .lines()
        .filter(|l| l.starts_with("llm-0:20") && !l.contains(":207:"))
        .map(|l| format!("{l}\n"))
        .collect();
    quiet("part of a job", &[("a.log", &part)]);
    let text = healthy("2.27.7", 2, "");
    let off =
        format!("llm-0:200:200 [0] NCCL INFO NCCL_IB_DISABLE set by environment to 1.\n{text}");
    quiet("RDMA off on purpose", &[("a.log", &off)]);
    let chat = format!(
        "{text}(APIServer pid=1) INFO 11-20 08:06:00 [logger.py:40] Received request chatcmpl-1: prompt: 'llm-0:9:9 [0] NCCL WARN Cuda failure 2 \\'out of memory\\'', params: SamplingParams(n=1)\n"
    );
    quiet("chat that quotes NCCL", &[("a.log", &chat)]);
    let ended = format!(
        "{text}llm-0:200:200 [0] NCCL INFO comm 0x55aa0010 rank 0 nranks 2 cudaDev 0 busId b000 - Destroy COMPLETE\nllm-0:201:201 [1] NCCL INFO comm 0x55aa0010 rank 1 nranks 2 cudaDev 1 busId 1b000 - Destroy COMPLETE\n"
    );
    quiet("destroyed in order", &[("a.log", &ended)]);
    assert!(n >= 20, "{n}");
}

/// A healthy job inside one host as a version prints it.
fn healthy(version: &str, n: u32, prefix: &str) -> String {
    let mut out = String::new();
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    for r in 0..n {
        let h = format!("{prefix}llm-0:{0}:{0} [{r}] NCCL INFO ", 200 + r);
        let next = (r + 1) % n;
        let func = if minor >= 21 {
            "ncclCommInitRank comm"
        } else {
            "comm"
        };
        let head = format!(
            "{func} 0x55aa0010 rank {r} nranks {n} cudaDev {r} nvmlDev {r} busId {r}b000 commId 0xc0ffee123456789a"
        );
        for line in [
            format!("NCCL version {version}+cuda12.8"),
            "cudaDriverVersion 12080".into(),
            "Bootstrap : Using eth0:10.42.0.17<0>".into(),
            "NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin.".into(),
            "Failed to open libibverbs.so[.1]".into(),
            "NET/Socket : Using [0]eth0:10.42.0.17<0>".into(),
            "Using network Socket".into(),
            format!("{head} - Init START"),
            format!("Channel 00/0 : {r}[{r}] -> {next}[{next}] via P2P/CUMEM/read"),
            "Connected all rings".into(),
            "Connected all trees".into(),
            format!("{head} - Init COMPLETE"),
        ] {
            out.push_str(&h);
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

/// Whatever can be raised can be looked up, and nothing is told twice.
#[test]
fn every_finding_is_explained() {
    use ncclscope::rules::explain::{FINDINGS, explain, page};
    for id in KNOWN {
        let e = explain(id).unwrap_or_else(|| panic!("{id} is not explained"));
        assert!(page(e).contains(e.fix));
    }
    assert!(FINDINGS.is_sorted_by(|a, b| a.id < b.id));
    assert!(KNOWN.is_sorted());
}
