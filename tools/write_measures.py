"""Write docs/measures.md from what the measures say of themselves: python tools/write_measures.py."""

from __future__ import annotations

from pathlib import Path

from sharpcli import plugins
from sharpcli.analyses.sharpness.listing import measures

DOC = Path(__file__).parents[1] / "docs" / "measures.md"
KINDS = ("rescaled ReLU pairs", "rescaled layers before BatchNorm", "rescaled logits", "transformed attention heads")
HEAD = """# Definitions of sharpness

Written by `tools/write_measures.py` from the files of `src/sharpcli/measures/`; a test holds it up to date. f is the mean
loss over the analysed samples, in eval mode and without augmentation; θ are the trainable parameters, P of them.

    sharpcli sharpness CKPT --measure worst-case:rho=0.1,norm=inf --measure average-case
    sharpcli sharpness CKPT --measure all
    sharpcli reparam CKPT rescaled.pt --factor 3      # the same function with other weights: what moves?

A value with ≥ is a lower bound: the best that a search found. A search that found nothing higher has *failed*, which is
never told as 0. A value with ± is a mean over seeded random draws with its standard error. A measure whose chains have
*not mixed* has no value; the mean of the chains is in its details. Compare within one architecture and at one training
loss: where the loss is near 0, the curvature of cross-entropy is too, while boxes and balls of fixed size are not.
"""


def page() -> str:
    """Return the page."""
    rows = measures().rows
    lines = [HEAD, "## What moves when the function does not", ""]
    lines += ["| measure | " + " | ".join(KINDS) + " |", "|---|---|---|---|---|"]
    for row in rows:
        claims = plugins.load("measures", row.name).INVARIANT
        cells = []
        for kind in KINDS:
            holds = [when for when, what in claims.items() if kind in what]
            cells.append("moves" if not holds else "invariant" + (f" if {holds[0].replace('=true', '')}" if holds[0] else ""))
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    lines += ["", "Each cell is a test. λmax and the trace of the Hessian move under all four.", ""]
    for row in rows:
        lines += [
            f"## {row.name}",
            "",
            row.summary,
            "",
            f"- Definition: {row.definition}",
            f"- Options: {row.options or 'none'}",
            f"- Cost: {row.cost}",
            f"- When it misleads: {row.misleads}",
            f"- Source: {row.reference}",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    DOC.write_text(page(), encoding="utf-8")
