"""Folders that torch.distributed.checkpoint writes, by one process and by two."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpcli import checkpoints
from sharpcli.errors import InputError
from tests.processes import two_processes


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def save(content: dict[str, Any], folder: Path) -> Path:
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(content, checkpoint_id=str(folder))
    return folder


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(9, 4)).square().sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model, optimizer = trained()
    return save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}, tmp_path / "dcp")


def same(found: dict[str, torch.Tensor], model: nn.Module) -> None:
    assert found.keys() == model.state_dict().keys()
    for name, part in model.state_dict().items():
        assert torch.equal(found[name], part), name
        assert found[name].dtype == part.dtype


def test_the_weights_are_those_that_were_saved(folder: Path) -> None:
    read = checkpoints.read(folder)
    same(read.state, trained()[0])
    assert read.path == folder
    assert read.container == "distributed checkpoint"


@pytest.mark.parametrize("form", ["flat", "nested", "half"])
def test_other_forms(form: str, tmp_path: Path) -> None:
    model = net().to(torch.bfloat16) if form == "half" else net()
    content = model.state_dict() if form != "nested" else {"app": {"model": model.state_dict(), "optim": {"lr": torch.ones(2)}}}
    same(checkpoints.read(save(content, tmp_path / "dcp")).state, model)


def test_several_sets_of_weights_are_asked_about(tmp_path: Path) -> None:
    model, other = net(), net()
    folder = save({"model": model.state_dict(), "ema": other.state_dict()}, tmp_path / "dcp")
    with pytest.raises(InputError, match="holds 2 sets of weights"):
        checkpoints.read(folder)
    same(checkpoints.read(folder, "ema").state, other)
    same(checkpoints.read(f"{folder}::model").state, model)


def test_the_commands_take_the_folder(folder: Path, tmp_path: Path, sharpcli: Callable[..., Any]) -> None:
    code = "from torch import nn\n"
    code += "def net(): return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))\n"
    (tmp_path / "net.py").write_text(code)
    torch.save({"train": (torch.randn(30, 4), torch.arange(30) % 3)}, tmp_path / "data.pt")
    torch.save(trained()[0].state_dict(), tmp_path / "same.pt")
    words = ["--model", f"{tmp_path / 'net.py'}:net", "--data", f"pt:{tmp_path / 'data.pt'}"]
    for command in (["hessian", "--topk", 1], ["inspect"], ["sharpness", "--measure", "gradient-norm"]):
        answer = sharpcli(*command, folder, *words)
        assert answer.exit_code == 0, answer.stderr
    distance = sharpcli("distance", folder, "--init", tmp_path / "same.pt", "--json")
    assert '"distance": 0.0' in distance.stdout


@pytest.mark.parametrize("form", ["numbers", "names", "tensor rate"])
def test_the_state_of_the_optimizer_is_read_when_it_is_needed(form: str, tmp_path: Path) -> None:
    """By the numbers that torch gives the parameters, or by their names, as torch.distributed.checkpoint gives them."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model, optimizer = trained()
    if form == "tensor rate":
        optimizer.param_groups[0]["lr"] = torch.tensor(0.001)
    weights, state = get_state_dict(model, optimizer) if form == "names" else (model.state_dict(), optimizer.state_dict())
    folder = save({"model": weights, "optim": state}, tmp_path / "dcp")
    read = checkpoints.read(folder)
    same(read.state, model)
    kept = read.optimizer
    assert kept is not None
    assert kept.name == "adam"
    assert kept.options["lr"] == pytest.approx(0.001)
    assert kept.options["betas"] == [0.9, 0.999]
    found = list(kept.numbered or kept.tensors.values())
    for ours, theirs in zip(found, optimizer.state.values(), strict=True):
        assert torch.equal(ours["exp_avg_sq"], theirs["exp_avg_sq"])
    if form == "names":
        assert list(kept.tensors) == [name for name, _ in model.named_parameters()]
    for file in folder.glob("*.distcp"):  # Without the files, the weights that were read are still there.
        file.unlink()
    with pytest.raises(InputError):
        _ = read.optimizer


def changed(folder: Path, change: Callable[[Any], None]) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def first(about: Any) -> Any:
    return next(iter(about.storage_data.values()))


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    cut = copy("cut")
    data = cut / "__0_0.distcp"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    missing = copy("missing")
    (missing / "__0_0.distcp").unlink()
    huge = copy("huge")
    changed(huge, lambda about: setattr(about.state_dict_metadata["model.0.weight"], "size", torch.Size([10**12, 4])))
    hole = copy("hole")
    changed(hole, lambda about: setattr(about.state_dict_metadata["model.0.weight"], "size", torch.Size([9, 4])))
    outside = copy("outside")
    changed(outside, lambda about: [setattr(place, "relative_path", "../x") for place in about.storage_data.values()])
    packed = copy("packed")
    changed(packed, lambda about: [setattr(place, "transform_descriptors", ["zstd"]) for place in about.storage_data.values()])
    other = copy("other")
    parts = [ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([4, 4]))]
    changed(other, lambda about: setattr(about.state_dict_metadata["model.0.weight"], "chunks", parts))
    twice = copy("twice")
    changed(twice, lambda about: setattr(about.state_dict_metadata["model.0.weight"], "chunks", [*parts, *parts]))
    beyond = copy("beyond")
    far = [ChunkStorageMetadata(torch.Size([4, 0]), torch.Size([8, 4]))]
    changed(beyond, lambda about: setattr(about.state_dict_metadata["model.0.weight"], "chunks", far))
    changed(
        beyond, lambda about: about.storage_data.update({MetadataIndex("model.0.weight", torch.Size([4, 0])): first(about)})
    )
    long = copy("long")
    changed(long, lambda about: [setattr(place, "length", 2**70) for place in about.storage_data.values()])
    empty = copy("empty")
    (empty / ".metadata").write_bytes(pickle.dumps({"a": 1}))
    evil = copy("evil")
    (evil / ".metadata").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for place, message in (
        (cut, "is damaged or cut short"),
        (missing, "There is no file|No such file|Cannot read"),
        (huge, "holds less of 'model.0.weight' than its size"),
        (hole, "does not hold all parts of 'model.0.weight'"),
        (outside, "which is not in its folder"),
        (packed, "is compressed"),
        (other, "is not what .metadata says"),
        (twice, "do not fit together"),
        (beyond, "do not fit together"),
        (long, "is damaged or cut short"),
        (empty, "does not have the content of a distributed checkpoint"),
        (evil, "without running code in it: it names os.system"),
    ):
        with pytest.raises(InputError, match=message):
            checkpoints.read(place)


SCRIPT = """
import sys, warnings, torch
warnings.simplefilter("ignore")
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
whole = torch.arange(28.0).view(7, 4)  # Seven rows: the parts are of different sizes.
columns = torch.arange(24.0).view(4, 6)
state = {"a": distribute_tensor(whole, mesh, [Shard(0)]), "b": distribute_tensor(columns, mesh, [Shard(1)]), "c": torch.ones(3)}
dcp.save({"model": state}, checkpoint_id=f"{folder}/dcp")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_the_parts_of_two_processes_are_put_together(tmp_path: Path) -> None:
    two_processes(SCRIPT, tmp_path)
    assert len(list((tmp_path / "dcp").glob("*.distcp"))) == 2
    state = checkpoints.read(tmp_path / "dcp").state
    assert torch.equal(state["a"], torch.arange(28.0).view(7, 4))
    assert torch.equal(state["b"], torch.arange(24.0).view(4, 6))
    assert torch.equal(state["c"], torch.ones(3))
