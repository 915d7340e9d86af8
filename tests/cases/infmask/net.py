"""Attention with a causal mask, minus infinity above the diagonal, that is saved with the weights."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(2, 12)
        self.o = nn.Linear(4, 3)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(5))

    def forward(self, inputs):
        queries, keys, values = self.q(torch.stack([inputs, inputs * inputs], -1)).chunk(3, -1)
        shares = torch.softmax(queries @ keys.transpose(1, 2) / 2 + self.mask, -1)
        return self.o((shares @ values).mean(1))


def make():
    return Attention()
