"""The contents of a checkpoint file, and whether it can be analysed."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch

from sharpcli import checkpoints, progress
from sharpcli.analyses.inspect.cost import hessian_cost
from sharpcli.analyses.inspect.expected import check_expected
from sharpcli.analyses.provenance import recording
from sharpcli.checkpoints import Checkpoint, Parts
from sharpcli.errors import NumericalError, SharpcliError
from sharpcli.inputs import described_shapes
from sharpcli.loading import (
    LoadedCheckpoint,
    load_data,
    losses_agree,
    named_model,
    rebuild,
    require_path,
    stored_loss,
    subject_of,
)
from sharpcli.plausibility import implausible
from sharpcli.preconditions import require_function
from sharpcli.results import Check, HessianCost, InspectResult, RunRow, RunsResult
from sharpcli.settings import InspectSettings, chosen
from sharpcli.settings.options import InspectOptions

_OPTIONAL = "initial weights"
_FITS = "weights fit the model"


def inspect(
    checkpoint: str | Path, settings: InspectSettings | None = None, **options: Unpack[InspectOptions]
) -> InspectResult | RunsResult:
    """Open a file safely, list its contents, and do the checks that an analysis would do.

    Args:
        checkpoint: File, run folder, or a folder that contains runs.
        settings: Model, data and loss to check with. Default: those that the file records.
        **options: Fields of the settings, instead of `settings`.

    Returns:
        Tensors, metadata and a list of checks; `analysable` says whether all checks passed, apart from the check of the initial
        weights. For a folder of runs or an unfinished run: each run with its state and the checkpoint or command to use.

    Raises:
        InputError: The file cannot be read. A check that fails raises no error.
    """
    settings = chosen(InspectSettings, settings, options)
    require_path(checkpoint)
    run = checkpoints.run_in(checkpoint)
    listed = list(checkpoints.runs_below(checkpoint)) if run is None else [] if run.state == "finished" else [run.folder]
    with recording(settings) as record:
        if listed:
            rows = (checkpoints.run_in(folder) for folder in progress.each("run", listed))
            return RunsResult(folder=str(checkpoint), rows=tuple(_run_row(row) for row in rows if row), **record.fields())
        read = checkpoints.read(checkpoint, settings.weights, ignore=settings.ignore_keys, allow_pickle=settings.allow_pickle)
        parts, checks, cost = _looked_into(read, settings)
        return InspectResult(
            checkpoint=subject_of(read),
            container=read.container,
            num_tensors=len(read.state),
            num_parameters=parts.num_parameters,
            known_by=parts.known_by,
            ties=parts.ties,
            buffers=parts.buffers,
            left_out=parts.left_out,
            dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in read.state.values()})),
            tensors=tuple((name, tuple(tensor.shape)) for name, tensor in read.state.items()),
            metadata=read.metadata,
            checks=checks,
            run=None if run is None else _run_row(run),
            analysable=all(check.passed for check in checks if check.name != _OPTIONAL),
            cost=cost,
            **record.fields(),
        )


def _run_row(run: checkpoints.RunFolder) -> RunRow:
    return RunRow(
        folder=str(run.folder),
        state=run.state,
        step=run.step,
        steps=run.steps,
        stopped_by=run.stopped_by,
        sentence=run.sentence(),
        checkpoint=None if run.weights is None else str(run.weights),
        checkpoint_step=run.weights_step,
        go_on=run.go_on,
    )


def _looked_into(read: Checkpoint, settings: InspectSettings) -> tuple[Parts, tuple[Check, ...], HessianCost | None]:
    """Do the checks in order, then estimate the cost; a check is skipped if it depends on a check that failed."""
    loaded: LoadedCheckpoint | None = None
    cost: HessianCost | None = None
    checks: list[Check] = []
    try:
        data = load_data(read, settings)
        counts = ", ".join(f"{len(part)} {name}" for name, part in data.parts().items())
        checks.append(Check(name="data load", passed=True, detail=f"{counts}; inputs {data.preprocessing}"))
        loaded = rebuild(read, data, settings)
        checks.append(Check(name=_FITS, passed=True, detail=f"{len(read.state)} tensors match"))
    except SharpcliError as error:
        name = ("data load", _FITS)[len(checks)]
        checks.append(Check(name=name, passed=False, detail=error.sentences()))
    parts = checkpoints.parts(read, loaded.model) if loaded else _without_data(read, settings, checks)
    if parts.guess is not None:
        progress.warn(parts.guess)
    finite = _finite(read, parts, loaded)
    measured: dict[str, float | None] = {}
    if loaded is not None and finite.passed:
        try:
            checks += _evaluated(loaded, measured)
            cost = hessian_cost(loaded.objective())
        except SharpcliError as error:
            checks.append(Check(name="derivatives" if measured else "loss", passed=False, detail=error.sentences()))
    checks += check_expected(settings.expected(), measured)
    return parts, (finite, *checks, _initial(read)), cost


def _without_data(read: Checkpoint, settings: InspectSettings, checks: list[Check]) -> Parts:
    """Identify the parameters by the model in the settings if it can be built and fits, else by the file alone."""
    if settings.model is None or any(check.name == _FITS for check in checks):
        return checkpoints.parts(read)
    try:
        parts = checkpoints.parts(read, named_model(read, settings))
        checks.append(Check(name=_FITS, passed=True, detail=f"{len(read.state)} tensors match"))
    except SharpcliError as error:
        checks.append(Check(name=_FITS, passed=False, detail=error.sentences()))
        parts = checkpoints.parts(read)
    return parts


def _finite(read: Checkpoint, parts: Parts, loaded: LoadedCheckpoint | None) -> Check:
    try:
        if loaded is not None:
            checkpoints.require_finite(loaded.model, read.path)
        else:
            parts.require_finite(read.path)
    except NumericalError as error:
        return Check(name="weights are finite", passed=False, detail=f"NaN or infinity found: {error.message}")
    return Check(name="weights are finite", passed=True, detail="")


def _evaluated(loaded: LoadedCheckpoint, measured: dict[str, float | None]) -> list[Check]:
    """Require that the model is a function, recompute the loss of each split, and compare it with the stored loss.

    Args:
        loaded: The checkpoint.
        measured: A dict to which losses and accuracies are added, by name.
    """
    require_function(loaded.model, loaded.data.train.inputs, loaded.runtime)
    checks = [_batch(loaded)]
    for split in loaded.data.parts():
        objective = loaded.objective(split)
        evaluation = objective.evaluate(objective.parameters())
        measured |= {f"{split}_loss": evaluation.loss, f"{split}_accuracy": evaluation.accuracy}
        accuracy = "" if evaluation.accuracy is None else f", accuracy {evaluation.accuracy:.4f}"
        stored = stored_loss(loaded, split, evaluation.num_samples) if loaded.settings.data is None else None
        detail = f"loss {evaluation.loss:.6g}{accuracy}"
        agrees = True
        if stored is not None:
            agrees = losses_agree(stored, evaluation.loss)
            detail += ", as stored" if agrees else f", but stored {stored:.6g}"
        doubt = implausible(objective, evaluation, as_stored=stored is not None and agrees)
        if doubt:
            progress.warn(f"{loaded.checkpoint.path}: on the {split} split {doubt}.")
        checks.append(Check(name=f"{split} loss", passed=agrees, detail=detail))
    return checks


def _batch(loaded: LoadedCheckpoint) -> Check:
    """Return a check that lists the shapes of inputs, outputs and targets of one sample."""
    objective = loaded.objective()
    few = objective.few()
    shapes = f"{described_shapes(few.inputs)} → "
    if not objective.loss_is_code:
        with torch.no_grad():
            outputs = objective.outputs(objective.space.split(objective.parameters()), few.inputs, {})
        shapes += f"outputs {tuple(outputs.shape[1:])}, "
    shapes += f"targets {tuple(few.targets.shape[1:]) or 'one number'}, {str(few.targets.dtype).removeprefix('torch.')}"
    return Check(name="one sample", passed=True, detail=f"inputs {shapes}; loss {objective.loss_name}")


def _initial(read: Checkpoint) -> Check:
    """Check whether the initial weights exist; only the distance needs them."""
    try:
        return Check(name=_OPTIONAL, passed=True, detail=str(checkpoints.initial_weights(read).path))
    except SharpcliError as error:
        return Check(name=_OPTIONAL, passed=None if "init" not in read.metadata else False, detail=error.message)
