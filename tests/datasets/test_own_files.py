"""The user's own data: image folders and npz files, right and wrong."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sharpcli.datasets.resolve import resolve
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, SettingsError


def folder(root: Path, *arguments: str) -> DataSplits:
    return resolve(f"folder:{root}", root="unused", arguments=arguments)


def test_folder_is_standardised_by_its_training_split(files: ModuleType, tmp_path: Path) -> None:
    files.write_images(tmp_path)
    data = folder(tmp_path)
    assert data.input_shape == (3, 4, 6)
    assert data.num_classes == 2
    assert data.train.targets.tolist() == [0, 0, 1, 1]
    train, test = (split.inputs[:] for split in data.parts().values())
    torch.testing.assert_close(train.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(dim=(0, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(train, test)


def test_folder_reads_the_pixels_that_were_written(files: ModuleType, tmp_path: Path) -> None:
    files.write_images(tmp_path)
    inputs = folder(tmp_path).train.inputs[:]
    written = torch.from_numpy(random_bytes(4, 6, 3, seed=10)).permute(2, 0, 1).float()
    for channel in range(3):
        paired = torch.stack([inputs[2, channel].flatten(), written[channel].flatten()])
        assert torch.corrcoef(paired)[0, 1] > 0.99999


def test_folder_options(files: ModuleType, tmp_path: Path) -> None:
    files.write_images(tmp_path)
    Image.fromarray(random_bytes(9, 9)).save(tmp_path / "train" / "cat" / "grey.jpg")
    with pytest.raises(InputError, match=r"has the shape \(3, 9, 9\), not \(3, 4, 6\)") as caught:
        folder(tmp_path)
    assert "size" in caught.value.hint
    assert folder(tmp_path, "size=5").input_shape == (3, 5, 5)
    assert folder(tmp_path, "size=5", "grayscale=True").input_shape == (1, 5, 5)
    with pytest.raises(SettingsError):
        folder(tmp_path, "size=0")
    with pytest.raises(SettingsError) as unknown:
        folder(tmp_path, "sizes=3")
    assert "grayscale" in unknown.value.hint


def test_folder_failures(files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        folder(tmp_path / "nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="no class folders"):
        folder(tmp_path)
    (tmp_path / "train").rmdir()
    files.write_images(tmp_path)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"no picture")
    data = folder(tmp_path)  # An image that is not used does no harm.
    assert torch.equal(data.test.inputs[:1], data.test.inputs[torch.tensor([0])])
    with pytest.raises(InputError, match=r"1\.png' cannot be read"):
        data.test.inputs[:]
    shutil.rmtree(tmp_path / "test" / "cat")
    with pytest.raises(InputError, match=r"classes of train and test differ .*: cat"):
        folder(tmp_path)


def random_bytes(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_npz(path: Path, **changes: Any) -> str:
    arrays = {
        "x_train": random_bytes(6, 2, 2),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": random_bytes(3, 2, 2, seed=1),
        "y_test": np.array([2, 0, 1]),
    }
    arrays |= changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return f"npz:{path}"


def test_npz_bytes_become_fractions_and_shapes_stay(tmp_path: Path) -> None:
    data = resolve(write_npz(tmp_path / "toy.npz"), root="unused")
    assert (data.name, data.input_shape, data.num_classes) == ("toy", (2, 2), 3)
    expected = torch.from_numpy(random_bytes(6, 2, 2)).float() / 255
    torch.testing.assert_close(data.train.inputs, expected, rtol=0, atol=0)
    assert data.test.targets.tolist() == [2, 0, 1]


def test_npz_regression_and_foreign_types(tmp_path: Path) -> None:
    spec = write_npz(
        tmp_path / "toy.npz",
        x_train=np.arange(12, dtype=">f8").reshape(6, 2),
        x_test=np.zeros((3, 2), dtype=np.float16),
        y_train=np.arange(6.0),
        y_test=np.zeros((3, 1), dtype=np.float32),
    )
    data = resolve(spec, root="unused")
    assert data.num_classes == 1
    assert data.train.targets.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]
    assert data.train.inputs[5].tolist() == [10.0, 11.0]
    booleans = write_npz(tmp_path / "b.npz", y_train=np.array([True, False] * 3), y_test=np.array([False] * 3))
    assert resolve(booleans, root="unused").train.targets.tolist() == [1, 0] * 3


def test_npz_integers_are_tokens_and_each_may_have_a_target_of_its_own(tmp_path: Path) -> None:
    tokens = np.arange(24, dtype=np.int32).reshape(6, 4)
    following = np.where(tokens % 5 == 0, -100, tokens + 1)
    spec = write_npz(tmp_path / "t.npz", x_train=tokens, y_train=following, x_test=tokens[:3], y_test=following[:3])
    data = resolve(spec, root="unused")
    assert (data.input_shape, data.num_classes) == ((4,), 25)
    assert data.train.inputs.dtype == data.train.targets.dtype == torch.int64
    assert data.train.inputs.tolist() == tokens.tolist()
    assert data.train.targets.tolist() == following.tolist()
    whole = resolve(write_npz(tmp_path / "c.npz", x_train=tokens.astype(np.uint64), x_test=tokens[:3]), root="unused")
    assert whole.train.inputs.tolist() == tokens.tolist()
    assert whole.num_classes == 3


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32, np.int64, np.uint8])
@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 2), (3, 2, 2)])
def test_npz_integers_of_many_axes_are_tokens_only_if_that_is_said(tmp_path: Path, kind: Any, shape: tuple[int, ...]) -> None:
    numbers = np.arange(6 * math.prod(shape)).reshape(6, *shape).astype(kind)
    spec = write_npz(tmp_path / "t.npz", x_train=numbers, x_test=numbers[:3])
    data = resolve(spec, root="unused", arguments=("tokens=True",))
    assert torch.equal(data.train.inputs, torch.from_numpy(numbers.astype(np.int64)))
    assert data.preprocessing == "tokens"
    if kind == np.uint8:
        assert resolve(spec, root="unused").preprocessing == "bytes / 255"
        return
    with pytest.raises(InputError, match=r"images of unknown scale or tokens\.") as caught:
        resolve(spec, root="unused")
    assert "tokens=True" in caught.value.hint
    assert "floats" in caught.value.hint


def test_npz_keeps_the_precision_that_it_has(tmp_path: Path) -> None:
    inputs, targets = np.random.default_rng(0).normal(size=(6, 4)), np.random.default_rng(1).normal(size=6)
    double = write_npz(tmp_path / "d.npz", x_train=inputs, x_test=inputs[:3], y_train=targets, y_test=targets[:3])
    data = resolve(double, root="unused")
    assert torch.equal(data.train.inputs, torch.from_numpy(inputs))
    assert torch.equal(data.train.targets[:, 0], torch.from_numpy(targets))
    assert data.preprocessing == "numbers as stored"
    halves = {"x_train": inputs.astype(np.float16), "x_test": inputs[:3].astype(np.float16)}
    half = resolve(write_npz(tmp_path / "h.npz", **halves, y_train=targets, y_test=targets[:3]), root="unused")
    assert half.train.inputs.dtype == torch.float32
    single = {"x_train": inputs.astype(np.float32), "x_test": inputs[:3].astype(np.float32)}
    both = resolve(write_npz(tmp_path / "s.npz", **single, y_train=targets, y_test=targets[:3]), root="unused")
    assert data.fingerprint() == both.fingerprint()


def test_npz_without_a_test_split(tmp_path: Path) -> None:
    data = resolve(write_npz(tmp_path / "t.npz", x_test=None, y_test=None), root="unused")
    assert list(data.parts()) == ["train"]
    assert len(data.part("train")) == 6
    with pytest.raises(InputError, match="no test split"):
        data.part("test")
    whole = resolve(write_npz(tmp_path / "w.npz"), root="unused")
    assert list(whole.parts()) == ["train", "test"]
    assert whole.fingerprint() != data.fingerprint()


def test_npz_leaves_out_what_the_loss_ignores(tmp_path: Path) -> None:
    targets = np.array([0, 1, 255, 0, 1, 2])
    spec = write_npz(tmp_path / "t.npz", y_train=targets)
    assert resolve(spec, root="unused").num_classes == 256
    data = resolve(spec, root="unused", loss="ce:ignore_index=255")
    assert (data.num_classes, data.train.targets.tolist()) == (3, [0, 1, -100, 0, 1, 2])
    negative = write_npz(tmp_path / "n.npz", y_train=np.where(targets == 255, -1, targets))
    with pytest.raises(InputError, match="class -1") as caught:
        resolve(negative, root="unused")
    assert "ce:ignore_index=-1" in caught.value.hint
    assert resolve(negative, root="unused", loss="ce:ignore_index=-1").train.targets.tolist() == [0, 1, -100, 0, 1, 2]


def test_npz_labels_count_as_columns(tmp_path: Path) -> None:
    labels = np.array([[0.0, 1, 1], [1, 0, 1]] * 3)
    assert resolve(write_npz(tmp_path / "l.npz", y_train=labels, y_test=labels[:3]), root="unused").num_classes == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "no array y_test"),
        ({"y_train": np.array([0, 1])}, "x_train has 6 rows but y_train has 2"),
        ({"x_test": np.full((3, 2, 2), np.nan)}, "x_test holds NaN"),
        ({"x_train": np.full((6, 2, 2), 1e300)}, "x_train holds NaN or numbers too large"),
        ({"y_train": np.full(6, np.inf)}, "y_train holds NaN"),
        ({"y_test": np.array([0, 1, -1])}, "y_test has the class -1"),
        ({"y_test": np.array([0, 1, 3])}, "test classes run from 0 to 3"),
        ({"y_test": np.array([0.5, 1.5, 2.5])}, "one split has classes"),
        ({"y_train": np.zeros((6, 3), dtype=int)}, r"targets have shapes \(3,\) and \(\)"),
        ({"y_train": np.array([0, 1, 2, 0, -2, -100])}, "y_train has the class -2"),
        ({"y_test": np.full(3, -100)}, "Every test target is ignored"),
        ({"y_train": np.full(6, -100)}, "Every training target is ignored"),
        ({"y_train": np.array(1)}, "y_train has type int64"),
        ({"y_train": np.array(["a"] * 6)}, "y_train has type <U1"),
        ({"x_train": np.zeros((6, 2), dtype=np.int32), "x_test": np.zeros((3, 2))}, "Only one split has tokens"),
        ({"x_train": np.full((6, 2), -1), "x_test": np.zeros((3, 2), dtype=int)}, "tokens, and among them -1"),
        ({"x_train": np.full((6, 2), 2**64 - 1, dtype=np.uint64)}, "x_train has the number 18446744073709551615"),
        ({"x_train": np.eye(6, dtype=np.uint8).reshape(6, 3, 2)[:, :2]}, "bytes that are all 0 or 1"),
        ({"y_train": np.array([-1, 1, 1, -1, 1, 1])}, "class -1"),
        ({"y_train": np.full(6, 2**64 - 100, dtype=np.uint64)}, "y_train has the number 18446744073709551516"),
        ({"x_train": np.zeros((6, 2, 2), dtype=np.uint16)}, "x_train has integers of type uint16"),
        ({"x_train": np.zeros((6, 2, 2), dtype=np.int8)}, "x_train has integers of type int8"),
        ({"x_train": np.zeros((6, 1, 2, 2), dtype=np.int64)}, "x_train has integers of type int64"),
        (
            {"x_train": np.zeros((6, 2, 2)), "x_test": np.zeros((3, 2, 2), dtype=np.uint8)},
            "x_train has type float64 but x_test has uint8|Only one split|x_train has type",
        ),
        ({"x_train": np.zeros((6, 2, 2), dtype=complex)}, "x_train has type complex128"),
        ({"x_train": np.array(3.0)}, "x_train has type"),
        ({"x_train": np.zeros((6, 3))}, "shapes"),
        ({"x_train": np.array([{}] * 6)}, "pickle"),
        ({"x_test": np.zeros((0, 2, 2)), "y_test": np.zeros(0, dtype=int)}, "empty"),
        ({"x_train": np.zeros((0, 2, 2)), "y_train": np.zeros(0, dtype=int)}, "empty"),
    ],
)
def test_npz_failures_name_the_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve(write_npz(tmp_path / "toy.npz", **changes), root="unused")
    assert caught.value.hint


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        resolve(f"npz:{tmp_path}/nowhere.npz", root="unused")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    whole = Path(write_npz(tmp_path / "whole.npz")[4:]).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("text.npz", "empty.npz", "half.npz", "array.npy"):
        with pytest.raises(InputError) as caught:
            resolve(f"npz:{tmp_path / name}", root="unused")
        assert caught.value.hint


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_one_hot_targets_are_told_with_the_data(dtype: str, tmp_path: Path) -> None:
    targets = np.eye(4, dtype=dtype)
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 5), "float32"), y_train=targets)
    for loss in ("ce", "mse"):
        with pytest.raises(InputError, match="one-hot"):
            resolve(f"npz:{tmp_path / 'd.npz'}", root="unused", loss=loss)
    assert resolve(f"npz:{tmp_path / 'd.npz'}", root="unused", loss="bce").train.targets.shape == (4, 4)
    # One tag of 1 in each text of four tokens is no one-hot class; the model's outputs tell.
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 4), "int64"), y_train=targets)
    assert resolve(f"npz:{tmp_path / 'd.npz'}", root="unused", loss="ce").train.targets.shape == (4, 4)
