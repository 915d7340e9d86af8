"""The curvature operators by name."""

from __future__ import annotations

from torch import Tensor

from sharpcli.curvature.empirical_fisher import EmpiricalFisherOperator
from sharpcli.curvature.fisher import FisherOperator
from sharpcli.curvature.ggn import GGNOperator
from sharpcli.curvature.hessian import HessianOperator
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.preconditioned import PreconditionedOperator
from sharpcli.errors import SettingsError, closest
from sharpcli.objective import Objective

OPERATORS: dict[str, type[CurvatureOperator]] = {
    "hessian": HessianOperator,
    "ggn": GGNOperator,
    "fisher": FisherOperator,
    "empirical-fisher": EmpiricalFisherOperator,
}
SCALED: dict[str, type[CurvatureOperator]] = {"preconditioned": PreconditionedOperator}  # They need P as well.


def operator_kind(name: str) -> type[CurvatureOperator]:
    """Return the class of an operator by name.

    Raises:
        SettingsError: There is no operator of that name.
    """
    known = OPERATORS | SCALED
    if name not in known:
        raise SettingsError(f"There is no curvature operator called '{name}'.", closest(name, known))
    return known[name]


def operator_of(
    name: str,
    objective: Objective,
    theta: Tensor,
    *,
    memory: int | None = None,
    engine: str = "auto",
    compiled: bool = False,
    scale: Tensor | None = None,
) -> CurvatureOperator:
    """Return an operator by name at θ.

    Args:
        name: A key of `OPERATORS` or `SCALED`.
        objective: Mean loss over data.
        theta: Where to differentiate, shape (P,).
        memory: Bytes that stored graphs may take. Default: a share of the free memory.
        engine: One of the operator's `engines`; "auto" is double backward, or differences if that is missing or wrong.
        compiled: Whether that engine is compiled.
        scale: The diagonal of P^{-1/2}, shape (P,), for "preconditioned".

    Raises:
        SettingsError: There is no operator of that name, or it has no such engine.
    """
    return operator_kind(name)(objective, theta, memory=memory, engine=engine, compiled=compiled, scale=scale)
