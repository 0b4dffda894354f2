"""GPUs that are none, for a torch without CUDA: what the script does on GPUs runs on CPU tensors, over gloo.

Put into PYTHONPATH as sitecustomize.py. STANDIN says what goes wrong on rank 1 in the group that stands for NCCL: `hang`,
`error`, or nothing.
"""
import contextlib
import os
import time

if os.environ.get("NCCLSCOPE_LOCAL_RANK"):
    import torch
    import torch.distributed as d

    real = torch.device

    class Kind(type):
        def __instancecheck__(cls, x):
            return isinstance(x, real)

        def __call__(cls, *words, **more):
            return real("cpu") if words and str(words[0]).startswith("cuda") else real(*words, **more)

    class Device(metaclass=Kind):
        pass

    class Properties:
        name = "Stand-in"
        uuid = "GPU-0"

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, _):
            pass

        def synchronize(self):
            pass

    class Graph:
        def replay(self):
            from vllm.distributed.device_communicators import pynccl

            pynccl.again()

    cuda = torch.cuda
    torch.device = Device
    cuda.is_available = lambda: True
    cuda.device_count = lambda: 2
    cuda.set_device = lambda *_: None
    cuda.get_device_properties = lambda *_: Properties
    cuda.mem_get_info = lambda *_: (1 << 22, 1 << 23)
    cuda.synchronize = lambda *_: None
    cuda.empty_cache = lambda: None
    cuda.nccl.version = lambda: (2, 27, 7)
    cuda.Stream = Stream
    cuda.default_stream = cuda.current_stream = lambda *_: Stream()
    cuda.stream = lambda *_: contextlib.nullcontext()
    cuda.CUDAGraph = Graph
    cuda.graph = lambda *_, **__: contextlib.nullcontext()

    group = d.new_group
    reduce = d.all_reduce

    def new_group(*words, **more):
        return group(*words, **dict(more, backend="gloo"))

    def all_reduce(tensor, *words, **more):
        if more.get("group") is not None and os.environ["NCCLSCOPE_LOCAL_RANK"] == "1":
            if os.environ.get("STANDIN") == "hang":
                time.sleep(600)
            if os.environ.get("STANDIN") == "error":
                raise RuntimeError(
                    "NCCL error in: /torch/csrc/NCCLUtils.cpp:77, unhandled system error\nLast error:\nsocketStartConnect: Connect failed"
                )
        # gloo of old versions has no bfloat16.
        wide = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
        reduce(wide, *words, **more)
        if wide is not tensor:
            tensor.copy_(wide)

    d.new_group, d.all_reduce = new_group, all_reduce
