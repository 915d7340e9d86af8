"""The outcome of a run, and the averages of its weights as separate models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sharpcli import progress
from sharpcli.batchnorm import batch_norms
from sharpcli.checkpoints import Losses
from sharpcli.errors import NumericalError
from sharpcli.objective import Evaluation
from sharpcli.training.evaluator import Evaluator, losses_of
from sharpcli.training.methods.averaging import Average


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `test` is None without a test split."""

    updates: int
    train: Evaluation
    test: Evaluation | None
    last_learning_rate: float
    stopped_by: str

    def losses(self) -> Losses:
        """Return losses and accuracies, those of a missing test split as None."""
        return losses_of((self.train, self.test))


@dataclass(frozen=True, eq=False)
class AveragedWeights:
    """An average of the weights, with BatchNorm's statistics recomputed for it.

    Attributes:
        kind: "tail", "ema" or "swa".
        count: Number of averaged iterates.
        state: Parameters and buffers by name.
        outcome: The outcome of the run, with the losses of the averaged weights.
    """

    kind: str
    count: int
    state: dict[str, Tensor]
    outcome: Outcome


def finished(
    averages: Sequence[Average], evaluator: Evaluator, parameters: Sequence[Tensor], updates: int, rate: float
) -> list[AveragedWeights]:
    """Return the averages that have begun, each with BatchNorm's statistics recomputed over the training data.

    Args:
        averages: Averages of the run.
        evaluator: Evaluator of the run; its model has the final weights.
        parameters: Parameters of the model; they give the types.
        updates: Number of updates taken.
        rate: Learning rate of the last update.
    """
    averaged, own = list[AveragedWeights](), evaluator.model.state_dict()
    for average in averages:
        if not average.means:
            progress.warn(f"The average {average.kind} begins after update {average.start}, which the run did not reach.")
            continue
        means = [mean.to(old.dtype) for mean, old in zip(average.means, parameters, strict=True)]
        theta = evaluator.train.space.flatten(means)
        buffers = dict(evaluator.model.named_buffers())
        if batch_norms(evaluator.model):
            buffers |= evaluator.train.recompute_buffers(theta)
        try:
            evaluations = evaluator.evaluate_at(theta, buffers, updates)
        except NumericalError:  # The final weights are good, and must not be lost because of a bad average.
            progress.warn(f"The average {average.kind} has no finite loss, and is not kept.")
            continue
        state = {**own, **_under_all_names(evaluator.model, evaluator.train.space.split(theta)), **buffers}
        known = {name: tensor for name, tensor in state.items() if name in own}
        averaged.append(AveragedWeights(average.kind, average.count, known, Outcome(updates, *evaluations, rate, "average")))
    return averaged


def _under_all_names(model: nn.Module, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters under all their names; a tied parameter has several names."""
    owners = {id(tensor): name for name, tensor in model.named_parameters()}
    every = ((name, owners[id(tensor)]) for name, tensor in model.named_parameters(remove_duplicate=False))
    return {name: parts[owner] for name, owner in every if owner in parts}
