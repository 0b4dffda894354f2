//! Lines in, scene out: joining, attribution, verdicts. Every line is composed from the log grammar.

use std::fmt::Write as _;
use std::sync::Arc;

use ncclscope::model::event::{Event, LogBlock, SourceEvent, SourceId, SourceInfo, Stamped};
use ncclscope::model::{Model, update};
use ncclscope::parse::Block;
use ncclscope::rules::scene::{
    Attribution, CommState, Communicator, EdgeKind, NcclStep, Scene, Verdict,
};
use proptest::prelude::*;

/// The scene of some sources, each read in blocks of `chunk` lines.
fn scene_in(sources: &[(&str, &str)], chunk: usize) -> Scene {
    let mut model = Model::default();
    let mut seq = 0;
    let mut send = |event| {
        seq += 1;
        update(&mut model, Stamped { seq, at: 0, event });
    };
    for (i, (name, text)) in sources.iter().enumerate() {
        let id = SourceId(u32::try_from(i).unwrap());
        let info = SourceInfo {
            name: (*name).into(),
            container: None,
            previous: false,
            started: None,
        };
        send(Event::Source(SourceEvent::Opened(id, info)));
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (n, part) in lines.chunks(chunk).enumerate() {
            let block = Block::new((n * chunk) as u64 + 1, part.concat().into_bytes());
            send(Event::Log(LogBlock {
                source: id,
                block: Arc::new(block),
            }));
        }
        send(Event::Source(SourceEvent::Ended { id, why: None }));
    }
    Scene::of(&model)
}

fn scene(sources: &[(&str, &str)]) -> Scene {
    scene_in(sources, usize::MAX)
}

fn ids(s: &Scene) -> Vec<&str> {
    s.findings.iter().map(|f| f.id).collect()
}

fn comm<'a>(s: &'a Scene, key: &str) -> &'a Communicator {
    s.communicators
        .iter()
        .find(|c| c.key == key)
        .unwrap_or_else(|| {
            panic!(
                "no {key} among {:?}",
                s.communicators.iter().map(|c| &c.key).collect::<Vec<_>>()
            )
        })
}

/// One rank's head: `host:pid:tid [dev] NCCL INFO `.
fn head(host: &str, pid: u32, tid: u32, dev: u32) -> String {
    format!("{host}:{pid}:{tid} [{dev}] NCCL INFO ")
}

fn init(h: &str, ptr: &str, rank: u32, n: u32, id: &str, what: &str) -> String {
    let rk = if what == "START" {
        format!("[Rank {rank}] ")
    } else {
        String::new()
    };
    format!(
        "{h}{rk}ncclCommInitRank comm {ptr} rank {rank} nranks {n} cudaDev {rank} nvmlDev {rank} busId {rank}b000 commId 0x{id} - Init {what}\n"
    )
}

/// A whole, healthy rank of one communicator inside one host, 2.28 style.
fn rank_log(host: &str, rank: u32, n: u32, id: &str) -> String {
    let pid = 200 + rank;
    let h = head(host, pid, pid, rank);
    let mut s = format!(
        "{h}NCCL version 2.28.3+cuda12.8\n{h}cudaDriverVersion 12080\n{h}Bootstrap: Using eth0:10.42.0.{pid}<0>\n{h}Using network Socket\n"
    );
    s += &init(&h, "0x55aa0010", rank, n, id, "START");
    let _ = writeln!(
        s,
        "{h}Bootstrap timings total 0.034512 (create 0.000040, send 0.000171, recv 0.012003, ring 0.021100, delay 0.000000)"
    );
    let _ = writeln!(
        s,
        "{h}comm 0x55aa0010 rank {rank} nRanks {n} nNodes 1 localRanks {n} localRank {rank} MNNVL 0"
    );
    if rank == 0 {
        let order: Vec<String> = (0..n).map(|r| r.to_string()).collect();
        let _ = writeln!(s, "{h}Channel 00/02 : {}", order.join(" "));
        let _ = writeln!(s, "{h}Channel 01/02 : {}", order.join(" "));
    }
    let (up, down) = (
        i64::from(rank) - 1,
        if rank + 1 < n {
            i64::from(rank) + 1
        } else {
            -1
        },
    );
    let _ = writeln!(
        s,
        "{h}Trees [0] {down}/-1/-1->{rank}->{up} [1] {down}/-1/-1->{rank}->{up}"
    );
    let _ = writeln!(s, "{h}P2P Chunksize set to 524288");
    let _ = writeln!(
        s,
        "{h}16 coll channels, 16 collnet channels, 16 nvls channels, 16 p2p channels, 16 p2p channels per peer"
    );
    s += &init(&h, "0x55aa0010", rank, n, id, "COMPLETE");
    let next = (rank + 1) % n;
    for c in 0..2 {
        let _ = writeln!(
            s,
            "{h}Channel {c:02}/0 : {rank}[{rank}] -> {next}[{next}] via P2P/CUMEM/read"
        );
    }
    let _ = writeln!(s, "{h}Connected all rings, use ring PXN 0 GDR 1");
    s
}

