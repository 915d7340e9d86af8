"""Small files in the true formats of each source, so that the true readers read them."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.io
import torchvision
from numpy.typing import NDArray
from PIL import Image

from sharpcli.datasets import resolve as resolver

Bytes = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _nothing_cached() -> Iterator[None]:
    yield
    resolver._load.cache_clear()


@pytest.fixture
def files() -> ModuleType:
    """Give tests the writers below, whatever way pytest imports this file."""
    return sys.modules[__name__]


def random_bytes(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_idx(path: Path, array: Bytes) -> None:
    """The format of MNIST: two zeros, type 8, number of axes, their lengths, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes())


def write_mnist(root: Path, class_name: str) -> dict[str, Bytes]:
    arrays = {
        "train-images-idx3-ubyte": random_bytes(12, 28, 28),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": random_bytes(5, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte": np.array([9, 0, 3, 3, 1], dtype=np.uint8),
    }
    for name, array in arrays.items():
        write_idx(root / class_name / "raw" / name, array)
    return arrays


def write_cifar(root: Path, class_name: str) -> dict[str, tuple[Bytes, list[int]]]:
    """Pickled batches as torchvision expects them; rows are 1,024 red, then green, then blue bytes."""
    source = getattr(torchvision.datasets, class_name)
    key = "labels" if class_name == "CIFAR10" else "fine_labels"
    names = [name for name, _ in source.train_list + source.test_list]
    batches = {}
    (root / source.base_folder).mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels, labels = random_bytes(4, 3072, seed=seed), [(seed + 3 * i) % 10 for i in range(4)]
        (root / source.base_folder / name).write_bytes(pickle.dumps({"data": pixels, key: labels}))
        batches[name] = (pixels, labels)
    meta = {source.meta["key"]: [f"class {i}" for i in range(10)]}
    (root / source.base_folder / source.meta["filename"]).write_bytes(pickle.dumps(meta))
    return batches


def expect_checksums_of(root: Path, class_name: str, patch: pytest.MonkeyPatch) -> None:
    """Put the small files' own MD5 sums into torchvision's tables; its readers and checks stay the true ones.

    No small file can have the MD5 sum of the full data set, so this is as near as a test gets without it.
    """
    source: Any = getattr(torchvision.datasets, class_name)
    if class_name == "SVHN":
        table = {part: [url, name, md5(root / name)] for part, (url, name, _) in source.split_list.items() if part != "extra"}
        patch.setattr(source, "split_list", table)
        return
    folder = root / source.base_folder
    for attribute in ("train_list", "test_list"):
        patch.setattr(source, attribute, [[name, md5(folder / name)] for name, _ in getattr(source, attribute)])
    patch.setattr(source, "meta", {**source.meta, "md5": md5(folder / source.meta["filename"])})


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_svhn(root: Path) -> dict[str, tuple[Bytes, Bytes]]:
    """MATLAB files: images (32, 32, 3, N), labels (N, 1) in which 10 stands for the digit 0."""
    parts = {}
    for seed, part in enumerate(("train", "test")):
        images, labels = (
            random_bytes(32, 32, 3, 6, seed=seed),
            np.array([[10], [1], [9], [2], [10], [5]], dtype=np.uint8),
        )
        scipy.io.savemat(root / f"{part}_32x32.mat", {"X": images, "y": labels})
        parts[part] = (images, labels)
    return parts


def write_images(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), size: tuple[int, int] = (6, 4)) -> None:
    """Two colour PNG files a class and part, `size` is (width, height)."""
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(2):
                pixels = random_bytes(size[1], size[0], 3, seed=10 * label + index)
                Image.fromarray(pixels).save(folder / f"{index}.png")
