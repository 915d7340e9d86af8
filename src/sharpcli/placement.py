"""Placement of samples: on the device if they fit, else on the host or in files, from which chunks are moved to the device."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpcli.inputs import Index, Inputs, InputSource, converted, moved, num_samples, sample_size, select, tensors_in
from sharpcli.memory import MemoryPlan
from sharpcli.runtime import Runtime


def samples_at(
    inputs: Inputs | InputSource, targets: Tensor, index: Index, device: torch.device, dtype: torch.dtype
) -> tuple[Inputs, Tensor]:
    """Return inputs and targets of some samples on a device, with floating-point numbers converted to `dtype`."""
    return converted(select(inputs, index), device, dtype), moved(targets[index], device, dtype)


def placed_inputs(inputs: Inputs | InputSource, runtime: Runtime) -> Inputs | InputSource:
    """Return inputs on the device and in the type of the model, or unchanged if they do not fit there."""
    takes_memory = isinstance(inputs, InputSource) or any(
        part.device != runtime.device or part.is_floating_point() and part.dtype != runtime.dtype for part in tensors_in(inputs)
    )
    if takes_memory and not MemoryPlan(runtime.device).holds_data(num_samples(inputs) * sample_size(inputs)):
        return inputs
    return converted(select(inputs, slice(None)), runtime.device, runtime.dtype)
