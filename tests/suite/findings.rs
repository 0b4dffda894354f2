//! Findings: each is raised on the right line whatever the wording, and healthy logs raise none.
//!
//! Every line is composed from the log grammar.

#[path = "findings/cluster.rs"]
mod cluster;
#[path = "findings/healthy.rs"]
mod healthy;
#[path = "findings/objects.rs"]
mod objects;
#[path = "findings/plain.rs"]
mod plain;
#[path = "findings/versions.rs"]
mod versions;
#[path = "findings/wordings.rs"]
mod wordings;

use std::sync::Arc;

use ncclscope::model::event::{
    Event, Feed, LogBlock, Session, SourceEvent, SourceId, SourceInfo, Stamped,
};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::KNOWN;
use ncclscope::rules::findings::fix::{Shape, sh};
use ncclscope::rules::scene::{Confidence, Evidence, Finding, Scene, Severity, Verdict};

use healthy::healthy;

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

pub fn scene(sources: &[(&str, &str)]) -> Scene {
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

/// Nobody knows what the pod of a saved log is called: its command has a gap there, and no other name.
#[test]
fn the_name_of_a_file_is_no_pods() {
    let line = "OSError: Can't load tokenizer for '/models/x'. If you were trying\n";
    let s = scene(&[("saved/llm-0.log", line)]);
    let f = find(&s, "vllm.tokenizer-missing");
    let gap = "kubectl exec '<pod of llm-0.log>' -- ls -l /models/x";
    assert!(f.fix.iter().any(|x| x == gap), "{:?}", f.fix);
}

/// What is typed, what is put somewhere, what is read.
#[test]
fn a_line_of_a_fix_is_a_command_a_piece_or_words() {
    for (fix, shape) in [
        ("kubectl -n prod logs llm-0", Shape::Command),
        ("export NCCL_IB_HCA=mlx5", Shape::Command),
        ("unset NCCL_P2P_DISABLE", Shape::Command),
        ("unset NCCL_NET, and look at NCCL_IB_HCA", Shape::Words),
        ("--max-model-len=77088   # add to vllm serve", Shape::Piece),
        (
            "- {name: NCCL_DEBUG, value: \"INFO\"}   # containers[*].env",
            Shape::Piece,
        ),
        (
            "securityContext: {capabilities: {add: [IPC_LOCK]}}",
            Shape::Piece,
        ),
        ("NCCL_DEBUG_FILE=/dev/shm/nccl.%h.%p", Shape::Piece),
        (
            "spread the weights over more GPUs: a larger size",
            Shape::Words,
        ),
        ("nothing, unless a communicator fails", Shape::Words),
    ] {
        assert_eq!(Shape::of(fix), shape, "{fix}");
    }
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
    let roots = |s: &Scene| -> Vec<&str> {
        let roots = s.findings.iter().filter(|f| f.consequence_of.is_none());
        roots.map(|f| f.id).collect()
    };
    assert_eq!(roots(&s), ["vllm.tokenizer-missing", "nccl.shm-too-small"]);
    // Whichever log comes first: what began first stands first.
    let s = scene(&[("b.log", &b), ("a.log", &a)]);
    assert_eq!(roots(&s), ["vllm.tokenizer-missing", "nccl.shm-too-small"]);
    // An error stands before a warning that is older.
    let warned = stamped(
        0,
        &format!(
            "{NCCL}NCCL INFO P2P is disabled between connected GPUs 0 and 1. You can repress this message with NCCL_IGNORE_DISABLED_P2P=1."
        ),
    );
    let s = scene(&[("a.log", &warned), ("b.log", &b)]);
    assert_eq!(roots(&s), ["nccl.shm-too-small", "nccl.p2p-refused"]);
}

/// The rest of a rank's calls comes late: who was suspected is suspected no more.
#[test]
fn late_lines_take_a_suspicion_back() {
    let calls = |rank: u32, from: u32, to: u32| -> String {
        (from..to)
            .map(|n| {
                format!(
                    "llm-0:{0}:{0} [{rank}] NCCL INFO AllReduce: opCount {n:x} sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count {1} datatype 9 op 0 root 0 comm 0x55aa0010 [nranks=4] stream 0x55cf1e20\n",
                    200 + rank,
                    4096 + n
                )
            })
            .collect()
    };
    let mut text = healthy("2.27.7", 4, "");
    for rank in 0..4 {
        text.push_str(&calls(rank, 0, if rank == 2 { 40 } else { 100 }));
    }
    let (mut model, mut seq) = (Model::default(), 0);
    feed(&mut model, &mut seq, &[("a.log", &text)]);
    let s = Scene::of(&model);
    assert_eq!(find(&s, "nccl.rank-stuck").ranks, [2]);
    assert_eq!(s.verdict, Verdict::Degraded);
    let first = u64::try_from(text.lines().count()).unwrap() + 1;
    let block = Arc::new(Block::new(first, calls(2, 40, 100).into_bytes()));
    let source = SourceId(0);
    send(&mut model, &mut seq, Event::Log(LogBlock { source, block }));
    let s = Scene::of(&model);
    assert_eq!(ids(&s), []);
    assert_eq!(s.verdict, Verdict::Healthy);
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
