"""Models that answer with a dict, a tuple or an object: one part is the outputs, and stays so wherever the model goes."""

from __future__ import annotations

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sharpcli import progress
from sharpcli.errors import InputError, SettingsError
from sharpcli.losses import LOSSES
from sharpcli.models.output import ChosenOutput, choose_output, chosen_output, describe_answer, tensors_of
from sharpcli.models.resolve import resolve
from sharpcli.training.gradient import Plain

Both = namedtuple("Both", "logits hidden")


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None
    hidden: tuple[Tensor, ...] = ()


class ModelOutput(OrderedDict):
    """As transformers has it: a dict whose entries are attributes, too, and in which None is left out."""


class Net(nn.Module):
    """Answers in any way it is describe_answer to."""

    ways: ClassVar[dict[str, Any]] = {
        "tensor": lambda a, _: a,
        "dict": lambda a, _: {"logits": a},
        "dict of two": lambda a, b: {"hidden": b, "logits": a},
        "dict of numbers": lambda a, b: {0: b, 1: a},
        "tuple": lambda a, b: (a, b),
        "list": lambda a, b: [b, a],
        "tuple of one": lambda a, _: (a,),
        "nested": lambda a, b: (b, {"logits": a, "all": [b, b]}),
        "named": lambda a, b: Both(a, b),
        "dataclass": lambda a, b: Output(a, hidden=(b, b)),
        "dataclass of one": lambda a, _: Output(a),
        "model output": lambda a, b: ModelOutput(logits=a, state=b),
        "object": lambda a, b: SimpleNamespace(logits=a, hidden=b),
        "nothing": lambda *_: {"loss": 1.0},
        "none": lambda *_: None,
    }

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.first, self.second = way, nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Any:
        hidden = torch.tanh(self.first(inputs))
        return self.ways[self.way](self.second(hidden), hidden)

    def logits(self, inputs: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(inputs)))


def made(way: str, asked: str | None) -> Net:
    net = Net(way)
    choose_output(net, net(torch.zeros(2, 4)), asked, "net.py:make")
    return net


CHOICES = [
    ("tensor", None, None),
    ("dict", None, "logits"),
    ("dict", "logits", "logits"),
    ("dict of two", "logits", "logits"),
    ("dict of numbers", "1", "1"),
    ("tuple", "0", "0"),
    ("list", "1", "1"),
    ("tuple of one", None, "0"),
    ("nested", "1.logits", "1.logits"),
    ("named", "logits", "logits"),
    ("named", "0", "logits"),
    ("dataclass", "logits", "logits"),
    ("dataclass", "0", "logits"),
    ("dataclass of one", None, "logits"),
    ("model output", "logits", "logits"),
    ("object", "logits", "logits"),
]


@pytest.mark.parametrize(("way", "asked", "name"), CHOICES)
def test_the_chosen_part_is_the_outputs_wherever_the_model_goes(way: str, asked: str | None, name: str | None) -> None:
    net, inputs = made(way, asked), torch.randn(7, 4)
    assert chosen_output(net) == name
    assert set(net.state_dict()) == set(Net("tensor").state_dict())
    copied = copy.deepcopy(net).double().train()
    assert chosen_output(copied) == name
    assert torch.equal(copied(inputs.double()), copied.logits(inputs.double()))
    assert torch.equal(net(inputs), net.logits(inputs))
    other = {key: torch.randn(2, *part.shape) for key, part in net.named_parameters()}
    both = vmap(lambda weights: functional_call(net, weights, (inputs,)))(other)
    for number in range(2):
        net.load_state_dict({key: part[number] for key, part in other.items()})
        torch.testing.assert_close(both[number], net.logits(inputs))
    net(inputs).sum().backward()
    assert all(part.grad is not None for part in net.parameters())


