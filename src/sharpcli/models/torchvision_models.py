"""Models of torchvision: `torchvision:NAME`, always with random weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sharpcli.arguments import check_arguments
from sharpcli.errors import SettingsError, closest
from sharpcli.models.size import require_size

# With auxiliary heads these models return tuples; if init_weights is not given, torchvision warns.
_WITH_SIDE_HEADS = ("googlenet", "inception_v3")


def build_torchvision_model(name: str, num_classes: int, options: Mapping[str, object], most: int | None = None) -> nn.Module:
    """Build a classifier of torchvision with random weights.

    Args:
        name: A name in the list of torchvision; upper and lower case are not distinguished.
        num_classes: Number of outputs.
        options: Further keyword arguments of torchvision's builder.
        most: Largest allowed number of parameters; None for the number whose float32 values fit into free memory.

    Raises:
        SettingsError: torchvision has no such classifier, or cannot build it with these options.
        InputError: The model has too many parameters.
    """
    # This import takes more than a second, and few specs need it.
    from torchvision import models  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    known = models.list_models(module=models)
    if name.lower() not in known:
        raise SettingsError(f"torchvision has no classifier called '{name}'.", closest(name.lower(), known))
    build = models.get_model_builder(name.lower())
    check_arguments(build, options, reserved=("weights", "progress", "input_shape", "num_classes"))
    defaults = {"init_weights": True, "aux_logits": False} if name.lower() in _WITH_SIDE_HEADS else {}
    keywords = {"weights": None, "num_classes": num_classes, **defaults, **options}
    require_size(lambda: build(**keywords), name, most)
    try:
        built: nn.Module = build(**keywords)
    except Exception as error:  # torchvision raises many kinds of exceptions for wrong options
        message = f"torchvision cannot build '{name}' with these options: {type(error).__name__}: {error}."
        raise SettingsError(message, "See the torchvision documentation of that model.") from error
    return built
