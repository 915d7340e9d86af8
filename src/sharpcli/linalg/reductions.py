"""Inner products of long vectors, and linear combinations of them.

In float32 `torch.norm` of eleven million numbers has an error of 6e-4 on a CPU, which is more than the
residuals that Lanczos must measure. Here a norm or a single inner product is summed in float64.
Inner products with many rows take most of the time and are limited by memory bandwidth. On a CPU, runs
of 512 elements are summed in their own type, with SIMD, and only the sums of runs are added in float64. This
reads the rows once, as fast as a plain matrix product, with an error of at most 2e-7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy
import torch
from torch import Tensor

_RUN = 512  # Elements that are summed in their own type; each SIMD lane sums about ten of them.
_PIECE = 2**18  # Elements of a piece of a vector; it stays in the cache while it is multiplied with each row.
_IN_CACHE = 2**20  # Numbers held in float64 at a time.
_ELSEWHERE = 2**24  # The same on a GPU, where each piece costs several kernel launches.
_FEW = 16  # Up to this number of rows, the length of a piece does not depend on it.


def accumulator_of(vector: Tensor) -> torch.dtype:
    """Return the type of sums: float64 on every device that supports it."""
    return torch.float32 if vector.device.type == "mps" else torch.float64


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector (P,)."""
    return math.sqrt(float(square(vector)))


def square(vector: Tensor) -> Tensor:
    """Return the squared norm of a vector (P,), shape (), in the accumulator type, without synchronisation with the device."""
    wide = accumulator_of(vector)
    norms = [torch.linalg.vector_norm(piece, dtype=wide) for (piece,) in _pieces(vector.unsqueeze(0))]
    return torch.stack(norms).square().sum()


def dot(first: Tensor, second: Tensor) -> float:
    """Return the inner product of two vectors (P,)."""
    return float(_widened(first.unsqueeze(0), second)[0])


def project(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products (M,) of the rows of a matrix (M, P) with a vector (P,), in the accumulator type.

    For float32 on a CPU the error of each is at most about 2e-7 of Σ|row_i vector_i|; otherwise it is the rounding error.
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
    """Replace the first L rows of a matrix (M, P) by combinations of all rows, with coefficients `weights` (L, M), L <= M."""
    for (part,) in _pieces(rows):
        part[: len(weights)] = weights @ part.to(weights.dtype)


def combine(weights: Tensor, rows: Tensor) -> Tensor:
    """Return Σ weights_i rows_i of the rows of a matrix (M, P), in their type: (P,) for weights (M,), (K, P) for (K, M)."""
    wide, out = accumulator_of(rows), rows.new_empty(*weights.shape[:-1], rows.shape[1])
    for part, piece in _pieces(rows, out):
        piece.copy_(weights.to(wide) @ part.to(wide))
    return out


def _widened(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products of rows with a vector, with all arithmetic in the accumulator type."""
    total = torch.zeros(len(rows), dtype=accumulator_of(vector), device=vector.device)
    for part, piece in _pieces(rows, vector):
        total += part.to(total.dtype) @ piece.to(total.dtype)
    return total


def _by_runs(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products of rows with a vector on the CPU, as float64 sums of the inner products of runs.

    NumPy calls the BLAS dot product for each run, in one loop in C; torch has no function for this.
    """
    matrix, column = rows.detach().numpy(), vector.detach().numpy()
    count, remainder = divmod(len(column), _RUN)
    split = len(column) - remainder
    with numpy.errstate(all="ignore"):  # Non-finite values appear in the result.
        runs = numpy.matmul(matrix[:, :split].reshape(len(matrix), count, 1, _RUN), column[:split].reshape(count, _RUN, 1))
        return torch.from_numpy(runs.sum((1, 2, 3), dtype=float) + matrix[:, split:] @ column[split:])


def _pieces(matrix: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split a matrix (M, P), and others of its width, into pieces that are small enough to hold in float64."""
    length = (_IN_CACHE if matrix.device.type == "cpu" else _ELSEWHERE) // max(len(matrix), _FEW)
    return zip(*(torch.split(tensor, length, dim=-1) for tensor in (matrix, *others)), strict=True)
