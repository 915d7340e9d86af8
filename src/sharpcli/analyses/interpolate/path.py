"""The points on a path between two sets of weights, each with its BatchNorm statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.analyses.compatibility import different_constants
from sharpcli.analyses.interpolate.bezier import bezier, trained_control
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import InputError, NumericalError
from sharpcli.loading import LoadedCheckpoint, check_loss, losses_agree
from sharpcli.objective import Evaluation, Objective
from sharpcli.results import Curve
from sharpcli.settings import InterpolateSettings
from sharpcli.together import evaluate_together, num_together

_SELF_CHECK = 1e-5  # Allowed relative difference between the loss at an end of the path and that of the checkpoint.


class WeightPath:
    """The points on a path between two sets of weights, each with its BatchNorm statistics.

    Attributes:
        control: Control point of a Bézier curve, shape (P,); None for other paths.
        loaded: The checkpoints at α = 0 and α = 1.
        settings: Settings of the path.
        objectives: Mean loss of each split.
        recomputes: Whether BatchNorm statistics are recomputed at each point.
        statistics_from: Mean loss over the training data, whose statistics are recomputed; None if they are interpolated.
        ends: Weights at α = 0 and α = 1, each of shape (P,).
        constants: Names of tensors that are not trained and differ between the ends.
        buffers: Stored BatchNorm statistics and constants of both ends, by name.
    """

    control: Tensor | None = None

    def __init__(
        self, first: LoadedCheckpoint, second: LoadedCheckpoint, settings: InterpolateSettings, splits: Sequence[str]
    ) -> None:
        self.loaded, self.settings = (first, second), settings
        self.objectives = {split: first.objective(split) for split in splits}
        self.recomputes = settings.bn == "recompute" and bool(batch_norms(first.model))
        # The statistics are those of the training data, for every evaluated split.
        self.statistics_from = first.objective("train") if self.recomputes else None
        self.ends = (self.objectives[splits[0]].parameters(), second.objective(splits[0]).parameters())
        self.constants = _mixed_constants(first, second, recomputes=self.recomputes)
        self.buffers = tuple(_statistics(loaded, self.objectives[splits[0]], self.constants) for loaded in self.loaded)
        self.control = self._control() if settings.path == "bezier" else None

    def in_groups(self, alphas: Sequence[float]) -> Iterator[Sequence[float]]:
        """Split the points into groups that are evaluated in one pass."""
        # Constants are set by hooks, which may not work for several sets of weights in one pass.
        size = 1 if self.constants else num_together(next(iter(self.objectives.values())))
        return (alphas[start : start + size] for start in range(0, len(alphas), size))

    def evaluate(self, alphas: Sequence[float], splits: Sequence[str]) -> dict[str, list[Evaluation]]:
        """Return the evaluations at the given points, by split."""
        thetas, buffers = zip(*map(self.place, alphas), strict=True)
        return {split: evaluate_together(self.objectives[split], thetas, buffers) for split in splits}

    def place(self, alpha: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weights at α, shape (P,), and the BatchNorm statistics and constants there, by name."""
        theta = self.point(alpha)
        return theta, self._buffers(theta, alpha)

    def point(self, alpha: float) -> Tensor:
        """Return the weights at α, shape (P,).

        A linear path is exact at both ends, and does not change weights that are equal at both ends.
        """
        if self.settings.path == "linear":
            return torch.lerp(*self.ends, alpha)
        if self.control is not None:
            return bezier(self.ends[0], self.control, self.ends[1], alpha)
        a, b = math.cos(alpha * math.pi / 2), math.sin(alpha * math.pi / 2)
        return a * self.ends[0] + b * self.ends[1]

    def straight(self, alphas: Sequence[float], splits: Sequence[str]) -> tuple[Curve, ...]:
        """Return the curves of the straight path, one per split, for comparison with a trained curve; none for other paths."""
        if self.control is None:
            return ()
        rows: dict[str, list[Evaluation]] = {split: [] for split in splits}
        for alpha in alphas:
            point = torch.lerp(*self.ends, alpha)
            buffers = self._buffers(point, alpha)
            for split in splits:
                rows[split].append(self.objectives[split].evaluate(point, buffers))
        return tuple(curve_of(split, alphas, evaluations) for split, evaluations in rows.items())

    def _control(self) -> Tensor:
        """Train the control point on the training data; BatchNorm normalises each batch separately."""
        how: dict[str, Any] = {}
        if batch_norms(self.loaded[0].model):  # The blocks of BatchNorm are the batches, so --chunk-size has no effect.
            how = {"bn": "batch", "bn_block": self.settings.bezier_batch, "chunk_size": None}
        objective = self.loaded[0].objective("train", **how)
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
        # Extrapolation can make a variance negative, and BatchNorm takes its square root.
        return {name: part.clamp_min(0) if name.endswith("running_var") else part for name, part in mixed.items()}

    def check_ends(self, alphas: Sequence[float], rows: dict[str, list[Evaluation]]) -> None:
        """Compare the loss at both ends with the loss of each checkpoint in its own model, and with the stored loss.

        Args:
            alphas: Points on the path, which contain 0 and 1.
            rows: Evaluations at these points, by split.

        Raises:
            NumericalError: The loss at an end differs from that of the checkpoint in its own model, or is not finite.
        """
        for alpha, loaded in zip((0.0, 1.0), self.loaded, strict=True):
            for split, evaluations in rows.items():
                own = loaded.objective(split)
                theta = own.parameters()
                buffers = loaded.objective("train").recompute_buffers(theta) if self.recomputes else None
                alone, along = own.evaluate(theta, buffers), evaluations[alphas.index(alpha)]
                stored = own.evaluate(theta) if buffers else alone
                check_loss(loaded, own, stored, split)
                if not math.isclose(alone.loss, along.loss, rel_tol=_SELF_CHECK, abs_tol=1e-7):
                    raise NumericalError(
                        f"At α = {alpha:g} the path has {split} loss {along.loss:.6g}, "
                        f"but {loaded.checkpoint.path} alone has {alone.loss:.6g}.",
                        "The curve cannot be trusted; please report this with both files.",
                    )
                if not losses_agree(stored.loss, alone.loss):
                    progress.warn(
                        f"At α = {alpha:g} the {split} loss is {alone.loss:.6g} with BatchNorm statistics recomputed, but "
                        f"{stored.loss:.6g} with those stored in {loaded.checkpoint.path}; --bn eval uses the stored ones."
                    )


