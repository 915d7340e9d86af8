"""Handwritten digits: 60,000 and 10,000 grey images of 28x28 pixels in 10 classes.

Reference: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998.
"""

from __future__ import annotations

from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.torchvision_sets import load_torchvision

# Mean and deviation of all pixels of the training split, to the four digits in common use.
_MEAN = (0.1307,)
_STD = (0.3081,)


def load(root: str, *, download: bool = False) -> DataSplits:
    """Read the whole data set through torchvision.

    Args:
        root: Folder with the data in torchvision's layout.
        download: Fetch the files if they are missing.

    Returns:
        Standardised images, 60,000 for training and 10,000 for testing, each (1, 28, 28).

    Raises:
        InputError: The files are missing, damaged or cannot be fetched.
    """
    return load_torchvision("MNIST", root, download=download, mean=_MEAN, std=_STD, num_classes=10)
