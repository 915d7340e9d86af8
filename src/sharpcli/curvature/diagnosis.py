"""Where a second derivative is not finite, and whether more precision would help."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.engine import Maker
from sharpcli.errors import NumericalError
from sharpcli.objective import Objective

_OPERATION = re.compile(r"Function '(\w+?)(?:Backward)+\d*' returned nan")
_SHOWN = 3  # Names of tensors.


def not_finite(maker: Maker, objective: Objective, theta: Tensor, parts: Sequence[Tensor]) -> NumericalError:
    """Return the error for a product that is not finite, with the names of the parameters.

    Args:
        maker: Makes the engine of the products for an objective.
        objective: Mean loss over data.
        theta: The weights, shape (P,).
        parts: The vector that was multiplied, in the shapes of the parameters.
    """
    for chunk in objective.alone().chunks():
        place = _Place(maker, objective, chunk, theta, parts)
        names = place.names()
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            where = ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
            operation = place.operation()
            cause = f" (first in the derivative of '{operation}')" if operation else ""
            return NumericalError(
                f"The second derivative of the loss is not finite at these weights: in {where}{cause}.", place.hint()
            )
    return NumericalError("The sum of the second derivatives is not finite.", "Try --dtype float64.")


class _Place(NamedTuple):
    """One chunk, the weights θ and a vector."""

    maker: Maker
    objective: Objective
    chunk: Chunk
    theta: Tensor
    parts: Sequence[Tensor]

    def names(self) -> list[str]:
        """Return the names of the parameters in which the product is not finite."""
        objective = self.objective
        with objective.arithmetic():
            graph = self.maker(objective).differentiate(self.chunk, objective.leaves(self.theta))
            product = graph.product(self.parts, keep=False)
        pairs = zip(objective.space.names, product, strict=True)
        return [name for name, part in pairs if not bool(torch.isfinite(part).all())]

    def operation(self) -> str:
        """Return the operation whose derivative gives the first NaN, or "" if torch does not name it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Torch warns that this mode is slow, and prints the line of the operation.
                with torch.autograd.set_detect_anomaly(True):
                    self.names()
        except RuntimeError as error:
            match = _OPERATION.search(str(error))
            return match[1].lower() if match else ""
        return ""

    def hint(self) -> str:
        """Return the hint: float64 helps only if the product is finite in it."""
        here = "look for a root, norm, logarithm or division at 0, or use --engine difference, which needs the gradient only"
        if self.objective.runtime.dtype == torch.float64 or self.objective.runtime.device.type == "mps":
            return f"More precision does not help: {here}."
        wide = self.objective.widened(self.chunk)
        double = [part.double() for part in self.parts]
        try:
            still = bool(
                self._replace(objective=wide, chunk=next(wide.chunks()), theta=self.theta.double(), parts=double).names()
            )
        except Exception:  # A model of the user may support one precision only.
            still = True
        return f"--dtype float64 does not help: {here}." if still else "It is finite in float64: add --dtype float64."