def _mixed_constants(first: LoadedCheckpoint, second: LoadedCheckpoint, *, recomputes: bool) -> list[str]:
    """Return the names of tensors that differ between the ends but are not trained; warn that they are interpolated too.

    Raises:
        InputError: These tensors cannot be interpolated.
    """
    names = different_constants(first, second)
    listed = ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    states = [loaded.model.state_dict() for loaded in (first, second)]
    finite = all(
        state[name].is_floating_point() and bool(torch.isfinite(state[name]).all()) for state in states for name in names
    )
    if names and (recomputes or not finite):
        raise InputError(
            f"The ends differ in tensors that are not trained ({listed}), which cannot be interpolated"
            f"{' while BatchNorm statistics are recomputed' if recomputes else ''}.",
            "Use --bn eval." if recomputes else "Name checkpoints that differ in weights only.",
        )
    if names:
        progress.warn(f"The ends differ in tensors that are not trained ({listed}). The path interpolates them linearly.")
    return names


def _statistics(loaded: LoadedCheckpoint, objective: Objective, constants: Sequence[str]) -> dict[str, Tensor]:
    """Return the stored BatchNorm statistics and constants that the path interpolates, on the device of the objective."""
    runtime, state = objective.runtime, loaded.model.state_dict()
    names = [f"{name}.{key}" if name else key for name in batch_norms(loaded.model) for key in ("running_mean", "running_var")]
    return {name: state[name].to(runtime.device, runtime.dtype) for name in (*names, *constants)}


def curve_of(split: str, alphas: Sequence[float], evaluations: Sequence[Evaluation]) -> Curve:
    """Return losses and barrier of one split along a path; `alphas` contains 0 and 1."""
    losses = [evaluation.loss for evaluation in evaluations]
    low, high = losses[alphas.index(0.0)], losses[alphas.index(1.0)]
    rises = {alpha: loss - (low + alpha * (high - low)) for alpha, loss in zip(alphas, losses, strict=True) if 0 <= alpha <= 1}
    peak: float | None = max(rises, key=lambda alpha: rises[alpha])
    if not all(map(math.isfinite, rises.values())):
        progress.warn(f"The {split} loss is not finite everywhere between the ends, so the barrier is not known.")
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
