//! Plain log files as containers leave them: no stamp of a kubelet in front, NCCL's warnings dated in full, vLLM's
//! records by month and day, torch's by its own.

use ncclscope::model::event::{Event, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::rules::scene::{Confidence, Scene, Severity, Stage, Verdict};
use ncclscope::sources::sim;

use super::{find, ids, lines, scene};

/// Ranks of a pod that meet, as vLLM says it.
fn met(first: u32, n: u32, world: u32, init: &str) -> String {
    (0..n)
        .map(|i| {
            format!(
                "(Worker pid={}) INFO 03-11 02:00:2{i} [parallel_state.py:1400] world_size={world} rank={} local_rank={i} distributed_init_method=tcp://{init} backend=nccl\n",
                402 + 3 * i,
                first + i
            )
        })
        .collect()
}

/// NCCL's init of a pod's ranks, complete or only begun.
fn init(host: &str, first: u32, n: u32, world: u32, done: impl Fn(u32) -> bool) -> String {
    let mut out = String::new();
    for i in 0..n {
        let (rank, pid) = (first + i, 402 + 3 * i);
        let head = format!("{host}:{pid}:{pid} [{i}] NCCL INFO ");
        let who = format!(
            "comm 0x558a1c{rank:02} rank {rank} nranks {world} cudaDev {i} nvmlDev {i} busId {}b000 commId 0x9c0ffee1269e0d37",
            i + 1
        );
        out += &format!("{head}ncclCommInitRank {who} - Init START\n");
        if done(rank) {
            out += &format!("{head}ncclCommInitRank {who} - Init COMPLETE\n");
        }
    }
    out
}

/// NCCL says when a rank was refused memory, vLLM a second later that the worker failed: the first is the cause,
/// although only one of them prints a year.
#[test]
fn a_year_on_one_of_two_lines_hides_no_cause() {
    let log = met(0, 2, 2, "10.42.0.17:29501")
        + &init("llm-1", 0, 2, 2, |_| false)
        + "\n[2026-03-11 02:00:30] llm-1:402:402 [0] misc/ibvwrap.cc:164 NCCL WARN Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory\n\
           (Worker pid=402) ERROR 03-11 02:00:31 [multiproc_executor.py:703] RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)\n\
           (Worker pid=402) ERROR 03-11 02:00:31 [multiproc_executor.py:703] WorkerProc failed to start.\n";
    let s = scene(&[("llm-1.log", &log)]);
    let first = &s.findings[0];
    assert_eq!(first.id, "nccl.memlock", "{:?}", ids(&s));
    let died = find(&s, "vllm.worker-died");
    assert!(
        died.cause
            .starts_with("The first failure there: Call to ibv_reg_mr_iova2"),
        "{}",
        died.cause
    );
    assert_eq!(died.consequence_of.as_deref(), Some(first.key.as_str()));
    // A second between them, on one scale.
    let (a, b) = (first.since.unwrap().ns, died.since.unwrap().ns);
    assert_eq!(
        (b - a) / 1_000_000_000,
        0,
        "the death begins with its cause"
    );
}

/// The engine says that a worker died, and NCCL in that worker why: both in one log, under two names.
#[test]
fn what_a_worker_warned_of_is_why_its_engine_lost_it() {
    let log = met(0, 2, 2, "10.42.0.17:29501")
        + &init("llm-0", 0, 2, 2, |_| true)
        + "\n[2026-03-11 02:04:21] llm-0:405:405 [1] transport/net_ib.cc:2471 NCCL WARN NET/IB: Got completion from peer 10.42.1.17<48213> with status=12 opcode=0 len=0 vendor err 129 (Send) localGid ::ffff:192.168.10.4 remoteGids::ffff:192.168.11.4 hca mlx5_1\n\
           (EngineCore_DP0 pid=271) ERROR 03-11 02:04:30 [multiproc_executor.py:314] Worker proc VllmWorker-1 died unexpectedly, shutting down executor.\n";
    let s = scene(&[("llm-0.log", &log)]);
    assert_eq!(
        s.findings[0].id,
        "nccl.ib-completion-error",
        "{:?}",
        ids(&s)
    );
    let died = find(&s, "vllm.worker-died");
    assert!(
        died.cause
            .starts_with("The first failure there: NET/IB: Got completion"),
        "{}",
        died.cause
    );
}

/// torch's records carry their time themselves: what they tell of is dated by it, and the log goes on until then.
#[test]
fn torchs_own_stamps_are_read() {
    let log = met(0, 2, 2, "10.42.0.17:29501")
        + "[rank0]:[E311 02:15:00.120394556 ProcessGroupNCCL.cpp:685] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=ALLREDUCE, NumelIn=8192, NumelOut=8192, Timeout(ms)=600000) ran for 600021 milliseconds before timing out.\n";
    let s = scene(&[("llm-0.log", &log)]);
    let f = find(&s, "nccl.watchdog-timeout");
    let clock = |ns: i64| ns.rem_euclid(86_400_000_000_000) / 1_000_000_000;
    assert_eq!(
        clock(f.since.unwrap().ns),
        2 * 3600 + 15 * 60,
        "{:?}",
        f.since
    );
    assert_eq!(clock(s.now.unwrap().ns), 2 * 3600 + 15 * 60, "{:?}", s.now);
}

/// A server that serves, with two ranks, up to its first statistics.
fn serving() -> String {
    let rank = |i: u32| {
        format!(
            "(Worker_TP{i} pid={}) INFO 03-11 02:00:33 [parallel_state.py:1713] rank {i} in world size 2 is assigned as DP rank 0, PP rank 0, PCP rank 0, TP rank {i}, EP rank N/A\n",
            402 + 3 * i
        )
    };
    met(0, 2, 2, "10.42.0.17:29501")
        + &init("llm-0", 0, 2, 2, |_| true)
        + &rank(0)
        + &rank(1)
        + "(Worker_TP0 pid=402) INFO 03-11 02:03:55 [gpu_model_runner.py:4244] Graph capturing finished in 19 secs, took 0.84 GiB\n\
           (EngineCore_DP0 pid=271) INFO 03-11 02:03:56 [core.py:210] init engine (profile, create kv cache, warmup model) took 74.71 seconds\n\
           (APIServer pid=1) INFO 03-11 02:03:57 [api_server.py:1970] Starting vLLM API server 0 on http://0.0.0.0:8000\n\
           (APIServer pid=1) INFO:     Application startup complete.\n"
        + &stats("02:04:08", "240.1", 0)
}

fn stats(clock: &str, tokens: &str, waiting: u32) -> String {
    format!(
        "(APIServer pid=1) INFO 03-11 {clock} [loggers.py:248] Engine 000: Avg prompt throughput: {tokens} tokens/s, Avg generation throughput: {tokens} tokens/s, Running: 12 reqs, Waiting: {waiting} reqs, GPU KV cache usage: 8.3%, Prefix cache hit rate: 41.0%\n"
    )
}

const WAIT: &str = "(EngineCore_DP0 pid=271) INFO 03-11 02:06:00 [shm_broadcast.py:681] No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are hanging.\n";
const RPC: &str = "(EngineCore_DP0 pid=271) ERROR 03-11 02:10:00 [core.py:875] TimeoutError: RPC call to sample_tokens timed out.\n";
const FATAL: &str = "(EngineCore_DP0 pid=271) ERROR 03-11 02:10:00 [core.py:875] EngineCore encountered a fatal error.\n";
const DEAD: &str = "(APIServer pid=1) ERROR 03-11 02:10:01 [async_llm.py:480] EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.\n";

fn no_token() -> String {
    ["02:05:00", "02:05:10", "02:05:20", "02:05:30"]
        .iter()
        .zip([0, 9, 18, 27])
        .map(|(clock, waiting)| stats(clock, "0.0", waiting))
        .collect()
}

/// Requests run, no token is made, and the engine waits for its workers: not healthy, whatever has been served.
#[test]
fn a_server_without_a_token_is_not_healthy() {
    let healthy = scene(&[("llm-0.log", &serving())]);
    assert_eq!(healthy.verdict, Verdict::Healthy, "{}", healthy.summary);
    // Statistics alone, or one wait alone, are no proof; tokens that come again end the suspicion.
    let quiet = [
        serving() + &no_token(),
        serving() + WAIT,
        serving() + &no_token() + WAIT + &stats("02:06:10", "240.1", 0),
    ];
    for log in quiet {
        let s = scene(&[("llm-0.log", &log)]);
        assert_eq!(s.verdict, Verdict::Healthy, "{}: {:?}", s.summary, ids(&s));
    }
    let s = scene(&[("llm-0.log", &(serving() + &no_token() + WAIT))]);
    let f = find(&s, "vllm.hung");
    assert_eq!(
        (f.severity, s.verdict),
        (Severity::Warning, Verdict::Degraded)
    );
    assert_eq!(f.confidence, Confidence::Possible, "lines alone");
    assert!(
        f.title.contains("no token while 12 requests run"),
        "{}",
        f.title
    );
    let proof = lines(f);
    assert!(
        proof.iter().any(|l| l.contains("02:05:00")),
        "the first of them: {proof:#?}"
    );
    assert!(
        proof
            .iter()
            .any(|l| l.contains("shared memory broadcast block")),
        "{proof:#?}"
    );
    // The call that timed out: it can't go on.
    let s = scene(&[("llm-0.log", &(serving() + &no_token() + WAIT + RPC))]);
    let f = find(&s, "vllm.hung");
    assert_eq!((f.severity, s.verdict), (Severity::Error, Verdict::Failed));
    assert!(f.title.contains("sample_tokens"), "{}", f.title);
    assert!(
        lines(f)
            .iter()
            .any(|l| l.contains("RPC call to sample_tokens"))
    );
}

/// The engine's end follows from the call that its workers did not answer, also where that stands two lines below.
#[test]
fn an_engine_ends_because_its_workers_do_not_answer() {
    let log = serving() + &no_token() + FATAL + RPC + DEAD;
    let s = scene(&[("llm-0.log", &log)]);
    assert_eq!(s.verdict, Verdict::Failed);
    let f = &s.findings[0];
    assert_eq!(f.id, "vllm.hung", "{:?}", ids(&s));
    assert!(f.title.contains("sample_tokens"), "{}", f.title);
    assert!(
        !s.findings
            .iter()
            .any(|f| f.cause.contains("no failure before")),
        "{:#?}",
        s.findings
    );
    // Where a worker died, the call that it did not answer is no finding of its own.
    let died = "(EngineCore_DP0 pid=271) ERROR 03-11 02:09:58 [multiproc_executor.py:314] Worker proc VllmWorker-1 died unexpectedly (exit code: -11), shutting down executor.\n";
    let s = scene(&[("llm-0.log", &(serving() + died + FATAL + RPC + DEAD))]);
    find(&s, "vllm.worker-died");
    assert!(
        !s.findings.iter().any(|f| f.id == "vllm.hung"),
        "{:?}",
        ids(&s)
    );
}

/// Shards stand still while the engine complains every minute: a load that stopped, as far as lines can tell.
#[test]
fn shards_that_stop_are_a_stalled_load() {
    let at = |clock: &str, text: &str| format!("2026-03-11T{clock}.000000Z {text}\n");
    let bar = |clock: &str, n: u32| {
        at(
            clock,
            &format!(
                "(Worker_TP0 pid=402) Loading safetensors checkpoint shards:  {}% Completed | {n}/30 [01:08<00:52,  4.00s/it]",
                n * 100 / 30
            ),
        )
    };
    let start: String = (met(0, 2, 2, "10.42.0.17:29501") + &init("llm-0", 0, 2, 2, |_| true))
        .lines()
        .map(|l| at("02:00:21", l))
        .collect();
    let load = start
        + &at(
            "02:00:40",
            "(Worker_TP0 pid=402) INFO 03-11 02:00:40 [gpu_model_runner.py:3259] Starting to load model /models/q-72b...",
        )
        + &bar("02:00:44", 1)
        + &bar("02:01:48", 17);
    let wait = |clock: &str| at(clock, &WAIT.replace("02:06:00", clock).replace('\n', ""));
    // A first wait may be the load itself.
    let s = scene(&[("llm-0.log", &(load.clone() + &wait("02:02:20")))]);
    assert!(!s.findings.iter().any(|f| f.id == "vllm.loading-stalled"));
    let s = scene(&[("llm-0.log", &(load + &wait("02:12:00")))]);
    let f = find(&s, "vllm.loading-stalled");
    assert_eq!(
        (f.severity, f.confidence),
        (Severity::Warning, Confidence::Possible)
    );
    assert_eq!(s.verdict, Verdict::Degraded);
    assert!(f.title.contains("17 of 30 shards"), "{}", f.title);
    assert!(
        lines(f).iter().any(|l| l.contains("17/30")),
        "{:?}",
        lines(f)
    );
}

const GAI: &str = "The IPv6 network addresses of (llm-0.llm, 29501) cannot be retrieved (gai error: -2 - Name or service not known).";

/// A name that never resolves, in the words of torch's store, with and without vLLM's own line about the worker.
#[test]
fn a_name_that_does_not_resolve_is_named() {
    let warned: String = (0..6)
        .map(|i| format!("[W311 02:00:3{i}.905768298 TCPStore.cpp:131] [c10d] {GAI}\n"))
        .collect();
    let gave_up = "(Worker pid=402) ERROR 03-11 02:01:02 [multiproc_executor.py:703] torch.distributed.DistNetworkError: The client socket has failed to connect to any network address of (llm-0.llm, 29501). The IPv4 network addresses of (llm-0.llm, 29501) cannot be retrieved (gai error: -2 - Name or service not known).\n";
    let launch = "(APIServer pid=1) INFO 03-11 02:00:00 [serve.py:212] Launching vLLM (v0.14.1) headless multiproc executor, with head node address 10.42.0.17:29501 for torch.distributed process group.\n";
    let died = "(Worker pid=402) ERROR 03-11 02:01:02 [multiproc_executor.py:703] WorkerProc failed to start.\n";
    for end in [gave_up.to_owned(), died.to_owned() + gave_up] {
        let s = scene(&[("llm-1.log", &(launch.to_owned() + &warned + &end))]);
        assert_eq!(s.verdict, Verdict::Failed, "{}", s.summary);
        let f = &s.findings[0];
        assert_eq!(f.id, "vllm.rendezvous-timeout", "{:?}", ids(&s));
        assert!(
            f.title.contains("can't resolve the name llm-0.llm"),
            "{}",
            f.title
        );
        assert!(
            f.fix.iter().any(|x| x.contains("publishNotReadyAddresses")),
            "{:?}",
            f.fix
        );
        assert!(
            lines(f).iter().any(|l| l.starts_with("[W311 02:00:30")),
            "{:?}",
            lines(f)
        );
    }
    // Names resolve once their pod is there: who came through has only waited.
    let s = scene(&[(
        "llm-1.log",
        &(launch.to_owned() + &warned + &met(0, 2, 2, "10.42.0.17:29501")),
    )]);
    assert!(s.findings.is_empty(), "{:?}", ids(&s));
}

/// Two pods that both say ranks 0 and 1; a restart that says them again is another life.
#[test]
fn two_pods_of_one_rank_are_told() {
    let pod = || met(0, 2, 4, "10.42.0.17:29501");
    let (zero, one) = (format!("one line more\n{}", pod()), pod());
    let s = scene(&[("llm-0.log", &zero), ("llm-1.log", &one)]);
    let f = find(&s, "vllm.rank-config");
    assert_eq!(f.severity, Severity::Error);
    assert_eq!(
        f.title,
        "llm-0.log and llm-1.log both say that they are ranks 0-1"
    );
    let proof = lines(f);
    assert!(
        proof.iter().filter(|l| l.contains("rank=0")).count() == 2,
        "{proof:#?}"
    );
    // One log under two names.
    let s = scene(&[("llm-0.log", &zero), ("copy.log", &zero)]);
    assert!(
        !s.findings.iter().any(|f| f.id == "vllm.rank-config"),
        "{:?}",
        ids(&s)
    );
    let later = pod().replace(" 02:00:2", " 02:07:2");
    let s = scene(&[("llm-0.log.1", &zero), ("llm-0.log", &later)]);
    assert!(
        !s.findings.iter().any(|f| f.id == "vllm.rank-config"),
        "{:?}",
        ids(&s)
    );
}

/// A pod that joins a head elsewhere can't meet anybody at its own loopback address.
#[test]
fn a_rendezvous_on_loopback_is_told_of_a_pod_that_joins_another() {
    let launch = "(APIServer pid=1) INFO 03-11 02:00:00 [serve.py:212] Launching vLLM (v0.14.1) headless multiproc executor, with head node address 10.42.0.17:29501 for torch.distributed process group.\n";
    let joins = launch.to_owned() + &met(2, 2, 4, "127.0.0.1:29501");
    let head = met(0, 2, 4, "10.42.0.17:29501");
    let s = scene(&[("llm-0.log", &head), ("llm-1.log", &joins)]);
    let f = find(&s, "vllm.wrong-host-ip");
    assert!(f.title.contains("tcp://127.0.0.1:29501"), "{}", f.title);
    assert_eq!(f.ranks, [2, 3]);
    // Alone on its node it may meet wherever it likes.
    let s = scene(&[("llm-1.log", &met(0, 2, 2, "127.0.0.1:29501"))]);
    assert!(s.findings.is_empty(), "{:?}", ids(&s));
}

/// Seven of eight are complete: the verdict does not say that all are.
#[test]
fn a_communicator_that_one_rank_has_not_finished_is_not_complete() {
    let logs = |done: fn(u32) -> bool| {
        scene(&[
            ("n-0.log", &init("n-0", 0, 4, 8, done)),
            ("n-1.log", &init("n-1", 4, 4, 8, done)),
        ])
    };
    let s = logs(|_| true);
    assert_eq!(s.verdict, Verdict::Healthy, "{}", s.summary);
    let s = logs(|rank| rank != 2);
    assert_eq!(s.verdict, Verdict::Starting, "{}", s.summary);
    assert_eq!(
        s.summary,
        "7 of 8 ranks of a communicator are complete: rank 2 has begun and not finished"
    );
}

/// A port of an RDMA device that reports errors again and again, with no transfer failed yet.
#[test]
fn a_port_that_flaps_is_a_warning() {
    let event = |second: u32| {
        format!(
            "\n[2026-03-11 02:04:{second:02}] llm-0:405:405 [1] transport/net_ib/common.cc:57 NCCL WARN NET/IB : mlx5_1:1 Got non-fatal async event: port error(10)\n"
        )
    };
    let log: String = serving() + &(10..18).map(event).collect::<String>();
    let s = scene(&[("llm-0.log", &log)]);
    assert_eq!(s.verdict, Verdict::Degraded, "{}", s.summary);
    let f = find(&s, "nccl.ib-completion-error");
    assert_eq!(f.severity, Severity::Warning);
    assert_eq!(f.title, "mlx5_1:1 on llm-0 reports port error 8 times");
    assert!(lines(f)[0].contains("Got non-fatal async event"));
    // One that comes alone may be the address that a switch gave anew.
    let gid = event(10).replace(
        "Got non-fatal async event: port error(10)",
        "GID table changed",
    );
    let s = scene(&[("llm-0.log", &(serving() + &gid))]);
    assert_eq!(s.verdict, Verdict::Healthy, "{:?}", ids(&s));
}

/// P2P off on one node alone is a mistake; off on all of them it is somebody's will.
#[test]
fn p2p_off_on_one_node_alone_is_a_warning() {
    let pod = |host: &str, first: u32, via: &str, off: bool| {
        let set = if off {
            format!(
                "{host}:402:402 [0] NCCL INFO NCCL_P2P_DISABLE set by environment to 1.\n{host}:405:405 [1] NCCL INFO NCCL_P2P_DISABLE set by environment to 1.\n"
            )
        } else {
            String::new()
        };
        let begun = init(host, first, 2, 4, |_| false);
        let begun = begun
            .lines()
            .filter(|l| l.contains("START"))
            .map(|l| format!("{l}\n"));
        let done = init(host, first, 2, 4, |_| true);
        let done = done
            .lines()
            .filter(|l| l.contains("COMPLETE"))
            .map(|l| format!("{l}\n"));
        set + &begun.collect::<String>()
            + &format!(
                "{host}:402:402 [0] NCCL INFO Channel 00/0 : {first}[0] -> {}[1] via {via}\n",
                first + 1
            )
            + &done.collect::<String>()
    };
    let shm = "SHM/direct/direct";
    let s = scene(&[
        ("llm-0.log", &pod("llm-0", 0, "P2P/CUMEM/read", false)),
        ("llm-1.log", &pod("llm-1", 2, shm, true)),
    ]);
    let f = find(&s, "nccl.shm-despite-p2p");
    assert_eq!(
        (f.severity, s.verdict),
        (Severity::Warning, Verdict::Degraded)
    );
    assert_eq!(f.hosts, ["llm-1"]);
    assert!(f.title.contains("NCCL_P2P_DISABLE=1"), "{}", f.title);
    assert!(
        lines(f)
            .iter()
            .any(|l| l.contains("NCCL_P2P_DISABLE set by environment"))
    );
    assert!(lines(f).iter().any(|l| l.contains("via P2P/CUMEM")));
    let s = scene(&[
        ("llm-0.log", &pod("llm-0", 0, shm, true)),
        ("llm-1.log", &pod("llm-1", 2, shm, true)),
    ]);
    assert!(
        !s.findings.iter().any(|f| f.id == "nccl.shm-despite-p2p"),
        "{:?}",
        ids(&s)
    );
}

/// Who was asked to end has not failed; who was asked before it served has.
#[test]
fn a_server_that_was_asked_to_end_did_not_fail() {
    let asked = "(EngineCore_DP0 pid=271) INFO 03-11 02:06:40 [core.py:1212] [shutdown] EngineCore: trigger received signal=SIGTERM\n\
        llm-0:402:402 [0] NCCL INFO comm 0x558a1c00 rank 0 nranks 2 cudaDev 0 busId 1b000 - Destroy COMPLETE\n\
        llm-0:405:405 [1] NCCL INFO comm 0x558a1c01 rank 1 nranks 2 cudaDev 1 busId 2b000 - Destroy COMPLETE\n\
        (Worker_TP0 pid=402) WARNING 03-11 02:06:41 [multiproc_executor.py:711] WorkerProc was terminated\n\
        (Worker_TP1 pid=405) WARNING 03-11 02:06:41 [multiproc_executor.py:711] WorkerProc was terminated\n\
        INFO:     Shutting down\nINFO:     Application shutdown complete.\n";
    let s = scene(&[("llm-0.log", &(serving() + asked))]);
    assert_eq!(
        (s.verdict, s.summary.as_str()),
        (
            Verdict::Healthy,
            "ended in order by SIGTERM, after all 2 ranks had served"
        )
    );
    let early = met(0, 2, 2, "10.42.0.17:29501") + &init("llm-0", 0, 2, 2, |_| true);
    let s = scene(&[("llm-0.log", &(early + asked))]);
    assert_eq!(s.verdict, Verdict::Failed);
    assert!(
        s.summary.contains("SIGTERM") && s.summary.contains("before it served"),
        "{}",
        s.summary
    );
    assert!(s.processes.iter().all(|p| p.stage != Some(Stage::Serving)));
}

/// Everyone who saw a connection close is counted, whichever file tells of it.
#[test]
fn the_echoes_of_a_crash_are_counted_over_all_files() {
    let closed = |host: &str, i: u32| {
        format!(
            "\n[2026-03-11 02:03:05] {host}:{}:{} [{i}] misc/socket.cc:50 NCCL WARN socketProgress: Connection closed by remote peer llm-1.llm.prod.svc.cluster.local<38122>\n",
            402 + 3 * i,
            402 + 3 * i
        )
    };
    let zero = met(0, 2, 4, "10.42.0.17:29501")
        + &init("llm-0", 0, 2, 4, |_| true)
        + &closed("llm-0", 0)
        + &closed("llm-0", 1);
    let one = met(2, 2, 4, "10.42.0.17:29501")
        + &init("llm-1", 2, 2, 4, |_| true)
        + "[llm-1:405 :0:405] Caught signal 11 (Segmentation fault: address not mapped to object at address 0x8)\n"
        + &closed("llm-1", 0);
    let s = scene(&[("llm-0.log", &zero), ("llm-1.log", &one)]);
    let f = find(&s, "vllm.worker-died");
    assert!(
        f.cause
            .ends_with("3 other processes then saw their connections close."),
        "{}",
        f.cause
    );
}

/// A size that fits heads and ranks, or what must divide: never a size that leaves ranks without a place.
#[test]
fn sizes_that_are_advised_fit_the_ranks_too() {
    let fix = |heads: u32, tp: u32| {
        let line = format!(
            "ValueError: Total number of attention heads ({heads}) must be divisible by tensor parallel size ({tp}).\n"
        );
        find(&scene(&[("llm-0.log", &line)]), "vllm.world-size")
            .fix
            .clone()
    };
    let sizes = |fix: &[String]| {
        fix.iter()
            .find(|f| f.contains("--tensor-parallel-size"))
            .cloned()
    };
    let told = fix(28, 8);
    assert!(
        sizes(&told)
            .is_some_and(|f| f.contains("--tensor-parallel-size=4 --pipeline-parallel-size=2")),
        "{told:?}"
    );
    let told = fix(27, 8);
    assert_eq!(sizes(&told), None, "{told:?}");
    assert!(
        told.iter()
            .any(|f| f.contains("must divide the 27 attention heads")),
        "{told:?}"
    );
}

/// Seconds that pass without a fact of any kind are a feed that is behind: nobody stands still because of them.
#[test]
fn time_without_any_fact_is_nobodys_silence() {
    let events = sim::events(&sim::load("healthy").unwrap());
    let began = events[0].0;
    let mut judged = 0;
    for cut in [10, 20, 30, 40, 50, 60, 80, 100] {
        let mut model = Model::default();
        let mut seq = 0;
        for (at, event) in events
            .iter()
            .take_while(|(at, _)| (at - began) / 1_000_000_000 < cut)
        {
            seq += 1;
            let (at, event) = (*at, event.clone());
            update(&mut model, Stamped { seq, at, event });
        }
        let before = Scene::of(&model);
        let at = model.now + 400 * 1_000_000_000;
        let event = Event::Tick;
        seq += 1;
        update(&mut model, Stamped { seq, at, event });
        let s = Scene::of(&model);
        let still = |s: &Scene| s.processes.iter().filter(|p| p.still.is_some()).count();
        assert_eq!(still(&s), still(&before), "at {cut} s");
        assert_eq!(
            (s.verdict, ids(&s)),
            (before.verdict, ids(&before)),
            "at {cut} s"
        );
        judged += s.gpus.len();
    }
    assert!(judged > 0, "GPUs were sampled");
}
