"""The Hessian of an objective as a symmetric operator: exact products by differentiating twice."""

from __future__ import annotations

from dataclasses import replace

from sharpcli.curvature.difference import Difference, GradientDifferences
from sharpcli.curvature.double_backward import DoubleBackward
from sharpcli.curvature.engine import Engine
from sharpcli.curvature.forward_over_reverse import ForwardOverReverse
from sharpcli.curvature.linearized import Linearized
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.errors import SettingsError
from sharpcli.objective import Objective


class HessianOperator(CurvatureOperator):
    """H(θ) = ∇²f(θ) as a map on vectors (P,), over all the data.

    Engines: "double-backward", "fused" (the same with fused kernels), "linearize", "forward-over-reverse", "difference".
    """

    engines = ("double-backward", "fused", "linearize", "forward-over-reverse", "difference")

    @classmethod
    def make(cls, engine: str, objective: Objective, *, compiled: bool = False) -> Engine:
        """Return an engine by name for an objective.

        Raises:
            SettingsError: The engine cannot be compiled.
        """
        if engine == "linearize":
            return Linearized(objective, compiled=compiled)
        if engine == "forward-over-reverse":
            return ForwardOverReverse(objective, compiled=compiled)
        if engine == "difference":
            return Difference(objective, GradientDifferences())
        if compiled:
            raise SettingsError("Double backward cannot be compiled.", "Use the engine linearize or forward-over-reverse.")
        return DoubleBackward(replace(objective, fused=engine == "fused"))
