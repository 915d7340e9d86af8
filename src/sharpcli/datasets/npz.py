"""Your own arrays: npz:FILE with x_train, y_train, x_test and y_test.

Reference: numpy.savez; the four names are those of the Keras data sets.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli.datasets._splits import DataSplits, Split
from sharpcli.errors import InputError, closest
from sharpcli.losses import IGNORED

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(root: str, *, download: bool = False) -> DataSplits:
    """Read four arrays; shapes are kept as they are, so grey images for a ConvNet must be (N, 1, H, W).

    Bytes (uint8 inputs) are divided by 255, floats are used as they stand, and nothing is standardised.
    Other integers are tokens, which a model looks up: a text of T tokens is a row of (N, T).
    Integer targets (N,), or (N, T) with one for each token, are classes counted from 0, and -100 is ignored;
    float targets (N,) or (N, K) are values to regress on.

    Args:
        root: The file. Pickled objects in it are refused.
        download: Not used.

    Returns:
        Inputs float32, or int64 for tokens, of the shape in the file. `num_classes` is the largest training class + 1, or K.

    Raises:
        InputError: The file or a key is missing, or a key's type, length or numbers do not fit.
    """
    arrays = _read(Path(root))
    tensors = {key: _inputs(key, arrays[key]) for key in ("x_train", "x_test")}
    tensors |= {key: _targets(key, arrays[key]) for key in ("y_train", "y_test")}
    for part in ("train", "test"):
        samples, targets = tensors[f"x_{part}"], tensors[f"y_{part}"]
        if len(samples) != len(targets):
            message = f"x_{part} has {len(samples)} rows but y_{part} has {len(targets)} in '{root}'."
            raise InputError(message, "Give every input one target.")
    train = Split(tensors["x_train"], tensors["y_train"])
    test = Split(tensors["x_test"], tensors["y_test"])
    values = train.targets.is_floating_point()
    num_classes = train.targets.shape[1] if values else int(train.targets.max()) + 1
    made = DataSplits(Path(root).stem, train, test, num_classes)
    kinds = [arrays[key].dtype for key in ("x_train", "x_test")]
    if (kinds[0] == np.uint8) != (kinds[1] == np.uint8) or _is_float(arrays["x_train"]) != _is_float(arrays["x_test"]):
        message = f"x_train has type {kinds[0]} but x_test has {kinds[1]} in '{root}'."
        raise InputError(message, "Store both alike: bytes are divided by 255, floats are not.")
    return made


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise InputError(f"There is no file '{path}'.", "Check the path behind npz:.")
    try:
        with path.open("rb") as file:
            return _pick(np.load(file, allow_pickle=False), path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        hint = "Write plain arrays of numbers with numpy.savez; pickled objects are refused."
        raise InputError(f"'{path}' cannot be read as an npz file: {error}.", hint) from error


def _pick(archive: Any, path: Path) -> dict[str, NDArray[Any]]:
    if isinstance(archive, np.ndarray):
        raise InputError(f"'{path}' holds one array, not four named ones.", "Use numpy.savez.")
    missing = [key for key in _KEYS if key not in archive.files]
    if missing:
        raise InputError(f"'{path}' has no array {missing[0]}.", closest(missing[0], archive.files))
    return {key: archive[key] for key in _KEYS}


def _inputs(key: str, array: NDArray[Any]) -> Tensor:
    if array.ndim == 0 or not (array.dtype.kind in "iu" or _is_float(array)):
        message = f"{key} has type {array.dtype} and shape {array.shape}."
        raise InputError(message, "Store inputs as uint8, as integers that are tokens, or as floats, one row a sample.")
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if _is_float(array):
        return _finite(key, torch.from_numpy(native).float())
    return torch.from_numpy(native).float().div_(255) if array.dtype == np.uint8 else _tokens(key, native)


def _tokens(key: str, array: NDArray[Any]) -> Tensor:
    tokens = torch.from_numpy(array.astype(np.int64))
    if tokens.numel() and int(tokens.min()) < 0:
        raise InputError(f"{key} has the token {int(tokens.min())}.", "Count tokens from 0; store images as uint8.")
    return tokens


def _targets(key: str, array: NDArray[Any]) -> Tensor:
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if array.ndim and array.dtype.kind in "biu":
        classes = torch.from_numpy(native.astype(np.int64))
        wrong = classes[(classes < 0) & (classes != IGNORED)]
        if len(wrong):
            raise InputError(f"{key} has the class {int(wrong.min())}.", f"Count classes from 0; {IGNORED} is ignored.")
        return classes
    if array.ndim in (1, 2) and _is_float(array):
        values = _finite(key, torch.from_numpy(native).float())
        return values.reshape(len(values), -1)
    message = f"{key} has type {array.dtype} and shape {array.shape}."
    raise InputError(message, "Store integer classes (N,) or (N, T), or float values (N, K).")


def _is_float(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.dtype.itemsize <= 8  # torch knows no longer ones


def _finite(key: str, tensor: Tensor) -> Tensor:
    if not torch.isfinite(tensor).all():
        raise InputError(f"{key} holds NaN or numbers too large for float32.", "Remove or repair those rows.")
    return tensor
