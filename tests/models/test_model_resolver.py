"""From a spec string to a model: built-in names, torchvision, and a user's code with its ways to fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sharpcli.code_specs import model_is_code
from sharpcli.errors import InputError, SettingsError
from sharpcli.models.resolve import resolve

USER_CODE = """
from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import nn

from neighbour import WIDTH

HELD = nn.Linear(2, 2)
NUMBER = 3


@dataclass
class Sizes:
    width: int


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, WIDTH))

def classes(num_classes, *, width: int = 4):
    width = Sizes(width).width
    return nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Linear(width, num_classes))

def everything(**keywords):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, keywords["num_classes"]))
    model.seen = keywords
    return model

def needy(depth):
    return nn.Flatten()

class Net(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.head = nn.Linear(input_shape[-1], num_classes)
        self.frozen = nn.BatchNorm1d(num_classes).eval()

    def forward(self, inputs):
        return self.frozen(self.head(inputs.mean(dim=(1, 2))))

def double():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()

def not_a_module():
    return [1, 2]

def raising():
    raise ZeroDivisionError("ten by\\nzero")

def leaving():
    sys.exit(5)

def too_small():
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 3))

class Odd(nn.Module):
    def forward(self, inputs):
        return inputs, inputs
"""
SHAPE = (3, 2, 2)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    file = tmp_path / "nets.py"
    file.write_text(USER_CODE)
    (tmp_path / "neighbour.py").write_text("WIDTH = 6\n")
    (tmp_path / "broken.py").write_text("def build(:\n")
    (tmp_path / "absent.py").write_text("import no_such_package_here\n")
    return file


def build(spec: str, *arguments: str) -> nn.Module:
    return resolve(spec, input_shape=SHAPE, num_classes=3, arguments=arguments)


def test_listing_and_package_load_no_torch() -> None:
    program = "import sys, sharpcli.models, sharpcli.arguments, sharpcli.datasets, sharpcli.plugins as p;"
    program += "folder = 'models/architectures'; p.summary(folder, p.names(folder)[0]);"
    program += "sys.exit(bool({'torch', 'numpy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_prefixes_come_in_any_case() -> None:
    assert isinstance(build("ConvNet"), nn.Module)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(SettingsError, match="'resnet21'") as caught:
        build("resnet21")
    assert "resnet20" in caught.value.hint


@pytest.mark.parametrize("option", ["widht=3", "num_classes=4", "input_shape=(1,)"])
def test_unknown_and_reserved_options_list_the_right_ones(option: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build("convnet", option)
    assert "width" in caught.value.hint
    assert "norm" in caught.value.hint


def test_file_functions_get_what_they_accept(code: Path) -> None:
    assert build(f"{code}:plain")(torch.zeros(1, *SHAPE)).shape == (1, 6)
    assert build(f"{code}:classes", "width=9")[1].out_features == 9  # type: ignore[index, union-attr]
    seen = build(f"{code}:everything", "extra=a b").seen
    assert seen == {"input_shape": SHAPE, "num_classes": 3, "extra": "a b"}
    assert build(f"{code}:double")[1].weight.dtype == torch.float64  # type: ignore[index, union-attr]


def test_class_keeps_the_mode_of_every_module(code: Path) -> None:
    model = build(f"{code}:Net")
    assert model.training
    assert model.head.training
    assert not model.frozen.training


def test_module_path_from_the_working_folder(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    before = list(sys.path)
    assert isinstance(build("nets:Net"), nn.Module)
    assert isinstance(build("nets.py:Net"), nn.Module)
    assert sys.path == before
    del sys.modules["nets"]


def test_two_files_of_one_name_stay_apart(code: Path) -> None:
    other = code.parent / "more" / "nets.py"
    other.parent.mkdir()
    other.write_text("from torch import nn\n\ndef plain():\n    return nn.Flatten()\n")
    assert isinstance(build(f"{code}:plain"), nn.Sequential)
    assert isinstance(build(f"{other}:plain"), nn.Flatten)


def test_home_is_expanded(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(code.parent))
    assert isinstance(build("~/nets.py:plain"), nn.Module)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.py:build", "no file"),
        ("broken.py:build", "SyntaxError"),
        ("absent.py:build", "ModuleNotFoundError: No module named 'no_such_package_here'"),
        ("nets.py:palin", "no function or class"),
        ("nets.py:NUMBER", "no function or class"),
        ("nets.py:HELD", "is a model, not a function"),
        ("nets.py:", "no function or class"),
        ("nets.py:raising", "ZeroDivisionError: ten by"),
        ("nets.py:leaving", "SystemExit: 5"),
        ("nets.py:not_a_module", "returned a list"),
        ("nets.py:too_small", "cannot take inputs of shape"),
        ("nets.py:Odd", "several tensors"),
        ("no_such_package_here.mod:build", "ModuleNotFoundError"),
        ("torch.nn:NoSuchThing", "no function or class"),
    ],
)
def test_every_failure_of_foreign_code_is_an_input_error(code: Path, spec: str, message: str) -> None:
    place = f"{code.parent}/{spec}" if ".py:" in spec else spec
    with pytest.raises(InputError, match=message) as caught:
        build(place)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_misspelt_function_gets_a_guess(code: Path) -> None:
    with pytest.raises(InputError) as caught:
        build(f"{code}:palin")
    assert "Did you mean 'plain'?" in caught.value.hint


@pytest.mark.parametrize(("name", "option"), [("classes", "widht=9"), ("classes", "width=a"), ("plain", "a=1")])
def test_wrong_options_of_foreign_code(code: Path, name: str, option: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(f"{code}:{name}", option)
    assert caught.value.hint


def test_option_without_default_must_be_given(code: Path) -> None:
    with pytest.raises(SettingsError, match="'depth' has no default"):
        build(f"{code}:needy")
    assert isinstance(build(f"{code}:needy", "depth=1"), nn.Flatten)


def test_torchvision_models_are_not_pretrained() -> None:
    model = resolve("torchvision:squeezenet1_1", input_shape=(3, 32, 32), num_classes=4, arguments=["dropout=0.1"])
    assert model.training
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize("spec", ["torchvision:resnet19", "torchvision:fcn_resnet50", "torchvision:"])
def test_unknown_torchvision_names_list_the_classifiers(spec: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build(spec)
    assert "resnet18" in caught.value.hint


@pytest.mark.parametrize("option", ["weights=DEFAULT", "progress=False", "no_such_option=1", "norm_layer=3"])
def test_torchvision_options_are_checked(option: str) -> None:
    with pytest.raises(SettingsError):
        resolve("torchvision:resnet18", input_shape=(3, 32, 32), num_classes=4, arguments=[option])


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,)])
def test_torchvision_models_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="cannot take inputs"):
        resolve("torchvision:squeezenet1_1", input_shape=shape, num_classes=4)


def test_which_specs_run_code() -> None:
    assert [model_is_code(spec) for spec in ("a/b.py:f", "pkg.mod:attr", "timmy:x")] == [True, True, True]
    assert [model_is_code(spec) for spec in ("convnet", "torchvision:resnet18", "Torchvision:vgg11")] == [False] * 3


TOKEN_CODE = """
import torch
from torch import nn


