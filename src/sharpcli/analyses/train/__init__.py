"""Training in several modes or recipes from the same initial weights. It is loaded when it is used, since it needs torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpcli.analyses.train.analysis import train as train

__all__ = ["train"]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.analysis"), name)
