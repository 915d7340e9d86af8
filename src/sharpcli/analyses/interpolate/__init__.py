"""Loss and accuracy along the path between two checkpoints."""

from sharpcli.analyses.interpolate.analysis import interpolate, interpolate_all

__all__ = ["interpolate", "interpolate_all"]
