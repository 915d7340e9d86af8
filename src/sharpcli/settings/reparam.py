"""Settings of `reparam`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.errors import SettingsError
from sharpcli.settings.base import AnalysisSettings, option, require_at_least


@dataclass(frozen=True, kw_only=True)
class ReparamSettings(AnalysisSettings):
    """Which layer to rescale, and by which factor."""

    factor: float = option(2.0, "Factor that multiplies the layer, greater than 0.", "X")
    layer: str | None = option(
        None, "Layer to multiply, by its name in the checkpoint. Default: the first; with --logits the last.", "NAME"
    )
    into: str | None = option(None, "Layer that is divided by the factor. Default: the next one.", "NAME")
    logits: bool = option(False, "Multiply the logits: predictions stay the same, the loss changes.")

    attention: bool = option(
        False,
        "Multiply queries and keys, and values and output layer, of every attention head by random matrices that undo each "
        "other; their singular values are between 1/factor and factor.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("factor", self.factor, 0, strictly=True)
        if self.logits and self.into:
            raise SettingsError("--logits divides no layer, but --into is given.", "Give one of the two.")
        if self.attention and (self.logits or self.layer or self.into):
            raise SettingsError(
                "--attention changes all heads, and takes no --layer, --into or --logits.", "Give --attention alone."
            )
