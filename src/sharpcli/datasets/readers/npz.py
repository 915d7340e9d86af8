"""Your own arrays: npz:FILE with x_train, y_train, x_test and y_test.

Reference: numpy.savez; the four names are those of the Keras data sets.
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
    """Read four arrays, or two without a test split; shapes stay, so that grey images for a ConvNet must be (N, 1, H, W).

    What the numbers mean is that of `datasets.arrays.splits_of_arrays`.

    Args:
        root: The file. Pickled objects in it are refused.
        download: Not used.
        transform: What is done to images of bytes (N, C, H, W) in place of the division by 255.
        tokens: Take integer inputs of any type and shape as tokens.
        ignore_index: A further target that is ignored, as the loss says.

    Returns:
        Inputs float32, float64 where the file has that, or int64 for tokens, of the shape in the file.
        `num_classes` is the largest training class + 1, or K.

    Raises:
        InputError: The file or a key is missing, or a key's type, length or numbers do not fit.
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
