"""Models and data in memory: the numbers are those of the same model in a file, and nothing of the model changes."""

from __future__ import annotations

import random as python_random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sharpcli
from sharpcli.errors import InputError, SettingsError
from sharpcli.results import HessianResult

CODE = """
import torch
from torch import nn
def net(num_classes):
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, num_classes))
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=generator)
    return {"train": (x[:40], torch.arange(40) % 3), "test": (x[40:], torch.arange(20) % 3)}
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "mine.py"
    path.write_text(CODE)
    return path


def made(code: Path, seed: int = 0) -> tuple[nn.Module, Any]:
    space: dict[str, Any] = {}
    exec(code.read_text(), space)
    torch.manual_seed(seed)
    return space["net"](3), space["data"]()


def values(result: HessianResult) -> list[float]:
    assert all(row.verdict == "certified" for row in result.eigenvalues)
    return [row.value for row in result.eigenvalues]


def test_a_model_in_memory_gives_the_numbers_of_its_file(code: Path, tmp_path: Path):
    model, data = made(code)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    live = sharpcli.hessian(model, data, topk=4, max_hvp=500)
    options = {"model": f"{code}:net", "data": f"{code}:data", "topk": 4, "max_hvp": 500}
    stored = sharpcli.hessian(tmp_path / "net.pt", **options)
    assert values(live) == values(stored)
    assert live.checkpoint.path == "<Sequential in memory>"
    assert live.checkpoint.sha256 == stored.checkpoint.sha256
    assert live.conditions.preprocessing == "as the data gives them"
    named = {"model": options["model"], "data": options["data"]}
    phi = [sharpcli.sharpness(model, data, epsilon=(1e-3,)), sharpcli.sharpness(tmp_path / "net.pt", epsilon=(1e-3,), **named)]
    assert [one.phi for one in phi[0].measurements] == [one.phi for one in phi[1].measurements]


@pytest.mark.parametrize("form", ["tensors", "data set", "loader"])
def test_every_form_of_data(code: Path, form: str):
    model, data = made(code)
    pair = data["train"]
    given = {"tensors": pair, "data set": TensorDataset(*pair), "loader": DataLoader(TensorDataset(*pair), 7, shuffle=True)}
    assert values(sharpcli.hessian(model, given[form], topk=2)) == values(sharpcli.hessian(model, data, topk=2))


def test_nothing_of_the_model_changes(code: Path):
    model, data = made(code)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[4].bias.requires_grad_(False)
    random, numpys, own = torch.get_rng_state(), numpy.random.get_state(), python_random.getstate()
    sharpcli.hessian(model, data, topk=1, dtype="float64")
    loader = DataLoader(TensorDataset(*data["train"]), 7, shuffle=True)  # It draws from torch's generator in each pass.
    sharpcli.interpolate(model, model, {"train": loader, "test": loader}, points=3)
    assert python_random.getstate() == own
    assert all(numpy.array_equal(one, other) for one, other in zip(numpys, numpy.random.get_state(), strict=True))
    assert model.training
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[4].weight.grad is None
    assert not model[4].bias.requires_grad
    assert not model._forward_hooks
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_wrappers_are_taken_off(code: Path):
    model, data = made(code)
    plain = values(sharpcli.hessian(model, data, topk=2))
    assert values(sharpcli.hessian(nn.DataParallel(model), data, topk=2)) == plain
    assert values(sharpcli.hessian(torch.compile(model), data, topk=2)) == plain


def test_a_path_between_two_models(code: Path):
    (first, data), (second, _) = made(code, 0), made(code, 1)
    result = sharpcli.interpolate(first, second, data, points=5)
    end = result.alphas.index(1.0)
    evaluation = sharpcli.Objective.of(second, *data["train"], bn="recompute")
    named = sharpcli.interpolate(first, second, data, points=3, names=("a", "b"))
    assert (named.start.label, named.end.label) == ("a", "b")
    assert sharpcli.hessian(first, data, topk=1, name="a net").checkpoint.label == "a net"
    with pytest.raises(SettingsError, match="same name"):
        sharpcli.interpolate(first, second, data, names=("a", "a"))
    assert (result.start.label, result.end.label) == ("<Sequential in memory, 1>", "<Sequential in memory, 2>")
    assert result.curves[0].loss[end] == pytest.approx(evaluation.loss(evaluation.parameters()), rel=1e-5)


def test_models_are_compared_by_their_names(code: Path, tmp_path: Path):
    (first, data), (second, _), (start, _) = (made(code, seed) for seed in range(3))
    for name, model in (("first", first), ("second", second), ("start", start)):
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    live = sharpcli.compare({"lr 0.1": first, "lr 0.5": second}, data, init=start)
    files, named = [tmp_path / "first.pt", tmp_path / "second.pt"], {"model": f"{code}:net", "data": f"{code}:data"}
    stored = sharpcli.compare(files, init=tmp_path / "start.pt", **named)
    assert [row.checkpoint.label for row in live.rows] == ["lr 0.1", "lr 0.5"]
    for one, other in zip(live.rows, stored.rows, strict=True):
        for field in ("train_loss", "gap", "lambda_max", "phi", "distance"):
            assert getattr(one, field) == getattr(other, field) is not None
    unnamed = sharpcli.compare([first, second], data, metrics="hessian")
    assert [row.checkpoint.label for row in unnamed.rows] == ["<Sequential in memory, 1>", "<Sequential in memory, 2>"]
    alone = sharpcli.compare(first, data, metrics="distance")
    assert alone.rows[0].notes == ("No distance: The initial weights of a model in memory are not known.",)
    results = sharpcli.hessian_all({"a": first, "b": second}, data, topk=1)
    assert [result.checkpoint.label for result in results] == ["a", "b"]
    assert [values(result)[0] for result in results] == [
        values(sharpcli.hessian(net, data, topk=1))[0] for net in (first, second)
    ]


def test_the_distance_between_models(code: Path, tmp_path: Path):
    (model, _), (start, _) = made(code, 0), made(code, 1)
    names = [name for name, _ in model.named_parameters()]
    gone = [(model.get_parameter(name) - start.get_parameter(name)).detach().double().norm() for name in names]
    wanted = float(torch.stack(gone).norm())
    torch.save(start.state_dict(), tmp_path / "start.pt")
    starts = (start, start.state_dict(), tmp_path / "start.pt", str(tmp_path / "start.pt"))
    for result in (sharpcli.distance(model, init) for init in starts):
        assert result.distance == pytest.approx(wanted, rel=1e-6)
        assert result.known_by == "model"
        assert result.num_parameters == sum(part.numel() for part in model.parameters())
    assert [layer.name for layer in sharpcli.distance(model, start, per_layer=True).layers] == names
    with pytest.raises(InputError, match="initial weights of a model in memory are not known"):
        sharpcli.distance(model)
    with pytest.raises(InputError, match="does not fit"):
        sharpcli.distance(model, nn.Linear(3, 3))
    with pytest.raises(SettingsError, match="is no tensor"):
        sharpcli.distance(model, {"epoch": 3})


def test_a_plane_around_a_model_and_through_three(code: Path):
    (first, data), (second, _), (third, _) = (made(code, seed) for seed in range(3))
    around = sharpcli.surface(first, data, points=3)
    evaluation = sharpcli.Objective.of(first, *data["train"], bn="recompute")
    assert around.loss_at_origin == pytest.approx(evaluation.loss(evaluation.parameters()), rel=1e-5)
    through = sharpcli.surface({"a": first, "b": second, "c": third}, data, points=3)
    assert [mark.name for mark in through.marks] == ["a", "b", "c"]


def trained(optimizer: Any = torch.optim.Adam) -> tuple[nn.Module, torch.optim.Optimizer, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    data = torch.randn(20, 3), torch.arange(20) % 2
    steps = optimizer(model.parameters(), lr=0.05)
    for _ in range(3):
        steps.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        steps.step()
    return model, steps, data


def test_an_optimizer_in_memory_gives_the_numbers_of_its_file(tmp_path: Path):
    model, optimizer, data = trained()
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net(): return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))\n"
    )
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    torch.save({"train": data}, tmp_path / "d.pt")
    of_file: dict[str, Any] = {"model": f"{tmp_path / 'net.py'}:net", "data": f"pt:{tmp_path / 'd.pt'}"}
    before = {name: part.clone() for part in optimizer.state.values() for name, part in part.items()}
    with_file = sharpcli.hessian(tmp_path / "a.pt", operator="preconditioned", topk=1, **of_file)
    in_memory = sharpcli.hessian(model, {"train": data}, optimizer=optimizer, operator="preconditioned", topk=1)
    assert in_memory.lambda_max == pytest.approx(with_file.lambda_max, rel=1e-6)
    assert in_memory.preconditioner == with_file.preconditioner
    assert in_memory.stability_threshold == with_file.stability_threshold == pytest.approx(38 / 0.05)
    wrapped = sharpcli.hessian(torch.compile(model), data, optimizer=optimizer, operator="preconditioned", topk=1)
    assert wrapped.lambda_max == in_memory.lambda_max
    along = "critical-sharpness:direction=optimizer,curvature=False"
    (ours,) = sharpcli.sharpness(model, data, optimizer=optimizer, measure=along).readings
    (theirs,) = sharpcli.sharpness(tmp_path / "a.pt", measure=along, **of_file).readings
    assert ours.value == pytest.approx(theirs.value, rel=1e-6)
    assert {name: part.clone() for part in optimizer.state.values() for name, part in part.items()}.keys() == before.keys()


def test_batch_norm_with_fixed_statistics_does_not_fit_the_optimizer():
    """A bias before BatchNorm has second moments near 0 in training, and curvature with fixed statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    data = torch.randn(20, 3), torch.arange(20) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    common: dict[str, Any] = {"optimizer": optimizer, "operator": "preconditioned", "topk": 1}
    fixed = sharpcli.hessian(model, data, **common)
    ours = sharpcli.hessian(model, data, bn="batch", bn_block=20, **common)
    assert any("BatchNorm uses fixed statistics" in warning for warning in fixed.warnings)
    assert not any("fixed statistics" in warning for warning in ours.warnings)
    assert fixed.lambda_max > 100 * ours.lambda_max
    along = sharpcli.sharpness(model, data, optimizer=optimizer, measure="critical-sharpness:direction=optimizer")
    assert any("BatchNorm uses fixed statistics" in warning for warning in along.warnings)


