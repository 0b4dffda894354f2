//! vLLM's lines, worded and attributed as its version words and attributes them: who prints what changes
//! from release to release.

use std::fmt::Write as _;

use crate::parse::Nanos;
use crate::sources::sim::plan::{Plan, Pod, Rank, has_ep, secs};
use crate::sources::sim::scenario::{Phase, SEC, Scenario};
use crate::sources::sim::version::Version;

use super::Pen;

const MS: Nanos = 1_000_000;

/// Formats a time of the containers' clocks, which run in UTC.
#[must_use]
pub fn strftime(at: Nanos, format: &str) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at))
        .map_or_else(|_| String::new(), |t| t.strftime(format).to_string())
}

/// A record: `LEVEL [file.py:N] message` behind its prefix becomes a line with the date of the moment.
#[must_use]
pub fn record(prefix: &str, at: Nanos, text: &str) -> String {
    let (level, rest) = text.split_once(' ').unwrap_or(("INFO", text));
    format!("{prefix}{level} {} {rest}", strftime(at, "%m-%d %H:%M:%S"))
}

/// A process prefix with the colours of its time.
fn prefix(s: &Scenario, name: &str, pid: u64) -> String {
    let v = s.versions.vllm;
    if v < Version(0, 12, 0) {
        format!("\x1b[1;36m({name} pid={pid})\x1b[0;0m ")
    } else if v < Version(0, 18, 0) {
        format!("\x1b[0;36m({name} pid={pid})\x1b[0m ")
    } else {
        format!("({name} pid={pid}) ")
    }
}

/// Prefix of the API server.
#[must_use]
pub fn api(s: &Scenario) -> String {
    prefix(s, "APIServer", 1)
}

/// Prefix of an engine core.
#[must_use]
pub fn engine(s: &Scenario, dp: usize) -> String {
    let name = if s.versions.vllm >= Version(0, 18, 0) && s.layout.dp == 1 {
        "EngineCore".to_owned()
    } else {
        format!("EngineCore_DP{dp}")
    };
    prefix(s, &name, 271 + 3 * dp as u64)
}

/// Prefix of a worker, before or after it knows its place.
#[must_use]
pub fn worker(s: &Scenario, rank: &Rank, placed: bool) -> String {
    let mut name = String::from("Worker");
    if placed {
        if s.layout.dp > 1 {
            let _ = write!(name, "_DP{}", rank.dp);
        }
        if s.layout.pp > 1 {
            let _ = write!(name, "_PP{}", rank.pp);
        }
        if s.layout.tp > 1 {
            let _ = write!(name, "_TP{}", rank.tp);
        }
        if s.model.moe && s.layout.dp > 1 {
            let _ = write!(name, "_EP{}", rank.ep);
        }
    }
    prefix(s, &name, rank.pid)
}

/// Address that everybody meets at: the first pod's name in the headless service.
#[must_use]
pub fn master(s: &Scenario) -> String {
    format!(
        "{}-0.{}.{}",
        s.workload.name, s.workload.name, s.workload.namespace
    )
}

/// Writes the log of every process of every pod.
pub fn write(s: &Scenario, plan: &Plan, pens: &mut [Pen]) {
    for pod in &plan.pods {
        if let Some(pen) = pens.get_mut(pod.index) {
            Book { s, plan, pod, pen }.pod();
        }
    }
}

struct Book<'a> {
    s: &'a Scenario,
    plan: &'a Plan,
    pod: &'a Pod,
    pen: &'a mut Pen,
}

