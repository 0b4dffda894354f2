//! What holds for every input, found by throwing dice.

use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::fact::Fact;
use ncclscope::parse::vllm::{self, VllmFact};
use ncclscope::parse::{Block, Head, Outer, Parser, Rec, clean};
use ncclscope::report::redact::Redactor;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Lines of every kind, whole and by themselves.
const LINES: &[&str] = &[
    "llm-0:211:345 [0] NCCL INFO Channel 00/0 : 7[7] -> 8[0] [send] via NET/IB/2(3)/GDRDMA/Shared",
    "llm-0:211:345 [0] NCCL INFO Channel 00/02 :    0   1   2   3",
    "2025-01-02T03:04:05.123456789Z llm-1:7:9 [1] NCCL INFO Trees [0] 1/-1/-1->0->-1 [1] -1/-1/-1->0->3",
    "2025-01-02T03:04:05.1Z stdout F llm-1:7:9 [1] NCCL INFO Connected all rings, use ring PXN 0 GDR 1",
    "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=512, ip=10.42.1.9) llm-1:512:900 [0] NCCL INFO Connected all trees [repeated 7x across cluster]",
    "llm-0:211:345 [0] NCCL INFO ncclCommSplit comm 0x558b7700 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent 0x558a1c20 splitCount 1 color 77 key 0- Init START",
    "llm-0:211:345 [0] NCCL INFO AllReduce: opCount 1f sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count 4194304 datatype 9 op 0 root 0 comm 0x558a1c20 [nranks=8] stream 0x55cf1e20",
    "[2025-03-04 05:06:07] llm-0:211:345 [0] misc/socket.cc:812 NCCL WARN socketPollConnect to 10.42.1.9<41873> failed with error Connection refused",
    "[2026-01-02 03:04:05] llm-0:211:345 [0] init.cc:1057 (initTransportsRank) NCCL WARN Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000",
    "llm-0:211:345 [0] NCCL INFO NET/IB : Using [0]={[0] mlx5_0:1/IB, [1] mlx5_1:1/IB} [1]mlx5_2:1/IB [RO]; OOB eth0:10.42.0.17<0>",
    "llm-0:211:345 [0] NCCL INFO NCCL_IB_TIMEOUT set by environment to 22.",
    "NCCL version 2.21.5+cuda12.4",
    "RCCL version : 2.27.7-main:1a2b3c4",
    "{\"log\":\"llm-0:211:345 [0] NCCL INFO Using network IB\\n\",\"stream\":\"stdout\",\"time\":\"2025-01-02T03:04:05.5Z\"}",
    "\u{1b}[36m(RayWorkerWrapper pid=512, ip=10.42.1.9)\u{1b}[0m llm-1:512:900 [0] NCCL INFO Bootstrap: Using eth0:10.42.0.17<0>",
    "[1,0]<stdout>:[rank3]:[default3]: node-a:1:2 [0] NCCL INFO P2P Chunksize set to 131072",
    "[pod/llm-0/vllm] vllm-1  | rank_12.log:node-a: node-a:1:2 [0] NCCL INFO cudaDriverVersion 12080",
    "(Worker_TP0 pid=388) INFO 11-20 08:04:55 [gpu_model_runner.py:1951] Model loading took 13.5 GiB and 4.1 seconds",
    "INFO:     10.42.0.1:51230 - \"GET /health HTTP/1.1\" 200 OK",
    "[rank5]:[E118 07:41:30.120394556 ProcessGroupNCCL.cpp:685] [Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=ALLREDUCE, NumelIn=8192, NumelOut=8192, Timeout(ms)=600000) ran for 600021 milliseconds before timing out.",
    "Loading safetensors checkpoint shards:  10% Completed | 6/59 [00:12<01:30,  1.71s/it]\rLoading safetensors checkpoint shards:  12% Completed | 7/59 [00:13<01:30,  1.71s/it]",
    "[0] NCCL INFO Connected NVLS tree",
    "x y z llm-9:1:1 [0] NCCL INFO 2 coll channels, 2 p2p channels, 2 p2p channels per peer",
    "",
    "some words",
];

