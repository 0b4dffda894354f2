//! Healthy logs, and that they raise nothing.

use std::collections::{BTreeMap, BTreeSet};

use ncclscope::model::event::{Event, SourceEvent};
use ncclscope::rules::scene::Severity;
use ncclscope::sources::sim;

use super::{lines, scene};
use crate::stages::eras::ERAS;

/// Healthy logs: every version range and prefix, a part of a bigger job, RDMA off on purpose.
#[test]
fn healthy_logs_raise_nothing_above_info() {
    let mut told = BTreeSet::new();
    let mut quiet = |name: &str, sources: &[(&str, &str)]| {
        let s = scene(sources);
        let loud: Vec<_> = s
            .findings
            .iter()
            .filter(|f| f.severity > Severity::Info)
            .map(|f| (f.id, lines(f)))
            .collect();
        assert!(loud.is_empty(), "{name}: {loud:#?}");
        let texts: Vec<String> = sources.iter().map(|(_, t)| (*t).to_owned()).collect();
        assert!(told.insert(texts), "{name} is told twice");
    };
    for version in [
        "2.18.3", "2.19.4", "2.20.5", "2.21.5", "2.22.3", "2.23.4", "2.25.1", "2.26.2", "2.27.7",
        "2.28.9", "2.29.7", "2.30.7",
    ] {
        let text = healthy(version, 4, "");
        quiet(version, &[("a.log", &text)]);
    }
    for version in ["2.10.3", "2.12.12", "2.14.3", "2.15.5", "2.16.5", "2.17.1"] {
        let text = before_start(version, 4);
        quiet(version, &[("a.log", &text)]);
    }
    // vLLM's starts from 0.5 on, as its own lines tell them.
    for (era, lines) in ERAS {
        let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        quiet(era, &[("a.log", &text)]);
    }
    for prefix in [
        "2026-03-02T03:10:11.000000000Z ",
        "2026-03-02T03:10:11.000000000Z stdout F ",
        "[pod/llm-0/vllm] ",
        "llm-0 vllm ",
        "(EngineCore_DP0 pid=150) (Worker_TP0 pid=211) ",
        "(RayWorkerWrapper pid=211, ip=10.42.0.7) ",
        "[1,0]<stdout>:",
        "[default0]:",
    ] {
        quiet(prefix, &[("a.log", &healthy("2.27.7", 4, prefix))]);
    }
    // One pod's log of a bigger job.
    let part: String = healthy("2.27.7", 8, "")
        .lines()
        .filter(|l| l.starts_with("llm-0:20") && !l.contains(":207:"))
        .map(|l| format!("{l}\n"))
        .collect();
    quiet("part of a job", &[("a.log", &part)]);
    let text = healthy("2.27.7", 2, "");
    let off =
        format!("llm-0:200:200 [0] NCCL INFO NCCL_IB_DISABLE set by environment to 1.\n{text}");
    quiet("RDMA off on purpose", &[("a.log", &off)]);
    for said in [
        "(APIServer pid=1) INFO 11-20 08:06:00 [logger.py:40] Received request chatcmpl-1: prompt: 'llm-0:9:9 [0] NCCL WARN Cuda failure 2 \\'out of memory\\'', params: SamplingParams(n=1)",
        "INFO 11-20 08:06:00 logger.py:37] Received request cmpl-7: prompt: 'Why? [rank5]:[E118 07:41:30.12 ProcessGroupNCCL.cpp:685] [Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=88, OpType=GATHER, Timeout(ms)=600000) ran for 600089 milliseconds before timing out.', params: SamplingParams(n=1)",
        "(APIServer pid=1) DEBUG 11-20 08:06:00 [serving_chat.py:88] {\"role\": \"user\", \"content\": \"ValueError: No available memory for the cache blocks. torch.OutOfMemoryError: CUDA out of memory.\"}",
    ] {
        let chat = format!("{text}{said}\n");
        quiet("chat that quotes NCCL", &[("a.log", &chat)]);
    }
    let ended = format!(
        "{text}llm-0:200:200 [0] NCCL INFO comm 0x55aa0010 rank 0 nranks 2 cudaDev 0 busId b000 - Destroy COMPLETE\nllm-0:201:201 [1] NCCL INFO comm 0x55aa0010 rank 1 nranks 2 cudaDev 1 busId 1b000 - Destroy COMPLETE\n"
    );
    quiet("destroyed in order", &[("a.log", &ended)]);
    // Whole starts over two hosts, in the words of vLLM's versions; whole, and one pod's log of it alone.
    for vllm in ["0.11.1", "0.12.0", "0.14.0", "0.17.0", "0.19.0", "0.20.0"] {
        let logs = start(&[("vllm: 0.11.2", &format!("vllm: {vllm}"))]);
        let all: Vec<(&str, &str)> = logs.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        quiet(vllm, &all);
        for one in all {
            quiet(vllm, &[one]);
        }
    }
    let logs = start(&[
        (", rdma: IB, nics: 4", ""),
        ("NCCL_IB_HCA: mlx5", "NCCL_IB_DISABLE: \"1\""),
    ]);
    let all: Vec<(&str, &str)> = logs.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    assert!(
        logs.iter()
            .any(|(_, t)| t.contains("NCCL_IB_DISABLE set by environment to 1"))
    );
    quiet("RDMA off on purpose, over two hosts", &all);
    assert!(told.len() >= 40, "{}", told.len());
}

