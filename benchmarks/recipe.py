"""How a net is made: what is trained, on what, how long, and over how many samples its Hessian is taken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Adam from a fixed seed. A file of nets/ has two of them, FULL and QUICK.

    Attributes:
        model: Arguments of the file's `build`.
        data: Arguments of the file's `data`; the first samples of what it returns are those of the Hessian.
        epochs: Times through the training data.
        batch: Samples a step.
        learning_rate: Of Adam at the start; it falls linearly to 0.
        samples: N of the Hessian.
    """

    model: dict[str, int]
    data: dict[str, int]
    epochs: int
    batch: int = 128
    learning_rate: float = 1e-3
    samples: int
