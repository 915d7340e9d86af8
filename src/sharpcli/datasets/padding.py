"""Texts of different lengths: shorter ones are padded at their end, as their attention mask tells the model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from sharpcli.datasets.batch_forms import TOKENS
from sharpcli.errors import InputError
from sharpcli.inputs import MASK, Inputs, sample_shapes


@dataclass(frozen=True)
class Padding:
    """The padding of all texts to one length.

    Attributes:
        lengths: Lengths of the texts in the batches that were read; the longest one is L.
        token: The token that fills up a text; None if no batch has a padded text. Models must not use it, but some find the
            end of a text by it.
        at_start: Whether a text is padded at its start.
    """

    lengths: frozenset[int]
    token: int | None
    at_start: bool

    @staticmethod
    def of(inputs: Inputs) -> Padding | None:
        """Return the padding that a batch needs beside others; None if it has no tokens with an attention mask (B, L)."""
        mask = mask_of(inputs)
        if mask is None or not isinstance(inputs, dict):
            return None
        token = int(inputs[TOKENS][mask == 0][0]) if bool((mask == 0).any()) else None
        return Padding(frozenset({mask.shape[1]}), token, bool((mask[:, :1] == 0).any()))

    def __or__(self, other: Padding) -> Padding:
        """Return the padding for the batches of both."""
        token = other.token if self.token is None else self.token
        return Padding(self.lengths | other.lengths, token, self.at_start or other.at_start)

    @property
    def length(self) -> int:
        """L, the number of tokens of each padded text."""
        return max(self.lengths)

    def require_possible(self, spec: str) -> None:
        """Refuse texts whose tokens would be at other positions in a batch of other texts.

        Raises:
            InputError: A text is padded at its start.
        """
        if self.at_start:
            raise InputError(
                f"Texts of '{spec}' have different lengths, and are padded at the start.", "Pad all texts at the end."
            )

    @property
    def words(self) -> str:
        """The padding in words."""
        return f"texts padded to {self.length} tokens"

    def inputs(self, given: Inputs) -> Inputs:
        """Return the inputs of a batch, each tensor (B, l) of tokens or of a mask padded to (B, L)."""
        mask = mask_of(given)
        if mask is None or not isinstance(given, dict):
            return given
        return {
            name: self.filled(part, (self.token or 0) if name == TOKENS else 0) if part.shape == mask.shape else part
            for name, part in given.items()
        }

    def filled(self, part: Tensor, value: int) -> Tensor:
        """Return a tensor (B, l) with `value` after the last column, (B, L); a longer one as it is."""
        return part if part.shape[1] >= self.length else pad(part, (0, self.length - part.shape[1]), value=value)


def mask_of(inputs: Inputs) -> Tensor | None:
    """Return the attention mask (B, L) of a batch of tokens (B, L); None if the batch has none."""
    if not isinstance(inputs, dict) or TOKENS not in inputs or MASK not in inputs:
        return None
    mask = inputs[MASK]
    return mask if mask.ndim == 2 and mask.shape == inputs[TOKENS].shape else None


def shapes_but_length(inputs: Inputs) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return names and shapes as `sample_shapes` does, with the length -1 for what is padded."""
    mask = mask_of(inputs)
    shapes = sample_shapes(inputs)
    return shapes if mask is None else tuple((name, (-1,) if shape == mask.shape[1:] else shape) for name, shape in shapes)
