"""What is a parameter: by the model, by the record of a run, and by names and values alone."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from sharpcli import checkpoints
from sharpcli.checkpoints import Checkpoint
from sharpcli.errors import InputError, NumericalError
from sharpcli.parameters import ParameterSpace

State = dict[str, Tensor]


class Decoder(nn.Module):
    """An embedding that is the head, scales that are ones, a frozen layer, and buffers of four kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.first, self.second = nn.LayerNorm(4), nn.LayerNorm(4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(5))
        self.register_buffer("positions", torch.arange(5))


TRAINED = 28 + 16 + 8


def given(state: State, **metadata: object) -> Checkpoint:
    return Checkpoint(Path("x.pt"), dict(state), dict(metadata))


def test_with_a_model_parameters_are_what_it_trains() -> None:
    model = Decoder()
    found = checkpoints.parts(given(model.state_dict()), model)
    space = ParameterSpace.of(model)
    assert (found.num_parameters, tuple(found.parameters), found.known_by) == (TRAINED, space.names, "model")
    assert found.ties == {"head.weight": "embedding.weight"}
    assert {"mask", "positions", "norm.running_mean", "norm.running_var", "frozen.weight"} <= set(found.buffers)
    assert found.guess is None


def test_the_model_is_left_as_it_is() -> None:
    model, state = Decoder(), {name: part + 1 for name, part in Decoder().state_dict().items()}
    state["head.weight"] = state["embedding.weight"]
    before = {name: part.clone() for name, part in model.state_dict().items()}
    checkpoints.parts(given(state), model)
    assert all(torch.equal(before[name], part) for name, part in model.state_dict().items())
    assert all(part.dtype == torch.float32 for part in model.parameters())


def test_without_one_names_and_values_tell_what_they_can() -> None:
    """Scales of ones are equal and not tied, the frozen layer cannot be known, and that is said."""
    found = checkpoints.parts(given(Decoder().state_dict()))
    assert found.num_parameters == TRAINED + 20
    assert found.ties == {"head.weight": "embedding.weight"}
    assert set(found.buffers) == {
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "mask", "positions",
    }  # fmt: skip
    assert "--model" in found.guess
    assert "'head.weight' with 'embedding.weight'" in found.guess
    assert "'mask'" in found.guess


def test_a_record_is_believed() -> None:
    model = Decoder()
    found = checkpoints.parts(given(model.state_dict(), parameters=list(ParameterSpace.of(model).names)))
    assert (found.num_parameters, found.known_by, found.guess) == (TRAINED, "record", None)
    assert found.ties == {"head.weight": "embedding.weight"}


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_three_names_of_one_tensor_count_once_in_every_container(kind: str, tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    state = {"a.weight": weight, "b.weight": weight, "c.weight": weight, "d.weight": torch.randn(3, 3)}
    place = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pt")
    if kind == "safetensors":
        save_file({name: part.clone() for name, part in state.items()}, place)
    else:
        torch.save(state, place, _use_new_zipfile_serialization=kind == "zip")
    found = checkpoints.parts(checkpoints.read(place))
    assert found.num_parameters == 18
    assert found.ties == {"b.weight": "a.weight", "c.weight": "a.weight"}


def test_the_same_memory_is_one_tensor_whatever_its_numbers(tmp_path: Path) -> None:
    """A tie of zeros, and one that a file stores the other way round."""
    zeros, weight = torch.zeros(3), torch.randn(3, 2)
    torch.save({"a.bias": zeros, "b.bias": zeros, "c.bias": torch.zeros(3), "d": weight, "e": weight.T}, tmp_path / "x.pt")
    found = checkpoints.parts(checkpoints.read(tmp_path / "x.pt"))
    assert found.ties == {"b.bias": "a.bias", "e": "d"}
    assert found.num_parameters == 3 + 3 + 6


def test_parts_of_one_memory_are_not_tied(tmp_path: Path) -> None:
    whole = torch.randn(6, 2)
    torch.save({"q": whole[:3], "k": whole[3:]}, tmp_path / "x.pt")
    assert checkpoints.parts(checkpoints.read(tmp_path / "x.pt")).num_parameters == 12


@pytest.mark.parametrize("name", ["weight", "a.bias", "in_proj_weight", "rnn.weight_ih_l0", "a.weight_g", "a.weight_orig"])
def test_prefixes_of_weights_have_to_be_of_real_numbers(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' in .* int64"):
        checkpoints.parts(given({"b.weight": torch.ones(2), name: torch.arange(3)}))


@pytest.mark.parametrize("name", ["positions", "a.index", "relative_position_index", "a.weight_scale_mask", "table"])
def test_whole_numbers_under_other_names_are_buffers(name: str) -> None:
    found = checkpoints.parts(given({"b.weight": torch.ones(2), name: torch.arange(3)}))
    assert (found.num_parameters, found.buffers) == (2, (name,))


def test_whole_numbers_that_the_model_keeps_as_a_buffer_are_fine() -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.register_buffer("weight", torch.arange(3, dtype=torch.int8))

    model = Coded()
    assert checkpoints.parts(given(model.state_dict()), model).num_parameters == 8


def test_a_tie_has_to_hold_in_both_files() -> None:
    """Weights that only began equal are two: neither file alone says so."""
    start, end = torch.randn(3, 3), torch.randn(3, 3)
    init = given({"a.weight": start, "b.weight": start.clone()})
    final = given({"a.weight": end, "b.weight": end + 1})
    for pair in ([final, init], [init, final]):
        assert [part.num_parameters for part in checkpoints.same_parameters(pair)] == [18, 18]
    tied = given({"a.weight": end, "b.weight": end.clone()})
    assert [part.num_parameters for part in checkpoints.same_parameters([tied, init])] == [9, 9]


def test_what_spectral_norm_and_pruning_keep_beside_the_weight() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old = nn.utils.spectral_norm(nn.Linear(5, 4))
    new = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4))
    pruned = prune.l1_unstructured(nn.Linear(5, 4), "weight", 0.5)
    for model in (old, new, pruned):
        assert checkpoints.parts(given(model.state_dict())).num_parameters == 24
    assert checkpoints.parts(given(new.state_dict()), new).num_parameters == 24


