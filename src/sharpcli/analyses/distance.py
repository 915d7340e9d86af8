"""How far weights are from where they started. Needs neither data nor model code."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpcli import checkpoints, progress
from sharpcli.analyses._account import account
from sharpcli.analyses._growth import growth
from sharpcli.analyses._opening import describe
from sharpcli.checkpoints import Checkpoint
from sharpcli.errors import InputError
from sharpcli.results import Displacement, DistanceResult, Growth, LayerDistance, Way
from sharpcli.runtime import Runtime
from sharpcli.settings import DistanceSettings, chosen


def distance(checkpoint: str | Path, settings: DistanceSettings | None = None, **options: object) -> DistanceResult:
    """Measure ‖w - w₀‖₂ over all parameters, in float64; BatchNorm's statistics are not parameters.

    Of a run folder it also tells the length of the way through the saved steps, and whether distances grow as log t
    or as a power of t: by distances.jsonl where training has written it, else by the saved steps.

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
        place = Path(checkpoint).expanduser()
        steps = checkpoints.saved_steps(place, final)
        along = tuple(displacement(step, init) for step in steps)
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
            steps=along,
            way=_way(init, steps),
            growth=_growth(final, _lines(place, along, settings), settings),
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
    if not any(tensor.numel() for tensor in wanted.values()):
        raise InputError(f"{final.path} holds no parameters.", "Give a file with floating-point weights.")
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
        layers=tuple(_layer(name, *pair, wanted[name].shape) for name, pair in pairs.items()) if per_layer else (),
    )


def _growth(final: Checkpoint, lines: list[dict[str, Any]], settings: DistanceSettings) -> Growth | None:
    """Fit both forms, and say so where the rate changed meanwhile: the claim is about the phase of one high rate."""
    found = growth(lines, settings.fit_from, settings.fit_to)
    schedule = final.metadata.get("recipe", {}).get("schedule")
    if found is None and (settings.fit_from > 1 or settings.fit_to is not None):
        progress.warn("There are too few distances between --fit-from and --fit-to for a fit.")
    if found is None or schedule in (None, "constant") or settings.fit_to is not None:
        return found
    caution = (
        f" The learning rate changed meanwhile ({schedule}): Hoffer's claim is about the phase of one high rate, see --fit-to."
    )
    return replace(found, sentence=found.sentence + caution)


def _way(init: Checkpoint, steps: list[Checkpoint]) -> Way | None:
    """Measure the way from the start through the saved steps."""
    if not steps:
        return None
    names = steps[0].parameter_names()
    states = [init.state, *({name: step.state[name] for name in names} for step in steps)]
    if not set(names) <= init.state.keys():  # Prefixes of wrappers, as in `displacement`.
        states = [checkpoints.bare(state) for state in states]
        names = list(states[1])
    places = [torch.cat([_flat(state[name]) for name in names]) for state in states]
    stretches = [after - before for before, after in itertools.pairwise(places)]
    lengths = [float(stretch.norm()) for stretch in stretches]
    gone = float((places[-1] - places[0]).norm())
    return Way(
        length=sum(lengths),
        displacement=gone,
        straightness=gone / sum(lengths) if sum(lengths) else None,
        stretches=tuple(lengths),
        turns=tuple(_compare(after, before)[2] for before, after in itertools.pairwise(stretches)),
    )


def _lines(place: Path, steps: tuple[Displacement, ...], settings: DistanceSettings) -> list[dict[str, Any]]:
    """Return distances by update: those that training wrote down, from its own start, else those of the saved steps."""
    written = place / "distances.jsonl"
    if place.is_dir() and written.is_file() and not settings.init:
        try:
            lines = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
            return [{key: float(line[key]) for key in ("step", "distance")} for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{written} is damaged.", "Remove it; the saved steps are used then.") from error
    return [{"step": one.step, "distance": one.distance} for one in steps if one.step]


def _layer(name: str, end: Tensor, start: Tensor, shape: torch.Size) -> LayerDistance:
    gone, relative, cosine = _compare(end, start)
    about: dict[str, Any] = {}
    if len(shape) > 1 and shape[0]:
        moved, lengths = ((part.view(shape[0], -1)).norm(dim=1) for part in (end - start, start))
        ratios = (moved / lengths)[lengths > 0]
        if len(ratios):
            about = {"filter_relative_mean": float(ratios.mean()), "filter_relative_max": float(ratios.max())}
        about["filters"] = shape[0]
    return LayerDistance(
        name=name, size=len(end), norm=float(end.norm()), distance=gone, relative=relative, cosine=cosine, **about
    )


def _compare(end: Tensor, start: Tensor) -> tuple[float, float | None, float | None]:
    """Return the distance, relative to the start, and the cosine; None where a norm is zero."""
    gone, length, origin = float((end - start).norm()), float(end.norm()), float(start.norm())
    cosine = float(end @ start) / (length * origin) if length and origin else None
    return gone, gone / origin if origin else None, cosine


def _flat(tensor: Tensor) -> Tensor:
    return tensor.double().reshape(-1)