fn healthy(n: u32) -> Vec<String> {
    (0..n)
        .map(|r| rank_log("llm-0", r, n, "c0ffee123456789a"))
        .collect()
}

#[test]
fn a_healthy_communicator_is_complete_with_its_ring() {
    let text = healthy(4).concat();
    let s = scene(&[("llm-0.log", &text)]);
    assert_eq!(s.verdict, Verdict::Healthy, "{}", s.summary);
    assert_eq!(ids(&s), Vec::<&str>::new());
    let c = comm(&s, "c0ffee123456789a/4");
    assert_eq!(c.state, CommState::Complete);
    assert_eq!(c.nccl_version.as_deref(), Some("2.28.3"));
    assert_eq!(c.unseen_count, 0);
    assert_eq!(c.missing_ranks, Some(vec![]));
    let pairs: Vec<_> = c
        .edges
        .iter()
        .map(|e| {
            (
                e.from,
                e.to,
                e.transport.as_str(),
                e.channels.clone(),
                e.same_host,
            )
        })
        .collect();
    for r in 0..4u32 {
        assert!(
            pairs.contains(&(
                Some(r),
                Some((r + 1) % 4),
                "P2P/CUMEM/read",
                vec![0, 1],
                Some(true)
            )),
            "{pairs:?}"
        );
    }
    assert!(
        c.edges
            .iter()
            .all(|e| e.kind == Some(EdgeKind::Coll) && e.attribution == Attribution::Inferred)
    );
    assert_eq!(c.rings.len(), 2);
    assert!(
        c.rings
            .iter()
            .all(|r| r.complete && r.order == [0, 1, 2, 3])
    );
    assert_eq!(c.trees.len(), 8);
    assert_eq!(c.channel_counts, Some((16, Some(16), 16, 16)));
    assert_eq!(c.p2p_chunk_bytes, Some(524_288));
    assert!(
        s.processes
            .iter()
            .all(|p| p.nccl_step == Some(NcclStep::Completion))
    );
}

#[test]
fn lines_inside_the_init_window_are_exact_and_deferred_ones_inferred() {
    // Up to 2.22 rings connect inside init; a fresh thread connects send/recv later.
    let h = head("a", 7, 8, 0);
    let lazy = head("a", 7, 99, 0);
    let text = format!(
        "{h}NCCL version 2.21.5+cuda12.4\n{}{h}Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n{h}Channel 00 : 0[0] -> 2[2] via SHM/direct/direct\n{h}Connected all rings\n{}{lazy}Channel 05/1 : 0[0] -> 2[2] via P2P/IPC\n",
        init(&h, "0x1", 0, 4, "abc", "START"),
        init(&h, "0x1", 0, 4, "abc", "COMPLETE"),
    );
    let s = scene(&[("a", &text)]);
    let c = comm(&s, "abc/4");
    let got: Vec<_> = c
        .edges
        .iter()
        .map(|e| (e.to, e.kind, e.attribution, e.transport.as_str()))
        .collect();
    assert!(
        got.contains(&(Some(1), Some(EdgeKind::Coll), Attribution::Exact, "P2P/IPC")),
        "{got:?}"
    );
    assert!(
        got.contains(&(
            Some(2),
            Some(EdgeKind::Coll),
            Attribution::Exact,
            "SHM/direct/direct"
        )),
        "{got:?}"
    );
    assert!(
        got.contains(&(
            Some(2),
            Some(EdgeKind::SendRecv),
            Attribution::Inferred,
            "P2P/IPC"
        )),
        "{got:?}"
    );
    assert_eq!(c.unseen_ranks, [1, 2, 3]);
    assert_eq!(
        c.missing_ranks,
        Some(vec![]),
        "a COMPLETE proves that all arrived"
    );
}

