"""The check that holds every engine to double backward before it is used."""

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

_AGREEMENT = {torch.float32: 1e-5, torch.float64: 1e-10}  # Relative; two right engines differ by about 4e-7 and 1e-15.
_ROUNDING = 1e-2  # In float32, of an engine that agrees in float64: more is not the rounding of a ReLU's input.
_NEAR = 3  # Times as far from float64 as double backward is.


class Verdict(NamedTuple):
    """Whether an engine may be used.

    Attributes:
        usable: Whether all its products agreed with double backward.
        reason: How far it agreed, how far off it was or how it failed, in words that follow its name.
    """

    usable: bool
    reason: str


def verify(engine: Engine, maker: Maker, reference: Maker, objective: Objective, theta: Tensor) -> Verdict:
    """Compare an engine with double backward along a random vector, every product twice.

    They are to agree to 1e-5 in float32 (1e-10 in float64), over a few samples, or, if the engine is compiled, over the
    first chunk and over a ragged last one. Two right engines can differ by more wherever rounding puts the input of a ReLU
    to the other side of 0 (6e-4 was seen). So float64 decides where they disagree: the engine must agree there, or, if it
    is compiled for float32, be hardly farther from it than double backward is.

    What the engine raises counts against it, what the reference raises is raised.

    Args:
        engine: To be checked.
        maker: Makes one like it, not compiled, for another objective.
        reference: Makes the one by double backward.
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
    """Something went wrong in the engine that is checked; the cause tells what."""


class _Part(NamedTuple):
    """Where products are compared: over one chunk, at θ, along a vector."""

    objective: Objective
    chunk: Chunk
    theta: Tensor
    vector: Tensor

    def widened(self) -> _Part:
        """Return the same in float64."""
        objective = self.objective.widened(self.chunk)
        return _Part(objective, next(objective.chunks()), self.theta.double(), self.vector.double())

    def products(self, engine: Engine) -> Iterator[Tensor]:
        """Give two products, of one graph if the engine keeps graphs: the first may spoil what the second needs."""
        parts = list(self.objective.space.split(self.vector).values())
        with self.objective.arithmetic():
            for last in (False, True):
                if not last or not engine.keeps:
                    graph = engine.differentiate(self.chunk, self.objective.leaves(self.theta))
                yield self.objective.space.flatten(graph.product(parts, keep=engine.keeps and not last))


def _acquitted(engine: Engine, maker: Maker, reference: Maker, part: _Part, wanted: Tensor, off: float) -> bool:
    """Tell whether float64 takes the side of an engine that disagrees in float32."""
    if part.vector.dtype == torch.float64 or part.vector.device.type == "mps":  # Which has no float64.
        return False
    wide = part.widened()
    exact = next(wide.products(reference(wide.objective)))
    if engine.compiled:
        return _worst(engine, part, exact) <= _NEAR * _off(wanted, exact)
    return off <= _ROUNDING and _worst(maker(wide.objective), wide, exact) <= _AGREEMENT[torch.float64]


def _whole_chunks(objective: Objective) -> Iterator[Chunk]:
    """Give the first chunk, and the last one if it has another number of samples."""
    sizes = objective.chunk_sizes
    yield objective.chunk(0)
    if sizes[-1] != sizes[0]:
        yield objective.chunk(len(sizes) - 1)


def _worst(engine: Engine, part: _Part, wanted: Tensor) -> float:
    """Return how far the products of an engine are from one that is right, at worst."""
    try:
        with warnings.catch_warnings():  # Torch gives some when its forward differentiation or compiler is loaded.
            warnings.simplefilter("ignore")
            return max(_off(product, wanted) for product in part.products(engine))
    except Exception as error:  # Whatever it is, double backward does without.
        raise _EngineError from error


def _off(product: Tensor, wanted: Tensor) -> float:
    """Return the relative difference; infinite where it is no number."""
    scale, difference = float(wanted.norm()), float((product.to(wanted.dtype) - wanted).norm())
    off = difference / scale if scale else difference
    return off if off < float("inf") else float("inf")


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("e-0", "e-")
