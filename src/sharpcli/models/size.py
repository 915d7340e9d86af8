"""Check of the size of a model before memory is allocated for its weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from sharpcli.errors import InputError
from sharpcli.host_memory import available_memory

_MOST_TENSORS = 20_000  # Parameter tensors of a model; creating a tensor takes time, even if it is small.
_FLOAT = 4  # Bytes of a float32 number.


class _TooLargeError(Exception):
    """The model that is being built has more parameters than are allowed."""


def require_size(build: Callable[[], nn.Module], spec: str, most: int | None) -> None:
    """Build a model on torch's meta device, where tensors have a shape but no values, and refuse a model that is too large.

    A model that cannot be built on the meta device is not checked.

    Args:
        build: Builds the model.
        spec: Name of the model, for messages.
        most: Largest allowed number of parameters; None for the number whose float32 values fit into free memory.

    Raises:
        InputError: The model would have more parameters, or more than 20,000 parameter tensors.
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
    ):  # Some models cannot be built on the meta device. If the model has an error, the later build on the CPU raises it again.
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
        f"The model '{spec}' would have {count} parameters or more, many more than the file of weights contains.",
        "Name the model that was trained: --model, and --model-arg for its size.",
    )