#[test]
fn one_thread_that_serves_several_communicators_in_turn_is_cut_at_boundaries() {
    // 2.28.3+: the calling thread makes tp (4) and pp (2), then connects each at its first collective.
    let h = head("a", 7, 7, 1);
    let line = |rest: &str| format!("{h}{rest}\n");
    let mut text = line("NCCL version 2.28.3+cuda12.8");
    text += &init(&h, "0x10", 1, 4, "aaaa", "START");
    text += &init(&h, "0x10", 1, 4, "aaaa", "COMPLETE");
    text += &line("Channel 00/0 : 1[1] -> 2[2] via P2P/CUMEM");
    text += &line("Connected all rings, use ring PXN 0 GDR 1");
    text += &init(&h, "0x20", 1, 2, "bbbb", "START");
    text += &init(&h, "0x20", 1, 2, "bbbb", "COMPLETE");
    text += &line("Channel 00/0 : 1[1] -> 0[1] [send] via NET/IB/0/GDRDMA");
    text += &line("Channel 00/0 : 0[1] -> 1[1] [receive] via NET/IB/0/GDRDMA");
    text += &line("Connected all rings, use ring PXN 0 GDR 1");
    let s = scene(&[("a", &text)]);
    assert_eq!(comm(&s, "aaaa/4").edges.len(), 1);
    let pp = comm(&s, "bbbb/2");
    assert_eq!(pp.edges.len(), 2);
    assert!(
        pp.edges
            .iter()
            .all(|e| e.network.as_deref() == Some("IB") && e.gdr == Some(true))
    );
    assert!(s.unattributed.is_empty());
}

#[test]
fn the_latest_collective_call_tells_whose_deferred_connection_it_is() {
    let h = head("a", 7, 7, 0);
    let mut text =
        init(&h, "0x10", 0, 2, "aaaa", "START") + &init(&h, "0x10", 0, 2, "aaaa", "COMPLETE");
    text +=
        &(init(&h, "0x20", 0, 2, "bbbb", "START") + &init(&h, "0x20", 0, 2, "bbbb", "COMPLETE"));
    let call = |ptr: &str| {
        format!(
            "{h}AllReduce: opCount 0 sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count 4 datatype 9 op 0 root 0 comm {ptr} [nranks=2] stream 0x55cf1e20\n"
        )
    };
    text += &call("0x10");
    text += &format!("{h}Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n{h}Connected all rings\n");
    text += &call("0x20");
    text +=
        &format!("{h}Channel 00 : 0[0] -> 1[1] via SHM/direct/direct\n{h}Connected all rings\n");
    let s = scene(&[("a", &text)]);
    assert_eq!(comm(&s, "aaaa/2").edges[0].transport, "P2P/IPC");
    assert_eq!(comm(&s, "bbbb/2").edges[0].transport, "SHM/direct/direct");
    assert_eq!(
        comm(&s, "bbbb/2").edges[0].kind,
        Some(EdgeKind::Coll),
        "a milestone at its end says ring"
    );
}

#[test]
fn a_connection_printed_again_after_every_call_keeps_all_its_channels() {
    let h = head("a", 7, 7, 0);
    let mut text =
        init(&h, "0x10", 0, 2, "aaaa", "START") + &init(&h, "0x10", 0, 2, "aaaa", "COMPLETE");
    let first = 1 + text.lines().count() as u64;
    for channel in 0..9 {
        text += &format!(
            "{h}Channel {channel:02}/0 : 0[0] -> 1[1] via P2P/IPC\n{h}AllReduce: opCount 0 sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count 4 datatype 9 op 0 root 0 comm 0x10 [nranks=2] stream 0x55cf1e20\n"
        );
    }
    let s = scene(&[("a", &text)]);
    let [edge] = comm(&s, "aaaa/2").edges.as_slice() else {
        panic!("{:#?}", comm(&s, "aaaa/2").edges)
    };
    assert_eq!(edge.channels, Vec::from_iter(0..9));
    assert_eq!(edge.line.number, first);
}

