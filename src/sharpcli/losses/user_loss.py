"""A loss by code of the user, `file.py:fn` or `pkg.mod:fn`: a function of the model and of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError, SettingsError
from sharpcli.inputs import Inputs, mapped
from sharpcli.losses.evaluation import Guess
from sharpcli.losses.loss import Loss
from sharpcli.user_code import changed_at, errors_named, imported, public_callables

_SIGNATURE = "Let it be a function (model, batch) of the model and of (inputs, targets), with one loss for each sample, (B,)."
_AGREEMENT = 1e-3  # Relative difference of two equal losses that rounding can make in float32.


@dataclass(frozen=True)
class UserLoss(Loss):
    """The mean of what a function returns for each sample; it may call the model as it likes.

    The function gets the model, in eval mode with the weights that are asked about, and (inputs, targets). It returns one
    loss for each sample, shape (B,), or several, (B, T). Gradients are on, also where only a value is wanted, so that the
    function may differentiate the model by its inputs.

    Attributes:
        function: The function.
        each: Loss terms of a sample.
    """

    function: Callable[[nn.Module, tuple[Inputs, Tensor]], Any] | None = None
    each: int = 1

    def of_model(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """Return the losses of a batch, shape (B, each).

        Errors of the function pass as they are: callers tell want of memory, and of a wider type, from others by them.

        Raises:
            InputError: The function returns something else than one loss for each sample.
        """
        assert self.function is not None
        losses = self.function(model, (mapped(inputs, Tensor.detach), targets))
        if not isinstance(losses, Tensor) or not losses.is_floating_point():
            kind = f"{losses.dtype}" if isinstance(losses, Tensor) else type(losses).__name__
            raise InputError(f"The loss '{self.spec.name}' returns {kind}.", _SIGNATURE)
        if losses.ndim == 0 or len(losses) != len(targets):
            shape = f"the shape {tuple(losses.shape)} for {len(targets)} samples"
            raise InputError(f"The loss '{self.spec.name}' returns {shape}.", _SIGNATURE)
        return losses.reshape(len(targets), -1)

    def settled_by(self, of_samples: Callable[[slice], Tensor], count: int, *, alone: bool) -> UserLoss:
        """Return this loss with the number of terms that the losses of a few samples show.

        Args:
            of_samples: Returns the losses of some of these samples.
            count: Number of samples.
            alone: Whether a sample must have the same loss without the others.

        Raises:
            InputError: The function fails, or the loss of a sample depends on the samples beside it.
        """
        with errors_named(self.spec.name, "called"):
            everything = of_samples(slice(count))
            first = of_samples(slice(1)) if alone else everything[:1]
        same = first.shape[1] == everything.shape[1] and torch.allclose(
            first, everything[:1], rtol=_AGREEMENT, atol=_AGREEMENT * float(everything.abs().max()), equal_nan=True
        )
        if not same:
            raise InputError(
                f"The loss '{self.spec.name}' of a sample depends on the samples beside it, so it is no mean over samples.",
                "Return one loss for each sample, and do not divide by the size of the batch.",
            )
        return replace(self, each=everything.shape[1])

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Refuse: this loss is no function of outputs and targets."""
        raise self._no_function_of_outputs()

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Refuse: there is no closed form."""
        raise self._no_function_of_outputs()

    def _no_function_of_outputs(self) -> SettingsError:
        return SettingsError(
            f"The loss '{self.spec.name}' is code, so its second derivative in the outputs has no closed form.",
            "GGN and Fisher matrices need --loss ce, mse or bce; the Hessian works with any loss.",
        )

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return that nothing can be right."""
        return torch.zeros(len(targets), self.each, dtype=torch.bool, device=targets.device)

    def counted(self, targets: Tensor) -> Tensor:
        """Return that every term counts, shape (B, each)."""
        return torch.ones(len(targets), self.each, dtype=torch.bool, device=targets.device)

    def classifies(self, targets: Tensor) -> bool:
        """Return that there is no accuracy."""
        return False

    def guess(self, targets: Tensor) -> Guess:
        """Return that nothing is known of guessing."""
        return Guess(0.0, None)

    def require_targets(self, targets: Tensor) -> None:
        """Accept any targets."""

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Accept any targets."""


def user_loss_function(spec: str) -> Callable[..., Any]:
    """Return the function that a spec names.

    Raises:
        InputError: The code cannot be imported, or has no such function.
    """
    return _function(spec, changed_at(spec))


@lru_cache(maxsize=4)
def _function(spec: str, changed: int) -> Callable[..., Any]:  # noqa: ARG001
    with imported(spec) as (module, attribute):
        if not callable(attribute):
            known = public_callables(module)
            message = f"'{spec}' names no function."
            raise InputError(message, f"Known: {', '.join(known)}." if known else _SIGNATURE)
        function: Callable[..., Any] = attribute
        return function
