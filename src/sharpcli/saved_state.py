"""Saved state of long work in a file, from which interrupted work continues; the state of other work is refused.

Searches for eigenvalues, surfaces and training runs save their state in this way:

- *Identity*: the settings that identify the work. State is used only if all match; the error names those that differ.
- *Integrity*: a hash of the entire content. A changed number is refused.
- *Write*: under a temporary name, synced to the disk, then renamed. After a kill or a power failure, the file has the old or
  the new state.
- *Restore*: the content is checked against the required types.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from sharpcli import files, progress
from sharpcli.errors import InputError, SettingsError

_IDENTITY, _SEAL = "identity", "seal"

_Content = TypeVar("_Content")


class SavedState:
    """One file with the state of some work."""

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        work: str,
        if_other: str,
        if_damaged: str,
        place: Path | None = None,
        sealed: bool = True,
        upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        """Describe the file and the work; nothing is read.

        Args:
            path: The file, which may not exist yet.
            identity: Settings that identify the work: plain JSON values, or dictionaries of them.
            work: The noun for messages, such as "search".
            if_other: What the user can do if the file has the state of other work, as a sentence.
            if_damaged: What the user can do if the state cannot be used at all, as a sentence.
            place: The path that messages name. Default: the file.
            sealed: Whether a state without a hash ("seal") is refused; runs of checkpoint format 1 have none.
            upgrade: Converts an identity that an earlier version wrote to the current form.
        """
        self.path, self.identity = path, dict(identity)
        self._work, self._place, self._sealed, self._upgrade = work, place or path, sealed, upgrade
        self._if_other, self._if_damaged = if_other, if_damaged
        self._written = False

    def read(self, kind: type[_Content]) -> _Content | None:
        """Return the content that was written last; None if there is no file.

        Args:
            kind: The type of the content, a TypedDict.

        Raises:
            InputError: The file cannot be read, was changed, or has no state of this type.
            SettingsError: The file has the state of other work.
        """
        if not files.is_there(self.path):
            return None
        try:
            stored = files.read_object(self.path)
        except InputError as error:
            raise self.unusable(error.message.rstrip(".")) from error
        try:
            content = files.conform(stored, kind, self._work)
            saved = files.conform(stored.get(_IDENTITY), dict[str, Any], _IDENTITY)
        except files.ContentError as error:
            raise self.unusable(str(error)) from error
        self.require_same(saved)
        if (self._sealed or _SEAL in stored) and stored.get(_SEAL) != seal_of(stored):
            raise self.unusable("it was changed after it was written")
        self._written = True
        return content

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the content; an existing file is replaced.

        Raises:
            InputError: The file cannot be written.
        """
        stored = {_IDENTITY: self.identity, **content}
        files.write_object(self.path, {**stored, _SEAL: seal_of(stored)}, durable=True)
        self._written = True

    def write_or_warn(self, content: Mapping[str, Any]) -> None:
        """Write the content; if this fails after an earlier read or write succeeded, only warn, so that the work continues.

        Raises:
            InputError: The file cannot be written, and no earlier read or write succeeded.
        """
        self.unless_written(lambda: self.write(content))

    def unless_written(self, write: Callable[[], None]) -> None:
        """Run a function that writes; if it fails after an earlier read or write succeeded, warn instead of its InputError."""
        try:
            write()
        except InputError as error:
            if not self._written:
                raise
            progress.warn(f"The state of the {self._work} could not be saved, and the work continues: {error.message}")

    def require_same(self, saved: Mapping[str, Any]) -> None:
        """Refuse the identity of other work.

        Raises:
            SettingsError: It differs from the identity of this work; the message names the settings that differ.
        """
        names = differing(self._upgrade(dict(saved)), self.identity)
        if names:
            message = f"The {self._work} in {self._place} differs in these settings: {', '.join(names)}."
            raise SettingsError(message, self._if_other)

    def unusable(self, reason: str) -> InputError:
        """Return the error for a state that cannot be used."""
        return InputError(f"{self._place} holds no {self._work} that can be continued: {reason}.", self._if_damaged)


def differing(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ; for a dictionary in both, the names of its entries that differ."""
    names = []
    for name in [*wanted, *(name for name in saved if name not in wanted)]:
        one, other = saved.get(name), wanted.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            names += differing(one, other)
        elif name not in saved or name not in wanted or one != other:
            names.append(name)
    return names


def checksum(tensor: Tensor) -> int:
    """Return the CRC-32 of the bytes of a tensor."""
    return zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def seal_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all names, values, and types, shapes and checksums of tensors, without the seal itself."""
    digest = hashlib.sha256()
    for piece in _pieces({name: value for name, value in content.items() if name != _SEAL}):
        digest.update(piece.encode())
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, Tensor):
        # A valid state has no sparse tensors; the code that uses the content refuses them.
        yield f"{value.dtype}{value.layout}{tuple(value.shape)}{checksum(value) if value.layout == torch.strided else 0};"
    elif isinstance(value, Mapping):
        for name in sorted(value, key=repr):
            yield f"{name!r}:"
            yield from _pieces(value[name])
        yield "}"
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _pieces(part)
        yield "]"
    else:
        yield f"{value!r};"