/// Lines whose numbers, written `#`, may be any: some make no date, some another sentence.
const NUMBERED: &[&str] = &[
    "INFO 1#-2# 0#:#0:1# [gpu_model_runner.py:1951] Model loading took 1#.5 GiB and #.1 seconds",
    "DEBUG ##-1# 08:##:55 [core.py:601] EngineCore loop active, ## requests waiting",
    "ERROR 1#-2# 08:04:55 [core.py:##] ValueError: # heads",
    "Loading safetensors checkpoint shards:  #0% Completed | #/5# [00:1#<01:3#,  1.71s/it]",
    "INFO 11-2# 08:04:55 [loggers.py:127] Engine 00#: Avg prompt throughput: ##.5 tokens/s, Avg generation throughput: #.2 tokens/s, Running: # reqs, Waiting: # reqs, GPU KV cache usage: #.1%",
    "INFO ##-## ##:##:## [loggers.py:127] Engine ###: Avg prompt throughput: 12###.##5 tokens/s, Avg generation throughput: # tokens/s, Running: ####### reqs, Waiting: ######## reqs, GPU KV cache usage: -#.1%",
    "INFO ##-## ##:##:## [loggers.py:127] Engine 000: Avg prompt throughput: #.###### tokens/s, Avg generation throughput: ####### tokens/s, Running: 0# reqs, Swapped: # reqs, Pending: #,### reqs, GPU KV cache usage: n/a",
    "INFO 0#-## 2#:6#:6# [gpu_model_runner.py:33#] Model loading took 1#.######## GiB memory and #######.####### seconds",
    "INFO 0#-1# 2#:#0:0# [gpu_model_runner.py:33#] Model loading took #. GiB memory and -#.# seconds",
    "INFO 02-1# 20:00:0# [weight_utils.py:1#] Loading model weights took ##.#### GiB and #.# seconds",
    "Capturing CUDA graphs (decode, FULL):  ##%|\u{2588}\u{258d}   | ##/35 [00:0#<?, ?it/s]",
    "Capturing CUDA graph shapes: #%|#5  | #/35 [#:##:##<##:##, #.##it/s]",
    "Fetching ## files:  5#%|##   | #/## [0#:##<##:##,  #.#s/it]",
    "model-0000#-of-00002.safetensors:  4#%|##   | #.#G/4.98G [00:##<00:##, 4#.#MB/s]",
    "Loading safetensors checkpoint shards: ###% Completed | ##/####### [##:##<####:##,  0.0#s/it]",
    "Loading pt checkpoint shards: #0% Completed | #/## [#<##:##:##, ########.#it/s]",
    "(Worker_TP# pid=21#) OSError: [Errno ##] No space left on device",
    "OSError: [Errno ##] No space left on device",
    "INFO:     10.42.0.#:512## - \"GET /health HTTP/1.1\" 200 OK",
    "INFO:     Application startup complete. #",
    "/usr/lib/python3.1#/resource_tracker.py:#: UserWarning: something leaked",
    "rank_#.log:#: [rank#]: RuntimeError: #",
    "Mon Aug #4 1#:20:30 202# and more",
    "W030# 08:14:##.112233 1399 torch/distributed/run.py:766] Sending process ## closing signal SIGTERM",
    "ERROR 11-2# 08:04:55 [core.py:7] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate #.00 GiB. GPU # has a total capacity of 79.1# GiB of which #.#0 GiB is free.",
    "INFO ##-2# 08:04:55 [multiproc_executor.py:16#] rank # in world size 1# is assigned as DP rank 0, PP rank #, TP rank #, EP rank #",
    "NotImplementedError: Could not run #",
    "Xid (PCI:0000:3b:00): ##, pid=##",
];

