"""The loss of a loaded checkpoint, held to the stored one; warnings of a loss that makes numbers meaningless."""

from __future__ import annotations

import math

from sharpcli import progress
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import NumericalError
from sharpcli.loading.checkpoint import LoadedCheckpoint
from sharpcli.loading.recorded import recorded_loss
from sharpcli.objective import Evaluation, Objective
from sharpcli.plausibility import implausible

_AGREEMENT = 1e-3  # Relative.
_TINY = 1e-7  # In float64: below it intervals were seen to be too narrow.


def check_loss(
    loaded: LoadedCheckpoint, objective: Objective, evaluation: Evaluation, split: str, *, comparable: bool = True
) -> None:
    """Check the loss against the one stored when the checkpoint was made; warn of what makes numbers meaningless.

    Args:
        loaded: The checkpoint.
        objective: Its mean loss over the split.
        evaluation: The loss at the weights of the file.
        split: Name of the split.
        comparable: Whether it was measured as the stored one was, with the BatchNorm statistics of the file.

    Raises:
        NumericalError: The loss is not finite.
    """
    if not math.isfinite(evaluation.loss):
        raise NumericalError(
            f"The {split} loss of {loaded.checkpoint.path} is not finite.", "Check the data, or try --dtype float64."
        )
    stored = stored_loss(loaded, split, evaluation.num_samples)
    comparable = comparable or not batch_norms(loaded.model)
    same = comparable and stored is not None and losses_agree(stored, evaluation.loss)
    if comparable and stored is not None and not same:
        progress.warn(
            f"The {split} loss stored in {loaded.checkpoint.path} is {stored:.6g}, but the loss computed here is "
            f"{evaluation.loss:.6g}: the model, the data or the loss differ from those of its training."
        )
    if evaluation.loss == 0:
        progress.warn(f"The {split} loss is exactly 0 in {loaded.settings.dtype}; its curvature has no meaning.")
    elif evaluation.loss < _TINY and loaded.settings.dtype == "float64":
        progress.warn(
            f"The {split} loss is {evaluation.loss:.2g}: the probabilities have lost digits in float64. No wider type can "
            "measure this rounding error, so intervals may be too narrow."
        )
    if loaded.checkpoint.metadata.get("step") != 0:  # Initial weights have learned nothing.
        doubt = implausible(objective, evaluation, as_stored=same)
        if doubt:
            progress.warn(f"{loaded.checkpoint.path}: on the {split} split {doubt} (inputs {loaded.data.preprocessing}).")


def stored_loss(loaded: LoadedCheckpoint, split: str, num_samples: int) -> float | None:
    """Return the loss the checkpoint was stored with, if it is of the same loss function and as many samples."""
    metadata = loaded.checkpoint.metadata
    data = metadata.get("data", {})
    same_loss = "loss" in metadata and recorded_loss(loaded.checkpoint) == loaded.loss
    same = same_loss and data.get(f"num_{split}") == num_samples
    return metadata.get("final", {}).get(f"{split}_loss") if same else None


def losses_agree(stored: float, measured: float) -> bool:
    """Return whether a loss is the one a checkpoint has stored, up to another device or number of threads."""
    return abs(stored - measured) <= _AGREEMENT * max(abs(stored), 1e-3)