#[test]
fn lines_that_fit_two_communicators_which_have_the_edge_stay_open() {
    let h = head("a", 7, 7, 0);
    let mut text = String::new();
    for (ptr, id) in [("0x10", "aaaa"), ("0x20", "bbbb")] {
        text += &init(&h, ptr, 0, 2, id, "START");
        text += &format!("{h}Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n");
        text += &init(&h, ptr, 0, 2, id, "COMPLETE");
    }
    text += &format!("{h}Channel 03/0 : 0[0] -> 1[1] via P2P/IPC\n");
    let s = scene(&[("a", &text)]);
    assert_eq!(s.unattributed.len(), 1);
    assert_eq!(s.unattributed[0].candidates, ["aaaa/2", "bbbb/2"]);
    assert_eq!(s.unattributed[0].lines, 1);
    assert!(
        s.communicators
            .iter()
            .all(|c| c.edges.iter().all(|e| e.channels == [0])),
        "no guess in the edges"
    );
}

#[test]
fn lines_before_any_init_are_orphans_and_the_log_says_that_it_was_rotated() {
    let h = head("a", 7, 7, 0);
    let text = format!(
        "{h}Channel 03/0 : 0[0] -> 1[1] via P2P/IPC\n{h}Channel 04/0 : 0[0] -> 1[1] via P2P/IPC\n"
    );
    let s = scene(&[("a", &text)]);
    assert_eq!(s.unattributed.len(), 1);
    assert_eq!(s.unattributed[0].candidates, Vec::<String>::new());
    assert_eq!(s.unattributed[0].lines, 2);
    assert_eq!(ids(&s), ["log.rotated-away"]);
    assert_eq!(s.verdict, Verdict::Unknown);
    assert_eq!(s.sources[0].head_missing, Some(true));
}

#[test]
fn a_pointer_that_lives_again_is_another_communicator() {
    let h = head("a", 7, 7, 0);
    let mut text =
        init(&h, "0x10", 0, 2, "aaaa", "START") + &init(&h, "0x10", 0, 2, "aaaa", "COMPLETE");
    text += &format!("{h}comm 0x10 rank 0 nranks 2 cudaDev 0 busId 3b000 - Destroy COMPLETE\n");
    text +=
        &(init(&h, "0x10", 0, 2, "bbbb", "START") + &init(&h, "0x10", 0, 2, "bbbb", "COMPLETE"));
    text += &format!("{h}Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n");
    let s = scene(&[("a", &text)]);
    assert_eq!(comm(&s, "aaaa/2").state, CommState::Destroyed);
    assert_eq!(comm(&s, "aaaa/2").edges.len(), 0);
    assert_eq!(comm(&s, "bbbb/2").edges.len(), 1);
    assert_eq!(s.verdict, Verdict::Healthy);
}

#[test]
fn a_rank_that_starts_again_under_a_known_key_opens_a_generation() {
    let h = head("a", 7, 7, 0);
    let mut text = String::new();
    for _ in 0..2 {
        text += &(init(&h, "0x10", 0, 2, "aaaa", "START")
            + &init(&h, "0x10", 0, 2, "aaaa", "COMPLETE"));
        text += &format!("{h}comm 0x10 rank 0 nranks 2 cudaDev 0 busId 3b000 - Destroy COMPLETE\n");
    }
    let s = scene(&[("a", &text)]);
    let keys: Vec<&str> = s.communicators.iter().map(|c| c.key.as_str()).collect();
    assert_eq!(keys, ["aaaa/2", "aaaa/2#2"]);
}

#[test]
fn splits_without_an_id_are_joined_over_hosts_by_parent_count_and_colour() {
    let log = |host: &str, rank: u32, color: u32, sub: u32| {
        let h = head(host, 7, 7, 0);
        let parent = format!("0x9{rank}");
        let child = format!("0xc{rank}");
        let split = |what: &str, dash: &str| {
            format!(
                "{h}ncclCommSplit comm {child} rank {sub} nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent {parent} splitCount 1 color {color} key {rank}{dash}- Init {what}\n"
            )
        };
        init(&h, &parent, rank, 4, "feed", "START")
            + &init(&h, &parent, rank, 4, "feed", "COMPLETE")
            + &split("START", "")
            + &split("COMPLETE", " ")
    };
    let logs: Vec<String> = (0..4)
        .map(|r| log(&format!("n{r}"), r, r % 2, r / 2))
        .collect();
    let named: Vec<(String, &str)> = logs
        .iter()
        .enumerate()
        .map(|(i, l)| (format!("n{i}.log"), l.as_str()))
        .collect();
    let sources: Vec<(&str, &str)> = named.iter().map(|(n, l)| (n.as_str(), *l)).collect();
    let s = scene(&sources);
    for (key, processes) in [("feed/4/s1.0/2", [0, 2]), ("feed/4/s1.1/2", [1, 3])] {
        let c = comm(&s, key);
        assert_eq!(c.parent.as_deref(), Some("feed/4"));
        assert_eq!(c.comm_id, None);
        assert_eq!(
            c.ranks.iter().map(|m| m.process).collect::<Vec<_>>(),
            processes
        );
        assert_eq!(c.state, CommState::Complete);
    }
    assert_eq!(s.workloads.len(), 1);
}

