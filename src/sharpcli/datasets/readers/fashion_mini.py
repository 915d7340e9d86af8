"""The default data set, a file of the package: the first 10,000 training and 5,000 test images of Fashion-MNIST.

Reference: Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747; MIT licence.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import Transform, standardisation

# Mean and standard deviation of all pixels of these 10,000 training images, computed from their histogram.
_MEAN = (0.2863089,)
_STD = (0.3540180,)


def load(root: str = "", *, download: bool = False, transform: Transform | None = None) -> DataSplits:
    """Read the data set in the package; no other files and no network are needed.

    Args:
        root: Not used.
        download: Not used.
        transform: Replaces the standardisation.

    Returns:
        Standardised images, 10,000 for training and 5,000 for testing, each (1, 28, 28), float32, in 10 classes.

    References:
        github.com/zalandoresearch/fashion-mnist; the script `tools/make_fashion_mini.py` creates the file.
    """
    place = resources.files("sharpcli.datasets").joinpath("fashion-mini.npz")
    with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        transform = transform or standardisation(_MEAN, _STD)
        train, test = (_split(arrays[f"x_{part}"], arrays[f"y_{part}"], transform) for part in ("train", "test"))
    return DataSplits("fashion-mini", train, test, 10, transform.words, transform.text)


def _split(images: NDArray[np.uint8], labels: NDArray[np.uint8], transform: Transform) -> Split:
    pixels: Tensor = torch.from_numpy(images).unsqueeze(1)
    return Split(transform(pixels), torch.from_numpy(labels).long())
