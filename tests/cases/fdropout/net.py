import torch
import torch.nn.functional as F
from torch import nn


class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.a = nn.Linear(5, 6)
        s.b = nn.Linear(6, 3)

    def forward(s, x):
        return s.b(F.dropout(torch.tanh(s.a(x)), 0.5))


def make():
    return M()
