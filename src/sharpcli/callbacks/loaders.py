"""The data of a trainer of another library, from its loaders: in the order of the data set, without shuffling."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from sharpcli.errors import InputError

_HINT = "Give the data: data={'train': ..., 'test': ...}."


def data_of(train: Any, test: Any) -> dict[str, Any]:
    """Return the data of a training loader and of a test loader, which may be None or a list with one loader.

    Raises:
        InputError: There is no training loader, or there are several.
    """
    parts = {name: _plain(given) for name, given in (("train", train), ("test", test)) if given is not None and given != []}
    if "train" not in parts:
        raise InputError("The trainer has no loader of training data.", _HINT)
    return parts


def _plain(given: Any) -> DataLoader[Any]:
    loaders = list(given) if isinstance(given, list | tuple) else [given]
    if len(loaders) != 1 or not hasattr(loaders[0], "dataset"):
        raise InputError("The trainer has several loaders, or one that is no DataLoader.", _HINT)
    loader = loaders[0]
    return DataLoader(loader.dataset, loader.batch_size or 1, collate_fn=loader.collate_fn)
