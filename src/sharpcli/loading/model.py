"""The model of a checkpoint, with initial weights: the model that the user names, else the recorded one if it is not code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sharpcli.checkpoints import Checkpoint
from sharpcli.code_specs import model_is_code
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError
from sharpcli.inputs import Inputs, as_arguments, converted, copied
from sharpcli.loading.recorded import blaming, given_or_recorded, loss_name
from sharpcli.losses import loss_named
from sharpcli.models.resolve import resolve
from sharpcli.modules import private_copy
from sharpcli.settings import AnalysisSettings
from sharpcli.user_code import never_run

_SPARE = 2**24  # Number of parameters that a model may have in addition; see `most_parameters`.


def build_model(checkpoint: Checkpoint, data: DataSplits, settings: AnalysisSettings) -> nn.Module:
    """Build the model that the settings name, else the model that the checkpoint records; its weights are initial ones.

    Args:
        checkpoint: The checkpoint; its tensors decide the number of outputs, unless the settings give it.
        data: The data; they give the shape of a sample.
        settings: Settings of the analysis.

    Raises:
        InputError: No model is named, the recorded model is code that the settings do not name, or the model cannot be built
            or cannot process the data.
        SettingsError: A name or an option in the settings is unknown.
    """
    spec, arguments, own = given_or_recorded(checkpoint, "model", settings.model, settings.model_arg)
    if spec is None:
        raise InputError(
            f"{checkpoint.path} does not name the model of its weights.",
            "Give it with --model: a built-in name, torchvision:NAME, timm:NAME or file.py:fn.",
        )
    if settings.model is None and model_is_code(spec):
        raise never_run(str(checkpoint.path), "model", spec)
    output = settings.output or (checkpoint.metadata.get("model", {}).get("output") if own else None)
    width = settings.num_classes or num_outputs(loss_name(checkpoint, settings.loss), data, spec)
    asked = settings.model or settings.model_arg or settings.output

    def build(num_classes: int) -> nn.Module:
        with torch.random.fork_rng():
            return resolve(
                spec,
                input_shape=data.input_shape,
                inputs=data.first_samples,
                hyper_parameters=checkpoint.metadata.get("hyper_parameters"),
                num_classes=num_classes,
                arguments=arguments,
                output=output,
                most=most_parameters(checkpoint),
                folder=checkpoint.path.parent,
            )

    with blaming(checkpoint, "model", on_file=not asked):
        return build(width) if settings.num_classes else of_width_in_file(checkpoint, build, width)


def of_width_in_file(checkpoint: Checkpoint, build: Callable[[int], nn.Module], width: int) -> nn.Module:
    """Build a model with the number of outputs in the file, because the data need not contain every class of the training.

    The model is built with `width` outputs first. If tensors whose first axis has this length have another shape in the file,
    and the lengths of their first axes in the file are all equal, the model is built again with this number of outputs.

    Args:
        checkpoint: The checkpoint whose tensors the model will get.
        build: Builds the model; its argument is the number of outputs.
        width: Number of outputs of the first model.
    """
    model = build(width)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    in_file = set()
    for name, tensor in checkpoint.state.items():
        # A wrapper may have added a prefix to the name in the file.
        own = name if name in shapes else next((known for known in shapes if name.endswith(f".{known}")), None)
        if own is not None and tensor.ndim and tensor.numel() and shapes[own] != tensor.shape and shapes[own][:1] == (width,):
            in_file.add(len(tensor))
    return build(in_file.pop()) if len(in_file) == 1 else model


def most_parameters(checkpoint: Checkpoint) -> int:
    """Return the largest allowed number of parameters of a model that will get the weights of a file.

    The limit is twice the size of the file plus a constant. So a wrong model of usual size is still built, and the later error
    can say which tensors differ.
    """
    return _SPARE + 2 * sum(tensor.numel() for tensor in checkpoint.state.values())


def num_outputs(loss: str, data: DataSplits, spec: str) -> int:
    """Return the number of outputs with which a model is built for a loss and data.

    If the loss needs only one logit, code of the user gets the number of classes instead.
    """
    wanted = loss_named(loss).num_outputs(data.train.targets, data.num_classes)
    return data.num_classes if wanted == 1 and model_is_code(spec) else wanted


def output_difference(model: nn.Module, reference: nn.Module, inputs: Inputs, *, factor: float = 1.0) -> float:
    """Return the largest absolute difference between the outputs of two models, relative to the largest reference output.

    Copies of both models run in eval mode, each in float64 if the model supports it. Two outputs of which neither is finite
    count as equal, because the evaluation of the loss reports such outputs.

    Args:
        model: The first model.
        reference: The second model.
        inputs: Inputs of some samples.
        factor: Factor by which the outputs of the reference are multiplied before the comparison.
    """
    outputs, expected = (_outputs_in_float64(one, inputs) for one in (model, reference))
    expected = factor * expected
    equal = (outputs == expected) | ~(outputs.isfinite() | expected.isfinite())
    largest = expected[expected.isfinite()].abs().amax() if bool(expected.isfinite().any()) else torch.tensor(1.0)
    return float((outputs - expected).abs().where(~equal, 0).max() / largest.clamp_min(1e-12))


def _outputs_in_float64(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the outputs of a copy of a model in eval mode, as float64; computed in float64 if the model supports it."""
    own = private_copy(model).eval()
    cpu = torch.device("cpu")
    with torch.no_grad():
        try:
            return _answer(private_copy(own).double(), converted(copied(inputs), cpu, torch.float64))
        except Exception:  # A user's model may support one precision only, and may raise any error.
            return _answer(own, copied(inputs)).double()


def _answer(model: nn.Module, inputs: Inputs) -> Tensor:
    arguments, keywords = as_arguments(inputs)
    outputs: Tensor = model(*arguments, **keywords)
    return outputs
