"""Compare every engine with double backward before it is used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.chunks import Chunk
from sharpcli.curvature.engine import Engine, Maker
from sharpcli.errors import first_line
from sharpcli.objective import Objective
from sharpcli.runtime import generator

_AGREEMENT = {torch.float32: 1e-5, torch.float64: 1e-10}  # Relative; two correct engines differ by about 4e-7 and 1e-15.
_ROUNDING = 1e-2  # Limit in float32 if an engine agrees in float64: rounding of a ReLU's input causes less.
_NEAR = 3  # Limit of the error against float64, in errors of double backward.


class Verdict(NamedTuple):
    """Whether an engine may be used.

    Attributes:
        usable: Whether all its products agreed with double backward.
        reason: The agreement, the error or the failure, in words that follow the name of the engine.
    """

    usable: bool
    reason: str


def verify(engine: Engine, maker: Maker, reference: Maker, objective: Objective, theta: Tensor) -> Verdict:
    """Compare an engine with double backward along a random vector, every product twice.

    They must agree to 1e-5 in float32 (1e-10 in float64), on a few samples, or, if the engine is compiled, on the first
    chunk and on the last chunk if its size differs. Two correct engines can differ by more if rounding changes the sign of
    the input of a ReLU (6e-4 was observed). So float64 decides if they disagree: the engine must agree in float64, or, if
    it is compiled for float32, its error against float64 must be at most three times that of double backward.

    An exception of the engine makes it unusable; an exception of the reference is raised.

    Args:
        engine: The engine to check.
        maker: Makes the same engine, not compiled, for another objective.
        reference: Makes the engine by double backward.
        objective: Mean loss over data.
        theta: Where to differentiate, shape (P,).
    """
    dtype, worst = theta.dtype, 0.0
    probe = torch.randn(len(theta), generator=generator(0, streams.VERIFICATION_PROBE)).to(theta.device, dtype)
    with progress.task(f"check of {engine.words}"):
        try:
            for chunk in _whole_chunks(objective) if engine.compiled else [objective.few()]:
                part = _Part(objective, chunk, theta, probe)
                wanted = next(part.products(reference(objective)))
                off = _worst(engine, part, wanted)
                if off > _AGREEMENT[dtype] and not _acquitted(engine, maker, reference, part, wanted, off):
                    return Verdict(False, f"was off by {_number(off, 2)}")
                worst = max(worst, off)
        except _EngineError as failed:
            return Verdict(False, f"failed: {first_line(failed.__cause__ or failed)}")
    return Verdict(True, f"verified against double backward to {_number(worst, 1)}")


class _EngineError(Exception):
    """The engine that is checked has raised an exception, which is the cause of this one."""


class _Part(NamedTuple):
    """The chunk, the weights θ and the vector for which products are compared."""

    objective: Objective
    chunk: Chunk
    theta: Tensor
    vector: Tensor

    def widened(self) -> _Part:
        """Return the same in float64."""
        objective = self.objective.widened(self.chunk)
        return _Part(objective, next(objective.chunks()), self.theta.double(), self.vector.double())

    def products(self, engine: Engine) -> Iterator[Tensor]:
        """Yield two products, from one graph if the engine keeps graphs, since the first product may damage the graph."""
        parts = list(self.objective.space.split(self.vector).values())
        with self.objective.arithmetic():
            for last in (False, True):
                if not last or not engine.keeps:
                    graph = engine.differentiate(self.chunk, self.objective.leaves(self.theta))
                yield self.objective.space.flatten(graph.product(parts, keep=engine.keeps and not last))


def _acquitted(engine: Engine, maker: Maker, reference: Maker, part: _Part, wanted: Tensor, off: float) -> bool:
    """Return whether an engine that disagrees in float32 is correct according to float64."""
    if part.vector.dtype == torch.float64 or part.vector.device.type == "mps":  # It has no float64.
        return False
    wide = part.widened()
    exact = next(wide.products(reference(wide.objective)))
    if engine.compiled:
        return _worst(engine, part, exact) <= _NEAR * _off(wanted, exact)
    return off <= _ROUNDING and _worst(maker(wide.objective), wide, exact) <= _AGREEMENT[torch.float64]


def _whole_chunks(objective: Objective) -> Iterator[Chunk]:
    """Yield the first chunk, and the last chunk if it has another number of samples."""
    sizes = objective.chunk_sizes
    if not sizes:  # This process has no sample.
        return
    yield objective.chunk(0)
    if sizes[-1] != sizes[0]:
        yield objective.chunk(len(sizes) - 1)


def _worst(engine: Engine, part: _Part, wanted: Tensor) -> float:
    """Return the largest relative difference between the products of an engine and a correct product."""
    try:
        with warnings.catch_warnings():  # Torch warns when its forward differentiation or compiler is loaded.
            warnings.simplefilter("ignore")
            return max(_off(product, wanted) for product in part.products(engine))
    except Exception as error:  # After any error, double backward is used instead.
        raise _EngineError from error


def _off(product: Tensor, wanted: Tensor) -> float:
    """Return the relative difference; infinity if it is NaN."""
    scale, difference = float(wanted.norm()), float((product.to(wanted.dtype) - wanted).norm())
    off = difference / scale if scale else difference
    return off if off < float("inf") else float("inf")


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("e-0", "e-")
