"""The generalized Gauss-Newton matrix of an objective: the part of the Hessian without the curvature of the model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.jacobian import JacobianOperator, Middle
from sharpcli.objective import Objective


class GGNOperator(JacobianOperator):
    """G(θ) = (1/n) Σ JᵀH_ℓJ as a map on vectors (P,), over all the data, exact.

    J is the Jacobian of the outputs with respect to the parameters, H_ℓ the Hessian of a loss term with respect to the
    outputs, in closed form. G is positive semidefinite; it equals the Hessian if the outputs are linear in the parameters.

    References:
        Schraudolph 2002, Fast curvature matrix-vector products; Martens 2020, JMLR 21(146), section 8.
    """

    @staticmethod
    def outputs_and_middle(objective: Objective, chunk: Chunk, leaves: Mapping[str, Tensor]) -> tuple[Tensor, Middle]:
        """Return the outputs of a chunk and H_ℓ."""
        outputs = objective.outputs(leaves, chunk.inputs, {})
        fixed, criterion = outputs.detach(), objective.criterion
        return outputs, lambda along: criterion.output_hessian_(fixed, chunk.targets, along)
