"""The data of a trainer's loaders: every sample once, in order."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sharpcli.callbacks.loaders import data_of
from sharpcli.errors import InputError


def loader(**options: bool) -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(TensorDataset(torch.arange(7.0)), 3, **options)  # type: ignore[arg-type]


def test_shuffling_and_dropping_are_undone() -> None:
    parts = data_of(loader(shuffle=True, drop_last=True), [loader()])
    for name in ("train", "test"):
        assert torch.cat([batch[0] for batch in parts[name]]).tolist() == list(range(7))
    assert data_of(loader(), None).keys() == data_of(loader(), []).keys() == {"train"}


def test_what_is_no_single_loader_is_refused() -> None:
    with pytest.raises(InputError, match="no loader of training data"):
        data_of(None, loader())
    for given in ([loader(), loader()], 3):
        with pytest.raises(InputError, match="several loaders, or one that is no DataLoader"):
            data_of(given, None)
