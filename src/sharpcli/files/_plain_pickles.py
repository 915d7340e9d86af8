"""Read a pickle of plain values and of the objects of a list of names; nothing in the file is run."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from sharpcli.errors import InputError
from sharpcli.files._inert import Record
from sharpcli.files._opened import opened

_LARGEST = 2**28  # Bytes: a description of tensors, not the tensors.


class _Reader(pickle._Unpickler):
    """The unpickler of Python's own library, written in Python: its memory grows with the file only.

    (The one in C allocates whatever index a file names.) A class that a file names is only created as a `Record`.
    """

    def __init__(self, file: Any, names: Collection[str]) -> None:
        super().__init__(file)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a known name.

        Raises:
            UnpicklingError: The name is not known.
        """
        whole = f"{module}.{name}"
        if whole == "torch.Size":
            return tuple
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if whole in self._names:
            return Record
        raise pickle.UnpicklingError(f"it names {whole}")

    def get_extension(self, code: int) -> None:
        """Refuse a class that a number names.

        Raises:
            UnpicklingError: Always.
        """
        raise pickle.UnpicklingError(f"it names the extension {code}")


def read_plain_pickle(place: Path, names: Collection[str], hint: str) -> Any:
    """Return the value of a pickle; objects whose class is one of the names are `Record`s with their arguments and state.

    Raises:
        InputError: The file is missing, too large, damaged, or names anything else; `hint` says what to do then.
    """
    with opened(place) as file:
        if place.stat().st_size > _LARGEST:
            raise InputError(f"{place} is larger than {_LARGEST} bytes.", hint)
        try:
            return _Reader(file, names).load()
        except Exception as error:  # A damaged pickle raises almost anything.
            reason = str(error) if isinstance(error, pickle.UnpicklingError) and "it names" in str(error) else "it is damaged"
            raise InputError(f"{place} cannot be read without running code in it: {reason}.", hint) from error
