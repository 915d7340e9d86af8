"""Loss and accuracy along the path between two solutions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.analyses._account import account
from sharpcli.analyses._alignment import align
from sharpcli.analyses._bezier import bezier, trained_control
from sharpcli.analyses._comparable import different_constants, require_comparable
from sharpcli.analyses._opening import Opened, agree, open_checkpoint, outputs_in_float64
from sharpcli.analyses._optional import Attempts, one_by_one
from sharpcli.analyses._path_curvature import path_curvature
from sharpcli.analyses._several import chosen_paths
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.linalg.reductions import norm
from sharpcli.models._output import chosen_output
from sharpcli.objective import Evaluation, Objective
from sharpcli.results import Curve, PathResult
from sharpcli.settings import InterpolateSettings, chosen
from sharpcli.together import at_once, evaluate_together

_SAMPLES = 64
_SELF_CHECK = 1e-5  # Relative difference allowed between a path's end and the checkpoint evaluated by itself.


def interpolate(
    start: str | Path, end: str | Path, settings: InterpolateSettings | None = None, **options: object
) -> PathResult:
    """Evaluate the loss on the way from one checkpoint (α = 0) to another (α = 1).

    The linear path is (1-α)·A + α·B; the arc is cos(απ/2)·A + sin(απ/2)·B; a Bézier curve is
    (1-α)²·A + 2α(1-α)·C + α²·B, with C trained so that the loss along it is small. With BatchNorm its
    statistics are recomputed at every point from the training data, or, with "eval", mixed
    linearly like the weights, variances kept positive.

    Args:
        start: A, a file or run folder.
        end: B, of the same architecture.
        settings: What to do.
        **options: Its fields, in place of settings, such as `interpolate("a.pt", "b.pt", points=41)`.

    Returns:
        Curves for each split and the barrier max over 0 <= α <= 1 of L(α) - ((1-α)L(0) + αL(1)); None where a loss
        between the ends is not finite.

    Raises:
        InputError: Architectures, losses or data differ.
        NumericalError: An end of the path does not give the loss of the checkpoint by itself.
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.

    References:
        Keskar et al., ICLR 2017, figures 3 and 7. Garipov et al. 2018 for the statistics.
    """
    settings = chosen(InterpolateSettings, settings, options)
    with account(settings) as book, progress.task("interpolation", parts=_parts(settings)):
        first, second = (open_checkpoint(path, settings) for path in (start, end))
        require_comparable(first, second)
        share = None
        if settings.align:
            second, share = _aligned(first, second, settings)
        splits = ("train", "test") if settings.split == "both" else (settings.split,)
        path = _Path(first, second, settings, splits)
        alphas = _alphas(settings)
        rows: dict[str, list[Evaluation]] = {split: [] for split in splits}
        with progress.task("path", total=len(alphas), units="points") as shown:
            for some in path.in_groups(alphas):
                for split, evaluations in path.evaluate(some, splits).items():
                    rows[split] += evaluations
                shown.advance(len(some), alpha=some[-1], loss=rows[splits[0]][-1].loss)
        path.check_ends(alphas, rows)
        curves = tuple(_curve(split, alphas, evaluations) for split, evaluations in rows.items())
        length = norm(path.ends[1] - path.ends[0])
        curvature, attempt = None, Attempts(first.runtime)
        if settings.curvature:
            how = (path.objectives[splits[0]], alphas, curves[0].loss, path.place, length, settings)
            curvature = attempt("The curvature along the path", partial(path_curvature, *how))
        result = PathResult(
            start=first.subject(),
            end=second.subject(),
            path=settings.path,
            loss_function=path.objectives[splits[0]].loss_name,
            batch_norm=settings.bn if batch_norms(first.model) else "none",
            barrier=curves[0].barrier,
            alphas=tuple(alphas),
            curves=curves,
            distance=length,
            straight_barrier=path.straight_barrier(alphas, splits[0]),
            aligned_share=share,
            output=chosen_output(first.model),
            preprocessing=first.data.preprocessing,
            curvature=curvature,
            **book.entries(first.runtime),
        )
        attempt.require_all(result)
        return result


def interpolate_all(paths: Sequence[str | Path], settings: InterpolateSettings) -> list[PathResult]:
    """Interpolate between every pair of checkpoints, in the order given.

    Raises:
        SettingsError: Fewer than two checkpoints.
        IncompleteError: A pair has failed; it holds the results before.
    """
    paths = chosen_paths(paths)
    if len(paths) < 2:
        raise SettingsError("Interpolation needs two checkpoints.", "Name both ends: sharpcli interpolate A B.")
    pairs = itertools.combinations(paths, 2)
    return one_by_one([partial(interpolate, start, end, settings) for start, end in pairs], "pair")


def _parts(settings: InterpolateSettings) -> dict[str, float]:
    """Return what there is to do, with its work in products: a loss is about a sixth of one, a step less than a loss."""
    return {
        "open": 1.0,
        "train the control point": settings.bezier_steps / 50 * (settings.path == "bezier"),
        "path": settings.points / 3,
        "curvature at point": 12.0 * settings.points * settings.curvature,
    }


def _aligned(first: Opened, second: Opened, settings: InterpolateSettings) -> tuple[Opened, float]:
    """Return the second checkpoint with its units permuted, after checking that its function is what it was."""
    model, share = align(first.model, second.model, seed=settings.seed)
    inputs = second.data.train.inputs[:_SAMPLES]
    before, after = (outputs_in_float64(one, inputs) for one in (second.model, model))
    if not torch.allclose(before, after, rtol=_SELF_CHECK, atol=_SELF_CHECK * float(before.abs().max())):
        raise InputError(
            f"Permuting the units of {second.checkpoint.path} changes what it computes.", "Leave --align out for this model."
        )
    return replace(second, model=model), share


class _Path:
    """The points between two sets of weights, with the statistics that belong to each."""

    control: Tensor | None = None

    def __init__(self, first: Opened, second: Opened, settings: InterpolateSettings, splits: Sequence[str]) -> None:
        self.opened, self.settings = (first, second), settings
        self.objectives = {split: first.objective(split) for split in splits}
        self.recomputes = settings.bn == "recompute" and bool(batch_norms(first.model))
        # Statistics are the training data's, whatever split is evaluated.
        self.statistics_from = first.objective("train") if self.recomputes else None
        self.ends = (self.objectives[splits[0]].parameters(), second.objective(splits[0]).parameters())
        self.constants = _mixed_constants(first, second, recomputes=self.recomputes)
        self.buffers = tuple(_statistics(opened, self.objectives[splits[0]], self.constants) for opened in self.opened)
        self.control = self._control() if settings.path == "bezier" else None

    def in_groups(self, alphas: Sequence[float]) -> Iterator[Sequence[float]]:
        """Cut points into groups that are evaluated in one pass."""
        size = 1 if self.constants else at_once(next(iter(self.objectives.values())))  # Hooks that use them may not be mapped.
        return (alphas[start : start + size] for start in range(0, len(alphas), size))

    def evaluate(self, alphas: Sequence[float], splits: Sequence[str]) -> dict[str, list[Evaluation]]:
        """Return the evaluations at some points, by split."""
        thetas, buffers = zip(*map(self.place, alphas), strict=True)
        return {split: evaluate_together(self.objectives[split], thetas, buffers) for split in splits}

    def place(self, alpha: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weights at α, and the BatchNorm statistics that belong to them."""
        theta = self.point(alpha)
        return theta, self._buffers(theta, alpha)

    def point(self, alpha: float) -> Tensor:
        """Return the weights at α; the line is exact at both ends, and constant where they are equal."""
        if self.settings.path == "linear":
            return torch.lerp(*self.ends, alpha)
        if self.control is not None:
            return bezier(self.ends[0], self.control, self.ends[1], alpha)
        a, b = math.cos(alpha * math.pi / 2), math.sin(alpha * math.pi / 2)
        return a * self.ends[0] + b * self.ends[1]

    def straight_barrier(self, alphas: Sequence[float], split: str) -> float | None:
        """Return the barrier of the straight path, which a curved one was trained to go around."""
        if self.control is None:
            return None
        inside = [alpha for alpha in alphas if 0 <= alpha <= 1]
        points = [torch.lerp(*self.ends, alpha) for alpha in inside]
        found = [
            self.objectives[split].evaluate(point, self._buffers(point, alpha))
            for alpha, point in zip(inside, points, strict=True)
        ]
        return _curve(split, inside, found).barrier

    def _control(self) -> Tensor:
        """Train the control point on the training data, BatchNorm normalising each batch by itself."""
        how: dict[str, Any] = {}
        if batch_norms(self.opened[0].model):  # Its blocks are the batches, whatever memory the evaluation is to take.
            how = {"bn": "batch", "bn_block": self.settings.bezier_batch, "chunk_size": None}
        objective = self.opened[0].objective("train", **how)
        return trained_control(
            objective,
            *self.ends,
            steps=self.settings.bezier_steps,
            batch=self.settings.bezier_batch,
            seed=self.settings.seed,
        )

    def _buffers(self, theta: Tensor, alpha: float) -> dict[str, Tensor]:
        if self.statistics_from is not None:
            return self.statistics_from.recompute_buffers(theta)
        mixed = {name: (1 - alpha) * first + alpha * self.buffers[1][name] for name, first in self.buffers[0].items()}
        # A variance that is extrapolated past zero would be the root of a negative number.
        return {name: part.clamp_min(0) if name.endswith("running_var") else part for name, part in mixed.items()}

    def check_ends(self, alphas: Sequence[float], rows: dict[str, list[Evaluation]]) -> None:
        """Compare both ends with each checkpoint evaluated by itself, in its own model, and with what it has stored."""
        for alpha, opened in zip((0.0, 1.0), self.opened, strict=True):
            for split, evaluations in rows.items():
                own = opened.objective(split)
                theta = own.parameters()
                buffers = opened.objective("train").recompute_buffers(theta) if self.recomputes else None
                alone, along = own.evaluate(theta, buffers), evaluations[alphas.index(alpha)]
                stored = own.evaluate(theta) if buffers else alone
                opened.check_loss(own, stored, split)
                if not math.isclose(alone.loss, along.loss, rel_tol=_SELF_CHECK, abs_tol=1e-7):
                    raise NumericalError(
                        f"At α = {alpha:g} the path gives {split} loss {along.loss:.6g}, "
                        f"but {opened.checkpoint.path} by itself gives {alone.loss:.6g}.",
                        "The curve cannot be trusted; please report this with both files.",
                    )
                if not agree(stored.loss, alone.loss):
                    progress.warn(
                        f"At α = {alpha:g} the {split} loss is {alone.loss:.6g} with BatchNorm statistics recomputed, but "
                        f"{stored.loss:.6g} with those stored in {opened.checkpoint.path}; --bn eval uses the stored ones."
                    )


