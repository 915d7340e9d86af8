"""Definitions of sharpness, measured at a checkpoint."""

from sharpcli.analyses.sharpness.analysis import sharpness
from sharpcli.analyses.sharpness.measuring import RequestedMeasure, requested_measures

__all__ = ["RequestedMeasure", "requested_measures", "sharpness"]
