"""Random directions and checked products, for all methods that sample an operator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpcli.errors import NumericalError
from sharpcli.linalg.operator import SymmetricOperator
from sharpcli.linalg.orthogonal import orthogonalised
from sharpcli.linalg.reductions import norm
from sharpcli.linalg.space import Space


def finite_product(operator: SymmetricOperator, vector: Tensor, count: int) -> tuple[Tensor, float]:
    """Return Av and ‖Av‖ for a vector (P,).

    Raises:
        NumericalError: The product, number `count` of its computation, is not finite.
    """
    product = operator @ vector
    length = require_finite(norm(product), count)
    return product, require_finite(length if length < torch.finfo(product.dtype).max else math.inf, count)


def require_finite(length: float, count: int) -> float:
    """Return the length of a product, or of its orthogonal remainder, if it is finite.

    Raises:
        NumericalError: The product, number `count` of its computation, is not finite.
    """
    if not math.isfinite(length):
        message = f"Hessian-vector product {count} is not finite."
        raise NumericalError(message, "Check the weights, or try float64.", remedy="dtype=float64")
    return length


def negligible_length(dtype: torch.dtype, scale: float) -> float:
    """Return the length up to which a residual vector may be only rounding.

    Args:
        dtype: Type of the products.
        scale: ‖A‖, or the length of the longest product so far; the result has its unit.
    """
    return 10 * torch.finfo(dtype).eps * scale


def random_direction(operator: SymmetricOperator, basis: Tensor, random: torch.Generator, space: Space | None = None) -> Tensor:
    """Return a random vector (P,), uniform on the unit sphere of the complement of orthonormal rows (m, P), m < P.

    Args:
        operator: Gives P, type and device.
        basis: The rows.
        random: The generator of the vector.
        space: The space of the vectors, if this process holds only a share of each.
    """
    drawn = torch.randn(operator.shape[0], generator=random, dtype=torch.float64)
    vector = drawn.to(operator.dtype).to(operator.device)
    del drawn
    vector = vector if space is None else space.own(vector)
    orthogonal = orthogonalised(vector, [basis], out=vector, space=space)
    return orthogonal.vector.div_(orthogonal.length)


def orthonormal_complement(basis: Tensor) -> Tensor:
    """Return orthonormal rows (P - m, P) orthogonal to given orthonormal rows (m, P); this needs memory for P² numbers."""
    count, size = basis.shape
    if not count:
        return torch.eye(size, dtype=basis.dtype, device=basis.device)
    complete: Tensor = torch.linalg.qr(basis.T.to("cpu", torch.float64), mode="complete")[0]
    return complete[:, count:].T.to(basis)
