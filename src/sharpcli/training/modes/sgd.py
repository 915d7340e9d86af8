"""Small-batch SGD: batches of 64, reshuffled every epoch, Nesterov momentum, cosine schedule.

Reference: Keskar et al., ICLR 2017, section 2 (the small-batch regime); Hoffer et al., NeurIPS 2017.
"""

from __future__ import annotations

from typing import Any


def defaults(num_train: int) -> dict[str, Any]:
    """Return the default settings for a training set of `num_train` samples."""
    return {"batch_size": min(64, num_train), "epochs": 15.0, "lr": 0.05}