/// Lines that come by the million and what makes a difference to them: `#` is a small number.
const COMMON: &[&str] = &[
    "2026-02-03T03:04:05.00000013#Z llm-#:21#:421# [0] NCCL INFO Channel 0#/0 : #[#] -> 3[3] via P2P/CUMEM/read",
    "llm-#:21#:421# [0] NCCL INFO Channel 1#/0 : #[#] -> 2[2] [send] via NET/IB/#/GDRDMA",
    "llm-#:211:4211 [0] NCCL INFO Channel 0#/1 : 1[1] -> #[#] via SHM/direct/direct",
    "llm-#:211:4211 [0] NCCL INFO Channel 0#/1 : 1[1] -> 2[2] via P2P/IPC comm 0x55d0b#00 nRanks 08",
    "llm-#:211:4211 [0] NCCL INFO Channel 0#/02 :    0   1   2",
    "llm-#:211:4211 [0] NCCL INFO AllReduce: opCount #f sendbuff 0x7f3a2c00#000 recvbuff 0x7f3a2c000000 count 4# datatype 9 op 0 root 0 comm 0x55d0b#00 [nranks=8] stream 0x55cf1e20",
    "llm-#:211:4211 [0] NCCL INFO AllGather: opCount # sendbuff (nil) recvbuff 0x7f count # datatype # op 0 root 0 comm 0x55d0b100 [nranks=8] stream 0x1",
    // More calls than four bytes count, and a stamp too far away for a word that also says whether it is exact.
    "llm-#:211:4211 [0] NCCL INFO AllGather: opCount 10000000# sendbuff 0x1 recvbuff 0x7f count # datatype 9 op 0 root 0 comm 0x55d0b100 [nranks=8] stream 0x1",
    "2200-02-03T03:04:05.00000000#Z llm-#:211:4211 [0] NCCL INFO AllGather: opCount # sendbuff 0x1 recvbuff 0x7f count # datatype 9 op 0 root 0 comm 0x55d0b100 [nranks=8] stream 0x1",
    "llm-#:211:4211 [0] NCCL INFO AllReduce: opCount # sendbuff 0x1 recvbuff 0x7f count # datatype 7 op 0 root 0 comm 0x55d0b100 [nra",
    "llm-#:211:4211 [0] NCCL INFO ncclCommInitRank comm 0x55d0b#00 rank # nranks 8 cudaDev 0 nvmlDev 0 busId b000 commId 0xbeef - Init START",
    "llm-#:211:4211 [0] NCCL INFO ncclCommInitRank comm 0x55d0b#00 rank # nranks 8 cudaDev 0 nvmlDev 0 busId b000 commId 0xbeef - Init COMPLETE",
    "llm-#:211:4211 [0] NCCL INFO Connected all rings, use ring PXN 0 GDR 1",
    "llm-#:211:4211 [0] NCCL INFO NCCL version 2.27.7+cuda12.8",
    "llm-#:211:4211 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC llm-0:211:4211 [0] NCCL INFO Channel 0#/0 : 0[0] -> 1[1] via P2P/IPC",
    "(RayWorkerWrapper pid=51#, ip=10.42.1.9) llm-1:211:4211 [0] NCCL INFO Channel 0#/0 : 0[0] -> 1[1] via P2P/IPC",
    "(RayWorkerWrapper pid=51#, ip=10.42.1.9) llm-1:211:4211 [0] NCCL INFO Channel 0#/0 : 0[0] -> 1[1] via P2P/IPC [repeated 7x across cluster]",
    "\u{1b}[36mllm-1:211:4211 [0] NCCL INFO Channel 0#/0 : 0[0] -> 1[1] via P2P/IPC\u{1b}[0m",
    "llm-1:211:4211 [0] NCCL INFO Channel 0#/0 : 0[0] -> 1[1] via P2P/IPC\r",
    "(APIServer pid=#) INFO 02-03 03:04:0# [loggers.py:127] Engine 000: Avg prompt throughput: #.5 tokens/s, Avg generation throughput: #.0 tokens/s, Running: # reqs, Waiting: 0 reqs, GPU KV cache usage: 1#.1%",
    "(APIServer pid=#) INFO 02-03 03:04:0# [api_server.py:1839] vLLM API server version 0.11.#",
    "(Worker_TP# pid=21#) Loading safetensors checkpoint shards:  1#% Completed | #/59 [00:0#<01:30,  1.71s/it]",
    "(Worker_TP# pid=21#) INFO 02-03 03:00:00 [parallel_state.py:1208] rank # in world size 8 is assigned as DP rank 0, PP rank 0, TP rank #, EP rank #",
    "(Worker_TP# pid=21#) INFO 02-03 03:04:0# [gpu_model_runner.py:3338] Model loading took 17.0# GiB memory and 1#.402188 seconds",
];

/// Lines that name a secret, and some that only look as if they did.
const NAMED: &[&str] = &[
    "(Worker_TP# pid=21#) INFO 02-03 03:04:0# [config.py:1#] HF_TOKEN=abc#efgh#jkl",
    "(Worker_TP# pid=21#) INFO 02-03 03:04:0# [config.py:1#] # tokens, # passes, # keyed",
    "(my_key# pid=21#) INFO 02-03 03:04:0# [config.py:1#] = s3cr#tv4l#e",
    "INFO:     api_key: qwe#tyu#opas",
    "INFO:     DB_PASSWORD",
    "llm-0:21#:421# [#] NCCL INFO NCCL_AUTH_TOKEN set by environment to zyx#wvu#tsr",
    "export MY_SECRET=plm#okn#ijb",
];

