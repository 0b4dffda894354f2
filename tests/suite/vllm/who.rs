//! Who prints a line in which version: the table of `vllm.md` 1.6, row by row.

use ncclscope::parse::vllm::{Printer, release};

use super::read;
use Printer::{Anyone, Engine, EveryRank, FirstOfNode, GlobalFirst};

/// The eras by their first and last release.
const ERAS: [[&str; 2]; 3] = [
    ["0.5.4", "0.11.0"],
    ["0.11.1", "0.18.1"],
    ["0.19.0", "0.29.0"],
];

#[test]
fn every_row_of_the_table() {
    let each = [EveryRank, FirstOfNode, FirstOfNode];
    for (line, by_era, unknown) in [
        // S20 is DEBUG, and thus mostly absent, in the first era.
        (
            "INFO 05-03 11:20:07 [parallel_state.py:1400] world_size=16 rank=9 local_rank=1 distributed_init_method=tcp://10.42.3.7:29501 backend=nccl",
            [Anyone, EveryRank, EveryRank],
            Anyone,
        ),
        (
            "INFO 05-03 11:20:12 [pynccl.py:111] vLLM is using nccl==2.27.5",
            each,
            FirstOfNode,
        ),
        (
            "INFO 04-20 10:00:07 [parallel_state.py:1713] rank 0 in world size 8 is assigned as DP rank 0, PP rank 0, TP rank 0",
            [EveryRank, EveryRank, FirstOfNode],
            FirstOfNode,
        ),
        (
            "INFO 11-20 08:05:12 [gpu_model_runner.py:3259] Starting to load model /models/q...",
            [EveryRank, GlobalFirst, GlobalFirst],
            GlobalFirst,
        ),
        (
            "INFO 11-20 08:09:40 [default_loader.py:314] Loading weights took 262.91 seconds",
            each,
            FirstOfNode,
        ),
        (
            "INFO 11-20 08:09:48 [gpu_model_runner.py:3338] Model loading took 17.04 GiB memory and 271.402188 seconds",
            each,
            FirstOfNode,
        ),
        (
            "INFO 11-20 08:11:10 [gpu_worker.py:359] Available KV cache memory: 47.31 GiB",
            each,
            FirstOfNode,
        ),
        (
            "INFO 11-20 08:11:31 [gpu_model_runner.py:4244] Graph capturing finished in 19 secs, took 0.84 GiB",
            each,
            FirstOfNode,
        ),
        (
            "INFO 11-20 08:11:02 [monitor.py:34] torch.compile takes 42.10 s in total",
            each,
            FirstOfNode,
        ),
        (
            "INFO 11-20 08:11:11 [kv_cache_utils.py:1229] GPU KV cache size: 310,112 tokens",
            [Engine; 3],
            Engine,
        ),
        (
            "INFO 11-20 08:11:33 [core.py:210] init engine (profile, create kv cache, warmup model) took 104.71 seconds",
            [Engine; 3],
            Engine,
        ),
        // One bar for the weights, whatever the version.
        (
            "Loading safetensors checkpoint shards:  10% Completed | 6/59 [00:12<01:30,  1.71s/it]",
            [GlobalFirst; 3],
            GlobalFirst,
        ),
    ] {
        let fact = read(line).unwrap_or_else(|| panic!("nothing in {line}"));
        for (era, want) in ERAS.iter().zip(by_era) {
            for version in era {
                assert_eq!(fact.printer(release(version)), want, "{version}: {line}");
            }
        }
        // Where nobody knows the version, silence accuses nobody.
        assert_eq!(fact.printer(None), unknown, "{line}");
    }
}
