//! Lines of a start-up in order (S01–S91).

use super::layout::{leader, rank_start, ranks};
use super::places::{loaded, stats};
use super::progress::{bar, prefetch};
use super::scan::{Cur, after, has, some_text, text};
use super::{Hit, Read, Settings, VllmFact};

pub(super) const ANCHORS: &[(&str, Read)] = &[
    // P0
    ("vLLM API server version ", |h| version(h.cur(), false)),
    ("vLLM server version ", |h| version(h.cur(), true)),
    ("  version ", |h| {
        in_banner(h)?;
        version(h.cur(), false)
    }),
    ("  model ", |h| {
        in_banner(h)?;
        let mut c = h.cur();
        c.blanks();
        Some(VllmFact::Model(text(c.word()?)))
    }),
    ("non-default args: ", |h| args(h.after)),
    ("args: Namespace(", |h| args(h.after)),
    ("Automatically detected platform ", |h| {
        Some(VllmFact::Platform(Some(text(h.cur().name()?))))
    }),
    ("No platform detected", |_| Some(VllmFact::Platform(None))),
    ("Using max model len ", |h| {
        Some(VllmFact::MaxModelLen(h.cur().grouped()?))
    }),
    ("Resolved architecture: ", |h| {
        Some(VllmFact::Architecture(text(h.cur().word()?)))
    }),
    ("Defaulting to use ", |h| {
        let mut c = h.cur();
        let word = c.word()?;
        c.skip(" for distributed inference")?;
        Some(VllmFact::Executor(text(word)))
    }),
    ("HF_HUB_OFFLINE is True", |_| {
        Some(VllmFact::Env {
            name: "HF_HUB_OFFLINE".into(),
            value: "1".into(),
        })
    }),
    ("NCCL_CUMEM_ENABLE is set to ", |h| {
        Some(VllmFact::Env {
            name: "NCCL_CUMEM_ENABLE".into(),
            value: text(h.cur().name()?),
        })
    }),
    // P1
    (" LLM engine (v", engine),
    ("Started engine process with PID ", |h| {
        Some(VllmFact::EngineProcess {
            pid: h.cur().uint()?,
        })
    }),
    (" in headless mode, with head node address ", |h| {
        let engines = after(h.before(), "Launching ")?.uint()?;
        Some(VllmFact::Headless {
            version: None,
            engines: Some(engines),
            head: address(h.cur())?,
        })
    }),
    (
        " headless multiproc executor, with head node address ",
        |h| {
            let version = after(h.before(), "Launching vLLM (v")?.while_(|b| b != b')');
            Some(VllmFact::Headless {
                version: some_text(version),
                engines: None,
                head: address(h.cur())?,
            })
        },
    ),
    ("DP group leader: ", |h| {
        Some(VllmFact::Leader(leader(h.cur())?))
    }),
    ("Waiting for ", waiting),
    ("Started DP Coordinator process (PID: ", |h| {
        Some(VllmFact::Coordinator {
            pid: Some(h.cur().uint()?),
        })
    }),
    (
        "All engine subscriptions received by DP coordinator",
        |_| Some(VllmFact::Coordinator { pid: None }),
    ),
    // P2
    ("No current placement group found", |_| {
        Some(VllmFact::RayCluster)
    }),
    ("Using the existing placement group", |_| {
        Some(VllmFact::RayCluster)
    }),
    ("Connected to Ray cluster", |_| Some(VllmFact::RayCluster)),
    ("The number of required ", |h| {
        has(h.after, "exceeds the total number of available").then_some(VllmFact::RayShortage {
            want: None,
            have: None,
        })
    }),
    ("ensor parallel size (", |h| {
        let mut c = h.cur();
        let want = c.uint()?;
        c.skip(") exceeds available GPUs (")?;
        Some(VllmFact::RayShortage {
            want: Some(want),
            have: Some(c.uint()?),
        })
    }),
    ("tensor_parallel_size=", |h| {
        let mut c = h.cur();
        let want = c.uint()?;
        c.skip(" is bigger than a reserved number of ")?;
        c.seek(" (")?;
        Some(VllmFact::RayShortage {
            want: Some(want),
            have: Some(c.uint()?),
        })
    }),
    (
        "No available node types can fulfill resource request ",
        |h| {
            let mut c = h.cur();
            let mut request = text(c.seek("}")?);
            request.push('}');
            Some(VllmFact::RayUnfulfillable { request })
        },
    ),
    // P3
    ("world_size=", |h| {
        Some(VllmFact::RankStart(rank_start(h.cur())?))
    }),
    ("Detected ", |h| {
        let mut c = h.cur();
        let n = c.uint()?;
        c.skip(" nodes in the distributed environment")?;
        Some(VllmFact::Nodes(n))
    }),
    ("Unable to resolve hostname to a ", |h| {
        has(h.after, "oopback address as fallback").then_some(VllmFact::GlooLoopback)
    }),
    ("Worker ready; awaiting tasks", |_| {
        Some(VllmFact::WorkerReady)
    }),
    ("message queue communication handle: Handle(", |_| {
        Some(VllmFact::Queue)
    }),
    // P4, P6
    ("Found nccl from library ", |h| nccl_found(h.cur())),
    (
        "Found nccl from environment variable VLLM_NCCL_SO_PATH=",
        |h| nccl_found(h.cur()),
    ),
    ("vLLM is using nccl==", |h| {
        let v = h.cur().while_(|b| b.is_ascii_digit() || b == b'.');
        Some(VllmFact::Pynccl {
            version: some_text(v)?,
        })
    }),
    (" in world size ", |h| {
        Some(VllmFact::Assigned(ranks(h.before(), h.cur())?))
    }),
    // P7
    ("Starting to load model ", |h| {
        let name = h.cur().word()?;
        Some(VllmFact::LoadBegin {
            model: some_text(name.strip_suffix(b"...").unwrap_or(name)),
        })
    }),
    ("Loading model from scratch", |_| {
        Some(VllmFact::LoadBegin { model: None })
    }),
    ("Loading drafter model", |_| Some(VllmFact::DrafterBegin)),
    ("Using ", attention),
    ("Filesystem type for checkpoints: ", |h| {
        let mut c = h.cur();
        let fs = c.word()?;
        c.skip(" Checkpoint size: ")?;
        let gib = c.float()?;
        c.skip(" GiB. Available RAM: ")?;
        Some(VllmFact::Checkpoint {
            fs: text(fs.strip_suffix(b".").unwrap_or(fs)),
            gib,
            ram_gib: c.float()?,
        })
    }),
    ("Prefetching checkpoint files:", |h| {
        Some(VllmFact::Progress(prefetch(h.cur())?))
    }),
    ("Prefetching checkpoint files into page cache ", |h| {
        Some(VllmFact::Prefetch {
            finished: h.cur().eat("finished"),
        })
    }),
    ("Auto-prefetch is disabled because the filesystem (", |h| {
        Some(VllmFact::PrefetchOff {
            fs: text(h.cur().seek(")")?),
        })
    }),
    ("Time spent downloading weights for ", |h| {
        let mut c = h.cur();
        let model = text(c.seek(": ")?);
        Some(VllmFact::Downloaded {
            model,
            seconds: c.float()?,
        })
    }),
    ("% Completed | ", |h| {
        Some(VllmFact::Progress(bar(h.msg, h.at, h.bar)?))
    }),
    ("%|", |h| Some(VllmFact::Progress(bar(h.msg, h.at, h.bar)?))),
    ("EP weight filter: ep_size=", |h| {
        let mut c = h.cur();
        c.seek("loading ")?;
        Some(VllmFact::Experts {
            ep: None,
            local: Some(fraction(&mut c)?),
        })
    }),
    ("[EP Rank ", |h| {
        let mut c = h.cur();
        let ep = fraction(&mut c)?;
        let local = after(c.rest, "number of experts: ").and_then(|mut c| fraction(&mut c));
        Some(VllmFact::Experts {
            ep: Some(ep),
            local,
        })
    }),
    ("Loading weights took ", |h| {
        Some(VllmFact::WeightsDone {
            seconds: h.cur().float()?,
        })
    }),
    ("Model loading took ", loaded),
    ("Loading model weights took ", |h| {
        let mut c = h.cur();
        let gib = c.float()?;
        c.skip(" G")?;
        Some(VllmFact::ModelDone { gib, seconds: None })
    }),
    // P8
    ("for vLLM's torch.compile", |_| compile_step(None, false)),
    ("Dynamo bytecode transform time: ", |h| {
        compile_step(h.cur().float(), false)
    }),
    ("Directly load AOT compilation", |_| {
        compile_step(None, true)
    }),
    ("Directly load the ", |h| {
        let mut c = h.cur();
        c.word()?;
        c.skip(" graph")?;
        compile_step(None, true)
    }),
    ("Compiling a graph for ", |h| {
        compile_step(Some(after(h.after, " takes ")?.float()?), false)
    }),
    ("torch.compile takes ", |h| compile_done(h.cur())),
    ("torch.compile took ", |h| compile_done(h.cur())),
    ("Initial profiling/warmup run took ", |h| {
        Some(VllmFact::FirstPass {
            seconds: h.cur().float()?,
        })
    }),
    // P9
    ("Memory profiling takes ", |h| {
        Some(VllmFact::ProfileDone {
            seconds: h.cur().float()?,
        })
    }),
    ("model weights take ", |h| {
        let mut c = h.cur();
        let weights = c.float()?;
        let mut next = |name: &str| {
            c.seek(name)?;
            c.float()
        };
        Some(VllmFact::MemorySplit {
            weights,
            non_torch: next("non_torch_memory takes ")?,
            activation: next("activation peak memory takes ")?,
            kv: next("reserved for KV Cache is ")?,
        })
    }),
    ("Available KV cache memory: ", |h| {
        Some(VllmFact::KvMemory {
            gib: h.cur().float()?,
        })
    }),
    ("KV cache size: ", |h| {
        let mut c = h.cur();
        let tokens = c.grouped()?;
        c.skip(" tokens")?;
        Some(VllmFact::KvSize {
            tokens: Some(tokens),
            concurrency: after(c.rest, "Maximum concurrency for ").and_then(concurrency),
        })
    }),
    ("Maximum concurrency for ", |h| {
        Some(VllmFact::KvSize {
            tokens: None,
            concurrency: Some(concurrency(h.cur())?),
        })
    }),
    (" blocks: ", |h| {
        let mark = memchr::memrchr(b'#', h.before())?;
        let device = h.before().get(mark + 1..)?.trim_ascii();
        if device.is_empty() || !device.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut c = h.cur();
        Some(VllmFact::KvBlocks {
            gpu: c.uint()?,
            cpu: c.skip(", # CPU blocks: ").and_then(|()| c.uint()),
        })
    }),
    // P10
    ("Capturing the model for CUDA graphs", |_| {
        Some(VllmFact::GraphsBegin)
    }),
    ("Capturing cudagraphs for decoding", |_| {
        Some(VllmFact::GraphsBegin)
    }),
    ("Profiling CUDA graph memory: ", |_| {
        Some(VllmFact::GraphsEstimate { gib: None })
    }),
    ("Estimated CUDA graph memory: ", |h| {
        Some(VllmFact::GraphsEstimate {
            gib: Some(h.cur().float()?),
        })
    }),
    ("Registering ", |h| {
        let mut c = h.cur();
        let addresses = c.uint()?;
        c.skip(" cuda graph addresses")?;
        Some(VllmFact::GraphsRegistered { addresses })
    }),
    ("Graph capturing finished in ", |h| {
        let mut c = h.cur();
        let seconds = c.uint()?;
        c.skip(" secs")?;
        Some(VllmFact::GraphsDone {
            seconds,
            gib: c.skip(", took ").and_then(|()| c.float()),
        })
    }),
    // P11, P12
    (
        "init engine (profile, create kv cache, warmup model) took ",
        |h| {
            Some(VllmFact::EngineReady {
                seconds: h.cur().float()?,
            })
        },
    ),
    ("Starting vLLM ", |h| {
        let mut c = h.cur();
        c.eat("API ");
        c.skip("server ")?;
        c.seek("on ")?;
        Some(VllmFact::Listening {
            url: text(c.word()?),
        })
    }),
    ("Available routes are:", |_| Some(VllmFact::HttpRoute(None))),
    ("Route: ", |h| {
        let mut c = h.cur();
        let path = text(c.seek(", ")?);
        (c.eat("Methods: ") || c.eat("Endpoint: ")).then_some(VllmFact::HttpRoute(Some(path)))
    }),
    ("Started server process [", |_| Some(VllmFact::HttpStarting)),
    ("Waiting for application startup", |_| {
        Some(VllmFact::HttpStarting)
    }),
    ("Application startup complete", |_| Some(VllmFact::HttpUp)),
    ("Uvicorn running on ", |_| Some(VllmFact::HttpUp)),
    // P13
    ("Avg prompt throughput: ", stats),
    ("Avg prompt tput: ", stats),
    // P14
    ("No available shared memory broadcast block found", shm_wait),
    ("No available block found", shm_wait),
    ("Dumping ", |h| {
        let mut c = h.cur();
        (c.eat("input data") || c.eat("scheduler output") || c.eat("scheduler stats"))
            .then_some(VllmFact::StateDump)
    }),
    // P15
    ("[shutdown] ", |h| shutdown(h.after)),
    ("Parent process exited, terminating worker", |h| {
        shutdown(h.msg)
    }),
    ("WorkerProc was terminated", |h| shutdown(h.msg)),
    ("WorkerProc shutting down", |h| shutdown(h.msg)),
    ("Killing local vLLM worker processes", |h| shutdown(h.msg)),
    ("Finished server process [", |h| shutdown(h.msg)),
    ("Waiting for application shutdown", |h| shutdown(h.msg)),
];

