"""The generalized Gauss-Newton matrix of an objective: the part of the Hessian that bends only the loss, not the model."""

from __future__ import annotations

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.jacobian import JacobianOperator, Sandwich
from sharpcli.objective import Objective


class GGNOperator(JacobianOperator):
    """G(θ) = (1/n) Σ JᵀH_ℓJ as a map on vectors (P,), over all the data, exact.

    J is the Jacobian of the outputs in the parameters, H_ℓ the Hessian of a loss term in the outputs, in closed
    form. G is positive semidefinite; it is the Hessian where the outputs are linear in the parameters.

    References:
        Schraudolph 2002, Fast curvature matrix-vector products; Martens 2020, JMLR 21(146), section 8.
    """

    @staticmethod
    def sandwich(objective: Objective, chunk: Chunk, leaves: dict[str, Tensor]) -> Sandwich:
        """Return JᵀH_ℓJ of a chunk."""
        outputs = objective.outputs(leaves, chunk.inputs, {})
        fixed, criterion = outputs.detach(), objective.criterion
        return Sandwich.of(list(leaves.values()), outputs, lambda along: criterion.output_hessian_(fixed, chunk.targets, along))
