"""The error for data that a model cannot take: a message and a hint for the user, derived from the exception of torch."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from sharpcli.errors import InputError, SharpcliError, first_line, is_out_of_memory, origin
from sharpcli.inputs import Inputs, InputSource, are_tokens, described_shapes, first_sample, main_tensor, mapped

_FULL_SCALE = 255
_TOO_HIGH = re.compile(
    r"ind(ex|ices).* out of (range|bounds)|not in the valid range|out of DATA bounds|Class values must be smaller"
)
_AN_INDEX = re.compile(r"\bind(ex|ices)\b", re.IGNORECASE)
_NO_TOKENS = (
    "The inputs are integers, so they are used as tokens. Store images as floating-point numbers, scaled as in training."
)
_BELONG = "Check --model, --model-arg and --data; they must be the ones the weights were trained with."


def misfit(error: Exception, inputs: Inputs | InputSource, runs: Callable[[Inputs], object]) -> InputError:
    """Return the error for data that a model cannot take.

    Args:
        error: The exception of the model or the loss.
        inputs: All samples.
        runs: Runs the model on some samples.

    Raises:
        Exception: `error` itself, if it is a `SharpcliError` or says that memory has run out.
    """
    if isinstance(error, SharpcliError) or is_out_of_memory(error):
        raise error
    reason, place = first_line(error), origin(error)
    tokens = are_tokens(inputs)
    zeros = mapped(first_sample(inputs), torch.zeros_like)
    if tokens and not isinstance(inputs, InputSource) and _TOO_HIGH.search(str(error)) and _works(runs, zeros):
        # A text longer than the table of positions would also fail with tokens 0.
        main = main_tensor(inputs)
        token = int(main.min()) if int(main.min()) < 0 else int(main.max())
        return InputError(
            f"The data contain the token {token}, but the model's table has no such row.",
            "Check --model, --model-arg and --data. Tokens must be at least 0 and less than the number of rows of the table.",
        )
    hint = _NO_TOKENS if tokens else _BELONG
    if "same device" in reason:
        hint = "The model makes a tensor on the CPU in forward: make it on the device of the inputs, or use --device cpu."
    if not tokens and _AN_INDEX.search(reason) and not _TOO_HIGH.search(reason) and _were_bytes(main_tensor(inputs)):
        hint = "Bytes are taken as pixels; if they are tokens, add --data-arg tokens=True."
    shape, where = described_shapes(inputs), f" ({place})" if place else ""
    return InputError(f"The model cannot take this data (one sample is {shape}): {reason}{where}.", hint)


def _works(runs: Callable[[Inputs], object], inputs: Inputs) -> bool:
    try:
        runs(inputs)
    except Exception:  # A model may raise any error.
        return False
    return True


def _were_bytes(inputs: Tensor) -> bool:
    """Return whether all numbers are integers from 0 to 255 divided by 255."""
    scaled = inputs.double() * _FULL_SCALE
    whole = (scaled - scaled.round()).abs() <= 1e-4
    return bool((whole & (scaled >= 0) & (scaled < _FULL_SCALE + 0.5)).all())
