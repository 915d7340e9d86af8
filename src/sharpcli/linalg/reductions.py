"""Inner products of long vectors, and combinations of them.

In float32 `torch.norm` of eleven million numbers is off by 6e-4 on a CPU, which is more than the
residuals that Lanczos has to measure. Here a norm or one inner product is summed in float64 outright.
Inner products with many rows, which take the time, are bound by how fast memory is read: on a CPU a run
of 512 elements is summed as it is, on many lanes, and only the sums of runs are added in float64. That
reads the rows once, as fast as a plain product with the matrix, and costs 2e-7 at worst.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy
import torch
from torch import Tensor

_RUN = 512  # Elements summed in their own type; a lane of the processor has ten or so of them.
_PIECE = 2**18  # Of a vector, so that the cache holds it while it meets one row after the other.
_IN_CACHE = 2**20  # Numbers held in float64 at a time.
_ELSEWHERE = 2**24  # The same on a GPU, where each piece costs the launch of some kernels.
_FEW = 16  # Rows up to which the length of a piece does not depend on their number.


def accumulator_of(vector: Tensor) -> torch.dtype:
    """Return the type sums are kept in: float64 wherever the device has it."""
    return torch.float32 if vector.device.type == "mps" else torch.float64


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector (P,)."""
    return math.sqrt(float(square(vector)))


def square(vector: Tensor) -> Tensor:
    """Return the squared norm of a vector (P,), shape (), in the accumulator type, without waiting for the device."""
    wide = accumulator_of(vector)
    norms = [torch.linalg.vector_norm(piece, dtype=wide) for (piece,) in _pieces(vector.unsqueeze(0))]
    return torch.stack(norms).square().sum()


def dot(first: Tensor, second: Tensor) -> float:
    """Return the inner product of two vectors (P,)."""
    return float(_widened(first.unsqueeze(0), second)[0])


def project(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products (M,) of the rows of a matrix (M, P) with a vector (P,), in the accumulator type.

    The error of each is at most some 2e-7 of Σ|row_i vector_i| where they are float32 on a CPU, and of rounding elsewhere.
    """
    if vector.device.type != "cpu":
        return _widened(rows, vector)
    total = torch.zeros(len(rows), dtype=torch.float64)
    for part, piece in zip(torch.split(rows, _PIECE, dim=1), torch.split(vector, _PIECE), strict=True):
        total += _by_runs(part, piece)
    return total


def gram(rows: Tensor) -> Tensor:
    """Return the inner products (M, M) of the rows of a matrix (M, P) with each other, in the accumulator type."""
    total = torch.zeros(len(rows), len(rows), dtype=accumulator_of(rows), device=rows.device)
    for (part,) in _pieces(rows):
        piece = part.to(total.dtype)
        total += piece @ piece.T
    return total


def recombine(weights: Tensor, rows: Tensor) -> None:
    """Replace the first rows of a matrix (M, P) by the combinations of all of them that weights (L, M) name, L <= M."""
    for (part,) in _pieces(rows):
        part[: len(weights)] = weights @ part.to(weights.dtype)


def combine(weights: Tensor, rows: Tensor) -> Tensor:
    """Return Σ weights_i rows_i of the rows of a matrix (M, P), in their type: (P,) for weights (M,), (K, P) for (K, M)."""
    wide, out = accumulator_of(rows), rows.new_empty(*weights.shape[:-1], rows.shape[1])
    for part, piece in _pieces(rows, out):
        piece.copy_(weights.to(wide) @ part.to(wide))
    return out


def _widened(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products of rows with a vector, every product in the accumulator type."""
    total = torch.zeros(len(rows), dtype=accumulator_of(vector), device=vector.device)
    for part, piece in _pieces(rows, vector):
        total += part.to(total.dtype) @ piece.to(total.dtype)
    return total


def _by_runs(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products of rows with a vector on the CPU, each the sum in float64 of those of runs.

    NumPy calls the dot product of its BLAS for each run, in one loop in C; torch has no call for that.
    """
    matrix, column = rows.detach().numpy(), vector.detach().numpy()
    count, rest = divmod(len(column), _RUN)
    split = len(column) - rest
    with numpy.errstate(all="ignore"):  # What is not finite shows in the result.
        runs = numpy.matmul(matrix[:, :split].reshape(len(matrix), count, 1, _RUN), column[:split].reshape(count, _RUN, 1))
        return torch.from_numpy(runs.sum((1, 2, 3), dtype=float) + matrix[:, split:] @ column[split:])


def _pieces(matrix: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut a matrix (M, P), and others of its width, into pieces that may be held in float64."""
    length = (_IN_CACHE if matrix.device.type == "cpu" else _ELSEWHERE) // max(len(matrix), _FEW)
    return zip(*(torch.split(tensor, length, dim=-1) for tensor in (matrix, *others)), strict=True)
