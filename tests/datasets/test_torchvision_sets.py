"""The downloaded data sets, read by torchvision from small files in their true formats."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.splits import Split
from sharpcli.errors import InputError

GREY = [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
CIFAR = [("cifar10", "CIFAR10", 10), ("cifar100", "CIFAR100", 100)]
# Mean and deviation of all pixels of each channel of the training split, as they are in common use.
STATISTICS = {
    "mnist": ([0.1307], [0.3081]),
    "fashion-mnist": ([0.2860], [0.3530]),
    "kmnist": ([0.1918], [0.3483]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "cifar100": ([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
    "svhn": ([0.4377, 0.4438, 0.4728], [0.1980, 0.2010, 0.1970]),
}
ALL = list(STATISTICS)


def assert_is(split: Split, images: NDArray[np.uint8], labels: list[int], plugin: str) -> None:
    """Undo the standardisation, and compare byte for byte with the images (N, C, H, W) that were written."""
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in STATISTICS[plugin])
    pixels = (split.inputs * std + mean) * 255
    assert pixels.is_contiguous()
    np.testing.assert_allclose(pixels.numpy(), images, atol=1e-3)
    assert split.targets.tolist() == labels


@pytest.mark.parametrize(("name", "class_name"), GREY)
def test_idx_files(files: ModuleType, tmp_path: Path, name: str, class_name: str) -> None:
    arrays = files.write_mnist(tmp_path, class_name)
    data = resolve(name, root=str(tmp_path))
    assert data.input_shape == (1, 28, 28)
    for split, stem in ((data.train, "train"), (data.test, "t10k")):
        images, labels = arrays[f"{stem}-images-idx3-ubyte"], arrays[f"{stem}-labels-idx1-ubyte"]
        assert_is(split, images[:, None], labels.tolist(), name)


@pytest.mark.parametrize(("name", "class_name", "num_classes"), CIFAR)
def test_cifar_batches(
    files: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    class_name: str,
    num_classes: int,
) -> None:
    batches = list(files.write_cifar(tmp_path, class_name).values())
    files.expect_checksums_of(tmp_path, class_name, monkeypatch)
    data = resolve(name, root=str(tmp_path))
    assert data.num_classes == num_classes
    for split, parts in ((data.train, batches[:-1]), (data.test, batches[-1:])):
        images = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
        assert_is(split, images, [label for _, labels in parts for label in labels], name)


def test_svhn_matrices(files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = files.write_svhn(tmp_path)
    files.expect_checksums_of(tmp_path, "SVHN", monkeypatch)
    data = resolve("svhn", root=str(tmp_path))
    for split, part in ((data.train, "train"), (data.test, "test")):
        images, labels = parts[part]
        assert_is(split, images.transpose(3, 2, 0, 1), (labels[:, 0] % 10).tolist(), "svhn")


@pytest.mark.parametrize("name", ALL)
def test_missing_files_name_both_ways_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="missing or damaged") as caught:
        resolve(name, root=str(tmp_path))
    assert "--download" in caught.value.hint
    assert "--data-root" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_wrong_checksum_counts_as_damaged(files: ModuleType, tmp_path: Path) -> None:
    files.write_cifar(tmp_path, "CIFAR10")
    with pytest.raises(InputError, match="missing or damaged"):
        resolve("cifar10", root=str(tmp_path))


def test_truncated_file_cannot_be_read(files: ModuleType, tmp_path: Path) -> None:
    files.write_mnist(tmp_path, "MNIST")
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read") as caught:
        resolve("mnist", root=str(tmp_path))
    assert caught.value.hint


def test_failed_download_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torchvision

    # An address on this machine that nobody listens at, so that the test needs no network.
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError, match="could not be fetched"):
        resolve("mnist", root=str(tmp_path), download=True)
    assert capsys.readouterr().out == ""
