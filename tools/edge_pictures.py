"""Train in full batch at a constant rate, and draw λmax along the run against the threshold of the optimizer.

Run it from the repository with the package installed: python tools/edge_pictures.py {gd,momentum,adam,rmsprop} [OUT]. It takes
one to three minutes on two cores, writes OUT/edge-NAME.png (default: docs/pictures), and prints the ratios of the drawn steps.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import sharpcli

NET: dict[str, Any] = {"model": "mlp", "model_arg": ("hidden=32,32", "activation=tanh")}
# Recipe, what differs from it, and the matrix whose λmax the threshold is about.
RUNS: dict[str, tuple[str, dict[str, Any], str]] = {
    "gd": ("eos-gd", {"lr": 0.1, "steps": 800}, "hessian"),
    "momentum": ("eos-momentum", {"steps": 800}, "hessian"),
    "adam": ("eos-adam", {}, "preconditioned"),
    "rmsprop": ("eos-rmsprop", {}, "preconditioned"),
}
STEPS = 30  # Saved steps of each run.


def main(name: str, out: Path) -> None:
    """Train, measure, draw, and print one line for each step."""
    recipe, changes, operator = RUNS[name]
    with tempfile.TemporaryDirectory() as folder:
        every = changes.get("steps", 1500) // STEPS
        run = sharpcli.train(recipe=(recipe,), **NET, **changes, save_every=every, out=f"{folder}/run")
        place = Path(run.rows[0].checkpoint).parent
        found = sharpcli.hessian_all([place], along_run=True, topk=2, operator=operator)
    for one in found:
        print(f"{one.checkpoint.step:>6} {one.lambda_max:>12.5g} {one.stability_threshold:>12.5g} {one.sharpness_ratio:>8.3f}")
    out.mkdir(parents=True, exist_ok=True)
    found[0].plot(*found[1:]).savefig(out / f"edge-{name}.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "docs/pictures"))
