"""How memory is divided: every part of a command that takes much of it asks here.

The memory is what is free on the device when a part begins, or the limit that the user sets with `--memory`:

| part | of free memory | of a limit |
|---|---|---|
| Lanczos vectors | 40 % | what they need, at most all |
| graphs kept from product to product | 30 % | half of the rest, or a sixteenth of all |
| the graph in the making | no bound: fewer samples pass at once if it fails | the other half |
| data that stay on the device | a quarter, else they are read chunk by chunk | the same |
| samples of one pass | 256 MiB on a CPU, a sixteenth on a GPU | the same |

From 2.5 GiB of free memory on, the parts together leave a fifth of it: for the model, temporary tensors of torch, and other
programs. With a limit, graphs get an eighth of it also where vectors take all; XTrace holds some 100 vectors beside the plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sharpcli.host_memory import available_memory

_VECTORS = 0.4
_DATA = 0.25
_KEPT_GRAPHS = 0.3
_LEAST_FOR_GRAPHS = 1 / 8  # Of a limit, whatever the vectors take.
_KEPT_OF_GRAPHS = 1 / 2
_PASS_BYTES, _PASS_SAMPLES = 2**28, 1000  # On a CPU: more is no faster.
_GPU_PASS, _GPU_PASS_SAMPLES = 1 / 16, 2**16  # A few samples leave a GPU idle.


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device now; for a CPU, what the system and its container can give."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached  # Torch reuses its cache before it asks for more.
    return available_memory()


@dataclass(frozen=True)
class MemoryPlan:
    """The bytes that each part may take.

    Attributes:
        device: Where the memory is.
        limit: Bytes of `--memory`; None for shares of what is free.
    """

    device: torch.device
    limit: int | None = None

    def holds_data(self, needed: int) -> bool:
        """Return whether data of so many bytes may stay on the device."""
        return needed <= _DATA * free_memory(self.device)

    def vectors(self, needed: int) -> int:
        """Return the bytes for Lanczos vectors, which need so many if nothing makes them restart."""
        return int(_VECTORS * free_memory(self.device)) if self.limit is None else min(self.limit, needed)

    def graphs(self, vectors: int) -> int | None:
        """Return the bytes for all graphs beside vectors that need so many; None without a limit."""
        if self.limit is None:
            return None
        return max(self.limit - self.vectors(vectors), int(_LEAST_FOR_GRAPHS * self.limit))

    def kept_graphs(self, graphs: int | None = None) -> int:
        """Return the bytes for graphs that are kept, of those for all graphs, or of what is free."""
        return int(_KEPT_GRAPHS * free_memory(self.device)) if graphs is None else int(_KEPT_OF_GRAPHS * graphs)

    def samples_per_pass(self, saved: int) -> int:
        """Return how many samples pass at once, if each saves so many bytes for the backward pass; at least one."""
        most, memory = _PASS_SAMPLES, float(_PASS_BYTES)
        if self.device.type == "cuda":
            most, memory = _GPU_PASS_SAMPLES, max(memory, _GPU_PASS * free_memory(self.device))
        return max(1, min(most, int(memory / max(saved, 1))))
