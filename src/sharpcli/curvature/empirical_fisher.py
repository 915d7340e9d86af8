"""The empirical Fisher matrix of an objective: the second moment of the gradients of its loss terms."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.jacobian import JacobianOperator, Middle
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective


class EmpiricalFisherOperator(JacobianOperator):
    """E(θ) = (1/n) Σ g_i g_iᵀ as a map on vectors (P,), with g_i the gradient of loss term i; no g_i is formed.

    A term is a sample, or a token if every token has its own class. Despite its name, E is not the Fisher information,
    whose labels are sampled from the model.

    References:
        Kunstner, Balles and Hennig 2019, Limitations of the empirical Fisher approximation, equation 3.
    """

    @staticmethod
    def outputs_and_middle(objective: Objective, chunk: Chunk, leaves: Mapping[str, Tensor]) -> tuple[Tensor, Middle]:
        """Return the loss terms of a chunk; M is the identity.

        Raises:
            SettingsError: The loss is no plain mean over known terms.
        """
        if not objective.criterion.has_plain_terms:
            raise SettingsError(
                f"The empirical Fisher matrix needs a plain mean over loss terms, but {objective.loss_name} is not one.",
                "Use --operator hessian, or another loss.",
            )
        terms = objective.loss_terms(leaves, chunk)
        return terms, lambda along: along
