"""How the samples of an update are divided over several processes; the gradient is that of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from sharpcli import progress
from sharpcli.batchnorm import batch_norms, block_sizes
from sharpcli.processes import SOLO, Processes


@dataclass(frozen=True, eq=False)
class Division:
    """The share of this process in the samples of an update.

    Attributes:
        processes: The processes that share the samples; `SOLO` if each must compute the whole update.
        model: The model in training. The running statistics of its BatchNorm layers follow the order of the blocks.
        whole_blocks: Whether a block must not be divided, because its gradient is not a sum over samples.
    """

    processes: Processes
    model: nn.Module
    whole_blocks: bool

    @staticmethod
    def of(processes: Processes, model: nn.Module, run: Callable[[], object], *, whole_blocks: bool) -> Division:
        """Return how the updates of a model are divided.

        A model that draws random numbers in a pass, as dropout does, or that changes buffers other than running statistics,
        depends on all passes before; then every process computes the whole update, with a warning.

        Args:
            processes: The processes of the run.
            model: The model, in training mode.
            run: Computes the gradient of a few samples.
            whole_blocks: See the attribute.
        """
        if processes.size > 1 and _depends_on_passes(model, run):
            progress.warn(
                "The model draws random numbers or changes its buffers in training, so updates are not divided: each process "
                "computes all of them."
            )
            return Division(SOLO, model, whole_blocks)
        return Division(processes, model, whole_blocks)

    def parts(self, count: int, block: int) -> list[slice]:
        """Return the positions of the blocks of this process among `count` samples; perhaps none."""
        if self.whole_blocks or self.processes.size == 1:
            sizes = block_sizes(count, block)
            low, high = self.processes.bounds(len(sizes))
            first, own = sum(sizes[:low]), sizes[low:high]
        else:
            first, end = self.processes.bounds(count)
            own = block_sizes(end - first, block) if end > first else []
        return [slice(*ends) for ends in pairwise(accumulate(own, initial=first))]

    def statistics(self) -> list[Tensor]:
        """Return copies of the running statistics of BatchNorm before an update; see `summed`."""
        return [] if self.processes.size == 1 else [part.clone() for part in _statistics(self.model)]

    def summed(
        self, loss: Tensor | None, slopes: Sequence[Tensor], parameters: Sequence[Tensor], before: Sequence[Tensor], count: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Return summed loss and gradient over all processes, in float64, and set the running statistics of BatchNorm.

        Args:
            loss: Summed loss of this process, a scalar; None if it has no block.
            slopes: Its gradients, one for each parameter; empty if it has no block.
            parameters: The parameters that are trained.
            before: The result of `statistics` before the first block.
            count: Number of blocks of all processes, if they are whole blocks.
        """
        loss = parameters[0].new_zeros(()) if loss is None else loss
        slopes = slopes or [torch.zeros_like(parameter) for parameter in parameters]
        moved = self._moved(before, count)
        own = [loss, *slopes, *moved]
        state = torch.cat([part.detach().reshape(-1).double() for part in (*parameters, *before)])
        flat = self.processes.sum(torch.cat([part.detach().reshape(-1).double() for part in own]), state)
        pieces = torch.split(flat, [part.numel() for part in own])
        parts = [piece.view(part.shape) for piece, part in zip(pieces, own, strict=True)]
        self._set_statistics(before, parts[1 + len(slopes) :], count)
        return parts[0], parts[1 : 1 + len(slopes)]

    def _moved(self, before: Sequence[Tensor], count: int) -> list[Tensor]:
        """Return what the blocks of this process add to each statistic at the end of the pass.

        A block changes a statistic s to (1 - m) s + m b. So its part in the statistic after all blocks is m b, times 1 - m for
        each block that follows.
        """
        low, high = self.processes.bounds(count)
        parts = []
        for now, old, momentum in zip(_statistics(self.model), before, self._momenta(), strict=True):
            kept = 1 - momentum
            parts.append((now.double() - old.double() * kept ** (high - low)) * kept ** (count - high))
        return parts

    def _set_statistics(self, before: Sequence[Tensor], moved: Sequence[Tensor], count: int) -> None:
        low, high = self.processes.bounds(count)
        for now, old, part, momentum in zip(_statistics(self.model), before, moved, self._momenta(), strict=True):
            now.copy_(old.double() * (1 - momentum) ** count + part)
        for layer in batch_norms(self.model).values():
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked += count - (high - low)

    def _momenta(self) -> list[float]:
        """Return the momentum of each statistic, in the order of `_statistics`."""
        return [layer.momentum or 0.0 for layer in batch_norms(self.model).values() for _ in range(2)]


def _statistics(model: nn.Module) -> list[Tensor]:
    """Return mean and variance of each BatchNorm layer."""
    return [
        part for layer in batch_norms(model).values() for part in (layer.running_mean, layer.running_var) if part is not None
    ]


def _depends_on_passes(model: nn.Module, run: Callable[[], object]) -> bool:
    """Return whether a pass depends on earlier ones in a way that cannot be divided; the model is unchanged afterwards."""
    if any(layer.momentum is None for layer in batch_norms(model).values()):
        return True  # Its average counts the blocks so far.
    state = {name: part.clone() for name, part in model.state_dict().items()}
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = _random_states(device)
        run()
        drawn = any(not torch.equal(one, other) for one, other in zip(before, _random_states(device), strict=True))
    own = {f"{name}.{key}" for name in batch_norms(model) for key in ("running_mean", "running_var", "num_batches_tracked")}
    own |= {key.removeprefix(".") for key in own}
    changed = any(name not in own and not torch.equal(part, state[name]) for name, part in model.state_dict().items())
    model.load_state_dict(state)
    return drawn or changed


def _random_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
