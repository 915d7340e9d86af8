"""A model that its builder compiles."""

import torch
from torch import nn


def make():
    return torch.compile(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