fn version(mut c: Cur<'_>, plain: bool) -> Option<VllmFact> {
    c.blanks();
    let word = c.word()?;
    let version = text(word.strip_suffix(b",").unwrap_or(word));
    let model = if plain {
        c.skip(" serving model ").and_then(|()| c.word()).map(text)
    } else {
        None
    };
    version
        .starts_with(|c: char| c.is_ascii_alphanumeric())
        .then_some(VllmFact::Version { version, model })
}

/// The logo's blocks stand to the left.
fn in_banner(h: &Hit<'_>) -> Option<()> {
    h.before()
        .trim_ascii_end()
        .ends_with("\u{2588}".as_bytes())
        .then_some(())
}

fn args(printed: &[u8]) -> Option<VllmFact> {
    Some(VllmFact::Args(Settings::from_python(printed)))
}

fn engine(h: &Hit<'_>) -> Option<VllmFact> {
    let before = h.before();
    let generation = if before.ends_with(b"Initializing a V1") {
        Some(1)
    } else if before.ends_with(b"Initializing a V0") {
        Some(0)
    } else if before.ends_with(b"Initializing an") {
        None
    } else {
        return None;
    };
    let mut c = h.cur();
    let version = text(c.seek(")")?);
    c.skip(" with config: ")?;
    Some(VllmFact::Engine {
        generation,
        version,
        config: Settings::from_python(c.rest),
    })
}

