"""Building of the model that a spec names, such as `convnet`, `torchvision:NAME`, `timm:NAME`, `hf` or `path/file.py:fn`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from sharpcli import plugins
from sharpcli.arguments import check_arguments, parse_arguments
from sharpcli.code_specs import model_is_code
from sharpcli.errors import InputError, SettingsError, described, is_out_of_memory, origin
from sharpcli.inputs import Inputs, as_arguments, converted, described_shapes
from sharpcli.models.huggingface import OUTPUT, build_huggingface_model
from sharpcli.models.output import choose_output, chosen_output, tensors_of
from sharpcli.models.size import require_size
from sharpcli.models.suggestions import suggestion
from sharpcli.models.timm_models import build_timm_model
from sharpcli.models.torchvision_models import build_torchvision_model
from sharpcli.models.user_models import build_from_code
from sharpcli.modules import private_copy
from sharpcli.plugins import HUGGING_FACE, TIMM, TORCHVISION
from sharpcli.process_settings import require_unchanged

_RESERVED = ("input_shape", "num_classes")


def resolve(
    spec: str,
    *,
    input_shape: tuple[int, ...],
    num_classes: int,
    arguments: Sequence[str] = (),
    output: str | None = None,
    most: int | None = None,
    folder: Path | None = None,
    inputs: Inputs | None = None,
    hyper_parameters: Mapping[str, object] | None = None,
) -> nn.Module:
    """Build a model with initial weights on the CPU; its training or eval mode is not changed.

    Args:
        spec: A built-in name, `torchvision:NAME` or `timm:NAME` (never pretrained), `hf` or `hf:CLASS`, `path/file.py:fn` or
            `pkg.mod:attr`.
        input_shape: Shape of one sample.
        num_classes: Number of outputs.
        arguments: Options as "key=value" texts.
        output: Name of the output tensor, if the model does not return one tensor; see `models.output.choose_output`.
        most: Largest allowed number of parameters, not checked for code of the user; None for the number whose float32
            values fit into free memory.
        folder: Folder of the weights, which contains the config.json of a model of Hugging Face.
        inputs: Two samples, if each sample has several tensors.
        hyper_parameters: Hyperparameters that the file of a Lightning module records; see `build_from_code`.

    Returns:
        A module that maps (B, *input_shape) to (B, num_classes), or to (B, T, num_classes) for T tokens. If the model is not
        a built-in one, a copy of it was tested on two samples, and a hook may choose its output tensor.

    Raises:
        SettingsError: A name is unknown, or an option is malformed, unknown or out of range.
        InputError: The code cannot be imported or fails, the model cannot process the data, returns several tensors of which
            none is chosen, or has too many parameters.
    """
    options = parse_arguments(arguments)
    if model_is_code(spec):
        model = build_from_code(
            spec,
            input_shape=input_shape,
            num_classes=num_classes,
            options=options,
            hyper_parameters=hyper_parameters,
        )
    elif is_of_library(spec):
        model = build_from_library(spec, num_classes, options, most, folder)
        output = output or (OUTPUT if is_of_library(spec, HUGGING_FACE) else None)
    else:
        name = spec.lower().replace("_", "-")
        if name not in plugins.names("models/architectures") and (hint := suggestion(spec)):
            raise SettingsError(f"There is no model called '{spec}'.", hint)
        build = plugins.load("models/architectures", name).build
        check_arguments(build, options, reserved=_RESERVED)
        require_size(lambda: build(input_shape=input_shape, num_classes=num_classes, **options), spec, most)
        built_in: nn.Module = build(input_shape=input_shape, num_classes=num_classes, **options)
        choose_output(built_in, torch.empty(0), output, spec)
        return built_in
    choose_outputs_of(model, spec, input_shape, inputs, output)
    return model


def is_of_library(spec: str, *libraries: str) -> bool:
    """Return whether a spec names a model of one of the libraries; default: torchvision, timm and Hugging Face."""
    scheme = spec.lower().partition(":")[0]
    return scheme in (libraries or (TORCHVISION.rstrip(":"), TIMM.rstrip(":"), HUGGING_FACE))


def build_from_library(
    spec: str, num_classes: int, options: Mapping[str, object], most: int | None, folder: Path | None
) -> nn.Module:
    """Build a model of torchvision, timm or Hugging Face with random weights; see `resolve`."""
    name = spec.partition(":")[2]
    if spec.lower().startswith(TORCHVISION):
        return build_torchvision_model(name, num_classes, options, most)
    if spec.lower().startswith(TIMM):
        return build_timm_model(name, num_classes, options, most)
    check_arguments(build_huggingface_model, options, reserved=("folder", "name", "most"))
    return build_huggingface_model(folder, name or None, most)


def choose_outputs_of(
    model: nn.Module, spec: str, input_shape: tuple[int, ...], inputs: Inputs | None, output: str | None
) -> None:
    """Test the model on two samples, and choose its output tensor if the model does not return one tensor.

    The test uses a copy in eval mode, because a model may store values that it has computed from its initial weights.

    Args:
        model: The model, which gets a hook if an output tensor must be chosen.
        spec: Name of the model, for messages.
        input_shape: Shape of one sample.
        inputs: Two samples; None for zeros of `input_shape`.
        output: Name of the output tensor, or None.

    Raises:
        InputError: The model fails, changes settings of the process, or does not return two rows of outputs; or the output
            tensor is missing or not unique.
        SettingsError: `output` is given, but the model returns one tensor.
    """
    try:
        with require_unchanged(spec):
            private = private_copy(model).eval()
            answer = _answer(private, input_shape) if inputs is None else _answer_to(private, inputs)
    except InputError:
        raise
    except Exception as error:
        shapes = input_shape if inputs is None else described_shapes(inputs)
        message = f"'{spec}' cannot take inputs of shape {shapes}: {described(error)}."
        if is_out_of_memory(error):
            hint = "Use a machine with more memory, or a smaller model."
        else:
            hint = "Correct that code." if origin(error) else "Choose another model or other data."
            if isinstance(inputs, dict) and isinstance(error, TypeError):
                hint = "Leave entries out of the batch that the model does not take, and name the others as it does."
        raise InputError(message, hint) from error
    choose_output(model, answer, output, spec)
    rows = answer if isinstance(answer, torch.Tensor) else tensors_of(answer)[chosen_output(model) or ""]
    if rows.shape[:1] != (2,):
        message = f"'{spec}' does not return one row of outputs for each sample."
        raise InputError(message, "Return a tensor of shape (B, num_classes).")


def _answer_to(model: nn.Module, inputs: Inputs) -> object:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    arguments, keywords = as_arguments(converted(inputs, like.device, like.dtype))
    with torch.no_grad():
        return model(*arguments, **keywords)


def _answer(model: nn.Module, input_shape: tuple[int, ...]) -> object:
    """Return the result of a model for zeros: tokens first if it has an embedding, else floats first; then the other type."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    kinds = [like.dtype, torch.int64]
    if any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules()):
        kinds.reverse()
    first, second = (torch.zeros(2, *input_shape, device=like.device, dtype=kind) for kind in kinds)
    with torch.no_grad():
        try:
            return model(first)
        except Exception as error:  # A user's model may raise any error. If both types fail, the first error is reported.
            try:
                return model(second)
            except Exception:
                raise error from None
