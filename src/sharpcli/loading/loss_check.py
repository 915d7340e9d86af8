"""Comparison of the loss of a loaded checkpoint with the stored loss, and warnings about losses without a useful curvature."""

from __future__ import annotations

import math

from sharpcli import progress
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import NumericalError
from sharpcli.loading.checkpoint import LoadedCheckpoint
from sharpcli.loading.recorded import recorded_loss
from sharpcli.objective import Evaluation, Objective
from sharpcli.plausibility import implausible

_AGREEMENT = 1e-3  # Largest relative difference between a stored loss and a computed loss that agree.
_TINY = 1e-7  # Loss in float64 below which intervals were too narrow in tests.


def check_loss(
    loaded: LoadedCheckpoint, objective: Objective, evaluation: Evaluation, split: str, *, comparable: bool = True
) -> None:
    """Compare the loss with the loss that the checkpoint stores, and warn if results may be wrong or have no meaning.

    Warnings are given if the two losses differ, if the loss is 0 or so small that its digits are lost, and if a trained model
    is not better than the best constant prediction.

    Args:
        loaded: The checkpoint.
        objective: The mean loss over the split.
        evaluation: Loss and accuracy at the weights of the checkpoint.
        split: Name of the split.
        comparable: Whether the loss was computed with the BatchNorm statistics of the file, as the stored loss was. It has
            no effect for a model without BatchNorm.

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
    if loaded.checkpoint.metadata.get("step") != 0:  # Untrained weights are not better than a constant prediction.
        doubt = implausible(objective, evaluation, as_stored=same)
        if doubt:
            progress.warn(f"{loaded.checkpoint.path}: on the {split} split {doubt} (inputs {loaded.data.preprocessing}).")


def stored_loss(loaded: LoadedCheckpoint, split: str, num_samples: int) -> float | None:
    """Return the stored loss of a split; None if there is none, or if it is for another loss or number of samples."""
    metadata = loaded.checkpoint.metadata
    data = metadata.get("data", {})
    same_loss = "loss" in metadata and recorded_loss(loaded.checkpoint) == loaded.loss
    same = same_loss and data.get(f"num_{split}") == num_samples
    return metadata.get("final", {}).get(f"{split}_loss") if same else None


def losses_agree(stored: float, measured: float) -> bool:
    """Return whether a stored and a computed loss agree, up to the effect of another device or number of threads."""
    return abs(stored - measured) <= _AGREEMENT * max(abs(stored), 1e-3)
