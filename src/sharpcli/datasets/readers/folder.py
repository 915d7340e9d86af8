"""Images of the user: folder:PATH with PATH/train/CLASS/*.png and PATH/test/CLASS/*.png, or val/, or other image formats.

Reference: torchvision.datasets.ImageFolder; layout and order of images are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sharpcli import files
from sharpcli.arguments import require_at_least
from sharpcli.code_specs import NO_TRANSFORM
from sharpcli.datasets.decoding import decode
from sharpcli.datasets.image_source import Decoded, ImageSource
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.standardisation import BYTE, TWO_BYTES, channel_statistics, standardisation_formula, standardise
from sharpcli.datasets.transforms import Transform, standardisation
from sharpcli.errors import InputError, SettingsError

_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_OTHER_SHAPE = "Add the data option size=32 or the like."
_OTHER_SHAPE_TRANSFORMED = "Let the transform resize and crop: resize=N,crop=N."


def load(
    root: str,
    *,
    download: bool = False,
    transform: Transform | None = None,
    size: int | None = None,
    grayscale: bool = False,
    raw: bool = False,
) -> DataSplits:
    """List the images; each is read when it is used, and standardised with the statistics of the training images.

    All training images are read once to compute the mean and standard deviation of each channel. With `transform` or `raw`,
    only the first image of each split is read now.

    Args:
        root: The folder that contains train/ and test/; val/ is used if there is no test/.
        download: Not used.
        transform: Replaces the standardisation; it is applied to each image after `size` and `grayscale`.
        size: Resize every image to size x size pixels; None keeps the sizes.
        grayscale: Return one channel instead of three.
        raw: Do not standardise; pixels are scaled to 0..1, as by torchvision's ToTensor.

    Returns:
        Images (3, H, W), or (1, H, W) if `grayscale`, or of the shape that `transform` returns, float32; classes are
        numbered in the order of their names.

    Raises:
        InputError: A folder is missing or has no images, the class names of the splits differ, or an image that is read is
            damaged, has an unknown scale, or differs from the first in shape or number of bits.
        SettingsError: `size` is below 1, or `raw` and a transform other than none are given.
    """
    if size is not None:
        require_at_least("size", size, 1)
    if transform is not None and raw and transform.text != NO_TRANSFORM:
        raise SettingsError(
            "The data option raw cannot be combined with --transform.",
            "Remove raw, or use --transform none, which has the same effect.",
        )
    folders = [_open(path) for path in _parts(Path(root))]
    if folders[0].classes != folders[1].classes:
        odd = sorted(set(folders[0].classes) ^ set(folders[1].classes))
        message = f"The classes of train and test differ in '{root}': {', '.join(odd)}."
        raise InputError(message, "Give train/ and test/ the same class folders.")
    reader = _Reader(size, grayscale, transform)
    train = reader.source(folders[0])
    sources = [train, reader.source(folders[1], like=train)]
    if transform is None:
        numbers, preprocessing, text = _standardisation_of(train, raw=raw)
    else:
        numbers, preprocessing, text = transform.numbers, transform.words, transform.text
    scaled = [source.scaled(numbers, text or preprocessing) for source in sources]
    splits = [Split(source, torch.tensor(folder.targets)) for source, folder in zip(scaled, folders, strict=True)]
    return DataSplits(Path(root).name, splits[0], splits[1], len(folders[0].classes), preprocessing, text)


def _parts(root: Path) -> tuple[Path, Path]:
    """Return the folders of the training and the test split."""
    validation = root / "val"
    test = validation if validation.is_dir() and not (root / "test").is_dir() else root / "test"
    return root / "train", test


@dataclass(frozen=True)
class _Reader:
    """The settings for reading image files.

    Attributes:
        size: Height and width in pixels after resizing; None keeps the size.
        grayscale: Whether images have one channel instead of three.
        transform: The transform that is applied afterwards, or None.
    """

    size: int | None
    grayscale: bool
    transform: Transform | None

    def decode(self, path: str) -> Decoded:
        """Return the pixels of an image as they are stored in memory."""
        image, remark = decode(path, size=self.size, grayscale=self.grayscale)
        pixels = torch.from_numpy(np.array(image, order="C"))
        if self.transform is None:
            return Decoded(pixels, remark)
        if image.dtype != np.uint8:
            raise InputError(f"The image '{path}' has 16 bits a pixel, and --transform takes 8.", "Leave --transform out.")
        return Decoded(self.transform.one(pixels), remark)

    def source(self, folder: _Images, like: ImageSource | None = None) -> ImageSource:
        """Return the source of the images of a folder; only the first image is read now."""
        return ImageSource(
            folder.paths,
            self.decode,
            description=f"size {self.size}, grayscale {self.grayscale}",
            stage="" if self.transform is None else " after the transform",
            other_shape=_OTHER_SHAPE if self.transform is None else _OTHER_SHAPE_TRANSFORMED,
            in_parallel=self.transform is None or not self.transform.is_code,
            like=like,
        )


def _standardisation_of(train: ImageSource, *, raw: bool) -> tuple[Callable[[Tensor], Tensor], str, str]:
    """Return the map from pixels to inputs, its description, and the text of `--transform` for it ("" for 16-bit images)."""
    full = BYTE if train.pixel_type == torch.uint8 else TWO_BYTES
    count = train.first.shape[1]
    mean, std = ([0.0] * count, [1.0] * count) if raw else channel_statistics(train.batches(), full=full)

    def numbers(pixels: Tensor) -> Tensor:
        return standardise(pixels, mean, std, full=full)

    text = (NO_TRANSFORM if raw else standardisation(mean, std).text) if full == BYTE else ""
    if raw:
        return numbers, f"pixels / {full}", text
    return numbers, f"{standardisation_formula(mean, std, full=full)} by the training images' own statistics", text


@dataclass(frozen=True)
class _Images:
    """The images of one split: names of the classes, and path and class number of each image."""

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
