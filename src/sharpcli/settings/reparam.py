"""What `reparam` may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.errors import SettingsError
from sharpcli.settings.base import AnalysisSettings, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class ReparamSettings(AnalysisSettings):
    """What to rescale."""

    factor: float = option(2.0, "What to multiply the layer by, greater than 0.", "X")
    layer: str | None = option(
        None, "Layer to multiply, as the checkpoint names it. Default: the first; the last for --logits.", "NAME"
    )
    into: str | None = option(None, "Layer that takes the factor back. Default: the next one.", "NAME")
    logits: bool = option(False, "Multiply the logits instead: no prediction changes, but the loss does.")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("factor", self.factor, 0, strictly=True)
        if self.logits and self.into:
            raise SettingsError("--logits takes nothing back, but --into is given.", "Give one of the two.")
