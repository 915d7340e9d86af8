"""A bag of tokens whose head is the embedding itself."""

import torch
from torch import nn


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(7, 4)
        self.h = nn.Linear(4, 7, bias=False)
        self.h.weight = self.e.weight

    def forward(self, tokens):
        return self.h(torch.tanh(self.e(tokens)).mean(1))


def make():
    return Bag()
