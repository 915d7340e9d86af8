"""Quotient sharpness: λmax of the Hessian where changes of attention weights are measured by how they change products.

Reference: after da Silva et al. 2025, Hide & Seek: Transformer Symmetries Obscure Sharpness; with the metric of products.
"""

from __future__ import annotations

from torch import Tensor

from sharpcli.curvature.head_metric import HeadMetric, MetricOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.measures._reading import HEADS, Meter
from sharpcli.objective import Objective
from sharpcli.results import Reading

DEFINITION = (
    "max δᵀHδ / ‖δ‖²_g; g is Euclidean but for the heads of attention: ‖δQᵀK‖² + ‖QᵀδK‖² for queries and keys, ‖W_O δV‖² + "
    "‖δW_O V‖² for values and output layer. Without attention it is λmax of the Hessian"
)
INVARIANT = {"": (HEADS,)}
MISLEADS = (
    "It is λmax under another norm: values of models with other widths or numbers of heads have other units. All other "
    "symmetries move it as they move λmax. Layers of attention of an unknown kind are Euclidean."
)
COST = "about 20 to 40 Hessian products, each 2 to 3 gradients"
VARIANTS: tuple[dict[str, object], ...] = ({},)


def read(objective: Objective, theta: Tensor, *, seed: int = 0) -> Reading:
    """Return the largest eigenvalue of S H S, where S is the inverse root of the metric g at θ.

    Args:
        objective: f, the mean loss.
        theta: Shape (P,).
        seed: Seed of the search.

    Raises:
        InputError: The queries, keys, values or output weights of a head are linearly dependent, so that g is no metric.
    """
    meter = Meter("quotient-sharpness", objective, theta, {}, unit="loss")
    metric = HeadMetric.of(objective, theta)
    operator = operator_of("hessian", objective, theta)
    pairs = eigenpairs(MetricOperator(operator, metric), Wanted(1), seed=seed)
    meter.passes = 2 * operator.products
    return meter.reading(float(pairs.values[0]), residual=float(pairs.residuals[0]), heads=float(metric.heads))
