"""Engines, the ways to the product with the Hessian of one chunk, and the check that holds each to double backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.chunks import Chunk
from sharpcli.curvature.operator import Graph
from sharpcli.objective import Objective
from sharpcli.runtime import generator

_AGREEMENT = {torch.float32: 1e-5, torch.float64: 1e-10}  # Relative; two right engines differ by about 4e-7 and 1e-15.
_CALLS = 2  # What an engine keeps may be right the first time and spoilt by it.
_STREAM = 17  # Keeps the probe apart from others of the same seed.
_LONGEST = 200  # Characters of somebody else's error message.


class Engine(Protocol):
    """A way to products with the Hessian of one chunk, exact up to rounding."""

    @property
    def words(self) -> str:
        """Its name, for people."""

    def differentiate(self, chunk: Chunk, leaves: Mapping[str, Tensor]) -> Graph:
        """Return the chunk at parameters given by name, differentiated as far as does not depend on a vector."""


class Verdict(NamedTuple):
    """Whether an engine may be used.

    Attributes:
        usable: Whether all its products agreed with double backward.
        reason: How far it agreed, how far off it was or how it failed, in words that follow its name.
    """

    usable: bool
    reason: str


def verify(engine: Engine, reference: Callable[[Chunk], Graph], objective: Objective, theta: Tensor) -> Verdict:
    """Compare an engine with double backward on a random vector, over the first chunk and over a ragged last one, twice.

    It warns of an engine that is off or that fails; what the reference raises is raised. In float32 two right engines
    can differ by more on a chunk where rounding puts the input of a ReLU to the other side of 0 (6e-4 was seen between
    compiled and uncompiled convolutions, the compiled one being the nearer to float64): such an engine is given up too.

    Args:
        engine: To be checked.
        reference: Returns a chunk differentiated by double backward.
        objective: Mean loss over data.
        theta: Where to differentiate, shape (P,).
    """
    probe = torch.randn(len(theta), generator=generator(0, _STREAM)).to(theta.device, theta.dtype)
    parts, worst = list(objective.space.split(probe).values()), 0.0

    def checked(chunk: Chunk) -> Graph:
        return engine.differentiate(chunk, objective.leaves(theta))

    with progress.task(f"check of {engine.words}"):
        for chunk in _typical(objective):
            wanted = _product(reference, chunk, parts, objective)
            try:
                with warnings.catch_warnings():  # Torch gives some when its forward differentiation or compiler is loaded.
                    warnings.simplefilter("ignore")
                    found = [_product(checked, chunk, parts, objective) for _ in range(_CALLS)]
            except Exception as error:  # Whatever it is, double backward does without.
                return _refused(engine, f"failed: {_first_line(error)}")
            worst = max(worst, *(_off(product, wanted) for product in found))
    if worst <= _AGREEMENT[objective.runtime.dtype]:
        where = "first and last chunk" if _ragged(objective) else "first chunk"
        return Verdict(True, f"verified against double backward to {_number(worst, 1)} on the {where}")
    return _refused(engine, f"was off by {_number(worst, 2)}")


def _refused(engine: Engine, reason: str) -> Verdict:
    progress.warn(f"The engine {engine.words} {reason}; double backward is used instead.")
    return Verdict(False, reason)


def _typical(objective: Objective) -> Iterator[Chunk]:
    """Return the first chunk, and the last one if it has another number of samples."""
    last = len(objective.chunk_sizes) - 1
    return (chunk for chunk in objective.chunks() if chunk.number == 0 or (chunk.number == last and _ragged(objective)))


def _ragged(objective: Objective) -> bool:
    return objective.chunk_sizes[-1] != objective.chunk_sizes[0]


def _product(open_: Callable[[Chunk], Graph], chunk: Chunk, parts: Sequence[Tensor], objective: Objective) -> Tensor:
    return objective.sum_over([chunk], lambda chunk: objective.space.flatten(open_(chunk).product(parts, keep=False)))


def _off(found: Tensor, wanted: Tensor) -> float:
    """Return the relative difference; infinite where it is no number."""
    scale, difference = float(wanted.norm()), float((found - wanted).norm())
    off = difference / scale if scale else difference
    return off if off < float("inf") else float("inf")


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}".replace("e-0", "e-")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0].rstrip(".")[:_LONGEST] if lines else "") or type(error).__name__
