"""Where the samples of a loss are: on the device if they fit, else on the host or in files, from where chunks are moved."""

from __future__ import annotations

from torch import Tensor

from sharpcli.inputs import Inputs, InputSource, converted, num_samples, sample_size, select, tensors_in
from sharpcli.memory import MemoryPlan
from sharpcli.runtime import Runtime


def converted_targets(targets: Tensor, runtime: Runtime) -> Tensor:
    """Return targets on the device; floating-point numbers in the type of the model."""
    return targets.to(runtime.device, runtime.dtype if targets.is_floating_point() else None)


def placed_inputs(inputs: Inputs | InputSource, runtime: Runtime) -> Inputs | InputSource:
    """Return inputs on the device, in the type of the model; where they do not fit, as they are."""
    on_device = isinstance(inputs, InputSource) or any(
        part.device != runtime.device or part.is_floating_point() and part.dtype != runtime.dtype for part in tensors_in(inputs)
    )
    if on_device and not MemoryPlan(runtime.device).holds_data(num_samples(inputs) * sample_size(inputs)):
        return inputs
    return converted(select(inputs, slice(None)), runtime.device, runtime.dtype)
