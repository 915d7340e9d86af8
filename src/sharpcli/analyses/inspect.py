"""What is in a checkpoint file, and whether it can be analysed."""

from __future__ import annotations

from pathlib import Path

import torch

from sharpcli import checkpoints
from sharpcli.analyses._account import account
from sharpcli.analyses._opening import Opened, agree, assemble, describe, load_data
from sharpcli.checkpoints import Checkpoint
from sharpcli.errors import SharpcliError
from sharpcli.results import Check, InspectResult
from sharpcli.settings import InspectSettings, chosen

_OPTIONAL = "initial weights"


def inspect(checkpoint: str | Path, settings: InspectSettings | None = None, **options: object) -> InspectResult:
    """Open a file safely, list what it holds, and try what an analysis would try.

    Args:
        checkpoint: File, or run folder.
        settings: Model and data to check against; by default the checkpoint's own.
        **options: Its fields, in place of settings.

    Returns:
        Tensors, metadata and a list of checks; `analysable` is whether all that could be asked passed.

    Raises:
        InputError: The file cannot be opened at all.
    """
    settings = chosen(InspectSettings, settings, options)
    with account(settings) as book:
        read = checkpoints.read(checkpoint)
        checks = _checks(read, settings)
        return InspectResult(
            checkpoint=describe(read),
            container=read.container,
            num_tensors=len(read.state),
            num_parameters=sum(read.state[name].numel() for name in read.parameter_names()),
            dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in read.state.values()})),
            tensors=tuple((name, tuple(tensor.shape)) for name, tensor in read.state.items()),
            metadata=read.metadata,
            checks=checks,
            analysable=all(check.passed for check in checks if check.name != _OPTIONAL),
            **book.entries(),
        )


def _checks(read: Checkpoint, settings: InspectSettings) -> tuple[Check, ...]:
    """Ask one question after the other; those that rest on a failed one are not asked."""
    finite = all(bool(torch.isfinite(part).all()) for part in read.state.values() if part.is_floating_point())
    checks = [Check(name="weights are finite", passed=finite, detail="" if finite else "NaN or infinity found")]
    try:
        data = load_data(read, settings)
        counts = ", ".join(f"{len(part)} {name}" for name, part in data.parts().items())
        checks.append(Check(name="data load", passed=True, detail=f"{counts}; inputs {data.preprocessing}"))
        opened = assemble(read, data, settings)
        checks.append(Check(name="weights fit the model", passed=True, detail=f"{len(read.state)} tensors match"))
        if finite:
            checks += _evaluated(opened)
    except SharpcliError as error:
        name = ("data load", "weights fit the model", "loss")[min(len(checks) - 1, 2)]
        checks.append(Check(name=name, passed=False, detail=f"{error.message} {error.hint}"))
    return (*checks, _initial(read))


def _evaluated(opened: Opened) -> list[Check]:
    """Recompute both losses and hold them against the stored ones."""
    found = []
    for split in opened.data.parts():
        objective = opened.objective(split)
        evaluation = objective.evaluate(objective.parameters())
        accuracy = "" if evaluation.accuracy is None else f", accuracy {evaluation.accuracy:.4f}"
        stored = opened.stored_loss(split, evaluation.num_samples) if opened.settings.data is None else None
        detail = f"loss {evaluation.loss:.6g}{accuracy}"
        agrees = True
        if stored is not None:
            agrees = agree(stored, evaluation.loss)
            detail += ", as stored" if agrees else f", but stored {stored:.6g}"
        found.append(Check(name=f"{split} loss", passed=agrees, detail=detail))
    return found


def _initial(read: Checkpoint) -> Check:
    """Look for the initial weights; without them only the distance cannot be measured."""
    try:
        return Check(name=_OPTIONAL, passed=True, detail=str(checkpoints.initial_weights(read).path))
    except SharpcliError as error:
        return Check(name=_OPTIONAL, passed=None if "init" not in read.metadata else False, detail=error.message)
