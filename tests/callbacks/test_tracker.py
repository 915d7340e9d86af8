"""A tracker in a plain training loop: its numbers are those of the commands, and the training is the same as without it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import sharpcli
from sharpcli.callbacks import Tracker
from sharpcli.errors import InputError, SettingsError
from tests.processes import two_processes

CODE = """
from torch import nn
def net(): return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
"""


def made() -> tuple[nn.Module, Tensor, Tensor, torch.optim.Optimizer]:
    space: dict[str, Any] = {}
    exec(CODE, space)
    torch.manual_seed(0)
    model = space["net"]()
    inputs, targets = torch.randn(60, 6), torch.arange(60) % 3
    return model, inputs, targets, torch.optim.SGD(model.parameters(), 0.2, momentum=0.9)


def go(
    model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, after: Callable[[int], None]
) -> None:
    model.train()
    for step in range(1, 26):
        chosen = torch.randint(len(targets), (20,))
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
        after(step)


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


def test_the_records_hold_the_numbers_of_the_commands(tmp_path: Path, sharpcli: Callable[..., Any]) -> None:
    import sharpcli as package

    model, inputs, targets, optimizer = made()
    data = {"train": (inputs, targets), "test": (inputs[:20], targets[:20])}
    wanted: dict[int, float] = {0: package.hessian(model, data, topk=1).lambda_max or 0}
    begun = torch.cat([part.detach().flatten().double() for part in model.parameters()])
    gone: dict[int, float] = {}
    folder = tmp_path / "run"
    with package.track(
        model, data, folder, every=10, save_every=5, optimizer=optimizer, measure=["fisher-rao", "average-case:sigma=0.01"]
    ) as tracker:

        def after(step: int) -> None:
            tracker.step()
            gone[step] = float((torch.cat([part.detach().flatten().double() for part in model.parameters()]) - begun).norm())
            if step in (10, 20):
                wanted[step] = package.hessian(model, data, topk=1).lambda_max or 0

        go(model, inputs, targets, optimizer, after)
    wanted[25] = package.hessian(model, data, topk=1).lambda_max or 0
    sharp, metrics = lines(folder, "sharpness"), lines(folder, "metrics")
    assert [line["step"] for line in sharp] == [line["step"] for line in metrics] == [0, 10, 20, 25]
    for line in sharp:
        assert line["lambda_max"] == pytest.approx(wanted[line["step"]], rel=1e-3)
        assert line["low"] <= line["lambda_max"] <= line["high"]
        assert line["verdict"] == "certified"
        assert line["threshold"] == pytest.approx(2 * 1.9 / 0.2)
        assert line["measures"].keys() == {"fisher-rao", "average-case:sigma=0.01"}
    assert tracker.lambda_max == sharp[-1]["lambda_max"]
    last = package.sharpness(model, data, measure=("fisher-rao",)).readings[0].value
    assert sharp[-1]["measures"]["fisher-rao"] == pytest.approx(last, rel=1e-5)
    for split, part in data.items():
        objective = package.Objective.of(model, *part)
        evaluation = objective.evaluate(objective.parameters())
        assert metrics[-1][f"{split}_loss"] == pytest.approx(evaluation.loss, rel=1e-6)
        assert metrics[-1][f"{split}_accuracy"] == evaluation.accuracy
    for line in lines(folder, "distances"):
        assert line["distance"] == pytest.approx(gone[line["step"]], rel=1e-5)
    # The commands read the folder.
    (tmp_path / "net.py").write_text(CODE)
    torch.save({"train": (inputs, targets), "test": (inputs[:20], targets[:20])}, tmp_path / "data.pt")
    distance = sharpcli("distance", folder, "--json")
    assert json.loads(distance.stdout)["result"]["distance"] == pytest.approx(gone[25], rel=1e-6)
    words = ["--model", f"{tmp_path / 'net.py'}:net", "--data", f"pt:{tmp_path / 'data.pt'}", "--topk", 1]
    along = sharpcli("hessian", folder, "--along-run", *words, "--json")
    assert along.exit_code == 0, along.stderr
    found = {row["checkpoint"]["step"]: row["lambda_max"] for row in json.loads(along.stdout)["result"]["checkpoints"]}
    assert sorted(found) == [0, 5, 10, 15, 20, 25]
    for step in (10, 20, 25):
        assert found[step] == pytest.approx(wanted[step], rel=1e-3)
    alone = json.loads(sharpcli("hessian", folder, *words, "--json").stdout)["result"]
    assert alone["momentum_threshold"] == pytest.approx(2 * 1.9 / 0.2)
    assert sharpcli("inspect", folder, *words[:4]).exit_code == 0


def test_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    ends, random = [], []
    for number in range(2):
        model, inputs, targets, optimizer = made()
        data = {"train": (inputs, targets)}
        tracker = sharpcli.track(model, data, tmp_path / "run", every=5, optimizer=optimizer) if number else None
        go(model, inputs, targets, optimizer, lambda _, tracker=tracker: tracker.step() if tracker else None)
        if tracker:
            tracker.close()
            assert model.training
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        ends.append({**model.state_dict()})
        random.append(torch.get_rng_state())
    assert all(torch.equal(part, ends[1][name]) for name, part in ends[0].items())
    assert torch.equal(*random)


def test_a_compiled_model_is_followed(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    compiled = torch.compile(model)
    with sharpcli.track(compiled, (inputs, targets), tmp_path / "run") as tracker:
        with torch.no_grad():
            model[0].weight.mul_(2)
        tracker.step()
    wanted = sharpcli.hessian(model, (inputs, targets), topk=1).lambda_max
    assert tracker.lambda_max == pytest.approx(wanted, rel=1e-3)
    assert set(torch.load(tmp_path / "run" / "final.pt")["state_dict"]) == set(model.state_dict())


def test_a_training_that_is_continued_continues_the_records(tmp_path: Path) -> None:
    model, inputs, targets, optimizer = made()
    data, folder = (inputs, targets), tmp_path / "run"
    begun = torch.cat([part.detach().flatten().double() for part in model.parameters()])
    tracker = sharpcli.track(model, data, folder, every=10, optimizer=optimizer)
    kept: dict[str, Tensor] = {}

    def after(step: int) -> None:
        tracker.step()
        if step == 20:
            kept.update({name: part.clone() for name, part in model.state_dict().items()})

    go(model, inputs, targets, optimizer, after)  # Killed here: not closed.
    model.load_state_dict(kept)
    with sharpcli.track(model, data, folder, every=10, optimizer=optimizer, first_step=20) as again:
        assert [line["step"] for line in again.records.lines["sharpness"]] == [0, 10, 20]
        go(model, inputs, targets, optimizer, lambda _: again.step())
    assert [line["step"] for line in lines(folder, "sharpness")] == [0, 10, 20, 30, 40, 45]
    gone = float((torch.cat([part.detach().flatten().double() for part in model.parameters()]) - begun).norm())
    assert sharpcli.distance(folder).distance == pytest.approx(gone, rel=1e-6)


def test_a_measurement_that_fails_does_not_stop_the_training(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    tracker = sharpcli.track(model, (inputs, targets), tmp_path / "run", every=1)
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    with pytest.warns(UserWarning, match="sharpcli has not measured at step 1: .*not finite"):
        tracker.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracker.close()
    assert [line["step"] for line in lines(tmp_path / "run", "sharpness")] == [0]
    assert lines(tmp_path / "run", "metrics")[-1]["train_loss"] is None
    assert (tmp_path / "run" / "final.pt").is_file()


def test_ctrl_c_closes_it(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()

    def interrupted() -> None:
        with sharpcli.track(model, (inputs, targets), tmp_path / "run") as tracker:
            tracker.step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.load(tmp_path / "run" / "final.pt")["metadata"]["step"] == 1


def test_a_run_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    data = (inputs, targets)
    sharpcli.track(model, data, tmp_path / "run").close()
    before = (tmp_path / "run" / "final.pt").read_bytes()
    with pytest.raises(SettingsError, match="already holds a run"):
        sharpcli.track(model, data, tmp_path / "run")
    assert (tmp_path / "run" / "final.pt").read_bytes() == before
    sharpcli.track(model, data, tmp_path / "run", overwrite=True, topk=2).close()
    assert len(lines(tmp_path / "run", "sharpness")[0]["eigenvalues"]) == 2
    assert not (tmp_path / "run" / ".replaced").exists()


@pytest.mark.slow
def test_measures_that_cannot_be_computed_are_left_out_of_all(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    data = {"train": (inputs, targets), "test": (inputs[:9], targets[:9])}  # Fewer test samples than are asked for.
    with pytest.warns(UserWarning, match="subspace=100 is left out"):
        tracker = sharpcli.track(model, data, tmp_path / "run", measure=["all"], samples=20)
    (line,) = tracker.records.lines["sharpness"]
    assert len(line["measures"]) > 8
    assert "epsilon-sharpness:subspace=100" not in line["measures"]


def test_steps_without_records_are_said(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    with pytest.warns(UserWarning, match="has no records of the first 7 steps"):
        sharpcli.track(model, (inputs, targets), tmp_path / "run", first_step=7).close()


def test_a_run_stays_where_it_is_if_the_new_one_cannot_begin(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    sharpcli.track(model, (inputs, targets), tmp_path / "run").close()
    with pytest.raises(InputError):
        sharpcli.track(model, (inputs[:, :3], targets), tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "final.pt").is_file()


def test_a_file_that_cannot_be_written_does_not_end_the_training(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    tracker = sharpcli.track(model, (inputs, targets), tmp_path / "run", every=5, save_every=1)
    (tmp_path / "run" / "step-1.pt").mkdir()
    with pytest.warns(UserWarning, match=r"step-1\.pt"):
        tracker.step()
    tracker.step()
    assert (tmp_path / "run" / "step-2.pt").is_file()


def test_what_cannot_be_followed_is_refused_before_training(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    data, place = (inputs, targets), tmp_path / "run"
    for options in ({"every": 0}, {"topk": 0}, {"split": "both"}, {"first_step": -1}):
        with pytest.raises(SettingsError):
            sharpcli.track(model, data, place, **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="no measure"):
        sharpcli.track(model, data, place, measure=["fisher"])
    with pytest.raises(InputError, match="cannot take inputs of shape"):
        sharpcli.track(model, (inputs[:, :3], targets), place)
    sharded = type("DTensor", (nn.Parameter,), {})
    model[0].weight = sharded(model[0].weight.detach())
    with pytest.raises(InputError, match="distributed over several processes"):
        sharpcli.track(model, data, place)
    assert not place.exists()


SCRIPT = """
import sys, torch
from torch import nn
import sharpcli
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
net = nn.Linear(4, 3)
x, y = torch.randn(30, 4), torch.arange(30) % 3
model = nn.parallel.DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
tracker = sharpcli.track(model, (x, y), f"{folder}/run", every=2, optimizer=optimizer)
for _ in range(5):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[rank::2]), y[rank::2]).backward()
    optimizer.step()
    tracker.step()