def test_several_files_of_one_model_have_the_same_names_in_the_same_order(tmp_path: Path) -> None:
    state = Decoder().state_dict()
    wrapped = {f"module.{name}": part for name, part in reversed(state.items())}
    for pair in ([given(state), given(wrapped)], [given(wrapped), given(state)]):
        first, second = checkpoints.same_parameters(pair)
        assert list(first.parameters) == list(second.parameters) == [name for name in pair[0].state if name in first.parameters]
        assert all(torch.equal(part, second.parameters[name]) for name, part in first.parameters.items())


def test_the_record_of_either_file_is_enough() -> None:
    model = Decoder()
    plain, ours = given(model.state_dict()), given(model.state_dict(), parameters=list(ParameterSpace.of(model).names))
    for pair in ([plain, ours], [ours, plain]):
        assert [(part.num_parameters, part.known_by) for part in checkpoints.same_parameters(pair)] == [(TRAINED, "record")] * 2


def test_files_of_two_models_are_refused() -> None:
    one, other = given({"a.weight": torch.ones(2)}), given({"a.weight": torch.ones(3)})
    with pytest.raises(InputError, match=r"'a\.weight' differs"):
        checkpoints.same_parameters([one, other])
    with pytest.raises(InputError, match=r"'a\.weight' differs"):
        checkpoints.same_parameters([one, given({"b.weight": torch.ones(2)})])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_parameters_have_to_be_finite(value: float) -> None:
    state = nn.Linear(3, 2).state_dict()
    state["bias"] = torch.tensor([0.0, value])
    with pytest.raises(NumericalError, match="'bias' holds NaN or infinity"):
        checkpoints.parts(given(state)).require_finite(Path("x.pt"))
    model = nn.Linear(3, 2)
    checkpoints.fit(given(state), model)
    with pytest.raises(NumericalError, match="'bias' holds NaN or infinity"):
        checkpoints.require_finite(model, Path("x.pt"))


def test_masks_may_be_infinite_but_no_buffer_may_be_nan() -> None:
    model = Decoder()
    checkpoints.require_finite(model, Path("x.pt"))
    model.norm.running_var[0] = torch.nan
    with pytest.raises(NumericalError, match=r"norm\.running_var"):
        checkpoints.require_finite(model, Path("x.pt"))


def test_frozen_parameters_have_to_be_finite_too() -> None:
    model = Decoder()
    with torch.no_grad():
        model.frozen.weight[0, 0] = torch.inf
    with pytest.raises(NumericalError, match=r"frozen\.weight"):
        checkpoints.require_finite(model, Path("x.pt"))
