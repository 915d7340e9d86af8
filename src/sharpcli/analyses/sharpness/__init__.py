"""Definitions of sharpness, measured at a checkpoint."""

from sharpcli.analyses.sharpness.analysis import sharpness

__all__ = ["sharpness"]
