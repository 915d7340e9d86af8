"""Comparison of several checkpoints: is sharpness related to the generalization gap?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Unpack

from torch import Tensor, nn

from sharpcli import progress
from sharpcli.analyses.columns import columns_of
from sharpcli.analyses.compare.rank_correlation import rank_correlations
from sharpcli.analyses.hessian import planner_for
from sharpcli.analyses.partial_results import run_each
from sharpcli.analyses.provenance import AnswerRecord, recording
from sharpcli.analyses.sharpness.measuring import requested_measures
from sharpcli.checkpoints import Checkpoint
from sharpcli.curvature.planner import Planner
from sharpcli.errors import IncompleteError, SettingsError
from sharpcli.loading import (
    LoadedCheckpoint,
    Place,
    check_loss,
    checkpoint_paths,
    live_or_files,
    load_checkpoint,
    weights_in_memory,
)
from sharpcli.models.output import chosen_output
from sharpcli.objective import Evaluation
from sharpcli.results import CompareResult, CompareRow
from sharpcli.runtime import Runtime
from sharpcli.settings import CompareSettings, HessianSettings, chosen
from sharpcli.settings.options import CompareOptions

_PARTS = {"open": 1.0, "plan": 2.0, "search": 12.0, "verify": 1.0, "ε-sharpness draw": 30.0}  # Work in products.
_LOSS_RATIO = 2.0  # Train losses that differ by more than this are not comparable: curvature decreases with the loss.


def compare(
    checkpoints: Sequence[str | Path | nn.Module] | Mapping[str, nn.Module],
    data: object = None,
    *,
    init: str | Path | nn.Module | Mapping[str, Tensor] | None = None,
    settings: CompareSettings | None = None,
    **options: Unpack[CompareOptions],
) -> CompareResult:
    """Measure losses, gap, λmax, φ and distance of every checkpoint.

    The generalization gap is test loss minus train loss; its standard error is that of a difference of
    two independent means over samples. λmax and φ are computed as by `hessian` with `topk=1`, and by
    `sharpness` in the full space; settings that `compare` does not have are the defaults. From five checkpoints on, the rank
    correlation of each measure with the gap is given.

    Args:
        checkpoints: A list of files, run folders or models in memory, or a mapping from names in the result to models.
        data: For models in memory, or the name of a data set; see `hessian`.
        init: Initial weights for the distance: a file, a model, or a state dict. Default: those that each file records.
        settings: Settings of the comparison.
        **options: Fields of the settings, instead of `settings`.

    Returns:
        One row for each checkpoint, in order. A warning is given if the train losses differ by more than a factor of two.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`.
        IncompleteError: A checkpoint has failed; the error holds the result for the checkpoints before it.
    """
    named: dict[str, object] = {**options}
    if isinstance(init, str | Path):
        named["init"], init = str(init), None
    places, given = live_or_files(checkpoints, data, named)
    settings = chosen(CompareSettings, settings, given)
    start = None if init is None else weights_in_memory(init)
    if not places:
        raise SettingsError("There is nothing to compare.", "Name one or more checkpoints.")
    requested_measures(settings.measure)  # An unknown one is refused before the work.
    with recording(settings) as record:
        planner = planner_for(HessianSettings(chunk_size=settings.chunk_size))

        def measured(place: Place) -> _Measured:
            with progress.task("comparison", parts=_PARTS):
                loaded = load_checkpoint(place, settings)
                row, size = _row(loaded, settings, planner, start)
            return _Measured(row, size, (loaded.loss, loaded.data.fingerprint()), loaded.runtime)

        try:
            measurements = run_each([partial(measured, place) for place in checkpoint_paths(places)], "checkpoint")
        except IncompleteError as error:
            raise IncompleteError([_result(error.results, settings, record)], error.cause) from error
        return _result(measurements, settings, record)


class _Measured(NamedTuple):
    """One checkpoint: its row, the numbers of train and test samples, its loss and data, and the runtime."""

    row: CompareRow
    size: tuple[int, int]
    of: tuple[str, str]
    runtime: Runtime


def _result(measurements: Sequence[_Measured], settings: CompareSettings, record: AnswerRecord) -> CompareResult:
    """Return the result for the measured checkpoints, with warnings if they cannot be compared."""
    rows, sizes = [one.row for one in measurements], {one.size for one in measurements}
    if len({one.of for one in measurements}) > 1:
        progress.warn(
            "The checkpoints are measured on different data or with different losses, so the rows cannot be compared: give "
            "--data and --loss."
        )
    if len({row.checkpoint.sha256 for row in rows}) < len(rows):
        progress.warn("Some of the checkpoints contain the same weights.")
    losses = [row.train_loss for row in rows]
    if max(losses) > _LOSS_RATIO * min(losses):
        progress.warn(
            f"The train losses differ by more than a factor of {_LOSS_RATIO:g} ({min(losses):.3g} to {max(losses):.3g}): λmax "
            "decreases with the loss, so compare sharpness at equal loss (train --stop-train-loss)."
        )
    return CompareResult(
        rows=tuple(rows),
        epsilon=settings.epsilon,
        num_train=measurements[-1].size[0] if len(sizes) == 1 else None,
        num_test=measurements[-1].size[1] if len(sizes) == 1 else None,
        correlations=rank_correlations(_by_measure(rows), [row.gap for row in rows]),
        **record.fields(measurements[-1].runtime),
    )


def _by_measure(rows: Sequence[CompareRow]) -> dict[str, list[float | None]]:
    """Return the values of each measure, one for each row."""
    values: dict[str, list[float | None]] = {
        "λmax": [row.lambda_max for row in rows],
        "φ": [row.phi for row in rows],
        "distance": [row.distance for row in rows],
    }
    for label in dict.fromkeys(reading.label for row in rows for reading in row.readings):
        known = [{reading.label: reading.value for reading in row.readings} for row in rows]
        values[label] = [one.get(label) for one in known]
    return values


def _row(
    loaded: LoadedCheckpoint, settings: CompareSettings, planner: Planner, start: Checkpoint | None
) -> tuple[CompareRow, tuple[int, int]]:
    objectives = {split: loaded.objective(split) for split in ("train", "test")}
    theta = objectives["train"].parameters()
    train, test = (objectives[split].evaluate(theta) for split in ("train", "test"))
    check_loss(loaded, objectives["train"], train, "train")
    check_loss(loaded, objectives["test"], test, "test")
    columns = columns_of(loaded, objectives[settings.split], settings, planner, start=start)
    subject, unit = loaded.subject(), objectives["train"].unit()
    accuracy_gap, accuracy_error = _accuracy_gap(train, test)
    row = CompareRow(
        checkpoint=subject,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        test_loss=test.loss,
        test_accuracy=test.accuracy,
        gap=test.loss - train.loss,
        gap_standard_error=math.hypot(train.loss_standard_error, test.loss_standard_error),
        accuracy_gap=accuracy_gap,
        accuracy_gap_standard_error=accuracy_error,
        batch_size=subject.batch_size,
        updates=subject.step,
        loss_function=objectives["train"].loss_name,
        loss_unit=unit["loss_unit"],
        terms_per_sample=unit["terms_per_sample"],
        output=chosen_output(loaded.model),
        preprocessing=loaded.data.preprocessing,
        readings=columns.readings,
        notes=columns.notes,
        **columns.numbers,
    )
    return row, (train.num_samples, test.num_samples)


def _accuracy_gap(train: Evaluation, test: Evaluation) -> tuple[float | None, float | None]:
    """Return train minus test accuracy with the standard error of the difference."""
    if train.accuracy is None or test.accuracy is None:
        return None, None
    error = math.hypot(train.accuracy_standard_error or 0, test.accuracy_standard_error or 0)
    return train.accuracy - test.accuracy, error
