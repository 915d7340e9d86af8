"""Results of `surface`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sharpcli.results.base import Conditions, Result, Subject


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A marked point: a checkpoint or a saved step, with its coordinates in the plane."""

    name: str
    alpha: float
    beta: float
    distance_from_plane: float


@dataclass(frozen=True, kw_only=True, repr=False)
class SurfaceResult(Result):
    """Losses over a plane, by row β and column α; a loss that is not finite is None in JSON.

    `lengths` are the Euclidean lengths of the axes. `explained` is the share of the trajectory's variance along each axis of
    a principal plane, and `eigenvalues` are those of the Hessian along each axis of a plane of eigenvectors; each is empty
    for all other planes.
    """

    _headline = ("checkpoint", "loss_at_origin", "alphas", "betas")
    checkpoint: Subject
    conditions: Conditions
    batch_norm: str
    axes: tuple[str, str]
    lengths: tuple[float, ...]
    explained: tuple[float, ...]
    eigenvalues: tuple[float, ...]
    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    loss: tuple[tuple[float, ...], ...]
    loss_at_origin: float
    marks: tuple[Mark, ...]
    not_finite: int

    def records(self) -> list[dict[str, Any]]:
        """Return one row per point of the grid: α, β and the loss."""
        return [
            {"alpha": alpha, "beta": beta, "loss": value}
            for beta, row in zip(self.betas, self.loss, strict=True)
            for alpha, value in zip(self.alphas, row, strict=True)
        ]
