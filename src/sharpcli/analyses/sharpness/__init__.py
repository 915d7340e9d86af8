"""Definitions of sharpness, measured at a checkpoint. The functions are loaded when they are used, since they need torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpcli.analyses.sharpness.analysis import sharpness as sharpness
    from sharpcli.analyses.sharpness.measuring import RequestedMeasure as RequestedMeasure
    from sharpcli.analyses.sharpness.measuring import applicable_measures as applicable_measures
    from sharpcli.analyses.sharpness.measuring import requested_measures as requested_measures

__all__ = ["RequestedMeasure", "applicable_measures", "requested_measures", "sharpness"]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{'analysis' if name == 'sharpness' else 'measuring'}"), name)
