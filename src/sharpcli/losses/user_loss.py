"""A loss that is code of the user, `file.py:fn` or `pkg.mod:fn`: a function of the model and of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError, SettingsError
from sharpcli.inputs import Inputs, mapped
from sharpcli.losses.evaluation import Evaluation, Guess
from sharpcli.losses.loss import Loss
from sharpcli.user_code import changed_at, errors_named, imported, public_callables

_SIGNATURE = (
    "Write it as a function (model, batch), with batch = (inputs, targets), that returns one loss for each sample, (B,), "
    "or (sum, count) of the batch."
)
_AGREEMENT = 1e-3  # Relative difference of two equal losses that rounding in float32 can cause.


@dataclass(frozen=True)
class UserLoss(Loss):
    """The mean of the losses that a function of the user returns; the function calls the model.

    The function gets the model, in eval mode with the weights θ, and the pair (inputs, targets). It returns one loss for each
    sample, shape (B,), or several, (B, T); or the pair (sum, count) of the batch, where each sample has the same number of
    terms. Gradients are always on, so that the function may differentiate the model with respect to its inputs.

    Attributes:
        function: The function.
        each: Number of loss terms of a sample.
        summed: Whether the function returns (sum, count). Each term of a batch then gets the same part of the sum. Sums over
            samples are correct, but the losses of single samples, and so standard errors, are not known.
        known: Whether `each` and `summed` are known.
    """

    quantity = ""

    function: Callable[[nn.Module, tuple[Inputs, Tensor]], Any] | None = None
    each: int = 1
    summed: bool = False
    known: bool = False

    @property
    def has_plain_terms(self) -> bool:
        """Whether the function returns a loss for each sample, and not only the sum of a batch."""
        return not self.summed

    def of_model(self, model: nn.Module, inputs: Inputs, targets: Tensor) -> Tensor:
        """Return the loss terms of a batch, shape (B, each).

        Errors of the function are raised unchanged, because callers handle some of them, such as running out of memory or a
        type that the model does not support.

        Raises:
            InputError: The function returns neither losses of each sample nor a valid pair (sum, count).
        """
        assert self.function is not None
        losses = self.function(model, (mapped(inputs, Tensor.detach), targets))
        if is_sum_and_count(losses):
            total, terms = losses
            return self._spread(total, terms, len(targets))
        if not isinstance(losses, Tensor) or not losses.is_floating_point():
            kind = f"{losses.dtype}" if isinstance(losses, Tensor) else type(losses).__name__
            raise InputError(f"The loss '{self.spec.name}' returns {kind}.", _SIGNATURE)
        if losses.ndim == 0 or len(losses) != len(targets):
            shape = f"the shape {tuple(losses.shape)} for {len(targets)} samples"
            raise InputError(f"The loss '{self.spec.name}' returns {shape}.", _SIGNATURE)
        losses = losses.reshape(len(targets), -1)
        if self.known and losses.shape[1] != self.each:
            raise self._other_count(losses.shape[1])
        return losses

    def _spread(self, total: Tensor, count: float | Tensor, num_samples: int) -> Tensor:
        """Return terms (num_samples, each), which are all equal and add up to the sum of the batch."""
        terms = float(count)
        if terms <= 0 or terms % num_samples:
            raise InputError(
                f"The loss '{self.spec.name}' returns the count {terms:g} for {num_samples} samples.",
                "Give each sample the same number of terms, or return one loss for each sample, (B,).",
            )
        if self.known and terms != self.each * num_samples:
            raise self._other_count(terms / num_samples)
        return (total.reshape(()) / terms).expand(num_samples, int(terms) // num_samples)

    def _other_count(self, each: float) -> InputError:
        return InputError(
            f"The loss '{self.spec.name}' has {each:g} terms for a sample in one batch, and {self.each} in another.",
            "Let each sample have the same number of terms, or return the mean of its terms as its loss, (B,).",
        )

    def settled_by(self, of_samples: Callable[[UserLoss, slice], Tensor], count: int, *, alone: bool) -> UserLoss:
        """Call the function with a few samples, and return this loss with `each` and `summed` set.

        Args:
            of_samples: Returns the loss terms of the samples in a slice, computed by the given loss.
            count: Number of samples.
            alone: Whether to check that a sample has the same loss in a batch as alone.

        Raises:
            InputError: The function fails, or the loss of a sample depends on the other samples.
        """
        answers: list[Any] = []

        def watched(*arguments: Any) -> Any:
            assert self.function is not None
            answers[:] = [self.function(*arguments)]
            return answers[0]

        watching = replace(self, function=watched)
        with errors_named(self.spec.name, "called"):
            together = of_samples(watching, slice(count))
            summed = is_sum_and_count(answers[0])
            # A sum can only be compared over all samples. Otherwise the loss of the first sample is compared.
            compared = count if summed else 1
            apart = [of_samples(watching, slice(number, number + 1)) for number in range(compared)] if alone else []
        if apart and not _agree(together, apart):
            raise InputError(
                f"The loss '{self.spec.name}' of a sample depends on the other samples, so it is not a mean over samples.",
                "Return one loss for each sample, or the sum and the count of a batch; do not divide by the size of the batch.",
            )
        return replace(self, each=together.shape[1], summed=summed, known=True)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Raise SettingsError: this loss is not a function of outputs and targets."""
        raise self._no_function_of_outputs()

    def output_hessian_(self, outputs: Tensor, targets: Tensor, direction: Tensor) -> Tensor:
        """Raise SettingsError: there is no closed form."""
        raise self._no_function_of_outputs()

    def _no_function_of_outputs(self) -> SettingsError:
        return SettingsError(
            f"The loss '{self.spec.name}' is code, so its second derivative with respect to the outputs has no closed form.",
            "GGN and Fisher matrices need --loss ce, mse or bce; the Hessian works with any loss.",
        )

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return False for every term, shape (B, each), because this loss defines no accuracy."""
        return torch.zeros(len(targets), self.each, dtype=torch.bool, device=targets.device)

    def counted(self, targets: Tensor) -> Tensor:
        """Return True for every term, shape (B, each), because no target is ignored."""
        return torch.ones(len(targets), self.each, dtype=torch.bool, device=targets.device)

    def classifies(self, targets: Tensor) -> bool:
        """Return False: there is no accuracy."""
        return False

    def evaluation(self, means: Tensor, targets: Tensor, total_weight: float) -> Evaluation:
        """Return the loss; its standard error is NaN if the function returns sums, because no loss of a sample is known."""
        made = super().evaluation(means, targets, total_weight)
        return replace(made, loss_standard_error=math.nan) if self.summed else made

    def guess(self, targets: Tensor) -> Guess:
        """Return a loss of 0, which means that the loss of the best constant prediction is not known."""
        return Guess(0.0, None)

    def require_targets(self, targets: Tensor) -> None:
        """Accept any targets."""

    def require_classes(self, outputs: Tensor, targets: Tensor, every: Tensor) -> None:
        """Accept any outputs and targets."""


def _agree(together: Tensor, apart: list[Tensor]) -> bool:
    """Return whether the first samples have the same mean loss in a batch, `together`, as alone, `apart`."""
    if any(one.shape[1] != together.shape[1] for one in apart):
        return False
    alone, mean = torch.cat(apart).mean(0), together[: len(apart)].mean(0)
    return torch.allclose(alone, mean, rtol=_AGREEMENT, atol=_AGREEMENT * float(together.abs().max()), equal_nan=True)


def is_sum_and_count(answer: object) -> bool:
    """Return whether a result is a pair of a sum, a floating-point tensor with one entry, and its number of terms."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return False
    total, count = answer
    is_sum = isinstance(total, Tensor) and total.is_floating_point() and total.numel() == 1
    return is_sum and (isinstance(count, (int, float)) or (isinstance(count, Tensor) and count.numel() == 1))


def user_loss_function(spec: str) -> Callable[..., Any]:
    """Import code of the user and return the function that a spec names; a changed file is imported again.

    Raises:
        InputError: The code cannot be imported, or has no such function.
    """
    return _function(spec, changed_at(spec))


@lru_cache(maxsize=4)
def _function(spec: str, changed: int) -> Callable[..., Any]:  # noqa: ARG001
    with imported(spec) as (module, attribute):
        if not callable(attribute):
            known = public_callables(module)
            message = f"'{spec}' is not the name of a function."
            raise InputError(message, f"Known: {', '.join(known)}." if known else _SIGNATURE)
        function: Callable[..., Any] = attribute
        return function
