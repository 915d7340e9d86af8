"""Check whether a loss is plausible for a trained model on its own data: below the loss of the best constant prediction."""

from __future__ import annotations

from sharpcli.losses import Evaluation
from sharpcli.objective import Objective

_CLEARLY = 0.9
_LEARNED = "the model has learned nothing from these data, or has diverged"
_OTHER = "check preprocessing, labels and data, unless the model is untrained"
_TOO_SURE = "the model is overconfident where it is wrong"


def implausible(objective: Objective, evaluation: Evaluation, *, as_stored: bool) -> str:
    """Return why loss or accuracy are not better than the best constant prediction, with the likely cause; "" if they are.

    The best constant prediction is one output for all samples; see `Loss.guess`. Its cross-entropy is the entropy of the
    classes, its half squared error is half the variance, and its accuracy is the share of the most frequent class.

    Args:
        objective: The mean loss.
        evaluation: Loss and accuracy of the model.
        as_stored: Whether the file records the same loss from training, so that the data are known to be the right ones.
    """
    guess = objective.criterion.guess(objective.targets)
    if not guess.loss:  # All targets are equal, or the loss has no such prediction.
        return ""
    above = evaluation.loss >= guess.loss
    # If one class is very frequent, a good model may not have a higher accuracy: then only the loss counts.
    clearly_below = evaluation.loss < _CLEARLY * guess.loss
    by_chance = (
        not clearly_below
        and evaluation.accuracy is not None
        and guess.accuracy is not None
        and evaluation.accuracy <= guess.accuracy
    )
    parts = []
    if above:
        parts.append(f"the loss {evaluation.loss:.4g} is not below the loss {guess.loss:.4g} of the best constant prediction")
    if by_chance and evaluation.accuracy is not None and guess.accuracy is not None:
        parts.append(
            f"the accuracy {100 * evaluation.accuracy:.4g} % is not above the {100 * guess.accuracy:.4g} % of the best "
            "constant prediction"
        )
    if not parts:
        return ""
    if above and not by_chance and evaluation.accuracy is not None:
        cause = _TOO_SURE if as_stored else f"{_TOO_SURE}; {_OTHER}"
    else:
        cause = _LEARNED if as_stored else _OTHER
    return f"{' and '.join(parts)}: {cause}"
