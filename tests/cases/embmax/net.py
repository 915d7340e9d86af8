import torch
from torch import nn


class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.e = nn.Embedding(7, 4, max_norm=1.0)
        s.o = nn.Linear(4, 3)

    def forward(s, x):
        return s.o(torch.tanh(s.e(x).mean(1)))


def make():
    return M()
