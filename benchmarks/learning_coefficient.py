"""The local learning coefficient of a sample, by our chains and by those of devinterp's optimizer with the same settings.

    PYTHONPATH=FOLDER python -m benchmarks.learning_coefficient

FOLDER holds the unpacked wheel of devinterp 2; only its `optim` is used, which needs nothing but torch. Both run full batches.
devinterp does not correct for the step size, so our estimate is printed with and without its correction.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor, nn
from torch.nn import functional

import sharpcli
from sharpcli.datasets.resolve import resolve as resolve_data
from sharpcli.inputs import main_tensor
from sharpcli.models.resolve import resolve as resolve_model

SAMPLE = Path(__file__).parents[1] / "sample_checkpoints" / "sgd" / "final.pt"


def of_devinterp(model: nn.Module, images: Tensor, labels: Tensor, asked: argparse.Namespace) -> list[float]:
    """Return nβ (mean loss of the draws - loss at the weights) of each chain."""
    from devinterp.optim import SGMCMC  # noqa: PLC0415

    inverse = len(labels) / math.log(len(labels))
    found = []
    for chain in range(asked.chains):
        walker = copy.deepcopy(model)
        optimizer = SGMCMC.sgld(walker.parameters(), lr=asked.step_size, nbeta=inverse, localization=asked.gamma)
        torch.manual_seed(chain)
        losses = []
        for _ in range(asked.burn_in + asked.steps):
            optimizer.zero_grad()
            loss = functional.cross_entropy(walker(images), labels)
            loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
            losses.append(float(loss.detach()))
            optimizer.step()
        found.append(inverse * (fmean(losses[asked.burn_in :]) - losses[0]))
    return found


def shown(values: Sequence[float]) -> str:
    """Return the mean and its standard error over chains."""
    return f"{fmean(values):.3f} ± {stdev(values) / math.sqrt(len(values)):.3f}"


def main() -> None:
    """Print both estimates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--chains", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--burn-in", type=int, default=400)
    parser.add_argument("--gamma", type=float, default=2000.0)
    parser.add_argument("--step-size", type=float, default=1e-4)
    asked = parser.parse_args()
    data = resolve_data("fashion-mini", root="").train
    images, labels = main_tensor(data.inputs)[: asked.samples], data.targets[: asked.samples]
    model = resolve_model("mlp", input_shape=(1, 28, 28), num_classes=10, arguments=["hidden=32,32"])
    model.load_state_dict(torch.load(SAMPLE, weights_only=True)["state_dict"])
    options = f"batch=0,chains={asked.chains},steps={asked.steps},burn_in={asked.burn_in},gamma={asked.gamma}"
    measure = f"local-learning-coefficient:{options},step_size={asked.step_size}"
    (ours,) = sharpcli.sharpness(model, (images, labels), measure=measure, device="cpu").readings
    print(f"{options}, step_size={asked.step_size}, n = {asked.samples}, P = {sum(p.numel() for p in model.parameters())}")
    print(f"ours, corrected for the step size: {ours.value} ± {ours.standard_error} ({ours.status}); {ours.details}")
    if ours.value is not None:
        raw = ours.value + float(ours.details["correction"] or 0)
        print(f"ours, without the correction: {raw:.3f} ± {ours.standard_error:.3f}")
    print(f"devinterp: {shown(of_devinterp(model, images, labels, asked))}")


if __name__ == "__main__":
    main()
