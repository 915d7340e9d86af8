"""Full-batch descent: the exact mean gradient over the training set, one update per epoch, clipped.

Reference: Geiping et al., ICLR 2022: longer training with warm-up, momentum and gradient clipping.
"""

from __future__ import annotations

from typing import Any


def defaults(num_train: int) -> dict[str, Any]:
    """Return the default settings for a training set of `num_train` samples."""
    return {"batch_size": num_train, "epochs": 200.0, "lr": 0.3, "clip": 1.0, "shuffle": "once", "eval_every": 10}