/// A line with its numbers.
fn numbered(line: &str, digits: &[u8]) -> String {
    let mut digits = digits.iter().cycle();
    let number = |c| match c {
        '#' => char::from(b'0' + digits.next().copied().unwrap_or(0)),
        c => c,
    };
    line.chars().map(number).collect()
}

/// A text of such lines.
fn common() -> impl Strategy<Value = Vec<String>> {
    let line = (select(COMMON), vec(0_u8..4, 8)).prop_map(|(line, digits)| numbered(line, &digits));
    vec(line, 1..60)
}

/// Lines of few processes that connect and call for long, of two threads each, and of those that load models.
const STEADY: &[&str] = &[
    "llm-0:21#:421# [0] NCCL INFO Channel 0#/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    "llm-0:21#:421# [0] NCCL INFO Channel 1#/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    "llm-0:211:4211 [0] NCCL INFO Channel 0#/0 : #[#] -> 2[2] [send] via NET/IB/#/GDRDMA",
    "llm-0:211:4211 [0] NCCL INFO Channel 13#/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
    "2026-02-03T03:04:05.00000013#Z llm-0:21#:421# [0] NCCL INFO AllReduce: opCount #f sendbuff 0x7f3a2c00#000 recvbuff 0x7f3a2c000000 count 4# datatype 9 op 0 root 0 comm 0x55d0b000 [nranks=8] stream 0x55cf1e20",
    "llm-0:21#:421# [0] NCCL INFO AllGather: opCount # sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count # datatype 9 op 0 root 0 comm 0x55d0b#00 [nranks=8] stream 0x55cf1e20",
    "llm-0:21#:421# [0] NCCL INFO AllReduce: opCount # sendbuff (nil) recvbuff 0x7f count # datatype 7 op 0 root 0 comm 0x55d0b000 [nranks=8] stream 0x1",
    "llm-0:21#:421# [0] NCCL INFO Connected all rings, use ring PXN 0 GDR 1",
    "llm-0:21#:421# [0] NCCL INFO NVLS multicast support is available on dev 0 (NVLS_NCHANNELS 16)",
    "(APIServer pid=1) INFO 02-03 03:04:0# [loggers.py:127] Engine 000: Avg prompt throughput: #.5 tokens/s, Avg generation throughput: #.0 tokens/s, Running: # reqs, Waiting: 0 reqs, GPU KV cache usage: 1#.1%",
    "(Worker_TP# pid=21#) Loading safetensors checkpoint shards:  1#% Completed | #/59 [00:0#<01:30,  1.71s/it]",
    "(Worker_TP# pid=21#) model-0#.safetensors:  1#%|#         | 5#0M/4.98G [00:0#<01:30, 50.0MB/s]",
    "(Worker_TP# pid=21#) INFO 02-03 03:04:0# [gpu_model_runner.py:3338] Model loading took 17.0# GiB memory and 1#.402188 seconds",
    "(Worker_TP# pid=21#) INFO 02-03 03:00:00 [parallel_state.py:1208] rank # in world size 8 is assigned as DP rank 0, PP rank 0, TP rank #, EP rank #",
    "(Worker_TP# pid=21#) INFO 02-03 03:00:00 [gpu_model_runner.py:2602] Starting to load model meta-llama/Llama-3.1-8B...",
];

/// A text of such lines behind the communicators that they are about; rarely one of them begins anew.
fn steady() -> impl Strategy<Value = Vec<String>> {
    let init = |comm: u64| {
        (0..2).map(move |rank| {
            format!("llm-0:21{rank}:421{rank} [0] NCCL INFO ncclCommInitRank comm 0x55d0b{comm}00 rank 0 nranks 8 cudaDev 0 nvmlDev 0 busId b000 commId 0xbeef - Init COMPLETE")
        })
    };
    let line = (select(STEADY), vec(0_u8..2, 8)).prop_map(|(line, digits)| numbered(line, &digits));
    let rare = (0_u64..2).prop_map(move |comm| init(comm).next().unwrap_or_default());
    let line = prop_oneof![40 => line, 1 => rare];
    (0_u64..3, vec(line, 1..200)).prop_map(move |(comms, lines)| {
        // Who hears vLLM speak in a log takes nobody for another's successor, from the block on in which it does.
        let mut all = vec!["(APIServer pid=1) INFO 02-03 03:04:00 [api_server.py:1839] vLLM API server version 0.11.2".to_owned()];
        all.extend((0..comms).flat_map(init));
        all.extend(lines);
        all
    })
}

