"""The largest curvature at which descent with a constant step is stable on a quadratic: the edge of stability."""

from __future__ import annotations


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
