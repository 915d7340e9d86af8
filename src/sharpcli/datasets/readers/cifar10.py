"""Photographs: 50,000 and 10,000 colour images of 32x32 pixels in 10 classes.

Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.torchvision_sets import load_torchvision

# Mean and deviation of each channel over the training split, to the four digits in common use.
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2470, 0.2435, 0.2616)


def load(root: str, *, download: bool = False) -> DataSplits:
    """Read the whole data set through torchvision.

    Args:
        root: Folder with the data in torchvision's layout.
        download: Fetch the files if they are missing.

    Returns:
        Standardised images, 50,000 for training and 10,000 for testing, each (3, 32, 32).

    Raises:
        InputError: The files are missing, damaged or cannot be fetched.
    """
    return load_torchvision("CIFAR10", root, download=download, mean=_MEAN, std=_STD, num_classes=10)
