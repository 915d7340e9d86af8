"""Normalisation layers by name: group, batch or none."""

from __future__ import annotations

from torch import nn

from sharpcli.errors import SettingsError, closest

KINDS = ("batch", "group", "none")
_MOST_GROUPS = 8


def norm_layer(kind: str, num_features: int, *, spatial: bool = True) -> nn.Module:
    """Build the layer that normalises activations of shape (B, num_features, ...).

    GroupNorm treats every sample alone, so a full-batch gradient is exactly the mean of per-sample ones.
    BatchNorm couples the samples of a batch while it trains.

    Args:
        kind: "group" (at most 8 groups, the largest divisor of `num_features`), "batch" or "none".
        num_features: Channels of an image layer, or units of a dense one.
        spatial: True for (B, C, H, W), False for (B, C). Only BatchNorm tells them apart.

    Raises:
        SettingsError: `kind` is none of the three.

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
