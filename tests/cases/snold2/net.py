"""Spectral norm as torch had it before parametrizations: two of its tensors are buffers."""

import warnings

from torch import nn


def make():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = nn.utils.spectral_norm(nn.Linear(5, 4))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(4, 3))
