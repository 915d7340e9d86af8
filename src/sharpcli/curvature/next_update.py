"""The direction of the next update of an optimizer, from its state: torch's own optimizer takes the step on a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sharpcli.checkpoints import OptimizerState
from sharpcli.curvature.preconditioner import tensors_by_name
from sharpcli.errors import InputError
from sharpcli.parameters import ParameterSpace

_KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
_OF_KERNELS = ("lr", "fused", "foreach", "capturable", "differentiable")  # They do not change the direction.
_HINT = "Use direction=gradient, or a final.pt or step-N.pt of 'sharpcli train', which hold the optimizer's state."


def next_update(
    state: OptimizerState | None,
    theta: Tensor,
    gradient: Tensor,
    space: ParameterSpace,
    owner: str,
    every: tuple[str, ...],
) -> Tensor:
    """Return u such that the next update is θ ← θ - lr u, shape (P,), float64.

    Args:
        state: The state of the optimizer at θ.
        theta: The weights, shape (P,).
        gradient: The gradient at θ, shape (P,).
        space: Their layout.
        owner: The file, for messages.
        every: The names of all parameters of the model; see `preconditioner_of`.

    Raises:
        InputError: There is no state, its optimizer is not known, or it does not fit the parameters.
    """
    if state is None:
        raise InputError(f"{owner} does not hold the state of an optimizer, so its next update is not known.", _HINT)
    if state.name not in _KINDS:
        raise InputError(f"The optimizer in {owner} is not one whose update is known.", _HINT)
    if state.differing:
        raise InputError(
            f"The option '{state.differing[0]}' of the optimizer in {owner} differs between groups of parameters.", _HINT
        )
    kept = tensors_by_name(state, space, owner, every) if state.tensors or state.numbered or state.unnamed else {}
    wide = theta.detach().double()
    parts = {name: nn.Parameter(part.clone()) for name, part in space.split(wide).items()}
    try:
        optimizer = _KINDS[state.name](list(parts.values()), lr=1.0)
        known = optimizer.param_groups[0]
        options = {key: value for key, value in state.options.items() if key in known and key not in _OF_KERNELS}
        known.update({key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
        for name, slope in space.split(gradient.detach().double()).items():
            parts[name].grad = slope.clone()
            for key, part in kept.get(name, {}).items():
                optimizer.state[parts[name]][key] = _like(part, parts[name])
        optimizer.step()
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"torch cannot take a step with the optimizer in {owner}: {error}.", _HINT) from error
    return wide - space.flatten([part.detach() for part in parts.values()])


def _like(part: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of a tensor of the state: float64 on the device of the parameter; a number stays as torch keeps it."""
    return part.detach().clone().to(parameter.device, torch.float64) if part.ndim else part.detach().clone().cpu()
