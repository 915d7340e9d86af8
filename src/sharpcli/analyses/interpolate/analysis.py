"""Loss and accuracy along the path between two solutions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy
from torch import nn

from sharpcli import progress
from sharpcli.analyses.compatibility import require_compatible
from sharpcli.analyses.interpolate.alignment import align
from sharpcli.analyses.interpolate.curvature import path_curvature
from sharpcli.analyses.interpolate.path import WeightPath, curve_of
from sharpcli.analyses.partial_results import OptionalParts, run_each
from sharpcli.analyses.provenance import recording
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import InputError, SettingsError
from sharpcli.inputs import select
from sharpcli.linalg.reductions import norm
from sharpcli.loading import LoadedCheckpoint, checkpoint_paths, live_or_files, load_checkpoint, output_difference
from sharpcli.models.output import chosen_output
from sharpcli.objective import Evaluation
from sharpcli.results import PathResult
from sharpcli.settings import InterpolateSettings, chosen
from sharpcli.settings.options import InterpolateOptions

_SAMPLES = 64
_SELF_CHECK = 1e-5  # Relative difference of outputs that is allowed after the units are permuted.


def interpolate(
    start: str | Path | nn.Module,
    end: str | Path | nn.Module | None = None,
    data: object = None,
    *,
    names: tuple[str, str] | None = None,
    settings: InterpolateSettings | None = None,
    **options: Unpack[InterpolateOptions],
) -> PathResult:
    """Evaluate the loss along a path from one checkpoint (α = 0) to another (α = 1).

    The linear path is (1-α)·A + α·B, and the arc is cos(απ/2)·A + sin(απ/2)·B. The Bézier curve is
    (1-α)²·A + 2α(1-α)·C + α²·B, where C is trained so that the loss along the curve is small. BatchNorm
    statistics are recomputed at every point from the training data. With `bn="eval"`, the stored statistics
    of A and B are interpolated linearly on every kind of path, and variances below 0 are set to 0.

    Args:
        start: A, a file, a run folder, or a model in memory, which is not changed.
        end: B, of the same architecture; it must be given.
        data: For two models, or the name of a data set; see `hessian`.
        names: Names of two models in memory in the result.
        settings: Settings of the path.
        **options: Fields of the settings, instead of `settings`, such as `interpolate("a.pt", "b.pt", points=41)`.

    Returns:
        Curves for each split, and the barrier: max over 0 <= α <= 1 of L(α) - ((1-α)L(0) + αL(1)), or None if a loss
        between the ends is not finite.

    Raises:
        SettingsError: One end is missing.
        InputError: Architectures, losses or data differ.
        NumericalError: The loss at an end of the path differs from the loss of the checkpoint itself.
        IncompleteError: The curvature along the path has failed; the error holds the result without it.
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.

    References:
        Keskar et al., ICLR 2017, figures 3 and 7. Garipov et al. 2018 for the statistics.
    """
    if end is None or isinstance(start, list | tuple):
        raise SettingsError("A path has two ends, one checkpoint each.", "Write interpolate(start, end).")
    if names is not None and names[0] == names[1]:
        raise SettingsError("Both ends have the same name.", "Give two different names.")
    ends = [start, end] if names is None else dict(zip(names, (start, end), strict=True))
    places, given = live_or_files(ends, data, options)
    settings = chosen(InterpolateSettings, settings, given)
    with recording(settings) as record, progress.task("interpolation", parts=_parts(settings)):
        first, second = (load_checkpoint(place, settings) for place in places)
        require_compatible(first, second)
        share = None
        if settings.align:
            second, share = _aligned(first, second, settings)
        splits = _splits(first, settings)
        path = WeightPath(first, second, settings, splits)
        alphas = _alphas(settings)
        rows: dict[str, list[Evaluation]] = {split: [] for split in splits}
        with progress.task("path", total=len(alphas), units="points") as shown:
            for some in path.in_groups(alphas):
                for split, evaluations in path.evaluate(some, splits).items():
                    rows[split] += evaluations
                shown.advance(len(some), alpha=some[-1], loss=rows[splits[0]][-1].loss)
        path.check_ends(alphas, rows)
        curves = tuple(curve_of(split, alphas, evaluations) for split, evaluations in rows.items())
        straight = path.straight(alphas, splits)
        length = norm(path.ends[1] - path.ends[0])
        curvature, attempt = None, OptionalParts(first.runtime)
        if settings.curvature:
            how = (path.objectives[splits[0]], alphas, curves[0].loss, path.place, length, settings)
            curvature = attempt("The curvature along the path", partial(path_curvature, *how))
        result = PathResult(
            start=first.subject(),
            end=second.subject(),
            path=settings.path,
            loss_function=path.objectives[splits[0]].loss_name,
            **path.objectives[splits[0]].unit(),
            batch_norm=settings.bn if batch_norms(first.model) else "none",
            barrier=curves[0].barrier,
            alphas=tuple(alphas),
            curves=curves,
            distance=length,
            straight=straight,
            straight_barrier=straight[0].barrier if straight else None,
            aligned_share=share,
            output=chosen_output(first.model),
            preprocessing=first.data.preprocessing,
            curvature=curvature,
            **record.fields(first.runtime),
        )
        attempt.require_all(result)
        return result


def _splits(loaded: LoadedCheckpoint, settings: InterpolateSettings) -> tuple[str, ...]:
    """Return the names of the splits to evaluate: "both" is the default, and not all data have a test split."""
    if settings.split != "both":
        return (settings.split,)
    if loaded.data.test is None:
        progress.warn(f"The data '{loaded.data.name}' have no test split, so only the training loss is computed.")
    return tuple(loaded.data.parts())


def interpolate_all(paths: Sequence[str | Path], settings: InterpolateSettings) -> list[PathResult]:
    """Interpolate between every pair of checkpoints, in the order given.

    Raises:
        SettingsError: Fewer than two checkpoints.
        IncompleteError: A pair has failed; the error holds the results that are complete.
    """
    paths = checkpoint_paths(paths)
    if len(paths) < 2:
        raise SettingsError("Interpolation needs two checkpoints.", "Give both ends: sharpcli interpolate A B.")
    pairs = itertools.combinations(paths, 2)
    return run_each([partial(interpolate, start, end, settings=settings) for start, end in pairs], "pair")


def _parts(settings: InterpolateSettings) -> dict[str, float]:
    """Return the parts of the work, in products; a loss costs about a sixth of a product, and a step less than a loss."""
    return {
        "open": 1.0,
        "train the control point": settings.bezier_steps / 50 * (settings.path == "bezier"),
        "path": settings.points / 3,
        "curvature at point": 12.0 * settings.points * settings.curvature,
    }


def _aligned(
    first: LoadedCheckpoint, second: LoadedCheckpoint, settings: InterpolateSettings
) -> tuple[LoadedCheckpoint, float]:
    """Return the second checkpoint with its units permuted, after a check that its function has not changed."""
    model, share = align(first.model, second.model, seed=settings.seed)
    inputs = select(second.data.train.inputs, slice(_SAMPLES))
    if not output_difference(model, second.model, inputs) <= _SELF_CHECK:
        raise InputError(
            f"Permuting the units of {second.checkpoint.path} changes its outputs.", "Leave --align out for this model."
        )
    return replace(second, model=model), share


def _alphas(settings: InterpolateSettings) -> list[float]:
    """Return the equally spaced values of α, and 0 and 1, in ascending order."""
    low, high = settings.bounds()
    spaced = {round(float(alpha), 12) for alpha in numpy.linspace(low, high, settings.points)}
    return sorted(spaced | {0.0, 1.0})
