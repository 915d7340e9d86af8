"""A curve of low loss between two solutions: a quadratic Bézier curve whose control point is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpcli import progress, streams
from sharpcli.errors import NumericalError
from sharpcli.objective import Objective
from sharpcli.runtime import generator

_RATE = 0.02  # Relative to the root mean square of B - A, the typical distance that a weight moves.


def bezier(start: Tensor, control: Tensor, end: Tensor, alpha: float) -> Tensor:
    """Return (1-α)² A + 2α(1-α) C + α² B, shape (P,); it is exactly A at α = 0, and exactly B at α = 1."""
    return (1 - alpha) ** 2 * start + 2 * alpha * (1 - alpha) * control + alpha**2 * end


def trained_control(objective: Objective, start: Tensor, end: Tensor, *, steps: int, batch: int, seed: int) -> Tensor:
    """Return the control point C that makes the mean loss along the curve small, shape (P,).

    C starts at the middle of the straight path. Each step draws one α ~ U(0, 1) and one batch, and takes a step of Adam on
    the loss there. The learning rate decreases linearly to 0.

    Args:
        objective: The training loss; BatchNorm, if any, normalises each batch.
        start: A, shape (P,).
        end: B, shape (P,).
        steps: Number of steps of Adam.
        batch: Samples per step.
        seed: Seed of α and of the batches.

    Raises:
        NumericalError: The loss, its gradient or the control point is no longer finite.

    References:
        Garipov et al., Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, NeurIPS 2018, section 3.
    """
    control = ((start + end) / 2).clone()
    rate = _RATE * float((end - start).square().mean().sqrt())
    optimizer = torch.optim.Adam([control], lr=rate)
    random = generator(seed, streams.BEZIER)
    count, size = objective.num_samples, min(batch, objective.num_samples)
    drawn = [(float(torch.rand((), generator=random)), torch.randint(count, (size,), generator=random)) for _ in range(steps)]
    batches = torch.stack([chosen for _, chosen in drawn]).to(objective.targets.device)  # One copy to the device.
    with progress.task("train the control point", total=steps, units="steps") as shown:
        for step, (alpha, _) in enumerate(drawn):
            some = objective.among(batches[step])
            loss, slope = some.loss_and_gradient(bezier(start, control, end, alpha))
            control.grad = (2 * alpha * (1 - alpha) * slope).to(control.dtype)
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.step()
            shown.advance(1, loss=loss)
    if not bool(torch.isfinite(control).all()):
        raise NumericalError("The control point of the Bézier curve is no longer finite.", "Use fewer --bezier-steps.")
    return control
