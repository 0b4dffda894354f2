//! Plain log files as containers leave them: no stamp of a kubelet in front, NCCL's warnings dated in full, vLLM's
//! records by month and day, torch's by its own.

use super::{find, ids, scene};

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