#[test]
fn versions_without_start_claim_their_lines_when_complete_comes() {
    let h = head("a", 7, 9, 0);
    let text = format!(
        "{h}Channel 00/02 :    0   1\n{h}Trees [0] 1/-1/-1->0->-1\n{h}Channel 00 : 0[3b000] -> 1[5e000] via P2P/IPC/read\n{h}Connected all rings\n{h}Connected all trees\n{h}comm 0x7f5e90001ea0 rank 0 nranks 2 cudaDev 0 busId 3b000 - Init COMPLETE\n"
    );
    let s = scene(&[("a.log", &text)]);
    let c = comm(&s, "@a.log:7:7f5e90001ea0/2");
    assert_eq!(c.comm_id, None);
    assert_eq!(c.edges.len(), 1);
    assert_eq!(
        (c.edges[0].kind, c.edges[0].attribution),
        (Some(EdgeKind::Coll), Attribution::Exact)
    );
    assert_eq!(c.rings[0].order, [0, 1]);
}

#[test]
fn communicators_without_an_id_are_joined_by_when_they_completed() {
    let complete = |host: &str, rank: u32, n: u32, second: u32| {
        let h = head(host, 7 + rank, 9, rank);
        format!(
            "2025-01-02T03:04:{second:02}.5Z {h}comm 0x7f5e9000{rank}ea0 rank {rank} nranks {n} cudaDev {rank} busId 3b000 - Init COMPLETE\n"
        )
    };
    let logs = |a: String, b: String| scene(&[("a.log", &a), ("b.log", &b)]);
    let s = logs(complete("a", 0, 2, 5), complete("b", 1, 2, 6));
    let c = comm(&s, "@a.log:7:7f5e90000ea0/2");
    assert_eq!((s.communicators.len(), c.ranks.len()), (1, 2));
    assert_eq!(c.comm_id, None);
    // Another size, another minute, or a rank that is there twice: nothing is joined.
    let size = logs(complete("a", 0, 2, 5), complete("b", 1, 4, 6));
    let late = logs(complete("a", 0, 2, 5), complete("b", 1, 2, 55));
    assert_eq!((size.communicators.len(), late.communicators.len()), (2, 2));
    let two = complete("a", 0, 2, 5) + &complete("c", 0, 2, 5);
    assert_eq!(logs(two, complete("b", 1, 2, 6)).communicators.len(), 3);
}

#[test]
fn a_process_told_by_two_sources_counts_once() {
    let own = rank_log("w-1", 0, 2, "beef");
    let relayed: String = own
        .lines()
        .map(|l| format!("(EngineCore pid=1) (RayWorkerWrapper pid=200, ip=10.42.0.9) {l}\n"))
        .collect();
    let s = scene(&[("head.log", &relayed), ("worker.log", &own)]);
    assert_eq!(s.processes.len(), 1);
    assert_eq!(s.processes[0].sources, [0, 1]);
    assert_eq!(
        s.sources[s.processes[0].source as usize].name, "worker.log",
        "its own stream is its source"
    );
    assert_eq!(s.communicators.len(), 1);
    assert_eq!(
        s.communicators[0]
            .edges
            .iter()
            .map(|e| e.channels.len())
            .sum::<usize>(),
        2
    );
}

