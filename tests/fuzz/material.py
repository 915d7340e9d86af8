"""Sound files of every kind, which are copied and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from PIL import Image

from sharpcli import train
from sharpcli.analyses.surface.grid import SavedGrid, fill
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.training.loop import Run
from tests.linalg.spectra import Planted, broad

SIZE = 60  # Of the operator whose search is kept.


class Material:
    """Sound files, which are copied and damaged: a run on a tiny data set, searches, images."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(exist_ok=True)
        random = numpy.random.default_rng(0)
        rows = random.normal(size=(30, 5)).astype(numpy.float32)
        classes = numpy.arange(30) % 3
        self.arrays = {"x_train": rows[:20], "y_train": classes[:20], "x_test": rows[20:], "y_test": classes[20:]}
        self.data = place / "data.npz"
        numpy.savez(self.data, **self.arrays)
        self.words = {
            "model": "mlp",
            "model_arg": ("hidden=4",),
            "data": f"npz:{self.data}",
            "steps": 4,
            "save_every": 2,
            "average": ("tail:0.5",),
            "out": str(place / "runs"),
            "track_sharpness": 2,
            "mode": ("sgd",),
        }
        self.training = [
            *[
                "train",
                "--mode",
                "sgd",
                "--model",
                "mlp",
                "--model-arg",
                "hidden=4",
                "--steps",
                "4",
                "--save-every",
                "2",
                "--average",
                "tail:0.5",
            ],
            *("--track-sharpness", "2", "--data", f"npz:{self.data}"),
        ]
        train(**self.words)
        self.run = place / "runs" / "sgd"
        self.resumable = place / "half" / "sgd"
        self._interrupt()
        self.content = torch.load(self.run / "final.pt", weights_only=True)
        self.identity = {"of": "this"}
        self.values = broad(SIZE)
        self.truth = self.values.sort(descending=True).values[:2]
        self._search(place / "search")
        self.surface = {"of": "that"}
        fill(bowl, [0.0, 1.0], [0.0, 1.0], SavedGrid(place / "surface.pt", self.surface))
        for number in range(6):
            folder = place / "images" / ("train", "test")[number % 2] / "ab"[number % 3 > 0]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = numpy.arange(75, dtype=numpy.uint8).reshape(5, 5, 3)
            Image.fromarray(pixels).save(folder / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}")

    def _interrupt(self) -> None:
        """Leave a run in the middle, as a killed one is."""
        close, Run.close = Run.close, lambda run: None  # type: ignore[method-assign]
        try:
            train(**{**self.words, "out": str(self.place / "half")})
        finally:
            Run.close = close  # type: ignore[method-assign]

    def _search(self, folder: Path) -> None:
        eigenpairs(Planted(self.values), Wanted(2), max_products=12, store=KrylovFile(folder, self.identity))


def bowl(alpha: float, beta: float) -> float:
    return 1 + alpha**2 + beta**2
