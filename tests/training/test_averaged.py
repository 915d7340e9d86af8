"""Averages as models of their own: what cannot be evaluated is left out, and nothing else is lost with it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sharpcli import progress
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.runtime import generator
from sharpcli.settings import TrainSettings
from sharpcli.training.averaged import finished
from sharpcli.training.evaluator import Evaluator
from sharpcli.training.methods.averaging import Average
from sharpcli.training.plan import make_plan
from tests.device import DEVICE, on_device


def _evaluator(tmp_path: Path) -> Evaluator:
    random = generator(0)
    parts = [Split(torch.randn(24, 5, generator=random), torch.arange(24) % 3) for _ in range(2)]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).to(DEVICE)
    plan = make_plan("sgd", TrainSettings(mode=("sgd",), batch_size=8), 24, chunk_size=8, has_batch_norm=True)
    runtime = on_device("float32")
    return Evaluator.of(model, DataSplits("toy", *parts, 3), loss="ce", plan=plan, runtime=runtime, folder=tmp_path)


def test_an_average_without_a_finite_loss_is_told_and_left_out(tmp_path: Path):
    evaluator = _evaluator(tmp_path)
    parameters = list(evaluator.model.parameters())
    averages = [Average("ema", 0.9, 0, 1), Average("tail", 0.5, 0, 1), Average("swa", 0.5, 10, 1)]
    for average in averages:
        average.see(1, parameters)
    averages[0].means[0].fill_(torch.inf)
    with progress.gathering() as said:
        found = finished(averages, evaluator, parameters, 1, 0.1)
    assert [one.kind for one in found] == ["tail"]
    assert found[0].outcome.train == evaluator.train.evaluate(
        evaluator.train.parameters(), evaluator.train.recompute_buffers(evaluator.train.parameters())
    )
    assert set(found[0].state) == set(evaluator.model.state_dict())
    assert ["ema has no finite loss" in line for line in said] == [True, False]
    assert "swa begins after update 10" in said[1]


def test_tied_weights_are_averaged_under_all_their_names(tmp_path: Path):
    evaluator = _evaluator(tmp_path)
    evaluator.model.further = evaluator.model[0]
    parameters = list(evaluator.model.parameters())
    average = Average("tail", 0.5, 0, 1)
    average.see(1, parameters)
    for mean in average.means:
        mean.mul_(2)
    found = finished([average], evaluator, parameters, 1, 0.1)[0].state
    assert torch.equal(found["0.weight"], 2 * parameters[0].detach())
    assert torch.equal(found["further.weight"], found["0.weight"])
