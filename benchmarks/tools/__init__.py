"""The tools that are measured. One file is one tool, with

    solve(problem, k, seed, tuned) -> Answer        # k largest eigenvalues of a `Problem`, set-up included

Where its user has to guess a setting, a file of guesses/ finds the best one outside the clock. Everything runs with fused
attention off, for that has no second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Tuned = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Answer:
    """What a tool found.

    Attributes:
        values: Eigenvalues (K,) in any order.
        vectors: Eigenvectors in that order, each (P,) or in the shapes of the parameters; None if the tool returns none.
        products: Hessian-vector products it made, all of them.
        settings: How it was called, in words.
        which: "LA", the largest, or "LM", the largest in magnitude, where a tool looks for those: it is judged by them.
    """

    values: Tensor
    vectors: Sequence[Tensor | Sequence[Tensor]] | Tensor | None
    products: int
    settings: str
    which: str = "LA"
