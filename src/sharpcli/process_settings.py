"""Settings of the whole process that a model's code may change, such as torch's default device: restored, or refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sharpcli.errors import InputError


@dataclass(frozen=True)
class _ProcessSettings:
    """The settings of the process at one moment."""

    folder: str
    dtype: torch.dtype
    device: torch.device
    gradients: bool
    recursion: int
    path: tuple[str, ...]

    @staticmethod
    def now() -> _ProcessSettings:
        """Return the present settings."""
        dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
        return _ProcessSettings(_folder(), dtype, device, gradients, sys.getrecursionlimit(), tuple(sys.path))

    def differences(self, now: _ProcessSettings) -> list[str]:
        """Return the names of the settings that are different now, for a message."""
        pairs = {
            "the working folder": (self.folder, now.folder),
            "torch's default dtype": (self.dtype, now.dtype),
            "torch's default device": (self.device, now.device),
            "whether torch computes gradients": (self.gradients, now.gradients),
            "Python's recursion limit": (self.recursion, now.recursion),
            "where Python imports from": (set(self.path) - set(now.path), set()),
        }
        return [name for name, (before, after) in pairs.items() if before != after]

    def restore(self) -> None:
        """Set them again; folders that were added to the import path stay."""
        changed = self.differences(self.now())
        if "the working folder" in changed and self.folder:
            os.chdir(self.folder)
        if "torch's default device" in changed:
            torch.set_default_device(self.device)
        torch.set_default_dtype(self.dtype)
        torch.set_grad_enabled(self.gradients)
        sys.setrecursionlimit(self.recursion)
        sys.path += [place for place in self.path if place not in sys.path]


@contextmanager
def restored_afterwards() -> Iterator[None]:
    """Restore the settings after a model's code was imported or has built a model."""
    before = _ProcessSettings.now()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def require_unchanged(spec: str) -> Iterator[None]:
    """Refuse a model that changes the settings of the process when it is called: it would do so in every call.

    Raises:
        InputError: The model has changed a setting.
    """
    before = _ProcessSettings.now()
    try:
        yield
        changed = before.differences(_ProcessSettings.now())
    finally:
        before.restore()
    if changed:
        raise InputError(
            f"'{spec}' changes a setting of the whole process when it is called: {', '.join(changed)}.",
            "Take that out of its forward.",
        )


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # It was removed.
        return ""
