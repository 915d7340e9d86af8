"""The global random generators of torch, NumPy and Python: their states, compared and restored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import torch


@dataclass(frozen=True)
class RandomStates:
    """The states of the global random generators of torch, NumPy and Python; equal states draw equal numbers."""

    of_torch: list[int]
    of_devices: list[list[int]]
    of_numpy: Any
    of_python: Any

    @staticmethod
    def now() -> RandomStates:
        """Return the current states; a CUDA device has one only if it is in use."""
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        devices = torch.cuda.get_rng_state_all() if in_use else []
        kind, keys, *position = numpy.random.get_state()
        return RandomStates(
            torch.get_rng_state().tolist(),
            [state.tolist() for state in devices],
            (kind, tuple(keys), *position),
            random.getstate(),
        )

    def restore(self) -> None:
        """Set the generators to these states."""
        torch.set_rng_state(torch.tensor(self.of_torch, dtype=torch.uint8))
        if self.of_devices:
            torch.cuda.set_rng_state_all([torch.tensor(state, dtype=torch.uint8) for state in self.of_devices])
        kind, keys, *position = self.of_numpy
        numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), *position))
        random.setstate(self.of_python)


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restore all random states after the block.

    A DataLoader, for example, draws a number of torch at the start of each pass, so without this an analysis of a model in
    memory would change the training that goes on after it.
    """
    states = RandomStates.now()
    try:
        yield
    finally:
        states.restore()
