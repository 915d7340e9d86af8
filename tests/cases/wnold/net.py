import warnings

from torch import nn

warnings.simplefilter("ignore")


def make():
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.utils.weight_norm(nn.Linear(4, 3)))
