"""The distance of weights from their initial values. A model is only needed if a file does not record its parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from sharpcli import checkpoints, files, progress
from sharpcli.analyses.distance.growth import growth
from sharpcli.analyses.provenance import recording
from sharpcli.checkpoints import Checkpoint, Parts
from sharpcli.errors import InputError
from sharpcli.files import Range
from sharpcli.loading import LiveModel, Place, live_or_file, named_model, subject_of, weights_in_memory
from sharpcli.results import Displacement, DistanceResult, Growth, LayerDistance, Trajectory
from sharpcli.runtime import Runtime
from sharpcli.settings import DistanceSettings, chosen
from sharpcli.settings.options import DistanceOptions


class _Line(TypedDict):
    """The fields of a line of distances.jsonl that are used here."""

    step: Annotated[int, Range(0)]
    distance: Annotated[float, Range(0)]


def distance(
    checkpoint: str | Path | nn.Module,
    init: str | Path | nn.Module | Mapping[str, Tensor] | None = None,
    *,
    settings: DistanceSettings | None = None,
    **options: Unpack[DistanceOptions],
) -> DistanceResult:
    """Measure ‖w - w₀‖₂ over all parameters, in float64; a tied tensor counts once, buffers do not count.

    For a run folder, the result also contains the length of the trajectory through the saved steps, and says whether the
    distances grow as log t or as a power of t, where t is the number of updates. The distances are read from distances.jsonl
    if this file exists and the settings name no initial weights; otherwise they are computed from the saved steps.

    Args:
        checkpoint: File, run folder, or a model in memory; a run folder also gives its saved steps.
        init: Initial weights: a file, a model, or a state dict. Default: the initial weights that the file records.
        settings: Settings of the measurement.
        **options: Fields of the settings, instead of `settings`, such as `distance("b.pt", "a.pt", per_layer=True)`.

    Returns:
        Distance, distance relative to ‖w₀‖, and cosine of the angle between w and w₀; on request also for each tensor.

    Raises:
        InputError: A file is missing or damaged, no initial weights are known, or tensors differ in name or shape.
        NumericalError: The weights are not finite.
        SettingsError: An option is unknown, or `init` is a mapping with a value that is not a tensor.

    References:
        Hoffer et al., NeurIPS 2017, section 4 (distance over all weights, not one tensor).
    """
    named: dict[str, object] = {**options}
    if isinstance(init, str | Path):
        named["init"], init = str(init), None
    place, given = live_or_file(checkpoint, None, named, needs_data=False)
    settings = chosen(DistanceSettings, settings, given)
    runtime = Runtime.open(settings.device, settings.dtype)
    with recording(settings) as record:
        steps, model = list[Checkpoint](), None
        if isinstance(place, LiveModel):
            final, model = place.checkpoint(), place.copy()
        else:
            final = checkpoints.read(place, settings.weights, ignore=settings.ignore_keys, allow_pickle=settings.allow_pickle)
            model = named_model(final, settings)
            steps = checkpoints.saved_steps(files.expanded(place), final)
        initial = (
            reference(final, settings.init, settings.ignore_keys, settings.allow_pickle)
            if init is None
            else weights_in_memory(init)
        )
        ends, start, *between = _parameters([final, initial, *steps], model)
        whole = _displacement(final, ends, start, per_layer=settings.per_layer)
        along = tuple(_displacement(step, at_step, start) for step, at_step in zip(steps, between, strict=True))
        return DistanceResult(
            checkpoint=subject_of(final),
            reference=initial.address,
            num_parameters=ends.num_parameters,
            known_by=ends.known_by,
            ties=ends.ties,
            buffers=ends.buffers,
            distance=whole.distance,
            relative=whole.relative,
            cosine=whole.cosine,
            norm=whole.norm,
            init_norm=whole.init_norm,
            max_change=whole.max_change,
            layers=whole.layers,
            steps=along,
            trajectory=_trajectory([start, *between]),
            growth=_growth(final, _lines(place, along, settings), settings),
            **record.fields(runtime),
        )


def reference(checkpoint: Checkpoint, init: str | None, ignore: tuple[str, ...] = (), allow_pickle: bool = False) -> Checkpoint:
    """Return the weights to measure from: the named weights, else the initial weights of the checkpoint's run.

    Raises:
        InputError: There are no such weights.
    """
    if init:
        return checkpoints.read(init, preferred=checkpoint.weights, ignore=ignore, allow_pickle=allow_pickle)
    return checkpoints.initial_weights(checkpoint)


def displacement(final: Checkpoint, init: Checkpoint, *, model: nn.Module | None = None) -> Displacement:
    """Return norms and angle between the parameters of two sets of weights.

    Args:
        final: The final weights.
        init: The initial weights.
        model: A model that identifies the parameters among the tensors; None to identify them by the record or by names.

    Raises:
        InputError: A parameter is missing in the initial weights or has another shape there; the message names the first.
        NumericalError: The weights are not finite.
    """
    return _displacement(final, *_parameters([final, init], model))


def _parameters(sources: list[Checkpoint], model: nn.Module | None) -> list[Parts]:
    """Return the parameters of the final, the initial and the saved weights; warn if they had to be guessed."""
    parameters = checkpoints.same_parameters(sources, model)
    for source, parts in zip(sources, parameters, strict=True):
        parts.require_finite(source.path)
    if not parameters[0].num_parameters:
        raise InputError(f"{sources[0].address} contains no parameters.", "Give a file with floating-point weights.")
    if (guess := parameters[0].guess) is not None:
        progress.warn(guess)
    return parameters


def _displacement(final: Checkpoint, ends: Parts, starts: Parts, *, per_layer: bool = False) -> Displacement:
    pairs = {name: (_flat(tensor), _flat(starts.parameters[name])) for name, tensor in ends.parameters.items()}
    end, start = (torch.cat([pair[side] for pair in pairs.values()]) for side in (0, 1))
    gone, relative, cosine = _compare(end, start)
    shapes = {name: tensor.shape for name, tensor in ends.parameters.items()}
    return Displacement(
        path=final.address,
        step=final.metadata.get("step"),
        norm=float(end.norm()),
        init_norm=float(start.norm()),
        distance=gone,
        relative=relative,
        cosine=cosine,
        max_change=float((end - start).abs().max()),
        layers=tuple(_layer(name, *pair, shapes[name]) for name, pair in pairs.items()) if per_layer else (),
    )


def _growth(final: Checkpoint, lines: list[dict[str, Any]], settings: DistanceSettings) -> Growth | None:
    """Fit both forms; add a caution if the learning rate changed, because the claim is about a constant high rate."""
    fit = growth(lines, settings.fit_from, settings.fit_to)
    schedule = final.metadata.get("plan", {}).get("schedule")
    if fit is None and (settings.fit_from > 1 or settings.fit_to is not None):
        progress.warn("There are too few distances between --fit-from and --fit-to to fit log t and t^p.")
    if fit is None or schedule in (None, "constant") or settings.fit_to is not None:
        return fit
    caution = f" The learning rate changed ({schedule}), but Hoffer's claim is about a constant high rate: see --fit-to."
    return replace(fit, sentence=fit.sentence + caution)


def _trajectory(along: list[Parts]) -> Trajectory | None:
    """Measure the trajectory from the initial weights through the saved steps; None if there are no steps."""
    if len(along) < 2:
        return None
    places = [torch.cat([_flat(tensor) for tensor in one.parameters.values()]) for one in along]
    stretches = [after - before for before, after in itertools.pairwise(places)]
    lengths = [float(stretch.norm()) for stretch in stretches]
    gone = float((places[-1] - places[0]).norm())
    return Trajectory(
        length=sum(lengths),
        displacement=gone,
        straightness=gone / sum(lengths) if sum(lengths) else None,
        stretches=tuple(lengths),
        turns=tuple(_compare(after, before)[2] for before, after in itertools.pairwise(stretches)),
    )


def _lines(place: Place, steps: tuple[Displacement, ...], settings: DistanceSettings) -> list[dict[str, Any]]:
    """Return distances by update: those that training recorded from its initial weights, else those of the saved steps."""
    if isinstance(place, LiveModel):
        return []
    folder = files.expanded(place)
    written = folder / "distances.jsonl"
    if folder.is_dir() and files.is_there(written) and not settings.init:
        try:
            lines = files.read_lines(written, _Line, "Remove it.")
        except InputError as error:  # The distances can also be computed from the weights.
            progress.warn(f"{error.message} The distances of the saved steps are used instead.")
        else:
            return [{key: float(line[key]) for key in ("step", "distance")} for line in lines]
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
    """Return the distance, relative to the start, and the cosine; None if a norm is zero."""
    gone, length, origin = float((end - start).norm()), float(end.norm()), float(start.norm())
    cosine = float(end @ start) / (length * origin) if length and origin else None
    return gone, gone / origin if origin else None, cosine


def _flat(tensor: Tensor) -> Tensor:
    return tensor.double().reshape(-1)
