"""Measures run one by one; those that cannot be computed for a model are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from sharpcli import progress
from sharpcli.analyses.partial_results import run_each
from sharpcli.measures.critical_sharpness import Update
from sharpcli.named_measures import RequestedMeasure, label_of, requested_measures
from sharpcli.objective import Objective
from sharpcli.results import Reading
from sharpcli.settings.losses import unit_logits

__all__ = ["RequestedMeasure", "applicable_measures", "readings", "requested_measures"]


def readings(
    measures: Sequence[RequestedMeasure], objective: Objective, theta: Tensor, *, seed: int, update: Update | None = None
) -> tuple[Reading, ...]:
    """Run measures one after the other, and warn about those that failed; the arguments are those of a measure.

    Raises:
        IncompleteError: A measure has raised an error; the IncompleteError holds the readings before it.
    """
    with progress.task("measure", total=len(measures)) as shown:

        def read(one: RequestedMeasure) -> Reading:
            reading = one.read(objective, theta, seed, update)
            shown.advance(1)
            return replace(reading, label=label_of(one, reading))

        results = run_each([partial(read, one) for one in measures])
    failed = [reading.measure for reading in results if reading.value is None]
    if failed:
        progress.warn(f"{len(failed)} of {len(results)} measurements failed: {', '.join(failed)}.")
    return tuple(results)


def applicable_measures(measures: Sequence[RequestedMeasure], objective: Objective) -> list[RequestedMeasure]:
    """Leave out variants of "all" that cannot be computed for this model and loss, each with a warning that says why."""
    kept = []
    for one in measures:
        why = _obstacle(one, objective)
        if why:
            progress.warn(f"{one.label} is left out: {why}.")
        else:
            kept.append(one)
    return kept


def _obstacle(one: RequestedMeasure, objective: Objective) -> str:
    """Return why a measure cannot be computed; "" if it can."""
    loss = objective.loss_name
    if one.options.get("subspace", 0) > objective.space.dimension:
        return f"the model has only {objective.space.dimension} parameters"
    if one.name == "logit-normalised" and unit_logits(loss) is None:
        return f"it needs cross-entropy without smoothing, and the loss is {loss}"
    if one.name == "fisher-rao" and not objective.criterion.has_plain_terms:
        return f"it needs a plain mean over loss terms, and the loss is {loss}"
    return ""
