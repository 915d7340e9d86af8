"""BatchNorm in an analysis: which statistics a layer normalises with, and that no answer depends on the chunk size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpcli.errors import InputError, SettingsError
from sharpcli.inputs import Inputs, as_arguments, copied
from sharpcli.modules import private_copy

POLICIES = ("eval", "recompute", "batch")
BN_BLOCK = 1000  # Samples a block when statistics are recomputed; fixed, so that the chunk size cannot matter.

_BatchNorm = nn.modules.batchnorm._BatchNorm


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorm layers of a model that keep running statistics, by name."""
    return {name: layer for name, layer in _layers(model).items() if layer.track_running_stats}


def check(policy: str, block: int, chunk_size: int | None) -> None:
    """Check the settings of a policy against each other.

    Raises:
        SettingsError: There is no such policy, a block has no variance, or a chunk size would cut the fixed blocks.
    """
    if policy not in POLICIES:
        raise SettingsError(f"There is no BatchNorm policy called '{policy}'.", f"Known: {', '.join(POLICIES)}.")
    if policy == "batch" and chunk_size is not None:
        raise SettingsError(
            "A chunk size clashes with --bn batch, where a chunk is always one of the fixed blocks.",
            "Leave --chunk-size out, or use --bn eval.",
        )
    if policy == "batch" and block < 2:
        raise SettingsError(f"A block of {block} samples has no variance.", "Use blocks of at least 2 samples.")


def prepare(model: nn.Module, policy: str) -> str:
    """Make a model in eval mode follow a policy, in place; return the policy, or "none" for a model without BatchNorm.

    "eval" and "recompute" both normalise with the running statistics that the layers have; "batch" normalises
    with those of the samples at hand, and takes the running ones away so that they can be neither used nor updated.

    Raises:
        InputError: Statistics are asked for that a layer does not keep.
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
    """Let the running statistics of a model in training mode stay what they are inside the block."""
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
    """Return in words what BatchNorm normalises with; `block` is the number of samples in a batch of the policy "batch"."""
    return {
        "none": "none",
        "eval": "eval (stored statistics)",
        "recompute": f"recompute (over the analysed samples, blocks of {BN_BLOCK})",
        "batch": f"batch (fixed blocks of {block} samples)",
    }[policy]


def block_sizes(count: int, block: int) -> list[int]:
    """Cut a number of samples into blocks; one left over joins the block before, since it has no variance of its own."""
    sizes = [block] * (count // block) + [count % block] * (count % block > 0)
    return [*sizes[:-2], sum(sizes[-2:])] if len(sizes) > 1 and sizes[-1] == 1 else sizes


def recompute(
    model: nn.Module, parameters: Mapping[str, Tensor], inputs_of: Callable[[slice], Inputs], count: int
) -> dict[str, Tensor]:
    """Return the running statistics of these inputs at these parameters, by buffer name; the model is left alone.

    One pass in blocks of `BN_BLOCK` samples, averaged by number of samples (Garipov et al. 2018,
    as in stochastic weight averaging). Empty for a model without BatchNorm.

    Args:
        model: In eval mode.
        parameters: In place of the model's own, by name.
        inputs_of: Returns some of the inputs.
        count: N, the number of samples.

    Raises:
        InputError: There is only one sample.
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
    seen = 0
    with torch.no_grad():
        for size in block_sizes(count, BN_BLOCK):
            arguments, keywords = as_arguments(copied(inputs_of(slice(seen, seen + size))))
            seen += size
            for layer in layers.values():
                layer.momentum = size / seen
            functional_call(private, {**parameters, **buffers}, arguments, keywords)
    return buffers


def _layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)}