@pytest.mark.parametrize(
    ("way", "asked", "message", "hint"),
    [
        ("dict of two", None, r"a dict of hidden \(N, 5\), logits \(N, 3\)", "--output hidden or --output logits"),
        ("tuple", None, r"a tuple of 0 \(N, 3\), 1 \(N, 5\)", "--output 0 or --output 1"),
        ("named", None, "a Both of logits", "--output logits"),
        ("dataclass", None, r"an Output of logits \(N, 3\), hidden.0 \(N, 5\)", "--output logits"),
        ("nested", None, "a tuple of 0", "--output 1.logits"),
        ("object", None, "a SimpleNamespace of logits", "--output logits"),
        ("dict", "logit", "no output 'logit'", "Known: logits"),
        ("dict of two", "0", "no output '0'", "Known: hidden, logits"),
        ("tuple", "2", "no output '2'", "Known: 0, 1"),
        ("nothing", None, "a dict, which contains no tensor", "tensor"),
        ("none", None, "a NoneType, which contains no tensor", "tensor"),
    ],
)
def test_what_is_not_clear_is_asked(way: str, asked: str | None, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        made(way, asked)
    assert hint in caught.value.hint


def test_a_tensor_leaves_nothing_to_choose() -> None:
    with pytest.raises(SettingsError, match="one tensor"):
        made("tensor", "0")
    with pytest.raises(SettingsError, match="one tensor"):
        resolve("mlp", input_shape=(4,), num_classes=3, output="logits")


def test_the_only_tensor_is_taken_and_said() -> None:
    class Listener:
        notes: ClassVar[list[str]] = []

        def note(self, message: str) -> None:
            self.notes.append(message)

    with progress.listening(Listener()):  # type: ignore[arg-type]
        made("dict", None)
        made("dict", "logits")
    assert len(Listener.notes) == 1
    assert "a dict of logits (N, 3)" in Listener.notes[0]


def test_an_answer_that_changes_is_told() -> None:
    net = made("tuple", "1")
    net.way = "dict"
    with pytest.raises(InputError, match=r"now returns a dict of logits \(N, 3\), without the output '1'"):
        net(torch.zeros(2, 4))
    net.way = "tensor"
    with pytest.raises(InputError, match=r"now returns a tensor \(N, 3\), without"):
        net(torch.zeros(2, 4))
    plain = Plain(Net("tuple"), LOSSES["ce"])
    with pytest.raises(InputError, match="In training mode the model returns a tuple"):
        plain.outputs(torch.zeros(2, 4))
    assert ChosenOutput("0")(net, None, (1, 2, torch.ones(1))[2:]).tolist() == [1]


def test_parts_and_words() -> None:
    assert list(tensors_of({"a": {"b": {"c": {"d": torch.zeros(1)}}}})) == []  # Too deep to be an answer.
    assert describe_answer({"loss": torch.tensor(1.0), "x": 3}) == "a dict of loss ()"
    several = {"loss": torch.tensor(1.0), "z": torch.zeros(2, 3), "h": torch.zeros(2, 5, 4), "mean": torch.zeros(3)}
    assert describe_answer(several) == "a dict of loss (), z (N, 3), h (N, 5, 4), mean (3)"
    assert describe_answer(torch.zeros(2, 3)) == "a tensor (N, 3)"


CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, inputs):
        return {"rows": self.layer(inputs), "mean": self.layer(inputs).mean(0)}
"""


def test_the_outputs_need_a_row_for_each_sample(tmp_path: Any) -> None:
    (tmp_path / "net.py").write_text(CODE)
    spec = f"{tmp_path / 'net.py'}:Net"
    assert chosen_output(resolve(spec, input_shape=(4,), num_classes=3, output="rows")) == "rows"
    with pytest.raises(InputError, match="one row of outputs for each sample"):
        resolve(spec, input_shape=(4,), num_classes=3, output="mean")
    with pytest.raises(InputError, match="several tensors"):
        resolve(spec, input_shape=(4,), num_classes=3)


def test_two_outputs_of_one_name_are_refused():
    one, two = torch.zeros(2, 3), torch.ones(2, 3)
    for answer, name in (({"a.b": one, "a": {"b": two}}, "a.b"), ({1: one, "1": two}, "1"), ({"x": {1: one, "1": two}}, "1")):
        with pytest.raises(InputError, match=f"two outputs are called '{name}'"):
            tensors_of(answer)
    assert list(tensors_of({"a": {"b": one}, "b": two})) == ["a.b", "b"]
