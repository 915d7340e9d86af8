"""Track any measure of sharpness during training: the numbers that `sharpness` gives for the weights of the moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sharpcli import progress
from sharpcli.errors import SharpcliError
from sharpcli.modules import private_copy
from sharpcli.named_measures import RequestedMeasure, label_of, requested_measures
from sharpcli.objective import Objective


@dataclass(frozen=True, eq=False)
class MeasureTracker:
    """Measures of the mean loss over the training data, in eval mode, as `sharpness` computes them for a checkpoint.

    Attributes:
        objective: The loss, with a model of its own, which takes the buffers of the model in training.
        measures: The measures, each with the number of updates between two measurements.
        seed: Seed of all random numbers; the same at every step, so that steps can be compared.
    """

    objective: Objective
    measures: tuple[tuple[RequestedMeasure, int], ...]
    seed: int

    @staticmethod
    def of(train: Objective, measures: Sequence[tuple[str, int]], seed: int) -> MeasureTracker:
        """Bind the measures to the training loss.

        Args:
            train: The mean loss over the training data.
            measures: NAME[:option=value,...] of each, with the number of updates between two measurements.
            seed: Seed of all random numbers.

        Raises:
            SettingsError: An unknown measure or option, or a value of the wrong type.
        """
        named = requested_measures([text for text, _ in measures])
        own = replace(train, model=private_copy(train.model))
        return MeasureTracker(own, tuple(zip(named, (every for _, every in measures), strict=True)), seed)

    def due(self, update: int) -> list[RequestedMeasure]:
        """Return the measures that are due after this number of updates."""
        return [one for one, every in self.measures if update % every == 0]

    def measure(self, update: int, theta: Tensor, model: nn.Module) -> list[dict[str, Any]]:
        """Return one line of measures.jsonl for each measure that is due; a `value` of None has a `note` that says why.

        Args:
            update: Number of updates so far.
            theta: The weights, shape (P,).
            model: The model in training, whose buffers are used.
        """
        buffers = dict(self.objective.model.named_buffers())
        for name, buffer in model.named_buffers():
            buffers[name].copy_(buffer)
        return [self._line(update, one, theta) for one in self.due(update)]

    def _line(self, update: int, one: RequestedMeasure, theta: Tensor) -> dict[str, Any]:
        line: dict[str, Any] = {"step": update, "measure": one.label, "value": None, "standard_error": None}
        try:
            found = one.read(self.objective, theta, self.seed)
        except SharpcliError as error:  # Training goes on.
            progress.warn(f"{one.label} could not be measured after update {update}: {error.message}")
            return {**line, "bound": None, "status": "failed", "note": error.message, "seconds": None}
        return {
            **line,
            "measure": label_of(one, found),
            "value": found.value,
            "standard_error": found.standard_error,
            "bound": found.bound,
            "status": found.status,
            "note": found.note,
            "seconds": found.seconds,
        }
