"""Tensors of the user: pt:FILE, a file of torch.save with x_train and y_train, or with inputs and targets.

Reference: torch.save.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from sharpcli import files
from sharpcli.datasets.arrays import splits_of_arrays
from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError, first_line
from sharpcli.losses import IGNORED

_WRITE = 'Save {"x_train": inputs, "y_train": targets}, with x_test and y_test if there are some, or (inputs, targets).'


def load(
    root: str,
    *,
    download: bool = False,
    transform: Transform | None = None,
    tokens: bool = False,
    ignore_index: int = IGNORED,
) -> DataSplits:
    """Read tensors; `datasets.arrays.splits_of_arrays` describes the allowed types and their meaning.

    The file contains {"x_train": inputs, "y_train": targets}, optionally with "x_test" and "y_test"; or {"train": (inputs,
    targets)}, optionally with "test"; or (inputs, targets), which is then the training split.

    Args:
        root: Path of the file. No code in the file is run.
        download: Not used.
        transform: Maps images (N, C, H, W), uint8, to inputs; replaces the division by 255.
        tokens: Use integer inputs of any type and shape as tokens.
        ignore_index: An integer target that is ignored in addition to -100, as set in the loss.

    Raises:
        InputError: The file is missing or has other contents, or the type, the length or the numbers of a tensor are invalid.
    """
    path = Path(root)
    if not files.is_there(path):
        raise InputError(f"There is no file '{path}'.", "Check the path behind pt:.")
    arrays = {name: _array(tensor) for name, tensor in _tensors(path).items()}
    return splits_of_arrays(arrays, path.stem, root, transform=transform, tokens=tokens, ignore_index=ignore_index)


def _tensors(path: Path) -> dict[str, Tensor]:
    content: Any = files.read_object(path)
    if isinstance(content, dict):
        parts = {part: content[part] for part in ("train", "test") if part in content} or {
            part: (content.get(f"x_{part}"), content.get(f"y_{part}")) for part in ("train", "test") if f"x_{part}" in content
        }
    else:
        parts = {"train": content}
    for pair in parts.values():
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)):
            raise InputError(f"'{path}' does not contain tensors of inputs and targets.", _WRITE)
    if "train" not in parts:
        raise InputError(f"'{path}' holds no training data.", _WRITE)
    return {f"{axis}_{part}": tensor for part, pair in parts.items() for axis, tensor in zip("xy", pair, strict=True)}


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach()
    narrow = tensor.is_floating_point() and tensor.itemsize < 4
    try:
        array: NDArray[Any] = (tensor.float() if narrow else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # For example for a sparse tensor.
        message = f"The file contains a tensor that cannot be converted to an array: {first_line(error)}."
        raise InputError(message, _WRITE) from error
    return array
