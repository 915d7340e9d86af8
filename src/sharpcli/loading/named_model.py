"""The model that `--model` names, for commands that only read weights: no data are loaded if the model can be built without."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sharpcli.arguments import parse_arguments
from sharpcli.checkpoints import Checkpoint
from sharpcli.code_specs import model_is_code
from sharpcli.errors import InputError
from sharpcli.loading.data import load_data
from sharpcli.loading.model import build_model, most_parameters, of_width_in_file
from sharpcli.loading.recorded import given_or_recorded
from sharpcli.models.resolve import build_from_library, is_of_library, resolve
from sharpcli.models.user_models import build_from_code
from sharpcli.settings import AnalysisSettings

_WIDTH = 1000  # Number of outputs, as for ImageNet, with which a model of a library is first built.


def named_model(checkpoint: Checkpoint, settings: AnalysisSettings) -> nn.Module | None:
    """Return the model that the settings name, with initial weights; None if they name no model.

    The shape of a sample and the number of classes come from the data that the settings name, else from the record in the
    checkpoint. If neither exists, code of the user is called without them, and a model of a library gets the number of outputs
    in the file. `settings.num_classes` has priority over the record.

    Raises:
        InputError: The model cannot be built, or it needs data and the settings name none.
        SettingsError: A name or an option is unknown.
    """
    spec = settings.model
    if spec is None:
        return None
    _, arguments, _ = given_or_recorded(checkpoint, "model", spec, settings.model_arg)
    if settings.data is not None:
        return build_model(checkpoint, load_data(checkpoint, settings), settings)
    recorded = checkpoint.metadata.get("model", {})
    shape, classes = recorded.get("input_shape"), recorded.get("num_classes")
    classes = settings.num_classes or classes
    with torch.random.fork_rng():
        if model_is_code(spec):  # Not tested on samples, because only its tensors are used.
            return _own_code(checkpoint, spec, arguments, settings.num_classes)
        if shape is not None and classes is not None:
            most = most_parameters(checkpoint)
            return resolve(spec, input_shape=tuple(shape), num_classes=classes, arguments=arguments, most=most)
        if is_of_library(spec):
            most, options = most_parameters(checkpoint), parse_arguments(arguments)
            return of_width_in_file(
                checkpoint, lambda width: build_from_library(spec, width, options, most, checkpoint.path.parent), _WIDTH
            )
    raise InputError(
        f"The model '{spec}' needs an input shape and a number of classes, which {checkpoint.path} does not contain.",
        "Give the data with --data.",
    )


def _own_code(checkpoint: Checkpoint, spec: str, arguments: Sequence[str], wanted: int | None) -> nn.Module:
    recorded = checkpoint.metadata.get("model", {})
    shape, classes = recorded.get("input_shape"), recorded.get("num_classes")
    try:
        return build_from_code(
            spec,
            input_shape=None if shape is None else tuple(shape),
            num_classes=wanted or classes,
            options=parse_arguments(arguments),
            hyper_parameters=checkpoint.metadata.get("hyper_parameters"),
        )
    except InputError as error:
        if "missing" in error.message:
            error.hint = "If it needs the shape of a sample or the number of classes, name the data with --data."
        raise
