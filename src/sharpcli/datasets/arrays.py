"""Conversion of NumPy arrays to a checked data set: rules for images, tokens, classes and regression targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError
from sharpcli.losses import IGNORED

DIVIDED = "bytes / 255"  # The conversion of uint8 inputs, in words.
_MOST_AXES = 2  # Tokens have shape (N,) or (N, T).


def splits_of_arrays(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    place: str,
    *,
    transform: Transform | None = None,
    tokens: bool = False,
    ignore_index: int = IGNORED,
    num_classes: int | None = None,
) -> DataSplits:
    """Return the data set of arrays x_train, y_train and, if given, x_test, y_test.

    Inputs of type uint8 are divided by 255; floating-point inputs are not scaled, and no inputs are standardised. Other
    integer inputs, (N,) or (N, T), are tokens, which index the embedding table of a model; a row has the T tokens of a text.
    Integer targets (N,), or (N, T) with one per token, are classes counted from 0, and -100 is ignored. Boolean targets are
    classes 0 and 1. Floating-point targets (N,) or (N, K) are regression targets or labels.

    Args:
        arrays: The arrays by name.
        name: Name of the data set, for messages.
        place: Source of the arrays, such as a path, for messages.
        transform: Maps images (N, C, H, W), uint8, to inputs; replaces the division by 255.
        tokens: Use integer inputs of any type and shape as tokens.
        ignore_index: An integer target that is ignored in addition to -100.
        num_classes: Number of classes C. Default: the largest training class + 1, or K for floating-point targets.

    Raises:
        InputError: The type, the shape, the length or a number of an array is not allowed.
    """
    tensors = {key: _inputs(key, array, transform, tokens=tokens) for key, array in arrays.items() if key.startswith("x")}
    tensors |= {key: _targets(key, array, ignore_index) for key, array in arrays.items() if key.startswith("y")}
    splits = {}
    for part in ("train", "test"):
        if f"x_{part}" not in tensors:
            continue
        samples, targets = tensors[f"x_{part}"], tensors[f"y_{part}"]
        if len(samples) != len(targets):
            message = f"x_{part} has {len(samples)} rows but y_{part} has {len(targets)} in '{place}'."
            raise InputError(message, "Give every input one target.")
        splits[part] = Split(samples, targets)
    train = splits["train"]
    values = train.targets.is_floating_point()
    num_classes = num_classes or (train.targets.shape[1] if values else int(train.targets.max()) + 1)
    preprocessing = _preprocessing(arrays["x_train"], tokens=tokens)
    words, text = (preprocessing, "") if transform is None else (transform.words, transform.text)
    data = DataSplits(name, train, splits.get("test"), num_classes, words, text)
    if "test" in splits and _preprocessing(arrays["x_test"], tokens=tokens) != preprocessing:
        message = f"x_train has type {arrays['x_train'].dtype} but x_test has {arrays['x_test'].dtype} in '{place}'."
        raise InputError(message, "Store both alike: bytes are divided by 255, floats are not.")
    return data


def _preprocessing(array: NDArray[Any], *, tokens: bool) -> str:
    if _is_float(array):
        return "numbers as stored"
    return DIVIDED if array.dtype == np.uint8 and not tokens else "tokens"


def _inputs(key: str, array: NDArray[Any], transform: Transform | None, *, tokens: bool) -> Tensor:
    if array.ndim == 0 or not (array.dtype.kind in "iu" or _is_float(array)):
        message = f"{key} has type {array.dtype} and shape {array.shape}."
        raise InputError(message, "Store inputs as uint8, as integers that are tokens, or as floats, one row a sample.")
    if transform is not None:
        return transform(torch.from_numpy(np.ascontiguousarray(array)))
    if _is_float(array):
        return _floats(key, array)
    if array.dtype == np.uint8 and not tokens:
        if array.size and int(array.max()) == 1:
            raise InputError(
                f"{key} has bytes that are all 0 or 1, but the full scale of bytes is 255.",
                "Store them as floats, at the scale the model was trained with.",
            )
        return torch.from_numpy(np.ascontiguousarray(array)).float().div_(255)
    if array.ndim > _MOST_AXES and not tokens:
        raise InputError(
            f"{key} has integers of type {array.dtype} and shape {array.shape}, which are images of unknown scale or tokens.",
            "Store images as floats at the scale the model was trained with, or as uint8, which is divided by 255; "
            "if they are tokens, add --data-arg tokens=True.",
        )
    return _tokens(key, array)


def _tokens(key: str, array: NDArray[Any]) -> Tensor:
    tokens = _whole(key, array)
    if tokens.numel() and int(tokens.min()) < 0:
        raise InputError(
            f"{key} has integers, which are tokens, and among them {int(tokens.min())}.",
            "Count tokens from 0; store other numbers as floats, at the scale the model was trained with.",
        )
    return tokens


def _whole(key: str, array: NDArray[Any]) -> Tensor:
    """Return integers as int64; refuse numbers that are too large for int64."""
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{key} has the number {int(array.max())}.", "Store it as a type with a sign, such as int64.")
    return torch.from_numpy(np.ascontiguousarray(array).astype(np.int64))


def _targets(key: str, array: NDArray[Any], ignore_index: int) -> Tensor:
    if array.ndim and array.dtype.kind in "biu":
        classes = _whole(key, array)
        classes = classes.masked_fill(classes == ignore_index, IGNORED)
        wrong = classes[(classes < 0) & (classes != IGNORED)]
        if len(wrong):
            low = int(wrong.min())
            signs = bool(((classes == -1) | (classes == 1)).all())
            hint = f"Count classes from 0. {IGNORED} is ignored; to ignore {low} as well, add --loss ce:ignore_index={low}."
            hint = "Store labels of -1 and 1 as 0 and 1." if signs else hint
            raise InputError(f"{key} has the class {low}.", hint)
        return classes
    if array.ndim in (1, 2) and _is_float(array):
        values = _floats(key, array)
        return values.reshape(len(values), -1)
    message = f"{key} has type {array.dtype} and shape {array.shape}."
    raise InputError(message, "Store integer classes (N,) or (N, T), or float values (N, K).")


def _is_float(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.dtype.itemsize <= 8  # torch has no floating-point type of more than 8 bytes


def _floats(key: str, array: NDArray[Any]) -> Tensor:
    """Return float64 as float64, and other floating-point types as float32; refuse numbers that float32 cannot represent."""
    kind = np.float64 if array.dtype.itemsize == 8 else np.float32
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=kind))
    if not torch.isfinite(tensor.float()).all():
        raise InputError(f"{key} holds NaN or numbers too large for float32.", "Remove or repair those rows.")
    return tensor