def test_optimizers_that_do_not_help_are_refused(tmp_path: Path):
    model, optimizer, data = trained()
    other = trained()[1]
    with pytest.raises(InputError, match="trains no parameter of <Sequential in memory>"):
        sharpcli.hessian(model, data, optimizer=other, operator="preconditioned")
    with pytest.raises(InputError, match="does not hold the state of an optimizer") as caught:
        sharpcli.hessian(model, data, operator="preconditioned")
    assert "optimizer=" in (caught.value.hint or "")
    model, descent, data = trained(torch.optim.SGD)
    with pytest.raises(InputError, match="is SGD"):
        sharpcli.hessian(model, data, optimizer=descent, operator="preconditioned")
    model, optimizer, data = trained()
    with pytest.raises(SettingsError, match="needs a model in memory"):
        sharpcli.hessian(tmp_path / "a.pt", optimizer=optimizer)
    with pytest.raises(SettingsError, match="A dict is no optimizer"):
        sharpcli.hessian(model, data, optimizer=optimizer.state_dict())  # type: ignore[arg-type]


def test_what_is_no_model_and_no_file_is_refused(code: Path, tmp_path: Path):
    model, data = made(code)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    with pytest.raises(SettingsError, match="A OrderedDict is neither a file nor a model"):
        sharpcli.hessian(model.state_dict(), data)
    with pytest.raises(SettingsError, match="'a' names the file"):
        sharpcli.compare({"a": tmp_path / "a.pt"}, data)
    with pytest.raises(SettingsError, match=r"a\.pt is a file"):
        sharpcli.compare([model, tmp_path / "a.pt"], data)
    with pytest.raises(SettingsError, match="no saved steps"):
        sharpcli.hessian_all([model], data, along_run=True)


