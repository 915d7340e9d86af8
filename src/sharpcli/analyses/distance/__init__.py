"""The distance of a checkpoint from its initial weights, and the growth of this distance."""

from sharpcli.analyses.distance.analysis import displacement, distance, reference

__all__ = ["displacement", "distance", "reference"]
