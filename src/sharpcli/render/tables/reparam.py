"""What `reparam` has written, in words."""

from __future__ import annotations

import shlex

from rich.text import Text

from sharpcli.render.folding import kept
from sharpcli.render.tables.parts import Command, Part, dim
from sharpcli.results import ReparamResult


def draw_reparam(result: ReparamResult) -> list[Part]:
    """Return what was rescaled."""
    taken = f"and taken back in '{result.into}'" if result.into else "so the logits are, too"
    return [
        Text(f"'{result.layer}' of {kept(result.checkpoint.path)} was multiplied by {result.factor:g}, {taken}."),
        Text(f"Largest change of an output beyond that: {result.difference:.1e} of the largest output."),
        dim(f"‖w‖ from {result.weight_norm_before:.5g} to {result.weight_norm_after:.5g}"),
        Text(f"Written to {kept(result.written)}. Next:"),
        Command(f"  {shlex.join(['sharpcli', 'sharpness', result.checkpoint.path, result.written, '--measure', 'all'])}"),
    ]
