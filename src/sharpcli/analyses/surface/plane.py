"""Planes in weight space: an origin, two axes, and the points that define them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpcli import streams
from sharpcli.curvature.operators import operator_of
from sharpcli.errors import InputError
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.objective import Objective
from sharpcli.parameters import filter_normalised
from sharpcli.runtime import gaussian

_SMALL = 1e-9  # Relative length below which a point adds no new direction.


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane of all points origin + α·axes[0] + β·axes[1].

    Attributes:
        origin: Shape (P,).
        axes: Shape (2, P).
        names: A description of each axis.
        marks: Points of interest: name, α, β and distance from the plane.
        explained: Share of the variance of a trajectory along each axis, for a principal plane.
        eigenvalues: Eigenvalue of the Hessian along each axis, for a plane of eigenvectors.
    """

    origin: Tensor
    axes: Tensor
    names: tuple[str, str]
    marks: tuple[tuple[str, float, float, float], ...] = ()
    explained: tuple[float, ...] = ()
    eigenvalues: tuple[float, ...] = ()

    def point(self, alpha: float, beta: float) -> Tensor:
        """Return the weights at (α, β)."""
        return self.origin + alpha * self.axes[0] + beta * self.axes[1]


def random_plane(objective: Objective, theta: Tensor, seed: int) -> Plane:
    """Return the plane of two random filter-normalised directions: each filter of an axis has the norm of the filter in θ.

    Tensors with one axis, such as biases, are constant in this plane.

    References:
        Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018, section 4.
    """
    rows = []
    for axis in range(2):
        rows.append(filter_normalised(gaussian(theta, seed, streams.PLANE_AXES, axis), theta, objective.space))
    names = ("α, random direction, filter-normalised", "β, random direction, filter-normalised")
    return Plane(theta, torch.stack(rows), names)


def eigen_plane(objective: Objective, theta: Tensor, seed: int) -> Plane:
    """Return the plane of the first two eigenvectors v of the Hessian, with axes a = √(2/λ) v, so that ½ aᵀHa = 1.

    Raises:
        InputError: One of the two eigenvalues is not positive.
    """
    pairs = eigenpairs(operator_of("hessian", objective, theta), Wanted(2), seed=seed)
    values = [float(value) for value in pairs.values]
    if min(values) <= 0:
        raise InputError("The second largest eigenvalue of the Hessian is not positive.", "Use --axes random.")
    rows = [vector.to(theta.dtype) * math.sqrt(2 / value) for vector, value in zip(pairs.vectors, values, strict=True)]
    names = tuple(f"{axis}, eigenvector of λ = {value:.4g}" for axis, value in zip("αβ", values, strict=True))
    return Plane(theta, torch.stack(rows), (names[0], names[1]), eigenvalues=tuple(values))


def plane_through(points: Sequence[Tensor], labels: Sequence[str]) -> Plane:
    """Return the plane through three points: the first is the origin, the second is (1, 0), and both axes have equal length.

    The axes are orthogonal.

    Raises:
        InputError: The points lie on a line.
    """
    first, second, third = points
    across = second - first
    offset = third - first
    length = float(across.double().norm())
    along = float(offset.double() @ across.double()) / max(length**2, 1e-300)
    upward = offset - along * across
    height = float(upward.double().norm())
    if length == 0 or height <= _SMALL * float(offset.double().norm() + length):
        raise InputError(
            "The three checkpoints lie on one line, so they do not span a plane.",
            "Give three checkpoints that are not on one line.",
        )
    axes = torch.stack([across, upward * (length / height)])
    marks = ((labels[0], 0.0, 0.0, 0.0), (labels[1], 1.0, 0.0, 0.0), (labels[2], along, height / length, 0.0))
    return Plane(first, axes, (f"α, from {labels[0]} to {labels[1]}", "β, orthogonal to α, of the same length"), marks)


def principal_plane(steps: Sequence[Tensor], labels: Sequence[str]) -> Plane:
    """Return the principal plane of a trajectory relative to its end point (largest variance); both axes are unit vectors.

    Raises:
        InputError: There are fewer than three points, or they lie on a line.
    """
    if len(steps) < 3:
        raise InputError("A principal plane needs three points of a run.", "Train with --save-every, and name the run folder.")
    origin = steps[-1]
    rows = torch.stack([step - origin for step in steps[:-1]]).double()
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    if float(sizes[1]) <= _SMALL * float(sizes[0]):
        raise InputError("The saved steps lie on one line, so they do not span a plane.", "Save more steps.")
    axes = directions[:2]
    total = float(sizes.square().sum())
    marks = []
    for label, row in zip(labels, [*rows, torch.zeros_like(rows[0])], strict=True):
        place = axes @ row
        away = math.sqrt(max(float(row @ row) - float(place @ place), 0.0))
        marks.append((label, float(place[0]), float(place[1]), away))
    explained = tuple(float(size) ** 2 / total for size in sizes[:2])
    names = tuple(
        f"{axis}, principal direction, {100 * share:.1f} % of the variance" for axis, share in zip("αβ", explained, strict=True)
    )
    return Plane(origin, axes.to(origin.dtype), (names[0], names[1]), tuple(marks), explained)