/// An address at the end of a sentence.
fn address(mut c: Cur<'_>) -> Option<String> {
    let w = c.word()?;
    some_text(w.strip_suffix(b".").unwrap_or(w))
}

fn waiting(h: &Hit<'_>) -> Option<VllmFact> {
    let mut c = h.cur();
    if c.eat("creating a placement group of specs for ") {
        let seconds = c.uint()?;
        c.skip(" seconds. specs=")?;
        let specs = c.seek("]")?;
        let mut nodes = Vec::new();
        let mut s = Cur::new(specs);
        while s.seek("node:").is_some() && nodes.len() < 64 {
            nodes.push(text(s.while_(|b| b != b'\'' && b != b'"')));
        }
        return Some(VllmFact::RayWaiting {
            seconds,
            bundles: u32::try_from(memchr::memchr_iter(b'{', specs).count()).ok()?,
            nodes,
        });
    }
    if c.eat("init message from front-end") || c.eat("READY message from DP Coordinator") {
        return Some(VllmFact::Handshake {
            local: None,
            remote: None,
        });
    }
    let n = c.uint()?;
    if c.eat(" local, ") {
        let remote = c.uint()?;
        c.skip(" remote core engine proc(s)")?;
        return Some(VllmFact::Handshake {
            local: Some(n),
            remote: Some(remote),
        });
    }
    c.skip(" core engine proc(s) to start")?;
    Some(VllmFact::Handshake {
        local: Some(n),
        remote: None,
    })
}

