"""An upper bound on all eigenvalues, including those that Lanczos has not found; it holds with a stated probability.

A random start vector has, with a probability that is known exactly, at least a certain component
along the top eigenvector. If there were an eigenvalue far above the largest Ritz value, the
Lanczos polynomial would amplify this component beyond the unit length of a Lanczos vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import betaincinv

PROBABILITY = 0.99


def ceiling(
    diagonal: Sequence[float],
    off_diagonal: Sequence[float],
    *,
    dimension: int,
    probability: float = PROBABILITY,
    share: float = 1.0,
) -> float:
    """Return an upper bound on all eigenvalues, which holds with at least the given probability over the random start.

    After k steps v_{k+1} = p_k(A) v_1 has unit length, so |p_k(λ_1)| · |v_1ᵀu_1| ≤ 1 for the top
    eigenpair. If v_1 is uniform on the sphere, (v_1ᵀu_1)² is Beta(1/2, (P-1)/2) distributed.

    Args:
        diagonal: α_1 ... α_k of an unbroken Lanczos chain.
        off_diagonal: β_1 ... β_k; the last couples the space to the next vector.
        dimension: P, the dimension of the space from which the start was drawn.
        probability: Probability that the bound holds.
        share: Length of the uniformly random part of the start if another vector was added to it; an
            added vector only makes a small v_1ᵀu_1 less likely (Anderson 1955).

    References:
        van Dorsselaer, Hochstenbach and van der Vorst 2000, Computing probabilistic bounds for extreme
        eigenvalues of symmetric matrices with the Lanczos method, section 3. Kuczyński and Woźniakowski 1992.
    """
    count = len(diagonal)
    top = float(eigh_tridiagonal(diagonal, off_diagonal[: count - 1], eigvals_only=True)[-1])
    if count >= dimension or off_diagonal[-1] == 0:
        return top  # Invariant space; almost surely the start has all eigenvectors as components.
    needed = -math.log(share * _least_part(dimension, probability))
    width = max(abs(top), max(off_diagonal), max(map(abs, diagonal)))
    outer = width
    while _log_polynomial(top + outer, diagonal, off_diagonal) < needed:
        outer *= 2
    inner = width
    while inner > 1e-15 * width and _log_polynomial(top + inner, diagonal, off_diagonal) > needed:
        inner /= 2
    if inner <= 1e-15 * width:
        return top + inner
    solution: float = brentq(lambda gap: _log_polynomial(top + gap, diagonal, off_diagonal) - needed, inner, outer)
    return top + solution


def ends_of(
    diagonal: Sequence[float], off_diagonal: Sequence[float], *, dimension: int, share: float = 1.0
) -> tuple[float, float]:
    """Return a lower and an upper bound on all eigenvalues, each with probability 0.99; see `ceiling`."""
    negated = [-alpha for alpha in diagonal]  # The floor is minus the ceiling of the negated matrix.
    return (
        -ceiling(negated, off_diagonal, dimension=dimension, share=share),
        ceiling(diagonal, off_diagonal, dimension=dimension, share=share),
    )


def _least_part(dimension: int, probability: float) -> float:
    """Return the number that |v_1ᵀu_1| exceeds with the given probability, for v_1 uniform on the sphere in P dimensions."""
    return math.sqrt(float(betaincinv(0.5, (dimension - 1) / 2, 1 - probability))) if dimension > 1 else 1.0


def _log_polynomial(point: float, diagonal: Sequence[float], off_diagonal: Sequence[float]) -> float:
    """Return log p_k at a point above all Ritz values, where every p_j is positive; it uses ratios to avoid overflow.

    β_j p_j(x) = (x - α_j) p_{j-1}(x) - β_{j-1} p_{j-2}(x), p_0 = 1.
    """
    total, ratio, before = 0.0, math.inf, 0.0
    for alpha, beta in zip(diagonal, off_diagonal, strict=True):
        ratio = (point - alpha - before / ratio) / beta
        if not ratio > 0:  # Rounding, very close to the largest Ritz value, where p_k is zero.
            return -math.inf
        total, before = total + math.log(ratio), beta
    return total
