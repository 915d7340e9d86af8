"""Texts of tokens as samples for a language model: the target of each token is the next token."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from sharpcli.errors import InputError


def next_tokens(tokens: NDArray[Any], length: int, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return inputs and targets: tokens, and the token that follows each.

    Args:
        tokens: One long text (M,), which is cut into pieces that do not overlap, a remainder dropped; or N texts (N, T).
        length: Number of input tokens in each piece of a long text.
        place: Source of the tokens, for messages.

    Returns:
        Two arrays, both (N, length) for a long text or (N, T - 1) for texts.

    Raises:
        InputError: The tokens are not such an array of integers, or a text is too short.
    """
    if tokens.dtype.kind not in "iu" or tokens.ndim not in (1, 2):
        message = f"The tokens in '{place}' have type {tokens.dtype} and shape {tokens.shape}."
        raise InputError(message, "Store whole numbers, (M,) or (N, T).")
    if tokens.ndim == 1:
        count = (len(tokens) - 1) // length
        if count < 1:
            raise InputError(f"'{place}' has {len(tokens)} tokens, fewer than one piece.", "Add --data-arg length=N.")
        return tokens[: count * length].reshape(count, length), tokens[1 : count * length + 1].reshape(count, length)
    if tokens.shape[1] < 2:
        raise InputError(f"The texts in '{place}' have one token.", "Give texts of two tokens or more.")
    return tokens[:, :-1], tokens[:, 1:]
