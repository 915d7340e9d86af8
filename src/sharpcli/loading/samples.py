"""Seeded random subsets of a split: the samples to analyse, and held-out samples."""

from __future__ import annotations

import torch

from sharpcli import streams
from sharpcli.datasets.splits import Split
from sharpcli.errors import SettingsError
from sharpcli.runtime import generator
from sharpcli.settings import AnalysisSettings


def subset(split: Split, name: str, settings: AnalysisSettings) -> Split:
    """Return a seeded random subset of `settings.samples` samples, drawn without replacement; the whole split if it is None.

    The samples keep their order. The whole test split is also returned if it has fewer than `settings.samples` samples and
    the settings name another split.

    Raises:
        SettingsError: `settings.samples` is larger than the split.
    """
    count = settings.samples
    if count is None or count == len(split):
        return split
    if count > len(split):
        if name == "test" and settings.split != "test":  # The number is meant for the training split.
            return split
        raise SettingsError(
            f"--samples {count} is more than the {len(split)} {name} samples.", "Leave --samples out to use all of them."
        )
    positions = _permutation(split, settings)[:count].sort().values
    return split.chosen(positions)


def held_out(split: Split, settings: AnalysisSettings, *, least: int) -> tuple[Split, float] | None:
    """Return samples that `subset` does not use, at most as many as it uses, and the fraction of the split that it uses.

    Return None if `subset` uses the whole split, or if fewer than `least` samples remain.
    """
    count = settings.samples
    if count is None or count >= len(split):
        return None
    positions = _permutation(split, settings)[count : 2 * count].sort().values
    if len(positions) < least:
        return None
    return split.chosen(positions), count / len(split)


def in_random_order(split: Split, settings: AnalysisSettings) -> Split:
    """Return the samples of a split in a seeded random order.

    Data are often sorted by class, and BatchNorm would normalise a block of one class by the statistics of this class.
    """
    order = torch.randperm(len(split), generator=generator(settings.seed, streams.BLOCK_ORDER))
    return split.chosen(order)


def _permutation(split: Split, settings: AnalysisSettings) -> torch.Tensor:
    return torch.randperm(len(split), generator=generator(settings.seed, streams.SUBSET))
