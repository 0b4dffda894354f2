//! NCCL lines in, facts out. The lines are composed from the reference, a table per subject, a row per
//! shape and version range.

#[path = "parse/prefixes.rs"]
mod prefixes;
#[path = "parse/say.rs"]
mod say;

use std::fmt::Write as _;

use ncclscope::parse::Block;
use ncclscope::parse::fact::{CollOp, Fact};
use say::say;

fn block(text: impl AsRef<[u8]>) -> Block {
    Block::new(1, text.as_ref().to_vec())
}

/// The facts of a text in the words of [`say`].
fn facts(text: impl AsRef<[u8]>) -> Vec<String> {
    block(text).recs.iter().map(|rec| say(&rec.fact)).collect()
}

/// The one fact of a line with an ordinary head; empty where there is none.
fn info(message: &str) -> String {
    facts(format!("llm-0:211:345 [0] NCCL INFO {message}\n")).join(" & ")
}

fn warn(place: &str, message: &str) -> String {
    facts(format!("\nllm-0:211:345 [0] {place} NCCL WARN {message}\n")).join(" & ")
}

fn check(rows: &[(&str, &str)], read: impl Fn(&str) -> String) {
    let mut wrong = String::new();
    for (line, expected) in rows {
        let got = read(line);
        if got != *expected {
            let _ = writeln!(wrong, "{line}\n  expected {expected}\n       got {got}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
#[rustfmt::skip]
fn connections_of_every_version() {
    check(
        &[
            // ≤2.12.12, 2.13.4
            ("Channel 00 : 0[3b000] -> 1[5e000] via P2P/IPC/read", "c0 0[3b000]>1[5e000] P2P Ipc read"),
            ("Channel 00 : 0[3b000] -> 1[5e000] via P2P/IPC/read/CE", "c0 0[3b000]>1[5e000] P2P Ipc read ce"),
            ("Channel 00 : 0[3b000] -> 1[5e000] via P2P/direct pointer/read", "c0 0[3b000]>1[5e000] P2P Direct read"),
            ("Channel 00 : 0[3b000] -> 3[af000] via P2P/indirect/1[5e000]/read", "c0 0[3b000]>3[af000] P2P indirect 1 read"),
            ("Channel 01 : 1[5e000] -> 2[86000] via direct shared memory", "c1 1[5e000]>2[86000] SHM Legacy"),
            ("Channel 00 : 3[af000] -> 4[3b000] [send] via NET/IB/0/GDRDMA/Shared", "c0 3[af000]>4[3b000] send NET IB:0 gdr shared"),
            // 2.13.4–2.18.1
            ("Channel 00/0 : 0[3b000] -> 1[5e000] via P2P/IPC", "c0/0 0[3b000]>1[5e000] P2P Ipc"),
            ("Channel 02 : 2[86000] -> 3[af000] via SHM/direct/direct", "c2 2[86000]>3[af000] SHM direct/direct"),
            ("Channel 02 : 2[86000] -> 3[af000] via SHM/CE/direct", "c2 2[86000]>3[af000] SHM CE/direct"),
            ("Channel 00/0 : 3[af000] -> 4[3b000] [send] via NET/IB/0/GDRDMA", "c0/0 3[af000]>4[3b000] send NET IB:0 gdr"),
            ("Channel 00/0 : 0[a] -> 1[b] via P2P/CUMEM", "c0/0 0[a]>1[b] P2P Cumem"),
            // 2.18.3+
            ("Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read", "c0/0 0[nvml 0]>1[nvml 1] P2P Cumem read"),
            ("Channel 05/1 : 2[2] -> 0[0] via P2P/IPC", "c5/1 2[nvml 2]>0[nvml 0] P2P Ipc"),
            ("Channel 00/0 : 0[0] -> 1[1] via P2P/direct pointer/read", "c0/0 0[nvml 0]>1[nvml 1] P2P Direct read"),
            ("Channel 00/0 : 0[0] -> 3[3] via P2P/indirect/1[1]", "c0/0 0[nvml 0]>3[nvml 3] P2P indirect 1"),
            ("Channel 63/0 : 0[10] -> 4[15] via P2P/MNNVL", "c63/0 0[nvml 10]>4[nvml 15] P2P Mnnvl"),
            ("Channel 03 : 1[1] -> 2[2] via SHM/direct/direct", "c3 1[nvml 1]>2[nvml 2] SHM direct/direct"),
            ("Channel 03 : 1[1] -> 2[2] via SHM/direct", "c3 1[nvml 1]>2[nvml 2] SHM Direct"),
            ("Channel 00/0 : 7[7] -> 8[0] [send] via NET/IB/2/GDRDMA", "c0/0 7[nvml 7]>8[nvml 0] send NET IB:2 gdr"),
            ("Channel 00/0 : 7[7] -> 8[0] [receive] via NET/IB/2/GDRDMA", "c0/0 7[nvml 7]>8[nvml 0] receive NET IB:2 gdr"),
            ("Channel 02/0 : 5[5] -> 9[1] [send] via NET/IB/1(3)/GDRDMA", "c2/0 5[nvml 5]>9[nvml 1] send NET IB:1 pxn 3 gdr"),
            ("Channel 06/1 : 2[2] -> 11[3] [send] via NET/IB/2(9)/GDRDMA/Shared", "c6/1 2[nvml 2]>11[nvml 3] send NET IB:2 pxn 9 gdr shared"),
            ("Channel 00/0 : 0[0] -> 1[0] [receive] via NET/Socket/0", "c0/0 0[nvml 0]>1[nvml 0] receive NET Socket:0"),
            ("Channel 01/0 : 1[0] -> 0[0] [send] via NET/Socket/0/Shared", "c1/0 1[nvml 0]>0[nvml 0] send NET Socket:0 shared"),
            ("Channel 00/0 : 3[3] -> 4[0] [send] via NET/AWS Libfabric/0/GDRDMA", "c0/0 3[nvml 3]>4[nvml 0] send NET AWS Libfabric:0 gdr"),
            ("Channel 00/0 : 3[3] -> 4[0] [send] via NET/IBext_v8/3/GDRDMA(PCI)", "c0/0 3[nvml 3]>4[nvml 0] send NET IBext_v8:3 gdr pci"),
            ("Channel 00/0 : 3[3] -> 4[0] [send] via NET/IB/0(2)/GDRDMA(PCI)/Shared", "c0/0 3[nvml 3]>4[nvml 0] send NET IB:0 pxn 2 gdr pci shared"),
            // before 2.8
            ("Ring 00 : 0[3b000] -> 1[5e000] via P2P/IPC", "c0 0[3b000]>1[5e000] P2P Ipc"),
            ("Ring 01 : 0 -> 1 [send] via NET/IB/0", "c1 0>1 send NET IB:0"),
            ("Ring 00 : 1 -> 2 via P2P/common device/read", "c0 1>2 P2P CommonDevice read"),
            // RCCL
            ("Channel 00/0 : 0[c1000] -> 1[c6000] via P2P/IPC comm 0xb20e10 nRanks 08", "c0/0 0[c1000]>1[c6000] P2P Ipc comm b20e10"),
            ("Channel 01 : 0[c1000] -> 1[c6000] via SHM/direct/direct comm 0xb20e10 nRanks 08 busId c6000", "c1 0[c1000]>1[c6000] SHM direct/direct comm b20e10"),
            // write-ups
            ("Channel 00 : 0[0] -> 2[0] via NET/Socket/0", "c0 0[nvml 0]>2[nvml 0] NET Socket:0"),
            ("Channel 00 : 0[GPU 0] -> 1[GPU 1] via P2P/CUMEM", "c0 0>1 P2P Cumem"),
            // what a later version may bring is kept by its word.
            ("Channel 00/0 : 0[0] -> 1[1] via CXL/direct/2", "c0/0 0[nvml 0]>1[nvml 1] other CXL/direct/2"),
            ("Channel 00/0 : 0[0] -> 1[1] [send] via UCIe(3)", "c0/0 0[nvml 0]>1[nvml 1] send other UCIe(3)"),
            // cut in mid-token: nothing is better than half
            ("Channel 00/0 : 0[0] -> 1[1] via P2P/CUM", ""),
            ("Channel 00/0 : 0[0] -> 1[1] via SH", ""),
            ("Channel 00/0 : 0[0] -> 1[1] via ", ""),
            ("Channel 00/0 : 0[0] -> 1[1] via P2P/IPC/rea", ""),
            ("Channel 00/0 : 0[0] -> 1[1] [send] via NET/IB/", ""),
            ("Channel 00/0 : 0[0] -> 1[", ""),
            ("Channel 00/0 : 0[0] -> 1[1] via SHM/direct/dir", ""),
            // CollNet
            ("CollNet 01 : 0 [receive] via COLLNET/SHARP/0", "collnet 1 0 receive SHARP:0"),
            ("Coll 01 : 0 [receive] via COLLNET/SHARP/0", "collnet 1 0 receive SHARP:0"),
            ("CollNet 00/1 : 0 [send] via COLLNET/SHARP/0/GDRDMA", "collnet 0/1 0 send SHARP:0 gdr"),
            ("CollNet 00/1 : 0 [send] via COLLNET/SHARP/0/GDRDMA(PCI)", "collnet 0/1 0 send SHARP:0 gdr"),
        ],
        info,
    );
}

#[test]
#[rustfmt::skip]
fn rings_and_trees_of_every_version() {
    let twenty: String = (0..20).map(|n| format!(" {n:3}")).collect();
    let order: Vec<u32> = (0..20).collect();
    check(
        &[
            ("Channel 00/02 :    0   1   2   3", "ring 0/2 [0, 1, 2, 3]"),
            ("Channel 01/02 : 0 3 2 1", "ring 1/2 [0, 3, 2, 1]"),
            ("Channel 00 :    0   1", "ring 0 [0, 1]"),
            ("Channel 00/16 :  0  1  2  3  4  5 ...", "ring 0/16 [0, 1, 2, 3, 4, 5] cut"),
            ("Channel 00/16 :  0  1  2  3  4  1...", "ring 0/16 [0, 1, 2, 3, 4] cut"),
            (
                &format!("Channel 00/02 : {twenty}"),
                &format!("ring 0/2 {order:?} cut"),
            ),
            ("Channel 00/08 :  0  2  1 comm 0xb20e10 nRanks 08", "ring 0/8 [0, 2, 1] comm b20e10"),
            ("Ring 00 : 3 -> 0 -> 1", "ring 0 3->0->1"),
            ("Trees [0] 1/-1/-1->0->-1 [1] -1/-1/-1->0->3", "trees 0 0:root^[1] 1:3^[]"),
            ("Trees [0] 1/2/3->0->-1", "trees 0 0:root^[1, 2, 3]"),
            ("Trees [0] 1/-1/-1->0->2|2->0->1/-1/-1 [1] -1/-1/-1->0->1|1->0->-1/-1/-1", "trees 0 0:2^[1] 1:1^[]"),
            ("Trees [0] -1->0->1/-1/-1", "trees 0 0:root^[1]"),
            ("Trees [0] 1/-1/-1->0->-1 [1] -1/-1/-1->", "trees 0 0:root^[1]"),
            ("Trees [0] 1/-1/-1->0->-1 comm 0xb20e10 nRanks 08", "trees 0 0:root^[1] comm b20e10"),
            ("Tree 0 : -1 -> 0 -> 1/-1/-1", "trees 0 0:root^[1]"),
            ("Tree 11 : 4 -> 0 -> 1/2/-1", "trees 0 11:4^[1, 2]"),
            ("NVLS Trees : 4/-1/-1->0->-1 4/-1/-1->0->-1", ""),
            ("NVLS Head  0: 0 8", ""),
            ("Connected all rings", "connected Rings"),
            ("Connected all rings, use ring PXN 0 GDR 1", "connected Rings gdr true"),
            ("Connected all rings, use ring PXN 0 GDR 0", "connected Rings gdr false"),
            ("Connected all rings comm 0xb20e10 nRanks 08 busId 9a000", "connected Rings comm b20e10"),
            ("Connected all trees", "connected Trees"),
            ("Connected binomial trees", "connected Binomial"),
            ("Connected NVLS tree", "connected Nvls"),
            ("rank 3 Connected CollNet", "connected CollNet"),
            ("Connected collnet + chain", "connected CollNet"),
            ("Connected to proxy localRank 2 -> connection 0x7f5e9c0031d8", ""),
            ("2 coll channels, 2 p2p channels, 2 p2p channels per peer", "counts 2 None 2 2"),
            ("24 coll channels, 16 nvls channels, 32 p2p channels, 31 p2p channels per peer", "counts 24 Some(16) 32 31"),
            ("16 coll channels, 16 collnet channels, 4 nvls channels, 8 p2p channels, 2 p2p channels per peer", "counts 16 Some(4) 8 2"),
            ("P2P Chunksize set to 524288", "chunk 524288"),
            ("threadThresholds 8/8/64 | 32/8/64 | 512 | 512", "Tuned"),
            ("Threads per block : 512/640/512", "Tuned"),
        ],
        info,
    );
    // A trees line as long as NCCL makes them ends in mid-number: the last one is not believed.
    let long: String = (0..60).map(|n| format!(" [{n}] 1/-1/-1->0->12")).collect();
    let said = info(&format!("Trees{long}"));
    assert!(said.contains("58:12") && !said.contains("59:"), "{said}");
}

#[test]
#[rustfmt::skip]
fn lives_of_communicators_in_every_version() {
    check(
        &[
            ("comm 0x7f5e90001ea0 rank 0 nranks 4 cudaDev 0 busId 3b000 - Init COMPLETE", "InitComplete Unnamed 7f5e90001ea0 0/4 cuda 0 nvml - bus 3b000 id -"),
            ("comm 0x558a1c20 rank 1 nranks 4 cudaDev 1 busId 5e000 commId 0x1f2e3d4c5b6a7988 - Init COMPLETE", "InitComplete Unnamed 558a1c20 1/4 cuda 1 nvml - bus 5e000 id 1f2e3d4c5b6a7988"),
            ("comm 0x558a1c20 rank 1 nranks 4 cudaDev 1 nvmlDev 1 busId 5e000 commId 0x1f2e3d4c5b6a7988 - Init START", "InitStart Unnamed 558a1c20 1/4 cuda 1 nvml 1 bus 5e000 id 1f2e3d4c5b6a7988"),
            ("comm 0x558a1c20 rank 1 nranks 4 cudaDev 1 nvmlDev 1 - Init COMPLETE", "InitComplete Unnamed 558a1c20 1/4 cuda 1 nvml 1 bus - id -"),
            ("ncclCommSplit comm 0x558b7700 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent 0x558a1c20 color 0 key 0 commId 0x22aa33bb44cc55dd - Init COMPLETE", "InitComplete Split 558b7700 0/2 cuda 0 nvml 0 bus 3b000 id 22aa33bb44cc55dd of 558a1c20 #- color 0 key 0"),
            ("ncclCommInitRankConfig comm 0x558a1c20 rank 2 nranks 8 cudaDev 2 nvmlDev 2 busId 86000 commId 0x9c0ffee123456789 - Init START", "InitStart Init 558a1c20 2/8 cuda 2 nvml 2 bus 86000 id 9c0ffee123456789"),
            ("ncclCommInitRank comm 0x1 rank 2 nranks 8 cudaDev 2 nvmlDev 2 busId 86000 commId 0x9c - Init START", "InitStart Init 1 2/8 cuda 2 nvml 2 bus 86000 id 9c"),
            ("ncclCommInitRankScalable comm 0x1 rank 2 nranks 8 cudaDev 2 nvmlDev 2 busId 86000 commId 0x9c - Init COMPLETE", "InitComplete Init 1 2/8 cuda 2 nvml 2 bus 86000 id 9c"),
            ("ncclCommInitAll comm 0x1 rank 2 nranks 8 cudaDev 2 nvmlDev 2 busId 86000 commId 0x9c - Init START", "InitStart Init 1 2/8 cuda 2 nvml 2 bus 86000 id 9c"),
            // 2.23.4 without count, 2.24.3 with splitCount, no blank before the dash
            ("ncclCommSplit comm 0x2 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent 0x1 color 77 key 0- Init START", "InitStart Split 2 0/2 cuda 0 nvml 0 bus 3b000 id - of 1 #- color 77 key 0"),
            ("ncclCommSplit comm 0x2 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent 0x1 splitCount 1 color 77 key 12- Init START", "InitStart Split 2 0/2 cuda 0 nvml 0 bus 3b000 id - of 1 #1 color 77 key 12"),
            ("ncclCommSplit comm 0x2 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent 0x1 splitCount 1 color -1 key -2 - Init COMPLETE", "InitComplete Split 2 0/2 cuda 0 nvml 0 bus 3b000 id - of 1 #1 color -1 key -2"),
            ("ncclCommShrink comm 0x2 rank 1 nranks 7 cudaDev 2 nvmlDev 2 busId 86000 parent 0x1 childCount 0 color 0 key 2 - Init COMPLETE", "InitComplete Shrink 2 1/7 cuda 2 nvml 2 bus 86000 id - of 1 #0 color 0 key 2"),
            // 2.29.2+
            ("[Rank 2] ncclCommInitRankConfig comm 0x1 rank 2 nranks 8 cudaDev 2 nvmlDev 2 busId 86000 commId 0x9c - Init START", "InitStart Init 1 2/8 cuda 2 nvml 2 bus 86000 id 9c"),
            ("[Rank 9] ncclCommGrow comm 0x3 rank 9 nranks 10 cudaDev 1 nvmlDev 1 busId 5e000 commId 0x77 - Init START", "InitStart Grow 3 9/10 cuda 1 nvml 1 bus 5e000 id 77"),
            ("ncclCommGrow comm 0x3 rank 1 nranks 10 cudaDev 1 nvmlDev 1 busId 5e000 parent (nil) childCount 2 color 0 key 1 - Init COMPLETE", "InitComplete Grow 3 1/10 cuda 1 nvml 1 bus 5e000 id - of - #2 color 0 key 1"),
            // RCCL
            ("comm 0x2ac71c00 rank 3 nranks 4 cudaDev 3 busId 63000 used 50331648 bytes - Init COMPLETE", "InitComplete Unnamed 2ac71c00 3/4 cuda 3 nvml - bus 63000 id -"),
            ("ncclCommInitRank_impl comm 0x2 rank 3 nranks 4 cudaDev 3 nvmlDev 3 busId 63000 commId 0x5 - Init START", "InitStart Init 2 3/4 cuda 3 nvml 3 bus 63000 id 5"),
            // 2.30.7 tells where
            ("init.cc:1740 (ncclCommInitRankFunc) comm 0x1 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 1e0 commId 0x9c - Init COMPLETE", "InitComplete Unnamed 1 0/2 cuda 0 nvml 0 bus 1e0 id 9c"),
            // the end
            ("comm 0x1 rank 2 nranks 8 cudaDev 2 busId 86000 - Destroy COMPLETE", "Destroyed Unnamed 1 2/8 cuda 2 nvml - bus 86000 id -"),
            ("comm 0x1 rank 2 nRanks 8 cudaDev 2 busId 86000 - Abort START", "AbortStart Unnamed 1 2/8 cuda 2 nvml - bus 86000 id -"),
            ("comm 0x1 rank 2 nranks 8 cudaDev 2 busId 86000 - Abort COMPLETE", "Aborted Unnamed 1 2/8 cuda 2 nvml - bus 86000 id -"),
            ("comm 0x1 rank 2 nRanks 8 cudaDev 2 busId 86000 - Revoke START", "RevokeStart Unnamed 1 2/8 cuda 2 nvml - bus 86000 id -"),
            ("comm 0x1 rank 2 nRanks 8 cudaDev 2 busId 86000 - Revoke COMPLETE, result 0", "Revoked Unnamed 1 2/8 cuda 2 nvml - bus 86000 id - result 0"),
            ("CommRevokeAsync START comm 0x1 rank 2 nRanks 8 nNodes 1 localRank 2 cudaDev 2", "RevokeStart Unnamed 1 2/8 cuda 2 nvml - bus - id -"),
            ("CommRevokeAsync END comm 0x1 result 6", "Revoked Unnamed 1 0/0 cuda - nvml - bus - id - result 6"),
            // cut
            ("comm 0x1 rank 2 nranks 8 cudaDev 2 busId 86", ""),
            // placement, timings, others
            ("comm 0x558a1c20 rank 2 nRanks 8 nNodes 2 localRanks 4 localRank 3 MNNVL 0", "placement 558a1c20 2/8 nodes 2 local 3/4 mnnvl false"),
            ("Init timings: rank 2 nranks 8 total 1.42 (kernels 0.18, bootstrap 0.33)", "InitTimings { rank: 2, nranks: 8, total: 1.42 }"),
            ("Init timings - ncclCommInitRankConfig: rank 2 nranks 8 total 1.42 (kernels 0.18, alloc 0.21)", "InitTimings { rank: 2, nranks: 8, total: 1.42 }"),
            ("Bootstrap timings total 0.034512 (create 0.000040, send 0.000171)", "BootstrapTimings { total: 0.034512 }"),
            ("Rank 3 has color with NCCL_SPLIT_NOCOLOR, not creating a new communicator", "SplitNoColor { rank: 3 }"),
            ("Rank 3: Generated commHash 0x1 from baseMagic 0x2 and newNRanks 4", ""),
        ],
        info,
    );
}

#[test]
#[rustfmt::skip]
fn networks_plugins_and_environment() {
    check(
        &[
            ("Bootstrap : Using eth0:10.42.0.17<0>", "bootstrap eth0 10.42.0.17"),
            ("Bootstrap: Using eth0:10.42.0.17<0>", "bootstrap eth0 10.42.0.17"),
            ("Bootstrap : Using [0]eth0:10.42.0.17<0> [1]eth1:10.43.0.1<0>", "bootstrap eth0 10.42.0.17"),
            ("Bootstrap : Using [0]eth0:fe80::1%eth0<0>", "bootstrap eth0 fe80::1%eth0"),
            ("Bootstrap: Using mlx5_0:1", "bootstrap mlx5_0:1 "),
            ("NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/RoCE ; OOB eth0:10.42.0.17<0>", "IB 0=mlx5_0:1|IB 1=mlx5_1:1|RoCE"),
            ("NET/IB : Using [0]mlx5_0:1/RoCE [1]mlx5_1:1/RoCE [RO]; OOB eth0:10.42.0.17<0>", "IB 0=mlx5_0:1|RoCE 1=mlx5_1:1|RoCE"),
            ("NET/IB : Using [0]={[0] mlx5_0:1/IB, [1] mlx5_1:1/IB} [1]mlx5_2:1/IB [RO]; OOB eth0:10.42.0.17<0>", "IB 0=mlx5_0:1+mlx5_1:1|IB 1=mlx5_2:1|IB"),
            ("NET/IB : Using [0]mlx5_0:1:0/RoCE [1]mlx5_1:1:1:0/RoCE ; OOB eth0:10.42.0.17<0>", "IB 0=mlx5_0:1:0|RoCE 1=mlx5_1:1:1:0|RoCE"),
            ("NET/IB : Using [0]mlx5_0:1/IB/SHARP [RO]; OOB eth0:10.42.0.17<0>", "IB 0=mlx5_0:1|IB/SHARP"),
            ("NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1", "IB 0=mlx5_0:1|IB"),
            ("NET/IB : Using [RO]; OOB eth0:10.42.0.17<0>", "IB "),
            ("NET/IB : No device found.", "NoIbDevice"),
            ("Failed to open libibverbs.so[.1]", "NoIbDevice"),
            ("NET/IB : Made virtual device [4] name=mlx5_0+mlx5_1 speed=800000 ndevs=2", "VirtualDevice { index: 4, name: \"mlx5_0+mlx5_1\" }"),
            ("NET/IB: [0] mlx5_0:uverbs0:1/RoCE provider=Mlx5 speed=400000 context=0x55d0c100 pciPath=/sys ar=0", ""),
            ("NET/Socket : Using [0]eth0:10.42.0.17<0> [1]net1:192.168.10.4<0>", "Socket 0=eth0:10.42.0.17<0>| 1=net1:192.168.10.4<0>|"),
            ("NET/Socket: Using 1 threads and 1 sockets per thread", ""),
            ("Using network Socket", "network Socket"),
            ("Using network AWS Libfabric", "network AWS Libfabric"),
            ("Using NCCL_NET_DEVICE_UNPACK net plugin version 7", ""),
            ("NET/Plugin : No plugin found (libnccl-net.so), using internal implementation", "plugin NET/Plugin : No plugin found (libnccl-net.so), using internal implementation"),
            ("NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin.", "plugin NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin."),
            ("NET/Plugin: Loaded net plugin AWS Libfabric (v9)", "plugin NET/Plugin: Loaded net plugin AWS Libfabric (v9)"),
            ("NET/Plugin: Failed to find ncclNetPlugin_v8 symbol.", ""),
            ("TUNER/Plugin: Failed to find ncclTunerPlugin_v2, using internal tuner instead.", ""),
            ("TUNER/Plugin: Could not find: libnccl-tuner.so libnccl-net.so. Using internal tuner plugin.", ""),
            ("Successfully loaded external network plugin libnccl-net-ofi.so", "plugin Successfully loaded external network plugin libnccl-net-ofi.so"),
            ("Failed to initialize NET plugin IB", "plugin Failed to initialize NET plugin IB"),
            ("Assigned NET plugin Socket to comm", "plugin Assigned NET plugin Socket to comm"),
            ("NET/OFI Selected provider is efa, fabric is efa (found 4 nics)", "plugin NET/OFI Selected provider is efa, fabric is efa (found 4 nics)"),
            ("NCCL_SOCKET_IFNAME set by environment to eth0", "NCCL_SOCKET_IFNAME=eth0"),
            ("NCCL_IB_TIMEOUT set by environment to 22.", "NCCL_IB_TIMEOUT=22"),
            ("NCCL_P2P_LEVEL set by environment to PHB", "NCCL_P2P_LEVEL=PHB"),
            ("NCCL_SOCKET_IFNAME set by environment to eth0.", "NCCL_SOCKET_IFNAME=eth0."),
            ("NCCL_ALGO set by environment to", "NCCL_ALGO="),
            ("NCCL_IB_HCA set to mlx5_0,mlx5_1", "NCCL_IB_HCA=mlx5_0,mlx5_1"),
            ("cudaDriverVersion 12080", "driver 12080"),
            ("NCCL version 2.27.7+cuda12.8", "nccl 2.27.7 cuda Some(\"12.8\")"),
            ("NCCL version 2.19.3+cudaCUDA_MAJOR.CUDA_MINOR", "nccl 2.19.3 cuda None"),
            ("NCCL git version master 1a2b3c4", ""),
            ("RCCL version : 2.27.7-main:1a2b3c4", "rccl 2.27.7 cuda None"),
            ("NVLS multicast support is available on dev 0 (NVLS_NCHANNELS 16)", "Nvls { available: true }"),
            ("NVLS multicast support is not available on dev 0", "Nvls { available: false }"),
            ("NVLS comm 0x558a1c20 headRank 0 nHeads 8 nvlsRanks 8 buffSize 1048576 nvlsPerRankSize 33554432 nvlsTotalSize 268435456", "Nvls { available: true }"),
            ("NET/IB : GPU Direct RDMA Enabled for HCA 0 'mlx5_0'", "gdr true - -"),
            ("NET/IB : GPU Direct RDMA Disabled for HCA 0 'mlx5_0' (no module)", "gdr false - -"),
            ("NET/IB : GPU Direct RDMA (DMABUF) enabled for HCA 0 'mlx5_0", "gdr true - -"),
            ("GPU Direct RDMA Disabled for GPU 3b000 / HCA 1 (distance 7 > 4)", "gdr false 7 4"),
            ("GPU Direct RDMA Enabled for GPU 2 / HCA 1 (distance 5 <= 5), read 1 mode Default", "gdr true 5 5"),
            ("GPU Direct RDMA Enabled for GPU/0-241664 (rank 0) - NET/0-0 (distance 4 <= 6, read 1, mode Default)", "gdr true 4 6"),
            ("P2P is disabled between connected GPUs 0 and 1. You can repress this message with NCCL_IGNORE_DISABLED_P2P=1.", "P2pDisabled { a: 0, b: 1, nvlink: false }"),
            ("Could not enable P2P between dev 0(=3b000) and dev 1(=5e000)", "P2pDisabled { a: 0, b: 1, nvlink: false }"),
            ("socketStartConnect: connect to 10.42.1.9<41873> returned Connection refused, retrying (3/34) after sleep for 300 msec", "retry 10.42.1.9<41873> Connection refused"),
            ("socketStartConnect: connect returned Connection refused, retrying (3/34) after sleep for 300 msec", "retry - Connection refused"),
            ("Call to connect returned Connection timed out, retrying", "retry - Connection timed out"),
            ("misc/socket.cc:64 -> 6", "-> 6"),
            ("init.cc:1722 -> 2 [Async thread]", "-> 2"),
            ("init.cc:2088 (ncclCommInitRankFunc) -> 3", "-> 3"),
            ("[Service thread] Connection closed by localRank 3", ""),
            ("=== System : maxBw 48.0 totalBw 300.0 ===", ""),
            ("Pattern 4, crossNic 0, nChannels 2, bw 24.000000/24.000000, type NVL/PHB, sameChannels 1", ""),
            ("AllReduce: 1048576 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..15}", ""),
            ("1048576 Bytes -> Algo 1 proto 2 time 61.250000", ""),
        ],
        info,
    );
}

#[test]
#[rustfmt::skip]
fn collectives() {
    check(
        &[
            ("AllReduce: opCount 1f sendbuff 0x7f3a2c000000 recvbuff 0x7f3a2c000000 count 4194304 datatype 9 op 0 root 0 comm 0x558a1c20 [nranks=8] stream 0x55cf1e20", "AllReduce #31 4194304x9 op 0 root 0 comm 558a1c20/8"),
            ("Send: opCount 20 sendbuff (nil) recvbuff 0x7f3a30000000 count 2048 datatype 6 op 0 root 3 comm 0x558b7700 [nranks=2] stream 0x55cf1e20", "Send #32 2048x6 op 0 root 3 comm 558b7700/2"),
            ("Send: opCount 12 sendbuff 0x7f3a30000000 recvbuff (nil) count 2048 datatype 7 op 0 root 1 comm 0x558b7700 [nranks=2] stream 0x55cf1e20", "Send #18 2048x7 op 0 root 1 comm 558b7700/2"),
            ("Recv: opCount 0 sendbuff (nil) recvbuff 0x1 count 1 datatype 0 op 0 root 0 comm 0x1 [nranks=2] stream (nil)", "Recv #0 1x0 op 0 root 0 comm 1/2"),
            ("AlltoAll: opCount 0 sendbuff 0x1 recvbuff 0x1 count 1 datatype 11 op 4 root -1 comm 0x1 [nranks=2] stream 0x1", "AlltoAll #0 1x11 op 4 root -1 comm 1/2"),
            ("Broadcast: opCount 0 sendbuff 0x1 recvbuff 0x1 count 18446744073709 datatype 7 op 4096 root 0 comm 0x1 [nranks=2] stream 0x1", "Broadcast #0 18446744073709x7 op 255 root 0 comm 1/2"),
            ("AllReduce: opCount 1f sendbuff 0x7f3a2c000000 recvb", ""),
        ],
        info,
    );
    let line = |op: &str, send: &str, recv: &str| {
        info(&format!(
            "{op}: opCount 0 sendbuff {send} recvbuff {recv} count 1 datatype 7 op 0 root 0 comm 0x1 [nranks=2] stream 0x1"
        ))
    };
    for op in CollOp::ALL {
        let name = format!("{op:?}");
        let said = line(&name, "0x1", "0x1");
        assert!(said.starts_with(&format!("{name} #0 ")), "{said}");
        // A name is told by all of its letters.
        for other in [
            format!("{name}s"),
            format!("x{name}"),
            name.to_lowercase(),
            name.replace('e', "f"),
        ] {
            let said = line(&other, "0x1", "0x1");
            assert!(other == name || said.is_empty(), "{other}: {said}");
        }
    }
    assert!(line("AllToAll", "0x1", "0x1").starts_with("AlltoAll #0 "));
    for (send, recv) in [
        ("0x7f3a2c0434eb", "0x7f3a2c0434ec"),
        ("0x7f3a2c0434eb", "(nil)"),
        ("0x0", "0x7f3a2c0434eb"),
        ("0xff7f3a2c0434eb00", "0x7f3a2c0434eb"),
    ] {
        let said = line("Send", send, recv);
        assert_eq!(said, "Send #0 1x7 op 0 root 0 comm 1/2", "{send} {recv}");
    }
    for (send, recv) in [
        ("0x7f 2c0434eb", "0x7f3a2c0434eb"),
        ("0x7f3a2c0434eb", "0x7f3a2c04 4eb"),
        ("0x7f3a2c0434e\t", "0x7f3a2c0434eb"),
    ] {
        assert_eq!(line("Send", send, recv), "", "{send} {recv}");
    }
}

#[test]
#[rustfmt::skip]
fn warnings_by_what_they_are_about() {
    let rows: &[(&str, &str)] = &[
        ("Bootstrap : no socket interface found", "NoInterface"),
        ("NET/Socket : no interface found", "NoInterface"),
        ("NET/IB : No IP interface found.", "NoInterface"),
        ("NET/Socket : No usable listening interface found", "NoInterface"),
        ("Net : No interface found in the same subnet as remote address 10.1.1.1<2>", "NoInterface"),
        ("no device found matching =eth9, verify NCCL_OOB_NET_IFNAME", "NoInterface"),
        ("Bootstrap Root : mismatch in rank count from procs 8 : 16", "BootstrapMismatch"),
        ("Bootstrap Root : mismatch in info from procs, nranks 8 vs 16, nroots 1 vs 1, iroot 0 vs 0", "BootstrapMismatch"),
        ("Bootstrap Root : rank 3 of 8 ranks has already checked in", "BootstrapMismatch"),
        ("Message truncated : received 64 bytes instead of 32", "BootstrapMismatch"),
        ("Connect to 10.42.1.9<41873> failed : Connection timed out", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"Connection timed out\" }"),
        ("Connect to 10.42.1.23:40112 failed: Connection timed out", "Connect { peer: Some(\"10.42.1.23:40112\"), error: \"Connection timed out\" }"),
        ("Net : Connect to 10.42.1.9<41873> failed : No route to host", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"No route to host\" }"),
        ("socketStartConnect: Connect to 10.42.1.9<41873> failed : Connection timed out", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"Connection timed out\" }"),
        ("socketStartConnect: exceeded retries (20000)", "Connect { peer: None, error: \"exceeded retries (20000)\" }"),
        ("socketPollConnect: exceeded timeouts (3)", "Connect { peer: None, error: \"exceeded timeouts (3)\" }"),
        ("socketPollConnect: Connect to 10.42.1.9<41873> returned -1(Success) errno 111(Connection refused)", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"Connection refused\" }"),
        ("socketStartConnect: connect returned Connection refused, exceeded error retry count (35)", "Connect { peer: None, error: \"Connection refused\" }"),
        ("socketStartConnect: connect to 10.42.1.9<41873> returned Connection refused, exceeded error retry count after 35 attempts", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"Connection refused\" }"),
        ("socketPollConnect to 10.42.1.9<41873> failed with error Connection refused", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"Connection refused\" }"),
        ("ncclOsSocketPollConnect to llm-1.llm<41873> failed with error No route to host", "Connect { peer: Some(\"llm-1.llm<41873>\"), error: \"No route to host\" }"),
        ("ncclOsSocketStartConnect: connect to 10.42.1.9<41873> failed : Network is unreachable", "Connect { peer: Some(\"10.42.1.9<41873>\"), error: \"Network is unreachable\" }"),
        ("socketProgress: Connection closed by remote peer llm-1.llm.prod.svc.cluster.local<38122>", "PeerClosed { peer: Some(\"llm-1.llm.prod.svc.cluster.local<38122>\") }"),
        ("Net : Call to recv from 10.42.1.9<5> failed : Connection reset by peer", "PeerClosed { peer: Some(\"10.42.1.9<5>\") }"),
        ("socketProgressOpt: Call to send to 10.42.1.9<5> failed : Broken pipe", "PeerClosed { peer: Some(\"10.42.1.9<5>\") }"),
        ("ncclOsSocketProgressOpt: Call to recv from 10.42.1.9<5> failed : Broken pipe", "PeerClosed { peer: Some(\"10.42.1.9<5>\") }"),
        ("Error: failed to extend /dev/shm/nccl-4Xk9aQ to 33030532 bytes, error: No space left on device (28)", "Shm { no_space: true }"),
        ("Error: failed to extend /dev/shm/nccl-4Xk9aQ to 33030532 bytes", "Shm { no_space: false }"),
        ("Error while creating shared memory segment /dev/shm/nccl-4Xk9aQ (size 33030528), error: No space left on device (28)", "Shm { no_space: true }"),
        ("Error while attaching to shared memory segment /dev/shm/nccl- (size 33030528), error: No such file or directory (2)", "Shm { no_space: false }"),
        ("Call to posix_fallocate failed : No space left on device", "Shm { no_space: true }"),
        ("Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 3b000", "DuplicateGpu"),
        ("Multiple Ranks are using the same GPU/Partition. Set NCCL_MULTI_RANK_GPU_ENABLE=1 to enable this configuration.", "DuplicateGpu"),
        ("Multiple ranks detected using the same GPU on this node. Set NCCL_MULTI_RANK_GPU_ENABLE=1", "DuplicateGpu"),
        ("Cuda failure 'out of memory'", "Cuda { text: \"out of memory\" }"),
        ("Cuda failure 2 'out of memory'", "Cuda { text: \"out of memory\" }"),
        ("Cuda failure 217 'unhandled: peer mapping resources exhausted'", "PeerMapping"),
        ("failed to peer with device 3(=5e000): 60 peer mapping resources exhausted", "PeerMapping"),
        ("cudaIpcGetMemHandle failed : operation not supported", "Cuda { text: \"operation not supported\" }"),
        ("Failed to CUDA calloc async 8388608 bytes", "Cuda { text: \"Failed to CUDA calloc async 8388608 bytes\" }"),
        ("P2P is disabled between NVLINK connected GPUs 0 and 1. This should not be the case given their connectivity", "P2pDisabled"),
        ("No transport found for rank 0[3b000] -> rank 1[5e000]", "NoTransport"),
        ("Failed to bind NVLink SHARP (NVLS) Multicast memory of size 2097152 : CUDA error 401 'the operation cannot be performed in the present state'.", "NvlsFailed"),
        ("MNNVL is not supported on this system", "Mnnvl"),
        ("MNNVL (cliqueSize 8) is available but not working on this system. Check the IMEX channel configuration (/dev/nvidia-caps-imex-channels). Set NCCL_MNNVL_ENABLE=0 to ignore this issue.", "Mnnvl"),
        ("MNNVL (cliqueSize 8) is available but not supported on this system. Check the IMEX configuration.", "Mnnvl"),
        ("NET/IB : Got completion with error 12, opcode 0, len 0, vendor err 129", "IbCompletion { status: 12, peer: None, hca: None }"),
        ("NET/IB : Got completion from peer 10.42.1.9<48213> with error 5, opcode 1, len 0, vendor err 249", "IbCompletion { status: 5, peer: Some(\"10.42.1.9<48213>\"), hca: None }"),
        ("NET/IB : Got completion from peer 10.42.1.9<48213> with status=12 opcode=0 len=0 vendor err 129 (Send) localGid fe80::a288:c2ff:fe11:2233 remoteGidsfe80::a288:c2ff:fe44:5566", "IbCompletion { status: 12, peer: Some(\"10.42.1.9<48213>\"), hca: None }"),
        ("NET/IB: Got completion from peer 10.42.1.9<48213> with status=12 opcode=0 len=0 vendor err 129 (Recv) localGid ::ffff:192.168.10.4 remoteGids::ffff:192.168.10.9 hca mlx5_0", "IbCompletion { status: 12, peer: Some(\"10.42.1.9<48213>\"), hca: Some(\"mlx5_0\") }"),
        ("NET/IB: Got completion from peer 10.42.1.9<48213> with status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) vendor_err=129  localGid ::ffff:192.168.10.4 remoteGids::ffff:192.168.10.9 hca mlx5_0", "IbCompletion { status: 12, peer: Some(\"10.42.1.9<48213>\"), hca: Some(\"mlx5_0\") }"),
        ("NET/IB : mlx5_1:1 Got non-fatal async event: port error(10)", "IbAsync"),
        ("NET/IB : mlx5_1:1 async fatal event on QP (0x7f): local catastrophic error", "IbAsync"),
        ("Call to ibv_modify_qp failed with 110 Connection timed out, on dev mlx5_0:1, curr state INIT, next state RTR", "IbVerbs"),
        ("Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory", "Memlock"),
        ("NET/IB : Unable to open device mlx5_0", "IbVerbs"),
        ("NET/IB : req 0/1 tag 1 peer 10.42.1.9<5> collective mismatch error, local size 8 remote size 16", "CollectiveMismatch"),
        ("NET/Socket : peer 10.42.1.9<5> message truncated : receiving 128 bytes instead of 64. If you believe your socket network is in healthy state", "CollectiveMismatch"),
        ("Mismatched NCCL version detected : rank 1 version 22706 rank 0 version 22707", "VersionMismatch { a: (1, 22706), b: (0, 22707) }"),
        ("Error: network gIB not found.", "NetworkNotFound"),
        ("Failed to initialize any NET plugin", "NetworkNotFound"),
        ("Failed to find CUDA library libcuda.so", "Library"),
        ("Failed to open libnvidia-ml.so.1: cannot open shared object file", "Library"),
        ("[Proxy Service 3] Failed to execute operation Connect from rank 3, retcode 2", "Other [Proxy Service 3] Failed to execute operation Connect from rank 3, retcode 2"),
        ("socketFinalizeAccept: wrong magic 1 != 2", "Other socketFinalizeAccept: wrong magic 1 != 2"),
    ];
    check(rows, |line| {
        let said = warn("misc/x.cc:7", line);
        said.strip_prefix("misc/x.cc:7 ")
            .unwrap_or(&said)
            .to_owned()
    });
}

/// Section 12 of the reference: shortened lines of write-ups.
#[test]
fn write_ups() {
    let text = "\
node-a:0:0 [0] NCCL INFO Bootstrap: Using eth0:10.42.0.15<0>
node-a:0:0 [0] NCCL INFO Channel 00/02 : 0 1 2 3
node-a:0:0 [0] NCCL INFO Trees [0] 1/-1/-1->0->-1
node-a:0:0 [0] NCCL INFO P2P Chunksize set to 131072
node-a:0:0 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via P2P/CUMEM
node-a:0:1 [1] NCCL INFO Channel 00 : 1[1] -> 0[0] via P2P/CUMEM
node-a:0:0 [0] NCCL INFO Channel 00 : 0[0] -> 2[0] via NET/Socket/0
node-a:0:0 [0] NCCL INFO comm 0x... rank 0 nranks 4 ... - Init COMPLETE
";
    assert_eq!(
        facts(text),
        [
            "bootstrap eth0 10.42.0.15",
            "ring 0/2 [0, 1, 2, 3]",
            "trees 0 0:root^[1]",
            "chunk 131072",
            "c0 0[nvml 0]>1[nvml 1] P2P Cumem",
            "c0 1[nvml 1]>0[nvml 0] P2P Cumem",
            "c0 0[nvml 0]>2[nvml 0] NET Socket:0",
            "InitComplete Unnamed - 0/4 cuda - nvml - bus - id -",
        ]
    );
}

#[test]
fn stamps_of_a_block() {
    let b = block("2025-01-02T03:04:05Z x\nno stamp\n2025-01-02T03:04:07Z (Worker pid=3) y\n");
    let exact = |at: Option<ncclscope::parse::At>| at.map(|at| (at.ns / 1_000_000_000, at.exact));
    assert_eq!(
        (exact(b.first_at), exact(b.last_at)),
        (Some((1_735_787_045, true)), Some((1_735_787_047, true)))
    );
    // Exact stamps count before others.
    let b = block(
        "[2020-01-02 03:04:05] n:1:1 [0] NCCL INFO x\n2025-01-02T03:04:05Z x\n[2030-01-02 03:04:05] n:1:1 [0] NCCL INFO x\n",
    );
    assert_eq!(
        (exact(b.first_at), exact(b.last_at)),
        (Some((1_735_787_045, true)), Some((1_735_787_045, true)))
    );
    // The calendar: leap day, end of year, and what no calendar has.
    for (stamp, seconds) in [
        ("2024-02-29T00:00:00Z", 1_709_164_800),
        ("1999-12-31T23:59:60Z", 946_684_800),
        ("2025-03-01T00:00:00+00:00", 1_740_787_200),
    ] {
        assert_eq!(
            exact(block(format!("{stamp} x")).first_at),
            Some((seconds, true)),
            "{stamp}"
        );
    }
    for stamp in [
        "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T00:60:00Z",
    ] {
        assert_eq!(block(format!("{stamp} x")).first_at, None, "{stamp}");
    }
}

/// A line of many megabytes costs its length, not its square.
#[test]
fn enormous_lines_are_bounded() {
    let unit = "llm-0:211:345 [0] NCCL INFO Connected all rings ";
    let mut line = unit.repeat(40_000);
    line.push_str(&"(".repeat(1_000_000));
    line.push_str(&"[0] NCCL INFO ".repeat(40_000));
    line.push_str(&":1:1".repeat(250_000));
    line.push_str(&"{\"a".repeat(250_000));
    let begin = std::time::Instant::now();
    let b = block(&line);
    assert_eq!(b.recs.len(), 40_000);
    assert_eq!(b.lines, 1);
    assert!(begin.elapsed().as_secs() < 20, "took {:?}", begin.elapsed());
}

#[test]
fn a_line_in_pieces_is_counted_once() {
    let b = Block::new(
        1,
        b"INFO NCCL \rINFO \na:1:1 [0] NCCL INFO x\ra:1:1 [0] NCCL INFO y\n".to_vec(),
    );
    assert_eq!((b.lines, b.vllm_lines, b.nccl_lines), (2, 1, 1));
}

#[test]
fn the_warning_about_nvlink_sharp_keeps_its_other_lines() {
    let lines = [
        "2025-01-02T03:04:05.5Z llm-0:211:345 [0] transport/nvls.cc:200 NCCL WARN Failed to bind NVLink SHARP (NVLS) Multicast memory of size 2097152 : CUDA error 401 'the operation cannot be performed in the present state'.",
        "2025-01-02T03:04:05.6Z This is usually caused by a system or configuration error in the Fabric Manager or NVSwitches.",
        "2025-01-02T03:04:05.7Z Disable NVLS (e.g. by setting NCCL_NVLS_ENABLE=0) to avoid this error.",
        "2025-01-02T03:04:05.8Z llm-0:211:345 [0] NCCL INFO Connected all rings",
    ];
    let block = Block::new(1, lines.join("\n").into_bytes());
    let [warn, next] = block.recs.as_slice() else {
        panic!("{:?}", block.recs)
    };
    let Fact::Warn { text, .. } = &warn.fact else {
        panic!("{:?}", warn.fact)
    };
    assert!(
        text.contains("Fabric Manager") && text.ends_with("to avoid this error."),
        "{text}"
    );
    let shown = &block.text[warn.start as usize..warn.end as usize];
    assert_eq!(shown, lines[..3].join("\n").as_bytes());
    assert_eq!((warn.line, next.line), (0, 3));
}
