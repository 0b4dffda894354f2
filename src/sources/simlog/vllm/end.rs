//! What follows start-up: serving, waiting for somebody who hangs, and the end.

use crate::parse::Nanos;
use crate::sources::sim::plan::{Exit, Rank};
use crate::sources::sim::scenario::{Phase, SEC};
use crate::sources::simlog::nccl;

use super::{Book, MS, api, engine, strftime};

impl Book<'_> {
    /// P11 to P13 on the first pod: the engine is ready, the server listens, requests come.
    pub(super) fn serving(&mut self, at: Nanos) {
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
    pub(super) fn waiting(&mut self) {
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
    pub(super) fn echo(&mut self) {
        let Some(exit) = self.pod.exit.clone().filter(|e| !e.killed) else {
            return;
        };
        let ranks: Vec<Rank> = self.plan.ranks_of(self.pod.index).cloned().collect();
        // A rank that hung before did not die then: the executor notices the first that ends.
        let first = ranks
            .iter()
            .filter_map(|r| Some((r.stop?, r)))
            .min_by_key(|(t, _)| (exit.at - *t > 10 * SEC, *t));
        let (Some((stop, first)), Some(met)) = (first, self.plan.begins(Phase::Rendezvous)) else {
            return;
        };
        if stop < met {
            return;
        }
        if exit.echo {
            self.lost_peer(&ranks, stop);
        }
        self.engine_ends(first, stop, &exit);
    }

    /// The store has gone with the first pod; the first pod itself sees connections close.
    fn lost_peer(&mut self, ranks: &[Rank], stop: Nanos) {
        let gone = self
            .plan
            .pods
            .iter()
            .find(|p| p.exit.as_ref().is_some_and(|e| !e.echo));
        for r in ranks {
            let at = stop + Nanos::try_from(r.local).unwrap_or(0) * MS;
            if self.head() {
                if let (Some(gone), true) = (gone, self.pod.debug) {
                    let text = format!(
                        "misc/socket.cc:50 socketProgress: Connection closed by remote peer {}<38122>",
                        gone.ip
                    );
                    for line in nccl::warn(self.plan, r, r.pid, at, &text) {
                        self.pen.line(at, line);
                    }
                }
                continue;
            }
            let store = self.plan.pods.first().map_or("", |p| p.ip.as_str());
            let stamp = strftime(at, "%m%d %H:%M:%S.%9f");
            self.pen.line(at, format!(
                "[rank{0}]:[W{stamp} ProcessGroupNCCL.cpp:1771] [PG ID 0 PG GUID 0 Rank {0}] Failed to check the \"should dump\" flag on TCPStore, (maybe TCPStore server has shut down too early), with error: Broken pipe",
                r.global
            ));
            self.pen.line(at, format!(
                "[W{stamp} TCPStore.cpp:125] [c10d] recvValue failed on SocketImpl(fd=99, addr=[::ffff:{}]:38760, remote=[::ffff:{store}]:42643): Failed to recv, got 0 bytes. Connection was likely closed.",
                self.pod.ip
            ));
        }
    }

    /// The executor notices; its words depend on whether its workers had been ready.
    fn engine_ends(&mut self, first: &Rank, stop: Nanos, exit: &Exit) {
        let at = stop + SEC;
        let core = if self.head() {
            engine(self.s, first.dp)
        } else {
            String::new()
        };
        let ready = self.plan.begins(Phase::Compile).is_some_and(|t| t <= stop);
        if ready {
            // A killed child is all that the parent of an echo sees as well.
            let code = if exit.echo { 1 } else { exit.code };
            let tail = if self.since(0, 20, 0) {
                format!(" (exit code: {code})")
            } else {
                String::new()
            };
            self.record(&core, at, &format!(
                "ERROR [multiproc_executor.py:230] Worker proc VllmWorker-{} died unexpectedly{tail}, shutting down executor.",
                first.global
            ));
        } else {
            self.record(&core, at, "ERROR [multiproc_executor.py:519] WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.");
        }
        if self.head() {
            let text = if ready {
                "EngineCore encountered a fatal error."
            } else {
                "EngineCore failed to start."
            };
            self.record(&core, at + 200 * MS, &format!("ERROR [core.py:844] {text}"));
            let api = api(self.s);
            let text = if self.plan.begins(Phase::Serving).is_some_and(|t| t <= stop) {
                "EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.".to_owned()
            } else {
                format!(
                    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{'EngineCore_DP{}': 1}}",
                    first.dp
                )
            };
            self.pen.line(at + 700 * MS, format!("{api}{text}"));
        }
    }
}
