"""How far a checkpoint is from where its training began, and how that distance grew."""

from sharpcli.analyses.distance.analysis import displacement, distance, reference

__all__ = ["displacement", "distance", "reference"]
