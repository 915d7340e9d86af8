"""The Hessian of an objective as a symmetric operator: exact products by differentiating twice."""

from __future__ import annotations

from torch import Tensor

from sharpcli.chunks import Chunk
from sharpcli.curvature.double_backward import DoubleBackward
from sharpcli.curvature.engines import Engine, verify
from sharpcli.curvature.forward_over_reverse import ForwardOverReverse
from sharpcli.curvature.operator import CurvatureOperator, Graph
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective
from sharpcli.settings.base import require_choice
from sharpcli.settings.hessian import ENGINES


class HessianOperator(CurvatureOperator):
    """H(θ) = ∇²f(θ) as a map on vectors (P,), over all the data.

    Products go by double backward, or by another engine that has just agreed with it. Those of `quadratic_forms` always
    go by double backward, so that what verifies an eigenpair is not what found it.
    """

    method = DoubleBackward.words

    def __init__(
        self, objective: Objective, theta: Tensor, *, memory: int | None = None, engine: str = "auto", compiled: bool = False
    ) -> None:
        """Fix the point, and verify the engine.

        Args:
            objective: Mean loss over data.
            theta: Where to differentiate, shape (P,).
            memory: Bytes that kept graphs may take. Default: a share of what is free.
            engine: "double-backward", also known as "auto", or "forward-over-reverse", which falls back with a warning.
            compiled: Whether forward over reverse goes through torch.compile.

        Raises:
            SettingsError: There is no such engine, or it cannot be compiled.
        """
        require_choice("engine", engine, ENGINES)
        super().__init__(objective, theta, memory=memory)
        self._plain = DoubleBackward(objective)
        self._other: Engine | None = None
        self._verdict = ""
        if engine == "forward-over-reverse":
            self._use(ForwardOverReverse(objective, compiled=compiled))
        elif compiled:
            raise SettingsError("Double backward cannot be compiled.", "Use the engine forward-over-reverse.")

    @property
    def engine(self) -> str:
        """How products come about, in words, with what came of verification."""
        return f"{self._other.words}, {self._verdict}" if self._other else super().engine + self._verdict

    def _use(self, engine: Engine) -> None:
        """Take an engine for all further products if it agrees with double backward."""
        usable, reason = verify(engine, self._open, self.objective, self._theta)
        if usable:
            self._other, self._verdict = engine, reason
        else:
            self._verdict = f" ({engine.words} {reason})"

    def _differentiate(self, chunk: Chunk, leaves: dict[str, Tensor]) -> Graph:
        return self._plain.differentiate(chunk, leaves)

    def _product(self, chunk: Chunk, parts: list[Tensor]) -> Tensor:
        if self._other is None:
            return super()._product(chunk, parts)
        return self._flatten(self._other.differentiate(chunk, self.objective.leaves(self._theta)).product(parts, keep=False))