def _mixed_constants(first: Opened, second: Opened, *, recomputes: bool) -> list[str]:
    """Return what differs between the ends though it is not trained, and say that it is mixed like the weights.

    Raises:
        InputError: It cannot be mixed.
    """
    names = different_constants(first, second)
    listed = ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    states = [opened.model.state_dict() for opened in (first, second)]
    finite = all(
        state[name].is_floating_point() and bool(torch.isfinite(state[name]).all()) for state in states for name in names
    )
    if names and (recomputes or not finite):
        raise InputError(
            f"The ends differ in what is not trained ({listed}), which cannot be mixed"
            f"{' while BatchNorm statistics are recomputed' if recomputes else ''}.",
            "Use --bn eval." if recomputes else "Name checkpoints that differ in weights only.",
        )
    if names:
        progress.warn(f"The ends differ in what is not trained ({listed}); it is mixed linearly along the path.")
    return names


def _statistics(opened: Opened, objective: Objective, constants: Sequence[str]) -> dict[str, Tensor]:
    """Return what a checkpoint has stored beside its weights and the path has to mix, on the device of the objective."""
    runtime, state = objective.runtime, opened.model.state_dict()
    names = [f"{name}.{key}" if name else key for name in batch_norms(opened.model) for key in ("running_mean", "running_var")]
    return {name: state[name].to(runtime.device, runtime.dtype) for name in (*names, *constants)}


