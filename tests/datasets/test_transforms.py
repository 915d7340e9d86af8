"""Transforms against torchvision's own, and what names none in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.models import ResNet18_Weights

from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.transforms import default_of_torchvision, standardisation, transform_named
from sharpcli.errors import InputError, SettingsError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(count: int = 3, *, height: int = 40, width: int = 30) -> Tensor:
    numbers = np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(numbers)


def by_torchvision(transform: object, pixels: Tensor) -> Tensor:
    return torch.stack([transform(transforms.functional.to_pil_image(image)) for image in pixels])


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("none", []),
        ("resize=20,crop=16", [transforms.Resize(20), transforms.CenterCrop(16)]),
        ("crop=16", [transforms.CenterCrop(16)]),
        ("resize=50", [transforms.Resize(50)]),
    ],
)
@pytest.mark.parametrize("standardised", [False, True])
def test_numbers_are_those_of_torchvision(text: str, steps: list[object], standardised: bool):
    end = [transforms.ToTensor()] + ([transforms.Normalize(MEAN, STD)] if standardised else [])
    if standardised:
        numbers = f"mean={','.join(map(str, MEAN))},std={','.join(map(str, STD))}"
        text = numbers if text == "none" else f"{numbers},{text}"
    made = transform_named(text)(images())
    torch.testing.assert_close(made, by_torchvision(transforms.Compose([*steps, *end]), images()), rtol=1e-6, atol=1e-6)


def test_the_transform_of_published_weights():
    text = "torchvision:ResNet18_Weights.DEFAULT"
    wanted = by_torchvision(ResNet18_Weights.DEFAULT.transforms(), images(2))
    assert torch.equal(transform_named(text)(images(2)), wanted)
    assert default_of_torchvision("resnet18") == "torchvision:ResNet18_Weights.IMAGENET1K_V1"
    assert torch.equal(transform_named(default_of_torchvision("ResNet18"))(images(2)), wanted)
    assert default_of_torchvision("no-such-net") is None


def test_the_text_of_a_standardisation_gives_the_same_bits():
    made = standardisation((0.1, 1 / 3, 0.7), (0.2, 2 / 3, 1e-3))
    assert torch.equal(transform_named(made.text)(images()), made(images()))


CODE = """
import random, torch
from torchvision import transforms
def builds(): return transforms.Compose([transforms.Resize(8), transforms.CenterCrop(8), transforms.ToTensor()])
def maps(image): return transforms.functional.to_tensor(image.resize((8, 8)))
def draws(image): return transforms.functional.to_tensor(image) + random.random()
def text(image): return "x"
def fails(image): raise ValueError("no")
def returns_text(): return "x"
number = 3
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "prep.py").write_text(CODE)
    return tmp_path / "prep.py"


def test_code_of_the_user(code: Path):
    steps = transforms.Compose([transforms.Resize(8), transforms.CenterCrop(8), transforms.ToTensor()])
    assert torch.equal(transform_named(f"{code}:builds")(images()), by_torchvision(steps, images()))
    assert transform_named(f"{code}:maps")(images()).shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("draws", "is random"),
        ("text", "returns str"),
        ("fails", "ValueError: no"),
        ("returns_text", "returned a str"),
        ("number", "names no function"),
        ("nothing", "names no function"),
    ],
)
def test_code_that_is_no_transform(code: Path, name: str, words: str):
    with pytest.raises(InputError, match=words):
        transform_named(f"{code}:{name}")(images())


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("mean=0.5", "as many numbers behind std=", "mean=0.485"),
        ("mean=0.5,std=0", "greater than 0", "mean="),
        ("mean=0.5,0.5,std=0.5", "as many numbers", "mean="),
        ("mean=a,std=1", "'mean=a', which is no number", "mean="),
        ("crop=0", "no valid size after crop", "crop=224"),
        ("resize=1.5", "no valid size after resize", "resize=224"),
        ("mean=1,std=1,mean=1", "'mean' twice", "mean="),
        ("mean=1,st=1", "has 'st'", "std"),
        ("imagenet", "names no transform", "torchvision:WEIGHTS"),
        ("torchvision:ResNet18_Weight.DEFAULT", "no weights called", "ResNet18_Weights"),
    ],
)
def test_a_text_that_names_no_transform(text: str, words: str, hint: str):
    with pytest.raises(SettingsError, match=words) as caught:
        transform_named(text)
    assert hint in caught.value.hint


def test_as_many_means_as_channels():
    with pytest.raises(InputError, match="2 means for images of 3 channels"):
        transform_named("mean=0.5,0.5,std=1,1")(images())
    assert torch.equal(
        transform_named("mean=0.5,std=0.25")(images()), transform_named("mean=0.5,0.5,0.5,std=0.25,0.25,0.25")(images())
    )


def picture_folder(root: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Write images of several sizes."""
    random = np.random.default_rng(0)
    for part in parts:
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                height, width = random.integers(20, 40, 2)
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val")])
def test_images_of_several_sizes_in_folders(tmp_path: Path, parts: tuple[str, ...]):
    root = picture_folder(tmp_path / "pictures", parts)
    data = resolve(f"folder:{root}", root="", transform="resize=20,crop=16,mean=0.5,std=0.25")
    assert data.input_shape == (3, 16, 16)
    assert data.preprocessing == "shorter side to 20 pixels, middle 16x16, (pixels / 255 − 0.5) / 0.25"
    with Image.open(root / "train" / "cat" / "0.png") as image:
        steps = [transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor(), transforms.Normalize([0.5], [0.25])]
        torch.testing.assert_close(data.train.inputs[:][0], transforms.Compose(steps)(image))
    with pytest.raises(InputError, match="after the transform"):
        resolve(f"folder:{root}", root="", transform="none").train.inputs[:]
    with pytest.raises(SettingsError, match="raw cannot be combined with transform"):
        resolve(f"folder:{root}", root="", transform="mean=0.5,std=0.25", arguments=["raw=True"])


@pytest.mark.parametrize("arguments", [["size=8"], ["size=8", "raw=True"], ["size=8", "grayscale=True"]])
def test_what_a_folder_does_by_itself_is_done_again_to_the_last_bit_by_its_text(tmp_path: Path, arguments: list[str]):
    spec = f"folder:{picture_folder(tmp_path / 'pictures')}"
    own = resolve(spec, root="", arguments=arguments)
    again = resolve(spec, root="", arguments=arguments, transform=own.transform)
    assert own.transform
    assert torch.equal(own.train.inputs[:], again.train.inputs[:])
    assert own.fingerprint() == again.fingerprint()


def test_every_reader_of_images_takes_a_transform(tmp_path: Path):
    data = resolve("fashion-mini", root="", transform="none")
    assert (float(data.train.inputs.min()), float(data.train.inputs.max())) == (0, 1)
    own = resolve("fashion-mini", root="")
    assert torch.equal(own.train.inputs, resolve("fashion-mini", root="", transform=own.transform).train.inputs)
    arrays = {"x_train": images(4).numpy(), "y_train": np.array([0, 1, 0, 1])}
    np.savez(tmp_path / "bytes.npz", **arrays)
    made = resolve(f"npz:{tmp_path / 'bytes.npz'}", root="", transform="crop=8,mean=0.5,std=1")
    assert made.input_shape == (3, 8, 8)
    np.savez(tmp_path / "floats.npz", x_train=np.zeros((4, 5), np.float32), y_train=np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match="takes images of 8 bits"):
        resolve(f"npz:{tmp_path / 'floats.npz'}", root="", transform="none")
