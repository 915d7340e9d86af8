"""The model of a checkpoint, freshly built: the one that the user names, else the recorded one if it runs no code."""

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

_SPARE = 2**24  # Parameters.


def build_model(checkpoint: Checkpoint, data: DataSplits, settings: AnalysisSettings) -> nn.Module:
    """Return the freshly built model that the settings name, else the checkpoint's own if that runs no code."""
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
    """Build a net of a library with as many outputs as the file has: data need not hold every class that it tells apart.

    Args:
        checkpoint: Whose tensors the net is for.
        build: Builds the net with so many outputs.
        width: Outputs to begin with.
    """
    model = build(width)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    in_file = set()
    for name, tensor in checkpoint.state.items():
        # The file's name may have a wrapper's prefix in front.
        own = name if name in shapes else next((known for known in shapes if name.endswith(f".{known}")), None)
        if own is not None and tensor.ndim and tensor.numel() and shapes[own] != tensor.shape and shapes[own][:1] == (width,):
            in_file.add(len(tensor))
    return build(in_file.pop()) if len(in_file) == 1 else model


def most_parameters(checkpoint: Checkpoint) -> int:
    """Return how many parameters a model may have that is to be filled with the weights of a file.

    With some to spare, so that a wrong model of an ordinary size is told from the right one by the names of its tensors.
    """
    return _SPARE + 2 * sum(tensor.numel() for tensor in checkpoint.state.values())


def num_outputs(loss: str, data: DataSplits, spec: str) -> int:
    """Return how many outputs a model needs; own code is told the number of classes also where it is to have one logit."""
    wanted = loss_named(loss).num_outputs(data.train.targets, data.num_classes)
    return data.num_classes if wanted == 1 and model_is_code(spec) else wanted


def output_difference(model: nn.Module, reference: nn.Module, inputs: Inputs, *, factor: float = 1.0) -> float:
    """Return the largest difference of the outputs of two models, in parts of the largest output of the reference.

    Outputs that are not finite in both are equal: evaluation reports them.

    Args:
        model: Compared with the reference, in eval mode and in float64 where both can run in it.
        reference: The other model.
        inputs: Of some samples.
        factor: Of the outputs of the reference.
    """
    outputs, expected = (_outputs_in_float64(one, inputs) for one in (model, reference))
    expected = factor * expected
    equal = (outputs == expected) | ~(outputs.isfinite() | expected.isfinite())
    largest = expected[expected.isfinite()].abs().amax() if bool(expected.isfinite().any()) else torch.tensor(1.0)
    return float((outputs - expected).abs().where(~equal, 0).max() / largest.clamp_min(1e-12))


def _outputs_in_float64(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the outputs of a copy of a model in eval mode, in float64 if it can run in it."""
    own = private_copy(model).eval()
    cpu = torch.device("cpu")
    with torch.no_grad():
        try:
            return _answer(private_copy(own).double(), converted(copied(inputs), cpu, torch.float64))
        except Exception:  # A foreign model may know one precision only.
            return _answer(own, copied(inputs)).double()


def _answer(model: nn.Module, inputs: Inputs) -> Tensor:
    arguments, keywords = as_arguments(inputs)
    outputs: Tensor = model(*arguments, **keywords)
    return outputs
