"""Which weights of a file are read: sets of weights, what is left out, and types, in every container."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sharpcli import checkpoints, progress
from sharpcli.errors import InputError

State = dict[str, Tensor]
STATE: State = {"a.weight": torch.arange(6.0).view(3, 2), "a.bias": torch.ones(3)}
OTHER: State = {name: part + 1 for name, part in STATE.items()}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3, 2)}}, "param_groups": [{"lr": 0.1}]}


def written(content: object, folder: Path) -> Path:
    torch.save(content, folder / "x.pt")
    return folder / "x.pt"


SEVERAL = {
    "timm": ({"state_dict": STATE, "state_dict_ema": OTHER}, "state_dict_ema"),
    "swa": ({"state_dict": STATE, "swa_state_dict": OTHER, "swa_n": 4, "optimizer": OPTIMIZER}, "swa_state_dict"),
    "torchvision": ({"model": STATE, "model_ema": {"n_averaged": torch.tensor(3), **OTHER}, "epoch": 1}, "model_ema"),
    "shadow": ({"model": STATE, "ema": {"decay": 0.99, "shadow": OTHER}}, "ema/shadow"),
    "callback": ({"state_dict": STATE, "callbacks": {"EMA": {"weights": OTHER}}, "optimizer_states": [OPTIMIZER]}, "EMA"),
    "two networks": ({"generator": STATE, "discriminator": OTHER}, "discriminator"),
    "the same twice": ({"state_dict": STATE, "state_dict_ema": STATE}, "state_dict_ema"),
    "teacher": ({"student": STATE, "teacher": OTHER, "optimizer": OPTIMIZER}, "teacher"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_sets_one_has_to_be_named(name: str, tmp_path: Path) -> None:
    content, second = SEVERAL[name]
    place = written(content, tmp_path)
    with pytest.raises(InputError, match="2 sets of weights") as caught:
        checkpoints.read(place)
    assert f"'{next(iter(content))}'" in caught.value.message
    assert "--weights" in caught.value.hint
    wanted = STATE if name == "the same twice" else OTHER
    for found in (checkpoints.read(place, second), checkpoints.read(f"{place}::{second}")):
        assert torch.equal(found.state["a.weight"], wanted["a.weight"])
        assert found.weights.endswith(second) or second in found.weights
        assert found.address == f"{place}::{found.weights}"
    first = checkpoints.read(place, next(iter(content)))
    assert torch.equal(first.state["a.weight"], STATE["a.weight"])


def test_one_word_of_a_key_is_enough_where_it_is_one_keys(tmp_path: Path) -> None:
    place = written({"state_dict": STATE, "state_dict_ema": OTHER}, tmp_path)
    assert checkpoints.read(place, "EMA").weights == "state_dict_ema"
    for word in ("dict", "swa"):
        with pytest.raises(InputError, match=f"'{word}'"):
            checkpoints.read(place, word)


def test_weights_without_names_are_a_set_too(tmp_path: Path) -> None:
    place = written({"model": STATE, "ema": {"decay": 0.9, "shadow_params": list(OTHER.values())}}, tmp_path)
    with pytest.raises(InputError, match="2 sets of weights") as caught:
        checkpoints.read(place)
    assert "--weights model," in caught.value.hint
    with pytest.raises(InputError, match="without names"):
        checkpoints.read(place, "ema")
    assert checkpoints.read(place, "model").state.keys() == STATE.keys()


ONE: dict[str, Any] = {
    "plain": STATE,
    "wrapped": {"state_dict": STATE, "epoch": 3},
    "deep": {"model": {"state_dict": STATE}},
    "optimizers": {
        "model": STATE,
        "optimizer": OPTIMIZER,
        "optim_g": {"m": torch.ones(3)},
        "lr_scheduler": {"x": torch.ones(2)},
    },
    "random numbers": {"model": STATE, "rng_state": torch.get_rng_state(), "cuda_rng": [torch.ones(2, dtype=torch.uint8)]},
    "hyperparameters": {"state_dict": STATE, "hyper_parameters": {"w": {"x": torch.ones(2)}}},
}


@pytest.mark.parametrize("name", ONE)
def test_one_set_of_weights_needs_no_name(name: str, tmp_path: Path) -> None:
    found = checkpoints.read(written(ONE[name], tmp_path))
    assert found.state.keys() == STATE.keys()
    assert found.address == str(tmp_path / "x.pt")


def test_a_name_that_is_not_there_is_refused(tmp_path: Path, runs: Path) -> None:
    for place in (written(STATE, tmp_path), runs / "sgd"):
        with pytest.raises(InputError, match="ema") as caught:
            checkpoints.read(place, "ema")
        assert "leave --weights out" in caught.value.hint
    assert checkpoints.read(written({"model": STATE}, tmp_path), "model").weights == "model"


def test_a_part_of_a_flat_state_dict(tmp_path: Path) -> None:
    state = {f"{word}.{name}": part for word, parts in (("student", STATE), ("teacher", OTHER)) for name, part in parts.items()}
    place = written({"state_dict": state}, tmp_path)
    with pytest.raises(InputError, match="does not fit") as caught:
        checkpoints.fit(checkpoints.read(place), nn.Sequential())
    with pytest.raises(InputError, match="does not fit") as caught:
        checkpoints.fit(checkpoints.read(place), Holder())
    assert "--weights student" in caught.value.hint
    model = Holder()
    checkpoints.fit(checkpoints.read(place, "teacher"), model)
    assert torch.equal(model.a.weight, OTHER["a.weight"])


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 3)


def test_a_file_name_with_colons_is_a_file_name(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a::b.pt")
    assert checkpoints.read(tmp_path / "a::b.pt").state.keys() == STATE.keys()


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ({"model": STATE, "class_weights": torch.ones(3)}, "class_weights"),
        ({"model": STATE, "criterion": {"weight": torch.ones(3)}}, "criterion"),
        ({**STATE, "a._extra_state": None}, "a._extra_state"),
        ({**STATE, "epoch": 3}, "epoch"),
    ],
)
def test_what_is_left_out_is_named(content: object, left: str, tmp_path: Path) -> None:
    with progress.gathering() as warnings:
        found = checkpoints.read(written(content, tmp_path))
    assert found.left_out == (left,)
    assert f"'{left}'" in warnings[0]


@pytest.mark.parametrize("content", [OPTIMIZER, {"optimizer": OPTIMIZER, "epoch": 3}])
def test_an_optimizer_alone_is_called_that(content: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="state of an optimizer"):
        checkpoints.read(written(content, tmp_path))


CONTAINERS: dict[str, Callable[[State, Path], None]] = {
    "zip": torch.save,
    "legacy": lambda state, place: torch.save(state, place, _use_new_zipfile_serialization=False),
    "wrapped": lambda state, place: torch.save({"model": state}, place),
    "sharpcli": lambda state, place: checkpoints.write(place, state, {}),
    "safetensors": lambda state, place: save_file(state, place),
}


def ending(container: str) -> str:
    return "x.safetensors" if container == "safetensors" else "x.pt"


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_that_are_not_real_are_refused_alike(dtype: torch.dtype, container: str, tmp_path: Path) -> None:
    place = tmp_path / ending(container)
    CONTAINERS[container]({**STATE, "a.bias": torch.ones(3).to(dtype)}, place)
    with pytest.raises(InputError, match="real floating-point numbers") as caught:
        checkpoints.read(place)
    if container != "legacy" or dtype.is_complex:  # torch itself cannot read eight-bit numbers from there.
        assert f"'a.bias' in {place} is of type {str(dtype).removeprefix('torch.')}" in caught.value.message


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.bool])
def test_whole_numbers_are_refused_as_weights_alike(dtype: torch.dtype, container: str, tmp_path: Path) -> None:
    """With a model that trains them, and without one by their name; before, torch cast them without a word."""
    place = tmp_path / ending(container)
    CONTAINERS[container]({**STATE, "a.bias": torch.ones(3, dtype=dtype)}, place)
    read = checkpoints.read(place)
    for ask in (lambda: checkpoints.fit(read, Holder()), lambda: checkpoints.parts(read)):
        with pytest.raises(InputError, match=r"'a\.bias' in .* real floating-point numbers"):
            ask()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_real_numbers_of_any_width_are_taken(dtype: torch.dtype, container: str, tmp_path: Path) -> None:
    place = tmp_path / ending(container)
    CONTAINERS[container]({name: part.to(dtype) for name, part in STATE.items()}, place)
    read, model = checkpoints.read(place), Holder()
    checkpoints.fit(read, model)
    assert torch.equal(model.a.weight, STATE["a.weight"])
    assert checkpoints.parts(read).num_parameters == 9


@pytest.mark.parametrize("container", [name for name in CONTAINERS if name != "safetensors"])
def test_tensors_that_are_not_stored_entry_by_entry(container: str, tmp_path: Path) -> None:
    if container == "sharpcli":
        pytest.skip("it writes none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of newer releases of torch, that quantized tensors go.
        quantized = torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8)
    odd = [torch.eye(3).to_sparse(), torch.ones(3, 3, device="meta"), quantized]
    for tensor in odd:
        CONTAINERS[container]({**STATE, "b.weight": tensor}, tmp_path / "x.pt")
        with pytest.raises(InputError, match="sparse, quantized or without data"):
            checkpoints.read(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("names", "wanted", "left"),
    [
        (("module", "ema"), "module", ("ema.*",)),
        (("net.a", "net.b", "ema"), "net.a", ("net.b.*", "ema.a.*", "ema.b.*")),
        (("module", "ema", "old"), "ema", ("module.*", "old.*")),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_of_a_part_only_what_is_left_out_is_named(names: Any, wanted: str, left: Any, wrapped: bool, tmp_path: Path) -> None:
    state = {f"{word}.{part}.w": torch.ones(2) for word in names for part in ("a", "b")}
    content = {"state_dict": state, "extra": torch.ones(3)} if wrapped else state
    with progress.gathering() as warnings:
        found = checkpoints.read(written(content, tmp_path), wanted)
    assert found.left_out == (*left, *(("extra",) if wrapped else ()))
    assert "all but" not in str(warnings)
    assert f"'{wanted}." not in str(warnings)


@pytest.mark.parametrize("key", [None, "state_dict"])
def test_weights_that_are_numpy_arrays_are_told(key: str | None, tmp_path: Path) -> None:
    arrays = {name: part.numpy() for name, part in STATE.items()}
    with pytest.raises(InputError, match="are NumPy arrays") as caught:
        checkpoints.read(written({key: arrays, "epoch": 3} if key else arrays, tmp_path))
    assert "Save tensors" in caught.value.hint


def test_tensors_are_left_out_by_their_names(tmp_path: Path) -> None:
    state = {"net.weight": torch.ones(2), "head.weight": torch.ones(3), "head.bias": torch.ones(1)}
    torch.save(state, tmp_path / "net.pt")
    with progress.gathering() as warnings:
        read = checkpoints.read(tmp_path / "net.pt", ignore=("head.*",))
    assert list(read.state) == ["net.weight"]
    assert read.left_out == ("head.bias", "head.weight")
    assert "2 of 3 tensors are left out" in " ".join(warnings)
    with pytest.raises(InputError, match="No tensor in .* matches ignore_keys 'tail"):
        checkpoints.read(tmp_path / "net.pt", ignore=("tail.*",))
    with pytest.raises(InputError, match="leaves no tensor"):
        checkpoints.read(tmp_path / "net.pt", ignore=("*",))


def test_the_arguments_in_a_file_of_lightning(tmp_path: Path) -> None:
    arguments = {"width": 4, "names": ["a", "b"], "criterion": torch.ones(1), 3: 1, "nested": {"x": 1}}
    content = {"pytorch-lightning_version": "2.6", "state_dict": {"weight": torch.ones(2)}, "hyper_parameters": arguments}
    torch.save(content, tmp_path / "net.ckpt")
    with progress.gathering():
        read = checkpoints.read(tmp_path / "net.ckpt")
    assert read.metadata == {"hyper_parameters": {"width": 4, "names": ["a", "b"]}}
