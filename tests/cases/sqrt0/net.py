import torch
from torch import nn


class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.a = nn.Linear(5, 4)
        s.b = nn.Linear(4, 3)

    def forward(s, x):
        h = torch.relu(s.a(x))
        return s.b(torch.sqrt(h))


def make():
    return M()
