"""Why a search ends; whole searches are in test_lanczos.py."""

from __future__ import annotations

import pytest
import torch

from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from tests.linalg.spectra import Planted, steep


@pytest.mark.parametrize(
    ("spectrum", "budget", "ended"),
    [
        (steep(), 500, "converged"),
        (torch.tensor([4.0, 3, 2, 1], dtype=torch.float64), 500, "complete"),
        (torch.linspace(0, 1, 300, dtype=torch.float64), 30, "products"),
    ],
)
def test_every_search_says_why_it_is_over(spectrum: torch.Tensor, budget: int, ended: str):
    assert eigenpairs(Planted(spectrum), Wanted(3), max_products=budget).ended == ended


def test_noise_ends_a_search_at_once():
    class Noise(Planted):
        def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
            return super().__matmul__(vector) + torch.randn(len(vector), dtype=torch.float64).to(self.device)

    torch.manual_seed(0)
    found = eigenpairs(Noise(steep()), Wanted(3), max_products=500)
    assert found.ended == "noise"
    assert set(found.verdicts) == {"refused"}
    assert found.steps < 20
