import torch
from torch import nn


class Th(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        t = torch.tanh(x)
        ctx.d = 1 - t * t
        return t

    @staticmethod
    def backward(ctx, g):
        return g * ctx.d


class M(nn.Module):
    def __init__(s):
        super().__init__()
        s.a = nn.Linear(5, 6)
        s.b = nn.Linear(6, 3)

    def forward(s, x):
        return s.b(Th.apply(3 * s.a(x)))


def make():
    return M()
