"""Matrices whose spectrum is known: what the solvers must find in them can be written down."""

import torch
from torch import Tensor

from tests.device import DEVICE


class Planted:
    """A matrix with a chosen spectrum that no coordinate shows: a diagonal between two Householder reflections."""

    def __init__(self, spectrum: Tensor, dtype: torch.dtype = torch.float64) -> None:
        self.spectrum, self.dtype, self.device = spectrum.to(DEVICE, dtype), dtype, DEVICE
        self.shape = (len(spectrum), len(spectrum))
        normal = torch.randn(len(spectrum), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        self.normal = (normal / normal.norm()).to(DEVICE, dtype)
        self.products = 0

    def _reflect(self, vector: Tensor) -> Tensor:
        return vector - 2 * (self.normal.double() @ vector.double()).to(self.dtype) * self.normal

    def __matmul__(self, vector: Tensor) -> Tensor:
        self.products += 1
        return self._reflect(self.spectrum * self._reflect(vector))

    def eigenvectors(self, count: int) -> Tensor:
        """Return the eigenvectors (count, P) of the first eigenvalues of the spectrum."""
        return torch.eye(count, self.shape[0], dtype=self.dtype, device=self.device) - 2 * torch.outer(
            self.normal[:count], self.normal
        )


def steep(size: int = 300) -> Tensor:
    """A few outliers, a positive bulk that decays like a power, a fifth of small negative eigenvalues."""
    negative = -0.02 * torch.arange(1, size // 5 + 1, dtype=torch.float64) ** -0.5
    bulk = 0.5 * torch.arange(1, size - 6 - len(negative) + 1, dtype=torch.float64) ** -0.7
    return torch.cat([torch.tensor([10, 6, 4, 3, 2.5, 1.5], dtype=torch.float64), bulk, negative])


def broad(size: int = 300) -> Tensor:
    """Ten outliers, a positive bulk that decays exponentially but slowly, a sixth of small negative eigenvalues."""
    negative = -0.05 * torch.exp(-torch.arange(size // 6, dtype=torch.float64) / 20)
    bulk = 0.8 * torch.exp(-torch.arange(size - 10 - len(negative), dtype=torch.float64) * 5 / size)
    return torch.cat([torch.tensor([30, 12, 8, 5, 4, 3, 2, 1.5, 1.2, 1], dtype=torch.float64), bulk, negative])