tracker.close()
assert tracker.steps == 5
print(tracker.lambda_max)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_of_two_processes_the_first_one_measures(tmp_path: Path) -> None:
    first, second = two_processes(SCRIPT, tmp_path)
    assert second.strip() == "None"
    sharp = lines(tmp_path / "run", "sharpness")
    assert [line["step"] for line in sharp] == [0, 2, 4, 5]
    assert float(first) == sharp[-1]["lambda_max"]


def test_buffers_that_are_not_saved_are_read_too_and_other_parameters_are_said(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)
            self.register_buffer("scale", torch.ones(()), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.tanh(self.a(x))) * self.scale

    _, inputs, targets, _ = made()
    model = Scaled()
    model.a.requires_grad_(False)
    tracker = sharpcli.track(model, (inputs, targets), tmp_path / "run", every=1, measure="gradient-norm")
    model.scale.fill_(3)
    tracker.step()
    assert tracker.lambda_max == pytest.approx(sharpcli.hessian(model, (inputs, targets), topk=1).lambda_max, rel=1e-3)
    model.a.requires_grad_(True)
    with pytest.warns(UserWarning, match="Other parameters are trained than at the start"):
        tracker.step()


def test_records_of_something_else_are_not_continued(tmp_path: Path) -> None:
    model, inputs, targets, _ = made()
    sharpcli.track(model, (inputs, targets), tmp_path / "run").close()
    for other, data, options, word in (
        (model, (inputs + 1, targets), {}, "data"),
        (model, (inputs, targets), {"loss": "mse"}, "loss"),
        (nn.Linear(6, 3), (inputs, targets), {}, "model"),
    ):
        with pytest.raises(SettingsError, match=f"are of another {word}"):
            sharpcli.track(other, data, tmp_path / "run", first_step=1, **options)  # type: ignore[arg-type]


