"""The model of every file beside it."""

from collections import OrderedDict

from torch import nn


def make():
    return nn.Sequential(OrderedDict(a=nn.Linear(5, 6), n=nn.BatchNorm1d(6), t=nn.Tanh(), b=nn.Linear(6, 3)))
