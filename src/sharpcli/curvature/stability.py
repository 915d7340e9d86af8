"""The largest curvature at which descent with a constant step is stable on a quadratic: the edge of stability."""

from __future__ import annotations

from typing import NamedTuple


def largest_stable(rate: float, momentum: float = 0.0, rule: str = "nesterov") -> float:
    """Return the eigenvalue of the Hessian above which full-batch descent with momentum β diverges on a quadratic.

    It is 2/lr without momentum, (2 + 2β)/lr with Polyak's, (2 + 2β)/(lr (1 + 2β)) with Nesterov's. Weight decay λ adds λ
    to every eigenvalue, so the limit for the loss without this term is lower by λ.

    Args:
        rate: The learning rate, greater than 0.
        momentum: β.
        rule: "polyak" or "nesterov".

    References:
        Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability, ICLR 2021.
    """
    threshold = 2 * (1 + momentum) / rate
    return threshold / (1 + 2 * momentum) if rule == "nesterov" else threshold


class Edge(NamedTuple):
    """The largest stable eigenvalue as a function of the learning rate: coefficient/lr - offset.

    Attributes:
        coefficient: 38 for Adam with β1 = 0.9.
        offset: What decoupled weight decay takes away.
    """

    coefficient: float
    offset: float = 0.0

    def at(self, rate: float) -> float:
        """Return the largest stable eigenvalue at a learning rate above 0."""
        return self.coefficient / rate - self.offset


def edge_of_averaged(beta: float, *, direct: float = 0.0, averaged: float = 1.0, decay: float = 0.0) -> Edge:
    """Return the edge of descent whose momentum is an exponential average of gradients, as in Adam with a fixed P.

    With m ← β m + (1 - β) g and θ ← (1 - lr λ) θ - lr P^{-1} (a g + b m), the eigenvalue s of P^{-1} H has the modes z with
    z² - z (c + β - lr s (a + b (1 - β))) + β (c - lr s a) = 0, c = 1 - lr λ. One leaves the unit circle at z = -1, where
    lr s (a (1 + β) + b (1 - β)) = (1 + β) (2 - lr λ). For Adam, a = 0 and b = 1: s = (2 + 2β) / ((1 - β) lr).

    Args:
        beta: β of the average.
        direct: a, the weight of the gradient itself; above 0 for NAdam.
        averaged: b, the weight of the average.
        decay: λ of decoupled weight decay.

    References:
        Cohen et al., Adaptive Gradient Methods at the Edge of Stability, 2022, arXiv 2207.14484 (a = 0, λ = 0).
    """
    weight = direct * (1 + beta) + averaged * (1 - beta)
    return Edge((2 + 2 * beta) / weight, decay * (1 + beta) / weight)


def edge_of_momentum(momentum: float = 0.0, *, slowing: float = 0.0) -> Edge:
    """Return the edge of descent with heavy-ball momentum, m ← μ m + P^{-1} g and θ ← θ - lr m / (1 + slowing).

    It is (2 + 2μ) (1 + slowing) / lr. RMSprop has μ; Adagrad slows down by the number of updates times lr_decay.
    """
    return Edge((2 + 2 * momentum) * (1 + slowing))