/// The logs of the healthy scenario after some edits of its file, by source.
fn start(edits: &[(&str, &str)]) -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scenarios/healthy.yaml");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let scenario = sim::parse("healthy", &text).unwrap();
    let mut out: BTreeMap<u32, (String, String)> = BTreeMap::new();
    for (_, event) in sim::events(&scenario) {
        match event {
            Event::Source(SourceEvent::Opened(id, info)) => {
                out.insert(id.0, (info.name, String::new()));
            }
            Event::Log(l) => {
                let text = &mut out.get_mut(&l.source.0).unwrap().1;
                text.push_str(&String::from_utf8_lossy(&l.block.text));
            }
            _ => {}
        }
    }
    out.into_values().collect()
}

/// The same as versions before 2.18 print it: no id, and nothing at the start.
fn before_start(version: &str, n: u32) -> String {
    let mut out = String::new();
    for r in 0..n {
        let next = (r + 1) % n;
        for line in [
            format!("NCCL version {version}+cuda11.8"),
            "Bootstrap : Using eth0:10.42.0.17<0>".into(),
            "NET/Plugin : No plugin found (libnccl-net.so), using internal implementation".into(),
            "Failed to open libibverbs.so[.1]".into(),
            "NET/Socket : Using [0]eth0:10.42.0.17<0>".into(),
            "Using network Socket".into(),
            format!("Channel 00 : {r}[{r}b000] -> {next}[{next}b000] via P2P/IPC"),
            "Connected all rings".into(),
            "Connected all trees".into(),
            format!(
                "comm 0x55aa{r}010 rank {r} nranks {n} cudaDev {r} busId {r}b000 - Init COMPLETE"
            ),
        ] {
            out.push_str(&format!("llm-0:{0}:{0} [{r}] NCCL INFO {line}\n", 200 + r));
        }
    }
    out
}

/// A healthy job inside one host as a version prints it.
pub fn healthy(version: &str, n: u32, prefix: &str) -> String {
    let mut out = String::new();
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    for r in 0..n {
        let h = format!("{prefix}llm-0:{0}:{0} [{r}] NCCL INFO ", 200 + r);
        let next = (r + 1) % n;
        let func = if minor >= 21 {
            "ncclCommInitRank comm"
        } else {
            "comm"
        };
        let head = format!(
            "{func} 0x55aa0010 rank {r} nranks {n} cudaDev {r} nvmlDev {r} busId {r}b000 commId 0xc0ffee123456789a"
        );
        for line in [
            format!("NCCL version {version}+cuda12.8"),
            "cudaDriverVersion 12080".into(),
            "Bootstrap : Using eth0:10.42.0.17<0>".into(),
            "NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin.".into(),
            "Failed to open libibverbs.so[.1]".into(),
            "NET/Socket : Using [0]eth0:10.42.0.17<0>".into(),
            "Using network Socket".into(),
            format!("{head} - Init START"),
            format!("Channel 00/0 : {r}[{r}] -> {next}[{next}] via P2P/CUMEM/read"),
            "Connected all rings".into(),
            "Connected all trees".into(),
            format!("{head} - Init COMPLETE"),
        ] {
            out.push_str(&h);
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}
