"""Where the samples of a loss are: on the device if they fit, else on the host or in files, from where chunks are moved."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpcli.inputs import Index, Inputs, InputSource, converted, moved, num_samples, sample_size, select, tensors_in
from sharpcli.memory import MemoryPlan
from sharpcli.runtime import Runtime


def samples_at(
    inputs: Inputs | InputSource, targets: Tensor, index: Index, device: torch.device, dtype: torch.dtype
) -> tuple[Inputs, Tensor]:
    """Return inputs and targets of some samples on a device; floating-point numbers of a type."""
    return converted(select(inputs, index), device, dtype), moved(targets[index], device, dtype)


def placed_inputs(inputs: Inputs | InputSource, runtime: Runtime) -> Inputs | InputSource:
    """Return inputs on the device, in the type of the model; where they do not fit, as they are."""
    takes_memory = isinstance(inputs, InputSource) or any(
        part.device != runtime.device or part.is_floating_point() and part.dtype != runtime.dtype for part in tensors_in(inputs)
    )
    if takes_memory and not MemoryPlan(runtime.device).holds_data(num_samples(inputs) * sample_size(inputs)):
        return inputs
    return converted(select(inputs, slice(None)), runtime.device, runtime.dtype)
