"""Arrays of the user: npz:FILE with x_train, y_train and, for a test split, x_test and y_test.

Reference: numpy.savez; the names of the four arrays are those of the data sets of Keras.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from sharpcli import files
from sharpcli.datasets.arrays import splits_of_arrays
from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.transforms import Transform
from sharpcli.errors import InputError, closest
from sharpcli.losses import IGNORED

_KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(
    root: str,
    *,
    download: bool = False,
    transform: Transform | None = None,
    tokens: bool = False,
    ignore_index: int = IGNORED,
) -> DataSplits:
    """Read four arrays, or two if there is no test split.

    `datasets.arrays.splits_of_arrays` describes the allowed types and their meaning.

    Args:
        root: Path of the file. Pickled objects in the file are refused.
        download: Not used.
        transform: Maps images (N, C, H, W), uint8, to inputs; replaces the division by 255.
        tokens: Use integer inputs of any type and shape as tokens.
        ignore_index: An integer target that is ignored in addition to -100, as set in the loss.

    Returns:
        Inputs, float32, or float64 if the file contains float64, or int64 for tokens. Without a transform they have the shape
        in the file, so grey images for a convolutional network must be (N, 1, H, W). `num_classes` is the largest training
        class + 1, or K for regression targets (N, K).

    Raises:
        InputError: The file or an array is missing, or the type, the length or the numbers of an array are invalid.
    """
    arrays = _read(Path(root))
    return splits_of_arrays(arrays, Path(root).stem, root, transform=transform, tokens=tokens, ignore_index=ignore_index)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not files.is_there(path):
        raise InputError(f"There is no file '{path}'.", "Check the path behind npz:.")

    def wanted(names: list[str]) -> tuple[str, ...]:
        keys = _KEYS if any(key in names for key in _KEYS[2:]) else _KEYS[:2]
        missing = [key for key in keys if key not in names]
        if missing:
            raise InputError(f"'{path}' has no array {missing[0]}.", closest(missing[0], names))
        return keys

    return files.read_arrays(path, wanted)
