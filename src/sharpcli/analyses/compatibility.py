"""Checks whether two checkpoints can be on one path or in one plane: they need the same model, loss and data."""

from __future__ import annotations

import torch

from sharpcli.errors import InputError
from sharpcli.inputs import select
from sharpcli.loading import LoadedCheckpoint, output_difference
from sharpcli.modules import private_copy

_SAMPLES = 64
_OF_BATCH_NORM = ("running_mean", "running_var", "num_batches_tracked")
_AGREEMENT = 1e-5  # Relative to the largest output.


def require_compatible(first: LoadedCheckpoint, second: LoadedCheckpoint) -> None:
    """Refuse two checkpoints between which the loss is not defined: they need the same model, loss and data.

    Raises:
        InputError: Tensors differ in name or shape, or the models, losses or data differ.
    """
    names = f"{first.checkpoint.address} and {second.checkpoint.address}"
    ours, theirs = ({name: tensor.shape for name, tensor in loaded.model.state_dict().items()} for loaded in (first, second))
    for name in (*ours, *theirs):
        if ours.get(name) != theirs.get(name):
            raise InputError(f"{names} are of different architectures: '{name}' differs.", "Name checkpoints of one model.")
    if first.loss != second.loss:
        raise InputError(f"{names} were trained on different losses: {first.loss} and {second.loss}.", "Give one with --loss.")
    if first.data.fingerprint() != second.data.fingerprint():
        raise InputError(f"{names} were trained on different data.", "Give the data to measure on with --data.")
    in_other = private_copy(first.model)
    in_other.load_state_dict(second.model.state_dict())
    inputs = select(first.data.train.inputs, slice(_SAMPLES))
    if not output_difference(in_other, second.model, inputs) <= _AGREEMENT:
        raise InputError(
            f"{names} have the same tensors, but their models differ: the same weights give different outputs.",
            "Give checkpoints of one model, with the same activations and arguments.",
        )


def different_constants(first: LoadedCheckpoint, second: LoadedCheckpoint) -> list[str]:
    """Return the names of frozen parameters and buffers in which two checkpoints differ, except BatchNorm statistics.

    A path or a plane contains trainable parameters only; the caller must handle the other tensors that differ.
    """
    trained = {name for name, part in first.model.named_parameters(remove_duplicate=False) if part.requires_grad}
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    kept = [name for name in ours if name not in trained and name.rpartition(".")[2] not in _OF_BATCH_NORM]
    return [name for name in kept if isinstance(ours[name], torch.Tensor) and not torch.equal(ours[name], theirs[name])]
