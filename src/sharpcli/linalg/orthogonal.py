"""Gram-Schmidt: what is left of a vector when its parts along orthonormal rows are taken out.

One pass over the rows is enough if it finds little; only where much cancels do rounding errors stay
behind that are worth another (Daniel et al. 1976). In a step of Lanczos the large parts are along rows
that are known beforehand. Those few go first, at next to no cost, so that the pass over all rows finds
little; and where it finds no more than rounding it was a measurement, and nothing is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli.linalg.reductions import accumulator_of, project, square

Numbers = NDArray[numpy.float64]
Run = tuple[slice, Tensor]  # Rows that follow each other, and their numbers among the rows of all blocks.
_CANCELLATION = 0.7  # A vector that a pass makes shorter than this is looked at again (Daniel et al. 1976).
_MOST_PASSES = 10  # Two are enough; more only where what is to be taken out is itself not orthonormal.
_GAP = 4  # Rows between two others that are read along with them, rather than read and write the vector once more.


@dataclass(frozen=True, eq=False)
class Orthogonalised:
    """A vector without its components along rows.

    Attributes:
        vector: Shape (P,).
        length: Its norm; not finite if the vector was not.
        removed: The component along each row that was removed, block after block, in float64 on the CPU.
        components: The same with components that were too small to be removed.
    """

    vector: Tensor
    length: float
    removed: Numbers
    components: Numbers

    @property
    def norm_before(self) -> float:
        """Norm that the vector had, by Pythagoras."""
        return math.hypot(float(numpy.linalg.norm(self.components)), self.length)


@torch.no_grad()
def orthogonalised(
    vector: Tensor, blocks: Sequence[Tensor], *, near: Sequence[int] = (), out: Tensor | None = None
) -> Orthogonalised:
    """Take out of a vector its parts along rows. The host waits for the device once a pass, and one pass is the rule.

    Args:
        vector: Shape (P,). It is not changed, unless it is `out`.
        blocks: Matrices (m, P), whose rows are orthonormal, all together.
        near: How many of the last rows of each block the vector is known to have large parts along. Default: none.
        out: Where to put what is left, shape (P,), if anything is taken out.

    References:
        Daniel, Gragg, Kaufman and Stewart 1976, Reorthogonalization and stable algorithms for updating the
        Gram-Schmidt QR factorization.
    """
    eps, everything = torch.finfo(vector.dtype).eps, list(_numbered(blocks))
    known = torch.zeros(sum(map(len, blocks)), dtype=accumulator_of(vector), device=vector.device)
    large = [
        (slice(span.stop - count, span.stop), rows[len(rows) - count :])
        for (span, rows), count in zip(everything, near, strict=False)
    ]
    for span, rows in large:
        known[span] = project(rows, vector)
    rest, out = _less(vector, large, known, out)
    passes = 0
    while True:
        passes += 1
        parts = torch.cat([project(rows, rest) for rows in blocks])
        read = torch.cat([known, parts, square(rest).view(1)]).cpu().double().numpy()
        taken, more, length = read[: len(known)], read[len(known) : -1], math.sqrt(read[-1])
        orthogonal = Orthogonalised(rest, length, taken, taken + more)
        chosen = list(_worth_taking(more, everything, eps * length))
        if not chosen or length <= eps * orthogonal.norm_before or passes == _MOST_PASSES:
            return orthogonal
        rest, out = _less(rest, chosen, parts, out)
        worth = numpy.zeros_like(more)
        for span, _ in chosen:
            worth[span] = more[span]
            known[span] += parts[span]
        remaining = length**2 - float(worth @ worth)
        if remaining > (_CANCELLATION * length) ** 2:  # Else this difference is not exact, nor what is left orthogonal.
            return Orthogonalised(rest, math.sqrt(remaining), taken + worth, orthogonal.components)


def _numbered(blocks: Sequence[Tensor]) -> Iterator[Run]:
    start = 0
    for rows in blocks:
        yield slice(start, start + len(rows)), rows
        start += len(rows)


def _worth_taking(parts: Numbers, blocks: Sequence[Run], limit: float) -> Iterator[Run]:
    """Return the runs of rows with parts above a limit.

    They are not many: orthogonality is lost along vectors that have converged, and these lie in the oldest rows.
    """
    for span, rows in blocks:
        above = numpy.flatnonzero(numpy.abs(parts[span]) > limit)
        for run in numpy.split(above, numpy.flatnonzero(numpy.diff(above) > _GAP) + 1):
            if len(run):
                first, end = int(run[0]), int(run[-1]) + 1
                yield slice(span.start + first, span.start + end), rows[first:end]


def _less(vector: Tensor, runs: Sequence[Run], parts: Tensor, out: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return a vector less its parts along runs of rows, and where what is left of it next may be put."""
    for span, rows in runs:
        if len(rows):
            vector = out = torch.addmv(vector, rows.T, parts[span].to(vector.dtype), alpha=-1, out=out)
    return vector, out
