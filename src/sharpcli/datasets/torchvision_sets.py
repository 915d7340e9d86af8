"""Data sets of torchvision, read completely into memory; a file of readers/ for each data set contains its constants."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets  # type: ignore[import-untyped,unused-ignore]

from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.datasets.transforms import Transform, standardisation
from sharpcli.errors import InputError


def torchvision_reader(
    name: str, *, mean: Sequence[float], std: Sequence[float], num_classes: int
) -> Callable[..., DataSplits]:
    """Return the function `load` for an image classification data set of torchvision.

    Args:
        name: Name of the class in `torchvision.datasets`, such as "CIFAR10".
        mean: Mean of the training pixels for each channel, which is subtracted; 1 is the largest pixel value. The readers
            use the commonly used values with four decimals.
        std: Standard deviation for each channel, by which the difference is divided; in the same unit.
        num_classes: Number of classes C.
    """

    def load(root: str, *, download: bool = False, transform: Transform | None = None) -> DataSplits:
        """Read the whole data set with torchvision.

        Args:
            root: The folder that contains the data set in the layout of torchvision.
            download: Download missing files; if False, the network is not used.
            transform: Replaces the standardisation.

        Returns:
            Standardised images (N, C, H, W), or the results of the transform, float32.

        Raises:
            InputError: The files are missing or damaged, or cannot be downloaded, or the transform fails.
        """
        transform = transform or standardisation(mean, std)
        parts = []
        for train in (True, False):
            images, targets = _read(name, root, train=train, download=download)
            parts.append(Split(transform(images), targets))
        return DataSplits(name, parts[0], parts[1], num_classes, transform.words, transform.text)

    return load


def _read(name: str, root: str, *, train: bool, download: bool) -> tuple[Tensor, Tensor]:
    # Only SVHN has a parameter `split`, and its targets are called `labels`.
    part: dict[str, Any] = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is reserved for results
            data_set = getattr(datasets, name)(root, download=download, **part)
        targets = data_set.labels if name == "SVHN" else data_set.targets
        return _channels_first(data_set.data), torch.as_tensor(targets, dtype=torch.int64)
    except Exception as error:  # torchvision and downloads raise many kinds of exceptions
        raise _explain(name, root, download, error) from error


def _channels_first(data: Tensor | np.ndarray[Any, Any]) -> Tensor:
    images = torch.as_tensor(data)
    if images.ndim == 3:
        return images.unsqueeze(1)
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)


def _explain(name: str, root: str, download: bool, error: Exception) -> InputError:
    if download:
        message = f"{name} could not be fetched into '{root}': {type(error).__name__}: {error}."
        return InputError(message, "Check the network, or copy the files there by hand.")
    if isinstance(error, RuntimeError) and "not found" in str(error):
        hint = "Pass --download to fetch it, or --data-root FOLDER with the files in torchvision's layout."
        return InputError(f"{name} is missing or damaged in the folder '{root}'.", hint)
    message = f"The files of {name} in '{root}' cannot be read: {type(error).__name__}: {error}."
    return InputError(message, "Delete them and pass --download to fetch them again.")
