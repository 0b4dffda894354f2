//! What stands in front of a message: prefixes, heads, glue, dirt, envelopes.

use std::fmt::Write as _;

use ncclscope::parse::fact::Fact;
use ncclscope::parse::{Block, Rec};

use super::{block, facts, say, warn};

/// Everything a prefix may be in front of: the fact stays the same.
#[test]
#[rustfmt::skip]
fn prefixes_come_off() {
    const LINE: &str = "llm-0:211:345 [3] NCCL INFO Connected all rings";
    let at = |b: &Block| {
        b.recs
            .first()
            .and_then(|r| r.at)
            .map(|at| (at.ns, at.exact))
    };
    let outer = |b: &Block| {
        let o = b
            .recs
            .first()
            .and_then(|r| b.outers.get(r.outer as usize))
            .cloned()
            .unwrap_or_default();
        let mut said = Vec::new();
        said.extend(o.label.map(|l| format!("label {l}")));
        said.extend(o.pid.map(|p| format!("pid {p}")));
        said.extend(o.ip.map(|i| format!("ip {i}")));
        said.extend(o.relay.map(|p| format!("by {p}")));
        said.extend(o.rank.map(|r| format!("rank {r}")));
        said.extend(o.pod.map(|p| format!("pod {p}")));
        said.extend(o.file.map(|f| format!("file {f}")));
        if o.depth > 0 {
            said.push(format!("depth {}", o.depth));
        }
        if o.repeated > 0 {
            said.push(format!("repeated {}", o.repeated));
        }
        said.join(" ")
    };
    const T: i64 = 1_735_787_045; // 2025-01-02T03:04:05Z
    // Without a zone no year counts: such lines stand beside those of vLLM, which print none.
    const L: i64 = 63_169_445;
    type Row = (&'static str, &'static str, Option<(i64, bool)>);
    let rows: &[Row] = &[
        ("{}", "", None),
        ("2025-01-02T03:04:05.123456789Z {}", "", Some((T * 1_000_000_000 + 123_456_789, true))),
        ("2025-01-02T05:04:05.1+02:00 {}", "", Some((T * 1_000_000_000 + 100_000_000, true))),
        ("2025-01-02T03:04:05.1Z stdout F {}", "", Some((T * 1_000_000_000 + 100_000_000, true))),
        ("2025-01-02T03:04:05.1Z stderr F {}", "", Some((T * 1_000_000_000 + 100_000_000, true))),
        ("[2025-01-02 03:04:05] {}", "", Some((L * 1_000_000_000, false))),
        ("[2025-01-02 03:04:05.123456] {}", "", Some((L * 1_000_000_000 + 123_456_000, false))),
        ("2025-01-02 11:04:05.007 +08:00 {}", "", Some((T * 1_000_000_000 + 7_000_000, true))),
        (" 2025-01-02 03:04 {}", "", Some(((L - 5) * 1_000_000_000, false))),
        ("Thu Jan  2 03:04:05 2025 {}", "", Some((L * 1_000_000_000, false))),
        ("Thu Jan  2 03:04:05 2025[1,3]<stdout>:{}", "rank 3", Some((L * 1_000_000_000, false))),
        ("[1,0]<stderr>:{}", "rank 0", None),
        ("[pod/llm-0/vllm] {}", "pod llm-0/vllm", None),
        ("[pod/llm-0/vllm] 2025-01-02T03:04:05Z {}", "pod llm-0/vllm", Some((T * 1_000_000_000, true))),
        ("llm-0 vllm {}", "pod llm-0/vllm", None),
        ("llm-0 vllm 2025-01-02T03:04:05Z {}", "pod llm-0/vllm", Some((T * 1_000_000_000, true))),
        ("vllm-1  | {}", "", None),
        ("vllm-1  | | 2025-01-02T03:04:05Z | {}", "", Some((T * 1_000_000_000, true))),
        ("3: {}", "rank 3", None),
        (" 12: {}", "rank 12", None),
        ("[12] {}", "rank 12", None),
        ("node-a: {}", "", None),
        ("rank_12.node-a.log:{}", "file rank_12.node-a.log", None),
        ("logs/0.txt:417:{}", "file logs/0.txt", None),
        ("(Worker_TP1 pid=388) {}", "label Worker_TP1 pid 388 depth 1", None),
        ("\u{1b}[1;36m(VllmWorker rank=0 pid=118)\u{1b}[0;0m {}", "label VllmWorker rank=0 pid 118 depth 1", None),
        ("\u{1b}[36m(RayWorkerWrapper pid=512, ip=10.42.1.9)\u{1b}[0m {}", "label RayWorkerWrapper pid 512 ip 10.42.1.9 depth 1", None),
        ("[36m(RayWorkerWrapper pid=512)[0m {}", "label RayWorkerWrapper pid 512 depth 1", None),
        ("ESC[36m(RayWorkerWrapper pid=512)ESC[0m {}", "label RayWorkerWrapper pid 512 depth 1", None),
        ("←[36m(RayWorkerWrapper pid=512)←[0m {}", "label RayWorkerWrapper pid 512 depth 1", None),
        ("(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=512, ip=10.42.1.9) {}", "label RayWorkerWrapper pid 512 ip 10.42.1.9 by 271 depth 2", None),
        ("(ServeReplica:llm:LLMServer:q-4.5 pid=88) (EngineCore pid=120) (RayWorkerProc pid=340, ip=10.42.1.9) (Worker pid=340) {}", "label Worker pid 340 ip 10.42.1.9 by 120 depth 4", None),
        ("(RayWorkerWrapper pid=512) {} [repeated 7x across cluster]", "label RayWorkerWrapper pid 512 depth 1 repeated 7", None),
        ("(RayWorkerWrapper pid=512) {}\u{1b}[32m [repeated 12x across cluster]\u{1b}[0m", "label RayWorkerWrapper pid 512 depth 1 repeated 12", None),
        ("(RayWorkerWrapper pid=512) {}←[32m [repeated 3x across cluster]←[0m", "label RayWorkerWrapper pid 512 depth 1 repeated 3", None),
        ("(RayWorkerWrapper pid=512) {}[32m [repeated 3x across cluster][39m", "label RayWorkerWrapper pid 512 depth 1 repeated 3", None),
        // What Ray says once, behind the first line that stands for others.
        ("(RayWorkerWrapper pid=512) {} [repeated 7x across cluster] (Ray deduplicates logs by default. Set RAY_DEDUP_LOGS=0 to disable log deduplication, or see https://docs.ray.io/en/master/ray-observability/user-guides/configure-logging.html#log-deduplication for more options.)", "label RayWorkerWrapper pid 512 depth 1 repeated 7", None),
        ("(raylet, ip=10.42.1.9) {}", "label raylet ip 10.42.1.9 depth 1", None),
        ("(head, rank=0, pid=77) {}", "label head, rank=0 pid 77 depth 1", None),
        ("[rank3]:{}", "rank 3", None),
        ("[default3]:{}", "rank 3", None),
        ("[node-a:5]:{}", "rank 5", None),
        ("role/0 [default1]:[rank1]:{}", "rank 1", None),
        ("> {}", "", None),
        ("{\"log\":\"{}\\n\",\"stream\":\"stdout\",\"time\":\"2025-01-02T03:04:05Z\"}", "", Some((T * 1_000_000_000, true))),
        ("{\"message\":\"{}\",\"timestamp\":\"2025-01-02T03:04:05Z\",\"labels\":{\"a\":[1,\"}\"]}}", "", Some((T * 1_000_000_000, true))),
        ("vllm-1  | {\"log\":\"\\u001b[36m(Worker pid=1)\\u001b[0m {}\\r\\n\",\"stream\":\"stdout\"}", "label Worker pid 1 depth 1", None),
        ("[pod/llm-0/vllm] 2025-01-02T03:04:05Z (EngineCore pid=1) (RayWorkerWrapper pid=2) {}", "label RayWorkerWrapper pid 2 by 1 pod llm-0/vllm depth 2", Some((T * 1_000_000_000, true))),
    ];
    let mut wrong = String::new();
    for (shape, prefix, stamp) in rows {
        let line = shape.replace("{}", LINE);
        let b = block(format!("{line}\n"));
        let who = b
            .recs
            .first()
            .and_then(|r| r.head)
            .and_then(|h| b.heads.get(h as usize))
            .map(|h| (h.host.clone(), h.pid, h.clean));
        let said: Vec<_> = b.recs.iter().map(|r| say(&r.fact)).collect();
        let tid = b.recs.first().map(|r| (r.tid, r.dev));
        if said != ["connected Rings"]
            || who != Some(("llm-0".to_owned(), Some(211), true))
            || tid != Some((345, 3))
            || outer(&b) != *prefix
            || at(&b) != *stamp
            || b.nccl_lines != 1
        {
            let _ = writeln!(
                wrong,
                "{line}\n  {said:?} {who:?} {tid:?} [{}] {:?} nccl {}",
                outer(&b),
                at(&b),
                b.nccl_lines
            );
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Heads that people damaged when they pasted: the message stays, the process is known as far as it is told.
#[test]
#[rustfmt::skip]
fn damaged_heads_keep_their_message() {
    type Row = (&'static str, Option<(&'static str, u64)>, i32);
    let rows: &[Row] = &[
        ("[pod-name]:7:9 [0] NCCL INFO Connected all rings", Some(("", 7)), 0),
        ("<node>:7:9 [0] NCCL INFO Connected all rings", Some(("", 7)), 0),
        (":7:9 [0] NCCL INFO Connected all rings", Some(("", 7)), 0),
        ("node-a :7:9 [0] NCCL INFO Connected all rings", Some(("node-a", 7)), 0),
        ("node-a [0] NCCL INFO Connected all rings", None, 0),
        ("[3] NCCL INFO Connected all rings", None, 3),
        ("NCCL INFO Connected all rings", None, -1),
        ("[0] init.cc:7 NCCL INFO Connected all rings", None, 0),
        ("[misc/socket.cc:586] [node-a:pid=77] NCCL INFO Connected all rings", None, -1),
        ("some stamp #12 llm-0:211:345 [3] NCCL INFO Connected all rings", Some(("llm-0", 211)), 3),
        ("llm-0:211:345 NCCL INFO Connected all rings", Some(("llm-0", 211)), -1),
        ("llm-0:211:345 [-1] NCCL INFO Connected all rings", Some(("llm-0", 211)), -1),
    ];
    for (line, who, dev) in rows {
        let b = block(line);
        let rec = b.recs.first();
        let got = rec
            .and_then(|r| r.head)
            .and_then(|h| b.heads.get(h as usize))
            .map(|h| (h.host.as_str(), h.pid.unwrap_or(0)));
        assert_eq!((got, rec.map(|r| r.dev)), (*who, Some(*dev)), "{line}");
        assert_eq!(b.nccl_lines, 1, "{line}");
    }
    assert_eq!(
        warn("[net_ib.cc:101](http://x)", "Error: network gIB not found."),
        "[net_ib.cc:101](http://x) NetworkNotFound"
    );
    let spoken = facts("[3] include/shm.h:28 NCCL WARN Error: network gIB not found.");
    assert_eq!(spoken, ["include/shm.h:28 NetworkNotFound"]);
}

#[test]
fn heads_of_every_kind() {
    // 2.30.7 names the function, and stamps WARN only.
    let b = block(
        "\n[2026-01-02 03:04:05] llm-0:211:345 [0] init.cc:1057 (initTransportsRank) NCCL WARN Multiple Ranks are using the same GPU/Partition.\n",
    );
    assert_eq!(say(&b.recs[0].fact), "init.cc:1057 DuplicateGpu");
    assert_eq!(b.recs[0].at.map(|at| at.exact), Some(false));
    // TRACE and CALL are NCCL's but say nothing that is followed.
    let b = block(
        "llm-0:211:345 [0] 1042.118000 commAlloc:398 NCCL TRACE comm 0x55d0c3a0 rank 0 nranks 4\nllm-0:211:345 NCCL CALL ncclAllReduce(7f3a2c000000,7f3a2c800000,1048576,7,0,0,0x55d0c3a0,0x55cf1e20)\n",
    );
    assert_eq!((b.nccl_lines, b.recs.len(), b.heads.len()), (2, 0, 1));
    // Plugins write `function:line`.
    let said = warn(
        "ncclNetOfi_test:812",
        "NET/OFI Request 0x7f14cc01a0c0 completed with error. RC: 113. Error: 2 (UNDELIVERABLE). Completed length: 0",
    );
    assert!(
        said.starts_with("ncclNetOfi_test:812 Other NET/OFI Request"),
        "{said}"
    );
    // Bare version lines, behind prefixes too.
    for line in [
        "NCCL version 2.21.5+cuda12.4",
        "node-a: NCCL version 2.21.5+cuda12.4",
        "←[36m(RayWorkerWrapper pid=381, ip=10.42.3.9)←[0m NCCL version 2.21.5+cuda12.4",
    ] {
        assert_eq!(facts(line), ["nccl 2.21.5 cuda Some(\"12.4\")"], "{line}");
    }
    assert_eq!(
        facts("RCCL version 2.18.3+hip6.0 HEAD:1a2b3c4+"),
        ["rccl 2.18.3 cuda None"]
    );
    assert_eq!(
        facts("RCCL version : 2.27.7-main:1a2b3c4\nHIP version  : 6.4\n"),
        ["rccl 2.27.7 cuda None"]
    );
    // UCX looks alike and is not.
    assert_eq!(block("[node-a:733 :0:733] Caught signal 11 (Segmentation fault: address not mapped to object at address (nil))").nccl_lines, 0);
}

/// Where each piece of a glued line begins and ends belongs to the fact.
fn pieces(b: &Block) -> Vec<(String, String)> {
    let text = |r: &Rec| {
        String::from_utf8_lossy(
            b.text
                .get(r.start as usize..r.end as usize)
                .unwrap_or_default(),
        )
        .into_owned()
    };
    b.recs
        .iter()
        .map(|r| {
            (
                r.head
                    .and_then(|h| b.heads.get(h as usize))
                    .map_or_else(String::new, |h| {
                        format!("{}:{}", h.host, h.pid.unwrap_or(0))
                    }),
                text(r),
            )
        })
        .collect()
}

#[test]
#[rustfmt::skip]
fn glued_lines_come_apart() {
    let known = "node-a:10:20 [0] NCCL INFO Connected all rings\nnode-a:11:21 [1] NCCL INFO Connected all rings\n";
    let rows: &[(&str, &[(&str, &str)])] = &[
        (
            "node-a:10:20node-a:11:21 [1] NCCL INFO Connected all trees",
            &[(
                "node-a:11",
                "node-a:10:20node-a:11:21 [1] NCCL INFO Connected all trees",
            )],
        ),
        (
            "node-a:10:20 [0] NCCL INFO threadThresholds 8node-a:11:21 [1] NCCL INFO Connected all trees",
            &[
                ("node-a:10", "node-a:10:20 [0] NCCL INFO threadThresholds 8"),
                ("node-a:11", "node-a:11:21 [1] NCCL INFO Connected all trees"),
            ],
        ),
        (
            "node-a:10:20 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEMnode-a:11:21 [1] NCCL INFO Connected all trees",
            &[
                ("node-a:10", "node-a:10:20 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM"),
                ("node-a:11", "node-a:11:21 [1] NCCL INFO Connected all trees"),
            ],
        ),
        (
            "node-a:10:20 [0] NCCL INFO node-b:1:2 [7] NCCL INFO Connected all trees",
            &[("node-b:1", "node-b:1:2 [7] NCCL INFO Connected all trees")],
        ),
        (
            "node-a:10:20 [0] NCCL INFO Connected all rings node-a:11:21 [1] NCCL INFO Connected all trees node-a:10:20 [0] NCCL INFO Connected NVLS tree",
            &[
                ("node-a:10", "node-a:10:20 [0] NCCL INFO Connected all rings "),
                ("node-a:11", "node-a:11:21 [1] NCCL INFO Connected all trees "),
                ("node-a:10", "node-a:10:20 [0] NCCL INFO Connected NVLS tree"),
            ],
        ),
        (
            "6] via P2P/IPCnode-a:11:21 [1] NCCL INFO Connected all trees",
            &[(
                "node-a:11",
                "6] via P2P/IPCnode-a:11:21 [1] NCCL INFO Connected all trees",
            )],
        ),
        (
            "node-a:10:20 [0] NCCL INFO Connected all rings[2025-03-04 05:06:07] node-a:11:21 [1] misc/socket.cc:7 NCCL WARN Error: network X not found.",
            &[
                ("node-a:10", "node-a:10:20 [0] NCCL INFO Connected all rings"),
                ("node-a:11", "[2025-03-04 05:06:07] node-a:11:21 [1] misc/socket.cc:7 NCCL WARN Error: network X not found."),
            ],
        ),
        (
            "NCCL version 2.21.5+cuda12.4 node-a:11:21 [1] NCCL INFO Connected all trees",
            &[
                ("", "NCCL version 2.21.5+cuda12.4 node-a:11:21 [1] NCCL INFO Connected all trees"),
                ("node-a:11", "node-a:11:21 [1] NCCL INFO Connected all trees"),
            ],
        ),
    ];
    for (line, expected) in rows {
        let b = block(format!("{known}{line}\n"));
        let got: Vec<_> = pieces(&b).into_iter().skip(2).collect();
        let got: Vec<_> = got.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(got, *expected, "{line}");
        assert_eq!(b.nccl_lines, 3, "{line}");
    }
    // A host that never began a line is not believed to be clean; one that did is.
    let b = block(
        "8node-a:10:20 [0] NCCL INFO Connected all rings\nx 8node-b:10:20 [0] NCCL INFO Connected all rings\n",
    );
    let heads: Vec<_> = b.heads.iter().map(|h| (h.host.as_str(), h.clean)).collect();
    assert_eq!(heads, [("8node-a", true), ("8node-b", false)]);
}

#[test]
fn quoted_lines_are_no_facts() {
    const QUOTE: &str = "llm-0:211:345 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM";
    for shape in [
        "INFO 11-20 08:04:55 [logger.py:43] Received request cmpl-1: prompt: 'what is {}', params: x",
        "(APIServer pid=1) INFO 11-20 08:04:55 [logger.py:43] Received request: {}",
        "(APIServer pid=1) my log says {}",
        "INFO:     user said {}",
        "{\"model\":\"q\",\"messages\":[{\"role\":\"user\",\"content\":\"{}\"}]}",
        "{\"model\":\"q\",\"prompt\":\"{}\",\"stream\":true}",
        "{\"text\":\"{}\"}",
        "prompt='{}'",
        "prompt: \"{}\"",
        "text with a break\\n{}\\nand more",
        "2025-11-20 08:04:55,123 - app - INFO - got {}",
    ] {
        for stamp in [
            "",
            "2025-01-02T03:04:05.1Z ",
            "2025-01-02T03:04:05.1Z stdout F ",
        ] {
            let line = format!("{stamp}{}\n", shape.replace("{}", QUOTE));
            let b = block(&line);
            assert!(
                !b.recs.iter().any(|r| matches!(r.fact, Fact::Channel(_))),
                "{line}"
            );
            assert_eq!((b.nccl_lines, b.heads.len()), (0, 0), "{line}");
        }
    }
}

#[test]
fn dirt_is_read_through() {
    let one = ["connected Rings"];
    // CRLF, NUL bytes, stray bytes that are no UTF-8, a carriage return after a progress bar.
    for line in [
        &b"llm-0:211:345 [0] NCCL INFO Connected all rings\r\n"[..],
        b"llm-0:211:345 [0] NCCL INFO Connected all rings\0\0\n",
        b"llm-0:211:345 [0] NCCL INFO Connected all rings\xff\xfe\n",
        b"\xff\xfellm-0:211:345 [0] NCCL INFO Connected all rings\n",
        b" 10%|#  | 1/9 [00:01<00:09]\rllm-0:211:345 [0] NCCL INFO Connected all rings\n",
        b"\x1b[32mllm-0:211:345\x1b[0m [0] NCCL INFO \x1b[1mConnected\x1b[0m all rings\x1b[K\n",
        b"llm-0:211:345 [0] NCCL INFO Connected all rings",
        b"llm-0:211:345 [0] NCCL INFO Connected all rings\r\r\n",
    ] {
        assert_eq!(facts(line), one, "{}", String::from_utf8_lossy(line));
    }
    // Lines are counted as they are, empty ones too.
    let b = block(b"\n\r\n\nx\n\ny");
    assert_eq!((b.lines, b.recs.len(), b.nccl_lines), (6, 0, 0));
    assert_eq!(block(b"").lines, 0);
}

#[test]
fn partial_records_of_cri_are_joined() {
    let b = block(concat!(
        "2025-01-02T03:04:05.1Z stdout P llm-0:211:345 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] v\n",
        "2025-01-02T03:04:05.2Z stderr F llm-0:211:345 [0] NCCL INFO Connected all trees\n",
        "2025-01-02T03:04:05.3Z stdout P ia P2P/\n",
        "2025-01-02T03:04:05.4Z stdout F CUMEM\n",
        "2025-01-02T03:04:05.5Z stdout F llm-0:211:345 [0] NCCL INFO Connected all rings\n",
        "2025-01-02T03:04:05.6Z stdout P llm-0:211:345 [0] NCCL INFO Connected NVLS tree\n",
    ));
    let said: Vec<_> = b.recs.iter().map(|r| (r.line, say(&r.fact))).collect();
    assert_eq!(
        said,
        [
            (1, "connected Trees".to_owned()),
            (3, "c0/0 0[nvml 0]>1[nvml 1] P2P Cumem".to_owned()),
            (4, "connected Rings".to_owned()),
            (5, "connected Nvls".to_owned()),
        ]
    );
}

#[test]
fn messages_wrapped_by_terminals_and_write_ups() {
    assert_eq!(
        facts(
            "node-a:0:0 [0] include/socket.h:410 NCCL WARN Connect to\n     10.42.1.23:40112 failed: Connection timed out\nnode-a:0:0 [0] NCCL INFO Connected all rings\n"
        ),
        [
            "include/socket.h:410 Connect { peer: Some(\"10.42.1.23:40112\"), error: \"Connection timed out\" }",
            "connected Rings"
        ]
    );
    assert_eq!(
        facts(
            "n:1:1 [0] NCCL INFO comm 0x1 rank 0 nranks 4 cudaDev 0 nvmlDev 0 busId 3b000 commId 0x\n1f2e - Init COMPLETE\n"
        ),
        ["InitComplete Unnamed 1 0/4 cuda 0 nvml 0 bus 3b000 id 1f2e"]
    );
    // A line that is merely cut does not swallow its neighbour.
    assert_eq!(
        facts(
            "n:1:1 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1\nn:1:1 [0] NCCL INFO Connected all rings\n"
        ),
        ["connected Rings"]
    );
}
