"""The result of `reparam` in sentences."""

from __future__ import annotations

import shlex

from rich.text import Text

from sharpcli.render.folding import unbroken
from sharpcli.render.tables.parts import Command, Part, dim
from sharpcli.results import ReparamResult


def draw_reparam(result: ReparamResult) -> list[Part]:
    """Return sentences about the factor, the outputs and the weight norm, and the next command."""
    effect = (
        f"'{result.into}' was divided by {result.factor:g}" if result.into else "this multiplies the logits by the same factor"
    )
    what = f"'{result.layer}' of {unbroken(result.checkpoint.path)} was multiplied by {result.factor:g}; {effect}."
    if result.heads:
        what = (
            f"'{result.layer}' of {unbroken(result.checkpoint.path)}: queries and keys of {result.heads} heads in "
            f"{result.attention_layers} layers were multiplied by matrices that undo each other (singular values from "
            f"{1 / result.factor:.3g} to {result.factor:g}), values and output layer in {result.with_values} of these layers."
        )
    return [
        Text(what),
        Text(f"Largest deviation from the expected outputs: {result.difference:.1e} of the largest output."),
        dim(f"‖w‖ from {result.weight_norm_before:.5g} to {result.weight_norm_after:.5g}"),
        Text(f"Written to {unbroken(result.written)}. Next:"),
        Command(f"  {shlex.join(['sharpcli', 'sharpness', result.checkpoint.path, result.written, '--measure', 'all'])}"),
    ]
