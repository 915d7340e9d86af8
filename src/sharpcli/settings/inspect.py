"""Settings of `inspect`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.settings.base import AnalysisSettings


@dataclass(frozen=True, kw_only=True)
class InspectSettings(AnalysisSettings):
    """The model, data and loss that a file is checked with."""
