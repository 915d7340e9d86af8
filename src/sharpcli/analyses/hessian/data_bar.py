"""The uncertainty of the first eigenvalue that comes from the choice of samples."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from sharpcli import processes, progress
from sharpcli.analyses.partial_results import reason, release_memory
from sharpcli.curvature.operator import CurvatureOperator, GroupedProduct
from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.loading import LoadedCheckpoint
from sharpcli.objective import Objective
from sharpcli.results import DataBar
from sharpcli.settings import HessianSettings

_GROUPS = 40
_LEAST = 4  # Minimum number of groups for a useful standard error.
_MARGIN = 2  # Number of standard errors by which the bracket is wider than the two quotients, at each end.


class DataBarMeter:
    """Verifies the first eigenpair with a product summed over random groups of samples, and stores the part of each group."""

    def __init__(self, loaded: LoadedCheckpoint, operator: CurvatureOperator, settings: HessianSettings) -> None:
        self._loaded, self._operator, self._settings = loaded, operator, settings
        self._seen: GroupedProduct | None = None

    def measure(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (P,); the sum over groups is the same matrix, with another order of summation."""
        self._seen = self._operator.quadratic_forms(vector, groups=_GROUPS, seed=self._settings.seed)
        return self._seen.product

    def bar(self, pairs: Eigenpairs) -> DataBar | None:
        """Return the error bar, with a bracket if only a part of the split was analysed; None if there are too few groups.

        Let s be the analysed fraction of the split, and v the top eigenvector of this part. The Rayleigh quotient of the entire
        split at v is s·vᵀHv on the part plus (1-s)·vᵀHv on the rest, and λmax of the entire split is not below it. On average,
        λmax of a part is not below λmax of the entire split, because λmax is convex (Granziol, Zohren and Roberts 2022, JMLR
        23). The bracket is made from both bounds, each moved outwards by 2 standard errors.
        """
        if self._seen is None or len(self._seen.forms) < _LEAST:
            return None
        inside, inside_error = self._seen.mean()
        alone = DataBar(standard_error=inside_error, groups=len(self._seen.forms))
        try:
            held_out = self._held_out(pairs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # The model may raise any error, and the other results must not be lost.
            progress.warn(f"The held-out samples are not measured: {reason(error)}")
            release_memory(error, self._loaded.runtime)
            processes.current().abandon(reason(error))
            return alone
        if held_out is None:
            return alone
        objective, share, seen = held_out
        outside, outside_error = seen.mean()
        if len(seen.forms) < 2:
            return replace(alone, held_out=outside, held_out_samples=objective.num_samples)
        # The smallest eigenvalue is the largest of the negated matrix.
        sign = 1 if pairs.ranks[0] > 0 and (pairs.wanted.which != "LM" or inside > 0) else -1
        inner = sign * (share * inside + (1 - share) * outside) - _MARGIN * (1 - share) * outside_error
        outer = max(sign * inside, sign * outside) + _MARGIN * math.sqrt(1 - share) * inside_error
        ends = sorted((sign * min(inner, sign * outside), sign * outer))
        return replace(
            alone,
            held_out=outside,
            held_out_standard_error=outside_error,
            held_out_samples=objective.num_samples,
            bracket=(ends[0], ends[1]),
        )

    def _held_out(self, pairs: Eigenpairs) -> tuple[Objective, float, GroupedProduct] | None:
        """Return the objective on held-out samples, the analysed fraction, and the product there; None without such samples."""
        held_out = self._loaded.held_out(least=_LEAST, **self._settings.matrix())
        if held_out is None:
            return None
        objective, share = held_out
        own = self._operator
        operator = operator_of(self._settings.operator, objective, own.objective.parameters(), memory=0, scale=own.scale)
        return objective, share, operator.quadratic_forms(pairs.vectors[0], groups=_GROUPS, seed=self._settings.seed)
