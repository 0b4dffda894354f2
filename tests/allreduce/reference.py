"""What torch itself measures, without any of our code: all-reduce by CUDA events, a row of `bytes seconds` for each size."""
import os
import sys

import torch
import torch.distributed as d

torch.cuda.set_device(0)
d.init_process_group("nccl", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
for size in map(int, sys.argv[1:]):
    data = torch.ones(size // 4, device="cuda")
    for _ in range(5):
        d.all_reduce(data)
    torch.cuda.synchronize()
    d.barrier()
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for _ in range(20):
        d.all_reduce(data)
    last.record()
    torch.cuda.synchronize()
    if d.get_rank() == 0:
        print(size, first.elapsed_time(last) / 20 / 1e3, flush=True)
os._exit(0)
