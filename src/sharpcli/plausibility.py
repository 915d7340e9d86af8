"""Whether a loss is one that a trained net can have on its own data: below that of guessing."""

from __future__ import annotations

from sharpcli.losses import Evaluation
from sharpcli.objective import Objective

_CLEARLY = 0.9
_LEARNED = "the model has learned nothing from these data, or has diverged"
_OTHER = "check preprocessing, labels and data, unless the model is untrained"
_TOO_SURE = "the model is overconfident where it is wrong"


def implausible(objective: Objective, evaluation: Evaluation, *, as_stored: bool) -> str:
    """Return in words how a loss is no better than guessing, with the likely cause, or "" if it is better.

    Guessing is the best single answer for all samples: it costs the entropy of the classes, or half the variance of numbers,
    and is right as often as the most frequent class.

    Args:
        objective: The mean loss.
        evaluation: What it is.
        as_stored: Whether the file says that it had the same loss in training, so that the data are not in doubt.
    """
    guess = objective.criterion.guess(objective.targets)
    if not guess.loss:  # All targets are alike.
        return ""
    above = evaluation.loss >= guess.loss
    # Where one answer is nearly always right, a good net may be right no more often: there the loss decides alone.
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
