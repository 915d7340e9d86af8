"""What each analysis but `hessian` may be asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sharpcli.errors import SettingsError
from sharpcli.settings.base import SPLITS, AnalysisSettings, option, require_at_least, require_choice

BN_POLICIES = ("recompute", "eval")
PATHS = ("linear", "arc", "bezier")
AXES = ("random", "eigen", "pca")
METRICS = ("hessian", "sharpness", "distance")


@dataclass(frozen=True, kw_only=True)
class SharpnessSettings(AnalysisSettings):
    """Which definitions of sharpness to measure; without any, Keskar's ε-sharpness in the boxes that are given."""

    measure: tuple[str, ...] = option(
        (), "A measure by name with its options, NAME[:OPTION=VALUE,...], or all. Repeat for several.", "NAME[:...]"
    )
    list: bool = option(False, "Print every measure with definition, invariances, cost and paper, and end.")
    epsilon: tuple[float, ...] = option((1e-3, 5e-4), "Box sizes ε, separated by commas.", "E[,E]")
    subspace: tuple[int, ...] = option(
        (0, 100), "Dimensions p of the random subspace, separated by commas; 0 is the full space.", "P[,P]"
    )
    iterations: int = option(10, "L-BFGS-B iterations of each solve (10 in the paper).", "N")
    restarts: int = option(2, "L-BFGS-B solves and sign ascents, each from a random start; the best counts.", "N")
    eigenvector: bool = option(False, "One more full-space solve, started towards the top eigenvector of the Hessian.")
    draws: int = option(3, "Random subspaces of each dimension; phi is the mean over them.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("epsilon", self.epsilon), ("subspace", self.subspace)):
            if not values:
                raise SettingsError(f"--{name} is empty.", f"Give --{name} at least one value.")
            if len(set(values)) < len(values):
                raise SettingsError(f"--{name} names the same value twice.", "Give each value once.")
        for value in self.epsilon:
            require_at_least("epsilon", value, 0, strictly=True)
        for dimension in self.subspace:
            require_at_least("subspace", dimension, 0)
        require_at_least("iterations", self.iterations, 1)
        require_at_least("restarts", self.restarts, 1)
        require_at_least("draws", self.draws, 1)
        for name in ("epsilon", "subspace", "iterations", "restarts", "eigenvector", "draws"):
            if self.measure and getattr(self, name) != getattr(SharpnessSettings, name):
                raise SettingsError(
                    f"--{name} is of the measurement without --measure.",
                    f"Write it into the measure, as in --measure epsilon-sharpness:{name}=...",
                )


@dataclass(frozen=True, kw_only=True)
class InterpolateSettings(AnalysisSettings):
    """Where on the path between two solutions to evaluate, and how."""

    _splits = (*SPLITS, "both")
    range: str = option("-0.5:1.5", "Range of α; 0 is A and 1 is B, and both are always included.", "LO:HI")
    points: int = option(21, "Evenly spaced values of α, ends included.", "N")
    path: str = option("linear", "linear; arc: sin(απ/2)·B + cos(απ/2)·A; bezier: curved, its control point trained.", "NAME")
    bezier_steps: int = option(500, "Steps of Adam that train the control point.", "N")
    bezier_batch: int = option(128, "Samples a step.", "N")
    split: str = option("both", "train, test or both.", "NAME")
    bn: str = option(
        "recompute", "BatchNorm statistics along the path: recompute them at each point, or eval (stored ones, mixed).", "NAME"
    )
    align: bool = option(False, "Permute B's hidden units to match A's first (weight matching; same function).")
    curvature: bool = option(
        False, "Also λmax of the Hessian at each point, and the curvature of the loss along a straight path."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("path", self.path, PATHS)
        require_choice("bn", self.bn, BN_POLICIES)
        for name, least in (("points", 2), ("bezier_steps", 1), ("bezier_batch", 2)):
            require_at_least(name.replace("_", "-"), getattr(self, name), least)
        self.bounds()

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest α.

        Raises:
            SettingsError: The range is not LO:HI with LO < HI, both finite.
        """
        return _bounds(self.range)


def _bounds(text: str) -> tuple[float, float]:
    """Read LO:HI."""
    low, _, high = text.partition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        raise SettingsError(f"--range '{text}' is not LO:HI.", "Write it as --range -0.5:1.5.") from None
    if not all(map(math.isfinite, bounds)) or bounds[0] >= bounds[1]:
        raise SettingsError(
            f"--range {text} does not rise from a lower to a higher number.",
            f"Turn it round: --range {high}:{low}." if bounds[0] > bounds[1] else "Write it as --range -0.5:1.5.",
        )
    return bounds


@dataclass(frozen=True, kw_only=True)
class SurfaceSettings(AnalysisSettings):
    """Which plane to look at, and how finely."""

    axes: str = option("random", "random (filter-normalised), eigen (of the Hessian) or pca (of a run's saved steps).", "NAME")
    range: str | None = option(None, "Range of both coordinates. Default: -1:1, or what the marked points need.", "LO:HI")
    points: int = option(25, "Points along each axis.", "N")
    bn: str = option("recompute", "BatchNorm statistics at each point: recompute them, or eval (those stored).", "NAME")
    state: str | None = option(None, "Keep the points in this file as they come, and go on from there.", "FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("axes", self.axes, AXES)
        require_choice("bn", self.bn, BN_POLICIES)
        require_at_least("points", self.points, 2)
        self.bounds()

    def bounds(self) -> tuple[float, float] | None:
        """Return the lowest and the highest coordinate, or None if no range was given.

        Raises:
            SettingsError: The range is not LO:HI with LO < HI, both finite.
        """
        return None if self.range is None else _bounds(self.range)


@dataclass(frozen=True, kw_only=True)
class DistanceSettings(AnalysisSettings):
    """From where to measure. Only weights are read; a model that is named tells parameters from buffers."""

    init: str | None = option(None, "Reference weights. Default: the initial weights of the checkpoint's own run.", "FILE")
    per_layer: bool = option(False, "Add one row a tensor, with the mean and the largest relative distance of its filters.")
    fit_from: int = option(1, "First update of a run that the fits of log t and t^p count.", "N")
    fit_to: int | None = option(None, "Last one, such as the last at the first learning rate. Default: all.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("fit-from", self.fit_from, 1)
        require_at_least("fit-to", self.fit_to, 1)


@dataclass(frozen=True, kw_only=True)
class CompareSettings(AnalysisSettings):
    """Which numbers stand beside each other."""

    metrics: tuple[str, ...] = option(
        METRICS, "What to measure beside losses, accuracies and gaps: hessian, sharpness, distance.", "NAME[,NAME]"
    )
    epsilon: float = option(1e-3, "Box size ε of the full-space ε-sharpness.", "E")
    tol: float = option(1e-3, "Tolerance of the largest eigenvalue, relative.", "X")
    init: str | None = option(None, "Reference weights of the distance. Default: those of each checkpoint's run.", "FILE")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.metrics:
            raise SettingsError("--metrics is empty.", f"Name one or more of {', '.join(METRICS)}.")
        for name in self.metrics:
            require_choice("metrics", name, METRICS)
        require_at_least("epsilon", self.epsilon, 0, strictly=True)
        require_at_least("tol", self.tol, 0, strictly=True)


@dataclass(frozen=True, kw_only=True)
class InspectSettings(AnalysisSettings):
    """What to check a file against."""


@dataclass(frozen=True, kw_only=True)
class ReparamSettings(AnalysisSettings):
    """What to rescale."""

    factor: float = option(2.0, "What to multiply the layer by, greater than 0.", "X")
    layer: str | None = option(
        None, "Layer to multiply, as the checkpoint names it. Default: the first; the last for --logits.", "NAME"
    )
    into: str | None = option(None, "Layer that takes the factor back. Default: the next one.", "NAME")
    logits: bool = option(False, "Multiply the logits instead: no prediction changes, but the loss does.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("factor", self.factor, 0, strictly=True)
        if self.logits and self.into:
            raise SettingsError("--logits takes nothing back, but --into is given.", "Give one of the two.")
