"""Measure, and draw for docs/trust.md, four ways in which a certified number can still mislead.

Run it from the repository with the package installed: python tools/trust_pictures.py [OUT]. Takes some minutes on two
cores and writes the picture beside the figures it was drawn from (JSON).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import sharpcli

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
SAMPLE = Path("sample_checkpoints/sgd/final.pt")


def loss_level(folder: Path) -> list[tuple[float, float]]:
    """Return (train loss, λmax) along one run of full-batch descent on the cross-entropy down to where the data are fitted."""
    sharpcli.train(
        mode="fullbatch", model="mlp", model_arg=("hidden=64,64",), optimizer="adam", lr=2e-3, schedule="constant",
        warmup=0.0, weight_decay=0.0, clip=0.0, steps=1600, save_every=100, out=str(folder), overwrite=True,
    )  # fmt: skip
    found = sharpcli.hessian_all([folder / "fullbatch"], along_run=True, topk=1)
    return [(one.loss, one.lambda_max) for one in found if one.checkpoint.step]  # Without the initial weights.


def subsampling() -> list[dict[str, Any]]:
    """Return λmax of random parts of the training set with its bracket for the whole."""
    rows = []
    for count in (50, 150, 500, 1500, 5000):
        for seed in range(6):
            one = sharpcli.hessian(SAMPLE, topk=1, samples=count, seed=seed)
            rows.append({"samples": count, "value": one.lambda_max, "bracket": one.data_bar.bracket})
    return rows


def rescaling(folder: Path) -> list[tuple[float, float]]:
    """Return (a, λmax) where the first layer is multiplied by a and the second divided by it: the same function."""
    content = torch.load(SAMPLE, weights_only=True)
    names = [name for name in content["state_dict"] if name.endswith("weight")]
    rows = []
    for factor in (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0):
        state = {name: tensor.clone() for name, tensor in content["state_dict"].items()}
        state[names[0]] *= factor
        state[names[0].replace("weight", "bias")] *= factor
        state[names[1]] /= factor
        torch.save({**content, "state_dict": state}, folder / "scaled.pt")
        rows.append((factor, sharpcli.hessian(folder / "scaled.pt", topk=1).lambda_max))
    return rows


def batch_norm(folder: Path) -> dict[str, float]:
    """Return λmax of one net with BatchNorm by what its layers normalise with."""
    net = {"model": "convnet", "model_arg": ("norm=batch", "width=8")}
    sharpcli.train(mode="sgd", **net, epochs=2.0, out=str(folder / "bn"), overwrite=True)
    path = folder / "bn" / "sgd"
    found = {policy: sharpcli.hessian(path, topk=1, bn=policy).lambda_max for policy in ("eval", "recompute")}
    for block in (32, 128, 512):
        found[f"batch, {block}"] = sharpcli.hessian(path, topk=1, bn="batch", bn_block=block).lambda_max
    return found


def draw(measured: dict[str, Any]) -> Figure:
    """Draw the four panels."""
    figure = Figure(figsize=(10.5, 7.6), layout="constrained")
    (first, second), (third, fourth) = figure.subplots(2, 2)
    first.plot(*zip(*measured["loss level"], strict=True), "o-", color="#0072B2", markersize=4)
    first.set(xscale="log", yscale="log", xlabel="train loss (nats); the run goes from right to left", ylabel="λmax")
    first.set_title("1  One run, cross-entropy: λmax follows the loss level")
    whole = measured["whole"]
    for place, row in enumerate(measured["subsampling"]):
        at = row["samples"] * 1.06 ** (place % 6 - 2.5)
        second.plot([at, at], row["bracket"], color="#56B4E9", linewidth=1.5, label="bracket" if place == 0 else None)
        second.plot(at, row["value"], "o", color="#D55E00", markersize=4, label="λmax of the part" if place == 0 else None)
    second.axhline(whole, color="0.2", linestyle="--", linewidth=1, label="λmax of all 10,000")
    second.set(xscale="log", ylim=(0, None), xlabel="random samples analysed", ylabel="λmax")
    second.set_title("2  Parts of the data, each with its bracket for the whole")
    second.legend(fontsize=8)
    third.plot(*zip(*measured["rescaling"], strict=True), "s-", color="#009E73", markersize=4)
    third.set(xscale="log", ylim=(0, None), xlabel="a: first layer × a, second layer / a", ylabel="λmax")
    third.set_xticks([factor for factor, _ in measured["rescaling"]], [f"{factor:g}" for factor, _ in measured["rescaling"]])
    third.minorticks_off()
    third.set_title("3  The same function, other weights (ReLU)")
    names = list(measured["batch norm"])
    fourth.bar(range(len(names)), list(measured["batch norm"].values()), color="#CC79A7", edgecolor="0.2", width=0.6)
    fourth.set_xticks(range(len(names)), names)
    fourth.set(xlabel="--bn", ylabel="λmax")
    fourth.set_title("4  The same weights, other BatchNorm statistics")
    for axes in (first, second, third, fourth):
        axes.grid(visible=True, color="0.88", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def main() -> None:
    """Measure, write the figures, draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = {
            "whole": sharpcli.hessian(SAMPLE, topk=1).lambda_max,
            "loss level": loss_level(folder / "run"),
            "subsampling": subsampling(),
            "rescaling": rescaling(folder),
            "batch norm": batch_norm(folder),
        }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "misleading.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    draw(measured).savefig(OUT / "misleading.png", dpi=110)


if __name__ == "__main__":
    main()
