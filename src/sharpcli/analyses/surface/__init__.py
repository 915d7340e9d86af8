"""The loss over a plane in weight space."""

from sharpcli.analyses.surface.analysis import surface

__all__ = ["surface"]
