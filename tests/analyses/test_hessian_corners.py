"""Corners of `hessian` in which ends overlap, layers idle, or targets do not fit."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn

import sharpcli
from sharpcli.errors import InputError
from sharpcli.objective import Objective
from tests.device import on_device
from tests.nets import dense_hessian

NET = """from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.idle, self.last = nn.Linear(4, 3), nn.Linear(5, 2), nn.Linear(3, 2)
    def forward(self, inputs):
        return self.last(self.first(inputs).tanh())
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str], numpy.ndarray]:
    """Return a checkpoint with an idle layer, how to open it, and its eigenvalues."""
    folder = tmp_path_factory.mktemp("corners")
    random = numpy.random.default_rng(0)
    inputs, classes = random.normal(size=(60, 4)).astype(numpy.float32), numpy.arange(60) % 2
    numpy.savez(folder / "d.npz", x_train=inputs[:40], y_train=classes[:40], x_test=inputs[40:], y_test=classes[40:])
    numpy.savez(folder / "odd.npz", x_train=inputs[:40], y_train=classes[:40] + 5 * (numpy.arange(40) == 30),
                x_test=inputs[40:], y_test=classes[40:])  # fmt: skip
    (folder / "net.py").write_text(NET)
    how = {"model": f"{folder / 'net.py'}:Net", "data": f"npz:{folder / 'd.npz'}", "dtype": "float64"}
    run = sharpcli.train(**how, steps=20, lr=0.5, out=str(folder / "run")).rows[0].checkpoint
    state = torch.load(run, weights_only=True)["state_dict"]
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    for name, theirs in (("0", "first"), ("2", "last")):
        for part in ("weight", "bias"):
            model.state_dict()[f"{name}.{part}"].copy_(state[f"{theirs}.{part}"])
    runtime = on_device("float64")
    made = Objective.of(model, torch.from_numpy(inputs[:40]), torch.from_numpy(classes[:40]), runtime=runtime)
    values = numpy.linalg.eigvalsh(dense_hessian(made).cpu().numpy())
    return str(run), how, numpy.concatenate([values, numpy.zeros(12)])


@pytest.mark.parametrize(("topk", "bottomk", "which"), [(6, 3, "LM"), (8, 8, "LM"), (20, 20, "LA"), (35, 35, "LA")])
def test_what_is_listed_twice_is_counted_once(place, topk: int, bottomk: int, which: str):
    run, how, values = place
    found = sharpcli.hessian(run, **how, topk=topk, bottomk=bottomk, which=which, density=True, above=(-0.01, 0.02, 0.2))
    for count in found.density.counts:
        assert count.count.lower <= (values > count.threshold).sum() <= count.count.upper, count


def test_an_idle_layer_is_a_zero_block(place):
    run, how, _ = place
    layers = {layer.name: layer for layer in sharpcli.hessian(run, **how, topk=1, per_layer=True).layers}
    assert (layers["idle"].lambda_max, layers["idle"].trace.value, layers["idle"].num_parameters) == (0, 0, 12)
    assert layers["first"].lambda_max > 0


@pytest.mark.slow
def test_traces_of_layers_hold_the_traces(place):
    """The first eigenvalue is taken off, and with it most of the chance."""
    run, how, values = place
    inside, total = 0, float(values.sum())
    for seed in range(20):
        found = sharpcli.hessian(run, **how, topk=1, per_layer=True, seed=seed)
        parts = [layer.trace for layer in found.layers]
        low, high = (sum(getattr(part, end) for part in parts) for end in ("lower", "upper"))
        inside += low <= total <= high
    assert inside >= 18


def test_a_class_that_the_model_does_not_have_is_told_before_the_work(place):
    run, how, _ = place
    for loss in ("ce", "mse"):
        with pytest.raises(InputError, match="class 5"):
            sharpcli.hessian(run, **how | {"data": how["data"].replace("d.npz", "odd.npz")}, loss=loss, topk=1)


def test_the_few_samples_that_tell_are_some_that_have_a_target():
    targets = torch.tensor([-100] * 6 + [0, 1, -100, 1])
    made = Objective.of(nn.Linear(3, 2), torch.randn(10, 3), targets)
    assert made.few(3).targets.tolist() == [0, 1, 1]
