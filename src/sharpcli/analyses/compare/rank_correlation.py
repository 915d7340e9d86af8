"""Do checkpoints with a larger measure have a larger gap? Kendall's rank correlation; no rescaling of a measure changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.stats import kendalltau

from sharpcli.results import RankCorrelation

LEAST = 5  # With four checkpoints even a perfect order has a p-value above 0.08.


def rank_correlations(measured: Mapping[str, Sequence[float | None]], gaps: Sequence[float]) -> tuple[RankCorrelation, ...]:
    """Return Kendall's τ-b of each measure with the gap, over the checkpoints for which it has a value.

    The p-value is that of independence, by permutations of up to about thirty checkpoints without ties, else by a normal
    approximation. It does not know the errors of the gaps, and checkpoints of one run are not independent.

    Args:
        measured: Values by name of the measure, one for each checkpoint; None where there is none.
        gaps: The generalization gap of each checkpoint.

    References:
        Kendall, A new measure of rank correlation, Biometrika 1938; used for measures of sharpness by Jiang et al., ICLR 2020.
    """
    found = []
    for name, values in measured.items():
        pairs = [
            (value, gap)
            for value, gap in zip(values, gaps, strict=True)
            if value is not None and math.isfinite(value) and math.isfinite(gap)
        ]
        if len(pairs) < LEAST:
            continue
        answer = kendalltau(*zip(*pairs, strict=True))
        if math.isfinite(answer.statistic):  # It is not if all values are equal.
            found.append(RankCorrelation(name, float(answer.statistic), float(answer.pvalue), len(pairs)))
    return tuple(found)
