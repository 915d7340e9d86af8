"""Normalisation layers by name: "group", "batch" or "none"."""

from __future__ import annotations

from torch import nn

from sharpcli.errors import SettingsError, closest

KINDS = ("batch", "group", "none")
_MOST_GROUPS = 8


def norm_layer(kind: str, num_features: int, *, spatial: bool = True) -> nn.Module:
    """Build the layer that normalises activations of shape (B, num_features, ...).

    GroupNorm normalises each sample separately, so a full-batch gradient is exactly the mean of per-sample gradients.
    In training mode, BatchNorm makes the output for a sample depend on the other samples of the batch.

    Args:
        kind: "group", "batch" or "none". The number of groups is the largest divisor of `num_features` up to 8.
        num_features: Number of channels of a convolution, or of units of a dense layer.
        spatial: True for (B, C, H, W), False for (B, C). Only BatchNorm uses this argument.

    Raises:
        SettingsError: `kind` is unknown.

    References:
        Wu and He, Group Normalization, ECCV 2018; Ioffe and Szegedy, Batch Normalization, ICML 2015.
    """
    if kind == "group":
        groups = max(count for count in range(1, _MOST_GROUPS + 1) if num_features % count == 0)
        return nn.GroupNorm(groups, num_features)
    if kind == "batch":
        return nn.BatchNorm2d(num_features) if spatial else nn.BatchNorm1d(num_features)
    if kind == "none":
        return nn.Identity()
    raise SettingsError(f"There is no normalisation called '{kind}'.", closest(kind, KINDS))
