"""The barrier between any two of several checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from sharpcli.render.labels import distinct
from sharpcli.results import PathResult


def barrier_matrix(results: Sequence[PathResult], split: str) -> tuple[list[str], list[list[float | None]]]:
    """Return the names of the checkpoints, and the matrix of barriers between them; None where a barrier is not known.

    Args:
        results: One result per pair of checkpoints.
        split: A split that every result has a curve of.
    """
    subjects = list({subject.path: subject for result in results for subject in (result.start, result.end)}.values())
    barriers = {
        frozenset((result.start.path, result.end.path)): next(curve.barrier for curve in result.curves if curve.split == split)
        for result in results
    }
    return distinct(subjects), [
        [barriers[frozenset((row.path, column.path))] if row is not column else 0.0 for column in subjects] for row in subjects
    ]
