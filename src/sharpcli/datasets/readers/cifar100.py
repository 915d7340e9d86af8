"""Photographs: 50,000 and 10,000 colour images of 32x32 pixels in 100 classes.

Reference: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.torchvision_sets import load_torchvision

# Mean and deviation of each channel over the training split, to the four digits in common use.
_MEAN = (0.5071, 0.4865, 0.4409)
_STD = (0.2673, 0.2564, 0.2762)


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
    return load_torchvision("CIFAR100", root, download=download, mean=_MEAN, std=_STD, num_classes=100)
