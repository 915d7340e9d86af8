"""Models of timm: `timm:NAME`, always with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import nn

from sharpcli.errors import SettingsError, first_line, guessed
from sharpcli.models.size import require_size
from sharpcli.optional import required
from sharpcli.plugins import TIMM_LISTS as LISTED


def build_timm_model(name: str, num_classes: int, options: Mapping[str, object], most: int | None = None) -> nn.Module:
    """Build a classifier of timm with random weights.

    Args:
        name: A name in the list of timm, with or without a tag, such as "vit_tiny_patch16_224".
        num_classes: Number of outputs.
        options: Further keyword arguments of `timm.create_model`.
        most: Largest allowed number of parameters; None for the number whose float32 values fit into free memory.

    Raises:
        SettingsError: timm has no such model or cannot build it with these options, or an option would load weights.
        InputError: timm is not installed, or the model has too many parameters.
    """
    timm = required("timm", f"The model 'timm:{name}'")
    if not timm.is_model(name):
        raise SettingsError(f"timm has no model called '{name}'.", guessed(name, timm.list_models(), LISTED))
    for reserved in ("pretrained", "checkpoint_path"):
        if reserved in options:
            raise SettingsError(f"The option '{reserved}' is not allowed.", "The weights are loaded from the checkpoint.")

    def build() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Warnings about names that timm has renamed.
            made: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": num_classes, **options})
        return made

    require_size(build, f"timm:{name}", most)
    try:
        return build()
    except Exception as error:  # timm raises many kinds of exceptions for wrong options
        message = f"timm cannot build '{name}' with these options: {first_line(error)}."
        raise SettingsError(message, "See the documentation of timm.create_model.") from error