def test_a_model_of_several_inputs_and_outputs():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
            return {"logits": self.layer(torch.cat([left, right], 1))}

    torch.manual_seed(0)
    model, x, y = Pair(), torch.randn(30, 4), torch.arange(30) % 3
    plain = nn.Sequential(model.layer)
    both = [
        sharpcli.hessian(model, [({"right": x[:, 1:], "left": x[:, :1]}, y)], topk=2),
        sharpcli.hessian(plain, (x, y), topk=2),
    ]
    assert values(both[0]) == pytest.approx(values(both[1]), rel=1e-5)
    assert both[0].conditions.output == "logits"


def test_a_data_set_by_name_and_a_loss(code: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    result = sharpcli.hessian(model, "fashion-mini", loss="mse", topk=1, samples=100)
    assert result.conditions.loss_function == "mse"
    assert result.conditions.num_samples == 100


@pytest.mark.parametrize("option", [{"weights": "ema"}, {"num_classes": 7}, {"model_arg": ("a=1",)}, {"ignore_keys": ("0.*",)},
                                    {"data_arg": ("a=1",)}])  # fmt: skip
def test_options_for_files_are_refused(option: dict[str, Any], code: Path):
    model, data = made(code)
    with pytest.raises(SettingsError, match="has no effect on what is in memory"):
        sharpcli.hessian(model, data, topk=1, **option)


def test_what_cannot_be_analysed_is_said(code: Path):
    model, data = made(code)
    with pytest.raises(SettingsError, match="A model in memory needs data"):
        sharpcli.hessian(model, topk=1)
    with pytest.raises(SettingsError, match="a model, but one is given"):
        sharpcli.hessian(model, data, model="mlp")
    with pytest.raises(InputError, match="does not say how its images were transformed"):
        sharpcli.hessian(model, "folder:pictures")
    with pytest.raises(InputError, match="are one-hot integers"):
        sharpcli.hessian(model, (data["train"][0], torch.eye(3, dtype=torch.long)[data["train"][1]]))
    with pytest.raises(SettingsError, match="is a file"):
        sharpcli.hessian("net.pt", data)
    with pytest.raises(InputError, match="cannot take inputs of shape"):
        sharpcli.hessian(model, (torch.randn(10, 4), torch.arange(10) % 3))
    with pytest.raises(InputError, match="'the data' returns a int"):
        sharpcli.hessian(model, 3)


def test_a_model_without_numbers_is_refused(code: Path):
    _, data = made(code)
    lazy = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3))
    with pytest.raises(InputError, match=r"<Sequential in memory> has a layer of unknown size: '0\.weight' is lazy"):
        sharpcli.hessian(lazy, data, topk=1)
    with pytest.raises(InputError, match=r"has no numbers: 'weight' is on the meta device"):
        sharpcli.hessian(nn.Linear(6, 3, device="meta"), data, topk=1)
