"""A model that is far too large is refused before memory is taken, and looking at its size changes nothing."""

from __future__ import annotations

import pytest
import torch

from sharpcli.errors import InputError
from sharpcli.models.resolve import resolve
from tests.lanes import crossed, slow

IMAGES = {"input_shape": (3, 32, 32), "num_classes": 10}
LARGE = [
    ("mlp", ["hidden=4000000000"], "or more"),
    ("convnet", ["width=1000000000"], "or more"),
    ("torchvision:mobilenet_v2", ["width_mult=1e6"], "or more"),
    (
        "torchvision:mobilenet_v2",
        ["inverted_residual_setting=[[1,1,1000000000,1]]", "width_mult=0.01"],
        "more than 20000 tensors",
    ),
    ("mlp", ["hidden=" + "1," * 12_000], "more than 20000 tensors"),
]


@pytest.mark.parametrize(
    ("case", "most"), [*crossed(LARGE[:3], [None, 10**7]), slow(LARGE[3], None), slow(LARGE[3], 10**7), slow(LARGE[4], None)]
)
def test_it_is_refused_in_one_sentence(case: tuple[str, list[str], str], most: int | None) -> None:
    spec, arguments, words = case
    with pytest.raises(InputError, match=words):
        resolve(spec, **IMAGES, arguments=arguments, most=most)


@pytest.mark.parametrize("spec", ["mlp", "convnet", "c3", "wrn16-4", "torchvision:resnet18"])
def test_weights_and_random_numbers_are_those_without_a_limit(spec: str) -> None:
    found = []
    for most in (None, 2 * 10**7):
        torch.manual_seed(5)
        model = resolve(spec, **IMAGES, most=most)
        found.append([*(part.sum() for part in model.parameters()), torch.rand(())])
        assert not any(part.is_meta for part in model.state_dict().values())
    assert found[0] == found[1]


def test_the_limit_counts_each_tensor_once() -> None:
    assert resolve("mlp", input_shape=(2,), num_classes=3, arguments=["hidden=4"], most=27) is not None
    with pytest.raises(InputError, match="27 parameters or more"):
        resolve("mlp", input_shape=(2,), num_classes=3, arguments=["hidden=4"], most=26)
