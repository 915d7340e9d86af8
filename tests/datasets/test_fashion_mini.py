"""The embedded data set, against its own file and, where Debian's copy lies, against the original."""

from __future__ import annotations

import gzip
import importlib.util
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sharpcli.datasets.readers import fashion_mini
from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.standardisation import channel_statistics

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILE = Path(str(resources.files("sharpcli.datasets"))) / "fashion-mini.npz"
TOOL = Path(__file__).parents[2] / "tools" / "make_fashion_mini.py"
# Recorded when the file was made; it stands for the numbers that every published result was computed on.
FINGERPRINT = "fcc29b30704d47ee020638514ef0cb65710ef3a126cee3e5c15a06ddb3aa77c2"

needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs the Debian package dataset-fashion-mnist")


def test_shapes_and_classes() -> None:
    data = resolve("fashion-mini", root="")
    assert data.name == "fashion-mini"
    assert data.train.inputs.shape == (10_000, 1, 28, 28)
    assert data.test.inputs.shape == (5_000, 1, 28, 28)
    assert data.train.inputs.dtype == torch.float32
    assert data.num_classes == 10
    assert torch.bincount(data.train.targets).tolist() == [
        942,
        1027,
        1016,
        1019,
        974,
        989,
        1021,
        1022,
        990,
        1000,
    ]
    assert torch.bincount(data.test.targets).tolist() == [507, 481, 521, 500, 521, 485, 482, 500, 526, 477]


def test_bytes_survive_the_round_trip() -> None:
    data = fashion_mini.load()
    (mean,), (std,) = fashion_mini._MEAN, fashion_mini._STD
    with np.load(FILE, allow_pickle=False) as arrays:
        for part, split in (("train", data.train), ("test", data.test)):
            assert arrays[f"x_{part}"].dtype == arrays[f"y_{part}"].dtype == np.uint8
            pixels = (split.inputs.double() * std + mean) * 255
            assert np.abs(pixels[:, 0].numpy() - arrays[f"x_{part}"]).max() < 1e-3
            assert (split.targets.numpy() == arrays[f"y_{part}"]).all()


def test_constants_are_those_of_the_file() -> None:
    with np.load(FILE) as arrays:
        mean, std = channel_statistics([torch.from_numpy(arrays["x_train"]).unsqueeze(1)])
    assert mean == pytest.approx(fashion_mini._MEAN, abs=1e-7)
    assert std == pytest.approx(fashion_mini._STD, abs=1e-7)


def test_fingerprint_is_the_recorded_one() -> None:
    assert fashion_mini.load().fingerprint() == fashion_mini.load().fingerprint() == FINGERPRINT


def test_licence_is_beside_the_data() -> None:
    text = FILE.with_name("LICENSE.fashion-mnist").read_text()
    assert "Copyright (c) 2017 Zalando SE" in text
    assert FILE.stat().st_size < 7_000_000


def make_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fashion_mini", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_reads_idx_files(tmp_path: Path) -> None:
    tool = make_tool()
    path = tmp_path / "small.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])))
    assert tool.read_idx(path).tolist() == [[1, 2, 3], [4, 5, 6]]
    path.write_bytes(gzip.compress(b"\x00\x00\x0d\x01"))
    with pytest.raises(ValueError, match="no idx file"):
        tool.read_idx(path)


@needs_debian
def test_the_file_holds_the_first_originals() -> None:
    tool = make_tool()
    with np.load(FILE) as arrays:
        for part, stem in (("train", "train"), ("test", "t10k")):
            images = tool.read_idx(DEBIAN / f"{stem}-images-idx3-ubyte.gz")
            labels = tool.read_idx(DEBIAN / f"{stem}-labels-idx1-ubyte.gz")
            assert (arrays[f"x_{part}"] == images[: len(arrays[f"x_{part}"])]).all()
            assert (arrays[f"y_{part}"] == labels[: len(arrays[f"y_{part}"])]).all()


@needs_debian
def test_full_fashion_mnist_through_torchvision(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DEBIAN.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    data = resolve("fashion-mnist", root=str(tmp_path))
    assert (len(data.train), len(data.test), data.input_shape) == (60_000, 10_000, (1, 28, 28))
    assert abs(float(data.train.inputs.mean())) < 1e-3
    assert abs(float(data.train.inputs.std()) - 1) < 1e-3