/// The model of lines in blocks of so many, each read by `read`.
fn model_of(lines: &[String], per_block: usize, read: impl FnMut(&mut Block)) -> String {
    let model = folded(lines, per_block, read);
    format!("{:#?} {}", model.sources, processes(&model))
}

/// What is known of processes.
fn processes(model: &Model) -> String {
    format!("{:#?} {:#?}", model.procs, model.speakers)
}

fn folded(lines: &[String], per_block: usize, mut read: impl FnMut(&mut Block)) -> Model {
    let mut model = Model::default();
    let mut tell = |event| {
        drop(update(
            &mut model,
            Stamped {
                seq: 1,
                at: 0,
                event,
            },
        ))
    };
    let info = SourceInfo {
        name: "log".into(),
        container: None,
        previous: false,
        started: None,
    };
    tell(Event::Source(SourceEvent::Opened(SourceId(0), info)));
    let mut first_line = 1;
    for part in lines.chunks(per_block) {
        let text = part
            .iter()
            .flat_map(|l| [l.as_str(), "\n"])
            .collect::<String>()
            .into_bytes();
        let mut block = Block {
            first_line,
            text,
            ..Block::default()
        };
        read(&mut block);
        first_line += u64::from(block.lines);
        tell(Event::Log(LogBlock {
            source: SourceId(0),
            block: Arc::new(block),
        }));
    }
    model
}

/// What a fact is, without the places that depend on the rest of the block.
fn told(b: &Block) -> Vec<(Option<Head>, Outer, u64, String)> {
    let of = |r: &Rec| {
        let head = r.head.and_then(|h| b.heads.get(h as usize)).map(|h| Head {
            clean: true,
            outer: 0,
            ..h.clone()
        });
        let outer = b.outers.get(r.outer as usize).cloned().unwrap_or_default();
        (
            head,
            outer,
            b.first_line + u64::from(r.line),
            format!("{:?} {:?} {} {} {:?}", r.at, r.level, r.tid, r.dev, r.fact),
        )
    };
    b.recs.iter().map(of).collect()
}

