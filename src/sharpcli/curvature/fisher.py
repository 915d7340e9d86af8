"""The Fisher information of a model's own predictions, which for these losses is the generalized Gauss-Newton matrix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.ggn import GGNOperator
from sharpcli.curvature.jacobian import Middle
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective


class FisherOperator(GGNOperator):
    """F(θ) = (1/n) Σ E[∇log p(y|x_i) ∇log p(y|x_i)ᵀ] with y sampled from the model's p(y|x_i), as a map on vectors (P,).

    For "ce" p is the softmax, for "bce" the sigmoid of each logit, for "mse" a Gaussian of unit variance around the
    outputs. They are exponential families whose natural parameters are the outputs. So the Hessian of -log p with respect to
    the outputs does not depend on y, and F is exactly the generalized Gauss-Newton matrix. The expectation is exact: no y is
    sampled. The targets in the data have no effect, except that terms with an ignored target are left out.

    References:
        Martens 2020, New insights and perspectives on the natural gradient method, JMLR 21(146), section 9.2.
    """

    @staticmethod
    def outputs_and_middle(objective: Objective, chunk: Chunk, leaves: Mapping[str, Tensor]) -> tuple[Tensor, Middle]:
        """Return the outputs of a chunk and H_ℓ.

        Raises:
            SettingsError: The loss is not a -log p, because classes or labels have weights.
        """
        if objective.criterion.spec.is_weighted:
            raise SettingsError(
                "A loss with weights is not of the form -log p, so it has no Fisher information.", "Use --operator ggn."
            )
        return GGNOperator.outputs_and_middle(objective, chunk, leaves)
