"""The contents of a checkpoint file, whether it can be analysed, and what an analysis will cost."""

from sharpcli.analyses.inspect.analysis import inspect

__all__ = ["inspect"]
