"""Settings of the process that code of a model may change, such as torch's default device; changes are undone or refused."""

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
        """Return the current settings."""
        dtype, device, gradients = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
        return _ProcessSettings(_folder(), dtype, device, gradients, sys.getrecursionlimit(), tuple(sys.path))

    def differences(self, now: _ProcessSettings) -> list[str]:
        """Return the names of the settings that differ in `now`, for a message; an addition to the import path is no change."""
        pairs = {
            "the working folder": (self.folder, now.folder),
            "torch's default dtype": (self.dtype, now.dtype),
            "torch's default device": (self.device, now.device),
            "whether torch computes gradients": (self.gradients, now.gradients),
            "Python's recursion limit": (self.recursion, now.recursion),
            "Python's import path": (set(self.path) - set(now.path), set()),
        }
        return [name for name, (before, after) in pairs.items() if before != after]

    def restore(self) -> None:
        """Restore these settings; folders that were added to the import path remain in it."""
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
    """Restore the settings of the process after the block, in which code of a model is imported or builds a model."""
    before = _ProcessSettings.now()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def require_unchanged(spec: str) -> Iterator[None]:
    """Refuse a model that changes settings of the process when it is called, and restore the settings.

    Args:
        spec: Name of the model in the message.

    Raises:
        InputError: A setting has changed inside the block.
    """
    before = _ProcessSettings.now()
    try:
        yield
        changed = before.differences(_ProcessSettings.now())
    finally:
        before.restore()
    if changed:
        raise InputError(
            f"'{spec}' changes a setting of the process when it is called: {', '.join(changed)}.",
            "Remove this from its forward.",
        )


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # The working folder was removed.
        return ""
