"""Weights in memory, their hash, and how they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpcli import files
from sharpcli.checkpoints._optimizer import OptimizerState

FORMAT_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)


LIVE = "a model in memory"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and what is known about them.

    Attributes:
        path: File they came from.
        state: Tensors by name, parameters and buffers, on the CPU.
        metadata: Model, data, loss, plan, recipe, step, initial weights and losses of a run; {} for a foreign file.
        container: The kind of the file, in words; `LIVE` for weights in memory.
        weights: The key of the weights in the file; None if they have no key.
        chosen: Whether this key was requested because the file holds several sets of weights.
        left_out: Names of the entries of the file that are not used.
        optimizer_of: Returns the state of the optimizer at these weights, None if there is none. Of a folder that several
            processes have written, the state is read when it is needed.
    """

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    container: str = "sharpcli checkpoint"
    weights: str | None = None
    chosen: bool = False
    left_out: tuple[str, ...] = ()
    optimizer_of: Callable[[], OptimizerState | None] = lambda: None

    @property
    def optimizer(self) -> OptimizerState | None:
        """The state of the optimizer at these weights; None if there is none."""
        return self.optimizer_of()

    @property
    def address(self) -> str:
        """The file, with ::KEY if it holds several sets of weights."""
        return f"{self.path}::{self.weights}" if self.chosen else str(self.path)

    def sha256(self) -> str:
        """Return the hash of names, shapes and values of all tensors; the container does not matter."""
        return state_sha256(self.state)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return the hash of names, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any], optimizer: OptimizerState | None = None
) -> None:
    """Write a checkpoint completely or not at all, also in a power failure; equal contents give equal bytes.

    Args:
        path: The file.
        state: Parameters and buffers by name.
        metadata: See `Metadata`.
        optimizer: The state of the optimizer at these weights, or None.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    content: dict[str, Any] = {
        "format": "sharpcli",
        "format_version": FORMAT_VERSION,
        "state_dict": tensors,
        "metadata": dict(metadata),
    }
    if optimizer is not None:
        content["optimizer"] = dict(optimizer.content())
    files.write_object(path, content, durable=True)