#[test]
fn both_ends_of_a_network_edge_make_one_edge_with_paths() {
    let rank = |host: &str, r: u32, gdr: &str| {
        let h = head(host, 7, 7, 0);
        init(&h, "0x1", r, 2, "abba", "START")
            + &format!(
                "{h}Channel 00/0 : 0[0] -> 1[0] [{}] via NET/IB/2{}{gdr}\n",
                if r == 0 { "send" } else { "receive" },
                if r == 0 { "(3)" } else { "" }
            )
            + &init(&h, "0x1", r, 2, "abba", "COMPLETE")
    };
    let (a, b) = (rank("a", 0, "/GDRDMA"), rank("b", 1, ""));
    let s = scene(&[("a", &a), ("b", &b)]);
    let c = comm(&s, "abba/2");
    assert_eq!(c.edges.len(), 1);
    let e = &c.edges[0];
    assert_eq!(
        (e.transport.as_str(), e.gdr, e.same_host),
        ("NET/IB/2/GDRDMA", Some(false), Some(false))
    );
    assert_eq!(e.paths.len(), 1);
    let (send, receive) = (e.paths[0].send.unwrap(), e.paths[0].receive.unwrap());
    assert_eq!(
        (send.gdr, send.pxn_rank, receive.gdr),
        (true, Some(3), false)
    );
    assert!(
        s.matrices[0]
            .cells
            .iter()
            .any(|c| c.disagree && c.downgraded)
    );
}

#[test]
fn sockets_inside_a_host_are_an_error_that_names_the_environment() {
    let mut logs = Vec::new();
    for r in 0..2u32 {
        let pid = 200 + r;
        let h = head("llm-1", pid, pid, r);
        let mut t = format!(
            "{h}NCCL_P2P_DISABLE set by environment to 1\n{h}NCCL_SHM_DISABLE set by environment to 1.\n"
        );
        t += &init(&h, "0x1", r, 2, "dead", "START");
        t += &format!(
            "{h}Channel 00/0 : {r}[{r}] -> {}[{}] [send] via NET/Socket/0\n",
            1 - r,
            1 - r
        );
        t += &init(&h, "0x1", r, 2, "dead", "COMPLETE");
        logs.push(t);
    }
    let text = logs.concat();
    let s = scene(&[("llm-1.log", &text)]);
    assert_eq!(ids(&s), ["nccl.same-host-net"]);
    let f = &s.findings[0];
    assert_eq!(f.key, "nccl.same-host-net@dead/2:llm-1");
    assert_eq!(f.ranks, [0, 1]);
    assert!(
        f.fix.iter().any(|x| x.contains("NCCL_P2P_DISABLE"))
            && f.fix.iter().any(|x| x.contains("NCCL_SHM_DISABLE"))
    );
    assert_eq!(s.verdict, Verdict::Degraded);
}

#[test]
fn absence_is_proven_only_by_a_silent_log_of_the_rank() {
    let start = |host: &str, r: u32, version: &str| {
        let h = head(host, 7, 7, 0);
        format!("{h}NCCL version {version}+cuda12.8\n") + &init(&h, "0x1", r, 2, "f00d", "START")
    };
    let a = start("a", 0, "2.27.7");
    // Only one log: rank 1 may be anywhere.
    let s = scene(&[("a", &a)]);
    assert_eq!(
        (comm(&s, "f00d/2").missing_ranks.clone(), s.verdict),
        (None, Verdict::Starting)
    );
    // The other process is here, speaks, and has not come.
    let b = format!("{}NCCL version 2.27.7+cuda12.8\n", head("b", 7, 7, 0));
    let s = scene(&[("a", &a), ("b", &b)]);
    assert_eq!(comm(&s, "f00d/2").missing_ranks, Some(vec![1]));
    assert_eq!(ids(&s), ["nccl.missing-ranks"]);
    // Up to 2.22.3 START comes after the rendezvous: everyone was there.
    let old = start("a", 0, "2.21.5");
    let s = scene(&[("a", &old), ("b", &b)]);
    assert_eq!(comm(&s, "f00d/2").missing_ranks, Some(vec![]));
}

#[test]
fn a_young_rendezvous_is_a_remark_and_an_old_one_an_error() {
    let stamp = |s: u32, text: String| -> String {
        text.lines()
            .map(|l| {
                format!("2026-01-02T03:04:{:02}.000000000Z {l}\n", s % 60)
                    .replace("03:04", &format!("03:{:02}", 4 + s / 60))
            })
            .collect()
    };
    let ha = head("a", 7, 7, 0);
    let a = stamp(
        0,
        format!("{ha}NCCL version 2.27.7+cuda12.8\n") + &init(&ha, "0x1", 0, 2, "f00d", "START"),
    );
    let hb = head("b", 7, 7, 0);
    for (seconds, severity, verdict) in [
        (30, "Info", Verdict::Starting),
        (120, "Error", Verdict::Degraded),
    ] {
        let b = stamp(seconds, format!("{hb}NCCL version 2.27.7+cuda12.8\n"));
        let s = scene(&[("a", &a), ("b", &b)]);
        assert_eq!(ids(&s), ["nccl.missing-ranks"]);
        assert_eq!(format!("{:?}", s.findings[0].severity), severity);
        assert_eq!(s.verdict, verdict, "{}", s.summary);
    }
}

