"""Draw the picture of the README, the eigenvalues of the three samples and the paths between them.

python tools/first_picture.py [FILE]      half a minute; docs/pictures/first.png by default
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from matplotlib.figure import Figure

import sharpcli
from sharpcli.render.figures.hessian.eigenvalues import draw_eigenvalues
from sharpcli.render.figures.hessian.lines import side_by_side
from sharpcli.render.figures.look import own_style
from sharpcli.render.figures.style import mesh, styles

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures/first.png")
SAMPLES = [Path("sample_checkpoints") / name for name in ("sgd", "largebatch", "fullbatch")]


def picture() -> Figure:
    """Return the figure."""
    lines = side_by_side(sharpcli.hessian_all(SAMPLES, topk=10))
    paths = [sharpcli.interpolate(*pair, split="train", range="0:1") for pair in itertools.combinations(SAMPLES, 2)]
    figure = Figure(figsize=(10.4, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_eigenvalues(left, lines)
    for line in lines:
        rows = line.result.checkpoint
        left.plot([], [], label=f"{rows.label} (batch {rows.batch_size})", **line.style)
    left.legend(frameon=False)
    left.set_title("Is it sharp? Eigenvalues of the loss Hessian")
    for path, style in zip(paths, styles(), strict=False):
        name = f"{path.start.label} to {path.end.label}, barrier {path.barrier:.2g}"
        right.plot(path.alphas, path.curves[0].loss, label=name, **style)
    right.set_title("What lies between? Train loss on the straight line")
    right.set(xlabel="α: from the first solution (0) to the second (1)", ylabel="train loss (nats)")
    right.set_ylim(bottom=0)
    mesh(right)
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    with own_style():
        picture().savefig(OUT, dpi=130)
    print(f"Written to {OUT}")
