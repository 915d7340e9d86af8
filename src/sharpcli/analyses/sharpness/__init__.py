"""Definitions of sharpness, measured at a checkpoint."""

from sharpcli.analyses.sharpness.analysis import sharpness
from sharpcli.analyses.sharpness.measuring import RequestedMeasure, applicable_measures, requested_measures

__all__ = ["RequestedMeasure", "applicable_measures", "requested_measures", "sharpness"]
