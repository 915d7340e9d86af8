"""Settings of `sharpness`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.errors import SettingsError
from sharpcli.settings.base import AnalysisSettings, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class SharpnessSettings(AnalysisSettings):
    """Which measures of sharpness to compute; by default Keskar's ε-sharpness in the given boxes."""

    measure: tuple[str, ...] = option(
        (), "Measure with its options, NAME[:OPTION=VALUE,...], or all. Repeat for several.", "NAME[:...]"
    )
    list: bool = option(False, "List all measures with definition, invariances, cost and paper, and exit.")
    epsilon: tuple[float, ...] = option((1e-3, 5e-4), "Box sizes ε, separated by commas.", "E[,E]")
    subspace: tuple[int, ...] = option(
        (0, 100), "Dimensions p of the random subspaces, separated by commas; 0 is the full space.", "P[,P]"
    )
    iterations: int = option(10, "Iterations per L-BFGS-B solve (10 in the paper).", "N")
    restarts: int = option(2, "Random starts for L-BFGS-B, and as many for sign ascent; the largest result counts.", "N")
    eigenvector: bool = option(
        False, "Add one L-BFGS-B solve in full space that starts along the top eigenvector of the Hessian."
    )
    draws: int = option(3, "Random subspaces per dimension; φ is the mean over them.", "N")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("epsilon", self.epsilon), ("subspace", self.subspace)):
            if not values:
                raise SettingsError(f"--{name} is empty.", f"Give --{name} at least one value.")
            if len(set(values)) < len(values):
                raise SettingsError(f"--{name} contains the same value twice.", "Give each value once.")
        for value in self.epsilon:
            require_at_least("epsilon", value, 0, strictly=True)
        for dimension in self.subspace:
            require_at_least("subspace", dimension, 0)
        require_at_least("iterations", self.iterations, 1)
        require_at_least("restarts", self.restarts, 1)
        require_at_least("draws", self.draws, 1)
        for name in ("epsilon", "subspace", "iterations", "restarts", "eigenvector", "draws"):
            if self.measure and getattr(self, name) != getattr(SharpnessSettings, name):
                raise SettingsError(
                    f"--{name} has no effect on --measure.",
                    f"Give it as an option of the measure, as in --measure epsilon-sharpness:{name}=...",
                )
