"""Your own images: folder:PATH with PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or jpg and the like).

Reference: torchvision.datasets.ImageFolder, whose layout and reader this uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped,unused-ignore]

from sharpcli.arguments import require_at_least
from sharpcli.datasets._images import channel_statistics, standardise
from sharpcli.datasets._splits import DataSplits, Split
from sharpcli.errors import InputError


def load(root: str, *, download: bool = False, size: int | None = None, grayscale: bool = False) -> DataSplits:
    """Read every image into memory, and standardise by the training split's own mean and deviation.

    Args:
        root: The folder that holds train/ and test/.
        download: Not used.
        size: Squeeze or stretch every image to size x size pixels; None takes them as they are.
        grayscale: One channel instead of three.

    Returns:
        Images (3, H, W), or (1, H, W) if `grayscale`; classes are numbered in the order of their names.

    Raises:
        InputError: A folder is missing or empty, an image is damaged, sizes or class lists differ.
        SettingsError: `size` is below 1.
    """
    if size is not None:
        require_at_least("size", size, 1)
    folders = [_open(Path(root) / part) for part in ("train", "test")]
    if folders[0].classes != folders[1].classes:
        odd = sorted(set(folders[0].classes) ^ set(folders[1].classes))
        message = f"The classes of train and test differ in '{root}': {', '.join(odd)}."
        raise InputError(message, "Give train/ and test/ the same class folders.")
    images = [_decode_all(folder, size, grayscale) for folder in folders]
    mean, std = channel_statistics(images[0])
    splits = [
        Split(standardise(pixels, mean, std), torch.tensor(folder.targets))
        for pixels, folder in zip(images, folders, strict=True)
    ]
    return DataSplits(Path(root).name, splits[0], splits[1], num_classes=len(folders[0].classes))


def _open(path: Path) -> Any:
    if not path.is_dir():
        hint = "Lay images out as PATH/train/CLASS and PATH/test/CLASS."
        raise InputError(f"There is no folder '{path}'.", hint)
    try:
        return ImageFolder(str(path))
    except FileNotFoundError as error:
        hint = "Put at least one image into a folder for each class."
        raise InputError(f"'{path}' has no class folders, or one without images.", hint) from error


def _decode_all(folder: Any, size: int | None, grayscale: bool) -> Tensor:
    """Fill one array (N, C, H, W) of bytes, image by image, so that memory holds them only once."""
    pixels: NDArray[np.uint8] | None = None
    for index, (path, _) in enumerate(folder.samples):
        image = _decode(folder, path, size, grayscale)
        if pixels is None:
            pixels = np.empty((len(folder.samples), *image.shape), dtype=np.uint8)
        elif image.shape != pixels.shape[1:]:
            sizes = f"{image.shape[2]}x{image.shape[1]} pixels, not {pixels.shape[3]}x{pixels.shape[2]}"
            raise InputError(f"The image '{path}' has {sizes}.", "Add the data option size=32 or the like.")
        pixels[index] = image
    return torch.from_numpy(pixels)


def _decode(folder: Any, path: str, size: int | None, grayscale: bool) -> NDArray[np.uint8]:
    try:
        image = folder.loader(path)  # PIL, in RGB
    except (OSError, SyntaxError, ValueError) as error:  # PIL tells damage by any of them.
        raise InputError(f"The image '{path}' cannot be read.", "Replace or remove it.") from error
    if grayscale:
        image = image.convert("L")
    if size is not None:
        image = image.resize((size, size), resample=2)  # 2 is bilinear, which PIL smooths when it shrinks
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if grayscale else array.transpose(2, 0, 1)
