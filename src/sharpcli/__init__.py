"""sharpcli: is this minimum sharp, and does that explain how it generalizes?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sharpcli.analyses.compare import compare as compare
    from sharpcli.analyses.distance import distance as distance
    from sharpcli.analyses.doctor import doctor as doctor
    from sharpcli.analyses.hessian import hessian as hessian
    from sharpcli.analyses.hessian import hessian_all as hessian_all
    from sharpcli.analyses.inspect import inspect as inspect
    from sharpcli.analyses.interpolate import interpolate as interpolate
    from sharpcli.analyses.reparam import reparam as reparam
    from sharpcli.analyses.sharpness import sharpness as sharpness
    from sharpcli.analyses.surface import surface as surface
    from sharpcli.analyses.train import train as train
    from sharpcli.analyses.watch import watch as watch
    from sharpcli.callbacks import track as track
    from sharpcli.objective import Objective as Objective
    from sharpcli.runtime import Runtime as Runtime

_COMMANDS = (
    "train", "hessian", "sharpness", "interpolate", "distance", "compare", "inspect", "reparam", "surface", "doctor", "watch",
)  # fmt: skip
_HOMES = {name: f"sharpcli.analyses.{name}" for name in _COMMANDS} | {
    "hessian_all": "sharpcli.analyses.hessian",
    "track": "sharpcli.callbacks",
    "Objective": "sharpcli.objective",
    "Runtime": "sharpcli.runtime",
}
__all__ = [
    "Objective",
    "Runtime",
    "compare",
    "distance",
    "doctor",
    "hessian",
    "hessian_all",
    "inspect",
    "interpolate",
    "reparam",
    "sharpness",
    "surface",
    "track",
    "train",
    "watch",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that importing sharpcli does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sharpcli' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
