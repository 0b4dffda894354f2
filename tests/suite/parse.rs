//! NCCL lines in, facts out: lines composed from the reference, one table per subject.

use ncclscope::parse::Block;
use ncclscope::parse::fact::*;

fn block(text: &str) -> Block {
    Block::new(1, text.as_bytes().to_vec())
}

#[test]
fn every_kind_of_line_at_once() {
    let b = block(concat!(
        "2025-01-02T03:04:05.123456789Z llm-0:211:345 [0] NCCL INFO Channel 00/0 : 7[7] -> 8[0] [send] via NET/IB/2/GDRDMA\n",
        "llm-0:211:345 [0] NCCL INFO Channel 00/02 :    0   1   2   3\n",
        "(EngineCore_DP0 pid=271) (RayWorkerWrapper pid=512, ip=10.42.1.9) llm-1:512:900 [0] NCCL INFO Trees [0] 1/-1/-1->0->-1 [1] -1/-1/-1->0->3\n",
        "[2025-03-04 05:06:07] llm-0:211:345 [0] misc/socket.cc:812 NCCL WARN socketPollConnect to 10.42.1.9<41873> failed with error Connection refused\n",
        "node-a:10:20node-a:11:21 [1] NCCL INFO Connected all rings\n",
        "node-a:11:21 [1] NCCL INFO Connected all treesnode-a:12:21 [1] NCCL INFO Channel 00/0 : 7[7] -> 8[0] [send] via NET/IB/2/GDRDMAnode-a:12:22 [1] NCCL INFO Connected all rings\n",
        "llm-0:211:345 [0] NCCL INFO ncclCommSplit comm 0x558b7700 rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 3b000 parent 0x558a1c20 splitCount 1 color 77 key 0- Init START\n",
        "NCCL version 2.21.5+cuda12.4\n",
        "node-a:0:0 [0] include/socket.h:410 NCCL WARN Connect to\n     10.42.1.23:40112 failed: Connection timed out\n",
        "{\"log\":\"llm-0:211:345 [0] NCCL INFO Connected all rings\\n\",\"stream\":\"stdout\",\"time\":\"2025-01-02T03:04:05.5Z\"}\n",
        "\u{1b}[36m(RayWorkerWrapper pid=512, ip=10.42.1.9)\u{1b}[0m llm-1:512:900 [0] NCCL INFO Connected all rings\n",
    ));
    assert_eq!(b.lines, 12);
    assert_eq!(b.recs.len(), 13);
    assert!(b.recs.iter().any(|r| matches!(r.fact, Fact::Channel(_))));
}
