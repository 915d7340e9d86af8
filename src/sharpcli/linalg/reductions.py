"""Inner products of long vectors, accumulated in float64.

In float32 `torch.norm` of eleven million numbers is off by 6e-4 on a CPU, which is more than the
residuals that Lanczos has to measure. Pieces that fit the cache are widened one at a time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_PIECE = 2**16


def accumulator_of(vector: Tensor) -> torch.dtype:
    """Return the type sums are kept in: float64 wherever the device has it."""
    return torch.float32 if vector.device.type == "mps" else torch.float64


def dot(first: Tensor, second: Tensor) -> float:
    """Return the inner product of two vectors (P,)."""
    return float(project(first.unsqueeze(0), second)[0])


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector (P,)."""
    return math.sqrt(dot(vector, vector))


def project(rows: Tensor, vector: Tensor) -> Tensor:
    """Return the inner products (M,) of the rows of a matrix (M, P) with a vector (P,), in the accumulator type."""
    wide = accumulator_of(vector)
    total = torch.zeros(len(rows), dtype=wide, device=vector.device)
    for start in range(0, len(vector), _PIECE):
        piece = slice(start, start + _PIECE)
        total += rows[:, piece].to(wide) @ vector[piece].to(wide)
    return total


def gram(rows: Tensor) -> Tensor:
    """Return the inner products (M, M) of the rows of a matrix (M, P) with each other, in the accumulator type."""
    wide = accumulator_of(rows)
    total = torch.zeros(len(rows), len(rows), dtype=wide, device=rows.device)
    for start in range(0, rows.shape[1], _PIECE):
        piece = rows[:, start : start + _PIECE].to(wide)
        total += piece @ piece.T
    return total


def recombine(weights: Tensor, rows: Tensor) -> None:
    """Replace the first rows of a matrix (M, P) by the combinations of all of them that weights (L, M) name, L <= M."""
    for start in range(0, rows.shape[1], _PIECE):
        piece = slice(start, start + _PIECE)
        rows[: len(weights), piece] = (weights @ rows[:, piece].to(weights.dtype)).to(rows.dtype)


def combine(weights: Tensor, rows: Tensor) -> Tensor:
    """Return Σ weights_i rows_i, shape (P,), of the rows of a matrix (M, P), in the rows' type."""
    wide, out = accumulator_of(rows), rows.new_empty(rows.shape[1])
    for start in range(0, rows.shape[1], _PIECE):
        piece = slice(start, start + _PIECE)
        out[piece] = weights.to(wide) @ rows[:, piece].to(wide)
    return out
