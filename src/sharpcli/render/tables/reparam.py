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
    return [
        Text(f"'{result.layer}' of {unbroken(result.checkpoint.path)} was multiplied by {result.factor:g}; {effect}."),
        Text(f"Largest deviation from the expected outputs: {result.difference:.1e} of the largest output."),
        dim(f"‖w‖ from {result.weight_norm_before:.5g} to {result.weight_norm_after:.5g}"),
        Text(f"Written to {unbroken(result.written)}. Next:"),
        Command(f"  {shlex.join(['sharpcli', 'sharpness', result.checkpoint.path, result.written, '--measure', 'all'])}"),
    ]
