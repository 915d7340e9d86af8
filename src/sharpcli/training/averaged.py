"""How a run ended, and the averages of its weights as models of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sharpcli import progress
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import NumericalError
from sharpcli.objective import Evaluation
from sharpcli.training.evaluator import Evaluator
from sharpcli.training.methods.averaging import Average


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    updates: int
    train: Evaluation
    test: Evaluation
    last_learning_rate: float
    stopped_by: str


@dataclass(frozen=True, eq=False)
class AveragedWeights:
    """An average of the weights, with BatchNorm's statistics recomputed for it.

    Attributes:
        kind: "tail", "ema" or "swa".
        count: Iterates in it.
        state: Parameters and buffers by name.
        outcome: Its losses.
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
        averages: Of the run.
        evaluator: Of the run, with the model as it ended.
        parameters: Of the model, for their types.
        updates: That were taken.
        rate: Of the last of them.
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
        except NumericalError:  # The last weights are good, and must not be lost with their average.
            progress.warn(f"The average {average.kind} has no finite loss, and is not kept.")
            continue
        state = {**own, **_under_all_names(evaluator.model, evaluator.train.space.split(theta)), **buffers}
        known = {name: tensor for name, tensor in state.items() if name in own}
        averaged.append(AveragedWeights(average.kind, average.count, known, Outcome(updates, *evaluations, rate, "average")))
    return averaged


def _under_all_names(model: nn.Module, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters also under the further names of those that are tied."""
    owners = {id(tensor): name for name, tensor in model.named_parameters()}
    every = ((name, owners[id(tensor)]) for name, tensor in model.named_parameters(remove_duplicate=False))
    return {name: parts[owner] for name, owner in every if owner in parts}