def test_the_other_processes_count_their_steps() -> None:
    """A callback steps until the count is that of the trainer."""
    from sharpcli.callbacks.tracker import IdleTracker

    tracker = IdleTracker(3)
    tracker.step()
    tracker.close()
    assert (tracker.steps, tracker.lambda_max) == (4, None)


def test_it_is_made_by_track_only() -> None:
    assert sharpcli.track.__module__ == Tracker.__module__ == "sharpcli.callbacks.tracker"


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_an_adaptive_optimizer_is_held_to_its_own_edge(kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    """The line of the records is the answer of `hessian --operator preconditioned` for the file that was saved then."""
    code = tmp_path / "net.py"
    code.write_text(CODE)
    model, inputs, targets, _ = made()
    optimizer = kind(model.parameters(), lr=1e-3)
    data = {"train": (inputs, targets), "test": (inputs[:20], targets[:20])}
    with (
        pytest.warns(UserWarning, match="BatchNorm uses fixed statistics"),
        sharpcli.track(model, data, tmp_path / "run", every=10, save_every=10, optimizer=optimizer) as tracker,
    ):
        go(model, inputs, targets, optimizer, lambda _: tracker.step())
    first, *others = lines(tmp_path / "run", "sharpness")
    assert first["threshold"] is None
    for line, file in zip(others, ("step-10.pt", "step-20.pt", "final.pt"), strict=True):
        saved = sharpcli.checkpoints.read(tmp_path / "run" / file).optimizer
        assert saved.name == kind.__name__.lower()
        arrays = {"x_train": inputs.numpy(), "y_train": targets.numpy()}
        numpy.savez(tmp_path / "data.npz", **arrays)
        found = sharpcli.hessian(
            tmp_path / "run" / file, model=f"{code}:net", data=f"npz:{tmp_path / 'data.npz'}", operator="preconditioned", topk=1
        )
        assert line["preconditioned"]["lambda_max"] == pytest.approx(found.lambda_max, rel=2e-3)
        assert line["threshold"] == pytest.approx(found.stability_threshold)
        assert line["ratio"] == pytest.approx(line["preconditioned"]["lambda_max"] / line["threshold"])
