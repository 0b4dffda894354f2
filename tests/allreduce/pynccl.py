"""vLLM's communicator, as the script uses it, over gloo."""
import torch.distributed as d

LAST = []


def again():
    """What a replayed graph does."""
    data, result = LAST
    result.copy_(data)
    d.all_reduce(result)


class PyNcclCommunicator:
    def __init__(self, group, device):
        self.disabled = True

    def all_reduce(self, tensor, stream=None):
        result = tensor.clone()
        d.all_reduce(result)
        LAST[:] = [tensor, result]
        return result
