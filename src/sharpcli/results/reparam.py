"""Results of `reparam`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.results.base import Result, Subject


@dataclass(frozen=True, kw_only=True, repr=False)
class ReparamResult(Result):
    """The rescaled layer; `difference` is the largest deviation from the expected outputs, relative to the largest output.

    With --attention, `layer` is "attention", and `heads` of `attention_layers` were changed, in `with_values` of these layers
    also the values.
    """

    _headline = ("written", "layer", "factor")
    checkpoint: Subject
    written: str
    layer: str
    into: str | None
    factor: float
    difference: float
    weight_norm_before: float
    weight_norm_after: float
    attention_layers: int = 0
    heads: int = 0
    with_values: int = 0
