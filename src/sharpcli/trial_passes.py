"""Passes of a few samples before the main work: they show whether model and data fit, and the memory of a pass."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpcli import graphs
from sharpcli.chunks import Chunk
from sharpcli.errors import InputError
from sharpcli.index_bounds import checked_indices
from sharpcli.inputs import Inputs, InputSource, copied, joined, select, tensors_in
from sharpcli.kernels.fusing import Fusing
from sharpcli.losses import Loss, UserLoss
from sharpcli.misfit import misfit

if TYPE_CHECKING:
    from sharpcli.objective import Objective


def overwrites_inputs(objective: Objective) -> bool:
    """Return whether the model changes its inputs in place."""
    inputs = copied(objective.few().inputs)
    checked = checked_indices(objective.runtime.device)
    with torch.no_grad(), objective.arithmetic(), suppress(Exception), checked:  # `saved_bytes_per_sample` reports errors.
        objective.outputs(objective.space.split(objective.parameters()), inputs, {})
    return any(part._version > 0 for part in tensors_in(inputs))


def saved_bytes_per_sample(objective: Objective) -> int:
    """Return the approximate number of bytes that one sample saves for the backward pass.

    Raises:
        InputError: The model cannot take the data, or the loss depends on no trainable parameter.
    """
    few, leaves = objective.few(), objective.leaves(objective.parameters())
    device = objective.runtime.device
    try:
        with objective.arithmetic(), checked_indices(device):
            data = (*tensors_in(objective.inputs), objective.targets, *tensors_in(few.inputs), few.targets)
            own = (*leaves.values(), *data)
            if not objective.loss_is_code:
                outputs = objective.outputs(leaves, few.inputs, {})
                objective.criterion.require_classes(outputs, few.targets, objective.targets)
            loss, size = graphs.saved_bytes(lambda: objective.loss_sum(leaves, few), own)
            if not objective.loss_is_code and _integers_in(few.inputs):
                _require_tokens(objective, leaves, few)
    except Exception as error:  # A model may raise any error.
        with torch.no_grad(), checked_indices(device):
            raise misfit(error, objective.inputs, lambda inputs: objective.outputs(leaves, inputs, {})) from error
    if not loss.requires_grad:
        raise InputError("The loss does not depend on any trainable parameter.", "Check that the model uses its parameters.")
    return size // len(few.targets)


def _integers_in(inputs: Inputs | InputSource) -> list[Tensor]:
    return [part for part in tensors_in(inputs) if not part.is_floating_point() and part.dtype != torch.bool]


def _require_tokens(objective: Objective, leaves: Mapping[str, Tensor], few: Chunk) -> None:
    """Refuse integer inputs that are outside of the table of the model, or that the model uses as plain numbers."""
    with torch.no_grad():
        extremes = [
            place
            for part in _integers_in(objective.inputs)
            for flat in [part.reshape(len(part), -1)]
            for place in (flat.amin(1).argmin(), flat.amax(1).argmax())
        ]
        tokens = few.inputs
        if extremes:  # Not for a source, which would have to be read completely.
            tokens = joined([few.inputs, objective.samples(torch.stack(extremes).to(objective.targets.device))[0]])
        looked_up = objective.outputs(leaves, tokens, {})
        if not isinstance(tokens, Tensor):
            return  # With several inputs, some may be numbers, such as masks.
        try:
            calculated = objective.outputs(leaves, tokens.to(objective.runtime.dtype), {})
        except Exception:  # A look-up fails for floats, and a model may raise any error.
            return
    if torch.equal(looked_up, calculated):
        raise InputError(
            "The inputs are integers, but the model uses them as numbers, not as indices of a table.",
            "Store them as floats, at the scale the model was trained with; bytes (uint8) are divided by 255.",
        )


def settled(objective: Objective) -> Objective:
    """Return the mean loss with its loss function settled; see `settled_loss`."""
    criterion = settled_loss(objective)
    return replace(objective, criterion=criterion, total_weight=criterion.total_weight(objective.targets))


def settled_loss(objective: Objective) -> Loss:
    """Return the loss with the class axis fixed by the shapes of a few outputs, so that it is the same for every batch."""
    if isinstance(objective.criterion, UserLoss):
        return _settled_code(objective, objective.criterion)
    if objective.targets.ndim == 1 or objective.targets.is_floating_point():
        return objective.criterion
    few = objective.few()
    with torch.no_grad(), objective.arithmetic():
        outputs = objective.outputs(objective.space.split(objective.parameters()), few.inputs, {})
    return objective.criterion.settled(outputs, few.targets)


def _settled_code(objective: Objective, loss: UserLoss) -> Loss:
    few, weights = objective.few(), objective.space.split(objective.parameters())

    def of_samples(loss: UserLoss, index: slice) -> Tensor:
        chunk = Chunk(0, select(few.inputs, index), few.targets[index])
        return replace(objective, criterion=loss).loss_terms(weights, chunk)

    with torch.no_grad(), objective.arithmetic():
        # With --bn batch, the loss of a sample is meant to depend on the other samples of its block.
        return loss.settled_by(of_samples, len(few.targets), alone=objective.bn != "batch")


def num_fusible(objective: Objective) -> int:
    """Return how many operations of the model have a fused kernel."""
    fusing = Fusing()
    with objective.arithmetic(), fusing:
        objective.loss_sum(objective.leaves(objective.parameters()), objective.few())
    return fusing.count
