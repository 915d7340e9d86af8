"""The Fisher information of a model's own predictions, which for both losses is the generalized Gauss-Newton matrix."""

from __future__ import annotations

from sharpcli.curvature.ggn import GGNOperator


class FisherOperator(GGNOperator):
    """F(θ) = (1/n) Σ E[∇log p(y|x_i) ∇log p(y|x_i)ᵀ] with y drawn from the model's p(y|x_i), as a map on vectors (P,).

    For "ce" p is the softmax, for "mse" a Gaussian of unit variance around the outputs. Both are exponential families
    whose natural parameters are the outputs, so the Hessian of -log p in them does not depend on y, and F is exactly
    the generalized Gauss-Newton matrix. The expectation is exact: nothing is drawn. Classes in the data do not matter,
    but a term that they mark as ignored is left out here too.

    References:
        Martens 2020, New insights and perspectives on the natural gradient method, JMLR 21(146), section 9.2.
    """
