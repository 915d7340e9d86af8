"""Gram-Schmidt orthogonalisation: remove from a vector its components along orthonormal rows.

One pass over the rows is enough if the components are small; only after strong cancellation do rounding
errors remain that need another pass (Daniel et al. 1976). In a Lanczos step the rows with large components
are known in advance. These few components are removed first, at almost no cost, so that the pass over all
rows finds only small ones. Components of the size of rounding are only measured and not removed.
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
from sharpcli.linalg.space import Space

Numbers = NDArray[numpy.float64]
Run = tuple[slice, Tensor]  # Consecutive rows, and their indices among the rows of all blocks.
_CANCELLATION = 0.7  # If a pass reduces the length below this fraction, another pass follows (Daniel et al. 1976).
_MOST_PASSES = 10  # Two are enough; more only if the rows themselves are not orthonormal.
_GAP = 4  # Up to this many rows between two runs are included, which saves a read and a write of the vector.


@dataclass(frozen=True, eq=False)
class Orthogonalised:
    """A vector without its components along rows.

    Attributes:
        vector: Shape (P,).
        length: Its norm; not finite if the vector was not finite.
        removed: The removed component along each row, block after block, in float64 on the CPU.
        components: The same, including the components that were too small to be removed.
    """

    vector: Tensor
    length: float
    removed: Numbers
    components: Numbers

    @property
    def norm_before(self) -> float:
        """Norm of the original vector, by Pythagoras."""
        return math.hypot(float(numpy.linalg.norm(self.components)), self.length)


@torch.no_grad()
def orthogonalised(
    vector: Tensor,
    blocks: Sequence[Tensor],
    *,
    near: Sequence[int] = (),
    out: Tensor | None = None,
    space: Space | None = None,
) -> Orthogonalised:
    """Remove from a vector its components along rows; the host waits for the device once per pass, usually once.

    Args:
        vector: Shape (P,). It is not changed, unless it is `out`.
        blocks: Matrices (m, P); the rows of all blocks together are orthonormal.
        near: For each block, the number of last rows along which the vector has large components. Default: none.
        out: Memory for the result, shape (P,), if anything is removed.
        space: The space of the vectors, if this process holds only a share of each.

    References:
        Daniel, Gragg, Kaufman and Stewart 1976, Reorthogonalization and stable algorithms for updating the
        Gram-Schmidt QR factorization.
    """
    space = space or Space(len(vector))
    eps, everything = torch.finfo(vector.dtype).eps, list(_numbered(blocks))
    known = torch.zeros(sum(map(len, blocks)), dtype=accumulator_of(vector), device=vector.device)
    large = [
        (slice(span.stop - count, span.stop), rows[len(rows) - count :])
        for (span, rows), count in zip(everything, near, strict=False)
    ]
    for span, rows in large:
        known[span] = space.project(rows, vector)
    rest, out = _less(vector, large, known, out)
    passes = 0
    while True:
        passes += 1
        sums = space.summed(torch.cat([*(project(rows, rest) for rows in blocks), square(rest).view(1)]))
        parts, read = sums[:-1], torch.cat([known, sums]).cpu().double().numpy()
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
        if remaining > (_CANCELLATION * length) ** 2:  # Else cancellation: the result needs another pass.
            return Orthogonalised(rest, math.sqrt(remaining), taken + worth, orthogonal.components)


def _numbered(blocks: Sequence[Tensor]) -> Iterator[Run]:
    start = 0
    for rows in blocks:
        yield slice(start, start + len(rows)), rows
        start += len(rows)


def _worth_taking(parts: Numbers, blocks: Sequence[Run], limit: float) -> Iterator[Run]:
    """Return the runs of rows with components above a limit.

    They are few: orthogonality is lost along converged vectors, and these are in the span of the oldest rows.
    """
    for span, rows in blocks:
        above = numpy.flatnonzero(numpy.abs(parts[span]) > limit)
        for run in numpy.split(above, numpy.flatnonzero(numpy.diff(above) > _GAP) + 1):
            if len(run):
                first, end = int(run[0]), int(run[-1]) + 1
                yield slice(span.start + first, span.start + end), rows[first:end]


def _less(vector: Tensor, runs: Sequence[Run], parts: Tensor, out: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return a vector minus its components along runs of rows, and the memory that the next result may use."""
    for span, rows in runs:
        if len(rows):
            vector = out = torch.addmv(vector, rows.T, parts[span].to(vector.dtype), alpha=-1, out=out)
    return vector, out
