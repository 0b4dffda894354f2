//! From the first import to captured graphs.

use std::fmt::Write as _;

use crate::parse::Nanos;
use crate::sources::sim::plan::{Rank, has_ep, secs};
use crate::sources::sim::scenario::{Phase, SEC};
use crate::sources::sim::version::Version;

use super::{Book, MS, api, engine, master, record, worker};
use crate::sources::simlog::loads;

impl Book<'_> {
    pub(super) fn since(&self, major: u32, minor: u32, patch: u32) -> bool {
        self.s.versions.vllm >= Version(major, minor, patch)
    }

    /// Ranks of this pod that print a line which newer versions print once per node.
    pub(super) fn speakers(&self) -> Vec<Rank> {
        self.plan
            .ranks_of(self.pod.index)
            .take(1)
            .cloned()
            .collect()
    }

    pub(super) fn record(&mut self, prefix: &str, at: Nanos, text: &str) {
        let line = record(prefix, at, text);
        self.pen.line(at, line);
    }

    /// A worker's record, if the worker still speaks.
    pub(super) fn worker(&mut self, rank: &Rank, placed: bool, at: Nanos, text: &str) {
        if self.plan.speaks(rank.global, at) {
            let prefix = worker(self.s, rank, placed);
            self.record(&prefix, at, text);
        }
    }

    pub(super) fn head(&self) -> bool {
        self.pod.index == 0
    }

    pub(super) fn pod(&mut self) {
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
    pub(super) fn config(&mut self, started: Nanos, stops: Option<Nanos>) {
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

    pub(super) fn args(&self) -> String {
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
    pub(super) fn rendezvous(&mut self, meet: Nanos) {
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
    pub(super) fn nccl(&mut self, at: Nanos, done: Option<Nanos>) {
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
    pub(super) fn weights(&mut self, at: Nanos) {
        let s = self.s;
        let ranks: Vec<Rank> = self.plan.ranks_of(self.pod.index).cloned().collect();
        let next = self.plan.begins(Phase::Compile);
        let length = secs(s.phases.weights);
        for r in &ranks {
            let own = loads(r, length);
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

    /// The bar, which torch's rank 0 alone prints: a carriage return, then a line of its own per file.
    pub(super) fn shards(&mut self, rank: &Rank, at: Nanos, length: Nanos) {
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
    pub(super) fn compile(&mut self, at: Nanos) {
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
    pub(super) fn profile(&mut self, at: Nanos) {
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

    pub(super) fn kv(&self) -> f64 {
        let s = self.s;
        let util = if self.since(0, 20, 0) { 0.92 } else { 0.90 };
        let weights = s.model.gib / (s.layout.tp * s.layout.pp) as f64;
        (s.nodes.gpu_memory * util - weights - 4.0).max(1.0)
    }

    /// P10: the bar is one physical line with carriage returns; the first rank alone draws it.
    pub(super) fn graphs(&mut self, at: Nanos) {
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
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