/// Every index of a block points at something.
fn assert_sound(b: &Block) {
    let mut line = 0;
    for r in &b.recs {
        assert!(
            r.line >= line && r.line < b.lines,
            "facts come in line order"
        );
        line = r.line;
        assert!(
            r.start <= r.end && r.end as usize <= b.text.len(),
            "{}..{} of {}",
            r.start,
            r.end,
            b.text.len()
        );
        assert!(r.head.is_none_or(|h| (h as usize) < b.heads.len()));
        assert!((r.outer as usize) < b.outers.len());
    }
    assert!(b.nccl_lines <= b.lines && b.vllm_lines <= b.lines);
    assert_eq!(b.outers.first(), Some(&Outer::default()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = clean(&bytes);
        assert_sound(&Block::new(1, bytes));
    }

    /// Bytes from the alphabet of logs hit more branches than any bytes.
    #[test]
    fn no_soup_of_tokens_panics(tokens in vec(select(&[
        "NCCL ", "INFO ", "WARN ", "llm-0", ":", "1", "[", "]", " ", "(", ")", "pid=", "{\"", "\":\"", "\"}", "\\", "\r", "\n", "\u{1b}[", "m", "Channel ", "->", " via ", "NET/", "P2P/",
        "2025-01-02T03:04:05Z ", "stdout P ", "comm 0x", "rank ", "- ", "Trees ", "...", "99999999999999999999", "-", "/", "Connect to", ": opCount ", "é", "\0",
    ]), 0..60)) {
        assert_sound(&Block::new(1, tokens.concat().into_bytes()));
    }

    #[test]
    fn damaged_lines_do_not_panic(
        lines in vec(select(LINES), 1..6),
        cuts in vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 0..8),
    ) {
        let mut bytes = lines.join("\n").into_bytes();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if at < bytes.len() => { bytes.remove(at); }
                _ => {}
            }
        }
        let _ = clean(&bytes);
        assert_sound(&Block::new(1, bytes));
    }

    /// Where a source cuts its blocks is no observation.
    #[test]
    fn blocks_may_be_cut_at_any_line(lines in vec(select(LINES), 0..12), at in any::<prop::sample::Index>()) {
        let cut = at.index(lines.len() + 1);
        let text = |lines: &[&str]| lines.iter().map(|l| format!("{l}\n")).collect::<String>().into_bytes();
        let whole = Block::new(1, text(&lines));
        let (a, b) = lines.split_at(cut);
        let (a, b) = (Block::new(1, text(a)), Block::new(1 + cut as u64, text(b)));
        let mut parts = told(&a);
        parts.extend(told(&b));
        prop_assert_eq!(told(&whole), parts);
        prop_assert_eq!(whole.lines, a.lines + b.lines);
        prop_assert_eq!(whole.nccl_lines, a.nccl_lines + b.nccl_lines);
        prop_assert_eq!(whole.vllm_lines, a.vllm_lines + b.vllm_lines);
    }

    /// A line says the same whoever stands beside it, and a block used again remembers nothing.
    #[test]
    fn neighbours_change_nothing(lines in vec(select(LINES), 1..12)) {
        let alone: Vec<_> = lines.iter().flat_map(|l| told(&Block::new(1, l.as_bytes().to_vec())).into_iter().map(|t| (t.0, t.1, t.3))).collect();
        let mut block = Block::new(1, b"llm-7:1:1 [0] NCCL INFO Connected all rings\n".to_vec());
        block.text = lines.join("\n").into_bytes();
        block.parse();
        let together: Vec<_> = told(&block).into_iter().map(|t| (t.0, t.1, t.3)).collect();
        prop_assert_eq!(alone, together);
    }

    /// A parser that has seen lines like these with other numbers says what one says that has seen nothing.
    #[test]
    fn a_memory_changes_nothing(
        lines in vec((select(NUMBERED), any::<bool>(), vec(0_u8..10, 64)), 2..40),
    ) {
        let mut parser = Parser::default();
        for (line, prefix, digits) in lines {
            let mut digits = digits.into_iter().cycle();
            let mut text = String::from(if prefix { "2026-02-03T03:04:05.000000137Z (Worker_TP1 pid=388) " } else { "" });
            text.extend(line.chars().map(|c| match c {
                '#' => char::from(b'0' + digits.next().unwrap_or(0)),
                c => c,
            }));
            let fresh = Block::new(1, text.clone().into_bytes());
            let mut block = Block { first_line: 1, text: text.into_bytes(), ..Block::default() };
            parser.parse(&mut block);
            prop_assert_eq!(told(&fresh), told(&block));
            prop_assert_eq!((fresh.vllm_lines, fresh.nccl_lines), (block.vllm_lines, block.nccl_lines));
            prop_assert_eq!((fresh.first_at, fresh.last_at), (block.first_at, block.last_at));
        }
    }

    /// What a parser keeps small makes the same model as whole facts.
    #[test]
    fn small_facts_make_the_same_model(lines in common(), per_block in 1_usize..40) {
        let mut parser = Parser::default();
        let whole = model_of(&lines, per_block, Block::parse);
        prop_assert_eq!(whole, model_of(&lines, per_block, |block| parser.parse(block)));
    }

    /// A block tells of processes what its lines tell one by one, whatever is held of them until it ends.
    #[test]
    fn a_block_is_the_sum_of_its_lines(
        lines in steady(), per_block in 2_usize..200,
    ) {
        let alone = processes(&folded(&lines, 1, Block::parse));
        prop_assert_eq!(&alone, &processes(&folded(&lines, per_block, Block::parse)));
        let mut parser = Parser::default();
        let small = folded(&lines, per_block, |block| parser.parse(block));
        prop_assert_eq!(&alone, &processes(&small));
    }

    /// In lines that a parser calls silent nobody names a secret.
    #[test]
    fn no_silent_line_names_a_secret(
        lines in vec((select([COMMON, NAMED].concat()), vec(0_u8..4, 8)), 1..60),
        per_block in 1_usize..40,
    ) {
        let mut parser = Parser::default();
        let (mut all, mut but) = (Redactor::new(), Redactor::new());
        for part in lines.chunks(per_block) {
            let text: Vec<String> = part.iter().map(|(line, digits)| numbered(line, digits) + "\n").collect();
            let mut block = Block { text: text.concat().into_bytes(), ..Block::default() };
            parser.parse(&mut block);
            all.hear(1, &block.text);
            let silent = block.silent.iter().map(|(start, end)| (*start as usize, *end as usize));
            but.hear_but(1, &block.text, silent);
        }
        prop_assert_eq!(format!("{all:?}"), format!("{but:?}"));
    }

    /// What is shown holds nothing that a terminal obeys.
    #[test]
    fn shown_lines_are_harmless(bytes in vec(any::<u8>(), 0..9000)) {
        let shown = clean(&bytes);
        prop_assert!(shown.len() <= 4096 + '…'.len_utf8());
        prop_assert!(!shown.chars().any(char::is_control));
    }

    /// A channel line survives whatever numbers it holds.
    #[test]
    fn numbers_come_back(ch in 0_u16..64, a in any::<u32>(), b in any::<u32>(), gpu in 0_u32..100, dev in any::<u16>(), pxn in proptest::option::of(any::<u32>())) {
        let pxn_text = pxn.map_or_else(String::new, |r| format!("({r})"));
        let line = format!("h:1:2 [0] NCCL INFO Channel {ch:02}/0 : {a}[{gpu}] -> {b}[{gpu}] [send] via NET/IB/{dev}{pxn_text}/GDRDMA");
        let block = Block::new(1, line.into_bytes());
        let Some(Fact::Channel(c)) = block.recs.first().map(|r| &r.fact) else { return Err(TestCaseError::fail("no fact")) };
        prop_assert_eq!((c.channel, c.from, c.to, c.from_gpu.nvml()), (ch, a, b, Some(gpu)));
        let ncclscope::parse::fact::Via::Net { dev: d, pxn: p, .. } = c.via else { return Err(TestCaseError::fail("no net")) };
        prop_assert_eq!((d, p), (dev, pxn));
    }

    /// So does a number of any length, behind which the line ends or goes on.
    #[test]
    fn long_and_short_numbers_come_back(
        (count, comm) in (any::<u64>(), 1_u64..), (short, tiny) in (0_u32..64, 0_u32..64), capitals in any::<bool>(),
        whole in vec(0_u8..10, 1..12), decimals in vec(0_u8..10, 0..12), goes_on in any::<bool>(),
    ) {
        let (count, comm) = (count >> short, (comm >> tiny).max(1));
        let printed = if capitals { format!("{count:X}") } else { format!("{count:x}") };
        let line = format!("h:1:2 [0] NCCL INFO AllReduce: opCount {printed} sendbuff 0x1 recvbuff 0x2 count 1 datatype 9 op 0 root 0 comm {comm:#x} [nranks=8] stream 0x3");
        let block = Block::new(1, line.into_bytes());
        let Some(Fact::Coll { op_count, comm: called, .. }) = block.recs.first().map(|r| &r.fact) else { return Err(TestCaseError::fail("no call")) };
        prop_assert_eq!((*op_count, *called), (count, comm));
        let digits = |digits: &[u8]| digits.iter().map(|d| char::from(b'0' + d)).collect::<String>();
        let dot = if decimals.is_empty() { "" } else { "." };
        let number = format!("{}{dot}{}", digits(&whole), digits(&decimals));
        let rest = if goes_on { " seconds" } else { "" };
        let fact = vllm::line(format!("Loading weights took {number}{rest}").as_bytes(), &Outer::default());
        prop_assert_eq!(fact, Some(VllmFact::WeightsDone { seconds: number.parse().unwrap() }));
    }
}

/// Statistics are read where they stand as a rule, and wherever else they stand.
#[test]
fn statistics_need_not_stand_where_they_do_as_a_rule() {
    let line = "Engine 000: Avg prompt throughput: 630.5 tokens/s, Avg generation throughput: 1890.2 tokens/s, Running: 54 reqs, Waiting: 3 reqs, GPU KV cache usage: 12.1%, Prefix cache hit rate: 12.0%";
    let read = |line: &str| vllm::line(line.as_bytes(), &Outer::default());
    let usual = read(line).unwrap();
    assert!(
        matches!(&usual, VllmFact::Stats(s) if s.running == 54 && s.waiting == 3 && s.kv_percent == Some(12.1)),
        "{usual:?}"
    );
    for at in ["/s, Avg", "/s, Running", "reqs, Waiting", "reqs, GPU"] {
        let other = line.replacen(at, &at.replace(", ", "; and "), 1);
        assert_eq!(read(&other).as_ref(), Some(&usual), "{other}");
    }
}
