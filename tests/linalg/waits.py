"""Counts the moments at which a program on a GPU would have to wait for it."""

from torch import Tensor
from torch.overrides import TorchFunctionMode

_READS = {Tensor.cpu, Tensor.item, Tensor.tolist, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.__index__}


class Waits(TorchFunctionMode):
    """Counts what copies numbers to the host."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += function in _READS
        return function(*args, **(kwargs or {}))
