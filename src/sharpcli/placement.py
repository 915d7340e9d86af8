"""Placement of samples: on the device if they fit, else on the host or in files, from which chunks are moved to the device."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sharpcli.inputs import Index, Inputs, InputSource, converted, mapped, moved, num_samples, sample_size, select, tensors_in
from sharpcli.memory import MemoryPlan
from sharpcli.runtime import Runtime

_Copies = dict[tuple[torch.device, torch.dtype, int], weakref.ref[Tensor]]
_copies: MutableMapping[Tensor, _Copies] = WeakIdKeyDictionary()


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
    read = select(inputs, slice(None)) if isinstance(inputs, InputSource) else inputs
    return mapped(read, lambda part: shared(part, runtime.device, runtime.dtype))


def shared(part: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a tensor on a device, converted as `inputs.moved` does, with one copy for all callers that use it now.

    The copy is freed when the last caller has dropped it. Neither it nor `part` may be written to.
    """
    if part.device == device and (part.dtype == dtype or not part.is_floating_point()):
        return part
    copies = _copies.setdefault(part, {})
    version = 0 if part.is_inference() else part._version  # Another one after each change in place.
    known = copies.get((device, dtype, version))
    copy = None if known is None else known()
    if copy is None:
        copy = moved(part, device, dtype)
        copies[device, dtype, version] = weakref.ref(copy)
    return copy
