"""The loop: when it evaluates, saves and stops, and that a run that is resumed ends as one that was not interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.runtime import generator
from sharpcli.settings import TrainSettings
from sharpcli.training.loop import Run
from sharpcli.training.plan import make_plan
from tests.device import DEVICE, on_device

SAMPLES = 24


def data() -> DataSplits:
    random = generator(0)
    parts = [Split(torch.randn(SAMPLES, 5, generator=random), torch.arange(SAMPLES) % 3) for _ in range(2)]
    return DataSplits("toy", *parts, 3)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 3))


def run_in(folder: Path, **chosen: Any) -> Run:
    """Return a run of 12 updates, four an epoch, with momentum and dropout; `saved` lists its saved steps."""
    words = {"batch_size": 6, "steps": 12, "lr": 0.1, "average": ("ema:0.5",), **chosen}
    plan = make_plan("sgd", TrainSettings(mode=("sgd",), **words), SAMPLES, chunk_size=SAMPLES, has_batch_norm=False)
    folder.mkdir(exist_ok=True)
    saved: list[tuple[str, int]] = []

    def save_step(path: Path, state: Mapping[str, Tensor], step: int, rate: float, about: dict[str, Any], _: Any) -> None:
        assert state.keys() == net().state_dict().keys()
        saved.append((path.name, step))

    run = Run(net().to(DEVICE), data(), "ce", plan, on_device("float32"), 0, folder, {"plan": plan.to_dict()}, save_step, 0.0)
    run.saved = saved
    return run


def weights(run: Run) -> Tensor:
    return torch.cat([part.detach().flatten() for part in run.model.parameters()])


def steps(folder: Path, kind: str = "metrics") -> list[int]:
    return [json.loads(line)["step"] for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


def test_it_takes_the_updates_of_the_plan_and_evaluates_once_an_epoch(tmp_path: Path):
    run = run_in(tmp_path, save_every=5)
    outcome = run.train()
    assert (outcome.updates, outcome.stopped_by) == (12, "end of schedule")
    assert steps(tmp_path) == [4, 8, 12]
    assert run.saved == [("step-5.pt", 5), ("step-10.pt", 10)]
    assert outcome.train.loss == run._evaluator.train.evaluate(weights(run)).loss
    assert outcome.last_learning_rate == run.plan.learning_rate(11)


def test_the_last_update_is_evaluated_also_in_the_midst_of_an_epoch(tmp_path: Path):
    run_in(tmp_path, steps=6).train()
    assert steps(tmp_path) == [4, 6]


@pytest.mark.slow
def test_it_stops_at_the_wanted_loss(tmp_path: Path):
    whole = run_in(tmp_path / "whole", steps=400, lr=0.3)
    wanted = whole.train().train.loss * 1.2
    outcome = run_in(tmp_path / "part", steps=400, lr=0.3, stop_train_loss=wanted).train()
    assert outcome.stopped_by == "training loss"
    assert outcome.train.loss <= wanted
    assert outcome.updates < 400


def test_a_loss_that_is_low_enough_from_the_start_needs_no_update(tmp_path: Path):
    run = run_in(tmp_path, stop_train_loss=100.0)
    start = weights(run)
    assert run.train().updates == 0
    assert torch.equal(weights(run), start)


class InterruptedRunError(Exception):
    pass


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Leave what a process leaves that is killed after so many updates; the state is saved after each."""
    run = run_in(folder, track_sharpness=4, track=("critical@4",))
    step = run._step

    def stop() -> None:
        if run.updates == at:
            raise InterruptedRunError
        step()

    monkeypatch.setattr(run, "_step", stop)
    with pytest.raises(InterruptedRunError):
        run.train()


@pytest.mark.parametrize("at", [1, 6, 8])
def test_a_run_that_is_resumed_ends_with_the_same_bits(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Weights, averages, records and what dropout draws."""
    torch.manual_seed(1)
    whole = run_in(tmp_path / "whole", track_sharpness=4, track=("critical@4",))
    whole.train()
    torch.manual_seed(1)
    interrupted(tmp_path / "part", monkeypatch, at)
    torch.manual_seed(99)
    resumed = run_in(tmp_path / "part", track_sharpness=4, track=("critical@4",))
    resumed.resume()
    assert resumed.updates == at
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    means = [torch.cat([mean.flatten() for mean in run._averages[0].means]) for run in (resumed, whole)]
    assert torch.equal(*means)
    for kind in ("metrics", "distances", "sharpness", "critical"):
        assert steps(tmp_path / "part", kind) == steps(tmp_path / "whole", kind)
    assert resumed.records.lines["critical"] == whole.records.lines["critical"]
    assert len(whole.records.lines["critical"]) > 2


def test_a_state_of_other_settings_is_refused_and_a_missing_one_too(tmp_path: Path):
    with pytest.raises(InputError):
        run_in(tmp_path).resume()
    run_in(tmp_path).train()
    with pytest.raises(SettingsError, match=r"differs in these settings: lr\."):
        run_in(tmp_path, lr=0.2).resume()


def test_the_state_goes_when_the_run_is_complete(tmp_path: Path):
    run = run_in(tmp_path)
    run.train()
    assert (tmp_path / "last.pt").exists()
    run.close()
    assert not (tmp_path / "last.pt").exists()


def test_a_run_that_diverges_keeps_its_last_good_weights_and_its_records(tmp_path: Path):
    run = run_in(tmp_path, lr=1e30, warmup=0)
    with pytest.raises(NumericalError, match=r"diverged at update \d"):
        run.train()
    assert run.saved == [("last-good.pt", 0)]
    assert steps(tmp_path, "distances") == list(range(1, 1 + len(steps(tmp_path, "distances"))))
