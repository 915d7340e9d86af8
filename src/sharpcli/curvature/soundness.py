"""Whether the derivatives of a model are those of its loss: held to central differences in float64 before any product.

Autograd takes the backward functions of a model at their word, and some of torch's own are wrong the second time. So, on a
few samples, the gradient is compared with a difference of losses, and the product by double backward with the one by
differences, for each parameter tensor by itself. The comparison is made a little way off the weights, where no ReLU sits
exactly on its kink. A disagreement counts only where two steps of the difference agree with each other.
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
_AWAY = 1e-3  # Distance from the weights, in parts of the typical entry of each tensor.
_SECOND = 1e-4  # Relative difference of two right products, in one tensor.
_BESIDE = 1e-7  # The same in parts of the whole product: what rounding leaves in a tensor of little curvature.
_GAPS = 10  # Times the disagreement of the two steps that a difference may be off by.
_ROUNDINGS = 100  # Units of rounding in a loss or a gradient.
_FIRST = 1e-5  # Difference of two right slopes, in parts of |gradient| |vector|.
_SLOPE_STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # Of the length of each tensor.


class Kind(Protocol):
    """A class of operators, of which only the engines matter here."""

    def make(self, engine: str, objective: Objective, *, compiled: bool = False) -> Engine:
        """Return an engine by name for an objective."""


class Finding(NamedTuple):
    """What came of the comparison.

    Attributes:
        usable: Whether double backward may be used.
        remark: If not, why, as a sentence without its full stop; if so, what could not be compared, or "".
    """

    usable: bool
    remark: str


_findings: WeakKeyDictionary[nn.Module, dict[object, Finding]] = WeakKeyDictionary()


def settle(kind: Kind, objective: Objective, theta: Tensor, engine: str) -> tuple[str, str]:
    """Return the engine to use, and a remark on it or "": differences where double backward is missing or wrong.

    Args:
        kind: The class of the operator.
        objective: Mean loss over data.
        theta: Weights near which to compare, shape (P,).
        engine: What was asked for; only "auto" may become another one, with a warning.

    Raises:
        InputError: The gradient is not the derivative of the loss, or the engine that was asked for cannot be right.
    """
    known = _findings.setdefault(objective.model, {})
    if kind not in known:
        try:
            known[kind] = examine(kind, objective, theta)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return engine, "not compared with differences, for lack of memory"
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
    """Refuse differences where an operation of the model is rounded as float32, also in float64.

    Such a loss is a staircase in the weights: two small steps agree on a derivative that is wrong. torch's weight_norm on
    CUDA is one: it keeps norms in float32.

    Raises:
        InputError: The loss is a staircase.
    """
    if objective.runtime.device.type != "mps" and _Comparison.of(kind, objective, theta).is_staircase():
        raise InputError(
            "The model has no usable second derivative: an operation in it is rounded as float32, also in float64, so that "
            "differences of gradients are wrong.",
            "Compute that operation in float64; for torch's weight_norm on a GPU use --device cpu.",
        )


def examine(kind: Kind, objective: Objective, theta: Tensor) -> Finding:
    """Compare the derivatives of a model with differences of what they are the derivatives of.

    Raises:
        InputError: The loss has no gradient, or the gradient is not its derivative: then no engine can be right.
    """
    failed = _failure(kind, objective, theta)
    if objective.runtime.device.type == "mps":
        return Finding(not failed, failed or "not compared with differences, since the device has no float64")
    try:
        comparison = _Comparison.of(kind, objective, theta)
        comparison.require_slope()
        failed = failed or comparison.disagreement(kind)
    except SharpcliError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or failed:
            raise
        # A foreign model may know one precision only.
        return Finding(True, f"not compared with differences, for in float64 the model fails: {first_line(error)}")
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
        slope: By the gradient.
        size: Bounds it, if all entries of the gradient point along the vector.
        quotients: By differences of losses, over ever smaller steps.
        roundings: How far rounding may put each of them off.
    """

    slope: float
    size: float
    quotients: list[float]
    roundings: list[float]


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Where derivatives are compared: on one chunk, at a point (P,) near the weights, along a vector (P,), in float64."""

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
            InputError: It is not, or there is none.
        """
        slope, size, quotients, roundings = self._slopes()
        if not all(map(math.isfinite, [slope, size, *quotients])):
            return  # Told where products or losses are made.
        wrong = _disproved(slope, quotients, roundings, size)
        if wrong is not None:
            raise InputError(
                "The gradient that the model gives is not the derivative of its loss: the loss rises by "
                f"{wrong:.4g} along a vector along which the gradient says {slope:.4g}.",
                "Look for detach(), rounded or 16-bit numbers in forward, a straight-through estimator or a backward of "
                "your own: such a model has no Hessian.",
            )

    def is_staircase(self) -> bool:
        """Tell whether differences of losses agree with the gradient over large steps, and over no small one.

        A smooth loss agrees over small steps, too, and one with kinks agrees over small steps rather than over large ones.
        """
        slope, size, quotients, roundings = self._slopes()
        off = [
            abs(quotient - slope) > _FIRST * size + rounding for quotient, rounding in zip(quotients, roundings, strict=True)
        ]
        *larger, small, smaller, _ = off  # The last step has too much rounding to tell.
        return small and smaller and not all(larger)

    def _slopes(self) -> _Slopes:
        """Return the slope of the summed loss along one vector, by the gradient and by differences of losses."""
        wide = self.differences.wide
        loss, gradient = wide.loss_and_gradient(self.point)
        gradient = gradient * wide.num_terms
        # A cross-entropy near 0 is the difference of two numbers of the size of the logits.
        unit = _ROUNDINGS * torch.finfo(torch.float64).eps * (abs(loss) + self._outputs()[0]) * wide.num_terms
        vector, size = self._uphill(gradient)
        quotients = [self._quotient(vector, step) for step in _SLOPE_STEPS]
        return _Slopes(float(gradient @ vector), size, quotients, [unit / step for step in _SLOPE_STEPS])

    def _uphill(self, gradient: Tensor) -> tuple[Tensor, float]:
        """Return a vector (P,) that is partly random and partly uphill, as long in each tensor as the weights there.

        Along a random vector alone the slope would be a small part of the gradient, and what is wrong with it smaller. The
        number beside it bounds the slope along it: the sum of the lengths of both in each tensor.
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
        """Return the largest absolute output of the model, and how long the gradient of their sum is: the sizes of rounding."""
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
        """Return how double backward disagrees with differences, or "" if it does not, or if that cannot be told."""
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
            return ""  # Told by the first product, with the place.
        # The gradient of a loss is rounded as one of size 1 is, also where the loss is nearly 0.
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
            f"Double backward is wrong for this model: in '{culprit}' it is off by {100 * worst:.2g} % from differences of "
            "gradients, so a backward function, of the model or of torch, cannot be differentiated"
        )


def _disproved(slope: float, quotients: Sequence[float], roundings: Sequence[float], size: float) -> float | None:
    """Return the difference quotient that shows a slope to be wrong, or None if there is none.

    Two quotients that agree with each other are not enough: near a kink at 1e-6 all those of larger steps agree on the
    mean of the slopes on its two sides. So a smaller step that agrees with the slope, and can tell the two apart,
    clears it.

    Args:
        slope: What the gradient says.
        quotients: Of ever smaller steps.
        roundings: How far rounding may put each of them off.
        size: What the slope would be if all entries of the gradient pointed along the vector.
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
    """Return the root mean square of the tensor that each weight belongs to, or of all weights where it is 0, shape (P,)."""
    overall = float(theta.square().mean().sqrt()) or 1.0
    parts = []
    for part in space.split(theta).values():
        size = float(part.square().mean().sqrt()) if part.numel() else 0.0
        parts.append(torch.full_like(part, size or overall))
    return space.flatten(parts)
