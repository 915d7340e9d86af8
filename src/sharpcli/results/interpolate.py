"""Results of `interpolate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sharpcli.results.base import Result, Subject


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Loss and accuracy along a path on one split. A loss that is not finite is None in JSON.

    `barrier` is the largest rise of the loss above the straight line between the losses of the two ends, for 0 <= α <= 1. It
    is 0 if the loss is never above that line, and None if a loss between the ends is not finite. `not_finite` is the number
    of points whose loss is not finite.
    """

    split: str
    num_samples: int
    loss: tuple[float, ...]
    accuracy: tuple[float | None, ...]
    barrier: float | None
    barrier_alpha: float | None
    not_finite: int


@dataclass(frozen=True, kw_only=True)
class PathCurvature:
    """Curvature at each point of a path, of the loss on the first split.

    `along` is the second difference of the loss in units of weight length, dᵀHd of the unit direction d of a straight
    path; it is at most `lambda_max` up to the error of the differences. It is None at both ends and on other paths.
    """

    lambda_max: tuple[float | None, ...]
    verdicts: tuple[str, ...]
    along: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class PathResult(Result):
    """Loss and accuracy along one path; α = 0 is `start`, α = 1 is `end`. `barrier` is that of the first split.

    `straight` are the curves of the linear path at the same points, and `straight_barrier` its barrier on the first split; they
    are computed for a Bézier curve only.
    `aligned_share` is the share of hidden units of the end that the alignment with the start has permuted.
    """

    _headline = ("start", "end", "path", "barrier")
    start: Subject
    end: Subject
    path: str
    loss_function: str
    batch_norm: str
    barrier: float | None
    alphas: tuple[float, ...]
    curves: tuple[Curve, ...]
    distance: float
    straight: tuple[Curve, ...] = ()
    straight_barrier: float | None = None
    aligned_share: float | None = None
    loss_unit: str = ""
    terms_per_sample: float = 1.0
    output: str | None = None
    preprocessing: str = ""
    curvature: PathCurvature | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return one row per point: α, and the loss and accuracy on each split."""
        columns: dict[str, tuple[Any, ...]] = {"alpha": self.alphas}
        for curve in self.curves:
            columns |= {f"{curve.split}_loss": curve.loss, f"{curve.split}_accuracy": curve.accuracy}
        if self.curvature is not None:
            columns["lambda_max"] = self.curvature.lambda_max
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
