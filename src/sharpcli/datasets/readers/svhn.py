"""House numbers: 73,257 and 26,032 colour images of 32x32 pixels in 10 classes.

Reference: Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011.
"""

from __future__ import annotations

from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.torchvision_sets import load_torchvision

# Mean and deviation of each channel over the training split, to the four digits in common use.
_MEAN = (0.4377, 0.4438, 0.4728)
_STD = (0.1980, 0.2010, 0.1970)


def load(root: str, *, download: bool = False) -> DataSplits:
    """Read the whole data set through torchvision.

    Args:
        root: Folder with the data in torchvision's layout.
        download: Fetch the files if they are missing.

    Returns:
        Standardised images, 73,257 for training and 26,032 for testing, each (3, 32, 32).

    Raises:
        InputError: The files are missing, damaged or cannot be fetched.
    """
    return load_torchvision("SVHN", root, download=download, mean=_MEAN, std=_STD, num_classes=10)
