"""Your own images: folder:PATH with PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or val/, and jpg and the like).

Reference: torchvision.datasets.ImageFolder, whose layout and order of images this has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpcli import files
from sharpcli.arguments import require_at_least
from sharpcli.datasets.decoding import decode
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.standardisation import BYTE, TWO_BYTES, channel_statistics, standardisation_formula, standardise
from sharpcli.datasets.transforms import NONE, Transform, standardisation
from sharpcli.errors import InputError, SettingsError
from sharpcli.host_memory import require_memory

_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_ONE_DEPTH = "Store all images alike, with 8 or with 16 bits."


def load(
    root: str,
    *,
    download: bool = False,
    transform: Transform | None = None,
    size: int | None = None,
    grayscale: bool = False,
    raw: bool = False,
) -> DataSplits:
    """Read every image into memory, and standardise by the training split's own mean and deviation.

    Args:
        root: The folder that holds train/ and test/; a folder val/ is taken where there is no test/.
        download: Not used.
        transform: What is done to each image, after `size`, in place of the standardisation.
        size: Squeeze or stretch every image to size x size pixels; None takes them as they are.
        grayscale: One channel instead of three.
        raw: Do not standardise: pixels from 0 to 1, as torchvision's ToTensor makes them.

    Returns:
        Images (3, H, W), or (1, H, W) if `grayscale`; classes are numbered in the order of their names.

    Raises:
        InputError: A folder is missing or empty, an image is damaged or cannot be read at its own scale, sizes, depths
            or class lists differ.
        SettingsError: `size` is below 1.
    """
    if size is not None:
        require_at_least("size", size, 1)
    if transform is not None and raw and transform.text != NONE:
        raise SettingsError("The data option raw clashes with --transform.", "Leave raw out; --transform none is the same.")
    folders = [_open(path) for path in _parts(Path(root))]
    if folders[0].classes != folders[1].classes:
        odd = sorted(set(folders[0].classes) ^ set(folders[1].classes))
        message = f"The classes of train and test differ in '{root}': {', '.join(odd)}."
        raise InputError(message, "Give train/ and test/ the same class folders.")
    colour_changes: set[str] = set()
    if transform is None:
        images = [_decode_all(folder, size, grayscale, colour_changes) for folder in folders]
        numbers, preprocessing, text = _standardised(images, root, raw=raw)
    else:
        numbers = [_transformed(folder, transform, size, grayscale, colour_changes) for folder in folders]
        preprocessing, text = transform.words, transform.text
    splits = [Split(part, torch.tensor(folder.targets)) for part, folder in zip(numbers, folders, strict=True)]
    words = ", ".join([preprocessing, *sorted(colour_changes)])
    return DataSplits(Path(root).name, splits[0], splits[1], len(folders[0].classes), words, text)


def _parts(root: Path) -> tuple[Path, Path]:
    """Return the folders of the two splits."""
    validation = root / "val"
    test = validation if validation.is_dir() and not (root / "test").is_dir() else root / "test"
    return root / "train", test


def _standardised(images: list[Tensor], root: str, *, raw: bool) -> tuple[list[Tensor], str, str]:
    """Return the numbers of both splits, what was done to the pixels, and the transform that does it to 8-bit images."""
    if images[0].dtype != images[1].dtype:
        raise InputError(f"One of train and test in '{root}' has images of 16 bits, the other of 8.", _ONE_DEPTH)
    full = BYTE if images[0].dtype == torch.uint8 else TWO_BYTES
    count = images[0].shape[1]
    mean, std = ([0.0] * count, [1.0] * count) if raw else channel_statistics(images[0], full=full)
    numbers = [standardise(pixels, mean, std, full=full) for pixels in images]
    text = (NONE if raw else standardisation(mean, std).text) if full == BYTE else ""
    if raw:
        return numbers, f"pixels / {full}", text
    formula = standardisation_formula(mean, std, full=full)
    return numbers, f"{formula} by the training images' own statistics", text


def _transformed(folder: _Images, transform: Transform, size: int | None, grayscale: bool, colour_changes: set[str]) -> Tensor:
    """Decode and transform image by image; return (N, C, H, W)."""
    numbers: Tensor | None = None
    for index, path in enumerate(folder.paths):
        image, words = decode(path, size=size, grayscale=grayscale)
        colour_changes |= {words} - {""}
        if image.dtype != np.uint8:
            raise InputError(f"The image '{path}' has 16 bits a pixel, and --transform takes 8.", "Leave --transform out.")
        one = transform.one(torch.from_numpy(np.array(image, order="C")))
        if numbers is None:
            _require_memory(len(folder.paths), tuple(one.shape), one.nbytes, "Add resize=N,crop=N to --transform.")
            numbers = torch.empty((len(folder.paths), *one.shape))
        elif one.shape != numbers.shape[1:]:
            shapes = f"{tuple(one.shape)}, not {tuple(numbers.shape[1:])}"
            raise InputError(
                f"The image '{path}' has the shape {shapes} after the transform.",
                "Let the transform resize and crop: resize=N,crop=N.",
            )
        numbers[index] = one
    assert numbers is not None
    return numbers


@dataclass(frozen=True)
class _Images:
    """The images of one split: classes by name, and for each image its path and the number of its class."""

    classes: list[str]
    paths: list[str]
    targets: list[int]


def _open(path: Path) -> _Images:
    if not os.path.isdir(path):
        hint = "Lay images out as PATH/train/CLASS and PATH/test/CLASS."
        raise InputError(f"There is no folder '{path}'.", hint)
    classes = files.folders_in(path)
    images = [[image for image in files.files_below(path / name) if image.lower().endswith(_ENDINGS)] for name in classes]
    if not classes or not all(images):
        hint = "Put at least one image into a folder for each class."
        raise InputError(f"'{path}' has no class folders, or one without images.", hint)
    targets = [number for number, of_class in enumerate(images) for _ in of_class]
    return _Images(classes, [image for of_class in images for image in of_class], targets)


def _decode_all(folder: _Images, size: int | None, grayscale: bool, colour_changes: set[str]) -> Tensor:
    """Fill one array (N, C, H, W) image by image, so that memory holds them once; add to `colour_changes`."""
    pixels: Any = None
    for index, path in enumerate(folder.paths):
        image, words = decode(path, size=size, grayscale=grayscale)
        colour_changes |= {words} - {""}
        if pixels is None:
            each = image.nbytes + 4 * image.size
            _require_memory(len(folder.paths), image.shape, each, "Add the data option size=32 or the like.")
            pixels = np.empty((len(folder.paths), *image.shape), dtype=image.dtype)
        elif image.shape != pixels.shape[1:]:
            sizes = f"{image.shape[2]}x{image.shape[1]} pixels, not {pixels.shape[3]}x{pixels.shape[2]}"
            raise InputError(f"The image '{path}' has {sizes}.", "Add the data option size=32 or the like.")
        if image.dtype != pixels.dtype:
            bits = [8 * array.dtype.itemsize for array in (image, pixels)]
            raise InputError(f"The image '{path}' has {bits[0]} bits a pixel, others have {bits[1]}.", _ONE_DEPTH)
        pixels[index] = image
    return torch.from_numpy(pixels)


def _require_memory(count: int, shape: tuple[int, ...], each: int, hint: str) -> None:
    """Refuse more images than memory holds, of so many bytes each."""
    require_memory(count * each, f"{count} images of the shape {shape}", hint)
