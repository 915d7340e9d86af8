"""Check of a precondition of every analysis: the output for a sample depends only on the weights and on that sample.

The check calls the model a few times with a few samples, in eval mode, and in float64 if the model supports it. It is made
for every analysis, when a checkpoint is opened, and for training.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sharpcli import progress
from sharpcli.errors import InputError, first_line
from sharpcli.graphs import leaves_of
from sharpcli.inputs import MASK, Inputs, InputSource, as_arguments, converted, copied, mapped, num_samples, select, tensors_in
from sharpcli.modules import private_copy
from sharpcli.random_states import RandomStates, random_states_kept
from sharpcli.runtime import Runtime, exact_arithmetic

_SAMPLES = 6
_REPEATS = 3
_RANDOM_REPEATS = 20  # For a model that draws random numbers, because not every draw changes an output.
_MANY = 1000  # Samples that show rare effects of random numbers.
_LARGE = 60  # Samples of a large batch.
_MOVED = 0.1  # Relative standard deviation of the changed weights.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3}  # Allowed difference of equal outputs, relative to the largest number.
_COARSE = 3e-2  # The same for outputs in 16 bits.
_FACTORS = (1.0, 2.0)  # Factors on the weights, since a limit on their norm may have an effect only on larger weights.

_BatchNorm = nn.modules.batchnorm._BatchNorm


def require_function(model: nn.Module, inputs: Inputs | InputSource, runtime: Runtime) -> None:
    """Refuse a model whose output for a sample is not a function of its weights and of that sample.

    The model and all random states are not changed. A model that cannot take the inputs is not refused here; `Objective.of`
    reports it.

    Args:
        model: In any mode; a copy is called in eval mode.
        inputs: All samples. Six of them are used, spread over the data, and also the first thousand if the model draws random
            numbers.
        runtime: Device and precision of the analysis.

    Raises:
        InputError: The output changes with random numbers or with a state that the model keeps between calls, or samples
            depend on each other. Or the model overwrites its weights, or uses other weights than the given ones. The message
            says which of these it is.
    """
    count = num_samples(inputs)
    places = torch.linspace(0, count - 1, min(_SAMPLES, count)).round().long()
    few = select(inputs, places)
    with random_states_kept(), torch.no_grad():
        # A model that has a tensor on the CPU which is not a parameter or buffer runs only there.
        devices = dict.fromkeys((runtime.device, torch.device("cpu")))
        for device, dtype in itertools.product(devices, dict.fromkeys((runtime.accumulator, runtime.dtype))):
            try:
                calls = _Calls.of(model, few, device, dtype)
            except Exception:  # A model may raise any error, and may support one precision only.
                continue
            if calls is not None:
                calls.require_read_only()
                calls.require_repeatable(inputs)
                calls.require_independent()
                calls.require_of_weights()
                calls.warn_of_padding()
            return


@dataclass(frozen=True, eq=False)
class _Calls:
    """A private copy of a model with a few samples.

    Attributes:
        model: The copy that is called.
        untouched: Another copy, which has not been called.
        weights: Parameters by name.
        inputs: The samples.
        before: Random states before the first call.
        draws: Whether the first call has changed the random states.
        first: Output of the first call.
    """

    model: nn.Module
    untouched: nn.Module
    weights: Mapping[str, Tensor]
    inputs: Inputs
    before: RandomStates
    draws: bool
    first: Tensor

    @staticmethod
    def of(model: nn.Module, inputs: Inputs, device: torch.device, dtype: torch.dtype) -> _Calls | None:
        """Call the model for the first time; return None if its output is not one floating-point tensor."""
        untouched = private_copy(model).to(device, dtype).eval()
        private = private_copy(untouched)
        inputs = converted(inputs, device, dtype)
        weights = {name: part.detach().clone() for name, part in private.named_parameters()}
        before = RandomStates.now()
        first = _call(private, {name: part.clone() for name, part in weights.items()}, copied(inputs))
        if not isinstance(first, Tensor) or not first.is_floating_point():
            return None
        return _Calls(private, untouched, weights, inputs, before, before != RandomStates.now(), first)

    def answer(self, inputs: Inputs, model: nn.Module | None = None, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the output for some samples, by default of this copy and with the weights of the model."""
        given = {name: part.clone() for name, part in (weights or self.weights).items()}
        outputs: Tensor = _call(model or self.model, given, copied(inputs))
        return outputs

    @property
    def rows_fit(self) -> bool:
        """Whether the output has one or more rows for each sample."""
        return self.first.ndim > 0 and len(self.first) % num_samples(self.inputs) == 0

    def require_read_only(self) -> None:
        """Refuse a model that changes its weights in a forward pass."""
        for factor in _FACTORS:
            given = {name: factor * part for name, part in self.weights.items()}
            kept = {name: part.clone() for name, part in given.items()}
            try:
                _call(self.model, given, copied(self.inputs))
            except Exception:
                if factor == 1:
                    raise
                return  # The model may fail with other weights.
            changed = [name for name, part in given.items() if not torch.equal(part.nan_to_num(), kept[name].nan_to_num())]
            if changed:
                raise InputError(
                    f"The model changes its weights in forward ('{changed[0]}'), so its loss is not a function of the weights.",
                    "Remove the cause, such as max_norm of an Embedding, and apply it once to the weights in the file.",
                )

    def require_repeatable(self, everything: Inputs | InputSource) -> None:
        """Refuse a model whose output for the same samples differs between calls.

        Args:
            everything: All samples; many of them are used if the model draws random numbers.
        """
        for _ in range(_RANDOM_REPEATS if self.draws else _REPEATS):
            if not self.is_same(self.answer(self.inputs), self.first):
                raise self.not_repeatable()
        if self.draws:
            kinds = [part.dtype for part in tensors_in(self.inputs) if part.is_floating_point()]
            many = converted(select(everything, slice(_MANY)), self.first.device, kinds[0] if kinds else None)
            if not self.is_same(self.answer(many), self.answer(many)):
                raise _random()
            progress.warn("The model draws random numbers in eval mode, but they have changed no answer so far.")

    def not_repeatable(self) -> InputError:
        """Return the error to raise; if the output also differs with equal random numbers, the model keeps a state."""
        self.before.restore()
        if self.draws and self.is_same(self.answer(self.inputs), self.first):
            return _random()
        return InputError(
            "The model is not deterministic: it keeps a state between calls, so its output for the same samples changes, and "
            "its loss is not a function of the weights.",
            "Make forward independent of earlier calls: look for a hidden state, a cache, a counter or its own random "
            "generator.",
        )

    def require_independent(self) -> None:
        """Refuse a model whose output for a sample depends on the other samples of the batch."""
        count = num_samples(self.inputs)
        if count < 2 or not self.rows_fit or _normalises_by_batch(self.model):
            return
        rows = self.first.reshape(count, -1, *self.first.shape[1:])
        larger = [place % count for place in range(_LARGE)]
        for places in (range(count // 2), range(count // 2, count), range(count - 1, -1, -1), larger, range(1)):
            chosen = torch.tensor(list(places), device=tensors_in(self.inputs)[0].device)
            try:  # A new copy, since a called one may have stored its outputs for all samples.
                outputs = self.answer(select(self.inputs, chosen), private_copy(self.untouched))
            except Exception as error:
                if count < _SAMPLES:
                    return  # The number may be too small for the model, such as one sample for batch statistics.
                raise InputError(
                    f"The model works with {count} samples, but fails with {len(chosen)}: {first_line(error)}.",
                    "forward must accept any number of samples, also one.",
                ) from error
            wanted = rows[chosen].flatten(0, 1)
            if outputs.shape != wanted.shape and outputs.numel() == wanted.numel():
                raise InputError(
                    f"For {len(chosen)} of {count} samples, the output has the shape {tuple(outputs.shape)} instead of "
                    f"{tuple(wanted.shape)}.",
                    "Look for squeeze() without an axis: with one sample it removes the axis of samples. Use squeeze(-1).",
                )
            if not self.is_same(outputs, wanted):
                raise InputError(
                    "Samples depend on each other: the model answers a sample differently among other samples, also in eval "
                    "mode, so its loss is not a mean over samples.",
                    "Look for batch statistics in forward (batch_norm with training=True, a mean or softmax over the first "
                    "axis) or attention without batch_first=True. Layers of nn.BatchNorm can be analysed; see --bn.",
                )

    def require_of_weights(self) -> None:
        """Refuse a model that uses tensors other than the given weights: by another reference, or from an earlier call.

        Weights are given by name, to a copy. A parameter that a lambda, a hook or a list refers to has no name, and a stored
        result of earlier weights is not computed again. An analysis would treat both as constants.
        """
        with torch.enable_grad():
            given = {name: part.clone().requires_grad_() for name, part in self.weights.items()}
            differentiable = _call(private_copy(self.untouched), given, copied(self.inputs))
            if not torch.is_grad_enabled():
                raise InputError(
                    "The model turns off gradients for the whole process when it is called.",
                    "Take torch.set_grad_enabled(False) out of forward, or write 'with torch.no_grad():' around a part of it.",
                )
            constants = {name: part.clone() for name, part in self.weights.items()}
            other = _call(private_copy(self.untouched), constants, copied(self.inputs))
        if not self.is_same(differentiable.detach(), self.first):
            raise InputError(
                "The outputs differ with gradients on and off, so the model is not one function of its weights.",
                "Look for torch.is_grad_enabled() or requires_grad in forward.",
            )
        hidden = next((leaf for leaf in leaves_of([other]) if isinstance(leaf, nn.Parameter)), None)
        if hidden is not None:
            raise InputError(
                f"The model uses a parameter of shape {tuple(hidden.shape)} that is not registered under a name (it is in a "
                "lambda, a hook or a list), so it would be treated as a constant.",
                "Use self.NAME in forward, and put lists of parameters in a ParameterList.",
            )
        random_numbers = torch.Generator().manual_seed(0)
        moved = {
            name: part * (1 + _MOVED * torch.randn(part.shape, generator=random_numbers).to(part))
            for name, part in self.weights.items()
        }
        try:
            fresh = _call(private_copy(self.untouched), dict(moved), copied(self.inputs))
        except Exception:
            return  # The model may fail with other weights.
        if not self.is_same(self.answer(self.inputs, weights=moved), fresh):
            raise InputError(
                "The model reuses results that were computed from earlier weights, so its loss is not a function of the "
                "weights.",
                "Compute them again in each forward: look for a cache, or a merged or normalised weight.",
            )

    def warn_of_padding(self) -> None:
        """Warn if the output for a text changes with its padding: tokens at its end that its attention mask leaves out."""
        mask = self.inputs.get(MASK) if isinstance(self.inputs, dict) else None
        if mask is None or mask.ndim != 2 or not self.rows_fit:
            return
        lengths = (torch.arange(1, mask.shape[1] + 1, device=mask.device) * (mask != 0)).amax(1)
        row, (full, length) = int(lengths.argmin()), (mask.shape[1], int(lengths.min()))
        if not 0 < length < full:
            return
        one = mapped(
            select(self.inputs, slice(row, row + 1)), lambda part: part[:, :length] if part.shape[1:] == (full,) else part
        )
        try:
            cut = self.answer(one)
        except Exception:
            return  # The model may take texts of one length only.
        whole = self.first.reshape(len(mask), -1, *self.first.shape[1:])[row]
        if cut.shape != whole.shape and cut.ndim == whole.ndim:  # An output for each token.
            axis = next((axis for axis, size in enumerate(whole.shape) if size == full and cut.shape[axis] == length), None)
            whole = whole if axis is None else whole.narrow(axis, 0, length)
        if cut.shape == whole.shape and not self.is_same(cut, whole):
            progress.warn(
                "The output for a text changes with its padding, though the attention mask leaves it out: the loss is that of "
                f"texts of {full} tokens."
            )

    def is_same(self, outputs: Tensor, wanted: Tensor) -> bool:
        """Return whether two outputs are equal up to rounding; NaN equals NaN."""
        if outputs.shape != wanted.shape:
            return False
        size = float(wanted.nan_to_num(posinf=0, neginf=0).abs().max()) if wanted.numel() else 0.0
        return torch.allclose(outputs, wanted, rtol=0, atol=_ROUNDING.get(wanted.dtype, _COARSE) * size, equal_nan=True)


def _random() -> InputError:
    return InputError(
        "The model is not deterministic: it draws random numbers in eval mode, so its loss is not a function of the weights.",
        "Look for dropout or noise that ignores eval mode, such as functional.dropout without training=self.training.",
    )


def _call(model: nn.Module, weights: Mapping[str, Tensor], inputs: Inputs) -> Any:
    """Return the output of the model with these weights; the model may overwrite them."""
    recurrent = any(isinstance(part, nn.RNNBase) for part in model.modules())
    with exact_arithmetic(recurrent=recurrent):
        return functional_call(model, dict(weights), *as_arguments(inputs))


def _normalises_by_batch(model: nn.Module) -> bool:
    """Return whether a BatchNorm layer has no running statistics; such layers are checked by `batchnorm.prepare`."""
    return any(isinstance(part, _BatchNorm) and part.running_mean is None for part in model.modules())
