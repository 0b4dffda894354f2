//! The words by which failures are known.

use super::super::scan::{Cur, after, has, some_text, text};
use super::super::{Read, VllmFact};
use super::around::{
    address, connect_error, dp_message, hardware, name_resolution, nccl_result, permission, quoted,
    shm, size, tokenizer, torch_nccl, weights_mismatch,
};
use super::{FaultKind, fault};

macro_rules! plain {
    ($anchor:literal, $kind:ident) => {
        ($anchor, |h| fault(h, FaultKind::$kind))
    };
}

pub(in crate::parse::vllm) const ANCHORS: &[(&str, Read)] = &[
    ("Traceback (most recent call last)", |_| {
        Some(VllmFact::Traceback)
    }),
    // 3.1 model files and offline mode
    ("HTTPSConnectionPool(host='", |h| {
        let host = some_text(h.cur().while_(|b| b != b'\''));
        (has(h.after, "Max retries exceeded") || has(h.after, "Read timed out"))
            .then(|| fault(h, FaultKind::HubUnreachable { host }))?
    }),
    ("ConnectError", connect_error),
    ("ConnectTimeout", connect_error),
    ("NameResolutionError", connect_error),
    ("ConnectionError", connect_error),
    plain!("LocalEntryNotFoundError", NotCached),
    plain!(
        "Cannot find an appropriate cached snapshot folder",
        NotCached
    ),
    plain!("outgoing traffic has been disabled", NotCached),
    ("OfflineModeIsEnabled: Cannot reach ", |h| {
        let w = h.cur().word()?;
        let url = some_text(w.strip_suffix(b":").unwrap_or(w));
        fault(h, FaultKind::OfflineHit { url })
    }),
    ("Error retrieving ", |h| {
        let mut c = after(h.after, ", retrying ")?;
        let i = c.uint()?;
        c.skip(" of ")?;
        let n = c.uint()?;
        fault(h, FaultKind::HubRetry { tries: (i, n) })
    }),
    plain!(
        "Invalid repository ID or local directory specified",
        NoConfig
    ),
    plain!(
        "Could not detect config format for no config file found",
        NoConfig
    ),
    ("HFValidationError: Repo id must be", |h| {
        let id = after(h.after, ": ").and_then(|mut c| quoted(&mut c));
        fault(h, FaultKind::BadRepoId { id })
    }),
    plain!("GatedRepoError", Unauthorised),
    plain!("Cannot access gated repo", Unauthorised),
    plain!("RepositoryNotFoundError", Unauthorised),
    plain!("401 Client Error", Unauthorised),
    plain!("403 Client Error", Unauthorised),
    ("Cannot find any model weights with ", |h| {
        let path = text(h.after).trim_matches(['`', '\'', '.', '"']).to_owned();
        fault(h, FaultKind::NoWeights { path })
    }),
    ("Weight files referenced in index but missing: ", |h| {
        fault(
            h,
            FaultKind::ShardsMissing {
                files: text(h.after),
            },
        )
    }),
    plain!(
        "Following weights were not initialized from checkpoint",
        WeightsMissing
    ),
    ("SafetensorError: ", |h| {
        let why = [
            "MetadataIncompleteBuffer",
            "HeaderTooLarge",
            "HeaderTooSmall",
            "InvalidHeader",
            "incomplete metadata",
            "header too large",
            "invalid header",
        ]
        .into_iter()
        .find(|w| has(h.after, w))?;
        fault(h, FaultKind::ShardCorrupt { why: why.into() })
    }),
    ("Can't load tokenizer for ", |h| {
        let path = quoted(&mut h.cur());
        fault(h, FaultKind::TokenizerMissing { path })
    }),
    ("Can't load the configuration of ", |h| {
        let path = quoted(&mut h.cur());
        fault(h, FaultKind::TokenizerMissing { path })
    }),
    ("Couldn't instantiate the backend tokenizer", tokenizer),
    ("Unrecognized processing ", tokenizer),
    ("Unrecognized image processor ", tokenizer),
    ("Unrecognized model ", tokenizer),
    plain!(
        "As of transformers v4.44, default chat template",
        ChatTemplate
    ),
    plain!("trust_remote_code=True", RemoteCode),
    plain!("contains custom code which must be executed", RemoteCode),
    ("Model architectures [", |h| {
        (has(h.after, "are not supported") || has(h.after, "failed to be inspected"))
            .then(|| fault(h, FaultKind::Architecture))?
    }),
    plain!("does not recognize this architecture", Architecture),
    plain!("There is no module or parameter named", WeightsMismatch),
    ("Attempted to load weight ", |h| {
        has(h.after, "into parameter").then(|| fault(h, FaultKind::WeightsMismatch))?
    }),
    ("size mismatch", weights_mismatch),
    ("KeyError: 'model.", weights_mismatch),
    ("KeyError: 'layers.", weights_mismatch),
    // 3.2 permissions
    ("getpwuid(): uid not found: ", |h| {
        fault(
            h,
            FaultKind::NoPasswd {
                uid: h.cur().uint()?,
            },
        )
    }),
    ("[Errno 13] Permission denied", |h| permission(h, false)),
    ("[Errno 30] Read-only file system", |h| permission(h, true)),
    ("[Errno 28] No space left on device", |h| {
        let mut c = h.cur();
        let path = c.skip(": ").and_then(|()| quoted(&mut c));
        if path.as_deref().is_some_and(|p| p.starts_with("/dev/shm")) {
            return fault(h, FaultKind::Shm { attaching: false });
        }
        fault(h, FaultKind::DiskFull { path })
    }),
    // 3.3 GPU, driver, platform
    plain!("Failed to infer device type", NoGpu),
    plain!("No CUDA GPUs are available", NoGpu),
    plain!("no CUDA-capable device is detected", NoGpu),
    plain!("NVML Shared Library Not Found", NvmlMissing),
    plain!("NVMLError_LibraryNotFound", NvmlMissing),
    plain!(
        "CUDA driver version is insufficient for CUDA runtime version",
        DriverOld
    ),
    plain!("NVIDIA driver on your system is too old", DriverOld),
    plain!("cudaErrorInsufficientDriver", DriverOld),
    plain!("Error 803:", DriverOld),
    plain!("Error 804:", DriverOld),
    plain!(
        "no kernel image is available for execution on the device",
        NoKernel
    ),
    plain!(
        "is not compatible with the current PyTorch installation",
        NoKernel
    ),
    plain!("PTX was compiled with an unsupported toolchain", NoKernel),
    plain!("FlashAttention only supports", NoKernel),
    plain!("undefined symbol: ", NoKernel),
    plain!("Bfloat16 is only supported on GPUs", Dtype),
    plain!("No valid attention backend found", AttentionBackend),
    ("Selected backend ", |h| {
        has(h.after, " is not valid").then(|| fault(h, FaultKind::AttentionBackend))?
    }),
    ("uncorrectable NVLink error", hardware),
    ("uncorrectable ECC error", hardware),
    ("CUDA error: unspecified launch failure", hardware),
    ("CUDA error: device-side assert", hardware),
    ("CUDA error: misaligned address", hardware),
    ("NVRM: Xid", |h| {
        let xid = after(h.after, "): ").and_then(|mut c| c.uint());
        fault(h, FaultKind::Hardware { xid })
    }),
    plain!("system not yet initialized", FabricManager),
    plain!("cudaErrorSystemNotReady", FabricManager),
    plain!("Error 802", FabricManager),
    plain!("HAMI-core ERROR", Interposer),
    plain!("Illegal device id: ", Interposer),
    plain!("!! Segfault encountered", Interposer),
    // 3.4 memory
    ("Free memory on device ", |h| {
        let mut c = h.cur();
        let device = if c.rest.starts_with(b"(") {
            None
        } else {
            let w = text(c.word()?);
            c.blanks();
            Some(w)
        };
        c.skip("(")?;
        let free = c.float()?;
        c.skip("/")?;
        let total = c.float()?;
        c.seek("less than desired GPU memory utilization (")?;
        let utilization = c.float()?;
        fault(
            h,
            FaultKind::NotEnoughFree {
                device,
                free,
                total,
                utilization,
            },
        )
    }),
    ("CUDA out of memory", |h| {
        let wanted = after(h.after, "Tried to allocate ").and_then(|mut c| size(&mut c));
        let gpu = after(h.after, " GPU ").and_then(|mut c| c.uint());
        let total = after(h.after, "total capacity of ").and_then(|mut c| size(&mut c));
        let free = after(h.after, "of which ").and_then(|mut c| size(&mut c));
        fault(
            h,
            FaultKind::CudaOom {
                wanted,
                gpu,
                total,
                free,
            },
        )
    }),
    plain!("Failed to load model - not enough GPU memory", LoadOom),
    plain!("No available memory for the cache blocks", NoKvBlocks),
    ("max seq len (", |h| {
        let mut c = h.cur();
        let len = c.uint()?;
        if let Some(mut cap) = after(c.rest, "tokens that can be stored in KV cache (") {
            return fault(
                h,
                FaultKind::KvTooSmall {
                    len: Some(len),
                    fits: cap.uint(),
                    need: None,
                    have: None,
                },
            );
        }
        c.skip("), (")?;
        let need = c.float()?;
        c.skip(" GiB KV cache is needed")?;
        fault(
            h,
            FaultKind::KvTooSmall {
                len: Some(len),
                fits: after(c.rest, "estimated maximum model length is ")
                    .and_then(|mut c| c.uint()),
                need: Some(need),
                have: after(c.rest, "available KV cache memory (").and_then(|mut c| c.float()),
            },
        )
    }),
    plain!("Error in memory profiling", ProfileDisturbed),
    // 3.5 parallel configuration
    ("Total number of attention heads (", |h| {
        let mut c = h.cur();
        let heads = c.uint()?;
        c.skip(") must be divisible by tensor parallel size (")?;
        let tp = c.uint()?;
        fault(h, FaultKind::Heads { heads, tp })
    }),
    (" is not divisible by ", |h| {
        let number = h.before().last().is_some_and(u8::is_ascii_digit);
        (number || h.after.starts_with(b"weight quantization") || has(h.after, "group_size"))
            .then(|| fault(h, FaultKind::Sharding))?
    }),
    plain!("Pipeline parallelism is not supported", Sharding),
    (" larger than the number of available GPUs (", |h| {
        let mut before = after(h.before(), "ize (")?;
        let ranks = before.uint()?;
        let gpus = h.cur().uint()?;
        fault(h, FaultKind::WorldSize { ranks, gpus })
    }),
    plain!("DP adjusted local rank ", LocalRank),
    plain!("invalid device ordinal", LocalRank),
    ("local_rank ", |h| {
        let mut c = h.cur();
        c.uint::<u64>()?;
        c.skip(" is out of bounds")?;
        fault(h, FaultKind::LocalRank)
    }),
    (" must be divisible by nnodes", |h| {
        fault(h, FaultKind::Layout)
    }),
    (" must be less than nnodes=", |h| {
        fault(h, FaultKind::Layout)
    }),
    ("world_size", |h| {
        let mut c = h.cur();
        c.while_(|b| b == b' ' || b == b'(' || b == b'=');
        c.uint::<u64>()?;
        c.eat(")");
        (c.eat(" is not equal to") || c.eat(" must be equal to") || c.eat(" must be divisible by"))
            .then(|| fault(h, FaultKind::Layout))?
    }),
    plain!("Offline data parallel mode is not supported", OfflineDp),
    ("this nccl communicator is created to work on ", |h| {
        fault(h, FaultKind::DeviceMismatch)
    }),
    plain!(
        "Expected all tensors to be on the same device",
        DeviceMismatch
    ),
    // 3.6 rendezvous, gloo, host IP
    ("Gloo connectFullMesh failed with ", |h| {
        let why = text(h.after);
        fault(h, FaultKind::GlooMesh { why })
    }),
    ("Timed out waiting ", |h| {
        let mut c = h.cur();
        if c.uint::<u64>().is_some() {
            c.skip("ms for ")?;
            return (c.eat("recv operation") || c.eat("send operation"))
                .then(|| fault(h, FaultKind::GlooPeer { peer: None }))?;
        }
        (c.eat("for engines to send")
            || c.eat("for engine to send")
            || c.eat("for engine core processes to"))
        .then(|| fault(h, FaultKind::ReadyTimeout))?
    }),
    ("Connection closed by peer [", |h| {
        let peer = some_text(h.cur().seek("]")?);
        fault(h, FaultKind::GlooPeer { peer })
    }),
    ("Read error [", |h| {
        let peer = some_text(h.cur().seek("]")?);
        fault(h, FaultKind::GlooPeer { peer })
    }),
    ("client socket has ", |h| {
        let mut c = h.cur();
        let timed_out = if c.eat("timed out after ") {
            c.uint::<u64>()?;
            true
        } else {
            c.skip("failed to connect")?;
            false
        };
        c.seek(" to ")?;
        if timed_out {
            // "while trying to connect to (…)"
            c.eat("connect to ");
        }
        let to = address(&mut c)?;
        fault(h, FaultKind::HeadUnreachable { to, timed_out })
    }),
    ("Timed out after ", |h| {
        let mut c = h.cur();
        let seconds = c.uint()?;
        c.skip(" seconds waiting for clients. ")?;
        let have = c.uint()?;
        c.skip("/")?;
        let want = c.uint()?;
        fault(
            h,
            FaultKind::NotAllJoined {
                have,
                want,
                seconds,
            },
        )
    }),
    ("ait timeout after ", |h| {
        let mut c = h.cur();
        let ms = c.uint()?;
        c.skip("ms, keys: ")?;
        let key = text(c.word()?);
        fault(h, FaultKind::StoreWait { ms, key })
    }),
    ("cannot be retrieved (gai error: ", |h| {
        let name = after(h.before(), "network addresses of (")
            .map(|mut c| c.while_(|b| b != b',' && b != b')'))
            .and_then(some_text);
        fault(h, FaultKind::NameResolution { name })
    }),
    ("Name or service not known", name_resolution),
    ("Temporary failure in name resolution", name_resolution),
    ("nodename nor servname", name_resolution),
    plain!(
        "Failed to get the IP address, using 0.0.0.0 by default",
        IpUnknown
    ),
    plain!("HOST_IP is deprecated and ignored", HostIpIgnored),
    ("Every node should have a unique IP address", |h| {
        let ips = after(h.after, "unique IP addresses {")
            .and_then(|mut c| c.seek("}"))
            .and_then(some_text);
        fault(h, FaultKind::HostIpShared { ips })
    }),
    ("] is setting up NCCL communicator and ", |h| {
        let open = memchr::memrchr(b'[', h.before())?;
        let rank = Cur::new(h.before().get(open + 1..)?).uint()?;
        let root = after(h.after, "ncclUniqueId from [")?.uint()?;
        fault(h, FaultKind::UniqueId { rank, root })
    }),
    // 3.7 NCCL
    ("posix_fallocate failed", shm),
    ("failed to extend /dev/shm/", shm),
    ("Insufficient space in /dev/shm", shm),
    ("from file </dev/shm", shm),
    ("Bus error", shm),
    ("NCCL error in: ", |h| {
        let mut c = h.cur();
        c.word()?;
        c.blanks();
        torch_nccl(h, c)
    }),
    ("NCCL error: ", |h| torch_nccl(h, h.cur())),
    ("ncclUnhandledCudaError", nccl_result),
    ("ncclSystemError", nccl_result),
    ("ncclInternalError", nccl_result),
    ("ncclInvalidUsage", nccl_result),
    ("ncclInvalidArgument", nccl_result),
    ("ncclRemoteError", nccl_result),
    ("Last error:", |h| {
        let what = some_text(h.after);
        fault(h, FaultKind::LastError { what })
    }),
    ("Failed to load NCCL library from ", |h| {
        // The sentence ends with the name.
        let word = h.cur().word()?;
        let file = text(word.strip_suffix(b".").unwrap_or(word));
        fault(h, FaultKind::NcclLibrary { file })
    }),
    ("Caught signal ", |h| {
        let mut c = h.cur();
        c.uint::<u32>()?;
        c.skip(" (")?;
        let what = text(c.while_(|b| b != b':' && b != b')'));
        fault(h, FaultKind::Crash { what })
    }),
    ("*** SIG", |h| {
        let mut c = h.cur();
        let name = c.while_(|b| b.is_ascii_uppercase());
        c.skip(" received at time=")?;
        let what = format!("SIG{}", text(name));
        fault(h, FaultKind::Crash { what })
    }),
    (": got completion with error", |h| {
        has(h.before(), "mlx5").then(|| {
            fault(
                h,
                FaultKind::Crash {
                    what: "RDMA completion error".into(),
                },
            )
        })?
    }),
    ("Fatal Python error: ", |h| {
        let what = text(h.after);
        fault(h, FaultKind::Crash { what })
    }),
    // 3.8 graphs, kernels
    ("Cuda error ", |h| {
        let mut c = after(h.after, "custom_all_reduce.cuh:")?;
        c.uint::<u32>()?;
        c.blanks();
        let error = quoted(&mut c)?;
        fault(h, FaultKind::CustomAllReduce { error })
    }),
    plain!("an illegal memory access was encountered", IllegalAccess),
    plain!("cudaErrorIllegalAddress", IllegalAccess),
    plain!("CUDA_ERROR_ILLEGAL_ADDRESS", IllegalAccess),
    plain!("operation not permitted when stream is capturing", Capture),
    plain!(
        "operation failed due to a previous error during capture",
        Capture
    ),
    plain!("CUDA graph capturing detected at an inappropriate", Capture),
    plain!("BackendCompilerFailed", Compiler),
    plain!("InductorError", Compiler),
    plain!("ptxas fatal", Compiler),
    plain!("Failed to find C compiler", Compiler),
    ("nvcc", |h| {
        has(h.after, "not found").then(|| fault(h, FaultKind::Compiler))?
    }),
    // 3.9 executor, engine, ports
    ("Worker proc ", |h| {
        let mut c = h.cur();
        let name = text(c.word()?);
        c.skip(" died unexpectedly")?;
        let code = c
            .skip(" (exit code: ")
            .and_then(|()| c.int())
            .and_then(|n| i32::try_from(n).ok());
        let rank = name.rsplit('-').next().and_then(|n| n.parse().ok());
        fault(
            h,
            FaultKind::WorkerDied {
                name,
                rank,
                pid: None,
                code,
            },
        )
    }),
    (" died, exit code: ", |h| {
        let mut c = after(h.before(), "Worker ")?;
        let name = text(c.word()?);
        c.skip(" pid ")?;
        let pid = c.uint()?;
        let code = h.cur().int().and_then(|n| i32::try_from(n).ok());
        fault(
            h,
            FaultKind::WorkerDied {
                name,
                rank: None,
                pid: Some(pid),
                code,
            },
        )
    }),
    plain!("WorkerProc failed to start", WorkerStart),
    plain!(
        "WorkerProc initialization failed due to an exception",
        WorkerStart
    ),
    plain!("WorkerProc hit an exception", WorkerStart),
    plain!("Worker failed with error '", WorkerStart),
    ("EngineCore failed to start", |h| {
        fault(h, FaultKind::EngineStart { failed: None })
    }),
    ("Engine core initialization failed", |h| {
        let failed = after(h.after, "Failed core proc(s): ")
            .map(|c| c.rest)
            .and_then(some_text);
        fault(h, FaultKind::EngineStart { failed })
    }),
    ("Engine core proc", |h| {
        let mut c = h.cur();
        c.eat("ess");
        c.skip(" ")?;
        let failed = some_text(c.word()?);
        c.skip(" died unexpectedly")?;
        fault(h, FaultKind::EngineStart { failed })
    }),
    (
        "Did not receive response from front-end process within ",
        |h| {
            fault(
                h,
                FaultKind::DpHandshake {
                    minutes: h.cur().uint()?,
                },
            )
        },
    ),
    ("Remote engine ", |h| {
        (has(h.after, " must use --headless") || has(h.after, " must not use --headless"))
            .then(|| fault(h, FaultKind::DpRoles))?
    }),
    plain!(
        "Message from engine with unexpected data parallel rank: ",
        DpRoles
    ),
    plain!("Configuration mismatch detected for engine", DpRoles),
    (" message from local engine", dp_message),
    (" message from remote engine", dp_message),
    plain!("EADDRINUSE", PortInUse),
    plain!("Address already in use", PortInUse),
    plain!("address already in use", PortInUse),
    plain!("[Errno 98]", PortInUse),
    ("VLLM_PORT '", |h| {
        let mut c = h.cur();
        let value = text(c.seek("'")?);
        (c.eat(" appears to be a URI") || c.eat(" must be a valid integer"))
            .then(|| fault(h, FaultKind::PortVariable { value }))?
    }),
    ("RPC call to ", |h| {
        let mut c = h.cur();
        let method = text(c.word()?);
        c.skip(" timed out")?;
        fault(h, FaultKind::RpcTimeout { method })
    }),
    plain!("Engine iteration timed out", EngineDead),
    plain!("EngineCore encountered a", EngineDead),
    plain!("EngineCore hit an exception", EngineDead),
    plain!("Got fatal signal from worker process", EngineDead),
    plain!("ocExecutor got fatal signal", EngineDead),
    plain!("AsyncEngineDeadError", EngineDead),
    plain!("MQEngineDeadError", EngineDead),
    plain!("EngineDeadError", EngineDead),
    // 3.10 Ray
    ("Cannot provide a placement group ", |h| {
        let mut c = h.cur();
        let gpus = c.skip("requiring ").and_then(|()| c.uint());
        fault(h, FaultKind::RayGaveUp { gpus })
    }),
    ("Current node has no ", |h| {
        let mut c = h.cur();
        c.name()?;
        c.skip(" available")?;
        fault(h, FaultKind::RayDriverNoGpu)
    }),
    plain!(
        "Ray does not allocate any GPUs on the driver node",
        RayDriverNoGpu
    ),
    ("driver node id ", |h| {
        has(h.after, "is not included in a placement")
            .then(|| fault(h, FaultKind::RayDriverNoGpu))?
    }),
    plain!("ActorDiedError", RayDied),
    plain!("ActorUnavailableError", RayDied),
    plain!("The actor is dead because", RayDied),
    plain!("Worker exit type: SYSTEM_ERROR", RayDied),
    plain!(
        "A worker died or was killed while executing a task by an unexpected",
        RayDied
    ),
    ("RayWorkerProc rank=", |h| {
        let mut c = h.cur();
        let rank = c.uint()?;
        c.skip(" died unexpectedly")?;
        fault(
            h,
            FaultKind::WorkerDied {
                name: format!("RayWorkerProc rank={rank}"),
                rank: Some(rank),
                pid: None,
                code: None,
            },
        )
    }),
    plain!(
        "Version mismatch: The cluster was started with",
        RayVersions
    ),
    ("Error executing method ", |h| {
        let mut c = h.cur();
        let method = c.while_(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'\'');
        let method = some_text(method).map(|m| m.trim_matches('\'').to_owned());
        fault(h, FaultKind::RayMethod { method })
    }),
    ("Exception in worker ", |h| {
        let mut c = after(h.after, " while processing method ")?;
        let method = some_text(c.name()?);
        fault(h, FaultKind::RayMethod { method })
    }),
    // 3.11 KV transfer
    plain!("NIXL transfer failure: ", KvTransfer),
    plain!("engine ID mismatch. Expected ", KvTransfer),
    plain!("NIXL compatibility hash mismatch", KvTransfer),
    plain!("NIXL is not available", KvTransfer),
    plain!("Releasing expired KV blocks for request ", KvTransfer),
    plain!("NIXL_ERR_", KvTransfer),
];
