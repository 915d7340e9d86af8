"""Comparison of several checkpoints."""

from sharpcli.analyses.compare.analysis import compare

__all__ = ["compare"]