def embedding(input_shape, num_classes, vocab=11):
    return nn.Sequential(nn.Embedding(vocab, 4), nn.Linear(4, num_classes))

def one_hot(input_shape, num_classes):
    return OneHot(input_shape, num_classes)

class OneHot(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.out = nn.Linear(11 * input_shape[0], num_classes)

    def forward(self, tokens):
        return self.out(nn.functional.one_hot(tokens, 11).flatten(1).to(self.out.weight.dtype))

class Positions(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.places, self.out = nn.Embedding(input_shape[0], 4), nn.Linear(4, num_classes)

    def forward(self, numbers):
        return self.out(torch.nn.functional.linear(numbers, self.places.weight.T))

def broken(input_shape):
    return nn.Sequential(nn.Embedding(5, 4), nn.Linear(3, 2))
"""


@pytest.fixture
def tokens_code(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.py"
    path.write_text(TOKEN_CODE)
    return path


def build_for_tokens(spec: str, *arguments: str) -> nn.Module:
    return resolve(spec, input_shape=(6,), num_classes=3, arguments=arguments)


def test_models_of_tokens_are_tried_with_tokens(tokens_code: Path) -> None:
    tokens = torch.zeros(2, 6, dtype=torch.int64)
    model = build_for_tokens(f"{tokens_code}:embedding", "vocab=7")
    assert model(tokens).shape == (2, 6, 3)
    assert model[0].num_embeddings == 7
    assert build_for_tokens(f"{tokens_code}:one_hot")(tokens).shape == (2, 3)
    assert build_for_tokens(f"{tokens_code}:Positions")(torch.zeros(2, 6)).shape == (2, 3)


def test_a_broken_model_of_tokens_is_told_what_breaks_with_tokens(tokens_code: Path) -> None:
    with pytest.raises(InputError, match="shapes cannot be multiplied"):
        build_for_tokens(f"{tokens_code}:broken")


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet8", "f1"])
def test_built_in_models_refuse_tokens_in_one_sentence(name: str) -> None:
    from sharpcli.objective import Objective

    with pytest.raises(InputError) as caught:
        Objective.of(build_for_tokens(name), torch.zeros(8, 6, dtype=torch.int64), torch.arange(8) % 3)
    assert caught.value.hint
    assert "\n" not in caught.value.message
