"""The division of memory: every part of a command that takes much memory gets its size from this module.

The sizes are shares of the memory that is free on the device when a part begins, or of the limit that the user sets with
`--memory`:

| part | without a limit, of the free memory | with a limit |
|---|---|---|
| Lanczos vectors | 40 % | what they need, at most the limit |
| graphs that are stored for all products | 30 % | half of the rest, at least 1/16 of the limit |
| the graph of the current chunk | no bound: if memory runs out, a pass gets fewer samples | the other half, at least 1/16 |
| data that stay on the device | 25 %; larger data are moved chunk by chunk | as without a limit |
| activations of one pass, on a CPU | 256 MiB, at most 1000 samples | as without a limit |
| activations of one pass, on a GPU | 1/16, at least 256 MiB, at most 65536 samples | as without a limit |

If 2.5 GiB or more are free, vectors, stored graphs and one pass together leave 20 % for the model, temporary tensors of
torch, and other programs. XTrace holds about 100 vectors that are not counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sharpcli.host_memory import available_memory

_VECTORS = 0.4
_DATA = 0.25
_KEPT_GRAPHS = 0.3
_LEAST_FOR_GRAPHS = 1 / 8  # Of a limit, also if the vectors need all of it.
_KEPT_OF_GRAPHS = 1 / 2
_PASS_BYTES, _PASS_SAMPLES = 2**28, 1000  # On a CPU, larger passes are not faster.
_GPU_PASS, _GPU_PASS_SAMPLES = 1 / 16, 2**16  # Few samples do not keep a GPU busy.


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device now; for a CPU, see `host_memory.available_memory`."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached  # Torch reuses its cache before it allocates more.
    return available_memory()


@dataclass(frozen=True)
class MemoryPlan:
    """The number of bytes that each part may take.

    Attributes:
        device: The device of the memory.
        limit: The limit of `--memory` in bytes; None for shares of the free memory.
    """

    device: torch.device
    limit: int | None = None

    def holds_data(self, needed: int) -> bool:
        """Return whether data of `needed` bytes may stay on the device."""
        return needed <= _DATA * free_memory(self.device)

    def vectors(self, needed: int) -> int:
        """Return the bytes for Lanczos vectors; without restarts they take `needed` bytes."""
        return int(_VECTORS * free_memory(self.device)) if self.limit is None else min(self.limit, needed)

    def graphs(self, vectors: int) -> int | None:
        """Return the bytes for all graphs if vectors need `vectors` bytes; None without a limit."""
        if self.limit is None:
            return None
        return max(self.limit - self.vectors(vectors), int(_LEAST_FOR_GRAPHS * self.limit))

    def kept_graphs(self, graphs: int | None = None) -> int:
        """Return the bytes for stored graphs: a part of `graphs`, the bytes for all graphs, or of the free memory if None."""
        return int(_KEPT_GRAPHS * free_memory(self.device)) if graphs is None else int(_KEPT_OF_GRAPHS * graphs)

    def samples_per_pass(self, saved: int) -> int:
        """Return the number of samples per pass, at least one; each sample saves `saved` bytes for the backward pass."""
        most, memory = _PASS_SAMPLES, float(_PASS_BYTES)
        if self.device.type == "cuda":
            most, memory = _GPU_PASS_SAMPLES, max(memory, _GPU_PASS * free_memory(self.device))
        return max(1, min(most, int(memory / max(saved, 1))))
