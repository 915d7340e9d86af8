"""The Hessian in the coordinates in which an adaptive optimizer takes plain steps: P^{-1/2} H P^{-1/2}."""

from __future__ import annotations

from torch import Tensor

from sharpcli.curvature.hessian import HessianOperator
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective


class PreconditionedOperator(HessianOperator):
    """P^{-1/2} H(θ) P^{-1/2} as a map on vectors (P,), over all the data; it has the eigenvalues of P^{-1} H(θ).

    P is a positive diagonal matrix, see `preconditioner.Preconditioner`; `scale` is the diagonal of P^{-1/2}. Where it is 0,
    the matrix is that of the other parameters alone.

    References:
        Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability, arXiv 2207.14484.
    """

    def __init__(
        self,
        objective: Objective,
        theta: Tensor,
        *,
        memory: int | None = None,
        engine: str = "auto",
        compiled: bool = False,
        scale: Tensor | None = None,
    ) -> None:
        """Set the point and verify the engine; see `CurvatureOperator`.

        Raises:
            SettingsError: There is no scale: nothing is known of an optimizer here.
        """
        if scale is None:
            raise SettingsError(
                "The preconditioned Hessian needs the second moments of an optimizer, and here is none.",
                "Use 'sharpcli hessian --operator preconditioned' with a checkpoint that holds them.",
            )
        super().__init__(objective, theta, memory=memory, engine=engine, compiled=compiled, scale=scale)