fn nccl_found(mut c: Cur<'_>) -> Option<VllmFact> {
    Some(VllmFact::NcclFound {
        path: text(c.word()?),
    })
}

/// `Using FLASH_ATTN attention backend …`. MoE and quantisation announce their choices in like words: only the
/// file of the header or the word "attention" tells them apart.
fn attention(h: &Hit<'_>) -> Option<VllmFact> {
    if h.at != 0 {
        return None;
    }
    let mut c = h.cur();
    // `Using backend FLASH_ATTN for vit attention` is the vision encoder's.
    let name = c.while_(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !name.first()?.is_ascii_alphabetic() || name == b"backend" {
        return None;
    }
    let name = text(name);
    let rest = c.rest;
    let named = rest.starts_with(b" attention backend")
        || rest.starts_with(b" backend on V1 engine")
        || rest.starts_with(b" backend (selected via");
    let from_selector = h.head().is_some_and(|head| {
        let file = head.file_name();
        matches!(
            file,
            b"cuda.py" | b"rocm.py" | b"selector.py" | b"xpu.py" | b"interface.py"
        ) || has(head.file, "attention/")
    });
    if named {
        return Some(VllmFact::Attention { backend: name });
    }
    if !from_selector {
        return None;
    }
    // `Using Flash Attention backend.`, `Using XFormers backend.`
    let mut c = h.cur();
    let words = c.seek(" backend")?;
    let fits = words.len() <= 40
        && words
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b' ' | b'-'));
    let words = words.strip_suffix(b" attention").unwrap_or(words);
    (fits && !has(words, "MoE")).then(|| VllmFact::Attention {
        backend: text(words),
    })
}

fn fraction(c: &mut Cur<'_>) -> Option<(u32, u32)> {
    let a = c.uint()?;
    c.skip("/")?;
    Some((a, c.uint()?))
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "a row of the table ends with it, and rows give options"
)]
fn compile_step(seconds: Option<f64>, cached: bool) -> Option<VllmFact> {
    Some(VllmFact::CompileStep { seconds, cached })
}

fn compile_done(mut c: Cur<'_>) -> Option<VllmFact> {
    let seconds = c.float()?;
    c.skip(" s in total")?;
    Some(VllmFact::CompileDone { seconds })
}

fn concurrency(mut c: Cur<'_>) -> Option<(u64, f64)> {
    let len = c.grouped()?;
    c.skip(" tokens per request: ")?;
    Some((len, c.float()?))
}

fn shm_wait(h: &Hit<'_>) -> Option<VllmFact> {
    let mut c = h.cur();
    c.blanks();
    c.skip("in ")?;
    Some(VllmFact::ShmWait { seconds: c.uint()? })
}

fn shutdown(what: &[u8]) -> Option<VllmFact> {
    Some(VllmFact::Shutdown {
        what: some_text(what)?,
    })
}
