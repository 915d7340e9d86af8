"""Settings of the commands: frozen dataclasses that check their values when they are made.

Each field contains its help text, and `sharpcli.cli.options` makes the options of a command from the fields of a class. So a
setting is defined in one place. These modules use the standard library only.
"""

from sharpcli.settings.base import REPEATED, AnalysisSettings, SubjectSettings, chosen
from sharpcli.settings.compare import CompareSettings
from sharpcli.settings.distance import DistanceSettings
from sharpcli.settings.doctor import DoctorSettings
from sharpcli.settings.hessian import HessianSettings
from sharpcli.settings.inspect import InspectSettings
from sharpcli.settings.interpolate import InterpolateSettings
from sharpcli.settings.reparam import ReparamSettings
from sharpcli.settings.sharpness import SharpnessSettings
from sharpcli.settings.surface import SurfaceSettings
from sharpcli.settings.train import TrainSettings
from sharpcli.settings.watch import WatchSettings

__all__ = [
    "REPEATED",
    "AnalysisSettings",
    "CompareSettings",
    "DistanceSettings",
    "DoctorSettings",
    "HessianSettings",
    "InspectSettings",
    "InterpolateSettings",
    "ReparamSettings",
    "SharpnessSettings",
    "SubjectSettings",
    "SurfaceSettings",
    "TrainSettings",
    "WatchSettings",
    "chosen",
]