def _alphas(settings: InterpolateSettings) -> list[float]:
    """Return the evenly spaced points, and 0 and 1."""
    low, high = settings.bounds()
    spaced = {round(float(alpha), 12) for alpha in numpy.linspace(low, high, settings.points)}
    return sorted(spaced | {0.0, 1.0})


def _curve(split: str, alphas: Sequence[float], evaluations: Sequence[Evaluation]) -> Curve:
    losses = [evaluation.loss for evaluation in evaluations]
    low, high = losses[alphas.index(0.0)], losses[alphas.index(1.0)]
    rises = {alpha: loss - (low + alpha * (high - low)) for alpha, loss in zip(alphas, losses, strict=True) if 0 <= alpha <= 1}
    peak: float | None = max(rises, key=lambda alpha: rises[alpha])
    if not all(map(math.isfinite, rises.values())):
        progress.warn(f"The {split} loss is not finite everywhere between the ends, so there is no telling the barrier.")
        peak = None
    return Curve(
        split=split,
        num_samples=evaluations[0].num_samples,
        loss=tuple(losses),
        accuracy=tuple(evaluation.accuracy for evaluation in evaluations),
        barrier=None if peak is None else max(rises[peak], 0.0),
        barrier_alpha=peak,
        not_finite=sum(not math.isfinite(loss) for loss in losses),
    )
