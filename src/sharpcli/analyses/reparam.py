"""Rescaling of weights that changes no prediction: a measure of sharpness before and after it shows its invariance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Unpack

import torch
from torch import nn

from sharpcli import checkpoints
from sharpcli.analyses.provenance import recording
from sharpcli.errors import InputError, SettingsError, closest
from sharpcli.inputs import select
from sharpcli.loading import LoadedCheckpoint, load_checkpoint, output_difference, require_path
from sharpcli.models.attention_symmetry import Transformed, transform_heads
from sharpcli.modules import private_copy
from sharpcli.parameters import ParameterSpace
from sharpcli.results import ReparamResult
from sharpcli.settings import ReparamSettings, chosen
from sharpcli.settings.options import ReparamOptions

_SAMPLES = 64
_AGREEMENT = 1e-4  # Largest allowed difference, relative to the largest output; weights are rounded to the type of the file.
_BatchNorm = nn.modules.batchnorm._BatchNorm
_Convolution = nn.modules.conv._ConvNd


def reparam(
    source: str | Path, target: str | Path, settings: ReparamSettings | None = None, **options: Unpack[ReparamOptions]
) -> ReparamResult:
    """Change weights in a way that changes no prediction, and check the outputs.

    One layer is multiplied by a factor c. If BatchNorm (in eval mode) follows, its running mean and variance are scaled; the
    variance v becomes c² (v + ε) - ε, where ε is that of BatchNorm. If another layer follows, with a positively homogeneous
    activation between the two, the weights of the other layer are divided by c. With `logits`, the last layer is multiplied,
    which changes the loss but no prediction. With `attention`, queries and keys, and values and output layer, of each head
    are multiplied by random matrices that undo each other; see `models.attention_symmetry`.

    Args:
        source: File, or run folder.
        target: File to write; it must not exist.
        settings: Settings of the rescaling.
        **options: Fields of the settings, instead of `settings`.

    Raises:
        InputError: The outputs changed by more than rounding, because the two layers do not have this symmetry; or the
            checkpoint cannot be loaded, or has no layer to rescale.
        SettingsError: The layer is unknown, the factor is out of range, or the target exists or is a safetensors file.

    References:
        Dinh et al., Sharp Minima Can Generalize For Deep Nets, ICML 2017, section 5.
    """
    settings = chosen(ReparamSettings, settings, options)
    for place in (source, target):
        require_path(place)
    if Path(target).suffix == ".safetensors":
        raise SettingsError("reparam writes PyTorch files only, not safetensors.", "Give a name that ends in .pt.")
    if Path(target).exists():
        raise SettingsError(f"{target} already exists.", "Choose another name, or remove it.")
    with recording(settings) as record:
        loaded = load_checkpoint(source, settings)
        model = private_copy(loaded.model)
        # If the file has float64 weights, the model is converted to float64, in which weights of all types are exact.
        if any(tensor.dtype == torch.float64 for tensor in loaded.checkpoint.state.values()):
            checkpoints.fit(loaded.checkpoint, model.double())
        turned = _turn(model, settings) if settings.attention else Transformed(0, 0, 0)
        layer, into = ("attention", "") if settings.attention else _scale(model, settings)
        inputs = select(loaded.data.train.inputs, slice(_SAMPLES))
        difference = output_difference(model, loaded.model, inputs, factor=settings.factor if settings.logits else 1.0)
        if not difference <= _AGREEMENT:
            if settings.attention:
                raise InputError(
                    f"The matrices change the outputs by {difference:.2g} of their size: attention here has no such symmetry.",
                    "Rotary positions, normalised queries, or a layout of heads that is not known exclude it.",
                )
            raise InputError(
                f"Rescaling '{layer}' against '{into}' changes the outputs by {difference:.2g} of their size.",
                "Only ReLU, pooling or flattening may be between the two layers; give the other layer with --into.",
            )
        _write(Path(target), loaded, model, {"layer": layer, "into": into, "factor": settings.factor})
        return ReparamResult(
            checkpoint=loaded.subject(),
            written=str(target),
            layer=layer,
            into=into or None,
            factor=settings.factor,
            difference=difference,
            weight_norm_before=_norm(loaded.model),
            weight_norm_after=_norm(model),
            attention_layers=turned.layers,
            heads=turned.heads,
            with_values=turned.with_values,
            **record.fields(loaded.runtime),
        )


def _turn(model: nn.Module, settings: ReparamSettings) -> Transformed:
    turned = transform_heads(model, settings.factor, settings.seed)
    if not turned.heads:
        raise InputError("The model has no attention layer of a known kind.", "Leave --attention out.")
    return turned


def _scale(model: nn.Module, settings: ReparamSettings) -> tuple[str, str | None]:
    """Rescale a model in place; return the names of the layer and of the layer that compensates it, None for logits."""
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | _Convolution | _BatchNorm)
    }
    movable = [name for name, module in layers.items() if not isinstance(module, _BatchNorm)]
    if not movable:
        raise InputError("The model has no linear or convolutional layer to rescale.", "Use another model.")
    name = settings.layer or (movable[-1] if settings.logits else movable[0])
    if name not in movable:
        raise SettingsError(f"There is no layer called '{name}'.", closest(name, movable))
    with torch.no_grad():
        for parameter in layers[name].parameters():
            parameter.mul_(settings.factor)
        if settings.logits:
            return name, None
        order = list(layers)
        following = order[order.index(name) + 1 :]
        partner = settings.into or (following[0] if following else None)
        if partner is None or partner not in layers:
            where = f"called '{partner}'" if partner else f"after '{name}'"
            raise SettingsError(f"There is no layer {where} that can be divided by the factor.", f"Known: {', '.join(order)}.")
        _take_back(layers[partner], partner, settings.factor)
    return name, partner


def _take_back(layer: nn.Module, name: str, factor: float) -> None:
    """Change a layer so that it compensates a factor on its inputs."""
    if not isinstance(layer, _BatchNorm):
        layer.weight.div_(factor)  # type: ignore[operator]
        return
    if layer.running_mean is None or layer.running_var is None:
        raise InputError(f"The BatchNorm layer '{name}' has no running statistics to rescale.", "Use another layer.")
    layer.running_mean.mul_(factor)
    # The new variance v' satisfies v' + ε = c² (v + ε), where c is the factor.
    layer.running_var.copy_(factor**2 * (layer.running_var + layer.eps) - layer.eps)
    if bool((layer.running_var < 0).any()):
        raise SettingsError(
            f"A factor of {factor:g} would make variances of the BatchNorm layer '{name}' negative, because of its ε.",
            "Use a larger factor.",
        )


def _norm(model: nn.Module) -> float:
    return math.sqrt(sum(float(parameter.detach().double().square().sum()) for parameter in model.parameters()))


def _write(target: Path, loaded: LoadedCheckpoint, model: nn.Module, how: dict[str, object]) -> None:
    """Write the weights with the metadata of the source file, without entries that the rescaling makes wrong."""
    untrue = ("init", "final") if how["into"] is None else ("init",)
    metadata = {key: value for key, value in loaded.checkpoint.metadata.items() if key not in untrue}
    name = f"{metadata.get('name') or metadata.get('mode') or loaded.checkpoint.path.stem} rescaled"
    original = checkpoints.fitted(loaded.checkpoint, private_copy(model))
    state = {key: tensor.to(original[key].dtype) if key in original else tensor for key, tensor in model.state_dict().items()}
    parameters = list(ParameterSpace.of(model).names)
    checkpoints.write(target, state, {**metadata, "parameters": parameters, "name": name, "reparam": how})
