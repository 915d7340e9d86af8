"""Compare the derivatives of a model with central differences in float64, before the first product.

Autograd does not check the backward functions of a model, and some functions of torch have a wrong second derivative. So,
on a few samples, the gradient is compared with a difference of losses, and the product by double backward with the product
by differences, for each parameter tensor separately. The comparison is made at a small distance from the weights, where no
ReLU is exactly at its kink. A disagreement counts only if two steps of the difference agree with each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sharpcli import progress, streams
from sharpcli.chunks import Chunk
from sharpcli.curvature.dead_parameters import varying
from sharpcli.curvature.difference import Difference
from sharpcli.curvature.engine import Engine
from sharpcli.errors import InputError, SharpcliError, first_line, is_out_of_memory
from sharpcli.graphs import explained, require_twice_differentiable
from sharpcli.objective import Objective
from sharpcli.parameters import ParameterSpace
from sharpcli.runtime import generator

PLAIN, DIFFERENCE = "double-backward", "difference"
_AWAY = 1e-3  # Distance from the weights, relative to the typical entry of each tensor.
_SECOND = 1e-4  # Relative difference of two correct products, in one tensor.
_BESIDE = 1e-7  # The same relative to the entire product: the rounding error in a tensor with little curvature.
_GAPS = 10  # Limit of the error of a difference, in disagreements of its two steps.
_ROUNDINGS = 100  # Units of rounding in a loss or a gradient.
_FIRST = 1e-5  # Difference of two correct slopes, relative to |gradient| |vector|.
_SLOPE_STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # Relative to the norm of each tensor.


class Kind(Protocol):
    """A class of operators; only its engines are used here."""

    def make(self, engine: str, objective: Objective, *, compiled: bool = False) -> Engine:
        """Return an engine by name for an objective."""


class Finding(NamedTuple):
    """The result of the comparison.

    Attributes:
        usable: Whether double backward may be used.
        remark: If not usable, the reason, as a sentence without its full stop; else what could not be compared, or "".
    """

    usable: bool
    remark: str


_findings: WeakKeyDictionary[nn.Module, dict[object, Finding]] = WeakKeyDictionary()


def settle(kind: Kind, objective: Objective, theta: Tensor, engine: str) -> tuple[str, str]:
    """Return the engine to use, and a remark or "": differences are used if double backward is missing or wrong.

    Args:
        kind: The class of the operator.
        objective: Mean loss over data.
        theta: Weights near which to compare, shape (P,).
        engine: The requested engine; only "auto" may be replaced by another engine, with a warning.

    Raises:
        InputError: The gradient is not the derivative of the loss, or the requested engine cannot be correct.
    """
    known = _findings.setdefault(objective.model, {})
    if kind not in known:
        try:
            known[kind] = examine(kind, objective, theta)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return engine, "not compared with differences, because there is not enough memory"
    finding = known[kind]
    if engine == DIFFERENCE:
        require_fine_rounding(kind, objective, theta)
    if engine == DIFFERENCE or finding.usable:
        return engine, "" if engine == DIFFERENCE else finding.remark
    if engine != "auto":
        raise InputError(f"{finding.remark}.", "Use --engine difference, which needs first derivatives only.")
    require_fine_rounding(kind, objective, theta)
    progress.warn(
        f"{finding.remark}; products are central differences of float64 gradients instead, and their measured error is part of "
        "the noise floor."
    )
    return DIFFERENCE, ""


def require_fine_rounding(kind: Kind, objective: Objective, theta: Tensor) -> None:
    """Refuse differences if an operation of the model is rounded as float32, also in float64.

    Such a loss is a step function (a staircase) of the weights: two small steps agree on a derivative that is wrong. An
    example is torch's weight_norm on CUDA, which stores norms in float32.

    Raises:
        InputError: The loss is such a step function.
    """
    if objective.runtime.device.type != "mps" and _Comparison.of(kind, objective, theta).is_staircase():
        raise InputError(
            "The model has no usable second derivative: one of its operations rounds to float32, also in float64, so "
            "differences of gradients are wrong.",
            "Compute this operation in float64; for torch's weight_norm on a GPU use --device cpu.",
        )


def examine(kind: Kind, objective: Objective, theta: Tensor) -> Finding:
    """Compare the derivatives of a model with finite differences.

    Raises:
        InputError: The loss has no gradient, or the gradient is not its derivative: then no engine can be correct.
    """
    failed = _failure(kind, objective, theta)
    if objective.runtime.device.type == "mps":
        return Finding(not failed, failed or "not compared with differences, because the device has no float64")
    try:
        comparison = _Comparison.of(kind, objective, theta)
        comparison.require_slope()
        failed = failed or comparison.disagreement(kind)
    except SharpcliError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or failed:
            raise
        # A model of the user may support one precision only.
        return Finding(True, f"not compared with differences, because the model fails in float64: {first_line(error)}")
    return Finding(not failed, failed)


def _failure(kind: Kind, objective: Objective, theta: Tensor) -> str:
    """Return why there is no product by double backward, or "" if there is one."""
    parts = list(objective.space.split(theta).values())
    try:
        with objective.arithmetic(), explained():
            graph = kind.make(PLAIN, objective).differentiate(objective.few(), objective.leaves(theta))
            graph.product(parts, keep=False)
            require_twice_differentiable(graph.slopes)
    except InputError as error:
        return error.message.rstrip(".")
    return ""


class _Slopes(NamedTuple):
    """Slopes of the summed loss along one vector.

    Attributes:
        slope: Computed by the gradient.
        size: The scale of the slope: the sum over tensors of the norm of the weights times the norm of the gradient.
        quotients: Computed by differences of losses, with decreasing steps.
        roundings: The possible rounding error of each quotient.
    """

    slope: float
    size: float
    quotients: list[float]
    roundings: list[float]


@dataclass(frozen=True, eq=False)
class _Comparison:
    """The comparison on one chunk, at a point (P,) near the weights, along a vector (P,), in float64."""

    differences: Difference
    chunk: Chunk
    point: Tensor
    vector: Tensor

    @staticmethod
    def of(kind: Kind, objective: Objective, theta: Tensor) -> _Comparison:
        differences = kind.make(DIFFERENCE, objective)
        assert isinstance(differences, Difference)
        sizes = _typical_sizes(theta.double(), objective.space) * varying(differences.wide)
        away, along = (
            sizes
            * torch.randn(len(theta), generator=generator(0, streams.SOUNDNESS_PROBE, part), dtype=torch.float64).to(
                theta.device
            )
            for part in range(2)
        )
        return _Comparison(differences, next(differences.wide.chunks()), theta.double() + _AWAY * away, along)

    def require_slope(self) -> None:
        """Refuse a gradient that is not the derivative of the loss.

        Raises:
            InputError: It is not the derivative, or there is no gradient.
        """
        slope, size, quotients, roundings = self._slopes()
        if not all(map(math.isfinite, [slope, size, *quotients])):
            return  # Reported when products or losses are computed.
        wrong = _disproved(slope, quotients, roundings, size)
        if wrong is not None:
            raise InputError(
                "The gradient of the model is not the derivative of its loss: along one vector, the loss rises by "
                f"{wrong:.4g}, but the gradient predicts {slope:.4g}.",
                "Look for detach(), rounded or 16-bit numbers in forward, a straight-through estimator or your own backward "
                "function. Such a model has no Hessian.",
            )

    def is_staircase(self) -> bool:
        """Return whether differences of losses agree with the gradient for a large step, but for no small step.

        For a smooth loss they also agree for small steps. For a loss with kinks they agree for small rather than large steps.
        """
        slope, size, quotients, roundings = self._slopes()
        off = [
            abs(quotient - slope) > _FIRST * size + rounding for quotient, rounding in zip(quotients, roundings, strict=True)
        ]
        *larger, small, smaller, _ = off  # The rounding error of the last step is too large.
        return small and smaller and not all(larger)

    def _slopes(self) -> _Slopes:
        """Return the slope of the summed loss along one vector, by the gradient and by differences of losses."""
        wide = self.differences.wide
        loss, gradient = wide.loss_and_gradient(self.point)
        gradient = gradient * wide.total_weight
        # A cross-entropy near 0 is the difference of two numbers of the size of the logits.
        unit = _ROUNDINGS * torch.finfo(torch.float64).eps * (abs(loss) + self._outputs()[0]) * wide.total_weight
        vector, size = self._uphill(gradient)
        quotients = [self._quotient(vector, step) for step in _SLOPE_STEPS]
        return _Slopes(float(gradient @ vector), size, quotients, [unit / step for step in _SLOPE_STEPS])

    def _uphill(self, gradient: Tensor) -> tuple[Tensor, float]:
        """Return a vector (P,) that is partly random and partly along the gradient, and the scale of the slope along it.

        In each tensor, its two parts have the norm of the weights. Along a random vector alone, the slope would be a small
        part of the gradient, and an error of the gradient would be even smaller. The scale is the sum over tensors of the
        norm of the weights times the norm of the gradient.
        """
        space, parts, size = self.differences.wide.space, [], 0.0
        overall = float(self.point.norm()) or 1.0
        trio = zip(*(space.split(one).values() for one in (gradient, self.vector, self.point)), strict=True)
        for slope, along, weights in trio:
            length = float(weights.norm()) or overall
            unit = sum((part / (part.norm() or 1.0) for part in (slope, along)), start=torch.zeros_like(slope))
            parts.append(length * unit)
            size += length * float(slope.norm())
        return space.flatten(parts), size

    def _outputs(self) -> tuple[float, float]:
        """Return the largest absolute output of the model, and the norm of the gradient of their sum: scales of rounding."""
        wide = self.differences.wide

        def sizes() -> tuple[float, float]:
            leaves = wide.leaves(self.point)
            code = wide.loss_is_code
            outputs = wide.loss_terms(leaves, self.chunk) if code else wide.outputs(leaves, self.chunk.inputs, {})
            slopes = torch.autograd.grad(outputs.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
            return float(outputs.detach().abs().max()), float(wide.space.flatten(slopes).norm())

        with wide.arithmetic():
            return wide.at(self.point, sizes)

    def _quotient(self, vector: Tensor, step: float) -> float:
        """Return the slope of the summed loss along a vector by one central difference."""
        wide = self.differences.wide
        with torch.no_grad(), wide.arithmetic():
            ends = [float(wide.loss_sum(wide.space.split(self.point + sign * step * vector), self.chunk)) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    def disagreement(self, kind: Kind) -> str:
        """Return how double backward disagrees with differences, or "" if it agrees or if this cannot be decided."""
        wide = self.differences.wide
        parts = list(wide.space.split(self.vector).values())
        with wide.arithmetic():
            engine = kind.make(PLAIN, wide)
            made = wide.at(
                self.point, lambda: engine.differentiate(self.chunk, wide.leaves(self.point)).product(parts, keep=False)
            )
            exact = wide.space.flatten(made)
            value, other = self.differences.pair(self.chunk, self.point, self.vector)
        if not bool(torch.isfinite(torch.stack([exact, value, other])).all()):
            return ""  # The first product reports it, with the parameters.
        # The gradient has the rounding error of a loss of size 1, also if the loss is nearly 0.
        step = self.differences.smallest * (float(self.point.norm()) or 1.0) / float(self.vector.norm())
        rounding = _ROUNDINGS * torch.finfo(torch.float64).eps * self._outputs()[1] / step
        beside = _BESIDE * float(value.norm()) + rounding
        worst, culprit = 0.0, ""
        for name, product in wide.space.split(exact).items():
            wanted, second = (wide.space.split(one)[name] for one in (value, other))
            size = max(float(product.norm()), float(wanted.norm()))
            off, gap = float((product - wanted).norm()), float((wanted - second).norm())
            if off > _SECOND * size + _GAPS * gap + beside and off / size > worst:
                worst, culprit = off / size, name
        if not culprit:
            return ""
        return (
            f"Double backward is wrong for this model: in '{culprit}' it differs by {100 * worst:.2g} % from differences of "
            "gradients, so a backward function of the model or of torch cannot be differentiated"
        )


def _disproved(slope: float, quotients: Sequence[float], roundings: Sequence[float], size: float) -> float | None:
    """Return the difference quotient that proves a slope wrong, or None if there is none.

    Two quotients that agree with each other are not enough: near a kink at a distance of 1e-6, all quotients of larger
    steps agree on the mean of the slopes on its two sides. So the slope is accepted if a smaller step agrees with it and
    is precise enough to distinguish the two values.

    Args:
        slope: The slope by the gradient.
        quotients: Difference quotients with decreasing steps.
        roundings: The possible rounding error of each quotient.
        size: The scale of the slope, see `_Slopes`.
    """
    bars = [_FIRST * max(size, abs(quotient)) + rounding for quotient, rounding in zip(quotients, roundings, strict=True)]
    right = [abs(quotient - slope) <= bar for quotient, bar in zip(quotients, bars, strict=True)]
    for place in range(1, len(quotients)):
        larger, smaller = quotients[place - 1], quotients[place]
        if right[place - 1] or right[place]:
            return None
        if abs(larger - smaller) <= _FIRST * max(abs(larger), abs(smaller)) + roundings[place]:
            off = abs(smaller - slope)
            cleared = any(is_right and 2 * bar < off for is_right, bar in zip(right[place:], bars[place:], strict=True))
            return None if cleared else smaller
    return None


def _typical_sizes(theta: Tensor, space: ParameterSpace) -> Tensor:
    """Return for each weight the root mean square of its tensor, or of all weights if that is 0, shape (P,)."""
    overall = float(theta.square().mean().sqrt()) or 1.0
    parts = []
    for part in space.split(theta).values():
        size = float(part.square().mean().sqrt()) if part.numel() else 0.0
        parts.append(torch.full_like(part, size or overall))
    return space.flatten(parts)
