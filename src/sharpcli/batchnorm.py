"""BatchNorm in an analysis: the statistics that a layer normalises with; no result depends on the chunk size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpcli.errors import InputError, SettingsError
from sharpcli.inputs import Inputs, as_arguments, copied
from sharpcli.modules import private_copy
from sharpcli.processes import SOLO, Processes

POLICIES = ("eval", "recompute", "batch")
BN_BLOCK = 1000  # Samples per block when statistics are recomputed; fixed, so that the chunk size has no effect.

_BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorm layers of a model that have running statistics, by name."""
    return {name: layer for name, layer in _layers(model).items() if layer.track_running_stats}


def check(policy: str, block: int, chunk_size: int | None) -> None:
    """Check the settings of a policy against each other.

    Raises:
        SettingsError: There is no such policy, or, with "batch", a block has fewer than 2 samples or a chunk size is given.
    """
    if policy not in POLICIES:
        raise SettingsError(f"There is no BatchNorm policy called '{policy}'.", f"Known: {', '.join(POLICIES)}.")
    if policy == "batch" and chunk_size is not None:
        raise SettingsError(
            "--chunk-size cannot be combined with --bn batch, because each chunk is one of its fixed blocks.",
            "Leave --chunk-size out, or use --bn eval.",
        )
    if policy == "batch" and block < 2:
        raise SettingsError(f"A block of {block} samples has no variance.", "Use blocks of at least 2 samples.")


def prepare(model: nn.Module, policy: str) -> str:
    """Make a model in eval mode follow a policy, in place; return the policy, or "none" for a model without BatchNorm.

    With "eval" and "recompute", layers normalise with their running statistics. With "batch", they normalise with the
    statistics of the current samples; the running statistics are removed, so that they are neither used nor updated.

    Raises:
        InputError: The policy needs running statistics that a layer does not have.
    """
    layers = _layers(model)
    if not layers:
        return "none"
    for name, layer in layers.items():
        if policy == "batch":
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
            layer.track_running_stats = False
        elif not layer.track_running_stats or layer.running_mean is None:
            raise InputError(
                f"The BatchNorm layer '{name}' keeps no running statistics, so each loss would depend on the batch it is in.",
                "Use --bn batch, which fixes the batches, or build the model with track_running_stats=True or with GroupNorm.",
            )
    return policy


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of a model in training mode unchanged by the forward passes inside the block."""
    layers = list(batch_norms(model).values())
    momenta = [layer.momentum for layer in layers]
    counts = [None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone() for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum, count in zip(layers, momenta, counts, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked is not None and count is not None:
                layer.num_batches_tracked.copy_(count)


def describe(policy: str, block: int) -> str:
    """Return a description of the statistics of a policy; `block` is the number of samples per block of the policy "batch"."""
    return {
        "none": "none",
        "eval": "eval (stored statistics)",
        "recompute": f"recompute (over the analysed samples, blocks of {BN_BLOCK})",
        "batch": f"batch (fixed blocks of {block} samples)",
    }[policy]


def block_sizes(count: int, block: int) -> list[int]:
    """Return the sizes of blocks of `count` samples; a single last sample, which has no variance, joins the block before it."""
    sizes = [block] * (count // block) + [count % block] * (count % block > 0)
    return [*sizes[:-2], sum(sizes[-2:])] if len(sizes) > 1 and sizes[-1] == 1 else sizes


def recompute(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs_of: Callable[[slice], Inputs],
    count: int,
    processes: Processes = SOLO,
) -> dict[str, Tensor]:
    """Return the BatchNorm statistics of given inputs at given parameters, by buffer name; the model is not changed.

    They are computed in one pass over blocks of `BN_BLOCK` samples, and are the mean over blocks, weighted by the number of
    samples (as for stochastic weight averaging). Empty for a model without BatchNorm.

    Args:
        model: The model, in eval mode.
        parameters: Parameters to use instead of those of the model, by name.
        inputs_of: Returns the inputs of a slice of the samples.
        count: N, the number of samples.
        processes: The processes that share the blocks.

    Raises:
        InputError: There are fewer than two samples.

    References:
        Garipov et al., Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, NeurIPS 2018.
    """
    private = private_copy(model)
    layers = batch_norms(private)
    if not layers:
        return {}
    for layer in layers.values():
        layer.reset_running_stats()
        layer.train()
    names = {f"{name}.{key}" if name else key for name in layers for key in ("running_mean", "running_var")}
    buffers = {name: buffer.clone() for name, buffer in private.named_buffers() if name in names}
    if count < 2:
        raise InputError("One sample has no variance for BatchNorm to normalise by.", "Use more samples, or --bn eval.")
    sizes = block_sizes(count, BN_BLOCK)
    low, high = processes.bounds(len(sizes))
    start, seen = sum(sizes[:low]), 0
    with torch.no_grad():
        for size in sizes[low:high]:
            arguments, keywords = as_arguments(copied(inputs_of(slice(start + seen, start + seen + size))))
            seen += size
            for layer in layers.values():
                layer.momentum = size / seen
            functional_call(private, {**parameters, **buffers}, arguments, keywords)
    return buffers if processes.size == 1 else _mean_of(buffers, seen / count, parameters, processes)


def _mean_of(
    buffers: Mapping[str, Tensor], weight: float, parameters: Mapping[str, Tensor], processes: Processes
) -> dict[str, Tensor]:
    """Return the mean of statistics over all processes, each with its weight."""
    own = torch.cat([buffer.flatten() for buffer in buffers.values()])
    of = torch.cat([part.detach().flatten() for part in parameters.values()])
    mean = processes.sum(own.double() * weight, of).to(own.dtype)
    parts = torch.split(mean, [buffer.numel() for buffer in buffers.values()])
    return {name: part.view_as(buffers[name]) for name, part in zip(buffers, parts, strict=True)}


def _layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)}
