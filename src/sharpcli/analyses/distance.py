"""How far weights are from where they started. Needs neither data nor model code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sharpcli import checkpoints
from sharpcli.analyses._account import account
from sharpcli.analyses._opening import describe
from sharpcli.checkpoints import Checkpoint
from sharpcli.errors import InputError
from sharpcli.results import Displacement, DistanceResult, LayerDistance
from sharpcli.runtime import Runtime
from sharpcli.settings import DistanceSettings, chosen


def distance(checkpoint: str | Path, settings: DistanceSettings | None = None, **options: object) -> DistanceResult:
    """Measure ‖w - w₀‖₂ over all parameters, in float64; BatchNorm's statistics are not parameters.

    Args:
        checkpoint: File, or run folder; a run folder also gives its saved steps.
        settings: What to do.
        **options: Its fields, in place of settings, such as `distance("b.pt", init="a.pt")`.

    Returns:
        Distance, relative to ‖w₀‖, and cosine of the angle between w and w₀; per layer if asked for.

    Raises:
        InputError: No initial weights are known, or tensors differ in name or shape.
        NumericalError: The weights are not finite.

    References:
        Hoffer et al., NeurIPS 2017, section 4 (distance over all weights, not one tensor).
    """
    settings = chosen(DistanceSettings, settings, options)
    runtime = Runtime.open(settings.device, settings.dtype)
    with account(settings) as book:
        final = checkpoints.read(checkpoint)
        init = checkpoints.read(settings.init) if settings.init else checkpoints.initial_weights(final)
        whole = displacement(final, init, per_layer=settings.per_layer)
        steps = checkpoints.saved_steps(Path(checkpoint).expanduser(), final)
        return DistanceResult(
            checkpoint=describe(final),
            reference=str(init.path),
            num_parameters=sum(final.state[name].numel() for name in final.parameter_names()),
            distance=whole.distance,
            relative=whole.relative,
            cosine=whole.cosine,
            norm=whole.norm,
            init_norm=whole.init_norm,
            max_change=whole.max_change,
            layers=whole.layers,
            steps=tuple(displacement(step, init) for step in steps),
            **book.entries(runtime),
        )


def displacement(final: Checkpoint, init: Checkpoint, *, per_layer: bool = False) -> Displacement:
    """Return norms and angle between two sets of weights.

    Raises:
        InputError: A parameter is missing from the initial weights or of another shape; the first is named.
        NumericalError: The weights are not finite.
    """
    for checkpoint in (final, init):
        checkpoint.require_finite()
    wanted, given = {name: final.state[name] for name in final.parameter_names()}, init.state
    if not wanted.keys() <= given.keys():
        wanted, given = checkpoints.bare(wanted), checkpoints.bare(given)
    for name, tensor in wanted.items():
        if name not in given or given[name].shape != tensor.shape:
            raise InputError(
                f"{final.path} and {init.path} do not hold the same tensors: '{name}' differs.",
                "Give weights of the same model.",
            )
    pairs = {name: (_flat(tensor), _flat(given[name])) for name, tensor in wanted.items()}
    ends, starts = (torch.cat([pair[side] for pair in pairs.values()]) for side in (0, 1))
    gone, relative, cosine = _compare(ends, starts)
    return Displacement(
        path=str(final.path),
        step=final.metadata.get("step"),
        norm=float(ends.norm()),
        init_norm=float(starts.norm()),
        distance=gone,
        relative=relative,
        cosine=cosine,
        max_change=float((ends - starts).abs().max()),
        layers=tuple(_layer(name, *pair) for name, pair in pairs.items()) if per_layer else (),
    )


def _layer(name: str, end: Tensor, start: Tensor) -> LayerDistance:
    gone, relative, cosine = _compare(end, start)
    return LayerDistance(name=name, size=len(end), norm=float(end.norm()), distance=gone, relative=relative, cosine=cosine)


def _compare(end: Tensor, start: Tensor) -> tuple[float, float | None, float | None]:
    """Return the distance, relative to the start, and the cosine; None where a norm is zero."""
    gone, length, origin = float((end - start).norm()), float(end.norm()), float(start.norm())
    cosine = float(end @ start) / (length * origin) if length and origin else None
    return gone, gone / origin if origin else None, cosine


def _flat(tensor: Tensor) -> Tensor:
    return tensor.double().reshape(-1)