impl Book<'_> {
    fn since(&self, major: u32, minor: u32, patch: u32) -> bool {
        self.s.versions.vllm >= Version(major, minor, patch)
    }

    /// Ranks of this pod that print a line which newer versions print once per node.
    fn speakers(&self) -> Vec<Rank> {
        self.plan
            .ranks_of(self.pod.index)
            .take(1)
            .cloned()
            .collect()
    }

    fn record(&mut self, prefix: &str, at: Nanos, text: &str) {
        let line = record(prefix, at, text);
        self.pen.line(at, line);
    }

    /// A worker's record, if the worker still speaks.
    fn worker(&mut self, rank: &Rank, placed: bool, at: Nanos, text: &str) {
        if self.plan.speaks(rank.global, at) {
            let prefix = worker(self.s, rank, placed);
            self.record(&prefix, at, text);
        }
    }

    fn head(&self) -> bool {
        self.pod.index == 0
    }

    fn pod(&mut self) {
        let Some(started) = self.pod.started else {
            return;
        };
        let stops = self
            .plan
            .ranks_of(self.pod.index)
            .filter_map(|r| r.stop)
            .min();
        self.config(started, stops);
        let meet = started + secs(self.s.phases.config);
        self.rendezvous(meet);
        let begins = |p| self.plan.begins(p);
        let (nccl, weights, compile) = (
            begins(Phase::Nccl),
            begins(Phase::Weights),
            begins(Phase::Compile),
        );
        let (profile, graphs, serving) = (
            begins(Phase::Profile),
            begins(Phase::Graphs),
            begins(Phase::Serving),
        );
        if let Some(at) = nccl {
            self.nccl(at, weights);
        }
        if let Some(at) = weights {
            self.weights(at);
        }
        if let Some(at) = compile {
            self.compile(at);
        }
        if let Some(at) = profile {
            self.profile(at);
        }
        if let Some(at) = graphs {
            self.graphs(at);
        }
        if let (Some(at), true) = (serving, self.head()) {
            self.serving(at);
        }
        self.waiting();
        self.echo();
    }

    /// P0 and P1: arguments, engine.
    fn config(&mut self, started: Nanos, stops: Option<Nanos>) {
        let s = self.s;
        let length = secs(s.phases.config);
        let early = started + length / 3;
        let alive = |at: Nanos| stops.is_none_or(|t| at < t);
        if alive(early) {
            self.record(
                "",
                early,
                "INFO [__init__.py:216] Automatically detected platform cuda.",
            );
        }
        let v = s.versions.vllm;
        let mut lines: Vec<(Nanos, String, String)> = Vec::new();
        if self.head() {
            let mut at = started + length / 2;
            let mut say = |prefix: &str, text: String| {
                at += 90 * MS;
                lines.push((at, prefix.to_owned(), text));
            };
            let api = api(s);
            let model = &s.model.name;
            say(
                &api,
                if v < Version(0, 15, 0) {
                    format!("INFO [api_server.py:1977] vLLM API server version {v}")
                } else {
                    format!(
                        "INFO [api_utils.py:345] vLLM server version {v}, serving model {model}"
                    )
                },
            );
            say(
                &api,
                format!("INFO [utils.py:253] non-default args: {}", self.args()),
            );
            say(
                &api,
                format!(
                    "INFO [model.py:631] Resolved architecture: {}",
                    s.model.architecture
                ),
            );
            say(
                &api,
                "INFO [model.py:1745] Using max model len 32768".into(),
            );
            say(
                &api,
                "INFO [scheduler.py:216] Chunked prefill is enabled with max_num_batched_tokens=8192.".into(),
            );
            for dp in 0..s.layout.dp {
                say(
                    &engine(s, dp),
                    format!(
                        "INFO [core.py:93] Initializing a V1 LLM engine (v{v}) with config: model='{model}', speculative_config=None, tokenizer='{model}', dtype=torch.bfloat16, max_seq_len=32768, load_format=auto, tensor_parallel_size={}, pipeline_parallel_size={}, data_parallel_size={}, disable_custom_all_reduce=False, quantization=None, enforce_eager=False, kv_cache_dtype=auto",
                        s.layout.tp, s.layout.pp, s.layout.dp
                    ),
                );
            }
        } else {
            let text = if s.layout.dp > 1 {
                format!(
                    "INFO [serve.py:227] Launching {} data parallel engine(s) in headless mode, with head node address tcp://{}:29550.",
                    (s.layout.dp / s.workload.pods).max(1),
                    master(s)
                )
            } else {
                format!(
                    "INFO [serve.py:212] Launching vLLM (v{v}) headless multiproc executor, with head node address {}:29501 for torch.distributed process group.",
                    master(s)
                )
            };
            lines.push((started + length / 2, String::new(), text));
        }
        for (at, prefix, text) in lines {
            if alive(at) {
                self.record(&prefix, at, &text);
            }
        }
    }

    fn args(&self) -> String {
        let s = self.s;
        let mut out = format!(
            "{{'model_tag': '{0}', 'host': '0.0.0.0', 'model': '{0}', 'max_model_len': 32768",
            s.model.name
        );
        for (name, size) in [
            ("tensor_parallel_size", s.layout.tp),
            ("pipeline_parallel_size", s.layout.pp),
            ("data_parallel_size", s.layout.dp),
            ("nnodes", s.workload.pods),
        ] {
            if size > 1 {
                let _ = write!(out, ", '{name}': {size}");
            }
        }
        if s.workload.pods > 1 {
            let _ = write!(out, ", 'master_addr': '{}'", master(s));
        }
        out.push('}');
        out
    }

    /// P3: every rank says where it is before it waits for the others.
    fn rendezvous(&mut self, meet: Nanos) {
        let s = self.s;
        let ranks: Vec<Rank> = self.plan.ranks_of(self.pod.index).cloned().collect();
        let world = s.world();
        let joined = self
            .plan
            .begins(Phase::Rendezvous)
            .zip(self.plan.begins(Phase::Nccl));
        for r in &ranks {
            let at = meet + Nanos::try_from(r.local).unwrap_or(0) * 70 * MS;
            self.worker(
                r,
                false,
                at,
                &format!(
                    "INFO [parallel_state.py:1208] world_size={world} rank={} local_rank={} distributed_init_method=tcp://{}:29501 backend=nccl",
                    r.global,
                    r.local,
                    if s.workload.pods > 1 { master(s) } else { "127.0.0.1".into() }
                ),
            );
            if let Some((from, to)) = joined {
                let at = from + (to - from) * 4 / 5 + Nanos::try_from(r.local).unwrap_or(0) * MS;
                if self.plan.speaks(r.global, at) {
                    let peers = world - 1;
                    self.pen.line(
                        at,
                        format!(
                            "[Gloo] Rank {} is connected to {peers} peer ranks. Expected number of connected peer ranks is : {peers}",
                            r.global
                        ),
                    );
                }
            }
        }
    }

    /// P4 to P6: which NCCL, which all-reduce, which rank.
    fn nccl(&mut self, at: Nanos, done: Option<Nanos>) {
        let s = self.s;
        let ranks: Vec<Rank> = self.plan.ranks_of(self.pod.index).cloned().collect();
        for r in self.speakers() {
            if s.layout.tp * s.layout.pp * s.layout.dp > 1 {
                let text = format!("INFO [pynccl.py:111] vLLM is using nccl=={}", self.pod.nccl);
                self.worker(&r, false, at + 3 * MS, &text);
            }
            if s.layout.tp > s.nodes.gpus
                && let Some(done) = done
            {
                self.worker(&r, false, at + (done - at) / 3, "WARNING [custom_all_reduce.py:92] Custom allreduce is disabled because this process group spans across nodes.");
            }
        }
        let Some(done) = done else { return };
        for r in &ranks {
            if self.since(0, 19, 0) && r.local > 0 {
                break;
            }
            let mut text = format!(
                "INFO [parallel_state.py:1394] rank {} in world size {} is assigned as DP rank {}, PP rank {}",
                r.global,
                s.world(),
                r.dp,
                r.pp
            );
            if self.since(0, 12, 0) {
                text.push_str(", PCP rank 0");
            }
            let _ = write!(text, ", TP rank {}", r.tp);
            if has_ep(s) {
                let _ = write!(text, ", EP rank {}", r.ep);
            } else {
                text.push_str(", EP rank N/A");
            }
            if self.since(0, 17, 0) {
                text.push_str(", EPLB rank N/A");
            }
            self.worker(
                r,
                false,
                done - 60 * MS + Nanos::try_from(r.local).unwrap_or(0) * MS,
                &text,
            );
        }
    }

    /// P7: begin, shard by shard, end.
    fn weights(&mut self, at: Nanos) {
        let s = self.s;
        let ranks: Vec<Rank> = self.plan.ranks_of(self.pod.index).cloned().collect();
        let next = self.plan.begins(Phase::Compile);
        let length = secs(s.phases.weights);
        for r in &ranks {
            let own = self.loads(r, length);
            if r.global == 0 {
                let model = &s.model.name;
                self.worker(
                    r,
                    true,
                    at + 40 * MS,
                    &format!("INFO [gpu_model_runner.py:2843] Starting to load model {model}..."),
                );
                self.worker(r, true, at + 300 * MS, "INFO [cuda.py:352] Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'FLASHINFER', 'TRITON_ATTN', 'FLEX_ATTENTION']");
                if self.since(0, 20, 0) {
                    self.worker(r, true, at + 350 * MS, &format!("INFO [weight_utils.py:868] Filesystem type for checkpoints: NFS4. Checkpoint size: {:.2} GiB. Available RAM: 480.00 GiB.", s.model.gib));
                }
                self.shards(r, at + 400 * MS, own - 800 * MS);
            }
            if r.local > 0 {
                continue;
            }
            let took = own as f64 / 1e9;
            let gib = s.model.gib / (s.layout.tp * s.layout.pp) as f64 * 1.02;
            let end = at + own;
            if next.is_none_or(|n| end <= n) {
                self.worker(
                    r,
                    true,
                    end - 300 * MS,
                    &format!(
                        "INFO [default_loader.py:314] Loading weights took {:.2} seconds",
                        took - 0.7
                    ),
                );
                self.worker(r, true, end - 120 * MS, &format!("INFO [gpu_model_runner.py:2904] Model loading took {gib:.4} GiB memory and {:.6} seconds", took - 0.12));
            }
        }
    }

    /// How long one rank loads: a little less than the phase.
    fn loads(&self, rank: &Rank, length: Nanos) -> Nanos {
        let spread = Nanos::try_from(rank.pod * 7 % 5).unwrap_or(0);
        length - length * spread / 60
    }

    /// The bar, which torch's rank 0 alone prints: a carriage return, then a line of its own per file.
    fn shards(&mut self, rank: &Rank, at: Nanos, length: Nanos) {
        let total = self.s.model.shards;
        let prefix = worker(self.s, rank, true);
        for n in 0..=total {
            let passed = length * Nanos::from(n) / Nanos::from(total);
            let when = at + passed;
            if !self.plan.speaks(rank.global, when) {
                break;
            }
            let each = length as f64 / 1e9 / f64::from(total);
            let rate = match n {
                0 => "?it/s".to_owned(),
                _ if each < 1.0 => format!("{:5.2}it/s", 1.0 / each),
                _ => format!("{each:5.2}s/it"),
            };
            let left = if n == 0 {
                "?".into()
            } else {
                clock(length - passed)
            };
            let bar = format!(
                "Loading safetensors checkpoint shards: {:3}% Completed | {n}/{total} [{}<{left}, {rate}]",
                u64::from(n) * 100 / u64::from(total),
                clock(passed)
            );
            self.pen.line(when, format!("{prefix}\r{bar}"));
        }
    }

    /// P8: torch.compile.
    fn compile(&mut self, at: Nanos) {
        let length = secs(self.s.phases.compile);
        let took = length as f64 / 1e9;
        for r in self.speakers() {
            let dir = format!(
                "/root/.cache/vllm/torch_compile_cache/9fa1e2c07b/rank_{}_{}/backbone",
                r.global, r.dp
            );
            self.worker(
                &r,
                true,
                at + length / 4,
                &format!(
                    "INFO [backends.py:631] Using cache directory: {dir} for vLLM's torch.compile"
                ),
            );
            self.worker(
                &r,
                true,
                at + length / 4 + 20 * MS,
                &format!(
                    "INFO [backends.py:647] Dynamo bytecode transform time: {:.2} s",
                    took / 4.0
                ),
            );
            self.worker(
                &r,
                true,
                at + length * 9 / 10,
                &format!(
                    "INFO [backends.py:294] Compiling a graph for dynamic shape takes {:.2} s",
                    took * 0.65
                ),
            );
            self.worker(
                &r,
                true,
                at + length * 9 / 10 + 400 * MS,
                &format!(
                    "INFO [monitor.py:34] torch.compile takes {:.2} s in total",
                    took * 0.9
                ),
            );
        }
    }

    /// P9: memory and KV cache.
    fn profile(&mut self, at: Nanos) {
        let s = self.s;
        let length = secs(s.phases.profile);
        let kv = self.kv();
        for r in self.speakers() {
            self.worker(
                &r,
                true,
                at + length * 7 / 10,
                &format!("INFO [gpu_worker.py:359] Available KV cache memory: {kv:.2} GiB"),
            );
        }
        if self.head() && self.plan.speaks(0, at + length * 8 / 10) {
            for dp in 0..s.layout.dp {
                let tokens = thousands((kv * 24_000.0) as u64);
                let engine = engine(s, dp);
                self.record(
                    &engine,
                    at + length * 8 / 10,
                    &format!("INFO [kv_cache_utils.py:1229] GPU KV cache size: {tokens} tokens"),
                );
                self.record(&engine, at + length * 8 / 10 + MS, &format!("INFO [kv_cache_utils.py:1234] Maximum concurrency for 32,768 tokens per request: {:.2}x", kv * 24_000.0 / 32_768.0));
            }
        }
    }

    fn kv(&self) -> f64 {
        let s = self.s;
        let util = if self.since(0, 20, 0) { 0.92 } else { 0.90 };
        let weights = s.model.gib / (s.layout.tp * s.layout.pp) as f64;
        (s.nodes.gpu_memory * util - weights - 4.0).max(1.0)
    }

    /// P10: the bar is one physical line with carriage returns; the first rank alone draws it.
    fn graphs(&mut self, at: Nanos) {
        let length = secs(self.s.phases.graphs);
        for r in self.speakers() {
            let end = at + length - 400 * MS;
            if r.global == 0 && self.plan.speaks(0, end) {
                let (line, total) = (worker(self.s, &r, true), 67u32);
                for (k, (mode, from)) in [
                    ("mixed prefill-decode, PIECEWISE", at),
                    ("decode, FULL", at + length / 2),
                ]
                .into_iter()
                .enumerate()
                {
                    let half = length / 2 - 300 * MS;
                    let total = if k == 0 { total } else { 35 };
                    let mut bar = line.clone();
                    for n in (0..=total).step_by(8).chain([total]) {
                        let passed = half * Nanos::from(n) / Nanos::from(total);
                        let _ = write!(
                            bar,
                            "\rCapturing CUDA graphs ({mode}): {:3}%|{}| {n}/{total} [{}<{}, {:5.2}it/s]",
                            n * 100 / total,
                            blocks(n, total),
                            clock(passed),
                            clock(half - passed),
                            f64::from(total) * 1e9 / half as f64
                        );
                    }
                    self.pen.line(from + half, bar);
                }
            }
            self.worker(&r, true, end, &format!("INFO [gpu_model_runner.py:3480] Graph capturing finished in {} secs, took 0.84 GiB", length / SEC));
        }
    }

    /// P11 to P13 on the first pod: the engine is ready, the server listens, requests come.
    fn serving(&mut self, at: Nanos) {
        let s = self.s;
        let warm = s.phases.compile + s.phases.profile + s.phases.graphs;
        for dp in 0..s.layout.dp {
            let engine = engine(s, dp);
            self.record(&engine, at + 80 * MS, &format!("INFO [core.py:210] init engine (profile, create kv cache, warmup model) took {warm:.2} seconds"));
        }
        let api = api(s);
        let mut when = at + 900 * MS;
        self.record(
            &api,
            when,
            "INFO [api_server.py:1725] Supported tasks: ['generate']",
        );
        when += 400 * MS;
        self.record(
            &api,
            when,
            "INFO [api_server.py:2052] Starting vLLM API server 0 on http://0.0.0.0:8000",
        );
        self.record(
            &api,
            when + MS,
            "INFO [launcher.py:38] Available routes are:",
        );
        for (k, route) in [
            "/health, Methods: GET",
            "/v1/models, Methods: GET",
            "/v1/chat/completions, Methods: POST",
            "/metrics, Methods: GET",
        ]
        .into_iter()
        .enumerate()
        {
            self.record(
                &api,
                when + (2 + Nanos::try_from(k).unwrap_or(0)) * MS,
                &format!("INFO [launcher.py:46] Route: {route}"),
            );
        }
        for (k, text) in [
            "Started server process [1]",
            "Waiting for application startup.",
            "Application startup complete.",
        ]
        .into_iter()
        .enumerate()
        {
            self.pen.line(
                when + (20 + Nanos::try_from(k).unwrap_or(0)) * MS,
                format!("{api}INFO:     {text}"),
            );
        }
        let dead = |t: Nanos| !self.plan.speaks(0, t);
        let (mut tick, mut n) = (when + 2 * SEC, 0u32);
        while tick < self.plan.end && !dead(tick) {
            self.pen.line(
                tick,
                format!(
                    "{api}INFO:     {}:{} - \"GET /health HTTP/1.1\" 200 OK",
                    self.pod.host_ip,
                    51_230 + n
                ),
            );
            if n > 0 {
                let running = 4 + n % 9;
                self.record(&api, tick + 30 * MS, &format!("INFO [loggers.py:248] Engine 000: Avg prompt throughput: {}.4 tokens/s, Avg generation throughput: {}.1 tokens/s, Running: {running} reqs, Waiting: 0 reqs, GPU KV cache usage: {}.3%, Prefix cache hit rate: 41.0%", 780 + n % 90, 55 * running, 1 + n % 5));
            }
            n += 1;
            tick += 10 * SEC;
        }
    }

    /// Minutes of waiting for a rank that hangs: the waiting side complains once a minute.
    fn waiting(&mut self) {
        let Some(stop) = self.plan.ranks.iter().filter_map(|r| r.stop).min() else {
            return;
        };
        let ends = self.plan.pods.iter().any(|p| p.exit.is_some());
        let since = self.plan.begins(Phase::Compile).unwrap_or(Nanos::MAX);
        if ends || !self.head() || stop < since {
            return;
        }
        let engine = engine(self.s, 0);
        let mut at = stop + 60 * SEC;
        while at < self.plan.end {
            self.record(&engine, at, "INFO [shm_broadcast.py:466] No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are hanging or doing some time-consuming work (e.g. compilation, weight/kv cache quantization).");
            at += 60 * SEC;
        }
    }

    /// What a pod prints when its own worker died, or when another pod went away.
    fn echo(&mut self) {
        let Some(exit) = self.pod.exit.clone() else {
            return;
        };
        if exit.killed {
            return;
        }
        let Some(first) = self
            .plan
            .ranks_of(self.pod.index)
            .filter(|r| r.stop.is_some())
            .min_by_key(|r| r.stop)
            .cloned()
        else {
            return;
        };
        let stop = first.stop.unwrap_or(exit.at);
        let Some(met) = self.plan.begins(Phase::Rendezvous) else {
            return;
        };
        if stop < met {
            return;
        }
        if exit.echo {
            let store = self.plan.pods.first().map_or("", |p| p.ip.as_str());
            for r in self
                .plan
                .ranks_of(self.pod.index)
                .cloned()
                .collect::<Vec<_>>()
            {
                let at = stop + Nanos::try_from(r.local).unwrap_or(0) * MS;
                self.pen.line(at, format!(
                    "[rank{0}]:[W{1} ProcessGroupNCCL.cpp:1771] [PG ID 0 PG GUID 0 Rank {0}] Failed to check the \"should dump\" flag on TCPStore, (maybe TCPStore server has shut down too early), with error: Broken pipe",
                    r.global, strftime(at, "%m%d %H:%M:%S.%9f")
                ));
                self.pen.line(at, format!(
                    "[W{} TCPStore.cpp:125] [c10d] recvValue failed on SocketImpl(fd=99, addr=[::ffff:{}]:38760, remote=[::ffff:{store}]:42643): Failed to recv, got 0 bytes. Connection was likely closed.",
                    strftime(at, "%m%d %H:%M:%S.%9f"), self.pod.ip
                ));
            }
        }
        let at = stop + SEC;
        let core = if self.head() {
            engine(self.s, first.dp)
        } else {
            String::new()
        };
        self.record(&core, at, &format!("ERROR [multiproc_executor.py:230] Worker proc VllmWorker-{} died unexpectedly, shutting down executor.", first.global));
        if self.head() {
            self.record(
                &core,
                at + 200 * MS,
                "ERROR [core.py:844] EngineCore encountered a fatal error.",
            );
            let api = api(self.s);
            self.pen.line(at + 700 * MS, format!("{api}RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{'EngineCore_DP{}': 1}}", first.dp));
        }
    }
}

/// `MM:SS` as tqdm prints it, hours in front when there are any.
fn clock(t: Nanos) -> String {
    let s = t.max(0) / SEC;
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{:02}:{:02}", s / 60, s % 60)
    }
}

/// Ten cells of tqdm's bar.
fn blocks(n: u32, total: u32) -> String {
    let full = n * 10 / total.max(1);
    (0..10).map(|i| if i < full { '█' } else { ' ' }).collect()
}

/// A number with commas, as vLLM prints token counts.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}
