"""What was done to the images is said, recorded and used again; where nobody knows it, no number is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torchvision.datasets import ImageFolder

from tests.datasets.test_transforms import picture_folder

CODE = """
from torch import nn
from torchvision import transforms
def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
def prep(): return transforms.Compose([transforms.Resize(24), transforms.CenterCrop(16), transforms.ToTensor()])
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Write a net that somebody else has trained, with its images and its code."""
    folder = tmp_path_factory.mktemp("foreign")
    picture_folder(folder / "pictures", ("train", "val"))
    (folder / "net.py").write_text(CODE)
    space: dict[str, Any] = {}
    exec(CODE, space)
    torch.manual_seed(0)
    model = space["make"]().double()
    torch.save(model.state_dict(), folder / "net.pt")
    data = ImageFolder(folder / "pictures" / "train", space["prep"]())
    inputs, targets = torch.stack([image for image, _ in data]).double(), torch.tensor(data.targets)
    words = [folder / "net.pt", "--model", f"{folder / 'net.py'}:make", "--data", f"folder:{folder / 'pictures'}"]
    return {"words": words, "folder": folder, "largest": largest_eigenvalue(model, inputs, targets)}


def largest_eigenvalue(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Return λmax of the mean cross-entropy from the dense Hessian in float64."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [part.shape for part in model.parameters()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = torch.split(theta, [shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return functional.cross_entropy(functional_call(model, weights, (inputs,)), targets)

    theta = torch.cat([part.detach().flatten() for part in model.parameters()])
    return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta))[-1])


def result_of(answer: Any) -> dict[str, Any]:
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)["result"]


@pytest.mark.parametrize("transform", ["resize=24,crop=16", "{code}:prep"])
def test_lambda_max_is_that_of_an_independent_computation(
    sharpcli: Callable[..., Any], foreign: dict[str, Any], transform: str
):
    text = transform.format(code=foreign["folder"] / "net.py")
    words = ["--transform", text, "--topk", 1, "--tol", 1e-8, "--dtype", "float64", "--json"]
    result = result_of(sharpcli("hessian", *foreign["words"], *words))
    assert result["eigenvalues"][0]["value"] == pytest.approx(foreign["largest"], rel=1e-7)
    assert result["conditions"]["preprocessing"].endswith(text if "prep" in text else "pixels / 255")


@pytest.mark.parametrize("command", ["hessian", "sharpness", "compare", "surface"])
def test_without_a_transform_a_foreign_net_over_a_folder_gets_no_number(
    sharpcli: Callable[..., Any], foreign: dict[str, Any], command: str
):
    answer = sharpcli(command, *foreign["words"])
    assert (answer.exit_code, answer.stdout) == (3, "")
    assert "does not say how its images were transformed" in answer.stderr.replace("\n", " ")
    assert "--transform" in answer.stderr


def test_a_run_records_the_transform_and_an_analysis_uses_it(
    sharpcli: Callable[..., Any], foreign: dict[str, Any], tmp_path: Path
):
    pictures = foreign["folder"] / "pictures"
    words = ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"folder:{pictures}", "--steps", 2, "--out", tmp_path]
    text = "resize=10,crop=8,mean=0.5,std=0.25"
    assert sharpcli("train", *words, "--transform", text).exit_code == 0
    final = tmp_path / "sgd" / "final.pt"
    assert torch.load(final, weights_only=True)["metadata"]["data"]["transform"] == text
    other = picture_folder(tmp_path / "others")  # Other images, and the same transform.
    for data in ([], ["--data", f"folder:{other}"]):
        answer = result_of(sharpcli("hessian", final, *data, "--topk", 1, "--json"))
        assert answer["conditions"]["preprocessing"].startswith("shorter side to 10 pixels")
    changed = result_of(sharpcli("hessian", final, "--topk", 1, "--transform", "resize=10,crop=8", "--json"))
    assert changed["conditions"]["preprocessing"].endswith("middle 8x8, pixels / 255")


def test_code_that_a_file_names_is_not_run(sharpcli: Callable[..., Any], foreign: dict[str, Any], tmp_path: Path):
    folder = foreign["folder"]
    words = ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"folder:{folder / 'pictures'}", "--steps", 2]
    text = f"{folder / 'net.py'}:prep"
    assert sharpcli("train", *words, "--transform", text, "--out", tmp_path).exit_code == 0
    final = tmp_path / "sgd" / "final.pt"
    answer = sharpcli("hessian", final, "--topk", 1)
    assert answer.exit_code == 3
    assert "but code that a file names is never run" in answer.stderr.replace("\n", " ")
    assert sharpcli("hessian", final, "--topk", 1, "--transform", text).exit_code == 0


@pytest.mark.slow
def test_a_model_of_torchvision_over_a_folder_has_the_transform_of_its_weights(
    sharpcli: Callable[..., Any], foreign: dict[str, Any], tmp_path: Path
):
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    torch.save(squeezenet1_1(num_classes=2).state_dict(), tmp_path / "net.pt")
    words = ["--model", "torchvision:squeezenet1_1", "--data", f"folder:{foreign['folder'] / 'pictures'}", "--samples", 2]
    result = result_of(sharpcli("inspect", tmp_path / "net.pt", *words[:4], "--json"))
    assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in json.dumps(result)


@pytest.mark.parametrize("argument", ["size=8", "raw=True"])
def test_a_run_over_a_folder_with_options_is_analysed(sharpcli: Callable[..., Any], tmp_path: Path, argument: str):
    pictures = tmp_path / "pictures"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        place = pictures / ("train" if number % 2 else "test") / ("cat" if number < 4 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    words = ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"folder:{pictures}", "--data-arg", argument]
    assert sharpcli("train", *words, "--steps", 2, "--out", tmp_path).exit_code == 0
    answer = sharpcli("hessian", tmp_path / "sgd", "--topk", 1)
    assert answer.exit_code == 0, answer.stderr
    assert "fingerprint" not in answer.stderr


def test_a_size_alone_does_not_name_the_transform(sharpcli: Callable[..., Any], foreign: dict[str, Any]):
    answer = sharpcli("hessian", *foreign["words"], "--data-arg", "size=16")
    assert answer.exit_code == 3
    assert "does not say how its images were transformed" in answer.stderr.replace("\n", " ")
    assert sharpcli("hessian", *foreign["words"], "--data-arg", "size=16", "--data-arg", "raw=True").exit_code == 0


def test_a_recorded_transform_is_for_images_only(sharpcli: Callable[..., Any], tmp_path: Path):
    """Numbers that the user names are taken as they are; of bytes nobody knows whether they are such images."""
    words = ["--model", "mlp", "--model-arg", "hidden=4", "--steps", 1, "--out", tmp_path]
    assert sharpcli("train", *words).exit_code == 0
    random, targets = np.random.default_rng(0), np.arange(20) % 10
    np.savez(tmp_path / "floats.npz", x_train=random.normal(size=(20, 1, 28, 28)).astype(np.float32), y_train=targets)
    np.savez(tmp_path / "bytes.npz", x_train=random.integers(0, 256, (20, 1, 28, 28), dtype=np.uint8), y_train=targets)
    for name, words in (("floats", "numbers as stored"), ("bytes", "bytes / 255")):
        answer = sharpcli("hessian", tmp_path / "sgd", "--data", f"npz:{tmp_path / name}.npz", "--topk", 1, "--json")
        assert result_of(answer)["conditions"]["preprocessing"] == words
        assert ("add this option" in answer.stderr.replace("\n", " ")) == (name == "bytes")