#[test]
fn a_failed_connect_fails_the_communicator_and_names_the_peer() {
    let h = head("a", 7, 7, 0);
    let text = init(&h, "0x1", 0, 2, "f00d", "START")
        + "\na:7:7 [0] misc/socket.cc:561 NCCL WARN socketStartConnect: connect to 10.42.1.9<41873> returned Connection timed out, exceeded error retry count after 35 attempts\n"
        + &format!("{h}misc/socket.cc:64 -> 2\n{h}init.cc:1722 -> 2 [Async thread]\n");
    let s = scene(&[("a", &text)]);
    assert_eq!(ids(&s), ["nccl.connect-timeout"]);
    assert!(
        s.findings[0].title.contains("10.42.1.9<41873>"),
        "{}",
        s.findings[0].title
    );
    assert_eq!(s.verdict, Verdict::Failed);
    assert_eq!(comm(&s, "f00d/2").state, CommState::Failed);
}

#[test]
fn a_log_without_nccl_is_unknown_not_fine() {
    let s = scene(&[(
        "a",
        "hello\nINFO 11-20 08:11:35 [x.py:46] nothing of note\n",
    )]);
    assert_eq!(s.verdict, Verdict::Unknown);
}

/// What must not depend on the order of independent processes.
fn essence(s: &Scene) -> String {
    let mut out = format!("{:?} {}\n", s.verdict, s.summary);
    for c in &s.communicators {
        let _ = writeln!(
            out,
            "{} {:?} {:?} {:?} {:?}",
            c.key, c.state, c.unseen_ranks, c.rings, c.trees
        );
        for e in &c.edges {
            let _ = writeln!(
                out,
                "  {:?}>{:?} {:?} {} {:?} {:?} {:?}",
                e.from, e.to, e.kind, e.transport, e.channels, e.attribution, e.paths
            );
        }
    }
    for u in s.unattributed.iter() {
        let _ = writeln!(
            out,
            "? {:?}>{:?} {} {:?} {}",
            u.from, u.to, u.transport, u.candidates, u.lines
        );
    }
    for f in &s.findings {
        let _ = writeln!(out, "! {} {:?}", f.key, f.severity);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn independent_processes_may_be_interleaved_in_any_order(picks in proptest::collection::vec(0usize..4, 0..400)) {
        let logs = healthy(4);
        let straight = scene(&[("x", &logs.concat())]);
        let mut queues: Vec<std::collections::VecDeque<&str>> = logs.iter().map(|l| l.split_inclusive('\n').collect()).collect();
        let mut mixed = String::new();
        for p in picks {
            if let Some(l) = queues[p].pop_front() { mixed += l; }
        }
        for q in &mut queues {
            for l in q.drain(..) { mixed += l; }
        }
        let s = scene(&[("x", &mixed)]);
        prop_assert_eq!(essence(&straight), essence(&s));
    }

    #[test]
    fn repeated_lines_change_nothing(repeat in proptest::collection::vec(1usize..3, 120)) {
        let text = healthy(4).concat();
        let doubled: String = text.split_inclusive('\n').zip(repeat.iter().cycle()).map(|(l, n)| l.repeat(*n)).collect();
        prop_assert_eq!(essence(&scene(&[("x", &text)])), essence(&scene(&[("x", &doubled)])));
    }

    #[test]
    fn blocks_of_any_size_give_the_same_scene(chunk in 1usize..40) {
        let text = healthy(4).concat();
        prop_assert_eq!(scene(&[("x", &text)]), scene_in(&[("x", &text)], chunk));
    }

    #[test]
    fn a_log_cut_at_any_line_never_claims_more_than_it_holds(cut in 0usize..80) {
        let text: String = healthy(4).concat().split_inclusive('\n').take(cut).collect();
        let s = scene(&[("x", &text)]);
        prop_assert!(s.findings.iter().all(|f| f.severity == ncclscope::rules::scene::Severity::Info), "{:?}", ids(&s));
        prop_assert!(matches!(s.verdict, Verdict::Starting | Verdict::Healthy | Verdict::Unknown));
    }
}
