"""Large-batch SGD: batches of 10 % of the training set; twice the learning rate and the epochs of small-batch SGD.

Reference: Keskar et al., ICLR 2017, section 2.2: the large-batch regime is a tenth of the training data.
"""

from __future__ import annotations

from typing import Any


def defaults(num_train: int) -> dict[str, Any]:
    """Return the default settings for a training set of `num_train` samples."""
    return {"batch_size": max(1, num_train // 10), "epochs": 30.0, "lr": 0.1}
