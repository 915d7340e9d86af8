"""Results of the commands: plain numbers in frozen dataclasses, and versioned JSON. Standard library only."""

from sharpcli.estimate import Estimate
from sharpcli.results.base import SCHEMA, Conditions, Result, Subject, comma_separated, document, plain
from sharpcli.results.compare import CompareResult, CompareRow, RankCorrelation
from sharpcli.results.distance import Displacement, DistanceResult, Growth, GrowthFit, LayerDistance, Trajectory
from sharpcli.results.doctor import DeviceRow, DoctorResult, PlaceRow
from sharpcli.results.hessian import (
    BlockDistances,
    Bound,
    Count,
    DataBar,
    Density,
    Eigenvalue,
    HessianResult,
    Layer,
    Moments,
    Parts,
    Preconditioner,
)
from sharpcli.results.inspect import Check, HessianCost, InspectResult, RunRow, RunsResult
from sharpcli.results.interpolate import Curve, PathCurvature, PathResult
from sharpcli.results.reparam import ReparamResult
from sharpcli.results.sharpness import Measurement, MeasureRow, MeasuresResult, Reading, SharpnessResult
from sharpcli.results.surface import Mark, SurfaceResult
from sharpcli.results.train import RecipeRow, RecipesResult, TrainResult, TrainRow
from sharpcli.results.watch import WatchResult, WatchRow

__all__ = [
    "Measurement",
    "SharpnessResult",
    "Curve",
    "PathCurvature",
    "PathResult",
    "LayerDistance",
    "Displacement",
    "DistanceResult",
    "CompareRow",
    "CompareResult",
    "RankCorrelation",
    "Check",
    "DeviceRow",
    "DoctorResult",
    "PlaceRow",
    "HessianCost",
    "InspectResult",
    "Mark",
    "MeasureRow",
    "MeasuresResult",
    "Reading",
    "RecipeRow",
    "RecipesResult",
    "RunRow",
    "RunsResult",
    "ReparamResult",
    "Growth",
    "GrowthFit",
    "SurfaceResult",
    "TrainRow",
    "Trajectory",
    "TrainResult",
    "WatchResult",
    "WatchRow",
    "Subject",
    "Conditions",
    "Result",
    "SCHEMA",
    "comma_separated",
    "document",
    "plain",
    "Estimate",
    "Eigenvalue",
    "Bound",
    "DataBar",
    "Moments",
    "Count",
    "BlockDistances",
    "Density",
    "Layer",
    "Parts",
    "Preconditioner",
    "HessianResult",
]
