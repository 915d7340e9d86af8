"""Seeded subsets of a split: the samples that are used, and others to hold out."""

from __future__ import annotations

import torch

from sharpcli import streams
from sharpcli.datasets.splits import Split
from sharpcli.errors import SettingsError
from sharpcli.runtime import generator
from sharpcli.settings import AnalysisSettings


def subset(split: Split, name: str, settings: AnalysisSettings) -> Split:
    """Return a seeded random subset without replacement, or the whole split."""
    count = settings.samples
    if count is None or count == len(split):
        return split
    if count > len(split):
        if name == "test" and settings.split != "test":  # The number was meant for the training split, which is larger.
            return split
        raise SettingsError(
            f"--samples {count} is more than the {len(split)} {name} samples.", "Leave --samples out to use all of them."
        )
    positions = _permutation(split, settings)[:count].sort().values
    return split.chosen(positions)


def held_out(split: Split, settings: AnalysisSettings, *, least: int) -> tuple[Split, float] | None:
    """Return samples that `subset` leaves out, at most as many as it takes, and the share of the split that it takes.

    None if the whole split is used, or if fewer than `least` samples are left.
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

    Data are often sorted by class; a block of one class would be normalised by the statistics of that class.
    """
    order = torch.randperm(len(split), generator=generator(settings.seed, streams.BLOCK_ORDER))
    return split.chosen(order)


def _permutation(split: Split, settings: AnalysisSettings) -> torch.Tensor:
    return torch.randperm(len(split), generator=generator(settings.seed, streams.SUBSET))
