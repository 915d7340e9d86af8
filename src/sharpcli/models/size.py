"""Refuse a model that would be too large, before any memory is allocated for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from sharpcli.errors import InputError
from sharpcli.host_memory import available_memory

_MOST_TENSORS = 20_000  # Parameters of a model, counted as tensors: each takes time to make, however small it is.
_FLOAT = 4  # Bytes of a float32.


class _TooLargeError(Exception):
    """The model that is being built has more parameters than are allowed."""


def require_size(build: Callable[[], nn.Module], spec: str, most: int | None) -> None:
    """Build a model on torch's meta device, where tensors have a shape and no numbers, and refuse one that is too large.

    Args:
        build: Builds the model.
        spec: Its name, for messages.
        most: Largest number of parameters; None for as many as memory holds.

    Raises:
        InputError: The model would have more.
    """
    allowed = available_memory() // _FLOAT if most is None else most
    seen: dict[int, Tensor] = {}
    count = 0

    def watch(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:  # noqa: ARG001
        nonlocal count
        if parameter is None or id(parameter) in seen:
            return
        seen[id(parameter)] = parameter
        count += parameter.numel()
        if count > allowed or len(seen) > _MOST_TENSORS:
            raise _TooLargeError

    handle = register_module_parameter_registration_hook(watch)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            build()
    except _TooLargeError as error:
        raise _refusal(spec, count, len(seen), most) from error
    except (
        Exception
    ):  # Not every model can be built on the meta device; an error of its own comes again when it is built on the CPU.
        return
    finally:
        handle.remove()


def _refusal(spec: str, count: int, tensors: int, most: int | None) -> InputError:
    if tensors > _MOST_TENSORS:
        return InputError(f"The model '{spec}' would have more than {_MOST_TENSORS} tensors.", "Check --model-arg.")
    if most is None:
        return InputError(
            f"The model '{spec}' would have {count} parameters or more, too many for memory.", "Check --model-arg."
        )
    return InputError(
        f"The model '{spec}' would have {count} parameters or more, far more than the weights in the file.",
        "Give the model it was trained with: --model and, for its size, --model-arg.",
    )
